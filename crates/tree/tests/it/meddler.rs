//! A disk that lets something happen between two calls of an operation.

use std::{cell::RefCell, io, sync::Mutex};

use tree::{Disk, Listing, Place, ReadFile, Stat, WriteFile};
use wire::RelPath;

/// When it happens, relative to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    Before,
    After,
}

type Deed<'a> = Box<dyn FnOnce() -> io::Result<()> + Send + 'a>;

struct Plan<'a> {
    when: When,
    call: &'static str,
    /// How many such calls pass first.
    skip: usize,
    deed: Deed<'a>,
}

/// Passes every call on to `disk`, doing what was planned around the named ones. A deed that returns
/// an error makes the call return it, undone.
pub(crate) struct Meddler<'a> {
    disk: &'a dyn Disk,
    plans: Mutex<Vec<Plan<'a>>>,
}

impl<'a> Meddler<'a> {
    pub(crate) fn new(disk: &'a dyn Disk) -> Self {
        Self { disk, plans: Mutex::new(Vec::new()) }
    }

    pub(crate) fn on(
        self,
        when: When,
        call: &'static str,
        skip: usize,
        deed: impl FnOnce() + Send + 'a,
    ) -> Self {
        self.plan(when, call, skip, || {
            deed();
            Ok(())
        })
    }

    pub(crate) fn fail(self, call: &'static str, skip: usize, error: i32) -> Self {
        self.plan(When::Before, call, skip, move || Err(io::Error::from_raw_os_error(error)))
    }

    fn plan(
        self,
        when: When,
        call: &'static str,
        skip: usize,
        deed: impl FnOnce() -> io::Result<()> + Send + 'a,
    ) -> Self {
        let plan = Plan { when, call, skip, deed: Box::new(deed) };
        self.plans.lock().expect("no panic while held").push(plan);
        self
    }

    /// All that was planned has happened: a race that did not take place proves nothing.
    pub(crate) fn assert_done(&self) {
        assert!(self.plans.lock().expect("no panic while held").is_empty(), "a plan is left");
    }

    fn around(&self, when: When, call: &str) -> io::Result<()> {
        let due = RefCell::new(Vec::new());
        let mut plans = self.plans.lock().expect("no panic while held");
        let mut kept = Vec::new();
        for mut plan in plans.drain(..) {
            if plan.when != when || plan.call != call {
                kept.push(plan);
            } else if plan.skip > 0 {
                plan.skip -= 1;
                kept.push(plan);
            } else {
                due.borrow_mut().push(plan.deed);
            }
        }
        *plans = kept;
        drop(plans);
        due.into_inner().into_iter().try_for_each(|deed| deed())
    }

    fn call<T>(
        &self,
        name: &str,
        call: impl FnOnce(&'a (dyn Disk + 'a)) -> io::Result<T>,
    ) -> io::Result<T> {
        self.around(When::Before, name)?;
        let result = call(self.disk);
        self.around(When::After, name)?;
        result
    }
}

impl<'a> Disk for Meddler<'a> {
    fn stat(&self, at: &Place) -> io::Result<Option<Stat>> {
        self.call("stat", |disk| disk.stat(at))
    }
    fn list(&self, dir: &RelPath) -> io::Result<Listing> {
        self.call("list", |disk| disk.list(dir))
    }
    fn open(&self, at: &Place) -> io::Result<Box<dyn ReadFile>> {
        self.call("open", |disk| disk.open(at))
    }
    fn open_own(&self, at: &Place) -> io::Result<Box<dyn WriteFile>> {
        self.call("open_own", |disk| disk.open_own(at))
    }
    fn read_link(&self, at: &Place) -> io::Result<String> {
        self.call("read_link", |disk| disk.read_link(at))
    }
    fn make_symlink(&self, at: &Place, target: &str, mtime: i64) -> io::Result<()> {
        self.call("make_symlink", |disk| disk.make_symlink(at, target, mtime))
    }
    fn make_dir(&self, at: &RelPath, mode: u32) -> io::Result<()> {
        self.call("make_dir", |disk| disk.make_dir(at, mode))
    }
    fn make_own_dir(&self, at: &Place, mode: u32) -> io::Result<()> {
        self.call("make_own_dir", |disk| disk.make_own_dir(at, mode))
    }
    fn remove_own_dir(&self, at: &Place) -> io::Result<()> {
        self.call("remove_own_dir", |disk| disk.remove_own_dir(at))
    }
    fn hands_down(&self, dir: &RelPath) -> io::Result<bool> {
        self.call("hands_down", |disk| disk.hands_down(dir))
    }
    fn remove_dir(&self, at: &RelPath) -> io::Result<()> {
        self.call("remove_dir", |disk| disk.remove_dir(at))
    }
    fn rename_new(&self, from: &Place, to: &Place) -> io::Result<()> {
        self.call("rename_new", |disk| disk.rename_new(from, to))
    }
    fn exchange(&self, a: &Place, b: &Place) -> io::Result<()> {
        self.call("exchange", |disk| disk.exchange(a, b))
    }
    fn unlink_own(&self, at: &Place) -> io::Result<()> {
        self.call("unlink_own", |disk| disk.unlink_own(at))
    }
    fn set_meta(&self, at: &RelPath, inode: u64, mode: u32, mtime: Option<i64>) -> io::Result<()> {
        self.call("set_meta", |disk| disk.set_meta(at, inode, mode, mtime))
    }
    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        self.call("sync_dir", |disk| disk.sync_dir(dir))
    }
    fn sync_all(&self) -> io::Result<()> {
        self.call("sync_all", <dyn Disk + 'a>::sync_all)
    }
    fn list_history(&self, dir: &RelPath) -> io::Result<Listing> {
        self.call("list_history", |disk| disk.list_history(dir))
    }
    fn remove_history_dir(&self, dir: &RelPath) -> io::Result<()> {
        self.call("remove_history_dir", |disk| disk.remove_history_dir(dir))
    }
    fn own_files(&self) -> io::Result<Vec<(Place, Stat)>> {
        self.call("own_files", <dyn Disk + 'a>::own_files)
    }
    fn free_space(&self) -> io::Result<u64> {
        self.call("free_space", <dyn Disk + 'a>::free_space)
    }
    fn total_space(&self) -> io::Result<u64> {
        self.call("total_space", <dyn Disk + 'a>::total_space)
    }
}
