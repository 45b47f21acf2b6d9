//! What one run gave.

use std::time::Duration;

use lab::Usage;

/// One run of one workload with one tool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measure {
    /// From the start of the second process (or the end of the change) to the end.
    pub(crate) time: Duration,
    /// For live edits: the slowest of a hundred, while `time` is the median.
    pub(crate) p99: Option<Duration>,
    /// Over a long line: from the first byte of contents until the tool says that it is done.
    pub(crate) settled: Option<Duration>,
    /// Where a restart is measured: the first sync, which came before.
    pub(crate) first: Option<Duration>,
    /// Packets that a long line dropped.
    pub(crate) dropped: u64,
    /// Bytes on the wire, both ways, headers included.
    pub(crate) wire: u64,
    /// What the side that had the files spent.
    pub(crate) sender: Usage,
    /// What the other side spent.
    pub(crate) receiver: Usage,
}

/// The middle one; for an even number the lower of the two.
pub(crate) fn median<T: PartialOrd + Copy + Default>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or_default()
}

/// The value that 99 of 100 do not exceed.
pub(crate) fn p99(values: &mut [Duration]) -> Duration {
    values.sort();
    let index = (values.len() * 99).div_ceil(100).saturating_sub(1);
    values.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_tail() {
        assert_eq!(median([3, 1, 2].into_iter()), 2);
        assert_eq!(median([4, 1, 3, 2].into_iter()), 2);
        assert_eq!(median([0.5].into_iter()), 0.5);
        assert_eq!(median(std::iter::empty::<u64>()), 0);
        let mut hundred: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(p99(&mut hundred), Duration::from_millis(99));
        assert_eq!(p99(&mut []), Duration::ZERO);
    }
}
