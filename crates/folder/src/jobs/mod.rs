//! Work on the disk, as values: what the engine wants done, the functions that do it, and what comes of
//! it. Whoever drives the engine decides on which thread, and when.
//!
//! These functions know nothing of records or peers, and are the same over a real disk and a virtual one.

use std::io;

use bytes::Bytes;
use tree::{
    Disk, Exact, Listing, Place, Stat,
    apply::{ApplyError, HistoryName},
};
use wire::{
    Hash, RelPath,
    sync::{PieceAnswer, PieceData},
};

use crate::{
    content::{Chunk, ChunkList, ContentReader},
    engine::PeerId,
    history::{self, Limits, Moment, Tidied},
    index::Intent,
};

mod again;
mod apply;
mod build;
mod download;
mod kept;
mod read;
mod recover;

/// Something to be done on the disk.
#[derive(Debug)]
pub enum Job {
    /// Deal with what an interrupted run left behind, before anything else is done.
    Recover {
        /// Applies that were under way.
        items: Vec<RecoverItem>,
        /// The time by the wall clock, in nanoseconds since 1970.
        now: i64,
    },
    /// Read a directory.
    List {
        /// Which.
        dir: RelPath,
    },
    /// Look at some paths.
    Stat {
        /// Which.
        paths: Vec<RelPath>,
        /// Groups of applies that had ended when it was asked for.
        since: u64,
    },
    /// Read and name the contents of files and links.
    Hash {
        /// Which, and what they looked like.
        items: Vec<HashItem>,
    },
    /// Read pieces of contents for a peer.
    Read {
        /// For whom.
        peer: PeerId,
        /// For which request.
        request: u32,
        /// What.
        pieces: Vec<ReadPiece>,
        /// True if the link is slow enough for compression to pay.
        compress: bool,
    },
    /// Read small contents that are in the folder already.
    CopySmall {
        /// Which.
        items: Vec<CopyItem>,
    },
    /// Look in history for contents that are to be had nowhere else (rule E15).
    FindKept {
        /// Which, with the size of each.
        wanted: Vec<(Hash, u64)>,
    },
    /// Make a finished download of a large content out of what is in history.
    TakeKept {
        /// The content.
        content: Hash,
        /// Its size in bytes.
        size: u64,
        /// Where it may be.
        source: Place,
    },
    /// Prepare a download: see what is there of it, and copy what the folder has elsewhere.
    Assemble {
        /// The content.
        content: Hash,
        /// The number of the transfer.
        transfer: u32,
        /// Its size in bytes.
        size: u64,
        /// All its chunks.
        plan: Vec<ChunkPlan>,
    },
    /// Verify chunks and write them to a download.
    Write {
        /// The content.
        content: Hash,
        /// The number of the transfer.
        transfer: u32,
        /// The chunks.
        pieces: Vec<WritePiece>,
    },
    /// Change the tree. Only one such job runs at a time.
    Apply {
        /// How.
        changes: Vec<Change>,
    },
    /// Look again at files that made room (rule E13), beside no [`Job::Apply`].
    LookAgain {
        /// Which.
        items: Vec<LookAgain>,
        /// This replica's id, for the names of copies.
        replica: u64,
    },
    /// Clear away what of history may go (rule E17). Not while an [`Job::Apply`] runs.
    TidyHistory {
        /// How much is kept.
        limits: Limits,
        /// When, and what lacks.
        moment: Moment,
    },
}

/// What came of a [`Job`].
#[derive(Debug)]
pub enum Done {
    /// Of [`Job::Recover`].
    Recovered {
        /// Paths that need a person, and why.
        skipped: Vec<(String, String)>,
        /// Paths that an apply emptied and that could not be filled again: their absence is no deletion.
        emptied: Vec<RelPath>,
        /// Small contents that lie in `.kin/partial`, for all that their names say.
        whole: Vec<Hash>,
    },
    /// Of [`Job::List`].
    Listed {
        /// The directory.
        dir: RelPath,
        /// What is in it.
        result: io::Result<Listing>,
    },
    /// Of [`Job::Stat`].
    Stated {
        /// Each path, with what is there.
        items: Vec<(RelPath, io::Result<Option<Stat>>)>,
        /// As in the job.
        since: u64,
    },
    /// Of [`Job::Hash`].
    Hashed {
        /// Each path, with what it holds.
        items: Vec<Hashed>,
    },
    /// Of [`Job::Read`].
    Read {
        /// For whom.
        peer: PeerId,
        /// For which request.
        request: u32,
        /// The pieces, each with why it could not be read, if so.
        answers: Vec<(PieceAnswer, Option<NotRead>)>,
    },
    /// Of [`Job::FindKept`].
    FoundKept {
        /// Each content, with a place where it may be, if there is one.
        found: Vec<(Hash, Option<Place>)>,
    },
    /// Of [`Job::TakeKept`].
    TookKept {
        /// The content.
        content: Hash,
        /// Its chunks, if it was there.
        list: Result<Option<ChunkList>, Failure>,
    },
    /// Of [`Job::CopySmall`].
    CopiedSmall {
        /// Each content, with its bytes if they were there.
        items: Vec<(Hash, Option<Bytes>)>,
    },
    /// Of [`Job::Assemble`].
    Assembled {
        /// The content.
        content: Hash,
        /// The number of the transfer.
        transfer: u32,
        /// For each chunk, true if it is in the download now; or why there can be no download.
        result: Result<Vec<bool>, Failure>,
    },
    /// Of [`Job::Write`].
    Written {
        /// The content.
        content: Hash,
        /// The number of the transfer.
        transfer: u32,
        /// What was written.
        result: WriteOutcome,
    },
    /// Of [`Job::Apply`].
    Applied {
        /// Each change.
        results: Vec<Changed>,
    },
    /// Of [`Job::LookAgain`].
    LookedAgain {
        /// What was seen of each, in the order of the job.
        seen: Vec<Seen>,
    },
    /// Of [`Job::TidyHistory`].
    HistoryTidied {
        /// What is gone.
        tidied: Tidied,
    },
}

/// A file or link to be read.
#[derive(Clone, Debug)]
pub struct HashItem {
    /// Where.
    pub path: RelPath,
    /// What it looked like.
    pub stat: Stat,
}

/// A file or link that was read.
#[derive(Debug)]
pub struct Hashed {
    /// Where.
    pub path: RelPath,
    /// Its stat, unchanged from before the reading to after, and what it holds.
    pub result: Result<(Stat, HashedBody), HashError>,
}

/// Contents of a file or link.
#[derive(Debug)]
pub enum HashedBody {
    /// A regular file.
    File {
        /// Its content hash.
        content: Hash,
        /// Its chunks, if it has any.
        chunks: Option<ChunkList>,
        /// Its bytes, if they are few.
        small: Option<Bytes>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: String,
    },
}

/// Why a file could not be read.
#[derive(Debug)]
pub enum HashError {
    /// It changed while it was read.
    Unstable,
    /// It is not there any more, or is something else.
    Gone,
    /// Something failed: what, and what to do.
    Io(String),
}

/// A piece of a content to be read for a peer.
#[derive(Debug)]
pub struct ReadPiece {
    /// Its place in the request.
    pub item: u32,
    /// Where it is, with the stat it must have if it is in the tree; `None` if it is not here.
    pub source: Option<(Place, Option<Stat>)>,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// Why a piece could not be read.
#[derive(Debug)]
pub enum NotRead {
    /// The file at this path is not what the index says.
    Changed(RelPath),
    /// The disk said no: in words for a person.
    Failed(RelPath, String),
}

/// A small content that is in the folder already.
#[derive(Debug)]
pub struct CopyItem {
    /// Where.
    pub source: Place,
    /// The content.
    pub content: Hash,
    /// Its size in bytes.
    pub size: u64,
}

/// A chunk of a download.
#[derive(Debug)]
pub struct ChunkPlan {
    /// Its place in the content.
    pub offset: u64,
    /// The chunk.
    pub chunk: Chunk,
    /// A file in the tree, and the place in it, where the chunk may be found.
    pub source: Option<(RelPath, u64)>,
}

/// A chunk that came.
#[derive(Debug)]
pub struct WritePiece {
    /// Which.
    pub chunk: Chunk,
    /// All its places in the content.
    pub places: Vec<u64>,
    /// Its bytes, to be verified.
    pub data: PieceData,
}

/// What became of chunks that came.
#[derive(Debug, Default)]
pub struct WriteOutcome {
    /// Bytes dealt with, right or wrong.
    pub bytes: u64,
    /// Bytes written.
    pub written: u64,
    /// Chunks whose bytes are not what their hash says.
    pub wrong: Vec<(Chunk, Vec<u64>)>,
    /// Why nothing more can be written.
    pub error: Option<Failure>,
}

/// Why a download cannot go on.
#[derive(Debug)]
pub struct Failure {
    /// In words, with what to do.
    pub reason: String,
    /// True if it is for want of space.
    pub no_space: bool,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        Self { reason: why(error), no_space: full.contains(&error.kind()) }
    }
}

/// A change of the tree.
#[derive(Debug)]
pub struct Change {
    /// Where.
    pub path: RelPath,
    /// How.
    pub what: What,
}

/// How the tree is to be changed.
#[derive(Debug)]
pub enum What {
    /// A directory is to be there.
    MakeDir {
        /// The place in `.kin/swap` for what is in its way.
        swap: u64,
        /// Permission bits.
        mode: u32,
        /// What becomes of what is in its way.
        room: Option<Room>,
    },
    /// A file or link is to be there.
    Place {
        /// The place in `.kin/swap` where it is made ready.
        swap: u64,
        /// Its contents.
        from: StagedFrom,
        /// Permission bits (not of a link).
        mode: u32,
        /// Modification time in nanoseconds since 1970.
        mtime: i64,
        /// What becomes of what it replaces.
        room: Option<Room>,
    },
    /// What is there gets other metadata.
    Meta {
        /// What is there.
        expected: Expected,
        /// Permission bits (not of a link).
        mode: u32,
        /// Modification time in nanoseconds since 1970; not of a directory.
        mtime: Option<i64>,
    },
    /// The file or link there goes to history.
    Remove {
        /// The place in `.kin/swap` on its way.
        swap: u64,
        /// What is there.
        expected: Expected,
        /// Where it goes.
        history: HistoryName,
    },
    /// The directory there is removed if it is empty.
    RemoveDir,
}

/// What the index says is at a path: it must still be there for a change to go ahead.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The stat read back when the index last knew the contents.
    pub stat: Stat,
    /// The contents, where that stat could hide an edit: they are read again then.
    pub content: Option<Hash>,
}

/// What is in the way of a change, and what becomes of it.
#[derive(Debug)]
pub struct Room {
    /// What must be there for the change to go ahead.
    pub expected: Expected,
    /// What becomes of it.
    pub making: Making,
}

/// What becomes of a file or link that makes room.
#[derive(Debug)]
pub enum Making {
    /// It goes to history under this name.
    History(HistoryName),
    /// It becomes a conflict copy at this path.
    Copy(RelPath),
}

/// Where contents to be placed come from.
#[derive(Debug)]
pub enum StagedFrom {
    /// Memory; verified already.
    Bytes(Bytes),
    /// A finished download.
    Partial(Hash),
    /// It is a symbolic link, to this target.
    Link(String),
}

/// A change that was tried.
#[derive(Debug)]
pub struct Changed {
    /// Where.
    pub path: RelPath,
    /// What came of it.
    pub result: Result<ChangeDone, ApplyError>,
}

/// A change that was made, durably.
#[derive(Debug, Default)]
pub struct ChangeDone {
    /// What is there now; `None` if nothing.
    pub stat: Option<Stat>,
    /// The conflict copy that was made.
    pub copy: Option<Stat>,
    /// Where in `.kin` the file is that made room, if it is no conflict copy.
    pub out: Option<Place>,
}

/// A file that made room, to be looked at again.
#[derive(Clone, Debug)]
pub struct LookAgain {
    /// The path it had.
    pub path: RelPath,
    /// Where it is now.
    pub place: Place,
    /// What it looked like when it was last known.
    pub stat: Stat,
    /// The contents it had then.
    pub content: Option<Hash>,
}

/// What became of a file that made room.
#[derive(Debug)]
pub enum Seen {
    /// Nobody has written to it.
    Same,
    /// It is not there any more.
    Gone,
    /// Somebody has written to it: it is a conflict copy now, at this path.
    Written(RelPath),
}

/// An apply that was under way when the last run stopped.
#[derive(Debug)]
pub struct RecoverItem {
    /// What was going on.
    pub intent: Intent,
    /// What was there before, as the index has it.
    pub here: Option<Stat>,
    /// Where it was to be kept, if it is an edit that lost.
    pub copy: Option<RelPath>,
    /// Modification time of what was to come, in nanoseconds since 1970, if that is known.
    pub mtime: Option<i64>,
    /// The directory it is in, and the mode that the directory is to have.
    pub parent: Option<(RelPath, u32)>,
}

/// Does a job.
pub fn run(disk: &dyn Disk, job: Job) -> Done {
    if disk.folds_names() { run_on(&Exact::new(disk), job) } else { run_on(disk, job) }
}

fn run_on(disk: &dyn Disk, job: Job) -> Done {
    match job {
        Job::Recover { items, now } => {
            let recover::Recovered { skipped, emptied, whole } =
                recover::recover(disk, &items, now);
            Done::Recovered { skipped, emptied, whole }
        }
        Job::List { dir } => {
            let result = disk.list(&dir);
            Done::Listed { dir, result }
        }
        Job::Stat { paths, since } => {
            let look = |path: RelPath| {
                let stat = disk.stat(&Place::Tree(path.clone()));
                (path, stat)
            };
            Done::Stated { items: paths.into_iter().map(look).collect(), since }
        }
        Job::Hash { items } => {
            let mut reader = ContentReader::new();
            let hash = |item: HashItem| Hashed {
                result: read::hash(disk, &mut reader, &item),
                path: item.path,
            };
            Done::Hashed { items: items.into_iter().map(hash).collect() }
        }
        Job::Read { peer, request, pieces, compress } => {
            Done::Read { peer, request, answers: read::read_pieces(disk, &pieces, compress) }
        }
        Job::CopySmall { items } => {
            let copy = |item: CopyItem| (item.content, read::copy_small(disk, &item));
            Done::CopiedSmall { items: items.into_iter().map(copy).collect() }
        }
        Job::FindKept { wanted } => Done::FoundKept { found: kept::find(disk, wanted) },
        Job::TakeKept { content, size, source } => {
            let list = kept::take(disk, content, size, &source);
            Done::TookKept { content, list: list.map_err(|error| Failure::of(&error)) }
        }
        Job::Assemble { content, transfer, size, plan } => {
            let result =
                download::assemble(disk, content, size, &plan).map_err(|error| Failure::of(&error));
            Done::Assembled { content, transfer, result }
        }
        Job::Write { content, transfer, pieces } => Done::Written {
            content,
            transfer,
            result: download::write_chunks(disk, content, pieces),
        },
        Job::Apply { changes } => Done::Applied { results: apply::apply_group(disk, changes) },
        Job::LookAgain { items, replica } => {
            let look = |item: &LookAgain| again::look_again(disk, item, replica);
            Done::LookedAgain { seen: items.iter().map(look).collect() }
        }
        Job::TidyHistory { limits, moment } => {
            Done::HistoryTidied { tidied: history::tidy(disk, limits, moment) }
        }
    }
}

/// Too many open files in the system, and in this process, as Unix numbers them.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
/// What to do when there is no room, in words.
pub(crate) const DISK_FULL: &str = "the disk is full; make room and it goes on by itself";

/// An error of the disk in words that a person can act on.
pub(crate) fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DISK_FULL.to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; change its mode or owner and it goes on by itself".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the disk is read-only; make it writable and it goes on by itself".to_owned()
        }
        _ if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => {
            "too many files are open; raise the limit (ulimit -n)".to_owned()
        }
        _ => error.to_string(),
    }
}
