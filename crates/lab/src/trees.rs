//! Comparing trees: contents byte by byte, modes, modification times in nanoseconds, link targets,
//! empty directories.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// What belongs to one device and never travels, at the top of a folder (rules E11 and E14).
const OWN: [&str; 3] = [".kin", ".kinignore", ".dsyncignore"];

/// One entry of a tree, without a file's contents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A regular file.
    File {
        /// Size in bytes.
        len: u64,
        /// Permission bits.
        mode: u32,
        /// Modification time, nanoseconds since 1970.
        mtime: i128,
    },
    /// A directory. Its time does not travel.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: PathBuf,
    },
    /// A FIFO, socket or device.
    Special,
}

/// A tree as it stands: every path beneath the root, without what belongs to one device.
///
/// # Panics
/// If a directory cannot be read. Paths that vanish meanwhile are left out.
#[must_use]
pub fn listing(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    list_into(root, Path::new(""), &mut found);
    found
}

fn list_into(root: &Path, inner: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
    let dir = root.join(inner);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return,
        Err(e) => panic!("cannot list {}: {e}", dir.display()),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if inner.as_os_str().is_empty() && OWN.iter().any(|own| name == *own) {
            continue;
        }
        let path = inner.join(&name);
        let Ok(meta) = entry.metadata() else { continue };
        let mode = meta.mode() & 0o7777;
        let kind = meta.file_type();
        let one = if kind.is_dir() {
            list_into(root, &path, found);
            Entry::Dir { mode }
        } else if kind.is_symlink() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            Entry::Symlink { target }
        } else if kind.is_file() {
            let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            Entry::File { len: meta.len(), mode, mtime }
        } else {
            Entry::Special
        };
        found.insert(path, one);
    }
}

/// The paths of a tree, sorted, as text.
#[must_use]
pub fn paths(root: &Path) -> Vec<String> {
    listing(root).keys().map(|p| p.to_string_lossy().into_owned()).collect()
}

/// What differs between two trees, at most twenty lines; empty if they are equal.
#[must_use]
pub fn differences(a: &Path, b: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let (left, right) = (listing(a), listing(b));
    for (path, entry) in &left {
        match right.get(path) {
            None => lines.push(format!("only in {}: {}", a.display(), path.display())),
            Some(other) if other != entry => {
                lines.push(format!("{}: {entry:?} against {other:?}", path.display()));
            }
            Some(_) if matches!(entry, Entry::File { .. }) => {
                if !same_bytes(&a.join(path), &b.join(path)) {
                    lines.push(format!("{}: contents differ", path.display()));
                }
            }
            Some(_) => {}
        }
        if lines.len() >= 20 {
            return lines;
        }
    }
    for path in right.keys().filter(|path| !left.contains_key(*path)).take(20) {
        lines.push(format!("only in {}: {}", b.display(), path.display()));
    }
    lines
}

/// True if both trees are equal now.
#[must_use]
pub fn same(a: &Path, b: &Path) -> bool {
    listing(a) == listing(b) && differences(a, b).is_empty()
}

/// # Panics
/// If the trees differ; says where.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path) {
    let lines = differences(a, b);
    assert!(lines.is_empty(), "trees differ:\n  {}", lines.join("\n  "));
}

/// A tree and its contents at one moment, to be compared with later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot(BTreeMap<PathBuf, (Entry, Option<blake3::Hash>)>);

impl Snapshot {
    /// Reads everything.
    ///
    /// # Panics
    /// If something cannot be read.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        Self(
            listing(root)
                .into_iter()
                .map(|(path, entry)| {
                    let hash = matches!(entry, Entry::File { .. }).then(|| hash(&root.join(&path)));
                    (path, (entry, hash))
                })
                .collect(),
        )
    }

    /// # Panics
    /// If the tree is not now as it was; says where.
    #[track_caller]
    pub fn assert_unchanged(&self, root: &Path) {
        let now = Self::of(root);
        let mut lines = Vec::new();
        for path in self.0.keys().chain(now.0.keys()) {
            let (before, after) = (self.0.get(path), now.0.get(path));
            if before != after {
                lines.push(format!("{}: {before:?}, now {after:?}", path.display()));
            }
        }
        lines.dedup();
        lines.truncate(20);
        assert!(lines.is_empty(), "{} changed:\n  {}", root.display(), lines.join("\n  "));
    }
}

fn hash(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    File::open(path)
        .and_then(|file| hasher.update_reader(file).map(|_| ()))
        .unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    hasher.finalize()
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    let (Ok(mut a), Ok(mut b)) = (File::open(a), File::open(b)) else { return false };
    let (mut left, mut right) = (vec![0; 1 << 18], vec![0; 1 << 18]);
    loop {
        let (Some(n), Some(m)) = (fill(&mut a, &mut left), fill(&mut b, &mut right)) else {
            return false;
        };
        if left[..n] != right[..m] {
            return false;
        }
        if n == 0 {
            return true;
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> Option<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(have)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::files;

    /// Two equal trees with one of everything.
    fn twins() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let top = tempfile::tempdir().expect("a directory");
        let twins = ["a", "b"].map(|name| {
            let root = top.path().join(name);
            files::random_file(root.join("dir/big"), 600_000, 1);
            files::set_mtime(root.join("dir/big"), 5_000_000_001);
            fs::create_dir_all(root.join("empty")).expect("a directory");
            symlink("dir/big", root.join("link")).expect("a link");
            root
        });
        let [a, b] = twins;
        (top, a, b)
    }

    #[test]
    fn equal_trees_are_equal_whatever_belongs_to_one_device() {
        let (_top, a, b) = twins();
        files::write(a.join(".kin/index"), "own");
        files::write(b.join(".kinignore"), "own");
        assert!(same(&a, &b));
        assert_same(&a, &b);
        assert_eq!(paths(&a), ["dir", "dir/big", "empty", "link"]);
        // Only at the top: further down these are names like any other.
        files::write(a.join("dir/.kin/x"), "not own");
        assert!(!same(&a, &b));
    }

    #[test]
    fn every_difference_is_seen() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 8] = [
            ("contents", |b| {
                let mut bytes = fs::read(b.join("dir/big")).expect("there");
                bytes[599_999] ^= 1;
                files::write(b.join("dir/big"), bytes);
                files::set_mtime(b.join("dir/big"), 5_000_000_001);
            }),
            ("mtime", |b| files::set_mtime(b.join("dir/big"), 5_000_000_002)),
            ("mode of a file", |b| files::set_mode(b.join("dir/big"), 0o640)),
            ("mode of a directory", |b| files::set_mode(b.join("empty"), 0o700)),
            ("target", |b| {
                fs::remove_file(b.join("link")).expect("there");
                symlink("dir/BIG", b.join("link")).expect("a link");
            }),
            ("missing", |b| fs::remove_dir(b.join("empty")).expect("there")),
            ("added", |b| files::write(b.join("dir/more"), "")),
            ("kind", |b| {
                fs::remove_dir(b.join("empty")).expect("there");
                files::write(b.join("empty"), "");
            }),
        ];
        for (what, change) in changes {
            let (_top, a, b) = twins();
            let before = Snapshot::of(&b);
            before.assert_unchanged(&b);
            change(&b);
            assert!(!same(&a, &b), "{what}");
            assert_eq!(differences(&a, &b).len(), 1, "{what}");
            assert_ne!(before, Snapshot::of(&b), "{what}");
        }
    }
}
