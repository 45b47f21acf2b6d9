//! The index's file: made private, opened with the right settings, recognised or refused.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::{IndexError, intents::Intents};

/// Marks the file as ours (`PRAGMA application_id`): "kinF".
const APPLICATION: i32 = 0x6b69_6e46;
/// Format of the file (`PRAGMA user_version`).
const FORMAT: u32 = 3;
/// SQLite's page cache, in KiB.
const CACHE_KIB: i32 = 32 * 1024;
/// Pages of 4 KiB in the write-ahead log after which it is copied into the file (16 MiB).
const CHECKPOINT_PAGES: i32 = 4096;
/// Size to which the log is cut back after that, in bytes.
const LOG_LIMIT: i32 = 32 * 1024 * 1024;

/// Statements kept ready: more than there are in `sqlite`.
const STATEMENTS: usize = 64;

/// Rows have a rowid and a unique key beside it, rather than a key alone: they are too long for the
/// interior pages of a tree, and each look-up table would repeat the key. The key covers what `children`
/// and `has_children` search by.
const SCHEMA: [&str; 14] = [
    "CREATE TABLE rows (id INTEGER PRIMARY KEY, parent TEXT NOT NULL, name TEXT NOT NULL, \
     bucket INTEGER NOT NULL, content INTEGER, inode INTEGER, here BLOB, known BLOB, local BLOB)",
    "CREATE UNIQUE INDEX rows_path ON rows (parent, name)",
    "CREATE INDEX rows_bucket ON rows (bucket)",
    "CREATE INDEX rows_content ON rows (content) WHERE content IS NOT NULL",
    "CREATE INDEX rows_inode ON rows (inode) WHERE inode IS NOT NULL",
    "CREATE TABLE sums (block INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE lists (id INTEGER PRIMARY KEY, content BLOB NOT NULL UNIQUE, list BLOB NOT NULL)",
    "CREATE TABLE chunks (head INTEGER NOT NULL, list INTEGER NOT NULL, offset INTEGER NOT NULL, \
     len INTEGER NOT NULL, PRIMARY KEY (head, list, offset)) WITHOUT ROWID",
    INTENTS,
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    LOCAL,
    SEALS,
    SEALED,
    SEALED_BY,
];
const INTENTS: &str = "CREATE TABLE intents (id INTEGER PRIMARY KEY, batch BLOB NOT NULL)";
const LOCAL: &str = "CREATE INDEX rows_local ON rows (parent, name) WHERE local IS NOT NULL";
const SEALS: &str = "CREATE TABLE seals (id INTEGER PRIMARY KEY, author BLOB NOT NULL, \
     signature BLOB NOT NULL, lists BLOB NOT NULL)";
const SEALED: &str = "CREATE TABLE sealed (record BLOB NOT NULL, seal INTEGER NOT NULL, \
     place INTEGER NOT NULL, PRIMARY KEY (record, seal)) WITHOUT ROWID";
const SEALED_BY: &str = "CREATE INDEX sealed_by ON sealed (seal)";
/// What format 1 did not have.
const SINCE_2: [&str; 4] = [LOCAL, SEALS, SEALED, SEALED_BY];
const LOCAL_COLUMN: &str = ", local BLOB)";
/// Where each intent had a row, up to format 2.
const INTENTS_SINGLE: &str = "CREATE TABLE intents (path TEXT PRIMARY KEY, swap INTEGER NOT NULL, \
     content BLOB NOT NULL, kind INTEGER NOT NULL) WITHOUT ROWID";

impl From<rusqlite::Error> for IndexError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt(error.to_string())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(_) => Self::Disk(error.to_string()),
            // A column of another type than the schema says, or text that is not UTF-8.
            None => Self::Corrupt(error.to_string()),
        }
    }
}

/// Opens the file, or makes it with mode 0600.
pub(super) fn open(path: &Path) -> Result<Connection, IndexError> {
    make_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // A plan does not depend on the values it is asked with: else a search by a range is planned anew for each.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.busy_timeout(std::time::Duration::ZERO)?;
    // The lock file of the folder keeps other processes out (rule E18): this is the second fence, and
    // spares the shared-memory file.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    let format = recognise(&db)?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT, |_| Ok(()))?;
    match format {
        0 => create(&db)?,
        1 | 2 => bring_up(&db, format)?,
        _ => {}
    }
    Ok(db)
}

#[allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the folder's own state, which SQLite opens by its path as well"
)]
fn make_private(path: &Path) -> Result<(), IndexError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let stat =
                std::fs::symlink_metadata(path).map_err(|e| IndexError::Disk(e.to_string()))?;
            if stat.is_file() {
                Ok(())
            } else {
                Err(IndexError::Corrupt("it is not a file".into()))
            }
        }
        Err(error) => Err(IndexError::Disk(error.to_string())),
    }
}

/// The file's format; 0 for one that is empty.
fn recognise(db: &Connection) -> Result<u32, IndexError> {
    let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, format) = (number("application_id")?, number("user_version")?);
    let mut statement =
        db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY sql")?;
    let found = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    if (application, format) == (0, 0) && found.is_empty() {
        return Ok(0);
    }
    let format = u32::try_from(format).unwrap_or_default();
    if application != APPLICATION || format == 0 {
        return Err(IndexError::Corrupt("it is not a folder's index".into()));
    }
    if format > FORMAT {
        return Err(IndexError::TooNew { found: format, known: FORMAT });
    }
    if found != expected(format) {
        return Err(IndexError::Corrupt("it has other tables than it should".into()));
    }
    Ok(format)
}

/// The tables of a format, sorted.
fn expected(format: u32) -> Vec<String> {
    let mut tables: Vec<_> = SCHEMA.iter().map(|table| (*table).to_owned()).collect();
    if format == 1 {
        tables.retain(|table| !SINCE_2.contains(&table.as_str()));
        for table in &mut tables {
            *table = table.replace(LOCAL_COLUMN, ")");
        }
    }
    if format <= 2 {
        for table in tables.iter_mut().filter(|table| *table == INTENTS) {
            INTENTS_SINGLE.clone_into(table);
        }
    }
    tables.sort_unstable();
    tables
}

/// Makes an older format the one of now.
fn bring_up(db: &Connection, format: u32) -> Result<(), IndexError> {
    db.execute_batch("BEGIN")?;
    if format == 1 {
        let tables: String = SINCE_2.iter().map(|table| format!("{table};\n")).collect();
        db.execute_batch(&format!("ALTER TABLE rows ADD COLUMN local BLOB;\n{tables}"))?;
    }
    let mut intents = Intents::load_single(db)?;
    db.execute_batch(&format!("DROP TABLE intents;\n{INTENTS};"))?;
    intents.write(db)?;
    db.execute_batch(&format!("PRAGMA user_version = {FORMAT};\nCOMMIT;"))?;
    Ok(())
}

fn create(db: &Connection) -> Result<(), IndexError> {
    let tables: String = SCHEMA.iter().map(|table| format!("{table};\n")).collect();
    db.execute_batch(&format!(
        "BEGIN;\n{tables}PRAGMA application_id = {APPLICATION};\nPRAGMA user_version = {FORMAT};\nCOMMIT;"
    ))?;
    Ok(())
}

/// Moves a damaged index and its log out of the way, over the ones set aside before: `index.db` becomes
/// `index.db.bad`. The next open makes a new one (rule E5).
///
/// # Errors
/// If the file system refuses.
#[allow(
    clippy::disallowed_methods,
    reason = "the folder's own state, which SQLite opens by its path"
)]
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    // The log first: a log without its file is ignored, a file without its log would lose commits.
    for log in ["-wal", "-shm"] {
        match std::fs::rename(with(log), with(&format!(".bad{log}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
    }
    let aside = with(".bad");
    std::fs::rename(path, &aside)?;
    Ok(aside)
}
