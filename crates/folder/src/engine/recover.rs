//! Coming back after a stop that may have cut an apply short: what is left in `.kin` is dealt with before the
//! disk is believed, and what the apply has half done is not read as somebody's change (rules E12 and E14).

use tree::{FileKind, Stat};
use wire::{Hash, RelPath};

use super::{Authority, Effect, Engine, EngineError, report::Trouble};
use crate::{
    decide::{Decision, Keep},
    index::{Here, Index, Intent, IntentKind, Row},
    jobs::{Job, RecoverItem},
};

/// In which start of the machine the index was written, unless that run came to its end.
const BOOT_META: &str = "boot";
/// When the index was written last by the wall clock, in nanoseconds: 8 bytes.
const WRITTEN_META: &str = "written";
/// What was changed so long before the power failed is on the disk, in nanoseconds: systems write after 30 s at most.
const UNWRITTEN_NS: i64 = 60_000_000_000;

impl<I: Index, A: Authority> Engine<I, A> {
    /// Keeps in which start of the machine this is, and the time, for [`Self::notice_power_loss`].
    pub(super) fn note_run(&mut self) -> Result<(), EngineError> {
        if self.options.boot.is_empty() {
            return Ok(());
        }
        let boot = if self.stopping { &[] } else { &self.options.boot[..] };
        self.index.put_meta(BOOT_META, boot)?;
        Ok(self.index.put_meta(WRITTEN_META, &self.now.wall.to_le_bytes())?)
    }

    /// If the machine was started anew and the last run did not come to its end, then what users wrote shortly before
    /// may be gone from the disk, though it is in the index and others were told. Nobody has deleted it, nor edited
    /// it back to what it was: nothing is taken for known to be here, as with a copied index (rule E5).
    pub(super) fn notice_power_loss(&mut self) -> Result<(), EngineError> {
        let boot = self.index.meta(BOOT_META)?.filter(|boot| !boot.is_empty());
        if self.options.boot.is_empty() || boot.is_none_or(|boot| boot[..] == self.options.boot[..])
        {
            return Ok(());
        }
        self.scan.set_back = Some(self.replica);
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
    pub(super) fn knows_what_was_here(&self) -> bool {
        self.scan.first_done && self.scan.set_back.is_none()
    }

    /// Before it is said what was found after a loss of power: under the same replica id it would have seen what it
    /// may be older than.
    pub(super) fn speak_anew(&mut self) -> Result<(), EngineError> {
        if self.scan.set_back == Some(self.replica) {
            let old = self.replica;
            self.take_replica()?;
            self.know_all_of(Some(old))?;
        }
        Ok(())
    }

    pub(super) fn start(&mut self) -> Result<(), EngineError> {
        self.scan.started = true;
        if self.scan.open_intents.is_empty() {
            self.effects.push(Effect::Job(Job::Recover { items: Vec::new(), now: self.now.wall }));
        } else {
            let intents: Vec<_> = self.scan.open_intents.values().cloned().collect();
            let mut items = Vec::new();
            for intent in intents {
                items.extend(self.recover_item(intent));
            }
            items.sort_by(|a, b| a.intent.path.cmp(&b.intent.path));
            self.effects.push(Effect::Job(Job::Recover { items, now: self.now.wall }));
        }
        if self.scan.is_copied {
            // What lies in `.kin` may be of that apply, what is in the tree is its user's.
            for path in std::mem::take(&mut self.scan.open_intents).into_keys() {
                self.index.clear_intent(&path)?;
                self.uncommitted = true;
            }
        }
        self.scan.recovering = true;
        Ok(())
    }

    /// What must be known to deal with an apply that was cut short: the index still says what was there
    /// before, and what is known says what was to come.
    fn recover_item(&mut self, intent: Intent) -> Option<RecoverItem> {
        let row = self.row(&intent.path).ok()?;
        let siblings = Self::siblings(&row).ok()?;
        let copy = match self.decision(&intent.path, &row).ok()? {
            Decision::Place { keep: Keep::Copy(loser) }
            | Decision::MakeDir { keep: Keep::Copy(loser), .. } => {
                Some(super::learn::copy_path(&intent.path, &loser))
            }
            _ => None,
        };
        let parent = intent.path.parent().filter(|parent| !parent.is_root());
        let parent = parent.and_then(|parent| {
            let here = self.row(&parent).ok()?.here?;
            (here.stat.kind == FileKind::Dir).then_some((parent, here.stat.mode))
        });
        let mut known = siblings.records().iter().map(|known| &known.record);
        let mtime = known.find(|known| known.body.content() == intent.content).map(|it| it.mtime);
        Some(RecoverItem { intent, here: row.here.map(|here| here.stat), copy, mtime, parent })
    }

    /// What an interrupted run left in `.kin` is dealt with: now the disk can be believed.
    pub(super) fn recovered(
        &mut self,
        skipped: Vec<(String, String)>,
        emptied: Vec<RelPath>,
        whole: Vec<Hash>,
    ) {
        self.fetch.whole.extend(whole);
        self.scan.recovering = false;
        self.scan.emptied.extend(emptied);
        self.begin_to_keep_history();
        for (path, reason) in skipped {
            self.skip(path, Trouble::Apply, reason);
        }
        self.rescan();
    }

    /// What is known below a directory, and to be made, where nothing is known of the directory that it lies in:
    /// no listing shows that it lacks. A stop may have come before it was made. A few look-ups for each
    /// directory.
    pub(super) fn want_below(&mut self, dir: &RelPath) -> Result<(), EngineError> {
        let mut last = None;
        while let Some(below) = self.index.next_dir_below(dir, last.as_ref())? {
            let rest = below.as_str().get(dir.as_str().len()..).unwrap_or_default();
            let name = rest.trim_start_matches('/').split('/').next().unwrap_or_default();
            let Ok(child) = dir.join(name) else { break };
            let is_known = self.index.row(&child)?.is_some();
            for (name, row) in if is_known { Vec::new() } else { self.index.children(&below)? } {
                if let Ok(path) = below.join(&name)
                    && row.here.is_none()
                    && Self::siblings(&row)?.is_live()
                {
                    self.learn.reconcile_unless_blocked(path);
                }
            }
            // Past all that is below a known one, unless a name comes between.
            let past = RelPath::parse(&format!("{child}/{}", char::MAX));
            last = Some(past.ok().filter(|_| is_known && below != child).unwrap_or(below));
        }
        Ok(())
    }

    /// True if nothing is at a path because of an apply that a stop cut short. What is replaced or gets
    /// other metadata is there all the time, or again since recovery: that it is not is a deletion, and
    /// to say so is this device's part, which may have been the only one to have the contents.
    pub(super) fn was_emptied(&self, path: &RelPath) -> bool {
        let intent = self.scan.open_intents.get(path);
        intent.is_some_and(|intent| match intent.kind {
            IntentKind::Create | IntentKind::Delete => true,
            IntentKind::Replace | IntentKind::Meta => self.scan.emptied.contains(path),
        })
    }

    /// Rule E12: true if other metadata than before is that of an apply that was cut short, perhaps only
    /// part of it. It is set again then, and not read as a change.
    pub(super) fn meta_was_cut_short(
        &mut self,
        path: &RelPath,
        stat: &Stat,
        row: &Row,
        before: &Here,
    ) -> Result<bool, EngineError> {
        if !self.scan.open_intents.contains_key(path) {
            return Ok(false);
        }
        let siblings = Self::siblings(row)?;
        let mut known = siblings.records().iter().map(|known| &known.record);
        Ok(known.any(|known| {
            (stat.mode == known.mode || stat.mode == before.stat.mode)
                && (stat.mtime == known.mtime || stat.mtime == before.stat.mtime)
        }))
    }
}
