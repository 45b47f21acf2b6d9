//! A man in the middle that changes what the two sides say of themselves (attacks.md 11 and 13).

use identity::{DeviceId, InboxId};
use pairing::{Abort, Lan, LanStep, Party, Transcript};
use wire::session::{Mode, Name};

fn party(number: u8) -> Party {
    Party {
        device: DeviceId([number; 32]),
        inbox: InboxId([number + 100; 32]),
        name: Name::new("device").expect("short"),
        version: 2,
        mode: Mode::Ask,
    }
}

/// Both sides on one link, where the server was shown something else of the client than it said.
fn ends(shown: Party) -> Result<(), Abort> {
    let honest =
        Transcript { client: party(1), server: party(2), topic: [3; 32], exporter: [4; 32] };
    let changed = Transcript { client: shown, ..honest.clone() };
    let (mut a, mut b) = (Lan::client(&honest)?, Lan::server(&changed)?);
    let commit = a.commit([5; 32])?;
    let LanStep::Send(nonce) = b.handle(&commit, [6; 32])? else { panic!("no nonce") };
    let LanStep::SendAndShow(reveal, _) = a.handle(&nonce, [0; 32])? else { panic!("no SAS") };
    b.handle(&reveal, [0; 32]).map(|_| ())
}

#[test]
fn attack_11_an_older_version_or_an_easier_way_in_is_noticed() {
    assert_eq!(ends(party(1)), Ok(()));
    assert_eq!(ends(Party { version: 1, ..party(1) }), Err(Abort::Commitment));
    for mode in [Mode::Open, Mode::Passphrase] {
        assert_eq!(ends(Party { mode, ..party(1) }), Err(Abort::Commitment));
    }
}

#[test]
fn attack_13_another_device_id_than_the_proven_one_is_noticed() {
    assert_eq!(ends(Party { device: DeviceId([9; 32]), ..party(1) }), Err(Abort::Commitment));
    assert_eq!(ends(Party { inbox: InboxId([9; 32]), ..party(1) }), Err(Abort::Commitment));
}
