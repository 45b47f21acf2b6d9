//! Looking again at what came out of the tree (rule E13): who had it open may have gone on writing.

use tree::{Disk, Place, apply};
use wire::{Hash, RelPath};

use super::{LookAgain, Seen, apply::is_homeless};
use crate::content::ContentReader;

/// Names tried for a copy, should they be taken.
const ATTEMPTS: u64 = 16;

/// Looks at a file that made room. If somebody has written to it since, it becomes a conflict copy: the
/// same inode, so that what is still to be written lands in the tree and is seen there.
pub(super) fn look_again(disk: &dyn Disk, item: &LookAgain, replica: u64) -> Seen {
    let stat = match disk.stat(&item.place) {
        Ok(Some(stat)) => stat,
        // Somebody has cleared it away, or brought it back.
        Ok(None) => return Seen::Gone,
        Err(_) => return Seen::Same,
    };
    if stat.same_contents(&item.stat) {
        return Seen::Same;
    }
    let read = disk.open(&item.place).ok();
    let read = read.and_then(|file| ContentReader::new().read(&*file, &stat).ok());
    let content = read.map(|hashed| hashed.content);
    if content.is_some() && content == item.content {
        // Written, or only touched, with the same contents.
        return Seen::Same;
    }
    let number = content.as_ref().map_or(stat.inode << 32, Hash::head);
    for attempt in 0..ATTEMPTS {
        let copy = apply::conflict_name(&item.path, replica, number.wrapping_add(attempt << 32));
        match into_tree(disk, &item.place, copy) {
            Ok(copy) => return Seen::Written(copy),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                tracing::warn!(%error, "an edit of a file that was replaced stays in .kin/history");
                return Seen::Same;
            }
        }
    }
    Seen::Same
}

/// Moves a file into the tree: beside the path it had, or, if that directory is gone, to the top.
fn into_tree(disk: &dyn Disk, place: &Place, copy: RelPath) -> std::io::Result<RelPath> {
    match disk.rename_new(place, &Place::Tree(copy.clone())) {
        Ok(()) => Ok(copy),
        Err(error) if is_homeless(&error) => {
            let top = RelPath::root().join(copy.name()).unwrap_or(copy);
            disk.rename_new(place, &Place::Tree(top.clone())).map(|()| top)
        }
        Err(error) => Err(error),
    }
}
