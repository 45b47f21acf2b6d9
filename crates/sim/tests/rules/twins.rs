//! Rule E9 and attack 26: disks that take different names for the same.

use folder::engine::Event;
use sim::{disk::Fold, history, scenario::Scenario};

use crate::SEEDS;

/// Composed, and its mark apart.
const WHOLE: &str = "\u{c4}";
const PARTS: &str = "A\u{308}";

/// What a device says is not in step now, and why.
fn lacks(scenario: &Scenario, device: usize) -> Vec<(String, String)> {
    let mut lacks = std::collections::BTreeMap::new();
    for (_, event) in scenario.events(device) {
        match event {
            Event::Skipped { path, reason } => drop(lacks.insert(path.clone(), reason.clone())),
            Event::Mended { path } => drop(lacks.remove(path)),
            _ => {}
        }
    }
    lacks.into_iter().collect()
}

/// Two devices, the second of which folds names, in step with two files that are one to it.
fn with_twins(seed: u64, fold: Fold, twins: (&str, &str)) -> Scenario {
    let mut scenario = Scenario::folding(seed, &[Fold::None, fold]);
    scenario.write(0, twins.0, b"the first");
    scenario.settle();
    scenario.write(0, twins.1, b"the second");
    scenario.settle();
    scenario
}

#[test]
fn attack_26_twins_stay_where_both_can_be_and_the_second_is_reported_where_not() {
    for (fold, twins) in [(Fold::Case, ("a", "A")), (Fold::Forms, (WHOLE, PARTS))] {
        for seed in SEEDS {
            let mut scenario = with_twins(seed, fold, twins);
            assert_eq!(scenario.paths(1), [twins.0]);
            assert_eq!(scenario.text(1, twins.0).as_deref(), Some("the first"));
            let told = lacks(&scenario, 1);
            assert!(matches!(&told[..], [(path, _)] if path == twins.1), "{told:?}");
            assert!(told[0].1.contains("rename one of them"), "{told:?}");
            // Both say that they agree, and go on with all else; and nothing of it is forgotten by a restart.
            scenario.forget();
            scenario.stop(1);
            scenario.start(1);
            scenario.settle();
            scenario.write(1, "other", b"something else");
            scenario.settle();
            assert_eq!(scenario.text(0, "other").as_deref(), Some("something else"));
            assert_eq!(scenario.paths(0).len(), 3);
            assert_eq!(scenario.text(0, twins.1).as_deref(), Some("the second"));
            assert_eq!(scenario.copies(0), Vec::<String>::new());
            // The one that is here is edited where the other is not.
            scenario.write(1, twins.0, b"edited");
            scenario.settle();
            assert_eq!(scenario.text(0, twins.0).as_deref(), Some("edited"));
            assert_eq!(scenario.text(0, twins.1).as_deref(), Some("the second"));
        }
    }
}

#[test]
fn attack_26_a_twin_comes_when_the_other_is_gone() {
    for seed in SEEDS {
        for by in [0, 1] {
            let mut scenario = with_twins(seed, Fold::Case, ("d/a", "d/A"));
            scenario.remove(by, "d/a");
            scenario.settle();
            assert_eq!(scenario.paths(1), ["d", "d/A"], "seed {seed}, removed by {by}");
            assert_eq!(scenario.paths(0), ["d", "d/A"]);
            assert_eq!(scenario.text(1, "d/A").as_deref(), Some("the second"));
            assert_eq!(lacks(&scenario, 1), []);
        }
    }
}

#[test]
fn attack_26_directories_that_are_one_to_a_disk_are_not_mixed() {
    for seed in SEEDS {
        let mut scenario = with_twins(seed, Fold::Case, ("Photos/one", "photos/two"));
        assert_eq!(scenario.paths(1), ["Photos", "Photos/one"]);
        let told = lacks(&scenario, 1);
        let named: Vec<_> = told.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(named, ["photos", "photos/two"], "{told:?}");
        // The folder is looked through again and again meanwhile.
        for _ in 0..3 {
            scenario.skip(11 * 60 * 1000);
            scenario.run(30_000);
        }
        scenario.remove(0, "Photos");
        let before = scenario.now();
        scenario.settle();
        assert_eq!(scenario.paths(1), ["photos", "photos/two"], "seed {seed}");
        assert!(scenario.now() < before + 10_000, "it came after {} ms", scenario.now() - before);
        scenario.write(0, "Photos/one", b"the first");
        scenario.settle();
        assert_eq!(scenario.paths(1), ["photos", "photos/two"]);
        scenario.rename(0, "photos", "pictures");
        scenario.settle();
        assert_eq!(scenario.paths(1), ["Photos", "Photos/one", "pictures", "pictures/two"]);
        assert_eq!(lacks(&scenario, 1), []);
    }
}

#[test]
fn attack_26_what_lies_deep_below_a_twin_waits_in_peace_and_is_told_of_once() {
    // Found by `--faults all --from 10007301`: both waited for ever, and were never in step.
    for seed in SEEDS {
        let mut scenario = with_twins(seed, Fold::Case, ("Photos/one", "photos/a/b/two"));
        scenario.write(0, "photos/a/three", b"the third");
        scenario.settle();
        let below = ["photos", "photos/a", "photos/a/b", "photos/a/b/two", "photos/a/three"];
        let told = lacks(&scenario, 1);
        let named: Vec<_> = told.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(named, below, "seed {seed}");
        assert!(told[1..].iter().all(|(_, why)| why.contains("\"photos\"")), "{told:?}");
        // Nothing more is said of them however often they are tried.
        scenario.forget();
        for _ in 0..3 {
            scenario.skip(11 * 60 * 1000);
            scenario.run(30_000);
        }
        assert_eq!(lacks(&scenario, 1), [], "seed {seed}");
        scenario.stop(1);
        scenario.start(1);
        scenario.settle();
        assert_eq!(lacks(&scenario, 1), told, "seed {seed}");
        scenario.remove(0, "photos/a/three");
        scenario.remove(0, "Photos");
        scenario.settle();
        assert_eq!(scenario.paths(1), ["photos", "photos/a", "photos/a/b", "photos/a/b/two"]);
        let mended = |path: &str| {
            let mut events = scenario.events(1).iter();
            events.any(|(_, event)| matches!(event, Event::Mended { path: of } if of == path))
        };
        assert!(below.into_iter().all(mended), "seed {seed}");
    }
}

#[test]
fn e9_a_change_of_case_is_a_rename_on_all_disks() {
    for seed in SEEDS {
        for (by, folds) in [(0, [Fold::None, Fold::Case]), (1, [Fold::Case, Fold::Case])] {
            let mut scenario = Scenario::folding(seed, &folds);
            scenario.write(0, "d/readme", b"text");
            scenario.settle();
            scenario.rename(by, "d/readme", "d/README");
            scenario.settle();
            scenario.rename(by, "d", "D");
            scenario.settle();
            for device in [0, 1] {
                assert_eq!(scenario.paths(device), ["D", "D/README"], "seed {seed}, by {by}");
                assert_eq!(lacks(&scenario, device), []);
            }
        }
    }
}

/// Who has a file that another device could not put in place hears of it: it is not to take the folder for copied.
#[test]
fn e25_what_could_not_be_put_in_place_is_told_to_all() {
    for seed in SEEDS {
        let mut scenario = Scenario::folding(seed, &[Fold::None, Fold::Case]);
        scenario.write(0, "name", b"one");
        scenario.write(0, "Name", b"other");
        scenario.settle();
        let lost = |scenario: &Scenario, device: usize| {
            let events = scenario.events(device).iter().rev();
            let mut lost = events.filter_map(|(_, event)| match event {
                Event::InSync { lost, .. } => Some(*lost),
                _ => None,
            });
            lost.next().expect("they agree")
        };
        let both = [lost(&scenario, 0), lost(&scenario, 1)];
        assert_eq!(both, [(0, 1), (1, 0)], "seed {seed}");
        scenario.remove(0, "name");
        scenario.settle();
        let both = [lost(&scenario, 0), lost(&scenario, 1)];
        assert_eq!(both, [(0, 0), (0, 0)], "seed {seed}");
    }
}

/// What had a twin, and then lies in a directory that has one: the first reason is told no longer. So it was in seed 69742,
/// where the directory in between is wanted for the sake of a file in it alone.
#[test]
fn e9_what_waits_for_a_twin_of_its_directory_has_none_itself() {
    for seed in SEEDS {
        let folds = [Fold::None, Fold::Case, Fold::Case];
        let mut scenario = Scenario::folding(seed, &folds);
        scenario.cut(1, 2);
        scenario.write(1, "B/B/x", b"one");
        scenario.write(2, "B/b/B", b"other");
        scenario.settle();
        scenario.link(1, 2);
        scenario.settle();
        assert!(lacks(&scenario, 1).iter().any(|(path, _)| path == "B/b"));
        scenario.cut(0, 1);
        scenario.remove(0, "B");
        scenario.write(0, "b/n", b"in its place");
        scenario.settle();
        // What takes the place of the directory is here before its removal counts.
        scenario.remove(1, "B");
        scenario.link(0, 1);
        scenario.settle();
        let paths = scenario.paths(1);
        for (path, reason) in lacks(&scenario, 1) {
            let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
            let is_here = dir.is_empty() || paths.iter().any(|here| here == dir);
            let waits = reason.starts_with("comes when");
            assert!(is_here || waits, "seed {seed}: {path}: {reason}; there are {paths:?}");
        }
    }
    let plan = sim::plan(69_742, "all".parse().expect("is a list of faults"));
    assert_eq!(history::play(&plan, None, false).failure, None);
}
