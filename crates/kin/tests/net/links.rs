//! Links that break, and devices that vanish and return.

use std::fs;

use lab::{Host, Kin, LONG, Lan, LongLine, SHORT, eventually, files, pump_until};

use crate::common::{
    PORT, agree, agreeable, converge, everywhere, lan, listening, nowhere, open, open_pair,
    stop_all, sync,
};

/// Each side creates, changes and deletes while they are apart.
fn edit_apart(lan: &Lan) {
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(left.join("from-a.txt"), "made apart");
    files::write(right.join("from-b.txt"), "made apart");
    files::write(left.join("old-1.txt"), "changed by a");
    files::write(right.join("old-2.txt"), "changed by b");
    fs::remove_file(left.join("old-3.txt")).expect("it is there");
    fs::remove_file(right.join("old-4.txt")).expect("it is there");
}

fn seed(lan: &Lan) {
    for number in 1..=5 {
        files::write(lan.host(0).shared().join(format!("old-{number}.txt")), "old");
    }
}

fn merged(lan: &Lan, a: &mut Kin, b: &mut Kin) {
    let kins = &mut [a, b];
    converge(lan, kins, LONG, 5);
    everywhere(lan, kins, "from-a.txt", "made apart");
    everywhere(lan, kins, "from-b.txt", "made apart");
    everywhere(lan, kins, "old-1.txt", "changed by a");
    everywhere(lan, kins, "old-2.txt", "changed by b");
    nowhere(lan, kins, "old-3.txt");
    nowhere(lan, kins, "old-4.txt");
}

pub(crate) fn a_cut_and_mended_link() {
    let lan = lan(2);
    seed(&lan);
    let (mut a, mut b) = open_pair(&lan);
    lan.host(1).unplug();
    edit_apart(&lan);
    a.expect_where("the loss is noticed", LONG, |e| e["event"] == "peer_disconnected");
    b.expect_where("the loss is noticed", LONG, |e| e["event"] == "peer_disconnected");
    lan.host(1).plug();
    merged(&lan, &mut a, &mut b);
    stop_all(&mut [&mut a, &mut b]);
}

pub(crate) fn packets_that_vanish_silently() {
    let lan = lan(2);
    seed(&lan);
    let (mut a, mut b) = open_pair(&lan);
    lan.host(1).blackhole();
    edit_apart(&lan);
    a.expect_where("the loss is noticed", LONG, |e| e["event"] == "peer_disconnected");
    lan.host(1).unblackhole();
    merged(&lan, &mut a, &mut b);
    stop_all(&mut [&mut a, &mut b]);
}

/// With discovery, as on a network whose router hands out another address.
pub(crate) fn a_changed_address() {
    let lan = lan(2);
    seed(&lan);
    let mut a = agreeable(sync(lan.host(0)));
    let mut b = agreeable(sync(lan.host(1)));
    agree(&mut [&mut a, &mut b], SHORT);
    converge(&lan, &mut [&mut a, &mut b], SHORT, 5);
    lan.host(1).readdress(77);
    edit_apart(&lan);
    merged(&lan, &mut a, &mut b);
    assert_eq!((a.count("confirm"), b.count("confirm")), (1, 1), "known devices, no new question");
    stop_all(&mut [&mut a, &mut b]);
}

pub(crate) fn a_suspended_process() {
    let lan = lan(2);
    seed(&lan);
    let (mut a, mut b) = open_pair(&lan);
    b.suspend();
    let before = lan.host(1).counters().rx;
    edit_apart(&lan);
    // The socket stays open and takes what is sent, but nobody reads it.
    pump_until(&mut [&mut a], SHORT, "a has told of its edits", |_| {
        lan.host(1).counters().rx > before
    });
    b.resume();
    merged(&lan, &mut a, &mut b);
    stop_all(&mut [&mut a, &mut b]);
}

/// Bytes that each connection of a listening host has sent.
fn sent(host: &Host) -> Vec<u64> {
    let said = host.sh(&format!("ss -Htni state established '( sport = :{PORT} )'"));
    let counts = said.split_whitespace().filter_map(|word| word.strip_prefix("bytes_sent:"));
    counts.map(|count| count.parse().expect("a number")).collect()
}

pub(crate) fn e24_over_a_long_way_a_file_comes_by_four_connections_and_the_line_breaks_as_one() {
    let lan = lan(2);
    let (left, right) = (lan.host(0), lan.host(1));
    let line = LongLine::between(&lan).expect("a long line");
    let peer = format!("{}:{PORT}", LongLine::address());
    let mut a = listening(open(left));
    let mut b = open(right).args(&["--peer", &peer]).start();
    agree(&mut [&mut a, &mut b], LONG);
    eventually("there are four connections", || sent(left).len() == 4);
    files::random_file(left.shared().join("large"), 64 << 20, 24);
    converge(&lan, &mut [&mut a, &mut b], LONG, 1);
    let sent = sent(left);
    assert!(sent.len() == 4 && sent.iter().all(|bytes| *bytes > 1 << 20), "a share each: {sent:?}");
    // One of them breaks, and with it the line; then the devices find each other again.
    let one = left.sh(&format!("ss -Htn state established '( sport = :{PORT} )'"));
    let other_port = one.lines().last().and_then(|line| line.rsplit_once(':')).expect("a port").1;
    left.sh(&format!("ss -HKtn state established '( dport = :{} )'", other_port.trim()));
    a.expect_where("the loss is noticed", LONG, |e| e["event"] == "peer_disconnected");
    b.expect_where("the loss is noticed", LONG, |e| e["event"] == "peer_disconnected");
    files::random_file(right.shared().join("back"), 8 << 20, 25);
    converge(&lan, &mut [&mut a, &mut b], LONG, 2);
    stop_all(&mut [&mut a, &mut b]);
    drop(line);
}

pub(crate) fn e24_on_a_short_way_there_is_one_connection() {
    let lan = lan(2);
    let (mut a, mut b) = open_pair(&lan);
    files::random_file(lan.host(0).shared().join("large"), 64 << 20, 26);
    converge(&lan, &mut [&mut a, &mut b], LONG, 1);
    let sent = sent(lan.host(0));
    assert_eq!(sent.len(), 1, "{sent:?}");
    stop_all(&mut [&mut a, &mut b]);
}
