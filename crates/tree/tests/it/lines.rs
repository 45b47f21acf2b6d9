//! Lines of ours in a file that others write, too: whatever happens, theirs stay, and the file is whole.

use std::{
    fs,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    path::{Path, PathBuf},
};

use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;
use tree::{Edited, Step, UserDir, UserFileError};

/// A line is ours if it begins so.
const MARK: &[u8] = b"ours ";

fn is_ours(line: &[u8]) -> bool {
    line.starts_with(MARK)
}

/// The contents with our line for `tag` saying `text`, or without it.
fn with(old: &[u8], tag: u8, text: Option<u8>) -> Vec<u8> {
    let start = [MARK, &[b'0' + tag, b' ']].concat();
    let mut new: Vec<u8> = Vec::new();
    let mut line = text.map(|text| [&start[..], &[b'a' + text, b'\n']].concat());
    for old in old.split_inclusive(|byte| *byte == b'\n') {
        if !old.ends_with(b"\n") || old.starts_with(&start) {
            new.extend(line.take().into_iter().flatten());
        }
        if !old.starts_with(&start) {
            new.extend(old);
        }
    }
    new.extend(line.into_iter().flatten());
    new
}

fn foreign(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !is_ours(line)).map(<[u8]>::to_vec).collect()
}

/// What another program does to the file.
#[derive(Clone, Debug)]
enum Deed {
    /// As `cat >> file`.
    Append(Vec<u8>),
    /// As an editor that writes a new file and renames it.
    Replace(Vec<u8>),
    /// As an editor that writes into the file itself.
    Rewrite(Vec<u8>),
}

/// A line of somebody's, with its end.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![Just(&b"\n"[..]), Just(&b"\r\n"[..])];
    (vec(any::<u8>().prop_filter("no end", |byte| *byte != b'\n'), 0..12), end)
        .prop_map(|(text, end)| [&text[..], end].concat())
        .prop_filter("theirs", |line| !is_ours(line))
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        line().prop_map(Deed::Append),
        line().prop_map(Deed::Replace),
        line().prop_map(Deed::Rewrite),
    ]
}

/// One edit of ours: which line and what it says, what others do meanwhile and when, and when we are killed.
#[derive(Clone, Debug)]
struct Edit {
    tag: u8,
    text: Option<u8>,
    deeds: Vec<(usize, Deed)>,
    killed: Option<usize>,
}

fn edit() -> impl Strategy<Value = Edit> {
    let killed = prop::option::weighted(0.3, 0_usize..8);
    (0..3_u8, prop::option::of(0..5_u8), vec((0_usize..8, deed()), 0..3), killed)
        .prop_map(|(tag, text, deeds, killed)| Edit { tag, text, deeds, killed })
}

struct Killed;

struct World {
    top: TempDir,
    dir: UserDir,
}

impl World {
    fn new(contents: Option<&[u8]>) -> Self {
        let top = tempfile::tempdir().expect("there is room");
        if let Some(contents) = contents {
            fs::create_dir(top.path().join("d")).expect("there is room");
            fs::write(top.path().join("d/file"), contents).expect("there is room");
        }
        let dir = UserDir::open(top.path()).expect("it is ours");
        Self { top, dir }
    }

    fn path(&self) -> PathBuf {
        self.top.path().join("d/file")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap_or_default()
    }

    /// What another program does to what it finds; `model` is what must be there of others then.
    fn act(&self, deed: &Deed, model: &mut Vec<Vec<u8>>) {
        fs::create_dir_all(self.path().parent().expect("has one")).expect("there is room");
        let mut now = self.bytes();
        // A last line without an end gets one by what is written behind it.
        if !now.is_empty() && !now.ends_with(b"\n") {
            now.push(b'\n');
            for line in model.iter_mut().filter(|line| !line.ends_with(b"\n")) {
                line.push(b'\n');
            }
            fs::write(self.path(), &now).expect("there is room");
        }
        let (Deed::Append(new) | Deed::Replace(new) | Deed::Rewrite(new)) = deed;
        model.push(new.clone());
        now.extend(new);
        match deed {
            Deed::Append(new) => {
                let file = fs::OpenOptions::new().append(true).create(true).open(self.path());
                file.and_then(|mut file| file.write_all(new)).expect("there is room");
            }
            Deed::Replace(_) => {
                let draft = self.top.path().join("d/editor");
                fs::write(&draft, now).expect("there is room");
                fs::rename(draft, self.path()).expect("there is room");
            }
            Deed::Rewrite(_) => fs::write(self.path(), now).expect("there is room"),
        }
    }

    /// Carries out an edit; false if it was killed.
    fn edit(&self, edit: &Edit, model: &mut Vec<Vec<u8>>) -> bool {
        let mut step = 0;
        let mut between = |_: Step| {
            // Nobody but us may see it, but what is there is always whole.
            for (_, deed) in edit.deeds.iter().filter(|(at, _)| *at == step) {
                self.act(deed, model);
            }
            if edit.killed == Some(step) {
                panic_any(Killed);
            }
            step += 1;
        };
        let mut change = |old: &[u8]| with(old, edit.tag, edit.text);
        let run = || self.dir.edit_between("d/file", &is_ours, &mut change, &mut between);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(done) => {
                done.expect("nothing is wrong with the file");
                true
            }
            Err(why) => {
                assert!(why.is::<Killed>(), "it panicked by itself");
                false
            }
        }
    }

    /// Lines that were kept beside the file.
    fn saved(&self) -> Vec<Vec<u8>> {
        let names = fs::read_dir(self.top.path().join("d")).into_iter().flatten().flatten();
        let left = |path: &Path| path.to_string_lossy().contains(".kin-s");
        let paths = names.map(|entry| entry.path()).filter(|path| left(path));
        paths.flat_map(|path| foreign(&fs::read(path).unwrap_or_default())).collect()
    }
}

/// Kills are panics here; nobody needs to read of them.
fn quietly() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Killed>() {
                before(info);
            }
        }));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn attack_17_lines_of_others_outlive_every_edit_race_and_kill(
        contents in prop::option::of((vec(line(), 0..6), prop::option::of("[a-z]{1,5}"))),
        edits in vec(edit(), 1..6),
    ) {
        quietly();
        let contents = contents.map(|(lines, last)| {
            [lines.concat(), last.unwrap_or_default().into_bytes()].concat()
        });
        let world = World::new(contents.as_deref());
        let mut model = foreign(&contents.unwrap_or_default());
        let mut lenient = false;
        for edit in &edits {
            let done = world.edit(edit, &mut model);
            // Two other edits within one of ours may be of different contents: one of them is in the file then.
            lenient |= !done || edit.deeds.len() > 1;
            let bytes = world.bytes();
            if done {
                let line = format!("ours {} ", edit.tag);
                let found = bytes.split_inclusive(|byte| *byte == b'\n').filter(|it| it.starts_with(line.as_bytes()));
                prop_assert_eq!(found.count(), usize::from(edit.text.is_some()), "what was asked for is there");
            }
            let found = foreign(&bytes);
            if lenient {
                // What raced with one that was killed, too, is beside the file, if it is not in it.
                let all: Vec<_> = found.iter().cloned().chain(world.saved()).collect();
                let text = |line: &[u8]| line.strip_suffix(b"\n").unwrap_or(line).to_vec();
                for line in &model {
                    prop_assert!(all.iter().any(|other| text(other) == text(line)), "{:?} is lost: {:?}", line, found);
                }
            } else {
                prop_assert_eq!(&found, &model, "byte for byte, and in order");
                let entries = fs::read_dir(world.top.path().join("d")).into_iter().flatten().count();
                prop_assert!(entries <= 1, "nothing is left behind");
            }
        }
    }
}

#[test]
fn attack_17_processes_that_edit_at_once_lose_nothing() {
    let world = World::new(Some(b"theirs\n"));
    let many = 16_u8;
    std::thread::scope(|scope| {
        for tag in 0..many {
            let top = world.top.path();
            scope.spawn(move || {
                let dir = UserDir::open(top).expect("it is ours");
                let line = format!("ours {} x\n", char::from(b'A' + tag));
                let mut add = |old: &[u8]| [old, line.as_bytes()].concat();
                assert_eq!(dir.edit("d/file", &is_ours, &mut add).expect("works"), Edited::Changed);
            });
        }
    });
    let text = String::from_utf8(world.bytes()).expect("is text");
    assert!(text.starts_with("theirs\n"));
    assert_eq!(text.lines().filter(|line| line.starts_with("ours ")).count(), usize::from(many));
}

#[test]
fn a_change_that_would_touch_a_line_of_others_is_not_made() {
    let world = World::new(Some(b"theirs\nours 0 a\n"));
    for new in [&b""[..], b"other\n", b"theirs\ntheirs\n", b"theirs"] {
        let refused = world.dir.edit("d/file", &is_ours, &mut |_| new.to_vec());
        assert!(matches!(refused, Err(UserFileError::ForeignLines(_))), "{refused:?}");
        assert_eq!(world.bytes(), b"theirs\nours 0 a\n");
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_read() {
    let world = World::new(Some(b""));
    let file = fs::OpenOptions::new().write(true).open(world.path()).expect("is there");
    file.set_len(1 << 40).expect("a hole");
    let refused = world.dir.edit("d/file", &is_ours, &mut |old| [old, b"ours 0 a\n"].concat());
    assert!(matches!(refused, Err(UserFileError::TooLarge { .. })), "{refused:?}");
}
