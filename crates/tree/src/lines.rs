//! Changing lines of ours in a file that other programs and people write, too, such as authorized_keys.
//!
//! The file is at every moment whole: what it was, or what it becomes. The new contents are made durable
//! beside it and exchanged with it in one step; what comes out is looked at, and if somebody wrote meanwhile,
//! it is put back and the change is made anew on theirs. Lines that are not ours are compared before and
//! after by this module itself, so that no caller can lose one. Other processes of ours wait for a lock on
//! the directory.

use std::{
    io,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, FlockOperation},
    io::Errno,
};

use crate::{
    UserDir, UserFileError,
    sys::{self, RawStat},
    user_dir::Spot,
};

/// Largest file that is edited, in bytes: a hundred thousand keys.
pub const MAX_LINE_FILE: usize = 16 << 20;
/// How long another process may hold the lock.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the lock is tried.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often others may change the file while it is being changed here.
const MAX_TRIES: usize = 64;

/// What an edit did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edited {
    /// It was so already.
    Unchanged,
    /// The file is different now, durably.
    Changed,
}

/// A step of an edit; tests do something between any two.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The file was read.
    Read,
    /// The new contents are on the disk under a name of ours.
    Drafted,
    /// They are about to be exchanged.
    Ready,
    /// They are in place, the old ones not looked at.
    Exchanged,
    /// Somebody's edit came out; it is about to be put back.
    Raced,
    /// The old contents were looked at and are about to be removed.
    Looked,
}

impl UserDir {
    /// Changes a file: `change` gets its contents (empty if it is not there) and returns the new ones, as often
    /// as others write meanwhile. Lines for which `ours` does not hold must stay as they are and in their order.
    /// A file that is not there is made with mode 0600, and directories with 0700; a file that is there keeps
    /// mode and group.
    ///
    /// # Errors
    /// Says why not; the file is then what it was.
    pub fn edit(
        &self,
        at: &str,
        ours: &dyn Fn(&[u8]) -> bool,
        change: &mut dyn FnMut(&[u8]) -> Vec<u8>,
    ) -> Result<Edited, UserFileError> {
        self.edit_between(at, ours, change, &mut |_| {})
    }

    /// As [`UserDir::edit`], with something done between its steps.
    ///
    /// # Errors
    /// As [`UserDir::edit`].
    #[doc(hidden)]
    pub fn edit_between(
        &self,
        at: &str,
        ours: &dyn Fn(&[u8]) -> bool,
        change: &mut dyn FnMut(&[u8]) -> Vec<u8>,
        between: &mut dyn FnMut(Step),
    ) -> Result<Edited, UserFileError> {
        // A change that changes nothing makes no directories and needs no right to write.
        if let Some(now) = self.read(at, MAX_LINE_FILE)?
            && change(&now) == now
        {
            return Ok(Edited::Unchanged);
        }
        let spot = self.spot(at)?;
        let lock = spot.lock()?;
        let names = Names { draft: spot.beside("kin-draft"), swap: spot.beside("kin-swap") };
        for _ in 0..MAX_TRIES {
            self.recover(&spot, &names, ours)?;
            let found = spot.read(MAX_LINE_FILE)?;
            between(Step::Read);
            let old = found.as_ref().map_or(&[][..], |(bytes, _)| bytes);
            let new = change(old);
            if new == old {
                return Ok(Edited::Unchanged);
            }
            if !foreign(old, ours).eq(foreign(&new, ours)) {
                return Err(UserFileError::ForeignLines(spot.shown));
            }
            let placed = match &found {
                None => self.place(&spot, &names, &new, between)?,
                Some((bytes, raw)) => {
                    let me = rustix::process::geteuid().as_raw();
                    if raw.owner != me {
                        return Err(UserFileError::Foreign(spot.shown));
                    }
                    self.swap(&spot, &names, (bytes, raw), &new, between)?
                }
            };
            if placed {
                drop(lock);
                return Ok(Edited::Changed);
            }
        }
        Err(UserFileError::Busy(spot.shown))
    }

    /// Puts a file where none was; false if one is there now.
    fn place(
        &self,
        spot: &Spot,
        names: &Names,
        new: &[u8],
        between: &mut dyn FnMut(Step),
    ) -> Result<bool, UserFileError> {
        spot.draft(&names.draft, new, 0o600, None)?;
        between(Step::Drafted);
        let from = (spot.dir.as_fd(), names.draft.as_str());
        let placed = sys::rename_new(self.caps, from, (spot.dir.as_fd(), spot.name_str()?), false);
        match placed {
            Ok(()) => spot.sync().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove(spot, &names.draft).map(|()| false)
            }
            Err(error) => {
                let _ = remove(spot, &names.draft);
                Err(UserFileError::io("write", &spot.shown, error))
            }
        }
    }

    /// Exchanges the file with its new contents; false if somebody wrote meanwhile, whose edit is in place.
    fn swap(
        &self,
        spot: &Spot,
        names: &Names,
        (old, raw): (&[u8], &RawStat),
        new: &[u8],
        between: &mut dyn FnMut(Step),
    ) -> Result<bool, UserFileError> {
        let fail = |error: io::Error| UserFileError::io("write", &spot.shown, error);
        let name = spot.name_str()?;
        let inode = spot.draft(&names.draft, new, raw.mode & 0o777, Some(raw.group))?;
        between(Step::Drafted);
        let renamed =
            rustix::fs::renameat(&spot.dir, names.draft.as_str(), &spot.dir, names.swap.as_str());
        if let Err(error) = renamed {
            let _ = remove(spot, &names.draft);
            return Err(fail(error.into()));
        }
        between(Step::Ready);
        let exchange = || {
            let at = spot.dir.as_fd();
            sys::exchange(self.caps, (at, names.swap.as_str()), (at, name))
        };
        match exchange() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                return rename_over(spot, names, old);
            }
            Err(error) => {
                let _ = remove(spot, &names.swap);
                // Somebody removed the file: it is made anew, or the reason is told next time.
                return match error.kind() {
                    io::ErrorKind::NotFound => Ok(false),
                    _ => Err(fail(error)),
                };
            }
        }
        between(Step::Exchanged);
        // Looked at twice: whoever had it open may have written until now.
        let same = self.came_out(spot, names, old)? && {
            spot.sync()?;
            between(Step::Looked);
            self.came_out(spot, names, old)?
        };
        if same {
            remove(spot, &names.swap)?;
            return Ok(true);
        }
        between(Step::Raced);
        exchange().map_err(fail)?;
        let out = spot.read_name(names.swap.as_ref(), MAX_LINE_FILE)?;
        if out.is_none_or(|(bytes, raw)| raw.inode == inode && bytes == new) {
            remove(spot, &names.swap)?;
            return Ok(false);
        }
        // Yet another edit, of what we had written: it is the latest. The one before is kept beside it.
        exchange().map_err(fail)?;
        keep(self, spot, names)?;
        Ok(false)
    }

    fn came_out(&self, spot: &Spot, names: &Names, old: &[u8]) -> Result<bool, UserFileError> {
        let out = spot.read_name(names.swap.as_ref(), MAX_LINE_FILE)?;
        Ok(out.is_some_and(|(bytes, _)| bytes == old))
    }

    /// What a process that was killed left: a draft is nothing; the other half of an exchange is nothing if its
    /// lines of others are in the file, and is kept if not.
    fn recover(
        &self,
        spot: &Spot,
        names: &Names,
        ours: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), UserFileError> {
        remove(spot, &names.draft)?;
        let Some((left, _)) = spot.read_name(names.swap.as_ref(), MAX_LINE_FILE)? else {
            return Ok(());
        };
        let here = spot.read(MAX_LINE_FILE)?.map(|(bytes, _)| bytes).unwrap_or_default();
        let here: std::collections::HashSet<&[u8]> = foreign(&here, ours).collect();
        if foreign(&left, ours).all(|line| here.contains(line)) {
            return remove(spot, &names.swap);
        }
        keep(self, spot, names)
    }
}

/// Names beside the file that are ours while the lock is held.
struct Names {
    /// New contents, perhaps only a part of them.
    draft: String,
    /// New contents, whole; after the exchange the old ones.
    swap: String,
}

/// Lines that are not ours, without what ends them.
fn foreign<'a>(bytes: &'a [u8], ours: &'a dyn Fn(&[u8]) -> bool) -> impl Iterator<Item = &'a [u8]> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !ours(line))
}

/// Where the file system knows no exchange: a last look, then a rename.
fn rename_over(spot: &Spot, names: &Names, old: &[u8]) -> Result<bool, UserFileError> {
    let now = spot.read(MAX_LINE_FILE)?;
    if now.is_none_or(|(bytes, _)| bytes != old) {
        remove(spot, &names.swap)?;
        return Ok(false);
    }
    rustix::fs::renameat(&spot.dir, names.swap.as_str(), &spot.dir, spot.name.as_os_str())
        .map_err(|error| UserFileError::io("write", &spot.shown, error))?;
    spot.sync()?;
    Ok(true)
}

fn remove(spot: &Spot, name: &str) -> Result<(), UserFileError> {
    match rustix::fs::unlinkat(&spot.dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(UserFileError::io("write", &spot.shown, error)),
    }
}

/// Keeps what somebody wrote where a person finds it.
fn keep(dir: &UserDir, spot: &Spot, names: &Names) -> Result<(), UserFileError> {
    for number in 1..=1000 {
        let saved = format!("{}.kin-saved-{number}", spot.name.to_string_lossy());
        let (from, to) =
            ((spot.dir.as_fd(), names.swap.as_str()), (spot.dir.as_fd(), saved.as_str()));
        match sys::rename_new(dir.caps, from, to, false) {
            Ok(()) => {
                tracing::warn!(%saved, "another program's edit of a file was kept beside it");
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(UserFileError::io("write", &spot.shown, error)),
        }
    }
    Err(UserFileError::Busy(spot.shown.clone()))
}

impl Spot {
    /// Keeps other processes of ours from changing anything in this directory, until it is dropped.
    pub(crate) fn lock(&self) -> Result<Option<OwnedFd>, UserFileError> {
        let flags = sys::dir_reader() - rustix::fs::OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.dir, ".", flags, rustix::fs::Mode::empty())
            .map_err(|error| UserFileError::io("open", &self.shown, error))?;
        let end = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(fd)),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => sleep(LOOK_EVERY),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(UserFileError::Locked(self.shown.clone()));
                }
                // A file system without locks for directories (NFS): the exchange still loses no edit.
                Err(_) => return Ok(None),
            }
        }
    }
}
