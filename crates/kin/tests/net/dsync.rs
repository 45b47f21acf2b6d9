//! Faults of dsync that were reproduced, by number: none of them may be ours. Those about strangers
//! are in `stranger.rs`.

use std::fs;

use lab::{Answers, LONG, SHORT, files, pump_until, trees};

use crate::common::{
    KIN, address, agree, converge, everywhere, lan, listening, nowhere, open, open_pair, open_to,
    stop_all, sync,
};

/// dsync watched OPEN: `cat` resent the file, and a concurrent edit of the peer was lost.
pub(crate) fn dsync_06_reading_is_not_changing() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::small_files(&left, 200, 20_000, 50, 6);
    let (mut a, mut b) = open_pair(&lan);
    let sent = lan.host(0).counters().tx;
    let applied = b.count("applied");
    for path in trees::paths(&left) {
        let _ = files::read(left.join(&path));
        // The peer edits what is being read.
        if path.ends_with("7.bin") {
            files::write(right.join(&path), "edited while it was read");
        }
    }
    // What was edited last arrives last or with the others: then reading has had its chance.
    files::write(left.join("marker.txt"), "end");
    everywhere(&lan, &mut [&mut a, &mut b], "marker.txt", "end");
    converge(&lan, &mut [&mut a, &mut b], SHORT, 200 + 4 + 1);
    let edited = trees::paths(&left).into_iter().filter(|path| path.ends_with("7.bin"));
    for path in edited {
        assert!(files::holds(left.join(&path), "edited while it was read"), "{path} was lost");
    }
    assert_eq!(b.count("applied") - applied, 1, "b received the marker and nothing else");
    let cost = lan.host(0).counters().tx - sent;
    assert!(cost < 1_000_000, "{cost} bytes sent for reading 4 MB");
    stop_all(&mut [&mut a, &mut b]);
}

/// dsync deleted every `*.part` in the tree at Ctrl-C.
pub(crate) fn dsync_09_ctrl_c_keeps_the_users_part_files() {
    let lan = lan(2);
    for host in lan.hosts() {
        files::write(host.shared().join(format!("{}.part", host.name())), "mine");
        files::write(host.shared().join(format!("{}.tmp", host.name())), "mine too");
    }
    files::random_file(lan.host(0).shared().join("movie.mkv"), 64 << 20, 9);
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    b.expect("peer_connected");
    stop_all(&mut [&mut b, &mut a]);
    for host in lan.hosts() {
        assert!(files::holds(host.shared().join(format!("{}.part", host.name())), "mine"));
        assert!(files::holds(host.shared().join(format!("{}.tmp", host.name())), "mine too"));
    }
    let (mut a, mut b) = open_pair(&lan);
    converge(&lan, &mut [&mut a, &mut b], SHORT, 5);
    stop_all(&mut [&mut a, &mut b]);
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
}

/// dsync sent all requests before it read an answer: both queues full, deadlock.
pub(crate) fn dsync_10_twenty_thousand_files_both_ways_at_once() {
    let lan = lan(2);
    files::small_files(lan.host(0).shared().join("a"), 10_000, 4096, 100, 10);
    files::small_files(lan.host(1).shared().join("b"), 10_000, 4096, 100, 11);
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], LONG);
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    assert_eq!(trees::listing(&lan.host(0).shared()).len(), 2 * (1 + 100 + 10_000));
    stop_all(&mut [&mut a, &mut b]);
}

/// dsync did not notice that its peer had restarted, and lost the first edit after it.
pub(crate) fn dsync_11_a_restarted_peer_gets_the_first_edit() {
    let lan = lan(2);
    let left = lan.host(0).shared();
    files::write(left.join("a.txt"), "first");
    let (mut a, mut b) = open_pair(&lan);
    for round in 0..3 {
        b.kill();
        // The edit is made while the old link may still look alive.
        let text = format!("edit {round}");
        files::write(left.join("a.txt"), &text);
        b = open_to(lan.host(1), lan.host(0)).start();
        everywhere(&lan, &mut [&mut a, &mut b], "a.txt", &text);
        let text = format!("answer {round}");
        files::write(lan.host(1).shared().join("b.txt"), &text);
        everywhere(&lan, &mut [&mut a, &mut b], "b.txt", &text);
    }
    stop_all(&mut [&mut a, &mut b]);
}

/// One unreadable file or directory stopped everything.
pub(crate) fn dsync_12_an_unreadable_file_stops_only_itself() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(left.join("good.txt"), "good");
    files::write(left.join("secret.txt"), "nobody may read this");
    files::set_mode(left.join("secret.txt"), 0o000);
    files::write(left.join("locked/inside.txt"), "nor this");
    files::set_mode(left.join("locked"), 0o000);
    // Root reads everything; without these two rights it is like anybody else.
    let drop = "-dac_override,-dac_read_search";
    let mut a = listening(open(lan.host(0)).through(&[
        "setpriv",
        "--inh-caps",
        drop,
        "--bounding-set",
        drop,
    ]));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], SHORT);
    assert!(files::holds(right.join("good.txt"), "good"));
    assert!(files::read(right.join("secret.txt")).is_none());
    assert!(files::read(right.join("locked/inside.txt")).is_none());
    for wanted in ["secret.txt", "locked"] {
        let told = |e: &serde_json::Value| e["event"] == "skipped" && e["path"] == wanted;
        assert!(a.seen().any(told), "{wanted} is reported");
    }
    files::write(left.join("good.txt"), "still in step");
    everywhere(&lan, &mut [&mut a, &mut b], "good.txt", "still in step");
    // Readable again: it travels.
    files::set_mode(left.join("secret.txt"), 0o600);
    everywhere(&lan, &mut [&mut a, &mut b], "secret.txt", "nobody may read this");
    files::set_mode(left.join("locked"), 0o755);
    everywhere(&lan, &mut [&mut a, &mut b], "locked/inside.txt", "nor this");
    for wanted in ["secret.txt", "locked"] {
        let told = |e: &serde_json::Value| e["event"] == "mended" && e["path"] == wanted;
        pump_until(&mut [&mut a, &mut b], SHORT, "it is mended", |kins| kins[0].seen().any(told));
    }
    stop_all(&mut [&mut a, &mut b]);
}

/// A long name of wide characters made the progress bar panic.
pub(crate) fn dsync_12_a_long_name_on_a_terminal() {
    let lan = lan(2);
    let name = format!("{}.bin", "漢".repeat(83));
    files::random_file(lan.host(0).shared().join(&name), 48 << 20, 12);
    files::write(lan.host(0).shared().join("\u{1b}[2Jevil\r\n.txt"), "escapes");
    let mut a = listening(open(lan.host(0)));
    let command = format!(
        "stty cols 60; exec {KIN} sync {} --open --no-discovery --once --peer {}",
        lan.host(1).shared().display(),
        address(lan.host(0))
    );
    let screen = lan.host(1).home().join("screen");
    let status = lan
        .host(1)
        .command("script")
        .args(["--quiet", "--return", "--command", &command])
        .arg(&screen)
        .env("HOME", lan.host(1).home())
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .expect("the probe found `script`");
    let shown = String::from_utf8_lossy(&files::read(&screen).unwrap_or_default()).into_owned();
    assert!(status.success(), "{status}: {shown}");
    assert!(!shown.contains("\u{1b}[2Jevil"), "a name's escapes reached the terminal");
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    a.stop();
}

/// A renamed directory was deleted at the peer and never sent; what was made quickly was lost.
pub(crate) fn dsync_13_directories_are_renamed_made_and_removed() {
    let lan = lan(2);
    let left = lan.host(0).shared();
    for number in 0..200 {
        files::write(left.join(format!("dir/sub{}/f{number}.txt", number % 7)), "content");
    }
    // Nobody is to be asked about the deletion of most files.
    let unasked = ["--max-deletes", "100%"];
    let mut a = listening(open(lan.host(0)).args(&unasked));
    let mut b = open_to(lan.host(1), lan.host(0)).args(&unasked).start();
    agree(&mut [&mut a, &mut b], SHORT);
    let kins = &mut [&mut a, &mut b];
    fs::rename(left.join("dir"), left.join("renamed")).expect("it is there");
    everywhere(&lan, kins, "renamed/sub0/f0.txt", "content");
    nowhere(&lan, kins, "dir");
    converge(&lan, kins, SHORT, 1 + 7 + 200);
    for round in 0..20 {
        files::write(left.join(format!("made{round}/b/c/d/e/file.txt")), "quick");
    }
    converge(&lan, kins, SHORT, 1 + 7 + 200 + 20 * 6);
    fs::remove_dir_all(left.join("renamed")).expect("it is there");
    nowhere(&lan, kins, "renamed");
    converge(&lan, kins, SHORT, 20 * 6);
    stop_all(&mut [&mut a, &mut b]);
}

/// The ignore file was written but not loaded; `build/` never matched; `-a` with `--no-discovery`
/// never synced; a flag that said what is the default could not override the config.
pub(crate) fn dsync_15_ignores_and_flags_hold_from_the_first_run() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    for path in
        [".DS_Store", "sub/.DS_Store", "build/out.o", "x/build/out.o", "old.log", "keep.txt"]
    {
        files::write(left.join(path), path);
    }
    files::write(left.join(".dsyncignore"), "*.log\n");
    files::write(
        lan.host(1).home().join(".config/kin/kin.toml"),
        "topic = \"elsewhere\"\nport = 9444\n",
    );
    let mut a = listening(open(lan.host(0)).args(&["-e", "build/"]));
    let mut b = open_to(lan.host(1), lan.host(0)).args(&["--topic", "", "--port", "9000"]).start();
    assert_eq!(b.expect("listening")["port"], 9000, "a flag overrides the config");
    agree(&mut [&mut a, &mut b], SHORT);
    assert_eq!(trees::paths(&right), ["keep.txt", "sub", "x"]);
    let written = files::read(left.join(".kinignore")).expect("made on the first run");
    assert!(String::from_utf8_lossy(&written).contains(".DS_Store"));
    stop_all(&mut [&mut a, &mut b]);

    // What the config says holds where no flag speaks.
    let mut b = sync(lan.host(1)).args(&["--open", "--no-discovery"]).start();
    assert_eq!(b.expect("listening")["port"], 9444);
    b.stop();
}

/// Deletes made while apart came back: over a cut link, and between runs on one side only.
pub(crate) fn dsync_16_deletes_made_while_apart_stay() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    for number in 0..30 {
        files::write(left.join(format!("f{number:02}.txt")), "content");
    }
    files::write(left.join("dir/inner.txt"), "content");
    let (mut a, mut b) = open_pair(&lan);
    lan.host(1).unplug();
    for number in 0..10 {
        fs::remove_file(left.join(format!("f{number:02}.txt"))).expect("it is there");
        fs::remove_file(right.join(format!("f{:02}.txt", number + 10))).expect("it is there");
    }
    fs::remove_dir_all(right.join("dir")).expect("it is there");
    lan.host(1).plug();
    converge(&lan, &mut [&mut a, &mut b], LONG, 10);

    // One goes away and deletes; the other stays and edits something else.
    b.stop();
    fs::remove_file(right.join("f20.txt")).expect("it is there");
    files::write(left.join("f21.txt"), "edited meanwhile");
    let mut b = open_to(lan.host(1), lan.host(0)).start().answering(Answers::Yes);
    pump_until(&mut [&mut a, &mut b], SHORT, "nine files, one edited", |_| {
        trees::same(&left, &right) && trees::paths(&left).len() == 9
    });
    assert!(files::holds(right.join("f21.txt"), "edited meanwhile"));
    assert!(files::read(left.join("f20.txt")).is_none());
    stop_all(&mut [&mut a, &mut b]);
}
