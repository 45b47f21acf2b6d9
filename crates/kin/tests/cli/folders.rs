//! `kin share`, `kin join`, `kin folders`, and folders named to `kin history`.

use node::api::{Failure, FolderMode, Request};
use serde_json::{Value, json};

use crate::{
    Home,
    device::{Device, Reply},
};

fn folder(name: &str, dir: Option<&str>, state: &str) -> Value {
    json!({
        "folder": "f123", "name": name, "dir": dir, "group": "home", "state": state, "files": 3,
        "bytes": 5, "need_files": 0, "need_bytes": 0, "conflicts": 0, "role": "admin", "mode": "both",
    })
}

fn stderr(assert: &snapbox::cmd::OutputAssert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).expect("is text")
}

fn lines(assert: &snapbox::cmd::OutputAssert) -> Vec<Value> {
    let text = String::from_utf8(assert.get_output().stdout.clone()).expect("is text");
    text.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect()
}

#[test]
fn a_directory_is_shared_by_its_whole_path() {
    let home = Home::new();
    let here = home.folder();
    let found = folder("docs", here.to_str(), "idle");
    let running =
        Device::run(&home, vec![Reply::Value(found.clone()), Reply::Value(found.clone())]);
    let run = home.kin().args(["share", "./folder"]).assert().success().stdout_eq("");
    let told = stderr(&run);
    assert!(
        told.contains("is shared with home as docs. On another device: kin join docs"),
        "{told}"
    );
    let args = ["share", "folder", "--name", "docs", "--group", "g", "--send-only", "--json"];
    let run = home.kin().args(args).assert().success().stderr_eq("");
    assert_eq!(lines(&run), [found]);
    let share = |name: Option<&str>, group: Option<&str>, mode| Request::Share {
        dir: here.clone(),
        name: name.map(str::to_owned),
        group: group.map(str::to_owned),
        mode,
    };
    assert_eq!(
        running.asked(),
        [share(None, None, FolderMode::Both), share(Some("docs"), Some("g"), FolderMode::Send)]
    );
    for args in [
        &["share"][..],
        &["share", "nowhere"],
        &["share", "folder", "--name", "a/b"],
        &["share", "folder", "--name", ".."],
        &["share", "folder", "--send-only", "--receive-only"],
    ] {
        home.kin().args(args).assert().code(2).stdout_eq("");
    }
    assert_eq!(running.asked(), []);
}

#[test]
fn a_join_tells_its_plan_and_asks_first() {
    let home = Home::new();
    let plan = json!({ "adds": 120, "conflicts": 3, "deletes": 0, "sends": 1, "known": true });
    let dir = home.path().join("docs");
    let joined = folder("Documents", dir.to_str(), "scanning");
    let request = Request::JoinPlan { folder: "Documents".into(), dir: dir.clone() };
    let join = Request::Join { folder: "Documents".into(), dir, mode: FolderMode::Receive };
    let args = ["join", "Documents", "docs", "--receive-only"];
    let replies = || vec![Reply::Value(plan.clone()), Reply::Value(joined.clone())];

    for (stdin, more) in [("y\n", &[][..]), ("", &["--yes"]), ("Y\n", &["--json"])] {
        let running = Device::run(&home, replies());
        let run = home.kin().args(args).args(more).stdin(stdin).assert().success();
        let told = stderr(&run);
        assert_eq!(running.asked(), [request.clone(), join.clone()]);
        if more == ["--json"] {
            let mut expected = plan.clone();
            expected["event"] = "plan".into();
            expected["folder"] = "Documents".into();
            expected["dir"] = home.path().join("docs").to_str().into();
            assert_eq!(lines(&run), [expected, joined.clone()]);
        } else {
            assert!(told.contains("adds 120, conflicts 3, deletes 0; sends 1"), "{told}");
            assert!(told.contains("Documents is kept in step in "), "{told}");
        }
    }
    for no in ["", "n\n", "\n", "yes\n", "1\n"] {
        let running = Device::run(&home, replies());
        let run = home.kin().args(args).stdin(no).assert().code(1);
        assert!(stderr(&run).contains("error: not joined; nothing was changed"));
        assert_eq!(running.asked(), std::slice::from_ref(&request), "{no:?}");
    }
}

#[test]
fn a_join_without_a_directory_takes_one_of_the_folders_name() {
    let home = Home::new();
    let plan = json!({ "adds": 0, "conflicts": 0, "deletes": 0, "sends": 0, "known": false });
    let folders =
        |name: &str| json!([folder("other", Some("/x"), "idle"), folder(name, None, "not_joined")]);
    let running = Device::run(&home, vec![Reply::Value(folders("my docs")), Reply::Value(plan)]);
    let run = home.kin().args(["join", "my docs"]).stdin("n\n").assert().code(1);
    assert!(stderr(&run).contains("no device that has it is linked"));
    let dir = home.path().join("my docs");
    assert_eq!(
        running.asked(),
        [Request::Folders, Request::JoinPlan { folder: "my docs".into(), dir }]
    );
    drop(running);
    // Another device chose the name.
    for name in ["../evil", ".ssh", "a/b", "-rf", "..", "x\n"] {
        let running = Device::run(&home, vec![Reply::Value(folders(name))]);
        let run = home.kin().args(["join", "--yes", "--", name]).assert().code(2);
        assert!(stderr(&run).contains("give the directory, too"), "{name}");
        assert_eq!(running.asked(), [Request::Folders]);
    }
    let running = Device::run(&home, vec![Reply::Value(folders("docs"))]);
    let run = home.kin().args(["join", "other"]).assert().code(2);
    assert!(stderr(&run).contains("other is here already, in /x"));
    for text in ["kt1qqqq", "kin:pair/kt1q"] {
        let run = home.kin().args(["join", text]).assert().code(2);
        assert!(stderr(&run).contains("pairing token") && !stderr(&run).contains(text));
    }
    assert_eq!(running.asked(), [Request::Folders]);
}

#[test]
fn each_action_asks_for_what_it_says() {
    let home = Home::new();
    let name = || "docs".to_owned();
    let here = home.folder().to_str().expect("is text").to_owned();
    for (args, request, said) in [
        (&["pause", "docs"][..], Request::Pause { folder: name() }, "docs is paused."),
        (&["pause", "./folder"], Request::Pause { folder: here.clone() }, "docs is paused."),
        (
            &["resume", "docs"],
            Request::Resume { folder: name(), accept_deletes: false },
            "docs goes on.",
        ),
        (
            &["resume", "docs", "--accept-deletes"],
            Request::Resume { folder: name(), accept_deletes: true },
            "docs goes on, with the deletions. Each other device that is to make them asks its own person",
        ),
        (
            &["forget", &here],
            Request::Forget { folder: here.clone() },
            "docs is kept in step here no more",
        ),
        (
            &["unshare", "docs", "--yes"],
            Request::Unshare { folder: name() },
            "docs is taken from the group home.",
        ),
        (
            &["mode", "docs", "send"],
            Request::SetMode { folder: name(), mode: FolderMode::Send },
            "docs sends and receives here.",
        ),
    ] {
        let running = Device::run(&home, vec![Reply::Value(folder("docs", Some("/x"), "idle"))]);
        let run = home.kin().arg("folders").args(args).assert().success().stdout_eq("");
        assert!(stderr(&run).starts_with(said), "{args:?}: {}", stderr(&run));
        assert_eq!(running.asked(), [request]);
    }
    let running = Device::run(&home, vec![]);
    home.kin().args(["folders", "unshare", "docs"]).stdin("n\n").assert().code(1);
    home.kin().args(["folders", "mode", "docs", "sideways"]).assert().code(2);
    home.kin().args(["folders", "pause"]).assert().code(2);
    assert_eq!(running.asked(), []);
}

/// A code whose picture could not be written would be out, and nobody would know it.
#[test]
fn where_a_codes_picture_cannot_be_no_code_is_issued() {
    let home = Home::new();
    let running = Device::run(&home, vec![]);
    let run = home.kin().args(["share", "folder", "--code", "--qr-file", "none/x.png"]).assert();
    let run = run.code(2).stdout_eq("");
    assert!(stderr(&run).contains("cannot write none/x.png"), "{}", stderr(&run));
    assert_eq!(running.asked(), []);
}

/// Nothing moves without a device in the background, and whoever begins is told so.
#[test]
fn without_a_running_device_a_newcomer_is_told_to_start_it() {
    let home = Home::new();
    let run = home.kin().args(["share", "folder"]).assert().success();
    assert!(stderr(&run).contains("nothing is kept in step until it does: kin up"));
    let run = home.kin().arg("status").assert().success();
    let told = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    assert!(!told.contains("Nothing is wrong") && !told.contains("0 files"), "{told}");
    assert!(
        told.ends_with("Nobody else is here yet: kin pair, on this device and on another.\n"),
        "{told}"
    );
    let run = home.kin().args(["share", "tmp", "--json"]).assert().success().stderr_eq("");
    drop(run);
    let run = home.kin().args(["why", "folder", "a"]).assert().code(1);
    assert!(stderr(&run).contains("the device does not run"), "{}", stderr(&run));
}

#[test]
fn a_list_shows_what_holds_a_folder() {
    let home = Home::new();
    let mut stopped = folder("do\u{1b}cs", Some("/x"), "stopped");
    stopped["reason"] = "the disk\nis gone".into();
    stopped["conflicts"] = 1.into();
    let found = json!([stopped, folder("photos", None, "not_joined")]);
    let _running = Device::run(
        &home,
        vec![Reply::Value(found.clone()), Reply::Value(found.clone()), Reply::Value(json!([]))],
    );
    let run = home.kin().arg("folders").assert().success();
    let listed = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    assert!(listed.starts_with("do\\u{1b}cs  STOPPED     3 files, 5 B  /x\nphotos"), "{listed}");
    assert_eq!(
        stderr(&run),
        "note: do\\u{1b}cs: the disk\\nis gone\nnote: do\\u{1b}cs has 1 conflict copy\n"
    );
    let run = home.kin().args(["folders", "list", "--json"]).assert().success().stderr_eq("");
    assert_eq!(json!(lines(&run)), found);
    let run = home.kin().arg("folders").assert().success().stdout_eq("");
    assert!(stderr(&run).contains("kin share DIR"));
}

#[test]
fn history_and_restore_take_a_folders_name() {
    let home = Home::new();
    home.kin().arg("id").assert().success();
    std::fs::create_dir(home.folder().join(".kin")).expect("there is room");
    std::fs::write(home.folder().join(".kin/lock"), "").expect("there is room");
    let here = folder("docs", home.folder().to_str(), "idle");
    let running = Device::run(
        &home,
        vec![
            Reply::Value(here.clone()),
            Reply::Value(here),
            Reply::Value(folder("docs", None, "not_joined")),
            Reply::Failure(Failure::usage("no_folder", "no")),
            Reply::Failure(
                Failure::usage("ambiguous", "several are called docs").hint("say which"),
            ),
        ],
    );
    let run = home.kin().args(["history", "docs"]).assert().success();
    assert_eq!(stderr(&run), "Nothing is in history.\n");
    let run = home.kin().args(["restore", "docs", "a"]).assert().code(1);
    assert!(stderr(&run).contains("nothing of it is in history"));
    for said in ["was not joined on this device", "docs does not exist", "several are called docs"]
    {
        let run = home.kin().args(["history", "docs"]).assert().code(2);
        assert!(stderr(&run).contains(said), "{said}: {}", stderr(&run));
    }
    assert_eq!(running.asked().len(), 5);
    // What is a directory, or a path, is no name.
    home.kin().args(["history", "folder"]).assert().success();
    home.kin().args(["history", "./docs"]).assert().code(2);
    assert_eq!(running.asked(), []);
}

/// Each names what was typed, and what to type instead.
#[test]
fn paths_and_names_that_are_none_are_told_apart() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let home = Home::new();
    home.kin().arg("id").assert().success();
    for (args, said) in [
        (&["why", "Docs", "."][..], "that is the folder itself"),
        (&["why", "Docs", ".kinignore"], "each device has its own"),
        (&["history", "nofolder"], "kin folders lists them"),
        (&["group", "create", ""], "a group needs a name"),
    ] {
        let run = home.kin().args(args).assert().code(2);
        assert!(stderr(&run).contains(said), "{args:?}: {}", stderr(&run));
    }
    let name = OsStr::from_bytes(b"a\xffb");
    std::fs::create_dir(home.path().join(name)).expect("there is room");
    let run = home.kin().arg("share").arg(name).assert().code(2);
    assert!(stderr(&run).contains("is not UTF-8"), "{}", stderr(&run));
}

#[test]
fn a_state_that_cannot_be_read_is_told_with_what_to_do() {
    let home = Home::new();
    home.kin().arg("status").assert().success();
    for end in ["-wal", "-shm"] {
        // Where it is there, it has all that the file lacks.
        let _ = std::fs::remove_file(home.path().join(format!("state.db{end}")));
    }
    lab::files::write(home.path().join("state.db"), "no database".repeat(1000));
    let run = home.kin().arg("status").assert().code(1);
    assert!(stderr(&run).contains("from a backup"), "{}", stderr(&run));
}
