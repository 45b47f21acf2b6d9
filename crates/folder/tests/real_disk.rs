//! Jobs on a real disk, where the simulator's disk would only say what it was told to.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the test plays the person who owns the files"
)]

use std::{fs::File, os::unix::fs::FileExt as _};

use folder::jobs::{
    self, Change, Done, Expected, Job, LookAgain, Making, Room, Seen, StagedFrom, What,
};
use tree::{
    Disk as _, Place, Root,
    apply::{HistoryName, Why},
};
use wire::RelPath;

fn rel(path: &str) -> RelPath {
    RelPath::parse(path).expect("a valid path")
}

/// Does a change and returns where the file that made room is, to be looked at again.
fn swap(root: &Root, change: Change, before: tree::Stat) -> LookAgain {
    let path = change.path.clone();
    let Done::Applied { mut results } = jobs::run(root, Job::Apply { changes: vec![change] })
    else {
        panic!("another job was done")
    };
    let done = results.remove(0).result.expect("applied");
    let place = done.out.expect("something made room");
    let content = Some(wire::Hash::of(b"the old one"));
    LookAgain { path, place, stat: before, content }
}

fn look(root: &Root, item: &LookAgain) -> Seen {
    let job = Job::LookAgain { items: vec![item.clone()], replica: 7 };
    match jobs::run(root, job) {
        Done::LookedAgain { mut seen } => seen.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn e13_what_is_written_through_an_open_handle_after_the_swap_becomes_a_copy() {
    let folder = tempfile::tempdir().expect("a directory");
    let root = Root::open(folder.path()).expect("a folder");
    for (number, name) in [(1, "replaced.txt"), (2, "deleted.txt")] {
        let path = folder.path().join(name);
        std::fs::write(&path, "the old one").expect("write");
        let held = File::options().write(true).open(&path).expect("open");
        let at = Place::Tree(rel(name));
        let before = root.stat(&at).expect("stat").expect("there");
        let expected = Expected { stat: before, content: None };
        let history = HistoryName::new(&rel(name), 1_000, number, Why::Replaced);
        let what = if number == 1 {
            What::Place {
                swap: number,
                from: StagedFrom::Bytes(b"theirs"[..].into()),
                mode: 0o644,
                mtime: 1,
                room: Some(Room { expected, making: Making::History(history) }),
            }
        } else {
            What::Remove { swap: number, expected, history }
        };
        let item = swap(&root, Change { path: rel(name), what }, before);
        assert!(matches!(look(&root, &item), Seen::Same));
        held.write_all_at(b"saved late, and longer", 0).expect("write");
        let Seen::Written(copy) = look(&root, &item) else { panic!("not seen") };
        let copy = folder.path().join(copy.as_str());
        assert_eq!(std::fs::read(&copy).expect("the copy"), b"saved late, and longer");
        // The editor still writes to that very file.
        held.write_all_at(b"SAVED", 0).expect("write");
        assert_eq!(std::fs::read(&copy).expect("the copy"), b"SAVED late, and longer");
        assert!(matches!(look(&root, &item), Seen::Gone));
        drop(held);
    }
    assert_eq!(std::fs::read(folder.path().join("replaced.txt")).expect("read"), b"theirs");
}
