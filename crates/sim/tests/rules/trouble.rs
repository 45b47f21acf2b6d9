//! What is not in step is told of once, counts until it is mended, and stops nothing else.

use std::sync::Arc;

use folder::engine::Event;
use sim::{
    disk::{Failing, Fold},
    scenario::Scenario,
};
use tree::FileKind;

use crate::{SEEDS, assert_alike, noise};

/// What was told of a path: true for each time it was skipped, false for each time it was mended.
fn told(scenario: &Scenario, device: usize, wanted: &str) -> Vec<bool> {
    let told = |event: &Event| match event {
        Event::Skipped { path, .. } if path == wanted => Some(true),
        Event::Mended { path } if path == wanted => Some(false),
        _ => None,
    };
    scenario.events(device).iter().filter_map(|(_, event)| told(event)).collect()
}

/// How many paths the last agreement left out.
fn left_out(scenario: &Scenario, device: usize) -> Option<u64> {
    let skipped = |event: &Event| match event {
        Event::InSync { skipped, .. } => Some(*skipped),
        _ => None,
    };
    scenario.events(device).iter().rev().find_map(|(_, event)| skipped(event))
}

#[test]
fn e25_what_cannot_travel_is_told_once_and_counts_until_it_is_gone() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.disk(0).special("d/fifo", FileKind::Special).expect("can be made");
        scenario.write(0, "d/a", b"beside it");
        scenario.rescan(0);
        scenario.settle();
        for _ in 0..3 {
            scenario.rescan(0);
            scenario.settle();
        }
        assert_eq!(told(&scenario, 0, "d/fifo"), [true]);
        assert_eq!((left_out(&scenario, 0), left_out(&scenario, 1)), (Some(1), Some(0)));
        assert_eq!(scenario.text(1, "d/a").as_deref(), Some("beside it"));
        scenario.remove(0, "d/fifo");
        scenario.rescan(0);
        scenario.settle();
        assert_eq!(told(&scenario, 0, "d/fifo"), [true, false]);
        assert_eq!(left_out(&scenario, 0), Some(0));
    }
}

#[test]
fn e25_what_is_in_the_way_of_a_file_is_told_once_and_the_file_comes_when_it_goes() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.disk(1).special("a", FileKind::Special).expect("can be made");
        scenario.rescan(1);
        scenario.settle();
        scenario.write(0, "a", b"a file");
        scenario.settle();
        scenario.run(60 * 60 * 1000);
        assert_eq!(told(&scenario, 1, "a"), [true]);
        scenario.remove(1, "a");
        scenario.rescan(1);
        scenario.settle();
        assert_eq!(told(&scenario, 1, "a"), [true, false]);
        assert_eq!(scenario.text(1, "a").as_deref(), Some("a file"));
    }
}

#[test]
fn e25_trouble_below_a_directory_goes_with_it() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/e/a", b"beside it");
        scenario.disk(0).special("d/e/fifo", FileKind::Special).expect("can be made");
        scenario.rescan(0);
        scenario.settle();
        assert_eq!(told(&scenario, 0, "d/e/fifo"), [true]);
        scenario.remove(0, "d");
        scenario.settle();
        assert_eq!(told(&scenario, 0, "d/e/fifo"), [true, false]);
        assert_eq!(left_out(&scenario, 0), Some(0));
        assert_alike(&scenario, 2);
    }
}

#[test]
fn e9_a_directory_that_stays_for_what_cannot_travel_is_mended_when_that_goes() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/a", b"a");
        scenario.settle();
        scenario.disk(1).special("d/fifo", FileKind::Special).expect("can be made");
        scenario.rescan(1);
        scenario.settle();
        scenario.remove(0, "d");
        scenario.settle();
        assert_eq!(scenario.paths(1), ["d", "d/fifo"]);
        assert_eq!(told(&scenario, 1, "d"), [true]);
        scenario.remove(1, "d/fifo");
        scenario.rescan(1);
        scenario.settle();
        // It is tried again by itself.
        scenario.run(11 * 60 * 1000);
        scenario.settle();
        assert_eq!(scenario.paths(1), [""; 0]);
        assert_eq!(told(&scenario, 1, "d"), [true, false]);
    }
}

#[test]
fn e25_contents_that_nobody_has_are_mended_when_somebody_comes_who_has_them() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 3);
        scenario.cut(0, 1);
        let large: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        scenario.write(1, "kept", b"all know it");
        scenario.settle();
        scenario.write(1, "large", &large);
        // The record arrives at 2, the contents do not.
        scenario.run(12);
        scenario.cut(1, 2);
        scenario.link(0, 2);
        scenario.settle();
        let skipped = told(&scenario, 2, "large");
        scenario.link(1, 2);
        scenario.settle();
        assert_alike(&scenario, 3);
        assert!(skipped.is_empty() || told(&scenario, 2, "large") == [true, false]);
        assert_eq!(left_out(&scenario, 2), Some(0));
    }
}

#[test]
fn e25_each_path_that_waits_for_contents_that_nobody_has_is_told_of() {
    // Found by `--faults all --from 21005486`: the second path of a content that is waited for already was not.
    for seed in SEEDS {
        let mut scenario = Scenario::folding(seed, &[Fold::None, Fold::Case, Fold::None]);
        scenario.write(0, "x/a", b"its twin");
        scenario.settle();
        for path in ["X/b", "X/c"] {
            scenario.write(0, path, b"what the one between cannot have");
            scenario.settle();
            assert_eq!(told(&scenario, 2, path), [true], "seed {seed}, {path}");
        }
        scenario.link(0, 2);
        scenario.settle();
        assert_eq!(scenario.tree(0), scenario.tree(2), "seed {seed}");
        for path in ["X/b", "X/c"] {
            assert_eq!(told(&scenario, 2, path), [true, false], "seed {seed}, {path}");
        }
    }
}

#[test]
fn e25_what_was_done_though_the_disk_said_otherwise_is_mended() {
    // Found by `--faults all --from 102086`: a directory is made, and then looking at it fails.
    let mut met = 0;
    for seed in SEEDS {
        for nth in 0..20 {
            let mut scenario = Scenario::linked(seed, 2);
            scenario.forget();
            let disk = scenario.disk(1);
            let (breaks, mends) = (Arc::clone(&disk), Arc::clone(&disk));
            disk.before_call(nth, move || breaks.break_all(true));
            disk.before_call(nth + 1, move || mends.break_all(false));
            scenario.write(0, "d/a", b"a");
            scenario.run(60_000);
            scenario.settle();
            assert_alike(&scenario, 2);
            let mut told = std::collections::BTreeSet::new();
            for (_, event) in scenario.events(1) {
                match event {
                    Event::Skipped { path, .. } => {
                        met += 1;
                        told.insert(path.clone());
                    }
                    Event::Mended { path } => drop(told.remove(path)),
                    _ => {}
                }
            }
            assert_eq!(told, std::collections::BTreeSet::new(), "seed {seed}, call {nth}");
        }
    }
    assert!(met > 0, "nothing went wrong");
}

/// Many pieces of a file cannot be read at once, for one moment: it is said once, and tried again soon.
#[test]
fn e22_what_could_not_be_read_for_a_peer_comes_soon() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.cut(0, 1);
        scenario.write(0, "large", &noise(1, 1_600_000));
        scenario.settle();
        let disk = scenario.disk(0);
        disk.fail_one(Failing::NoHandles, 0);
        scenario.link(0, 1);
        scenario.run(10_000);
        assert!(disk.concerned() > 0, "seed {seed}");
        assert_alike(&scenario, 2);
        assert_eq!(told(&scenario, 0, "large"), [true, false], "seed {seed}");
    }
}

/// After an error of the disk a file reads otherwise, under the very stat that it had: that is nobody's edit.
#[test]
fn e13_what_only_a_failing_disk_has_changed_is_given_to_nobody() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.cut(0, 1);
        scenario.write(0, "f", b"sound");
        scenario.settle();
        // Long enough for its stat to be believed.
        scenario.skip(10 * 60 * 1000);
        scenario.rescan(0);
        scenario.settle();
        let disk = scenario.disk(0);
        disk.rot("f", b"s0und").expect("is there");
        disk.fail_one(Failing::Broken, 0);
        scenario.link(0, 1);
        scenario.run(30_000);
        assert!(!scenario.has(1, b"s0und"), "seed {seed}");
        assert_eq!(told(&scenario, 0, "f"), [true, true], "seed {seed}");
        // It was the cable.
        disk.rot("f", b"sound").expect("is there");
        scenario.run(10 * 60 * 1000);
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(1, "f").as_deref(), Some("sound"), "seed {seed}");
        assert_eq!(told(&scenario, 0, "f").last(), Some(&false), "seed {seed}");
    }
}
