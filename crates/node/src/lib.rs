//! The running device: owns state, links and folders.
//!
//! [`start`] brings up one run of `kin sync`: an identity in memory, a listener, discovery, and one folder.
//! It prints nothing and asks nobody: what happens comes out as [`Event`]s, and questions are answered
//! through the [`Handle`].

mod config;
mod event;
mod host;
mod ignores;
mod session;
mod start;

pub use config::{Admission, SyncConfig};
pub use event::{AppliedKind, Event, QuestionId};
pub use start::{Handle, StartError, start};
