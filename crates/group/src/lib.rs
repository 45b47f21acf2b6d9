//! Who belongs together. Pure.
//!
//! So far: the session group of a `kin sync` run (rule T7). Its members vouch for newcomers with
//! signed statements; whoever can be reached from this device over such statements is accepted here.
//! Acceptance is a function of the *set* of vouches, never of the order in which they came. What this
//! is not: a membership log; nothing of it outlives the run.

mod session;
mod vouch;

pub use session::SessionGroup;
pub use vouch::{Topic, VouchExt};
