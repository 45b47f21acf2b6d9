//! `kin ssh listen`: lets another device log in here.

use std::time::Duration;

use clap::Args;
use ssh::meet::Target;
use wire::ssh::Purpose;

use super::common::{CommonArgs, Given, LetInArgs};
use crate::{error::CommandError, meeting, output::screen::Screen};

const AFTER_HELP: &str = "\
Both devices show the same words and numbers, or somebody sits in between: then answer n. \
Nothing is installed before both people have said yes. kin ssh unpair NAME takes it back.";

/// Let another device log in here, which runs kin ssh pair
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    common: CommonArgs,

    #[command(flatten)]
    let_in: LetInArgs,

    /// Go on after the first device, until Ctrl-C
    #[arg(short, long)]
    continuous: bool,

    /// Give up after this many seconds [default: never]
    #[arg(short, long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
}

/// Runs it to its end.
pub(super) async fn run(
    screen: &Screen,
    json: bool,
    args: &ListenArgs,
) -> Result<(), CommandError> {
    let setup = Given {
        purpose: Purpose::Listen,
        common: &args.common,
        let_in: Some(&args.let_in),
        log_in: None,
        target: Target::Any,
        continuous: args.continuous,
        timeout: args.timeout.map(Duration::from_secs),
    }
    .setup()
    .await?;
    meeting::run(screen, json, setup).await
}
