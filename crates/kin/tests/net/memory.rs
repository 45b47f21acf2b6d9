//! What a folder remembers from one run to the next.

use std::{
    fs::{self, File},
    time::{Duration, SystemTime},
};

use lab::{SHORT, files, trees};

use crate::common::{agree, converge, lan, listening, open, open_pair, open_to, stop_all};

pub(crate) fn deletes_and_renames_between_two_runs_are_honoured() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    for number in 0..10 {
        files::write(left.join(format!("dir/f{number}.txt")), format!("number {number}"));
    }
    files::write(left.join("gone-dir/inner/deep.txt"), "deep");
    files::write(left.join("keep.txt"), "kept");
    let (mut a, mut b) = open_pair(&lan);
    stop_all(&mut [&mut a, &mut b]);

    fs::remove_file(left.join("dir/f0.txt")).expect("it is there");
    fs::remove_file(right.join("dir/f1.txt")).expect("it is there");
    fs::rename(left.join("dir/f2.txt"), left.join("dir/renamed by a.txt")).expect("it is there");
    fs::rename(right.join("dir/f3.txt"), right.join("renamed by b.txt")).expect("it is there");
    fs::remove_dir_all(right.join("gone-dir")).expect("it is there");
    files::write(left.join("dir/f4.txt"), "edited by a");

    let (mut a, mut b) = open_pair(&lan);
    converge(&lan, &mut [&mut a, &mut b], SHORT, 10);
    let expected = [
        "dir",
        "dir/f4.txt",
        "dir/f5.txt",
        "dir/f6.txt",
        "dir/f7.txt",
        "dir/f8.txt",
        "dir/f9.txt",
        "dir/renamed by a.txt",
        "keep.txt",
        "renamed by b.txt",
    ];
    assert_eq!(trees::paths(&left), expected);
    assert!(files::holds(right.join("dir/f4.txt"), "edited by a"));
    assert!(files::holds(right.join("dir/renamed by a.txt"), "number 2"));
    assert!(files::holds(left.join("renamed by b.txt"), "number 3"));
    stop_all(&mut [&mut a, &mut b]);
}

/// The next start costs a stat per file, not a read: fewer bytes are read than one file holds.
pub(crate) fn an_unchanged_folder_is_not_read_again() {
    const FILES: u64 = 16;
    const LEN: u64 = 8 << 20;
    let lan = lan(2);
    let left = lan.host(0).shared();
    for number in 0..FILES {
        let path = left.join(format!("{number}.bin"));
        files::random_file(&path, LEN, number);
        // What is written as it is read for the first time is read once more: these are older.
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let file = File::options().write(true).open(&path).expect("it is there");
        file.set_modified(an_hour_ago).expect("it is ours");
    }
    let (mut a, mut b) = open_pair(&lan);
    let first = [a.bytes_read(), b.bytes_read()];
    assert!(first[0] > FILES * LEN, "reading is seen by this measure: {first:?}");
    stop_all(&mut [&mut a, &mut b]);

    let (mut a, mut b) = open_pair(&lan);
    let second = [a.bytes_read(), b.bytes_read()];
    assert!(second.iter().all(|read| *read < LEN), "read again: {second:?} bytes");
    stop_all(&mut [&mut a, &mut b]);
}

pub(crate) fn a_first_meeting_keeps_both_of_two_contents() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(left.join("note.txt"), "a's version");
    files::write(right.join("note.txt"), "b's other version");
    files::write(left.join("only a.txt"), "a");
    files::write(right.join("only b.txt"), "b");
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], SHORT);
    converge(&lan, &mut [&mut a, &mut b], SHORT, 4);
    let copy = trees::paths(&left)
        .into_iter()
        .find(|path| path.starts_with("note.conflict-") && path.ends_with(".txt"))
        .expect("a conflict copy");
    let mut both = [&copy, "note.txt"].map(|path| files::read(right.join(path)).expect("there"));
    both.sort();
    assert_eq!(both, [b"a's version".to_vec(), b"b's other version".to_vec()]);
    let told = |kin: &mut lab::Kin| kin.seen().any(|e| e["event"] == "conflict");
    assert!(told(&mut a) || told(&mut b), "the person is told");
    stop_all(&mut [&mut a, &mut b]);
}
