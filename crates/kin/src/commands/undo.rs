//! `kin undo`: puts back what a device's changes have replaced or deleted.

use clap::Args;
use jiff::tz::TimeZone;
use node::api::{Request, UndoReply};

use crate::{
    answers::{self, Asker},
    device::Device,
    error::CommandError,
    escape::escape,
    folders::meant,
    output::screen::Screen,
    when,
};

const AFTER_HELP: &str = "\
Examples:
  kin undo Documents --from phone --since 2h
  kin undo Documents --from kd1qqx3… --since '2026-11-21 10:00'

What that device's changes since then have replaced or deleted on this device comes back as it was, as a new \
change. What somebody else has changed since stays as it is. What is replaced goes to the history in turn.";

/// Put back what a device's changes have replaced or deleted
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct UndoArgs {
    /// The folder: name, beginning of its id, or directory
    #[arg(value_name = "FOLDER")]
    folder: String,

    /// Whose changes: name, or beginning of its id; also of a device that was removed
    #[arg(long, value_name = "DEVICE")]
    from: String,

    /// Changes since this time, or this long ago
    #[arg(long, value_name = "TIME")]
    since: String,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Print a JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: UndoArgs) -> Result<(), CommandError> {
    let since = when::parse("--since", &args.since, when::now(), &TimeZone::system())?;
    let folder = meant(&args.folder)?;
    let device = Device::reach().await?;
    let before = format!(
        "What {} has replaced or deleted in {} since {} comes back as it was.",
        escape(&args.from),
        escape(&folder),
        when::show(since, &TimeZone::system())
    );
    if !args.yes && !Asker::new(screen).agreed(&before, "Go on?").await {
        return Err(answers::not_agreed("nothing was changed"));
    }
    let undone: UndoReply = device.ask(Request::Undo { folder, from: args.from, since }).await?;
    if args.json {
        answers::json(std::slice::from_ref(&undone))?;
    } else {
        let rows = undone.restored.iter().map(|path| format!("back: {}", escape(path)));
        answers::lines(&rows.collect::<Vec<_>>())?;
        for path in &undone.changed_since {
            screen.line(&format!(
                "note: {} was changed by another device since: it stays",
                escape(path)
            ));
        }
        for failed in &undone.failed {
            screen.line(&format!("error: {}", escape(failed)));
        }
        if undone.restored.is_empty() && undone.failed.is_empty() {
            screen.line("There is nothing to undo.");
        }
    }
    match undone.failed.is_empty() {
        true => Ok(()),
        false => Err(CommandError::failed("undo", "some of it did not come back")
            .hint("kin history FOLDER lists what there is; kin restore brings single files back")),
    }
}
