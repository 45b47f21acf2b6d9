//! What devices that know each other cost: time to both prompts of a pairing, `kin status`, a restart with many
//! files, and doing nothing. On two hosts in network namespaces, with `kin` as it is given.
//!
//! ```text
//! cargo build --release -p kin
//! cargo run --release -p bench --bin devices -- --kin target/release/kin
//! ```
//!
//! Times are by the wall clock and mean something on a machine that does nothing else; processor seconds are said
//! beside them.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark makes its own files; one that cannot go on has failed, and prints its table"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use lab::{Host, Kin, KinCommand, Lan, Machine, Usage, eventually_within};
use serde_json::Value;

/// Longer than anything here should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// Files in one directory.
const IN_ONE: usize = 500;

#[derive(Parser, Debug)]
#[command(about = "What devices that know each other cost")]
struct Arguments {
    /// The program to measure: kin.
    #[arg(long, value_name = "FILE")]
    kin: PathBuf,
    /// Files in the folder.
    #[arg(long, default_value_t = 200_000)]
    files: usize,
    /// How often each thing is measured.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of doing nothing.
    #[arg(long, default_value_t = 60)]
    idle: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(why) = Machine::probe().enter() {
        eprintln!("cannot measure here: {why}");
        return ExitCode::FAILURE;
    }
    let disk = tempfile::tempdir_in(arguments.kin.parent().unwrap_or(Path::new(".")));
    let disk = disk.expect("a directory beside the program, on a real disk");
    let lan = Lan::new(disk.path(), 2);
    let bench = Bench { kin: arguments.kin, lan: &lan };
    println!("| what | figure |\n|---|---|");
    bench.pairings(arguments.runs);
    let [mut one, mut two] = [0, 1].map(|host| bench.up(host));
    bench.pair();
    bench.statuses(arguments.runs * 4);
    bench.folder(arguments.files);
    for _ in 0..arguments.runs {
        bench.end(&mut one);
        one = bench.restart(arguments.files);
    }
    // What a start leaves to be done later is over then.
    std::thread::sleep(Duration::from_secs(10));
    idle(&[&one, &two], arguments.idle);
    bench.end(&mut one);
    two.stop();
    ExitCode::SUCCESS
}

struct Bench<'a> {
    kin: PathBuf,
    lan: &'a Lan,
}

impl Bench<'_> {
    fn host(&self, host: usize) -> &Host {
        self.lan.host(host)
    }

    fn start(&self, host: usize, args: &[&str]) -> Kin {
        KinCommand::on(&self.kin, self.host(host), args).start()
    }

    /// Runs a command to its end; what it printed.
    fn run(&self, host: usize, args: &[&str]) -> Vec<Value> {
        let mut kin = self.start(host, args);
        let code = kin.wait(PATIENCE).code();
        assert_eq!(code, Some(0), "kin {args:?}: {}", kin.stderr());
        kin.seen().cloned().collect()
    }

    fn up(&self, host: usize) -> Kin {
        let kin = self.start(host, &["up", "--foreground", "--json"]);
        self.answers(host);
        kin
    }

    fn answers(&self, host: usize) {
        eventually_within(PATIENCE, "the device answers", || {
            self.run(host, &["status", "--json"]).iter().any(|status| status["running"] == true)
        });
    }

    fn end(&self, running: &mut Kin) {
        self.run(0, &["down", "--json"]);
        running.wait(PATIENCE);
    }

    /// From both commands to both prompts; nobody is let in.
    fn pairings(&self, runs: usize) {
        let mut times = Vec::new();
        for _ in 0..runs {
            let begun = Instant::now();
            let mut both = [0, 1].map(|host| self.start(host, &["pair", "--json"]));
            let mut cpu = 0.0;
            for kin in &mut both {
                let asked = kin.expect_where("the prompt", PATIENCE, |it| it["event"] == "confirm");
                times.push(begun.elapsed());
                cpu += kin.usage().cpu;
                kin.answer(&asked, false);
            }
            for kin in &mut both {
                kin.wait(PATIENCE);
            }
            println!(
                "| pairing, until both ask | {:.2} s, {cpu:.2} s of processor |",
                last(&times)
            );
        }
    }

    fn pair(&self) {
        let mut both = [0, 1].map(|host| self.start(host, &["pair", "--json"]));
        let asked = both.each_mut().map(|kin| kin.expect("confirm"));
        both.iter_mut().zip(&asked).for_each(|(kin, asked)| kin.answer(asked, true));
        for _ in ["in", "out"] {
            for kin in &mut both {
                let asked = kin.expect("ask");
                kin.answer(&asked, false);
            }
        }
        for kin in &mut both {
            kin.wait(PATIENCE);
        }
    }

    fn statuses(&self, runs: usize) {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..runs {
            let mut status = self.host(0).command("env");
            status.args(["-i", &format!("HOME={}", self.host(0).home().display())]);
            let begun = Instant::now();
            let done = status.arg(&self.kin).args(["status", "--json"]).output();
            assert!(done.is_ok_and(|done| done.status.success()), "kin status");
            times.push(begun.elapsed());
        }
        times.sort();
        let at = |of: usize| times.get(of).copied().unwrap_or_default().as_millis();
        println!("| kin status, median | {} ms (best {} ms) |", at(runs / 2), at(0));
    }

    /// A folder with many small files, on both hosts.
    fn folder(&self, files: usize) {
        let source = self.host(0).home().join("Many");
        for number in 0..files {
            let dir = source.join(format!("{:03}", number / IN_ONE));
            if number % IN_ONE == 0 {
                fs::create_dir_all(&dir).expect("there is room");
            }
            fs::write(dir.join(format!("{number}")), format!("file {number}\n"))
                .expect("there is room");
        }
        let copy = self.host(1).home().join("Many");
        let begun = Instant::now();
        self.run(0, &["share", &source.to_string_lossy(), "--json"]);
        let is_known = || self.run(1, &["folders", "--json"]).iter().any(|it| it["name"] == "Many");
        eventually_within(PATIENCE, "the folder is known", is_known);
        self.run(1, &["join", "Many", &copy.to_string_lossy(), "--yes", "--json"]);
        self.in_step(1, files);
        self.in_step(0, files);
        println!(
            "| {files} new files, until both are in step | {:.1} s |",
            begun.elapsed().as_secs_f64()
        );
    }

    fn in_step(&self, host: usize, files: usize) {
        eventually_within(PATIENCE, "it is in step", || {
            let folders = self.run(host, &["folders", "--json"]);
            let online = self.run(host, &["devices", "--json"]);
            online.iter().any(|it| it["me"] == false && it["online"] == true)
                && folders.iter().any(|it| {
                    it["state"] == "idle" && it["files"].as_u64().is_some_and(|n| n >= files as u64)
                })
        });
    }

    /// From the start until the folder is in step with the other device again.
    fn restart(&self, files: usize) -> Kin {
        let begun = Instant::now();
        let kin = self.start(0, &["up", "--foreground", "--json"]);
        self.answers(0);
        self.in_step(0, files);
        let took = begun.elapsed().as_secs_f64();
        let Usage { cpu, peak } = kin.usage();
        println!(
            "| restart with {files} files, in step | {took:.2} s, {cpu:.2} s of processor, {} MiB at most |",
            peak >> 20
        );
        kin
    }
}

fn last(times: &[Duration]) -> f64 {
    times.last().map_or(0.0, Duration::as_secs_f64)
}

/// What devices with nothing to do take.
fn idle(devices: &[&Kin], seconds: u64) {
    let cpu = |kin: &&Kin| kin.usage().cpu;
    let before: Vec<f64> = devices.iter().map(cpu).collect();
    std::thread::sleep(Duration::from_secs(seconds));
    for (after, before) in devices.iter().map(cpu).zip(before) {
        let share = (after - before) * 100.0 / seconds as f64;
        println!("| doing nothing for {seconds} s | {share:.2} % of a core |");
    }
}
