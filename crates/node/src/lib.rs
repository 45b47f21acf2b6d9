//! The running device: owns state, links and folders.
//!
//! [`start`] brings up one run of `kin sync`: an identity in memory, a listener, discovery, and one folder.
//! It prints nothing and asks nobody: what happens comes out as [`Event`]s, and questions are answered
//! through the [`Handle`]. [`Home`] is the identity that outlives a run.

pub mod api;
mod config;
pub mod device;
mod event;
mod home;
mod host;
mod ignores;
mod line;
mod session;
mod start;

pub use config::{Admission, SyncConfig};
pub use event::{AppliedKind, Event, QuestionId};
pub use folder::brake::Limit as DeleteLimit;
/// Settling conflicts, with or without a running device.
pub use folder::conflicts;
/// What sync replaced or deleted: listing it and bringing it back, with or without a running device.
pub use folder::history;
pub use home::{Home, HomeError};
pub use start::{Handle, StartError, start};
