//! Who belongs together. Pure.
//!
//! [`log`] is the membership log of a group that lasts: signed operations, and the manifest they come
//! to, whatever the order in which they arrive. `kin` does not use it yet.
//!
//! What `kin sync` uses is the session group of one run (rule T7): its members vouch for newcomers with
//! signed statements; whoever can be reached from this device over such statements is accepted here.
//! Acceptance is a function of the *set* of vouches, never of the order in which they came. Nothing of
//! it outlives the run.

pub mod log;
mod session;
mod vouch;

pub use session::SessionGroup;
pub use vouch::{Topic, VouchExt};
