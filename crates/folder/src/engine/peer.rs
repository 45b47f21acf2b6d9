//! Comparing records with a peer: who speaks (rule E1), where each stands, pulling what is lacking by
//! fingerprints of hash buckets, and pushing what is new.
//!
//! Each side pulls what it lacks; nothing is remembered of a peer between links. Two devices with equal
//! records know it from one status each.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use identity::DeviceId;
use wire::{
    Hash, RelPath,
    heard::Statement,
    record::{MAX_BATCH, SignedRecord, batch_digest, merkle_root, merkle_root_from},
    sync::{Batch, BucketAsked, Fingerprint, MAX_BATCHES, Message, Status},
    version::{Dot, ReplicaId},
};

use super::{
    Authority, Effect, Engine, EngineError, PeerId,
    pull::{Pull, children_of},
    serve::{QUEUE_LIMIT, Serve},
};
use crate::index::{Index, Known};

/// Bytes of records and contents in one message.
pub(super) const MESSAGE_BYTES: usize = 1 << 20;
/// How long a peer may owe an answer without a word, in milliseconds.
const PATIENCE_MS: u64 = 120_000;
/// Replicas whose last change is remembered for hellos.
pub(super) const MAX_LATEST: usize = 1024;

/// One connected peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) name: String,
    /// Whose link it is, as it proved; `None` in a session.
    pub(super) device: Option<DeviceId>,
    /// What that device itself has said last over this link to know (rule E4).
    pub(super) stated: Option<Statement>,
    /// Members whose last words it was not told yet.
    pub(super) untold: BTreeSet<DeviceId>,
    /// Until when what it was told of them lasts, at one message in a while.
    pub(super) words_spent: u64,
    /// Known once its hello came.
    pub(super) replica: Option<ReplicaId>,
    /// The last status it sent.
    pub(super) status: Option<Status>,
    /// How often its status has changed.
    news: u32,
    /// True once it has said what it knows of this replica.
    pub(super) told_of_us: bool,
    /// Since when something that it owes has not come, in milliseconds.
    owing: Option<u64>,
    /// The last settled status it was sent.
    pub(super) told: Option<Status>,
    /// Bytes waiting in its link.
    pub(super) queued: usize,
    pub(super) serve: Serve,
    pub(super) pull: Option<Pull>,
    /// Until when records that it gives are gathered, once, before they are decided, in milliseconds.
    pub(super) gathers: Option<u64>,
    /// The peer's fingerprint that the last pull was made for.
    pub(super) pulled: Option<Fingerprint>,
    /// Something that it has was refused, or is lacking though all was compared: when it is asked again, and
    /// after how long a wait the next time, in milliseconds.
    pub(super) again: Option<u64>,
    pub(super) again_after: u64,
    pub(super) pushed: u64,
    pub(super) unacknowledged: VecDeque<(u64, usize)>,
    pub(super) in_window: usize,
    pub(super) backlog: VecDeque<RelPath>,
}

impl Peer {
    /// True if its link takes more.
    pub(super) fn has_room(&self) -> bool {
        self.queued < QUEUE_LIMIT
    }

    /// True while records come from it: it knows them already.
    pub(super) fn is_giving(&self) -> bool {
        self.pull.is_some()
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    pub(super) fn peer_up(
        &mut self,
        id: PeerId,
        name: String,
        device: Option<DeviceId>,
    ) -> Result<(), EngineError> {
        self.peers.insert(id, Peer { name, device, ..Peer::default() });
        let hello = Message::Hello { replica: self.replica };
        self.effects.push(Effect::Send { peer: id, message: hello });
        let status = self.status(false);
        self.effects.push(Effect::Send { peer: id, message: Message::Status(status) });
        Ok(())
    }

    /// What peers are told of how things stand here.
    pub(super) fn status(&self, settled: bool) -> Status {
        let root = self.index.fingerprint(0, 0);
        let (lacking, not_applied) = (self.fetch.lacking(), self.reports.not_applied());
        Status { root, settled, lacking, not_applied }
    }

    pub(super) fn peer_down(&mut self, id: PeerId) {
        self.peers.remove(&id);
        self.fetch_peer_down(id);
    }

    /// Counts how often a peer has told of news.
    pub(super) fn news_of(&self, id: PeerId) -> u32 {
        self.peers.get(&id).map_or(0, |peer| peer.news)
    }

    pub(super) fn peer_name(&self, id: Option<PeerId>) -> String {
        id.and_then(|id| self.peers.get(&id)).map(|peer| peer.name.clone()).unwrap_or_default()
    }

    pub(super) fn message(&mut self, id: PeerId, message: Message) -> Result<(), EngineError> {
        if !self.peers.contains_key(&id) {
            return Ok(());
        }
        if let Err(reason) = self.dispatch(id, message)? {
            self.effects.push(Effect::Disconnect { peer: id, reason });
            self.peer_down(id);
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        id: PeerId,
        message: Message,
    ) -> Result<Result<(), String>, EngineError> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(Ok(())) };
        // It answers, however slowly.
        peer.owing = None;
        if peer.replica.is_none() && !matches!(message, Message::Hello { .. }) {
            return Ok(Err("spoke before its hello".to_owned()));
        }
        Ok(match message {
            Message::Hello { replica } => return self.hello(id, replica),
            Message::Known { .. } if std::mem::replace(&mut peer.told_of_us, true) => {
                Err("answered a hello twice".to_owned())
            }
            Message::Known { replica, counter, hash } => {
                return self.known_of_us(id, replica, counter, hash);
            }
            Message::Status(status) => {
                let before = peer.status.replace(status);
                if before.is_some_and(|before| before.root != status.root) {
                    // It may have lost something, and have it again (rule E7).
                    peer.pulled = None;
                }
                if before != Some(status) {
                    peer.news = peer.news.wrapping_add(1);
                    self.peer_has_news(id);
                }
                Ok(())
            }
            Message::GetNodes { request, bits, prefixes } => {
                peer.serve.get_nodes(request, bits, prefixes)
            }
            Message::Nodes { request, nodes } => self.nodes(id, request, &nodes),
            Message::GetBuckets { request, buckets } => peer.serve.get_buckets(request, buckets),
            Message::Records { request, mark, batches, inline } => {
                return self.records(id, request, mark, batches, inline);
            }
            Message::Ack { mark } => {
                while let Some((_, bytes)) = peer.unacknowledged.pop_front_if(|sent| sent.0 <= mark)
                {
                    peer.in_window -= bytes;
                }
                Ok(())
            }
            Message::Get { request, pieces } => peer.serve.get(request, pieces),
            Message::Data { request, answers } => self.data(id, request, answers),
            Message::GetList { request, path: _, content, pages } => {
                peer.serve.get_list(request, content, pages)
            }
            Message::List { request, ids, pages } => self.list(id, request, ids, pages),
            Message::Heard(heard) => return self.heard(id, heard),
        })
    }

    fn hello(&mut self, id: PeerId, replica: ReplicaId) -> Result<Result<(), String>, EngineError> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(Ok(())) };
        if peer.replica.replace(replica).is_some() {
            return Ok(Err("said hello twice".to_owned()));
        }
        let is_another = peer.device.is_some_and(|device| device != self.authority.device());
        if replica == self.replica && is_another {
            // An index that another key opens takes another id: nobody honest has this one.
            return Ok(Err("said hello with the replica id of this device".to_owned()));
        }
        let (counter, hash) = self.latest.get(&replica).copied().unwrap_or_default();
        let message = Message::Known { replica, counter, hash };
        self.effects.push(Effect::Send { peer: id, message });
        self.tell_all_heard(id)?;
        if replica == self.replica {
            self.new_replica("another device has a copy of this folder's state", 0)?;
        }
        self.learn.unblock_all();
        self.peer_has_news(id);
        Ok(Ok(()))
    }

    /// True if a record with this counter, said to be this replica's, was not made in this life of it
    /// (rule E1).
    pub(super) fn is_from_another_life(&self, counter: u64, hash: &Hash) -> bool {
        let latest = self.latest.get(&self.replica).copied().unwrap_or_default();
        counter > self.counter
            || self.own.get(&counter).is_some_and(|own| own != hash)
            || counter == latest.0 && *hash != latest.1
    }

    /// Remembers the last change of a replica, for hellos. Its hash is all zeros ([`Hash::default`]) where only
    /// changes that have seen it are known.
    pub(super) fn note_latest(&mut self, dot: Dot, hash: Hash) {
        if let Some(latest) = self.latest.get_mut(&dot.replica) {
            if latest.0 < dot.counter || latest.0 == dot.counter && latest.1 == Hash::default() {
                *latest = (dot.counter, hash);
            }
        } else if self.latest.len() < MAX_LATEST || self.makes_room(dot.replica, hash) {
            self.latest.insert(dot.replica, (dot.counter, hash));
        }
    }

    /// Anybody can invent replicas: those that only vectors name make room for one that has said something, and what
    /// nobody has called its own makes room for what somebody has. False if this one has no better claim.
    fn makes_room(&mut self, replica: ReplicaId, hash: Hash) -> bool {
        let is_owned = |replica: &ReplicaId| self.hearing.owners.contains_key(replica);
        let others = self.latest.iter().filter(|(other, _)| **other != self.replica);
        let weaker = others.filter(|(other, (_, said))| {
            let is_named_only = *said == Hash::default() && hash != Hash::default();
            !is_owned(other) && (is_owned(&replica) || is_named_only)
        });
        let Some(weakest) = weaker.map(|(other, _)| *other).min() else { return false };
        self.latest.remove(&weakest).is_some()
    }

    /// Rule E1: a peer that knows more of this replica than it does itself, or something else under the
    /// same counter, has met a later life of it.
    fn known_of_us(
        &mut self,
        id: PeerId,
        replica: ReplicaId,
        counter: u64,
        hash: Hash,
    ) -> Result<Result<(), String>, EngineError> {
        if replica != self.replica || counter == 0 {
            return Ok(Ok(()));
        }
        // Said by a life that went on from the state this index had when it was opened.
        let forked = self.unused.iter().find(|it| (it.first..=it.last).contains(&counter));
        let another = if hash == Hash::default() {
            // Only what has seen it was met: whether it is what was said here, its number alone can tell.
            counter > self.said
        } else {
            self.is_from_another_life(counter, &hash)
        };
        if another || forked.is_some() {
            let common = forked.map_or(0, |it| it.first - 1);
            let device = self.peers.get(&id).and_then(|peer| peer.device);
            if !self.lives.may_end(device) {
                let reason = "said again and again that this folder's state is older";
                return Ok(Err(reason.to_owned()));
            }
            let reason = "this folder's state is older than what another device knows of it";
            self.new_replica(reason, common)?;
        }
        Ok(Ok(()))
    }

    /// Sends what some buckets hold beyond what the peer has.
    pub(super) fn serve_buckets(
        &mut self,
        id: PeerId,
        request: u32,
        buckets: &[BucketAsked],
        last: bool,
    ) -> Result<(), EngineError> {
        // Rule E1, as for what is pushed.
        self.commit()?;
        let mut part: Vec<SignedRecord> = Vec::new();
        let mut bytes = 0;
        for asked in buckets {
            let have: std::collections::HashSet<_> = asked.have.iter().collect();
            for (_, known) in self.index.bucket(asked.bucket)? {
                for Known { bytes: record, hash } in known {
                    if have.contains(&hash.short()) {
                        continue;
                    }
                    bytes += record.len();
                    part.push(SignedRecord::parse(record)?);
                    if bytes >= MESSAGE_BYTES || part.len() >= MAX_BATCHES * MAX_BATCH {
                        let records = std::mem::take(&mut part);
                        self.send_records(id, request, 0, records, Vec::new(), bytes)?;
                        bytes = 0;
                    }
                }
            }
        }
        if last || !part.is_empty() {
            self.send_records(id, request, u64::from(last), part, Vec::new(), bytes)?;
        }
        Ok(())
    }

    fn records(
        &mut self,
        id: PeerId,
        request: u32,
        mark: u64,
        batches: Vec<Batch>,
        inline: Vec<(u32, Bytes)>,
    ) -> Result<Result<(), String>, EngineError> {
        let counting = match self.check_batches(&batches) {
            Ok(counting) => counting,
            Err(reason) => return Ok(Err(reason)),
        };
        if request != 0 {
            let peer = self.peers.get_mut(&id);
            let pull = peer.and_then(|peer| peer.pull.as_mut());
            let Some(pull) = pull.filter(|pull| pull.asked.contains(&request)) else {
                return Ok(Err("answered what was not asked".to_owned()));
            };
            if mark == 1 {
                pull.asked.retain(|asked| *asked != request);
            }
        }
        self.take_batches(id, batches, &counting, inline)?;
        if request == 0 {
            self.effects.push(Effect::Send { peer: id, message: Message::Ack { mark } });
        }
        Ok(Ok(()))
    }

    /// Rule E6: every batch is signed by somebody who may write. In a group that lasts, others are only
    /// left out: who sent them may not have heard yet that their author lost the right.
    fn check_batches(&self, batches: &[Batch]) -> Result<Vec<bool>, String> {
        let mut counting = Vec::with_capacity(batches.len());
        for batch in batches {
            if self.authority.lasts() && !self.authority.may_write(&batch.author) {
                counting.push(false);
                continue;
            }
            counting.push(true);
            let leaves: Vec<_> = batch.records.iter().map(|record| record.hash).collect();
            let (root, count) = match (&batch.proof, leaves.first()) {
                (None, _) => (Some(merkle_root(&leaves)), leaves.len()),
                (Some(proof), Some(leaf)) => {
                    let (index, count) = (proof.index as usize, proof.count as usize);
                    (merkle_root_from(*leaf, index, count, &proof.path), count)
                }
                (Some(_), None) => (None, 0),
            };
            let signed = root.is_some_and(|root| {
                let digest = batch_digest(&self.authority.scope(), &batch.author, count, &root);
                self.authority.verify(&batch.author, &digest, &batch.signature)
            });
            if !signed {
                return Err("sent records that nobody who may write has signed".to_owned());
            }
        }
        Ok(counting)
    }

    /// Sends the fingerprints below some prefixes.
    pub(super) fn serve_nodes(&mut self, id: PeerId, request: u32, bits: u8, prefixes: &[u16]) {
        let children = prefixes.iter().flat_map(|prefix| children_of(*prefix));
        let nodes: Vec<_> =
            children.map(|prefix| self.index.fingerprint(bits + 6, prefix)).collect();
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.queued += nodes.len() * 40;
        }
        let message = Message::Nodes { request, nodes };
        self.effects.push(Effect::Send { peer: id, message });
    }

    /// Ends links whose peers owe an answer and say nothing: others may have what they hold back.
    pub(super) fn call_in_debts(&mut self) {
        let now = self.now.ms;
        let mut silent = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.pull.is_none() && !self.fetch.awaits(*id) {
                peer.owing = None;
            } else if now >= peer.owing.get_or_insert(now).saturating_add(PATIENCE_MS) {
                silent.push(*id);
            }
        }
        for id in silent {
            let reason = "did not answer for two minutes".to_owned();
            self.effects.push(Effect::Disconnect { peer: id, reason });
            self.peer_down(id);
        }
    }

    pub(super) fn next_debt(&self) -> u64 {
        let owing = self.peers.values().filter_map(|peer| peer.owing);
        let again = self.peers.values().filter(|peer| peer.pull.is_none() && peer.status.is_some());
        let again = again.filter_map(|peer| peer.again).min().unwrap_or(u64::MAX);
        owing.min().map_or(u64::MAX, |since| since.saturating_add(PATIENCE_MS)).min(again)
    }
}

/// What hellos tell of other replicas, as the index keeps it: 48 bytes each.
pub(super) fn pack_latest(latest: &HashMap<ReplicaId, (u64, Hash)>) -> Vec<u8> {
    let mut entries: Vec<_> = latest.iter().collect();
    entries.sort_unstable_by_key(|(replica, _)| **replica);
    let mut bytes = Vec::with_capacity(entries.len() * 48);
    for (replica, (counter, hash)) in entries.into_iter().take(MAX_LATEST) {
        bytes.extend_from_slice(&replica.0.to_le_bytes());
        bytes.extend_from_slice(&counter.to_le_bytes());
        bytes.extend_from_slice(&hash.0);
    }
    bytes
}

/// Reads what [`pack_latest`] wrote; what makes no sense is left out.
pub(super) fn unpack_latest(bytes: &[u8]) -> HashMap<ReplicaId, (u64, Hash)> {
    let (entries, _) = bytes.as_chunks::<48>();
    let entry = |entry: &[u8; 48]| {
        let replica = u64::from_le_bytes(entry[..8].try_into().ok()?);
        let counter = u64::from_le_bytes(entry[8..16].try_into().ok()?);
        Some((ReplicaId(replica), (counter, Hash::from_slice(&entry[16..])?)))
    };
    entries.iter().filter_map(entry).collect()
}
