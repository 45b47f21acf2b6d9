//! What a device calls itself: a hint for people, never an identity.

use std::fmt;

use crate::WireError;

/// 1 to 64 bytes of UTF-8 without control characters.
///
/// It may still hold anything else that displays strangely: whoever prints it escapes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Longest name in bytes.
    pub const MAX: usize = 64;

    /// Checks a name.
    ///
    /// # Errors
    /// If it is empty, too long, or holds a control character.
    pub fn new(name: &str) -> Result<Self, WireError> {
        if name.is_empty() {
            Err(WireError::field("name", "empty"))
        } else if name.len() > Self::MAX {
            Err(WireError::field("name", "longer than 64 bytes"))
        } else if name.chars().any(char::is_control) {
            Err(WireError::field("name", "holds a control character"))
        } else {
            Ok(Self(name.to_owned()))
        }
    }

    /// The name, unescaped.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
