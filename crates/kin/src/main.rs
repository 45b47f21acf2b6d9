//! `kin`: the command line. It reads arguments, prints, asks and exits; what a device does is crate
//! `node`'s part.

mod answers;
mod ceremony;
mod check;
mod cli;
mod commands;
mod config;
mod device;
mod error;
mod escape;
mod folders;
mod given;
mod handover;
mod input;
mod logging;
mod meeting;
mod notify;
mod once;
mod output;
mod passphrase;
mod past;
mod prompt;
mod qr;
mod session;
mod settings;
mod signals;
mod ssh_files;
mod start;
mod when;

fn main() -> std::process::ExitCode {
    cli::main()
}
