//! What one device's changes have put into history. Pure.

use std::collections::BTreeMap;

use wire::{RelPath, version::ReplicaId};

use super::Entry;

/// For each path, what was there before the first change of some replicas at or after a time (in milliseconds
/// since 1970) replaced or deleted it.
#[must_use]
pub fn candidates(history: &[Entry], by: &[ReplicaId], since: u64) -> BTreeMap<RelPath, Entry> {
    let by: Vec<u32> = by.iter().filter_map(|by| u32::try_from(by.0 >> 32).ok()).collect();
    let mut first: BTreeMap<RelPath, Entry> = BTreeMap::new();
    for entry in history {
        let is_theirs = entry.name.by.is_some_and(|one| by.contains(&one));
        if !is_theirs || entry.name.time < since {
            continue;
        }
        let known = first.get(&entry.name.path);
        if known.is_none_or(|known| entry.name.time < known.name.time) {
            first.insert(entry.name.path.clone(), entry.clone());
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use tree::{FileKind, Stat, apply::HistoryName, apply::Why};

    use super::*;

    fn entry(path: &str, time: u64, by: Option<u64>) -> Entry {
        let path = RelPath::parse(path).expect("a path");
        let name = HistoryName::new(&path, time, time << 32, Why::Replaced);
        let name = by.map_or(name.clone(), |by| name.by(by));
        let stat = Stat { kind: FileKind::File, size: 0, mtime: 0, ctime: 0, inode: 1, mode: 0 };
        Entry { place: name.place(), name, stat }
    }

    #[test]
    fn the_oldest_of_each_path_since_then_is_what_was_there_before() {
        let (theirs, others) = (7 << 32, 8 << 32);
        let history = [
            entry("a", 90, Some(theirs)),
            entry("a", 50, Some(theirs)),
            entry("a", 60, Some(others)),
            entry("a", 10, Some(theirs)),
            entry("b", 70, Some(others)),
            entry("c", 70, None),
            entry("d", 49, Some(theirs)),
        ];
        let found = candidates(&history, &[ReplicaId(1), ReplicaId(theirs | 5)], 50);
        let found: Vec<_> = found.iter().map(|(path, it)| (path.as_str(), it.name.time)).collect();
        assert_eq!(found, [("a", 50)]);
    }
}
