//! The brake (rule E19): deletions, found here or incoming, wait until all of them are known, are counted,
//! and are held if they are more than anybody should believe without asking a person. Everything else
//! goes on.
//!
//! A path that was found deleted stays in the index as it was, so that nothing is said about it and a stop
//! finds it again; one that a peer deleted stays in the tree. What is held is not in step, and is let go
//! by consent, by the files' return, or by an edit, which beats a deletion.

use std::{
    collections::{BTreeSet, HashMap},
    io::ErrorKind,
};

use tree::FileKind;
use wire::{Hash, RelPath};

use super::{Authority, Effect, Engine, EngineError, Event, Paths};
use crate::{
    brake::Window,
    decide::body_here,
    index::{Here, Index, Row},
    jobs::Job,
    siblings::Siblings,
};

/// Where the index keeps what was counted.
pub(super) const META: &str = "brake";
/// Many deletions are counted once no more have come for this long, in milliseconds.
const LULL_MS: u64 = 300;
/// But they are not waited for longer than this, in milliseconds.
const LULL_MAX_MS: u64 = 10_000;
/// Deletions are held for the end of a scan, unless they are few and it takes longer than this, in
/// milliseconds.
const SCAN_MS: u64 = 10_000;
/// What was last written less than this long before it went, in milliseconds, counts while it goes, and not
/// for the rest of the day: programs make and remove files all the time.
const SHORT_LIVED_MS: i64 = 60 * 60 * 1000;
/// What is held is counted again at most this often, in milliseconds.
const RECOUNT_MS: u64 = 1_000;

/// Deletions on their way.
#[derive(Debug, Default)]
pub(super) struct Brake {
    window: Window,
    /// Absent for sure (rule E8) and not written down yet.
    found: Paths,
    /// Since when anything is in `found`, in milliseconds.
    found_since: u64,
    /// True if the root was looked at after the last path was found to be absent (rule E18).
    root_is_there: bool,
    root_asked: bool,
    /// Looking at the root failed: it is asked again from this time on, in milliseconds.
    root_again: u64,
    /// Files in the place of a directory whose deletion is not written down yet.
    replacing: Paths,
    /// Incoming deletions that were counted and may be done.
    pub(super) cleared: Paths,
    /// When the first and the last of the incoming deletions that were not counted yet came.
    incoming: Option<(u64, u64)>,
    held: Option<Held>,
    last_id: u32,
    /// Something was held, or let go, since it was counted last.
    changed: bool,
    next_count: u64,
    /// So many deletions a person has agreed to that are not done yet.
    allowed: u64,
    /// A person has agreed beforehand to all deletions up to the first agreement with another device.
    accepting: bool,
}

/// Files whose contents are at no path that stays.
#[derive(Clone, Copy, Default)]
struct Deleted {
    files: u64,
    /// Those of them that were not written just before.
    lasting: u64,
}

impl Deleted {
    fn add(&mut self, lasting: bool) {
        self.files += 1;
        self.lasting += u64::from(lasting);
    }
}

/// What a person was told.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: u32,
    /// Deletions, with those made before.
    deletes: u64,
    /// Those that are held.
    files: u64,
}

impl Brake {
    pub(super) fn new(window: Option<&[u8]>, accepting: bool) -> Self {
        let window = window.map(Window::unpack).unwrap_or_default();
        Self { window, accepting, ..Self::default() }
    }

    /// A person has asked for so many deletions.
    pub(super) fn allow(&mut self, files: u64) {
        self.allowed = self.allowed.saturating_add(files);
    }

    /// True while deletions are held.
    pub(super) fn is_on(&self) -> bool {
        self.held.is_some()
    }

    /// True if a path, or a directory it is in, was found deleted and that is not written down yet.
    pub(super) fn holds(&self, path: &RelPath) -> bool {
        !self.found.is_empty() && self.held_at(path).is_some()
    }

    fn held_at(&self, path: &RelPath) -> Option<RelPath> {
        let mut at = Some(path.clone());
        while let Some(path) = at.filter(|path| !path.is_root()) {
            if self.found.contains(&path) {
                return Some(path);
            }
            at = path.parent();
        }
        None
    }

    /// A deletion came in, or was decided anew.
    pub(super) fn note_incoming(&mut self, now: u64) {
        let (first, _) = *self.incoming.get_or_insert((now, now));
        self.incoming = Some((first, now));
        self.changed = true;
    }

    /// An incoming deletion may be none any more.
    pub(super) fn forget_incoming(&mut self, path: &RelPath, was_pending: bool) {
        self.changed |= was_pending;
        if !self.cleared.is_empty() {
            self.cleared.remove(path);
        }
    }

    /// Nobody needs to be asked any more who has agreed beforehand.
    pub(super) fn has_agreed(&mut self) {
        self.accepting = false;
    }

    /// When something is due.
    pub(super) fn next_wake(&self, now: u64, pending: bool) -> u64 {
        let late = (!self.found.is_empty()).then_some(self.found_since.saturating_add(SCAN_MS));
        let lull = self.incoming.filter(|_| pending).map(|(first, last)| lull(first, last));
        let root = (!self.found.is_empty() && !self.root_is_there).then_some(self.root_again);
        let due = if self.is_on() {
            self.changed.then_some(self.next_count)
        } else {
            late.into_iter().chain(lull).min()
        };
        let due = due.into_iter().chain(root).filter(|at| *at > now).min();
        // What is due already waits for something that is under way.
        due.unwrap_or(u64::MAX)
    }
}

/// When deletions that came between these times are counted.
fn lull(first: u64, last: u64) -> u64 {
    last.saturating_add(LULL_MS).min(first.saturating_add(LULL_MAX_MS))
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// True if deletions are neither under way nor about to be.
    pub(super) fn deletions_rest(&self) -> bool {
        let all = self.brake.found.is_empty() && self.learn.deletes.is_empty();
        self.brake.cleared.is_empty() && !self.brake.root_asked && (all || self.brake.is_on())
    }

    /// A path that was here is gone for sure: a deletion, once all of them are counted.
    pub(super) fn gone(&mut self, path: &RelPath, row: Row) -> Result<(), EngineError> {
        self.scan.vanished.remove(path);
        self.mended_below(path);
        if !self.prune(path, row)? {
            return Ok(());
        }
        self.scan.vanished.retain(|below, _| !path.contains(below));
        self.hold(path.clone());
        Ok(())
    }

    fn hold(&mut self, path: RelPath) {
        if self.brake.found.is_empty() {
            self.brake.found_since = self.now.ms;
        }
        self.brake.found.insert(path);
        (self.brake.root_is_there, self.brake.changed) = (false, true);
    }

    /// Forgets what is gone at and below a path and is no news: deleted elsewhere too, ignored, or there
    /// only for what was below. True if there is news.
    fn prune(&mut self, path: &RelPath, row: Row) -> Result<bool, EngineError> {
        let mut news = false;
        if self.index.has_children(path)? {
            for (name, child) in self.index.children(path)? {
                let Ok(below) = path.join(&name) else { continue };
                news |= self.prune(&below, child)?;
            }
        }
        if news || row.here.is_none() || self.is_news(path, &row)? {
            return Ok(news || row.here.is_some());
        }
        self.vanish(path, row)?;
        Ok(false)
    }

    /// True if it says something that what is here is gone.
    fn is_news(&self, path: &RelPath, row: &Row) -> Result<bool, EngineError> {
        let Some(here) = &row.here else { return Ok(false) };
        let is_dir = here.stat.kind == FileKind::Dir;
        let implied = here.implied || self.options.ignore.is_ignored(path, is_dir);
        Ok(!implied && Self::siblings(row)?.is_live())
    }

    /// Something is at a path: it was not deleted, and nothing above it.
    pub(super) fn seen_again(&mut self, path: &RelPath, listed: bool) {
        if self.brake.found.is_empty() {
            return;
        }
        let Some(at) = self.brake.held_at(path) else { return };
        self.brake.found.remove(&at);
        self.brake.changed = true;
        self.learn.reconcile(at.clone());
        if at == *path && !listed {
            // It may have been seen before it went.
            self.hints(vec![at.clone()]);
        }
        if self.row(&at).is_ok_and(|row| row.here.is_some_and(|it| it.stat.kind == FileKind::Dir)) {
            // What is still gone below it.
            self.rescan();
        }
    }

    /// Everything that was below a directory is gone, and a file is in its place. True if that is written
    /// down already; otherwise the file waits for it.
    pub(super) fn dir_was_replaced(&mut self, path: &RelPath) -> Result<bool, EngineError> {
        let mut news = false;
        for (name, child) in self.index.children(path)? {
            let Ok(below) = path.join(&name) else { continue };
            if self.prune(&below, child)? {
                news = true;
                self.hold(below);
            }
        }
        if news {
            self.brake.replacing.insert(path.clone());
        } else {
            self.vanish_below(path)?;
        }
        Ok(!news)
    }

    /// A path whose deletion is held is decided. True if it stays held; if not, nothing is here any more,
    /// and what is known says what is to be here.
    pub(super) fn stays_held(
        &mut self,
        path: &RelPath,
        row: &mut Row,
        siblings: &Siblings,
    ) -> Result<bool, EngineError> {
        if !self.brake.holds(path) {
            return Ok(false);
        }
        let winner = siblings.winner().map(|winner| &winner.record.body);
        let stays = match (&row.here, winner) {
            (Some(here), Some(winner)) if !winner.is_live() => here.stat.kind == FileKind::Dir,
            (Some(here), Some(winner)) => body_here(here).same_contents(winner),
            (Some(_), None) => true,
            (None, winner) => winner.is_none_or(|winner| !winner.is_live()),
        };
        self.brake.changed = true;
        if stays {
            return Ok(true);
        }
        if siblings.is_live() {
            self.let_go(path)?;
        }
        self.brake.found.remove(path);
        if row.here.take().is_some() {
            self.put(path, row)?;
        }
        Ok(false)
    }

    /// An edit at a path makes the directories above it again, whose deletion is held; what else is below
    /// them stays held.
    fn let_go(&mut self, path: &RelPath) -> Result<(), EngineError> {
        let Some(mut at) = self.brake.held_at(path) else { return Ok(()) };
        while at != *path {
            self.brake.found.remove(&at);
            let row = self.row(&at)?;
            self.put(&at, &Row { here: None, ..row })?;
            let mut next = None;
            for (name, child) in self.index.children(&at)? {
                let Ok(below) = at.join(&name) else { continue };
                if below.contains(path) || below == *path {
                    next = Some(below.clone());
                }
                if child.here.is_some() {
                    self.hold(below);
                }
            }
            let Some(next) = next else { break };
            at = next;
        }
        self.learn.dir_changed();
        Ok(())
    }

    /// A person agrees to what was told under a number; what came later counts anew.
    pub(super) fn accept_deletes(&mut self, id: u32) -> Result<(), EngineError> {
        let Some(held) = self.brake.held.take_if(|held| held.id == id) else { return Ok(()) };
        self.brake.allowed = held.files;
        self.brake.window.clear();
        self.keep_window()?;
        // It may be long ago that they were looked for.
        for path in std::mem::take(&mut self.brake.found) {
            self.scan.vanished.insert(path, self.now.ms);
        }
        Ok(())
    }

    fn keep_window(&mut self) -> Result<(), EngineError> {
        self.index.put_meta(META, &self.brake.window.pack())?;
        self.uncommitted = true;
        Ok(())
    }

    /// The root was looked at.
    pub(super) fn root_seen(&mut self, seen: std::io::Result<Option<tree::Stat>>) {
        self.brake.root_asked = false;
        match seen {
            Ok(Some(_)) => self.brake.root_is_there = true,
            Ok(None) => self.root_is_gone("it is not there any more".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.root_is_gone(error.to_string());
            }
            Err(_) => self.brake.root_again = self.now.ms + RECOUNT_MS,
        }
    }

    fn root_is_gone(&mut self, reason: String) {
        // Rule E18: nothing is believed any more, and nothing begun.
        self.stopping = true;
        self.effects.push(Effect::Event(Event::RootGone { reason }));
    }

    /// True if there are incoming deletions to be counted, and all that must come before them is done
    /// (rules E15 and E19).
    pub(super) fn can_count_incoming(&self) -> bool {
        let wait = self.brake.incoming.map_or(0, |(first, last)| {
            if self.learn.deletes.len() as u64 <= self.options.brake.files {
                0
            } else {
                lull(first, last)
            }
        });
        !self.learn.deletes.is_empty()
            && !self.brake.is_on()
            && !self.brake.root_asked
            // As long as the root cannot be looked at, nothing is counted.
            && (self.brake.found.is_empty() || self.now.ms >= self.brake.root_again)
            && self.now.ms >= wait
            && self.may_delete()
    }

    /// Counts deletions once all of them are known, and lets them go or holds them.
    pub(super) fn brake_on(&mut self) -> Result<(), EngineError> {
        if self.stopping {
            return Ok(());
        }
        if self.brake.found.is_empty() {
            let replacing = std::mem::take(&mut self.brake.replacing);
            self.hints(replacing.into_iter().collect());
            if self.learn.deletes.is_empty() {
                let held = self.brake.held.take();
                return held.map_or(Ok(()), |held| self.release(held.id));
            }
        }
        let idle = self.scan.is_idle();
        let (found, incoming) = if self.brake.is_on() {
            let due = self.brake.changed && self.now.ms >= self.brake.next_count;
            if !due || !idle || !self.may_delete() {
                return Ok(());
            }
            (true, true)
        } else {
            let late = self.now.ms >= self.brake.found_since.saturating_add(SCAN_MS);
            let found = !self.brake.found.is_empty() && (idle || late);
            (found, self.can_count_incoming())
        };
        if !found && !incoming {
            return Ok(());
        }
        if found && !self.brake.found.is_empty() && !self.brake.root_is_there {
            self.look_at_root();
            return Ok(());
        }
        let Deleted { files: new, lasting } = self.count(found, incoming)?;
        let allowed = new.min(self.brake.allowed);
        let before = self.brake.window.count(self.wall_ms());
        let deletes = before.saturating_add(new - allowed);
        let of = self.index.totals().files.saturating_add(before);
        let exceeded = new > allowed && self.options.brake.is_exceeded(deletes, of);
        if exceeded && !self.brake.accepting {
            if found && !idle && !self.brake.is_on() {
                // Some may turn out to have moved.
                self.brake.found_since = self.now.ms;
                return Ok(());
            }
            self.tell_held(new, before, of);
            return Ok(());
        }
        self.brake.allowed -= allowed;
        if exceeded {
            self.brake.window.clear();
        } else {
            let now = self.wall_ms();
            self.brake.window.add(now, lasting.saturating_sub(allowed));
        }
        self.keep_window()?;
        if let Some(held) = self.brake.held.take() {
            self.release(held.id)?;
        }
        if incoming {
            self.brake.incoming = None;
            self.brake.cleared.append(&mut self.learn.deletes);
        }
        if found {
            for path in std::mem::take(&mut self.brake.found) {
                let row = self.row(&path)?;
                self.vanish(&path, row)?;
            }
        }
        Ok(())
    }

    fn wall_ms(&self) -> i64 {
        self.now.wall / 1_000_000
    }

    fn look_at_root(&mut self) {
        if self.now.ms >= self.brake.root_again
            && !std::mem::replace(&mut self.brake.root_asked, true)
        {
            let paths = vec![RelPath::root()];
            self.effects.push(Effect::Job(Job::Stat { paths, since: 0 }));
        }
    }

    fn release(&mut self, id: u32) -> Result<(), EngineError> {
        let reason = "what is held is no longer so much".to_owned();
        self.effects.push(Effect::Event(Event::BrakeReleased { id, reason }));
        self.brake.changed = false;
        self.keep_window()
    }

    /// Tells of what is held, again if it has become much more.
    fn tell_held(&mut self, new: u64, before: u64, of: u64) {
        self.brake.changed = false;
        // Counting costs about its number.
        self.brake.next_count = self.now.ms + RECOUNT_MS.max(new / 20);
        self.brake.allowed = 0;
        let deletes = before.saturating_add(new);
        if let Some(held) = self.brake.held {
            if deletes <= held.deletes + (held.deletes / 2).max(9) {
                return;
            }
            let reason = "more deletions have come".to_owned();
            self.effects.push(Effect::Event(Event::BrakeReleased { id: held.id, reason }));
        }
        self.brake.last_id += 1;
        let id = self.brake.last_id;
        self.brake.held = Some(Held { id, deletes, files: new });
        let names = self.learn.deletes.iter().map(|path| self.learn.origin_of(path));
        let peers: BTreeSet<_> = names.flatten().collect();
        let names: Vec<_> = peers.into_iter().map(|id| self.peer_name(Some(id))).collect();
        let (from, here) = (names.join(", "), !self.brake.found.is_empty());
        self.effects.push(Effect::Event(Event::Brake { id, deletes, of, held: new, from, here }));
    }

    /// Files that are deleted and whose contents are at no path that stays.
    fn count(&mut self, found: bool, incoming: bool) -> Result<Deleted, EngineError> {
        let mut contents: HashMap<Hash, Deleted> = HashMap::new();
        let mut counted = BTreeSet::new();
        if found {
            for path in self.brake.found.clone() {
                let row = self.row(&path)?;
                if self.prune(&path, row.clone())? {
                    // What is not shared is deleted nowhere else.
                    if self.publishes() {
                        self.count_below(&path, &row, &mut contents)?;
                    }
                } else {
                    counted.insert(path);
                }
            }
            self.brake.found.retain(|path| !counted.contains(path));
        }
        if incoming {
            for path in self.learn.deletes.clone() {
                if !(found && self.brake.holds(&path))
                    && let Some(here) = self.row(&path)?.here
                    && let Some(content) = here.content
                {
                    contents.entry(content).or_default().add(self.is_lasting(&here));
                }
            }
        }
        let mut all = Deleted::default();
        for (content, deleted) in contents {
            if !self.index.has_more_than(&content, deleted.files)? {
                all.files += deleted.files;
                all.lasting += deleted.lasting;
            }
        }
        Ok(all)
    }

    /// True if a file was not written within the last hour.
    fn is_lasting(&self, here: &Here) -> bool {
        let age = self.wall_ms().saturating_sub(here.stat.mtime / 1_000_000);
        !(0..SHORT_LIVED_MS).contains(&age)
    }

    fn count_below(
        &mut self,
        path: &RelPath,
        row: &Row,
        contents: &mut HashMap<Hash, Deleted>,
    ) -> Result<(), EngineError> {
        if let Some(here) = &row.here
            && let Some(content) = here.content
            && self.is_news(path, row)?
        {
            contents.entry(content).or_default().add(self.is_lasting(here));
        }
        if self.index.has_children(path)? {
            for (name, child) in self.index.children(path)? {
                let Ok(below) = path.join(&name) else { continue };
                self.count_below(&below, &child, contents)?;
            }
        }
        Ok(())
    }
}
