//! Paths that are to be looked at, each at a time.

use std::collections::BTreeMap;

use wire::RelPath;

/// Paths with the times from which on they are looked at, in milliseconds.
#[derive(Debug)]
pub(super) struct Hinted {
    times: BTreeMap<RelPath, u64>,
    /// No time is earlier: between two of them nobody goes through all, which may be many.
    next: u64,
}

impl Default for Hinted {
    fn default() -> Self {
        Self { times: BTreeMap::new(), next: u64::MAX }
    }
}

impl Hinted {
    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.times.keys()
    }

    /// When one of them may be due.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Has a path looked at from a time on, or when it is to be looked at already.
    pub(super) fn add(&mut self, path: RelPath, time: u64) {
        self.times.entry(path).or_insert(time);
        self.next = self.next.min(time);
    }

    /// Has a path that is to be looked at, if it is, looked at from now on.
    pub(super) fn hasten(&mut self, path: &RelPath, now: u64) {
        if let Some(time) = self.times.get_mut(path) {
            *time = now;
            self.next = self.next.min(now);
        }
    }

    /// Takes paths that are due, so many at most. Those that are busy wait until another time.
    pub(super) fn take_due(
        &mut self,
        now: u64,
        most: usize,
        busy: impl Fn(&RelPath) -> bool,
        later: u64,
    ) -> Vec<RelPath> {
        let mut due = Vec::new();
        if self.next > now {
            return due;
        }
        self.next = u64::MAX;
        for (path, time) in &mut self.times {
            if *time <= now {
                if !busy(path) {
                    due.push(path.clone());
                    if due.len() > most {
                        break;
                    }
                    continue;
                }
                *time = later;
            }
            self.next = self.next.min(*time);
        }
        if due.len() > most {
            due.pop();
            self.next = now;
        }
        for path in &due {
            self.times.remove(path);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> RelPath {
        RelPath::parse(name).expect("a path")
    }

    #[test]
    fn what_is_due_is_taken_and_what_is_busy_waits() {
        let mut hinted = Hinted::default();
        assert_eq!(hinted.next(), u64::MAX);
        for (name, time) in [("a", 5), ("b", 1), ("c", 2), ("d", 9)] {
            hinted.add(path(name), time);
        }
        hinted.add(path("a"), 3);
        assert_eq!(hinted.next(), 1);
        let busy = |it: &RelPath| *it == path("c");
        assert_eq!(hinted.take_due(0, 8, busy, 20), []);
        assert_eq!(hinted.take_due(4, 8, busy, 20), [path("b")]);
        assert_eq!(hinted.next(), 5);
        hinted.hasten(&path("d"), 4);
        hinted.hasten(&path("b"), 4);
        assert_eq!(hinted.next(), 4);
        assert_eq!(hinted.take_due(30, 2, |_| false, 40), [path("a"), path("c")]);
        assert_eq!(hinted.next(), 30);
        assert_eq!(hinted.take_due(30, 2, |_| false, 40), [path("d")]);
        assert!(hinted.is_empty() && hinted.next() == u64::MAX);
    }
}
