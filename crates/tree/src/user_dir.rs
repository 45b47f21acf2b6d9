//! A user's own directory (the home) and small files in it that other programs own or share with us:
//! `~/.ssh/authorized_keys` and the like.
//!
//! People link their dotfiles, so links are followed here, as long as they stay beneath the directory and
//! belong to its user. Every step is taken from a held handle. How a file that others write, too, is
//! changed is [`UserDir::edit`]'s part (module `lines`).

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

use crate::sys::{self, Caps};

/// Links on the way to one file.
const MAX_LINKS: usize = 16;

/// Why a file of a user's cannot be read or changed. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserFileError {
    /// It leads out of the directory, by `..` or an absolute link.
    #[error("{} is a link that leads out of {}", .path.display(), .top.display())]
    Outside {
        /// Which.
        path: PathBuf,
        /// The directory that it must stay in.
        top: PathBuf,
    },
    /// More links than anybody means.
    #[error("{} goes through too many links", .0.display())]
    TooManyLinks(PathBuf),
    /// Another user owns it, or a link or directory on the way to it.
    #[error("{} belongs to another user", .0.display())]
    Foreign(PathBuf),
    /// A directory, FIFO or the like where a file belongs, or a file where a directory belongs.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Over the limit.
    #[error("{} is larger than {limit} bytes", .path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// Another process is changing it and does not come to an end.
    #[error("another program has locked the directory of {}", .0.display())]
    Locked(PathBuf),
    /// Other programs changed it again and again while it was being changed here.
    #[error("{} was changed by another program again and again", .0.display())]
    Busy(PathBuf),
    /// The change would have touched a line that is not ours; that is a fault of this program.
    #[error("the change of {} would have touched lines of others", .0.display())]
    ForeignLines(PathBuf),
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

impl UserFileError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { doing, path: path.to_owned(), source: source.into() }
    }
}

/// A directory of one user's, held open.
#[derive(Debug)]
pub struct UserDir {
    path: PathBuf,
    /// Without links, to tell whether an absolute link stays inside.
    real: PathBuf,
    dir: OwnedFd,
    pub(crate) caps: Caps,
}

/// Where a file is, links followed: the directory that has it, and its name there.
pub(crate) struct Spot {
    pub(crate) dir: OwnedFd,
    pub(crate) name: OsString,
    /// As it was asked for, for messages.
    pub(crate) shown: PathBuf,
}

impl UserDir {
    /// Opens a directory that must be there and belong to this process's user.
    ///
    /// # Errors
    /// If it is not, or does not.
    pub fn open(path: &Path) -> Result<Self, UserFileError> {
        let fail = |source: io::Error| UserFileError::io("open", path, source);
        let real = path.canonicalize().map_err(fail)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::openat(CWD, &real, flags, Mode::empty()).map_err(|e| fail(e.into()))?;
        let raw = sys::lstat_handle(dir.as_fd()).map_err(|e| fail(e.into()))?;
        if raw.owner != rustix::process::geteuid().as_raw() {
            return Err(UserFileError::Foreign(path.to_owned()));
        }
        let caps = Caps::probe(dir.as_fd());
        Ok(Self { path: path.to_owned(), real, dir, caps })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file of at most `limit` bytes; `None` if it is not there. It may belong to root, as what a
    /// system hands out does.
    ///
    /// # Errors
    /// Says what is wrong with the file or the way to it.
    pub fn read(&self, at: &str, limit: usize) -> Result<Option<Vec<u8>>, UserFileError> {
        let Some(spot) = self.find(at, false)? else { return Ok(None) };
        Ok(spot.read(limit)?.map(|(bytes, _)| bytes))
    }

    /// Creates a file with this mode, whole and durable, and the directories that are missing (0700); false if
    /// anything is there already, which stays as it is.
    ///
    /// # Errors
    /// As the system calls; nothing is there then that was not before.
    pub fn create(&self, at: &str, contents: &[u8], mode: u32) -> Result<bool, UserFileError> {
        let spot = self.spot(at)?;
        let lock = spot.lock()?;
        let draft = spot.beside("kin-draft");
        spot.draft(&draft, contents, mode, None)?;
        let placed = sys::rename_new(
            self.caps,
            (spot.dir.as_fd(), draft.as_str()),
            (spot.dir.as_fd(), spot.name_str()?),
            false,
        );
        if placed.is_err() {
            // If it cannot be removed either, what is left is a draft nobody reads.
            let _ = rustix::fs::unlinkat(&spot.dir, draft.as_str(), AtFlags::empty());
        }
        match placed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(UserFileError::io("write", &spot.shown, error)),
        }
        spot.sync()?;
        drop(lock);
        Ok(true)
    }

    /// Removes a file, durably; false if it is not there. A link is removed, not what it leads to.
    ///
    /// # Errors
    /// As the system calls.
    pub fn remove(&self, at: &str) -> Result<bool, UserFileError> {
        let shown = self.path.join(at);
        let (parent, name) = at.rsplit_once('/').unwrap_or(("", at));
        let Some(dir) = self.find_dir(parent)? else { return Ok(false) };
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(UserFileError::io("remove", &shown, error)),
        }
        rustix::fs::fsync(&dir).map_err(|error| UserFileError::io("remove", &shown, error))?;
        Ok(true)
    }

    /// The names in a directory, sorted; none if it is not there. Names that are no UTF-8 are left out.
    ///
    /// # Errors
    /// As the system calls.
    pub fn names(&self, at: &str) -> Result<Vec<String>, UserFileError> {
        let Some(dir) = self.find_dir(at)? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        sys::names(dir.as_fd(), |name| {
            names.extend(str::from_utf8(name).ok().map(str::to_owned));
        })
        .map_err(|error| UserFileError::io("read", &self.path.join(at), error))?;
        names.sort_unstable();
        Ok(names)
    }

    fn find_dir(&self, at: &str) -> Result<Option<OwnedFd>, UserFileError> {
        // The way to something in it is the way to it.
        let inner = if at.is_empty() { "-".to_owned() } else { format!("{at}/-") };
        Ok(self.find(&inner, false)?.map(|spot| spot.dir))
    }

    /// The way to a file, with the directories made that are missing.
    pub(crate) fn spot(&self, at: &str) -> Result<Spot, UserFileError> {
        let shown = self.path.join(at);
        self.find(at, true)?.ok_or_else(|| UserFileError::io("open", &shown, Errno::NOENT))
    }

    /// The way to a file, links followed. `None` if a directory on it is missing and is not to be made.
    fn find(&self, at: &str, make: bool) -> Result<Option<Spot>, UserFileError> {
        let shown = self.path.join(at);
        let fail = |error: Errno| UserFileError::io("open", &shown, error);
        let outside = || UserFileError::Outside { path: shown.clone(), top: self.path.clone() };
        let me = rustix::process::geteuid().as_raw();
        let mut above: Vec<OwnedFd> = Vec::new();
        let mut dir = dup(self.dir.as_fd()).map_err(fail)?;
        let mut rest: VecDeque<OsString> = names_of(Path::new(at)).ok_or_else(outside)?;
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                dir = above.pop().ok_or_else(outside)?;
                continue;
            }
            let last = rest.is_empty();
            let raw = match sys::lstat(dir.as_fd(), name.as_os_str()) {
                Err(Errno::NOENT) if last => return Ok(Some(Spot { dir, name, shown })),
                Err(Errno::NOENT) if make => {
                    match rustix::fs::mkdirat(&dir, name.as_os_str(), Mode::from_raw_mode(0o700)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => {
                            return Err(UserFileError::io("make the directory of", &shown, error));
                        }
                    }
                    sys::lstat(dir.as_fd(), name.as_os_str()).map_err(fail)?
                }
                Err(Errno::NOENT) => return Ok(None),
                found => found.map_err(fail)?,
            };
            match raw.file_type {
                FileType::Symlink => {
                    if raw.owner != me {
                        return Err(UserFileError::Foreign(shown));
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(UserFileError::TooManyLinks(shown));
                    }
                    let target = rustix::fs::readlinkat(&dir, name.as_os_str(), Vec::new())
                        .map_err(fail)?
                        .into_bytes();
                    let target = PathBuf::from(OsString::from_vec(target));
                    let inside = if target.is_absolute() {
                        let inside = target
                            .strip_prefix(&self.real)
                            .or_else(|_| target.strip_prefix(&self.path))
                            .map_err(|_| outside())?
                            .to_owned();
                        above.clear();
                        dir = dup(self.dir.as_fd()).map_err(fail)?;
                        inside
                    } else {
                        target
                    };
                    for name in names_of(&inside).ok_or_else(outside)?.into_iter().rev() {
                        rest.push_front(name);
                    }
                }
                FileType::Directory if !last => {
                    if raw.owner != me {
                        return Err(UserFileError::Foreign(shown));
                    }
                    let next = rustix::fs::openat(
                        &dir,
                        name.as_os_str(),
                        sys::dir_reader(),
                        Mode::empty(),
                    )
                    .map_err(fail)?;
                    above.push(std::mem::replace(&mut dir, next));
                }
                FileType::RegularFile if last => return Ok(Some(Spot { dir, name, shown })),
                _ => return Err(UserFileError::NotAFile(shown)),
            }
        }
        Err(UserFileError::NotAFile(shown))
    }
}

impl Spot {
    /// Its contents and what the system says of it; `None` if it is not there.
    pub(crate) fn read(
        &self,
        limit: usize,
    ) -> Result<Option<(Vec<u8>, sys::RawStat)>, UserFileError> {
        self.read_name(&self.name, limit)
    }

    /// As [`Spot::read`], of a name in the same directory.
    pub(crate) fn read_name(
        &self,
        name: &OsStr,
        limit: usize,
    ) -> Result<Option<(Vec<u8>, sys::RawStat)>, UserFileError> {
        let fail = |source: io::Error| UserFileError::io("read", &self.shown, source);
        let fd = match rustix::fs::openat(&self.dir, name, sys::file_reader(), Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(UserFileError::NotAFile(self.shown.clone())),
            Err(error) => return Err(fail(error.into())),
        };
        let raw = sys::lstat_handle(fd.as_fd()).map_err(|e| fail(e.into()))?;
        if raw.file_type != FileType::RegularFile {
            return Err(UserFileError::NotAFile(self.shown.clone()));
        }
        if raw.owner != rustix::process::geteuid().as_raw() && raw.owner != 0 {
            return Err(UserFileError::Foreign(self.shown.clone()));
        }
        let room = usize::try_from(raw.size).unwrap_or(usize::MAX).min(limit);
        let mut bytes = vec![0; room.saturating_add(1)];
        let mut read = sys::read_full(fd.as_fd(), &mut bytes, 0).map_err(fail)?;
        while read == bytes.len() && read <= limit {
            // It has grown since.
            bytes.resize(read.saturating_mul(2).min(limit.saturating_add(1)), 0);
            let (_, more) = bytes.split_at_mut(read);
            read += sys::read_full(fd.as_fd(), more, read as u64).map_err(fail)?;
        }
        if read > limit {
            return Err(UserFileError::TooLarge { path: self.shown.clone(), limit });
        }
        bytes.truncate(read);
        Ok(Some((bytes, raw)))
    }

    pub(crate) fn name_str(&self) -> Result<&str, UserFileError> {
        self.name.to_str().ok_or_else(|| UserFileError::NotAFile(self.shown.clone()))
    }

    /// A hidden name of ours beside it.
    pub(crate) fn beside(&self, what: &str) -> String {
        format!(".{}.{what}", self.name.to_string_lossy())
    }

    /// Writes a new file of this mode, durable; what a process that was killed left under this name goes.
    pub(crate) fn draft(
        &self,
        draft: &str,
        contents: &[u8],
        mode: u32,
        group: Option<u32>,
    ) -> Result<u64, UserFileError> {
        let write = || {
            match rustix::fs::unlinkat(&self.dir, draft, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&self.dir, draft, flags, Mode::from_raw_mode(0o600))?;
            if let Some(group) = group {
                // Best effort: a file of a group that this user is not in any more gets the user's own.
                let _ = rustix::fs::fchown(&fd, None, Some(rustix::fs::Gid::from_raw(group)));
            }
            rustix::fs::fchmod(&fd, sys::mode_bits(mode))?;
            sys::write_full(fd.as_fd(), contents, 0)?;
            rustix::fs::fsync(&fd)?;
            Ok(sys::lstat_handle(fd.as_fd())?.inode)
        };
        let written: io::Result<u64> = write();
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, draft, AtFlags::empty());
        }
        written.map_err(|error| UserFileError::io("write", &self.shown, error))
    }

    pub(crate) fn sync(&self) -> Result<(), UserFileError> {
        rustix::fs::fsync(&self.dir).map_err(|e| UserFileError::io("write", &self.shown, e))
    }
}

fn dup(fd: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// The names of a path; `None` if one of them is no name.
fn names_of(path: &Path) -> Option<VecDeque<OsString>> {
    let mut names = VecDeque::new();
    for part in path.components() {
        match part {
            Component::Normal(name) if !name.as_bytes().contains(&0) => {
                names.push_back(name.to_owned());
            }
            Component::ParentDir => names.push_back("..".into()),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(names)
}
