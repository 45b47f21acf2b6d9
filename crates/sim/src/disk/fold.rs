//! Disks that take different names for the same one: those that fold case, and those to which a letter with a mark
//! is the same however it is put together (rule E9).

use std::fmt;

use super::{Entry, VirtualDisk};

/// Which names a disk takes for the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fold {
    /// Only equal ones.
    #[default]
    None,
    /// Those that differ in case only; it keeps the first (APFS, ext4 with casefold).
    Case,
    /// Those that are equal once decomposed; it keeps the first (ZFS, APFS).
    Forms,
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "takes only equal names for the same",
            Self::Case => "folds case",
            Self::Forms => "takes letters with marks for the same however they are put together",
        })
    }
}

/// The letters with a mark that histories use, composed and decomposed.
const MARKED: [(&str, &str); 2] = [("\u{c4}", "A\u{308}"), ("\u{e4}", "a\u{308}")];

fn decomposed(name: &str) -> String {
    MARKED.iter().fold(name.to_owned(), |name, (whole, parts)| name.replace(whole, parts))
}

impl Fold {
    /// What all names that are the same have in common.
    #[must_use]
    pub fn key(self, name: &str) -> String {
        match self {
            Self::None => name.to_owned(),
            Self::Case => name.to_lowercase(),
            Self::Forms => decomposed(name),
        }
    }
}

impl VirtualDisk {
    /// Which names this disk takes for the same.
    #[must_use]
    pub fn fold(&self) -> Fold {
        self.fold
    }

    /// The path as the disk keeps it.
    pub(super) fn real(&self, top: &Entry, path: String) -> String {
        if self.fold == Fold::None || !path.starts_with("tree/") {
            return path;
        }
        let mut here = Some(top);
        let names = path.split('/').map(|name| {
            let names = here.and_then(|entry| entry.names().ok());
            let exact = names.and_then(|names| names.get_key_value(name));
            let key = self.fold.key(name);
            let same = || names?.iter().find(|(other, _)| self.fold.key(other) == key);
            let found = exact.or_else(same);
            here = found.map(|(_, entry)| entry);
            found.map_or_else(|| name.to_owned(), |(name, _)| name.to_string())
        });
        names.collect::<Vec<_>>().join("/")
    }
}
