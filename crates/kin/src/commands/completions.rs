//! `kin completions` and `kin man`: what a shell and man(1) know of the commands, made from them.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Args;
use clap_complete::Shell;

use crate::{error::CommandError, past, start};

const AFTER_HELP: &str = "\
Examples:
  kin completions bash > ~/.local/share/bash-completion/completions/kin
  kin completions zsh > ~/.zfunc/_kin       with ~/.zfunc in fpath
  kin completions fish > ~/.config/fish/completions/kin.fish";

/// Print what a shell needs to complete kin's commands and flags
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual page, or write all pages
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Write kin.1 and a page for each command to this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs `kin completions` to its end.
pub(crate) fn run(args: &CompletionsArgs, mut command: clap::Command) -> Result<(), CommandError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "kin", &mut text);
    past::written(io::stdout().write_all(&text))
}

/// Runs `kin man` to its end.
pub(crate) fn run_man(args: &ManArgs, command: clap::Command) -> Result<(), CommandError> {
    if let Some(dir) = &args.dir {
        start::check_dir(dir)?;
        return clap_mangen::generate_to(command, dir).map_err(|error| {
            CommandError::failed("io", &format!("{}: {error}", dir.display()))
                .hint("give a directory that you can write to")
        });
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(|error| CommandError::failed("io", &error.to_string()))?;
    past::written(io::stdout().write_all(&text))
}
