//! Chunk lists, compressed pieces, and rows of the index.

use bytes::Bytes;
use folder::{
    compress::{self, MAX_RATIO},
    content::ChunkList,
};
use wire::{
    Hash,
    sync::{MAX_PAGE, MAX_PIECE, PieceData},
};

/// A list as the index keeps it, and the same bytes as pages of one that a peer sends.
pub(crate) fn list(data: &[u8]) {
    if let Ok(list) = ChunkList::unpack(data) {
        assert_eq!(list.pack(), data, "one list, two forms");
        assert_eq!(
            list.chunks().iter().map(|chunk| u64::from(chunk.len)).sum::<u64>(),
            list.size()
        );
        let ids: Vec<Hash> = list.page_ids().collect();
        let pages: Vec<Bytes> = (0..ids.len()).filter_map(|number| list.page(number)).collect();
        assert!(pages.iter().all(|page| page.len() <= MAX_PAGE));
        for (id, page) in ids.iter().zip(&pages) {
            assert_eq!(ChunkList::verify_page(id, page), Ok(()));
        }
        let again = ChunkList::from_pages(list.size(), &list.content(), &ids, &pages);
        assert_eq!(again.as_ref(), Ok(&list));
        assert!(ChunkList::from_pages(list.size() + 1, &list.content(), &ids, &pages).is_err());
    }
    // What a peer sends: a size, then ids; and the whole as one page under a name of its own.
    let Some((size, rest)) = data.split_first_chunk::<8>() else { return };
    let size = u64::from_le_bytes(*size);
    let ids: Vec<Hash> = rest.as_chunks::<32>().0.iter().map(|id| Hash(*id)).collect();
    let content = ids.first().copied().unwrap_or_default();
    assert!(ChunkList::verify_ids(size, &content, &ids).is_err(), "ids that name themselves");
    let pages = vec![Bytes::copy_from_slice(data); ids.len()];
    assert!(ChunkList::from_pages(size, &content, &ids, &pages).is_err());
    assert!(ChunkList::verify_page(&content, data).is_err());
}

/// A piece of content as it travels: a byte for its kind, three for its length, its bytes.
pub(crate) fn piece(data: &[u8]) {
    let [kind, low, middle, high, bytes @ ..] = data else { return };
    let len = u32::from_le_bytes([*low, *middle, *high, 0]);
    let piece = PieceData { zstd: kind % 2 == 1, len, bytes: Bytes::copy_from_slice(bytes) };
    if let Ok(opened) = compress::open(piece) {
        assert_eq!(opened.len(), len as usize);
        assert!(opened.len() <= MAX_PIECE as usize);
        assert!(opened.len() / MAX_RATIO <= bytes.len(), "a bomb");
        let sealed = compress::seal(opened.clone(), compress::Policy::WherePays);
        assert!(sealed.bytes.len() <= opened.len());
        assert_eq!(compress::open(sealed), Ok(opened));
    }
}

/// What a damaged index may hold.
pub(crate) fn index(data: &[u8]) {
    folder::index::check_rows(data);
}
