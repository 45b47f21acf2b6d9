//! The protobuf form of [`super::Message`], and the checks that stand between the two.

use bytes::Bytes;
use identity::{DeviceId, InboxId};
use prost::Message as _;

use super::{
    Farewell, Ground, Hello, MAX_VOUCHES_SENT, MAX_WORDS, Message, Mode, Name, Refusal, StrandTag,
    Vouch,
};
use crate::{
    WireError,
    bounds::{self, Limit},
    device::{self, MAX_OPERATIONS_SENT},
};

/// Checked before the message is decoded.
const LIMITS: [Limit; 2] = [
    Limit { field: &[2, 1], most: MAX_VOUCHES_SENT, name: "vouches" },
    Limit { field: &[16, 3, 2], most: MAX_OPERATIONS_SENT, name: "operations" },
];

#[derive(Clone, PartialEq, prost::Message)]
struct PbMessage {
    #[prost(
        oneof = "PbBody",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18"
    )]
    body: Option<PbBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum PbBody {
    #[prost(message, tag = "1")]
    Hello(PbHello),
    #[prost(message, tag = "2")]
    Vouches(PbVouches),
    #[prost(message, tag = "3")]
    Standing(PbFlag),
    #[prost(bytes = "bytes", tag = "4")]
    Commit(Bytes),
    #[prost(bytes = "bytes", tag = "5")]
    Nonce(Bytes),
    #[prost(bytes = "bytes", tag = "6")]
    Reveal(Bytes),
    #[prost(message, tag = "7")]
    Later(PbNothing),
    #[prost(message, tag = "8")]
    Ready(PbNothing),
    #[prost(bytes = "bytes", tag = "9")]
    PakeA(Bytes),
    #[prost(bytes = "bytes", tag = "10")]
    PakeB(Bytes),
    #[prost(bytes = "bytes", tag = "11")]
    Confirm(Bytes),
    #[prost(message, tag = "12")]
    Accepted(PbNothing),
    #[prost(message, tag = "13")]
    Refused(PbReason),
    #[prost(message, tag = "14")]
    Goodbye(PbReason),
    #[prost(message, tag = "15")]
    Alive(PbNothing),
    #[prost(message, tag = "16")]
    Device(device::PbDevice),
    #[prost(bytes = "bytes", tag = "17")]
    Strand(Bytes),
    #[prost(uint64, tag = "18")]
    Order(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbNothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct PbFlag {
    #[prost(bool, tag = "1")]
    set: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbReason {
    #[prost(uint32, tag = "1")]
    reason: u32,
    #[prost(string, tag = "2")]
    words: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbHello {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    port: u32,
    #[prost(bytes = "bytes", tag = "4")]
    topic: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    inbox: Bytes,
    #[prost(uint32, tag = "6")]
    mode: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbVouches {
    #[prost(message, repeated, tag = "1")]
    vouches: Vec<PbVouch>,
    #[prost(bool, tag = "2")]
    last: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbVouch {
    #[prost(bytes = "bytes", tag = "1")]
    voucher: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    admitted: Bytes,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(uint32, tag = "4")]
    ground: u32,
    #[prost(bytes = "bytes", tag = "5")]
    signature: Bytes,
}

fn copied(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(super) fn encode(message: &Message) -> Bytes {
    let nothing = PbNothing {};
    let body = match message {
        Message::Hello(hello) => PbBody::Hello(PbHello {
            version: hello.version,
            name: hello.name.as_str().to_owned(),
            port: hello.port.into(),
            topic: copied(&hello.topic),
            inbox: copied(&hello.inbox.0),
            mode: match hello.mode {
                Mode::Ask => 1,
                Mode::Open => 2,
                Mode::Passphrase => 3,
            },
        }),
        Message::Vouches { vouches, last } => PbBody::Vouches(PbVouches {
            vouches: vouches.iter().map(vouch_out).collect(),
            last: *last,
        }),
        Message::Standing { known } => PbBody::Standing(PbFlag { set: *known }),
        Message::Commit(bytes) => PbBody::Commit(copied(bytes)),
        Message::Nonce(bytes) => PbBody::Nonce(copied(bytes)),
        Message::Reveal(bytes) => PbBody::Reveal(copied(bytes)),
        Message::Later => PbBody::Later(nothing),
        Message::Ready => PbBody::Ready(nothing),
        Message::PakeA(bytes) => PbBody::PakeA(copied(bytes)),
        Message::PakeB(bytes) => PbBody::PakeB(copied(bytes)),
        Message::Confirm(bytes) => PbBody::Confirm(copied(bytes)),
        Message::Accepted => PbBody::Accepted(nothing),
        Message::Refused { reason, words } => PbBody::Refused(PbReason {
            reason: match reason {
                Refusal::Declined => 1,
                Refusal::OtherTopic => 2,
                Refusal::OtherVersion => 3,
                Refusal::PassphraseMismatch => 4,
                Refusal::WrongPassphrase => 5,
                Refusal::Closed => 6,
                Refusal::Full => 7,
                Refusal::Broken => 8,
            },
            words: words.clone(),
        }),
        Message::Goodbye { reason } => PbBody::Goodbye(PbReason {
            reason: match reason {
                Farewell::Stopping => 1,
                Farewell::Duplicate => 2,
                Farewell::Protocol => 3,
            },
            words: String::new(),
        }),
        Message::Alive => PbBody::Alive(nothing),
        Message::Device(message) => PbBody::Device(device::out(message)),
        Message::Strand(tag) => PbBody::Strand(copied(&tag.0)),
        Message::Order(number) => PbBody::Order(*number),
    };
    PbMessage { body: Some(body) }.encode_to_vec().into()
}

fn vouch_out(vouch: &Vouch) -> PbVouch {
    PbVouch {
        voucher: copied(&vouch.voucher.0),
        admitted: copied(&vouch.admitted.0),
        name: vouch.name.as_str().to_owned(),
        ground: match vouch.ground {
            Ground::Person => 1,
            Ground::Passphrase => 2,
            Ground::Open => 3,
        },
        signature: copied(&vouch.signature),
    }
}

pub(super) fn decode(payload: &[u8]) -> Result<Message, WireError> {
    bounds::check(payload, &LIMITS)?;
    let body = PbMessage::decode(payload)?.body.ok_or(WireError::field("body", "missing"))?;
    Ok(match body {
        PbBody::Hello(hello) => Message::Hello(hello_in(&hello)?),
        PbBody::Vouches(PbVouches { vouches, last }) => {
            let vouches = vouches.iter().map(vouch_in).collect::<Result<_, _>>()?;
            Message::Vouches { vouches, last }
        }
        PbBody::Standing(flag) => Message::Standing { known: flag.set },
        PbBody::Commit(bytes) => Message::Commit(exactly(&bytes, "commit")?),
        PbBody::Nonce(bytes) => Message::Nonce(exactly(&bytes, "nonce")?),
        PbBody::Reveal(bytes) => Message::Reveal(exactly(&bytes, "reveal")?),
        PbBody::Later(_) => Message::Later,
        PbBody::Ready(_) => Message::Ready,
        PbBody::PakeA(bytes) => Message::PakeA(exactly(&bytes, "pake_a")?),
        PbBody::PakeB(bytes) => Message::PakeB(exactly(&bytes, "pake_b")?),
        PbBody::Confirm(bytes) => Message::Confirm(exactly(&bytes, "confirm")?),
        PbBody::Accepted(_) => Message::Accepted,
        PbBody::Refused(refused) => Message::Refused {
            reason: refusal_in(refused.reason)?,
            words: words_in(refused.words)?,
        },
        PbBody::Goodbye(goodbye) => Message::Goodbye {
            reason: match goodbye.reason {
                1 => Farewell::Stopping,
                2 => Farewell::Duplicate,
                3 => Farewell::Protocol,
                _ => return Err(WireError::field("reason", "unknown")),
            },
        },
        PbBody::Alive(_) => Message::Alive,
        PbBody::Device(message) => Message::Device(device::decode(message)?),
        PbBody::Strand(tag) => Message::Strand(StrandTag(exactly(&tag, "strand")?)),
        PbBody::Order(number) => Message::Order(number),
    })
}

fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::field(field, "wrong length"))
}

fn hello_in(hello: &PbHello) -> Result<Hello, WireError> {
    let inbox = InboxId(exactly(&hello.inbox, "inbox")?);
    if inbox.0 == [0; 32] {
        return Err(WireError::field("inbox", "all zero"));
    }
    Ok(Hello {
        version: hello.version,
        name: Name::new(&hello.name)?,
        port: u16::try_from(hello.port).map_err(|_| WireError::field("port", "over 65535"))?,
        topic: exactly(&hello.topic, "topic")?,
        inbox,
        mode: match hello.mode {
            1 => Mode::Ask,
            2 => Mode::Open,
            3 => Mode::Passphrase,
            _ => return Err(WireError::field("mode", "unknown")),
        },
    })
}

fn vouch_in(vouch: &PbVouch) -> Result<Vouch, WireError> {
    Ok(Vouch {
        voucher: DeviceId(exactly(&vouch.voucher, "voucher")?),
        admitted: DeviceId(exactly(&vouch.admitted, "admitted")?),
        name: Name::new(&vouch.name)?,
        ground: match vouch.ground {
            1 => Ground::Person,
            2 => Ground::Passphrase,
            3 => Ground::Open,
            _ => return Err(WireError::field("ground", "unknown")),
        },
        signature: exactly(&vouch.signature, "signature")?,
    })
}

fn refusal_in(reason: u32) -> Result<Refusal, WireError> {
    Ok(match reason {
        1 => Refusal::Declined,
        2 => Refusal::OtherTopic,
        3 => Refusal::OtherVersion,
        4 => Refusal::PassphraseMismatch,
        5 => Refusal::WrongPassphrase,
        6 => Refusal::Closed,
        7 => Refusal::Full,
        8 => Refusal::Broken,
        _ => return Err(WireError::field("reason", "unknown")),
    })
}

fn words_in(words: String) -> Result<String, WireError> {
    if words.len() > MAX_WORDS || words.chars().any(char::is_control) {
        return Err(WireError::field("words", "too long, or with control characters"));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{frame::MAX_STRANGER_FRAME, session::PAKE_LEN};

    fn name() -> impl Strategy<Value = Name> {
        "[a-zé日 ]{1,16}".prop_map(|name| Name::new(&name).unwrap())
    }

    fn vouch() -> impl Strategy<Value = Vouch> {
        let ground =
            prop_oneof![Just(Ground::Person), Just(Ground::Passphrase), Just(Ground::Open)];
        (any::<[u8; 32]>(), any::<[u8; 32]>(), name(), ground, any::<u8>()).prop_map(
            |(voucher, admitted, name, ground, byte)| Vouch {
                voucher: DeviceId(voucher),
                admitted: DeviceId(admitted),
                name,
                ground,
                signature: [byte; 64],
            },
        )
    }

    fn message() -> impl Strategy<Value = Message> {
        let mode = prop_oneof![Just(Mode::Ask), Just(Mode::Open), Just(Mode::Passphrase)];
        let hello = (any::<u32>(), name(), any::<u16>(), any::<[u8; 32]>(), 1_u8.., mode).prop_map(
            |(version, name, port, topic, inbox, mode)| {
                let inbox = InboxId([inbox; 32]);
                Message::Hello(Hello { version, name, port, topic, inbox, mode })
            },
        );
        prop_oneof![
            hello,
            (vec(vouch(), 0..MAX_VOUCHES_SENT), any::<bool>())
                .prop_map(|(vouches, last)| Message::Vouches { vouches, last }),
            any::<bool>().prop_map(|known| Message::Standing { known }),
            any::<[u8; 32]>().prop_map(Message::Commit),
            any::<[u8; 32]>().prop_map(Message::Nonce),
            any::<[u8; 32]>().prop_map(Message::Reveal),
            any::<u8>().prop_map(|byte| Message::PakeA([byte; PAKE_LEN])),
            any::<u8>().prop_map(|byte| Message::PakeB([byte; PAKE_LEN])),
            any::<[u8; 32]>().prop_map(Message::Confirm),
            Just(Message::Later),
            Just(Message::Ready),
            Just(Message::Accepted),
            Just(Message::Alive),
            (1_u32..=8, "[a-z ]{0,40}").prop_map(|(reason, words)| Message::Refused {
                reason: refusal_in(reason).unwrap(),
                words
            }),
            Just(Message::Goodbye { reason: Farewell::Stopping }),
            Just(Message::Goodbye { reason: Farewell::Duplicate }),
            any::<[u8; 32]>().prop_map(|tag| Message::Strand(StrandTag(tag))),
            any::<u64>().prop_map(Message::Order),
        ]
    }

    proptest! {
        #[test]
        fn messages_round_trip(message in message()) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..600)) {
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert!(message.encode().len() <= MAX_STRANGER_FRAME);
            }
        }

        #[test]
        fn a_damaged_message_is_decoded_or_refused(
            message in message(), at: prop::sample::Index, to: u8,
        ) {
            let mut bytes = message.encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = Message::decode(&bytes);
            prop_assert!(Message::decode(&bytes[..at]).is_err() || at == 0 || at == bytes.len()
                || Message::decode(&bytes[..at]).is_ok_and(|cut| cut != message));
        }
    }

    #[test]
    fn the_longest_message_fits_a_strangers_frame() {
        let vouch = Vouch {
            voucher: DeviceId([1; 32]),
            admitted: DeviceId([2; 32]),
            name: Name::new(&"n".repeat(Name::MAX)).unwrap(),
            ground: Ground::Open,
            signature: [3; 64],
        };
        let vouches = vec![vouch; MAX_VOUCHES_SENT];
        let message = Message::Vouches { vouches, last: true };
        assert!(message.encode().len() <= MAX_STRANGER_FRAME);
    }

    #[test]
    fn bounds_are_kept() {
        for bad in ["", "a\nb", "\u{1b}[2J", "\u{85}", &"x".repeat(65)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        let hello = PbHello {
            version: 1,
            name: "a".into(),
            port: 70_000,
            topic: copied(&[1; 32]),
            inbox: copied(&[1; 32]),
            mode: 1,
        };
        assert!(hello_in(&hello).is_err(), "port");
        let hello = PbHello { port: 9, mode: 9, ..hello };
        assert!(hello_in(&hello).is_err(), "mode");
        let hello = PbHello { mode: 1, inbox: copied(&[0; 32]), ..hello };
        assert!(hello_in(&hello).is_err(), "all-zero key (dsync fault 2)");
        let hello = PbHello { inbox: copied(&[1; 31]), ..hello };
        assert!(hello_in(&hello).is_err(), "length");
        let refused = PbReason { reason: 1, words: "w".repeat(MAX_WORDS + 1) };
        let message = PbMessage { body: Some(PbBody::Refused(refused)) };
        assert!(decode(&message.encode_to_vec()).is_err(), "words");
        assert!(Message::decode(&[0; MAX_STRANGER_FRAME + 1]).is_err());
        assert!(Message::decode(&[]).is_err(), "no body");
    }
}
