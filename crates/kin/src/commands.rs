//! One file a command.

pub(crate) mod demo;
pub(crate) mod id;
pub(crate) mod sync;
pub(crate) mod torture;
