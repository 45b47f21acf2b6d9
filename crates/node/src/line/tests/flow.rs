//! What peers that keep to the protocol get: one order, over however many connections.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;
use wire::{
    frame::{Channel, MAX_FRAME},
    session::{Farewell, Message},
};

use super::{
    super::{
        inbox::ReadEnd,
        outbox::{LOW_WATER, MUCH},
        strand::{Failure, MAX_STRANDS},
    },
    Bare, Chance, Place, Side, Told,
};

/// Frames of all sizes, each with its place in the order.
fn frames(count: u64, seed: u64) -> Vec<Bytes> {
    let mut chance = Chance(seed);
    let size = |chance: &mut Chance| match chance.below(16) {
        0 => MAX_FRAME as u64,
        1..4 => 40_000 + chance.below(600_000),
        4..8 => 1000 + chance.below(40_000),
        _ => 8 + chance.below(200),
    };
    let frame = |number: u64| {
        let size = usize::try_from(size(&mut chance)).expect("small");
        let mut frame = vec![number.to_le_bytes()[0]; size];
        frame[..8].copy_from_slice(&number.to_be_bytes());
        frame.into()
    };
    (0..count).map(frame).collect()
}

/// Sends them all, and something else now and then.
fn send_all(side: &Side, frames: &[Bytes]) {
    for (number, frame) in frames.iter().enumerate() {
        side.send(frame.clone());
        if number % 64 == 0 {
            side.line.say(&Message::Confirm([u8::try_from(number / 64).expect("few"); 32]));
        }
    }
}

async fn receive_all(side: &mut Side, frames: &[Bytes]) {
    for frame in frames {
        assert!(side.frame().await == *frame, "{} bytes in their place", frame.len());
    }
    for number in 0..frames.len().div_ceil(64) {
        let byte = u8::try_from(number).expect("few");
        match side.told().await {
            Told::Said(said) => assert_eq!(said, Message::Confirm([byte; 32])),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_frames_keep_their_order_over_four_connections_both_ways_at_once() {
    let mut place = Place::new().await;
    let (mut left, mut right) = place.line_with(MAX_STRANDS).await;
    let (there, back) = (frames(1000, 1), frames(1000, 2));
    send_all(&left, &there);
    send_all(&right, &back);
    tokio::join!(receive_all(&mut right, &there), receive_all(&mut left, &back));
    assert_eq!((left.line.out.queued_bytes(), right.line.out.queued_bytes()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_strands_that_come_under_load_change_nothing() {
    let mut place = Place::new().await;
    let (mut left, mut right) = place.line().await;
    let (there, back) = (frames(1000, 3), frames(1000, 4));
    send_all(&left, &there);
    send_all(&right, &back);
    for _ in 0..MAX_STRANDS {
        // Both ends are in the middle of it.
        left.frame().await;
        right.frame().await;
        place.join(&left, &right).await.expect("a strand");
    }
    for (side, frames) in [(&mut left, &back), (&mut right, &there)] {
        for frame in &frames[MAX_STRANDS..] {
            assert!(side.frame().await == *frame, "{} bytes in their place", frame.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_much_is_spread_over_all_connections_and_little_stays_on_the_link() {
    let mut place = Place::new().await;
    let (side, mut bare) = place.line_to_bare(MAX_STRANDS).await;
    side.send(vec![1; usize::try_from(MUCH / 2).expect("small")]);
    let (channel, payload) = bare[0].hear().await.expect("a frame");
    assert_eq!((channel, payload.len() as u64), (Channel::Folder(0), MUCH / 2));
    let count = 64_u64;
    for number in 1..=count {
        side.send(vec![u8::try_from(number).expect("few"); 1 << 20]);
    }
    let (came, mut numbers) = mpsc::unbounded_channel();
    for (connection, bare) in bare.into_iter().enumerate() {
        let (next, came) = (u64::from(connection == 0), came.clone());
        tokio::spawn(numbers_of(bare, next, move |number| {
            came.send((number, connection)).expect("somebody counts");
        }));
    }
    drop(came);
    let mut all = BTreeMap::new();
    while (all.len() as u64) < count {
        let (number, connection) = numbers.recv().await.expect("more to come");
        assert_eq!(all.insert(number, connection), None, "{number} came twice");
    }
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>());
    for connection in 0..=MAX_STRANDS {
        assert!(all.values().any(|it| *it == connection), "{connection} has its share");
    }
    side.line.out.close(Farewell::Stopping);
    assert_eq!(numbers.recv().await, Some((count + 1, 0)), "the last message is on the link");
    assert_eq!(numbers.recv().await, None, "all connections are closed");
}

/// Reads one connection on which the frame with number `next` is due until it is closed, and tells the numbers. Each
/// frame says its own.
async fn numbers_of(mut bare: Bare, mut next: u64, tell: impl Fn(u64)) {
    while let Some((channel, payload)) = bare.hear().await {
        match channel {
            Channel::Session => match Message::decode(&payload).expect("a message") {
                Message::Alive => continue,
                Message::Order(number) => {
                    assert!(number > next, "{number} after {next}");
                    next = number;
                    continue;
                }
                last => assert_eq!(last, Message::Goodbye { reason: Farewell::Stopping }),
            },
            Channel::Folder(_) => assert_eq!(u64::from(payload[0]), next, "in its place"),
        }
        tell(next);
        next += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_closing_brings_everything_and_the_last_message_last() {
    let mut place = Place::new().await;
    let (left, mut right) = place.line_with(MAX_STRANDS).await;
    let sent = frames(60, 5);
    for frame in &sent {
        left.send(frame.clone());
    }
    left.line.out.close(Farewell::Stopping);
    for frame in &sent {
        assert!(right.frame().await == *frame);
    }
    match right.told().await {
        Told::Said(said) => assert_eq!(said, Message::Goodbye { reason: Farewell::Stopping }),
        other => panic!("{other:?}"),
    }
    assert!(matches!(right.read_ended().await, ReadEnd::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_the_queue_of_a_line_with_strands_runs_low_and_can_be_forgotten() {
    let mut place = Place::new().await;
    let (left, mut right) = place.line_with(MAX_STRANDS).await;
    let (low, mut lows) = mpsc::unbounded_channel();
    left.line.out.on_low_water(move || {
        let _ = low.send(());
    });
    for _ in 0..96 {
        left.send(vec![7; 1 << 20]);
    }
    // Nothing more can be on its way than buffers hold; of folder 0 nothing is wanted any more.
    assert!(left.line.out.queued_bytes() > LOW_WATER);
    left.line.out.forget(0);
    let frame = right.frame().await;
    assert_eq!(frame.len(), 1 << 20);
    left.send(Bytes::from_static(b"last"));
    while right.frame().await != b"last"[..] {}
    assert_eq!(lows.recv().await, Some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_a_fourth_strand_is_refused() {
    let mut place = Place::new().await;
    let (mut left, mut right) = place.line_with(MAX_STRANDS).await;
    assert!(!right.line.takes_strands());
    let (offered, came) = place.strand().await;
    right.line.take_strand(came);
    assert!(matches!(Bare::new(offered).next().await, Err(_) | Ok(None)), "closed unread");
    let refused = place.join(&left, &right).await;
    assert!(matches!(refused, Err(Failure::Link(_) | Failure::Closed)), "{refused:?}");
    send_all(&left, &frames(100, 6));
    receive_all(&mut right, &frames(100, 6)).await;
    send_all(&right, &frames(100, 7));
    receive_all(&mut left, &frames(100, 7)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_who_dialled_opens_strands_on_a_long_way_only() {
    let mut place = Place::new().await;
    let (left, right) = place.line().await;
    assert!(!left.line.takes_strands() && right.line.takes_strands());
    // It did not dial.
    right.line.open_strands_beyond(Duration::ZERO, &place.dialling);
    // The way is short.
    left.line.open_strands_beyond(Duration::MAX, &place.dialling);
    left.line.open_strands_beyond(Duration::ZERO, &place.dialling);
    for _ in 0..MAX_STRANDS {
        let came = place.accept().await;
        assert!(came.is_strand());
        right.line.take_strand(came);
    }
    assert!(!right.line.takes_strands(), "each has its place");
}
