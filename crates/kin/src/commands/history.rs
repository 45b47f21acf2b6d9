//! `kin history`: what sync replaced or deleted.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{ArgAction, Args};
use indicatif::HumanBytes;
use jiff::tz::TimeZone;
use node::history::{self, Entry};
use wire::RelPath;

use crate::{
    error::CommandError,
    escape::escape,
    output::{json::Json, screen::Screen},
    past, when,
};

const AFTER_HELP: &str = "\
Examples:
  kin history ~/Shared                  all of it, the newest first
  kin history ~/Shared docs/letter.txt  the versions of one file
  kin restore ~/Shared docs/letter.txt  brings the newest of them back

A time is when a version left the folder: until then it was there. Nothing is changed, and kin sync may \
run meanwhile.";

/// List what sync replaced or deleted
///
/// What another device replaces or deletes is kept in the folder's .kin/history for 30 days, as far as
/// there is room.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct HistoryArgs {
    /// The folder: its directory, or its name
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// A file or directory in it, relative to DIR [default: everything]
    #[arg(value_name = "PATH", default_value = ".", hide_default_value = true)]
    path: String,

    /// Print one JSON object a line
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,

    /// Log more; -vv and -vvv even more
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &HistoryArgs) -> Result<(), CommandError> {
    let root = past::open(&past::locate(&args.dir).await?)?;
    let path = past::path("PATH", &args.path)?;
    let found = history::list_at(&root, &path).map_err(|error| {
        CommandError::failed(
            "io",
            &format!("the history of {} cannot be read: {error}", args.dir.display()),
        )
    })?;
    past::written(print(&found.entries, args.json))?;
    for (place, why) in &found.unreadable {
        screen.line(&format!("note: {} cannot be read: {}", escape(place), escape(why)));
    }
    if found.foreign > 0 {
        screen.line(&format!(
            "note: {} other files in .kin/history have no names of kin's; they are left alone",
            found.foreign
        ));
    }
    if found.entries.is_empty() && !args.json {
        let whose = if path.is_root() { String::new() } else { format!(" of {}", escape(&path)) };
        screen.line(&format!("Nothing{whose} is in history."));
    }
    Ok(())
}

fn print(entries: &[Entry], json: bool) -> io::Result<()> {
    if json {
        let mut json = Json::new(io::stdout());
        return entries.iter().try_for_each(|entry| json.history(entry));
    }
    let zone = TimeZone::system();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for entry in entries {
        writeln!(out, "{}", line(entry, &zone))?;
    }
    out.flush()
}

/// One entry for a person.
fn line(entry: &Entry, zone: &TimeZone) -> String {
    let size = HumanBytes(entry.stat.size).to_string();
    format!(
        "{}  {size:>11}  {:<9}  {}",
        when::show(entry.name.time, zone),
        entry.name.why.word(),
        shown(&entry.name.path)
    )
}

fn shown(path: &RelPath) -> String {
    escape(path)
}

#[cfg(test)]
mod tests {
    use node::history::Why;
    use tree::{FileKind, Stat, apply::HistoryName};

    use super::*;

    #[test]
    fn a_line_says_when_how_much_why_and_what_and_is_escaped() {
        let path = RelPath::parse("a/\x1b[2J.txt").expect("a path");
        let name = HistoryName::new(&path, 1_795_168_800_000, 0, Why::Deleted);
        let stat =
            Stat { kind: FileKind::File, size: 1536, mtime: 0, ctime: 0, inode: 1, mode: 0o644 };
        let entry = Entry { place: name.place(), name, stat };
        assert_eq!(
            line(&entry, &TimeZone::UTC),
            "2026-11-20 10:00:00 +00:00     1.50 KiB  deleted    a/\\u{1b}[2J.txt"
        );
    }
}
