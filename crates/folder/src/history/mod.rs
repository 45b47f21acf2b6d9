//! What sync replaced or deleted, kept in `.kin/history`: listing it, bringing it back ([`restore`]), and
//! clearing it away when it is old or space lacks (rule E17).
//!
//! An entry's name says all there is to know of it ([`HistoryName`]), so nothing here needs the index, and
//! listing and restoring work beside a process that syncs the folder. What has another name is not ours
//! and is never touched.

use std::io;

use tree::{Disk, FileKind, Place, Stat, apply::HistoryName};
use wire::{RelPath, path::STATE_DIR};

mod choose;
pub mod restore;
mod tidy;
pub mod undo;

pub use choose::{Chosen, Limits, Moment, choose};
pub use tidy::Tidied;
pub(crate) use tidy::tidy;
pub use tree::apply::Why;

/// Deepest directory that is looked into: a path of single letters has at most this many.
const MAX_DEPTH: usize = wire::path::MAX_PATH / 2;

/// Something in history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where in `.kin/history` it is.
    pub place: RelPath,
    /// What its name says.
    pub name: HistoryName,
    /// What it is: a file or a link.
    pub stat: Stat,
}

/// Everything that was found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Found {
    /// Entries, the newest first; of one time, by path.
    pub entries: Vec<Entry>,
    /// Files that are none of ours: their names say nothing, and nothing is done with them.
    pub foreign: usize,
    /// What could not be read: where, and why.
    pub unreadable: Vec<(String, String)>,
}

/// Looks through history below a directory of the tree (the root for all of it).
///
/// # Errors
/// If `.kin/history`, or what is there of the directory, cannot be read; that it is not there is none.
pub fn list(disk: &dyn Disk, dir: &RelPath) -> io::Result<Found> {
    let mut found = Found::default();
    let mut dirs = vec![(dir.clone(), 0)];
    while let Some((dir, depth)) = dirs.pop() {
        let listing = match disk.list_history(&dir) {
            Ok(listing) => listing,
            // Gone meanwhile, or never there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                found.unreadable.push((shown(dir.as_str()), error.to_string()));
                continue;
            }
        };
        found.foreign += listing.odd_names.len();
        let unreadable = listing.unreadable.into_iter();
        found.unreadable.extend(
            unreadable.map(|(name, _, error)| (shown(&format!("{}/{name}", dir.as_str())), error)),
        );
        for entry in listing.entries {
            let Ok(place) = dir.join(&entry.name) else {
                found.foreign += 1;
                continue;
            };
            match entry.stat.kind {
                FileKind::Dir if depth < MAX_DEPTH => dirs.push((place, depth + 1)),
                FileKind::File | FileKind::Symlink => match HistoryName::parse(&place) {
                    Some(name) => found.entries.push(Entry { place, name, stat: entry.stat }),
                    None => found.foreign += 1,
                },
                _ => found.foreign += 1,
            }
        }
    }
    sort(&mut found.entries);
    Ok(found)
}

/// The versions of one path, the newest first.
///
/// # Errors
/// As [`list`].
pub fn versions(disk: &dyn Disk, path: &RelPath) -> io::Result<Vec<Entry>> {
    let dir = path.parent().unwrap_or_default();
    let listing = match disk.list_history(&dir) {
        Ok(listing) => listing,
        // A file where a directory would be: nothing below it ever went to history.
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for entry in listing.entries {
        let Ok(place) = dir.join(&entry.name) else { continue };
        let name = HistoryName::parse_of(&place, path);
        if let (Some(name), FileKind::File | FileKind::Symlink) = (name, entry.stat.kind) {
            entries.push(Entry { place, name, stat: entry.stat });
        }
    }
    sort(&mut entries);
    Ok(entries)
}

/// Everything of a path: its own versions, and what is below it if it was a directory.
///
/// # Errors
/// As [`list`].
pub fn list_at(disk: &dyn Disk, path: &RelPath) -> io::Result<Found> {
    if path.is_root() {
        return list(disk, path);
    }
    let mut found = match list(disk, path) {
        Err(error) if is_absence(&error) => Found::default(),
        other => other?,
    };
    found.entries.extend(versions(disk, path)?);
    sort(&mut found.entries);
    Ok(found)
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn sort(entries: &mut [Entry]) {
    entries
        .sort_by(|a, b| b.name.time.cmp(&a.name.time).then_with(|| a.name.path.cmp(&b.name.path)));
}

fn shown(path: &str) -> String {
    format!("{STATE_DIR}/history/{path}")
}

impl Entry {
    /// Where it is, for a [`Disk`].
    #[must_use]
    pub fn at(&self) -> Place {
        Place::History(self.place.clone())
    }
}
