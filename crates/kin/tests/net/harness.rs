//! Does the laboratory itself do what the tests believe?

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    time::{Duration, Instant},
};

use lab::SHORT;

use crate::common::lan;
use crate::stranger::{STRANGE, Stranger, say};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// A role: says what it hears in the multicast group, until it is killed.
pub(crate) fn hear(own: Ipv4Addr) {
    let socket = UdpSocket::bind(("0.0.0.0", STRANGE)).expect("the port is free");
    socket.join_multicast_v4(&GROUP, &own).expect("multicast");
    say("ready");
    loop {
        let mut buffer = [0; 64];
        if let Ok((n, from)) = socket.recv_from(&mut buffer) {
            say(format_args!("{} from {}", String::from_utf8_lossy(&buffer[..n]), from.ip()));
        }
    }
}

/// A role: calls into the multicast group until it is killed.
pub(crate) fn call(own: Ipv4Addr) {
    let socket = UdpSocket::bind((own, 0)).expect("the address is ours");
    say("ready");
    loop {
        // Fails while the cable is out.
        let _ = socket.send_to(b"hello", (GROUP, STRANGE));
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// A role: swallows one connection and says how many bytes came.
pub(crate) fn sink() {
    let listener = TcpListener::bind(("0.0.0.0", STRANGE)).expect("the port is free");
    say("ready");
    let (mut stream, _) = listener.accept().expect("somebody calls");
    let mut total = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        total += n;
    }
    say(total);
}

/// A role: sends `bytes` bytes.
pub(crate) fn pour(target: &str, bytes: usize) {
    let mut stream = TcpStream::connect(target).expect("it listens");
    stream.write_all(&vec![7; bytes]).expect("it swallows");
}

pub(crate) fn multicast_passes_until_the_cable_is_pulled() {
    let lan = lan(2);
    let (caller, hearer) = (lan.host(0), lan.host(1));
    let _calls = Stranger::start(caller, &format!("call {}", caller.v4()));
    let hears = Stranger::start(hearer, &format!("hear {}", hearer.v4()));
    assert_eq!(hears.says(SHORT), "ready");
    let heard = format!("hello from {}", caller.v4());
    assert_eq!(hears.says(SHORT), heard);
    hearer.unplug();
    // What was on the way is said; then there is silence.
    while hears.says_within(Duration::from_millis(500)).is_some() {}
    hearer.plug();
    assert_eq!(hears.says(SHORT), heard);
    hearer.blackhole();
    while hears.says_within(Duration::from_millis(500)).is_some() {}
    hearer.unblackhole();
    assert_eq!(hears.says(SHORT), heard);
}

pub(crate) fn a_failing_test_leaves_no_namespace() {
    let count = |name: &str| {
        let output = Command::new("ip").args(["netns", "list"]).output().expect("the probe did");
        String::from_utf8_lossy(&output.stdout).lines().filter(|l| l.starts_with(name)).count()
    };
    let mut name = String::new();
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let lan = lan(2);
        lan.name().clone_into(&mut name);
        assert_eq!(count(&name), 0, "fails on purpose: there are two hosts and a switch");
    }));
    assert!(failed.is_err() && !name.is_empty(), "there were namespaces");
    assert_eq!(count(&name), 0);
}

pub(crate) fn a_slow_line_is_slow_and_counted() {
    const BYTES: u64 = 4 << 20;
    let lan = lan(2);
    assert!(lan.host(0).limit(40));
    let before = lan.host(1).counters();
    let sink = Stranger::start(lan.host(1), "sink");
    assert_eq!(sink.says(SHORT), "ready");
    let start = Instant::now();
    let _pour =
        Stranger::start(lan.host(0), &format!("pour {}:{STRANGE} {BYTES}", lan.host(1).v4()));
    assert_eq!(sink.says(SHORT), BYTES.to_string());
    // 4 MiB at 5 MB/s take 0.84 s less the first burst; an open line takes some milliseconds.
    assert!(start.elapsed() > Duration::from_millis(600), "{:?}", start.elapsed());
    let passed = lan.host(1).counters().rx - before.rx;
    assert!((BYTES..BYTES + BYTES / 10).contains(&passed), "{passed} of {BYTES}");
}
