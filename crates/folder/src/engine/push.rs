//! Sending records: what was changed here goes to every connected peer at once, in a window that the peer's
//! acknowledgements open; what does not fit waits, and what does not fit there is found by pulling.

use bytes::Bytes;
use wire::{
    record::{MAX_BATCH, SignedRecord, batch_digest, merkle_root},
    sync::{Batch, MAX_BATCHES, Message},
};

use super::{Authority, Effect, Engine, EngineError, PeerId, peer::MESSAGE_BYTES};
use crate::index::Index;

/// Bytes pushed and not yet acknowledged.
const PUSH_WINDOW: usize = 8 << 20;
/// Paths whose push waits for the window; beyond it the peer pulls.
const MAX_BACKLOG: usize = 65_536;

/// While more is being read, changes leave so many at a time, or all after that long, in milliseconds: each time they
/// are made durable first.
const PUSH_TOGETHER: usize = 2048;
const PUSH_MS: u64 = 100;

impl<I: Index, A: Authority> Engine<I, A> {
    /// Sends records under signatures that count.
    pub(super) fn send_records(
        &mut self,
        id: PeerId,
        request: u32,
        mark: u64,
        mut records: Vec<SignedRecord>,
        inline: Vec<(u32, Bytes)>,
        bytes: usize,
    ) -> Result<(), EngineError> {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.queued += bytes;
        }
        let mine = records.iter().map(|it| it.record.dot).filter(|dot| dot.replica == self.replica);
        self.said = mine.map(|dot| dot.counter).fold(self.said, u64::max);
        if !self.may_sign() {
            return self.pass_on(id, request, mark, records);
        }
        let mut batches = Vec::new();
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(MAX_BATCH));
            batches.push(self.sign(records));
            records = rest;
        }
        let message = Message::Records { request, mark, batches, inline };
        self.effects.push(Effect::Send { peer: id, message });
        Ok(())
    }

    /// Puts records into batches under this device's signature. Signing what others wrote adopts it: in
    /// a session every member may write (rules E6 and T15).
    fn sign(&self, records: Vec<SignedRecord>) -> Batch {
        let leaves: Vec<_> = records.iter().map(|record| record.hash).collect();
        let author = self.authority.device();
        let root = merkle_root(&leaves);
        let digest = batch_digest(&self.authority.scope(), &author, leaves.len(), &root);
        Batch { author, signature: self.authority.sign(&digest), records, proof: None }
    }

    /// Sends what was changed here since the last time to everybody who is connected.
    pub(super) fn push_on(&mut self) -> Result<(), EngineError> {
        if self.scan.is_reading()
            && self.outbox.len() < PUSH_TOGETHER
            && self.now.ms < self.pushed_at + PUSH_MS
        {
            return Ok(());
        }
        if !self.outbox.is_empty() && self.peers.values().any(|peer| peer.told_of_us) {
            // Rule E1: what others know of this replica, it knows itself after a loss of power.
            self.commit()?;
            self.pushed_at = self.now.ms;
        }
        let mut outbox = std::mem::take(&mut self.outbox);
        if !self.may_sign() {
            // What was said just before the right to say it was lost.
            outbox.clear();
            self.peers.values_mut().for_each(|peer| peer.backlog.clear());
        }
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            // Rule E1: what is said under an id that has had another life would count as something else. Who
            // has not told yet what it knows of this replica pulls, once it has seen that there is news.
            if self.peers.get(&id).is_none_or(|peer| !peer.told_of_us) {
                continue;
            }
            let backlog = self.take_backlog(id);
            self.push_to(id, backlog.into_iter().map(|record| (record, None)))?;
            self.push_to(id, outbox.iter().cloned())?;
        }
        Ok(())
    }

    /// Records of paths whose push had to wait, as far as the window has room again.
    fn take_backlog(&mut self, id: PeerId) -> Vec<SignedRecord> {
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        if peer.backlog.is_empty() || peer.in_window >= PUSH_WINDOW {
            return Vec::new();
        }
        let most = peer.backlog.len().min(4 * MAX_BATCH);
        let paths: Vec<_> = peer.backlog.drain(..most).collect();
        let mut records = Vec::new();
        for path in paths {
            if let Ok(row) = self.row(&path)
                && let Ok(siblings) = Self::shared(&row)
            {
                records.extend(siblings.records().iter().cloned());
            }
        }
        records
    }

    fn push_to(
        &mut self,
        id: PeerId,
        records: impl Iterator<Item = (SignedRecord, Option<Bytes>)>,
    ) -> Result<(), EngineError> {
        let (mut part, mut inline, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (record, content) in records {
            let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
            if peer.in_window + bytes >= PUSH_WINDOW {
                if peer.backlog.len() < MAX_BACKLOG {
                    peer.backlog.push_back(record.record.path.clone());
                }
                continue;
            }
            bytes += record.bytes.len() + content.as_ref().map_or(0, Bytes::len);
            if let (Some(content), Ok(number)) = (content, u32::try_from(part.len())) {
                inline.push((number, content));
            }
            part.push(record);
            if bytes >= MESSAGE_BYTES || part.len() >= MAX_BATCHES * MAX_BATCH {
                self.push_part(id, std::mem::take(&mut part), std::mem::take(&mut inline), bytes)?;
                bytes = 0;
            }
        }
        if !part.is_empty() {
            self.push_part(id, part, inline, bytes)?;
        }
        Ok(())
    }

    fn push_part(
        &mut self,
        id: PeerId,
        records: Vec<SignedRecord>,
        inline: Vec<(u32, Bytes)>,
        bytes: usize,
    ) -> Result<(), EngineError> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        peer.pushed += 1;
        peer.in_window += bytes;
        let mark = peer.pushed;
        peer.unacknowledged.push_back((mark, bytes));
        self.send_records(id, 0, mark, records, inline, bytes)
    }

    pub(super) fn has_backlog(&self) -> bool {
        self.peers.values().any(|peer| !peer.backlog.is_empty())
    }
}
