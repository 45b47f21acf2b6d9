//! A peer that breaks the protocol: messages fed straight into one engine. What it breaks is refused, and
//! nothing it made up reaches the tree.

mod known;
mod large;
mod lone;
mod poison;
mod slow;

use bytes::Bytes;
use folder::{
    engine::{Event, Input},
    index::{Index as _, Known, MemIndex, MemStore, Row},
};
use wire::{
    Hash,
    record::{BatchScope, Body, batch_digest, merkle_path, merkle_root},
    sync::{Batch, BucketAsked, Fingerprint, Message, Piece, PieceAnswer, Proof, Status},
};

use self::lone::{
    Lone, MEMBER, PEER, STRANGER, THEIR_REPLICA, file, path, piece, record, scope, signature,
    signed,
};
use crate::noise;

#[test]
fn e6_records_that_no_member_signed_end_the_link() {
    let records = || vec![file("a", b"x", 1), record("d", Body::Dir, 2)];
    let unsigned = Batch { signature: [0; 64], ..signed(MEMBER, records()) };
    let foreign = signed(STRANGER, records());
    let pretending = Batch { author: MEMBER, ..signed(STRANGER, records()) };
    let moved = Batch { records: vec![file("b", b"y", 3)], ..signed(MEMBER, records()) };
    let mut reordered = signed(MEMBER, records());
    reordered.records.reverse();
    let mut shortened = signed(MEMBER, records());
    shortened.records.pop();
    let leaves: Vec<_> = records().iter().map(|record| record.hash).collect();
    let wrong_way = Batch {
        records: vec![file("b", b"y", 3)],
        proof: Some(Proof { index: 0, count: 2, path: merkle_path(&leaves, 0) }),
        ..signed(MEMBER, records())
    };
    let other_folder = {
        let folder = BatchScope { folder: Hash([9; 32]), ..scope() };
        let digest = batch_digest(&folder, &MEMBER, 2, &merkle_root(&leaves));
        Batch { signature: signature(&MEMBER, &digest), ..signed(MEMBER, records()) }
    };
    let batches =
        [unsigned, foreign, pretending, moved, reordered, shortened, wrong_way, other_folder];
    for (number, batch) in batches.into_iter().enumerate() {
        let mut lone = Lone::with(|_| ());
        // One good batch does not help a bad one beside it.
        let batches = vec![signed(MEMBER, vec![record("good", Body::Dir, 9)]), batch];
        lone.tell(Message::Records { request: 0, mark: 1, batches, inline: Vec::new() });
        assert!(lone.ended.is_some(), "batch {number} was taken");
        lone.assert_untouched();
    }
}

#[test]
fn e6_a_single_record_with_its_proof_counts() {
    let records: Vec<_> =
        (1..=5).map(|number| record(&number.to_string(), Body::Dir, number)).collect();
    let leaves: Vec<_> = records.iter().map(|record| record.hash).collect();
    let whole = signed(MEMBER, records.clone());
    let proof = Some(Proof { index: 3, count: 5, path: merkle_path(&leaves, 3) });
    let single = Batch { records: vec![records[3].clone()], proof, ..whole };
    let mut lone = Lone::with(|_| ());
    lone.tell(Message::Records { request: 0, mark: 1, batches: vec![single], inline: Vec::new() });
    assert_eq!(lone.ended, None);
    assert_eq!(lone.disk.snapshot().into_keys().collect::<Vec<_>>(), ["4"]);
}

#[test]
fn nobody_speaks_before_hello_or_says_it_twice() {
    let mut lone = Lone::silent(|_| ());
    lone.push(vec![record("d", Body::Dir, 1)]);
    assert!(lone.ended.is_some());
    lone.assert_untouched();
    let mut lone = Lone::with(|_| ());
    lone.tell(Message::Hello { replica: THEIR_REPLICA });
    assert!(lone.ended.is_some());
}

#[test]
fn what_was_not_asked_for_is_refused() {
    let records = Message::Records {
        request: 9,
        mark: 1,
        batches: vec![signed(MEMBER, vec![record("d", Body::Dir, 1)])],
        inline: Vec::new(),
    };
    let nodes = Message::Nodes { request: 9, nodes: vec![Fingerprint::default(); 64] };
    for message in [records, nodes] {
        let mut lone = Lone::with(|_| ());
        lone.tell(message);
        assert!(lone.ended.is_some());
        lone.assert_untouched();
    }
    // Contents may come after they are wanted no more: these are dropped.
    let data =
        Message::Data { request: 9, answers: vec![PieceAnswer { item: 0, data: piece(b"x") }] };
    let list = Message::List { request: 9, ids: vec![Hash([1; 32])], pages: Vec::new() };
    for message in [data, list] {
        let mut lone = Lone::with(|_| ());
        lone.tell(message);
        lone.assert_untouched();
        assert!(lone.disk.all_contents().is_empty());
    }
}

#[test]
fn answers_that_do_not_fit_their_question_end_the_link() {
    let data = |request, items: &[u32]| {
        let answers = items.iter().map(|item| PieceAnswer { item: *item, data: piece(b"y") });
        Message::Data { request, answers: answers.collect() }
    };
    let answers: [&dyn Fn(u32) -> Message; 3] =
        [&|request| data(request, &[1]), &|request| data(request, &[0, 0]), &|request| {
            Message::List { request, ids: vec![Hash([1; 32])], pages: Vec::new() }
        }];
    for answer in answers {
        let mut lone = Lone::with(|_| ());
        lone.push(vec![file("a", b"x", 1)]);
        let asked = lone.asked();
        assert_eq!(asked.len(), 1);
        lone.tell(answer(asked[0].0));
        assert!(lone.ended.is_some());
        assert!(lone.disk.snapshot().is_empty());
    }
}

#[test]
fn e22_who_asks_for_too_much_at_once_is_cut_off() {
    let asking: [&dyn Fn(u32) -> Message; 3] = [
        &|request| {
            let piece = Piece { path: path("a"), content: Hash::of(b"x"), offset: 0, len: 1 };
            Message::Get { request, pieces: vec![piece; 1024] }
        },
        &|request| {
            let (path, content) = (path("a"), Hash::of(b"x"));
            Message::GetList { request, path, content, pages: Vec::new() }
        },
        &|request| {
            let buckets = vec![BucketAsked { bucket: 3, have: Vec::new() }];
            Message::GetBuckets { request, buckets }
        },
    ];
    for ask in asking {
        let mut lone = Lone::with(|disk| disk.write_file("a", b"x").expect("write"));
        // Nothing drains, so that nothing is answered.
        lone.engine.set_queued(PEER, 1 << 30);
        let mut number = 1;
        while lone.ended.is_none() {
            assert!(number < 2_000, "{number} requests were put up with");
            lone.input(Input::Message { peer: PEER, message: ask(number) });
            number += 1;
        }
        assert!(!lone.sent.iter().any(|message| matches!(message, Message::Data { .. })));
    }
}

#[test]
fn e22_who_does_not_read_is_answered_no_more_than_the_window() {
    let contents = noise(1, 1 << 20);
    let mut lone = Lone::with(|disk| {
        for number in 0..40 {
            let mut contents = contents.clone();
            contents[0] = number;
            contents.push(number);
            disk.write_file(&number.to_string(), &contents).expect("write");
        }
    });
    for number in 0..40u8 {
        let at = path(&number.to_string());
        let row = lone.engine.index().row(&at).expect("row").expect("known");
        let content = row.here.and_then(|here| here.content).expect("a file");
        let pieces = vec![Piece { path: at, content, offset: 0, len: 1 << 20 }];
        let request = u32::from(number) + 1;
        lone.input(Input::Message { peer: PEER, message: Message::Get { request, pieces } });
    }
    lone.pass(1_000);
    let sent: usize = lone.sent.iter().map(|message| message.encode().len()).sum();
    assert!(sent > 4 << 20, "{sent} bytes were sent");
    assert!(sent < 16 << 20, "{sent} bytes were sent to somebody who does not read");
    // Once it reads, the rest follows.
    for _ in 0..20 {
        lone.engine.set_queued(PEER, 0);
        lone.input(Input::Tick);
    }
    let answers =
        lone.sent.iter().filter(|message| matches!(message, Message::Data { .. })).count();
    assert_eq!(answers, 40);
    assert_eq!(lone.ended, None);
}

#[test]
fn attack_25_records_for_the_folders_own_state_do_not_decode() {
    let paths = [".kin", ".kin/index.db", ".KIN/history/x", ".kinignore", ".dsyncignore"];
    for at in paths {
        let batches = vec![signed(MEMBER, vec![record(at, Body::Dir, 1)])];
        let message = Message::Records { request: 0, mark: 1, batches, inline: Vec::new() };
        assert!(Message::decode(message.encode()).is_err(), "{at}");
        let piece = Piece { path: path(at), content: Hash::of(b"x"), offset: 0, len: 1 };
        let message = Message::Get { request: 1, pieces: vec![piece] };
        assert!(Message::decode(message.encode()).is_err(), "{at}");
    }
}

#[test]
fn attack_29_wrong_bytes_are_never_applied() {
    let mut lone = Lone::with(|_| ());
    lone.push(vec![file("a", b"right", 1)]);
    for wrong in [b"wrong".as_slice(), b"right and more", b""] {
        let asked = lone.asked();
        let [(request, pieces)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(pieces[0].content, Hash::of(b"right"));
        let answers = vec![PieceAnswer { item: 0, data: piece(wrong) }];
        lone.tell(Message::Data { request: *request, answers });
        assert!(lone.disk.snapshot().is_empty(), "{:?}", lone.disk.snapshot());
        let waits = |event: &Event| matches!(event, Event::Skipped { path, .. } if path == "a");
        assert!(lone.events.iter().any(waits));
        // It is asked again only once it has something new to tell.
        assert!(lone.asked().is_empty());
        let lacking = lone.now;
        lone.tell(Message::Status(Status { lacking, ..Status::default() }));
    }
    let (request, _) = lone.asked().pop().expect("asked again");
    let answers = vec![PieceAnswer { item: 0, data: piece(b"right") }];
    lone.tell(Message::Data { request, answers });
    assert_eq!(lone.text("a").as_deref(), Some(b"right".as_slice()));
}

#[test]
fn attack_29_wrong_bytes_that_ride_along_are_never_applied() {
    let mut lone = Lone::with(|_| ());
    let batches = vec![signed(MEMBER, vec![file("a", b"right", 1)])];
    let inline = vec![(0, Bytes::from_static(b"wrong"))];
    lone.tell(Message::Records { request: 0, mark: 1, batches, inline });
    assert!(lone.disk.snapshot().is_empty());
    let (request, _) = lone.asked().pop().expect("asked for");
    lone.tell(Message::Data {
        request,
        answers: vec![PieceAnswer { item: 0, data: piece(b"right") }],
    });
    assert_eq!(lone.text("a").as_deref(), Some(b"right".as_slice()));
}

#[test]
fn e1_nothing_is_pushed_before_a_peer_has_told_what_it_knows_of_us() {
    // Found by `--faults all --from 6191`: what a device says that was set back, before it learns of that,
    // bears counters that stand for something else.
    let mut lone = Lone::silent(|_| ());
    let before = lone.engine.replica();
    lone.tell(Message::Hello { replica: THEIR_REPLICA });
    lone.disk.write_file("a", b"an edit").expect("write");
    lone.input(Input::Hints(vec![path("a")]));
    lone.pass(1_000);
    let pushed = |lone: &mut Lone| {
        let sent = lone.take().into_iter();
        let batches = sent.filter_map(|message| match message {
            Message::Records { batches, .. } => Some(batches),
            _ => None,
        });
        let records: Vec<_> = batches.flatten().flat_map(|batch| batch.records).collect();
        records
    };
    assert_eq!(pushed(&mut lone), []);
    lone.tell(Message::Known { replica: before, counter: 7, hash: Hash::of(b"another life") });
    lone.pass(1_000);
    assert_ne!(lone.engine.replica(), before);
    let said = pushed(&mut lone);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].record.dot.replica, lone.engine.replica());
    assert_eq!(said[0].record.version.counter(before), 0);
}

#[test]
fn e16_a_directory_that_comes_before_the_first_look_keeps_nobody_busy() {
    // Found by `--faults all --from 8132`: no time passed any more.
    let mut lone = Lone::starting(|_| ());
    lone.input(Input::PeerUp { peer: PEER, name: "friend".to_owned(), device: None });
    let (replica, counter, hash) = (lone.engine.replica(), 0, Hash::default());
    lone.tell(Message::Hello { replica: THEIR_REPLICA });
    lone.tell(Message::Known { replica, counter, hash });
    lone.push(vec![record("d", Body::Dir, 1)]);
    assert!(!lone.disk.snapshot().contains_key("d"), "it may be here for all that is known");
    assert!(lone.engine.next_wake() > lone.now, "it has nothing to do but wait");
    lone.recover();
    lone.pass(1_000);
    assert!(lone.disk.snapshot().contains_key("d"));
    assert!(lone.engine.is_settled());
}

#[test]
fn e9_a_path_far_above_a_live_one_is_a_directory() {
    // Found by `--faults all --from 8657`: of what lies between, nothing is known.
    let mut lone = Lone::with(|_| ());
    lone.push(vec![file("d/e/f/a", b"a", 1)]);
    let (request, _) = lone.asked().pop().expect("it is asked for");
    // Directories wait for what is to lie in them, but not for long.
    lone.pass(3_000);
    assert!(lone.disk.snapshot().contains_key("d/e/f"));
    lone.disk.remove("d/e").expect("remove");
    lone.input(Input::Hints(vec![path("d/e")]));
    lone.pass(1_000);
    let deleted = |event: &&Event| {
        matches!(event, Event::Applied { kind: folder::engine::AppliedKind::Deleted, .. })
    };
    assert_eq!(lone.events.iter().find(deleted), None, "nobody has deleted anything");
    let answers = vec![PieceAnswer { item: 0, data: piece(b"a") }];
    lone.tell(Message::Data { request, answers });
    lone.pass(5_000);
    assert_eq!(lone.text("d/e/f/a").as_deref(), Some(b"a".as_slice()));
}

#[test]
fn e12_what_lies_below_directories_that_nobody_has_described_comes_after_a_stop() {
    // Found by `--faults all --from 43824`: a file was told of, the directories above it never were, and a stop came
    // before they were made.
    let store = MemStore::new();
    let mut index = MemIndex::open(&store);
    for (at, contents) in [("d/e/f/g", b"far below"), ("d-1/x/g", b"beside it")] {
        let known = file(at, contents, 1);
        let known = vec![Known { bytes: known.bytes, hash: known.hash }];
        index.put(&path(at), &Row { known, ..Row::default() }).expect("put");
    }
    index.commit().expect("commit");
    let mut lone = Lone::with_index(&store, |_| ());
    lone.link();
    lone.tell(Message::Hello { replica: THEIR_REPLICA });
    let mut asked: Vec<_> = lone.asked().into_iter().flat_map(|(_, pieces)| pieces).collect();
    asked.sort_by(|a, b| a.path.cmp(&b.path));
    let paths: Vec<_> = asked.iter().map(|piece| piece.path.as_str()).collect();
    assert_eq!(paths, ["d-1/x/g", "d/e/f/g"]);
}

#[test]
fn e23_a_peer_that_still_differs_is_compared_with_again_and_ever_less_often() {
    let mut lone = Lone::with(|_| ());
    let root = Fingerprint { sum: [9; 32], count: 1 };
    lone.tell(Message::Status(Status { root, settled: true, ..Status::default() }));
    let mut asked = 0;
    for _ in 0..360 {
        for message in lone.take() {
            let Message::GetNodes { request, .. } = message else { continue };
            asked += 1;
            // What it says it has is in none of its buckets, as if it had come and gone meanwhile.
            lone.tell(Message::Nodes { request, nodes: vec![Fingerprint::default(); 64] });
        }
        lone.pass(10_000);
    }
    assert_eq!(lone.ended, None);
    assert!((5..=15).contains(&asked), "{asked} times in an hour");
}

#[test]
fn e15_contents_that_no_peer_has_come_out_of_history() {
    let contents = b"deleted and wanted again";
    let mut lone = Lone::with(|_| ());
    let answer = |lone: &mut Lone, bytes: Option<&[u8]>| {
        for (request, pieces) in lone.asked() {
            let numbers = (0..).zip(pieces);
            let answers =
                numbers.map(|(item, _)| PieceAnswer { item, data: bytes.and_then(piece) });
            lone.tell(Message::Data { request, answers: answers.collect() });
        }
    };
    lone.push(vec![file("a", contents, 1)]);
    answer(&mut lone, Some(contents));
    assert_eq!(lone.text("a").as_deref(), Some(&contents[..]));
    lone.push(vec![record("a", Body::Tombstone { deleted: Hash::of(contents) }, 2)]);
    lone.pass(1_000);
    assert_eq!(lone.text("a"), None);
    lone.push(vec![file("b", contents, 3), file("c", b"had by nobody", 4)]);
    answer(&mut lone, None);
    lone.pass(1_000);
    assert_eq!(lone.text("b").as_deref(), Some(&contents[..]));
    let waits = |event: &Event| matches!(event, Event::Skipped { path, .. } if path == "c");
    assert!(lone.events.iter().any(waits), "{:?}", lone.events);
    assert_eq!(lone.ended, None);
}

/// Records that come in great number are known before they are decided (rule E16). Who only says that they come holds up
/// nobody for long, and not again.
#[test]
fn e22_who_claims_to_have_many_records_delays_others_once_and_for_a_moment() {
    let mut lone = Lone::with(|_| ());
    for round in 1..=2_u8 {
        let root = Fingerprint { sum: [round; 32], count: 5_000 };
        lone.tell(Message::Status(Status { root, settled: true, ..Status::default() }));
        let request = lone.take().into_iter().find_map(|message| match message {
            Message::GetNodes { request, .. } => Some(request),
            _ => None,
        });
        let mut nodes = vec![Fingerprint::default(); 64];
        nodes[0] = Fingerprint { sum: [round; 32], count: 5_000 };
        lone.tell(Message::Nodes { request: request.expect("it compares"), nodes: nodes.clone() });
        let request = lone.take().into_iter().find_map(|message| match message {
            Message::GetNodes { request, .. } => Some(request),
            _ => None,
        });
        lone.tell(Message::Nodes { request: request.expect("it goes deeper"), nodes });
        let buckets = lone.take().into_iter().find_map(|message| match message {
            Message::GetBuckets { request, .. } => Some(request),
            _ => None,
        });
        lone.push(vec![file(&format!("f{round}"), &[round], u64::from(round))]);
        let at_once = lone.asked().len();
        lone.pass(6_000);
        let in_the_end = at_once + lone.asked().len();
        assert_eq!((at_once, in_the_end), (usize::from(round == 2), 1), "round {round}");
        // Nothing comes.
        let request = buckets.expect("it asks for them");
        let (batches, inline) = (Vec::new(), Vec::new());
        lone.tell(Message::Records { request, mark: 1, batches, inline });
    }
}
