//! `kin torture`, in short.

use std::path::Path;

use lab::KinCommand;
use serde_json::Value;

use crate::Home;

#[test]
fn a_short_torture_ends_well_and_leaves_nothing() {
    let home = Home::new();
    let before = home.inventory();
    let args = ["torture", "folder", "--seeds", "1", "--from", "6", "--json"];
    let run = home.kin().args(args).assert().success();
    let stdout = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    let events: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect();
    let [begun, ended] = &events[..] else { panic!("two events: {stdout}") };
    assert_eq!((&begun["event"], &begun["seed"]), (&"torture".into(), &6.into()));
    assert_eq!((&begun["devices"], &ended["event"]), (&3.into(), &"tortured".into()));
    assert_eq!(ended["problems"], Value::Array(vec![]));
    let some = |field: &str| ended[field].as_u64().is_some_and(|count| count > 0);
    assert!(some("edits") && some("kills") && some("paths"), "{ended}");
    assert_eq!(home.inventory(), before, "something is left");
}

#[test]
fn nothing_is_tried_inside_a_folder_that_is_kept_in_step() {
    let home = Home::new();
    std::fs::create_dir_all(home.folder().join(".kin")).expect("there is room");
    std::fs::create_dir(home.folder().join("inside")).expect("there is room");
    let before = home.inventory();
    for dir in ["folder", "folder/inside"] {
        let run = home.kin().args(["torture", dir]).assert().code(2);
        let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        assert!(stderr.contains("folder is kept in step by kin"), "{stderr}");
    }
    assert_eq!(home.inventory(), before);
}

#[test]
fn a_directory_that_cannot_be_used_is_refused() {
    let home = Home::new();
    std::fs::write(home.path().join("file"), "").expect("there is room");
    for dir in ["missing", "file"] {
        home.kin().args(["torture", dir, "--seeds", "1"]).assert().code(2).stdout_eq("");
    }
}

#[test]
fn ctrl_c_ends_the_devices_and_removes_what_was_made() {
    let home = Home::new();
    let before = home.inventory();
    let folder = home.folder();
    let folder = folder.to_str().expect("a plain path");
    let args = ["torture", folder, "--seeds", "1000", "--json"];
    let mut kin =
        KinCommand::local(Path::new(env!("CARGO_BIN_EXE_kin")), home.path(), &args).start();
    let begun = kin.expect("torture");
    let made = begun["dir"].as_str().expect("a path").to_owned();
    lab::eventually("devices run", || !processes_in(&made).is_empty());
    kin.interrupt();
    assert_eq!(kin.exit_code(), Some(1));
    assert_eq!(kin.expect("error")["kind"], "interrupted");
    assert_eq!(processes_in(&made), Vec::<String>::new());
    assert_eq!(home.inventory(), before, "something is left");
}

/// Command lines of processes that name a path.
fn processes_in(path: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").expect("there is one").flatten();
    // One that ends meanwhile has no command line.
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.filter(|line| line.contains(path)).collect()
}
