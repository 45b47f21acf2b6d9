//! Finding each other on the local network by multicast DNS (RFC 6762, RFC 6763), service
//! `_kin._tcp.local.`.
//!
//! What is found are hints about where somebody may be dialled. Who that is, the link's handshake
//! shows; whether to trust them, others decide. An advert bears no lasting name of the device except
//! the one that its person gave: instance and host name are random for every run. What else it says,
//! and how that is read, is in `text`; which of the addresses heard are used, in `addrs`; how much is
//! kept, in `book`.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use identity::DeviceId;
use mdns_sd::{
    DaemonEvent, IfKind, IfPredicate, MDNS_PORT, Receiver, ResolvedService, ScopedIp,
    ServiceDaemon, ServiceEvent, ServiceInfo,
};
use socket2::{Domain, Socket, Type};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::debug;
use wire::session::Name;

use crate::LinkError;

mod addrs;
mod asking;
mod book;
mod plain;
mod text;

use addrs::Heard;
pub use addrs::own_addresses;
pub use asking::Asking;
use book::Book;
pub use book::Found;
pub use plain::{Plain, PlainFound};
use text::Text;
#[doc(hidden)]
pub use text::reread as reread_advert;

/// The service's type.
const SERVICE: &str = "_kin._tcp.local.";
/// News that may wait in the channel; more wait in the book, where newer ones replace older ones.
const QUEUE: usize = 32;
/// How often interfaces are looked at, for such as came or went, in seconds.
const INTERFACES_EVERY: u32 = 2;
/// How often the question is asked anew. Between, it is asked at growing intervals; without this, two
/// parts of a network that are joined after an hour might not hear of each other for another.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// Pause before asking anew when an interface came up, or answers were lost. Whoever has just announced
/// itself answers nobody for a second (RFC 6762, section 6).
const ASK_AGAIN: Duration = Duration::from_millis(1500);
/// The daemon repeats a goodbye 120 ms after the first. That matters: an answer that it had put off
/// for up to 50 ms may follow the first, and would bring the advert back for more than an hour.
const SECOND_GOODBYE: Duration = Duration::from_millis(160);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Longest name of an advert, in bytes, that is looked at: a DNS name is no longer (RFC 1035).
const MAX_INSTANCE: usize = 255;

/// What this device tells the network.
#[derive(Clone, Debug)]
pub struct Advert {
    /// Its id. Only a MAC of `run` under it is told.
    pub device: DeviceId,
    /// What it calls itself: 1 to 64 bytes without control characters.
    pub name: String,
    /// Only adverts of the same topic are reported. The topic itself is not told, but can be guessed.
    pub topic: String,
    /// The port on which it listens.
    pub port: u16,
    /// Random bytes, new for every run.
    pub run: [u8; 16],
}

/// This device's advert, and the search for others, for as long as it lives. Dropping it withdraws
/// the advert too, but does not wait for that.
pub struct Discovery {
    daemon: ServiceDaemon,
    /// Of the advert, if there is one.
    fullname: Option<String>,
    task: AbortHandle,
}

impl Discovery {
    /// Advertises this device and begins to search. News come by the receiver; if they are not taken,
    /// older ones give way. Interfaces of containers and tunnels are left out, and such as appear
    /// later are used. Other devices on the same machine are found too.
    ///
    /// # Errors
    /// [`LinkError::Discovery`] if multicast DNS cannot be used here, or the advert is invalid.
    ///
    /// # Panics
    /// Outside a tokio runtime with time.
    pub fn start(advert: &Advert) -> Result<(Self, mpsc::Receiver<Found>), LinkError> {
        let own = Text {
            topic: text::topic_digest(&advert.topic),
            run: advert.run,
            mac: text::run_mac(advert.device, &advert.run),
            name: Name::new(&advert.name).map_err(failed)?,
        };
        let info = service_info(&own, advert.port)?;
        Self::begin(own.topic, own.run, Some(info))
    }

    /// Only searches, for adverts of a topic, and tells nobody of this device.
    ///
    /// # Errors
    /// [`LinkError::Discovery`] if multicast DNS cannot be used here.
    ///
    /// # Panics
    /// Outside a tokio runtime with time.
    pub fn look(topic: &str) -> Result<(Self, mpsc::Receiver<Found>), LinkError> {
        let mut run = [0; 16];
        getrandom::fill(&mut run).map_err(failed)?;
        Self::begin(text::topic_digest(topic), run, None)
    }

    fn begin(
        topic: [u8; 16],
        run: [u8; 16],
        info: Option<ServiceInfo>,
    ) -> Result<(Self, mpsc::Receiver<Found>), LinkError> {
        port_can_be_shared()?;
        let fullname = info.as_ref().map(|info| info.get_fullname().to_owned());
        let daemon = ServiceDaemon::new().map_err(failed)?;
        let (events, changes) = set_up(&daemon, info).inspect_err(|_| drop(daemon.shutdown()))?;
        let (sender, news) = mpsc::channel(QUEUE);
        let work = search(daemon.clone(), events, changes, (topic, run), sender);
        let task = tokio::spawn(work).abort_handle();
        Ok((Self { daemon, fullname, task }, news))
    }

    /// Withdraws the advert, waits until that was sent (a sixth of a second, at most one second), and
    /// ends the search.
    pub async fn stop(self) {
        self.task.abort();
        let goodbye = async {
            if let Some(fullname) = &self.fullname
                && let Ok(sent) = self.daemon.unregister(fullname)
            {
                // Nobody is left to be told; adverts expire.
                drop(sent.recv_async().await);
                sleep(SECOND_GOODBYE).await;
            }
            if let Ok(ended) = self.daemon.shutdown() {
                drop(ended.recv_async().await);
            }
        };
        if timeout(GOODBYE, goodbye).await.is_err() {
            debug!("the goodbye could not be sent in time");
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
        // After `stop` there is nobody to hear it any more.
        drop(self.daemon.shutdown());
    }
}

fn failed(error: impl std::fmt::Display) -> LinkError {
    LinkError::Discovery(error.to_string())
}

/// The daemon does not tell when it cannot open its sockets, so try beforehand. One kind of address is
/// enough.
fn port_can_be_shared() -> Result<(), LinkError> {
    let open = |addr: SocketAddr| -> std::io::Result<()> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())
    };
    open((Ipv4Addr::UNSPECIFIED, MDNS_PORT).into())
        .or_else(|error| open((Ipv6Addr::UNSPECIFIED, MDNS_PORT).into()).map_err(|_| error))
        .map_err(|error| failed(format_args!("UDP port {MDNS_PORT}: {error}")))
}

fn service_info(own: &Text, port: u16) -> Result<ServiceInfo, LinkError> {
    if port == 0 {
        return Err(failed("no port to advertise"));
    }
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(failed)?;
    let (instance, host) = random.split_at(16);
    let host = format!("kin-{}.local.", text::to_hex(host));
    let pairs = own.encode();
    let mut info =
        ServiceInfo::new(SERVICE, &text::to_hex(instance), &host, "", port, pairs.as_slice())
            .map_err(failed)?
            .enable_addr_auto();
    // Random names collide with nobody's, so there is no need to ask for 750 ms.
    info.set_requires_probe(false);
    let used = IfPredicate::new(|interface| !addrs::is_skipped(&interface.name));
    info.set_interfaces(vec![IfKind::Predicate(used)]);
    Ok(info)
}

/// Configures the daemon and lets it begin; what it hears, and what happens to it.
fn set_up(
    daemon: &ServiceDaemon,
    info: Option<ServiceInfo>,
) -> Result<(Receiver<ServiceEvent>, Receiver<DaemonEvent>), LinkError> {
    let skipped = IfPredicate::new(|interface| addrs::is_skipped(&interface.name));
    daemon.disable_interface(IfKind::Predicate(skipped)).map_err(failed)?;
    daemon.set_ip_check_interval(INTERFACES_EVERY).map_err(failed)?;
    let events = daemon.browse(SERVICE).map_err(failed)?;
    if let Some(info) = info {
        daemon.register(info).map_err(failed)?;
    }
    // Last: the interfaces of the beginning are no news.
    let changes = daemon.monitor().map_err(failed)?;
    Ok((events, changes))
}

async fn search(
    daemon: ServiceDaemon,
    mut events: Receiver<ServiceEvent>,
    changes: Receiver<DaemonEvent>,
    own: ([u8; 16], [u8; 16]),
    news: mpsc::Sender<Found>,
) {
    let mut book = Book::default();
    let mut ask = interval(ASK_EVERY);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ask.tick().await;
    loop {
        tokio::select! {
            event = events.recv_async() => match event {
                Ok(event) => take(&mut book, own, event),
                // More came at once than the daemon holds for us.
                Err(_) => {
                    sleep(ASK_AGAIN).await;
                    ask.reset_immediately();
                }
            },
            change = changes.recv_async() => match change {
                Ok(DaemonEvent::IpAdd(_)) => ask.reset_after(ASK_AGAIN),
                Ok(_) => {}
                // The daemon has ended, as it does only on a goodbye.
                Err(_) => return,
            },
            _ = ask.tick() => match daemon.browse(SERVICE) {
                Ok(again) => events = again,
                Err(error) => debug!(%error, "cannot ask the network anew"),
            },
            permit = news.reserve(), if book.has_news() => match permit {
                Ok(permit) => {
                    if let Some(found) = book.news() {
                        permit.send(found);
                    }
                }
                // Nobody listens any more; the advert stays.
                Err(_) => return,
            },
        }
    }
}

fn take(book: &mut Book, own: ([u8; 16], [u8; 16]), event: ServiceEvent) {
    match event {
        ServiceEvent::ServiceResolved(service) => match found(&service, own) {
            Some(found) if !found.addrs.is_empty() => book.heard(found),
            _ => book.lost(&service.fullname),
        },
        ServiceEvent::ServiceRemoved(_, fullname) => book.lost(&fullname),
        _ => {}
    }
}

/// What an advert says to us, if it says anything.
/// `own` are this device's topic and run.
fn found(service: &ResolvedService, own: ([u8; 16], [u8; 16])) -> Option<Found> {
    if service.fullname.len() > MAX_INSTANCE {
        return None;
    }
    let pairs = service.txt_properties.iter().map(|pair| (pair.key(), pair.val()));
    let text = match Text::decode(pairs) {
        Ok(text) => text,
        Err(error) => {
            debug!(advert = service.fullname, %error, "an advert was ignored");
            return None;
        }
    };
    if text.topic != own.0 || text.run == own.1 {
        return None;
    }
    let heard = service.addresses.iter().filter_map(|address| match address {
        ScopedIp::V4(v4) => Some(Heard {
            ip: (*v4.addr()).into(),
            interfaces: v4.interface_ids().iter().map(|id| id.name.clone()).collect(),
            scope: 0,
        }),
        ScopedIp::V6(v6) => Some(Heard {
            ip: (*v6.addr()).into(),
            interfaces: vec![v6.scope_id().name.clone()],
            scope: v6.scope_id().index,
        }),
        _ => None,
    });
    Some(Found {
        name: text.name.as_str().to_owned(),
        addrs: addrs::worth_dialling(heard, service.port),
        instance: service.fullname.clone(),
        gone: false,
        run: text.run,
        mac: text.mac,
    })
}
