//! The group manifest: what a membership log comes to.

use std::collections::BTreeMap;

use identity::{DeviceId, InboxId};
use wire::{
    membership::{FolderId, GroupId, OperationId, Role, Scope},
    session::Name,
};

/// The resolved state of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The group.
    pub group: GroupId,
    /// The heads of the log it was made from, ascending.
    pub heads: Vec<OperationId>,
    /// Who belongs to the group, by present device key.
    pub members: BTreeMap<DeviceId, Member>,
    /// Every other key that anybody ever admitted or rotated to.
    pub former: BTreeMap<DeviceId, Former>,
    /// The group's folders.
    pub folders: BTreeMap<FolderId, Folder>,
    /// The present key epoch.
    pub epoch: Epoch,
    /// Where one key wrote two operations in one place: "copied key or restored backup" (rule T12).
    pub forks: Vec<Fork>,
    /// Operations that do nothing, ascending.
    pub void: Vec<VoidOperation>,
    /// Operations of a mutual or cyclic removal, and what hangs on them: each took what it takes and
    /// gave nothing (rule T11). Ascending.
    pub contested: Vec<OperationId>,
}

/// What is known of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// What it may do.
    pub role: Role,
    /// Its inbox key.
    pub inbox: InboxId,
    /// Its name: a hint for people.
    pub name: Name,
    /// In which folders (rule T14).
    pub folders: Scope,
    /// The operation that gave this key its place: create, admit or rotate.
    pub grant: OperationId,
}

/// A key that was admitted, or would have been, and is no member's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Former {
    /// What it was, or would have been.
    pub was: Member,
    /// Why it is none.
    pub why: Gone,
}

/// Why a key is no member's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gone {
    /// Somebody removed the device.
    Removed {
        /// Who.
        by: DeviceId,
        /// By which operation.
        operation: OperationId,
    },
    /// The key was rotated twice at once, by somebody with a copy of it (rule T13).
    RotatedTwice,
    /// It left.
    Left {
        /// By this operation.
        operation: OperationId,
    },
    /// It gave its place to another key.
    Rotated {
        /// Which.
        to: DeviceId,
    },
    /// What would have admitted it does not count.
    NeverAdmitted {
        /// The void operation.
        operation: OperationId,
    },
}

/// A folder of the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    /// Its name: a hint for people.
    pub name: Name,
}

/// The key epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Epoch {
    /// 0 until the first one begins.
    pub number: u64,
    /// The operation that began it.
    pub operation: Option<OperationId>,
    /// What binds the key.
    pub commitment: [u8; 32],
    /// True if somebody lost the right to read since, or a later epoch is contested, so that an admin
    /// should begin another before anything is encrypted.
    pub is_due: bool,
}

/// Operations of one key with one number: neither was written after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fork {
    /// Whose key.
    pub device: DeviceId,
    /// The number they share.
    pub sequence: u32,
    /// Two or more, ascending.
    pub operations: Vec<OperationId>,
}

/// An operation that does nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VoidOperation {
    /// Which.
    pub operation: OperationId,
    /// Whose.
    pub author: DeviceId,
    /// Why.
    pub why: Why,
}

/// Why an operation does nothing. Where several operations are to blame, the one with the lowest id is
/// named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The author was never an admin where it wrote this.
    NotAdmin,
    /// What admitted the author, or made it an admin, does not count.
    AuthorNotAdmitted(OperationId),
    /// The author was removed, and this was not written before that.
    AuthorRemoved(OperationId),
    /// The author had left, or wrote this and left at once.
    AuthorLeft(OperationId),
    /// The author's key was rotated, and this was not written before that.
    AuthorRotated(OperationId),
    /// The author was given a lower role, and this was not written before that.
    AuthorDemoted(OperationId),
}

impl Manifest {
    /// True if the device belongs to the group.
    #[must_use]
    pub fn is_member(&self, device: &DeviceId) -> bool {
        self.members.contains_key(device)
    }

    /// True if the device decides who belongs to the group.
    #[must_use]
    pub fn is_admin(&self, device: &DeviceId) -> bool {
        self.members.get(device).is_some_and(|member| member.role == Role::Admin)
    }

    /// True if anybody is left who can admit; if not, only `rescue` helps (rule T11).
    #[must_use]
    pub fn has_admin(&self) -> bool {
        self.members.values().any(|member| member.role == Role::Admin)
    }

    /// True if batches that the device signs count in that folder (rules T14, T15).
    #[must_use]
    pub fn may_write(&self, device: &DeviceId, folder: &FolderId) -> bool {
        self.has(device, folder, Role::Writer)
    }

    /// True if the device may have the folder's contents.
    #[must_use]
    pub fn may_read(&self, device: &DeviceId, folder: &FolderId) -> bool {
        self.has(device, folder, Role::Reader)
    }

    /// True if the device may have the folder's ciphertext.
    #[must_use]
    pub fn may_store(&self, device: &DeviceId, folder: &FolderId) -> bool {
        self.has(device, folder, Role::Keeper)
    }

    fn has(&self, device: &DeviceId, folder: &FolderId, least: Role) -> bool {
        let Some(member) = self.members.get(device) else { return false };
        let in_scope = match &member.folders {
            Scope::All => true,
            Scope::List(list) => list.contains(folder),
        };
        member.role >= least && in_scope && self.folders.contains_key(folder)
    }
}
