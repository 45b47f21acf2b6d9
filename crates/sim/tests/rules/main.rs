//! The engine's rules, each tried over the real engine with virtual disks. A test bears the number of the
//! rule whose breach it would notice.

mod apart;
mod ask;
mod away;
mod brake;
mod built;
mod conflicts;
mod dirs;
mod disk;
mod ends;
mod failing;
mod forged;
mod forgotten;
mod hostile;
mod ignored;
mod keeping;
mod kinds;
mod memory;
mod mutations;
mod power;
mod recover;
mod replicas;
mod returns;
mod roles;
mod travel;
mod trouble;
mod twins;

use std::fmt::Display;

use sim::{fault::Fault, history, plan::Action, scenario::Scenario};

/// Seeds that a scenario is played with, since delays differ between them.
const SEEDS: std::ops::Range<u64> = 0..8;

/// True if all devices show the same tree.
#[track_caller]
fn assert_alike(scenario: &Scenario, devices: usize) {
    for device in 1..devices {
        assert_eq!(scenario.tree(0), scenario.tree(device), "devices 0 and {device} differ");
    }
}

/// Asserts that files in a device's tree hold these texts, under whatever names; `story` says in which seed or run.
#[track_caller]
fn assert_shows(scenario: &Scenario, device: usize, story: impl Display, texts: &[&str]) {
    let paths = scenario.paths(device);
    let shown: Vec<_> = paths.iter().filter_map(|path| scenario.text(device, path)).collect();
    for text in texts {
        assert!(
            shown.iter().any(|it| it == text),
            "{story}: device {device}: {text} is not in {shown:?}"
        );
    }
}

/// Bytes that compress to nothing smaller and are unlike any other seed's.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_history_is_the_same_when_somebody_watches() {
    let plan = sim::plan(7, "all".parse().expect("is a list of faults"));
    let [watched, alone] = [true, false].map(|verbose| history::play(&plan, None, verbose).trace);
    assert_eq!(watched, alone);
    assert_eq!(watched, history::play_undecoded(&plan).trace);
}

/// Members are admitted, put out, admitted again and get other roles while users edit, processes die, and indexes are
/// lost, copied and set back.
#[test]
fn e7_histories_in_which_members_change_end_alike() {
    let faults = "links,crash,index,members".parse().expect("is a list of faults");
    let mut changes = 0;
    for seed in 0..30 {
        let plan = sim::plan(seed, faults);
        changes += plan.steps.iter().filter(|it| matches!(it.what, Action::Member(..))).count();
        assert_eq!(history::play(&plan, None, false).failure, None, "seed {seed}");
    }
    assert!(changes > 60, "{changes}");
    // What else is drawn from a seed is the same in a group and in a session.
    let (group, session) = (sim::plan(3, faults), sim::plan(3, faults.without(Fault::Members)));
    let steps = group.steps.iter().filter(|it| !matches!(it.what, Action::Member(..)));
    let steps: Vec<_> = steps.map(|step| format!("{step:?}")).collect();
    assert_eq!(steps, session.steps.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>());
}

/// Devices take new keys, also without anybody hearing of it for a while, and are set back to older ones.
#[test]
fn e7_histories_in_which_keys_change_end_alike() {
    let faults = "links,crash,index,members,keys".parse().expect("is a list of faults");
    let mut changes = 0;
    for seed in 0..30 {
        let plan = sim::plan(seed, faults);
        changes += plan.steps.iter().filter(|it| matches!(it.what, Action::Rotate(..))).count();
        assert_eq!(history::play(&plan, None, false).failure, None, "seed {seed}");
    }
    assert!(changes > 60, "{changes}");
}

/// Deletions are forgotten in the middle of such histories, and devices come back that were away, or as they were before.
#[test]
fn e4_histories_in_which_years_pass_end_alike() {
    let faults = "links,crash,index,members,years".parse().expect("is a list of faults");
    let mut deleted_again = 0;
    for seed in (0..16).chain([69]) {
        let plan = sim::plan(seed, faults);
        assert!(plan.years.is_some());
        let outcome = history::play(&plan, None, false);
        assert_eq!(outcome.failure, None, "seed {seed}");
        deleted_again += outcome.deleted_again;
    }
    assert!(deleted_again > 0, "nothing came back");
}
