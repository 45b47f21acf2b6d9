//! Two sites behind NAT that share only a relay; and a code without any relay on one network.

use std::{fs, path::Path};

use lab::{Host, Kin, KinCommand, SHORT, Sites, eventually_within, files};
use serde_json::Value;

use crate::{
    common::{KIN, disk, lan},
    devices::Device,
};

/// A relay that runs on a host.
struct Relay<'a> {
    host: &'a Host,
    running: Option<Kin>,
    address: String,
}

impl<'a> Relay<'a> {
    fn start(host: &'a Host) -> Self {
        let mut relay = Self { host, running: None, address: String::new() };
        relay.up();
        relay
    }

    fn up(&mut self) {
        let own = self.host.v4().to_string();
        let args = ["relay", "--listen", ":8443", "--host", &own, "--json"];
        let mut kin = KinCommand::on(Path::new(KIN), self.host, &args).start();
        let listening = kin.expect("listening");
        self.address = listening["address"].as_str().expect("an address").to_owned();
        self.running = Some(kin);
    }

    fn kill(&mut self) {
        if let Some(mut kin) = self.running.take() {
            kin.kill();
        }
    }

    /// Everything that is in its files.
    fn kept(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut dirs = vec![self.host.home().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).expect("readable") {
                let path = entry.expect("readable").path();
                match path.is_dir() {
                    true => dirs.push(path),
                    false => all.extend(fs::read(&path).unwrap_or_default()),
                }
            }
        }
        all
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

fn uses(device: &Device<'_>, relay: &Relay<'_>) {
    device.run(&["relay", "use", &relay.address, "--json"]);
    device.until("the relay is reached", || {
        device.run(&["relay", "list", "--json"]).iter().all(|one| one["connected"] == true)
    });
}

/// Shares a directory with one file by a code.
fn issue(device: &Device<'_>, name: &str, text: &str) -> Value {
    files::write(device.path(name).join("first"), text);
    let dir = device.path(name);
    let lines = device.run(&["share", &dir.to_string_lossy(), "--code", "--json"]);
    lines.into_iter().next().expect("a code")
}

/// `kin join -`, with the code on standard input; answered yes.
fn join(device: &Device<'_>, code: &str, dir: &str, more: &[&str]) -> Kin {
    let dir = device.path(dir);
    let mut args = vec!["join", "-", &*dir.to_string_lossy(), "--json"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    args.extend(more.iter().map(|it| (*it).to_owned()));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut kin = device.command(&args);
    kin.type_line(code);
    let offer = kin.expect("offer");
    kin.answer(&offer, true);
    kin
}

pub(crate) fn t16_a_code_is_joined_across_two_nats_by_way_of_a_relay_that_knows_nothing() {
    let sites = Sites::new(disk());
    let relay = Relay::start(sites.public());
    let laptop = Device::new(sites.site(0), "laptop");
    let friend = Device::new(sites.site(1), "friend");
    uses(&laptop, &relay);
    let code = issue(&laptop, "Geheimnisse", "nobody reads this");
    assert_eq!(
        (&code["event"], &code["role"], &code["uses"]),
        (&"code".into(), &"reader".into(), &1.into())
    );
    let link = code["link"].as_str().expect("a link");
    let mut kin = join(&friend, link, "Geheim", &[]);
    let joined = kin.expect("joined");
    assert_eq!(joined["role"], "reader");
    assert_eq!(kin.exit_code(), Some(0));
    friend.holds("Geheim/first", "nobody reads this");
    files::write(laptop.path("Geheimnisse").join("second"), "nor this");
    friend.holds("Geheim/second", "nor this");
    let codes = laptop.run(&["codes", "--json"]);
    assert_eq!((&codes[0]["state"], &codes[0]["uses_left"]), (&"used_up".into(), &0.into()));
    assert_eq!(codes[0]["used_by"][0], "friend");
    // All that the relay has says nothing of what it carried (attack 37).
    let kept = relay.kept();
    let ids = laptop.run(&["devices", "--json"]);
    let ids = ids.iter().filter_map(|one| one["device"].as_str());
    let text = ["Geheimnisse", "nobody reads", "nor this", "laptop", "friend"].into_iter();
    for secret in text.chain(ids) {
        let found = kept.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} is in the relay's files");
    }
}

pub(crate) fn t4_a_token_pairs_two_sites_and_a_folder_comes_through_the_splice() {
    let sites = Sites::new(disk());
    let mut relay = Relay::start(sites.public());
    let laptop = Device::new(sites.site(0), "laptop");
    let phone = Device::new(sites.site(1), "phone");
    uses(&laptop, &relay);
    let mut shows = laptop.command(&["pair", "--token", "--json"]);
    let token = shows.expect("token")["token"].as_str().expect("a token").to_owned();
    let mut joins = phone.command(&["pair", "-", "--json"]);
    joins.type_line(&token);
    let asked = joins.expect("confirm");
    let asks = shows.expect("request");
    assert_eq!(asked["sas"], asks["sas"], "both show the same");
    // The relay is killed while people compare, and comes back.
    relay.kill();
    joins.answer(&asked, true);
    shows.answer(&asks, true);
    relay.up();
    for kin in [&mut joins, &mut shows] {
        for _ in 0..2 {
            let ssh = kin.expect("ask");
            kin.answer(&ssh, false);
        }
        kin.expect("paired");
        kin.wait(SHORT);
    }
    phone.until("both are there", || phone.names() == ["laptop", "phone"]);
    files::write(laptop.path("Documents").join("letter"), "dear");
    laptop.run(&["share", &laptop.path("Documents").to_string_lossy(), "--json"]);
    phone.until("the folder is known", || {
        phone.run(&["folders", "--json"]).iter().any(|one| one["name"] == "Documents")
    });
    phone.run(&["join", "Documents", &phone.path("Docs").to_string_lossy(), "--yes", "--json"]);
    phone.holds("Docs/letter", "dear");
    // The splice breaks with the relay, and is made anew.
    relay.kill();
    files::write(phone.path("Docs").join("answer"), "thanks");
    relay.up();
    laptop.holds("Documents/answer", "thanks");
}

pub(crate) fn t18_the_issuer_is_away_and_the_relay_is_killed_in_the_middle() {
    let sites = Sites::new(disk());
    let mut relay = Relay::start(sites.public());
    let mut laptop = Device::new(sites.site(0), "laptop");
    let mut friend = Device::new(sites.site(1), "friend");
    uses(&laptop, &relay);
    let code = issue(&laptop, "Photos", "a picture");
    // The invitation is at the relay before its issuer goes.
    let link = code["link"].as_str().expect("a link").to_owned();
    let mut early = friend.command(&["join", "-", "--json"]);
    early.type_line(&link);
    let offer = early.expect("offer");
    early.answer(&offer, false);
    assert_ne!(early.exit_code(), Some(0), "no is no");
    laptop.down();
    let mut kin = join(&friend, &link, "Pictures", &[]);
    let pending = kin.expect("pending");
    assert_eq!(pending["reason"], "offline");
    kin.interrupt();
    assert_eq!(kin.exit_code(), Some(0), "it goes on by itself");
    let waits = friend.run(&["pair", "--status", "--json"]);
    assert_eq!((&waits[0]["ceremony"], &waits[0]["name"]), (&"code".into(), &"laptop".into()));
    friend.until("its hello is left", || {
        friend.run(&["relay", "list", "--json"]).iter().all(|one| one["waiting"] == 0)
    });
    relay.kill();
    friend.down();
    relay.up();
    friend.up();
    laptop.up();
    friend.holds("Pictures/first", "a picture");
    eventually_within(SHORT, "nothing waits", || {
        friend.run(&["pair", "--status", "--json"]).is_empty()
    });
    assert_eq!(laptop.run(&["codes", "--json"])[0]["uses_left"], 0);
}

pub(crate) fn t18_the_relay_is_killed_between_an_offer_and_its_yes() {
    let sites = Sites::new(disk());
    let mut relay = Relay::start(sites.public());
    let laptop = Device::new(sites.site(0), "laptop");
    let friend = Device::new(sites.site(1), "friend");
    uses(&laptop, &relay);
    let code = issue(&laptop, "Photos", "a picture");
    let dir = friend.path("Pictures");
    let mut kin = friend.command(&["join", "-", &dir.to_string_lossy(), "--json"]);
    kin.type_line(code["link"].as_str().expect("a link"));
    let offer = kin.expect("offer");
    relay.kill();
    kin.answer(&offer, true);
    assert_eq!(kin.expect("pending")["reason"], "offline");
    relay.up();
    kin.expect("joined");
    assert_eq!(kin.exit_code(), Some(0));
    friend.holds("Pictures/first", "a picture");
    let codes = laptop.run(&["codes", "--json"]);
    assert_eq!((&codes[0]["uses_left"], &codes[0]["used_by"][0]), (&0.into(), &"friend".into()));
}

pub(crate) fn t18_an_issuer_restored_from_a_backup_suspends_its_codes() {
    let sites = Sites::new(disk());
    let relay = Relay::start(sites.public());
    let mut laptop = Device::new(sites.site(0), "laptop");
    let friend = Device::new(sites.site(1), "friend");
    uses(&laptop, &relay);
    files::write(laptop.path("Photos").join("first"), "a picture");
    let dir = laptop.path("Photos");
    let issued = laptop.run(&["share", &dir.to_string_lossy(), "--code", "--uses", "2", "--json"]);
    let link = issued[0]["link"].as_str().expect("a link").to_owned();
    let id = issued[0]["id"].as_str().expect("an id").to_owned();
    let home = laptop.host.home().display().to_string();
    laptop.down();
    laptop.host.sh(&format!("cp -a {home}/.local/state/kin {home}/backup"));
    laptop.up();
    let mut kin = join(&friend, &link, "Pictures", &[]);
    kin.expect("joined");
    laptop.down();
    laptop
        .host
        .sh(&format!("rm -r {home}/.local/state/kin && mv {home}/backup {home}/.local/state/kin"));
    laptop.up();
    // It has forgotten the use. The friend, who has it, brings it back, and that is noticed.
    laptop.until("the code is suspended", || {
        laptop.run(&["codes", "--json"])[0]["state"] == "suspended"
    });
    let line = &laptop.run(&["codes", "--json"])[0];
    assert_eq!((&line["uses_left"], &line["used_by"][0]), (&1.into(), &"friend".into()), "{line}");
    assert_eq!(laptop.run(&["codes", "resume", &id, "--json"])[0]["state"], "open");
    friend.holds("Pictures/first", "a picture");
}

pub(crate) fn t1_a_link_through_a_relay_moves_over_when_a_direct_way_works() {
    let sites = Sites::new(disk());
    let relay = Relay::start(sites.public());
    let laptop = Device::new(sites.site(0), "laptop");
    let friend = Device::new(sites.site(1), "friend");
    uses(&laptop, &relay);
    let code = issue(&laptop, "Photos", "a picture");
    let mut kin = join(&friend, code["link"].as_str().expect("a link"), "Pictures", &[]);
    kin.expect("joined");
    let random = |name: &str, seed: u64| {
        files::random_file(laptop.path("Photos").join(name), 4 << 20, seed);
        let wanted = files::read(laptop.path("Photos").join(name)).expect("written");
        friend.until("it has come", || files::holds(friend.path("Pictures").join(name), &wanted));
    };
    let carried = || sites.public().counters().rx;
    let before = carried();
    random("through", 1);
    assert!(carried() - before > 4 << 20, "there is no other way than through the relay");
    // The laptop's address, which the friend knows from the code, leads there from now on.
    sites.open_way(0);
    friend.until("a new file comes past the relay", || {
        let before = carried();
        let name = format!("past-{before}");
        random(&name, before);
        carried() - before < 1 << 20
    });
    // And the relay is not missed.
    drop(relay);
    random("without", 3);
}

pub(crate) fn attack_37_a_relay_that_is_down_changes_nothing_on_a_local_network() {
    let lan = lan(2);
    let mut relay = Relay::start(lan.host(0));
    let laptop = Device::new(lan.host(0), "laptop");
    let phone = Device::new(lan.host(1), "phone");
    uses(&laptop, &relay);
    uses(&phone, &relay);
    relay.kill();
    let code = issue(&laptop, "Photos", "a picture");
    let mut kin = join(&phone, code["link"].as_str().expect("a link"), "Pictures", &[]);
    kin.expect("joined");
    phone.holds("Pictures/first", "a picture");
    files::write(laptop.path("Photos").join("second"), "another one");
    phone.holds("Pictures/second", "another one");
    laptop.run(&["devices", "remove", "phone", "--yes", "--json"]);
    phone.until("it knows that it is out", || {
        phone.run(&["group", "list", "--json"]).iter().all(|group| group["role"] == "removed")
    });
    let relays = laptop.run(&["relay", "list", "--json"]);
    assert_eq!(relays[0]["connected"], false, "{relays:?}");
}

pub(crate) fn t20_a_code_is_joined_on_a_local_network_without_any_relay() {
    let lan = lan(2);
    let laptop = Device::new(lan.host(0), "laptop");
    let phone = Device::new(lan.host(1), "phone");
    let code = issue(&laptop, "Photos", "a picture");
    let text = code["code"].as_str().expect("a code");
    // As an argument it is taken, and gone from there at once (rule T20, attack 15).
    let dir = phone.path("Pictures");
    let mut kin = phone.command(&["join", text, &dir.to_string_lossy(), "--json"]);
    let offer = kin.expect("offer");
    let arguments = fs::read(format!("/proc/{}/cmdline", kin.pid())).expect("it runs");
    assert!(!arguments.windows(text.len()).any(|part| part == text.as_bytes()));
    assert!(kin.stderr().contains("others on this machine may have seen it"));
    kin.answer(&offer, true);
    kin.expect("joined");
    assert_eq!(kin.exit_code(), Some(0));
    phone.holds("Pictures/first", "a picture");
    // Neither its state nor its log holds the code.
    let mut dirs = vec![phone.host.home().to_owned(), laptop.host.home().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                let found = bytes.windows(text.len()).any(|part| part == text.as_bytes());
                assert!(!found, "the code is in {}", path.display());
            }
        }
    }
}
