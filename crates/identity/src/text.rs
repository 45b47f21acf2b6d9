//! Text forms: bech32m (BIP 350) with a prefix for each kind, so that one kind cannot be given where
//! another is meant.

use std::{fmt, str::FromStr};

use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};

use crate::DeviceId;

/// Characters of a device id's text form: prefix, separator, 52 of data, 6 of checksum.
const DEVICE_ID_LEN: usize = 2 + 1 + 52 + 6;

/// Why a text is not the device id that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// It is something else of ours.
    #[error("this is {given}, but a device id (kd1…) is wanted here")]
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
        let starts = |prefix: &str| {
            text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        };
        for (prefix, given) in
            [("kt1", "a pairing token"), ("kc1", "a sharing code"), ("kin:", "a link")]
        {
            if starts(prefix) {
                return Err(TextError::OtherKind { given });
            }
        }
        if !starts("kd1") {
            return Err(TextError::Unknown);
        }
        if text.len() != DEVICE_ID_LEN {
            return Err(TextError::Checksum);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| TextError::Checksum)?;
        let bytes: Vec<u8> = checked.byte_iter().collect();
        Ok(Self(bytes.try_into().map_err(|_| TextError::Checksum)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_kinds_are_named() {
        let refused = |text: &str| text.parse::<DeviceId>().unwrap_err().to_string();
        assert!(refused("kt1qqqq").contains("a pairing token"));
        assert!(refused("KC1QQQQ").contains("a sharing code"));
        assert!(refused("kin:whatever").contains("a link"));
        assert!(refused("maple otter 42 17").contains("no device id"));
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

    proptest! {
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
