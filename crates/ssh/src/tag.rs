//! The word that marks a line as ours and says which device it is for.

use std::fmt;

use identity::DeviceId;

/// What comes before a tag in a line.
const MARK: &str = "kinfold:";
/// Longest tag.
const MAX_TAG: usize = 100;

/// A text is no tag.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a tag is 1 to 100 of a-z, 0-9 and -")]
pub struct TagError;

/// Which device a line is for: a device id's text form, or something as unique for a peer that has none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(String);

impl Tag {
    /// The tag of a device.
    #[must_use]
    pub fn device(device: &DeviceId) -> Self {
        Self(device.to_string())
    }

    /// A tag of this text.
    ///
    /// # Errors
    /// If it is not of `[a-z0-9-]{1,100}`.
    pub fn new(text: &str) -> Result<Self, TagError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > MAX_TAG || !text.bytes().all(fits) {
            return Err(TagError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The device, if it is one's.
    #[must_use]
    pub fn to_device(&self) -> Option<DeviceId> {
        self.0.parse().ok()
    }

    /// Its text, without what marks it in a line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag of a line; `None` if the line is not ours.
    pub(crate) fn of_line(line: &[u8]) -> Option<Self> {
        if line.trim_ascii_start().first() == Some(&b'#') {
            return None;
        }
        line.split(u8::is_ascii_whitespace).find_map(Self::of_word)
    }

    /// The tag that a marked word has.
    pub(crate) fn of_word(word: &[u8]) -> Option<Self> {
        let tag = word.strip_prefix(MARK.as_bytes())?;
        Self::new(str::from_utf8(tag).ok()?).ok()
    }
}

/// As it is in a line.
impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}", self.0)
    }
}
