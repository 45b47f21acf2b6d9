//! The protobuf form of [`super::Operation`], and the checks that stand between the two.

use bytes::Bytes;
use identity::{DeviceId, InboxId};
use prost::Message as _;

use super::{
    Action, Ceremony, CodeId, FolderId, GroupId, MAX_PARENTS, MAX_SCOPE, Operation, OperationId,
    Role, Scope, strict,
};
use crate::{WireError, session::Name};

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

/// Field numbers of actions; one that is not known here is refused in words of its own.
const ACTIONS: std::ops::Range<u32> = 8..32;

#[derive(Clone, PartialEq, prost::Message)]
struct PbSigned {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    signature: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    new_signature: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbOperation {
    #[prost(bytes = "bytes", tag = "1")]
    group: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    author: Bytes,
    #[prost(uint32, tag = "3")]
    sequence: u32,
    #[prost(bytes = "bytes", tag = "4")]
    parents: Bytes,
    #[prost(oneof = "PbAction", tags = "8, 9, 10, 11, 12, 13, 14, 15, 16, 17")]
    action: Option<PbAction>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum PbAction {
    #[prost(message, tag = "8")]
    Create(PbCreate),
    #[prost(message, tag = "9")]
    Admit(PbAdmit),
    #[prost(message, tag = "10")]
    SetRole(PbDevice),
    #[prost(message, tag = "11")]
    Remove(PbDevice),
    #[prost(message, tag = "12")]
    Rotate(PbDevice),
    #[prost(message, tag = "13")]
    Leave(PbNothing),
    #[prost(message, tag = "14")]
    FolderAdded(PbFolder),
    #[prost(message, tag = "15")]
    FolderRemoved(PbFolder),
    #[prost(message, tag = "16")]
    KeyEpoch(PbEpoch),
    #[prost(message, tag = "17")]
    Rename(PbDevice),
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbNothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct PbCreate {
    #[prost(bytes = "bytes", tag = "1")]
    nonce: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    inbox: Bytes,
    #[prost(string, tag = "3")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbAdmit {
    #[prost(bytes = "bytes", tag = "1")]
    device: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    inbox: Bytes,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(uint32, tag = "4")]
    role: u32,
    #[prost(bool, tag = "5")]
    all: bool,
    #[prost(bytes = "bytes", tag = "6")]
    folders: Bytes,
    #[prost(uint32, tag = "7")]
    ceremony: u32,
    #[prost(bytes = "bytes", tag = "8")]
    code: Bytes,
}

/// What is said of one device: each action uses some of the fields.
#[derive(Clone, PartialEq, prost::Message)]
struct PbDevice {
    #[prost(bytes = "bytes", tag = "1")]
    device: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    inbox: Bytes,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(uint32, tag = "4")]
    role: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbFolder {
    #[prost(bytes = "bytes", tag = "1")]
    folder: Bytes,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbEpoch {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    commitment: Bytes,
}

fn copied(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(super) fn encode(operation: &Operation) -> Bytes {
    let about = |device: &DeviceId| PbDevice { device: copied(&device.0), ..PbDevice::default() };
    let named = |name: &Name| name.as_str().to_owned();
    let action = match &operation.action {
        Action::Create { nonce, inbox, name } => PbAction::Create(PbCreate {
            nonce: copied(nonce),
            inbox: copied(&inbox.0),
            name: named(name),
        }),
        Action::Admit { device, inbox, name, role, folders, ceremony } => {
            let (all, list): (bool, &[FolderId]) = match folders {
                Scope::All => (true, &[]),
                Scope::List(list) => (false, list),
            };
            let (ceremony, code) = match ceremony {
                Ceremony::Lan => (1, Bytes::new()),
                Ceremony::Token => (2, Bytes::new()),
                Ceremony::Code(code) => (3, copied(&code.0)),
                Ceremony::Rescue => (4, Bytes::new()),
            };
            PbAction::Admit(PbAdmit {
                device: copied(&device.0),
                inbox: copied(&inbox.0),
                name: named(name),
                role: u32::from(role.number()),
                all,
                folders: list.iter().flat_map(|folder| folder.0).collect::<Vec<_>>().into(),
                ceremony,
                code,
            })
        }
        Action::SetRole { device, role } => {
            PbAction::SetRole(PbDevice { role: u32::from(role.number()), ..about(device) })
        }
        Action::Remove { device } => PbAction::Remove(about(device)),
        Action::Rotate { device, inbox } => {
            PbAction::Rotate(PbDevice { inbox: copied(&inbox.0), ..about(device) })
        }
        Action::Leave => PbAction::Leave(PbNothing {}),
        Action::FolderAdded { folder, name } => {
            PbAction::FolderAdded(PbFolder { folder: copied(&folder.0), name: named(name) })
        }
        Action::FolderRemoved { folder } => {
            PbAction::FolderRemoved(PbFolder { folder: copied(&folder.0), name: String::new() })
        }
        Action::KeyEpoch { number, commitment } => {
            PbAction::KeyEpoch(PbEpoch { number: *number, commitment: copied(commitment) })
        }
        Action::Rename { device, name } => {
            PbAction::Rename(PbDevice { name: named(name), ..about(device) })
        }
    };
    PbOperation {
        group: operation.group.map(|group| copied(&group.0)).unwrap_or_default(),
        author: copied(&operation.author.0),
        sequence: operation.sequence,
        parents: operation.parents.iter().flat_map(|id| id.0).collect::<Vec<_>>().into(),
        action: Some(action),
    }
    .encode_to_vec()
    .into()
}

pub(super) fn envelope(
    body: Bytes,
    signature: &[u8; 64],
    new_signature: Option<&[u8; 64]>,
) -> Bytes {
    let new_signature = new_signature.map(|bytes| copied(bytes)).unwrap_or_default();
    PbSigned { body, signature: copied(signature), new_signature }.encode_to_vec().into()
}

/// What an envelope holds.
pub(super) struct Opened {
    /// What is signed.
    pub(super) body: Bytes,
    /// The author's signature.
    pub(super) signature: [u8; 64],
    /// The new key's, where there is one.
    pub(super) new_signature: Option<[u8; 64]>,
}

pub(super) fn open(bytes: Bytes) -> Result<Opened, WireError> {
    strict::fields(&bytes)?;
    let signed = PbSigned::decode(bytes)?;
    let signature = exactly(&signed.signature, "signature")?;
    let new_signature = match &signed.new_signature {
        none if none.is_empty() => None,
        some => Some(exactly(some, "new_signature")?),
    };
    Ok(Opened { body: signed.body, signature, new_signature })
}

pub(super) fn decode(body: Bytes) -> Result<Operation, WireError> {
    let fields = strict::fields(&body)?;
    let mut actions = fields.iter().filter(|(number, _)| ACTIONS.contains(number));
    let (Some((_, contents)), None) = (actions.next(), actions.next()) else {
        return Err(WireError::field("action", "not exactly one"));
    };
    strict::fields(contents)?;
    let pb = PbOperation::decode(body)?;
    let action = match pb.action {
        Some(action) => action_in(action)?,
        None => return Err(WireError::field("action", "unknown to this version")),
    };
    let creates = matches!(action, Action::Create { .. });
    let group = match &pb.group {
        none if none.is_empty() && creates => None,
        _ if creates => return Err(WireError::field("group", "named by its own beginning")),
        some => Some(GroupId(exactly(some, "group")?)),
    };
    let parents = list(&pb.parents, MAX_PARENTS, "parents")?.into_iter().map(OperationId).collect();
    let operation = Operation {
        group,
        author: DeviceId(exactly(&pb.author, "author")?),
        sequence: pb.sequence,
        parents,
        action,
    };
    if operation.sequence == 0 || creates && operation.sequence != 1 {
        return Err(WireError::field("sequence", "out of range"));
    }
    if operation.parents.is_empty() != creates {
        return Err(WireError::field("parents", "none but for the operation that creates a group"));
    }
    Ok(operation)
}

fn action_in(action: PbAction) -> Result<Action, WireError> {
    Ok(match action {
        PbAction::Create(create) => Action::Create {
            nonce: exactly(&create.nonce, "nonce")?,
            inbox: inbox_in(&create.inbox)?,
            name: Name::new(&create.name)?,
        },
        PbAction::Admit(admit) => admit_in(&admit)?,
        PbAction::SetRole(about) => {
            Action::SetRole { device: device_in(&about.device)?, role: role_in(about.role)? }
        }
        PbAction::Remove(about) => Action::Remove { device: device_in(&about.device)? },
        PbAction::Rotate(about) => {
            Action::Rotate { device: device_in(&about.device)?, inbox: inbox_in(&about.inbox)? }
        }
        PbAction::Leave(PbNothing {}) => Action::Leave,
        PbAction::FolderAdded(added) => Action::FolderAdded {
            folder: FolderId(exactly(&added.folder, "folder")?),
            name: Name::new(&added.name)?,
        },
        PbAction::FolderRemoved(removed) => {
            Action::FolderRemoved { folder: FolderId(exactly(&removed.folder, "folder")?) }
        }
        PbAction::KeyEpoch(epoch) => Action::KeyEpoch {
            number: epoch.number,
            commitment: exactly(&epoch.commitment, "commitment")?,
        },
        PbAction::Rename(about) => {
            Action::Rename { device: device_in(&about.device)?, name: Name::new(&about.name)? }
        }
    })
}

fn admit_in(admit: &PbAdmit) -> Result<Action, WireError> {
    let list = list(&admit.folders, MAX_SCOPE, "folders")?;
    let folders = match (admit.all, list.is_empty()) {
        (true, true) => Scope::All,
        (true, false) => return Err(WireError::field("folders", "both all and a list")),
        (false, _) => Scope::List(list.into_iter().map(FolderId).collect()),
    };
    let ceremony = match (admit.ceremony, admit.code.is_empty()) {
        (1, true) => Ceremony::Lan,
        (2, true) => Ceremony::Token,
        (3, _) => Ceremony::Code(CodeId(exactly(&admit.code, "code")?)),
        (4, true) => Ceremony::Rescue,
        (1 | 2 | 4, false) => return Err(WireError::field("code", "only for a sharing code")),
        _ => return Err(WireError::field("ceremony", "unknown")),
    };
    Ok(Action::Admit {
        device: device_in(&admit.device)?,
        inbox: inbox_in(&admit.inbox)?,
        name: Name::new(&admit.name)?,
        role: role_in(admit.role)?,
        folders,
        ceremony,
    })
}

fn role_in(role: u32) -> Result<Role, WireError> {
    Role::from_number(u8::try_from(role).unwrap_or_default())
}

fn device_in(bytes: &[u8]) -> Result<DeviceId, WireError> {
    exactly(bytes, "device").map(DeviceId)
}

fn inbox_in(bytes: &[u8]) -> Result<InboxId, WireError> {
    let inbox = exactly(bytes, "inbox")?;
    if inbox == [0; 32] {
        return Err(WireError::field("inbox", "all zero"));
    }
    Ok(InboxId(inbox))
}

fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::field(field, "wrong length"))
}

/// Up to `most` values of 32 bytes one after another, ascending, none twice.
fn list(bytes: &[u8], most: usize, field: &'static str) -> Result<Vec<[u8; 32]>, WireError> {
    let (values, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || values.len() > most {
        return Err(WireError::field(field, "too many, or not whole"));
    }
    if !values.is_sorted_by(|a, b| a < b) {
        return Err(WireError::field(field, "unsorted, or one comes twice"));
    }
    Ok(values.to_vec())
}
