//! A disk in memory that keeps the contract of [`tree::Disk`], and what a user does to it.
//!
//! Deterministic: inode numbers count up, times come from a clock that is set by hand, and nothing
//! depends on addresses or hash seeds. Each method of the trait is one step, taken under one lock, and
//! goes through `Meter::pass`; that is where a user's edit, a loss of power or an error can come in
//! between ([`VirtualDisk::before_change`], [`VirtualDisk::before_call`]). What a loss of power takes, and
//! which names are the same, is in `power` and `fold`.
//!
//! Not modelled: names over the limits of [`RelPath`], non-UTF-8 names, hard links, other users. Rights
//! are those of the owner, so that an unwritable directory is one here too (rule E10).

mod fold;
mod handle;
mod held;
mod meter;
mod own;
mod power;
mod space;
#[cfg(test)]
mod tests;
mod user;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tree::{Disk, FileKind, Listing, Place, ReadFile, Stat, WriteFile};
use wire::{RelPath, path::STATE_DIR};

use crate::rng::Rng;

pub use fold::Fold;
use handle::Handle;
pub use held::Held;
pub use meter::Failing;
use meter::{Call, Meter};
use own::history_dir;
pub(crate) use power::MachineCopy;
use space::{Space, Used};
pub use user::Node;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// A regular file's inode. Open handles share it, so that they see later writes and outlive its name.
#[derive(Debug)]
struct FileNode {
    contents: Arc<Vec<u8>>,
    stat: Stat,
    /// What was durable of it before the writes that were not synced yet, if there are any.
    durable: Option<Arc<Vec<u8>>>,
    used: Used,
}

type SharedFile = Arc<Mutex<FileNode>>;

#[derive(Clone, Debug)]
enum Entry {
    /// Copies share the names until one of them changes: a disk that may lose its power is copied often.
    Dir {
        stat: Stat,
        names: Arc<BTreeMap<Box<str>, Entry>>,
    },
    File(SharedFile),
    Symlink {
        stat: Stat,
        target: String,
    },
    Other(Stat),
}

impl Entry {
    fn stat(&self) -> Stat {
        match self {
            Self::Dir { stat, .. } | Self::Symlink { stat, .. } | Self::Other(stat) => *stat,
            Self::File(file) => lock(file).stat,
        }
    }

    fn change_stat(&mut self, change: impl FnOnce(&mut Stat)) {
        match self {
            Self::Dir { stat, .. } | Self::Symlink { stat, .. } | Self::Other(stat) => change(stat),
            Self::File(file) => change(&mut lock(file).stat),
        }
    }

    fn names(&self) -> io::Result<&BTreeMap<Box<str>, Self>> {
        match self {
            Self::Dir { names, .. } => Ok(names),
            Self::Symlink { .. } => Err(link_in_the_way()),
            Self::File(_) | Self::Other(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn names_mut(&mut self) -> io::Result<&mut BTreeMap<Box<str>, Self>> {
        match self {
            Self::Dir { names, .. } => Ok(Arc::make_mut(names)),
            Self::Symlink { .. } => Err(link_in_the_way()),
            Self::File(_) | Self::Other(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }
}

/// As a real disk says it: by its kind a missing directory, but told apart by `stat`.
fn link_in_the_way() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotADirectory,
        "a symbolic link stands where a directory is meant",
    )
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// A panic elsewhere leaves nothing half-done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder in memory.
#[derive(Debug)]
pub struct VirtualDisk {
    /// The directory above both: `tree` and `kin`.
    state: Mutex<Entry>,
    meter: Arc<Meter>,
    /// What it was like before each change whose names are not durable yet.
    past: Mutex<Vec<Entry>>,
    fold: Fold,
}

impl Default for VirtualDisk {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a place lies below the directory above both.
fn full_path(at: &Place) -> io::Result<String> {
    Ok(match at {
        Place::Tree(path) if path.is_root() => "tree".to_owned(),
        Place::Tree(path) if path.split('/').next() == Some(STATE_DIR) => {
            return Err(invalid("the folder's own state"));
        }
        Place::Tree(path) => format!("tree/{}", path.as_str()),
        Place::Partial(hash) => format!("kin/partial/{}", hash.to_hex()),
        Place::Swap(number) => format!("kin/swap/{number:016x}"),
        Place::Built(number, path) => format!("kin/swap/{number:016x}/{}", path.as_str()),
        Place::History(path) if path.is_root() => return Err(invalid("history needs a path")),
        Place::History(path) => format!("kin/history/{}", path.as_str()),
        Place::Restore(number) => format!("kin/restore/{number:016x}"),
    })
}

fn is_root(at: &Place) -> bool {
    matches!(at, Place::Tree(path) if path.is_root())
}

fn find<'a>(top: &'a Entry, path: &str) -> io::Result<&'a Entry> {
    let mut here = top;
    for name in path.split('/') {
        let names = here.names()?;
        if here.stat().mode & 0o100 == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        here = names.get(name).ok_or(io::ErrorKind::NotFound)?;
    }
    Ok(here)
}

fn find_mut<'a>(top: &'a mut Entry, path: &str) -> io::Result<&'a mut Entry> {
    let mut here = top;
    for name in path.split('/') {
        if matches!(&here, Entry::Dir { stat, .. } if stat.mode & 0o100 == 0) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        here = here.names_mut()?.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
    }
    Ok(here)
}

/// The path of the directory that holds `path`, and the last name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The names of the directory that holds `path`, which its owner may change, and the last name.
fn holder<'a, 'b>(
    top: &'a mut Entry,
    path: &'b str,
    now: i64,
) -> io::Result<(&'a mut BTreeMap<Box<str>, Entry>, &'b str)> {
    let (dir, name) = split(path);
    let dir = find_mut(top, dir)?;
    match dir {
        Entry::Dir { stat, names } => {
            if stat.mode & 0o300 != 0o300 {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            (stat.mtime, stat.ctime) = (now, now);
            Ok((Arc::make_mut(names), name))
        }
        other => Err(other.names().err().unwrap_or_else(|| invalid("not a directory"))),
    }
}

impl VirtualDisk {
    /// An empty folder at time 0.
    #[must_use]
    pub fn new() -> Self {
        Self::folding(Fold::None)
    }

    /// An empty folder at time 0 on a disk that takes some names for the same.
    #[must_use]
    pub fn folding(fold: Fold) -> Self {
        let meter = Meter::new();
        let mut top = meter.dir(0o755);
        if let Ok(names) = top.names_mut() {
            names.insert("tree".into(), meter.dir(0o755));
            names.insert("kin".into(), meter.dir(0o700));
        }
        let past = Mutex::new(Vec::new());
        Self { state: Mutex::new(top), meter: Arc::new(meter), past, fold }
    }

    /// Sets the clock, in milliseconds since 1970. It may go backwards.
    pub fn set_now(&self, millis: i64) {
        self.meter.set_now(millis.saturating_mul(NANOS_PER_MILLI));
    }

    /// How many calls of the engine have changed this disk so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.meter.changes()
    }

    /// Has something happen just before the engine's `nth` change from now (0: the next one). It may
    /// edit the disk as a user, or [`Self::cut_power`].
    pub fn before_change(&self, nth: u64, then: impl FnOnce() + Send + 'static) {
        self.meter.set_trap(nth, Box::new(then));
    }

    /// Has something happen just before the engine's `nth` call from now, also one that only looks.
    pub fn before_call(&self, nth: u64, then: impl FnOnce() + Send + 'static) {
        self.meter.add_call_trap(nth, Box::new(then));
    }

    /// Has something happen just before the engine moves, exchanges or sets something in the tree, after so
    /// many such changes more; it is given the path.
    pub(crate) fn before_touch(&self, after: u64, then: impl FnOnce(&str) + Send + 'static) {
        self.meter.add_ambush(after, Box::new(then));
    }

    /// Has one in `one_in` of the calls that it concerns fail, until told otherwise.
    pub(crate) fn fail(&self, failing: Option<(Failing, u64, Rng)>) {
        self.meter.set_failing(failing);
    }

    /// Has one call fail: of those that this failure concerns, the one of this number from now on (0: the next).
    pub fn fail_one(&self, failing: Failing, number: u64) {
        self.meter.set_one_fails(failing, number);
    }

    /// How many calls that failure has concerned since, whether one of them has failed or not.
    #[must_use]
    pub fn concerned(&self) -> u64 {
        self.meter.concerned()
    }

    /// Has every call fail with EIO, or none any more.
    pub fn break_all(&self, broken: bool) {
        self.fail(broken.then(|| (Failing::Broken, 1, Rng::new(0))));
    }

    /// From now on every change that the engine tries fails, and leaves the disk as it is.
    pub fn cut_power(&self) {
        self.meter.set_dead(true);
    }

    /// True after [`Self::cut_power`].
    #[must_use]
    pub fn has_no_power(&self) -> bool {
        self.meter.is_dead()
    }

    /// The machine starts again.
    pub fn restore_power(&self) {
        self.meter.set_dead(false);
        self.meter.clear_traps();
    }

    /// One step that only looks.
    fn look(&self, call: Call) -> io::Result<MutexGuard<'_, Entry>> {
        self.meter.pass(call)?;
        Ok(lock(&self.state))
    }

    /// One step that changes the disk.
    fn change(&self, call: Call) -> io::Result<MutexGuard<'_, Entry>> {
        self.meter.pass(call)?;
        let top = lock(&self.state);
        self.remember(&top);
        Ok(top)
    }

    /// One step that makes something durable.
    fn sync(&self) -> io::Result<MutexGuard<'_, Entry>> {
        self.meter.pass(Call::Sync)?;
        Ok(lock(&self.state))
    }

    /// Makes the parents of a place in `.kin`.
    fn make_parents(&self, top: &mut Entry, at: &Place, path: &str) -> io::Result<()> {
        if !matches!(at, Place::Tree(_)) {
            self.mkdir_all(top, split(path).0)?;
        }
        Ok(())
    }

    fn mkdir_all(&self, top: &mut Entry, path: &str) -> io::Result<()> {
        let mut here = top;
        for name in path.split('/') {
            here = here.names_mut()?.entry(name.into()).or_insert_with(|| self.meter.dir(0o755));
        }
        here.names_mut().map(|_| ())
    }
}

impl Disk for VirtualDisk {
    fn folds_names(&self) -> bool {
        self.fold != Fold::None
    }

    fn stat(&self, at: &Place) -> io::Result<Option<Stat>> {
        let top = self.look(Call::Look)?;
        match find(&top, &self.real(&top, full_path(at)?)) {
            Ok(entry) => Ok(Some(entry.stat())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Below a file there is nothing; below a link there is an error, which has a message.
            Err(error)
                if error.kind() == io::ErrorKind::NotADirectory && error.get_ref().is_none() =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn list_history(&self, dir: &RelPath) -> io::Result<Listing> {
        self.list_at(history_dir(dir))
    }

    fn remove_history_dir(&self, dir: &RelPath) -> io::Result<()> {
        if dir.is_root() {
            return Err(invalid("the history itself"));
        }
        self.remove_empty(history_dir(dir))
    }

    fn list(&self, dir: &RelPath) -> io::Result<Listing> {
        self.list_at(full_path(&Place::Tree(dir.clone()))?)
    }

    fn open(&self, at: &Place) -> io::Result<Box<dyn ReadFile>> {
        let top = self.look(Call::Open)?;
        let Entry::File(file) = find(&top, &self.real(&top, full_path(at)?))? else {
            return Err(invalid("not a regular file"));
        };
        if lock(file).stat.mode & 0o400 == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Box::new(Handle { file: Arc::clone(file), meter: Arc::clone(&self.meter) }))
    }

    fn open_own(&self, at: &Place) -> io::Result<Box<dyn WriteFile>> {
        if matches!(at, Place::Tree(_)) {
            return Err(invalid("only files of ours are written"));
        }
        let path = full_path(at)?;
        let mut top = self.change(Call::Write)?;
        self.make_parents(&mut top, at, &path)?;
        let (names, name) = holder(&mut top, &path, self.meter.now())?;
        let entry = names.entry(name.into()).or_insert_with(|| self.meter.file(b"", 0o600));
        let Entry::File(file) = entry else {
            return Err(invalid("not a regular file"));
        };
        Ok(Box::new(Handle { file: Arc::clone(file), meter: Arc::clone(&self.meter) }))
    }

    fn read_link(&self, at: &Place) -> io::Result<String> {
        let top = self.look(Call::Look)?;
        match find(&top, &self.real(&top, full_path(at)?))? {
            Entry::Symlink { target, .. } => Ok(target.clone()),
            _ => Err(invalid("not a link")),
        }
    }

    fn make_symlink(&self, at: &Place, target: &str, mtime: i64) -> io::Result<()> {
        if matches!(at, Place::Tree(_)) {
            return Err(invalid("links are made in our directory and moved in"));
        }
        let path = full_path(at)?;
        let mut top = self.change(Call::Write)?;
        self.make_parents(&mut top, at, &path)?;
        let (names, name) = holder(&mut top, &path, self.meter.now())?;
        if names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let stat = Stat { mtime, ..self.meter.stat(FileKind::Symlink, 0o777) };
        names.insert(name.into(), Entry::Symlink { stat, target: target.to_owned() });
        Ok(())
    }

    fn make_dir(&self, at: &RelPath, mode: u32) -> io::Result<()> {
        self.make_dir_at(&Place::Tree(at.clone()), mode)
    }

    fn make_own_dir(&self, at: &Place, mode: u32) -> io::Result<()> {
        own::must_be_built(at)?;
        self.make_dir_at(at, mode)
    }

    fn remove_own_dir(&self, at: &Place) -> io::Result<()> {
        own::must_be_built(at)?;
        self.remove_empty(full_path(at)?)
    }

    fn remove_dir(&self, at: &RelPath) -> io::Result<()> {
        if at.is_root() {
            return Err(invalid("the folder itself"));
        }
        self.remove_empty(full_path(&Place::Tree(at.clone()))?)
    }

    fn rename_new(&self, from: &Place, to: &Place) -> io::Result<()> {
        if is_root(from) || is_root(to) {
            return Err(invalid("the folder itself"));
        }
        self.meter.touches(from);
        self.meter.touches(to);
        let mut top = self.change(Call::Change)?;
        let (from, to_path) = (self.real(&top, full_path(from)?), self.real(&top, full_path(to)?));
        if to_path.starts_with(&from) && to_path[from.len()..].starts_with('/') {
            return Err(invalid("a directory cannot be moved into itself"));
        }
        let now = self.meter.now();
        let (names, name) = holder(&mut top, &from, now)?;
        // Looked at before anything is changed; a real disk answers in this order too.
        let missing = !names.contains_key(name);
        self.make_parents(&mut top, to, &to_path)?;
        let (names, name) = holder(&mut top, &to_path, now)?;
        if missing {
            return Err(io::ErrorKind::NotFound.into());
        }
        if names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (names, name) = holder(&mut top, &from, now)?;
        let Some(mut entry) = names.remove(name) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        entry.change_stat(|stat| stat.ctime = now);
        let (names, name) = holder(&mut top, &to_path, now)?;
        names.insert(name.into(), entry);
        Ok(())
    }

    fn exchange(&self, a: &Place, b: &Place) -> io::Result<()> {
        if is_root(a) || is_root(b) {
            return Err(invalid("the folder itself"));
        }
        self.meter.touches(a);
        let mut top = self.change(Call::Change)?;
        let (a, b) = (self.real(&top, full_path(a)?), self.real(&top, full_path(b)?));
        let below = |outer: &str, inner: &str| inner.starts_with(&format!("{outer}/"));
        if below(&a, &b) || below(&b, &a) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let now = self.meter.now();
        for path in [&a, &b] {
            let (names, name) = holder(&mut top, path, now)?;
            if !names.contains_key(name) {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        let take = |top: &mut Entry, path: &str| {
            let (names, name) = holder(top, path, now)?;
            let mut entry = names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            entry.change_stat(|stat| stat.ctime = now);
            io::Result::Ok(entry)
        };
        if a == b {
            return Ok(());
        }
        let (from_a, from_b) = (take(&mut top, &a)?, take(&mut top, &b)?);
        for (path, entry) in [(&a, from_b), (&b, from_a)] {
            let (names, name) = holder(&mut top, path, now)?;
            names.insert(name.into(), entry);
        }
        Ok(())
    }

    fn unlink_own(&self, at: &Place) -> io::Result<()> {
        if matches!(at, Place::Tree(_)) {
            return Err(invalid("a user's file is never unlinked"));
        }
        let path = full_path(at)?;
        let mut top = self.change(Call::Change)?;
        let (names, name) = holder(&mut top, &path, self.meter.now())?;
        match names.get(name) {
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(Entry::Dir { .. }) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(_) => names.remove(name),
        };
        Ok(())
    }

    fn set_meta(&self, at: &RelPath, inode: u64, mode: u32, mtime: Option<i64>) -> io::Result<()> {
        if at.is_root() {
            return Err(invalid("the folder itself"));
        }
        self.meter.touches(&Place::Tree(at.clone()));
        let now = self.meter.now();
        let mut top = self.change(Call::Change)?;
        let path = self.real(&top, full_path(&Place::Tree(at.clone()))?);
        let entry = find_mut(&mut top, &path)?;
        if entry.stat().inode != inode {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (sets_mode, sets_time) = match entry.stat().kind {
            FileKind::File => (true, true),
            FileKind::Dir => (true, false),
            FileKind::Symlink => (false, true),
            FileKind::Special | FileKind::MountPoint => {
                return Err(invalid("neither file, directory nor link"));
            }
        };
        entry.change_stat(|stat| {
            stat.ctime = now;
            if sets_mode {
                stat.mode = mode & 0o777;
            }
            if sets_time && let Some(mtime) = mtime {
                stat.mtime = mtime;
            }
        });
        Ok(())
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        let top = self.sync()?;
        find(&top, &self.real(&top, full_path(&Place::Tree(dir.clone()))?))?.names()?;
        self.names_are_durable();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let top = self.sync()?;
        self.everything_is_durable(&top);
        Ok(())
    }

    fn own_files(&self) -> io::Result<Vec<(Place, Stat)>> {
        self.all_own()
    }

    fn free_space(&self) -> io::Result<u64> {
        Ok(self.meter.space.free())
    }

    fn total_space(&self) -> io::Result<u64> {
        Ok(self.meter.space.capacity())
    }
}
