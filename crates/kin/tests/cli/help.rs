//! What help says. `SNAPSHOTS=overwrite cargo nextest run -p kin --test cli` accepts a change.

use snapbox::file;

use crate::Home;

#[test]
fn help_of_all() {
    let home = Home::new();
    home.kin().arg("--help").assert().success().stdout_eq(file!["snapshots/kin.txt"]);
}

#[test]
fn help_of_sync() {
    let home = Home::new();
    home.kin().args(["sync", "--help"]).assert().success().stdout_eq(file!["snapshots/sync.txt"]);
}

#[test]
fn help_of_demo() {
    let home = Home::new();
    home.kin().args(["demo", "--help"]).assert().success().stdout_eq(file!["snapshots/demo.txt"]);
}

#[test]
fn help_of_id() {
    let home = Home::new();
    home.kin().args(["id", "--help"]).assert().success().stdout_eq(file!["snapshots/id.txt"]);
}

#[test]
fn help_of_torture() {
    let home = Home::new();
    let snapshot = file!["snapshots/torture.txt"];
    home.kin().args(["torture", "--help"]).assert().success().stdout_eq(snapshot);
}

#[test]
fn help_of_history() {
    let home = Home::new();
    home.kin()
        .args(["history", "--help"])
        .assert()
        .success()
        .stdout_eq(file!["snapshots/history.txt"]);
}

#[test]
fn help_of_restore() {
    let home = Home::new();
    home.kin()
        .args(["restore", "--help"])
        .assert()
        .success()
        .stdout_eq(file!["snapshots/restore.txt"]);
}

#[test]
fn version() {
    let home = Home::new();
    home.kin().arg("--version").assert().success().stdout_eq("kin [VERSION]\n");
}

#[test]
fn no_arguments_show_help_and_are_a_usage_error() {
    let home = Home::new();
    home.kin().assert().code(2).stdout_eq("").stderr_eq(file!["snapshots/kin.txt"]);
}
