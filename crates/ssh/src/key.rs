//! A public key from outside: one, of a kind that is taken, and nothing else.

use std::fmt;

use ssh_key::{Algorithm, HashAlg, public::KeyData};

/// Longest line that a key is looked for in, in bytes.
pub const MAX_KEY_LINE: usize = 16 << 10;
/// Smallest and largest RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=16384;
/// The kinds that are taken.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Why a text is no public key that is taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Over [`MAX_KEY_LINE`].
    #[error("the key is longer than 16 KiB")]
    TooLong,
    /// Nothing is there.
    #[error("there is no key")]
    Empty,
    /// A second line, or a control character.
    #[error("a public key is one line; this has line breaks or control characters in it")]
    NotOneLine,
    /// It must never leave its device.
    #[error("this is a private key: it must never leave its device")]
    Private,
    /// Options before the key, or no key at all.
    #[error("it does not begin with the kind of a key (options such as command= are not taken)")]
    Options,
    /// A kind that is known and not taken.
    #[error("keys of the kind {0} are not taken")]
    Kind(String),
    /// A key that can be broken.
    #[error("the key is too weak: {0}")]
    Weak(&'static str),
    /// Its bytes do not make a key of its kind.
    #[error("the key is damaged")]
    Damaged,
    /// A second key behind the first.
    #[error("there is a second key in the line")]
    Second,
}

/// An OpenSSH public key without a comment. Written anew from its parts, so that nothing else of what was
/// read gets into a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    /// As it is written: kind, space, base64.
    text: String,
    kind: &'static str,
    fingerprint: String,
}

impl PublicKey {
    /// Takes one line: kind, key, and a comment that is dropped. A line break at its end is allowed.
    ///
    /// # Errors
    /// If it is anything else, or of a kind that is not taken.
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        if line.len() > MAX_KEY_LINE {
            return Err(KeyError::TooLong);
        }
        if line.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let line = line.strip_suffix('\n').unwrap_or(line);
        if line.chars().any(char::is_control) {
            return Err(KeyError::NotOneLine);
        }
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let named = words.next().ok_or(KeyError::Empty)?;
        let Some(kind) = KINDS.iter().find(|kind| **kind == named) else {
            // What looks like a kind is named; anything else may be options, and long.
            let alike = ["ssh-", "ecdsa-", "sk-", "webauthn-"];
            let short = named.len() < 64 && !named.contains(['=', '"', ',']);
            return Err(match short && alike.iter().any(|start| named.starts_with(start)) {
                true => KeyError::Kind(named.to_owned()),
                false => KeyError::Options,
            });
        };
        let key = words.next().ok_or(KeyError::Damaged)?;
        if words.any(|word| KINDS.contains(&word)) {
            return Err(KeyError::Second);
        }
        Self::from_parts(kind, key)
    }

    fn from_parts(kind: &'static str, key: &str) -> Result<Self, KeyError> {
        let parsed = ssh_key::PublicKey::from_openssh(&format!("{kind} {key}"))
            .map_err(|_| KeyError::Damaged)?;
        let data = parsed.key_data();
        if data.algorithm().as_str() != kind {
            return Err(KeyError::Damaged);
        }
        check(data)?;
        let text = ssh_key::PublicKey::new(data.clone(), "")
            .to_openssh()
            .map_err(|_| KeyError::Damaged)?;
        Ok(Self {
            text: text.trim_end().to_owned(),
            kind,
            fingerprint: parsed.fingerprint(HashAlg::Sha256).to_string(),
        })
    }

    /// Its kind, such as `ssh-ed25519`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Kind and key as they are written in files, without a comment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key alone, in base64.
    #[must_use]
    pub fn base64(&self) -> &str {
        self.text.split_once(' ').map_or("", |(_, key)| key)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.kind, self.fingerprint)
    }
}

fn check(data: &KeyData) -> Result<(), KeyError> {
    match data.algorithm() {
        Algorithm::Rsa { .. } => {
            let rsa = data.rsa().ok_or(KeyError::Damaged)?;
            let modulus = rsa.n.as_positive_bytes().ok_or(KeyError::Damaged)?;
            let exponent = rsa.e.as_positive_bytes().ok_or(KeyError::Damaged)?;
            let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
            let bits = (modulus.len() * 8).saturating_sub(leading);
            if !RSA_BITS.contains(&bits) {
                return Err(KeyError::Weak("an RSA key must have 2048 to 16384 bits"));
            }
            if exponent.len() > 8 || exponent == [1] || exponent.last().is_none_or(|e| e % 2 == 0) {
                return Err(KeyError::Weak("its RSA exponent is no usual one"));
            }
            Ok(())
        }
        Algorithm::Dsa => Err(KeyError::Weak("DSA")),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
