//! Logs of the program itself, for whoever looks for a fault: on standard error, by `-v` or `RUST_LOG`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::output::screen::Screen;

/// Starts logging. `RUST_LOG` decides if it is set and makes sense, else `-v` (our crates' info), `-vv`
/// (debug), `-vvv` (all of trace).
pub(crate) fn start(verbose: u8, screen: &Screen) {
    let default = match verbose {
        0 => "off",
        1 => "warn,kin=info,node=info,folder=info,link=info,tree=info,pairing=info",
        2 => "info,kin=debug,node=debug,folder=debug,link=debug,tree=debug,pairing=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let screen = screen.clone();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(move || screen.clone());
    // Fails only if there is a subscriber already, and this is the one place that sets it.
    let _ = logs.try_init();
}
