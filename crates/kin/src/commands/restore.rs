//! `kin restore`: brings back what sync replaced or deleted, as a new change.

use std::{io, path::PathBuf};

use clap::{ArgAction, Args};
use jiff::tz::TimeZone;
use node::history::restore::{self, Before, Outcome, RestoreError, Restored, Wanted};
use wire::RelPath;

use crate::{
    error::CommandError,
    escape::escape,
    output::{json::Json, screen::Screen},
    past, when,
};

const AFTER_HELP: &str = "\
Examples:
  kin restore ~/Shared docs/letter.txt               the newest version
  kin restore ~/Shared docs/letter.txt --at 3d       as it was three days ago
  kin restore ~/Shared docs/letter.txt --to old.txt  beside what is there now
  kin restore ~/Shared docs                          what was deleted in a directory
  kin restore ~/Shared . --at '2026-11-20 18:30'     what was deleted anywhere since then

Times are RFC 3339, 'YYYY-MM-DD[ HH:MM]' in local time, what kin history shows, or so long ago: 30m, 2h, \
3d, 1w. The version stays in history, and what is in its place goes there. kin sync may run meanwhile: it \
takes this for an edit and passes it on.";

/// Bring back what sync replaced or deleted, as a new change
///
/// Of a file, one version, whether or not something is in its place now: that goes to history. Of a
/// directory, everything that was deleted in it and is not there now.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct RestoreArgs {
    /// The folder: its directory, or its name
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// A file or directory as kin history lists it, relative to DIR; . for the whole folder
    #[arg(value_name = "PATH")]
    path: String,

    /// As it was at this time [default: the newest version]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,

    /// To another place in the folder, relative to DIR
    #[arg(long, value_name = "PATH")]
    to: Option<String>,

    /// Print one JSON object a line
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,

    /// Log more; -vv and -vvv even more
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &RestoreArgs) -> Result<(), CommandError> {
    let zone = TimeZone::system();
    let now = when::now();
    let at = args.at.as_ref().map(|text| when::parse("--at", text, now, &zone)).transpose()?;
    let path = past::path("PATH", &args.path)?;
    let to = args.to.as_ref().map(|text| past::path("--to", text)).transpose()?;
    let root = past::open(&past::locate(&args.dir).await?)?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| {
        CommandError::failed("random", &format!("the system gives no random numbers: {error}"))
    })?;
    let random = u64::from_le_bytes(random);
    let wanted = Wanted { path: &path, at, to: to.as_ref(), now, random };
    let outcome = restore::restore(&root, wanted)
        .map_err(|error| explain(&path, to.as_ref().unwrap_or(&path), &error, &zone))?;
    past::written(tell(screen, args.json, &outcome, &zone))?;
    match outcome.failed.len() {
        0 => Ok(()),
        failed => {
            let all = failed + outcome.restored.len();
            Err(CommandError::failed(
                "restore",
                &format!("{failed} of {all} were not brought back"),
            )
            .hint("mend what is said above and run it again: what is there already stays"))
        }
    }
}

/// What was done.
fn tell(screen: &Screen, json: bool, outcome: &Outcome, zone: &TimeZone) -> io::Result<()> {
    let occupied = "is in the folder now and stays; to get the older version, name it";
    let failed = outcome.failed.iter().map(|(path, error)| (path, error.to_string()));
    let occupied = outcome.occupied.iter().map(|path| (path, occupied.to_owned()));
    let skipped: Vec<_> = failed.chain(occupied).collect();
    if json {
        let mut json = Json::new(io::stdout());
        outcome.restored.iter().try_for_each(|restored| json.restored(restored))?;
        return skipped.iter().try_for_each(|(path, reason)| json.skipped(path, reason));
    }
    for restored in &outcome.restored {
        screen.line(&line(restored, zone));
    }
    for (path, reason) in skipped {
        screen.line(&format!("{}: {}", escape(path), escape(&reason)));
    }
    Ok(())
}

/// One thing that was brought back, for a person.
fn line(restored: &Restored, zone: &TimeZone) -> String {
    let path = escape(&restored.path);
    let version = &restored.entry.name;
    let time = when::show(version.time, zone);
    match &restored.before {
        Before::Same => format!("{path} holds the version of {time} already; nothing was changed."),
        before => {
            let kept = matches!(before, Before::Replaced(_));
            let kept = if kept { " What was there is in history." } else { "" };
            format!("{path} is back, as it was {} at {time}.{kept}", version.why.word())
        }
    }
}

/// Why nothing was brought back, and what to do.
fn explain(path: &RelPath, to: &RelPath, error: &RestoreError, zone: &TimeZone) -> CommandError {
    let (shown, target) = (name(path), name(to));
    match error {
        RestoreError::NoVersion => CommandError::failed(
            "no_version",
            &format!("{shown}: nothing of it is in history"),
        )
        .hint(
            "kin history DIR lists what is; history holds what other devices replaced or deleted",
        ),
        RestoreError::NotSince { newest } => {
            let last = when::show(*newest, zone);
            CommandError::failed(
                "no_version",
                &format!("{shown}: nothing of it went to history since then, the last at {last}"),
            )
            .hint("what is in the folder is what was there then; leave out --at for the newest version")
        }
        RestoreError::TargetIsDir => {
            CommandError::usage("is_a_directory", &format!("{target} is a directory"))
                .hint("give another place with --to")
        }
        RestoreError::TargetIsOdd => {
            CommandError::usage("occupied", &format!("{target} is neither a file nor a link"))
                .hint("give another place with --to")
        }
        RestoreError::NoDirectory(above) => CommandError::usage(
            "not_a_directory",
            &format!("{target}: {} is not a directory", above.as_str()),
        )
        .hint("give another place with --to"),
        RestoreError::Io { source, .. } => {
            let hint = match source.kind() {
                io::ErrorKind::PermissionDenied => "make it writable",
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "make room on the disk"
                }
                _ => "",
            };
            CommandError::failed("io", &format!("{target}: {error}")).hint(hint)
        }
        _ => CommandError::failed("io", &format!("{target}: {error}")).hint("try again"),
    }
}

fn name(path: &RelPath) -> &str {
    if path.is_root() { "the folder" } else { path.as_str() }
}
