//! The messages that keep one folder in step between two devices (channel
//! [`crate::frame::Channel::Folder`]); docs/protocol.md tells when each is sent.
//!
//! [`Message::decode`] is the only way in: what it returns is within every bound named here.

use bytes::Bytes;
use identity::DeviceId;

use crate::{
    Hash, RelPath, WireError,
    frame::Payload,
    heard::Heard,
    record::{MAX_BATCH, SignedRecord},
    version::ReplicaId,
};

mod codec;
mod data;
mod pb;

/// Buckets that paths are spread over: the first 12 bits of BLAKE3(path).
pub const BUCKETS: u16 = 4096;
/// Most prefixes in one [`Message::GetNodes`].
pub const MAX_PREFIXES: usize = 64;
/// Most buckets in one [`Message::GetBuckets`].
pub const MAX_BUCKETS_ASKED: usize = 256;
/// Most short hashes in one [`Message::GetBuckets`] (1 MiB).
pub const MAX_HAVE: usize = 65_536;
/// Most items in one [`Message::Get`].
pub const MAX_ITEMS: usize = 1024;
/// Largest piece of content in one item, in bytes: the largest chunk.
pub const MAX_PIECE: u32 = 1 << 20;
/// Most pages of one chunk list, so that their ids fit one frame.
pub const MAX_PAGES: usize = 60_000;
/// Most pages asked for, or sent, at once.
pub const MAX_PAGES_ASKED: usize = 64;
/// Longest page of a chunk list in bytes: 512 entries of at most 37.
pub const MAX_PAGE: usize = 512 * 37 + 16;
/// Most batches in one [`Message::Records`].
pub const MAX_BATCHES: usize = 64;

/// Most statements in one [`Message::Heard`].
pub const MAX_HEARD: usize = 16;

/// Sum (modulo 2^256) of record hashes, and how many.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fingerprint {
    /// Little-endian sum.
    pub sum: [u8; 32],
    /// Records in the sum.
    pub count: u64,
}

/// What a device says about its state whenever it comes to rest or leaves it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Status {
    /// Fingerprint of all records it knows.
    pub root: Fingerprint,
    /// True if its first scan is over and everything it knows is applied, durably, or skipped.
    pub settled: bool,
    /// Paths whose contents no connected peer has.
    pub lacking: u64,
    /// Paths that are known and could not be put in place, for want of space say.
    pub not_applied: u64,
}

impl Status {
    /// True if both know the same and have nothing more to do (rule E25).
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        Self { not_applied: 0, ..*self } == Self { not_applied: 0, ..*other }
    }
}

/// Records of one author under one signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Who signed.
    pub author: DeviceId,
    /// Ed25519 signature over [`crate::record::batch_digest`].
    pub signature: [u8; 64],
    /// The records, at most [`MAX_BATCH`].
    pub records: Vec<SignedRecord>,
    /// `None`: the records are the whole batch. Otherwise they are one record of a larger batch with
    /// the way to its root.
    pub proof: Option<Proof>,
}

/// Shows that one record belongs to a batch that is not sent whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The record's place in the batch.
    pub index: u32,
    /// Records in the batch.
    pub count: u32,
    /// At most eight hashes, from the leaf up.
    pub path: Vec<Hash>,
}

/// Asks for what a bucket holds beyond what the asker has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketAsked {
    /// The bucket.
    pub bucket: u16,
    /// Short hashes of the records the asker has in it.
    pub have: Vec<[u8; 16]>,
}

/// Asks for a piece of a file's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// A path that had this content according to its record.
    pub path: RelPath,
    /// The content hash of the whole file.
    pub content: Hash,
    /// First byte.
    pub offset: u64,
    /// Bytes, at most [`MAX_PIECE`].
    pub len: u32,
}

/// The answer to one [`Piece`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PieceAnswer {
    /// The piece's place in the request.
    pub item: u32,
    /// The bytes; `None` if the path does not hold that content here (any more).
    pub data: Option<PieceData>,
}

/// Bytes of a piece, perhaps compressed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PieceData {
    /// True for one zstd frame.
    pub zstd: bool,
    /// Length once decoded, at most [`MAX_PIECE`].
    pub len: u32,
    /// What travels.
    pub bytes: Bytes,
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// First on every link: which replica speaks.
    Hello {
        /// The sender's replica of this folder.
        replica: ReplicaId,
    },
    /// Answer to a hello: the last change of the *receiver's* replica that the sender knows (rule E1).
    Known {
        /// The replica spoken of: the receiver's.
        replica: ReplicaId,
        /// Its highest counter known; 0 if none.
        counter: u64,
        /// Hash of the record that bears it.
        hash: Hash,
    },
    /// State, after each change of it.
    Status(Status),
    /// Asks for the fingerprints below some prefixes.
    GetNodes {
        /// Names the request in its answer.
        request: u32,
        /// Bits of the prefixes: 0 (the root, one prefix 0) or 6.
        bits: u8,
        /// Prefixes of that many bits, strictly ascending.
        prefixes: Vec<u16>,
    },
    /// Fingerprints of the 64 children of each prefix asked for.
    Nodes {
        /// The request answered.
        request: u32,
        /// 64 for each prefix, in order.
        nodes: Vec<Fingerprint>,
    },
    /// Asks for records.
    GetBuckets {
        /// Names the request in its answer.
        request: u32,
        /// Buckets, strictly ascending.
        buckets: Vec<BucketAsked>,
    },
    /// Records: an answer to `GetBuckets`, or pushed.
    Records {
        /// The request answered; 0 for a push.
        request: u32,
        /// For a push its number, to be acknowledged. For an answer: 1 on the last message.
        mark: u64,
        /// The records.
        batches: Vec<Batch>,
        /// Contents that ride along: place of the record counted over all batches, and the whole
        /// content of its file.
        inline: Vec<(u32, Bytes)>,
    },
    /// All pushes up to this number were dealt with.
    Ack {
        /// The number.
        mark: u64,
    },
    /// Asks for pieces of contents.
    Get {
        /// Names the request in its answers.
        request: u32,
        /// The pieces.
        pieces: Vec<Piece>,
    },
    /// Answers to some pieces of a request; each piece is answered exactly once.
    Data {
        /// The request answered.
        request: u32,
        /// The answers.
        answers: Vec<PieceAnswer>,
    },
    /// Asks for a chunk list: its page ids, or some of its pages.
    GetList {
        /// Names the request in its answer.
        request: u32,
        /// A path that had this content according to its record.
        path: RelPath,
        /// The content hash.
        content: Hash,
        /// Pages wanted by number; empty asks for the page ids.
        pages: Vec<u32>,
    },
    /// The answer: page ids, or pages; both empty if the path does not hold that content here.
    List {
        /// The request answered.
        request: u32,
        /// Ids of all pages.
        ids: Vec<Hash>,
        /// Pages by number.
        pages: Vec<(u32, Bytes)>,
    },
    /// What members of a group have heard of, by their own word (rule E4).
    Heard(Vec<Heard>),
}

impl Message {
    /// Encodes the message as a frame's payload. Large contents are not copied.
    #[must_use]
    pub fn payload(&self) -> Payload {
        match self {
            Self::Data { request, answers } => data::encode(*request, answers),
            _ => None,
        }
        .unwrap_or_else(|| codec::encode(self).into())
    }

    /// The payload in one piece.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.payload().join()
    }

    /// Decodes and checks a frame's payload.
    ///
    /// # Errors
    /// Says what is malformed or out of bounds. The link that sent it is not to be trusted further.
    pub fn decode(payload: Bytes) -> Result<Self, WireError> {
        codec::decode(payload)
    }
}

fn bounded<T>(items: &[T], most: usize, field: &'static str) -> Result<(), WireError> {
    if items.len() > most { Err(WireError::field(field, "too many")) } else { Ok(()) }
}

impl Batch {
    fn check(&self) -> Result<(), WireError> {
        bounded(&self.records, MAX_BATCH, "records")?;
        match &self.proof {
            Some(proof) => {
                bounded(&proof.path, 8, "proof")?;
                let whole = self.records.len() == 1
                    && proof.index < proof.count
                    && proof.count as usize <= MAX_BATCH;
                whole.then_some(()).ok_or(WireError::field("proof", "not of one record in a batch"))
            }
            None if self.records.is_empty() => Err(WireError::field("records", "empty batch")),
            None => Ok(()),
        }
    }
}
