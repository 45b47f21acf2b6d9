//! Applying: decisions are collected into groups, and each group goes to the disk in the order of rule
//! E12: intents durable, temporary files, contents durable, swaps, directories durable; then the index.
//!
//! One group is under way at a time; the next one gathers meanwhile, so that groups grow with the load
//! and a single edit waits for nobody. What came of a large group is noted in the index while the next one is under
//! way already.

mod dirs;
mod item;

use std::{
    collections::{HashMap, HashSet},
    io::ErrorKind,
    vec,
};

use bytes::Bytes;
use tree::apply::{ApplyError, HistoryName, Why};
use wire::{
    Hash, RelPath,
    record::{Body, SignedRecord},
};

use dirs::NewDirs;
use item::{Item, Then, expected, held_by};

use super::{
    AppliedKind, Authority, Effect, Engine, EngineError, Event,
    fetch::Pending,
    local::{fresh_here, is_racy},
    report::{Trouble, remedy},
};
use crate::{
    decide::{Decision, Keep, body_here},
    index::{Here, Index, Intent, IntentKind, Row},
    jobs::{Change, Changed, Expected, Job, Making, Room, StagedFrom, What},
};

/// Contents held in memory for groups to come, in bytes; beyond it no more is asked for.
const MAX_HELD: usize = 12 << 20;

/// Where the contents of a file to be placed come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Memory.
    Bytes(Bytes),
    /// A finished download.
    Partial(Hash),
    /// Nowhere: it is a symbolic link.
    Link(String),
}

/// A group that is on the disk, durably, as far as the index does not say so yet. Its intents are there still.
#[derive(Debug, Default)]
struct Finished {
    then: HashMap<RelPath, Then>,
    results: vec::IntoIter<Changed>,
}

/// Changes on their way to the disk.
#[derive(Debug)]
pub(super) struct Groups {
    next_swap: u64,
    /// Where nothing is, and before anything below them.
    dirs: NewDirs,
    items: Vec<Item>,
    held: usize,
    under_way: Option<HashMap<RelPath, Then>>,
    finished: Finished,
    busy: HashSet<RelPath>,
    /// What of that was to be decided again meanwhile.
    news: HashSet<RelPath>,
}

impl Groups {
    pub(super) fn new(first_swap: u64) -> Self {
        Self {
            next_swap: first_swap,
            dirs: NewDirs::default(),
            items: Vec::new(),
            held: 0,
            under_way: None,
            finished: Finished::default(),
            busy: HashSet::new(),
            news: HashSet::new(),
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.items.is_empty()
            && self.dirs.is_empty()
            && self.under_way.is_none()
            && !self.has_to_note()
    }

    /// True if something is on the disk that is not noted yet.
    pub(super) fn has_to_note(&self) -> bool {
        self.finished.results.len() > 0
    }

    /// True if as much waits to be written as memory allows.
    pub(super) fn is_full(&self) -> bool {
        self.held >= MAX_HELD
    }

    /// True if a change of the path is on its way to the disk.
    pub(super) fn is_busy(&self, path: &RelPath) -> bool {
        self.busy.contains(path)
    }

    /// Something was learned of a path whose change is on its way.
    pub(super) fn has_news(&mut self, path: &RelPath) {
        self.news.insert(path.clone());
    }

    fn push(&mut self, change: Change, intent: Option<(IntentKind, Hash)>, swap: u64, then: Then) {
        let item = self.item(change, intent, swap, then);
        let Some(item) = self.dirs.wait_within(item) else { return };
        self.items.extend(self.dirs.take_above(&item.change.path));
        self.items.push(item);
    }

    /// As [`Self::push`] of a directory where nothing is: it waits for what is to lie in it.
    fn push_new_dir(&mut self, change: Change, intent: (IntentKind, Hash), then: Then, now: u64) {
        let What::MakeDir { swap, .. } = change.what else { return };
        let item = self.item(change, Some(intent), swap, then);
        self.dirs.wait(item, now);
    }

    fn item(
        &mut self,
        change: Change,
        intent: Option<(IntentKind, Hash)>,
        swap: u64,
        then: Then,
    ) -> Item {
        let path = change.path.clone();
        let intent =
            intent.map(|(kind, content)| Intent { path: path.clone(), swap, content, kind });
        self.held += held_by(&change);
        self.busy.insert(path);
        self.busy.extend(then.copy().cloned());
        Item { change, intent, then }
    }

    /// A change is on the disk, or was not made.
    fn is_over(&mut self, path: &RelPath, then: &Then) {
        self.busy.remove(path);
        let Some(copy) = then.copy() else { return };
        let is_to_change = self.items.iter().any(|item| item.change.path == *copy);
        let all = self.under_way.iter().chain([&self.finished.then]);
        if !is_to_change && !all.into_iter().any(|then| then.contains_key(copy)) {
            self.busy.remove(copy);
        }
    }

    fn draw_swap(&mut self) -> u64 {
        self.next_swap = self.next_swap.wrapping_add(1);
        self.next_swap
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// How what is at a path makes room, if anything is there.
    fn room(
        &mut self,
        path: &RelPath,
        here: Option<&Here>,
        copy: Option<&(RelPath, SignedRecord)>,
        by: Option<&SignedRecord>,
    ) -> Option<Room> {
        let here = here?;
        let content = body_here(here).content();
        let making = match copy {
            Some((copy, _)) => Making::Copy(copy.clone()),
            // A copy that would be made but for its name, which has a record already, is a loser still.
            None if self.has_lost(path, here) => {
                Making::History(self.history(path, &content, Why::Conflict, by))
            }
            None => Making::History(self.history(path, &content, Why::Replaced, by)),
        };
        Some(Room { expected: expected(here), making })
    }

    /// True if what is here is an edit that lost, or nobody can tell: then it is never cleared away (rule
    /// E17).
    fn has_lost(&mut self, path: &RelPath, here: &Here) -> bool {
        let row = self.row(path).map(|row| Row { here: Some(here.clone()), ..row });
        let Ok(decision) = row.and_then(|row| self.decision(path, &row)) else { return true };
        matches!(
            decision,
            Decision::Place { keep: Keep::Copy(_) } | Decision::MakeDir { keep: Keep::Copy(_), .. }
        )
    }

    fn history(
        &self,
        path: &RelPath,
        content: &Hash,
        why: Why,
        by: Option<&SignedRecord>,
    ) -> HistoryName {
        let time = u64::try_from(self.now.wall / 1_000_000).unwrap_or(0);
        let name = HistoryName::new(path, time, content.head(), why);
        match by {
            Some(by) => name.by(by.record.dot.replica.0),
            None => name,
        }
    }

    pub(super) fn apply_place(&mut self, path: RelPath, pending: Pending, source: Source) {
        let Pending { record, here, copy } = pending;
        let room = self.room(&path, here.as_ref(), copy.as_ref(), Some(&record));
        let swap = self.group.draw_swap();
        let kind = if room.is_some() { AppliedKind::Updated } else { AppliedKind::Created };
        let intent = if room.is_some() { IntentKind::Replace } else { IntentKind::Create };
        let content = record.record.body.content();
        let from = match source {
            Source::Bytes(bytes) => StagedFrom::Bytes(bytes),
            Source::Partial(content) => StagedFrom::Partial(content),
            Source::Link(target) => StagedFrom::Link(target),
        };
        let (mode, mtime) = (record.record.mode, record.record.mtime);
        let change = Change { path, what: What::Place { swap, from, mode, mtime, room } };
        self.group.push(change, Some((intent, content)), swap, Then::Placed { record, kind, copy });
    }

    pub(super) fn apply_make_dir(
        &mut self,
        path: &RelPath,
        row: &Row,
        mode: u32,
        record: Option<SignedRecord>,
        copy: Option<(RelPath, SignedRecord)>,
    ) {
        let room = self.room(path, row.here.as_ref(), copy.as_ref(), record.as_ref());
        let swap = self.group.draw_swap();
        let kind = if room.is_some() { IntentKind::Replace } else { IntentKind::Create };
        let is_new = room.is_none();
        let what = What::MakeDir { swap, mode, room };
        let change = Change { path: path.clone(), what };
        let then = Then::Dir { record, copy };
        let intent = (kind, Hash::default());
        if is_new {
            self.group.push_new_dir(change, intent, then, self.now.ms);
        } else {
            self.group.push(change, Some(intent), swap, then);
        }
    }

    pub(super) fn apply_meta(&mut self, path: &RelPath, row: &Row, record: &SignedRecord) {
        let Some(here) = &row.here else { return };
        let mtime = (record.record.body != Body::Dir).then_some(record.record.mtime);
        let what = What::Meta {
            expected: Expected { stat: here.stat, content: here.content },
            mode: record.record.mode,
            mtime,
        };
        let change = Change { path: path.clone(), what };
        let swap = self.group.draw_swap();
        let intent = Some((IntentKind::Meta, record.record.body.content()));
        self.group.push(change, intent, swap, Then::Meta { record: Some(record.clone()) });
    }

    pub(super) fn apply_implied_mode(&mut self, path: &RelPath, row: &Row, mode: u32) {
        let Some(here) = &row.here else { return };
        let expected = Expected { stat: here.stat, content: None };
        let what = What::Meta { expected, mode, mtime: None };
        let change = Change { path: path.clone(), what };
        let swap = self.group.draw_swap();
        let intent = Some((IntentKind::Meta, Hash::default()));
        self.group.push(change, intent, swap, Then::Meta { record: None });
    }

    /// When a group is to go to the disk, if nothing else happens.
    pub(super) fn next_apply(&self) -> u64 {
        let waits = self.group.under_way.is_some() || self.stopping;
        if waits { u64::MAX } else { self.group.dirs.next_wake() }
    }

    /// Sends the next group to the disk, if none is under way.
    pub(super) fn apply_on(&mut self) -> Result<(), EngineError> {
        if self.group.under_way.is_some() || self.stopping {
            return Ok(());
        }
        // Nothing comes that they could wait for, or there is no room to wait.
        let rest = self.group.items.is_empty() && self.fetch.is_quiet() && !self.learn.has_work();
        let due = self.group.dirs.take_due(self.now.ms, rest || self.group.is_full());
        self.group.items.extend(due);
        let is_complete = |dir: &RelPath, within: usize| {
            within >= self.options.max_group || !self.fetch.wants_in(dir)
        };
        let complete = self.group.dirs.take_complete(is_complete);
        self.group.items.extend(complete);
        if self.group.items.is_empty() {
            self.take_deletes()?;
        }
        if self.group.items.is_empty() {
            return Ok(());
        }
        let most = self.group.items.len().min(self.options.max_group);
        let items: Vec<_> = self.group.items.drain(..most).collect();
        self.group.held -= items.iter().map(|item| held_by(&item.change)).sum::<usize>();
        let intents: Vec<_> = items.iter().filter_map(|item| item.intent.clone()).collect();
        if !intents.is_empty() {
            self.index.put_intents(&intents)?;
            self.uncommitted = true;
            self.commit()?;
        }
        let mut changes = Vec::with_capacity(items.len());
        let mut under_way = HashMap::with_capacity(items.len());
        for item in items {
            under_way.insert(item.change.path.clone(), item.then);
            changes.push(item.change);
        }
        self.group.under_way = Some(under_way);
        self.effects.push(Effect::Job(Job::Apply { changes }));
        Ok(())
    }

    /// True if there are deletions, and nothing that must come before them.
    pub(super) fn can_delete(&self) -> bool {
        !self.brake.cleared.is_empty() && self.may_delete()
    }

    /// True if nothing goes on that must come before deletions.
    pub(super) fn may_delete(&self) -> bool {
        self.group.is_quiet()
            && !self.learn.has_work()
            && self.fetch.is_quiet()
            && !self.is_comparing()
    }

    /// Deletions come after everything that might still use what they delete (rules E15 and E19), deepest
    /// first.
    fn take_deletes(&mut self) -> Result<(), EngineError> {
        if !self.can_delete() {
            return Ok(());
        }
        for _ in 0..self.options.max_group {
            let Some(path) = self.brake.cleared.pop_last() else { break };
            let row = self.row(&path)?;
            let Some(here) = row.here.as_ref() else { continue };
            match self.decision(&path, &row)? {
                Decision::Remove => {
                    let swap = self.group.draw_swap();
                    let content = body_here(here).content();
                    let siblings = Self::siblings(&row)?;
                    let by = siblings.winner();
                    let history = self.history(&path, &content, Why::Deleted, by);
                    let what = What::Remove { swap, expected: expected(here), history };
                    let change = Change { path, what };
                    let intent = Some((IntentKind::Delete, Hash::default()));
                    self.group.push(change, intent, swap, Then::Removed);
                }
                Decision::RemoveDir => {
                    let change = Change { path, what: What::RemoveDir };
                    self.group.push(change, None, 0, Then::DirRemoved);
                }
                _ => self.learn.reconcile(path),
            }
        }
        Ok(())
    }

    /// A group is on the disk, durably: the index follows, after the next group was sent to the disk if this one is
    /// large.
    pub(super) fn applied(&mut self, results: Vec<Changed>) -> Result<(), EngineError> {
        self.note_all()?;
        let then = self.group.under_way.take().unwrap_or_default();
        self.scan.group_ended();
        if results.iter().any(|it| it.result.as_ref().is_ok_and(|done| done.out.is_some())) {
            self.history_has_news();
        }
        let small = results.len() <= self.options.noted_at_once;
        self.group.finished = Finished { then, results: results.into_iter() };
        if small || self.stopping { self.note_all() } else { Ok(()) }
    }

    /// Notes what is on the disk and not in the index, all of it.
    pub(super) fn note_all(&mut self) -> Result<(), EngineError> {
        while self.group.has_to_note() {
            self.note_some()?;
        }
        Ok(())
    }

    /// Notes some of what is on the disk and not in the index.
    pub(super) fn note_some(&mut self) -> Result<(), EngineError> {
        for _ in 0..self.options.noted_at_once {
            let Some(Changed { path, result }) = self.group.finished.results.next() else { break };
            let Some(then) = self.group.finished.then.remove(&path) else { continue };
            self.group.is_over(&path, &then);
            let has_news = self.group.news.remove(&path);
            self.scan.was_applied(&path, self.now.ms);
            if let Some(copy) = then.copy() {
                self.group.news.remove(copy);
                self.scan.was_applied(copy, self.now.ms);
                self.learn.reconcile(copy.clone());
            }
            self.index.clear_intent(&path)?;
            self.uncommitted = true;
            match result {
                Ok(done) => {
                    if let Some(place) = done.out
                        && let Some(here) = self.row(&path)?.here
                    {
                        let from = self.peer_name(self.learn.origin_of(&path));
                        self.swapped_out(&path, place, (here.stat, here.content), from);
                    }
                    self.note_applied(&path, then, done.stat, done.copy)?;
                }
                Err(error) => {
                    self.not_done(&path, &error)?;
                    if has_news {
                        // What could not be done may not be what is to be done any more.
                        self.learn.reconcile(path);
                    }
                }
            }
        }
        Ok(())
    }

    fn note_applied(
        &mut self,
        path: &RelPath,
        then: Then,
        stat: Option<tree::Stat>,
        copy_stat: Option<tree::Stat>,
    ) -> Result<(), EngineError> {
        let from = self.peer_name(self.learn.origin_of(path));
        let mut row = self.row(path)?;
        let mut copied = None;
        let kind = match (then, stat) {
            (Then::Placed { record, kind, copy }, Some(stat)) => {
                let mut here = fresh_here(stat);
                match &record.record.body {
                    Body::File { content, .. } => here.content = Some(*content),
                    Body::Symlink { target } => here.target = Some(target.clone()),
                    Body::Dir | Body::Tombstone { .. } => {}
                }
                here.base = record.record.version.clone();
                here.shown = record.hash.head();
                here.content_dot = Some(record.record.content_dot);
                here.racy = is_racy(&stat, self.now.wall);
                self.scan.looks_as(path, (!here.racy).then_some(stat));
                row.here = Some(here);
                self.fetch.unplaced.remove(&record.record.body.content());
                self.has_contents_again();
                copied = copy;
                kind
            }
            (Then::Dir { record, copy }, Some(stat)) => {
                let mut here = fresh_here(stat);
                match record {
                    Some(record) => {
                        here.base = record.record.version.clone();
                        here.shown = record.hash.head();
                        here.content_dot = Some(record.record.content_dot);
                    }
                    None => here.implied = true,
                }
                row.here = Some(here);
                copied = copy;
                self.made_dir(path);
                self.learn.dir_was_made(path);
                AppliedKind::Created
            }
            (Then::Meta { record }, Some(stat)) => {
                if let Some(here) = &mut row.here {
                    here.stat = stat;
                    here.implied = record.is_none();
                    if let Some(record) = record {
                        here.base.join(&record.record.version);
                        here.shown = record.hash.head();
                        here.content_dot = Some(record.record.content_dot);
                    }
                }
                AppliedKind::Metadata
            }
            (Then::Removed | Then::DirRemoved, _) => {
                row.here = None;
                self.learn.twins_may_come(path);
                self.learn.dir_changed();
                if let Some(parent) = path.parent().filter(|parent| !parent.is_root()) {
                    // A directory that only waited to be empty, or was there for this path's sake.
                    self.learn.reconcile(parent);
                }
                AppliedKind::Deleted
            }
            (_, None) => {
                // Gone again already: it is looked at and decided again.
                self.hints(vec![path.clone()]);
                self.learn.block_for_race(path, self.now.ms);
                self.not_applied(path);
                return Ok(());
            }
        };
        // The copy first: the index keeps a chunk list as long as something here has the content.
        if let (Some((copy, loser)), Some(stat)) = (copied, copy_stat) {
            let meta = (loser.record.mode, loser.record.mtime);
            self.made_here(&copy, stat, loser.record.body, meta)?;
            let from = from.clone();
            self.after_commit.push(Event::Conflict { path: path.clone(), copy, from });
        }
        Self::local_is_over(&mut row)?;
        self.put(path, &row)?;
        self.mended_of(path, Trouble::Apply);
        self.learn.wake(path);
        self.after_commit.push(Event::Applied { path: path.clone(), kind, from });
        // Something may have been learned about it meanwhile.
        self.reconcile_unless_settled(path, &row)
    }

    /// A change could not be made: the disk is looked at again, and it is tried again later.
    fn not_done(&mut self, path: &RelPath, error: &ApplyError) -> Result<(), EngineError> {
        self.not_applied(path);
        if matches!(error, ApplyError::Vanished { .. })
            && let Some(parent) = path.parent().filter(|parent| self.learn.is_blocked(parent))
        {
            // It was to be made by the same group, and could not be.
            self.learn.stick_to(&parent, path);
            self.tell_stuck_at(path);
            return Ok(());
        }
        match error {
            ApplyError::Io { source, .. } if source.kind() == ErrorKind::DirectoryNotEmpty => {
                // Rule E9: what is ignored or could not travel stays, and its directory with it.
                self.learn.block_until_changed(path);
                self.skip(
                    path.to_string(),
                    Trouble::Stays,
                    "was deleted elsewhere, but still holds files that stay on this device; move them away or delete them",
                );
            }
            ApplyError::Changed { .. }
            | ApplyError::Occupied { .. }
            | ApplyError::Vanished { .. } => {
                self.hints(vec![path.clone()]);
                if let Some(parent) = path.parent().filter(|parent| !parent.is_root()) {
                    self.hints(vec![parent]);
                }
                if !self.learn.block_for_race(path, self.now.ms) {
                    self.skip_with_below(path, remedy(error))?;
                }
            }
            ApplyError::Twin { twin, .. } => {
                self.learn.block_for_twin(path);
                let reason = format!(
                    "this disk takes its name for that of {twin:?}, which is here, so that it cannot be here too; \
                     rename one of them where both are, and both come"
                );
                self.skip_with_below(path, reason)?;
            }
            ApplyError::NoSpace { .. } => {
                self.learn.block(path, self.now.ms);
                let bytes = self.size_to_come(path);
                self.space_lacks(path, bytes);
            }
            other => {
                self.learn.block(path, self.now.ms);
                self.skip_with_below(path, remedy(other))?;
            }
        }
        Ok(())
    }
}
