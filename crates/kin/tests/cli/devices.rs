//! `kin devices`.

use node::api::{Failure, Request};
use serde_json::{Value, json};
use snapbox::str;

use crate::{
    Home,
    device::{Device, Reply},
};

fn device(name: &str, me: bool) -> Value {
    json!({
        "device": "kd1qqqqqqqqqqqqqqqq", "name": name, "role": "admin", "group": "home",
        "online": false, "last_seen": null, "me": me,
    })
}

#[test]
fn a_list_for_people_and_for_programs() {
    let home = Home::new();
    let found = json!([device("laptop", true), device("na\u{1b}[2Js", false)]);
    let running =
        Device::run(&home, vec![Reply::Value(found.clone()), Reply::Value(found.clone())]);
    home.kin().arg("devices").assert().success().stderr_eq("").stdout_eq(str![[r#"
laptop        kd1qqqqqqqqq…  admin  this device
na/u{1b}[2Js  kd1qqqqqqqqq…  admin  never seen

"#]]);
    let run = home.kin().args(["devices", "list", "--group", "home", "--json"]).assert().success();
    let text = String::from_utf8(run.get_output().stdout.clone()).expect("is text");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    assert_eq!(json!(lines), found);
    assert_eq!(
        running.asked(),
        [Request::Devices { group: None }, Request::Devices { group: Some("home".into()) }]
    );
}

#[test]
fn each_action_asks_for_what_it_says() {
    let home = Home::new();
    for (args, request, said) in [
        (
            &["remove", "phone", "--yes"][..],
            Request::RemoveDevice { device: "phone".into(), group: None },
            "phone (kd1qqqqqqqqq…) is removed from home. ",
        ),
        (
            &["rename", "phone"],
            Request::RenameDevice { device: None, name: "phone".into() },
            "It is phone (kd1qqqqqqqqq…) now.",
        ),
        (
            &["rename", "kd1qq", "phone"],
            Request::RenameDevice { device: Some("kd1qq".into()), name: "phone".into() },
            "It is phone (kd1qqqqqqqqq…) now.",
        ),
        (&["rotate"], Request::RotateKey, "This device has a new key and id: kd1qqqqqqqqqqqqqqqq"),
        (
            &["role", "phone", "reader", "--group", "home"],
            Request::SetRole {
                device: "phone".into(),
                role: "reader".into(),
                group: Some("home".into()),
            },
            "phone (kd1qqqqqqqqq…) is admin of home now.",
        ),
    ] {
        let removes = matches!(request, Request::RemoveDevice { .. });
        let mut replies = vec![Reply::Value(device("phone", false))];
        let mut requests = vec![request];
        if removes {
            // Who is logged in stays so, and is told.
            replies.push(Reply::Value(json!(["10.0.0.7:40000"])));
            let device = device("phone", false)["device"].as_str().expect("an id").to_owned();
            requests.push(Request::SshSessions { device });
        }
        let running = Device::run(&home, replies);
        let run = home.kin().arg("devices").args(args).assert().success().stdout_eq("");
        let told = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        assert!(told.starts_with(said), "{args:?}: {told}");
        assert_eq!(
            told.contains("still open, and are not ended by this: 10.0.0.7:40000."),
            removes
        );
        assert_eq!(running.asked(), requests);
    }
}

#[test]
fn a_removal_is_asked_about_and_says_what_it_cannot_do() {
    let home = Home::new();
    let id = "kd1qqqqqqqqqqqqqqqq";
    let listed = || Reply::Value(json!([device("laptop", true), device("pho\u{1b}ne", false)]));
    for (which, group, meant) in [("pho\u{1b}ne", None, id), ("radio", Some("home"), "radio")] {
        let group = group.map(str::to_owned);
        let args = group.iter().flat_map(|group| ["--group", group]);
        let args: Vec<&str> = ["devices", "remove", which].into_iter().chain(args).collect();
        for (typed, removes) in [("n\n", false), ("", false), ("yes\n", false), ("y\n", true)] {
            let mut replies = vec![listed()];
            let mut requests = vec![Request::Devices { group: group.clone() }];
            if removes {
                replies.push(Reply::Value(device("pho\u{1b}ne", false)));
                replies.push(Reply::Value(json!([])));
                let device = meant.to_owned();
                requests.push(Request::RemoveDevice { device, group: group.clone() });
                requests.push(Request::SshSessions { device: id.to_owned() });
            }
            let running = Device::run(&home, replies);
            let code = i32::from(!removes);
            let run = home.kin().args(&args).stdin(typed).assert().code(code).stdout_eq("");
            let told = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
            assert!(told.contains("It does not reach into that device"), "{told}");
            assert!(told.contains("Remove it? [y/N]") && !told.contains('\u{1b}'), "{told}");
            assert_eq!(told.contains("nothing was removed"), !removes, "{told}");
            assert_eq!(told.contains("Removing pho\\u{1b}ne (kd1q"), meant == id, "{told}");
            assert_eq!(running.asked(), requests);
        }
    }
}

#[test]
fn a_failure_has_a_line_a_hint_and_an_exit_code() {
    let home = Home::new();
    let failure = || {
        Failure::usage("no_device", "no device is called pho\u{1b}ne")
            .hint("kin devices lists them")
    };
    let _running = Device::run(&home, vec![Reply::Failure(failure()), Reply::Failure(failure())]);
    let run = home.kin().args(["devices", "remove", "phone"]).assert().code(2).stdout_eq("");
    let told = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert_eq!(told, "error: no device is called pho\\u{1b}ne\nhint: kin devices lists them\n");
    let json = home.kin().args(["devices", "remove", "phone", "--json"]).assert().code(2);
    let json: Value = serde_json::from_slice(&json.get_output().stdout).expect("is JSON");
    let hint = "kin devices lists them";
    assert_eq!(
        json,
        json!({ "event": "error", "kind": "no_device", "message": "no device is called pho\\u{1b}ne", "hint": hint })
    );
}

#[test]
fn bad_input_reaches_no_device() {
    let home = Home::new();
    for args in [
        &["devices", "role", "phone", "boss"][..],
        &["devices", "rename"],
        &["devices", "rename", "a", "b", "c"],
        &["devices", "rename", ""],
        &["devices", "rename", "x\u{202e}y"],
        &["devices", "remove"],
        &["devices", "--group", "x", "remove", "y"],
        &["devices", "dance"],
    ] {
        home.kin().args(args).assert().code(2).stdout_eq("");
    }
    assert!(!home.path().join("lock").exists());
}

#[test]
fn a_state_in_use_without_a_socket_is_told_with_the_process() {
    let home = Home::new();
    let state = tree::StateDir::open(home.path()).expect("is ours");
    let _lock = state.lock().expect("is free");
    let run = home.kin().arg("devices").assert().code(1).stdout_eq("");
    let told = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(told.starts_with("error: another kin is using this device's state in "), "{told}");
    assert!(told.contains(&format!("(process {})\nhint: ", std::process::id())), "{told}");
}
