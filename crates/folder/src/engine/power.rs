//! Coming back after the power failed. What users wrote shortly before may be gone from the disk, or be as it was, though
//! it is in the index and others were told: nobody has deleted it, nor edited it back (rule E5).
//!
//! Such paths are in doubt until they have been looked at: nothing is taken for known to be there, as with a copied
//! index, and what is found is said under another replica id, as something that has seen nothing of what was said before.
//! The index keeps the mark of a loss until nothing is in doubt, whatever happens in between.

use std::collections::BTreeSet;

use wire::{RelPath, version::ReplicaId};

use super::{Authority, Engine, EngineError};
use crate::index::{Index, Row};

/// In which start of the machine the index was written, unless that run came to its end.
const BOOT_META: &str = "boot";
/// When the index was written last by the wall clock, in nanoseconds: 8 bytes.
const WRITTEN_META: &str = "written";
/// What was changed so long before the power failed is on the disk, in nanoseconds. Systems write after 30 s to
/// 2 minutes, and the disk's clock may be another than this machine's.
const UNWRITTEN_NS: i64 = 300_000_000_000;

/// What is in doubt.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Who said what was said before the power failed, as long as anything is in doubt.
    said_by: Option<ReplicaId>,
    /// All that is not known to be here, until the first scan is over.
    everything: bool,
    /// What that scan could not look at, and all below it.
    paths: BTreeSet<RelPath>,
    /// The tree is on the disk as the index says, and the run over.
    came_to_end: bool,
}

impl Doubt {
    /// True until what may have been lost has been looked at, but for what cannot be looked at.
    pub(super) fn is_first_look(&self) -> bool {
        self.everything
    }

    fn covers(&self, path: &RelPath) -> bool {
        let mut at = (!self.paths.is_empty()).then(|| path.clone());
        while let Some(path) = at {
            if self.paths.contains(&path) {
                return true;
            }
            at = path.parent();
        }
        self.everything
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// The run is over and all of the tree durable: what is not there at the next start was deleted. To be said after
    /// [`Self::stop`], before the last commit.
    pub fn tree_is_durable(&mut self) {
        self.scan.doubt.came_to_end = true;
        self.uncommitted = true;
    }

    /// Keeps in which start of the machine this is, and the time, for [`Self::notice_power_loss`].
    pub(super) fn note_run(&mut self) -> Result<(), EngineError> {
        if self.options.boot.is_empty() || self.scan.doubt.said_by.is_some() {
            return Ok(());
        }
        let boot = if self.scan.doubt.came_to_end { &[] } else { &self.options.boot[..] };
        self.index.put_meta(BOOT_META, boot)?;
        Ok(self.index.put_meta(WRITTEN_META, &self.now.wall.to_le_bytes())?)
    }

    /// Finds out whether the machine was started anew while the last run had not come to its end.
    pub(super) fn notice_power_loss(&mut self) -> Result<(), EngineError> {
        let boot = self.index.meta(BOOT_META)?.filter(|boot| !boot.is_empty());
        if self.options.boot.is_empty() || boot.is_none_or(|boot| boot[..] == self.options.boot[..])
        {
            return Ok(());
        }
        self.scan.doubt.said_by = Some(self.replica);
        self.scan.doubt.everything = true;
        let written = self.index.meta(WRITTEN_META)?;
        let written =
            written.and_then(|bytes| Some(i64::from_le_bytes(bytes[..].try_into().ok()?)));
        let since = written.unwrap_or(i64::MAX).saturating_sub(UNWRITTEN_NS);
        self.forget_changed_since(&RelPath::root(), since)
    }

    /// Nothing is taken for known to be here that was changed after a time.
    fn forget_changed_since(&mut self, dir: &RelPath, since: i64) -> Result<(), EngineError> {
        for (name, child) in self.index.children(dir)? {
            let Ok(path) = dir.join(&name) else { continue };
            self.forget_changed_since(&path, since)?;
            let is_new = child.here.as_ref().is_some_and(|here| here.stat.ctime >= since);
            // What an apply that was cut short has done there is found out by what was there before.
            if is_new && !self.scan.open_intents.contains_key(&path) {
                self.put(&path, &Row { here: None, ..child })?;
            }
        }
        Ok(())
    }

    /// False if what is found may have been there before, whatever the index says.
    pub(super) fn knows_what_was_at(&self, path: &RelPath) -> bool {
        self.scan.first_done && !self.scan.doubt.covers(path)
    }

    /// Before it is said what was found at a path that is in doubt: under the same replica id it would have seen what
    /// it may be older than.
    pub(super) fn speak_anew_of(&mut self, path: &RelPath) -> Result<(), EngineError> {
        if self.scan.doubt.said_by == Some(self.replica) && self.scan.doubt.covers(path) {
            let old = self.replica;
            self.take_replica()?;
            self.know_all_of(Some(old))?;
        }
        Ok(())
    }

    /// A directory that is in doubt is not there: its name may be lost as well as what lay in it. True if so; nothing
    /// below it was deleted then.
    pub(super) fn lost_dir_in_doubt(&mut self, dir: &RelPath) -> Result<bool, EngineError> {
        let is_lost = self.scan.doubt.everything;
        if is_lost {
            self.forget_below(dir)?;
        }
        Ok(is_lost)
    }

    /// All of the folder was looked at, but for what could not be.
    pub(super) fn was_looked_through(&mut self) {
        if self.scan.doubt.said_by.is_none() {
            return;
        }
        let unseen = self.scan.unseen().chain(self.reports.unread());
        let left = unseen.filter(|path| self.scan.doubt.covers(path)).collect();
        let doubt = &mut self.scan.doubt;
        doubt.everything = false;
        doubt.paths = left;
        if doubt.paths.is_empty() {
            doubt.said_by = None;
            self.uncommitted = true;
        }
    }
}
