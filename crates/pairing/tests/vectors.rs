//! The test vectors of the LAN ceremony in docs/protocol.md are what this code makes.

#[path = "../../wire/tests/document/mod.rs"]
mod document;

use std::collections::BTreeMap;

use document::{hex, printed};
use identity::{DeviceId, InboxId};
use pairing::{Lan, LanStep, Party, Transcript};
use wire::session::{Message, Mode, Name};

#[test]
fn t3_the_vectors_in_the_document_are_what_the_code_makes() {
    let party = |device, inbox, name: &str, mode| Party {
        device: DeviceId([device; 32]),
        inbox: InboxId([inbox; 32]),
        name: Name::new(name).unwrap(),
        version: 1,
        mode,
    };
    let transcript = Transcript {
        client: party(0x11, 0x12, "laptop", Mode::Ask),
        server: party(0x21, 0x22, "Küche", Mode::Open),
        topic: [0x31; 32],
        exporter: [0x41; 32],
    };
    let mut client = Lan::client(&transcript).unwrap();
    let Message::Commit(commitment) = client.commit([0x51; 32]).unwrap() else {
        panic!("a commitment comes first");
    };
    let step = client.handle(&Message::Nonce([0x61; 32]), [0; 32]).unwrap();
    let LanStep::SendAndShow(Message::Reveal(revealed), sas) = step else {
        panic!("the nonce is revealed next");
    };
    assert_eq!(revealed, [0x51; 32]);
    let made = BTreeMap::from([
        ("lan_commitment".to_owned(), hex(&commitment)),
        ("lan_sas".to_owned(), sas.to_string()),
    ]);
    assert_eq!(printed("vectors-lan"), made);
}
