//! Large buffers that are used again. To give fresh memory costs the kernel about as much as to fill it once more,
//! and what travels in bulk comes and goes in pieces of about a megabyte.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

/// From this many bytes on a buffer is one of those kept (512 KiB): each of them is as long as the longest, whatever is in it.
pub const LARGE: usize = 512 << 10;
/// Buffers over this many bytes are not kept (1 MiB and room for what surrounds a chunk of that size).
const MAX_KEPT_LEN: usize = (1 << 20) + (64 << 10);
/// Buffers kept, at most: so 16 MiB in all, whatever the number of links.
const MAX_KEPT: usize = 15;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Bytes to be filled, from those kept if there are any. What is in them before is of no meaning.
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` bytes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let keeps = (LARGE..=MAX_KEPT_LEN).contains(&len);
        let kept = keeps.then(|| KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop());
        let mut bytes = kept.flatten().unwrap_or_default();
        if bytes.len() < len {
            bytes.reserve_exact(if keeps { MAX_KEPT_LEN } else { len } - bytes.len());
            bytes.resize(len, 0);
        }
        Self { bytes, len }
    }

    /// What was filled in, for many readers; kept for others when the last of them is gone.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if (LARGE..=MAX_KEPT_LEN).contains(&self.bytes.len()) {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAX_KEPT {
                kept.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_as_long_as_was_asked_for() {
        for len in [0, 1, LARGE - 1, LARGE, 300_000, MAX_KEPT_LEN, MAX_KEPT_LEN + 1, 3 << 20, LARGE]
        {
            let mut buffer = Buffer::new(len);
            assert_eq!(buffer.as_mut().len(), len);
            buffer.as_mut().fill(7);
            let bytes = buffer.freeze();
            assert_eq!((bytes.len(), bytes.iter().all(|byte| *byte == 7)), (len, true));
        }
    }

    #[test]
    fn no_more_are_kept_than_said() {
        let many: Vec<_> = (0..3 * MAX_KEPT).map(|_| Buffer::new(MAX_KEPT_LEN)).collect();
        drop(many);
        drop(Buffer::new(4 << 20));
        let kept = KEPT.lock().unwrap();
        assert!(kept.len() <= MAX_KEPT && kept.iter().all(|it| it.capacity() <= 2 * MAX_KEPT_LEN));
    }
}
