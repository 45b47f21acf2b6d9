//! The test vectors in docs/protocol.md are what this code makes: neither changes without the other.

mod document;

use std::collections::BTreeMap;

use document::{hex, printed};
use identity::{DeviceKey, Secret};
use wire::{
    Hash, RelPath, device,
    frame::{Channel, encode_header},
    heard::{self, Heard, Statement},
    record::{
        BatchScope, Body, Record, SignedRecord, batch_digest, merkle_path, merkle_root,
        merkle_root_from,
    },
    session, sync,
    version::{Dot, ReplicaId, VersionVector},
};

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

const ONE: ReplicaId = ReplicaId(0x0102_0304_0506_0708);
const TWO: ReplicaId = ReplicaId(0xa1a2_a3a4_a5a6_a7a8);

fn record(path: &str, body: Body) -> Record {
    let dot = Dot { replica: ONE, counter: 1 };
    let mut version = VersionVector::new();
    version.add(dot);
    Record {
        path: RelPath::parse(path).expect("a path"),
        body,
        mode: 0o755,
        mtime: 0,
        version,
        dot,
        content_dot: dot,
        superseded: Vec::new(),
        found: false,
    }
}

/// The three records of the document, in its words.
fn records() -> [SignedRecord; 3] {
    let file = Body::File { size: 6, content: Hash::of(b"hello\n") };
    let mut file = record("notes/hello.txt", file);
    file.mode = 0o644;
    file.mtime = 1_700_000_000_123_456_789;
    file.dot = Dot { replica: TWO, counter: 300 };
    file.version.add(file.dot);
    file.superseded = vec![Hash::of(b"hallo\n").short()];
    let mut dir = record("notes", Body::Dir);
    dir.found = true;
    let mut link = record("latest", Body::Symlink { target: "notes/hello.txt".into() });
    link.mode = 0;
    link.mtime = -1;
    [file.seal(), dir.seal(), link.seal()]
}

#[test]
fn the_vectors_in_the_document_are_what_the_code_makes() {
    let mut made = BTreeMap::new();
    let mut add = |name: &str, value: &[u8]| made.insert(name.to_owned(), hex(value));
    add("frame_header", &encode_header(Channel::Folder(0), 70_000).unwrap());
    add("session_standing", &session::Message::Standing { known: true }.encode());
    add("session_alive", &session::Message::Alive.encode());
    let tag = session::StrandTag::offer(&[0x41; 32], &[0x42; 32]);
    add("session_strand", &session::Message::Strand(tag).encode());
    let tag = session::StrandTag::answer(&[0x41; 32], &[0x42; 32]);
    add("session_strand_answer", &session::Message::Strand(tag).encode());
    add("session_order", &session::Message::Order(300).encode());
    let ssh = |message| session::Message::Device(message).encode();
    let key = || "ssh-ed25519 AAAA".to_owned();
    add("device_not_admitted", &ssh(device::Message::NotAdmitted));
    add("device_ssh_key", &ssh(device::Message::SshKey { turn: 1, key: Some(key()) }));
    add("device_ssh_closed", &ssh(device::Message::SshOpen { turn: 1, server: None }));
    let server =
        device::SshServer { user: "alice".into(), port: 2222, host_keys: vec![key(), key()] };
    add("device_ssh_open", &ssh(device::Message::SshOpen { turn: 2, server: Some(server) }));
    add("sync_hello", &sync::Message::Hello { replica: ONE }.encode());

    let [file, dir, link] = records();
    for (name, record) in [("file", &file), ("dir", &dir), ("link", &link)] {
        add(&format!("{name}_record"), &record.bytes);
        add(&format!("{name}_hash"), &record.hash.0);
    }
    add("link_content", &link.record.body.content().0);

    let leaves = [file.hash, dir.hash, link.hash];
    let root = merkle_root(&leaves);
    add("merkle_root", &root.0);
    add(
        "merkle_path_of_dir",
        &merkle_path(&leaves, 1).iter().flat_map(|h| h.0).collect::<Vec<_>>(),
    );

    let key = DeviceKey::from_seed(&Secret::new([7; 32])).unwrap();
    let scope = BatchScope {
        group: Hash::derived("kinfold 2026-11 session group", &[b"photos"]),
        folder: Hash::derived("kinfold 2026-11 session folder", &[b"photos"]),
    };
    add("scope_group", &scope.group.0);
    add("scope_folder", &scope.folder.0);
    add("device_id", &key.id().0);
    let digest = batch_digest(&scope, &key.id(), 3, &root);
    add("batch_digest", &digest.0);
    add("batch_signature", &key.sign(&digest.0));
    let vector = |entries: &[(ReplicaId, u64)]| {
        VersionVector::from_entries(entries.to_vec()).expect("sorted")
    };
    let (known, aged) = (vector(&[(ONE, 5), (TWO, 300)]), vector(&[(ONE, 4)]));
    let statement =
        Statement { replica: ONE.0, number: 3, known, aged, horizon: VersionVector::new() };
    let bytes = statement.encode();
    let signature = key.sign(&heard::digest(&scope, &key.id(), &bytes).0);
    add("heard_statement", &bytes);
    add("heard_signature", &signature);
    let heard = Heard { author: key.id(), signature, statement, bytes };
    add("sync_heard", &sync::Message::Heard(vec![heard]).encode());
    made.insert("device_id_text".into(), key.id().to_string());
    assert_eq!(printed("vectors-wire"), made);
}

#[test]
fn the_printed_bytes_are_read_back() {
    let printed = printed("vectors-wire");
    for (name, record) in ["file_record", "dir_record", "link_record"].iter().zip(records()) {
        assert_eq!(SignedRecord::parse(bytes(&printed[*name]).into()), Ok(record), "{name}");
    }
    let leaf = Hash::from_slice(&bytes(&printed["dir_hash"])).unwrap();
    let path = bytes(&printed["merkle_path_of_dir"]);
    let path: Vec<_> = path.chunks(32).map(|hash| Hash::from_slice(hash).unwrap()).collect();
    let root = merkle_root_from(leaf, 1, 3, &path).unwrap();
    assert_eq!(hex(&root.0), printed["merkle_root"]);
    let standing = session::Message::decode(&bytes(&printed["session_standing"]));
    assert_eq!(standing, Ok(session::Message::Standing { known: true }));
}

#[test]
fn unknown_fields_of_a_record_stay_in_its_hash_and_are_otherwise_ignored() {
    let [file, ..] = records();
    // Field 100, a varint of 1.
    let longer = [&file.bytes[..], &[0xa0, 0x06, 0x01]].concat();
    let parsed = SignedRecord::parse(longer.clone().into()).unwrap();
    assert_eq!(parsed.record, file.record);
    assert_eq!(parsed.bytes, longer);
    assert_ne!(parsed.hash, file.hash);
}

#[test]
fn what_a_relay_is_asked_and_answers_is_as_printed() {
    use wire::relay::{
        Ack, Answer, Deposit, DepositToken, Get, Item, Lane, LookupId, Meet, MeetingId, OwnerKey,
        Put, Receive, Refusal, Remove, Settle, Signed, Withdraw,
    };
    let mut made = BTreeMap::new();
    let mut add = |name: &str, value: &[u8]| made.insert(name.to_owned(), hex(value));
    let channel = [1; 32];
    let key = OwnerKey::from_seed(&Secret::new([7; 32])).unwrap();
    let owner = key.owner();
    add("owner", &owner.0);
    add("mailbox", &owner.mailbox().0);
    let token = DepositToken(Secret::new([5; 32]));
    add("token_hash", &token.hash().0);
    let (lookup, until) = (LookupId([3; 32]), 1_800_000_000);
    let entry = vec![9; 1024];
    let signature = Signed::Put { lookup, until, entry: &entry }.sign(&channel, &key);
    add("put_signature", &signature.0);
    // A kilobyte of the same is not worth printing.
    let put = Put { lookup, owner, until, entry: entry.into(), signature }.encode();
    add("put_head", &put[..77]);
    add("get", &Get { lookup }.encode());
    let signature = Signed::Withdraw(lookup).sign(&channel, &key);
    add("withdraw", &Withdraw { lookup, owner, signature }.encode());
    let signature = Signed::Settle(token.hash()).sign(&channel, &key);
    add("settle", &Settle { owner, token: token.hash(), signature }.encode());
    let signature = Signed::Remove.sign(&channel, &key);
    add("remove", &Remove { owner, signature }.encode());
    let signature = Signed::Receive.sign(&channel, &key);
    add("receive", &Receive { owner, signature }.encode());
    add("meet", &Meet { meeting: MeetingId([4; 32]) }.encode());
    let envelope = [&[1; 33][..], &[8; 991]].concat();
    let mailbox = owner.mailbox();
    let deposit = |token| Deposit { mailbox, token, envelope: envelope.clone().into() }.encode();
    add("deposit_members_head", &deposit(Some(token))[..71]);
    add("deposit_strangers_head", &deposit(None)[..37]);
    let item = Item { number: 300, lane: Lane::Members, envelope: envelope.clone().into() };
    add("item_head", &item.encode()[..8]);
    add("ack", &Ack { numbers: vec![1, 2, 300] }.encode());
    for (name, answer) in [
        ("done", Answer::Done),
        ("absent", Answer::Absent),
        ("full", Answer::Refused(Refusal::Full)),
        ("limited", Answer::Refused(Refusal::Limited { after: 60 })),
    ] {
        add(name, &answer.encode());
    }
    assert_eq!(printed("vectors-relay"), made);
}
