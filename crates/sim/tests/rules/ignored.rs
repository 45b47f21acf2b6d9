//! Rule E11: what is ignored stays where it is.

use sim::scenario::Scenario;

use crate::{SEEDS, assert_alike};

#[test]
fn e11_ignored_paths_are_neither_sent_nor_deleted() {
    for seed in SEEDS {
        let mut scenario = Scenario::new(seed, 2);
        scenario.ignore(0, &["*.log", "build/"]);
        scenario.write(0, "run.log", b"log");
        scenario.write(0, "build/out", b"out");
        scenario.write(0, "a", b"a");
        scenario.write(1, "theirs.log", b"theirs");
        scenario.start(0);
        scenario.start(1);
        scenario.link(0, 1);
        scenario.settle();
        assert_eq!(scenario.paths(0), ["a", "build", "build/out", "run.log"]);
        assert_eq!(scenario.paths(1), ["a", "theirs.log"]);
        assert!(scenario.row(1, "run.log").known.is_empty());
        assert!(scenario.row(1, "build/out").known.is_empty());
        // Removing it here is nobody else's business either.
        scenario.remove(0, "run.log");
        scenario.remove(1, "a");
        scenario.settle();
        assert_eq!(scenario.paths(0), ["build", "build/out"]);
        assert_eq!(scenario.paths(1), ["theirs.log"]);
    }
}

#[test]
fn e11_the_state_of_a_folder_inside_this_one_stays_where_it_is() {
    for seed in SEEDS {
        let mut scenario = Scenario::new(seed, 2);
        scenario.write(0, "d/.kin/history/a", b"deleted by somebody who had it to himself");
        scenario.write(0, "d/a", b"a");
        scenario.start(0);
        scenario.start(1);
        scenario.link(0, 1);
        scenario.settle();
        assert_eq!(scenario.paths(1), ["d", "d/a"]);
        scenario.remove(1, "d/a");
        scenario.remove(1, "d");
        scenario.settle();
        assert!(scenario.paths(0).contains(&"d/.kin/history/a".to_owned()));
    }
}

#[test]
fn e11_newly_ignoring_writes_no_tombstone_and_unignoring_brings_it() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/a.log", b"one");
        scenario.write(0, "d/b", b"b");
        scenario.settle();
        scenario.ignore(1, &["*.log"]);
        scenario.settle();
        scenario.remove(1, "d/a.log");
        scenario.settle();
        assert_eq!(scenario.text(0, "d/a.log").as_deref(), Some("one"), "it is deleted elsewhere");
        scenario.write(0, "d/a.log", b"two");
        scenario.settle();
        assert_eq!(scenario.text(1, "d/a.log"), None, "it is ignored, and comes all the same");
        scenario.ignore(1, &[]);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(1, "d/a.log").as_deref(), Some("two"));
    }
}

#[test]
fn e11_a_deleted_directory_with_ignored_files_stays_here() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.ignore(1, &["*.log"]);
        scenario.write(0, "d/a", b"a");
        scenario.settle();
        scenario.write(1, "d/run.log", b"log");
        scenario.settle();
        scenario.remove(0, "d");
        scenario.settle();
        assert!(scenario.paths(0).is_empty());
        assert_eq!(scenario.paths(1), ["d", "d/run.log"]);
        // Not recorded again: it does not come back elsewhere, now or at the next start.
        scenario.stop(1);
        scenario.start(1);
        scenario.settle();
        assert!(scenario.paths(0).is_empty());
        scenario.remove(1, "d/run.log");
        scenario.rescan(1);
        scenario.settle();
        assert!(scenario.paths(0).is_empty());
    }
}

#[test]
fn e11_removing_a_directory_deletes_nothing_that_is_ignored_here() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/a.log", b"log");
        scenario.write(0, "d/b", b"b");
        scenario.settle();
        scenario.ignore(1, &["*.log"]);
        scenario.settle();
        scenario.remove(1, "d");
        scenario.settle();
        assert_eq!(scenario.paths(0), ["d", "d/a.log"]);
        // A directory that is ignored as a whole, too.
        scenario.write(0, "build/x", b"x");
        scenario.settle();
        scenario.ignore(1, &["*.log", "build/"]);
        scenario.settle();
        scenario.remove(1, "build");
        scenario.settle();
        scenario.rescan(1);
        scenario.settle();
        assert_eq!(scenario.paths(0), ["build", "build/x", "d", "d/a.log"]);
    }
}
