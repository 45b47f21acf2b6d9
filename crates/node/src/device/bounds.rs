//! What whoever is at the other end of a link may ask for, and what may wait for it to be read. A guest that a code let
//! in is a member, and still a stranger to this device's person.

use std::time::{Duration, Instant};

/// Questions that a member may ask at once.
const AT_ONCE: u32 = 64;
/// How soon it may ask one more.
const EVERY: Duration = Duration::from_secs(1);
/// Bytes of answers that may wait for one that does not read them.
const MAX_UNREAD: u64 = 1 << 20;
/// With no more than this waiting on its link, it has read what was answered before.
const READ: u64 = 64 << 10;

/// How many questions may still be asked.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, since: now }
    }

    /// Takes one. False if none was left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_secs() / EVERY.as_secs();
        if passed > 0 {
            self.left =
                u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(self.left).min(AT_ONCE);
            self.since = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// What was answered and may not have been read.
#[derive(Default, Debug)]
pub(super) struct Unread(u64);

impl Unread {
    /// Counts another answer, where so much waits on the link. False if it is too much.
    pub(super) fn add(&mut self, bytes: usize, waiting: u64) -> bool {
        if waiting <= READ {
            self.0 = 0;
        }
        self.0 = self.0.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.0 <= MAX_UNREAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_38_questions_are_answered_much_at_once_and_little_for_long() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert!((0..AT_ONCE).all(|_| allowance.take(start)));
        assert!(!allowance.take(start));
        let later = start + EVERY * 3;
        assert_eq!((0..10).filter(|_| allowance.take(later)).count(), 3);
        let much_later = start + EVERY * 100_000;
        assert_eq!((0..1000).filter(|_| allowance.take(much_later)).count(), 64);
    }

    #[test]
    fn attack_38_answers_that_nobody_reads_are_bounded() {
        let mut unread = Unread::default();
        let one = 1 << 10;
        let taken = (0..10_000).take_while(|_| unread.add(one, READ + 1)).count();
        assert_eq!(taken as u64, MAX_UNREAD / 1024);
        // Whoever reads them may have any number.
        let mut unread = Unread::default();
        assert!((0..10_000).all(|_| unread.add(one, READ)));
    }
}
