//! The contract for an owner whom modes hold back. Root passes every mode, so as root the tests run
//! themselves in a user namespace, as another user who owns the same files and has no privileges.

use std::{io, process::Command};

use tree::{
    Place,
    apply::{self, Writable},
    contract::{CASES, Subject},
};
use wire::RelPath;

use crate::user::User;

/// Set for the process that has no privileges.
const DROPPED: &str = "KIN_TEST_UNPRIVILEGED";

fn rel(path: &str) -> RelPath {
    RelPath::parse(path).expect("a valid path")
}

/// Runs `test` here if modes hold us back, else in a process that they do.
#[allow(clippy::print_stderr, reason = "a skipped test must say so")]
fn without_privileges(name: &str, test: fn()) {
    if !rustix::process::geteuid().is_root() {
        return test();
    }
    assert!(std::env::var_os(DROPPED).is_none(), "still root in the namespace");
    let status = Command::new("unshare")
        .args(["--user", "--map-user=1000", "--map-group=1000", "sh", "-c"])
        .args(["test $(id -u) = 1000 || exit 77; exec \"$1\" --exact \"$2\" --nocapture", "sh"])
        .arg(std::env::current_exe().expect("this test"))
        .arg(format!("unprivileged::{name}"))
        .env(DROPPED, "1")
        .status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => {}
        Ok(Some(77 | 1)) | Err(_) => eprintln!("SKIPPED: no user namespaces on this machine"),
        other => panic!("without privileges: {other:?}"),
    }
}

#[test]
fn the_contract_holds_where_modes_do() {
    without_privileges("the_contract_holds_where_modes_do", || {
        for (_, case) in CASES {
            case(&User::new());
            case(&User::on_an_older_system());
        }
    });
}

#[test]
fn e10_an_unwritable_directory_is_opened_for_an_apply_and_restored() {
    without_privileges("e10_an_unwritable_directory_is_opened_for_an_apply_and_restored", || {
        let user = User::new();
        user.mkdir("d");
        let stat = user.disk().stat(&Place::Tree(rel("d"))).expect("stat").expect("there");
        user.disk().set_meta(&rel("d"), stat.inode, 0o555, None).expect("close");
        let staged = Place::Swap(1);
        drop(user.disk().open_own(&staged).expect("stage"));
        let denied = user.disk().rename_new(&staged, &Place::Tree(rel("d/f"))).expect_err("denied");
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        let guard = Writable::open(user.disk(), &rel("d")).expect("open");
        apply::place_new(user.disk(), &staged, &rel("d/f")).expect("place");
        guard.close().expect("close");
        let now = user.disk().stat(&Place::Tree(rel("d"))).expect("stat").expect("there");
        assert_eq!(now.mode, 0o555);
        user.disk().set_meta(&rel("d"), stat.inode, 0o755, None).expect("open for clean-up");
    });
}

#[test]
fn e8_an_unreadable_directory_is_an_error_and_not_an_absence() {
    without_privileges("e8_an_unreadable_directory_is_an_error_and_not_an_absence", || {
        let user = User::new();
        user.mkdir("d");
        user.write("d/f", b"x");
        let inode = user.disk().stat(&Place::Tree(rel("d"))).expect("stat").expect("there").inode;
        user.disk().set_meta(&rel("d"), inode, 0o300, None).expect("close for reading");
        let denied = user.disk().list(&rel("d")).expect_err("denied");
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        user.disk().set_meta(&rel("d"), inode, 0, None).expect("close");
        let denied = user.disk().stat(&Place::Tree(rel("d/f"))).expect_err("denied");
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        user.disk().set_meta(&rel("d"), inode, 0o755, None).expect("open for clean-up");
    });
}

#[test]
fn e14_a_download_with_its_final_mode_is_gone_on_with() {
    without_privileges("e14_a_download_with_its_final_mode_is_gone_on_with", || {
        let user = User::new();
        let partial = Place::Partial(wire::Hash::of(b"x"));
        let file = user.disk().open_own(&partial).expect("open");
        file.write_at(b"so far", 0).expect("write");
        file.set_meta(0, 5).expect("final mode");
        let again = user.disk().open_own(&partial).expect("open again");
        again.write_at(b"done", 6).expect("write");
        assert_eq!(again.stat().expect("stat").size, 10);
    });
}
