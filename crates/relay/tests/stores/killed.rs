//! A relay that is killed has lost nothing that it had taken in.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use identity::Secret;
use lab::Postgres;
use relay::{Client, RelayAddress};
use tokio::{runtime::Runtime, task::JoinSet, time::timeout};
use wire::relay::{Deposit, DepositToken, OwnerKey};

/// A process of its own; killed when it is dropped.
struct Process {
    child: Child,
    client: Client,
}

impl Process {
    fn start(dir: &Path, store: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kin-relay"))
            .args(["--listen", "127.0.0.1:0", "--json", "--store", store, "--dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address: RelayAddress = said["address"].as_str().unwrap().parse().unwrap();
        Self { child, client: Client::new(&address).unwrap() }
    }

    fn kill(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn envelope(number: u32) -> Bytes {
    let mut bytes = vec![0xa5; 1024];
    bytes[0] = 1;
    bytes[40..44].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

fn number(envelope: &Bytes) -> u32 {
    u32::from_be_bytes(envelope[40..44].try_into().unwrap())
}

/// Deposits until the relay is killed; `other` then starts or names the one that must have it all.
async fn killed(mut relay: Process, other: impl FnOnce() -> Process) {
    let owner = OwnerKey::from_seed(&Secret::new([7; 32])).unwrap();
    let token = DepositToken(Secret::new([5; 32]));
    relay.client.settle(&owner, &token).await.unwrap();
    let connection = Arc::new(relay.client.connect().await.unwrap());
    let (next, taken_in) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(BTreeSet::new())));
    let mut senders = JoinSet::new();
    for _ in 0..8 {
        let (connection, next, taken_in) =
            (Arc::clone(&connection), Arc::clone(&next), Arc::clone(&taken_in));
        let (mailbox, token) = (owner.owner().mailbox(), token.clone());
        senders.spawn(async move {
            loop {
                let number = next.fetch_add(1, Relaxed);
                let envelope = envelope(number);
                let deposit = Deposit { mailbox, token: Some(token.clone()), envelope };
                match connection.deposit(&deposit).await {
                    Ok(()) => taken_in.lock().unwrap().insert(number),
                    Err(_) => return,
                };
            }
        });
    }
    while taken_in.lock().unwrap().len() < 200 {
        tokio::task::yield_now().await;
    }
    relay.kill();
    senders.join_all().await;
    let mut missing = taken_in.lock().unwrap().clone();
    let other = other();
    let mut inbox = other.client.receive(&owner).await.unwrap();
    while !missing.is_empty() {
        let item = timeout(Duration::from_secs(30), inbox.next()).await;
        let item = item.unwrap_or_else(|_| panic!("lost: {missing:?}")).unwrap();
        missing.remove(&number(&item.envelope));
        inbox.acknowledge(&[item.number]).await.unwrap();
    }
}

pub(crate) fn on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Process::start(dir.path(), "sqlite");
    let other = || Process::start(dir.path(), "sqlite");
    Runtime::new().unwrap().block_on(killed(relay, other));
}

pub(crate) fn on_postgres(postgres: &Postgres) {
    let dir = tempfile::tempdir().unwrap();
    let url = postgres.url("postgres");
    let relay = Process::start(dir.path(), &url);
    // It runs beside the one that is killed.
    let other = Process::start(dir.path(), &url);
    Runtime::new().unwrap().block_on(killed(relay, || other));
}
