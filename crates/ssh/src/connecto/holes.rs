//! What was reproduced in Connecto and must not be here: section C of the reference, by its numbers from
//! the top. (3, a user or name that becomes configuration; 4, lines without end, is in `lines`; 6 to 10 are
//! about files and keys, and tested where those are.)

use proptest::prelude::*;

use super::{
    Broken, Command, End, Json, Message, Spoken, Step, Talk, Text,
    replay::{Played, alice, bob, json_listener, text_listener},
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";

fn sync_hello(name: &str, key: &str, user: &str) -> String {
    Message::SyncHello {
        version: 1,
        device_name: name.to_owned(),
        initiator_priority: 1,
        public_key: key.to_owned(),
        key_comment: "x".to_owned(),
        ssh_user: user.to_owned(),
    }
    .encode()
}

#[test]
fn hole_1_nothing_is_installed_with_nobody_asked() {
    // Up to the question, no role of ours installs anything, whatever comes.
    let mut listener = json_listener();
    let mut steps = listener.line(r#"{"type":"Hello","version":1,"device_name":"x"}"#);
    steps.extend(
        listener.line(&format!(r#"{{"type":"KeyExchange","public_key":"{KEY} x","comment":"x"}}"#)),
    );
    let mut sync = Json::sync_respond(alice());
    steps.extend(sync.line(&sync_hello("x", KEY, "x")));
    let mut text = text_listener();
    steps.extend(text.line("HELLO 1"));
    steps.extend(text.line(&format!("PUBKEY {KEY} x")));
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::Ask(_))).count(), 3);
    assert!(!steps.iter().any(|step| matches!(step, Step::Install(_))), "{steps:?}");
    // And what comes instead of an answer is none.
    for early in [
        sync.line(r#"{"type":"SyncComplete","success":true,"message":""}"#),
        listener.line(r#"{"type":"KeyExchange","public_key":"","comment":""}"#),
        text.line("BYE"),
    ] {
        assert!(!early.iter().any(|step| matches!(step, Step::Install(_))), "{early:?}");
    }
}

#[test]
fn hole_2_attack_16_a_key_that_is_more_than_a_key_is_refused() {
    for key in [
        String::new(),
        " ".to_owned(),
        format!("command=\"id\" {KEY}"),
        format!("restrict,pty {KEY}"),
        format!("{KEY} x\n{KEY} y"),
        format!("{KEY}\r\n"),
        format!("\n{KEY}"),
        format!("{KEY} x\u{0}"),
        "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
        "ssh-dss AAAAB3NzaC1kc3MAAAAA".to_owned(),
        format!("{KEY}AAAA"),
        "ssh-ed25519 AAAA".to_owned(),
    ] {
        let mut played = Played::new(Json::sync_respond(alice()));
        played.line(&sync_hello("x", &key, "x"));
        assert!(
            matches!(&played.end, Some(End::Broken(Broken::Key(_)))),
            "{key:?}: {:?}",
            played.end
        );
        assert!(played.asked.is_empty() && played.installed.is_empty());
        if !key.contains(['\n', '\r']) {
            let mut played = Played::new(text_listener());
            played.line("HELLO 1");
            let said = played.line(&format!("PUBKEY {key}"));
            assert!(said.len() == 1 && said[0].starts_with("ERR "), "{key:?}: {said:?}");
            assert!(played.asked.is_empty());
        }
    }
}

#[test]
fn hole_3_attack_20_a_user_that_becomes_configuration_is_refused() {
    for user in [
        "x\n  ProxyCommand id",
        "x y",
        "",
        "-l",
        "*",
        "a\"b",
        "x%h",
        "${HOME}",
        "\u{1b}[2J",
        "a/b",
        "ä",
        &"x".repeat(65),
    ] {
        let mut played = Played::new(Json::sync_respond(alice()));
        played.line(&sync_hello("x", KEY, user));
        assert_eq!(played.end, Some(End::Broken(Broken::User)), "{user:?}");
        let mut played = Played::new(Json::pair(bob()));
        played.begin();
        played
            .line(r#"{"type":"HelloAck","version":1,"device_name":"x","verification_code":null}"#);
        let last = Message::PairingComplete { ssh_user: user.to_owned() };
        played.line(r#"{"type":"KeyAccepted","message":""}"#);
        played.line(&last.encode());
        assert_eq!(played.end, Some(End::Broken(Broken::User)), "{user:?}");
        assert!(played.installed.is_empty());
    }
}

#[test]
fn hole_9_a_name_with_terminal_escapes_is_refused() {
    for name in ["\u{1b}[31mhosta", "a\nb", "a\tb", "\u{9b}2J", "", &"n".repeat(65)] {
        let mut played = Played::new(Json::sync_respond(alice()));
        played.line(&sync_hello(name, KEY, "x"));
        assert!(matches!(&played.end, Some(End::Broken(Broken::Name(_)))), "{name:?}");
        let mut played = Played::new(json_listener());
        played.line(&Message::Hello { version: 1, device_name: name.to_owned() }.encode());
        assert!(matches!(&played.end, Some(End::Broken(Broken::Name(_)))), "{name:?}");
    }
}

#[test]
fn another_version_is_refused_by_its_number() {
    let mut played = Played::new(json_listener());
    let said = played.line(r#"{"type":"Hello","version":2,"device_name":"x"}"#);
    assert!(said[0].starts_with(r#"{"type":"Error","code":1,"#), "{said:?}");
    let mut played = Played::new(text_listener());
    assert!(played.line("HELLO 2")[0].starts_with("ERR "));
    let mut played = Played::new(Text::pair(bob()));
    played.begin();
    assert_eq!(played.line("HELLO 2"), ["BYE"]);
}

#[test]
fn attack_10_messages_of_another_role_end_it() {
    let mut played = Played::new(json_listener());
    let said = played.line(&sync_hello("x", KEY, "x"));
    assert!(said[0].starts_with(r#"{"type":"Error","code":2,"#), "{said:?}");
    let mut played = Played::new(json_listener());
    played.line(r#"{"type":"Hello","version":1,"device_name":"x"}"#);
    let said = played.line(r#"{"type":"Hello","version":1,"device_name":"x"}"#);
    assert!(said[0].starts_with(r#"{"type":"Error","code":3,"#), "{said:?}");
    // What this side sent, mirrored.
    let mut played = Played::new(Json::sync_initiate(bob(), 1));
    let mirrored = played.begin().remove(0);
    played.line(&mirrored);
    assert_eq!(played.end, Some(End::Broken(Broken::OutOfOrder)));
}

#[test]
fn the_first_byte_tells() {
    assert_eq!(Spoken::by(b'{'), Some(Spoken::Json));
    assert_eq!(Spoken::by(b'H'), Some(Spoken::Text));
    assert_eq!(Spoken::by(0x16), Some(Spoken::Kinfold));
    let known = (0..=255).filter(|byte| Spoken::by(*byte).is_some()).count();
    assert_eq!(known, 3);
}

proptest! {
    #[test]
    fn hole_1_whatever_comes_nothing_is_installed_unless_asked(
        lines in prop::collection::vec(
            prop_oneof![
                Just(r#"{"type":"Hello","version":1,"device_name":"x"}"#.to_owned()),
                Just(format!(r#"{{"type":"KeyExchange","public_key":"{KEY}","comment":""}}"#)),
                Just(sync_hello("x", KEY, "x")),
                Just(r#"{"type":"SyncComplete","success":true,"message":""}"#.to_owned()),
                Just(r#"{"type":"PairingComplete","ssh_user":"x"}"#.to_owned()),
                Just(r#"{"type":"HelloAck","version":1,"device_name":"x"}"#.to_owned()),
                Just(r#"{"type":"KeyAccepted","message":""}"#.to_owned()),
                "[ -~]{0,40}", "HELLO 1", "BYE", "OK a b", Just(format!("PUBKEY {KEY}")), "ERR x",
            ],
            0..8,
        ),
        role in 0..6,
    ) {
        let mut talk: Box<dyn Talk> = match role {
            0 => Box::new(json_listener()),
            1 => Box::new(Json::pair(bob())),
            2 => Box::new(Json::sync_respond(alice())),
            3 => Box::new(Json::sync_initiate(bob(), 1)),
            4 => Box::new(text_listener()),
            _ => Box::new(Text::pair(bob())),
        };
        let mut steps = talk.begin();
        for line in &lines {
            if steps.iter().any(|step| matches!(step, Step::Over(_) | Step::Ask(_))) {
                break;
            }
            steps.extend(talk.line(line));
        }
        prop_assert!(!steps.iter().any(|step| matches!(step, Step::Install(_))));
    }

    #[test]
    fn a_command_is_read_or_refused(line in "(HELLO|PUBKEY|OK|ERR|BYE)?[ -~]{0,60}") {
        if let Ok(Command::Ok(name, user)) = Command::decode(&line) {
            prop_assert!(!user.as_str().contains(' ') && !name.as_str().contains(' '));
        }
    }
}
