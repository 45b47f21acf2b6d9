//! The system calls this crate makes, and everywhere that platforms differ: resolving a name beneath a
//! held directory, `lstat`, renames that never replace, durability, modes.
//!
//! Not for: what a folder is (`root`), or what operations add up to (`apply`). Nothing here takes a path
//! that leads through more than one directory except [`open_beneath`], and that follows no link.

use std::io;

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps},
    io::Errno,
};

use crate::{FileKind, Stat};

/// What a kernel or file system can do; found out when a folder is opened. Switched off by tests to
/// exercise the ways around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caps {
    /// `openat2` exists (Linux 5.6).
    pub(crate) openat2: bool,
    /// `renameat2`, or its like, with NOREPLACE and EXCHANGE may be tried.
    pub(crate) rename_flags: bool,
    /// All of the file system is one device: it knows no btrfs subvolumes or the like.
    pub(crate) one_device: bool,
}

impl Caps {
    /// Tries what can only be found out by trying.
    pub(crate) fn probe(dir: BorrowedFd<'_>) -> Self {
        Self { openat2: probe_openat2(dir), rename_flags: true, one_device: is_one_device(dir) }
    }
}

/// Flags of a directory handle that other names are resolved from.
pub(crate) fn dir_handle() -> OFlags {
    OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | path_only()
}

/// Flags for reading a directory's names or making them durable.
pub(crate) fn dir_reader() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Flags for reading a regular file: never blocks on a FIFO, never takes a terminal.
pub(crate) fn file_reader() -> OFlags {
    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

#[cfg(target_os = "linux")]
fn path_only() -> OFlags {
    OFlags::PATH
}

/// Elsewhere a handle needs read permission on the directory, which a folder's directories have.
#[cfg(not(target_os = "linux"))]
fn path_only() -> OFlags {
    OFlags::RDONLY
}

/// Opens `path` (names joined by `/`; empty for the directory itself) beneath `top`, following no link
/// and entering no other file system.
pub(crate) fn open_beneath(
    caps: Caps,
    top: BorrowedFd<'_>,
    dev: u64,
    path: &str,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let fd = if caps.openat2 { openat2(top, path, flags)? } else { walk(top, dev, path, flags)? };
    if caps.openat2 && caps.one_device {
        // What is mounted below was refused (NO_XDEV).
        return Ok(fd);
    }
    if flags.contains(OFlags::DIRECTORY) && lstat_handle(fd.as_fd())?.dev != dev {
        // A btrfs subvolume: another device that is no mount point to the kernel (rule E10).
        return Err(Errno::XDEV.into());
    }
    Ok(fd)
}

#[cfg(target_os = "linux")]
fn resolve_flags() -> rustix::fs::ResolveFlags {
    use rustix::fs::ResolveFlags;
    ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV
}

#[cfg(target_os = "linux")]
fn probe_openat2(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::openat2(dir, ".", dir_handle(), Mode::empty(), resolve_flags()).is_ok()
}

/// True for the file systems that are known to show one device each.
#[cfg(target_os = "linux")]
fn is_one_device(dir: BorrowedFd<'_>) -> bool {
    // ext2 to ext4, XFS, tmpfs.
    const KNOWN: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];
    #[allow(
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        trivial_numeric_casts,
        reason = "its type differs from system to system"
    )]
    rustix::fs::fstatfs(dir).is_ok_and(|found| KNOWN.contains(&(found.f_type as u64)))
}

/// What the system shows of itself in a directory instead of files; `None` if it is a file system for files.
#[cfg(target_os = "linux")]
pub(crate) fn virtual_kind(dir: BorrowedFd<'_>) -> Option<&'static str> {
    const KNOWN: [(u64, &str); 18] = [
        (0x9fa0, "proc"),
        (0x6265_6572, "sysfs"),
        (0x1cd1, "devpts"),
        (0x0027_e0eb, "cgroup"),
        (0x6367_7270, "cgroup2"),
        (0x6462_6720, "debugfs"),
        (0x7472_6163, "tracefs"),
        (0x7363_6673, "securityfs"),
        (0x6265_6570, "configfs"),
        (0x6165_676c, "pstore"),
        (0xde5e_81e4, "efivarfs"),
        (0xcafe_4a11, "bpf"),
        (0x4249_4e4d, "binfmt_misc"),
        (0x6573_5543, "fusectl"),
        (0x1980_0202, "mqueue"),
        (0xf97c_ff8c, "selinuxfs"),
        (0x6e73_6673, "nsfs"),
        (0x6759_6969, "rpc_pipefs"),
    ];
    #[allow(
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        trivial_numeric_casts,
        reason = "its type differs from system to system"
    )]
    let found = rustix::fs::fstatfs(dir).ok()?.f_type as u64 & 0xffff_ffff;
    KNOWN.iter().find(|(magic, _)| *magic == found).map(|(_, kind)| *kind)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn virtual_kind(_dir: BorrowedFd<'_>) -> Option<&'static str> {
    None
}

#[cfg(not(target_os = "linux"))]
fn is_one_device(_dir: BorrowedFd<'_>) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn probe_openat2(_dir: BorrowedFd<'_>) -> bool {
    false
}

#[cfg(target_os = "linux")]
fn openat2(top: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    // NO_SYMLINKS refuses a link as a link; NOFOLLOW would open it first and find no directory.
    let flags = flags - OFlags::NOFOLLOW;
    // The kernel answers AGAIN when renames elsewhere kept it from judging; it asks for another try.
    for _ in 0..64 {
        match rustix::fs::openat2(top, path, flags, Mode::empty(), resolve_flags()) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other.map_err(typed),
        }
    }
    Err(Errno::AGAIN.into())
}

#[cfg(not(target_os = "linux"))]
fn openat2(_top: BorrowedFd<'_>, _path: &str, _flags: OFlags) -> io::Result<OwnedFd> {
    Err(Errno::NOSYS.into())
}

/// [`openat2`] where there is none: one name at a time, each a real directory of the same device.
fn walk(top: BorrowedFd<'_>, dev: u64, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let mut held: Option<OwnedFd> = None;
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        let at = held.as_ref().map_or(top, AsFd::as_fd);
        if name == ".." {
            return Err(Errno::XDEV.into());
        }
        let last = names.peek().is_none();
        let flags = if last { flags | OFlags::NOFOLLOW } else { dir_handle() };
        let next = match rustix::fs::openat(at, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            // Which of the two it is for a link differs between kernels.
            Err(error @ (Errno::NOTDIR | Errno::LOOP)) => {
                let link = lstat(at, name).is_ok_and(|raw| raw.file_type == FileType::Symlink);
                return Err(typed(if link { Errno::LOOP } else { error }));
            }
            Err(error) => return Err(typed(error)),
        };
        if !last && lstat_handle(next.as_fd())?.dev != dev {
            return Err(Errno::XDEV.into());
        }
        held = Some(next);
    }
    held.ok_or_else(|| Errno::NOENT.into())
}

/// A link where a directory was is told apart from everything else by its kind.
pub(crate) fn typed(error: Errno) -> io::Error {
    if error == Errno::LOOP {
        return io::Error::new(
            io::ErrorKind::NotADirectory,
            "a symbolic link stands where a directory or file is meant",
        );
    }
    error.into()
}

/// `lstat` with what [`Stat`] leaves out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawStat {
    pub(crate) file_type: FileType,
    pub(crate) dev: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
    /// When the inode was made, in nanoseconds since 1970; 0 where the file system does not know.
    pub(crate) born: i64,
    /// All permission bits.
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) group: u32,
    pub(crate) links: u64,
    /// True if something is mounted here.
    pub(crate) mounted: bool,
}

impl RawStat {
    /// What the engine sees of it, in a folder on device `dev`.
    pub(crate) fn seen_from(&self, dev: u64) -> Stat {
        let kind = match self.file_type {
            // A directory of another device is a mount or a btrfs subvolume. Files are not asked for
            // theirs: overlayfs reports the device of the layer below.
            FileType::Directory if self.mounted || self.dev != dev => FileKind::MountPoint,
            FileType::Directory => FileKind::Dir,
            _ if self.mounted => FileKind::MountPoint,
            FileType::RegularFile => FileKind::File,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Special,
        };
        Stat {
            kind,
            size: if kind == FileKind::File { self.size } else { 0 },
            mtime: self.mtime,
            ctime: self.ctime,
            inode: self.inode,
            mode: self.mode & 0o777,
        }
    }
}

fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// `lstat` of one name in a directory.
#[cfg(target_os = "linux")]
pub(crate) fn lstat<P: rustix::path::Arg>(
    dir: BorrowedFd<'_>,
    name: P,
) -> rustix::io::Result<RawStat> {
    use rustix::fs::{StatxAttributes, StatxFlags};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let raw = rustix::fs::statx(dir, name, flags, wanted)?;
    let time = |t: rustix::fs::StatxTimestamp| nanos(t.tv_sec, i64::from(t.tv_nsec));
    Ok(RawStat {
        file_type: FileType::from_raw_mode(u32::from(raw.stx_mode)),
        dev: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
        inode: raw.stx_ino,
        size: raw.stx_size,
        mtime: time(raw.stx_mtime),
        ctime: time(raw.stx_ctime),
        born: if raw.stx_mask & StatxFlags::BTIME.bits() == 0 { 0 } else { time(raw.stx_btime) },
        mode: u32::from(raw.stx_mode) & 0o7777,
        owner: raw.stx_uid,
        group: raw.stx_gid,
        links: u64::from(raw.stx_nlink),
        mounted: raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    })
}

/// `fstat` of a handle.
#[cfg(target_os = "linux")]
pub(crate) fn lstat_handle(fd: BorrowedFd<'_>) -> rustix::io::Result<RawStat> {
    lstat(fd, c"")
}

/// `lstat` of one name in a directory.
#[cfg(not(target_os = "linux"))]
pub(crate) fn lstat<P: rustix::path::Arg>(
    dir: BorrowedFd<'_>,
    name: P,
) -> rustix::io::Result<RawStat> {
    Ok(convert(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// `fstat` of a handle.
#[cfg(not(target_os = "linux"))]
pub(crate) fn lstat_handle(fd: BorrowedFd<'_>) -> rustix::io::Result<RawStat> {
    Ok(convert(&rustix::fs::fstat(fd)?))
}

#[cfg(not(target_os = "linux"))]
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    trivial_numeric_casts,
    reason = "the fields' types differ from system to system"
)]
fn convert(raw: &rustix::fs::Stat) -> RawStat {
    #[cfg(target_vendor = "apple")]
    let born = nanos(raw.st_birthtime as i64, raw.st_birthtime_nsec as i64);
    #[cfg(not(target_vendor = "apple"))]
    let born = 0;
    RawStat {
        file_type: FileType::from_raw_mode(raw.st_mode as _),
        dev: raw.st_dev as u64,
        inode: raw.st_ino as u64,
        size: raw.st_size as u64,
        mtime: nanos(raw.st_mtime as i64, raw.st_mtime_nsec as i64),
        ctime: nanos(raw.st_ctime as i64, raw.st_ctime_nsec as i64),
        born,
        mode: raw.st_mode as u32 & 0o7777,
        owner: raw.st_uid as u32,
        group: raw.st_gid as u32,
        links: raw.st_nlink as u64,
        mounted: false,
    }
}

/// Calls `each` with every name in an open directory but `.` and `..`.
#[cfg(target_os = "linux")]
pub(crate) fn names(dir: BorrowedFd<'_>, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 32 * 1024];
    let mut entries = rustix::fs::RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    each(name);
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Calls `each` with every name in an open directory but `.` and `..`.
#[cfg(not(target_os = "linux"))]
pub(crate) fn names(dir: BorrowedFd<'_>, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name);
        }
    }
    Ok(())
}

/// Renames without ever replacing what is at the target.
///
/// Where the file system knows no such rename: into `.kin` (`target_is_ours`) by looking first, since
/// the lock keeps everybody else out; out of `.kin` by linking, or for a directory by renaming over an
/// empty one, both of which fail on an occupied name.
pub(crate) fn rename_new(
    caps: Caps,
    from: (BorrowedFd<'_>, &str),
    to: (BorrowedFd<'_>, &str),
    target_is_ours: bool,
) -> io::Result<()> {
    if caps.rename_flags {
        match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            other => return other.map_err(typed),
        }
    }
    if target_is_ours {
        return match lstat(to.0, to.1) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(Errno::NOENT) => rustix::fs::renameat(from.0, from.1, to.0, to.1).map_err(typed),
            Err(error) => Err(typed(error)),
        };
    }
    if lstat(from.0, from.1)?.file_type == FileType::Directory {
        rustix::fs::mkdirat(to.0, to.1, Mode::from_raw_mode(0o700))?;
        return rustix::fs::renameat(from.0, from.1, to.0, to.1).map_err(typed);
    }
    rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty()).map_err(not_linked)?;
    rustix::fs::unlinkat(from.0, from.1, AtFlags::empty()).map_err(typed)
}

/// A disk without hard links says that they are not permitted, which is nobody's to permit (exFAT).
fn not_linked(error: Errno) -> io::Error {
    match error {
        Errno::PERM | Errno::NOTSUP => io::Error::new(
            io::ErrorKind::Unsupported,
            "this file system has neither hard links nor renames that replace nothing, so that nothing can be put on \
             it safely; give a folder on another one, such as ext4, XFS, Btrfs or APFS",
        ),
        other => typed(other),
    }
}

/// Exchanges two names in one step; `Unsupported` where that cannot be.
pub(crate) fn exchange(
    caps: Caps,
    a: (BorrowedFd<'_>, &str),
    b: (BorrowedFd<'_>, &str),
) -> io::Result<()> {
    if !caps.rename_flags {
        return Err(io::ErrorKind::Unsupported.into());
    }
    match rustix::fs::renameat_with(a.0, a.1, b.0, b.1, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Err(io::ErrorKind::Unsupported.into()),
        other => other.map_err(typed),
    }
}

fn times(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: mtime.div_euclid(1_000_000_000),
            tv_nsec: mtime.rem_euclid(1_000_000_000),
        },
    }
}

/// Permission bits as the system call takes them; setuid, setgid and sticky never pass (rule E10).
pub(crate) fn mode_bits(mode: u32) -> Mode {
    Mode::from_bits_truncate((mode & 0o777) as rustix::fs::RawMode)
}

/// Sets mode and modification time of an open file.
pub(crate) fn set_open_meta(fd: BorrowedFd<'_>, mode: u32, mtime: Option<i64>) -> io::Result<()> {
    rustix::fs::fchmod(fd, mode_bits(mode))?;
    if let Some(mtime) = mtime {
        rustix::fs::futimens(fd, &times(mtime))?;
    }
    Ok(())
}

/// Sets the modification time of a link itself.
pub(crate) fn set_link_time<P: rustix::path::Arg>(
    dir: BorrowedFd<'_>,
    name: P,
    mtime: i64,
) -> io::Result<()> {
    rustix::fs::utimensat(dir, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(typed)
}

/// Sets mode and time of something that its owner may not even open, whose inode is `inode`.
///
/// A handle that gives no access (`O_PATH`) pins the inode; the time is set through it, the mode through
/// its name in /proc, which leads to the pinned inode and nowhere else. `fchmodat2` (Linux 6.6) would do
/// without /proc, but no safe binding has it yet.
#[cfg(target_os = "linux")]
pub(crate) fn set_unreadable_meta<P: rustix::path::Arg + Copy>(
    dir: BorrowedFd<'_>,
    name: P,
    inode: u64,
    mode: u32,
    mtime: Option<i64>,
) -> io::Result<()> {
    use rustix::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(typed)?;
    let raw = lstat_handle(fd.as_fd())?;
    if raw.inode != inode || raw.file_type == FileType::Symlink {
        return Err(io::ErrorKind::NotFound.into());
    }
    let alias = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::chmod(alias.as_str(), mode_bits(mode))?;
    if let Some(mtime) = mtime {
        rustix::fs::utimensat(&fd, c"", &times(mtime), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

/// Sets mode and time of something that its owner may not even open, whose inode is `inode`.
#[cfg(not(target_os = "linux"))]
pub(crate) fn set_unreadable_meta<P: rustix::path::Arg + Copy>(
    dir: BorrowedFd<'_>,
    name: P,
    inode: u64,
    mode: u32,
    mtime: Option<i64>,
) -> io::Result<()> {
    if lstat(dir, name)?.inode != inode {
        return Err(io::ErrorKind::NotFound.into());
    }
    rustix::fs::chmodat(dir, name, mode_bits(mode), AtFlags::SYMLINK_NOFOLLOW)?;
    match mtime {
        Some(mtime) => set_link_time(dir, name, mtime),
        None => Ok(()),
    }
}

/// Makes a file's contents and size durable.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn sync_data(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fdatasync(fd)?)
}

/// Makes a file's contents and size durable, through the drive's cache.
#[cfg(target_vendor = "apple")]
pub(crate) fn sync_data(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fcntl_fullfsync(fd)?)
}

/// Has the pages of a range written back without waiting for them. Advice that they are not needed soon does
/// that on Linux, and what is not written yet stays in memory; an error of the disk is left for who syncs.
#[cfg(target_os = "linux")]
pub(crate) fn begin_sync(fd: BorrowedFd<'_>, offset: u64, len: u64) {
    let advice = rustix::fs::Advice::DontNeed;
    if let Err(error) = rustix::fs::fadvise(fd, offset, std::num::NonZero::new(len), advice) {
        tracing::debug!(%error, "writing back cannot be begun early");
    }
}

/// Has the pages of a range written back without waiting for them: no call for it here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn begin_sync(_fd: BorrowedFd<'_>, _offset: u64, _len: u64) {}

/// Makes the whole file system of `fd` durable.
#[cfg(target_os = "linux")]
pub(crate) fn sync_file_system(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}

/// Makes everything durable: there is no call for one file system here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sync_file_system(_fd: BorrowedFd<'_>) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// Reads at `offset` until `buf` is full or the file ends.
pub(crate) fn read_full(fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match rustix::io::pread(fd, &mut buf[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Writes all of `data` at `offset`.
pub(crate) fn write_full(fd: BorrowedFd<'_>, data: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < data.len() {
        match rustix::io::pwrite(fd, &data[done..], offset.saturating_add(done as u64)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
