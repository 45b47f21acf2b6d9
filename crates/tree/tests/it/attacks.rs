//! attacks.md 22 to 26 as far as they reach the disk. Links as parents are in the contract.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    process::Command,
};

use rustix::fs::{CWD, Mode};
use tree::{Disk, FileKind, Place, contract::Subject};
use wire::{Hash, RelPath};

use crate::user::User;

fn rel(path: &str) -> RelPath {
    RelPath::parse(path).expect("a valid path")
}

fn tree(path: &str) -> Place {
    Place::Tree(rel(path))
}

fn both() -> [User; 2] {
    [User::new(), User::on_an_older_system()]
}

#[test]
fn attack_22_any_name_a_file_can_have_is_one_and_others_are_told() {
    for user in both() {
        let names = ["C:\\x", "CON", "dot.", "\u{202e}x", "\u{1b}[31m", "ä", "a\u{308}", " ", "*"];
        for name in names {
            user.write(name, b"x");
        }
        fs::write(user.path("").join(std::ffi::OsStr::from_bytes(b"odd\xff\n")), b"x")
            .expect("write");
        let listing = user.disk().list(&RelPath::root()).expect("list");
        assert_eq!(listing.entries.len(), names.len());
        assert_eq!(listing.odd_names, ["odd\\xff\\n"]);
        for name in names {
            assert!(user.disk().open(&tree(name)).is_ok(), "{name:?}");
        }
    }
}

#[test]
fn attack_23_a_link_out_of_the_folder_leads_nowhere() {
    for user in both() {
        let outside = tempfile::tempdir().expect("temporary directory");
        fs::write(outside.path().join("secret"), b"secret").expect("write");
        let target = outside.path().to_str().expect("UTF-8");
        for (link, to) in [("absolute", target), ("dots", ".."), ("proc", "/proc/self/root")] {
            user.symlink(link, to);
            let below = tree(&format!("{link}/secret"));
            assert!(user.disk().open(&below).is_err());
            assert!(user.disk().stat(&below).is_err());
            assert!(user.disk().list(&rel(link)).is_err());
            assert!(user.disk().make_dir(&rel(&format!("{link}/d")), 0o755).is_err());
            assert!(user.disk().rename_new(&below, &Place::Swap(1)).is_err());
        }
        assert_eq!(fs::read_dir(outside.path()).expect("read_dir").count(), 1);
    }
}

#[test]
fn attack_23_links_planted_in_kin_lead_nowhere() {
    for user in both() {
        let outside = tempfile::tempdir().expect("temporary directory");
        let target = outside.path().to_str().expect("UTF-8");
        for dir in ["swap", "partial", "history"] {
            user.symlink(&format!(".kin/{dir}"), target);
        }
        for place in [Place::Swap(1), Place::Partial(Hash::of(b"x")), Place::History(rel("a/b"))] {
            assert!(user.disk().open_own(&place).is_err());
            assert!(user.disk().make_symlink(&place, "x", 0).is_err());
            user.write("f", b"x");
            assert!(user.disk().rename_new(&tree("f"), &place).is_err());
        }
        assert!(user.disk().own_files().is_err());
        assert_eq!(fs::read_dir(outside.path()).expect("read_dir").count(), 0);
    }
}

/// The race itself: a directory becomes a link and back while operations run.
#[test]
fn attack_23_a_parent_that_turns_into_a_link_never_leads_out() {
    for user in both() {
        let outside = tempfile::tempdir().expect("temporary directory");
        fs::write(outside.path().join("f"), b"outside").expect("write");
        user.mkdir("d");
        user.write("d/f", b"inside");
        user.symlink("link", outside.path().to_str().expect("UTF-8"));
        let (dir, link) = (user.path("d"), user.path("link"));
        let flip = || {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(CWD, &dir, CWD, &link, flags).expect("exchange");
        };
        let mut opened = 0;
        std::thread::scope(|scope| {
            let flipping = scope.spawn(|| (0..20_000).for_each(|_| flip()));
            let mut number = 0;
            while !flipping.is_finished() || opened == 0 {
                if let Ok(file) = user.disk().open(&tree("d/f")) {
                    let mut bytes = [0; 7];
                    file.read_at(&mut bytes, 0).expect("read");
                    assert_eq!(&bytes[..6], b"inside");
                    opened += 1;
                }
                number += 1;
                let _ = user.disk().make_dir(&rel(&format!("d/new{number}")), 0o755);
                if user.disk().rename_new(&tree("d/f"), &Place::Swap(1)).is_ok() {
                    while user.disk().rename_new(&Place::Swap(1), &tree("d/f")).is_err() {}
                }
            }
        });
        let left: Vec<_> = fs::read_dir(outside.path()).expect("read_dir").collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(fs::read(outside.path().join("f")).expect("untouched"), b"outside");
    }
}

#[test]
fn attack_24_a_fifo_neither_blocks_nor_travels() {
    for user in both() {
        rustix::fs::mkfifoat(CWD, user.path("fifo"), Mode::from_raw_mode(0o644)).expect("mkfifo");
        let stat = user.disk().stat(&tree("fifo")).expect("stat").expect("there");
        assert_eq!(stat.kind, FileKind::Special);
        assert!(user.disk().open(&tree("fifo")).is_err());
        assert!(user.disk().set_meta(&rel("fifo"), stat.inode, 0o777, Some(0)).is_err());
        let root = &user.root;
        assert!(root.read_small(&rel("fifo"), 100).is_err());
    }
}

#[test]
fn attack_24_setuid_setgid_and_sticky_are_masked() {
    for user in both() {
        user.write("f", b"x");
        fs::set_permissions(user.path("f"), fs::Permissions::from_mode(0o7755)).expect("chmod");
        let stat = user.disk().stat(&tree("f")).expect("stat").expect("there");
        assert_eq!(stat.mode, 0o755);
        user.disk().set_meta(&rel("f"), stat.inode, 0o6711, None).expect("set");
        let mode = fs::metadata(user.path("f")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7777, 0o711);
        user.disk().make_dir(&rel("d"), 0o7777).expect("make");
        let mode = fs::metadata(user.path("d")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7000, 0);
    }
}

#[test]
fn attack_24_a_hard_link_in_kin_is_not_written_through() {
    for user in both() {
        user.write("f", b"mine");
        drop(user.disk().open_own(&Place::Swap(1)).expect("makes the directory"));
        fs::hard_link(user.path("f"), user.path(".kin/swap/0000000000000002")).expect("link");
        assert!(user.disk().open_own(&Place::Swap(2)).is_err());
        // Reading and swapping go by the name and touch no contents.
        assert!(user.disk().open(&Place::Swap(2)).is_ok());
        assert_eq!(user.read("f").expect("there"), b"mine");
    }
}

#[test]
fn attack_25_the_ignore_file_and_kin_are_not_replaced() {
    let user = User::new();
    user.root.create_root_file(".kinignore", b"*~\n").expect("create");
    assert!(user.root.create_root_file(".kinignore", b"other").is_err());
    for bad in [".kin", ".KIN", "a/b", "..", "", "/x"] {
        assert!(user.root.create_root_file(bad, b"").is_err(), "{bad:?}");
    }
    let read = |limit| user.root.read_small(&rel(".kinignore"), limit);
    assert_eq!(read(3).expect("read").expect("there"), b"*~\n");
    assert_eq!(read(2).expect_err("too large").kind(), std::io::ErrorKind::FileTooLarge);
    assert_eq!(user.root.read_small(&rel("gone"), 9).expect("absent"), None);
    assert_eq!(user.all_files(), [".kinignore"]);
    user.symlink("link", "/etc/hostname");
    assert!(user.root.read_small(&rel("link"), 4096).is_err());
}

/// Rule E10. Mounting needs a namespace of its own, so the test runs itself in one.
#[test]
fn e10_a_mount_point_is_not_entered() {
    const IN_NAMESPACE: &str = "KIN_TEST_MOUNTED";
    if let Ok(dir) = std::env::var(IN_NAMESPACE) {
        return inside_the_namespace(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    for name in ["tmpfs", "bind", "source"] {
        fs::create_dir(dir.path().join(name)).expect("mkdir");
    }
    fs::write(dir.path().join("source/f"), b"x").expect("write");
    fs::write(dir.path().join("file"), b"x").expect("write");
    let script = "cd \"$1\" && mount -t tmpfs none tmpfs && mount --bind source bind && \
                  mount --bind source/f file && echo x > tmpfs/f || exit 77; \
                  exec \"$2\" --exact attacks::e10_a_mount_point_is_not_entered --nocapture";
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().expect("this test"))
        .env(IN_NAMESPACE, dir.path())
        .status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => {}
        Ok(Some(77 | 1)) | Err(_) => skip("no mount namespaces on this machine"),
        other => panic!("inside the namespace: {other:?}"),
    }
}

#[allow(clippy::print_stderr, reason = "a skipped test must say so")]
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

fn inside_the_namespace(dir: &Path) {
    // The lock goes with each.
    check_mounts(&tree::Root::open(dir).expect("open"), true);
    let root = tree::Root::open_as_on_an_older_system(dir).expect("open");
    check_mounts(&root, false);
}

fn check_mounts(root: &tree::Root, sees_bind_mounts: bool) {
    let kind = |path: &str| root.stat(&tree(path)).expect("stat").expect("there").kind;
    assert_eq!(kind("source"), FileKind::Dir);
    let listed = root.list(&RelPath::root()).expect("list").entries;
    for name in ["tmpfs", "bind", "file"] {
        assert_eq!(kind(name), FileKind::MountPoint, "{name}");
        let entry = listed.iter().find(|entry| entry.name == name).expect("listed");
        assert_eq!(entry.stat.kind, FileKind::MountPoint, "{name}");
    }
    assert!(root.open(&tree("file")).is_err());
    for dir in ["tmpfs", "bind"] {
        if dir == "bind" && !sees_bind_mounts {
            // Of the same device: only the listing tells, and the engine goes by that.
            continue;
        }
        assert!(root.list(&rel(dir)).is_err(), "{dir}");
        assert!(root.open(&tree(&format!("{dir}/f"))).is_err(), "{dir}");
        assert!(root.stat(&tree(&format!("{dir}/f"))).is_err(), "{dir}");
        assert!(root.make_dir(&rel(&format!("{dir}/d")), 0o755).is_err(), "{dir}");
    }
}
