//! Sessions in one process, over real links on loopback.

mod admission;
mod discovery;
mod frames;
mod hostile;
mod links;
mod membership;

use std::{net::SocketAddr, time::Duration};

use identity::{DeviceId, Secret};
use tokio::{sync::mpsc, time::timeout};

use super::{PeerLink, SessionConfig, SessionEvent, SessionHandle, start};
use crate::{Admission, Event, QuestionId};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A running session and what it has told.
struct Device {
    handle: SessionHandle,
    port: u16,
    events: mpsc::Receiver<SessionEvent>,
    /// Events passed over while waiting for others, in order.
    passed: Vec<SessionEvent>,
}

fn ask() -> Admission {
    Admission::Ask
}

fn words(words: &str) -> Admission {
    Admission::Passphrase(Secret::new(words.to_owned()))
}

fn config(name: &str, admission: Admission, peers: &[&Device]) -> SessionConfig {
    SessionConfig {
        name: name.to_owned(),
        port: 0,
        port_is_required: false,
        peers: peers.iter().map(|peer| peer.addr().to_string()).collect(),
        discovery: false,
        topic: String::new(),
        admission,
    }
}

impl Device {
    async fn start(config: SessionConfig) -> Self {
        let (handle, events) = start(config).await.expect("a session");
        Self::of(handle, events).await
    }

    async fn of(handle: SessionHandle, events: mpsc::Receiver<SessionEvent>) -> Self {
        let mut device = Self { handle, port: 0, events, passed: Vec::new() };
        device.port = device
            .told(|event| match event {
                Event::Listening { port, .. } => Some(*port),
                _ => None,
            })
            .await;
        device
    }

    /// A device that dials the others.
    async fn new(name: &str, admission: Admission, peers: &[&Self]) -> Self {
        Self::start(config(name, admission, peers)).await
    }

    fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn id(&self) -> DeviceId {
        self.handle.key().id()
    }

    async fn next(&mut self) -> SessionEvent {
        match timeout(LONG, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the session ended; before: {:#?}", self.passed),
            Err(_) => panic!("nothing happened; before: {:#?}", self.passed),
        }
    }

    /// Waits for an event; those before it are passed over (and kept for looking at).
    async fn until<T>(&mut self, mut wanted: impl FnMut(&SessionEvent) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = wanted(&event) {
                self.passed.push(event);
                return found;
            }
            self.passed.push(event);
        }
    }

    /// Waits for an event for the person.
    async fn told<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        self.until(|event| match event {
            SessionEvent::Event(event) => wanted(event),
            _ => None,
        })
        .await
    }

    /// Waits for a question: its number, about whom, and the string.
    async fn question(&mut self) -> (QuestionId, DeviceId, String, Vec<DeviceId>) {
        self.told(|event| match event {
            Event::Confirm { id, device, sas, along, .. } => {
                let along = along.iter().map(|(device, _)| *device).collect();
                Some((*id, *device, sas.clone(), along))
            }
            _ => None,
        })
        .await
    }

    async fn withdrawn(&mut self) -> QuestionId {
        self.told(|event| match event {
            Event::ConfirmWithdrawn { id, .. } => Some(*id),
            _ => None,
        })
        .await
    }

    async fn refused(&mut self) -> String {
        self.told(|event| match event {
            Event::Refused { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    async fn closed(&mut self) -> String {
        self.told(|event| match event {
            Event::AdmissionClosed { reason } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    async fn peer_up(&mut self) -> PeerLink {
        loop {
            match self.next().await {
                SessionEvent::PeerUp(peer) => return peer,
                other => self.passed.push(other),
            }
        }
    }

    async fn peer_down(&mut self) -> (DeviceId, String) {
        let down = self.until(|event| match event {
            SessionEvent::PeerDown { device } => Some(*device),
            _ => None,
        });
        let down = down.await;
        self.told(|event| match event {
            Event::PeerDisconnected { device, reason, .. } if *device == down => {
                Some((down, reason.clone()))
            }
            _ => None,
        })
        .await
    }

    /// Questions asked so far.
    fn asked(&self) -> usize {
        let asks =
            |event: &&SessionEvent| matches!(event, SessionEvent::Event(Event::Confirm { .. }));
        self.passed.iter().filter(asks).count()
    }
}

/// Both sides are asked about each other and say yes.
async fn confirm(a: &mut Device, b: &mut Device) -> (PeerLink, PeerLink) {
    let (at_a, about_b, sas_a, _) = a.question().await;
    let (at_b, about_a, sas_b, _) = b.question().await;
    assert_eq!((about_a, about_b), (a.id(), b.id()));
    assert_eq!(sas_a, sas_b, "both people see the same string");
    a.handle.answer(at_a, true);
    b.handle.answer(at_b, true);
    (a.peer_up().await, b.peer_up().await)
}
