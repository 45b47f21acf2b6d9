//! What a running session tells the person (or the program) in front of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

pub use folder::engine::AppliedKind;
use identity::DeviceId;
use wire::RelPath;

/// Why a question is open: its number within this run, from 1 (rule T6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QuestionId(pub u32);

/// Numbers the questions of a run.
#[derive(Clone, Default, Debug)]
pub(crate) struct QuestionIds(Arc<AtomicU32>);

impl QuestionIds {
    pub(crate) fn next(&self) -> QuestionId {
        QuestionId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// One thing worth telling. The names are those of the `--json` contract.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The link listener is up.
    Listening {
        /// This run's device id.
        device: DeviceId,
        /// This device's name.
        name: String,
        /// TCP port.
        port: u16,
        /// True if the default port was taken and a free one chosen instead.
        port_was_taken: bool,
    },
    /// Discovery (or a manual address) led to somebody who may be a peer.
    PeerFound {
        /// Its name as advertised: a hint, unescaped, never trusted.
        name: String,
        /// Where it was found.
        addr: SocketAddr,
    },
    /// A question: is this the device the person means? Answer with [`crate::Handle::answer`].
    Confirm {
        /// The question's number.
        id: QuestionId,
        /// The device whose key was proven.
        device: DeviceId,
        /// What it calls itself (unescaped).
        name: String,
        /// The short authentication string both sides show.
        sas: String,
        /// Devices that come along by vouching if the answer is yes (rule T7): id and name.
        along: Vec<(DeviceId, String)>,
    },
    /// The other side's person compares; this side accepts without a question (it is open, or knows the
    /// device already). Shown so that there is something to compare with.
    Comparing {
        /// The device whose key was proven.
        device: DeviceId,
        /// What it calls itself (unescaped).
        name: String,
        /// The short authentication string both sides show.
        sas: String,
    },
    /// A question: are these deletions meant (rule E19)? Until it is answered yes with
    /// [`crate::Handle::answer`], they are held, and nothing is in sync. It may also be withdrawn.
    Brake {
        /// The question's number.
        id: QuestionId,
        /// Files deleted within 24 hours, with those that are held.
        deletes: u64,
        /// Of how many.
        of: u64,
        /// Files whose deletion is held.
        held: u64,
        /// Names of the devices that deleted them (unescaped); empty if nobody is known.
        from: String,
        /// True if some are gone from this device's folder.
        here: bool,
    },
    /// A question needs no answer any more (answered elsewhere, or the other side left).
    ConfirmWithdrawn {
        /// The question's number.
        id: QuestionId,
        /// Why, in words.
        reason: String,
    },
    /// A member's link is up and the folder is being compared.
    PeerConnected {
        /// The peer.
        device: DeviceId,
        /// Its name (unescaped).
        name: String,
        /// Where it is.
        addr: SocketAddr,
        /// The negotiated key exchange group, as rustls names it (`X25519MLKEM768`).
        key_exchange: String,
    },
    /// A member's link is gone.
    PeerDisconnected {
        /// The peer.
        device: DeviceId,
        /// Its name (unescaped).
        name: String,
        /// Why, in words.
        reason: String,
    },
    /// The other side, or this one, refused: why, in words that a person can act on.
    Refused {
        /// The peer's name, as far as known (unescaped).
        name: String,
        /// Why.
        reason: String,
    },
    /// No new peer is accepted until a person acts (rules T3 and T5). [`crate::Handle::reopen`] goes on.
    AdmissionClosed {
        /// Why, in words.
        reason: String,
    },
    /// Long work goes on.
    Progress {
        /// Files brought here since work began.
        files_done: u64,
        /// Files to be brought here.
        files_total: u64,
        /// Bytes brought here.
        bytes_done: u64,
        /// Bytes to be brought here.
        bytes_total: u64,
    },
    /// This device and every connected peer agree, durably (rule E25).
    InSync {
        /// Files, links and directories in the folder that are on this disk.
        files: u64,
        /// Their size in bytes.
        bytes: u64,
        /// Connected peers that agree; never 0.
        peers: usize,
        /// Paths that were skipped and are not mended; all others are in step.
        skipped: u64,
        /// Those of them that others have, and that could not be put in place here.
        not_applied: u64,
        /// The same at the peer that says so of most.
        not_applied_elsewhere: u64,
    },
    /// A change from a peer is in the tree, durably.
    Applied {
        /// Where.
        path: RelPath,
        /// What.
        kind: AppliedKind,
        /// Name of the device it came from (unescaped).
        from: String,
    },
    /// Two edits met; both are kept.
    Conflict {
        /// The path both edited.
        path: RelPath,
        /// Where the losing contents are now.
        copy: RelPath,
        /// Name of the device whose edit is at `path` now (unescaped).
        from: String,
    },
    /// A path that cannot travel, or is not in step: why, and what to do about it.
    Skipped {
        /// The path, escaped where it is not UTF-8.
        path: String,
        /// Why, with a remedy where there is one.
        reason: String,
    },
    /// A path that was skipped is in step again, or is no more.
    Mended {
        /// The path, as it was told.
        path: String,
    },
    /// A change was made here that is not shared, since this device does not write to the folder.
    LocalOnly {
        /// Where.
        path: RelPath,
    },
    /// Something failed; the session goes on.
    Error {
        /// A stable word: `io`, `index`, `discovery`, `listen`, `protocol`, `address`.
        kind: &'static str,
        /// What happened, to which file or device.
        message: String,
        /// What to do next; may be empty.
        hint: String,
    },
    /// The last event: everything is stopped and durable, or the folder cannot go on, as the error before says.
    Stopped,
}
