//! Changing the user's tree so that no edit is lost and no mixture is ever seen (rules E13 and E14).
//!
//! Written once over [`Disk`]: nothing here knows which system it runs on. The user may edit between
//! any two calls; every function compares what it moved with what it expected to move *after* moving
//! it, and puts it back if they differ. Durability, intents and the index are the caller's (rule E12).

mod error;
mod guard;
mod history;
mod names;

pub use error::ApplyError;
pub use guard::Writable;
pub use history::{HistoryName, Why};
pub use names::{conflict_name, conflict_of};

use std::io;

use wire::{Hash, RelPath};

use crate::{Disk, FileKind, Place, Stat};

/// Decides whether what now lies at a place has the contents the index knows.
pub type Verify<'a> = &'a dyn Fn(&dyn Disk, &Place) -> io::Result<bool>;

/// What the index believes is at a path.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// The stat read back when the index last knew the contents.
    pub stat: Stat,
    /// Given where that stat could hide an edit (its mtime within 2 s of when it was taken): asked
    /// after the move, about what was moved.
    pub verify: Option<Verify<'a>>,
}

impl Expected<'_> {
    /// Expects exactly this stat and trusts it.
    #[must_use]
    pub fn stat(stat: Stat) -> Self {
        Self { stat, verify: None }
    }

    /// The comparison before: nothing at all may have changed.
    fn is_before(&self, found: &Stat) -> bool {
        self.stat.same_contents(found) && self.stat.ctime == found.ctime
    }

    /// The comparison after, when the rename itself has changed the ctime.
    fn is_after(&self, disk: &dyn Disk, at: &Place, path: &RelPath) -> Result<bool, ApplyError> {
        let found = disk.stat(at).map_err(|e| ApplyError::io("stat", path, e))?;
        if !found.is_some_and(|found| self.stat.same_contents(&found)) {
            return Ok(false);
        }
        let Some(verify) = self.verify else { return Ok(true) };
        verify(disk, at).map_err(|e| ApplyError::io("verify", path, e))
    }
}

/// Compares what is at `at` with what is expected, before anything is moved.
fn check_before(disk: &dyn Disk, at: &RelPath, expected: &Expected<'_>) -> Result<(), ApplyError> {
    if !matches!(expected.stat.kind, FileKind::File | FileKind::Symlink) {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not a file or link");
        return Err(ApplyError::io("replace", at, error));
    }
    let found = disk.stat(&Place::Tree(at.clone())).map_err(|e| ApplyError::io("stat", at, e))?;
    if found.is_some_and(|found| expected.is_before(&found)) {
        Ok(())
    } else {
        Err(ApplyError::changed(at))
    }
}

/// The stat to remember for what was just put at `at`, which was `staged` before.
///
/// If somebody was faster and something else is there by now, or it has another mode, the staged one's is
/// returned: it will not match the disk, so the next scan sees the edit instead of taking it for ours (rule
/// E3).
fn read_back(disk: &dyn Disk, at: &RelPath, staged: Stat) -> Stat {
    remembered(disk.stat(&Place::Tree(at.clone())).ok().flatten(), staged)
}

fn remembered(now: Option<Stat>, staged: Stat) -> Stat {
    match now {
        Some(now) if now.same_contents(&staged) => Stat { mode: staged.mode, ..now },
        _ => staged,
    }
}

fn staged_stat(disk: &dyn Disk, staged: &Place, at: &RelPath) -> Result<Stat, ApplyError> {
    let found = disk.stat(staged).map_err(|e| ApplyError::io("stat", at, e))?;
    found.ok_or_else(|| ApplyError::Vanished { path: at.clone() })
}

/// Moves a finished file, link or directory of ours to a path where nothing may be, and reads its
/// stat back.
///
/// # Errors
/// `Occupied` if something is there; `Vanished` if the parent or `staged` is missing; `staged` is
/// untouched then.
pub fn place_new(disk: &dyn Disk, staged: &Place, at: &RelPath) -> Result<Stat, ApplyError> {
    let stat = staged_stat(disk, staged, at)?;
    place_known(disk, staged, at, stat)
}

/// As [`place_new`] of something whose stat is known, since it was made a moment ago.
///
/// # Errors
/// As [`place_new`].
pub fn place_known(
    disk: &dyn Disk,
    staged: &Place,
    at: &RelPath,
    stat: Stat,
) -> Result<Stat, ApplyError> {
    let now = disk.put_in(staged, at).map_err(|e| ApplyError::io("create", at, e))?;
    Ok(remembered(now, stat))
}

/// Replaces the expected file or link at `at` by the one at `staged`, in one step where the disk can.
/// On success the old contents lie at `staged`, and the stat of the new ones is returned.
///
/// # Errors
/// `Changed` if something else was at `at`, which is there again (or kept where the error says);
/// otherwise as the disk says, with nothing changed.
pub fn replace(
    disk: &dyn Disk,
    staged: &Place,
    at: &RelPath,
    expected: &Expected<'_>,
) -> Result<Stat, ApplyError> {
    let new = staged_stat(disk, staged, at)?;
    check_before(disk, at, expected)?;
    let here = Place::Tree(at.clone());
    match disk.exchange(&here, staged) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            return replace_in_steps(disk, staged, at, expected, new);
        }
        // It was there a moment ago: the user removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ApplyError::changed(at));
        }
        Err(error) => return Err(ApplyError::io("replace", at, error)),
    }
    let verdict = expected.is_after(disk, staged, at);
    if matches!(verdict, Ok(true)) {
        return Ok(read_back(disk, at, new));
    }
    let kept_at = exchange_back(disk, staged, &here, new);
    match verdict {
        Err(error) if kept_at.is_none() => Err(error),
        _ => Err(ApplyError::Changed { path: at.clone(), kept_at }),
    }
}

/// Undoes an exchange. Returns where something of the user's lies that is not at its path.
fn exchange_back(disk: &dyn Disk, staged: &Place, here: &Place, new: Stat) -> Option<Place> {
    let undone = disk.exchange(here, staged).or_else(|error| {
        // The user removed what we had put there: then theirs goes back to a free name.
        if error.kind() == io::ErrorKind::NotFound {
            disk.rename_new(staged, here)
        } else {
            Err(error)
        }
    });
    if undone.is_err() {
        return Some(staged.clone());
    }
    // If the user edited our new file meanwhile, their edit came out and lies at `staged`.
    match disk.stat(staged) {
        Ok(None) => None,
        Ok(Some(out)) if out.same_contents(&new) => None,
        _ => Some(staged.clone()),
    }
}

/// Where [`replace`] holds the old contents for a moment on a disk that cannot exchange. What an
/// interrupted one leaves there is recovered like everything in `.kin/swap` (rule E14).
#[must_use]
pub fn aside_of(staged: &Place, at: &RelPath) -> Place {
    let staged = format!("{staged:?}");
    let parts = [staged.as_bytes(), b"\0", at.as_bytes()];
    Place::Swap(Hash::derived("kinfold 2026-11 place of a swap in steps", &parts).head())
}

/// [`replace`] without EXCHANGE: the old out, the new in, with a gap that the caller's intent covers.
fn replace_in_steps(
    disk: &dyn Disk,
    staged: &Place,
    at: &RelPath,
    expected: &Expected<'_>,
    new: Stat,
) -> Result<Stat, ApplyError> {
    let aside = aside_of(staged, at);
    remove(disk, at, expected, &aside)?;
    let here = Place::Tree(at.clone());
    if let Err(error) = disk.rename_new(staged, &here) {
        // Put the old one back. If the user took the name meanwhile, theirs stays, and the old one is
        // where the error says.
        return Err(match disk.rename_new(&aside, &here) {
            Ok(()) => ApplyError::io("replace", at, error),
            Err(_) => ApplyError::Changed { path: at.clone(), kept_at: Some(aside) },
        });
    }
    let stat = read_back(disk, at, new);
    disk.rename_new(&aside, staged).map_err(|e| ApplyError::io("put aside", at, e))?;
    Ok(stat)
}

/// Takes the expected file or link at `at` out of the tree: moves it to `into`, a free place in
/// `.kin`.
///
/// # Errors
/// `Changed` if something else was there, which is there again, or lies at `into` if the error says
/// so because its name was taken meanwhile; otherwise as the disk says, with nothing changed.
pub fn remove(
    disk: &dyn Disk,
    at: &RelPath,
    expected: &Expected<'_>,
    into: &Place,
) -> Result<(), ApplyError> {
    move_checked(disk, at, expected, into).map(|_| ())
}

/// Moves the expected file or link at `at` to a free path of the tree, for a conflict copy or a
/// rename, and returns its stat there.
///
/// # Errors
/// As [`remove`], and `Occupied` if something is at `to`.
pub fn move_aside(
    disk: &dyn Disk,
    at: &RelPath,
    expected: &Expected<'_>,
    to: &RelPath,
) -> Result<Stat, ApplyError> {
    let moved = move_checked(disk, at, expected, &Place::Tree(to.clone()))?;
    Ok(read_back(disk, to, moved))
}

fn move_checked(
    disk: &dyn Disk,
    at: &RelPath,
    expected: &Expected<'_>,
    to: &Place,
) -> Result<Stat, ApplyError> {
    check_before(disk, at, expected)?;
    let here = Place::Tree(at.clone());
    disk.rename_new(&here, to).map_err(|error| {
        let gone = error.kind() == io::ErrorKind::NotFound
            && disk.stat(&here).is_ok_and(|found| found.is_none());
        match to {
            _ if gone => ApplyError::changed(at),
            Place::Tree(to) => ApplyError::io("move", to, error),
            _ => ApplyError::io("remove", at, error),
        }
    })?;
    match expected.is_after(disk, to, at) {
        Ok(true) => Ok(expected.stat),
        verdict => match (disk.rename_new(to, &here), verdict) {
            (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(_)) => Err(ApplyError::changed(at)),
            (Err(_), _) => Err(ApplyError::Changed { path: at.clone(), kept_at: Some(to.clone()) }),
        },
    }
}

/// Sets permission bits and, for files and links, the mtime of the expected thing at `at` (directories
/// too), and returns the stat after.
///
/// An edit in place that falls between the check and the call would have its mtime overwritten: give
/// `verify` whenever an mtime is set, so that it is found.
///
/// # Errors
/// `Changed` if something else was there or an edit came in between; otherwise as the disk says.
pub fn set_meta_checked(
    disk: &dyn Disk,
    at: &RelPath,
    expected: &Expected<'_>,
    mode: u32,
    mtime: Option<i64>,
) -> Result<Stat, ApplyError> {
    let here = Place::Tree(at.clone());
    let stat = || disk.stat(&here).map_err(|e| ApplyError::io("stat", at, e));
    let before = stat()?.ok_or_else(|| ApplyError::changed(at))?;
    // What is in a directory changes its mtime and ctime and is nobody's edit of the directory.
    let same = if expected.stat.kind == FileKind::Dir {
        let stat = &expected.stat;
        (before.kind, before.inode, before.mode) == (FileKind::Dir, stat.inode, stat.mode)
    } else {
        expected.is_before(&before)
    };
    if !same {
        return Err(ApplyError::changed(at));
    }
    disk.set_meta(at, before.inode, mode, mtime).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            ApplyError::changed(at)
        } else {
            ApplyError::io("set mode and time", at, error)
        }
    })?;
    let after = stat()?.ok_or_else(|| ApplyError::changed(at))?;
    if (after.kind, after.size, after.inode) != (before.kind, before.size, before.inode) {
        return Err(ApplyError::changed(at));
    }
    if let Some(verify) = expected.verify
        && !verify(disk, &here).map_err(|e| ApplyError::io("verify", at, e))?
    {
        return Err(ApplyError::changed(at));
    }
    Ok(as_set(disk, at, after, mode))
}

/// The stat to remember for something whose mode was just set. If it has another by now, somebody was
/// faster: then it is remembered with what was set, so that the next scan sees the difference (rule E3). On
/// a disk that keeps no modes it is what the disk makes of it.
#[must_use]
pub fn as_set(disk: &dyn Disk, at: &RelPath, found: Stat, mode: u32) -> Stat {
    let by_somebody = found.kind != FileKind::Symlink && found.mode != mode;
    if by_somebody && keeps_modes(disk, at).unwrap_or(false) {
        Stat { mode, ..found }
    } else {
        found
    }
}

/// True if a disk keeps modes as they are set, tried on a file of our own.
fn keeps_modes(disk: &dyn Disk, at: &RelPath) -> io::Result<bool> {
    let place = Place::Partial(Hash::derived("kinfold 2026-11 try of a mode", &[at.as_bytes()]));
    let file = disk.open_own(&place)?;
    let keeps = |mode: u32| -> io::Result<bool> {
        file.set_meta(mode, 0)?;
        Ok(disk.stat(&place)?.is_some_and(|stat| stat.mode == mode))
    };
    let kept = keeps(0o600).and_then(|kept| Ok(kept && keeps(0o640)?));
    disk.unlink_own(&place)?;
    kept
}
