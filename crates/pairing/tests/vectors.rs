//! The test vectors of the LAN ceremony in docs/protocol.md are what this code makes.

use std::{collections::BTreeMap, fmt::Write as _};

use identity::{DeviceId, InboxId};
use pairing::{Lan, LanStep, Party, Transcript};
use wire::session::{Message, Mode, Name};

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// The lines `name = value` of the block that is marked with this word.
fn printed(block: &str) -> BTreeMap<String, String> {
    let (_, rest) = DOCUMENT.split_once(&format!("```{block}\n")).expect("the block is there");
    let (lines, _) = rest.split_once("```").expect("the block ends");
    let pair = |line: &str| line.split_once(" = ").map(|(n, v)| (n.trim().into(), v.trim().into()));
    lines.lines().filter_map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

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
