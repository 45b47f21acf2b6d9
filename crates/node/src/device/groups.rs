//! The groups that this device belongs to: their logs in memory, as the store has them, and what they come to.

mod claims;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use group::log::{self, Gone, Log, LogError, Manifest, Member, WriteError};
use identity::{DeviceId, DeviceKey};
use tokio::sync::watch;
use wire::{
    device::Tag,
    membership::{Action, CodeId, FolderId, GroupId, OperationId, Role, SignedOperation},
    session::Name,
};

use super::{
    hub::wall,
    store::{Store, StoreError},
};
use crate::api::Failure;

/// How long an operation waits for those it was written on, in seconds: as long as mail waits.
const WAIT: i64 = 30 * 24 * 3600;
/// One group.
#[derive(Debug)]
pub(super) struct Group {
    log: Log,
    /// What this device calls it.
    pub(super) label: String,
    /// Operations that wait for others, by who brought them, as the store has them.
    waiting: BTreeSet<(DeviceId, OperationId)>,
    manifest: watch::Sender<Arc<Manifest>>,
}

impl Group {
    fn new(mut log: Log, label: String) -> Self {
        let manifest = watch::Sender::new(Arc::new(log.manifest()));
        Self { log, label, waiting: BTreeSet::new(), manifest }
    }

    /// Keeps in the store which operations wait for others: they came by mail, and nobody sends them again.
    fn keep_waiting(&mut self, store: &Store) -> Result<(), StoreError> {
        let group = self.log.group();
        let mut present = BTreeSet::new();
        for (by, signed) in self.log.brought().filter_map(|(by, signed)| Some((by?, signed))) {
            if !self.waiting.contains(&(by, signed.id())) {
                store.put_waiting_operation(&group, (&by, signed), wall())?;
            }
            present.insert((by, signed.id()));
        }
        for gone in self.waiting.difference(&present) {
            store.remove_waiting_operation(&group, gone)?;
        }
        self.waiting = present;
        Ok(())
    }

    /// What the log comes to.
    pub(super) fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.manifest.borrow())
    }

    /// The same, as it changes.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Manifest>> {
        self.manifest.subscribe()
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// The operation that put a device out, as far as it may know of it. Whom somebody let in who was out already
    /// may know what that one may, so that it sees why it is no member.
    pub(super) fn end_of(&self, device: &DeviceId) -> Option<OperationId> {
        let manifest = self.manifest.borrow();
        let mut device = *device;
        for _ in 0..=manifest.former.len() {
            match manifest.former.get(&device)?.why {
                Gone::Removed { operation, .. } | Gone::Left { operation } => {
                    return Some(operation);
                }
                Gone::NeverAdmitted { operation } => {
                    device = self.log.get(&operation)?.operation().author;
                }
                Gone::RotatedTwice | Gone::Rotated { .. } => return None,
            }
        }
        None
    }

    fn refresh(&mut self) {
        let manifest = Arc::new(self.log.manifest());
        self.manifest.send_if_modified(|present| {
            let other = **present != *manifest;
            *present = manifest;
            other
        });
    }
}

/// Why an operation was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("this device does not have that group")]
    Unknown,
    #[error("the device's state could not be written, so nothing was changed")]
    Stopping,
}

impl From<GroupError> for Failure {
    fn from(error: GroupError) -> Self {
        match &error {
            GroupError::Write(WriteError::NotAdmin) => Self::failed("not_admin", error)
                .hint("ask for it on a device that is an admin: kin devices"),
            GroupError::Write(WriteError::NotMember) => Self::failed("not_member", error),
            GroupError::Write(WriteError::Itself) => Self::usage("itself", error).hint("kin leave"),
            GroupError::Write(_) => Self::failed("group", error),
            GroupError::Store(_) | GroupError::Stopping => Self::failed("state", error),
            GroupError::Log(_) => Self::failed("group", error),
            GroupError::Unknown => Self::usage("no_group", error).hint("kin group list"),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<GroupId, Group>,
}

impl Groups {
    /// Reads them from the store.
    pub(super) fn load(store: &mut Store) -> Result<Self, GroupError> {
        let mut groups = BTreeMap::new();
        for (id, label) in store.groups()? {
            let mut log = Log::new(id);
            for signed in store.operations(id)? {
                // One row that a log does not take must not cost the others.
                if let Err(error) = log.insert(signed) {
                    tracing::error!(%error, group = hex(&id.0), "a stored operation was refused");
                }
            }
            groups.insert(id, Group::new(log, label));
        }
        let mut groups = Self { groups };
        let ids: Vec<GroupId> = groups.groups.keys().copied().collect();
        for id in ids {
            let waiting = store.waiting_operations(&id, wall().saturating_sub(WAIT))?;
            if let Some(held) = groups.groups.get_mut(&id) {
                held.waiting = waiting.iter().map(|(by, signed)| (*by, signed.id())).collect();
            }
            groups.take_all(store, &id, waiting)?;
        }
        Ok(groups)
    }

    pub(super) fn get(&self, id: &GroupId) -> Option<&Group> {
        self.groups.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&GroupId, &Group)> {
        self.groups.iter()
    }

    /// The group that a tag names on a link.
    pub(super) fn tagged(&self, tag: &Tag, exporter: &[u8; 32]) -> Option<GroupId> {
        self.groups.keys().copied().find(|group| Tag::new(group, exporter) == *tag)
    }

    /// The groups that a device belongs to.
    pub(super) fn shared_with(&self, device: &DeviceId) -> Vec<GroupId> {
        let holds = |group: &Group| group.manifest.borrow().is_member(device);
        self.groups.iter().filter(|(_, group)| holds(group)).map(|(id, _)| *id).collect()
    }

    /// What a device calls itself, by any group.
    pub(super) fn name_of(&self, device: &DeviceId) -> Option<Name> {
        self.groups.values().find_map(|group| {
            let manifest = group.manifest.borrow();
            let member = manifest.members.get(device);
            member
                .map(|member| member.name.clone())
                .or_else(|| manifest.former.get(device).map(|former| former.was.name.clone()))
        })
    }

    /// The group that has a folder.
    pub(super) fn folder(&self, folder: &FolderId) -> Option<(GroupId, Name)> {
        self.groups.iter().find_map(|(id, group)| {
            let manifest = group.manifest.borrow();
            manifest.folders.get(folder).map(|folder| (*id, folder.name.clone()))
        })
    }

    /// Creates a group with this device alone.
    pub(super) fn create(
        &mut self,
        store: &mut Store,
        key: &DeviceKey,
        (inbox, name): (identity::InboxId, Name),
        label: &str,
        nonce: [u8; 32],
    ) -> Result<GroupId, GroupError> {
        let log = log::create(key, inbox, name, nonce)?;
        self.add(store, log, label, None)
    }

    /// Takes over a log: of a group that was joined, or made anew.
    pub(super) fn add(
        &mut self,
        store: &mut Store,
        log: Log,
        label: &str,
        joined: Option<&DeviceId>,
    ) -> Result<GroupId, GroupError> {
        let id = log.group();
        let label = self.free_label(label);
        store.add_group(id, &label, log.operations(), joined)?;
        self.groups.insert(id, Group::new(log, label));
        Ok(id)
    }

    /// A label that no other group has.
    fn free_label(&self, wish: &str) -> String {
        let taken = |label: &str| self.groups.values().any(|group| group.label == label);
        let mut label = wish.to_owned();
        let mut number = 1;
        while taken(&label) {
            number += 1;
            label = format!("{wish}-{number}");
        }
        label
    }

    pub(super) fn remove(&mut self, store: &Store, group: &GroupId) -> Result<(), GroupError> {
        store.remove_group(*group)?;
        self.groups.remove(group);
        Ok(())
    }

    /// Writes an operation of this device: durable in the store before it is in the log that others get
    /// (rule T12).
    pub(super) fn write(
        &mut self,
        store: &mut Store,
        key: &DeviceKey,
        group: &GroupId,
        action: Action,
    ) -> Result<SignedOperation, GroupError> {
        let held = self.groups.get_mut(group).ok_or(GroupError::Unknown)?;
        if held.log.len() >= log::MAX_OPERATIONS {
            return Err(LogError::Full.into());
        }
        let signed = held.log.draft(key.id(), action)?;
        let signed = signed.sign(key).map_err(WriteError::from)?;
        store.add_operations(*group, std::iter::once(&signed))?;
        self.insert(group, signed.clone())?;
        Ok(signed)
    }

    /// Writes an admission by a code; the operation and the use that it costs are durable together, or neither
    /// is (rule T18).
    pub(super) fn spend(
        &mut self,
        store: &mut Store,
        key: &DeviceKey,
        group: &GroupId,
        action: Action,
        (code, device, now): (CodeId, DeviceId, i64),
    ) -> Result<SignedOperation, GroupError> {
        let held = self.groups.get_mut(group).ok_or(GroupError::Unknown)?;
        if held.log.len() >= log::MAX_OPERATIONS {
            return Err(LogError::Full.into());
        }
        let signed = held.log.draft(key.id(), action)?;
        let signed = signed.sign(key).map_err(WriteError::from)?;
        store.spend(*group, &signed, (&code, &device, now))?;
        self.insert(group, signed.clone())?;
        Ok(signed)
    }

    /// The rotation of this device's key in one group, signed by both keys, not yet written.
    pub(super) fn draft_rotation(
        &mut self,
        group: &GroupId,
        old: &DeviceKey,
        (new, inbox): (&DeviceKey, identity::InboxId),
    ) -> Result<SignedOperation, GroupError> {
        let held = self.groups.get_mut(group).ok_or(GroupError::Unknown)?;
        if held.log.len() >= log::MAX_OPERATIONS {
            return Err(LogError::Full.into());
        }
        let drafted = held.log.draft(old.id(), Action::Rotate { device: new.id(), inbox })?;
        Ok(drafted.sign_rotation(old, new).map_err(WriteError::from)?)
    }

    /// Takes in an operation of this device that is durable.
    pub(super) fn insert(
        &mut self,
        group: &GroupId,
        signed: SignedOperation,
    ) -> Result<(), GroupError> {
        let held = self.groups.get_mut(group).ok_or(GroupError::Unknown)?;
        held.log.insert(signed)?;
        held.refresh();
        Ok(())
    }

    /// Takes in operations that a device brought; those that are new are durable when this returns, and given back.
    /// What a log refuses is passed over, with the last reason.
    pub(super) fn take(
        &mut self,
        store: &mut Store,
        group: &GroupId,
        by: &DeviceId,
        operations: Vec<SignedOperation>,
    ) -> Result<(Vec<SignedOperation>, Option<LogError>), GroupError> {
        self.take_all(store, group, operations.into_iter().map(|signed| (*by, signed)).collect())
    }

    fn take_all(
        &mut self,
        store: &mut Store,
        group: &GroupId,
        operations: Vec<(DeviceId, SignedOperation)>,
    ) -> Result<(Vec<SignedOperation>, Option<LogError>), GroupError> {
        let held = self.groups.get_mut(group).ok_or(GroupError::Unknown)?;
        let mut new = Vec::new();
        let mut refused = None;
        for (by, signed) in operations {
            match held.log.insert_from(signed, Some(by)) {
                Ok(taken) => new.extend(taken.taken),
                Err(error) => refused = Some(error),
            }
        }
        let new: Vec<SignedOperation> =
            new.iter().filter_map(|id| held.log.get(id).cloned()).collect();
        if !new.is_empty() {
            store.add_operations(*group, new.iter())?;
            held.refresh();
        }
        held.keep_waiting(store)?;
        Ok((new, refused))
    }

    /// A group by what a person typed: its label, or the beginning of its id.
    pub(super) fn find(&self, text: &str) -> Result<GroupId, Failure> {
        if let Some((id, _)) = self.groups.iter().find(|(_, group)| group.label == text) {
            return Ok(*id);
        }
        let begins = |id: &&GroupId| text.len() >= 4 && hex(&id.0).starts_with(text);
        let found: Vec<&GroupId> = self.groups.keys().filter(begins).collect();
        match found[..] {
            [one] => Ok(*one),
            [] => Err(Failure::usage("no_group", format!("there is no group {text} here"))
                .hint("kin group list")),
            _ => Err(Failure::usage("ambiguous", format!("several groups begin with {text}"))
                .hint("give more of the id: kin group list")),
        }
    }

    /// A member by what a person typed: its name, or the beginning of its id.
    pub(super) fn find_device(&self, group: &GroupId, text: &str) -> Result<DeviceId, Failure> {
        let manifest = self.get(group).ok_or(GroupError::Unknown)?.manifest();
        let members = manifest.members.iter();
        let named = members.filter(|(id, member)| is_meant(text, id, member));
        one_of(&named.map(|(id, _)| *id).collect::<Vec<_>>(), text)
    }

    /// As [`find_device`](Self::find_device), but also one that was a member, if no member is meant.
    pub(super) fn find_author(&self, group: &GroupId, text: &str) -> Result<DeviceId, Failure> {
        let manifest = self.get(group).ok_or(GroupError::Unknown)?.manifest();
        let former = manifest
            .former
            .iter()
            .filter(|(_, former)| !matches!(former.why, Gone::Rotated { .. }));
        let former: Vec<DeviceId> = former
            .filter(|(id, former)| is_meant(text, id, &former.was))
            .map(|(id, _)| *id)
            .collect();
        match self.find_device(group, text) {
            Err(failure) if failure.kind == "no_device" && !former.is_empty() => {
                one_of(&former, text)
            }
            found => found,
        }
    }

    /// A device's key, and those that it had before (rule T13).
    pub(super) fn keys_of(&self, group: &GroupId, device: &DeviceId) -> Vec<DeviceId> {
        let mut keys = vec![*device];
        let Some(group) = self.get(group) else { return keys };
        let manifest = group.manifest();
        let mut seen = 0;
        while let Some(key) = keys.get(seen).copied() {
            seen += 1;
            let before = manifest.former.iter().filter(|(id, former)| {
                !keys.contains(id) && matches!(former.why, Gone::Rotated { to } if to == key)
            });
            let before: Vec<_> = before.map(|(id, _)| *id).collect();
            keys.extend(before);
        }
        keys
    }
}

fn is_meant(text: &str, id: &DeviceId, member: &Member) -> bool {
    member.name.as_str() == text || text.len() >= 7 && id.to_string().starts_with(text)
}

fn one_of(named: &[DeviceId], text: &str) -> Result<DeviceId, Failure> {
    match named {
        [one] => Ok(*one),
        [] => Err(Failure::usage("no_device", format!("the group has no device {text}"))
            .hint("kin devices")),
        _ => Err(Failure::usage("ambiguous", format!("the group has several devices {text}"))
            .hint("give the beginning of its id: kin devices")),
    }
}

/// The key that a device has now, by one that it had: over as many rotations as there were.
pub(super) fn present_key(manifest: &Manifest, key: &DeviceId) -> Option<DeviceId> {
    let mut key = *key;
    for _ in 0..=manifest.former.len() {
        if manifest.is_member(&key) {
            return Some(key);
        }
        let Gone::Rotated { to } = manifest.former.get(&key)?.why else { return None };
        key = to;
    }
    None
}

/// A role by its name.
pub(super) fn role(text: &str) -> Result<Role, Failure> {
    Ok(match text {
        "admin" => Role::Admin,
        "writer" => Role::Writer,
        "reader" => Role::Reader,
        "keeper" => Role::Keeper,
        _ => {
            return Err(Failure::usage("bad_role", format!("{text} is no role"))
                .hint("give admin, writer, reader or keeper"));
        }
    })
}

/// The name of a role.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Writer => "writer",
        Role::Reader => "reader",
        Role::Keeper => "keeper",
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use identity::{InboxId, Secret};
    use wire::membership::{Ceremony, Scope};

    use super::*;

    #[test]
    fn t21_an_operation_that_came_before_what_it_rests_on_outlives_a_restart() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("state.db");
        let key = DeviceKey::from_seed(&Secret::new([1; 32])).unwrap();
        let name = |text| Name::new(text).unwrap();
        let mut theirs = log::create(&key, InboxId([2; 32]), name("desk"), [3; 32]).unwrap();
        let group = theirs.group();
        let known = theirs.clone();
        let mut write = |action| {
            let signed = theirs.draft(key.id(), action).unwrap().sign(&key).unwrap();
            theirs.insert(signed.clone()).unwrap();
            signed
        };
        let phone = DeviceId([9; 32]);
        let admit = write(Action::Admit {
            device: phone,
            inbox: InboxId([9; 32]),
            name: name("phone"),
            role: Role::Reader,
            folders: Scope::All,
            ceremony: Ceremony::Lan,
        });
        let remove = write(Action::Remove { device: phone });
        let open = || {
            let mut store = Store::open(&path).unwrap();
            let groups = Groups::load(&mut store).unwrap();
            (store, groups)
        };
        let (mut store, mut groups) = open();
        groups.add(&mut store, known, "home", None).unwrap();
        // The removal overtakes the admission, and this device ends before that comes.
        let (new, _) = groups.take(&mut store, &group, &phone, vec![remove.clone()]).unwrap();
        assert!(new.is_empty());
        drop((store, groups));
        let (mut store, mut groups) = open();
        let (new, _) = groups.take(&mut store, &group, &phone, vec![admit]).unwrap();
        assert_eq!(new.len(), 2, "both count now");
        drop((store, groups));
        let (store, groups) = open();
        assert!(groups.get(&group).unwrap().log().contains(&remove.id()));
        assert!(groups.get(&group).unwrap().manifest().former.contains_key(&phone));
        assert!(store.waiting_operations(&group, 0).unwrap().is_empty(), "none waits any more");
        // One that waits for what never comes does not wait for ever.
        store.put_waiting_operation(&group, (&phone, &remove), wall() - WAIT - 1).unwrap();
        drop((store, groups));
        let (store, _groups) = open();
        assert!(store.waiting_operations(&group, 0).unwrap().is_empty());
    }
}
