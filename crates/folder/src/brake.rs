//! The brake on mass deletions (rule E19), the part that only counts: how many files were deleted within
//! a day, and whether that is more than anybody should believe without asking a person. Pure.

/// Deletions are counted over this long, in milliseconds.
const WINDOW_MS: i64 = 24 * 60 * 60 * 1000;
/// Deletions within this long of each other are counted as one entry, in milliseconds.
const GRAIN_MS: i64 = 60 * 1000;
/// Bytes of an entry as the index keeps it.
const PACKED: usize = 16;

/// How many deletions go without a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// So many files always do.
    pub files: u64,
    /// And so many of a hundred: of the files that there were before.
    pub percent: u8,
}

impl Limit {
    /// No question is ever asked.
    pub const OFF: Self = Self { files: u64::MAX, percent: 100 };

    /// True if so many deletions, of so many files, are more than go without a question.
    #[must_use]
    pub fn is_exceeded(self, deletes: u64, of: u64) -> bool {
        let share = u128::from(deletes) * 100 > u128::from(of) * u128::from(self.percent);
        deletes > self.files && share
    }
}

impl Default for Limit {
    /// Half of the files, and nine in any case: few enough to be put back by hand.
    fn default() -> Self {
        Self { files: 9, percent: 50 }
    }
}

/// The deletions of the last 24 hours, as far as nobody has agreed to them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Window {
    /// When, in milliseconds since 1970, and how many.
    entries: Vec<(i64, u64)>,
}

impl Window {
    /// Counts deletions that are made now (milliseconds since 1970).
    pub fn add(&mut self, now: i64, deletes: u64) {
        self.forget(now);
        match self.entries.last_mut() {
            _ if deletes == 0 => {}
            Some((at, counted)) if (now.saturating_sub(GRAIN_MS)..=now).contains(at) => {
                *counted = counted.saturating_add(deletes);
            }
            _ => self.entries.push((now, deletes)),
        }
    }

    /// Deletions that count now.
    #[must_use]
    pub fn count(&self, now: i64) -> u64 {
        let recent = self.entries.iter().filter(|(at, _)| counts(*at, now));
        recent.fold(0, |sum, (_, deletes)| sum.saturating_add(*deletes))
    }

    /// A person has agreed: counting begins anew.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// As the index keeps it.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let entry = |(at, deletes): &(i64, u64)| [at.to_le_bytes(), deletes.to_le_bytes()].concat();
        self.entries.iter().flat_map(entry).collect()
    }

    /// Reads what [`Window::pack`] wrote; a rest that makes no entry is left out.
    #[must_use]
    pub fn unpack(bytes: &[u8]) -> Self {
        let (entries, _) = bytes.as_chunks::<PACKED>();
        let entry = |bytes: &[u8; PACKED]| {
            let [at, deletes] = bytes.as_chunks::<8>().0 else { return None };
            Some((i64::from_le_bytes(*at), u64::from_le_bytes(*deletes)))
        };
        Self { entries: entries.iter().filter_map(entry).collect() }
    }

    /// Drops what does not count any more, so that entries are at most one for each grain.
    fn forget(&mut self, now: i64) {
        self.entries.retain(|(at, _)| counts(*at, now));
        for (at, _) in &mut self.entries {
            // Counted by a clock that was ahead: for a day from now, not until that clock is right.
            *at = (*at).min(now);
        }
    }
}

fn counts(at: i64, now: i64) -> bool {
    now.saturating_sub(at) < WINDOW_MS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn e19_few_files_and_small_shares_go_without_a_question() {
        let limit = Limit::default();
        for (deletes, of) in [(0, 0), (1, 1), (9, 9), (50, 100), (10, 20), (500_000, 1_000_000)] {
            assert!(!limit.is_exceeded(deletes, of), "{deletes} of {of}");
        }
        for (deletes, of) in [(10, 10), (11, 20), (51, 100), (u64::MAX, u64::MAX)] {
            assert!(limit.is_exceeded(deletes, of), "{deletes} of {of}");
        }
        assert!(!Limit::OFF.is_exceeded(u64::MAX, u64::MAX));
        assert!(Limit { files: 100, percent: 0 }.is_exceeded(101, 1_000_000));
        assert!(!Limit { files: 9, percent: 100 }.is_exceeded(1000, 1000));
    }

    #[test]
    fn e19_the_window_slides() {
        let mut window = Window::default();
        window.add(0, 5);
        window.add(GRAIN_MS * 2, 7);
        assert_eq!(window.count(WINDOW_MS - 1), 12);
        assert_eq!(window.count(WINDOW_MS), 7);
        assert_eq!(window.count(WINDOW_MS + GRAIN_MS * 2), 0);
        window.clear();
        assert_eq!(window.count(GRAIN_MS * 2), 0);
    }

    #[test]
    fn e19_a_clock_that_was_set_back_forgets_no_deletion_and_keeps_none_for_ever() {
        let mut window = Window::default();
        window.add(WINDOW_MS * 10, 5);
        assert_eq!(window.count(0), 5);
        window.add(0, 1);
        assert_eq!((window.count(WINDOW_MS - 1), window.count(WINDOW_MS)), (6, 0));
    }

    proptest! {
        #[test]
        fn e19_the_window_counts_what_a_list_of_all_deletions_would(
            steps in proptest::collection::vec((0i64..WINDOW_MS / 4, 0u64..50), 0..60), later in 0i64..WINDOW_MS * 2,
        ) {
            let (mut window, mut all, mut now) = (Window::default(), Vec::new(), 0);
            for (pause, deletes) in steps {
                now += pause;
                window.add(now, deletes);
                all.push((now, deletes));
                window = Window::unpack(&window.pack());
            }
            let sum = |from: i64| all.iter().filter(|(at, _)| *at > from).map(|(_, n)| n).sum::<u64>();
            let (counted, end) = (window.count(now + later), now + later);
            // An entry stands for up to a minute, and counts by when that began.
            prop_assert!(counted <= sum(end - WINDOW_MS));
            prop_assert!(counted >= sum(end - WINDOW_MS + GRAIN_MS));
            prop_assert!(window.entries.len() <= usize::try_from(WINDOW_MS / GRAIN_MS).unwrap() + 1);
        }

        #[test]
        fn e19_more_deletions_never_release_the_brake(
            files in 0u64..100, percent in 0u8..=100, deletes in 0u64..1000, more in 0u64..1000, of in 0u64..2000,
        ) {
            let limit = Limit { files, percent };
            prop_assert!(!limit.is_exceeded(deletes, of) || limit.is_exceeded(deletes + more, of));
            prop_assert!(!limit.is_exceeded(deletes, of) || limit.is_exceeded(deletes, of / 2));
        }

        #[test]
        fn any_bytes_are_a_window(bytes in proptest::collection::vec(any::<u8>(), 0..100), now in any::<i64>()) {
            let mut window = Window::unpack(&bytes);
            window.add(now, 1);
            prop_assert!(window.count(now) > 0);
        }
    }
}
