//! Rule E12: a device ends while it brings a change, and ends again while it recovers, at every point that there
//! is: before each call that changes its disk or makes it durable, and after each millisecond, between two jobs and
//! before what they did is in the index.
//!
//! By default all points are tried once, and of the pairs a selection; `KIN_SIM_ENDS=all` tries all pairs.
#![allow(clippy::print_stdout, reason = "says how much was tried")]

use std::sync::Arc;

use sim::scenario::Scenario;
use tree::{Disk as _, Place};

use crate::{
    assert_shows,
    kinds::{self, Kind},
};

/// How a device ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// As by kill -9: what it has written is there.
    Killed,
    /// Its disk loses what was not synced.
    Power,
    /// The same, and nothing tells that the machine was off: what the order of rule E12 holds alone, without doubts.
    DiskAlone,
}

/// Where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    BeforeChange(u64),
    After(u64),
}

/// Milliseconds in which a small change is brought.
const MILLIS: u64 = 40;
/// Longer than any of these changes takes, in virtual milliseconds.
const LONG: u64 = 5_000;
/// First points and second points, before changes and between, of which all pairs are tried if not all are.
const SELECTED: (usize, usize) = (10, 4);

/// Lets device 1 end at a point; false if it has done everything before that.
fn end(scenario: &mut Scenario, how: How, at: End) -> bool {
    if how != How::Killed {
        scenario.disk(1).forget_unsynced();
        scenario.loses_power(1);
    }
    match at {
        End::BeforeChange(nth) => {
            let disk = scenario.disk(1);
            let dies = Arc::clone(&disk);
            disk.before_change(nth, move || dies.cut_power());
            scenario.run(LONG);
        }
        End::After(millis) => {
            scenario.run(millis);
            scenario.crash(1);
        }
    }
    let has_ended = !scenario.is_running(1);
    if has_ended && how == How::Power {
        scenario.restart_machine(1);
    }
    has_ended
}

/// Plays one history; returns how often the device ended.
fn play(kind: &Kind, how: How, ends: [Option<End>; 2]) -> usize {
    let (mut scenario, wanted) = kind.begin(3);
    let mut ended = 0;
    for at in ends.into_iter().flatten() {
        if ended == 0 {
            scenario.link(0, 1);
        } else {
            scenario.start(1);
        }
        if !end(&mut scenario, how, at) {
            break;
        }
        ended += 1;
    }
    if !scenario.is_running(1) {
        scenario.start(1);
    }
    scenario.settle();
    let story = format!("{how:?} {ends:?}");
    kind.judge(&scenario, &wanted, &story);
    let mut left = scenario.disk(1).own_files().expect("list");
    left.retain(|(place, _)| matches!(place, Place::Swap(_) | Place::Built(..)));
    assert_eq!(left, [], "{}: {story}: is left in .kin/swap", kind.name);
    let texts: Vec<&str> = kind.meanwhile.iter().map(|(_, text)| *text).collect();
    assert_shows(&scenario, 1, story, &texts);
    ended
}

/// All points of a run at which it can end, each of them tried: of the first one, or of that which follows a first end.
fn points(kind: &Kind, how: How, first: Option<End>) -> Vec<End> {
    let least = 1 + usize::from(first.is_some());
    let ends_at = |at: End| match first {
        Some(first) => play(kind, how, [Some(first), Some(at)]) >= least,
        None => play(kind, how, [Some(at), None]) >= least,
    };
    let changes = (0..).map(End::BeforeChange).take_while(|at| ends_at(*at));
    changes.chain((0..MILLIS).map(End::After)).collect()
}

/// Some points, spread evenly over all.
fn selection(points: &[End]) -> Vec<End> {
    let is_change = |at: &&End| matches!(at, End::BeforeChange(_));
    let (changes, between): (Vec<&End>, Vec<&End>) = points.iter().partition(is_change);
    let spread = |of: Vec<&End>, most: usize| {
        let step = of.len().div_ceil(most).max(1);
        of.into_iter().copied().step_by(step).collect::<Vec<End>>()
    };
    [spread(changes, SELECTED.0), spread(between, SELECTED.1)].concat()
}

/// Each point once, then each pair, or a selection of them.
#[track_caller]
fn everywhere(kind: &Kind) {
    let all = std::env::var("KIN_SIM_ENDS").is_ok_and(|wanted| wanted == "all");
    for how in [How::Killed, How::Power, How::DiskAlone] {
        let once = points(kind, how, None);
        let first = if all { once.clone() } else { selection(&once) };
        let mut twice = 0;
        for at in first {
            // A recovery and what follows it do about as much as the first run.
            let second = if all { points(kind, how, Some(at)) } else { selection(&once) };
            let plays = |then: &&End| play(kind, how, [Some(at), Some(**then)]) == 2;
            twice += second.iter().filter(plays).count();
        }
        println!("{how:?}: {} points, {twice} pairs", once.len());
        assert!(once.len() > 2 && twice > 20, "{} points, {twice} pairs", once.len());
    }
}

#[test]
fn e12_two_ends_while_a_file_is_made() {
    everywhere(&kinds::CREATE);
}

#[test]
fn e12_two_ends_while_a_file_is_replaced() {
    everywhere(&kinds::REPLACE);
}

#[test]
fn e12_two_ends_while_a_file_is_deleted() {
    everywhere(&kinds::DELETE);
}

#[test]
fn e12_two_ends_while_a_file_is_renamed() {
    everywhere(&kinds::RENAME);
}

#[test]
fn e12_two_ends_while_directories_are_made() {
    everywhere(&kinds::MAKE_DIRS);
}

#[test]
fn e12_two_ends_while_a_tree_of_directories_is_made() {
    everywhere(&kinds::MAKE_TREE);
}

#[test]
fn e12_two_ends_while_directories_are_removed() {
    everywhere(&kinds::REMOVE_DIRS);
}

#[test]
fn e12_two_ends_while_a_directory_is_renamed() {
    everywhere(&kinds::RENAME_DIR);
}

#[test]
fn e12_two_ends_while_a_conflict_is_kept() {
    everywhere(&kinds::CONFLICT);
}

#[test]
fn e12_two_ends_while_a_mode_is_set() {
    everywhere(&kinds::METADATA);
}

#[test]
fn e12_two_ends_while_links_are_made() {
    everywhere(&kinds::SYMLINK);
}

#[test]
fn e12_two_ends_while_a_large_file_is_made() {
    everywhere(&kinds::LARGE_NEW);
}

#[test]
fn e12_two_ends_while_a_large_file_is_changed() {
    everywhere(&kinds::LARGE_EDIT);
}

#[test]
fn e12_two_ends_while_a_directory_takes_a_files_place() {
    everywhere(&kinds::FILE_TO_DIR);
}

#[test]
fn e12_two_ends_while_a_file_takes_a_directorys_place() {
    everywhere(&kinds::DIR_TO_FILE);
}

#[test]
fn e12_two_ends_while_a_link_takes_a_files_place() {
    everywhere(&kinds::FILE_TO_LINK);
}

#[test]
fn e12_two_ends_while_many_files_are_changed() {
    everywhere(&kinds::MANY);
}
