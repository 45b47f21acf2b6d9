//! Runs that go through, on the loopback interface.

use std::path::Path;

use lab::KinCommand;

use crate::Home;

#[test]
fn once_with_nobody_there_times_out() {
    let home = Home::new();
    let args = ["sync", "folder", "-p", "0", "--no-discovery", "--once", "--timeout", "1"];
    let run = home.kin().args(args).assert().code(4).stdout_eq("");
    let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(stderr.contains("error: no other device came within 1 s\nhint: "), "{stderr}");
    assert!(stderr.contains("note: standard input is not a terminal"), "{stderr}");
}

#[test]
fn open_says_so_loudly() {
    let home = Home::new();
    let args =
        ["sync", "folder", "-p", "0", "--no-discovery", "--once", "--timeout", "1", "--open"];
    let run = home.kin().args(args).assert().code(4);
    let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(stderr.contains("WARNING: --open lets in EVERY device"), "{stderr}");
}

#[test]
fn a_folder_that_cannot_go_on_ends_the_command() {
    let home = Home::new();
    let folder = home.folder();
    let args =
        ["sync", folder.to_str().expect("a plain path"), "-p", "0", "--no-discovery", "--json"];
    let mut kin =
        KinCommand::local(Path::new(env!("CARGO_BIN_EXE_kin")), home.path(), &args).start();
    kin.expect("listening");
    std::fs::rename(&folder, home.path().join("elsewhere")).expect("is ours");
    assert_eq!(kin.exit_code(), Some(1));
    let errors = kin.seen().filter(|event| event["event"] == "error");
    let kinds: Vec<_> = errors.map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["io", "stopped"]);
}

#[test]
fn the_demo_runs_through_and_leaves_nothing() {
    let home = Home::new();
    let before = home.inventory();
    home.kin().args(["demo", "--once"]).assert().success().stdout_eq("");
    assert_eq!(home.inventory(), before, "the demo's folders are left");
}

#[test]
fn the_demo_copies_a_folder_and_leaves_it_alone() {
    let home = Home::new();
    std::fs::create_dir_all(home.folder().join("a/b/empty")).expect("there is room");
    std::fs::write(home.folder().join("a/b/file.txt"), "x").expect("there is room");
    let before = home.inventory();
    let run = home.kin().args(["demo", "folder", "--once", "--json"]).assert().success();
    let stdout = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    for event in stdout.lines().map(serde_json::from_str::<serde_json::Value>) {
        let event = event.expect("every line is JSON");
        let on = event["on"].as_str();
        assert!(event["event"] == "demo" || matches!(on, Some("laptop" | "desktop")), "{event}");
    }
    assert!(stdout.contains(r#""path":"a/b/file.txt""#), "{stdout}");
    assert_eq!(home.inventory(), before, "the demo's folders are left, or the folder was touched");
}
