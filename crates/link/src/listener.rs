//! Listening: lets strangers try, within limits, and hands out only links whose other end has proven
//! its key.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
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

/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Who may come in.
#[derive(Clone, Default)]
pub struct Door {
    /// Only from addresses for which this holds, if it is there; others are closed at once.
    pub from: Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>,
    /// Where connections go that begin with something else than TLS; without it they end.
    pub visitors: Option<mpsc::Sender<Visitor>>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// A connection that does not begin with TLS. Nothing of it is read, and nobody is proven.
pub struct Visitor {
    /// The connection.
    pub stream: TcpStream,
    /// Where it comes from.
    pub addr: SocketAddr,
    /// Its first byte, which is still to be read.
    pub first: u8,
    /// Counts it among the connections that strangers may have.
    _pass: Pass,
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Visitor({} with {:#04x})", self.addr, self.first)
    }
}

/// A port on which links come in. Dropping it closes the port a moment later and breaks off running handshakes.
pub struct Listener {
    port: u16,
    links: mpsc::Receiver<Link>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens on a port (0: any free one) of every address, IPv6 and IPv4.
    ///
    /// # Errors
    /// [`LinkError::PortInUse`], [`LinkError::PermissionDenied`], or what else the system says.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time.
    pub async fn bind(endpoint: Arc<Endpoint>, port: u16) -> Result<Self, LinkError> {
        Self::open(endpoint, port, Door::default()).await
    }

    /// As [`Listener::bind`], with a say in who may come in.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    ///
    /// # Panics
    /// As [`Listener::bind`].
    #[expect(clippy::unused_async, reason = "it needs the runtime; later it may ask a router")]
    pub async fn open(endpoint: Arc<Endpoint>, port: u16, door: Door) -> Result<Self, LinkError> {
        let binding = |error: io::Error| LinkError::binding(error, port);
        let listener = socket::listen(port).map_err(binding)?;
        let port = listener.local_addr().map_err(binding)?.port();
        let (sender, links) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(listener, endpoint, door, sender));
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

    /// Closes the port. Once it returns, the port can be listened on again.
    pub async fn close(mut self) {
        self.task.abort();
        // It ends by being aborted; what it held is dropped by then.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    listener: TcpListener,
    endpoint: Arc<Endpoint>,
    door: Door,
    links: mpsc::Sender<Link>,
) {
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
                if door.from.as_ref().is_some_and(|from| !from(canonical(addr).ip())) {
                    debug!(%addr, "connection refused: not from where others may come");
                    continue;
                }
                match gate.enter(Source::of(addr)) {
                    Ok(pass) => {
                        let (endpoint, links) = (Arc::clone(&endpoint), links.clone());
                        match door.visitors.clone() {
                            None => {
                                handshakes.spawn(handshake(endpoint, stream, addr, pass, links))
                            }
                            Some(visitors) => handshakes
                                .spawn(sort(endpoint, stream, addr, pass, links, visitors)),
                        };
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

/// Looks at the first byte.
async fn sort(
    endpoint: Arc<Endpoint>,
    stream: TcpStream,
    addr: SocketAddr,
    pass: Pass,
    links: mpsc::Sender<Link>,
    visitors: mpsc::Sender<Visitor>,
) {
    let mut first = [0];
    match timeout(endpoint.limits().handshake_timeout, stream.peek(&mut first)).await {
        Ok(Ok(1..)) if first == [TLS_HANDSHAKE] => {
            handshake(endpoint, stream, addr, pass, links).await;
        }
        Ok(Ok(1..)) => {
            let [first] = first;
            let visitor = Visitor { stream, addr: canonical(addr), first, _pass: pass };
            drop(visitors.send(visitor).await);
        }
        // Whoever says nothing only looked.
        _ => debug!(%addr, "a connection on which nothing came"),
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
