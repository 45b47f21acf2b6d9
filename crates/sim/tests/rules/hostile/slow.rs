//! What a user does after a change was applied, and before the engine hears of it.

use bytes::Bytes;
use folder::{engine::Input, index::Index as _};
use wire::{Hash, record::SignedRecord, sync::Message};

use super::lone::{Lone, MEMBER, file, path, signed};

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
