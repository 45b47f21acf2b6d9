//! What a person has set for `kin ssh`, kept in the device's state directory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tree::StateDir;

use crate::{Cidr, Home, KeyKind, Local, OwnKey, SshError, Sshd, Tag};

/// Its name in the state directory.
const FILE: &str = "ssh.toml";
/// Where sshd's configuration is, if nothing else is set.
const SSHD_CONFIG: &str = "/etc/ssh/sshd_config";
/// Most networks to be scanned.
const MAX_SUBNETS: usize = 64;

/// Settings of `kin ssh`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Networks that a scan looks through beside those it is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Of which kind the key of ours is that is in use: the one that a person asked for last.
    #[serde(skip_serializing_if = "is_default")]
    pub key_kind: KeyKind,
    /// The private key to be used instead of one of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_key: Option<PathBuf>,
    /// Where this machine's sshd is reached, if not where its configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sshd_port: Option<u16>,
    /// Where sshd's configuration is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sshd_config: Option<PathBuf>,
}

/// The user's SSH files and the settings: what everything about SSH begins with.
#[derive(Debug)]
pub struct Here {
    /// The files.
    pub home: Home,
    /// The settings.
    pub settings: Settings,
    state: PathBuf,
}

impl Here {
    /// Opens both. `instead` stands for the user's home directory, for tests.
    ///
    /// # Errors
    /// If there is no home, or the settings cannot be read.
    pub fn open(state: &Path, instead: Option<&Path>) -> Result<Self, SshError> {
        let local = Local::find()?;
        let home = Home::at(instead.unwrap_or(&local.home), local.user)?;
        let settings = match StateDir::open(state)?.read(FILE)? {
            None => Settings::default(),
            Some(bytes) => read(&state.join(FILE), &bytes)?,
        };
        Ok(Self { home, settings, state: state.to_owned() })
    }

    /// Keeps the settings as they are now.
    ///
    /// # Errors
    /// As the file.
    pub fn save(&self) -> Result<(), SshError> {
        let text = toml::to_string(&self.settings)
            .map_err(|error| SshError::Settings(self.state.join(FILE), error.to_string()))?;
        Ok(StateDir::open(&self.state)?.replace(FILE, text.as_bytes())?)
    }

    /// The key that this user shows others: the one that was chosen, or one of ours, made if there is none.
    ///
    /// # Errors
    /// As the files.
    pub fn key(&self) -> Result<OwnKey, SshError> {
        match &self.settings.default_key {
            Some(path) => self.home.given_key(path),
            None => self.home.key_or_new(self.settings.key_kind, &self.comment()),
        }
    }

    /// The key that this user shows a device: the one by which it is reached already, unless a person has chosen one
    /// since; else as [`Here::key`].
    ///
    /// # Errors
    /// As the files.
    pub fn key_for(&self, tag: &Tag) -> Result<OwnKey, SshError> {
        if self.settings.default_key.is_none() {
            let installed = self.home.installed()?.into_iter().find(|one| one.tag == *tag);
            let own = self.home.own_keys()?;
            let used = installed.and_then(|one| one.host).and_then(|host| {
                let ours = own.into_iter().find(|key| key.path == host.identity);
                ours.or_else(|| self.home.given_key(&host.identity).ok())
            });
            if let Some(used) = used {
                return Ok(used);
            }
        }
        self.key()
    }

    /// Keeps the kind of key that a person asked for.
    ///
    /// # Errors
    /// As the file.
    pub fn use_kind(&mut self, kind: KeyKind) -> Result<(), SshError> {
        self.settings.key_kind = kind;
        self.save()
    }

    /// What a key of ours has for a comment.
    #[must_use]
    pub fn comment(&self) -> String {
        format!("{} kinfold", self.home.user())
    }

    /// This machine's SSH server.
    #[must_use]
    pub fn sshd(&self) -> Sshd {
        let config = self.settings.sshd_config.as_deref().unwrap_or(Path::new(SSHD_CONFIG));
        let mut sshd = Sshd::read(config);
        sshd.port = self.settings.sshd_port.unwrap_or(sshd.port);
        sshd
    }

    /// The networks that a scan looks through beside those it is told.
    #[must_use]
    pub fn subnets(&self) -> Vec<Cidr> {
        self.settings.subnets.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

fn is_default(kind: &KeyKind) -> bool {
    *kind == KeyKind::default()
}

fn read(path: &Path, bytes: &[u8]) -> Result<Settings, SshError> {
    let bad = |why: &str| SshError::Settings(path.to_owned(), why.to_owned());
    let text = str::from_utf8(bytes).map_err(|_| bad("it is no text"))?;
    let settings: Settings = toml::from_str(text).map_err(|error| bad(error.message()))?;
    if settings.subnets.len() > MAX_SUBNETS {
        return Err(bad("there are too many networks in it"));
    }
    if let Some(text) = settings.subnets.iter().find(|text| text.parse::<Cidr>().is_err()) {
        return Err(bad(&format!("{text} is no network")));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn settings_are_kept_and_bad_ones_are_named() {
        let top = tempdir().expect("there is room");
        let mut here = Here::open(&top.path().join("state"), Some(top.path())).expect("is ours");
        assert_eq!(here.settings, Settings::default());
        here.settings.subnets.push("10.0.2.0/24".into());
        here.settings.sshd_port = Some(2222);
        here.save().expect("there is room");
        let again = Here::open(&top.path().join("state"), Some(top.path())).expect("is ours");
        assert_eq!(
            (&again.settings, again.sshd().port, again.subnets().len()),
            (&here.settings, 2222, 1)
        );
        for bad in ["subnet = 1", "subnets = [\"x\"]", "sshd_port = 99999", "\u{0}"] {
            let error = read(Path::new("ssh.toml"), bad.as_bytes()).expect_err(bad);
            assert!(error.to_string().starts_with("ssh.toml: "), "{error}");
        }
    }
}
