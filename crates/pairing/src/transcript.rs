//! What both sides of a SAS ceremony must see alike.

use identity::{DeviceId, InboxId};
use wire::{
    Hash,
    session::{Mode, Name},
};

use crate::Abort;

/// One side, as it presented itself on this link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Party {
    /// The device id, proven by the handshake.
    pub device: DeviceId,
    /// Its inbox key.
    pub inbox: InboxId,
    /// What it calls itself.
    pub name: Name,
    /// Its protocol version.
    pub version: u32,
    /// How it admits.
    pub mode: Mode,
}

/// Everything that enters the commitment and the SAS besides the two nonces (rule T3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transcript {
    /// The TLS client: role A.
    pub client: Party,
    /// The TLS server: role B.
    pub server: Party,
    /// Digest of the topic on this link.
    pub topic: [u8; 32],
    /// The link's TLS exporter for ceremonies.
    pub exporter: [u8; 32],
}

impl Transcript {
    /// # Errors
    /// If a device would pair with itself, or is shown its own key.
    pub(crate) fn check(&self) -> Result<(), Abort> {
        let mirrored = self.client.device == self.server.device
            || self.client.inbox == self.server.inbox
            || self.client.device.0 == self.server.inbox.0
            || self.server.device.0 == self.client.inbox.0;
        if mirrored { Err(Abort::Reflected) } else { Ok(()) }
    }

    /// The digest: all parts have a fixed length or bear it in front.
    pub(crate) fn digest(&self) -> Hash {
        let mut bytes = Vec::with_capacity(512);
        for party in [&self.client, &self.server] {
            bytes.extend_from_slice(&party.device.0);
            bytes.extend_from_slice(&party.inbox.0);
            bytes.extend_from_slice(&party.version.to_be_bytes());
            bytes.push(match party.mode {
                Mode::Ask => 1,
                Mode::Open => 2,
                Mode::Passphrase => 3,
            });
            let name = party.name.as_str().as_bytes();
            bytes.extend_from_slice(&(name.len() as u64).to_be_bytes());
            bytes.extend_from_slice(name);
        }
        bytes.extend_from_slice(&self.topic);
        bytes.extend_from_slice(&self.exporter);
        Hash::derived("kinfold 2026 lan transcript v1", &[&bytes])
    }
}
