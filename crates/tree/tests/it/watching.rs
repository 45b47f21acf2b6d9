//! The watcher over a real kernel. Every wait is for an event, with a deadline that fails the test.

use std::{
    fs,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use tree::{Hint, WatchError, Watcher, contract::Subject};
use wire::RelPath;

use crate::user::User;

const DEADLINE: Duration = Duration::from_secs(20);

struct Watched {
    watcher: Watcher,
    woken: Receiver<()>,
}

impl Watched {
    fn new(user: &User) -> Self {
        let (wake, woken) = channel();
        let watcher = Watcher::start(user.root.path(), move || {
            let _ = wake.send(());
        });
        let watched = Self { watcher: watcher.expect("start"), woken };
        watched.watcher.watch_dir(&RelPath::root()).expect("watch the root");
        watched
    }

    /// Waits until `wanted` was among the hints; returns all of them.
    fn until(&self, wanted: &Hint) -> Vec<Hint> {
        let end = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while !seen.contains(wanted) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(self.woken.recv_timeout(left).is_ok(), "{wanted:?} never came: {seen:?}");
            seen.extend(self.watcher.take());
        }
        seen
    }
}

fn changed(path: &str) -> Hint {
    Hint::Changed(RelPath::parse(path).expect("a valid path"))
}

#[test]
fn e23_changes_are_hinted_and_reading_is_not() {
    let user = User::new();
    user.write("read", b"x");
    let watched = Watched::new(&user);
    for _ in 0..10 {
        user.read("read");
    }
    user.write("written", b"x");
    assert!(!watched.until(&changed("written")).contains(&changed("read")));
    user.save("written", b"y");
    watched.until(&changed("written"));
    user.remove("written");
    watched.until(&changed("written"));
}

#[test]
fn e16_our_own_work_in_kin_is_no_hint() {
    let user = User::new();
    let watched = Watched::new(&user);
    watched.watcher.watch_dir(&RelPath::parse(".kin").expect("valid")).expect("ignored");
    let file = user.root.path().join(".kin/index.db");
    fs::write(file, b"x").expect("write");
    user.write("f", b"x");
    let seen = watched.until(&changed("f"));
    assert_eq!(seen, [changed("f")]);
    assert_eq!(watched.watcher.watched(), 1);
}

#[test]
fn directories_are_watched_as_they_are_found_and_dropped_as_they_go() {
    let user = User::new();
    user.mkdir("d/e");
    let watched = Watched::new(&user);
    let dir = |path: &str| RelPath::parse(path).expect("valid");
    for path in ["d", "d/e", "d"] {
        watched.watcher.watch_dir(&dir(path)).expect("watch");
    }
    assert_eq!(watched.watcher.watched(), 3);
    user.write("d/e/f", b"x");
    watched.until(&changed("d/e/f"));
    fs::rename(user.path("d"), user.path("moved")).expect("rename");
    watched.until(&changed("moved"));
    assert_eq!(watched.watcher.watched(), 1);
    for path in ["moved", "moved/e"] {
        watched.watcher.watch_dir(&dir(path)).expect("watch again");
    }
    user.write("moved/e/g", b"x");
    watched.until(&changed("moved/e/g"));
    fs::remove_dir_all(user.path("moved")).expect("remove");
    watched.until(&changed("moved"));
    user.mkdir("moved");
    watched.until(&changed("moved"));
    let gone = watched.watcher.watch_dir(&dir("nowhere"));
    assert!(matches!(gone, Err(WatchError::Vanished(_))), "{gone:?}");
}

#[test]
fn e18_a_folder_that_goes_is_told() {
    let user = User::new();
    let watched = Watched::new(&user);
    fs::remove_dir_all(user.path("")).expect("remove");
    watched.until(&Hint::RootGone);
    assert!(user.root.still_there().is_err());
}
