//! What a sync costs, in counts that do not depend on how fast or busy the machine is: system calls, bytes read, bytes
//! on the wire. The figures are what was counted when they were written, with a margin: who makes one larger says
//! why.

use std::{collections::BTreeMap, fs, path::Path};

use lab::{LONG, eventually, files, trees};

use crate::common::{agree, lan, listening, open, open_to, stop_all};

/// Calls by name, of all threads, from the table that `strace -c` writes when the program has ended.
fn calls(table: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(table).unwrap_or_default();
    let row = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        // % time, seconds, usecs/call, calls, perhaps errors, and the name.
        Some((columns.last()?.to_string(), columns.get(3)?.parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

fn of(calls: &BTreeMap<String, u64>, names: &[&str]) -> u64 {
    names.iter().filter_map(|name| calls.get(*name)).sum()
}

pub(crate) fn small_files_cost_few_system_calls() {
    const FILES: u32 = 2_000;
    const LEN: u32 = 4096;
    let lan = lan(2);
    files::small_files(lan.host(0).shared(), FILES as usize, LEN as usize, 100, 1);
    let tables = [0, 1].map(|host| lan.host(host).home().join("calls.txt"));
    let traced = |table: &Path| {
        let table = table.to_str().expect("a plain path").to_owned();
        ["strace", "-D", "-f", "-c", "-o", &table].map(str::to_owned)
    };
    let (first, second) = (traced(&tables[0]), traced(&tables[1]));
    let mut a = listening(open(lan.host(0)).through(&first.each_ref().map(String::as_str)));
    let before = lan.host(1).counters();
    let to_a = open_to(lan.host(1), lan.host(0));
    let mut b = to_a.through(&second.each_ref().map(String::as_str)).start();
    agree(&mut [&mut a, &mut b], LONG);
    let after = lan.host(1).counters();
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    stop_all(&mut [&mut a, &mut b]);
    // The tracer writes when what it traces has ended.
    eventually("the tables are written", || {
        tables.iter().all(|table| of(&calls(table), &["total"]) > 0)
    });
    let [sent, received] = tables.each_ref().map(|table| calls(table));
    let looks = ["openat2", "openat", "statx", "newfstatat", "close", "getdents64"];
    let changes = ["renameat2", "fchmod", "utimensat", "mkdirat", "pwrite64", "unlinkat"];
    let syncs = ["fsync", "fdatasync", "syncfs"];
    let per_file =
        |calls: &BTreeMap<String, u64>, names: &[&str]| of(calls, names) as f64 / f64::from(FILES);
    let wire = (after.rx + after.tx - before.rx - before.tx) as f64 / f64::from(FILES * LEN);
    let found = [
        ("the sender looks, a file", per_file(&sent, &looks), SENDER_LOOKS),
        ("the receiver looks, a file", per_file(&received, &looks), RECEIVER_LOOKS),
        ("the receiver changes, a file", per_file(&received, &changes), RECEIVER_CHANGES),
        ("the receiver makes durable", of(&received, &syncs) as f64, RECEIVER_SYNCS),
        ("bytes on the wire, a byte of contents", wire, WIRE),
    ];
    println!("{found:#?}");
    for (what, count, most) in found {
        assert!(count > 0.0 && count <= most, "{what}: {count}, more than {most}");
    }
}

const SENDER_LOOKS: f64 = 21.0;
const RECEIVER_LOOKS: f64 = 14.0;
const RECEIVER_CHANGES: f64 = 6.0;
const RECEIVER_SYNCS: f64 = 110.0;
const WIRE: f64 = 1.1;

/// Two copies of one folder meet for the first time: who has looked at its own files first has nothing to bring.
pub(crate) fn equal_folders_that_meet_exchange_no_contents() {
    const FILES: u32 = 4_000;
    const LEN: u32 = 4096;
    let lan = lan(2);
    for host in [0, 1] {
        files::small_files(lan.host(host).shared(), FILES as usize, LEN as usize, 100, 1);
    }
    let copied = trees::listing(&lan.host(1).shared());
    let mut a = listening(open(lan.host(0)));
    let before = lan.host(1).counters();
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], LONG);
    let after = lan.host(1).counters();
    let wire = (after.rx + after.tx - before.rx - before.tx) as f64 / f64::from(FILES);
    let conflicts = a.count("conflict") + b.count("conflict");
    println!("{wire:.0} bytes on the wire a file, {conflicts} conflicts");
    assert!(wire < 1_000.0, "{wire} bytes on the wire a file: contents of {LEN} bytes travelled");
    assert_eq!(conflicts, 0);
    assert_eq!(trees::paths(&lan.host(1).shared()).len(), copied.len());
    stop_all(&mut [&mut a, &mut b]);
}

/// Contents of a large file are read twice where they come from (to be named, and to be sent), and not at all
/// where they go to; what travels is little more than they are.
pub(crate) fn a_large_file_is_read_twice_and_travels_once() {
    const LEN: u64 = 160 << 20;
    let lan = lan(2);
    files::random_file(lan.host(0).shared().join("large.bin"), LEN, 7);
    let mut a = listening(open(lan.host(0)));
    let before = lan.host(1).counters();
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], LONG);
    let after = lan.host(1).counters();
    let per_byte = |bytes: u64| bytes as f64 / LEN as f64;
    let wire = per_byte(after.rx + after.tx - before.rx - before.tx);
    let (sent, received) = (per_byte(a.bytes_read()), per_byte(b.bytes_read()));
    println!("read {sent:.3} and {received:.3}, on the wire {wire:.3} bytes a byte");
    assert!(sent < 2.4, "the sender read {sent} bytes a byte");
    assert!(received < 0.2, "the receiver read {received} bytes a byte");
    assert!(wire < 1.05, "{wire} bytes on the wire a byte");
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    stop_all(&mut [&mut a, &mut b]);
}
