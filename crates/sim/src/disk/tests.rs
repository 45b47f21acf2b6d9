//! Tests of the virtual disk.

use std::sync::atomic::{AtomicI64, Ordering};

use tree::{
    apply::{self, Writable},
    contract::{CASES, Subject},
};

use super::*;

struct User {
    disk: VirtualDisk,
    now: AtomicI64,
}

impl User {
    fn new() -> Self {
        Self { disk: VirtualDisk::new(), now: AtomicI64::new(1_700_000_000_000) }
    }

    /// Time goes on between two things a user does.
    fn tick(&self) -> &VirtualDisk {
        self.disk.set_now(self.now.fetch_add(1, Ordering::Relaxed));
        &self.disk
    }
}

impl Subject for User {
    fn disk(&self) -> &dyn Disk {
        &self.disk
    }
    fn write(&self, path: &str, contents: &[u8]) {
        self.tick().write_file(path, contents).expect("write");
    }
    fn save(&self, path: &str, contents: &[u8]) {
        self.tick().save_by_rename(path, contents).expect("save");
    }
    fn mkdir(&self, path: &str) {
        self.tick().mkdir(path).expect("mkdir");
    }
    fn symlink(&self, path: &str, target: &str) {
        self.tick().symlink(path, target).expect("symlink");
    }
    fn remove(&self, path: &str) {
        self.tick().remove(path).expect("remove");
    }
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.disk.contents(path).map(|contents| contents.to_vec())
    }
    fn exchanges(&self) -> bool {
        true
    }
}

#[allow(clippy::print_stdout, reason = "the harness shows it for a failing test only")]
fn run(name: &str, case: fn(&dyn Subject)) {
    println!("case: {name}");
    case(&User::new());
}

#[test]
fn a_virtual_disk_keeps_the_contract() {
    for (name, case) in CASES {
        run(name, *case);
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::parse(path).expect("a valid path")
}

fn tree_place(path: &str) -> Place {
    Place::Tree(rel(path))
}

fn stage(disk: &VirtualDisk, number: u64) -> Place {
    let place = Place::Swap(number);
    disk.open_own(&place).and_then(|file| file.write_at(b"new", 0)).expect("stage");
    place
}

#[test]
fn e10_rights_of_directories_hold_here_too() {
    let disk = VirtualDisk::new();
    disk.write_file("d/f", b"x").expect("write");
    disk.chmod("d", 0o555).expect("chmod");
    let place = stage(&disk, 1);
    let denied = disk.rename_new(&place, &tree_place("d/g")).expect_err("denied");
    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    let guard = Writable::open(&disk, &rel("d")).expect("open the directory");
    apply::place_new(&disk, &place, &rel("d/g")).expect("place");
    guard.close().expect("close");
    assert_eq!(disk.snapshot()["d"], Node::Dir { mode: 0o555 });
    disk.chmod("d", 0o300).expect("chmod");
    let denied = disk.list(&rel("d")).expect_err("denied");
    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    disk.chmod("d", 0o600).expect("chmod");
    let denied = disk.stat(&tree_place("d/f")).expect_err("denied");
    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    disk.chmod("d", 0o700).expect("chmod");
    disk.chmod("d/f", 0).expect("chmod");
    let denied = disk.open(&tree_place("d/f")).err().expect("denied");
    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn what_users_do_is_seen_and_compared() {
    let disk = VirtualDisk::new();
    disk.set_now(5);
    disk.write_file("a/b", b"one").expect("write");
    let first = disk.stat(&tree_place("a/b")).expect("stat").expect("there");
    assert_eq!((first.mtime, first.ctime, first.mode), (5_000_000, 5_000_000, 0o644));
    disk.set_now(6);
    disk.append("a/b", b"two").expect("append");
    let second = disk.stat(&tree_place("a/b")).expect("stat").expect("there");
    assert_eq!((second.inode, second.size, second.mtime), (first.inode, 6, 6_000_000));
    disk.save_by_rename("a/b", b"one").expect("save");
    let third = disk.stat(&tree_place("a/b")).expect("stat").expect("there");
    assert_ne!(third.inode, second.inode);
    disk.rename("a", "c/d").expect("rename");
    disk.symlink("l", "x").expect("symlink");
    disk.special("fifo", FileKind::Special).expect("special");
    disk.special("mnt", FileKind::MountPoint).expect("mount");
    let kinds: Vec<_> = disk.snapshot().into_iter().collect();
    let file = Node::File { contents: Arc::new(b"one".to_vec()), mode: 0o644, mtime: 6_000_000 };
    let expected = [
        ("c", Node::Dir { mode: 0o755 }),
        ("c/d", Node::Dir { mode: 0o755 }),
        ("c/d/b", file),
        ("fifo", Node::Special),
        ("l", Node::Symlink { target: "x".to_owned() }),
        ("mnt", Node::MountPoint),
    ];
    assert_eq!(kinds, expected.map(|(path, node)| (path.to_owned(), node)));
    disk.remove("c").expect("remove");
    assert!(disk.contents("c/d/b").is_none());
    let crossing = disk.list(&rel("mnt")).expect_err("not entered");
    assert_eq!(crossing.kind(), io::ErrorKind::CrossesDevices);
    for (path, to) in [("gone", "x"), ("l", "l/x"), (".kin/x", "y"), ("../x", "y")] {
        assert!(disk.rename(path, to).is_err(), "{path}");
    }
}

#[test]
fn all_contents_has_what_is_in_kin() {
    let disk = VirtualDisk::new();
    disk.write_file("f", b"user's").expect("write");
    let place = stage(&disk, 0xab);
    disk.exchange(&place, &tree_place("f")).expect("exchange");
    disk.rename_new(&place, &Place::History(rel("f~1"))).expect("to history");
    let found: Vec<_> =
        disk.all_contents().into_iter().map(|(path, bytes)| (path, bytes.to_vec())).collect();
    let expected = [(".kin/history/f~1", b"user's".to_vec()), ("f", b"new".to_vec())];
    assert_eq!(found, expected.map(|(path, bytes)| (path.to_owned(), bytes)));
}

#[test]
fn the_same_calls_give_the_same_disk() {
    let play = || {
        let disk = VirtualDisk::new();
        disk.set_now(9);
        disk.write_file("a/b", b"x").expect("write");
        let place = stage(&disk, 1);
        disk.exchange(&place, &tree_place("a/b")).expect("exchange");
        let own = disk.own_files().expect("own");
        let list = disk.list(&rel("a")).expect("list");
        (own, list, disk.snapshot(), disk.changes())
    };
    assert_eq!(play(), play());
    // open_own, write_at, exchange: what only looks is not counted.
    assert_eq!(play().3, 3);
}
