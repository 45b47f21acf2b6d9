//! Text forms: bech32m (BIP 350) with a prefix for each kind, so that one kind cannot be given where
//! another is meant.

use std::{fmt, str::FromStr};

use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};

use zeroize::Zeroize as _;

use crate::{
    DeviceId, Secret,
    given::{given, starts},
};

/// Characters of a device id's text form: prefix, separator, 52 of data, 6 of checksum.
const DEVICE_ID_LEN: usize = 2 + 1 + 52 + 6;

/// Why a text is not the device id that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// It is something else of ours.
    #[error("a device id (kd1…) is wanted here; this is {given}")]
    OtherKind {
        /// What was given, in words.
        given: &'static str,
    },
    /// It is nothing of ours.
    #[error("this is no device id: one begins with kd1 and has {DEVICE_ID_LEN} characters")]
    Unknown,
    /// A character is wrong, or some are missing.
    #[error("this device id is mistyped: its checksum does not fit")]
    Checksum,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<Bech32m, _>(f, Hrp::parse_unchecked("kd"), &self.0)
            .map_err(|_| fmt::Error)
    }
}

impl DeviceId {
    /// The first characters of the text form, for places where the whole is too long to read. For
    /// people only: it identifies nothing.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(11).collect()
    }
}

impl FromStr for DeviceId {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let text = text.trim();
        if !starts(text, "kd1") {
            return Err(
                given(text).map_or(TextError::Unknown, |given| TextError::OtherKind { given })
            );
        }
        if text.len() != DEVICE_ID_LEN {
            return Err(TextError::Checksum);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| TextError::Checksum)?;
        let bytes: Vec<u8> = checked.byte_iter().collect();
        Ok(Self(bytes.try_into().map_err(|_| TextError::Checksum)?))
    }
}

/// Which key a seed in a file is for. Each has its own prefix, so that one cannot stand for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeedKind {
    /// Of a device key.
    Device,
    /// Of an inbox key.
    Inbox,
}

/// A text is not the seed that was wanted. Says nothing of its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no {}, or it is damaged", match .0 { SeedKind::Device => "device key", SeedKind::Inbox => "inbox key" })]
pub struct SeedError(pub SeedKind);

impl SeedKind {
    fn prefix(self) -> Hrp {
        Hrp::parse_unchecked(match self {
            Self::Device => "kin-device-key-",
            Self::Inbox => "kin-inbox-key-",
        })
    }

    /// The seed as text: bech32m, never shown, only kept in a file of this user's.
    #[must_use]
    pub fn to_text(self, seed: &Secret<[u8; 32]>) -> Secret<String> {
        // Large enough not to be moved, which would leave a copy behind.
        let mut text = String::with_capacity(128);
        // Writing to a string does not fail, and neither is anything here too long.
        let _ = bech32::encode_lower_to_fmt::<Bech32m, _>(&mut text, self.prefix(), seed.expose());
        Secret::new(text)
    }

    /// Reads [`Self::to_text`]; white space around it does not matter.
    ///
    /// # Errors
    /// If it is anything else, or damaged.
    pub fn parse(self, text: &str) -> Result<Secret<[u8; 32]>, SeedError> {
        let wrong = SeedError(self);
        let checked = CheckedHrpstring::new::<Bech32m>(text.trim()).map_err(|_| wrong)?;
        if checked.hrp() != self.prefix() {
            return Err(wrong);
        }
        let mut seed = [0; 32];
        let mut bytes = checked.byte_iter();
        if bytes.len() != seed.len() {
            return Err(wrong);
        }
        seed.iter_mut().zip(&mut bytes).for_each(|(to, byte)| *to = byte);
        let secret = Secret::new(seed);
        seed.zeroize();
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attack_14_other_kinds_are_named() {
        let refused = |text: &str| text.parse::<DeviceId>().unwrap_err().to_string();
        assert!(refused("kt1qqqq").contains("a pairing token"));
        assert!(refused("KC1QQQQ").contains("a sharing code"));
        assert!(refused("kin:whatever").contains("a link"));
        assert!(refused("laptop").contains("no device id"));
        assert!(refused("").contains("no device id"));
        assert!(refused("kd1é").contains("mistyped"));
        assert!(refused(&format!("kd1{}", "q".repeat(50_000))).contains("mistyped"));
    }

    #[test]
    fn upper_case_is_the_same_id_and_mixed_case_is_none() {
        let id = DeviceId([9; 32]);
        let text = id.to_string();
        assert!(text.starts_with("kd1"));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        let mixed = format!("KD1{}", &text[3..]);
        assert_eq!(mixed.parse::<DeviceId>(), Err(TextError::Checksum));
        assert!(text.starts_with(&id.short()));
    }

    #[test]
    fn a_seed_of_one_kind_is_not_of_the_other() {
        let text = SeedKind::Device.to_text(&Secret::new([7; 32]));
        assert!(text.expose().starts_with("kin-device-key-1"), "{}", text.expose());
        assert_eq!(SeedKind::Inbox.parse(text.expose()).unwrap_err(), SeedError(SeedKind::Inbox));
        assert!(text.expose().parse::<DeviceId>().is_err());
        let id = DeviceId([7; 32]).to_string();
        assert_eq!(
            SeedKind::Device.parse(&id).unwrap_err().to_string(),
            "this is no device key, or it is damaged"
        );
        assert!(SeedKind::Device.parse("").is_err());
    }

    proptest! {
        #[test]
        fn seeds_round_trip_and_damage_is_noticed(seed: [u8; 32], at in 0_usize..70, to in "[a-z0-9]") {
            for kind in [SeedKind::Device, SeedKind::Inbox] {
                let text = kind.to_text(&Secret::new(seed));
                let lines = format!("  {}\n", text.expose());
                let read = kind.parse(&lines).unwrap();
                prop_assert_eq!(read.expose(), &seed);
                let mut changed = text.expose().clone();
                changed.replace_range(at..=at, &to);
                prop_assert_eq!(kind.parse(&changed).is_ok(), changed == *text.expose());
            }
        }

        #[test]
        fn ids_round_trip(bytes: [u8; 32]) {
            let id = DeviceId(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().len(), DEVICE_ID_LEN);
        }

        #[test]
        fn one_changed_character_is_noticed(bytes: [u8; 32], at in 3_usize..61, to in "[a-z0-9]") {
            let text = DeviceId(bytes).to_string();
            let mut changed = text.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != text);
            prop_assert!(changed.parse::<DeviceId>().is_err());
        }
    }
}
