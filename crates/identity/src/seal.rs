//! Sealing to an inbox key: HPKE (RFC 9180) in base mode, one message for each encapsulated key.
//!
//! The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305; the code is that of rustls over
//! aws-lc-rs, which is in the tree for links. Whoever knows the inbox key can seal, so what is opened says
//! nothing of who sealed it: the author and its signature are inside (crate `wire`, `envelope`).
//!
//! The one thing in this crate that is not a function of its arguments is [`seal`]: it draws the ephemeral
//! key from the cryptographic library's own generator, since a key that is used twice would give both
//! contents away. Nothing but the sealed bytes depends on it.

use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305 as SUITE,
    hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey},
};

use crate::{InboxId, InboxKey, Secret};

/// Bytes of an encapsulated key.
pub const ENCAPSULATED_LEN: usize = 32;
/// How much longer a ciphertext is than its contents, in bytes.
pub const TAG_LEN: usize = 16;

/// Contents that only the owner of an inbox key can read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The encapsulated key: the ephemeral key's public half.
    pub encapsulated: [u8; ENCAPSULATED_LEN],
    /// The contents, encrypted, and a tag of [`TAG_LEN`] bytes.
    pub ciphertext: Vec<u8>,
}

/// Nothing can be sealed to this key: it is none of X25519's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing can be sealed to this inbox key")]
pub struct SealError;

/// It was sealed to another key, for another purpose, or changed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this cannot be opened with this inbox key")]
pub struct OpenError;

/// Seals to an inbox key. `info` says what for, `aad` is what the receiver sees beside it and must not have
/// been changed.
///
/// # Errors
/// If the key is one that makes every shared secret zero.
pub fn seal(to: &InboxId, info: &[u8], aad: &[u8], contents: &[u8]) -> Result<Sealed, SealError> {
    let to = HpkePublicKey(to.0.to_vec());
    let (encapsulated, ciphertext) = SUITE.seal(info, aad, contents, &to).map_err(|_| SealError)?;
    let encapsulated = encapsulated.0.try_into().map_err(|_| SealError)?;
    Ok(Sealed { encapsulated, ciphertext })
}

impl InboxKey {
    /// Opens what was sealed to this key with the same `info` and `aad`.
    ///
    /// # Errors
    /// If anything of it differs.
    pub fn open(
        &self,
        encapsulated: &[u8; ENCAPSULATED_LEN],
        info: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Secret<Vec<u8>>, OpenError> {
        let key = HpkePrivateKey::from(self.secret.expose().to_vec());
        let encapsulated = EncapsulatedSecret(encapsulated.to_vec());
        let contents =
            SUITE.open(&encapsulated, info, aad, ciphertext, &key).map_err(|_| OpenError)?;
        Ok(Secret::new(contents))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> InboxKey {
        InboxKey::from_seed(Secret::new([seed; 32])).unwrap()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn the_suite_is_that_of_rfc_9180_appendix_a_2() {
        // A.2.1, base setup, and the first encryption of A.2.1.1.
        let secret = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
        let key = InboxKey::from_seed(Secret::new(bytes(secret).try_into().unwrap())).unwrap();
        let public = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
        assert_eq!(key.id().0.to_vec(), bytes(public));
        let encapsulated = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
        let ciphertext = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db\
                          21993c62ce81883d2dd1b51a28";
        let opened = key.open(
            &bytes(encapsulated).try_into().unwrap(),
            &bytes("4f6465206f6e2061204772656369616e2055726e"),
            &bytes("436f756e742d30"),
            &bytes(ciphertext),
        );
        assert_eq!(opened.unwrap().expose(), b"Beauty is truth, truth beauty");
    }

    #[test]
    fn two_of_the_same_contents_differ() {
        let [one, two] = [(); 2].map(|()| seal(&key(1).id(), b"", b"", b"kin").unwrap());
        assert!(one.encapsulated != two.encapsulated && one.ciphertext != two.ciphertext);
    }

    #[test]
    fn nothing_is_sealed_to_a_key_that_makes_every_secret_zero() {
        // Points of small order (RFC 7748, section 6.1).
        let one = InboxId(std::array::from_fn(|at| u8::from(at == 0)));
        for low in [InboxId([0; 32]), one] {
            assert_eq!(seal(&low, b"", b"", b"kin"), Err(SealError));
        }
        let sealed = Sealed { encapsulated: [0; 32], ciphertext: vec![0; 20] };
        let opened = key(1).open(&sealed.encapsulated, b"", b"", &sealed.ciphertext);
        assert_eq!(opened.err(), Some(OpenError));
    }

    proptest! {
        #[test]
        fn only_the_key_and_all_that_was_said_open_it(
            contents in proptest::collection::vec(any::<u8>(), 0..200),
            at: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let sealed = seal(&key(1).id(), b"info", b"aad", &contents).unwrap();
            let Sealed { encapsulated, mut ciphertext } = sealed;
            prop_assert_eq!(ciphertext.len(), contents.len() + TAG_LEN);
            let opened = key(1).open(&encapsulated, b"info", b"aad", &ciphertext).unwrap();
            prop_assert_eq!(opened.expose(), &contents);
            prop_assert!(key(2).open(&encapsulated, b"info", b"aad", &ciphertext).is_err());
            prop_assert!(key(1).open(&encapsulated, b"inf", b"aad", &ciphertext).is_err());
            prop_assert!(key(1).open(&encapsulated, b"info", b"aae", &ciphertext).is_err());
            let at = at.index(ciphertext.len());
            ciphertext[at] ^= 1 << bit;
            prop_assert!(key(1).open(&encapsulated, b"info", b"aad", &ciphertext).is_err());
        }
    }
}
