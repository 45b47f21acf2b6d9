//! The passphrase ceremony by rule T5 and the attacks on it (attacks.md 10, 11, 13).

use identity::{DeviceId, Secret};
use pairing::{Abort, Passphrase, PassphraseStep};
use wire::session::{Message, PAKE_LEN};

const A: DeviceId = DeviceId([1; 32]);
const B: DeviceId = DeviceId([2; 32]);

fn words(words: &str) -> Secret<String> {
    Secret::new(words.to_owned())
}

struct Side {
    passphrase: &'static str,
    client: DeviceId,
    server: DeviceId,
    exporter: u8,
}

const HONEST: Side = Side { passphrase: "four words of wood", client: A, server: B, exporter: 5 };

fn client(side: &Side) -> (Passphrase, Message) {
    let (exporter, seed) = ([side.exporter; 32], Secret::new([3; 32]));
    Passphrase::client(&words(side.passphrase), side.client, side.server, &exporter, &seed)
        .expect("two devices")
}

fn server(side: &Side) -> Passphrase {
    let (exporter, seed) = ([side.exporter; 32], Secret::new([4; 32]));
    Passphrase::server(&words(side.passphrase), side.client, side.server, &exporter, &seed)
        .expect("two devices")
}

/// What the server says to the client's confirmation.
fn run(a: &Side, b: &Side) -> Result<PassphraseStep, Abort> {
    let (mut a, hello) = client(a);
    let mut b = server(b);
    assert!(a.under_way() && !b.under_way());
    let PassphraseStep::Send(answer) = b.handle(&hello)? else { panic!("no answer") };
    assert!(b.exposed() && b.under_way());
    let PassphraseStep::Send(confirm) = a.handle(&answer)? else { panic!("no confirmation") };
    assert!(a.exposed());
    let step = b.handle(&confirm)?;
    let PassphraseStep::SendAndAccept(confirm) = &step else { panic!("no confirmation back") };
    assert_eq!(a.handle(confirm), Ok(PassphraseStep::Accept));
    assert!(!a.exposed() && !b.exposed() && !a.under_way() && !b.under_way());
    Ok(step)
}

#[test]
fn t5_who_knows_it_is_accepted() {
    assert!(run(&HONEST, &HONEST).is_ok());
}

#[test]
fn t5_who_does_not_know_it_is_refused_by_the_server_first() {
    let wrong = Side { passphrase: "four words of wool", ..HONEST };
    assert_eq!(run(&wrong, &HONEST), Err(Abort::WrongPassphrase));
    assert_eq!(run(&HONEST, &wrong), Err(Abort::WrongPassphrase));
    assert_eq!(run(&Side { passphrase: "", ..HONEST }, &HONEST), Err(Abort::WrongPassphrase));
}

#[test]
fn t5_roles_ids_and_the_exporter_are_bound() {
    let elsewhere = Side { exporter: 6, ..HONEST };
    assert_eq!(run(&elsewhere, &HONEST), Err(Abort::WrongPassphrase));
    let other_server = Side { server: DeviceId([9; 32]), ..HONEST };
    assert_eq!(run(&other_server, &HONEST), Err(Abort::WrongPassphrase));
    let other_client = Side { client: DeviceId([9; 32]), ..HONEST };
    assert_eq!(run(&other_client, &HONEST), Err(Abort::WrongPassphrase));
}

#[test]
fn attack_10_reflection_and_self_pairing_abort() {
    let (mut a, Message::PakeA(sent)) = client(&HONEST) else { panic!("side A") };
    assert_eq!(a.handle(&Message::PakeA(sent)), Err(Abort::OutOfOrder));
    assert_eq!(a.handle(&Message::PakeB(sent)), Err(Abort::Malformed), "its own, relabelled");
    let seed = Secret::new([3; 32]);
    let itself = Passphrase::client(&words("x"), A, A, &[0; 32], &seed);
    assert_eq!(itself.err(), Some(Abort::Reflected));
    // The client's confirmation turned back at it.
    let (mut a, hello) = client(&HONEST);
    let Ok(PassphraseStep::Send(answer)) = server(&HONEST).handle(&hello) else { panic!() };
    let Ok(PassphraseStep::Send(confirm)) = a.handle(&answer) else { panic!() };
    assert_eq!(a.handle(&confirm), Err(Abort::WrongPassphrase));
    assert!(a.exposed(), "and it counts");
}

#[test]
fn out_of_order_or_malformed_messages_abort() {
    let mut b = server(&HONEST);
    assert_eq!(b.handle(&Message::Confirm([0; 32])), Err(Abort::OutOfOrder));
    assert_eq!(b.handle(&Message::PakeB([0; PAKE_LEN])), Err(Abort::OutOfOrder));
    assert_eq!(b.handle(&Message::Accepted), Err(Abort::OutOfOrder));
    // No point of the curve has the y coordinate 2.
    let mut no_point = [0; PAKE_LEN];
    no_point[..2].copy_from_slice(&[b'A', 2]);
    assert_eq!(server(&HONEST).handle(&Message::PakeA(no_point)), Err(Abort::Malformed));
    let (_, hello) = client(&HONEST);
    let mut b = server(&HONEST);
    b.handle(&hello).expect("in order");
    assert_eq!(b.handle(&hello), Err(Abort::OutOfOrder), "twice");
}
