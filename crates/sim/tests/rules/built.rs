//! Rule E16: directories that are new are built whole, and moved in at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use sim::scenario::Scenario;
use tree::Disk as _;

use crate::{SEEDS, assert_alike, assert_shows, kinds};

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
