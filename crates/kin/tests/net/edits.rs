//! Faults of dsync in following what somebody does to files, by number. Others are in `dsync.rs`.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use lab::{Kin, LONG, SHORT, files, pump_until, trees};

use crate::common::{
    agree, converge, everywhere, lan, listening, nowhere, open, open_pair, open_to, stop_all,
};

/// A second edit within ten seconds was dropped, and so was a delete soon after a create.
pub(crate) fn dsync_04_edits_and_deletes_in_quick_succession() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    let (mut a, mut b) = open_pair(&lan);
    let kins = &mut [&mut a, &mut b];
    for round in 0..30 {
        let side = if round % 2 == 0 { &left } else { &right };
        // The next edit is made as soon as the last has arrived, and some without waiting for it.
        files::write(side.join("a.txt"), format!("first of round {round}"));
        files::write(side.join("a.txt"), format!("second of round {round}"));
        files::write(side.join(format!("short-lived {round}")), "soon gone");
        if round % 3 == 0 {
            everywhere(&lan, kins, &format!("short-lived {round}"), "soon gone");
        }
        fs::remove_file(side.join(format!("short-lived {round}"))).expect("it is there");
        everywhere(&lan, kins, "a.txt", &format!("second of round {round}"));
        nowhere(&lan, kins, &format!("short-lived {round}"));
    }
    converge(&lan, kins, SHORT, 1);
    stop_all(&mut [&mut a, &mut b]);
}

/// What editors do to save a file.
fn saves(path: &Path, text: &str, way: usize) {
    let beside = |suffix: &str| path.with_extension(suffix);
    match way {
        // vim: the old file becomes the backup, a new one is written, the backup goes.
        0 => {
            fs::rename(path, beside("txt~")).expect("it is there");
            files::write(path, text);
            fs::remove_file(beside("txt~")).expect("it is there");
        }
        // Most others: a temporary file takes the name.
        1 => {
            files::write(beside("tmp"), text);
            fs::rename(beside("tmp"), path).expect("it is there");
        }
        // emacs: the backup is a copy that stays, and the file is written in place.
        2 => {
            fs::copy(path, beside("orig")).expect("it is there");
            files::write(path, text);
        }
        // The name is gone for a moment.
        _ => {
            fs::remove_file(path).expect("it is there");
            files::write(path, text);
        }
    }
}

/// An editor's save by backup and rename destroyed the file, also on the side that saved it.
pub(crate) fn dsync_05_every_way_to_save_a_file() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(left.join("text.txt"), "new");
    let (mut a, mut b) = open_pair(&lan);
    let kins = &mut [&mut a, &mut b];
    for round in 0..24 {
        let text = format!("saved for the {round}th time");
        let side = if round % 3 == 0 { &right } else { &left };
        saves(&side.join("text.txt"), &text, round % 4);
        everywhere(&lan, kins, "text.txt", &text);
    }
    // The one that stays, and the file: nothing else, and no conflict with oneself.
    converge(&lan, kins, SHORT, 2);
    assert_eq!(trees::paths(&left), ["text.orig", "text.txt"]);
    assert_eq!((a.count("conflict"), b.count("conflict")), (0, 0));
    stop_all(&mut [&mut a, &mut b]);
}

/// The contents of all files below a folder.
fn contents(root: &Path) -> Vec<Vec<u8>> {
    trees::paths(root).iter().filter_map(|path| files::read(root.join(path))).collect()
}

#[track_caller]
fn holds_somewhere(root: &Path, text: &str) {
    assert!(contents(root).iter().any(|found| found == text.as_bytes()), "{text:?} is lost");
}

/// Simultaneous edits ended swapped and diverged; those of one size in one second never met.
pub(crate) fn dsync_07_edits_at_the_same_time_agree_and_both_are_kept() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    for number in 0..8 {
        files::write(left.join(format!("f{number}.txt")), "before");
    }
    let (mut a, mut b) = open_pair(&lan);
    // While linked, at the same time, with the same size and the same mtime to the nanosecond.
    let both = |number: usize| (format!("left {number}"), format!("rght {number}"));
    for number in 0..8 {
        let (at_left, at_right) = both(number);
        let path = format!("f{number}.txt");
        files::write(left.join(&path), &at_left);
        files::write(right.join(&path), &at_right);
        for side in [&left, &right] {
            files::set_mtime(side.join(&path), 1_700_000_000_000_000_000);
        }
    }
    let agreed = |kins: &mut [&mut Kin]| {
        trees::same(&left, &right) && kins.iter_mut().all(|kin| kin.agrees_with(1))
    };
    pump_until(&mut [&mut a, &mut b], LONG, "both sides are alike", agreed);
    // An edit that one side had seen before it made its own is replaced, not in conflict; what both made
    // at once is there twice. Nothing is in neither place.
    for number in 0..8 {
        let (at_left, at_right) = both(number);
        let kept = |text: &str| {
            [&left, &right].iter().any(|side| {
                let history = side.join(".kin/history");
                contents(side).iter().chain(&contents(&history)).any(|it| it == text.as_bytes())
            })
        };
        assert!(kept(&at_left) && kept(&at_right), "an edit of f{number}.txt is lost");
    }

    // Apart, where neither can have seen the other: both are in the tree.
    lan.host(1).unplug();
    files::write(left.join("f0.txt"), "apart L");
    files::write(right.join("f0.txt"), "apart R");
    for side in [&left, &right] {
        files::set_mtime(side.join("f0.txt"), 1_700_000_001_000_000_000);
    }
    lan.host(1).plug();
    pump_until(&mut [&mut a, &mut b], LONG, "both sides are alike again", |kins| {
        agreed(kins) && contents(&left).iter().any(|text| text == b"apart R")
    });
    for side in [&left, &right] {
        holds_somewhere(side, "apart L");
        holds_somewhere(side, "apart R");
    }
    stop_all(&mut [&mut a, &mut b]);
}

/// A file that grew while it was sent arrived truncated, one that shrank never.
pub(crate) fn dsync_08_files_that_change_while_they_are_sent() {
    const LEN: u64 = 24 << 20;
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    for (number, name) in (0..).zip(["grows", "shrinks", "changes"]) {
        files::random_file(left.join(name), LEN, number);
    }
    assert!(lan.host(0).limit(100));
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    b.expect("peer_connected");
    // The line is slow: all of this is done while they are on their way.
    for round in 0..40u8 {
        for kin in [&mut a, &mut b] {
            kin.pump(std::time::Duration::from_millis(25));
        }
        let mut grows = File::options().append(true).open(left.join("grows")).expect("there");
        grows.write_all(&[round; 10_000]).expect("room");
        let shrinks = File::options().write(true).open(left.join("shrinks")).expect("there");
        shrinks.set_len(LEN - (u64::from(round) + 1) * 500_000).expect("room");
        let mut changes = File::options().write(true).open(left.join("changes")).expect("there");
        changes.seek(SeekFrom::Start(u64::from(round) * 600_000)).expect("within");
        changes.write_all(&[round; 1000]).expect("room");
        // Nothing is ever visible that is neither whole nor right.
        for name in ["grows", "shrinks", "changes"] {
            let len = fs::metadata(right.join(name)).map_or(LEN, |it| it.len());
            assert!(len >= LEN - 40 * 500_000, "{name} has {len} bytes");
        }
    }
    lan.host(0).unlimit();
    agree(&mut [&mut a, &mut b], LONG);
    converge(&lan, &mut [&mut a, &mut b], LONG, 3);
    let len = |name: &str| fs::metadata(right.join(name)).expect("there").len();
    assert_eq!((len("grows"), len("shrinks")), (LEN + 400_000, LEN - 20_000_000));
    assert_eq!((a.count("conflict"), b.count("conflict")), (0, 0));
    stop_all(&mut [&mut a, &mut b]);
}

/// Modes, times, empty directories and links were lost; links were followed out of the root.
pub(crate) fn dsync_14_modes_times_empty_directories_and_links() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    let outside = lan.host(0).home().join("outside");
    files::write(outside.join("private.txt"), "not in the folder");
    files::write(left.join("key"), "private");
    files::set_mode(left.join("key"), 0o600);
    files::set_mtime(left.join("key"), 1_234_567_891_987_654_321);
    fs::create_dir_all(left.join("empty/within/nothing")).expect("room");
    symlink(&outside, left.join("out")).expect("a link");
    symlink("key", left.join("in")).expect("a link");
    symlink("nowhere/at/all", left.join("dangling")).expect("a link");
    let before = trees::Snapshot::of(&outside);
    let (mut a, mut b) = open_pair(&lan);
    let mode = |path: &Path| fs::metadata(path).map_or(0, |it| it.permissions().mode() & 0o7777);
    assert_eq!(mode(&right.join("key")), 0o600, "a private file is open to others");
    for (link, target) in [("out", &*outside), ("in", "key".as_ref())] {
        assert_eq!(fs::read_link(right.join(link)).expect("a link"), target);
    }
    assert!(right.join("empty/within/nothing").is_dir());
    assert!(!trees::paths(&right).iter().any(|path| path.starts_with("out/")), "it was followed");
    // And what is changed later, from the other side.
    let kins = &mut [&mut a, &mut b];
    files::set_mode(right.join("key"), 0o640);
    fs::remove_dir(right.join("empty/within/nothing")).expect("empty");
    fs::create_dir(right.join("another empty one")).expect("room");
    fs::remove_file(right.join("in")).expect("there");
    symlink("dangling", right.join("in")).expect("a link");
    pump_until(kins, SHORT, "all of it has arrived", |_| {
        mode(&left.join("key")) == 0o640
            && !left.join("empty/within/nothing").exists()
            && left.join("another empty one").is_dir()
            && fs::read_link(left.join("in")).is_ok_and(|target| target == Path::new("dangling"))
    });
    converge(&lan, kins, SHORT, 7);
    before.assert_unchanged(&outside);
    stop_all(&mut [&mut a, &mut b]);
}
