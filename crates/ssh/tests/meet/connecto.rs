//! Connecto on plain connections, as a 20-line program speaks it.

use std::{net::SocketAddr, time::Duration};

use ssh::meet::{Connecto, Kind, Outcome, Place, Setup, Target};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use wire::ssh::Purpose;

use crate::common::{Device, LONG, Run};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";
const FINGERPRINT: &str = "SHA256:seusSwOLegH0bvThqA8aaBWCH+E+2c3mOexVtXp5BME";

/// The other program.
struct Other(BufReader<TcpStream>);

impl Other {
    async fn at(addr: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(addr).await.expect("somebody listens")))
    }

    async fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.expect("is heard");
    }

    async fn hear(&mut self) -> String {
        let mut line = String::new();
        timeout(LONG, self.0.read_line(&mut line)).await.expect("in time").expect("is text");
        line.trim_end_matches('\n').to_owned()
    }
}

fn setup(device: &Device, purpose: Purpose) -> Setup {
    Setup { connecto: Some(Connecto::Any), ..device.setup(purpose) }
}

#[tokio::test]
async fn the_recorded_pairing_with_a_listener_of_ours() {
    let desk = Device::new(1);
    let (mut run, addr) = Run::listening(setup(&desk, Purpose::Listen)).await;
    // A scanner first.
    let mut scanner = Other::at(addr).await;
    scanner.say("{\"type\":\"Hello\",\"version\":1,\"device_name\":\"scanner-7\"}\n").await;
    assert!(scanner.hear().await.starts_with(r#"{"type":"HelloAck","#));
    drop(scanner);
    let mut other = Other::at(addr).await;
    other.say(r#"{"type":"Hello","version":1,"device_name":"hostb"}"#).await;
    assert_eq!(
        other.hear().await,
        r#"{"type":"HelloAck","version":1,"device_name":"device-1","verification_code":null}"#
    );
    other
        .say(&format!(
            r#"{{"type":"KeyExchange","public_key":"{KEY} bob@hostb","comment":"bob@hostb"}}"#
        ))
        .await;
    let asked = run.question().await;
    assert_eq!((asked.device, &asked.sas[..], &asked.fingerprint[..]), (None, "", FINGERPRINT));
    assert_eq!((asked.name.as_str(), asked.lets_in), ("hostb", true));
    assert!(desk.files().is_empty(), "hole 1: nothing before the yes");
    run.meeting.answer(asked.id, true).await;
    assert_eq!(
        other.hear().await,
        r#"{"type":"KeyAccepted","message":"Key added to authorized_keys"}"#
    );
    assert_eq!(other.hear().await, r#"{"type":"PairingComplete","ssh_user":"user1"}"#);
    assert_eq!(run.outcome().await, Outcome::Done);
    assert!(desk.files()[0].1.starts_with(KEY));
}

#[tokio::test]
async fn text_with_a_listener_of_ours() {
    let desk = Device::new(1);
    let (mut run, addr) = Run::listening(setup(&desk, Purpose::Listen)).await;
    let mut other = Other::at(addr).await;
    other.say("HELLO 1").await;
    assert_eq!(other.hear().await, "HELLO 1");
    other.say(&format!("PUBKEY {KEY} bob@hostb")).await;
    // It says its last word early and ends its half.
    other.say("BYE").await;
    other.0.get_mut().shutdown().await.expect("is open");
    run.answer(true).await;
    assert_eq!(other.hear().await, "OK device-1 user1");
    assert_eq!(run.outcome().await, Outcome::Done);
    assert!(desk.files()[0].1.starts_with(KEY));
}

#[tokio::test]
async fn attack_38_who_was_let_in_and_goes_on_talking_keeps_no_place() {
    let desk = Device::new(1);
    let (mut run, addr) = Run::listening(setup(&desk, Purpose::Listen)).await;
    let mut other = Other::at(addr).await;
    other.say("HELLO 1").await;
    other.hear().await;
    other.say(&format!("PUBKEY {KEY}")).await;
    run.answer(true).await;
    assert_eq!(other.hear().await, "OK device-1 user1");
    let (_reading, mut writing) = other.0.into_inner().into_split();
    let dribble = tokio::spawn(async move {
        while writing.write_all(b"\n").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    assert_eq!(run.outcome().await, Outcome::Done);
    dribble.abort();
}

#[tokio::test]
async fn a_no_is_said_in_both_protocols_and_nothing_is_installed() {
    for (lines, no) in [
        (vec!["HELLO 1".to_owned(), format!("PUBKEY {KEY}")], "ERR "),
        (
            vec![
                r#"{"type":"Hello","version":1,"device_name":"hostb"}"#.to_owned(),
                format!(r#"{{"type":"KeyExchange","public_key":"{KEY}","comment":""}}"#),
            ],
            r#"{"type":"Error","#,
        ),
    ] {
        let desk = Device::new(1);
        let (mut run, addr) = Run::listening(setup(&desk, Purpose::Listen)).await;
        let mut other = Other::at(addr).await;
        other.say(&lines[0]).await;
        other.hear().await;
        other.say(&lines[1]).await;
        run.answer(false).await;
        let said = other.hear().await;
        assert!(said.starts_with(no), "{said}");
        assert!(matches!(run.outcome().await, Outcome::Refused(_)));
        assert!(desk.files().is_empty());
    }
}

#[tokio::test]
async fn without_the_flag_nothing_of_it_is_answered() {
    let desk = Device::new(1);
    let (mut run, addr) = Run::listening(desk.setup(Purpose::Listen)).await;
    for line in ["HELLO 1", r#"{"type":"Hello","version":1,"device_name":"x"}"#] {
        let mut other = Other::at(addr).await;
        other.say(line).await;
        let mut said = Vec::new();
        // A reset is an answer, too.
        let _ = timeout(LONG, other.0.read_to_end(&mut said)).await.expect("it hangs up");
        assert!(!said.starts_with(b"HELLO") && !said.starts_with(b"{"));
    }
    run.meeting.stop().await;
    run.outcome().await;
}

#[tokio::test]
async fn hole_4_a_silent_connection_and_an_endless_line_block_nobody() {
    let desk = Device::new(1);
    let (mut run, addr) = Run::listening(setup(&desk, Purpose::Listen)).await;
    let _silent = TcpStream::connect(addr).await.expect("somebody listens");
    let mut half = Other::at(addr).await;
    half.0.get_mut().write_all(b"{").await.expect("is heard");
    let mut endless = TcpStream::connect(addr).await.expect("somebody listens");
    let flood = tokio::spawn(async move {
        // It is hung up on.
        while endless.write_all(&[b'{'; 4096]).await.is_ok() {}
    });
    timeout(LONG, flood).await.expect("in time").expect("does not panic");
    let mut other = Other::at(addr).await;
    other.say("HELLO 1").await;
    assert_eq!(other.hear().await, "HELLO 1");
    run.meeting.stop().await;
    run.outcome().await;
}

#[tokio::test]
async fn attack_38_a_line_now_and_then_keeps_no_place() {
    let desk = Device::new(1);
    let before = Duration::from_secs(1);
    let setup = Setup { before, ..setup(&desk, Purpose::Listen) };
    let (mut run, addr) = Run::listening(setup).await;
    for greeting in ["HELLO 1", r#"{"type":"Hello","version":1,"device_name":"x"}"#] {
        let mut other = Other::at(addr).await;
        other.say(greeting).await;
        other.hear().await;
        let (mut reading, mut writing) = other.0.into_inner().into_split();
        let dribble = tokio::spawn(async move {
            while writing.write_all(b"\n").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        });
        let mut said = Vec::new();
        // A reset is an end, too.
        let _ = timeout(LONG, reading.read_to_end(&mut said)).await.expect("it hangs up");
        dribble.abort();
    }
    run.meeting.stop().await;
    run.outcome().await;
}

#[tokio::test]
async fn t6_nothing_is_said_yes_to_by_a_device_that_expects_another() {
    let (desk, lap) = (Device::new(1), Device::new(2));
    let setup = Setup { expect: Some(lap.id()), ..setup(&desk, Purpose::Listen) };
    let (mut run, addr) = Run::listening(setup).await;
    let mut other = Other::at(addr).await;
    other.say("HELLO 1").await;
    other.hear().await;
    other.say(&format!("PUBKEY {KEY}")).await;
    assert!(other.hear().await.starts_with("ERR "));
    // It goes on waiting for the one that is expected.
    let mut again = Other::at(addr).await;
    again.say("HELLO 1").await;
    assert_eq!(again.hear().await, "HELLO 1");
    run.meeting.stop().await;
    assert_eq!(run.outcome().await, Outcome::Stopped);
    assert!(desk.files().is_empty());
}

/// What a listener of the other program hears of one of ours.
async fn served(kind: Kind, lines: &[(&str, &str)]) -> (Device, Run, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("is bound");
    let lap = Device::new(2);
    let target = Target::At(Place::from(addr), Some(kind));
    let which = if kind == Kind::Connecto { Connecto::Json } else { Connecto::Text };
    let setup = Setup { target, connecto: Some(which), ..lap.setup(Purpose::Pair) };
    let mut run = Run::start(setup).await;
    let mut heard = Vec::new();
    let (stream, _) = timeout(LONG, listener.accept()).await.expect("in time").expect("a dialler");
    let mut other = Other(BufReader::new(stream));
    for (at, (expected, answer)) in lines.iter().enumerate() {
        if at == 1 {
            run.answer(true).await;
        }
        let line = other.hear().await;
        assert!(line.starts_with(expected), "{line}");
        heard.push(line);
        for line in answer.lines() {
            other.say(line).await;
        }
    }
    (lap, run, heard)
}

#[tokio::test]
async fn the_recorded_pairing_with_a_pairing_device_of_ours() {
    let (lap, mut run, heard) = served(
        Kind::Connecto,
        &[
            (
                r#"{"type":"Hello","version":1,"device_name":"device-2"}"#,
                r#"{"type":"HelloAck","version":1,"device_name":"hosta","verification_code":null}"#,
            ),
            (
                r#"{"type":"KeyExchange","public_key":"ssh-ed25519 "#,
                "{\"type\":\"KeyAccepted\",\"message\":\"Key added to authorized_keys\"}\n{\"type\":\"PairingComplete\",\"ssh_user\":\"alice\"}",
            ),
        ],
    )
    .await;
    assert!(heard[1].ends_with(r#" user2@device-2","comment":"user2@device-2"}"#), "{}", heard[1]);
    assert_eq!(run.outcome().await, Outcome::Done);
    let installed = lap.home().installed().expect("can be read");
    let host = installed[0].host.as_ref().expect("it is reached");
    assert_eq!((host.alias.as_str(), host.user.as_str()), ("hosta", "alice"));
}

#[tokio::test]
async fn text_with_a_pairing_device_of_ours() {
    let (lap, mut run, _) = served(
        Kind::ConnectoText,
        &[("HELLO 1", "HELLO 1"), ("PUBKEY ssh-ed25519 ", "OK hosta alice"), ("BYE", "")],
    )
    .await;
    assert_eq!(run.outcome().await, Outcome::Done);
    let installed = lap.home().installed().expect("can be read");
    assert_eq!(installed[0].host.as_ref().map(|host| host.user.as_str()), Some("alice"));
}

#[tokio::test]
async fn a_listener_that_knows_text_only_is_greeted_in_text_on_a_second_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("is bound");
    let lap = Device::new(2);
    let target = Target::At(Place::from(addr), None);
    let mut run = Run::start(Setup { target, ..setup(&lap, Purpose::Pair) }).await;
    let accept = || async {
        let (stream, _) = timeout(LONG, listener.accept()).await.expect("in time").expect("one");
        Other(BufReader::new(stream))
    };
    let mut first = accept().await;
    assert!(first.hear().await.starts_with(r#"{"type":"Hello","#));
    first.say("ERR what?").await;
    let mut second = accept().await;
    assert_eq!(second.hear().await, "HELLO 1");
    second.say("HELLO 1").await;
    run.answer(true).await;
    assert!(second.hear().await.starts_with("PUBKEY ssh-ed25519 "));
    second.say("OK hosta alice").await;
    assert_eq!(second.hear().await, "BYE");
    assert_eq!(run.outcome().await, Outcome::Done);
}

#[tokio::test]
async fn a_listener_that_serves_one_connection_is_paired_with_on_its_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("is bound");
    let lap = Device::new(2);
    let target = Target::At(Place::from(addr), None);
    let mut run = Run::start(Setup { target, ..setup(&lap, Purpose::Pair) }).await;
    let (stream, _) = timeout(LONG, listener.accept()).await.expect("in time").expect("one");
    drop(listener);
    let mut other = Other(BufReader::new(stream));
    other.hear().await;
    other
        .say(r#"{"type":"HelloAck","version":1,"device_name":"hosta","verification_code":null}"#)
        .await;
    run.answer(true).await;
    other.hear().await;
    other.say(r#"{"type":"KeyAccepted","message":""}"#).await;
    other.say(r#"{"type":"PairingComplete","ssh_user":"alice"}"#).await;
    assert_eq!(run.outcome().await, Outcome::Done);
}
