//! What is known completely, here and elsewhere, as `heard` has it and as the index keeps it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use identity::DeviceId;
use wire::{
    heard::{Heard, Statement},
    sync::{MAX_HEARD, Message},
    version::{Dot, ReplicaId, VersionVector},
};

use super::EngineError;
use crate::{index::Index, siblings::Siblings};

/// How long deletions are kept at least, in seconds.
pub(super) const KEPT_S: u64 = 400 * 24 * 60 * 60;
/// What is known is set down for later this often, in seconds.
pub(super) const STEP_S: u64 = KEPT_S / 10;
/// For how long this index was in use is written this often if nothing else is, in seconds.
const WRITE_AGE_S: u64 = 24 * 60 * 60;
/// Most replicas whose devices are remembered, and most of one device.
const MAX_OWNERS: usize = 4096;
const MAX_OWNERS_EACH: usize = 256;
/// What this device knows, has known and forgotten, as the index keeps it.
const OWN_META: &str = "heard";
/// What members said, as the index keeps it.
const SAID_META: &str = "heard of";
/// Whose word `known` rests on, as the index keeps it: 32 bytes each.
const BELIEVED_META: &str = "believed";
/// Not empty from when all is counted anew until something is counted again, in case this device stops meanwhile.
const WAITS_META: &str = "counts anew";
/// Whose replicas are known, as the index keeps it: 40 bytes each.
const OWNERS_META: &str = "owners";

/// What is known completely, here and elsewhere.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    pub(super) known: VersionVector,
    /// For how long this index was in use, in seconds: no clock on the wall counts, so that none can make anything
    /// older than it is.
    pub(super) age: u64,
    /// What was known at an age; the oldest first.
    pub(super) past: Vec<(u64, VersionVector)>,
    pub(super) horizon: VersionVector,
    /// As much of the horizon as all members were seen to have signed for here, each also for its own replicas.
    /// Never shrinks.
    pub(super) agreed: VersionVector,
    /// Of this device's last statement.
    pub(super) number: u64,
    pub(super) said: BTreeMap<DeviceId, Heard>,
    /// Who could write when `known` grew: what is known may rest on any of their words.
    pub(super) believed: BTreeSet<DeviceId>,
    /// Whose replicas these are or were, by their own word: of former members, too.
    pub(super) owners: BTreeMap<ReplicaId, DeviceId>,
    /// When `known` was last brought up to date in this run.
    pub(super) noted: Option<u64>,
    /// What this device said to have forgotten in a later life of this index.
    pub(super) later: VersionVector,
    /// Something met here was forgotten by those who write, and not here yet.
    pub(super) is_behind: bool,
    /// Something became void that others are to hear of.
    pub(super) counts_anew: bool,
    /// All is counted anew since somebody was put out, and nothing was counted since.
    waits: bool,
    /// What the index has of this device's own part, but for the age; and the age.
    written: (Vec<u8>, u64),
}

impl Hearing {
    /// What an index keeps of it; what makes no sense is as if it had never been known.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub(super) fn read(index: &mut impl Index) -> Result<Self, EngineError> {
        let (own, said) = (index.meta(OWN_META)?, index.meta(SAID_META)?);
        let statements = own.map(|own| parts(&own)).unwrap_or_default().into_iter();
        let mut statements = statements.filter_map(|part| Statement::decode(&part).ok());
        let mut hearing = Self::default();
        if let Some(own) = statements.next() {
            (hearing.known, hearing.horizon, hearing.number) = (own.known, own.horizon, own.number);
            (hearing.agreed, hearing.age) = (own.aged, own.replica);
        }
        hearing.past = statements.map(|past| (past.number, past.known)).collect();
        hearing.written = (hearing.own(0), hearing.age);
        for part in said.map(|said| parts(&said)).unwrap_or_default() {
            if let Ok(Message::Heard(heard)) = Message::decode(part) {
                hearing.said.extend(heard.into_iter().map(|heard| (heard.author, heard)));
            }
        }
        hearing.waits = index.meta(WAITS_META)?.is_some_and(|waits| !waits.is_empty());
        let believed = index.meta(BELIEVED_META)?.unwrap_or_default();
        hearing.believed = believed.as_chunks::<32>().0.iter().copied().map(DeviceId).collect();
        let owners = index.meta(OWNERS_META)?.unwrap_or_default();
        for owner in owners.as_chunks::<40>().0 {
            let (replica, device) = owner.split_at(8);
            if let (Ok(replica), Ok(device)) = (replica.try_into(), device.try_into()) {
                hearing.owners.insert(ReplicaId(u64::from_le_bytes(replica)), DeviceId(device));
            }
        }
        Ok(hearing)
    }

    /// Writes this device's own part if it has changed, or enough time passed, or none is left. True if it did.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub(super) fn write_own(
        &mut self,
        index: &mut impl Index,
        is_last: bool,
    ) -> Result<bool, EngineError> {
        let (written, age) = &self.written;
        let after = if is_last { 1 } else { WRITE_AGE_S };
        if self.age < age.saturating_add(after) && self.own(0) == *written {
            return Ok(false);
        }
        index.put_meta(OWN_META, &self.own(self.age))?;
        self.written = (self.own(0), self.age);
        Ok(true)
    }

    /// Writes what members said.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub(super) fn write_said(&self, index: &mut impl Index) -> Result<(), EngineError> {
        let said: Vec<_> = self.said.values().cloned().collect();
        let said = said.chunks(MAX_HEARD).map(|part| Message::Heard(part.to_vec()).encode());
        Ok(index.put_meta(SAID_META, &joined(said))?)
    }

    /// Writes whose word counts.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub(super) fn write_believed(&self, index: &mut impl Index) -> Result<(), EngineError> {
        let bytes: Vec<u8> = self.believed.iter().flat_map(|device| device.0).collect();
        Ok(index.put_meta(BELIEVED_META, &bytes)?)
    }

    fn own(&self, age: u64) -> Vec<u8> {
        let (known, horizon, aged) =
            (self.known.clone(), self.horizon.clone(), self.agreed.clone());
        let own = Statement { replica: age, number: self.number, known, aged, horizon };
        let past = self.past.iter().map(|(age, known)| Statement {
            number: *age,
            known: known.clone(),
            ..Statement::default()
        });
        joined(std::iter::once(own).chain(past).map(|statement| statement.encode()))
    }

    /// Nothing is counted for a while: others hear meanwhile of who was put out, and count anew as well.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub(super) fn wait(&mut self, now: u64, index: &mut impl Index) -> Result<(), EngineError> {
        (self.noted, self.waits) = (Some(now), true);
        Ok(index.put_meta(WAITS_META, &[1])?)
    }

    /// True if it is time to count again what is known: `after` milliseconds after that was done last, or that long
    /// into a run if the last one ended while it was to wait.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub(super) fn is_due(
        &mut self,
        now: u64,
        after: u64,
        index: &mut impl Index,
    ) -> Result<bool, EngineError> {
        if self.noted.is_none() && self.waits {
            self.noted = Some(now);
        }
        let is_due = self.noted.is_none_or(|at| now >= at.saturating_add(after));
        if is_due && std::mem::take(&mut self.waits) {
            index.put_meta(WAITS_META, &[])?;
        }
        Ok(is_due)
    }

    /// Remembers whose replica one is, if nobody was heard to say so before.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub(super) fn note_owner(
        &mut self,
        replica: u64,
        device: DeviceId,
        index: &mut impl Index,
    ) -> Result<(), EngineError> {
        if !self.is_first_to_own(replica, device) {
            return Ok(());
        }
        let one = |(replica, device): (&ReplicaId, &DeviceId)| {
            replica.0.to_le_bytes().into_iter().chain(device.0).collect::<Vec<_>>()
        };
        let owners: Vec<u8> = self.owners.iter().flat_map(one).collect();
        Ok(index.put_meta(OWNERS_META, &owners)?)
    }

    /// False if that is no news.
    fn is_first_to_own(&mut self, replica: u64, device: DeviceId) -> bool {
        let replica = ReplicaId(replica);
        let of_it = self.owners.values().filter(|owner| **owner == device).count();
        if self.owners.contains_key(&replica)
            || self.owners.len() >= MAX_OWNERS
            || of_it >= MAX_OWNERS_EACH
        {
            return false;
        }
        self.owners.insert(replica, device);
        true
    }

    /// True if a replica is known to be another device's.
    pub(super) fn is_anothers(&self, replica: ReplicaId, device: &DeviceId) -> bool {
        self.owners.get(&replica).is_some_and(|owner| owner != device)
    }

    /// What was known 400 days ago.
    pub(super) fn aged(&self) -> VersionVector {
        let old = self.past.iter().rev().find(|(age, _)| age + KEPT_S <= self.age);
        old.map(|(_, known)| known.clone()).unwrap_or_default()
    }

    /// Takes in what is known now, and sets it down now and then.
    pub(super) fn know(&mut self, known: VersionVector) {
        self.known = known;
        if self.past.last().is_none_or(|(age, _)| self.age - age >= STEP_S) {
            self.past.push((self.age, self.known.clone()));
        }
        while self.past.get(1).is_some_and(|(age, _)| age + KEPT_S <= self.age) {
            self.past.remove(0);
        }
    }

    /// True if a change is known to be known here, and was to all members for 400 days.
    pub(super) fn is_before_horizon(&self, dot: Dot) -> bool {
        self.agreed.has_seen(dot) && self.known.has_seen(dot)
    }

    /// True if a device whose replica it is says so itself, of a part of what it knows. A replica that it has left
    /// gets no new counters.
    pub(super) fn owner_says(&self, dot: Dot, part: impl Fn(&Statement) -> &VersionVector) -> bool {
        let owner = self.owners.get(&dot.replica).and_then(|owner| self.said.get(owner));
        owner.is_some_and(|heard| {
            heard.statement.replica != dot.replica.0 || part(&heard.statement).has_seen(dot)
        })
    }

    /// True if a change counts as known here.
    pub(super) fn covers(&self, dot: Dot) -> bool {
        self.known.has_seen(dot) || self.horizon.has_seen(dot)
    }

    /// True if records say nothing but what all members have known to be deleted for 400 days.
    pub(super) fn is_forgotten(&self, siblings: &Siblings) -> bool {
        !siblings.records().is_empty()
            && siblings.records().iter().all(|known| self.horizon.has_seen(known.record.dot))
            && !siblings.is_live()
    }

    /// What this index said under a replica id after a counter may be something else elsewhere: no more than that
    /// is known of it, nor was.
    pub(super) fn know_no_more_of(&mut self, replica: ReplicaId, counter: u64) {
        let past = self.past.iter_mut().map(|(_, known)| known);
        for known in past.chain([&mut self.known]) {
            known.lower(replica, counter);
        }
    }

    /// Nothing is known completely any more, until peers agree again.
    pub(super) fn count_anew(&mut self) {
        self.known = VersionVector::new();
        self.past.clear();
        self.counts_anew = true;
    }
}

/// What both have seen.
pub(super) fn common(one: &VersionVector, other: &VersionVector) -> VersionVector {
    let entries = one.entries().iter().filter_map(|(replica, counter)| {
        let counter = other.counter(*replica).min(*counter);
        (counter > 0).then_some((*replica, counter))
    });
    VersionVector::from_entries(entries.collect()).unwrap_or_default()
}

/// Parts one after the other, each with its length in four bytes before it.
fn joined(parts: impl Iterator<Item = Bytes>) -> Vec<u8> {
    let mut joined = Vec::new();
    for part in parts {
        joined.extend(u32::try_from(part.len()).unwrap_or(0).to_le_bytes());
        joined.extend(part);
    }
    joined
}

/// Takes apart what [`joined`] made.
fn parts(joined: &Bytes) -> Vec<Bytes> {
    let mut rest = joined.clone();
    let mut parts = Vec::new();
    while let Some((len, _)) = rest.split_first_chunk::<4>() {
        let end = 4 + u32::from_le_bytes(*len) as usize;
        if rest.len() < end {
            break;
        }
        parts.push(rest.slice(4..end));
        rest = rest.slice(end..);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e1_what_another_life_said_was_never_known() {
        let vector =
            |counter| VersionVector::from_entries(vec![(ReplicaId(1), counter)]).expect("one");
        let mut hearing = Hearing::default();
        for (age, counter) in [(0, 3), (STEP_S, 9)] {
            hearing.age = age;
            hearing.know(vector(counter));
        }
        hearing.know_no_more_of(ReplicaId(1), 5);
        assert_eq!(hearing.known, vector(5));
        assert_eq!(hearing.past, [(0, vector(3)), (STEP_S, vector(5))]);
    }

    #[test]
    fn attack_38_nobody_keeps_whose_replicas_others_are_from_being_known() {
        let mut hearing = Hearing::default();
        let (many, other) = (DeviceId([1; 32]), DeviceId([2; 32]));
        for replica in 0..2 * MAX_OWNERS as u64 {
            hearing.is_first_to_own(replica, many);
        }
        assert_eq!(hearing.owners.len(), MAX_OWNERS_EACH);
        assert!(hearing.is_first_to_own(u64::MAX, other));
        assert!(!hearing.is_first_to_own(0, other), "the first one to say so");
    }
}
