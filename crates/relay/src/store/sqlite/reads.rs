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

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::store::sqlite::{connect, tables};

    #[test]
    fn attack_06_an_expired_entry_is_missed_in_as_many_steps_as_one_that_never_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.db");
        let connection = connect(&path, false).unwrap();
        tables::migrate(&connection, &path).unwrap();
        for (lookup, expires) in [(1_u8, 50), (3, 10), (5, 50), (7, 50), (9, 50)] {
            let insert =
                "INSERT INTO entries (lookup, expires, owner, entry) VALUES (?1, ?2, ?3, ?4)";
            let entry = (&[lookup; 32][..], expires, &[0; 32][..], &[0; 1024][..]);
            connection.execute(insert, entry).unwrap();
        }
        let withdrawn = "DELETE FROM entries WHERE lookup = ?1";
        connection.execute(withdrawn, [&[7_u8; 32][..]]).unwrap();
        let mut statement = connection.prepare(ENTRY).unwrap();
        let mut steps = |lookup: u8| {
            statement.reset_status(StatementStatus::VmStep);
            let found = statement.exists(params![[lookup; 32], 20]).unwrap();
            (found, statement.get_status(StatementStatus::VmStep))
        };
        let (found, _) = steps(5);
        assert!(found);
        let absent = steps(2);
        assert!(!absent.0);
        assert_eq!(steps(3), absent, "expired");
        assert_eq!(steps(7), absent, "withdrawn");
        assert_eq!(steps(4), absent, "another one that never was");
    }
}
