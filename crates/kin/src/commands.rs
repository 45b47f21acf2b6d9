//! One file a command.

pub(crate) mod codes;
pub(crate) mod completions;
pub(crate) mod conflicts;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod down;
pub(crate) mod folders;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod id;
pub(crate) mod join;
pub(crate) mod log;
pub(crate) mod pair;
pub(crate) mod relay;
pub(crate) mod restore;
pub(crate) mod service;
pub(crate) mod share;
pub(crate) mod ssh;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod torture;
pub(crate) mod undo;
pub(crate) mod up;
pub(crate) mod why;
