//! The sync engine: what a folder remembers, how versions are compared, how contents are cut, and how
//! devices come to hold the same tree. docs/protocol.md says what it speaks; rules E1 to E25 what it must
//! keep.
//!
//! [`engine`] is the state machine, pure but for the [`index`] it owns; [`jobs`] are its hands on the
//! disk. Nothing here opens a file or a socket by itself.

pub mod brake;
pub mod compress;
pub mod conflicts;
pub mod content;
pub mod decide;
pub mod engine;
pub mod history;
pub mod ignore;
pub mod index;
pub mod jobs;
pub mod siblings;

pub use engine::{Engine, EngineError, Now, PeerId};
