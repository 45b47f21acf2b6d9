//! The protobuf form of [`super::Message`], and the checks that stand between the two.

use bytes::Bytes;
use identity::InboxId;
use prost::Message as _;

use super::{Answer, Decline, Message, Pair, RequestId, WindowId};
use crate::{
    WireError,
    membership::{MAX_PARENTS, OperationId},
    session::Name,
};

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[derive(Clone, PartialEq, prost::Message)]
struct PbPair {
    #[prost(bytes = "bytes", tag = "1")]
    window: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    inbox: Bytes,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bytes = "bytes", tag = "4")]
    commitment: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    mac: Bytes,
}

/// All that is said of a request: each message uses some of the fields.
#[derive(Clone, PartialEq, prost::Message)]
struct PbAbout {
    #[prost(bytes = "bytes", tag = "1")]
    request: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    nonce: Bytes,
    #[prost(uint32, tag = "3")]
    number: u32,
    #[prost(bytes = "bytes", tag = "4")]
    heads: Bytes,
}

fn copied(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(super) fn encode(message: &Message) -> Bytes {
    let about = |request: &RequestId| PbAbout { request: copied(&request.0), ..PbAbout::default() };
    match message {
        Message::Pair(pair) => PbPair {
            window: copied(&pair.window.0),
            inbox: copied(&pair.inbox.0),
            name: pair.name.as_str().to_owned(),
            commitment: copied(&pair.commitment),
            mac: copied(&pair.mac),
        }
        .encode_to_vec(),
        Message::Challenge { request, nonce } => {
            PbAbout { nonce: copied(nonce), ..about(request) }.encode_to_vec()
        }
        Message::Ready { request, nonce, answer } => {
            let number = match answer {
                Answer::Open => 1,
                Answer::Yes => 2,
                Answer::No => 3,
            };
            PbAbout { nonce: copied(nonce), number, ..about(request) }.encode_to_vec()
        }
        Message::Admitted { request, heads } => {
            let heads = heads.iter().flat_map(|head| head.0).collect::<Vec<_>>().into();
            PbAbout { heads, ..about(request) }.encode_to_vec()
        }
        Message::Declined { request, why } => {
            let number = match why {
                Decline::Person => 1,
                Decline::Other => 2,
                Decline::Closed => 3,
                Decline::Full => 4,
                Decline::Broken => 5,
                Decline::Member => 6,
                Decline::Again => 7,
            };
            PbAbout { number, ..about(request) }.encode_to_vec()
        }
    }
    .into()
}

pub(super) fn decode(kind: u32, body: &[u8]) -> Result<Message, WireError> {
    let message = match kind {
        1 => {
            let pb = PbPair::decode(body)?;
            let inbox = exactly(&pb.inbox, "inbox")?;
            if inbox == [0; 32] {
                return Err(WireError::field("inbox", "all zero"));
            }
            Message::Pair(Pair {
                window: WindowId(exactly(&pb.window, "window")?),
                inbox: InboxId(inbox),
                name: Name::new(&pb.name)?,
                commitment: exactly(&pb.commitment, "commitment")?,
                mac: exactly(&pb.mac, "mac")?,
            })
        }
        2..=5 => about(kind, &PbAbout::decode(body)?)?,
        _ => return Err(WireError::field("kind", "unknown to this version")),
    };
    // Fields of other kinds, unknown ones and second forms are all found by this.
    if encode(&message) != body {
        return Err(WireError::field("body", "not in its one form"));
    }
    Ok(message)
}

fn about(kind: u32, pb: &PbAbout) -> Result<Message, WireError> {
    let request = RequestId(exactly(&pb.request, "request")?);
    Ok(match kind {
        2 => Message::Challenge { request, nonce: exactly(&pb.nonce, "nonce")? },
        3 => {
            let answer = match pb.number {
                1 => Answer::Open,
                2 => Answer::Yes,
                3 => Answer::No,
                _ => return Err(WireError::field("answer", "unknown")),
            };
            Message::Ready { request, nonce: exactly(&pb.nonce, "nonce")?, answer }
        }
        4 => Message::Admitted { request, heads: heads(&pb.heads)? },
        _ => {
            let why = match pb.number {
                1 => Decline::Person,
                2 => Decline::Other,
                3 => Decline::Closed,
                4 => Decline::Full,
                5 => Decline::Broken,
                6 => Decline::Member,
                7 => Decline::Again,
                _ => return Err(WireError::field("reason", "unknown")),
            };
            Message::Declined { request, why }
        }
    })
}

fn heads(bytes: &[u8]) -> Result<Vec<OperationId>, WireError> {
    let (heads, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || heads.is_empty() || heads.len() > MAX_PARENTS {
        return Err(WireError::field("heads", "none, too many, or not whole"));
    }
    if !heads.is_sorted_by(|a, b| a < b) {
        return Err(WireError::field("heads", "unsorted, or one comes twice"));
    }
    Ok(heads.iter().copied().map(OperationId).collect())
}

fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::field(field, "wrong length"))
}
