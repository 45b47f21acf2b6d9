//! Signatures of the simulator.

use folder::engine::Authority;
use identity::DeviceId;
use wire::{Hash, record::BatchScope};

/// Signs with a keyed hash: the simulator tries the engine, not Ed25519, and runs it a million times.
#[derive(Debug)]
pub(crate) struct SimAuthority(pub(crate) DeviceId);

fn sim_signature(author: &DeviceId, digest: &Hash) -> [u8; 64] {
    let half = Hash::derived("kinfold sim signature", &[&author.0, &digest.0]).0;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&half);
    signature
}

impl Authority for SimAuthority {
    fn device(&self) -> DeviceId {
        self.0
    }

    fn scope(&self) -> BatchScope {
        BatchScope { group: Hash::default(), folder: Hash::default() }
    }

    fn sign(&self, digest: &Hash) -> [u8; 64] {
        sim_signature(&self.0, digest)
    }

    fn verify(&self, author: &DeviceId, digest: &Hash, signature: &[u8; 64]) -> bool {
        sim_signature(author, digest) == *signature
    }
}
