//! This user's own keys: one is made when it is first needed and used from then on.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use ssh_key::{
    LineEnding, Mpint, PrivateKey,
    private::{Ed25519Keypair, Ed25519PrivateKey},
    public::{Ed25519PublicKey, KeyData, RsaPublicKey},
};
use zeroize::Zeroizing;

use serde::{Deserialize, Serialize};

use crate::{KeyError, PublicKey, SshError};

/// Largest key file that is looked at.
pub(crate) const MAX_KEY_FILE: usize = 64 << 10;
/// Keys of one kind that a user can have of us.
pub(crate) const MAX_NUMBER: u16 = 999;

/// Which kind of key is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Ed25519.
    #[default]
    Ed25519,
    /// RSA of 4096 bits, for servers that know nothing better.
    Rsa,
}

impl KeyKind {
    /// The name of the file that holds a key of ours, by its number, from 1.
    pub(crate) fn file(self, number: u16) -> String {
        let base = match self {
            Self::Ed25519 => "kinfold_ed25519",
            Self::Rsa => "kinfold_rsa",
        };
        match number {
            1 => base.to_owned(),
            _ => format!("{base}_{number}"),
        }
    }

    /// The number of a file of ours.
    pub(crate) fn number(self, file: &str) -> Option<u16> {
        let rest = file.strip_prefix(&self.file(1))?;
        if rest.is_empty() {
            return Some(1);
        }
        let number = rest.strip_prefix('_')?.parse().ok()?;
        (2..=MAX_NUMBER).contains(&number).then_some(number)
    }
}

/// A key pair of this user's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnKey {
    /// Where the private half is.
    pub path: PathBuf,
    /// The public half.
    pub public: PublicKey,
    /// True if it was made here; one that a person brought is never removed.
    pub ours: bool,
}

/// The two files of a new key.
pub(crate) struct Made {
    pub(crate) private: Zeroizing<String>,
    pub(crate) public: PublicKey,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Made({:?})", self.public)
    }
}

/// Makes a key.
///
/// # Errors
/// If the system gives no randomness, or the library refuses.
pub(crate) fn make(kind: KeyKind, comment: &str) -> Result<Made, SshError> {
    match kind {
        KeyKind::Ed25519 => make_ed25519(comment),
        KeyKind::Rsa => make_rsa(comment),
    }
}

fn make_ed25519(comment: &str) -> Result<Made, SshError> {
    let refused = |_| SshError::Make("the cryptographic library refused");
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(|_| SshError::Make("the system gives no randomness"))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
        .map_err(|_| SshError::Make("the cryptographic library refused"))?;
    let public: [u8; 32] = pair
        .public_key()
        .as_ref()
        .try_into()
        .map_err(|_| SshError::Make("the cryptographic library refused"))?;
    let keypair = Ed25519Keypair {
        public: Ed25519PublicKey(public),
        private: Ed25519PrivateKey::from_bytes(&seed),
    };
    let mut key = PrivateKey::from(keypair);
    key.set_comment(comment);
    let private = key.to_openssh(LineEnding::LF).map_err(refused)?;
    let public = key.public_key().to_openssh().map_err(refused)?;
    Ok(Made { private, public: taken(&public)? })
}

/// In PKCS #8, which OpenSSH reads as well as its own form.
fn make_rsa(comment: &str) -> Result<Made, SshError> {
    let refused = || SshError::Make("the cryptographic library refused");
    let pair = KeyPair::generate(KeySize::Rsa4096).map_err(|_| refused())?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| refused())?;
    let mut private = Zeroizing::new(String::with_capacity(4096));
    private.push_str("-----BEGIN PRIVATE KEY-----\n");
    push_base64(&mut private, der.as_ref());
    private.push_str("-----END PRIVATE KEY-----\n");
    let number = |bytes: &[u8]| {
        let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        Mpint::from_positive_bytes(bytes).map_err(|_| refused())
    };
    // RSAPublicKey (RFC 8017, A.1.1): a sequence of modulus and exponent.
    let (numbers, _) = der_value(0x30, pair.public_key().as_ref()).ok_or_else(refused)?;
    let (modulus, rest) = der_value(0x02, numbers).ok_or_else(refused)?;
    let (exponent, _) = der_value(0x02, rest).ok_or_else(refused)?;
    let data = KeyData::Rsa(RsaPublicKey { e: number(exponent)?, n: number(modulus)? });
    let public = ssh_key::PublicKey::new(data, comment).to_openssh().map_err(|_| refused())?;
    Ok(Made { private, public: taken(&public)? })
}

/// The contents of a DER value of this tag, and what follows it.
fn der_value(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [found, first, rest @ ..] = bytes else { return None };
    let (len, rest) = match first {
        0..0x80 => (usize::from(*first), rest),
        _ => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
    };
    (*found == tag).then(|| rest.split_at_checked(len))?
}

fn taken(public: &str) -> Result<PublicKey, SshError> {
    PublicKey::parse(public).map_err(|_| SshError::Make("the key that was made is none"))
}

/// Base64 in lines of 64.
fn push_base64(text: &mut String, bytes: &[u8]) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for line in bytes.chunks(48) {
        for three in line.chunks(3) {
            let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for place in 0..4 {
                let letter = (bits >> (18 - 6 * place)) & 63;
                let padding = place as usize > three.len();
                let letter = LETTERS.get(letter as usize).copied().unwrap_or(b'=');
                text.push(if padding { '=' } else { char::from(letter) });
            }
        }
        text.push('\n');
    }
}

/// The path of a private key that a person named, by either of its two files.
pub(crate) fn private_path(named: &Path) -> PathBuf {
    match named.to_str().and_then(|text| text.strip_suffix(".pub")) {
        Some(private) => private.into(),
        None => named.to_owned(),
    }
}

/// The public half in the text of a `.pub` file.
pub(crate) fn public_in(path: &Path, text: &str) -> Result<PublicKey, SshError> {
    let source = |source: KeyError| SshError::Key { path: path.to_owned(), source };
    // Windows' editors end lines with two characters.
    PublicKey::parse(text.trim_end()).map_err(source)
}
