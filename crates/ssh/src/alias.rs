//! The name by which a device is meant in `ssh NAME` (rule T24).

use std::fmt;

/// Longest alias.
const MAX_ALIAS: usize = 63;

/// Why a text cannot be an alias.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AliasError {
    /// Other characters than those allowed.
    #[error("a name for ssh has 1 to 63 of a-z, 0-9 and -, and begins with no -")]
    Form,
    /// Something else has this name already.
    #[error("{name} is used already, in {by}")]
    Used {
        /// The name.
        name: String,
        /// Where.
        by: String,
    },
}

/// A name for `ssh NAME`: `[a-z0-9-]{1,63}`, so without a dot. It begins with no dash, since ssh would take it for
/// a flag.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Alias(String);

impl Alias {
    /// Takes a name that a person chose.
    ///
    /// # Errors
    /// If it is not of the form.
    pub fn new(name: &str) -> Result<Self, AliasError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty()
            || name.len() > MAX_ALIAS
            || name.starts_with('-')
            || !name.bytes().all(fits)
        {
            return Err(AliasError::Form);
        }
        Ok(Self(name.to_owned()))
    }

    /// What a device's name suggests, before it is known whether that is free.
    #[must_use]
    pub fn suggested(name: &str) -> Self {
        let mut text = String::new();
        for c in name.chars().flat_map(char::to_lowercase) {
            match c {
                'a'..='z' | '0'..='9' => text.push(c),
                _ if text.is_empty() || text.ends_with('-') => {}
                _ => text.push('-'),
            }
            if text.len() == MAX_ALIAS - 4 {
                break;
            }
        }
        let text = text.trim_end_matches('-');
        Self(if text.is_empty() { "device" } else { text }.to_owned())
    }

    /// The same name with a number.
    #[must_use]
    pub(crate) fn numbered(&self, number: u16) -> Self {
        let room = MAX_ALIAS - 6;
        let base = self.0.get(..room).unwrap_or(&self.0);
        Self(format!("{base}-{number}"))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t24_an_alias_has_no_dot_and_nothing_that_ssh_reads_otherwise() {
        for good in ["desk", "a", "desk-2", "0", &"a".repeat(63)] {
            assert!(Alias::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-desk",
            "github.com",
            "Desk",
            "a b",
            "a\nb",
            "*",
            "d?",
            "é",
            "a_b",
            &"a".repeat(64),
        ] {
            assert_eq!(Alias::new(bad), Err(AliasError::Form), "{bad}");
        }
    }

    #[test]
    fn attack_20_whatever_a_device_is_called_an_alias_can_be_proposed() {
        for (name, alias) in [
            ("desk", "desk"),
            ("Anna's Laptop", "anna-s-laptop"),
            ("github.com", "github-com"),
            ("-oProxyCommand=sh", "oproxycommand-sh"),
            ("\u{1b}[2J\n*", "2j"),
            ("日本", "device"),
            ("---", "device"),
        ] {
            assert_eq!(Alias::suggested(name).as_str(), alias, "{name:?}");
        }
        let long = Alias::suggested(&"a-".repeat(100));
        assert!(
            Alias::new(long.as_str()).is_ok() && Alias::new(long.numbered(65_535).as_str()).is_ok()
        );
    }
}
