//! Reads the test vectors of docs/protocol.md. Included by `tests/vectors.rs` of each crate that has some.

use std::{collections::BTreeMap, fmt::Write as _};

const DOCUMENT: &str = include_str!("../../../../docs/protocol.md");

/// The lines `name = value` of the block that is marked with this word.
pub(crate) fn printed(block: &str) -> BTreeMap<String, String> {
    let (_, rest) = DOCUMENT.split_once(&format!("```{block}\n")).expect("the block is there");
    let (lines, _) = rest.split_once("```").expect("the block ends");
    let pair = |line: &str| line.split_once(" = ").map(|(n, v)| (n.trim().into(), v.trim().into()));
    lines.lines().filter_map(pair).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
