//! The test vectors of contents in docs/protocol.md are what this code makes.

use std::collections::BTreeMap;

use folder::{
    content::{Chunk, ChunkList, cut},
    index::bucket_of,
};
use wire::{Hash, RelPath};

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// The lines `name = value` of the block that is marked with this word.
fn printed(block: &str) -> BTreeMap<String, String> {
    let (_, rest) = DOCUMENT.split_once(&format!("```{block}\n")).expect("the block is there");
    let (lines, _) = rest.split_once("```").expect("the block ends");
    let pair = |line: &str| line.split_once(" = ").map(|(n, v)| (n.trim().into(), v.trim().into()));
    lines.lines().filter_map(pair).collect()
}

#[test]
fn the_vectors_in_the_document_are_what_the_code_makes() {
    let mut made = BTreeMap::new();
    let mut add = |name: &str, value: String| made.insert(name.to_owned(), value);
    add("small_content", Hash::of(b"hello\n").to_hex());
    add("empty_content", Hash::of(b"").to_hex());

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
    add("noise_first_chunk", chunks[0].hash.to_hex());
    let list = ChunkList::new(chunks).expect("in bounds");
    let pages: Vec<_> = list.page_ids().map(|id| id.to_hex()).collect();
    add("noise_page_ids", pages.join(" "));
    add("noise_content", list.content().to_hex());

    let path = RelPath::parse("notes/hello.txt").expect("a path");
    add("bucket", bucket_of(&path).to_string());
    let copy =
        tree::apply::conflict_name(&path, 0xa1a2_a3a4_a5a6_a7a8, Hash::of(b"hello\n").head());
    add("conflict_copy", copy.to_string());
    assert_eq!(printed("vectors-folder"), made);
}
