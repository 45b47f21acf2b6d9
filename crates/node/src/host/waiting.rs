//! A folder whose index cannot be written: the disk is full, read-only or failing.
//!
//! What was not committed is gone with the engine, and its links with it, as after a crash; what is under way on
//! the disk is let come to its end. From then on the index is opened again now and then, and once that works, a new
//! engine begins as every start does (rules E12 and E14). So a full disk stops a folder and loses nothing
//! (attacks.md 35), not even its place: nobody has to start anything again.

use std::time::{Duration, Instant};

use folder::{
    Engine, EngineError,
    engine::Options,
    index::{IndexError, SqliteIndex},
};
use wire::path::STATE_DIR;

use super::{FolderAuthority, Running, ToHost};
use crate::Event;

/// The first wait, and the longest: each is twice the one before until everything is written again.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// What an engine is made of, beside its index.
pub(super) struct Recipe {
    pub(super) authority: FolderAuthority,
    pub(super) options: Options,
}

/// What is done instead of going on.
pub(super) struct Waiting {
    /// When the index is opened again.
    next: Instant,
    wait: Duration,
    /// What was told about it, until it works again.
    told: Option<String>,
    /// It seemed to be damaged, as it does to SQLite when a read fails. What is damaged is so at a second look, too.
    damaged: bool,
    /// Links that came meanwhile and what was said on them: as much as their budgets allow.
    held: Vec<ToHost>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { next: Instant::now(), wait: FIRST, told: None, damaged: false, held: Vec::new() }
    }
}

impl Waiting {
    /// How long nothing is to be done; the end of a job is told.
    pub(super) fn patience(&self, jobs: usize) -> Duration {
        if jobs > 0 { LONGEST } else { self.next.saturating_duration_since(Instant::now()) }
    }
}

impl Running {
    /// The engine cannot go on; a new one may.
    pub(super) fn engine_failed(&mut self, error: &EngineError) {
        match error {
            EngineError::Index(error @ IndexError::Disk(_)) => {
                let remedy = "make room, or mend the disk, and it goes on by itself";
                self.wait_for_index(error, remedy);
            }
            EngineError::Index(error @ IndexError::Corrupt(_)) if !self.waiting.damaged => {
                self.waiting.damaged = true;
                self.wait_for_index(error, "it is read once more");
            }
            error => {
                let hint = "what is on the disk is complete; start again to go on";
                self.die("index", &error.to_string(), hint);
            }
        }
    }

    /// The index failed: whatever it holds that is not durable does not count any more.
    fn wait_for_index(&mut self, error: &IndexError, remedy: &str) {
        self.engine = None;
        for (_, link) in self.links.drain() {
            link.cut();
        }
        if let Some((id, _)) = self.brake.take() {
            let reason = "the folder waits for its disk".to_owned();
            self.event(Event::ConfirmWithdrawn { id, reason });
        }
        self.waiting.next = Instant::now() + self.waiting.wait;
        self.waiting.wait = (self.waiting.wait * 2).min(LONGEST);
        let reason = format!("{error}; nothing is lost; {remedy}");
        if self.waiting.told.as_ref() != Some(&reason) {
            self.waiting.told = Some(reason.clone());
            self.event(Event::Skipped { path: self.index_path(), reason });
        }
    }

    fn index_path(&self) -> String {
        format!("{STATE_DIR}/{}", self.recipe.authority.index)
    }

    /// Everything is durable.
    pub(super) fn is_written(&mut self) {
        (self.waiting.wait, self.waiting.damaged) = (FIRST, false);
        if self.waiting.told.take().is_some() {
            self.event(Event::Mended { path: self.index_path() });
        }
    }

    /// While there is no engine, keeps for later what the next one must hear. Returns what is to be dealt with now.
    pub(super) fn hold_back(&mut self, told: ToHost) -> Option<ToHost> {
        if self.engine.is_some() || self.dead {
            return Some(told);
        }
        match told {
            ToHost::Stop(_) => return Some(told),
            ToHost::Done(_) => self.jobs -= 1,
            ToHost::PeerDown { peer: gone } => self.waiting.held.retain(|held| {
                !matches!(held, ToHost::PeerUp { peer, .. } | ToHost::Message { peer, .. } if *peer == gone)
            }),
            ToHost::PeerUp { .. } | ToHost::Message { .. } | ToHost::Input(_) => {
                self.waiting.held.push(told);
            }
            // The next engine looks at everything, and asks again.
            ToHost::Wake | ToHost::Ask(_) | ToHost::Answer { .. } | ToHost::AcceptDeletes => {}
        }
        None
    }

    /// Opens the index again if it is time to.
    pub(super) fn try_again(&mut self) {
        let due = self.waiting.next <= Instant::now();
        if self.engine.is_some() || self.dead || self.stopping.is_some() || self.jobs > 0 || !due {
            return;
        }
        // Rule E18: what has come in its place is not ours to open.
        if self.is_gone() {
            return;
        }
        match self.open_again() {
            Ok(()) => {
                self.start();
                // They may have been changed meanwhile (rule E11).
                self.reload_ignores();
                for held in std::mem::take(&mut self.waiting.held) {
                    self.told(held);
                }
            }
            Err(error) => self.engine_failed(&error),
        }
    }

    fn open_again(&mut self) -> Result<(), EngineError> {
        let index = SqliteIndex::open(&self.root.path().join(self.index_path()))?;
        let Recipe { authority, options } = &mut self.recipe;
        // Names and replica ids that were drawn once are not drawn again.
        getrandom::fill(&mut options.seed)
            .map_err(|error| IndexError::Disk(format!("no random numbers: {error}")))?;
        self.engine = Some(Engine::open(index, authority.clone(), options.clone())?);
        Ok(())
    }
}
