//! Ends in the middle of work: kill -9, Ctrl-C, Ctrl-C twice.

use std::path::Path;

use lab::{Kin, LONG, Lan, SHORT, files, trees};
use rustix::process::Signal;

use crate::common::{agree, converge, lan, listening, open, open_to};

const MIB: u64 = 1 << 20;
/// Paths that [`big_and_small`] makes.
const PATHS: usize = 1 + 600 + 6;
/// Size of its large file.
const BIG: u64 = 200 * MIB;

/// One large file and many small ones at host 0, on a line of 400 Mbit/s: some seconds of work.
fn big_and_small() -> Lan {
    let lan = lan(2);
    files::random_file(lan.host(0).shared().join("big.bin"), BIG, 7);
    files::small_files(lan.host(0).shared(), 600, 4096, 100, 8);
    assert!(lan.host(0).limit(400), "the probe said that this kernel can");
    lan
}

/// Waits until `kin` has brought more than `bytes` here; returns how many.
#[track_caller]
fn brought(kin: &mut Kin, bytes: u64) -> u64 {
    let at_least = format!("{bytes} bytes have come");
    let event = kin.expect_where(&at_least, LONG, |event| {
        event["event"] == "progress" && event["bytes_done"].as_u64().is_some_and(|n| n > bytes)
    });
    assert!(event["bytes_done"].as_u64() < event["bytes_total"].as_u64(), "not over yet: {event}");
    event["bytes_done"].as_u64().unwrap_or(0)
}

/// Every file in `part` is one of `whole`, complete: at no moment a mixture (promise 1).
#[track_caller]
fn assert_part_of(part: &Path, whole: &Path) {
    let whole_listing = trees::listing(whole);
    for (path, entry) in trees::listing(part) {
        if matches!(entry, trees::Entry::Dir { .. }) {
            assert!(whole_listing.contains_key(&path), "left behind: {}", path.display());
            continue;
        }
        assert_eq!(Some(&entry), whole_listing.get(&path), "{}", path.display());
        assert_eq!(
            files::read(part.join(&path)),
            files::read(whole.join(&path)),
            "{}",
            path.display()
        );
    }
}

pub(crate) fn the_receiver_is_killed_during_a_transfer() {
    let lan = big_and_small();
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    brought(&mut b, 40 * MIB);
    b.kill();
    assert_part_of(&lan.host(1).shared(), &lan.host(0).shared());
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    converge(&lan, &mut [&mut a, &mut b], LONG, PATHS);
    agree(&mut [&mut a, &mut b], SHORT);
    a.stop();
    b.stop();
}

pub(crate) fn the_sender_is_killed_during_a_transfer() {
    let lan = big_and_small();
    let before = trees::Snapshot::of(&lan.host(0).shared());
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    brought(&mut b, 40 * MIB);
    a.kill();
    b.expect_where("the loss is noticed", SHORT, |e| e["event"] == "peer_disconnected");
    assert_part_of(&lan.host(1).shared(), &lan.host(0).shared());
    let mut a = listening(open(lan.host(0)));
    converge(&lan, &mut [&mut a, &mut b], LONG, PATHS);
    before.assert_unchanged(&lan.host(0).shared());
    a.stop();
    b.stop();
}

/// Killed at a third; the second part costs little more on the wire than what was missing.
pub(crate) fn a_broken_transfer_of_one_gib_resumes() {
    const LEN: u64 = 1 << 30;
    let lan = lan(2);
    files::random_file(lan.host(0).shared().join("one.bin"), LEN, 3);
    assert!(lan.host(0).limit(1500), "the probe said that this kernel can");
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    let done = brought(&mut b, LEN / 3);
    b.kill();
    let before = lan.host(1).counters().rx;
    assert!(files::read(lan.host(1).shared().join("one.bin")).is_none(), "not half a file");

    lan.host(0).unlimit();
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    converge(&lan, &mut [&mut a, &mut b], LONG, 1);
    let (second, rest) = (lan.host(1).counters().rx - before, LEN - done);
    assert!(second * 10 < rest * 13, "{second} bytes for the missing {rest}");
    a.stop();
    b.stop();
}

pub(crate) fn ctrl_c_during_work_leaves_nothing_behind() {
    let lan = big_and_small();
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    brought(&mut b, 40 * MIB);
    b.stop();
    assert_part_of(&lan.host(1).shared(), &lan.host(0).shared());

    // The sender stops in the middle of work as well.
    let before = trees::Snapshot::of(&lan.host(0).shared());
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    b.expect_where("more comes", SHORT, |event| event["event"] == "progress");
    a.signal(Signal::TERM);
    assert_eq!(a.exit_code(), Some(0), "SIGTERM is as Ctrl-C");
    before.assert_unchanged(&lan.host(0).shared());
    b.stop();
    assert_part_of(&lan.host(1).shared(), &lan.host(0).shared());
}

pub(crate) fn a_second_ctrl_c_stops_at_once_and_the_next_start_recovers() {
    let lan = big_and_small();
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    brought(&mut b, 40 * MIB);
    b.interrupt();
    b.interrupt();
    let code = b.wait(std::time::Duration::from_secs(5)).code();
    // 0 if the first one was done with before the second came.
    assert!(matches!(code, Some(130 | 0)), "{code:?}");
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    converge(&lan, &mut [&mut a, &mut b], LONG, PATHS);
    a.stop();
    b.stop();
}
