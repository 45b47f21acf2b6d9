//! `kin down`: stops the device in the background.

use std::time::Duration;

use clap::Args;
use node::api::Request;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tree::{StateDir, StateError};

use crate::{
    answers,
    device::{self, Device},
    error::{CommandError, Exit},
    output::screen::Screen,
};

/// How long a device may take to finish what is under way.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Stop the device in the background
///
/// What is under way is finished or rolled back first. Nothing is lost if it is killed; the next start takes
/// longer then.
#[derive(Args, Debug)]
pub(crate) struct DownArgs {
    /// Print a JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &DownArgs) -> Result<(), CommandError> {
    let state = device::state_dir()?;
    let Some(device) = Device::running_at(&state).await? else {
        return answers::done(
            screen,
            args.json,
            &json!({ "event": "down", "was_running": false }),
            "The device does not run.",
        );
    };
    let _: Value = device.ask(Request::Down).await?;
    let patience = Instant::now() + PATIENCE;
    // Gone is gone: whoever starts it now must find its state free.
    while is_held(&state)? || Device::running_at(&state).await?.is_some() {
        if Instant::now() > patience {
            let message = "the device was told to stop and still runs";
            return Err(CommandError::new(Exit::TimedOut, "timeout", message)
                .hint("it finishes what is under way; kin log shows what it does"));
        }
        sleep(LOOK_EVERY).await;
    }
    let said = "The device has stopped.";
    answers::done(screen, args.json, &json!({ "event": "down", "was_running": true }), said)
}

fn is_held(state: &std::path::Path) -> Result<bool, CommandError> {
    match StateDir::open(state).and_then(|state| state.lock()) {
        Ok(_) => Ok(false),
        Err(StateError::Locked { .. }) => Ok(true),
        Err(error) => Err(device::explain(error)),
    }
}
