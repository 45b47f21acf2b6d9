//! A device's identity that outlives a run: its keys in its state directory, made on first use.
//!
//! Runs of `kin sync` do not use it: their identity lives in memory only.

use std::path::{Path, PathBuf};

use identity::{DeviceId, DeviceKey, InboxKey, KeyError, Secret, SeedKind};
use tree::{StateDir, StateError};

/// The file of the device key.
const DEVICE_KEY: &str = "device.key";
/// The file of the inbox key.
const INBOX_KEY: &str = "inbox.key";

/// Why a device has no identity here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// The directory, or a file in it, cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is in a key file is no such key.
    #[error("{}: {why}", .path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

impl HomeError {
    /// A stable word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::State(StateError::NotADirectory(_)) => "not_a_directory",
            Self::State(StateError::Foreign(_) | StateError::OpenToOthers { .. }) => "permission",
            Self::State(StateError::NotAFile(_)) | Self::Key { .. } => "bad_key",
            Self::State(StateError::Locked { .. }) => "in_use",
            _ => "io",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::State(StateError::OpenToOthers { path, wanted, .. }) => Some(format!(
                "if nobody else can have used it: chmod {wanted:o} {}; a key that others may have read is lost",
                path.display()
            )),
            Self::State(StateError::Foreign(_) | StateError::NotADirectory(_)) => {
                Some("set KIN_HOME to a directory of yours".to_owned())
            }
            Self::State(StateError::Locked { .. }) => {
                Some("wait until it has ended, or stop it".to_owned())
            }
            Self::State(StateError::NotAFile(path)) | Self::Key { path, .. } => Some(format!(
                "restore it from a backup; without one, move {} away: a new key is a new device",
                path.display()
            )),
            _ => None,
        }
    }
}

/// A device's keys, read from its state directory.
#[derive(Debug)]
pub struct Home {
    device: DeviceKey,
    inbox: InboxKey,
}

impl Home {
    /// Reads the keys in `dir`, making the directory and what is missing in it. Processes that do this at
    /// the same time end with the same keys.
    ///
    /// # Errors
    /// If the directory or a key cannot be used. A key that is damaged is never replaced.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let state = StateDir::open(dir)?;
        let bad = |name| {
            move |why: KeyError| HomeError::Key { path: dir.join(name), why: why.to_string() }
        };
        let device = seed(&state, DEVICE_KEY, SeedKind::Device)?;
        let inbox = seed(&state, INBOX_KEY, SeedKind::Inbox)?;
        Ok(Self {
            device: DeviceKey::from_seed(&device).map_err(bad(DEVICE_KEY))?,
            inbox: InboxKey::from_seed(inbox).map_err(bad(INBOX_KEY))?,
        })
    }

    /// The device's id.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device.id()
    }

    /// The keys themselves, for the device that runs.
    pub(crate) fn into_keys(self) -> (DeviceKey, InboxKey) {
        (self.device, self.inbox)
    }

    /// The public half of the key that sealed envelopes are addressed to.
    #[must_use]
    pub fn inbox(&self) -> identity::InboxId {
        self.inbox.id()
    }
}

/// The seed in a file, which is made from random bytes if it is not there.
fn seed(state: &StateDir, name: &str, kind: SeedKind) -> Result<Secret<[u8; 32]>, HomeError> {
    let bad = |why: String| HomeError::Key { path: state.path().join(name), why };
    loop {
        if let Some(bytes) = state.read(name)? {
            let bytes = Secret::new(bytes);
            let text =
                std::str::from_utf8(bytes.expose()).map_err(|_| bad("is not text".into()))?;
            // Lines for people begin with #.
            let line = text.lines().find(|line| !line.trim_start().starts_with('#'));
            return kind.parse(line.unwrap_or_default()).map_err(|why| bad(why.to_string()));
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| HomeError::Random(error.to_string()))?;
        let text = kind.to_text(&Secret::new(random));
        let mut file = String::with_capacity(512);
        file.push_str(match kind {
            SeedKind::Device => {
                "# Kinfold device key. Who has it is this device: show it to nobody, and do not copy it to another device.\n"
            }
            SeedKind::Inbox => "# Kinfold inbox key. Who has it can read what is sealed to this device.\n",
        });
        file.push_str(text.expose());
        file.push('\n');
        let file = Secret::new(file);
        // Whoever comes second reads what the first has made.
        state.create(name, file.expose().as_bytes())?;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk from outside")]
mod tests {
    use std::fs;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn keys_are_made_once_and_found_again() {
        let top = tempdir().unwrap();
        let dir = top.path().join("kin");
        let first = Home::open(&dir).unwrap();
        let again = Home::open(&dir).unwrap();
        assert_eq!((first.device(), first.inbox()), (again.device(), again.inbox()));
        let other = Home::open(&top.path().join("other")).unwrap();
        assert_ne!(first.device(), other.device());
        assert_ne!(first.inbox(), other.inbox());
    }

    #[test]
    fn a_crash_between_the_two_keys_leaves_the_first() {
        let top = tempdir().unwrap();
        let first = Home::open(top.path()).unwrap();
        fs::remove_file(top.path().join(INBOX_KEY)).unwrap();
        let again = Home::open(top.path()).unwrap();
        assert_eq!(first.device(), again.device());
        assert_ne!(first.inbox(), again.inbox());
    }

    #[test]
    fn a_damaged_or_exchanged_key_is_an_error_and_stays() {
        let top = tempdir().unwrap();
        Home::open(top.path()).unwrap();
        let (device, inbox) = (top.path().join(DEVICE_KEY), top.path().join(INBOX_KEY));
        let whole = fs::read_to_string(&device).unwrap();
        for damaged in
            [&whole[..whole.len() - 2], "", "# nothing\n", &fs::read_to_string(&inbox).unwrap()]
        {
            fs::write(&device, damaged).unwrap();
            let error = Home::open(top.path()).unwrap_err();
            assert_eq!(error.kind(), "bad_key");
            let message = error.to_string();
            assert!(message.contains("device.key") && !message.contains("key-1"), "{message}");
            assert!(error.hint().unwrap().contains("backup"));
            assert_eq!(fs::read_to_string(&device).unwrap(), damaged);
        }
    }

    #[test]
    fn attack_15_a_key_is_not_in_debug_output() {
        let top = tempdir().unwrap();
        let home = Home::open(top.path()).unwrap();
        let text = fs::read_to_string(top.path().join(DEVICE_KEY)).unwrap();
        let secret = text.lines().last().unwrap();
        assert!(secret.starts_with("kin-device-key-1"));
        let shown = format!("{home:?}");
        assert!(shown.contains("Secret(…)") && !shown.contains(&secret[16..40]), "{shown}");
    }
}
