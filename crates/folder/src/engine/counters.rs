//! Who speaks (rule E1): ranges of counters that were reserved and not used, as the index keeps them, and
//! taking a new replica id.

use std::collections::BTreeMap;

use identity::DeviceId;
use wire::{
    Hash, RelPath,
    record::Record,
    version::{Dot, MAX_COUNTER, ReplicaId},
};

use super::{Authority, Change, Effect, Engine, EngineError, Event, Now};
use crate::index::{Here, Index, Row};

/// Counters are reserved on disk in blocks of this many (rule E1). To reserve means to commit, which a first look at
/// many files would have to wait for again and again if they were fewer.
pub(super) const BLOCK: u64 = 1 << 20;
/// Each run begins with a counter that is up to so much higher than those of the last: what another life of this replica
/// has said, which began where this one did, lies in a range that was not used here (rule E1).
pub(super) const MAX_JUMP: u64 = 1 << 24;
/// A replica whose counters are that high goes on under another id: what is beyond [`MAX_COUNTER`] nobody takes.
pub(super) const LAST_START: u64 = MAX_COUNTER / 2;
/// Ranges of counters that were reserved and not used, as far back as is remembered (rule E1).
pub(super) const MAX_UNUSED: usize = 64;

/// A range of counters, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// A folder that was not in use for this long by the wall clock goes on under a new replica id, in nanoseconds: for half
/// as long as deletions are kept at least.
const AWAY_NS: i64 = 200 * 24 * 60 * 60 * 1_000_000_000;
/// When it was in use last is written this often, in nanoseconds.
const WRITE_USED_NS: u64 = 24 * 60 * 60 * 1_000_000_000;
/// A clock that says less than before is believed after this long, in milliseconds.
const BELIEVED_MS: u64 = 24 * 60 * 60 * 1000;
/// How often a device can have this one take a new replica id by its word alone, in a run.
const MAX_ENDED: u32 = 8;
/// When the index was in use last, as it says itself: 8 bytes.
const USED_META: &str = "used";
/// Whose index it is: 32 bytes.
const DEVICE_META: &str = "device";

/// What may end a life of a replica besides what others know of it.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// When this was in use last, by the wall clock; 0 if that is not known.
    used: i64,
    /// Since when the clock has said less, in milliseconds.
    behind: Option<u64>,
    /// What of that the index has.
    written: i64,
    /// Whose word has ended how many lives.
    ended: BTreeMap<DeviceId, u32>,
}

impl Lives {
    /// What an index keeps of it, and whether it was last opened by a device with the same key. From now on it is
    /// this device's.
    ///
    /// # Errors
    /// If the index fails.
    pub(super) fn read(
        index: &mut impl Index,
        authority: &impl Authority,
    ) -> Result<(Self, bool), EngineError> {
        if !authority.lasts() {
            return Ok((Self::default(), true));
        }
        let used = index.meta(USED_META)?;
        let used = used.and_then(|bytes| Some(i64::from_le_bytes(bytes[..].try_into().ok()?)));
        let used = used.unwrap_or(0);
        let device = authority.device();
        let is_ours = index.meta(DEVICE_META)?.is_none_or(|bytes| bytes[..] == device.0[..]);
        index.put_meta(DEVICE_META, &device.0)?;
        Ok((Self { used, written: used, ..Self::default() }, is_ours))
    }

    /// Writes when this was in use last, now and then.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub(super) fn write(&mut self, index: &mut impl Index) -> Result<(), EngineError> {
        if self.used.abs_diff(self.written) >= WRITE_USED_NS {
            index.put_meta(USED_META, &self.used.to_le_bytes())?;
            self.written = self.used;
        }
        Ok(())
    }

    /// It is used now. True if it was not for long. A clock that was set back is believed after a day: there are
    /// machines that begin in 1970 whenever they start.
    fn comes_back(&mut self, now: Now) -> bool {
        let before = std::mem::replace(&mut self.used, now.wall);
        if before <= now.wall {
            self.behind = None;
            return before != 0 && now.wall.saturating_sub(before) > AWAY_NS;
        }
        let since = *self.behind.get_or_insert(now.ms);
        if now.ms.saturating_sub(since) < BELIEVED_MS {
            self.used = before;
        }
        false
    }

    /// True if a device's word may end this life, too.
    pub(super) fn may_end(&mut self, device: Option<DeviceId>) -> bool {
        let Some(device) = device else { return true };
        let ended = self.ended.entry(device).or_default();
        *ended = ended.saturating_add(1);
        *ended <= MAX_ENDED
    }
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

    /// What the next change bears.
    pub(super) fn next_dot(&mut self) -> Result<Dot, EngineError> {
        self.counter += 1;
        if self.counter >= self.counter_reserved {
            self.counter_reserved = self.counter + BLOCK;
            self.index.put_meta("counter", &self.counter_reserved.to_le_bytes())?;
            // Rule E1: durable before any record that bears it leaves.
            self.uncommitted = true;
            self.commit()?;
        }
        Ok(Dot { replica: self.replica, counter: self.counter })
    }

    /// Takes a new replica id (rule E1) and writes again, under it and as concurrent, what this one said
    /// after `common`, or after it last agreed with anybody.
    pub(super) fn new_replica(&mut self, reason: &str, common: u64) -> Result<(), EngineError> {
        let old = self.replica;
        let said_since = self.agreed()?.max(common);
        self.take_replica()?;
        self.hearing.know_no_more_of(old, said_since);
        self.effects.push(Effect::Event(Event::NewReplica { reason: reason.to_owned() }));
        self.reauthor(old, said_since)
    }

    pub(super) fn take_replica(&mut self) -> Result<(), EngineError> {
        self.own.clear();
        self.unused.clear();
        self.index.put_meta("unused", &[])?;
        self.replica = ReplicaId(self.entropy.draw());
        (self.counter, self.said) = (0, 0);
        self.counter_reserved = BLOCK;
        self.index.put_meta("agreed", &0u64.to_le_bytes())?;
        self.index.put_meta("replica", &self.replica.0.to_le_bytes())?;
        self.index.put_meta("counter", &self.counter_reserved.to_le_bytes())?;
        self.uncommitted = true;
        self.commit()
    }

    /// Time has passed. After very much of it this may be what a machine was long ago: what is said from now on is
    /// under a new id, so that nobody takes it for what was said, and deleted, and forgotten since (rule E4). What was
    /// said before stands: said again as well, it would bring back what others have deleted since.
    pub(super) fn come_back(&mut self) -> Result<(), EngineError> {
        if !self.authority.lasts() {
            return Ok(());
        }
        if self.lives.comes_back(self.now) && self.counter > 0 {
            let old = self.replica;
            self.take_replica()?;
            self.know_all_of(Some(old))?;
            self.state(None)?;
        }
        Ok(())
    }

    /// This index has all that was said under a replica id in its own past.
    pub(super) fn know_all_of(&mut self, old: Option<ReplicaId>) -> Result<(), EngineError> {
        let Some(old) = old else { return Ok(()) };
        let used = self.latest.get(&old).map_or(0, |(counter, _)| *counter);
        // What is kept apart bears counters of it, too.
        if used > 0 && self.index.locals()?.is_empty() {
            self.hearing.known.add(Dot { replica: old, counter: used });
        }
        Ok(())
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
