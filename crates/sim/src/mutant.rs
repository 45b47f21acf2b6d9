//! Six deliberate mistakes, to try the simulator itself: each must be found (`tests/mutations.rs`).
//!
//! They stand between the engine and its index, disk and links, so that the engine and everything shipped
//! know nothing of them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use folder::{
    content::ChunkList,
    index::{ChunkSource, Index, IndexError, Intent, Known, MemIndex, Row, Seal, Sealed, Totals},
};
use identity::DeviceId;
use tree::{Disk, Listing, Place, ReadFile, Stat, WriteFile};
use wire::{
    Hash, RelPath,
    record::{Body, SignedRecord},
    sync::{Fingerprint, Message},
};

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// Of two versions of a file the one with the later mtime is kept, whoever had seen which.
    NewestWins,
    /// What an exchange brought out is not compared with what was expected (rule E13).
    NoExchangeCheck,
    /// The index is committed before the swap is durable (rule E12).
    CommittedTooEarly,
    /// A directory that cannot be read is taken for an empty one (rule E8).
    MissingParentDeletes,
    /// An index that was set back goes on counting where it stands (rule E1).
    CounterReused,
    /// Records are not judged anew when the members of a group change (rule E7).
    MembersUnheard,
}

impl Mutation {
    /// Each.
    pub const EVERY: [Self; 6] = [
        Self::NewestWins,
        Self::NoExchangeCheck,
        Self::CommittedTooEarly,
        Self::MissingParentDeletes,
        Self::CounterReused,
        Self::MembersUnheard,
    ];

    /// What a device says with this mistake.
    pub(crate) fn said(mutation: Option<Self>, message: Message) -> Message {
        match (mutation, message) {
            (Some(Self::CounterReused), Message::Known { replica, .. }) => {
                Message::Known { replica, counter: 0, hash: Hash::default() }
            }
            (_, message) => message,
        }
    }
}

/// The simulator's index.
#[derive(Debug)]
pub(crate) struct SimIndex {
    inner: MemIndex,
    mutation: Option<Mutation>,
    /// How often it was told to keep something, by its name.
    pub(crate) metas: BTreeMap<String, u64>,
}

impl SimIndex {
    pub(crate) fn new(inner: MemIndex, mutation: Option<Mutation>) -> Self {
        Self { inner, mutation, metas: BTreeMap::new() }
    }

    /// The last counter that this index knows to be used, as 8 bytes.
    fn last_used(&mut self) -> Result<Option<Bytes>, IndexError> {
        let replica = self.inner.meta("replica")?.unwrap_or_default();
        let latest = self.inner.meta("latest")?.unwrap_or_default();
        let mut entries = latest.chunks_exact(48);
        let entry = entries.find(|entry| entry[..8] == replica[..]);
        Ok(Some(entry.map_or_else(
            || Bytes::copy_from_slice(&0u64.to_le_bytes()),
            |entry| Bytes::copy_from_slice(&entry[8..16]),
        )))
    }
}

/// The latest mtime of the files among some records.
fn newest(known: &[Known]) -> Option<i64> {
    let records = known.iter().filter_map(|known| SignedRecord::parse(known.bytes.clone()).ok());
    let files = records.filter(|it| matches!(it.record.body, Body::File { .. }));
    files.map(|it| it.record.mtime).max()
}

impl Index for SimIndex {
    fn row(&mut self, path: &RelPath) -> Result<Option<Row>, IndexError> {
        self.inner.row(path)
    }

    fn put(&mut self, path: &RelPath, row: &Row) -> Result<(), IndexError> {
        if self.mutation == Some(Mutation::NewestWins)
            && let Some(old) = self.inner.row(path)?
            && let (Some(before), Some(now)) = (newest(&old.known), newest(&row.known))
            && before > now
        {
            return self.inner.put(path, &Row { known: old.known, ..row.clone() });
        }
        self.inner.put(path, row)
    }

    fn children(&mut self, dir: &RelPath) -> Result<Vec<(String, Row)>, IndexError> {
        self.inner.children(dir)
    }

    fn has_children(&mut self, dir: &RelPath) -> Result<bool, IndexError> {
        self.inner.has_children(dir)
    }

    fn next_dir_below(
        &mut self,
        dir: &RelPath,
        last: Option<&RelPath>,
    ) -> Result<Option<RelPath>, IndexError> {
        self.inner.next_dir_below(dir, last)
    }

    fn bucket(&mut self, bucket: u16) -> Result<Vec<(RelPath, Vec<Known>)>, IndexError> {
        self.inner.bucket(bucket)
    }

    fn fingerprint(&self, bits: u8, prefix: u16) -> Fingerprint {
        self.inner.fingerprint(bits, prefix)
    }

    fn totals(&self) -> Totals {
        self.inner.totals()
    }

    fn by_content(&mut self, content: &Hash) -> Result<Vec<RelPath>, IndexError> {
        self.inner.by_content(content)
    }

    fn has_more_than(&mut self, content: &Hash, files: u64) -> Result<bool, IndexError> {
        self.inner.has_more_than(content, files)
    }

    fn by_inode(&mut self, inode: u64) -> Result<Vec<RelPath>, IndexError> {
        self.inner.by_inode(inode)
    }

    fn put_chunks(&mut self, content: &Hash, list: &ChunkList) -> Result<(), IndexError> {
        self.inner.put_chunks(content, list)
    }

    fn chunks(&mut self, content: &Hash) -> Result<Option<ChunkList>, IndexError> {
        self.inner.chunks(content)
    }

    fn chunk_source(&mut self, chunk: &Hash) -> Result<Option<ChunkSource>, IndexError> {
        self.inner.chunk_source(chunk)
    }

    fn put_intents(&mut self, intents: &[Intent]) -> Result<(), IndexError> {
        self.inner.put_intents(intents)
    }

    fn clear_intent(&mut self, path: &RelPath) -> Result<(), IndexError> {
        self.inner.clear_intent(path)
    }

    fn intents(&mut self) -> Result<Vec<Intent>, IndexError> {
        self.inner.intents()
    }

    fn meta(&mut self, key: &str) -> Result<Option<Bytes>, IndexError> {
        match (self.mutation, key) {
            (Some(Mutation::CounterReused), "counter") => self.last_used(),
            (Some(Mutation::CounterReused), "unused") => Ok(None),
            _ => self.inner.meta(key),
        }
    }

    fn put_meta(&mut self, key: &str, value: &[u8]) -> Result<(), IndexError> {
        *self.metas.entry(key.to_owned()).or_default() += 1;
        self.inner.put_meta(key, value)
    }

    fn locals(&mut self) -> Result<Vec<RelPath>, IndexError> {
        self.inner.locals()
    }

    fn conflict_names(&mut self) -> Result<Vec<RelPath>, IndexError> {
        self.inner.conflict_names()
    }

    fn put_seal(&mut self, seal: &Seal, records: &[(Hash, u32)]) -> Result<(), IndexError> {
        self.inner.put_seal(seal, records)
    }

    fn sealed(&mut self, record: &Hash) -> Result<Vec<Sealed>, IndexError> {
        self.inner.sealed(record)
    }

    fn seal(&mut self, seal: u64) -> Result<Option<Seal>, IndexError> {
        self.inner.seal(seal)
    }

    fn unseal(&mut self, record: &Hash) -> Result<(), IndexError> {
        self.inner.unseal(record)
    }

    fn sealers(&mut self) -> Result<Vec<DeviceId>, IndexError> {
        self.inner.sealers()
    }

    fn commit(&mut self) -> Result<(), IndexError> {
        self.inner.commit()
    }
}

/// A disk seen through a mistake, for one job.
pub(crate) struct MutantDisk<'a> {
    disk: &'a dyn Disk,
    mutation: Mutation,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The last look at each path.
    looked: HashMap<Place, Stat>,
    /// What an exchange is believed to have brought out.
    believed: HashMap<Place, Stat>,
}

impl<'a> MutantDisk<'a> {
    pub(crate) fn new(disk: &'a dyn Disk, mutation: Mutation) -> Self {
        Self { disk, mutation, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MutantDisk<'_> {
    fn stat(&self, at: &Place) -> io::Result<Option<Stat>> {
        if self.mutation != Mutation::NoExchangeCheck {
            return self.disk.stat(at);
        }
        if let Some(believed) = self.seen().believed.get(at) {
            return Ok(Some(*believed));
        }
        let found = self.disk.stat(at)?;
        if let (Place::Tree(_), Some(stat)) = (at, found) {
            self.seen().looked.insert(at.clone(), stat);
        }
        Ok(found)
    }

    fn list(&self, dir: &RelPath) -> io::Result<Listing> {
        match self.disk.list(dir) {
            Err(_) if self.mutation == Mutation::MissingParentDeletes => Ok(Listing::default()),
            other => other,
        }
    }

    fn open(&self, at: &Place) -> io::Result<Box<dyn ReadFile>> {
        self.disk.open(at)
    }

    fn open_own(&self, at: &Place) -> io::Result<Box<dyn WriteFile>> {
        self.disk.open_own(at)
    }

    fn read_link(&self, at: &Place) -> io::Result<String> {
        self.disk.read_link(at)
    }

    fn make_symlink(&self, at: &Place, target: &str, mtime: i64) -> io::Result<()> {
        self.disk.make_symlink(at, target, mtime)
    }

    fn make_dir(&self, at: &RelPath, mode: u32) -> io::Result<()> {
        self.disk.make_dir(at, mode)
    }

    fn make_own_dir(&self, at: &Place, mode: u32) -> io::Result<()> {
        self.disk.make_own_dir(at, mode)
    }

    fn remove_own_dir(&self, at: &Place) -> io::Result<()> {
        self.disk.remove_own_dir(at)
    }

    fn remove_dir(&self, at: &RelPath) -> io::Result<()> {
        self.disk.remove_dir(at)
    }

    fn rename_new(&self, from: &Place, to: &Place) -> io::Result<()> {
        self.seen().believed.remove(from);
        self.disk.rename_new(from, to)
    }

    fn exchange(&self, a: &Place, b: &Place) -> io::Result<()> {
        self.disk.exchange(a, b)?;
        let mut seen = self.seen();
        if let Some(stat) = seen.looked.get(a).copied() {
            seen.believed.insert(b.clone(), stat);
        }
        Ok(())
    }

    fn unlink_own(&self, at: &Place) -> io::Result<()> {
        self.disk.unlink_own(at)
    }

    fn set_meta(&self, at: &RelPath, inode: u64, mode: u32, mtime: Option<i64>) -> io::Result<()> {
        self.disk.set_meta(at, inode, mode, mtime)
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        if self.mutation == Mutation::CommittedTooEarly {
            return Ok(());
        }
        self.disk.sync_dir(dir)
    }

    fn sync_all(&self) -> io::Result<()> {
        if self.mutation == Mutation::CommittedTooEarly {
            return Ok(());
        }
        self.disk.sync_all()
    }

    fn list_history(&self, dir: &RelPath) -> io::Result<Listing> {
        self.disk.list_history(dir)
    }

    fn remove_history_dir(&self, dir: &RelPath) -> io::Result<()> {
        self.disk.remove_history_dir(dir)
    }

    fn own_files(&self) -> io::Result<Vec<(Place, Stat)>> {
        self.disk.own_files()
    }

    fn free_space(&self) -> io::Result<u64> {
        self.disk.free_space()
    }

    fn total_space(&self) -> io::Result<u64> {
        self.disk.total_space()
    }
}
