//! Where a device's letters may be left when no link leads to it: a mailbox at a relay.
//!
//! An address is public to whoever is to write to the device, and says nothing of it but where the relay is.

use bytes::Bytes;
use identity::{DeviceId, DeviceKey, SIGNATURE_LEN};

use crate::{Hash, WireError, membership::MAX_OPERATION, relay::MeetingId};

/// Longest text of a relay's address.
pub const MAX_RELAY: usize = 300;
const VERSION: u8 = 1;

/// A mailbox, and what opens one of its two lanes (rule T22).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MailAddress {
    /// The relay's address in its text form (`kin:relay/…`): printable ASCII, at most [`MAX_RELAY`] bytes.
    pub relay: String,
    /// The mailbox: random, and known to nobody who was not told.
    pub mailbox: [u8; 32],
    /// Opens the members' lane; without it a letter goes to the strangers'.
    pub token: Option<[u8; 32]>,
}

impl MailAddress {
    /// The bytes of it.
    ///
    /// # Errors
    /// If it breaks a bound.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::with_capacity(4 + self.relay.len() + 64);
        out.push(VERSION);
        out.extend_from_slice(&self.mailbox);
        match &self.token {
            None => out.push(0),
            Some(token) => {
                out.push(1);
                out.extend_from_slice(token);
            }
        }
        out.extend_from_slice(self.relay.as_bytes());
        Self::decode(&out)?;
        Ok(out)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Says which field breaks which rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let cut = || WireError::field("mail address", "cut short");
        let (version, rest) = bytes.split_first().ok_or_else(cut)?;
        if *version != VERSION {
            return Err(WireError::field("mail address", "of a version that is not known"));
        }
        let (mailbox, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (token, rest) = match rest.split_first().ok_or_else(cut)? {
            (0, rest) => (None, rest),
            (1, rest) => {
                let (token, rest) = rest.split_first_chunk().ok_or_else(cut)?;
                (Some(*token), rest)
            }
            _ => return Err(WireError::field("token", "neither there nor absent")),
        };
        Ok(Self { relay: read_relay(rest)?, mailbox: *mailbox, token })
    }

    /// The same mailbox as a stranger writes to it.
    #[must_use]
    pub fn for_strangers(&self) -> Self {
        Self { token: None, ..self.clone() }
    }
}

const CARD_CONTEXT: &str = "kinfold 2026-11 mail card";
/// Longest card in bytes.
pub const MAX_CARD: usize = 32 + 8 + 2 + 1 + 32 + 1 + 32 + MAX_RELAY + SIGNATURE_LEN;

/// Where a member's letters may be left, in its own words: members pass it on to each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Card {
    /// Whose.
    pub device: DeviceId,
    /// A later one takes the place of an earlier one. Milliseconds since 1970 by the device's clock.
    pub at: u64,
    /// Where.
    pub address: MailAddress,
    /// As it was signed.
    bytes: Bytes,
}

impl Card {
    /// A card of the device that has this key.
    ///
    /// # Errors
    /// If the address breaks a bound.
    pub fn sign(key: &DeviceKey, at: u64, address: MailAddress) -> Result<Self, WireError> {
        let told = address.encode()?;
        let signature = key.sign(&card_digest(&key.id(), at, &told).0);
        let mut bytes = Vec::with_capacity(MAX_CARD);
        bytes.extend_from_slice(&key.id().0);
        bytes.extend_from_slice(&at.to_be_bytes());
        bytes.extend_from_slice(&signature);
        bytes.extend_from_slice(&told);
        Ok(Self { device: key.id(), at, address, bytes: bytes.into() })
    }

    /// Reads a card, and checks that the device it is of has signed it.
    ///
    /// # Errors
    /// Says which field breaks which rule.
    pub fn parse(bytes: Bytes) -> Result<Self, WireError> {
        let cut = || WireError::field("card", "cut short, or too long");
        if bytes.len() > MAX_CARD {
            return Err(cut());
        }
        let (device, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let (at, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (signature, told) = rest.split_first_chunk::<SIGNATURE_LEN>().ok_or_else(cut)?;
        let (device, at) = (DeviceId(*device), u64::from_be_bytes(*at));
        let address = MailAddress::decode(told)?;
        if !device.verify(&card_digest(&device, at, told).0, signature) {
            return Err(WireError::field("signature", "not the device's"));
        }
        Ok(Self { device, at, address, bytes })
    }

    /// The bytes to keep and to pass on.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

fn card_digest(device: &DeviceId, at: u64, address: &[u8]) -> Hash {
    Hash::derived(CARD_CONTEXT, &[&device.0, &at.to_be_bytes(), address])
}

/// What members tell each other by mail, as the body of a letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// The author waits at a relay for the recipient, to be linked with it.
    Meet {
        /// Where: drawn at random for this one time.
        meeting: MeetingId,
        /// The relay's address, as in a [`MailAddress`].
        relay: String,
    },
    /// Operations of the letter's group, each after those it was written on: 1 to [`MAX_MAILED`].
    Operations(Vec<Bytes>),
    /// A card.
    Card(Bytes),
}

/// Most operations in one letter.
pub const MAX_MAILED: usize = 7;

impl Message {
    /// The number of its kind in a letter.
    #[must_use]
    pub fn kind(&self) -> u32 {
        match self {
            Self::Meet { .. } => 10,
            Self::Operations(_) => 11,
            Self::Card(_) => 12,
        }
    }

    /// True if letters of this kind are these.
    #[must_use]
    pub fn has_kind(kind: u32) -> bool {
        (10..=12).contains(&kind)
    }

    /// The body of its letter.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Meet { meeting, relay } => {
                out.extend_from_slice(&meeting.0);
                out.extend_from_slice(relay.as_bytes());
            }
            Self::Operations(operations) => {
                for operation in operations {
                    let len = u32::try_from(operation.len()).unwrap_or(u32::MAX);
                    out.extend_from_slice(&len.to_be_bytes());
                    out.extend_from_slice(operation);
                }
            }
            Self::Card(card) => out.extend_from_slice(card),
        }
        out.into()
    }

    /// Reads the body of a letter of this kind. A message has one form only.
    ///
    /// # Errors
    /// Says which field breaks which rule.
    pub fn decode(kind: u32, body: &Bytes) -> Result<Self, WireError> {
        let cut = || WireError::field("body", "cut short");
        match kind {
            10 => {
                let (meeting, relay) = body.split_first_chunk().ok_or_else(cut)?;
                Ok(Self::Meet { meeting: MeetingId(*meeting), relay: read_relay(relay)? })
            }
            11 => {
                let mut rest = body.clone();
                let mut operations = Vec::new();
                while !rest.is_empty() {
                    let (len, _) = rest.split_first_chunk().ok_or_else(cut)?;
                    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
                    let _ = rest.split_to(4);
                    if len > MAX_OPERATION || len > rest.len() || operations.len() >= MAX_MAILED {
                        return Err(WireError::field("operations", "too many, too large, or cut"));
                    }
                    operations.push(rest.split_to(len));
                }
                match operations.is_empty() {
                    true => Err(WireError::field("operations", "none")),
                    false => Ok(Self::Operations(operations)),
                }
            }
            12 if body.len() <= MAX_CARD => Ok(Self::Card(body.clone())),
            12 => Err(WireError::field("card", "too long")),
            _ => Err(WireError::field("kind", "unknown to this version")),
        }
    }
}

fn read_relay(bytes: &[u8]) -> Result<String, WireError> {
    let printable = |byte: &u8| byte.is_ascii_graphic();
    if bytes.is_empty() || bytes.len() > MAX_RELAY || !bytes.iter().all(printable) {
        return Err(WireError::field("relay", "empty, too long, or not printable"));
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_round_trip(
            relay in "[!-~]{1,300}", mailbox: [u8; 32], token: Option<[u8; 32]>,
        ) {
            let address = MailAddress { relay, mailbox, token };
            let bytes = address.encode().unwrap();
            prop_assert_eq!(MailAddress::decode(&bytes), Ok(address));
        }

        #[test]
        fn bytes_are_read_in_one_way_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(address) = MailAddress::decode(&bytes) {
                prop_assert_eq!(address.encode().unwrap(), bytes);
            }
        }
    }

    fn message() -> impl Strategy<Value = Message> {
        let operation = proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            ("[!-~]{1,300}", any::<[u8; 32]>())
                .prop_map(|(relay, meeting)| Message::Meet { meeting: MeetingId(meeting), relay }),
            proptest::collection::vec(operation, 1..=MAX_MAILED).prop_map(Message::Operations),
            proptest::collection::vec(any::<u8>(), 0..MAX_CARD)
                .prop_map(|card| Message::Card(card.into())),
        ]
    }

    proptest! {
        #[test]
        fn messages_round_trip(message in message()) {
            let body = message.encode();
            prop_assert_eq!(Message::decode(message.kind(), &body), Ok(message));
        }

        #[test]
        fn a_body_has_one_form(kind in 9_u32..14, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let body = Bytes::from(body);
            if let Ok(message) = Message::decode(kind, &body) {
                prop_assert_eq!(message.encode(), body);
            }
        }

        #[test]
        fn a_changed_card_is_refused(at: prop::sample::Index, bit in 0..8_u8) {
            let key = DeviceKey::from_seed(&identity::Secret::new([1; 32])).unwrap();
            let address = MailAddress { relay: "kin:relay/x".into(), mailbox: [2; 32], token: Some([3; 32]) };
            let card = Card::sign(&key, 7, address).unwrap();
            prop_assert_eq!(Card::parse(card.bytes().clone()), Ok(card.clone()));
            let mut bytes = card.bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Card::parse(bytes.into()).is_err());
        }
    }

    #[test]
    fn bounds_are_kept() {
        let with =
            |relay: &str| MailAddress { relay: relay.to_owned(), mailbox: [1; 32], token: None };
        assert!(with("kin:relay/x").encode().is_ok());
        for bad in ["", "a b", "a\u{1b}[31m", "é", &"x".repeat(MAX_RELAY + 1)] {
            assert!(with(bad).encode().is_err(), "{bad:?}");
        }
    }
}
