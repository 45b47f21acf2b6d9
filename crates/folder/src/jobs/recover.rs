//! What an interrupted run left in `.kin/swap` (rule E14): nothing of the user's is removed.

use std::io;

use tree::{
    Disk, FileKind, Place, Stat,
    apply::{self, ApplyError, HistoryName, Why},
};
use wire::{Hash, RelPath, record::Body};

use super::{RecoverItem, apply::to_history, why};
use crate::{
    content::{CHUNKED_FROM, ContentReader},
    index::IntentKind,
};

/// How long an unfinished download is kept (rule E14): seven days in nanoseconds.
const KEEP_PARTIAL_NS: i64 = 7 * 24 * 3600 * 1_000_000_000;
/// The mode of a file that is being made ready and not finished.
const UNFINISHED: u32 = 0o600;

/// What came of looking through `.kin`.
#[derive(Default)]
pub(super) struct Recovered {
    /// What needs a person, and why.
    pub(super) skipped: Vec<(String, String)>,
    /// Paths that an apply emptied and that could not be filled again.
    pub(super) emptied: Vec<RelPath>,
    /// Small contents that are in `.kin/partial`.
    pub(super) whole: Vec<Hash>,
}

/// What lies in `.kin/swap`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// What this device made ready.
    Ours,
    /// What the index says was at the path.
    Old,
    /// Perhaps made ready here and cut short, in any case nothing that anybody has finished.
    Torn,
    /// An edit that the index does not know: it came out, and the run stopped before it was put back.
    Edit,
}

/// Deals with what an interrupted apply left in `.kin/swap`: our own temporary files go, a path that was
/// emptied and not filled gets back what it had, what else was the user's goes to history or becomes a
/// conflict copy (rule E14). Downloads that nobody came back to for a week go too.
pub(super) fn recover(disk: &dyn Disk, items: &[RecoverItem], now: i64) -> Recovered {
    let mut recovered = Recovered::default();
    let own = match disk.own_files() {
        Ok(own) => own,
        Err(error) => {
            recovered.skipped.push((wire::path::STATE_DIR.to_owned(), why(&error)));
            recovered.emptied.extend(items.iter().map(|item| item.intent.path.clone()));
            return recovered;
        }
    };
    let mut was_cut_short = !items.is_empty();
    for (place, stat) in own {
        let (Place::Swap(number) | Place::Built(number, _)) = &place else {
            // A copy from history bears the mtime of the original: its ctime tells that it is new.
            let abandoned = now.saturating_sub(stat.mtime.max(stat.ctime)) > KEEP_PARTIAL_NS;
            if abandoned && let Err(error) = disk.unlink_own(&place) {
                tracing::warn!(%error, "an abandoned download or copy stays in .kin");
            } else if let (false, Place::Partial(content)) = (abandoned, &place)
                && stat.size < CHUNKED_FROM
            {
                recovered.whole.push(*content);
            }
            continue;
        };
        was_cut_short = true;
        let result = match item_of(items, &place) {
            // A directory that was being built (rule E16); what was in it was dealt with before.
            _ if stat.kind == FileKind::Dir => {
                let removed = disk.remove_own_dir(&place);
                removed.map_err(|error| ApplyError::io("clear away", &RelPath::root(), error))
            }
            Some(item) => {
                let result = settle(disk, &place, &stat, item, now);
                if disk.stat(&Place::Partial(item.intent.content)).is_ok_and(|it| it.is_some()) {
                    recovered.whole.push(item.intent.content);
                }
                if result.is_err() {
                    recovered.emptied.push(item.intent.path.clone());
                }
                result
            }
            None => {
                let path = RelPath::parse("recovered").unwrap_or_default();
                into_history(disk, &place, &path, *number, (now, Why::Recovered))
            }
        };
        if let Err(error) = result {
            let mut name = format!("{}/swap/{number:016x}", wire::path::STATE_DIR);
            if let Place::Built(_, path) = &place {
                name += &format!("/{path}");
            }
            recovered.skipped.push((name, error.to_string()));
        }
    }
    // The scan that follows says what is in the tree now: after a loss of power that must still be so, else it is
    // taken for a deletion (rule E12).
    if was_cut_short && let Err(error) = disk.sync_all() {
        recovered.skipped.push((wire::path::STATE_DIR.to_owned(), why(&error)));
    }
    for (dir, mode) in items.iter().filter_map(|item| item.parent.as_ref()) {
        close_again(disk, dir, *mode);
    }
    recovered
}

/// The apply that a place in `.kin/swap` was used for.
fn item_of<'a>(items: &'a [RecoverItem], place: &Place) -> Option<&'a RecoverItem> {
    let Place::Built(number, within) = place else {
        return items.iter().find(|item| holds(item, place));
    };
    let is_top = |item: &&RecoverItem| item.intent.swap == *number && item.intent.makes_dir();
    let top = &items.iter().find(is_top)?.intent.path;
    let path = RelPath::parse(&format!("{top}/{within}")).ok()?;
    let is_it =
        |item: &&RecoverItem| item.intent.path == path && item.intent.kind == IntentKind::Create;
    items.iter().find(is_it)
}

/// True if a place in `.kin/swap` is one that the apply of an intent used.
fn holds(item: &RecoverItem, place: &Place) -> bool {
    let staged = Place::Swap(item.intent.swap);
    *place == staged || *place == apply::aside_of(&staged, &item.intent.path)
}

/// Puts what lies in `.kin/swap` for an intent where it belongs.
fn settle(
    disk: &dyn Disk,
    place: &Place,
    stat: &Stat,
    item: &RecoverItem,
    now: i64,
) -> Result<(), ApplyError> {
    let path = &item.intent.path;
    let found = what_it_is(disk, place, stat, item);
    if found == Found::Ours {
        return give_back(disk, place, stat, item)
            .map_err(|error| ApplyError::io("clear away", path, error));
    }
    // A deletion that was made stays made; what was to be replaced and is not is there again.
    let undo = found == Found::Edit
        || found == Found::Old
            && item.intent.kind == IntentKind::Replace
            && !is_exchanged(place, item);
    if undo && disk.rename_new(place, &Place::Tree(path.clone())).is_ok() {
        return Ok(());
    }
    let copy = match found {
        Found::Old => item.copy.clone(),
        Found::Edit => Some(apply::conflict_name(path, 0, stat.inode << 32)),
        Found::Ours | Found::Torn => None,
    };
    if copy.is_some_and(|copy| disk.rename_new(place, &Place::Tree(copy)).is_ok()) {
        return Ok(());
    }
    into_history(disk, place, path, item.intent.swap, (now, why_kept(found, item)))
}

/// True for a place that old contents reach only in one step with the new ones, so that an empty path is
/// somebody's deletion of the new ones.
fn is_exchanged(place: &Place, item: &RecoverItem) -> bool {
    *place == Place::Swap(item.intent.swap) && !item.intent.makes_dir()
}

/// Why something is kept. Only what the index knew, and what was replaced or deleted by somebody who had seen
/// it, may ever be cleared away (rule E17).
fn why_kept(found: Found, item: &RecoverItem) -> Why {
    match (found, item.intent.kind) {
        (Found::Edit, _) => Why::Conflict,
        (Found::Old, _) if item.copy.is_some() => Why::Conflict,
        (Found::Old, IntentKind::Delete) => Why::Deleted,
        (Found::Old, IntentKind::Replace) => Why::Replaced,
        _ => Why::Recovered,
    }
}

fn into_history(
    disk: &dyn Disk,
    place: &Place,
    path: &RelPath,
    number: u64,
    (now, why): (i64, Why),
) -> Result<(), ApplyError> {
    let time = u64::try_from(now / 1_000_000).unwrap_or(0);
    to_history(disk, place, &HistoryName::new(path, time, number, why)).map(drop)
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

/// Our own temporary file goes. If it is whole, it becomes a download that is done: it need not come twice, and
/// by now nobody else may have it.
fn give_back(disk: &dyn Disk, place: &Place, stat: &Stat, item: &RecoverItem) -> io::Result<()> {
    let is_file = stat.kind == FileKind::File && stat.size > 0;
    if is_file
        && (stat.size >= CHUNKED_FROM || is_incoming(disk, place, stat, item).unwrap_or(false))
        && to_partial(disk, place, item.intent.content).is_ok()
    {
        return Ok(());
    }
    disk.unlink_own(place)
}

/// Makes a download of what is whole. What is of that name already is perhaps not.
pub(super) fn to_partial(disk: &dyn Disk, place: &Place, content: Hash) -> io::Result<()> {
    let partial = Place::Partial(content);
    match disk.rename_new(place, &partial) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.unlink_own(&partial)?;
            disk.rename_new(place, &partial)
        }
        other => other,
    }
}

/// Tells what this device made ready from what came out of the tree. Nothing comes out when something new
/// is made, and as long as the tree still has what the index says, nothing has come out either, unless that
/// is what an earlier recovery found there. For a directory nothing is made ready.
fn what_it_is(disk: &dyn Disk, place: &Place, stat: &Stat, item: &RecoverItem) -> Found {
    if item.intent.kind == IntentKind::Create {
        return Found::Ours;
    }
    let Some(here) = item.here else { return Found::Torn };
    if stat.same_contents(&here) {
        return Found::Old;
    }
    if item.intent.kind != IntentKind::Replace || item.intent.makes_dir() {
        return Found::Edit;
    }
    if is_incoming(disk, place, stat, item).unwrap_or(false) {
        return Found::Ours;
    }
    let there = disk.stat(&Place::Tree(item.intent.path.clone()));
    let untouched = there.is_ok_and(|there| there.is_some_and(|it| it.same_contents(&here)));
    let unfinished = stat.mode == UNFINISHED && here.mode != UNFINISHED;
    let as_incoming = stat.kind == FileKind::File && item.mtime == Some(stat.mtime);
    match (untouched, unfinished || as_incoming) {
        (true, _) if unfinished || stat.size == 0 => Found::Ours,
        (true, _) | (false, true) => Found::Torn,
        (false, false) => Found::Edit,
    }
}

/// True if the contents are those that were to come.
fn is_incoming(
    disk: &dyn Disk,
    place: &Place,
    stat: &Stat,
    item: &RecoverItem,
) -> io::Result<bool> {
    let content = match stat.kind {
        FileKind::Symlink => Body::Symlink { target: disk.read_link(place)? }.content(),
        FileKind::File => {
            let file = disk.open(place)?;
            let read = ContentReader::new().read(&*file, stat);
            read.map_err(|error| io::Error::other(error.to_string()))?.content
        }
        FileKind::Dir | FileKind::Special | FileKind::MountPoint => return Ok(false),
    };
    Ok(content == item.intent.content)
}
