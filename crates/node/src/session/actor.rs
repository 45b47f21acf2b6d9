//! The task that owns a session: it hears links, ceremonies and commands one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use group::{SessionGroup, Topic};
use identity::{DeviceId, DeviceKey, InboxKey};
use link::{Discovery, Endpoint, Found, Link, LinkError, Listener};
use pairing::{Attempts, LAN_ATTEMPTS, PASSPHRASE_ATTEMPTS};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep_until, timeout},
};
use wire::session::{Farewell, MAX_MEMBERS, Message, Mode, Name, Refusal};

use super::{Command, EVENTS, Members, STOPPING, SessionEvent, conn::Conn};
use crate::{
    Admission, Event, QuestionId,
    event::QuestionIds,
    line::{
        ConnId, Internal,
        dialling::{self, DialError},
        source,
        targets::{self, Targets},
    },
};

/// Links at a time that lead to nobody accepted.
const MAX_STRANGERS: usize = 64;
/// The same that came in from one source.
pub(super) const MAX_STRANGERS_EACH: usize = 12;
/// Links at a time to one device, until it is decided which one stays.
const MAX_LINKS_EACH: usize = 4;
/// A peer that was silent this long has lost its link, even if this side has not noticed.
const DOUBTFUL: Duration = Duration::from_secs(3);
/// How long, after this side's yes, others wait for the other side's: it often vouches for them too, but
/// its person may be away.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Adverts remembered (attacks.md 12).
const MAX_ADVERTS: usize = 256;
/// Devices remembered as refused, on either side.
const MAX_REFUSED: usize = 1024;

/// What an actor is made of.
pub(super) struct Parts {
    pub(super) name: Name,
    pub(super) inbox: InboxKey,
    pub(super) port: u16,
    pub(super) topic: Topic,
    pub(super) admission: Admission,
    pub(super) group: SessionGroup,
    pub(super) key: Arc<DeviceKey>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) targets: Targets,
    pub(super) events: mpsc::Sender<SessionEvent>,
    pub(super) internal: mpsc::Sender<Internal>,
    pub(super) members: watch::Sender<Arc<Members>>,
    pub(super) questions: QuestionIds,
}

/// The session's state. Its methods are spread over this module, [`super::admission`] (from a new link
/// to both verdicts) and [`super::membership`] (from both verdicts to the end of the link).
pub(super) struct Actor {
    pub(super) parts: Parts,
    pub(super) me: DeviceId,
    pub(super) mode: Mode,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    /// Links whose ceremony waits until nobody else is being asked about, in order.
    pub(super) waiting: Vec<ConnId>,
    /// The link whose ceremony involves this side's person (rule T7: one at a time).
    pub(super) asking: Option<ConnId>,
    /// When that link's turn ends though the other side has not answered this side's yes.
    pub(super) turn_ends: Option<Instant>,
    /// The open question, if that link's ceremony has come that far.
    pub(super) question: Option<QuestionId>,
    pub(super) attempts: Attempts,
    /// Devices that this side's person said yes to in this run.
    pub(super) confirmed: BTreeSet<DeviceId>,
    /// Devices that this side's person said no to.
    pub(super) declined: BTreeSet<DeviceId>,
    /// Devices that refused this one: they are not dialled, but may come.
    pub(super) refused_by: BTreeSet<DeviceId>,
    /// Of whom a person was told that they are there.
    pub(super) found: BTreeSet<DeviceId>,
    /// The refusals a person was told of last.
    told: BTreeMap<DeviceId, Refusal>,
    /// Sent after each step.
    outgoing: Vec<SessionEvent>,
    /// Adverts on the LAN by their names.
    adverts: BTreeMap<String, Found>,
    /// Places of which a person was told that they cannot be reached.
    unreachable: BTreeSet<targets::Key>,
}

impl Actor {
    pub(super) fn new(parts: Parts) -> Self {
        let (mode, attempts) = match &parts.admission {
            Admission::Ask => (Mode::Ask, LAN_ATTEMPTS),
            Admission::Open => (Mode::Open, LAN_ATTEMPTS),
            Admission::Passphrase(_) => (Mode::Passphrase, PASSPHRASE_ATTEMPTS),
        };
        Self {
            me: parts.key.id(),
            parts,
            mode,
            conns: BTreeMap::new(),
            next_conn: 0,
            waiting: Vec::new(),
            asking: None,
            turn_ends: None,
            question: None,
            attempts: Attempts::new(attempts),
            confirmed: BTreeSet::new(),
            declined: BTreeSet::new(),
            refused_by: BTreeSet::new(),
            found: BTreeSet::new(),
            told: BTreeMap::new(),
            outgoing: Vec::new(),
            adverts: BTreeMap::new(),
            unreachable: BTreeSet::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut listener: Listener,
        mut heard: mpsc::Receiver<Internal>,
        mut commands: mpsc::UnboundedReceiver<Command>,
        discovery: Option<(Discovery, mpsc::Receiver<Found>)>,
    ) {
        let (search, mut news) = discovery.unzip();
        loop {
            for event in std::mem::take(&mut self.outgoing) {
                // Fails only if nobody listens any more.
                let _ = self.parts.events.send(event).await;
            }
            self.dial_due();
            let next = self.next_time();
            let found = async {
                match &mut news {
                    Some(news) => news.recv().await,
                    None => pending().await,
                }
            };
            let time = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Answer(question, yes)) => self.answer(question, yes),
                    Some(Command::Reopen) => self.reopen(),
                    Some(Command::Stop(done)) => {
                        listener.close().await;
                        self.stop(heard, search).await;
                        let _ = done.send(());
                        return;
                    }
                    // Nobody holds the session any more.
                    None => return,
                },
                internal = heard.recv() => if let Some(internal) = internal {
                    self.handle(internal);
                },
                link = listener.accept() => match link {
                    Some(link) => self.linked(link),
                    None => return,
                },
                found = found => match found {
                    Some(found) => self.found(found),
                    // The search has ended; the advert stays until the end.
                    None => news = None,
                },
                () = time => self.tick(),
            }
        }
    }

    fn handle(&mut self, internal: Internal) {
        match internal {
            Internal::Dialled { key, result } => self.dialled(&key, *result),
            Internal::Heard { id, message, done } => {
                self.heard(id, message);
                // The reader may be gone.
                let _ = done.send(());
            }
            Internal::ReadEnded { id, end } => {
                if let Some(conn) = self.conns.get(&id) {
                    conn.read_ended(&end);
                }
                self.ended(id, &end.to_string());
            }
            Internal::WriteEnded { id, reason } => self.ended(id, &reason),
        }
    }

    pub(super) fn emit(&mut self, event: SessionEvent) {
        self.outgoing.push(event);
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.emit(SessionEvent::Event(event));
    }

    /// Tells what strangers can cause as often as they like: dropped if nobody reads fast enough.
    pub(super) fn hint(&mut self, event: Event) {
        if self.parts.events.capacity() > self.outgoing.len() + EVENTS / 2 {
            self.tell(event);
        }
    }

    /// True if a person has not been told of this refusal yet.
    pub(super) fn is_news(&mut self, peer: DeviceId, reason: Refusal) -> bool {
        if self.told.len() >= MAX_REFUSED {
            self.told.pop_first();
        }
        self.told.insert(peer, reason) != Some(reason)
    }

    // Links

    fn dial_due(&mut self) {
        let linked = linked(&self.conns);
        for (key, addrs) in self.parts.targets.due(Instant::now(), linked) {
            let (endpoint, internal) = (&self.parts.endpoint, &self.parts.internal);
            dialling::spawn(Arc::clone(endpoint), key, addrs, internal.clone());
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let deadlines = self.conns.values().filter_map(|conn| conn.deadline);
        let commits = self.conns.values().filter_map(|conn| conn.commit_at);
        let turn = self.turn_ends.into_iter();
        deadlines
            .chain(commits)
            .chain(turn)
            .chain(self.parts.targets.next(linked(&self.conns)))
            .min()
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let late: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, c)| c.deadline.is_some_and(|d| d <= now))
            .map(id)
            .collect();
        for id in late {
            self.refuse(id, Refusal::Broken, "it did not answer in time");
        }
        let commits: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.commit_at.is_some_and(|at| at <= now))
            .map(id)
            .collect();
        for id in commits {
            self.commit(id);
        }
        if let (Some(asking), true) = (self.asking, self.turn_ends.is_some_and(|end| end <= now)) {
            self.free_turn(asking);
        }
    }

    fn dialled(&mut self, key: &targets::Key, result: Result<Link, DialError>) {
        let now = Instant::now();
        match result {
            Ok(link) => {
                self.parts.targets.reached(key, link.peer(), now);
                self.unreachable.remove(key);
                self.linked(link);
            }
            Err(DialError::Link(LinkError::Own)) => self.parts.targets.remove(key),
            Err(error) => {
                self.parts.targets.failed(key, now);
                if let (targets::Key::Manual(place), DialError::Resolve(_) | DialError::NoAddress) =
                    (key, &error)
                    && self.unreachable.insert(key.clone())
                {
                    self.tell(Event::Error {
                        kind: "address",
                        message: format!("{place}: {error}"),
                        hint: "it is tried again; check the name, or give an address".into(),
                    });
                }
            }
        }
    }

    /// An advert was seen, changed or withdrawn. It is a hint: trust does not change by it.
    fn found(&mut self, found: Found) {
        let key = targets::Key::Advert(found.instance.clone());
        if found.gone {
            self.adverts.remove(&found.instance);
            self.parts.targets.remove(&key);
            return;
        }
        let known = self.adverts.contains_key(&found.instance);
        if !known && self.adverts.len() >= MAX_ADVERTS {
            return;
        }
        let device = self
            .conns
            .values()
            .map(|conn| conn.peer)
            .chain(self.parts.group.accepted().keys().copied())
            .find(|device| found.claims_to_be(*device));
        if let (Some(addr), false, None) = (found.addrs.first(), known, device) {
            self.hint(Event::PeerFound { name: found.name.clone(), addr: *addr });
        }
        self.parts.targets.add(key, found.addrs.clone(), device, Instant::now());
        self.adverts.insert(found.instance.clone(), found);
    }

    /// True if a person was told of the device, by its advert or otherwise.
    pub(super) fn is_found(&self, peer: DeviceId) -> bool {
        self.found.contains(&peer) || self.adverts.values().any(|advert| advert.claims_to_be(peer))
    }

    /// A new link. Rule T1: of two links between the same devices the one dialled by the lower device
    /// id stays. The device with the lower id decides, by saying hello on one link only; the other
    /// waits for that hello, so no ceremony begins on a link that does not stay.
    fn linked(&mut self, link: Link) {
        if link.is_strand() {
            return self.take_strand(link);
        }
        let peer = link.peer();
        let unwanted = self.refused_by.contains(&peer) || self.declined.contains(&peer);
        if peer == self.me || (link.dialled() && unwanted) {
            self.parts.targets.refused(&peer, Instant::now());
            return;
        }
        // It need not be dialled by an advert that is its own.
        for (instance, advert) in &self.adverts {
            if advert.claims_to_be(peer) {
                self.parts.targets.is(&targets::Key::Advert(instance.clone()), peer);
            }
        }
        let others: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| conn.peer == peer).map(id).collect();
        let crowded = !self.parts.group.accepts(&peer) && self.crowded(&link);
        if others.len() >= MAX_LINKS_EACH || crowded {
            return;
        }
        let decides = self.me < peer;
        if decides {
            let keeps = |other: &Conn| {
                let better = link.dialled() && !other.dialled && other.hello.is_none();
                !better && other.pulse.silent_for() < DOUBTFUL
            };
            if others.iter().any(|other| self.conns.get(other).is_some_and(keeps)) {
                let conn = Conn::start(self.fresh_id(), link, &self.parts.internal);
                conn.out.close(Farewell::Duplicate);
                return;
            }
            for other in others {
                self.replaced(other);
            }
        }
        let id = self.fresh_id();
        let mut conn = Conn::start(id, link, &self.parts.internal);
        if self.declined.contains(&peer) {
            conn.out.close_with(Some(refused(Refusal::Declined)));
            self.parts.targets.refused(&peer, Instant::now());
            return;
        }
        if decides {
            self.say_hello(&mut conn);
        }
        self.conns.insert(id, conn);
    }

    /// A further connection of a link (rule E24). Only a member's is listened to.
    fn take_strand(&self, strand: Link) {
        let peer = strand.peer();
        let of = |conn: &&Conn| conn.member && conn.peer == peer && conn.takes_strands();
        if let Some(conn) = self.conns.values().find(of) {
            conn.take_strand(strand);
        }
    }

    /// True if there are too many strangers, or too many where this link came from.
    fn crowded(&self, link: &Link) -> bool {
        let strangers = self.conns.values().filter(|conn| !conn.member);
        let from = source(link.addr());
        let near = |conn: &&Conn| !conn.dialled && source(conn.addr) == from;
        strangers.clone().count() >= MAX_STRANGERS
            || (!link.dialled() && strangers.filter(near).count() >= MAX_STRANGERS_EACH)
    }

    fn fresh_id(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    /// Another link to the same device takes the place of this one.
    pub(super) fn replaced(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(&id) {
            conn.out.close(Farewell::Duplicate);
            self.ended(id, "another link to it took the place of this one");
        }
    }

    // Commands

    fn reopen(&mut self) {
        self.attempts.reopen();
        self.declined.clear();
        self.refused_by.clear();
        self.told.clear();
        self.parts.targets.all_now(Instant::now());
    }

    async fn stop(mut self, mut heard: mpsc::Receiver<Internal>, search: Option<Discovery>) {
        self.withdraw_question("this device stops");
        for event in std::mem::take(&mut self.outgoing) {
            let _ = self.parts.events.try_send(event);
        }
        let mut writing: BTreeSet<ConnId> = self.conns.keys().copied().collect();
        for conn in self.conns.values() {
            conn.out.close(Farewell::Stopping);
        }
        let written = async {
            while !writing.is_empty() {
                match heard.recv().await {
                    Some(Internal::WriteEnded { id, .. }) => {
                        writing.remove(&id);
                    }
                    Some(Internal::ReadEnded { id, .. }) => {
                        if let Some(conn) = self.conns.get(&id) {
                            conn.out.kill();
                        }
                    }
                    Some(Internal::Heard { done, .. }) => {
                        let _ = done.send(());
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        };
        let withdrawn = async {
            if let Some(search) = search {
                search.stop().await;
            }
        };
        // What is not written by then is not written.
        let _ = timeout(STOPPING, async { tokio::join!(written, withdrawn) }).await;
        for conn in self.conns.values().filter(|conn| conn.member) {
            let _ = self.parts.events.try_send(SessionEvent::PeerDown { device: conn.peer });
        }
        for conn in self.conns.values() {
            conn.out.kill();
        }
    }

    /// True if nobody new fits.
    pub(super) fn full(&self) -> bool {
        let members = self.conns.values().filter(|conn| conn.member).count();
        members + 1 >= MAX_MEMBERS || self.parts.group.is_full()
    }

    /// Remembers a device in one of the sets that strangers can fill.
    pub(super) fn remember(set: &mut BTreeSet<DeviceId>, device: DeviceId) {
        if set.len() >= MAX_REFUSED {
            set.pop_first();
        }
        set.insert(device);
    }
}

fn id((id, _): (&ConnId, &Conn)) -> ConnId {
    *id
}

/// Which devices are linked, as far as dialling is concerned.
fn linked(conns: &BTreeMap<ConnId, Conn>) -> impl Fn(&DeviceId) -> bool {
    let linked: BTreeSet<DeviceId> = conns.values().map(|conn| conn.peer).collect();
    move |device| linked.contains(device)
}

/// A refusal without further words.
pub(super) fn refused(reason: Refusal) -> Message {
    Message::Refused { reason, words: String::new() }
}
