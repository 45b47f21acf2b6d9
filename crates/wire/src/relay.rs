//! What is said to a relay and by it: requests, answers, and the frames of the two kinds of streams.
//!
//! A relay is given nothing that it could read: an entry and an envelope are sealed before they come here,
//! and an [`Owner`] is a key made for one entry or one mailbox, never a device's. What is here checks sizes
//! and forms; what a relay does with it is crate `relay`'s. docs/protocol.md, section 25.

use std::fmt;

use bytes::Bytes;
use identity::{DeviceId, DeviceKey, KeyError, SIGNATURE_LEN, Secret};

use crate::{Hash, WireError, envelope};

mod codec;

/// The sizes that an entry at the rendezvous may have, in bytes: it is padded before it is sealed.
pub const ENTRY_SIZES: [usize; 3] = [1 << 10, 4 << 10, 16 << 10];
/// Longest time that an entry may be asked to stay, in seconds (430 days: a code of 400 days, and the 30 in
/// which its end is explained).
pub const MAX_STAY: u64 = 430 * 24 * 60 * 60;
/// Largest body of a request in bytes: the largest envelope and 256 bytes beside it.
pub const MAX_REQUEST: usize = (64 << 10) + 256;
/// Largest answer, or frame of a relay's, in bytes.
pub const MAX_ANSWER: usize = (64 << 10) + 256;
/// Largest frame that a relay takes on a stream, in bytes.
pub const MAX_FRAME: usize = 4 << 10;
/// Most items that one [`Ack`] names.
pub const MAX_ACKS: usize = 256;
/// Bytes of the key material that both ends of a TLS connection draw for signatures.
pub const CHANNEL_LEN: usize = 32;

const SIGNED_CONTEXT: &str = "kinfold 2026-11 relay owner";
const MAILBOX_CONTEXT: &str = "kinfold 2026-11 relay mailbox";
const TOKEN_CONTEXT: &str = "kinfold 2026-11 relay deposit token";

/// Under what an entry is found: made from a sharing code, 32 bytes that say nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LookupId(pub [u8; 32]);

/// A mailbox: a hash of its owner's key, which is random. Nobody else can make one of the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MailboxId(pub [u8; 32]);

/// Where two ends of a splice meet: 32 random bytes that both know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeetingId(pub [u8; 32]);

impl fmt::Debug for MeetingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeetingId(…)")
    }
}

/// The public half of a key to whom an entry or a mailbox belongs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Owner(pub [u8; 32]);

impl Owner {
    /// The mailbox of this key.
    #[must_use]
    pub fn mailbox(&self) -> MailboxId {
        MailboxId(Hash::derived(MAILBOX_CONTEXT, &[&self.0]).0)
    }
}

/// The key to whom an entry or a mailbox belongs: Ed25519, made for it alone.
#[derive(Debug)]
pub struct OwnerKey(DeviceKey);

impl OwnerKey {
    /// The key that belongs to 32 random bytes.
    ///
    /// # Errors
    /// If the cryptographic library refuses, which it has no reason to.
    pub fn from_seed(seed: &Secret<[u8; 32]>) -> Result<Self, KeyError> {
        DeviceKey::from_seed(seed).map(Self)
    }

    /// Its public half.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner(self.0.id().0)
    }
}

/// What must be shown to deposit into the lane of the members.
#[derive(Clone, Debug)]
pub struct DepositToken(pub Secret<[u8; 32]>);

impl DepositToken {
    /// What the relay keeps of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Hash::derived(TOKEN_CONTEXT, &[self.0.expose()]).0)
    }
}

/// A hash of a [`DepositToken`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenHash(pub [u8; 32]);

/// The two lanes of a mailbox, each with its own quota (rule T22).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// For whoever has the deposit token. 1 on the wire.
    Members,
    /// For whoever knows the mailbox. 2 on the wire.
    Strangers,
}

/// What an owner signs. The bytes that both ends of the connection drew are the challenge: neither end chose
/// them alone, and they are never the same twice, so that a signature is worth nothing anywhere else.
#[derive(Clone, Copy, Debug)]
pub enum Signed<'a> {
    /// To put this entry.
    Put {
        /// Under this.
        lookup: LookupId,
        /// Until then, in seconds since 1970.
        until: u64,
        /// The entry.
        entry: &'a [u8],
    },
    /// To withdraw the entry.
    Withdraw(LookupId),
    /// To make the mailbox, if there is none, and have the members' lane open to this token.
    Settle(TokenHash),
    /// To receive what is in the mailbox.
    Receive,
    /// To remove the mailbox and what is in it.
    Remove,
}

/// An owner's signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature(pub [u8; SIGNATURE_LEN]);

impl Signed<'_> {
    fn digest(&self, channel: &[u8; CHANNEL_LEN], owner: Owner) -> Hash {
        let common = |kind: u8, parts: &[&[u8]]| {
            let head: [&[u8]; 3] = [channel, &owner.0, &[kind]];
            Hash::derived(SIGNED_CONTEXT, &[&head[..], parts].concat())
        };
        match self {
            Self::Put { lookup, until, entry } => {
                common(1, &[&lookup.0, &until.to_be_bytes(), entry])
            }
            Self::Withdraw(lookup) => common(2, &[&lookup.0]),
            Self::Settle(token) => common(3, &[&token.0]),
            Self::Receive => common(4, &[]),
            Self::Remove => common(5, &[]),
        }
    }

    /// Signs it for one connection.
    #[must_use]
    pub fn sign(&self, channel: &[u8; CHANNEL_LEN], key: &OwnerKey) -> Signature {
        Signature(key.0.sign(&self.digest(channel, key.owner()).0))
    }

    /// True if the owner signed it for this connection.
    #[must_use]
    pub fn verify(&self, channel: &[u8; CHANNEL_LEN], owner: Owner, signature: &Signature) -> bool {
        DeviceId(owner.0).verify(&self.digest(channel, owner).0, &signature.0)
    }
}

/// Puts a sealed entry under a lookup id. Whoever puts first owns it, and may put again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// Under this.
    pub lookup: LookupId,
    /// Whose it is.
    pub owner: Owner,
    /// Until then, in seconds since 1970.
    pub until: u64,
    /// The entry: one of [`ENTRY_SIZES`].
    pub entry: Bytes,
    /// Of [`Signed::Put`].
    pub signature: Signature,
}

/// Asks for an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Get {
    /// The one under this.
    pub lookup: LookupId,
}

/// Takes an entry back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Withdraw {
    /// The one under this.
    pub lookup: LookupId,
    /// Whose it is.
    pub owner: Owner,
    /// Of [`Signed::Withdraw`].
    pub signature: Signature,
}

/// Makes a mailbox, or changes the members' token of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settle {
    /// Whose it is; its id follows from this.
    pub owner: Owner,
    /// Opens the lane of the members.
    pub token: TokenHash,
    /// Of [`Signed::Settle`].
    pub signature: Signature,
}

/// Removes a mailbox and what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remove {
    /// Whose it is.
    pub owner: Owner,
    /// Of [`Signed::Remove`].
    pub signature: Signature,
}

/// Leaves an envelope in a mailbox. Nothing says who does.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// In this one.
    pub mailbox: MailboxId,
    /// For the lane of the members; without, it is that of strangers.
    pub token: Option<DepositToken>,
    /// One of [`envelope::SIZES`] bytes.
    pub envelope: Bytes,
}

/// First frame of a stream on which a mailbox is received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receive {
    /// Whose it is.
    pub owner: Owner,
    /// Of [`Signed::Receive`].
    pub signature: Signature,
}

/// What comes on that stream: an envelope that stays in the mailbox until it is acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Grows within a mailbox; at least 1.
    pub number: u64,
    /// Through which lane it came.
    pub lane: Lane,
    /// The envelope.
    pub envelope: Bytes,
}

/// Says which items were handled and may be deleted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ack {
    /// At least one, at most [`MAX_ACKS`], ascending.
    pub numbers: Vec<u64>,
}

/// First frame of a stream that is to be spliced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meet {
    /// Where.
    pub meeting: MeetingId,
}

/// What a relay answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done, and durable. On a stream: it begins.
    Done,
    /// The entry.
    Entry(Bytes),
    /// Nothing is there: there never was, or it expired, or it was withdrawn.
    Absent,
    /// It is not done.
    Refused(Refusal),
}

/// Why a relay does not do what it was asked to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Refusal {
    /// More bytes than any request of its kind has. 1 on the wire.
    #[error("it is too large")]
    TooLarge,
    /// Not in the form that this protocol gives it. 2 on the wire.
    #[error("it is malformed")]
    Malformed,
    /// Somebody else owns the entry. 3 on the wire.
    #[error("somebody else has put something there")]
    Taken,
    /// The signature is not the owner's, for this connection. 4 on the wire.
    #[error("the signature is not the owner's")]
    Denied,
    /// The lane of the mailbox is full, or the relay's store. 5 on the wire.
    #[error("it is full")]
    Full,
    /// Too much from this source. 6 on the wire.
    #[error("it has had too many requests from this network; try again in {after} s")]
    Limited {
        /// Seconds to wait.
        after: u32,
    },
    /// Not now, or nothing is there that could take it. 7 on the wire.
    #[error("it cannot do that now")]
    Unavailable,
}

impl Refusal {
    /// True if asking again in the same words makes no sense.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::TooLarge | Self::Malformed | Self::Taken | Self::Denied => true,
            Self::Full | Self::Limited { .. } | Self::Unavailable => false,
        }
    }
}

/// Checks an entry's size.
///
/// # Errors
/// If it is none of [`ENTRY_SIZES`].
pub fn check_entry(entry: &[u8]) -> Result<(), WireError> {
    match ENTRY_SIZES.contains(&entry.len()) {
        true => Ok(()),
        false => Err(WireError::field("entry", "none of the sizes there are")),
    }
}

/// Checks an envelope as a relay does, which reads its version and its size.
///
/// # Errors
/// If it is none of this version.
pub fn check_envelope(envelope: &[u8]) -> Result<(), WireError> {
    envelope::recipient(envelope).map(|_| ())
}

#[cfg(test)]
#[path = "relay/tests.rs"]
mod tests;
