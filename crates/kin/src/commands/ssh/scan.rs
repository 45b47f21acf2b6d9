//! `kin ssh scan`: who listens.

use std::{
    io,
    time::{Duration, Instant},
};

use clap::Args;
use serde::{Deserialize, Serialize};
use ssh::{
    Cidr,
    meet::{Kind, Place},
    scan::{Glimpse, Look, look, sweepable},
};
use tokio::sync::mpsc;
use tree::StateDir;

use super::common::{Protocol, which};
use crate::{
    answers, device,
    error::CommandError,
    escape::escape,
    output::{json::Json, screen::Screen, table::table},
    past, signals, ssh_files,
};

/// The last scan, in the device's state directory.
const FILE: &str = "ssh-scan.json";
/// Largest such file that is read.
const MAX_FILE: usize = 1 << 20;
/// How often programs are told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "\
Examples:
  kin ssh scan                           this network, by multicast DNS
  kin ssh scan --subnet 10.0.2.0/24      every address of another network
  kin ssh pair 2                         afterwards: the second that was listed";

/// List devices that run kin ssh listen or sync
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ScanArgs {
    /// Listen to this network for so many seconds; with subnets to ask it ends when all were asked
    #[arg(short, long, value_name = "SECS", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// Ask every address of this network, up to a /16; may be repeated
    #[arg(short, long, value_name = "CIDR")]
    subnet: Vec<Cidr>,

    /// List devices that run Connecto, too
    #[arg(long, value_name = "PROTOCOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "any")]
    connecto: Option<Protocol>,
}

/// Somebody who listens, as `--json` prints it and as the last scan is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SeenLine {
    pub(super) event: String,
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) addr: String,
    pub(super) port: u16,
    pub(super) kind: String,
}

impl SeenLine {
    /// Where it is.
    pub(super) fn place(&self) -> Option<Place> {
        let host =
            if self.addr.contains(':') { format!("[{}]", self.addr) } else { self.addr.clone() };
        format!("{host}:{}", self.port).parse().ok()
    }
}

#[derive(Serialize)]
struct Asked {
    event: &'static str,
    done: u64,
    of: u64,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
}

/// What the last scan found.
///
/// # Errors
/// If there is no place for this device's state.
pub(super) fn last() -> Result<Vec<SeenLine>, CommandError> {
    let state = StateDir::open(&device::state_dir()?).map_err(device::explain)?;
    // One that cannot be read is as good as none: the next scan writes it anew.
    let bytes = state.read(FILE).ok().flatten().filter(|bytes| bytes.len() <= MAX_FILE);
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

/// Runs it to its end.
pub(super) async fn run(screen: &Screen, json: bool, args: &ScanArgs) -> Result<(), CommandError> {
    let mut nets = args.subnet.clone();
    nets.extend(ssh_files::open()?.subnets());
    nets.sort();
    nets.dedup();
    for net in &nets {
        sweepable(net).map_err(|error| {
            CommandError::usage("subnet", &error.to_string())
                .hint("name smaller networks, each with a --subnet of its own")
        })?;
    }
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let setup = Look {
        nets,
        timeout: Duration::from_secs(args.timeout),
        connecto: args.connecto.map(which),
    };
    let (send, mut events) = mpsc::channel(64);
    let looking = tokio::spawn(look(setup, send));
    let mut seen: Vec<SeenLine> = Vec::new();
    let mut out = Json::new(io::stdout());
    let mut told = Instant::now();
    if !json {
        screen.status("looking who listens; Ctrl-C stops");
    }
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = stop_asked.recv() => break,
        };
        match event {
            None => break,
            Some(Glimpse::Seen(one)) => {
                let line = SeenLine {
                    event: "found".to_owned(),
                    index: u32::try_from(seen.len() + 1).unwrap_or(u32::MAX),
                    name: one.name,
                    addr: one.addr.ip().to_string(),
                    port: one.addr.port(),
                    kind: one.kind.word().to_owned(),
                };
                if json {
                    past::written(out.value(&line))?;
                } else {
                    answers::lines(&[row(&line)])?;
                }
                seen.push(line);
            }
            Some(Glimpse::Asked { done, of }) => {
                screen.counted(Some((done, of)));
                if json && (told.elapsed() >= TELL_EVERY || done == of) {
                    told = Instant::now();
                    past::written(out.value(&Asked { event: "asked", done, of }))?;
                }
            }
            Some(Glimpse::Note(note)) => screen.line(&format!("note: {}", escape(&note))),
        }
    }
    drop(events);
    screen.clear();
    if let Ok(Err(error)) = looking.await {
        return Err(CommandError::failed("link", &error.to_string()));
    }
    keep(&seen)?;
    if json {
        past::written(out.value(&Done { event: "done" }))?;
    } else if seen.is_empty() {
        screen.line("Nobody listens. On the other device, run kin ssh listen; in another network, name it with --subnet.");
    } else {
        screen.line("kin ssh pair NUMBER pairs with one of them.");
    }
    Ok(())
}

fn keep(seen: &[SeenLine]) -> Result<(), CommandError> {
    let state = StateDir::open(&device::state_dir()?).map_err(device::explain)?;
    let bytes = serde_json::to_vec(seen)
        .map_err(|error| CommandError::failed("output", &error.to_string()))?;
    state.replace(FILE, &bytes).map_err(device::explain)
}

fn row(line: &SeenLine) -> String {
    let name = if line.name.is_empty() { "?".to_owned() } else { escape(&line.name) };
    let kind = match Kind::from_word(&line.kind) {
        Some(Kind::Kinfold) => "verified by comparing",
        _ => "Connecto: not verified",
    };
    let row = vec![
        format!("{:>3}", line.index),
        format!("{name:<20}"),
        format!("{:<24}", format!("{}:{}", line.addr, line.port)),
        kind.to_owned(),
    ];
    table(&[row]).concat()
}
