//! The store in PostgreSQL, which any number of relays share: none of them keeps anything itself.
//!
//! Deposits gather into transactions of many, as in SQLite, and for the same reason. Who receives a mailbox may
//! be connected to another relay than who deposits: each relay asks a few times a second what others have
//! taken in ([`Store::arrivals`]), one cheap question for all mailboxes, instead of a notice for each envelope.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;
use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio::sync::{RwLock, mpsc, oneshot};
use tokio_postgres::Row;
use wire::relay::{Item, Lane, LookupId, MailboxId, MeetingId, Owner, Refusal, TokenHash};

use super::{
    Counts, DAY, KEEP_ENVELOPES, KEEP_MAILBOXES, NewEntry, NewEnvelope, Pending, Quotas, Store,
    StoreError, Swept, sample,
};

mod batches;
mod deposits;
mod gets;
mod tables;
mod tls;

use deposits::Deposit;
use gets::Get;

/// Connections to the database.
const CONNECTIONS: usize = 12;
/// How long one may be waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// Deposits, and questions, that wait.
const QUEUE: usize = 4096;
/// Most rows of a kind that one sweep removes.
const SWEEP: i64 = 1000;

/// The store in PostgreSQL.
pub struct Postgres {
    shared: Arc<Shared>,
    deposits: mpsc::Sender<Deposit>,
    gets: mpsc::Sender<Get>,
}

struct Shared {
    pool: Pool,
    quotas: Quotas,
    /// As of the last sweep.
    counts: RwLock<Counts>,
    /// A random number: tells what this process has taken in from what others have.
    process: i64,
    /// Transactions from this one on have not been looked through for arrivals.
    seen: AtomicI64,
}

impl Postgres {
    /// What an operator should know of how the database of this address is reached; `None` if there is nothing to
    /// fear, or if the address makes no sense.
    #[must_use]
    pub fn caution(url: &str) -> Option<&'static str> {
        tls::Place::parse(url).ok()?.caution()
    }

    /// Connects (`postgres://USER@HOST/DATABASE`, with `sslmode` and `sslrootcert` as libpq has them), and makes the
    /// tables or brings older ones to the present form.
    ///
    /// # Errors
    /// If the database cannot be reached or used, or was written by a newer kin.
    pub async fn open(url: &str, quotas: Quotas) -> Result<Self, StoreError> {
        let place = tls::Place::parse(url)?;
        let connector = place.connector()?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(place.config, connector, recycling);
        let timeouts =
            Timeouts { wait: Some(PATIENCE), create: Some(PATIENCE), recycle: Some(PATIENCE) };
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| failed(&error))?;
        let mut process = [0; 8];
        getrandom::fill(&mut process).map_err(|error| StoreError::Failed(error.to_string()))?;
        let shared = Arc::new(Shared {
            pool,
            quotas,
            counts: RwLock::default(),
            process: i64::from_ne_bytes(process),
            seen: AtomicI64::new(0),
        });
        let mut client = shared.client().await?;
        tables::migrate(&mut client).await?;
        let now = client.query_one(NOW, &[]).await.map_err(|error| failed(&error))?;
        shared.seen.store(now.get(0), Ordering::Relaxed);
        drop(client);
        shared.count().await?;
        let (deposits, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(deposits::run(Arc::clone(&shared), waiting));
        let (gets, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(gets::run(Arc::clone(&shared), waiting));
        Ok(Self { shared, deposits, gets })
    }
}

/// Transactions below this one have ended, and what they wrote can be read.
const NOW: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";

impl Shared {
    async fn client(&self) -> Result<Client, StoreError> {
        self.pool.get().await.map_err(|error| failed(&error))
    }

    async fn count(&self) -> Result<Counts, StoreError> {
        let client = self.client().await?;
        let query = "SELECT (SELECT count(*) FROM entries), count(*),
             coalesce(sum(members + strangers), 0)::bigint,
             coalesce(sum(members_bytes + strangers_bytes), 0)::bigint FROM mailboxes";
        let row = client.query_one(query, &[]).await.map_err(|error| failed(&error))?;
        let at = |at: usize| unsigned(row.get(at));
        let counts = Counts { entries: at(0), mailboxes: at(1), envelopes: at(2), bytes: at(3) };
        *self.counts.write().await = counts;
        Ok(counts)
    }
}

impl Store for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn put(&self, new: NewEntry, now: u64) -> Pending<'_, ()> {
        Box::pin(async move {
            if self.shared.counts.read().await.entries >= self.shared.quotas.entries {
                return Err(Refusal::Full.into());
            }
            let client = self.shared.client().await?;
            let statement = prepared(
                &client,
                "INSERT INTO entries (lookup, expires, owner, entry) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (lookup) DO UPDATE
                 SET expires = excluded.expires, owner = excluded.owner, entry = excluded.entry
                 WHERE entries.owner = excluded.owner OR entries.expires <= $5",
            )
            .await?;
            let (lookup, owner) = (&new.lookup.0[..], &new.owner.0[..]);
            let until = signed(new.until);
            let put = client
                .execute(&statement, &[&lookup, &until, &owner, &&new.entry[..], &signed(now)])
                .await
                .map_err(|error| failed(&error))?;
            match put {
                0 => Err(Refusal::Taken.into()),
                _ => Ok(()),
            }
        })
    }

    fn get(&self, lookup: LookupId, now: u64) -> Pending<'_, Option<Bytes>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.gets.send(Get { lookup, now, reply }).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        })
    }

    fn withdraw(&self, lookup: LookupId, owner: Owner) -> Pending<'_, ()> {
        Box::pin(async move {
            let client = self.shared.client().await?;
            let query = "DELETE FROM entries WHERE lookup = $1 AND owner = $2";
            let done = client.execute(query, &[&&lookup.0[..], &&owner.0[..]]).await;
            done.map(drop).map_err(|error| failed(&error))
        })
    }

    fn settle(&self, owner: Owner, token: TokenHash, now: u64) -> Pending<'_, ()> {
        Box::pin(async move {
            let client = self.shared.client().await?;
            let full = self.shared.counts.read().await.mailboxes >= self.shared.quotas.mailboxes;
            let (id, token, now) = (owner.mailbox().0, &token.0[..], signed(now));
            let query = match full {
                true => "UPDATE mailboxes SET token = $2, seen = $3 WHERE id = $1",
                false => {
                    "INSERT INTO mailboxes (id, token, seen) VALUES ($1, $2, $3)
                     ON CONFLICT (id) DO UPDATE SET token = excluded.token, seen = excluded.seen"
                }
            };
            let statement = prepared(&client, query).await?;
            let settled = client.execute(&statement, &[&&id[..], &token, &now]).await;
            match settled.map_err(|error| failed(&error))? {
                0 => Err(Refusal::Full.into()),
                _ => Ok(()),
            }
        })
    }

    fn remove(&self, mailbox: MailboxId) -> Pending<'_, ()> {
        Box::pin(async move {
            let client = self.shared.client().await?;
            let query = "DELETE FROM mailboxes WHERE id = $1";
            let done = client.execute(query, &[&&mailbox.0[..]]).await;
            done.map(drop).map_err(|error| failed(&error))
        })
    }

    fn deposit(&self, envelope: NewEnvelope, now: u64) -> Pending<'_, ()> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let deposit = Deposit { envelope, now, reply };
            self.deposits.send(deposit).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        })
    }

    fn visit(&self, mailbox: MailboxId, now: u64) -> Pending<'_, bool> {
        Box::pin(async move {
            let client = self.shared.client().await?;
            let id = &mailbox.0[..];
            let statement = prepared(&client, "SELECT seen FROM mailboxes WHERE id = $1").await?;
            let row = client.query_opt(&statement, &[&id]).await.map_err(|error| failed(&error))?;
            let Some(seen) = row.map(|row| unsigned(row.get(0))) else { return Ok(false) };
            // Once a day says enough.
            if seen.saturating_add(DAY) <= now {
                let query = "UPDATE mailboxes SET seen = $2 WHERE id = $1";
                let done = client.execute(query, &[&id, &signed(now)]).await;
                done.map_err(|error| failed(&error))?;
            }
            Ok(true)
        })
    }

    fn read(
        &self,
        mailbox: MailboxId,
        after: u64,
        most: usize,
        bytes: usize,
    ) -> Pending<'_, Vec<Item>> {
        Box::pin(async move {
            let client = self.shared.client().await?;
            // Those that are too many stay in the database: they are as large as envelopes are.
            let statement = prepared(
                &client,
                "SELECT number, lane, envelope FROM (
                     SELECT number, lane, envelope,
                         sum(octet_length(envelope)) OVER (ORDER BY number) AS bytes,
                         row_number() OVER (ORDER BY number) AS place
                     FROM (
                         SELECT number, lane, envelope FROM envelopes
                         WHERE mailbox = (SELECT number FROM mailboxes WHERE id = $1)
                             AND number > $2
                         ORDER BY number LIMIT $3
                     ) AS next
                 ) AS sized WHERE bytes <= $4 OR place = 1 ORDER BY number",
            )
            .await?;
            let (most, bytes) = (i64::try_from(most), i64::try_from(bytes));
            let (most, bytes) = (most.unwrap_or(i64::MAX), bytes.unwrap_or(i64::MAX));
            let rows = client
                .query(&statement, &[&&mailbox.0[..], &signed(after), &most, &bytes])
                .await
                .map_err(|error| failed(&error))?;
            Ok(rows.iter().map(item).collect())
        })
    }

    fn acknowledge(&self, mailbox: MailboxId, numbers: Vec<u64>) -> Pending<'_, ()> {
        Box::pin(async move {
            let client = self.shared.client().await?;
            // The mailbox is locked first, as by a deposit: nobody waits for anybody in a circle.
            let statement = prepared(
                &client,
                "WITH held AS (SELECT number FROM mailboxes WHERE id = $1 FOR UPDATE),
                 gone AS (
                     DELETE FROM envelopes WHERE mailbox IN (SELECT number FROM held)
                         AND number = ANY ($2)
                     RETURNING lane, octet_length(envelope) AS len
                 ), sums AS (
                     SELECT count(*) FILTER (WHERE lane = 1) AS members,
                         coalesce(sum(len) FILTER (WHERE lane = 1), 0) AS members_bytes,
                         count(*) FILTER (WHERE lane <> 1) AS strangers,
                         coalesce(sum(len) FILTER (WHERE lane <> 1), 0) AS strangers_bytes
                     FROM gone
                 )
                 UPDATE mailboxes SET members = mailboxes.members - sums.members,
                     members_bytes = mailboxes.members_bytes - sums.members_bytes,
                     strangers = mailboxes.strangers - sums.strangers,
                     strangers_bytes = mailboxes.strangers_bytes - sums.strangers_bytes
                 FROM sums WHERE mailboxes.id = $1",
            )
            .await?;
            let numbers: Vec<i64> = numbers.into_iter().map(signed).collect();
            let done = client.execute(&statement, &[&&mailbox.0[..], &numbers]).await;
            done.map(drop).map_err(|error| failed(&error))
        })
    }

    fn sweep(&self, now: u64) -> Pending<'_, Swept> {
        Box::pin(async move {
            let client = self.shared.client().await?;
            let failed = |error: tokio_postgres::Error| failed(&error);
            let mut swept = Swept::default();
            let query = "DELETE FROM entries WHERE lookup IN
                 (SELECT lookup FROM entries WHERE expires <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
            swept.entries = client.execute(query, &[&signed(now), &SWEEP]).await.map_err(failed)?;
            // The oldest ones have the lowest numbers.
            let query = "SELECT mailboxes.id, array_agg(old.number) FROM
                 (SELECT number, mailbox, arrived FROM envelopes ORDER BY number LIMIT $2) AS old
                 JOIN mailboxes ON mailboxes.number = old.mailbox
                 WHERE old.arrived <= $1 GROUP BY mailboxes.id";
            let before = signed(now.saturating_sub(KEEP_ENVELOPES));
            let old = client.query(query, &[&before, &SWEEP]).await.map_err(failed)?;
            for row in &old {
                let (id, numbers): (Vec<u8>, Vec<i64>) = (row.get(0), row.get(1));
                let Ok(id) = id.try_into() else { continue };
                swept.envelopes += numbers.len() as u64;
                let numbers = numbers.into_iter().map(unsigned).collect();
                self.acknowledge(MailboxId(id), numbers).await?;
            }
            let query = "DELETE FROM mailboxes WHERE number IN
                 (SELECT number FROM mailboxes WHERE seen <= $1 LIMIT 10 FOR UPDATE SKIP LOCKED)";
            let over = "DELETE FROM meetings WHERE expires <= $1";
            client.execute(over, &[&signed(now)]).await.map_err(failed)?;
            let before = signed(now.saturating_sub(KEEP_MAILBOXES));
            swept.mailboxes = client.execute(query, &[&before]).await.map_err(failed)?;
            drop(client);
            self.shared.count().await?;
            Ok(swept)
        })
    }

    fn probe(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            let NewEntry { lookup, owner, entry, .. } = sample()?;
            let client = self.shared.client().await?;
            let query =
                "INSERT INTO entries (lookup, expires, owner, entry) VALUES ($1, 0, $2, $3)";
            let done = client.execute(query, &[&&lookup.0[..], &&owner.0[..], &&entry[..]]).await;
            done.map_err(|error| failed(&error))?;
            drop(client);
            self.withdraw(lookup, owner).await
        })
    }

    fn counts(&self) -> Pending<'_, Counts> {
        Box::pin(async move {
            // Says too whether the database is there.
            drop(self.shared.client().await?);
            Ok(*self.shared.counts.read().await)
        })
    }

    fn meet(
        &self,
        meeting: MeetingId,
        place: String,
        until: u64,
        now: u64,
    ) -> Option<Pending<'_, Option<String>>> {
        Some(Box::pin(async move {
            let client = self.shared.client().await?;
            let id = &meeting.0[..];
            let wait = "INSERT INTO meetings (id, place, expires) VALUES ($1, $2, $3)
                 ON CONFLICT (id) DO UPDATE SET place = excluded.place, expires = excluded.expires
                 WHERE meetings.expires <= $4 OR meetings.place = excluded.place";
            let waits = client.execute(wait, &[&id, &place, &signed(until), &signed(now)]).await;
            if waits.map_err(|error| failed(&error))? > 0 {
                return Ok(None);
            }
            let join = "DELETE FROM meetings WHERE id = $1 RETURNING place";
            let other = client.query_opt(join, &[&id]).await.map_err(|error| failed(&error))?;
            match other {
                Some(row) => Ok(Some(row.get(0))),
                // A third one was faster. This one comes again.
                None => Err(Refusal::Unavailable.into()),
            }
        }))
    }

    fn arrivals(&self) -> Option<Pending<'_, Vec<MailboxId>>> {
        Some(Box::pin(async move {
            let client = self.shared.client().await?;
            // Transactions end in another order than they begin in. Those below the oldest one that runs have
            // all ended: each is looked at once, and none is missed.
            let statement = prepared(
                &client,
                "WITH ended AS (
                     SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS upto
                 )
                 SELECT upto, mailboxes.id FROM ended LEFT JOIN (
                     SELECT DISTINCT mailbox, upto AS at FROM envelopes, ended
                     WHERE tx >= $1 AND tx < upto AND process <> $2
                 ) AS new ON new.at = upto LEFT JOIN mailboxes ON mailboxes.number = new.mailbox",
            )
            .await?;
            let seen = self.shared.seen.load(Ordering::Relaxed);
            let rows = client
                .query(&statement, &[&seen, &self.shared.process])
                .await
                .map_err(|error| failed(&error))?;
            let upto = rows.first().map(|row| row.get(0));
            self.shared.seen.store(upto.unwrap_or(seen), Ordering::Relaxed);
            let ids = rows.iter().filter_map(|row| row.get::<_, Option<Vec<u8>>>(1));
            Ok(ids.filter_map(|id| Some(MailboxId(id.try_into().ok()?))).collect())
        }))
    }
}

fn item(row: &Row) -> Item {
    // Numbers of lanes are written by this crate.
    let lane = u32::try_from(row.get::<_, i16>(1)).unwrap_or_default();
    Item {
        number: unsigned(row.get(0)),
        lane: Lane::from_number(lane).unwrap_or(Lane::Strangers),
        envelope: Bytes::from(row.get::<_, Vec<u8>>(2)),
    }
}

async fn prepared(client: &Client, query: &str) -> Result<tokio_postgres::Statement, StoreError> {
    client.prepare_cached(query).await.map_err(|error| failed(&error))
}

fn stopped() -> StoreError {
    StoreError::Failed("the store has stopped".to_owned())
}

/// What the database says, and why it says so.
fn failed(error: &dyn std::error::Error) -> StoreError {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let why = inner.to_string();
        // Some causes have been said by what they caused.
        if !said.ends_with(&why) {
            said = format!("{said}: {why}");
        }
        cause = inner.source();
    }
    StoreError::Failed(said)
}

/// Numbers are 64 bits and signed in PostgreSQL; ours never reach the sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
