//! Syncthing between the same two hosts: no discovery, no relays, no NAT, a folder watched with a second's delay at most.

use std::{
    fs,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use lab::{Host, Lan, Sampler, eventually_within, trees};

use serde_json::Value;

use crate::{
    measure::Measure,
    workload::{Timed, Workload},
};

/// Longer than anything here should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);
const API_KEY: &str = "bench";

/// True if there is something to compare: it says to nobody when the last write is on the disk.
pub(crate) fn can(workload: &Workload) -> bool {
    matches!(workload.timed, Timed::First | Timed::Change(_))
}

struct Instance<'a> {
    host: &'a Host,
    process: Child,
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn run(lan: &Lan, workload: &Workload) -> Result<Measure, String> {
    let (left, right) = (lan.host(0), lan.host(1));
    let ids = [generate(left)?, generate(right)?];
    let sender = Instance::start(left, &ids, None)?;
    // It has looked at its files, as Kinfold has not.
    sender.wait_for("\"state\": \"idle\"");
    let start = Instant::now();
    let receiver = Instance::start(right, &ids, Some(left))?;
    let usage = [&sender, &receiver].map(|it| Sampler::start(it.process.id()));
    let before = right.counters();
    let alike = || trees::listing(&left.shared()) == trees::listing(&right.shared());
    eventually_within(PATIENCE, "Syncthing has brought all", || receiver.is_idle() && alike());
    let (mut time, mut after) = (start.elapsed(), right.counters());
    let mut wire = after.rx + after.tx - before.rx - before.tx;
    if let Timed::Change(change) = workload.timed {
        let known = receiver.sequence();
        change(&left.shared());
        let (start, before) = (Instant::now(), after);
        eventually_within(PATIENCE, "Syncthing has brought the change", || {
            receiver.sequence() != known && receiver.is_idle() && alike()
        });
        (time, after) = (start.elapsed(), right.counters());
        wire = after.rx + after.tx - before.rx - before.tx;
    }
    let [sender, receiver] = usage.map(Sampler::finish);
    Ok(Measure { time, wire, sender, receiver, ..Measure::default() })
}

/// Makes a key and a first configuration; the device's id.
fn generate(host: &Host) -> Result<String, String> {
    let home = home(host);
    let made = host
        .command("syncthing")
        .args(["generate", "--no-default-folder", "--skip-port-probing", "--home", &home])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return Err("syncthing generate failed".to_owned());
    }
    let id = host.command("syncthing").args(["--device-id", "--home", &home]).output();
    let id = id.map_err(|e| format!("syncthing --device-id: {e}"))?.stdout;
    Ok(String::from_utf8_lossy(&id).trim().to_owned())
}

fn home(host: &Host) -> String {
    host.home().join("syncthing").display().to_string()
}

impl<'a> Instance<'a> {
    fn start(host: &'a Host, ids: &[String; 2], peer: Option<&Host>) -> Result<Self, String> {
        let [left, right] = ids;
        let shared = host.shared();
        let folder = shared.display();
        let address =
            peer.map_or("dynamic".to_owned(), |peer| format!("tcp://{}:22000", peer.v4()));
        let device = |id: &str| {
            format!(
                "<device id=\"{id}\" name=\"\" compression=\"never\"><address>{address}</address></device>"
            )
        };
        let member = |id: &str| format!("<device id=\"{id}\"></device>");
        let config = format!(
            "<configuration version=\"36\">\
             <folder id=\"bench\" path=\"{folder}\" type=\"sendreceive\" rescanIntervalS=\"3600\" \
              fsWatcherEnabled=\"true\" fsWatcherDelayS=\"1\" autoNormalize=\"true\">{}{}</folder>{}{}\
             <gui enabled=\"true\" tls=\"false\"><address>127.0.0.1:8384</address><apikey>{API_KEY}</apikey></gui>\
             <options><listenAddress>tcp://0.0.0.0:22000</listenAddress>\
             <globalAnnounceEnabled>false</globalAnnounceEnabled>\
             <localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled>\
             <natEnabled>false</natEnabled><urAccepted>-1</urAccepted><startBrowser>false</startBrowser>\
             <crashReportingEnabled>false</crashReportingEnabled><reconnectionIntervalS>1</reconnectionIntervalS>\
             <autoUpgradeIntervalH>0</autoUpgradeIntervalH></options></configuration>",
            member(left),
            member(right),
            device(left),
            device(right),
        );
        let file = host.home().join("syncthing/config.xml");
        fs::write(&file, config).map_err(|e| format!("{}: {e}", file.display()))?;
        fs::create_dir_all(shared.join(".stfolder")).map_err(|e| format!("{folder}: {e}"))?;
        let process = host
            .command("syncthing")
            .args(["serve", "--no-browser", "--no-restart", "--no-upgrade", "--home", &home(host)])
            .env("STNODEFAULTFOLDER", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("syncthing: {e}"))?;
        Ok(Self { host, process })
    }

    /// What it says of its folder; nothing if it does not answer yet.
    fn status(&self) -> String {
        let url = "http://127.0.0.1:8384/rest/db/status?folder=bench";
        let mut said = self.host.command("curl");
        said.args(["-s", "-m", "5", "-H", &format!("X-API-Key: {API_KEY}"), url]);
        said.output().map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).into())
    }

    fn wait_for(&self, text: &str) {
        eventually_within(PATIENCE, "Syncthing says so", || self.status().contains(text));
    }

    /// Grows with every file that is changed here.
    fn sequence(&self) -> Option<u64> {
        serde_json::from_str::<Value>(&self.status()).ok()?["sequence"].as_u64()
    }

    fn is_idle(&self) -> bool {
        let status = self.status();
        status.contains("\"state\": \"idle\"") && status.contains("\"needTotalItems\": 0")
    }
}
