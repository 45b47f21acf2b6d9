//! What a relay keeps: entries, mailboxes, envelopes. One trait, so that the server does not know where.
//!
//! Whatever changes something is durable when it returns. Time comes from the caller, in seconds since 1970.

use std::pin::Pin;

use bytes::Bytes;
use wire::relay::{
    Item, Lane, LookupId, MAX_REQUEST, MailboxId, MeetingId, Owner, Refusal, TokenHash,
};

mod postgres;
mod sqlite;

pub use postgres::Postgres;
pub use sqlite::Sqlite;

/// How long an envelope stays that nobody fetches: 30 days.
pub const KEEP_ENVELOPES: u64 = 30 * DAY;
/// How long a mailbox stays whose owner does not come: 90 days.
pub const KEEP_MAILBOXES: u64 = 90 * DAY;
pub(crate) const DAY: u64 = 24 * 60 * 60;

/// What is under way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why it was not done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database says so.
    #[error("{0}")]
    Failed(String),
    /// There is no room on its disk.
    #[error("{0}")]
    DiskFull(String),
    /// Its file is none, or holds nonsense.
    #[error("{0}")]
    Damaged(String),
    /// A newer relay has written it.
    #[error("{place}: a newer kin has written it (version {found}, this one knows {known})")]
    Newer {
        /// Where.
        place: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
}

/// How much one lane of a mailbox holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneQuota {
    /// Envelopes.
    pub envelopes: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How much a relay keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quotas {
    /// In the members' lane of a mailbox.
    pub members: LaneQuota,
    /// In the strangers' lane of a mailbox.
    pub strangers: LaneQuota,
    /// Entries.
    pub entries: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Bytes of all envelopes.
    pub bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            members: LaneQuota { envelopes: 2048, bytes: 16 << 20 },
            strangers: LaneQuota { envelopes: 128, bytes: 512 << 10 },
            entries: 1_000_000,
            mailboxes: 1_000_000,
            bytes: 64 << 30,
        }
    }
}

impl Quotas {
    /// What a lane holds.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> LaneQuota {
        match lane {
            Lane::Members => self.members,
            Lane::Strangers => self.strangers,
        }
    }
}

/// An entry that is put.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Under this.
    pub lookup: LookupId,
    /// Whose it is.
    pub owner: Owner,
    /// Until then.
    pub until: u64,
    /// What.
    pub entry: Bytes,
}

/// An envelope that is deposited.
#[derive(Clone, Debug)]
pub struct NewEnvelope {
    /// In this mailbox.
    pub mailbox: MailboxId,
    /// For the members' lane.
    pub token: Option<TokenHash>,
    /// What.
    pub envelope: Bytes,
}

impl NewEnvelope {
    /// Through which lane it comes.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self.token {
            Some(_) => Lane::Members,
            None => Lane::Strangers,
        }
    }
}

/// How much there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Entries, those included that have expired and are not swept yet.
    pub entries: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Envelopes.
    pub envelopes: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a sweep removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Entries that had expired.
    pub entries: u64,
    /// Envelopes that nobody fetched in time.
    pub envelopes: u64,
    /// Mailboxes whose owner had not come for long.
    pub mailboxes: u64,
}

/// Where a relay keeps what it keeps.
pub trait Store: Send + Sync {
    /// Its kind: `sqlite`, `postgres`.
    fn kind(&self) -> &'static str;

    /// Puts an entry, in the place of one of the same owner.
    ///
    /// # Errors
    /// [`Refusal::Taken`], [`Refusal::Full`].
    fn put(&self, entry: NewEntry, now: u64) -> Pending<'_, ()>;

    /// The entry, if there is one that has not expired.
    fn get(&self, lookup: LookupId, now: u64) -> Pending<'_, Option<Bytes>>;

    /// Takes an entry back, if it is this owner's. Nothing is said about whether there was one.
    fn withdraw(&self, lookup: LookupId, owner: Owner) -> Pending<'_, ()>;

    /// Makes a mailbox if there is none, and opens its members' lane to this token alone.
    ///
    /// # Errors
    /// [`Refusal::Full`].
    fn settle(&self, owner: Owner, token: TokenHash, now: u64) -> Pending<'_, ()>;

    /// Removes a mailbox and what is in it.
    fn remove(&self, mailbox: MailboxId) -> Pending<'_, ()>;

    /// Leaves an envelope.
    ///
    /// # Errors
    /// [`Refusal::Full`]; [`Refusal::Unavailable`] if there is no such mailbox, and in the same way if the
    /// token is not that of its members.
    fn deposit(&self, envelope: NewEnvelope, now: u64) -> Pending<'_, ()>;

    /// The owner is here: false if there is no such mailbox.
    fn visit(&self, mailbox: MailboxId, now: u64) -> Pending<'_, bool>;

    /// The next envelopes after the one of a number, in order: at most `most`, and `bytes` or one.
    fn read(
        &self,
        mailbox: MailboxId,
        after: u64,
        most: usize,
        bytes: usize,
    ) -> Pending<'_, Vec<Item>>;

    /// Deletes envelopes that were handled. Numbers of others are ignored.
    fn acknowledge(&self, mailbox: MailboxId, numbers: Vec<u64>) -> Pending<'_, ()>;

    /// Removes what has had its time, a bounded part of it: until nothing is returned there may be more.
    fn sweep(&self, now: u64) -> Pending<'_, Swept>;

    /// Writes as much as the largest deposit may be, so that it is durable, and takes it back.
    ///
    /// # Errors
    /// If it cannot be written.
    fn probe(&self) -> Pending<'_, ()>;

    /// How much there is; where many processes use the store, as of some seconds ago.
    fn counts(&self) -> Pending<'_, Counts>;

    /// Where many processes use the store: mailboxes in which another one has left something since the last
    /// time. `None` where this process is the only one.
    fn arrivals(&self) -> Option<Pending<'_, Vec<MailboxId>>> {
        None
    }

    /// Where many processes use the store: the place of the one at which the other end of a meeting waits, which
    /// waits no more then; else it is noted until `until` that one end waits at `place`. `None` where this
    /// process is the only one.
    fn meet(
        &self,
        meeting: MeetingId,
        place: String,
        until: u64,
        now: u64,
    ) -> Option<Pending<'_, Option<String>>> {
        let _ = (meeting, place, until, now);
        None
    }
}

/// What a probe writes: an entry that has expired already, of nobody.
pub(crate) fn sample() -> Result<NewEntry, StoreError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| StoreError::Failed(error.to_string()))?;
    let entry = Bytes::from(vec![0; MAX_REQUEST]);
    Ok(NewEntry { lookup: LookupId(random), owner: Owner(random), until: 0, entry })
}

/// What decides about a deposit: alike in every store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) token: TokenHash,
    pub(crate) members: LaneQuota,
    pub(crate) strangers: LaneQuota,
}

impl Held {
    /// Counts an envelope in, or says why it must stay out.
    pub(crate) fn take(
        &mut self,
        token: Option<TokenHash>,
        len: usize,
        quotas: &Quotas,
    ) -> Result<(), Refusal> {
        let (lane, quota) = match token {
            Some(token) if token == self.token => (&mut self.members, quotas.members),
            Some(_) => return Err(Refusal::Unavailable),
            None => (&mut self.strangers, quotas.strangers),
        };
        let bytes = lane.bytes.saturating_add(len as u64);
        if lane.envelopes >= quota.envelopes || bytes > quota.bytes {
            return Err(Refusal::Full);
        }
        *lane = LaneQuota { envelopes: lane.envelopes + 1, bytes };
        Ok(())
    }
}
