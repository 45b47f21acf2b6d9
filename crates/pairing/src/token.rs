//! The token ceremony (rule T4): one device shows a token, another asks with it, two people compare a string.
//!
//! ```text
//! joiner                                              admitter
//!   | Pair    card, commitment to nJ, MAC of the secret    |
//!   |----------------------------------------------------->|  a wrong MAC gets no answer
//!   |                            Challenge  nA, fresh      |
//!   |<-----------------------------------------------------|
//!   | Ready   nJ, not answered yet                         |
//!   |----------------------------------------------------->|  both show the string
//!   | Ready   nJ, its person said yes                      |
//!   |----------------------------------------------------->|  its person said yes too:
//!   |              Admitted, or Declined with a reason     |  the admission is written
//!   |<-----------------------------------------------------|
//! ```
//!
//! The messages travel in letters, so it makes no difference whether they come over a link or by a relay,
//! minutes apart, twice, or in another order: each side answers what it has answered before in the same
//! way, and a person's no is the last word.
//!
//! Rule T4 has the admitter alone choose a nonce. Then somebody who gave the joiner a token of his own and
//! holds the right one could ask at the admitter first, learn the string there, and try nonces at the
//! joiner until the strings are equal: 2^29 hashes. So the joiner commits to a nonce of its own before it
//! knows the admitter's, as in the LAN ceremony (rule T3), and each run is one guess.

use blake3::Hasher;
use bytes::Bytes;
use identity::{DeviceId, DeviceKey, InboxId, Sas, Secret};
use wire::{
    Hash, WireError,
    envelope::{Letter, Recipient},
    membership::GroupId,
    pair::{Message, RequestId, Terms},
    session::Name,
};

mod join;
mod window;

pub use join::{JoinStep, Over, TokenJoin};
pub use window::{Closed, Gone, Request, TokenWindow, WindowError, WindowStep};

/// Most requests that a window takes (rule T4).
pub const MAX_REQUESTS: usize = 8;
/// How long a window is open if nothing else is said, in milliseconds.
pub const WINDOW_MS: u64 = 5 * 60 * 1000;

/// Who wants to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Card {
    /// Its device id: that of the key which signed its letters.
    pub device: DeviceId,
    /// Its inbox key.
    pub inbox: InboxId,
    /// What it calls itself.
    pub name: Name,
}

impl Card {
    /// To whom its letters go.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient { device: self.device, inbox: self.inbox }
    }
}

/// A message to be signed, sealed and sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// To whom.
    pub to: Recipient,
    /// The group that it is about.
    pub group: GroupId,
    /// The message.
    pub message: Message,
}

impl Outgoing {
    /// Its envelope. `sequence` is the author's next number for this recipient.
    ///
    /// # Errors
    /// If nothing can be sealed to the recipient.
    pub fn seal(&self, key: &DeviceKey, sequence: u64) -> Result<Bytes, WireError> {
        let letter = Letter {
            reply: None,
            author: key.id(),
            group: Some(self.group),
            kind: self.message.kind(),
            sequence,
            body: self.message.encode(),
        };
        letter.seal(key, &self.to)
    }
}

/// What both sides read alike: a token's terms and the joiner.
struct Pairing<'a> {
    terms: Hash,
    joiner: &'a Card,
}

impl Pairing<'_> {
    /// What the joiner proves that it has the token with.
    fn mac(&self, secret: &Secret<[u8; 16]>, commitment: &[u8; 32]) -> blake3::Hash {
        let key = blake3::derive_key("kinfold 2026-11 token secret", secret.expose());
        let key = Secret::new(key);
        let mut hasher = Hasher::new_keyed(key.expose());
        hasher.update(b"kinfold 2026-11 token mac");
        for part in self.bytes() {
            hasher.update(part);
        }
        hasher.update(commitment).finalize()
    }

    /// What binds the joiner to its nonce.
    fn commitment(&self, nonce: &[u8; 32]) -> [u8; 32] {
        let [terms, device, inbox, name] = self.bytes();
        let parts = [nonce, terms, device, inbox, name];
        Hash::derived("kinfold 2026-11 token commitment", &parts).0
    }

    /// All but the last have a fixed length; in the MAC, what follows has one too.
    fn bytes(&self) -> [&[u8]; 4] {
        let Card { device, inbox, name } = self.joiner;
        [&self.terms.0, &device.0, &inbox.0, name.as_str().as_bytes()]
    }
}

/// The string of a request and both nonces.
fn sas(terms: &Hash, request: &RequestId, admitter: &[u8; 32], joiner: &[u8; 32]) -> Sas {
    let parts: [&[u8]; 4] = [&terms.0, &request.0, admitter, joiner];
    Sas::from_kdf(&Hash::derived("kinfold 2026-11 token sas", &parts).0)
}

/// True if a device would pair with itself, or is shown its own key.
fn mirrored(terms: &Terms, joiner: &Recipient) -> bool {
    terms.device == joiner.device
        || terms.inbox == joiner.inbox
        || terms.device.0 == joiner.inbox.0
        || terms.inbox.0 == joiner.device.0
}
