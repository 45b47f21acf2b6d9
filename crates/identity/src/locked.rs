//! Sealing under a shared secret: XChaCha20-Poly1305 with a nonce that its author draws at random.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};

use crate::{Secret, seal::OpenError};

/// Bytes of a nonce: so many that random ones do not meet.
pub const NONCE_LEN: usize = 24;

/// Locks contents under a key. `aad` is what a reader sees beside it and must not have been changed. The
/// nonce must be random, and fresh for each contents.
///
/// # Errors
/// If there are more contents than the cipher takes.
pub fn lock(
    key: &Secret<[u8; 32]>,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    contents: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let cipher = XChaCha20Poly1305::new(key.expose().into());
    cipher.encrypt(nonce.into(), Payload { msg: contents, aad }).map_err(|_| OpenError)
}

/// Opens what was locked under the same key, nonce and `aad`.
///
/// # Errors
/// If anything of it differs.
pub fn unlock(
    key: &Secret<[u8; 32]>,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    locked: &[u8],
) -> Result<Secret<Vec<u8>>, OpenError> {
    let cipher = XChaCha20Poly1305::new(key.expose().into());
    let contents = cipher.decrypt(nonce.into(), Payload { msg: locked, aad });
    contents.map(Secret::new).map_err(|_| OpenError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn the_cipher_is_that_of_the_draft() {
        // draft-irtf-cfrg-xchacha-03, appendix A.3.1.
        let key: [u8; 32] = std::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
        let nonce: [u8; 24] = std::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap());
        let aad = bytes("50515253c0c1c2c3c4c5c6c7");
        let said = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let locked = lock(&Secret::new(key), &nonce, &aad, said).unwrap();
        assert_eq!(locked[..16], bytes("bd6d179d3e83d43b9576579493c0e939")[..]);
        assert_eq!(locked[locked.len() - 16..], bytes("c0875924c1c7987947deafd8780acf49")[..]);
    }

    proptest! {
        #[test]
        fn only_the_key_and_all_that_was_said_open_it(
            contents in proptest::collection::vec(any::<u8>(), 0..200),
            at: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let key = Secret::new([1; 32]);
            let mut locked = lock(&key, &[2; 24], b"aad", &contents).unwrap();
            let opened = unlock(&key, &[2; 24], b"aad", &locked).unwrap();
            prop_assert_eq!(opened.expose(), &contents);
            prop_assert!(unlock(&Secret::new([3; 32]), &[2; 24], b"aad", &locked).is_err());
            prop_assert!(unlock(&key, &[3; 24], b"aad", &locked).is_err());
            prop_assert!(unlock(&key, &[2; 24], b"aae", &locked).is_err());
            let at = at.index(locked.len());
            locked[at] ^= 1 << bit;
            prop_assert!(unlock(&key, &[2; 24], b"aad", &locked).is_err());
        }
    }
}
