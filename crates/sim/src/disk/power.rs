//! What a loss of power takes from a virtual disk: changes of names and directories are lost from some
//! moment on, back to the last sync of any directory (as on a journalling file system); of contents that
//! were not synced, anything may be there. What the user did is durable, and what came before it too.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, atomic::Ordering},
};

use super::{Entry, Meter, Space, Used, VirtualDisk, lock};
use crate::rng::Rng;

impl VirtualDisk {
    /// From now on, what the engine does not sync does not outlive [`Self::lose_unsynced`].
    pub fn forget_unsynced(&self) {
        self.meter.volatile.store(true, Ordering::Relaxed);
    }

    /// What the disk is like when the power is back.
    pub(crate) fn lose_unsynced(&self, rng: &mut Rng) {
        let mut top = lock(&self.state);
        let mut past = std::mem::take(&mut *lock(&self.past));
        if !past.is_empty() {
            let at = rng.below(past.len() as u64 + 1);
            let at = usize::try_from(at).unwrap_or(0);
            if at < past.len() {
                *top = past.swap_remove(at);
            }
        }
        drop(past);
        tear(&top, rng);
    }

    /// Contents that are here whatever a loss of power takes.
    pub(crate) fn lasting_contents(&self) -> HashSet<Arc<Vec<u8>>> {
        let mut lasting = HashSet::new();
        contents_of(&lock(&self.state), &mut lasting);
        for past in lock(&self.past).iter() {
            let mut before = HashSet::new();
            contents_of(past, &mut before);
            lasting.retain(|content| before.contains(content));
        }
        lasting
    }

    /// A copy of everything, as a snapshot of the machine has it.
    pub(crate) fn snapshot_of_machine(&self) -> MachineCopy {
        // It lies elsewhere, and takes no space here.
        MachineCopy(copy(&lock(&self.state), &Arc::default()))
    }

    /// Sets everything back.
    pub(crate) fn roll_back(&self, to: &MachineCopy) {
        lock(&self.past).clear();
        *lock(&self.state) = copy(&to.0, &self.meter.space);
    }

    /// Everything done so far is durable, but for contents.
    pub(super) fn names_are_durable(&self) {
        if self.meter.is_volatile() {
            lock(&self.past).clear();
        }
    }

    pub(super) fn everything_is_durable(&self, top: &Entry) {
        if self.meter.is_volatile() {
            lock(&self.past).clear();
            settle(top);
        }
    }

    /// Remembers the disk as it is before a change.
    pub(super) fn remember(&self, top: &Entry) {
        if self.meter.is_volatile() {
            lock(&self.past).push(top.clone());
        }
    }
}

/// A disk as it was once.
#[derive(Debug)]
pub(crate) struct MachineCopy(Entry);

fn copy(entry: &Entry, space: &Arc<Space>) -> Entry {
    match entry {
        Entry::Dir { stat, names } => {
            let names = names.iter().map(|(name, entry)| (name.clone(), copy(entry, space)));
            Entry::Dir { stat: *stat, names: Arc::new(names.collect()) }
        }
        Entry::File(file) => {
            let file = lock(file);
            let contents = Arc::clone(&file.contents);
            let used = Used::new(space, file.stat.size);
            let node = super::FileNode { contents, stat: file.stat, durable: None, used };
            Entry::File(Arc::new(Mutex::new(node)))
        }
        other => other.clone(),
    }
}

fn contents_of(entry: &Entry, found: &mut HashSet<Arc<Vec<u8>>>) {
    match entry {
        Entry::Dir { names, .. } => names.values().for_each(|entry| contents_of(entry, found)),
        Entry::File(file) => {
            let file = lock(file);
            if file.durable.is_none() {
                found.insert(Arc::clone(&file.contents));
            }
        }
        Entry::Symlink { .. } | Entry::Other(_) => {}
    }
}

fn settle(entry: &Entry) {
    match entry {
        Entry::Dir { names, .. } => names.values().for_each(settle),
        Entry::File(file) => lock(file).durable = None,
        Entry::Symlink { .. } | Entry::Other(_) => {}
    }
}

fn tear(entry: &Entry, rng: &mut Rng) {
    match entry {
        Entry::Dir { names, .. } => names.values().for_each(|entry| tear(entry, rng)),
        Entry::File(file) => {
            let mut file = lock(file);
            let Some(before) = file.durable.take() else { return };
            match rng.below(4) {
                0 => {}
                1 => file.contents = before,
                2 => file.contents = Arc::new(vec![0; file.contents.len()]),
                _ => {
                    let half = file.contents.len() / 2;
                    Arc::make_mut(&mut file.contents).truncate(half);
                }
            }
            let size = file.contents.len() as u64;
            file.stat.size = size;
            file.used.set(size);
        }
        Entry::Symlink { .. } | Entry::Other(_) => {}
    }
}

/// Before contents are written that are not durable yet.
pub(super) fn before_write(meter: &Meter, file: &mut super::FileNode) {
    if meter.is_volatile() && file.durable.is_none() {
        file.durable = Some(Arc::clone(&file.contents));
    }
}

/// The engine has synced a file's contents.
pub(super) fn synced(file: &mut super::FileNode) -> io::Result<()> {
    file.durable = None;
    Ok(())
}
