//! What is here and is not shared: changes made on a device that does not write to the folder, because it may
//! not (a reader) or does not want to (`ReceiveOnly`); and changes made elsewhere that a device does not take
//! (`SendOnly`).
//!
//! A change made here that is not shared is a record like any other, but for its place: a row has at most
//! one ([`Row::local`]), beside what is known. It enters no fingerprint and is sent to nobody. As long as it
//! *stands*, it alone says what is to be here: it was made on top of what the others have, or they have
//! deleted what was edited here. When they change the path again it stands no more, and what the
//! others have takes its place; what was written here becomes a conflict copy, which is not shared either.
//! A device that is given the right to write shares what it has.

use wire::{
    RelPath,
    record::{Body, SignedRecord},
    version::ReplicaId,
};

use super::{
    Authority, Change, Engine, EngineError, Event, LocalChange, LocalKind, Mode, known_of,
};
use crate::{
    decide::{Decision, Keep, body_here, decide},
    index::{Here, Index, Known, Row},
    siblings::Siblings,
};

/// Permission bits of a directory that is here for what lies below it alone.
const IMPLIED_MODE: u32 = 0o755;

impl<I: Index, A: Authority> Engine<I, A> {
    /// What was changed here and is not shared, sorted by path.
    ///
    /// # Errors
    /// If the index fails.
    pub fn local_changes(&mut self) -> Result<Vec<LocalChange>, EngineError> {
        let mut changes = Vec::new();
        for path in self.index.locals()? {
            let row = self.row(&path)?;
            changes.extend(Self::local_kind(&row)?.map(|kind| LocalChange { path, kind }));
        }
        Ok(changes)
    }

    /// The paths of these.
    pub fn local_paths(&self) -> impl Iterator<Item = &RelPath> {
        self.roles.locals.iter()
    }

    /// A number that is another one as soon as these are others.
    #[must_use]
    pub fn local_turn(&self) -> u64 {
        self.roles.local_turn
    }

    /// What was changed elsewhere and is not applied here ([`Mode::SendOnly`]), sorted by path; whole as soon
    /// as the folder was looked through.
    pub fn held_back(&self) -> impl Iterator<Item = &RelPath> {
        self.roles.held_back.iter()
    }

    /// How many paths differ here by right or by wish.
    pub(super) fn apart(&mut self) -> Result<u64, EngineError> {
        let local = if self.publishes() { 0 } else { self.index.locals()?.len() };
        Ok((local + self.roles.held_back.len()) as u64)
    }

    /// The records of a path that devices share.
    pub(super) fn shared(row: &Row) -> Result<Siblings, EngineError> {
        let records = row.known.iter().map(|known| SignedRecord::parse(known.bytes.clone()));
        Ok(Siblings::of(records.collect::<Result<_, _>>()?))
    }

    /// What says what a path is to be here.
    pub(super) fn siblings(row: &Row) -> Result<Siblings, EngineError> {
        let shared = Self::shared(row)?;
        let local = Self::local(row)?;
        Ok(match local.filter(|local| stands(local, &shared)) {
            Some(local) => Siblings::of(vec![local]),
            None => shared,
        })
    }

    fn local(row: &Row) -> Result<Option<SignedRecord>, EngineError> {
        let local = row.local.as_ref();
        Ok(local.map(|local| SignedRecord::parse(local.bytes.clone())).transpose()?)
    }

    pub(super) fn local_kind(row: &Row) -> Result<Option<LocalKind>, EngineError> {
        let Some(local) = Self::local(row)? else { return Ok(None) };
        Ok(Some(match local.record.body {
            Body::Tombstone { .. } => LocalKind::Deleted,
            _ if Self::shared(row)?.is_live() => LocalKind::Edited,
            _ => LocalKind::Added,
        }))
    }

    /// Writes down a change that is not shared, unless it makes the path what the others have.
    pub(super) fn keep_local(
        &mut self,
        path: &RelPath,
        row: &mut Row,
        record: &SignedRecord,
    ) -> Result<(), EngineError> {
        let before = Self::local_kind(row)?;
        let shared = Self::shared(row)?;
        match shared.winner().filter(|winner| is_same(record, winner)) {
            Some(winner) => {
                row.local = None;
                if let Some(here) = &mut row.here {
                    here.base = winner.record.version.clone();
                    here.shown = winner.hash.head();
                    here.content_dot = Some(winner.record.content_dot);
                }
            }
            None if shared.winner().is_none() && !record.record.body.is_live() => row.local = None,
            None => {
                row.local = Some(Known { bytes: record.bytes.clone(), hash: record.hash });
                self.tell_local(path, row, before)?;
            }
        }
        self.put(path, row)?;
        self.learn.reconcile(path.clone());
        Ok(())
    }

    pub(super) fn tell_local(
        &mut self,
        path: &RelPath,
        row: &Row,
        before: Option<LocalKind>,
    ) -> Result<(), EngineError> {
        if let Some(kind) = Self::local_kind(row)?.filter(|kind| before != Some(*kind)) {
            let change = LocalChange { path: path.clone(), kind };
            self.after_commit.push(Event::LocalOnly(change));
        }
        Ok(())
    }

    /// Decides what to do about a path, and forgets a change of its own that is none any more.
    pub(super) fn decide_here(
        &mut self,
        path: &RelPath,
        row: &mut Row,
        siblings: &mut Siblings,
        below: bool,
    ) -> Result<Decision, EngineError> {
        if !Self::local_holds(row)? {
            row.local = None;
            self.put(path, row)?;
            *siblings = Self::siblings(row)?;
            self.above_may_go(path)?;
        }
        let decision = Self::decide_row(row, siblings, below)?;
        let settled = matches!(decision, Decision::Settled | Decision::Adopt);
        if settled
            && let Some(local) = Self::local(row)?
            && !stands(&local, &Self::shared(row)?)
        {
            row.local = None;
            self.put(path, row)?;
        }
        if !matches!(self.options.mode, Mode::SendOnly | Mode::Look) || settled {
            self.roles.held_back.remove(path);
            return Ok(decision);
        }
        self.roles.held_back.insert(path.clone());
        Ok(Decision::Settled)
    }

    /// As [`decide_here`](Self::decide_here), without doing anything.
    pub(super) fn decision(&mut self, path: &RelPath, row: &Row) -> Result<Decision, EngineError> {
        let siblings = Self::siblings(row)?;
        let below = self.has_live_children(path)?;
        Self::decide_row(row, &siblings, below)
    }

    fn decide_row(row: &Row, siblings: &Siblings, below: bool) -> Result<Decision, EngineError> {
        let here = row.here.as_ref();
        if let Some(here) = here.filter(|here| here.shown != 0)
            && siblings.winner().is_none()
        {
            return Ok(without_record(here, below));
        }
        let decision = decide(siblings, here, below);
        let keep = match (here, Self::local(row)?) {
            (Some(here), Some(local)) if here.shown == local.hash.head() => {
                let lost = !stands(&local, siblings) && is_lost_to(&local, siblings);
                lost.then(|| Keep::Copy(Box::new(local)))
            }
            _ => None,
        };
        Ok(match (decision, keep) {
            (Decision::Place { .. }, Some(keep)) => Decision::Place { keep },
            (Decision::MakeDir { mode, implied, .. }, Some(keep)) => {
                Decision::MakeDir { mode, implied, keep }
            }
            (decision, _) => decision,
        })
    }

    /// False if a change of its own is to be forgotten at once: it is not here any more, or gave way.
    fn local_holds(row: &Row) -> Result<bool, EngineError> {
        let Some(local) = Self::local(row)? else { return Ok(true) };
        let stands = stands(&local, &Self::shared(row)?);
        Ok(match (&row.here, local.record.body.is_live()) {
            (_, false) => stands,
            (Some(here), true) => stands || here.shown == local.hash.head(),
            (None, true) => false,
        })
    }

    /// The nearest directory above that is here may have been there for the sake of what is none any more. What lies
    /// between may never have been here.
    fn above_may_go(&mut self, path: &RelPath) -> Result<(), EngineError> {
        let mut below = path.clone();
        while let Some(parent) = below.parent().filter(|parent| !parent.is_root()) {
            if self.row(&parent)?.here.is_some() {
                return self.parent_may_go(&below);
            }
            below = parent;
        }
        Ok(())
    }

    /// The whole folder was looked through: changes of its own that are not here any more are decided. Where an index
    /// was restored, no listing shows that they lack.
    pub(super) fn look_at_locals(&mut self) -> Result<(), EngineError> {
        for path in self.index.locals()? {
            if !Self::local_holds(&self.row(&path)?)? {
                self.learn.reconcile(path);
            }
        }
        Ok(())
    }

    /// After an apply: a change of its own goes with what showed it.
    pub(super) fn local_is_over(row: &mut Row) -> Result<(), EngineError> {
        let Some(local) = Self::local(row)? else { return Ok(()) };
        let is_here = match &row.here {
            Some(here) => here.shown == local.hash.head(),
            None => !local.record.body.is_live(),
        };
        if !is_here {
            row.local = None;
        }
        Ok(())
    }

    /// Shares what was changed here while this device did not write.
    pub(super) fn publish_local(&mut self) -> Result<(), EngineError> {
        for path in self.index.locals()? {
            let mut row = self.row(&path)?;
            let holds = Self::local_holds(&row)?;
            if let Some(local) = Self::local(&row)?.filter(|_| holds)
                && !self.shares_anew(&path, &mut row, &local)?
            {
                let mut siblings = Self::shared(&row)?;
                siblings.learn(local.clone());
                row.known = known_of(&siblings);
                self.outbox.push((local, None));
            }
            row.local = None;
            self.put(&path, &row)?;
            self.learn.reconcile(path);
        }
        Ok(())
    }

    /// After a new replica id: says changes that are not shared again under it, since they may be one day
    /// (rule E1).
    pub(super) fn reauthor_local(
        &mut self,
        old: ReplicaId,
        agreed: u64,
    ) -> Result<(), EngineError> {
        if self.publishes() {
            return Ok(());
        }
        for path in self.index.locals()? {
            let mut row = self.row(&path)?;
            let Some(local) = Self::local(&row)? else { continue };
            self.author_again(&path, &mut row, local.hash, local.record, (old, agreed))?;
        }
        Ok(())
    }

    /// Gives up changes that are not shared.
    pub(super) fn revert(&mut self, paths: &[RelPath]) -> Result<(), EngineError> {
        let mut deletions = 0;
        for path in self.index.locals()? {
            if !is_meant(paths, &path) {
                continue;
            }
            let mut row = self.row(&path)?;
            let Some(local) = row.local.take() else { continue };
            if let Some(here) = row.here.as_mut().filter(|here| here.shown == 0) {
                // A copy whose metadata was still to be set.
                here.shown = local.hash.head();
            }
            if let Some(content) = row.here.as_ref().and_then(|here| here.content)
                && !Self::shared(&row)?.is_live()
                && !self.index.has_more_than(&content, 1)?
            {
                deletions += 1;
            }
            self.put(&path, &row)?;
            self.learn.reconcile(path);
        }
        // That was asked for: it is no reason to ask again (rule E19).
        self.brake.allow(deletions);
        Ok(())
    }

    /// [`Mode::SendOnly`]: says what is here as this device's change on top of what the others have.
    pub(super) fn override_others(&mut self, paths: &[RelPath]) -> Result<(), EngineError> {
        let held: Vec<_> = self.roles.held_back.iter().cloned().collect();
        for path in held.into_iter().filter(|path| is_meant(paths, path)) {
            self.override_below(&path)?;
        }
        Ok(())
    }

    fn override_below(&mut self, path: &RelPath) -> Result<(), EngineError> {
        let mut row = self.row(path)?;
        let shared = Self::shared(&row)?;
        let implied = row.here.as_ref().is_some_and(|here| here.implied);
        if !matches!(self.decision(path, &row)?, Decision::Settled | Decision::Adopt) && !implied {
            let (body, mode, mtime) = match (&row.here, shared.winner()) {
                (Some(here), _) => {
                    let body = body_here(here);
                    let mtime = if body == Body::Dir { 0 } else { here.stat.mtime };
                    let is_link = matches!(body, Body::Symlink { .. });
                    (body, if is_link { 0 } else { here.stat.mode }, mtime)
                }
                (None, Some(winner)) => {
                    let deleted = winner.record.body.content();
                    (Body::Tombstone { deleted }, winner.record.mode, 0)
                }
                (None, None) => return Ok(()),
            };
            let seen = shared.joined();
            let change =
                Change { body, mode, mtime, seen, content_dot: None, found: false, inline: None };
            self.author(path, &mut row, change)?;
        }
        if row.here.is_none() {
            for (name, _) in self.index.children(path)? {
                if let Ok(below) = path.join(&name) {
                    self.override_below(&below)?;
                }
            }
        }
        Ok(())
    }
}

/// True if a path is one of those, or below one; no paths mean all.
fn is_meant(paths: &[RelPath], path: &RelPath) -> bool {
    paths.is_empty() || paths.iter().any(|meant| meant == path || meant.contains(path))
}

/// True if a change that is not shared says what is to be here: whoever changed the path last elsewhere is
/// known to it, or only deleted what was edited here.
fn stands(local: &SignedRecord, shared: &Siblings) -> bool {
    let Some(winner) = shared.winner() else { return true };
    let (this, theirs) = (&local.record, &winner.record);
    if this.version == theirs.version {
        return false;
    }
    this.version.covers(&theirs.version)
        || this.body.is_live() && !theirs.body.is_live() && is_lost_to(local, shared)
}

/// True if nobody has seen what was written here, and it is not what the others have or had (rule E5).
fn is_lost_to(local: &SignedRecord, shared: &Siblings) -> bool {
    let this = &local.record;
    shared.winner().is_none_or(|winner| {
        let theirs = &winner.record;
        let content = this.body.content();
        let is_old = this.found
            && (theirs.superseded.contains(&content.short())
                || matches!(theirs.body, Body::Tombstone { deleted } if deleted == content));
        !this.body.same_contents(&theirs.body)
            && !theirs.version.has_seen(this.content_dot)
            && !is_old
    })
}

/// True if a change makes a path what the others have.
fn is_same(local: &SignedRecord, winner: &SignedRecord) -> bool {
    let (this, theirs) = (&local.record, &winner.record);
    this.body.same_contents(&theirs.body)
        && (!this.body.is_live() || (this.mode, this.mtime) == (theirs.mode, theirs.mtime))
}

/// What becomes of something that was here for the sake of a record that does not count any more.
fn without_record(here: &Here, below: bool) -> Decision {
    let is_dir = here.stat.kind == tree::FileKind::Dir;
    match (is_dir, below) {
        (true, true) if here.stat.mode != IMPLIED_MODE => Decision::ImpliedMode(IMPLIED_MODE),
        (true, true) if here.implied => Decision::Settled,
        (true, true) => Decision::Adopt,
        (true, false) => Decision::RemoveDir,
        (false, true) => {
            Decision::MakeDir { mode: IMPLIED_MODE, implied: true, keep: Keep::History }
        }
        (false, false) => Decision::Remove,
    }
}
