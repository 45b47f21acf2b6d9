//! A folder in a temporary directory, and its user.

use std::{fs, os::unix::fs as unix, path::PathBuf};

use tempfile::TempDir;
use tree::{Disk, Root, contract::Subject};

/// A folder that goes when it is dropped.
pub(crate) struct User {
    pub(crate) root: Root,
    older: bool,
    dir: TempDir,
}

impl User {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("temporary directory");
        Self { root: Root::open(dir.path()).expect("open"), older: false, dir }
    }

    /// On a system without openat2 and without flags to rename.
    pub(crate) fn on_an_older_system() -> Self {
        let dir = TempDir::new().expect("temporary directory");
        let root = Root::open_as_on_an_older_system(dir.path()).expect("open");
        Self { root, older: true, dir }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Everything in the tree and in `.kin/swap`, `.kin/partial` and `.kin/history`.
    pub(crate) fn all_files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).expect("read_dir") {
                let entry = entry.expect("entry");
                if entry.file_type().expect("type").is_dir() {
                    dirs.push(entry.path());
                } else {
                    let path = entry.path();
                    let path = path.strip_prefix(self.dir.path()).expect("below");
                    found.push(path.to_string_lossy().into_owned());
                }
            }
        }
        found.retain(|path| path != ".kin/lock");
        found.sort();
        found
    }
}

impl Subject for User {
    fn disk(&self) -> &dyn Disk {
        &self.root
    }

    fn write(&self, path: &str, contents: &[u8]) {
        fs::write(self.path(path), contents).expect("write");
    }

    fn save(&self, path: &str, contents: &[u8]) {
        let draft = self.path(".save-draft");
        fs::write(&draft, contents).expect("write");
        fs::rename(draft, self.path(path)).expect("rename");
    }

    fn mkdir(&self, path: &str) {
        fs::create_dir_all(self.path(path)).expect("mkdir");
    }

    fn symlink(&self, path: &str, target: &str) {
        unix::symlink(target, self.path(path)).expect("symlink");
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).expect("remove");
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let path = self.path(path);
        fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
        fs::read(path).ok()
    }

    fn exchanges(&self) -> bool {
        !self.older
    }
}
