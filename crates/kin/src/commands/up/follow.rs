//! The config file of a device that runs: read at its start, and again when it changes.

use std::time::Duration;

use node::{
    api::Failure,
    device::{Device, Online, Settings},
};
use tokio::time::sleep;

use crate::{error::CommandError, settings};

/// How often the file is read. It is small; and a directory that is not there yet cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the flags and the file come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wished {
    port: Option<u16>,
    no_discovery: bool,
    pub(super) settings: Settings,
    pub(super) online: Online,
}

impl Wished {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is wrong.
    pub(super) fn read(port: Option<u16>, no_discovery: bool) -> Result<Self, CommandError> {
        let config = settings::read()?;
        let (settings, online) = settings::of_device(port, no_discovery, &config)?;
        Ok(Self { port, no_discovery, settings, online })
    }
}

/// Has the device do what the file says whenever that changes. A file that is wrong changes nothing, and is told
/// of once.
pub(super) async fn follow(device: Device, mut wished: Wished) {
    let mut wrong = None;
    loop {
        sleep(LOOK_EVERY).await;
        let next = match Wished::read(wished.port, wished.no_discovery) {
            Ok(next) => next,
            Err(error) => {
                let said = Failure::failed(&error.kind, &error.message)
                    .hint("mend it; until then what it said before counts");
                if wrong.as_ref() != Some(&said) {
                    device.complain(&said);
                    device.note_settings(Some(&said));
                    wrong = Some(said);
                }
                continue;
            }
        };
        if wrong.take().is_some() {
            device.note_settings(None);
        }
        if next == wished {
            continue;
        }
        tracing::info!("the config file has changed");
        if let Err(failure) = device.configure(next.settings.clone(), next.online).await {
            device.complain(&failure);
        }
        wished = next;
    }
}
