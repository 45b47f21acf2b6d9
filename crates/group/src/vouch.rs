//! Signing and checking one vouch.

use identity::{DeviceId, DeviceKey};
use wire::{
    Hash,
    session::{Ground, Name, Vouch},
};

/// What makes two runs of `kin sync` candidates for one session: the digest of the topic's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topic([u8; 32]);

impl Topic {
    /// The topic of that name; the empty name is a topic like any other.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Hash::derived("kinfold 2026 session topic v1", &[name.as_bytes()]).0)
    }

    /// The topic's digest as it is shown on one link: bound to the link's exporter, so that a
    /// stranger cannot recognise the topic elsewhere by it.
    #[must_use]
    pub fn on_link(&self, exporter: &[u8; 32]) -> [u8; 32] {
        Hash::derived("kinfold 2026 session topic on link v1", &[exporter, &self.0]).0
    }
}

/// Making and checking vouches.
pub trait VouchExt: Sized {
    /// Vouches for a device.
    fn sign(key: &DeviceKey, topic: &Topic, admitted: DeviceId, name: Name, ground: Ground)
    -> Self;

    /// True if the voucher signed exactly this, for this topic.
    fn holds(&self, topic: &Topic) -> bool;
}

impl VouchExt for Vouch {
    fn sign(
        key: &DeviceKey,
        topic: &Topic,
        admitted: DeviceId,
        name: Name,
        ground: Ground,
    ) -> Self {
        let signature = key.sign(&signed(topic, key.id(), admitted, &name, ground).0);
        Self { voucher: key.id(), admitted, name, ground, signature }
    }

    fn holds(&self, topic: &Topic) -> bool {
        let digest = signed(topic, self.voucher, self.admitted, &self.name, self.ground);
        self.voucher.verify(&digest.0, &self.signature)
    }
}

/// What is signed: a digest under its own context over parts of fixed length, the name last.
fn signed(
    topic: &Topic,
    voucher: DeviceId,
    admitted: DeviceId,
    name: &Name,
    ground: Ground,
) -> Hash {
    let ground = match ground {
        Ground::Person => 1,
        Ground::Passphrase => 2,
        Ground::Open => 3,
    };
    Hash::derived(
        "kinfold 2026 session vouch v1",
        &[&topic.0, &voucher.0, &admitted.0, &[ground], name.as_str().as_bytes()],
    )
}
