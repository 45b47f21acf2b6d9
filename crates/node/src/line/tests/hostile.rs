//! Peers that do not keep to the protocol, and connections that break.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use link::LinkError;
use wire::{
    frame::Channel,
    session::{Message, StrandTag},
};

use super::{
    super::{
        ALIVE_AFTER,
        inbox::{LEAST, Pulse, ReadEnd},
        merge::{AHEAD, Merge},
        source::Frame,
        strand::Failure,
    },
    Bare, Place, Side, endpoint,
};

fn text(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

async fn send(bare: &mut Bare, number: u64) {
    bare.frame(Channel::Folder(0), &text(number)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_what_one_connection_is_ahead_is_bounded_and_comes_when_its_turn_has_come() {
    let mut place = Place::new().await;
    let (mut side, mut bare) = place.line_to_bare(1).await;
    let mut strand = bare.pop().expect("a strand");
    let mut link = bare.pop().expect("the link");
    // Far more than the kernel's buffers and this side's hold.
    let (frames, size) = (64_u64, 1 << 20);
    let sent = tokio::spawn(async move {
        strand.say(&Message::Order(1)).await;
        for number in 1..=frames {
            strand.frame(Channel::Folder(0), &vec![u8::try_from(number).unwrap(); size]).await;
        }
        strand
    });
    // The link lives, and its frame 0 lacks.
    tokio::time::timeout(ALIVE_AFTER, async {
        assert!(side.input.recv().await.is_none(), "nothing is given out");
    })
    .await
    .expect_err("nothing ends either");
    assert!(!sent.is_finished(), "no more is read than {AHEAD} bytes and a frame");
    send(&mut link, 0).await;
    assert_eq!(side.frame().await, text(0));
    for number in 1..=frames {
        let frame = side.frame().await;
        assert_eq!((u64::from(frame[0]), frame.len()), (number, size));
    }
    sent.await.expect("all was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_small_frames_ahead_are_counted_too() {
    let mut place = Place::new().await;
    let ((link, one), (strand, other)) = (place.link().await, place.strand().await);
    let (mut link, mut strand) = (Bare::new(link), Bare::new(strand));
    let mut merge = Merge::new(0, Pulse::new());
    merge.add(one.split().0, 0);
    merge.add(other.split().0, 0);
    let count = 3 * AHEAD / LEAST;
    strand.say(&Message::Order(1)).await;
    for _ in 0..count {
        strand.writer.send(Channel::Folder(0), b"").await.expect("the kernel has room");
    }
    strand.writer.flush().await.expect("the kernel has room");
    tokio::time::timeout(ALIVE_AFTER, merge.next()).await.expect_err("frame 0 lacks");
    assert_eq!(merge.held(), AHEAD / LEAST);
    send(&mut link, 0).await;
    for _ in 0..=count {
        assert!(matches!(merge.next().await, Ok(Frame::Folder(0, _))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_a_strand_that_breaks_ends_the_line() {
    let mut place = Place::new().await;
    let (mut side, mut bare) = place.line_to_bare(3).await;
    send(&mut bare[0], 0).await;
    side.frame().await;
    drop(bare.remove(2));
    assert!(matches!(side.read_ended().await, ReadEnd::Link(LinkError::Cut)));
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_a_strand_that_ends_well_is_gone_and_the_line_goes_on() {
    let mut place = Place::new().await;
    let (mut side, mut bare) = place.line_to_bare(2).await;
    let gone = bare.pop().expect("a strand");
    let [link, strand] = bare.as_mut_slice() else { panic!("two connections") };
    strand.say(&Message::Order(1)).await;
    send(strand, 1).await;
    gone.writer.close().await;
    send(link, 0).await;
    link.say(&Message::Order(2)).await;
    send(link, 2).await;
    for number in 0..3 {
        assert_eq!(side.frame().await, text(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_a_link_that_is_closed_while_frames_lack_was_cut() {
    let mut place = Place::new().await;
    let (mut side, mut bare) = place.line_to_bare(1).await;
    let mut strand = bare.pop().expect("a strand");
    let mut link = bare.pop().expect("the link");
    strand.say(&Message::Order(1)).await;
    send(&mut strand, 1).await;
    send(&mut strand, 2).await;
    send(&mut link, 0).await;
    // Frames 3 and 4 never come.
    link.say(&Message::Order(5)).await;
    send(&mut link, 5).await;
    link.writer.close().await;
    for number in 0..3 {
        assert_eq!(side.frame().await, text(number));
    }
    // The strand stays open; it is not waited for for ever.
    assert!(matches!(side.read_ended().await, ReadEnd::Link(LinkError::Cut)));
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_a_line_on_whose_connections_nothing_comes_is_given_up() {
    let mut place = Place::new().await;
    let (mut side, _bare) = place.line_to_bare(3).await;
    assert!(matches!(side.read_ended().await, ReadEnd::Silent));
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_a_strand_of_another_link_or_with_the_answers_tag_is_refused() {
    let mut place = Place::new().await;
    let (_other, other) = place.link().await;
    let (mut side, mut bare) = place.line_to_bare(0).await;
    let refused = place.bare_strand(&side, &other.exporter()).await.err();
    assert!(matches!(refused, Some(Failure::OtherLink)), "{refused:?}");
    let (offered, came) = place.strand().await;
    let (link, strand) = (side.line.exporter, offered.exporter());
    let mut offered = Bare::new(offered);
    offered.say(&Message::Strand(StrandTag::answer(&link, &strand))).await;
    side.line.take_strand(came);
    assert!(matches!(offered.next().await, Err(_) | Ok(None)), "without an answer");
    // A tag is of one connection: what was heard on another one is nothing.
    let (offered, came) = place.strand().await;
    let mut offered = Bare::new(offered);
    offered.say(&Message::Strand(StrandTag::offer(&link, &strand))).await;
    side.line.take_strand(came);
    assert!(matches!(offered.next().await, Err(_) | Ok(None)), "without an answer");
    send(&mut bare[0], 0).await;
    assert_eq!(side.frame().await, text(0));
    assert!(side.line.takes_strands(), "the places are free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_a_strand_of_another_device_is_refused_at_both_ends() {
    let mut place = Place::new().await;
    let (left, mut side) = place.line().await;
    let mut stranger = Bare::new(endpoint(3).dial_strand(place.addr()).await.expect("TLS"));
    side.line.take_strand(place.accept().await);
    assert!(matches!(stranger.next().await, Err(_) | Ok(None)), "closed unread");
    // Somebody else has taken the address.
    let mut elsewhere = Place::new().await;
    let listener = link::Listener::bind(endpoint(4), 0).await.expect("a free port");
    elsewhere.listener = listener;
    let refused = left.line.joint().offer(&place.dialling, elsewhere.addr(), Duration::ZERO).await;
    assert!(matches!(refused, Err(Failure::OtherDevice)), "{refused:?}");
    left.send(Bytes::from_static(b"goes on"));
    assert_eq!(side.frame().await, b"goes on"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_an_answer_for_another_link_makes_no_strand() {
    let mut place = Place::new().await;
    let (dialled, answered) = place.link().await;
    let exporter = dialled.exporter();
    let (mut left, mut right) = (Side::new(dialled), Bare::new(answered));
    let (addr, dialling) = (place.addr(), Arc::clone(&place.dialling));
    let joint = left.line.joint();
    let wrong = async {
        let came = place.accept().await;
        let strand = came.exporter();
        let mut came = Bare::new(came);
        let offer = Message::Strand(StrandTag::offer(&exporter, &strand));
        assert_eq!(came.hear().await, Some((Channel::Session, offer.encode())));
        // It gives back what it was given.
        came.say(&Message::Strand(StrandTag::offer(&exporter, &strand))).await;
        came
    };
    let (refused, _came) = tokio::join!(joint.offer(&dialling, addr, Duration::ZERO), wrong);
    assert!(matches!(refused, Err(Failure::OtherLink)), "{refused:?}");
    left.send(Bytes::from_static(b"goes on"));
    assert_eq!(right.hear().await, Some((Channel::Folder(0), Bytes::from_static(b"goes on"))));
    send(&mut right, 0).await;
    assert_eq!(left.frame().await, text(0));
}

/// A step of whoever breaks the protocol: on which connection, and what.
type Step = (usize, Option<u64>);

#[tokio::test(flavor = "multi_thread")]
async fn e24_numbers_that_are_no_order_break_the_protocol() {
    // A number, or else a frame.
    let cases: [&[Step]; 7] = [
        // Descending on one connection.
        &[(1, Some(5)), (1, None), (1, Some(3))],
        // The number that is due is not told.
        &[(1, Some(5)), (1, None), (1, Some(6))],
        // A number for no frame.
        &[(1, Some(5)), (1, Some(7))],
        // What has been dealt with, on another connection.
        &[(0, None), (0, None), (1, Some(1)), (1, None)],
        // No number where none is due.
        &[(0, None), (1, None)],
        // The same number on two connections.
        &[(1, Some(2)), (1, None), (2, Some(2)), (2, None), (0, None), (0, None)],
        // No number comes after the last.
        &[(1, Some(u64::MAX)), (1, None)],
    ];
    for case in cases {
        let mut place = Place::new().await;
        let (mut side, mut bare) = place.line_to_bare(2).await;
        for (on, number) in case {
            match number {
                Some(number) => bare[*on].say(&Message::Order(*number)).await,
                None => bare[*on].frame(Channel::Folder(0), b"").await,
            }
        }
        assert!(matches!(side.read_ended().await, ReadEnd::Disorder), "{case:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_without_strands_there_are_no_numbers() {
    let tag = Message::Strand(StrandTag([7; 32]));
    for message in [Message::Order(1), tag.clone()] {
        let mut place = Place::new().await;
        let (mut side, mut bare) = place.line_to_bare(0).await;
        bare[0].say(&message).await;
        assert!(matches!(side.read_ended().await, ReadEnd::Disorder), "{message:?}");
    }
    for on in 0..2 {
        let mut place = Place::new().await;
        let (mut side, mut bare) = place.line_to_bare(1).await;
        bare[on].say(&tag).await;
        assert!(matches!(side.read_ended().await, ReadEnd::Disorder), "a tag on {on}");
    }
}
