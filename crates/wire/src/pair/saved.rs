//! What a joiner keeps of a ceremony, so that it goes on after a restart.

use std::net::SocketAddr;

use bytes::Bytes;
use identity::{DeviceId, InboxId, Secret};

use super::{
    Message, Terms,
    token::{Reader, decode_addresses, encode_addresses},
};
use crate::{WireError, envelope::Recipient};

const VERSION: u8 = 1;
/// More than anything here comes to.
const MAX: usize = 1024;

/// A join that is under way, as it is kept in a file of this user's alone. The token's secret is not in it:
/// nothing needs it once the request is written.
#[derive(Clone, Debug)]
pub struct SavedJoin {
    /// What the token said.
    pub terms: Terms,
    /// Where the admitting device may be dialled.
    pub addresses: Vec<SocketAddr>,
    /// This device.
    pub me: Recipient,
    /// The body of the request, exactly as it was sent: a [`super::Pair`].
    pub pair: Bytes,
    /// What this device had committed to.
    pub nonce: Secret<[u8; 32]>,
    /// The admitter's nonce, if it is known.
    pub challenge: Option<[u8; 32]>,
    /// Its person said yes, to the string that belongs to that nonce.
    pub agreed: bool,
}

impl SavedJoin {
    /// The bytes to keep.
    #[must_use]
    pub fn encode(&self) -> Secret<Vec<u8>> {
        // Large enough not to be moved, which would leave a copy behind.
        let mut out = Vec::with_capacity(MAX);
        out.push(VERSION);
        self.terms.encode(&mut out);
        encode_addresses(&self.addresses, &mut out);
        out.extend_from_slice(&self.me.device.0);
        out.extend_from_slice(&self.me.inbox.0);
        out.extend_from_slice(self.nonce.expose());
        out.push(match (self.challenge, self.agreed) {
            (None, _) => 0,
            (Some(_), false) => 1,
            (Some(_), true) => 2,
        });
        out.extend(self.challenge.iter().flatten());
        out.extend_from_slice(&self.pair);
        Secret::new(out)
    }

    /// Reads what was kept.
    ///
    /// # Errors
    /// If it is anything else, damaged, or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX {
            let (len, limit) = (bytes.len() as u64, MAX as u64);
            return Err(WireError::TooLarge { len, limit });
        }
        let mut reader = Reader(bytes);
        if reader.byte("version")? != VERSION {
            return Err(WireError::field("version", "unknown"));
        }
        let terms = Terms::decode(&mut reader)?;
        let addresses = decode_addresses(&mut reader)?;
        let device = DeviceId(reader.take("device")?);
        let inbox = InboxId(reader.take("inbox")?);
        let nonce = Secret::new(reader.take("nonce")?);
        let stage = reader.byte("stage")?;
        let challenge = match stage {
            0 => None,
            1 | 2 => Some(reader.take("challenge")?),
            _ => return Err(WireError::field("stage", "unknown")),
        };
        let pair = Bytes::copy_from_slice(reader.rest());
        let Message::Pair(asked) = Message::decode(1, &pair)? else {
            return Err(WireError::field("pair", "another message"));
        };
        if asked.window != terms.window || asked.inbox != inbox {
            return Err(WireError::field("pair", "of another join"));
        }
        let me = Recipient { device, inbox };
        Ok(Self { terms, addresses, me, pair, nonce, challenge, agreed: stage == 2 })
    }
}
