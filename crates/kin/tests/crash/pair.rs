//! Two folders on this machine, brought in step by real processes, and what must hold of them at every moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use lab::{Kin, KinCommand, LONG, trees, trees::Entry};
use serde_json::Value;

use crate::{
    power::Ground,
    tracer::{self, Call, Ended, Then},
};

/// The disk that tests use, or the one that `KIN_CRASH_DIR` names.
pub(crate) fn disk() -> PathBuf {
    std::env::var_os("KIN_CRASH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from)
}

pub(crate) const KIN: &str = env!("CARGO_BIN_EXE_kin");

/// A path with what a file there holds.
pub(crate) type Tree = BTreeMap<PathBuf, (Entry, Option<Vec<u8>>)>;

/// Everything in a folder that travels.
pub(crate) fn tree(folder: &Path) -> Tree {
    let with_contents = |(path, entry): (PathBuf, Entry)| {
        let contents = matches!(entry, Entry::File { .. }).then(|| fs::read(folder.join(&path)));
        (path, (entry, contents.map(|read| read.expect("nobody removes it now"))))
    };
    trees::listing(folder).into_iter().map(with_contents).collect()
}

/// Two folders. In `b`, devices are killed and hindered; the one in `a` is left in peace.
pub(crate) struct Pair {
    _dirs: [tempfile::TempDir; 2],
    home: PathBuf,
    pub(crate) a: PathBuf,
    pub(crate) b: PathBuf,
}

impl Pair {
    /// Two empty folders, the second one on this ground.
    pub(crate) fn new(ground: &Ground) -> Self {
        let disk = disk();
        let dirs = [disk.clone(), ground.dir(&disk)].map(|dir| {
            tempfile::Builder::new().prefix("crash").tempdir_in(dir).expect("there is room")
        });
        let [home, other] =
            [0, 1].map(|at: usize| dirs[at].path().canonicalize().expect("it is there"));
        let (a, b) = (home.join("a"), other.join("b"));
        for dir in [&a, &b] {
            fs::create_dir(dir).expect("there is room");
        }
        Self { _dirs: dirs, home, a, b }
    }

    /// Starts a device in `a`; returns it and the port on which it listens.
    pub(crate) fn start_a(&self) -> Running {
        let folder = self.a.to_str().expect("a plain path");
        let args = ["sync", folder, "--name", "a", "--open", "--no-discovery", "-p", "0", "--json"];
        let mut kin = KinCommand::local(Path::new(KIN), &self.home, &args).start();
        let listening = kin.expect("listening");
        let address = format!("127.0.0.1:{}", listening["port"]);
        Running { _kin: kin, address }
    }

    fn args<'a>(&'a self, a: &'a Running) -> [&'a str; 15] {
        let folder = self.b.to_str().expect("a plain path");
        let [name, peer] = ["b", &a.address];
        [
            "sync",
            folder,
            "--name",
            name,
            "--open",
            "--no-discovery",
            "-p",
            "0",
            "--peer",
            peer,
            "--once",
            "--timeout",
            "60",
            "--json",
            "-v",
        ]
    }

    /// Starts a device in `b` that goes on.
    pub(crate) fn live_b(&self, a: &Running) -> Kin {
        let folder = self.b.to_str().expect("a plain path");
        let open = ["--open", "--no-discovery", "-p", "0"];
        let args = [&["sync", folder, "--name", "b", "--json", "--peer", &a.address][..], &open];
        KinCommand::local(Path::new(KIN), &self.home, &args.concat()).start()
    }

    /// Runs a device in `b` until both agree, deciding about each of its calls on its folder.
    pub(crate) fn traced_b(&self, a: &Running, decide: impl FnMut(&Call) -> Then) -> Ended {
        tracer::run(Path::new(KIN), &self.args(a), &self.home, &self.b, decide)
    }

    /// Runs a device in `b` until both agree.
    #[track_caller]
    pub(crate) fn agree(&self, a: &Running) {
        let mut b = KinCommand::local(Path::new(KIN), &self.home, &self.args(a)).start();
        let code = b.wait(LONG).code();
        let said: Vec<String> = b.seen().map(Value::to_string).collect();
        assert_eq!(code, Some(0), "they do not agree: {}", said.join("\n"));
    }

    /// Both folders hold the same.
    #[track_caller]
    pub(crate) fn assert_equal(&self) {
        trees::assert_same(&self.a, &self.b);
    }

    /// All contents anywhere in `b`, its `.kin` included.
    pub(crate) fn all_in_b(&self) -> BTreeSet<Vec<u8>> {
        contents(&self.b)
    }
}

/// The contents of all files in a folder, `.kin` included.
pub(crate) fn contents(folder: &Path) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![folder.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("it is readable").flatten() {
            let kind = entry.file_type().expect("it is there");
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                found.insert(fs::read(entry.path()).expect("it is readable"));
            }
        }
    }
    found
}

/// The device in `a`, and where it listens. Killed when dropped.
pub(crate) struct Running {
    _kin: Kin,
    address: String,
}

/// What `b` held, and what it is to hold: between the two there is nothing else to be seen.
pub(crate) struct Between {
    before: Tree,
    after: Tree,
    /// What must not be lost: contents that were in `b`, wherever they are in the end.
    kept: BTreeSet<Vec<u8>>,
}

impl Between {
    /// To be made when the edits are made, before the devices meet.
    pub(crate) fn of(pair: &Pair) -> Self {
        let (before, after) = (tree(&pair.b), tree(&pair.a));
        let kept = before.values().filter_map(|(_, contents)| contents.clone()).collect();
        Self { before, after, kept }
    }

    /// The two invariants of design.md, section 2: nothing is lost, nothing is to be seen by halves.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn check(&self, pair: &Pair) -> Result<(), String> {
        let all = pair.all_in_b();
        if let Some(lost) = self.kept.iter().find(|contents| !all.contains(*contents)) {
            return Err(format!("lost: {}", show(lost)));
        }
        let now = tree(&pair.b);
        for path in self.before.keys().chain(self.after.keys()).chain(now.keys()) {
            let [before, after, now] = [&self.before, &self.after, &now].map(|tree| tree.get(path));
            if same(now, before) || same(now, after) || self.is_copy(path, now) {
                continue;
            }
            if between(now, before, after) || is_gap(now, before, after) {
                continue;
            }
            let [before, after, now] = [before, after, now].map(describe);
            return Err(format!("{}: {now}; it was {before}, to be {after}", path.display()));
        }
        Ok(())
    }

    /// What was changed in `a` alone is as it was changed.
    ///
    /// # Errors
    /// What is not.
    pub(crate) fn check_outcome(&self, pair: &Pair) -> Result<(), String> {
        let now = tree(&pair.a);
        for path in self.after.keys().chain(now.keys()) {
            let (now, after) = (now.get(path), self.after.get(path));
            if now != after {
                let [now, after] = [now, after].map(describe);
                return Err(format!("in the end {}: {now} instead of {after}", path.display()));
            }
        }
        Ok(())
    }

    /// A conflict copy is the whole of what either side had.
    fn is_copy(&self, path: &Path, now: Option<&(Entry, Option<Vec<u8>>)>) -> bool {
        let Some((_, Some(contents))) = now else { return false };
        let either = || self.before.values().chain(self.after.values());
        path.to_string_lossy().contains(".conflict-")
            && either().any(|(_, known)| known.as_ref() == Some(contents))
    }
}

/// Equal, but that a directory's mode comes last (rule E10).
fn same(one: Option<&(Entry, Option<Vec<u8>>)>, other: Option<&(Entry, Option<Vec<u8>>)>) -> bool {
    match (one, other) {
        (Some((Entry::Dir { .. }, _)), Some((Entry::Dir { .. }, _))) => true,
        (one, other) => one == other,
    }
}

/// A file made room for a directory that is not there yet: no call does both at once. The intent says so, and
/// the next start goes on; what was there is in `.kin/swap`, as [`Between::check`] has seen.
fn is_gap(
    now: Option<&(Entry, Option<Vec<u8>>)>,
    before: Option<&(Entry, Option<Vec<u8>>)>,
    after: Option<&(Entry, Option<Vec<u8>>)>,
) -> bool {
    let is_dir = |it: Option<&(Entry, _)>| it.is_some_and(|it| matches!(it.0, Entry::Dir { .. }));
    now.is_none() && before.is_some() && !is_dir(before) && is_dir(after)
}

/// The contents have not changed, and mode and time are set one after the other.
fn between(
    now: Option<&(Entry, Option<Vec<u8>>)>,
    before: Option<&(Entry, Option<Vec<u8>>)>,
    after: Option<&(Entry, Option<Vec<u8>>)>,
) -> bool {
    let (Some(now), Some(before), Some(after)) = (now, before, after) else { return false };
    let parts = |entry: &Entry| match entry {
        Entry::File { mode, mtime, .. } => Some((*mode, *mtime)),
        _ => None,
    };
    let [Some(is), Some(was), Some(will)] = [now, before, after].map(|(entry, _)| parts(entry))
    else {
        return false;
    };
    now.1 == before.1
        && now.1 == after.1
        && (is.0 == will.0 || is.0 == was.0)
        && (is.1 == was.1 || is.1 == will.1)
}

fn describe(what: Option<&(Entry, Option<Vec<u8>>)>) -> String {
    match what {
        None => "nothing".to_owned(),
        Some((entry, Some(contents))) => format!("{entry:?} {}", show(contents)),
        Some((entry, None)) => format!("{entry:?}"),
    }
}

fn show(contents: &[u8]) -> String {
    let start = String::from_utf8_lossy(&contents[..contents.len().min(40)]).into_owned();
    format!("{start:?} ({} bytes)", contents.len())
}
