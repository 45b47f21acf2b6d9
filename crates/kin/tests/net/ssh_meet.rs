//! `kin ssh listen`, `pair`, `sync` and `scan` on real hosts, with OpenSSH at both ends, and Connecto's protocols.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    time::{Duration, Instant},
};

use lab::{
    Addressing, Host, Kin, KinCommand, Lan, SHORT,
    sshd::{Account, Sshd},
};
use mdns_sd::{ScopedIp, ServiceDaemon, ServiceEvent};
use serde_json::Value;

use crate::{
    common::KIN,
    stranger::{Stranger, say},
};

/// Where `kin ssh` and Connecto listen.
const PORT: u16 = 8099;
/// The group of multicast DNS.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";
const FINGERPRINT: &str = "SHA256:seusSwOLegH0bvThqA8aaBWCH+E+2c3mOexVtXp5BME";

/// A person on a host, with an account and an SSH server.
struct Person<'a> {
    account: Account<'a>,
    _sshd: Sshd,
    kin: PathBuf,
}

/// Where every user can get at files.
fn disk() -> PathBuf {
    env::temp_dir()
}

fn lan(count: u8) -> Lan {
    Lan::new(&disk(), count)
}

impl<'a> Person<'a> {
    fn new(lan: &'a Lan, index: usize, user: &str) -> Self {
        let account = Account::new(lan, lan.host(index), user, 22);
        let sshd = account.serve();
        let kin = lan.disk().join(format!("kin-{index}"));
        fs::copy(KIN, &kin).expect("there is room");
        Self { account, _sshd: sshd, kin }
    }

    fn host(&self) -> &Host {
        self.account.host()
    }

    fn kin(&self, args: &[&str]) -> Kin {
        let wrapper = self.account.wrapper();
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        KinCommand::on(&self.kin, self.host(), args).through(&wrapper).start()
    }

    /// Runs a command to its end.
    #[track_caller]
    fn run(&self, args: &[&str]) -> Vec<Value> {
        let mut kin = self.kin(args);
        assert_eq!(kin.exit_code(), Some(0), "kin {args:?}");
        kin.seen().cloned().collect()
    }

    fn id(&self) -> String {
        let said = self.run(&["id", "--json"]);
        said[0]["device"].as_str().expect("an id").to_owned()
    }

    /// What is in this person's SSH files; nothing where there is no file.
    fn files(&self) -> Vec<String> {
        let dir = self.host().home().join(".ssh");
        ["authorized_keys", "known_hosts", "config", "kinfold_config"]
            .iter()
            .filter_map(|name| fs::read_to_string(dir.join(name)).ok())
            .filter(|text| !text.is_empty())
            .collect()
    }

    #[track_caller]
    fn logs_in(&self, name: &str) {
        let (done, said) = self.account.ssh(name);
        assert!(done, "ssh {name}: {said}");
    }
}

/// To sync with one device only, and ask nothing.
fn expecting<'a>(name: &'a str, id: &'a str) -> [&'a str; 8] {
    ["ssh", "sync", "--name", name, "--yes", "--expect-device", id, "--json"]
}

/// Both compare, and both say yes.
#[track_caller]
fn both_yes(a: &mut Kin, b: &mut Kin) -> (Value, Value) {
    let (at_a, at_b) = (a.expect("confirm"), b.expect("confirm"));
    assert!(at_a["sas"].as_str().is_some_and(|sas| !sas.is_empty()));
    assert_eq!(at_a["sas"], at_b["sas"], "both show the same");
    assert_eq!((&at_a["verified"], &at_b["verified"]), (&true.into(), &true.into()));
    a.answer(&at_a, true);
    b.answer(&at_b, true);
    (at_a, at_b)
}

pub(crate) fn t3_after_pair_one_logs_in_to_the_other_and_not_the_reverse() {
    let lan = lan(2);
    let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
    let mut listen = desk.kin(&["ssh", "listen", "--name", "desk", "--json"]);
    let told = listen.expect("listening");
    assert_eq!((&told["name"], &told["port"]), (&"desk".into(), &PORT.into()));
    let mut pair = lap.kin(&["ssh", "pair", "desk", "--name", "lap", "--json"]);
    let found = pair.expect("found");
    assert_eq!(
        (&found["index"], &found["name"], &found["kind"]),
        (&1.into(), &"desk".into(), &"kinfold".into())
    );
    assert_eq!(found["addr"], desk.host().v4().to_string());
    let (at_desk, at_lap) = (listen.expect("confirm"), pair.expect("confirm"));
    assert_eq!(at_desk["sas"], at_lap["sas"]);
    assert_eq!(
        (&at_desk["addr"], &at_desk["direction"]),
        (&lap.host().v4().to_string().into(), &"from_peer".into())
    );
    assert_eq!((&at_lap["alias"], &at_lap["direction"]), (&"desk".into(), &"to_peer".into()));
    assert!(desk.files().is_empty() && lap.files().is_empty(), "nothing before both say yes");
    listen.answer(&at_desk, true);
    pair.answer(&at_lap, true);
    let (at_desk, at_lap) = (listen.expect("installed"), pair.expect("installed"));
    assert_eq!(
        (&at_lap["user"], &at_lap["port"], &at_lap["direction"]),
        (&"alice".into(), &22.into(), &"to_peer".into())
    );
    assert_eq!((&at_desk["direction"], &at_desk["key"]), (&"from_peer".into(), &at_lap["key"]));
    listen.expect("done");
    pair.expect("done");
    assert_eq!((listen.exit_code(), pair.exit_code()), (Some(0), Some(0)));
    lap.logs_in("desk");
    assert!(!desk.account.ssh("lap").0, "one direction only");
    lap.run(&["ssh", "test", "desk", "--json"]);
    lap.run(&["ssh", "unpair", "desk", "--json"]);
    assert!(!lap.account.ssh("desk").0);
}

pub(crate) fn t9_after_sync_each_logs_in_to_the_other() {
    let lan = lan(2);
    let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
    let mut a = desk.kin(&["ssh", "sync", "--name", "desk", "--json"]);
    let mut b = lap.kin(&["ssh", "sync", "--name", "lap", "--json"]);
    both_yes(&mut a, &mut b);
    for kin in [&mut a, &mut b] {
        assert_eq!(kin.expect("installed")["direction"], "both");
        assert_eq!(kin.exit_code(), Some(0));
    }
    lap.logs_in("desk");
    desk.logs_in("lap");
}

pub(crate) fn t3_a_no_on_one_side_installs_nothing_and_both_exit_3() {
    let lan = lan(2);
    let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
    let mut a = desk.kin(&["ssh", "listen", "--json"]);
    a.expect("listening");
    let mut b = lap.kin(&["ssh", "pair", "--json"]);
    let (at_a, at_b) = (a.expect("confirm"), b.expect("confirm"));
    b.answer(&at_b, true);
    a.answer(&at_a, false);
    for kin in [&mut a, &mut b] {
        kin.expect("refused");
        assert_eq!(kin.exit_code(), Some(3));
    }
    assert!(desk.files().is_empty() && lap.files().is_empty());
}

pub(crate) fn t6_end_of_input_is_no_and_yes_needs_an_expected_device() {
    let lan = lan(2);
    let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
    assert_eq!(desk.kin(&["ssh", "listen", "--yes", "--json"]).exit_code(), Some(2));
    let mut a = desk.kin(&["ssh", "listen", "--json"]);
    a.expect("listening");
    let mut b = lap.kin(&["ssh", "pair", "--json"]);
    a.hang_up();
    assert_eq!((a.exit_code(), b.exit_code()), (Some(3), Some(3)));
    assert!(desk.files().is_empty() && lap.files().is_empty());
    let (id_a, id_b) = (desk.id(), lap.id());
    let mut a = desk.kin(&expecting("desk", &id_b));
    let mut b = lap.kin(&expecting("lap", &id_a));
    assert_eq!((a.exit_code(), b.exit_code()), (Some(0), Some(0)));
    assert_eq!(a.count("confirm") + b.count("confirm"), 0);
    lap.logs_in("desk");
    desk.logs_in("lap");
}

pub(crate) fn nobody_comes_and_it_exits_4() {
    let lan = lan(1);
    let desk = Person::new(&lan, 0, "alice");
    for args in
        [["sync", "--timeout", "1"], ["listen", "--timeout", "1"], ["pair", "--timeout", "1"]]
    {
        let mut kin = desk.kin(&[&["ssh"], &args[..], &["--json"]].concat());
        kin.expect("timeout");
        assert_eq!(kin.exit_code(), Some(4), "{args:?}");
    }
}

pub(crate) fn attack_07_somebody_in_between_shows_other_words() {
    let lan = lan(3);
    let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
    let between = Person::new(&lan, 2, "mallory");
    // To each side it says to be the other, and both of its ceremonies are honest ones.
    let mut a = desk.kin(&["ssh", "listen", "--name", "desk", "--json"]);
    a.expect("listening");
    let mut to_b = between.kin(&["ssh", "listen", "--name", "desk", "--json"]);
    to_b.expect("listening");
    let at = format!("{}:{PORT}", desk.host().v4());
    let mut to_a = between.kin(&["ssh", "pair", &at, "--name", "lap", "--json"]);
    let at = format!("{}:{PORT}", between.host().v4());
    let mut b = lap.kin(&["ssh", "pair", &at, "--name", "lap", "--json"]);
    let asked: Vec<Value> =
        [&mut a, &mut b, &mut to_a, &mut to_b].map(|kin| kin.expect("confirm")).into();
    assert_eq!((&asked[0]["name"], &asked[1]["name"]), (&"lap".into(), &"desk".into()));
    assert_ne!(asked[0]["sas"], asked[1]["sas"], "the two people see different words");
    to_a.answer(&asked[2], true);
    to_b.answer(&asked[3], true);
    a.answer(&asked[0], false);
    b.answer(&asked[1], false);
    assert_eq!((a.exit_code(), b.exit_code()), (Some(3), Some(3)));
    assert!(desk.files().is_empty() && lap.files().is_empty());
}

/// How often both start at the same moment; a long run sets `KIN_SSH_ROUNDS`.
const ROUNDS: u32 = 10;

pub(crate) fn both_start_to_sync_at_once_and_both_are_done_each_time() {
    let lan = lan(2);
    let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
    let (id_a, id_b) = (desk.id(), lap.id());
    let rounds = env::var("KIN_SSH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let (mut took, mut apart): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for round in 0..rounds.unwrap_or(ROUNDS) {
        let mut a = desk.kin(&expecting("desk", &id_b));
        let mut b = lap.kin(&expecting("lap", &id_a));
        apart.push(b.started() - a.started());
        for kin in [&mut a, &mut b] {
            kin.expect("done");
            assert_eq!(kin.exit_code(), Some(0), "round {round}");
        }
        let done = |kin: &Kin| kin.when_last("done").expect("it came");
        took.push(done(&a).max(done(&b)) - b.started());
    }
    took.sort();
    let (median, last) = (took[took.len() / 2], took[took.len() - 1]);
    let apart = apart.iter().max().expect("there were some");
    println!(
        "{} syncs, started within {apart:?}: from the second start, median {median:?}, longest {last:?}",
        took.len()
    );
    lap.logs_in("desk");
    desk.logs_in("lap");
}

pub(crate) fn a_scan_lists_who_listens_and_pair_takes_the_number() {
    let lan = lan(3);
    let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
    // Nobody is in 10.77.0.64/26; of whom it is asked, none answers.
    let begun = Instant::now();
    let said = lap.run(&["ssh", "scan", "--subnet", "10.77.0.64/26", "--json"]);
    assert!(said.iter().all(|event| event["event"] != "found"), "{said:?}");
    println!("a /26 with nobody: {:?}", begun.elapsed());
    assert_eq!(lap.kin(&["ssh", "scan", "--subnet", "10.0.0.0/8", "--json"]).exit_code(), Some(2));

    let other = Stranger::start(lan.host(2), "connecto serve");
    assert_eq!(other.says(SHORT), "listening");
    let mut a = desk.kin(&["ssh", "listen", "--name", "desk", "--json"]);
    a.expect("listening");
    for (args, expected) in [
        (&["--subnet", "10.77.0.0/29"][..], &["kinfold"][..]),
        (&["--subnet", "10.77.0.0/29", "--connecto"], &["connecto", "kinfold"]),
        (&["--timeout", "2"], &["kinfold"]),
        (&["--timeout", "6", "--connecto"], &["connecto", "kinfold"]),
    ] {
        let said = lap.run(&[&["ssh", "scan"], args, &["--json"]].concat());
        let mut kinds: Vec<&str> = said.iter().filter_map(|event| event["kind"].as_str()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, expected, "{args:?}: {said:?}");
        assert_eq!(said.last().expect("it ends")["event"], "done");
        for event in said.iter().filter(|event| event["kind"] == "kinfold") {
            assert_eq!(
                (&event["name"], &event["addr"]),
                (&"desk".into(), &desk.host().v4().to_string().into())
            );
        }
    }
    // A scan is nobody's question.
    assert_eq!(a.count("confirm"), 0);
    let mut b = lap.kin(&["ssh", "pair", "1", "--json"]);
    both_yes(&mut a, &mut b);
    assert_eq!((a.exit_code(), b.exit_code()), (Some(0), Some(0)));
    lap.logs_in("desk");
}

pub(crate) fn connecto_is_served_after_a_question_that_says_what_is_not_proven() {
    let lan = lan(2);
    let desk = Person::new(&lan, 0, "alice");
    for role in ["json", "text"] {
        let mut a = desk.kin(&["ssh", "listen", "--name", "desk", "--connecto", "--json"]);
        a.expect("listening");
        let other =
            Stranger::start(lan.host(1), &format!("connecto {role} {}:{PORT}", desk.host().v4()));
        let asked = a.expect("confirm");
        assert_eq!(
            (&asked["verified"], &asked["sas"], &asked["fingerprint"]),
            (&false.into(), &"".into(), &FINGERPRINT.into())
        );
        assert_eq!(asked["addr"], lan.host(1).v4().to_string());
        a.answer(&asked, true);
        assert_eq!(a.expect("installed")["user"], "alice");
        assert_eq!(a.exit_code(), Some(0));
        assert!(other.says(SHORT).ends_with("alice"));
        let keys = fs::read_to_string(desk.host().home().join(".ssh/authorized_keys"));
        assert_eq!(keys.expect("was made").matches(KEY).count(), 1, "once, also the second time");
    }
}

pub(crate) fn a_listener_of_connecto_is_paired_with() {
    let lan = lan(2);
    let (lap, other) = (Person::new(&lan, 0, "bob"), Person::new(&lan, 1, "carol"));
    let serving = Stranger::start(lan.host(1), "connecto serve");
    assert_eq!(serving.says(SHORT), "listening");
    let at = lan.host(1).v4().to_string();
    let mut pair = lap.kin(&["ssh", "pair", &at, "--timeout", "1", "--json"]);
    assert_eq!(pair.exit_code(), Some(4), "not without --connecto");
    assert!(pair.stderr().contains("--connecto"), "and it says so");
    let mut pair = lap.kin(&["ssh", "pair", &at, "--connecto", "--json"]);
    let asked = pair.expect("confirm");
    assert_eq!((&asked["verified"], &asked["name"]), (&false.into(), &"hosta".into()));
    let shown = asked["host_key"].as_str().expect("it is shown").to_owned();
    pair.answer(&asked, true);
    let made = pair.expect("installed");
    assert_eq!((&made["user"], &made["alias"]), (&"carol".into(), &"hosta".into()));
    let pinned = lap.run(&["ssh", "hosts", "--json"])[0]["host_keys"].to_string();
    assert_eq!(pinned, format!("[\"{}\"]", shown.replace(", ", "\",\"")), "as it was shown");
    assert_eq!(pair.exit_code(), Some(0));
    // What that program installs is what it was sent.
    let key = loop {
        let said = serving.says(SHORT);
        if let Some(key) = said.strip_prefix("key ") {
            break key.to_owned();
        }
    };
    let dir = other.host().home().join(".ssh");
    fs::create_dir_all(&dir).expect("there is room");
    fs::write(dir.join("authorized_keys"), format!("{key}\n")).expect("there is room");
    other.host().sh(&format!("chown -R 42002:42002 {0} && chmod 700 {0}", dir.display()));
    lap.logs_in("hosta");
}

pub(crate) fn connecto_syncs_whoever_begins_and_also_when_both_do() {
    let lan = lan(2);
    for role in ["begin", "wait", "both"] {
        let desk = Person::new(&lan, 0, "alice");
        let other =
            Stranger::start(lan.host(1), &format!("connecto {role} {}:{PORT}", desk.host().v4()));
        let mut a = desk.kin(&["ssh", "sync", "--name", "desk", "--connecto", "--json"]);
        let asked = a.expect("confirm");
        assert_eq!((&asked["verified"], &asked["direction"]), (&false.into(), &"both".into()));
        a.answer(&asked, true);
        let made = a.expect("installed");
        assert_eq!((&made["user"], &made["direction"]), (&"bob".into(), &"both".into()), "{role}");
        assert_eq!(a.exit_code(), Some(0), "{role}");
        loop {
            if other.says(SHORT) == "done" {
                break;
            }
        }
        fs::remove_dir_all(desk.host().home().join(".ssh")).expect("was made");
    }
}

pub(crate) fn connectos_adverts_are_there_with_the_flag_only() {
    let lan = lan(3);
    let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
    for (command, service) in [("listen", "_connecto"), ("sync", "_connecto-sync")] {
        let mut without = desk.kin(&["ssh", command, "--json"]);
        without.expect("listening");
        let mut with = lap.kin(&["ssh", command, "--name", "a long name", "--connecto", "--json"]);
        with.expect("listening");
        let other = Stranger::start(lan.host(2), &format!("connecto browse {service}"));
        let said = other.says(SHORT);
        let words: Vec<&str> = said.split(' ').collect();
        assert_eq!(words[..3], [lap.host().v4().to_string().as_str(), "8099", "version=1"]);
        assert!(
            words[3].len() == 10 && words[3].bytes().all(|byte| byte.is_ascii_digit()),
            "{said}"
        );
        for mut kin in [without, with] {
            kin.interrupt();
            assert_eq!(kin.exit_code(), Some(1));
        }
    }
}

pub(crate) fn it_works_where_there_is_no_ipv4() {
    for addressing in [Addressing::V6, Addressing::LinkLocal] {
        let lan = Lan::with(&disk(), 2, addressing);
        let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
        let mut a = desk.kin(&["ssh", "sync", "--name", "desk", "--json"]);
        let mut b = lap.kin(&["ssh", "sync", "--name", "lap", "--json"]);
        both_yes(&mut a, &mut b);
        assert_eq!((a.exit_code(), b.exit_code()), (Some(0), Some(0)));
        lap.logs_in("desk");
        desk.logs_in("lap");
    }
}

/// Prints the first advert of a service: address, port, version, label.
fn browse(service: &str) {
    let daemon = ServiceDaemon::new().expect("multicast DNS works here");
    let adverts = daemon.browse(&format!("{service}._tcp.local.")).expect("a service's name");
    while let Ok(event) = adverts.recv() {
        if let ServiceEvent::ServiceResolved(found) = event {
            let addr = found.addresses.iter().find_map(|addr| match addr {
                ScopedIp::V4(v4) => Some(*v4.addr()),
                _ => None,
            });
            let label = found.fullname.split('.').next().unwrap_or_default();
            let version = found.get_property_val_str("version").unwrap_or_default();
            if let Some(addr) = addr {
                say(format_args!("{addr} {} version={version} {label}", found.port));
                return;
            }
        }
    }
}

pub(crate) fn a_listener_of_connecto_that_announces_nothing_is_found() {
    let lan = lan(2);
    let lap = Person::new(&lan, 0, "bob");
    let other = lan.host(1).v4();
    let serving = Stranger::start(lan.host(1), &format!("connecto found {other}"));
    assert_eq!(serving.says(SHORT), "listening");
    let mut pair = lap.kin(&["ssh", "pair", "--connecto", "--json"]);
    let found = pair.expect("found");
    assert_eq!((&found["kind"], &found["addr"]), (&"connecto".into(), &other.to_string().into()));
    let asked = pair.expect("confirm");
    assert_eq!((&asked["verified"], &asked["name"]), (&false.into(), &"hosta".into()));
    pair.answer(&asked, true);
    assert_eq!(pair.expect("installed")["user"], "carol");
    assert_eq!(pair.exit_code(), Some(0));
}

pub(crate) fn attack_11_what_is_proven_comes_before_connecto() {
    let lan = lan(2);
    let (desk, lap) = (Person::new(&lan, 0, "alice"), Person::new(&lan, 1, "bob"));
    for (here, there) in [("listen", "pair"), ("sync", "sync")] {
        let mut a = desk.kin(&["ssh", here, "--name", "desk", "--connecto", "--json"]);
        a.expect("listening");
        let mut b = lap.kin(&["ssh", there, "--name", "lap", "--connecto", "--json"]);
        both_yes(&mut a, &mut b);
        assert_eq!((a.exit_code(), b.exit_code()), (Some(0), Some(0)));
    }
}

/// As its program: the question which services there are is answered, and no other.
fn answer_what_there_is(own: Ipv4Addr) {
    let heard = UdpSocket::bind(("0.0.0.0", 5353)).expect("the port is free");
    heard.join_multicast_v4(&GROUP, &own).expect("multicast");
    let said = UdpSocket::bind((own, 0)).expect("the address is ours");
    let mut answer = vec![0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    answer.extend(b"\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01\0\0\0\x78\0\x12");
    answer.extend(b"\x09_connecto\x04_tcp\xc0\x1d");
    let mut packet = [0; 1500];
    while let Ok((len, _)) = heard.recv_from(&mut packet) {
        let asks = packet[..len].windows(9).any(|window| window == b"_services");
        if asks && packet[2] & 0x80 == 0 {
            let _ = said.send_to(&answer, (GROUP, 5353));
        }
    }
}

/// Plays Connecto.
pub(crate) fn connecto(words: &[&str]) {
    match *words {
        ["json", target] => {
            let mut other = Other::dial(target);
            other.say(r#"{"type":"Hello","version":1,"device_name":"hostb"}"#);
            other.hear();
            other.say(&format!(
                r#"{{"type":"KeyExchange","public_key":"{KEY} bob@hostb","comment":"bob@hostb"}}"#
            ));
            other.hear();
            let last = other.hear();
            say(last.trim_end_matches("\"}"));
        }
        ["text", target] => {
            let mut other = Other::dial(target);
            other.say("HELLO 1");
            other.hear();
            other.say(&format!("PUBKEY {KEY} bob@hostb"));
            let said = other.hear();
            other.say("BYE");
            say(said);
        }
        ["found", own] => {
            let own = own.parse().expect("an address");
            std::thread::spawn(move || answer_what_there_is(own));
            connecto(&["serve"]);
        }
        ["serve"] => serve(|other, line| {
            if line.contains(r#""type":"Hello""#) {
                other.say(r#"{"type":"HelloAck","version":1,"device_name":"hosta","verification_code":null}"#);
            } else if let Some((_, rest)) = line.split_once(r#""public_key":""#) {
                say(format_args!("key {}", rest.split('"').next().unwrap_or_default()));
                other.say(r#"{"type":"KeyAccepted","message":"Key added to authorized_keys"}"#);
                other.say(r#"{"type":"PairingComplete","ssh_user":"carol"}"#);
            }
        }),
        ["browse", service] => browse(service),
        ["begin", target] => begin(target),
        ["wait", _] => {
            serve(|other, line| {
                if line.contains(r#""type":"SyncHello""#) {
                    other.say(&format!(
                    r#"{{"type":"SyncHelloAck","version":1,"device_name":"hostb","public_key":"{KEY} bob@hostb","key_comment":"bob@hostb","ssh_user":"bob","accept_sync":true}}"#
                ));
                } else if line.contains(r#""type":"SyncComplete","success":true"#) {
                    other.say(r#"{"type":"SyncComplete","success":true,"message":"Key exchange successful"}"#);
                    say("done");
                } else {
                    other.say(r#"{"type":"Error","code":2,"message":"Expected SyncHello"}"#);
                }
            });
        }
        // As its program: while it waits for an answer to its own, it gives none.
        ["both", target] => {
            std::thread::spawn(|| serve(|_, _| ()));
            begin(target);
        }
        _ => {}
    }
}

fn begin(target: &str) {
    let mut other = Other::dial(target);
    // The highest number there is: by a rule that it does not know, it would win.
    other.say(&format!(
        r#"{{"type":"SyncHello","version":1,"device_name":"hostb","initiator_priority":1,"public_key":"{KEY} bob@hostb","key_comment":"bob@hostb","ssh_user":"bob"}}"#
    ));
    assert!(other.hear().contains(r#""accept_sync":true"#));
    other.say(r#"{"type":"SyncComplete","success":true,"message":"Key exchange successful"}"#);
    assert!(other.hear().contains(r#""success":true"#));
    say("done");
}

/// Answers lines, one connection after the other.
fn serve(mut answer: impl FnMut(&mut Other, &str)) {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).expect("the port is free");
    say("listening");
    for stream in listener.incoming().flatten() {
        let mut other = Other(BufReader::new(stream));
        let mut line = String::new();
        while matches!(other.0.read_line(&mut line), Ok(1..)) {
            let whole = std::mem::take(&mut line);
            answer(&mut other, whole.trim());
        }
    }
}

struct Other(BufReader<TcpStream>);

impl Other {
    fn dial(target: &str) -> Self {
        let end = Instant::now() + SHORT;
        loop {
            match TcpStream::connect(target) {
                Ok(stream) => return Self(BufReader::new(stream)),
                Err(error) => assert!(Instant::now() < end, "{target}: {error}"),
            }
            std::thread::yield_now();
        }
    }

    fn say(&mut self, line: &str) {
        // Whoever hung up hears nothing.
        let _ = self.0.get_mut().write_all(format!("{line}\n").as_bytes());
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("text");
        line.trim().to_owned()
    }
}
