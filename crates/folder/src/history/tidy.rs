//! Clearing history away, as a job: what is chosen is looked at again and removed, one by one.
//!
//! Each step is one system call on one entry, so a loss of power leaves an entry or none. Nothing outside
//! `.kin/history` can be reached, and no link is followed ([`Disk`]).

use std::{collections::BTreeSet, io};

use tree::{Disk, Place, apply::HistoryName};
use wire::RelPath;

use super::{Entry, Limits, Moment, choose, list};

/// What was cleared away.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tidied {
    /// Entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Looks through history and clears away what may go. `moment.total_space` is found out here.
pub(crate) fn tidy(disk: &dyn Disk, limits: Limits, moment: Moment) -> Tidied {
    let mut tidied = Tidied::default();
    let found = match list(disk, &RelPath::root()) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "history cannot be read; nothing of it is cleared away");
            return tidied;
        }
    };
    // Where the size is not told, history has all of it.
    let moment = Moment { total_space: disk.total_space().unwrap_or(u64::MAX), ..moment };
    let chosen = choose(&found.entries, limits, moment);
    for entry in chosen.redate.iter().filter_map(|at| found.entries.get(*at)) {
        redate(disk, entry, moment.now);
    }
    let mut gone = Vec::new();
    for entry in chosen.remove.iter().filter_map(|at| found.entries.get(*at)) {
        match disk.unlink_own(&entry.at()) {
            Ok(()) => {
                tidied.entries += 1;
                tidied.bytes += entry.stat.size;
                gone.push(entry.place.clone());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, place = ?entry.place, "an old version stays");
            }
        }
    }
    if tidied.entries > 0 {
        tracing::info!(entries = tidied.entries, bytes = tidied.bytes, "old versions are gone");
    }
    remove_empty_dirs(disk, &gone);
    tidied
}

/// Names an entry by the present time.
fn redate(disk: &dyn Disk, entry: &Entry, now: u64) {
    let name = HistoryName { time: now, ..entry.name.clone() };
    let renamed = disk.rename_new(&entry.at(), &Place::History(name.place()));
    if let Err(error) = renamed {
        tracing::warn!(%error, place = ?entry.place, "an entry keeps a date that is wrong");
    }
}

/// Removes the directories of what is gone, as far up as they hold nothing any more.
fn remove_empty_dirs(disk: &dyn Disk, gone: &[RelPath]) {
    let dirs: BTreeSet<_> = gone.iter().filter_map(RelPath::parent).collect();
    for dir in dirs {
        let mut dir = Some(dir);
        while let Some(empty) = dir.filter(|dir| !dir.is_root()) {
            // One that holds something says so itself.
            if disk.remove_history_dir(&empty).is_err() {
                break;
            }
            dir = empty.parent();
        }
    }
}
