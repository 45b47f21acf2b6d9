//! `kin-relay`: the relay alone, for a machine on which nothing else of kin is.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use relay::operate::{self, OperateError, Operated, Options};
use serde_json::json;
use tracing_subscriber::EnvFilter;

/// Run a relay
///
/// It stores and forwards what it cannot read: docs/relay.md.
#[derive(Parser, Debug)]
#[command(name = "kin-relay", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Events on standard output, one JSON object a line
    #[arg(long, help_heading = "Output")]
    json: bool,
}

fn main() -> ExitCode {
    let Arguments { options, json } = Arguments::parse();
    let filter = EnvFilter::try_from_default_env();
    // Fails only if there is a subscriber already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("warn,relay=info")))
        .with_writer(io::stderr)
        .try_init();
    let ran = tokio::runtime::Runtime::new()
        .map_err(|source| OperateError::Io { doing: "cannot start threads", source })
        .and_then(|runtime| runtime.block_on(run(options, json)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (kind, message, hint) = (error.kind(), error.to_string(), error.hint());
            if json {
                say(&json!({ "event": "error", "kind": kind, "message": message, "hint": hint }));
            } else {
                complain(&format!("error: {message}"));
                if !hint.is_empty() {
                    complain(&format!("hint: {hint}"));
                }
            }
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}

async fn run(options: Options, json: bool) -> Result<(), OperateError> {
    let stop = stopped().map_err(|source| OperateError::Io { doing: "no signals", source })?;
    let relay = operate::start(options).await?;
    let Operated { address, port, store, .. } = &relay;
    if json {
        say(&json!({
            "event": "listening",
            "address": address.to_string(),
            "port": port,
            "store": store,
        }));
    } else {
        operate::words(&relay).iter().for_each(|line| complain(line));
        say(address);
    }
    relay.run(stop).await;
    Ok(())
}

/// Ready when the process is asked to stop.
#[cfg(unix)]
fn stopped() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stopped() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Nobody may be reading any more, which is no reason to stop.
fn say(line: &impl std::fmt::Display) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
