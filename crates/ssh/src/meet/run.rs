//! The one task that decides: who is found, who is dialled, who comes in, and when it is over.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use link::{
    Advert, Asking, Discovery, Door, Endpoint, Found, Limits, LinkError, Listener, Plain,
    PlainFound, Protocol, Visitor, own_addresses,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use wire::ssh::Purpose;

use super::{
    Connecto, Event, Kind, Outcome, SSH_TOPIC, Setup, Target,
    candidates::{AIMED, Candidate, Held, MAX_FOUND, SETTLE},
    ceremony::{self, Ended},
    desk::{Desk, plain, random},
    find,
    install::Problem,
    visit,
};
use crate::{connecto::Spoken, scan};

/// How long a name is looked for before it is taken for a host's.
const SEARCH: Duration = Duration::from_secs(2);
/// Pause before somebody who was lost is dialled again.
const REDIAL: Duration = Duration::from_millis(500);
/// The same for somebody with whom another link is used, or who wanted nothing.
const LATER: Duration = Duration::from_secs(3);
/// Tasks at once: links, dialling and connections of Connecto's.
pub(super) const MAX_TASKS: usize = 64;
/// Those of them that are left to what this side begins, however many come in.
const OWN_TASKS: usize = 16;
/// Services of Connecto's.
const LISTENING: &str = "_connecto._tcp.local.";
const SYNCING: &str = "_connecto-sync._tcp.local.";

/// What the caller wants.
pub(super) enum Order {
    Answer { id: u32, yes: bool },
    Choose(u32),
    Stop,
}

/// What a task was for, and how it ended.
pub(super) enum Task {
    /// A link or connection that came in.
    Came(Ended),
    /// A candidate, by its key.
    Dialled(String, Ended),
    /// Connecto listens at some places.
    Swept(Vec<(SocketAddr, Kind, String)>),
}

pub(super) struct Run {
    pub(super) desk: Arc<Desk>,
    listener: Option<Listener>,
    visitors: Option<mpsc::Receiver<Visitor>>,
    pub(super) candidates: HashMap<String, Candidate>,
    /// The last number that a candidate got.
    pub(super) last_index: u32,
    /// Places of Connecto's, and when they count: what of them runs kin is found better until then.
    pub(super) held: Vec<Held>,
    pub(super) tasks: JoinSet<Task>,
    /// When somebody is dialled without being chosen.
    pub(super) settled: Option<Instant>,
    /// When a name that was not found is taken for a host's.
    pub(super) otherwise: Option<Instant>,
    /// The last thing that went wrong.
    trouble: String,
    /// That was a no, which says more than what came after it.
    refused: bool,
    told: HashSet<String>,
    installed: bool,
}

impl Run {
    pub(super) async fn prepare(
        setup: Setup,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, LinkError> {
        let endpoint = Endpoint::speaking(Protocol::Ssh, &setup.device, Limits::default())?;
        let endpoint = Arc::new(endpoint);
        let (mut listener, mut visitors) = (None, None);
        if setup.purpose.lets_in() {
            let mut door = Door::default();
            if !setup.allow_from.is_empty() {
                let nets = setup.allow_from.clone();
                door.from = Some(Arc::new(move |ip| nets.iter().any(|net| net.contains(ip))));
            }
            if setup.connecto.is_some() {
                let (send, taken) = mpsc::channel(8);
                (door.visitors, visitors) = (Some(send), Some(taken));
            }
            listener = Some(Listener::open(Arc::clone(&endpoint), setup.port, door).await?);
        }
        Ok(Self {
            desk: Desk::new(setup, endpoint, events),
            listener,
            visitors,
            candidates: HashMap::new(),
            last_index: 0,
            held: Vec::new(),
            tasks: JoinSet::new(),
            settled: None,
            otherwise: None,
            trouble: String::new(),
            refused: false,
            told: HashSet::new(),
            installed: false,
        })
    }

    pub(super) async fn go(mut self, mut orders: mpsc::Receiver<Order>) {
        let desk = Arc::clone(&self.desk);
        let setup = &desk.setup;
        let end = setup.timeout.map(|timeout| Instant::now() + timeout);
        let port = self.listener.as_ref().map(Listener::port);
        let name = setup.name.as_str().to_owned();
        desk.tell(Event::Listening { name, port, addrs: own_addresses(port.unwrap_or(0)) }).await;
        let (mut search, mut news) = (None, None);
        if !matches!(setup.target, Target::At(..)) || setup.connecto.is_some() {
            match self.search(port) {
                Ok((discovery, found)) => (search, news) = (Some(discovery), Some(found)),
                Err(error) => {
                    desk.note(format!("{error}; name the other device by its address")).await;
                }
            }
        }
        let (mut _plain, mut heard) = (None, None);
        let (mut _asking, mut answers) = (None, None);
        if setup.connecto.is_some() {
            match self.connecto(port) {
                Ok((service, found)) => (_plain, heard) = (Some(service), Some(found)),
                Err(error) => desk.note(error.to_string()).await,
            }
            if setup.purpose.logs_in()
                && let Ok((asking, found)) = Asking::start(self.service())
            {
                (_asking, answers) = (Some(asking), Some(found));
            }
        }
        match &setup.target {
            Target::At(place, kind) => self.aim(place, *kind),
            Target::Named(_, Some(_)) => self.otherwise = Some(Instant::now() + SEARCH),
            Target::Named(_, None) | Target::Any => {}
        }
        let outcome = loop {
            let set = [self.settled, self.otherwise, end];
            let held = self.held.iter().map(|held| held.at);
            let wake = self.candidates.values().filter_map(|one| one.at).chain(held);
            let wake = wake.chain(set.into_iter().flatten());
            let wake = wake.min().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                () = desk.unheard() => break Outcome::Stopped,
                order = orders.recv() => match order {
                    Some(Order::Answer { id, yes }) => desk.answered(id, yes),
                    Some(Order::Choose(index)) => self.choose(index),
                    Some(Order::Stop) | None => break Outcome::Stopped,
                },
                link = accept(self.listener.as_mut()) => {
                    if self.tasks.len() < MAX_TASKS - OWN_TASKS
                        && let Some(guest) = desk.welcome(link.addr())
                    {
                        let desk = Arc::clone(&desk);
                        self.tasks.spawn(async move {
                            let ended = ceremony::play(desk, link).await;
                            drop(guest);
                            Task::Came(ended)
                        });
                    }
                }
                visitor = next(self.visitors.as_mut()) => self.visit(visitor),
                found = next(news.as_mut()) => self.found(found).await,
                found = next(heard.as_mut()) => self.advertised(&found),
                ip = next(answers.as_mut()) => {
                    let addr = SocketAddr::new(ip, crate::connecto::PORT);
                    self.hold(addr, Kind::Connecto, String::new());
                }
                Some(ended) = self.tasks.join_next() => {
                    if let Ok(task) = ended
                        && let Some(outcome) = self.ended(task).await
                    {
                        break outcome;
                    }
                }
                () = sleep_until(wake) => {
                    if end.is_some_and(|end| end <= Instant::now()) {
                        break self.expired();
                    }
                    self.due().await;
                }
            }
        };
        // The name is not told any longer than a person looks (rule T2); who waits for the end is told first.
        self.tasks.shutdown().await;
        drop(self.listener.take());
        desk.tell(Event::Over(outcome)).await;
        if let Some(search) = search {
            search.stop().await;
        }
    }

    fn search(&self, port: Option<u16>) -> Result<(Discovery, mpsc::Receiver<Found>), LinkError> {
        let Some(port) = port else { return Discovery::look(SSH_TOPIC) };
        let run = random().map_err(LinkError::Discovery)?;
        Discovery::start(&Advert {
            device: self.desk.endpoint.device(),
            name: self.desk.setup.name.as_str().to_owned(),
            topic: SSH_TOPIC.to_owned(),
            port,
            run,
        })
    }

    /// Tells the network in Connecto's way, and looks for its listeners in every way there is: its program
    /// answers no question for its own kind.
    fn connecto(
        &mut self,
        port: Option<u16>,
    ) -> Result<(Plain, mpsc::Receiver<PlainFound>), LinkError> {
        let setup = &self.desk.setup;
        // One that syncs goes on after a look; one that listens may serve one connection only.
        if setup.purpose == Purpose::Sync {
            let which = setup.connecto.unwrap_or(Connecto::Any);
            self.tasks.spawn(async move {
                sleep(SETTLE).await;
                Task::Swept(scan::near(which).await)
            });
        }
        // Its program passes over adverts that have its own name in theirs: digits are in no name.
        let label = u32::from_be_bytes(random().map_err(LinkError::Discovery)?);
        Plain::start(self.service(), &format!("{label:010}"), port)
    }

    /// What Connecto's side of this is called.
    fn service(&self) -> &'static str {
        if self.desk.setup.purpose == Purpose::Sync { SYNCING } else { LISTENING }
    }

    fn visit(&mut self, visitor: Visitor) {
        let known = matches!(Spoken::by(visitor.first), Some(Spoken::Json | Spoken::Text));
        if !known || self.tasks.len() >= MAX_TASKS - OWN_TASKS {
            return;
        }
        let Some(guest) = self.desk.welcome(visitor.addr) else { return };
        let desk = Arc::clone(&self.desk);
        self.tasks.spawn(async move {
            let ended = visit::serve(desk, visitor).await;
            drop(guest);
            Task::Came(ended)
        });
    }

    // Ends

    async fn ended(&mut self, task: Task) -> Option<Outcome> {
        let (key, ended) = match task {
            Task::Came(ended) => (None, ended),
            Task::Dialled(key, ended) => (Some(key), ended),
            Task::Swept(found) => {
                for (addr, kind, name) in found {
                    self.hold(addr, kind, name);
                }
                return None;
            }
        };
        let (desk, continuous) = (Arc::clone(&self.desk), self.desk.setup.continuous);
        let aimed = key.as_deref() == Some(AIMED);
        let again = match &ended {
            Ended::Lost(_) => Some(REDIAL),
            Ended::Looked => Some(LATER),
            // Who syncs may come to something else in a while; a person said where else.
            _ => None,
        };
        if let Some(one) = key.and_then(|key| self.candidates.get_mut(&key)) {
            one.busy = false;
            one.at = again.filter(|_| !one.gone).map(|pause| Instant::now() + pause);
        }
        if desk.closed() {
            return Some(Outcome::Refused(
                "three attempts broke off after the words were known: somebody may be guessing; nothing was installed"
                    .to_owned(),
            ));
        }
        match ended {
            Ended::Done => {
                self.installed = true;
                return (!continuous).then_some(Outcome::Done);
            }
            Ended::Looked => {}
            Ended::Lost(words) => {
                self.say_once(&words).await;
                if !self.refused {
                    self.trouble = words;
                }
            }
            Ended::Refused(words) if !continuous => return Some(Outcome::Refused(words)),
            Ended::Declined if !continuous => {
                return Some(Outcome::Refused("you said no".to_owned()));
            }
            // Others may come that fit.
            Ended::Never(words) if aimed || matches!(desk.setup.target, Target::Named(..)) => {
                return Some(Outcome::Refused(words));
            }
            Ended::Failed(Problem { kind, message, hint }) if !continuous => {
                return Some(Outcome::Failed { kind, message, hint });
            }
            Ended::Failed(Problem { message: words, .. }) => {
                self.say_once(&format!("{words}; this goes on")).await;
                self.trouble = words;
            }
            Ended::Refused(words) | Ended::Never(words) => {
                self.say_once(&format!("{words}; nothing was installed, and this goes on")).await;
                (self.trouble, self.refused) = (words, true);
            }
            Ended::Declined => {}
        }
        None
    }

    async fn say_once(&mut self, words: &str) {
        if self.told.len() < MAX_FOUND && self.told.insert(words.to_owned()) {
            self.desk.note(words.to_owned()).await;
        }
    }

    fn expired(&mut self) -> Outcome {
        if self.installed {
            return Outcome::Done;
        }
        Outcome::TimedOut(std::mem::take(&mut self.trouble))
    }
}

/// Talks with whoever is there.
pub(super) async fn talk(desk: Arc<Desk>, addrs: Vec<SocketAddr>, kind: Kind) -> Ended {
    if kind == Kind::Kinfold {
        let at = addrs.first().map_or_else(String::new, |addr| format!("{}: ", plain(*addr)));
        return match find::first(&desk.endpoint, addrs).await {
            Ok(link) => ceremony::play(desk, link).await,
            Err(LinkError::Own) => {
                Ended::Never("that address leads back to this device".to_owned())
            }
            Err(error @ LinkError::NotKinfold(_)) => Ended::Never(format!(
                "{error}; if it is Connecto, say --connecto, which proves nothing about who that is"
            )),
            // Somebody took the connection and knows nothing of it.
            Err(error @ (LinkError::Cut | LinkError::Timeout { .. })) => Ended::Lost(format!(
                "{error}: does kin ssh run there? Connecto needs --connecto, and proves nothing"
            )),
            Err(error) => Ended::Lost(format!("{at}{error}")),
        };
    }
    let v4 = addrs.iter().copied().map(plain).find(SocketAddr::is_ipv4);
    let Some(addr) = v4.or_else(|| addrs.first().copied()) else {
        return Ended::Lost("it has no address".to_owned());
    };
    let ended = if desk.setup.purpose == Purpose::Sync {
        visit::sync(desk, addr).await
    } else {
        visit::pair(desk, addr, kind).await
    };
    ended.unwrap_or_else(Ended::Lost)
}

async fn accept(listener: Option<&mut Listener>) -> link::Link {
    match listener {
        Some(listener) => match listener.accept().await {
            Some(link) => link,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
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
