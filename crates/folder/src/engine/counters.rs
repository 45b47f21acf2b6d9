//! Ranges of counters that were reserved and not used (rule E1), as the index keeps them.

/// A range of counters, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Ranges as the index keeps them: 16 bytes each.
pub(super) fn pack(ranges: &[Counters]) -> Vec<u8> {
    ranges.iter().flat_map(|it| [it.first.to_le_bytes(), it.last.to_le_bytes()].concat()).collect()
}

/// Reads what [`pack`] wrote.
pub(super) fn unpack(bytes: &[u8]) -> Vec<Counters> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let numbers: Vec<_> = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    numbers.chunks_exact(2).map(|pair| Counters { first: pair[0], last: pair[1] }).collect()
}
