//! What peers say, and what follows from it: records are merged into what is known, and each path that
//! may differ from the tree is decided and handed to `fetch` and `group`.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use bytes::Bytes;
use tree::FileKind;
use wire::{
    Hash, RelPath,
    record::{Body, SignedRecord},
    version::Dot,
};

use super::{Authority, Engine, EngineError, PathSet, Paths, PeerId, known_of, report::Trouble};
use crate::{
    decide::{Decision, Keep},
    index::{Index, Row},
    siblings::Siblings,
};

/// Paths decided in one go, so that messages and jobs are not kept waiting.
const DECIDE_AT_ONCE: usize = 512;
/// Contents that rode along with records and wait for their path to be decided, in bytes.
const MAX_INLINE: usize = 16 << 20;
/// A path whose change met an edit is decided again after this long, in milliseconds.
const RACE_MS: u64 = 50;
/// A path whose change could not be applied is tried again after this long, in milliseconds.
const RETRY_MS: u64 = 2_000;
/// The longest such wait, in milliseconds.
const RETRY_MAX_MS: u64 = 5 * 60 * 1000;

/// Paths on their way from a record to the tree.
#[derive(Debug, Default)]
pub(super) struct Learn {
    /// To be decided, in the order of paths: what lies in one directory comes together (rule E16).
    queue: Paths,
    /// Decided to be removed; done once nothing is to be created any more (rule E15).
    pub(super) deletes: Paths,
    /// Could not be applied: retried at a time, or when something changes.
    blocked: BTreeMap<RelPath, u64>,
    /// Those of them that lost a race with an edit: not in step, and soon decided again.
    racing: PathSet,
    /// Those of them that cannot be here beside what is, on a disk that takes their names for the same.
    twins: Paths,
    /// How long each of them waited the last time, in milliseconds.
    delays: HashMap<RelPath, u64>,
    /// Waiting for another path to be applied: their directory, or a file with the same contents.
    waiting: HashMap<RelPath, Paths>,
    /// Below a directory that is blocked, or that is stuck itself: until it is decided otherwise.
    pub(super) stuck: HashMap<RelPath, Paths>,
    /// Directories known to be here, or to be made before anything decided later.
    ready_dirs: PathSet,
    /// Directories here, or about to be, that no record says: there for the sake of what lies below, or to
    /// be removed once they are empty (rule E9).
    hollow: PathSet,
    inline: HashMap<Hash, Bytes>,
    inline_bytes: usize,
    /// Who told of the change that a path is waiting for.
    origin: HashMap<RelPath, PeerId>,
}

impl Learn {
    pub(super) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.waiting.is_empty() && self.racing.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn next_wake(&self) -> u64 {
        self.blocked.values().copied().min().unwrap_or(u64::MAX)
    }

    /// Has a path decided again.
    pub(super) fn reconcile(&mut self, path: RelPath) {
        self.blocked.remove(&path);
        self.racing.remove(&path);
        self.queue.insert(path);
    }

    /// As [`Learn::reconcile`], but what failed before keeps waiting for its time.
    pub(super) fn reconcile_unless_blocked(&mut self, path: RelPath) {
        if !self.is_blocked(&path) {
            self.reconcile(path);
        }
    }

    /// True if something stands in the way of a path, or of what it lies in.
    pub(super) fn is_blocked(&self, path: &RelPath) -> bool {
        self.blocked.contains_key(path) || self.is_stuck(path)
    }

    /// What was taken for granted about directories is not any more.
    pub(super) fn dir_changed(&mut self) {
        self.ready_dirs.clear();
    }

    pub(super) fn dir_is_ready(&mut self, path: &RelPath) {
        self.ready_dirs.insert(path.clone());
        self.wake(path);
    }

    /// Something live is known at a path: that is a reason for the directories above it, which may have waited
    /// to be empty (rule E9).
    pub(super) fn is_live_at(&mut self, path: &RelPath) {
        if self.hollow.is_empty() {
            return;
        }
        let mut above = path.parent();
        while let Some(dir) = above {
            above = dir.parent();
            if self.hollow.contains(&dir) {
                self.reconcile(dir);
            }
        }
    }

    /// What waited for a path may go on.
    pub(super) fn wake(&mut self, path: &RelPath) {
        self.delays.remove(path);
        for waiting in [self.waiting.remove(path), self.stuck.remove(path)] {
            waiting.into_iter().flatten().for_each(|waiting| self.reconcile(waiting));
        }
    }

    /// True if something below a path waits for it to become a directory.
    fn is_awaited_dir(&self, path: &RelPath) -> bool {
        let waiting = self.waiting.get(path);
        self.stuck.contains_key(path)
            || waiting.is_some_and(|waiting| waiting.iter().any(|below| path.contains(below)))
    }

    /// Takes what waits for a path as its directory.
    pub(super) fn take_waiting_below(&mut self, dir: &RelPath) -> Paths {
        let Some(waiting) = self.waiting.get_mut(dir) else { return Paths::new() };
        let below = waiting.extract_if(.., |path| dir.contains(path)).collect();
        if waiting.is_empty() {
            self.waiting.remove(dir);
        }
        below
    }

    pub(super) fn wait_for(&mut self, first: &RelPath, path: RelPath) {
        self.waiting.entry(first.clone()).or_default().insert(path);
    }

    /// A path is decided anew: whatever it waited for may be needed no more.
    fn waits_no_more(&mut self, path: &RelPath) {
        let Some(dir) = path.parent() else { return };
        for all in [&mut self.waiting, &mut self.stuck] {
            if let Some(waiting) = all.get_mut(&dir) {
                waiting.remove(path);
                if waiting.is_empty() {
                    all.remove(&dir);
                }
            }
        }
    }

    /// Something stands in the way: later, or when it changes.
    pub(super) fn block(&mut self, path: &RelPath, now: u64) {
        let delay = self.delays.entry(path.clone()).or_insert(0);
        *delay = (*delay * 2).clamp(RETRY_MS, RETRY_MAX_MS);
        self.blocked.insert(path.clone(), now + *delay);
        self.racing.remove(path);
        self.stick_below(path);
    }

    /// The disk was not as the index says: it is looked at again, and then this is decided again. False
    /// if that has gone on for too long to be an edit in passing.
    pub(super) fn block_for_race(&mut self, path: &RelPath, now: u64) -> bool {
        let delay = self.delays.entry(path.clone()).or_insert(0);
        *delay = (*delay * 2).max(RACE_MS);
        self.blocked.insert(path.clone(), now + *delay);
        let in_passing = *delay < RETRY_MS;
        if in_passing {
            self.racing.insert(path.clone());
        } else {
            self.racing.remove(path);
        }
        self.stick_below(path);
        in_passing
    }

    /// Something stands in the way that will not go by itself.
    pub(super) fn block_until_changed(&mut self, path: &RelPath) {
        self.blocked.insert(path.clone(), u64::MAX);
        self.racing.remove(path);
        self.stick_below(path);
    }

    /// Something here has a name that the disk takes for that of a path: until it is gone.
    pub(super) fn block_for_twin(&mut self, path: &RelPath) {
        self.block_until_changed(path);
        self.twins.insert(path.clone());
    }

    /// Something is gone: what could not be beside it may come.
    pub(super) fn twins_may_come(&mut self, gone: &RelPath) {
        if self.twins.is_empty() {
            return;
        }
        let dir = gone.parent();
        let free: Vec<_> = self.twins.extract_if(.., |twin| twin.parent() == dir).collect();
        free.into_iter().for_each(|path| self.reconcile(path));
    }

    /// A directory was made: what could not be put into it may come now.
    pub(super) fn dir_was_made(&mut self, dir: &RelPath) {
        let after = (Bound::Excluded(dir), Bound::Unbounded);
        let below = self.blocked.range::<RelPath, _>(after).map(|(path, _)| path);
        let below = below.take_while(|path| path.as_str().starts_with(dir.as_str()));
        let below: Vec<_> =
            below.filter(|path| path.parent().as_ref() == Some(dir)).cloned().collect();
        for path in below {
            self.delays.remove(&path);
            self.reconcile(path);
        }
    }

    /// Everything that was blocked may go now.
    pub(super) fn unblock_all(&mut self) {
        for path in std::mem::take(&mut self.blocked).into_keys() {
            self.reconcile(path);
        }
    }

    pub(super) fn origin_of(&self, path: &RelPath) -> Option<PeerId> {
        self.origin.get(path).copied()
    }

    pub(super) fn inline(&self, content: &Hash) -> Option<Bytes> {
        self.inline.get(content).cloned()
    }

    /// True if a path is still to be decided, now or later.
    pub(super) fn is_undecided(&self, path: &RelPath) -> bool {
        self.queue.contains(path) || self.is_blocked(path)
    }

    /// Decides a path again at a time; it is not in step until then.
    pub(super) fn reconcile_at(&mut self, path: RelPath, time: u64) {
        self.racing.insert(path.clone());
        self.blocked.insert(path, time);
    }

    /// True if nothing is to be done about a path, and nothing waits for it or with it.
    fn is_at_rest(&self, path: &RelPath) -> bool {
        let waits = path.parent().and_then(|dir| self.waiting.get(&dir));
        !self.is_undecided(path)
            && !self.deletes.contains(path)
            && !self.waiting.contains_key(path)
            && !self.stuck.contains_key(path)
            && !self.hollow.contains(path)
            && waits.is_none_or(|waiting| !waiting.contains(path))
    }

    pub(super) fn is_queued(&self, path: &RelPath) -> bool {
        self.queue.contains(path)
    }
}

/// Where a losing edit's contents are kept: a function of path, contents and author, so that all devices
/// make the same copy.
pub(super) fn copy_path(path: &RelPath, loser: &SignedRecord) -> RelPath {
    tree::apply::conflict_name(path, loser.record.dot.replica.0, loser.record.body.content().head())
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// Merges a record that a peer's batch vouches for. True if it is known now.
    pub(super) fn learn_record(
        &mut self,
        peer: PeerId,
        record: SignedRecord,
        inline: Option<Bytes>,
    ) -> Result<bool, EngineError> {
        let path = record.record.path.clone();
        let dot = record.record.dot;
        let of_us = record.record.version.counter(self.replica);
        if dot.replica == self.replica && self.is_from_another_life(dot.counter, &record.hash) {
            self.new_replica("another device speaks with this folder's replica id", 0)?;
        } else if of_us > self.said {
            // Else what was edited here and not sent yet, or is edited from now on, would count as seen there
            // (attacks.md 30).
            self.new_replica("another device has seen what this one did not say yet", 0)?;
        }
        self.note_latest(dot, record.hash);
        for (replica, counter) in record.record.version.entries() {
            let seen = Dot { replica: *replica, counter: *counter };
            if seen != dot && seen.replica != self.replica {
                self.note_latest(seen, Hash::default());
            }
        }
        let mut row = self.row(&path)?;
        let mut siblings = Self::shared(&row)?;
        let content = record.record.body.content();
        let hash = record.hash;
        if self.brings_back(peer, &row, &record)? {
            return Ok(false);
        }
        self.note_forgotten(&record.record);
        let is_known = |siblings: &Siblings| siblings.records().iter().any(|it| it.hash == hash);
        if !siblings.learn(record) {
            return Ok(is_known(&siblings));
        }
        let siblings = self.within_horizon(&path, siblings)?;
        if siblings.records().is_empty() && row.known.is_empty() {
            return Ok(false);
        }
        row.known = known_of(&siblings);
        row.local.take_if(|local| local.hash == hash);
        self.put_known(&path, &row, siblings.is_live())?;
        if let Some(bytes) = inline
            && self.learn.inline_bytes + bytes.len() <= MAX_INLINE
            && self.learn.inline.insert(content, bytes.clone()).is_none()
        {
            self.learn.inline_bytes += bytes.len();
        }
        self.learn.origin.insert(path.clone(), peer);
        self.learn.reconcile(path);
        Ok(is_known(&siblings))
    }

    /// Has a path decided again, unless it plainly shows what it should: one record is known, a file or link, it
    /// is here, and nothing lies below or waits. Of many new files that is all of them.
    pub(super) fn reconcile_unless_settled(
        &mut self,
        path: &RelPath,
        row: &Row,
    ) -> Result<(), EngineError> {
        let shown = match (row.known.as_slice(), &row.here) {
            ([known], Some(here)) => {
                here.stat.kind != FileKind::Dir
                    && !here.implied
                    && here.shown == known.hash.head()
                    && row.local.is_none()
            }
            _ => false,
        };
        let rests = shown
            && self.learn.is_at_rest(path)
            && !self.fetch.wants_path(path)
            && !self.brake.holds(path)
            && !self.roles.held_back.contains(path)
            && !self.index.has_any_below(path)?;
        if rests {
            self.learn.origin.remove(path);
        } else {
            self.learn.reconcile(path.clone());
        }
        Ok(())
    }

    /// Until the whole folder has been looked at once, what peers tell of may be here already: to decide sooner would
    /// bring contents for nothing, and find each path taken. And while many records come, in whatever order, what is
    /// to lie in one directory is not known yet (rule E16).
    pub(super) fn may_decide(&self) -> bool {
        self.scan.first_done
            && !self.scan.doubt.is_first_look()
            && self.now.ms >= self.gathers_until()
    }

    /// When what is queued may be decided, if nothing else happens.
    pub(super) fn next_decision(&self) -> u64 {
        let until = self.gathers_until();
        if self.learn.has_work() && until > self.now.ms { until } else { u64::MAX }
    }

    /// Decides what is queued, as far as is good for one go.
    pub(super) fn reconcile_on(&mut self) -> Result<(), EngineError> {
        if !self.may_decide() {
            return Ok(());
        }
        let now = self.now.ms;
        let due: Vec<_> = self
            .learn
            .blocked
            .iter()
            .filter(|(_, at)| **at <= now)
            .take(DECIDE_AT_ONCE)
            .map(|(path, _)| path.clone())
            .collect();
        for path in due {
            self.learn.reconcile(path);
        }
        for _ in 0..DECIDE_AT_ONCE {
            if self.fetch.is_full() {
                break;
            }
            let Some(path) = self.learn.queue.pop_first() else { break };
            self.reconcile_path(&path)?;
        }
        if self.learn.queue.is_empty() && !self.learn.inline.is_empty() {
            // What rode along for a path that turned out not to need it.
            self.learn.inline.clear();
            self.learn.inline_bytes = 0;
        }
        Ok(())
    }

    fn reconcile_path(&mut self, path: &RelPath) -> Result<(), EngineError> {
        self.learn.waits_no_more(path);
        let was_pending = self.learn.deletes.remove(path);
        self.brake.forget_incoming(path, was_pending);
        if self.group.is_busy(path) {
            // Decided again when what is under way is done, or was not.
            self.group.has_news(path);
            return Ok(());
        }
        let mut row = self.row(path)?;
        let mut siblings = Self::siblings(&row)?;
        if self.stays_held(path, &mut row, &siblings)? {
            return Ok(());
        }
        let is_dir = siblings.winner().is_some_and(|winner| winner.record.body == Body::Dir);
        if self.options.ignore.is_ignored(path, is_dir) {
            self.fetch.forget(path);
            self.learn.wake(path);
            return Ok(());
        }
        // What waits for this path as its directory is live, even if no record says what lies between.
        let below = !is_dir && (self.learn.is_awaited_dir(path) || self.has_live_children(path)?);
        let mut waits = false;
        let here_dir = row.here.as_ref().is_some_and(|here| here.stat.kind == FileKind::Dir);
        if here_dir {
            self.learn.dir_is_ready(path);
        }
        let decision = self.decide_here(path, &mut row, &mut siblings, below)?;
        let is_made = matches!(decision, Decision::MakeDir { implied: true, .. });
        if is_made || here_dir && !is_dir {
            self.learn.hollow.insert(path.clone());
        } else {
            self.learn.hollow.remove(path);
        }
        if !matches!(decision, Decision::Place { .. }) {
            self.fetch.forget(path);
        }
        match decision {
            Decision::Settled => {
                self.mended_of(path, Trouble::Apply);
                self.learn.origin.remove(path);
                if row.here.is_none() && !siblings.is_live() {
                    self.parent_may_go(path)?;
                }
            }
            Decision::Adopt => {
                self.mended_of(path, Trouble::Apply);
                if let Some(here) = &mut row.here {
                    if below {
                        here.implied = true;
                    } else if let Some(winner) = siblings.winner() {
                        here.implied = false;
                        here.base.join(&winner.record.version);
                        here.shown = winner.hash.head();
                        here.content_dot = Some(winner.record.content_dot);
                    }
                    self.put(path, &row)?;
                }
            }
            Decision::Remove | Decision::RemoveDir => {
                self.learn.deletes.insert(path.clone());
                self.brake.note_incoming(self.now.ms);
            }
            Decision::Meta => {
                if let Some(winner) = siblings.winner() {
                    self.apply_meta(path, &row, winner);
                }
            }
            Decision::ImpliedMode(mode) => self.apply_implied_mode(path, &row, mode),
            Decision::MakeDir { mode, implied, keep } => {
                if self.parent_is_ready(path)? {
                    let copy = self.copy_for(path, &keep)?;
                    let record = siblings.winner().filter(|_| !implied).cloned();
                    self.apply_make_dir(path, &row, mode, record, copy);
                    self.learn.ready_dirs.insert(path.clone());
                    // It waits for what is to lie in it (rule E16), which need not wait for it any more.
                    for below in self.learn.take_waiting_below(path) {
                        self.learn.reconcile(below);
                    }
                } else {
                    waits = true;
                }
            }
            Decision::Place { keep } => {
                if !self.parent_is_ready(path)? {
                    waits = true;
                } else if let Some(winner) = siblings.winner() {
                    let copy = self.copy_for(path, &keep)?;
                    self.place(path, &row, winner, copy)?;
                }
            }
        }
        if !waits && !self.group.is_busy(path) && !self.fetch.wants_path(path) {
            // Nothing is under way here that could wake what waits for this path.
            self.learn.wake(path);
        }
        Ok(())
    }

    /// True if anything is known at the path of the conflict copy of a losing edit.
    pub(super) fn copy_is_known(
        &mut self,
        path: &RelPath,
        loser: &SignedRecord,
    ) -> Result<bool, EngineError> {
        let copy = copy_path(path, loser);
        Ok(self.index.row(&copy)?.is_some_and(|row| !row.known.is_empty() || row.local.is_some()))
    }

    /// The path of the conflict copy that a losing edit needs, and the edit; `None` if history will do.
    fn copy_for(
        &mut self,
        path: &RelPath,
        keep: &Keep,
    ) -> Result<Option<(RelPath, SignedRecord)>, EngineError> {
        let Keep::Copy(loser) = keep else { return Ok(None) };
        let known = self.copy_is_known(path, loser)?;
        Ok((!known).then(|| (copy_path(path, loser), (**loser).clone())))
    }

    /// True if the directory of a path is here or about to be. If it is not, it is decided first and the
    /// path waits for it.
    fn parent_is_ready(&mut self, path: &RelPath) -> Result<bool, EngineError> {
        let Some(parent) = path.parent() else { return Ok(false) };
        if parent.is_root() || self.learn.ready_dirs.contains(&parent) {
            return Ok(true);
        }
        let row = self.row(&parent)?;
        let here = row.here.as_ref().is_some_and(|here| here.stat.kind == FileKind::Dir);
        if here && !self.group.is_busy(&parent) {
            self.learn.ready_dirs.insert(parent);
            return Ok(true);
        }
        if self.learn.is_blocked(&parent) {
            self.learn.stick_to(&parent, path);
            self.tell_stuck_at(path);
            return Ok(false);
        }
        self.learn.wait_for(&parent, path.clone());
        if !self.group.is_busy(&parent) {
            self.learn.reconcile(parent);
        }
        Ok(false)
    }

    /// A directory that is here only for the sake of something below it, or that was deleted and waits to
    /// be empty, may have lost its reason.
    pub(super) fn parent_may_go(&mut self, path: &RelPath) -> Result<(), EngineError> {
        let Some(parent) = path.parent().filter(|parent| !parent.is_root()) else { return Ok(()) };
        let row = self.row(&parent)?;
        let implied = row.here.as_ref().is_some_and(|here| here.implied);
        if row.here.is_none() && !self.learn.is_blocked(&parent) {
            return Ok(());
        }
        let siblings = Self::siblings(&row)?;
        if implied || siblings.winner().is_none_or(|it| it.record.body != Body::Dir) {
            self.learn.reconcile(parent);
        }
        Ok(())
    }

    /// A path could not be applied: what waits for it waits longer, and what lies below it for as long as it does.
    pub(super) fn not_applied(&mut self, first: &RelPath) {
        self.learn.ready_dirs.clear();
        for path in self.learn.waiting.remove(first).unwrap_or_default() {
            if first.contains(&path) {
                self.learn.stick_to(first, &path);
            } else {
                self.learn.block_for_race(&path, self.now.ms);
            }
        }
    }
}
