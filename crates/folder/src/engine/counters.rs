//! Who speaks (rule E1): ranges of counters that were reserved and not used, as the index keeps them, and
//! taking a new replica id.

use wire::{Hash, RelPath, record::Record, version::ReplicaId};

use super::{Authority, COUNTER_BLOCK, Change, Effect, Engine, EngineError, Event};
use crate::index::{Here, Index, Row};

/// A range of counters, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Ranges as the index keeps them: 16 bytes each.
pub(super) fn pack(ranges: &[Counters]) -> Vec<u8> {
    ranges.iter().flat_map(|it| [it.first.to_le_bytes(), it.last.to_le_bytes()].concat()).collect()
}

/// Reads what [`pack`] wrote.
pub(super) fn unpack(bytes: &[u8]) -> Vec<Counters> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let numbers: Vec<_> = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    numbers.chunks_exact(2).map(|pair| Counters { first: pair[0], last: pair[1] }).collect()
}

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
        (self.counter, self.said) = (0, 0);
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
        self.reauthor_local(old, agreed)?;
        if !self.publishes() {
            return Ok(());
        }
        let mut again = Vec::new();
        for bucket in 0..wire::sync::BUCKETS {
            for (path, known) in self.index.bucket(bucket)? {
                let row = Row { known, ..Row::default() };
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
            self.author_again(&path, &mut row, hash, mine, (old, agreed))?;
        }
        Ok(())
    }

    /// Says again one thing that the replica `old` said after the counter `agreed`. What is here follows if that
    /// is what it shows: it may as well show what another device said.
    pub(super) fn author_again(
        &mut self,
        path: &RelPath,
        row: &mut Row,
        hash: Hash,
        mine: Record,
        (old, agreed): (ReplicaId, u64),
    ) -> Result<(), EngineError> {
        let is_to_show = |here: &Here| here.shown == 0 && here.base == mine.version;
        let before = row.here.clone();
        let before = before.filter(|here| here.shown != hash.head());
        let is_to_show = before.as_ref().is_some_and(is_to_show);
        self.author(path, row, Change::again(mine, old, agreed))?;
        match (before, &mut row.here) {
            // Its metadata are still to be set.
            (Some(_), Some(here)) if is_to_show => here.shown = 0,
            (Some(before), _) => row.here = Some(before),
            (None, _) => return Ok(()),
        }
        self.learn.reconcile(path.clone());
        self.put(path, row)
    }
}
