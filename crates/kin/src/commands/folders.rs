//! `kin folders`: the folders of this device's groups.

use clap::{Args, Subcommand, ValueEnum};
use indicatif::HumanCount;
use node::api::{FolderLine, FolderMode, Request};

use crate::{
    answers::{self, Asker},
    device::Device,
    error::CommandError,
    escape::escape,
    folders::{meant, place, rows},
    output::screen::Screen,
};

const AFTER_HELP: &str = "\
Examples:
  kin folders                             all folders, also those that are not joined here
  kin folders pause Documents             stops it for a while
  kin folders resume Documents --accept-deletes
  kin folders forget ~/old                keeps it in step here no more; deletes nothing

A folder is meant by its name, the beginning of its id, or its directory.";

/// List, pause and forget folders
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct FoldersArgs {
    #[command(subcommand)]
    action: Option<Action>,

    /// Print one JSON object a line
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List them; this is what kin folders does by itself
    List,
    /// Stop a folder for a while, also over restarts
    Pause {
        #[command(flatten)]
        of: Folder,
    },
    /// Go on with it
    Resume {
        #[command(flatten)]
        of: Folder,
        /// Go on with the deletions that are held, too
        #[arg(long)]
        accept_deletes: bool,
    },
    /// Keep it in step here no more; deletes nothing
    Forget {
        #[command(flatten)]
        of: Folder,
    },
    /// Take it from the whole group; deletes nothing
    Unshare {
        #[command(flatten)]
        of: Folder,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Say what it does here
    Mode {
        #[command(flatten)]
        of: Folder,
        /// both, receive (changes made here stay here) or send (changes made elsewhere are not applied here)
        #[arg(value_name = "MODE")]
        mode: ModeName,
    },
}

#[derive(Args, Debug)]
struct Folder {
    /// The folder: name, beginning of its id, or directory
    #[arg(value_name = "FOLDER")]
    folder: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum ModeName {
    Both,
    Receive,
    Send,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: FoldersArgs) -> Result<(), CommandError> {
    let json = args.json;
    let (request, said): (Request, fn(&FolderLine) -> String) = match args
        .action
        .unwrap_or(Action::List)
    {
        Action::List => return list(screen, json).await,
        Action::Pause { of } => (Request::Pause { folder: meant(&of.folder)? }, |folder| {
            format!("{} is paused. kin folders resume goes on.", escape(&folder.name))
        }),
        Action::Resume { of, accept_deletes } => {
            (Request::Resume { folder: meant(&of.folder)?, accept_deletes }, |folder| {
                format!("{} goes on.", escape(&folder.name))
            })
        }
        Action::Forget { of } => (Request::Forget { folder: meant(&of.folder)? }, |folder| {
            format!(
                "{} is kept in step here no more. All files stay in {}.",
                escape(&folder.name),
                place(folder)
            )
        }),
        Action::Unshare { of, yes } => {
            let folder = meant(&of.folder)?;
            let before = format!(
                "{} is taken from the whole group: no device keeps it in step any more. All files stay where they are.",
                escape(&folder)
            );
            if !yes && !Asker::new(screen).agreed(&before, "Go on?").await {
                return Err(answers::not_agreed("nothing was changed"));
            }
            (Request::Unshare { folder }, |folder| {
                format!(
                    "{} is taken from the group {}.",
                    escape(&folder.name),
                    escape(&folder.group)
                )
            })
        }
        Action::Mode { of, mode } => {
            let mode = match mode {
                ModeName::Both => FolderMode::Both,
                ModeName::Receive => FolderMode::Receive,
                ModeName::Send => FolderMode::Send,
            };
            (Request::SetMode { folder: meant(&of.folder)?, mode }, |folder| {
                let does = match folder.mode {
                    FolderMode::Both => "sends and receives",
                    FolderMode::Receive => "receives only",
                    FolderMode::Send => "sends only",
                };
                format!("{} {does} here.", escape(&folder.name))
            })
        }
    };
    let changed: FolderLine = Device::reach().await?.ask(request).await?;
    answers::done(screen, json, &changed, &said(&changed))
}

async fn list(screen: &Screen, json: bool) -> Result<(), CommandError> {
    let folders: Vec<FolderLine> = Device::reach().await?.ask(Request::Folders).await?;
    if json {
        return answers::json(&folders);
    }
    if folders.is_empty() {
        screen.line("There are no folders yet. kin share DIR shares one.");
    }
    answers::lines(&rows(&folders))?;
    for folder in &folders {
        let name = escape(&folder.name);
        if let Some(reason) = &folder.reason {
            screen.line(&format!("note: {name}: {}", escape(reason)));
        }
        if folder.conflicts > 0 {
            let copies = HumanCount(folder.conflicts);
            screen.line(&format!("note: {name} has {copies} conflict copies"));
        }
    }
    Ok(())
}
