//! Asking for records: which ones a peer has that are lacking here is found by fingerprints of hash buckets.

use std::collections::{BTreeMap, VecDeque};

use wire::sync::{BucketAsked, Fingerprint, MAX_BUCKETS_ASKED, MAX_HAVE, MAX_PREFIXES, Message};

use super::{Authority, Effect, Engine, EngineError, PeerId};
use crate::index::Index;

/// Requests for buckets under way at once.
const BUCKET_REQUESTS: usize = 4;
/// Records expected from one request for buckets.
const BUCKET_RECORDS: u64 = 4096;
/// So many records that differ are known before any of them is decided.
const GATHER_FROM: u64 = 256;
/// But not for longer than this on one link, in milliseconds.
const GATHER_MS: u64 = 5_000;
/// A peer that still has other records once all was compared is compared with again after this long, then twice
/// that, and so on (rule E23), in milliseconds.
const COMPARE_MS: u64 = 10_000;
/// The longest such wait, in milliseconds.
const COMPARE_MAX_MS: u64 = 600_000;
/// A peer of whose records some were refused is asked again after this long, then twice that, and so on, in
/// milliseconds: meanwhile it hears that their author may not write, or gets the word of somebody who may.
const AGAIN_MS: u64 = 1_000;
/// The longest such wait, in milliseconds.
const AGAIN_MAX_MS: u64 = 60_000;

/// Finding out which records a peer has that are lacking here.
#[derive(Debug)]
pub(super) struct Pull {
    /// Requests for nodes: the prefixes asked for, and their bits.
    nodes: BTreeMap<u32, (u8, Vec<u16>)>,
    /// Inner prefixes that differ and were not asked for yet.
    inner: VecDeque<u16>,
    /// Buckets that differ, with the records the peer has in each.
    buckets: VecDeque<(u16, u64)>,
    pub(super) asked: Vec<u32>,
    /// How many records it is about, as far as is known.
    records: u64,
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// Starts and continues pulls where a peer's records differ from ours.
    pub(super) fn pull_on(&mut self) -> Result<(), EngineError> {
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.begin_pull(id);
            self.ask_buckets(id)?;
        }
        Ok(())
    }

    /// What was left out before may count now: everything is compared again.
    pub(super) fn compare_again(&mut self) {
        for peer in self.peers.values_mut() {
            (peer.pulled, peer.again, peer.again_after) = (None, None, 0);
        }
    }

    /// Something that a peer sent was refused.
    pub(super) fn was_refused(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.again.is_none()
        {
            peer.again_after = (peer.again_after * 2).clamp(AGAIN_MS, AGAIN_MAX_MS);
            peer.again = Some(self.now.ms + peer.again_after);
        }
    }

    pub(super) fn begin_pull(&mut self, id: PeerId) {
        let root = self.index.fingerprint(0, 0);
        let request = self.next_request();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(status) = peer.status.filter(|_| peer.replica.is_some()) else { return };
        if peer.pull.is_some() {
            return;
        }
        if status.root == root {
            (peer.again, peer.again_after) = (None, 0);
            return;
        }
        let again = peer.again.take_if(|at| *at <= self.now.ms).is_some();
        if peer.pulled == Some(status.root) && !again {
            return;
        }
        peer.pulled = Some(status.root);
        if status.root.count == 0 {
            return;
        }
        peer.pull = Some(Pull {
            nodes: BTreeMap::from([(request, (0, vec![0]))]),
            inner: VecDeque::new(),
            buckets: VecDeque::new(),
            asked: Vec::new(),
            records: 0,
        });
        let message = Message::GetNodes { request, bits: 0, prefixes: vec![0] };
        self.effects.push(Effect::Send { peer: id, message });
    }

    pub(super) fn nodes(
        &mut self,
        id: PeerId,
        request: u32,
        nodes: &[Fingerprint],
    ) -> Result<(), String> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        let pull = peer.pull.as_mut().ok_or("answered what was not asked")?;
        let (bits, prefixes) = pull.nodes.remove(&request).ok_or("answered what was not asked")?;
        if nodes.len() != prefixes.len() * 64 {
            return Err("sent another number of fingerprints than asked for".to_owned());
        }
        let children = prefixes.iter().flat_map(|prefix| children_of(*prefix));
        for (child, theirs) in children.zip(nodes) {
            if theirs.count > 0 && self.index.fingerprint(bits + 6, child) != *theirs {
                if bits == 0 {
                    pull.inner.push_back(child);
                } else {
                    pull.buckets.push_back((child, theirs.count));
                    pull.records += theirs.count;
                }
            }
        }
        if pull.records >= GATHER_FROM {
            peer.gathers.get_or_insert(self.now.ms + GATHER_MS);
        }
        Ok(())
    }

    pub(super) fn ask_buckets(&mut self, id: PeerId) -> Result<(), EngineError> {
        loop {
            let request = self.next_request();
            let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
            let Some(pull) = &mut peer.pull else { return Ok(()) };
            if !pull.inner.is_empty() && pull.nodes.is_empty() {
                let most = pull.inner.len().min(MAX_PREFIXES);
                let prefixes: Vec<_> = pull.inner.drain(..most).collect();
                pull.nodes.insert(request, (6, prefixes.clone()));
                let message = Message::GetNodes { request, bits: 6, prefixes };
                self.effects.push(Effect::Send { peer: id, message });
                continue;
            }
            if pull.buckets.is_empty() && pull.asked.is_empty() && pull.nodes.is_empty() {
                peer.pull = None;
                if peer.again.is_none() {
                    peer.again_after = (peer.again_after * 2).clamp(COMPARE_MS, COMPARE_MAX_MS);
                    peer.again = Some(self.now.ms + peer.again_after);
                }
                return Ok(());
            }
            if pull.buckets.is_empty()
                || pull.asked.len() >= BUCKET_REQUESTS
                || self.fetch.is_full()
            {
                return Ok(());
            }
            let (mut numbers, mut expected) = (Vec::new(), 0);
            while expected < BUCKET_RECORDS
                && numbers.len() < MAX_BUCKETS_ASKED
                && let Some((bucket, count)) = pull.buckets.pop_front()
            {
                numbers.push(bucket);
                expected += count;
            }
            numbers.sort_unstable();
            pull.asked.push(request);
            let mut buckets = Vec::new();
            let mut total = 0;
            for bucket in numbers {
                let rows = self.index.bucket(bucket)?;
                let known = rows.iter().flat_map(|(_, known)| known);
                let room = MAX_HAVE - total;
                let have: Vec<_> = known.map(|known| known.hash.short()).take(room).collect();
                total += have.len();
                buckets.push(BucketAsked { bucket, have });
            }
            let message = Message::GetBuckets { request, buckets };
            self.effects.push(Effect::Send { peer: id, message });
        }
    }

    /// Until when so many records come from a peer that it is better to know them before they are decided, in
    /// milliseconds; 0 if that is not so.
    pub(super) fn gathers_until(&self) -> u64 {
        let pulling = self.peers.values().filter(|peer| peer.pull.is_some());
        pulling.filter_map(|peer| peer.gathers).max().unwrap_or(0)
    }

    /// True while records may still come that make a deletion unnecessary.
    pub(super) fn is_comparing(&self) -> bool {
        self.peers.values().any(|peer| peer.pull.is_some())
    }
}

/// The 64 prefixes, six bits longer, below a prefix.
pub(super) fn children_of(prefix: u16) -> impl Iterator<Item = u16> {
    (0..64).map(move |n| (prefix << 6) | n)
}
