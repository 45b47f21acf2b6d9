//! Opening a folder: its checks, its `.kin`, its lock (rule E18), and what the index binds itself to
//! (rule E1).
//!
//! Nothing is created unless everything that can be checked before has been.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, atomic::AtomicU64},
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{Access, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags},
    io::Errno,
};
use wire::{Hash, RelPath, path::STATE_DIR};

use crate::{
    Disk, Place, Root,
    sys::{self, Caps},
};

/// The file in `.kin` whose flock keeps other processes out.
const LOCK: &str = "lock";
/// Nobody makes this one: where it is there, it is the lock itself, and the disk folds case.
const LOCK_IN_CAPITALS: &str = "LOCK";
/// A file that is made in `.kin` for a moment, to see what the disk makes of a letter with a mark; and the same name
/// with the letter and its mark apart.
const MARKED: &str = "form-\u{e4}";
const MARKED_APART: &str = "form-a\u{308}";
/// The index, in `.kin`.
const INDEX: &str = "index.db";
/// Most bytes read of a lock file: it holds a process id.
const MAX_LOCK: usize = 32;

/// Why a directory cannot be opened as a folder. Nothing was created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing is there.
    #[error("{} does not exist", .0.display())]
    NotFound(PathBuf),
    /// It is a file or something else.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// This user may not read and write it.
    #[error("no permission to read and write {}", .0.display())]
    Denied(PathBuf),
    /// The file system is mounted read-only.
    #[error("{} is on a read-only file system", .0.display())]
    ReadOnly(PathBuf),
    /// A directory above is a folder already (rule E18).
    #[error("it lies inside another folder, {}", .outer.display())]
    Nested {
        /// The outer folder.
        outer: PathBuf,
    },
    /// It holds this device's own keys: they never leave it, and nobody else may write them.
    #[error("{} holds this device's own keys and groups, {}, which never travel", .dir.display(), .keys.display())]
    HoldsKeys {
        /// The directory.
        dir: PathBuf,
        /// The state directory.
        keys: PathBuf,
    },
    /// It has no `.kin`, and a directory above does.
    #[error("it lies inside the folder {}", .outer.display())]
    Inside {
        /// The folder.
        outer: PathBuf,
    },
    /// It has no `.kin`: nobody ever synced it.
    #[error("{} has no .kin: it was never synced", .0.display())]
    NoState(PathBuf),
    /// Another process has the folder open (rule E18).
    #[error("the folder is in use by another process{}", .pid.map(|p| format!(" ({p})")).unwrap_or_default())]
    Locked {
        /// Its process id, if it could be read.
        pid: Option<u32>,
    },
    /// The file system has no locks, so two processes could not be kept apart.
    #[error("the file system of {} has no file locks", .0.display())]
    NoLocks(PathBuf),
    /// The file system keeps names in another form than they are given, so that what was put there would not be
    /// found again, and would count as deleted (rule E9).
    #[error("the file system of {} changes the names that it is given", .0.display())]
    ChangesNames(PathBuf),
    /// What is called `.kin` there is not ours.
    #[error("{}: {why}", .path.display())]
    ForeignState {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Anything else.
    #[error("cannot open {}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The folder that was opened is not there any more (rule E18): stop, and delete nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootGone {
    /// Its path leads nowhere, or to another directory.
    #[error("{} is not the directory that was opened", .0.display())]
    Replaced(PathBuf),
    /// `.kin` is missing or another one.
    #[error("{} has lost its .kin directory", .0.display())]
    StateLost(PathBuf),
    /// It cannot be told now: looking failed.
    #[error("cannot look at {}: {source}", .path.display())]
    Unknown {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Root {
    /// Opens a folder and locks it, creating `.kin` (0700) if it is not there.
    ///
    /// # Errors
    /// Says what is wrong with the directory; nothing has been created then.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, None)
    }

    /// [`Root::open`] as if the system had neither `openat2` nor renames with flags: for tests.
    ///
    /// # Errors
    /// As [`Root::open`].
    #[doc(hidden)]
    pub fn open_as_on_an_older_system(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, Some(Caps { openat2: false, rename_flags: false, one_device: false }))
    }

    /// [`Root::open`], with less than what the system can do if `caps` says so.
    fn open_with(dir: &Path, caps: Option<Caps>) -> Result<Self, OpenError> {
        let path = dir.canonicalize().map_err(|source| classify(dir, source))?;
        let fail = |error: Errno| classify(&path, error.into());
        let top = rustix::fs::openat(CWD, &path, sys::dir_handle(), Mode::empty()).map_err(fail)?;
        let raw = sys::lstat_handle(top.as_fd()).map_err(fail)?;
        refuse_nested(&path)?;
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&top, c".", wanted, AtFlags::empty()).map_err(fail)?;

        let caps = caps.unwrap_or_else(|| Caps::probe(top.as_fd()));
        let state = path.join(STATE_DIR);
        let created = match rustix::fs::mkdirat(&top, STATE_DIR, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(fail(error)),
        };
        let opened = open_state(caps, top.as_fd(), raw.dev, &state);
        if opened.is_err() && created {
            // Empty, or holding only the lock file that could not be locked: take our traces away.
            let lock = format!("{STATE_DIR}/{LOCK}");
            let _ = rustix::fs::unlinkat(&top, lock.as_str(), AtFlags::empty());
            let _ = rustix::fs::unlinkat(&top, STATE_DIR, AtFlags::REMOVEDIR);
        }
        let (kin, kin_inode, lock, folds) = opened?;
        Ok(Self {
            path,
            top,
            kin,
            _lock: Some(lock),
            dev: raw.dev,
            inode: raw.inode,
            kin_inode,
            caps,
            folds,
            swap: Mutex::default(),
            turns: Default::default(),
            detours: AtomicU64::new(0),
        })
    }

    /// Opens a folder beside whatever process may hold its lock, to look at its history or to make one
    /// change as any other program does. Nothing is created, and `.kin` must be there.
    ///
    /// # Errors
    /// `NoState` or `Inside` if the directory has no `.kin`; otherwise as [`Root::open`].
    pub fn open_beside(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.canonicalize().map_err(|source| classify(dir, source))?;
        let fail = |error: Errno| classify(&path, error.into());
        let top = rustix::fs::openat(CWD, &path, sys::dir_handle(), Mode::empty()).map_err(fail)?;
        let raw = sys::lstat_handle(top.as_fd()).map_err(fail)?;
        let caps = Caps::probe(top.as_fd());
        let state = path.join(STATE_DIR);
        if !has_state(top.as_fd()) {
            return Err(match refuse_nested(&path) {
                Err(OpenError::Nested { outer }) => OpenError::Inside { outer },
                _ => OpenError::NoState(path),
            });
        }
        let (kin, kin_raw) = open_own_state(caps, top.as_fd(), raw.dev, &state)?;
        let folds = sys::lstat(kin.as_fd(), LOCK_IN_CAPITALS).is_ok();
        Ok(Self {
            path,
            top,
            kin,
            _lock: None,
            dev: raw.dev,
            inode: raw.inode,
            kin_inode: kin_raw.inode,
            caps,
            folds,
            swap: Mutex::default(),
            turns: Default::default(),
            detours: AtomicU64::new(0),
        })
    }

    /// Takes `.kin` away again if nothing was kept in it, and gives up the lock. What is in use, or holds
    /// anything, stays.
    ///
    /// # Errors
    /// If the directory cannot be opened, or `.kin` not be taken away.
    pub fn leave_no_state(dir: &Path) -> Result<(), OpenError> {
        drop(Self::open_beside(dir)?);
        let root = Self::open(dir)?;
        let fail = |error: Errno| classify(&root.path, error.into());
        let mut inside = Vec::new();
        for entry in Dir::read_from(root.kin.as_fd()).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_owned();
            if ![&b"."[..], b"..", LOCK.as_bytes()].contains(&name.to_bytes()) {
                inside.push(name);
            }
        }
        for name in inside {
            // Only what is an empty directory goes.
            if rustix::fs::unlinkat(&root.kin, name.as_c_str(), AtFlags::REMOVEDIR).is_err() {
                return Ok(());
            }
        }
        rustix::fs::unlinkat(&root.kin, LOCK, AtFlags::empty()).map_err(fail)?;
        rustix::fs::unlinkat(&root.top, STATE_DIR, AtFlags::REMOVEDIR).map_err(fail)
    }

    /// Where the index lives. A plain path, since SQLite opens files (and their `-wal`) by name; `.kin`
    /// is a real directory of this user's, mode 0700, and locked by us, so nobody else can put anything
    /// in the way.
    #[must_use]
    pub fn index_path(&self) -> PathBuf {
        self.path.join(STATE_DIR).join(INDEX)
    }

    /// Checks that the folder is still the one that was opened (rule E18). To be asked before anything
    /// is concluded from a file's absence.
    ///
    /// # Errors
    /// If the path leads elsewhere, `.kin` is gone, or it cannot be told.
    pub fn still_there(&self) -> Result<(), RootGone> {
        let path = || self.path.clone();
        let unknown = |error: Errno| RootGone::Unknown { path: path(), source: error.into() };
        match sys::lstat(CWD, &self.path) {
            Ok(now) if now.inode == self.inode && now.dev == self.dev => {}
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Err(RootGone::Replaced(path()));
            }
            Err(error) => return Err(unknown(error)),
        }
        match sys::lstat(self.top.as_fd(), STATE_DIR) {
            Ok(kin) if kin.inode == self.kin_inode => Ok(()),
            Ok(_) | Err(Errno::NOENT) => Err(RootGone::StateLost(path())),
            Err(error) => Err(unknown(error)),
        }
    }

    /// True if a directory below is a folder of its own: it has a `.kin` with a lock file. It is then
    /// left alone and reported (rule E18).
    ///
    /// # Errors
    /// As the system calls.
    pub fn holds_nested_folder(&self, dir: &RelPath) -> io::Result<bool> {
        let fd = sys::open_beneath(self.caps, self.top.as_fd(), self.dev, dir, sys::dir_handle())?;
        Ok(!dir.is_root() && has_state(fd.as_fd()))
    }

    /// Inode and birth time (nanoseconds since 1970; 0 if unknown) of a file in `.kin`, such as the
    /// index (rule E1); `None` if it is not there.
    ///
    /// # Errors
    /// As the system call.
    pub fn state_file_identity(&self, name: &str) -> io::Result<Option<(u64, i64)>> {
        match sys::lstat(self.kin.as_fd(), name) {
            Ok(raw) => Ok(Some((raw.inode, raw.born))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a small file of the tree whole; `None` if nothing is there.
    ///
    /// # Errors
    /// `InvalidInput` if it is not a regular file (a link is not followed), `FileTooLarge` over
    /// `limit` bytes, or what the system calls say.
    pub fn read_small(&self, at: &RelPath, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(&Place::Tree(at.clone())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let size = usize::try_from(file.stat()?.size).unwrap_or(usize::MAX);
        if size > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // One byte more than it may have, to see that it has not grown.
        let mut bytes = vec![0; limit.min(size) + 1];
        let read = file.read_at(&mut bytes, 0)?;
        if read > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    /// Creates a file at the folder's root, whole or not at all, never replacing one; for the ignore
    /// file of a first run. Its mode is 0644 as the umask allows.
    ///
    /// # Errors
    /// `AlreadyExists`, `InvalidInput` if `name` is not a single name, or as the system calls.
    pub fn create_root_file(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        RelPath::root().join(name).map_err(invalid)?;
        if name.eq_ignore_ascii_case(STATE_DIR) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let draft = "new-file";
        let drop_draft = || rustix::fs::unlinkat(&self.kin, draft, AtFlags::empty());
        // The lock is ours, so what is there is a draft that a crash left.
        let _ = drop_draft();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let fd = rustix::fs::openat(&self.kin, draft, flags, mode)?;
        let placed = sys::write_full(fd.as_fd(), contents, 0)
            .and_then(|()| sys::sync_data(fd.as_fd()))
            .and_then(|()| {
                let (from, to) = ((self.kin.as_fd(), draft), (self.top.as_fd(), name));
                sys::rename_new(self.caps, from, to, false)
            });
        if placed.is_err() {
            let _ = drop_draft();
        }
        placed
    }
}

/// Opens and locks `.kin`.
fn open_state(
    caps: Caps,
    top: BorrowedFd<'_>,
    dev: u64,
    state: &Path,
) -> Result<(OwnedFd, u64, OwnedFd, bool), OpenError> {
    let foreign = |why| OpenError::ForeignState { path: state.to_owned(), why };
    let fail = |error: Errno| classify(state, error.into());
    let (kin, raw) = open_own_state(caps, top, dev, state)?;
    if raw.mode & 0o777 != 0o700 {
        rustix::fs::fchmod(&kin, sys::mode_bits(0o700)).map_err(fail)?;
    }
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(&kin, LOCK, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
    if sys::lstat_handle(lock.as_fd()).map_err(fail)?.file_type != FileType::RegularFile {
        return Err(foreign("has a lock that is not a file"));
    }
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(OpenError::Locked { pid: read_pid(lock.as_fd()) }),
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => {
            return Err(OpenError::NoLocks(state.to_owned()));
        }
        Err(error) => return Err(fail(error)),
    }
    // For the message that another process will show; the lock itself is the flock.
    let pid = format!("{}\n", std::process::id());
    let written = rustix::fs::ftruncate(&lock, 0)
        .map_err(io::Error::from)
        .and_then(|()| sys::write_full(lock.as_fd(), pid.as_bytes(), 0));
    written.map_err(|error| classify(state, error))?;
    let folds_case = sys::lstat(kin.as_fd(), LOCK_IN_CAPITALS).is_ok();
    let folds = match what_becomes_of_names(kin.as_fd()) {
        Ok(Kept::Changed) => {
            return Err(OpenError::ChangesNames(state.parent().unwrap_or(state).to_owned()));
        }
        Ok(Kept::Folded) => true,
        // A full disk, say: what is found out in capitals must do.
        Ok(Kept::Apart) | Err(_) => folds_case,
    };
    Ok((kin, raw.inode, lock, folds))
}

/// What a disk makes of a name that could be written in another way.
enum Kept {
    /// It is another name than that one.
    Apart,
    /// The disk takes them for the same, and keeps the one that it was given.
    Folded,
    /// The disk keeps the other one.
    Changed,
}

fn what_becomes_of_names(kin: BorrowedFd<'_>) -> io::Result<Kept> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(rustix::fs::openat(kin, MARKED, flags, Mode::from_raw_mode(0o600))?);
    let look = || -> io::Result<Kept> {
        if sys::lstat(kin, MARKED_APART).is_err() {
            return Ok(Kept::Apart);
        }
        for entry in Dir::read_from(kin)? {
            if entry?.file_name().to_bytes() == MARKED.as_bytes() {
                return Ok(Kept::Folded);
            }
        }
        Ok(Kept::Changed)
    };
    let kept = look();
    rustix::fs::unlinkat(kin, MARKED, AtFlags::empty())?;
    kept
}

/// Opens `.kin`, which must be a directory of this user's on the same file system.
fn open_own_state(
    caps: Caps,
    top: BorrowedFd<'_>,
    dev: u64,
    state: &Path,
) -> Result<(OwnedFd, sys::RawStat), OpenError> {
    let foreign = |why| OpenError::ForeignState { path: state.to_owned(), why };
    let fail = |error: Errno| classify(state, error.into());
    let kin =
        sys::open_beneath(caps, top, dev, STATE_DIR, sys::dir_reader()).map_err(
            |error| match error.kind() {
                io::ErrorKind::NotADirectory => foreign("is not a directory"),
                io::ErrorKind::CrossesDevices => foreign("is on another file system"),
                _ => classify(state, error),
            },
        )?;
    let raw = sys::lstat_handle(kin.as_fd()).map_err(fail)?;
    if raw.owner != rustix::process::geteuid().as_raw() {
        return Err(foreign("belongs to another user"));
    }
    Ok((kin, raw))
}

pub(crate) fn read_pid(lock: BorrowedFd<'_>) -> Option<u32> {
    let mut text = [0; MAX_LOCK];
    let read = sys::read_full(lock, &mut text, 0).ok()?;
    std::str::from_utf8(&text[..read]).ok()?.trim().parse().ok()
}

/// Where a path leads, through all links.
///
/// # Errors
/// If nothing is there, or it cannot be looked at.
pub fn real_path(path: &Path) -> io::Result<PathBuf> {
    path.canonicalize()
}

/// Refuses a folder that is, or holds, the directory of a device's keys: who has them is that device, and so is whose keys
/// come to lie there. Of a directory of keys that is still to be made it counts where it would be.
///
/// # Errors
/// [`OpenError::HoldsKeys`]. What cannot be looked at is no matter of this.
pub fn refuse_keys(dir: &Path, keys: &Path) -> Result<(), OpenError> {
    let Ok(dir) = dir.canonicalize() else { return Ok(()) };
    let keys = std::path::absolute(keys).unwrap_or_else(|_| keys.to_owned());
    let there = keys.ancestors().find_map(|above| above.canonicalize().ok());
    // Directories are compared, not names: a mount has two of them, and a disk that folds case any number.
    let which = |path: &Path| {
        let fd = rustix::fs::openat(CWD, path, sys::dir_handle(), Mode::empty()).ok()?;
        let raw = sys::lstat_handle(fd.as_fd()).ok()?;
        Some((raw.dev, raw.inode))
    };
    let Some(here) = which(&dir) else { return Ok(()) };
    let there = there.as_deref().map(Path::ancestors).into_iter().flatten();
    if there.into_iter().any(|above| above == dir || which(above) == Some(here)) {
        return Err(OpenError::HoldsKeys { dir, keys });
    }
    Ok(())
}

/// Refuses a directory with a folder above it (rule E18). One below is met by the scan.
fn refuse_nested(path: &Path) -> Result<(), OpenError> {
    for outer in path.ancestors().skip(1) {
        let Ok(dir) = rustix::fs::openat(CWD, outer, sys::dir_handle(), Mode::empty()) else {
            continue;
        };
        if has_state(dir.as_fd()) {
            return Err(OpenError::Nested { outer: outer.to_owned() });
        }
    }
    Ok(())
}

/// A `.kin` directory with a lock file: other things may be called `.kin` too.
fn has_state(dir: BorrowedFd<'_>) -> bool {
    let is = |name: &str, what| sys::lstat(dir, name).is_ok_and(|raw| raw.file_type == what);
    is(STATE_DIR, FileType::Directory) && is(&format!("{STATE_DIR}/{LOCK}"), FileType::RegularFile)
}

fn classify(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => OpenError::NotFound(path),
        io::ErrorKind::NotADirectory => OpenError::NotADirectory(path),
        io::ErrorKind::PermissionDenied => OpenError::Denied(path),
        io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly(path),
        _ => OpenError::Io { path, source },
    }
}

/// Inode and birth time (nanoseconds since 1970; 0 where the file system does not know) of a file,
/// links not followed (rule E1).
///
/// # Errors
/// As the system call.
pub fn file_identity(path: &Path) -> io::Result<(u64, i64)> {
    let raw = sys::lstat(CWD, path)?;
    Ok((raw.inode, raw.born))
}

/// What tells this machine from a copy of its disk elsewhere (rule E1): a hash of the system's machine
/// id, under a context of ours, so that the raw value (which other software treats as confidential)
/// never leaves. `None` where the system has none.
#[must_use]
pub fn machine_id() -> Option<Hash> {
    let raw = raw_machine_id()?;
    let raw = raw.trim();
    (!raw.is_empty()).then(|| Hash::derived("kinfold 2026-11 machine id", &[raw.as_bytes()]))
}

/// What tells this start of the machine from others, after which what was not written yet may be gone: a hash of the
/// system's own random id for it. `None` where the system has none.
#[must_use]
pub fn boot_id() -> Option<Hash> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let raw = crate::files::read_stream(path, 64).ok()?;
    Some(Hash::derived("kinfold 2026-11 boot id", &[raw.trim_ascii()]))
}

#[cfg(not(target_os = "macos"))]
fn raw_machine_id() -> Option<String> {
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .find_map(|path| crate::files::read_config(Path::new(path), 4096).ok())
}

/// The hardware's UUID, as `ioreg` prints it: there is no file that holds it.
#[cfg(target_os = "macos")]
fn raw_machine_id() -> Option<String> {
    let out = std::process::Command::new("/usr/sbin/ioreg")
        .args(["-rd1", "-c", "IOPlatformExpertDevice"])
        .output()
        .ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let line = text.lines().find(|line| line.contains("IOPlatformUUID"))?;
    line.split('"').nth(3).map(ToOwned::to_owned)
}
