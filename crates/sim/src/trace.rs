//! A hash over everything that happens, to tell two plays of a history apart. It withstands chance, nobody who
//! means to deceive it; the histories are our own, and BLAKE3 over all of them cost a twentieth of the time.

use std::fmt;

const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9];

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Trace([u64; 2]);

impl Trace {
    pub(crate) fn new() -> Self {
        Self([0x6b69_6e66_6f6c_6421, 0x6861_7368_2074_7261])
    }

    fn word(&mut self, word: u64) {
        for (lane, factor) in self.0.iter_mut().zip(FACTORS) {
            // Both halves of a full product: every bit of what came before changes every other.
            let product = u128::from(*lane ^ word) * u128::from(factor);
            let bytes = product.to_le_bytes();
            let (halves, _) = bytes.as_chunks::<8>();
            *lane = halves.iter().fold(lane.rotate_left(23), |sum, half| {
                sum.wrapping_add(u64::from_le_bytes(*half))
            });
        }
    }

    /// A piece of what happened; where pieces end counts, too.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.word(number);
    }

    pub(crate) fn hash(&self) -> [u64; 2] {
        self.0
    }
}

/// What is shown is not made into text first.
impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_differs_anywhere_has_another_hash() {
        let mut seen = HashSet::new();
        let mut pieces = vec![Vec::new()];
        for len in 0..40usize {
            for at in 0..len {
                let mut bytes = vec![0u8; len];
                bytes[at] = 1;
                pieces.push(bytes);
            }
            pieces.push(vec![0u8; len + 1]);
        }
        for first in &pieces {
            for second in &pieces {
                let mut trace = Trace::new();
                trace.add(first);
                trace.add(second);
                assert!(seen.insert(trace.hash()), "{first:?} {second:?}");
            }
        }
    }
}
