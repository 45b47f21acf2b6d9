//! `kin join`: keeps a folder of the group in step here, or one of somebody's who gave a sharing code.

mod code;

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use node::api::{FolderLine, FolderState, Plan, Request};
use serde::Serialize;

use crate::{
    answers::{self, Asker},
    check,
    device::Device,
    error::CommandError,
    escape::escape,
    folders::{Mode, absolute, place},
    given,
    output::screen::Screen,
};

const AFTER_HELP: &str = "\
Examples:
  kin join Documents                   in ./Documents
  kin join Documents /srv/docs         in a directory that is created if it is not there
  kin join media /srv/media --receive-only
  kin join - ~/Photos                  paste a sharing code (kc1…) or its link
  kin join --from-file code ~/Photos

What is in the directory already stays: it becomes one with what the others have. What differs is there twice
afterwards, one of them as a conflict copy. The numbers are told before anything is done.";

/// Keep a folder in step here: one of the group, or one that a sharing code opens
///
/// Says first what it would do, and asks. With a code it looks for the device that issued it, on this network
/// and at the relays that this device uses, and shows what is offered, by whom, and in which role.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct JoinArgs {
    /// The folder: its name, or the beginning of its id; or a sharing code or its link; - reads that from
    /// standard input
    #[arg(value_name = "NAME|CODE|LINK|-", required_unless_present = "from_file")]
    what: Option<String>,

    /// Where to keep it [default: a directory of the folder's name, here]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,

    #[arg(hide = true)]
    more: Vec<String>,

    #[command(flatten)]
    mode: Mode,

    /// Do not ask; with a code only together with --expect-device
    #[arg(long)]
    yes: bool,

    /// Read the sharing code from a file that only you can read
    #[arg(long, value_name = "FILE", help_heading = "By a sharing code")]
    from_file: Option<PathBuf>,

    /// Where the device is that issued the code, if nothing else finds it
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "By a sharing code")]
    at: Option<String>,

    /// Look for that device, and wait, no longer than so many seconds [default: look for 300]
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    #[arg(help_heading = "By a sharing code")]
    timeout: Option<u64>,

    /// Do not look on this network
    #[arg(long, help_heading = "By a sharing code")]
    no_discovery: bool,

    /// The only device whose code is taken, which --yes takes without a question
    #[arg(long, value_name = "kd1…", requires = "yes", help_heading = "By a sharing code")]
    expect_device: Option<String>,

    /// Print the plan and the folder as JSON objects
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

impl JoinArgs {
    /// A code among the arguments, where others on this machine can read it (rule T20).
    pub(crate) fn exposed_code(&self) -> Option<&str> {
        self.what.as_deref().filter(|text| given::is_code(text.trim()))
    }
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    folder: &'a str,
    dir: String,
    #[serde(flatten)]
    plan: Plan,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: JoinArgs) -> Result<(), CommandError> {
    let mut said: Vec<String> = args.what.iter().cloned().collect();
    said.extend(args.dir.iter().map(|dir| dir.to_string_lossy().into_owned()));
    said.extend(args.more.iter().cloned());
    given::not_a_name(&said)?;
    let beyond = args.from_file.is_some() && args.dir.is_some();
    if !args.more.is_empty() || beyond {
        return Err(CommandError::usage(
            "usage",
            "kin join takes one folder or code, and one directory",
        ));
    }
    if let Some((source, dir)) = code::source(&args) {
        return code::run(screen, &args, source, dir.as_deref()).await;
    }
    let by_code = args.at.is_some() || args.timeout.is_some() || args.expect_device.is_some();
    if by_code || args.no_discovery {
        return Err(CommandError::usage(
            "usage",
            "--at, --timeout, --no-discovery and --expect-device go with a sharing code",
        ));
    }
    let folder = args.what.unwrap_or_default();
    let mode = args.mode.mode();
    let device = Device::reach().await?;
    let dir = match &args.dir {
        Some(dir) => absolute(dir)?,
        None => absolute(&by_name(&device, &folder).await?)?,
    };
    let runs = !device.is_within();
    let request = Request::JoinPlan { folder: folder.clone(), dir: dir.clone() };
    let plan: Plan = device.ask(request).await?;
    let shown = escape(&dir.to_string_lossy());
    if args.json {
        let dir = dir.to_string_lossy().into_owned();
        answers::json(&[Line { event: "plan", folder: &folder, dir, plan }])?;
    }
    let before = format!("Joining {} in {shown}: {}.", escape(&folder), words(plan, runs));
    if args.yes && !args.json {
        screen.line(&before);
    }
    if !(args.yes || Asker::new(screen).agreed(&before, "Go on?").await) {
        return Err(answers::not_agreed("not joined; nothing was changed"));
    }
    let joined: FolderLine = device.ask(Request::Join { folder, dir, mode }).await?;
    let said = format!("{} is kept in step in {}.", escape(&joined.name), place(&joined));
    answers::done(screen, args.json, &joined, &said)?;
    if !runs && !args.json {
        answers::say_start(screen);
    }
    Ok(())
}

/// What the plan is, in words.
fn words(plan: Plan, runs: bool) -> String {
    if !plan.known {
        let text = if runs {
            "no device that has it is linked, so what it would do here is not known"
        } else {
            "this device does not run, so what it would do here is not known (kin up starts it)"
        };
        return text.to_owned();
    }
    let Plan { adds, conflicts, deletes, sends, .. } = plan;
    let (adds, conflicts) = (HumanCount(adds), HumanCount(conflicts));
    let (deletes, sends) = (HumanCount(deletes), HumanCount(sends));
    format!("adds {adds}, conflicts {conflicts}, deletes {deletes}; sends {sends} to the others")
}

/// The directory that is meant by a folder's name alone. Another device chose the name: only one that is
/// a plain name of a directory is taken for one.
async fn by_name(device: &Device, text: &str) -> Result<PathBuf, CommandError> {
    let folders: Vec<FolderLine> = device.ask(Request::Folders).await?;
    let named = folders.iter().filter(|folder| folder.name == text);
    let begun = folders.iter().filter(|folder| folder.folder.starts_with(text));
    let mut found: Vec<&FolderLine> = named.collect();
    if found.is_empty() {
        found = begun.collect();
    }
    // If none or several are meant, the device says so.
    let [one] = *found.as_slice() else { return Ok(PathBuf::from(text)) };
    if one.state != FolderState::NotJoined {
        let message = format!("{} is here already, in {}", one.name, place(one));
        return Err(CommandError::usage("joined", &message));
    }
    if check::folder_name("NAME", &one.name).is_err() {
        let message = format!("{} cannot be the name of a directory", one.name);
        return Err(CommandError::usage("name", &message).hint("give the directory, too"));
    }
    Ok(PathBuf::from(&one.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_in_words() {
        let plan = Plan { adds: 1200, conflicts: 3, deletes: 0, sends: 7, known: true };
        assert_eq!(words(plan, true), "adds 1,200, conflicts 3, deletes 0; sends 7 to the others");
        assert!(words(Plan::default(), true).contains("no device that has it is linked"));
        assert!(words(Plan::default(), false).contains("kin up"));
    }
}
