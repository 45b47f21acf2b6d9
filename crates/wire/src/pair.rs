//! Pairing by token: the token itself, the messages of the ceremony, and what a joiner keeps of it.
//!
//! The messages travel in letters ([`crate::envelope`]), over a link or by a relay. Crate `pairing`
//! (`token`) has the ceremony; nothing here trusts anybody.

use std::fmt;

use bytes::Bytes;
use identity::{DeviceId, InboxId};

use crate::{
    Hash, WireError,
    membership::{OperationId, Role, Scope},
    session::Name,
};

mod codec;
mod saved;
mod token;

pub use saved::SavedJoin;
pub use token::{MAX_TOKEN_ADDRESSES, MAX_TOKEN_FOLDERS, Terms, Token, TokenError, dialable};

const REQUEST_CONTEXT: &str = "kinfold 2026-11 token request";

/// A pairing window's id: 8 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowId(pub [u8; 8]);

impl fmt::Debug for WindowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A request's id: a hash of the joiner and of its [`Pair`] as it was sent. Every other message names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 32]);

impl RequestId {
    /// The id of what this device asked with these bytes.
    #[must_use]
    pub fn of(joiner: &DeviceId, pair: &[u8]) -> Self {
        Self(Hash::derived(REQUEST_CONTEXT, &[&joiner.0, pair]).0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Joiner to admitter: the joiner asks. Its device id is the letter's author, so that the letter is its
/// signed card (rule T4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The window that the token names.
    pub window: WindowId,
    /// The joiner's inbox key.
    pub inbox: InboxId,
    /// What the joiner calls itself.
    pub name: Name,
    /// Binds the joiner to its nonce before it knows the admitter's.
    pub commitment: [u8; 32],
    /// Proves the token's secret.
    pub mac: [u8; 32],
}

/// Where a joiner's person stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Answer {
    /// Has not answered yet.
    Open,
    /// Compared the string, was told what is granted, and said yes.
    Yes,
    /// Said no. That is the last word.
    No,
}

/// Why a request came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decline {
    /// The admitting person said no.
    Person,
    /// Another device was admitted; a window is for one.
    Other,
    /// The window was closed, by its person or by time.
    Closed,
    /// Too many devices asked in this window.
    Full,
    /// The joiner broke the ceremony.
    Broken,
    /// The joiner belongs to the group already.
    Member,
    /// The joiner asked anew with other words.
    Again,
}

/// A message of the ceremony.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// The joiner asks.
    Pair(Pair),
    /// Admitter to joiner: its nonce, fresh for each request.
    Challenge {
        /// Which request.
        request: RequestId,
        /// 32 random bytes.
        nonce: [u8; 32],
    },
    /// Joiner to admitter: what it had committed to, and where its person stands. Said again whenever the
    /// answer changes.
    Ready {
        /// Which request.
        request: RequestId,
        /// The joiner's nonce.
        nonce: [u8; 32],
        /// Where its person stands.
        answer: Answer,
    },
    /// Admitter to joiner: the admission is written and durable. The log travels over a link.
    Admitted {
        /// Which request.
        request: RequestId,
        /// Heads of the log with the admission in it: 1 to 32, ascending, none twice.
        heads: Vec<OperationId>,
    },
    /// Admitter to joiner: nothing comes of it.
    Declined {
        /// Which request.
        request: RequestId,
        /// Why.
        why: Decline,
    },
}

impl Message {
    /// The number of its kind in a letter.
    #[must_use]
    pub fn kind(&self) -> u32 {
        match self {
            Self::Pair(_) => 1,
            Self::Challenge { .. } => 2,
            Self::Ready { .. } => 3,
            Self::Admitted { .. } => 4,
            Self::Declined { .. } => 5,
        }
    }

    /// The body of its letter.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Reads the body of a letter of this kind. A message has one form only.
    ///
    /// # Errors
    /// Says which field breaks which rule.
    pub fn decode(kind: u32, body: &[u8]) -> Result<Self, WireError> {
        codec::decode(kind, body)
    }
}

/// Bytes of a role and a list of folders, for tokens and what is kept of them.
fn encode_grant(role: Role, folders: &Scope, out: &mut Vec<u8>) {
    out.push(role.number());
    match folders {
        Scope::All => out.push(ALL),
        Scope::List(list) => {
            out.push(u8::try_from(list.len()).unwrap_or(ALL - 1));
            list.iter().for_each(|folder| out.extend_from_slice(&folder.0));
        }
    }
}

/// Stands where else the number of folders does.
const ALL: u8 = 0xff;
