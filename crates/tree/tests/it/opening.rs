//! Opening a folder: refusals create nothing (rule E18).

use std::{fs, os::unix::fs::PermissionsExt};

use tree::{Disk, OpenError, Root, contract::Subject};
use wire::RelPath;

use crate::user::User;

fn names(dir: &std::path::Path) -> usize {
    fs::read_dir(dir).expect("read_dir").count()
}

#[test]
fn e18_one_process_a_folder() {
    let user = User::new();
    let dir = user.root.path().to_owned();
    let pid = std::process::id();
    let second = Root::open(&dir);
    assert!(matches!(second, Err(OpenError::Locked { pid: Some(p) }) if p == pid), "{second:?}");
    let mode = fs::metadata(dir.join(".kin")).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let User { root, .. } = user;
    let gone = root.path().to_owned();
    drop(root);
    assert!(!gone.exists() || Root::open(&gone).is_ok());
}

#[test]
fn state_that_holds_nothing_is_taken_away_and_nothing_else() {
    let dir = tempfile::tempdir().expect("temporary directory");
    assert!(Root::leave_no_state(dir.path()).is_err(), "there is none");
    assert_eq!(names(dir.path()), 0);
    let root = Root::open(dir.path()).expect("open");
    assert!(Root::leave_no_state(dir.path()).is_err(), "it is in use");
    drop(root);
    fs::create_dir(dir.path().join(".kin/swap")).expect("mkdir");
    Root::leave_no_state(dir.path()).expect("nothing is in it");
    assert_eq!(names(dir.path()), 0);
    drop(Root::open(dir.path()).expect("open"));
    fs::create_dir(dir.path().join(".kin/history")).expect("mkdir");
    fs::write(dir.path().join(".kin/history/kept"), "kept").expect("write");
    Root::leave_no_state(dir.path()).expect("looks");
    assert!(dir.path().join(".kin/history/kept").exists());
    assert!(dir.path().join(".kin/lock").exists());
    fs::remove_dir_all(dir.path().join(".kin/history")).expect("remove");
    fs::write(dir.path().join(".kin/index.db"), "index").expect("write");
    Root::leave_no_state(dir.path()).expect("looks");
    assert!(dir.path().join(".kin/index.db").exists());
}

#[test]
fn e18_the_lock_goes_with_the_folder() {
    let dir = tempfile::tempdir().expect("temporary directory");
    drop(Root::open(dir.path()).expect("open"));
    fs::set_permissions(dir.path().join(".kin"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let root = Root::open(dir.path()).expect("open again");
    let mode = fs::metadata(dir.path().join(".kin")).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(root.index_path(), root.path().join(".kin/index.db"));
}

#[test]
fn a_folder_that_holds_keys_is_refused_whatever_way_leads_there() {
    let top = tempfile::tempdir().expect("temporary directory");
    let keys = top.path().join("home/state/kin");
    fs::create_dir_all(top.path().join("home/docs")).expect("mkdir");
    std::os::unix::fs::symlink("home", top.path().join("link")).expect("link");
    let refused = |dir: &str| {
        let refused = tree::refuse_keys(&top.path().join(dir), &keys);
        assert!(matches!(&refused, Err(OpenError::HoldsKeys { .. })), "{dir}: {refused:?}");
    };
    let there = |dir: &str| tree::refuse_keys(&top.path().join(dir), &keys).expect("no keys there");
    // They need not be there yet.
    refused("home");
    refused("link");
    there("home/docs");
    fs::create_dir_all(keys.join("below")).expect("mkdir");
    for dir in ["", "home", "link", "home/state", "link/state/kin", "home/docs/.."] {
        refused(dir);
    }
    for dir in ["home/docs", "link/docs", "home/state/kin/below", "home/nothing"] {
        there(dir);
    }
}

/// A directory that is built elsewhere would lack the group or the rights that its place hands on.
#[test]
#[cfg(target_os = "linux")]
fn e16_what_a_directory_hands_on_is_noticed() {
    use rustix::fs::{XattrFlags, setxattr};
    use std::os::unix::fs::PermissionsExt as _;

    let user = User::new();
    for dir in ["plain", "group", "rights"] {
        user.mkdir(dir);
    }
    let group = fs::Permissions::from_mode(0o2755);
    fs::set_permissions(user.path("group"), group).expect("chmod");
    // Version 2; then the owner, the group and the others, each with all rights, and of no particular id.
    let mut rights = vec![2, 0, 0, 0];
    for tag in [0x01, 0x04, 0x20] {
        rights.extend([tag, 0, 7, 0, 0xff, 0xff, 0xff, 0xff]);
    }
    let name = "system.posix_acl_default";
    let set = setxattr(user.path("rights"), name, &rights, XattrFlags::empty());
    let hands_down = |dir: &str| {
        let dir = RelPath::parse(dir).expect("a path");
        user.disk().hands_down(&dir).expect("can be told")
    };
    assert_eq!((hands_down("plain"), hands_down("group")), (false, true));
    // Not every file system has such rights.
    assert_eq!(hands_down("rights"), set.is_ok());
}

#[test]
#[cfg(target_os = "linux")]
fn where_the_system_shows_itself_is_no_folder() {
    for dir in ["/proc", "/proc/self/fd"] {
        let refused = Root::open(std::path::Path::new(dir));
        let shown = matches!(&refused, Err(OpenError::Virtual { kind: "proc", .. }));
        assert!(shown, "{dir}: {refused:?}");
    }
}

#[test]
fn e18_nested_folders_are_refused_or_found() {
    let user = User::new();
    user.mkdir("a/b");
    let inner = user.root.path().join("a/b");
    let nested = Root::open(&inner);
    assert!(
        matches!(&nested, Err(OpenError::Nested { outer }) if outer == user.root.path()),
        "{nested:?}"
    );
    assert_eq!(names(&inner), 0);
    let in_state = Root::open(&user.root.path().join(".kin"));
    assert!(matches!(in_state, Err(OpenError::Nested { .. })), "{in_state:?}");

    let outer = tempfile::tempdir().expect("temporary directory");
    fs::create_dir_all(outer.path().join("x/y")).expect("mkdir");
    fs::create_dir_all(outer.path().join("other/.kin")).expect("mkdir");
    drop(Root::open(&outer.path().join("x/y")).expect("open the inner one"));
    let root = Root::open(outer.path()).expect("open the outer one");
    let holds = |path: &str| {
        root.holds_nested_folder(&RelPath::parse(path).expect("valid")).expect("asked")
    };
    assert!(holds("x/y") && !holds("x") && !holds("other"));
    assert!(!root.holds_nested_folder(&RelPath::root()).expect("asked"));
}

#[test]
fn bad_directories_are_refused_and_nothing_is_created() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let gone = Root::open(&dir.path().join("gone"));
    assert!(matches!(gone, Err(OpenError::NotFound(_))), "{gone:?}");
    fs::write(dir.path().join("file"), b"x").expect("write");
    let file = Root::open(&dir.path().join("file"));
    assert!(matches!(file, Err(OpenError::NotADirectory(_))), "{file:?}");
    assert_eq!(names(dir.path()), 1);
    let read_only = Root::open(std::path::Path::new("/proc/self"));
    assert!(read_only.is_err(), "{read_only:?}");
    for (name, target) in [("link", "/tmp"), ("plain", "")] {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).expect("mkdir");
        if target.is_empty() {
            fs::write(folder.join(".kin"), b"x").expect("write");
        } else {
            std::os::unix::fs::symlink(target, folder.join(".kin")).expect("symlink");
        }
        let foreign = Root::open(&folder);
        assert!(matches!(foreign, Err(OpenError::ForeignState { .. })), "{foreign:?}");
        assert_eq!(names(&folder), 1);
    }
}

#[test]
fn e18_a_folder_that_was_replaced_is_noticed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).expect("mkdir");
    let root = Root::open(&folder).expect("open");
    assert!(root.still_there().is_ok());
    fs::rename(folder.join(".kin"), dir.path().join("kin")).expect("rename");
    assert!(matches!(root.still_there(), Err(tree::RootGone::StateLost(_))));
    fs::create_dir(folder.join(".kin")).expect("mkdir");
    assert!(matches!(root.still_there(), Err(tree::RootGone::StateLost(_))));
    fs::rename(&folder, dir.path().join("moved")).expect("rename");
    assert!(matches!(root.still_there(), Err(tree::RootGone::Replaced(_))));
    fs::create_dir(&folder).expect("mkdir");
    assert!(matches!(root.still_there(), Err(tree::RootGone::Replaced(_))));
    // The held directory is still what is worked on, not the new one.
    fs::write(dir.path().join("moved/f"), b"x").expect("write");
    assert_eq!(root.list(&RelPath::root()).expect("list").entries[0].name, "f");
}

#[test]
fn e1_identity_of_machine_and_index() {
    let user = User::new();
    fs::write(user.root.index_path(), b"x").expect("write");
    let of_path = tree::file_identity(&user.root.index_path()).expect("stat");
    let of_name = user.root.state_file_identity("index.db").expect("stat");
    assert_eq!(of_name, Some(of_path));
    assert_eq!(user.root.state_file_identity("gone").expect("stat"), None);
    assert_eq!(tree::machine_id(), tree::machine_id());
    if let (Some(id), Ok(raw)) = (tree::machine_id(), fs::read_to_string("/etc/machine-id")) {
        assert!(!id.to_hex().contains(raw.trim()));
    }
}

/// The file that a folding disk would find under the other name is put there by hand.
#[test]
fn attack_26_a_disk_that_folds_names_is_known() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = Root::open(dir.path()).expect("opens");
    assert!(!root.folds_names(), "temporary directories are on a disk that folds names");
    drop(root);
    assert_eq!(
        fs::read_dir(dir.path().join(".kin")).expect("list").count(),
        1,
        "only the lock stays"
    );
    fs::write(dir.path().join(".kin/LOCK"), "").expect("write");
    assert!(Root::open(dir.path()).expect("opens").folds_names());
    assert!(Root::open_beside(dir.path()).expect("opens").folds_names());
}
