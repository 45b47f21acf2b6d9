//! Hints that something in a folder changed. A hint proves nothing: a rescan of the path decides
//! (design.md, section 6), so hints may be late, doubled or about nothing, but a lost one is told as
//! [`Hint::Overflow`].
//!
//! Not for: waiting for quiet (rule E23) or deciding what to rescan; that is crate `folder`'s.
//!
//! Directories are watched one by one as the scan finds them: [`Watcher::watch_dir`] is called for every
//! directory *before* it is listed, so that no change falls between the two, and again whenever it is
//! listed again, which costs nothing while it is watched. `.kin` never is (rule E16).

mod hints;

pub use hints::Hint;

use std::{
    collections::BTreeSet,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use wire::{RelPath, path::STATE_DIR};

use hints::Hints;

/// FSEvents watches a whole tree by nature, and restarts its stream for every directory added.
const WATCHES_WHOLE_TREE: bool = cfg!(target_os = "macos");

/// Why something is not watched. Changes there are found by the next full rescan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The system's limit of watched directories is reached; more cannot be watched by this user.
    #[error(
        "the system's limit of watched directories is reached; changes are found by rescans only. \
         Raise it with `sysctl fs.inotify.max_user_watches=1048576`"
    )]
    TooManyWatches,
    /// The system's limit of watchers (or open files) is reached.
    #[error(
        "the system's limit of watchers is reached; changes are found by rescans only. Raise it with \
         `sysctl fs.inotify.max_user_instances=1024`, or close programs that watch files"
    )]
    TooManyWatchers,
    /// The directory is gone, which is no fault.
    #[error("{0:?} is not there to be watched")]
    Vanished(RelPath),
    /// Anything else.
    #[error("cannot watch {path:?}: {message}")]
    Other {
        /// Which directory; the root is empty.
        path: RelPath,
        /// What the system said.
        message: String,
    },
}

/// Watches a folder's directories until it is dropped.
pub struct Watcher {
    top: PathBuf,
    shared: Arc<Shared>,
    backend: Mutex<RecommendedWatcher>,
}

/// What the backend's thread and ours share. Both hold these locks for a moment only, and never while
/// they wait for each other.
struct Shared {
    hints: Mutex<Hints>,
    watched: Mutex<BTreeSet<RelPath>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    /// Starts watching the folder at `top` ([`crate::Root::path`]). No directory is watched yet.
    ///
    /// `wake` is called, on a thread of the watcher's, when there are hints and there were none; it must
    /// not block. [`Watcher::take`] then gives them.
    ///
    /// # Errors
    /// `TooManyWatchers` or what the system says: the caller goes on with rescans.
    pub fn start(top: &Path, wake: impl Fn() + Send + Sync + 'static) -> Result<Self, WatchError> {
        let shared = Arc::new(Shared {
            hints: Mutex::new(Hints::default()),
            watched: Mutex::new(BTreeSet::new()),
            wake: Box::new(wake),
        });
        let heard = Arc::clone(&shared);
        let prefix = top.to_owned();
        let handler = move |event: notify::Result<Event>| heard.hear(&prefix, event);
        let backend = RecommendedWatcher::new(handler, Config::default())
            .map_err(|error| typed(&error, &RelPath::root()))?;
        Ok(Self { top: top.to_owned(), shared, backend: Mutex::new(backend) })
    }

    /// Watches one directory, not those below it. Does nothing if it is watched already, or is `.kin`.
    ///
    /// # Errors
    /// The directory is not watched then; hints about the others still come.
    pub fn watch_dir(&self, dir: &RelPath) -> Result<(), WatchError> {
        if dir.split('/').next() == Some(STATE_DIR) {
            return Ok(());
        }
        let dir = if WATCHES_WHOLE_TREE { RelPath::root() } else { dir.clone() };
        // Entered first and left on failure: an event about it may come before `watch` returns.
        if !lock(&self.shared.watched).insert(dir.clone()) {
            return Ok(());
        }
        let mode =
            if WATCHES_WHOLE_TREE { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        let path = if dir.is_root() { self.top.clone() } else { self.top.join(dir.as_str()) };
        // Waits for the backend's thread, so no lock that it takes may be held here.
        let result = lock(&self.backend).watch(&path, mode);
        result.map_err(|error| {
            lock(&self.shared.watched).remove(&dir);
            typed(&error, &dir)
        })
    }

    /// The hints so far, each path once, in the order they first came. Empty if there are none.
    #[must_use]
    pub fn take(&self) -> Vec<Hint> {
        lock(&self.shared.hints).take()
    }

    /// How many directories are watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        lock(&self.shared.watched).len()
    }
}

impl Shared {
    /// Takes one event from the backend's thread; never blocks.
    fn hear(&self, top: &Path, event: notify::Result<Event>) {
        let first = match event {
            // Most events by far are these: version 8 of the backend asks for OPEN and cannot be told
            // not to. Reading is not changing (rule E23).
            Ok(Event { kind: EventKind::Access(kind), .. })
                if kind != AccessKind::Close(AccessMode::Write) =>
            {
                return;
            }
            // Follows the two halves that name the same paths.
            Ok(Event { kind: EventKind::Modify(ModifyKind::Name(RenameMode::Both)), .. }) => return,
            Ok(event) if event.need_rescan() => self.lost_events(),
            Ok(event) => {
                let mut any = false;
                for path in &event.paths {
                    any |= self.hear_path(top, path, event.kind);
                }
                any
            }
            Err(error) => {
                tracing::warn!(%error, "the watcher lost events");
                self.lost_events()
            }
        };
        if first {
            (self.wake)();
        }
    }

    /// True if this made the first hint since the last [`Watcher::take`].
    fn hear_path(&self, top: &Path, path: &Path, kind: EventKind) -> bool {
        let left = matches!(
            kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        );
        let Ok(path) = path.strip_prefix(top) else {
            return lock(&self.hints).overflow();
        };
        let Some(path) = hinted(path) else {
            return false;
        };
        if left && (path.is_root() || path.as_str() == STATE_DIR) {
            return lock(&self.hints).root_gone();
        }
        if path.split('/').next() == Some(STATE_DIR) {
            return false;
        }
        if left {
            self.forget(&path);
        }
        lock(&self.hints).changed(path)
    }

    /// Directories may have gone and come back unheard: the rescan that follows asks for every watch
    /// again.
    fn lost_events(&self) -> bool {
        lock(&self.watched).clear();
        lock(&self.hints).overflow()
    }

    /// The backend drops the watches of a directory that left, and of all below; so the next
    /// [`Watcher::watch_dir`] of that name must ask again.
    fn forget(&self, dir: &RelPath) {
        let mut watched = lock(&self.watched);
        watched.remove(dir);
        let from = format!("{}/", dir.as_str());
        let below: Vec<_> = watched
            .range::<str, _>((Bound::Included(from.as_str()), Bound::Unbounded))
            .take_while(|path| path.starts_with(&from))
            .cloned()
            .collect();
        for path in below {
            watched.remove(&path);
        }
    }
}

/// The path a hint is about: of a name that cannot travel, the directory that holds it.
fn hinted(path: &Path) -> Option<RelPath> {
    let mut dir = RelPath::root();
    for name in path {
        match name.to_str().map(|name| dir.join(name)) {
            Some(Ok(next)) => dir = next,
            Some(Err(_)) | None => break,
        }
    }
    // `..` and the like cannot come from a backend that was given our own paths.
    path.is_relative().then_some(dir)
}

fn typed(error: &notify::Error, dir: &RelPath) -> WatchError {
    let io_kind = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => return WatchError::TooManyWatches,
        notify::ErrorKind::PathNotFound => return WatchError::Vanished(dir.clone()),
        notify::ErrorKind::Io(source) => source.kind(),
        _ => io::ErrorKind::Other,
    };
    if io_kind == io::ErrorKind::NotFound {
        return WatchError::Vanished(dir.clone());
    }
    if let notify::ErrorKind::Io(source) = &error.kind
        && is_too_many(source)
    {
        return WatchError::TooManyWatchers;
    }
    WatchError::Other { path: dir.clone(), message: error.to_string() }
}

/// EMFILE: what `inotify_init` says at its limit of instances.
fn is_too_many(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared { hints: Mutex::default(), watched: Mutex::default(), wake: Box::new(|| {}) }
    }

    fn rel(path: &str) -> RelPath {
        RelPath::parse(path).expect("a valid path")
    }

    fn hear(shared: &Shared, kind: EventKind, path: &str) {
        let event = Event::new(kind).add_path(Path::new("/top").join(path));
        shared.hear(Path::new("/top"), Ok(event));
    }

    #[test]
    fn e23_reading_is_not_changing() {
        let shared = shared();
        for kind in [
            AccessKind::Any,
            AccessKind::Read,
            AccessKind::Open(AccessMode::Any),
            AccessKind::Close(AccessMode::Read),
        ] {
            hear(&shared, EventKind::Access(kind), "f");
        }
        assert_eq!(lock(&shared.hints).take(), []);
        hear(&shared, EventKind::Access(AccessKind::Close(AccessMode::Write)), "f");
        assert_eq!(lock(&shared.hints).take(), [Hint::Changed(rel("f"))]);
    }

    #[test]
    fn e16_nothing_in_kin_is_a_hint_but_its_loss_is() {
        let shared = shared();
        hear(&shared, EventKind::Any, ".kin/index.db");
        hear(&shared, EventKind::Any, ".kin");
        assert_eq!(lock(&shared.hints).take(), []);
        hear(&shared, EventKind::Any, "sub/.kin/x");
        assert_eq!(lock(&shared.hints).take(), [Hint::Changed(rel("sub/.kin/x"))]);
        for gone in [".kin", ""] {
            hear(&shared, EventKind::Remove(notify::event::RemoveKind::Any), gone);
            assert_eq!(lock(&shared.hints).take(), [Hint::RootGone]);
        }
    }

    #[test]
    fn a_directory_that_left_is_watched_again_when_it_comes_back() {
        let shared = shared();
        lock(&shared.watched).extend(["a", "a/b", "a/b/c", "a-b", "ab"].map(rel));
        hear(&shared, EventKind::Modify(ModifyKind::Name(RenameMode::From)), "a");
        let left: Vec<_> = lock(&shared.watched).iter().cloned().collect();
        assert_eq!(left, ["a-b", "ab"].map(rel));
    }

    #[test]
    fn lost_events_and_foreign_paths_are_an_overflow() {
        let shared = shared();
        lock(&shared.watched).insert(rel("d"));
        hear(&shared, EventKind::Any, "f");
        shared.hear(Path::new("/top"), Err(notify::Error::generic("lost")));
        assert_eq!(lock(&shared.hints).take(), [Hint::Overflow]);
        assert!(lock(&shared.watched).is_empty(), "the rescan must ask for every watch again");
        let rescan = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        shared.hear(Path::new("/top"), Ok(rescan));
        assert_eq!(lock(&shared.hints).take(), [Hint::Overflow]);
        let foreign = Event::new(EventKind::Any).add_path("/elsewhere".into());
        shared.hear(Path::new("/top"), Ok(foreign));
        assert_eq!(lock(&shared.hints).take(), [Hint::Overflow]);
    }

    #[test]
    fn limits_are_told_with_their_remedy() {
        let limit = typed(&notify::Error::new(notify::ErrorKind::MaxFilesWatch), &rel("d"));
        assert!(limit.to_string().contains("max_user_watches"), "{limit}");
        let files = notify::Error::io(rustix::io::Errno::MFILE.into());
        let limit = typed(&files, &rel("d"));
        assert!(limit.to_string().contains("max_user_instances"), "{limit}");
        let gone = typed(&notify::Error::path_not_found(), &rel("d"));
        assert!(matches!(gone, WatchError::Vanished(_)));
    }

    #[test]
    fn a_name_that_cannot_travel_is_a_hint_about_its_directory() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let path = Path::new("d").join(OsStr::from_bytes(b"\xff")).join("x");
        assert_eq!(hinted(&path), Some(rel("d")));
    }
}
