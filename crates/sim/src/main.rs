//! `cargo run --release -p sim -- --seeds N`: plays N random histories, each twice, and says which did not
//! end well.
#![allow(clippy::print_stdout, reason = "a command's output")]

use std::{process::ExitCode, time::Instant};

use clap::Parser;

/// Plays random histories of several devices over the real engine and judges what came of them.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Which faults the world has. Without faults for now: the only value is `none`.
    #[arg(long, default_value = "none", value_parser = ["none"])]
    faults: String,
    /// Print everything that happens.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begun = Instant::now();
    let (mut failed, mut edits, mut conflicts) = (0u64, 0, 0u64);
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        let outcome = sim::history::play(seed, arguments.verbose);
        edits += outcome.edits;
        conflicts += u64::from(outcome.conflicts);
        let again = sim::history::play(seed, false);
        let failure = match outcome.failure {
            None if again.trace != outcome.trace => Some("does not replay identically".to_owned()),
            other => other,
        };
        if let Some(failure) = failure {
            failed += 1;
            println!("seed {seed} ({} devices): {failure}", outcome.devices);
            println!("  replay: cargo run --release -p sim -- --seeds 1 --from {seed} --verbose");
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds, {edits} edits, {conflicts} conflict copies, {failed} failed, {seconds:.1} s",
        arguments.seeds
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
