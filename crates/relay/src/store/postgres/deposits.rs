//! Deposits gather into transactions: while some are written, the next ones come together.

use std::{collections::HashMap, sync::Arc};

use deadpool_postgres::Client;
use tokio::{
    sync::{mpsc, oneshot},
    try_join,
};
use tokio_postgres::types::ToSql;
use wire::relay::{Refusal, TokenHash};

use super::{
    NewEnvelope, Shared, StoreError,
    batches::{self, Work},
    failed, prepared, signed, unsigned,
};
use crate::store::{Held, LaneQuota};

/// Transactions at once.
const AT_ONCE: usize = 3;
/// Most deposits of one.
const BATCH: usize = 256;

type Reply = oneshot::Sender<Result<(), StoreError>>;

/// One that waits.
pub(super) struct Deposit {
    pub(super) envelope: NewEnvelope,
    pub(super) now: u64,
    pub(super) reply: Reply,
}

/// Writes until nobody can deposit any more.
pub(super) async fn run(shared: Arc<Shared>, waiting: mpsc::Receiver<Deposit>) {
    let answer = |batch: Vec<Deposit>| -> Work {
        let shared = Arc::clone(&shared);
        Box::pin(async move {
            let answers = match write(&shared, &batch).await {
                Ok(decided) => decided.into_iter().map(|it| it.map_err(StoreError::from)).collect(),
                Err(error) => vec![Err(error); batch.len()],
            };
            for (deposit, answer) in batch.into_iter().zip(answers) {
                // Whoever stopped waiting is not answered.
                let _ = deposit.reply.send(answer);
            }
        })
    };
    batches::run(waiting, (AT_ONCE, BATCH), answer).await;
}

/// Decides about each and writes those that are let in, durably.
async fn write(shared: &Shared, batch: &[Deposit]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
    let client = shared.client().await?;
    let written = transact(shared, &client, batch).await;
    if written.is_err() {
        // Nothing of it is left on a connection that somebody else uses next.
        client.batch_execute("ROLLBACK").await.map_err(|error| failed(&error))?;
    }
    written
}

/// The same, in a transaction that is left open if it fails. What does not depend on an answer is sent without waiting
/// for it: two waits instead of five, in which nothing else is written.
async fn transact(
    shared: &Shared,
    client: &Client,
    batch: &[Deposit],
) -> Result<Vec<Result<(), Refusal>>, StoreError> {
    let failed = |error: tokio_postgres::Error| failed(&error);
    // Locked in one order by everybody: nobody waits for anybody in a circle.
    let lock = prepared(
        client,
        "SELECT number, id, token, members, members_bytes, strangers, strangers_bytes
         FROM mailboxes WHERE id = ANY ($1) ORDER BY number FOR UPDATE",
    )
    .await?;
    let insert = prepared(
        client,
        "INSERT INTO envelopes (mailbox, lane, arrived, process, envelope)
         SELECT mailbox, lane, arrived, $5, envelope
         FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bytea[])
             WITH ORDINALITY AS new (mailbox, lane, arrived, envelope, place) ORDER BY place",
    )
    .await?;
    let update = prepared(
        client,
        "UPDATE mailboxes SET members = new.members, members_bytes = new.members_bytes,
             strangers = new.strangers, strangers_bytes = new.strangers_bytes
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
             AS new (number, members, members_bytes, strangers, strangers_bytes)
         WHERE mailboxes.number = new.number",
    )
    .await?;
    let ids: Vec<&[u8]> = batch.iter().map(|it| &it.envelope.mailbox.0[..]).collect();
    let mut boxes = HashMap::new();
    let parameters: [&(dyn ToSql + Sync); 1] = [&ids];
    let ((), rows) = try_join!(client.batch_execute("BEGIN"), client.query(&lock, &parameters))
        .map_err(failed)?;
    for row in rows {
        let lane = |at: usize| LaneQuota {
            envelopes: unsigned(row.get(at)),
            bytes: unsigned(row.get(at + 1)),
        };
        let token: Vec<u8> = row.get(2);
        let token = TokenHash(token.try_into().unwrap_or_default());
        let held = Held { token, members: lane(3), strangers: lane(5) };
        boxes.insert(row.get::<_, Vec<u8>>(1), (row.get::<_, i64>(0), held));
    }
    let full = shared.counts.read().await.bytes >= shared.quotas.bytes;
    let (mut mailboxes, mut lanes, mut times, mut envelopes) = (vec![], vec![], vec![], vec![]);
    let mut decided = Vec::with_capacity(batch.len());
    for Deposit { envelope: new, now, .. } in batch {
        let taken = match boxes.get_mut(&new.mailbox.0[..]) {
            Some(_) if full => Err(Refusal::Full),
            Some((number, held)) => {
                held.take(new.token, new.envelope.len(), &shared.quotas).map(|()| *number)
            }
            None => Err(Refusal::Unavailable),
        };
        if let Ok(number) = taken {
            mailboxes.push(number);
            lanes.push(i16::from(new.lane().number()));
            times.push(signed(*now));
            envelopes.push(&new.envelope[..]);
        }
        decided.push(taken.map(drop));
    }
    if mailboxes.is_empty() {
        client.batch_execute("ROLLBACK").await.map_err(failed)?;
        return Ok(decided);
    }
    let column = |of: fn(&Held) -> u64| -> Vec<i64> {
        boxes.values().map(|(_, held)| signed(of(held))).collect()
    };
    let numbers: Vec<i64> = boxes.values().map(|(number, _)| *number).collect();
    let (members, members_bytes) =
        (column(|it| it.members.envelopes), column(|it| it.members.bytes));
    let (strangers, strangers_bytes) =
        (column(|it| it.strangers.envelopes), column(|it| it.strangers.bytes));
    let new: [&(dyn ToSql + Sync); 5] = [&mailboxes, &lanes, &times, &envelopes, &shared.process];
    let counts: [&(dyn ToSql + Sync); 5] =
        [&numbers, &members, &members_bytes, &strangers, &strangers_bytes];
    // If one of them fails, the database takes COMMIT for ROLLBACK, and the failure is what is told.
    try_join!(
        client.execute(&insert, &new),
        client.execute(&update, &counts),
        client.batch_execute("COMMIT")
    )
    .map_err(failed)?;
    Ok(decided)
}
