//! Forgetting deletions that every member has known for long (rule E4), in groups that last.
//!
//! Each device keeps a vector of what it knows completely: of these replicas everything up to these counters, or
//! what came in its place. It grows when device and peer have exactly the same records: then what one of them
//! knows completely, the other does. Members sign what they so know, and what of it they have known for 400
//! days ([`Statement`]); these statements go from device to device. What all members' statements have in common
//! is the horizon: a path about which nothing is known but deletions up to there is forgotten, everywhere.
//!
//! What counts 400 days is the time that a device itself was in use, so that no clock on a wall makes anything old.
//! A member of which no statement is known has never had anything of the folder; what former members said is kept for
//! when they are admitted again. The horizon never shrinks, and is taken over from who may write: to forget a deletion
//! too early loses nothing.
//!
//! What comes from before the horizon, and is not known here although everything up to there is, was deleted and
//! the deletion forgotten: its device was restored from an old backup, say. A device that may write
//! deletes it again. For that nobody's word about others is enough: what a device says to know counts as far as it was met
//! here and as the device whose replica it is says so itself, and only what all members were seen to have signed for,
//! each also for its own replicas, is old (`agreed`). And only the word of devices that may write now counts, which could
//! delete as well: when one of those that were believed loses the right, what is known completely is counted anew.
//!
//! It is switched off (`Options::forget_deletions`): statements say whose replica is whose and nothing else, and
//! deletions are kept for ever, which loses nothing and brings nothing back. Left before it may be switched on: a link
//! must say whose it is (`Input::PeerUp` does not). A member that only reads can say Hello with the replica of another one
//! and have the same fingerprint as this device; then this device takes for complete what it has of that replica, and
//! would delete, years later, what its owner had not sent by then.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use identity::DeviceId;
use wire::{
    RelPath,
    heard::{Heard, Statement, digest},
    record::{Body, Record, SignedRecord},
    sync::{MAX_HEARD, Message},
    version::{Dot, ReplicaId, VersionVector},
};

use super::{Authority, Change, Effect, Engine, EngineError, Mode, PeerId};
use crate::{
    index::{Index, Row},
    siblings::Siblings,
};

/// How long deletions are kept at least, in seconds.
const KEPT_S: u64 = 400 * 24 * 60 * 60;
/// What is known is set down for later this often, in seconds.
const STEP_S: u64 = KEPT_S / 10;
/// What is known is brought up to date at most this often, in milliseconds.
const NOTE_MS: u64 = 60 * 60 * 1000;
/// Most members whose statements are kept.
const MAX_MEMBERS: usize = 1024;
/// Most replicas whose devices are remembered, and most of one device.
const MAX_OWNERS: usize = 4096;
const MAX_OWNERS_EACH: usize = 256;
/// What this device knows, has known and forgotten, as the index keeps it.
const OWN_META: &str = "heard";
/// What members said, as the index keeps it.
const SAID_META: &str = "heard of";

/// Whose word `known` rests on, as the index keeps it: 32 bytes each.
const BELIEVED_META: &str = "believed";
/// Whose replicas are known, as the index keeps it: 40 bytes each.
const OWNERS_META: &str = "owners";

/// What is known completely, here and elsewhere.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    known: VersionVector,
    /// For how long this index was in use, in seconds: no clock on the wall counts, so that none can make anything
    /// older than it is.
    age: u64,
    /// What was known at an age; the oldest first.
    past: Vec<(u64, VersionVector)>,
    horizon: VersionVector,
    /// As much of the horizon as all members were seen to have signed for here, each also for its own replicas.
    /// Never shrinks.
    agreed: VersionVector,
    /// Of this device's last statement.
    number: u64,
    said: BTreeMap<DeviceId, Heard>,
    /// Whose word `known` rests on.
    believed: BTreeSet<DeviceId>,
    /// Whose replicas these are or were, by their own word: of former members, too.
    owners: BTreeMap<ReplicaId, DeviceId>,
    /// When `known` was last brought up to date in this run.
    noted: Option<u64>,
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
        for part in said.map(|said| parts(&said)).unwrap_or_default() {
            if let Ok(Message::Heard(heard)) = Message::decode(part) {
                hearing.said.extend(heard.into_iter().map(|heard| (heard.author, heard)));
            }
        }
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

    fn own(&self) -> Vec<u8> {
        let (known, horizon, aged) =
            (self.known.clone(), self.horizon.clone(), self.agreed.clone());
        let own = Statement { replica: self.age, number: self.number, known, aged, horizon };
        let past = self.past.iter().map(|(age, known)| Statement {
            number: *age,
            known: known.clone(),
            ..Statement::default()
        });
        joined(std::iter::once(own).chain(past).map(|statement| statement.encode()))
    }

    /// Remembers whose replica one is. False if that is no news.
    fn note_owner(&mut self, replica: u64, device: DeviceId) -> bool {
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

    fn packed_owners(&self) -> Vec<u8> {
        let one = |(replica, device): (&ReplicaId, &DeviceId)| {
            replica.0.to_le_bytes().into_iter().chain(device.0).collect::<Vec<_>>()
        };
        self.owners.iter().flat_map(one).collect()
    }

    /// What was known 400 days ago.
    fn aged(&self) -> VersionVector {
        let old = self.past.iter().rev().find(|(age, _)| age + KEPT_S <= self.age);
        old.map(|(_, known)| known.clone()).unwrap_or_default()
    }

    /// True if a change is known to be known here, and was to all members for 400 days.
    fn is_before_horizon(&self, dot: Dot) -> bool {
        self.agreed.has_seen(dot) && self.known.has_seen(dot)
    }

    /// True if a device whose replica it is says so itself, of a part of what it knows. A replica that it has left
    /// gets no new counters.
    fn owner_says(&self, dot: Dot, part: impl Fn(&Statement) -> &VersionVector) -> bool {
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
    fn is_forgotten(&self, siblings: &Siblings) -> bool {
        !siblings.records().is_empty()
            && siblings.records().iter().all(|known| self.horizon.has_seen(known.record.dot))
            && !siblings.is_live()
    }

    /// A record is not known any more: it did not count (rule E7). With it goes what it had replaced, and that may
    /// come back: of the replicas that it has seen nothing is known completely, until peers agree again.
    pub(super) fn unlearn(&mut self, version: &VersionVector) {
        without(&mut self.known, version);
        self.past.iter_mut().for_each(|(_, known)| without(known, version));
    }
}

/// Takes the replicas of one vector out of another.
fn without(vector: &mut VersionVector, other: &VersionVector) {
    let entries = vector.entries().iter().copied();
    let rest = entries.filter(|(replica, _)| other.counter(*replica) == 0).collect();
    *vector = VersionVector::from_entries(rest).unwrap_or_default();
}

/// What both have seen.
fn common(one: &VersionVector, other: &VersionVector) -> VersionVector {
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

impl<I: Index, A: Authority> Engine<I, A> {
    /// True if others count on this device's word: it takes part, in a group.
    fn speaks(&self) -> bool {
        self.authority.lasts() && self.options.mode != Mode::Look
    }

    /// Peers with these replicas have exactly what is known here, durably.
    pub(super) fn agreed_with(&mut self, replicas: &[ReplicaId]) -> Result<(), EngineError> {
        let due = self.hearing.noted.is_none_or(|at| self.now.ms >= at + NOTE_MS);
        if !self.options.forget_deletions || replicas.is_empty() || !due || !self.speaks() {
            return Ok(());
        }
        let since = self.hearing.noted.replace(self.now.ms).unwrap_or(self.now.ms);
        self.hearing.age += self.now.ms.saturating_sub(since) / 1000;
        let mut known = self.hearing.known.clone();
        let mut believed = self.hearing.believed.clone();
        for replica in replicas {
            let owner = self.hearing.owners.get(replica).copied();
            let Some(owner) = owner.filter(|owner| self.authority.may_write(owner)) else {
                continue;
            };
            let counter = self.latest.get(replica).map_or(0, |(counter, _)| *counter);
            if counter > 0 {
                known.add(Dot { replica: *replica, counter });
            }
            let heard = self.hearing.said.get(&owner);
            if let Some(heard) = heard.filter(|heard| heard.statement.replica == replica.0) {
                known.join(&self.as_far_as_met(&heard.statement.known));
            }
            believed.insert(owner);
        }
        if believed != self.hearing.believed {
            let bytes: Vec<u8> = believed.iter().flat_map(|device| device.0).collect();
            self.index.put_meta(BELIEVED_META, &bytes)?;
            self.hearing.believed = believed;
        }
        // What is kept apart bears counters of its own, and may be shared one day.
        if self.counter > 0 && self.index.locals()?.is_empty() {
            known.add(Dot { replica: self.replica, counter: self.counter });
        }
        let hearing = &mut self.hearing;
        hearing.known = known;
        if hearing.past.last().is_none_or(|(age, _)| hearing.age - age >= STEP_S) {
            hearing.past.push((hearing.age, hearing.known.clone()));
        }
        while hearing.past.get(1).is_some_and(|(age, _)| age + KEPT_S <= hearing.age) {
            hearing.past.remove(0);
        }
        self.move_horizon()?;
        self.state(None)
    }

    /// What a member says that it knows, as far as it was met here, and the device whose replica it is says so too.
    fn as_far_as_met(&self, known: &VersionVector) -> VersionVector {
        let met = known.entries().iter().filter(|(replica, _)| *replica != self.replica);
        let met = met.filter_map(|(replica, counter)| {
            let counter = (*counter).min(self.latest.get(replica)?.0);
            let dot = Dot { replica: *replica, counter };
            let says = counter > 0 && self.hearing.owner_says(dot, |statement| &statement.known);
            says.then_some((*replica, counter))
        });
        VersionVector::from_entries(met.collect()).unwrap_or_default()
    }

    /// Keeps what members say, and passes on what is news.
    pub(super) fn heard(
        &mut self,
        id: PeerId,
        heard: Vec<Heard>,
    ) -> Result<Result<(), String>, EngineError> {
        if !self.authority.lasts() {
            return Ok(Ok(()));
        }
        let (us, scope) = (self.authority.device(), self.authority.scope());
        let mut news = Vec::new();
        for heard in heard {
            let (author, number) = (heard.author, heard.statement.number);
            let last = self.hearing.said.get(&author).map(|last| last.statement.number);
            let last = if author == us { Some(self.hearing.number) } else { last };
            if last.is_some_and(|last| last >= number) || !self.authority.is_member(&author) {
                continue;
            }
            if last.is_none() && self.hearing.said.len() >= MAX_MEMBERS {
                // What former members said is kept for when they are admitted again, while there is room.
                let mut said = self.hearing.said.keys().copied();
                let Some(former) = said.find(|it| !self.authority.is_member(it)) else { continue };
                self.hearing.said.remove(&former);
            }
            let signed = digest(&scope, &author, &heard.bytes);
            if !self.authority.has_signed(&author, &signed, &heard.signature) {
                return Ok(Err("sent a statement that its author has not signed".to_owned()));
            }
            if author == us {
                // Of a later life of this index.
                self.hearing.number = number;
                self.hearing.said.remove(&us);
                continue;
            }
            if self.hearing.note_owner(heard.statement.replica, author) {
                self.index.put_meta(OWNERS_META, &self.hearing.packed_owners())?;
            }
            self.hearing.said.insert(author, heard.clone());
            news.push(heard);
        }
        if news.is_empty() && self.hearing.said.contains_key(&us) {
            return Ok(Ok(()));
        }
        self.tell_heard(&news, Some(id));
        self.move_horizon()?;
        self.state(None)?;
        Ok(Ok(()))
    }

    /// The replicas that these devices have or had here, by their own word.
    #[must_use]
    pub fn replicas_of(&self, devices: &[DeviceId]) -> Vec<ReplicaId> {
        let owners = self.hearing.owners.iter();
        owners.filter(|(_, device)| devices.contains(device)).map(|(replica, _)| *replica).collect()
    }

    /// Tells a peer all statements that are known here.
    pub(super) fn tell_all_heard(&mut self, id: PeerId) -> Result<(), EngineError> {
        if !self.authority.lasts() {
            return Ok(());
        }
        self.state(Some(id))?;
        let said = self.hearing.said.values();
        let said: Vec<_> =
            said.filter(|heard| self.authority.is_member(&heard.author)).cloned().collect();
        for part in said.chunks(MAX_HEARD) {
            let message = Message::Heard(part.to_vec());
            self.effects.push(Effect::Send { peer: id, message });
        }
        Ok(())
    }

    fn tell_heard(&mut self, news: &[Heard], but: Option<PeerId>) {
        let met = self.peers.iter().filter(|(_, peer)| peer.replica.is_some());
        let ids: Vec<_> = met.map(|(id, _)| *id).filter(|id| Some(*id) != but).collect();
        for id in ids {
            for part in news.chunks(MAX_HEARD) {
                let message = Message::Heard(part.to_vec());
                self.effects.push(Effect::Send { peer: id, message });
            }
        }
    }

    /// Says what this device has heard of, if that is news; not to a peer that is told all anyway.
    fn state(&mut self, but: Option<PeerId>) -> Result<(), EngineError> {
        if !self.speaks() {
            return Ok(());
        }
        let us = self.authority.device();
        let statement = Statement {
            replica: self.replica.0,
            number: self.hearing.number,
            known: self.hearing.known.clone(),
            aged: self.hearing.aged(),
            horizon: self.hearing.horizon.clone(),
        };
        if self.hearing.said.get(&us).is_none_or(|last| last.statement != statement) {
            self.hearing.number = self.hearing.number.saturating_add(1);
            let statement = Statement { number: self.hearing.number, ..statement };
            if self.hearing.note_owner(statement.replica, us) {
                self.index.put_meta(OWNERS_META, &self.hearing.packed_owners())?;
            }
            let bytes = statement.encode();
            let digest = digest(&self.authority.scope(), &us, &bytes);
            let signature = self.authority.sign(&digest);
            let heard = Heard { author: us, signature, statement, bytes };
            self.hearing.said.insert(us, heard.clone());
            self.tell_heard(&[heard], but);
        }
        // Both go to disk with the next commit: to know less, or to say it again, is no harm.
        self.index.put_meta(OWN_META, &self.hearing.own())?;
        let said: Vec<_> = self.hearing.said.values().cloned().collect();
        let said = said.chunks(MAX_HEARD).map(|part| Message::Heard(part.to_vec()).encode());
        self.index.put_meta(SAID_META, &joined(said))?;
        Ok(())
    }

    /// Who is a member has changed.
    pub(super) fn listeners_changed(&mut self) -> Result<(), EngineError> {
        if !self.authority.lasts() {
            return Ok(());
        }
        if self.hearing.believed.iter().any(|device| !self.authority.may_write(device)) {
            let hearing = &mut self.hearing;
            (hearing.known, hearing.agreed) = (VersionVector::new(), VersionVector::new());
            hearing.past.clear();
            hearing.believed.clear();
            self.index.put_meta(BELIEVED_META, &[])?;
            self.state(None)?;
        }
        self.move_horizon()
    }

    /// Forgets what all members have known for long enough.
    fn move_horizon(&mut self) -> Result<(), EngineError> {
        if !self.options.forget_deletions {
            return Ok(());
        }
        let us = self.authority.device();
        let mut all = self.hearing.aged();
        let mut horizon = self.hearing.horizon.clone();
        for heard in self.hearing.said.values().filter(|heard| heard.author != us) {
            if self.authority.is_member(&heard.author) {
                all = common(&all, &heard.statement.aged);
            }
            if self.authority.may_write(&heard.author) {
                horizon.join(&heard.statement.horizon);
            }
        }
        let agreed = all.entries().iter().copied().filter(|(replica, counter)| {
            let dot = Dot { replica: *replica, counter: *counter };
            *replica == self.replica || self.hearing.owner_says(dot, |statement| &statement.aged)
        });
        let agreed = VersionVector::from_entries(agreed.collect()).unwrap_or_default();
        self.hearing.agreed.join(&agreed);
        horizon.join(&all);
        if horizon == self.hearing.horizon {
            return Ok(());
        }
        self.hearing.horizon = horizon;
        for bucket in 0..wire::sync::BUCKETS {
            for (path, known) in self.index.bucket(bucket)? {
                let siblings = Self::siblings(&Row { known, ..Row::default() })?;
                if self.hearing.is_forgotten(&siblings) {
                    let row = Row { known: Vec::new(), ..self.row(&path)? };
                    self.put(&path, &row)?;
                    self.learn.reconcile(path);
                }
            }
        }
        Ok(())
    }

    /// Leaves of what is known of a path what is not forgotten.
    pub(super) fn within_horizon(&self, siblings: Siblings) -> Siblings {
        if self.hearing.is_forgotten(&siblings) { Siblings::default() } else { siblings }
    }

    /// Deletes again what a device brings back from before the horizon. False if it is nothing like that, or if
    /// this device does not write: then it goes by those who do, who may all have forgotten more than it.
    pub(super) fn brings_back(
        &mut self,
        row: &Row,
        record: &SignedRecord,
    ) -> Result<bool, EngineError> {
        if !self.publishes()
            || !row.is_empty()
            || !record.record.body.is_live()
            // As a metadata change does not beat a deletion (rule E3).
            || !self.hearing.is_before_horizon(record.record.content_dot)
        {
            return Ok(false);
        }
        let Record { path, body, mode, version, .. } = record.record.clone();
        let change = Change {
            body: Body::Tombstone { deleted: body.content() },
            mode,
            mtime: 0,
            seen: version,
            content_dot: None,
            found: false,
            inline: None,
        };
        self.author(&path, &mut Row::default(), change)?;
        Ok(true)
    }

    /// Changes that were kept apart are shared under a new counter where the old one counts as known.
    pub(super) fn shares_anew(
        &mut self,
        path: &RelPath,
        row: &mut Row,
        local: &SignedRecord,
    ) -> Result<bool, EngineError> {
        if !self.hearing.covers(local.record.dot) {
            return Ok(false);
        }
        let (seen, mut mine) = ((self.replica, u64::MAX), local.record.clone());
        if mine.content_dot.replica == self.replica {
            // What was written here is as new as its being shared.
            mine.content_dot.counter = u64::MAX;
        }
        self.author_again(path, row, local.hash, mine, seen)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_38_nobody_keeps_whose_replicas_others_are_from_being_known() {
        let mut hearing = Hearing::default();
        let (many, other) = (DeviceId([1; 32]), DeviceId([2; 32]));
        for replica in 0..2 * MAX_OWNERS as u64 {
            hearing.note_owner(replica, many);
        }
        assert_eq!(hearing.owners.len(), MAX_OWNERS_EACH);
        assert!(hearing.note_owner(u64::MAX, other));
        assert!(!hearing.note_owner(0, other), "the first one to say so");
    }
}
