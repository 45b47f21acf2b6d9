//! The device key and the id that is its public half.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::Secret;

/// Bytes of an Ed25519 signature (RFC 8032).
pub const SIGNATURE_LEN: usize = 64;

/// A device's id: the public half of its Ed25519 device key (32 bytes).
///
/// Its text form is bech32m with the prefix `kd`; see [`std::fmt::Display`] and [`std::str::FromStr`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub [u8; 32]);

impl DeviceId {
    /// True if `signature` was made over exactly these bytes by the device with this id.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..4] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The key could not be made from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library refused the key")]
pub struct KeyError;

/// A device's long-term Ed25519 key (RFC 8032).
pub struct DeviceKey {
    pair: Ed25519KeyPair,
    id: DeviceId,
}

impl DeviceKey {
    /// Makes the key that belongs to 32 random bytes.
    ///
    /// # Errors
    /// If the cryptographic library refuses, which it has no reason to for any 32 bytes.
    pub fn from_seed(seed: &Secret<[u8; 32]>) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| KeyError)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError)?;
        Ok(Self { pair, id: DeviceId(public) })
    }

    /// The public half: the device's id.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Signs exactly these bytes. Callers separate domains by what they sign.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let mut signature = [0; SIGNATURE_LEN];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({:?})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_hold_for_their_bytes_and_key_only() {
        let key = DeviceKey::from_seed(&Secret::new([7; 32])).unwrap();
        let other = DeviceKey::from_seed(&Secret::new([8; 32])).unwrap();
        let signature = key.sign(b"kin");
        assert!(key.id().verify(b"kin", &signature));
        assert!(!key.id().verify(b"kim", &signature));
        assert!(!other.id().verify(b"kin", &signature));
    }

    #[test]
    fn the_id_is_the_public_key_of_rfc_8032_test_1() {
        // Section 7.1: secret key and public key of the first test vector.
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let key = DeviceKey::from_seed(&Secret::new(seed)).unwrap();
        assert_eq!(format!("{:?}", key.id()), "d75a9801");
        assert!(format!("{key:?}").len() < 24, "Debug shows the id's head and nothing else");
    }
}
