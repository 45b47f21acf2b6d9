//! What can go wrong with a user's SSH files.

use std::path::PathBuf;

use tree::{StateError, UserFileError};

use crate::{AliasError, KeyError};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// A file cannot be read or changed.
    #[error(transparent)]
    File(#[from] UserFileError),
    /// The device's state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The settings are damaged.
    #[error("{}: {}", .0.display(), .1)]
    Settings(PathBuf, String),
    /// The system does not know this user.
    #[error("the system has no entry for user {0}, and so no home directory")]
    NoUser(u32),
    /// The home directory's name cannot stand in ssh's configuration.
    #[error("{} cannot be named in ssh's configuration", .0.display())]
    OddPath(PathBuf),
    /// A key in a file is none.
    #[error("{}: {source}", .path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A key that was named is not there.
    #[error("there is no key {}", .0.display())]
    NoKey(PathBuf),
    /// The alias cannot be used.
    #[error(transparent)]
    Alias(#[from] AliasError),
    /// A file that may give names a meaning cannot be looked through, so no name counts as free (rule T24).
    #[error("it cannot be told which names for ssh are in use: {0}")]
    Unsure(String),
    /// The device's host keys are others than those that are pinned (attack 19).
    #[error("the host keys of {alias} have changed: pinned is {pinned}, and it says {now}")]
    HostKeyChanged {
        /// The alias.
        alias: String,
        /// Fingerprint that is pinned.
        pinned: String,
        /// Fingerprint that it says now.
        now: String,
    },
    /// A key could not be made.
    #[error("no key could be made: {0}")]
    Make(&'static str),
    /// This machine's sshd does not know what would be asked of it.
    #[error("{0}")]
    Sshd(String),
}

impl SshError {
    /// A stable word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(UserFileError::Foreign(_) | UserFileError::Outside { .. }) => {
                "ssh_file_refused"
            }
            Self::File(_) | Self::Unsure(_) => "ssh_file",
            Self::State(_) | Self::Settings(..) => "state",
            Self::NoUser(_) | Self::OddPath(_) => "no_home",
            Self::Key { .. } | Self::NoKey(_) | Self::Make(_) => "ssh_key",
            Self::Alias(_) => "alias",
            Self::HostKeyChanged { .. } => "host_key_changed",
            Self::Sshd(_) => "sshd",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File(UserFileError::Foreign(_)) => {
                "files in ~/.ssh must belong to the user whose home it is; see ls -la ~/.ssh"
            }
            Self::File(UserFileError::Outside { .. }) => {
                "links in ~/.ssh are followed within the home directory only"
            }
            Self::File(UserFileError::NotAFile(_)) => "move away what is in its place",
            Self::File(UserFileError::Locked(_) | UserFileError::Busy(_)) => {
                "try again in a moment"
            }
            Self::File(_) => {
                "nothing was changed; check the rights of ~/.ssh and the space on the disk"
            }
            Self::Unsure(_) => "make that file readable, or leave it out of ssh's configuration",
            Self::State(_) => "check the rights of that directory",
            Self::Settings(..) => "mend it, or remove it to begin anew",
            Self::NoUser(_) => "see getent passwd",
            Self::OddPath(_) => "ssh cannot take quotes, wildcards and control characters there",
            Self::Key { .. } | Self::NoKey(_) => {
                "kin ssh keys lists the keys; ssh-keygen makes others"
            }
            Self::Make(_) => "try ssh-keygen, and name its key with -k",
            Self::Alias(_) => {
                "take away what uses that name: kin ssh hosts lists what kin installed"
            }
            Self::HostKeyChanged { .. } => {
                "if it was installed anew, kin ssh unpair it and pair again; if not, somebody may sit in between"
            }
            Self::Sshd(_) => "leave --expires away, or install a newer OpenSSH",
        }
    }
}
