//! Many devices in one process: a virtual disk, network and clock, driven by seeds.
//!
//! The engine under test is the real one, with its real jobs; only the disk, the links, the signatures and
//! the time are made up. A seed decides everything, so that a failing one replays identically.

mod authority;
pub mod disk;
pub mod fault;
mod generate;
pub mod history;
mod mutant;
pub mod plan;
mod rng;
pub mod scenario;
mod shrink;
mod trace;
mod world;

pub use generate::plan;
pub use mutant::Mutation;
pub use shrink::shrink;
