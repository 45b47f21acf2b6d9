//! Keeping history within its limits (rule E17): when it is looked through, and what waits for space.

use std::collections::BTreeSet;

use wire::{RelPath, record::Body};

use super::{Authority, Effect, Engine, EngineError, Now};
use crate::{
    history::{Moment, Tidied},
    index::Index,
    jobs::{DISK_FULL, Job},
};

/// History is looked through this often, in milliseconds.
const EVERY_MS: u64 = 3600 * 1000;
/// After a look that freed nothing, the next one for want of space waits this long, in milliseconds.
const PAUSE_MS: u64 = 5_000;
/// Made free beyond what lacks, in bytes: names, and file systems' own needs.
const MARGIN: u64 = 1 << 20;
/// The wall clock may differ from the steady one by this much between two looks, in milliseconds, before it
/// counts as having been set. A machine that slept looks the same, and costs one look.
const CLOCK_SLACK_MS: u64 = 3600 * 1000;

/// Over starts, a look at which nothing goes by age because of the last one: sooner than this after it, in milliseconds.
/// Else a clock that is wrong for a minute would empty the history of a folder that is started again and again.
const SOONEST_MS: u64 = 50 * 60 * 1000;
/// And later than this: the device was away, or its clock is wrong.
const LATEST_MS: u64 = 8 * 24 * 3600 * 1000;
/// When the last look was that let something go by age, or found the clock set, by the wall clock: 8 bytes.
const LAST_META: &str = "kept";

/// When history is looked through.
#[derive(Debug)]
pub(super) struct Keeping {
    /// When next, unless a look is under way.
    next: u64,
    under_way: bool,
    /// When the last look began.
    last: Option<Now>,
    /// Bytes that lack, and for which paths.
    lacking: u64,
    waiting: BTreeSet<RelPath>,
    /// What the look under way is for.
    served: BTreeSet<RelPath>,
    /// For want of space, not before.
    not_before: u64,
}

impl Default for Keeping {
    /// Not before what an interrupted run left in `.kin` is dealt with.
    fn default() -> Self {
        Self {
            next: u64::MAX,
            under_way: false,
            last: None,
            lacking: 0,
            waiting: BTreeSet::new(),
            served: BTreeSet::new(),
            not_before: 0,
        }
    }
}

impl Keeping {
    /// True unless something waits for room that may yet be made: it is neither applied nor skipped.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.served.is_empty()
    }

    pub(super) fn next_wake(&self) -> u64 {
        match (self.under_way, self.waiting.is_empty()) {
            (true, _) => u64::MAX,
            (false, true) => self.next,
            (false, false) => self.next.min(self.not_before),
        }
    }
}

fn millis(wall: i64) -> u64 {
    u64::try_from(wall / 1_000_000).unwrap_or(0)
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// From now on, history is looked through.
    pub(super) fn begin_to_keep_history(&mut self) {
        self.keeping.next = self.now.ms;
    }

    /// Has history looked through if it is time, or if space lacks.
    pub(super) fn keep_history(&mut self) -> Result<(), EngineError> {
        if self.stopping {
            self.keeping = Keeping::default();
            return Ok(());
        }
        if self.now.ms < self.keeping.next_wake() {
            return Ok(());
        }
        let now = millis(self.now.wall);
        let clock_was_set = self.keeping.last.is_some_and(|last| {
            let steady = self.now.ms.saturating_sub(last.ms);
            let expected = millis(last.wall).saturating_add(steady);
            now.abs_diff(expected) > CLOCK_SLACK_MS
        });
        let clock_was_set = !self.may_go_by_age(now)? || clock_was_set;
        let lacking = std::mem::take(&mut self.keeping.lacking);
        self.keeping.served = std::mem::take(&mut self.keeping.waiting);
        self.keeping.last = Some(self.now);
        self.keeping.next = self.now.ms + EVERY_MS;
        self.keeping.under_way = true;
        let moment = Moment { now, clock_was_set, total_space: 0, lacking };
        self.effects.push(Effect::Job(Job::TidyHistory { limits: self.options.history, moment }));
        Ok(())
    }

    /// True if the last look, of whatever run, was about as long ago as it should be.
    fn may_go_by_age(&mut self, now: u64) -> Result<bool, EngineError> {
        let last = self.index.meta(LAST_META)?;
        let last = last.and_then(|last| Some(u64::from_le_bytes(last[..].try_into().ok()?)));
        let since = last.and_then(|last| now.checked_sub(last));
        if since.is_some_and(|since| since < SOONEST_MS) {
            return Ok(false);
        }
        // Goes to disk with the next commit: this is no news for anybody.
        self.index.put_meta(LAST_META, &now.to_le_bytes())?;
        Ok(since.is_some_and(|since| since <= LATEST_MS))
    }

    /// An apply lacks space: old versions make room for it, or it waits with an error.
    pub(super) fn space_lacks(&mut self, path: &RelPath, bytes: u64) {
        self.keeping.lacking = self.keeping.lacking.max(bytes.saturating_add(MARGIN));
        self.keeping.waiting.insert(path.clone());
    }

    /// Bytes of what is to come to a path.
    pub(super) fn size_to_come(&mut self, path: &RelPath) -> u64 {
        let siblings = self.row(path).and_then(|row| Self::siblings(&row));
        match siblings.ok().and_then(|known| known.winner().map(|it| it.record.body.clone())) {
            Some(Body::File { size, .. }) => size,
            _ => 0,
        }
    }

    /// History was looked through.
    pub(super) fn history_tidied(&mut self, tidied: Tidied) -> Result<(), EngineError> {
        self.keeping.under_way = false;
        let served = std::mem::take(&mut self.keeping.served);
        if served.is_empty() {
            return Ok(());
        }
        if tidied.entries > 0 {
            self.keeping.not_before = self.now.ms;
            self.learn.unblock_all();
            return Ok(());
        }
        self.keeping.not_before = self.now.ms + PAUSE_MS;
        for path in served {
            // What came to rest meanwhile, because it was deleted again, say, lacks nothing any more.
            if self.learn.is_undecided(&path)
                || self.group.is_busy(&path)
                || self.fetch.wants_path(&path)
            {
                self.skip_with_below(&path, DISK_FULL)?;
            }
        }
        Ok(())
    }
}
