//! A relay in this process.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use bytes::Bytes;
use identity::Secret;
use relay::{
    Client, Identity, Limits, RelayAddress, Server, Settings,
    store::{Quotas, Sqlite, Store},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use wire::relay::{DepositToken, OwnerKey};

/// A relay that runs. It stops when it is dropped.
pub(crate) struct Running {
    pub(crate) address: RelayAddress,
    metrics: u16,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

pub(crate) fn settings() -> Settings {
    Settings {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        metrics: Some((Ipv4Addr::LOCALHOST, 0).into()),
        limits: Limits::default(),
    }
}

pub(crate) async fn start(dir: &Path, settings: Settings, quotas: Quotas) -> Running {
    start_on(Arc::new(Sqlite::open(&dir.join("relay.db"), quotas).unwrap()), &settings)
}

/// A relay on that store.
pub(crate) fn start_on(store: Arc<dyn Store>, settings: &Settings) -> Running {
    let identity = Identity::from_seed(&Secret::new([42; 32])).unwrap();
    start_as(&identity, "127.0.0.1", store, settings)
}

/// A relay that proves itself so.
pub(crate) fn start_as(
    identity: &Identity,
    host: &str,
    store: Arc<dyn Store>,
    settings: &Settings,
) -> Running {
    let server = Server::bind(settings, identity, store).unwrap();
    let address = RelayAddress::new(host, server.port().unwrap(), identity.key()).unwrap();
    let metrics = server.metrics_port().unwrap();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Running { address, metrics, stop: Some(stop), ended }
}

impl Running {
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address).unwrap()
    }

    /// What its operator reads at a path.
    pub(crate) async fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    }

    /// A figure of its metrics.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let page = self.page("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{page}")).parse().unwrap()
    }

    /// A connection to it on which nothing has been said.
    pub(crate) async fn dial(&self) -> TcpStream {
        TcpStream::connect((self.address.host(), self.address.port())).await.unwrap()
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
