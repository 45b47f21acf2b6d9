//! A relay in this process.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use bytes::Bytes;
use identity::Secret;
use relay::{
    Client, Identity, Limits, RelayAddress, Server, Settings,
    store::{Quotas, Sqlite},
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use wire::relay::{DepositToken, OwnerKey};

/// A relay that runs. It stops when it is dropped.
pub(crate) struct Running {
    pub(crate) address: RelayAddress,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

pub(crate) fn settings() -> Settings {
    Settings { listen: (Ipv4Addr::LOCALHOST, 0).into(), metrics: None, limits: Limits::default() }
}

pub(crate) async fn start(dir: &Path, settings: Settings, quotas: Quotas) -> Running {
    let identity = Identity::from_seed(&Secret::new([42; 32])).unwrap();
    let store = Arc::new(Sqlite::open(&dir.join("relay.db"), quotas).unwrap());
    let server = Server::bind(&settings, &identity, store).unwrap();
    let address = RelayAddress::new("127.0.0.1", server.port().unwrap(), identity.key()).unwrap();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Running { address, stop: Some(stop), ended }
}

impl Running {
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address).unwrap()
    }

    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.ended.await.unwrap();
    }
}

/// A relay with default settings in a directory of its own.
pub(crate) async fn fresh() -> (TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    let relay = start(dir.path(), settings(), Quotas::default()).await;
    (dir, relay)
}

pub(crate) fn key(seed: u8) -> OwnerKey {
    OwnerKey::from_seed(&Secret::new([seed; 32])).unwrap()
}

pub(crate) fn token(seed: u8) -> DepositToken {
    DepositToken(Secret::new([seed; 32]))
}

/// What looks to a relay like an envelope.
pub(crate) fn envelope(mark: u8, size: usize) -> Bytes {
    let mut bytes = vec![mark; size];
    bytes[0] = 1;
    bytes.into()
}
