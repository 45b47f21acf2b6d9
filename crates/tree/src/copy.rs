//! Copying a tree and making a place to try things in, for `kin demo`. Not for syncing: nothing here
//! is atomic or durable, and only directories that we made ourselves are ever removed.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{CWD, FileType, Mode, OFlags},
    io::Errno,
};
use wire::path::STATE_DIR;

use crate::sys::{self, RawStat};

/// Deepest directory that is copied. Each level holds two handles.
const MAX_DEPTH: usize = 128;
/// Bytes copied at a time.
const BLOCK: usize = 256 * 1024;

/// What [`copy_tree`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    /// Regular files copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Things left out: FIFOs and the like, what is mounted, what may not be read, and what is nested
    /// over 128 deep.
    pub skipped: u64,
}

/// Copies regular files, directories and links (as links) with modes and mtimes into `to`, an empty
/// directory or a new one. A `.kin` at the top stays behind, and so does what cannot be copied.
///
/// # Errors
/// `AlreadyExists` if `to` is not empty; `InvalidInput` if it lies inside `from`; otherwise what the
/// system says, with a part of the copy made.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<Copied> {
    let source = open_named(from)?;
    let above = to.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new(".")).canonicalize()?;
    let place = to.canonicalize().unwrap_or(above);
    if place.starts_with(from.canonicalize()?) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a tree cannot hold its own copy"));
    }
    match rustix::fs::mkdirat(CWD, to, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let target = open_named(to)?;
    let mut names = 0_u64;
    sys::names(target.as_fd(), |_| names += 1)?;
    if names > 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let stat = sys::lstat_handle(source.as_fd())?;
    let mut copier = Copier { dev: stat.dev, block: vec![0; BLOCK], copied: Copied::default() };
    copier.directory(source.as_fd(), target.as_fd(), 0)?;
    sys::set_open_meta(target.as_fd(), stat.mode, Some(stat.mtime))?;
    Ok(copier.copied)
}

/// A directory that a person named: links are followed.
fn open_named(path: &Path) -> io::Result<OwnedFd> {
    let flags = sys::dir_reader() - OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn open_dir(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    rustix::fs::openat(at, name, sys::dir_reader(), Mode::empty()).map_err(sys::typed)
}

struct Copier {
    dev: u64,
    block: Vec<u8>,
    copied: Copied,
}

impl Copier {
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        depth: usize,
    ) -> io::Result<()> {
        let mut names = Vec::new();
        sys::names(from, |name| names.push(name.to_vec()))?;
        for name in names {
            if depth == 0 && name == STATE_DIR.as_bytes() {
                continue;
            }
            let stat = match sys::lstat(from, name.as_slice()) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let outside =
                stat.mounted || stat.file_type == FileType::Directory && stat.dev != self.dev;
            let done = match stat.file_type {
                _ if outside || depth >= MAX_DEPTH => Err(Errno::XDEV.into()),
                FileType::Directory => self.subdirectory(from, to, &name, &stat, depth),
                FileType::RegularFile => self.file(from, to, &name, &stat),
                FileType::Symlink => link(from, to, &name, &stat),
                _ => Err(Errno::XDEV.into()),
            };
            match done {
                Ok(()) => {}
                Err(error) if is_skippable(&error) => self.copied.skipped += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn subdirectory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &[u8],
        stat: &RawStat,
        depth: usize,
    ) -> io::Result<()> {
        let source = open_dir(from, name)?;
        rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
        let target = open_dir(to, name)?;
        self.directory(source.as_fd(), target.as_fd(), depth + 1)?;
        sys::set_open_meta(target.as_fd(), stat.mode, Some(stat.mtime))
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &[u8],
        stat: &RawStat,
    ) -> io::Result<()> {
        let source = rustix::fs::openat(from, name, sys::file_reader(), Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
        let mut offset = 0;
        loop {
            let read = sys::read_full(source.as_fd(), &mut self.block, offset)?;
            if read == 0 {
                break;
            }
            sys::write_full(target.as_fd(), &self.block[..read], offset)?;
            offset += read as u64;
        }
        self.copied.files += 1;
        self.copied.bytes += offset;
        sys::set_open_meta(target.as_fd(), stat.mode, Some(stat.mtime))
    }
}

fn link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], stat: &RawStat) -> io::Result<()> {
    let target = rustix::fs::readlinkat(from, name, Vec::new())?;
    rustix::fs::symlinkat(target, to, name)?;
    sys::set_link_time(to, name, stat.mtime)
}

/// What one entry may do without stopping the rest.
fn is_skippable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotFound
            | io::ErrorKind::CrossesDevices
            | io::ErrorKind::NotADirectory
    )
}

/// A new directory (0700), removed with all it holds when dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes one whose name starts with `prefix`.
    ///
    /// # Errors
    /// As the system calls.
    pub fn create(prefix: &str) -> io::Result<Self> {
        Self::create_in(&std::env::temp_dir(), prefix)
    }

    /// Makes one in a directory of the caller's choice.
    ///
    /// # Errors
    /// As the system calls.
    pub fn create_in(dir: &Path, prefix: &str) -> io::Result<Self> {
        let top = dir.canonicalize()?;
        // The name need not be secret: it is made exclusively and closed to others.
        let start = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.subsec_nanos());
        for attempt in 0..1000_u32 {
            let number = start.wrapping_add(attempt);
            let path = top.join(format!("{prefix}-{}-{number:08x}", std::process::id()));
            match rustix::fs::mkdirat(CWD, &path, Mode::from_raw_mode(0o700)) {
                Ok(()) => return Ok(Self { path }),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now, to hear of an error.
    ///
    /// # Errors
    /// As the system calls; a part may be left.
    pub fn remove(mut self) -> io::Result<()> {
        let path = std::mem::take(&mut self.path);
        remove_all(&path)
    }

    /// Leaves it where it is.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = remove_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a temporary directory is left");
        }
    }
}

/// Removes a directory that we made ourselves. The standard library's removal follows no links.
#[allow(clippy::disallowed_methods, reason = "this is crate tree")]
fn remove_all(path: &Path) -> io::Result<()> {
    // Directories copied without write permission must be opened first.
    if let Ok(top) = open_named(path) {
        let _ = unlock(top.as_fd(), 0);
    }
    std::fs::remove_dir_all(path)
}

fn unlock(dir: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    let mut dirs = Vec::new();
    sys::names(dir, |name| dirs.push(name.to_vec()))?;
    for name in dirs {
        let stat = sys::lstat(dir, name.as_slice())?;
        if stat.file_type != FileType::Directory || depth > MAX_DEPTH {
            continue;
        }
        if stat.mode & 0o700 != 0o700 {
            sys::set_unreadable_meta(dir, name.as_slice(), stat.inode, stat.mode | 0o700, None)?;
        }
        unlock(open_dir(dir, &name)?.as_fd(), depth + 1)?;
    }
    Ok(())
}
