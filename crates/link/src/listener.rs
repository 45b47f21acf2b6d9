//! Listening: lets strangers try, within limits, and hands out only links whose other end has proven
//! its key.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::sleep,
};
use tracing::debug;

use crate::{
    Endpoint, Link, LinkError,
    limits::{Gate, Pass, Source},
    socket,
};

/// Finished links that wait for [`Listener::accept`].
const QUEUE: usize = 16;
/// First and longest pause after the system could not give us a connection (no file descriptors, say).
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A port on which links come in. Dropping it closes the port and breaks off running handshakes.
pub struct Listener {
    port: u16,
    links: mpsc::Receiver<Link>,
    task: AbortHandle,
}

impl Listener {
    /// Listens on a port (0: any free one) of every address, IPv6 and IPv4.
    ///
    /// # Errors
    /// [`LinkError::PortInUse`], [`LinkError::PermissionDenied`], or what else the system says.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time.
    #[expect(clippy::unused_async, reason = "it needs the runtime; later it may ask a router")]
    pub async fn bind(endpoint: Arc<Endpoint>, port: u16) -> Result<Self, LinkError> {
        let binding = |error: io::Error| LinkError::binding(error, port);
        let listener = socket::listen(port).map_err(binding)?;
        let port = listener.local_addr().map_err(binding)?.port();
        let (sender, links) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(listener, endpoint, sender)).abort_handle();
        Ok(Self { port, links, task })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next link whose handshake is finished. Can be dropped without losing one. `None` never
    /// comes while the runtime stands.
    pub async fn accept(&mut self) -> Option<Link> {
        self.links.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listener: TcpListener, endpoint: Arc<Endpoint>, links: mpsc::Sender<Link>) {
    let gate = Gate::new(endpoint.limits());
    // Ends with this task, and every handshake in it.
    let mut handshakes = JoinSet::new();
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = handshakes.join_next() => continue,
        };
        match accepted {
            Ok((stream, addr)) => {
                pause = PAUSE.0;
                match gate.enter(Source::of(addr)) {
                    Ok(pass) => {
                        let work =
                            handshake(Arc::clone(&endpoint), stream, addr, pass, links.clone());
                        handshakes.spawn(work);
                    }
                    Err(limit) => debug!(%addr, limit, "connection refused"),
                }
            }
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                debug!(%error, "cannot accept connections");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

async fn handshake(
    endpoint: Arc<Endpoint>,
    stream: TcpStream,
    addr: SocketAddr,
    pass: Pass,
    links: mpsc::Sender<Link>,
) {
    match endpoint.answer(stream, canonical(addr)).await {
        // The pass is held until somebody takes the link, so that waiting links are bounded too.
        Ok(link) => drop(links.send(link).await),
        Err(error) => debug!(%addr, %error, "handshake failed"),
    }
    drop(pass);
}

/// An IPv4 address in its own form, as it comes mapped into IPv6 from a socket for both.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip if ip.is_ipv4() => SocketAddr::new(ip, addr.port()),
        _ => addr,
    }
}

/// True if the error concerns a connection that was lost before we took it, not the listener.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
