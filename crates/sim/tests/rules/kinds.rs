//! Kinds of change that a device brings while it is hindered.

use sim::{disk::Node, history::Edit, scenario::Scenario};

use crate::noise;

/// A change of device 0 that device 1 brings.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What both have before.
    before: fn(&mut Scenario),
    /// Made on device 0.
    change: fn(&mut Scenario),
    /// Made on device 1 at the same time; what it writes must be found in the end.
    pub(crate) meanwhile: &'static [(&'static str, &'static str)],
}

/// Size of a file that is cut into chunks, in bytes.
const LARGE: usize = 1_600_000;

fn small(scenario: &mut Scenario) {
    scenario.write(0, "f", b"the first");
}

fn many(scenario: &mut Scenario, files: u32, text: &str) {
    for file in 0..files {
        scenario.write(0, &format!("d{}/f{file}", file % 4), format!("{text} {file}").as_bytes());
    }
}

const BASE: Kind = Kind { name: "", before: small, change: |_| {}, meanwhile: &[] };

pub(crate) const CREATE: Kind =
    Kind { name: "a file is made", change: |it| it.write(0, "new", b"new"), ..BASE };

pub(crate) const REPLACE: Kind =
    Kind { name: "a file is replaced", change: |it| it.write(0, "f", b"the second"), ..BASE };

pub(crate) const DELETE: Kind =
    Kind { name: "a file is deleted", change: |it| it.remove(0, "f"), ..BASE };

pub(crate) const RENAME: Kind =
    Kind { name: "a file is renamed", change: |it| it.rename(0, "f", "g"), ..BASE };

pub(crate) const MAKE_DIRS: Kind = Kind {
    name: "directories are made",
    change: |it| {
        it.write(0, "d/e/new", b"new");
        it.edit(0, &Edit::MakeDir("d/empty".to_owned()));
        it.chmod(0, "d/empty", 0o550);
    },
    ..BASE
};

pub(crate) const MAKE_TREE: Kind = Kind {
    name: "a tree of directories is made",
    before: |it| {
        // With small groups there is a kind already.
        it.stop(1);
        it.large_groups(1);
        it.start(1);
    },
    change: |it| {
        for (path, contents) in TREE {
            it.write(0, path, contents.as_bytes());
        }
        it.edit(0, &Edit::Link("d/l".to_owned(), "a".to_owned()));
        it.chmod(0, "d/closed", 0o555);
    },
    ..BASE
};

/// Files in directories that are new.
pub(crate) const TREE: &[(&str, &str)] = &[
    ("d/a", "in the outer one"),
    ("d/b", "in the outer one, too"),
    ("d/e/a", "in the inner one"),
    ("d/closed/f", "in a closed one"),
];

pub(crate) const REMOVE_DIRS: Kind = Kind {
    name: "directories are removed",
    before: |it| it.write(0, "d/e/f", b"the first"),
    change: |it| it.remove(0, "d"),
    ..BASE
};

pub(crate) const RENAME_DIR: Kind = Kind {
    name: "a directory is renamed",
    before: |it| it.write(0, "d/e/f", b"the first"),
    change: |it| it.rename(0, "d", "g"),
    ..BASE
};

pub(crate) const CONFLICT: Kind = Kind {
    name: "a conflict is kept",
    change: |it| it.write(0, "f", b"by the one"),
    meanwhile: &[("f", "by the other")],
    ..BASE
};

pub(crate) const METADATA: Kind =
    Kind { name: "a mode is set", change: |it| it.chmod(0, "f", 0o751), ..BASE };

pub(crate) const SYMLINK: Kind = Kind {
    name: "links are made",
    before: |it| it.edit(0, &Edit::Link("there".to_owned(), "f".to_owned())),
    change: |it| {
        it.edit(0, &Edit::Link("new".to_owned(), "f".to_owned()));
        it.remove(0, "there");
        it.edit(0, &Edit::Link("there".to_owned(), "elsewhere".to_owned()));
    },
    ..BASE
};

pub(crate) const LARGE_NEW: Kind = Kind {
    name: "a large file is made",
    change: |it| it.write(0, "new", &noise(2, LARGE)),
    ..BASE
};

pub(crate) const LARGE_EDIT: Kind = Kind {
    name: "a large file is changed",
    before: |it| it.write(0, "f", &noise(1, LARGE)),
    change: |it| {
        let mut bytes = noise(1, LARGE);
        bytes.splice(700_000..700_100, b"an edit".iter().copied());
        it.write(0, "f", &bytes);
    },
    ..BASE
};

pub(crate) const FILE_TO_DIR: Kind = Kind {
    name: "a directory takes a file's place",
    change: |it| {
        it.remove(0, "f");
        it.write(0, "f/inside", b"inside");
    },
    ..BASE
};

pub(crate) const DIR_TO_FILE: Kind = Kind {
    name: "a file takes a directory's place",
    before: |it| it.write(0, "d/inside", b"inside"),
    change: |it| {
        it.remove(0, "d");
        it.write(0, "d", b"a file");
    },
    ..BASE
};

pub(crate) const FILE_TO_LINK: Kind = Kind {
    name: "a link takes a file's place",
    change: |it| {
        it.remove(0, "f");
        it.edit(0, &Edit::Link("f".to_owned(), "elsewhere".to_owned()));
    },
    ..BASE
};

/// More files than are made durable one by one.
pub(crate) const MANY: Kind = Kind {
    name: "many files are changed",
    before: |it| many(it, 20, "the first"),
    change: |it| many(it, 40, "the second"),
    ..BASE
};

pub(crate) const ALL: [Kind; 17] = [
    CREATE,
    REPLACE,
    DELETE,
    RENAME,
    MAKE_DIRS,
    MAKE_TREE,
    REMOVE_DIRS,
    RENAME_DIR,
    CONFLICT,
    METADATA,
    SYMLINK,
    LARGE_NEW,
    LARGE_EDIT,
    FILE_TO_DIR,
    DIR_TO_FILE,
    FILE_TO_LINK,
    MANY,
];

impl Kind {
    /// Two devices that are not linked, one of which has made the change, and the tree that both are to have if
    /// nothing was changed on the other.
    pub(crate) fn begin(&self, seed: u64) -> (Scenario, Vec<(String, Node)>) {
        let mut scenario = Scenario::linked(seed, 2);
        (self.before)(&mut scenario);
        scenario.settle();
        scenario.cut(0, 1);
        (self.change)(&mut scenario);
        for (path, text) in self.meanwhile {
            scenario.write(1, path, text.as_bytes());
        }
        scenario.settle();
        let wanted = scenario.tree(0).into_iter().collect();
        (scenario, wanted)
    }

    /// Both have the change, and nothing is lost.
    #[track_caller]
    pub(crate) fn judge(&self, scenario: &Scenario, wanted: &[(String, Node)], story: &str) {
        let [here, there] =
            [0, 1].map(|device| scenario.tree(device).into_iter().collect::<Vec<_>>());
        assert_eq!(here, there, "{}: {story}", self.name);
        assert_eq!(scenario.lost(), Vec::<String>::new(), "{}: {story}", self.name);
        if self.meanwhile.is_empty() {
            assert_eq!(here, wanted, "{}: {story}", self.name);
        }
    }
}
