//! What flows between accepted peers: order, back-pressure, goodbyes.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use wire::{
    frame::{Channel, MAX_FRAME},
    session::Farewell,
};

use super::{Device, PeerLink};
use crate::{
    Admission,
    line::{inbox::BUDGET, outbox::LOW_WATER},
};

async fn pair() -> (Device, Device, PeerLink, PeerLink) {
    let mut a = Device::new("anna", Admission::Open, &[]).await;
    let mut b = Device::new("bert", Admission::Open, &[&a]).await;
    let (at_a, at_b) = (a.peer_up().await, b.peer_up().await);
    (a, b, at_a, at_b)
}

#[tokio::test]
async fn frames_flow_both_ways_in_order_from_the_first_moment() {
    let (_a, _b, mut at_a, mut at_b) = pair().await;
    for number in 0..2000_u32 {
        assert!(at_a.out.send(Channel::Folder(0), Bytes::copy_from_slice(&number.to_be_bytes())));
        assert!(at_b.out.send(Channel::Folder(0), Bytes::copy_from_slice(&number.to_le_bytes())));
    }
    assert!(at_a.out.send(Channel::Folder(0), Bytes::from(vec![7; MAX_FRAME])));
    for number in 0..2000_u32 {
        let at_b = at_b.input.recv().await.expect("the link lives");
        assert_eq!(at_b.payload, number.to_be_bytes()[..]);
        let at_a = at_a.input.recv().await.expect("the link lives");
        assert_eq!(at_a.payload, number.to_le_bytes()[..]);
    }
    assert_eq!(at_b.input.recv().await.expect("the link lives").payload.len(), MAX_FRAME);
}

#[tokio::test]
async fn e22_a_slow_receiver_stops_the_sender_and_a_drained_queue_is_told() {
    let (_a, _b, at_a, mut at_b) = pair().await;
    let lows = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&lows);
    at_a.out.on_low_water(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let frame = Bytes::from(vec![7; 1 << 20]);
    let frames = 96;
    for _ in 0..frames {
        at_a.out.send(Channel::Folder(0), frame.clone());
    }
    // The receiver takes nothing: its budget and the kernel's buffers fill, and the rest waits here.
    let mut held = vec![at_b.input.recv().await.expect("the first")];
    let budget = BUDGET / frame.len();
    while held.len() < budget {
        held.push(at_b.input.recv().await.expect("within the budget"));
    }
    let more = tokio::time::timeout(std::time::Duration::from_millis(300), at_b.input.recv()).await;
    assert!(more.is_err(), "beyond the budget nothing is read");
    assert!(at_a.out.queued_bytes() > LOW_WATER);
    assert_eq!(lows.load(Ordering::SeqCst), 0);
    let held_count = held.len();
    drop(held);
    for _ in held_count..frames {
        at_b.input.recv().await.expect("the rest");
    }
    assert_eq!(lows.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn stopping_sends_what_is_queued_and_says_goodbye() {
    let (a, mut b, at_a, mut at_b) = pair().await;
    for _ in 0..8 {
        at_a.out.send(Channel::Folder(0), Bytes::from(vec![7; 1 << 20]));
    }
    let stop = a.handle.stop();
    let receive = async {
        let mut received = 0;
        while let Some(incoming) = at_b.input.recv().await {
            received += incoming.payload.len();
        }
        received
    };
    let ((), received) = tokio::join!(stop, receive);
    assert_eq!(received, 8 << 20);
    assert_eq!(b.peer_down().await, (a.id(), "it stopped".to_owned()));
    assert!(!at_a.out.send(Channel::Folder(0), Bytes::new()), "nothing more is taken in");
}

#[tokio::test]
async fn a_peer_that_breaks_the_folder_protocol_can_be_sent_away() {
    let (mut a, mut b, at_a, _at_b) = pair().await;
    at_a.out.close(Farewell::Protocol);
    a.peer_down().await;
    let (_, reason) = b.peer_down().await;
    assert!(reason.contains("fault"), "{reason}");
}

#[tokio::test]
async fn whoever_takes_no_frames_any_more_has_no_link() {
    let (mut a, mut b, at_a, at_b) = pair().await;
    drop(at_b.input);
    at_a.out.send(Channel::Folder(0), Bytes::from_static(b"anybody?"));
    a.peer_down().await;
    b.peer_down().await;
}
