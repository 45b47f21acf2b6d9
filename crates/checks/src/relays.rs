//! What a relay is asked, what it answers, and the frames of its streams: each has one form.

use bytes::Bytes;
use wire::{
    envelope,
    relay::{
        Ack, Answer, Deposit, ENTRY_SIZES, Get, Item, MAX_ACKS, Meet, Put, Receive, Remove, Settle,
        Withdraw,
    },
};

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
        _ => one_form!(Answer),
    }
}
