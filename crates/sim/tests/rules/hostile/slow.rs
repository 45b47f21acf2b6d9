//! What a user does after a change was applied, and before the engine hears of it.

use bytes::Bytes;
use folder::{engine::Input, index::Index as _};
use sim::disk::Node;
use wire::{
    Hash,
    record::{Body, Record, SignedRecord},
    sync::Message,
    version::{Dot, VersionVector},
};

use super::lone::{Lone, MEMBER, THEIR_REPLICA, file, path, record, signed};

/// A conflict copy that the user edits at once stays as it was edited, and that is what others are told.
#[test]
fn e2_a_conflict_copy_that_is_edited_before_it_is_known_stays_edited() {
    // Which one of two edits loses, their hashes say.
    for theirs in [&b"theirs 1"[..], b"theirs 2", b"theirs 3", b"theirs 4", b"theirs 5"] {
        let mut lone = Lone::with(|disk| disk.write_file("a", b"mine").expect("write"));
        lone.is_slow = true;
        let batches = vec![signed(MEMBER, vec![file("a", theirs, 1)])];
        let inline = vec![(0, Bytes::from_static(theirs))];
        lone.tell(Message::Records { request: 0, mark: 1, batches, inline });
        let all = lone.disk.all_contents().into_iter().map(|(at, _)| at);
        let Some(copy) = all.into_iter().find(|at| at.contains(".conflict-")) else {
            continue;
        };
        lone.disk.write_file(&copy, b"mine, edited").expect("write");
        lone.input(Input::Hints(vec![path(&copy)]));
        lone.pass(2_000);
        lone.catch_up();
        lone.pass(2_000);
        assert_eq!(lone.text(&copy).as_deref(), Some(&b"mine, edited"[..]));
        let row = lone.engine.index().row(&path(&copy)).expect("read").expect("known");
        let said: Vec<_> = row.known.into_iter().map(|known| known.bytes).collect();
        assert_eq!(said.len(), 1, "one edit after the other");
        let said = SignedRecord::parse(said[0].clone()).expect("ours").record;
        assert_eq!(said.body.content(), Hash::of(b"mine, edited"));
        let here = row.here.expect("here");
        assert_eq!(here.content, Some(Hash::of(b"mine, edited")));
        assert_eq!(here.base, said.version);
        return;
    }
    panic!("no edit lost");
}

/// A directory that was to be removed and could not be, because of a file that was noticed meanwhile, is there for
/// the sake of that file: as open as it is elsewhere.
#[test]
fn e9_what_is_learned_while_a_directory_cannot_be_removed_counts() {
    let mut lone = Lone::with(|_| ());
    let dir = record("d", Body::Dir, 1);
    lone.push(vec![Record { mode: 0o700, ..dir.record }.seal()]);
    lone.pass(2_000);
    lone.disk.write_file("d/unseen", b"unseen").expect("write");
    lone.is_slow = true;
    let gone = record("d", Body::Tombstone { deleted: Hash::default() }, 2);
    let mut version = VersionVector::new();
    version.add(Dot { replica: THEIR_REPLICA, counter: 2 });
    lone.push(vec![Record { mode: 0o755, version, ..gone.record }.seal()]);
    lone.input(Input::Hints(vec![path("d/unseen")]));
    lone.pass(2_000);
    lone.catch_up();
    lone.pass(2_000);
    assert!(lone.text("d/unseen").is_some());
    assert_eq!(lone.disk.snapshot().get("d"), Some(&Node::Dir { mode: 0o755 }));
}
