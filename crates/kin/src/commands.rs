//! One file a command.

pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod history;
pub(crate) mod id;
pub(crate) mod pair;
pub(crate) mod restore;
pub(crate) mod sync;
pub(crate) mod torture;
