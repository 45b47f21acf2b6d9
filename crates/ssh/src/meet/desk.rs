//! What the tasks of one run share: the questions, the one place at which a ceremony happens, who is talked
//! to, and how often it may fail.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use identity::DeviceId;
use link::{Endpoint, Source};
use pairing::{Attempts, LAN_ATTEMPTS};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Event, Question, Setup};

/// Links and connections that one source may have here at once.
pub(super) const MAX_GUESTS: usize = 8;

pub(super) struct Desk {
    pub(super) setup: Setup,
    pub(super) endpoint: Arc<Endpoint>,
    events: mpsc::Sender<Event>,
    questions: Mutex<HashMap<u32, oneshot::Sender<bool>>>,
    next: AtomicU32,
    /// Whoever holds it compares, asks and installs.
    pub(super) slot: tokio::sync::Mutex<()>,
    attempts: Mutex<Attempts>,
    peers: Mutex<HashSet<DeviceId>>,
    /// How many of those that came in each source has.
    guests: Mutex<HashMap<Source, usize>>,
    /// Exchanges of Connecto's sync that this side has begun and that wait for an answer.
    initiated: Mutex<HashMap<IpAddr, u64>>,
    /// Rings whenever one of them is answered or over.
    settled: Notify,
}

/// A device that is talked to; no second link with it is used meanwhile.
pub(super) struct Held {
    desk: Arc<Desk>,
    peer: DeviceId,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.desk.peers).remove(&self.peer);
    }
}

/// One of those that came in.
pub(super) struct Guest {
    desk: Arc<Desk>,
    source: Source,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = lock(&self.desk.guests);
        if let Some(count) = guests.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                guests.remove(&self.source);
            }
        }
    }
}

/// An open question; dropping it makes an answer mean nothing.
pub(super) struct Asked {
    desk: Arc<Desk>,
    pub(super) id: u32,
    pub(super) answer: oneshot::Receiver<bool>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        lock(&self.desk.questions).remove(&self.id);
    }
}

impl Desk {
    pub(super) fn new(
        setup: Setup,
        endpoint: Arc<Endpoint>,
        events: mpsc::Sender<Event>,
    ) -> Arc<Self> {
        Arc::new(Self {
            setup,
            endpoint,
            events,
            questions: Mutex::default(),
            next: AtomicU32::new(1),
            slot: tokio::sync::Mutex::new(()),
            attempts: Mutex::new(Attempts::new(LAN_ATTEMPTS)),
            peers: Mutex::default(),
            guests: Mutex::default(),
            initiated: Mutex::default(),
            settled: Notify::new(),
        })
    }

    pub(super) async fn tell(&self, event: Event) {
        // Whoever asked may have gone; that is seen elsewhere.
        let _ = self.events.send(event).await;
    }

    pub(super) async fn note(&self, note: String) {
        self.tell(Event::Note(note)).await;
    }

    /// True when nobody hears what happens any more.
    pub(super) async fn unheard(&self) {
        self.events.closed().await;
    }

    /// Takes the device as the one that is talked to; `None` if it is already.
    pub(super) fn hold(self: &Arc<Self>, peer: DeviceId) -> Option<Held> {
        let new = lock(&self.peers).insert(peer);
        new.then(|| Held { desk: Arc::clone(self), peer })
    }

    /// Gives somebody who came in a place; `None` if as many come from there already as may.
    pub(super) fn welcome(self: &Arc<Self>, addr: SocketAddr) -> Option<Guest> {
        let source = Source::of(addr);
        let mut guests = lock(&self.guests);
        let count = guests.entry(source).or_default();
        if *count >= MAX_GUESTS {
            return None;
        }
        *count += 1;
        drop(guests);
        Some(Guest { desk: Arc::clone(self), source })
    }

    /// Asks the person.
    pub(super) async fn ask(self: &Arc<Self>, mut question: Question) -> Asked {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (send, answer) = oneshot::channel();
        lock(&self.questions).insert(id, send);
        question.id = id;
        self.tell(Event::Confirm(question)).await;
        Asked { desk: Arc::clone(self), id, answer }
    }

    pub(super) async fn withdraw(&self, id: u32, reason: &str) {
        self.tell(Event::Withdrawn { id, reason: reason.to_owned() }).await;
    }

    /// The person answered.
    pub(super) fn answered(&self, id: u32, yes: bool) {
        if let Some(asked) = lock(&self.questions).remove(&id) {
            let _ = asked.send(yes);
        }
    }

    /// This side begins a sync of Connecto's with somebody there, having drawn a number.
    pub(super) fn initiate(&self, ip: IpAddr, number: u64) {
        lock(&self.initiated).insert(ip, number);
    }

    /// That is answered, or over.
    pub(super) fn settle(&self, ip: IpAddr) {
        lock(&self.initiated).remove(&ip);
        self.settled.notify_waiters();
    }

    /// The number of the one that still waits.
    pub(super) fn initiated(&self, ip: IpAddr) -> Option<u64> {
        lock(&self.initiated).get(&ip).copied()
    }

    /// Waits until it waits no more.
    pub(super) async fn settled(&self, ip: IpAddr) {
        loop {
            let rung = self.settled.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.initiated(ip).is_none() {
                return;
            }
            rung.await;
        }
    }

    /// A ceremony failed after its string could be known (rule T3).
    pub(super) fn failed_attempt(&self) {
        lock(&self.attempts).fail();
    }

    /// Too many failed.
    pub(super) fn closed(&self) -> bool {
        lock(&self.attempts).closed()
    }
}

/// The address as it is shown: of IPv4 in its own form.
pub(super) fn plain(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip if ip.is_ipv4() => SocketAddr::new(ip, addr.port()),
        _ => addr,
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks is left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes)
}
