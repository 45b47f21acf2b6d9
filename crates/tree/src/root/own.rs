//! What lies in `.kin`: where each place of ours is, and what is there.

use std::io;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::Mode,
    io::Errno,
};
use wire::{Hash, RelPath};

use super::{Root, invalid};
use crate::{Disk as _, FileKind, Place, Stat, sys};

/// Directory of downloads in `.kin`.
pub(super) const PARTIAL: &str = "partial";
/// Directory of what is swapped in and out in `.kin`.
pub(super) const SWAP: &str = "swap";
/// Directory of what sync replaced or deleted in `.kin`.
const HISTORY: &str = "history";
/// Directory of copies from history that are being made, in `.kin`.
pub(super) const RESTORE: &str = "restore";

/// The path of a place of ours, relative to `.kin`.
pub(super) fn own_path(place: &Place) -> io::Result<String> {
    match place {
        Place::Tree(_) => Err(invalid("not a place of ours")),
        Place::Partial(hash) => Ok(format!("{PARTIAL}/{}", hash.to_hex())),
        Place::Swap(number) => Ok(format!("{SWAP}/{number:016x}")),
        Place::Built(number, path) => Ok(format!("{SWAP}/{number:016x}/{}", path.as_str())),
        Place::History(path) if path.is_root() => Err(invalid("history needs a path")),
        Place::History(path) => Ok(format!("{HISTORY}/{}", path.as_str())),
        Place::Restore(number) => Ok(format!("{RESTORE}/{number:016x}")),
    }
}

/// Fails for places where no directory is built.
pub(super) fn must_be_built(at: &Place) -> io::Result<()> {
    match at {
        Place::Swap(_) | Place::Built(..) => Ok(()),
        _ => Err(invalid("no place where a directory is built")),
    }
}

/// Where a directory of history is, relative to `.kin`.
pub(super) fn history_dir(dir: &RelPath) -> String {
    if dir.is_root() { HISTORY.to_owned() } else { format!("{HISTORY}/{}", dir.as_str()) }
}

impl Root {
    pub(super) fn make_own_dirs(&self, dir: &str) -> io::Result<OwnedFd> {
        let mut held: Option<OwnedFd> = None;
        for name in dir.split('/') {
            let at = held.as_ref().map_or(self.kin.as_fd(), AsFd::as_fd);
            match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let next = self.beneath(at, name, sys::dir_handle())?;
            held = Some(next);
        }
        held.ok_or_else(|| invalid("no directory named"))
    }

    pub(super) fn read_own_dir(
        &self,
        name: &str,
        found: &mut Vec<(Place, Stat)>,
    ) -> io::Result<()> {
        let dir = match self.beneath(self.kin.as_fd(), name, sys::dir_reader()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let mut names = Vec::new();
        sys::names(dir.as_fd(), |name| names.push(name.to_vec()))?;
        for entry in names {
            let Ok(entry) = String::from_utf8(entry) else { continue };
            let Some(place) = parse_own(name, &entry) else { continue };
            match self.lstat(dir.as_fd(), &entry) {
                Ok(stat) => {
                    if matches!(place, Place::Swap(_)) && stat.kind == FileKind::Dir {
                        self.read_built(&place, found)?;
                    }
                    found.push((place, stat));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What is in a directory that is being built, what a directory holds before it.
    fn read_built(&self, at: &Place, found: &mut Vec<(Place, Stat)>) -> io::Result<()> {
        let mut names = Vec::new();
        let dir = self.beneath(self.kin.as_fd(), &own_path(at)?, sys::dir_reader())?;
        sys::names(dir.as_fd(), |name| names.push(name.to_vec()))?;
        drop(dir);
        for name in names {
            let place = String::from_utf8(name).ok().and_then(|name| at.join(&name));
            let Some(place) = place else { continue };
            let Some(stat) = self.stat(&place)? else { continue };
            if stat.kind == FileKind::Dir {
                self.read_built(&place, found)?;
            }
            found.push((place, stat));
        }
        Ok(())
    }

    /// True if a directory hands its group (setgid) or rights (a default ACL) on to what is made in it.
    pub(super) fn hands_on(&self, dir: &RelPath) -> io::Result<bool> {
        if !cfg!(target_os = "linux") {
            // There it is so of every directory.
            return Ok(true);
        }
        let fd = self.beneath(self.top.as_fd(), dir, sys::dir_reader())?;
        if sys::lstat_handle(fd.as_fd())?.mode & 0o2000 != 0 {
            return Ok(true);
        }
        match rustix::fs::fgetxattr(&fd, "system.posix_acl_default", &mut [0; 0]) {
            Ok(_) => Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The place that a name in `.kin/partial`, `.kin/swap` or `.kin/restore` stands for; `None` if it is not ours.
fn parse_own(dir: &str, name: &str) -> Option<Place> {
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if !name.bytes().all(hex) {
        return None;
    }
    if dir == SWAP || dir == RESTORE {
        let number = u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16)?;
        return Some(if dir == SWAP { Place::Swap(number) } else { Place::Restore(number) });
    }
    if name.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&name[at..at + 2], 16).ok()?;
    }
    Some(Place::Partial(Hash(hash)))
}
