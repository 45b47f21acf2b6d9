//! Keys, device ids, text forms, short authentication strings and secrets that redact themselves.
//!
//! Pure: no I/O, no clock; randomness comes in as bytes. What it is not: it knows nothing of links,
//! ceremonies or who trusts whom.

mod device;
mod inbox;
mod sas;
mod secret;
mod text;
mod words;

pub use device::{DeviceId, DeviceKey, KeyError, SIGNATURE_LEN};
pub use inbox::{InboxId, InboxKey};
pub use sas::Sas;
pub use secret::Secret;
pub use text::{SeedError, SeedKind, TextError};
pub use words::WORDS;
