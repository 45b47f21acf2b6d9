//! Contents: how a file's bytes are named, cut and verified (rules E20 and E21).
//!
//! A content below [`CHUNKED_FROM`] bytes is named by the BLAKE3 hash of its bytes. A larger one is cut
//! into chunks, the list of chunks into pages, and is named by a hash over its size and the ids of the
//! pages: a Merkle tree of depth two, in which every chunk and every page is verified on its own. The
//! parameters are fixed for the version of the protocol: devices that cut differently would send
//! everything twice. Reading files is done through [`tree::ReadFile`]; nothing here writes.

mod cut;
mod list;
mod parallel;
mod reader;

pub use cut::{AVG_CHUNK, CHUNKED_FROM, MAX_CHUNK, MIN_CHUNK, cut};
pub use list::{Chunk, ChunkList, ListError, MAX_CONTENT, MAX_PAGE_CHUNKS, MIN_PAGE_CHUNKS};
pub use reader::{ContentError, ContentReader, Hashed, SMALL};
