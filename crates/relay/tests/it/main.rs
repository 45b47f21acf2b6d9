//! A relay and its clients, over loopback. Each file is about one thing that a relay does.
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broken;
mod certificates;
mod common;
mod health;
mod hostile;
mod mailboxes;
mod packaging;
mod rendezvous;
mod splices;
mod strangers;
