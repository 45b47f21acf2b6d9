//! Both sides have opened a sync with each other at once.
//!
//! Connecto has no rule for it: a side that has sent its `SyncHello` answers none until it has its own
//! answer, so two of them wait for each other. Here the exchange counts whose initiator drew the higher
//! number; of equal numbers, the one whose key's text is greater. Both sides of two that know the rule come
//! to the same. A side that does not know it may be unable to answer ours: so if ours counts and no answer
//! comes for a while, theirs is served after all.

use std::cmp::Ordering;

/// What to do with the other side's `SyncHello` while this side's waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tie {
    /// Theirs counts: answer it, and give up this side's.
    Serve,
    /// This side's counts: wait a while for its answer, and serve theirs if none comes.
    Hold,
}

/// Decides by both sides' numbers and keys.
#[must_use]
pub fn tie(mine: (u64, &str), theirs: (u64, &str)) -> Tie {
    match mine.cmp(&theirs) {
        Ordering::Greater => Tie::Hold,
        Ordering::Less | Ordering::Equal => Tie::Serve,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_sides_decide_for_the_same_exchange(
            a in 0_u64..3, b in 0_u64..3, x in "[ab]", y in "[cd]",
        ) {
            let at_a = tie((a, &x), (b, &y));
            let at_b = tie((b, &y), (a, &x));
            prop_assert_ne!(at_a, at_b);
        }
    }

    #[test]
    fn all_64_bits_count() {
        assert_eq!(tie((u64::MAX, "a"), (u64::MAX - 1, "b")), Tie::Hold);
        assert_eq!(tie((11_303_684_174_260_482_517, "a"), (1, "b")), Tie::Hold);
        assert_eq!(
            tie((7, "a"), (7, "a")),
            Tie::Serve,
            "a mirror is served, and found out elsewhere"
        );
    }
}
