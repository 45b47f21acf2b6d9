//! Paths inside a folder.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

/// Longest path in bytes.
pub const MAX_PATH: usize = 4096;
/// Longest single name in bytes (what ext4, xfs, btrfs and APFS hold).
pub const MAX_NAME: usize = 255;
/// The directory at a folder's root that holds its own state. It never travels, nor does anything of that name further
/// down: it holds the state, and the history, of a folder that was kept in step there.
pub const STATE_DIR: &str = ".kin";
/// Names at a folder's root that belong to one device and never travel (rule E11).
pub const RESERVED_ROOT_NAMES: [&str; 3] = [STATE_DIR, ".kinignore", ".dsyncignore"];

/// Why a string is not a path inside a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path, or one of its names, is empty.
    #[error("has an empty name")]
    Empty,
    /// Over [`MAX_PATH`] or [`MAX_NAME`] bytes.
    #[error("is too long")]
    TooLong,
    /// `.`, `..`, or a name with a NUL byte.
    #[error("has a name that no file may have")]
    BadName,
    /// Not UTF-8.
    #[error("is not valid UTF-8")]
    NotUtf8,
    /// The folder's own state or ignore file.
    #[error("is reserved for the folder's own state")]
    Reserved,
}

/// A path relative to a folder's root: UTF-8 names joined by `/`, without `.`, `..`, empty names or
/// NUL, at most [`MAX_PATH`] bytes, no name over [`MAX_NAME`] bytes. The root itself is the empty
/// path, [`RelPath::root`]. A value of this type never leads out of the folder by its spelling. Copies share their text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Arc<str>);

impl RelPath {
    /// The folder's root.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses a path that is not the root.
    ///
    /// # Errors
    /// Says which rule the string breaks.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        for name in path.split('/') {
            check_name(name)?;
        }
        Ok(Self(path.into()))
    }

    /// As [`RelPath::parse`], and refuses what never travels: the state directory and the ignore
    /// files at the root.
    ///
    /// # Errors
    /// Says which rule the bytes break.
    pub fn parse_travelling(path: &[u8]) -> Result<Self, PathError> {
        let path = std::str::from_utf8(path).map_err(|_| PathError::NotUtf8)?;
        let path = Self::parse(path)?;
        if path.is_reserved() { Err(PathError::Reserved) } else { Ok(path) }
    }

    /// True for the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// True for the state directory of this folder, or of one inside it, for the folder's own ignore files, and all that
    /// is below them, however a disk that folds names could come to take a name for one of them: case is ignored, also of
    /// the two letters outside ASCII that fold into it, and so are characters that such disks leave out.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let mut names = self.0.split('/');
        let first = names.next().unwrap_or_default();
        RESERVED_ROOT_NAMES.iter().any(|reserved| is_taken_for(first, reserved))
            || names.any(|name| is_taken_for(name, STATE_DIR))
    }

    /// The directory that holds this path; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(self.0.rfind('/').map_or_else(Self::root, |at| Self(self.0[..at].into())))
    }

    /// The last name; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rfind('/').map_or(&self.0, |at| &self.0[at + 1..])
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// If `name` is not a single valid name, or the result is too long.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        check_name(name)?;
        if name.contains('/') {
            return Err(PathError::BadName);
        }
        if self.is_root() {
            return Ok(Self(name.into()));
        }
        if self.0.len() + 1 + name.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        Ok(Self(format!("{}/{name}", self.0).into()))
    }

    /// True if `other` lies anywhere below this path.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.is_root() && !other.is_root()
            || other.0.len() > self.0.len()
                && other.0.starts_with(&*self.0)
                && other.0.as_bytes()[self.0.len()] == b'/'
    }

    /// How many names the path has; 0 for the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { self.0.split('/').count() }
    }

    /// The path as a string, names joined by `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// True if a disk that folds names could take `name` for `reserved`, which is lower-case ASCII.
fn is_taken_for(name: &str, reserved: &str) -> bool {
    if name.is_ascii() {
        return name.eq_ignore_ascii_case(reserved);
    }
    name.chars().filter_map(folded).eq(reserved.chars())
}

/// What case folding makes of a character, as far as ASCII can come of it; nothing of one that is left out
/// of names (Unicode's `Default_Ignorable_Code_Point`).
fn folded(c: char) -> Option<char> {
    match c {
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => None,
        // The signs for kelvin and for a long s.
        '\u{212a}' => Some('k'),
        '\u{17f}' => Some('s'),
        _ => Some(c.to_ascii_lowercase()),
    }
}

fn check_name(name: &str) -> Result<(), PathError> {
    match name {
        "" => Err(PathError::Empty),
        "." | ".." => Err(PathError::BadName),
        _ if name.len() > MAX_NAME => Err(PathError::TooLong),
        _ if name.contains('\0') => Err(PathError::BadName),
        _ => Ok(()),
    }
}

impl Deref for RelPath {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for RelPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for RelPath {
    /// The raw path. Escape it before it reaches a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_leads_out_or_is_no_name() {
        for bad in ["", "/", "/x", "x/", "a//b", ".", "..", "../x", "a/../b", "a/./b", "a\0b"] {
            assert!(RelPath::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(RelPath::parse(&"x".repeat(256)), Err(PathError::TooLong));
        assert_eq!(RelPath::parse(&"x/".repeat(2049)), Err(PathError::TooLong));
    }

    #[test]
    fn keeps_every_other_name() {
        for good in ["a", "C:\\x", "CON", "dot.", "\u{202e}x", "\x1b[31m", "日本語/ä", ".hidden"]
        {
            assert_eq!(RelPath::parse(good).expect("valid").as_str(), good);
        }
    }

    #[test]
    fn reserved_names_do_not_travel() {
        for bad in [
            ".kin",
            ".kin/index.db",
            ".KIN/x",
            ".kinignore",
            ".dsyncignore",
            // A folder inside this one was kept in step by itself once: its history is nobody's here.
            "a/.kin/history/secret",
            "a/b/.Kin",
        ] {
            assert_eq!(RelPath::parse_travelling(bad.as_bytes()), Err(PathError::Reserved));
        }
        for other in [".kinder", ".kin.", "kin", ".kın", "日.kin", ".kín", "a/.kinder/.kinignore"]
        {
            assert!(RelPath::parse_travelling(other.as_bytes()).is_ok(), "{other}");
        }
    }

    /// ext4 and HFS+ can be made to fold names by rules that go beyond ASCII (as in CVE-2014-9390).
    #[test]
    fn attack_25_names_that_some_disk_takes_for_reserved_ones_do_not_travel() {
        for bad in [
            ".\u{212a}in/index.db",
            ".k\u{200c}in",
            ".KIN\u{feff}/x",
            ".d\u{17f}yncignore",
            "a/.\u{212a}in/index.db",
            "\u{ad}.kin",
        ] {
            assert_eq!(
                RelPath::parse_travelling(bad.as_bytes()),
                Err(PathError::Reserved),
                "{bad:?}"
            );
        }
        assert!(RelPath::parse_travelling(b"sub/.kinignore").is_ok());
        assert_eq!(RelPath::parse_travelling(b"\xff"), Err(PathError::NotUtf8));
    }

    #[test]
    fn parents_and_names() {
        let path = RelPath::parse("a/b/c").expect("valid");
        assert_eq!(path.name(), "c");
        let parent = path.parent().expect("has one");
        assert_eq!(parent.as_str(), "a/b");
        assert!(parent.contains(&path) && RelPath::root().contains(&path));
        assert!(!RelPath::parse("a/b/").is_ok_and(|p| p.contains(&path)));
        assert!(!RelPath::parse("a/bb").expect("valid").contains(&path));
        assert_eq!(parent.join("c"), Ok(path));
        assert_eq!(RelPath::root().parent(), None);
    }
}
