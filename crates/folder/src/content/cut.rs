//! Where contents are cut: FastCDC as of 2020, normalisation level 1.
//!
//! A cut depends only on the bytes since the cut before, so that an insert changes the chunks around it
//! and no others. The golden tests below hold the exact places: changing one is a new version of the
//! protocol.

use std::sync::LazyLock;

use fastcdc::v2020::{Normalization, cut as find_cut, select_masks};

/// Contents of this many bytes and more are cut into chunks (1 MiB).
pub const CHUNKED_FROM: u64 = 1 << 20;
/// Smallest chunk but for the last of a content (64 KiB).
pub const MIN_CHUNK: u32 = 64 << 10;
/// Chunk size that the cutting aims at (256 KiB).
pub const AVG_CHUNK: u32 = 256 << 10;
/// Largest chunk (1 MiB).
pub const MAX_CHUNK: u32 = 1 << 20;

static MASKS: LazyLock<(u64, u64)> =
    LazyLock::new(|| select_masks(AVG_CHUNK as usize, Normalization::Level1));

/// The length of the chunk that begins with `window`, which lies right behind the last cut. `ends` says
/// that the content ends with the window.
///
/// `None` if the window must be longer to tell: never for one of [`MAX_CHUNK`] bytes or more.
#[must_use]
pub fn cut(window: &[u8], ends: bool) -> Option<usize> {
    let (strict, relaxed) = *MASKS;
    let (_, len) = find_cut(
        window,
        MIN_CHUNK as usize,
        AVG_CHUNK as usize,
        MAX_CHUNK as usize,
        strict,
        relaxed,
        strict << 1,
        relaxed << 1,
    );
    let sure = ends && len > 0 || len < window.len() || len == MAX_CHUNK as usize;
    sure.then_some(len)
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
                296_077, 91_172, 266_704, 165_135, 210_577, 448_075, 428_313, 191_949, 443_100,
                643_128, 373_148, 617_331, 19_595
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
        assert_eq!(cut_all(text.as_bytes()), [479_173, 185_949, 316_287, 267_481]);
    }

    #[test]
    fn a_short_window_waits_for_more() {
        let bytes = noise(2, 2 << 20);
        let first = cut_all(&bytes)[0];
        assert_eq!(cut(&[], true), None);
        assert_eq!(cut(&bytes[..first], false), None);
        assert_eq!(cut(&bytes[..first], true), Some(first));
        assert_eq!(cut(&bytes[..100], true), Some(100));
        assert_eq!(cut(&vec![0; MAX_CHUNK as usize], false), Some(1 << 20));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn e21_a_cut_does_not_depend_on_what_follows(seed in any::<u8>(), shown in 0usize..2 << 20) {
            let bytes = noise(seed, 2 << 20);
            let first = cut(&bytes, true).expect("the content ends here");
            if let Some(len) = cut(&bytes[..shown], false) {
                prop_assert_eq!(len, first);
            } else {
                prop_assert!(shown <= first);
            }
        }
    }
}
