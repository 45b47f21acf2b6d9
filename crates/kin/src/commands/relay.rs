//! `kin relay`: runs a relay here, or says which relays this device uses.

use std::io;

use clap::{Args, Subcommand};
use node::api::{RelayLine, Request};
use relay::operate::{self, OperateError, Operated, Options};
use serde_json::json;

use crate::{
    answers,
    device::Device,
    error::CommandError,
    escape::escape,
    output::{json::Json, screen::Screen, table::table},
    past, signals,
};

const AFTER_HELP: &str = "\
A relay stores and forwards what it cannot read, so that devices reach each other where they cannot connect directly. \
Everything can also be said in the environment (KIN_RELAY_LISTEN and so on) and in a file (--config).
Examples:
  kin relay                                         on port 8443; prints the address that devices use
  kin relay --host relay.example.org --listen :443
  kin relay --metrics 127.0.0.1:9443 --dir /srv/relay
  kin relay use kin:relay/relay.example.org:443/kr1…   this device uses it from now on";

/// Run a relay, or say which relays this device uses
///
/// Prints the relay's address and answers until Ctrl-C. docs/relay.md is the operator's guide.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct RelayArgs {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    options: Options,
    /// Events on standard output, one JSON object a line
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Use a relay from now on, for what cannot go directly
    Use {
        /// Its address, as kin relay prints it there
        #[arg(value_name = "kin:relay/…")]
        relay: String,
        /// Print the relay as a JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the relays that this device uses
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Use a relay no more
    Forget {
        /// Its address, or its host
        #[arg(value_name = "kin:relay/…")]
        relay: String,
        /// Print the relay as a JSON object
        #[arg(long)]
        json: bool,
    },
}

impl RelayArgs {
    /// True if events and errors are to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        match &self.action {
            None => self.json,
            Some(
                Action::Use { json, .. } | Action::List { json } | Action::Forget { json, .. },
            ) => *json,
        }
    }
}

impl From<OperateError> for CommandError {
    fn from(error: OperateError) -> Self {
        let make = if error.is_usage() { Self::usage } else { Self::failed };
        make(error.kind(), &error.to_string()).hint(error.hint())
    }
}

/// Runs it until it is asked to stop.
pub(crate) async fn run(screen: &Screen, args: RelayArgs) -> Result<(), CommandError> {
    if let Some(action) = args.action {
        return used(screen, action).await;
    }
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

/// What is about the relays that this device uses.
async fn used(screen: &Screen, action: Action) -> Result<(), CommandError> {
    let device = Device::reach().await?;
    let runs = !device.is_within();
    let (request, json) = match action {
        Action::Use { relay, json } => (Request::UseRelay { relay }, json),
        Action::Forget { relay, json } => (Request::ForgetRelay { relay }, json),
        Action::List { json } => {
            let relays: Result<Vec<RelayLine>, _> = device.ask(Request::Relays).await;
            device.close().await;
            let relays = relays?;
            if json {
                return answers::json(&relays);
            }
            if relays.is_empty() {
                screen.line("This device uses no relay. kin relay use ADDRESS adds one.");
            }
            let row = |line: &RelayLine| vec![escape(&line.relay), state(line, runs)];
            return answers::lines(&table(&relays.iter().map(row).collect::<Vec<_>>()));
        }
    };
    let uses = matches!(request, Request::UseRelay { .. });
    let relay: Result<RelayLine, _> = device.ask(request).await;
    device.close().await;
    let relay = relay?;
    let host = escape(&relay.relay);
    let said = match (uses, runs) {
        (true, true) => format!(
            "This device uses {host} from now on. kin relay list says whether it is reached."
        ),
        (true, false) => format!("This device uses {host} from now on, once it runs: kin up"),
        (false, _) => format!("This device does not use {host} any more."),
    };
    answers::done(screen, json, &relay, &said)
}

fn state(line: &RelayLine, runs: bool) -> String {
    let waiting = match line.waiting {
        0 => String::new(),
        1 => ", one letter waits".to_owned(),
        more => format!(", {more} letters wait"),
    };
    let state = match (line.connected, line.trouble.as_str()) {
        _ if !runs => "the device does not run: kin up".to_owned(),
        (true, _) => "connected".to_owned(),
        (false, "") => "connecting".to_owned(),
        (false, trouble) => format!("not reached: {}", escape(trouble)),
    };
    format!("{state}{waiting}")
}
