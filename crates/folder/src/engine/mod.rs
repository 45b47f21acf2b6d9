//! The engine: one folder's state machine. Pure in the sense of design.md: it does no I/O of its own,
//! reads no clock and draws no randomness. Time and seed are arguments, the index is a value it owns, and
//! everything that touches a disk leaves as a [`Job`] whose outcome comes back as an [`Input`].
//!
//! One thread (or the simulator) calls [`Engine::handle`] and carries out the [`Effect`]s it returns, in
//! order. The engine never waits for anything: queues that could grow because somebody else is slow are
//! bounded by windows (rule E22), and requests are served only while the link they came from drains.
//!
//! The parts: `scan` (what the disk says), `learn` (what peers say, and what follows), `peer` (comparing records), `fetch`
//! (bringing contents), `serve` (giving them), `group` (applying), `recover` and `power` (after a stop), `counters` (who this is).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use wire::{
    Hash, RelPath,
    record::{Body, MAX_SUPERSEDED, Record, SignedRecord},
    sync::{Fingerprint, Message, Status},
    version::{Dot, ReplicaId, VersionVector},
};

use crate::{
    ignore::Ignore,
    index::{Index, Known, Row},
    jobs::Done,
    siblings::Siblings,
};

mod apart;
mod api;
mod ask;
mod brake;
mod counters;
mod fetch;
mod group;
mod heard;
mod hearing;
mod keeping;
mod kept;
mod learn;
mod local;
mod peer;
mod power;
mod pull;
mod push;
mod recover;
mod report;
mod roles;
mod scan;
mod serve;
mod stuck;
mod swapped;
mod transfer;

use counters::{Counters, pack, unpack};

pub use api::{
    AppliedKind, Authority, Effect, EngineError, Event, Input, LocalChange, LocalKind, Mode, Now,
    Options, PeerId, Progress,
};
pub use ask::{Cause, ConflictCopy, Explanation, Plan, UndoPlan, Version};

/// Records of this run whose hashes are remembered (rule E1).
const MAX_OWN: usize = 65_536;
/// A change leaves after this much quiet (rule E23), in milliseconds.
const QUIET_MS: u64 = 5;
/// A full rescan runs this often regardless of events, in milliseconds.
const RESCAN_MS: u64 = 10 * 60 * 1000;
/// While work goes on, it is made durable and told of this often, in milliseconds.
const ON_THE_WAY_MS: u64 = 2_000;
/// Progress is told at most this often, in milliseconds.
const PROGRESS_MS: u64 = 200;

/// Randomness stretched from one seed.
#[derive(Debug)]
struct Entropy {
    seed: [u8; 32],
    drawn: u64,
}

impl Entropy {
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        Hash::derived("kinfold 2026-11 engine entropy", &[&self.seed, &self.drawn.to_le_bytes()])
            .head()
    }
}

/// One folder's state machine.
#[derive(Debug)]
pub struct Engine<I, A> {
    index: I,
    authority: A,
    options: Options,
    entropy: Entropy,
    now: Now,
    replica: ReplicaId,
    counter: u64,
    counter_reserved: u64,
    /// The highest of its counters that anybody can have heard of in this life of it.
    said: u64,
    /// The last change of each replica that was met, as the hello tells it (rule E1).
    latest: HashMap<ReplicaId, (u64, Hash)>,
    /// Hashes of this run's own records by counter, to notice another life of this replica (rule E1).
    own: HashMap<u64, Hash>,
    /// Counters that were reserved, and of which this index does not know that they were used (rule E1).
    unused: Vec<Counters>,
    scan: scan::Scan,
    reports: report::Reports,
    brake: brake::Brake,
    peers: BTreeMap<PeerId, peer::Peer>,
    learn: learn::Learn,
    fetch: fetch::Fetch,
    group: group::Groups,
    swaps: swapped::Swaps,
    keeping: keeping::Keeping,
    roles: roles::Roles,
    hearing: hearing::Hearing,
    lives: counters::Lives,
    /// Conflict copies in the tree.
    copies: Paths,
    requests: u32,
    /// No new group is begun any more.
    stopping: bool,
    /// True if the index holds what is not durable yet.
    uncommitted: bool,
    /// Events that may be told only once the index is durable.
    after_commit: Vec<Event>,
    /// Changes made here that peers have not been sent yet.
    outbox: Vec<(SignedRecord, Option<Bytes>)>,
    /// When anything was sent of it last, in milliseconds.
    pushed_at: u64,
    effects: Vec<Effect>,
    last_progress: u64,
    last_told: u64,
    /// What was agreed on, and with whom, when that was last told.
    told_in_sync: Option<(Fingerprint, Vec<PeerId>, [u64; 4])>,
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// Takes over an index, gives it a replica id of its own if it has none or is a copy, and reserves
    /// counters durably.
    ///
    /// # Errors
    /// If the index cannot be read or written.
    pub fn open(mut index: I, authority: A, options: Options) -> Result<Self, EngineError> {
        let mut entropy = Entropy { seed: options.seed, drawn: 0 };
        let number = |bytes: Option<Bytes>| {
            bytes.and_then(|bytes| Some(u64::from_le_bytes(bytes[..].try_into().ok()?)))
        };
        let bound = index.meta("binding")?.is_some_and(|bytes| bytes[..] == options.binding[..]);
        let known = number(index.meta("replica")?);
        let (lives, is_our_key) = counters::Lives::read(&mut index, &authority)?;
        let reserved = number(index.meta("counter")?).unwrap_or(0);
        let has_room = reserved < counters::LAST_START;
        let stored = known.filter(|_| bound && is_our_key && has_room);
        let copied = known.filter(|_| !bound).map(|_| {
            let reason =
                "this folder's state was copied here, or restored from a backup".to_owned();
            Effect::Event(Event::NewReplica { reason })
        });
        let replica = stored.unwrap_or_else(|| entropy.draw());
        let counter = match stored {
            Some(_) => reserved + entropy.draw() % counters::MAX_JUMP,
            None => 0,
        };
        if stored.is_none() {
            index.put_meta("agreed", &0u64.to_le_bytes())?;
        }
        index.put_meta("binding", &options.binding)?;
        index.put_meta("replica", &replica.to_le_bytes())?;
        index.put_meta("counter", &(counter + counters::BLOCK).to_le_bytes())?;
        let first_scan_done = bound && index.meta("scanned")?.is_some();
        let latest =
            index.meta("latest")?.map(|bytes| peer::unpack_latest(&bytes)).unwrap_or_default();
        let mut unused = index.meta("unused")?.map(|bytes| unpack(&bytes)).unwrap_or_default();
        unused.retain(|_| stored.is_some());
        let used: u64 = latest.get(&ReplicaId(replica)).map_or(0, |(counter, _)| *counter);
        if used < counter {
            unused.push(Counters { first: used + 1, last: counter });
        }
        unused.drain(..unused.len().saturating_sub(counters::MAX_UNUSED));
        index.put_meta("unused", &pack(&unused))?;
        let open_intents = index.intents()?;
        let hearing = hearing::Hearing::read(&mut index)?;
        let copies = ask::copies(&mut index)?;
        let roles = roles::Roles::of(&mut index, options.mode)?;
        let brake = brake::Brake::new(index.meta(brake::META)?.as_deref(), options.accept_deletes);
        let mut engine = Self {
            index,
            authority,
            options,
            now: Now::default(),
            replica: ReplicaId(replica),
            counter,
            counter_reserved: counter + counters::BLOCK,
            said: counter,
            latest,
            own: HashMap::new(),
            unused,
            scan: scan::Scan::new(first_scan_done, open_intents),
            brake,
            reports: report::Reports::default(),
            peers: BTreeMap::new(),
            learn: learn::Learn::default(),
            fetch: fetch::Fetch::default(),
            group: group::Groups::new(entropy.draw()),
            swaps: swapped::Swaps::default(),
            keeping: keeping::Keeping::default(),
            roles,
            hearing,
            lives,
            copies,
            entropy,
            requests: 0,
            stopping: false,
            uncommitted: false,
            after_commit: Vec::new(),
            outbox: Vec::new(),
            pushed_at: 0,
            effects: copied.into_iter().collect(),
            last_progress: 0,
            last_told: 0,
            told_in_sync: None,
        };
        if !bound {
            // What was here when the index was copied or backed up proves nothing about what is here now:
            // what is absent was not deleted, and what differs is not an edit of what was there.
            engine.forget_below(&RelPath::root())?;
            engine.scan.is_copied = true;
        }
        engine.notice_power_loss()?;
        engine.know_all_of(known.filter(|_| bound && stored.is_none()).map(ReplicaId))?;
        engine.index.commit()?;
        engine.uncommitted = false;
        Ok(engine)
    }

    /// Deals with one input and returns what is to be done, in order.
    ///
    /// # Errors
    /// If the index fails; the engine must then be dropped.
    pub fn handle(&mut self, now: Now, input: Input) -> Result<Vec<Effect>, EngineError> {
        self.now = now;
        self.come_back()?;
        if self.stopping { self.note_all() } else { self.note_some() }?;
        match input {
            Input::Start => {
                self.members_changed()?;
                self.start()?;
            }
            Input::PeerUp { peer, name, device } => self.peer_up(peer, name, device)?,
            Input::PeerDown { peer } => self.peer_down(peer),
            Input::Message { peer, message } => self.message(peer, message)?,
            Input::Done(done) => self.done(done)?,
            Input::Hints(paths) => self.hints(paths),
            Input::Overflow => self.rescan(),
            Input::AcceptDeletes { id } => self.accept_deletes(id)?,
            Input::MembersChanged => self.members_changed()?,
            Input::Revert { paths } => self.revert(&paths)?,
            Input::Override { paths } => self.override_others(&paths)?,
            Input::Tick => {}
        }
        self.go_on()?;
        Ok(std::mem::take(&mut self.effects))
    }

    /// When to call again with [`Input::Tick`] if nothing else happens, in milliseconds of [`Now::ms`].
    #[must_use]
    pub fn next_wake(&self) -> u64 {
        let next =
            self.scan.next_wake(self.now.ms).min(self.learn.next_wake()).min(self.next_debt());
        let next = next.min(self.swaps.next_wake()).min(self.keeping.next_wake());
        let next = next.min(self.reports.next_wake()).min(self.next_word());
        let next = next.min(self.next_apply()).min(self.next_decision());
        let next = next.min(self.brake.next_wake(self.now.ms, !self.learn.deletes.is_empty()));
        if self.has_more_to_do() { self.now.ms } else { next }
    }

    /// Tells how many bytes wait in a peer's link, so that no more is produced than it takes away.
    pub fn set_queued(&mut self, peer: PeerId, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.serve.judge_link(self.now.ms, peer.queued, bytes);
            peer.queued = bytes;
        }
    }

    /// Begins nothing on the disk any more: what is under way is finished.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.swaps = swapped::Swaps::default();
        self.keep_time();
        self.uncommitted = true;
    }

    /// True if everything known is applied durably, skipped or held by the brake, and the disk has been
    /// looked at.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_quiet() && !self.uncommitted
    }

    /// The index, to look at.
    pub fn index(&mut self) -> &mut I {
        &mut self.index
    }

    /// Puts other patterns in force (rule E11). A rescan must follow ([`Input::Overflow`]).
    pub fn set_ignore(&mut self, ignore: Ignore) {
        self.options.ignore = ignore;
    }

    /// This replica's id.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Makes everything the index holds durable.
    ///
    /// # Errors
    /// If the index fails.
    pub fn commit(&mut self) -> Result<(), EngineError> {
        if self.uncommitted {
            let latest = peer::pack_latest(&self.latest);
            self.index.put_meta("latest", &latest)?;
            self.hearing.write_own(&mut self.index, self.stopping)?;
            self.lives.write(&mut self.index)?;
            self.note_run()?;
            self.index.commit()?;
            self.uncommitted = false;
        }
        self.effects.extend(self.after_commit.drain(..).map(Effect::Event));
        Ok(())
    }

    fn done(&mut self, done: Done) -> Result<(), EngineError> {
        match done {
            Done::Listed { dir, result } => self.listed(&dir, result),
            Done::Stated { items, since } => self.stated(items, since),
            Done::Hashed { items } => self.hashed(items),
            Done::Read { peer, request, answers } => {
                self.read_done(peer, request, answers);
                Ok(())
            }
            Done::CopiedSmall { items } => self.copied_small(items),
            Done::FoundKept { found } => {
                self.found_kept(found);
                Ok(())
            }
            Done::TookKept { content, list } => self.took_kept(content, list),
            Done::Assembled { content, transfer, result } => {
                self.assembled(content, transfer, result)
            }
            Done::Written { content, transfer, result } => self.written(content, transfer, result),
            Done::Applied { results } => self.applied(results),
            Done::LookedAgain { seen } => {
                self.looked_again(seen);
                Ok(())
            }
            Done::HistoryTidied { tidied } => self.history_tidied(tidied),
            Done::Recovered { skipped, emptied, whole } => {
                self.recovered(skipped, emptied, whole);
                Ok(())
            }
        }
    }

    /// Everything that follows from what is now known, as far as the windows allow.
    fn go_on(&mut self) -> Result<(), EngineError> {
        self.read_again();
        self.scan_on()?;
        self.keep_history()?;
        self.reconcile_on()?;
        self.fetch_on();
        self.brake_on()?;
        self.apply_on()?;
        self.look_again_on();
        self.push_on()?;
        self.pull_on()?;
        self.call_in_debts();
        self.serve_on()?;
        self.come_to_rest()
    }

    fn has_more_to_do(&self) -> bool {
        self.learn.has_work() && self.may_decide() && !self.fetch.is_full()
            || self.can_serve()
            || self.can_delete()
            || self.can_count_incoming()
            || self.can_list_made()
            || self.group.has_to_note()
    }

    fn is_quiet(&self) -> bool {
        self.scan.is_quiet()
            && self.learn.is_quiet()
            && self.deletions_rest()
            && self.fetch.is_quiet()
            && self.group.is_quiet()
            && self.keeping.is_quiet()
            && self.outbox.is_empty()
            && !self.has_backlog()
    }

    /// Commits, and tells peers and the person where things stand, once nothing is left to do.
    fn come_to_rest(&mut self) -> Result<(), EngineError> {
        if self.scan.first_scan_ended() {
            self.index.put_meta("scanned", b"1")?;
            self.uncommitted = true;
        }
        if !self.is_quiet() {
            self.tell_progress();
            return self.tell_on_the_way();
        }
        self.catch_up()?;
        self.commit()?;
        self.fetch.progress = Progress::default();
        let status = self.status(!self.brake.is_on());
        let mut agreeing = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.replica.is_none() {
                continue;
            }
            if peer.told != Some(status) {
                peer.told = Some(status);
                self.effects.push(Effect::Send { peer: *id, message: Message::Status(status) });
            }
            // Rule E25: what waits for contents that nobody has here is neither applied nor skipped.
            let complete = status.lacking == 0;
            let agrees = |theirs: Status| complete && theirs.agrees_with(&status);
            agreeing.extend(peer.status.is_some_and(agrees).then_some(*id));
        }
        let agreed = agreeing.len();
        if status.settled {
            self.agreed_with(&agreeing)?;
        }
        if agreed > 0 && agreed == self.peers.len() && status.settled {
            self.brake.has_agreed();
            // Once for each state and set of peers: coming to rest again is no news.
            let skipped = self.reports.count();
            let apart = self.apart()?;
            let theirs = self.peers.values().filter_map(|peer| peer.status);
            let lost = (status.not_applied, theirs.map(|it| it.not_applied).max().unwrap_or(0));
            let peers = self.peers.keys().copied().collect();
            let told = Some((status.root, peers, [skipped, apart, lost.0, lost.1]));
            if self.told_in_sync != told {
                self.told_in_sync = told;
                // Goes to disk with the next commit: an older value only says more again than it must.
                self.index.put_meta("agreed", &self.counter.to_le_bytes())?;
                let totals = self.index.totals();
                let (files, bytes) = (totals.files + totals.dirs, totals.bytes);
                let event = Event::InSync { files, bytes, peers: agreed, skipped, apart, lost };
                self.effects.push(Effect::Event(event));
            }
        }
        Ok(())
    }

    /// While work goes on: what is known so far is made durable now and then, and peers hear of it, so that
    /// one busy device does not keep others waiting.
    fn tell_on_the_way(&mut self) -> Result<(), EngineError> {
        if !self.uncommitted || self.now.ms < self.last_told + ON_THE_WAY_MS {
            return Ok(());
        }
        self.tell_unsettled(false)
    }

    /// Tells peers what is known here, except those whom it came from unless all are to hear.
    fn tell_unsettled(&mut self, all: bool) -> Result<(), EngineError> {
        self.last_told = self.now.ms;
        self.commit()?;
        let status = self.status(false);
        for (id, peer) in &mut self.peers {
            if peer.replica.is_some() && (all || !peer.is_giving()) {
                peer.told = Some(status);
                self.effects.push(Effect::Send { peer: *id, message: Message::Status(status) });
            }
        }
        Ok(())
    }

    fn tell_progress(&mut self) {
        if self.fetch.progress.files_total > 0 && self.now.ms >= self.last_progress + PROGRESS_MS {
            self.last_progress = self.now.ms;
            self.effects.push(Effect::Event(Event::Progress(self.fetch.progress)));
        }
    }

    fn next_request(&mut self) -> u32 {
        self.requests = self.requests.wrapping_add(1).max(1);
        self.requests
    }

    fn row(&mut self, path: &RelPath) -> Result<Row, EngineError> {
        Ok(self.index.row(path)?.unwrap_or_default())
    }

    fn put(&mut self, path: &RelPath, row: &Row) -> Result<(), EngineError> {
        self.uncommitted = true;
        self.index.put(path, row)?;
        self.note_row(path, row);
        if let Some(content) = row.here.as_ref().and_then(|here| here.content) {
            self.content_is_here(&content);
        }
        Ok(())
    }

    /// Writes down what this device did to a path: a new record that covers what the tree showed.
    fn author(&mut self, path: &RelPath, row: &mut Row, change: Change) -> Result<(), EngineError> {
        let mut siblings = Self::shared(row)?;
        let mut version = change.seen;
        let dot = self.next_dot()?;
        // The same replica never says two things with one counter, whatever it has seen.
        version.add(dot);
        let mut superseded: Vec<[u8; 16]> = Vec::new();
        let new = change.body.is_live().then(|| change.body.content().short());
        for old in siblings.records().iter().filter(|old| version.covers(&old.record.version)) {
            let content = match &old.record.body {
                Body::Tombstone { deleted } => *deleted,
                body => body.content(),
            };
            let contents = std::iter::once(content.short());
            for hash in contents.chain(old.record.superseded.iter().copied()) {
                if Some(hash) != new && !superseded.contains(&hash) {
                    superseded.push(hash);
                }
            }
        }
        superseded.truncate(MAX_SUPERSEDED);
        // A change that this one has not seen cannot be where its contents come from: then they are its own.
        let content_dot = change.content_dot.filter(|content| version.has_seen(*content));
        let record = Record {
            path: path.clone(),
            body: change.body,
            mode: change.mode,
            mtime: change.mtime,
            version,
            dot,
            content_dot: content_dot.unwrap_or(dot),
            superseded,
            found: change.found,
        }
        .seal();
        if let Some(here) = &mut row.here {
            here.base = record.record.version.clone();
            here.shown = record.hash.head();
            here.content_dot = Some(record.record.content_dot);
        }
        self.latest.insert(self.replica, (dot.counter, record.hash));
        if self.own.len() < MAX_OWN {
            self.own.insert(dot.counter, record.hash);
        }
        if !self.publishes() {
            return self.keep_local(path, row, &record);
        }
        row.local = None;
        siblings.learn(record.clone());
        row.known = known_of(&siblings);
        self.put_known(path, row, record.record.body.is_live())?;
        self.outbox.push((record, change.inline));
        self.reconcile_unless_settled(path, row)
    }
}

/// A change made on this device.
#[derive(Debug)]
struct Change {
    body: Body,
    mode: u32,
    mtime: i64,
    /// Everything the change is made on top of.
    seen: VersionVector,
    /// `None` if this very change made the content.
    content_dot: Option<Dot>,
    found: bool,
    /// The whole content, if it is small enough to ride along.
    inline: Option<Bytes>,
}

fn known_of(siblings: &Siblings) -> Vec<Known> {
    let records = siblings.records().iter();
    records.map(|record| Known { bytes: record.bytes.clone(), hash: record.hash }).collect()
}

type Paths = BTreeSet<RelPath>;
type PathSet = HashSet<RelPath>;
