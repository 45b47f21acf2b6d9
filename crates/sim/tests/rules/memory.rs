//! Rules E4, E5 and E8: what is remembered of what is gone, and of what is not here.

use folder::{engine::Event, index::MemStore};
use sim::{history::Edit, scenario::Scenario};

use crate::{SEEDS, assert_alike};

#[test]
fn e4_a_late_device_does_not_bring_back_what_was_deleted() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 3);
        scenario.write(0, "d/a", b"x");
        scenario.write(0, "stays", b"y");
        scenario.settle();
        scenario.stop(2);
        scenario.remove(0, "d");
        scenario.settle();
        for device in [0, 1] {
            scenario.stop(device);
            scenario.start(device);
        }
        // Far beyond any timer of the engine.
        scenario.run(3 * 60 * 60 * 1000);
        assert!(!scenario.row(0, "d/a").known.is_empty(), "the tombstone is kept");
        scenario.start(2);
        scenario.settle();
        assert_alike(&scenario, 3);
        assert_eq!(scenario.paths(2), ["stays"]);
        assert!(scenario.has(2, b"x"), "it is in history");
    }
}

#[test]
fn e4_what_was_deleted_between_two_runs_is_deleted_everywhere() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"x");
        scenario.write(0, "b", b"y");
        scenario.settle();
        scenario.stop(0);
        scenario.stop(1);
        scenario.remove(0, "a");
        scenario.rename(1, "b", "c");
        scenario.start(0);
        scenario.start(1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), ["c"]);
    }
}

/// A device whose index is lost while the others went on without it.
fn wiped(seed: u64) -> Scenario {
    let mut scenario = Scenario::linked(seed, 2);
    scenario.write(0, "deleted", b"deleted later");
    scenario.write(0, "changed", b"version 1");
    scenario.write(0, "edited on both", b"version 1");
    scenario.write(0, "the same", b"the same");
    scenario.settle();
    scenario.stop(1);
    scenario.remove(0, "deleted");
    for version in 2..=8 {
        scenario.write(0, "changed", format!("version {version}").as_bytes());
        scenario.settle();
    }
    scenario.write(0, "edited on both", b"version 2");
    scenario.settle();
    scenario.put_index(1, MemStore::new());
    scenario.write(1, "edited on both", b"a real edit");
    scenario
}

#[test]
fn e5_without_an_index_old_files_follow_and_edits_are_kept() {
    for seed in SEEDS {
        let mut scenario = wiped(seed);
        scenario.forget();
        scenario.start(1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(1, "changed").as_deref(), Some("version 8"));
        assert_eq!(scenario.text(1, "deleted"), None);
        assert_eq!(scenario.text(1, "the same").as_deref(), Some("the same"));
        let copies = scenario.copies(0);
        assert_eq!(copies.len(), 1, "{copies:?}");
        let mut both = [scenario.text(0, "edited on both"), scenario.text(0, &copies[0])];
        both.sort();
        assert_eq!(both, ["a real edit", "version 2"].map(|text| Some(text.to_owned())));
        // What made room is in history.
        assert!(scenario.has(1, b"version 1") && scenario.has(1, b"deleted later"));
    }
}

#[test]
fn e5_a_lost_index_costs_nothing_where_nothing_changed() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/a", b"x");
        scenario.write(0, "b", b"y");
        scenario.settle();
        scenario.stop(1);
        scenario.put_index(1, MemStore::new());
        scenario.forget();
        scenario.start(1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), ["b", "d", "d/a"]);
        assert_eq!(scenario.content_bytes(), 0);
    }
}

#[test]
fn e5_whoever_heard_of_a_deletion_and_who_did_not_agree_in_the_end() {
    // A deletion outdates what another device had found; what was made after it must as well, or it would
    // matter which of them one has met.
    let file = Edit::Write("a".to_owned(), b"the same on both".to_vec());
    let kinds = [file, Edit::MakeDir("a".to_owned())];
    for seed in SEEDS {
        for (number, first) in kinds.iter().enumerate() {
            for (other, again) in kinds.iter().enumerate() {
                let mut scenario = Scenario::new(seed, 3);
                scenario.edit(0, first);
                scenario.edit(1, first);
                (0..3).for_each(|device| scenario.start(device));
                scenario.link(0, 2);
                scenario.settle();
                scenario.cut(0, 2);
                scenario.remove(1, "a");
                scenario.settle();
                scenario.link(0, 1);
                scenario.settle();
                assert_eq!(scenario.paths(0), [""; 0], "what was found there was deleted");
                scenario.cut(0, 1);
                scenario.edit(1, again);
                scenario.settle();
                scenario.link(1, 2);
                scenario.settle();
                scenario.link(0, 2);
                scenario.settle();
                let at = format!("seed {seed}, {number} then {other}");
                assert_eq!(scenario.paths(0), ["a"], "{at}");
                assert_alike(&scenario, 3);
            }
        }
    }
}

#[test]
fn e8_an_unreadable_directory_freezes_what_is_below() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/a", b"a");
        scenario.write(0, "d/e/b", b"b");
        scenario.settle();
        scenario.stop(0);
        let dir = scenario.tree(0)["d"].clone();
        scenario.disk(0).chmod("d", 0o000).expect("chmod");
        scenario.start(0);
        scenario.settle();
        let told = |event: &Event| matches!(event, Event::Skipped { path, .. } if path == "d");
        assert!(scenario.events(0).iter().any(|(_, event)| told(event)));
        for path in ["d/a", "d/e/b"] {
            assert!(scenario.text(1, path).is_some(), "{path} is deleted elsewhere");
        }
        scenario.disk(0).chmod("d", 0o755).expect("chmod");
        scenario.rescan(0);
        scenario.settle();
        scenario.chmod(1, "d", 0o755);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.tree(0)["d"], dir);
        assert_eq!(scenario.paths(0), ["d", "d/a", "d/e", "d/e/b"]);
    }
}

#[test]
fn e8_what_is_known_and_not_here_is_passed_on() {
    for seed in SEEDS {
        let mut scenario = Scenario::new(seed, 3);
        scenario.ignore(1, &["*.iso"]);
        for device in 0..3 {
            scenario.start(device);
        }
        scenario.write(0, "big.iso", b"image");
        scenario.write(0, "a", b"x");
        scenario.link(0, 1);
        scenario.settle();
        assert_eq!(scenario.paths(1), ["a"]);
        scenario.link(1, 2);
        scenario.settle();
        // The third device knows of it by way of one that does not have it, and gets it from the first.
        assert_eq!(scenario.paths(2), ["a"]);
        assert!(!scenario.row(2, "big.iso").known.is_empty());
        scenario.link(0, 2);
        scenario.settle();
        assert_eq!(scenario.text(2, "big.iso").as_deref(), Some("image"));
        assert_eq!(scenario.text(0, "big.iso").as_deref(), Some("image"));
    }
}

#[test]
fn e8_an_unreadable_file_is_reported_and_not_deleted_elsewhere() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"one");
        scenario.settle();
        scenario.stop(0);
        scenario.write(0, "a", b"another");
        scenario.disk(0).chmod("a", 0o000).expect("chmod");
        scenario.start(0);
        scenario.settle();
        let told = |event: &Event| matches!(event, Event::Skipped { path, .. } if path == "a");
        assert!(scenario.events(0).iter().any(|(_, event)| told(event)));
        assert_eq!(scenario.text(1, "a").as_deref(), Some("one"));
        scenario.disk(0).chmod("a", 0o644).expect("chmod");
        scenario.rescan(0);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(1, "a").as_deref(), Some("another"));
    }
}
