//! Questions that a person asks, and their answers in words and data: why a path is as it is, what of a
//! device's changes can be undone, which conflicts are open. Nothing here changes anything.

use identity::DeviceId;
use wire::{
    RelPath,
    record::{Body, SignedRecord},
    version::{Dot, ReplicaId},
};

use super::{Authority, Engine, EngineError, LocalChange, LocalKind, Paths, PeerId};
use crate::{
    decide::{Decision, Keep},
    history::{Entry, undo},
    index::{Index, Row},
};

/// Why a path is as it is here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The path.
    pub path: RelPath,
    /// What is known of it, what the devices show first.
    pub versions: Vec<Version>,
    /// True if something is there on this device.
    pub is_here: bool,
    /// The last decision.
    pub cause: Cause,
}

/// One version of a path that nobody has replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// What is there by it.
    pub body: Body,
    /// When it was written, in nanoseconds since 1970; 0 if that says nothing.
    pub mtime: i64,
    /// The change: whose, and which.
    pub dot: Dot,
    /// True if it was made here.
    pub is_ours: bool,
    /// Devices whose signature is kept for it; none if this device's own word is what counts.
    pub signers: Vec<DeviceId>,
    /// True if its contents were kept in a conflict copy.
    pub is_conflict: bool,
}

/// The last decision about a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Nobody has said anything about it.
    Unknown,
    /// It is ignored on this device.
    Ignored,
    /// It is not in step, for this reason.
    Skipped(String),
    /// Its deletion waits for a yes.
    Held,
    /// It was changed elsewhere, and this device only sends.
    NotTaken,
    /// It was changed here, and this device does not write.
    Local(LocalKind),
    /// It was refused: this device signed for it, and may not write.
    Refused(DeviceId),
    /// No connected device has its contents.
    Lacking,
    /// It is on its way.
    UnderWay,
    /// It is a directory that is there only for what is below it.
    Implied,
    /// Contents met that nobody had seen both of: the others are in these copies.
    Conflict(Vec<RelPath>),
    /// It was deleted.
    Deleted,
    /// It is as all devices have it that are in step.
    InStep,
}

impl Cause {
    /// The rule by which that was decided.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Unknown | Self::Skipped(_) => "E8",
            Self::Ignored => "E11",
            Self::Held => "E19",
            Self::NotTaken | Self::InStep => "E25",
            Self::Local(_) | Self::Refused(_) => "T15",
            Self::Lacking => "E20",
            Self::UnderWay => "E12",
            Self::Implied => "E9",
            Self::Conflict(_) => "E2",
            Self::Deleted => "E4",
        }
    }

    /// That in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Unknown => "no device has said anything about it".to_owned(),
            Self::Ignored => "it is ignored on this device".to_owned(),
            Self::Skipped(reason) => reason.clone(),
            Self::Held => "its deletion is held until a person agrees".to_owned(),
            Self::NotTaken => {
                "it was changed on another device, and this one only sends".to_owned()
            }
            Self::Local(kind) => {
                let done = match kind {
                    LocalKind::Added => "added",
                    LocalKind::Edited => "changed",
                    LocalKind::Deleted => "deleted",
                };
                format!("it was {done} on this device, which does not write to the folder")
            }
            Self::Refused(_) => {
                "a change of it was refused: who signed it may not write here".to_owned()
            }
            Self::Lacking => "no connected device has its contents".to_owned(),
            Self::UnderWay => "it is on its way".to_owned(),
            Self::Implied => "it is there for the sake of what is in it".to_owned(),
            Self::Conflict(_) => {
                "two devices changed it without having seen each other's change".to_owned()
            }
            Self::Deleted => "it was deleted by somebody who had seen what was there".to_owned(),
            Self::InStep => "it is as on every other device that is in step".to_owned(),
        }
    }

    /// What a person can do about it, if there is anything to be done.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Ignored => Some("change .kinignore to have it travel"),
            Self::Held => Some("agree to the deletions, or put the files back"),
            Self::NotTaken => Some("override it, or let this device receive"),
            Self::Local(_) => Some("revert it, or ask an admin for the right to write"),
            Self::Refused(_) => Some("ask an admin to give that device the right to write"),
            Self::Lacking => Some("connect a device that has it"),
            Self::Conflict(_) => Some("look at the copies, and settle which is to stay"),
            Self::Deleted => Some("bring it back from history"),
            Self::Unknown | Self::Skipped(_) | Self::UnderWay | Self::Implied | Self::InStep => {
                None
            }
        }
    }
}

/// What of a replica's changes can be undone.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UndoPlan {
    /// Versions to bring back ([`restore_all`](crate::history::restore::restore_all)).
    pub back: Vec<Entry>,
    /// Paths that somebody else has changed since: they stay.
    pub changed_since: Vec<RelPath>,
    /// Entries whose name was cut, so that it does not say what path they had.
    pub unclear: Vec<RelPath>,
}

/// What taking part in a folder would do here; directories are not counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Plan {
    /// Files that come here.
    pub adds: u64,
    /// Files that differ, so that one of the two becomes a conflict copy.
    pub conflicts: u64,
    /// Files that go from here to history, since they were deleted elsewhere.
    pub deletes: u64,
    /// Files that go to the others.
    pub sends: u64,
}

/// A conflict copy in the tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConflictCopy {
    /// Where it is.
    pub copy: RelPath,
    /// The path at which it lost; it may hold nothing any more.
    pub original: RelPath,
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// Why a path is as it is here.
    ///
    /// # Errors
    /// If the index fails.
    pub fn why(&mut self, path: &RelPath) -> Result<Explanation, EngineError> {
        let row = self.row(path)?;
        let shared = Self::shared(&row)?;
        let first = shared.winner().map(|winner| winner.hash);
        let mut versions = Vec::new();
        for record in shared.records() {
            let sealed = self.index.sealed(&record.hash)?;
            let version = Version {
                body: record.record.body.clone(),
                mtime: record.record.mtime,
                dot: record.record.dot,
                is_ours: record.record.dot.replica == self.replica,
                signers: sealed.iter().map(|sealed| sealed.author).collect(),
                is_conflict: shared.is_conflict(record),
            };
            let at = if Some(record.hash) == first { 0 } else { versions.len() };
            versions.insert(at, version);
        }
        let cause = self.cause(path, &row)?;
        Ok(Explanation { path: path.clone(), versions, is_here: row.here.is_some(), cause })
    }

    fn cause(&mut self, path: &RelPath, row: &Row) -> Result<Cause, EngineError> {
        let siblings = Self::siblings(row)?;
        let winner = siblings.winner();
        let is_dir = match (&row.here, winner) {
            (Some(here), _) => here.stat.kind == tree::FileKind::Dir,
            (None, winner) => winner.is_some_and(|winner| winner.record.body == Body::Dir),
        };
        if self.options.ignore.is_ignored(path, is_dir) {
            return Ok(Cause::Ignored);
        }
        if self.fetch.is_lacking(path) {
            return Ok(Cause::Lacking);
        }
        if let Some(reason) = self.reports.reason(path) {
            return Ok(Cause::Skipped(reason.to_owned()));
        }
        if self.brake.is_on() && (self.brake.holds(path) || self.learn.deletes.contains(path)) {
            return Ok(Cause::Held);
        }
        if self.roles.held_back.contains(path) {
            return Ok(Cause::NotTaken);
        }
        if let Some(kind) = Self::local_kind(row)? {
            return Ok(Cause::Local(kind));
        }
        if self.group.is_busy(path)
            || self.fetch.wants_path(path)
            || self.learn.is_undecided(path)
            || self.learn.deletes.contains(path)
        {
            return Ok(Cause::UnderWay);
        }
        if let Some(author) = self.roles.refused_author(path) {
            return Ok(Cause::Refused(author));
        }
        if row.here.as_ref().is_some_and(|here| here.implied) {
            return Ok(Cause::Implied);
        }
        let lost = siblings.records().iter().filter(|record| siblings.is_conflict(record));
        let lost: Vec<_> = lost.map(|record| super::learn::copy_path(path, record)).collect();
        let mut copies = Vec::new();
        for copy in lost {
            // One that is gone was looked at by somebody.
            if self.row(&copy)?.here.is_some() {
                copies.push(copy);
            }
        }
        if !copies.is_empty() {
            return Ok(Cause::Conflict(copies));
        }
        Ok(match winner {
            None => Cause::Unknown,
            Some(winner) if !winner.record.body.is_live() => Cause::Deleted,
            Some(_) if row.here.is_none() => Cause::UnderWay,
            Some(_) => Cause::InStep,
        })
    }

    /// Which of the versions in history a replica's changes since a time (in milliseconds since 1970) have put
    /// there, and can be brought back: nobody else has changed these paths since.
    ///
    /// # Errors
    /// If the index fails.
    pub fn undo(
        &mut self,
        history: &[Entry],
        by: &[ReplicaId],
        since: u64,
    ) -> Result<UndoPlan, EngineError> {
        let mut plan = UndoPlan::default();
        for (path, entry) in undo::candidates(history, by, since) {
            let row = self.row(&path)?;
            let shared = Self::shared(&row)?;
            let is_theirs = |winner: &SignedRecord| by.contains(&winner.record.dot.replica);
            match shared.winner() {
                None => plan.unclear.push(entry.place.clone()),
                Some(winner) if is_theirs(winner) && row.local.is_none() => plan.back.push(entry),
                Some(_) => plan.changed_since.push(path),
            }
        }
        Ok(plan)
    }

    /// What taking part would do here, by what is known now ([`Mode::Look`](super::Mode::Look)).
    ///
    /// # Errors
    /// If the index fails.
    pub fn plan(&mut self) -> Result<Plan, EngineError> {
        let mut plan = Plan::default();
        let held: Vec<RelPath> = self.held_back().cloned().collect();
        for path in &held {
            let row = self.row(path)?;
            match self.decision(path, &row)? {
                Decision::Place { keep: Keep::Copy(_) }
                | Decision::MakeDir { keep: Keep::Copy(_), .. } => plan.conflicts += 1,
                Decision::Place { .. } => plan.adds += 1,
                Decision::Remove => plan.deletes += 1,
                // Directories, and what concerns permissions only.
                _ => {}
            }
        }
        for LocalChange { path, kind } in self.local_changes()? {
            let row = self.row(&path)?;
            let is_dir = row.here.is_some_and(|here| here.stat.kind == tree::FileKind::Dir);
            if !is_dir && kind != LocalKind::Deleted && !held.contains(&path) {
                plan.sends += 1;
            }
        }
        Ok(plan)
    }

    /// A connected peer's replica, once it has said hello; not one that is known to be another's.
    #[must_use]
    pub fn peer_replica(&self, peer: PeerId) -> Option<ReplicaId> {
        let peer = self.peers.get(&peer)?;
        let is_anothers = |replica: &ReplicaId| {
            peer.device.is_some_and(|device| self.hearing.is_anothers(*replica, &device))
        };
        peer.replica.filter(|replica| !is_anothers(replica))
    }

    /// The conflict copies in the tree, sorted by path.
    ///
    /// # Errors
    /// If the index fails.
    pub fn conflicts(&mut self) -> Result<Vec<ConflictCopy>, EngineError> {
        let copy = |copy: &RelPath| {
            let original = tree::apply::conflict_of(copy)?;
            Some(ConflictCopy { copy: copy.clone(), original })
        };
        Ok(self.copies.iter().filter_map(copy).collect())
    }

    /// How many conflict copies there are in the tree.
    #[must_use]
    pub fn conflict_count(&self) -> u64 {
        self.copies.len() as u64
    }

    /// A conflict copy, or a change that is not shared, may have come or gone.
    pub(super) fn note_row(&mut self, path: &RelPath, row: &Row) {
        self.roles.note_local(path, row.local.is_some(), self.options.mode);
        if row.here.is_none() {
            self.scan.looks_as(path, None);
        }
        if !path.as_str().contains(".conflict-") {
            return;
        }
        if is_copy(path, row) {
            self.copies.insert(path.clone());
        } else {
            self.copies.remove(path);
        }
    }
}

fn is_copy(path: &RelPath, row: &Row) -> bool {
    let here = row.here.as_ref().map(|here| here.stat.kind);
    here.is_some_and(|kind| kind != tree::FileKind::Dir) && tree::apply::conflict_of(path).is_some()
}

/// The conflict copies that an index knows to be here.
pub(super) fn copies(index: &mut impl Index) -> Result<Paths, EngineError> {
    let mut copies = Paths::new();
    for path in index.conflict_names()? {
        if index.row(&path)?.is_some_and(|row| is_copy(&path, &row)) {
            copies.insert(path);
        }
    }
    Ok(copies)
}
