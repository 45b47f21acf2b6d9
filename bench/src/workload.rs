//! What is measured: which files, and what happens to them.

use std::{
    env,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use lab::files;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// What goes over the long line.
pub(crate) const LINE_BYTES: u64 = GIB;

/// What the clock is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timed {
    /// The first sync, from the start of the second process.
    First,
    /// A change to the sender's files, from its end; the session stands (rsync starts again).
    Change(fn(&Path)),
    /// As [`Timed::First`], to this many devices that all start together.
    Fan(u8),
    /// Both start again, and nothing has changed.
    Restart,
    /// A hundred small writes, each until it can be read on the other side.
    Live,
    /// A change as above, over a [`lab::LongLine`]: from the first byte of contents that comes out of it to the last.
    Line(fn(&Path)),
    /// Nothing happens for so long, after a first sync: what is counted is processor time.
    Idle(Duration),
}

/// The smallest run that a measurement is part of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum PartOf {
    /// One without flags.
    Usual,
    /// `--all`.
    All,
    /// One in which it is asked for by its id: it takes minutes, or gigabytes.
    OwnOnly,
}

/// One thing to measure.
#[derive(Debug)]
pub(crate) struct Workload {
    /// Names it on the command line.
    pub(crate) id: &'static str,
    /// Names it in the table.
    pub(crate) title: &'static str,
    /// Which runs it is part of.
    pub(crate) part_of: PartOf,
    /// Makes the sender's files; sizes or counts divided by the number.
    pub(crate) make: fn(&Path, u32),
    /// What the clock is about.
    pub(crate) timed: Timed,
}

/// Everything there is.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        id: "one-file",
        title: "W1: one file of 2 GiB, first sync",
        part_of: PartOf::Usual,
        make: one_file,
        timed: Timed::First,
    },
    Workload {
        id: "small-files",
        title: "W2: 50,000 files of 4 KiB in 500 directories, first sync",
        part_of: PartOf::Usual,
        make: small_files,
        timed: Timed::First,
    },
    Workload {
        id: "source-tree",
        title: "W3: sources of Rust packages, up to 30,000 files, first sync",
        part_of: PartOf::All,
        make: source_tree,
        timed: Timed::First,
    },
    Workload {
        id: "live-edit",
        title: "W6: 100 bytes written to readable, among 50,000 files",
        part_of: PartOf::Usual,
        make: small_files,
        timed: Timed::Live,
    },
    Workload {
        id: "overwrite",
        title: "W4: 1 MiB overwritten in the middle of 2 GiB",
        part_of: PartOf::All,
        make: one_file,
        timed: Timed::Change(overwrite),
    },
    Workload {
        id: "insert",
        title: "W4: one byte inserted before 512 MiB",
        part_of: PartOf::All,
        make: |dir, divide| {
            files::random_file(dir.join("one.bin"), 512 * MIB / u64::from(divide), 2);
        },
        timed: Timed::Change(insert),
    },
    Workload {
        id: "unchanged",
        title: "W5: restart with 50,000 files unchanged",
        part_of: PartOf::All,
        make: small_files,
        timed: Timed::Restart,
    },
    Workload {
        id: "rename",
        title: "W7: directory of 1 GiB in 256 files renamed",
        part_of: PartOf::All,
        make: |dir, divide| {
            for number in 0..256 {
                let path = dir.join(format!("album/{number:03}.bin"));
                files::random_file(path, 4 * MIB / u64::from(divide), number);
            }
        },
        timed: Timed::Change(|dir| {
            fs::rename(dir.join("album"), dir.join("renamed album")).expect("it is there");
        }),
    },
    Workload {
        id: "long-line",
        title: "W8: 1 GiB over 50 ms and 1 Gbit/s (8.59 s at the line's rate), first to last byte of contents",
        part_of: PartOf::All,
        make: |dir, divide| files::random_file(waiting(dir), LINE_BYTES / u64::from(divide), 7),
        timed: Timed::Line(|dir| {
            fs::rename(waiting(dir), dir.join("one.bin")).expect("it is there");
        }),
    },
    Workload {
        id: "eight",
        title: "512 MiB and 5,000 files of 4 KiB to eight devices at once, first sync",
        part_of: PartOf::All,
        make: |dir, divide| {
            files::random_file(dir.join("one.bin"), 512 * MIB / u64::from(divide), 4);
            files::small_files(dir.join("small"), 5_000 / divide as usize, 4096, 100, 5);
        },
        timed: Timed::Fan(8),
    },
    Workload {
        id: "million",
        title: "a million files of 100 bytes in 1,000 directories, first sync",
        part_of: PartOf::OwnOnly,
        make: a_million,
        timed: Timed::First,
    },
    Workload {
        id: "million-unchanged",
        title: "restart with a million files unchanged",
        part_of: PartOf::OwnOnly,
        make: a_million,
        timed: Timed::Restart,
    },
    Workload {
        id: "idle",
        title: "ten minutes of nothing to do, 50,000 files in sync, of one core",
        part_of: PartOf::OwnOnly,
        make: small_files,
        timed: Timed::Idle(Duration::from_secs(600)),
    },
];

impl Timed {
    /// Devices that get the files.
    pub(crate) fn receivers(self) -> u8 {
        if let Self::Fan(devices) = self { devices } else { 1 }
    }
}

/// Beside the folder, on the same disk: it comes in whole, and the clock is not about writing it.
fn waiting(dir: &Path) -> PathBuf {
    dir.with_file_name("waiting.bin")
}

fn one_file(dir: &Path, divide: u32) {
    files::random_file(dir.join("one.bin"), 2 * GIB / u64::from(divide), 1);
}

fn small_files(dir: &Path, divide: u32) {
    files::small_files(dir, 50_000 / divide as usize, 4096, 100, 3);
}

fn a_million(dir: &Path, divide: u32) {
    files::small_files(dir, 1_000_000 / divide as usize, 100, 1000, 6);
}

/// What cargo has unpacked to build this: real sources, of which every machine that can run this has some.
fn source_tree(dir: &Path, divide: u32) {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let from = home.expect("a home directory").join("registry/src");
    let mut left = 30_000 / divide as usize;
    let mut dirs = vec![(from, dir.join("src"))];
    while let Some((from, to)) = dirs.pop() {
        fs::create_dir_all(&to).expect("the disk takes it");
        let entries = fs::read_dir(&from).into_iter().flatten().flatten();
        let mut entries: Vec<_> = entries.map(|entry| entry.path()).collect();
        entries.sort();
        for entry in entries {
            let Some(name) = entry.file_name() else { continue };
            if entry.is_dir() {
                dirs.push((entry.clone(), to.join(name)));
            } else if left > 0 && fs::copy(&entry, to.join(name)).is_ok() {
                left -= 1;
            }
        }
        if left == 0 {
            break;
        }
    }
}

fn overwrite(dir: &Path) {
    let mut bytes = vec![0; 1 << 20];
    files::Noise::new(99).fill(&mut bytes);
    let mut file = File::options().write(true).open(dir.join("one.bin")).expect("it is there");
    let middle = file.metadata().expect("it has a size").len() / 2;
    file.seek(SeekFrom::Start(middle)).expect("a file can be sought in");
    file.write_all(&bytes).expect("the disk takes it");
}

/// As an editor saves: a new file beside it, renamed over the old one.
fn insert(dir: &Path) {
    let mut bytes = vec![b'x'];
    let mut old = File::open(dir.join("one.bin")).expect("it is there");
    old.read_to_end(&mut bytes).expect("it can be read");
    fs::write(dir.join(".new"), &bytes).expect("the disk takes it");
    fs::rename(dir.join(".new"), dir.join("one.bin")).expect("it is there");
}
