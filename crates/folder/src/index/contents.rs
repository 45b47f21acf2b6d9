//! Which contents there may be in the folder: asked of each content that is to be brought here, and nearly always there is
//! none. A Bloom filter says so from memory.

/// Bits for each content that the filter was made for: with four of them set, one in 400 asks for nothing.
const BITS_EACH: usize = 16;
/// Contents that the smallest filter is made for.
const LEAST: usize = 4096;

/// A filter of the first eight bytes of contents' hashes.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Empty as long as nothing was read.
    bits: Vec<u64>,
    room: usize,
}

impl Contents {
    /// A filter with these, and room for as many again.
    pub(super) fn of(heads: &[i64]) -> Self {
        let room = (2 * heads.len()).max(LEAST);
        let words = (room * BITS_EACH / 64).next_power_of_two();
        let mut contents = Self { bits: vec![0; words], room };
        heads.iter().for_each(|head| contents.add(*head));
        contents
    }

    /// There is one more. A filter that is full is to be read anew.
    pub(super) fn add(&mut self, head: i64) {
        if self.bits.is_empty() {
            return;
        }
        if self.room == 0 {
            *self = Self::default();
            return;
        }
        self.room -= 1;
        for (word, bit) in places(head, self.bits.len()) {
            if let Some(word) = self.bits.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// False only if no content has a hash that begins so.
    pub(super) fn may_have(&self, head: i64) -> bool {
        let is_set = |(word, bit): (usize, u64)| self.bits.get(word).is_none_or(|it| it & bit != 0);
        places(head, self.bits.len()).all(is_set)
    }

    pub(super) fn is_unread(&self) -> bool {
        self.bits.is_empty()
    }
}

/// Four bits of a filter of so many words, which are a power of two. A hash needs no further hashing.
fn places(head: i64, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let [a, b, c, d, e, f, g, h] = head.to_le_bytes();
    let first = u32::from_le_bytes([a, b, c, d]);
    let step = u32::from_le_bytes([e, f, g, h]) | 1;
    (0..4).map(move |nth| {
        let place = first.wrapping_add(step.wrapping_mul(nth)) as usize;
        ((place / 64) & words.wrapping_sub(1), 1 << (place % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers like the first bytes of hashes.
    fn heads(from: u64, count: usize) -> Vec<i64> {
        let head = |number: u64| wire::Hash::of(&number.to_le_bytes()).head().cast_signed();
        (from..).take(count).map(head).collect()
    }

    #[test]
    fn what_is_there_is_never_denied_and_what_is_not_nearly_always() {
        let (there, more, absent) = (heads(0, 5_000), heads(10_000, 5_000), heads(20_000, 10_000));
        let mut contents = Contents::of(&there);
        more.iter().for_each(|head| contents.add(*head));
        assert!(there.iter().chain(&more).all(|head| contents.may_have(*head)));
        let wrong = absent.iter().filter(|head| contents.may_have(**head)).count();
        assert!(wrong < 200, "{wrong} of 10,000");
    }

    #[test]
    fn a_full_filter_is_read_anew() {
        let mut contents = Contents::of(&[]);
        assert!(!contents.is_unread() && !contents.may_have(7));
        heads(0, LEAST).iter().for_each(|head| contents.add(*head));
        assert!(!contents.is_unread());
        contents.add(7);
        assert!(contents.is_unread() && contents.may_have(8));
        contents.add(8);
        assert!(contents.is_unread());
    }
}
