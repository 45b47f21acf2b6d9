//! The text form of a pairing token: `kt1…`, and the link `kin:pair/kt1…`. What is in it, crate `wire` knows
//! (`pair::Token`).

use bech32::{Bech32m, Checksum as _, Hrp, primitives::decode::CheckedHrpstring};

use crate::{
    Secret,
    given::{given, starts},
};

/// What stands before the text form in a link.
const LINK: &str = "kin:pair/";
const PREFIX: &str = "kt";
/// Longest text form: what the checksum of bech32m is made for.
const MAX_TEXT: usize = Bech32m::CODE_LENGTH;
/// Most bytes that have a text form.
pub const MAX_TOKEN: usize = (MAX_TEXT - PREFIX.len() - 1 - 6) * 5 / 8;

/// Why a text is not the pairing token that was wanted. Says nothing of its contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenTextError {
    /// It is something else of ours.
    #[error("a pairing token (kt1…) is wanted here; this is {given}")]
    OtherKind {
        /// What was given, in words.
        given: &'static str,
    },
    /// It is nothing of ours.
    #[error("this is no pairing token: one begins with kt1 or kin:pair/kt1")]
    Unknown,
    /// It is longer than any token.
    #[error("this is no pairing token: it has {0} bytes, and the longest has {MAX_TEXT}")]
    TooLong(usize),
    /// A character is wrong, or some are missing.
    #[error("this pairing token is mistyped or cut short: its checksum does not fit")]
    Checksum,
}

/// The text form of a token's bytes.
///
/// # Errors
/// If there are over [`MAX_TOKEN`].
pub fn token_to_text(bytes: &[u8]) -> Result<Secret<String>, TokenTextError> {
    if bytes.len() > MAX_TOKEN {
        return Err(TokenTextError::TooLong(bytes.len()));
    }
    // Large enough not to be moved, which would leave a copy behind.
    let mut text = String::with_capacity(MAX_TEXT);
    let hrp = Hrp::parse_unchecked(PREFIX);
    // Writing to a string does not fail, and neither is it too long.
    let _ = bech32::encode_lower_to_fmt::<Bech32m, _>(&mut text, hrp, bytes);
    Ok(Secret::new(text))
}

/// The link of a token's bytes.
///
/// # Errors
/// If there are over [`MAX_TOKEN`].
pub fn token_to_link(bytes: &[u8]) -> Result<Secret<String>, TokenTextError> {
    let text = token_to_text(bytes)?;
    let mut link = String::with_capacity(LINK.len() + MAX_TEXT);
    link.push_str(LINK);
    link.push_str(text.expose());
    Ok(Secret::new(link))
}

/// Reads either form; white space around it does not matter, and upper case (as in a QR code) neither.
///
/// # Errors
/// Says what the text is instead.
pub fn token_from_text(text: &str) -> Result<Secret<Vec<u8>>, TokenTextError> {
    let text = text.trim();
    let linked = starts(text, LINK);
    let token = if linked { text.get(LINK.len()..).unwrap_or_default() } else { text };
    if !starts(token, "kt1") {
        return Err(match given(token).or_else(|| given(text)) {
            Some("a link") => TokenTextError::OtherKind { given: "a link for something else" },
            Some(given) => TokenTextError::OtherKind { given },
            None => TokenTextError::Unknown,
        });
    }
    if token.len() > MAX_TEXT {
        return Err(TokenTextError::TooLong(token.len()));
    }
    let checked = CheckedHrpstring::new::<Bech32m>(token).map_err(|_| TokenTextError::Checksum)?;
    let mut bytes = Vec::with_capacity(MAX_TOKEN);
    bytes.extend(checked.byte_iter());
    let bytes = Secret::new(bytes);
    // Bits behind the last byte would make two texts of one token.
    let again = token_to_text(bytes.expose())?;
    if !again.expose().eq_ignore_ascii_case(token) {
        return Err(TokenTextError::Checksum);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DeviceId, SeedKind};

    fn refused(text: &str) -> TokenTextError {
        token_from_text(text).unwrap_err()
    }

    #[test]
    fn attack_14_another_kind_or_size_is_a_typed_error() {
        let other = |given| TokenTextError::OtherKind { given };
        assert_eq!(refused(&DeviceId([7; 32]).to_string()), other("a device id"));
        assert_eq!(refused("KC1QQQQ"), other("a sharing code"));
        assert_eq!(refused("kin:join/kc1qqqq"), other("a link for something else"));
        assert_eq!(refused("kin:pair/kc1qqqq"), other("a sharing code"));
        assert_eq!(refused("kin:pair/kin:pair/kt1qqqq"), other("a link for something else"));
        assert_eq!(refused("ssh-ed25519 AAAA"), TokenTextError::Unknown);
        assert_eq!(refused(""), TokenTextError::Unknown);
        assert_eq!(refused("kt1"), TokenTextError::Checksum);
        assert_eq!(refused("kt1é"), TokenTextError::Checksum);
        let long = format!("kt1{}", "q".repeat(50_000));
        assert_eq!(refused(&long), TokenTextError::TooLong(50_003));
        assert_eq!(refused(&long.replace("kt1", "maple ")), TokenTextError::Unknown);
        assert_eq!(token_to_text(&[0; MAX_TOKEN + 1]).err(), Some(TokenTextError::TooLong(634)));
    }

    #[test]
    fn attack_09_a_short_string_or_a_key_is_refused_and_the_danger_named() {
        for text in ["maple otter 42 17", "42 17", "kin:pair/maple otter 42 17"] {
            let words = refused(text).to_string();
            assert!(words.contains("never typed") && words.contains("trying to get in"), "{words}");
        }
        let key = SeedKind::Device.to_text(&Secret::new([7; 32]));
        assert!(refused(key.expose()).to_string().contains("must never leave its device"));
    }

    proptest! {
        #[test]
        fn both_forms_round_trip_in_either_case(
            bytes in proptest::collection::vec(any::<u8>(), 0..=MAX_TOKEN),
        ) {
            for text in [token_to_text(&bytes).unwrap(), token_to_link(&bytes).unwrap()] {
                prop_assert!(text.expose().len() <= LINK.len() + MAX_TEXT);
                for text in [format!(" {}\n", text.expose()), text.expose().to_uppercase()] {
                    let read = token_from_text(&text).unwrap();
                    prop_assert_eq!(read.expose(), &bytes);
                }
            }
        }

        #[test]
        fn one_changed_character_is_noticed(
            bytes in proptest::collection::vec(any::<u8>(), 1..200),
            at: prop::sample::Index,
            to in "[a-z0-9]",
        ) {
            let text = token_to_text(&bytes).unwrap();
            let mut changed = text.expose().clone();
            let at = at.index(changed.len());
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(token_from_text(&changed).is_ok(), changed == *text.expose());
        }
    }
}
