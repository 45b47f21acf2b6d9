//! Kinfold as a person runs it: encrypted, durable, `--open --no-discovery -a`.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use lab::{Kin, KinCommand, LONG, Lan, Usage, pump_until, trees};

use crate::{
    live,
    measure::Measure,
    workload::{Timed, Workload},
};

/// A standing session.
pub(crate) struct Session {
    pub(crate) sender: Kin,
    pub(crate) receiver: Kin,
    /// From the start of the second process to agreement on both sides.
    time: Duration,
}

pub(crate) fn run(
    kin: &Path,
    lan: &Lan,
    workload: &Workload,
    _divide: u32,
) -> Result<Measure, String> {
    let before = wire(lan);
    let mut session = Session::start(kin, lan);
    let mut measure = match workload.timed {
        Timed::First => {
            Measure { time: session.time, wire: wire(lan) - before, ..Measure::default() }
        }
        Timed::Restart => {
            session.stop()?;
            let before = wire(lan);
            session = Session::start(kin, lan);
            Measure { time: session.time, wire: wire(lan) - before, ..Measure::default() }
        }
        Timed::Change(change) => {
            let before = wire(lan);
            change(&lan.host(0).shared());
            let time = session.settle(lan, Instant::now());
            Measure { time, wire: wire(lan) - before, ..Measure::default() }
        }
        Timed::Live => live::run(lan, &mut session),
    };
    (measure.sender, measure.receiver) = session.stop()?;
    Ok(measure)
}

fn wire(lan: &Lan) -> u64 {
    let counters = lan.host(1).counters();
    counters.rx + counters.tx
}

impl Session {
    fn start(kin: &Path, lan: &Lan) -> Self {
        let (left, right) = (lan.host(0), lan.host(1));
        let command = |host| KinCommand::sync(kin, host).args(&["--open", "--no-discovery"]);
        let mut sender = command(left).start();
        sender.expect("listening");
        let peer = format!("{}:9000", left.v4());
        let mut receiver = command(right).args(&["--peer", &peer]).start();
        let start = receiver.started();
        pump_until(&mut [&mut sender, &mut receiver], LONG, "both are in sync", |kins| {
            kins.iter_mut().all(|kin| kin.agrees_with(1))
        });
        let first = |kin: &Kin| kin.when(|event| event["event"] == "in_sync").unwrap_or(start);
        let end = first(&sender).max(first(&receiver));
        Self { sender, receiver, time: end.saturating_duration_since(start) }
    }

    /// Waits until both trees are listed alike and both sides have said since `from` that they agree;
    /// returns how long that took.
    fn settle(&mut self, lan: &Lan, from: Instant) -> Duration {
        let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
        let mut end = from;
        pump_until(&mut [&mut self.sender, &mut self.receiver], LONG, "in sync again", |kins| {
            let said: Vec<_> = kins.iter().filter_map(|kin| kin.when_last("in_sync")).collect();
            end = said.iter().copied().max().unwrap_or(from);
            said.len() == 2
                && said.iter().all(|at| *at > from)
                && trees::listing(&left) == trees::listing(&right)
        });
        end.saturating_duration_since(from)
    }

    /// Ends both, and says what each has cost.
    fn stop(&mut self) -> Result<(Usage, Usage), String> {
        let usage = (self.sender.usage(), self.receiver.usage());
        for kin in [&mut self.receiver, &mut self.sender] {
            kin.interrupt();
            let code = kin.exit_code();
            if code != Some(0) {
                return Err(format!("kin ended with {code:?}"));
            }
        }
        Ok(usage)
    }
}
