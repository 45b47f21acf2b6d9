//! The relay: a server that stores and forwards what it cannot read, and its client.
//!
//! Three things it does. At the *rendezvous* a sealed entry lies under a lookup id until its time is over. In
//! a *mailbox* sealed envelopes wait for its owner, who proves its key and acknowledges what it has handled;
//! who deposits stays unknown. A *splice* joins two connections that meet under a random id, and whatever runs
//! through them has its own TLS. What a relay is trusted with is delay, nothing else: [`Client`] takes nothing
//! that a relay says as a reason to give up what it wanted to deliver.
//!
//! [`Server`] answers, on a [`store::Store`]. docs/protocol.md, section 25, describes the protocol, docs/relay.md
//! how one is run.

mod address;
mod client;
mod frames;
#[cfg(feature = "hostile")]
pub mod hostile;
pub mod operate;
mod server;
mod socket;
pub mod store;
mod tls;

pub use address::{AddressError, RelayAddress, RelayKey};
pub use client::{Client, ClientError, Connection, Inbox, InboxReader, InboxWriter, Splice};
pub use server::{Limits, Rate, Server, ServerError, Settings};
pub use tls::{Identity, TlsError};
