//! Cutting one large file on several processors, into the same chunks as by one.
//!
//! Where a chunk ends depends only on what follows its first byte. So the file is parted into segments, and each
//! is cut as if a chunk began with it. The chunks of the file before run into the segment for a little while; as
//! soon as one of them ends where one of the segment's does, all that follow are the same.

use std::{
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tree::ReadFile;

use super::{Chunk, ContentError, ContentReader};

/// Files of this many bytes and more are cut on several processors (64 MiB).
pub(super) const FROM: u64 = 2 * SEGMENT;
/// Bytes that are cut in one go (32 MiB): many chunks, so that little is cut twice.
const SEGMENT: u64 = 32 << 20;
/// Threads for one file, at most: others read, too.
const MAX_THREADS: usize = 4;

/// The chunks of a file of `size` bytes.
pub(super) fn cut_all(file: &dyn ReadFile, size: u64) -> Result<Vec<Chunk>, ContentError> {
    cut_by(file, size, SEGMENT)
}

fn cut_by(file: &dyn ReadFile, size: u64, segment: u64) -> Result<Vec<Chunk>, ContentError> {
    let starts = |number: u64| number.saturating_mul(segment);
    let segments = size.div_ceil(segment);
    let next = AtomicU64::new(0);
    let cut = Mutex::new(Vec::new());
    let work = || -> Result<(), ContentError> {
        let mut reader = ContentReader::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= segments {
                return Ok(());
            }
            let (start, end) = (starts(number), starts(number + 1));
            let chunks = cut_from(&mut reader, file, size, start, &mut |offset| offset < end);
            // Who meets an error ends the work of the others, too.
            let chunks = chunks.inspect_err(|_| next.store(segments, Ordering::Relaxed))?;
            cut.lock().unwrap_or_else(PoisonError::into_inner).push((number, chunks));
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    thread::scope(|scope| {
        // Where there can be no more threads, there are fewer.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mut result = work();
        for helper in helpers {
            match helper.join() {
                Ok(helped) => result = result.and(helped),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    let mut cut = cut.into_inner().unwrap_or_else(PoisonError::into_inner);
    cut.sort_unstable_by_key(|(number, _)| *number);
    let mut all = Vec::new();
    let mut reader = ContentReader::new();
    // Where the next chunk of the file begins.
    let mut offset = 0;
    for (number, chunks) in cut {
        let (mut at, end) = (starts(number), starts(number + 1));
        let mut chunks = chunks.into_iter();
        let mut meets = |offset: u64| {
            while at < offset
                && let Some(chunk) = chunks.next()
            {
                at += u64::from(chunk.len);
            }
            at == offset
        };
        let mut apart = |offset: u64| offset < end && !meets(offset);
        let own = cut_from(&mut reader, file, size, offset, &mut apart)?;
        add(&mut all, &mut offset, own);
        if at == offset {
            add(&mut all, &mut offset, chunks);
        }
    }
    Ok(all)
}

fn cut_from(
    reader: &mut ContentReader,
    file: &dyn ReadFile,
    size: u64,
    start: u64,
    more: &mut dyn FnMut(u64) -> bool,
) -> Result<Vec<Chunk>, ContentError> {
    reader.cut_while(file, size, start, more, &mut |_, _, _| ())
}

/// Adds chunks to those before, of which the last one ended at `offset`.
fn add(all: &mut Vec<Chunk>, offset: &mut u64, chunks: impl IntoIterator<Item = Chunk>) {
    for chunk in chunks {
        *offset += u64::from(chunk.len);
        all.push(chunk);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;
    use tree::Stat;

    use super::{super::cut::tests::noise, *};

    struct Memory(Vec<u8>);

    impl ReadFile for Memory {
        fn stat(&self) -> io::Result<Stat> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..));
            let rest = rest.unwrap_or_default();
            let len = buf.len().min(rest.len());
            buf[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }
    }

    fn by_one(file: &Memory) -> Vec<Chunk> {
        let size = file.0.len() as u64;
        cut_from(&mut ContentReader::new(), file, size, 0, &mut |_| true).expect("memory")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_chunks_are_those_of_one_reader(
            seed: u8, size in 1_usize << 20..12 << 20, segment in 1_u64..6 << 20, same in 0_usize..4 << 20,
        ) {
            let mut bytes = noise(seed, size);
            // A stretch of one byte, in which no segment meets the file's own chunks by its contents.
            let end = (same * 2).min(size);
            bytes.get_mut(same.min(end)..end).expect("within").fill(7);
            let file = Memory(bytes);
            let cut = cut_by(&file, size as u64, segment.max(64 << 10)).expect("memory");
            prop_assert_eq!(cut, by_one(&file));
        }
    }

    #[test]
    fn a_file_that_ends_too_early_is_said_to() {
        let file = Memory(noise(1, 3 << 20));
        let cut = cut_by(&file, 4 << 20, 1 << 20);
        assert!(matches!(cut, Err(ContentError::Shrank { expected }) if expected == 4 << 20));
    }
}
