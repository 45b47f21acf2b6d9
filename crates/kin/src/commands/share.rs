//! `kin share`: a directory becomes a folder of the group.

use std::path::PathBuf;

use clap::Args;
use node::api::{FolderLine, Request};

use crate::{
    answers, check,
    device::Device,
    error::CommandError,
    escape::escape,
    folders::{Mode, absolute, place},
    output::screen::Screen,
    start,
};

const AFTER_HELP: &str = "\
Examples:
  kin share ~/Documents                on another device: kin join Documents
  kin share ~/Photos --name pictures   under another name
  kin share /srv/media --send-only     what others change is not applied here

All devices of the group may join it. Nothing leaves this device before one does.";

/// Share a directory with the group
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ShareArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// What the folder is called [default: as the directory]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// With which group: name or the beginning of its id [default: the one in use]
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    #[command(flatten)]
    mode: Mode,

    /// Print the folder as a JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: ShareArgs) -> Result<(), CommandError> {
    if let Some(name) = &args.name {
        check::folder_name("--name", name)?;
    }
    start::check_dir(&args.dir)?;
    let dir = absolute(&args.dir)?;
    let device = Device::reach().await?;
    let (name, group, mode) = (args.name, args.group, args.mode.mode());
    let folder: FolderLine = device.ask(Request::Share { dir, name, group, mode }).await?;
    let said = format!(
        "{} is shared with {} as {}. On another device: kin join {}",
        place(&folder),
        escape(&folder.group),
        escape(&folder.name),
        escape(&folder.name)
    );
    answers::done(screen, args.json, &folder, &said)
}
