//! Opening a directory that its owner made unwritable, for as long as something is applied in it.

use std::io;

use wire::RelPath;

use super::ApplyError;
use crate::{Disk, FileKind, Place};

/// Rights that changing a directory's names needs.
const OWNER_ALL: u32 = 0o700;

/// Holds a directory of the user's open for changes (rule E10) and gives it its mode back when dropped.
///
/// A crash in between leaves the directory writable by its owner; the record still says what its mode
/// is, and recovery sets it as it sets every directory's mode, last.
#[must_use = "the directory's mode is restored when this is dropped"]
pub struct Writable<'a> {
    disk: &'a dyn Disk,
    /// Path, inode and mode to restore; `None` if nothing had to be changed.
    opened: Option<(RelPath, u64, u32)>,
}

impl<'a> Writable<'a> {
    /// Makes `dir` writable for its owner if it is not.
    ///
    /// # Errors
    /// `Vanished` if it is not a directory; otherwise as the disk says (somebody else's directory
    /// stays as it is).
    pub fn open(disk: &'a dyn Disk, dir: &RelPath) -> Result<Self, ApplyError> {
        let nothing = Self { disk, opened: None };
        if dir.is_root() {
            // Checked when the folder was opened.
            return Ok(nothing);
        }
        let place = Place::Tree(dir.clone());
        let found = disk.stat(&place).map_err(|e| ApplyError::io("stat", dir, e))?;
        let Some(stat) = found.filter(|stat| stat.kind == FileKind::Dir) else {
            return Err(ApplyError::Vanished { path: dir.clone() });
        };
        if stat.mode & OWNER_ALL == OWNER_ALL {
            return Ok(nothing);
        }
        disk.set_meta(dir, stat.inode, stat.mode | OWNER_ALL, None)
            .map_err(|e| ApplyError::io("open the directory", dir, e))?;
        Ok(Self { disk, opened: Some((dir.clone(), stat.inode, stat.mode)) })
    }

    /// True if the directory's mode was changed.
    #[must_use]
    pub fn was_closed(&self) -> bool {
        self.opened.is_some()
    }

    /// Gives the directory its mode back now, to hear of an error.
    ///
    /// # Errors
    /// As the disk says; a directory that is gone is none.
    pub fn close(mut self) -> Result<(), ApplyError> {
        self.restore()
    }

    /// Lets the directory keep its new mode: the caller is about to set another.
    pub fn forget(mut self) {
        self.opened = None;
    }

    fn restore(&mut self) -> Result<(), ApplyError> {
        let Some((dir, inode, mode)) = self.opened.take() else { return Ok(()) };
        match self.disk.set_meta(&dir, inode, mode, None) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ApplyError::io("restore the mode of", &dir, error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            tracing::warn!(%error, "a directory keeps a mode that was meant for a moment");
        }
    }
}
