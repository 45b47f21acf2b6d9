//! Who listens: by multicast DNS, and where that does not reach, by asking every address of a network.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use identity::{DeviceId, DeviceKey, InboxId, Secret};
use link::{Discovery, Endpoint, Limits, LinkError, Plain, Protocol, own_addresses};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use wire::{
    session::Name,
    ssh::{Hello, Message, Purpose, SSH_VERSION},
};

use crate::{
    Cidr,
    connecto::PORT,
    meet::{BETTER, Connecto, Kind, SSH_TOPIC, connect, is_own, lasts, look_at, speaks},
};

/// Addresses that are asked at once.
const AT_ONCE: usize = 100;
/// How long each may take to take a connection.
const CONNECT: Duration = Duration::from_millis(500);
/// How long one that did may take to say what it is.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Most devices that are told of.
const MAX_SEEN: usize = 1024;
/// Fewest bits that a network may fix: 65,536 addresses.
const MIN_PREFIX: u8 = 16;

/// Where to look, and how.
#[derive(Clone, Debug)]
pub struct Look {
    /// Networks of which every address is asked; IPv4.
    pub nets: Vec<Cidr>,
    /// How long to listen to the network. With networks to ask, it ends when all were.
    pub timeout: Duration,
    /// Tell of Connecto's listeners, too.
    pub connecto: Option<Connecto>,
}

/// Somebody who listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What it calls itself (unescaped); empty if it does not say.
    pub name: String,
    /// Where.
    pub addr: SocketAddr,
    /// What it speaks.
    pub kind: Kind,
    /// The device that was proven; `None` if nothing was.
    pub device: Option<DeviceId>,
}

/// What happens while looking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Glimpse {
    /// Somebody listens.
    Seen(Seen),
    /// So many addresses of so many were asked.
    Asked {
        /// So many.
        done: u64,
        /// Of so many.
        of: u64,
    },
    /// Something did not work (unescaped).
    Note(String),
}

/// A network cannot be swept.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0} cannot be asked address by address: it must be of IPv4 and no larger than a /{MIN_PREFIX}"
)]
pub struct NetError(pub Cidr);

/// True if every address of it can be asked.
///
/// # Errors
/// If it is too large, or of IPv6.
pub fn sweepable(net: &Cidr) -> Result<(), NetError> {
    match net.addr {
        IpAddr::V4(_) if net.prefix >= MIN_PREFIX => Ok(()),
        _ => Err(NetError(*net)),
    }
}

/// The addresses of hosts in a network of IPv4: without the network's own and its broadcast address, where
/// it has those.
fn hosts(net: Cidr) -> impl Iterator<Item = IpAddr> + Send {
    let (first, last) = match net.addr {
        IpAddr::V4(addr) => {
            let first = addr.to_bits();
            let size = u32::MAX.checked_shr(u32::from(net.prefix)).unwrap_or(0);
            let last = first.saturating_add(size);
            if net.prefix >= 31 { (first, last) } else { (first + 1, last - 1) }
        }
        // Nothing to ask: `sweepable` said so.
        IpAddr::V6(_) => (1, 0),
    };
    (first..=last).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

fn count(net: &Cidr) -> u64 {
    let size = 1_u64 << 32_u32.saturating_sub(u32::from(net.prefix).min(32));
    if net.prefix >= 31 { size } else { size - 2 }
}

/// Looks until the time is over or every address was asked. What happens comes by `events`; it ends early
/// when nobody takes them.
///
/// # Errors
/// If TLS cannot be set up.
pub async fn look(setup: Look, events: mpsc::Sender<Glimpse>) -> Result<(), LinkError> {
    let endpoint = stranger()?;
    let (seen, mut news) = mpsc::channel::<Seen>(64);
    let mut work = JoinSet::new();
    let (swept, sweeping) = oneshot::channel::<()>();
    let listening =
        listen(setup.clone(), Arc::clone(&endpoint), seen.clone(), events.clone(), sweeping);
    work.spawn(listening);
    if let (Some(which), true) = (setup.connecto, setup.nets.is_empty()) {
        // Connecto's listeners announce nothing and answer no question for their kind.
        let (seen, limit) = (seen.clone(), setup.timeout);
        work.spawn(async move {
            for (addr, kind, name) in timeout(limit, near(which)).await.unwrap_or_default() {
                let _ = seen.send(Seen { name, addr, kind, device: None }).await;
            }
        });
    }
    if !setup.nets.is_empty() {
        let (endpoint, seen, events) = (endpoint.clone(), seen.clone(), events.clone());
        work.spawn(async move {
            sweep(setup, endpoint, seen, events).await;
            // Dropped when every address was asked.
            drop(swept);
        });
    }
    drop(seen);
    let mut told: HashSet<SocketAddr> = HashSet::new();
    let mut devices: HashSet<DeviceId> = HashSet::new();
    loop {
        tokio::select! {
            biased;
            seen = news.recv() => {
                let Some(seen) = seen else { return Ok(()) };
                let new = told.len() < MAX_SEEN
                    && told.insert(seen.addr)
                    && seen.device.is_none_or(|device| devices.insert(device));
                if new {
                    let _ = events.send(Glimpse::Seen(seen)).await;
                }
            }
            () = events.closed() => return Ok(()),
        }
    }
}

/// Listeners of Connecto's in the networks around this device's addresses.
pub(crate) async fn near(which: Connecto) -> Vec<(SocketAddr, Kind, String)> {
    let own = own_addresses(PORT);
    let mut nets: Vec<Cidr> = own
        .iter()
        .filter_map(|addr| match addr.ip() {
            IpAddr::V4(v4) if !v4.is_loopback() => {
                let first = Ipv4Addr::from_bits(v4.to_bits() & 0xffff_ff00);
                Some(Cidr { addr: first.into(), prefix: 24 })
            }
            _ => None,
        })
        .collect();
    nets.sort();
    nets.dedup();
    nets.truncate(4);
    let mut asked = JoinSet::new();
    let mut found = Vec::new();
    let mut addrs = nets.into_iter().flat_map(hosts).filter(|ip| !is_own(*ip, &own));
    loop {
        let next = if asked.len() < AT_ONCE { addrs.next() } else { None };
        if let Some(ip) = next {
            asked.spawn(async move {
                let addr = SocketAddr::new(ip, PORT);
                let stream = connect(addr, CONNECT).await.ok()?;
                connecto(stream, addr, which).await
            });
            continue;
        }
        match asked.join_next().await {
            Some(Ok(Some(seen))) => found.push((seen.addr, seen.kind, seen.name)),
            Some(_) => {}
            None => return found,
        }
    }
}

async fn listen(
    setup: Look,
    endpoint: Arc<Endpoint>,
    seen: mpsc::Sender<Seen>,
    events: mpsc::Sender<Glimpse>,
    sweeping: oneshot::Receiver<()>,
) {
    let alone = setup.nets.is_empty();
    let (search, mut news) = match Discovery::look(SSH_TOPIC) {
        Ok(found) => found,
        Err(error) => {
            let _ = events.send(Glimpse::Note(error.to_string())).await;
            return;
        }
    };
    let plain = setup.connecto.and_then(|_| Plain::start("_connecto._tcp.local.", "", None).ok());
    let (_plain, mut heard) = plain.unzip();
    let mut asked = JoinSet::new();
    let mut adverts: HashMap<String, watch::Sender<SocketAddr>> = HashMap::new();
    let listening = async {
        loop {
            tokio::select! {
                found = news.recv() => {
                    let Some(found) = found else { return };
                    let Some(addr) = found.addrs.first().copied().filter(|_| !found.gone) else {
                        continue;
                    };
                    if let Some(known) = adverts.get(&found.instance) {
                        known.send_replace(addr);
                        continue;
                    }
                    if asked.len() >= AT_ONCE {
                        continue;
                    }
                    let (send, latest) = watch::channel(addr);
                    adverts.insert(found.instance, send);
                    asked.spawn(advertised(Arc::clone(&endpoint), latest, seen.clone()));
                }
                found = next(heard.as_mut()) => {
                    let (which, seen) = (setup.connecto.unwrap_or(Connecto::Any), seen.clone());
                    if !found.ours && asked.len() < AT_ONCE {
                        asked.spawn(async move {
                            if let Ok(stream) = connect(found.addr, CONNECT).await
                                && let Some(it) = connecto(stream, found.addr, which).await
                            {
                                let _ = seen.send(it).await;
                            }
                        });
                    }
                }
                () = seen.closed() => return,
            }
        }
    };
    if alone {
        let _ = timeout(setup.timeout, listening).await;
    } else {
        tokio::select! {
            () = listening => {}
            _ = sweeping => {}
        }
    }
    drop(search);
}

/// Its advert is a hint: it is there if it answers. Addresses of one cable come first, and better ones soon.
async fn advertised(
    endpoint: Arc<Endpoint>,
    mut latest: watch::Receiver<SocketAddr>,
    seen: mpsc::Sender<Seen>,
) {
    // It ends without a better one where there is none.
    let _ = timeout(BETTER, latest.wait_for(lasts)).await;
    let addr = *latest.borrow();
    if let Ok((name, device)) = kinfold(&endpoint, addr).await {
        let kind = Kind::Kinfold;
        let _ = seen.send(Seen { name, addr, kind, device: Some(device) }).await;
    }
}

async fn next<T>(receiver: Option<&mut mpsc::Receiver<T>>) -> T {
    match receiver {
        Some(receiver) => match receiver.recv().await {
            Some(value) => value,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn sweep(
    setup: Look,
    endpoint: Arc<Endpoint>,
    seen: mpsc::Sender<Seen>,
    events: mpsc::Sender<Glimpse>,
) {
    let own = own_addresses(PORT);
    let of: u64 = setup.nets.iter().map(count).sum();
    let mut addrs = setup.nets.clone().into_iter().flat_map(hosts);
    let mut done = 0_u64;
    let mut asked = JoinSet::new();
    loop {
        let next = if asked.len() < AT_ONCE { addrs.next() } else { None };
        if let Some(ip) = next {
            if is_own(ip, &own) {
                done += 1;
                continue;
            }
            let (endpoint, connecto) = (Arc::clone(&endpoint), setup.connecto);
            let addr = SocketAddr::new(ip, PORT);
            asked.spawn(async move { ask(&endpoint, addr, connecto).await });
            continue;
        }
        let Some(ended) = asked.join_next().await else { break };
        done += 1;
        if let Ok(Some(it)) = ended
            && seen.send(it).await.is_err()
        {
            return;
        }
        // Whoever shows it may be slow; a number more or less is no loss.
        let _ = events.try_send(Glimpse::Asked { done, of });
    }
    let _ = events.send(Glimpse::Asked { done: of, of }).await;
}

/// What is at an address, if anything of interest is.
async fn ask(endpoint: &Arc<Endpoint>, addr: SocketAddr, which: Option<Connecto>) -> Option<Seen> {
    // First in Connecto's way, which its listeners take for a look; what is of Kinfold says so afterwards.
    let other = match which {
        Some(which) => {
            let stream = connect(addr, CONNECT).await.ok()?;
            connecto(stream, addr, which).await
        }
        None => None,
    };
    match kinfold(endpoint, addr).await {
        Ok((name, device)) => Some(Seen { name, addr, kind: Kind::Kinfold, device: Some(device) }),
        Err(_) => other,
    }
}

async fn kinfold(
    endpoint: &Arc<Endpoint>,
    addr: SocketAddr,
) -> Result<(String, DeviceId), LinkError> {
    let link = endpoint.dial(addr).await?;
    let device = link.peer();
    let hello = Message::Hello(Hello {
        version: SSH_VERSION,
        name: Name::new("scan").map_err(LinkError::Malformed)?,
        purpose: Purpose::Look,
        inbox: InboxId([1; 32]),
        key: None,
    });
    let name = look_at(link, endpoint.device(), &hello).await.ok_or(LinkError::Cut)?;
    Ok((name, device))
}

/// What of Connecto's is spoken there; the first question goes over this connection.
async fn connecto(stream: TcpStream, addr: SocketAddr, which: Connecto) -> Option<Seen> {
    let (json, text) = match which {
        Connecto::Any => (true, true),
        Connecto::Json => (true, false),
        Connecto::Text => (false, true),
    };
    let mut stream = Some(stream);
    if json
        && let Some(stream) = stream.take()
        && let Some(name) = speaks(stream, Kind::Connecto).await
    {
        let name = name.unwrap_or_default();
        return Some(Seen { name, addr, kind: Kind::Connecto, device: None });
    }
    if text {
        let stream = match stream {
            Some(stream) => stream,
            None => connect(addr, CONNECT).await.ok()?,
        };
        speaks(stream, Kind::ConnectoText).await?;
        return Some(Seen { name: String::new(), addr, kind: Kind::ConnectoText, device: None });
    }
    None
}

/// An end of links that is nobody: a scan tells no one who looks.
fn stranger() -> Result<Arc<Endpoint>, LinkError> {
    let setup = |error: String| LinkError::Setup(error);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| setup(error.to_string()))?;
    let key = DeviceKey::from_seed(&Secret::new(seed)).map_err(|error| setup(error.to_string()))?;
    let limits =
        Limits { connect_timeout: CONNECT, handshake_timeout: HANDSHAKE, ..Limits::default() };
    Ok(Arc::new(Endpoint::speaking(Protocol::Ssh, &Arc::new(key), limits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_its_hosts() {
        let all: Vec<_> = hosts(net("10.0.2.0/24")).collect();
        assert_eq!(all.len() as u64, count(&net("10.0.2.0/24")));
        assert_eq!(
            (all.len(), all[0], all[253]),
            (254, [10, 0, 2, 1].into(), [10, 0, 2, 254].into())
        );
        assert_eq!(hosts(net("10.0.2.7/32")).collect::<Vec<_>>(), [IpAddr::from([10, 0, 2, 7])]);
        assert_eq!(hosts(net("10.0.2.6/31")).count(), 2);
        assert_eq!(hosts(net("10.0.2.4/30")).count(), 2);
        assert_eq!(hosts(net("10.1.0.0/16")).count(), 65_534);
        assert_eq!(count(&net("10.1.0.0/16")), 65_534);
        assert_eq!((count(&net("10.0.2.7/32")), count(&net("10.0.2.6/31"))), (1, 2));
        assert_eq!(hosts(net("255.255.255.0/24")).count(), 254);
    }

    #[test]
    fn what_is_too_large_to_ask_is_refused() {
        for good in ["10.1.0.0/16", "10.0.2.0/24", "10.0.2.7"] {
            assert_eq!(sweepable(&net(good)), Ok(()), "{good}");
        }
        for bad in ["10.0.0.0/15", "0.0.0.0/0", "fd00::/120"] {
            assert!(sweepable(&net(bad)).is_err(), "{bad}");
        }
    }
}
