//! rsync as it is fastest: its own daemon, plain TCP, nothing synced to the disk.

use std::{
    fs,
    net::Ipv4Addr,
    process::{Child, Stdio},
    thread,
    time::Instant,
};

use lab::{Host, Lan, LongLine, Sampler, eventually};

use crate::{
    line::Span,
    measure::Measure,
    workload::{Timed, Workload},
};

const PORT: u16 = 8730;

/// A daemon on host 0; killed on drop.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(lan: &Lan, workload: &Workload) -> Result<Measure, String> {
    let line =
        matches!(workload.timed, Timed::Line(_)).then(|| LongLine::between(lan)).transpose()?;
    let (sender, receiver) = (lan.host(0), lan.host(1));
    let config = sender.home().join("rsyncd.conf");
    let text = format!(
        "use chroot = no\npid file = {}\nlog file = /dev/null\n[data]\npath = {}\nread only = yes\n\
         uid = 0\ngid = 0\n",
        sender.home().join("rsyncd.pid").display(),
        sender.shared().display()
    );
    fs::write(&config, text).map_err(|e| format!("rsync's config: {e}"))?;
    let daemon = sender
        .command("rsync")
        .args(["--daemon", "--no-detach", "--port"])
        .arg(PORT.to_string())
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| format!("rsync: {e}"))?;
    let daemon = Daemon(daemon);
    let listening = format!(":{PORT:04X} ");
    eventually("rsync listens", || sender.sh("cat /proc/net/tcp").contains(&listening));

    let mut first = None;
    match workload.timed {
        Timed::First | Timed::Fan(_) => {}
        Timed::Idle(_) => return Err("rsync does not wait for changes".to_owned()),
        Timed::Line(change) => {
            change(&sender.shared());
            let line = line.as_ref().ok_or("there is no long line")?;
            let span = Span::from_now(line);
            let pulled = pull_from(LongLine::address(), receiver, &daemon)?;
            let measure = span.measure(line, Instant::now())?;
            return Ok(Measure { sender: pulled.sender, receiver: pulled.receiver, ..measure });
        }
        Timed::Change(change) => {
            pull(lan, &daemon)?;
            change(&sender.shared());
        }
        Timed::Restart => {
            first = Some(pull(lan, &daemon)?.time);
        }
        Timed::Live => {
            // rsync does not watch: what a person does is to run it again.
            pull(lan, &daemon)?;
            lab::files::write(sender.shared().join("live.txt"), [b'x'; 100]);
        }
    }
    let before = receiver.counters();
    let daemon = &daemon;
    let receivers = 1..=usize::from(workload.timed.receivers());
    let mut measure = thread::scope(|scope| {
        let pulls: Vec<_> =
            receivers.map(|to| scope.spawn(move || pull_to(lan, to, daemon))).collect();
        let pulls = pulls.into_iter().map(|pull| pull.join().map_err(|_| "rsync's thread died"));
        let pulls: Vec<Measure> = pulls.map(|pull| pull?).collect::<Result<_, String>>()?;
        let slowest = pulls.into_iter().max_by_key(|pull| pull.time);
        slowest.ok_or_else(|| "nobody to pull".to_owned())
    })?;
    let after = receiver.counters();
    measure.first = first;
    measure.wire = after.rx + after.tx - before.rx - before.tx;
    Ok(measure)
}

fn pull(lan: &Lan, daemon: &Daemon) -> Result<Measure, String> {
    pull_to(lan, 1, daemon)
}

fn pull_to(lan: &Lan, to: usize, daemon: &Daemon) -> Result<Measure, String> {
    pull_from(lan.host(0).v4(), lan.host(to), daemon)
}

fn pull_from(address: Ipv4Addr, receiver: &Host, daemon: &Daemon) -> Result<Measure, String> {
    let served = Sampler::start(daemon.0.id());
    let start = Instant::now();
    let mut client = receiver
        .command("rsync")
        // An overwrite within the same second is a change for it too.
        .args(["-a", "--delete", "--modify-window=-1"])
        .arg(format!("rsync://{address}:{PORT}/data/"))
        .arg(receiver.shared())
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| format!("rsync: {e}"))?;
    let fetched = Sampler::start(client.id());
    let status = client.wait().map_err(|e| format!("rsync: {e}"))?;
    let time = start.elapsed();
    if !status.success() {
        return Err(format!("rsync: {status}"));
    }
    Ok(Measure { time, sender: served.finish(), receiver: fetched.finish(), ..Measure::default() })
}
