//! Kinfold beside rsync, between two hosts in network namespaces, in one run.
//!
//! ```text
//! cargo run --release -p bench                 the usual three: one file, small files, live edits
//! cargo run --release -p bench -- --all        everything there is
//! ```
//!
//! Both tools get the same files on the same disk, with a warm page cache on both sides, and take turns;
//! each figure is the median of at least three runs. rsync runs as its own daemon over plain TCP and
//! makes nothing durable; Kinfold is encrypted and durable. Trees are compared byte for byte after the
//! clock has stopped. Machines are noisy: compare the ratios of one run, never seconds of two.
//!
//! A new measurement is one more [`Workload`] in `workload.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark plays the person who owns the files, and prints its table"
)]

mod kinfold;
mod line;
mod live;
mod measure;
mod plain;
mod plot;
mod rsync;
mod syncthing;
mod table;
mod workload;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    slice,
};

use clap::Parser;
use lab::{Lan, Machine};
use measure::Measure;
use workload::{PartOf, Timed, WORKLOADS, Workload};

#[derive(Parser, Debug)]
#[command(about = "Kinfold beside rsync, between two hosts, in one run")]
struct Arguments {
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// Everything but what must be asked for.
    #[arg(long)]
    all: bool,
    /// Only these, by id (see --list).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Also Syncthing, once each: first syncs and changes.
    #[arg(long)]
    syncthing: bool,
    /// Say what there is.
    #[arg(long)]
    list: bool,
    /// Also measure the first syncs in several sizes, and write the times as an SVG to this file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Files and bytes are divided by this: for trying the benchmark itself.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    divide: u32,
    /// This `kin`, not one built now.
    #[arg(long, value_name = "FILE")]
    kin: Option<PathBuf>,
    /// Where the hosts' files are made, if not beside the build.
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    #[command(subcommand)]
    plain: Option<plain::Plain>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(part) = &arguments.plain {
        return match plain::be(part) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        };
    }
    if arguments.list {
        for workload in WORKLOADS {
            println!("{:17} {}", workload.id, workload.title);
        }
        return ExitCode::SUCCESS;
    }
    if let Err(why) = Machine::probe().enter() {
        eprintln!("cannot measure here: {why}");
        return ExitCode::FAILURE;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let mut chosen: Vec<&Workload> = WORKLOADS
        .iter()
        .filter(|w| match arguments.only.as_slice() {
            [] if arguments.all => w.part_of <= PartOf::All,
            [] => w.part_of == PartOf::Usual,
            only => only.iter().any(|id| id == w.id),
        })
        .collect();
    if chosen.is_empty() {
        return Err("no such measurement; --list says what there is".to_owned());
    }
    if !lab::LongLine::is_possible() && chosen.iter().any(|w| matches!(w.timed, Timed::Line(_))) {
        eprintln!("no /dev/net/tun: the long line is left out");
        chosen.retain(|w| !matches!(w.timed, Timed::Line(_)));
    }
    let kin = match &arguments.kin {
        Some(kin) => kin.canonicalize().map_err(|e| format!("{}: {e}", kin.display()))?,
        None => build_kin()?,
    };
    if arguments.syncthing && !Machine::has("syncthing") {
        return Err("syncthing is missing (package syncthing)".to_owned());
    }
    let with_rsync = Machine::has("rsync");
    if !with_rsync {
        eprintln!("rsync is missing (package rsync): there will be nothing to compare with");
    }
    let disk = arguments.disk.clone().map_or_else(beside_the_build, Ok);
    let disk = disk.map_err(|e| format!("a directory for the files: {e}"))?;
    touch_memory();
    println!("{}", machine());
    // Row by row: what has been measured is there, whatever comes of the rest.
    println!("{}", table::HEAD);
    for workload in chosen {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=arguments.runs {
            eprintln!("{} {round}/{}", workload.id, arguments.runs);
            if with_rsync && !matches!(workload.timed, Timed::Idle(_)) {
                let run = |lan: &Lan| rsync::run(lan, workload);
                theirs.push(once(&disk, workload, arguments.divide, run)?);
            }
            ours.push(once(&disk, workload, arguments.divide, |lan| {
                kinfold::run(&kin, lan, workload, arguments.divide)
            })?);
        }
        println!("{}", table::row(workload, &ours, &theirs));
        if arguments.syncthing && syncthing::can(workload) {
            eprintln!("{} with Syncthing", workload.id);
            let one = once(&disk, workload, arguments.divide, |lan| syncthing::run(lan, workload))?;
            println!("{}", table::other("Syncthing", &one));
        }
        if matches!(workload.timed, Timed::Line(_)) {
            for connections in [1, 4] {
                eprintln!("{} with plain TCP, connections: {connections}", workload.id);
                let bytes = workload::LINE_BYTES / u64::from(arguments.divide);
                let (run, round_trip) = plain::run(&Lan::new(&disk, 2), connections, bytes)?;
                println!("{}", table::plain(connections, &run, round_trip));
            }
        }
    }
    if let Some(file) = &arguments.plot {
        let picture = plot::svg(&panels(&disk, &kin, arguments, with_rsync)?);
        fs::write(file, picture).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(())
}

/// The first syncs of one file and of many, in sizes a power of four apart.
fn panels(
    disk: &Path,
    kin: &Path,
    arguments: &Arguments,
    with_rsync: bool,
) -> Result<Vec<plot::Panel>, String> {
    let all =
        [("one-file", "one file, by MB", 2147.5), ("small-files", "files of 4 KiB, by count", 5e4)];
    let mut panels = Vec::new();
    for (id, title, whole) in all {
        let workload = WORKLOADS.iter().find(|w| w.id == id).ok_or("a measurement is gone")?;
        let mut points = Vec::new();
        for part in [256, 64, 16, 4, 1] {
            let divide = part * arguments.divide;
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for round in 1..=arguments.runs {
                eprintln!("plot {id} 1/{part} {round}/{}", arguments.runs);
                if with_rsync {
                    let run = |lan: &Lan| rsync::run(lan, workload);
                    theirs.push(once(disk, workload, divide, run)?.time);
                }
                let run = |lan: &Lan| kinfold::run(kin, lan, workload, divide);
                ours.push(once(disk, workload, divide, run)?.time);
            }
            points.push(plot::Point {
                amount: whole / f64::from(divide),
                ours: measure::median(ours.into_iter()),
                theirs: with_rsync.then(|| measure::median(theirs.into_iter())),
            });
        }
        panels.push(plot::Panel { title, points });
    }
    Ok(panels)
}

/// One run on a fresh pair of hosts: files made, read once so that they are cached, measured, compared.
fn once(
    disk: &Path,
    workload: &Workload,
    divide: u32,
    run: impl FnOnce(&Lan) -> Result<Measure, String>,
) -> Result<Measure, String> {
    let lan = Lan::new(disk, 1 + workload.timed.receivers());
    (workload.make)(&lan.host(0).shared(), divide);
    let _cached = lab::trees::Snapshot::of(&lan.host(0).shared());
    let measure = run(&lan)?;
    // Comparing a million files may take longer than bringing them.
    eprintln!("{}: {}", workload.id, table::shown(slice::from_ref(&measure)));
    for receiver in lan.hosts().iter().skip(1) {
        let different = lab::trees::differences(&lan.host(0).shared(), &receiver.shared());
        if let Some(first) = different.first() {
            return Err(format!("{}: the trees differ: {first}", workload.id));
        }
    }
    Ok(measure)
}

/// The release build of `kin`, made now if cargo started us.
fn build_kin() -> Result<PathBuf, String> {
    if let Some(cargo) = env::var_os("CARGO") {
        let built = Command::new(cargo)
            .args(["build", "--release", "-p", "kin"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        if !built.is_ok_and(|status| status.success()) {
            return Err("kin does not build".to_owned());
        }
    }
    let me = env::current_exe().map_err(|e| e.to_string())?;
    let kin = me.with_file_name("kin");
    if kin.is_file() {
        Ok(kin)
    } else {
        Err(format!(
            "no {}: start the benchmark with `cargo run --release -p bench`",
            kin.display()
        ))
    }
}

/// Beside the build: a real disk, not a small /tmp.
fn beside_the_build() -> io::Result<PathBuf> {
    let me = env::current_exe()?;
    let target = me.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let disk = target.join("tmp");
    fs::create_dir_all(&disk)?;
    Ok(disk)
}

/// A virtual machine gets its memory from its host at the first touch, which makes first runs slow.
fn touch_memory() {
    let gib = vec![1u8; 3 << 30];
    std::hint::black_box(&gib);
}

/// What was measured on, in one line.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What one connection reaches over a long line is decided by these.
    let tcp = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{name}")).unwrap_or_default();
        text.split_whitespace().last().unwrap_or("?").to_owned()
    };
    let (control, wmem, rmem) = (tcp("congestion_control"), tcp("wmem"), tcp("rmem"));
    format!(
        "{cores} × {model}, Linux {}, TCP: {control}, at most {wmem} bytes to send and {rmem} to receive\n",
        kernel.trim()
    )
}
