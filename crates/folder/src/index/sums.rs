//! Fingerprints of all buckets, kept in memory and changed with each row.
//!
//! A fingerprint is the sum of record hashes modulo 2^256 with their number, so that it can be changed
//! for one record without looking at the others and does not depend on order.

use wire::{
    Hash,
    sync::{BUCKETS, Fingerprint},
};

use super::{IndexError, Known};

/// Buckets whose fingerprints are stored together.
pub(super) const BLOCK: usize = 64;
/// Such blocks.
pub(super) const BLOCKS: usize = BUCKETS as usize / BLOCK;
/// Bytes of one stored fingerprint: the sum and the count, little-endian.
const STORED: usize = 40;
/// Bytes of a stored block.
pub(super) const BLOCK_BYTES: usize = BLOCK * STORED;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Sum {
    limbs: [u64; 4],
    count: u64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        let mut carry = false;
        for (limb, with) in self.limbs.iter_mut().zip(other.limbs) {
            let (sum, over) = limb.overflowing_add(with);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = over || over_again;
        }
        self.count = self.count.wrapping_add(other.count);
    }

    /// The sum that takes this one away again.
    fn negated(&self) -> Self {
        let mut negated = Self { limbs: self.limbs.map(|limb| !limb), count: 0 };
        negated.add(&Self { limbs: [1, 0, 0, 0], count: 0 });
        negated.count = self.count.wrapping_neg();
        negated
    }

    fn of(hash: &Hash) -> Self {
        Self { limbs: limbs(&hash.0), count: 1 }
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut sum = [0; 32];
        for (bytes, limb) in sum.chunks_exact_mut(8).zip(self.limbs) {
            bytes.copy_from_slice(&limb.to_le_bytes());
        }
        Fingerprint { sum, count: self.count }
    }
}

fn limbs(bytes: &[u8; 32]) -> [u64; 4] {
    let (words, _) = bytes.as_chunks::<8>();
    let mut limbs = [0; 4];
    for (limb, word) in limbs.iter_mut().zip(words) {
        *limb = u64::from_le_bytes(*word);
    }
    limbs
}

/// The sums of all buckets, of each block, and of everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sums {
    root: Sum,
    blocks: Vec<Sum>,
    buckets: Vec<Sum>,
    dirty: u64,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            root: Sum::default(),
            blocks: vec![Sum::default(); BLOCKS],
            buckets: vec![Sum::default(); BUCKETS as usize],
            dirty: 0,
        }
    }
}

impl Sums {
    /// Takes the old records of a path out of its bucket and puts the new ones in. `bucket` is below
    /// [`BUCKETS`].
    pub(super) fn change(&mut self, bucket: u16, old: &[Hash], new: &[Known]) {
        let mut delta = Sum::default();
        for hash in old {
            delta.add(&Sum::of(hash).negated());
        }
        for known in new {
            delta.add(&Sum::of(&known.hash));
        }
        if delta == Sum::default() {
            return;
        }
        let bucket = usize::from(bucket);
        self.root.add(&delta);
        self.blocks[bucket / BLOCK].add(&delta);
        self.buckets[bucket].add(&delta);
        self.dirty |= 1 << (bucket / BLOCK);
    }

    pub(super) fn fingerprint(&self, bits: u8, prefix: u16) -> Fingerprint {
        let prefix = usize::from(prefix);
        let sum = match bits {
            0 if prefix == 0 => Some(&self.root),
            6 => self.blocks.get(prefix),
            12 => self.buckets.get(prefix),
            _ => None,
        };
        sum.map(Sum::fingerprint).unwrap_or_default()
    }

    /// Blocks that changed since they were last taken here, with their stored form.
    pub(super) fn take_dirty(&mut self) -> Vec<(usize, Vec<u8>)> {
        let dirty = std::mem::take(&mut self.dirty);
        (0..BLOCKS)
            .filter(|block| dirty >> block & 1 == 1)
            .map(|block| {
                let mut bytes = Vec::with_capacity(BLOCK_BYTES);
                for sum in &self.buckets[block * BLOCK..(block + 1) * BLOCK] {
                    let fingerprint = sum.fingerprint();
                    bytes.extend_from_slice(&fingerprint.sum);
                    bytes.extend_from_slice(&fingerprint.count.to_le_bytes());
                }
                (block, bytes)
            })
            .collect()
    }

    /// Loads a stored block into sums that have none of it yet.
    pub(super) fn load(&mut self, block: usize, bytes: &[u8]) -> Result<(), IndexError> {
        let (stored, rest) = bytes.as_chunks::<STORED>();
        if block >= BLOCKS || stored.len() != BLOCK || !rest.is_empty() {
            return Err(IndexError::Corrupt("a block of fingerprints has the wrong size".into()));
        }
        for (at, stored) in stored.iter().enumerate() {
            let (mut sum, mut count) = ([0; 32], [0; 8]);
            sum.copy_from_slice(&stored[..32]);
            count.copy_from_slice(&stored[32..]);
            let sum = Sum { limbs: limbs(&sum), count: u64::from_le_bytes(count) };
            self.root.add(&sum);
            self.blocks[block].add(&sum);
            self.buckets[block * BLOCK + at].add(&sum);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn known(hash: [u8; 32]) -> Known {
        Known { bytes: Bytes::new(), hash: Hash(hash) }
    }

    #[test]
    fn sums_carry_through_all_limbs_and_wrap() {
        let mut sums = Sums::default();
        sums.change(70, &[], &[known([0xff; 32])]);
        let mut one = [0; 32];
        one[0] = 1;
        sums.change(70, &[], &[known(one)]);
        assert_eq!(sums.fingerprint(12, 70), Fingerprint { sum: [0; 32], count: 2 });
        assert_eq!(sums.fingerprint(6, 1), sums.fingerprint(0, 0));
        assert_eq!(sums.fingerprint(6, 0), Fingerprint::default());
        assert_eq!(sums.fingerprint(0, 1), Fingerprint::default());
        assert_eq!(sums.fingerprint(12, 4096), Fingerprint::default());
        assert_eq!(sums.fingerprint(7, 0), Fingerprint::default());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(hashes in proptest::collection::vec((0u16..4096, any::<[u8; 32]>()), 0..40)) {
            let mut sums = Sums::default();
            for (bucket, hash) in &hashes {
                sums.change(*bucket, &[], &[known(*hash)]);
            }
            let mut loaded = Sums::default();
            for (block, bytes) in sums.take_dirty() {
                loaded.load(block, &bytes).expect("just stored");
            }
            prop_assert_eq!(&loaded, &sums);
            for (bucket, hash) in hashes.iter().rev() {
                sums.change(*bucket, &[Hash(*hash)], &[]);
            }
            sums.take_dirty();
            prop_assert_eq!(sums, Sums::default());
        }

        #[test]
        fn blocks_of_any_bytes_are_loaded_or_refused(block in 0usize..70, bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let fits = block < BLOCKS && bytes.len() == BLOCK_BYTES;
            prop_assert_eq!(Sums::default().load(block, &bytes).is_ok(), fits);
        }
    }
}
