//! The operations of a group's membership log, and the bytes they are signed as.
//!
//! An operation's body is kept and passed on exactly as its author wrote it; its id is a hash of these
//! bytes, and the signatures are made over that id. [`SignedOperation::parse`] is the only way in:
//! what it returns is within the bounds named here and signed by the keys it names. What operations
//! *mean* together is decided in crate `group`; nothing here trusts anybody.

use std::fmt;

use bytes::Bytes;
use identity::{DeviceId, DeviceKey, InboxId};

use crate::{Hash, WireError, session::Name};

mod codec;
mod strict;

/// Longest operation in bytes, signatures included.
pub const MAX_OPERATION: usize = 8 * 1024;
/// Most heads an operation is written on.
pub const MAX_PARENTS: usize = 32;
/// Most folders in the scope of one admission (rule T14).
pub const MAX_SCOPE: usize = 64;

const OPERATION_CONTEXT: &str = "kinfold 2026-11 membership operation";
const NEW_KEY_CONTEXT: &str = "kinfold 2026-11 membership new key";

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

id! {
    /// An operation's id: a hash of its signed bytes (32 bytes).
    OperationId, 32
}
id! {
    /// A group's id: that of the operation which created it, so that nobody can make another beginning.
    GroupId, 32
}
id! {
    /// A folder's id: 32 random bytes.
    FolderId, 32
}
id! {
    /// Which sharing code an admission spent (rule T18).
    CodeId, 16
}

/// What a member may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Stores ciphertext, reads nothing.
    Keeper,
    /// Reads folders.
    Reader,
    /// Reads and changes folders.
    Writer,
    /// A writer that also decides who belongs to the group and which folders it has.
    Admin,
}

impl Role {
    /// Its number on the wire.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Admin => 1,
            Self::Writer => 2,
            Self::Reader => 3,
            Self::Keeper => 4,
        }
    }

    /// # Errors
    /// If no role has this number.
    pub(crate) fn from_number(number: u8) -> Result<Self, WireError> {
        match number {
            1 => Ok(Self::Admin),
            2 => Ok(Self::Writer),
            3 => Ok(Self::Reader),
            4 => Ok(Self::Keeper),
            _ => Err(WireError::field("role", "unknown")),
        }
    }
}

/// Which folders of the group an admission is for (rule T14).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All, those that are added later too.
    All,
    /// These: at most [`MAX_SCOPE`], ascending, none twice.
    List(Vec<FolderId>),
}

/// By which ceremony a device was admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ceremony {
    /// Two people compared a short authentication string (rule T3).
    Lan,
    /// A pairing token (rule T4).
    Token,
    /// A sharing code (rule T16).
    Code(CodeId),
    /// A person picked the device when a new group was made out of an old one (rule T11).
    Rescue,
}

/// What one operation does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Begins a group, with its author as its first admin.
    Create {
        /// 32 random bytes: two groups of one device differ.
        nonce: [u8; 32],
        /// The author's inbox key.
        inbox: InboxId,
        /// What the author calls itself.
        name: Name,
    },
    /// Makes a device a member.
    Admit {
        /// Whom.
        device: DeviceId,
        /// Its inbox key.
        inbox: InboxId,
        /// What it calls itself.
        name: Name,
        /// What it may do.
        role: Role,
        /// In which folders.
        folders: Scope,
        /// How it proved who it is.
        ceremony: Ceremony,
    },
    /// Gives a member another role.
    SetRole {
        /// Whom.
        device: DeviceId,
        /// The role from now on.
        role: Role,
    },
    /// Puts a device out, with every key of its chain (rule T13).
    Remove {
        /// Any key of it.
        device: DeviceId,
    },
    /// The author gives its place to a new key, which signs too (rule T13).
    Rotate {
        /// The new device key.
        device: DeviceId,
        /// The new inbox key.
        inbox: InboxId,
    },
    /// The author leaves the group.
    Leave,
    /// The group gets a folder.
    FolderAdded {
        /// Which.
        folder: FolderId,
        /// What it is called.
        name: Name,
    },
    /// The group loses a folder.
    FolderRemoved {
        /// Which.
        folder: FolderId,
    },
    /// The group has a new key from now on.
    KeyEpoch {
        /// One more than the highest epoch in this operation's past.
        number: u64,
        /// What binds the key that is meant, and tells nothing about it.
        commitment: [u8; 32],
    },
    /// Gives a device another name.
    Rename {
        /// Whom.
        device: DeviceId,
        /// The name from now on.
        name: Name,
    },
}

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// The group it belongs to; `None` in the operation that creates one.
    pub group: Option<GroupId>,
    /// Who signs.
    pub author: DeviceId,
    /// One more than the highest of the author's own operations in this one's past; 1 for the first.
    pub sequence: u32,
    /// The heads it was written on: at most [`MAX_PARENTS`], ascending, none twice.
    pub parents: Vec<OperationId>,
    /// What it does.
    pub action: Action,
}

/// An operation with the bytes it was signed as, and its id. The signatures hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedOperation {
    operation: Operation,
    bytes: Bytes,
    id: OperationId,
}

impl Operation {
    /// Signs the operation. A rotation needs [`Operation::sign_rotation`].
    ///
    /// # Errors
    /// If a bound is broken, or the key is not the author's.
    pub fn sign(&self, key: &DeviceKey) -> Result<SignedOperation, WireError> {
        self.seal(key, None)
    }

    /// Signs a rotation by the old key and the new one (rule T13).
    ///
    /// # Errors
    /// If a bound is broken, or a key is not the one that the operation names.
    pub fn sign_rotation(
        &self,
        key: &DeviceKey,
        new_key: &DeviceKey,
    ) -> Result<SignedOperation, WireError> {
        self.seal(key, Some(new_key))
    }

    fn seal(
        &self,
        key: &DeviceKey,
        new_key: Option<&DeviceKey>,
    ) -> Result<SignedOperation, WireError> {
        let body = codec::encode(self);
        let id = id_of(&body);
        let new_signature = new_key.map(|key| key.sign(&new_key_digest(&id).0));
        let bytes = codec::envelope(body, &key.sign(&id.0), new_signature.as_ref());
        // What this device sends is held to what it would take in.
        SignedOperation::parse(bytes)
    }
}

impl SignedOperation {
    /// Parses an operation, and checks its bounds and signatures.
    ///
    /// # Errors
    /// Says which field breaks which rule.
    pub fn parse(bytes: Bytes) -> Result<Self, WireError> {
        if bytes.len() > MAX_OPERATION {
            let len = bytes.len() as u64;
            return Err(WireError::TooLarge { len, limit: MAX_OPERATION as u64 });
        }
        let codec::Opened { body, signature, new_signature } = codec::open(bytes.clone())?;
        let id = id_of(&body);
        let operation = codec::decode(body)?;
        if !operation.author.verify(&id.0, &signature) {
            return Err(WireError::field("signature", "not the author's"));
        }
        match (&operation.action, new_signature) {
            (Action::Rotate { device, .. }, Some(signature)) => {
                if !device.verify(&new_key_digest(&id).0, &signature) {
                    return Err(WireError::field("new_signature", "not the new key's"));
                }
            }
            (Action::Rotate { .. }, None) => {
                return Err(WireError::field("new_signature", "missing"));
            }
            (_, Some(_)) => return Err(WireError::field("new_signature", "only for a rotation")),
            (_, None) => {}
        }
        Ok(Self { operation, bytes, id })
    }

    /// What it says.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The bytes to store and to send.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> OperationId {
        self.id
    }

    /// The group it belongs to: its own id if it creates one.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.operation.group.unwrap_or(GroupId(self.id.0))
    }
}

fn id_of(body: &[u8]) -> OperationId {
    OperationId(Hash::derived(OPERATION_CONTEXT, &[body]).0)
}

/// What a new key signs: never the bytes that an author signs, so that a consent to be rotated to is
/// nothing else.
fn new_key_digest(id: &OperationId) -> Hash {
    Hash::derived(NEW_KEY_CONTEXT, &[&id.0])
}
