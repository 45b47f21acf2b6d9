//! What devices that outlive a run tell each other besides what a folder needs: who they are on a link, what
//! they hold of a group's membership log, which folders they keep in step over the link, and what they bring to
//! a pairing. Each is the body of [`crate::session::Message::Device`].
//!
//! Groups are named by a [`Tag`], which only those who know the group's id can make, and which is another on
//! each link: a stranger learns nothing by it, not even that two devices share a group.

use bytes::Bytes;
use identity::InboxId;

use crate::{
    Hash,
    code::LookupId,
    membership::{FolderId, GroupId, OperationId},
    session::Name,
};

mod codec;

use codec::encode;
pub(crate) use codec::{PbDevice, decode, out};

/// Version of what devices tell each other.
pub const DEVICE_VERSION: u32 = 1;
/// Most heads that are told of a log. Whoever has more tells the first.
pub const MAX_HEADS: usize = 256;
/// Most operations in one message.
pub const MAX_OPERATIONS_SENT: usize = 32;

/// Longest SSH key in a message, in bytes: RSA of 16,384 bits has 2,750.
pub const MAX_SSH_KEY: usize = 3_000;
/// Most host keys in a message.
pub const MAX_HOST_KEYS: usize = 4;
/// Longest name of a user.
pub const MAX_SSH_USER: usize = 64;

const TAG_CONTEXT: &str = "kinfold 2026-11 group on a link";
const OFFER_CONTEXT: &str = "kinfold 2026-11 pairing offers";

/// Names a group on one link (32 bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(pub [u8; 32]);

impl Tag {
    /// The tag of a group on the link with this exporter.
    #[must_use]
    pub fn new(group: &GroupId, exporter: &[u8; 32]) -> Self {
        Self(Hash::derived(TAG_CONTEXT, &[exporter, &group.0]).0)
    }
}

/// What a link is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The devices share a group, or one of them believes so.
    Member,
    /// Both people run `kin pair` (rule T3).
    Pair,
    /// The sender waits to be admitted by the receiver, after a ceremony that it began.
    Join,
}

/// Whose group two devices that pair share from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Into {
    /// The one that has more than its own device.
    Auto,
    /// The sender's.
    Mine,
    /// The receiver's.
    Yours,
}

/// What one side brings to a pairing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// What it calls itself.
    pub name: Name,
    /// Its inbox key.
    pub inbox: InboxId,
    /// Whose group.
    pub into: Into,
    /// The group that it would admit the other to, if it has one.
    pub group: Option<GroupId>,
    /// Devices in that group, itself included; 0 without a group.
    pub members: u32,
}

impl Offer {
    /// What both sides must see alike of the two offers: it enters the short authentication string.
    #[must_use]
    pub fn digest(client: &Self, server: &Self) -> [u8; 32] {
        let client = encode(&Message::Offer(client.clone()));
        let server = encode(&Message::Offer(server.clone()));
        let len = (client.len() as u64).to_be_bytes();
        Hash::derived(OFFER_CONTEXT, &[&len, &client, &server]).0
    }
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// First from each side; the device with the lower id speaks first, and only on the link that it wants to
    /// keep (rule T1).
    Hello {
        /// [`DEVICE_VERSION`] of the sender.
        version: u32,
        /// TCP port on which it listens; 0 for none.
        port: u16,
        /// What the link is for.
        purpose: Purpose,
    },
    /// The heads of the sender's log of a group. Asks for what lies beyond them.
    Have {
        /// Which group.
        tag: Tag,
        /// At most [`MAX_HEADS`].
        heads: Vec<OperationId>,
    },
    /// Operations of a group's log, each after those it was written on.
    Operations {
        /// Which group.
        tag: Tag,
        /// 1 to [`MAX_OPERATIONS_SENT`], each as it was signed.
        operations: Vec<Bytes>,
    },
    /// All that was asked for was sent; and what the sender's log, as it is then, says of the receiver.
    Sent {
        /// Which group.
        tag: Tag,
        /// True if the receiver belongs to the group.
        member: bool,
    },
    /// The sender keeps a folder in step over this link from now on, and uses this channel for it.
    Open {
        /// The sender's number for it, as in [`crate::frame::Channel::Folder`].
        slot: u8,
        /// Its group.
        tag: Tag,
        /// Which folder.
        folder: FolderId,
    },
    /// The sender does not use the channel any more.
    Shut {
        /// Its number.
        slot: u8,
    },
    /// What the sender brings to a pairing.
    Offer(Offer),
    /// The receiver was admitted: the log of the group follows, as it is asked for by [`Message::Have`].
    Admitted {
        /// The group.
        group: GroupId,
    },
    /// The receiver, which waits for it, was not admitted by the sender, and no ceremony on the local network is under way
    /// in which it could be.
    NotAdmitted,
    /// A sealed envelope, with a letter of the sender's for the receiver.
    Envelope(Bytes),
    /// Asks an issuer for the invitation of a sharing code.
    Lookup {
        /// Derived from the code.
        lookup: LookupId,
    },
    /// The sealed invitation that was asked for; empty if there is none.
    Invitation(Bytes),
    /// Where a member's letters may be left, in its own words ([`crate::mail::Card`]).
    Card(Bytes),
    /// The key by which the sender's user would log in to the receiver; `None` if its person does not want to.
    /// Said once its person has decided about SSH with the receiver, and again when that changes.
    SshKey {
        /// Which time on this link, from 1.
        turn: u32,
        /// One line of at most [`MAX_SSH_KEY`] bytes in OpenSSH's form, unchecked but for being printable ASCII.
        key: Option<String>,
    },
    /// Whether the receiver's user may log in to the sender, and how. Answers [`Message::SshKey`], when what it
    /// says is so.
    SshOpen {
        /// The turn of the key that it answers; 0 for none.
        turn: u32,
        /// Where and how; `None` if it may not.
        server: Option<SshServer>,
    },
}

/// Where a device's SSH server is, and who logs in there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SshServer {
    /// The user's name: 1 to [`MAX_SSH_USER`] bytes, no control characters.
    pub user: String,
    /// TCP port.
    pub port: u16,
    /// Public host keys in OpenSSH's form without comments, 1 to [`MAX_HOST_KEYS`]. Unchecked but for their
    /// length and that they are printable ASCII.
    pub host_keys: Vec<String>,
}
