//! What the disk says: listing directories, hashing what changed, and writing it down as this device's
//! changes (rules E3, E5, E8, E9 and E23).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    io,
};

use tree::{FileKind, Listing, Stat};
use wire::{RelPath, record::Body};

use super::{
    Authority, Effect, Engine, EngineError, PathSet, QUIET_MS, RESCAN_MS,
    power::Doubt,
    report::{Trouble, cannot_look},
};
use crate::{
    index::{Index, Intent, Row},
    jobs::{Job, why},
};

mod hinted;
mod reading;

use hinted::Hinted;

/// Paths looked at by one job.
const STATS_AT_ONCE: usize = 1024;
/// Directories listed at once.
const LISTS_AT_ONCE: usize = 16;
/// A deletion leaves after this long, unless the path comes back (rule E23), in milliseconds.
pub(super) const VANISHED_MS: u64 = 200;
/// A path that is being applied is looked at again after this long, in milliseconds.
const BUSY_MS: u64 = 20;

/// Progress of looking at the disk.
#[derive(Debug)]
pub(super) struct Scan {
    /// True once the first full scan of this index is over, in this run or an earlier one.
    pub(super) first_done: bool,
    /// A full scan goes on: known directories are listed too.
    pub(super) full: bool,
    first_just_ended: bool,
    pub(super) started: bool,
    pub(super) recovering: bool,
    next_full: u64,
    pub(super) to_list: BTreeSet<RelPath>,
    /// Being listed, each since which group of applies.
    listing: HashMap<RelPath, u64>,
    to_stat: Hinted,
    stating: usize,
    to_hash: VecDeque<(RelPath, Stat)>,
    /// Being read: when that was asked for, in nanoseconds since 1970, and since which group of applies.
    hashing: HashMap<RelPath, (i64, u64)>,
    /// Groups of applies that have ended in this run.
    groups: u64,
    /// Paths that were applied while something was being looked at, each with its group: what was seen of
    /// them before is not news. With the stat of what was put there, if that tells it from everything else.
    applied: HashMap<RelPath, (u64, Option<Stat>)>,
    hash_jobs: usize,
    /// Directories made by an apply, to be listed once applies are over (rule E16).
    made: BTreeSet<RelPath>,
    pub(super) vanished: BTreeMap<RelPath, u64>,
    pub(super) unstable: BTreeMap<RelPath, (u64, u64)>,
    /// Paths whose apply was cut short by a stop: absence there is not a deletion (rule E12).
    pub(super) open_intents: HashMap<RelPath, Intent>,
    /// True if they were written down on another disk, or long ago: nothing was cut short in this tree.
    pub(super) is_copied: bool,
    /// What a loss of power may have changed.
    pub(super) doubt: Doubt,
    /// Those of them that the apply has emptied for all that is known.
    pub(super) emptied: PathSet,
}

impl Scan {
    pub(super) fn new(first_done: bool, intents: Vec<Intent>) -> Self {
        Self {
            first_done,
            full: false,
            first_just_ended: false,
            started: false,
            recovering: false,
            next_full: u64::MAX,
            to_list: BTreeSet::new(),
            listing: HashMap::new(),
            to_stat: Hinted::default(),
            stating: 0,
            to_hash: VecDeque::new(),
            hashing: HashMap::new(),
            groups: 0,
            applied: HashMap::new(),
            hash_jobs: 0,
            made: BTreeSet::new(),
            vanished: BTreeMap::new(),
            unstable: BTreeMap::new(),
            open_intents: intents.into_iter().map(|it| (it.path.clone(), it)).collect(),
            is_copied: false,
            doubt: Doubt::default(),
            emptied: PathSet::new(),
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.is_idle()
            && !self.full
            && self.to_stat.is_empty()
            && self.made.is_empty()
            && self.vanished.is_empty()
            && self.unstable.is_empty()
    }

    /// True if nothing is being looked at, whatever is to be looked at later.
    pub(super) fn is_idle(&self) -> bool {
        self.started
            && !self.recovering
            && self.to_list.is_empty()
            && self.listing.is_empty()
            && self.stating == 0
            && self.to_hash.is_empty()
            && self.hashing.is_empty()
    }

    pub(super) fn first_scan_ended(&mut self) -> bool {
        std::mem::take(&mut self.first_just_ended)
    }

    /// Paths at which something is that could not be looked at yet.
    pub(super) fn unseen(&self) -> impl Iterator<Item = RelPath> {
        self.unstable.keys().chain(self.to_stat.paths()).cloned()
    }

    /// When something is due; what is due already waits for a job that is under way.
    pub(super) fn next_wake(&self, now: u64) -> u64 {
        if !self.started || self.recovering {
            // What is due is looked at once that is over.
            return u64::MAX;
        }
        let unstable = self.unstable.values().map(|entry| &entry.0);
        let waiting = self.vanished.values().chain(unstable).filter(|at| **at > now);
        let next = waiting.copied().min().unwrap_or(u64::MAX);
        next.min(self.to_stat.next()).min(self.next_full)
    }

    /// True while contents are read that are new or changed.
    pub(super) fn is_reading(&self) -> bool {
        self.hash_jobs > 0
    }

    /// A group of applies has ended.
    pub(super) fn group_ended(&mut self) {
        self.groups += 1;
        if self.listing.is_empty() && self.stating == 0 && self.hashing.is_empty() {
            self.applied.clear();
        }
    }

    /// A path of the group that ended just now was changed. Whether somebody else changed it as well is looked at
    /// without further delay.
    pub(super) fn was_applied(&mut self, path: &RelPath, now: u64) {
        self.applied.insert(path.clone(), (self.groups, None));
        self.to_stat.hasten(path, now);
    }

    /// True if what was seen of a path by a job of that time is older than an apply.
    fn is_stale(&self, path: &RelPath, since: u64) -> bool {
        self.applied.get(path).is_some_and(|(group, _)| *group > since)
    }

    /// A path was applied, and looks like this since.
    pub(super) fn looks_as(&mut self, path: &RelPath, stat: Option<Stat>) {
        if let Some(applied) = self.applied.get_mut(path) {
            applied.1 = stat;
        }
    }

    /// True if what is seen at a path is what was just put there: that is asked of each file that is applied.
    fn is_as_applied(&self, path: &RelPath, stat: &Stat) -> bool {
        self.applied.get(path).is_some_and(|(_, applied)| applied.as_ref() == Some(stat))
            && !self.vanished.contains_key(path)
            && !self.unstable.contains_key(path)
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    pub(super) fn rescan(&mut self) {
        if self.scan.started && !self.scan.recovering {
            self.scan.full = true;
            self.scan.next_full = self.now.ms + RESCAN_MS;
            self.scan.to_list.insert(RelPath::root());
        }
    }

    pub(super) fn hints(&mut self, paths: Vec<RelPath>) {
        let deadline = self.now.ms + QUIET_MS;
        for path in paths {
            if !path.is_root() && !path.is_reserved() {
                // Not later for what keeps changing: hashing backs off from that (rule E23).
                self.scan.to_stat.add(path, deadline);
            }
        }
    }

    /// A directory was made by an apply: watch it at once, and see later what else came into it.
    pub(super) fn made_dir(&mut self, dir: &RelPath) {
        self.effects.push(Effect::Watch(dir.clone()));
        self.scan.made.insert(dir.clone());
    }

    /// True if directories made by applies are to be listed now.
    pub(super) fn can_list_made(&self) -> bool {
        !self.scan.recovering
            && !self.scan.made.is_empty()
            && self.group.is_quiet()
            && self.fetch.is_quiet()
    }

    /// Starts what is due.
    pub(super) fn scan_on(&mut self) -> Result<(), EngineError> {
        if !self.scan.started || self.scan.recovering {
            return Ok(());
        }
        if self.now.ms >= self.scan.next_full && !self.scan.full {
            self.rescan();
            self.learn.unblock_all();
        }
        self.stat_on();
        if self.can_list_made() {
            self.scan.to_list.append(&mut self.scan.made);
        }
        let due = |deadline: &u64| *deadline <= self.now.ms;
        let again: Vec<_> = self
            .scan
            .unstable
            .iter()
            .filter(|(path, entry)| due(&entry.0) && !self.scan.hashing.contains_key(*path))
            .map(|(path, _)| path.clone())
            .collect();
        for path in again {
            if let Some(entry) = self.scan.unstable.get_mut(&path) {
                entry.0 = u64::MAX;
            }
            self.scan.to_stat.add(path, self.now.ms);
        }
        let gone: Vec<_> = self
            .scan
            .vanished
            .iter()
            .filter(|(_, at)| due(at))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            if self.row(&path)?.here.is_none() {
                // An apply has removed it meanwhile.
                self.scan.vanished.remove(&path);
                continue;
            }
            // Only a directory read after the wait proves that the path stayed away (rule E8).
            if let Some(dir) = path.parent()
                && !self.scan.listing.contains_key(&dir)
            {
                self.scan.to_list.insert(dir);
            }
        }
        while self.scan.listing.len() < LISTS_AT_ONCE {
            let next = self.scan.to_list.iter().find(|dir| !self.scan.listing.contains_key(*dir));
            let Some(dir) = next.cloned() else { break };
            self.scan.to_list.remove(&dir);
            self.scan.listing.insert(dir.clone(), self.scan.groups);
            self.effects.push(Effect::Watch(dir.clone()));
            self.effects.push(Effect::Job(Job::List { dir }));
        }
        self.hash_on();
        let scanned = self.scan.to_list.is_empty()
            && self.scan.listing.is_empty()
            && self.scan.to_hash.is_empty()
            && self.scan.hashing.is_empty()
            && self.scan.stating == 0;
        if self.scan.full && scanned {
            self.scan.full = false;
            self.scan.first_just_ended |= !std::mem::replace(&mut self.scan.first_done, true);
            self.scan.emptied.clear();
            self.was_looked_through();
            self.look_at_locals()?;
            for path in std::mem::take(&mut self.scan.open_intents).into_keys() {
                if !self.group.is_busy(&path) {
                    self.index.clear_intent(&path)?;
                    self.uncommitted = true;
                }
            }
        }
        Ok(())
    }

    fn stat_on(&mut self) {
        let now = self.now.ms;
        // What is seen now of a path that is being changed would be no news, and would have to be looked at again.
        let busy = |path: &RelPath| self.group.is_busy(path);
        let due = self.scan.to_stat.take_due(now, STATS_AT_ONCE, busy, now + BUSY_MS);
        if !due.is_empty() {
            self.scan.stating += 1;
            let since = self.scan.groups;
            self.effects.push(Effect::Job(Job::Stat { paths: due, since }));
        }
    }

    pub(super) fn stated(
        &mut self,
        items: Vec<(RelPath, io::Result<Option<Stat>>)>,
        since: u64,
    ) -> Result<(), EngineError> {
        if let [(path, _)] = items.as_slice()
            && path.is_root()
        {
            items.into_iter().for_each(|(_, seen)| self.root_seen(seen));
            return Ok(());
        }
        self.scan.stating -= 1;
        for (path, result) in items {
            // Below a link there is nothing, as below a file.
            let result = match result {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
                other => other,
            };
            match result {
                Ok(Some(stat))
                    if !self.reports.is_unread(path.as_str())
                        && self.scan.is_as_applied(&path, &stat) =>
                {
                    self.seen_again(&path, false);
                }
                Ok(Some(stat)) => {
                    let row = self.row(&path)?;
                    self.saw(path, stat, row, (false, since))?;
                }
                // Whether it is deleted, its directory says (rule E8).
                Ok(None) => {
                    self.scan.unstable.remove(&path);
                    if self.index.row(&path)?.is_none_or(|row| row.here.is_none()) {
                        // Something that stayed here and kept its directory, perhaps (rule E9).
                        self.parent_may_go(&path)?;
                        if self.options.folds_names
                            && let Some(dir) = path.parent()
                        {
                            // It may have been seen under a name that its twin has.
                            self.scan.to_list.insert(dir);
                        }
                    } else if let Some(dir) = path.parent() {
                        self.scan.to_list.insert(dir);
                    }
                }
                Err(error) => {
                    self.scan.unstable.remove(&path);
                    let reason = cannot_look(&error);
                    self.skip(path.to_string(), Trouble::Read, reason);
                }
            }
        }
        Ok(())
    }

    pub(super) fn listed(
        &mut self,
        dir: &RelPath,
        result: io::Result<Listing>,
    ) -> Result<(), EngineError> {
        let since = self.scan.listing.remove(dir).unwrap_or(self.scan.groups);
        let listing = match result {
            Ok(listing) => listing,
            Err(error) => {
                match (error.kind(), dir.parent()) {
                    (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, Some(parent)) => {
                        self.lost_dir(dir)?;
                        self.scan.to_list.insert(parent);
                    }
                    // Rule E8: what cannot be read is frozen, not deleted.
                    _ => {
                        self.scan.vanished.retain(|path, _| !dir.contains(path));
                        self.skip(
                            dir.to_string(),
                            Trouble::List,
                            format!(
                                "the directory cannot be read ({}); everything below it waits",
                                why(&error)
                            ),
                        );
                    }
                }
                return Ok(());
            }
        };
        self.reports.begin_listing();
        for name in &listing.odd_names {
            let place = if dir.is_root() { name.clone() } else { format!("{dir}/{name}") };
            let reason = "its name is not valid UTF-8; rename it to have it travel";
            self.skip(place, Trouble::Kind, reason);
        }
        let mut unreadable = HashSet::new();
        for (name, _, error) in &listing.unreadable {
            unreadable.insert(name.as_str());
            let place = if dir.is_root() { name.clone() } else { format!("{dir}/{name}") };
            let reason = format!("cannot be looked at: {error}; it waits, and is tried again");
            self.skip(place, Trouble::Kind, reason);
        }
        let mut rows = self.index.children(dir)?.into_iter().peekable();
        let names: Vec<_> = listing.entries.iter().map(|entry| entry.name.clone()).collect();
        let mut absent = Vec::new();
        for entry in listing.entries {
            while let Some((name, row)) = rows.next_if(|(name, _)| *name < entry.name) {
                absent.push((name, row));
            }
            let row = rows.next_if(|(name, _)| *name == entry.name).map(|(_, row)| row);
            match dir.join(&entry.name) {
                Ok(path) => self.saw(path, entry.stat, row.unwrap_or_default(), (true, since))?,
                Err(error) => {
                    let place = format!("{dir}/{}", entry.name);
                    let reason = format!("its path {error}; rename it to have it travel");
                    self.skip(place, Trouble::Kind, reason);
                }
            }
        }
        self.end_listing(dir, &names);
        if self.scan.full {
            self.want_below(dir)?;
        }
        absent.extend(rows);
        for (name, row) in absent {
            if row.here.is_some() && !unreadable.contains(name.as_str()) {
                let Ok(path) = dir.join(&name) else { continue };
                self.missing(path, row)?;
            } else if row.here.is_none()
                && let Ok(path) = dir.join(&name)
            {
                let winner =
                    Self::siblings(&row)?.winner().map(|winner| winner.record.body.clone());
                let live = winner.as_ref().is_some_and(Body::is_live);
                if live || self.has_live_children(&path)? {
                    // Known, and not here yet: a stop came between.
                    self.learn.reconcile_unless_blocked(path.clone());
                }
                if !live || winner == Some(Body::Dir) {
                    // What was held below it in the run before, if it is a directory that cannot be here.
                    self.lost_dir(&path)?;
                }
            }
        }
        Ok(())
    }

    /// A directory is not there: what vanished below it goes when it does, or now if it has gone.
    fn lost_dir(&mut self, dir: &RelPath) -> Result<(), EngineError> {
        let here = self.row(dir)?.here.is_some_and(|here| here.stat.kind == FileKind::Dir);
        if !here && !self.lost_dir_in_doubt(dir)? {
            // What an apply put there just before the directory went.
            for (name, child) in self.index.children(dir)? {
                if let Ok(path) = dir.join(&name) {
                    self.gone(&path, child)?;
                }
            }
        }
        let below: Vec<_> =
            self.scan.vanished.keys().filter(|path| dir.contains(path)).cloned().collect();
        for path in below {
            if self.brake.holds(&path) {
                self.scan.vanished.remove(&path);
            } else if here {
                self.scan.vanished.insert(path, self.now.ms + 2 * VANISHED_MS);
            } else {
                let row = self.row(&path)?;
                self.gone(&path, row)?;
            }
        }
        Ok(())
    }

    /// Something is at a path.
    fn saw(
        &mut self,
        path: RelPath,
        stat: Stat,
        row: Row,
        (listed, since): (bool, u64),
    ) -> Result<(), EngineError> {
        self.seen_again(&path, listed);
        if path.is_reserved() {
            return Ok(());
        }
        if self.scan.vanished.remove(&path).is_some() {
            // It is back: whatever was to be done about it is still to be done.
            self.learn.reconcile_unless_blocked(path.clone());
        }
        if self.group.is_busy(&path) || self.scan.is_stale(&path, since) {
            self.reports.not_looked_at(&path);
            if listed && stat.kind == FileKind::Dir {
                // Looked at again by itself, it would not be listed and watched.
                self.scan.to_list.insert(path.clone());
            }
            self.scan.to_stat.add(path, self.now.ms + BUSY_MS);
            return Ok(());
        }
        if self.options.ignore.is_ignored(&path, stat.kind == FileKind::Dir) {
            // Rule E11: known, but not here; never a deletion.
            self.mended(&path);
            self.scan.unstable.remove(&path);
            if row.here.is_some() {
                self.forget_below(&path)?;
                self.put(&path, &Row { here: None, ..row })?;
            }
            return Ok(());
        }
        match stat.kind {
            FileKind::Special => self.blocked_by(
                &path,
                row,
                "is a FIFO, socket or device; such files stay on this device",
            ),
            FileKind::MountPoint => {
                self.blocked_by(&path, row, "another file system is mounted there; it is not entered, sync it as a folder of its own")
            }
            FileKind::Dir => {
                self.scan.unstable.remove(&path);
                self.saw_dir(path, stat, row, listed)
            }
            FileKind::File | FileKind::Symlink => {
                let same = row.here.as_ref().is_some_and(|here| here.stat == stat && !here.racy);
                let watched =
                    self.scan.unstable.get(&path).is_some_and(|entry| entry.0 == u64::MAX);
                // What could not be read is read once more.
                if same && !watched && !self.reports.is_unread(path.as_str()) {
                    // Something below may have been learned, and a stop come before it was made a directory.
                    if listed
                        && self.scan.full
                        && (!Self::shows_winner(&row)? || self.has_live_children(&path)?)
                    {
                        self.learn.reconcile_unless_blocked(path);
                    }
                    return Ok(());
                }
                self.scan.to_hash.push_back((path, stat));
                Ok(())
            }
        }
    }
}
