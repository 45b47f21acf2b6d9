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
        let path = Self::user_path(path)?;
        match find_mut(&mut lock(&self.state), &path)? {
            Entry::File(file) => {
                Ok(Held { file: Arc::clone(file), meter: Arc::clone(&self.meter) })
            }
            _ => Err(invalid("not a regular file")),
        }
    }
}

impl Held {
    /// Replaces what is in the file.
    pub fn write(&self, contents: &[u8]) {
        let mut file = lock(&self.file);
        *Arc::make_mut(&mut file.contents) = contents.to_vec();
        file.touch(self.meter.now());
    }
}
