//! One link as tasks see it: dialling, reading, writing; with its strands, on a long way. Whoever owns links (a session of `kin sync`, or a
//! device) hears of them as [`Internal`], one at a time.

pub(crate) mod dialling;
pub(crate) mod inbox;
mod merge;
pub(crate) mod outbox;
mod source;
mod strand;
pub(crate) mod targets;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use identity::DeviceId;
use link::Link;
use tokio::sync::{Semaphore, mpsc, oneshot};
use wire::session::{Farewell, Message};

pub(crate) use inbox::{FrameReceiver, Incoming, Route};
use inbox::{Pulse, ReadEnd, Reader};
pub(crate) use outbox::FrameSender;
use source::Source;
use strand::MAX_STRANDS;

/// A link on which nothing was sent for this long says that it lives.
pub(crate) const ALIVE_AFTER: Duration = Duration::from_secs(2);
/// A link on which nothing was heard for this long is dead.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// How long a link that this side closes still reads.
const LINGER: Duration = Duration::from_secs(1);

/// Names a link within a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ConnId(pub(crate) u64);

/// What the tasks of links tell their owner.
pub(crate) enum Internal {
    Dialled { key: targets::Key, result: Box<Result<Link, dialling::DialError>> },
    Heard { id: ConnId, message: Message, done: oneshot::Sender<()> },
    ReadEnded { id: ConnId, end: ReadEnd },
    WriteEnded { id: ConnId, reason: String },
}

/// A link with its two tasks.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) peer: DeviceId,
    pub(crate) addr: SocketAddr,
    pub(crate) dialled: bool,
    pub(crate) key_exchange: String,
    pub(crate) exporter: [u8; 32],
    pub(crate) out: FrameSender,
    pub(crate) pulse: Arc<Pulse>,
    /// Dropping it makes the reader end.
    pub(crate) routes: mpsc::UnboundedSender<Route>,
    /// How long the way there and back takes at most.
    round_trip: Option<Duration>,
    /// Places for strands that come in.
    strands: Arc<Semaphore>,
}

impl Line {
    /// Starts the tasks, which tell `owner` what happens.
    pub(crate) fn start(id: ConnId, link: Link, owner: &mpsc::Sender<Internal>) -> Self {
        let out = FrameSender::new();
        let pulse = Pulse::new();
        let (routes, taken) = mpsc::unbounded_channel();
        let (peer, addr, dialled) = (link.peer(), link.addr(), link.dialled());
        let (key_exchange, exporter) = (link.key_exchange().to_owned(), link.exporter());
        let round_trip = link.round_trip();
        let (read, write) = link.split();
        let reader = Reader {
            id,
            source: Source::new(read),
            pulse: Arc::clone(&pulse),
            owner: owner.clone(),
            routes: taken,
        };
        tokio::spawn(reader.run());
        let (sender, owner) = (out.clone(), owner.clone());
        tokio::spawn(async move {
            let reason = match sender.run(write).await {
                Ok(()) => String::from("the link was closed here"),
                Err(error) => error.to_string(),
            };
            let _ = owner.send(Internal::WriteEnded { id, reason }).await;
        });
        let strands = Arc::new(Semaphore::new(MAX_STRANDS));
        Self {
            peer,
            addr,
            dialled,
            key_exchange,
            exporter,
            out,
            pulse,
            routes,
            round_trip,
            strands,
        }
    }

    /// True if somebody else carries it, such as a relay.
    pub(crate) fn is_carried(&self) -> bool {
        self.addr.port() == 0 && self.addr.ip().is_unspecified()
    }

    /// Its reader has stopped: what broke the protocol is told so, anything else is over.
    pub(crate) fn read_ended(&self, end: &ReadEnd) {
        match end {
            ReadEnd::Protocol(_) | ReadEnd::Disorder | ReadEnd::Early => {
                self.out.close(Farewell::Protocol);
            }
            _ => self.out.kill(),
        }
    }

    pub(crate) fn say(&self, message: &Message) {
        // A link that is closing says what it has to say in its last message.
        let _ = self.out.say(message);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Does nothing to a link that was closed with other last words.
        self.out.close_with(None);
    }
}

/// What counts as one source, as in crate `link`: an IPv4 address, an IPv6 network of 64 bits, or one
/// link-local address.
pub(crate) fn source(addr: SocketAddr) -> IpAddr {
    match addr.ip().to_canonical() {
        IpAddr::V6(v6) if !v6.is_unicast_link_local() => {
            Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()
        }
        ip => ip,
    }
}
