//! A device's own directory: keys and other small files that outlive a run. Nothing of a folder is in it.
//!
//! Every file is whole or not there, durable before a call returns, and of this user alone. The directory
//! is held open, and no name in it is followed if it is a link.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

use crate::sys::{self, Caps};

/// Most bytes of a file here.
const MAX_FILE: usize = 64 << 10;

/// Numbers the drafts of this process.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// Why a state directory or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It is a file or something else.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Another user owns it.
    #[error("{} belongs to another user", .0.display())]
    Foreign(PathBuf),
    /// Other users can write to the directory, or read or write the file.
    #[error("{} is open to other users (mode {mode:04o}); it must be {wanted:04o}", .path.display())]
    OpenToOthers {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they must be.
        wanted: u32,
    },
    /// A link, directory, device or the like where a file belongs, or one that is far too large.
    #[error("{} is not a file of ours", .0.display())]
    NotAFile(PathBuf),
    /// Another process has its lock.
    #[error("another kin is using this device's state in {}{}", .path.display(), process(*.pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, if it could be read.
        pid: Option<u32>,
    },
    /// Anything else.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// "open", "read", "write" and the like.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// A directory of this user's, held open.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    dir: OwnedFd,
    caps: Caps,
}

impl StateDir {
    /// Opens it, creating what is missing of the path (0700).
    ///
    /// # Errors
    /// If it is not a directory, not this user's, or one that others can write to.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let fail = |source: io::Error| match Errno::from_io_error(&source) {
            Some(Errno::NOTDIR | Errno::EXIST) => StateError::NotADirectory(path.to_owned()),
            _ => StateError::Io { doing: "open", path: path.to_owned(), source },
        };
        make_dirs(path, Mode::from_raw_mode(0o700)).map_err(fail)?;
        // A link to a directory is a user's way to keep it elsewhere.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| fail(e.into()))?;
        let raw = sys::lstat_handle(dir.as_fd()).map_err(|e| fail(e.into()))?;
        if raw.owner != rustix::process::geteuid().as_raw() {
            return Err(StateError::Foreign(path.to_owned()));
        }
        if raw.mode & 0o022 != 0 {
            let (path, mode) = (path.to_owned(), raw.mode & 0o777);
            return Err(StateError::OpenToOthers { path, mode, wanted: 0o700 });
        }
        let caps = Caps::probe(dir.as_fd());
        Ok(Self { path: path.to_owned(), dir, caps })
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Reads a file of at most 64 KiB; `None` if it is not there. The caller wraps secrets in a type that
    /// redacts and wipes them.
    ///
    /// # Errors
    /// If it is a link, no regular file, another user's, open to others, or too large.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path.join(name);
        let fail = |source| StateError::Io { doing: "read", path: path.clone(), source };
        let fd = match rustix::fs::openat(&self.dir, name, sys::file_reader(), Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(StateError::NotAFile(path)),
            Err(error) => return Err(fail(error.into())),
        };
        let raw = sys::lstat_handle(fd.as_fd()).map_err(|e| fail(e.into()))?;
        if raw.file_type != FileType::RegularFile {
            return Err(StateError::NotAFile(path));
        }
        if raw.owner != rustix::process::geteuid().as_raw() {
            return Err(StateError::Foreign(path));
        }
        if raw.mode & 0o077 != 0 {
            return Err(StateError::OpenToOthers { path, mode: raw.mode & 0o777, wanted: 0o600 });
        }
        let mut bytes = vec![0; MAX_FILE + 1];
        let read = sys::read_full(fd.as_fd(), &mut bytes, 0).map_err(fail)?;
        if read > MAX_FILE {
            return Err(StateError::NotAFile(path));
        }
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    /// True if something of that name is there, whatever it is.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn holds(&self, name: &str) -> Result<bool, StateError> {
        match sys::lstat(self.dir.as_fd(), name) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => {
                let path = self.path.join(name);
                Err(StateError::Io { doing: "look at", path, source: error.into() })
            }
        }
    }

    /// Creates a file (0600), whole and durable; false if one is there already, which stays as it is.
    ///
    /// # Errors
    /// As the system calls; nothing is there then that was not before.
    pub fn create(&self, name: &str, contents: &[u8]) -> Result<bool, StateError> {
        let fail = |source| StateError::Io { doing: "write", path: self.path.join(name), source };
        // Several threads and processes may make the same file at once; each has a draft of its own.
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = format!(".new-{name}-{}-{number}", std::process::id());
        match self.place(&draft, name, contents) {
            Ok(()) => Ok(true),
            Err(error) => {
                // If it cannot be removed either, what is left is a draft nobody reads.
                let _ = rustix::fs::unlinkat(&self.dir, draft.as_str(), AtFlags::empty());
                if error.kind() == io::ErrorKind::AlreadyExists {
                    return Ok(false);
                }
                Err(fail(error))
            }
        }
    }

    /// Puts a file (0600) in the place of what is there, whole and durable.
    ///
    /// # Errors
    /// As the system calls; what was there is there still.
    pub fn replace(&self, name: &str, contents: &[u8]) -> Result<(), StateError> {
        let fail = |source| StateError::Io { doing: "write", path: self.path.join(name), source };
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = format!(".new-{name}-{}-{number}", std::process::id());
        let placed = self.draft(&draft, contents).and_then(|()| {
            rustix::fs::renameat(&self.dir, draft.as_str(), &self.dir, name)?;
            Ok(rustix::fs::fsync(&self.dir)?)
        });
        if placed.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, draft.as_str(), AtFlags::empty());
        }
        placed.map_err(fail)
    }

    /// Removes a file, durably; nothing if it is not there.
    ///
    /// # Errors
    /// As the system calls.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let fail = |source| StateError::Io { doing: "remove", path: self.path.join(name), source };
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) => rustix::fs::fsync(&self.dir).map_err(|error| fail(error.into())),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(fail(error.into())),
        }
    }

    fn place(&self, draft: &str, name: &str, contents: &[u8]) -> io::Result<()> {
        self.draft(draft, contents)?;
        let (from, to) = ((self.dir.as_fd(), draft), (self.dir.as_fd(), name));
        // Nobody is kept out by a lock here.
        sys::rename_new(self.caps, from, to, false)?;
        Ok(rustix::fs::fsync(&self.dir)?)
    }

    fn draft(&self, draft: &str, contents: &[u8]) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, draft, flags, Mode::from_raw_mode(0o600))?;
        // What a process of the same number left before may have had other rights.
        rustix::fs::fchmod(&fd, sys::mode_bits(0o600))?;
        sys::write_full(fd.as_fd(), contents, 0)?;
        Ok(rustix::fs::fsync(&fd)?)
    }
}

/// Makes a directory for a folder that comes here, and those it lies in, as the umask allows; nothing if it is
/// there.
///
/// # Errors
/// As the system calls.
pub fn make_folder_dir(path: &Path) -> io::Result<()> {
    make_dirs(path, Mode::from_raw_mode(0o777))
}

/// `mkdir -p`.
pub(crate) fn make_dirs(path: &Path, mode: Mode) -> io::Result<()> {
    let mut missing = Vec::new();
    for dir in path.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        match rustix::fs::mkdirat(CWD, dir, mode) {
            Ok(()) | Err(Errno::EXIST) => break,
            Err(Errno::NOENT) => missing.push(dir),
            Err(error) => return Err(error.into()),
        }
    }
    for dir in missing.into_iter().rev() {
        match rustix::fs::mkdirat(CWD, dir, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
