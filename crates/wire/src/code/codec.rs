//! The protobuf form of [`super::Message`], and the checks that stand between the two.

use bytes::Bytes;
use identity::InboxId;
use prost::Message as _;

use super::{Hello, LookupId, Message, Refusal, Wait};
use crate::{WireError, membership::GroupId, session::Name};

#[derive(Clone, PartialEq, prost::Message)]
struct PbHello {
    #[prost(bytes = "bytes", tag = "1")]
    lookup: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    inbox: Bytes,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bytes = "bytes", tag = "4")]
    mac: Bytes,
}

/// An answer: each uses some of the fields.
#[derive(Clone, PartialEq, prost::Message)]
struct PbAnswer {
    #[prost(bytes = "bytes", tag = "1")]
    lookup: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    group: Bytes,
    #[prost(uint32, tag = "3")]
    number: u32,
}

fn copied(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn number(why: Refusal) -> u32 {
    match why {
        Refusal::Expired => 1,
        Refusal::UsedUp => 2,
        Refusal::Revoked => 3,
        Refusal::Unknown => 4,
        Refusal::FolderGone => 5,
        Refusal::Declined => 6,
    }
}

pub(super) fn encode(message: &Message) -> Bytes {
    let about = |lookup: &LookupId| PbAnswer { lookup: copied(&lookup.0), ..PbAnswer::default() };
    match message {
        Message::Hello(hello) => PbHello {
            lookup: copied(&hello.lookup.0),
            inbox: copied(&hello.inbox.0),
            name: hello.name.as_str().to_owned(),
            mac: copied(&hello.mac),
        }
        .encode_to_vec(),
        Message::Admitted { lookup, group } => {
            PbAnswer { group: copied(&group.0), ..about(lookup) }.encode_to_vec()
        }
        Message::Refused { lookup, why } => {
            PbAnswer { number: number(*why), ..about(lookup) }.encode_to_vec()
        }
        Message::Waits { lookup, why } => {
            let number = match why {
                Wait::Asked => 1,
                Wait::Suspended => 2,
            };
            PbAnswer { number, ..about(lookup) }.encode_to_vec()
        }
    }
    .into()
}

pub(super) fn decode(kind: u32, body: &[u8]) -> Result<Message, WireError> {
    let message = match kind {
        6 => {
            let pb = PbHello::decode(body)?;
            let inbox = exactly(&pb.inbox, "inbox")?;
            if inbox == [0; 32] {
                return Err(WireError::field("inbox", "all zero"));
            }
            Message::Hello(Hello {
                lookup: LookupId(exactly(&pb.lookup, "lookup")?),
                inbox: InboxId(inbox),
                name: Name::new(&pb.name)?,
                mac: exactly(&pb.mac, "mac")?,
            })
        }
        7..=9 => {
            let pb = PbAnswer::decode(body)?;
            let lookup = LookupId(exactly(&pb.lookup, "lookup")?);
            match kind {
                7 => Message::Admitted { lookup, group: GroupId(exactly(&pb.group, "group")?) },
                8 => {
                    let why = Refusal::ALL.into_iter().find(|why| number(*why) == pb.number);
                    let why = why.ok_or(WireError::field("reason", "unknown"))?;
                    Message::Refused { lookup, why }
                }
                _ => {
                    let why = match pb.number {
                        1 => Wait::Asked,
                        2 => Wait::Suspended,
                        _ => return Err(WireError::field("reason", "unknown")),
                    };
                    Message::Waits { lookup, why }
                }
            }
        }
        _ => return Err(WireError::field("kind", "unknown to this version")),
    };
    // Fields of other kinds, unknown ones and second forms are all found by this.
    if encode(&message) != body {
        return Err(WireError::field("body", "not in its one form"));
    }
    Ok(message)
}

fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::field(field, "wrong length"))
}
