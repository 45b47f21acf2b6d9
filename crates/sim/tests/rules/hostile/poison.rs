//! A member that means harm and keeps to the forms: what it says is taken, and costs nobody an edit.

use bytes::Bytes;
use folder::engine::{Event, Input};
use sim::disk::Node;
use wire::{
    PathError, RelPath,
    record::{Body, SignedRecord},
    sync::{Message, PieceAnswer},
    version::{Dot, MAX_COUNTER, MAX_ENTRIES, ReplicaId, VersionVector},
};

use super::lone::{Lone, MEMBER, file, path, piece, record, signed};

/// The record with another version vector: these entries beside its own change.
fn claiming(record: &SignedRecord, entries: &[(ReplicaId, u64)]) -> SignedRecord {
    let mut changed = record.record.clone();
    for &(replica, counter) in entries {
        changed.version.add(Dot { replica, counter });
    }
    changed.seal()
}

/// Pushes a record with its contents, which are applied.
fn push(lone: &mut Lone, record: SignedRecord, contents: &'static [u8]) {
    let batches = vec![signed(MEMBER, vec![record])];
    let inline = vec![(0, Bytes::from_static(contents))];
    lone.tell(Message::Records { request: 0, mark: 1, batches, inline });
}

/// The user writes a file, and the engine notices.
fn edit(lone: &mut Lone, at: &str, contents: &[u8]) {
    lone.disk.write_file(at, contents).expect("write");
    lone.input(Input::Hints(vec![path(at)]));
    lone.pass(2_000);
}

fn has(lone: &Lone, contents: &[u8]) -> bool {
    lone.disk.all_contents().iter().any(|(_, bytes)| bytes[..] == *contents)
}

/// Everything that was sent is something that a peer takes.
fn sound(lone: &mut Lone) {
    for message in lone.take() {
        assert_eq!(Message::decode(message.encode()), Ok(message));
    }
}

#[test]
fn attack_30_a_huge_counter_covers_nothing_that_is_written_later() {
    let mut lone = Lone::with(|disk| disk.write_file("a", b"mine").expect("write"));
    let ours = lone.engine.replica();
    let claim = claiming(&file("a", b"theirs", MAX_COUNTER), &[(ours, MAX_COUNTER)]);
    push(&mut lone, claim, b"theirs");
    assert!(has(&lone, b"mine"), "{:?}", lone.disk.all_contents());
    // It has not seen what is written from now on, whatever it says.
    for contents in [&b"edited"[..], b"edited again"] {
        edit(&mut lone, "a", contents);
        assert_eq!(lone.text("a").as_deref(), Some(contents));
        sound(&mut lone);
    }
    assert_ne!(lone.engine.replica(), ours);
    assert!(lone.events.iter().any(|event| matches!(event, Event::NewReplica { .. })));
}

#[test]
fn attack_30_a_full_version_vector_stops_nobody() {
    let mut lone = Lone::with(|_| ());
    let most = u64::try_from(MAX_ENTRIES).expect("small");
    let entries: Vec<_> = (1_000..1_000 + most - 1).map(|id| (ReplicaId(id), 7)).collect();
    let full = claiming(&file("a", b"theirs", 1), &entries);
    assert_eq!(full.record.version.entries().len(), MAX_ENTRIES);
    push(&mut lone, full, b"theirs");
    // A second one, as full, and with other replicas.
    let others: Vec<_> = (9_000..9_000 + most - 1).map(|id| (ReplicaId(id), 7)).collect();
    push(&mut lone, claiming(&file("a", b"theirs", 2), &others), b"theirs");
    lone.pass(5_000);
    for contents in [&b"mine"[..], b"mine again"] {
        edit(&mut lone, "a", contents);
        assert!(has(&lone, contents), "{:?}", lone.disk.all_contents());
        sound(&mut lone);
    }
    assert_eq!(lone.ended, None);
}

/// Whatever a member says wins if it has seen what is here; that is in history then.
#[test]
fn attack_30_what_a_member_replaces_is_in_history() {
    let mut lone = Lone::with(|_| ());
    // Made while they are linked, so that the other one was told of it.
    edit(&mut lone, "a", b"mine");
    lone.pass(1_000);
    let row = folder::index::Index::row(lone.engine.index(), &path("a")).expect("read");
    let known = row.expect("known").known.remove(0);
    let seen = SignedRecord::parse(known.bytes).expect("ours").record.version;
    for (counter, mtime) in [(1, i64::MAX), (MAX_COUNTER, i64::MIN)] {
        let mut next = claiming(&file("a", b"theirs", counter), seen.entries()).record;
        next.mtime = mtime;
        push(&mut lone, next.seal(), b"theirs");
        assert_eq!(lone.text("a").as_deref(), Some(&b"theirs"[..]));
        assert!(has(&lone, b"mine"), "{:?}", lone.disk.all_contents());
    }
}

#[test]
fn attack_30_times_at_both_ends_of_time_decide_nothing() {
    for mtime in [i64::MAX, i64::MIN, -1] {
        let mut lone = Lone::with(|_| ());
        let mut late = file("a", b"theirs", 1).record;
        late.mtime = mtime;
        push(&mut lone, late.seal(), b"theirs");
        assert_eq!(lone.text("a").as_deref(), Some(&b"theirs"[..]));
        edit(&mut lone, "a", b"mine");
        lone.pass(100_000);
        assert_eq!(lone.text("a").as_deref(), Some(&b"mine"[..]));
        sound(&mut lone);
    }
}

/// Records of one path in ever new forms: what is kept of them is bounded.
#[test]
fn attack_27_siblings_without_end_are_bounded() {
    let mut lone = Lone::with(|_| ());
    for round in 0..40u64 {
        let records = (0..20u64)
            .map(|number| {
                let replica = ReplicaId(1_000 + round * 20 + number);
                let mut record = record("d", Body::Dir, 1).record;
                let dot = Dot { replica, counter: 1 };
                record.version = VersionVector::from_entries(vec![(replica, 1)]).expect("sound");
                (record.dot, record.content_dot) = (dot, dot);
                record.seal()
            })
            .collect();
        lone.push(records);
    }
    let row = folder::index::Index::row(lone.engine.index(), &path("d")).expect("read");
    let known = row.expect("known").known.len();
    assert!(known <= folder::siblings::MAX_SIBLINGS, "{known} records of one path");
    assert_eq!(lone.ended, None);
}

#[test]
fn attack_24_a_link_and_a_file_through_it() {
    for at_once in [true, false] {
        let mut lone = Lone::with(|disk| disk.write_file("d/kept", b"mine").expect("write"));
        let link = |at: &str, to: &str, counter| {
            record(at, Body::Symlink { target: to.to_owned() }, counter)
        };
        let links = vec![link("l", "/etc", 1), link("d/up", "../..", 2)];
        let through = vec![
            file("l/passwd", b"planted", 3),
            file("d/up/outside", b"planted", 4),
            record("l/ssh", Body::Dir, 5),
        ];
        let groups = if at_once { vec![[links, through].concat()] } else { vec![links, through] };
        for records in groups {
            lone.push(records);
            for (request, pieces) in lone.asked() {
                let answer = |item| PieceAnswer { item, data: piece(b"planted") };
                let answers = (0..).take(pieces.len()).map(answer).collect();
                lone.tell(Message::Data { request, answers });
            }
        }
        lone.pass(10_000);
        // What lies below a link makes it a directory; nothing was written through one.
        let tree = lone.disk.snapshot();
        assert_eq!(lone.text("d/kept").as_deref(), Some(&b"mine"[..]));
        for (at, node) in &tree {
            let below = tree.keys().any(|other| path(at).contains(&path(other)));
            assert!(!below || matches!(node, Node::Dir { .. }), "{at} is no directory: {tree:?}");
        }
        assert_eq!(lone.ended, None);
    }
}

/// One record that nobody may send spoils the message it comes in, and nothing that came before it.
#[test]
fn attack_22_names_that_lead_out_end_the_link_and_cost_nothing_else() {
    let good = file("good", b"good", 1);
    let bytes = good.bytes.to_vec();
    let name = b"good";
    let at = bytes.windows(name.len()).position(|part| part == name).expect("has its name");
    for bad in [&b"../x"[..], b"/x/y", b"a//b", b"a/./", b".kin", b"a\0bc", b"\xff\xfe\xfd\xfc"] {
        let mut bytes = bytes.clone();
        bytes.splice(at - 1..at + name.len(), [&[bad.len().to_le_bytes()[0]], bad].concat());
        assert!(SignedRecord::parse(bytes.into()).is_err(), "{bad:?}");
    }
    let odd = ["C:\\x", "CON", "dot.", "\u{202e}x", "\u{1b}[31m", "ü", "u\u{308}", "*", "-rf"];
    let mut lone = Lone::with(|_| ());
    let records = (1..).zip(odd).map(|(counter, name)| record(name, Body::Dir, counter)).collect();
    lone.push(records);
    assert_eq!(lone.ended, None);
    let names: Vec<_> = lone.disk.snapshot().into_keys().collect();
    assert_eq!(names.len(), odd.len(), "{names:?}");
    assert_eq!(RelPath::parse(&"n".repeat(256)), Err(PathError::TooLong));
}
