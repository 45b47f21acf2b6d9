//! The test vectors of contents in docs/protocol.md are what this code makes.

#[path = "../../wire/tests/document/mod.rs"]
mod document;

use std::collections::BTreeMap;

use document::{hex, printed};
use folder::{
    content::{Chunk, ChunkList, cut},
    index::bucket_of,
};
use wire::{Hash, RelPath};

#[test]
fn the_vectors_in_the_document_are_what_the_code_makes() {
    let mut made = BTreeMap::new();
    let mut add = |name: &str, value: String| made.insert(name.to_owned(), value);
    add("small_content", hex(&Hash::of(b"hello\n").0));
    add("empty_content", hex(&Hash::of(b"").0));

    let mut noise = vec![0; 2 << 20];
    blake3::Hasher::new().update(&[1]).finalize_xof().fill(&mut noise);
    let (mut chunks, mut rest) = (Vec::new(), &noise[..]);
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(cut(rest, true).expect("the content ends here"));
        chunks.push(Chunk::of(chunk));
        rest = behind;
    }
    let lens: Vec<_> = chunks.iter().map(|chunk| chunk.len.to_string()).collect();
    add("noise_chunk_lengths", lens.join(" "));
    add("noise_first_chunk", hex(&chunks[0].hash.0));
    let list = ChunkList::new(chunks).expect("in bounds");
    let pages: Vec<_> = list.page_ids().map(|id| hex(&id.0)).collect();
    add("noise_page_ids", pages.join(" "));
    add("noise_content", hex(&list.content().0));

    let path = RelPath::parse("notes/hello.txt").expect("a path");
    add("bucket", bucket_of(&path).to_string());
    let copy =
        tree::apply::conflict_name(&path, 0xa1a2_a3a4_a5a6_a7a8, Hash::of(b"hello\n").head());
    add("conflict_copy", copy.to_string());
    assert_eq!(printed("vectors-folder"), made);
}
