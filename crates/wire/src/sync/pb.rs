//! The protobuf messages behind [`super::Message`], field by field as docs/protocol.md lists them.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbMessage {
    #[prost(oneof = "PbBody", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub(super) body: Option<PbBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum PbBody {
    #[prost(message, tag = "1")]
    Hello(PbHello),
    #[prost(message, tag = "2")]
    Known(PbKnown),
    #[prost(message, tag = "3")]
    Status(PbStatus),
    #[prost(message, tag = "4")]
    GetNodes(PbGetNodes),
    #[prost(message, tag = "5")]
    Nodes(PbNodes),
    #[prost(message, tag = "6")]
    GetBuckets(PbGetBuckets),
    #[prost(message, tag = "7")]
    Records(PbRecords),
    #[prost(message, tag = "8")]
    Ack(PbAck),
    #[prost(message, tag = "9")]
    Get(PbGet),
    #[prost(message, tag = "10")]
    Data(PbData),
    #[prost(message, tag = "11")]
    GetList(PbGetList),
    #[prost(message, tag = "12")]
    List(PbList),
    #[prost(message, tag = "13")]
    Heard(PbHeard),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbHello {
    #[prost(fixed64, tag = "1")]
    pub(super) replica: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbKnown {
    #[prost(fixed64, tag = "1")]
    pub(super) replica: u64,
    #[prost(uint64, tag = "2")]
    pub(super) counter: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) hash: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbStatus {
    #[prost(message, optional, tag = "1")]
    pub(super) root: Option<PbFingerprint>,
    #[prost(bool, tag = "2")]
    pub(super) settled: bool,
    #[prost(uint64, tag = "3")]
    pub(super) lacking: u64,
    #[prost(uint64, tag = "4")]
    pub(super) not_applied: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbFingerprint {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) sum: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbGetNodes {
    #[prost(uint32, tag = "1")]
    pub(super) request: u32,
    #[prost(uint32, tag = "2")]
    pub(super) bits: u32,
    #[prost(uint32, repeated, tag = "3")]
    pub(super) prefixes: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbNodes {
    #[prost(uint32, tag = "1")]
    pub(super) request: u32,
    #[prost(message, repeated, tag = "2")]
    pub(super) nodes: Vec<PbFingerprint>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbGetBuckets {
    #[prost(uint32, tag = "1")]
    pub(super) request: u32,
    #[prost(message, repeated, tag = "2")]
    pub(super) buckets: Vec<PbBucketAsked>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbBucketAsked {
    #[prost(uint32, tag = "1")]
    pub(super) bucket: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) have: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbRecords {
    #[prost(uint32, tag = "1")]
    pub(super) request: u32,
    #[prost(uint64, tag = "2")]
    pub(super) mark: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) batches: Vec<PbBatch>,
    #[prost(message, repeated, tag = "4")]
    pub(super) inline: Vec<PbNumbered>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbBatch {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) author: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) signature: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(super) records: Vec<Bytes>,
    #[prost(message, optional, tag = "4")]
    pub(super) proof: Option<PbProof>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbProof {
    #[prost(uint32, tag = "1")]
    pub(super) index: u32,
    #[prost(uint32, tag = "2")]
    pub(super) count: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) path: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbNumbered {
    #[prost(uint32, tag = "1")]
    pub(super) number: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbAck {
    #[prost(uint64, tag = "1")]
    pub(super) mark: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbGet {
    #[prost(uint32, tag = "1")]
    pub(super) request: u32,
    #[prost(message, repeated, tag = "2")]
    pub(super) pieces: Vec<PbPiece>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbPiece {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) path: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) content: Bytes,
    #[prost(uint64, tag = "3")]
    pub(super) offset: u64,
    #[prost(uint32, tag = "4")]
    pub(super) len: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbData {
    #[prost(uint32, tag = "1")]
    pub(super) request: u32,
    #[prost(message, repeated, tag = "2")]
    pub(super) answers: Vec<PbAnswer>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbAnswer {
    #[prost(uint32, tag = "1")]
    pub(super) item: u32,
    #[prost(bool, tag = "2")]
    pub(super) here: bool,
    #[prost(bool, tag = "3")]
    pub(super) zstd: bool,
    #[prost(uint32, tag = "4")]
    pub(super) len: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbGetList {
    #[prost(uint32, tag = "1")]
    pub(super) request: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) path: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) content: Bytes,
    #[prost(uint32, repeated, tag = "4")]
    pub(super) pages: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbList {
    #[prost(uint32, tag = "1")]
    pub(super) request: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) ids: Bytes,
    #[prost(message, repeated, tag = "3")]
    pub(super) pages: Vec<PbNumbered>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbHeard {
    #[prost(message, repeated, tag = "1")]
    pub(super) heard: Vec<PbStated>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PbStated {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) author: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) signature: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) statement: Bytes,
}
