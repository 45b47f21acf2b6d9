//! Framing: how messages follow each other on a link.
//!
//! A frame is a header of five bytes (length of the payload, 32 bits, big-endian; then the channel)
//! and the payload. The reader names the limit that is in force before it reads the payload, so that
//! a stranger's length never allocates.

use bytes::{Bytes, BytesMut};

use crate::WireError;

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 5;
/// Largest payload before both sides have accepted each other (16 KiB).
pub const MAX_STRANGER_FRAME: usize = 16 * 1024;
/// Largest payload between accepted peers (2 MiB): a chunk of 1 MiB and room beside it.
pub const MAX_FRAME: usize = 2 * 1024 * 1024;

/// What a frame's payload belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// Ceremonies, membership, goodbye: [`crate::session`]. 0 in the header.
    Session,
    /// One folder's records and contents: [`crate::sync`]. The sender's number for the folder, at most
    /// [`MAX_SLOT`]; one more than that in the header. `kin sync`, which has one folder, uses 0.
    Folder(u8),
}

/// Highest number of a folder's channel on a link.
pub const MAX_SLOT: u8 = 254;

/// A frame's payload, in parts that follow each other: a large one is sent from where it lies.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Payload(Vec<Bytes>);

impl Payload {
    /// Adds a part at the end, unless it is empty.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.0.push(part);
        }
    }

    /// The parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.0
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// All parts in one: what the receiver gets.
    #[must_use]
    pub fn join(mut self) -> Bytes {
        if self.0.len() <= 1 {
            return self.0.pop().unwrap_or_default();
        }
        let mut all = BytesMut::with_capacity(self.size());
        self.0.iter().for_each(|part| all.extend_from_slice(part));
        all.freeze()
    }
}

impl From<Bytes> for Payload {
    fn from(part: Bytes) -> Self {
        let mut payload = Self::default();
        payload.push(part);
        payload
    }
}

/// Makes the header of a frame.
///
/// # Errors
/// If `payload_len` is over [`MAX_FRAME`], or the channel over [`MAX_SLOT`].
pub fn encode_header(channel: Channel, payload_len: usize) -> Result<[u8; HEADER_LEN], WireError> {
    let too_large = || WireError::TooLarge { len: payload_len as u64, limit: MAX_FRAME as u64 };
    if payload_len > MAX_FRAME {
        return Err(too_large());
    }
    let len = u32::try_from(payload_len).map_err(|_| too_large())?.to_be_bytes();
    let channel = match channel {
        Channel::Session => 0,
        Channel::Folder(slot) if slot <= MAX_SLOT => slot + 1,
        Channel::Folder(_) => return Err(WireError::field("channel", "over its limit")),
    };
    Ok([len[0], len[1], len[2], len[3], channel])
}

/// Reads the header of a frame: its channel and the length of its payload, at most `limit`.
///
/// # Errors
/// If the length is over the limit.
pub fn decode_header(
    header: [u8; HEADER_LEN],
    limit: usize,
) -> Result<(Channel, usize), WireError> {
    let channel = match header[4] {
        0 => Channel::Session,
        slot => Channel::Folder(slot - 1),
    };
    let len = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if len > limit {
        return Err(WireError::TooLarge { len: len as u64, limit: limit as u64 });
    }
    Ok((channel, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_are_bounded() {
        for channel in [Channel::Session, Channel::Folder(0), Channel::Folder(MAX_SLOT)] {
            let header = encode_header(channel, 70_000).expect("in bounds");
            assert_eq!(decode_header(header, MAX_FRAME), Ok((channel, 70_000)));
        }
        let header = encode_header(Channel::Folder(0), 70_000).expect("in bounds");
        assert!(decode_header(header, MAX_STRANGER_FRAME).is_err());
        assert!(encode_header(Channel::Session, MAX_FRAME + 1).is_err());
        assert!(encode_header(Channel::Folder(MAX_SLOT + 1), 0).is_err());
    }
}
