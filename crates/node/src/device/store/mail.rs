//! What a device keeps of letters by relays: the relays it uses, letters that are still to be left, invitations
//! that are to be posted, where others' mailboxes are.

use bytes::Bytes;
use identity::{DeviceId, Secret};
use rusqlite::{OptionalExtension as _, params};
use wire::{
    code::LookupId,
    mail::MailAddress,
    membership::{GroupId, OperationId, SignedOperation},
};

use super::{Store, StoreError, array};

/// Made at each opening where they are missing.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS relays (
    address TEXT PRIMARY KEY,
    owner BLOB NOT NULL,
    token BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    device BLOB NOT NULL,
    group_id BLOB,
    kind INTEGER NOT NULL,
    address BLOB,
    envelope BLOB NOT NULL,
    made INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_devices ON outbox (device, number);
CREATE TABLE IF NOT EXISTS posts (
    lookup BLOB NOT NULL,
    relay TEXT NOT NULL,
    owner BLOB NOT NULL,
    until INTEGER NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (lookup, relay)
) STRICT;
CREATE TABLE IF NOT EXISTS mail_places (
    device BLOB PRIMARY KEY,
    address BLOB NOT NULL,
    at INTEGER NOT NULL,
    card BLOB
) STRICT;
CREATE TABLE IF NOT EXISTS brought_operations (
    group_id BLOB NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    id BLOB NOT NULL,
    by_device BLOB NOT NULL,
    bytes BLOB NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (group_id, id, by_device)
) STRICT;
CREATE TABLE IF NOT EXISTS mail_heard (device BLOB PRIMARY KEY, heard INTEGER NOT NULL) STRICT;
";

/// Letters to one device that may wait.
const MAX_WAITING: i64 = 512;

/// A relay that this device uses, and its mailbox there.
#[derive(Clone, Debug)]
pub(in crate::device) struct StoredRelay {
    /// In its text form.
    pub(in crate::device) address: String,
    /// Makes the key to whom the mailbox belongs.
    pub(in crate::device) owner: Secret<[u8; 32]>,
    /// Opens the members' lane.
    pub(in crate::device) token: Secret<[u8; 32]>,
}

/// A letter that is still to be left at a relay.
#[derive(Clone, Debug)]
pub(in crate::device) struct Waiting {
    pub(in crate::device) number: i64,
    /// Where it was to go when it was written.
    pub(in crate::device) address: Option<MailAddress>,
    pub(in crate::device) envelope: Bytes,
    /// Seconds since 1970.
    pub(in crate::device) made: i64,
}

/// A letter for the outbox.
#[derive(Clone, Debug)]
pub(in crate::device) struct Outgoing<'a> {
    pub(in crate::device) device: &'a DeviceId,
    pub(in crate::device) group: Option<GroupId>,
    pub(in crate::device) kind: u32,
    pub(in crate::device) address: Option<&'a MailAddress>,
    pub(in crate::device) envelope: &'a [u8],
    pub(in crate::device) made: i64,
}

/// An invitation that is to be posted.
#[derive(Clone, Debug)]
pub(in crate::device) struct Post {
    pub(in crate::device) lookup: LookupId,
    pub(in crate::device) owner: Secret<[u8; 32]>,
    pub(in crate::device) until: u64,
    pub(in crate::device) entry: Bytes,
}

impl Store {
    /// Begins a change of several steps, of which each may be a transaction of its own.
    pub(in crate::device) fn begin(&mut self) -> Result<(), StoreError> {
        self.db.execute_batch("SAVEPOINT whole").map_err(self.fail())
    }

    /// Makes it durable, or undoes it.
    pub(in crate::device) fn end(&mut self, keep: bool) -> Result<(), StoreError> {
        const UNDO: &str = "ROLLBACK TO whole; RELEASE whole";
        let ended = self.db.execute_batch(if keep { "RELEASE whole" } else { UNDO });
        if ended.is_err() && !self.db.is_autocommit() {
            // A commit that failed stays open, and what came after it would never be durable. If this fails, too,
            // the caller's error ends the device.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        ended.map_err(self.fail())
    }

    // Relays

    pub(in crate::device) fn relays(&self) -> Result<Vec<StoredRelay>, StoreError> {
        self.rows("SELECT address, owner, token FROM relays ORDER BY rowid", |row| {
            let (Some(owner), Some(token)) = (array(row, 1)?, array(row, 2)?) else {
                return Ok(None);
            };
            let address = row.get(0)?;
            Ok(Some(StoredRelay { address, owner: Secret::new(owner), token: Secret::new(token) }))
        })
    }

    pub(in crate::device) fn put_relay(&self, relay: &StoredRelay) -> Result<(), StoreError> {
        let (owner, token) = (&relay.owner.expose()[..], &relay.token.expose()[..]);
        self.run(
            "INSERT INTO relays VALUES (?1, ?2, ?3) ON CONFLICT (address) DO UPDATE SET owner = ?2, token = ?3",
            params![relay.address, owner, token],
        )
    }

    pub(in crate::device) fn remove_relay(&self, address: &str) -> Result<(), StoreError> {
        self.run("DELETE FROM relays WHERE address = ?1", [address])?;
        self.run("DELETE FROM posts WHERE relay = ?1", [address])
    }

    // The outbox

    /// Adds a letter. False if too many wait for the device already.
    pub(in crate::device) fn enqueue(&self, letter: &Outgoing<'_>) -> Result<bool, StoreError> {
        let query = "SELECT count(*) FROM outbox WHERE device = ?1";
        let waiting = self.db.query_row(query, [&letter.device.0[..]], |row| row.get(0));
        let waiting: i64 = waiting.map_err(self.fail())?;
        if waiting >= MAX_WAITING {
            return Ok(false);
        }
        let address = letter.address.and_then(|address| address.encode().ok());
        let values = params![
            &letter.device.0[..],
            letter.group.map(|group| group.0.to_vec()),
            letter.kind,
            address,
            letter.envelope,
            letter.made,
        ];
        let sql = "INSERT INTO outbox (device, group_id, kind, address, envelope, made) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.run(sql, values)?;
        Ok(true)
    }

    /// Devices for whom letters wait.
    pub(in crate::device) fn waiting_for(&self) -> Result<Vec<DeviceId>, StoreError> {
        self.rows("SELECT DISTINCT device FROM outbox", |row| Ok(array(row, 0)?.map(DeviceId)))
    }

    /// The letter that is next for a device.
    pub(in crate::device) fn next_waiting(
        &self,
        device: &DeviceId,
    ) -> Result<Option<Waiting>, StoreError> {
        let query = "SELECT number, address, envelope, made FROM outbox WHERE device = ?1 ORDER BY number LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| {
            let address: Option<Vec<u8>> = row.get(1)?;
            let envelope: Vec<u8> = row.get(2)?;
            Ok(Waiting {
                number: row.get(0)?,
                address: address.and_then(|bytes| MailAddress::decode(&bytes).ok()),
                envelope: envelope.into(),
                made: row.get(3)?,
            })
        };
        self.db.query_row(query, [&device.0[..]], read).optional().map_err(self.fail())
    }

    pub(in crate::device) fn sent(&self, number: i64) -> Result<(), StoreError> {
        self.run("DELETE FROM outbox WHERE number = ?1", [number])
    }

    /// What a device is told otherwise need not be left for it: letters of this kind about this group.
    pub(in crate::device) fn unsend(
        &self,
        device: &DeviceId,
        group: &GroupId,
        kind: u32,
    ) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM outbox WHERE device = ?1 AND group_id = ?2 AND kind = ?3",
            params![&device.0[..], &group.0[..], kind],
        )
    }

    pub(in crate::device) fn outbox_length(&self) -> Result<u64, StoreError> {
        let query = "SELECT count(*) FROM outbox";
        let count: i64 = self.db.query_row(query, [], |row| row.get(0)).map_err(self.fail())?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    // Operations that came before what they rest on

    /// Those of a group's log that wait, the oldest first, and who brought them, but for those that have waited
    /// since before `since`.
    pub(in crate::device) fn waiting_operations(
        &self,
        group: &GroupId,
        since: i64,
    ) -> Result<Vec<(DeviceId, SignedOperation)>, StoreError> {
        self.run("DELETE FROM brought_operations WHERE since < ?1", [since])?;
        let query = "SELECT by_device, bytes FROM brought_operations WHERE group_id = ?1 ORDER BY since, rowid";
        let mut statement = self.db.prepare(query).map_err(self.fail())?;
        let rows = statement.query_map([&group.0[..]], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
        });
        let rows: Result<Vec<_>, _> = rows.map_err(self.fail())?.collect();
        // What cannot be read comes again on a link.
        let parsed = rows.map_err(self.fail())?.into_iter().filter_map(|(by, bytes)| {
            Some((DeviceId(by.try_into().ok()?), SignedOperation::parse(bytes.into()).ok()?))
        });
        Ok(parsed.collect())
    }

    pub(in crate::device) fn put_waiting_operation(
        &self,
        group: &GroupId,
        (by, signed): (&DeviceId, &SignedOperation),
        since: i64,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT OR IGNORE INTO brought_operations VALUES (?1, ?2, ?3, ?4, ?5)",
            params![&group.0[..], &signed.id().0[..], &by.0[..], &signed.bytes()[..], since],
        )
    }

    pub(in crate::device) fn remove_waiting_operation(
        &self,
        group: &GroupId,
        (by, id): &(DeviceId, OperationId),
    ) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM brought_operations WHERE group_id = ?1 AND id = ?2 AND by_device = ?3",
            params![&group.0[..], &id.0[..], &by.0[..]],
        )
    }

    // Invitations

    pub(in crate::device) fn put_post(&self, relay: &str, post: &Post) -> Result<(), StoreError> {
        let until = i64::try_from(post.until).unwrap_or(i64::MAX);
        let (lookup, owner) = (&post.lookup.0[..], &post.owner.expose()[..]);
        self.run(
            "INSERT OR REPLACE INTO posts VALUES (?1, ?2, ?3, ?4, ?5)",
            params![lookup, relay, owner, until, &post.entry[..]],
        )
    }

    /// An invitation that is to be posted at this relay.
    pub(in crate::device) fn next_post(&self, relay: &str) -> Result<Option<Post>, StoreError> {
        let query = "SELECT lookup, owner, until, entry FROM posts WHERE relay = ?1 LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| {
            let (Some(lookup), Some(owner)) = (array(row, 0)?, array(row, 1)?) else {
                return Ok(None);
            };
            let (until, entry): (i64, Vec<u8>) = (row.get(2)?, row.get(3)?);
            Ok(Some(Post {
                lookup: LookupId(lookup),
                owner: Secret::new(owner),
                until: u64::try_from(until).unwrap_or(0),
                entry: entry.into(),
            }))
        };
        let found = self.db.query_row(query, [relay], read).optional();
        Ok(found.map_err(self.fail())?.flatten())
    }

    /// True if this invitation is still to be posted at this relay.
    pub(in crate::device) fn posts(
        &self,
        relay: &str,
        lookup: &LookupId,
    ) -> Result<bool, StoreError> {
        let query = "SELECT 1 FROM posts WHERE lookup = ?1 AND relay = ?2";
        let found = self.db.query_row(query, params![&lookup.0[..], relay], |_| Ok(())).optional();
        Ok(found.map_err(self.fail())?.is_some())
    }

    pub(in crate::device) fn posted(
        &self,
        relay: &str,
        lookup: &LookupId,
    ) -> Result<(), StoreError> {
        let values = params![&lookup.0[..], relay];
        self.run("DELETE FROM posts WHERE lookup = ?1 AND relay = ?2", values)
    }

    // Where others' mailboxes are

    /// A device's mailbox, and its own card of it.
    pub(in crate::device) fn mail_place(
        &self,
        device: &DeviceId,
    ) -> Result<Option<(MailAddress, i64, Option<Bytes>)>, StoreError> {
        let query = "SELECT address, at, card FROM mail_places WHERE device = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            let (address, at, card): (Vec<u8>, i64, Option<Vec<u8>>) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let address = MailAddress::decode(&address).ok();
            Ok(address.map(|address| (address, at, card.map(Bytes::from))))
        };
        let found = self.db.query_row(query, [&device.0[..]], read).optional();
        Ok(found.map_err(self.fail())?.flatten())
    }

    pub(in crate::device) fn put_mail_place(
        &self,
        device: &DeviceId,
        address: &MailAddress,
        at: i64,
        card: Option<&Bytes>,
    ) -> Result<(), StoreError> {
        // One that breaks a bound is no place.
        let Ok(address) = address.encode() else { return Ok(()) };
        self.run(
            "INSERT OR REPLACE INTO mail_places VALUES (?1, ?2, ?3, ?4)",
            params![&device.0[..], address, at, card.map(|card| card.to_vec())],
        )
    }

    /// The highest number of a letter that a device's mail had (rule T21).
    pub(in crate::device) fn heard_mail(&self, device: &DeviceId) -> Result<u64, StoreError> {
        let query = "SELECT heard FROM mail_heard WHERE device = ?1";
        let found = self.db.query_row(query, [&device.0[..]], |row| row.get(0)).optional();
        let heard: i64 = found.map_err(self.fail())?.unwrap_or(0);
        Ok(u64::try_from(heard).unwrap_or(0))
    }

    pub(in crate::device) fn took_mail(
        &self,
        device: &DeviceId,
        number: u64,
    ) -> Result<(), StoreError> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.run(
            "INSERT OR REPLACE INTO mail_heard VALUES (?1, ?2)",
            params![&device.0[..], number],
        )
    }
}
