//! The LAN ceremony by rule T3 and the attacks on it (attacks.md 7, 8, 10, 11, 13).

use identity::{DeviceId, DeviceKey, InboxId, Sas, Secret};
use pairing::{Abort, Lan, LanStep, Party, Transcript};
use proptest::prelude::*;
use wire::session::{Message, Mode, Name};

fn party(seed: u8) -> Party {
    let key = DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key");
    Party {
        device: key.id(),
        inbox: InboxId([seed.wrapping_add(100); 32]),
        name: Name::new(&format!("device {seed}")).expect("short"),
        version: 1,
        mode: Mode::Ask,
    }
}

fn transcript(client: u8, server: u8, exporter: u8) -> Transcript {
    let (client, server) = (party(client), party(server));
    Transcript { client, server, topic: [1; 32], exporter: [exporter; 32] }
}

/// Runs both sides to the end: what each shows.
fn run(client: &Transcript, server: &Transcript, na: u8, nb: u8) -> Result<(Sas, Sas), Abort> {
    let (mut a, mut b) = (Lan::client(client)?, Lan::server(server)?);
    let commit = a.commit([na; 32])?;
    let LanStep::Send(nonce) = b.handle(&commit, [nb; 32])? else { panic!("no nonce") };
    let LanStep::SendAndShow(reveal, at_a) = a.handle(&nonce, [0; 32])? else { panic!("no SAS") };
    let LanStep::Show(at_b) = b.handle(&reveal, [0; 32])? else { panic!("no SAS") };
    Ok((at_a, at_b))
}

proptest! {
    #[test]
    fn t3_both_sides_show_the_same_string(na: u8, nb: u8, exporter: u8) {
        prop_assume!(na != nb);
        let transcript = transcript(1, 2, exporter);
        let (a, b) = run(&transcript, &transcript, na, nb).unwrap();
        prop_assert_eq!(a, b);
    }

    #[test]
    fn t3_any_difference_in_what_they_saw_aborts(which in 0..12_usize, na in 0..100_u8) {
        let seen_by_a = transcript(1, 2, 7);
        let mut seen_by_b = seen_by_a.clone();
        match which {
            0 => seen_by_b.client.device = DeviceId([9; 32]),
            1 => seen_by_b.server.device = DeviceId([9; 32]),
            2 => seen_by_b.client.inbox = InboxId([9; 32]),
            3 => seen_by_b.server.inbox = InboxId([9; 32]),
            4 => seen_by_b.client.name = Name::new("x").unwrap(),
            5 => seen_by_b.server.name = Name::new("x").unwrap(),
            6 => seen_by_b.client.version = 0,
            7 => seen_by_b.server.version = 0,
            8 => seen_by_b.topic = [9; 32],
            9 => seen_by_b.exporter = [9; 32],
            10 => seen_by_b.client.mode = Mode::Open,
            _ => std::mem::swap(&mut seen_by_b.client, &mut seen_by_b.server),
        }
        prop_assert_eq!(run(&seen_by_a, &seen_by_b, na, 200), Err(Abort::Commitment));
    }

    #[test]
    fn t3_nothing_but_the_next_message_is_taken(
        script in proptest::collection::vec((0..7_usize, any::<u8>()), 1..6),
        client: bool,
    ) {
        let transcript = transcript(1, 2, 3);
        let mut machine =
            if client { Lan::client(&transcript) } else { Lan::server(&transcript) }.unwrap();
        let mut honest = false;
        for (kind, byte) in script {
            let message = match kind {
                0 => Message::Commit([byte; 32]),
                1 => Message::Nonce([byte; 32]),
                2 => Message::Reveal([byte; 32]),
                3 => Message::Later,
                4 => Message::Confirm([byte; 32]),
                5 => Message::Accepted,
                _ => Message::Standing { known: true },
            };
            // A client that has not committed expects nothing; a server only a commitment, and then
            // a reveal that fits, which these are not.
            honest = !client && kind == 0 && !honest;
            if machine.handle(&message, [1; 32]).is_err() {
                prop_assert!(!honest);
                prop_assert!(machine.handle(&Message::Commit([1; 32]), [2; 32]).is_err());
                prop_assert!(machine.commit([3; 32]).is_err());
                return Ok(());
            }
            prop_assert!(honest);
        }
    }
}

#[test]
fn attack_07_a_man_in_the_middle_gets_two_different_strings() {
    // M (3) stands between A (1) and B (2): two links, two exporters, its own keys on both.
    let mut equal = 0;
    for nonce in 0..100 {
        let (left, right) = (transcript(1, 3, 7), transcript(3, 2, 8));
        let (a, _) = run(&left, &left, nonce, 101).expect("M plays by the rules");
        let (b, _) = run(&right, &right, 102, nonce).expect("M plays by the rules");
        equal += u32::from(a == b);
    }
    assert_eq!(equal, 0);
}

#[test]
fn attack_08_a_changed_commitment_aborts() {
    let transcript = transcript(1, 2, 3);
    let mut b = Lan::server(&transcript).expect("two devices");
    let mut a = Lan::client(&transcript).expect("two devices");
    let commit = a.commit([1; 32]).expect("first");
    b.handle(&commit, [2; 32]).expect("in order");
    // The attacker has seen B's nonce and grinds for a better one of its own.
    assert_eq!(b.handle(&Message::Reveal([3; 32]), [0; 32]), Err(Abort::Commitment));
    assert!(b.exposed(), "and it counts");
}

#[test]
fn attack_08_a_second_or_late_commitment_aborts() {
    let transcript = transcript(1, 2, 3);
    let mut b = Lan::server(&transcript).expect("two devices");
    b.handle(&Message::Commit([1; 32]), [2; 32]).expect("in order");
    assert_eq!(b.handle(&Message::Commit([4; 32]), [5; 32]), Err(Abort::OutOfOrder));
    let mut a = Lan::client(&transcript).expect("two devices");
    a.commit([1; 32]).expect("first");
    assert_eq!(a.commit([2; 32]), Err(Abort::OutOfOrder));
}

#[test]
fn attack_10_reflection_and_self_pairing_abort() {
    let transcript = transcript(1, 2, 3);
    let mut a = Lan::client(&transcript).expect("two devices");
    let commit = a.commit([1; 32]).expect("first");
    assert_eq!(a.handle(&commit, [2; 32]), Err(Abort::OutOfOrder), "its own commitment");
    let mut a = Lan::client(&transcript).expect("two devices");
    a.commit([1; 32]).expect("first");
    assert_eq!(a.handle(&Message::Nonce([1; 32]), [2; 32]), Err(Abort::Reflected), "its own nonce");

    let with_itself = Transcript { server: transcript.client.clone(), ..transcript.clone() };
    assert_eq!(Lan::client(&with_itself).err(), Some(Abort::Reflected));
    let mut same_inbox = transcript;
    same_inbox.server.inbox = same_inbox.client.inbox;
    assert_eq!(Lan::server(&same_inbox).err(), Some(Abort::Reflected));
}

#[test]
fn attack_10_a_run_replayed_on_another_link_aborts() {
    let mut a = Lan::client(&transcript(1, 2, 3)).expect("two devices");
    let commit = a.commit([1; 32]).expect("first");
    // The same devices, another link: another exporter.
    let mut b = Lan::server(&transcript(1, 2, 4)).expect("two devices");
    b.handle(&commit, [2; 32]).expect("in order");
    assert_eq!(b.handle(&Message::Reveal([1; 32]), [0; 32]), Err(Abort::Commitment));
}

#[test]
fn attack_41_a_run_counts_from_the_moment_the_servers_nonce_is_out() {
    let transcript = transcript(1, 2, 3);
    let mut a = Lan::client(&transcript).expect("two devices");
    let mut b = Lan::server(&transcript).expect("two devices");
    let commit = a.commit([1; 32]).expect("first");
    assert!(!a.exposed() && !b.exposed(), "hanging up here tells nobody anything");
    let Ok(LanStep::Send(nonce)) = b.handle(&commit, [2; 32]) else { panic!("no nonce") };
    assert!(b.exposed());
    a.handle(&nonce, [0; 32]).expect("in order");
    assert!(a.exposed());
}

#[test]
fn a_busy_server_is_committed_to_anew() {
    let transcript = transcript(1, 2, 3);
    let mut a = Lan::client(&transcript).expect("two devices");
    a.commit([1; 32]).expect("first");
    assert_eq!(a.handle(&Message::Later, [0; 32]), Ok(LanStep::Wait));
    assert!(!a.exposed() && a.may_commit());
    let mut b = Lan::server(&transcript).expect("two devices");
    let again = a.commit([5; 32]).expect("after a later");
    let Ok(LanStep::Send(nonce)) = b.handle(&again, [2; 32]) else { panic!("no nonce") };
    let Ok(LanStep::SendAndShow(reveal, at_a)) = a.handle(&nonce, [0; 32]) else { panic!("SAS") };
    assert_eq!(b.handle(&reveal, [0; 32]), Ok(LanStep::Show(at_a)));
}

#[test]
fn t3_a_nonce_is_not_shown_before_it_is_revealed() {
    let mut client = Lan::client(&transcript(1, 2, 5)).expect("two devices");
    client.commit([231; 32]).expect("the first commitment");
    assert!(!format!("{client:?}").contains("231"));
}
