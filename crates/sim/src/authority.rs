//! Signatures of the simulator, and who may write.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use folder::engine::Authority;
use identity::DeviceId;
use wire::{Hash, record::BatchScope};

/// What a device holds to be the manifest: who may write. `None` in a session, where everybody may.
#[derive(Clone, Default, Debug)]
pub(crate) struct Manifest(Arc<Mutex<Option<Roles>>>);

#[derive(Clone, Default, Debug)]
struct Roles {
    writers: BTreeSet<DeviceId>,
    /// Members of before.
    removed: BTreeSet<DeviceId>,
}

impl Manifest {
    pub(crate) fn set(&self, writers: BTreeSet<DeviceId>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().writers =
            writers;
    }

    /// Who may write, and who is no member.
    pub(crate) fn become_these(&self, writers: BTreeSet<DeviceId>, removed: BTreeSet<DeviceId>) {
        let mut roles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *roles = Some(Roles { writers, removed });
    }

    pub(crate) fn remove(&self, device: DeviceId) {
        let mut roles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let roles = roles.get_or_insert_default();
        roles.writers.remove(&device);
        roles.removed.insert(device);
    }

    pub(crate) fn admit(&self, device: &DeviceId) {
        let mut roles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        roles.get_or_insert_default().removed.remove(device);
    }

    /// True in a group.
    pub(crate) fn lasts(&self) -> bool {
        self.ask(|roles| roles.is_some())
    }

    fn ask<T>(&self, question: impl FnOnce(Option<&Roles>) -> T) -> T {
        question(self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref())
    }
}

/// The id of a device, by its number.
pub(crate) fn device_id(number: usize) -> DeviceId {
    device_with_key(number, 0)
}

/// The same with a key that it took later: of that number.
pub(crate) fn device_with_key(number: usize, key: usize) -> DeviceId {
    let mut id = [0; 32];
    id[0] = u8::try_from(number).unwrap_or(u8::MAX);
    id[1..9].copy_from_slice(&(key as u64).to_le_bytes());
    DeviceId(id)
}

/// Signs by saying who signs what: the simulator tries the engine, not Ed25519, and runs it a million times.
#[derive(Debug)]
pub(crate) struct SimAuthority {
    pub(crate) device: DeviceId,
    pub(crate) manifest: Manifest,
}

fn sim_signature(author: &DeviceId, digest: &Hash) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&author.0);
    signature[32..].copy_from_slice(&digest.0);
    signature
}

impl Authority for SimAuthority {
    fn device(&self) -> DeviceId {
        self.device
    }

    fn scope(&self) -> BatchScope {
        BatchScope { group: Hash::default(), folder: Hash::default() }
    }

    fn sign(&self, digest: &Hash) -> [u8; 64] {
        sim_signature(&self.device, digest)
    }

    fn verify(&self, author: &DeviceId, digest: &Hash, signature: &[u8; 64]) -> bool {
        self.may_write(author) && sim_signature(author, digest) == *signature
    }

    fn is_member(&self, device: &DeviceId) -> bool {
        self.manifest.ask(|roles| roles.is_none_or(|roles| !roles.removed.contains(device)))
    }

    fn has_signed(&self, author: &DeviceId, digest: &Hash, signature: &[u8; 64]) -> bool {
        sim_signature(author, digest) == *signature
    }

    fn may_write(&self, device: &DeviceId) -> bool {
        self.manifest.ask(|roles| roles.is_none_or(|roles| roles.writers.contains(device)))
    }

    fn anybody_may_write(&self) -> bool {
        self.manifest.ask(|roles| roles.is_none_or(|roles| !roles.writers.is_empty()))
    }

    fn lasts(&self) -> bool {
        self.manifest.lasts()
    }
}
