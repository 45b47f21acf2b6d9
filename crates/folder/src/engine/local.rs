//! What was done on this device: what a scan found is compared with what is known and written down as
//! this device's changes (rules E3, E5, E8, E9 and E15).

use bytes::Bytes;
use tree::{FileKind, Stat};
use wire::{
    Hash, RelPath,
    record::{Body, Record},
    version::{ReplicaId, VersionVector},
};

use super::{Authority, Change, Engine, EngineError, report::Trouble, scan::VANISHED_MS};
use crate::{
    content::CHUNKED_FROM,
    decide::{body_here, implied_mode},
    index::{Here, Index, Intent, Row},
    jobs::HashedBody,
    siblings::Siblings,
};

/// A change so shortly after the mtime may hide in the same mtime, in nanoseconds: the slowest kernel clock
/// (100 Hz) ticks every 10 ms.
const RACY_NS: i64 = 12_000_000;
/// The same on a file system that keeps whole seconds only.
const RACY_COARSE_NS: i64 = 2_000_000_000;
/// Contents up to this size ride along with the record of a live edit, in bytes.
const INLINE: usize = 16 << 10;

impl<I: Index, A: Authority> Engine<I, A> {
    /// What is there cannot travel: what is known of the path waits, and is not here.
    pub(super) fn blocked_by(
        &mut self,
        path: &RelPath,
        row: Row,
        reason: &str,
    ) -> Result<(), EngineError> {
        self.scan.unstable.remove(path);
        self.skip(path.to_string(), Trouble::Kind, reason);
        if row.here.as_ref().is_some_and(|here| here.stat.kind != FileKind::Dir) {
            self.put(path, &Row { here: None, ..row })?;
        }
        Ok(())
    }

    pub(super) fn saw_dir(
        &mut self,
        path: RelPath,
        stat: Stat,
        mut row: Row,
        listed: bool,
    ) -> Result<(), EngineError> {
        let shown = row.clone();
        let before = row.here.take();
        let was_dir = before.as_ref().filter(|here| here.stat.kind == FileKind::Dir);
        let is_new = was_dir.is_none_or(|here| here.stat.inode != stat.inode);
        if is_new || (listed && self.scan.full) {
            self.scan.to_list.insert(path.clone());
        }
        if let Some(here) = was_dir {
            let changed = here.stat.mode != stat.mode;
            if listed && self.scan.full && !Self::shows_winner(&shown)? {
                self.learn.reconcile_unless_blocked(path.clone());
            }
            if here.stat == stat {
                return Ok(());
            }
            row.here = Some(Here { stat, implied: here.implied && !changed, ..here.clone() });
            if changed && self.scan.open_intents.contains_key(&path) {
                // Rule E12: an apply was cut short; it is done again, not read as a change.
                row.here = Some(Here { stat, shown: 0, ..here.clone() });
                self.put(&path, &row)?;
                self.learn.reconcile(path);
                return Ok(());
            }
            if !changed {
                return self.put(&path, &row);
            }
            // A directory that was there only for what lies below is somebody's wish now. It has not seen a file
            // that is to be in its place: that becomes a conflict copy (rule E9).
            let seen = if here.implied {
                Self::siblings(&row)?.joined_but_contents()
            } else {
                self.seen_here(&path, &row)?
            };
            let content_dot = here.content_dot.filter(|_| !here.implied);
            return self.author(
                &path,
                &mut row,
                Change::metadata(Body::Dir, stat, seen, content_dot),
            );
        }
        let siblings = Self::siblings(&row)?;
        // Only what the tree is to show is there already for that reason: what lost, or was deleted, and is
        // here again was made again.
        let adopted = siblings.winner().filter(|winner| winner.record.body == Body::Dir);
        let adopted = adopted.map(|winner| winner.record.content_dot);
        let mut here = fresh_here(stat);
        here.content_dot = adopted;
        let cut_short = self.scan.open_intents.get(&path).is_some_and(Intent::makes_dir);
        // Nobody has made it as it is but an apply, if it is there for the sake of what lies below.
        let is_implied = stat.mode == implied_mode(siblings.winner());
        let is_known = adopted.is_some() || is_implied && self.has_live_children(&path)?;
        if cut_short || before.is_none() && is_known {
            // Known already, or there for the sake of what lies below: nothing was changed here.
            here.implied = adopted.is_none();
            row.here = Some(here);
            self.put(&path, &row)?;
            self.learn.reconcile(path);
            return Ok(());
        }
        if before.is_none() && !row.known.is_empty() {
            self.speak_anew_of(&path)?;
        }
        let seen = self.seen_before(&row, before.as_ref())?;
        row.here = Some(here);
        let found = before.is_none() && !self.knows_what_was_at(&path);
        let change = Change {
            body: Body::Dir,
            mode: stat.mode,
            mtime: 0,
            seen,
            content_dot: None,
            found,
            inline: None,
        };
        self.author(&path, &mut row, change)
    }

    /// The contents of a file or link that was new or changed are known now.
    pub(super) fn saw_contents(
        &mut self,
        path: RelPath,
        stat: Stat,
        contents: HashedBody,
        asked: i64,
    ) -> Result<(), EngineError> {
        let mut row = self.row(&path)?;
        let (body, chunks, small) = match contents {
            HashedBody::File { content, chunks, small } => {
                (Body::File { size: stat.size, content }, chunks, small)
            }
            HashedBody::Symlink { target } => (Body::Symlink { target }, None, None),
        };
        let before = row.here.take();
        if before.is_none() {
            self.has_contents_again();
        }
        let was_dir = before.as_ref().is_some_and(|before| before.stat.kind == FileKind::Dir);
        if was_dir && !self.dir_was_replaced(&path)? {
            return Ok(());
        }
        let mut here = fresh_here(stat);
        here.racy = is_racy(&stat, asked);
        match &body {
            Body::File { content, .. } => here.content = Some(*content),
            Body::Symlink { target } => here.target = Some(target.clone()),
            Body::Dir | Body::Tombstone { .. } => {}
        }
        if let (Some(list), Body::File { content, .. }) = (&chunks, &body) {
            self.index.put_chunks(content, list)?;
        }
        if let Some(before) =
            before.as_ref().filter(|before| body_here(before).same_contents(&body))
        {
            here.base = before.base.clone();
            here.shown = before.shown;
            here.content_dot = before.content_dot;
            let same_mode = stat.kind == FileKind::Symlink || before.stat.mode == stat.mode;
            let same = same_mode && before.stat.mtime == stat.mtime;
            row.here = Some(here);
            let cut_short = !same && self.meta_was_cut_short(&path, &stat, &row, before)?;
            if cut_short && let Some(here) = &mut row.here {
                here.shown = 0;
            }
            if same || cut_short || before.content_dot.is_none() {
                self.put(&path, &row)?;
                if !Self::shows_winner(&row)? || self.has_live_children(&path)? {
                    self.learn.reconcile(path);
                }
                return Ok(());
            }
            let seen = self.seen_here(&path, &row)?;
            let content_dot = before.content_dot;
            return self.author(&path, &mut row, Change::metadata(body, stat, seen, content_dot));
        }
        let siblings = Self::siblings(&row)?;
        let cut_short = self.scan.open_intents.get(&path);
        let cut_short = cut_short.is_some_and(|intent| intent.content == body.content());
        if let Some(known) = siblings.with_contents(&body)
            && (cut_short
                || before.as_ref().is_none_or(|before| known.record.version.covers(&before.base)))
        {
            // What was to come is there already: an apply that a stop cut short, equal files that meet
            // for the first time, or an index that was lost. Nothing was changed here.
            here.content_dot = Some(known.record.content_dot);
            row.here = Some(here);
            self.put(&path, &row)?;
            self.learn.reconcile(path);
            return Ok(());
        }
        if before.is_none() && !row.known.is_empty() {
            self.speak_anew_of(&path)?;
        }
        let mut seen = self.seen_before(&row, before.as_ref())?;
        if let Some(known) = siblings.with_contents(&body) {
            seen.join(&known.record.version);
        }
        let found = before.is_none() && !self.knows_what_was_at(&path);
        let inline = match small {
            Some(bytes) if self.scan.first_done && !self.scan.full && bytes.len() <= INLINE => {
                self.worth_inlining(&body)?.then_some(bytes)
            }
            _ => None,
        };
        row.here = Some(here);
        let mode = if stat.kind == FileKind::Symlink { 0 } else { stat.mode };
        let mtime = stat.mtime;
        let change = Change { body, mode, mtime, seen, content_dot: None, found, inline };
        self.author(&path, &mut row, change)
    }

    /// Contents that are here under another name too were sent before: a rename or copy costs nothing.
    pub(super) fn worth_inlining(&mut self, body: &Body) -> Result<bool, EngineError> {
        Ok(self.index.by_content(&body.content())?.is_empty())
    }

    /// What the tree shows at a path, and what else may be taken as seen by whoever edits it now: all
    /// siblings whose contents are kept elsewhere or equal (rule E2). An edit does not cover a losing
    /// edit whose conflict copy has not arrived yet, so that whoever holds it still makes the copy.
    pub(super) fn seen_here(
        &mut self,
        path: &RelPath,
        row: &Row,
    ) -> Result<VersionVector, EngineError> {
        let siblings = Self::siblings(row)?;
        let Some(here) = &row.here else { return Ok(VersionVector::new()) };
        let mut seen = here.base.clone();
        let shown = siblings.winner().is_some_and(|winner| seen.covers(&winner.record.version));
        if !shown {
            return Ok(seen);
        }
        for other in siblings.records() {
            if !siblings.is_conflict(other) || self.copy_is_known(path, other)? {
                seen.join(&other.record.version);
            }
        }
        Ok(seen)
    }

    /// What an edit that replaces `before` is made on top of.
    pub(super) fn seen_before(
        &mut self,
        row: &Row,
        before: Option<&Here>,
    ) -> Result<VersionVector, EngineError> {
        let siblings = Self::siblings(row)?;
        match (before, siblings.winner()) {
            (Some(before), winner) => {
                let path = winner.map(|winner| winner.record.path.clone()).unwrap_or_default();
                let shown = Row { here: Some(before.clone()), ..row.clone() };
                self.seen_here(&path, &shown)
            }
            // Something new where a deletion was applied is made knowing of it. In the first scan of a
            // new index it may as well be what was deleted (rule E5).
            (None, Some(winner))
                if self.knows_what_was_at(&winner.record.path) && !winner.record.body.is_live() =>
            {
                Ok(siblings.joined())
            }
            (None, _) => Ok(VersionVector::new()),
        }
    }

    /// A path that was here is not in its directory any more.
    pub(super) fn missing(&mut self, path: RelPath, row: Row) -> Result<(), EngineError> {
        if self.brake.holds(&path) {
            self.scan.vanished.remove(&path);
            return Ok(());
        }
        if self.group.is_busy(&path) {
            return Ok(());
        }
        if self.was_emptied(&path) {
            // Rule E12: an apply was cut short here; it is done again, not read as a deletion.
            self.put(&path, &Row { here: None, ..row })?;
            self.learn.reconcile(path);
            return Ok(());
        }
        match self.scan.vanished.get(&path) {
            None => {
                self.scan.vanished.insert(path, self.now.ms + VANISHED_MS);
                Ok(())
            }
            Some(deadline) if *deadline > self.now.ms => Ok(()),
            Some(_) => self.gone(&path, row),
        }
    }

    /// Writes down that a path, and all that was below it, was deleted here.
    pub(super) fn vanish(&mut self, path: &RelPath, mut row: Row) -> Result<(), EngineError> {
        self.scan.vanished.remove(path);
        self.mended(path);
        self.learn.twins_may_come(path);
        self.vanish_below(path)?;
        // What was known of it may have stayed for the sake of what was below (rule E4).
        row.known = self.row(path)?.known;
        let is_dir = row.here.as_ref().is_some_and(|here| here.stat.kind == FileKind::Dir);
        if self.options.ignore.is_ignored(path, is_dir) {
            // Rule E11: what is ignored here is nobody's deletion.
            row.here = None;
            return self.put(path, &row);
        }
        let seen = self.seen_here(path, &row)?;
        let Some(before) = row.here.take() else { return Ok(()) };
        let siblings = Self::siblings(&row)?;
        let nothing_to_say =
            before.implied || siblings.winner().is_none_or(|winner| !winner.record.body.is_live());
        if nothing_to_say {
            self.put(path, &row)?;
            self.learn.reconcile(path.clone());
            return Ok(());
        }
        let deleted = body_here(&before).content();
        let body = Body::Tombstone { deleted };
        let mode = before.stat.mode;
        let change =
            Change { body, mode, mtime: 0, seen, content_dot: None, found: false, inline: None };
        self.author(path, &mut row, change)
    }

    /// Everything below a directory is not here any more, without having been deleted (rule E11).
    pub(super) fn forget_below(&mut self, dir: &RelPath) -> Result<(), EngineError> {
        self.learn.dir_changed();
        for (name, child) in self.index.children(dir)? {
            let Ok(path) = dir.join(&name) else { continue };
            self.forget_below(&path)?;
            if child.here.is_some() {
                self.scan.vanished.remove(&path);
                self.put(&path, &Row { here: None, ..child })?;
            }
        }
        Ok(())
    }

    pub(super) fn vanish_below(&mut self, dir: &RelPath) -> Result<(), EngineError> {
        self.learn.dir_changed();
        for (name, child) in self.index.children(dir)? {
            let Ok(below) = dir.join(&name) else { continue };
            if child.here.is_some() {
                self.vanish(&below, child)?;
            } else if self.index.has_children(&below)? {
                self.vanish_below(&below)?;
            }
        }
        Ok(())
    }

    /// Writes down a file or link that an apply has put there on this device's own account: a conflict
    /// copy.
    pub(super) fn made_here(
        &mut self,
        path: &RelPath,
        stat: Stat,
        body: Body,
        meta: (u32, i64),
    ) -> Result<(), EngineError> {
        let mut row = self.row(path)?;
        let mut here = fresh_here(stat);
        match &body {
            Body::File { content, .. } => here.content = Some(*content),
            Body::Symlink { target } => here.target = Some(target.clone()),
            Body::Dir | Body::Tombstone { .. } => {}
        }
        row.here = Some(here);
        let (mode, mtime) = meta;
        let seen = VersionVector::new();
        let change =
            Change { body, mode, mtime, seen, content_dot: None, found: false, inline: None };
        self.author(path, &mut row, change)?;
        if let Some(here) = &mut row.here
            && (stat.mode, stat.mtime) != (mode, mtime)
        {
            // The record takes its metadata from the edit that lost; the file is to follow.
            here.shown = 0;
            self.put(path, &row)?;
            self.learn.reconcile(path.clone());
        }
        Ok(())
    }

    /// True if nothing is left to be done about what is here: a run may have stopped in between.
    pub(super) fn shows_winner(row: &Row) -> Result<bool, EngineError> {
        let siblings = Self::siblings(row)?;
        Ok(match (siblings.winner(), &row.here) {
            (Some(winner), Some(here)) => here.shown == winner.hash.head() && !here.implied,
            // What it shows has become void (rule E7).
            (None, Some(here)) => here.shown == 0,
            (_, None) => true,
        })
    }

    /// True if anything live is known below a path.
    pub(super) fn has_live_children(&mut self, dir: &RelPath) -> Result<bool, EngineError> {
        self.has_live_below(dir, Self::siblings)
    }

    /// The same by these records of each path.
    pub(super) fn has_live_below(
        &mut self,
        dir: &RelPath,
        records: impl Fn(&Row) -> Result<Siblings, EngineError>,
    ) -> Result<bool, EngineError> {
        // Asked of every file: nearly always there is nothing.
        if !self.index.has_any_below(dir)? {
            return Ok(false);
        }
        for (_, row) in self.index.children(dir)? {
            if records(&row)?.is_live() {
                return Ok(true);
            }
        }
        // Of what lies between, nothing may be known.
        let mut last = None;
        while let Some(below) = self.index.next_dir_below(dir, last.as_ref())? {
            for (_, row) in self.index.children(&below)? {
                if records(&row)?.is_live() {
                    return Ok(true);
                }
            }
            last = Some(below);
        }
        Ok(false)
    }
}

impl Change {
    /// What a record said, without what its author's replica `old` said after the counter `agreed`.
    pub(super) fn again(mine: Record, old: ReplicaId, agreed: u64) -> Self {
        let entries = mine.version.entries().iter().copied();
        let seen: Vec<_> = entries
            .filter_map(|(id, counter)| {
                if id == old {
                    (agreed > 0).then_some((id, counter.min(agreed)))
                } else {
                    Some((id, counter))
                }
            })
            .collect();
        let seen = VersionVector::from_entries(seen).unwrap_or_default();
        // Whose contents were said before is known there: only its metadata is said again.
        let content_dot = Some(mine.content_dot).filter(|dot| seen.has_seen(*dot));
        let (body, mode, mtime) = (mine.body, mine.mode, mine.mtime);
        Self { body, mode, mtime, seen, content_dot, found: false, inline: None }
    }

    fn metadata(
        body: Body,
        stat: Stat,
        seen: VersionVector,
        content_dot: Option<wire::version::Dot>,
    ) -> Self {
        let mtime = if body == Body::Dir { 0 } else { stat.mtime };
        let mode = if stat.kind == FileKind::Symlink { 0 } else { stat.mode };
        Self { body, mode, mtime, seen, content_dot, found: false, inline: None }
    }
}

/// What is here, before any record says why.
pub(super) fn fresh_here(stat: Stat) -> Here {
    Here {
        stat,
        content: None,
        target: None,
        base: VersionVector::new(),
        shown: 0,
        content_dot: None,
        racy: false,
        implied: false,
    }
}

/// True if a change right after this stat could leave the same size and mtime.
pub(super) fn is_racy(stat: &Stat, wall: i64) -> bool {
    let coarse = stat.mtime % 1_000_000_000 == 0;
    let window = if coarse { RACY_COARSE_NS } else { RACY_NS };
    stat.kind == FileKind::File && wall.saturating_sub(stat.mtime).abs() < window
}

/// True for contents that travel whole rather than in chunks.
pub(super) fn is_small(size: u64) -> bool {
    size < CHUNKED_FROM
}

/// A content without bytes.
pub(super) fn empty_content() -> (Hash, Bytes) {
    (Hash::of(&[]), Bytes::new())
}
