//! `kin ssh sync`: two devices become able to log in to each other.

use std::time::Duration;

use clap::Args;
use ssh::meet::Target;
use wire::ssh::Purpose;

use super::common::{CommonArgs, Given, LetInArgs, LogInArgs};
use crate::{error::CommandError, meeting, output::screen::Screen};

const AFTER_HELP: &str = "\
Run it on both devices. Both show the same words and numbers, or somebody sits in between: then \
answer n. Nothing is installed before both people have said yes. kin ssh unpair NAME takes it back.";

/// Make two devices able to log in to each other: run it on both
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct SyncArgs {
    #[command(flatten)]
    common: CommonArgs,

    #[command(flatten)]
    let_in: LetInArgs,

    #[command(flatten)]
    log_in: LogInArgs,

    /// Give up after this many seconds
    #[arg(short, long, value_name = "SECS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// Runs it to its end.
pub(super) async fn run(screen: &Screen, json: bool, args: &SyncArgs) -> Result<(), CommandError> {
    let setup = Given {
        purpose: Purpose::Sync,
        common: &args.common,
        let_in: Some(&args.let_in),
        log_in: Some(&args.log_in),
        target: Target::Any,
        continuous: false,
        timeout: Some(Duration::from_secs(args.timeout)),
    }
    .setup()
    .await?;
    meeting::run(screen, json, setup).await
}
