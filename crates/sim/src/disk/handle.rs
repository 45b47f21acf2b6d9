//! Open files of a virtual disk.

use std::{
    io,
    sync::{Arc, MutexGuard},
};

use tree::{ReadFile, Stat, WriteFile};

use super::{Call, FileNode, Meter, SharedFile, lock, power};

impl FileNode {
    /// After the contents changed.
    pub(super) fn touch(&mut self, now: i64) {
        self.stat.size = self.contents.len() as u64;
        (self.stat.mtime, self.stat.ctime) = (now, now);
        self.used.set(self.stat.size);
    }
}

/// An open file.
pub(super) struct Handle {
    pub(super) file: SharedFile,
    pub(super) meter: Arc<Meter>,
}

impl Handle {
    fn pass(&self, call: Call) -> io::Result<MutexGuard<'_, FileNode>> {
        self.meter.pass(call)?;
        Ok(lock(&self.file))
    }
}

fn length(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl ReadFile for Handle {
    fn stat(&self) -> io::Result<Stat> {
        Ok(self.pass(Call::Look)?.stat)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.pass(Call::Look)?;
        let rest = file.contents.get(length(offset)?..).unwrap_or_default();
        let read = rest.len().min(buf.len());
        buf[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }
}

impl WriteFile for Handle {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let start = length(offset)?;
        let end = start.checked_add(data.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut file = self.pass(Call::Write)?;
        file.used.check(file.stat.size.max(end as u64))?;
        power::before_write(&self.meter, &mut file);
        let contents = Arc::make_mut(&mut file.contents);
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[start..end].copy_from_slice(data);
        file.touch(self.meter.now());
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut file = self.pass(Call::Write)?;
        file.used.check(len)?;
        power::before_write(&self.meter, &mut file);
        Arc::make_mut(&mut file.contents).resize(length(len)?, 0);
        file.touch(self.meter.now());
        Ok(())
    }

    fn set_meta(&self, mode: u32, mtime: i64) -> io::Result<()> {
        let mut file = self.pass(Call::Change)?;
        (file.stat.mode, file.stat.mtime) = (mode & 0o777, mtime);
        file.stat.ctime = self.meter.now();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        power::synced(&mut *self.pass(Call::Sync)?)
    }
}
