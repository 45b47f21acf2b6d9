//! The test vectors of topics and vouches in docs/protocol.md are what this code makes.

use std::{collections::BTreeMap, fmt::Write as _};

use group::{Topic, VouchExt as _};
use identity::{DeviceId, DeviceKey, Secret};
use wire::session::{Ground, Name, Vouch};

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
fn t7_the_vectors_in_the_document_are_what_the_code_makes() {
    let key = DeviceKey::from_seed(&Secret::new([7; 32])).unwrap();
    let topic = Topic::new("photos");
    let name = Name::new("Küche").unwrap();
    let vouch = Vouch::sign(&key, &topic, DeviceId([0x21; 32]), name, Ground::Person);
    let made = BTreeMap::from([
        ("topic_on_link".to_owned(), hex(&topic.on_link(&[0x41; 32]))),
        ("vouch_signature".to_owned(), hex(&vouch.signature)),
    ]);
    assert_eq!(printed("vectors-group"), made);
}
