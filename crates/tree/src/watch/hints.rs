//! The bounded store between the watcher's thread and the engine.

use std::collections::HashSet;

use wire::RelPath;

/// Most paths that wait; past that a rescan is cheaper than looking at each.
const MAX_WAITING: usize = 16 * 1024;

/// Something may have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hint {
    /// This path, or something directly in it, may have changed. The root is the empty path.
    Changed(RelPath),
    /// Hints were lost: rescan everything, once it is quiet.
    Overflow,
    /// The folder or its `.kin` may be gone: ask [`crate::Root::still_there`] before anything else.
    RootGone,
}

/// Hints that wait, each path once.
#[derive(Default)]
pub(super) struct Hints {
    order: Vec<RelPath>,
    waiting: HashSet<RelPath>,
    overflow: bool,
    root_gone: bool,
}

impl Hints {
    fn is_empty(&self) -> bool {
        self.order.is_empty() && !self.overflow && !self.root_gone
    }

    /// Adds a path; true if nothing waited before.
    pub(super) fn changed(&mut self, path: RelPath) -> bool {
        let first = self.is_empty();
        if self.overflow || self.waiting.contains(&path) {
            return first;
        }
        if self.order.len() == MAX_WAITING {
            return self.overflow();
        }
        self.waiting.insert(path.clone());
        self.order.push(path);
        first
    }

    /// Replaces all paths by a rescan; true if nothing waited before.
    pub(super) fn overflow(&mut self) -> bool {
        let first = self.is_empty();
        self.order = Vec::new();
        self.waiting = HashSet::new();
        self.overflow = true;
        first
    }

    /// Notes that the folder may be gone; true if nothing waited before.
    pub(super) fn root_gone(&mut self) -> bool {
        let first = self.is_empty();
        self.root_gone = true;
        first
    }

    /// Everything that waits, the gravest first.
    pub(super) fn take(&mut self) -> Vec<Hint> {
        let waiting = std::mem::take(self);
        let grave = waiting.root_gone.then_some(Hint::RootGone);
        let overflow = waiting.overflow.then_some(Hint::Overflow);
        let paths = waiting.order.into_iter().map(Hint::Changed);
        grave.into_iter().chain(overflow).chain(paths).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> RelPath {
        RelPath::parse(&format!("f{number}")).expect("a valid path")
    }

    #[test]
    fn each_path_waits_once_and_only_the_first_hint_wakes() {
        let mut hints = Hints::default();
        assert!(hints.changed(path(2)));
        assert!(!hints.changed(path(1)));
        assert!(!hints.changed(path(2)));
        assert_eq!(hints.take(), [2, 1].map(|n| Hint::Changed(path(n))));
        assert_eq!(hints.take(), []);
        assert!(hints.changed(path(1)));
    }

    #[test]
    fn too_many_paths_become_one_overflow() {
        let mut hints = Hints::default();
        for number in 0..=MAX_WAITING {
            hints.changed(path(number));
        }
        assert!(!hints.changed(path(0)));
        assert!(!hints.root_gone());
        assert_eq!(hints.take(), [Hint::RootGone, Hint::Overflow]);
    }
}
