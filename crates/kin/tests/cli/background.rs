//! `kin status`, `up`, `down`, `log`, `service`, `group`, `leave`, `completions` and `man`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use node::api::{ApiEvent, Failure, Request};
use serde_json::{Value, json};

use crate::{
    Home,
    device::{Device, Reply},
};

fn group(name: &str) -> Value {
    json!({
        "group": "0123456789abcdef", "name": name, "used": true, "role": "admin", "devices": 2,
        "folders": 1, "warnings": ["a fo\u{1b}rk"],
    })
}

fn status(errors: &Value) -> Value {
    json!({
        "device": "kd1qqqqqqqqqqqqqqqq", "name": "lap\u{202e}top", "running": true, "port": 9000,
        "devices": [], "folders": [], "groups": [], "joins": [], "errors": errors,
    })
}

fn stdout(assert: &snapbox::cmd::OutputAssert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).expect("is text")
}

fn stderr(assert: &snapbox::cmd::OutputAssert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).expect("is text")
}

#[test]
fn a_status_ends_with_what_is_wrong() {
    let home = Home::new();
    let wrong = json!([{ "kind": "io", "folder": "docs", "message": "no sp\u{1b}ace", "hint": "make room" }]);
    let _running = Device::run(
        &home,
        vec![
            Reply::Value(status(&wrong)),
            Reply::Value(status(&wrong)),
            Reply::Value(status(&json!([]))),
        ],
    );
    let run = home.kin().arg("status").assert().success().stderr_eq("");
    assert_eq!(
        stdout(&run),
        "lap\\u{202e}top (kd1qqqqqqqqq…) runs on port 9000.\n\nerror: docs: no sp\\u{1b}ace\nhint: make room\n"
    );
    let run = home.kin().args(["status", "--json"]).assert().success();
    assert!(!stdout(&run).contains('\u{202e}'));
    let line: Value = serde_json::from_str(&stdout(&run)).expect("one object");
    assert_eq!(line, status(&wrong));
    let run = home.kin().arg("status").assert().success();
    assert!(stdout(&run).ends_with("kin pair, on this device and on another.\n"));
}

#[test]
fn a_watched_status_is_shown_again_when_it_changes() {
    let home = Home::new();
    let (before, after) =
        (status(&json!([])), status(&json!([{ "kind": "x", "message": "y", "hint": "" }])));
    let events = vec![
        ApiEvent::GroupChanged { group: "home".into() },
        ApiEvent::FolderChanged { folder: "f".into() },
        ApiEvent::Stopped,
    ];
    // Each further event comes after a status was asked for.
    let running = Device::run(
        &home,
        vec![
            Reply::Waits(events, 1),
            Reply::Value(before.clone()),
            Reply::Value(before.clone()),
            Reply::Value(after.clone()),
            Reply::Value(after.clone()),
            Reply::Value(after.clone()),
            Reply::Value(after.clone()),
        ],
    );
    let run = home.kin().args(["status", "--watch", "--json"]).assert().success();
    let shown: Vec<Value> =
        stdout(&run).lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    assert!(shown == [before.clone(), after] || shown == [before], "{shown:?}");
    assert_eq!(running.asked().first(), Some(&Request::Events));
    assert_eq!(stderr(&run), "The device has stopped.\n");
    drop(running);
    let run = home.kin().args(["status", "--watch"]).assert().code(1);
    assert!(stderr(&run).starts_with("error: the device does not run"));
}

#[test]
fn a_device_that_runs_is_not_started_again_and_one_that_does_not_is_not_stopped() {
    let home = Home::new();
    let run = home.kin().arg("down").assert().success();
    assert_eq!(stderr(&run), "The device does not run.\n");
    let run = home.kin().args(["down", "--json"]).assert().success();
    assert_eq!(stdout(&run), "{\"event\":\"down\",\"was_running\":false}\n");
    let running = Device::run(&home, vec![Reply::Failure(Failure::failed("busy", "not now"))]);
    let run = home.kin().arg("up").assert().success();
    assert_eq!(stderr(&run), "The device runs already.\n");
    let run = home.kin().args(["up", "--foreground"]).assert().code(1);
    assert!(stderr(&run).starts_with("error: the device runs already\nhint: "), "{}", stderr(&run));
    home.kin().arg("down").assert().code(1);
    assert_eq!(running.asked(), [Request::Down]);
}

#[test]
fn a_log_shows_its_last_lines_escaped() {
    let home = Home::new();
    let run = home.kin().arg("log").assert().success().stdout_eq("");
    assert!(stderr(&run).starts_with("There is no log yet in "));
    let write = |name: &str, text: &str| {
        fs::write(home.path().join(name), text).expect("there is room");
    };
    write("kin.log.1", "one\ntwo\n");
    write("kin.log", "three \u{1b}[2J C:\\x\nfour\nfi");
    let run = home.kin().args(["log", "-n", "3"]).assert().success();
    assert_eq!(stdout(&run), "two\nthree \\u{1b}[2J C:\\x\nfour\n");
    let run = home.kin().args(["log", "-n", "1", "--json"]).assert().success();
    assert_eq!(stdout(&run), "{\"event\":\"log\",\"line\":\"four\"}\n");
    fs::remove_file(home.path().join("kin.log")).expect("is there");
    std::os::unix::fs::symlink("/etc/passwd", home.path().join("kin.log")).expect("can be made");
    home.kin().arg("log").assert().code(1).stdout_eq("");
}

#[test]
fn a_service_is_installed_and_removed_by_its_manager() {
    let home = Home::new();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).expect("there is room");
    let manager = |text: &str| {
        let file = bin.join("systemctl");
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("there is room");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("is ours");
    };
    let kin = |action: &str| {
        let path = format!("{}:/usr/bin:/bin", bin.display());
        home.kin().env("HOME", home.path()).env("PATH", path).args(["service", action])
    };
    let unit = home.path().join(".config/systemd/user/kin.service");
    manager("echo \"$*\" >> \"$HOME/told\"");
    kin("install").assert().success().stdout_eq("");
    let text = fs::read_to_string(&unit).expect("is there");
    assert_eq!(stdout(&kin("print").assert().success()), text);
    assert!(
        text.contains(&format!("Environment=\"KIN_HOME={}\"", home.path().display())),
        "{text}"
    );
    // A second time changes nothing.
    kin("install").assert().success();
    kin("uninstall").assert().success();
    assert!(!unit.exists());
    let told = fs::read_to_string(home.path().join("told")).expect("was told");
    let install = "--user daemon-reload\n--user enable --now kin.service\n";
    assert_eq!(told, format!("{install}{install}--user disable --now kin.service\n"));
    let run = kin("uninstall").assert().success();
    assert!(stderr(&run).contains("was not there"), "{}", stderr(&run));

    manager("echo 'no b\x1bus' >&2; exit 1");
    let run = kin("install").assert().code(1);
    let said = stderr(&run);
    assert!(said.contains("systemctl --user daemon-reload failed: no b\\u{1b}us"), "{said}");
    assert!(said.contains("systemctl --user enable --now kin.service"), "{said}");
    assert!(unit.exists());
}

/// A port that is asked for and not taken is told.
#[test]
fn a_device_that_runs_takes_no_other_port() {
    let home = Home::new();
    for (args, code, asked) in [
        (&["up"][..], 0, vec![]),
        (&["up", "-p", "9000"], 0, vec![Request::Status]),
        (&["up", "-p", "9444"], 1, vec![Request::Status]),
    ] {
        let running = Device::run(&home, vec![Reply::Value(status(&json!([])))]);
        let run = home.kin().args(args).assert().code(code);
        let said = stderr(&run);
        assert!(said.contains("he device runs already"), "{said}");
        assert_eq!(said.contains("kin up -p 9444"), code == 1, "{said}");
        assert_eq!(running.asked(), asked);
    }
}

#[test]
fn groups_are_listed_made_and_chosen() {
    let home = Home::new();
    let running = Device::run(
        &home,
        vec![
            Reply::Value(json!([group("home")])),
            Reply::Value(json!([group("home")])),
            Reply::Value(group("club")),
            Reply::Value(group("club")),
            Reply::Value(json!([group("home")])),
            Reply::Value(json!([group("home")])),
            Reply::Value(group("new")),
        ],
    );
    let run = home.kin().arg("group").assert().success();
    assert_eq!(stdout(&run), "*  home  01234567  admin  2 devices  1 folder\n");
    assert_eq!(stderr(&run), "WARNING: home: a fo\\u{1b}rk\n");
    let run = home.kin().args(["group", "list", "--json"]).assert().success();
    assert_eq!(serde_json::from_str::<Value>(&stdout(&run)).expect("is JSON"), group("home"));
    home.kin().args(["group", "create", "club"]).assert().success();
    home.kin().args(["group", "use", "club"]).assert().success();
    let rescue = ["group", "rescue", "home", "--device", "nas", "--device", "tv"];
    let run = home.kin().args(rescue).stdin("").assert().code(1);
    assert!(stderr(&run).contains("with the folders of home, "), "{}", stderr(&run));
    let run = home.kin().args(rescue).stdin("y\n").assert().success();
    assert!(stderr(&run).contains("this device as admin, and nas, tv. "), "{}", stderr(&run));
    let devices = vec!["nas".to_owned(), "tv".to_owned()];
    assert_eq!(
        running.asked(),
        [
            Request::Groups,
            Request::Groups,
            Request::CreateGroup { name: "club".into() },
            Request::UseGroup { group: "club".into() },
            Request::Groups,
            Request::Groups,
            Request::RescueGroup { group: Some("0123456789abcdef".into()), devices },
        ]
    );
    home.kin().args(["group", "create", "a\u{1b}b"]).assert().code(2);
    home.kin().args(["group", "rescue", "--yes"]).assert().code(2);
}

#[test]
fn t6_going_along_into_a_new_group_is_a_persons_word() {
    let home = Home::new();
    let device = "kd1y24d65kme2uchn4akcc36aylj2uyrdw5ge8a88g70arczufmj6dqqk2vdg";
    let asked =
        json!({ "device": device, "name": "n\u{1b}as", "role": "admin", "folders": ["Documents"] });
    let list = || Reply::Value(json!([asked]));
    let run_with = |args: &[&str], stdin: &str, replies| {
        let running = Device::run(&home, replies);
        let run = home.kin().args(["group", "follow"]).args(args).stdin(stdin).assert();
        let output = run.get_output().clone();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said, running.asked())
    };
    let follow = || Request::FollowGroup { device: device.to_owned() };
    let (code, said, requests) = run_with(&[&device[..9]], "n\n", vec![list()]);
    assert_eq!((code, requests), (Some(1), vec![Request::Invitations]));
    assert!(said.contains("n\\u{1b}as") && said.contains("along: Documents."), "{said}");
    let (code, _, requests) =
        run_with(&[&device[..9]], "y\n", vec![list(), Reply::Value(asked.clone())]);
    assert_eq!((code, requests), (Some(0), vec![Request::Invitations, follow()]));
    // --yes says nothing about whom to trust, unless it is said who that must be.
    let (code, _, requests) = run_with(&[device, "--yes"], "", vec![list()]);
    assert_eq!((code, requests), (Some(1), vec![Request::Invitations]));
    let expected = [device, "--yes", "--expect-device", device];
    let (code, _, requests) = run_with(&expected, "", vec![list(), Reply::Value(asked.clone())]);
    assert_eq!((code, requests), (Some(0), vec![Request::Invitations, follow()]));
    let other = [device, "--yes", "--expect-device", "kd1other"];
    let (code, said, requests) = run_with(&other, "y\n", vec![list()]);
    assert_eq!((code, requests), (Some(3), vec![Request::Invitations]), "{said}");
    let (code, said, _) = run_with(&["tv"], "y\n", vec![list()]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn the_last_admin_is_warned_before_it_leaves() {
    let home = Home::new();
    let id = group("home")["group"].as_str().expect("an id").to_owned();
    let leave = |last_admin| Request::LeaveGroup { group: Some(id.clone()), last_admin };
    let looks = || {
        let devices = Request::Devices { group: Some(id.clone()) };
        vec![Request::Groups, devices]
    };
    let device = |me: bool, online: bool| {
        json!({
            "device": "kd1q", "name": "nas", "role": "admin", "group": "home", "online": online,
            "last_seen": null, "me": me,
        })
    };
    let refused =
        || Reply::Failure(Failure::usage("last_admin", "nobody else is an admin of home"));
    let left = || Reply::Value(group("home"));
    let run_of = |args: &[&str], stdin: &str, online: bool, replies: Vec<Reply>| {
        let devices = json!([device(true, true), device(false, online)]);
        let mut all = vec![Reply::Value(json!([group("home")])), Reply::Value(devices)];
        all.extend(replies);
        let running = Device::run(&home, all);
        let run = home.kin().args(args).stdin(stdin).assert();
        (run.get_output().clone(), running.asked())
    };
    let run_with = |args: &[&str], stdin: &str, replies| run_of(args, stdin, true, replies);
    let after = |more: Vec<Request>| [looks(), more].concat();
    let (run, asked) = run_with(&["leave"], "y\n", vec![left()]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!((run.status.code(), asked), (Some(0), after(vec![leave(false)])));
    assert!(said.contains("Leaving home: ") && !said.contains("WARNING"), "{said}");
    // Nobody would hear of it.
    let (run, _) = run_of(&["leave", "--yes"], "", false, vec![left()]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(said.contains("WARNING: no other device of the group is linked"), "{said}");
    let (run, asked) = run_with(&["leave"], "n\n", vec![]);
    assert_eq!((run.status.code(), asked), (Some(1), looks()));
    let (run, asked) = run_with(&["group", "leave"], "y\ny\n", vec![refused(), left()]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(said.contains("WARNING: nobody else is an admin of home"), "{said}");
    assert_eq!((run.status.code(), asked), (Some(0), after(vec![leave(false), leave(true)])));
    let (run, asked) = run_with(&["leave"], "y\nn\n", vec![refused()]);
    assert_eq!((run.status.code(), asked), (Some(1), after(vec![leave(false)])));
    let (run, asked) = run_with(&["leave", "--yes"], "", vec![refused()]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(said.contains("hint: --last-admin leaves it all the same"), "{said}");
    assert_eq!((run.status.code(), asked), (Some(2), after(vec![leave(false)])));
    let (run, asked) = run_with(&["leave", "--yes", "--last-admin"], "", vec![left()]);
    assert_eq!((run.status.code(), asked), (Some(0), after(vec![leave(true)])));
}

/// Whoever asks before looking asks about nothing.
#[test]
fn a_group_that_is_not_there_is_asked_nothing_about() {
    let home = Home::new();
    for (args, groups) in [
        (&["leave"][..], json!([])),
        (&["group", "rescue", "nope"], json!([group("home")])),
        (&["leave", "nope"], json!([group("home")])),
    ] {
        let running = Device::run(&home, vec![Reply::Value(groups)]);
        let run = home.kin().args(args).stdin("y\n").assert().code(2);
        assert!(!stderr(&run).contains("Go on?"), "{}", stderr(&run));
        assert_eq!(running.asked(), [Request::Groups]);
    }
}

#[test]
fn completions_and_manual_pages_are_made_of_the_commands() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = home.kin().args(["completions", shell]).assert().success().stderr_eq("");
        let text = stdout(&run);
        for word in ["pair", "devices", "expect-device", "accept-deletes"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
    home.kin().args(["completions", "tcsh"]).assert().code(2);
    let run = home.kin().arg("man").assert().success().stderr_eq("");
    assert!(stdout(&run).contains(".TH kin 1"), "{}", stdout(&run));
    let pages = home.path().join("pages");
    home.kin().args(["man", "--dir", "pages"]).assert().code(2);
    fs::create_dir(&pages).expect("there is room");
    home.kin().args(["man", "--dir", "pages"]).assert().success().stdout_eq("");
    for page in ["kin.1", "kin-sync.1", "kin-pair.1", "kin-devices-remove.1"] {
        let text =
            fs::read_to_string(pages.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".SH"), "{page}");
    }
}
