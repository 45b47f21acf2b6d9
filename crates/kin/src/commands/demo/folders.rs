//! The demo's two folders: made, edited, compared and removed below one new temporary directory.
//!
//! A user's own folder is only ever read here, to copy it.
#![expect(
    clippy::disallowed_methods,
    reason = "only below a directory that was made here; what users own goes through crate tree"
)]

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use tree::{Disk, FileKind, Place, Root, Stat, TempDir};
use wire::RelPath;

use crate::error::CommandError;

/// What the sample holds: path and text.
const SAMPLE: [(&str, &str); 4] = [
    ("README.txt", "This folder is kept in step with its twin. Change anything in either.\n"),
    ("letters/anna.txt", "Dear Anna,\n\nno cloud today.\n"),
    ("letters/old/bert.txt", "Dear Bert,\n\nsee you on the local network.\n"),
    ("日本語/ノート.txt", "names in any script travel\n"),
];
/// An empty directory and a symbolic link in the sample.
const SAMPLE_EMPTY_DIR: &str = "empty";
const SAMPLE_LINK: (&str, &str) = ("latest-letter.txt", "letters/anna.txt");
/// Bytes compared at a time.
const BLOCK: usize = 1 << 16;

/// The two folders.
#[derive(Debug)]
pub(super) struct Folders {
    base: TempDir,
    dirs: [PathBuf; 2],
    /// What of the source was left out.
    left_out: u64,
}

impl Folders {
    /// Makes both; the first holds a copy of `source`, or the sample.
    ///
    /// # Errors
    /// If the disk does not let it; what was made is removed again.
    pub(super) fn make(names: [&str; 2], source: Option<&Path>) -> Result<Self, CommandError> {
        let failed = |error: io::Error| {
            CommandError::failed("io", &format!("cannot make the demo's folders: {error}"))
                .hint("TMPDIR says where temporary files go")
        };
        let base = TempDir::create("kin-demo").map_err(failed)?;
        let dirs = names.map(|name| base.path().join(name));
        dirs.iter().try_for_each(fs::create_dir).map_err(failed)?;
        let left_out = match source {
            Some(source) => tree::copy_tree(source, &dirs[0]).map_err(failed)?.skipped,
            None => sample(&dirs[0]).map(|()| 0).map_err(failed)?,
        };
        Ok(Self { base, dirs, left_out })
    }

    /// How many things of the source are not in the copy: what may not be read, or does not travel.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The folder of one device.
    pub(super) fn dir(&self, index: usize) -> &Path {
        &self.dirs[index]
    }

    /// Writes a small file into one folder, as a person would.
    ///
    /// # Errors
    /// If the disk does not let it.
    pub(super) fn edit(&self, index: usize, name: &str) -> Result<(), CommandError> {
        let file = self.dirs[index].join(name);
        fs::write(&file, format!("written in {}\n", self.dirs[index].display()))
            .map_err(|error| CommandError::failed("io", &format!("{}: {error}", file.display())))
    }

    /// Compares both, byte by byte; returns how many paths they hold. Nothing may run in them.
    /// What the first folder ignores, and what was reported as skipped, may be missing in the second.
    ///
    /// # Errors
    /// The first difference.
    pub(super) fn compare(&self, skipped: &[String]) -> Result<usize, CommandError> {
        let [one, other] = &self.dirs;
        let io = |error: io::Error| CommandError::failed("io", &format!("cannot compare: {error}"));
        let open = |dir: &Path| {
            Root::open(dir).map_err(|error| CommandError::failed("demo", &error.to_string()))
        };
        let (one_root, other_root) = (open(one)?, open(other)?);
        let (here, there) = (walk(&one_root).map_err(io)?, walk(&other_root).map_err(io)?);
        let ignored = ignored(one);
        if let Some(path) = there.keys().find(|path| !here.contains_key(*path)) {
            return Err(differ(path, "is only on the desktop"));
        }
        for (path, stat) in &here {
            let Some(found) = there.get(path) else {
                let is_dir = stat.kind == FileKind::Dir;
                let left_out =
                    ignored.matched_path_or_any_parents(path.as_str(), is_dir).is_ignore();
                if left_out || skipped.iter().any(|skipped| skipped == path.as_str()) {
                    continue;
                }
                return Err(differ(path, "is only on the laptop"));
            };
            if let Some(what) = difference(&one_root, &other_root, path, stat, found).map_err(io)? {
                return Err(differ(path, what));
            }
        }
        Ok(there.len())
    }

    /// Leaves both where they are; returns the directory that holds them.
    pub(super) fn keep(self) -> PathBuf {
        self.base.keep()
    }

    /// Removes everything.
    ///
    /// # Errors
    /// If the disk does not let it.
    pub(super) fn remove(self) -> Result<(), CommandError> {
        let base = self.base.path().to_owned();
        self.base.remove().map_err(|error| {
            let message = format!("cannot remove {}: {error}", base.display());
            CommandError::failed("io", &message)
                .hint("it holds copies only and may be removed by hand")
        })
    }
}

fn differ(path: &RelPath, what: &str) -> CommandError {
    CommandError::failed("demo", &format!("the folders differ: {path} {what}"))
}

#[cfg(unix)]
fn symlink(target: impl AsRef<Path>, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: impl AsRef<Path>, _link: &Path) -> io::Result<()> {
    Ok(())
}

fn sample(dir: &Path) -> io::Result<()> {
    for (path, text) in SAMPLE {
        let file = dir.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, text)?;
    }
    fs::create_dir(dir.join(SAMPLE_EMPTY_DIR))?;
    symlink(SAMPLE_LINK.1, &dir.join(SAMPLE_LINK.0))
}

/// Everything in a folder that can travel.
fn walk(disk: &dyn Disk) -> io::Result<BTreeMap<RelPath, Stat>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![RelPath::root()];
    while let Some(dir) = dirs.pop() {
        for entry in disk.list(&dir)?.entries {
            let Ok(path) = dir.join(&entry.name) else { continue };
            if path.is_reserved() {
                continue;
            }
            if entry.stat.kind == FileKind::Dir {
                dirs.push(path.clone());
            }
            found.insert(path, entry.stat);
        }
    }
    Ok(found)
}

/// The patterns of the folder's ignore files; without any where they cannot be read.
fn ignored(dir: &Path) -> Gitignore {
    let mut patterns = GitignoreBuilder::new("");
    for name in [".kinignore", ".dsyncignore"] {
        // A file that is not there has no patterns, and a pattern that is wrong ignores nothing.
        let _ = patterns.add(dir.join(name));
    }
    patterns.build().unwrap_or_else(|_| Gitignore::empty())
}

/// In what one path differs, if it does.
fn difference(
    one: &dyn Disk,
    other: &dyn Disk,
    path: &RelPath,
    stat: &Stat,
    found: &Stat,
) -> io::Result<Option<&'static str>> {
    let at = Place::Tree(path.clone());
    if stat.kind != found.kind {
        return Ok(Some("is not the same kind of thing"));
    }
    Ok(match stat.kind {
        FileKind::Symlink if one.read_link(&at)? != other.read_link(&at)? => {
            Some("leads elsewhere")
        }
        FileKind::File if stat.size != found.size || !same_bytes(one, other, &at)? => {
            Some("has other contents")
        }
        FileKind::File if stat.mtime != found.mtime => Some("has another modification time"),
        FileKind::File | FileKind::Dir if stat.mode != found.mode => Some("has another mode"),
        _ => None,
    })
}

fn same_bytes(one: &dyn Disk, other: &dyn Disk, at: &Place) -> io::Result<bool> {
    let (one, other) = (one.open(at)?, other.open(at)?);
    let (mut here, mut there) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut offset = 0;
    loop {
        let read = one.read_at(&mut here, offset)?;
        if other.read_at(&mut there, offset)? != read || here[..read] != there[..read] {
            return Ok(false);
        }
        if read < BLOCK {
            return Ok(true);
        }
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(source: Option<&Path>) -> Folders {
        Folders::make(["a", "b"], source).expect("there is room")
    }

    #[test]
    fn the_sample_or_a_copy_is_in_the_first() {
        let source = tempfile::tempdir().expect("there is room");
        fs::write(source.path().join("file"), "x").expect("there is room");
        for (folders, file) in [(both(None), "README.txt"), (both(Some(source.path())), "file")] {
            assert!(folders.dir(0).join(file).exists() && folders.dir(1).exists());
            let base = folders.keep();
            assert!(base.join("a").join(file).exists(), "kept");
            fs::remove_dir_all(base).expect("is ours");
        }
    }

    #[test]
    fn a_folder_that_would_hold_its_own_demo_is_refused() {
        let made = Folders::make(["a", "b"], Some(&std::env::temp_dir()));
        let error = made.expect_err("a tree cannot hold its own copy");
        assert_eq!(error.kind, "io");
    }

    #[test]
    fn a_comparison_names_the_difference() {
        let folders = both(None);
        let [one, other] = [0, 1].map(|index| folders.dir(index).to_owned());
        tree::copy_tree(&one, &other).expect("there is room");
        // Four files, three directories and their parents, and a link.
        assert_eq!(folders.compare(&[]), Ok(9));

        set_time(&other.join("README.txt"), std::time::UNIX_EPOCH);
        let error = folders.compare(&[]).expect_err("another time");
        assert_eq!(error.message, "the folders differ: README.txt has another modification time");

        fs::write(other.join("README.txt"), "x").expect("there is room");
        let error = folders.compare(&[]).expect_err("other contents");
        assert_eq!(error.message, "the folders differ: README.txt has other contents");

        fs::remove_file(other.join("README.txt")).expect("is there");
        let error = folders.compare(&[]).expect_err("one is missing");
        assert_eq!(error.message, "the folders differ: README.txt is only on the laptop");
        assert_eq!(folders.compare(&["README.txt".into()]), Ok(8));
        fs::write(one.join(".kinignore"), "*.txt\n").expect("there is room");
        assert_eq!(folders.compare(&[]), Ok(8));
        folders.remove().expect("is ours");
    }

    #[expect(clippy::disallowed_types, reason = "a test sets a time")]
    fn set_time(path: &Path, time: std::time::SystemTime) {
        fs::File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.set_modified(time))
            .expect("is ours");
    }
}
