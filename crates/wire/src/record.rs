//! Records: the versioned statements about one path, and the batches that sign them.
//!
//! A record's bytes are kept and passed on exactly as its author wrote them; its hash over those bytes
//! is its identity. Batches sign a Merkle root over record hashes (rule E6), so that one signature
//! covers up to [`MAX_BATCH`] records and a single record can still be proven by a short path.

use bytes::Bytes;
use identity::DeviceId;
use prost::Message as _;

use crate::{
    Hash, RelPath, WireError,
    version::{Dot, ReplicaId, VersionVector},
};

/// Most records in one batch (rule E6).
pub const MAX_BATCH: usize = 256;
/// Most superseded content hashes a record carries (rule E5).
pub const MAX_SUPERSEDED: usize = 8;
/// Longest symbolic link target in bytes.
pub const MAX_TARGET: usize = 4095;
/// Largest file in bytes (1 TiB): what a chunk list of bounded size can describe.
pub const MAX_FILE: u64 = 1 << 40;
/// Longest record in bytes.
pub const MAX_RECORD: usize = 48 * 1024;

const RECORD_CONTEXT: &str = "kinfold 2026-11 record";
const NODE_CONTEXT: &str = "kinfold 2026-11 merkle node";
const BATCH_CONTEXT: &str = "kinfold 2026-11 batch";
const LINK_CONTEXT: &str = "kinfold 2026-11 symlink content";

/// What a record says is at its path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A regular file.
    File {
        /// Size in bytes.
        size: u64,
        /// Its content hash (docs/protocol.md, "Contents").
        content: Hash,
    },
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Where it points; kept as it is and never followed.
        target: String,
    },
    /// Nothing: what was here is deleted.
    Tombstone {
        /// Content hash of what was deleted; all zero for a directory.
        deleted: Hash,
    },
}

impl Body {
    /// A hash that is equal exactly for equal contents of equal kind.
    #[must_use]
    pub fn content(&self) -> Hash {
        match self {
            Self::File { content, .. } => *content,
            Self::Symlink { target } => Hash::derived(LINK_CONTEXT, &[target.as_bytes()]),
            Self::Dir | Self::Tombstone { .. } => Hash::default(),
        }
    }

    /// True for everything but a tombstone.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !matches!(self, Self::Tombstone { .. })
    }

    /// True for a file or symbolic link.
    #[must_use]
    pub fn has_contents(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Symlink { .. })
    }

    /// True if both are of one kind and hold the same contents.
    #[must_use]
    pub fn same_contents(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tombstone { .. }, Self::Tombstone { .. }) => true,
            _ => self == other,
        }
    }
}

/// The versioned statement about one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The path it speaks of.
    pub path: RelPath,
    /// What is there.
    pub body: Body,
    /// Permission bits (files and directories), at most `0o777`.
    pub mode: u32,
    /// Modification time in nanoseconds since 1970 (files and links; 0 otherwise).
    pub mtime: i64,
    /// Everything the author had seen of this path, this change included.
    pub version: VersionVector,
    /// This change.
    pub dot: Dot,
    /// The last change of the content (rule E3); equal to `dot` unless only metadata changed.
    pub content_dot: Dot,
    /// Short hashes of the contents this one and its ancestors replaced, newest first (rule E5).
    pub superseded: Vec<[u8; 16]>,
    /// True if the author found the file without knowing any record of its path (rule E5).
    pub found: bool,
}

/// A record with the bytes it was signed as, and their hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedRecord {
    /// The parsed statement.
    pub record: Record,
    /// The bytes as the author wrote them.
    pub bytes: Bytes,
    /// The record's identity.
    pub hash: Hash,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbRecord {
    #[prost(bytes = "bytes", tag = "1")]
    path: Bytes,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(uint32, tag = "3")]
    mode: u32,
    #[prost(sint64, tag = "4")]
    mtime: i64,
    #[prost(uint64, tag = "5")]
    size: u64,
    #[prost(bytes = "bytes", tag = "6")]
    content: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    target: Bytes,
    #[prost(fixed64, repeated, tag = "8")]
    replicas: Vec<u64>,
    #[prost(uint64, repeated, tag = "9")]
    counters: Vec<u64>,
    #[prost(uint32, tag = "10")]
    author: u32,
    #[prost(fixed64, tag = "11")]
    content_replica: u64,
    #[prost(uint64, tag = "12")]
    content_counter: u64,
    #[prost(bytes = "bytes", tag = "13")]
    superseded: Bytes,
    #[prost(bool, tag = "14")]
    found: bool,
}

impl Record {
    /// Encodes the record and names it by its hash.
    #[must_use]
    pub fn seal(self) -> SignedRecord {
        let entries = self.version.entries();
        let author = entries.iter().position(|entry| entry.0 == self.dot.replica).unwrap_or(0);
        let (kind, size, content, target) = match &self.body {
            Body::File { size, content } => (0, *size, content.0.to_vec(), Vec::new()),
            Body::Dir => (1, 0, Vec::new(), Vec::new()),
            Body::Symlink { target } => (2, 0, Vec::new(), target.clone().into_bytes()),
            Body::Tombstone { deleted } => (3, 0, deleted.0.to_vec(), Vec::new()),
        };
        let pb = PbRecord {
            path: Bytes::copy_from_slice(self.path.as_bytes()),
            kind,
            mode: self.mode,
            mtime: self.mtime,
            size,
            content: content.into(),
            target: target.into(),
            replicas: entries.iter().map(|entry| entry.0.0).collect(),
            counters: entries.iter().map(|entry| entry.1).collect(),
            author: u32::try_from(author).unwrap_or(u32::MAX),
            content_replica: self.content_dot.replica.0,
            content_counter: self.content_dot.counter,
            superseded: self.superseded.concat().into(),
            found: self.found,
        };
        let bytes = Bytes::from(pb.encode_to_vec());
        SignedRecord { record: self, hash: hash_of(&bytes), bytes }
    }
}

impl SignedRecord {
    /// Parses and checks a record.
    ///
    /// # Errors
    /// Says which field breaks which bound.
    pub fn parse(bytes: Bytes) -> Result<Self, WireError> {
        if bytes.len() > MAX_RECORD {
            return Err(WireError::TooLarge { len: bytes.len() as u64, limit: MAX_RECORD as u64 });
        }
        let record = PbRecord::decode(bytes.clone())?.check()?;
        Ok(Self { record, hash: hash_of(&bytes), bytes })
    }
}

impl PbRecord {
    fn check(self) -> Result<Record, WireError> {
        let path = RelPath::parse_travelling(&self.path)?;
        if self.replicas.len() != self.counters.len() {
            return Err(WireError::field("version", "as many counters as replicas are needed"));
        }
        let entries: Vec<_> = self.replicas.into_iter().map(ReplicaId).zip(self.counters).collect();
        let Some(&(replica, counter)) = entries.get(self.author as usize) else {
            return Err(WireError::field("author", "not in the version vector"));
        };
        let version = VersionVector::from_entries(entries)
            .ok_or(WireError::field("version", "unsorted, empty or out of bounds"))?;
        let dot = Dot { replica, counter };
        let content_dot =
            Dot { replica: ReplicaId(self.content_replica), counter: self.content_counter };
        if content_dot.counter == 0 || !version.has_seen(content_dot) {
            return Err(WireError::field("content_dot", "not covered by the version vector"));
        }
        let body = match self.kind {
            0 if self.size > MAX_FILE => return Err(WireError::field("size", "over 1 TiB")),
            0 => Body::File {
                size: self.size,
                content: Hash::from_slice(&self.content)
                    .ok_or(WireError::field("content", "not 32 bytes"))?,
            },
            1 => Body::Dir,
            2 => Body::Symlink { target: check_target(&self.target)? },
            3 => Body::Tombstone {
                deleted: Hash::from_slice(&self.content)
                    .ok_or(WireError::field("content", "not 32 bytes"))?,
            },
            _ => return Err(WireError::field("kind", "unknown")),
        };
        if self.mode > 0o777 {
            return Err(WireError::field("mode", "has bits that do not travel"));
        }
        let (superseded, rest) = self.superseded.as_chunks::<16>();
        if !rest.is_empty() || superseded.len() > MAX_SUPERSEDED {
            return Err(WireError::field("superseded", "not up to eight hashes of 16 bytes"));
        }
        let superseded = superseded.to_vec();
        Ok(Record {
            path,
            body,
            mode: self.mode,
            mtime: self.mtime,
            version,
            dot,
            content_dot,
            superseded,
            found: self.found,
        })
    }
}

fn check_target(target: &[u8]) -> Result<String, WireError> {
    let target =
        std::str::from_utf8(target).map_err(|_| WireError::field("target", "not valid UTF-8"))?;
    if target.is_empty() || target.len() > MAX_TARGET || target.contains('\0') {
        return Err(WireError::field("target", "empty, too long, or with a NUL byte"));
    }
    Ok(target.to_owned())
}

fn hash_of(bytes: &[u8]) -> Hash {
    Hash::derived(RECORD_CONTEXT, &[bytes])
}

/// What a signature speaks for: which group and folder, and who signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchScope {
    /// The group's id.
    pub group: Hash,
    /// The folder's id.
    pub folder: Hash,
}

/// The 32 bytes that a batch's author signs.
#[must_use]
pub fn batch_digest(scope: &BatchScope, author: &DeviceId, count: usize, root: &Hash) -> Hash {
    let count = (count as u64).to_be_bytes();
    Hash::derived(BATCH_CONTEXT, &[&scope.group.0, &scope.folder.0, &author.0, &count, &root.0])
}

/// The Merkle root over record hashes. An odd hash at the end of a level moves up unchanged.
#[must_use]
pub fn merkle_root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = parents(&level);
    }
    level.first().copied().unwrap_or_default()
}

/// The hashes beside the way from leaf `index` to the root: at most eight in a batch of 256.
#[must_use]
pub fn merkle_path(leaves: &[Hash], mut index: usize) -> Vec<Hash> {
    let mut level = leaves.to_vec();
    let mut path = Vec::new();
    while level.len() > 1 {
        if let Some(sibling) = level.get(index ^ 1) {
            path.push(*sibling);
        }
        level = parents(&level);
        index /= 2;
    }
    path
}

/// The root that `leaf` at `index` of `count` leaves and a path lead to; `None` if they cannot.
#[must_use]
pub fn merkle_root_from(leaf: Hash, index: usize, count: usize, path: &[Hash]) -> Option<Hash> {
    if index >= count || count > MAX_BATCH {
        return None;
    }
    let (mut hash, mut index, mut width) = (leaf, index, count);
    let mut path = path.iter();
    while width > 1 {
        if index ^ 1 < width {
            let sibling = path.next()?;
            hash = if index % 2 == 0 { node(&hash, sibling) } else { node(sibling, &hash) };
        }
        index /= 2;
        width = width.div_ceil(2);
    }
    path.next().is_none().then_some(hash)
}

fn parents(level: &[Hash]) -> Vec<Hash> {
    level
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => node(left, right),
            [odd] => *odd,
            _ => Hash::default(),
        })
        .collect()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Hash::derived(NODE_CONTEXT, &[&left.0, &right.0])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let body = prop_oneof![
            (0..=MAX_FILE, any::<[u8; 32]>())
                .prop_map(|(size, hash)| Body::File { size, content: Hash(hash) }),
            Just(Body::Dir),
            "[^\0]{1,40}".prop_map(|target| Body::Symlink { target }),
            any::<[u8; 32]>().prop_map(|hash| Body::Tombstone { deleted: Hash(hash) }),
        ];
        let version = proptest::collection::btree_map(any::<u64>(), 1u64..1 << 48, 1..5);
        (
            "[a-z]{1,8}(/[^/\0]{3,8}){0,3}",
            body,
            0u32..=0o777,
            any::<i64>(),
            version,
            proptest::collection::vec(any::<[u8; 16]>(), 0..=8),
            any::<bool>(),
        )
            .prop_map(|(path, body, mode, mtime, version, superseded, found)| {
                let entries: Vec<_> =
                    version.into_iter().map(|(id, counter)| (ReplicaId(id), counter)).collect();
                let dot = Dot { replica: entries[0].0, counter: entries[0].1 };
                let last = entries[entries.len() - 1];
                Record {
                    path: RelPath::parse(&path).expect("matches the pattern"),
                    body,
                    mode,
                    mtime,
                    dot,
                    content_dot: Dot { replica: last.0, counter: 1 },
                    version: VersionVector::from_entries(entries).expect("sorted"),
                    superseded,
                    found,
                }
            })
    }

    proptest! {
        #[test]
        fn records_round_trip(record in record()) {
            let sealed = record.seal();
            let parsed = SignedRecord::parse(sealed.bytes.clone());
            prop_assert_eq!(parsed, Ok(sealed));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SignedRecord::parse(bytes.into());
        }

        #[test]
        fn e6_every_record_of_a_batch_is_proven(count in 1usize..=256, pick in any::<prop::sample::Index>()) {
            let leaves: Vec<_> = (0..count).map(|n| Hash::of(&n.to_be_bytes())).collect();
            let index = pick.index(count);
            let path = merkle_path(&leaves, index);
            prop_assert!(path.len() <= 8);
            let root = merkle_root(&leaves);
            prop_assert_eq!(merkle_root_from(leaves[index], index, count, &path), Some(root));
            prop_assert_ne!(merkle_root_from(Hash::of(b"other"), index, count, &path), Some(root));
            let mut longer = path;
            longer.push(root);
            prop_assert_eq!(merkle_root_from(leaves[index], index, count, &longer), None);
        }
    }

    fn tampered(change: impl FnOnce(&mut PbRecord)) -> Result<SignedRecord, WireError> {
        let mut pb = PbRecord {
            path: Bytes::from_static(b"a"),
            kind: 1,
            replicas: vec![1, 2],
            counters: vec![3, 4],
            content_replica: 1,
            content_counter: 3,
            ..PbRecord::default()
        };
        change(&mut pb);
        SignedRecord::parse(pb.encode_to_vec().into())
    }

    #[test]
    fn out_of_bounds_fields_are_refused() {
        assert!(tampered(|_| ()).is_ok());
        let changes: [fn(&mut PbRecord); 14] = [
            |pb| pb.path = Bytes::from_static(b"../x"),
            |pb| pb.path = Bytes::from_static(b".kin/index.db"),
            |pb| pb.path = Bytes::from_static(b""),
            |pb| pb.kind = 9,
            |pb| pb.mode = 0o4755,
            |pb| pb.counters = vec![3, (1 << 48) + 1],
            |pb| pb.counters = vec![3],
            |pb| pb.replicas = vec![2, 1],
            |pb| pb.author = 2,
            |pb| pb.content_counter = 4,
            |pb| pb.content_counter = 0,
            |pb| pb.superseded = vec![0; 17].into(),
            |pb| pb.superseded = vec![0; 16 * 9].into(),
            |pb| {
                pb.kind = 0;
                pb.content = vec![0; 32].into();
                pb.size = MAX_FILE + 1;
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(tampered(change).is_err(), "change {number} was accepted");
        }
    }
}
