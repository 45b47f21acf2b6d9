//! What a text is, so that whoever gave one kind where another is meant is told so, and of the danger.

use crate::WORDS;

/// What is said of a short authentication string that was typed somewhere.
pub(crate) const SAS_DANGER: &str = "a short authentication string: it is compared on two screens, \
     never typed, and whoever asks you to type or send it may be trying to get in";

/// The kinds of text that are recognised by how they begin.
const PREFIXES: [(&str, &str); 6] = [
    ("kd1", "a device id"),
    ("kt1", "a pairing token"),
    ("kc1", "a sharing code"),
    ("kin:", "a link"),
    ("kin-device-key-", "a device's secret key, which must never leave its device"),
    ("kin-inbox-key-", "an inbox's secret key, which must never leave its device"),
];

/// True if the text begins so, in upper or lower case.
pub(crate) fn starts(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// What the text is, in words, if it is something of ours.
pub(crate) fn given(text: &str) -> Option<&'static str> {
    let known = PREFIXES.iter().find(|(prefix, _)| starts(text, prefix));
    known.map(|(_, given)| *given).or_else(|| is_sas(text).then_some(SAS_DANGER))
}

/// True for a short authentication string and for any part of one, however it is written.
fn is_sas(text: &str) -> bool {
    // The longest one has 19 characters.
    if text.len() > 40 {
        return false;
    }
    let (mut words, mut digits) = (0, 0);
    for part in text.split(|it: char| !it.is_alphanumeric()).filter(|part| !part.is_empty()) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            digits += part.len();
        } else if WORDS.iter().any(|word| word.eq_ignore_ascii_case(part)) {
            words += 1;
        } else {
            return false;
        }
    }
    words + digits > 0 && words <= 2 && digits <= 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DeviceId, Sas};

    #[test]
    fn attack_09_parts_of_a_string_are_known_too() {
        for text in ["maple otter 42 17", "MAPLE-OTTER", "42 17", "4217", "otter, 17", "zodiac"] {
            assert_eq!(given(text), Some(SAS_DANGER), "{text}");
        }
        // A passphrase of four words, a year and a half, nothing.
        for text in ["maple otter zebra plum", "20261", "", "  ", "laptop 42"] {
            assert_eq!(given(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn attack_09_every_string_is_known(bytes: [u8; 32]) {
            let sas = Sas::from_kdf(&bytes).to_string();
            prop_assert_eq!(given(&sas), Some(SAS_DANGER));
            let refused = sas.parse::<DeviceId>().unwrap_err().to_string();
            prop_assert!(refused.contains("never typed"), "{}", refused);
        }
    }
}
