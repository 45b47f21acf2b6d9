#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests play the user, and look at what is there"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use tempfile::tempdir;

use super::*;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("is ours");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o7777
}

#[test]
fn a_file_is_private_and_is_made_once() {
    let top = tempdir().expect("there is room");
    let path = top.path().join("a/b/kin");
    let state = StateDir::open(&path).expect("can be made");
    for dir in ["a", "a/b", "a/b/kin"] {
        assert_eq!(mode(&top.path().join(dir)), 0o700, "{dir}");
    }
    assert_eq!(state.read("key").expect("can be read"), None);
    assert!(state.create("key", b"first").expect("can be made"));
    assert!(!state.create("key", b"second").expect("is answered"));
    assert_eq!(state.read("key").expect("can be read").as_deref(), Some(&b"first"[..]));
    assert_eq!(mode(&path.join("key")), 0o600);
    assert_eq!(fs::read_dir(&path).expect("is there").count(), 1, "a draft is left");
}

#[test]
fn of_many_who_make_a_file_at_once_one_wins_and_all_see_its() {
    let top = tempdir().expect("there is room");
    let contents = |number: usize| vec![b'0' + u8::try_from(number).expect("is small"); 40_000];
    let seen: Vec<_> = std::thread::scope(|scope| {
        let one = |number| {
            let path = top.path();
            scope.spawn(move || {
                let state = StateDir::open(path).expect("is there");
                let won = state.create("key", &contents(number)).expect("is answered");
                (won, number, state.read("key").expect("can be read").expect("is there"))
            })
        };
        let threads: Vec<_> = (0..8).map(one).collect();
        threads.into_iter().map(|thread| thread.join().expect("does not panic")).collect()
    });
    let winners: Vec<_> = seen.iter().filter(|(won, ..)| *won).collect();
    assert_eq!(winners.len(), 1);
    assert!(seen.iter().all(|(.., read)| *read == contents(winners[0].1)));
}

#[test]
fn what_others_can_reach_is_refused() {
    let top = tempdir().expect("there is room");
    let path = top.path().join("kin");
    let state = StateDir::open(&path).expect("can be made");
    state.create("key", b"secret").expect("can be made");
    for bits in [0o604, 0o640, 0o620, 0o602] {
        set_mode(&path.join("key"), bits);
        let error = state.read("key").expect_err("is open to others").to_string();
        assert!(error.contains(&format!("{bits:04o}")) && error.contains("0600"), "{error}");
    }
    set_mode(&path.join("key"), 0o400);
    assert!(state.read("key").expect("is private").is_some());
    for bits in [0o770, 0o702] {
        set_mode(&path, bits);
        assert!(matches!(StateDir::open(&path), Err(StateError::OpenToOthers { .. })));
    }
    // To see its names harms nobody.
    set_mode(&path, 0o755);
    StateDir::open(&path).expect("others only look");
}

#[test]
fn links_directories_and_giants_are_no_files_of_ours() {
    let top = tempdir().expect("there is room");
    let path = top.path().join("kin");
    let state = StateDir::open(&path).expect("can be made");
    fs::write(top.path().join("elsewhere"), "secret").expect("there is room");
    set_mode(&top.path().join("elsewhere"), 0o600);
    symlink(top.path().join("elsewhere"), path.join("link")).expect("can be made");
    fs::create_dir(path.join("dir")).expect("can be made");
    fs::write(path.join("giant"), vec![0; MAX_FILE + 1]).expect("there is room");
    set_mode(&path.join("giant"), 0o600);
    for name in ["link", "dir", "giant"] {
        assert!(matches!(state.read(name), Err(StateError::NotAFile(_))), "{name}");
        assert!(!state.create(name, b"x").expect("is answered"), "{name}");
    }
    assert_eq!(fs::read(top.path().join("elsewhere")).expect("is there"), b"secret");
}

#[test]
fn a_file_in_the_way_is_named() {
    let top = tempdir().expect("there is room");
    let file = top.path().join("file");
    fs::write(&file, "").expect("there is room");
    for path in [file.clone(), file.join("below")] {
        let error = StateDir::open(&path).expect_err("is a file").to_string();
        assert_eq!(error, format!("{} is not a directory", path.display()));
    }
}

#[test]
fn a_directory_behind_a_link_is_followed() {
    let top = tempdir().expect("there is room");
    let real = top.path().join("real");
    StateDir::open(&real).expect("can be made").create("key", b"x").expect("can be made");
    symlink(&real, top.path().join("link")).expect("can be made");
    let linked = StateDir::open(&top.path().join("link")).expect("is followed");
    assert!(linked.read("key").expect("can be read").is_some());
}

#[test]
fn a_file_is_replaced_whole_and_removed() {
    let top = tempdir().expect("there is room");
    let state = StateDir::open(top.path()).expect("can be made");
    state.replace("file", b"first").expect("can be made");
    state.replace("file", b"second").expect("can be replaced");
    assert_eq!(state.read("file").expect("can be read").as_deref(), Some(&b"second"[..]));
    assert_eq!(fs::read_dir(top.path()).expect("can be listed").count(), 1, "no draft is left");
    state.remove("file").expect("can be removed");
    state.remove("file").expect("is nothing to do");
    assert!(state.read("file").expect("can be asked").is_none());
}
