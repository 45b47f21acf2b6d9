//! Which replica this is (rule E1): a new id where the old one may have said other things in another life.

use wire::version::{ReplicaId, VersionVector};

use super::{Authority, COUNTER_BLOCK, Change, Effect, Engine, EngineError, Event};
use crate::index::{Index, Row};

impl<I: Index, A: Authority> Engine<I, A> {
    /// This replica's counter when it last agreed with anybody.
    fn agreed(&mut self) -> Result<u64, EngineError> {
        let agreed = self.index.meta("agreed")?;
        Ok(agreed
            .and_then(|bytes| Some(u64::from_le_bytes(bytes[..].try_into().ok()?)))
            .unwrap_or(0))
    }

    /// Takes a new replica id (rule E1) and writes again, under it and as concurrent, what this one said
    /// after `common`, or after it last agreed with anybody.
    pub(super) fn new_replica(&mut self, reason: &str, common: u64) -> Result<(), EngineError> {
        let old = self.replica;
        self.own.clear();
        self.unused.clear();
        self.index.put_meta("unused", &[])?;
        self.replica = ReplicaId(self.entropy.draw());
        self.counter = 0;
        self.counter_reserved = COUNTER_BLOCK;
        let said_since = self.agreed()?.max(common);
        self.index.put_meta("agreed", &0u64.to_le_bytes())?;
        self.index.put_meta("replica", &self.replica.0.to_le_bytes())?;
        self.index.put_meta("counter", &self.counter_reserved.to_le_bytes())?;
        self.uncommitted = true;
        self.commit()?;
        self.effects.push(Effect::Event(Event::NewReplica { reason: reason.to_owned() }));
        self.reauthor(old, said_since)
    }

    /// After a new replica id: says again, under it and as concurrent, what the old one said after the
    /// counter `agreed` (rule E1).
    fn reauthor(&mut self, old: ReplicaId, agreed: u64) -> Result<(), EngineError> {
        let mut again = Vec::new();
        for bucket in 0..wire::sync::BUCKETS {
            for (path, known) in self.index.bucket(bucket)? {
                let row = Row { known, here: None };
                let siblings = Self::siblings(&row)?;
                let mine = siblings.records().iter().find(|known| {
                    let dot = known.record.dot;
                    dot.replica == old && dot.counter > agreed
                });
                if let Some(mine) = mine {
                    again.push((path, mine.hash, mine.record.clone()));
                }
            }
        }
        for (path, hash, mine) in again {
            let mut row = self.row(&path)?;
            // Under the old id it would seem to have seen what another life said with lower counters.
            row.known.retain(|known| known.hash != hash);
            let entries = mine.version.entries().iter().copied();
            let seen: Vec<_> = entries
                .filter_map(|(id, counter)| {
                    if id == old {
                        (agreed > 0).then_some((id, agreed))
                    } else {
                        Some((id, counter))
                    }
                })
                .collect();
            let seen = VersionVector::from_entries(seen).unwrap_or_default();
            // Whose contents were said before is known there: only its metadata is said again.
            let content_dot = Some(mine.content_dot).filter(|dot| seen.has_seen(*dot));
            let change = Change {
                body: mine.body,
                mode: mine.mode,
                mtime: mine.mtime,
                seen,
                content_dot,
                found: false,
                inline: None,
            };
            self.author(&path, &mut row, change)?;
        }
        Ok(())
    }
}
