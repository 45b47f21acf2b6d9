//! A log in the state directory: of this user alone, whole lines, and never larger than twice its bound.

use std::io;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use crate::{StateDir, StateError, sys};

/// A log that is written. When it is full it becomes `NAME.1`, and what was that is gone.
#[derive(Debug)]
pub struct LogFile {
    dir: OwnedFd,
    name: &'static str,
    file: OwnedFd,
    written: u64,
    limit: u64,
}

impl LogFile {
    /// Opens the log of this name, to write on behind what is there. `limit` in bytes.
    ///
    /// # Errors
    /// If it cannot be opened, or is a link or no file.
    pub fn open(state: &StateDir, name: &'static str, limit: u64) -> Result<Self, StateError> {
        let path = state.path().join(name);
        let fail =
            |source: io::Error| StateError::Io { doing: "write", path: path.clone(), source };
        let dir = rustix::io::fcntl_dupfd_cloexec(state.dir(), 0).map_err(|e| fail(e.into()))?;
        let (file, written) = match open(&dir, name) {
            Err(Errno::LOOP) => return Err(StateError::NotAFile(path)),
            opened => opened.map_err(|error| fail(error.into()))?,
        };
        Ok(Self { dir, name, file, written, limit })
    }

    fn turn_over(&mut self) -> io::Result<()> {
        rustix::fs::renameat(&self.dir, self.name, &self.dir, older(self.name))?;
        (self.file, self.written) = open(&self.dir, self.name)?;
        Ok(())
    }
}

impl io::Write for LogFile {
    /// Writes all of it: a line does not go into two files.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let length = line.len() as u64;
        if self.written > 0 && self.written + length > self.limit {
            // If that fails, the log grows beyond its bound rather than to lose what is said.
            let _ = self.turn_over();
        }
        let mut rest = line;
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.written += length;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a log of this name is called when it is full.
fn older(name: &str) -> String {
    format!("{name}.1")
}

fn open(dir: &OwnedFd, name: &str) -> rustix::io::Result<(OwnedFd, u64)> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
    let raw = sys::lstat_handle(file.as_fd())?;
    if raw.file_type != FileType::RegularFile {
        return Err(Errno::LOOP);
    }
    rustix::fs::fchmod(&file, sys::mode_bits(0o600))?;
    Ok((file, raw.size))
}

/// A log that is read, from its beginning and on as it grows.
#[derive(Debug)]
pub struct LogReader<'a> {
    state: &'a StateDir,
    name: &'a str,
    file: Option<(OwnedFd, u64)>,
    offset: u64,
}

impl<'a> LogReader<'a> {
    /// Reads the log of this name; it need not be there yet.
    #[must_use]
    pub fn new(state: &'a StateDir, name: &'a str) -> Self {
        Self { state, name, file: None, offset: 0 }
    }

    /// What was there before the log of this name was begun; empty if there was none.
    ///
    /// # Errors
    /// As the system calls.
    pub fn older(&self) -> Result<Vec<u8>, StateError> {
        match self.open(&older(self.name))? {
            Some((file, _)) => self.read(&file, 0),
            None => Ok(Vec::new()),
        }
    }

    /// What has come since the last call; empty if nothing has.
    ///
    /// # Errors
    /// As the system calls.
    pub fn more(&mut self) -> Result<Vec<u8>, StateError> {
        let mut found = Vec::new();
        if let Some((file, _)) = &self.file {
            found = self.read(file, self.offset)?;
            self.offset += found.len() as u64;
        }
        let current = self.open(self.name)?;
        let inode = |file: &Option<(OwnedFd, u64)>| file.as_ref().map(|(_, inode)| *inode);
        if inode(&current) != inode(&self.file)
            && let Some((file, inode)) = current
        {
            let new = self.read(&file, 0)?;
            (self.file, self.offset) = (Some((file, inode)), new.len() as u64);
            found.extend(new);
        }
        Ok(found)
    }

    fn open(&self, name: &str) -> Result<Option<(OwnedFd, u64)>, StateError> {
        let path = self.state.path().join(name);
        let fail = |source: io::Error| StateError::Io { doing: "read", path: path.clone(), source };
        match rustix::fs::openat(self.state.dir(), name, sys::file_reader(), Mode::empty()) {
            Ok(file) => {
                let raw = sys::lstat_handle(file.as_fd()).map_err(|error| fail(error.into()))?;
                if raw.file_type != FileType::RegularFile {
                    return Err(StateError::NotAFile(path));
                }
                Ok(Some((file, raw.inode)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Err(StateError::NotAFile(path)),
            Err(error) => Err(fail(error.into())),
        }
    }

    fn read(&self, file: &OwnedFd, mut offset: u64) -> Result<Vec<u8>, StateError> {
        let mut found = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = sys::read_full(file.as_fd(), &mut buffer, offset).map_err(|source| {
                StateError::Io { doing: "read", path: self.state.path().join(self.name), source }
            })?;
            found.extend(buffer.iter().take(read));
            offset += read as u64;
            if read < buffer.len() {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk from outside")]
mod tests {
    use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _};

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_full_log_turns_over_and_a_reader_follows() {
        let top = tempdir().expect("there is room");
        let state = StateDir::open(top.path()).expect("is ours");
        let mut reader = LogReader::new(&state, "kin.log");
        assert!(reader.more().expect("can be read").is_empty());
        let mut log = LogFile::open(&state, "kin.log", 20).expect("can be made");
        let mut read = Vec::new();
        for number in 0..10 {
            log.write_all(format!("line {number}\n").as_bytes()).expect("there is room");
            read.extend(reader.more().expect("can be read"));
        }
        let all: String = (0..10).map(|number| format!("line {number}\n")).collect();
        assert_eq!(String::from_utf8(read).expect("is text"), all);
        let older = reader.older().expect("can be read");
        let present = fs::read(top.path().join("kin.log")).expect("is there");
        assert_eq!((older.len(), present.len()), (14, 14));
        for name in ["kin.log", "kin.log.1"] {
            let mode = fs::metadata(top.path().join(name)).expect("is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        // Another run writes on.
        let mut log = LogFile::open(&state, "kin.log", 200).expect("can be opened");
        log.write_all(b"more\n").expect("there is room");
        assert_eq!(reader.more().expect("can be read"), b"more\n");
    }

    #[test]
    fn a_link_is_not_written_through() {
        let top = tempdir().expect("there is room");
        let state = StateDir::open(&top.path().join("kin")).expect("can be made");
        let other = top.path().join("other");
        fs::write(&other, "mine").expect("there is room");
        std::os::unix::fs::symlink(&other, top.path().join("kin/kin.log")).expect("can be made");
        assert!(matches!(LogFile::open(&state, "kin.log", 9), Err(StateError::NotAFile(_))));
        assert!(matches!(LogReader::new(&state, "kin.log").more(), Err(StateError::NotAFile(_))));
        assert_eq!(fs::read_to_string(&other).expect("is there"), "mine");
    }
}
