//! Changing the tree, a group at a time, in the order of rule E12.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
};

use tree::{
    Disk, Place, Stat,
    apply::{self, ApplyError, HistoryName, Why},
};
use wire::RelPath;

use super::{Change, ChangeDone, Changed, Expected, Making, StagedFrom, What, build::Builds};
use crate::content::ContentReader;

/// Up to this many files are made durable one by one, more with one `syncfs` (rule E12).
const SYNC_EACH: usize = 32;

/// A change whose new contents are ready in `.kin/swap`.
struct Ready {
    change: Change,
    /// Its stat, if it is known.
    staged: Result<Option<Stat>, ApplyError>,
    /// Where it is, if that is in a directory that is being built.
    built: Option<Place>,
}

impl Ready {
    /// Makes new contents ready: in the directory that they are for, if that is being built, else by themselves.
    fn new(disk: &dyn Disk, builds: &mut Builds, change: Change, sync: bool) -> Self {
        builds.begin(disk, &change);
        if let Some(place) = builds.place_for(&change) {
            match stage(disk, &place, &change, sync) {
                // A link has no handle; once it is in the tree, somebody may have put another in its place.
                Ok(staged) => match staged.map_or_else(|| disk.stat(&place), |it| Ok(Some(it))) {
                    Ok(Some(stat)) => {
                        return Self { change, staged: Ok(Some(stat)), built: Some(place) };
                    }
                    Ok(None) | Err(_) => unstage(disk, &place, &change),
                },
                Err(_) => unstage(disk, &place, &change),
            }
        }
        let staged = match &change.what {
            What::Place { swap, .. } => stage(disk, &Place::Swap(*swap), &change, sync),
            _ => Ok(None),
        };
        Self { change, staged, built: None }
    }

    /// Takes what is ready out of the directory that was built for it, so that it is put in place by itself.
    fn take_out(&mut self, disk: &dyn Disk) {
        let (Some(place), What::Place { swap, .. }) = (&self.built, &self.change.what) else {
            return;
        };
        if self.staged.is_err() {
            return;
        }
        match disk.rename_new(place, &Place::Swap(*swap)) {
            // Its ctime is another now.
            Ok(()) => self.built = None,
            Err(error) => {
                self.staged = Err(ApplyError::io("put in place", &self.change.path, error));
            }
        }
    }
}

/// Changes the tree in the order of rule E12. The intents are durable already; the index follows.
pub(super) fn apply_group(disk: &dyn Disk, changes: Vec<Change>) -> Vec<Changed> {
    let many = changes.len() > SYNC_EACH;
    let mut builds = Builds::of(disk, &changes);
    let staged_any = changes.iter().any(|change| matches!(change.what, What::Place { .. }));
    let ready = |change| Ready::new(disk, &mut builds, change, !many);
    let mut ready: VecDeque<Ready> = changes.into_iter().map(ready).collect();
    if many
        && staged_any
        && let Err(error) = disk.sync_all()
    {
        for item in &mut ready {
            item.staged = Err(not_durable(&item.change.path, &error));
        }
    }
    let mut dirs = BTreeSet::new();
    // What met an edit came out, and went back: that it is back must last, too, for its intent goes.
    let mut went_back = BTreeSet::new();
    let mut final_modes = Vec::new();
    let mut results = Vec::with_capacity(ready.len());
    while let Some(item) = ready.pop_front() {
        move_in(disk, &mut builds, &item, &mut ready);
        let Ready { change, staged, built } = item;
        let is_in = change.path.parent().is_some_and(|dir| builds.has_moved(&dir));
        let result = staged.and_then(|staged| match (&built, &change.what) {
            (Some(_), _) if is_in => Ok(ChangeDone { stat: staged, ..ChangeDone::default() }),
            (_, What::MakeDir { mode, .. }) if builds.has_moved(&change.path) => {
                let stat = made_dir(disk, &change.path, *mode, &mut final_modes)?;
                if stat.is_none() {
                    builds.is_gone(&change.path);
                }
                Ok(ChangeDone { stat, ..ChangeDone::default() })
            }
            _ => swap_in(disk, &change, staged, &mut final_modes),
        });
        // What could not be put back is the user's, and lies where ours was made ready.
        let is_users = matches!(&result, Err(ApplyError::Changed { kept_at: Some(_), .. }));
        if let (Err(_), false, What::Place { swap, .. }) = (&result, is_users, &change.what) {
            unstage(disk, &built.unwrap_or(Place::Swap(*swap)), &change);
        }
        if (result.is_ok() || is_users) && !matches!(change.what, What::Meta { .. }) {
            dirs.extend(change.path.parent());
        } else if may_come_out(&change.what) {
            went_back.extend(change.path.parent());
        }
        results.push(Changed { path: change.path, result });
    }
    builds.clear_all(disk);
    for (path, mode) in final_modes {
        set_final_mode(disk, &path, mode, &mut results);
    }
    let synced = if dirs.len() > SYNC_EACH {
        disk.sync_all()
    } else {
        for dir in went_back.difference(&dirs) {
            if let Err(error) = disk.sync_dir(dir) {
                tracing::debug!(%error, %dir, "what could not be changed there may not be durable");
            }
        }
        // A directory that is gone again was removed by this very group; its parent is in the set.
        dirs.iter().try_for_each(|dir| match disk.sync_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        })
    };
    if let Err(error) = synced {
        for changed in &mut results {
            // Done but perhaps not durable: the index must not say it is. The next scan finds it.
            changed.result = Err(not_durable(&changed.path, &error));
        }
    }
    results
}

/// True for changes that take something out of the tree.
fn may_come_out(what: &What) -> bool {
    match what {
        What::Place { room, .. } | What::MakeDir { room, .. } => room.is_some(),
        What::Remove { .. } => true,
        What::Meta { .. } | What::RemoveDir => false,
    }
}

/// Moves in the directory that was built at the path of a change, if one was. Where that cannot be, what is ready in
/// it, `rest`, is taken out.
fn move_in(disk: &dyn Disk, builds: &mut Builds, item: &Ready, rest: &mut VecDeque<Ready>) {
    let path = &item.change.path;
    let is_ready = item.staged.is_ok() && matches!(item.change.what, What::MakeDir { .. });
    let Some(Err(error)) = is_ready.then(|| builds.move_in(disk, path)).flatten() else { return };
    tracing::debug!(%error, %path, "a directory that was built cannot be moved in");
    rest.iter_mut()
        .filter(|item| path.contains(&item.change.path))
        .for_each(|item| item.take_out(disk));
    builds.clear(disk, path);
}

fn not_durable(path: &RelPath, error: &io::Error) -> ApplyError {
    let error = io::Error::new(error.kind(), error.to_string());
    ApplyError::io("make durable", path, error)
}

/// Directory modes come last, since they may forbid what had to be done inside (rule E10).
fn set_final_mode(disk: &dyn Disk, path: &RelPath, mode: u32, results: &mut [Changed]) {
    let place = Place::Tree(path.clone());
    let try_set = || {
        let Some(stat) = disk.stat(&place)? else { return Ok(None) };
        // Somebody has given it another mode meanwhile: that is a change, and stays.
        if apply::as_set(disk, path, stat, mode | 0o700).mode == stat.mode {
            disk.set_meta(path, stat.inode, mode, None)?;
        }
        Ok(disk.stat(&place)?.map(|stat| apply::as_set(disk, path, stat, mode)))
    };
    // Gone again already, it is decided anew.
    let set: io::Result<Option<Stat>> = try_set();
    if let Some(changed) = results.iter_mut().find(|changed| changed.path == *path) {
        changed.result = match set {
            Ok(stat) => {
                let done = changed.result.as_ref().ok();
                let copy = done.and_then(|done| done.copy);
                let out = done.and_then(|done| done.out.clone());
                Ok(ChangeDone { stat, copy, out })
            }
            Err(error) => Err(ApplyError::io("set the mode of", path, error)),
        };
    }
}

/// Makes new contents ready at a place in `.kin/swap`, durable if `sync` says so. The stat of what is no link.
fn stage(
    disk: &dyn Disk,
    place: &Place,
    change: &Change,
    sync: bool,
) -> Result<Option<Stat>, ApplyError> {
    let What::Place { from, mode, mtime, .. } = &change.what else { return Ok(None) };
    let make = || {
        let file = match from {
            StagedFrom::Link(target) => {
                return disk.make_symlink(place, target, *mtime).map(|()| None);
            }
            StagedFrom::Bytes(bytes) => {
                let file = disk.open_own(place)?;
                file.write_at(bytes, 0)?;
                file
            }
            StagedFrom::Partial(content) => {
                disk.rename_new(&Place::Partial(*content), place)?;
                disk.open_own(place)?
            }
        };
        file.set_meta(*mode, *mtime)?;
        if sync {
            file.sync()?;
        }
        file.stat().map(Some)
    };
    make().map_err(|error| ApplyError::io("write", &change.path, error))
}

/// Clears away what was made ready but could not be placed; a download is kept.
fn unstage(disk: &dyn Disk, place: &Place, change: &Change) {
    let What::Place { from, .. } = &change.what else { return };
    let cleared = match from {
        StagedFrom::Partial(content) => super::recover::to_partial(disk, place, *content),
        StagedFrom::Bytes(_) | StagedFrom::Link(_) => disk.unlink_own(place),
    };
    if let Err(error) = cleared
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a temporary file stays in .kin/swap until the next start");
    }
}

/// Makes a change, opening a directory that its owner made unwritable for as long as it takes (rule
/// E10).
fn swap_in(
    disk: &dyn Disk,
    change: &Change,
    staged: Option<Stat>,
    final_modes: &mut Vec<(RelPath, u32)>,
) -> Result<ChangeDone, ApplyError> {
    let result = match try_change(disk, change, staged, final_modes) {
        Err(ApplyError::Io { operation, path, source })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            let dir = change.path.parent().unwrap_or_default();
            let opened = apply::Writable::open(disk, &dir)?;
            if opened.was_closed() {
                let result = try_change(disk, change, staged, final_modes);
                opened.close()?;
                result
            } else {
                Err(ApplyError::Io { operation, path, source })
            }
        }
        other => other,
    };
    if let Err(ApplyError::Changed { path, kept_at: Some(place) }) = &result {
        // The user's, and its name was taken meanwhile: it becomes a copy beside it.
        let inode = disk.stat(place).ok().flatten().map_or(0, |stat| stat.inode);
        let copy = apply::conflict_name(path, 0, inode << 32);
        if let Err(error) = disk.rename_new(place, &Place::Tree(copy.clone()))
            && !(is_homeless(&error) && to_the_top(disk, place, &copy))
        {
            tracing::warn!(%error, "an edit that lost its name stays in .kin/swap until the next start");
        }
    }
    result
}

fn try_change(
    disk: &dyn Disk,
    change: &Change,
    staged: Option<Stat>,
    final_modes: &mut Vec<(RelPath, u32)>,
) -> Result<ChangeDone, ApplyError> {
    let path = &change.path;
    match &change.what {
        What::Place { swap, room: None, .. } => {
            let place = Place::Swap(*swap);
            let stat = match staged {
                Some(staged) => apply::place_known(disk, &place, path, staged)?,
                None => apply::place_new(disk, &place, path)?,
            };
            Ok(ChangeDone { stat: Some(stat), ..ChangeDone::default() })
        }
        What::Place { swap, room: Some(room), .. } => {
            let out = Place::Swap(*swap);
            let stat = with_expected(&room.expected, &|expected| {
                apply::replace(disk, &out, path, expected)
            })?;
            let (copy, out) = keep(disk, &out, path, &room.making);
            Ok(ChangeDone { stat: Some(stat), copy, out })
        }
        What::MakeDir { swap, mode, room } => {
            let out = Place::Swap(*swap);
            if let Some(room) = room {
                with_expected(&room.expected, &|expected| {
                    apply::remove(disk, path, expected, &out)
                })?;
            }
            let failed = |error| ApplyError::io("make the directory", path, error);
            if let Err(error) = disk.make_dir(path, mode | 0o700) {
                // What made room for it goes back: nobody has deleted it.
                if room.is_some() && disk.rename_new(&out, &Place::Tree(path.clone())).is_err() {
                    let kept_at = Some(out);
                    return Err(ApplyError::Changed { path: path.clone(), kept_at });
                }
                return Err(failed(error));
            }
            let kept = room.as_ref().map(|room| keep(disk, &out, path, &room.making));
            let (copy, out) = kept.unwrap_or_default();
            let stat = made_dir(disk, path, *mode, final_modes)?;
            Ok(ChangeDone { stat, copy, out })
        }
        What::Meta { expected, mode, mtime } => {
            let stat = with_expected(expected, &|expected| {
                apply::set_meta_checked(disk, path, expected, *mode, *mtime)
            })?;
            Ok(ChangeDone { stat: Some(stat), ..ChangeDone::default() })
        }
        What::Remove { swap, expected, history } => {
            let out = Place::Swap(*swap);
            with_expected(expected, &|expected| apply::remove(disk, path, expected, &out))?;
            let (_, out) = keep(disk, &out, path, &Making::History(history.clone()));
            Ok(ChangeDone { out, ..ChangeDone::default() })
        }
        What::RemoveDir => match disk.remove_dir(path) {
            Ok(()) => Ok(ChangeDone::default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ChangeDone::default()),
            Err(error) => Err(ApplyError::io("remove the directory", path, error)),
        },
    }
}

/// The stat of a directory that was just made, and is to have this mode in the end.
fn made_dir(
    disk: &dyn Disk,
    path: &RelPath,
    mode: u32,
    final_modes: &mut Vec<(RelPath, u32)>,
) -> Result<Option<Stat>, ApplyError> {
    if mode | 0o700 != mode {
        final_modes.push((path.clone(), mode));
    }
    let stat = disk.stat(&Place::Tree(path.clone()));
    let stat = stat.map_err(|error| ApplyError::io("make the directory", path, error))?;
    Ok(stat.map(|stat| apply::as_set(disk, path, stat, mode | 0o700)))
}

/// Calls `act` with what must be there, reading the contents again where the stat could hide an edit
/// (rule E13).
fn with_expected<T>(expected: &Expected, act: &dyn Fn(&apply::Expected<'_>) -> T) -> T {
    let Some(content) = expected.content else {
        return act(&apply::Expected::stat(expected.stat));
    };
    let verify = |disk: &dyn Disk, place: &Place| -> io::Result<bool> {
        let file = disk.open(place)?;
        let stat = file.stat()?;
        let hashed = ContentReader::new().read(&*file, &stat);
        Ok(hashed.is_ok_and(|hashed| hashed.content == content))
    };
    act(&apply::Expected { stat: expected.stat, verify: Some(&verify) })
}

/// Puts what came out where it is kept, and returns the conflict copy's stat if there is one, or else the
/// place in `.kin`. The change itself is made by now: where this fails, what came out stays in
/// `.kin/swap`, and the next start puts it into history (rule E14).
fn keep(
    disk: &dyn Disk,
    out: &Place,
    path: &RelPath,
    making: &Making,
) -> (Option<Stat>, Option<Place>) {
    if let Making::Copy(copy) = making {
        let place = Place::Tree(copy.clone());
        match disk.rename_new(out, &place) {
            Ok(()) => return (disk.stat(&place).ok().flatten(), None),
            Err(error) if is_homeless(&error) && to_the_top(disk, out, copy) => {
                return (None, None);
            }
            // Something of that name is there: whatever it is, this is kept as well.
            Err(_) => {}
        }
    }
    let history = match making {
        Making::History(history) => history.clone(),
        Making::Copy(_) => {
            // Its ctime is that of its way out of the tree, a moment ago.
            let stat = disk.stat(out).ok().flatten();
            let (time, inode) = stat.map_or((0, 0), |stat| (stat.ctime / 1_000_000, stat.inode));
            let time = u64::try_from(time).unwrap_or(0);
            HistoryName::new(path, time, inode << 32, Why::Conflict)
        }
    };
    match to_history(disk, out, &history) {
        Ok(place) => (None, Some(place)),
        Err(error) => {
            tracing::warn!(%error, "old contents stay in .kin/swap until the next start");
            (None, Some(out.clone()))
        }
    }
}

/// True if a directory is not there any more.
pub(super) fn is_homeless(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Moves a conflict copy, whose directory somebody has moved away meanwhile, to the top of the tree, where it is
/// found like anything new.
fn to_the_top(disk: &dyn Disk, out: &Place, copy: &RelPath) -> bool {
    let Ok(top) = RelPath::root().join(copy.name()) else { return false };
    let moved = disk.rename_new(out, &Place::Tree(top));
    moved.and_then(|()| disk.sync_dir(&RelPath::root())).is_ok()
}

/// Moves something of the user's from `.kin/swap` to history, a moment later if its name is taken, and
/// returns where it is.
pub(super) fn to_history(
    disk: &dyn Disk,
    out: &Place,
    history: &HistoryName,
) -> Result<Place, ApplyError> {
    let path = &history.path;
    for later in 0..100 {
        let name = HistoryName { time: history.time + later, ..history.clone() };
        let place = Place::History(name.place());
        match disk.rename_new(out, &place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(()) => return Ok(place),
            Err(error) => return Err(ApplyError::io("keep the old", path, error)),
        }
    }
    Err(ApplyError::Occupied { path: path.clone() })
}
