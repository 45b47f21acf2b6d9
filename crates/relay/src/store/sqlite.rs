//! The store in one file: SQLite.
//!
//! One thread writes. It takes whatever has gathered while it was busy into one transaction, makes that
//! durable, and answers then: many deposits share one sync. Two threads read.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::oneshot;
use wire::relay::{Item, LookupId, MailboxId, Owner, TokenHash};

use super::{Counts, NewEntry, NewEnvelope, Pending, Quotas, Store, StoreError, Swept, sample};

mod reads;
mod tables;
mod writes;

use reads::Read;
use writes::{Change, Writer};

/// Threads that read.
const READERS: usize = 2;
/// Requests that wait for the writer, and for each reader; who comes then waits to be let in.
const QUEUE: usize = 4096;
/// Memory for pages, of each connection, in KiB.
const CACHE_KIB: i64 = 32 << 10;
/// Pages of the log after which it is folded into the file.
const CHECKPOINT_PAGES: i64 = 8192;

/// The store in one file.
#[derive(Debug)]
pub struct Sqlite {
    writer: tokio::sync::mpsc::Sender<Change>,
    readers: Vec<tokio::sync::mpsc::Sender<Read>>,
    next: AtomicUsize,
    /// Ends when the writer has.
    ended: std::sync::Mutex<Option<thread::JoinHandle<()>>>,
}

impl Sqlite {
    /// Opens the file, makes it if it is not there, and brings an older one to the present form.
    ///
    /// # Errors
    /// If it cannot be opened, is damaged, or was written by a newer kin.
    pub fn open(path: &Path, quotas: Quotas) -> Result<Self, StoreError> {
        let connection = connect(path, false)?;
        tables::migrate(&connection, path)?;
        let writer = Writer::new(connection, quotas).map_err(|error| failed(path, &error))?;
        let (sender, changes) = tokio::sync::mpsc::channel(QUEUE);
        let ended = start("relay-write", move || writer.run(changes))?;
        let mut readers = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let connection = connect(path, true)?;
            let (sender, requests) = tokio::sync::mpsc::channel(QUEUE);
            readers.push(sender);
            drop(start("relay-read", move || reads::run(&connection, requests))?);
        }
        let next = AtomicUsize::new(0);
        Ok(Self { writer: sender, readers, next, ended: Some(ended).into() })
    }

    fn change<T: Send + 'static>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Change,
    ) -> Pending<'_, T> {
        let (reply, answer) = oneshot::channel();
        let change = make(reply);
        Box::pin(async move {
            self.writer.send(change).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Read,
    ) -> Pending<'_, T> {
        let (reply, answer) = oneshot::channel();
        let request = make(reply);
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let reader = self.readers.get(next % READERS);
        Box::pin(async move {
            reader.ok_or_else(gone)?.send(request).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // The threads end when nobody can ask them any more; what was asked before is finished.
        let (closed, _) = tokio::sync::mpsc::channel(1);
        self.writer = closed;
        self.readers.clear();
        let ended = self.ended.get_mut().ok().and_then(Option::take);
        // A thread that panicked has said so.
        let _ = ended.map(thread::JoinHandle::join);
    }
}

impl Store for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn put(&self, entry: NewEntry, now: u64) -> Pending<'_, ()> {
        self.change(|reply| Change::Put { entry, now, reply })
    }

    fn get(&self, lookup: LookupId, now: u64) -> Pending<'_, Option<Bytes>> {
        self.ask(|reply| Read::Entry { lookup, now, reply })
    }

    fn withdraw(&self, lookup: LookupId, owner: Owner) -> Pending<'_, ()> {
        self.change(|reply| Change::Withdraw { lookup, owner, reply })
    }

    fn settle(&self, owner: Owner, token: TokenHash, now: u64) -> Pending<'_, ()> {
        self.change(|reply| Change::Settle { owner, token, now, reply })
    }

    fn remove(&self, mailbox: MailboxId) -> Pending<'_, ()> {
        self.change(|reply| Change::Remove { mailbox, reply })
    }

    fn deposit(&self, envelope: NewEnvelope, now: u64) -> Pending<'_, ()> {
        self.change(|reply| Change::Deposit { envelope, now, reply })
    }

    fn visit(&self, mailbox: MailboxId, now: u64) -> Pending<'_, bool> {
        self.change(|reply| Change::Visit { mailbox, now, reply })
    }

    fn read(
        &self,
        mailbox: MailboxId,
        after: u64,
        most: usize,
        bytes: usize,
    ) -> Pending<'_, Vec<Item>> {
        self.ask(|reply| Read::Envelopes { mailbox, after, most, bytes, reply })
    }

    fn acknowledge(&self, mailbox: MailboxId, numbers: Vec<u64>) -> Pending<'_, ()> {
        self.change(|reply| Change::Acknowledge { mailbox, numbers, reply })
    }

    fn sweep(&self, now: u64) -> Pending<'_, Swept> {
        self.change(|reply| Change::Sweep { now, reply })
    }

    fn probe(&self) -> Pending<'_, ()> {
        Box::pin(async {
            let sample = sample()?;
            let (lookup, owner) = (sample.lookup, sample.owner);
            self.change(|reply| Change::Probe { sample, reply }).await?;
            self.withdraw(lookup, owner).await
        })
    }

    fn counts(&self) -> Pending<'_, Counts> {
        self.change(|reply| Change::Counts { reply })
    }
}

fn start(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, StoreError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))
}

fn gone() -> StoreError {
    StoreError::Failed("the store has stopped".to_owned())
}

fn failed(path: &Path, error: &rusqlite::Error) -> StoreError {
    let said = format!("{}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::DiskFull(said),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(said),
        _ => StoreError::Failed(said),
    }
}

fn connect(path: &Path, read_only: bool) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = match read_only {
        true => flags,
        false => flags | OpenFlags::SQLITE_OPEN_CREATE,
    };
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        // Takes effect for a new file only.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit returns when it is on the disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "query_only", read_only)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| failed(path, &error))
}

/// Numbers are 64 bits and signed in SQLite; ours never reach the sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
