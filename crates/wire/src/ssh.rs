//! The messages of `kin ssh listen`, `pair` and `sync`: two devices exchange SSH keys over a link of their
//! own (ALPN `kin-ssh/1`), after their people compared a short string.
//!
//! Every message fits [`crate::frame::MAX_STRANGER_FRAME`]. What a person consents to (the key that asks to
//! be let in) comes before the comparison and enters the string; how a device is reached comes after both
//! have said yes. Keys and users are bounded text here; crate `ssh` reads them strictly.

use bytes::Bytes;
use identity::InboxId;

use crate::{Hash, WireError, frame::MAX_STRANGER_FRAME, session::Name};

mod codec;

/// Version of this protocol.
pub const SSH_VERSION: u32 = 1;
/// Longest public key in bytes: RSA of 16,384 bits, and its type.
pub const MAX_KEY: usize = 4096;
/// Longest host key in bytes: RSA of 8,192 bits, and its type.
pub const MAX_HOST_KEY: usize = 1536;
/// Most host keys of one device.
pub const MAX_HOST_KEYS: usize = 8;
/// Longest name of a user in bytes.
pub const MAX_USER: usize = 64;
/// Longest words that explain a refusal, in bytes.
pub const MAX_WORDS: usize = 256;

const TOPIC_CONTEXT: &str = "kinfold 2026-11 ssh ceremony";

/// What a device is here for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To be logged in to (`kin ssh listen`).
    Listen,
    /// To log in (`kin ssh pair`).
    Pair,
    /// Both (`kin ssh sync`).
    Sync,
    /// To see who is here (`kin ssh scan`).
    Look,
}

impl Purpose {
    /// True if these two come to a ceremony.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Listen, Self::Pair) | (Self::Pair, Self::Listen) | (Self::Sync, Self::Sync)
        )
    }

    /// True if this device asks to log in to the other.
    #[must_use]
    pub fn logs_in(self) -> bool {
        matches!(self, Self::Pair | Self::Sync)
    }

    /// True if this device lets the other log in.
    #[must_use]
    pub fn lets_in(self) -> bool {
        matches!(self, Self::Listen | Self::Sync)
    }
}

/// The first message of each side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// [`SSH_VERSION`] of the sender.
    pub version: u32,
    /// What the sender calls itself.
    pub name: Name,
    /// What it is here for.
    pub purpose: Purpose,
    /// Its inbox key.
    pub inbox: InboxId,
    /// The public key of its user, as OpenSSH writes it, without a comment: there if it asks to log in.
    pub key: Option<String>,
}

impl Hello {
    /// What of both hellos enters the commitment and the string, besides the two parties: all of them, as
    /// they were encoded, the TLS client's first.
    #[must_use]
    pub fn topic(client: &Self, server: &Self) -> [u8; 32] {
        let [client, server] = [client, server].map(|hello| Message::Hello(hello.clone()).encode());
        let len = (client.len() as u64).to_be_bytes();
        Hash::derived(TOPIC_CONTEXT, &[&len, &client, &server]).0
    }
}

/// How a device is reached by SSH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reach {
    /// The user to log in as.
    pub user: String,
    /// The port of its SSH server.
    pub port: u16,
    /// Its server's public keys, as OpenSSH writes them, without comments.
    pub host_keys: Vec<String>,
}

/// Why a link ends without keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The person said no.
    Declined,
    /// The two are here for different things.
    OtherPurpose,
    /// A version that the refusing side does not speak.
    OtherVersion,
    /// Too many attempts failed, or it has what it wanted.
    Closed,
    /// The ceremony was broken: a message out of order or out of bounds.
    Broken,
    /// What was agreed to could not be installed.
    Failed,
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// See [`Hello`].
    Hello(Hello),
    /// T3: the TLS client commits to its nonce and the whole transcript.
    Commit([u8; 32]),
    /// T3: the TLS server's nonce.
    Nonce([u8; 32]),
    /// T3: the nonce that was committed to.
    Reveal([u8; 32]),
    /// T3: the TLS server asks about somebody else just now.
    Later,
    /// T3: the TLS server has time now; commit again.
    Ready,
    /// The sender's person said yes.
    Accepted,
    /// The sender ends it.
    Refused {
        /// Why.
        reason: Refusal,
        /// The same in words; may be empty.
        words: String,
    },
    /// Both said yes, and the receiver's key is installed at the sender, which is reached so.
    Reach(Reach),
    /// The sender has written down what it was told, and is done.
    Done,
}

impl Message {
    /// Encodes the message as a frame's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Decodes and checks a frame's payload. A message has one form only.
    ///
    /// # Errors
    /// Says what is malformed or out of bounds.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        if payload.len() > MAX_STRANGER_FRAME {
            return Err(WireError::TooLarge {
                len: payload.len() as u64,
                limit: MAX_STRANGER_FRAME as u64,
            });
        }
        codec::decode(payload)
    }
}
