//! How long a verified pairing takes whose questions are answered at once: both devices on one machine, over
//! real links, with real files. `cargo run --release -p ssh --example meet_speed`
#![allow(clippy::print_stdout, clippy::expect_used, reason = "it talks to whoever runs it")]

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use identity::{DeviceKey, InboxId, Secret};
use ssh::{
    Home, KeyKind, PublicKey, Sshd, UserName,
    meet::{Event, Meeting, Outcome, Place, Setup, Target},
};
use tokio::sync::mpsc;
use wire::{session::Name, ssh::Purpose};

const ROUNDS: usize = 50;
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

fn setup(dir: &Path, seed: u8, purpose: Purpose, target: Target) -> Setup {
    let user = UserName::new("user").expect("is one");
    let home = Home::at(dir, user).expect("is ours");
    let own = purpose.logs_in().then(|| home.key_or_new(KeyKind::Ed25519, "x").expect("made"));
    Setup {
        purpose,
        device: Arc::new(DeviceKey::from_seed(&Secret::new([seed; 32])).expect("a key")),
        inbox: InboxId([seed + 100; 32]),
        name: Name::new("device").expect("is one"),
        port: 0,
        target,
        home: Arc::new(home),
        sshd: Sshd { port: 22, host_keys: vec![PublicKey::parse(KEY).expect("is one")] },
        own,
        comment: String::new(),
        continuous: false,
        timeout: Some(Duration::from_secs(60)),
        before: ssh::meet::BEFORE,
        allow_from: Vec::new(),
        expires: None,
        from: Vec::new(),
        expect: None,
        connecto: None,
    }
}

/// Answers yes at once, until it is over.
async fn yes(meeting: Meeting, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Confirm(question) => meeting.answer(question.id, true).await,
            Event::Over(outcome) => {
                assert_eq!(outcome, Outcome::Done);
                return;
            }
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let (a, b) = (tempfile::tempdir().expect("room"), tempfile::tempdir().expect("room"));
        let listen = setup(a.path(), 1, Purpose::Listen, Target::Any);
        let (listening, mut events) = Meeting::start(listen).await.expect("a port");
        let addr: SocketAddr = loop {
            if let Some(Event::Listening { port: Some(port), .. }) = events.recv().await {
                break ([127, 0, 0, 1], port).into();
            }
        };
        let listening = tokio::spawn(yes(listening, events));
        let pair = setup(b.path(), 2, Purpose::Pair, Target::At(Place::from(addr), None));
        let begun = Instant::now();
        let (pairing, events) = Meeting::start(pair).await.expect("TLS");
        yes(pairing, events).await;
        listening.await.expect("it ends well");
        took.push(begun.elapsed());
    }
    took.sort();
    println!("{ROUNDS} pairings: median {:?}, longest {:?}", took[ROUNDS / 2], took[ROUNDS - 1]);
}
