//! From a socket to an accepted peer: identity, listening, dialling, ceremonies, membership.
//!
//! One task, the [`actor`], owns every decision; each link has a reading and a writing task that make
//! none. What comes out is a stream of [`SessionEvent`]s: peers that are members on both sides, with
//! the two ends of their folder channel, and what a person should hear.
//!
//! What this is not: it knows nothing of folders, and keeps nothing: the identity is made at the start
//! and gone at the end.

mod actor;
mod admission;
mod conn;
mod membership;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use group::{SessionGroup, Topic};
use identity::{DeviceId, DeviceKey, InboxKey, Secret};
use link::{Advert, Discovery, Endpoint, Limits, LinkError, Listener};
use tokio::sync::{mpsc, oneshot, watch};
use wire::session::Name;

use crate::{
    Admission, Event, QuestionId,
    event::QuestionIds,
    line::{FrameReceiver, FrameSender, targets},
};

/// How long a step may take that needs no person.
const STEP: Duration = Duration::from_secs(10);
/// How long a graceful stop may take.
const STOPPING: Duration = Duration::from_secs(3);
/// Events that may wait for whoever runs the session.
const EVENTS: usize = 1024;
/// Messages of links that may wait for the session.
const HEARD: usize = 256;

/// What a session needs to begin.
#[derive(Debug)]
pub(crate) struct SessionConfig {
    /// What this device calls itself.
    pub(crate) name: String,
    /// TCP port; 0 picks a free one.
    pub(crate) port: u16,
    /// If the port is taken: true fails, false picks a free one.
    pub(crate) port_is_required: bool,
    /// `HOST:PORT` of places to dial.
    pub(crate) peers: Vec<String>,
    /// Advertise and browse by mDNS.
    pub(crate) discovery: bool,
    /// Only devices of the same topic meet.
    pub(crate) topic: String,
    /// Who may join.
    pub(crate) admission: Admission,
}

/// Why a session could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The name has no place in the protocol.
    #[error("the name cannot be used: {0}")]
    Name(wire::WireError),
    /// The port cannot be listened on.
    #[error("{0}")]
    Listen(LinkError),
    /// TLS or a key could not be set up.
    #[error("{0}")]
    Setup(String),
}

/// A device that accepts this one and is accepted by it, and the link to it.
#[derive(Debug)]
pub(crate) struct PeerLink {
    /// Which device.
    pub(crate) device: DeviceId,
    /// What it calls itself (unescaped).
    pub(crate) name: String,
    /// Where it is. Of a link that came in, the port is not that of its listener.
    pub(crate) addr: SocketAddr,
    /// The key exchange that was negotiated, as TLS names it.
    pub(crate) key_exchange: String,
    /// To it.
    pub(crate) out: FrameSender,
    /// From it: folder payloads. Dropping it ends the link.
    pub(crate) input: FrameReceiver,
}

/// What a session tells.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    /// A peer's link is up; [`Event::PeerConnected`] came just before. A device has one at most.
    PeerUp(PeerLink),
    /// A peer's link is gone; [`Event::PeerDisconnected`], which says why, comes just after.
    PeerDown {
        /// Which device.
        device: DeviceId,
    },
    /// For the person.
    Event(Event),
}

/// The devices that belong to the session, without this one, and their names (unescaped).
pub(crate) type Members = BTreeMap<DeviceId, Name>;

/// What can be asked of a running session. Dropping it does not stop the session.
#[derive(Clone, Debug)]
pub(crate) struct SessionHandle {
    key: Arc<DeviceKey>,
    commands: mpsc::UnboundedSender<Command>,
    members: watch::Receiver<Arc<Members>>,
    questions: QuestionIds,
}

enum Command {
    Answer(QuestionId, bool),
    Reopen,
    Stop(oneshot::Sender<()>),
}

impl SessionHandle {
    /// The device key of this run, for signing batches of records.
    pub(crate) fn key(&self) -> &Arc<DeviceKey> {
        &self.key
    }

    /// Where numbers of questions come from.
    pub(crate) fn questions(&self) -> &QuestionIds {
        &self.questions
    }

    /// Who belongs to the session, as it changes. Whoever is linked is among them before
    /// [`SessionEvent::PeerUp`] is sent.
    pub(crate) fn members(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    /// Answers a question. An id that is not that of the open question is ignored (rule T6).
    pub(crate) fn answer(&self, question: QuestionId, yes: bool) {
        let _ = self.commands.send(Command::Answer(question, yes));
    }

    /// A person acted: attempts are counted anew, and who was refused may come again (rule T3).
    pub(crate) fn reopen(&self) {
        let _ = self.commands.send(Command::Reopen);
    }

    /// Says goodbye to everybody after what is queued was sent, withdraws the advert, and ends; for
    /// three seconds at most.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).is_ok() {
            let _ = stopped.await;
        }
    }
}

/// Begins a session.
///
/// # Errors
/// If the name cannot be used, or the port cannot be listened on.
pub(crate) async fn start(
    config: SessionConfig,
) -> Result<(SessionHandle, mpsc::Receiver<SessionEvent>), StartError> {
    let name = Name::new(&config.name).map_err(StartError::Name)?;
    let setup = |error: &dyn std::fmt::Display| StartError::Setup(error.to_string());
    let key = DeviceKey::from_seed(&Secret::new(random().map_err(|e| setup(&e))?));
    let key = Arc::new(key.map_err(|error| setup(&error))?);
    let inbox = InboxKey::from_seed(Secret::new(random().map_err(|e| setup(&e))?));
    let inbox = inbox.map_err(|error| setup(&error))?;
    let endpoint = Arc::new(Endpoint::new(&key, Limits::default()).map_err(|e| setup(&e))?);
    let (listener, port_was_taken) = listen(&endpoint, &config).await?;
    let port = listener.port();

    let topic = Topic::new(&config.topic);
    let open = matches!(config.admission, Admission::Open);
    let (events, receiver) = mpsc::channel(EVENTS);
    let (internal, heard) = mpsc::channel(HEARD);
    let (commands, commanded) = mpsc::unbounded_channel();
    let (members, members_seen) = watch::channel(Arc::default());
    let questions = QuestionIds::default();
    let handle = SessionHandle {
        key: Arc::clone(&key),
        commands,
        members: members_seen,
        questions: questions.clone(),
    };

    let device = key.id();
    let listening = Event::Listening { device, name: config.name.clone(), port, port_was_taken };
    // The channel is new and empty.
    let _ = events.try_send(SessionEvent::Event(listening));
    let discovery = if config.discovery {
        let run = random().map_err(|error| setup(&error))?;
        let (name, topic) = (config.name.clone(), config.topic.clone());
        match Discovery::start(&Advert { device, name, topic, port, run }) {
            Ok(discovery) => Some(discovery),
            Err(error) => {
                let hint = "name the other device with --peer HOST:PORT".to_owned();
                let message = error.to_string();
                let lacking = Event::Error { kind: "discovery", message, hint };
                let _ = events.try_send(SessionEvent::Event(lacking));
                None
            }
        }
    } else {
        None
    };
    let mut targets = targets::Targets::default();
    for peer in config.peers {
        targets.add(targets::Key::Manual(peer), Vec::new(), None, Instant::now());
    }
    let actor = actor::Actor::new(actor::Parts {
        name,
        inbox,
        port,
        topic,
        admission: config.admission,
        group: SessionGroup::new(topic, device, open),
        key,
        endpoint,
        targets,
        events,
        internal,
        members,
        questions,
    });
    tokio::spawn(actor.run(listener, heard, commanded, discovery));
    Ok((handle, receiver))
}

async fn listen(
    endpoint: &Arc<Endpoint>,
    config: &SessionConfig,
) -> Result<(Listener, bool), StartError> {
    match Listener::bind(Arc::clone(endpoint), config.port).await {
        Ok(listener) => Ok((listener, false)),
        Err(LinkError::PortInUse(_)) if !config.port_is_required && config.port != 0 => {
            let listener = Listener::bind(Arc::clone(endpoint), 0).await;
            Ok((listener.map_err(StartError::Listen)?, true))
        }
        Err(error) => Err(StartError::Listen(error)),
    }
}

/// Random bytes of the system.
fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
