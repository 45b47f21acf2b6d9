//! Finding each other, comparing, and being let in or not.

use std::fs;

use lab::{Addressing, Answers, Kin, Lan, SHORT, files, trees};

use crate::common::{
    PORT, address, agree, agreeable, compare_and_accept, converge, disk, everywhere, is_refusal,
    lan, listening, nowhere, open, open_to, stop_all, sync,
};

/// The main job, every sentence of it.
pub(crate) fn two_devices_find_each_other_and_become_the_union_until_ctrl_c() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(left.join("letters/anna.txt"), "Dear Anna");
    files::write(right.join("photos/2026/lake.jpg"), "not really a photo");
    files::write(left.join("both.txt"), "the same");
    files::write(right.join("both.txt"), "the same");
    let before = [0, 1].map(|i| inventory(&lan, i));

    let mut a = sync(lan.host(0)).start();
    let mut b = sync(lan.host(1)).start();
    for (kin, name) in [(&mut a, "host-a"), (&mut b, "host-b")] {
        let listening = kin.expect("listening");
        assert_eq!(listening["name"], name);
        assert_eq!(listening["port"], PORT);
    }
    let found = b.expect("peer_found");
    assert_eq!(found["name"], "host-a");
    let (at_a, at_b) = (a.expect("confirm"), b.expect("confirm"));
    assert_eq!(at_a["sas"], at_b["sas"], "both sides show the same words");
    assert_eq!((&at_a["name"], &at_b["name"]), (&"host-b".into(), &"host-a".into()));
    assert!(files::read(right.join("letters/anna.txt")).is_none(), "nothing before the yes");
    a.answer(&at_a, true);
    b.answer(&at_b, true);
    for kin in [&mut a, &mut b] {
        let connected = kin.expect("peer_connected");
        assert_eq!(connected["key_exchange"], "X25519MLKEM768");
    }
    agree(&mut [&mut a, &mut b], SHORT);
    // Three files and three directories.
    converge(&lan, &mut [&mut a, &mut b], SHORT, 6);
    assert!(files::holds(left.join("photos/2026/lake.jpg"), "not really a photo"));

    // Live, both ways.
    let kins = &mut [&mut a, &mut b];
    files::write(left.join("new.txt"), "from a");
    everywhere(&lan, kins, "new.txt", "from a");
    files::write(right.join("new.txt"), "changed by b");
    everywhere(&lan, kins, "new.txt", "changed by b");
    fs::remove_file(left.join("both.txt")).expect("it is there");
    nowhere(&lan, kins, "both.txt");
    fs::rename(right.join("letters"), right.join("post")).expect("it is there");
    everywhere(&lan, kins, "post/anna.txt", "Dear Anna");
    nowhere(&lan, kins, "letters");

    stop_all(&mut [&mut a, &mut b]);
    trees::assert_same(&left, &right);
    // The identity is gone: nothing was left anywhere but in the folders.
    assert_eq!(before, [0, 1].map(|i| inventory(&lan, i)), "something was left in the home");
}

/// What is in a host's home directory beside the shared folder.
fn inventory(lan: &Lan, index: usize) -> Vec<String> {
    let mut names = trees::paths(lan.host(index).home());
    names.retain(|name| !name.starts_with("Shared"));
    names
}

pub(crate) fn a_no_on_one_side_syncs_nothing() {
    let lan = lan(2);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    files::write(lan.host(1).shared().join("b.txt"), "b's");
    let mut a = sync(lan.host(0)).start();
    let mut b = sync(lan.host(1)).start();
    let (at_a, at_b) = (a.expect("confirm"), b.expect("confirm"));
    a.answer(&at_a, true);
    b.answer(&at_b, false);
    let refused = a.expect_where("a refusal", SHORT, is_refusal);
    assert!(refused["message"].as_str().is_some_and(|m| !m.is_empty()), "in words: {refused}");
    stop_all(&mut [&mut a, &mut b]);
    assert_eq!(trees::paths(&lan.host(0).shared()), ["a.txt"]);
    assert_eq!(trees::paths(&lan.host(1).shared()), ["b.txt"]);
    assert_eq!((a.count("peer_connected"), b.count("peer_connected")), (0, 0));
}

pub(crate) fn end_of_input_is_no() {
    let lan = lan(2);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let mut a = sync(lan.host(0)).start();
    let mut b = sync(lan.host(1)).start();
    let at_a = a.expect("confirm");
    b.expect("confirm");
    b.hang_up();
    a.answer(&at_a, true);
    a.expect_where("a refusal", SHORT, is_refusal);
    stop_all(&mut [&mut a, &mut b]);
    assert_eq!(trees::paths(&lan.host(1).shared()), [""; 0]);
}

pub(crate) fn a_peer_given_by_hand_without_discovery() {
    let lan = lan(2);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let mut a = listening(sync(lan.host(0)).args(&["--no-discovery", "--port", "9100"]));
    let peer = format!("{}:9100", lan.host(0).v4());
    let mut b = sync(lan.host(1)).args(&["--no-discovery", "-a", &peer]).start();
    compare_and_accept(&mut a, &mut b);
    agree(&mut [&mut a, &mut b], SHORT);
    converge(&lan, &mut [&mut a, &mut b], SHORT, 1);
    stop_all(&mut [&mut a, &mut b]);
}

pub(crate) fn only_the_same_topic_meets() {
    let lan = lan(3);
    for (index, name) in ["a.txt", "b.txt", "c.txt"].iter().enumerate() {
        files::write(lan.host(index).shared().join(name), name);
    }
    let mut a = listening(sync(lan.host(0)).args(&["--open", "--topic", "holiday"]));
    // Also an address given by hand does not bridge two topics.
    let mut b = sync(lan.host(1))
        .args(&["--open", "--topic", "work", "--once", "--timeout", "20", "-a"])
        .args(&[&address(lan.host(0))])
        .start();
    let mut c = sync(lan.host(2)).args(&["--open", "--topic", "holiday"]).start();
    agree(&mut [&mut a, &mut c], SHORT);
    trees::assert_same(&lan.host(0).shared(), &lan.host(2).shared());
    assert_eq!(trees::paths(&lan.host(0).shared()), ["a.txt", "c.txt"]);
    assert_eq!(b.exit_code(), Some(3), "refused, and says so");
    assert_eq!(trees::paths(&lan.host(1).shared()), ["b.txt"]);
    assert_eq!(b.count("peer_connected"), 0);
    stop_all(&mut [&mut a, &mut c]);
}

/// A file with a passphrase, readable by its owner only.
fn passphrase(lan: &Lan, index: usize, words: &str) -> String {
    let path = lan.host(index).home().join("passphrase");
    files::write(&path, format!("{words}\n"));
    files::set_mode(&path, 0o600);
    path.to_string_lossy().into_owned()
}

pub(crate) fn who_knows_the_passphrase_is_accepted() {
    let lan = lan(2);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let words = [0, 1].map(|i| passphrase(&lan, i, "otter maple candle river"));
    let mut a = sync(lan.host(0)).args(&["--passphrase-file", &words[0]]).start();
    let mut b = sync(lan.host(1)).args(&["--passphrase-file", &words[1]]).start();
    agree(&mut [&mut a, &mut b], SHORT);
    converge(&lan, &mut [&mut a, &mut b], SHORT, 1);
    assert_eq!((a.count("confirm"), b.count("confirm")), (0, 0), "nobody is asked");
    for kin in [&mut a, &mut b] {
        let said = kin.seen().any(|event| event.to_string().contains("otter maple"));
        assert!(!said && !kin.stderr().contains("otter maple"), "the passphrase was printed");
    }
    stop_all(&mut [&mut a, &mut b]);
}

pub(crate) fn who_does_not_know_the_passphrase_is_refused() {
    let lan = lan(2);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let right = passphrase(&lan, 0, "otter maple candle river");
    let wrong = passphrase(&lan, 1, "otter maple candle lake");
    let mut a = listening(sync(lan.host(0)).args(&["--passphrase-file", &right]));
    let mut b =
        sync(lan.host(1)).args(&["--passphrase-file", &wrong, "--once", "--timeout", "20"]).start();
    assert_eq!(b.exit_code(), Some(3));
    assert!(b.seen().any(is_refusal), "a clear refusal");
    assert_eq!(trees::paths(&lan.host(1).shared()), [""; 0]);
    assert_eq!((a.count("peer_connected"), b.count("peer_connected")), (0, 0));
    a.stop();
}

pub(crate) fn open_says_so_loudly_and_answers_for_its_own_side_only() {
    let lan = lan(2);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let mut a = sync(lan.host(0)).args(&["--open"]).start();
    let mut b = sync(lan.host(1)).start();
    let asked = b.expect("confirm");
    assert_eq!(a.count("confirm"), 0, "the open side is not asked");
    assert!(files::read(lan.host(1).shared().join("a.txt")).is_none(), "the other side decides");
    b.answer(&asked, true);
    agree(&mut [&mut a, &mut b], SHORT);
    converge(&lan, &mut [&mut a, &mut b], SHORT, 1);
    let loud = a.stderr().to_lowercase();
    assert!(
        loud.contains("--open") && loud.contains("every device"),
        "says that anyone gets in: {loud:?}"
    );
    stop_all(&mut [&mut a, &mut b]);
}

pub(crate) fn once_ends_when_both_agree() {
    let lan = lan(2);
    files::small_files(lan.host(0).shared(), 100, 1000, 10, 1);
    files::small_files(lan.host(1).shared().join("other"), 100, 1000, 10, 2);
    let mut a = sync(lan.host(0)).args(&["--open", "--once"]).start();
    let mut b = sync(lan.host(1)).args(&["--open", "--once"]).start();
    assert_eq!((a.exit_code(), b.exit_code()), (Some(0), Some(0)));
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    assert_eq!(trees::paths(&lan.host(0).shared()).len(), 100 + 10 + 100 + 10 + 1);
}

pub(crate) fn once_alone_times_out() {
    let lan = lan(1);
    let mut a = sync(lan.host(0)).args(&["--open", "--once", "--timeout", "1"]).start();
    assert_eq!(a.exit_code(), Some(4));
    assert_eq!(a.count("in_sync"), 0);
}

pub(crate) fn a_network_with_ipv6_only() {
    meet_by_ipv6(Addressing::V6);
}

pub(crate) fn a_network_with_link_local_addresses_only() {
    meet_by_ipv6(Addressing::LinkLocal);
}

fn meet_by_ipv6(addressing: Addressing) {
    let lan = Lan::with(disk(), 2, addressing);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let mut a = agreeable(sync(lan.host(0)));
    let mut b = agreeable(sync(lan.host(1)));
    agree(&mut [&mut a, &mut b], SHORT);
    converge(&lan, &mut [&mut a, &mut b], SHORT, 1);
    stop_all(&mut [&mut a, &mut b]);
}

/// Rule T1: of two links between the same devices one stays, decided before any ceremony.
pub(crate) fn both_dial_at_once_and_one_link_stays() {
    let lan = lan(2);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    files::write(lan.host(1).shared().join("b.txt"), "b's");
    let towards = [address(lan.host(1)), address(lan.host(0))];
    let start = |i: usize| -> Kin {
        sync(lan.host(i)).args(&["--no-discovery", "-a", &towards[i]]).start()
    };
    let (mut a, mut b) = (start(0).answering(Answers::Yes), start(1).answering(Answers::Yes));
    agree(&mut [&mut a, &mut b], SHORT);
    converge(&lan, &mut [&mut a, &mut b], SHORT, 2);
    assert_eq!((a.count("confirm"), b.count("confirm")), (1, 1), "one question each");
    assert_eq!((a.count("peer_connected"), b.count("peer_connected")), (1, 1));
    files::write(lan.host(0).shared().join("a.txt"), "edited");
    everywhere(&lan, &mut [&mut a, &mut b], "a.txt", "edited");
    stop_all(&mut [&mut a, &mut b]);

    // And when nobody is asked, where both links come up within a moment, again and again.
    for round in 0..5 {
        let mut a = open_to(lan.host(0), lan.host(1)).start();
        let mut b = open_to(lan.host(1), lan.host(0)).start();
        agree(&mut [&mut a, &mut b], SHORT);
        let text = format!("round {round}");
        files::write(lan.host(1).shared().join("b.txt"), &text);
        everywhere(&lan, &mut [&mut a, &mut b], "b.txt", &text);
        stop_all(&mut [&mut a, &mut b]);
    }
    let mut alone = listening(open(lan.host(0)));
    alone.stop();
}
