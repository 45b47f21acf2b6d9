//! What goes into the engine and what comes out.

use identity::DeviceId;
use wire::{Hash, RelPath, record::BatchScope, sync::Message};

use crate::{
    brake::Limit,
    history::Limits,
    ignore::Ignore,
    index::IndexError,
    jobs::{Done, Job},
};

/// A link to a peer, numbered by whoever drives the engine; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId(pub u32);

/// The time, as arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Milliseconds on a clock that only goes forward.
    pub ms: u64,
    /// Nanoseconds since 1970 by the wall clock. Never decides between versions.
    pub wall: i64,
}

/// Signs for this device and knows whose signatures count (rules E6 and T15).
pub trait Authority: Send {
    /// This device.
    fn device(&self) -> DeviceId;
    /// What signatures speak for.
    fn scope(&self) -> BatchScope;
    /// Signs 32 bytes with the device key.
    fn sign(&self, digest: &Hash) -> [u8; 64];
    /// True if `author` may write and signed these 32 bytes.
    fn verify(&self, author: &DeviceId, digest: &Hash, signature: &[u8; 64]) -> bool;
    /// True if a device, this one or another, may write under the present manifest (rule T15).
    fn may_write(&self, device: &DeviceId) -> bool;
    /// True if any device may write under the present manifest.
    fn anybody_may_write(&self) -> bool {
        true
    }
    /// True if a device is a member under the present manifest, whatever it may do.
    fn is_member(&self, device: &DeviceId) -> bool {
        self.may_write(device)
    }
    /// True if `author` signed these 32 bytes, whatever it may do.
    fn has_signed(&self, author: &DeviceId, digest: &Hash, signature: &[u8; 64]) -> bool {
        self.verify(author, digest, signature)
    }
    /// True if keys and membership outlive this run, so that signatures are worth keeping: a group, not
    /// a session.
    fn lasts(&self) -> bool {
        false
    }
}

/// Which way changes go, on this device's own wish.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mode {
    /// Both ways, as far as this device may write.
    #[default]
    Both,
    /// What is changed here stays here.
    ReceiveOnly,
    /// What is changed elsewhere is known and passed on, but not applied here.
    SendOnly,
    /// Neither: nothing leaves, and nothing is applied. Shows what taking part would do
    /// ([`Engine::plan`](super::Engine::plan)).
    Look,
}

/// What was changed here and is not shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalKind {
    /// Something is here that the others do not have.
    Added,
    /// It is otherwise than with the others.
    Edited,
    /// It is not here any more.
    Deleted,
}

/// A change made here that is not shared ([`Engine::local_changes`](super::Engine::local_changes)).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalChange {
    /// Where.
    pub path: RelPath,
    /// What.
    pub kind: LocalKind,
}

/// What the engine is told.
#[derive(Debug)]
pub enum Input {
    /// Begin: the first scan.
    Start,
    /// An accepted peer's link is up.
    PeerUp {
        /// The link.
        peer: PeerId,
        /// The peer's name, for people.
        name: String,
        /// The device at the other end, as the link has authenticated it; `None` in a session, where keys do not
        /// outlive the run.
        device: Option<DeviceId>,
    },
    /// The link is gone.
    PeerDown {
        /// The link.
        peer: PeerId,
    },
    /// A message came.
    Message {
        /// From where.
        peer: PeerId,
        /// The message.
        message: Message,
    },
    /// A job is done.
    Done(Done),
    /// Something may have changed at these paths.
    Hints(Vec<RelPath>),
    /// Events were lost: only a rescan can tell.
    Overflow,
    /// A person agrees to the deletions that [`Event::Brake`] told of.
    AcceptDeletes {
        /// Its number.
        id: u32,
    },
    /// Who may write has changed: [`Authority`] answers by the new manifest from now on.
    MembersChanged,
    /// Puts back what others have at these paths and below, in place of what was changed only here; all
    /// such paths if there are none. What was here goes to history.
    Revert {
        /// Where.
        paths: Vec<RelPath>,
    },
    /// [`Mode::SendOnly`]: what is here at these paths and below is to count, in place of what others
    /// have; all paths that differ if there are none.
    Override {
        /// Where.
        paths: Vec<RelPath>,
    },
    /// Time passed (see [`Engine::next_wake`]), or a link drained.
    Tick,
}

/// What the engine wants done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Send a message. Never waits.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        message: Message,
    },
    /// End the link: the peer broke the protocol.
    Disconnect {
        /// Whose.
        peer: PeerId,
        /// Why, in words.
        reason: String,
    },
    /// Work on the disk.
    Job(Job),
    /// Watch a directory for changes, before it is listed.
    Watch(RelPath),
    /// Tell the person.
    Event(Event),
}

/// What happened to a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppliedKind {
    /// Something new.
    Created,
    /// New contents.
    Updated,
    /// New metadata, same contents.
    Metadata,
    /// Moved into history.
    Deleted,
}

/// What a person may want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A peer's change is in the tree, durably.
    Applied {
        /// Where.
        path: RelPath,
        /// What.
        kind: AppliedKind,
        /// Name of the peer it came from; empty if not known any more.
        from: String,
    },
    /// Two edits met; both are kept.
    Conflict {
        /// The path both edited.
        path: RelPath,
        /// Where the losing contents are now.
        copy: RelPath,
        /// Name of the peer whose edit is at `path` now.
        from: String,
    },
    /// A path is not in step.
    Skipped {
        /// The path, escaped where it is not UTF-8.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Deletions are held until a person agrees (rule E19).
    Brake {
        /// Numbers these events within a run, from 1.
        id: u32,
        /// Files deleted within 24 hours, with those that are held.
        deletes: u64,
        /// Of how many.
        of: u64,
        /// Files whose deletion is held.
        held: u64,
        /// Names of the peers that deleted them; empty if nobody is known.
        from: String,
        /// True if some were found to be gone on this device.
        here: bool,
    },
    /// What [`Event::Brake`] told of is not held any more, or is told of anew, without consent.
    BrakeReleased {
        /// Its number.
        id: u32,
        /// Why, in words.
        reason: String,
    },
    /// The folder is not where it was any more (rule E18): nothing is done any more.
    RootGone {
        /// What is wrong.
        reason: String,
    },
    /// A path that was skipped is in step again, or is no more.
    Mended {
        /// The path, as it was told.
        path: String,
    },
    /// A change was made here that is not shared, since this device does not write to the folder.
    LocalOnly(LocalChange),
    /// A change was refused: it was signed for by a device that may not write here, or not any more.
    Refused {
        /// Where.
        path: RelPath,
        /// Name of the peer that sent it, perhaps in good faith.
        from: String,
        /// Who signed, by its own account.
        author: DeviceId,
    },
    /// A device has brought back what all members had deleted and, long ago, forgotten (rule E4): it is deleted again.
    DeletedAgain {
        /// Where.
        path: RelPath,
        /// What it was.
        content: Hash,
        /// Name of the peer that it came from.
        from: String,
    },
    /// Work goes on.
    Progress(Progress),
    /// This device and every connected peer agree, durably (rule E25).
    InSync {
        /// Files, links and directories here.
        files: u64,
        /// Their size in bytes.
        bytes: u64,
        /// Peers that agree.
        peers: usize,
        /// Paths that were skipped and are not mended: all others are in step.
        skipped: u64,
        /// Paths that differ here because this device does not write, or takes nothing.
        apart: u64,
        /// Paths of which something is known that could not be put in place: here, which are among the skipped ones,
        /// and at the peer that says so of most.
        lost: (u64, u64),
    },
    /// This replica took a new id (rule E1); why, in words.
    NewReplica {
        /// Why.
        reason: String,
    },
}

/// How far long work is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Files brought here since work began.
    pub files_done: u64,
    /// Files to be brought here.
    pub files_total: u64,
    /// Bytes brought here.
    pub bytes_done: u64,
    /// Bytes to be brought here.
    pub bytes_total: u64,
}

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// What not to look at (rule E11).
    pub ignore: Ignore,
    /// Large files fetched at once.
    pub max_transfers: usize,
    /// Changes that go to the disk together.
    pub max_group: usize,
    /// Changes of such a group whose outcome is noted in one step, so that what waits for the engine does not wait for
    /// all of them; more are noted while the next group is under way.
    pub noted_at_once: usize,
    /// 32 random bytes: replica ids and the names of temporary files come from them.
    pub seed: [u8; 32],
    /// What the index must still be bound to (rule E1): machine, inode and birth time of its file.
    pub binding: Vec<u8>,
    /// Which start of the machine this is, nothing if that is not known: the next one finds out by it that the power
    /// failed ([`tree::boot_id`]).
    pub boot: Vec<u8>,
    /// How many deletions go without a question (rule E19).
    pub brake: Limit,
    /// True if a person agrees beforehand to all deletions up to the first agreement with a peer.
    pub accept_deletes: bool,
    /// How much of what was replaced and deleted is kept (rule E17).
    pub history: Limits,
    /// Which way changes go.
    pub mode: Mode,
    /// Deletions that all members of a group have known for 400 days are forgotten (rule E4). In a session they are not.
    pub forget_deletions: bool,
    /// The disk takes different names for the same ([`tree::Disk::folds_names`]).
    pub folds_names: bool,
}

/// Why the engine cannot go on. Nothing is lost: files are as the index last durably said, or newer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A stored record cannot be read.
    #[error("a stored record cannot be read: {0}")]
    Record(#[from] wire::WireError),
}
