//! Losses of power that take what users wrote last: it was neither deleted nor edited.

use sim::{fault::Fault, history, scenario::Scenario};

use crate::{SEEDS, assert_shows};

/// What a user wrote right before the power failed may be gone from the disk, or be as it was before, though others were
/// told: nobody has deleted it, nor edited it back. Others give it back. What was written long before is on the disk:
/// if it is not there, it was deleted.
#[test]
fn e12_what_a_loss_of_power_took_was_neither_deleted_nor_edited() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "edited", b"before");
        scenario.write(0, "deleted", b"deleted");
        scenario.settle();
        scenario.skip(10 * 60 * 1000);
        scenario.settle();
        scenario.write(0, "d/new", b"new");
        scenario.write(0, "edited", b"after");
        scenario.write(0, "torn", b"torn");
        scenario.settle();
        scenario.crash(0);
        scenario.restart_machine(0);
        scenario.remove(0, "d/new");
        scenario.remove(0, "d");
        scenario.write(0, "edited", b"before");
        scenario.write(0, "torn", b"");
        scenario.remove(0, "deleted");
        scenario.start(0);
        scenario.link(0, 1);
        scenario.settle();
        for device in [0, 1] {
            assert_eq!(scenario.text(device, "d/new").as_deref(), Some("new"), "seed {seed}");
            assert_eq!(scenario.text(device, "edited").as_deref(), Some("after"), "seed {seed}");
            assert_eq!(scenario.text(device, "deleted"), None, "seed {seed}");
        }
        // What is neither what it was nor what it was before may be somebody's edit: both are there.
        let texts: Vec<_> = (scenario.paths(1).iter())
            .filter(|path| path.starts_with("torn"))
            .map(|path| scenario.text(1, path).unwrap_or_default())
            .collect();
        assert!(texts.iter().any(|text| text == "torn"), "seed {seed}: {texts:?}");
        assert_eq!(scenario.tree(0), scenario.tree(1), "seed {seed}");
    }
}

/// A run that comes to its end leaves nothing to doubt: what is deleted until the next one is deleted, also if the machine
/// was started anew meanwhile.
#[test]
fn e12_what_is_deleted_after_a_stop_in_good_order_is_deleted() {
    for (crashes, is_there) in [(false, false), (true, true)] {
        let mut scenario = Scenario::linked(1, 2);
        scenario.write(0, "a", b"a");
        scenario.settle();
        if crashes {
            scenario.crash(0);
        } else {
            scenario.stop(0);
        }
        scenario.restart_machine(0);
        scenario.remove(0, "a");
        scenario.start(0);
        scenario.link(0, 1);
        scenario.settle();
        assert_eq!(scenario.text(1, "a").is_some(), is_there, "crashes: {crashes}");
        assert_eq!(scenario.tree(0), scenario.tree(1));
    }
}

/// Device 0 and 1 have what was there before, then what device 0 wrote right before its power failed, which is not on its
/// disk any more. Device 0 does not run.
fn after_a_loss(seed: u64) -> Scenario {
    let mut scenario = Scenario::linked(seed, 2);
    scenario.write(0, "edited", b"before");
    scenario.write(0, "d/x", b"x");
    scenario.settle();
    scenario.skip(10 * 60 * 1000);
    scenario.settle();
    scenario.write(0, "edited", b"after");
    scenario.write(0, "new", b"new");
    scenario.settle();
    scenario.crash(0);
    scenario.restart_machine(0);
    scenario.write(0, "edited", b"before");
    scenario.remove(0, "new");
    scenario
}

/// Both meet again, and have what was lost on one.
fn assert_given_back(scenario: &mut Scenario, what: &str) {
    scenario.link(0, 1);
    scenario.settle();
    for device in [0, 1] {
        assert_eq!(scenario.text(device, "edited").as_deref(), Some("after"), "{what}");
        assert_eq!(scenario.text(device, "new").as_deref(), Some("new"), "{what}");
        assert_eq!(scenario.text(device, "d/x").as_deref(), Some("x"), "{what}");
    }
    assert_eq!(scenario.tree(0), scenario.tree(1), "{what}");
}

/// A run after the loss that ends before all was looked at, in whatever way, leaves what it did not look at in doubt.
#[test]
fn e12_what_a_loss_of_power_took_is_found_missing_by_a_later_run_too() {
    for seed in SEEDS {
        for (millis, stops) in (0..6).flat_map(|millis| [(millis, false), (millis, true)]) {
            let mut scenario = after_a_loss(seed);
            scenario.start(0);
            scenario.run(millis);
            if stops {
                scenario.stop(0);
            } else {
                scenario.crash(0);
            }
            scenario.start(0);
            assert_given_back(&mut scenario, &format!("seed {seed}, {millis} ms, stops: {stops}"));
        }
    }
}

/// What cannot be read when the rest is looked at stays in doubt until it can be, also over another start.
#[test]
fn e12_what_cannot_be_looked_at_after_a_loss_of_power_stays_in_doubt() {
    for seed in SEEDS {
        for restarts in [false, true] {
            let mut scenario = after_a_loss(seed);
            scenario.disk(0).break_all(true);
            scenario.start(0);
            scenario.run(10_000);
            scenario.disk(0).break_all(false);
            if restarts {
                scenario.stop(0);
                scenario.start(0);
            } else {
                scenario.run(60_000);
            }
            assert_given_back(&mut scenario, &format!("seed {seed}, restarts: {restarts}"));
        }
    }
}

/// A renamed directory that has its old name again brought nothing below it with its new one: nobody deleted that.
#[test]
fn e12_a_rename_that_a_loss_of_power_undid_deletes_nothing() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/x", b"x");
        scenario.write(0, "d/e/y", b"y");
        scenario.settle();
        scenario.skip(10 * 60 * 1000);
        scenario.settle();
        scenario.rename(0, "d", "moved");
        scenario.settle();
        scenario.crash(0);
        scenario.restart_machine(0);
        scenario.rename(0, "moved", "d");
        scenario.start(0);
        scenario.link(0, 1);
        scenario.settle();
        assert_eq!(scenario.tree(0), scenario.tree(1), "seed {seed}");
        assert_shows(&scenario, 0, seed, &["x", "y"]);
    }
}

/// What meets an edit comes out and goes back; it had gone back only as far as the disk's cache when the intent was
/// forgotten, and after a loss of power was taken for deleted.
#[test]
fn e12_an_edit_that_went_back_is_back_also_after_a_loss_of_power() {
    let faults = [Fault::Power, Fault::Races].into_iter().collect();
    let plan = sim::plan(286, faults);
    assert_eq!(history::play(&plan, None, false).failure, None);
}
