//! The short authentication string: shown on both devices, compared by people, typed by nobody.
//!
//! There is deliberately no parser: a SAS is answered with yes or no.

use std::fmt;

use crate::words::WORDS;

/// Two words and two groups of two digits, about 29 bits: `maple otter 42 17`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sas {
    words: [u8; 2],
    /// 0 to 99 each.
    numbers: [u8; 2],
}

impl Sas {
    /// The SAS of 32 bytes that came out of a key derivation.
    #[must_use]
    pub fn from_kdf(bytes: &[u8; 32]) -> Self {
        let mut digits = [0; 8];
        digits.copy_from_slice(&bytes[2..10]);
        // 10,000 does not divide 2^64; the bias is below 2^-50.
        let number = u64::from_be_bytes(digits) % 10_000;
        let two = |value: u64| u8::try_from(value % 100).unwrap_or_default();
        Self { words: [bytes[0], bytes[1]], numbers: [two(number / 100), two(number)] }
    }
}

impl fmt::Display for Sas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.words.map(|word| WORDS[usize::from(word)]);
        write!(f, "{first} {second} {:02} {:02}", self.numbers[0], self.numbers[1])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_form_is_two_words_and_two_groups_of_two_digits() {
        let mut bytes = [0; 32];
        bytes[9] = 7;
        assert_eq!(Sas::from_kdf(&bytes).to_string(), format!("{0} {0} 00 07", WORDS[0]));
        bytes[1] = 255;
        assert_eq!(Sas::from_kdf(&bytes).to_string(), format!("{} {} 00 07", WORDS[0], WORDS[255]));
    }

    #[test]
    fn words_are_distinct_also_by_their_first_four_letters() {
        let heads: BTreeSet<_> = WORDS.iter().map(|word| &word[..word.len().min(4)]).collect();
        assert_eq!(heads.len(), WORDS.len());
        for word in WORDS {
            assert!((3..=7).contains(&word.len()), "{word}");
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
        }
    }

    #[test]
    fn no_sas_can_be_taken_for_a_text_form() {
        let sas = Sas::from_kdf(&[3; 32]).to_string();
        assert!(sas.parse::<crate::DeviceId>().is_err());
    }
}
