//! The door between the engine and a disk: one trait, implemented by [`crate::Root`] for real disks
//! and by the simulator for virtual ones.
//!
//! Each method is about one system call, so that the simulator can crash between any two of them. What
//! they add up to (the swap of rule E13, recovery) is [`crate::apply`], written once over this trait.

use std::io;

use wire::{Hash, RelPath};

/// What a path is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link; never followed.
    Symlink,
    /// A FIFO, socket or device: never travels.
    Special,
    /// A directory on which another file system is mounted, or a file on which another file is: not
    /// entered, not opened (rule E10).
    MountPoint,
}

/// What `lstat` says of a path, as far as the engine cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Size in bytes; 0 for all but files.
    pub size: u64,
    /// Modification time in nanoseconds since 1970.
    pub mtime: i64,
    /// Change time in nanoseconds since 1970.
    pub ctime: i64,
    /// Inode number.
    pub inode: u64,
    /// Permission bits, at most `0o777`: setuid, setgid and sticky are masked out (rule E10).
    pub mode: u32,
}

impl Stat {
    /// True if `other` is the same file with the same contents as far as a stat can tell: kind, size,
    /// mtime and inode. A rename changes the ctime, a chmod the mode; neither counts here.
    #[must_use]
    pub fn same_contents(&self, other: &Self) -> bool {
        (self.kind, self.size, self.mtime, self.inode)
            == (other.kind, other.size, other.mtime, other.inode)
    }
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Its name.
    pub name: String,
    /// What `lstat` said of it.
    pub stat: Stat,
}

/// All names in a directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// What can travel, sorted by name (bytewise). `.kin` at the root is left out.
    pub entries: Vec<DirEntry>,
    /// Names that are not UTF-8, escaped for display: they stay here and are reported.
    pub odd_names: Vec<String>,
    /// Names whose stat failed (other than by vanishing), with the error: their state is unknown.
    pub unreadable: Vec<(String, io::ErrorKind, String)>,
}

/// A place inside a folder: in the user's tree or in its `.kin` directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// The user's tree.
    Tree(RelPath),
    /// `.kin/partial/<64 hex>`: a download that survives stop and crash (rule E14).
    Partial(Hash),
    /// `.kin/swap/<16 hex>`: what is about to be swapped in, and what came out.
    Swap(u64),
    /// `.kin/swap/<16 hex>/<path>`: in a directory that is being built there (rule E16).
    Built(u64, RelPath),
    /// `.kin/history/<path>`: what sync replaced or deleted. The last name already carries the time.
    History(RelPath),
    /// `.kin/restore/<16 hex>`: a copy from history that is being made, by whatever process: never the
    /// only one.
    Restore(u64),
}

impl Place {
    /// What is called `name` in the directory that is being built here; `None` if that is nowhere.
    #[must_use]
    pub fn join(&self, name: &str) -> Option<Self> {
        match self {
            Self::Swap(number) => Some(Self::Built(*number, RelPath::root().join(name).ok()?)),
            Self::Built(number, dir) => Some(Self::Built(*number, dir.join(name).ok()?)),
            _ => None,
        }
    }
}

/// A regular file opened for reading.
pub trait ReadFile: Send + Sync {
    /// `fstat` of the open handle.
    ///
    /// # Errors
    /// As the system call.
    fn stat(&self) -> io::Result<Stat>;

    /// Reads at `offset` into `buf` until it is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    /// As the system call.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A file of ours, in `.kin`, opened for reading and writing.
pub trait WriteFile: ReadFile {
    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// As the system call; what was written before the error stays.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts or extends the file to `len` bytes.
    ///
    /// # Errors
    /// As the system call.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Sets permission bits and modification time (nanoseconds since 1970).
    ///
    /// # Errors
    /// As the system calls.
    fn set_meta(&self, mode: u32, mtime: i64) -> io::Result<()>;

    /// Has what was written to a range begin its way to the disk, where the system can. Waits for nothing, and takes
    /// no error away from [`WriteFile::sync`].
    fn begin_sync(&self, _offset: u64, _len: u64) {}

    /// Makes contents and size durable (`fdatasync`).
    ///
    /// # Errors
    /// As the system call.
    fn sync(&self) -> io::Result<()>;
}

/// One folder on one disk. Every path is resolved beneath the held root, follows no symbolic link and
/// crosses no mount point; a path that would is an error (`NotADirectory` for a link, `CrossesDevices`
/// for a mount), never an access elsewhere. A tree path in `.kin` is `InvalidInput`.
pub trait Disk: Send + Sync {
    /// `lstat`; `None` if nothing is there, a parent is missing, or a parent is a file.
    ///
    /// # Errors
    /// Anything but absence; `NotADirectory` if a parent is a symbolic link.
    fn stat(&self, at: &Place) -> io::Result<Option<Stat>>;

    /// Reads a whole directory of the tree. All or nothing: an error while reading is an error of the
    /// listing, so that absence from a listing proves absence from the disk (rule E8).
    ///
    /// # Errors
    /// `NotFound` if it is not there, `NotADirectory`, or what the system calls say.
    fn list(&self, dir: &RelPath) -> io::Result<Listing>;

    /// Opens a regular file for reading, without following a link and without blocking on a FIFO.
    ///
    /// # Errors
    /// As the system call; `InvalidInput` if it is not a regular file.
    fn open(&self, at: &Place) -> io::Result<Box<dyn ReadFile>>;

    /// Opens a file of ours for writing, creating it (mode 0600) if it is not there. Contents are kept.
    /// The parents of a place in `.kin` are made as needed.
    ///
    /// # Errors
    /// As the system call; `InvalidInput` for a place in the tree, and for a file with a second name
    /// (hard link), through which somebody else's contents would change.
    fn open_own(&self, at: &Place) -> io::Result<Box<dyn WriteFile>>;

    /// Reads a symbolic link's target.
    ///
    /// # Errors
    /// As the system call; `InvalidData` if it is not UTF-8.
    fn read_link(&self, at: &Place) -> io::Result<String>;

    /// Makes a symbolic link at a place in `.kin`, with its own mtime.
    ///
    /// # Errors
    /// As the system calls.
    fn make_symlink(&self, at: &Place, target: &str, mtime: i64) -> io::Result<()>;

    /// Makes a directory in the tree with mode 0700 or wider as given.
    ///
    /// # Errors
    /// `AlreadyExists`, or as the system call.
    fn make_dir(&self, at: &RelPath, mode: u32) -> io::Result<()>;

    /// Makes a directory of ours, to be moved in later, with the mode that [`Disk::make_dir`] would give it.
    ///
    /// # Errors
    /// As [`Disk::make_dir`]; `InvalidInput` for any place but [`Place::Swap`] and [`Place::Built`].
    fn make_own_dir(&self, at: &Place, mode: u32) -> io::Result<()>;

    /// Removes an empty directory that [`Disk::make_own_dir`] has made.
    ///
    /// # Errors
    /// As [`Disk::remove_dir`]; `InvalidInput` as for [`Disk::make_own_dir`].
    fn remove_own_dir(&self, at: &Place) -> io::Result<()>;

    /// True if what is made in a directory of the tree gets more from it than its place: a group, or rights by
    /// default. It cannot be made elsewhere and moved in.
    ///
    /// # Errors
    /// As the system calls.
    fn hands_down(&self, _dir: &RelPath) -> io::Result<bool> {
        Ok(false)
    }

    /// Removes an empty directory from the tree.
    ///
    /// # Errors
    /// `DirectoryNotEmpty`, `NotFound`, or as the system call.
    fn remove_dir(&self, at: &RelPath) -> io::Result<()>;

    /// Moves without ever replacing (`RENAME_NOREPLACE`). Parents of a place in `.kin` are made as
    /// needed; parents in the tree are not.
    ///
    /// # Errors
    /// `AlreadyExists` if something is at `to`, or as the system call.
    fn rename_new(&self, from: &Place, to: &Place) -> io::Result<()>;

    /// As [`Disk::rename_new`] to a path of the tree, and then what is there: `None` if that cannot be told.
    ///
    /// # Errors
    /// Those of the move.
    fn put_in(&self, from: &Place, to: &RelPath) -> io::Result<Option<Stat>> {
        let to = Place::Tree(to.clone());
        self.rename_new(from, &to)?;
        Ok(self.stat(&to).ok().flatten())
    }

    /// Exchanges two places in one step (`RENAME_EXCHANGE`).
    ///
    /// # Errors
    /// `Unsupported` where the file system cannot, or as the system call.
    fn exchange(&self, a: &Place, b: &Place) -> io::Result<()>;

    /// Removes a file or link of ours in `.kin`. There is no way to unlink a user's file: deleting is
    /// moving into `.kin`.
    ///
    /// # Errors
    /// As the system call; `InvalidInput` for a place in the tree.
    fn unlink_own(&self, at: &Place) -> io::Result<()>;

    /// Sets permission bits and, for files and links, the modification time of something in the tree
    /// whose inode is `inode`; a different inode there is an error and nothing is changed.
    ///
    /// # Errors
    /// `NotFound` also if the inode differs; otherwise as the system calls.
    fn set_meta(&self, at: &RelPath, inode: u64, mode: u32, mtime: Option<i64>) -> io::Result<()>;

    /// Makes the entries of a tree directory durable.
    ///
    /// # Errors
    /// As the system call.
    fn sync_dir(&self, dir: &RelPath) -> io::Result<()>;

    /// Makes everything on the folder's file system durable (`syncfs`).
    ///
    /// # Errors
    /// As the system call.
    fn sync_all(&self) -> io::Result<()>;

    /// Reads a directory of `.kin/history`; the root is `.kin/history` itself. As [`Disk::list`].
    ///
    /// # Errors
    /// `NotFound` if it is not there, `NotADirectory`, or what the system calls say.
    fn list_history(&self, dir: &RelPath) -> io::Result<Listing>;

    /// Removes an empty directory from `.kin/history`.
    ///
    /// # Errors
    /// `DirectoryNotEmpty`, `NotFound`, or as the system call.
    fn remove_history_dir(&self, dir: &RelPath) -> io::Result<()>;

    /// What lies in `.kin/swap`, `.kin/partial` and `.kin/restore`, with the stat of each; what a directory holds
    /// comes before it.
    ///
    /// # Errors
    /// As the system calls.
    fn own_files(&self) -> io::Result<Vec<(Place, Stat)>>;

    /// Space free for this user on the folder's file system, in bytes.
    ///
    /// # Errors
    /// As the system call.
    fn free_space(&self) -> io::Result<u64>;

    /// Size of the folder's file system, in bytes.
    ///
    /// # Errors
    /// As the system call.
    fn total_space(&self) -> io::Result<u64>;

    /// True if the disk takes names that differ for the same: in case, or in how letters with marks are put
    /// together. Whoever works on it looks through [`crate::Exact`].
    fn folds_names(&self) -> bool {
        false
    }
}
