//! The test vectors of the exchange of SSH keys in docs/protocol.md are what this code makes.

#[path = "../../wire/tests/document/mod.rs"]
mod document;

use std::collections::BTreeMap;

use document::{hex, printed};
use identity::{DeviceKey, InboxId, Secret};
use pairing::{Lan, LanStep, Party, Transcript};
use wire::{
    session::{Message as Step, Mode, Name},
    ssh::{Hello, Message, Purpose, Reach, Refusal, SSH_VERSION},
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";

fn hello(name: &str, purpose: Purpose, inbox: u8) -> Hello {
    Hello {
        version: SSH_VERSION,
        name: Name::new(name).expect("is one"),
        purpose,
        inbox: InboxId([inbox; 32]),
        key: purpose.logs_in().then(|| KEY.to_owned()),
    }
}

#[test]
fn the_vectors_in_the_document_are_what_the_code_makes() {
    let mut made = BTreeMap::new();
    let mut add = |name: &str, value: &[u8]| made.insert(name.to_owned(), hex(value));
    let (client, server) =
        (hello("lap", Purpose::Pair, 0x21), hello("desk", Purpose::Listen, 0x22));
    add("client_hello", &Message::Hello(client.clone()).encode());
    add("server_hello", &Message::Hello(server.clone()).encode());
    add("topic", &Hello::topic(&client, &server));
    let reach = Reach { user: "alice".into(), port: 22, host_keys: vec![KEY.into()] };
    add("reach", &Message::Reach(reach).encode());
    let refused = Message::Refused { reason: Refusal::Declined, words: "no".into() };
    add("refused", &refused.encode());
    add("later", &Message::Later.encode());
    add("accepted", &Message::Accepted.encode());
    add("done", &Message::Done.encode());

    let party = |seed: u8, hello: &Hello| Party {
        device: DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key").id(),
        inbox: hello.inbox,
        name: hello.name.clone(),
        version: hello.version,
        mode: Mode::Ask,
    };
    let transcript = Transcript {
        client: party(1, &client),
        server: party(2, &server),
        topic: Hello::topic(&client, &server),
        exporter: [0x41; 32],
    };
    let mut lan = Lan::client(&transcript).expect("two devices");
    let Ok(Step::Commit(commit)) = lan.commit([0x51; 32]) else { panic!("it may") };
    add("commit", &Message::Commit(commit).encode());
    let Ok(LanStep::SendAndShow(_, sas)) = lan.handle(&Step::Nonce([0x61; 32]), [0; 32]) else {
        panic!("it shows the string")
    };
    made.insert("sas".to_owned(), sas.to_string());
    assert_eq!(printed("vectors-ssh"), made);
}
