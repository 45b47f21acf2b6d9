//! What the imagined users do: random edits from a seed, made as programs make them.
//!
//! Contents are unlike any other, so that each can be looked for later.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "plays the user, only below a directory that was made for it"
)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use super::oracle::Written;

/// Randomness that a seed decides, the same in every version: splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// An index into something of this length, which is not 0.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}

/// One thing a user does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Edit {
    /// Writes a file in place.
    Write(PathBuf, Vec<u8>),
    /// Writes a new file and renames it over the old one, as editors do.
    Save(PathBuf, Vec<u8>),
    /// Adds to a file.
    Append(PathBuf, Vec<u8>),
    /// Removes a path and what is below it.
    Remove(PathBuf),
    /// Renames a path.
    Rename(PathBuf, PathBuf),
    /// Makes a directory.
    MakeDir(PathBuf),
    /// Makes a symbolic link.
    Link(PathBuf, PathBuf),
    /// Sets permission bits.
    Chmod(PathBuf, u32),
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "notes.txt", "Ä"];
/// Large enough to be cut into chunks, in bytes.
const LARGE: usize = 1_300_000;

fn path(rng: &mut Rng) -> PathBuf {
    let depth = 1 + rng.below(3);
    (0..depth).map(|_| NAMES[rng.index(NAMES.len())]).collect()
}

/// Contents that no other edit writes.
pub(super) fn contents(rng: &mut Rng, number: u64) -> Vec<u8> {
    let mut bytes = format!("edit {number} {:016x}\n", rng.next()).into_bytes();
    if rng.below(30) == 0 {
        let mut filler = Rng::new(rng.next());
        while bytes.len() < LARGE {
            bytes.extend_from_slice(&filler.next().to_le_bytes());
        }
    }
    bytes
}

/// The next edit of a history.
pub(super) fn random(rng: &mut Rng, number: u64) -> Edit {
    let at = path(rng);
    match rng.below(24) {
        0..=7 => Edit::Write(at, contents(rng, number)),
        8..=11 => Edit::Save(at, contents(rng, number)),
        12 => Edit::Append(at, contents(rng, number)),
        13..=15 => Edit::Remove(at),
        16..=18 => Edit::Rename(at, path(rng)),
        19 | 20 => Edit::MakeDir(at),
        21 => Edit::Link(at, path(rng)),
        _ => Edit::Chmod(at, if rng.below(2) == 0 { 0o755 } else { 0o700 }),
    }
}

impl Edit {
    /// Where it writes a file, if it does: another device may write there at the same time.
    pub(super) fn written_at(&self) -> Option<&Path> {
        match self {
            Self::Write(at, _) | Self::Save(at, _) => Some(at),
            _ => None,
        }
    }

    /// Does it in `folder`, and notes what was written and what a user replaced. Much cannot be done, since
    /// paths are random and a device changes the folder meanwhile: that is an error and no harm.
    ///
    /// # Errors
    /// As the system calls.
    pub(super) fn carry_out(&self, folder: &Path, written: &mut Written) -> io::Result<()> {
        match self {
            Self::Write(at, bytes) => {
                let mut file = open(folder, at)?;
                replaced_in(&mut file, written)?;
                written.note(bytes);
                file.rewind()?;
                file.set_len(0)?;
                file.write_all(bytes)
            }
            Self::Append(at, bytes) => {
                let mut file = open(folder, at)?;
                let mut whole = replaced_in(&mut file, written)?;
                whole.extend_from_slice(bytes);
                written.note(&whole);
                file.write_all(bytes)
            }
            Self::Save(at, bytes) => {
                let at = with_parents(folder, at)?;
                // What is ignored by default does not travel: the name of an unfinished file.
                let unfinished = folder.join(".torture.swp");
                fs::write(&unfinished, bytes)?;
                let before = file_at(&at);
                fs::rename(&unfinished, &at)?;
                written.replaced(&before);
                written.note(bytes);
                Ok(())
            }
            Self::Remove(at) => {
                let at = folder.join(at);
                if !fs::symlink_metadata(&at)?.is_dir() {
                    let before = file_at(&at);
                    fs::remove_file(&at)?;
                    written.replaced(&before);
                    return Ok(());
                }
                // A part may be removed before it fails.
                below(&at, &mut |file| written.replaced(&file_at(file)));
                fs::remove_dir_all(&at)
            }
            Self::Rename(from, to) => {
                let to = with_parents(folder, to)?;
                let before = file_at(&to);
                fs::rename(folder.join(from), to)?;
                written.replaced(&before);
                Ok(())
            }
            Self::MakeDir(at) => fs::create_dir_all(folder.join(at)),
            Self::Link(at, target) => link(target, &with_parents(folder, at)?),
            Self::Chmod(at, mode) => chmod(&folder.join(at), *mode),
        }
    }
}

fn with_parents(folder: &Path, at: &Path) -> io::Result<PathBuf> {
    let at = folder.join(at);
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(at)
}

/// Opens a file to change it in place. A link is not followed: it may lead to anything.
fn open(folder: &Path, at: &Path) -> io::Result<File> {
    let at = with_parents(folder, at)?;
    if fs::symlink_metadata(&at).is_ok_and(|found| !found.is_file()) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(at)
}

/// What is in the file is replaced by a user who sees it.
fn replaced_in(file: &mut File, written: &mut Written) -> io::Result<Vec<u8>> {
    let mut before = Vec::new();
    file.read_to_end(&mut before)?;
    written.replaced(&before);
    Ok(before)
}

/// What a file holds; nothing if there is none.
fn file_at(at: &Path) -> Vec<u8> {
    let is_file = fs::symlink_metadata(at).is_ok_and(|found| found.is_file());
    if is_file { fs::read(at).unwrap_or_default() } else { Vec::new() }
}

/// Calls `each` with every file below a directory.
fn below(dir: &Path, each: &mut dyn FnMut(&Path)) {
    // What vanishes meanwhile is not removed by this user.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let at = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => below(&at, each),
            Ok(kind) if kind.is_file() => each(&at),
            _ => {}
        }
    }
}

#[cfg(unix)]
fn link(target: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
fn chmod(at: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // A link would be followed.
    if fs::symlink_metadata(at)?.is_symlink() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::set_permissions(at, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn chmod(_: &Path, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_every_edit() {
        let history = |seed| {
            let mut rng = Rng::new(seed);
            (0..50).map(|number| random(&mut rng, number)).collect::<Vec<_>>()
        };
        assert_eq!(history(7), history(7));
        assert_ne!(history(7), history(8));
    }

    #[test]
    fn edits_do_what_they_say_and_are_noted() {
        let dir = tempfile::tempdir().expect("there is room");
        let mut written = Written::default();
        let mut done = |edit: Edit| edit.carry_out(dir.path(), &mut written);
        let [one, two] = ["a/b", "c"].map(PathBuf::from);
        done(Edit::Write(one.clone(), b"first".to_vec())).expect("can be done");
        done(Edit::Append(one.clone(), b" and more".to_vec())).expect("can be done");
        done(Edit::Save(two.clone(), b"second".to_vec())).expect("can be done");
        done(Edit::Write(two.clone(), b"third".to_vec())).expect("can be done");
        done(Edit::Rename(one.clone(), two.clone())).expect("can be done");
        done(Edit::Write(one.join("below"), b"x".to_vec())).expect("a/b is free now");
        done(Edit::Remove("a".into())).expect("can be done");
        assert!(done(Edit::Remove(one)).is_err(), "it is gone");
        assert_eq!(fs::read(dir.path().join(two)).expect("is there"), b"first and more");
        let left = written.wanted().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(left.collect::<Vec<_>>(), ["first and more"]);
    }
}
