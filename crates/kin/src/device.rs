//! How a command gets at this machine's device: the one that runs in the background, by its socket, or
//! else one within the command itself.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use node::api::{ApiEvent, Client, Failure, Request, Service, socket_path};
use serde::de::DeserializeOwned;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tree::{StateError, StateLock};

use crate::{
    check, config,
    error::{CommandError, Exit},
};

/// How long a command waits for another one to be done with the state, and for a device that is coming up
/// to listen.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A device within this process.
pub(crate) struct Opened {
    pub(crate) device: node::device::Device,
    /// Held as long as the device is there; whoever holds it may make the socket.
    pub(crate) lock: StateLock,
}

/// This machine's device.
pub(crate) struct Device {
    service: Arc<dyn Service>,
    /// The device itself, where it is in this process, and what keeps other processes out.
    within: Option<(node::device::Device, StateLock)>,
}

impl Device {
    /// The running device, or one within this process.
    ///
    /// # Errors
    /// If there is no place for its state, or another process holds it.
    pub(crate) async fn reach() -> Result<Self, CommandError> {
        let state = state_dir()?;
        let patience = Instant::now() + PATIENCE;
        loop {
            if let Some(device) = Self::running_at(&state).await? {
                return Ok(device);
            }
            match open(&state) {
                Ok(Opened { device, lock }) => {
                    let service = Arc::new(device.clone());
                    return Ok(Self { service, within: Some((device, lock)) });
                }
                // Another command, most likely, or a device that has just begun.
                Err(error) if error.kind == "in_use" && Instant::now() < patience => {
                    sleep(LOOK_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The running device; `None` if none runs.
    ///
    /// # Errors
    /// If it cannot be talked to.
    pub(crate) async fn running() -> Result<Option<Self>, CommandError> {
        Self::running_at(&state_dir()?).await
    }

    /// As [`Device::running`], for a state directory.
    pub(crate) async fn running_at(state: &Path) -> Result<Option<Self>, CommandError> {
        let client = Client::connect(&socket(state)?).await?;
        Ok(client.map(|client| Self { service: Arc::new(client), within: None }))
    }

    /// True if the device is within this command, and ends with it.
    pub(crate) fn is_within(&self) -> bool {
        self.within.is_some()
    }

    /// Asks for something that has one answer.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<T, CommandError> {
        let answer = self.service.request(request).await?;
        serde_json::from_value(answer).map_err(|error| {
            CommandError::failed(
                "protocol",
                &format!("the device's answer is not understood: {error}"),
            )
            .hint("is it another version? stop it with kin down and start it again with kin up")
        })
    }

    /// Ends what was begun within this process: what is under way is finished, and others are told. A device
    /// that runs in the background stays.
    pub(crate) async fn close(self) {
        if let Some((device, _lock)) = self.within {
            device.stop().await;
        }
    }

    /// Begins something that tells what happens.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) async fn stream(
        &self,
        request: Request,
    ) -> Result<mpsc::Receiver<ApiEvent>, CommandError> {
        Ok(self.service.stream(request).await?)
    }
}

/// Where this device's state is.
///
/// # Errors
/// If the environment does not say.
pub(crate) fn state_dir() -> Result<PathBuf, CommandError> {
    config::state_dir(|name| env::var_os(name)).ok_or_else(|| {
        CommandError::failed("no_home", "there is no place for this device's keys")
            .hint("set KIN_HOME to a directory of yours, or HOME")
    })
}

/// The directory of the user's login, where a socket may be whose path would be too long otherwise.
pub(crate) fn runtime_dir() -> Option<PathBuf> {
    env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// Where the device of a state directory listens.
///
/// # Errors
/// If there is no place for a socket.
pub(crate) fn socket(state: &Path) -> Result<PathBuf, CommandError> {
    Ok(socket_path(state, runtime_dir().as_deref())?)
}

/// True if this machine has a device: its key is there.
pub(crate) fn exists() -> bool {
    state_dir().is_ok_and(|state| state.join("device.key").is_file())
}

/// Opens the device of a state directory within this process.
///
/// # Errors
/// `in_use` if another process has it.
pub(crate) fn open(state: &Path) -> Result<Opened, CommandError> {
    open_with(state, node::device::Settings::new(&check::default_name()))
}

/// The same, where a person has other wishes.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_with(
    state: &Path,
    mut settings: node::device::Settings,
) -> Result<Opened, CommandError> {
    settings.ssh = match crate::ssh_files::instead() {
        Some(dir) => node::device::SshHome::At(dir),
        None => node::device::SshHome::User,
    };
    let (device, lock) = node::device::open(state, settings)?;
    Ok(Opened { device, lock })
}

/// What a device answers instead of doing it. Its texts are unescaped.
impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        let exit = match failure.exit {
            2 => Exit::Usage,
            3 => Exit::Refused,
            4 => Exit::TimedOut,
            _ => Exit::Failed,
        };
        Self::new(exit, failure.kind, &failure.message).hint(&failure.hint)
    }
}

/// Why the state directory cannot be used, and what to do.
pub(crate) fn explain(error: StateError) -> CommandError {
    match error {
        StateError::Locked { .. } => CommandError::failed("in_use", &error.to_string())
            .hint("it does not listen: wait until it has ended, or stop it"),
        error => {
            let error = node::HomeError::from(error);
            CommandError::failed(error.kind(), &error.to_string())
                .hint(&error.hint().unwrap_or_default())
        }
    }
}
