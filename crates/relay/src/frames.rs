//! Frames on a stream: the length (32 bits, big-endian), then as many bytes.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes of a frame's head.
const HEAD: usize = 4;

/// Reads frames. Nothing is lost if a read is dropped, and no memory is held between frames.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// The next frame, of at most `limit` bytes; `None` at the end of the stream.
    pub(crate) async fn next<R: AsyncRead + Unpin>(
        &mut self,
        stream: &mut R,
        limit: usize,
    ) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<HEAD>() {
                let len = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
                if len > limit {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
                }
                if self.buffer.len() >= HEAD + len {
                    self.buffer.advance(HEAD);
                    let frame = self.buffer.split_to(len).freeze();
                    if self.buffer.is_empty() {
                        self.buffer = BytesMut::new();
                    }
                    return Ok(Some(frame));
                }
                // What is announced is allocated as it comes.
                self.buffer.reserve((HEAD + len - self.buffer.len()).min(16 << 10));
            }
            let read = match self.buffer.is_empty() {
                true => {
                    // An idle stream waits with these few bytes.
                    let mut first = [0; 64];
                    let read = stream.read(&mut first).await?;
                    self.buffer.extend_from_slice(first.get(..read).unwrap_or_default());
                    read
                }
                false => stream.read_buf(&mut self.buffer).await?,
            };
            if read == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }
}

/// Reads one frame and not a byte beyond it.
pub(crate) async fn read_exactly_one<R: AsyncRead + Unpin>(
    stream: &mut R,
    limit: usize,
) -> io::Result<Bytes> {
    let len = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if len > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut frame = vec![0; len];
    stream.read_exact(&mut frame).await?;
    Ok(frame.into())
}

/// Writes one frame, and waits until it is on its way.
pub(crate) async fn write<W: AsyncWrite + Unpin>(stream: &mut W, frame: &[u8]) -> io::Result<()> {
    let len = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // In one write, which is one TLS record for what is short.
    let mut bytes = Vec::with_capacity(HEAD + frame.len());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_as_they_went_however_they_are_cut() {
        let (mut to, mut from) = tokio::io::duplex(7);
        let frames = [vec![], vec![1; 3], vec![2; 5000], vec![3]];
        let sent = frames.clone();
        let writer = tokio::spawn(async move {
            for frame in sent {
                write(&mut to, &frame).await.unwrap();
            }
        });
        let mut reader = FrameReader::default();
        for frame in frames {
            assert_eq!(reader.next(&mut from, 5000).await.unwrap().unwrap(), frame);
        }
        writer.await.unwrap();
        assert_eq!(reader.next(&mut from, 5000).await.unwrap(), None);
        assert_eq!(reader.buffer.capacity(), 0, "nothing is held between frames");
    }

    #[tokio::test]
    async fn attack_27_a_length_that_lies_allocates_nothing() {
        let mut reader = FrameReader::default();
        let huge = u32::MAX.to_be_bytes();
        assert!(reader.next(&mut &huge[..], 4096).await.is_err());
        let cut = [0, 0, 0x10, 0, 1];
        let mut reader = FrameReader::default();
        let error = reader.next(&mut &cut[..], 4096).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(read_exactly_one(&mut &huge[..], 4096).await.is_err());
    }
}
