//! The protobuf forms, and the checks that stand between them and the values.
//!
//! Each value has one form: what could be said besides is found by encoding again and comparing.

use bytes::Bytes;
use identity::Secret;
use prost::Message as _;

use super::{
    Ack, Answer, Deposit, DepositToken, Get, Item, Lane, LookupId, MAX_ACKS, MAX_ANSWER, MAX_FRAME,
    MAX_REQUEST, MailboxId, Meet, MeetingId, Owner, Put, Receive, Refusal, Remove, Settle,
    Signature, TokenHash, Withdraw, check_entry, check_envelope,
};
use crate::WireError;

/// Requests of owners, and of nobody in particular: each uses some of the fields.
#[derive(Clone, PartialEq, prost::Message)]
struct PbRequest {
    /// Lookup id, mailbox or meeting.
    #[prost(bytes = "bytes", tag = "1")]
    place: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    owner: Bytes,
    #[prost(uint64, tag = "3")]
    until: u64,
    /// A deposit token, or the hash of one.
    #[prost(bytes = "bytes", tag = "4")]
    token: Bytes,
    /// Entry or envelope.
    #[prost(bytes = "bytes", tag = "5")]
    sealed: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    signature: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbAnswer {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "bytes", tag = "2")]
    entry: Bytes,
    #[prost(uint32, tag = "3")]
    refusal: u32,
    #[prost(uint32, tag = "4")]
    after: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbItem {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint32, tag = "2")]
    lane: u32,
    #[prost(bytes = "bytes", tag = "3")]
    envelope: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbAck {
    #[prost(uint64, repeated, tag = "1")]
    numbers: Vec<u64>,
}

fn copied(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::field(field, "wrong length"))
}

/// Reads a message of at most `limit` bytes, without a copy of what is long in it.
fn read<M: prost::Message + Default>(bytes: &Bytes, limit: usize) -> Result<M, WireError> {
    if bytes.len() > limit {
        return Err(WireError::TooLarge { len: bytes.len() as u64, limit: limit as u64 });
    }
    Ok(M::decode(bytes.clone())?)
}

fn same_form(again: &[u8], bytes: &Bytes) -> Result<(), WireError> {
    match again == bytes {
        true => Ok(()),
        false => Err(WireError::field("body", "not in its one form")),
    }
}

macro_rules! request {
    ($name:ident, $limit:expr, $self:ident => $encode:expr, $pb:ident => $decode:expr) => {
        impl $name {
            /// Its bytes.
            #[must_use]
            pub fn encode(&$self) -> Vec<u8> {
                $encode.encode_to_vec()
            }

            /// Reads them.
            ///
            /// # Errors
            /// If they are too many, or anything else than the one form of such a message.
            pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
                let $pb: PbRequest = read(bytes, $limit)?;
                let value = $decode;
                same_form(&value.encode(), bytes)?;
                Ok(value)
            }
        }
    };
}

request!(Put, MAX_REQUEST,
    self => PbRequest {
        place: copied(&self.lookup.0),
        owner: copied(&self.owner.0),
        until: self.until,
        sealed: self.entry.clone(),
        signature: copied(&self.signature.0),
        ..PbRequest::default()
    },
    pb => {
        check_entry(&pb.sealed)?;
        Self {
            lookup: LookupId(exactly(&pb.place, "lookup")?),
            owner: Owner(exactly(&pb.owner, "owner")?),
            until: pb.until,
            signature: Signature(exactly(&pb.signature, "signature")?),
            entry: pb.sealed,
        }
    }
);

request!(Get, MAX_FRAME,
    self => PbRequest { place: copied(&self.lookup.0), ..PbRequest::default() },
    pb => Self { lookup: LookupId(exactly(&pb.place, "lookup")?) }
);

request!(Withdraw, MAX_FRAME,
    self => PbRequest {
        place: copied(&self.lookup.0),
        owner: copied(&self.owner.0),
        signature: copied(&self.signature.0),
        ..PbRequest::default()
    },
    pb => Self {
        lookup: LookupId(exactly(&pb.place, "lookup")?),
        owner: Owner(exactly(&pb.owner, "owner")?),
        signature: Signature(exactly(&pb.signature, "signature")?),
    }
);

request!(Settle, MAX_FRAME,
    self => PbRequest {
        owner: copied(&self.owner.0),
        token: copied(&self.token.0),
        signature: copied(&self.signature.0),
        ..PbRequest::default()
    },
    pb => Self {
        owner: Owner(exactly(&pb.owner, "owner")?),
        token: TokenHash(exactly(&pb.token, "token")?),
        signature: Signature(exactly(&pb.signature, "signature")?),
    }
);

request!(Remove, MAX_FRAME,
    self => PbRequest {
        owner: copied(&self.owner.0),
        signature: copied(&self.signature.0),
        ..PbRequest::default()
    },
    pb => Self {
        owner: Owner(exactly(&pb.owner, "owner")?),
        signature: Signature(exactly(&pb.signature, "signature")?),
    }
);

request!(Receive, MAX_FRAME,
    self => PbRequest {
        owner: copied(&self.owner.0),
        signature: copied(&self.signature.0),
        ..PbRequest::default()
    },
    pb => Self {
        owner: Owner(exactly(&pb.owner, "owner")?),
        signature: Signature(exactly(&pb.signature, "signature")?),
    }
);

request!(Meet, MAX_FRAME,
    self => PbRequest { place: copied(&self.meeting.0), ..PbRequest::default() },
    pb => Self { meeting: MeetingId(exactly(&pb.place, "meeting")?) }
);

request!(Deposit, MAX_REQUEST,
    self => PbRequest {
        place: copied(&self.mailbox.0),
        token: self.token.as_ref().map(|token| copied(token.0.expose())).unwrap_or_default(),
        sealed: self.envelope.clone(),
        ..PbRequest::default()
    },
    pb => {
        check_envelope(&pb.sealed)?;
        Self {
            mailbox: MailboxId(exactly(&pb.place, "mailbox")?),
            token: match pb.token.is_empty() {
                true => None,
                false => Some(DepositToken(Secret::new(exactly(&pb.token, "token")?))),
            },
            envelope: pb.sealed,
        }
    }
);

impl Lane {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Members => 1,
            Self::Strangers => 2,
        }
    }

    /// The lane of a number.
    ///
    /// # Errors
    /// If there is none.
    pub fn from_number(number: u32) -> Result<Self, WireError> {
        match number {
            1 => Ok(Self::Members),
            2 => Ok(Self::Strangers),
            _ => Err(WireError::field("lane", "unknown")),
        }
    }
}

impl Item {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        PbItem {
            number: self.number,
            lane: self.lane.number().into(),
            envelope: self.envelope.clone(),
        }
        .encode_to_vec()
    }

    /// Reads them.
    ///
    /// # Errors
    /// As for a request.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let pb: PbItem = read(bytes, MAX_ANSWER)?;
        check_envelope(&pb.envelope)?;
        if pb.number == 0 {
            return Err(WireError::field("number", "zero"));
        }
        let item =
            Self { number: pb.number, lane: Lane::from_number(pb.lane)?, envelope: pb.envelope };
        same_form(&item.encode(), bytes)?;
        Ok(item)
    }
}

impl Ack {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        PbAck { numbers: self.numbers.clone() }.encode_to_vec()
    }

    /// Reads them.
    ///
    /// # Errors
    /// As for a request.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        // A number has a byte at least, so that the limit on bytes is one on numbers.
        let pb: PbAck = read(bytes, MAX_FRAME)?;
        if pb.numbers.is_empty() || pb.numbers.len() > MAX_ACKS {
            return Err(WireError::field("numbers", "none, or too many"));
        }
        if !pb.numbers.is_sorted_by(|a, b| a < b) {
            return Err(WireError::field("numbers", "unsorted, or one comes twice"));
        }
        let ack = Self { numbers: pb.numbers };
        same_form(&ack.encode(), bytes)?;
        Ok(ack)
    }
}

impl Answer {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let pb = match self {
            Self::Done => PbAnswer { kind: 1, ..PbAnswer::default() },
            Self::Entry(entry) => PbAnswer { kind: 2, entry: entry.clone(), ..PbAnswer::default() },
            Self::Absent => PbAnswer { kind: 3, ..PbAnswer::default() },
            Self::Refused(refusal) => {
                let (refusal, after) = match refusal {
                    Refusal::TooLarge => (1, 0),
                    Refusal::Malformed => (2, 0),
                    Refusal::Taken => (3, 0),
                    Refusal::Denied => (4, 0),
                    Refusal::Full => (5, 0),
                    Refusal::Limited { after } => (6, *after),
                    Refusal::Unavailable => (7, 0),
                };
                PbAnswer { kind: 4, refusal, after, ..PbAnswer::default() }
            }
        };
        pb.encode_to_vec()
    }

    /// Reads them.
    ///
    /// # Errors
    /// As for a request.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let pb: PbAnswer = read(bytes, MAX_ANSWER)?;
        let answer = match pb.kind {
            1 => Self::Done,
            2 => {
                check_entry(&pb.entry)?;
                Self::Entry(pb.entry)
            }
            3 => Self::Absent,
            4 => Self::Refused(match pb.refusal {
                1 => Refusal::TooLarge,
                2 => Refusal::Malformed,
                3 => Refusal::Taken,
                4 => Refusal::Denied,
                5 => Refusal::Full,
                6 => Refusal::Limited { after: pb.after },
                7 => Refusal::Unavailable,
                _ => return Err(WireError::field("refusal", "unknown")),
            }),
            _ => return Err(WireError::field("kind", "unknown to this version")),
        };
        same_form(&answer.encode(), bytes)?;
        Ok(answer)
    }
}
