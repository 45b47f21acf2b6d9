//! The table, in Markdown.

use std::{fmt::Write as _, time::Duration};

use crate::{
    measure::{Measure, median},
    workload::Workload,
};

/// Rows gathered so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: String,
}

const HEAD: &str = "\
| what | Kinfold | rsync | ratio | wire MB (rsync) | CPU s from + to (rsync) | peak MB from / to (rsync) |
|---|---|---|---|---|---|---|
";

impl Table {
    pub(crate) fn row(&mut self, workload: &Workload, ours: &[Measure], theirs: &[Measure]) {
        let time = |runs: &[Measure]| median(runs.iter().map(|m| m.time));
        let (kin, rsync) = (time(ours), time(theirs));
        let mut shown = seconds(kin);
        if ours.iter().any(|m| m.p99.is_some()) {
            let tail = median(ours.iter().filter_map(|m| m.p99));
            let _ = write!(shown, ", p99 {}", seconds(tail));
        }
        let _ = write!(self.rows, "| {} | {shown} ", workload.title);
        if theirs.is_empty() {
            let _ =
                writeln!(self.rows, "| – | – | {} | {} | {} |", wire(ours), cpu(ours), peak(ours));
            return;
        }
        let ratio = kin.as_secs_f64() / rsync.as_secs_f64().max(1e-6);
        let _ = writeln!(
            self.rows,
            "| {} | {ratio:.2} | {} ({}) | {} ({}) | {} ({}) |",
            seconds(rsync),
            wire(ours),
            wire(theirs),
            cpu(ours),
            cpu(theirs),
            peak(ours),
            peak(theirs),
        );
    }

    /// Another program's run of what is in the row before.
    pub(crate) fn other(&mut self, name: &str, run: &Measure) {
        let (time, runs) = (seconds(run.time), [run.clone()]);
        let _ = writeln!(
            self.rows,
            "| – the same, {name}, once | {time} | | | {} | {} | {} |",
            wire(&runs),
            cpu(&runs),
            peak(&runs),
        );
    }

    pub(crate) fn text(&self) -> String {
        format!("{HEAD}{}", self.rows)
    }
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
        let mut table = Table::default();
        table.row(&WORKLOADS[0], &runs([3000, 2000, 9000]), &runs([1500, 1000, 2000]));
        table.row(&WORKLOADS[1], &runs([50, 60, 70]), &[]);
        let text = table.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[2].contains("| 3.00 s | 1.50 s | 2.00 |"), "{text}");
        assert!(lines[3].contains("| 60.0 ms | – | – |"), "{text}");
        let columns = |line: &str| line.matches('|').count();
        assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{text}");
    }
}
