//! What is not in step is said, with its cause and remedy, and stops nothing else.

use std::{path::PathBuf, process::Command};

use lab::{Kin, SHORT, files, pump_until};
use serde_json::Value;

use crate::common::{lan, listening, open, open_to};

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
