//! `kin folders`: the folders of this device's groups.

use clap::{Args, Subcommand, ValueEnum};
use indicatif::HumanCount;
use node::api::{FolderLine, FolderMode, LocalLine, Request};

use crate::{
    answers::{self, Asker},
    device::Device,
    error::CommandError,
    escape::escape,
    folders::{meant, place, rows},
    output::screen::Screen,
    past,
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
    /// Put back what the others have in place of what was changed only here; that goes to history
    Revert {
        #[command(flatten)]
        of: Folder,
        /// Paths in it, with what is below [default: all that were changed only here]
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// In a folder that only sends: what is here is to count, in place of what the others have
    Override {
        #[command(flatten)]
        of: Folder,
        /// Paths in it, with what is below [default: all that differ]
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
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
            let said: fn(&FolderLine) -> String = if accept_deletes {
                |folder| {
                    format!(
                        "{} goes on, with the deletions. Each other device that is to make them asks its own \
                         person: kin status there.",
                        escape(&folder.name)
                    )
                }
            } else {
                |folder| format!("{} goes on.", escape(&folder.name))
            };
            (Request::Resume { folder: meant(&of.folder)?, accept_deletes }, said)
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
        Action::Revert { of, paths, yes } => {
            return revert(screen, json, meant(&of.folder)?, paths, yes).await;
        }
        Action::Override { of, paths, yes } => {
            let folder = meant(&of.folder)?;
            let before = format!(
                "What is in {} on this device takes the place of what the other devices have.",
                escape(&folder)
            );
            if !yes && !Asker::new(screen).agreed(&before, "Go on?").await {
                return Err(answers::not_agreed("nothing was changed"));
            }
            let device = Device::reach().await?;
            let request = Request::Override { folder: folder.clone(), paths: inner(&paths)? };
            device.ask::<serde_json::Value>(request).await?;
            (Request::Locate { folder }, |folder| {
                format!("What {} holds here counts now.", escape(&folder.name))
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

/// Paths as a person writes them.
fn inner(paths: &[String]) -> Result<Vec<String>, CommandError> {
    paths.iter().map(|path| Ok(past::path("PATH", path)?.as_str().to_owned())).collect()
}

async fn revert(
    screen: &Screen,
    json: bool,
    folder: String,
    paths: Vec<String>,
    yes: bool,
) -> Result<(), CommandError> {
    let paths = inner(&paths)?;
    let device = Device::reach().await?;
    let request = Request::LocalChanges { folder: folder.clone() };
    let mut changes: Vec<LocalLine> = device.ask(request).await?;
    let below = |path: &str, above: &str| {
        path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    changes.retain(|one| paths.is_empty() || paths.iter().any(|path| below(&one.path, path)));
    if changes.is_empty() {
        if !json {
            screen.line("Nothing there was changed only here.");
        }
        return Ok(());
    }
    let first = escape(&changes[0].path);
    let what = match changes.len() {
        1 => format!("The change made only here is taken back: {first}."),
        many => {
            let count = HumanCount(many as u64);
            format!("{count} changes made only here are taken back, for example {first}.")
        }
    };
    let before = format!("{what} What is here now goes to history.");
    if !yes && !Asker::new(screen).agreed(&before, "Go on?").await {
        return Err(answers::not_agreed("nothing was changed"));
    }
    device.ask::<serde_json::Value>(Request::Revert { folder, paths }).await?;
    if json {
        return answers::json(&changes);
    }
    let rows = changes.iter().map(|one| format!("{}  {}", escape(&one.kind), escape(&one.path)));
    answers::lines(&rows.collect::<Vec<_>>())
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
            let copies = if folder.conflicts == 1 { "copy" } else { "copies" };
            let count = HumanCount(folder.conflicts);
            screen.line(&format!("note: {name} has {count} conflict {copies}"));
        }
    }
    Ok(())
}
