//! Pairing on the local network (rule T3): the window in which this device looks for others whose people run
//! `kin pair` too, one ceremony after the other, and what comes of it. One task runs it from the first advert
//! to the end; the hub owns the links and writes the log.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use identity::{DeviceId, InboxId};
use link::{Advert, Discovery, Endpoint, Found};
use pairing::{Attempts, LAN_ATTEMPTS};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep_until, timeout},
};
use wire::{
    device::Purpose,
    membership::{Action, GroupId, Operation},
    session::{Message, Name, Refusal},
};

use super::{
    candidates::Candidates,
    choosing::{Dialled, MAX_WAITING},
    hub::{Hub, HubHandle, random},
    questions::Questions,
    store::{JoinKind, StoredJoin},
};
use crate::{
    api::{ApiEvent, Failure, PairLan},
    line::{ConnId, FrameSender},
};

/// What adverts of an open pairing window have in common. No session of `kin sync` can have it for a topic.
pub(super) const PAIR_TOPIC: &str = "\0kin pair";
/// How long a step may take that needs no person.
pub(super) const STEP: Duration = Duration::from_secs(10);
/// How long more candidates are waited for once there is one.
const SETTLE: Duration = Duration::from_millis(600);

/// How often that doubles while ceremonies come to nothing.
const MAX_PAUSES: u32 = 4;
/// What is told of ceremonies that came to nothing before anything was compared with somebody whom nobody chose.
const MAX_LOSSES: usize = 16;

/// An open window, as the hub knows it.
pub(super) struct Window {
    lines: mpsc::Sender<CeremonyLine>,
    choices: mpsc::Sender<u32>,
    cancel: Arc<Cancel>,
}

/// Why a window is to be closed, once it is; all that listen have gone when nothing comes of it any more.
pub(super) type Cancel = watch::Sender<Option<String>>;

impl Window {
    /// Hands over a link on which both ends want to pair. False if there is no room.
    pub(super) fn offer(&self, line: CeremonyLine) -> bool {
        self.lines.try_send(line).is_ok()
    }

    /// A person chose a candidate.
    pub(super) fn choose(&self, number: u32) -> bool {
        self.choices.try_send(number).is_ok()
    }

    /// Closes the window: from now on it lets nobody in. The task ends soon, and with it all that listen.
    pub(super) fn cancel(&self, reason: &str) -> Arc<Cancel> {
        self.cancel.send_if_modified(|why| {
            let first = why.is_none();
            why.get_or_insert_with(|| reason.to_owned());
            first
        });
        Arc::clone(&self.cancel)
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
    /// Where the other end listens, as far as it can be told.
    pub(super) fn place(&self) -> SocketAddr {
        match self.dialled || self.port == 0 {
            true => self.addr,
            false => SocketAddr::new(self.addr.ip(), self.port),
        }
    }

    pub(super) fn say(&self, message: &Message) {
        let _ = self.out.say(message);
    }

    pub(super) fn refuse(&self, words: &str) {
        let (reason, words) = (Refusal::Declined, words.to_owned());
        self.out.close_with(Some(Message::Refused { reason, words }));
    }

    /// The next message that needs no person.
    pub(super) async fn next(&mut self) -> Result<Message, Broken> {
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
    /// The window is closed.
    Cancelled(String),
}

impl Broken {
    /// What whoever was asked something meanwhile is told.
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Refused(_) | Self::Declined => "the other side said no",
            Self::Lost(_) | Self::Never(_) => "the link was lost",
            Self::Cancelled(_) => "the window is closed",
        }
    }
}

/// What a device is already to the group that it would be let in to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Stranger,
    /// A member, let in by this device in just that way: to write it again would change nothing.
    AsAgreed,
    /// A member by another's word, or as something else.
    Otherwise,
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
    let (lines, lines_in) = mpsc::channel(MAX_WAITING);
    let (choices, choices_in) = mpsc::channel(4);
    let (cancel, cancelled) = watch::channel(None);
    let hub = setup.hub.clone();
    let (task, told) = Task::new(setup, cancelled.clone());
    tokio::spawn(async move {
        task.run(lines_in, choices_in).await;
        let over = hub.with(|hub| {
            hub.pairing = None;
            // What broke off may be finished where the two meet again (rule T8).
            hub.look_for_members();
        });
        over.await;
        // Whoever closed it may open another one.
        drop(cancelled);
    });
    (Window { lines, choices, cancel: Arc::new(cancel) }, told)
}

pub(super) struct Task {
    pub(super) setup: Setup,
    pub(super) events: mpsc::Sender<ApiEvent>,
    pub(super) candidates: Candidates,
    /// The number that a person chose, and until when its device must have come.
    pub(super) chosen: Option<(usize, Instant)>,
    /// Devices that were found at the place that was dialled for them.
    pub(super) reached: HashSet<DeviceId>,
    /// Links on which both sides are ready, and when they may begin.
    pub(super) waiting: HashMap<DeviceId, (CeremonyLine, Instant)>,
    pub(super) attempts: Attempts,
    /// Why ceremonies came to nothing, as it was told.
    losses: Vec<(DeviceId, String)>,
    cancelled: watch::Receiver<Option<String>>,
}

impl Task {
    pub(super) fn new(
        setup: Setup,
        cancelled: watch::Receiver<Option<String>>,
    ) -> (Self, mpsc::Receiver<ApiEvent>) {
        let (events, told) = mpsc::channel(64);
        let task = Self {
            setup,
            events,
            candidates: Candidates::default(),
            chosen: None,
            reached: HashSet::new(),
            waiting: HashMap::new(),
            attempts: Attempts::new(LAN_ATTEMPTS),
            losses: Vec::new(),
            cancelled,
        };
        (task, told)
    }

    pub(super) async fn tell(&self, event: ApiEvent) {
        // Whoever asked may have gone; that is seen elsewhere.
        let _ = self.events.send(event).await;
    }

    /// True, on the hub's task, once the window is closed: what is not done by then is not done.
    pub(super) fn is_cancelled(&self) -> impl Fn() -> bool + Send + use<> {
        let cancelled = self.cancelled.clone();
        move || cancelled.borrow().is_some()
    }

    /// Waits until the window is to be closed: why.
    pub(super) async fn cancelled(&self) -> String {
        let mut cancelled = self.cancelled.clone();
        let why = cancelled.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "this device stops".to_owned())
    }

    async fn run(
        mut self,
        mut lines: mpsc::Receiver<CeremonyLine>,
        mut choices: mpsc::Receiver<u32>,
    ) {
        let seconds = self.setup.options.timeout.unwrap_or(300).clamp(1, 24 * 3600);
        let end = Instant::now() + Duration::from_secs(seconds);
        self.tell(ApiEvent::Searching {
            device: self.setup.me.to_string(),
            name: self.setup.name.as_str().to_owned(),
            port: self.setup.port,
        })
        .await;
        let (dialled, mut links) = mpsc::channel::<Dialled>(4);
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
        let mut losses = 0_u32;
        let last = loop {
            if let Some(line) = self.due() {
                let (peer, meant, left) = (line.peer, self.is_meant(&line), self.attempts.left());
                self.chosen = None;
                match self.ceremony(line, end, meant).await {
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
                    Err(Broken::Never(reason) | Broken::Cancelled(reason)) => {
                        break ApiEvent::Refused { reason };
                    }
                    Err(Broken::Lost(reason)) if self.attempts.closed() => {
                        let reason = format!(
                            "{reason}; three attempts broke off after the words were known: somebody may be guessing"
                        );
                        break ApiEvent::Refused { reason };
                    }
                    Err(Broken::Lost(message)) => {
                        // A person who was asked, or has chosen, hears of each.
                        let asked = meant || self.attempts.left() < left;
                        let is_told = self.is_news(peer, &message) || asked;
                        if is_told && self.candidates.count() > 1 {
                            self.offer(message, "choose again").await;
                        } else if is_told {
                            let (kind, hint) =
                                ("pairing".to_owned(), "it is tried again".to_owned());
                            self.tell(ApiEvent::Error { kind, message, hint }).await;
                        }
                        self.candidates.dial_anew();
                        settled = Some(Instant::now() + SETTLE * (1 << losses.min(MAX_PAUSES)));
                        losses += 1;
                        continue;
                    }
                }
            }
            let chosen = self.chosen.map(|(_, until)| until);
            let next = self.waiting.values().map(|(_, at)| *at).chain(settled).chain(chosen).min();
            let wake = next.unwrap_or(end).min(end);
            let found = async {
                match &mut news {
                    Some(news) => mpsc::Receiver::recv(news).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.events.closed() => break ApiEvent::Timeout,
                reason = self.cancelled() => break ApiEvent::Refused { reason },
                Some(line) = lines.recv() => self.came(line).await,
                Some(number) = choices.recv() => self.choose(number, &dialled).await,
                Some(link) = links.recv() => self.linked(link).await,
                Some(found) = found => {
                    if self.found(found).await && settled.is_none() {
                        settled = Some(Instant::now() + SETTLE);
                    }
                }
                () = sleep_until(wake.into()) => {
                    if Instant::now() >= end {
                        break ApiEvent::Timeout;
                    }
                    if self.chosen.is_some_and(|(_, until)| until <= Instant::now()) {
                        self.offer_again("does not answer").await;
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

    /// False for what was told of a device already, and once very much was told.
    fn is_news(&mut self, peer: DeviceId, message: &str) -> bool {
        let loss = (peer, message.to_owned());
        let is_news = self.losses.len() < MAX_LOSSES && !self.losses.contains(&loss);
        if is_news {
            self.losses.push(loss);
        }
        is_news
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
        self.refused_logs.remove(&join.device);
        self.joins.push(join);
        Ok(())
    }

    /// Before a join on the LAN with a device is asked about: one that was begun before says no more by itself. It is
    /// kept until the yes to this one, since it may have been admitted (rule T8). False if one by a token is under way.
    pub(super) fn begin_lan_join(&mut self, device: &DeviceId) -> bool {
        let known = self.joins.iter().find(|join| join.device == *device);
        if known.is_some_and(|join| matches!(join.kind, JoinKind::Token | JoinKind::Code)) {
            return false;
        }
        let before = |conn: &super::links::Conn| {
            conn.line.peer == *device && conn.purpose == Some(Purpose::Join)
        };
        let before: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| before(conn)).map(|(id, _)| *id).collect();
        for id in before {
            self.cut(id, "another pairing with it begins");
        }
        true
    }

    /// Its person wants no join on the LAN with a device any more.
    pub(super) fn forget_lan_join(&mut self, device: &DeviceId) {
        let kept = self.joins.iter().find(|join| join.device == *device);
        if kept.is_some_and(|join| join.kind == JoinKind::Lan) {
            self.forget_join(device);
        }
    }

    pub(super) fn forget_join(&mut self, device: &DeviceId) {
        self.joins.retain(|join| join.device != *device);
        self.refused_logs.remove(device);
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

    /// How what an admission says stands to what the group's log says already.
    pub(super) fn stands(&self, group: Option<&GroupId>, admission: &Action) -> Standing {
        let Action::Admit { device, inbox, role, folders, ceremony, .. } = admission else {
            return Standing::Stranger;
        };
        let Some(held) = group.and_then(|group| self.groups.get(group)) else {
            return Standing::Stranger;
        };
        let manifest = held.manifest();
        let Some(member) = manifest.members.get(device) else { return Standing::Stranger };
        // What its log is judged by when it joins (rule T10): by whom and how it was let in, and as what.
        let granted = held.log().get(&member.grant).is_some_and(|signed| {
            let Operation { author, action, .. } = signed.operation();
            let by = match action {
                Action::Admit { ceremony, .. } => Some(ceremony),
                _ => None,
            };
            *author == self.me && by == Some(ceremony)
        });
        let same = member.inbox == *inbox && member.role == *role && member.folders == *folders;
        if granted && same { Standing::AsAgreed } else { Standing::Otherwise }
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
        while let Ok(message) = line.heard.try_recv() {
            self.heard(line.id, message);
        }
    }

    pub(super) fn join_admitted(&mut self, id: ConnId, line: CeremonyLine, group: GroupId) {
        self.ceremony_ended(id, Purpose::Join);
        // A device that held this one all the time may have dialled it as a member, and that link have stayed.
        let stays = self.conns.contains_key(&id).then_some(id);
        match stays.or_else(|| self.link_to(&line.peer)) {
            Some(id) => self.heard_admitted(id, group),
            None => self.want_link(&line.peer),
        }
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
