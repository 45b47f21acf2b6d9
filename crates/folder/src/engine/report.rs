//! What is not in step, and why: each path is told of once for each reason, and once when it is mended.

use std::{collections::BTreeMap, io, ops::Bound};

use tree::apply::ApplyError;
use wire::RelPath;

use super::{Authority, Effect, Engine, Event};
use crate::{
    index::Index,
    jobs::{DISK_FULL, why},
};

/// Most paths remembered as reported.
const MAX_REPORTED: usize = 100_000;
/// What could not be read is tried again after this long, then twice that, and so on, in milliseconds.
const AGAIN_MS: u64 = 2_000;
/// The longest such wait, in milliseconds.
const AGAIN_MAX_MS: u64 = 5 * 60 * 1000;

/// What kind of trouble a path has: that says when it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// It is something that cannot travel: until its directory shows something else there.
    Kind,
    /// It cannot be read: until it can be, or is gone.
    Read,
    /// It is a directory that cannot be listed: until it can be, or is gone.
    List,
    /// What is known of it cannot be brought here or put in place: until it is.
    Apply,
    /// It is a directory that was deleted elsewhere, and stays for what is ignored in it: as [`Self::Apply`], but
    /// nothing is missing.
    Stays,
}

impl Trouble {
    /// True for what an apply mends.
    fn is_of_apply(self) -> bool {
        matches!(self, Self::Apply | Self::Stays)
    }
}

/// One path that is not in step.
#[derive(Debug)]
struct Report {
    trouble: Trouble,
    reason: String,
    /// The last listing that showed it so.
    listing: u64,
    /// When it is tried again, and after how long a wait, in milliseconds.
    again: (u64, u64),
}

/// All paths that are not in step, as they were told, escaped where they are not UTF-8.
#[derive(Debug, Default)]
pub(super) struct Reports {
    told: BTreeMap<String, Report>,
    listing: u64,
}

impl Reports {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.told.len() as u64
    }

    /// How many of them are known and not in place.
    pub(super) fn not_applied(&self) -> u64 {
        self.told.values().filter(|report| report.trouble == Trouble::Apply).count() as u64
    }

    /// True if more can be remembered.
    pub(super) fn has_room(&self) -> bool {
        self.told.len() < MAX_REPORTED
    }

    /// Why a path is not in step, if it is not.
    pub(super) fn reason(&self, path: &str) -> Option<&str> {
        self.told.get(path).map(|report| report.reason.as_str())
    }

    /// A directory is about to be gone through.
    pub(super) fn begin_listing(&mut self) {
        self.listing += 1;
    }

    /// This listing says nothing of a path that is there: what was told of it stands.
    pub(super) fn not_looked_at(&mut self, path: &str) {
        if let Some(told) = self.told.get_mut(path) {
            told.listing = self.listing;
        }
    }

    /// When something is to be tried again.
    pub(super) fn next_wake(&self) -> u64 {
        self.told.values().map(|report| report.again.0).min().unwrap_or(u64::MAX)
    }

    /// True if what is at a path could not be read.
    pub(super) fn is_unread(&self, path: &str) -> bool {
        self.told.get(path).is_some_and(|report| report.trouble == Trouble::Read)
    }

    /// What could not be read, directories among it.
    pub(super) fn unread(&self) -> impl Iterator<Item = RelPath> {
        let unread = |report: &Report| matches!(report.trouble, Trouble::Read | Trouble::List);
        let told = self.told.iter().filter(move |(_, report)| unread(report));
        told.filter_map(|(path, _)| path_of(path))
    }

    /// Remembers; false if that was told before.
    fn note(&mut self, path: &str, trouble: Trouble, reason: &str, now: u64) -> bool {
        let listing = self.listing;
        if trouble.is_of_apply()
            && self.told.get(path).is_some_and(|told| told.trouble == Trouble::Kind)
        {
            // What is in the way is told of already.
            return false;
        }
        let wait = self.told.get(path).filter(|told| told.trouble == trouble);
        let wait = wait.map_or(AGAIN_MS, |told| (told.again.1 * 2).min(AGAIN_MAX_MS));
        let retried = matches!(trouble, Trouble::Read | Trouble::List);
        let again = (if retried { now + wait } else { u64::MAX }, wait);
        if let Some(told) = self.told.get_mut(path) {
            let news = told.reason != reason;
            *told = Report { trouble, reason: reason.to_owned(), listing, again };
            return news;
        }
        if self.has_room() {
            let report = Report { trouble, reason: reason.to_owned(), listing, again };
            self.told.insert(path.to_owned(), report);
        }
        true
    }

    /// Paths directly in a directory, or at any depth below it.
    fn below(&self, dir: &str, deep: bool) -> Vec<String> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let from = (Bound::Included(prefix.clone()), Bound::Unbounded);
        let below = self.told.range::<String, _>(from);
        let below = below.map(|(path, _)| path).take_while(|path| path.starts_with(&prefix));
        below.filter(|path| deep || !path[prefix.len()..].contains('/')).cloned().collect()
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// A path is not in step. True if that, or why, is news.
    pub(super) fn skip(
        &mut self,
        path: String,
        trouble: Trouble,
        reason: impl Into<String>,
    ) -> bool {
        let reason = reason.into();
        let is_news = self.reports.note(&path, trouble, &reason, self.now.ms);
        if is_news {
            self.effects.push(Effect::Event(Event::Skipped { path, reason }));
        }
        is_news
    }

    /// A path is in step again, or is no more, if it was not.
    pub(super) fn mended(&mut self, path: &str) {
        if self.reports.told.remove(path).is_some() {
            self.effects.push(Effect::Event(Event::Mended { path: path.to_owned() }));
        }
    }

    /// As [`Self::mended`], if it had this trouble.
    pub(super) fn mended_of(&mut self, path: &str, trouble: Trouble) {
        let is_such = |report: &Report| {
            report.trouble == trouble || trouble.is_of_apply() && report.trouble.is_of_apply()
        };
        if self.reports.told.get(path).is_some_and(is_such) {
            self.mended(path);
        }
    }

    /// A directory is gone: so is the trouble with what was below it, but not with what is to come there.
    pub(super) fn mended_below(&mut self, dir: &RelPath) {
        if !self.reports.told.is_empty() {
            for path in self.reports.below(dir.as_str(), true) {
                let told = self.reports.told.get(&path);
                if told.is_some_and(|told| !told.trouble.is_of_apply()) {
                    self.mended(&path);
                }
            }
        }
    }

    /// A directory was gone through: what it did not show any more is mended. `names`, sorted, are there.
    pub(super) fn end_listing(&mut self, dir: &RelPath, names: &[String]) {
        if self.reports.told.is_empty() {
            return;
        }
        self.mended_of(dir.as_str(), Trouble::List);
        for path in self.reports.below(dir.as_str(), false) {
            let Some(report) = self.reports.told.get(&path) else { continue };
            let name = path.rsplit('/').next().unwrap_or_default();
            let is_over = match report.trouble {
                Trouble::Kind => report.listing != self.reports.listing,
                Trouble::Read | Trouble::List => {
                    names.binary_search_by(|known| known.as_str().cmp(name)).is_err()
                }
                Trouble::Apply | Trouble::Stays => false,
            };
            if is_over {
                let was_in_the_way = report.trouble == Trouble::Kind;
                self.mended(&path);
                if let (true, Ok(path)) = (was_in_the_way, RelPath::parse(&path)) {
                    self.learn.reconcile(path);
                }
            }
        }
    }

    /// Tries again what could not be read.
    pub(super) fn read_again(&mut self) {
        let now = self.now.ms;
        if self.reports.next_wake() > now {
            return;
        }
        let mut due = Vec::new();
        for (path, report) in &mut self.reports.told {
            if report.again.0 <= now {
                report.again.0 = u64::MAX;
                due.push((path.clone(), report.trouble));
            }
        }
        for (path, trouble) in due {
            match path_of(&path) {
                Some(path) if trouble == Trouble::List => {
                    self.scan.to_list.insert(path);
                }
                Some(path) => self.hints(vec![path]),
                None => {}
            }
        }
    }
}

/// The path that was told of, unless it was escaped.
fn path_of(told: &str) -> Option<RelPath> {
    if told.is_empty() { Some(RelPath::root()) } else { RelPath::parse(told).ok() }
}

/// Why a change could not be made, and what to do about it.
pub(super) fn remedy(error: &ApplyError) -> String {
    match error {
        ApplyError::NoSpace { .. } => DISK_FULL.to_owned(),
        ApplyError::ReadOnly { .. } => {
            "the disk is read-only; make it writable and it goes on by itself".to_owned()
        }
        ApplyError::TooManyOpen { .. } => {
            "too many files are open; raise the limit (ulimit -n), it is tried again".to_owned()
        }
        ApplyError::Io { source, .. } => why(source),
        other => format!("{other}; it is tried again"),
    }
}

/// Why a path could not be looked at, and what comes of it.
pub(super) fn cannot_look(error: &io::Error) -> String {
    format!("cannot be looked at ({}); it waits, and is tried again", why(error))
}
