//! Logs of the program itself, for whoever looks for a fault: on standard error, by `-v` or `RUST_LOG`.

use std::{io::IsTerminal as _, sync::Mutex};

use tracing_subscriber::{
    EnvFilter,
    fmt::writer::{BoxMakeWriter, MakeWriterExt as _},
};
use tree::LogFile;

use crate::output::screen::Screen;

/// Starts logging. `RUST_LOG` decides if it is set and makes sense, else `-v` (our crates' info), `-vv`
/// (debug), `-vvv` (all of trace).
pub(crate) fn start(verbose: u8, screen: &Screen) {
    let screen = screen.clone();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter(if verbose == 0 { None } else { Some(verbose) }))
        .with_ansi(colour)
        .with_writer(move || screen.clone());
    // Fails only if there is a subscriber already, and a process starts logging once.
    let _ = logs.try_init();
}

/// Starts logging to a file, and to `screen`. Without `-v` it is our crates' info, as with one.
pub(crate) fn to_file(verbose: u8, file: LogFile, screen: Option<Screen>) {
    let file = Mutex::new(file);
    let writer = match screen {
        Some(screen) => BoxMakeWriter::new(file.and(move || screen.clone())),
        None => BoxMakeWriter::new(file),
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter(Some(verbose.max(1))))
        .with_ansi(false)
        .with_writer(writer);
    // As above.
    let _ = logs.try_init();
}

fn filter(verbose: Option<u8>) -> EnvFilter {
    let default = match verbose {
        None => "off",
        Some(0 | 1) => {
            "warn,kin=info,node=info,folder=info,link=info,tree=info,pairing=info,relay=info"
        }
        Some(2) => {
            "info,kin=debug,node=debug,folder=debug,link=debug,tree=debug,pairing=debug,relay=debug"
        }
        Some(_) => "trace",
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default))
}
