//! The index in memory, for the simulator and for tests of the engine.
//!
//! [`MemStore`] stands for the file on disk, [`MemIndex`] for the connection to it: what was not
//! committed when a `MemIndex` is dropped never happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use identity::DeviceId;
use wire::{Hash, RelPath, sync::Fingerprint};

use super::{
    ChunkSource, Here, Index, IndexError, Intent, Known, MAX_FOUND, Row, Seal, Sealed, Totals,
    below, bucket_of, inode_key, split, sums::Sums,
};
use crate::content::ChunkList;

/// What of an index is durable. Clones are the same store; [`MemStore::copy`] makes another.
#[derive(Clone, Default, Debug)]
pub struct MemStore(Arc<Mutex<Durable>>);

/// A state, and what was changed and made durable since. It is needed only if the store is opened again.
#[derive(Clone, Default, Debug)]
struct Durable {
    state: State,
    since: Vec<Change>,
}

impl MemStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of its own with the same contents: a copied folder, a backup (rule E1).
    #[must_use]
    pub fn copy(&self) -> Self {
        let durable = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Self(Arc::new(Mutex::new(durable.clone())))
    }

    /// What is durable.
    fn state(&self) -> State {
        // A change is applied by code that does not panic half-way; a poisoned lock is still whole.
        let mut durable = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Durable { state, since } = &mut *durable;
        for change in since.drain(..) {
            // It could be made in the open index: it can be made here.
            drop(state.apply(change));
        }
        state.clone()
    }
}

/// An open index over a [`MemStore`]. A clone shares the store.
#[derive(Clone, Debug)]
pub struct MemIndex {
    store: MemStore,
    live: State,
    journal: Vec<Change>,
}

#[derive(Clone, Default, Debug)]
struct State {
    rows: BTreeMap<Box<str>, BTreeMap<Box<str>, Row>>,
    buckets: BTreeMap<u16, BTreeSet<RelPath>>,
    contents: BTreeMap<Hash, BTreeSet<RelPath>>,
    inodes: BTreeMap<u64, BTreeSet<RelPath>>,
    lists: BTreeMap<Hash, ChunkList>,
    chunks: BTreeMap<Hash, BTreeSet<ChunkSource>>,
    intents: BTreeMap<RelPath, Intent>,
    meta: BTreeMap<String, Bytes>,
    locals: BTreeSet<RelPath>,
    seals: BTreeMap<u64, Seal>,
    sealed: BTreeMap<Hash, Vec<Sealed>>,
    next_seal: u64,
    sums: Sums,
    totals: Totals,
}

#[derive(Clone, Debug)]
enum Change {
    Row(RelPath, Row),
    Chunks(Hash, ChunkList),
    Intent(Intent),
    NoIntent(RelPath),
    Meta(String, Bytes),
    Seal(Seal, Vec<(Hash, u32)>),
    Unseal(Hash),
}

fn insert<K: Ord>(map: &mut BTreeMap<K, BTreeSet<RelPath>>, key: K, path: &RelPath) {
    map.entry(key).or_default().insert(path.clone());
}

/// True if nothing is left under the key.
fn remove<K: Ord>(map: &mut BTreeMap<K, BTreeSet<RelPath>>, key: &K, path: &RelPath) -> bool {
    let Some(paths) = map.get_mut(key) else { return true };
    paths.remove(path);
    let empty = paths.is_empty();
    if empty {
        map.remove(key);
    }
    empty
}

fn first<K: Ord>(map: &BTreeMap<K, BTreeSet<RelPath>>, key: &K) -> Vec<RelPath> {
    map.get(key).into_iter().flatten().take(MAX_FOUND).cloned().collect()
}

impl State {
    fn row(&self, path: &RelPath) -> Option<&Row> {
        let (dir, name) = split(path).ok()?;
        self.rows.get(dir)?.get(name)
    }

    fn apply(&mut self, change: Change) -> Result<(), IndexError> {
        match change {
            Change::Row(path, row) => self.put(&path, row)?,
            Change::Chunks(content, list) => self.put_chunks(content, list),
            Change::Intent(intent) => {
                self.intents.insert(intent.path.clone(), intent);
            }
            Change::NoIntent(path) => {
                self.intents.remove(&path);
            }
            Change::Meta(key, value) => {
                self.meta.insert(key, value);
            }
            Change::Seal(seal, records) => self.put_seal(seal, &records),
            Change::Unseal(record) => self.unseal(&record),
        }
        Ok(())
    }

    fn put(&mut self, path: &RelPath, row: Row) -> Result<(), IndexError> {
        let (dir, name) = split(path)?;
        let slot = self.rows.get_mut(dir).and_then(|names| names.get_mut(name));
        let old = slot.map(std::mem::take).unwrap_or_default();
        if old.known != row.known {
            self.known_changes(path, &old.known, &row.known);
        }
        match (old.local.is_some(), row.local.is_some()) {
            (true, false) => drop(self.locals.remove(path)),
            (false, true) => drop(self.locals.insert(path.clone())),
            _ => {}
        }
        self.here_changes(path, old.here.as_ref(), row.here.as_ref());
        match self.rows.get_mut(dir) {
            Some(names) if row.is_empty() => {
                names.remove(name);
                if names.is_empty() {
                    self.rows.remove(dir);
                }
            }
            Some(names) => match names.get_mut(name) {
                Some(slot) => *slot = row,
                None => drop(names.insert(name.into(), row)),
            },
            None if row.is_empty() => {}
            None => drop(self.rows.insert(dir.into(), BTreeMap::from([(name.into(), row)]))),
        }
        Ok(())
    }

    fn known_changes(&mut self, path: &RelPath, old: &[Known], new: &[Known]) {
        let bucket = bucket_of(path);
        let hashes: Vec<Hash> = old.iter().map(|known| known.hash).collect();
        self.sums.change(bucket, &hashes, new);
        for gone in hashes.iter().filter(|old| new.iter().all(|new| new.hash != **old)) {
            self.unseal(gone);
        }
        if new.is_empty() {
            remove(&mut self.buckets, &bucket, path);
        } else if old.is_empty() {
            insert(&mut self.buckets, bucket, path);
        }
    }

    fn here_changes(&mut self, path: &RelPath, old: Option<&Here>, new: Option<&Here>) {
        self.totals.count(old, false);
        self.totals.count(new, true);
        let (inode, gone) = (inode_key(new), inode_key(old));
        if inode != gone {
            if let Some(gone) = gone {
                remove(&mut self.inodes, &gone, path);
            }
            if let Some(inode) = inode {
                insert(&mut self.inodes, inode, path);
            }
        }
        let content = new.and_then(|here| here.content);
        let gone = old.and_then(|here| here.content);
        if content != gone {
            if let Some(content) = content {
                insert(&mut self.contents, content, path);
            }
            if let Some(gone) = gone
                && remove(&mut self.contents, &gone, path)
            {
                self.remove_chunks(&gone);
            }
        }
    }

    fn put_seal(&mut self, seal: Seal, records: &[(Hash, u32)]) {
        self.next_seal += 1;
        let (number, author) = (self.next_seal, seal.author);
        for (record, place) in records {
            let sealed = Sealed { seal: number, place: *place, author };
            self.sealed.entry(*record).or_default().push(sealed);
        }
        if !records.is_empty() {
            self.seals.insert(number, seal);
        }
    }

    fn unseal(&mut self, record: &Hash) {
        for gone in self.sealed.remove(record).unwrap_or_default() {
            if !self.sealed.values().flatten().any(|sealed| sealed.seal == gone.seal) {
                self.seals.remove(&gone.seal);
            }
        }
    }

    fn put_chunks(&mut self, content: Hash, list: ChunkList) {
        self.remove_chunks(&content);
        for (offset, chunk) in list.iter() {
            let source = ChunkSource { content, offset, len: chunk.len };
            self.chunks.entry(chunk.hash).or_default().insert(source);
        }
        self.lists.insert(content, list);
    }

    fn remove_chunks(&mut self, content: &Hash) {
        let Some(list) = self.lists.remove(content) else { return };
        for (offset, chunk) in list.iter() {
            let source = ChunkSource { content: *content, offset, len: chunk.len };
            if let Some(sources) = self.chunks.get_mut(&chunk.hash) {
                sources.remove(&source);
                if sources.is_empty() {
                    self.chunks.remove(&chunk.hash);
                }
            }
        }
    }
}

impl MemIndex {
    /// Opens what is durable in a store.
    #[must_use]
    pub fn open(store: &MemStore) -> Self {
        Self { store: store.clone(), live: store.state(), journal: Vec::new() }
    }

    /// How many signatures are kept.
    #[must_use]
    pub fn seals(&self) -> usize {
        self.live.seals.len()
    }

    fn change(&mut self, change: Change) -> Result<(), IndexError> {
        self.live.apply(change.clone())?;
        self.journal.push(change);
        Ok(())
    }
}

impl Index for MemIndex {
    fn row(&mut self, path: &RelPath) -> Result<Option<Row>, IndexError> {
        Ok(self.live.row(path).cloned())
    }

    fn put(&mut self, path: &RelPath, row: &Row) -> Result<(), IndexError> {
        self.change(Change::Row(path.clone(), row.clone()))
    }

    fn children(&mut self, dir: &RelPath) -> Result<Vec<(String, Row)>, IndexError> {
        let names = self.live.rows.get(dir.as_str()).into_iter().flatten();
        Ok(names.map(|(name, row)| (name.to_string(), row.clone())).collect())
    }

    fn has_children(&mut self, dir: &RelPath) -> Result<bool, IndexError> {
        Ok(self.live.rows.contains_key(dir.as_str()))
    }

    fn next_dir_below(
        &mut self,
        dir: &RelPath,
        last: Option<&RelPath>,
    ) -> Result<Option<RelPath>, IndexError> {
        let (before, end) = below(dir);
        let after = last.map_or(before.as_str(), RelPath::as_str);
        let range = (Bound::Excluded(after), Bound::Excluded(end.as_str()));
        let next = self.live.rows.range::<str, _>(range).next();
        Ok(next.and_then(|(parent, _)| RelPath::parse(parent).ok()))
    }

    fn bucket(&mut self, bucket: u16) -> Result<Vec<(RelPath, Vec<Known>)>, IndexError> {
        let paths = self.live.buckets.get(&bucket).into_iter().flatten();
        Ok(paths
            .filter_map(|path| Some((path.clone(), self.live.row(path)?.known.clone())))
            .collect())
    }

    fn fingerprint(&self, bits: u8, prefix: u16) -> Fingerprint {
        self.live.sums.fingerprint(bits, prefix)
    }

    fn totals(&self) -> Totals {
        self.live.totals
    }

    fn by_content(&mut self, content: &Hash) -> Result<Vec<RelPath>, IndexError> {
        Ok(first(&self.live.contents, content))
    }

    fn has_more_than(&mut self, content: &Hash, files: u64) -> Result<bool, IndexError> {
        Ok(self.live.contents.get(content).is_some_and(|paths| paths.len() as u64 > files))
    }

    fn by_inode(&mut self, inode: u64) -> Result<Vec<RelPath>, IndexError> {
        Ok(first(&self.live.inodes, &inode))
    }

    fn put_chunks(&mut self, content: &Hash, list: &ChunkList) -> Result<(), IndexError> {
        self.change(Change::Chunks(*content, list.clone()))
    }

    fn chunks(&mut self, content: &Hash) -> Result<Option<ChunkList>, IndexError> {
        Ok(self.live.lists.get(content).cloned())
    }

    fn chunk_source(&mut self, chunk: &Hash) -> Result<Option<ChunkSource>, IndexError> {
        Ok(self.live.chunks.get(chunk).and_then(|sources| sources.first().copied()))
    }

    fn put_intents(&mut self, intents: &[Intent]) -> Result<(), IndexError> {
        intents.iter().try_for_each(|intent| {
            split(&intent.path)?;
            self.change(Change::Intent(intent.clone()))
        })
    }

    fn clear_intent(&mut self, path: &RelPath) -> Result<(), IndexError> {
        self.change(Change::NoIntent(path.clone()))
    }

    fn intents(&mut self) -> Result<Vec<Intent>, IndexError> {
        Ok(self.live.intents.values().cloned().collect())
    }

    fn meta(&mut self, key: &str) -> Result<Option<Bytes>, IndexError> {
        Ok(self.live.meta.get(key).cloned())
    }

    fn put_meta(&mut self, key: &str, value: &[u8]) -> Result<(), IndexError> {
        self.change(Change::Meta(key.to_owned(), Bytes::copy_from_slice(value)))
    }

    fn locals(&mut self) -> Result<Vec<RelPath>, IndexError> {
        Ok(self.live.locals.iter().cloned().collect())
    }

    fn conflict_names(&mut self) -> Result<Vec<RelPath>, IndexError> {
        let mut found = Vec::new();
        for (dir, rows) in &self.live.rows {
            let here =
                rows.iter().filter(|(name, row)| name.contains(".conflict-") && row.here.is_some());
            for (name, _) in here {
                found.push(super::joined(dir, name)?);
            }
        }
        Ok(found)
    }

    fn put_seal(&mut self, seal: &Seal, records: &[(Hash, u32)]) -> Result<(), IndexError> {
        self.change(Change::Seal(seal.clone(), records.to_vec()))
    }

    fn sealed(&mut self, record: &Hash) -> Result<Vec<Sealed>, IndexError> {
        Ok(self.live.sealed.get(record).cloned().unwrap_or_default())
    }

    fn seal(&mut self, seal: u64) -> Result<Option<Seal>, IndexError> {
        Ok(self.live.seals.get(&seal).cloned())
    }

    fn unseal(&mut self, record: &Hash) -> Result<(), IndexError> {
        self.change(Change::Unseal(*record))
    }

    fn sealers(&mut self) -> Result<Vec<DeviceId>, IndexError> {
        let authors: BTreeSet<_> = self.live.seals.values().map(|seal| seal.author).collect();
        Ok(authors.into_iter().collect())
    }

    fn commit(&mut self) -> Result<(), IndexError> {
        let mut durable = self.store.0.lock().unwrap_or_else(PoisonError::into_inner);
        durable.since.append(&mut self.journal);
        Ok(())
    }
}
