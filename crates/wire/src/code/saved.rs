//! What the holder of a code keeps of a join, so that it goes on after a restart.

use bytes::Bytes;
use identity::{InboxId, Secret};
use prost::Message as _;

use super::LookupId;
use crate::{WireError, mail::MailAddress, membership::CodeId, session::Name};

/// A join that is under way, as it is kept in a file of this user's alone. The code itself is not in it.
#[derive(Clone, Debug)]
pub struct SavedCodeJoin {
    /// Which code.
    pub id: CodeId,
    /// Where it was found.
    pub lookup: LookupId,
    /// Proves it.
    pub proof: Secret<[u8; 32]>,
    /// The issuer's inbox key.
    pub inbox: InboxId,
    /// Where letters to the issuer may be left.
    pub mail: Vec<MailAddress>,
    /// What the issuer calls the group, as its person was shown; `None` in what an older one kept.
    pub group_name: Option<Name>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbSaved {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    lookup: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    proof: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    inbox: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    mail: Vec<Bytes>,
    #[prost(string, tag = "6")]
    group_name: String,
}

impl SavedCodeJoin {
    /// The bytes to keep.
    ///
    /// # Errors
    /// If it breaks a bound.
    pub fn encode(&self) -> Result<Secret<Vec<u8>>, WireError> {
        let copied = Bytes::copy_from_slice;
        let mail = self.mail.iter().map(|mail| mail.encode().map(Bytes::from));
        let saved = PbSaved {
            id: copied(&self.id.0),
            lookup: copied(&self.lookup.0),
            proof: copied(self.proof.expose()),
            inbox: copied(&self.inbox.0),
            mail: mail.collect::<Result<_, _>>()?,
            group_name: self
                .group_name
                .as_ref()
                .map(|name| name.as_str().to_owned())
                .unwrap_or_default(),
        };
        Ok(Secret::new(saved.encode_to_vec()))
    }

    /// Reads what was kept.
    ///
    /// # Errors
    /// If it is anything else or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let saved = PbSaved::decode(bytes)?;
        let mail = saved.mail.iter().map(|bytes| MailAddress::decode(bytes));
        Ok(Self {
            id: CodeId(exactly(&saved.id, "id")?),
            lookup: LookupId(exactly(&saved.lookup, "lookup")?),
            proof: Secret::new(exactly(&saved.proof, "proof")?),
            inbox: InboxId(exactly(&saved.inbox, "inbox")?),
            mail: mail.collect::<Result<_, _>>()?,
            group_name: match &*saved.group_name {
                "" => None,
                name => Some(Name::new(name)?),
            },
        })
    }
}

fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::field(field, "wrong length"))
}
