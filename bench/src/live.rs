//! Live edits: how long until what was written can be read on the other side.

use std::time::{Duration, Instant};

use lab::{Lan, SHORT, files};

use crate::{
    kinfold::Session,
    measure::{Measure, p99},
};

const EDITS: u32 = 100;

pub(crate) fn run(lan: &Lan, session: &mut Session) -> Measure {
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    let before = lan.host(1).counters();
    let mut times = Vec::new();
    for number in 0..EDITS {
        // Half of them are new files, half overwrite the one before.
        let name = format!("live-{:03}.txt", number / 2);
        let text = format!("{number:0100}");
        files::write(left.join(&name), &text);
        let start = Instant::now();
        while !files::holds(right.join(&name), &text) {
            assert!(start.elapsed() < SHORT, "edit {number} has not arrived");
            std::thread::park_timeout(Duration::from_micros(100));
        }
        times.push(start.elapsed());
        session.sender.pump(Duration::ZERO);
        session.receiver.pump(Duration::ZERO);
    }
    let after = lan.host(1).counters();
    let tail = p99(&mut times);
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    // The last word must be agreement, so that the trees can be compared.
    lab::pump_until(
        &mut [&mut session.sender, &mut session.receiver],
        SHORT,
        "in sync after the edits",
        |_| lab::trees::listing(&left) == lab::trees::listing(&right),
    );
    Measure {
        time: middle,
        p99: Some(tail),
        wire: after.rx + after.tx - before.rx - before.tx,
        ..Measure::default()
    }
}
