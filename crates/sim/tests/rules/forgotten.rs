//! Rule E4 in groups: a deletion that every member has known for 400 days is forgotten, and what comes back from
//! before that time brings nothing back.

use folder::index::MemStore;
use sim::scenario::Scenario;

use crate::SEEDS;

pub(super) const DAY_MS: u64 = 24 * HOUR_MS;
const HOUR_MS: u64 = 60 * 60 * 1000;

/// Days pass; every twenty, everybody is on for some hours.
pub(super) fn days(scenario: &mut Scenario, days: u64) {
    for _ in 0..days / 20 {
        scenario.skip(20 * DAY_MS - 4 * HOUR_MS);
        scenario.settle();
        for _ in 0..4 {
            scenario.skip(HOUR_MS);
            scenario.settle();
        }
    }
}

/// Devices of a group of which the last only reads, and some things deleted.
fn deleted(seed: u64, devices: usize) -> Scenario {
    let writers: Vec<_> = (0..devices - 1).collect();
    let mut scenario = Scenario::group(seed, devices, &writers);
    scenario.write(0, "gone", b"deleted by another");
    scenario.write(0, "d/gone", b"with its directory");
    scenario.write(0, "kept", b"kept");
    scenario.settle();
    scenario.remove(1, "gone");
    scenario.remove(0, "d/gone");
    scenario.remove(0, "d");
    scenario.settle();
    scenario
}

#[track_caller]
pub(super) fn knows(scenario: &mut Scenario, path: &str, expected: bool) {
    for device in (0..scenario.devices()).filter(|it| scenario.is_running(*it)).collect::<Vec<_>>()
    {
        let known = scenario.row(device, path).known.len();
        assert_eq!(known > 0, expected, "{device} knows {known} of {path}");
    }
}

#[test]
fn e4_what_all_have_known_for_400_days_is_forgotten_and_not_before() {
    for seed in SEEDS {
        let mut scenario = deleted(seed, 3);
        days(&mut scenario, 380);
        for path in ["gone", "d", "d/gone", "kept"] {
            knows(&mut scenario, path, true);
        }
        days(&mut scenario, 80);
        for path in ["gone", "d", "d/gone"] {
            knows(&mut scenario, path, false);
        }
        knows(&mut scenario, "kept", true);
        // All agree still, and what is new at such a path is new.
        scenario.forget();
        scenario.write(1, "gone", b"another file");
        scenario.settle();
        for device in 0..3 {
            assert_eq!(scenario.text(device, "gone").as_deref(), Some("another file"));
        }
        assert!(scenario.copies(0).is_empty());
        let agreed = |(_, event): &(u64, folder::engine::Event)| {
            matches!(event, folder::engine::Event::InSync { peers: 1 | 2, .. })
        };
        assert!((0..3).all(|device| scenario.events(device).iter().any(agreed)));
    }
}

#[test]
fn e4_one_member_that_is_away_keeps_all_from_forgetting() {
    for away in [1, 2] {
        let mut scenario = Scenario::group(5, 3, &[0, 1]);
        scenario.link(0, 2);
        scenario.write(0, "gone", b"gone");
        scenario.settle();
        scenario.stop(away);
        scenario.remove(0, "gone");
        scenario.settle();
        days(&mut scenario, 900);
        knows(&mut scenario, "gone", true);
        scenario.start(away);
        days(&mut scenario, 380);
        knows(&mut scenario, "gone", true);
        assert!(!scenario.paths(away).contains(&"gone".to_owned()));
        days(&mut scenario, 80);
        knows(&mut scenario, "gone", false);
    }
}

/// Nobody waits for the word of who is no member any more.
#[test]
fn e4_a_removed_member_keeps_nobody_from_forgetting() {
    let mut scenario = deleted(7, 3);
    scenario.stop(2);
    days(&mut scenario, 480);
    scenario.write(0, "later", b"later");
    scenario.settle();
    scenario.remove(0, "later");
    scenario.settle();
    days(&mut scenario, 480);
    knows(&mut scenario, "later", true);
    scenario.all_hear_of_removal(2);
    scenario.settle();
    knows(&mut scenario, "later", false);
}

/// Clocks that jump two hundred years ahead, and back to 1970, on all devices at once.
#[test]
fn e4_wrong_clocks_forget_nothing() {
    let mut scenario = deleted(11, 3);
    for years in [200, -56, 0] {
        for device in 0..3 {
            scenario.set_clock(device, years * 365 * 24 * 60 * 60 * 1000);
        }
        days(&mut scenario, 40);
    }
    days(&mut scenario, 260);
    knows(&mut scenario, "gone", true);
    days(&mut scenario, 140);
    knows(&mut scenario, "gone", false);
}

/// A writer says that it knows, and that all have known for long, whatever the others will ever write; before it is
/// removed, and more than once.
#[test]
fn attack_30_who_lies_about_what_it_knows_has_nothing_deleted() {
    for seed in SEEDS {
        let mut scenario = Scenario::group(seed, 4, &[0, 1, 2]);
        scenario.link(0, 2);
        scenario.write(0, "gone", b"gone");
        scenario.settle();
        scenario.remove(1, "gone");
        scenario.settle();
        let replicas: Vec<_> = (0..4).filter_map(|device| scenario.replica(device)).collect();
        for _ in 0..20 {
            for to in [0, 1, 3] {
                scenario.claim_to_know(2, to, &replicas);
            }
            days(&mut scenario, 40);
        }
        scenario.all_hear_of_removal(2);
        scenario.stop(2);
        scenario.link(1, 3);
        scenario.settle();
        // From every device that may write, also one that hears later that it may.
        scenario.write(3, "apart", b"kept apart at first");
        scenario.write(0, "new", b"new");
        scenario.write(1, "d/new", b"also");
        scenario.settle();
        scenario.all_hear(&[0, 1, 3]);
        scenario.settle();
        days(&mut scenario, 60);
        for device in [0, 1, 3] {
            let paths = scenario.paths(device);
            assert_eq!(paths, ["apart", "d", "d/new", "new"], "seed {seed}, {device}");
        }
    }
}

/// What is known completely rests on what writers said: when one of them is none any more, it is counted anew.
#[test]
fn e4_what_rests_on_the_word_of_one_who_is_out_is_counted_anew() {
    let mut scenario = Scenario::group(29, 3, &[0, 1, 2]);
    scenario.write(2, "gone", b"gone");
    scenario.settle();
    scenario.remove(0, "gone");
    scenario.settle();
    days(&mut scenario, 380);
    scenario.all_hear_of_removal(2);
    scenario.stop(2);
    days(&mut scenario, 100);
    knows(&mut scenario, "gone", true);
    days(&mut scenario, 360);
    knows(&mut scenario, "gone", false);
}

/// Who was put out and is admitted again may have files of before: nobody forgets without it.
#[test]
fn e4_a_member_that_is_admitted_again_counts_with_what_it_said_before() {
    let mut scenario = Scenario::group(23, 3, &[0, 1]);
    scenario.link(0, 2);
    scenario.write(0, "gone", b"gone");
    scenario.settle();
    days(&mut scenario, 40);
    scenario.all_hear_of_removal(2);
    scenario.stop(2);
    scenario.remove(0, "gone");
    scenario.settle();
    scenario.all_hear_of_admission(2);
    days(&mut scenario, 900);
    knows(&mut scenario, "gone", true);
    scenario.start(2);
    scenario.settle();
    for device in 0..3 {
        assert!(scenario.paths(device).is_empty(), "{device}");
    }
}

#[test]
fn attack_33_an_index_from_before_what_is_forgotten_brings_nothing_back() {
    for seed in SEEDS {
        for reader_first in [false, true] {
            let mut scenario = Scenario::group(seed, 3, &[0, 1]);
            scenario.link(0, 2);
            for (path, text) in [("gone", "gone"), ("d/gone", "too"), ("edited", "before")] {
                scenario.write(0, path, text.as_bytes());
            }
            scenario.settle();
            let (backup, disk) = (scenario.index(1).copy(), scenario.tree(1));
            scenario.remove(0, "gone");
            scenario.remove(0, "d/gone");
            scenario.remove(0, "d");
            scenario.remove(0, "edited");
            scenario.settle();
            days(&mut scenario, 480);
            knows(&mut scenario, "gone", false);
            // The whole folder of the beginning is back, with its index, and one file was edited since.
            scenario.stop(1);
            scenario.put_index(1, backup);
            assert!(disk.contains_key("d/gone"));
            for (path, text) in [("gone", "gone"), ("d/gone", "too"), ("edited", "edited since")] {
                scenario.write(1, path, text.as_bytes());
            }
            if reader_first {
                scenario.stop(0);
            }
            scenario.start(1);
            scenario.settle();
            // A reader goes by who may write; with the first writer who knows better it is gone again.
            scenario.start(0);
            scenario.settle();
            for device in 0..3 {
                let paths = scenario.paths(device);
                assert_eq!(paths, ["edited"], "seed {seed}, {device}");
                let text = scenario.text(device, "edited");
                assert_eq!(text.as_deref(), Some("edited since"), "seed {seed}");
            }
            assert!(scenario.lost().is_empty(), "seed {seed}: {:?}", scenario.lost());
        }
    }
}

/// A device that never heard of what was forgotten: a new one, or one whose index is gone.
#[test]
fn e4_who_comes_after_is_in_step() {
    let mut scenario = deleted(13, 3);
    scenario.stop(2);
    scenario.put_index(2, MemStore::new());
    days(&mut scenario, 20);
    scenario.start(2);
    days(&mut scenario, 480);
    knows(&mut scenario, "gone", false);
    assert_eq!(scenario.tree(0), scenario.tree(2));
    scenario.stop(1);
    scenario.put_index(1, MemStore::new());
    scenario.start(1);
    scenario.settle();
    assert_eq!(scenario.tree(0), scenario.tree(1));
    assert_eq!(scenario.paths(1), ["kept"]);
}

/// What a reader changed, and was allowed to share years later, is no old copy of anything.
#[test]
fn e4_what_was_kept_apart_for_years_is_shared() {
    let mut scenario = deleted(17, 3);
    scenario.all_hear(&[0, 1, 2]);
    scenario.write(2, "shared", b"shared");
    scenario.settle();
    scenario.all_hear(&[0, 1]);
    scenario.write(2, "apart", b"apart");
    scenario.settle();
    days(&mut scenario, 900);
    scenario.all_hear(&[0, 1, 2]);
    scenario.settle();
    for device in 0..3 {
        assert_eq!(scenario.text(device, "apart").as_deref(), Some("apart"));
    }
}

/// A reader gives up a deletion that did not count, and what was deleted by it with that: it comes back as it was.
#[test]
fn e4_what_a_void_deletion_had_replaced_is_no_old_copy() {
    let mut scenario = Scenario::group(19, 4, &[0, 1, 2]);
    scenario.write(0, "kept", b"kept");
    scenario.settle();
    days(&mut scenario, 480);
    // Only the reader hears of a deletion by one who is then demoted, and never again of its author.
    scenario.cut(0, 1);
    scenario.cut(1, 2);
    scenario.remove(2, "kept");
    scenario.settle();
    assert!(scenario.paths(3).is_empty());
    scenario.cut(2, 3);
    scenario.stop(2);
    scenario.all_hear(&[0, 1]);
    scenario.settle();
    // It may write by the time it meets the others.
    scenario.all_hear(&[0, 1, 3]);
    scenario.link(0, 1);
    scenario.link(1, 3);
    scenario.settle();
    for device in [0, 1, 3] {
        assert_eq!(scenario.text(device, "kept").as_deref(), Some("kept"), "{device}");
    }
}
