//! Kinfold as a person runs it: encrypted, durable, `--open --no-discovery -a`.

use std::{
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use lab::{Kin, KinCommand, Lan, LongLine, Usage, pump_until, trees};

use crate::{
    line::Span,
    live,
    measure::Measure,
    workload::{Timed, Workload},
};

/// Longer than anything here should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);

/// A standing session.
pub(crate) struct Session {
    pub(crate) sender: Kin,
    pub(crate) receiver: Kin,
    /// More receivers, if there are.
    others: Vec<Kin>,
    /// From the start of the second process to agreement on both sides.
    time: Duration,
}

pub(crate) fn run(
    kin: &Path,
    lan: &Lan,
    workload: &Workload,
    divide: u32,
) -> Result<Measure, String> {
    let before = wire(lan);
    let line =
        matches!(workload.timed, Timed::Line(_)).then(|| LongLine::between(lan)).transpose()?;
    let address = if line.is_some() { LongLine::address() } else { lan.host(0).v4() };
    let mut session = Session::start(kin, lan, address);
    let mut measure = match workload.timed {
        Timed::First | Timed::Fan(_) => {
            Measure { time: session.time, wire: wire(lan) - before, ..Measure::default() }
        }
        Timed::Restart => {
            session.stop()?;
            let (before, first) = (wire(lan), Some(session.time));
            session = Session::start(kin, lan, address);
            let (time, wire) = (session.time, wire(lan) - before);
            Measure { time, wire, first, ..Measure::default() }
        }
        Timed::Change(change) => {
            let before = wire(lan);
            change(&lan.host(0).shared());
            let time = session.settle(lan, Instant::now());
            Measure { time, wire: wire(lan) - before, ..Measure::default() }
        }
        Timed::Live => live::run(lan, &mut session),
        Timed::Line(change) => {
            let line = line.as_ref().ok_or("there is no long line")?;
            let (span, start) = (Span::from_now(line), Instant::now());
            change(&lan.host(0).shared());
            let took = session.settle(lan, start);
            span.measure(line, start + took)?
        }
        Timed::Idle(time) => {
            let (wired, spent) = (wire(lan), session.usage());
            let time = time / divide;
            std::thread::sleep(time);
            let now = session.usage();
            let mut measure = Measure { time, wire: wire(lan) - wired, ..Measure::default() };
            let since = |now: Usage, then: Usage| Usage { cpu: now.cpu - then.cpu, ..now };
            (measure.sender, measure.receiver) = (since(now.0, spent.0), since(now.1, spent.1));
            session.stop()?;
            return Ok(measure);
        }
    };
    (measure.sender, measure.receiver) = session.stop()?;
    Ok(measure)
}

fn wire(lan: &Lan) -> u64 {
    let counters = lan.host(1).counters();
    counters.rx + counters.tx
}

impl Session {
    fn start(kin: &Path, lan: &Lan, address: Ipv4Addr) -> Self {
        let left = lan.host(0);
        let command = |host| KinCommand::sync(kin, host).args(&["--open", "--no-discovery"]);
        let mut sender = command(left).start();
        sender.expect("listening");
        let peer = format!("{address}:9000");
        let receivers = lan.hosts().iter().skip(1);
        let mut others: Vec<_> =
            receivers.map(|host| command(host).args(&["--peer", &peer]).start()).collect();
        let peers = others.len() as u64;
        let mut receiver = others.remove(0);
        let start = receiver.started();
        let mut all: Vec<&mut Kin> = vec![&mut sender, &mut receiver];
        all.extend(&mut others);
        // The receivers know the sender alone.
        let wanted = |number: usize| if number == 0 { peers } else { 1 };
        pump_until(&mut all, PATIENCE, "all are in sync", |kins| {
            kins.iter_mut().enumerate().all(|(number, kin)| kin.agrees_with(wanted(number)))
        });
        let first = all.iter().enumerate().filter_map(|(number, kin)| {
            kin.when(|event| event["event"] == "in_sync" && event["peers"] == wanted(number))
        });
        let time = first.max().unwrap_or(start).saturating_duration_since(start);
        Self { sender, receiver, others, time }
    }

    /// Waits until both trees are listed alike and both sides have said since `from` that they agree;
    /// returns how long that took.
    fn settle(&mut self, lan: &Lan, from: Instant) -> Duration {
        let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
        let mut end = from;
        pump_until(
            &mut [&mut self.sender, &mut self.receiver],
            PATIENCE,
            "in sync again",
            |kins| {
                let said: Vec<_> = kins.iter().filter_map(|kin| kin.when_last("in_sync")).collect();
                end = said.iter().copied().max().unwrap_or(from);
                said.len() == 2
                    && said.iter().all(|at| *at > from)
                    && trees::listing(&left) == trees::listing(&right)
            },
        );
        end.saturating_duration_since(from)
    }

    /// What each has cost so far.
    fn usage(&self) -> (Usage, Usage) {
        (self.sender.usage(), self.receiver.usage())
    }

    /// Ends both, and says what each has cost.
    fn stop(&mut self) -> Result<(Usage, Usage), String> {
        let usage = self.usage();
        for kin in self.others.iter_mut().chain([&mut self.receiver, &mut self.sender]) {
            kin.interrupt();
            let code = kin.exit_code();
            if code != Some(0) {
                return Err(format!("kin ended with {code:?}"));
            }
        }
        Ok(usage)
    }
}
