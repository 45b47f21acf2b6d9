//! `kin relay`: runs a relay here.

use std::io;

use clap::Args;
use relay::operate::{self, OperateError, Operated, Options};
use serde_json::json;

use crate::{
    answers,
    error::CommandError,
    output::{json::Json, screen::Screen},
    past, signals,
};

const AFTER_HELP: &str = "\
A relay stores and forwards what it cannot read, so that devices reach each other where they cannot connect directly.
Everything can also be said in the environment (KIN_RELAY_LISTEN and so on) and in a file (--config).
Examples:
  kin relay                                         on port 8443; prints the address that devices use
  kin relay --host relay.example.org --listen :443
  kin relay --metrics 127.0.0.1:9443 --dir /srv/relay";

/// Run a relay
///
/// Prints the relay's address and answers until Ctrl-C. docs/relay.md is the operator's guide.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct RelayArgs {
    #[command(flatten)]
    options: Options,
    /// Events on standard output, one JSON object a line
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

impl From<OperateError> for CommandError {
    fn from(error: OperateError) -> Self {
        let make = if error.is_usage() { Self::usage } else { Self::failed };
        make(error.kind(), &error.to_string()).hint(error.hint())
    }
}

/// Runs it until it is asked to stop.
pub(crate) async fn run(screen: &Screen, args: RelayArgs) -> Result<(), CommandError> {
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let relay = operate::start(args.options).await?;
    let Operated { address, port, store, .. } = &relay;
    let address = address.to_string();
    if args.json {
        let line =
            json!({ "event": "listening", "address": address, "port": port, "store": store });
        past::written(Json::new(io::stdout()).value(&line))?;
    } else {
        operate::words(&relay).iter().for_each(|line| screen.line(line));
        answers::lines(&[address])?;
    }
    relay
        .run(async {
            stop_asked.recv().await;
        })
        .await;
    Ok(())
}
