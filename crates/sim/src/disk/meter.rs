//! What all calls on a virtual disk pass through: time, inode numbers, the number of the call, and what is
//! to happen just before it.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use tree::{FileKind, Stat};

use super::{Entry, FileNode, Space, Used, lock};
use crate::rng::Rng;

/// What a call wants of the disk, as far as errors differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    /// Looks: `stat`, `read`.
    Look,
    /// Needs a free file descriptor.
    Open,
    /// Needs space.
    Write,
    /// Changes a name or metadata.
    Change,
    /// Makes something durable.
    Sync,
}

/// How a disk fails for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failing {
    /// ENOSPC: no space left.
    Full,
    /// EIO: reading and writing fail.
    Broken,
    /// EMFILE: too many open files.
    NoHandles,
    /// EROFS: mounted read-only.
    ReadOnly,
}

impl Failing {
    /// The error's number, on Linux and macOS alike.
    fn errno(self) -> i32 {
        match self {
            Self::Full => 28,
            Self::Broken => 5,
            Self::NoHandles => 24,
            Self::ReadOnly => 30,
        }
    }

    fn meets(self, call: Call) -> bool {
        match self {
            Self::Full => call == Call::Write,
            Self::Broken => true,
            Self::NoHandles => call == Call::Open,
            Self::ReadOnly => matches!(call, Call::Write | Call::Change),
        }
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "ENOSPC",
            Self::Broken => "EIO",
            Self::NoHandles => "EMFILE",
            Self::ReadOnly => "EROFS",
        })
    }
}

/// Time, inode numbers and steps, shared with open handles.
#[derive(Debug)]
pub(super) struct Meter {
    /// Nanoseconds since 1970.
    now: AtomicI64,
    next_inode: AtomicU64,
    changes: AtomicU64,
    calls: AtomicU64,
    /// What happens before a change to come.
    trap: Mutex<Option<Trap>>,
    /// What happens before calls to come, of any kind.
    call_traps: Mutex<Vec<Trap>>,
    has_call_traps: AtomicBool,
    /// What happens before something in the tree is changed, given its path.
    ambushes: Mutex<Vec<Ambush>>,
    has_ambushes: AtomicBool,
    /// True once the machine has lost its power: nothing is changed any more.
    dead: AtomicBool,
    is_failing: AtomicBool,
    failing: Mutex<Option<(Failing, u64, Rng)>>,
    one_fails: Mutex<Option<OneFails>>,
    /// True if what is not synced does not outlive a loss of power.
    pub(super) volatile: AtomicBool,
    /// How much the disk holds, whether it fails or not.
    pub(super) space: Arc<Space>,
}

/// One call fails: of those that it concerns, that of this number.
#[derive(Debug)]
struct OneFails {
    failing: Failing,
    number: u64,
    passed: u64,
}

/// What happens before the change or call of this number.
struct Trap {
    at: u64,
    then: Box<dyn FnOnce() + Send>,
}

/// What happens before a change in the tree, once so many more have passed.
struct Ambush {
    after: u64,
    then: Box<dyn FnOnce(&str) + Send>,
}

impl fmt::Debug for Ambush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambush").field("after", &self.after).finish_non_exhaustive()
    }
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trap").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            now: AtomicI64::new(0),
            next_inode: AtomicU64::new(1),
            changes: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            trap: Mutex::new(None),
            call_traps: Mutex::new(Vec::new()),
            has_call_traps: AtomicBool::new(false),
            ambushes: Mutex::new(Vec::new()),
            has_ambushes: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            failing: Mutex::new(None),
            one_fails: Mutex::new(None),
            volatile: AtomicBool::new(false),
            space: Arc::default(),
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(super) fn set_now(&self, nanos: i64) {
        self.now.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub(super) fn is_volatile(&self) -> bool {
        self.volatile.load(Ordering::Relaxed)
    }

    pub(super) fn stat(&self, kind: FileKind, mode: u32) -> Stat {
        let inode = self.next_inode.fetch_add(1, Ordering::Relaxed);
        Stat { kind, size: 0, mtime: self.now(), ctime: self.now(), inode, mode }
    }

    pub(super) fn dir(&self, mode: u32) -> Entry {
        Entry::Dir { stat: self.stat(FileKind::Dir, mode), names: Arc::default() }
    }

    pub(super) fn file(&self, contents: &[u8], mode: u32) -> Entry {
        let mut stat = self.stat(FileKind::File, mode);
        stat.size = contents.len() as u64;
        let used = Used::new(&self.space, stat.size);
        let contents = Arc::new(contents.to_vec());
        Entry::File(Arc::new(Mutex::new(FileNode { contents, stat, durable: None, used })))
    }

    pub(super) fn set_trap(&self, nth: u64, then: Box<dyn FnOnce() + Send>) {
        *lock(&self.trap) = Some(Trap { at: self.changes() + nth, then });
    }

    pub(super) fn add_call_trap(&self, nth: u64, then: Box<dyn FnOnce() + Send>) {
        let at = self.calls.load(Ordering::Relaxed) + nth;
        lock(&self.call_traps).push(Trap { at, then });
        self.has_call_traps.store(true, Ordering::Relaxed);
    }

    pub(super) fn add_ambush(&self, after: u64, then: Box<dyn FnOnce(&str) + Send>) {
        lock(&self.ambushes).push(Ambush { after, then });
        self.has_ambushes.store(true, Ordering::Relaxed);
    }

    /// Something in the tree is about to be changed.
    pub(super) fn touches(&self, at: &tree::Place) {
        let tree::Place::Tree(path) = at else { return };
        if !self.has_ambushes.load(Ordering::Relaxed) {
            return;
        }
        let due: Vec<_> = {
            let mut ambushes = lock(&self.ambushes);
            let due = ambushes.extract_if(.., |ambush| ambush.after == 0).collect();
            ambushes.iter_mut().for_each(|ambush| ambush.after -= 1);
            self.has_ambushes.store(!ambushes.is_empty(), Ordering::Relaxed);
            due
        };
        for ambush in due {
            (ambush.then)(path.as_str());
        }
    }

    pub(super) fn clear_traps(&self) {
        lock(&self.ambushes).clear();
        self.has_ambushes.store(false, Ordering::Relaxed);
        *lock(&self.trap) = None;
        lock(&self.call_traps).clear();
        self.has_call_traps.store(false, Ordering::Relaxed);
    }

    pub(super) fn set_dead(&self, dead: bool) {
        self.dead.store(dead, Ordering::Relaxed);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(super) fn set_failing(&self, failing: Option<(Failing, u64, Rng)>) {
        self.is_failing.store(failing.is_some(), Ordering::Relaxed);
        *lock(&self.failing) = failing;
    }

    pub(super) fn set_one_fails(&self, failing: Failing, number: u64) {
        *lock(&self.one_fails) = Some(OneFails { failing, number, passed: 0 });
    }

    /// How many calls the failure could concern since it was set.
    pub(super) fn concerned(&self) -> u64 {
        lock(&self.one_fails).as_ref().map_or(0, |one| one.passed)
    }

    /// Counts a call that is about to be made, lets happen what was to happen just before it, and has it
    /// fail if the disk does.
    pub(super) fn pass(&self, call: Call) -> io::Result<()> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.has_call_traps.load(Ordering::Relaxed) {
            self.spring(number);
        }
        if matches!(call, Call::Write | Call::Change | Call::Sync) {
            let number = self.changes.fetch_add(1, Ordering::Relaxed);
            let trap = lock(&self.trap).take_if(|trap| trap.at <= number);
            if let Some(trap) = trap {
                (trap.then)();
            }
            if self.is_dead() {
                return Err(io::Error::other("the machine has no power"));
            }
        }
        if let Some(one) = lock(&self.one_fails).as_mut().filter(|one| one.failing.meets(call)) {
            let number = one.passed;
            one.passed += 1;
            if number == one.number {
                return Err(io::Error::from_raw_os_error(one.failing.errno()));
            }
        }
        if self.is_failing.load(Ordering::Relaxed)
            && let Some((failing, one_in, rng)) = &mut *lock(&self.failing)
            && failing.meets(call)
            && rng.one_in(*one_in)
        {
            return Err(io::Error::from_raw_os_error(failing.errno()));
        }
        Ok(())
    }

    fn spring(&self, number: u64) {
        let due: Vec<_> = {
            let mut traps = lock(&self.call_traps);
            let due = traps.extract_if(.., |trap| trap.at <= number).collect();
            self.has_call_traps.store(!traps.is_empty(), Ordering::Relaxed);
            due
        };
        for trap in due {
            (trap.then)();
        }
    }
}
