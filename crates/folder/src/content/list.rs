//! Chunk lists: the chunks of one content in order, their pages, and the hash that names the content.

use bytes::{BufMut as _, Bytes, BytesMut};
use wire::{Hash, sync::MAX_PAGES};

use super::{CHUNKED_FROM, MAX_CHUNK, MIN_CHUNK};

/// Largest content that is cut (1 TiB); larger files do not travel.
pub const MAX_CONTENT: u64 = 1 << 40;
/// Most chunks in a page.
pub const MAX_PAGE_CHUNKS: usize = 512;
/// A page ends after a chunk whose hash begins with a zero byte, but not before it has this many chunks,
/// so that a content made of one repeated chunk does not get a page for each.
pub const MIN_PAGE_CHUNKS: usize = 64;

/// Bytes of one chunk in a page: its hash, and its length in little-endian.
const ENTRY: usize = 36;
/// First byte of a packed list.
const PACKED_VERSION: u8 = 1;
/// Bytes before the chunks of a packed list: the version and the content's size in little-endian.
const PACKED_HEAD: usize = 9;

const PAGE_CONTEXT: &str = "kinfold 2026-11 chunk page";
const CONTENT_CONTEXT: &str = "kinfold 2026-11 chunked content";

/// Why a chunk list or a page of one was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// Not whole entries, no entries, too many, or an unknown version.
    #[error("a chunk list is malformed")]
    Malformed,
    /// A chunk is empty, too small or too large for its place.
    #[error("a chunk list names a chunk of {0} bytes")]
    ChunkSize(u32),
    /// The chunks do not add up to the content's size.
    #[error("a chunk list adds up to {found} bytes instead of {expected}")]
    Sum {
        /// Bytes announced.
        expected: u64,
        /// Bytes in the chunks.
        found: u64,
    },
    /// A size that is not of a content that is cut.
    #[error("a content of {0} bytes has no chunk list")]
    ContentSize(u64),
    /// More pages than a list may have ([`MAX_PAGES`]).
    #[error("a chunk list has too many pages")]
    TooManyPages,
    /// A page does not end where the rule for pages says.
    #[error("a chunk list is cut into the wrong pages")]
    Pages,
    /// The hash does not match what it should name.
    #[error("a chunk list or page does not match its hash")]
    Hash,
}

/// One chunk of a content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// BLAKE3 hash of its bytes.
    pub hash: Hash,
    /// Its length in bytes, 1 to [`MAX_CHUNK`].
    pub len: u32,
}

impl Chunk {
    /// The chunk that these bytes are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { hash: Hash::of(bytes), len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }
    }

    /// True if these bytes are this chunk.
    #[must_use]
    pub fn verify(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == u64::from(self.len) && Hash::of(bytes) == self.hash
    }
}

/// The chunks of a content of [`CHUNKED_FROM`] bytes or more. Whatever way it was made, sizes add up and
/// are in bounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkList {
    size: u64,
    chunks: Vec<Chunk>,
    pages: Vec<Page>,
    content: Hash,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Page {
    /// Number of the chunk after the last one of this page.
    end: usize,
    id: Hash,
}

impl ChunkList {
    /// Takes the chunks of a content in order.
    ///
    /// # Errors
    /// Says which bound they break.
    pub fn new(chunks: Vec<Chunk>) -> Result<Self, ListError> {
        let size = check_chunks(&chunks)?;
        let mut pages = Vec::new();
        let mut start = 0;
        while start < chunks.len() {
            let end = start + page_len(&chunks[start..]);
            if pages.len() == MAX_PAGES {
                return Err(ListError::TooManyPages);
            }
            pages.push(Page { end, id: page_id(&pack_page(&chunks[start..end])) });
            start = end;
        }
        let content = content_hash(size, pages.iter().map(|page| &page.id));
        Ok(Self { size, chunks, pages, content })
    }

    /// Puts together what travelled: the ids of all pages and the pages, both in order.
    ///
    /// # Errors
    /// If anything does not match `size` and `content`.
    pub fn from_pages(
        size: u64,
        content: &Hash,
        ids: &[Hash],
        pages: &[Bytes],
    ) -> Result<Self, ListError> {
        Self::verify_ids(size, content, ids)?;
        if ids.len() != pages.len() {
            return Err(ListError::Pages);
        }
        let mut chunks = Vec::new();
        for (id, page) in ids.iter().zip(pages) {
            chunks.extend(parse_page(id, page)?);
        }
        let list = Self::new(chunks)?;
        if list.size != size {
            return Err(ListError::Sum { expected: size, found: list.size });
        }
        // The same chunks in pages of other lengths would be another content.
        if list.content == *content { Ok(list) } else { Err(ListError::Pages) }
    }

    /// Checks that these are the ids of all pages of a content.
    ///
    /// # Errors
    /// If the size is of no content that is cut, there are too many or too few, or the hash differs.
    pub fn verify_ids(size: u64, content: &Hash, ids: &[Hash]) -> Result<(), ListError> {
        check_size(size)?;
        if ids.len() > MAX_PAGES {
            return Err(ListError::TooManyPages);
        }
        // As many chunks as fit at least, in pages that are full; as many as fit at most, each alone.
        let (fewest, most) = (size.div_ceil(u64::from(MAX_CHUNK)), size / u64::from(MIN_CHUNK) + 1);
        let fewest = fewest.div_ceil(MAX_PAGE_CHUNKS as u64);
        if !(fewest..=most).contains(&(ids.len() as u64)) {
            return Err(ListError::Pages);
        }
        let same = content_hash(size, ids.iter()) == *content;
        if same { Ok(()) } else { Err(ListError::Hash) }
    }

    /// Checks that these bytes are a page with this id and could be part of a list.
    ///
    /// # Errors
    /// If they are not.
    pub fn verify_page(id: &Hash, page: &[u8]) -> Result<(), ListError> {
        parse_page(id, page).map(|_| ())
    }

    /// The content's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hash that names the content.
    #[must_use]
    pub fn content(&self) -> Hash {
        self.content
    }

    /// The chunks in order.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The chunks in order, each with the offset of its first byte.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Chunk)> {
        self.chunks.iter().scan(0, |offset, chunk| {
            let at = *offset;
            *offset += u64::from(chunk.len);
            Some((at, chunk))
        })
    }

    /// Ids of the pages in order, at most [`MAX_PAGES`].
    pub fn page_ids(&self) -> impl ExactSizeIterator<Item = Hash> {
        self.pages.iter().map(|page| page.id)
    }

    /// A page as it travels, at most [`wire::sync::MAX_PAGE`] bytes.
    #[must_use]
    pub fn page(&self, number: usize) -> Option<Bytes> {
        let end = self.pages.get(number)?.end;
        let start = number.checked_sub(1).map_or(0, |before| self.pages[before].end);
        Some(pack_page(&self.chunks[start..end]))
    }

    /// The list as the index keeps it.
    #[must_use]
    pub fn pack(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(PACKED_HEAD + self.chunks.len() * ENTRY);
        bytes.put_u8(PACKED_VERSION);
        bytes.put_u64_le(self.size);
        put_chunks(&mut bytes, &self.chunks);
        bytes.freeze()
    }

    /// Reads what [`ChunkList::pack`] wrote.
    ///
    /// # Errors
    /// For anything else.
    pub fn unpack(bytes: &[u8]) -> Result<Self, ListError> {
        let (head, entries) = bytes.split_at_checked(PACKED_HEAD).ok_or(ListError::Malformed)?;
        if head[0] != PACKED_VERSION {
            return Err(ListError::Malformed);
        }
        let mut size = [0; 8];
        size.copy_from_slice(&head[1..]);
        let expected = u64::from_le_bytes(size);
        let list = Self::new(parse_chunks(entries)?)?;
        if list.size == expected {
            Ok(list)
        } else {
            Err(ListError::Sum { expected, found: list.size })
        }
    }
}

/// The size of a content with these chunks.
fn check_chunks(chunks: &[Chunk]) -> Result<u64, ListError> {
    let (last, others) = chunks.split_last().ok_or(ListError::Malformed)?;
    let out = |chunk: &&Chunk| !(MIN_CHUNK..=MAX_CHUNK).contains(&chunk.len);
    if let Some(bad) = others.iter().find(out) {
        return Err(ListError::ChunkSize(bad.len));
    }
    if !(1..=MAX_CHUNK).contains(&last.len) {
        return Err(ListError::ChunkSize(last.len));
    }
    // At most 2^20 a chunk: this cannot overflow for any number of chunks in memory.
    let size = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
    check_size(size)?;
    Ok(size)
}

fn check_size(size: u64) -> Result<(), ListError> {
    let cut = (CHUNKED_FROM..=MAX_CONTENT).contains(&size);
    if cut { Ok(()) } else { Err(ListError::ContentSize(size)) }
}

/// Chunks in the page that begins with the first of `chunks`.
fn page_len(chunks: &[Chunk]) -> usize {
    let window = &chunks[..chunks.len().min(MAX_PAGE_CHUNKS)];
    let ends = |(at, chunk): (usize, &Chunk)| at + 1 >= MIN_PAGE_CHUNKS && chunk.hash.0[0] == 0;
    window.iter().enumerate().position(ends).map_or(window.len(), |at| at + 1)
}

fn put_chunks(bytes: &mut BytesMut, chunks: &[Chunk]) {
    for chunk in chunks {
        bytes.put_slice(&chunk.hash.0);
        bytes.put_u32_le(chunk.len);
    }
}

fn pack_page(chunks: &[Chunk]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(chunks.len() * ENTRY);
    put_chunks(&mut bytes, chunks);
    bytes.freeze()
}

fn parse_chunks(bytes: &[u8]) -> Result<Vec<Chunk>, ListError> {
    let (entries, rest) = bytes.as_chunks::<ENTRY>();
    if !rest.is_empty() || entries.is_empty() {
        return Err(ListError::Malformed);
    }
    let parse = |entry: &[u8; ENTRY]| {
        let (mut hash, mut len) = ([0; 32], [0; 4]);
        hash.copy_from_slice(&entry[..32]);
        len.copy_from_slice(&entry[32..]);
        Chunk { hash: Hash(hash), len: u32::from_le_bytes(len) }
    };
    Ok(entries.iter().map(parse).collect())
}

fn parse_page(id: &Hash, page: &[u8]) -> Result<Vec<Chunk>, ListError> {
    if page.len() > MAX_PAGE_CHUNKS * ENTRY {
        return Err(ListError::Malformed);
    }
    if page_id(page) != *id {
        return Err(ListError::Hash);
    }
    let chunks = parse_chunks(page)?;
    match chunks.iter().find(|chunk| !(1..=MAX_CHUNK).contains(&chunk.len)) {
        Some(bad) => Err(ListError::ChunkSize(bad.len)),
        None => Ok(chunks),
    }
}

fn page_id(packed: &[u8]) -> Hash {
    Hash::derived(PAGE_CONTEXT, &[packed])
}

fn content_hash<'a>(size: u64, ids: impl Iterator<Item = &'a Hash>) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key(CONTENT_CONTEXT);
    hasher.update(&size.to_le_bytes());
    for id in ids {
        hasher.update(&id.0);
    }
    Hash(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Chunks with made-up hashes; about one in eight could end a page.
    fn chunks(most: usize) -> impl Strategy<Value = Vec<Chunk>> {
        let chunk =
            (0u8..8, any::<[u8; 31]>(), MIN_CHUNK..=MAX_CHUNK).prop_map(|(head, tail, len)| {
                let mut hash = [head; 32];
                hash[1..].copy_from_slice(&tail);
                Chunk { hash: Hash(hash), len }
            });
        (vec(chunk, 16..most), 1..MIN_CHUNK).prop_map(|(mut chunks, rest)| {
            chunks.push(Chunk { hash: Hash::of(b"the last"), len: rest });
            chunks
        })
    }

    fn pages(list: &ChunkList) -> (Vec<Hash>, Vec<Bytes>) {
        let pages = (0..list.page_ids().len()).filter_map(|number| list.page(number)).collect();
        (list.page_ids().collect(), pages)
    }

    fn with_len(len: u32) -> Chunk {
        Chunk { hash: Hash::of(b"any"), len }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn e21_lists_survive_both_of_their_forms(chunks in chunks(1200)) {
            let list = ChunkList::new(chunks).expect("in bounds");
            prop_assert_eq!(ChunkList::unpack(&list.pack()), Ok(list.clone()));
            let (ids, pages) = pages(&list);
            prop_assert!(pages.iter().all(|page| page.len() <= wire::sync::MAX_PAGE));
            let again = ChunkList::from_pages(list.size(), &list.content(), &ids, &pages);
            prop_assert_eq!(again, Ok(list));
        }

        #[test]
        fn e21_any_change_to_a_page_is_refused(chunks in chunks(600), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let list = ChunkList::new(chunks).expect("in bounds");
            let (ids, mut pages) = pages(&list);
            let page = at.index(pages.len());
            let mut bytes = pages[page].to_vec();
            let byte = at.index(bytes.len());
            bytes[byte] ^= 1 << bit;
            prop_assert_eq!(ChunkList::verify_page(&ids[page], &bytes), Err(ListError::Hash));
            pages[page] = bytes.into();
            let again = ChunkList::from_pages(list.size(), &list.content(), &ids, &pages);
            prop_assert_eq!(again, Err(ListError::Hash));
        }

        #[test]
        fn packed_lists_of_any_bytes_are_read_or_refused(mut bytes in vec(any::<u8>(), 0..2000), fits in any::<bool>()) {
            if fits && bytes.len() > PACKED_HEAD {
                bytes[0] = PACKED_VERSION;
                for entry in bytes[PACKED_HEAD..].chunks_exact_mut(ENTRY) {
                    let len = MIN_CHUNK + u32::from(entry[0]);
                    entry[32..].copy_from_slice(&len.to_le_bytes());
                }
            }
            if let Ok(list) = ChunkList::unpack(&bytes) {
                prop_assert_eq!(&list.pack()[..], &bytes[..]);
            }
        }
    }

    #[test]
    fn lists_out_of_bounds_are_refused() {
        let full = with_len(MAX_CHUNK);
        assert_eq!(ChunkList::new(vec![]), Err(ListError::Malformed));
        assert_eq!(ChunkList::new(vec![with_len(0)]), Err(ListError::ChunkSize(0)));
        let small = MAX_CHUNK - 1;
        assert_eq!(
            ChunkList::new(vec![with_len(small)]),
            Err(ListError::ContentSize(u64::from(small)))
        );
        for bad in [MIN_CHUNK - 1, MAX_CHUNK + 1, u32::MAX] {
            let list = ChunkList::new(vec![full, with_len(bad), full]);
            assert_eq!(list, Err(ListError::ChunkSize(bad)));
        }
        let list = ChunkList::new(vec![full, with_len(MAX_CHUNK + 1)]);
        assert_eq!(list, Err(ListError::ChunkSize(MAX_CHUNK + 1)));
        assert!(ChunkList::new(vec![full, with_len(1)]).is_ok());
        let most = usize::try_from(MAX_CONTENT >> 20).expect("fits");
        let mut chunks = vec![full; most];
        assert!(ChunkList::new(chunks.clone()).is_ok(), "1 TiB of one repeated chunk");
        chunks.push(with_len(1));
        assert_eq!(ChunkList::new(chunks), Err(ListError::ContentSize(MAX_CONTENT + 1)));
    }

    #[test]
    fn a_packed_list_that_lies_about_its_size_is_refused() {
        let list = ChunkList::new(vec![with_len(MAX_CHUNK); 3]).expect("in bounds");
        let mut bytes = list.pack().to_vec();
        bytes[1] ^= 1;
        assert!(matches!(ChunkList::unpack(&bytes), Err(ListError::Sum { .. })));
        let mut bytes = list.pack().to_vec();
        bytes[0] = 2;
        assert_eq!(ChunkList::unpack(&bytes), Err(ListError::Malformed));
    }

    #[test]
    fn e21_pages_end_by_the_rule_and_other_pages_make_another_content() {
        let ends = Chunk { hash: Hash([0; 32]), len: MIN_CHUNK };
        let goes_on = Chunk { hash: Hash([1; 32]), len: MIN_CHUNK };
        let mut chunks = vec![goes_on; 2000];
        chunks[10] = ends;
        chunks[100] = ends;
        chunks[1500] = ends;
        let list = ChunkList::new(chunks.clone()).expect("in bounds");
        let found: Vec<_> = list.pages.iter().map(|page| page.end).collect();
        assert_eq!(found, [101, 613, 1125, 1501, 2000]);

        let pages: Vec<_> = chunks.chunks(500).map(pack_page).collect();
        let ids: Vec<_> = pages.iter().map(|page| page_id(page)).collect();
        let size = list.size();
        let content = content_hash(size, ids.iter());
        assert_eq!(ChunkList::verify_ids(size, &content, &ids), Ok(()));
        let list = ChunkList::from_pages(size, &content, &ids, &pages);
        assert_eq!(list, Err(ListError::Pages));
    }

    #[test]
    fn e21_a_change_leaves_most_other_pages_as_they_were() {
        let mut new = 0;
        for seed in 0..40usize {
            let chunk = |number: usize| Chunk {
                hash: Hash::of(&[seed.to_le_bytes(), number.to_le_bytes()].concat()),
                len: MIN_CHUNK,
            };
            let mut chunks: Vec<_> = (0..4000).map(chunk).collect();
            let before = ChunkList::new(chunks.clone()).expect("in bounds");
            chunks.insert(seed * 97, chunk(5000));
            let after = ChunkList::new(chunks).expect("in bounds");
            let before: Vec<_> = before.page_ids().collect();
            new += after.page_ids().filter(|id| !before.contains(id)).count();
        }
        assert!(new < 3 * 40, "{new} new pages for 40 changes");
    }

    #[test]
    fn attack_27_ids_are_bounded_before_they_are_hashed() {
        let content = Hash::default();
        let verify = |size, count| ChunkList::verify_ids(size, &content, &vec![content; count]);
        assert_eq!(verify(MAX_CONTENT, MAX_PAGES + 1), Err(ListError::TooManyPages));
        assert_eq!(verify(MAX_CONTENT, 2047), Err(ListError::Pages));
        assert_eq!(verify(MAX_CONTENT, 2048), Err(ListError::Hash));
        assert_eq!(verify(CHUNKED_FROM, 0), Err(ListError::Pages));
        assert_eq!(verify(CHUNKED_FROM, 18), Err(ListError::Pages));
        assert_eq!(verify(CHUNKED_FROM - 1, 1), Err(ListError::ContentSize(CHUNKED_FROM - 1)));
        assert_eq!(verify(u64::MAX, 1), Err(ListError::ContentSize(u64::MAX)));
    }

    #[test]
    fn e21_the_name_of_a_content_is_golden() {
        let chunks = vec![Chunk::of(&[7; MAX_CHUNK as usize]), Chunk::of(b"end")];
        let list = ChunkList::new(chunks).expect("in bounds");
        let name = "d7d940465f54fccc2b552dedc11eaa65100fd7f08a895bc32ca2d564e3a5bb0f";
        assert_eq!(list.content().to_hex(), name);
    }
}
