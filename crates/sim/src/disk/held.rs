//! A file that a user's program has open while its name goes elsewhere.

use std::{io, sync::Arc};

use super::{Entry, Meter, SharedFile, VirtualDisk, find_mut, invalid, lock};

/// An open file of a user's program.
#[derive(Debug)]
pub struct Held {
    file: SharedFile,
    meter: Arc<Meter>,
}

impl VirtualDisk {
    /// Opens a file as a user's program does, to write to it later, whatever its name is by then.
    ///
    /// # Errors
    /// If no regular file is there.
    pub fn hold(&self, path: &str) -> io::Result<Held> {
        let mut top = lock(&self.state);
        let path = self.real(&top, Self::user_path(path)?);
        match find_mut(&mut top, &path)? {
            Entry::File(file) => {
                Ok(Held { file: Arc::clone(file), meter: Arc::clone(&self.meter) })
            }
            _ => Err(invalid("not a regular file")),
        }
    }

    /// [`Held::write`], if the file still has a name, in the tree or in `.kin`. Returns what it held before.
    pub(crate) fn write_held(&self, held: &Held, contents: &[u8]) -> Option<Arc<Vec<u8>>> {
        if !has_inode(&lock(&self.state), &held.file) {
            return None;
        }
        let before = Arc::clone(&lock(&held.file).contents);
        held.write(contents);
        Some(before)
    }
}

fn has_inode(entry: &Entry, inode: &SharedFile) -> bool {
    match entry {
        Entry::Dir { names, .. } => names.values().any(|entry| has_inode(entry, inode)),
        Entry::File(file) => Arc::ptr_eq(file, inode),
        Entry::Symlink { .. } | Entry::Other(_) => false,
    }
}

impl Held {
    /// Replaces what is in the file.
    pub fn write(&self, contents: &[u8]) {
        let mut file = lock(&self.file);
        *Arc::make_mut(&mut file.contents) = contents.to_vec();
        file.touch(self.meter.now());
        file.durable = None;
    }
}
