//! A file system that loses its power: an image, mounted, and shut down in the middle so that nothing unsynced
//! reaches it. What is mounted again is what a machine finds after its plug was pulled.

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
            run("perl", &["-e", SHUTDOWN, image.mount()]).expect("the probe could");
        }
    }

    /// The machine is up again.
    pub(crate) fn restore(&self) {
        if let Self::Image(image) = self {
            image.unmount().expect("nobody uses it");
            image.mount_it().expect("it was mounted before");
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
    _dir: tempfile::TempDir,
}

impl Image {
    /// Makes and mounts one: `ext4` or `xfs`.
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
        let image = Self { file, mount, _dir: dir };
        image.mount_it()?;
        Ok(image)
    }

    fn mount(&self) -> &str {
        &self.mount
    }

    fn mount_it(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", &self.file, &self.mount])
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
    run("perl", &["-e", SHUTDOWN, image.mount()])?;
    image.unmount()?;
    image.mount_it()?;
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
