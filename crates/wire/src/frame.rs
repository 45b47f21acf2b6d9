//! Framing: how messages follow each other on a link.
//!
//! A frame is a header of five bytes (length of the payload, 32 bits, big-endian; then the channel)
//! and the payload. The reader names the limit that is in force before it reads the payload, so that
//! a stranger's length never allocates.

use crate::WireError;

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 5;
/// Largest payload before both sides have accepted each other (16 KiB).
pub const MAX_STRANGER_FRAME: usize = 16 * 1024;
/// Largest payload between accepted peers (2 MiB): a chunk of 1 MiB and room beside it.
pub const MAX_FRAME: usize = 2 * 1024 * 1024;

/// What a frame's payload belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Channel {
    /// Ceremonies, membership, goodbye: [`crate::session`].
    Session = 0,
    /// One folder's records and contents: [`crate::sync`].
    Folder = 1,
}

/// Makes the header of a frame.
///
/// # Errors
/// If `payload_len` is over [`MAX_FRAME`].
pub fn encode_header(channel: Channel, payload_len: usize) -> Result<[u8; HEADER_LEN], WireError> {
    let too_large = || WireError::TooLarge { len: payload_len as u64, limit: MAX_FRAME as u64 };
    if payload_len > MAX_FRAME {
        return Err(too_large());
    }
    let len = u32::try_from(payload_len).map_err(|_| too_large())?.to_be_bytes();
    Ok([len[0], len[1], len[2], len[3], channel as u8])
}

/// Reads the header of a frame: its channel and the length of its payload, at most `limit`.
///
/// # Errors
/// If the channel is unknown or the length over the limit.
pub fn decode_header(
    header: [u8; HEADER_LEN],
    limit: usize,
) -> Result<(Channel, usize), WireError> {
    let channel = match header[4] {
        0 => Channel::Session,
        1 => Channel::Folder,
        _ => return Err(WireError::field("channel", "unknown")),
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
        let header = encode_header(Channel::Folder, 70_000).expect("in bounds");
        assert_eq!(decode_header(header, MAX_FRAME), Ok((Channel::Folder, 70_000)));
        assert!(decode_header(header, MAX_STRANGER_FRAME).is_err());
        assert!(encode_header(Channel::Session, MAX_FRAME + 1).is_err());
        assert!(decode_header([0, 0, 0, 0, 9], MAX_FRAME).is_err());
    }
}
