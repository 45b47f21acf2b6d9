//! What a device keeps besides its keys: groups with their logs, folders, joins that are not done, where others
//! were. One SQLite file in the state directory; every change is durable when the call returns, so that no
//! operation of a log leaves before it is (rule T12).

use std::{
    ffi::OsString,
    net::SocketAddr,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use identity::DeviceId;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};
use tree::StateDir;
use wire::membership::{FolderId, GroupId, Role, Scope, SignedOperation};

use crate::{
    api::FolderMode,
    home::{USED, USED_TEXT},
};

mod codes;
mod mail;
pub(super) mod rotation;
pub(super) mod ssh;

pub(super) use codes::{StoredAsk, StoredCode, WantedFolder};
pub(super) use mail::{Outgoing, Post, StoredRelay};

/// Version of the tables.
const VERSION: i64 = 2;

const TABLES: &str = "
CREATE TABLE settings (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE groups (id BLOB PRIMARY KEY, label TEXT NOT NULL) STRICT;
CREATE TABLE operations (
    number INTEGER PRIMARY KEY,
    group_id BLOB NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    bytes BLOB NOT NULL
) STRICT;
CREATE TABLE folders (
    group_id BLOB NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    folder BLOB NOT NULL,
    dir BLOB NOT NULL,
    mode INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    joined BLOB NOT NULL,
    PRIMARY KEY (group_id, folder)
) STRICT;
CREATE TABLE places (
    device BLOB PRIMARY KEY,
    last_seen INTEGER,
    addresses TEXT NOT NULL
) STRICT;
CREATE TABLE joins (
    device BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    token INTEGER NOT NULL,
    group_id BLOB,
    role INTEGER NOT NULL,
    folders BLOB,
    since INTEGER NOT NULL,
    state BLOB NOT NULL
) STRICT;
CREATE TABLE letters (
    device BLOB PRIMARY KEY,
    sent INTEGER NOT NULL,
    heard INTEGER NOT NULL
) STRICT;
CREATE TABLE ssh_consents (
    device BLOB PRIMARY KEY,
    into_here INTEGER NOT NULL,
    from_here INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;
";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// SQLite says so.
    #[error("{}: {source}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// A newer kin made it.
    #[error("{}: a newer kin has written it (version {found}, this one knows {VERSION})", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// It cannot be said beside it that it is in use.
    #[error(transparent)]
    State(#[from] tree::StateError),
    /// What is in it makes no sense.
    #[error("{}: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// A folder that is kept in step here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredFolder {
    pub(super) group: GroupId,
    pub(super) folder: FolderId,
    pub(super) dir: PathBuf,
    pub(super) mode: FolderMode,
    pub(super) paused: bool,
    /// 16 random bytes, new each time that the folder is shared or joined here.
    pub(super) joined: [u8; 16],
}

impl StoredFolder {
    /// The file of its index in `.kin`: what an earlier join knew is no part of this one.
    pub(super) fn index(&self) -> String {
        format!("folder-{}.db", super::groups::hex(&self.joined[..8]))
    }
}

/// By which ceremony a join was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum JoinKind {
    Lan,
    Token,
    Code,
    Rescue,
}

impl JoinKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Token => "token",
            Self::Code => "code",
            Self::Rescue => "rescue",
        }
    }
}

/// A join that this device's person agreed to and that is not done: what it will accept, and of whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredJoin {
    /// Who is to admit this device.
    pub(super) device: DeviceId,
    /// What it calls itself.
    pub(super) name: String,
    pub(super) kind: JoinKind,
    /// The group, if the ceremony named it.
    pub(super) group: Option<GroupId>,
    pub(super) role: Role,
    pub(super) folders: Scope,
    /// Seconds since 1970.
    pub(super) since: i64,
    /// What the ceremony needs to go on.
    pub(super) state: Vec<u8>,
}

/// Where a device was, and when.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    /// Seconds since 1970.
    pub(super) last_seen: Option<i64>,
    pub(super) addresses: Vec<SocketAddr>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Store {
    db: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens one that had something in it: nothing is made in its place.
    pub(super) fn open_used(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let fail = |source| StoreError::Database { path: path.to_owned(), source };
        let db = Connection::open_with_flags(path, flags).map_err(fail)?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fail)?;
        if found == 0 {
            let what = "it is empty, though this device was in a group".to_owned();
            return Err(StoreError::Damaged { path: path.to_owned(), what });
        }
        drop(db);
        Self::open(path)
    }

    /// Opens it, making what is missing.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |source| StoreError::Database { path: path.to_owned(), source };
        let db = Connection::open(path).map_err(fail)?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;",
        )
        .map_err(fail)?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fail)?;
        if found > VERSION {
            return Err(StoreError::Newer { path: path.to_owned(), found });
        }
        if found == 0 {
            db.execute_batch(&format!("BEGIN; {TABLES} COMMIT;")).map_err(fail)?;
        }
        let tables = [codes::TABLES, mail::TABLES].concat();
        db.execute_batch(&format!("BEGIN; {tables} PRAGMA user_version = {VERSION}; COMMIT;"))
            .map_err(fail)?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// Says beside the file that there is something in it: one that is lost or emptied is then not taken for that of a
    /// new device.
    pub(super) fn mark_used(&self) -> Result<(), StoreError> {
        let dir = self.path.parent().unwrap_or(&self.path);
        Ok(StateDir::open(dir)?.create(USED, USED_TEXT).map(drop)?)
    }

    fn fail(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        |source| StoreError::Database { path: self.path.clone(), source }
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }

    fn rows<T>(
        &self,
        sql: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.db.prepare(sql).map_err(self.fail())?;
        let rows = statement.query_map([], |row| read(row)).map_err(self.fail())?;
        let mut all = Vec::new();
        for row in rows {
            match row.map_err(self.fail())? {
                Some(value) => all.push(value),
                None => return Err(self.damaged("a row has a value that nothing of ours has")),
            }
        }
        Ok(all)
    }

    fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
        self.db.execute(sql, values).map_err(self.fail())?;
        Ok(())
    }

    // Settings

    pub(super) fn setting(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let query = "SELECT value FROM settings WHERE key = ?1";
        self.db.query_row(query, [key], |row| row.get(0)).optional().map_err(self.fail())
    }

    pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.run("INSERT OR REPLACE INTO settings VALUES (?1, ?2)", params![key, value])
    }

    // Groups

    /// All groups: id and what this device calls it.
    pub(super) fn groups(&self) -> Result<Vec<(GroupId, String)>, StoreError> {
        self.rows("SELECT id, label FROM groups ORDER BY rowid", |row| {
            Ok(array(row, 0)?.map(|id| (GroupId(id), row.get(1).unwrap_or_default())))
        })
    }

    /// The operations of a group's log, each after those it was written on.
    pub(super) fn operations(&self, group: GroupId) -> Result<Vec<SignedOperation>, StoreError> {
        let mut statement = self
            .db
            .prepare("SELECT bytes FROM operations WHERE group_id = ?1 ORDER BY number")
            .map_err(self.fail())?;
        let rows = statement.query_map([&group.0[..]], |row| row.get(0)).map_err(self.fail())?;
        let mut operations = Vec::new();
        for row in rows {
            let bytes: Vec<u8> = row.map_err(self.fail())?;
            let parsed = SignedOperation::parse(Bytes::from(bytes));
            let parsed = parsed.map_err(|error| {
                self.damaged(&format!("an operation of a membership log: {error}"))
            })?;
            operations.push(parsed);
        }
        Ok(operations)
    }

    /// Adds a group with its log, and ends the join by which it came here, at once or not at all.
    pub(super) fn add_group<'a>(
        &mut self,
        group: GroupId,
        label: &str,
        operations: impl Iterator<Item = &'a SignedOperation>,
        joined: Option<&DeviceId>,
    ) -> Result<(), StoreError> {
        self.mark_used()?;
        let path = self.path.clone();
        let fail = move |source| StoreError::Database { path: path.clone(), source };
        let change = self.db.savepoint().map_err(&fail)?;
        change
            .execute("INSERT INTO groups VALUES (?1, ?2)", params![&group.0[..], label])
            .map_err(&fail)?;
        for signed in operations {
            change
                .execute(
                    "INSERT INTO operations (group_id, bytes) VALUES (?1, ?2)",
                    params![&group.0[..], &signed.bytes()[..]],
                )
                .map_err(&fail)?;
        }
        if let Some(device) = joined {
            change
                .execute("DELETE FROM joins WHERE device = ?1", [&device.0[..]])
                .map_err(&fail)?;
        }
        change.commit().map_err(&fail)
    }

    /// Adds operations to a group's log, all or none.
    pub(super) fn add_operations<'a>(
        &mut self,
        group: GroupId,
        operations: impl Iterator<Item = &'a SignedOperation>,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let fail = move |source| StoreError::Database { path: path.clone(), source };
        let change = self.db.savepoint().map_err(&fail)?;
        for signed in operations {
            change
                .execute(
                    "INSERT INTO operations (group_id, bytes) VALUES (?1, ?2)",
                    params![&group.0[..], &signed.bytes()[..]],
                )
                .map_err(&fail)?;
        }
        change.commit().map_err(&fail)
    }

    /// Forgets a group, its log and its folders. No file of a folder is touched.
    pub(super) fn remove_group(&self, group: GroupId) -> Result<(), StoreError> {
        self.run("DELETE FROM groups WHERE id = ?1", [&group.0[..]])
    }

    // Folders

    pub(super) fn folders(&self) -> Result<Vec<StoredFolder>, StoreError> {
        let query =
            "SELECT group_id, folder, dir, mode, paused, joined FROM folders ORDER BY rowid";
        self.rows(query, |row| {
            let (Some(group), Some(folder), Some(joined)) =
                (array(row, 0)?, array(row, 1)?, array(row, 5)?)
            else {
                return Ok(None);
            };
            let mode = match row.get::<_, i64>(3)? {
                0 => FolderMode::Both,
                1 => FolderMode::Receive,
                2 => FolderMode::Send,
                _ => return Ok(None),
            };
            Ok(Some(StoredFolder {
                group: GroupId(group),
                folder: FolderId(folder),
                dir: PathBuf::from(OsString::from_vec(row.get(2)?)),
                mode,
                paused: row.get(4)?,
                joined,
            }))
        })
    }

    /// Adds a folder, or changes it.
    pub(super) fn put_folder(&self, folder: &StoredFolder) -> Result<(), StoreError> {
        let mode = match folder.mode {
            FolderMode::Both => 0,
            FolderMode::Receive => 1,
            FolderMode::Send => 2,
        };
        let dir = folder.dir.as_os_str().as_bytes();
        let (group, id) = (&folder.group.0[..], &folder.folder.0[..]);
        self.run(
            "INSERT OR REPLACE INTO folders VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![group, id, dir, mode, folder.paused, &folder.joined[..]],
        )
    }

    pub(super) fn remove_folder(&self, group: GroupId, folder: FolderId) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM folders WHERE group_id = ?1 AND folder = ?2",
            params![&group.0[..], &folder.0[..]],
        )
    }

    // Places

    pub(super) fn places(&self) -> Result<Vec<(DeviceId, Place)>, StoreError> {
        self.rows("SELECT device, last_seen, addresses FROM places", |row| {
            let addresses: String = row.get(2)?;
            // An address that cannot be read is a hint less.
            let addresses = addresses.split_whitespace().filter_map(|addr| addr.parse().ok());
            let place = Place { last_seen: row.get(1)?, addresses: addresses.collect() };
            Ok(array(row, 0)?.map(|device| (DeviceId(device), place)))
        })
    }

    pub(super) fn put_place(&self, device: &DeviceId, place: &Place) -> Result<(), StoreError> {
        let addresses: Vec<String> = place.addresses.iter().map(ToString::to_string).collect();
        self.run(
            "INSERT OR REPLACE INTO places VALUES (?1, ?2, ?3)",
            params![&device.0[..], place.last_seen, addresses.join(" ")],
        )
    }

    // Joins

    pub(super) fn joins(&self) -> Result<Vec<StoredJoin>, StoreError> {
        let query = "SELECT device, name, token, group_id, role, folders, since, state FROM joins ORDER BY since";
        self.rows(query, |row| {
            let (Some(device), Some(role)) = (array(row, 0)?, role_of(row.get(4)?)) else {
                return Ok(None);
            };
            let group = match row.get::<_, Option<Vec<u8>>>(3)? {
                None => None,
                Some(bytes) => match <[u8; 32]>::try_from(bytes) {
                    Ok(id) => Some(GroupId(id)),
                    Err(_) => return Ok(None),
                },
            };
            let folders = match row.get::<_, Option<Vec<u8>>>(5)? {
                None => Scope::All,
                Some(bytes) if bytes.len() % 32 == 0 => {
                    let ids = bytes.chunks_exact(32).filter_map(|id| id.try_into().ok());
                    Scope::List(ids.map(FolderId).collect())
                }
                Some(_) => return Ok(None),
            };
            Ok(Some(StoredJoin {
                device: DeviceId(device),
                name: row.get(1)?,
                kind: match row.get::<_, i64>(2)? {
                    0 => JoinKind::Lan,
                    1 => JoinKind::Token,
                    2 => JoinKind::Code,
                    3 => JoinKind::Rescue,
                    _ => return Ok(None),
                },
                group,
                role,
                folders,
                since: row.get(6)?,
                state: row.get(7)?,
            }))
        })
    }

    pub(super) fn put_join(&self, join: &StoredJoin) -> Result<(), StoreError> {
        let folders: Option<Vec<u8>> = match &join.folders {
            Scope::All => None,
            Scope::List(list) => Some(list.iter().flat_map(|id| id.0).collect()),
        };
        self.run(
            "INSERT OR REPLACE INTO joins VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                &join.device.0[..],
                join.name,
                join.kind as i64,
                join.group.map(|group| group.0.to_vec()),
                role_number(join.role),
                folders,
                join.since,
                join.state,
            ],
        )
    }

    pub(super) fn remove_join(&self, device: &DeviceId) -> Result<(), StoreError> {
        self.run("DELETE FROM joins WHERE device = ?1", [&device.0[..]])
    }

    // Letters (rule T21)

    fn letters(&self, device: &DeviceId) -> Result<(u64, u64), StoreError> {
        let query = "SELECT sent, heard FROM letters WHERE device = ?1";
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let found = self.db.query_row(query, [&device.0[..]], read).optional();
        let (sent, heard) = found.map_err(self.fail())?.unwrap_or_default();
        Ok((u64::try_from(sent).unwrap_or(0), u64::try_from(heard).unwrap_or(0)))
    }

    fn put_letters(&self, device: &DeviceId, sent: u64, heard: u64) -> Result<(), StoreError> {
        let [sent, heard] = [sent, heard].map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        self.run(
            "INSERT OR REPLACE INTO letters VALUES (?1, ?2, ?3)",
            params![&device.0[..], sent, heard],
        )
    }

    /// The number of the next letter to a device. It is at least `floor`, so that a device whose state was
    /// lost is still heard by those who kept theirs.
    pub(super) fn next_letter(&self, device: &DeviceId, floor: u64) -> Result<u64, StoreError> {
        let (sent, heard) = self.letters(device)?;
        let next = sent.saturating_add(1).max(floor).max(1);
        self.put_letters(device, next, heard)?;
        Ok(next)
    }

    /// The highest number of a letter that was taken from a device.
    pub(super) fn heard_letter(&self, device: &DeviceId) -> Result<u64, StoreError> {
        Ok(self.letters(device)?.1)
    }

    /// A letter was taken.
    pub(super) fn took_letter(&self, device: &DeviceId, number: u64) -> Result<(), StoreError> {
        let (sent, heard) = self.letters(device)?;
        self.put_letters(device, sent, heard.max(number))
    }

    // SSH

    /// Records what a person said about SSH (rule T9): may the other log in here, and shall this device log in
    /// there.
    pub(super) fn put_ssh_consent(
        &self,
        device: &DeviceId,
        into_here: bool,
        from_here: bool,
        at: i64,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT OR REPLACE INTO ssh_consents VALUES (?1, ?2, ?3, ?4)",
            params![&device.0[..], into_here, from_here, at],
        )
    }
}

fn array<const N: usize>(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<[u8; N]>> {
    Ok(row.get::<_, Vec<u8>>(at)?.try_into().ok())
}

fn role_number(role: Role) -> i64 {
    match role {
        Role::Keeper => 0,
        Role::Reader => 1,
        Role::Writer => 2,
        Role::Admin => 3,
    }
}

fn role_of(number: i64) -> Option<Role> {
    match number {
        0 => Some(Role::Keeper),
        1 => Some(Role::Reader),
        2 => Some(Role::Writer),
        3 => Some(Role::Admin),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
