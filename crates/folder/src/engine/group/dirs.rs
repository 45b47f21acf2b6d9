//! Directories that are to be made wait a moment for what is to lie in them, so that they go to the disk together and
//! are built whole (rule E16).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wire::RelPath;

use crate::engine::AppliedKind;

use super::{Item, Then};

/// A directory waits that long at most, in milliseconds.
const WAIT_MS: u64 = 2_000;

/// Directories that wait.
#[derive(Debug, Default)]
pub(super) struct NewDirs {
    /// Each with what has come of what is to lie in it.
    waiting: BTreeMap<RelPath, (Item, Vec<Item>)>,
    /// Those of them of which something has come.
    begun: BTreeSet<RelPath>,
    /// Until when each of them waits, first to last. Some are on their way by now.
    until: VecDeque<(u64, RelPath)>,
}

impl NewDirs {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the first of them is to be made, whatever comes.
    pub(super) fn next_wake(&self) -> u64 {
        if self.is_empty() {
            u64::MAX
        } else {
            self.until.front().map_or(u64::MAX, |first| first.0)
        }
    }

    pub(super) fn wait(&mut self, item: Item, now: u64) {
        let path = item.change.path.clone();
        self.until.push_back((now + WAIT_MS, path.clone()));
        self.waiting.insert(path, (item, Vec::new()));
    }

    /// Has something new that is to lie in a directory that waits wait with it. Returns what does not.
    pub(super) fn wait_within(&mut self, item: Item) -> Option<Item> {
        let is_new = matches!(&item.then, Then::Placed { kind: AppliedKind::Created, .. });
        let dir = item.change.path.parent().filter(|_| is_new && !self.is_empty());
        let Some((dir, (_, within))) =
            dir.and_then(|dir| Some((dir.clone(), self.waiting.get_mut(&dir)?)))
        else {
            return Some(item);
        };
        within.push(item);
        self.begun.insert(dir);
        None
    }

    /// Takes those of which all has come, or enough.
    pub(super) fn take_complete(
        &mut self,
        is_complete: impl Fn(&RelPath, usize) -> bool,
    ) -> Vec<Item> {
        let complete = |dir: &&RelPath| {
            self.waiting.get(*dir).is_some_and(|(_, within)| is_complete(dir, within.len()))
        };
        let complete: Vec<_> = self.begun.iter().filter(complete).cloned().collect();
        complete.iter().flat_map(|dir| self.take(dir)).collect()
    }

    /// Takes one with those that it lies in, the outermost first, each followed by what has come of it.
    fn take(&mut self, path: &RelPath) -> Vec<Item> {
        let Some((dir, within)) = self.waiting.remove(path) else { return Vec::new() };
        self.begun.remove(path);
        let mut taken = self.take_above(path);
        taken.push(dir);
        taken.extend(within);
        taken
    }

    /// Takes the directories that a path lies in, the outermost first.
    pub(super) fn take_above(&mut self, path: &RelPath) -> Vec<Item> {
        let mut taken = Vec::new();
        let mut above = path.parent().filter(|_| !self.is_empty());
        while let Some(dir) = above {
            taken.extend(self.waiting.remove(&dir));
            self.begun.remove(&dir);
            above = dir.parent();
        }
        taken
            .into_iter()
            .rev()
            .flat_map(|(dir, within)| std::iter::once(dir).chain(within))
            .collect()
    }

    /// Takes those that have waited long enough, or all, each with those that it lies in.
    pub(super) fn take_due(&mut self, now: u64, all: bool) -> Vec<Item> {
        let mut taken = Vec::new();
        while let Some((_, path)) = self.until.pop_front_if(|(until, _)| all || *until <= now) {
            taken.extend(self.take(&path));
        }
        taken
    }
}
