//! A folder on a real disk: [`Root`] implements [`Disk`] beneath two held directory handles.
//!
//! Every operation resolves the parent of what it touches from a held handle ([`crate::sys`]) and then
//! works on one name in it, so no path is trusted to lead to the same place twice. Parents are opened
//! for each operation (about 2 µs) and not cached: a cached handle would follow a directory that was
//! moved away. `.kin/swap` alone is held, as `.kin` itself is. How a folder is opened and locked is in `open`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use wire::{RelPath, path::STATE_DIR};

use crate::{
    DirEntry, Disk, FileKind, Listing, Place, ReadFile, RootGone, Stat, WriteFile,
    sys::{self, Caps},
};

/// Downloads that are written to at the same time without waiting for each other.
const TURNS: usize = 8;

/// A folder on a real disk, held open and locked until it is dropped.
#[derive(Debug)]
pub struct Root {
    /// Canonical path when it was opened: for people, the watcher and the index, never for files.
    pub(crate) path: PathBuf,
    pub(crate) top: OwnedFd,
    pub(crate) kin: OwnedFd,
    /// Held for its flock (rule E18); `None` beside a process that holds it.
    pub(crate) _lock: Option<OwnedFd>,
    pub(crate) dev: u64,
    pub(crate) inode: u64,
    pub(crate) kin_inode: u64,
    pub(crate) caps: Caps,
    /// The file system takes different names for the same.
    pub(crate) folds: bool,
    /// `.kin/swap` and its inode, once it was used.
    pub(crate) swap: Mutex<Option<(u64, Arc<OwnedFd>)>>,
    /// Who writes to which download: the kernel lets one at a time, and spins meanwhile.
    pub(crate) turns: [Arc<Mutex<()>>; TURNS],
    /// Numbers the places that a rename passes through where there is no NOREPLACE.
    pub(crate) detours: AtomicU64,
}

mod own;

use own::{PARTIAL, RESTORE, SWAP, history_dir, own_path};

/// The directory that holds a name.
enum Parent<'a> {
    Held(BorrowedFd<'a>),
    Opened(OwnedFd),
    Shared(Arc<OwnedFd>),
}

impl Parent<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Held(fd) => *fd,
            Self::Opened(fd) => fd.as_fd(),
            Self::Shared(fd) => fd.as_fd(),
        }
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// `.kin` is reached through places, never as a path of the tree.
fn refuse_state(path: &RelPath) -> io::Result<()> {
    if path.split('/').next() == Some(STATE_DIR) {
        return Err(invalid("the folder's own state"));
    }
    Ok(())
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Root {
    /// The folder's canonical path when it was opened: for messages and the watcher.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn beneath(&self, top: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        sys::open_beneath(self.caps, top, self.dev, path, flags)
    }

    fn parent_in<'a>(&self, top: BorrowedFd<'a>, dir: &str) -> io::Result<Parent<'a>> {
        if dir.is_empty() {
            return Ok(Parent::Held(top));
        }
        Ok(Parent::Opened(self.beneath(top, dir, sys::dir_handle())?))
    }

    /// The handle of the directory that holds `place`, and the name in it.
    fn locate(&self, place: &Place) -> io::Result<(Parent<'_>, String)> {
        if let Place::Tree(path) = place {
            if path.is_root() {
                return Err(invalid("the folder itself"));
            }
            refuse_state(path)?;
            let (dir, name) = split(path);
            return Ok((self.parent_in(self.top.as_fd(), dir)?, name.to_owned()));
        }
        let path = own_path(place)?;
        let (dir, name) = split(&path);
        if matches!(place, Place::Swap(_)) {
            return Ok((Parent::Shared(self.swap_dir()?), name.to_owned()));
        }
        Ok((self.parent_in(self.kin.as_fd(), dir)?, name.to_owned()))
    }

    /// `.kin/swap`, opened anew if something else has that name by now: recovery looks there by name. The inode of
    /// what is held open is given to nothing else.
    fn swap_dir(&self) -> io::Result<Arc<OwnedFd>> {
        let mut held = self.swap.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((inode, fd)) = &*held
            && sys::lstat(self.kin.as_fd(), SWAP)
                .is_ok_and(|found| found.dev == self.dev && found.inode == *inode)
        {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(self.beneath(self.kin.as_fd(), SWAP, sys::dir_handle())?);
        let found = sys::lstat_handle(fd.as_fd())?;
        *held = Some((found.inode, Arc::clone(&fd)));
        Ok(fd)
    }

    /// As [`Self::locate`], making the parents of a place in `.kin` as needed.
    fn locate_making(&self, place: &Place) -> io::Result<(Parent<'_>, String)> {
        match self.locate(place) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && !matches!(place, Place::Tree(_)) =>
            {
                let path = own_path(place)?;
                let (dir, name) = split(&path);
                Ok((Parent::Opened(self.make_own_dirs(dir)?), name.to_owned()))
            }
            other => other,
        }
    }

    fn lstat(&self, at: BorrowedFd<'_>, name: &str) -> io::Result<Stat> {
        Ok(sys::lstat(at, name).map_err(sys::typed)?.seen_from(self.dev))
    }

    fn open_regular(&self, at: &Place) -> io::Result<Opened> {
        let (parent, name) = self.locate(at)?;
        // Asked first, since opening a device or a FIFO can already do something.
        if self.lstat(parent.fd(), &name)?.kind != FileKind::File {
            return Err(invalid("not a regular file"));
        }
        let fd = rustix::fs::openat(parent.fd(), &name, sys::file_reader(), Mode::empty())
            .map_err(sys::typed)?;
        if sys::lstat_handle(fd.as_fd())?.file_type != FileType::RegularFile {
            return Err(invalid("not a regular file"));
        }
        Ok(Opened { fd, dev: self.dev, turn: None })
    }

    /// All names of an open directory but those that `leave_out` picks.
    fn list_open(
        &self,
        dir: BorrowedFd<'_>,
        leave_out: impl Fn(&str, &sys::RawStat) -> bool,
    ) -> io::Result<Listing> {
        let mut listing = Listing::default();
        sys::names(dir, |raw| {
            let Ok(name) = std::str::from_utf8(raw) else {
                listing.odd_names.push(raw.escape_ascii().to_string());
                return;
            };
            match sys::lstat(dir, raw) {
                Ok(stat) if leave_out(name, &stat) => {}
                Ok(stat) => {
                    let stat = stat.seen_from(self.dev);
                    listing.entries.push(DirEntry { name: name.to_owned(), stat });
                }
                Err(Errno::NOENT) => {}
                Err(error) => {
                    let error = io::Error::from(error);
                    listing.unreadable.push((name.to_owned(), error.kind(), error.to_string()));
                }
            }
        })?;
        listing.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        listing.odd_names.sort_unstable();
        Ok(listing)
    }

    /// Makes a directory and gives it the mode that the umask kept it from.
    fn make_dir_in(
        &self,
        parent: &Parent<'_>,
        name: &str,
        at: &Place,
        mode: u32,
    ) -> io::Result<()> {
        let wanted = (mode | 0o700) & 0o777;
        rustix::fs::mkdirat(parent.fd(), name, sys::mode_bits(wanted)).map_err(sys::typed)?;
        // What the umask took away, nobody else's directory lacks.
        match self.lstat(parent.fd(), name) {
            Ok(made) if made.mode & 0o777 != wanted && made.mode & !wanted & 0o777 == 0 => {
                self.set_meta_at(at, made.inode, wanted, None)
            }
            _ => Ok(()),
        }
    }

    fn set_meta_at(&self, at: &Place, inode: u64, mode: u32, mtime: Option<i64>) -> io::Result<()> {
        let (parent, name) = self.locate(at)?;
        let stat = self.lstat(parent.fd(), &name)?;
        if stat.inode != inode {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (flags, mtime) = match stat.kind {
            FileKind::File => (sys::file_reader(), mtime),
            FileKind::Dir => (sys::dir_reader(), None),
            FileKind::Symlink => {
                return mtime.map_or(Ok(()), |t| sys::set_link_time(parent.fd(), &name, t));
            }
            FileKind::Special | FileKind::MountPoint => {
                return Err(invalid("neither file, directory nor link"));
            }
        };
        match rustix::fs::openat(parent.fd(), &name, flags, Mode::empty()) {
            Ok(fd) => {
                if sys::lstat_handle(fd.as_fd())?.inode != inode {
                    return Err(io::ErrorKind::NotFound.into());
                }
                sys::set_open_meta(fd.as_fd(), mode, mtime)
            }
            Err(Errno::ACCESS) => {
                sys::set_unreadable_meta(parent.fd(), name.as_str(), inode, mode, mtime)
            }
            // It was a link a moment ago, or is one now: another inode either way.
            Err(Errno::LOOP | Errno::NOTDIR) => Err(io::ErrorKind::NotFound.into()),
            Err(error) => Err(error.into()),
        }
    }
}

fn remove_empty(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        // The kernel may say EXIST instead of NOTEMPTY (POSIX allows both).
        Err(Errno::EXIST) => Err(Errno::NOTEMPTY.into()),
        other => other.map_err(sys::typed),
    }
}

impl Disk for Root {
    fn folds_names(&self) -> bool {
        self.folds
    }

    fn stat(&self, at: &Place) -> io::Result<Option<Stat>> {
        if matches!(at, Place::Tree(path) if path.is_root()) {
            // Rule E18: a handle outlives what it was opened on.
            self.still_there().map_err(|gone| match gone {
                RootGone::Unknown { source, .. } => source,
                gone => io::Error::new(io::ErrorKind::NotFound, gone),
            })?;
            let mut stat = sys::lstat_handle(self.top.as_fd())?.seen_from(self.dev);
            // A folder may well be a mount point itself.
            stat.kind = FileKind::Dir;
            return Ok(Some(stat));
        }
        let found = self
            .locate(at)
            .and_then(|(parent, name)| sys::lstat(parent.fd(), name.as_str()).map_err(sys::typed));
        match found {
            Ok(raw) => Ok(Some(raw.seen_from(self.dev))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // A parent that is a file: nothing can be below it. One that is a link is another matter
            // and has no raw error (sys::typed).
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &RelPath) -> io::Result<Listing> {
        refuse_state(dir)?;
        let fd = self.beneath(self.top.as_fd(), dir, sys::dir_reader())?;
        let state = |name: &str, stat: &sys::RawStat| {
            dir.is_root()
                && name.eq_ignore_ascii_case(STATE_DIR)
                && (name == STATE_DIR || stat.inode == self.kin_inode)
        };
        self.list_open(fd.as_fd(), state)
    }

    fn list_history(&self, dir: &RelPath) -> io::Result<Listing> {
        let fd = self.beneath(self.kin.as_fd(), &history_dir(dir), sys::dir_reader())?;
        self.list_open(fd.as_fd(), |_, _| false)
    }

    fn remove_history_dir(&self, dir: &RelPath) -> io::Result<()> {
        if dir.is_root() {
            return Err(invalid("the history itself"));
        }
        let path = history_dir(dir);
        let (parent, name) = split(&path);
        let parent = self.parent_in(self.kin.as_fd(), parent)?;
        remove_empty(parent.fd(), name)
    }

    fn open(&self, at: &Place) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(self.open_regular(at)?))
    }

    fn open_own(&self, at: &Place) -> io::Result<Box<dyn WriteFile>> {
        if matches!(at, Place::Tree(_)) {
            return Err(invalid("only files of ours are written"));
        }
        let (parent, name) = self.locate_making(at)?;
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let open_with = |flags| {
            rustix::fs::openat(parent.fd(), &name, flags, Mode::from_raw_mode(0o600))
                .map_err(sys::typed)
        };
        if matches!(at, Place::Swap(_) | Place::Built(..)) {
            match open_with(flags | OFlags::EXCL) {
                // Made just now: a regular file with one name.
                Ok(fd) => return Ok(Box::new(Opened { fd, dev: self.dev, turn: None })),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let open = || open_with(flags);
        let fd = match open() {
            // A download that already has its final mode, perhaps read-only, is gone on with.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let stat = self.lstat(parent.fd(), &name)?;
                sys::set_unreadable_meta(parent.fd(), name.as_str(), stat.inode, 0o600, None)?;
                open()?
            }
            other => other?,
        };
        let raw = sys::lstat_handle(fd.as_fd())?;
        if raw.file_type != FileType::RegularFile {
            return Err(invalid("not a regular file"));
        }
        if raw.links != 1 {
            // Writing here would write to a file of the user's.
            return Err(invalid("has a second name outside our directory"));
        }
        let turn = match at {
            Place::Partial(content) => self.turns.get(usize::from(content.0[0]) % TURNS).cloned(),
            _ => None,
        };
        Ok(Box::new(Opened { fd, dev: self.dev, turn }))
    }

    fn read_link(&self, at: &Place) -> io::Result<String> {
        let (parent, name) = self.locate(at)?;
        let target = rustix::fs::readlinkat(parent.fd(), &name, Vec::new()).map_err(sys::typed)?;
        target.into_string().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "the link's target is not UTF-8")
        })
    }

    fn make_symlink(&self, at: &Place, target: &str, mtime: i64) -> io::Result<()> {
        if matches!(at, Place::Tree(_)) {
            return Err(invalid("links are made in our directory and moved in"));
        }
        let (parent, name) = self.locate_making(at)?;
        rustix::fs::symlinkat(target, parent.fd(), &name).map_err(sys::typed)?;
        sys::set_link_time(parent.fd(), &name, mtime)
    }

    fn make_dir(&self, at: &RelPath, mode: u32) -> io::Result<()> {
        let place = Place::Tree(at.clone());
        let (parent, name) = self.locate(&place)?;
        self.make_dir_in(&parent, &name, &place, mode)
    }

    fn make_own_dir(&self, at: &Place, mode: u32) -> io::Result<()> {
        own::must_be_built(at)?;
        let (parent, name) = self.locate_making(at)?;
        self.make_dir_in(&parent, &name, at, mode)
    }

    fn remove_own_dir(&self, at: &Place) -> io::Result<()> {
        own::must_be_built(at)?;
        let (parent, name) = self.locate(at)?;
        remove_empty(parent.fd(), &name)
    }

    fn hands_down(&self, dir: &RelPath) -> io::Result<bool> {
        self.hands_on(dir)
    }

    fn remove_dir(&self, at: &RelPath) -> io::Result<()> {
        let (parent, name) = self.locate(&Place::Tree(at.clone()))?;
        remove_empty(parent.fd(), &name)
    }

    fn rename_new(&self, from: &Place, to: &Place) -> io::Result<()> {
        let both_in_tree = matches!((from, to), (Place::Tree(_), Place::Tree(_)));
        if both_in_tree && !self.caps.rename_flags {
            // Linking and then unlinking the old name could unlink what somebody just saved there.
            // Into `.kin` and out again loses nothing at any moment.
            if self.stat(to)?.is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let number = u64::MAX - self.detours.fetch_add(1, Ordering::Relaxed);
            let detour = Place::Swap(number);
            self.rename_new(from, &detour)?;
            return self.rename_new(&detour, to).inspect_err(|_| {
                if let Err(error) = self.rename_new(&detour, from) {
                    tracing::warn!(%error, number, "a moved file had to be left in .kin/swap");
                }
            });
        }
        let (from_parent, from_name) = self.locate(from)?;
        let (to_parent, to_name) = self.locate_making(to)?;
        sys::rename_new(
            self.caps,
            (from_parent.fd(), &from_name),
            (to_parent.fd(), &to_name),
            !matches!(to, Place::Tree(_)),
        )
    }

    fn put_in(&self, from: &Place, to: &RelPath) -> io::Result<Option<Stat>> {
        let place = Place::Tree(to.clone());
        if !self.caps.rename_flags {
            self.rename_new(from, &place)?;
            return Ok(self.stat(&place).ok().flatten());
        }
        let (from_parent, from_name) = self.locate(from)?;
        let (to_parent, to_name) = self.locate(&place)?;
        let (from, to) = ((from_parent.fd(), &*from_name), (to_parent.fd(), &*to_name));
        sys::rename_new(self.caps, from, to, false)?;
        Ok(self.lstat(to_parent.fd(), &to_name).ok())
    }

    fn exchange(&self, a: &Place, b: &Place) -> io::Result<()> {
        let (a_parent, a_name) = self.locate(a)?;
        let (b_parent, b_name) = self.locate(b)?;
        sys::exchange(self.caps, (a_parent.fd(), &a_name), (b_parent.fd(), &b_name))
    }

    fn unlink_own(&self, at: &Place) -> io::Result<()> {
        if matches!(at, Place::Tree(_)) {
            return Err(invalid("a user's file is never unlinked"));
        }
        let (parent, name) = self.locate(at)?;
        rustix::fs::unlinkat(parent.fd(), &name, AtFlags::empty()).map_err(sys::typed)
    }

    fn set_meta(&self, at: &RelPath, inode: u64, mode: u32, mtime: Option<i64>) -> io::Result<()> {
        self.set_meta_at(&Place::Tree(at.clone()), inode, mode, mtime)
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        let fd = self.beneath(self.top.as_fd(), dir, sys::dir_reader())?;
        Ok(rustix::fs::fsync(fd)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        sys::sync_file_system(self.kin.as_fd())
    }

    fn own_files(&self) -> io::Result<Vec<(Place, Stat)>> {
        let mut found = Vec::new();
        self.read_own_dir(SWAP, &mut found)?;
        self.read_own_dir(PARTIAL, &mut found)?;
        self.read_own_dir(RESTORE, &mut found)?;
        Ok(found)
    }

    fn free_space(&self) -> io::Result<u64> {
        let space = rustix::fs::fstatvfs(&self.kin)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn total_space(&self) -> io::Result<u64> {
        let space = rustix::fs::fstatvfs(&self.kin)?;
        Ok(space.f_blocks.saturating_mul(space.f_frsize))
    }
}

/// An open regular file.
struct Opened {
    fd: OwnedFd,
    dev: u64,
    /// Held while something is written to it.
    turn: Option<Arc<Mutex<()>>>,
}

impl ReadFile for Opened {
    fn stat(&self) -> io::Result<Stat> {
        Ok(sys::lstat_handle(self.fd.as_fd())?.seen_from(self.dev))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        sys::read_full(self.fd.as_fd(), buf, offset)
    }
}

impl WriteFile for Opened {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let _turn =
            self.turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        sys::write_full(self.fd.as_fd(), data, offset)
    }

    fn begin_sync(&self, offset: u64, len: u64) {
        sys::begin_sync(self.fd.as_fd(), offset, len);
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&self.fd, len)?)
    }

    fn set_meta(&self, mode: u32, mtime: i64) -> io::Result<()> {
        sys::set_open_meta(self.fd.as_fd(), mode, Some(mtime))
    }

    fn sync(&self) -> io::Result<()> {
        sys::sync_data(self.fd.as_fd())
    }
}
