//! What travels between devices: paths, versions, records, messages and framing.
//!
//! Everything here is pure: bytes in, validated values out, or a typed error. Nothing is allocated
//! for a length that was not checked first, and no value leaves a decoder that a later crate would
//! have to check again.

mod bounds;
pub mod buffer;
pub mod code;
pub mod device;
pub mod envelope;
pub mod frame;
pub mod hash;
pub mod heard;
pub mod mail;
pub mod membership;
pub mod pair;
pub mod path;
pub mod record;
pub mod relay;
pub mod session;
pub mod ssh;

pub mod sync;
pub mod version;

pub use hash::Hash;
pub use path::{PathError, RelPath};

/// Why bytes from outside were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The protobuf decoder could not read the message.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A field that must be there is missing, or has a value outside its range.
    #[error("{field}: {problem}")]
    Field {
        /// The field's name in docs/protocol.md.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A frame announced more bytes than are allowed at this point of the protocol.
    #[error("frame of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// Announced length in bytes.
        len: u64,
        /// The limit in force in bytes.
        limit: u64,
    },
    /// A path that no device may send.
    #[error("path: {0}")]
    Path(#[from] PathError),
}

impl WireError {
    pub(crate) fn field(field: &'static str, problem: &'static str) -> Self {
        Self::Field { field, problem }
    }
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}
