#![allow(clippy::disallowed_methods, reason = "tests play the user, and look at what is there")]

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _, symlink},
        net::UnixStream,
    },
};

use tempfile::tempdir;

use super::*;

#[test]
fn one_at_a_time_has_the_lock_and_the_other_is_named() {
    let top = tempdir().expect("there is room");
    let state = StateDir::open(top.path()).expect("is ours");
    let lock = state.lock().expect("is free");
    let clone = lock.clone();
    drop(lock);
    let error = StateDir::open(top.path()).expect("is ours").lock().expect_err("is taken");
    let pid = std::process::id();
    assert!(matches!(error, StateError::Locked { pid: Some(it), .. } if it == pid), "{error}");
    assert!(error.to_string().ends_with(&format!("(process {pid})")), "{error}");
    drop(clone);
    state.lock().expect("is free again");
}

#[test]
fn a_lock_that_is_a_link_is_not_followed() {
    let top = tempdir().expect("there is room");
    fs::write(top.path().join("mine"), "text").expect("there is room");
    let state = StateDir::open(&top.path().join("kin")).expect("can be made");
    symlink(top.path().join("mine"), top.path().join("kin/lock")).expect("can be made");
    assert!(matches!(state.lock(), Err(StateError::NotAFile(_))));
    assert_eq!(fs::read_to_string(top.path().join("mine")).expect("is there"), "text");
}

#[test]
fn attack_39_a_socket_is_this_users_alone() {
    let top = tempdir().expect("there is room");
    let lock = StateDir::open(top.path()).expect("is ours").lock().expect("is free");
    let path = top.path().join("api.sock");
    let (socket, listener) = Socket::listen(&path, &lock).expect("can be made");
    assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
    UnixStream::connect(&path).expect("is answered");
    assert_eq!(fs::read_dir(top.path()).expect("is there").count(), 2, "a draft is left");
    drop((socket, listener));
    assert!(!path.exists());
}

#[test]
fn a_socket_that_is_left_is_replaced_and_anything_else_is_not() {
    let top = tempdir().expect("there is room");
    let lock = StateDir::open(top.path()).expect("is ours").lock().expect("is free");
    let path = top.path().join("api.sock");
    drop(UnixListener::bind(&path).expect("can be made"));
    drop(UnixListener::bind(top.path().join("api.sock~")).expect("can be made"));
    UnixStream::connect(&path).expect_err("nobody is there");
    let (_socket, _listener) = Socket::listen(&path, &lock).expect("is replaced");
    UnixStream::connect(&path).expect("is answered");
    let other = top.path().join("notes");
    fs::write(&other, "mine").expect("there is room");
    assert!(matches!(Socket::listen(&other, &lock), Err(StateError::NotAFile(_))));
    assert_eq!(fs::read_to_string(&other).expect("is there"), "mine");
    assert!(fs::metadata(&path).expect("is there").file_type().is_socket());
}

#[test]
fn long_paths_do_not_fit() {
    assert!(fits_socket(Path::new("/run/user/1000/kin.sock")));
    assert!(!fits_socket(&Path::new("/").join("x".repeat(110))));
    let dir = tempdir().expect("there is room");
    for (mode, private) in [(0o700, true), (0o750, false), (0o701, false)] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("is ours");
        assert_eq!(is_private_dir(dir.path()), private, "{mode:o}");
    }
    assert!(!is_private_dir(Path::new("/usr")));
}
