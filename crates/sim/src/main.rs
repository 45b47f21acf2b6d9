//! `cargo run --release -p sim -- --seeds N`: plays N random histories, each twice, and says which did not
//! end well.
#![allow(clippy::print_stdout, reason = "a command's output")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use clap::Parser;
use sim::{
    fault::{Fault, Faults},
    history::{self, Outcome},
    plan::Plan,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Plays random histories of several devices over the real engine and judges what came of them.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Which faults the world may have: all, none, or some of links, crash, power, disk, watch, clock, fold,
    /// index and races, separated by commas. With members, not in all, the devices are a group whose members change;
    /// with years as well, years pass in the middle of each history.
    #[arg(long, default_value = "none")]
    faults: Faults,
    /// How many to play at once; as many as there are processors if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Do not make failing histories shorter.
    #[arg(long)]
    as_found: bool,
    /// Print everything that happens.
    #[arg(long)]
    verbose: bool,
}

#[derive(Default)]
struct Totals {
    failed: AtomicU64,
    edits: AtomicU64,
    conflicts: AtomicU64,
    deleted_again: AtomicU64,
    next: AtomicU64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begun = Instant::now();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let jobs = if arguments.verbose { 1 } else { arguments.jobs.unwrap_or(processors).max(1) };
    let (totals, printing) = (Totals::default(), Mutex::new(()));
    if !arguments.verbose {
        // A panic of the engine is a failure like others, and printed with its seed.
        std::panic::set_hook(Box::new(|_| {}));
    }
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let number = totals.next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds {
                        return;
                    }
                    let seed = arguments.from.saturating_add(number);
                    if let Some(report) = try_seed(seed, &arguments, &totals) {
                        let _printing = printing.lock().unwrap_or_else(PoisonError::into_inner);
                        println!("{report}");
                    }
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let failed = totals.failed.load(Ordering::Relaxed);
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = arguments.seeds as f64 / seconds;
    println!(
        "{} seeds, each twice, faults: {}; {} edits, {} conflict copies; {failed} failed; {seconds:.1} s, \
         {rate:.0} seeds a second on {jobs} threads",
        arguments.seeds,
        arguments.faults,
        totals.edits.load(Ordering::Relaxed),
        totals.conflicts.load(Ordering::Relaxed),
    );
    if arguments.faults.has(Fault::Years) {
        let again = totals.deleted_again.load(Ordering::Relaxed);
        println!("{again} old copies of what had been forgotten were deleted again");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays a seed twice. What there is to say if it did not end well.
fn try_seed(seed: u64, arguments: &Arguments, totals: &Totals) -> Option<String> {
    let plan = sim::plan(seed, arguments.faults);
    if arguments.verbose {
        println!("{plan}");
    }
    let played = catch_unwind(AssertUnwindSafe(|| play_twice(&plan, arguments.verbose)));
    let failure = match played {
        Ok(outcome) => {
            totals.edits.fetch_add(outcome.edits, Ordering::Relaxed);
            totals.conflicts.fetch_add(u64::from(outcome.conflicts), Ordering::Relaxed);
            totals.deleted_again.fetch_add(outcome.deleted_again as u64, Ordering::Relaxed);
            outcome.failure?
        }
        Err(_) => "panic: see it with --verbose".to_owned(),
    };
    totals.failed.fetch_add(1, Ordering::Relaxed);
    let mut report = format!(
        "seed {seed}: {failure}\n  replay: cargo run --release -p sim -- --seeds 1 --from {seed} --faults {} \
         --verbose",
        arguments.faults
    );
    if !arguments.as_found && !failure.starts_with("panic") && !failure.starts_with("not the same")
    {
        let (short, failure) = sim::shrink(&plan, &failure, None);
        if arguments.verbose {
            println!("made shorter:");
            drop(history::play(&short, None, true));
        }
        report += &format!("\n  made shorter, it still fails, {failure}\n{short}");
    }
    Some(report)
}

fn play_twice(plan: &Plan, verbose: bool) -> Outcome {
    let mut outcome = history::play(plan, None, verbose);
    let again = history::play_undecoded(plan);
    if outcome.failure.is_none() && again.trace != outcome.trace {
        outcome.failure = Some("not the same: it does not replay identically".to_owned());
    }
    outcome
}
