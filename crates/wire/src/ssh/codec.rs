//! The protobuf form of [`super::Message`], and the checks that stand between the two.

use bytes::Bytes;
use identity::InboxId;
use prost::Message as _;

use super::{
    Hello, MAX_HOST_KEY, MAX_HOST_KEYS, MAX_KEY, MAX_USER, MAX_WORDS, Message, Purpose, Reach,
    Refusal,
};
use crate::{
    WireError,
    bounds::{self, Limit},
    session::Name,
};

/// Checked before the message is decoded.
const LIMITS: [Limit; 1] = [Limit { field: &[9, 3], most: MAX_HOST_KEYS, name: "host_keys" }];

#[derive(Clone, PartialEq, prost::Message)]
struct PbMessage {
    #[prost(oneof = "PbBody", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    body: Option<PbBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum PbBody {
    #[prost(message, tag = "1")]
    Hello(PbHello),
    #[prost(bytes = "bytes", tag = "2")]
    Commit(Bytes),
    #[prost(bytes = "bytes", tag = "3")]
    Nonce(Bytes),
    #[prost(bytes = "bytes", tag = "4")]
    Reveal(Bytes),
    #[prost(message, tag = "5")]
    Later(PbNothing),
    #[prost(message, tag = "6")]
    Ready(PbNothing),
    #[prost(message, tag = "7")]
    Accepted(PbNothing),
    #[prost(message, tag = "8")]
    Refused(PbReason),
    #[prost(message, tag = "9")]
    Reach(PbReach),
    #[prost(message, tag = "10")]
    Done(PbNothing),
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbNothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct PbHello {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    purpose: u32,
    #[prost(bytes = "bytes", tag = "4")]
    inbox: Bytes,
    #[prost(string, tag = "5")]
    key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbReach {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(string, repeated, tag = "3")]
    host_keys: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbReason {
    #[prost(uint32, tag = "1")]
    reason: u32,
    #[prost(string, tag = "2")]
    words: String,
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
            purpose: match hello.purpose {
                Purpose::Listen => 1,
                Purpose::Pair => 2,
                Purpose::Sync => 3,
                Purpose::Look => 4,
            },
            inbox: copied(&hello.inbox.0),
            key: hello.key.clone().unwrap_or_default(),
        }),
        Message::Commit(bytes) => PbBody::Commit(copied(bytes)),
        Message::Nonce(bytes) => PbBody::Nonce(copied(bytes)),
        Message::Reveal(bytes) => PbBody::Reveal(copied(bytes)),
        Message::Later => PbBody::Later(nothing),
        Message::Ready => PbBody::Ready(nothing),
        Message::Accepted => PbBody::Accepted(nothing),
        Message::Refused { reason, words } => PbBody::Refused(PbReason {
            reason: match reason {
                Refusal::Declined => 1,
                Refusal::OtherPurpose => 2,
                Refusal::OtherVersion => 3,
                Refusal::Closed => 4,
                Refusal::Broken => 5,
                Refusal::Failed => 6,
            },
            words: words.clone(),
        }),
        Message::Reach(reach) => PbBody::Reach(PbReach {
            user: reach.user.clone(),
            port: reach.port.into(),
            host_keys: reach.host_keys.clone(),
        }),
        Message::Done => PbBody::Done(nothing),
    };
    PbMessage { body: Some(body) }.encode_to_vec().into()
}

pub(super) fn decode(payload: &[u8]) -> Result<Message, WireError> {
    bounds::check(payload, &LIMITS)?;
    let body = PbMessage::decode(payload)?.body.ok_or(WireError::field("body", "missing"))?;
    let message = match body {
        PbBody::Hello(hello) => Message::Hello(hello_in(&hello)?),
        PbBody::Commit(bytes) => Message::Commit(exactly(&bytes, "commit")?),
        PbBody::Nonce(bytes) => Message::Nonce(exactly(&bytes, "nonce")?),
        PbBody::Reveal(bytes) => Message::Reveal(exactly(&bytes, "reveal")?),
        PbBody::Later(_) => Message::Later,
        PbBody::Ready(_) => Message::Ready,
        PbBody::Accepted(_) => Message::Accepted,
        PbBody::Refused(PbReason { reason, words }) => {
            if words.len() > MAX_WORDS {
                return Err(WireError::field("words", "too long"));
            }
            let reason = match reason {
                1 => Refusal::Declined,
                2 => Refusal::OtherPurpose,
                3 => Refusal::OtherVersion,
                4 => Refusal::Closed,
                5 => Refusal::Broken,
                6 => Refusal::Failed,
                _ => return Err(WireError::field("reason", "unknown")),
            };
            Message::Refused { reason, words }
        }
        PbBody::Reach(reach) => Message::Reach(reach_in(reach)?),
        PbBody::Done(_) => Message::Done,
    };
    // Unknown fields and second forms are found by this.
    if encode(&message) != payload {
        return Err(WireError::field("body", "not in its one form"));
    }
    Ok(message)
}

fn hello_in(pb: &PbHello) -> Result<Hello, WireError> {
    let purpose = match pb.purpose {
        1 => Purpose::Listen,
        2 => Purpose::Pair,
        3 => Purpose::Sync,
        4 => Purpose::Look,
        _ => return Err(WireError::field("purpose", "unknown")),
    };
    let inbox = exactly(&pb.inbox, "inbox")?;
    if inbox == [0; 32] {
        return Err(WireError::field("inbox", "all zero"));
    }
    let key = match (pb.key.is_empty(), purpose.logs_in()) {
        (true, false) => None,
        (false, true) => Some(text(&pb.key, MAX_KEY, "key")?),
        (true, true) => return Err(WireError::field("key", "missing")),
        (false, false) => return Err(WireError::field("key", "not wanted")),
    };
    Ok(Hello {
        version: pb.version,
        name: Name::new(&pb.name)?,
        purpose,
        inbox: InboxId(inbox),
        key,
    })
}

fn reach_in(pb: PbReach) -> Result<Reach, WireError> {
    let port = u16::try_from(pb.port).ok().filter(|port| *port != 0);
    for key in &pb.host_keys {
        text(key, MAX_HOST_KEY, "host_keys")?;
    }
    Ok(Reach {
        user: text(&pb.user, MAX_USER, "user")?,
        port: port.ok_or(WireError::field("port", "no port"))?,
        host_keys: pb.host_keys,
    })
}

/// Printable ASCII, and not empty.
fn text(text: &str, most: usize, field: &'static str) -> Result<String, WireError> {
    if text.is_empty() || text.len() > most {
        return Err(WireError::field(field, "empty or too long"));
    }
    if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(WireError::field(field, "holds what is not printable ASCII"));
    }
    Ok(text.to_owned())
}

fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::field(field, "wrong length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(purpose: Purpose, key: Option<&str>) -> Message {
        Message::Hello(Hello {
            version: 1,
            name: Name::new("desk").unwrap(),
            purpose,
            inbox: InboxId([2; 32]),
            key: key.map(str::to_owned),
        })
    }

    fn reach(user: &str, port: u16, host_keys: &[String]) -> Message {
        Message::Reach(Reach { user: user.to_owned(), port, host_keys: host_keys.to_vec() })
    }

    #[test]
    fn messages_round_trip() {
        let keys: Vec<String> = (0..MAX_HOST_KEYS).map(|_| "k".repeat(MAX_HOST_KEY)).collect();
        for message in [
            hello(Purpose::Listen, None),
            hello(Purpose::Pair, Some("ssh-ed25519 AAAA")),
            hello(Purpose::Sync, Some(&"k".repeat(MAX_KEY))),
            hello(Purpose::Look, None),
            Message::Commit([1; 32]),
            Message::Nonce([2; 32]),
            Message::Reveal([3; 32]),
            Message::Later,
            Message::Ready,
            Message::Accepted,
            Message::Refused { reason: Refusal::Declined, words: "no".into() },
            Message::Refused { reason: Refusal::Failed, words: String::new() },
            reach("alice", 22, &[]),
            reach("alice", 65_535, &keys),
            Message::Done,
        ] {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn attack_16_what_is_out_of_bounds_is_refused() {
        let key = |key: &str| hello(Purpose::Pair, Some(key));
        let keys: Vec<String> = (0..=MAX_HOST_KEYS).map(|_| "k".to_owned()).collect();
        for message in [
            hello(Purpose::Pair, None),
            hello(Purpose::Listen, Some("ssh-ed25519 AAAA")),
            key("a\nb"),
            key("a\rb"),
            key("a\u{1b}b"),
            key("ä"),
            key(&"k".repeat(MAX_KEY + 1)),
            reach("", 22, &[]),
            reach("a\nProxyCommand x", 22, &[]),
            reach(&"u".repeat(MAX_USER + 1), 22, &[]),
            reach("a", 0, &[]),
            reach("a", 22, &keys),
            reach("a", 22, &["k".repeat(MAX_HOST_KEY + 1)]),
            reach("a", 22, &[String::new()]),
            reach("a", 22, &["a\nb".to_owned()]),
            Message::Refused { reason: Refusal::Broken, words: "w".repeat(MAX_WORDS + 1) },
        ] {
            assert!(Message::decode(&message.encode()).is_err(), "{message:?}");
        }
    }

    #[test]
    fn a_message_has_one_form_only() {
        let whole = Message::Accepted.encode().to_vec();
        let unknown = [&whole[..], &[0xa0, 0x06, 0x01]].concat();
        assert!(Message::decode(&unknown).is_err());
        assert!(Message::decode(&[]).is_err());
        let twice = [&whole[..], &Message::Done.encode()].concat();
        assert!(Message::decode(&twice).is_err());
        let huge = vec![0; crate::frame::MAX_STRANGER_FRAME + 1];
        assert!(matches!(Message::decode(&huge), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn the_topic_depends_on_every_part_of_both_hellos() {
        let take = |message: Message| match message {
            Message::Hello(hello) => hello,
            _ => unreachable!("a hello was made"),
        };
        let a = take(hello(Purpose::Pair, Some("ssh-ed25519 AAAA")));
        let b = take(hello(Purpose::Listen, None));
        let topic = Hello::topic(&a, &b);
        let other = Hello { key: Some("ssh-ed25519 AAAB".into()), ..a.clone() };
        assert_ne!(topic, Hello::topic(&other, &b));
        assert_ne!(topic, Hello::topic(&Hello { version: 2, ..a.clone() }, &b));
        assert_ne!(
            topic,
            Hello::topic(&a, &Hello { name: Name::new("dusk").unwrap(), ..b.clone() })
        );
        assert_ne!(topic, Hello::topic(&b, &a));
    }
}
