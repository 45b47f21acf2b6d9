//! Contents on their way out: the same bytes as protobuf's, but for each large piece in a part of its own, which
//! is never copied.

use bytes::{Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

use super::{
    PieceAnswer,
    pb::{PbAnswer, PbData},
};
use crate::frame::Payload;

/// From this many bytes on, a piece is a part of its own (16 KiB).
const APART: usize = 16 << 10;
/// Numbers of the fields of [`super::pb::PbMessage`], [`PbData`] and [`PbAnswer`].
const DATA: u32 = 10;
const ANSWERS: u32 = 2;
const BYTES: u32 = 5;

/// A Data message; `None` if no piece is worth it.
pub(super) fn encode(request: u32, answers: &[PieceAnswer]) -> Option<Payload> {
    let bytes = |answer: &PieceAnswer| {
        let bytes = answer.data.as_ref().map(|data| data.bytes.clone());
        bytes.filter(|bytes| bytes.len() >= APART)
    };
    if answers.iter().all(|answer| bytes(answer).is_none()) {
        return None;
    }
    let heads = answers.iter().map(|answer| {
        let (mut pb, bytes) = (PbAnswer::from(answer), bytes(answer));
        if bytes.is_some() {
            pb.bytes = Bytes::new();
        }
        (pb, bytes.unwrap_or_default())
    });
    let heads: Vec<_> = heads.collect();
    let field = |number, len: usize| key_len(number) + encoded_len_varint(len as u64) + len;
    let answer_len = |(pb, bytes): &(PbAnswer, Bytes)| {
        let apart = if bytes.is_empty() { 0 } else { field(BYTES, bytes.len()) };
        pb.encoded_len() + apart
    };
    let begin = PbData { request, answers: Vec::new() }.encode_to_vec();
    let all: usize = heads.iter().map(|head| field(ANSWERS, answer_len(head))).sum();
    let mut payload = Payload::default();
    let mut part = BytesMut::new();
    let start = |part: &mut BytesMut, number, len: usize| {
        encode_key(number, WireType::LengthDelimited, part);
        encode_varint(len as u64, part);
    };
    start(&mut part, DATA, begin.len() + all);
    part.extend_from_slice(&begin);
    for head in &heads {
        start(&mut part, ANSWERS, answer_len(head));
        let (pb, bytes) = head;
        part.extend_from_slice(&pb.encode_to_vec());
        if !bytes.is_empty() {
            start(&mut part, BYTES, bytes.len());
            payload.push(part.split().freeze());
            payload.push(bytes.clone());
        }
    }
    payload.push(part.freeze());
    Some(payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Message, PieceData, codec},
        *,
    };

    fn answer() -> impl Strategy<Value = PieceAnswer> {
        let lens = prop_oneof![0..40_usize, APART - 2..APART + 2, 100_000..300_000_usize];
        let data = (any::<bool>(), any::<u32>(), lens, any::<u8>());
        let data = data.prop_map(|(zstd, len, bytes, fill)| PieceData {
            zstd,
            len,
            bytes: vec![fill; bytes].into(),
        });
        (any::<u32>(), proptest::option::of(data))
            .prop_map(|(item, data)| PieceAnswer { item, data })
    }

    proptest! {
        #[test]
        fn in_parts_it_is_the_same(request: u32, answers in proptest::collection::vec(answer(), 0..6)) {
            let largest = answers.iter().flat_map(|it| &it.data).map(|data| data.bytes.len()).max();
            let parts = encode(request, &answers);
            prop_assert_eq!(parts.is_some(), largest.is_some_and(|largest| largest >= APART));
            let message = Message::Data { request, answers };
            prop_assert_eq!(message.encode(), codec::encode(&message));
        }
    }
}
