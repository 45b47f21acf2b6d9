//! What is asked of the relay.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use identity::Secret;
use relay::{Connection, Inbox};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use wire::relay::{Deposit, DepositToken, LookupId, MailboxId, OwnerKey};

use crate::process::Relay;

/// Connections on which requests are made.
const CONNECTIONS: u32 = 8;
/// Requests at once on each.
const AT_ONCE: u32 = 32;
/// Mailboxes into which the deposits go whose rate is measured, and those of the backlog.
const MAILBOXES: u32 = 1000;
/// Deposits a second while the time of deliveries is measured.
const TRICKLE: u32 = 500;
/// Mailboxes that are drained at once.
const DRAINS: usize = 32;

fn owner(number: u32) -> OwnerKey {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    OwnerKey::from_seed(&Secret::new(seed)).expect("any seed does")
}

fn token() -> DepositToken {
    DepositToken(Secret::new([5; 32]))
}

/// An envelope of 1 KiB with a number in it, as far as a relay sees.
fn envelope(number: u64) -> Bytes {
    let mut bytes = vec![0xa5; 1024];
    bytes[0] = 1;
    bytes[40..48].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

fn number(envelope: &Bytes) -> u64 {
    let bytes = envelope.get(40..48).and_then(|bytes| bytes.try_into().ok());
    u64::from_be_bytes(bytes.expect("it is one of ours"))
}

fn micros() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_micros()).expect("before 586512")
}

/// The value below which so many of a thousand are.
fn quantile(sorted: &[u64], per_mille: usize) -> u64 {
    let at = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0)
}

fn millis(micros: u64) -> String {
    format!("{}.{:01} ms", micros / 1000, micros % 1000 / 100)
}

/// Makes requests on several connections until the time is over or there are none; how many were made a
/// second, and how long each took, in order.
async fn hammer<F, A>(relay: &Relay, limit: Duration, most: u64, request: F) -> (f64, Vec<u64>)
where
    F: Fn(Arc<Connection>, u64) -> A + Clone + Send + 'static,
    A: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connection = Arc::new(relay.client.connect().await.expect("it listens"));
        for _ in 0..AT_ONCE {
            let (connection, next) = (Arc::clone(&connection), Arc::clone(&next));
            let request = request.clone();
            workers.spawn(async move {
                let mut took = Vec::new();
                while began.elapsed() < limit {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= most {
                        break;
                    }
                    let asked = Instant::now();
                    request(Arc::clone(&connection), number).await;
                    took.push(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
                took
            });
        }
    }
    let mut took: Vec<u64> = workers.join_all().await.into_iter().flatten().collect();
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    (took.len() as f64 / seconds, took)
}

fn report(what: &str, (rate, took): &(f64, Vec<u64>)) {
    let (half, most) = (quantile(took, 500), quantile(took, 990));
    println!("| {what} | {rate:.0} a second, p50 {}, p99 {} |", millis(half), millis(most));
}

/// Entries that are asked for.
pub(crate) async fn gets(relay: &Relay, seconds: u64) {
    let until = micros() / 1_000_000 + 3600;
    let lookup = |number: u64| {
        let mut id = [3; 32];
        id[..8].copy_from_slice(&(number % 1000).to_be_bytes());
        LookupId(id)
    };
    let put = move |connection: Arc<Connection>, number| async move {
        let entry = vec![9; 1024].into();
        connection.put(&owner(1), lookup(number), until, entry).await.expect("it is put");
    };
    hammer(relay, Duration::from_secs(600), 1000, put).await;
    let get = move |connection: Arc<Connection>, number| async move {
        let found = connection.get(lookup(number)).await.expect("it answers");
        assert!(found.is_some());
    };
    let done = hammer(relay, Duration::from_secs(seconds), u64::MAX, get).await;
    report("gets of 1 KiB", &done);
}

/// Compares how long the relay takes to say that it has no entry: because there never was one, because it has expired, and
/// because it was withdrawn. One after the other, in turn, so that what else the machine does meets all three.
pub(crate) async fn absences(relay: &Relay) {
    const EACH: u64 = 1000;
    let lookup = |kind: u8, number: u64| {
        let mut id = [4; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        id[8] = kind;
        LookupId(id)
    };
    let (entry, key) = (Bytes::from(vec![9; 1024]), owner(2));
    let connection = relay.client.connect().await.expect("it listens");
    for number in 0..EACH {
        let (gone, until) = (lookup(1, number), micros() / 1_000_000 + 3600);
        connection.put(&key, gone, until, entry.clone()).await.expect("it is put");
        connection.withdraw(&key, gone).await.expect("it is withdrawn");
    }
    let until = micros() / 1_000_000 + 20;
    for number in 0..EACH {
        connection.put(&key, lookup(0, number), until, entry.clone()).await.expect("it is put");
    }
    while micros() / 1_000_000 <= until {
        sleep(Duration::from_millis(100)).await;
    }
    let mut took: [Vec<u64>; 3] = Default::default();
    for round in 0..10 * EACH {
        for (kind, took) in (0u8..).zip(&mut took) {
            let asked = Instant::now();
            let found = connection.get(lookup(kind, round % EACH)).await.expect("it answers");
            took.push(u64::try_from(asked.elapsed().as_nanos() / 100).unwrap_or(u64::MAX));
            assert_eq!(found, None);
        }
    }
    let told = ["expired", "withdrawn", "never there"].iter().zip(&mut took).map(|(what, took)| {
        took.sort_unstable();
        let (half, most) = (quantile(took, 500), quantile(took, 900));
        format!("{what} {:.1} and {:.1} µs", half as f64 / 10.0, most as f64 / 10.0)
    });
    let told: Vec<_> = told.collect();
    println!("| no entry, p50 and p90 of 10,000 each | {} |", told.join("; "));
}

async fn settle(relay: &Relay, first: u32, count: u32) {
    let settle = move |connection: Arc<Connection>, number: u64| async move {
        let owner = owner(first + u32::try_from(number).expect("not so many"));
        connection.settle(&owner, &token()).await.expect("it is made");
    };
    hammer(relay, Duration::from_secs(600), u64::from(count), settle).await;
}

fn mailboxes(first: u32, count: u32) -> Arc<Vec<MailboxId>> {
    Arc::new((first..first + count).map(|it| owner(it).owner().mailbox()).collect())
}

async fn deposit(connection: &Connection, mailbox: MailboxId, envelope: Bytes) {
    let deposit = Deposit { mailbox, token: Some(token()), envelope };
    connection.deposit(&deposit).await.expect("it is taken in");
}

/// Deposits, each durable when it is answered.
pub(crate) async fn deposits(relay: &Relay, seconds: u64) {
    settle(relay, 0, MAILBOXES).await;
    let done = pour(relay, 0, Duration::from_secs(seconds), u64::MAX).await;
    report("durable deposits of 1 KiB", &done);
}

async fn pour(relay: &Relay, first: u32, limit: Duration, most: u64) -> (f64, Vec<u64>) {
    let mailboxes = mailboxes(first, MAILBOXES);
    let request = move |connection: Arc<Connection>, number: u64| {
        let at = usize::try_from(number % u64::from(MAILBOXES)).unwrap_or(0);
        let mailbox = mailboxes[at];
        async move { deposit(&connection, mailbox, envelope(number)).await }
    };
    hammer(relay, limit, most, request).await
}

/// Deposits as devices make them: each on a connection of its own.
pub(crate) async fn handshakes(relay: &Relay, seconds: u64) {
    let mailboxes = mailboxes(0, MAILBOXES);
    let (began, limit) = (Instant::now(), Duration::from_secs(seconds));
    let mut workers = JoinSet::new();
    for worker in 0..16_u64 {
        let (client, mailboxes) = (relay.client.clone(), Arc::clone(&mailboxes));
        workers.spawn(async move {
            let mut took = Vec::new();
            while began.elapsed() < limit {
                let asked = Instant::now();
                let mailbox = mailboxes[usize::try_from(worker).unwrap_or(0)];
                client.deposit(mailbox, Some(&token()), envelope(worker)).await.expect("taken in");
                took.push(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            took
        });
    }
    let mut took: Vec<u64> = workers.join_all().await.into_iter().flatten().collect();
    took.sort_unstable();
    let rate = took.len() as f64 / began.elapsed().as_secs_f64();
    report("the same, each on a new connection", &(rate, took));
}

/// First number of the mailboxes that are connected.
const CONNECTED: u32 = 1_000_000;
/// First number of the mailboxes of the backlog.
const WAITING: u32 = 2_000_000;

/// Connects inboxes, and says what they cost.
pub(crate) async fn connect(relay: &Relay, count: usize) -> Vec<Inbox> {
    let count = u32::try_from(count).expect("not so many");
    settle(relay, CONNECTED, count).await;
    let before = relay.memory_kib();
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(64));
    let mut connecting = JoinSet::new();
    for number in 0..count {
        let place = Arc::clone(&places).acquire_owned().await.expect("it stays open");
        let client = relay.client.clone();
        connecting.spawn(async move {
            let inbox = client.receive(&owner(CONNECTED + number)).await.expect("it is connected");
            drop(place);
            inbox
        });
    }
    let inboxes = connecting.join_all().await;
    let took = began.elapsed().as_secs_f64();
    // What the handshakes took is given back.
    sleep(Duration::from_secs(2)).await;
    let after = relay.memory_kib();
    let each = after.saturating_sub(before) as f64 / f64::from(count);
    println!(
        "| {count} inboxes connected in {took:.1} s | {each:.1} KiB each ({} to {} MiB) |",
        before >> 10,
        after >> 10
    );
    inboxes
}

/// Measures how long a delivery takes while deposits go on; then goes on for as long as it is to soak.
pub(crate) async fn delivery(
    relay: &Relay,
    out: &Relay,
    inboxes: Vec<Inbox>,
    seconds: u64,
    soak: u64,
) {
    let count = u32::try_from(inboxes.len()).expect("not so many");
    if count == 0 {
        return;
    }
    let (tell, mut told) = mpsc::unbounded_channel();
    for inbox in inboxes {
        let tell = tell.clone();
        tokio::spawn(async move {
            let mut inbox = inbox;
            while let Ok(item) = inbox.next().await {
                let took = micros().saturating_sub(number(&item.envelope));
                if tell.send(took).is_err() || inbox.acknowledge(&[item.number]).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(tell);
    for (what, seconds) in [("delivery", seconds), ("soak", soak)] {
        if seconds == 0 {
            continue;
        }
        let before = out.memory_kib();
        let sent = trickle(relay, count, seconds).await;
        let mut took = Vec::new();
        while took.len() < sent {
            match timeout(Duration::from_secs(30), told.recv()).await {
                Ok(Some(one)) => took.push(one),
                _ => break,
            }
        }
        assert_eq!(took.len(), sent, "what was taken in was delivered");
        took.sort_unstable();
        println!(
            "| {what}, {TRICKLE} deposits a second for {seconds} s | p50 {}, p99 {}; {} to {} MiB |",
            millis(quantile(&took, 500)),
            millis(quantile(&took, 990)),
            before >> 10,
            out.memory_kib() >> 10
        );
    }
}

/// Deposits at a steady rate; how many.
async fn trickle(relay: &Relay, count: u32, seconds: u64) -> usize {
    let mailboxes = mailboxes(CONNECTED, count);
    let connection = Arc::new(relay.client.connect().await.expect("it listens"));
    let mut ticks = interval(Duration::from_secs(1) / TRICKLE);
    let mut sending = JoinSet::new();
    let total = usize::try_from(seconds).unwrap_or(0) * TRICKLE as usize;
    for sent in 0..total {
        ticks.tick().await;
        let mailbox = mailboxes[sent * 7919 % mailboxes.len()];
        let connection = Arc::clone(&connection);
        sending.spawn(async move { deposit(&connection, mailbox, envelope(micros())).await });
        while sending.try_join_next().is_some() {}
    }
    sending.join_all().await;
    total
}

/// Lets envelopes gather.
pub(crate) async fn fill(relay: &Relay, backlog: u64) {
    settle(relay, WAITING, MAILBOXES).await;
    let (rate, _) = pour(relay, WAITING, Duration::from_secs(36_000), backlog).await;
    println!("| {backlog} deposits of 1 KiB that wait | {rate:.0} a second |");
}

/// Receives them all.
pub(crate) async fn drain(relay: &Relay, backlog: u64) {
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(DRAINS));
    let mut drains = JoinSet::new();
    for number in 0..MAILBOXES {
        let each = backlog / u64::from(MAILBOXES)
            + u64::from(u64::from(number) < backlog % u64::from(MAILBOXES));
        let place = Arc::clone(&places).acquire_owned().await.expect("it stays open");
        let client = relay.client.clone();
        drains.spawn(async move {
            let mut inbox = client.receive(&owner(WAITING + number)).await.expect("connected");
            let mut handled = Vec::new();
            for _ in 0..each {
                let item = inbox.next().await.expect("it is there");
                handled.push(item.number);
                if handled.len() == 64 {
                    inbox.acknowledge(&handled).await.expect("it is connected");
                    handled.clear();
                }
            }
            if !handled.is_empty() {
                inbox.acknowledge(&handled).await.expect("it is connected");
            }
            drop(place);
        });
    }
    drains.join_all().await;
    let rate = backlog as f64 / began.elapsed().as_secs_f64();
    println!("| that backlog received and acknowledged | {rate:.0} a second |");
}
