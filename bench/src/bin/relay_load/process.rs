//! A relay as a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use relay::{Client, RelayAddress};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// All of this machine is one source, and it is not to be limited.
const UNLIMITED: [&str; 16] = [
    "--connections",
    "100000",
    "--connections-per-source",
    "100000",
    "--connects-per-minute",
    "10000000",
    "--gets-per-minute",
    "1000000000",
    "--changes-per-minute",
    "10000000",
    "--deposit-kib-per-minute",
    "1000000000",
    "--members-envelopes",
    "100000",
    "--members-kib",
    "1000000",
];

/// A relay that runs. It is stopped when this is dropped.
pub(crate) struct Relay {
    child: Child,
    pub(crate) client: Client,
    pub(crate) store: String,
    /// From its start until it listened.
    pub(crate) took: Duration,
}

impl Relay {
    pub(crate) fn start(program: &Path, dir: &Path, store: &str) -> Self {
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--json", "--store", store, "--dir"])
            .arg(dir)
            .args(UNLIMITED)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the relay can be started");
        let out = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("it says something");
        let took = began.elapsed();
        let said: Value = serde_json::from_str(&line).expect("it says where it listens");
        let text = |key: &str| said[key].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
        let address: RelayAddress = text("address").parse().expect("an address");
        let client = Client::new(&address).expect("TLS can be set up");
        Self { child, client, store: text("store"), took }
    }

    /// Asks it to stop, and waits.
    pub(crate) fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), Signal::TERM).expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// What it holds now, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// What it held at most, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = lab::files::read(&path).expect("it runs");
        let status = String::from_utf8_lossy(&status).into_owned();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("Linux says so")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have been stopped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
