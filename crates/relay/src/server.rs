//! The server: lets strangers in within limits, and answers them from a store.
//!
//! No address of anybody is logged, counted or kept; limits know sources for as long as they must.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use wire::relay::{MailboxId, Refusal};

use crate::{
    Identity, RelayAddress, TlsError, socket,
    store::{Store, StoreError},
    tls,
};

mod api;
mod connection;
mod hub;
mod limits;
mod metrics;
mod page;
mod receive;
mod splice;

use hub::Hub;
use limits::Gate;
pub use limits::{Limits, Rate};
use metrics::Metrics;
use splice::Meetings;

/// First and longest pause after the system could not give us a connection.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often what has had its time is removed, if there is nothing left to remove.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How often it is tried whether the store can be written, while it can: else with each sweep.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// How often the store is asked what other processes have taken in: half of it is what a delivery takes longer.
const ARRIVALS_EVERY: Duration = Duration::from_millis(100);
/// What requests that are under way may take when the relay stops.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How a relay is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0: any free one.
    pub listen: SocketAddr,
    /// Where its metrics and its health can be read, without TLS: not for everybody.
    pub metrics: Option<SocketAddr>,
    /// What others may cost.
    pub limits: Limits,
}

/// Why a relay does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Keys or certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store.
    #[error("the store cannot be used: {0}")]
    Store(#[from] StoreError),
}

/// A relay that listens.
pub struct Server {
    listener: TcpListener,
    metrics: Option<TcpListener>,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
}

/// What all connections share.
pub(crate) struct Shared {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    gate: Arc<Gate>,
    metrics: Metrics,
    /// True since the store failed, until it has taken something again.
    failing: AtomicBool,
    meetings: Meetings,
    /// How other processes on the same store reach this one.
    reach: OnceLock<RelayAddress>,
    /// True when the relay stops.
    stopping: watch::Sender<bool>,
}

impl Shared {
    fn arrived(&self, mailbox: MailboxId) {
        self.hub.ring(mailbox);
    }

    /// The store's answer as one of ours. What is wrong with the store is for its operator, not for strangers.
    fn refused(&self, error: &StoreError) -> Refusal {
        match error {
            StoreError::Refused(refusal) => *refusal,
            error => {
                tracing::error!(%error, "the store failed");
                self.failing.store(true, Relaxed);
                Refusal::Unavailable
            }
        }
    }

    /// Whether the store answers and can be written.
    async fn is_healthy(&self) -> bool {
        self.store.counts().await.is_ok() && !self.failing.load(Relaxed)
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Server {
    /// Listens; nobody is answered before [`Server::run`].
    ///
    /// # Errors
    /// If an address cannot be listened on, or the identity cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time.
    pub fn bind(
        settings: &Settings,
        identity: &Identity,
        store: Arc<dyn Store>,
    ) -> Result<Self, ServerError> {
        let listen =
            |addr| socket::listen(addr).map_err(|source| ServerError::Listen { addr, source });
        let acceptor = TlsAcceptor::from(Arc::new(tls::server(identity)?));
        let listener = listen(settings.listen)?;
        let metrics = settings.metrics.map(listen).transpose()?;
        let shared = Arc::new(Shared {
            store,
            hub: Hub::new(),
            gate: Gate::new(settings.limits),
            metrics: Metrics::default(),
            failing: AtomicBool::new(false),
            meetings: Meetings::default(),
            reach: OnceLock::new(),
            stopping: watch::Sender::new(false),
        });
        Ok(Self { listener, metrics, acceptor, shared })
    }

    /// The port.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn port(&self) -> io::Result<u16> {
        self.listener.local_addr().map(|addr| addr.port())
    }

    /// Other processes on the same store reach this one there: ends of a splice that come to different ones are
    /// joined.
    pub fn reached_at(&self, address: RelayAddress) {
        // The first one stands.
        let _ = self.shared.reach.set(address);
    }

    /// The port of the metrics.
    #[must_use]
    pub fn metrics_port(&self) -> Option<u16> {
        self.metrics.as_ref()?.local_addr().ok().map(|addr| addr.port())
    }

    /// Answers until `stop` is ready. Requests that are under way then are answered; streams end, and their
    /// clients come again.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, metrics, acceptor, shared } = self;
        let mut chores = JoinSet::new();
        chores.spawn(sweep(Arc::clone(&shared)));
        chores.spawn(listen_to_others(Arc::clone(&shared)));
        if let Some(listener) = metrics {
            chores.spawn(page::run(listener, Arc::clone(&shared)));
        }
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&listener, &acceptor, &shared, &mut connections) => {}
            () = stop => {}
        }
        drop(listener);
        shared.stopping.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        // What is not said by then stays unsaid.
        let _ = timeout(LAST_WORDS, ended).await;
        // Streams went on in tasks of their own, which have been told too.
        let _ = timeout(LAST_WORDS, async {
            while shared.gate.connections() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

async fn accept(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, addr)) => {
                pause = PAUSE.0;
                match shared.gate.enter(addr) {
                    Ok(pass) => {
                        shared.metrics.connections.fetch_add(1, Relaxed);
                        let (acceptor, shared) = (acceptor.clone(), Arc::clone(shared));
                        connections.spawn(connection::serve(stream, acceptor, pass, shared));
                    }
                    Err(_) => {
                        shared.metrics.turned_away.fetch_add(1, Relaxed);
                    }
                }
            }
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
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

/// Rings for what other processes have taken in.
async fn listen_to_others(shared: Arc<Shared>) {
    let mut ticks = interval(ARRIVALS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(arrivals) = shared.store.arrivals() {
        match arrivals.await {
            Ok(mailboxes) => mailboxes.into_iter().for_each(|mailbox| shared.arrived(mailbox)),
            Err(error) => tracing::warn!(%error, "the store does not say what has arrived"),
        }
        ticks.tick().await;
    }
}

async fn sweep(shared: Arc<Shared>) {
    let mut ticks = interval(SWEEP_EVERY);
    let mut probed: Option<Instant> = None;
    loop {
        ticks.tick().await;
        if shared.failing.load(Relaxed) || probed.is_none_or(|at| at.elapsed() >= PROBE_EVERY) {
            probed = Some(Instant::now());
            probe(&shared).await;
        }
        // Each takes a bounded part; others are answered in between.
        loop {
            match shared.store.sweep(now()).await {
                Ok(swept) => {
                    let count = swept.entries + swept.envelopes + swept.mailboxes;
                    shared.metrics.swept.fetch_add(count, Relaxed);
                    if count == 0 {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "what has had its time cannot be removed");
                    break;
                }
            }
        }
    }
}

/// A full disk is seen before somebody's deposit meets it, and so is that there is room again.
async fn probe(shared: &Shared) {
    match shared.store.probe().await {
        Ok(()) => {
            if shared.failing.swap(false, Relaxed) {
                tracing::info!("the store is written again");
            }
        }
        Err(error) => {
            shared.refused(&error);
        }
    }
}
