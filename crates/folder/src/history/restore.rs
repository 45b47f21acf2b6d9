//! Bringing something back from history: as a new change, like one that any program makes.
//!
//! The version is copied and stays in history. What is at its place in the tree goes to history by the
//! same exchange that brings the copy in, so that there is no moment at which a crash or an edit in
//! between could lose it. Nothing here needs the folder's lock: a process that syncs the folder sees an
//! edit.

use std::{collections::BTreeMap, io};

use tree::{
    Disk, FileKind, Place, Stat,
    apply::{HistoryName, Why},
};
use wire::{Hash, RelPath, path::PathError, record::Body};

use super::{Entry, list, versions};
use crate::content::ContentReader;

/// Bytes copied at a time.
const BLOCK: usize = 1 << 20;
/// Tries while somebody changes what is at the target.
const TRIES: u64 = 100;
/// Mode of directories that have to be made again, as the umask allows.
const DIR_MODE: u32 = 0o755;

/// What is to be brought back.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The path it had; the root for the whole folder.
    pub path: &'a RelPath,
    /// As it was at this time, in milliseconds since 1970; `None` for the newest version.
    pub at: Option<u64>,
    /// Where to; `None` for where it was.
    pub to: Option<&'a RelPath>,
    /// The time by the wall clock, in milliseconds since 1970.
    pub now: u64,
    /// A random number, which keeps two processes apart.
    pub random: u64,
}

/// Something that was brought back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Where it is now.
    pub path: RelPath,
    /// The version.
    pub entry: Entry,
    /// What became of what was there.
    pub before: Before,
}

/// What was at the place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// The same contents: nothing was done.
    Same,
    /// Something that is now in history, there.
    Replaced(RelPath),
}

/// All that was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was brought back, by path.
    pub restored: Vec<Restored>,
    /// Of a directory: what could not be, and why.
    pub failed: Vec<(RelPath, RestoreError)>,
    /// Of a directory: deleted files whose place holds something now, which stays.
    pub occupied: Vec<RelPath>,
}

/// Why something was not brought back. Nothing was lost, and the tree holds what it held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Nothing of it is in history.
    #[error("nothing of it is in history")]
    NoVersion,
    /// Nothing of it has gone to history since.
    #[error("nothing of it went to history since then")]
    NotSince {
        /// When something did last, in milliseconds since 1970.
        newest: u64,
    },
    /// A directory is in its place.
    #[error("a directory is in its place")]
    TargetIsDir,
    /// Something that does not travel is in its place.
    #[error("something that is neither a file nor a link is in its place")]
    TargetIsOdd,
    /// It needs a directory where there is something else.
    #[error("{:?} is not a directory", .0.as_str())]
    NoDirectory(RelPath),
    /// Somebody keeps changing what is in its place.
    #[error("what is in its place keeps changing")]
    Changing,
    /// The version was cleared away meanwhile.
    #[error("the version was cleared away meanwhile")]
    Gone,
    /// The disk failed.
    #[error("cannot {operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

pub(crate) fn failed(operation: &'static str) -> impl Fn(io::Error) -> RestoreError {
    move |source| RestoreError::Io { operation, source }
}

/// Brings back one file or link, or everything that was deleted below a directory.
///
/// # Errors
/// If nothing could be brought back at all; what could not of a directory is in the outcome.
pub fn restore(disk: &dyn Disk, wanted: Wanted<'_>) -> Result<Outcome, RestoreError> {
    let read = failed("read the history");
    let is_dir = wanted.path.is_root()
        || disk
            .stat(&Place::Tree(wanted.path.clone()))
            .is_ok_and(|stat| stat.is_some_and(|stat| stat.kind == FileKind::Dir));
    let own = if wanted.path.is_root() {
        Vec::new()
    } else {
        versions(disk, wanted.path).map_err(&read)?
    };
    let mut outcome = Outcome::default();
    let below = if is_dir || own.is_empty() {
        restore_below(disk, &wanted, &mut outcome)
    } else {
        Err(RestoreError::NoVersion)
    };
    match (below, own.first()) {
        // A file that was, perhaps where a directory is now.
        (Err(RestoreError::NoVersion), Some(newest)) => {
            let newest = newest.name.time;
            let entry = pick(&own, wanted.at).ok_or(RestoreError::NotSince { newest })?;
            let to = wanted.to.unwrap_or(wanted.path);
            outcome.restored.push(bring_back(disk, entry, to, &wanted)?);
        }
        (below, _) => below?,
    }
    disk.sync_all().map_err(failed("make it durable"))?;
    Ok(outcome)
}

/// Brings back versions where they were, each as far as it can be.
///
/// # Errors
/// If it cannot be made durable.
pub fn restore_all(
    disk: &dyn Disk,
    entries: &[Entry],
    now: u64,
    random: u64,
) -> Result<Outcome, RestoreError> {
    let root = RelPath::root();
    let wanted = Wanted { path: &root, at: None, to: None, now, random };
    let mut outcome = Outcome::default();
    for entry in entries {
        match bring_back(disk, entry, &entry.name.path, &wanted) {
            Ok(restored) => outcome.restored.push(restored),
            Err(error) => outcome.failed.push((entry.name.path.clone(), error)),
        }
    }
    disk.sync_all().map_err(failed("make it durable"))?;
    Ok(outcome)
}

/// Of versions, the newest first, the one that was there at a time: what leaves the tree at a time was there
/// until then, so it is the oldest that went to history at that time or later.
#[must_use]
pub fn pick(versions: &[Entry], at: Option<u64>) -> Option<&Entry> {
    match at {
        None => versions.first(),
        Some(at) => versions.iter().rev().find(|entry| entry.name.time >= at),
    }
}

/// Everything that was deleted below a directory and is not there now.
fn restore_below(
    disk: &dyn Disk,
    wanted: &Wanted<'_>,
    outcome: &mut Outcome,
) -> Result<(), RestoreError> {
    let found = list(disk, wanted.path).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => RestoreError::NoVersion,
        _ => failed("read the history")(error),
    })?;
    let mut by_path: BTreeMap<RelPath, Vec<Entry>> = BTreeMap::new();
    let newest = found.entries.first().map(|entry| entry.name.time);
    for entry in found.entries {
        if entry.name.why.is_superseded() {
            by_path.entry(entry.name.path.clone()).or_default().push(entry);
        }
    }
    let mut picked = 0;
    for (path, versions) in by_path {
        if versions.first().is_none_or(|entry| entry.name.why != Why::Deleted) {
            continue;
        }
        let Some(entry) = pick(&versions, wanted.at) else { continue };
        picked += 1;
        let to = match moved(&path, wanted) {
            Ok(to) => to,
            Err(error) => {
                outcome.failed.push((path, error));
                continue;
            }
        };
        match disk.stat(&Place::Tree(to.clone())) {
            Ok(None) => match bring_back(disk, entry, &to, wanted) {
                Ok(restored) => outcome.restored.push(restored),
                Err(error) => outcome.failed.push((to, error)),
            },
            Ok(Some(_)) => outcome.occupied.push(to),
            Err(error) => outcome.failed.push((to, failed("look at its place")(error))),
        }
    }
    match newest {
        _ if picked > 0 => Ok(()),
        Some(newest) if wanted.at.is_some() => Err(RestoreError::NotSince { newest }),
        _ => Err(RestoreError::NoVersion),
    }
}

/// Where a path below the wanted directory goes: not to what never travels, which would be in force there at once.
fn moved(path: &RelPath, wanted: &Wanted<'_>) -> Result<RelPath, RestoreError> {
    let refused = |error: PathError| RestoreError::Io {
        operation: "name its place",
        source: io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
    };
    let mut moved = path.clone();
    if let Some(to) = wanted.to {
        let below = path.strip_prefix(wanted.path.as_str()).unwrap_or(path).trim_start_matches('/');
        moved = to.clone();
        for name in below.split('/') {
            moved = moved.join(name).map_err(refused)?;
        }
    }
    if moved.is_reserved() { Err(refused(PathError::Reserved)) } else { Ok(moved) }
}

fn bring_back(
    disk: &dyn Disk,
    entry: &Entry,
    to: &RelPath,
    wanted: &Wanted<'_>,
) -> Result<Restored, RestoreError> {
    let number = Hash::derived(
        "kinfold 2026-11 copy from history",
        &[&wanted.random.to_le_bytes(), entry.place.as_bytes(), to.as_bytes()],
    );
    let staged = Place::Restore(number.head());
    let done = make_room(disk, to).and_then(|()| {
        copy(disk, entry, &staged)?;
        put(disk, &staged, to, wanted.now)
    });
    if !matches!(done, Ok(Before::Nothing | Before::Replaced(_)))
        && let Err(error) = disk.unlink_own(&staged)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a copy stays in .kin/restore for a week");
    }
    Ok(Restored { path: to.clone(), entry: entry.clone(), before: done? })
}

/// Looks at what is at the target, and makes the directories above it.
fn make_room(disk: &dyn Disk, to: &RelPath) -> Result<(), RestoreError> {
    let mut above = RelPath::root();
    let names = to.parent().unwrap_or_default();
    for name in names.split('/').filter(|name| !name.is_empty()) {
        above = above.join(name).map_err(|_| RestoreError::NoDirectory(to.clone()))?;
        match disk.stat(&Place::Tree(above.clone())) {
            Ok(Some(stat)) if stat.kind == FileKind::Dir => {}
            Ok(None) => match disk.make_dir(&above, DIR_MODE) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(failed("make its directory"))?,
            },
            Ok(Some(_)) => return Err(RestoreError::NoDirectory(above)),
            Err(error) => return Err(failed("look at its directory")(error)),
        }
    }
    target(disk, to).map(|_| ())
}

/// What is at the target, if it may be replaced.
pub(crate) fn target(disk: &dyn Disk, to: &RelPath) -> Result<Option<Stat>, RestoreError> {
    let found = disk.stat(&Place::Tree(to.clone())).map_err(failed("look at its place"))?;
    match found.map(|stat| stat.kind) {
        Some(FileKind::Dir) => Err(RestoreError::TargetIsDir),
        Some(FileKind::Special | FileKind::MountPoint) => Err(RestoreError::TargetIsOdd),
        None | Some(FileKind::File | FileKind::Symlink) => Ok(found),
    }
}

/// Copies a version, with its mode and mtime, and makes it durable.
fn copy(disk: &dyn Disk, entry: &Entry, staged: &Place) -> Result<(), RestoreError> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => RestoreError::Gone,
        _ => failed("read the version")(error),
    };
    if entry.stat.kind == FileKind::Symlink {
        let to = disk.read_link(&entry.at()).map_err(gone)?;
        return disk.make_symlink(staged, &to, entry.stat.mtime).map_err(failed("copy it"));
    }
    let from = disk.open(&entry.at()).map_err(gone)?;
    let stat = from.stat().map_err(gone)?;
    let to = disk.open_own(staged).map_err(failed("copy it"))?;
    let mut block = vec![0; BLOCK];
    let mut offset = 0;
    loop {
        let read = from.read_at(&mut block, offset).map_err(gone)?;
        if read == 0 {
            break;
        }
        to.write_at(block.get(..read).unwrap_or_default(), offset).map_err(failed("copy it"))?;
        offset += read as u64;
    }
    to.set_meta(stat.mode, stat.mtime).map_err(failed("copy it"))?;
    to.sync().map_err(failed("copy it"))
}

/// Brings a finished copy to the target; what is there goes to history by the same step.
fn put(disk: &dyn Disk, staged: &Place, to: &RelPath, now: u64) -> Result<Before, RestoreError> {
    let here = Place::Tree(to.clone());
    for attempt in 0..TRIES {
        if target(disk, to)?.is_none() {
            match disk.rename_new(staged, &here) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                placed => placed.map_err(failed("put it there"))?,
            }
            return Ok(Before::Nothing);
        }
        let Some(content) = content_at(disk, &here) else { continue };
        if content_at(disk, staged) == Some(content) {
            return Ok(Before::Same);
        }
        let name = HistoryName::new(to, now + attempt, content.head(), Why::Replaced).place();
        let kept = Place::History(name.clone());
        // The copy waits where the old contents are to be: one exchange then does both.
        match disk.rename_new(staged, &kept) {
            // Its directory was cleared away a moment ago, or the name is taken.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) =>
            {
                continue;
            }
            moved => moved.map_err(failed("keep what is there"))?,
        }
        let exchanged = disk.exchange(&here, &kept);
        let came_out = disk.stat(&kept).ok().flatten().map(|stat| stat.kind);
        let is_usual = matches!(came_out, Some(FileKind::File | FileKind::Symlink));
        match exchanged {
            Ok(()) if is_usual => return Ok(Before::Replaced(name)),
            // A directory took its place at that moment: back.
            Ok(()) => disk.exchange(&here, &kept).map_err(failed("put it back"))?,
            Err(_) => {}
        }
        disk.rename_new(&kept, staged).map_err(failed("take the copy back"))?;
        match exchanged {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                match disk.rename_new(&here, &kept) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    moved => moved.map_err(failed("keep what is there"))?,
                }
                match disk.rename_new(staged, &here) {
                    // Theirs is there already; the one before it is in history.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    placed => {
                        placed.map_err(failed("put it there"))?;
                        return Ok(Before::Replaced(name));
                    }
                }
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("put it there")(error));
            }
            _ => {}
        }
    }
    Err(RestoreError::Changing)
}

/// What a file or link holds; `None` if it changes while it is read.
pub(crate) fn content_at(disk: &dyn Disk, at: &Place) -> Option<Hash> {
    let stat = disk.stat(at).ok()??;
    if stat.kind == FileKind::Symlink {
        return Some(Body::Symlink { target: disk.read_link(at).ok()? }.content());
    }
    let file = disk.open(at).ok()?;
    let hashed = ContentReader::new().read(&*file, &stat).ok()?;
    Some(hashed.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_brought_back_to_where_it_would_be_in_force() {
        let path = |path: &str| RelPath::parse(path).expect("is one");
        let to_the_top = |of: &str, at: &str| {
            let (dir, root) = (path(of), RelPath::root());
            let wanted = Wanted { path: &dir, at: None, to: Some(&root), now: 0, random: 0 };
            moved(&path(at), &wanted).ok()
        };
        assert_eq!(to_the_top("sub", "sub/a/b"), Some(path("a/b")));
        assert_eq!(to_the_top("sub", "sub/.kinignore"), None);
        assert_eq!(to_the_top("sub", "sub/.kin/index.db"), None);
        let dir = path("sub");
        let there = Wanted { path: &dir, at: None, to: None, now: 0, random: 0 };
        assert_eq!(moved(&path("sub/.kinignore"), &there).ok(), Some(path("sub/.kinignore")));
        assert_eq!(moved(&path("sub/.kin/lock"), &there).ok(), None);
    }
}
