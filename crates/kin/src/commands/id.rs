//! `kin id`: this device's id.

use std::io::{self, Write as _};

use clap::Args;
use node::Home;
use serde::Serialize;

use crate::{device, error::CommandError};

const AFTER_HELP: &str = "\
The id is made on first use, with the keys it belongs to, in KIN_HOME if that is set, else in \
$XDG_STATE_HOME/kin (~/.local/state/kin). It may be shown to anybody; the keys may not. \
kin sync does not use it: its identity lives in memory only.";

/// Print this device's id
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct IdArgs {
    /// Print an object in JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Line {
    event: &'static str,
    device: String,
}

/// Prints it.
pub(crate) fn run(args: &IdArgs) -> Result<(), CommandError> {
    let device = open()?.device().to_string();
    let line = if args.json {
        serde_json::to_string(&Line { event: "id", device })
            .map_err(|error| CommandError::failed("output", &error.to_string()))?
    } else {
        device
    };
    writeln!(io::stdout(), "{line}").map_err(|error| {
        CommandError::failed("output", &format!("standard output is closed: {error}"))
    })
}

/// This device's identity, made if there is none yet.
fn open() -> Result<Home, CommandError> {
    Home::open(&device::state_dir()?).map_err(|error| {
        CommandError::failed(error.kind(), &error.to_string())
            .hint(&error.hint().unwrap_or_default())
    })
}
