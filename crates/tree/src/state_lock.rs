//! One process a state directory: its lock, and the socket that only whoever holds the lock makes.

use std::{
    ffi::OsString,
    io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{FileType, FlockOperation, Mode, OFlags},
    io::Errno,
};

use crate::{StateDir, StateError, open::read_pid, sys};

/// The file whose flock keeps other processes out.
const LOCK: &str = "lock";
/// Longest path of a socket in bytes, without the NUL that ends it: macOS has room for 104, Linux for 108.
const MAX_SOCKET_PATH: usize = 103;

/// Held while a process uses the state directory; clones hold the same lock, and the last one gives it up.
#[derive(Clone, Debug)]
pub struct StateLock {
    _held: Arc<OwnedFd>,
}

impl StateDir {
    /// Takes the lock, without waiting. The system gives it up when the process ends, however it ends.
    ///
    /// # Errors
    /// [`StateError::Locked`] if another process has it, or this one by another call.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        let path = self.path().join(LOCK);
        let fail = |source: io::Error| StateError::Io { doing: "lock", path: path.clone(), source };
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let fd = match rustix::fs::openat(self.dir(), LOCK, flags, mode) {
            Err(Errno::LOOP) => return Err(StateError::NotAFile(path)),
            opened => opened.map_err(|error| fail(error.into()))?,
        };
        let raw = sys::lstat_handle(fd.as_fd()).map_err(|error| fail(error.into()))?;
        if raw.file_type != FileType::RegularFile {
            return Err(StateError::NotAFile(path));
        }
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let (path, pid) = (self.path().to_owned(), read_pid(fd.as_fd()));
                return Err(StateError::Locked { path, pid });
            }
            Err(error) => return Err(fail(error.into())),
        }
        // For the message that another process will show; the lock itself is the flock.
        let pid = format!("{}\n", std::process::id());
        rustix::fs::ftruncate(&fd, 0)
            .map_err(io::Error::from)
            .and_then(|()| sys::write_full(fd.as_fd(), pid.as_bytes(), 0))
            .map_err(fail)?;
        Ok(StateLock { _held: Arc::new(fd) })
    }
}

/// A listening socket of this user alone (0600). Its name goes away with it.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Nobody else may make the socket while this one is there.
    _lock: StateLock,
}

impl Socket {
    /// Listens at `path`. One of the same name that an ended process has left is replaced, in one step, so
    /// that nobody finds a socket with other rights or none at all; that no process that lives has it,
    /// the lock says.
    ///
    /// # Errors
    /// If something else than a socket is there, or the path is too long ([`fits_socket`]).
    pub fn listen(path: &Path, lock: &StateLock) -> Result<(Self, UnixListener), StateError> {
        let fail = |source: io::Error| StateError::Io {
            doing: "listen at",
            path: path.to_owned(),
            source,
        };
        let cwd = rustix::fs::CWD;
        match sys::lstat(cwd, path) {
            Ok(found) if found.file_type == FileType::Socket => {}
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(StateError::NotAFile(path.to_owned())),
            Err(error) => return Err(fail(error.into())),
        }
        let draft = draft(path);
        match rustix::fs::unlink(&draft) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(fail(error.into())),
        }
        let listener = UnixListener::bind(&draft).map_err(fail)?;
        let placed = rustix::fs::chmod(&draft, Mode::from_raw_mode(0o600))
            .and_then(|()| rustix::fs::rename(&draft, path));
        if let Err(error) = placed {
            // If it cannot be removed either, the next one who holds the lock tries again.
            let _ = rustix::fs::unlink(&draft);
            return Err(fail(error.into()));
        }
        Ok((Self { path: path.to_owned(), _lock: lock.clone() }, listener))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that stays is refused by the system and replaced by the next holder of the lock.
        let _ = rustix::fs::unlink(&self.path);
    }
}

/// The name that a socket has until it has its rights: as long as the last one, or shorter.
fn draft(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push("~");
    path.with_file_name(name)
}

/// True if a socket can have this path: systems allow about a hundred bytes.
#[must_use]
pub fn fits_socket(path: &Path) -> bool {
    draft(path).as_os_str().len() <= MAX_SOCKET_PATH
}

/// True if `dir` is a directory of this user's that no other can enter, as XDG_RUNTIME_DIR must be.
#[must_use]
pub fn is_private_dir(dir: &Path) -> bool {
    sys::lstat(rustix::fs::CWD, dir).is_ok_and(|found| {
        found.file_type == FileType::Directory
            && found.owner == own_user()
            && found.mode & 0o077 == 0
    })
}

/// The user this process acts for.
#[must_use]
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
#[path = "state_lock_tests.rs"]
mod tests;
