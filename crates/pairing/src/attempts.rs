//! Counting failed attempts.

/// Failed SAS ceremonies, over all sources, after which admission closes (rule T3).
pub const LAN_ATTEMPTS: u32 = 3;
/// Failed passphrase ceremonies, over all sources, after which admission closes (rule T5).
pub const PASSPHRASE_ATTEMPTS: u32 = 10;

/// A counter that closes admission until a person acts.
#[derive(Clone, Debug)]
pub struct Attempts {
    failed: u32,
    limit: u32,
}

impl Attempts {
    /// Closes after `limit` failures.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { failed: 0, limit }
    }

    /// Counts a failure. True if it is the one that closes admission.
    pub fn fail(&mut self) -> bool {
        self.failed = self.failed.saturating_add(1);
        self.failed == self.limit
    }

    /// True once too many failed.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.failed >= self.limit
    }

    /// How many may still fail before admission closes. No more than these may be under way at once:
    /// a guess is made before it is known to be wrong.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.limit.saturating_sub(self.failed)
    }

    /// A person acted: counting starts anew.
    pub fn reopen(&mut self) {
        self.failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t3_three_failures_close_and_a_person_reopens() {
        let mut attempts = Attempts::new(LAN_ATTEMPTS);
        assert_eq!([attempts.fail(), attempts.fail(), attempts.closed()], [false; 3]);
        assert_eq!(attempts.left(), 1);
        assert!(attempts.fail() && attempts.closed());
        assert_eq!(attempts.left(), 0);
        assert!(!attempts.fail() && attempts.closed(), "closing is told once");
        attempts.reopen();
        assert!(!attempts.closed());
    }
}
