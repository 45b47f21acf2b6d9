//! What a device keeps of sharing codes: the terms of those it issued, who used them and who was refused, and
//! the directories of folders that it is about to join. No code is kept, only what follows from it.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::PathBuf,
};

use identity::{DeviceId, InboxId, Secret};
use pairing::code::Terms;
use rusqlite::{OptionalExtension as _, Row, params};
use wire::{
    code::{LookupId, Refusal},
    membership::{CodeId, FolderId, GroupId, SignedOperation},
    session::Name,
};

use super::{Store, StoreError, array, role_number, role_of};
use crate::api::FolderMode;

/// Made at each opening where they are missing.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS codes (
    id BLOB PRIMARY KEY,
    lookup BLOB NOT NULL UNIQUE,
    proof BLOB NOT NULL,
    seal BLOB NOT NULL,
    group_id BLOB NOT NULL,
    folder BLOB NOT NULL,
    folder_name TEXT NOT NULL,
    role INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    ask INTEGER NOT NULL,
    revoked INTEGER NOT NULL,
    suspended INTEGER NOT NULL,
    log_length INTEGER NOT NULL,
    owner BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS code_uses (
    code BLOB NOT NULL,
    device BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (code, device)
) STRICT;
CREATE TABLE IF NOT EXISTS code_asks (
    code BLOB NOT NULL,
    device BLOB NOT NULL,
    inbox BLOB NOT NULL,
    name TEXT NOT NULL,
    at INTEGER NOT NULL,
    consent INTEGER,
    PRIMARY KEY (code, device)
) STRICT;
CREATE TABLE IF NOT EXISTS code_refusals (
    code BLOB NOT NULL,
    device BLOB NOT NULL,
    name TEXT NOT NULL,
    why TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (code, device)
) STRICT;
CREATE TABLE IF NOT EXISTS wanted_folders (
    group_id BLOB NOT NULL,
    folder BLOB NOT NULL,
    dir BLOB NOT NULL,
    mode INTEGER NOT NULL,
    PRIMARY KEY (group_id, folder)
) STRICT;
";

/// Devices that wait for a person's word, and refusals that are told, of each code.
const MAX_TOLD: i64 = 32;

/// A code that this device issued.
#[derive(Clone, Debug)]
pub(in crate::device) struct StoredCode {
    pub(in crate::device) terms: Terms,
    /// What the folder was called then.
    pub(in crate::device) folder_name: String,
    /// How many operations the group's log had when the code was issued.
    pub(in crate::device) log_length: u64,
    /// Makes the key to whom the entry at a relay belongs.
    pub(in crate::device) owner: Secret<[u8; 32]>,
}

/// A device that waits for a person's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::device) struct StoredAsk {
    pub(in crate::device) device: DeviceId,
    pub(in crate::device) inbox: InboxId,
    pub(in crate::device) name: String,
    pub(in crate::device) at: i64,
    pub(in crate::device) consent: Option<bool>,
}

/// A device that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::device) struct StoredRefusal {
    pub(in crate::device) device: DeviceId,
    pub(in crate::device) name: String,
    pub(in crate::device) why: String,
    pub(in crate::device) at: i64,
}

/// A folder that is to be kept in step here once its group has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::device) struct WantedFolder {
    pub(in crate::device) group: GroupId,
    pub(in crate::device) folder: FolderId,
    pub(in crate::device) dir: PathBuf,
    pub(in crate::device) mode: FolderMode,
}

const COLUMNS: &str = "id, lookup, proof, seal, group_id, folder, folder_name, role, expires, uses, ask, revoked, suspended, log_length, owner";

fn code_of(row: &Row<'_>) -> rusqlite::Result<Option<StoredCode>> {
    let (Some(id), Some(lookup), Some(proof), Some(seal)) =
        (array(row, 0)?, array(row, 1)?, array(row, 2)?, array(row, 3)?)
    else {
        return Ok(None);
    };
    let (Some(group), Some(folder), Some(role), Some(owner)) =
        (array(row, 4)?, array(row, 5)?, role_of(row.get(7)?), array(row, 14)?)
    else {
        return Ok(None);
    };
    let terms = Terms {
        id: CodeId(id),
        lookup: LookupId(lookup),
        proof: Secret::new(proof),
        seal: Secret::new(seal),
        group: GroupId(group),
        folder: FolderId(folder),
        role,
        expires: row.get(8)?,
        uses: row.get(9)?,
        ask: row.get(10)?,
        revoked: row.get(11)?,
        suspended: row.get(12)?,
    };
    let (folder_name, length): (String, i64) = (row.get(6)?, row.get(13)?);
    let log_length = u64::try_from(length).unwrap_or(0);
    Ok(Some(StoredCode { terms, folder_name, log_length, owner: Secret::new(owner) }))
}

impl Store {
    // Codes

    pub(in crate::device) fn codes(&self) -> Result<Vec<StoredCode>, StoreError> {
        self.rows(&format!("SELECT {COLUMNS} FROM codes ORDER BY rowid"), code_of)
    }

    pub(in crate::device) fn has_codes(&self, since: i64) -> Result<bool, StoreError> {
        let query = "SELECT EXISTS (SELECT 1 FROM codes WHERE expires > ?1)";
        self.db.query_row(query, [since], |row| row.get(0)).map_err(self.fail())
    }

    pub(in crate::device) fn code_at(
        &self,
        lookup: &LookupId,
    ) -> Result<Option<StoredCode>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM codes WHERE lookup = ?1");
        let found = self.db.query_row(&query, [&lookup.0[..]], code_of).optional();
        match found.map_err(self.fail())? {
            Some(None) => Err(self.damaged("a sharing code has a value that nothing of ours has")),
            Some(found) => Ok(found),
            None => Ok(None),
        }
    }

    pub(in crate::device) fn put_code(&self, code: &StoredCode) -> Result<(), StoreError> {
        let terms = &code.terms;
        self.run(
            "INSERT INTO codes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                &terms.id.0[..],
                &terms.lookup.0[..],
                &terms.proof.expose()[..],
                &terms.seal.expose()[..],
                &terms.group.0[..],
                &terms.folder.0[..],
                code.folder_name,
                role_number(terms.role),
                terms.expires,
                terms.uses,
                terms.ask,
                terms.revoked,
                terms.suspended,
                i64::try_from(code.log_length).unwrap_or(i64::MAX),
                &code.owner.expose()[..],
            ],
        )
    }

    pub(in crate::device) fn revoke_code(&self, code: &CodeId) -> Result<(), StoreError> {
        self.run("UPDATE codes SET revoked = 1 WHERE id = ?1", [&code.0[..]])
    }

    pub(in crate::device) fn resume_code(&self, code: &CodeId) -> Result<(), StoreError> {
        self.run("UPDATE codes SET suspended = 0 WHERE id = ?1", [&code.0[..]])
    }

    /// Suspends all codes that might still let somebody in (rule T18). How many those are.
    pub(in crate::device) fn suspend_codes(&self, now: i64) -> Result<usize, StoreError> {
        let sql =
            "UPDATE codes SET suspended = 1 WHERE suspended = 0 AND revoked = 0 AND expires > ?1";
        self.db.execute(sql, [now]).map_err(self.fail())
    }

    /// Forgets codes that ended before this time, and what was noted of them.
    pub(in crate::device) fn drop_codes(&mut self, before: i64) -> Result<(), StoreError> {
        let path = self.path.clone();
        let fail = move |source| StoreError::Database { path: path.clone(), source };
        let change = self.db.savepoint().map_err(&fail)?;
        for table in ["code_uses", "code_asks", "code_refusals"] {
            let of = "SELECT id FROM codes WHERE expires < ?1";
            change
                .execute(&format!("DELETE FROM {table} WHERE code IN ({of})"), [before])
                .map_err(&fail)?;
        }
        change.execute("DELETE FROM codes WHERE expires < ?1", [before]).map_err(&fail)?;
        change.commit().map_err(&fail)
    }

    pub(in crate::device) fn code_uses(&self, code: &CodeId) -> Result<Vec<DeviceId>, StoreError> {
        let query = "SELECT device FROM code_uses WHERE code = ?1 ORDER BY at, device";
        self.of_code(query, code, |row| Ok(array(row, 0)?.map(DeviceId)))
    }

    /// An admission by a code and the use that it costs, at once or not at all.
    pub(in crate::device) fn spend(
        &mut self,
        group: GroupId,
        signed: &SignedOperation,
        (code, device, at): (&CodeId, &DeviceId, i64),
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let fail = move |source| StoreError::Database { path: path.clone(), source };
        let change = self.db.savepoint().map_err(&fail)?;
        change
            .execute(
                "INSERT INTO operations (group_id, bytes) VALUES (?1, ?2)",
                params![&group.0[..], &signed.bytes()[..]],
            )
            .map_err(&fail)?;
        change
            .execute(
                "INSERT INTO code_uses VALUES (?1, ?2, ?3)",
                params![&code.0[..], &device.0[..], at],
            )
            .map_err(&fail)?;
        for table in ["code_asks", "code_refusals"] {
            change
                .execute(
                    &format!("DELETE FROM {table} WHERE code = ?1 AND device = ?2"),
                    params![&code.0[..], &device.0[..]],
                )
                .map_err(&fail)?;
        }
        change.commit().map_err(&fail)
    }

    fn of_code<T>(
        &self,
        query: &str,
        code: &CodeId,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.db.prepare(query).map_err(self.fail())?;
        let rows = statement.query_map([&code.0[..]], |row| read(row)).map_err(self.fail())?;
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(self.fail())?;
        // A note that cannot be read is a note less.
        Ok(rows.into_iter().flatten().collect())
    }

    pub(in crate::device) fn code_asks(&self, code: &CodeId) -> Result<Vec<StoredAsk>, StoreError> {
        let query =
            "SELECT device, inbox, name, at, consent FROM code_asks WHERE code = ?1 ORDER BY at";
        self.of_code(query, code, |row| {
            let (Some(device), Some(inbox)) = (array(row, 0)?, array(row, 1)?) else {
                return Ok(None);
            };
            let (name, at, consent) = (row.get(2)?, row.get(3)?, row.get(4)?);
            Ok(Some(StoredAsk {
                device: DeviceId(device),
                inbox: InboxId(inbox),
                name,
                at,
                consent,
            }))
        })
    }

    /// A device waits for a person's word. False if too many do.
    pub(in crate::device) fn ask_for_code(
        &self,
        code: &CodeId,
        (device, inbox, name): (&DeviceId, &InboxId, &Name),
        at: i64,
    ) -> Result<bool, StoreError> {
        let query = "SELECT count(*) FROM code_asks WHERE code = ?1 AND device <> ?2";
        let values = params![&code.0[..], &device.0[..]];
        let others: i64 =
            self.db.query_row(query, values, |row| row.get(0)).map_err(self.fail())?;
        if others >= MAX_TOLD {
            return Ok(false);
        }
        self.run(
            "INSERT OR IGNORE INTO code_asks VALUES (?1, ?2, ?3, ?4, ?5, NULL)",
            params![&code.0[..], &device.0[..], &inbox.0[..], name.as_str(), at],
        )?;
        Ok(true)
    }

    /// What a person said of a device that waits. False if it does not.
    pub(in crate::device) fn consent_to_code(
        &self,
        code: &CodeId,
        device: &DeviceId,
        yes: bool,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE code_asks SET consent = ?3 WHERE code = ?1 AND device = ?2";
        let changed = self.db.execute(sql, params![&code.0[..], &device.0[..], yes]);
        Ok(changed.map_err(self.fail())? > 0)
    }

    pub(in crate::device) fn code_refusals(
        &self,
        code: &CodeId,
    ) -> Result<Vec<StoredRefusal>, StoreError> {
        let query = "SELECT device, name, why, at FROM code_refusals WHERE code = ?1 ORDER BY at";
        self.of_code(query, code, |row| {
            let (name, why, at) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(array(row, 0)?.map(|device| StoredRefusal {
                device: DeviceId(device),
                name,
                why,
                at,
            }))
        })
    }

    /// Notes that a device was refused; the oldest notes of too many go.
    pub(in crate::device) fn note_refusal(
        &self,
        code: &CodeId,
        (device, name): (&DeviceId, &Name),
        why: Refusal,
        at: i64,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT OR REPLACE INTO code_refusals VALUES (?1, ?2, ?3, ?4, ?5)",
            params![&code.0[..], &device.0[..], name.as_str(), why.word(), at],
        )?;
        self.run(
            "DELETE FROM code_refusals WHERE code = ?1 AND rowid NOT IN (SELECT rowid FROM code_refusals WHERE code = ?1 ORDER BY at DESC LIMIT ?2)",
            params![&code.0[..], MAX_TOLD],
        )
    }

    // Folders that are to come

    pub(in crate::device) fn wanted_folders(&self) -> Result<Vec<WantedFolder>, StoreError> {
        self.rows("SELECT group_id, folder, dir, mode FROM wanted_folders", |row| {
            let (Some(group), Some(folder)) = (array(row, 0)?, array(row, 1)?) else {
                return Ok(None);
            };
            let mode = match row.get::<_, i64>(3)? {
                0 => FolderMode::Both,
                1 => FolderMode::Receive,
                2 => FolderMode::Send,
                _ => return Ok(None),
            };
            let dir = PathBuf::from(OsString::from_vec(row.get(2)?));
            Ok(Some(WantedFolder { group: GroupId(group), folder: FolderId(folder), dir, mode }))
        })
    }

    pub(in crate::device) fn put_wanted(&self, wanted: &WantedFolder) -> Result<(), StoreError> {
        let mode = match wanted.mode {
            FolderMode::Both => 0,
            FolderMode::Receive => 1,
            FolderMode::Send => 2,
        };
        let dir = wanted.dir.as_os_str().as_bytes();
        self.run(
            "INSERT OR REPLACE INTO wanted_folders VALUES (?1, ?2, ?3, ?4)",
            params![&wanted.group.0[..], &wanted.folder.0[..], dir, mode],
        )
    }

    pub(in crate::device) fn remove_wanted(
        &self,
        group: GroupId,
        folder: FolderId,
    ) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM wanted_folders WHERE group_id = ?1 AND folder = ?2",
            params![&group.0[..], &folder.0[..]],
        )
    }
}
