//! How a command gets at the user's SSH files (crate `ssh`), and what it says if it cannot.

use std::{env, path::PathBuf};

use ssh::{Here, Home, Installed, Local, SshError, Tag};

use crate::{
    device,
    error::{CommandError, Exit},
    escape::escape,
};

/// A directory that stands for the user's home directory, for tests.
const INSTEAD: &str = "KIN_SSH_HOME";

/// The directory that stands for the user's home directory, if one does.
pub(crate) fn instead() -> Option<PathBuf> {
    env::var_os(INSTEAD).map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// The user's SSH files and the settings about them.
///
/// # Errors
/// If there is no home, or the settings cannot be read.
pub(crate) fn open() -> Result<Here, CommandError> {
    Ok(Here::open(&device::state_dir()?, instead().as_deref())?)
}

/// The name for ssh that a device has here, or would get (rule T24); `None` if it cannot be told.
pub(crate) fn alias_of(device: &str, name: &str) -> Option<String> {
    if device.starts_with(name.trim_end_matches('…')) {
        // What it calls itself is not known yet.
        return None;
    }
    let local = Local::find().ok()?;
    let home = Home::at(&instead().unwrap_or(local.home), local.user).ok()?;
    let alias = home.propose(&Tag::new(device).ok()?, name).ok()?;
    Some(alias.to_string())
}

/// What is installed for what a person named: an alias, a device's name, its id or the beginning of one.
///
/// # Errors
/// If there is none, or there are several.
pub(crate) fn find(home: &Home, named: &str) -> Result<Installed, CommandError> {
    let all = home.installed()?;
    let meant = |one: &&Installed| {
        one.host.as_ref().is_some_and(|host| host.alias.as_str() == named)
            || one.name == named
            || named.len() >= 6 && one.tag.as_str().starts_with(named)
    };
    // Of an alias and a name that another device gave itself, neither comes first.
    let found: Vec<&Installed> = all.iter().filter(meant).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(CommandError::usage(
            "unknown_host",
            &format!("nothing is installed for {}", escape(named)),
        )
        .hint("kin ssh hosts lists what is")),
        _ => Err(CommandError::usage(
            "ambiguous",
            &format!("{} means several devices", escape(named)),
        )
        .hint("name it by its ssh name, or by more of its id: kin ssh hosts")),
    }
}

impl From<SshError> for CommandError {
    fn from(error: SshError) -> Self {
        let exit = match &error {
            SshError::Alias(_) | SshError::NoKey(_) | SshError::Key { .. } => Exit::Usage,
            SshError::HostKeyChanged { .. } => Exit::Refused,
            _ => Exit::Failed,
        };
        Self::new(exit, error.kind(), &error.to_string()).hint(error.hint())
    }
}
