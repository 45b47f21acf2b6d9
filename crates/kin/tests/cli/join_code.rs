//! `kin join CODE`, `kin share --code`, `kin codes`: what they ask the device for, what they show, how they end.

use std::{fs, os::unix::fs::PermissionsExt as _};

use node::api::{ApiEvent, Request};
use serde_json::{Value, json};

use crate::{
    Home,
    device::{Device, Reply},
};

const CODE: &str = "kc1qqqsecretqqq";
const DEVICE: &str = "kd1qqqqqqqqqqqqqqqq";

fn offer(id: u32) -> ApiEvent {
    ApiEvent::Offer {
        id,
        folder: "0a0b".into(),
        name: "Pho\u{1b}tos".into(),
        from: "lap\u{202e}top".into(),
        device: DEVICE.into(),
        role: "reader".into(),
        group: "home".into(),
        expires: 1_800_000_000,
        grants: "This device will be a reader".into(),
    }
}

fn joined() -> ApiEvent {
    ApiEvent::Joined { folder: "0a0b".into(), dir: "/srv/photos".into(), role: "reader".into() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("is text")
}

/// Runs `kin join` before a device that sends these events, each from number `waits` on after one more answer.
fn join(
    args: &[&str],
    stdin: &str,
    events: Vec<ApiEvent>,
    waits: usize,
) -> (std::process::Output, Vec<Request>) {
    let home = Home::new();
    let running = Device::run(&home, vec![Reply::Waits(events, waits)]);
    let run = home.kin().arg("join").args(args).stdin(stdin).assert();
    (run.get_output().clone(), running.asked())
}

#[test]
fn t9_a_person_is_shown_what_is_offered_before_the_yes() {
    let home = Home::new();
    let file = home.path().join("code");
    fs::write(&file, CODE).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
    let running = Device::run(&home, vec![Reply::Waits(vec![offer(3), joined()], 1)]);
    let run = home
        .kin()
        .args(["join", "--from-file"])
        .arg(&file)
        .arg("/srv/photos")
        .stdin("y\n")
        .assert();
    let (run, asked) = (run.get_output().clone(), running.asked());
    let told = text(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{told}");
    let Some((Request::JoinCode(wish), answers)) = asked.split_first() else { panic!("{asked:?}") };
    assert_eq!((&*wish.code, wish.under), (CODE, false));
    assert_eq!(wish.dir, std::path::Path::new("/srv/photos"));
    assert_eq!(answers, [Request::Answer { id: 3, yes: true }]);
    for line in [
        "lap\\u{202e}top (kd1qqqqqqqqq…) offers the folder Pho\\u{1b}tos of its group home, as reader.",
        "A yes gives: This device will be a reader.",
        "Join? [y/N]",
        "Joined: the folder is kept in step in /srv/photos; this device is reader.",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains(CODE) && run.stdout.is_empty());
}

#[test]
fn json_has_the_events_of_the_contract() {
    let pending = ApiEvent::Pending { device: DEVICE.into(), reason: "offline".into() };
    let events = vec![offer(3), pending, joined()];
    let (run, asked) = join(&[CODE, "--json"], "y 3\n", events.clone(), 2);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let printed = text(&run.stdout);
    assert!(!printed.contains('\u{1b}') && !printed.contains(CODE));
    let printed: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    assert_eq!(json!(printed), json!(events));
    assert_eq!(asked[1..], [Request::Answer { id: 3, yes: true }]);
    // Rule T20: it was an argument.
    assert!(text(&run.stderr).contains("others on this machine may have seen it"));
}

#[test]
fn each_refusal_exits_3_in_words() {
    for (reason, words) in [
        ("expired", "the code's time is over"),
        ("used_up", "as many devices as the code is for have used it"),
        ("revoked", "was taken back"),
        ("unknown", "nobody knows the code"),
        ("folder_gone", "not shared any more"),
        ("declined", "the person there said no"),
    ] {
        let refused = ApiEvent::Refused { reason: reason.into() };
        let (run, _) = join(&[CODE], "", vec![refused], 9);
        let told = text(&run.stderr);
        assert_eq!(run.status.code(), Some(3), "{told}");
        assert!(
            told.contains(&format!("error: not joined: {words}")) || told.contains(words),
            "{told}"
        );
        assert!(told.contains("hint:"), "{told}");
    }
    let (run, _) = join(&[CODE], "", vec![ApiEvent::Timeout], 9);
    assert_eq!(run.status.code(), Some(4));
}

#[test]
fn what_is_wrong_is_said_once() {
    let error = ApiEvent::Error {
        kind: "joined".into(),
        message: "the folder is kept in /x already".into(),
        hint: "kin folders lists what is kept here".into(),
    };
    let (run, _) = join(&[CODE], "", vec![error.clone()], 9);
    let told = text(&run.stderr);
    assert_eq!(told.matches("kept in /x").count(), 1, "{told}");
    assert_eq!((told.matches("hint:").count(), run.status.code()), (1, Some(2)), "{told}");
    let (run, _) = join(&[CODE, "--json"], "", vec![error], 9);
    assert_eq!(text(&run.stdout).lines().count(), 1, "{}", text(&run.stdout));
}

#[test]
fn attack_09_what_is_no_code_is_refused_by_name() {
    for (args, said) in [
        (&["maple", "otter", "42", "17"][..], "never typed"),
        (&["kt1qqqq"][..], "pairing token"),
        (&["kin:pair/kt1qqqq"][..], "pairing token"),
    ] {
        let home = Home::new();
        let run = home.kin().arg("join").args(args).assert();
        let told = text(&run.get_output().stderr);
        assert_eq!(run.get_output().status.code(), Some(2), "{told}");
        assert!(told.contains(said), "{told}");
    }
    // And a code is none of kin pair's.
    let home = Home::new();
    let run = home.kin().args(["pair", "-"]).stdin(CODE).assert();
    let told = text(&run.get_output().stderr);
    assert!(told.contains("sharing code") && !told.contains(CODE), "{told}");
}

#[test]
fn t6_yes_alone_takes_no_code() {
    let home = Home::new();
    let run = home.kin().args(["join", "-", "--yes"]).stdin(CODE).assert();
    let told = text(&run.get_output().stderr);
    assert_eq!(run.get_output().status.code(), Some(2), "{told}");
    assert!(told.contains("--expect-device"), "{told}");
}

/// A code of which a device says this, and what `kin share --code` makes of it.
fn shared(args: &[&str], posted: &[Option<&str>]) -> std::process::Output {
    let home = Home::new();
    let mut code = json!({
        "event": "code", "id": "3f2a00001111", "code": CODE, "link": "kin:join/kc1qqqsecretqqq",
        "role": "reader", "expires": 1_800_000_000, "uses": 1, "folder": "0a0b", "name": "docs",
        "group": "home", "ask": false,
    });
    let mut line = json!({
        "id": "3f2a00001111", "folder": "docs", "group": "home", "role": "reader",
        "expires": 1_800_000_000, "uses_left": 1, "used_by": [], "state": "open", "ask": false,
        "waiting": [], "refused": [],
    });
    let mut replies = Vec::new();
    for (number, why) in posted.iter().enumerate() {
        let said = if number == 0 { &mut code } else { &mut line };
        said.as_object_mut().expect("an object").remove("unposted");
        if let Some(why) = why {
            said["unposted"] = json!(why);
        }
        replies.push(Reply::Value(if number == 0 { said.clone() } else { json!([said]) }));
    }
    let running = Device::run(&home, replies);
    let run = home.kin().args(["share", "docs", "--code"]).args(args).assert();
    assert_eq!(running.asked().len(), posted.len());
    run.get_output().clone()
}

#[test]
fn a_code_that_is_at_no_relay_is_shown_with_a_warning() {
    let why = "the relay refuses: it is\u{1b} full";
    let full = Some(why);
    let run = shared(&[], &[Some(""), Some(""), full]);
    let told = text(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{told}");
    assert!(text(&run.stdout).starts_with(CODE));
    let warning =
        "warning: the code is at no relay yet: the relay refuses: it is\\u{1b} full\nhint: ";
    assert!(told.contains(warning), "{told}");
    let run = shared(&["--json"], &[Some(""), full]);
    let said: Value = serde_json::from_slice(&run.stdout).expect("is JSON");
    assert_eq!(said["unposted"], why);
    // One that is there, and one of a device without a relay.
    for posted in [&[Some(""), None][..], &[None]] {
        let run = shared(&[], posted);
        assert!(!text(&run.stderr).contains("relay"), "{}", text(&run.stderr));
    }
}
