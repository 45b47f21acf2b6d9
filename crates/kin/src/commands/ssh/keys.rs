//! `kin ssh keys`: this user's keys that kin made.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use ssh::{Here, KeyKind, OwnKey};

use crate::{
    answers::{self, Asker},
    error::CommandError,
    output::{screen::Screen, table::table},
    ssh_files,
};

/// List, make and remove the keys that kin uses for SSH
#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List them; this is what kin ssh keys does by itself
    List,
    /// Make another one, which is used for devices that are paired from then on
    Generate {
        /// RSA of 4096 bits instead of Ed25519, for servers that know nothing better
        #[arg(long)]
        rsa: bool,
        /// What is written behind the public key
        #[arg(short, long, value_name = "TEXT")]
        comment: Option<String>,
    },
    /// Remove a key that kin made, both its files
    Remove {
        /// The private key
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Also if devices are reached by it
        #[arg(long)]
        force: bool,
        /// Ask nothing
        #[arg(long)]
        yes: bool,
    },
}

/// A key, as `kin ssh keys --json` prints it.
#[derive(Serialize, Debug)]
struct KeyLine {
    path: String,
    kind: String,
    fingerprint: String,
    /// True if new pairings use it.
    used: bool,
    /// False for one that a person brought.
    made_by_kin: bool,
    /// Names for ssh of the devices that it opens.
    hosts: Vec<String>,
}

/// Runs it to its end.
pub(super) async fn run(screen: &Screen, json: bool, args: KeysArgs) -> Result<(), CommandError> {
    let mut here = ssh_files::open()?;
    match args.action.unwrap_or(Action::List) {
        Action::List => list(screen, json, &here),
        Action::Generate { rsa, comment } => {
            let kind = if rsa { KeyKind::Rsa } else { KeyKind::Ed25519 };
            let comment = comment.unwrap_or_else(|| here.comment());
            if comment.chars().any(char::is_control) || comment.len() > 200 {
                return Err(CommandError::usage(
                    "comment",
                    "a comment is one line of up to 200 bytes",
                ));
            }
            let key = here.home.new_key(kind, &comment)?;
            here.use_kind(kind)?;
            let said = format!("{} is made: {}", key.path.display(), key.public.fingerprint());
            answers::done(screen, json, &line(&here, &key)?, &said)
        }
        Action::Remove { path, force, yes } => {
            let path = std::path::absolute(&path).unwrap_or(path);
            let Some(key) = here.home.own_keys()?.into_iter().find(|key| key.path == path) else {
                let said = format!("{} is no key that kin has made", path.display());
                return Err(CommandError::usage("ssh_key", &said).hint("kin ssh keys lists those"));
            };
            let shown = line(&here, &key)?;
            if !force && !shown.hosts.is_empty() {
                let said =
                    format!("{} is how {} is reached", path.display(), shown.hosts.join(", "));
                return Err(CommandError::failed("in_use", &said)
                    .hint("kin ssh rotate makes a new one and installs it there first; --force removes it all the same"));
            }
            let question = format!("Remove {} for good?", path.display());
            if !yes && !Asker::new(screen).agreed("", &question).await {
                return Err(answers::not_agreed("nothing was removed"));
            }
            here.home.remove_key(&path)?;
            answers::done(screen, json, &shown, &format!("{} is removed.", path.display()))
        }
    }
}

fn line(here: &Here, key: &OwnKey) -> Result<KeyLine, CommandError> {
    let installed = here.home.installed()?;
    let hosts = installed.iter().filter_map(|one| one.host.as_ref());
    let hosts = hosts.filter(|host| host.identity == key.path).map(|host| host.alias.to_string());
    let used = match &here.settings.default_key {
        Some(_) => !key.ours,
        None => here.home.key(here.settings.key_kind)?.is_some_and(|used| used.path == key.path),
    };
    Ok(KeyLine {
        path: key.path.display().to_string(),
        kind: key.public.kind().to_owned(),
        fingerprint: key.public.fingerprint().to_owned(),
        used,
        made_by_kin: key.ours,
        hosts: hosts.collect(),
    })
}

fn list(screen: &Screen, json: bool, here: &Here) -> Result<(), CommandError> {
    let mut keys = here.home.own_keys()?;
    if let Some(path) = &here.settings.default_key {
        keys.push(here.home.given_key(path)?);
    }
    let lines = keys.iter().map(|key| line(here, key)).collect::<Result<Vec<_>, _>>()?;
    if json {
        return answers::json(&lines);
    }
    if lines.is_empty() {
        screen.line("There is no key yet: one is made when it is first needed, or by kin ssh keys generate.");
    }
    let row = |line: &KeyLine| {
        let hosts = match line.hosts.as_slice() {
            [] => "opens nothing yet".to_owned(),
            hosts => format!("opens {}", hosts.join(", ")),
        };
        let used = if line.used { "in use" } else { "" };
        vec![line.path.clone(), line.kind.clone(), line.fingerprint.clone(), used.to_owned(), hosts]
    };
    answers::lines(&table(&lines.iter().map(row).collect::<Vec<_>>()))
}
