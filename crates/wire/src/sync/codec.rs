//! The protobuf form of [`super::Message`], and the checks that stand between the two.

use bytes::Bytes;
use identity::DeviceId;
use prost::Message as _;

use super::{
    BUCKETS, Batch, BucketAsked, Fingerprint, MAX_BATCHES, MAX_BUCKETS_ASKED, MAX_HAVE, MAX_HEARD,
    MAX_ITEMS, MAX_PAGE, MAX_PAGES, MAX_PAGES_ASKED, MAX_PIECE, MAX_PREFIXES, Message, Piece,
    PieceAnswer, PieceData, Proof, Status, bounded,
    pb::{
        PbAck, PbAnswer, PbBatch, PbBody, PbBucketAsked, PbData, PbFingerprint, PbGet,
        PbGetBuckets, PbGetList, PbGetNodes, PbHeard, PbHello, PbKnown, PbList, PbMessage, PbNodes,
        PbNumbered, PbPiece, PbProof, PbRecords, PbStated, PbStatus,
    },
};
use crate::{
    Hash, RelPath, WireError,
    bounds::{self, Limit},
    heard::{Heard, Statement},
    record::{MAX_BATCH, MAX_FILE, SignedRecord},
    version::ReplicaId,
};

/// Checked before the message is decoded.
const LIMITS: [Limit; 9] = [
    Limit { field: &[5, 2], most: MAX_PREFIXES * 64, name: "nodes" },
    Limit { field: &[6, 2], most: MAX_BUCKETS_ASKED, name: "buckets" },
    Limit { field: &[7, 3], most: MAX_BATCHES, name: "batches" },
    Limit { field: &[7, 3, 3], most: MAX_BATCHES * MAX_BATCH, name: "records" },
    Limit { field: &[7, 4], most: MAX_BATCHES * MAX_BATCH, name: "inline" },
    Limit { field: &[9, 2], most: MAX_ITEMS, name: "pieces" },
    Limit { field: &[10, 2], most: MAX_ITEMS, name: "answers" },
    Limit { field: &[12, 3], most: MAX_PAGES_ASKED, name: "pages" },
    Limit { field: &[13, 1], most: MAX_HEARD, name: "heard" },
];

pub(super) fn encode(message: &Message) -> Bytes {
    let body = match message {
        Message::Hello { replica } => PbBody::Hello(PbHello { replica: replica.0 }),
        Message::Known { replica, counter, hash } => {
            PbBody::Known(PbKnown { replica: replica.0, counter: *counter, hash: own(&hash.0) })
        }
        Message::Status(status) => PbBody::Status(PbStatus {
            root: Some(status.root.into()),
            settled: status.settled,
            lacking: status.lacking,
            not_applied: status.not_applied,
        }),
        Message::GetNodes { request, bits, prefixes } => PbBody::GetNodes(PbGetNodes {
            request: *request,
            bits: u32::from(*bits),
            prefixes: prefixes.iter().map(|&prefix| u32::from(prefix)).collect(),
        }),
        Message::Nodes { request, nodes } => PbBody::Nodes(PbNodes {
            request: *request,
            nodes: nodes.iter().map(|&node| node.into()).collect(),
        }),
        Message::GetBuckets { request, buckets } => PbBody::GetBuckets(PbGetBuckets {
            request: *request,
            buckets: buckets
                .iter()
                .map(|asked| PbBucketAsked {
                    bucket: u32::from(asked.bucket),
                    have: asked.have.concat().into(),
                })
                .collect(),
        }),
        Message::Records { request, mark, batches, inline } => PbBody::Records(PbRecords {
            request: *request,
            mark: *mark,
            batches: batches.iter().map(Into::into).collect(),
            inline: inline.iter().map(numbered).collect(),
        }),
        Message::Ack { mark } => PbBody::Ack(PbAck { mark: *mark }),
        Message::Get { request, pieces } => PbBody::Get(PbGet {
            request: *request,
            pieces: pieces
                .iter()
                .map(|piece| PbPiece {
                    path: own(piece.path.as_bytes()),
                    content: own(&piece.content.0),
                    offset: piece.offset,
                    len: piece.len,
                })
                .collect(),
        }),
        Message::Data { request, answers } => PbBody::Data(PbData {
            request: *request,
            answers: answers.iter().map(Into::into).collect(),
        }),
        Message::GetList { request, path, content, pages } => PbBody::GetList(PbGetList {
            request: *request,
            path: own(path.as_bytes()),
            content: own(&content.0),
            pages: pages.clone(),
        }),
        Message::List { request, ids, pages } => PbBody::List(PbList {
            request: *request,
            ids: ids.iter().flat_map(|id| id.0).collect::<Vec<_>>().into(),
            pages: pages.iter().map(numbered).collect(),
        }),
        Message::Heard(heard) => {
            PbBody::Heard(PbHeard { heard: heard.iter().map(Into::into).collect() })
        }
    };
    PbMessage { body: Some(body) }.encode_to_vec().into()
}

pub(super) fn decode(payload: Bytes) -> Result<Message, WireError> {
    bounds::check(&payload, &LIMITS)?;
    let body = PbMessage::decode(payload)?.body;
    Ok(match body.ok_or(WireError::field("body", "missing or of a newer version"))? {
        PbBody::Hello(pb) => Message::Hello { replica: ReplicaId(pb.replica) },
        PbBody::Known(pb) => Message::Known {
            replica: ReplicaId(pb.replica),
            counter: pb.counter,
            hash: hash(&pb.hash, "hash")?,
        },
        PbBody::Status(pb) => Message::Status(Status {
            root: pb.root.ok_or(WireError::field("root", "missing"))?.check()?,
            settled: pb.settled,
            lacking: pb.lacking,
            not_applied: pb.not_applied,
        }),
        PbBody::GetNodes(pb) => pb.check()?,
        PbBody::Nodes(pb) => {
            let nodes = pb.nodes.into_iter().map(PbFingerprint::check).collect::<Result<_, _>>()?;
            Message::Nodes { request: pb.request, nodes }
        }
        PbBody::GetBuckets(pb) => pb.check()?,
        PbBody::Records(pb) => pb.check()?,
        PbBody::Ack(pb) => Message::Ack { mark: pb.mark },
        PbBody::Get(pb) => {
            let pieces = pb.pieces.into_iter().map(PbPiece::check).collect::<Result<_, _>>()?;
            Message::Get { request: pb.request, pieces }
        }
        PbBody::Data(pb) => {
            let answers = pb.answers.into_iter().map(PbAnswer::check).collect::<Result<_, _>>()?;
            Message::Data { request: pb.request, answers }
        }
        PbBody::GetList(pb) => {
            bounded(&pb.pages, MAX_PAGES_ASKED, "pages")?;
            Message::GetList {
                request: pb.request,
                path: RelPath::parse_travelling(&pb.path)?,
                content: hash(&pb.content, "content")?,
                pages: pb.pages,
            }
        }
        PbBody::List(pb) => pb.check()?,
        PbBody::Heard(pb) => {
            let heard = pb.heard.into_iter().map(PbStated::check).collect::<Result<_, _>>()?;
            Message::Heard(heard)
        }
    })
}

impl PbGetNodes {
    fn check(self) -> Result<Message, WireError> {
        bounded(&self.prefixes, MAX_PREFIXES, "prefixes")?;
        let (bits, limit) = match self.bits {
            0 => (0, 1),
            6 => (6, 64),
            _ => return Err(WireError::field("bits", "neither 0 nor 6")),
        };
        let prefixes = ascending(&self.prefixes, limit, "prefixes")?;
        Ok(Message::GetNodes { request: self.request, bits, prefixes })
    }
}

impl PbGetBuckets {
    fn check(self) -> Result<Message, WireError> {
        let have: usize = self.buckets.iter().map(|asked| asked.have.len() / 16).sum();
        if have > MAX_HAVE {
            return Err(WireError::field("have", "too many"));
        }
        let numbers: Vec<_> = self.buckets.iter().map(|asked| asked.bucket).collect();
        let numbers = ascending(&numbers, u32::from(BUCKETS), "buckets")?;
        let buckets = numbers
            .into_iter()
            .zip(self.buckets)
            .map(|(bucket, asked)| {
                let (have, rest) = asked.have.as_chunks::<16>();
                if rest.is_empty() {
                    Ok(BucketAsked { bucket, have: have.to_vec() })
                } else {
                    Err(WireError::field("have", "not hashes of 16 bytes"))
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Message::GetBuckets { request: self.request, buckets })
    }
}

impl PbRecords {
    fn check(self) -> Result<Message, WireError> {
        let batches =
            self.batches.into_iter().map(PbBatch::check).collect::<Result<Vec<_>, _>>()?;
        let records: usize = batches.iter().map(|batch| batch.records.len()).sum();
        let inline = self
            .inline
            .into_iter()
            .map(|item| {
                let known = (item.number as usize) < records;
                known
                    .then_some((item.number, item.bytes))
                    .ok_or(WireError::field("inline", "for a record that is not there"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Message::Records { request: self.request, mark: self.mark, batches, inline })
    }
}

impl PbBatch {
    fn check(self) -> Result<Batch, WireError> {
        bounded(&self.records, MAX_BATCH, "records")?;
        let proof = self.proof.map(PbProof::check).transpose()?;
        // Bytes of their own: a record is kept for longer than the contents that came in the same frame.
        let parse = |record: Bytes| SignedRecord::parse(Bytes::copy_from_slice(&record));
        let batch = Batch {
            author: DeviceId(hash(&self.author, "author")?.0),
            signature: self.signature[..]
                .try_into()
                .map_err(|_| WireError::field("signature", "not 64 bytes"))?,
            records: self.records.into_iter().map(parse).collect::<Result<_, _>>()?,
            proof,
        };
        batch.check()?;
        Ok(batch)
    }
}

impl PbStated {
    fn check(self) -> Result<Heard, WireError> {
        Ok(Heard {
            author: DeviceId(hash(&self.author, "author")?.0),
            signature: self.signature[..]
                .try_into()
                .map_err(|_| WireError::field("signature", "not 64 bytes"))?,
            statement: Statement::decode(&self.statement)?,
            bytes: self.statement,
        })
    }
}

impl From<&Heard> for PbStated {
    fn from(heard: &Heard) -> Self {
        Self {
            author: own(&heard.author.0),
            signature: own(&heard.signature),
            statement: heard.bytes.clone(),
        }
    }
}

impl PbProof {
    fn check(self) -> Result<Proof, WireError> {
        let path = hashes(&self.path, 8, "proof")?;
        Ok(Proof { index: self.index, count: self.count, path })
    }
}

impl PbPiece {
    fn check(self) -> Result<Piece, WireError> {
        if self.len > MAX_PIECE || self.offset > MAX_FILE {
            return Err(WireError::field("piece", "out of bounds"));
        }
        Ok(Piece {
            path: RelPath::parse_travelling(&self.path)?,
            content: hash(&self.content, "content")?,
            offset: self.offset,
            len: self.len,
        })
    }
}

impl PbAnswer {
    fn check(self) -> Result<PieceAnswer, WireError> {
        if self.len > MAX_PIECE || !self.zstd && self.bytes.len() != self.len as usize {
            return Err(WireError::field("data", "not as long as it says"));
        }
        let data =
            self.here.then_some(PieceData { zstd: self.zstd, len: self.len, bytes: self.bytes });
        Ok(PieceAnswer { item: self.item, data })
    }
}

impl PbList {
    fn check(self) -> Result<Message, WireError> {
        if self.pages.iter().any(|page| page.bytes.len() > MAX_PAGE) {
            return Err(WireError::field("pages", "page too long"));
        }
        Ok(Message::List {
            request: self.request,
            ids: hashes(&self.ids, MAX_PAGES, "ids")?,
            pages: self.pages.into_iter().map(|page| (page.number, page.bytes)).collect(),
        })
    }
}

impl PbFingerprint {
    fn check(self) -> Result<Fingerprint, WireError> {
        if self == Self::default() {
            return Ok(Fingerprint::default());
        }
        Ok(Fingerprint { sum: hash(&self.sum, "sum")?.0, count: self.count })
    }
}

impl From<Fingerprint> for PbFingerprint {
    fn from(fingerprint: Fingerprint) -> Self {
        if fingerprint == Fingerprint::default() {
            // Of nothing, as are most of a folder with few files.
            return Self::default();
        }
        Self { sum: own(&fingerprint.sum), count: fingerprint.count }
    }
}

impl From<&Batch> for PbBatch {
    fn from(batch: &Batch) -> Self {
        Self {
            author: own(&batch.author.0),
            signature: own(&batch.signature),
            records: batch.records.iter().map(|record| record.bytes.clone()).collect(),
            proof: batch.proof.as_ref().map(|proof| PbProof {
                index: proof.index,
                count: proof.count,
                path: proof.path.iter().flat_map(|hash| hash.0).collect::<Vec<_>>().into(),
            }),
        }
    }
}

impl From<&PieceAnswer> for PbAnswer {
    fn from(answer: &PieceAnswer) -> Self {
        let mut pb = Self { item: answer.item, ..Self::default() };
        if let Some(data) = &answer.data {
            pb.here = true;
            pb.zstd = data.zstd;
            pb.len = data.len;
            pb.bytes = data.bytes.clone();
        }
        pb
    }
}

fn own(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn numbered((number, bytes): &(u32, Bytes)) -> PbNumbered {
    PbNumbered { number: *number, bytes: bytes.clone() }
}

fn hash(bytes: &[u8], field: &'static str) -> Result<Hash, WireError> {
    Hash::from_slice(bytes).ok_or(WireError::field(field, "not 32 bytes"))
}

fn hashes(bytes: &[u8], most: usize, field: &'static str) -> Result<Vec<Hash>, WireError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    bounded(hashes, most, field)?;
    if !rest.is_empty() {
        return Err(WireError::field(field, "not hashes of 32 bytes"));
    }
    Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
}

fn ascending(numbers: &[u32], limit: u32, field: &'static str) -> Result<Vec<u16>, WireError> {
    if !numbers.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(WireError::field(field, "not strictly ascending"));
    }
    numbers
        .iter()
        .map(|&number| u16::try_from(number).ok().filter(|_| number < limit))
        .collect::<Option<_>>()
        .ok_or(WireError::field(field, "out of range"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        record::{Body, Record},
        version::{Dot, VersionVector},
    };

    fn record() -> SignedRecord {
        let dot = Dot { replica: ReplicaId(7), counter: 3 };
        let mut version = VersionVector::new();
        version.add(dot);
        Record {
            path: RelPath::parse("a/b").expect("valid"),
            body: Body::Dir,
            mode: 0o755,
            mtime: 0,
            version,
            dot,
            content_dot: dot,
            superseded: Vec::new(),
            found: true,
        }
        .seal()
    }

    fn samples() -> Vec<Message> {
        let path = RelPath::parse("a/b").expect("valid");
        let fingerprint = Fingerprint { sum: [3; 32], count: 9 };
        let whole = Batch {
            author: DeviceId([1; 32]),
            signature: [2; 64],
            records: vec![record()],
            proof: None,
        };
        let proof = Some(Proof { index: 3, count: 9, path: vec![Hash([1; 32]); 4] });
        let piece = Piece { path: path.clone(), content: Hash([4; 32]), offset: 5, len: MAX_PIECE };
        let data = PieceData { zstd: false, len: 2, bytes: Bytes::from_static(b"xy") };
        let asked = BucketAsked { bucket: 4095, have: vec![[9; 16]; 3] };
        vec![
            Message::Hello { replica: ReplicaId(u64::MAX) },
            Message::Known { replica: ReplicaId(1), counter: 5, hash: Hash([1; 32]) },
            Message::Status(Status {
                root: fingerprint,
                settled: true,
                lacking: 7,
                not_applied: 300,
            }),
            Message::GetNodes { request: 1, bits: 6, prefixes: vec![0, 63] },
            Message::Nodes { request: 1, nodes: vec![fingerprint; 64] },
            Message::Nodes { request: 1, nodes: vec![Fingerprint::default(); 64] },
            Message::GetBuckets { request: 2, buckets: vec![asked] },
            Message::Records {
                request: 0,
                mark: 8,
                batches: vec![whole.clone(), Batch { proof, ..whole }],
                inline: vec![(1, Bytes::from_static(b"content"))],
            },
            Message::Ack { mark: 8 },
            Message::Get { request: 3, pieces: vec![piece] },
            Message::Data {
                request: 3,
                answers: vec![
                    PieceAnswer { item: 0, data: Some(data) },
                    PieceAnswer { item: 1, data: None },
                ],
            },
            Message::GetList { request: 4, path, content: Hash([6; 32]), pages: vec![0, 1] },
            Message::List {
                request: 4,
                ids: vec![Hash([7; 32])],
                pages: vec![(0, Bytes::from_static(b"page"))],
            },
            Message::Heard(vec![heard(); MAX_HEARD]),
        ]
    }

    fn heard() -> Heard {
        let known = record().record.version;
        let statement = Statement { replica: 7, number: 2, known, ..Statement::default() };
        let bytes = statement.encode();
        Heard { author: DeviceId([1; 32]), signature: [2; 64], statement, bytes }
    }

    #[test]
    fn messages_round_trip() {
        for message in samples() {
            assert_eq!(decode(message.encode()), Ok(message));
        }
    }

    #[test]
    fn out_of_bounds_messages_are_refused() {
        let path = RelPath::parse("a").expect("valid");
        let piece = Piece { path: path.clone(), content: Hash([4; 32]), offset: 0, len: 1 };
        let too_long = Piece { len: MAX_PIECE + 1, ..piece.clone() };
        let data = PieceData { zstd: false, len: 3, bytes: Bytes::from_static(b"xy") };
        let asked = |bucket| BucketAsked { bucket, have: Vec::new() };
        let batch =
            |records| Batch { author: DeviceId([1; 32]), signature: [2; 64], records, proof: None };
        let records = |batches, inline| Message::Records { request: 0, mark: 0, batches, inline };
        let bad = [
            Message::GetNodes { request: 1, bits: 12, prefixes: vec![0] },
            Message::GetNodes { request: 1, bits: 6, prefixes: vec![64] },
            Message::GetNodes { request: 1, bits: 6, prefixes: vec![1, 1] },
            Message::GetBuckets { request: 1, buckets: vec![asked(4096)] },
            Message::GetBuckets { request: 1, buckets: vec![asked(2), asked(1)] },
            Message::Get { request: 1, pieces: vec![piece; MAX_ITEMS + 1] },
            Message::Get { request: 1, pieces: vec![too_long] },
            Message::Data { request: 1, answers: vec![PieceAnswer { item: 0, data: Some(data) }] },
            Message::GetList { request: 1, path, content: Hash::default(), pages: vec![0; 65] },
            records(vec![batch(Vec::new())], Vec::new()),
            records(vec![batch(vec![record(); 257])], Vec::new()),
            records(vec![batch(vec![record()])], vec![(1, Bytes::new())]),
            Message::Heard(vec![heard(); MAX_HEARD + 1]),
        ];
        for message in bad {
            assert!(decode(message.encode()).is_err(), "accepted: {message:?}");
        }
        assert!(decode(Bytes::new()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(bytes.into());
        }

        #[test]
        fn cut_or_flipped_messages_never_panic(which in 0usize..14, at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
            let mut bytes = samples()[which].encode().to_vec();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            let _ = decode(bytes.into());
        }
    }
}
