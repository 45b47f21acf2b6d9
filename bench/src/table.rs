//! The table, in Markdown.

use std::{fmt::Write as _, slice, time::Duration};

use crate::{
    measure::{Measure, median},
    workload::{Timed, Workload},
};

/// Above the rows.
pub(crate) const HEAD: &str = "\
| what | Kinfold | rsync | ratio | wire MB (rsync) | CPU s from + to (rsync) | peak MB from / to (rsync) |
|---|---|---|---|---|---|---|";

/// What was measured, of each the median.
pub(crate) fn row(workload: &Workload, ours: &[Measure], theirs: &[Measure]) -> String {
    let time = |runs: &[Measure]| median(runs.iter().map(|m| m.time));
    let (kin, rsync) = (time(ours), time(theirs));
    let (what, mut shown) = (workload.title, shown(ours));
    if matches!(workload.timed, Timed::Idle(_)) {
        shown = idle(ours);
    }
    if theirs.is_empty() {
        return format!(
            "| {what} | {shown} | – | – | {} | {} | {} |",
            wire(ours),
            cpu(ours),
            peak(ours)
        );
    }
    let ratio = kin.as_secs_f64() / rsync.as_secs_f64().max(1e-6);
    format!(
        "| {what} | {shown} | {} | {ratio:.2} | {} ({}) | {} ({}) | {} ({}) |",
        self::shown(theirs),
        wire(ours),
        wire(theirs),
        cpu(ours),
        cpu(theirs),
        peak(ours),
        peak(theirs),
    )
}

/// Another program's run of what is in the row before.
pub(crate) fn other(name: &str, run: &Measure) -> String {
    let (time, runs) = (seconds(run.time), slice::from_ref(run));
    let (wire, cpu, peak) = (wire(runs), cpu(runs), peak(runs));
    format!("| – the same, {name}, once | {time} | | | {wire} | {cpu} | {peak} |")
}

/// What the long line itself carries.
pub(crate) fn plain(connections: u32, run: &Measure, round_trip: Duration) -> String {
    let runs = slice::from_ref(run);
    let (time, round_trip, wire) = (shown(runs), seconds(round_trip), wire(runs));
    let of = if connections == 1 { "connection" } else { "connections" };
    format!(
        "| – the same, plain TCP, {connections} {of}, once (round trip {round_trip}) | {time} | | | {wire} | | |"
    )
}

/// The time, and what is to be said beside it.
pub(crate) fn shown(runs: &[Measure]) -> String {
    let mut shown = seconds(median(runs.iter().map(|m| m.time)));
    if runs.iter().any(|m| m.p99.is_some()) {
        let tail = median(runs.iter().filter_map(|m| m.p99));
        let _ = write!(shown, ", p99 {}", seconds(tail));
    }
    if runs.iter().any(|m| m.settled.is_some()) {
        let done = median(runs.iter().filter_map(|m| m.settled));
        let _ = write!(shown, ", done after {}", seconds(done));
    }
    if runs.iter().any(|m| m.first.is_some()) {
        let first = median(runs.iter().filter_map(|m| m.first));
        let _ = write!(shown, ", first sync {}", seconds(first));
    }
    let dropped = median(runs.iter().map(|m| m.dropped));
    if dropped > 0 {
        let _ = write!(shown, ", {dropped} packets dropped");
    }
    shown
}

/// Processor time of both ends, in percent of a core.
fn idle(runs: &[Measure]) -> String {
    let percent = |cpu: f64, time: Duration| 100.0 * cpu / time.as_secs_f64().max(1e-6);
    let sender = median(runs.iter().map(|m| percent(m.sender.cpu, m.time)));
    let receiver = median(runs.iter().map(|m| percent(m.receiver.cpu, m.time)));
    format!("{sender:.3} % + {receiver:.3} %")
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_millis(200) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

fn wire(runs: &[Measure]) -> String {
    format!("{:.2}", median(runs.iter().map(|m| m.wire)) as f64 / 1e6)
}

fn cpu(runs: &[Measure]) -> String {
    let sender = median(runs.iter().map(|m| m.sender.cpu));
    let receiver = median(runs.iter().map(|m| m.receiver.cpu));
    format!("{sender:.2} + {receiver:.2}")
}

fn peak(runs: &[Measure]) -> String {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let sender = megabytes(median(runs.iter().map(|m| m.sender.peak)));
    let receiver = megabytes(median(runs.iter().map(|m| m.receiver.peak)));
    format!("{sender:.0} / {receiver:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    #[test]
    fn a_row_has_the_ratio_of_the_medians() {
        let runs = |millis: [u64; 3]| {
            millis.map(|ms| Measure { time: Duration::from_millis(ms), ..Measure::default() })
        };
        let both = row(&WORKLOADS[0], &runs([3000, 2000, 9000]), &runs([1500, 1000, 2000]));
        let alone = row(&WORKLOADS[1], &runs([50, 60, 70]), &[]);
        let first = Some(Duration::from_secs(6));
        let again = runs([300, 400, 500]).map(|run| Measure { first, ..run });
        let again = row(&WORKLOADS[6], &again, &again);
        assert!(again.contains("| 0.40 s, first sync 6.00 s | 0.40 s, first"), "{again}");
        assert!(both.contains("| 3.00 s | 1.50 s | 2.00 |"), "{both}");
        assert!(alone.contains("| 60.0 ms | – | – |"), "{alone}");
        let run =
            Measure { settled: Some(Duration::from_secs(9)), dropped: 7, ..Measure::default() };
        let plain = plain(4, &run, Duration::from_millis(50));
        assert!(plain.contains("4 connections, once (round trip 50.0 ms)"), "{plain}");
        assert!(plain.contains("| 0.0 ms, done after 9.00 s, 7 packets dropped |"), "{plain}");
        let other = other("another", &run);
        let columns = |line: &str| line.matches('|').count();
        for row in [&both, &alone, &again, &plain, &other] {
            assert!(HEAD.lines().all(|line| columns(line) == columns(row)), "{row}");
        }
    }

    #[test]
    fn an_idle_pairs_time_is_told_in_percent_of_a_core() {
        let idle = WORKLOADS.iter().find(|w| w.id == "idle").expect("it is there");
        let usage = |cpu| lab::Usage { cpu, peak: 0 };
        let (sender, receiver) = (usage(0.6), usage(0.06));
        let time = Duration::from_secs(600);
        let row = row(idle, &[Measure { time, sender, receiver, ..Measure::default() }], &[]);
        assert!(row.contains("| 0.100 % + 0.010 % | – |"), "{row}");
    }
}
