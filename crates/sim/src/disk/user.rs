//! What the user does to a virtual disk, and what a simulation compares.

use std::{collections::BTreeMap, io, sync::Arc};

use tree::{FileKind, Place};
use wire::RelPath;

use super::{Entry, VirtualDisk, full_path, invalid, lock, split};

/// What a path of the tree is, for comparing trees between devices. Times of directories and links
/// and all inode numbers are left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// A directory.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// All of it.
        contents: Arc<Vec<u8>>,
        /// Permission bits.
        mode: u32,
        /// Modification time in nanoseconds since 1970.
        mtime: i64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: String,
    },
    /// A FIFO, socket or device.
    Special,
    /// A directory on which something is mounted.
    MountPoint,
}

/// What the user does. Paths are as in [`RelPath`]; rights do not hold the user back, and a path that
/// makes no sense is an error, never a panic.
impl VirtualDisk {
    pub(super) fn user_path(path: &str) -> io::Result<String> {
        let parsed = RelPath::parse(path).map_err(|_| invalid("not a path"))?;
        full_path(&Place::Tree(parsed))
    }

    /// Writes a file in place, keeping its inode, or creates it and the directories above.
    ///
    /// # Errors
    /// If a directory or link is there, or something above is no directory.
    pub fn write_file(&self, path: &str, contents: &[u8]) -> io::Result<()> {
        self.user_edit(path, |old| {
            old.clear();
            old.extend_from_slice(contents);
        })
    }

    /// Appends to a file, or creates it and the directories above.
    ///
    /// # Errors
    /// As [`Self::write_file`].
    pub fn append(&self, path: &str, contents: &[u8]) -> io::Result<()> {
        self.user_edit(path, |old| old.extend_from_slice(contents))
    }

    fn user_edit(&self, path: &str, edit: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut top = lock(&self.state);
        let path = self.real(&top, Self::user_path(path)?);
        let (dir, name) = split(&path);
        self.mkdir_all(&mut top, dir)?;
        let names = find_any(&mut top, dir)?.names_mut()?;
        let entry = names.entry(name.into()).or_insert_with(|| self.meter.file(b"", 0o644));
        let Entry::File(file) = entry else {
            return Err(invalid("not a regular file"));
        };
        let mut file = lock(file);
        edit(Arc::make_mut(&mut file.contents));
        file.touch(self.meter.now());
        file.durable = None;
        self.names_are_durable();
        Ok(())
    }

    /// A file's contents are others, and nothing says so: a disk that fails.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn rot(&self, path: &str, contents: &[u8]) -> io::Result<()> {
        let mut top = lock(&self.state);
        let path = self.real(&top, Self::user_path(path)?);
        match find_any(&mut top, &path)? {
            Entry::File(file) => lock(file).contents = Arc::new(contents.to_vec()),
            _ => return Err(invalid("not a regular file")),
        }
        Ok(())
    }

    /// Saves a file as editors do: a new inode replaces whatever file or link was there.
    ///
    /// # Errors
    /// If a directory is there, or something above is none.
    pub fn save_by_rename(&self, path: &str, contents: &[u8]) -> io::Result<()> {
        self.user_put(path, self.meter.file(contents, 0o644))
    }

    /// Makes a symbolic link, replacing a file or link.
    ///
    /// # Errors
    /// If a directory is there, or something above is none.
    pub fn symlink(&self, path: &str, target: &str) -> io::Result<()> {
        let stat = self.meter.stat(FileKind::Symlink, 0o777);
        self.user_put(path, Entry::Symlink { stat, target: target.to_owned() })
    }

    /// Makes a FIFO or the like (`FileKind::Special`), or mounts something (`FileKind::MountPoint`).
    ///
    /// # Errors
    /// `InvalidInput` for other kinds; if a directory is there, or something above is none.
    pub fn special(&self, path: &str, kind: FileKind) -> io::Result<()> {
        if !matches!(kind, FileKind::Special | FileKind::MountPoint) {
            return Err(invalid("not a special kind"));
        }
        self.user_put(path, Entry::Other(self.meter.stat(kind, 0o644)))
    }

    fn user_put(&self, path: &str, entry: Entry) -> io::Result<()> {
        let mut top = lock(&self.state);
        let path = self.real(&top, Self::user_path(path)?);
        let (dir, name) = split(&path);
        self.mkdir_all(&mut top, dir)?;
        let names = find_any(&mut top, dir)?.names_mut()?;
        if matches!(names.get(name), Some(Entry::Dir { .. })) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        names.insert(name.into(), entry);
        self.names_are_durable();
        Ok(())
    }

    /// Renames, replacing a file or link. A directory replaces nothing.
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists`; `InvalidInput` for moving a directory into itself.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut top = lock(&self.state);
        let (from, wanted) = (self.real(&top, Self::user_path(from)?), Self::user_path(to)?);
        let mut to = self.real(&top, wanted.clone());
        if to == from {
            // Only its case changes.
            to = format!("{}/{}", split(&to).0, split(&wanted).1);
        }
        if to.starts_with(&from) && to[from.len()..].starts_with('/') {
            return Err(invalid("a directory cannot be moved into itself"));
        }
        let (from_dir, from_name) = split(&from);
        let is_dir = {
            let names = find_any(&mut top, from_dir)?.names()?;
            matches!(names.get(from_name).ok_or(io::ErrorKind::NotFound)?, Entry::Dir { .. })
        };
        if from == to {
            return Ok(());
        }
        let (to_dir, to_name) = split(&to);
        self.mkdir_all(&mut top, to_dir)?;
        match find_any(&mut top, to_dir)?.names()?.get(to_name) {
            Some(Entry::Dir { .. }) => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(_) if is_dir => return Err(io::ErrorKind::AlreadyExists.into()),
            _ => {}
        }
        let Some(mut entry) = find_any(&mut top, from_dir)?.names_mut()?.remove(from_name) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        entry.change_stat(|stat| stat.ctime = self.meter.now());
        find_any(&mut top, to_dir)?.names_mut()?.insert(to_name.into(), entry);
        self.names_are_durable();
        Ok(())
    }

    /// Removes a path and all that is below it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let mut top = lock(&self.state);
        let path = self.real(&top, Self::user_path(path)?);
        let (dir, name) = split(&path);
        self.names_are_durable();
        let names = find_any(&mut top, dir)?.names_mut()?;
        names.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// If something there is no directory.
    pub fn mkdir(&self, path: &str) -> io::Result<()> {
        let mut top = lock(&self.state);
        let path = self.real(&top, Self::user_path(path)?);
        self.names_are_durable();
        self.mkdir_all(&mut top, &path)
    }

    /// Sets permission bits.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn chmod(&self, path: &str, mode: u32) -> io::Result<()> {
        let mut top = lock(&self.state);
        let path = self.real(&top, Self::user_path(path)?);
        let now = self.meter.now();
        self.names_are_durable();
        find_any(&mut top, &path)?.change_stat(|stat| {
            (stat.mode, stat.ctime) = (mode & 0o777, now);
        });
        Ok(())
    }

    /// A regular file's contents; `None` if there is none.
    #[must_use]
    pub fn contents(&self, path: &str) -> Option<Arc<Vec<u8>>> {
        let mut top = lock(&self.state);
        let path = self.real(&top, Self::user_path(path).ok()?);
        match find_any(&mut top, &path) {
            Ok(Entry::File(file)) => Some(Arc::clone(&lock(file).contents)),
            _ => None,
        }
    }

    /// The whole tree, without `.kin`.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, Node> {
        let mut found = BTreeMap::new();
        if let Ok(Entry::Dir { names, .. }) = find_any(&mut lock(&self.state), "tree") {
            collect("", names, &mut found);
        }
        found
    }

    /// Contents of every file there is, by path; those in `.kin` as `.kin/swap/…`, `.kin/partial/…`
    /// and `.kin/history/…`. Content that a user wrote is in here, or it is lost.
    #[must_use]
    pub fn all_contents(&self) -> Vec<(String, Arc<Vec<u8>>)> {
        let mut found = self.snapshot();
        if let Ok(Entry::Dir { names, .. }) = find_any(&mut lock(&self.state), "kin") {
            collect(".kin/", names, &mut found);
        }
        let files = found.into_iter().filter_map(|(path, node)| match node {
            Node::File { contents, .. } => Some((path, contents)),
            _ => None,
        });
        files.collect()
    }
}

/// [`find_mut`] for the user, whom rights do not hold back.
fn find_any<'a>(top: &'a mut Entry, path: &str) -> io::Result<&'a mut Entry> {
    path.split('/').try_fold(top, |here, name| {
        here.names_mut()?.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

fn collect(prefix: &str, names: &BTreeMap<Box<str>, Entry>, found: &mut BTreeMap<String, Node>) {
    for (name, entry) in names {
        let path = format!("{prefix}{name}");
        let node = match entry {
            Entry::Dir { stat, names } => {
                collect(&format!("{path}/"), names, found);
                Node::Dir { mode: stat.mode }
            }
            Entry::File(file) => {
                let file = lock(file);
                Node::File {
                    contents: Arc::clone(&file.contents),
                    mode: file.stat.mode,
                    mtime: file.stat.mtime,
                }
            }
            Entry::Symlink { target, .. } => Node::Symlink { target: target.clone() },
            Entry::Other(stat) if stat.kind == FileKind::MountPoint => Node::MountPoint,
            Entry::Other(_) => Node::Special,
        };
        found.insert(path, node);
    }
}
