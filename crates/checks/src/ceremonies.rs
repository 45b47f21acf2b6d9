//! The ceremonies: whatever the other side sends, and in whatever order, only the honest run ends well.

use identity::{DeviceId, InboxId, Secret};
use pairing::{Lan, LanStep, Party, Passphrase, PassphraseStep, Transcript};
use wire::session::{Message, Mode, Name, PAKE_LEN};

fn party(number: u8) -> Party {
    Party {
        device: DeviceId([number; 32]),
        inbox: InboxId([number + 100; 32]),
        name: Name::new("device").expect("short"),
        version: 1,
        mode: Mode::Ask,
    }
}

fn transcript() -> Transcript {
    Transcript { client: party(1), server: party(2), topic: [3; 32], exporter: [4; 32] }
}

/// One message for each two bytes: a kind and a number from which its contents are made.
fn messages(data: &[u8]) -> impl Iterator<Item = Message> {
    data.as_chunks::<2>().0.iter().take(64).map(|&[kind, number]| match kind % 12 {
        0 => commitment(number % 4),
        1 => Message::Commit([number; 32]),
        2 => Message::Nonce([number % 4; 32]),
        3 => Message::Reveal([number % 4; 32]),
        4 => Message::Later,
        5 => Message::Ready,
        6 => Message::PakeA([number; PAKE_LEN]),
        7 => Message::PakeB([number; PAKE_LEN]),
        8 => Message::Confirm([number; 32]),
        9 => pake(number % 2 == 0),
        10 => Message::Accepted,
        _ => Message::Standing { known: number % 2 == 0 },
    })
}

/// The commitment of an honest client to this nonce.
fn commitment(nonce: u8) -> Message {
    let mut client = Lan::client(&transcript()).expect("two devices");
    client.commit([nonce; 32]).expect("the first")
}

/// The first message of somebody who does not know the passphrase.
fn pake(client: bool) -> Message {
    let (guess, seed) = (Secret::new("a guess".to_owned()), Secret::new([7; 32]));
    let (id, other) = (party(1).device, party(2).device);
    let (_, message) = Passphrase::client(&guess, id, other, &[4; 32], &seed).expect("two devices");
    match message {
        Message::PakeA(mut bytes) if !client => {
            bytes[0] = b'B';
            Message::PakeB(bytes)
        }
        message => message,
    }
}

/// One byte says which side of which ceremony is played against.
pub(crate) fn pairing(data: &[u8]) {
    let Some((side, rest)) = data.split_first() else { return };
    match side % 4 {
        0 => lan_server(rest),
        1 => lan_client(rest),
        2 => passphrase(rest, true),
        _ => passphrase(rest, false),
    }
}

const FRESH: u8 = 0;

fn lan_server(data: &[u8]) {
    let mut server = Lan::server(&transcript()).expect("two devices");
    let (mut heard, mut over, mut exposed) = (Vec::new(), false, false);
    for message in messages(data) {
        let step = server.handle(&message, [FRESH; 32]);
        assert!(!over || step.is_err(), "an aborted run went on");
        over |= step.is_err();
        assert!(server.exposed() || !exposed, "what was exposed is forgotten");
        exposed = server.exposed();
        heard.push(message);
        if let Ok(LanStep::Show(_)) = step {
            let [Message::Commit(committed), Message::Reveal(nonce)] = &heard[..] else {
                panic!("a string after {heard:?}");
            };
            assert_eq!(commitment(nonce[0]), Message::Commit(*committed));
            assert_ne!(nonce[0], FRESH);
        }
    }
}

fn lan_client(data: &[u8]) {
    let mut client = Lan::client(&transcript()).expect("two devices");
    let (mut over, mut shown) = (false, 0);
    for message in messages(data) {
        // The honest side commits whenever it may.
        if client.may_commit() {
            client.commit([FRESH; 32]).expect("it may");
        }
        let step = client.handle(&message, [9; 32]);
        assert!(!over || step.is_err(), "an aborted run went on");
        over |= step.is_err();
        if let Ok(LanStep::SendAndShow(reveal, _)) = step {
            shown += 1;
            assert_eq!(reveal, Message::Reveal([FRESH; 32]));
            assert!(matches!(message, Message::Nonce(nonce) if nonce != [FRESH; 32]));
        }
        assert!(shown <= 1, "two strings in one run");
    }
}

fn passphrase(data: &[u8], client: bool) {
    let (words, seed) = (Secret::new("four words of wood".to_owned()), Secret::new([8; 32]));
    let (a, b) = (party(1).device, party(2).device);
    let mut machine = if client {
        Passphrase::client(&words, a, b, &[4; 32], &seed).expect("two devices").0
    } else {
        Passphrase::server(&words, a, b, &[4; 32], &seed).expect("two devices")
    };
    let mut confirmed = 0;
    for message in messages(data) {
        match machine.handle(&message) {
            Ok(PassphraseStep::Accept | PassphraseStep::SendAndAccept(_)) => {
                panic!("somebody who does not know the passphrase was accepted");
            }
            Ok(PassphraseStep::Send(_)) => confirmed += 1,
            Err(_) => (),
        }
        assert!(confirmed <= 1, "two guesses in one run");
    }
}
