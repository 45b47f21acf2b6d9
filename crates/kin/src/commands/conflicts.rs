//! `kin conflicts`: conflict copies, and settling them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use node::{
    api::{ConflictLine, FolderLine, Request},
    conflicts::{Keeping, settle},
};
use serde::Serialize;

use crate::{
    answers, device::Device, error::CommandError, escape::escape, folders::meant,
    output::screen::Screen, past, when,
};

const AFTER_HELP: &str = "\
Examples:
  kin conflicts Documents                           lists the conflict copies
  kin conflicts Documents 'a.conflict-….txt' --keep this    the file stays, the copy goes to history
  kin conflicts Documents 'a.conflict-….txt' --keep that    the copy takes the file's place
  kin conflicts Documents 'a.conflict-….txt' --keep both    the copy gets a name of its own

What is not kept goes to the folder's history: kin history lists it, kin restore brings it back.";

/// List conflict copies, and settle them
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ConflictsArgs {
    /// The folder: name, beginning of its id, or directory
    #[arg(value_name = "FOLDER")]
    folder: String,

    /// The conflict copy to settle, as it is listed
    #[arg(value_name = "COPY", requires = "keep")]
    copy: Option<String>,

    /// What stays: this (the file), that (the copy) or both
    #[arg(long, value_name = "WHAT", requires = "copy")]
    keep: Option<Keep>,

    /// Print one JSON object a line
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Keep {
    This,
    That,
    Both,
}

#[derive(Serialize)]
struct Settled {
    event: &'static str,
    copy: String,
    path: String,
    /// Where what the copy held is now; absent if it is in history only.
    now: Option<String>,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: ConflictsArgs) -> Result<(), CommandError> {
    let device = Device::reach().await?;
    let folder = meant(&args.folder)?;
    let request = Request::Conflicts { folder: folder.clone() };
    let conflicts: Vec<ConflictLine> = device.ask(request).await?;
    let (Some(copy), Some(keep)) = (&args.copy, args.keep) else {
        return list(screen, args.json, &conflicts);
    };
    let copy = past::path("COPY", copy)?;
    let Some(found) = conflicts.iter().find(|one| one.copy == copy.as_str()) else {
        let message = format!("{copy} is no conflict copy");
        return Err(CommandError::usage("no_conflict", &message)
            .hint("kin conflicts FOLDER lists them; write it as it is listed"));
    };
    let original = past::path("PATH", &found.path)?;
    let located: FolderLine = device.ask(Request::Locate { folder }).await?;
    let disk = past::open(&located.dir.unwrap_or_else(|| PathBuf::from(".")))?;
    let keeping = match keep {
        Keep::This => Keeping::Original,
        Keep::That => Keeping::Copy,
        Keep::Both => Keeping::Both,
    };
    let now = settle(&disk, &copy, &original, keeping, when::now()).map_err(|error| {
        CommandError::failed("settle", &format!("{copy}: {error}"))
            .hint("nothing was lost; try again when the folder is at rest")
    })?;
    let settled = Settled {
        event: "settled",
        copy: copy.as_str().to_owned(),
        path: found.path.clone(),
        now: now.as_ref().map(|path| path.as_str().to_owned()),
    };
    let said = match (&now, keep) {
        (Some(now), Keep::Both) => format!("Both stay: the copy is {} now.", escape(now.as_str())),
        (Some(now), _) => format!(
            "{} is what the copy held now. What was there is in the history.",
            escape(now.as_str())
        ),
        (None, _) => format!("{} stays. The copy is in the history.", escape(&found.path)),
    };
    answers::done(screen, args.json, &settled, &said)
}

fn list(screen: &Screen, json: bool, conflicts: &[ConflictLine]) -> Result<(), CommandError> {
    if json {
        return answers::json(conflicts);
    }
    if conflicts.is_empty() {
        screen.line("There are no conflict copies.");
    }
    let row = |one: &ConflictLine| format!("{}  lost at {}", escape(&one.copy), escape(&one.path));
    answers::lines(&conflicts.iter().map(row).collect::<Vec<_>>())
}
