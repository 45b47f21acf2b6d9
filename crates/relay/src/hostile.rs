//! A relay that means harm: for tests of what devices make of it (attacks.md 37).
//!
//! [`Hostile`] stands between a [`crate::Server`] and its store, where a relay's operator would stand. It keeps all
//! that it was ever given; what else it does, a test switches on and off while it runs.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use wire::relay::{Item, LookupId, MailboxId, Owner, Refusal, TokenHash};

use crate::store::{Counts, NewEntry, NewEnvelope, Pending, Store, StoreError, Swept};

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Mischief {
    /// Says that a deposit is done, and drops it.
    pub drop_deposits: bool,
    /// Delivers each envelope twice, and again after it was acknowledged.
    pub replay: bool,
    /// Delivers the last envelope first.
    pub reorder: bool,
    /// Delivers envelopes of half their size.
    pub truncate: bool,
    /// Changes a byte of each envelope and each entry.
    pub corrupt: bool,
    /// Delivers to everybody what is in this mailbox.
    pub swap: Option<MailboxId>,
    /// Says of entries, and of mailboxes that are deposited in, that there are none.
    pub lie_about_absence: bool,
    /// Says of everything that it cannot be done.
    pub refuse: Option<Refusal>,
    /// Fails like one whose disk is full.
    pub fail: bool,
    /// Answers with the first entry that was ever put under a lookup id.
    pub stale: bool,
}

#[derive(Default)]
struct Kept {
    mischief: Mischief,
    envelopes: Vec<(MailboxId, Bytes)>,
    entries: Vec<(LookupId, Bytes)>,
}

/// A store with mischief in it. Clones are the same one.
#[derive(Clone)]
pub struct Hostile {
    store: Arc<dyn Store>,
    kept: Arc<Mutex<Kept>>,
}

impl Hostile {
    /// Behaves at first.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, kept: Arc::default() }
    }

    /// From now on it does this.
    pub fn set(&self, mischief: Mischief) {
        self.kept().mischief = mischief;
    }

    /// Everything that it was ever given: to be searched for what it must not contain.
    #[must_use]
    pub fn everything(&self) -> Vec<Bytes> {
        let kept = self.kept();
        let envelopes = kept.envelopes.iter().map(|(_, bytes)| bytes.clone());
        envelopes.chain(kept.entries.iter().map(|(_, bytes)| bytes.clone())).collect()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mischief(&self) -> Result<Mischief, StoreError> {
        let mischief = self.kept().mischief;
        if mischief.fail {
            return Err(StoreError::Failed("database or disk is full".to_owned()));
        }
        mischief.refuse.map_or(Ok(mischief), |refusal| Err(refusal.into()))
    }
}

fn corrupted(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.last_mut() {
        *byte ^= 1;
    }
    bytes.into()
}

impl Store for Hostile {
    fn kind(&self) -> &'static str {
        "hostile"
    }

    fn put(&self, entry: NewEntry, now: u64) -> Pending<'_, ()> {
        self.kept().entries.push((entry.lookup, entry.entry.clone()));
        Box::pin(async move {
            self.mischief()?;
            self.store.put(entry, now).await
        })
    }

    fn get(&self, lookup: LookupId, now: u64) -> Pending<'_, Option<Bytes>> {
        Box::pin(async move {
            let mischief = self.mischief()?;
            if mischief.lie_about_absence {
                return Ok(None);
            }
            let first = self.kept().entries.iter().find(|it| it.0 == lookup).cloned();
            if let (true, Some((_, entry))) = (mischief.stale, first) {
                return Ok(Some(entry));
            }
            let entry = self.store.get(lookup, now).await?;
            Ok(entry.map(|entry| if mischief.corrupt { corrupted(&entry) } else { entry }))
        })
    }

    fn withdraw(&self, lookup: LookupId, owner: Owner) -> Pending<'_, ()> {
        self.store.withdraw(lookup, owner)
    }

    fn settle(&self, owner: Owner, token: TokenHash, now: u64) -> Pending<'_, ()> {
        Box::pin(async move {
            self.mischief()?;
            self.store.settle(owner, token, now).await
        })
    }

    fn remove(&self, mailbox: MailboxId) -> Pending<'_, ()> {
        self.store.remove(mailbox)
    }

    fn deposit(&self, envelope: NewEnvelope, now: u64) -> Pending<'_, ()> {
        self.kept().envelopes.push((envelope.mailbox, envelope.envelope.clone()));
        Box::pin(async move {
            let mischief = self.mischief()?;
            if mischief.lie_about_absence {
                return Err(Refusal::Unavailable.into());
            }
            if mischief.drop_deposits {
                return Ok(());
            }
            self.store.deposit(envelope, now).await
        })
    }

    fn visit(&self, mailbox: MailboxId, now: u64) -> Pending<'_, bool> {
        self.store.visit(mailbox, now)
    }

    fn read(
        &self,
        mailbox: MailboxId,
        after: u64,
        most: usize,
        bytes: usize,
    ) -> Pending<'_, Vec<Item>> {
        Box::pin(async move {
            let mischief = self.mischief()?;
            let from = mischief.swap.unwrap_or(mailbox);
            let mut items = match mischief.replay {
                // Everything that was ever there, twice, under numbers that go on.
                true => {
                    let kept = self.kept();
                    let of_mailbox = kept.envelopes.iter().filter(|it| it.0 == from);
                    let twice = of_mailbox.flat_map(|it| [it.1.clone(), it.1.clone()]);
                    let lane = wire::relay::Lane::Strangers;
                    twice
                        .zip(1..)
                        .map(|(envelope, number)| Item { number, lane, envelope })
                        .filter(|item| item.number > after)
                        .take(most)
                        .collect()
                }
                false => self.store.read(from, after, most, bytes).await?,
            };
            if mischief.reorder {
                let envelopes: Vec<Bytes> =
                    items.iter().rev().map(|it| it.envelope.clone()).collect();
                items.iter_mut().zip(envelopes).for_each(|(item, it)| item.envelope = it);
            }
            for item in &mut items {
                if mischief.truncate {
                    item.envelope.truncate(item.envelope.len() / 2);
                }
                if mischief.corrupt {
                    item.envelope = corrupted(&item.envelope);
                }
            }
            Ok(items)
        })
    }

    fn acknowledge(&self, mailbox: MailboxId, numbers: Vec<u64>) -> Pending<'_, ()> {
        self.store.acknowledge(mailbox, numbers)
    }

    fn sweep(&self, now: u64) -> Pending<'_, Swept> {
        self.store.sweep(now)
    }

    fn probe(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            self.mischief()?;
            self.store.probe().await
        })
    }

    fn counts(&self) -> Pending<'_, Counts> {
        self.store.counts()
    }
}
