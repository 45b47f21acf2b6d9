//! The inbox key, to which sealed envelopes are addressed.

use std::fmt;

use aws_lc_rs::agreement::{PrivateKey, X25519};

use crate::{KeyError, Secret};

/// The public half of an inbox key: X25519, 32 bytes (RFC 7748).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxId(pub [u8; 32]);

impl fmt::Debug for InboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inbox {:02x}{:02x}{:02x}{:02x}", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// An X25519 key pair, separate from the device key and never converted from it.
#[derive(Debug)]
pub struct InboxKey {
    pub(crate) secret: Secret<[u8; 32]>,
    id: InboxId,
}

impl InboxKey {
    /// Makes the key that belongs to 32 random bytes.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn from_seed(secret: Secret<[u8; 32]>) -> Result<Self, KeyError> {
        let private =
            PrivateKey::from_private_key(&X25519, secret.expose()).map_err(|_| KeyError)?;
        let public = private.compute_public_key().map_err(|_| KeyError)?;
        let id = InboxId(public.as_ref().try_into().map_err(|_| KeyError)?);
        Ok(Self { secret, id })
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> InboxId {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_is_that_of_rfc_7748() {
        // Section 6.1: Alice's private and public key.
        let secret = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2,
            0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5,
            0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let key = InboxKey::from_seed(Secret::new(secret)).unwrap();
        assert_eq!(format!("{:?}", key.id()), "inbox 8520f009");
    }
}
