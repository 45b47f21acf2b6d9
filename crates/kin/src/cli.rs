//! The command line's outermost layer: parse, run a command, say how it ended, exit.

use std::process::ExitCode;

use clap::{
    CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ErrorKind},
};

use crate::{
    commands::{
        codes, completions, conflicts, demo, devices, down, folders, group, history, id, join, log,
        pair, relay, restore, service, share, ssh, status, sync, torture, undo, up, why,
    },
    error::CommandError,
    handover, logging,
    output::{Output as _, json::Json, screen::Screen, terminal::show_error},
};

/// Keep a folder in step between your devices, with nobody in between.
#[derive(Parser, Debug)]
#[command(name = "kin", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "See what it does on this machine alone: kin demo\nThen, on two devices: kin sync ~/Shared"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Sync(Box<sync::SyncArgs>),
    Pair(Box<pair::PairArgs>),
    Devices(devices::DevicesArgs),
    Share(share::ShareArgs),
    Join(Box<join::JoinArgs>),
    Codes(codes::CodesArgs),
    Folders(folders::FoldersArgs),
    Status(status::StatusArgs),
    Ssh(Box<ssh::SshArgs>),
    Up(up::UpArgs),
    Down(down::DownArgs),
    Log(log::LogArgs),
    Service(service::ServiceArgs),
    Group(group::GroupArgs),
    Leave(group::LeaveArgs),
    Conflicts(conflicts::ConflictsArgs),
    Why(why::WhyArgs),
    Undo(undo::UndoArgs),
    History(history::HistoryArgs),
    Restore(restore::RestoreArgs),
    Relay(Box<relay::RelayArgs>),
    Demo(demo::DemoArgs),
    Id(id::IdArgs),
    Torture(torture::TortureArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) if gives_passphrase(&error) => {
            let error = CommandError::usage("passphrase", "a passphrase is no argument: others on this machine can read those")
                .hint("say --passphrase alone and type it when you are asked, or keep it in a file: --passphrase-file FILE");
            show_error(&Screen::stderr(), &error);
            return error.exit.into();
        }
        Err(error) => error.exit(),
    };
    let exposed = match &command {
        Command::Pair(args) => args.exposed_token(),
        Command::Join(args) => args.exposed_code(),
        _ => None,
    };
    if let Some(secret) = exposed {
        handover::hand_over(secret);
    }
    let (json, verbose) = match &command {
        Command::Sync(args) => (args.json, args.verbose),
        Command::Pair(args) => (args.json, 0),
        Command::Devices(args) => (args.json, 0),
        Command::Share(args) => (args.json, 0),
        Command::Join(args) => (args.json, 0),
        Command::Codes(args) => (args.json, 0),
        Command::Folders(args) => (args.json, 0),
        Command::Status(args) => (args.json, 0),
        Command::Ssh(args) => (args.json, 0),
        Command::Up(args) => (args.json, 0),
        Command::Down(args) => (args.json, 0),
        Command::Log(args) => (args.json, 0),
        Command::Service(args) => (args.json, 0),
        Command::Group(args) => (args.json, 0),
        Command::Leave(args) => (args.json, 0),
        Command::Completions(_) | Command::Man(_) => (false, 0),
        Command::Conflicts(args) => (args.json, 0),
        Command::Why(args) => (args.json, 0),
        Command::Undo(args) => (args.json, 0),
        Command::History(args) => (args.json, args.verbose),
        Command::Restore(args) => (args.json, args.verbose),
        Command::Relay(args) => (args.is_json(), 1),
        Command::Demo(args) => (args.json, args.verbose),
        Command::Id(args) => (args.json, 0),
        Command::Torture(args) => (args.json, args.verbose),
    };
    let screen = if json { Screen::plain() } else { Screen::stderr() };
    if !matches!(command, Command::Up(_)) {
        logging::start(verbose, &screen);
    }
    match run(&screen, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if json {
                Json::new(std::io::stdout()).error(&error);
            } else {
                screen.clear();
                show_error(&screen, &error);
            }
            error.exit.into()
        }
    }
}

/// True for `--passphrase=SECRET`, which the parser's own words would repeat.
fn gives_passphrase(error: &clap::Error) -> bool {
    let about = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    error.kind() == ErrorKind::TooManyValues
        && about.is_some_and(|about| about.starts_with("--passphrase"))
}

fn run(screen: &Screen, command: Command) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| CommandError::failed("io", &format!("cannot start threads: {error}")))?;
    let ended = runtime.block_on(async {
        match command {
            Command::Sync(args) => sync::run(screen, &args).await,
            Command::Pair(args) => pair::run(screen, &args).await,
            Command::Devices(args) => devices::run(screen, args).await,
            Command::Share(args) => share::run(screen, args).await,
            Command::Join(args) => join::run(screen, *args).await,
            Command::Codes(args) => codes::run(screen, args).await,
            Command::Folders(args) => folders::run(screen, args).await,
            Command::Status(args) => status::run(screen, &args).await,
            Command::Ssh(args) => ssh::run(screen, *args).await,
            Command::Up(args) => up::run(screen, &args).await,
            Command::Down(args) => down::run(screen, &args).await,
            Command::Log(args) => log::run(screen, &args).await,
            Command::Service(args) => service::run(screen, &args),
            Command::Group(args) => group::run(screen, args).await,
            Command::Leave(args) => group::run_leave(screen, args).await,
            Command::Completions(args) => completions::run(&args, Cli::command()),
            Command::Man(args) => completions::run_man(&args, Cli::command()),
            Command::Demo(args) => demo::run(screen, &args).await,
            Command::Id(args) => id::run(&args),
            Command::Torture(args) => torture::run(screen, &args).await,
            Command::Conflicts(args) => conflicts::run(screen, args).await,
            Command::Why(args) => why::run(args).await,
            Command::Undo(args) => undo::run(screen, args).await,
            Command::History(args) => history::run(screen, &args).await,
            Command::Restore(args) => restore::run(screen, &args).await,
            Command::Relay(args) => relay::run(screen, *args).await,
        }
    });
    // What still blocks (a read of standard input) must not keep the process.
    runtime.shutdown_background();
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../../docs/cli.md");

    /// Help is wrapped where the terminal ends: a line that is broken by hand is broken twice.
    #[test]
    fn prose_in_help_is_not_broken_by_hand() {
        fn look(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = help.lines().collect();
            for pair in lines.windows(2) {
                let prose =
                    |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
                let by_hand = prose(pair[0]) && prose(pair[1]);
                assert!(!by_hand || pair[0].len() < 60, "{}: {pair:?}", command.get_name());
            }
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_reference_names_every_command_and_flag() {
        for command in Cli::command().get_subcommands() {
            let title = format!("## `kin {}", command.get_name());
            let section =
                REFERENCE.split("\n## ").find(|part| format!("## {part}").starts_with(&title));
            let section = section.expect("each command has a section of its own");
            let inner = command.get_subcommands().flat_map(clap::Command::get_arguments);
            let shown = command.get_arguments().chain(inner).filter(|arg| !arg.is_hide_set());
            for arg in shown {
                let long = arg.get_long().map(|long| format!("`--{long}"));
                let short = arg.get_short().map(|short| format!("`-{short}"));
                let names = [long, short];
                for name in names.into_iter().flatten() {
                    assert!(section.contains(&name), "docs/cli.md, {title}: {name} is missing");
                }
            }
        }
    }

    #[test]
    fn the_reference_names_every_config_key_event_and_exit_code() {
        for key in [
            "path",
            "port",
            "name",
            "peer",
            "no_discovery",
            "exclude",
            "topic",
            "max_concurrent_transfers",
            "max_deletes",
            "history_days",
            "history_share",
        ] {
            assert!(REFERENCE.contains(&format!("| `{key}` |")), "{key} is missing");
        }
        for event in [
            "listening",
            "peer_found",
            "confirm",
            "comparing",
            "confirm_withdrawn",
            "peer_connected",
            "peer_disconnected",
            "progress",
            "in_sync",
            "applied",
            "conflict",
            "brake",
            "skipped",
            "mended",
            "history",
            "restored",
            "error",
            "torture",
            "tortured",
        ] {
            assert!(REFERENCE.contains(&format!("| `{event}` |")), "{event} is missing");
        }
        for code in [0, 1, 2, 3, 4, 130] {
            assert!(REFERENCE.contains(&format!("\n| {code} |")), "exit code {code} is missing");
        }
    }
}
