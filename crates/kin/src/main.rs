//! `kin`: the command line. It reads arguments, prints, asks and exits; what a device does is crate
//! `node`'s part.

mod check;
mod cli;
mod commands;
mod config;
mod error;
mod escape;
mod input;
mod logging;
mod once;
mod output;
mod passphrase;
mod prompt;
mod session;
mod settings;
mod signals;
mod start;

fn main() -> std::process::ExitCode {
    cli::main()
}
