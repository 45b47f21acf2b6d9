//! The task that owns a device: links, groups and folders. It hears links, timers and requests one after the
//! other. Whoever wants something of it sends it a closure ([`HubHandle::with`]).

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use identity::{DeviceId, DeviceKey, InboxKey};
use link::{Discovery, Endpoint, Found, Listener};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::sleep_until,
};
use tree::{StateDir, StateLock};
use wire::session::Name;

use super::{
    Settings,
    codes::Codes,
    folders::Folders,
    groups::Groups,
    links::Conn,
    mail::Mail,
    pairing::Window,
    questions::Questions,
    ssh::{Files, Waiting},
    store::{Place, Store, StoredJoin},
    token::Tokens,
};
use crate::{
    api::{ApiEvent, Failure, Trouble},
    home::OldInbox,
    line::{ConnId, Internal, targets::Targets},
};

/// Events that may wait for a slow listener; then it misses some.
const EVENTS: usize = 1024;
/// Messages of links that may wait.
const HEARD: usize = 256;

/// Something that is done on the hub's task.
type Errand = Box<dyn FnOnce(&mut Hub) + Send>;

/// The device's parts.
pub(super) struct Hub {
    _lock: StateLock,
    pub(super) state: StateDir,
    pub(super) key: Arc<DeviceKey>,
    pub(super) inbox: Arc<InboxKey>,
    /// Those of before, for what was on its way.
    pub(super) old_inboxes: Vec<OldInbox>,
    pub(super) me: DeviceId,
    pub(super) name: Name,
    pub(super) settings: Settings,
    /// What is wrong with the file that has newer ones.
    pub(super) unread_settings: Option<Trouble>,
    pub(super) store: Store,
    pub(super) groups: Groups,
    pub(super) places: HashMap<DeviceId, Place>,
    pub(super) joins: Vec<StoredJoin>,
    /// How many logs of those that are to admit this device were refused since its person said yes.
    pub(super) refused_logs: BTreeMap<DeviceId, u32>,
    pub(super) invitations: super::rescue::Invitations,
    pub(super) folders: Folders,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    /// `None` while the device only serves its own commands.
    pub(super) net: Option<Net>,
    pub(super) pairing: Option<Window>,
    pub(super) tokens: Tokens,
    pub(super) codes: Codes,
    pub(super) mail: Mail,
    pub(super) questions: Questions,
    pub(super) events: broadcast::Sender<ApiEvent>,
    pub(super) internal: mpsc::Sender<Internal>,
    pub(super) handle: HubHandle,
    /// Who is told when a device and this one hold each other.
    pub(super) awaited: Vec<(DeviceId, oneshot::Sender<String>)>,
    /// As a device behind a NAT whose peers are behind others: for tests.
    #[cfg(test)]
    pub(super) dials_nobody: bool,
    /// The user's SSH files; `None` if the device leaves SSH alone.
    pub(super) files: Option<Files>,
    /// Who is told when SSH with a device is settled.
    pub(super) ssh_waiting: Vec<Waiting>,
    /// Set when the device is to end.
    pub(super) stopping: Option<Vec<oneshot::Sender<()>>>,
}

/// What a device has while it can be reached.
pub(super) struct Net {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) port: u16,
    /// True if it advertises itself and looks for others by mDNS.
    pub(super) discovery: bool,
    pub(super) targets: Targets,
    /// Adverts on the LAN by their names.
    pub(super) adverts: HashMap<String, Found>,
}

/// What the hub listens to besides its links.
pub(super) struct Ears {
    /// `None` to go on with the one that is there.
    pub(super) listener: Option<Listener>,
    pub(super) discovery: Option<(Discovery, mpsc::Receiver<Found>)>,
}

/// To the hub.
#[derive(Clone)]
pub(super) struct HubHandle {
    errands: mpsc::UnboundedSender<Errand>,
    ears: mpsc::UnboundedSender<Ears>,
}

impl HubHandle {
    /// Has something done on the hub's task; `None` if the device has ended.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Hub) -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let errand: Errand = Box::new(move |hub| {
            // Whoever asked may have gone.
            let _ = done.send(work(hub));
        });
        self.errands.send(errand).ok()?;
        result.await.ok()
    }

    /// The same, where nobody waits.
    pub(super) fn send(&self, work: impl FnOnce(&mut Hub) + Send + 'static) {
        let _ = self.errands.send(Box::new(work));
    }

    /// Gives the hub something to listen to, in place of what it had.
    pub(super) fn listen(&self, ears: Ears) {
        let _ = self.ears.send(ears);
    }
}

/// What a hub is made of.
pub(super) struct Parts {
    pub(super) lock: StateLock,
    pub(super) state: StateDir,
    pub(super) key: Arc<DeviceKey>,
    pub(super) inbox: Arc<InboxKey>,
    pub(super) old_inboxes: Vec<OldInbox>,
    pub(super) name: Name,
    pub(super) settings: Settings,
    pub(super) store: Store,
    pub(super) groups: Groups,
}

/// Starts the task.
pub(super) fn start(parts: Parts) -> Result<HubHandle, Failure> {
    let Parts { lock, state, key, inbox, old_inboxes, name, settings, store, groups } = parts;
    let lost = |error: super::store::StoreError| Failure::failed("state", error);
    let places = store.places().map_err(lost)?.into_iter().collect();
    let joins = store.joins().map_err(lost)?;
    let folders = Folders::new(store.folders().map_err(lost)?);
    let (internal, heard) = mpsc::channel(HEARD);
    let (errands, errands_in) = mpsc::unbounded_channel();
    let (ears, ears_in) = mpsc::unbounded_channel();
    let handle = HubHandle { errands, ears };
    let files = Files::start(&settings.ssh, state.path());
    let mut hub = Hub {
        me: key.id(),
        _lock: lock,
        state,
        key,
        inbox,
        old_inboxes,
        name,
        settings,
        unread_settings: None,
        store,
        groups,
        places,
        joins,
        refused_logs: BTreeMap::new(),
        invitations: BTreeMap::new(),
        folders,
        conns: BTreeMap::new(),
        next_conn: 0,
        net: None,
        pairing: None,
        tokens: Tokens::default(),
        codes: Codes::default(),
        mail: Mail::default(),
        questions: Questions::default(),
        events: broadcast::Sender::new(EVENTS),
        internal,
        handle: handle.clone(),
        awaited: Vec::new(),
        #[cfg(test)]
        dials_nobody: false,
        files,
        ssh_waiting: Vec::new(),
        stopping: None,
    };
    hub.load_relays();
    hub.review_mail();
    hub.restore_token_joins();
    hub.review_code_joins();
    hub.sweep_ssh();
    tokio::spawn(hub.run(heard, errands_in, ears_in));
    Ok(handle)
}

impl Hub {
    async fn run(
        mut self,
        mut heard: mpsc::Receiver<Internal>,
        mut errands: mpsc::UnboundedReceiver<Errand>,
        mut new_ears: mpsc::UnboundedReceiver<Ears>,
    ) {
        let mut listener: Option<Listener> = None;
        let mut search: Option<Discovery> = None;
        let mut news: Option<mpsc::Receiver<Found>> = None;
        while self.stopping.is_none() {
            self.dial_due();
            self.tick_old_inboxes();
            let next = self.next_time();
            let time = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            let found = async {
                match &mut news {
                    Some(news) => news.recv().await,
                    None => pending().await,
                }
            };
            let accepted = async {
                match &mut listener {
                    Some(listener) => listener.accept().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(errand) = errands.recv() => errand(&mut self),
                Some(ears) = new_ears.recv() => {
                    listener = ears.listener.or(listener);
                    if let Some(search) = search.take() {
                        tokio::spawn(search.stop());
                    }
                    (search, news) = ears.discovery.unzip();
                }
                Some(internal) = heard.recv() => self.handle(internal),
                link = accepted => match link {
                    Some(link) => self.linked(link, None),
                    None => listener = None,
                },
                found = found => match found {
                    Some(found) => self.found(found),
                    None => news = None,
                },
                () = time => self.tick(),
            }
        }
        // Whoever still wants something of the hub hears that it ends, and so nobody waits for it.
        drop(errands);
        // Whoever starts this device again gets its port.
        if let Some(listener) = listener {
            listener.close().await;
        }
        self.end(heard, search).await;
    }

    /// Stops folders, says goodbye, and ends.
    async fn end(mut self, mut heard: mpsc::Receiver<Internal>, search: Option<Discovery>) {
        let (hosts, mut opening) = self.folders.take_all();
        let waiting = self.stopping.take().unwrap_or_default();
        if let Some(window) = self.pairing.take() {
            window.cancel("this device stops");
        }
        self.close_token_window("this device stops");
        // What folders still send goes out before the goodbye.
        for host in hosts {
            host.stop().await;
        }
        while opening.join_next().await.is_some() {}
        let mut writing: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in self.conns.values() {
            conn.line.out.close(wire::session::Farewell::Stopping);
        }
        let written = async {
            while !writing.is_empty() {
                match heard.recv().await {
                    Some(Internal::WriteEnded { id, .. } | Internal::ReadEnded { id, .. }) => {
                        writing.retain(|other| *other != id);
                    }
                    Some(Internal::Heard { done, .. }) => {
                        let _ = done.send(());
                    }
                    Some(Internal::Dialled { .. }) => {}
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
        let _ = tokio::time::timeout(Duration::from_secs(3), async {
            tokio::join!(written, withdrawn, self.codes.leavings.all())
        })
        .await;
        // What was begun with the user's SSH files is done.
        if let Some(files) = self.files.take() {
            let _ = tokio::task::spawn_blocking(move || files.finish()).await;
        }
        self.tell(ApiEvent::Stopped);
        // The state is let go before anybody hears of it.
        drop(self);
        for done in waiting {
            let _ = done.send(());
        }
    }

    /// Tells whoever listens.
    pub(super) fn tell(&self, event: ApiEvent) {
        // Nobody may listen.
        let _ = self.events.send(event);
    }

    /// Tells of a failure of the device's own; the device goes on.
    pub(super) fn complain(&self, kind: &str, message: &str, hint: &str) {
        tracing::warn!(kind, message, "failed");
        self.tell(ApiEvent::Error {
            kind: kind.to_owned(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }

    pub(super) fn fresh_id(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    fn next_time(&self) -> Option<Instant> {
        let deadlines = self.conns.values().filter_map(|conn| conn.deadline);
        let targets = self.net.as_ref().and_then(|net| net.targets.next(self.is_linked()));
        #[cfg(test)]
        let targets = targets.filter(|_| !self.dials_nobody);
        // Nobody waits to the second for a key that is kept a month to go.
        let daily =
            (!self.old_inboxes.is_empty()).then(|| Instant::now() + Duration::from_secs(86_400));
        let due = deadlines.chain(targets).chain(self.token_time());
        due.chain(self.mail_time()).chain(daily).min()
    }
}

/// Seconds since 1970 by the wall clock.
pub(super) fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::failed("io", format!("the system gives no random numbers: {error}"))
    })?;
    Ok(bytes)
}
