//! What every [`Disk`] must do, as tests: run over the real disk here and over the virtual one in the
//! simulator, so that what is found there holds here.
//!
//! Support for tests only. The cases panic, as tests do.

use std::io;

use wire::{Hash, RelPath};

use crate::{
    Disk, FileKind, Place, Stat,
    apply::{self, ApplyError, Expected, Writable},
};

/// A fresh, empty folder, and what its user can do to it.
pub trait Subject {
    /// The folder.
    fn disk(&self) -> &dyn Disk;
    /// Writes a file in place, creating it if needed.
    fn write(&self, path: &str, contents: &[u8]);
    /// Saves a file as editors do: a new one renamed over the old one.
    fn save(&self, path: &str, contents: &[u8]);
    /// Makes a directory and those above it.
    fn mkdir(&self, path: &str);
    /// Makes a symbolic link.
    fn symlink(&self, path: &str, target: &str);
    /// Removes a file or link.
    fn remove(&self, path: &str);
    /// A file's contents; `None` if there is no regular file.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
    /// True if the disk can exchange two names in one step.
    fn exchanges(&self) -> bool;
}

/// A case: its name, and what is done to a fresh subject.
pub type Case = (&'static str, fn(&dyn Subject));

/// All cases.
pub const CASES: &[Case] = &[
    ("absence is none, also below what is missing or a file", absence),
    ("a listing is sorted, whole and without .kin", listing),
    ("own files keep their contents and make their parents", own_files),
    ("nothing of the user's is written, linked or unlinked directly", only_ours),
    ("directories are built in .kin and moved in whole", built),
    ("history is listed and its empty directories go", history),
    ("rename_new never replaces", rename_new),
    ("exchange swaps two files", exchange),
    ("only regular files are opened", only_regular),
    ("a link as a parent is never followed", links_as_parents),
    ("directories are made and removed only when empty", directories),
    ("mode and time are set on the inode that is meant", metadata),
    ("links travel as links", symlinks),
    ("an open file outlives its name", open_handles),
    ("apply: new", apply_new),
    ("apply: replace", apply_replace),
    ("apply: replace refuses an edited file", apply_replace_changed),
    ("apply: remove and put back", apply_remove),
    ("apply: move aside", apply_move_aside),
    ("apply: set mode and time", apply_set_meta),
    ("apply: an unwritable directory is opened and restored", apply_unwritable),
];

fn rel(path: &str) -> RelPath {
    if path.is_empty() { RelPath::root() } else { RelPath::parse(path).expect("a valid path") }
}

fn tree(path: &str) -> Place {
    Place::Tree(rel(path))
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("an error").kind()
}

fn stat(s: &dyn Subject, place: &Place) -> Stat {
    s.disk().stat(place).expect("stat").expect("something is there")
}

fn is_absent(s: &dyn Subject, place: &Place) -> bool {
    s.disk().stat(place).expect("stat").is_none()
}

/// Makes a finished file of ours.
fn stage(s: &dyn Subject, place: &Place, contents: &[u8], mtime: i64) {
    let file = s.disk().open_own(place).expect("open own");
    file.write_at(contents, 0).expect("write");
    file.set_len(contents.len() as u64).expect("cut");
    file.set_meta(0o640, mtime).expect("set meta");
    file.sync().expect("sync");
}

fn contents(s: &dyn Subject, place: &Place) -> Vec<u8> {
    let file = s.disk().open(place).expect("open");
    let mut bytes = vec![0; 4096];
    let read = file.read_at(&mut bytes, 0).expect("read");
    bytes.truncate(read);
    bytes
}

fn absence(s: &dyn Subject) {
    s.write("file", b"x");
    for path in ["gone", "gone/below", "file/below"] {
        assert!(is_absent(s, &tree(path)), "{path}");
    }
    assert!(is_absent(s, &Place::Swap(1)));
    assert!(is_absent(s, &Place::History(rel("a/b"))));
    assert_eq!(stat(s, &tree("")).kind, FileKind::Dir);
    assert_eq!(kind(s.disk().open(&tree("gone"))), io::ErrorKind::NotFound);
    assert_eq!(kind(s.disk().unlink_own(&Place::Swap(1))), io::ErrorKind::NotFound);
}

fn listing(s: &dyn Subject) {
    let names = |dir: &str| {
        let listing = s.disk().list(&rel(dir)).expect("list");
        assert!(listing.odd_names.is_empty() && listing.unreadable.is_empty());
        listing.entries.into_iter().map(|e| (e.name, e.stat.kind)).collect::<Vec<_>>()
    };
    assert_eq!(names(""), []);
    s.mkdir("d/.kin");
    s.write("b", b"12345");
    s.write("Z", b"");
    s.symlink("ä", "b");
    stage(s, &Place::Swap(1), b"x", 0);
    let expected = [("Z", FileKind::File), ("b", FileKind::File), ("d", FileKind::Dir)];
    let mut expected: Vec<_> = expected.map(|(name, kind)| (name.to_owned(), kind)).into();
    expected.push(("ä".to_owned(), FileKind::Symlink));
    assert_eq!(names(""), expected);
    assert_eq!(names("d"), [(".kin".to_owned(), FileKind::Dir)]);
    assert_eq!(names("d/.kin"), []);
    let entries = s.disk().list(&rel("")).expect("list").entries;
    for entry in entries {
        assert_eq!(entry.stat, stat(s, &tree(&entry.name)), "{}", entry.name);
    }
    assert_eq!(stat(s, &tree("b")).size, 5);
    assert_eq!(stat(s, &tree("ä")).size, 0);
    assert_eq!(kind(s.disk().list(&rel("gone"))), io::ErrorKind::NotFound);
    assert_eq!(kind(s.disk().list(&rel("b"))), io::ErrorKind::NotADirectory);
    assert_eq!(kind(s.disk().list(&rel("ä"))), io::ErrorKind::NotADirectory);
    assert!(s.disk().sync_dir(&rel("d")).is_ok() && s.disk().sync_all().is_ok());
    assert!(s.disk().free_space().expect("free space") > 0);
}

fn own_files(s: &dyn Subject) {
    let partial = Place::Partial(Hash::of(b"content"));
    assert_eq!(s.disk().own_files().expect("own files"), []);
    let file = s.disk().open_own(&partial).expect("open own");
    assert_eq!(file.stat().expect("stat").mode, 0o600);
    file.write_at(b"hello", 3).expect("write");
    drop(file);
    assert_eq!(contents(s, &partial), b"\0\0\0hello");
    let again = s.disk().open_own(&partial).expect("open own again");
    again.write_at(b"J", 3).expect("write");
    again.set_len(5).expect("cut");
    again.set_meta(0o4755, 1_234_567_890_123_456_789).expect("set meta");
    assert_eq!(contents(s, &partial), b"\0\0\0Je");
    let found = stat(s, &partial);
    assert_eq!((found.mode, found.mtime, found.size), (0o755, 1_234_567_890_123_456_789, 5));
    stage(s, &Place::Swap(0xfeed), b"x", -1_500_000_000);
    assert_eq!(stat(s, &Place::Swap(0xfeed)).mtime, -1_500_000_000);
    stage(s, &Place::History(rel("deep/down/x~1")), b"old", 5);
    assert_eq!(contents(s, &Place::History(rel("deep/down/x~1"))), b"old");
    let mut own: Vec<_> = s.disk().own_files().expect("own files");
    own.sort_by_key(|(place, _)| matches!(place, Place::Partial(_)));
    let places: Vec<_> = own.iter().map(|(place, _)| place.clone()).collect();
    assert_eq!(places, [Place::Swap(0xfeed), partial.clone()]);
    assert_eq!(own[1].1, found);
    s.disk().unlink_own(&partial).expect("unlink");
    assert!(is_absent(s, &partial));
}

fn only_ours(s: &dyn Subject) {
    s.write("f", b"mine");
    let disk = s.disk();
    assert_eq!(kind(disk.unlink_own(&tree("f"))), io::ErrorKind::InvalidInput);
    assert_eq!(kind(disk.open_own(&tree("f"))), io::ErrorKind::InvalidInput);
    assert_eq!(kind(disk.make_symlink(&tree("l"), "f", 0)), io::ErrorKind::InvalidInput);
    for own in [".kin", ".kin/lock", ".kin/swap/x"] {
        assert_eq!(kind(disk.stat(&tree(own))), io::ErrorKind::InvalidInput);
        assert_eq!(kind(disk.make_dir(&rel(own), 0o755)), io::ErrorKind::InvalidInput);
        assert_eq!(kind(disk.rename_new(&tree("f"), &tree(own))), io::ErrorKind::InvalidInput);
    }
    assert_eq!(kind(disk.list(&rel(".kin"))), io::ErrorKind::InvalidInput);
    assert_eq!(s.read("f").expect("still there"), b"mine");
}

fn built(s: &dyn Subject) {
    let disk = s.disk();
    let top = Place::Swap(7);
    let inner = top.join("inner").expect("a place");
    let [file, link] = ["f", "l"].map(|name| inner.join(name).expect("a place"));
    assert_eq!(file, Place::Built(7, rel("inner/f")));
    assert_eq!(Place::Partial(Hash::of(b"content")).join("f"), None);
    assert_eq!(top.join("a/b"), None);
    disk.make_own_dir(&top, 0o755).expect("make");
    assert_eq!(kind(disk.make_own_dir(&top, 0o755)), io::ErrorKind::AlreadyExists);
    disk.make_own_dir(&inner, 0o050).expect("make within");
    assert_eq!((stat(s, &top).mode, stat(s, &inner).mode), (0o755, 0o750));
    stage(s, &file, b"contents", 5);
    disk.make_symlink(&link, "f", 6).expect("link");
    let before = (stat(s, &file), stat(s, &link));
    let own = disk.own_files().expect("own files");
    let at = |place: &Place| own.iter().position(|(own, _)| own == place).expect("is listed");
    assert!(at(&file) < at(&inner) && at(&link) < at(&inner) && at(&inner) < at(&top));
    assert_eq!(own.len(), 4);
    assert_eq!(kind(disk.remove_own_dir(&top)), io::ErrorKind::DirectoryNotEmpty);
    for wrong in [tree("d"), Place::Partial(Hash::of(b"content")), Place::Restore(1)] {
        assert_eq!(kind(disk.make_own_dir(&wrong, 0o755)), io::ErrorKind::InvalidInput);
        assert_eq!(kind(disk.remove_own_dir(&wrong)), io::ErrorKind::InvalidInput);
    }
    s.mkdir("there");
    assert_eq!(kind(disk.rename_new(&top, &tree("there"))), io::ErrorKind::AlreadyExists);
    match disk.rename_new(&top, &tree("d")) {
        // A disk that has only links to move a name without replacing cannot move directories so.
        Err(_) if !s.exchanges() => {
            disk.unlink_own(&file).expect("unlink");
            disk.unlink_own(&link).expect("unlink");
            disk.remove_own_dir(&inner).expect("is empty");
            disk.remove_own_dir(&top).expect("is empty");
        }
        moved => {
            moved.expect("move in");
            assert_eq!(s.read("d/inner/f").expect("is there"), b"contents");
            // What is in it has not changed: its stat is known without another look.
            assert_eq!((stat(s, &tree("d/inner/f")), stat(s, &tree("d/inner/l"))), before);
            assert_eq!(
                disk.hands_down(&rel("d")).expect("can be told"),
                cfg!(not(target_os = "linux"))
            );
        }
    }
    assert_eq!(disk.own_files().expect("own files"), []);
}

fn history(s: &dyn Subject) {
    let disk = s.disk();
    assert_eq!(kind(disk.list_history(&rel(""))), io::ErrorKind::NotFound);
    s.write("f", b"mine");
    stage(s, &Place::History(rel("d/e/x")), b"old", 5);
    disk.rename_new(&tree("f"), &Place::History(rel("d/f"))).expect("to history");
    let names = |dir: &str| {
        let entries = disk.list_history(&rel(dir)).expect("list").entries;
        entries.into_iter().map(|e| (e.name, e.stat.size)).collect::<Vec<_>>()
    };
    let size_of_dir = 0;
    assert_eq!(names(""), [("d".to_owned(), size_of_dir)]);
    assert_eq!(names("d"), [("e".to_owned(), size_of_dir), ("f".to_owned(), 4)]);
    assert_eq!(kind(disk.list_history(&rel("gone"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.list_history(&rel("d/f"))), io::ErrorKind::NotADirectory);
    assert_eq!(kind(disk.remove_history_dir(&rel("d/e"))), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(disk.remove_history_dir(&rel(""))), io::ErrorKind::InvalidInput);
    assert_eq!(kind(disk.remove_history_dir(&rel("d/f"))), io::ErrorKind::NotADirectory);
    disk.unlink_own(&Place::History(rel("d/e/x"))).expect("unlink");
    disk.remove_history_dir(&rel("d/e")).expect("is empty");
    assert_eq!(names("d"), [("f".to_owned(), 4)]);
    // An exchange brings something back and takes something in.
    s.write("g", b"newer");
    disk.rename_new(&Place::History(rel("d/f")), &Place::Restore(9)).expect("within .kin");
    disk.rename_new(&Place::Restore(9), &Place::History(rel("d/g"))).expect("within .kin");
    if s.exchanges() {
        disk.exchange(&tree("g"), &Place::History(rel("d/g"))).expect("exchange");
        assert_eq!(s.read("g").expect("is there"), b"mine");
        assert_eq!(contents(s, &Place::History(rel("d/g"))), b"newer");
    }
    stage(s, &Place::Restore(9), b"copy", 5);
    let own: Vec<_> = disk.own_files().expect("own files");
    assert!(own.iter().any(|(place, _)| *place == Place::Restore(9)), "{own:?}");
    let (free, total) = (disk.free_space().expect("free"), disk.total_space().expect("total"));
    assert!(free <= total, "{free} of {total} bytes are free");
}

fn rename_new(s: &dyn Subject) {
    s.write("a", b"a");
    s.write("b", b"b");
    s.mkdir("d/e");
    let disk = s.disk();
    let before = stat(s, &tree("a"));
    assert_eq!(kind(disk.rename_new(&tree("a"), &tree("b"))), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.rename_new(&tree("a"), &tree("d"))), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.rename_new(&tree("a"), &tree("gone/a"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.rename_new(&tree("gone"), &tree("c"))), io::ErrorKind::NotFound);
    assert_eq!((s.read("a"), s.read("b")), (Some(b"a".to_vec()), Some(b"b".to_vec())));
    disk.rename_new(&tree("a"), &tree("d/e/c")).expect("rename");
    assert!(before.same_contents(&stat(s, &tree("d/e/c"))) && is_absent(s, &tree("a")));
    disk.rename_new(&tree("d"), &tree("moved")).expect("rename a directory");
    assert_eq!(s.read("moved/e/c").expect("moved along"), b"a");
    disk.rename_new(&tree("b"), &Place::Swap(7)).expect("out");
    assert_eq!(
        kind(disk.rename_new(&tree("moved/e/c"), &Place::Swap(7))),
        io::ErrorKind::AlreadyExists
    );
    disk.rename_new(&Place::Swap(7), &Place::History(rel("x/y"))).expect("to history");
    disk.rename_new(&Place::History(rel("x/y")), &tree("b")).expect("back");
    assert_eq!(s.read("b").expect("back again"), b"b");
}

fn exchange(s: &dyn Subject) {
    s.write("a", b"old");
    stage(s, &Place::Swap(1), b"new", 77);
    let (old, new) = (stat(s, &tree("a")), stat(s, &Place::Swap(1)));
    let result = s.disk().exchange(&tree("a"), &Place::Swap(1));
    if !s.exchanges() {
        assert_eq!(kind(result), io::ErrorKind::Unsupported);
        assert_eq!(s.read("a").expect("untouched"), b"old");
        return;
    }
    result.expect("exchange");
    assert!(new.same_contents(&stat(s, &tree("a"))));
    assert!(old.same_contents(&stat(s, &Place::Swap(1))));
    let gone = s.disk().exchange(&tree("gone"), &Place::Swap(1));
    assert_eq!(kind(gone), io::ErrorKind::NotFound);
}

fn only_regular(s: &dyn Subject) {
    s.mkdir("d");
    s.symlink("l", "d");
    s.symlink("dangling", "nowhere");
    for path in ["d", "l", "dangling"] {
        assert_eq!(kind(s.disk().open(&tree(path))), io::ErrorKind::InvalidInput, "{path}");
    }
    s.disk().make_symlink(&Place::Swap(1), "target", 0).expect("make link");
    assert!(s.disk().open_own(&Place::Swap(1)).is_err());
}

fn links_as_parents(s: &dyn Subject) {
    s.mkdir("real/sub");
    s.write("real/f", b"inside");
    s.symlink("link", "real");
    stage(s, &Place::Swap(1), b"planted", 0);
    let disk = s.disk();
    let inode = stat(s, &tree("real/f")).inode;
    let not_dir = io::ErrorKind::NotADirectory;
    assert_eq!(kind(disk.stat(&tree("link/f"))), not_dir);
    assert_eq!(kind(disk.stat(&tree("link/sub/x"))), not_dir);
    assert_eq!(kind(disk.open(&tree("link/f"))), not_dir);
    assert_eq!(kind(disk.list(&rel("link"))), not_dir);
    assert_eq!(kind(disk.list(&rel("link/sub"))), not_dir);
    assert_eq!(kind(disk.rename_new(&Place::Swap(1), &tree("link/new"))), not_dir);
    assert_eq!(kind(disk.rename_new(&tree("link/f"), &Place::Swap(2))), not_dir);
    assert_eq!(kind(disk.exchange(&tree("link/f"), &Place::Swap(1))), not_dir);
    assert_eq!(kind(disk.make_dir(&rel("link/d"), 0o755)), not_dir);
    assert_eq!(kind(disk.remove_dir(&rel("link/sub"))), not_dir);
    assert_eq!(kind(disk.remove_dir(&rel("link"))), not_dir);
    assert_eq!(kind(disk.set_meta(&rel("link/f"), inode, 0o600, Some(0))), not_dir);
    assert_eq!(kind(disk.sync_dir(&rel("link"))), not_dir);
    assert_eq!(kind(disk.read_link(&tree("link/f"))), not_dir);
    assert_eq!(s.read("real/f").expect("untouched"), b"inside");
    assert_eq!(disk.list(&rel("real")).expect("list").entries.len(), 2);
}

fn directories(s: &dyn Subject) {
    let disk = s.disk();
    // Whatever the umask says.
    disk.make_dir(&rel("open"), 0o777).expect("make");
    assert_eq!(stat(s, &tree("open")).mode, 0o777);
    disk.make_dir(&rel("d"), 0o700).expect("make");
    assert_eq!(stat(s, &tree("d")).mode, 0o700);
    assert_eq!(kind(disk.make_dir(&rel("d"), 0o755)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.make_dir(&rel("a/b"), 0o755)), io::ErrorKind::NotFound);
    s.write("d/f", b"");
    assert_eq!(kind(disk.remove_dir(&rel("d"))), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(disk.remove_dir(&rel("d/f"))), io::ErrorKind::NotADirectory);
    assert_eq!(kind(disk.make_dir(&rel("d/f/x"), 0o755)), io::ErrorKind::NotADirectory);
    s.remove("d/f");
    disk.remove_dir(&rel("d")).expect("remove");
    assert_eq!(kind(disk.remove_dir(&rel("d"))), io::ErrorKind::NotFound);
}

fn metadata(s: &dyn Subject) {
    s.write("f", b"x");
    s.mkdir("d");
    s.symlink("l", "f");
    let disk = s.disk();
    let file = stat(s, &tree("f"));
    let other = kind(disk.set_meta(&rel("f"), file.inode + 1, 0o600, Some(1)));
    assert_eq!(other, io::ErrorKind::NotFound);
    assert_eq!(stat(s, &tree("f")), file);
    disk.set_meta(&rel("f"), file.inode, 0o6750, Some(1_000_000_007)).expect("file");
    let now = stat(s, &tree("f"));
    assert_eq!((now.mode, now.mtime, now.inode), (0o750, 1_000_000_007, file.inode));
    disk.set_meta(&rel("f"), file.inode, 0o640, None).expect("mode only");
    assert_eq!(stat(s, &tree("f")).mtime, 1_000_000_007);
    let dir = stat(s, &tree("d"));
    disk.set_meta(&rel("d"), dir.inode, 0o711, Some(5)).expect("directory");
    assert_eq!((stat(s, &tree("d")).mode, stat(s, &tree("d")).mtime), (0o711, dir.mtime));
    let link = stat(s, &tree("l"));
    disk.set_meta(&rel("l"), link.inode, 0o600, Some(42)).expect("link");
    assert_eq!((stat(s, &tree("l")).mtime, stat(s, &tree("f")).mode), (42, 0o640));
    assert_eq!(kind(disk.set_meta(&rel("gone"), 1, 0o600, None)), io::ErrorKind::NotFound);
    // A file that even its owner may not read.
    disk.set_meta(&rel("f"), file.inode, 0, None).expect("close it");
    disk.set_meta(&rel("f"), file.inode, 0o600, Some(9)).expect("open it");
    assert_eq!((stat(s, &tree("f")).mode, stat(s, &tree("f")).mtime), (0o600, 9));
}

fn symlinks(s: &dyn Subject) {
    let disk = s.disk();
    disk.make_symlink(&Place::Swap(3), "../../etc/passwd", 123_456_789).expect("make");
    assert_eq!(kind(disk.make_symlink(&Place::Swap(3), "x", 0)), io::ErrorKind::AlreadyExists);
    disk.rename_new(&Place::Swap(3), &tree("l")).expect("move in");
    let found = stat(s, &tree("l"));
    assert_eq!((found.kind, found.mtime), (FileKind::Symlink, 123_456_789));
    assert_eq!(disk.read_link(&tree("l")).expect("read"), "../../etc/passwd");
    s.write("f", b"");
    assert_eq!(kind(disk.read_link(&tree("f"))), io::ErrorKind::InvalidInput);
}

fn open_handles(s: &dyn Subject) {
    s.write("f", b"before");
    let file = s.disk().open(&tree("f")).expect("open");
    s.disk().rename_new(&tree("f"), &Place::Swap(1)).expect("out");
    s.disk().unlink_own(&Place::Swap(1)).expect("unlink");
    let mut bytes = [0; 16];
    assert_eq!(file.read_at(&mut bytes, 2).expect("read"), 4);
    assert_eq!(&bytes[..4], b"fore");
    assert_eq!(file.read_at(&mut bytes, 100).expect("read past the end"), 0);
    assert_eq!(file.stat().expect("stat").size, 6);
}

fn apply_new(s: &dyn Subject) {
    stage(s, &Place::Swap(1), b"new", 99);
    s.mkdir("d");
    let placed = apply::place_new(s.disk(), &Place::Swap(1), &rel("d/f")).expect("place");
    assert_eq!((placed.mtime, placed.size), (99, 3));
    assert_eq!(placed, stat(s, &tree("d/f")));
    stage(s, &Place::Swap(1), b"two", 99);
    let occupied = apply::place_new(s.disk(), &Place::Swap(1), &rel("d/f"));
    assert!(matches!(occupied, Err(ApplyError::Occupied { .. })), "{occupied:?}");
    let orphan = apply::place_new(s.disk(), &Place::Swap(1), &rel("gone/f"));
    assert!(matches!(orphan, Err(ApplyError::Vanished { .. })), "{orphan:?}");
    assert_eq!(contents(s, &Place::Swap(1)), b"two");
    assert_eq!(s.read("d/f").expect("kept"), b"new");
}

fn apply_replace(s: &dyn Subject) {
    s.write("f", b"old contents");
    let expected = Expected::stat(stat(s, &tree("f")));
    stage(s, &Place::Swap(1), b"new", 5);
    let now = apply::replace(s.disk(), &Place::Swap(1), &rel("f"), &expected).expect("replace");
    assert_eq!(now, stat(s, &tree("f")));
    assert_eq!(s.read("f").expect("there"), b"new");
    assert_eq!(contents(s, &Place::Swap(1)), b"old contents");
    assert_eq!(s.disk().own_files().expect("own").len(), 1);
    // Contents that the stat cannot tell from the expected ones.
    stage(s, &Place::Swap(2), b"newer", 6);
    let verify = |disk: &dyn Disk, at: &Place| Ok(disk.open(at)?.stat()?.size == 12);
    let doubted = Expected { stat: now, verify: Some(&verify) };
    let changed = apply::replace(s.disk(), &Place::Swap(2), &rel("f"), &doubted);
    assert!(matches!(changed, Err(ApplyError::Changed { kept_at: None, .. })), "{changed:?}");
    assert_eq!(s.read("f").expect("put back"), b"new");
    assert_eq!(contents(s, &Place::Swap(2)), b"newer");
}

fn apply_replace_changed(s: &dyn Subject) {
    s.write("f", b"old");
    let expected = Expected::stat(stat(s, &tree("f")));
    stage(s, &Place::Swap(1), b"new", 5);
    s.save("f", b"an edit");
    let changed = apply::replace(s.disk(), &Place::Swap(1), &rel("f"), &expected);
    assert!(matches!(changed, Err(ApplyError::Changed { kept_at: None, .. })), "{changed:?}");
    s.remove("f");
    let removed = apply::replace(s.disk(), &Place::Swap(1), &rel("f"), &expected);
    assert!(matches!(removed, Err(ApplyError::Changed { kept_at: None, .. })), "{removed:?}");
    s.mkdir("f");
    let dir = Expected::stat(stat(s, &tree("f")));
    let refused = apply::replace(s.disk(), &Place::Swap(1), &rel("f"), &dir);
    assert!(matches!(refused, Err(ApplyError::Io { .. })), "{refused:?}");
    let missing = apply::replace(s.disk(), &Place::Swap(9), &rel("f"), &dir);
    assert!(matches!(missing, Err(ApplyError::Vanished { .. })), "{missing:?}");
    assert_eq!(contents(s, &Place::Swap(1)), b"new");
}

fn apply_remove(s: &dyn Subject) {
    s.write("f", b"old");
    s.symlink("l", "f");
    let expected = Expected::stat(stat(s, &tree("f")));
    let into = Place::Swap(4);
    s.write("f", b"an edit");
    let changed = apply::remove(s.disk(), &rel("f"), &expected, &into);
    assert!(matches!(changed, Err(ApplyError::Changed { kept_at: None, .. })), "{changed:?}");
    let verify = |_: &dyn Disk, _: &Place| Ok(false);
    let doubted = Expected { stat: stat(s, &tree("f")), verify: Some(&verify) };
    let changed = apply::remove(s.disk(), &rel("f"), &doubted, &into);
    assert!(matches!(changed, Err(ApplyError::Changed { kept_at: None, .. })), "{changed:?}");
    assert_eq!(s.read("f").expect("put back"), b"an edit");
    let expected = Expected::stat(stat(s, &tree("f")));
    apply::remove(s.disk(), &rel("f"), &expected, &into).expect("remove");
    assert!(is_absent(s, &tree("f")));
    assert_eq!(contents(s, &into), b"an edit");
    let link = Expected::stat(stat(s, &tree("l")));
    apply::remove(s.disk(), &rel("l"), &link, &Place::Swap(5)).expect("remove a link");
    assert_eq!(s.disk().read_link(&Place::Swap(5)).expect("kept"), "f");
}

fn apply_move_aside(s: &dyn Subject) {
    s.write("f", b"loser");
    s.write("taken", b"x");
    let expected = Expected::stat(stat(s, &tree("f")));
    let occupied = apply::move_aside(s.disk(), &rel("f"), &expected, &rel("taken"));
    assert!(
        matches!(&occupied, Err(ApplyError::Occupied { path }) if path.as_str() == "taken"),
        "{occupied:?}"
    );
    let copy = apply::conflict_name(&rel("f"), 1 << 32, 2 << 32);
    let now = apply::move_aside(s.disk(), &rel("f"), &expected, &copy).expect("move");
    assert_eq!(now, stat(s, &Place::Tree(copy.clone())));
    assert_eq!(s.read(&copy).expect("moved"), b"loser");
    let gone = apply::move_aside(s.disk(), &rel("f"), &expected, &rel("g"));
    assert!(matches!(gone, Err(ApplyError::Changed { .. })), "{gone:?}");
}

fn apply_set_meta(s: &dyn Subject) {
    s.write("f", b"x");
    s.mkdir("d");
    let expected = Expected::stat(stat(s, &tree("f")));
    let now = apply::set_meta_checked(s.disk(), &rel("f"), &expected, 0o751, Some(7)).expect("set");
    assert_eq!((now.mode, now.mtime), (0o751, 7));
    let stale = apply::set_meta_checked(s.disk(), &rel("f"), &expected, 0o600, Some(8));
    assert!(matches!(stale, Err(ApplyError::Changed { .. })), "{stale:?}");
    let gone = apply::set_meta_checked(s.disk(), &rel("g"), &expected, 0o600, None);
    assert!(matches!(gone, Err(ApplyError::Changed { .. })), "{gone:?}");
    let dir = Expected::stat(stat(s, &tree("d")));
    s.write("d/f", b"");
    let now = apply::set_meta_checked(s.disk(), &rel("d"), &dir, 0o750, None).expect("directory");
    assert_eq!(now.mode, 0o750);
}

fn apply_unwritable(s: &dyn Subject) {
    s.mkdir("d");
    let inode = stat(s, &tree("d")).inode;
    s.disk().set_meta(&rel("d"), inode, 0o555, None).expect("close");
    stage(s, &Place::Swap(1), b"new", 1);
    {
        let guard = Writable::open(s.disk(), &rel("d")).expect("open the directory");
        assert!(guard.was_closed());
        assert_eq!(stat(s, &tree("d")).mode, 0o755);
        apply::place_new(s.disk(), &Place::Swap(1), &rel("d/f")).expect("place");
    }
    assert_eq!(stat(s, &tree("d")).mode, 0o555);
    let guard = Writable::open(s.disk(), &RelPath::root()).expect("the root");
    assert!(!guard.was_closed());
    let gone = Writable::open(s.disk(), &rel("gone"));
    assert!(matches!(gone, Err(ApplyError::Vanished { .. })));
    let inode = stat(s, &tree("d")).inode;
    s.disk().set_meta(&rel("d"), inode, 0o755, None).expect("open again for clean-up");
}
