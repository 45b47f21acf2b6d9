//! The thread that writes.

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::{mpsc, oneshot};
use wire::relay::{LookupId, MailboxId, Owner, Refusal, TokenHash};

use super::{Counts, NewEntry, NewEnvelope, Quotas, StoreError, Swept, signed, unsigned};
use crate::store::{DAY, Held, KEEP_ENVELOPES, KEEP_MAILBOXES, LaneQuota};

/// Most changes of one transaction.
const BATCH: usize = 512;
/// Most rows of a kind that one sweep removes: others wait meanwhile.
const SWEEP: i64 = 1000;
/// Most pages that one sweep gives back to the file system.
const VACUUM_PAGES: i64 = 1000;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What can be asked of it.
#[derive(Debug)]
pub(super) enum Change {
    Put { entry: NewEntry, now: u64, reply: Reply<()> },
    Withdraw { lookup: LookupId, owner: Owner, reply: Reply<()> },
    Settle { owner: Owner, token: TokenHash, now: u64, reply: Reply<()> },
    Remove { mailbox: MailboxId, reply: Reply<()> },
    Deposit { envelope: NewEnvelope, now: u64, reply: Reply<()> },
    Visit { mailbox: MailboxId, now: u64, reply: Reply<bool> },
    Acknowledge { mailbox: MailboxId, numbers: Vec<u64>, reply: Reply<()> },
    Sweep { now: u64, reply: Reply<Swept> },
    Probe { sample: NewEntry, reply: Reply<()> },
    Counts { reply: Reply<Counts> },
}

/// Answers that wait for the commit.
type Answer = Box<dyn FnOnce(Option<&StoreError>) + Send>;

pub(super) struct Writer {
    connection: Connection,
    quotas: Quotas,
    counts: Counts,
}

impl Writer {
    pub(super) fn new(connection: Connection, quotas: Quotas) -> Result<Self, rusqlite::Error> {
        let counts = count(&connection)?;
        Ok(Self { connection, quotas, counts })
    }

    /// Writes until nobody can ask any more.
    pub(super) fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        let mut batch = Vec::new();
        while let Some(first) = changes.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH
                && let Ok(next) = changes.try_recv()
            {
                batch.push(next);
            }
            self.write(&mut batch);
        }
    }

    fn write(&mut self, batch: &mut Vec<Change>) {
        let before = self.counts;
        let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
        let mut written = self.connection.execute_batch("BEGIN IMMEDIATE");
        for change in batch.drain(..) {
            let trouble = written.is_err();
            let applied = self.apply(change, trouble, &mut answers);
            written = written.and(applied);
        }
        let written = written.and_then(|()| self.connection.execute_batch("COMMIT"));
        let failure = written.err().map(|error| {
            // What is not written is not there: every one of them is told so, and may ask again.
            let _ = self.connection.execute_batch("ROLLBACK");
            self.counts = before;
            tracing::error!(%error, "the store cannot be written");
            StoreError::Failed(error.to_string())
        });
        for answer in answers {
            answer(failure.as_ref());
        }
    }

    /// Makes one change; its answer waits for the commit. A refusal is an answer, not an error.
    fn apply(
        &mut self,
        change: Change,
        trouble: bool,
        answers: &mut Vec<Answer>,
    ) -> Result<(), rusqlite::Error> {
        macro_rules! finish {
            ($reply:expr, $do:expr) => {{
                let done = if trouble { Err(rusqlite::Error::InvalidQuery) } else { $do };
                let (value, error) = match done {
                    Ok(value) => (value.map_err(StoreError::from), None),
                    Err(error) => (Err(StoreError::Failed(error.to_string())), Some(error)),
                };
                let reply = $reply;
                answers.push(Box::new(move |failure| {
                    let value = failure.map_or(value, |failure| Err(failure.clone()));
                    // Whoever stopped waiting is not answered.
                    let _ = reply.send(value);
                }));
                error.map_or(Ok(()), Err)
            }};
        }
        match change {
            Change::Put { entry, now, reply } => {
                finish!(reply, self.put(&entry, now, self.quotas.entries))
            }
            Change::Withdraw { lookup, owner, reply } => {
                finish!(reply, self.withdraw(lookup, owner))
            }
            Change::Settle { owner, token, now, reply } => {
                finish!(reply, self.settle(owner, token, now))
            }
            Change::Remove { mailbox, reply } => finish!(reply, self.remove(mailbox)),
            Change::Deposit { envelope, now, reply } => {
                finish!(reply, self.deposit(&envelope, now))
            }
            Change::Visit { mailbox, now, reply } => finish!(reply, self.visit(mailbox, now)),
            Change::Acknowledge { mailbox, numbers, reply } => {
                finish!(reply, self.acknowledge(mailbox, &numbers))
            }
            Change::Sweep { now, reply } => finish!(reply, self.sweep(now)),
            // Whether the disk takes it is asked, not whether there is a place for one more.
            Change::Probe { sample, reply } => finish!(reply, self.put(&sample, 0, u64::MAX)),
            Change::Counts { reply } => finish!(reply, Ok(Ok::<_, Refusal>(self.counts))),
        }
    }

    fn put(
        &mut self,
        new: &NewEntry,
        now: u64,
        most: u64,
    ) -> Result<Result<(), Refusal>, rusqlite::Error> {
        let lookup = new.lookup.0;
        let owner = self
            .connection
            .prepare_cached("SELECT owner FROM entries WHERE lookup = ?1 AND expires > ?2")?
            .query_row(params![lookup, signed(now)], |row| row.get::<_, [u8; 32]>(0))
            .optional()?;
        if owner.is_some_and(|owner| owner != new.owner.0) {
            return Ok(Err(Refusal::Taken));
        }
        let replaced = self
            .connection
            .prepare_cached("DELETE FROM entries WHERE lookup = ?1")?
            .execute(params![lookup])?;
        self.counts.entries = self.counts.entries.saturating_sub(replaced as u64);
        if self.counts.entries >= most {
            return Ok(Err(Refusal::Full));
        }
        self.connection
            .prepare_cached(
                "INSERT INTO entries (lookup, expires, owner, entry) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![lookup, signed(new.until), new.owner.0, &new.entry[..]])?;
        self.counts.entries += 1;
        Ok(Ok(()))
    }

    fn withdraw(
        &mut self,
        lookup: LookupId,
        owner: Owner,
    ) -> Result<Result<(), Refusal>, rusqlite::Error> {
        let gone = self
            .connection
            .prepare_cached("DELETE FROM entries WHERE lookup = ?1 AND owner = ?2")?
            .execute(params![lookup.0, owner.0])?;
        self.counts.entries = self.counts.entries.saturating_sub(gone as u64);
        Ok(Ok(()))
    }

    fn settle(
        &mut self,
        owner: Owner,
        token: TokenHash,
        now: u64,
    ) -> Result<Result<(), Refusal>, rusqlite::Error> {
        let id = owner.mailbox().0;
        let changed = self
            .connection
            .prepare_cached("UPDATE mailboxes SET token = ?2, seen = ?3 WHERE id = ?1")?
            .execute(params![id, token.0, signed(now)])?;
        if changed > 0 {
            return Ok(Ok(()));
        }
        if self.counts.mailboxes >= self.quotas.mailboxes {
            return Ok(Err(Refusal::Full));
        }
        self.connection
            .prepare_cached("INSERT INTO mailboxes (id, token, seen) VALUES (?1, ?2, ?3)")?
            .execute(params![id, token.0, signed(now)])?;
        self.counts.mailboxes += 1;
        Ok(Ok(()))
    }

    fn remove(&mut self, mailbox: MailboxId) -> Result<Result<(), Refusal>, rusqlite::Error> {
        let Some((number, held)) = self.held(mailbox)? else { return Ok(Ok(())) };
        self.connection
            .prepare_cached("DELETE FROM mailboxes WHERE number = ?1")?
            .execute(params![number])?;
        self.counts.mailboxes = self.counts.mailboxes.saturating_sub(1);
        for lane in [held.members, held.strangers] {
            self.counts.envelopes = self.counts.envelopes.saturating_sub(lane.envelopes);
            self.counts.bytes = self.counts.bytes.saturating_sub(lane.bytes);
        }
        Ok(Ok(()))
    }

    fn deposit(
        &mut self,
        new: &NewEnvelope,
        now: u64,
    ) -> Result<Result<(), Refusal>, rusqlite::Error> {
        let Some((number, mut held)) = self.held(new.mailbox)? else {
            return Ok(Err(Refusal::Unavailable));
        };
        let len = new.envelope.len();
        if let Err(refusal) = held.take(new.token, len, &self.quotas) {
            return Ok(Err(refusal));
        }
        if self.counts.bytes.saturating_add(len as u64) > self.quotas.bytes {
            return Ok(Err(Refusal::Full));
        }
        self.connection
            .prepare_cached(
                "INSERT INTO envelopes (mailbox, lane, arrived, envelope) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![number, new.lane().number(), signed(now), &new.envelope[..]])?;
        self.hold(number, &held)?;
        self.counts.envelopes += 1;
        self.counts.bytes += len as u64;
        Ok(Ok(()))
    }

    fn visit(
        &mut self,
        mailbox: MailboxId,
        now: u64,
    ) -> Result<Result<bool, Refusal>, rusqlite::Error> {
        let seen = self
            .connection
            .prepare_cached("SELECT seen FROM mailboxes WHERE id = ?1")?
            .query_row(params![mailbox.0], |row| row.get::<_, i64>(0))
            .optional()?;
        let Some(seen) = seen.map(unsigned) else { return Ok(Ok(false)) };
        // Once a day says enough.
        if seen.saturating_add(DAY) <= now {
            self.connection
                .prepare_cached("UPDATE mailboxes SET seen = ?2 WHERE id = ?1")?
                .execute(params![mailbox.0, signed(now)])?;
        }
        Ok(Ok(true))
    }

    fn acknowledge(
        &mut self,
        mailbox: MailboxId,
        numbers: &[u64],
    ) -> Result<Result<(), Refusal>, rusqlite::Error> {
        let Some((box_number, mut held)) = self.held(mailbox)? else { return Ok(Ok(())) };
        for &number in numbers {
            let gone = self
                .connection
                .prepare_cached(
                    "DELETE FROM envelopes WHERE number = ?1 AND mailbox = ?2
                     RETURNING lane, length(envelope)",
                )?
                .query_row(params![signed(number), box_number], |row| {
                    Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?))
                })
                .optional()?;
            if let Some((lane, len)) = gone {
                self.give_back(&mut held, lane, unsigned(len));
            }
        }
        self.hold(box_number, &held)?;
        Ok(Ok(()))
    }

    fn give_back(&mut self, held: &mut Held, lane: u32, len: u64) {
        let lane = if lane == 1 { &mut held.members } else { &mut held.strangers };
        lane.envelopes = lane.envelopes.saturating_sub(1);
        lane.bytes = lane.bytes.saturating_sub(len);
        self.counts.envelopes = self.counts.envelopes.saturating_sub(1);
        self.counts.bytes = self.counts.bytes.saturating_sub(len);
    }

    fn sweep(&mut self, now: u64) -> Result<Result<Swept, Refusal>, rusqlite::Error> {
        let mut swept = Swept::default();
        let entries = self
            .connection
            .prepare_cached(
                "DELETE FROM entries WHERE number IN
                 (SELECT number FROM entries WHERE expires <= ?1 LIMIT ?2)",
            )?
            .execute(params![signed(now), SWEEP])?;
        swept.entries = entries as u64;
        self.counts.entries = self.counts.entries.saturating_sub(swept.entries);
        for (mailbox, number) in self.old_envelopes(now)? {
            self.acknowledge(mailbox, &[number]).map(drop)?;
            swept.envelopes += 1;
        }
        let left: Vec<[u8; 32]> = self
            .connection
            .prepare_cached("SELECT id FROM mailboxes WHERE seen <= ?1 LIMIT 10")?
            .query_map(params![signed(now.saturating_sub(KEEP_MAILBOXES))], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in left {
            self.remove(MailboxId(id)).map(drop)?;
            swept.mailboxes += 1;
        }
        let vacuum = format!("PRAGMA incremental_vacuum({VACUUM_PAGES})");
        let mut statement = self.connection.prepare_cached(&vacuum)?;
        let mut pages = statement.query([])?;
        while pages.next()?.is_some() {}
        Ok(Ok(swept))
    }

    /// The oldest ones have the lowest numbers.
    fn old_envelopes(&self, now: u64) -> Result<Vec<(MailboxId, u64)>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT mailboxes.id, old.number FROM
             (SELECT number, mailbox, arrived FROM envelopes ORDER BY number LIMIT ?2) AS old
             JOIN mailboxes ON mailboxes.number = old.mailbox WHERE old.arrived <= ?1",
        )?;
        let before = signed(now.saturating_sub(KEEP_ENVELOPES));
        let rows = statement.query_map(params![before, SWEEP], |row| {
            Ok((MailboxId(row.get(0)?), unsigned(row.get(1)?)))
        })?;
        rows.collect()
    }

    fn held(&self, mailbox: MailboxId) -> Result<Option<(i64, Held)>, rusqlite::Error> {
        self.connection
            .prepare_cached(
                "SELECT number, token, members, members_bytes, strangers, strangers_bytes
                 FROM mailboxes WHERE id = ?1",
            )?
            .query_row(params![mailbox.0], |row| {
                let lane = |at: usize| {
                    let (envelopes, bytes) = (row.get(at)?, row.get(at + 1)?);
                    let (envelopes, bytes) = (unsigned(envelopes), unsigned(bytes));
                    Ok::<_, rusqlite::Error>(LaneQuota { envelopes, bytes })
                };
                let (members, strangers) = (lane(2)?, lane(4)?);
                let token = TokenHash(row.get(1)?);
                Ok((row.get(0)?, Held { token, members, strangers }))
            })
            .optional()
    }

    fn hold(&self, number: i64, held: &Held) -> Result<(), rusqlite::Error> {
        let Held { members, strangers, .. } = held;
        self.connection
            .prepare_cached(
                "UPDATE mailboxes SET members = ?2, members_bytes = ?3, strangers = ?4,
                 strangers_bytes = ?5 WHERE number = ?1",
            )?
            .execute(params![
                number,
                signed(members.envelopes),
                signed(members.bytes),
                signed(strangers.envelopes),
                signed(strangers.bytes),
            ])
            .map(drop)
    }
}

fn count(connection: &Connection) -> Result<Counts, rusqlite::Error> {
    let entries = connection.query_row("SELECT count(*) FROM entries", [], |row| row.get(0))?;
    connection.query_row(
        "SELECT count(*),
         coalesce(sum(members + strangers), 0),
         coalesce(sum(members_bytes + strangers_bytes), 0)
         FROM mailboxes",
        [],
        |row| {
            let whole = |at: usize| row.get::<_, i64>(at).map(unsigned);
            Ok(Counts {
                entries: unsigned(entries),
                mailboxes: unsigned(row.get(0)?),
                envelopes: whole(1)?,
                bytes: whole(2)?,
            })
        },
    )
}
