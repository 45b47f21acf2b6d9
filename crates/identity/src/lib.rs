//! Keys, device ids, text forms, short authentication strings and secrets that redact themselves.
//!
//! Pure: no I/O, no clock; randomness comes in as bytes, but for what [`seal::seal`] draws itself. What it is not: it knows nothing of links,
//! ceremonies or who trusts whom.

mod code_text;
mod device;
mod given;
mod inbox;
pub mod locked;
mod sas;
pub mod seal;
mod secret;
mod text;
mod token_text;
mod words;

pub use code_text::{
    CODE_LEN, CodeTextError, ReadCode, code_from_text, code_to_link, code_to_text,
};
pub use device::{DeviceId, DeviceKey, KeyError, SIGNATURE_LEN};
pub use inbox::{InboxId, InboxKey};
pub use sas::Sas;
pub use secret::Secret;
pub use text::{SeedError, SeedKind, TextError};
pub use token_text::{MAX_TOKEN, TokenTextError, token_from_text, token_to_link, token_to_text};
pub use words::WORDS;
