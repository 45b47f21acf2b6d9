//! What an advert says: its TXT record (RFC 6763, section 6), made and read. Pure.
//!
//! | key | value |
//! |---|---|
//! | `v` | `1` |
//! | `t` | digest of the topic, 32 hexadecimal digits |
//! | `r` | 16 random bytes of this run, 32 hexadecimal digits |
//! | `m` | MAC of the run under the device id, 32 hexadecimal digits (rule T2) |
//! | `n` | what the device calls itself, 1 to 64 bytes of UTF-8 without control characters |
//!
//! Everything in it is a hint that anybody may have written. Other keys are ignored.

use std::fmt::Write as _;

use identity::DeviceId;
use wire::session::Name;

/// Version of the advert's form.
const VERSION: &[u8] = b"1";
/// Largest record that is looked at, in bytes: keys, values, and two for each pair.
const MAX_RECORD: usize = 512;
/// Domain of the topic's digest, for BLAKE3's key derivation.
const TOPIC_CONTEXT: &str = "kinfold 2026-01 mDNS topic";
/// Comes before the run in what the MAC covers.
const RUN_DOMAIN: &[u8] = b"kinfold 2026-01 mDNS run";

/// Why an advert is not looked at any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TextError {
    /// The record is over its limit.
    #[error("longer than {MAX_RECORD} bytes")]
    TooLong,
    /// Another version of the form.
    #[error("of another version")]
    OtherVersion,
    /// A value is missing or malformed.
    #[error("`{0}` is missing or malformed")]
    Value(&'static str),
}

/// A valid TXT record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Text {
    pub(crate) topic: [u8; 16],
    pub(crate) run: [u8; 16],
    pub(crate) mac: [u8; 16],
    pub(crate) name: Name,
}

/// The digest of a topic.
pub(crate) fn topic_digest(topic: &str) -> [u8; 16] {
    head(&blake3::derive_key(TOPIC_CONTEXT, topic.as_bytes()))
}

/// What only those who know the device id can make or check (rule T2).
pub(crate) fn run_mac(device: DeviceId, run: &[u8; 16]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(&device.0);
    hasher.update(RUN_DOMAIN).update(run);
    head(hasher.finalize().as_bytes())
}

fn head(bytes: &[u8; 32]) -> [u8; 16] {
    let mut head = [0; 16];
    head.copy_from_slice(&bytes[..16]);
    head
}

impl Text {
    /// The record as keys and values.
    pub(crate) fn encode(&self) -> Vec<(String, String)> {
        let pair = |key: &str, value: String| (key.to_owned(), value);
        vec![
            pair("v", "1".to_owned()),
            pair("t", to_hex(&self.topic)),
            pair("r", to_hex(&self.run)),
            pair("m", to_hex(&self.mac)),
            pair("n", self.name.as_str().to_owned()),
        ]
    }

    /// Reads a record. Of a key that comes twice, the first counts (RFC 6763, section 6.4).
    pub(crate) fn decode<'a>(
        pairs: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<Self, TextError> {
        let mut size = 0_usize;
        let mut values: [Option<&[u8]>; 5] = [None; 5];
        for (key, value) in pairs {
            size = size.saturating_add(key.len() + value.map_or(0, <[u8]>::len) + 2);
            if size > MAX_RECORD {
                return Err(TextError::TooLong);
            }
            // Keys are compared without regard to case (RFC 6763, section 6.4).
            if let Some(slot) =
                ["v", "t", "r", "m", "n"].iter().position(|k| key.eq_ignore_ascii_case(k))
            {
                values[slot].get_or_insert(value.unwrap_or_default());
            }
        }
        let [version, topic, run, mac, name] = values;
        if version != Some(VERSION) {
            return Err(TextError::OtherVersion);
        }
        let digits = |value: Option<&[u8]>, key| from_hex(value).ok_or(TextError::Value(key));
        Ok(Self {
            topic: digits(topic, "t")?,
            run: digits(run, "r")?,
            mac: digits(mac, "m")?,
            name: name
                .and_then(|bytes| std::str::from_utf8(bytes).ok())
                .and_then(|name| Name::new(name).ok())
                .ok_or(TextError::Value("n"))?,
        })
    }
}

/// For crate `checks` only: the record with nothing but what was understood of it.
#[doc(hidden)]
#[must_use]
pub fn reread(pairs: &[(String, Option<Vec<u8>>)]) -> Option<Vec<(String, String)>> {
    let pairs = pairs.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
    Text::decode(pairs).ok().map(|text| text.encode())
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// 16 bytes from exactly 32 lower-case digits.
fn from_hex(text: Option<&[u8]>) -> Option<[u8; 16]> {
    let text: &[u8; 32] = text?.try_into().ok()?;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> Text {
        Text {
            topic: topic_digest(""),
            run: [1; 16],
            mac: run_mac(DeviceId([2; 32]), &[1; 16]),
            name: Name::new("Küche").unwrap(),
        }
    }

    fn decode(pairs: &[(String, Option<Vec<u8>>)]) -> Result<Text, TextError> {
        Text::decode(pairs.iter().map(|(key, value)| (key.as_str(), value.as_deref())))
    }

    fn pairs(text: &Text) -> Vec<(String, Option<Vec<u8>>)> {
        text.encode().into_iter().map(|(key, value)| (key, Some(value.into_bytes()))).collect()
    }

    #[test]
    fn a_record_that_lacks_a_value_or_has_a_wrong_one_is_refused() {
        assert_eq!(decode(&[]), Err(TextError::OtherVersion));
        for slot in 0..5 {
            let mut missing = pairs(&text());
            let (key, _) = missing.remove(slot);
            assert!(decode(&missing).is_err(), "without {key}");
        }
        for (key, value) in [
            ("v", "2"),
            ("v", ""),
            ("t", "00"),
            ("r", "0123456789ABCDEF0123456789ABCDEF"),
            ("r", "0123456789abcdef0123456789abcdeg"),
            ("m", "0123456789abcdef0123456789abcdef0"),
            ("n", ""),
            ("n", "line\nbreak"),
            ("n", "\u{1b}[2J"),
            ("n", &"x".repeat(65)),
        ] {
            let mut changed = pairs(&text());
            changed.insert(0, (key.to_owned(), Some(value.as_bytes().to_vec())));
            assert!(decode(&changed).is_err(), "{key}={value:?}");
        }
        let mut bytes = pairs(&text());
        bytes.insert(0, ("n".to_owned(), Some(vec![0xff])));
        assert_eq!(decode(&bytes), Err(TextError::Value("n")));
    }

    #[test]
    fn attack_12_a_huge_record_is_refused_whatever_is_in_it() {
        let mut huge = pairs(&text());
        for number in 0..1000 {
            huge.push((format!("x{number}"), None));
        }
        assert_eq!(decode(&huge), Err(TextError::TooLong));
        let largest = Text { name: Name::new(&"ü".repeat(32)).unwrap(), ..text() };
        assert_eq!(decode(&pairs(&largest)), Ok(largest));
    }

    #[test]
    fn t2_the_mac_depends_on_device_and_run() {
        let mac = run_mac(DeviceId([2; 32]), &[1; 16]);
        assert_ne!(mac, run_mac(DeviceId([3; 32]), &[1; 16]));
        assert_ne!(mac, run_mac(DeviceId([2; 32]), &[2; 16]));
        assert_ne!(topic_digest(""), topic_digest("photos"));
    }

    proptest! {
        #[test]
        fn records_round_trip_beside_unknown_keys(
            topic: [u8; 16], run: [u8; 16], mac: [u8; 16], name in "[^\\p{C}]{1,16}",
            unknown in "[x-z]{2,8}",
        ) {
            let text = Text { topic, run, mac, name: Name::new(&name).unwrap() };
            let mut pairs = pairs(&text);
            pairs.insert(2, (unknown, None));
            prop_assert_eq!(decode(&pairs), Ok(text));
        }

        #[test]
        fn anything_is_read_or_refused(
            pairs in proptest::collection::vec(
                ("[vtrmnVTRMNx]{0,2}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80))),
                0..12,
            ),
        ) {
            if let Ok(text) = decode(&pairs) {
                prop_assert!(text.name.as_str().len() <= 64);
            }
        }

        #[test]
        fn one_broken_value_is_read_or_refused(slot in 0_usize..5, value: Vec<u8>) {
            let mut pairs = pairs(&text());
            pairs[slot].1 = Some(value);
            if let Ok(text) = decode(&pairs) {
                prop_assert!(!text.name.as_str().chars().any(char::is_control));
            }
        }
    }
}
