//! What an interrupted run left in `.kin/swap` (rule E14): nothing of the user's is removed.

use std::io;

use tree::{
    Disk, Place, Stat,
    apply::{self, ApplyError},
};
use wire::RelPath;

use super::{RecoverItem, apply::to_history, why};
use crate::{content::CHUNKED_FROM, index::IntentKind};

/// How long an unfinished download is kept (rule E14): seven days in nanoseconds.
const KEEP_PARTIAL_NS: i64 = 7 * 24 * 3600 * 1_000_000_000;

/// Deals with what an interrupted apply left in `.kin/swap`: our own temporary files go, what was the
/// user's goes to history (rule E14). Downloads that nobody came back to for a week go too. Returns what
/// needs a person.
pub(super) fn recover(disk: &dyn Disk, items: &[RecoverItem], now: i64) -> Vec<(String, String)> {
    let mut skipped = Vec::new();
    let own = match disk.own_files() {
        Ok(own) => own,
        Err(error) => {
            skipped.push((wire::path::STATE_DIR.to_owned(), why(&error)));
            return skipped;
        }
    };
    for (place, stat) in own {
        let Place::Swap(number) = &place else {
            let abandoned = now.saturating_sub(stat.mtime) > KEEP_PARTIAL_NS;
            if abandoned && let Err(error) = disk.unlink_own(&place) {
                tracing::warn!(%error, "an abandoned download stays in .kin/partial");
            }
            continue;
        };
        let item = items.iter().find(|item| item.intent.swap == *number);
        let result = match item {
            Some(item) if is_our_own(disk, item) => give_back(disk, &place, &stat, item)
                .map_err(|error| ApplyError::io("clear away", &item.intent.path, error)),
            Some(item) if became_copy(disk, &place, item) => Ok(()),
            _ => {
                let lost = || RelPath::parse("recovered").unwrap_or_default();
                let path = item.map_or_else(lost, |item| item.intent.path.clone());
                let time = u64::try_from(stat.mtime / 1_000_000).unwrap_or(0);
                to_history(disk, &place, &path, &apply::history_name(&path, time, *number))
            }
        };
        if let Err(error) = result {
            skipped
                .push((format!("{}/swap/{number:016x}", wire::path::STATE_DIR), error.to_string()));
        }
    }
    for (dir, mode) in items.iter().filter_map(|item| item.parent.as_ref()) {
        close_again(disk, dir, *mode);
    }
    skipped
}

/// Puts an edit that lost where it was to go (rule E2).
fn became_copy(disk: &dyn Disk, place: &Place, item: &RecoverItem) -> bool {
    let copy = item.copy.as_ref();
    copy.is_some_and(|copy| disk.rename_new(place, &Place::Tree(copy.clone())).is_ok())
}

/// A directory that was opened for an apply gets its mode back (rule E10).
fn close_again(disk: &dyn Disk, dir: &RelPath, mode: u32) {
    let found = disk.stat(&Place::Tree(dir.clone()));
    if let Ok(Some(stat)) = found
        && stat.mode != mode
        && stat.mode == mode | 0o700
        && let Err(error) = disk.set_meta(dir, stat.inode, mode, None)
    {
        tracing::warn!(%error, "a directory stays writable that was not");
    }
}

/// Our own temporary file goes; a finished download becomes one again, so that it need not come twice.
fn give_back(disk: &dyn Disk, place: &Place, stat: &Stat, item: &RecoverItem) -> io::Result<()> {
    if stat.size >= CHUNKED_FROM
        && disk.rename_new(place, &Place::Partial(item.intent.content)).is_ok()
    {
        return Ok(());
    }
    disk.unlink_own(place)
}

/// True if what lies in `.kin/swap` for this intent is what this device made ready, not what came out of
/// the tree: nothing comes out when something new is made, and as long as the tree still has what the
/// index says, the exchange has not happened.
fn is_our_own(disk: &dyn Disk, item: &RecoverItem) -> bool {
    match item.intent.kind {
        IntentKind::Create => true,
        IntentKind::Delete => false,
        IntentKind::Replace => {
            let there = disk.stat(&Place::Tree(item.intent.path.clone()));
            match (there, item.here) {
                (Ok(Some(there)), Some(here)) => there.same_contents(&here),
                _ => false,
            }
        }
    }
}
