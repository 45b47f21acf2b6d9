//! Small files outside any folder that a person names: the configuration and passphrase files.
//!
//! Links are followed here, unlike in a folder: people link their dotfiles.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fd::AsFd,
    fs::{Access, AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

use crate::sys;

/// Most bytes of a secret file.
const MAX_SECRET: usize = 4096;

/// Why a small file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Nothing is there.
    #[error("{} does not exist", .0.display())]
    NotFound(PathBuf),
    /// A directory, FIFO or the like.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Over the limit.
    #[error("{} is larger than {limit} bytes", .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not text.
    #[error("{} is not UTF-8 text", .0.display())]
    NotUtf8(PathBuf),
    /// A secret that others on this machine can read or change.
    #[error("{} is open to other users (mode {mode:04o}); it must be 0600 or 0400", .path.display())]
    OpenToOthers {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Anything else.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads a small text file of at most `limit` bytes.
///
/// # Errors
/// Says what is wrong with the file.
pub fn read_config(path: &Path, limit: usize) -> Result<String, FileError> {
    let bytes = read(path, limit, |_| Ok(()))?;
    String::from_utf8(bytes).map_err(|_| FileError::NotUtf8(path.to_owned()))
}

/// As [`read_config`], of a file that need not be UTF-8.
///
/// # Errors
/// Says what is wrong with the file.
pub fn read_bytes(path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    read(path, limit, |_| Ok(()))
}

/// Reads what has no size of its own, such as the kernel's lists: up to `limit` bytes, and what is beyond is left
/// out.
///
/// # Errors
/// As the system calls.
pub fn read_stream(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut part = [0; 16 << 10];
    while bytes.len() < limit {
        match rustix::io::read(&fd, &mut part)? {
            0 => break,
            read => bytes.extend(part.iter().take(read)),
        }
    }
    bytes.truncate(limit);
    Ok(bytes)
}

/// Reads a file that holds a secret: a regular file of at most 4 KiB that group and others have no
/// rights to. The caller wraps the bytes in a type that redacts and wipes them.
///
/// # Errors
/// Says what is wrong with the file.
pub fn read_secret_file(path: &Path) -> Result<Vec<u8>, FileError> {
    read(path, MAX_SECRET, |mode| {
        if mode & 0o077 == 0 {
            return Ok(());
        }
        Err(FileError::OpenToOthers { path: path.to_owned(), mode: mode & 0o777 })
    })
}

/// Reads what a process has handed over by the pipe of this number, to its end: text of at most `limit`
/// bytes.
///
/// # Errors
/// If there is no such pipe, or what is in it is too long or no text.
pub fn read_inherited(fd: u32, limit: usize) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, format!("/dev/fd/{fd}"), flags, Mode::empty())?;
    if sys::lstat_handle(fd.as_fd())?.file_type != FileType::Fifo {
        return Err(io::Error::other("this is no pipe"));
    }
    let mut bytes = vec![0; limit + 1];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(&fd, rest)? {
            0 => break,
            read => filled += read,
        }
    }
    if filled > limit {
        return Err(io::Error::other("this is too long"));
    }
    bytes.truncate(filled);
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// Creates a file of this user's alone (0600) that holds a secret, durable when it returns.
///
/// # Errors
/// If anything is there already, a link included, or as the system calls; no part of it is left then.
pub fn create_secret_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o600))?;
    let written =
        sys::write_full(fd.as_fd(), contents, 0).and_then(|()| Ok(rustix::fs::fsync(&fd)?));
    if written.is_err() {
        // It was made here a moment ago. If it cannot be removed either, the first error says more.
        let _ = rustix::fs::unlink(path);
    }
    written
}

/// Whether [`create_secret_file`] could make a file there, as far as that can be told beforehand.
///
/// # Errors
/// `AlreadyExists` if something is there; else what is wrong with its directory.
pub fn check_new_file(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let access = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, dir, access, AtFlags::EACCESS)?;
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(Errno::NOENT) if path.file_name().is_some() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Puts a small file that is no secret where another program looks for it (0644), whole, in place of what is
/// there; directories that are missing are made.
///
/// # Errors
/// As the system calls; what was there stays then.
pub fn install_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    crate::state::make_dirs(dir, Mode::from_raw_mode(0o755))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let draft = dir.join(name);
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, &draft, flags, Mode::from_raw_mode(0o644))?;
    let placed = sys::write_full(fd.as_fd(), contents, 0)
        .and_then(|()| Ok(rustix::fs::fsync(&fd)?))
        .and_then(|()| Ok(rustix::fs::rename(&draft, path)?));
    if placed.is_err() {
        // If it cannot be removed either, what is left is a draft nobody reads.
        let _ = rustix::fs::unlink(&draft);
    }
    placed
}

/// Removes what [`install_file`] has put there; false if nothing was.
///
/// # Errors
/// As the system call.
pub fn remove_installed(path: &Path) -> io::Result<bool> {
    match rustix::fs::unlink(path) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read(
    path: &Path,
    limit: usize,
    judge: impl FnOnce(u32) -> Result<(), FileError>,
) -> Result<Vec<u8>, FileError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FileError::NotFound(path.to_owned()),
        _ => FileError::Io { path: path.to_owned(), source },
    };
    // NONBLOCK: a FIFO must not hang us before it is refused.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| fail(e.into()))?;
    let raw = sys::lstat_handle(fd.as_fd()).map_err(|e| fail(e.into()))?;
    if raw.file_type != FileType::RegularFile {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    judge(raw.mode)?;
    // A file that says it is small is not read at its limit's cost; one that grows meanwhile is too large.
    let room = usize::try_from(raw.size).unwrap_or(limit).max(4096).min(limit);
    let mut bytes = vec![0; room + 1];
    let read = sys::read_full(fd.as_fd(), &mut bytes, 0).map_err(fail)?;
    if read > room {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    bytes.truncate(read);
    Ok(bytes)
}
