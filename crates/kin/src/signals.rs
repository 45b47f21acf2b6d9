//! Ctrl-C and SIGTERM: the first asks for a graceful stop, the second ends the process at once.

use std::io;

use tokio::sync::mpsc;

/// How a process that was interrupted exits, by the convention of shells: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Starts listening; from now on neither signal ends the process by itself. The receiver yields once.
///
/// # Errors
/// If the system does not let the process handle signals.
pub(crate) fn listen() -> io::Result<mpsc::Receiver<()>> {
    let mut signals = Signals::new()?;
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        signals.next().await;
        // If nobody listens any more, the process is about to end anyway.
        let _ = tell.send(()).await;
        signals.next().await;
        // Whoever is stuck in a blocking write or a sync must not hold this up.
        std::process::exit(INTERRUPTED);
    });
    Ok(told)
}

#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => (),
            _ = self.1.recv() => (),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // An error means that Ctrl-C cannot be heard; then there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
