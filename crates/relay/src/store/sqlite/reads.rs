//! The threads that read.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::{mpsc, oneshot};
use wire::relay::{Item, Lane, LookupId, MailboxId};

use super::{StoreError, signed, unsigned};

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What can be asked.
#[derive(Debug)]
pub(super) enum Read {
    Entry { lookup: LookupId, now: u64, reply: Reply<Option<Bytes>> },
    Envelopes { mailbox: MailboxId, after: u64, most: usize, bytes: usize, reply: Reply<Vec<Item>> },
}

/// Answers until nobody can ask any more. Whoever stopped waiting is not answered.
pub(super) fn run(connection: &Connection, mut requests: mpsc::Receiver<Read>) {
    let failed = |error: rusqlite::Error| StoreError::Failed(error.to_string());
    while let Some(request) = requests.blocking_recv() {
        match request {
            Read::Entry { lookup, now, reply } => {
                let _ = reply.send(entry(connection, lookup, now).map_err(failed));
            }
            Read::Envelopes { mailbox, after, most, bytes, reply } => {
                let read = envelopes(connection, mailbox, after, most, bytes);
                let _ = reply.send(read.map_err(failed));
            }
        }
    }
}

/// An entry that has not expired.
pub(super) const ENTRY: &str = "SELECT entry FROM entries WHERE lookup = ?1 AND expires > ?2";

fn entry(
    connection: &Connection,
    lookup: LookupId,
    now: u64,
) -> Result<Option<Bytes>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(ENTRY)?;
    let entry = statement.query_row(params![lookup.0, signed(now)], |row| row.get::<_, Vec<u8>>(0));
    Ok(entry.optional()?.map(Bytes::from))
}

fn envelopes(
    connection: &Connection,
    mailbox: MailboxId,
    after: u64,
    most: usize,
    bytes: usize,
) -> Result<Vec<Item>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(
        "SELECT number, lane, envelope FROM envelopes
         WHERE mailbox = (SELECT number FROM mailboxes WHERE id = ?1) AND number > ?2
         ORDER BY number LIMIT ?3",
    )?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![mailbox.0, signed(after), most])?;
    let (mut items, mut taken) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let envelope = row.get_ref(2)?.as_blob()?;
        taken += envelope.len();
        if taken > bytes && !items.is_empty() {
            break;
        }
        // Numbers of lanes are written by this crate.
        let lane = Lane::from_number(row.get(1)?).unwrap_or(Lane::Strangers);
        let envelope = Bytes::copy_from_slice(envelope);
        items.push(Item { number: unsigned(row.get(0)?), lane, envelope });
    }
    Ok(items)
}
