//! What is not in step is said, with its cause and remedy, and stops nothing else.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use lab::{Kin, KinCommand, LONG, SHORT, files, pump_until, trees};
use serde_json::Value;

use crate::{
    common::{KIN, agree, lan, listening, open, open_to},
    devices::Device,
};

/// A folder on a small disk of its own: made at the start of `kin`, seen by its processes only.
const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=8m,mode=755 tmpfs "$0" && exec "$@""#;

fn is_about(event: &Value, name: &str, path: &str) -> bool {
    event["event"] == name && event["path"] == path
}

/// How many paths the latest agreement left out.
fn skipped(kin: &mut Kin) -> Option<u64> {
    kin.latest("in_sync").and_then(|event| event["skipped"].as_u64())
}

pub(crate) fn attack_35_a_full_disk_stops_only_what_does_not_fit() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::random_file(left.join("big.bin"), 16 << 20, 35);
    files::write(left.join("small.txt"), "fits");
    let mut a = listening(open(lan.host(0)));
    let folder = right.to_str().expect("is UTF-8");
    let small = ["unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK, folder];
    let mut b = open_to(lan.host(1), lan.host(0)).through(&small).start();
    let told = b.expect_where("the file that does not fit", SHORT, |event| {
        is_about(event, "skipped", "big.bin")
    });
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("disk is full") && reason.contains("make room"), "{told}");
    // Inside, by way of its process.
    let inside = PathBuf::from(format!("/proc/{}/root{folder}", b.pid()));
    pump_until(&mut [&mut a, &mut b], SHORT, "the other file is there", |_| {
        files::holds(inside.join("small.txt"), "fits")
    });
    pump_until(&mut [&mut a, &mut b], SHORT, "one is left out", |kins| skipped(kins[1]) == Some(1));
    // Who has it is not to take the folder for copied.
    pump_until(&mut [&mut a, &mut b], SHORT, "it is told of", |kins| {
        kins[0].latest("in_sync").is_some_and(|event| event["not_applied_elsewhere"] == 1)
    });
    files::write(left.join("small.txt"), "still in step");
    pump_until(&mut [&mut a, &mut b], SHORT, "the other file follows", |_| {
        files::holds(inside.join("small.txt"), "still in step")
    });
    // Room is made, and it goes on by itself.
    let pid = b.pid().to_string();
    let grown = Command::new("nsenter")
        .args(["--mount", "--target", &pid, "mount", "-o", "remount,size=64m", folder])
        .status();
    assert!(grown.expect("nsenter is there").success());
    pump_until(&mut [&mut a, &mut b], SHORT, "it is mended", |kins| {
        kins[1].seen().any(|event| is_about(event, "mended", "big.bin"))
            && skipped(kins[1]) == Some(0)
    });
    assert_eq!(files::read(inside.join("big.bin")), files::read(left.join("big.bin")));
    let times = b.seen().filter(|event| is_about(event, "skipped", "big.bin")).count();
    assert_eq!(times, 1, "it is told once");
    a.stop();
    b.stop();
}

/// The same, and it is full, whatever of a folder's own files is there.
const ON_A_FULL_DISK: &str = r#"mount -t tmpfs -o size=2m,mode=755 tmpfs "$0" || exit 1
if [ "$1" = begun ]; then mkdir -m 700 "$0/.kin" && : >"$0/.kin/lock" && : >"$0/.kinignore"; fi
shift; dd if=/dev/zero of="$0/fill" bs=4k 2>/dev/null; exec "$@""#;

pub(crate) fn attack_35_a_disk_that_is_full_at_the_start_is_said() {
    let lan = lan(1);
    let folder = lan.host(0).shared();
    let folder = folder.to_str().expect("is UTF-8");
    for found in ["new", "begun"] {
        let full = ["unshare", "--mount", "sh", "-c", ON_A_FULL_DISK, folder, found];
        let mut kin = open(lan.host(0)).through(&full).start();
        let code = kin.exit_code();
        let told = kin.latest("error").unwrap_or_default();
        let (message, hint) = (told["message"].as_str(), told["hint"].as_str());
        assert!(message.is_some_and(|it| it.contains(folder)), "{found}: {told}");
        assert!(hint.is_some_and(|it| it.contains("make room")), "{found}: {told}");
        assert_eq!(code, Some(1), "{found}: {told}");
    }
}

/// A small disk at a path, for whoever enters this process's view of mounts.
struct SmallDisk(Child);

impl SmallDisk {
    fn at(folder: &str) -> Self {
        let script =
            r#"mount -t tmpfs -o size=2m,mode=755 tmpfs "$0" && echo ready && exec sleep 600"#;
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", script, folder]).stdout(Stdio::piped());
        let mut holder = unshare.spawn().expect("unshare is there");
        let mut ready = [0; 6];
        let said = holder.stdout.as_mut().expect("is piped").read_exact(&mut ready);
        assert!(said.is_ok(), "it is mounted");
        Self(holder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn attack_35_a_folder_whose_disk_was_full_at_the_start_begins_by_itself() {
    let lan = lan(1);
    let host = lan.host(0);
    let folder = host.shared();
    let folder = folder.to_str().expect("is UTF-8");
    let disk = SmallDisk::at(folder);
    let pid = disk.0.id().to_string();
    let mut device = Device { host, name: "full", running: None };
    let up = |device: &mut Device<'_>| {
        let up = KinCommand::on(Path::new(KIN), host, &["up", "--foreground", "--json"]);
        device.running = Some(up.through(&["nsenter", "--mount", "--target", &pid]).start());
        device.until("it answers", || device.code(&["status", "--json"]) == 0);
        device.until("it runs", || device.status()["running"] == true);
    };
    let state = |device: &Device<'_>| device.run(&["folders", "--json"]).remove(0);
    up(&mut device);
    device.run(&["share", folder, "--json"]);
    device.until("the folder runs", || state(&device)["state"] == "idle");
    device.down();
    let fill = PathBuf::from(format!("/proc/{pid}/root{folder}/fill"));
    assert!(fs::write(&fill, vec![0; 4 << 20]).is_err(), "the disk is full");
    up(&mut device);
    device.until("the folder is stopped", || state(&device)["state"] == "stopped");
    let trouble = device.status()["errors"].to_string();
    assert!(trouble.contains("No space") || trouble.contains("is full"), "{trouble}");
    assert!(trouble.contains("make room") && trouble.contains("goes on by itself"), "{trouble}");
    fs::remove_file(&fill).expect("it is removed");
    device.until("the folder runs again", || state(&device)["state"] == "idle");
    device.down();
}

/// Files that fill the small disk before they have all come.
const SMALL_FILES: usize = 3000;

pub(crate) fn attack_35_a_disk_too_full_for_the_index_stops_nothing_for_good() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::small_files(&left, SMALL_FILES, 1000, 100, 35);
    let mut a = listening(open(lan.host(0)));
    let folder = right.to_str().expect("is UTF-8");
    let small = ["unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK, folder];
    let mut b = open_to(lan.host(1), lan.host(0)).through(&small).start();
    let told = b.expect_where("the index cannot be written", LONG, |event| {
        is_about(event, "skipped", ".kin/index.db")
    });
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("full") && reason.contains("goes on by itself"), "{told}");
    assert!(!b.has_ended(), "it waits for room");
    // Room is made, and it goes on by itself.
    let pid = b.pid().to_string();
    let grown = Command::new("nsenter")
        .args(["--mount", "--target", &pid, "mount", "-o", "remount,size=128m", folder])
        .status();
    assert!(grown.expect("nsenter is there").success());
    pump_until(&mut [&mut a, &mut b], LONG, "it is mended", |kins| {
        kins[1].seen().any(|event| is_about(event, "mended", ".kin/index.db"))
            && skipped(kins[1]) == Some(0)
    });
    agree(&mut [&mut a, &mut b], LONG);
    let inside = PathBuf::from(format!("/proc/{}/root{folder}", b.pid()));
    trees::assert_same(&left, &inside);
    let failed = b.seen().find(|event| event["event"] == "error" && event["kind"] == "index");
    assert_eq!(failed, None, "it is no reason to end");
    a.stop();
    b.stop();
}

pub(crate) fn attack_35_too_many_open_files_is_said_and_passes() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::small_files(&left, 400, 2000, 10, 36);
    let mut a = listening(open(lan.host(0)));
    let few = ["sh", "-c", "ulimit -Hn 1024; ulimit -Sn 256; exec \"$0\" \"$@\""];
    let mut b = open_to(lan.host(1), lan.host(0)).through(&few).start();
    agree(&mut [&mut a, &mut b], LONG);
    // None but those that it has open now: a new one would get the lowest number that is free.
    let pid = b.pid().to_string();
    let is_open = |number: &usize| Path::new(&format!("/proc/{pid}/fd/{number}")).is_symlink();
    let free = (0..256).find(|number| !is_open(number)).expect("some are free");
    let limit = |soft: usize| {
        let limit = format!("--nofile={soft}:1024");
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(set.expect("prlimit is there").success());
    };
    limit(free);
    files::write(left.join("later.txt"), "comes when it can be opened");
    let told = b.expect_where("too many open files are named", SHORT, |event| {
        event["event"] == "skipped"
            && event["reason"].as_str().is_some_and(|reason| reason.contains("too many files"))
    });
    assert!(!b.has_ended(), "{told}");
    limit(256);
    pump_until(&mut [&mut a, &mut b], LONG, "it has come", |_| {
        files::holds(right.join("later.txt"), "comes when it can be opened")
    });
    agree(&mut [&mut a, &mut b], LONG);
    trees::assert_same(&left, &right);
    a.stop();
    b.stop();
}

pub(crate) fn attack_35_more_directories_than_may_be_watched() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::small_files(&right, 60, 10, 2, 37);
    let mut a = listening(open(lan.host(0)));
    // The limit is one of a user namespace, and this one is its own.
    let script = "echo 12 > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let few = ["unshare", "--user", "--map-root-user", "sh", "-c", script];
    let mut b = open_to(lan.host(1), lan.host(0)).through(&few).start();
    let told = b.expect_where("the limit is named", SHORT, |event| event["kind"] == "watch");
    let message = told["message"].as_str().unwrap_or_default();
    assert!(message.contains("max_user_watches"), "{told}");
    agree(&mut [&mut a, &mut b], LONG);
    // In every directory, so that most are in those that nobody watches.
    let dirs: Vec<_> = fs::read_dir(&right)
        .expect("it is there")
        .flatten()
        .filter(|entry| entry.path().is_dir() && entry.file_name() != ".kin")
        .map(|entry| entry.file_name())
        .collect();
    assert!(dirs.len() > 12, "{dirs:?}");
    for dir in &dirs {
        files::write(right.join(dir).join("late.txt"), "found by looking");
    }
    pump_until(&mut [&mut a, &mut b], LONG, "all are found", |_| {
        dirs.iter().all(|dir| files::holds(left.join(dir).join("late.txt"), "found by looking"))
    });
    agree(&mut [&mut a, &mut b], LONG);
    trees::assert_same(&left, &right);
    a.stop();
    b.stop();
}

/// Rule E18: nothing tells that a directory above the folder was moved; it is noticed all the same, and nothing counts as
/// deleted.
pub(crate) fn e18_a_folder_whose_parent_was_moved_is_gone() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(left.join("a.txt"), "a");
    let mut a = listening(open(lan.host(0)));
    let above = right.with_file_name("above");
    fs::create_dir(&above).expect("a directory is made");
    let folder = above.join("folder");
    fs::create_dir(&folder).expect("a directory is made");
    let mut b = open_to(lan.host(1), lan.host(0)).dir(&folder).start();
    pump_until(&mut [&mut a, &mut b], SHORT, "both have it", |_| {
        files::holds(folder.join("a.txt"), "a")
    });
    let moved = right.with_file_name("moved");
    fs::rename(&above, &moved).expect("it is moved");
    let told = b.expect_where("it is gone", LONG, |event| event["event"] == "error");
    assert_eq!(told["kind"], "io", "{told}");
    assert!(!b.wait(SHORT).success());
    assert!(files::holds(left.join("a.txt"), "a") && files::holds(moved.join("folder/a.txt"), "a"));
}
