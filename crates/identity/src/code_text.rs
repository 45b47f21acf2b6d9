//! The text form of a sharing code: `kc1…`, and the link `kin:join/kc1…`. What is in it, crate `wire` knows
//! (`code::Code`).

use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};

use crate::{
    Secret,
    given::{given, starts},
};

/// What stands before the text form in a link.
const LINK: &str = "kin:join/";
/// What stands between a code and a relay in a link.
const RELAY: &str = "?relay=";
const PREFIX: &str = "kc";
/// Bytes of a code: version, secret and the hash of its issuer (rule T16).
pub const CODE_LEN: usize = 1 + 16 + 16;
/// Characters of the text form: prefix, separator, five bits a character, checksum.
const TEXT_LEN: usize = PREFIX.len() + 1 + (CODE_LEN * 8).div_ceil(5) + 6;
/// Longest relay address in a link.
const MAX_RELAY: usize = 512;

/// Why a text is not the sharing code that was wanted. Says nothing of its contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeTextError {
    /// It is something else of ours.
    #[error("a sharing code (kc1…) is wanted here; this is {given}")]
    OtherKind {
        /// What was given, in words.
        given: &'static str,
    },
    /// It is nothing of ours.
    #[error("this is no sharing code: one begins with kc1 or kin:join/kc1")]
    Unknown,
    /// It is longer than any code or link.
    #[error("this is no sharing code: it has {0} characters; a code has {TEXT_LEN}")]
    TooLong(usize),
    /// A character is wrong, or some are missing.
    #[error("this sharing code is mistyped or cut short: its checksum does not fit")]
    Checksum,
}

/// A code's bytes as they were read, and the relay that its link names, if any.
#[derive(Debug)]
pub struct ReadCode {
    /// The code itself.
    pub bytes: Secret<[u8; CODE_LEN]>,
    /// Text from outside: the address of a relay, still to be read.
    pub relay: Option<String>,
}

/// The text form of a code's bytes.
#[must_use]
pub fn code_to_text(bytes: &[u8; CODE_LEN]) -> Secret<String> {
    // Large enough not to be moved, which would leave a copy behind.
    let mut text = String::with_capacity(TEXT_LEN);
    // Writing to a string does not fail, and neither is it too long.
    let _ =
        bech32::encode_lower_to_fmt::<Bech32m, _>(&mut text, Hrp::parse_unchecked(PREFIX), bytes);
    Secret::new(text)
}

/// The link of a code's bytes; with the relay where it is to be looked up, if there is one.
#[must_use]
pub fn code_to_link(bytes: &[u8; CODE_LEN], relay: Option<&str>) -> Secret<String> {
    let room = LINK.len() + TEXT_LEN + RELAY.len() + relay.map_or(0, str::len);
    let mut link = String::with_capacity(room);
    link.push_str(LINK);
    link.push_str(code_to_text(bytes).expose());
    if let Some(relay) = relay {
        link.push_str(RELAY);
        link.push_str(relay);
    }
    Secret::new(link)
}

/// Reads either form; white space around it does not matter, and upper case (as in a QR code) neither.
///
/// # Errors
/// Says what the text is instead.
pub fn code_from_text(text: &str) -> Result<ReadCode, CodeTextError> {
    let text = text.trim();
    let longest = LINK.len() + TEXT_LEN + RELAY.len() + MAX_RELAY;
    let rest = if starts(text, LINK) { text.get(LINK.len()..).unwrap_or_default() } else { text };
    if !starts(rest, "kc1") {
        return Err(match given(rest).or_else(|| given(text)) {
            Some("a link") => CodeTextError::OtherKind { given: "a link for something else" },
            Some(given) => CodeTextError::OtherKind { given },
            None => CodeTextError::Unknown,
        });
    }
    if text.len() > longest {
        return Err(CodeTextError::TooLong(text.len()));
    }
    let (code, relay) = match rest.find('?') {
        Some(at) => {
            let (code, relay) = rest.split_at(at);
            if !starts(relay, RELAY) {
                return Err(CodeTextError::Checksum);
            }
            (code, relay.get(RELAY.len()..).filter(|relay| !relay.is_empty()))
        }
        None => (rest, None),
    };
    if code.len() != TEXT_LEN {
        return Err(match code.len() > TEXT_LEN {
            true => CodeTextError::TooLong(code.len()),
            false => CodeTextError::Checksum,
        });
    }
    let checked = CheckedHrpstring::new::<Bech32m>(code).map_err(|_| CodeTextError::Checksum)?;
    let mut bytes = Secret::new([0; CODE_LEN]);
    let mut read = 0;
    for byte in checked.byte_iter() {
        let place = bytes.expose_mut().get_mut(read).ok_or(CodeTextError::Checksum)?;
        *place = byte;
        read += 1;
    }
    // Bits behind the last byte would make two texts of one code.
    let again = code_to_text(bytes.expose());
    if read != CODE_LEN || !again.expose().eq_ignore_ascii_case(code) {
        return Err(CodeTextError::Checksum);
    }
    Ok(ReadCode { bytes, relay: relay.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DeviceId, SeedKind, token_from_text, token_to_link, token_to_text};

    fn refused(text: &str) -> CodeTextError {
        code_from_text(text).unwrap_err()
    }

    #[test]
    fn attack_14_another_kind_or_size_is_a_typed_error() {
        let other = |given| CodeTextError::OtherKind { given };
        assert_eq!(refused(&DeviceId([7; 32]).to_string()), other("a device id"));
        let token = token_to_text(&[1; 33]).unwrap();
        assert_eq!(refused(token.expose()), other("a pairing token"));
        let link = token_to_link(&[1; 33]).unwrap();
        assert_eq!(refused(link.expose()), other("a link for something else"));
        assert_eq!(refused("kin:join/kt1qqq"), other("a pairing token"));
        assert_eq!(refused("ssh-ed25519 AAAA"), CodeTextError::Unknown);
        assert_eq!(refused(""), CodeTextError::Unknown);
        assert_eq!(refused("kc1"), CodeTextError::Checksum);
        assert_eq!(refused("kc1é"), CodeTextError::Checksum);
        let long = format!("kc1{}", "q".repeat(50_000));
        assert_eq!(refused(&long), CodeTextError::TooLong(50_003));
        let code = code_to_text(&[9; CODE_LEN]);
        assert_eq!(refused(&format!("{}?r=x", code.expose())), CodeTextError::Checksum);
    }

    #[test]
    fn attack_09_a_short_string_or_a_key_is_refused_and_the_danger_named() {
        for text in ["maple otter 42 17", "42 17", "kin:join/maple otter 42 17"] {
            let words = refused(text).to_string();
            assert!(words.contains("never typed") && words.contains("trying to get in"), "{words}");
        }
        let key = SeedKind::Device.to_text(&Secret::new([7; 32]));
        assert!(refused(key.expose()).to_string().contains("must never leave its device"));
    }

    proptest! {
        #[test]
        fn t16_both_forms_round_trip_in_either_case_and_are_no_tokens(bytes: [u8; 32]) {
            let mut code = [1; CODE_LEN];
            code[1..].copy_from_slice(&bytes);
            let relay = "host:8443/abc";
            for (text, named) in [
                (code_to_text(&code), None),
                (code_to_link(&code, None), None),
                (code_to_link(&code, Some(relay)), Some(relay)),
            ] {
                prop_assert!(token_from_text(text.expose()).is_err());
                let read = code_from_text(&format!(" {}\n", text.expose())).unwrap();
                prop_assert_eq!(read.bytes.expose(), &code);
                prop_assert_eq!(read.relay.as_deref(), named);
            }
            let upper = code_to_link(&code, None).expose().to_uppercase();
            let read = code_from_text(&upper).unwrap();
            prop_assert_eq!(read.bytes.expose(), &code);
        }

        #[test]
        fn one_changed_character_is_noticed(bytes: [u8; 32], at: prop::sample::Index, to in "[a-z0-9]") {
            let mut code = [1; CODE_LEN];
            code[1..].copy_from_slice(&bytes);
            let text = code_to_text(&code);
            let mut changed = text.expose().clone();
            let at = at.index(changed.len());
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(code_from_text(&changed).is_ok(), changed == *text.expose());
        }
    }
}
