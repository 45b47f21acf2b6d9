//! Sharing codes (rules T16 and T17): the code, what is derived from it, the sealed invitation that it opens,
//! and the messages between who holds one and its issuer.
//!
//! A code is all that its holder needs to know, and its issuer alone judges it. Crate `pairing` (`code`)
//! says how; nothing here trusts anybody.

use blake3::Hasher;
use bytes::Bytes;
use identity::{
    CODE_LEN, CodeTextError, DeviceId, InboxId, Secret, code_from_text, code_to_link, code_to_text,
};

use crate::{
    Hash, WireError,
    membership::{CodeId, GroupId},
    session::Name,
};

mod codec;
mod invitation;
mod saved;

pub use crate::relay::LookupId;
pub use invitation::{Invitation, MAX_INVITATION};
pub use saved::SavedCodeJoin;

const VERSION: u8 = 1;
const ISSUER_CONTEXT: &str = "kinfold 2026-11 code issuer";

/// A sharing code.
#[derive(Clone, Debug)]
pub struct Code {
    /// Version, secret, and the hash of the issuer.
    bytes: Secret<[u8; CODE_LEN]>,
}

/// Why a text is no sharing code. Says nothing of the code's contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// It is no text of one.
    #[error(transparent)]
    Text(#[from] CodeTextError),
    /// It is one of a later format.
    #[error("this sharing code was made by a newer kin (format {0}); update kin on this device")]
    Newer(u8),
    /// It is one of no format.
    #[error("this sharing code is malformed")]
    Malformed,
}

/// What follows from a code. Each half is of no use without the others to who has only one.
#[derive(Clone, Debug)]
pub struct CodeKeys {
    /// Names the code in the membership log (rule T18).
    pub id: CodeId,
    /// Where the invitation is.
    pub lookup: LookupId,
    /// Opens the invitation.
    pub seal: Secret<[u8; 32]>,
    /// Proves the code; never sent.
    pub proof: Secret<[u8; 32]>,
}

/// What stands for a device in a code: 16 bytes of a hash of its id.
#[must_use]
pub fn issuer_hash(device: &DeviceId) -> [u8; 16] {
    Hash::derived(ISSUER_CONTEXT, &[&device.0]).short()
}

impl Code {
    /// The code with this secret (16 random bytes) of this issuer.
    #[must_use]
    pub fn new(secret: &Secret<[u8; 16]>, issuer: &DeviceId) -> Self {
        let mut bytes = Secret::new([VERSION; CODE_LEN]);
        bytes.expose_mut()[1..17].copy_from_slice(secret.expose());
        bytes.expose_mut()[17..].copy_from_slice(&issuer_hash(issuer));
        Self { bytes }
    }

    /// Reads the text form or the link, and the relay that a link names (text from outside).
    ///
    /// # Errors
    /// Says what the text is instead.
    pub fn parse(text: &str) -> Result<(Self, Option<String>), CodeError> {
        let read = code_from_text(text)?;
        match read.bytes.expose()[0] {
            VERSION => Ok((Self { bytes: read.bytes }, read.relay)),
            0 => Err(CodeError::Malformed),
            newer => Err(CodeError::Newer(newer)),
        }
    }

    /// The text form, `kc1…`.
    #[must_use]
    pub fn to_text(&self) -> Secret<String> {
        code_to_text(self.bytes.expose())
    }

    /// The link, `kin:join/kc1…`, with the relay where the code is looked up, if there is one.
    #[must_use]
    pub fn to_link(&self, relay: Option<&str>) -> Secret<String> {
        code_to_link(self.bytes.expose(), relay)
    }

    /// True if the device issued it, as far as the code itself says: nobody else's word counts (rule T16).
    #[must_use]
    pub fn is_issued_by(&self, device: &DeviceId) -> bool {
        self.bytes.expose()[17..] == issuer_hash(device)
    }

    /// What follows from it.
    #[must_use]
    pub fn keys(&self) -> CodeKeys {
        let bytes = &self.bytes.expose()[..];
        let derived = |context| Hash::derived(context, &[bytes]);
        CodeKeys {
            id: CodeId(derived("kinfold 2026-11 code id").short()),
            lookup: LookupId(derived("kinfold 2026-11 code lookup").0),
            seal: Secret::new(derived("kinfold 2026-11 code seal").0),
            proof: Secret::new(derived("kinfold 2026-11 code proof").0),
        }
    }
}

/// How a hello came: what else it is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way<'a> {
    /// Over the link that has this exporter.
    Link(&'a [u8; 32]),
    /// In a sealed envelope.
    Mail,
}

/// Who greets whom with a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Greeting<'a> {
    /// Which code.
    pub lookup: &'a LookupId,
    /// Its issuer.
    pub issuer: &'a DeviceId,
    /// Who holds it.
    pub joiner: &'a DeviceId,
    /// The holder's inbox key.
    pub inbox: &'a InboxId,
}

impl Greeting<'_> {
    /// What proves the code (rule T17). A link's exporter makes it another one on each link.
    #[must_use]
    pub fn mac(&self, proof: &Secret<[u8; 32]>, way: Way<'_>) -> [u8; 32] {
        *self.hash(proof, way).as_bytes()
    }

    /// True if this is what proves the code; takes as long for any other.
    #[must_use]
    pub fn proves(&self, proof: &Secret<[u8; 32]>, way: Way<'_>, mac: &[u8; 32]) -> bool {
        self.hash(proof, way) == blake3::Hash::from_bytes(*mac)
    }

    fn hash(&self, proof: &Secret<[u8; 32]>, way: Way<'_>) -> blake3::Hash {
        let mut hasher = Hasher::new_keyed(proof.expose());
        hasher.update(b"kinfold 2026-11 code hello");
        for part in [&self.lookup.0, &self.issuer.0, &self.joiner.0, &self.inbox.0] {
            hasher.update(part);
        }
        match way {
            Way::Mail => hasher.update(&[0]),
            Way::Link(exporter) => hasher.update(&[1]).update(exporter),
        };
        hasher.finalize()
    }
}

/// Holder to issuer: lets itself in. The holder's device id is the letter's author.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Which code.
    pub lookup: LookupId,
    /// The holder's inbox key.
    pub inbox: InboxId,
    /// What the holder calls itself.
    pub name: Name,
    /// [`Greeting::mac`].
    pub mac: [u8; 32],
}

/// Why a code lets nobody in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// Its time is over.
    Expired,
    /// As many devices as it is for have used it.
    UsedUp,
    /// Its issuer took it back, or may not let anybody in any more.
    Revoked,
    /// Its issuer does not know it.
    Unknown,
    /// The group does not have the folder any more.
    FolderGone,
    /// Its issuer's person said no.
    Declined,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Expired,
        Self::UsedUp,
        Self::Revoked,
        Self::Unknown,
        Self::FolderGone,
        Self::Declined,
    ];

    /// Its stable word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::UsedUp => "used_up",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
            Self::FolderGone => "folder_gone",
            Self::Declined => "declined",
        }
    }
}

/// Why a hello has no answer yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// The issuer's person is asked.
    Asked,
    /// The issuer's state looks restored, and its person has to say that codes go on (rule T18).
    Suspended,
}

/// A message about a code, as the body of a letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// The holder lets itself in.
    Hello(Hello),
    /// Issuer to holder: the admission is written and durable. The log travels over a link.
    Admitted {
        /// By which code.
        lookup: LookupId,
        /// The group.
        group: GroupId,
    },
    /// Issuer to holder: nothing comes of it.
    Refused {
        /// Which code.
        lookup: LookupId,
        /// Why.
        why: Refusal,
    },
    /// Issuer to holder: not yet.
    Waits {
        /// Which code.
        lookup: LookupId,
        /// For what.
        why: Wait,
    },
}

impl Message {
    /// The number of its kind in a letter.
    #[must_use]
    pub fn kind(&self) -> u32 {
        match self {
            Self::Hello(_) => 6,
            Self::Admitted { .. } => 7,
            Self::Refused { .. } => 8,
            Self::Waits { .. } => 9,
        }
    }

    /// True if letters of this kind are about codes.
    #[must_use]
    pub fn has_kind(kind: u32) -> bool {
        (6..=9).contains(&kind)
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

#[cfg(test)]
#[path = "code/tests.rs"]
mod tests;
