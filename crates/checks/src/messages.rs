//! Frames, messages and records.

use bytes::Bytes;
use wire::{
    Hash, frame,
    record::{MAX_BATCH, SignedRecord, merkle_path, merkle_root, merkle_root_from},
    session,
    sync::{self, MAX_BATCHES, MAX_BUCKETS_ASKED, MAX_HAVE, MAX_ITEMS, MAX_PAGES, MAX_PREFIXES},
};

/// A stream of frames, each payload given to the decoder of its channel.
pub(crate) fn frame(mut data: &[u8]) {
    while let Some((header, rest)) = data.split_first_chunk::<{ frame::HEADER_LEN }>() {
        for limit in [frame::MAX_STRANGER_FRAME, frame::MAX_FRAME] {
            if let Ok((channel, len)) = frame::decode_header(*header, limit) {
                assert!(len <= limit);
                assert_eq!(frame::encode_header(channel, len).as_ref(), Ok(header));
            }
        }
        let Ok((channel, len)) = frame::decode_header(*header, frame::MAX_FRAME) else { return };
        let Some((payload, after)) = rest.split_at_checked(len) else { return };
        match channel {
            frame::Channel::Session => session(payload),
            frame::Channel::Folder(_) => sync(payload),
        }
        data = after;
    }
}

/// A message between devices that may not know each other.
pub(crate) fn session(data: &[u8]) {
    let Ok(message) = session::Message::decode(data) else { return };
    let bytes = message.encode();
    assert!(bytes.len() <= frame::MAX_STRANGER_FRAME, "what was let in fits no frame");
    let again = session::Message::decode(&bytes).expect("what was let in is let in again");
    assert_eq!(again, message);
    assert_eq!(again.encode(), bytes, "one message, two forms");
}

/// A message about a folder.
pub(crate) fn sync(data: &[u8]) {
    let Ok(message) = sync::Message::decode(Bytes::copy_from_slice(data)) else { return };
    within_bounds(&message);
    let bytes = message.encode();
    let again = sync::Message::decode(bytes.clone()).expect("what was let in is let in again");
    assert_eq!(again, message);
    assert_eq!(again.encode(), bytes, "one message, two forms");
}

fn within_bounds(message: &sync::Message) {
    match message {
        sync::Message::GetNodes { bits, prefixes, .. } => {
            assert!(prefixes.len() <= MAX_PREFIXES);
            assert!(prefixes.iter().all(|prefix| u32::from(*prefix) < 1 << bits));
        }
        sync::Message::Nodes { nodes, .. } => assert!(nodes.len() <= 64 * MAX_PREFIXES),
        sync::Message::GetBuckets { buckets, .. } => {
            assert!(buckets.len() <= MAX_BUCKETS_ASKED);
            assert!(buckets.iter().map(|asked| asked.have.len()).sum::<usize>() <= MAX_HAVE);
            assert!(buckets.iter().all(|asked| asked.bucket < sync::BUCKETS));
        }
        sync::Message::Records { batches, inline, .. } => {
            assert!(batches.len() <= MAX_BATCHES);
            let records: usize = batches.iter().map(|batch| batch.records.len()).sum();
            assert!(inline.iter().all(|(at, _)| (*at as usize) < records));
            for batch in batches {
                assert!((1..=MAX_BATCH).contains(&batch.records.len()));
                if let Some(proof) = &batch.proof {
                    assert!(batch.records.len() == 1 && proof.index < proof.count);
                }
                for record in &batch.records {
                    assert!(!record.record.path.is_reserved(), "a reserved path was let in");
                    assert!(record.record.mode <= 0o777);
                    self::record(&record.bytes);
                }
            }
        }
        sync::Message::Get { pieces, .. } => {
            assert!(pieces.len() <= MAX_ITEMS);
            assert!(pieces.iter().all(|piece| piece.len <= sync::MAX_PIECE));
            assert!(pieces.iter().all(|piece| !piece.path.is_reserved()));
        }
        sync::Message::Data { answers, .. } => {
            assert!(answers.len() <= MAX_ITEMS);
            let data = answers.iter().filter_map(|answer| answer.data.as_ref());
            data.for_each(|data| assert!(data.len <= sync::MAX_PIECE));
        }
        sync::Message::GetList { path, pages, .. } => {
            assert!(!path.is_reserved() && pages.len() <= sync::MAX_PAGES_ASKED);
        }
        sync::Message::List { ids, pages, .. } => {
            assert!(ids.len() <= MAX_PAGES && pages.len() <= sync::MAX_PAGES_ASKED);
            assert!(pages.iter().all(|(_, page)| page.len() <= sync::MAX_PAGE));
        }
        sync::Message::Heard(heard) => assert!(heard.len() <= sync::MAX_HEARD),
        sync::Message::Hello { .. }
        | sync::Message::Known { .. }
        | sync::Message::Status(_)
        | sync::Message::Ack { .. } => (),
    }
}

/// A record as it is signed and kept.
pub(crate) fn record(data: &[u8]) {
    let Ok(signed) = SignedRecord::parse(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(signed.bytes, data, "the bytes that were signed are kept");
    let record = &signed.record;
    assert!(!record.path.is_root() && !record.path.is_reserved());
    assert!(record.path.as_str().split('/').all(|name| !["", ".", ".."].contains(&name)));
    assert!(record.version.has_seen(record.dot) && record.version.has_seen(record.content_dot));
    let sealed = record.clone().seal();
    let again = SignedRecord::parse(sealed.bytes.clone()).expect("what was let in is let in again");
    assert_eq!(again, sealed);
    assert_eq!(again.record, *record);
    if sealed.bytes != signed.bytes {
        assert_ne!(sealed.hash, signed.hash, "two forms, one identity");
    }
}

/// A batch's tree of hashes, and a proof that somebody made up. Two bytes: leaves and place; the rest is
/// the proof.
pub(crate) fn merkle(data: &[u8]) {
    let [leaves, place, proof @ ..] = data else { return };
    let (count, place) = (usize::from(*leaves) + 1, usize::from(*place));
    let leaves: Vec<Hash> = (0..count).map(|leaf| Hash::of(&leaf.to_le_bytes())).collect();
    let root = merkle_root(&leaves);
    let proof: Vec<Hash> = proof.as_chunks::<32>().0.iter().map(|hash| Hash(*hash)).collect();
    let Some(leaf) = leaves.get(place) else {
        assert_eq!(merkle_root_from(Hash::default(), place, count, &proof), None);
        return;
    };
    let honest = merkle_path(&leaves, place);
    assert!(honest.len() <= 8);
    assert_eq!(merkle_root_from(*leaf, place, count, &honest), Some(root));
    if proof != honest {
        assert_ne!(merkle_root_from(*leaf, place, count, &proof), Some(root), "a made-up proof");
    }
    let other = Hash::of(b"another record");
    assert_ne!(merkle_root_from(other, place, count, &honest), Some(root));
    assert_eq!(merkle_root_from(*leaf, place, MAX_BATCH + 1, &proof), None);
}
