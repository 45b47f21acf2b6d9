//! A file system that loses its power: an image, mounted, and shut down in the middle so that nothing unsynced
//! reaches it. What is mounted again is what a machine finds after its plug was pulled. Btrfs cannot be shut down:
//! there it is a copy of the image, as it was at that moment, since what is unsynced is not in it yet.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// `EXT4_IOC_SHUTDOWN`, which is `XFS_IOC_GOINGDOWN` too: `_IOR('X', 125, __u32)`, with the flag for "without
/// flushing the log".
const SHUTDOWN: &str = "open(my $d, '<', $ARGV[0]) or die $!; \
    my $how = pack('L', 2); ioctl($d, 0x8004587d, $how) or die $!;";

/// Large enough for XFS.
const IMAGE: &str = "400M";

/// Where a device's folder is.
pub(crate) enum Ground {
    /// On a disk that goes on when the device is killed.
    Disk,
    /// On a file system that loses its power at the same moment.
    Image(Image),
}

impl Ground {
    /// Makes durable what users did.
    pub(crate) fn settle(&self) {
        if let Self::Image(image) = self {
            run("sync", &["-f", image.mount()]).expect("it is mounted");
        }
    }

    /// The moment at which it happens.
    pub(crate) fn cut(&self) {
        if let Self::Image(image) = self {
            image.cut().expect("the probe could");
        }
    }

    /// The kernel finds a fault, and lets nobody write any more (ext4).
    pub(crate) fn find_a_fault(&self) {
        if let Self::Image(image) = self {
            image.find_a_fault().expect("the file system can be told to");
        }
    }

    /// The machine is up again.
    pub(crate) fn restore(&self) {
        if let Self::Image(image) = self {
            image.restore().expect("nobody uses it, and it was mounted before");
        }
    }

    /// Where a folder can be made.
    pub(crate) fn dir(&self, disk: &Path) -> PathBuf {
        match self {
            Self::Disk => disk.to_owned(),
            Self::Image(image) => PathBuf::from(image.mount()),
        }
    }
}

/// A file system in a file, mounted.
pub(crate) struct Image {
    file: String,
    mount: String,
    kind: String,
    _dir: tempfile::TempDir,
}

impl Image {
    /// Makes and mounts one: `ext4`, `xfs` or `btrfs`.
    ///
    /// # Errors
    /// What is missing here, in words.
    pub(crate) fn new(kind: &str, disk: &Path) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("power").tempdir_in(disk);
        let dir = dir.map_err(|error| error.to_string())?;
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let (file, mount) = (path("image"), path("mount"));
        std::fs::create_dir(&mount).map_err(|error| error.to_string())?;
        run("truncate", &["-s", IMAGE, &file])?;
        run(&format!("mkfs.{kind}"), &["-q", &file])?;
        let image = Self { file, mount, kind: kind.to_owned(), _dir: dir };
        image.mount_it()?;
        Ok(image)
    }

    fn mount(&self) -> &str {
        &self.mount
    }

    fn mount_it(&self) -> Result<(), String> {
        // Btrfs writes by itself every 30 seconds, which is to be no part of a copy.
        let how = if self.is_copied() { "loop,commit=300" } else { "loop" };
        run("mount", &["-o", how, &self.file, &self.mount])
    }

    fn is_copied(&self) -> bool {
        self.kind == "btrfs"
    }

    fn copy(&self) -> String {
        format!("{}.cut", self.file)
    }

    /// From now on nothing reaches the image. Of a copy, the superblock comes first, and what it names is not
    /// written over before the next one.
    fn cut(&self) -> Result<(), String> {
        if self.is_copied() {
            return run("cp", &["--sparse=always", &self.file, &self.copy()]);
        }
        run("perl", &["-e", SHUTDOWN, self.mount()])
    }

    fn find_a_fault(&self) -> Result<(), String> {
        run("mount", &["-o", "remount,errors=remount-ro", &self.mount])?;
        let script =
            "echo 1 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE \"$0\"))/trigger_fs_error";
        run("sh", &["-c", script, &self.mount])
    }

    fn restore(&self) -> Result<(), String> {
        self.unmount()?;
        if self.is_copied() {
            run("mv", &[&self.copy(), &self.file])?;
        }
        self.mount_it()
    }

    fn unmount(&self) -> Result<(), String> {
        run("umount", &[&self.mount])
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Whoever still uses it was told so by the test's failure.
        let _ = run("umount", &["-l", &self.mount]);
    }
}

/// What is missing for losing the power of this kind of file system, if anything: it is tried out.
pub(crate) fn probe(kind: &str, disk: &Path) -> Result<(), String> {
    let image = Image::new(kind, disk)?;
    let file = Path::new(image.mount()).join("unsynced");
    std::fs::write(&file, "x").map_err(|error| error.to_string())?;
    image.cut()?;
    image.restore()?;
    if file.exists() {
        return Err("what was not synced is there after a shutdown".to_owned());
    }
    Ok(())
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new("env").arg(format!("PATH={path}")).arg(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program}: {said}"))
}
