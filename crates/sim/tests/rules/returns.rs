//! Rule E4, the other way round: however a device was away, set back, copied, put out or told to take no part, what was
//! written on it and never deleted is not taken for an old copy of something that was.

use folder::{
    engine::{Input, Mode},
    index::MemStore,
};
use identity::DeviceId;
use sim::{history::Edit, scenario::Scenario};
use wire::{heard::Statement, sync::Message};

use crate::{
    SEEDS,
    forgotten::{DAY_MS, days, knows},
};

/// Devices of a group that all write, and are all linked with each other; those from `first` on do not run yet.
fn writers(seed: u64, devices: usize, first: usize) -> Scenario {
    let mut scenario = Scenario::new(seed, devices);
    let all: Vec<_> = (0..devices).collect();
    scenario.all_hear(&all);
    (0..first).for_each(|device| scenario.start(device));
    for a in 0..first {
        (a + 1..first).for_each(|b| scenario.link(a, b));
    }
    scenario.settle();
    scenario
}

#[track_caller]
fn everywhere(scenario: &Scenario, devices: &[usize], path: &str, text: Option<&str>, case: &str) {
    for device in devices {
        assert_eq!(scenario.text(*device, path).as_deref(), text, "{case}: {path} on {device}");
    }
}

/// A machine that was set back to what it was more than a year ago does not know how far it had counted since. Whom it
/// meets first does not know either. What it then writes is nothing that was deleted long ago.
#[test]
fn attack_33_what_a_machine_that_was_set_back_writes_is_new_also_by_way_of_a_newcomer() {
    for seed in SEEDS {
        let mut scenario = writers(seed, 4, 3);
        scenario.write(1, "old", b"old");
        scenario.settle();
        let backup = scenario.index(1).copy();
        // Each run begins a block of counters.
        for _ in 0..2 {
            scenario.stop(1);
            scenario.start(1);
        }
        for name in ["a", "b", "c", "d"] {
            scenario.write(1, name, b"since the backup");
            scenario.settle();
            scenario.remove(1, name);
            scenario.settle();
        }
        days(&mut scenario, 480);
        knows(&mut scenario, "a", false);
        scenario.stop(1);
        scenario.put_index(1, backup);
        for other in [0, 2] {
            scenario.cut(1, other);
        }
        scenario.start(3);
        scenario.start(1);
        scenario.write(1, "new", b"written after it was set back");
        scenario.write(1, "e/new", b"also");
        scenario.link(1, 3);
        scenario.settle();
        scenario.cut(1, 3);
        scenario.link(0, 3);
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        let case = format!("seed {seed}");
        everywhere(&scenario, &[0, 1, 2, 3], "new", Some("written after it was set back"), &case);
        everywhere(&scenario, &[0, 1, 2, 3], "e/new", Some("also"), &case);
    }
}

/// How a device comes back after what was deleted has been forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Return {
    /// Was on all the time.
    Never,
    /// Was off, with what it had written unsent.
    Off,
    /// The machine as it was, with its index, at the same place.
    Older,
    /// The folder of then, copied to another place.
    Copied,
    Wiped,
}

#[test]
fn attack_33_however_a_device_comes_back_what_was_written_on_it_is_kept() {
    for back in [Return::Never, Return::Off, Return::Older, Return::Copied, Return::Wiped] {
        for shares in [true, false] {
            for seed in SEEDS {
                let case = format!("{back:?}, shares {shares}, seed {seed}");
                let mut scenario = writers(seed, 3, 3);
                for (path, text) in [("gone", "gone"), ("edited", "before"), ("kept", "kept")] {
                    scenario.write(0, path, text.as_bytes());
                }
                scenario.write(2, "own", b"its own");
                scenario.settle();
                let (backup, disk) = (scenario.index(2).copy(), scenario.tree(2));
                assert!(disk.contains_key("gone"));
                if back == Return::Off {
                    scenario.stop(2);
                    scenario.write(2, "edited", b"edited far away");
                    scenario.write(2, "new", b"written far away");
                }
                scenario.remove(0, "gone");
                scenario.remove(0, "edited");
                days(&mut scenario, 480);
                knows(&mut scenario, "gone", back == Return::Off);
                if back != Return::Off {
                    scenario.stop(2);
                    scenario.write(2, "edited", b"edited far away");
                    scenario.write(2, "new", b"written far away");
                }
                match back {
                    Return::Never | Return::Off => {}
                    Return::Older => scenario.put_index(2, backup),
                    Return::Copied => {
                        scenario.put_index(2, backup);
                        scenario.move_machine(2);
                    }
                    Return::Wiped => scenario.put_index(2, MemStore::new()),
                }
                if matches!(back, Return::Older | Return::Copied) {
                    scenario.write(2, "gone", b"gone");
                }
                scenario.all_hear(if shares { &[0, 1, 2] } else { &[0, 1] });
                scenario.start(2);
                scenario.settle();
                let with: &[usize] = if shares { &[0, 1, 2] } else { &[2] };
                everywhere(&scenario, with, "edited", Some("edited far away"), &case);
                everywhere(&scenario, with, "new", Some("written far away"), &case);
                everywhere(&scenario, &[0, 1, 2], "kept", Some("kept"), &case);
                everywhere(&scenario, &[0, 1, 2], "own", Some("its own"), &case);
                // Who may not write any more is believed no more, and what was known by its word neither: then what is
                // old is not known to be.
                if shares || back != Return::Older && back != Return::Copied {
                    everywhere(&scenario, &[0, 1], "gone", None, &case);
                }
                assert!(scenario.lost().is_empty(), "{case}: {:?}", scenario.lost());
            }
        }
    }
}

/// Put out, and let in again years later: what it wrote meanwhile is new, what it still has of old is not.
#[test]
fn e4_who_is_admitted_again_after_years_loses_nothing_that_it_wrote() {
    for seed in SEEDS {
        let case = format!("seed {seed}");
        let mut scenario = writers(seed, 3, 3);
        scenario.write(0, "gone", b"gone");
        scenario.write(2, "edited", b"before");
        scenario.write(2, "mine", b"mine");
        scenario.settle();
        days(&mut scenario, 480);
        // It was about to send this.
        scenario.cut(0, 2);
        scenario.cut(1, 2);
        scenario.write(2, "unsent", b"unsent");
        scenario.settle();
        scenario.all_hear_of_removal(2);
        scenario.stop(2);
        scenario.remove(0, "gone");
        scenario.settle();
        days(&mut scenario, 960);
        knows(&mut scenario, "gone", false);
        scenario.write(2, "edited", b"edited while it was out");
        scenario.write(2, "new", b"written while it was out");
        scenario.all_hear_of_admission(2);
        scenario.all_hear(&[0, 1, 2]);
        scenario.link(0, 2);
        scenario.start(2);
        scenario.settle();
        let all = [0, 1, 2];
        everywhere(&scenario, &all, "edited", Some("edited while it was out"), &case);
        everywhere(&scenario, &all, "new", Some("written while it was out"), &case);
        everywhere(&scenario, &all, "unsent", Some("unsent"), &case);
        everywhere(&scenario, &all, "mine", Some("mine"), &case);
        everywhere(&scenario, &all, "gone", None, &case);
    }
}

/// What a device that only sends, or only receives, has apart for years is its own when it takes part again.
#[test]
fn e4_what_was_apart_by_wish_for_years_is_shared_when_it_ends() {
    for mode in [Mode::SendOnly, Mode::ReceiveOnly] {
        for seed in SEEDS {
            let case = format!("{mode:?} seed {seed}");
            let mut scenario = writers(seed, 3, 3);
            scenario.write(0, "gone", b"gone");
            scenario.write(0, "edited", b"before");
            scenario.settle();
            scenario.stop(2);
            scenario.mode(2, mode);
            scenario.start(2);
            scenario.settle();
            scenario.write(2, "new", b"new");
            scenario.write(2, "edited", b"edited there");
            scenario.settle();
            scenario.remove(0, "gone");
            scenario.settle();
            days(&mut scenario, 960);
            scenario.stop(2);
            scenario.mode(2, Mode::Both);
            scenario.start(2);
            scenario.settle();
            let all = [0, 1, 2];
            everywhere(&scenario, &all, "new", Some("new"), &case);
            everywhere(&scenario, &all, "edited", Some("edited there"), &case);
            everywhere(&scenario, &all, "gone", None, &case);
        }
    }
}

/// Replica ids that were given up (rule E1) keep nothing from being forgotten, and lose nothing.
#[test]
fn e4_a_device_that_took_a_new_replica_id_loses_nothing_and_forgets() {
    for seed in SEEDS {
        let case = format!("seed {seed}");
        let mut scenario = writers(seed, 3, 3);
        scenario.write(1, "first", b"first");
        scenario.settle();
        let backup = scenario.index(1).copy();
        scenario.write(1, "second", b"second");
        scenario.write(1, "gone", b"gone");
        scenario.settle();
        days(&mut scenario, 40);
        let before = scenario.replica(1);
        scenario.stop(1);
        scenario.put_index(1, backup);
        scenario.write(1, "third", b"third");
        scenario.start(1);
        scenario.settle();
        assert_ne!(scenario.replica(1), before, "{case}");
        scenario.remove(0, "gone");
        scenario.settle();
        days(&mut scenario, 520);
        knows(&mut scenario, "gone", false);
        for (path, text) in [("first", "first"), ("second", "second"), ("third", "third")] {
            everywhere(&scenario, &[0, 1, 2], path, Some(text), &case);
        }
    }
}

/// What a device knows rests on what was there: when a deletion proves void, what it had said before it gave that up
/// is not its word any more (rule E7).
#[test]
fn e4_what_a_void_deletion_had_replaced_is_no_old_copy_to_who_learned_from_others() {
    for seed in SEEDS {
        for linked_before in [false, true] {
            let case = format!("seed {seed}, linked before: {linked_before}");
            let mut scenario = Scenario::new(seed, 4);
            scenario.all_hear(&[0, 2]);
            (0..3).for_each(|device| scenario.start(device));
            scenario.link(0, 1);
            scenario.settle();
            scenario.write(0, "kept", b"kept");
            scenario.write(0, "other", b"other");
            scenario.settle();
            days(&mut scenario, 480);
            scenario.link(0, 2);
            scenario.settle();
            scenario.cut(0, 2);
            scenario.cut(0, 1);
            // Only a reader, or two, hear of the deletion, and then that its author may not.
            scenario.remove(2, "kept");
            scenario.link(1, 2);
            scenario.settle();
            assert_eq!(scenario.paths(1), ["other"]);
            scenario.cut(1, 2);
            scenario.stop(2);
            scenario.stop(0);
            if linked_before {
                scenario.start(3);
                scenario.link(1, 3);
                scenario.settle();
            }
            scenario.all_hear(&[0]);
            scenario.settle();
            scenario.all_hear(&[0, 1, 3]);
            scenario.start(3);
            scenario.link(1, 3);
            scenario.settle();
            days(&mut scenario, 480);
            scenario.link(0, 3);
            scenario.link(0, 1);
            scenario.start(0);
            scenario.settle();
            everywhere(&scenario, &[0, 1, 3], "kept", Some("kept"), &case);
        }
    }
}

/// What a device says last that it knows, of what was sent.
fn last_said(scenario: &Scenario, by: u8) -> Option<Statement> {
    let heard = scenario.sent().iter().filter_map(|sent| match &sent.message {
        Message::Heard(heard) => Some(heard),
        _ => None,
    });
    let mut id = [0; 32];
    id[0] = by;
    let own = heard.flatten().filter(|heard| heard.author == DeviceId(id));
    own.max_by_key(|heard| heard.statement.number).map(|heard| heard.statement.clone())
}

/// A writer's word reaches devices that never met it, by way of those who did: with it goes what rests on it.
#[test]
fn e4_what_others_took_from_one_who_is_out_is_counted_anew_too() {
    let mut scenario = Scenario::group(31, 3, &[0, 1, 2]);
    scenario.write(2, "a", b"a");
    scenario.settle();
    days(&mut scenario, 60);
    let of_2 = scenario.replica(2).expect("runs");
    let said = last_said(&scenario, 0).expect("says something");
    assert!(said.known.counter(of_2) > 0, "{said:?}");
    scenario.forget();
    scenario.all_hear_of_removal(2);
    scenario.stop(2);
    scenario.settle();
    let said = last_said(&scenario, 0).expect("says something");
    assert_eq!(said.known.entries(), []);
    assert_eq!(said.aged.entries(), []);
}

/// A writer that says all is old, whatever is still to come, does so for as long as it is one.
#[test]
fn attack_30_who_says_that_all_is_forgotten_has_nothing_come_back_once_it_is_out() {
    for seed in SEEDS {
        let mut scenario = writers(seed, 4, 4);
        scenario.write(0, "a", b"a");
        scenario.write(1, "b", b"b");
        scenario.settle();
        let replicas: Vec<_> = (0..4).filter_map(|device| scenario.replica(device)).collect();
        for to in [0, 1, 3] {
            scenario.claim_to_know(2, to, &replicas);
        }
        scenario.settle();
        // All come to the same nevertheless.
        scenario.remove(0, "b");
        scenario.settle();
        everywhere(&scenario, &[0, 1, 2, 3], "b", None, "while it is in");
        scenario.all_hear_of_removal(2);
        scenario.stop(2);
        scenario.settle();
        scenario.stop(3);
        scenario.remove(1, "a");
        scenario.settle();
        knows(&mut scenario, "a", true);
        scenario.start(3);
        scenario.settle();
        everywhere(&scenario, &[0, 1, 3], "a", None, &format!("seed {seed}"));
    }
}

/// What says what is known is written and sent when it has changed; for how long a folder was in use, once a day.
#[test]
fn e4_an_idle_group_writes_and_says_nothing_again_and_again() {
    let mut scenario = Scenario::group(37, 3, &[0, 1]);
    scenario.write(0, "a", b"a");
    scenario.remove(0, "a");
    scenario.write(1, "b", b"b");
    scenario.settle();
    scenario.run(DAY_MS / 2);
    scenario.forget();
    let keys = ["heard", "heard of", "believed", "owners", "device", "used"];
    let before: Vec<_> = (0..3).map(|device| scenario.written_metas(device)).collect();
    scenario.run(20 * DAY_MS);
    for (device, before) in before.iter().enumerate() {
        let after = scenario.written_metas(device);
        for key in keys {
            let times = after.get(key).unwrap_or(&0) - before.get(key).unwrap_or(&0);
            let most = if ["heard", "used"].contains(&key) { 21 } else { 0 };
            assert!(times <= most, "{device} wrote {key:?} {times} times in twenty days");
        }
    }
    let said = scenario.sent().iter().filter(|it| matches!(it.message, Message::Heard(_)));
    assert_eq!(said.count(), 0);
    // But it was in use: after 400 days like these the deletion is forgotten.
    days(&mut scenario, 420);
    knows(&mut scenario, "a", false);
    assert_eq!(scenario.text(2, "b").as_deref(), Some("b"));
    scenario.tell(2, Input::Tick);
}

/// The time in use is not lost where a folder is opened for some hours a day.
#[test]
fn e4_use_by_the_hour_adds_up() {
    let mut scenario = Scenario::group(41, 2, &[0, 1]);
    scenario.write(0, "a", b"a");
    scenario.settle();
    scenario.edit(1, &Edit::Remove("a".to_owned()));
    scenario.settle();
    let before: Vec<_> = (0..2).map(|device| scenario.age(device)).collect();
    for _ in 0..10 {
        scenario.run(8 * 60 * 60 * 1000);
        for device in 0..2 {
            scenario.stop(device);
            scenario.start(device);
        }
        scenario.settle();
    }
    for (device, before) in before.into_iter().enumerate() {
        let hours = (scenario.age(device) - before) / 3600;
        assert!((70..=81).contains(&hours), "{device}: {hours} hours");
    }
}

/// A machine without a clock of its own is in 1970 whenever it starts, until it hears what time it is.
#[test]
fn e1_a_clock_that_starts_in_1970_every_time_costs_no_replica_id() {
    let mut scenario = Scenario::group(43, 2, &[0, 1]);
    scenario.write(1, "a", b"a");
    scenario.settle();
    let before = scenario.replica(1);
    for turn in 0..4 {
        scenario.skip(DAY_MS);
        scenario.stop(1);
        scenario.set_clock(1, -56 * 365 * 24 * 60 * 60 * 1000);
        scenario.start(1);
        scenario.write(1, "a", format!("turn {turn}").as_bytes());
        scenario.settle();
        scenario.set_clock(1, 0);
        scenario.write(1, "b", format!("turn {turn}").as_bytes());
        scenario.settle();
        assert_eq!(scenario.replica(1), before);
    }
    scenario.skip(300 * DAY_MS);
    scenario.settle();
    assert_ne!(scenario.replica(1), before, "but time that really passed does");
}

/// What was put into a directory while another device deleted it keeps it there, as closed as it was: also when all have
/// forgotten that it was deleted (found by `--faults all,members,years --from 1698`).
#[test]
fn e9_a_directory_that_something_below_keeps_is_as_closed_after_years() {
    for seed in SEEDS {
        let mut scenario = writers(seed, 3, 2);
        scenario.write(1, "d/e/x", b"x");
        scenario.chmod(1, "d", 0o700);
        scenario.chmod(1, "d/e", 0o750);
        scenario.settle();
        scenario.cut(0, 1);
        scenario.remove(0, "d");
        scenario.write(1, "d/e/y", b"y");
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        let before = scenario.tree(0);
        assert!(before.contains_key("d/e/y"), "{before:?}");
        days(&mut scenario, 520);
        knows(&mut scenario, "d/e/x", false);
        scenario.link(1, 2);
        scenario.start(2);
        scenario.settle();
        for device in 0..3 {
            assert_eq!(scenario.tree(device), before, "seed {seed}, {device}");
        }
        // With what kept them they go, and what was known of them (found by `--faults all,members,years --from 55`).
        scenario.remove(2, if seed % 2 == 0 { "d/e/y" } else { "d" });
        scenario.settle();
        for device in 0..3 {
            assert_eq!(scenario.paths(device), [] as [&str; 0], "seed {seed}, {device}");
        }
        knows(&mut scenario, "d", false);
        knows(&mut scenario, "d/e", false);
    }
}

/// What waits since somebody was put out waits in the next run as well: else this device would count on what
/// others still say by the word of who is out.
#[test]
fn e4_counting_anew_waits_over_a_restart() {
    for seed in SEEDS {
        let mut scenario = writers(seed, 3, 3);
        scenario.write(0, "a", b"a");
        scenario.settle();
        days(&mut scenario, 20);
        let replica = scenario.replica(0).expect("runs");
        assert!(scenario.knows_up_to(1, replica) > 0, "seed {seed}");
        scenario.hears(1, &[0, 1]);
        scenario.stop(1);
        scenario.start(1);
        scenario.link(0, 1);
        scenario.settle();
        assert_eq!(scenario.knows_up_to(1, replica), 0, "seed {seed}");
        scenario.all_hear(&[0, 1]);
        days(&mut scenario, 20);
        assert!(scenario.knows_up_to(1, replica) > 0, "seed {seed}");
    }
}
