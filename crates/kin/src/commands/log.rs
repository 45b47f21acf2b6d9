//! `kin log`: what the device in the background has said.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::sleep;
use tree::{LogReader, StateDir};

use super::up;
use crate::{
    answers, device,
    error::CommandError,
    escape::{escape, escape_line},
    output::screen::Screen,
    signals,
};

/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Show what the device in the background has said
#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// Go on as more comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// So many of the last lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    lines: usize,

    /// Print an object in JSON for each line
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    line: &'a str,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &LogArgs) -> Result<(), CommandError> {
    let path = device::state_dir()?;
    let state = StateDir::open(&path).map_err(device::explain)?;
    let mut reader = LogReader::new(&state, up::LOG);
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let unread = |error: tree::StateError| {
        let shown = up::log_path(&path).display().to_string();
        CommandError::failed("io", &format!("the log cannot be read: {error}"))
            .hint(&format!("move {shown} away; kin up begins another one"))
    };
    let mut text = reader.older().map_err(unread)?;
    text.extend(reader.more().map_err(unread)?);
    if text.is_empty() && !args.follow {
        let shown = escape(&up::log_path(&path).to_string_lossy());
        screen.line(&format!("There is no log yet in {shown}: kin up starts the device."));
    }
    let mut first = true;
    loop {
        // A line that is not whole yet is shown with its rest.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = text.split_off(whole);
        let lines = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = lines.lines().collect();
        let skipped = if first { lines.len().saturating_sub(args.lines) } else { 0 };
        print(args.json, lines.get(skipped..).unwrap_or_default())?;
        first = false;
        text = rest;
        if !args.follow {
            return Ok(());
        }
        tokio::select! {
            _ = stop_asked.recv() => return Ok(()),
            () = sleep(LOOK_EVERY) => text.extend(reader.more().map_err(unread)?),
        }
    }
}

fn print(json: bool, lines: &[&str]) -> Result<(), CommandError> {
    if json {
        let lines: Vec<Line<'_>> = lines.iter().map(|line| Line { event: "log", line }).collect();
        return answers::json(&lines);
    }
    // Names of other devices are in it as they are.
    answers::lines(&lines.iter().map(|line| escape_line(line)).collect::<Vec<_>>())
}
