//! `kin ssh`: keys both ways, host keys pinned, access that can be taken back. One file an action.

mod allow;
mod common;
mod config;
mod export;
mod hosts;
mod keys;
mod listen;
mod pair;
mod rotate;
mod scan;
mod sync;
mod test;
mod unpair;
mod update_ip;

use clap::{Args, Subcommand};

use crate::{error::CommandError, output::screen::Screen};

const AFTER_HELP: &str = "\
Examples:
  kin ssh sync           on both devices: each can log in to the other
  kin ssh listen         on one device, and kin ssh pair on another, which can log in here then
  kin ssh hosts          which devices can be reached, and which may come in
  kin ssh test desk      logs in to desk without asking anything
  kin ssh allow desk     lets desk, a device of your group, log in here, and this one there
  kin ssh unpair desk    takes away what was installed for desk, in both directions

docs/ssh.md says what is written into which file, and how to undo it by hand.";

/// SSH between devices: keys, host keys, and access that can be taken back
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct SshArgs {
    #[command(subcommand)]
    action: Action,

    /// Print one JSON object a line
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    Listen(listen::ListenArgs),
    Pair(pair::PairArgs),
    Sync(sync::SyncArgs),
    Scan(scan::ScanArgs),
    /// List which devices can be reached, and which may come in
    Hosts,
    Allow(allow::AllowArgs),
    Test(test::TestArgs),
    Unpair(unpair::UnpairArgs),
    Keys(keys::KeysArgs),
    Rotate(rotate::RotateArgs),
    UpdateIp(update_ip::UpdateIpArgs),
    Export(export::ExportArgs),
    Import(export::ImportArgs),
    Config(config::ConfigArgs),
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: SshArgs) -> Result<(), CommandError> {
    let json = args.json;
    match args.action {
        Action::Listen(args) => listen::run(screen, json, &args).await,
        Action::Pair(args) => pair::run(screen, json, &args).await,
        Action::Sync(args) => sync::run(screen, json, &args).await,
        Action::Scan(args) => scan::run(screen, json, &args).await,
        Action::Hosts => hosts::run(screen, json),
        Action::Test(args) => test::run(screen, json, &args).await,
        Action::Allow(args) => allow::run(screen, json, args).await,
        Action::Rotate(args) => rotate::run(screen, json, &args).await,
        Action::Export(args) => export::export(screen, &args),
        Action::Import(args) => export::import(screen, json, &args).await,
        Action::Unpair(args) => unpair::run(screen, json, &args).await,
        Action::Keys(args) => keys::run(screen, json, args).await,
        Action::UpdateIp(args) => update_ip::run(screen, json, &args),
        Action::Config(args) => config::run(screen, json, args),
    }
}
