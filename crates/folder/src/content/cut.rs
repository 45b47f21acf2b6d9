//! Where contents are cut: behind bytes of which a hash says so.
//!
//! Like FastCDC (Xia et al., 2016) it looks at nothing in the smallest chunk, and is stricter before the average
//! length than behind it. Unlike it, it has no hash that rolls from byte to byte, which is as fast as one addition
//! waits for the other: a sieve looks at the six bytes before each place, many places at a time, and what is left, one in
//! 2,048, is judged by the 32 bytes before it.
//!
//! A cut depends only on the bytes since the cut before, so that an insert changes the chunks around it
//! and no others. The golden tests below hold the exact places: changing one is a new version of the
//! protocol.

/// Contents of this many bytes and more are cut into chunks (1 MiB).
pub const CHUNKED_FROM: u64 = 1 << 20;
/// Smallest chunk but for the last of a content (64 KiB).
pub const MIN_CHUNK: u32 = 64 << 10;
/// Chunk size that the cutting aims at (256 KiB).
pub const AVG_CHUNK: u32 = 256 << 10;
/// Largest chunk (1 MiB).
pub const MAX_CHUNK: u32 = 1 << 20;

/// Bytes before a cut that decide about it.
const WINDOW: usize = 32;
/// Bytes before a cut that the sieve looks at.
const SIEVED: usize = 6;
/// Places that the sieve looks at in one go, and those among which the first one that passes is looked for.
const BLOCK: usize = 256;
const CLOSER: usize = 64;
/// The sieve's factors, and what passes it. They were searched for: no run of one byte passes, so that zeros make large
/// chunks; of texts, programs and numbers about as much does as of noise; and so do some of the strings of two digits, and of the
/// four letters of genes.
const SIEVE: [u16; 3] = [0xdd9d, 0x8ed9, 0xb6f7];
const PASSES: u16 = 0x4f7;
/// Factors of the hash that decides: the fractions of the square roots of 2, 3, 5 and 7.
const FACTORS: [u64; 4] =
    [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];
/// Leading zeros that the hash must have for a cut before the average length, and behind it.
const STRICT: u32 = 8;
const RELAXED: u32 = 6;

/// The length of the chunk that begins with `window`, which lies right behind the last cut. `ends` says
/// that the content ends with the window.
///
/// `None` if the window must be longer to tell: never for one of [`MAX_CHUNK`] bytes or more.
#[must_use]
pub fn cut(window: &[u8], ends: bool) -> Option<usize> {
    let [min, average, max] = [MIN_CHUNK, AVG_CHUNK, MAX_CHUNK].map(|len| len as usize);
    let to = window.len().min(max);
    first_cut(window, min, to.min(average), STRICT)
        .or_else(|| first_cut(window, average + 1, to, RELAXED))
        .or_else(|| (to == max || ends && to > 0).then_some(to))
}

/// The first place from `from` to `to`, both included, where the hash of what lies before has `zeros` leading zeros.
fn first_cut(bytes: &[u8], mut from: usize, to: usize, zeros: u32) -> Option<usize> {
    while from <= to {
        let end = to.min(from + BLOCK - 1);
        if any_passes(bytes, from, end) {
            for from in (from..=end).step_by(CLOSER) {
                let end = end.min(from + CLOSER - 1);
                if any_passes(bytes, from, end)
                    && let Some(place) = look_closely(bytes, from, end, zeros)
                {
                    return Some(place);
                }
            }
        }
        from = end + 1;
    }
    None
}

/// True if one of the places from `from` to `to`, both included, passes the sieve.
///
/// The compiler makes of each loop one for many places at a time, as long as it does not know how many there are: else
/// it writes them down one after the other.
#[inline(never)]
fn any_passes(bytes: &[u8], from: usize, to: usize) -> bool {
    let bytes = &bytes[from - SIEVED..to];
    let mut any = 0;
    for (words, _) in [bytes.as_chunks::<2>(), bytes[1..].as_chunks::<2>()] {
        // One place's six bytes are three words; the next place but one has two of them, and another.
        for at in 2..words.len() {
            let first = u16::from_le_bytes(words[at - 2]);
            let second = u16::from_le_bytes(words[at - 1]);
            let third = u16::from_le_bytes(words[at]);
            any |= u16::from(passes([first, second, third]));
        }
    }
    any != 0
}

#[inline]
fn passes(words: [u16; 3]) -> bool {
    let [first, second, third] = words;
    let [a, b, c] = SIEVE;
    (first.wrapping_mul(a) ^ second.wrapping_mul(b) ^ third.wrapping_mul(c)) >> 5 == PASSES
}

#[cold]
fn look_closely(bytes: &[u8], from: usize, to: usize, zeros: u32) -> Option<usize> {
    let around = bytes.get(from - WINDOW..to)?;
    let place = around.windows(WINDOW).position(|window| {
        let (words, _) = window[WINDOW - SIEVED..].as_chunks();
        let sieved: [u16; 3] = std::array::from_fn(|at| u16::from_le_bytes(words[at]));
        let (words, _) = window.as_chunks();
        let hash = || {
            let products = words.iter().zip(FACTORS);
            let products = products.map(|(word, by)| u64::from_le_bytes(*word).wrapping_mul(by));
            products.fold(0, u64::wrapping_add)
        };
        passes(sieved) && hash().leading_zeros() >= zeros
    })?;
    Some(from + place)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes without pattern, the same on every run: BLAKE3 in its extendable form.
    pub(in super::super) fn noise(seed: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    pub(in super::super) fn cut_all(mut rest: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        while !rest.is_empty() {
            let len = cut(rest, true).expect("the content ends here");
            lens.push(len);
            rest = &rest[len..];
        }
        lens
    }

    #[test]
    fn e21_cuts_of_noise_are_golden() {
        let lens = cut_all(&noise(1, 4 << 20));
        assert_eq!(
            lens,
            [
                365_076, 383_014, 86_115, 573_229, 105_635, 264_756, 141_647, 134_680, 309_333,
                448_180, 493_724, 332_143, 158_814, 388_569, 9_389
            ]
        );
    }

    #[test]
    fn e21_cuts_of_zeros_are_golden() {
        assert_eq!(cut_all(&vec![0; (3 << 20) + 5]), [1 << 20, 1 << 20, 1 << 20, 5]);
    }

    #[test]
    fn e21_cuts_of_text_are_golden() {
        let text: String = (0..60_000).map(|line| format!("line {line} of a text\n")).collect();
        assert_eq!(cut_all(text.as_bytes()), [871_614, 377_276]);
    }

    #[test]
    fn what_was_searched_for_in_the_sieve() {
        let pass = |strings: Vec<[u8; 6]>| {
            let words = |it: &[u8; 6]| [0, 2, 4].map(|at| u16::from_le_bytes([it[at], it[at + 1]]));
            strings.iter().filter(|it| passes(words(it))).count()
        };
        let of = |letters: &[u8]| {
            let count = letters.len().pow(6);
            let letter =
                |number: usize, at: u32| letters[number / letters.len().pow(at) % letters.len()];
            pass((0..count).map(|it| [0, 1, 2, 3, 4, 5].map(|at| letter(it, at))).collect())
        };
        assert_eq!(pass((0..=255).map(|byte| [byte; 6]).collect()), 0);
        assert_eq!([of(b"01"), of(b"ACGT"), of(b"acgt")], [1, 4, 8]);
    }

    /// The rule as docs/protocol.md gives it, byte by byte.
    fn cut_plainly(window: &[u8]) -> usize {
        let places = MIN_CHUNK as usize..=window.len().min(MAX_CHUNK as usize);
        let of =
            |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        let is_cut = |place: &usize| {
            let before = &window[place - 32..*place];
            let word = |at: usize, by: u64| of(&before[at..at + 2]).wrapping_mul(by) & 0xffff;
            let sieved = word(26, 0xdd9d) ^ word(28, 0x8ed9) ^ word(30, 0xb6f7);
            let zeros = if *place <= AVG_CHUNK as usize { 8 } else { 6 };
            let hash = (0..4).map(|at| of(&before[8 * at..8 * at + 8]).wrapping_mul(FACTORS[at]));
            sieved >> 5 == 0x4f7 && hash.fold(0, u64::wrapping_add).leading_zeros() >= zeros
        };
        places.clone().find(is_cut).unwrap_or(*places.end()).min(window.len())
    }

    #[test]
    fn a_short_window_waits_for_more() {
        let bytes = noise(2, 2 << 20);
        let first = cut_all(&bytes)[0];
        assert_eq!(cut(&[], true), None);
        assert_eq!(cut(&bytes[..first - 1], false), None);
        assert_eq!(cut(&bytes[..first], false), Some(first));
        assert_eq!(cut(&bytes[..100], true), Some(100));
        assert_eq!(cut(&vec![0; MAX_CHUNK as usize], false), Some(1 << 20));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn e21_it_cuts_as_the_protocol_says(seed in any::<u8>(), len in 0usize..2 << 20, letters in 1_u8..=255) {
            let mut bytes = noise(seed, len);
            bytes.iter_mut().for_each(|byte| *byte %= letters);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let len = cut(rest, true).expect("the content ends here");
                prop_assert_eq!(len, if rest.len() < MIN_CHUNK as usize { rest.len() } else { cut_plainly(rest) });
                rest = &rest[len..];
            }
        }

        #[test]
        fn e21_a_cut_does_not_depend_on_what_follows(seed in any::<u8>(), shown in 0usize..2 << 20) {
            let bytes = noise(seed, 2 << 20);
            let first = cut(&bytes, true).expect("the content ends here");
            if let Some(len) = cut(&bytes[..shown], false) {
                prop_assert_eq!(len, first);
            } else {
                prop_assert!(shown < first);
            }
        }
    }
}
