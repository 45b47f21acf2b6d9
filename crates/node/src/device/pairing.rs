//! Pairing on the local network (rule T3): the window in which this device looks for others whose people run
//! `kin pair` too, one ceremony after the other, and what comes of it. One task runs it from the first advert
//! to the end; the hub owns the links and writes the log.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use identity::{DeviceId, InboxId};
use link::{Advert, Discovery, Endpoint, Found, Link};
use pairing::{Attempts, LAN_ATTEMPTS};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep_until, timeout},
};
use wire::{
    device::Purpose,
    membership::{Action, GroupId},
    session::{Message, Name, Refusal},
};

use super::{
    candidates::{Candidates, News},
    hub::{Hub, HubHandle, random},
    questions::Questions,
    store::{JoinKind, StoredJoin},
};
use crate::{
    api::{ApiEvent, Failure, PairLan},
    line::{ConnId, FrameSender, dialling, targets::Key},
};

/// What adverts of an open pairing window have in common. No session of `kin sync` can have it for a topic.
pub(super) const PAIR_TOPIC: &str = "\0kin pair";
/// How long a step may take that needs no person.
pub(super) const STEP: Duration = Duration::from_secs(10);
/// How long more candidates are waited for once there is one.
const SETTLE: Duration = Duration::from_millis(600);
/// How long the link that the lower device id dials is waited for (rule T1).
const PREFERENCE: Duration = Duration::from_millis(700);
/// Pause before an address given by hand is dialled again.
const REDIAL: Duration = Duration::from_millis(500);
/// Links that may wait for their turn.
const MAX_WAITING: usize = 8;

/// An open window, as the hub knows it.
pub(super) struct Window {
    lines: mpsc::Sender<CeremonyLine>,
    choices: mpsc::Sender<u32>,
    cancel: mpsc::Sender<String>,
}

impl Window {
    /// Hands over a link on which both ends want to pair. False if there is no room.
    pub(super) fn offer(&self, line: CeremonyLine) -> bool {
        self.lines.try_send(line).is_ok()
    }

    /// A person chose a candidate.
    pub(super) fn choose(&self, number: u32) -> bool {
        self.choices.try_send(number).is_ok()
    }

    /// Closes the window.
    pub(super) fn cancel(&self, reason: &str) {
        let _ = self.cancel.try_send(reason.to_owned());
    }
}

/// A link for a ceremony, handed over by the hub, which still owns it.
pub(super) struct CeremonyLine {
    pub(super) id: ConnId,
    pub(super) peer: DeviceId,
    pub(super) addr: SocketAddr,
    /// Where it listens.
    pub(super) port: u16,
    pub(super) dialled: bool,
    pub(super) exporter: [u8; 32],
    pub(super) out: FrameSender,
    pub(super) heard: mpsc::Receiver<Message>,
    /// The other side has said yes.
    pub(super) accepted: bool,
    /// What it said after that while this side's person was still being asked, in order.
    pub(super) early: VecDeque<Message>,
    pub(super) hub: HubHandle,
}

impl Drop for CeremonyLine {
    /// A link whose ceremony came to nothing ends; one that goes on is for something else by then.
    fn drop(&mut self) {
        let id = self.id;
        self.hub.send(move |hub| hub.end_ceremony(id));
    }
}

impl CeremonyLine {
    pub(super) fn say(&self, message: &Message) {
        let _ = self.out.say(message);
    }

    pub(super) fn refuse(&self, words: &str) {
        let (reason, words) = (Refusal::Declined, words.to_owned());
        self.out.close_with(Some(Message::Refused { reason, words }));
    }

    /// The next message that needs no person.
    pub(super) async fn next(&mut self) -> Result<Message, Broken> {
        if let Some(early) = self.early.pop_front() {
            return Ok(early);
        }
        match timeout(STEP, self.heard.recv()).await {
            Ok(Some(Message::Refused { words, .. })) => Err(Broken::Refused(words)),
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(Broken::Lost("the link was lost".to_owned())),
            Err(_) => Err(Broken::Lost("it did not answer in time".to_owned())),
        }
    }
}

/// Why a ceremony came to nothing.
pub(super) enum Broken {
    /// The other side, or its person, said no.
    Refused(String),
    /// This side's person said no.
    Declined,
    /// It broke off.
    Lost(String),
    /// It cannot work between these two; trying again does not help.
    Never(String),
}

/// What the task is given.
pub(super) struct Setup {
    pub(super) hub: HubHandle,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) port: u16,
    pub(super) me: DeviceId,
    pub(super) inbox: InboxId,
    pub(super) name: Name,
    pub(super) questions: Questions,
    pub(super) options: PairLan,
    /// The group that this device would admit to, and its members.
    pub(super) group: Option<(GroupId, String, u32)>,
    pub(super) expect: Option<DeviceId>,
}

/// Opens a window and runs it in the background; events come by the receiver.
pub(super) fn open(setup: Setup) -> (Window, mpsc::Receiver<ApiEvent>) {
    let (events, told) = mpsc::channel(64);
    let (lines, lines_in) = mpsc::channel(MAX_WAITING);
    let (choices, choices_in) = mpsc::channel(4);
    let (cancel, cancelled) = mpsc::channel(1);
    let hub = setup.hub.clone();
    let task = Task {
        setup,
        events,
        candidates: Candidates::default(),
        waiting: HashMap::new(),
        attempts: Attempts::new(LAN_ATTEMPTS),
    };
    tokio::spawn(async move {
        task.run(lines_in, choices_in, cancelled).await;
        hub.send(|hub| hub.pairing = None);
    });
    (Window { lines, choices, cancel }, told)
}

pub(super) struct Task {
    pub(super) setup: Setup,
    pub(super) events: mpsc::Sender<ApiEvent>,
    candidates: Candidates,
    /// Links on which both sides are ready, and when they may begin.
    waiting: HashMap<DeviceId, (CeremonyLine, Instant)>,
    pub(super) attempts: Attempts,
}

impl Task {
    pub(super) async fn tell(&self, event: ApiEvent) {
        // Whoever asked may have gone; that is seen elsewhere.
        let _ = self.events.send(event).await;
    }

    async fn run(
        mut self,
        mut lines: mpsc::Receiver<CeremonyLine>,
        mut choices: mpsc::Receiver<u32>,
        mut cancelled: mpsc::Receiver<String>,
    ) {
        let seconds = self.setup.options.timeout.unwrap_or(300).clamp(1, 24 * 3600);
        let end = Instant::now() + Duration::from_secs(seconds);
        self.tell(ApiEvent::Searching {
            device: self.setup.me.to_string(),
            name: self.setup.name.as_str().to_owned(),
            port: self.setup.port,
        })
        .await;
        let (dialled, mut links) = mpsc::channel::<Option<Link>>(4);
        let mut search = None;
        let mut news = None;
        if let Some(host) = &self.setup.options.host {
            self.redial(host.clone(), dialled.clone());
        } else {
            match self.advertise() {
                Ok((discovery, found)) => (search, news) = (Some(discovery), Some(found)),
                Err(message) => {
                    let hint = "name the other device: kin pair HOST:PORT".to_owned();
                    self.tell(ApiEvent::Error { kind: "discovery".to_owned(), message, hint })
                        .await;
                }
            }
        }
        let mut settled: Option<Instant> = None;
        let last = loop {
            if let Some(line) = self.due() {
                match self.ceremony(line, end).await {
                    Ok(event) => break event,
                    Err(Broken::Declined) => {
                        break ApiEvent::Refused { reason: "you said no".to_owned() };
                    }
                    Err(Broken::Refused(words)) => {
                        let reason = match words.is_empty() {
                            true => "the other side said no".to_owned(),
                            false => words,
                        };
                        break ApiEvent::Refused { reason };
                    }
                    Err(Broken::Never(reason)) => break ApiEvent::Refused { reason },
                    Err(Broken::Lost(reason)) if self.attempts.closed() => {
                        let reason = format!(
                            "{reason}; three attempts broke off after the words were known: somebody may be guessing"
                        );
                        break ApiEvent::Refused { reason };
                    }
                    Err(Broken::Lost(message)) => {
                        let hint = "it is tried again".to_owned();
                        self.tell(ApiEvent::Error { kind: "pairing".to_owned(), message, hint })
                            .await;
                        self.candidates.dial_anew();
                        settled = Some(Instant::now() + SETTLE);
                        continue;
                    }
                }
            }
            let next = self.waiting.values().map(|(_, at)| *at).chain(settled).min();
            let wake = next.unwrap_or(end).min(end);
            let found = async {
                match &mut news {
                    Some(news) => mpsc::Receiver::recv(news).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.events.closed() => break ApiEvent::Timeout,
                Some(reason) = cancelled.recv() => break ApiEvent::Refused { reason },
                Some(line) = lines.recv() => self.came(line).await,
                Some(number) = choices.recv() => self.choose(number, &dialled),
                Some(link) = links.recv() => self.linked(link),
                Some(found) = found => {
                    if self.found(found).await && settled.is_none() {
                        settled = Some(Instant::now() + SETTLE);
                    }
                }
                () = sleep_until(wake.into()) => {
                    if Instant::now() >= end {
                        break ApiEvent::Timeout;
                    }
                    if settled.is_some_and(|at| at <= Instant::now()) {
                        settled = None;
                        if let Some(only) = self.candidates.only() {
                            self.dial(only, &dialled);
                        }
                    }
                }
            }
        };
        for (_, (line, _)) in self.waiting.drain() {
            line.refuse("it does not pair any more");
        }
        // The name is not told any longer than a person looks (rule T2).
        if let Some(search) = search {
            search.stop().await;
        }
        self.tell(last).await;
    }

    fn advertise(&self) -> Result<(Discovery, mpsc::Receiver<Found>), String> {
        let run = random().map_err(|error| error.to_string())?;
        Discovery::start(&Advert {
            device: self.setup.me,
            name: self.setup.name.as_str().to_owned(),
            topic: PAIR_TOPIC.to_owned(),
            port: self.setup.port,
            run,
        })
        .map_err(|error| error.to_string())
    }

    // Candidates

    /// An advert came. True if somebody may be there to be dialled.
    async fn found(&mut self, found: Found) -> bool {
        if found.claims_to_be(self.setup.me) {
            return false;
        }
        let device = self.waiting.keys().copied().find(|device| found.claims_to_be(*device));
        let (name, addr) = (found.name.clone(), found.addrs.first().copied());
        let news = self.candidates.heard(found, device);
        if let News::New(number) = news {
            self.tell_candidate(number, name, addr).await;
        }
        news != News::Nothing
    }

    async fn tell_candidate(&self, number: usize, name: String, addr: Option<SocketAddr>) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let addr = addr.map(|addr| addr.to_string()).unwrap_or_default();
        self.tell(ApiEvent::Candidate { number, name, addr }).await;
    }

    fn choose(&mut self, number: u32, dialled: &mpsc::Sender<Option<Link>>) {
        let at = (number as usize).wrapping_sub(1);
        let is_it = |device: &DeviceId| self.candidates.is_at(at, device);
        let ready = self.waiting.iter_mut().find(|(device, _)| is_it(device));
        if let Some((_, (_, at))) = ready {
            *at = Instant::now();
        } else {
            self.dial(at, dialled);
        }
    }

    fn dial(&mut self, at: usize, dialled: &mpsc::Sender<Option<Link>>) {
        let Some((instance, addrs)) = self.candidates.dial(at) else { return };
        let endpoint = Arc::clone(&self.setup.endpoint);
        let (key, dialled) = (Key::Advert(instance), dialled.clone());
        tokio::spawn(async move {
            let link = dialling::dial(&endpoint, &key, addrs).await.ok();
            let _ = dialled.send(link).await;
        });
    }

    /// Dials a place given by hand until somebody answers there and nobody wants it any more.
    fn redial(&self, host: String, dialled: mpsc::Sender<Option<Link>>) {
        let endpoint = Arc::clone(&self.setup.endpoint);
        let events = self.events.clone();
        tokio::spawn(async move {
            let key = Key::Manual(host.clone());
            let mut told = false;
            while !dialled.is_closed() {
                match dialling::dial(&endpoint, &key, Vec::new()).await {
                    Ok(link) => {
                        let _ = dialled.send(Some(link)).await;
                        // What comes of it is heard soon; if nothing does, it is tried again.
                        tokio::time::sleep(STEP).await;
                    }
                    Err(error) if !std::mem::replace(&mut told, true) => {
                        let message = format!("{host} is not reached: {error}");
                        let hint = "it is tried again: run kin pair there, which says its port";
                        let (kind, hint) = ("unreachable".to_owned(), hint.to_owned());
                        let _ = events.send(ApiEvent::Error { kind, message, hint }).await;
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(REDIAL).await;
            }
        });
    }

    fn linked(&mut self, link: Option<Link>) {
        match link {
            // The hub says hello; if the other end pairs too, the link comes back as one for a ceremony.
            Some(link) => {
                self.setup.hub.send(move |hub| hub.linked(link, Some(Purpose::Pair)));
            }
            None => self.candidates.dial_anew(),
        }
    }

    /// A link on which both sides are ready.
    async fn came(&mut self, line: CeremonyLine) {
        let peer = line.peer;
        if self.setup.options.host.is_none()
            && let News::New(number) = self.candidates.linked(peer)
        {
            self.tell_candidate(number, peer.short(), Some(line.addr)).await;
        }
        let preferred = line.dialled == (self.setup.me < peer);
        // With several candidates, a person chooses.
        let several = self.candidates.count() > 1 && !line.dialled;
        let at = match (several, preferred) {
            (true, _) => Instant::now() + Duration::from_secs(24 * 3600),
            (false, true) => Instant::now(),
            (false, false) => Instant::now() + PREFERENCE,
        };
        let better =
            self.waiting.get(&peer).is_none_or(|(other, _)| preferred || other.out.is_closed());
        if better && self.waiting.len() < MAX_WAITING {
            self.waiting.insert(peer, (line, at));
        }
    }

    /// A link whose ceremony may begin.
    fn due(&mut self) -> Option<CeremonyLine> {
        self.waiting.retain(|_, (line, _)| !line.out.is_closed());
        let now = Instant::now();
        let due = self.waiting.iter().find(|(_, (_, at))| *at <= now).map(|(peer, _)| *peer)?;
        self.waiting.remove(&due).map(|(line, _)| line)
    }
}

impl Hub {
    /// Keeps what this device's person agreed to, before the other side can know of it (rule T8).
    pub(super) fn put_join(&mut self, join: StoredJoin, at: SocketAddr) -> Result<(), Failure> {
        self.store.put_join(&join).map_err(|error| Failure::failed("state", error))?;
        let place = self.places.entry(join.device).or_default();
        if at.port() != 0 && !place.addresses.contains(&at) {
            place.addresses.insert(0, at);
        }
        let place = place.clone();
        self.store
            .put_place(&join.device, &place)
            .map_err(|error| Failure::failed("state", error))?;
        self.joins.retain(|other| other.device != join.device);
        self.joins.push(join);
        Ok(())
    }

    /// Gives up a join on the LAN with a device that was begun before. False if one by a token is under way.
    pub(super) fn begin_lan_join(&mut self, device: &DeviceId) -> bool {
        let known = self.joins.iter().find(|join| join.device == *device);
        match known.map(|join| join.kind) {
            Some(JoinKind::Token | JoinKind::Code) => return false,
            Some(JoinKind::Lan | JoinKind::Rescue) => self.forget_join(device),
            None => {}
        }
        true
    }

    pub(super) fn forget_join(&mut self, device: &DeviceId) {
        self.joins.retain(|join| join.device != *device);
        self.end_token_join(device);
        let mut removed = self.store.remove_join(device);
        if self.groups.shared_with(device).is_empty() {
            // What was said about SSH was said for this pairing, and for no later one.
            removed = removed.and_then(|()| self.store.forget_ssh(device));
        }
        if let Err(error) = removed {
            self.complain("state", &error.to_string(), "");
        }
    }

    /// Admits a device to a group, or to a new one of this device's.
    pub(super) fn admit(
        &mut self,
        group: Option<GroupId>,
        action: Action,
    ) -> Result<GroupId, Failure> {
        let group = match group {
            Some(group) => group,
            None => self.make_group(None)?,
        };
        self.write(group, action)?;
        Ok(group)
    }

    /// The ceremony on a link is over: the hub has it back, with what was not heard yet.
    pub(super) fn take_back(&mut self, line: CeremonyLine, purpose: Purpose) {
        self.ceremony_ended(line.id, purpose);
        self.hear_rest(line);
    }

    /// The ceremony on a link is over, whatever came of it.
    fn end_ceremony(&mut self, id: ConnId) {
        let pairs = |conn: &super::links::Conn| conn.purpose == Some(Purpose::Pair);
        if self.conns.get(&id).is_some_and(pairs) {
            self.cut(id, "its ceremony is over");
        }
    }

    /// What came while a ceremony ran and was not for it.
    fn hear_rest(&mut self, mut line: CeremonyLine) {
        line.heard.close();
        while let Some(message) = line.early.pop_front() {
            self.heard(line.id, message);
        }
        while let Ok(message) = line.heard.try_recv() {
            self.heard(line.id, message);
        }
    }

    pub(super) fn join_admitted(&mut self, id: ConnId, line: CeremonyLine, group: GroupId) {
        self.ceremony_ended(id, Purpose::Join);
        self.heard_admitted(id, group);
        self.hear_rest(line);
    }

    /// Has somebody told when a device and this one hold each other.
    pub(super) fn await_shared(&mut self, device: DeviceId, done: oneshot::Sender<String>) {
        self.awaited.push((device, done));
    }

    pub(super) fn shared_with_peer(&mut self, device: DeviceId, group: GroupId) {
        let label = self.groups.get(&group).map(|held| held.label.clone()).unwrap_or_default();
        self.tokens_shared(&device, &group, &label);
        for at in (0..self.awaited.len()).rev() {
            if self.awaited.get(at).is_some_and(|(awaited, _)| *awaited == device) {
                let (_, done) = self.awaited.remove(at);
                let _ = done.send(label.clone());
            }
        }
    }
}
