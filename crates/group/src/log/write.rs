//! Writing: the next operation of a device, and a new group out of an old one.

use identity::{DeviceId, DeviceKey, InboxId};
use wire::{
    WireError,
    membership::{
        Action, Ceremony, GroupId, MAX_PARENTS, Operation, OperationId, Role, SignedOperation,
    },
    session::Name,
};

use super::{
    judge::Verdict,
    manifest::{Manifest, Member},
    past::Past,
    store::{Log, LogError},
};

/// Why an operation is not written. Others would take no notice of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The author does not belong to the group.
    #[error("this device does not belong to the group")]
    NotMember,
    /// The author is no admin.
    #[error("only an admin of the group may do this")]
    NotAdmin,
    /// The device it speaks of does not belong to the group.
    #[error("that device does not belong to the group")]
    NoSuchMember,
    /// The device is a member already.
    #[error("that device belongs to the group already")]
    AlreadyMember,
    /// A device does not remove itself.
    #[error("a device does not remove itself: it leaves")]
    Itself,
    /// The group has the folder already, or does not have it.
    #[error("the group has that folder already, or does not have it")]
    Folder,
    /// A group is created on its own, not in a log.
    #[error("a group has one beginning")]
    Create,
    /// The log would not take it.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It breaks a bound of its encoding.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Log {
    /// The next operation of a device, written on the present heads, to be signed by it, made durable,
    /// inserted here, and only then sent (rule T12).
    ///
    /// # Errors
    /// If it would have no effect, with the reason.
    pub fn draft(&mut self, author: DeviceId, action: Action) -> Result<Operation, WriteError> {
        let manifest = self.manifest();
        permit(&manifest, &author, &action)?;
        let parents = self.parents(&author, &manifest);
        let mut past = Past::default();
        for at in parents.iter().filter_map(|id| self.number(id)) {
            past.join(&self.facts.nodes[at].past);
            past.insert(at);
        }
        let sequence = self.facts.last_sequence(&author, &past) + 1;
        let operation = Operation { group: Some(self.group), author, sequence, parents, action };
        self.check(&operation)?;
        Ok(operation)
    }

    /// The number of the key epoch that comes next.
    #[must_use]
    pub fn next_epoch(&self) -> u64 {
        let mut past = Past::default();
        (0..self.len()).for_each(|at| past.insert(at));
        self.last_epoch(&past).saturating_add(1)
    }

    /// The heads to write on. What came too late from devices that were removed is not named, so that
    /// they cannot fill the past of everybody's operations; the author's own last operation always is.
    fn parents(&mut self, author: &DeviceId, manifest: &Manifest) -> Vec<OperationId> {
        let mut own: Vec<usize> = match self.facts.by_key.get(author) {
            Some(key) => self.facts.keys[*key].wrote.clone(),
            None => Vec::new(),
        };
        let mut before = Past::default();
        own.iter().for_each(|at| before.join(&self.facts.nodes[*at].past));
        own.retain(|at| !before.has(*at));
        let verdicts = self.verdicts().to_vec();
        let late = |at: usize| {
            let node = &self.facts.nodes[at];
            verdicts.get(at) == Some(&Some(Verdict::Void))
                && !manifest.is_member(&node.signed.operation().author)
        };
        let holds_last = |at: usize| {
            let past = &self.facts.nodes[at].past;
            own.iter().any(|own| *own == at || past.has(*own))
        };
        let mut heads: Vec<(bool, bool, OperationId)> = self
            .heads()
            .into_iter()
            .filter_map(|id| {
                let at = self.number(&id)?;
                Some((!holds_last(at), late(at), id))
            })
            .collect();
        heads.sort_unstable();
        let some_are_good = heads.iter().any(|(_, late, _)| !late);
        heads.retain(|(foreign, late, _)| !foreign || !late || !some_are_good);
        let mut parents: Vec<OperationId> =
            heads.into_iter().take(MAX_PARENTS).map(|(_, _, id)| id).collect();
        parents.sort_unstable();
        parents
    }
}

/// Whether a device may do that now, and whether it would change anything.
fn permit(manifest: &Manifest, author: &DeviceId, action: &Action) -> Result<(), WriteError> {
    if !manifest.is_member(author) {
        return Err(WriteError::NotMember);
    }
    let own = match action {
        Action::Leave | Action::Rotate { .. } => true,
        Action::Rename { device, .. } => device == author,
        _ => false,
    };
    if !own && !manifest.is_admin(author) {
        return Err(WriteError::NotAdmin);
    }
    let member = |device| match manifest.is_member(device) {
        true => Ok(()),
        false => Err(WriteError::NoSuchMember),
    };
    match action {
        Action::Create { .. } => Err(WriteError::Create),
        Action::Admit { device, role, folders, ceremony, .. } => {
            match manifest.members.get(device) {
                // A second code may give a member more; nothing else admits anybody twice.
                Some(member)
                    if !matches!(ceremony, Ceremony::Code(_))
                        || (*role <= member.role && *folders == member.folders) =>
                {
                    Err(WriteError::AlreadyMember)
                }
                _ => Ok(()),
            }
        }
        Action::Remove { device } if device == author => Err(WriteError::Itself),
        Action::Remove { device }
        | Action::SetRole { device, .. }
        | Action::Rename { device, .. } => member(device),
        Action::FolderAdded { folder, .. } if manifest.folders.contains_key(folder) => {
            Err(WriteError::Folder)
        }
        Action::FolderRemoved { folder } if !manifest.folders.contains_key(folder) => {
            Err(WriteError::Folder)
        }
        _ => Ok(()),
    }
}

/// Begins a group.
///
/// # Errors
/// If the encoding refuses it.
pub fn create(
    key: &DeviceKey,
    inbox: InboxId,
    name: Name,
    nonce: [u8; 32],
) -> Result<Log, WriteError> {
    let action = Action::Create { nonce, inbox, name };
    let operation =
        Operation { group: None, author: key.id(), sequence: 1, parents: Vec::new(), action };
    let signed = operation.sign(key)?;
    let mut log = Log::new(GroupId(signed.id().0));
    log.insert(signed)?;
    Ok(log)
}

/// Begins a new group with the folders of an old one and the devices that a person picked, each with a
/// role (rule T11: when no admin is left). They need not be members of the old group any more. `me` is
/// the author as the new group shall know it.
///
/// Every device has to be asked whether it wants to go along: nothing of the old group binds it.
///
/// # Errors
/// If a device was never heard of in the old group, or a bound is broken.
pub fn rescue(
    key: &DeviceKey,
    me: (InboxId, Name),
    nonce: [u8; 32],
    old: &Manifest,
    picked: &[(DeviceId, Role)],
) -> Result<Log, WriteError> {
    let mut log = create(key, me.0, me.1, nonce)?;
    let mut write = |action: Action| -> Result<SignedOperation, WriteError> {
        let signed = log.draft(key.id(), action)?.sign(key)?;
        log.insert(signed.clone())?;
        Ok(signed)
    };
    for (folder, about) in &old.folders {
        write(Action::FolderAdded { folder: *folder, name: about.name.clone() })?;
    }
    for (device, role) in picked.iter().filter(|(device, _)| *device != key.id()) {
        let Member { inbox, name, folders, .. } = old
            .members
            .get(device)
            .or_else(|| old.former.get(device).map(|former| &former.was))
            .ok_or(WriteError::NoSuchMember)?
            .clone();
        write(Action::Admit {
            device: *device,
            inbox,
            name,
            role: *role,
            folders,
            ceremony: Ceremony::Rescue,
        })?;
    }
    Ok(log)
}
