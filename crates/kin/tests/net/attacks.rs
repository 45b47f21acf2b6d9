//! Attacks on real processes, by their number. Those by strangers are in `stranger.rs`.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
};

use lab::{LONG, SHORT, Usage, files, pump_until, trees};

use crate::common::{
    agree, converge, everywhere, lan, listening, open, open_pair, open_to, stop_all, sync,
};
use crate::stranger::{Stranger, say};

/// A role: floods the multicast group of mDNS with packets that are none, until it is killed.
pub(crate) fn malform(own: Ipv4Addr) {
    let socket = UdpSocket::bind((own, 0)).expect("the address is ours");
    // A real answer to begin with: one PTR record for the service, and its TXT record.
    let mut answer = vec![0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    answer.extend(b"\x04_kin\x04_tcp\x05local\0\0\x0c\0\x01\0\0\0\x78\0\x04\x01x\xc0\x0c");
    // A name that leads to itself, counts that lie, a text of 8 KiB, and nothing at all.
    let loops = [&answer[..12], b"\xc0\x0c\0\x0c\0\x01\0\0\0\x78\0\x02\xc0\x0c"].concat();
    let mut counts = answer.clone();
    counts[6..8].copy_from_slice(&[0xff, 0xff]);
    let mut text = answer.clone();
    text.truncate(12);
    text.extend(b"\x04_kin\x04_tcp\x05local\0\0\x10\0\x01\0\0\0\x78\x20\0");
    text.extend([0xff; 0x2000]);
    let packets = [answer, loops, counts, text, Vec::new(), vec![0; 11], vec![0xff; 1400]];
    let mut noise = files::Noise::new(12);
    for round in 0u32.. {
        let mut packet = packets[round as usize % packets.len()].clone();
        if round >= 100 && !packet.is_empty() {
            // From then on each is damaged somewhere.
            let mut damage = [0; 8];
            noise.fill(&mut damage);
            let at = usize::from(damage[0]) << 8 | usize::from(damage[1]);
            let len = packet.len();
            packet[at % len] = damage[2];
        }
        let _ = socket.send_to(&packet, (Ipv4Addr::new(224, 0, 0, 251), 5353));
        if round == 2_000 {
            say("flooded");
        }
        if round % 50 == 0 {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
    }
}

/// mDNS packets that are none: discovery goes on, memory stays.
pub(crate) fn attack_12_malformed_packets_do_not_stop_discovery() {
    let lan = lan(3);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let mut a = listening(sync(lan.host(0)).args(&["--open"]));
    let before = Usage::of(a.pid()).expect("it runs").peak;
    let flood = Stranger::start(lan.host(2), &format!("malform {}", lan.host(2).v4()));
    assert_eq!(flood.says(LONG), "flooded");
    let mut b = sync(lan.host(1)).args(&["--open"]).start();
    agree(&mut [&mut a, &mut b], LONG);
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    let grown = Usage::of(a.pid()).expect("it runs").peak - before;
    assert!(grown < 32 << 20, "it took {grown} bytes");
    assert_eq!((a.count("peer_connected"), b.count("peer_connected")), (1, 1));
    stop_all(&mut [&mut a, &mut b]);
}

/// The bytes of a file in /proc, for a process and everything below it.
fn of_processes(pid: u32, file: &str) -> Vec<Vec<u8>> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([pid]);
    pids.filter_map(|pid: u32| fs::read(format!("/proc/{pid}/{file}")).ok()).collect()
}

/// The passphrase is nowhere that others look: arguments, environment, logs, the folder's own state.
pub(crate) fn attack_15_the_passphrase_is_in_no_argument_log_or_file() {
    const WORDS: &str = "quagga-zebra-tapir-okapi";
    let lan = lan(2);
    let file = |host: &lab::Host| host.home().join("passphrase");
    for host in lan.hosts() {
        files::write(file(host), format!("{WORDS}\n"));
        files::set_mode(file(host), 0o600);
    }
    let with = |host: &lab::Host| {
        let path = file(host).display().to_string();
        sync(host).args(&["--no-discovery", "--passphrase-file", &path, "-vv"])
    };
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let mut a = listening(with(lan.host(0)));
    let address = crate::common::address(lan.host(0));
    let mut b = with(lan.host(1)).args(&["--peer", &address]).start();
    agree(&mut [&mut a, &mut b], SHORT);
    let leaks = |bytes: &[u8]| bytes.windows(WORDS.len()).any(|part| part == WORDS.as_bytes());
    for pid in [a.pid(), b.pid()] {
        for seen in ["cmdline", "environ"] {
            let found = of_processes(pid, seen);
            assert!(!found.is_empty() && !found.iter().any(|bytes| leaks(bytes)), "{seen}");
        }
    }
    stop_all(&mut [&mut a, &mut b]);
    for kin in [&mut a, &mut b] {
        assert!(!leaks(kin.stderr().as_bytes()), "it is in the log");
        assert!(!kin.seen().any(|event| leaks(event.to_string().as_bytes())), "it is in an event");
    }
    for host in lan.hosts() {
        let output = Command::new("grep")
            .args(["-rl", WORDS])
            .arg(host.home())
            .output()
            .expect("there is a grep");
        let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(found, file(host).display().to_string(), "nowhere but where it was put");
    }
}

fn copy_tree(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("there is a cp");
    assert!(copied.success());
}

/// A folder copied with its state to another device: the person is told, and nothing is lost.
pub(crate) fn attack_40_a_folder_copied_with_its_state() {
    let lan = lan(3);
    let [left, right, third] = [0, 1, 2].map(|number| lan.host(number).shared());
    files::write(left.join("a.txt"), "before");
    files::write(left.join("gone.txt"), "deleted later");
    let (mut a, mut b) = open_pair(&lan);
    stop_all(&mut [&mut a, &mut b]);
    fs::remove_dir(&third).expect("empty");
    copy_tree(&left, &third);
    fs::remove_file(left.join("gone.txt")).expect("there");
    files::write(left.join("a.txt"), "edited on the original");
    files::write(third.join("a.txt"), "edited on the copy");

    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    let mut c = open_to(lan.host(2), lan.host(0)).start();
    c.expect_where("it is told", SHORT, |event| {
        event["event"] == "error" && event["kind"] == "state_copied"
    });
    // The two edits, and the deletion that the copy knew nothing of.
    converge(&lan, &mut [&mut a, &mut b, &mut c], LONG, 2);
    for side in [&left, &right, &third] {
        let texts: Vec<_> =
            trees::paths(side).iter().filter_map(|path| files::read(side.join(path))).collect();
        for text in ["edited on the original", "edited on the copy"] {
            assert!(texts.iter().any(|found| found == text.as_bytes()), "{text:?} is lost");
        }
    }
    let told = |kin: &mut lab::Kin| kin.seen().any(|event| event["kind"] == "state_copied");
    assert!(!told(&mut a) && !told(&mut b), "the others are what they were");
    everywhere(&lan, &mut [&mut a, &mut b, &mut c], "a.txt", {
        files::write(third.join("a.txt"), "and on");
        "and on"
    });
    stop_all(&mut [&mut a, &mut b, &mut c]);
}

/// A device that comes back with an old backup of its folder, state and all, undoes nothing.
pub(crate) fn attack_33_a_folder_restored_from_a_backup_brings_nothing_back() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    for number in 0..5 {
        files::write(left.join(format!("f{number}.txt")), "as it was");
    }
    let (mut a, mut b) = open_pair(&lan);
    stop_all(&mut [&mut a, &mut b]);
    let backup = lan.host(1).home().join("backup");
    copy_tree(&right, &backup);
    let (mut a, mut b) = open_pair(&lan);
    files::write(left.join("f0.txt"), "edited since");
    files::write(right.join("f1.txt"), "edited since");
    fs::remove_file(right.join("f2.txt")).expect("there");
    files::write(right.join("new.txt"), "made since");
    let kins = &mut [&mut a, &mut b];
    pump_until(kins, SHORT, "all arrived", |_| {
        trees::same(&left, &right) && trees::paths(&left).len() == 5
    });
    stop_all(&mut [&mut a, &mut b]);
    fs::rename(&right, lan.host(1).home().join("lost")).expect("there");
    copy_tree(&backup, &right);
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], LONG);
    converge(&lan, &mut [&mut a, &mut b], LONG, 5);
    assert_eq!(trees::paths(&right), ["f0.txt", "f1.txt", "f3.txt", "f4.txt", "new.txt"]);
    for path in ["f0.txt", "f1.txt"] {
        assert!(files::holds(right.join(path), "edited since"), "{path} is what it was");
    }
    stop_all(&mut [&mut a, &mut b]);
}

/// An editor holds the file open and writes on, the mtime is put back, a rename goes over it: each edit is
/// somewhere, while a peer edits the same files.
pub(crate) fn attack_34_edits_that_race_with_an_apply_are_kept() {
    use std::io::Write as _;
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    for number in 0..20 {
        files::write(left.join(format!("f{number}.txt")), "before\n");
    }
    let (mut a, mut b) = open_pair(&lan);
    let mut wrote = Vec::new();
    for number in 0..20 {
        let name = format!("f{number}.txt");
        let mine = right.join(&name);
        files::write(left.join(&name), format!("by the peer {number}\n"));
        let text = format!("appended {number}\n");
        let time = fs::metadata(&mine).and_then(|it| it.modified()).expect("there");
        let mut held = fs::File::options().append(true).open(&mine).expect("there");
        if number % 4 == 0 {
            // It writes when the name may be another file's already.
            b.pump(std::time::Duration::from_millis(20));
        }
        held.write_all(text.as_bytes()).expect("room");
        match number % 3 {
            0 => held.set_modified(time).expect("ours"),
            1 => {
                files::write(right.join("new"), format!("renamed over {number}\n"));
                fs::rename(right.join("new"), &mine).expect("there");
                wrote.push(format!("renamed over {number}\n"));
            }
            _ => {}
        }
        drop(held);
        // What a rename replaced, its own user replaced.
        if number % 3 != 1 {
            wrote.push(text);
        }
    }
    agree(&mut [&mut a, &mut b], LONG);
    pump_until(&mut [&mut a, &mut b], LONG, "both sides are alike", |_| trees::same(&left, &right));
    // A swapped-out file is looked at again: after the second look all that was written to it is kept.
    pump_until(&mut [&mut a, &mut b], LONG, "every edit is somewhere", |_| {
        let output = Command::new("grep")
            .args(["-rhoa", "-E", "(appended|renamed over) [0-9]+"])
            .arg(&right)
            .output()
            .expect("there is a grep");
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        wrote.iter().all(|text| found.contains(text.as_str()))
    });
    stop_all(&mut [&mut a, &mut b]);
}
