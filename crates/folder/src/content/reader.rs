//! Reading a file once: its content hash and, if it is large, its chunks.

use std::io;

use bytes::Bytes;
use tree::{ReadFile, Stat};
use wire::Hash;

use super::{CHUNKED_FROM, Chunk, ChunkList, ListError, MAX_CHUNK, MAX_CONTENT, cut, parallel};

/// Files below this many bytes are kept in memory when they are hashed (64 KiB), so that they can be sent
/// without being read again.
pub const SMALL: u64 = 64 << 10;
/// Bytes read at once, and the most that is held (2 MiB): at least [`MAX_CHUNK`], small enough for a
/// processor's second cache, so that cutting and hashing find there what reading left.
const WINDOW: usize = 2 << 20;
const _: () = assert!(WINDOW >= MAX_CHUNK as usize && WINDOW as u64 >= CHUNKED_FROM);

/// Is handed each chunk of a large file: its offset, what it is, and its bytes.
type Each<'a> = &'a mut dyn FnMut(u64, &Chunk, &[u8]);

/// Why a content could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file became shorter since its stat.
    #[error("the file shrank from {expected} bytes while it was read")]
    Shrank {
        /// Size in bytes before.
        expected: u64,
    },
    /// The file became longer since its stat.
    #[error("the file grew from {expected} to {found} bytes while it was read")]
    Grew {
        /// Size in bytes before.
        expected: u64,
        /// Size in bytes after.
        found: u64,
    },
    /// Another file is there, or this one was written to since its stat.
    #[error("the file was changed while it was read")]
    Changed,
    /// Over [`MAX_CONTENT`], or with more pages than a chunk list may have.
    #[error("the file is too large to travel: {0}")]
    TooLarge(ListError),
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hashed {
    /// The stat of the open file after it was read.
    pub stat: Stat,
    /// The content hash.
    pub content: Hash,
    /// The chunks of a content of [`CHUNKED_FROM`] bytes or more.
    pub chunks: Option<ChunkList>,
    /// The bytes themselves, if fewer than [`SMALL`].
    pub small: Option<Bytes>,
}

/// Reads files, one after the other, into one buffer of at most 2 MiB.
#[derive(Default, Debug)]
pub struct ContentReader {
    buffer: Vec<u8>,
}

impl ContentReader {
    /// A reader without a buffer: it grows with the first files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file whose stat was `expected`, each byte once.
    ///
    /// # Errors
    /// If it cannot be read, changed since the stat, or is too large.
    pub fn read(&mut self, file: &dyn ReadFile, expected: &Stat) -> Result<Hashed, ContentError> {
        self.read_each(file, expected, None)
    }

    /// As [`ContentReader::read`], and hands over each chunk of a large file as soon as it is cut: its
    /// offset, what it is, and its bytes (rule E20). If an error follows, they may be of no file.
    ///
    /// # Errors
    /// As [`ContentReader::read`].
    pub fn read_with(
        &mut self,
        file: &dyn ReadFile,
        expected: &Stat,
        each: Each<'_>,
    ) -> Result<Hashed, ContentError> {
        self.read_each(file, expected, Some(each))
    }

    fn read_each(
        &mut self,
        file: &dyn ReadFile,
        expected: &Stat,
        each: Option<Each<'_>>,
    ) -> Result<Hashed, ContentError> {
        let size = expected.size;
        if size > MAX_CONTENT {
            return Err(ContentError::TooLarge(ListError::ContentSize(size)));
        }
        let (content, chunks, small) = if size < CHUNKED_FROM {
            let bytes = self.fill(file, size, 0, 0)?;
            (Hash::of(bytes), None, (size < SMALL).then(|| Bytes::copy_from_slice(bytes)))
        } else {
            let chunks = match each {
                Some(each) => self.cut_while(file, size, 0, &mut |_| true, each)?,
                None if size >= parallel::FROM => parallel::cut_all(file, size)?,
                None => self.cut_while(file, size, 0, &mut |_| true, &mut |_, _, _| ())?,
            };
            let list = ChunkList::new(chunks).map_err(ContentError::TooLarge)?;
            (list.content(), Some(list), None)
        };
        let stat = file.stat()?;
        if stat.size > size {
            return Err(ContentError::Grew { expected: size, found: stat.size });
        }
        if stat.size < size {
            return Err(ContentError::Shrank { expected: size });
        }
        if !stat.same_contents(expected) {
            return Err(ContentError::Changed);
        }
        Ok(Hashed { stat, content, chunks, small })
    }

    /// Cuts from `start`, the first byte of a chunk, while there are bytes and `more` says so of where the next
    /// chunk begins.
    pub(super) fn cut_while(
        &mut self,
        file: &dyn ReadFile,
        size: u64,
        start: u64,
        more: &mut dyn FnMut(u64) -> bool,
        each: Each<'_>,
    ) -> Result<Vec<Chunk>, ContentError> {
        let mut chunks = Vec::new();
        // Where the first byte of the buffer lies in the file, and bytes in the buffer not yet cut.
        let (mut offset, mut kept) = (start, 0);
        let mut go_on = more(offset);
        while go_on && offset < size {
            let window = self.fill(file, size, offset, kept)?;
            let ends = offset + window.len() as u64 == size;
            let mut rest = window;
            while go_on && let Some(len) = cut(rest, ends) {
                let (bytes, behind) = rest.split_at(len);
                let chunk = Chunk::of(bytes);
                each(offset, &chunk, bytes);
                chunks.push(chunk);
                offset += len as u64;
                rest = behind;
                go_on = more(offset);
            }
            kept = rest.len();
            let filled = window.len();
            self.buffer.copy_within(filled - kept..filled, 0);
        }
        Ok(chunks)
    }

    /// Fills the buffer with the file's bytes from `offset`, of which the first `kept` are there already,
    /// as far as `size` and [`WINDOW`] allow.
    fn fill(
        &mut self,
        file: &dyn ReadFile,
        size: u64,
        offset: u64,
        kept: usize,
    ) -> Result<&[u8], ContentError> {
        let len = usize::try_from(size - offset).unwrap_or(WINDOW).min(WINDOW);
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        let read = file.read_at(&mut self.buffer[kept..len], offset + kept as u64)?;
        if read < len - kept {
            return Err(ContentError::Shrank { expected: size });
        }
        Ok(&self.buffer[..len])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;
    use tree::FileKind;

    use super::{
        super::cut::tests::{cut_all, noise},
        *,
    };

    /// A file in memory that counts what is read of it and can change when it was read.
    struct Memory {
        bytes: Vec<u8>,
        read: AtomicU64,
        after: Option<Stat>,
    }

    impl Memory {
        fn new(bytes: Vec<u8>) -> Self {
            Self { bytes, read: AtomicU64::new(0), after: None }
        }

        fn now(&self) -> Stat {
            let size = self.bytes.len() as u64;
            Stat { kind: FileKind::File, size, mtime: 5, ctime: 6, inode: 7, mode: 0o600 }
        }
    }

    impl ReadFile for Memory {
        fn stat(&self) -> io::Result<Stat> {
            Ok(self.after.unwrap_or_else(|| self.now()))
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let start =
                usize::try_from(offset).map_or(self.bytes.len(), |at| at.min(self.bytes.len()));
            let len = buf.len().min(self.bytes.len() - start);
            buf[..len].copy_from_slice(&self.bytes[start..start + len]);
            self.read.fetch_add(len as u64, Ordering::Relaxed);
            Ok(len)
        }
    }

    fn read(bytes: &[u8]) -> Hashed {
        let file = Memory::new(bytes.to_vec());
        let hashed = ContentReader::new().read(&file, &file.now()).expect("nothing changes");
        assert_eq!(file.read.load(Ordering::Relaxed), bytes.len() as u64, "each byte is read once");
        hashed
    }

    fn shared(a: &ChunkList, b: &ChunkList) -> usize {
        a.chunks().iter().filter(|chunk| b.chunks().contains(chunk)).count()
    }

    #[test]
    fn e20_small_contents_are_named_by_their_bytes_and_kept() {
        for size in [0, 1, 65_535, 65_536, (1 << 20) - 1] {
            let bytes = noise(3, size);
            let hashed = read(&bytes);
            assert_eq!(hashed.content, Hash::of(&bytes));
            assert_eq!(hashed.chunks, None);
            let kept = hashed.small.as_deref();
            assert_eq!(kept, (size < 65_536).then_some(&bytes[..]));
        }
    }

    #[test]
    fn e20_large_contents_are_cut_and_every_byte_is_read_once() {
        for size in [1 << 20, (2 << 20) + 1, 9_876_543] {
            let bytes = noise(4, size);
            let hashed = read(&bytes);
            let list = hashed.chunks.expect("is large");
            assert_eq!((hashed.content, hashed.small), (list.content(), None));
            assert_eq!(list.size(), size as u64);
            let lens: Vec<_> = list.chunks().iter().map(|chunk| chunk.len as usize).collect();
            assert_eq!(lens, cut_all(&bytes));
            let mut rest = &bytes[..];
            for (offset, chunk) in list.iter() {
                assert_eq!(offset, (size - rest.len()) as u64);
                let (of_chunk, behind) = rest.split_at(chunk.len as usize);
                assert!(chunk.verify(of_chunk));
                rest = behind;
            }
        }
    }

    #[test]
    fn e20_chunks_are_handed_over_while_the_file_is_read() {
        let file = Memory::new(noise(5, 6 << 20));
        let mut seen = Vec::new();
        let mut early = false;
        let hashed = ContentReader::new()
            .read_with(&file, &file.now(), &mut |offset, chunk, bytes| {
                assert!(chunk.verify(bytes));
                let start = usize::try_from(offset).expect("fits");
                assert_eq!(file.bytes[start..start + bytes.len()], *bytes);
                early |= file.read.load(Ordering::Relaxed) < 6 << 20;
                seen.push(*chunk);
            })
            .expect("nothing changes");
        assert_eq!(seen, hashed.chunks.expect("is large").chunks());
        assert!(early, "the first chunk waited for the last byte");
    }

    #[test]
    fn attack_29_a_file_that_changes_while_it_is_read_is_no_content() {
        for size in [10, 3 << 20] {
            let mut file = Memory::new(noise(6, size));
            let before = file.now();
            let mut reader = ContentReader::new();
            let longer = Stat { size: before.size + 1, ..before };
            let error = reader.read(&file, &longer).expect_err("is shorter");
            assert!(matches!(error, ContentError::Shrank { expected } if expected == longer.size));
            file.after = Some(longer);
            let error = reader.read(&file, &before).expect_err("grew");
            assert!(matches!(error, ContentError::Grew { found, .. } if found == longer.size));
            for other in [Stat { mtime: 6, ..before }, Stat { inode: 8, ..before }] {
                file.after = Some(other);
                let error = reader.read(&file, &before).expect_err("is another");
                assert!(matches!(error, ContentError::Changed));
            }
            file.after = Some(Stat { ctime: 9, mode: 0o644, ..before });
            assert!(reader.read(&file, &before).is_ok(), "a chmod or rename changes no content");
        }
    }

    #[test]
    fn files_beyond_the_limit_are_refused_unread() {
        let file = Memory::new(Vec::new());
        let huge = Stat { size: MAX_CONTENT + 1, ..file.now() };
        let error = ContentReader::new().read(&file, &huge).expect_err("too large");
        assert!(matches!(error, ContentError::TooLarge(_)));
    }

    #[test]
    fn a_reader_keeps_nothing_of_the_file_before() {
        let mut reader = ContentReader::new();
        let (large, small) = (Memory::new(noise(7, 5 << 20)), Memory::new(noise(8, 100)));
        let first = reader.read(&large, &large.now()).expect("nothing changes");
        assert_eq!(reader.read(&small, &small.now()).expect("nothing changes"), read(&small.bytes));
        assert_eq!(reader.read(&large, &large.now()).expect("nothing changes"), first);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
        #[test]
        fn e21_an_insert_changes_few_chunks(seed in any::<u8>(), at in 0usize..8 << 20, len in 1usize..2000) {
            let mut bytes = noise(seed, 8 << 20);
            let before = read(&bytes).chunks.expect("is large");
            bytes.splice(at..at, noise(seed.wrapping_add(1), len));
            let after = read(&bytes).chunks.expect("is large");
            prop_assert_ne!(after.content(), before.content());
            let changed = after.chunks().len() - shared(&after, &before);
            prop_assert!(changed <= 6, "{changed} of {} chunks changed", after.chunks().len());
        }
    }
}
