//! Hosts in network namespaces, running `kin` processes and tree comparison: what the two-host tests
//! and the benchmark share. Dev-only; nothing that ships depends on it.
//!
//! A [`Lan`] is two or more [`Host`]s, each a network namespace of its own, plugged into a bridge in
//! yet another one. Real processes run in them, and real packets (multicast included) pass between
//! them. [`Machine::probe`] says whether this machine can do that at all.
//!
//! Not here: anything that knows how Kinfold works inside. This crate sees a command, its events, its
//! exit code and the files it leaves.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate plays the person who owns the files, not Kinfold"
)]

pub mod files;
mod kin;
mod lan;
mod long_line;
mod machine;
mod postgres;
mod sites;
pub mod sshd;
pub mod trees;
mod tun;
mod usage;
mod wait;

pub use kin::{Answers, Kin, KinCommand, pump_until};
pub use lan::{Addressing, Counters, Host, Lan};
pub use long_line::{LongLine, Passed};
pub use machine::{Door, Machine};
pub use postgres::Postgres;
pub use sites::Sites;
pub use usage::{Sampler, Usage};
pub use wait::{LONG, SHORT, eventually, eventually_within};
