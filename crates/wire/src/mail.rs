//! Where a device's letters may be left when no link leads to it: a mailbox at a relay.
//!
//! An address is public to whoever is to write to the device, and says nothing of it but where the relay is.

use crate::WireError;

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
        let printable = |byte: &u8| byte.is_ascii_graphic();
        if rest.is_empty() || rest.len() > MAX_RELAY || !rest.iter().all(printable) {
            return Err(WireError::field("relay", "empty, too long, or not printable"));
        }
        let relay = String::from_utf8_lossy(rest).into_owned();
        Ok(Self { relay, mailbox: *mailbox, token })
    }

    /// The same mailbox as a stranger writes to it.
    #[must_use]
    pub fn for_strangers(&self) -> Self {
        Self { token: None, ..self.clone() }
    }
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
