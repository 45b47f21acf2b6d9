//! Starting a device for one run, and stopping it.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use folder::{
    PeerId,
    engine::{Mode, Options},
    history::Limits,
    index::{IndexError, SqliteIndex, set_aside},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tree::{Disk as _, OpenError, Root, refuse_keys};
use wire::{Hash, record::BatchScope};

use crate::{
    DeleteLimit, Event, QuestionId, SyncConfig,
    event::QuestionIds,
    host::{FolderAuthority, FolderLink, FolderSender, Host},
    ignores,
    session::{self, SessionConfig, SessionEvent, SessionHandle},
};

/// Events that may wait for whoever reads them; then the device waits too.
const EVENTS: usize = 4096;

/// Why a device did not start. Nothing of it runs, and nothing was created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// Ignore patterns cannot be used.
    #[error("{0}")]
    Ignore(String),
    /// The folder's first file cannot be made.
    #[error("{}: .kinignore cannot be made: {source}", dir.display())]
    MakeIgnore {
        /// The folder as it was given.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder's index cannot be used.
    #[error("{}: {source}", dir.display())]
    Index {
        /// The folder as it was given.
        dir: PathBuf,
        /// Why.
        source: IndexError,
    },
    /// The session cannot begin.
    #[error(transparent)]
    Session(#[from] session::StartError),
    /// The engine cannot begin.
    #[error(transparent)]
    Engine(#[from] folder::EngineError),
    /// The system gave no random bytes.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// What to do about a disk.
const MAKE_ROOM: &str = "make room on its disk";
const MEND_DISK: &str = "mend its disk";

impl StartError {
    /// A stable word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Folder(source) => match source {
                OpenError::NotFound(_) => "dir_missing",
                OpenError::NotADirectory(_) => "not_a_directory",
                OpenError::Denied(_) | OpenError::ReadOnly(_) => "permission",
                OpenError::Nested { .. } => "nested",
                OpenError::HoldsKeys { .. } => "holds_keys",
                OpenError::Locked { .. } => "in_use",
                OpenError::ChangesNames(_) => "changes_names",
                _ => "io",
            },
            Self::Ignore(_) => "bad_exclude",
            Self::MakeIgnore { source, .. } => match source.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "permission",
                _ => "io",
            },
            Self::Index { .. } | Self::Engine(_) => "index",
            Self::Session(session::StartError::Name(_)) => "bad_name",
            Self::Session(session::StartError::Listen(link::LinkError::PortInUse { .. })) => {
                "port_in_use"
            }
            Self::Session(_) => "listen",
            Self::Random(_) => "io",
        }
    }

    /// What to do if it is due to the disk and passes by itself once that is done (attacks.md 35); nothing is wrong
    /// with the folder then.
    pub(crate) fn passes_after(&self) -> Option<&'static str> {
        let source = match self {
            Self::Folder(OpenError::Io { source, .. }) | Self::MakeIgnore { source, .. } => source,
            Self::Index { source: IndexError::Disk(reason), .. }
            | Self::Engine(folder::EngineError::Index(IndexError::Disk(reason))) => {
                let is_full = reason.contains("full") || reason.contains("No space");
                return Some(if is_full { MAKE_ROOM } else { MEND_DISK });
            }
            _ => return None,
        };
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(MAKE_ROOM),
            _ => None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        if let Some(remedy) = self.passes_after() {
            return Some(format!("the files are untouched; {remedy}, then start again"));
        }
        let hint = match self.kind() {
            "dir_missing" => "create it first, for example with mkdir -p",
            "not_a_directory" => "give the directory that holds it",
            "permission" => "kin must be able to write there: change the owner or the mode",
            "nested" => {
                "a folder inside a folder cannot be kept in step on its own: give one of them"
            }
            "holds_keys" => {
                "give a directory without them, or keep them elsewhere: KIN_HOME says where"
            }
            "in_use" => "another kin runs on this folder: stop it first",
            "port_in_use" => "give another port with --port, or none to have one chosen",
            "bad_exclude" => "mend the pattern",
            "changes_names" => {
                "give a folder on a file system that keeps them, such as ext4, XFS, Btrfs or APFS"
            }
            "index" => {
                "the files are untouched; if it stays, move the index away (.kin/*.db) and start again"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// What a person wishes of the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub(crate) max_concurrent_transfers: usize,
    pub(crate) max_deletes: DeleteLimit,
    pub(crate) accept_deletes: bool,
    pub(crate) history: Limits,
    pub(crate) mode: Mode,
}

/// A running device. Dropping it does not stop it.
#[derive(Debug)]
pub struct Handle {
    session: SessionHandle,
    host: Host,
    events: mpsc::Sender<Event>,
    pump: JoinHandle<()>,
}

impl Handle {
    /// Answers a question. An id that is not that of the open question is ignored (rule T6).
    pub fn answer(&self, question: QuestionId, yes: bool) {
        self.session.answer(question, yes);
        self.host.answer(question, yes);
    }

    /// A person acted: attempts to join are counted anew (rules T3 and T5).
    pub fn reopen(&self) {
        self.session.reopen();
    }

    /// Finishes or rolls back what is under way, says goodbye to peers and on mDNS, and ends with
    /// [`Event::Stopped`]. Events must be read meanwhile.
    pub async fn stop(&self) {
        self.host.stop().await;
        self.session.stop().await;
        self.pump.abort();
        let _ = self.events.send(Event::Stopped).await;
    }
}

/// Starts a device for one run.
///
/// # Errors
/// If the folder, a name, a pattern or the port cannot be used; nothing was created then.
pub async fn start(config: SyncConfig) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let SyncConfig {
        dir,
        keys,
        port,
        port_is_required,
        name,
        peers,
        discovery,
        excludes,
        topic,
        admission,
        max_concurrent_transfers,
        max_deletes,
        accept_deletes,
        history,
    } = config;
    // The port first: a folder is not touched for a run that cannot begin.
    let scope = scope(&topic);
    let session =
        SessionConfig { name, port, port_is_required, peers, discovery, topic, admission };
    let (session, from_session) = session::start(session).await?;
    let (events, receiver) = mpsc::channel(EVENTS);
    let wishes =
        Wishes { max_concurrent_transfers, max_deletes, accept_deletes, history, mode: Mode::Both };
    let members = session.members();
    let authority = FolderAuthority {
        key: Arc::clone(session.key()),
        writers: Arc::new(move |author| members.borrow().contains_key(author)),
        anybody: Arc::new(|| true),
        members: Arc::new(|_| false),
        scope,
        lasts: false,
        index: "index.db".to_owned(),
    };
    let opened = open(
        (dir, keys.as_deref()),
        excludes,
        authority,
        session.questions().clone(),
        &wishes,
        &events,
    );
    let host = match opened {
        Ok(host) => host,
        Err(error) => {
            session.stop().await;
            return Err(error);
        }
    };
    let pump = tokio::spawn(pump(from_session, host.clone(), events.clone()));
    Ok((Handle { session, host, events, pump }, receiver))
}

/// What records of a `kin sync` run are signed for. Without membership on disk, the topic is the group
/// and the folder; that a signature counts only within the run is due to its author's key (rule E6).
fn scope(topic: &str) -> BatchScope {
    let topic = topic.as_bytes();
    BatchScope {
        group: Hash::derived("kinfold 2026-11 session group", &[topic]),
        folder: Hash::derived("kinfold 2026-11 session folder", &[topic]),
    }
}

/// Opens a folder and starts its threads. Takes as long as the disk does.
pub(crate) fn open(
    (dir, keys): (PathBuf, Option<&Path>),
    excludes: Vec<String>,
    authority: FolderAuthority,
    questions: QuestionIds,
    wishes: &Wishes,
    events: &mpsc::Sender<Event>,
) -> Result<Host, StartError> {
    if let Some(keys) = keys {
        refuse_keys(&dir, keys)?;
    }
    let root = Root::open(&dir)?;
    // What is there already is looked at before anything is made.
    if let (Some(_), _) = ignores::load(&root, &excludes)
        && wishes.mode != Mode::Look
    {
        let failed = |source| StartError::MakeIgnore { dir: dir.clone(), source };
        ignores::create(&root).map_err(failed)?;
    }
    let (ignore, problems) = ignores::load(&root, &excludes);
    let Some(ignore) = ignore else {
        let reason = problems.into_iter().find_map(|event| match event {
            Event::Error { message, .. } => Some(message),
            _ => None,
        });
        return Err(StartError::Ignore(reason.unwrap_or_default()));
    };
    for problem in problems {
        // There is room: nothing else was told yet.
        let _ = events.try_send(problem);
    }
    let name = authority.index.clone();
    let index = match open_index(&root.path().join(wire::path::STATE_DIR).join(&name), events) {
        Ok(index) => index,
        Err(source) => return Err(StartError::Index { dir, source }),
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError::Random(error.to_string()))?;
    // A session has no list of members that could all have heard (rule E4).
    let forget_deletions = authority.lasts;
    let options = Options {
        ignore,
        max_transfers: wishes.max_concurrent_transfers,
        max_group: 2048,
        noted_at_once: 128,
        seed,
        binding: binding(&root, &name),
        boot: tree::boot_id().map(|boot| boot.0.to_vec()).unwrap_or_default(),
        brake: wishes.max_deletes,
        accept_deletes: wishes.accept_deletes,
        history: wishes.history,
        mode: wishes.mode,
        folds_names: root.folds_names(),
        forget_deletions,
    };
    Ok(Host::start(root, index, authority, options, (excludes, questions), events.clone())?)
}

fn open_index(path: &Path, events: &mpsc::Sender<Event>) -> Result<SqliteIndex, IndexError> {
    match twice(|| SqliteIndex::open(path)) {
        Err(IndexError::Corrupt(reason)) => {
            let aside = set_aside(path).map_err(|error| IndexError::Disk(error.to_string()))?;
            let message = format!(
                "the folder's index was damaged ({reason}); it was moved to {}",
                aside.display()
            );
            let hint = "files are compared anew; nothing is lost".to_owned();
            let _ = events.try_send(Event::Error { kind: "index", message, hint });
            SqliteIndex::open(path)
        }
        other => other,
    }
}

/// To SQLite a read that failed is damage. What is damaged is so at a second look, too.
fn twice<T>(mut open: impl FnMut() -> Result<T, IndexError>) -> Result<T, IndexError> {
    match open() {
        Err(IndexError::Corrupt(_)) => open(),
        other => other,
    }
}

/// Rule E1: what an index belongs to. A copied folder or a restored backup has another inode or birth
/// time, a copied disk another machine id.
fn binding(root: &Root, index: &str) -> Vec<u8> {
    let machine = tree::machine_id().unwrap_or_default();
    let mut binding = machine.0.to_vec();
    if let Ok(Some((inode, born))) = root.state_file_identity(index) {
        binding.extend_from_slice(&inode.to_le_bytes());
        binding.extend_from_slice(&born.to_le_bytes());
    }
    binding
}

/// Hands links to the folder and events to whoever reads them.
async fn pump(mut session: mpsc::Receiver<SessionEvent>, host: Host, events: mpsc::Sender<Event>) {
    let mut peers = HashMap::new();
    let mut last = 0;
    while let Some(event) = session.recv().await {
        match event {
            SessionEvent::PeerUp(link) => {
                last += 1;
                if let Some(before) = peers.insert(link.device, PeerId(last)) {
                    host.peer_down(before);
                }
                let out = FolderSender { link: link.out, slot: 0 };
                let (name, input) = (link.name, link.input);
                host.peer_up(PeerId(last), FolderLink { name, device: None, out, input });
            }
            SessionEvent::PeerDown { device, .. } => {
                if let Some(peer) = peers.remove(&device) {
                    host.peer_down(peer);
                }
            }
            SessionEvent::Event(event) => {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "mend the pattern" would help nobody whose disk is the trouble.
    #[test]
    fn what_hinders_the_first_file_is_no_fault_of_a_pattern() {
        for (kind, word) in [
            (ErrorKind::Unsupported, "io"),
            (ErrorKind::PermissionDenied, "permission"),
            (ErrorKind::StorageFull, "io"),
        ] {
            let error = StartError::MakeIgnore { dir: PathBuf::from("d"), source: kind.into() };
            assert_eq!(error.kind(), word);
            assert!(error.hint().is_none_or(|hint| !hint.contains("pattern")));
            assert!(error.to_string().contains(".kinignore cannot be made"), "{error}");
        }
    }

    #[test]
    fn a_read_that_fails_once_does_not_cost_the_index() {
        let play = |outcomes: &[Result<u8, IndexError>]| {
            let mut outcomes = outcomes.iter().map(|outcome| match outcome {
                Ok(number) => Ok(*number),
                Err(IndexError::Corrupt(_)) => Err(IndexError::Corrupt("x".into())),
                Err(_) => Err(IndexError::Busy),
            });
            twice(|| outcomes.next().expect("is asked at most twice"))
        };
        let corrupt = || Err(IndexError::Corrupt("x".into()));
        assert!(matches!(play(&[corrupt(), Ok(2)]), Ok(2)));
        assert!(matches!(play(&[corrupt(), corrupt()]), Err(IndexError::Corrupt(_))));
        assert!(matches!(play(&[Err(IndexError::Busy)]), Err(IndexError::Busy)));
    }
}
