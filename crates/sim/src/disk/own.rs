//! Looking through `.kin` of a virtual disk.

use std::io;

use tree::{DirEntry, FileKind, Listing, Place, Stat};
use wire::RelPath;

use super::{Call, Entry, VirtualDisk, find, full_path, holder, invalid};

/// Where a directory of history lies below the directory above both.
pub(super) fn history_dir(dir: &RelPath) -> String {
    if dir.is_root() { "kin/history".to_owned() } else { format!("kin/history/{}", dir.as_str()) }
}

/// Fails for places where no directory is built.
pub(super) fn must_be_built(at: &Place) -> io::Result<()> {
    match at {
        Place::Swap(_) | Place::Built(..) => Ok(()),
        _ => Err(invalid("no place where a directory is built")),
    }
}

/// What is in a directory that is being built, what a directory holds before it.
fn built(at: &Place, entry: &Entry, found: &mut Vec<(Place, Stat)>) -> io::Result<()> {
    if entry.stat().kind == FileKind::Dir {
        for (name, entry) in entry.names()? {
            built(&at.join(name).ok_or_else(|| invalid("not ours"))?, entry, found)?;
        }
    }
    found.push((at.clone(), entry.stat()));
    Ok(())
}

impl VirtualDisk {
    pub(super) fn make_dir_at(&self, at: &Place, mode: u32) -> io::Result<()> {
        let mut top = self.change(Call::Write)?;
        let path = self.real(&top, full_path(at)?);
        self.make_parents(&mut top, at, &path)?;
        let (names, name) = holder(&mut top, &path, self.meter.now())?;
        if names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(name.into(), self.meter.dir((mode | 0o700) & 0o777));
        Ok(())
    }

    pub(super) fn list_at(&self, path: String) -> io::Result<Listing> {
        let top = self.look(Call::Open)?;
        let entry = find(&top, &self.real(&top, path))?;
        if entry.stat().kind == FileKind::MountPoint {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let names = entry.names()?;
        if entry.stat().mode & 0o400 == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let entries = names
            .iter()
            .map(|(name, entry)| DirEntry { name: name.to_string(), stat: entry.stat() });
        Ok(Listing { entries: entries.collect(), ..Listing::default() })
    }

    pub(super) fn remove_empty(&self, path: String) -> io::Result<()> {
        let mut top = self.change(Call::Change)?;
        let path = self.real(&top, path);
        let (names, name) = holder(&mut top, &path, self.meter.now())?;
        let entry = names.get(name).ok_or(io::ErrorKind::NotFound)?;
        if !entry.names()?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        names.remove(name);
        Ok(())
    }

    pub(super) fn all_own(&self) -> io::Result<Vec<(Place, Stat)>> {
        let top = self.look(Call::Open)?;
        let mut found = Vec::new();
        for dir in ["kin/swap", "kin/restore"] {
            let Ok(entries) = find(&top, dir) else { continue };
            for (name, entry) in entries.names()? {
                let number = u64::from_str_radix(name, 16).map_err(|_| invalid("not ours"))?;
                let swap = dir == "kin/swap";
                if swap {
                    built(&Place::Swap(number), entry, &mut found)?;
                } else {
                    found.push((Place::Restore(number), entry.stat()));
                }
            }
        }
        if let Ok(partial) = find(&top, "kin/partial") {
            for (name, entry) in partial.names()? {
                let mut hash = [0; 32];
                for (byte, at) in hash.iter_mut().zip((0..name.len()).step_by(2)) {
                    let digits = name.get(at..at + 2).unwrap_or_default();
                    *byte = u8::from_str_radix(digits, 16).map_err(|_| invalid("not ours"))?;
                }
                found.push((Place::Partial(wire::Hash(hash)), entry.stat()));
            }
        }
        Ok(found)
    }
}
