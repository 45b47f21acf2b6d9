//! `kin join`: keeps a folder of the group in step here.

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
    output::screen::Screen,
};

const AFTER_HELP: &str = "\
Examples:
  kin join Documents                   in ./Documents
  kin join Documents /srv/docs         in a directory that is created if it is not there
  kin join media /srv/media --receive-only

What is in the directory already stays: it becomes one with what the others have. What differs is there twice
afterwards, one of them as a conflict copy. The numbers are told before anything is done.";

/// Keep a folder of the group in step here
///
/// Says first what it would do, and asks.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct JoinArgs {
    /// The folder: its name, or the beginning of its id
    #[arg(value_name = "NAME")]
    folder: String,

    /// Where to keep it [default: a directory of the folder's name, here]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    mode: Mode,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Print the plan and the folder as JSON objects
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
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
    refuse_code(&args.folder)?;
    let mode = args.mode.mode();
    let device = Device::reach().await?;
    let dir = match &args.dir {
        Some(dir) => absolute(dir)?,
        None => absolute(&by_name(&device, &args.folder).await?)?,
    };
    let folder = args.folder;
    let request = Request::JoinPlan { folder: folder.clone(), dir: dir.clone() };
    let plan: Plan = device.ask(request).await?;
    let shown = escape(&dir.to_string_lossy());
    if args.json {
        let dir = dir.to_string_lossy().into_owned();
        answers::json(&[Line { event: "plan", folder: &folder, dir, plan }])?;
    }
    let before = format!("Joining {} in {shown}: {}.", escape(&folder), words(plan));
    if args.yes && !args.json {
        screen.line(&before);
    }
    if !(args.yes || Asker::new(screen).agreed(&before, "Go on?").await) {
        return Err(answers::not_agreed("not joined; nothing was changed"));
    }
    let joined: FolderLine = device.ask(Request::Join { folder, dir, mode }).await?;
    let said = format!("{} is kept in step in {}.", escape(&joined.name), place(&joined));
    answers::done(screen, args.json, &joined, &said)
}

/// What the plan is, in words.
fn words(plan: Plan) -> String {
    if !plan.known {
        return "no device that has it is linked, so what it would do here is not known".to_owned();
    }
    let Plan { adds, conflicts, deletes, sends, .. } = plan;
    let (adds, conflicts) = (HumanCount(adds), HumanCount(conflicts));
    let (deletes, sends) = (HumanCount(deletes), HumanCount(sends));
    format!("adds {adds}, conflicts {conflicts}, deletes {deletes}; sends {sends} to the others")
}

/// Codes are another way to join, which is not built yet.
fn refuse_code(text: &str) -> Result<(), CommandError> {
    let code = text.get(..3).is_some_and(|head| head.eq_ignore_ascii_case("kc1"));
    if code || crate::given::is_token(text) {
        return Err(CommandError::usage("token", "this is no folder's name")
            .hint("a pairing token belongs to kin pair; this kin takes no sharing codes yet"));
    }
    Ok(())
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
        assert_eq!(words(plan), "adds 1,200, conflicts 3, deletes 0; sends 7 to the others");
        assert!(words(Plan::default()).contains("not known"));
    }
}
