//! History as a source of contents (rule E15).

use std::{collections::HashMap, io};

use tree::{Disk, FileKind, Place};
use wire::{Hash, RelPath};

use crate::{
    content::{CHUNKED_FROM, ChunkList, ContentReader},
    history::{self, Entry},
};

/// Most files of a size that are read to see whether they have a content, where their names do not tell.
const MAX_READ: usize = 16;

/// Finds out where in history contents may be.
pub(super) fn find(disk: &dyn Disk, wanted: Vec<(Hash, u64)>) -> Vec<(Hash, Option<Place>)> {
    let entries = match history::list(disk, &RelPath::root()) {
        Ok(found) => found.entries,
        Err(error) => {
            tracing::warn!(%error, "history cannot be looked through for contents that lack");
            Vec::new()
        }
    };
    let mut by_size: HashMap<u64, Vec<&Entry>> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.stat.kind == FileKind::File) {
        by_size.entry(entry.stat.size).or_default().push(entry);
    }
    let mut reader = ContentReader::new();
    let mut find = |content: &Hash, size: u64| -> Option<Place> {
        let entries = by_size.get(&size)?;
        let number = u32::try_from(content.head() >> 32).unwrap_or(0);
        let named = entries.iter().find(|entry| entry.name.content == number);
        // The names of edits that lost say nothing of their contents.
        let mut others = entries.iter().filter(|entry| !entry.name.why.is_superseded());
        let has = |entry: &&&Entry| has_content(disk, &mut reader, entry, content);
        let found = named.or_else(|| others.by_ref().take(MAX_READ).find(has));
        found.map(|entry| entry.at())
    };
    let found = wanted.into_iter().map(|(content, size)| (content, find(&content, size)));
    found.collect()
}

fn has_content(disk: &dyn Disk, reader: &mut ContentReader, entry: &Entry, content: &Hash) -> bool {
    let file = disk.open(&entry.at()).ok();
    let read = file.and_then(|file| reader.read(&*file, &entry.stat).ok());
    read.is_some_and(|read| read.content == *content)
}

/// Makes a finished download of what is at a place, and returns its chunks; `None` if it is not what was wanted.
pub(super) fn take(
    disk: &dyn Disk,
    content: Hash,
    size: u64,
    source: &Place,
) -> io::Result<Option<ChunkList>> {
    let mut reader = ContentReader::new();
    let Ok(file) = disk.open(source) else { return Ok(None) };
    let stat = file.stat()?;
    if stat.size != size || size < CHUNKED_FROM {
        return Ok(None);
    }
    if !reader.read(&*file, &stat).is_ok_and(|read| read.content == content) {
        return Ok(None);
    }
    if disk.free_space()? < size {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let partial = disk.open_own(&Place::Partial(content))?;
    partial.set_len(size)?;
    let mut failed = Ok(());
    let read = reader.read_with(&*file, &stat, &mut |offset, _, bytes| {
        if failed.is_ok() {
            failed = partial.write_at(bytes, offset);
        }
    });
    failed?;
    let read = read.ok().filter(|read| read.content == content);
    Ok(read.and_then(|read| read.chunks))
}
