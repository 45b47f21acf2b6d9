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

impl<I: Index, A: Authority> Engine<I, A> {
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
