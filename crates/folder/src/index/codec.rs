//! The bytes in which rows are kept: one blob for what is known, one for what is here.
//!
//! Each begins with a version. Numbers are LEB128, but for times and replica ids, which are eight bytes
//! little-endian. Decoders are total: whatever a damaged file holds becomes a value or
//! [`IndexError::Corrupt`].

use bytes::{Buf as _, Bytes};
use tree::{FileKind, Stat};
use wire::{
    Hash,
    version::{Dot, ReplicaId, VersionVector},
};

use super::{Here, IndexError, Intent, IntentKind, Known, Totals, joined};

const KNOWN_VERSION: u8 = 1;
const HERE_VERSION: u8 = 1;
const INTENTS_VERSION: u8 = 1;

// Bits of the second byte of what is here; the lowest three are the kind.
const KIND: u8 = 0b111;
const HAS_CONTENT: u8 = 1 << 3;
const HAS_TARGET: u8 = 1 << 4;
const RACY: u8 = 1 << 5;
const IMPLIED: u8 = 1 << 6;
const HAS_DOT: u8 = 1 << 7;

const KINDS: [FileKind; 5] =
    [FileKind::File, FileKind::Dir, FileKind::Symlink, FileKind::Special, FileKind::MountPoint];

fn corrupt(what: &str) -> IndexError {
    IndexError::Corrupt(what.to_owned())
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn number(bytes: &mut &[u8]) -> Result<u64, IndexError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(|| corrupt("a number is cut off"))?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if low << shift >> shift != low {
            break;
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(corrupt("a number is too large"))
}

fn length(bytes: &mut &[u8]) -> Result<usize, IndexError> {
    usize::try_from(number(bytes)?).map_err(|_| corrupt("a length is too large"))
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], IndexError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or_else(|| corrupt("a row is cut off"))?;
    *bytes = rest;
    Ok(taken)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], IndexError> {
    let (taken, rest) = bytes.split_first_chunk().ok_or_else(|| corrupt("a row is cut off"))?;
    *bytes = rest;
    Ok(*taken)
}

fn dot(bytes: &mut &[u8]) -> Result<Dot, IndexError> {
    Ok(Dot { replica: ReplicaId(u64::from_le_bytes(array(bytes)?)), counter: number(bytes)? })
}

fn version(bytes: &mut &[u8], expected: u8) -> Result<(), IndexError> {
    let [version] = array(bytes)?;
    if version == expected { Ok(()) } else { Err(corrupt("a row has an unknown format")) }
}

fn end(bytes: &[u8]) -> Result<(), IndexError> {
    if bytes.is_empty() { Ok(()) } else { Err(corrupt("a row is too long")) }
}

/// Appends the blob of records; nothing if there are none.
pub(super) fn encode_known(known: &[Known], bytes: &mut Vec<u8>) {
    if known.is_empty() {
        return;
    }
    bytes.push(KNOWN_VERSION);
    for record in known {
        bytes.extend_from_slice(&record.hash.0);
        put_number(bytes, record.bytes.len() as u64);
        bytes.extend_from_slice(&record.bytes);
    }
}

/// Reads a blob of records; they share its memory.
pub(super) fn decode_known(mut blob: Bytes) -> Result<Vec<Known>, IndexError> {
    let mut known = Vec::new();
    if blob.is_empty() {
        return Ok(known);
    }
    version(&mut &blob[..1], KNOWN_VERSION)?;
    blob.advance(1);
    while !blob.is_empty() {
        let mut rest = &blob[..];
        let hash = Hash(array(&mut rest)?);
        let len = length(&mut rest)?;
        let start = blob.len() - rest.len();
        take(&mut rest, len)?;
        known.push(Known { hash, bytes: blob.slice(start..start + len) });
        blob.advance(start + len);
    }
    Ok(known)
}

/// Appends the blob of what is here.
pub(super) fn encode_here(here: &Here, bytes: &mut Vec<u8>) {
    let kind = match here.stat.kind {
        FileKind::File => 0,
        FileKind::Dir => 1,
        FileKind::Symlink => 2,
        FileKind::Special => 3,
        FileKind::MountPoint => 4,
    };
    let flag = |bit, set| if set { bit } else { 0 };
    bytes.push(HERE_VERSION);
    bytes.push(
        kind | flag(HAS_CONTENT, here.content.is_some())
            | flag(HAS_TARGET, here.target.is_some())
            | flag(RACY, here.racy)
            | flag(IMPLIED, here.implied)
            | flag(HAS_DOT, here.content_dot.is_some()),
    );
    put_number(bytes, here.stat.size);
    bytes.extend_from_slice(&here.stat.mtime.to_le_bytes());
    bytes.extend_from_slice(&here.stat.ctime.to_le_bytes());
    put_number(bytes, here.stat.inode);
    put_number(bytes, u64::from(here.stat.mode));
    bytes.extend_from_slice(&here.shown.to_le_bytes());
    if let Some(content) = &here.content {
        bytes.extend_from_slice(&content.0);
    }
    if let Some(target) = &here.target {
        put_number(bytes, target.len() as u64);
        bytes.extend_from_slice(target.as_bytes());
    }
    let dot = here.content_dot.map(|dot| (dot.replica, dot.counter));
    for &(replica, counter) in dot.iter().chain(here.base.entries()) {
        bytes.extend_from_slice(&replica.0.to_le_bytes());
        put_number(bytes, counter);
    }
}

/// Reads the blob of what is here.
pub(super) fn decode_here(mut blob: &[u8]) -> Result<Here, IndexError> {
    let blob = &mut blob;
    version(blob, HERE_VERSION)?;
    let [flags] = array(blob)?;
    let kind = KINDS.get(usize::from(flags & KIND)).ok_or_else(|| corrupt("an unknown kind"))?;
    let stat = Stat {
        kind: *kind,
        size: number(blob)?,
        mtime: i64::from_le_bytes(array(blob)?),
        ctime: i64::from_le_bytes(array(blob)?),
        inode: number(blob)?,
        mode: u32::try_from(number(blob)?).map_err(|_| corrupt("a mode is too large"))?,
    };
    let shown = u64::from_le_bytes(array(blob)?);
    let content = if flags & HAS_CONTENT == 0 { None } else { Some(Hash(array(blob)?)) };
    let target = if flags & HAS_TARGET == 0 {
        None
    } else {
        let len = length(blob)?;
        let target = std::str::from_utf8(take(blob, len)?);
        Some(target.map_err(|_| corrupt("a link's target is not UTF-8"))?.to_owned())
    };
    let content_dot = if flags & HAS_DOT == 0 { None } else { Some(dot(blob)?) };
    let mut base = Vec::new();
    while !blob.is_empty() {
        let Dot { replica, counter } = dot(blob)?;
        base.push((replica, counter));
    }
    let base = VersionVector::from_entries(base).ok_or_else(|| corrupt("a version vector"))?;
    let (racy, implied) = (flags & RACY != 0, flags & IMPLIED != 0);
    Ok(Here { stat, content, target, base, shown, content_dot, racy, implied })
}

/// The number under which an intent's kind is kept.
pub(super) fn intent_kind(kind: IntentKind) -> u8 {
    match kind {
        IntentKind::Create => 0,
        IntentKind::Replace => 1,
        IntentKind::Delete => 2,
        IntentKind::Meta => 3,
    }
}

/// Makes an intent of its parts, which were columns in format 2.
pub(super) fn decode_intent(
    path: &str,
    swap: u64,
    content: &[u8],
    kind: i64,
) -> Result<Intent, IndexError> {
    let kinds = [IntentKind::Create, IntentKind::Replace, IntentKind::Delete, IntentKind::Meta];
    let kind = usize::try_from(kind).ok().and_then(|kind| kinds.get(kind));
    Ok(Intent {
        path: joined("", path)?,
        swap,
        content: Hash::from_slice(content).ok_or_else(|| corrupt("an intent's content"))?,
        kind: *kind.ok_or_else(|| corrupt("an intent of an unknown kind"))?,
    })
}

/// The blob of some intents.
pub(super) fn encode_intents(intents: &[Intent]) -> Vec<u8> {
    let mut bytes = vec![INTENTS_VERSION];
    for intent in intents {
        put_number(&mut bytes, intent.path.as_str().len() as u64);
        bytes.extend_from_slice(intent.path.as_bytes());
        bytes.extend_from_slice(&intent.swap.to_le_bytes());
        bytes.extend_from_slice(&intent.content.0);
        bytes.push(intent_kind(intent.kind));
    }
    bytes
}

/// Reads a blob of intents.
pub(super) fn decode_intents(mut blob: &[u8]) -> Result<Vec<Intent>, IndexError> {
    let blob = &mut blob;
    version(blob, INTENTS_VERSION)?;
    let mut intents = Vec::new();
    while !blob.is_empty() {
        let len = length(blob)?;
        let path = std::str::from_utf8(take(blob, len)?);
        let path = path.map_err(|_| corrupt("an intent's path is not UTF-8"))?;
        let swap = u64::from_le_bytes(array(blob)?);
        let content: [u8; 32] = array(blob)?;
        let [kind] = array(blob)?;
        intents.push(decode_intent(path, swap, &content, i64::from(kind))?);
    }
    Ok(intents)
}

/// The totals as they are kept.
pub(super) fn encode_totals(totals: &Totals) -> Vec<u8> {
    [totals.files, totals.dirs, totals.bytes].iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// Reads totals.
pub(super) fn decode_totals(mut blob: &[u8]) -> Result<Totals, IndexError> {
    let blob = &mut blob;
    let mut next = || Ok::<_, IndexError>(u64::from_le_bytes(array(blob)?));
    let totals = Totals { files: next()?, dirs: next()?, bytes: next()? };
    end(blob)?;
    Ok(totals)
}

/// For crate `checks` only: what a damaged file may hold in each of its columns is a value that keeps its
/// meaning, or refused.
///
/// # Panics
/// If it is not.
#[doc(hidden)]
pub fn check_rows(bytes: &[u8]) {
    if let Ok(known) = decode_known(Bytes::copy_from_slice(bytes)) {
        let mut again = Vec::new();
        encode_known(&known, &mut again);
        assert!(again.len() <= bytes.len());
        assert_eq!(decode_known(again.into()).ok(), Some(known));
    }
    if let Ok(here) = decode_here(bytes) {
        let mut again = Vec::new();
        encode_here(&here, &mut again);
        assert!(again.len() <= bytes.len());
        assert_eq!(decode_here(&again).ok(), Some(here));
    }
    if let Ok(totals) = decode_totals(bytes) {
        assert_eq!(encode_totals(&totals), bytes);
    }
    if let Ok(intents) = decode_intents(bytes) {
        assert!(encode_intents(&intents).len() <= bytes.len());
        assert_eq!(decode_intents(&encode_intents(&intents)).ok(), Some(intents));
    }
    let (kind, rest) = bytes.split_first().unwrap_or((&0, bytes));
    let (content, path) = rest.split_at(rest.len().min(32));
    let path = String::from_utf8_lossy(path);
    if let Ok(intent) = decode_intent(&path, 1, content, i64::from(*kind)) {
        assert_eq!((intent.path.as_str(), &intent.content.0[..]), (&*path, content));
        assert_eq!(intent_kind(intent.kind), *kind);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use wire::version::MAX_COUNTER;

    use super::*;

    fn here() -> impl Strategy<Value = Here> {
        let stat =
            (0usize..5, any::<u64>(), any::<i64>(), any::<i64>(), any::<u64>(), any::<u32>());
        let base = proptest::collection::btree_map(any::<u64>(), 1..=MAX_COUNTER, 0..5);
        let optional = (option::of(any::<[u8; 32]>()), option::of("\\PC{0,40}"));
        let dot = option::of((any::<u64>(), any::<u64>()));
        (stat, optional, base, dot, any::<(bool, bool)>()).prop_map(
            |((kind, size, mtime, ctime, inode, mode), (content, target), base, dot, flags)| {
                let base = base.into_iter().map(|(id, counter)| (ReplicaId(id), counter)).collect();
                Here {
                    stat: Stat { kind: KINDS[kind], size, mtime, ctime, inode, mode },
                    content: content.map(Hash),
                    target,
                    base: VersionVector::from_entries(base).expect("sorted and in bounds"),
                    content_dot: dot.map(|(id, counter)| Dot { replica: ReplicaId(id), counter }),
                    shown: inode.rotate_left(9),
                    racy: flags.0,
                    implied: flags.1,
                }
            },
        )
    }

    fn known() -> impl Strategy<Value = Vec<Known>> {
        let record = (any::<[u8; 32]>(), vec(any::<u8>(), 0..300));
        let record =
            record.prop_map(|(hash, bytes)| Known { hash: Hash(hash), bytes: bytes.into() });
        vec(record, 0..4)
    }

    proptest! {
        #[test]
        fn here_round_trips_and_no_part_of_it_is_taken_for_it(here in here(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            encode_here(&here, &mut bytes);
            prop_assert_eq!(decode_here(&bytes).expect("just encoded"), here.clone());
            if let Ok(other) = decode_here(&bytes[..cut.index(bytes.len())]) {
                prop_assert_ne!(other, here);
            }
        }

        #[test]
        fn known_round_trips_and_no_part_of_it_is_taken_for_it(known in known(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            encode_known(&known, &mut bytes);
            prop_assert_eq!(decode_known(bytes.clone().into()).expect("just encoded"), known.clone());
            if !bytes.is_empty() {
                bytes.truncate(cut.index(bytes.len()));
                if let Ok(other) = decode_known(bytes.into()) {
                    prop_assert_ne!(other, known);
                }
            }
        }

        #[test]
        fn numbers_round_trip(value in any::<u64>()) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, value);
            let mut rest = &bytes[..];
            prop_assert_eq!(number(&mut rest).expect("just encoded"), value);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in vec(any::<u8>(), 0..200), kind in any::<u8>()) {
            let _ = decode_known(bytes.clone().into());
            let _ = decode_totals(&bytes);
            if bytes.len() > 1 {
                bytes[0] = HERE_VERSION;
                bytes[1] = kind;
            }
            if let Ok(here) = decode_here(&bytes) {
                let mut again = Vec::new();
                encode_here(&here, &mut again);
                prop_assert_eq!(decode_here(&again).expect("just encoded"), here);
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert!(number(&mut &[0x80][..]).is_err());
        assert!(number(&mut &[0xff; 10][..]).is_err());
        let mut largest = vec![0xff; 9];
        largest.push(1);
        assert_eq!(number(&mut &largest[..]).expect("fits"), u64::MAX);
        largest[9] = 2;
        assert!(number(&mut &largest[..]).is_err());
    }

    #[test]
    fn unknown_intents_are_refused() {
        assert!(decode_intent("a/b", 1, &[0; 32], 2).is_ok());
        assert!(decode_intent("a/../b", 1, &[0; 32], 2).is_err());
        assert!(decode_intent("a", 1, &[0; 31], 2).is_err());
        assert!(decode_intent("a", 1, &[0; 32], 4).is_err());
        assert!(decode_intent("a", 1, &[0; 32], -1).is_err());
    }
}
