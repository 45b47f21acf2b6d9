//! Settling a conflict: what a person keeps of a file and its conflict copy. These are ordinary changes of the
//! tree, made beside whoever syncs the folder; what is not kept goes to history.

use std::io;

use tree::{
    Disk, FileKind, Place,
    apply::{HistoryName, Why},
};
use wire::RelPath;

use crate::history::restore::{RestoreError, content_at, failed, target};

/// Names tried for a copy that is kept beside the original, and for one in history.
const TRIES: u64 = 1_000;

/// What a person keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeping {
    /// What is at the path; the copy goes to history.
    Original,
    /// The copy, which takes the path; what was there goes to history.
    Copy,
    /// Both: the copy gets a name of its own.
    Both,
}

/// Settles the conflict of which `copy` is the copy and `original` the path. Returns where what the copy held
/// is now, if it is in the tree.
///
/// # Errors
/// If it cannot be done; nothing is lost then.
pub fn settle(
    disk: &dyn Disk,
    copy: &RelPath,
    original: &RelPath,
    keeping: Keeping,
    now: u64,
) -> Result<Option<RelPath>, RestoreError> {
    if target(disk, copy)?.is_none() {
        return Err(RestoreError::Gone);
    }
    let now_at = match keeping {
        Keeping::Original => {
            put_away(disk, copy, copy, (now, Why::Deleted))?;
            None
        }
        Keeping::Copy => {
            take_place(disk, copy, original, now)?;
            Some(original.clone())
        }
        Keeping::Both => Some(rename_apart(disk, copy, original)?),
    };
    disk.sync_all().map_err(failed("make it durable"))?;
    Ok(now_at)
}

/// Puts the copy at the path, and what was there into history.
fn take_place(
    disk: &dyn Disk,
    copy: &RelPath,
    original: &RelPath,
    now: u64,
) -> Result<(), RestoreError> {
    let (from, to) = (Place::Tree(copy.clone()), Place::Tree(original.clone()));
    if target(disk, original)?.is_none() {
        return disk.rename_new(&from, &to).map_err(failed("put it there"));
    }
    match disk.exchange(&from, &to) {
        // What was at the path is where the copy was.
        Ok(()) => put_away(disk, copy, original, (now, Why::Replaced)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            put_away(disk, original, original, (now, Why::Replaced))?;
            disk.rename_new(&from, &to).map_err(failed("put it there"))
        }
        Err(error) => Err(failed("put it there")(error)),
    }
}

/// Moves what is at a path into history, as what was at another.
fn put_away(
    disk: &dyn Disk,
    from: &RelPath,
    of: &RelPath,
    (now, why): (u64, Why),
) -> Result<(), RestoreError> {
    let from = Place::Tree(from.clone());
    let content = content_at(disk, &from).ok_or(RestoreError::Changing)?;
    for later in 0..TRIES {
        let name = HistoryName::new(of, now + later, content.head(), why);
        match disk.rename_new(&from, &Place::History(name.place())) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            moved => return moved.map_err(failed("keep what is not kept in the tree")),
        }
    }
    Err(RestoreError::Changing)
}

/// Gives the copy a name that is none of a conflict copy: `stem-2.ext`, or the next that is free.
fn rename_apart(
    disk: &dyn Disk,
    copy: &RelPath,
    original: &RelPath,
) -> Result<RelPath, RestoreError> {
    let from = Place::Tree(copy.clone());
    let name = original.name();
    let (stem, ext) = match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    };
    let dir = original.parent().unwrap_or_default();
    for number in 2..TRIES {
        let Ok(to) = dir.join(&format!("{stem}-{number}{ext}")) else { break };
        let taken = disk.stat(&Place::Tree(to.clone())).map_err(failed("look at its place"))?;
        if taken.is_some_and(|stat| stat.kind != FileKind::Special) {
            continue;
        }
        match disk.rename_new(&from, &Place::Tree(to.clone())) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(()) => return Ok(to),
            Err(error) => return Err(failed("rename it")(error)),
        }
    }
    Err(RestoreError::Changing)
}
