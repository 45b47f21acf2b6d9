//! `kin pair`: what it asks the device for, what it shows, and how it ends.

use std::process::Output;

use node::api::{ApiEvent, Failure, PairLan, PairToken, Request, Which};
use serde_json::{Value, json};

use crate::{
    Home,
    device::{Device, Reply},
};

pub(crate) const DEVICE: &str = "kd1qqqqqqqqqqqqqqqq";
/// In the question about the string.
pub(crate) const ANSWER: &str = "Compare, then answer ";
const TOKEN: &str = "kt1qqqsecretqqq";

pub(crate) fn searching() -> ApiEvent {
    ApiEvent::Searching { device: DEVICE.into(), name: "laptop".into(), port: 9000 }
}

pub(crate) fn confirm(id: u32) -> ApiEvent {
    ApiEvent::Confirm {
        id,
        device: DEVICE.into(),
        name: "na\u{1b}[2Js".into(),
        sas: "maple otter 42 17".into(),
        grants: "admin of home: all folders".into(),
    }
}

pub(crate) fn ssh(id: u32, direction: &str) -> ApiEvent {
    let (about, name) = ("ssh".into(), "nas".into());
    ApiEvent::Ask { id, about, direction: direction.into(), device: DEVICE.into(), name }
}

pub(crate) fn paired() -> ApiEvent {
    ApiEvent::Paired {
        device: DEVICE.into(),
        name: "nas".into(),
        group: "home".into(),
        role: "admin".into(),
    }
}

/// Runs `kin pair` before a device that sends these events, each from number `waits` on after one more
/// answer.
fn pair(args: &[&str], stdin: &str, events: Vec<ApiEvent>, waits: usize) -> (Output, Vec<Request>) {
    let home = Home::new();
    let running = Device::run(&home, vec![Reply::Waits(events, waits)]);
    let run = home.kin().arg("pair").args(args).stdin(stdin).assert();
    (run.get_output().clone(), running.asked())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("is text")
}

pub(crate) fn answer(id: u32, yes: bool) -> Request {
    Request::Answer { id, yes }
}

#[test]
fn t9_a_person_is_told_what_is_granted_before_each_yes() {
    let events = vec![searching(), confirm(3), ssh(4, "in"), ssh(5, "out"), paired()];
    let (run, asked) = pair(&[], "y\nn\ny\n", events, 2);
    let told = text(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{told}");
    let (lan, answers) = asked.split_first().expect("was asked");
    assert_eq!(lan, &Request::Pair(PairLan::default()));
    assert_eq!(answers, [answer(3, true), answer(4, false), answer(5, true)]);
    assert_eq!(text(&run.stdout), "");
    let order = [
        "This device is laptop (kd1qqqqqqqqq…) on port 9000.",
        "A yes grants: admin of home: all folders.",
        "    maple otter 42 17",
        "Does na\\u{1b}[2Js show exactly the same? Compare, then answer [y/N]",
        "May nas log in to this device by SSH? [y/N]",
        "Shall this device be able to log in to nas by SSH, as ssh nas? [y/N]",
        "Paired: nas (kd1qqqqqqqqq…) and this device know each other in the group home.",
    ];
    let mut rest = told.as_str();
    for line in order {
        let (_, after) = rest.split_once(line).unwrap_or_else(|| panic!("{line}: {told}"));
        rest = after;
    }
}

#[test]
fn json_has_the_events_and_takes_answers_by_id() {
    let events = vec![searching(), confirm(3), ssh(4, "in"), paired()];
    let (run, asked) = pair(&["--json"], "y 3\nn 4\n", events.clone(), 2);
    assert_eq!((run.status.code(), text(&run.stderr).as_str()), (Some(0), ""));
    let printed = text(&run.stdout);
    assert!(!printed.contains('\u{1b}'));
    let printed: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    assert_eq!(json!(printed), json!(events));
    assert_eq!(asked[1..], [answer(3, true), answer(4, false)]);
}

#[test]
fn t6_the_end_of_input_is_no() {
    let (run, asked) = pair(&[], "", vec![confirm(3), ssh(4, "in"), paired()], 1);
    assert_eq!(asked[1..], [answer(3, false), answer(4, false)]);
    assert!(text(&run.stderr).contains("input has ended, which means no"));
}

#[test]
fn attack_09_a_string_typed_at_a_question_is_no() {
    let refused = ApiEvent::Refused { reason: "this side said no".into() };
    let (run, asked) = pair(&[], "maple otter 42 17\n", vec![confirm(3), refused], 1);
    assert_eq!(asked[1..], [answer(3, false)]);
    let told = text(&run.stderr);
    assert!(
        told.contains("never typed") && told.contains("error: not paired: this side"),
        "{told}"
    );
    assert_eq!(run.status.code(), Some(3));
}

#[test]
fn the_exit_code_says_how_it_ended() {
    for (events, code, kind) in [
        (vec![ApiEvent::Refused { reason: "no\u{1b}".into() }], 3, "refused"),
        (vec![ApiEvent::Timeout], 4, "timeout"),
        (vec![searching(), ApiEvent::Stopped], 1, "stopped"),
        (vec![searching()], 1, "stopped"),
    ] {
        let (run, _) = pair(&["--json"], "", events, 9);
        let printed = text(&run.stdout);
        let last: Value =
            serde_json::from_str(printed.lines().last().expect("a line")).expect("JSON");
        assert_eq!(run.status.code(), Some(code), "{printed}");
        assert_eq!((&last["event"], &last["kind"]), (&"error".into(), &kind.into()));
    }
    // A join that waits goes on without the command.
    let pending = ApiEvent::Pending { device: DEVICE.into(), reason: String::new() };
    let (run, asked) = pair(&["kin:pair/kt1qqq"], "", vec![pending], 9);
    assert_eq!(run.status.code(), Some(0));
    assert!(text(&run.stderr).contains("kin pair --abandon"));
    assert!(matches!(asked[..], [Request::PairJoin { .. }]));
}

#[test]
fn of_several_candidates_one_is_chosen_by_number() {
    let candidate = |number, name: &str| ApiEvent::Candidate {
        number,
        name: name.into(),
        addr: "10.0.0.7:9000".into(),
    };
    let events =
        vec![searching(), candidate(1, "nas"), candidate(2, "tv\u{202e}"), confirm(3), paired()];
    for args in [&[][..], &["--json"]] {
        let (run, asked) = pair(args, "9\n2\ny\n", events.clone(), 3);
        assert_eq!(run.status.code(), Some(0));
        assert_eq!(asked[1..], [Request::Choose { number: 2 }, answer(3, true)]);
        let told = text(&run.stderr);
        assert!(told.contains("answer with a number from 1 to 2"), "{told}");
        if args.is_empty() {
            assert!(told.contains("  2  tv\\u{202e} at 10.0.0.7:9000"), "{told}");
            assert!(told.contains("Which one? [1-2]"), "{told}");
        }
    }
}

#[test]
fn a_window_shows_its_token_and_says_what_a_yes_grants() {
    let token =
        ApiEvent::Token { token: TOKEN.into(), link: "kin:pair/x".into(), expires: 1_795_168_800 };
    let request = ApiEvent::Request {
        id: 7,
        device: DEVICE.into(),
        name: "phone".into(),
        sas: "maple otter 42 17".into(),
        grants: "reader of Documents".into(),
    };
    let args = ["--token", "--window", "2m", "--role", "reader", "--folders", "Documents, Photos"];
    let image = tempfile::tempdir().expect("there is room");
    let image = image.path().join("x.png");
    let args: Vec<&str> = args.into_iter().chain(["--qr-file", image.to_str().unwrap()]).collect();
    let (run, asked) = pair(&args, "y 7\n", vec![token, request, paired()], 2);
    assert!(std::fs::read(&image).expect("was written").starts_with(b"\x89PNG"));
    assert_eq!(text(&run.stdout), format!("{TOKEN}\nkin:pair/x\n"));
    let told = text(&run.stderr);
    assert!(told.contains("Request 7: phone (kd1qqqqqqqqq…) asks to join."), "{told}");
    assert!(told.contains("A yes grants: reader of Documents."), "{told}");
    let window = PairToken {
        window: Some(120),
        role: Some("reader".into()),
        folders: Some(vec!["Documents".into(), "Photos".into()]),
        ..PairToken::default()
    };
    assert_eq!(asked, [Request::PairToken(window), answer(7, true)]);
}

#[test]
fn a_windows_picture_is_a_file_and_is_not_written_over() {
    let home = Home::new();
    let token = || ApiEvent::Token {
        token: TOKEN.into(),
        link: format!("kin:pair/{TOKEN}"),
        expires: 1_795_168_800,
    };
    let file = home.path().join("x.png");
    let path = file.to_str().unwrap();
    let (run, _) = pair(&["--token", "--qr-file", path], "", vec![token(), paired()], 9);
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert!(lab::files::read(&file).unwrap().starts_with(b"\x89PNG"));
    let (run, _) = pair(&["--token", "--qr-file", path], "", vec![token(), paired()], 9);
    assert!(text(&run.stderr).contains("exists already"), "{}", text(&run.stderr));
    assert_eq!((run.status.code(), text(&run.stdout)), (Some(2), String::new()));
    // Before there is a token that nobody could use.
    let nowhere = home.path().join("none/x.png");
    let (run, asked) = pair(&["--token", "--qr-file", nowhere.to_str().unwrap()], "", vec![], 9);
    assert_eq!((run.status.code(), asked.len()), (Some(2), 0), "{}", text(&run.stderr));
}

#[test]
fn flags_reach_the_device() {
    let args = ["nas.local", "--into", "theirs", "--group", "g", "--port", "9", "--timeout", "60"];
    let (_, asked) = pair(&args, "", vec![paired()], 9);
    let lan = PairLan {
        host: Some("nas.local".into()),
        into: Which::Theirs,
        group: Some("g".into()),
        timeout: Some(60),
        port: Some(9),
        expect_device: None,
    };
    assert_eq!(asked, [Request::Pair(lan)]);
}

#[test]
fn t6_yes_lets_in_the_expected_device_alone_and_no_ssh() {
    let home = Home::new();
    let id = home.kin().arg("id").assert().success();
    let id = text(&id.get_output().stdout).trim().to_owned();
    let other = confirm(3);
    let mut expected = confirm(4);
    if let ApiEvent::Confirm { device, .. } = &mut expected {
        device.clone_from(&id);
    }
    let args = ["--yes", "--expect-device", &id];
    let events = vec![other, expected, ssh(5, "in"), paired()];
    let (run, asked) = pair(&args, "y\ny\ny\n", events, 1);
    assert_eq!(run.status.code(), Some(0));
    let Some(Request::Pair(lan)) = asked.first() else { panic!("{asked:?}") };
    assert_eq!(lan.expect_device.as_deref(), Some(&*id));
    assert_eq!(asked[1..], [answer(3, false), answer(4, true), answer(5, false)]);
    for args in [&["--yes"][..], &["--expect-device", &id], &["--yes", "--expect-device", "kd1x"]] {
        Home::new().kin().arg("pair").args(args).assert().code(2).stdout_eq("");
    }
}

#[test]
fn attack_09_what_is_no_token_is_refused_and_reaches_no_device() {
    let home = Home::new();
    let running = Device::run(&home, vec![]);
    for (args, said) in [
        (&["maple", "otter", "42", "17"][..], "never typed"),
        (&["maple otter 42 17"], "never typed"),
        (&["4217"], "never typed"),
        (&["kd1qqqqqqqq"], "device id"),
        (&["kc1qqqqqqqq"], "sharing code"),
        (&["kin-device-key-1qqqq"], "secret key"),
        (&["a/b"], "is not an address"),
    ] {
        let run = home.kin().arg("pair").args(args).assert().code(2).stdout_eq("");
        let told = text(&run.get_output().stderr);
        assert!(told.contains(said) && told.contains("\nhint: "), "{args:?}: {told}");
    }
    for (line, said) in [
        ("maple otter 42 17\n", "never typed"),
        ("kc1qqqqqqqq\n", "sharing code"),
        ("hunter2\n", "no pairing token"),
        ("", "input ended"),
    ] {
        let run = home.kin().args(["pair", "-"]).stdin(line).assert().code(2).stdout_eq("");
        let told = text(&run.get_output().stderr);
        assert!(told.contains(said) && !told.contains("hunter2"), "{line:?}: {told}");
    }
    assert_eq!(running.asked(), []);
}

#[test]
fn attack_15_a_token_is_taken_from_input_or_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let join = |expect: Option<&str>| Request::PairJoin {
        token: TOKEN.into(),
        expect_device: expect.map(str::to_owned),
    };
    let (run, asked) = pair(&["-"], &format!(" {TOKEN} \ny 3\n"), vec![confirm(3), paired()], 1);
    assert_eq!(asked, [join(None), answer(3, true)]);
    let told = text(&run.stderr);
    assert!(!told.contains(TOKEN) && !told.contains("WARNING"), "{told}");

    let home = Home::new();
    let file = home.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("there is room");
    let running = Device::run(&home, vec![Reply::Events(vec![paired()])]);
    let from_file = || home.kin().args(["pair", "--from-file", "token"]);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("is ours");
    let run = from_file().assert().code(2);
    assert!(text(&run.get_output().stderr).contains("open to other users"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("is ours");
    from_file().assert().success();
    assert_eq!(running.asked(), [join(None)]);
}

#[test]
fn who_is_asked_by_a_token_is_told() {
    let key = identity::DeviceKey::from_seed(&identity::Secret::new([7; 32])).expect("is a seed");
    let inbox = identity::InboxKey::from_seed(identity::Secret::new([8; 32])).expect("is a seed");
    let terms = wire::pair::Terms {
        device: key.id(),
        inbox: inbox.id(),
        window: wire::pair::WindowId([1; 8]),
        group: wire::membership::GroupId([2; 32]),
        role: wire::membership::Role::Admin,
        folders: wire::membership::Scope::All,
    };
    let addr = "192.0.2.1:9001".parse().expect("is one");
    let token = wire::pair::Token::new(terms, identity::Secret::new([3; 16]), [addr]);
    let token = token.to_text().expect("has room").expose().clone();
    let (run, _) = pair(&["-"], &format!("{token}\n"), vec![paired()], 9);
    let told = text(&run.stderr);
    let whom: String = key.id().to_string().chars().take(12).collect();
    assert!(told.contains(&format!("Asking {whom}… to let this device in.")), "{told}");
    assert!(!told.contains(&token));
}

#[test]
#[cfg(target_os = "linux")]
fn t20_a_token_among_the_arguments_is_scrubbed_and_warned_of() {
    use std::{io::Read as _, process::Stdio};
    let home = Home::new();
    // Nothing more comes before an answer that nobody gives.
    let running = Device::run(&home, vec![Reply::Waits(vec![searching(), paired()], 1)]);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_kin"))
        .args(["pair", TOKEN, "--json"])
        .env("KIN_HOME", home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("can be started");
    let mut first = [0; 1];
    child.stdout.as_mut().expect("is piped").read_exact(&mut first).expect("says something");
    let arguments = std::fs::read(format!("/proc/{}/cmdline", child.id())).expect("is running");
    let environment = std::fs::read(format!("/proc/{}/environ", child.id())).expect("is running");
    child.kill().expect("is running");
    let told = text(&child.wait_with_output().expect("ends").stderr);
    let (arguments, environment) = (text(&arguments), text(&environment));
    assert!(!arguments.contains(TOKEN), "{arguments}");
    assert!(arguments.contains("pair\0@"), "{arguments:?}");
    assert!(!environment.contains(TOKEN));
    assert!(told.contains("WARNING: the token was an argument"), "{told}");
    let join = Request::PairJoin { token: TOKEN.into(), expect_device: None };
    assert_eq!(running.asked(), [join]);
}

#[test]
fn what_was_begun_is_listed_and_ended() {
    let home = Home::new();
    let join = json!([{ "device": DEVICE, "name": "na\ns", "ceremony": "token", "since": 0 }]);
    let running = Device::run(
        &home,
        vec![
            Reply::Value(join.clone()),
            Reply::Value(join.clone()),
            Reply::Value(json!([])),
            Reply::Value(json!({ "closed": false })),
            Reply::Failure(Failure::failed("busy", "no")),
        ],
    );
    let run = home.kin().args(["pair", "--status"]).assert().success();
    let listed = text(&run.get_output().stdout);
    assert!(listed.starts_with("na\\ns (kd1qqqqqqqqq…)  token  since 1970-01-01 "), "{listed}");
    let run = home.kin().args(["pair", "--abandon", "--json"]).assert().success();
    let line: Value = serde_json::from_slice(&run.get_output().stdout).expect("is JSON");
    assert_eq!(json!([line]), join);
    home.kin().args(["pair", "--abandon"]).assert().success().stderr_eq("No join waits.\n");
    home.kin().args(["pair", "--cancel"]).assert().success().stderr_eq("No window is open.\n");
    home.kin().args(["pair", "--cancel"]).assert().code(1);
    assert_eq!(
        running.asked(),
        [
            Request::PairStatus,
            Request::PairAbandon,
            Request::PairAbandon,
            Request::PairCancel,
            Request::PairCancel
        ]
    );
    for args in [
        &["--cancel", "--status"][..],
        &["--cancel", "nas"],
        &["--status", "--token"],
        &["--window", "5m"],
        &["--qr-file", "x.png"],
        &["--token", "--window", "5"],
        &["--token", "--window", "25h"],
        &["--token", "--timeout", "5"],
        &["--token", "--folders", "a,,b"],
        &["--token", "nas"],
        &["--timeout", "0"],
        &["--into", "ours"],
        &["--role", "admin"],
    ] {
        home.kin().arg("pair").args(args).assert().code(2).stdout_eq("");
    }
    assert_eq!(running.asked(), []);
}
