//! The ceremonies as pure state machines: messages in, messages out; no I/O, no clock, randomness as
//! arguments.
//!
//! - [`Lan`]: two people compare a short authentication string (rule T3).
//! - [`Passphrase`]: both sides know a passphrase (rule T5).
//! - [`token`]: one device shows a token, the other asks with it, and both people compare (rule T4).
//! - [`grants`]: what an admission grants, in words (rule T9).
//! - [`Verdicts`]: both sides' answers, after which a link is one between members, or ends.
//! - [`Attempts`]: how often a ceremony may fail before admission closes.
//!
//! What this is not: it decides neither who may try nor what an admission is worth, and it trusts its
//! caller for two things only: that device ids were proven, by the link's handshake or a letter's
//! signature, and that the exporter is the link's.

mod attempts;
pub mod code;
mod grants;
mod lan;
mod passphrase;
pub mod token;
mod transcript;
mod verdicts;

pub use attempts::{Attempts, LAN_ATTEMPTS, PASSPHRASE_ATTEMPTS};
pub use grants::{Side, grants};
pub use lan::{Lan, LanStep};
pub use passphrase::{Passphrase, PassphraseStep};
pub use transcript::{Party, Transcript};
pub use verdicts::{Outcome, Verdicts};

/// Why a ceremony ended before its end. Nobody is trusted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Abort {
    /// A message came that has no place at this point.
    #[error("a message of the ceremony came out of order")]
    OutOfOrder,
    /// What was revealed is not what was committed to.
    #[error("the other side changed what it had committed to")]
    Commitment,
    /// Both sides are the same device, or show the same keys or numbers.
    #[error("the other side mirrors this one")]
    Reflected,
    /// The passphrases differ.
    #[error("the passphrases differ")]
    WrongPassphrase,
    /// The other side's passphrase message is no group element.
    #[error("a message of the ceremony is malformed")]
    Malformed,
}
