//! `kin torture`: random edits and kills with real processes, on the user's own disk, before it is trusted.

mod child;
mod edits;
mod folders;
mod history;
mod oracle;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use clap::{ArgAction, Args};
use tokio::sync::{mpsc, oneshot};
use tree::TempDir;

use self::history::{History, Outcome};
use crate::{
    error::CommandError,
    escape::escape,
    output::{json::Json, screen::Screen},
    signals, start,
};

const AFTER_HELP: &str = "\
Examples:
  kin torture ~                    on the disk of your home directory
  kin torture /mnt/usb --seeds 50  longer, on another disk
  kin torture ~ --from 1234 --seeds 1   the seed that failed once more

Exit 0: every device held the same in the end, and nothing was lost. Exit 1: it was not so; the folders \
are kept, and story.txt beside them says what was done. The same seed makes the same edits and kills; \
what the machine does in between takes its own time, so try a seed some times.";

/// Try this disk: random edits and kills with real devices, and then look whether anything is lost
///
/// Makes a new directory inside DIR and touches nothing else. In it two or three devices, processes of
/// this program on the loopback interface, keep folders in step while files are written, renamed and
/// deleted at random, also by two at once, and the processes are killed (kill -9) and started again. Then
/// all folders must be equal, and every content that was written must be in them, in a conflict copy or
/// in a history, unless somebody who saw it replaced it.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct TortureArgs {
    /// A directory on the disk to try; only a new directory inside it is used
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// How many seeds to play, each for some 20 seconds
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,

    /// The first seed [default: a random one]
    #[arg(long, value_name = "SEED")]
    from: Option<u32>,

    /// Print what happens as JSON, one object a line
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,

    /// Log more; -vv and -vvv even more
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
}

/// What is said while it goes on.
pub(crate) struct Report<'a> {
    /// Which seed.
    pub(crate) seed: u64,
    /// Edits tried.
    pub(crate) edits: u64,
    /// Processes killed.
    pub(crate) kills: u64,
    /// Paths in the folders in the end.
    pub(crate) paths: usize,
    /// Conflict copies among them.
    pub(crate) copies: usize,
    /// What is wrong.
    pub(crate) problems: &'a [String],
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &TortureArgs) -> Result<(), CommandError> {
    start::check_dir(&args.dir)?;
    refuse_synced(&args.dir)?;
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let from = match args.from {
        Some(from) => from,
        None => random()?,
    };
    let shown = escape(&args.dir.to_string_lossy());
    let base = TempDir::create_in(&args.dir, "kin-torture").map_err(|error| {
        CommandError::failed("io", &format!("cannot make a directory in {shown}: {error}"))
            .hint("give a directory that you can write to, on the disk to be tried")
    })?;
    let played = play(screen, args, u64::from(from), base.path(), &mut stop_asked).await;
    match &played {
        Err(error) if error.kind == "torture" => {
            // For whoever looks for the reason.
            let _ = base.keep();
            played
        }
        _ => {
            base.remove().map_err(|error| {
                CommandError::failed(
                    "io",
                    &format!("cannot remove what was made in {shown}: {error}"),
                )
                .hint("directories called kin-torture-… may be removed by hand")
            })?;
            played
        }
    }
}

/// A directory inside a folder that is kept in step would travel with everything that is done in it.
fn refuse_synced(dir: &Path) -> Result<(), CommandError> {
    let failed = |error: io::Error| {
        CommandError::failed("io", &format!("{}: {error}", escape(&dir.to_string_lossy())))
    };
    let dir = dir.canonicalize().map_err(failed)?;
    for above in dir.ancestors() {
        if above.join(wire::path::STATE_DIR).symlink_metadata().is_ok() {
            let above = escape(&above.to_string_lossy());
            return Err(CommandError::usage(
                "nested",
                &format!("{above} is kept in step by kin; nothing is tried inside it"),
            )
            .hint("give a directory on the same disk that is not in such a folder"));
        }
    }
    Ok(())
}

fn random() -> Result<u32, CommandError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| CommandError::failed("random", &format!("no random numbers: {error}")))?;
    Ok(u32::from_le_bytes(bytes))
}

async fn play(
    screen: &Screen,
    args: &TortureArgs,
    from: u64,
    base: &Path,
    stop_asked: &mut mpsc::Receiver<()>,
) -> Result<(), CommandError> {
    let begun = Instant::now();
    let (mut edits, mut kills) = (0, 0);
    for seed in from..from + args.seeds {
        let dir = base.join(format!("seed-{seed}"));
        // A function of the seed alone, so that it replays.
        let devices = if seed % 3 == 0 { 3 } else { 2 };
        begin(screen, args, seed, devices, &dir)?;
        let Some(outcome) = one_seed(seed, devices, &dir, stop_asked).await? else {
            return Err(CommandError::failed("interrupted", "stopped before it was through"));
        };
        edits += outcome.edits;
        kills += outcome.kills;
        report(screen, args, seed, &outcome)?;
        if !outcome.problems.is_empty() {
            return Err(failed(args, seed, &dir));
        }
        folders::remove(&dir).map_err(|error| not_made(&dir, &error))?;
    }
    if !args.json {
        let (seeds, seconds) = (args.seeds, begun.elapsed().as_secs());
        screen.line(&format!(
            "All is well: {seeds} seeds, {edits} edits, {kills} kills in {seconds} s; nothing is lost."
        ));
    }
    Ok(())
}

fn failed(args: &TortureArgs, seed: u64, dir: &Path) -> CommandError {
    let (dir, on) = (dir.to_string_lossy(), args.dir.to_string_lossy());
    CommandError::failed(
        "torture",
        &format!("seed {seed} went wrong: do not trust kin with this disk"),
    )
    .hint(&format!("the folders, and what was done in story.txt, are kept in {dir}"))
    .hint(&format!("to see it again: kin torture {on} --from {seed} --seeds 1"))
    .hint("please report it, with story.txt, the kind of disk and the system")
}

fn not_made(dir: &Path, error: &io::Error) -> CommandError {
    let dir = dir.to_string_lossy();
    CommandError::failed("io", &format!("{dir}: {error}"))
        .hint("check that the disk has room and lets you write")
}

/// Plays a seed on a thread of its own; `None` if it was interrupted.
async fn one_seed(
    seed: u64,
    devices: usize,
    dir: &Path,
    stop_asked: &mut mpsc::Receiver<()>,
) -> Result<Option<Outcome>, CommandError> {
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, mut told) = oneshot::channel();
    let thread = {
        let (stop, dir) = (Arc::clone(&stop), dir.to_owned());
        thread::Builder::new().name("kin-torture".to_owned()).spawn(move || {
            let play = || {
                folders::make(&dir)?;
                History::new(&dir, seed, devices, &stop)?.play()
            };
            let _ = tell.send(play());
        })
    };
    let thread = thread.map_err(|error| not_made(dir, &error))?;
    let ended = tokio::select! {
        ended = &mut told => ended,
        Some(()) = stop_asked.recv() => {
            stop.store(true, Ordering::Relaxed);
            thread.thread().unpark();
            told.await
        }
    };
    match ended {
        Ok(ended) => ended.map_err(|error| not_made(dir, &error)),
        Err(_) => {
            Err(CommandError::failed("torture", &format!("seed {seed} ended without a word")))
        }
    }
}

fn begin(
    screen: &Screen,
    args: &TortureArgs,
    seed: u64,
    devices: usize,
    dir: &Path,
) -> Result<(), CommandError> {
    if args.json {
        return Json::new(io::stdout())
            .torture(seed, devices, &dir.to_string_lossy())
            .map_err(|error| closed(&error));
    }
    screen
        .status(&format!("seed {seed}: {devices} devices, in {}", escape(&dir.to_string_lossy())));
    Ok(())
}

fn report(
    screen: &Screen,
    args: &TortureArgs,
    seed: u64,
    outcome: &Outcome,
) -> Result<(), CommandError> {
    let Outcome { edits, kills, paths, copies, problems } = outcome;
    if args.json {
        let report =
            Report { seed, edits: *edits, kills: *kills, paths: *paths, copies: *copies, problems };
        return Json::new(io::stdout()).tortured(&report).map_err(|error| closed(&error));
    }
    let verdict = if problems.is_empty() { "well" } else { "WRONG" };
    screen.line(&format!(
        "seed {seed:<10} {verdict}: {edits} edits, {kills} kills, {paths} paths, {copies} conflict copies"
    ));
    for problem in problems {
        screen.line(&format!("  {}", escape(problem)));
    }
    Ok(())
}

fn closed(error: &io::Error) -> CommandError {
    CommandError::failed("output", &format!("standard output is closed: {error}"))
}
