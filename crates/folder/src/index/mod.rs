//! What a folder remembers: one row per path, apart what is known and what is here (rule E8).
//!
//! [`Index`] is the small synchronous door; one thread owns it. [`SqliteIndex`] keeps it in a file,
//! [`MemIndex`] in memory for the simulator, with the same meaning of "durable". Records are opaque
//! bytes here: what they say, and which of them wins, is the engine's business.

use bytes::Bytes;
use identity::DeviceId;
use tree::{FileKind, Stat};
use wire::{
    Hash, RelPath,
    sync::Fingerprint,
    version::{Dot, VersionVector},
};

use crate::content::ChunkList;

mod codec;
mod columns;
mod contents;
mod dirs;
mod file;
mod intents;
mod mem;
mod seals;
mod sqlite;
mod sums;

#[doc(hidden)]
pub use codec::check_rows;
pub use file::set_aside;
pub use mem::{MemIndex, MemStore};
pub use seals::{Lists, Seal, Sealed};
pub use sqlite::SqliteIndex;

/// Most paths that [`Index::by_content`] and [`Index::by_inode`] return.
pub const MAX_FOUND: usize = 8;

/// Why the index could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A newer version of this program wrote the index.
    #[error("the folder's index has format {found}, this program knows up to {known}: update kin")]
    TooNew {
        /// Format of the file.
        found: u32,
        /// Newest format known here.
        known: u32,
    },
    /// The file is not an index or is damaged. The engine sets it aside and starts anew (rule E5).
    #[error("the folder's index is damaged: {0}")]
    Corrupt(String),
    /// Another process holds the index.
    #[error("the folder's index is in use by another process")]
    Busy,
    /// The disk is full or failing. Nothing since the last commit is durable.
    #[error("the folder's index cannot be written: {0}")]
    Disk(String),
    /// An earlier error undid what was not committed: the index must be opened again, as after a crash.
    #[error("the folder's index must be opened again after an error")]
    Failed,
    /// The folder's root was given where a path with a row is needed.
    #[error("the folder's root has no row in the index")]
    Root,
}

/// What the index holds for one path.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Row {
    /// The path's maximal records (rule E2), in the order the engine gave them.
    pub known: Vec<Known>,
    /// A change made here that is not among the records that devices share, because this device does not
    /// write to the folder: a record of its own that never leaves it.
    pub local: Option<Known>,
    /// What is materialised here; `None`: nothing.
    pub here: Option<Here>,
}

impl Row {
    /// True if there is nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.local.is_none() && self.here.is_none()
    }
}

/// A record as its author wrote it. Who signed for it is kept apart ([`Seal`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// The record's bytes.
    pub bytes: Bytes,
    /// The record's hash.
    pub hash: Hash,
}

/// What this device last put, or found, at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Here {
    /// The stat read back then.
    pub stat: Stat,
    /// Content hash of a file.
    pub content: Option<Hash>,
    /// Target of a symbolic link.
    pub target: Option<String>,
    /// What the content here has seen: the version it was made from.
    pub base: VersionVector,
    /// [`Hash::head`] of the record whose contents and metadata are shown; 0 for none.
    pub shown: u64,
    /// The last change of the content here (rule E3); `None` until a record says.
    pub content_dot: Option<Dot>,
    /// True if the file was changed so shortly before its stat that a later change could hide in the
    /// same mtime: the next scan hashes it again.
    pub racy: bool,
    /// True for a directory that exists only because something below it does (rule E9).
    pub implied: bool,
}

/// What sync is about to do to a path, written down before it is done (rule E12).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intent {
    /// The path.
    pub path: RelPath,
    /// Number of the file in `.kin/swap` that goes in, or that will take what comes out.
    pub swap: u64,
    /// [`wire::record::Body::content`] of what is coming; all zero for a deletion or a directory.
    pub content: Hash,
    /// What is being done.
    pub kind: IntentKind,
}

impl Intent {
    /// True if a directory is to be made.
    #[must_use]
    pub fn makes_dir(&self) -> bool {
        matches!(self.kind, IntentKind::Create | IntentKind::Replace)
            && self.content == Hash::default()
    }
}

/// What an [`Intent`] does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum IntentKind {
    /// Something new is moved in without replacing.
    Create,
    /// What is there is exchanged.
    Replace,
    /// What is there is moved into `.kin`.
    Delete,
    /// What is there gets other metadata.
    Meta,
}

/// What is materialised in the whole folder.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Files and symbolic links.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Bytes in files.
    pub bytes: u64,
}

impl Totals {
    /// Counts one row's `here`, or takes it back.
    fn count(&mut self, here: Option<&Here>, add: bool) {
        let Some(here) = here else { return };
        let step = |value: &mut u64, by: u64| {
            *value = if add { value.saturating_add(by) } else { value.saturating_sub(by) };
        };
        match here.stat.kind {
            FileKind::Dir => step(&mut self.dirs, 1),
            FileKind::File | FileKind::Symlink => {
                step(&mut self.files, 1);
                step(&mut self.bytes, here.stat.size);
            }
            FileKind::Special | FileKind::MountPoint => (),
        }
    }
}

/// Where a chunk can be read on this device. It may be stale: verify what is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChunkSource {
    /// Content hash of a file that holds the chunk: [`Index::by_content`] says where it lies.
    pub content: Hash,
    /// The chunk's first byte in it.
    pub offset: u64,
    /// The chunk's length in bytes.
    pub len: u32,
}

/// A folder's memory, used by one thread.
///
/// Changes are visible at once through this value and durable, all together, after
/// [`commit`](Index::commit). After an error in any changing method nothing since the last commit can be
/// relied on: every later call fails with [`IndexError::Failed`] until the index is opened again.
///
/// All methods fail with [`IndexError::Corrupt`] where stored bytes make no sense and with
/// [`IndexError::Disk`] where the disk fails.
pub trait Index: Send {
    /// The row of a path; the root has none.
    ///
    /// # Errors
    /// See [`Index`].
    fn row(&mut self, path: &RelPath) -> Result<Option<Row>, IndexError>;

    /// Replaces the row of a path; an empty row removes it. Fingerprints, totals and look-ups follow. The
    /// chunk list of a content goes with the last row that has it here, and who signed for a record goes
    /// with the record.
    ///
    /// # Errors
    /// [`IndexError::Root`] for the root, otherwise see [`Index`].
    fn put(&mut self, path: &RelPath, row: &Row) -> Result<(), IndexError>;

    /// Rows directly in a directory, sorted by name (bytewise).
    ///
    /// # Errors
    /// See [`Index`].
    fn children(&mut self, dir: &RelPath) -> Result<Vec<(String, Row)>, IndexError>;

    /// True if any row, also of a tombstone, lies directly in a directory. Costs one look-up.
    ///
    /// # Errors
    /// See [`Index`].
    fn has_children(&mut self, dir: &RelPath) -> Result<bool, IndexError>;

    /// The next directory (bytewise) below a directory, at any depth, that rows lie directly in; the first
    /// one if `last` is `None`. It need not have a row itself. Costs one look-up.
    ///
    /// # Errors
    /// See [`Index`].
    fn next_dir_below(
        &mut self,
        dir: &RelPath,
        last: Option<&RelPath>,
    ) -> Result<Option<RelPath>, IndexError>;

    /// True if any row lies in a directory, at any depth. Costs one look-up.
    ///
    /// # Errors
    /// See [`Index`].
    fn has_any_below(&mut self, dir: &RelPath) -> Result<bool, IndexError> {
        Ok(self.has_children(dir)? || self.next_dir_below(dir, None)?.is_some())
    }

    /// Known records of all paths in a bucket ([`bucket_of`]), sorted by path.
    ///
    /// # Errors
    /// See [`Index`].
    fn bucket(&mut self, bucket: u16) -> Result<Vec<(RelPath, Vec<Known>)>, IndexError>;

    /// Fingerprint of the known records in all buckets that begin with `prefix` of `bits` bits: kept for
    /// 0, 6 and 12 bits. Anything else is the empty fingerprint.
    fn fingerprint(&self, bits: u8, prefix: u16) -> Fingerprint;

    /// What is materialised here in all.
    fn totals(&self) -> Totals;

    /// Up to [`MAX_FOUND`] paths whose file here has this content, sorted.
    ///
    /// # Errors
    /// See [`Index`].
    fn by_content(&mut self, content: &Hash) -> Result<Vec<RelPath>, IndexError>;

    /// True if the files here that have this content are more than a number.
    ///
    /// # Errors
    /// See [`Index`].
    fn has_more_than(&mut self, content: &Hash, files: u64) -> Result<bool, IndexError>;

    /// Up to [`MAX_FOUND`] paths whose file here has this inode number, sorted: how a scan knows a
    /// renamed file without reading it (rule E15).
    ///
    /// # Errors
    /// See [`Index`].
    fn by_inode(&mut self, inode: u64) -> Result<Vec<RelPath>, IndexError>;

    /// Remembers the chunk list of a content. Put it in the same commit as a row that has the content
    /// here, else nothing will ever remove it.
    ///
    /// # Errors
    /// See [`Index`].
    fn put_chunks(&mut self, content: &Hash, list: &ChunkList) -> Result<(), IndexError>;

    /// The chunk list of a content, if it was put and has not gone with the last row that had it.
    ///
    /// # Errors
    /// See [`Index`].
    fn chunks(&mut self, content: &Hash) -> Result<Option<ChunkList>, IndexError>;

    /// A place where a chunk can be read, if any content with a chunk list has it.
    ///
    /// # Errors
    /// See [`Index`].
    fn chunk_source(&mut self, chunk: &Hash) -> Result<Option<ChunkSource>, IndexError>;

    /// Adds intents; one of the same path is replaced.
    ///
    /// # Errors
    /// See [`Index`].
    fn put_intents(&mut self, intents: &[Intent]) -> Result<(), IndexError>;

    /// Removes the intent of a path, if there is one.
    ///
    /// # Errors
    /// See [`Index`].
    fn clear_intent(&mut self, path: &RelPath) -> Result<(), IndexError>;

    /// All intents, sorted by path.
    ///
    /// # Errors
    /// See [`Index`].
    fn intents(&mut self) -> Result<Vec<Intent>, IndexError>;

    /// A value the engine put under a name of its own.
    ///
    /// # Errors
    /// See [`Index`].
    fn meta(&mut self, key: &str) -> Result<Option<Bytes>, IndexError>;

    /// Puts a value under a name.
    ///
    /// # Errors
    /// See [`Index`].
    fn put_meta(&mut self, key: &str, value: &[u8]) -> Result<(), IndexError>;

    /// Paths with a change that is not shared ([`Row::local`]), sorted.
    ///
    /// # Errors
    /// See [`Index`].
    fn locals(&mut self) -> Result<Vec<RelPath>, IndexError>;

    /// Paths that are here and whose name looks like that of a conflict copy. Costs a look at every name.
    ///
    /// # Errors
    /// See [`Index`].
    fn conflict_names(&mut self) -> Result<Vec<RelPath>, IndexError>;

    /// Remembers a signature for those of its records that are known, each with its place. It is forgotten
    /// with the last of them.
    ///
    /// # Errors
    /// See [`Index`].
    fn put_seal(&mut self, seal: &Seal, records: &[(Hash, u32)]) -> Result<(), IndexError>;

    /// Who signed for a record, oldest first.
    ///
    /// # Errors
    /// See [`Index`].
    fn sealed(&mut self, record: &Hash) -> Result<Vec<Sealed>, IndexError>;

    /// A signature.
    ///
    /// # Errors
    /// See [`Index`].
    fn seal(&mut self, seal: u64) -> Result<Option<Seal>, IndexError>;

    /// Forgets who signed for a record.
    ///
    /// # Errors
    /// See [`Index`].
    fn unseal(&mut self, record: &Hash) -> Result<(), IndexError>;

    /// Everybody who signed for anything, each once.
    ///
    /// # Errors
    /// See [`Index`].
    fn sealers(&mut self) -> Result<Vec<DeviceId>, IndexError>;

    /// Makes everything so far durable, all or nothing.
    ///
    /// # Errors
    /// See [`Index`].
    fn commit(&mut self) -> Result<(), IndexError>;
}

/// The bucket of a path: the first 12 bits of the BLAKE3 hash of its bytes, below
/// [`wire::sync::BUCKETS`].
#[must_use]
pub fn bucket_of(path: &RelPath) -> u16 {
    let hash = Hash::of(path.as_bytes()).0;
    u16::from_be_bytes([hash[0], hash[1]]) >> 4
}

/// Directory and name of a path, both borrowed.
fn split(path: &RelPath) -> Result<(&str, &str), IndexError> {
    if path.is_root() {
        return Err(IndexError::Root);
    }
    let path = path.as_str();
    Ok(path.rfind('/').map_or(("", path), |at| (&path[..at], &path[at + 1..])))
}

/// What all directories below one lie between, as strings.
fn below(dir: &RelPath) -> (String, String) {
    if dir.is_root() {
        return (String::new(), char::MAX.to_string());
    }
    // The next character after a slash is 0.
    (format!("{dir}/"), format!("{dir}0"))
}

/// The path of a name in a directory, both as they were stored.
fn joined(dir: &str, name: &str) -> Result<RelPath, IndexError> {
    let path = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
    RelPath::parse(&path).map_err(|error| IndexError::Corrupt(format!("a path {error}")))
}

/// The inode by which [`Index::by_inode`] finds a row.
fn inode_key(here: Option<&Here>) -> Option<u64> {
    here.filter(|here| here.content.is_some()).map(|here| here.stat.inode)
}

#[cfg(test)]
mod tests;
