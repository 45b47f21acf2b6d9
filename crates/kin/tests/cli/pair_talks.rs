//! `kin pair` with a person who answers, chooses, and leaves.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Command, Output, Stdio},
};

use node::api::{ApiEvent, Request};
use serde_json::{Value, json};

use crate::{
    Home,
    device::{Device, Reply},
    pair::{ANSWER, DEVICE, answer, confirm, paired, searching, ssh, text},
};

/// Runs `kin pair` and types each line once the text before it is shown; `^C` is Ctrl-C.
fn talk(
    events: Vec<ApiEvent>,
    waits: usize,
    then: Vec<Value>,
    talk: &[(&str, &str)],
) -> (Output, Vec<Request>) {
    let mut replies = vec![Reply::Waits(events, waits)];
    replies.extend(then.into_iter().map(Reply::Value));
    talk_with(&[], replies, talk)
}

/// The same with other arguments and replies.
fn talk_with(args: &[&str], replies: Vec<Reply>, talk: &[(&str, &str)]) -> (Output, Vec<Request>) {
    let home = Home::new();
    let running = Device::run(&home, replies);
    let mut kin = Command::new(env!("CARGO_BIN_EXE_kin"))
        .arg("pair")
        .args(args)
        .env("KIN_HOME", home.path())
        .env("KIN_SSH_HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("can be started");
    let mut typed = kin.stdin.take().expect("is piped");
    let mut stderr = BufReader::new(kin.stderr.take().expect("is piped"));
    let (mut told, mut seen) = (Vec::new(), 0);
    for (shown, line) in talk {
        while !String::from_utf8_lossy(&told[seen..]).contains(shown) {
            // A question ends with no line end.
            assert_ne!(stderr.read_until(b' ', &mut told).expect("is read"), 0, "{}", text(&told));
        }
        seen = told.len();
        if *line == "^C" {
            let pid = rustix::process::Pid::from_child(&kin);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        } else {
            writeln!(typed, "{line}").expect("is read");
        }
    }
    stderr.read_to_end(&mut told).expect("is read");
    let status = kin.wait().expect("ends");
    drop(typed);
    (Output { status, stdout: Vec::new(), stderr: told }, running.asked())
}

/// That device as a member of a group.
fn member_of(group: &str, device: &str) -> Value {
    json!({
        "device": device, "name": "nas", "role": "admin", "group": group, "online": true,
        "last_seen": null, "me": false,
    })
}

/// Rule T8: a yes may count whatever becomes of the command, which says what has come of it.
#[test]
fn t8_who_stops_after_the_yes_is_told_what_it_brought_about() {
    let events = || vec![searching(), confirm(3), ssh(4, "in"), paired()];
    let closed = || json!({ "closed": true });
    let nas = || json!([member_of("home", DEVICE)]);
    let waits = || json!([{ "device": DEVICE, "name": "nas", "ceremony": "token", "since": 0 }]);
    for (then, code, said) in [
        (vec![closed(), json!([]), nas()], 0, "nas is in the group home already"),
        (vec![closed(), waits()], 0, "kin pair --status"),
        (vec![closed(), json!([]), json!([])], 1, "error: stopped; nothing is paired"),
    ] {
        let (run, asked) = talk(events(), 2, then, &[(ANSWER, "y"), ("by SSH? ", "^C")]);
        let told = text(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{told}");
        assert!(told.contains(said), "{said}: {told}");
        // What is told does not change any more when it is asked for.
        assert_eq!(asked[1..4], [answer(3, true), Request::PairCancel, Request::PairStatus]);
    }
    // Nor is it nothing when the device itself waits no more.
    for (then, said) in [
        (vec![json!([]), nas()], "nas is in the group home already"),
        (vec![waits()], "not admitted yet"),
        (vec![json!([]), json!([])], "nobody came in time; nothing is paired"),
    ] {
        let events = vec![searching(), confirm(3), ApiEvent::Timeout];
        let (run, _) = talk(events, 2, then, &[(ANSWER, "y")]);
        let told = text(&run.stderr);
        assert_eq!(run.status.code(), Some(4), "{told}");
        assert!(told.contains(said), "{said}: {told}");
    }
    // Before a yes nothing has come of it, and nobody is asked.
    let (run, asked) = talk(events(), 2, vec![], &[(ANSWER, "^C")]);
    assert!(text(&run.stderr).contains("error: stopped; nothing is paired"));
    assert_eq!((run.status.code(), asked.len()), (Some(1), 1));
}

/// A device that this one shares another group with is not paired by that.
#[test]
fn t8_only_what_came_of_this_pairing_is_told_to_count() {
    let events = || vec![searching(), confirm(3), ssh(4, "in"), paired()];
    let before = || json!([member_of("work", DEVICE)]);
    let both = json!([member_of("work", DEVICE), member_of("home", DEVICE)]);
    for (after, code, said) in [
        (before(), 1, "error: stopped; nothing is paired"),
        (both, 0, "nas is in the group home already, without SSH"),
    ] {
        let replies = [before(), json!({ "closed": true }), json!([]), after].map(Reply::Value);
        let [before, closed, joins, after] = replies;
        let replies = vec![before, Reply::Waits(events(), 2), closed, joins, after];
        let (run, _) = talk_with(&[], replies, &[(ANSWER, "y"), ("by SSH? ", "^C")]);
        let told = text(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{told}");
        assert!(told.contains(said), "{said}: {told}");
    }
    // Whether anything came of it is not known if the device does not say.
    let (run, _) = talk(events(), 2, vec![], &[(ANSWER, "y"), ("by SSH? ", "^C")]);
    let told = text(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{told}");
    assert!(told.contains("the device does not say whether anything is paired\nhint: "), "{told}");
    assert!(!told.contains("nothing is paired"), "{told}");
}

/// With `--expect-device` the device answers by itself, and no question is seen that could be remembered.
#[test]
fn t8_what_was_answered_beforehand_counts_as_a_yes() {
    let home = Home::new();
    let id = home.kin().arg("id").assert().success();
    let id = text(&id.get_output().stdout).trim().to_owned();
    let waits = || json!([{ "device": id, "name": "nas", "ceremony": "lan", "since": 0 }]);
    let nas = || json!([member_of("home", &id)]);
    for (then, code, said) in [
        (vec![json!([]), nas()], 0, "nas is in the group home already, without SSH"),
        (vec![waits()], 0, "kin pair --status"),
        (vec![json!([]), json!([])], 1, "error: stopped; nothing is paired"),
    ] {
        // Nothing more comes of it before it is stopped.
        let mut replies = vec![Reply::Waits(vec![searching(), paired()], 1)];
        replies.push(Reply::Value(json!({ "closed": true })));
        replies.extend(then.into_iter().map(Reply::Value));
        let args = ["--yes", "--expect-device", &id];
        let (run, _) = talk_with(&args, replies, &[("Looking for ", "^C")]);
        let told = text(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{told}");
        assert!(told.contains(said), "{said}: {told}");
    }
    for (then, said) in [
        (vec![json!([]), nas()], "nas is in the group home already"),
        (vec![json!([]), json!([])], "nobody came in time; nothing is paired"),
    ] {
        let mut replies = vec![Reply::Events(vec![searching(), ApiEvent::Timeout])];
        replies.extend(then.into_iter().map(Reply::Value));
        let (run, _) = talk_with(&["--yes", "--expect-device", &id], replies, &[]);
        let told = text(&run.stderr);
        assert_eq!(run.status.code(), Some(4), "{told}");
        assert!(told.contains(said), "{said}: {told}");
    }
}

/// A number that was meant for the list of candidates is no answer about trust.
#[test]
fn a_number_typed_as_the_question_came_is_no_no() {
    let candidate =
        |number| ApiEvent::Candidate { number, name: "nas".into(), addr: "10.0.0.7:9000".into() };
    let events = vec![searching(), candidate(1), candidate(2), confirm(3), paired()];
    let (run, asked) =
        talk(events, 4, vec![], &[(ANSWER, "1"), ("that is no answer to this ", "y")]);
    let told = text(&run.stderr);
    assert_eq!(asked[1..], [answer(3, true)], "{told}");
    assert_eq!(run.status.code(), Some(0), "{told}");
}

/// Whoever was chosen may have gone: the list comes again, and another one is chosen.
#[test]
fn a_choice_that_comes_to_nothing_is_offered_again() {
    let candidate = |number| ApiEvent::Candidate {
        number,
        name: format!("nas{number}"),
        addr: "10.0.0.7:9000".into(),
    };
    let gone = ApiEvent::Error {
        kind: "candidate".into(),
        message: "2 (nas2) has gone".into(),
        hint: "choose again".into(),
    };
    let list = [searching(), candidate(1), candidate(2), candidate(3)];
    let events = list.into_iter().chain([gone, confirm(3), paired()]).collect();
    let talk = [("Which one? [1-3]", "2"), ("Which one? [1-3]", "3"), (ANSWER, "y")];
    // The second list comes upon the first choice, and the question upon the second one.
    let (run, asked) = talk_with(&[], vec![Reply::Waits(events, 4)], &talk);
    let told = text(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{told}");
    let choice = |number| Request::Choose { number };
    assert_eq!(asked[1..], [choice(2), choice(3), answer(3, true)], "{told}");
    let (_, again) = told.split_once("error: 2 (nas2) has gone").expect("is said");
    assert!(again.contains("hint: choose again") && again.contains("Which one?"), "{told}");
}
