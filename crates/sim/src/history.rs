//! A history: what users do on their devices, and how devices come and go, made up from a seed; and the
//! oracle that judges what came of it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use wire::RelPath;

use crate::{
    disk::{Node, VirtualDisk},
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
                let below = format!("{at}/");
                for (name, node) in disk.snapshot() {
                    if let Node::File { contents, .. } = node
                        && (name == *at || name.starts_with(&below))
                    {
                        note_replaced(written, Some(contents));
                    }
                }
                disk.remove(at).ok()?;
                with_parents(&path(at)?)
            }
            Self::Rename(from, to) => {
                let before = disk.contents(to);
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

fn note_replaced(written: &mut Written, before: Option<Arc<Vec<u8>>>) {
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

const NAMES: [&str; 6] = ["a", "b", "c", "d", "notes.txt", "Ä"];

fn some_path(rng: &mut Rng) -> String {
    let depth = 1 + rng.below(3);
    (0..depth).map(|_| *rng.pick(&NAMES)).collect::<Vec<_>>().join("/")
}

fn some_edit(rng: &mut Rng, number: u64) -> Edit {
    let path = some_path(rng);
    let mut bytes = format!("content {number}").into_bytes();
    match rng.below(24) {
        0..=7 => {
            if rng.one_in(40) {
                // Large enough to be cut into chunks, and unlike any other.
                let mut filler = Rng::new(number);
                while bytes.len() < 1_300_000 {
                    bytes.extend_from_slice(&filler.next().to_le_bytes());
                }
            }
            Edit::Write(path, bytes)
        }
        8..=10 => Edit::SaveByRename(path, bytes),
        11 => Edit::Append(path, bytes),
        12..=15 => Edit::Remove(path),
        16..=18 => Edit::Rename(path, some_path(rng)),
        19 | 20 => Edit::MakeDir(path),
        21 | 22 => Edit::Chmod(path, if rng.one_in(2) { 0o755 } else { 0o700 }),
        _ => Edit::Link(path, some_path(rng)),
    }
}

/// How long devices may take to agree once edits have stopped, in virtual milliseconds (rule of
/// liveness).
const PATIENCE_MS: u64 = 10 * 60 * 1000;

/// What a seed came to.
#[derive(Debug)]
pub struct Outcome {
    /// Hash over everything that happened: equal seeds, equal hashes.
    pub trace: [u8; 32],
    /// Devices in this history.
    pub devices: usize,
    /// Edits made.
    pub edits: u64,
    /// Conflict copies made.
    pub conflicts: u32,
    /// What went wrong, if anything.
    pub failure: Option<String>,
}

/// Plays the history of a seed and judges it.
#[must_use]
pub fn play(seed: u64, verbose: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let devices = usize::try_from(2 + rng.below(4)).unwrap_or(2);
    let mut world = World::new(seed, devices, verbose);
    let mut edits = 0;
    // What is on the disks before anything starts.
    for device in 0..devices {
        for _ in 0..rng.below(6) {
            edits += 1;
            world.plan_edit(0, device, some_edit(&mut rng, edits));
        }
    }
    let end = 500 + rng.below(6_000);
    for device in 0..devices {
        let start = rng.below(1_000);
        world.plan_start(start, device);
        for _ in 0..rng.below(3) {
            let stop = rng.below(end);
            world.plan_stop(stop, device);
            world.plan_start(stop + 1 + rng.below(2_000), device);
        }
    }
    for _ in 0..(10 + rng.below(60)) {
        edits += 1;
        let device = usize::try_from(rng.below(devices as u64)).unwrap_or(0);
        // Edits come in bursts, so that they meet.
        let time = rng.below(end) / 300 * 300 + rng.below(20);
        world.plan_edit(time, device, some_edit(&mut rng, edits));
    }
    // A full mesh now and then, otherwise any way that holds together; links come and go.
    let mesh = rng.one_in(3);
    for b in 1..devices {
        let must = usize::try_from(rng.below(b as u64)).unwrap_or(0);
        for a in 0..b {
            if mesh || a == must || rng.one_in(4) {
                world.plan_connect(rng.below(2_000), a, b);
                for _ in 0..rng.below(3) {
                    let cut = rng.below(end);
                    world.plan_disconnect(cut, a, b);
                    world.plan_connect(cut + 1 + rng.below(2_000), a, b);
                }
                world.plan_connect(end + 2_001, a, b);
            }
        }
    }
    for device in 0..devices {
        world.plan_start(end + 2_000, device);
    }
    let failure = judge(&mut world, end + 2_100);
    let conflicts = world.devices.iter().map(|device| device.conflicts).sum();
    Outcome { trace: world.trace_hash(), devices, edits, conflicts, failure }
}

fn judge(world: &mut World, end: u64) -> Option<String> {
    let mut time = end;
    if let Err(reason) = world.run_until(time) {
        return Some(reason);
    }
    while !world.has_converged() {
        if time > end + PATIENCE_MS {
            return Some(format!(
                "not in step {PATIENCE_MS} ms after the last edit{}",
                unlike(world)
            ));
        }
        time += 500;
        if let Err(reason) = world.run_until(time) {
            return Some(reason);
        }
    }
    // Nothing may happen by itself any more.
    if let Err(reason) = world.run_until(time + 1_000) {
        return Some(reason);
    }
    let difference = unlike(world);
    if !difference.is_empty() {
        return Some(format!("equal records, but different trees{difference}"));
    }
    if let Some(device) = world.devices.iter().position(|device| !device.in_sync) {
        return Some(format!("device {device} never said that it is in sync"));
    }
    for (content, replaced) in &world.written {
        let kept = *replaced
            || world.devices.iter().any(|device| {
                device.disk.all_contents().iter().any(|(_, bytes)| **bytes == *content)
            });
        if !kept {
            return Some(format!("lost: {}", show(content)));
        }
    }
    None
}

/// How trees differ from the first device's; empty if they do not.
fn unlike(world: &World) -> String {
    use fmt::Write as _;
    let mut text = String::new();
    let first = world.devices[0].disk.snapshot();
    for (number, device) in world.devices.iter().enumerate().skip(1) {
        let tree = device.disk.snapshot();
        let paths: std::collections::BTreeSet<_> = first.keys().chain(tree.keys()).collect();
        for path in paths {
            let (ours, theirs) = (first.get(path), tree.get(path));
            if ours != theirs {
                // Writing to a String cannot fail.
                let _ = write!(
                    text,
                    "\n    {path}: {} on device 0, {} on device {number}",
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
