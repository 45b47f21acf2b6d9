//! Rule E16: directories that are new are built whole, and moved in at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use sim::scenario::Scenario;
use tree::{Disk as _, Place};

use crate::{SEEDS, assert_alike, assert_shows, kinds, noise};

/// Device 1 is to bring a tree of directories.
fn begin(seed: u64) -> Scenario {
    let (mut scenario, _) = kinds::MAKE_TREE.begin(seed);
    scenario.link(0, 1);
    scenario
}

/// Lets all be done; nobody watches what a user does in the middle of it.
fn look_again(scenario: &mut Scenario) {
    scenario.settle();
    scenario.rescan(1);
    scenario.settle();
}

fn assert_whole(scenario: &Scenario, story: &str) {
    assert_alike(scenario, 2);
    let texts: Vec<_> = kinds::TREE.iter().map(|(_, text)| *text).collect();
    assert_shows(scenario, 1, story, &texts);
    assert_eq!(scenario.disk(1).own_files().expect("list"), [], "{story}");
}

/// Whoever looks sees a directory with all that comes with it, or none.
#[test]
fn e16_a_new_directory_is_seen_with_what_is_in_it() {
    for seed in SEEDS {
        let mut scenario = begin(seed);
        let disk = scenario.disk(1);
        // Before each change on the disk: what is there of the directories.
        let seen: Arc<Mutex<BTreeMap<usize, usize>>> = Arc::default();
        for nth in 0..200 {
            let (seen, user) = (Arc::clone(&seen), Arc::clone(&disk));
            disk.before_call(nth, move || {
                let there = user.snapshot().keys().filter(|path| path.starts_with('d')).count();
                *seen.lock().expect("not poisoned").entry(there).or_default() += 1;
            });
        }
        scenario.settle();
        assert_whole(&scenario, &format!("seed {seed}"));
        let seen = seen.lock().expect("not poisoned");
        assert_eq!(seen.len(), 2, "seed {seed}: {seen:?}");
    }
}

/// At each moment of it a user makes a directory of that name.
#[test]
fn e16_where_a_user_was_faster_all_comes_into_the_users_directory() {
    for nth in 0.. {
        let mut scenario = begin(nth);
        let disk = scenario.disk(1);
        let user = Arc::clone(&disk);
        disk.before_change(nth, move || {
            user.write_file("d/mine", b"the user's").expect("write");
        });
        look_again(&mut scenario);
        if disk.contents("d/mine").is_none() {
            assert!(nth > 20, "only {nth} changes");
            break;
        }
        assert_whole(&scenario, &format!("change {nth}"));
        assert_eq!(scenario.text(0, "d/mine").as_deref(), Some("the user's"), "change {nth}");
    }
}

/// At each moment of it what has just come is taken away again: that is a deletion, or a rename, and nothing else.
#[test]
fn e16_what_is_moved_away_at_once_is_neither_lost_nor_made_again() {
    let moved = Arc::new(AtomicUsize::new(0));
    for nth in 0..120 {
        let mut scenario = begin(nth);
        let disk = scenario.disk(1);
        let (user, moves) = (Arc::clone(&disk), Arc::clone(&moved));
        disk.before_call(nth, move || {
            if user.rename("d", "elsewhere").is_ok() {
                moves.fetch_add(1, Ordering::Relaxed);
            }
        });
        look_again(&mut scenario);
        assert_whole(&scenario, &format!("call {nth}"));
    }
    assert!(moved.load(Ordering::Relaxed) > 10, "{moved:?}");
}

/// A large file is moved into a directory that is being built once it is whole. The device is killed at each moment of it, and the
/// other one has gone: what was whole need not come again.
#[test]
fn e14_a_large_file_in_a_directory_that_was_being_built_is_used() {
    let (mut killed, mut used) = (0, 0);
    for nth in 0..60 {
        let mut scenario = Scenario::linked(3, 2);
        scenario.stop(1);
        scenario.large_groups(1);
        scenario.start(1);
        scenario.cut(0, 1);
        scenario.write(0, "d/large", &noise(2, 1_600_000));
        scenario.write(0, "d/small", b"beside it");
        scenario.settle();
        let disk = scenario.disk(1);
        let dies = Arc::clone(&disk);
        disk.before_change(nth, move || dies.cut_power());
        scenario.link(0, 1);
        scenario.run(60_000);
        if scenario.is_running(1) {
            break;
        }
        killed += 1;
        let was_being_built = disk
            .own_files()
            .expect("list")
            .iter()
            .any(|(place, stat)| matches!(place, Place::Built(..)) && stat.size == 1_600_000);
        if was_being_built {
            scenario.stop(0);
            scenario.start(1);
            scenario.run(5_000);
            let is_kept =
                disk.own_files().expect("list").iter().any(|(place, stat)| {
                    matches!(place, Place::Partial(_)) && stat.size == 1_600_000
                });
            assert!(is_kept || disk.contents("d/large").is_some(), "change {nth}");
            used += 1;
            scenario.start(0);
        } else {
            scenario.start(1);
        }
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert!(scenario.has(1, &noise(2, 1_600_000)), "change {nth}");
        let mut left = disk.own_files().expect("list");
        left.retain(|(place, _)| !matches!(place, Place::Partial(_)));
        assert_eq!(left, [], "change {nth}");
    }
    assert!(killed > 10 && used > 0, "{killed}, {used}");
}

/// Records that come in the order of their hashes, from a device that had them long before, are known before they are
/// decided: nearly all directories come whole.
#[test]
fn e16_what_comes_in_any_order_comes_by_directories() {
    let mut scenario = Scenario::new(1, 2);
    for number in 0..900 {
        let path = format!("{}/{}/{number}", number % 3, number % 30);
        scenario.write(0, &path, format!("contents {number}").as_bytes());
    }
    scenario.start(0);
    scenario.settle();
    scenario.large_groups(1);
    scenario.start(1);
    let disk = scenario.disk(1);
    let (seen, user) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&disk));
    // Before each call on the disk: how much is there.
    for nth in 0..6_000 {
        let (seen, user) = (Arc::clone(&seen), Arc::clone(&user));
        disk.before_call(nth, move || {
            seen.lock().expect("not poisoned").push(user.snapshot().len());
        });
    }
    scenario.link(0, 1);
    scenario.settle();
    assert_alike(&scenario, 2);
    let mut steps = seen.lock().expect("not poisoned").clone();
    steps.dedup();
    assert!(steps.len() < 60, "{} steps: {steps:?}", steps.len());
}
