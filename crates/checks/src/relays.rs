//! What a relay is asked, what it answers, the frames of its streams, and its address: each has one form.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use wire::{
    envelope,
    relay::{
        Ack, Answer, Deposit, ENTRY_SIZES, Get, Item, MAX_ACKS, MAX_FRAME, Meet, Put, Receive,
        Remove, Settle, Withdraw,
    },
};

use crate::{
    relay_address::RelayAddress,
    relay_frames::{FrameReader, read_exactly_one},
};

/// An address that somebody typed, or that came in a code, a token or a letter.
fn address(text: &str) {
    let Ok(address) = text.parse::<RelayAddress>() else { return };
    let shown = address.to_string();
    assert!(shown.is_ascii() && shown.len() <= 384, "{shown}");
    assert!(address.port() != 0 && !address.host().is_empty());
    assert_eq!(shown.parse().as_ref(), Ok(&address), "what is shown is read");
    assert_eq!(shown.to_ascii_uppercase().parse(), Ok(address), "case does not matter");
}

/// What a future comes to that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("bytes that are there do not come later"),
    }
}

/// A stream, read as the relay reads its clients'.
fn frames(data: &[u8]) {
    let (mut stream, mut reader, mut read) = (data, FrameReader::default(), Vec::new());
    let mut first = None;
    while let Ok(Some(frame)) = now(reader.next(&mut stream, MAX_FRAME)) {
        assert!(frame.len() <= MAX_FRAME);
        read.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes());
        read.extend_from_slice(&frame);
        first.get_or_insert(frame);
    }
    assert!(data.starts_with(&read), "frames are what came, in its order");
    let mut rest = data;
    assert_eq!(now(read_exactly_one(&mut rest, MAX_FRAME)).ok(), first, "the first one alone");
    if let Some(first) = first {
        assert_eq!(rest.len(), data.len() - first.len() - 4, "and not a byte beyond it");
    }
}

/// The first byte says which message the rest is; what is long may be made up from a few bytes.
pub(crate) fn relay(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let bytes = match kind & 0x80 {
        0 => Bytes::copy_from_slice(rest),
        // With an entry or an envelope behind it, which a fuzzer would not find.
        _ => [rest, &[0x2a, 0x80, 0x08, 1][..], &[7; 1023]].concat().into(),
    };
    macro_rules! one_form {
        ($($message:ty),*) => {{
            $(if let Ok(message) = <$message>::decode(&bytes) {
                assert!(message.encode() == bytes, stringify!($message));
            })*
        }};
    }
    match kind & 0x7f {
        0 => one_form!(Get, Meet),
        1 => one_form!(Withdraw, Settle, Remove, Receive),
        2 => {
            if let Ok(put) = Put::decode(&bytes) {
                assert!(ENTRY_SIZES.contains(&put.entry.len()));
                assert!(put.encode() == bytes, "put");
            }
        }
        3 => {
            if let Ok(deposit) = Deposit::decode(&bytes) {
                assert!(envelope::SIZES.contains(&deposit.envelope.len()));
                assert!(deposit.encode() == bytes, "deposit");
            }
        }
        4 => {
            if let Ok(item) = Item::decode(&bytes) {
                assert!(item.number > 0 && envelope::SIZES.contains(&item.envelope.len()));
                assert!(item.encode() == bytes, "item");
            }
        }
        5 => {
            if let Ok(ack) = Ack::decode(&bytes) {
                assert!((1..=MAX_ACKS).contains(&ack.numbers.len()));
                assert!(ack.numbers.is_sorted_by(|a, b| a < b));
                assert!(ack.encode() == bytes, "ack");
            }
        }
        0x60 => address(&String::from_utf8_lossy(rest)),
        0x61 => frames(rest),
        _ => one_form!(Answer),
    }
}
