//! The tables, and how older ones become these.

use std::path::Path;

use rusqlite::Connection;

use super::{StoreError, failed};

/// What brought each version from the one before it; the first makes version 1.
const STEPS: [&str; 1] = ["
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,
    lookup BLOB NOT NULL,
    expires INTEGER NOT NULL,
    owner BLOB NOT NULL,
    entry BLOB NOT NULL
) STRICT;
-- With its end: one that has expired is not found where it would be, in the same steps as one that never was.
CREATE UNIQUE INDEX entries_by_lookup ON entries (lookup, expires);
CREATE INDEX entries_by_end ON entries (expires);
CREATE TABLE mailboxes (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    token BLOB NOT NULL,
    seen INTEGER NOT NULL,
    members INTEGER NOT NULL DEFAULT 0,
    members_bytes INTEGER NOT NULL DEFAULT 0,
    strangers INTEGER NOT NULL DEFAULT 0,
    strangers_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX mailboxes_by_visit ON mailboxes (seen);
-- Numbers are never used again: an old acknowledgement must not delete a new envelope.
CREATE TABLE envelopes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    mailbox INTEGER NOT NULL REFERENCES mailboxes (number) ON DELETE CASCADE,
    lane INTEGER NOT NULL,
    arrived INTEGER NOT NULL,
    envelope BLOB NOT NULL
) STRICT;
CREATE INDEX envelopes_by_mailbox ON envelopes (mailbox);
"];

/// Brings the file to the present form.
pub(super) fn migrate(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let steps = || {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let made = usize::try_from(found).unwrap_or(usize::MAX);
        for step in STEPS.iter().skip(made) {
            connection.execute_batch(step)?;
        }
        if found < known {
            connection.pragma_update(None, "user_version", known)?;
        }
        connection.execute_batch("COMMIT")?;
        Ok(found)
    };
    let found = steps().map_err(|error: rusqlite::Error| failed(path, &error))?;
    match found > known {
        true => Err(StoreError::Newer { place: path.display().to_string(), found, known }),
        false => Ok(()),
    }
}
