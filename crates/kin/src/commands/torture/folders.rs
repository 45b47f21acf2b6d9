//! Reading the folders in the end, and the few files that a run needs.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "only below a directory that was made for it"
)]

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::oracle::{Found, Node};

/// What belongs to one device and does not travel.
const OWN: [&str; 4] = [".kin", ".kinignore", ".dsyncignore", ".torture.swp"];

/// Makes a directory.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)
}

/// Removes a directory that was made here, and all it holds.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    fs::remove_dir_all(dir)
}

/// Writes a file that only its owner can read.
pub(super) fn write_secret(file: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    io::Write::write_all(&mut options.open(file)?, text.as_bytes())
}

/// Reads a whole folder. Nobody may change it meanwhile.
///
/// # Errors
/// As the system calls: what cannot be read is not equal to anything.
pub(super) fn read(folder: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(folder.join(&dir))? {
            let entry = entry?;
            let at = dir.join(entry.file_name());
            if dir.as_os_str().is_empty() && OWN.iter().any(|own| entry.file_name() == *own) {
                continue;
            }
            let stat = entry.metadata()?;
            let node = if stat.is_dir() {
                dirs.push(at.clone());
                Node::Dir(mode(&stat))
            } else if stat.is_symlink() {
                Node::Link(fs::read_link(entry.path())?.to_string_lossy().into_owned())
            } else if stat.is_file() {
                Node::File(fs::read(entry.path())?, mode(&stat), mtime(&stat)?)
            } else {
                Node::Other
            };
            found.tree.insert(at, node);
        }
    }
    contents(&folder.join(".kin"), &mut found.kept)?;
    Ok(found)
}

fn contents(dir: &Path, into: &mut BTreeSet<Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            contents(&entry.path(), into)?;
        } else if kind.is_file() {
            into.insert(fs::read(entry.path())?);
        }
    }
    Ok(())
}

#[cfg(unix)]
fn mode(stat: &fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&stat.permissions()) & 0o777
}

#[cfg(not(unix))]
fn mode(_: &fs::Metadata) -> u32 {
    0
}

fn mtime(stat: &fs::Metadata) -> io::Result<i64> {
    let since = stat.modified()?.duration_since(std::time::UNIX_EPOCH);
    Ok(since.ok().and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0))
}
