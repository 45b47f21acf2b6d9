//! Who receives which mailbox here, so that they are woken when something arrives.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;
use wire::relay::MailboxId;

/// Parts of the table, each with its own lock.
const PARTS: usize = 64;

/// Those who receive now: one for each mailbox, the one who came last.
pub(crate) struct Hub {
    parts: Vec<Mutex<HashMap<MailboxId, Arc<Bell>>>>,
}

#[derive(Default)]
struct Bell {
    news: Notify,
    replaced: AtomicBool,
}

impl Hub {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { parts: (0..PARTS).map(|_| Mutex::default()).collect() })
    }

    /// Receives a mailbox from now on; whoever did so before is sent away: its connection is dead most
    /// likely, and nobody has noticed yet.
    pub(crate) fn attend(self: &Arc<Self>, mailbox: MailboxId) -> Attending {
        let bell = Arc::new(Bell::default());
        let before =
            self.part(mailbox).and_then(|mut part| part.insert(mailbox, Arc::clone(&bell)));
        if let Some(before) = before {
            before.replaced.store(true, Ordering::Release);
            before.news.notify_one();
        }
        Attending { hub: Arc::clone(self), mailbox, bell }
    }

    /// Something has arrived.
    pub(crate) fn ring(&self, mailbox: MailboxId) {
        if let Some(bell) = self.part(mailbox).and_then(|part| part.get(&mailbox).cloned()) {
            bell.news.notify_one();
        }
    }

    /// How many receive.
    pub(crate) fn len(&self) -> usize {
        self.parts
            .iter()
            .map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    fn part(
        &self,
        mailbox: MailboxId,
    ) -> Option<std::sync::MutexGuard<'_, HashMap<MailboxId, Arc<Bell>>>> {
        // Ids are hashes: any byte does.
        let part = self.parts.get(usize::from(mailbox.0[0]) % PARTS)?;
        Some(part.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One who receives.
pub(crate) struct Attending {
    hub: Arc<Hub>,
    mailbox: MailboxId,
    bell: Arc<Bell>,
}

impl Attending {
    /// Returns when something has arrived since the last time: false if another one receives now.
    pub(crate) async fn news(&self) -> bool {
        self.bell.news.notified().await;
        !self.bell.replaced.load(Ordering::Acquire)
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        if let Some(mut part) = self.hub.part(self.mailbox)
            && part.get(&self.mailbox).is_some_and(|bell| Arc::ptr_eq(bell, &self.bell))
        {
            part.remove(&self.mailbox);
            // A table that was large once does not stay so.
            if part.len() * 4 < part.capacity() {
                part.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_before_the_wait_is_not_lost_and_the_last_one_receives() {
        let hub = Hub::new();
        let mailbox = MailboxId([1; 32]);
        let first = hub.attend(mailbox);
        hub.ring(mailbox);
        assert!(first.news().await);
        let second = hub.attend(mailbox);
        assert!(!first.news().await, "replaced");
        drop(first);
        hub.ring(mailbox);
        assert!(second.news().await, "the end of the first takes nothing from the second");
        assert_eq!(hub.len(), 1);
        drop(second);
        assert_eq!(hub.len(), 0);
        hub.ring(mailbox);
    }
}
