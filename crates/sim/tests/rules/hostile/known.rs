//! What a member says to know, and who says it (rule E4): nothing is deleted for it that its owner still has to send.

use bytes::Bytes;
use folder::{
    PeerId,
    engine::{Event, Input},
    index::{Index as _, MemStore},
};
use identity::DeviceId;
use wire::{
    Hash,
    heard::{Heard, Statement, digest},
    record::{BatchScope, SignedRecord},
    sync::{Message, Status},
    version::{Dot, MAX_COUNTER, ReplicaId, VersionVector},
};

use super::lone::{
    Lone, MEMBER, Members, OTHER, READER, THEIR_REPLICA, US, file, path, scope, signature, signed,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const OTHERS_REPLICA: ReplicaId = ReplicaId(66);
const READERS_REPLICA: ReplicaId = ReplicaId(88);

fn vector(entries: &[(ReplicaId, u64)]) -> VersionVector {
    let mut vector = VersionVector::new();
    for (replica, counter) in entries {
        vector.add(Dot { replica: *replica, counter: *counter });
    }
    vector
}

/// That a device knows this much, and has for long.
fn said_in(
    scope: &BatchScope,
    author: DeviceId,
    replica: ReplicaId,
    number: u64,
    known: &[(ReplicaId, u64)],
) -> Heard {
    let (known, aged) = (vector(known), vector(known));
    let statement =
        Statement { replica: replica.0, number, known, aged, horizon: VersionVector::new() };
    let bytes = statement.encode();
    let signature = signature(&author, &digest(scope, &author, &bytes));
    Heard { author, signature, statement, bytes }
}

fn said(author: DeviceId, replica: ReplicaId, number: u64, known: &[(ReplicaId, u64)]) -> Message {
    Message::Heard(vec![said_in(&scope(), author, replica, number, known)])
}

fn in_group() -> Lone {
    Lone::among(Members::Group(US), &MemStore::new(), |_| ())
}

/// The peer has told what it knows of this device: nothing.
fn knows_nothing_of_us(lone: &mut Lone) {
    let replica = lone.engine.replica();
    lone.tell(Message::Known { replica, counter: 0, hash: Hash::default() });
}

/// Records of a member come, with their contents.
fn push(lone: &mut Lone, author: DeviceId, records: Vec<(SignedRecord, &'static [u8])>) {
    let inline = (0..).zip(&records).map(|(number, it)| (number, Bytes::from_static(it.1)));
    let inline = inline.collect();
    let batches = vec![signed(author, records.into_iter().map(|it| it.0).collect())];
    lone.tell(Message::Records { request: 0, mark: 1, batches, inline });
}

/// Days pass, in which the peer has what this device has.
fn agree(lone: &mut Lone, days: u64) {
    for _ in 0..=days / 40 {
        let root = lone.engine.index().fingerprint(0, 0);
        lone.tell(Message::Status(Status { root, settled: true, ..Status::default() }));
        lone.now += 40 * DAY_MS;
        lone.input(Input::Tick);
        lone.pass(1_000);
    }
    assert_eq!(lone.ended, None);
}

/// What the device said last that it knows.
fn says_to_know(lone: &Lone) -> Statement {
    let heard = lone.sent.iter().filter_map(|message| match message {
        Message::Heard(heard) => Some(heard),
        _ => None,
    });
    let own = heard.flatten().filter(|heard| heard.author == US);
    own.last().expect("it says something").statement.clone()
}

/// What [`MEMBER`] wrote in another one's name, and a record of it; the other is met later, and has one more.
fn late(lone: &mut Lone) {
    lone.link_with(MEMBER, THEIR_REPLICA);
    knows_nothing_of_us(lone);
    lone.tell(said(MEMBER, THEIR_REPLICA, 2, &[(THEIR_REPLICA, 5)]));
    push(lone, MEMBER, vec![(file("late", b"late", 3), b"late")]);
    lone.pass(1_000);
    assert_eq!(lone.text("late").as_deref(), Some(b"late".as_slice()));
    let row = lone.engine.index().row(&path("late")).expect("row").expect("known");
    let known = SignedRecord::parse(row.known[0].bytes.clone()).expect("a record");
    assert!(known.record.body.is_live(), "{known:?}");
}

/// A reader holds back what a writer wrote, and says hello as if it were that one: for years it has all that this
/// device has. Then the writer comes with what was held back.
#[test]
fn attack_30_who_says_hello_as_another_has_nothing_of_that_one_deleted() {
    for replica in [THEIR_REPLICA, READERS_REPLICA] {
        let mut lone = in_group();
        lone.link_with(READER, replica);
        knows_nothing_of_us(&mut lone);
        lone.tell(said(MEMBER, THEIR_REPLICA, 1, &[(THEIR_REPLICA, 5)]));
        lone.tell(said(READER, READERS_REPLICA, 1, &[(THEIR_REPLICA, 5)]));
        push(&mut lone, MEMBER, vec![(file("a", b"a", 5), b"a")]);
        agree(&mut lone, 480);
        late(&mut lone);
    }
}

/// The same of a device that is none but says so in a session, where nobody has a key that lasts.
#[test]
fn e4_in_a_session_nothing_is_taken_for_known() {
    let mut lone = Lone::with(|_| ());
    push(&mut lone, MEMBER, vec![(file("a", b"a", 5), b"a")]);
    lone.sent.clear();
    agree(&mut lone, 480);
    assert!(!lone.sent.iter().any(|message| matches!(message, Message::Heard(_))));
}

/// The writer itself, over its own link, is believed: else nothing would ever be forgotten.
#[test]
fn e4_what_a_writer_says_over_its_own_link_is_known() {
    let mut lone = in_group();
    lone.link_with(MEMBER, THEIR_REPLICA);
    knows_nothing_of_us(&mut lone);
    lone.tell(said(MEMBER, THEIR_REPLICA, 1, &[(THEIR_REPLICA, 5)]));
    push(&mut lone, MEMBER, vec![(file("a", b"a", 5), b"a")]);
    agree(&mut lone, 40);
    assert_eq!(says_to_know(&lone).known, vector(&[(THEIR_REPLICA, 5)]));
}

/// A reader has kept what a writer said before its index was set back, or lost, and passes it on: over its own link the
/// writer says less.
#[test]
fn attack_33_what_a_peer_said_in_another_life_is_not_its_word() {
    let mut lone = in_group();
    lone.link_with(READER, READERS_REPLICA);
    knows_nothing_of_us(&mut lone);
    lone.tell(said(OTHER, OTHERS_REPLICA, 1, &[(OTHERS_REPLICA, 9)]));
    let both = [(OTHERS_REPLICA, 9), (THEIR_REPLICA, 5)];
    lone.tell(said(MEMBER, THEIR_REPLICA, 500, &both));
    let mut seen = file("a", b"a", 5).record;
    seen.version = vector(&both);
    let seen = seen.seal();
    push(&mut lone, MEMBER, vec![(seen.clone(), b"a")]);
    lone.link_with(MEMBER, THEIR_REPLICA);
    knows_nothing_of_us(&mut lone);
    lone.tell(said(MEMBER, THEIR_REPLICA, 1, &[(THEIR_REPLICA, 5)]));
    agree(&mut lone, 40);
    assert_eq!(says_to_know(&lone).known, vector(&[(THEIR_REPLICA, 5)]));
}

#[test]
fn attack_13_a_statement_for_another_folder_or_by_another_device_ends_the_link() {
    let folder = BatchScope { folder: Hash([9; 32]), ..scope() };
    let elsewhere = said_in(&folder, READER, READERS_REPLICA, 1, &[]);
    let forged = Heard {
        author: MEMBER,
        ..said_in(&scope(), READER, READERS_REPLICA, 1, &[(THEIR_REPLICA, 5)])
    };
    for heard in [elsewhere, forged] {
        let mut lone = in_group();
        lone.link_with(READER, READERS_REPLICA);
        lone.tell(Message::Heard(vec![heard]));
        assert!(lone.ended.is_some());
    }
}

fn lives_ended(lone: &Lone) -> usize {
    lone.events.iter().filter(|event| matches!(event, Event::NewReplica { .. })).count()
}

/// Of two live devices that claim one id only one can be honest where keys last: it keeps it.
#[test]
fn attack_30_who_says_hello_as_this_device_ends_its_link_and_nothing_else() {
    let mut lone = in_group();
    let ours = lone.engine.replica();
    lone.link_with(READER, ours);
    assert!(lone.ended.is_some());
    assert_eq!((lone.engine.replica(), lives_ended(&lone)), (ours, 0));
}

/// Who knows more of this device than it does is believed (rule E1), and who lies about it only so often.
#[test]
fn attack_30_a_members_word_alone_costs_few_replica_ids() {
    let mut lone = in_group();
    let mut ended = 0;
    for turn in 0..100 {
        lone.link_with(READER, READERS_REPLICA);
        let (replica, hash) = (lone.engine.replica(), Hash([turn; 32]));
        lone.tell(Message::Known { replica, counter: MAX_COUNTER, hash });
        ended += usize::from(lone.ended.is_some());
    }
    assert_eq!(lives_ended(&lone), 8);
    assert_eq!(ended, 92);
    // Others are heard still.
    lone.link_with(MEMBER, THEIR_REPLICA);
    let (replica, hash) = (lone.engine.replica(), Hash([1; 32]));
    lone.tell(Message::Known { replica, counter: MAX_COUNTER, hash });
    assert_eq!((lives_ended(&lone), lone.ended), (9, None));
}

/// `kin undo --from` asks for it.
#[test]
fn attack_30_nobodys_changes_are_taken_for_those_of_who_says_hello_as_it() {
    let mut lone = in_group();
    lone.link_with(MEMBER, THEIR_REPLICA);
    lone.tell(said(MEMBER, THEIR_REPLICA, 1, &[]));
    assert_eq!(lone.engine.peer_replica(lone.peer), Some(THEIR_REPLICA));
    lone.link_with(READER, THEIR_REPLICA);
    assert_eq!(lone.engine.peer_replica(lone.peer), None);
    lone.link_with(READER, READERS_REPLICA);
    assert_eq!(lone.engine.peer_replica(lone.peer), Some(READERS_REPLICA));
}

/// After `kin devices rotate`: what is said from now on is said by another device, as others see it.
#[test]
fn e1_an_index_that_another_key_opens_takes_another_replica_and_keeps_what_it_knows() {
    let index = MemStore::new();
    let write = |lone: &mut Lone, name: &str| {
        lone.recover();
        lone.disk.write_file(name, name.as_bytes()).expect("write");
        lone.input(Input::Hints(vec![path(name)]));
        lone.pass(1_000);
    };
    let mut lone = Lone::among(Members::Group(US), &index, |_| ());
    write(&mut lone, "a");
    let before = lone.engine.replica();
    for (key, other) in [(US, false), (OTHER, true), (OTHER, false)] {
        let before = lone.engine.replica();
        drop(lone);
        lone = Lone::among(Members::Group(key), &index, |disk| {
            disk.write_file("a", b"a").expect("write");
        });
        assert_eq!(lone.engine.replica() != before, other);
        assert_eq!(lives_ended(&lone), 0, "there is nothing to tell a person");
    }
    let row = lone.engine.index().row(&path("a")).expect("row").expect("known");
    let known = SignedRecord::parse(row.known[0].bytes.clone()).expect("a record");
    assert_eq!(known.record.dot.replica, before, "what was said stands");
    write(&mut lone, "b");
    let row = lone.engine.index().row(&path("b")).expect("row").expect("known");
    let known = SignedRecord::parse(row.known[0].bytes.clone()).expect("a record");
    assert_eq!(known.record.dot.replica, lone.engine.replica());
}

/// Invented replicas in a vector keep nobody's later lives from being noticed (rule E1).
#[test]
fn attack_27_replicas_that_a_vector_invents_take_no_place_from_real_ones() {
    let mut lone = in_group();
    lone.link_with(MEMBER, THEIR_REPLICA);
    knows_nothing_of_us(&mut lone);
    for turn in 0..2 {
        let mut record = file(&turn.to_string(), b"a", 1 + turn).record;
        for invented in 1_000..2_000 {
            record.version.add(Dot { replica: ReplicaId(turn * 1_000 + invented), counter: 1 });
        }
        push(&mut lone, MEMBER, vec![(record.seal(), b"a")]);
    }
    let mut others = file("b", b"b", 7).record;
    others.dot = Dot { replica: OTHERS_REPLICA, counter: 7 };
    (others.content_dot, others.version) = (others.dot, vector(&[(OTHERS_REPLICA, 7)]));
    let others = others.seal();
    let hash = others.hash;
    push(&mut lone, MEMBER, vec![(others, b"b")]);
    assert_eq!(lone.ended, None);
    lone.link_with(OTHER, OTHERS_REPLICA);
    let known = lone.sent.iter().find(|message| matches!(message, Message::Known { .. }));
    assert_eq!(
        known,
        Some(&Message::Known { replica: OTHERS_REPLICA, counter: 7, hash }),
        "it is told what it said before"
    );
}

/// Of what others say only the last word matters: it is passed on as links take it, and not each time that it is news.
#[test]
fn attack_38_who_says_something_new_all_the_time_is_passed_on_now_and_then() {
    let mut lone = in_group();
    lone.link_with(MEMBER, THEIR_REPLICA);
    let (peer, other, name) = (lone.peer, PeerId(1_000), "other".to_owned());
    lone.input(Input::PeerUp { peer: other, name, device: Some(OTHER) });
    let hello = Message::Hello { replica: OTHERS_REPLICA };
    lone.input(Input::Message { peer: other, message: hello });
    lone.take();
    let say = |lone: &mut Lone, numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            let message = said(MEMBER, THEIR_REPLICA, number, &[(THEIR_REPLICA, number)]);
            lone.input(Input::Message { peer, message });
        }
    };
    // The member itself is not told what it has said.
    let passed_on = |lone: &mut Lone| {
        let heard = lone.take().into_iter().filter_map(|message| match message {
            Message::Heard(heard) => Some(heard),
            _ => None,
        });
        let of_member = heard.flatten().filter(|heard| heard.author == MEMBER);
        of_member.map(|heard| heard.statement.number).collect::<Vec<_>>()
    };
    say(&mut lone, 1..=100);
    assert_eq!(passed_on(&mut lone), (1..=32).collect::<Vec<_>>());
    lone.pass(1_000);
    assert_eq!(passed_on(&mut lone), [100]);
    // Nothing is added to a link that is full, however long.
    lone.engine.set_queued(other, 1 << 30);
    say(&mut lone, 101..=200);
    lone.pass(60_000);
    assert_eq!(passed_on(&mut lone), []);
    lone.engine.set_queued(other, 0);
    lone.pass(2_000);
    assert_eq!(passed_on(&mut lone), [200]);
}
