//! The messages between a TLS handshake and an accepted peer, and those that keep a link and its
//! session together afterwards (channel [`crate::frame::Channel::Session`]).
//!
//! Every message fits [`crate::frame::MAX_STRANGER_FRAME`]. [`Message::decode`] is the only way in:
//! what it returns is within every bound named here. What the messages *mean* is decided in crates
//! `pairing`, `group` and `node`; nothing here trusts anybody.

use bytes::Bytes;
use identity::{DeviceId, InboxId};

use crate::{WireError, device, frame::MAX_STRANGER_FRAME};

mod codec;
mod name;
mod strand;

pub use name::Name;
pub use strand::StrandTag;

/// Version of the session protocol that this code speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// Most members of a session, this device included (rule T7).
pub const MAX_MEMBERS: usize = 64;
/// Most vouches that a session holds.
pub const MAX_VOUCHES: usize = 1024;
/// Most vouches in one message: 64 of at most 230 bytes fit a stranger's frame.
pub const MAX_VOUCHES_SENT: usize = 64;
/// Longest words that explain a refusal or a goodbye, in bytes.
pub const MAX_WORDS: usize = 256;
/// Bytes of one side's first passphrase message: a side byte and a group element (spake2 0.4).
pub const PAKE_LEN: usize = 33;

/// How a device admits those who are not yet members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Its person compares the short authentication string and answers.
    Ask,
    /// Whoever completes the handshake.
    Open,
    /// Whoever knows the passphrase.
    Passphrase,
}

/// What an admission rests on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ground {
    /// A person compared the short authentication string and said yes.
    Person,
    /// The newcomer knew the passphrase.
    Passphrase,
    /// The voucher's session is open. Binds nobody who asks (rule T7: for its own side only).
    Open,
}

/// One device's signed word that another belongs to the session (rule T7).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Vouch {
    /// Who vouches and signs.
    pub voucher: DeviceId,
    /// For whom.
    pub admitted: DeviceId,
    /// What the admitted device calls itself.
    pub name: Name,
    /// What the admission rests on.
    pub ground: Ground,
    /// Ed25519 over what crate `group` says.
    pub signature: [u8; 64],
}

/// First message on a link from each side. The device with the lower id speaks first, and only on
/// the link that it wants to keep (rule T1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// What the sender calls itself.
    pub name: Name,
    /// TCP port on which it listens; 0 for none.
    pub port: u16,
    /// Digest of the topic, bound to this link, so that it tells a stranger nothing.
    pub topic: [u8; 32],
    /// The inbox key.
    pub inbox: InboxId,
    /// How the sender admits.
    pub mode: Mode,
}

/// Why a link ends that could have become one between members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The person said no.
    Declined,
    /// Another topic.
    OtherTopic,
    /// A protocol version that the refusing side does not speak.
    OtherVersion,
    /// The refusing side wants a passphrase and the other has none, or the reverse.
    PassphraseMismatch,
    /// The passphrases differ.
    WrongPassphrase,
    /// Too many attempts failed; no new peer is accepted until a person acts.
    Closed,
    /// The session is full, or too many questions wait already.
    Full,
    /// The ceremony was broken: a message out of order or out of bounds.
    Broken,
}

/// Why a link between members ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// The sender stops: its identity ends with the run.
    Stopping,
    /// Another link between the same devices stays.
    Duplicate,
    /// The receiver broke the protocol.
    Protocol,
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// See [`Hello`].
    Hello(Hello),
    /// Vouches: all that the sender holds after its hello, new ones as they come.
    Vouches {
        /// At most [`MAX_VOUCHES_SENT`].
        vouches: Vec<Vouch>,
        /// True on the last message of those that follow the hello.
        last: bool,
    },
    /// After the other side's vouches: whether they make it a member in the sender's eyes.
    Standing {
        /// True if the sender accepts the receiver without any ceremony.
        known: bool,
    },
    /// T3: the TLS client commits to its nonce and the whole transcript.
    Commit([u8; 32]),
    /// T3: the TLS server's nonce.
    Nonce([u8; 32]),
    /// T3: the nonce that was committed to.
    Reveal([u8; 32]),
    /// T3: the TLS server asks about somebody else just now; commit again when asked to.
    Later,
    /// T3: the TLS server has time now.
    Ready,
    /// T5: first message of the TLS client.
    PakeA([u8; PAKE_LEN]),
    /// T5: first message of the TLS server.
    PakeB([u8; PAKE_LEN]),
    /// T5: key confirmation, client first.
    Confirm([u8; 32]),
    /// The sender accepts the receiver.
    Accepted,
    /// The sender refuses the receiver.
    Refused {
        /// Why.
        reason: Refusal,
        /// The same in words; may be empty.
        words: String,
    },
    /// The link ends.
    Goodbye {
        /// Why.
        reason: Farewell,
    },
    /// The sender lives. No answer; each side sends it when it has sent nothing else for a while.
    Alive,
    /// Between devices that outlive a run; never in a session of `kin sync`.
    Device(device::Message),
    /// The first frame on a strand, each way: to which link it belongs (rule E24).
    Strand(StrandTag),
    /// The number of the next frame on this connection, where it does not follow the one before it.
    Order(u64),
}

impl Message {
    /// Encodes the message as a frame's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Decodes and checks a frame's payload.
    ///
    /// # Errors
    /// Says what is malformed or out of bounds. The link that sent it is not to be trusted further.
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
