//! A disk that takes different names for the same, as if it told them apart (attacks.md 26, rule E9).
//!
//! On such a disk (one that folds case, or takes composed and decomposed letters for the same) a look at `A` finds
//! `a`. Taken for what is at `A`, it would be somebody's edit of `A`, and its absence from a listing a deletion. Here
//! a name is there only if its directory lists it, letter for letter; what cannot be made because a twin has its
//! place fails with [`Twin`], which names it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use wire::RelPath;

use crate::{Disk, Listing, Place, ReadFile, Stat, WriteFile};

/// Something has a name that the disk takes for the one that was wanted.
#[derive(Debug)]
pub struct Twin {
    /// The name it has; empty if it was gone before that could be told.
    pub name: String,
}

impl fmt::Display for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the disk takes its name for that of {:?}", self.name)
    }
}

impl std::error::Error for Twin {}

/// Names in a directory, with the inode of each; unknown for what was made since.
type Names = BTreeMap<String, Option<u64>>;

/// A disk of which [`Disk::folds_names`] is true, for the length of one job: directories are listed once.
pub struct Exact<'a> {
    disk: &'a dyn Disk,
    listed: Mutex<HashMap<RelPath, Names>>,
}

impl fmt::Debug for Exact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exact").finish_non_exhaustive()
    }
}

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn in_tree(place: &Place) -> Option<&RelPath> {
    match place {
        Place::Tree(path) => Some(path).filter(|path| !path.is_root()),
        _ => None,
    }
}

impl<'a> Exact<'a> {
    /// Looks at a disk so.
    #[must_use]
    pub fn new(disk: &'a dyn Disk) -> Self {
        Self { disk, listed: Mutex::new(HashMap::new()) }
    }

    fn listed(&self) -> MutexGuard<'_, HashMap<RelPath, Names>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `then` makes of the names in a directory.
    fn names<T>(&self, dir: &RelPath, then: impl FnOnce(&mut Names) -> T) -> io::Result<T> {
        if let Some(names) = self.listed().get_mut(dir) {
            return Ok(then(names));
        }
        let listing = self.disk.list(dir)?;
        let entries = listing.entries.into_iter().map(|entry| (entry.name, Some(entry.stat.inode)));
        let unreadable = listing.unreadable.into_iter().map(|(name, ..)| (name, None));
        let mut names = entries.chain(unreadable).collect();
        let result = then(&mut names);
        self.listed().insert(dir.clone(), names);
        Ok(result)
    }

    /// True if each name of a path is in its directory as it is written.
    fn is_exact(&self, path: &RelPath) -> io::Result<bool> {
        let Some(dir) = path.parent() else { return Ok(true) };
        if !self.is_exact(&dir)? {
            return Ok(false);
        }
        match self.names(&dir, |names| names.contains_key(path.name())) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(false)
            }
            other => other,
        }
    }

    /// Fails unless what is meant is there under just that name.
    fn must_be_exact(&self, place: &Place) -> io::Result<()> {
        match in_tree(place) {
            Some(path) if !self.is_exact(path)? => Err(absent()),
            _ => Ok(()),
        }
    }

    /// Something was put at a path, or taken away from it.
    fn note(&self, place: &Place, is_there: bool) {
        let Some(path) = in_tree(place) else { return };
        let mut listed = self.listed();
        listed.retain(|dir, _| dir != path && !path.contains(dir));
        let names = path.parent().and_then(|dir| listed.get_mut(&dir));
        if let Some(names) = names {
            if is_there {
                names.insert(path.name().to_owned(), None);
            } else {
                names.remove(path.name());
            }
        }
    }

    /// What to say where something is in the way.
    fn in_the_way(&self, path: &RelPath, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::AlreadyExists || !matches!(self.is_exact(path), Ok(false))
        {
            return error;
        }
        let found = self.disk.stat(&Place::Tree(path.clone())).ok().flatten();
        let inode = found.map(|found| found.inode);
        let name = path.parent().and_then(|dir| {
            let same = |names: &mut Names| {
                let alike = path.name().to_lowercase();
                let mut same = names.iter().filter(|(_, it)| it.is_none() || **it == inode);
                let first = same.clone().find(|(name, _)| name.to_lowercase() == alike);
                first.or_else(|| same.find(|(_, it)| **it == inode)).map(|(name, _)| name.clone())
            };
            self.names(&dir, same).ok().flatten()
        });
        io::Error::new(error.kind(), Twin { name: name.unwrap_or_default() })
    }
}

impl Disk for Exact<'_> {
    fn folds_names(&self) -> bool {
        true
    }

    fn stat(&self, at: &Place) -> io::Result<Option<Stat>> {
        let found = self.disk.stat(at)?;
        match in_tree(at) {
            Some(path) if found.is_some() && !self.is_exact(path)? => Ok(None),
            _ => Ok(found),
        }
    }

    fn list(&self, dir: &RelPath) -> io::Result<Listing> {
        self.must_be_exact(&Place::Tree(dir.clone()))?;
        self.disk.list(dir)
    }

    fn open(&self, at: &Place) -> io::Result<Box<dyn ReadFile>> {
        self.must_be_exact(at)?;
        self.disk.open(at)
    }

    fn open_own(&self, at: &Place) -> io::Result<Box<dyn WriteFile>> {
        self.disk.open_own(at)
    }

    fn read_link(&self, at: &Place) -> io::Result<String> {
        self.must_be_exact(at)?;
        self.disk.read_link(at)
    }

    fn make_symlink(&self, at: &Place, target: &str, mtime: i64) -> io::Result<()> {
        self.disk.make_symlink(at, target, mtime)
    }

    fn make_dir(&self, at: &RelPath, mode: u32) -> io::Result<()> {
        self.must_be_exact(&Place::Tree(at.parent().unwrap_or_default()))?;
        self.disk.make_dir(at, mode).map_err(|error| self.in_the_way(at, error))?;
        self.note(&Place::Tree(at.clone()), true);
        Ok(())
    }

    fn make_own_dir(&self, at: &Place, mode: u32) -> io::Result<()> {
        self.disk.make_own_dir(at, mode)
    }

    fn remove_own_dir(&self, at: &Place) -> io::Result<()> {
        self.disk.remove_own_dir(at)
    }

    fn hands_down(&self, dir: &RelPath) -> io::Result<bool> {
        self.must_be_exact(&Place::Tree(dir.clone()))?;
        self.disk.hands_down(dir)
    }

    fn remove_dir(&self, at: &RelPath) -> io::Result<()> {
        let place = Place::Tree(at.clone());
        self.must_be_exact(&place)?;
        self.disk.remove_dir(at)?;
        self.note(&place, false);
        Ok(())
    }

    fn rename_new(&self, from: &Place, to: &Place) -> io::Result<()> {
        self.must_be_exact(from)?;
        if let Some(path) = in_tree(to) {
            self.must_be_exact(&Place::Tree(path.parent().unwrap_or_default()))?;
            self.disk.rename_new(from, to).map_err(|error| self.in_the_way(path, error))?;
        } else {
            self.disk.rename_new(from, to)?;
        }
        self.note(from, false);
        self.note(to, true);
        Ok(())
    }

    fn exchange(&self, a: &Place, b: &Place) -> io::Result<()> {
        self.must_be_exact(a)?;
        self.must_be_exact(b)?;
        self.disk.exchange(a, b)
    }

    fn unlink_own(&self, at: &Place) -> io::Result<()> {
        self.disk.unlink_own(at)
    }

    fn set_meta(&self, at: &RelPath, inode: u64, mode: u32, mtime: Option<i64>) -> io::Result<()> {
        self.must_be_exact(&Place::Tree(at.clone()))?;
        self.disk.set_meta(at, inode, mode, mtime)
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.sync_all()
    }

    fn list_history(&self, dir: &RelPath) -> io::Result<Listing> {
        self.disk.list_history(dir)
    }

    fn remove_history_dir(&self, dir: &RelPath) -> io::Result<()> {
        self.disk.remove_history_dir(dir)
    }

    fn own_files(&self) -> io::Result<Vec<(Place, Stat)>> {
        self.disk.own_files()
    }

    fn free_space(&self) -> io::Result<u64> {
        self.disk.free_space()
    }

    fn total_space(&self) -> io::Result<u64> {
        self.disk.total_space()
    }
}
