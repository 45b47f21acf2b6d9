//! Making files for tests: quickly, and the same for the same seed.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Incompressible bytes, the same for the same seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// Starts a stream.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for eight in buffer.chunks_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let word = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
            eight.copy_from_slice(&word[..eight.len()]);
        }
    }
}

/// The directory of the package whose tests run. Of this run: what was built in one clone may be run in another.
///
/// # Panics
/// If nobody says so: `cargo test` and `cargo nextest` do.
#[must_use]
pub fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("set by who runs tests").into()
}

/// Writes `text`, making the directories above it.
///
/// # Panics
/// If the disk refuses.
pub fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    let path = path.as_ref();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a directory");
    }
    fs::write(path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

/// Reads a file, or nothing where there is none.
#[must_use]
pub fn read(path: impl AsRef<Path>) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// True if the file holds exactly `text` now.
#[must_use]
pub fn holds(path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> bool {
    read(path).is_some_and(|found| found == text.as_ref())
}

/// Writes `len` incompressible bytes.
///
/// # Panics
/// If the disk refuses.
pub fn random_file(path: impl AsRef<Path>, len: u64, seed: u64) {
    let path = path.as_ref();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a directory");
    }
    let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut noise = Noise::new(seed);
    let mut buffer = vec![0; 1 << 20];
    let mut left = len;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        noise.fill(&mut buffer[..part]);
        file.write_all(&buffer[..part]).expect("the disk takes it");
        left -= part as u64;
    }
}

/// Makes `count` files of `len` incompressible bytes each, `per_dir` to a directory.
///
/// # Panics
/// If the disk refuses.
pub fn small_files(root: impl AsRef<Path>, count: usize, len: usize, per_dir: usize, seed: u64) {
    let root = root.as_ref();
    let mut noise = Noise::new(seed);
    let mut buffer = vec![0; len];
    for number in 0..count {
        let dir = root.join(format!("d{:04}", number / per_dir));
        if number % per_dir == 0 {
            fs::create_dir_all(&dir).expect("a directory");
        }
        noise.fill(&mut buffer);
        fs::write(dir.join(format!("f{number:06}.bin")), &buffer).expect("the disk takes it");
    }
}

/// Sets a file's modification time, in nanoseconds since 1970; the time of last reading becomes
/// the day before.
///
/// # Panics
/// If the disk refuses.
pub fn set_mtime(path: impl AsRef<Path>, nanoseconds: u64) {
    let path = path.as_ref();
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
    let times = fs::FileTimes::new()
        .set_modified(time)
        .set_accessed(time - Duration::from_secs(24 * 60 * 60));
    File::open(path)
        .and_then(|file| file.set_times(times))
        .unwrap_or_else(|e| panic!("times of {}: {e}", path.display()));
}

/// Sets a file's or directory's permission bits.
///
/// # Panics
/// If the disk refuses.
pub fn set_mode(path: impl AsRef<Path>, mode: u32) {
    let path = path.as_ref();
    fs::set_permissions(path, Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("mode of {}: {e}", path.display()));
}

/// Opens directories a test has closed, so that they can be removed.
pub(crate) fn make_removable(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            let _ = fs::set_permissions(entry.path(), Permissions::from_mode(0o755));
            make_removable(&entry.path());
        }
    }
}
