//! A device with a home of its own, and its person.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use identity::{DeviceId, DeviceKey, InboxId, Secret};
use ssh::{
    Home, KeyKind, PublicKey, Sshd, UserName,
    meet::{Event, Meeting, Outcome, Place, Question, Setup, Target},
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use wire::{session::Name, ssh::Purpose};

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

pub(crate) fn key(seed: u8) -> Arc<DeviceKey> {
    Arc::new(DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key"))
}

/// A device.
pub(crate) struct Device {
    pub(crate) dir: TempDir,
    seed: u8,
}

impl Device {
    pub(crate) fn new(seed: u8) -> Self {
        Self { dir: tempfile::tempdir().expect("there is room"), seed }
    }

    pub(crate) fn id(&self) -> DeviceId {
        key(self.seed).id()
    }

    pub(crate) fn home(&self) -> Home {
        let user = UserName::new(&format!("user{}", self.seed)).expect("is one");
        Home::at(self.dir.path(), user).expect("is ours").with_etc(Path::new("/nowhere"))
    }

    pub(crate) fn setup(&self, purpose: Purpose) -> Setup {
        let home = self.home();
        let own = purpose
            .logs_in()
            .then(|| home.key_or_new(KeyKind::Ed25519, "comment").expect("can be made"));
        Setup {
            purpose,
            device: key(self.seed),
            inbox: InboxId([self.seed + 100; 32]),
            name: Name::new(&format!("device-{}", self.seed)).expect("is one"),
            port: 0,
            target: Target::Any,
            home: Arc::new(home),
            sshd: Sshd { port: 2222, host_keys: vec![PublicKey::parse(HOST_KEY).expect("is one")] },
            own,
            comment: format!("user{}@device-{}", self.seed, self.seed),
            continuous: false,
            timeout: Some(LONG),
            before: LONG,
            allow_from: Vec::new(),
            expires: None,
            from: Vec::new(),
            expect: None,
            connecto: None,
        }
    }

    /// What is in its home, path by path, with contents.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        let dir = self.dir.path().join(".ssh");
        for name in ["authorized_keys", "known_hosts", "config", "kinfold_config"] {
            if let Ok(text) = tree::read_config(&dir.join(name), 1 << 20) {
                files.push((name.to_owned(), text));
            }
        }
        files
    }
}

/// A run, and its person.
pub(crate) struct Run {
    pub(crate) meeting: Meeting,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) seen: Vec<Event>,
}

impl Run {
    pub(crate) async fn start(setup: Setup) -> Self {
        let (meeting, events) = Meeting::start(setup).await.expect("a free port");
        Self { meeting, events, seen: Vec::new() }
    }

    /// Listens; where.
    pub(crate) async fn listening(setup: Setup) -> (Self, SocketAddr) {
        let mut run = Self::start(setup).await;
        let port = loop {
            if let Event::Listening { port, .. } = run.next().await {
                break port.expect("it listens");
            }
        };
        (run, ([127, 0, 0, 1], port).into())
    }

    pub(crate) async fn next(&mut self) -> Event {
        let event = timeout(LONG, self.events.recv()).await.expect("in time").expect("it goes on");
        self.seen.push(event.clone());
        event
    }

    pub(crate) async fn question(&mut self) -> Question {
        loop {
            match self.next().await {
                Event::Confirm(question) => return question,
                Event::Over(outcome) => panic!("over before: {outcome:?} {:?}", self.seen),
                _ => {}
            }
        }
    }

    pub(crate) async fn answer(&mut self, yes: bool) -> Question {
        let question = self.question().await;
        self.meeting.answer(question.id, yes).await;
        question
    }

    pub(crate) async fn outcome(&mut self) -> Outcome {
        loop {
            if let Event::Over(outcome) = self.next().await {
                return outcome;
            }
        }
    }

    /// A question was taken back.
    pub(crate) async fn withdrawn(&mut self) {
        while !matches!(self.next().await, Event::Withdrawn { .. }) {}
    }

    pub(crate) fn installed(&self) -> bool {
        self.seen.iter().any(|event| matches!(event, Event::Installed(_)))
    }
}

pub(crate) fn at(addr: SocketAddr) -> Target {
    Target::At(Place::from(addr), None)
}
