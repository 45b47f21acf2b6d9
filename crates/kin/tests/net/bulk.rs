//! Real trees, and what travels and what cannot.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
};

use lab::{LONG, SHORT, files, pump_until, trees};

use crate::common::{
    agree, converge, everywhere, lan, listening, open, open_pair, open_to, stop_all,
};

/// The Rust standard library's source, else the system's documentation, else this repository's crates.
fn real_tree() -> PathBuf {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    let candidates = [
        PathBuf::from(sysroot.unwrap_or_default()).join("lib/rustlib/src/rust"),
        PathBuf::from("/usr/share/doc"),
    ];
    candidates
        .into_iter()
        .find(|path| path.is_dir() && trees::listing(path).len() > 500)
        .unwrap_or_else(|| files::package().join("../../crates"))
}

pub(crate) fn a_real_tree_byte_for_byte() {
    let lan = lan(2);
    let source = real_tree();
    let copied = Command::new("cp")
        .args(["-a", "--no-preserve=ownership"])
        .arg(&source)
        .arg(lan.host(0).shared().join("tree"))
        .status();
    assert!(copied.is_ok_and(|s| s.success()), "copy of {}", source.display());
    let before = trees::Snapshot::of(&lan.host(0).shared());
    let count = trees::listing(&lan.host(0).shared()).len();
    println!("{}: {count} paths", source.display());
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], LONG);
    assert_eq!(b.count("skipped"), 0);
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    before.assert_unchanged(&lan.host(0).shared());
    stop_all(&mut [&mut a, &mut b]);
}

pub(crate) fn what_travels() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    let outside = lan.host(0).home().join("outside.txt");
    files::write(&outside, "not in the folder");
    // Names: any valid UTF-8, up to 255 bytes.
    let names = [
        "ünïcödé",
        "日本語",
        "🦦",
        " leading",
        "trailing ",
        "a\nb",
        "-dash",
        "*",
        "back\\slash",
        "'\"$",
    ];
    for name in names {
        files::write(left.join("names").join(name), name);
    }
    files::write(left.join("names").join("n".repeat(255)), "long");
    files::write(left.join(vec!["deep"; 60].join("/")).join("file"), "deep");
    fs::create_dir_all(left.join("empty/inside/nothing")).expect("a directory");
    files::write(left.join("empty.txt"), "");
    // Modes and times.
    for mode in [0o600, 0o640, 0o755, 0o444, 0o777] {
        let path = left.join(format!("modes/{mode:o}"));
        files::write(&path, "mode");
        files::set_mode(&path, mode);
    }
    for (number, time) in
        [1, 1_234_567_891_987_654_321, 4_102_444_800_000_000_001].into_iter().enumerate()
    {
        let path = left.join(format!("times/{number}"));
        files::write(&path, "time");
        files::set_mtime(&path, time);
    }
    files::write(left.join("closed/inside.txt"), "in a directory nobody may write to");
    files::set_mode(left.join("closed"), 0o555);
    fs::create_dir(left.join("private")).expect("a directory");
    files::set_mode(left.join("private"), 0o700);
    // Links, as links.
    symlink("modes/600", left.join("link")).expect("a link");
    symlink("nowhere", left.join("dangling")).expect("a link");
    symlink(&outside, left.join("absolute")).expect("a link");
    symlink("..", left.join("up")).expect("a link");
    symlink("modes", left.join("to-dir")).expect("a link");
    fs::hard_link(left.join("empty.txt"), left.join("hard.txt")).expect("a hard link");

    let (mut a, mut b) = open_pair(&lan);
    trees::assert_same(&left, &right);
    assert_eq!((a.count("skipped"), b.count("skipped")), (0, 0));

    // Live, and what is not the contents of a file.
    let kins = &mut [&mut a, &mut b];
    let paths = trees::listing(&left).len();
    files::set_mode(left.join("modes/600"), 0o700);
    files::set_mode(right.join("private"), 0o755);
    files::set_mtime(right.join("times/0"), 999_999_999);
    fs::remove_file(left.join("link")).expect("it is there");
    symlink("modes/755", left.join("link")).expect("a link");
    pump_until(kins, SHORT, "modes, times and links arrived", |_| {
        trees::same(&left, &right)
            && trees::listing(&left)[Path::new("private")] == trees::Entry::Dir { mode: 0o755 }
            && matches!(
                trees::listing(&left)[Path::new("times/0")],
                trees::Entry::File { mtime: 999_999_999, .. }
            )
            && fs::read_link(right.join("link")).is_ok_and(|t| t == Path::new("modes/755"))
    });
    // A file becomes a directory, a directory a file, a link a file.
    fs::remove_file(left.join("empty.txt")).expect("it is there");
    files::write(left.join("empty.txt/now-a-dir"), "x");
    fs::remove_dir_all(right.join("empty")).expect("it is there");
    files::write(right.join("empty"), "now a file");
    fs::remove_file(right.join("dangling")).expect("it is there");
    files::write(right.join("dangling"), "now a file too");
    everywhere(&lan, kins, "empty.txt/now-a-dir", "x");
    everywhere(&lan, kins, "empty", "now a file");
    everywhere(&lan, kins, "dangling", "now a file too");
    converge(&lan, kins, SHORT, paths + 1 - 2);
    assert!(files::holds(&outside, "not in the folder"));
    stop_all(&mut [&mut a, &mut b]);
}

pub(crate) fn what_cannot_travel_is_reported_and_the_rest_goes_on() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(left.join("good.txt"), "good");
    lan.host(0).sh(&format!("mkfifo '{}'", left.join("pipe").display()));
    // A socket's own path must be short; it is made elsewhere and moved in.
    let short = std::env::temp_dir().join(format!("kinlab-{}", std::process::id()));
    let _socket = UnixListener::bind(&short).expect("a socket");
    lan.host(0).sh(&format!("mv '{}' '{}'", short.display(), left.join("socket").display()));
    files::write(left.join(OsStr::from_bytes(b"bad-\xff.txt")), "not UTF-8");
    files::write(left.join("setuid"), "program");
    files::set_mode(left.join("setuid"), 0o4755);

    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], SHORT);
    assert_eq!(trees::paths(&right), ["good.txt", "setuid"]);
    let set = trees::listing(&right)[Path::new("setuid")].clone();
    assert!(matches!(set, trees::Entry::File { mode: 0o755, len: 7, .. }), "{set:?}");
    let skipped: Vec<_> = a
        .seen()
        .filter(|event| event["event"] == "skipped")
        .map(|event| (event["path"].to_string(), event["reason"].to_string()))
        .collect();
    for wanted in ["pipe", "socket", "bad-"] {
        let told = skipped.iter().filter(|(path, why)| path.contains(wanted) && why.len() > 2);
        assert_eq!(told.count(), 1, "{wanted} is reported once, with a reason: {skipped:?}");
    }
    files::write(left.join("good.txt"), "still in step");
    everywhere(&lan, &mut [&mut a, &mut b], "good.txt", "still in step");
    stop_all(&mut [&mut a, &mut b]);
}
