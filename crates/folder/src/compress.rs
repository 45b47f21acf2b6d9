//! Compression of what travels: zstd, only where a sample says that it pays, and undone within bounds.
//!
//! Whether a link is slow enough for compression at all is the caller's question ([`Policy`]).

use std::cell::RefCell;

use bytes::Bytes;
use wire::sync::{MAX_PIECE, PieceData};
use zstd::bulk::{Compressor, Decompressor};

/// zstd's level: the fastest that is still zstd.
const LEVEL: i32 = 1;
/// Below this many bytes nothing is compressed: the frame's own bytes eat the gain.
const MIN_BYTES: usize = 256;
/// Contents over four times this are judged by three samples of this many bytes.
const SAMPLE: usize = 4096;
/// Most bytes that one compressed byte may become. Honest data stays far below at this level, but for
/// runs of one byte, which are sent as they are: as a chunk they travel once a folder.
pub const MAX_RATIO: usize = 256;

/// Whether compression is worth a try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The link is faster than compression.
    Never,
    /// Compress what shrinks by a tenth or more.
    WherePays,
}

/// Why bytes could not be decompressed. The peer that sent them does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The decoded length is over [`MAX_PIECE`].
    #[error("a piece of {0} bytes is too long")]
    TooLong(u32),
    /// The bytes are not of the length that was announced.
    #[error("a piece is not of the {0} bytes announced")]
    Length(u32),
    /// More than [`MAX_RATIO`] bytes for one.
    #[error("a piece is compressed beyond all measure")]
    Ratio,
    /// Not zstd.
    #[error("a piece cannot be decompressed")]
    Damaged,
}

thread_local! {
    // Making a context costs more than compressing a small file with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Makes the form in which bytes travel. `bytes` are at most [`MAX_PIECE`].
#[must_use]
pub fn seal(bytes: Bytes, policy: Policy) -> PieceData {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    match compressed(&bytes, policy) {
        Some(smaller) => PieceData { zstd: true, len, bytes: smaller.into() },
        None => PieceData { zstd: false, len, bytes },
    }
}

fn compressed(bytes: &[u8], policy: Policy) -> Option<Vec<u8>> {
    if policy == Policy::Never || !(MIN_BYTES..=MAX_PIECE as usize).contains(&bytes.len()) {
        return None;
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Compressor::new(LEVEL).ok();
        }
        let compressor = slot.as_mut()?;
        if bytes.len() > 4 * SAMPLE {
            let starts = [0, (bytes.len() - SAMPLE) / 2, bytes.len() - SAMPLE];
            let sample: Vec<u8> =
                starts.iter().flat_map(|&at| &bytes[at..at + SAMPLE]).copied().collect();
            let shrunk = compressor.compress(&sample).ok()?;
            if !pays(sample.len(), shrunk.len()) {
                return None;
            }
        }
        let shrunk = compressor.compress(bytes).ok()?;
        let good = pays(bytes.len(), shrunk.len()) && bytes.len() / MAX_RATIO <= shrunk.len();
        good.then_some(shrunk)
    })
}

/// True if a tenth is saved.
fn pays(before: usize, after: usize) -> bool {
    after <= before / 10 * 9
}

/// Gets back the bytes of a piece, at most [`MAX_PIECE`] of them.
///
/// # Errors
/// Says what is wrong with it, before anything is allocated for a length that is.
pub fn open(piece: PieceData) -> Result<Bytes, OpenError> {
    let PieceData { zstd, len, bytes } = piece;
    if len > MAX_PIECE {
        return Err(OpenError::TooLong(len));
    }
    let expected = len as usize;
    let opened = if !zstd {
        bytes
    } else if expected / MAX_RATIO > bytes.len() {
        return Err(OpenError::Ratio);
    } else {
        decompressed(&bytes, expected).ok_or(OpenError::Damaged)?.into()
    };
    if opened.len() == expected { Ok(opened) } else { Err(OpenError::Length(len)) }
}

fn decompressed(bytes: &[u8], most: usize) -> Option<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Decompressor::new().ok();
        }
        slot.as_mut()?.decompress(bytes, most).ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn text(len: usize) -> Bytes {
        let line = |number: u32| format!("a line of text with number {number}\n").into_bytes();
        (0..).flat_map(line).take(len).collect()
    }

    fn noise(len: usize) -> Bytes {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes.into()
    }

    #[test]
    fn only_what_shrinks_is_compressed() {
        for len in [300, 20_000, 1 << 20] {
            let sealed = seal(text(len), Policy::WherePays);
            assert!(sealed.zstd && sealed.bytes.len() < len / 2, "{len} bytes of text");
            assert_eq!(open(sealed), Ok(text(len)));
            assert!(!seal(text(len), Policy::Never).zstd);
            assert!(!seal(noise(len), Policy::WherePays).zstd);
        }
        assert!(!seal(text(100), Policy::WherePays).zstd);
        let mut half = noise(1 << 20).to_vec();
        half[..10_000].fill(0);
        assert!(!seal(half.into(), Policy::WherePays).zstd, "saves less than a tenth");
    }

    /// Attack 28.
    #[test]
    fn attack_28_bombs_are_refused_and_never_made() {
        let zeros = Bytes::from(vec![0; 1 << 20]);
        let frame = zstd::bulk::compress(&zeros, LEVEL).expect("compresses");
        let bomb = |len, bytes: &[u8]| {
            open(PieceData { zstd: true, len, bytes: Bytes::copy_from_slice(bytes) })
        };
        assert_eq!(bomb(1 << 20, &frame), Err(OpenError::Ratio));
        assert_eq!(bomb(1000, &frame), Err(OpenError::Damaged), "longer than announced");
        assert_eq!(bomb(MAX_PIECE + 1, &frame), Err(OpenError::TooLong(MAX_PIECE + 1)));
        assert_eq!(bomb(u32::MAX, &frame), Err(OpenError::TooLong(u32::MAX)));
        assert_eq!(open(seal(zeros.clone(), Policy::WherePays)), Ok(zeros));
    }

    #[test]
    fn lengths_that_do_not_match_are_refused() {
        let sealed = seal(text(5000), Policy::WherePays);
        let longer = PieceData { len: 5001, ..sealed.clone() };
        assert_eq!(open(longer), Err(OpenError::Length(5001)));
        assert_eq!(open(PieceData { len: 4999, ..sealed.clone() }), Err(OpenError::Damaged));
        let cut_off = PieceData { bytes: sealed.bytes.slice(..sealed.bytes.len() - 1), ..sealed };
        assert_eq!(open(cut_off), Err(OpenError::Damaged));
        let raw = seal(noise(5000), Policy::Never);
        assert_eq!(open(PieceData { len: 4999, ..raw }), Err(OpenError::Length(4999)));
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_opens(runs in vec((any::<u8>(), 1usize..3000), 0..30)) {
            let bytes: Bytes = runs.iter().flat_map(|&(byte, len)| vec![byte; len]).collect();
            prop_assert_eq!(open(seal(bytes.clone(), Policy::WherePays)), Ok(bytes));
        }

        #[test]
        fn any_piece_is_opened_or_refused(zstd in any::<bool>(), len in 0u32..5000, bytes in vec(any::<u8>(), 0..500), framed in any::<bool>()) {
            let mut bytes = bytes;
            if framed && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&0xFD2F_B528u32.to_le_bytes());
            }
            let opened = open(PieceData { zstd, len, bytes: bytes.into() });
            prop_assert!(opened.is_err() || opened.is_ok_and(|bytes| bytes.len() == len as usize));
        }
    }
}
