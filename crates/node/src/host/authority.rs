//! Whose signatures count in a folder, and this device's own.

use std::{fmt, sync::Arc};

use folder::engine::Authority;
use identity::{DeviceId, DeviceKey};
use wire::{Hash, record::BatchScope};

/// True for devices that may write in the folder, by what is known now.
pub(crate) type Writers = Arc<dyn Fn(&DeviceId) -> bool + Send + Sync>;

/// Signs for this device and accepts what those signed who may write (rules E6 and T15).
#[derive(Clone)]
pub(crate) struct FolderAuthority {
    pub(crate) key: Arc<DeviceKey>,
    pub(crate) writers: Writers,
    /// True if there are any.
    pub(crate) anybody: Arc<dyn Fn() -> bool + Send + Sync>,
    /// True for devices that have the folder, by what is known now.
    pub(crate) members: Writers,
    pub(crate) scope: BatchScope,
    /// The file of the folder's index in `.kin`. What is known of a folder of a group, its tombstones above all,
    /// says nothing about the same directory in another group, after another join, or in a `kin sync`
    /// run: each has an index of its own, and meets for the first time.
    pub(crate) index: String,
    /// True for a group, false for a session, in which this device always writes.
    pub(crate) lasts: bool,
}

impl fmt::Debug for FolderAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderAuthority").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Authority for FolderAuthority {
    fn device(&self) -> DeviceId {
        self.key.id()
    }

    fn scope(&self) -> BatchScope {
        self.scope
    }

    fn sign(&self, digest: &Hash) -> [u8; 64] {
        self.key.sign(&digest.0)
    }

    fn verify(&self, author: &DeviceId, digest: &Hash, signature: &[u8; 64]) -> bool {
        (self.writers)(author) && author.verify(&digest.0, signature)
    }

    fn is_member(&self, device: &DeviceId) -> bool {
        (self.members)(device)
    }

    fn has_signed(&self, author: &DeviceId, digest: &Hash, signature: &[u8; 64]) -> bool {
        author.verify(&digest.0, signature)
    }

    fn may_write(&self, device: &DeviceId) -> bool {
        (self.writers)(device) || !self.lasts && *device == self.key.id()
    }

    fn anybody_may_write(&self) -> bool {
        (self.anybody)()
    }

    fn lasts(&self) -> bool {
        self.lasts
    }
}
