//! A device that outlives a run: its groups, its folders, its links to other members.
//!
//! [`open`] takes the state directory for this process alone. What comes out is a [`Device`], which answers
//! requests ([`crate::api::Service`]); [`Device::go_online`] makes it reachable and starts its folders, which is
//! what runs in the background. A command that finds no device running opens it within itself, and closes it.

mod asks;
mod bounds;
mod brought;
mod candidates;
mod ceremony;
mod choosing;
#[cfg(test)]
mod code_tests;
mod codes;
mod dirs;
#[cfg(test)]
mod folder_tests;
mod folders;
mod glance;
mod groups;
#[cfg(test)]
mod guest_tests;
#[cfg(test)]
mod hostile_tests;
mod hub;
mod links;
mod mail;
#[cfg(test)]
mod mail_tests;
mod membership;
#[cfg(test)]
mod pair_tests;
mod pairing;
mod questions;
mod requests;
mod rescue;
#[cfg(test)]
mod rescue_tests;
mod rotation;
#[cfg(test)]
mod rotation_tests;
mod slots;
mod ssh;
#[cfg(test)]
mod ssh_tests;
mod store;
#[cfg(test)]
mod strand_tests;
#[cfg(test)]
mod tests;
mod token;
#[cfg(test)]
mod token_tests;
mod used;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use folder::{engine::Mode, history::Limits as HistoryLimits};
use identity::DeviceId;
use link::{Advert, Discovery, Endpoint, Limits, LinkError, Listener};
use tokio::sync::{mpsc, oneshot};
use tree::{StateDir, StateError, StateLock};
use wire::session::Name;

use crate::{
    DeleteLimit, Home,
    api::{Answer, ApiEvent, Failure, PairLan, Request, Service, Trouble},
    home::{DATABASE, USED},
    line::targets::Targets,
    start::Wishes,
};
use hub::{Ears, HubHandle, Net, Parts, random};
pub use ssh::SshHome;
use store::Store;

/// What adverts of running devices have in common. No session of `kin sync` can have it for a topic.
const MEMBERS_TOPIC: &str = "\0kin up";
/// In adverts of running devices, in place of a name (rule T2).
const NO_NAME: &str = "kin";
/// Port that a device listens on if it is free and none was asked for.
pub const DEFAULT_PORT: u16 = 9001;

/// What a person wishes of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// What the device calls itself until it is renamed.
    pub name: String,
    /// Large files fetched at once, 1 to 64.
    pub max_concurrent_transfers: usize,
    /// How many deletions within 24 hours go without a question (rule E19).
    pub max_deletes: DeleteLimit,
    /// How much of what was replaced and deleted is kept.
    pub history: HistoryLimits,
    /// Addresses of relays that are used from now on.
    pub relays: Vec<String>,
    /// Whose SSH files are changed when people have agreed to it; nobody's unless it is said.
    pub ssh: SshHome,
}

impl Settings {
    /// The usual wishes.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (max_deletes, history) = (DeleteLimit::default(), HistoryLimits::default());
        let (name, relays, ssh) = (name.to_owned(), Vec::new(), SshHome::default());
        Self { name, max_concurrent_transfers: 4, max_deletes, history, relays, ssh }
    }

    /// What a folder's engine is told.
    fn wishes(&self, mode: Mode) -> Wishes {
        Wishes {
            max_concurrent_transfers: self.max_concurrent_transfers,
            max_deletes: self.max_deletes,
            accept_deletes: false,
            history: self.history,
            mode,
        }
    }

    /// What a group is called that was joined by way of a device.
    fn label_for(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// How a device is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Online {
    /// TCP port; 0 picks a free one.
    pub port: u16,
    /// True if a person asked for this very port.
    pub port_is_required: bool,
    /// Advertise and browse by mDNS.
    pub discovery: bool,
}

/// A device of this process. Clones are the same.
#[derive(Clone)]
pub struct Device {
    hub: HubHandle,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").finish_non_exhaustive()
    }
}

/// Takes a state directory for this process alone, making what is missing, and reads what is in it. The device
/// holds the lock until it has stopped; the one that is given out is for its socket.
///
/// # Errors
/// If another process has it (`in_use`), or it cannot be used.
///
/// # Panics
/// Outside a tokio runtime.
pub fn open(dir: &Path, settings: Settings) -> Result<(Device, StateLock), Failure> {
    let broken = |error: crate::HomeError| home_failure(&error);
    crate::home::refuse_in_folder(dir).map_err(broken)?;
    let state = StateDir::open(dir).map_err(|error| broken(error.into()))?;
    let lock = state.lock().map_err(|error| match error {
        StateError::Locked { .. } => Failure::failed("in_use", &error)
            .hint("it does not listen: wait until it has ended, or stop it"),
        error => broken(error.into()),
    })?;
    // The keys come first: a database without them is that of a device which lost them.
    Home::open(dir).map_err(broken)?;
    let lost = |error: store::StoreError| Failure::failed("state", error);
    let used = state.holds(USED).map_err(|error| broken(error.into()))?;
    let path = dir.join(DATABASE);
    if used && !state.holds(DATABASE).map_err(|error| broken(error.into()))? {
        let (path, used) = (path.display(), dir.join(USED));
        let message = format!("{path} is not there, though this device was in a group");
        return Err(Failure::failed("state", message).hint(&format!(
            "restore it from a backup; without one, remove {}: the device is in no group then, and paired anew",
            used.display()
        )));
    }
    // The database holds secrets of joins: it is made before SQLite would make it for others to read.
    state.create(DATABASE, &[]).map_err(|error| broken(error.into()))?;
    let opened = if used { Store::open_used(&path) } else { Store::open(&path) };
    let mut store = opened.map_err(|error| {
        let shown = dir.display();
        lost(error).hint(&format!(
            "restore {shown} from a backup; without one, move it away: the device is a new one then, and paired anew"
        ))
    })?;
    rotation::finish(&state, &store)?;
    let home = Home::open(dir).map_err(broken)?;
    let old_inboxes = crate::home::old_inboxes(&state, hub::wall()).map_err(broken)?;
    let groups = groups::Groups::load(&mut store)?;
    // Of a device that an older kin made.
    if !used && groups.iter().next().is_some() {
        store.mark_used().map_err(lost)?;
    }
    let called = store.setting("name").map_err(lost)?.and_then(|name| String::from_utf8(name).ok());
    let name = Name::new(called.as_deref().unwrap_or(&settings.name))
        .map_err(|error| Failure::usage("bad_name", error))?;
    let (key, inbox) = home.into_keys();
    let parts = Parts {
        lock: lock.clone(),
        state,
        key: Arc::new(key),
        inbox: Arc::new(inbox),
        old_inboxes,
        name,
        settings,
        store,
        groups,
    };
    Ok((Device { hub: hub::start(parts)? }, lock))
}

/// `HOST:PORT` of a host that may have been given without the port.
fn with_port(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, DEFAULT_PORT).to_string(),
        Err(_) if host.contains(':') => host.to_owned(),
        Err(_) => format!("{host}:{DEFAULT_PORT}"),
    }
}

fn home_failure(error: &crate::HomeError) -> Failure {
    let hint = error.hint().unwrap_or_default();
    Failure::failed(error.kind(), error).hint(&hint)
}

fn gone() -> Failure {
    Failure::failed("stopped", "the device has stopped").hint("kin up starts it again")
}

impl Device {
    /// Makes the device reachable, and keeps its folders in step. Returns the port.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn go_online(&self, online: Online) -> Result<u16, Failure> {
        let port = self.listen(online, MEMBERS_TOPIC).await?;
        self.hub
            .with(|hub| {
                hub.start_folders();
                hub.look_for_members();
            })
            .await
            .ok_or_else(gone)?;
        Ok(port)
    }

    /// Does from now on what other settings say; the name is none of them. Folders begin anew where they change.
    ///
    /// # Errors
    /// If it cannot listen at another port; all else is done then, and it goes on listening where it was.
    pub async fn configure(&self, settings: Settings, online: Online) -> Result<(), Failure> {
        let found = self.hub.with(move |hub| {
            hub.apply_settings(settings);
            hub.net.as_ref().map(|net| (net.port, net.discovery))
        });
        let Some((port, discovery)) = found.await.ok_or_else(gone)? else { return Ok(()) };
        if online.port_is_required && online.port != port {
            return self.go_online(online).await.map(drop);
        }
        if online.discovery != discovery {
            self.advertise(port, online.discovery).await?;
        }
        Ok(())
    }

    /// Begins to advertise and search anew, or stops it.
    async fn advertise(&self, port: u16, on: bool) -> Result<(), Failure> {
        let me = self.hub.with(move |hub| {
            if let Some(net) = &mut hub.net {
                (net.discovery, net.adverts) = (on, std::collections::HashMap::new());
            }
            hub.me
        });
        let me = me.await.ok_or_else(gone)?;
        let discovery = if on { self.discover(me, port, MEMBERS_TOPIC).await? } else { None };
        self.hub.listen(Ears { listener: None, discovery });
        Ok(())
    }

    /// Tells of something that is wrong with how the device was set up; it goes on.
    pub fn complain(&self, failure: &Failure) {
        let Failure { kind, message, hint, .. } = failure.clone();
        self.hub.send(move |hub| hub.complain(&kind, &message, &hint));
    }

    /// Whoever reads settings from a file cannot read it now, or can again: part of the status.
    pub fn note_settings(&self, wrong: Option<&Failure>) {
        let trouble = wrong.cloned().map(|Failure { message, hint, .. }| Trouble {
            kind: "settings".to_owned(),
            folder: None,
            message,
            hint,
        });
        self.hub.send(move |hub| hub.unread_settings = trouble);
    }

    async fn listen(&self, online: Online, topic: &str) -> Result<u16, Failure> {
        let (key, me) =
            self.hub.with(|hub| (Arc::clone(&hub.key), hub.me)).await.ok_or_else(gone)?;
        let setup = |error: &dyn std::fmt::Display| Failure::failed("listen", error.to_string());
        let endpoint =
            Arc::new(Endpoint::new(&key, Limits::default()).map_err(|error| setup(&error))?);
        let listener = match Listener::bind(Arc::clone(&endpoint), online.port).await {
            Err(LinkError::PortInUse(_)) if !online.port_is_required && online.port != 0 => {
                Listener::bind(Arc::clone(&endpoint), 0).await
            }
            other => other,
        };
        let listener = listener.map_err(|error| match error {
            LinkError::PortInUse(_) => Failure::failed("port_in_use", &error)
                .hint("give another port with --port, or none to have one chosen"),
            error => setup(&error),
        })?;
        let port = listener.port();
        let discovery = match online.discovery {
            true => self.discover(me, port, topic).await?,
            false => None,
        };
        self.hub
            .with(move |hub| {
                let (targets, adverts) = (Targets::default(), std::collections::HashMap::new());
                let discovery = online.discovery;
                hub.net = Some(Net { endpoint, port, discovery, targets, adverts });
                hub.use_relays_of_settings();
                hub.start_mail();
            })
            .await
            .ok_or_else(gone)?;
        self.hub.listen(Ears { listener: Some(listener), discovery });
        Ok(port)
    }

    async fn discover(
        &self,
        device: DeviceId,
        port: u16,
        topic: &str,
    ) -> Result<Option<(Discovery, mpsc::Receiver<link::Found>)>, Failure> {
        let (name, topic) = (NO_NAME.to_owned(), topic.to_owned());
        match Discovery::start(&Advert { device, name, topic, port, run: random()? }) {
            Ok(discovery) => Ok(Some(discovery)),
            Err(error) => {
                let message = error.to_string();
                self.hub.send(move |hub| {
                    let hint = "devices are looked for where they were last";
                    hub.complain("discovery", &message, hint);
                });
                Ok(None)
            }
        }
    }

    /// Finishes what is under way, says goodbye and lets the state directory go.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        let told = self.hub.with(move |hub| hub.stopping.get_or_insert_default().push(done)).await;
        if told.is_some() {
            let _ = stopped.await;
        }
    }

    async fn pair(&self, mut options: PairLan) -> Result<mpsc::Receiver<ApiEvent>, Failure> {
        options.host = options.host.map(|host| with_port(&host));
        let expect = token::expected(options.expect_device.as_deref())?;
        // Its own advert comes with the window, and says its name (rule T2).
        self.listen_if_offline(options.port).await?;
        let handle = self.hub.clone();
        let opened = self.hub.with(move |hub| hub.open_window(handle, options, expect));
        opened.await.ok_or_else(gone)?
    }
}

impl hub::Hub {
    fn open_window(
        &mut self,
        handle: HubHandle,
        options: PairLan,
        expect: Option<DeviceId>,
    ) -> Result<mpsc::Receiver<ApiEvent>, Failure> {
        self.free_to_pair()?;
        let Some(net) = &self.net else { return Err(gone()) };
        let group = match (&options.group, self.groups.iter().next().is_none()) {
            (None, true) => None,
            (text, _) => Some(self.group_or_used(text.as_deref())?),
        };
        let group = group.and_then(|id| {
            let held = self.groups.get(&id)?;
            let manifest = held.manifest();
            // Who is no admin cannot admit: it can only be admitted elsewhere.
            let members = u32::try_from(manifest.members.len()).unwrap_or(u32::MAX);
            manifest.is_admin(&self.me).then(|| (id, held.label.clone(), members))
        });
        let setup = pairing::Setup {
            hub: handle,
            endpoint: Arc::clone(&net.endpoint),
            port: net.port,
            me: self.me,
            inbox: self.inbox.id(),
            name: self.name.clone(),
            questions: self.questions.of_another(),
            options,
            group,
            expect,
        };
        let (window, events) = pairing::open(setup);
        self.pairing = Some(window);
        Ok(events)
    }
}

impl Service for Device {
    fn request(&self, request: Request) -> Answer<'_, serde_json::Value> {
        Box::pin(async move {
            if let Some(dir) = dirs::named(&request) {
                dirs::prepare(&self.hub, dir).await?;
            }
            if asks::is_for_engine(&request) {
                return self.ask_engine(request).await;
            }
            if ssh::is_about_ssh(&request) {
                return self.ask_ssh(request).await;
            }
            if request == Request::RotateKey {
                return self.rotate().await;
            }
            if request == Request::PairCancel {
                return self.cancel_pairing().await;
            }
            self.hub.with(move |hub| hub.request(request)).await.ok_or_else(gone)?
        })
    }

    fn stream(&self, request: Request) -> Answer<'_, mpsc::Receiver<ApiEvent>> {
        Box::pin(async move {
            match request {
                Request::Pair(options) => self.pair(options).await,
                Request::PairToken(options) => self.pair_token(options).await,
                Request::PairJoin { token, expect_device } => {
                    self.pair_join(&token, expect_device.as_deref()).await
                }
                Request::JoinCode(wish) => self.join_code(wish).await,
                Request::Events => {
                    let events = self.hub.with(|hub| hub.events.subscribe()).await;
                    Ok(forward(events.ok_or_else(gone)?))
                }
                _ => Err(Failure::usage("bad_request", "that request has one answer")),
            }
        })
    }
}

/// What is told from now on, for one listener.
fn forward(mut events: tokio::sync::broadcast::Receiver<ApiEvent>) -> mpsc::Receiver<ApiEvent> {
    use tokio::sync::broadcast::error::RecvError;
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) => {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
                // It was too slow for some; what it asks for next is as it is then.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    receiver
}
