//! `kin history` and `kin restore` beside running devices.

use std::process::Command;

use lab::{Host, files};
use serde_json::Value;

use crate::common::{KIN, everywhere, lan, nowhere, open_pair, stop_all};

/// Runs `kin ARGS --json` for a host's folder to its end; returns what it printed.
#[track_caller]
fn kin(host: &Host, command: &str, args: &[&str]) -> Vec<Value> {
    let run = Command::new(KIN)
        .arg(command)
        .arg(host.shared())
        .args(args)
        .arg("--json")
        .output()
        .expect("can be started");
    let stdout = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "kin {command} {args:?}: {stdout}");
    stdout.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect()
}

/// B replaces one file and deletes another; A brings both back while both run, and B gets them.
pub(crate) fn what_another_device_deleted_is_brought_back_everywhere() {
    let lan = lan(2);
    let (at_a, at_b) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(at_a.join("letter.txt"), "the letter");
    files::write(at_a.join("photos/one.jpg"), "a photo");
    let (mut a, mut b) = open_pair(&lan);
    files::write(at_b.join("letter.txt"), "scribble");
    everywhere(&lan, &mut [&mut a, &mut b], "letter.txt", "scribble");
    std::fs::remove_dir_all(at_b.join("photos")).expect("can be removed");
    nowhere(&lan, &mut [&mut a, &mut b], "photos");

    let listed = kin(lan.host(0), "history", &[]);
    let of = |path: &str, why: &str| {
        let is = |entry: &&Value| entry["path"] == path && entry["why"] == why;
        assert_eq!(listed.iter().filter(is).count(), 1, "{path}: {listed:?}");
    };
    of("letter.txt", "replaced");
    of("photos/one.jpg", "deleted");
    assert_eq!(kin(lan.host(1), "history", &[]), [Value::Null; 0], "B did it itself");

    kin(lan.host(0), "restore", &["letter.txt"]);
    everywhere(&lan, &mut [&mut a, &mut b], "letter.txt", "the letter");
    let restored = kin(lan.host(0), "restore", &["photos"]);
    assert_eq!(restored[0]["path"], "photos/one.jpg");
    everywhere(&lan, &mut [&mut a, &mut b], "photos/one.jpg", "a photo");

    // What was in its place is in history too, on both sides.
    for host in lan.hosts() {
        let listed = kin(host, "history", &["letter.txt"]);
        assert_eq!(listed[0]["why"], "replaced", "{listed:?}");
        let kept = host.shared().join(listed[0]["file"].as_str().expect("is a path"));
        assert!(files::holds(kept, "scribble"), "{listed:?}");
    }
    stop_all(&mut [&mut a, &mut b]);
    // And without a running device, as the next start says.
    kin(lan.host(0), "restore", &["letter.txt"]);
    assert!(files::holds(at_a.join("letter.txt"), "scribble"));
    let (mut a, mut b) = open_pair(&lan);
    everywhere(&lan, &mut [&mut a, &mut b], "letter.txt", "scribble");
    stop_all(&mut [&mut a, &mut b]);
}
