//! Several relays on one database.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use identity::Secret;
use lab::Postgres;
use relay::{
    Client, Identity, Limits, RelayAddress, Server, Settings,
    store::{Postgres as Store, Quotas},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    sync::oneshot,
    task::JoinHandle,
};
use wire::relay::{DepositToken, LookupId, MeetingId, OwnerKey};

/// A test, by its name.
type Test = (&'static str, fn(&Postgres));

pub(crate) const TESTS: [Test; 4] = [
    ("what_a_killed_relay_took_in_another_one_delivers", crate::killed::on_postgres),
    ("ends_of_a_splice_meet_that_came_to_different_relays", ends_of_a_splice_meet),
    ("what_one_relay_takes_in_another_one_delivers", what_one_relay_takes_in_another_one_delivers),
    ("relays_that_start_at_once_make_the_tables_once", relays_that_start_at_once),
];

struct Running {
    client: Client,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn relay(url: &str) -> Running {
    let store = Arc::new(Store::open(url, Quotas::default()).await.unwrap());
    let identity = Identity::from_seed(&Secret::new([42; 32])).unwrap();
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let settings = Settings { listen, metrics: None, limits: Limits::default() };
    let server = Server::bind(&settings, &identity, store).unwrap();
    let address = RelayAddress::new("127.0.0.1", server.port().unwrap(), identity.key()).unwrap();
    server.reached_at(address.clone());
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Running { client: Client::new(&address).unwrap(), stop, ended }
}

fn envelope(mark: u8) -> Bytes {
    let mut bytes = vec![mark; 1024];
    bytes[0] = 1;
    bytes.into()
}

fn what_one_relay_takes_in_another_one_delivers(postgres: &Postgres) {
    let url = postgres.url("postgres");
    Runtime::new().unwrap().block_on(async {
        let (one, other) = (relay(&url).await, relay(&url).await);
        let owner = OwnerKey::from_seed(&Secret::new([7; 32])).unwrap();
        let mailbox = owner.owner().mailbox();
        let token = DepositToken(Secret::new([5; 32]));
        one.client.settle(&owner, &token).await.unwrap();
        // It waits before anything is there.
        let mut inbox = other.client.receive(&owner).await.unwrap();
        for mark in 1..=50 {
            one.client.deposit(mailbox, Some(&token), envelope(mark)).await.unwrap();
        }
        for mark in 1..=50 {
            let item = inbox.next().await.unwrap();
            assert_eq!(item.envelope, envelope(mark));
            if mark <= 25 {
                inbox.acknowledge(&[item.number]).await.unwrap();
            }
        }
        let lookup = LookupId([1; 32]);
        let until = u64::from(u32::MAX).min(now() + 60);
        one.client.put(&owner, lookup, until, vec![1; 1024].into()).await.unwrap();
        assert!(other.client.get(lookup).await.unwrap().is_some());
        // One of them goes: the rest comes from the other.
        other.stop.send(()).unwrap();
        other.ended.await.unwrap();
        let mut inbox = one.client.receive(&owner).await.unwrap();
        let mut last = 0;
        while last < 50 {
            let item = inbox.next().await.unwrap();
            last = item.envelope[1];
            assert!(last >= 1);
            inbox.acknowledge(&[item.number]).await.unwrap();
        }
        one.stop.send(()).unwrap();
        one.ended.await.unwrap();
    });
}

fn ends_of_a_splice_meet(postgres: &Postgres) {
    let url = postgres.url("postgres");
    Runtime::new().unwrap().block_on(async {
        let (one, other) = (relay(&url).await, relay(&url).await);
        // However they come: to two relays, or to one and the same.
        for (number, (first, second)) in
            [(&one, &other), (&other, &one), (&one, &one)].into_iter().enumerate()
        {
            let meeting = MeetingId([u8::try_from(number).unwrap(); 32]);
            let patience = Duration::from_secs(30);
            let (first, second) = tokio::join!(
                first.client.splice(meeting, patience),
                second.client.splice(meeting, patience)
            );
            let (mut first, mut second) = (first.unwrap(), second.unwrap());
            first.write_all(b"there").await.unwrap();
            second.write_all(b"back").await.unwrap();
            let (mut there, mut back) = ([0; 5], [0; 4]);
            second.read_exact(&mut there).await.unwrap();
            first.read_exact(&mut back).await.unwrap();
            assert_eq!((&there, &back), (b"there", b"back"));
        }
        for relay in [one, other] {
            relay.stop.send(()).unwrap();
            relay.ended.await.unwrap();
        }
    });
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn relays_that_start_at_once(postgres: &Postgres) {
    let url = postgres.url("postgres");
    Runtime::new().unwrap().block_on(async {
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let url = url.clone();
            starts.spawn(async move { Store::open(&url, Quotas::default()).await.map(drop) });
        }
        while let Some(started) = starts.join_next().await {
            started.unwrap().unwrap();
        }
        // A password in the address is in no message.
        let wrong = "postgres://kin:hunter2@%2Fnowhere/x";
        let error = Store::open(wrong, Quotas::default()).await.err().unwrap().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    });
}

const AUTHORITY: &[u8] = include_bytes!("../it/certificate/authority.pem");
const CHAIN: &[u8] = include_bytes!("../it/certificate/chain.pem");
const KEY: &[u8] = include_bytes!("../it/certificate/key.pem");

/// The database takes TLS alone; its certificate is for `localhost`, of an authority that no system trusts.
pub(crate) fn tls_to_the_database_is_what_its_address_says() {
    let postgres = Postgres::start_with_tls(CHAIN, KEY);
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("authority.pem");
    lab::files::write(&authority, std::str::from_utf8(AUTHORITY).unwrap());
    let root = authority.to_str().unwrap().replace('/', "%2F");
    let port = postgres.port();
    Runtime::new().unwrap().block_on(async {
        let open = async |host: &str, query: &str| {
            let url = format!("postgres://kin@{host}:{port}/postgres{query}");
            Store::open(&url, Quotas::default()).await.map(drop)
        };
        for query in ["", "?sslmode=prefer", "?sslmode=require"] {
            open("127.0.0.1", query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        }
        let verified = format!("?sslmode=verify-full&sslrootcert={root}");
        open("localhost", &verified).await.unwrap();
        // No weaker way is taken: nothing encrypted, another name, an authority that is not trusted.
        for (host, query) in [
            ("localhost", "?sslmode=disable"),
            ("127.0.0.1", &verified),
            ("localhost", "?sslmode=verify-full"),
        ] {
            open(host, query).await.expect_err(query);
        }
    });
}
