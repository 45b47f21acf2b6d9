//! Pairing between real hosts when something goes wrong: somebody in the middle, kills at every step, a partition
//! in which both halves change members. And a config file that changes under a running device.

use std::path::Path;

use lab::{Host, Kin, KinCommand, Lan, SHORT};
use serde_json::Value;

use crate::{
    common::{KIN, compare_and_accept, lan},
    devices::{Device, pair, write},
};

/// `kin pair` with a host, by its address.
fn pairing(host: &Host, other: &Host, port: u16) -> Kin {
    let other = format!("{}:{port}", other.v4());
    KinCommand::on(Path::new(KIN), host, &["pair", &other, "--port", "9001", "--json"]).start()
}

/// Neither a device nor a join that waits.
fn assert_nothing_is_left(device: &Device<'_>) {
    assert!(device.run(&["devices", "--json"]).is_empty(), "{}", device.name);
    assert!(device.run(&["pair", "--status", "--json"]).is_empty(), "{}", device.name);
}

pub(crate) fn attack_07_a_man_in_the_middle_shows_other_strings_and_leaves_nothing() {
    let lan: Lan = lan(3);
    let (a, b, middle) = (lan.host(0), lan.host(1), lan.host(2));
    // To each side it is the other one, with keys of its own: it has no others.
    let towards = |host: &Host, state: &str, port: u16| {
        let home = format!("KIN_HOME={}", middle.home().join(state).display());
        let (port, other) = (port.to_string(), format!("{}:9001", host.v4()));
        KinCommand::on(Path::new(KIN), middle, &["pair", &other, "--port", &port, "--json"])
            .through(&["env", &home])
            .start()
    };
    let mut at_a = pairing(a, middle, 9101);
    let mut at_b = pairing(b, middle, 9102);
    let mut to_a = towards(a, "as-b", 9101);
    let mut to_b = towards(b, "as-a", 9102);
    let shown_a = at_a.expect("confirm");
    let shown_b = at_b.expect("confirm");
    assert_ne!(shown_a["sas"], shown_b["sas"], "the two people see that they differ");
    for kin in [&mut to_a, &mut to_b] {
        let asked = kin.expect("confirm");
        kin.answer(&asked, true);
    }
    at_a.answer(&shown_a, false);
    at_b.answer(&shown_b, false);
    for kin in [&mut at_a, &mut at_b, &mut to_a, &mut to_b] {
        assert_eq!(kin.exit_code(), Some(3), "refused");
    }
    for (host, name) in [(a, "a"), (b, "b")] {
        assert_nothing_is_left(&Device { host, name, running: None });
    }
}

/// How far a person gets before the machine dies.
const STEPS: [&str; 5] = ["confirm", "yes", "ask in", "ask out", "answered"];

/// Plays one person up to a step. False if the ceremony ended before.
fn play(kin: &mut Kin, until: &str) {
    let asked: Value = kin.expect("confirm");
    if until == "confirm" {
        return;
    }
    kin.answer(&asked, true);
    if until == "yes" {
        return;
    }
    let asked = kin.expect("ask");
    if until == "ask in" {
        return;
    }
    kin.answer(&asked, false);
    let asked = kin.expect("ask");
    if until == "ask out" {
        return;
    }
    kin.answer(&asked, false);
}

pub(crate) fn t8_a_kill_at_any_step_of_a_pairing_leaves_both_or_neither() {
    let lan: Lan = lan(2);
    let names = ["a", "b"];
    for (round, step) in STEPS.iter().enumerate() {
        for dies in [0, 1] {
            let homes = [lan.host(0), lan.host(1)];
            let state = |host: &Host| {
                format!("KIN_HOME={}", host.home().join(format!("{round}-{dies}")).display())
            };
            let start = |at: usize, args: &[&str]| {
                KinCommand::on(Path::new(KIN), homes[at], args)
                    .through(&["env", &state(homes[at])])
                    .start()
            };
            let lines = |at: usize, args: &[&str]| -> Vec<Value> {
                let mut kin = start(at, args);
                assert_eq!(kin.exit_code(), Some(0), "{step}: kin {args:?}: {}", kin.stderr());
                kin.seen().cloned().collect()
            };
            let address = |at: usize| format!("{}:9001", homes[at].v4());
            let pair = |at: usize| {
                start(at, &["pair", &address(1 - at), "--port", "9001", "--timeout", "5", "--json"])
            };
            for (at, name) in names.iter().enumerate() {
                lines(at, &["devices", "rename", name, "--json"]);
            }
            let mut both = [pair(0), pair(1)];
            // The other person is one step ahead, so that each side dies both as the first and as the last.
            let (survivor, victim) = (1 - dies, dies);
            match *step {
                "confirm" | "yes" => {
                    play(&mut both[victim], step);
                    play(&mut both[survivor], "yes");
                }
                _ => {
                    // Nobody is asked about SSH before both said yes.
                    let asked = both[survivor].expect("confirm");
                    both[survivor].answer(&asked, true);
                    play(&mut both[victim], step);
                }
            }
            both[victim].kill();
            both[survivor].interrupt();
            both[survivor].wait(SHORT);
            drop(both);

            // Both start again and meet.
            let mut up = [0, 1].map(|at| start(at, &["up", "--foreground", "--json"]));
            let holds = |at: usize| {
                let devices = lines(at, &["devices", "--json"]);
                devices.iter().any(|one| one["name"] == names[1 - at])
            };
            lab::eventually_within(SHORT, "both devices answer", || {
                [0, 1].iter().all(|at| lines(*at, &["status", "--json"])[0]["running"] == true)
            });
            lab::eventually_within(SHORT, &format!("{step}, {dies}: both or neither"), || {
                holds(0) == holds(1)
            });
            // And if neither, nothing stands in the way of doing it again.
            if !holds(0) {
                let mut again = [pair(0), pair(1)];
                play(&mut again[0], "yes");
                play(&mut again[1], "yes");
                for kin in &mut again {
                    for _ in 0..2 {
                        let asked = kin.expect("ask");
                        kin.answer(&asked, false);
                    }
                }
                for kin in &mut again {
                    kin.expect("paired");
                }
                assert!(holds(0) && holds(1), "{step}, {dies}");
            }
            for kin in &mut up {
                kin.interrupt();
            }
            for kin in &mut up {
                kin.wait(SHORT);
            }
        }
    }
}

pub(crate) fn a_choice_that_comes_to_nothing_is_offered_again() {
    let lan: Lan = lan(3);
    let devices = ["a", "b", "c"].map(|name| {
        let host = lan.host(usize::from(name.as_bytes()[0] - b'a'));
        let device = Device { host, name, running: None };
        device.run(&["devices", "rename", name, "--json"]);
        device
    });
    let start = |device: &Device<'_>| device.command(&["pair", "--json"]);
    // Two compare already: to whoever comes, they are there and say nothing.
    let (mut b, mut c) = (start(&devices[1]), start(&devices[2]));
    b.expect("confirm");
    c.expect("confirm");
    let mut a = start(&devices[0]);
    let number = |kin: &mut Kin, name: &str| {
        let what = format!("{name} is a candidate");
        let is_it = |event: &Value| event["event"] == "candidate" && event["name"] == name;
        kin.expect_where(&what, SHORT, is_it)["number"].to_string()
    };
    let (to_b, to_c) = {
        let first = a.expect("candidate");
        let second = a.expect("candidate");
        let [first, second] =
            [first, second].map(|one| (one["name"].clone(), one["number"].to_string()));
        if first.0 == "b" { (first.1, second.1) } else { (second.1, first.1) }
    };
    let again = |kin: &mut Kin| {
        let is_it = |event: &Value| event["event"] == "error" && event["kind"] == "candidate";
        kin.expect_where("the list is offered again", SHORT, is_it)
    };
    a.type_line(&to_b);
    again(&mut a);
    // One of them is gone without a word; the other one sees the newcomer.
    c.kill();
    a.type_line(&to_c);
    let said = again(&mut a);
    assert!(said["message"].as_str().is_some_and(|said| said.contains("(c)")), "{said}");
    // Its person is asked to choose, too: an advert of the other one that is gone may still be known.
    a.type_line(&to_b);
    let to_a = number(&mut b, "a");
    b.type_line(&to_a);
    loop {
        a.pump(std::time::Duration::from_millis(50));
        b.pump(std::time::Duration::from_millis(50));
        if a.count("confirm") > 0 && b.count("confirm") > 1 {
            break;
        }
    }
    compare_and_accept(&mut a, &mut b);
    for kin in [&mut a, &mut b] {
        for _ in 0..2 {
            let asked = kin.expect("ask");
            kin.answer(&asked, false);
        }
    }
    a.expect("paired");
    b.expect("paired");
}

pub(crate) fn t10_both_halves_of_a_partition_change_members_and_come_to_one_group() {
    let lan: Lan = lan(4);
    let mut laptop = Device::new(lan.host(0), "laptop");
    let mut nas = Device::new(lan.host(1), "nas");
    let mut phone = Device::new(lan.host(2), "phone");
    pair(&laptop, &nas);
    pair(&laptop, &phone);
    nas.until("it knows the phone", || nas.names() == ["laptop", "nas", "phone"]);
    // One half: the laptop alone, which puts the phone out.
    nas.down();
    phone.down();
    laptop.run(&["devices", "remove", "phone", "--yes", "--json"]);
    laptop.down();
    // The other half, which knows nothing of it: the phone lets a tablet in.
    nas.up();
    phone.up();
    let tablet = Device::new(lan.host(3), "tablet");
    pair(&phone, &tablet);
    nas.until("it knows the tablet", || nas.names() == ["laptop", "nas", "phone", "tablet"]);
    // They meet again: what the phone did meanwhile is void, and the tablet with it, for everybody.
    laptop.up();
    for device in [&laptop, &nas] {
        device
            .until("the phone and what it let in are out", || device.names() == ["laptop", "nas"]);
    }
    for device in [&phone, &tablet] {
        device.until("it knows that it is out", || {
            let groups = device.run(&["group", "list", "--json"]);
            groups.iter().all(|group| group["role"] == "removed")
        });
    }
    write(&laptop.path("Documents"), "letter", "dear");
    laptop.run(&["share", &laptop.path("Documents").to_string_lossy(), "--json"]);
    nas.join("Documents", "docs");
    nas.holds("docs/letter", "dear");
}

pub(crate) fn a_device_heeds_its_config_file_while_it_runs() {
    let lan: Lan = lan(1);
    let host = lan.host(0);
    let config = host.home().join(".config/kin");
    write(&config, "kin.toml", "[device]\nport = 9200\n");
    let device = Device::new(host, "laptop");
    assert_eq!(device.status()["port"], 9200);
    write(&config, "kin.toml", "[device]\nport = 9300\n");
    device.until("it listens elsewhere", || device.status()["port"] == 9300);
    // What is wrong changes nothing, and is told.
    write(&config, "kin.toml", "[device]\nprot = 9400\n");
    device.until("it says what is wrong", || {
        let log = device.run(&["log", "--json"]);
        log.iter().any(|line| line.to_string().contains("prot"))
    });
    assert_eq!(device.status()["port"], 9300);
    write(&config, "kin.toml", "[device]\nport = 9200\nno_discovery = true\n");
    device.until("it goes by the file again", || device.status()["port"] == 9200);
}
