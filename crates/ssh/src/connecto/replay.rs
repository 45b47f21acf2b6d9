//! Conversations as they were recorded, byte for byte, played to each of our roles and between two of them.

use super::{Claim, End, Json, Lines, Myself, Step, Talk, Text};
use crate::{PublicKey, UserName};
use wire::session::Name;

const BOB: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";
const ALICE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

pub(super) fn alice() -> Myself {
    myself("hosta", "alice", ALICE, "alice@hosta")
}

pub(super) fn bob() -> Myself {
    myself("hostb", "bob", BOB, "bob@hostb")
}

pub(super) fn json_listener() -> Json {
    Json::listen(alice().name, alice().user)
}

pub(super) fn text_listener() -> Text {
    Text::listen(alice().name, alice().user)
}

fn myself(name: &str, user: &str, key: &str, comment: &str) -> Myself {
    Myself {
        name: Name::new(name).unwrap(),
        user: UserName::new(user).unwrap(),
        key: PublicKey::parse(key).unwrap(),
        comment: comment.to_owned(),
    }
}

/// One end, with people who say yes and files that take everything.
pub(super) struct Played<T> {
    talk: T,
    pub(super) asked: Vec<Claim>,
    pub(super) installed: Vec<Claim>,
    pub(super) end: Option<End>,
    yes: bool,
    works: bool,
}

impl<T: Talk> Played<T> {
    pub(super) fn new(talk: T) -> Self {
        Self { talk, asked: vec![], installed: vec![], end: None, yes: true, works: true }
    }

    pub(super) fn saying_no(talk: T) -> Self {
        Self { yes: false, ..Self::new(talk) }
    }

    pub(super) fn with_full_disk(talk: T) -> Self {
        Self { works: false, ..Self::new(talk) }
    }

    pub(super) fn begin(&mut self) -> Vec<String> {
        let steps = self.talk.begin();
        self.take(steps)
    }

    pub(super) fn line(&mut self, line: &str) -> Vec<String> {
        assert_eq!(self.end, None, "it is over, and {line} comes");
        let steps = self.talk.line(line);
        self.take(steps)
    }

    pub(super) fn hang_up(&mut self) -> End {
        if self.end.is_none() {
            self.end = Some(self.talk.ended(None));
        }
        self.end.clone().unwrap()
    }

    fn take(&mut self, steps: Vec<Step>) -> Vec<String> {
        let mut said = Vec::new();
        for step in steps {
            let more = match step {
                Step::Send(line) => {
                    assert!(!line.contains(['\n', '\r']), "{line:?}");
                    said.push(line);
                    continue;
                }
                Step::Ask(claim) => {
                    self.asked.push(claim);
                    self.talk.answer(self.yes)
                }
                Step::Install(claim) => {
                    if self.works {
                        self.installed.push(claim);
                        self.talk.installed(Ok(()))
                    } else {
                        self.talk.installed(Err("full".to_owned()))
                    }
                }
                Step::Over(end) => {
                    assert_eq!(self.end.replace(end), None, "over twice");
                    continue;
                }
            };
            said.extend(self.take(more));
        }
        said
    }
}

/// Lines of a recorded conversation: who speaks, and what.
const PAIRING: [(char, &str); 5] = [
    ('C', r#"{"type":"Hello","version":1,"device_name":"hostb"}"#),
    ('S', r#"{"type":"HelloAck","version":1,"device_name":"hosta","verification_code":null}"#),
    (
        'C',
        r#"{"type":"KeyExchange","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz bob@hostb","comment":"bob@hostb"}"#,
    ),
    ('S', r#"{"type":"KeyAccepted","message":"Key added to authorized_keys"}"#),
    ('S', r#"{"type":"PairingComplete","ssh_user":"alice"}"#),
];

const SYNC: [(char, &str); 4] = [
    (
        'C',
        r#"{"type":"SyncHello","version":1,"device_name":"hostb","initiator_priority":11303684174260482517,"public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz bob@hostb","key_comment":"bob@hostb","ssh_user":"bob"}"#,
    ),
    (
        'S',
        r#"{"type":"SyncHelloAck","version":1,"device_name":"hosta","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl alice@hosta","key_comment":"alice@hosta","ssh_user":"alice","accept_sync":true}"#,
    ),
    ('C', r#"{"type":"SyncComplete","success":true,"message":"Key exchange successful"}"#),
    ('S', r#"{"type":"SyncComplete","success":true,"message":"Key exchange successful"}"#),
];

const TEXT: [(char, &str); 5] = [
    ('C', "HELLO 1"),
    ('S', "HELLO 1"),
    (
        'C',
        "PUBKEY ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz bob@hostb",
    ),
    ('S', "OK hosta alice"),
    ('C', "BYE"),
];

/// Plays one side's lines to the other and checks what that says, byte for byte.
fn replay<T: Talk>(record: &[(char, &str)], ours: char, talk: T) -> Played<T> {
    let mut played = Played::new(talk);
    let mut said: Vec<String> = played.begin();
    for (who, line) in record {
        if *who == ours {
            assert!(!said.is_empty(), "nothing is said instead of {line}");
            assert_eq!(said.remove(0), *line);
        } else {
            assert!(said.is_empty(), "{said:?} is too much");
            said = played.line(line);
        }
    }
    assert!(said.is_empty(), "{said:?} is too much");
    played
}

fn claim(name: Option<&str>, user: Option<&str>, key: Option<&str>) -> Claim {
    Claim {
        name: name.map(|name| Name::new(name).unwrap()),
        user: user.map(|user| UserName::new(user).unwrap()),
        key: key.map(|key| PublicKey::parse(key).unwrap()),
    }
}

#[test]
fn the_recorded_pairing_is_played_to_a_listener() {
    let played = replay(&PAIRING, 'S', json_listener());
    let bob = claim(Some("hostb"), None, Some(BOB));
    assert_eq!((&played.asked, &played.installed), (&vec![bob.clone()], &vec![bob]));
    assert_eq!(played.end, Some(End::Done));
}

#[test]
fn the_recorded_pairing_is_played_to_a_pairing_device() {
    let played = replay(&PAIRING, 'C', Json::pair(bob()));
    assert_eq!(played.asked, [claim(Some("hosta"), None, None)]);
    assert_eq!(played.installed, [claim(Some("hosta"), Some("alice"), None)]);
    assert_eq!(played.end, Some(End::Done));
}

#[test]
fn the_recorded_sync_is_played_to_both_roles() {
    let played = replay(&SYNC, 'S', Json::sync_respond(alice()));
    let bob_ = claim(Some("hostb"), Some("bob"), Some(BOB));
    assert_eq!((&played.asked, &played.installed), (&vec![bob_.clone()], &vec![bob_]));
    assert_eq!(played.end, Some(End::Done));

    let played = replay(&SYNC, 'C', Json::sync_initiate(bob(), 11_303_684_174_260_482_517));
    let alice_ = claim(Some("hosta"), Some("alice"), Some(ALICE));
    assert_eq!((&played.asked, &played.installed), (&vec![alice_.clone()], &vec![alice_]));
    assert_eq!(played.end, Some(End::Done));
}

#[test]
fn the_documented_text_is_played_to_both_roles() {
    let played = replay(&TEXT, 'S', text_listener());
    assert_eq!(played.installed, [claim(None, None, Some(BOB))]);
    assert_eq!(played.end, Some(End::Done));
    let played = replay(&TEXT, 'C', Text::pair(bob()));
    assert_eq!(played.installed, [claim(Some("hosta"), Some("alice"), None)]);
    assert_eq!(played.end, Some(End::Done));
}

#[test]
fn fields_that_are_not_known_are_ignored_and_kinds_that_are_not_known_end_it() {
    let mut played = Played::new(json_listener());
    let said = played.line(
        r#"{"device_name":"x","new":{"a":[1]},"version":1,"type":"Hello","verification":"y"}"#,
    );
    assert_eq!(said.len(), 1);
    let said = played.line(r#"{"type":"Farewell"}"#);
    assert!(said[0].starts_with(r#"{"type":"Error","code":3,"#), "{said:?}");
    assert!(matches!(played.end, Some(End::Broken(_))));
}

#[test]
fn a_scanner_is_no_error() {
    let mut played = Played::new(json_listener());
    let said = played.line(r#"{"type":"Hello","version":1,"device_name":"scanner-4711"}"#);
    assert_eq!(said.len(), 1);
    assert_eq!(played.line(""), Vec::<String>::new(), "its blank line");
    assert_eq!(played.hang_up(), End::Probe);
    assert!(played.asked.is_empty());

    let mut played = Played::new(Json::sync_respond(alice()));
    let said = played.line(r#"{"type":"Hello","version":1,"device_name":"scanner-4711"}"#);
    assert!(said[0].starts_with(r#"{"type":"Error","code":2,"#), "{said:?}");
    assert_eq!(played.end, Some(End::Probe));

    assert_eq!(Played::new(json_listener()).hang_up(), End::Probe);
    let mut played = Played::new(text_listener());
    played.line("HELLO 1");
    assert_eq!(played.hang_up(), End::Probe);
}

#[test]
fn an_error_from_whoever_has_asked_for_nothing_ends_no_listener() {
    let error = r#"{"type":"Error","code":1,"message":"go away"}"#;
    for listener in [json_listener(), Json::sync_respond(alice())] {
        let mut played = Played::new(listener);
        assert_eq!(played.line(error), Vec::<String>::new());
        assert_eq!(played.end, Some(End::Probe));
    }
}

#[test]
fn a_no_on_either_side_installs_nothing_and_is_said() {
    let mut played = Played::saying_no(json_listener());
    played.line(PAIRING[0].1);
    let said = played.line(PAIRING[2].1);
    assert!(said[0].starts_with(r#"{"type":"Error","#), "{said:?}");
    assert_eq!(played.end, Some(End::Declined));

    let mut played = Played::saying_no(Json::sync_respond(alice()));
    let said = played.line(SYNC[0].1);
    assert!(said[0].ends_with(r#""accept_sync":false}"#), "{said:?}");

    let mut played = Played::saying_no(Json::sync_initiate(bob(), 1));
    played.begin();
    let said = played.line(SYNC[1].1);
    assert!(said[0].starts_with(r#"{"type":"SyncComplete","success":false,"#), "{said:?}");
    assert!(played.installed.is_empty());

    let mut played = Played::saying_no(text_listener());
    played.line("HELLO 1");
    let said = played.line(TEXT[2].1);
    assert!(said[0].starts_with("ERR "), "{said:?}");

    // And theirs.
    let mut played = Played::new(Json::sync_initiate(bob(), 1));
    played.begin();
    played.line(&SYNC[1].1.replace("true}", "false}"));
    assert!(matches!(played.end, Some(End::Refused(_))) && played.installed.is_empty());
    let mut played = Played::new(Json::pair(bob()));
    played.begin();
    played.line(r#"{"type":"Error","code":1,"message":"Version mismatch"}"#);
    assert_eq!(played.end, Some(End::Refused("Version mismatch".to_owned())));
    let mut played = Played::new(Text::pair(bob()));
    played.begin();
    played.line("HELLO 1");
    played.line("ERR Invalid public key format");
    assert_eq!(played.end, Some(End::Refused("Invalid public key format".to_owned())));
}

#[test]
fn what_could_not_be_installed_is_not_said_to_be() {
    let mut played = Played::with_full_disk(json_listener());
    played.line(PAIRING[0].1);
    let said = played.line(PAIRING[2].1);
    assert!(said.len() == 1 && said[0].starts_with(r#"{"type":"Error","#), "{said:?}");
    let mut played = Played::with_full_disk(Json::sync_respond(alice()));
    played.line(SYNC[0].1);
    let said = played.line(SYNC[2].1);
    assert!(said[0].contains(r#""success":false"#), "{said:?}");
    let mut played = Played::with_full_disk(text_listener());
    played.line("HELLO 1");
    assert!(played.line(TEXT[2].1)[0].starts_with("ERR "));
}

/// Two ends of ours, through the bytes of a connection.
fn meet<A: Talk, B: Talk>(a: A, b: B) -> (Played<A>, Played<B>) {
    let (mut a, mut b) = (Played::new(a), Played::new(b));
    let (mut to_a, mut to_b) = (Lines::default(), Lines::default());
    let put = |lines: &mut Lines, said: Vec<String>| {
        said.iter().for_each(|line| lines.push(format!("{line}\n").as_bytes()));
    };
    put(&mut to_b, a.begin());
    put(&mut to_a, b.begin());
    loop {
        if let Some(line) = to_b.take().unwrap().filter(|_| b.end.is_none()) {
            put(&mut to_a, b.line(&line));
        } else if let Some(line) = to_a.take().unwrap().filter(|_| a.end.is_none()) {
            put(&mut to_b, a.line(&line));
        } else {
            return (a, b);
        }
    }
}

#[test]
fn two_of_ours_understand_each_other() {
    let (a, b) = meet(Json::pair(bob()), json_listener());
    assert_eq!((a.end, b.end), (Some(End::Done), Some(End::Done)));
    let (a, b) = meet(Json::sync_initiate(bob(), 7), Json::sync_respond(alice()));
    assert_eq!((a.end, b.end), (Some(End::Done), Some(End::Done)));
    assert_eq!((a.installed.len(), b.installed.len()), (1, 1));
    let (a, b) = meet(Text::pair(bob()), text_listener());
    assert_eq!((a.end, b.end), (Some(End::Done), Some(End::Done)));
}
