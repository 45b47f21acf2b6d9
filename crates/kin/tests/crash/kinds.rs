//! The kinds of change that a device is killed in: what is there before, and what is done to it.

use std::{fs, os::unix::fs::symlink, path::Path};

use lab::files;

/// One kind of change. Each try has a place of its own in the folders.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Makes what is there before, in `a`.
    pub(crate) before: fn(&Path, u64),
    /// Makes the change in `a`.
    pub(crate) change: fn(&Path, u64),
    /// Makes a change in `b` at the same time.
    pub(crate) meanwhile: fn(&Path, u64),
    /// True if nothing is changed in `b`.
    pub(crate) by_one: bool,
    /// Tries between two fresh pairs of folders.
    pub(crate) batch: u64,
}

/// Size of a file that is cut into chunks, in bytes.
const LARGE: u64 = 1_600_000;

fn nothing(_: &Path, _: u64) {}

fn small(at: &Path, number: u64) {
    files::write(at.join("f"), format!("first {number}"));
}

fn large(at: &Path, number: u64) {
    files::random_file(at.join("f"), LARGE, number + 1);
}

const BASE: Kind =
    Kind { name: "", before: small, change: nothing, meanwhile: nothing, by_one: true, batch: 48 };

pub(crate) const CREATE: Kind = Kind {
    name: "create",
    change: |at, number| files::write(at.join("new"), format!("new {number}")),
    ..BASE
};

pub(crate) const REPLACE: Kind = Kind {
    name: "replace",
    change: |at, number| files::write(at.join("f"), format!("second {number}")),
    ..BASE
};

pub(crate) const DELETE: Kind = Kind {
    name: "delete",
    change: |at, _| fs::remove_file(at.join("f")).expect("it is there"),
    ..BASE
};

pub(crate) const RENAME: Kind = Kind {
    name: "rename",
    change: |at, _| fs::rename(at.join("f"), at.join("g")).expect("it is there"),
    ..BASE
};

pub(crate) const MAKE_DIRS: Kind = Kind {
    name: "make_dirs",
    change: |at, number| {
        files::write(at.join("d/e/new"), format!("new {number}"));
        fs::create_dir(at.join("d/empty")).expect("there is room");
        files::set_mode(at.join("d/empty"), 0o550);
    },
    ..BASE
};

pub(crate) const REMOVE_DIRS: Kind = Kind {
    name: "remove_dirs",
    before: |at, number| files::write(at.join("d/e/f"), format!("first {number}")),
    change: |at, _| fs::remove_dir_all(at.join("d")).expect("it is there"),
    ..BASE
};

pub(crate) const CONFLICT: Kind = Kind {
    name: "conflict",
    change: |at, number| files::write(at.join("f"), format!("by a {number}")),
    meanwhile: |at, number| files::write(at.join("f"), format!("by b {number}")),
    by_one: false,
    ..BASE
};

pub(crate) const METADATA: Kind = Kind {
    name: "metadata",
    change: |at, number| {
        files::set_mode(at.join("f"), 0o751);
        files::set_mtime(at.join("f"), 1_700_000_000_000_000_000 + number);
    },
    ..BASE
};

pub(crate) const SYMLINK: Kind = Kind {
    name: "symlink",
    before: |at, number| {
        small(at, number);
        symlink("f", at.join("there")).expect("there is room");
    },
    change: |at, _| {
        symlink("f", at.join("new")).expect("there is room");
        fs::remove_file(at.join("there")).expect("it is there");
        symlink("elsewhere", at.join("there")).expect("there is room");
    },
    ..BASE
};

pub(crate) const LARGE_NEW: Kind = Kind {
    name: "large_new",
    change: |at, number| files::random_file(at.join("large"), LARGE, number + 1000),
    batch: 16,
    ..BASE
};

pub(crate) const LARGE_EDIT: Kind = Kind {
    name: "large_edit",
    before: large,
    change: |at, number| {
        let mut bytes = files::read(at.join("f")).expect("it is there");
        bytes.splice(700_000..700_100, format!("an edit {number}").into_bytes());
        files::write(at.join("f"), bytes);
    },
    batch: 16,
    ..BASE
};

pub(crate) const FILE_TO_DIR: Kind = Kind {
    name: "file_to_dir",
    change: |at, number| {
        fs::remove_file(at.join("f")).expect("it is there");
        files::write(at.join("f/inside"), format!("inside {number}"));
    },
    // Killed several times in a row, the file that made room may come back as a conflict copy: one too many, but
    // nothing lost (docs/testing.md).
    by_one: false,
    ..BASE
};

pub(crate) const FILE_TO_LINK: Kind = Kind {
    name: "file_to_link",
    change: |at, _| {
        fs::remove_file(at.join("f")).expect("it is there");
        symlink("elsewhere", at.join("f")).expect("there is room");
    },
    ..BASE
};

/// More files than are made durable one by one (rule E12).
pub(crate) const MANY: Kind = Kind {
    name: "many",
    before: |at, number| {
        for file in 0..20 {
            files::write(
                at.join(format!("d{}/f{file}", file % 4)),
                format!("first {number} {file}"),
            );
        }
    },
    change: |at, number| {
        for file in 0..40 {
            files::write(
                at.join(format!("d{}/f{file}", file % 4)),
                format!("second {number} {file}"),
            );
        }
    },
    batch: 8,
    ..BASE
};
