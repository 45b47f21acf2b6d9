//! Load on a relay, over loopback: what it does in a second, how long it takes, what it costs in memory.
//!
//! ```text
//! cargo build --release -p relay --bin kin-relay
//! cargo run --release -p bench --bin relay_load -- --relay target/release/kin-relay
//! cargo run --release -p bench --bin relay_load -- --relay target/release/kin-relay --postgres
//! ```
//!
//! The relay is a process of its own and shares the machine with this generator, which does TLS for as many
//! clients: say so with every figure. With `--postgres` two relays share a database of our own, which is durable;
//! what is deposited at one is received at the other.
#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has failed, and prints its table"
)]

mod process;
mod work;

use std::path::PathBuf;

use clap::Parser;
use lab::Postgres;
use process::Relay;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[derive(Parser, Debug)]
#[command(about = "Load on a relay, over loopback")]
struct Arguments {
    /// The program to measure: kin-relay.
    #[arg(long, value_name = "FILE")]
    relay: PathBuf,
    /// Two relays on one PostgreSQL, which must be installed.
    #[arg(long)]
    postgres: bool,
    /// Seconds of each rate.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Inboxes that are connected at once.
    #[arg(long, default_value_t = 10_000)]
    inboxes: usize,
    /// Envelopes that wait and are then received.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
    /// Seconds for which connected inboxes get mail at the end, while memory is watched.
    #[arg(long, default_value_t = 0)]
    soak: u64,
}

fn main() {
    let arguments = Arguments::parse();
    // A descriptor for each connection, here and there.
    let wanted = arguments.inboxes as u64 + 4096;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let most = Some(maximum.map_or(wanted, |maximum| maximum.max(wanted)));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: most })
        .expect("as many descriptors as connections: raise the limit (ulimit -n)");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(run(&arguments));
}

async fn run(arguments: &Arguments) {
    let dir = tempfile::tempdir().expect("a directory");
    let database = arguments.postgres.then(|| Postgres::start(true));
    let store = match &database {
        Some(database) => database.url("postgres"),
        None => "sqlite".to_owned(),
    };
    let start = || Relay::start(&arguments.relay, dir.path(), &store);
    let mut relay = start();
    // With PostgreSQL what goes to one comes out of the other.
    let other = database.as_ref().map(|_| start());
    println!("| what | figure |\n|---|---|");
    println!("| store | {}{} |", relay.store, if other.is_some() { ", two relays" } else { "" });
    work::gets(&relay, arguments.seconds).await;
    work::absences(&relay).await;
    work::deposits(&relay, arguments.seconds).await;
    work::handshakes(&relay, arguments.seconds).await;
    {
        let out = other.as_ref().unwrap_or(&relay);
        let inboxes = work::connect(out, arguments.inboxes).await;
        work::delivery(&relay, out, inboxes, arguments.seconds, arguments.soak).await;
    }
    if arguments.backlog == 0 {
        return;
    }
    work::fill(&relay, arguments.backlog).await;
    relay.stop();
    relay = start();
    println!("| restart with that backlog, until it listens | {:.2} s |", relay.took.as_secs_f64());
    work::drain(&relay, arguments.backlog).await;
    println!("| peak memory of the relay since then | {} MiB |", relay.peak_kib() >> 10);
}
