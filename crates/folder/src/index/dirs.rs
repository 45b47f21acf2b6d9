//! Below which paths there may be rows: asked of every file that is learned or applied, and nearly always there are
//! none. To say so from memory saves two look-ups a file.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

/// More directories than this are not remembered, and the file is asked: 1 MiB or so.
const MAX_DIRS: usize = 65_536;

/// The directories that have a row below them, or once had.
#[derive(Debug, Default)]
pub(super) enum Dirs {
    /// Nobody has asked yet.
    #[default]
    Unread,
    /// Hashes of their paths: one that two paths share costs a look-up.
    Known(HashSet<u64>, RandomState),
    /// There are too many.
    Uncounted,
}

impl Dirs {
    /// None yet.
    pub(super) fn none() -> Self {
        Self::Known(HashSet::new(), RandomState::new())
    }

    /// There is a row in a directory, and so below each of the directories above it.
    pub(super) fn add(&mut self, dir: &str) {
        let Self::Known(known, state) = self else { return };
        let mut dir = dir;
        while !dir.is_empty() && known.insert(state.hash_one(dir)) {
            dir = dir.rsplit_once('/').map_or("", |(above, _)| above);
        }
        if known.len() > MAX_DIRS {
            *self = Self::Uncounted;
        }
    }

    /// False only if no row is below a path.
    pub(super) fn may_have_below(&self, path: &str) -> bool {
        match self {
            Self::Known(known, state) => path.is_empty() || known.contains(&state.hash_one(path)),
            Self::Unread | Self::Uncounted => true,
        }
    }

    pub(super) fn is_unread(&self) -> bool {
        matches!(self, Self::Unread)
    }

    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Uncounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_above_a_row_has_one_below() {
        let mut dirs = Dirs::none();
        dirs.add("");
        assert!(dirs.may_have_below(""));
        dirs.add("a/b/c");
        dirs.add("a/b/c");
        dirs.add("a/d");
        for path in ["a", "a/b", "a/b/c", "a/d"] {
            assert!(dirs.may_have_below(path), "{path}");
        }
        for path in ["b", "a/c", "a/b/c/d", "a/b/", "ab"] {
            assert!(!dirs.may_have_below(path), "{path}");
        }
    }

    #[test]
    fn too_many_are_not_remembered() {
        let mut dirs = Dirs::none();
        for number in 0..=MAX_DIRS {
            dirs.add(&number.to_string());
        }
        assert!(dirs.is_full());
        assert!(dirs.may_have_below("nothing"));
    }
}
