//! What is to come below a directory that cannot be here now, be it that the disk takes its name for another's: it
//! waits for as long as the directory does, and is told of beside it.

use tree::FileKind;
use wire::RelPath;

use super::{Authority, Engine, EngineError, learn::Learn, report::Trouble};
use crate::index::{Index, Row};

impl Learn {
    /// True if a path waits for a directory that is blocked, or is stuck itself.
    pub(super) fn is_stuck(&self, path: &RelPath) -> bool {
        let stuck = path.parent().and_then(|dir| self.stuck.get(&dir));
        stuck.is_some_and(|stuck| stuck.contains(path))
    }

    /// A path cannot go on before its directory, which is blocked or stuck, and neither can what waits for the path.
    pub(super) fn stick_to(&mut self, dir: &RelPath, path: &RelPath) {
        self.stuck.entry(dir.clone()).or_default().insert(path.clone());
        self.stick_below(path);
    }

    /// A path is blocked or stuck: what waits to come below it is stuck.
    pub(super) fn stick_below(&mut self, path: &RelPath) {
        let mut dirs = vec![path.clone()];
        while let Some(dir) = dirs.pop() {
            let below = self.take_waiting_below(&dir);
            if !below.is_empty() {
                dirs.extend(below.iter().cloned());
                self.stuck.entry(dir).or_default().extend(below);
            }
        }
    }

    /// What is stuck below a path, at any depth.
    fn all_stuck_below(&self, path: &RelPath) -> Vec<RelPath> {
        let (mut all, mut dirs) = (Vec::new(), vec![path]);
        while let Some(dir) = dirs.pop() {
            let below = self.stuck.get(dir).into_iter().flatten();
            all.extend(below.clone().cloned());
            dirs.extend(below);
        }
        all
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// A path is not in step. Where a directory is to be and cannot be, that holds for all that is to come below it,
    /// and is told once.
    pub(super) fn skip_with_below(
        &mut self,
        path: &RelPath,
        reason: impl Into<String>,
    ) -> Result<(), EngineError> {
        let is_here = |row: &Row| row.here.as_ref().is_some_and(|it| it.stat.kind == FileKind::Dir);
        let is_news = self.skip(path.to_string(), Trouble::Apply, reason);
        if is_here(&self.row(path)?) {
            return Ok(());
        }
        if !is_news {
            // Only what has come to be known since.
            self.tell_stuck_below(path, path);
            return Ok(());
        }
        let (mut dir, mut last) = (path.clone(), None);
        while self.reports.has_room() {
            for (name, row) in self.index.children(&dir)? {
                let Ok(below) = dir.join(&name) else { continue };
                // A directory may be to come for the sake of what lies in it; then why it does not was told before.
                let is_told = self.reports.reason(below.as_str()).is_some();
                if row.here.is_none() && (is_told || Self::siblings(&row)?.is_live()) {
                    self.tell_stuck(&below, path);
                }
            }
            let Some(next) = self.index.next_dir_below(path, last.as_ref())? else { break };
            last = Some(next.clone());
            dir = next;
        }
        Ok(())
    }

    /// A path is stuck: it is told of, and what waits for it, if the directory that all wait for is.
    pub(super) fn tell_stuck_at(&mut self, path: &RelPath) {
        let mut top = path.clone();
        while self.learn.is_stuck(&top)
            && let Some(dir) = top.parent()
        {
            top = dir;
        }
        if self.reports.reason(top.as_str()).is_some() {
            self.tell_stuck(path, &top);
            self.tell_stuck_below(path, &top);
        }
    }

    fn tell_stuck_below(&mut self, path: &RelPath, top: &RelPath) {
        for below in self.learn.all_stuck_below(path) {
            self.tell_stuck(&below, top);
        }
    }

    fn tell_stuck(&mut self, path: &RelPath, top: &RelPath) {
        if self.reports.has_room() {
            let reason = format!("comes when {:?} does, which it lies in", top.as_str());
            self.skip(path.to_string(), Trouble::Apply, reason);
        }
    }
}
