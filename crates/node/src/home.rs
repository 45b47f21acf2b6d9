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
/// What a device that has been in use has: its groups and folders.
pub(crate) const DATABASE: &str = "state.db";
/// Is there since the database first held a group.
pub(crate) const USED: &str = "state.used";
/// What is in it, for people.
pub(crate) const USED_TEXT: &[u8] =
    b"This device has been in a group: what it knows is in state.db. Without that file kin makes no new one in silence.\n";
/// The keys that a rotation will put in their places.
const NEXT: [&str; 2] = ["device.key.next", "inbox.key.next"];
/// Inbox keys of before, each with the time when it is destroyed.
const OLD_INBOX_KEYS: &str = "inbox.key.old";

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
    /// A key is not there, of a device that has been in use.
    #[error("{} is not there, though this device has been in use", .0.display())]
    Missing(PathBuf),
    /// New keys would lie in a folder, from which they would go to whoever has it.
    #[error("{} lies in a folder, {}: this device's keys never travel", .dir.display(), .folder.display())]
    InFolder {
        /// Where the keys were to be.
        dir: PathBuf,
        /// The folder.
        folder: PathBuf,
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
            Self::State(StateError::NotAFile(_)) | Self::Key { .. } | Self::Missing(_) => "bad_key",
            Self::State(StateError::Locked { .. }) => "in_use",
            Self::InFolder { .. } => "holds_keys",
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
            Self::InFolder { .. } => {
                Some("set KIN_HOME to a directory that is in no folder".to_owned())
            }
            Self::State(StateError::Locked { .. }) => {
                Some("wait until it has ended, or stop it".to_owned())
            }
            Self::State(StateError::NotAFile(path)) | Self::Key { path, .. } => Some(format!(
                "restore it from a backup; without one, move {} away: a new key is a new device",
                path.display()
            )),
            Self::Missing(path) => Some(format!(
                "restore it from a backup; without one, move {} away: a new key is a new device",
                path.parent().unwrap_or(path).display()
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
    /// If the directory or a key cannot be used. A key that is damaged, or missing of a device that has been in use, is
    /// never replaced: who belongs to its groups is known by that key alone.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        refuse_in_folder(dir)?;
        let state = StateDir::open(dir)?;
        // Made once both keys were there.
        if state.holds(DATABASE)? {
            for name in [DEVICE_KEY, INBOX_KEY] {
                if !state.holds(name)? {
                    return Err(HomeError::Missing(state.path().join(name)));
                }
            }
        }
        Self::read(&state, [DEVICE_KEY, INBOX_KEY])
    }

    fn read(state: &StateDir, [device, inbox]: [&str; 2]) -> Result<Self, HomeError> {
        let device = device_key(state, device)?;
        let seed = seed(state, inbox, SeedKind::Inbox)?;
        Ok(Self { device, inbox: InboxKey::from_seed(seed).map_err(bad(state, inbox))? })
    }

    /// Makes the keys of a rotation that is about to begin; what another one left is thrown away.
    pub(crate) fn next(state: &StateDir) -> Result<Self, HomeError> {
        Self::drop_next(state)?;
        Self::read(state, NEXT)
    }

    /// Throws away the keys of a rotation that came to nothing.
    pub(crate) fn drop_next(state: &StateDir) -> Result<(), HomeError> {
        Ok(NEXT.into_iter().try_for_each(|name| state.remove(name))?)
    }

    /// Puts the next keys in the places of the present ones, and keeps the old inbox key until `until`
    /// (seconds since 1970). Done again after a crash, it goes on where it stopped.
    pub(crate) fn take_next(state: &StateDir, until: i64) -> Result<(), HomeError> {
        // The device key is the last to go: without it all is done.
        let Some(device) = state.read(NEXT[0])?.map(Secret::new) else {
            return Self::drop_next(state);
        };
        let present = Self::read(state, [DEVICE_KEY, INBOX_KEY])?;
        let next = device_key(state, NEXT[0])?;
        if present.device() != next.id() {
            keep_old(state, &present, until)?;
            state.replace(DEVICE_KEY, device.expose())?;
        }
        if let Some(inbox) = state.read(NEXT[1])?.map(Secret::new) {
            state.replace(INBOX_KEY, inbox.expose())?;
        }
        Ok(NEXT.into_iter().rev().try_for_each(|name| state.remove(name))?)
    }

    /// The device's id.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device.id()
    }

    /// The keys themselves, for the device that runs.
    #[must_use]
    pub fn into_keys(self) -> (DeviceKey, InboxKey) {
        (self.device, self.inbox)
    }

    /// The public half of the key that sealed envelopes are addressed to.
    #[must_use]
    pub fn inbox(&self) -> identity::InboxId {
        self.inbox.id()
    }
}

/// Refuses a directory in a folder for new keys, before anything is made there. Of keys that are there already, the folder
/// itself is refused.
pub(crate) fn refuse_in_folder(dir: &Path) -> Result<(), HomeError> {
    let is_there = |name: &str| tree::file_identity(&dir.join(name)).is_ok();
    match tree::folder_around(dir).filter(|_| !is_there(DEVICE_KEY) && !is_there(DATABASE)) {
        None => Ok(()),
        Some(folder) => Err(HomeError::InFolder { dir: dir.to_owned(), folder }),
    }
}

/// An inbox key of before a rotation: what was on its way to it can still be read (rule T13).
#[derive(Debug)]
pub(crate) struct OldInbox {
    /// The device id that went with it.
    pub(crate) device: DeviceId,
    pub(crate) key: InboxKey,
    /// When it is destroyed, in seconds since 1970.
    pub(crate) until: i64,
}

/// The inbox keys of before that are still kept at `now`; those whose time is over are destroyed.
pub(crate) fn old_inboxes(state: &StateDir, now: i64) -> Result<Vec<OldInbox>, HomeError> {
    let all = read_old(state)?;
    let kept: Vec<&OldLine> = all.iter().filter(|line| line.until > now).collect();
    if kept.len() < all.len() {
        write_old(state, &kept)?;
    }
    let path = state.path().join(OLD_INBOX_KEYS);
    let read = |line: &OldLine| {
        let key = SeedKind::Inbox.parse(line.seed.expose()).map_err(|why| why.to_string());
        let key = key.and_then(|seed| InboxKey::from_seed(seed).map_err(|why| why.to_string()));
        let key = key.map_err(|why| HomeError::Key { path: path.clone(), why })?;
        Ok(OldInbox { device: line.device, key, until: line.until })
    };
    kept.into_iter().map(read).collect()
}

/// A line of the file: `until device seed`.
struct OldLine {
    until: i64,
    device: DeviceId,
    seed: Secret<String>,
}

fn keep_old(state: &StateDir, home: &Home, until: i64) -> Result<(), HomeError> {
    let mut lines = read_old(state)?;
    if lines.iter().any(|line| line.device == home.device()) {
        return Ok(());
    }
    let seed = SeedKind::Inbox.to_text(&seed(state, INBOX_KEY, SeedKind::Inbox)?);
    lines.push(OldLine { until, device: home.device(), seed });
    write_old(state, &lines.iter().collect::<Vec<_>>())
}

fn read_old(state: &StateDir) -> Result<Vec<OldLine>, HomeError> {
    let path = state.path().join(OLD_INBOX_KEYS);
    let bad = || HomeError::Key { path: path.clone(), why: "is not what kin wrote".to_owned() };
    let Some(bytes) = state.read(OLD_INBOX_KEYS)?.map(Secret::new) else {
        return Ok(Vec::new());
    };
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| bad())?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.split(' ');
            let (Some(until), Some(device), Some(seed), None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err(bad());
            };
            let until = until.parse().map_err(|_| bad())?;
            let device = device.parse().map_err(|_| bad())?;
            Ok(OldLine { until, device, seed: Secret::new(seed.to_owned()) })
        })
        .collect()
}

fn write_old(state: &StateDir, lines: &[&OldLine]) -> Result<(), HomeError> {
    if lines.is_empty() {
        return Ok(state.remove(OLD_INBOX_KEYS)?);
    }
    let head = "# Kinfold inbox keys of before: until when (seconds since 1970), whose, the key. kin destroys them.\n";
    let mut text = String::with_capacity(head.len() + lines.len() * 256);
    text.push_str(head);
    for line in lines {
        text.push_str(&format!("{} {} ", line.until, line.device));
        text.push_str(line.seed.expose());
        text.push('\n');
    }
    let text = Secret::new(text);
    Ok(state.replace(OLD_INBOX_KEYS, text.expose().as_bytes())?)
}

fn device_key(state: &StateDir, name: &str) -> Result<DeviceKey, HomeError> {
    DeviceKey::from_seed(&seed(state, name, SeedKind::Device)?).map_err(bad(state, name))
}

fn bad(state: &StateDir, name: &str) -> impl Fn(KeyError) -> HomeError {
    let path = state.path().join(name);
    move |why| HomeError::Key { path: path.clone(), why: why.to_string() }
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
    fn new_keys_are_not_made_in_a_folder() {
        let top = tempdir().unwrap();
        let folder = top.path().join("docs");
        fs::create_dir(&folder).unwrap();
        drop(tree::Root::open(&folder).unwrap());
        for dir in [folder.clone(), folder.join("state"), folder.join("a/b")] {
            let error = Home::open(&dir).unwrap_err();
            assert!(matches!(error, HomeError::InFolder { .. }), "{error}");
            assert_eq!(error.kind(), "holds_keys");
            assert!(!dir.join(DEVICE_KEY).exists() && (dir == folder || !dir.exists()));
        }
        Home::open(&top.path().join("state")).unwrap();
    }

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
    fn a_key_that_is_gone_of_a_device_in_use_is_an_error_and_not_made_anew() {
        for gone in [DEVICE_KEY, INBOX_KEY] {
            let top = tempdir().unwrap();
            Home::open(top.path()).unwrap();
            fs::write(top.path().join(DATABASE), "").unwrap();
            Home::open(top.path()).unwrap();
            fs::remove_file(top.path().join(gone)).unwrap();
            let error = Home::open(top.path()).unwrap_err();
            assert_eq!(error.kind(), "bad_key");
            assert!(error.to_string().contains(gone), "{error}");
            assert!(error.hint().unwrap().contains("backup"));
            assert!(!top.path().join(gone).exists());
        }
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
    fn t13_the_next_keys_take_their_places_whatever_was_done_before_a_crash() {
        let files = |top: &Path| -> Vec<(String, Vec<u8>)> {
            let entries = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
            let names = entries.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
            let mut all: Vec<_> =
                names.map(|name| (name.clone(), fs::read(top.join(name)).unwrap())).collect();
            all.sort();
            all
        };
        let top = tempdir().unwrap();
        let state = StateDir::open(top.path()).unwrap();
        let first = Home::open(top.path()).unwrap();
        let next = Home::next(&state).unwrap();
        assert_ne!(next.device(), first.device());
        let before = files(top.path());
        Home::take_next(&state, 100).unwrap();
        let after = files(top.path());
        let names: Vec<&str> = after.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, [DEVICE_KEY, INBOX_KEY, OLD_INBOX_KEYS]);
        let home = Home::open(top.path()).unwrap();
        assert_eq!((home.device(), home.inbox()), (next.device(), next.inbox()));
        let old = old_inboxes(&state, 99).unwrap();
        assert_eq!((old[0].device, old[0].key.id()), (first.device(), first.inbox()));
        // Each state that a crash can leave: some of the steps done, in their order.
        let steps = [OLD_INBOX_KEYS, DEVICE_KEY, INBOX_KEY, NEXT[1], NEXT[0]];
        for done in 0..=steps.len() {
            let top = tempdir().unwrap();
            before
                .iter()
                .for_each(|(name, bytes)| fs::write(top.path().join(name), bytes).unwrap());
            for step in &steps[..done] {
                match after.iter().find(|(name, _)| name == step) {
                    Some((name, bytes)) => fs::write(top.path().join(name), bytes).unwrap(),
                    None => fs::remove_file(top.path().join(step)).unwrap(),
                }
            }
            for (name, _) in files(top.path()) {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = fs::Permissions::from_mode(0o600);
                fs::set_permissions(top.path().join(name), mode).unwrap();
            }
            let state = StateDir::open(top.path()).unwrap();
            Home::take_next(&state, 100).unwrap();
            assert_eq!(files(top.path()), after, "after {done} steps");
        }
    }

    #[test]
    fn t13_an_old_inbox_key_is_destroyed_in_its_time() {
        let top = tempdir().unwrap();
        let state = StateDir::open(top.path()).unwrap();
        let first = Home::open(top.path()).unwrap();
        for until in [100, 200] {
            Home::next(&state).unwrap();
            Home::take_next(&state, until).unwrap();
        }
        assert_eq!(old_inboxes(&state, 99).unwrap().len(), 2);
        let left = old_inboxes(&state, 100).unwrap();
        assert_eq!((left.len(), left[0].until), (1, 200));
        assert_ne!(left[0].device, first.device());
        let text = fs::read_to_string(top.path().join(OLD_INBOX_KEYS)).unwrap();
        assert!(!text.contains(&first.device().to_string()), "it is gone from the disk, too");
        assert!(old_inboxes(&state, 200).unwrap().is_empty());
        assert!(!top.path().join(OLD_INBOX_KEYS).exists());
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
