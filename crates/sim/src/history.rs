//! What users do on their devices; and playing a history, with the oracle that judges what came of it.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};

use folder::brake::Limit;
use wire::{Hash, RelPath};

use crate::{
    disk::{Fold, Node, VirtualDisk},
    fault::Fault,
    mutant::Mutation,
    plan::{Action, Plan, Step},
    rng::Rng,
    world::World,
};

/// Contents that users wrote, each with true if somebody who saw it replaced or deleted it.
pub type Written = BTreeMap<Vec<u8>, bool>;

/// One thing a user does.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Writes a file in place.
    Write(String, Vec<u8>),
    /// Writes a new file and renames it over the old one, as editors do.
    SaveByRename(String, Vec<u8>),
    /// Adds to a file.
    Append(String, Vec<u8>),
    /// Removes a path and what is below it.
    Remove(String),
    /// Renames a path.
    Rename(String, String),
    /// Makes a directory.
    MakeDir(String),
    /// Changes permission bits.
    Chmod(String, u32),
    /// Makes a symbolic link.
    Link(String, String),
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(path, bytes) => write!(f, "write {path} ({})", show(bytes)),
            Self::SaveByRename(path, bytes) => write!(f, "save {path} ({})", show(bytes)),
            Self::Append(path, bytes) => write!(f, "append {path} ({})", show(bytes)),
            Self::Remove(path) => write!(f, "remove {path}"),
            Self::Rename(from, to) => write!(f, "rename {from} to {to}"),
            Self::MakeDir(path) => write!(f, "mkdir {path}"),
            Self::Chmod(path, mode) => write!(f, "chmod {mode:o} {path}"),
            Self::Link(path, target) => write!(f, "link {path} to {target}"),
        }
    }
}

fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).into_owned();
    if bytes.len() > 24 { format!("{text}…, {} bytes", bytes.len()) } else { text }
}

impl Edit {
    /// The path that is not there any more once it is done, if there is one.
    pub(crate) fn removes(&self) -> Option<&str> {
        match self {
            Self::Remove(path) | Self::Rename(path, _) => Some(path),
            _ => None,
        }
    }

    /// Does it. Returns the paths that a watcher would name, or `None` if it cannot be done.
    pub fn carry_out(&self, disk: &VirtualDisk, written: &mut Written) -> Option<Vec<RelPath>> {
        let path = |path: &str| RelPath::parse(path).ok();
        match self {
            Self::Write(at, bytes) => {
                let before = disk.contents(at);
                disk.write_file(at, bytes).ok()?;
                note_replaced(written, before);
                written.insert(bytes.clone(), false);
                with_parents(&path(at)?)
            }
            Self::SaveByRename(at, bytes) => {
                let before = disk.contents(at);
                disk.save_by_rename(at, bytes).ok()?;
                note_replaced(written, before);
                written.insert(bytes.clone(), false);
                with_parents(&path(at)?)
            }
            Self::Append(at, bytes) => {
                let before = disk.contents(at);
                disk.append(at, bytes).ok()?;
                note_replaced(written, before);
                written.insert(disk.contents(at)?.to_vec(), false);
                with_parents(&path(at)?)
            }
            Self::Remove(at) => {
                let removed = disk.fold().key(at);
                for (name, node) in disk.snapshot() {
                    if let Node::File { contents, .. } = node
                        && is_within(&disk.fold().key(&name), &removed)
                    {
                        note_replaced(written, Some(contents));
                    }
                }
                disk.remove(at).ok()?;
                with_parents(&path(at)?)
            }
            Self::Rename(from, to) => {
                let is_same = disk.fold().key(from) == disk.fold().key(to);
                let before = disk.contents(to).filter(|_| !is_same);
                disk.rename(from, to).ok()?;
                note_replaced(written, before);
                let mut paths = with_parents(&path(to)?)?;
                paths.push(path(from)?);
                Some(paths)
            }
            Self::MakeDir(at) => {
                disk.mkdir(at).ok()?;
                with_parents(&path(at)?)
            }
            Self::Chmod(at, mode) => {
                disk.chmod(at, *mode).ok()?;
                with_parents(&path(at)?)
            }
            Self::Link(at, target) => {
                let before = disk.contents(at);
                disk.symlink(at, target).ok()?;
                note_replaced(written, before);
                with_parents(&path(at)?)
            }
        }
    }
}

pub(crate) fn note_replaced(written: &mut Written, before: Option<Arc<Vec<u8>>>) {
    if let Some(before) = before
        && let Some(replaced) = written.get_mut(&*before)
    {
        *replaced = true;
    }
}

/// The path and all directories above it: some may be new, and their parents are watched.
fn with_parents(path: &RelPath) -> Option<Vec<RelPath>> {
    let mut paths = vec![path.clone()];
    let mut above = path.parent();
    while let Some(dir) = above.filter(|dir| !dir.is_root()) {
        above = dir.parent();
        paths.push(dir);
    }
    Some(paths)
}

/// How long devices may take to agree once edits and faults have ended, in virtual milliseconds (rule of
/// liveness).
const PATIENCE_MS: u64 = 10 * 60 * 1000;
/// Devices look at everything again this often, and somewhat.
const LOOK_MS: u64 = 10 * 60 * 1000 + 5_000;
/// No message is longer under way than this, in virtual milliseconds.
const SLOW_MS: u64 = 10_000;
/// For so long nobody may say anything once all agree, in virtual milliseconds.
const QUIET_MS: u64 = 60_000;

/// Kinds of faults that hide something from a device, so that a history is judged otherwise.
pub(crate) const JUDGED_BY: [Fault; 4] = [Fault::Watch, Fault::Disk, Fault::Races, Fault::Fold];

/// What a seed came to.
#[derive(Debug)]
pub struct Outcome {
    /// Hash over everything that happened: equal seeds, equal hashes.
    pub trace: [u64; 2],
    /// Devices in this history.
    pub devices: usize,
    /// Edits made.
    pub edits: u64,
    /// Conflict copies made.
    pub conflicts: u32,
    /// Old copies of what was deleted, and that had been forgotten (rule E4), that were deleted again.
    pub deleted_again: usize,
    /// What went wrong, if anything.
    pub failure: Option<String>,
}

/// Sets the brakes of a seed's devices apart from all else that is drawn from it.
const BRAKES: u64 = 0xb7a4_e5b7_a4e5_b7a4;

/// Plays a history and judges it.
#[must_use]
pub fn play(plan: &Plan, mutation: Option<Mutation>, verbose: bool) -> Outcome {
    play_in(World::with_faults(plan.seed, &plan.folds, plan.faults, mutation, verbose), plan)
}

/// Plays a history as [`play`] does, but for this: messages are not encoded and decoded again on their way. If
/// that makes a difference, the trace has another hash.
#[must_use]
pub fn play_undecoded(plan: &Plan) -> Outcome {
    let mut world = World::with_faults(plan.seed, &plan.folds, plan.faults, None, false);
    world.undecoded = true;
    play_in(world, plan)
}

fn play_in(mut world: World, plan: &Plan) -> Outcome {
    let mut rng = Rng::new(plan.seed ^ BRAKES);
    if rng.one_in(3) {
        world.agreeable = true;
        for device in &mut world.devices {
            let percent = u8::try_from(rng.below(80)).unwrap_or(0);
            device.brake = Limit { files: rng.below(4), percent };
        }
    }
    if !plan.roles.is_empty() {
        world.make_group(&plan.roles);
    }
    for step in &plan.steps {
        world.plan(plan.time_of(step.at), step.what.clone());
    }
    let failure = judge(&mut world, plan).err();
    let conflicts = world.devices.iter().map(|device| device.conflicts).sum();
    let (devices, edits) = (plan.devices(), plan.edits());
    let (trace, deleted_again) = (world.trace_hash(), world.deleted_again.len());
    Outcome { trace, devices, edits, conflicts, deleted_again, failure }
}

/// Ends all faults, lets devices come to rest, and looks at what came of it. A failure begins with its kind
/// and a colon.
fn judge(world: &mut World, plan: &Plan) -> Result<(), String> {
    if let Some(at) = plan.years {
        world.run_until(at)?;
        world.pass_years(plan)?;
    }
    let end = plan.time_of(plan.end);
    world.run_until(end)?;
    world.heal();
    for device in (0..plan.folds.len()).filter(|device| plan.has(*device)) {
        world.start(device)?;
    }
    let links = match plan.roles.is_empty() {
        true => plan.links.clone(),
        false => world.all_hear()?,
    };
    for (a, b) in links.into_iter().filter(|(a, b)| plan.has(*a) && plan.has(*b)) {
        world.plan(end, Action::Connect(a, b));
    }
    // What a watcher or a broken disk kept from a device is found by the next look at everything.
    let mut time = end + 100;
    if JUDGED_BY.iter().any(|fault| plan.faults.has(*fault)) {
        time += LOOK_MS;
    }
    world.run_until(time)?;
    converge(world, plan, &mut time)?;
    if !plan.roles.is_empty() {
        world.nobody_is_apart(plan.seed.is_multiple_of(2))?;
        time += 500;
        world.run_until(time)?;
        converge(world, plan, &mut time)?;
    }
    // Nothing may happen by itself any more.
    world.run_until(time + SLOW_MS)?;
    let messages = world.messages;
    world.run_until(time + SLOW_MS + QUIET_MS)?;
    if world.messages > messages {
        let more = world.messages - messages;
        return Err(format!("no rest: {more} messages between devices that agree"));
    }
    let difference = unlike(world, plan);
    if !difference.is_empty() {
        return Err(format!("different trees: though records are equal{difference}"));
    }
    // While a content is waited for that nobody has, nobody is in sync (rule E25).
    let complete = world.skipped.is_empty();
    let untold = |device: &usize| {
        plan.has(*device) && world.is_member(*device) && !world.devices[*device].in_sync
    };
    if complete && let Some(device) = (0..plan.folds.len()).find(untold) {
        return Err(format!("not told: device {device} never said that it is in sync"));
    }
    if world.undecoded {
        // The first play of this history was judged.
        return Ok(());
    }
    if plan.roles.is_empty() {
        // What was void is removed as well (rule E7).
        removes_only_what_users_did(world)?;
    }
    says_why_twins_lack(world)?;
    deletes_again_what_was_deleted(world)?;
    keeps_everything(world, plan)
}

/// What was taken for an old copy of something deleted, some user had deleted or replaced, or it is somewhere else.
fn deletes_again_what_was_deleted(world: &World) -> Result<(), String> {
    if world.deleted_again.is_empty() {
        return Ok(());
    }
    let trees = world.devices.iter().flat_map(|device| device.disk.snapshot().into_values());
    let shown = trees.filter_map(|node| match node {
        Node::File { contents, .. } => Some(Hash::of(&contents)),
        _ => None,
    });
    let shown: HashSet<_> = shown.collect();
    let written = world.written();
    let live = written.iter().filter(|(_, replaced)| !**replaced);
    let live: BTreeMap<_, _> = live.map(|(content, _)| (Hash::of(content), content)).collect();
    for (content, path, device) in &world.deleted_again {
        if let Some(bytes) = live.get(content).filter(|_| !shown.contains(content)) {
            let what = show(bytes);
            return Err(format!(
                "not old: {device} deleted {path} again ({what}), which no user had"
            ));
        }
    }
    Ok(())
}

fn converge(world: &mut World, plan: &Plan, time: &mut u64) -> Result<(), String> {
    let patience = *time + PATIENCE_MS;
    while !world.has_converged() {
        if *time > patience {
            return Err(format!(
                "not in step: {PATIENCE_MS} ms after faults ended{}",
                unlike(world, plan)
            ));
        }
        *time += 500;
        world.run_until(*time)?;
    }
    Ok(())
}

/// Whatever an engine removed must have been removed or renamed by a user, or lie above or below that.
fn removes_only_what_users_did(world: &World) -> Result<(), String> {
    let folds = world.devices.iter().any(|device| device.disk.fold() != Fold::None);
    for removed in &world.removed {
        // What a user calls by one name may be there by another.
        let same = |path: &str| {
            if folds { Fold::Case.key(&Fold::Forms.key(path)) } else { path.to_owned() }
        };
        let removed = same(removed);
        let mut asked = world.asked.iter().map(|it| same(it));
        if !asked.any(|it| is_within(&it, &removed) || is_within(&removed, &it)) {
            return Err(format!("unasked: {removed} was removed, which no user did"));
        }
    }
    Ok(())
}

/// What is said not to be here for the sake of a twin is not, and has one; so it is with what would lie below it,
/// and of all of that it is said.
fn says_why_twins_lack(world: &World) -> Result<(), String> {
    for (device, path) in world.twins.iter().filter(|(device, _)| world.is_member(*device)) {
        let disk = &world.devices[*device].disk;
        let (fold, tree) = (disk.fold(), disk.snapshot());
        let key = fold.key(path);
        if tree.contains_key(path) || !tree.keys().any(|other| fold.key(other) == key) {
            return Err(format!("no twin: {path} is said to have one on device {device}"));
        }
        let others = world.devices.iter().enumerate().filter(|(it, _)| world.is_member(*it));
        for shown in others.flat_map(|(_, other)| other.disk.snapshot().into_keys()) {
            // A directory may be there for the sake of what lies below it alone.
            let mut told = world.below_twins.iter().filter(|(it, _)| it == device);
            let told = told.any(|(_, told)| is_within(told, &shown));
            if shown != *path && is_within(&shown, path) && !told && !is_skipped(world, &shown) {
                return Err(format!("untold: device {device} lacks {shown} and does not say so"));
            }
        }
    }
    for (device, path) in world.below_twins.iter().filter(|(it, _)| world.is_member(*it)) {
        if world.devices[*device].disk.snapshot().contains_key(path) {
            return Err(format!("untrue: device {device} is said to lack {path}"));
        }
    }
    Ok(())
}

/// What nobody has replaced or deleted must be in a tree, a conflict copy included; where the disk failed
/// while it was put away, at least in `.kin`.
fn keeps_everything(world: &World, plan: &Plan) -> Result<(), String> {
    let (mut shown, mut kept) = (HashSet::new(), HashSet::new());
    for (number, device) in world.devices.iter().enumerate() {
        // What a stop left in the middle of an apply has neither path nor owner where the index that knew it
        // was taken away: it is kept under a name that says so (rule E14).
        let nameless = plan.steps.iter().any(|step| {
            matches!(
                step.what,
                Action::Restore(it, _) | Action::CopyState(_, it) | Action::DeleteIndex(it)
                    if it == number
            )
        });
        for (path, bytes) in device.disk.all_contents() {
            let recovered = nameless && path.starts_with(".kin/history/recovered");
            if recovered || !path.starts_with(".kin/") {
                shown.insert(Arc::clone(&bytes));
            }
            kept.insert(bytes);
        }
    }
    // Rule E13's second look at what was put away is lost with the process.
    let writes_held = |step: &Step| matches!(step.what, Action::WriteHeld(..));
    let dies = |step: &Step| {
        matches!(step.what, Action::Die { .. } | Action::Stop(_) | Action::RollBack(_))
            || matches!(
                step.what,
                Action::Restore(..) | Action::CopyState(..) | Action::DeleteIndex(_)
            )
    };
    let may_hide = plan.faults.has(Fault::Disk)
        || !plan.roles.is_empty()
        || plan.steps.iter().any(writes_held) && plan.steps.iter().any(dies);
    for (content, replaced) in world.written().iter() {
        if !replaced && !kept.contains(content) {
            return Err(format!("lost: {} is nowhere", show(content)));
        }
        let lost_its_path =
            || world.downloads_set_back.get(content).is_some_and(|path| is_taken(world, path));
        let may_hide = may_hide || world.names_set_back.contains(content) || lost_its_path();
        if !replaced && !may_hide && !shown.contains(content) {
            return Err(format!("hidden: {} is in no tree", show(content)));
        }
    }
    Ok(())
}

/// True if a tree shows something at a path.
fn is_taken(world: &World, path: &str) -> bool {
    world.devices.iter().any(|device| {
        let fold = device.disk.fold();
        device.disk.snapshot().keys().any(|shown| fold.key(shown) == fold.key(path))
    })
}

/// True if an engine has said that this, or what it lies in, cannot come.
fn is_skipped(world: &World, path: &str) -> bool {
    // A directory may be there, or not, only for the sake of a file below it that nobody has any more.
    world.skipped.iter().any(|it| is_within(path, it) || is_within(it, path))
}

/// True if one path is another, or lies below it.
pub(crate) fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How trees differ from the first device's, but for what was said to be skipped; empty if they do not.
fn unlike(world: &World, plan: &Plan) -> String {
    use fmt::Write as _;
    let mut text = String::new();
    let devices = world.devices.iter().enumerate();
    let mut devices = devices.filter(|(number, _)| plan.has(*number) && world.is_member(*number));
    let Some((first_number, first)) = devices.next() else { return text };
    let first = first.disk.snapshot();
    for (number, device) in devices {
        let tree = device.disk.snapshot();
        let paths: std::collections::BTreeSet<_> = first.keys().chain(tree.keys()).collect();
        let lacks = |path: &str| {
            let told = world.twins.iter().filter(|(it, _)| *it == number || *it == first_number);
            told.map(|(_, twin)| twin).any(|twin| is_within(path, twin))
        };
        for path in paths.into_iter().filter(|path| !is_skipped(world, path) && !lacks(path)) {
            let (ours, theirs) = (first.get(path), tree.get(path));
            if ours != theirs {
                // Writing to a String cannot fail.
                let _ = write!(
                    text,
                    "\n    {path}: {} on device {first_number}, {} on device {number}",
                    describe(ours),
                    describe(theirs)
                );
            }
        }
    }
    text
}

fn describe(node: Option<&Node>) -> String {
    match node {
        None => "nothing".to_owned(),
        Some(Node::File { contents, mode, mtime }) => {
            format!("{} (mode {mode:o}, mtime {mtime})", show(contents))
        }
        Some(other) => format!("{other:?}"),
    }
}
