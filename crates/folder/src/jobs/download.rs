//! Downloads of large contents: what is there already, and what comes.

use std::{io, ops::Range};

use tree::{Disk, Place, WriteFile};
use wire::{Hash, RelPath};

use super::{ChunkPlan, Failure, WriteOutcome, WritePiece};
use crate::compress;

pub(super) fn assemble(
    disk: &dyn Disk,
    content: Hash,
    size: u64,
    plan: &[ChunkPlan],
) -> io::Result<Vec<bool>> {
    let place = Place::Partial(content);
    let resumed = disk.stat(&place)?.is_some_and(|stat| stat.size > 0);
    let partial = disk.open_own(&place)?;
    if !resumed && disk.free_space()? < size {
        return Err(io::ErrorKind::StorageFull.into());
    }
    partial.set_len(size)?;
    let mut buffer = Vec::new();
    let mut source: Option<(RelPath, Box<dyn tree::ReadFile>)> = None;
    let mut here = Vec::with_capacity(plan.len());
    for ChunkPlan { offset, chunk, source: from } in plan {
        buffer.resize(chunk.len as usize, 0);
        let mut have = resumed
            && partial.read_at(&mut buffer, *offset)? == buffer.len()
            && chunk.verify(&buffer);
        if let (false, Some((path, at))) = (have, from) {
            if source.as_ref().is_none_or(|(opened, _)| opened != path) {
                source =
                    disk.open(&Place::Tree(path.clone())).ok().map(|file| (path.clone(), file));
            }
            // Rule E20: what is copied is hashed while it is copied.
            let read = source.as_ref().map(|(_, file)| file.read_at(&mut buffer, *at));
            if read.is_some_and(|read| read.is_ok_and(|got| got == buffer.len()))
                && chunk.verify(&buffer)
            {
                partial.write_at(&buffer, *offset)?;
                have = true;
            }
        }
        here.push(have);
    }
    Ok(here)
}

pub(super) fn write_chunks(
    disk: &dyn Disk,
    content: Hash,
    pieces: Vec<WritePiece>,
) -> WriteOutcome {
    let mut outcome = WriteOutcome::default();
    let partial = match disk.open_own(&Place::Partial(content)) {
        Ok(partial) => Some(partial),
        Err(error) => {
            outcome.error = Some(Failure::of(&error));
            None
        }
    };
    // What was written last and follows each other.
    let mut fresh = 0..0;
    for WritePiece { chunk, places, data } in pieces {
        outcome.bytes += u64::from(chunk.len);
        let Some(partial) = &partial else { continue };
        let bytes = match compress::open(data) {
            Ok(bytes) if chunk.verify(&bytes) => bytes,
            Ok(_) | Err(_) => {
                outcome.wrong.push((chunk, places));
                continue;
            }
        };
        for offset in places {
            match partial.write_at(&bytes, offset) {
                Ok(()) => {
                    outcome.written += u64::from(chunk.len);
                    if fresh.end != offset {
                        begin_sync(&**partial, &fresh);
                        fresh.start = offset;
                    }
                    fresh.end = offset + u64::from(chunk.len);
                }
                Err(error) => outcome.error = Some(Failure::of(&error)),
            }
        }
    }
    if let Some(partial) = &partial {
        begin_sync(&**partial, &fresh);
    }
    outcome
}

/// Rule E20: not all is to be left for the end.
fn begin_sync(partial: &dyn WriteFile, fresh: &Range<u64>) {
    if !fresh.is_empty() {
        partial.begin_sync(fresh.start, fresh.end - fresh.start);
    }
}
