//! Directories that are new here are built whole in `.kin/swap`, with what comes with them, and moved in by one rename
//! (rule E16): what is in them is seen all at once, and each file is named once instead of twice.
//!
//! Where that cannot be, what was built is taken apart again, and everything is put in place one by one.

use std::{
    collections::{BTreeMap, HashSet},
    io,
};

use tree::{Disk, Place};
use wire::RelPath;

use super::{Change, What};

/// The directories of one group that are built.
#[derive(Debug, Default)]
pub(super) struct Builds {
    /// Directories in which this group puts something.
    filled: HashSet<RelPath>,
    /// Where each directory that is being built is, until it is moved in.
    at: BTreeMap<RelPath, Place>,
    /// What was moved in.
    moved: HashSet<RelPath>,
}

impl Builds {
    /// Looks through a group for directories that are worth it.
    pub(super) fn of(disk: &dyn Disk, changes: &[Change]) -> Self {
        let mut builds = Self::default();
        let makes_dir = |change: &Change| matches!(change.what, What::MakeDir { room: None, .. });
        // A disk that takes different names for the same says so of each file that is put in place.
        if disk.folds_names() || !changes.iter().any(makes_dir) {
            return builds;
        }
        for change in changes.iter().filter(|change| is_new(change)) {
            let mut above = change.path.parent();
            while let Some(dir) = above
                && builds.filled.insert(dir.clone())
            {
                above = dir.parent();
            }
        }
        builds
    }

    /// Begins with a directory, if something is to lie in it.
    pub(super) fn begin(&mut self, disk: &dyn Disk, change: &Change) {
        let What::MakeDir { swap, mode, room: None } = change.what else { return };
        let path = &change.path;
        let place = match self.inside(path) {
            Some(place) => place,
            None if self.filled.contains(path) && !is_given_more(disk, path) => Place::Swap(swap),
            None => return,
        };
        match disk.make_own_dir(&place, mode | 0o700) {
            Ok(()) => drop(self.at.insert(path.clone(), place)),
            Err(error) => tracing::debug!(%error, %path, "a directory is not built whole"),
        }
    }

    /// Where something new is made ready, if its directory is being built.
    pub(super) fn place_for(&self, change: &Change) -> Option<Place> {
        if is_new(change) { self.inside(&change.path) } else { None }
    }

    fn inside(&self, path: &RelPath) -> Option<Place> {
        if self.at.is_empty() {
            return None;
        }
        self.at.get(&path.parent()?)?.join(path.name())
    }

    /// Moves in a directory with all that was built in it. `None` if it is not the top of such; then, and where
    /// it fails, it is to be made as others are.
    pub(super) fn move_in(&mut self, disk: &dyn Disk, path: &RelPath) -> Option<io::Result<()>> {
        let place = self.at.get(path).filter(|place| matches!(place, Place::Swap(_)))?.clone();
        let moved = disk.rename_new(&place, &Place::Tree(path.clone()));
        if moved.is_ok() {
            let within = self.at.extract_if(.., |dir, _| dir == path || path.contains(dir));
            self.moved.extend(within.map(|(dir, _)| dir));
        }
        Some(moved)
    }

    /// True for a directory that was moved in, by itself or in another.
    pub(super) fn has_moved(&self, dir: &RelPath) -> bool {
        self.moved.contains(dir)
    }

    /// What was moved in is gone from there already: nobody knows what became of what is in it.
    pub(super) fn is_gone(&mut self, path: &RelPath) {
        self.moved.retain(|dir| dir != path && !path.contains(dir));
    }

    /// Removes the directories that are, or lie in, one that could not be moved in: they are empty.
    pub(super) fn clear(&mut self, disk: &dyn Disk, top: &RelPath) {
        let within = self.at.extract_if(.., |dir, _| dir == top || top.contains(dir));
        let within: Vec<_> = within.collect();
        for (_, place) in within.into_iter().rev() {
            if let Err(error) = disk.remove_own_dir(&place) {
                tracing::warn!(%error, "a directory stays in .kin/swap until the next start");
            }
        }
    }

    /// The same of all that were not moved in.
    pub(super) fn clear_all(&mut self, disk: &dyn Disk) {
        while let Some((top, _)) = self.at.first_key_value() {
            let top = top.clone();
            self.clear(disk, &top);
        }
    }
}

/// True for a file or link that replaces nothing.
fn is_new(change: &Change) -> bool {
    matches!(change.what, What::Place { room: None, .. })
}

/// True if a directory would lack something if it were made elsewhere, or nobody can tell.
fn is_given_more(disk: &dyn Disk, path: &RelPath) -> bool {
    disk.hands_down(&path.parent().unwrap_or_default()).unwrap_or(true)
}
