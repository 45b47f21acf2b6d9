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
//! when they are admitted again. The horizon never shrinks, and is taken over from who may write, as far as it was
//! met here: to forget a deletion too early loses nothing.
//!
//! What comes from before the horizon, and is not known here although everything up to there is, was deleted and
//! the deletion forgotten: its device was restored from an old backup, say. A device that may write
//! deletes it again. So nothing may be taken for known that is not:
//! - A peer's word counts if it may write (and so could delete as well), if it came over a link that is the peer's own
//!   (`Input::PeerUp` says whose, as its TLS key proved), and since that link is up. Which replica somebody says Hello
//!   with does not matter, nor does what was signed in another life of an index.
//! - It counts as far as it was met here, and as the device whose replica it is says so itself. What all members were
//!   seen to have signed for, each also for its own replicas, is old (`agreed`).
//! - When a device that could write while this grew loses the right, everything is counted anew; so it is when a record
//!   becomes void here (rule E7), and with it what had been dropped for its sake.
//! - A counter stands for one change. An index that was set back unnoticed would use some again: so a folder that was
//!   not in use for long takes a new replica id (`counters`), long before anything that it said can be before the horizon.
//!
//! In `kin sync`, which has no member list, it is off (`Options::forget_deletions`).

use wire::{
    RelPath,
    heard::{Heard, Statement, digest},
    record::{Body, Record, SignedRecord},
    sync::{MAX_HEARD, Message},
    version::{Dot, ReplicaId, VersionVector},
};

use identity::DeviceId;

use super::{
    Authority, Change, Effect, Engine, EngineError, Event, Mode, PeerId, hearing::common,
    peer::MAX_LATEST,
};
use crate::{
    index::{Index, Known, Row},
    siblings::Siblings,
};

/// What is known is brought up to date at most this often, in milliseconds.
const NOTE_MS: u64 = 60 * 60 * 1000;
/// Most members whose statements are kept.
const MAX_MEMBERS: usize = 1024;

impl<I: Index, A: Authority> Engine<I, A> {
    /// True if others count on this device's word: it takes part, in a group.
    fn speaks(&self) -> bool {
        self.authority.lasts() && self.options.mode != Mode::Look
    }

    /// These peers have exactly what is known here, durably.
    pub(super) fn agreed_with(&mut self, peers: &[PeerId]) -> Result<(), EngineError> {
        if !self.options.forget_deletions || peers.is_empty() || !self.speaks() {
            return Ok(());
        }
        if !self.hearing.is_due(self.now.ms, NOTE_MS, &mut self.index)? {
            return Ok(());
        }
        self.count_time();
        self.hearing.noted = Some(self.now.ms);
        let mut known = self.hearing.known.clone();
        for id in peers {
            let peer = self.peers.get(id);
            let stated = peer.and_then(|peer| Some((peer.device?, peer.stated.as_ref()?)));
            if let Some((device, stated)) = stated
                && self.authority.may_write(&device)
            {
                known.join(&self.as_far_as_met(stated));
            }
        }
        // What is kept apart bears counters of its own, and may be shared one day.
        if self.counter > 0 && self.index.locals()?.is_empty() {
            known.add(Dot { replica: self.replica, counter: self.counter });
        }
        self.believe_writers()?;
        self.hearing.know(known);
        self.move_horizon()?;
        self.state(None)?;
        self.commit()
    }

    /// The time since that was done last is time in use.
    fn count_time(&mut self) {
        let since = self.hearing.noted.unwrap_or(self.now.ms);
        self.hearing.age += self.now.ms.saturating_sub(since) / 1000;
    }

    /// Up to which of its changes all is known here that a replica has ever said, or what came in its place.
    #[must_use]
    pub fn knows_up_to(&self, replica: ReplicaId) -> u64 {
        self.hearing.known.counter(replica)
    }

    /// For how long this folder was in use on this device and in agreement with others, in seconds.
    #[must_use]
    pub fn seconds_in_use(&self) -> u64 {
        self.hearing.age
    }

    /// The end is near: what was counted is not lost.
    pub(super) fn keep_time(&mut self) {
        if self.hearing.noted.is_some() {
            self.count_time();
            self.hearing.noted = Some(self.now.ms);
            self.uncommitted = true;
        }
    }

    /// Remembers who may write now: what is known may rest on the word of each, by way of another.
    fn believe_writers(&mut self) -> Result<(), EngineError> {
        let us = self.authority.device();
        let all = self.hearing.said.keys().chain(self.hearing.owners.values());
        let new = |device: &&DeviceId| {
            **device != us
                && !self.hearing.believed.contains(device)
                && self.authority.may_write(device)
        };
        let new: Vec<_> = all.filter(new).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        self.hearing.believed.extend(new);
        self.hearing.write_believed(&mut self.index)
    }

    /// What a member says that it knows, as far as it was met here, and the device whose replica it is says so too.
    fn as_far_as_met(&self, stated: &Statement) -> VersionVector {
        let known = stated.known.entries().iter();
        let met = known.filter(|(replica, _)| *replica != self.replica);
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
        let peer = self.peers.get(&id).and_then(|peer| peer.device);
        let mut news = Vec::new();
        for heard in heard {
            let (author, number) = (heard.author, heard.statement.number);
            if !self.authority.is_member(&author) {
                continue;
            }
            let last = self.hearing.said.get(&author).map(|last| last.statement.number);
            let last = if author == us { Some(self.hearing.number) } else { last };
            let is_old = last.is_some_and(|last| last >= number);
            // Its own word over its own link holds, also where its index is older than others remember.
            let is_its_own = peer == Some(author);
            if is_old && !is_its_own {
                continue;
            }
            let signed = digest(&scope, &author, &heard.bytes);
            if !self.authority.has_signed(&author, &signed, &heard.signature) {
                return Ok(Err("sent a statement that its author has not signed".to_owned()));
            }
            if is_its_own && let Some(peer) = self.peers.get_mut(&id) {
                peer.stated = Some(heard.statement.clone());
            }
            if is_old {
                continue;
            }
            if author == us {
                // Of a later life of this index: what it had forgotten by then is forgotten.
                self.hearing.number = number;
                self.hearing.later.join(&heard.statement.horizon);
                self.hearing.said.remove(&us);
                continue;
            }
            if last.is_none() && self.hearing.said.len() >= MAX_MEMBERS {
                // What former members said is kept for when they are admitted again, while there is room.
                let mut said = self.hearing.said.keys().copied();
                let Some(former) = said.find(|it| !self.authority.is_member(it)) else { continue };
                self.hearing.said.remove(&former);
            }
            self.hearing.note_owner(heard.statement.replica, author, &mut self.index)?;
            self.hearing.said.insert(author, heard.clone());
            news.push(heard);
        }
        if news.is_empty() && self.hearing.said.contains_key(&us) {
            return Ok(Ok(()));
        }
        self.hearing.write_said(&mut self.index)?;
        self.uncommitted = true;
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

    /// Says what this device has heard of, if that is news; not to a peer that is told all anyway. It goes to disk
    /// with the next commit: to know less after a crash, or to say it again, is no harm.
    pub(super) fn state(&mut self, but: Option<PeerId>) -> Result<(), EngineError> {
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
            self.hearing.note_owner(statement.replica, us, &mut self.index)?;
            let bytes = statement.encode();
            let digest = digest(&self.authority.scope(), &us, &bytes);
            let signature = self.authority.sign(&digest);
            let heard = Heard { author: us, signature, statement, bytes };
            self.hearing.said.insert(us, heard.clone());
            self.hearing.write_said(&mut self.index)?;
            self.tell_heard(&[heard], but);
        }
        self.uncommitted |= self.hearing.write_own(&mut self.index, false)?;
        Ok(())
    }

    /// Who is a member has changed.
    pub(super) fn listeners_changed(&mut self) -> Result<(), EngineError> {
        if !self.authority.lasts() {
            return Ok(());
        }
        if self.hearing.believed.iter().any(|device| !self.authority.may_write(device)) {
            self.hearing.count_anew();
            self.hearing.agreed = VersionVector::new();
            self.hearing.believed.clear();
            self.hearing.write_believed(&mut self.index)?;
            self.hearing.wait(self.now.ms, &mut self.index)?;
            self.uncommitted = true;
        }
        self.move_horizon()
    }

    /// Once records were judged by the new manifest: tells if all is counted anew, before anything else is told.
    pub(super) fn tell_count_anew(&mut self) -> Result<(), EngineError> {
        if std::mem::take(&mut self.hearing.counts_anew) {
            self.state(None)?;
        }
        Ok(())
    }

    /// Forgets what all members have known for long enough.
    fn move_horizon(&mut self) -> Result<(), EngineError> {
        if !self.options.forget_deletions {
            return Ok(());
        }
        let us = self.authority.device();
        let mut all = self.hearing.aged();
        let mut horizon = self.hearing.horizon.clone();
        horizon.join(&self.hearing.later);
        for heard in self.hearing.said.values().filter(|heard| heard.author != us) {
            if self.authority.is_member(&heard.author) {
                all = common(&all, &heard.statement.aged);
            }
            if self.authority.may_write(&heard.author) {
                horizon.join(&self.as_was_met(&heard.statement.horizon));
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
                self.forget_at(path, known)?;
            }
        }
        Ok(())
    }

    /// Forgets what is known of a path if it is nothing but old deletions.
    fn forget_at(&mut self, path: RelPath, known: Vec<Known>) -> Result<(), EngineError> {
        let siblings = Self::shared(&Row { known, ..Row::default() })?;
        if self.is_over(&path, &siblings)? {
            let row = Row { known: Vec::new(), ..self.row(&path)? };
            self.put(&path, &row)?;
            self.learn.reconcile(path);
        }
        Ok(())
    }

    /// True if records of a path say nothing but what all members have known to be deleted for long, and nothing live is
    /// known below: of a directory that is there for its sake they say how closed it is (rule E9).
    fn is_over(&mut self, path: &RelPath, siblings: &Siblings) -> Result<bool, EngineError> {
        Ok(self.hearing.is_forgotten(siblings) && !self.has_live_below(path, Self::shared)?)
    }

    /// Nothing live is known at a path any more: deletions above it may have stayed for its sake.
    pub(super) fn forget_above(&mut self, path: &RelPath) -> Result<(), EngineError> {
        if self.hearing.horizon.entries().is_empty() {
            return Ok(());
        }
        let mut above = path.parent();
        while let Some(dir) = above.filter(|dir| !dir.is_root()) {
            above = dir.parent();
            let known = self.row(&dir)?.known;
            self.forget_at(dir, known)?;
        }
        Ok(())
    }

    /// Keeps what is known of a path now, and sees to the directories above it.
    pub(super) fn put_known(
        &mut self,
        path: &RelPath,
        row: &Row,
        is_live: bool,
    ) -> Result<(), EngineError> {
        self.put(path, row)?;
        if is_live {
            self.learn.is_live_at(path);
            return Ok(());
        }
        self.forget_above(path)
    }

    /// No more of a horizon than was met of each replica, or its device says to have: who says more may mean what is
    /// still to come.
    fn as_was_met(&self, vector: &VersionVector) -> VersionVector {
        let is_full = self.latest.len() >= MAX_LATEST;
        let met = vector.entries().iter().filter_map(|(replica, counter)| {
            let dot = Dot { replica: *replica, counter: *counter };
            if self.hearing.owner_says(dot, |statement| &statement.known) {
                return Some((*replica, *counter));
            }
            let unmet = if is_full { *counter } else { 0 };
            let counter = self.latest.get(replica).map_or(unmet, |(met, _)| *counter.min(met));
            (counter > 0).then_some((*replica, counter))
        });
        VersionVector::from_entries(met.collect()).unwrap_or_default()
    }

    /// Notices that a deletion which is learned here was forgotten by somebody who may write.
    pub(super) fn note_forgotten(&mut self, record: &Record) {
        if record.body.is_live() || self.hearing.horizon.has_seen(record.dot) {
            return;
        }
        self.hearing.is_behind |= self.hearing.said.values().any(|heard| {
            heard.statement.horizon.has_seen(record.dot) && self.authority.may_write(&heard.author)
        });
    }

    /// Forgets what was met since, and is forgotten elsewhere.
    pub(super) fn catch_up(&mut self) -> Result<(), EngineError> {
        if std::mem::take(&mut self.hearing.is_behind) {
            self.move_horizon()?;
            self.state(None)?;
        }
        Ok(())
    }

    /// Leaves of what is known of a path what is not forgotten.
    pub(super) fn within_horizon(
        &mut self,
        path: &RelPath,
        siblings: Siblings,
    ) -> Result<Siblings, EngineError> {
        Ok(if self.is_over(path, &siblings)? { Siblings::default() } else { siblings })
    }

    /// Deletes again what a device brings back from before the horizon. False if it is nothing like that, or if
    /// this device does not write: then it goes by those who do, who may all have forgotten more than it.
    pub(super) fn brings_back(
        &mut self,
        peer: PeerId,
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
        let (content, from) = (body.content(), self.peer_name(Some(peer)));
        self.effects.push(Effect::Event(Event::DeletedAgain { path: path.clone(), content, from }));
        let change = Change {
            body: Body::Tombstone { deleted: content },
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
