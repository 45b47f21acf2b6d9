//! Looking through `.kin` of a virtual disk.

use std::io;

use tree::{DirEntry, FileKind, Listing, Place, Stat};
use wire::RelPath;

use super::{Call, VirtualDisk, find, holder, invalid};

/// Where a directory of history lies below the directory above both.
pub(super) fn history_dir(dir: &RelPath) -> String {
    if dir.is_root() { "kin/history".to_owned() } else { format!("kin/history/{}", dir.as_str()) }
}

impl VirtualDisk {
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
                let place = if swap { Place::Swap(number) } else { Place::Restore(number) };
                found.push((place, entry.stat()));
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
