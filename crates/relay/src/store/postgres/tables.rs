//! The tables, and how older ones become these.

use deadpool_postgres::Client;

use super::{StoreError, failed};

/// Processes that start at once bring the tables up one after the other, under this lock.
const LOCK: i64 = 0x6b69_6e72_656c_6179;

/// What brought each version from the one before it; the first makes version 1.
const STEPS: [&str; 1] = ["
CREATE TABLE entries (
    lookup bytea PRIMARY KEY,
    expires bigint NOT NULL,
    owner bytea NOT NULL,
    entry bytea NOT NULL
);
-- With its end: one that has expired is not found where it would be.
CREATE INDEX entries_by_lookup ON entries (lookup, expires);
CREATE INDEX entries_by_end ON entries (expires);
CREATE TABLE mailboxes (
    number bigserial PRIMARY KEY,
    id bytea NOT NULL UNIQUE,
    token bytea NOT NULL,
    seen bigint NOT NULL,
    members bigint NOT NULL DEFAULT 0,
    members_bytes bigint NOT NULL DEFAULT 0,
    strangers bigint NOT NULL DEFAULT 0,
    strangers_bytes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE INDEX mailboxes_by_visit ON mailboxes (seen);
CREATE TABLE envelopes (
    number bigserial PRIMARY KEY,
    mailbox bigint NOT NULL REFERENCES mailboxes (number) ON DELETE CASCADE,
    lane smallint NOT NULL,
    arrived bigint NOT NULL,
    tx bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    process bigint NOT NULL,
    envelope bytea NOT NULL
);
CREATE INDEX envelopes_by_mailbox ON envelopes (mailbox, number);
CREATE INDEX envelopes_by_transaction ON envelopes (tx);
CREATE TABLE meetings (
    id bytea PRIMARY KEY,
    place text NOT NULL,
    expires bigint NOT NULL
);
-- Ciphertext does not become smaller.
ALTER TABLE envelopes ALTER COLUMN envelope SET STORAGE EXTERNAL;
ALTER TABLE entries ALTER COLUMN entry SET STORAGE EXTERNAL;
"];

/// Brings the tables to the present form.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let steps = async {
        let transaction = client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        transaction
            .batch_execute("CREATE TABLE IF NOT EXISTS kin_relay (version bigint NOT NULL)")
            .await?;
        let row = transaction.query_opt("SELECT version FROM kin_relay", &[]).await?;
        let found = row.as_ref().map_or(0, |row| row.get::<_, i64>(0));
        for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
            transaction.batch_execute(step).await?;
        }
        if row.is_none() {
            transaction.execute("INSERT INTO kin_relay VALUES ($1)", &[&known]).await?;
        } else if found < known {
            transaction.execute("UPDATE kin_relay SET version = $1", &[&known]).await?;
        }
        transaction.commit().await?;
        Ok(found)
    };
    let found = steps.await.map_err(|error: tokio_postgres::Error| failed(&error))?;
    match found > known {
        true => Err(StoreError::Newer { place: "the database".to_owned(), found, known }),
        false => Ok(()),
    }
}
