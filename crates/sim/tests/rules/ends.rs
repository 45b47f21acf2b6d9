//! Rule E12: a device ends while it brings a change, and ends again while it recovers, at every point that there
//! is: before each call that changes its disk or makes it durable, and after each millisecond, between two jobs and
//! before what they did is in the index.
//!
//! By default all points are tried once, and of the pairs a selection; `KIN_SIM_ENDS=all` tries all pairs.

use std::{collections::BTreeSet, sync::Arc};

use sim::{disk::Node, history::Edit, scenario::Scenario};

use crate::{assert_alike, noise};

/// A change that the other device brings while it is hindered.
struct Kind {
    /// What both have before.
    before: fn(&mut Scenario),
    /// Made on device 0.
    change: fn(&mut Scenario),
    /// Made on device 1 at the same time; what it writes must be found in the end.
    meanwhile: &'static [(&'static str, &'static str)],
}

/// How a device ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// As by kill -9: what it has written is there.
    Killed,
    /// Its disk loses what was not synced.
    Power,
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

fn small(scenario: &mut Scenario) {
    scenario.write(0, "f", b"the first");
}

fn large(scenario: &mut Scenario) {
    scenario.write(0, "f", &noise(1, 1_600_000));
}

fn many(scenario: &mut Scenario, files: u32, text: &str) {
    for file in 0..files {
        scenario.write(0, &format!("d{}/f{file}", file % 4), format!("{text} {file}").as_bytes());
    }
}

const BASE: Kind = Kind { before: small, change: |_| {}, meanwhile: &[] };

/// What is to be on a device in the end, if nothing was changed there.
fn wanted(scenario: &Scenario) -> Vec<(String, Node)> {
    scenario.tree(0).into_iter().collect()
}

/// Lets device 1 end at a point; false if it has done everything before that.
fn end(scenario: &mut Scenario, how: How, at: End) -> bool {
    if how == How::Power {
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
    let mut scenario = Scenario::linked(3, 2);
    (kind.before)(&mut scenario);
    scenario.settle();
    scenario.cut(0, 1);
    (kind.change)(&mut scenario);
    for (path, text) in kind.meanwhile {
        scenario.write(1, path, text.as_bytes());
    }
    scenario.settle();
    let wanted = wanted(&scenario);
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
    if ended == 0 {
        scenario.link(0, 1);
    }
    if !scenario.is_running(1) {
        scenario.start(1);
    }
    scenario.settle();
    let story = format!("{how:?} {ends:?}");
    assert_alike(&scenario, 2);
    assert_eq!(scenario.lost(), Vec::<String>::new(), "{story}");
    if kind.meanwhile.is_empty() {
        let found: Vec<_> = scenario.tree(1).into_iter().collect();
        assert_eq!(found, wanted, "{story}");
    }
    let shown: BTreeSet<String> =
        scenario.paths(1).iter().filter_map(|path| scenario.text(1, path)).collect();
    for (_, text) in kind.meanwhile {
        assert!(shown.contains(*text), "{story}: no {text} in {shown:?}");
    }
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
    for how in [How::Killed, How::Power] {
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
    everywhere(&Kind { change: |it| it.write(0, "new", b"new"), ..BASE });
}

#[test]
fn e12_two_ends_while_a_file_is_replaced() {
    everywhere(&Kind { change: |it| it.write(0, "f", b"the second"), ..BASE });
}

#[test]
fn e12_two_ends_while_a_file_is_deleted() {
    everywhere(&Kind { change: |it| it.remove(0, "f"), ..BASE });
}

#[test]
fn e12_two_ends_while_a_file_is_renamed() {
    everywhere(&Kind { change: |it| it.rename(0, "f", "g"), ..BASE });
}

#[test]
fn e12_two_ends_while_directories_are_made() {
    let change = |it: &mut Scenario| {
        it.write(0, "d/e/new", b"new");
        it.edit(0, &Edit::MakeDir("d/empty".to_owned()));
        it.chmod(0, "d/empty", 0o550);
    };
    everywhere(&Kind { change, ..BASE });
}

#[test]
fn e12_two_ends_while_directories_are_removed() {
    let before = |it: &mut Scenario| it.write(0, "d/e/f", b"the first");
    everywhere(&Kind { before, change: |it| it.remove(0, "d"), ..BASE });
}

#[test]
fn e12_two_ends_while_a_directory_is_renamed() {
    let before = |it: &mut Scenario| it.write(0, "d/e/f", b"the first");
    everywhere(&Kind { before, change: |it| it.rename(0, "d", "g"), ..BASE });
}

#[test]
fn e12_two_ends_while_a_conflict_is_kept() {
    let change = |it: &mut Scenario| it.write(0, "f", b"by the one");
    everywhere(&Kind { change, meanwhile: &[("f", "by the other")], ..BASE });
}

#[test]
fn e12_two_ends_while_a_mode_is_set() {
    everywhere(&Kind { change: |it| it.chmod(0, "f", 0o751), ..BASE });
}

#[test]
fn e12_two_ends_while_links_are_made() {
    let before = |it: &mut Scenario| it.edit(0, &Edit::Link("there".to_owned(), "f".to_owned()));
    let change = |it: &mut Scenario| {
        it.edit(0, &Edit::Link("new".to_owned(), "f".to_owned()));
        it.remove(0, "there");
        it.edit(0, &Edit::Link("there".to_owned(), "elsewhere".to_owned()));
    };
    everywhere(&Kind { before, change, ..BASE });
}

#[test]
fn e12_two_ends_while_a_large_file_is_made() {
    everywhere(&Kind { change: |it| it.write(0, "new", &noise(2, 1_600_000)), ..BASE });
}

#[test]
fn e12_two_ends_while_a_large_file_is_changed() {
    let change = |it: &mut Scenario| {
        let mut bytes = noise(1, 1_600_000);
        bytes.splice(700_000..700_100, b"an edit".iter().copied());
        it.write(0, "f", &bytes);
    };
    everywhere(&Kind { before: large, change, ..BASE });
}

#[test]
fn e12_two_ends_while_a_directory_takes_a_files_place() {
    let change = |it: &mut Scenario| {
        it.remove(0, "f");
        it.write(0, "f/inside", b"inside");
    };
    everywhere(&Kind { change, ..BASE });
}

#[test]
fn e12_two_ends_while_a_file_takes_a_directorys_place() {
    let before = |it: &mut Scenario| it.write(0, "d/inside", b"inside");
    let change = |it: &mut Scenario| {
        it.remove(0, "d");
        it.write(0, "d", b"a file");
    };
    everywhere(&Kind { before, change, ..BASE });
}

#[test]
fn e12_two_ends_while_a_link_takes_a_files_place() {
    let change = |it: &mut Scenario| {
        it.remove(0, "f");
        it.edit(0, &Edit::Link("f".to_owned(), "elsewhere".to_owned()));
    };
    everywhere(&Kind { change, ..BASE });
}

#[test]
fn e12_two_ends_while_many_files_are_changed() {
    everywhere(&Kind {
        before: |it| many(it, 20, "the first"),
        change: |it| many(it, 40, "the second"),
        ..BASE
    });
}
