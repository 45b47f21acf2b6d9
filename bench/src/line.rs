//! How long contents take over a long line between two hosts.

use std::time::Instant;

use lab::LongLine;

use crate::measure::Measure;

/// From the first byte of contents to the last, out of the line at the second host.
pub(crate) struct Span {
    /// What had passed before, and both ways.
    before: (u64, u64),
}

impl Span {
    /// Contents are to come.
    pub(crate) fn from_now(line: &LongLine<'_>) -> Self {
        Self { before: (line.passed().bytes(), line.bytes()) }
    }

    /// All has come, and the tool has said so at `end`.
    pub(crate) fn measure(&self, line: &LongLine<'_>, end: Instant) -> Result<Measure, String> {
        let before = self.before.0;
        let passed = line.passed().bytes() - before;
        // Lists of what is to come are before contents, the last word is behind them.
        let first = line.passed().when(before + passed / 512);
        let last = line.passed().when(before + passed.saturating_sub(16 << 10));
        let (Some(first), Some(last)) = (first, last) else {
            return Err("nothing came over the long line".to_owned());
        };
        Ok(Measure {
            time: last.saturating_duration_since(first),
            settled: Some(end.saturating_duration_since(first)),
            wire: line.bytes() - self.before.1,
            dropped: line.dropped(),
            ..Measure::default()
        })
    }
}
