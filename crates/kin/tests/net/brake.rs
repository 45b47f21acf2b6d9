//! The brake on mass deletions (rule E19) between real hosts.

use std::fs;

use lab::{Kin, Lan, SHORT, files, pump_until, trees};
use serde_json::Value;

use crate::common::{agree, lan, listening, open, open_pair, open_to, stop_all};

const FILES: usize = 40;

/// Two hosts with forty equal files, in step.
fn in_step() -> (Lan, Kin, Kin) {
    let lan = lan(2);
    for number in 0..FILES {
        files::write(
            lan.host(0).shared().join(format!("d/{number}.txt")),
            format!("number {number}"),
        );
    }
    let (a, b) = open_pair(&lan);
    (lan, a, b)
}

fn is_brake(event: &Value) -> bool {
    event["event"] == "brake" && event["deletes"] == FILES && event["of"] == FILES
}

fn empty(lan: &Lan, host: usize) {
    fs::remove_dir_all(lan.host(host).shared().join("d")).expect("it is there");
}

fn left(lan: &Lan, host: usize) -> usize {
    fs::read_dir(lan.host(host).shared().join("d")).map_or(0, Iterator::count)
}

pub(crate) fn e19_a_mass_deletion_is_asked_about_on_both_sides() {
    let (lan, mut a, mut b) = in_step();
    empty(&lan, 0);
    let here = a.expect_where("the brake", SHORT, is_brake);
    assert_eq!((&here["here"], &here["from"]), (&Value::Bool(true), &Value::from("")));
    // All else goes on, and nothing says that it is in sync.
    let (in_sync_a, in_sync_b) = (a.count("in_sync"), b.count("in_sync"));
    files::write(lan.host(1).shared().join("new.txt"), "goes on");
    pump_until(&mut [&mut a, &mut b], SHORT, "an edit arrives", |_| {
        files::holds(lan.host(0).shared().join("new.txt"), "goes on")
    });
    assert_eq!(left(&lan, 1), FILES);
    a.answer(&here, true);
    let there = b.expect_where("the brake", SHORT, |event| event["event"] == "brake");
    assert_eq!((&there["here"], &there["from"]), (&Value::Bool(false), &Value::from("host-a")));
    assert_eq!((a.count("in_sync"), b.count("in_sync")), (in_sync_a, in_sync_b));
    assert_eq!(left(&lan, 1), FILES);
    b.answer(&there, true);
    pump_until(&mut [&mut a, &mut b], SHORT, "what was agreed to is done", |_| left(&lan, 1) == 0);
    agree(&mut [&mut a, &mut b], SHORT);
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    stop_all(&mut [&mut a, &mut b]);
}

pub(crate) fn e19_once_fails_while_deletions_are_held_and_accept_deletes_goes_on() {
    let (lan, mut a, mut b) = in_step();
    a.stop();
    empty(&lan, 0);
    let mut a = open(lan.host(0)).args(&["--once", "--timeout", "2"]).start();
    a.hang_up();
    a.expect_where("the brake", SHORT, is_brake);
    a.wait(SHORT);
    assert_eq!(a.exit_code(), Some(1));
    let last = a.seen().last().cloned().unwrap_or_default();
    assert_eq!((&last["event"], &last["kind"]), (&Value::from("error"), &Value::from("brake")));
    assert!(last["hint"].as_str().is_some_and(|hint| hint.contains("--accept-deletes")), "{last}");
    assert_eq!(left(&lan, 1), FILES);
    b.stop();

    let mut a = listening(open(lan.host(0)).args(&["--accept-deletes"]));
    let mut b = open_to(lan.host(1), lan.host(0)).args(&["--once", "--accept-deletes"]).start();
    pump_until(&mut [&mut a, &mut b], SHORT, "b has ended", |kins| kins[1].has_ended());
    assert_eq!(b.exit_code(), Some(0));
    assert_eq!((a.count("brake"), b.count("brake"), left(&lan, 1)), (0, 0, 0));
    a.stop();
}

pub(crate) fn attack_31_a_folder_that_is_taken_away_is_no_deletion() {
    let (lan, mut a, mut b) = in_step();
    let (shared, aside) = (lan.host(0).shared(), lan.host(0).shared().with_extension("aside"));
    fs::rename(&shared, &aside).expect("they are in one directory");
    fs::create_dir(&shared).expect("it is gone");
    a.expect_where("the folder is missed", SHORT, |event| {
        event["event"] == "error"
            && event["hint"].as_str().is_some_and(|h| h.contains("put the folder back"))
    });
    pump_until(&mut [&mut a], SHORT, "a has ended", |kins| kins[0].has_ended());
    assert_eq!((a.exit_code(), left(&lan, 1)), (Some(1), FILES));
    fs::remove_dir(&shared).expect("nothing was put there");
    fs::rename(&aside, &shared).expect("they are in one directory");
    let mut a = listening(open(lan.host(0)));
    let mut b2 = open_to(lan.host(1), lan.host(0));
    b.stop();
    b2 = b2.args(&["--once"]);
    let mut b = b2.start();
    pump_until(&mut [&mut a, &mut b], SHORT, "b has ended", |kins| kins[1].has_ended());
    assert_eq!((b.exit_code(), left(&lan, 1)), (Some(0), FILES));
    a.stop();
}
