//! The test vectors of topics and vouches in docs/protocol.md are what this code makes.

#[path = "../../wire/tests/document/mod.rs"]
mod document;

use std::collections::BTreeMap;

use document::{hex, printed};
use group::{Topic, VouchExt as _};
use identity::{DeviceId, DeviceKey, Secret};
use wire::session::{Ground, Name, Vouch};

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
