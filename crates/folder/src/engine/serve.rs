//! Giving contents to peers. A request is looked at only while the link it came from drains, so that a
//! peer that asks faster than it reads costs nothing but its own patience (rule E22).

use std::collections::VecDeque;

use bytes::Bytes;
use tree::{FileKind, Place, Stat};
use wire::{
    Hash, RelPath,
    sync::{Message, Piece, PieceAnswer},
};

use super::{Authority, Effect, Engine, EngineError, PeerId, report::Trouble};
use crate::{
    index::Index,
    jobs::{Job, NotRead, ReadPiece},
};

/// Pieces of one peer that may wait to be read; more break the protocol. What honest windows add up to
/// is a fraction of it.
const MAX_PIECES: usize = 32_768;
/// Requests for lists or buckets of one peer that may wait; more break the protocol.
const MAX_LOOKUPS: usize = 256;
/// Bytes that may wait in a peer's link before its next request is looked at.
pub(super) const QUEUE_LIMIT: usize = 8 << 20;
/// Jobs of reading for one peer at once.
const READS_AT_ONCE: usize = 4;
/// Buckets looked up at once.
const BUCKETS_AT_ONCE: usize = 16;
/// Bytes read in one job, unless a single piece has more.
const READ_BYTES: u64 = 2 << 20;
/// Bytes of answers in one message, unless a single one has more.
const MESSAGE_BYTES: usize = 1 << 20;
/// A link that takes away fewer bytes a second than this is worth compressing for: one core compresses
/// several times as fast (zstd level 1).
const SLOW_LINK: u64 = 20 << 20;
/// How long a link must have been the bottleneck before it is judged, in milliseconds.
const JUDGE_MS: u64 = 500;

/// Where a content is here, with the stat its file must still have if it is in the tree.
type Source = (Place, Option<Stat>);

/// What one peer asked for.
#[derive(Debug, Default)]
pub(super) struct Serve {
    requests: VecDeque<Request>,
    pieces: usize,
    lookups: usize,
    reading: usize,
    /// Since when the link has been the bottleneck, and the bytes it has taken away since.
    busy: Option<(u64, u64)>,
    /// True if the link is slow enough for compression to pay.
    slow: bool,
    /// It asked for something that is not here, and was not told since that it may ask again.
    in_vain: bool,
}

#[derive(Debug)]
enum Request {
    Pieces(u32, VecDeque<(u32, Piece)>),
    List(u32, Hash, Vec<u32>),
    Buckets(u32, VecDeque<wire::sync::BucketAsked>),
    Nodes(u32, u8, Vec<u16>),
}

impl Serve {
    pub(super) fn get(&mut self, request: u32, pieces: Vec<Piece>) -> Result<(), String> {
        self.pieces += pieces.len();
        if self.pieces > MAX_PIECES {
            return Err(too_much());
        }
        self.requests.push_back(Request::Pieces(request, (0..).zip(pieces).collect()));
        Ok(())
    }

    pub(super) fn get_list(
        &mut self,
        request: u32,
        content: Hash,
        pages: Vec<u32>,
    ) -> Result<(), String> {
        self.look_up(Request::List(request, content, pages))
    }

    pub(super) fn get_buckets(
        &mut self,
        request: u32,
        buckets: Vec<wire::sync::BucketAsked>,
    ) -> Result<(), String> {
        self.look_up(Request::Buckets(request, buckets.into()))
    }

    pub(super) fn get_nodes(
        &mut self,
        request: u32,
        bits: u8,
        prefixes: Vec<u16>,
    ) -> Result<(), String> {
        self.look_up(Request::Nodes(request, bits, prefixes))
    }

    fn look_up(&mut self, request: Request) -> Result<(), String> {
        self.lookups += 1;
        if self.lookups > MAX_LOOKUPS {
            return Err(too_much());
        }
        self.requests.push_back(request);
        Ok(())
    }

    fn is_ready(&self, queued: usize) -> bool {
        !self.requests.is_empty() && self.reading < READS_AT_ONCE && queued < QUEUE_LIMIT
    }

    /// The next request, or as many pieces of it as one job should read.
    fn next(&mut self) -> Option<Request> {
        match self.requests.pop_front()? {
            Request::Pieces(request, mut rest) => {
                let (mut part, mut bytes) = (VecDeque::new(), 0);
                while bytes < READ_BYTES
                    && let Some((item, piece)) = rest.pop_front()
                {
                    bytes += u64::from(piece.len);
                    part.push_back((item, piece));
                }
                self.pieces -= part.len();
                if !rest.is_empty() {
                    self.requests.push_front(Request::Pieces(request, rest));
                }
                Some(Request::Pieces(request, part))
            }
            Request::Buckets(request, mut rest) if rest.len() > BUCKETS_AT_ONCE => {
                let part = rest.drain(..BUCKETS_AT_ONCE).collect();
                self.requests.push_front(Request::Buckets(request, rest));
                Some(Request::Buckets(request, part))
            }
            other => {
                self.lookups -= 1;
                Some(other)
            }
        }
    }

    /// Learns how fast the link is from what it has taken away since the last time.
    pub(super) fn judge_link(&mut self, now: u64, before: usize, queued: usize) {
        if queued == 0 {
            // It keeps up with what there is to send: nothing can be said.
            self.busy = None;
            return;
        }
        let (since, taken) = self.busy.unwrap_or((now, 0));
        let taken = taken + before.saturating_sub(queued) as u64;
        self.busy = Some((since, taken));
        let elapsed = now.saturating_sub(since);
        if elapsed >= JUDGE_MS {
            self.slow = taken * 1000 / elapsed < SLOW_LINK;
            self.busy = Some((now, 0));
        }
    }
}

fn too_much() -> String {
    "asked for more than it may at once".to_owned()
}

impl<I: Index, A: Authority> Engine<I, A> {
    pub(super) fn can_serve(&self) -> bool {
        self.peers.values().any(|peer| peer.serve.is_ready(peer.queued))
    }

    pub(super) fn serve_on(&mut self) -> Result<(), EngineError> {
        self.tell_heard();
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            while let Some(request) = self.next_served(id) {
                match request {
                    Request::Pieces(request, pieces) => self.serve_pieces(id, request, pieces)?,
                    Request::List(request, content, pages) => {
                        self.serve_list(id, request, content, &pages)?;
                    }
                    Request::Buckets(request, mut buckets) => {
                        let last = !self.is_cut(id, request);
                        self.serve_buckets(id, request, buckets.make_contiguous(), last)?;
                    }
                    Request::Nodes(request, bits, prefixes) => {
                        self.serve_nodes(id, request, bits, &prefixes);
                    }
                }
            }
        }
        Ok(())
    }

    /// True if the rest of a request for buckets still waits.
    fn is_cut(&self, id: PeerId, request: u32) -> bool {
        let next = self.peers.get(&id).and_then(|peer| peer.serve.requests.front());
        matches!(next, Some(Request::Buckets(rest, _)) if *rest == request)
    }

    fn next_served(&mut self, id: PeerId) -> Option<Request> {
        let peer = self.peers.get_mut(&id)?;
        peer.serve.is_ready(peer.queued).then(|| peer.serve.next())?
    }

    /// Looks up where each piece lies here and has it read.
    fn serve_pieces(
        &mut self,
        id: PeerId,
        request: u32,
        pieces: VecDeque<(u32, Piece)>,
    ) -> Result<(), EngineError> {
        let mut reads = Vec::with_capacity(pieces.len());
        // Most requests ask for many chunks of one file.
        let mut last: Option<(Piece, Option<Source>)> = None;
        for (item, piece) in pieces {
            let same = |(before, _): &&(Piece, Option<Source>)| {
                before.path == piece.path && before.content == piece.content
            };
            let source = match last.as_ref().filter(same) {
                Some((_, source)) => source.clone(),
                None => self.find_content(&piece.path, &piece.content)?,
            };
            let (offset, len) = (piece.offset, piece.len);
            reads.push(ReadPiece { item, source: source.clone(), offset, len });
            last = Some((piece, source));
        }
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        peer.serve.reading += 1;
        let compress = peer.serve.slow;
        self.effects.push(Effect::Job(Job::Read { peer: id, request, pieces: reads, compress }));
        Ok(())
    }

    /// Where a content is here, with the stat it must still have: at the path that was asked for, at another, or
    /// brought here and not put in place. It may lack its directory for long, and be nowhere else by now.
    fn find_content(
        &mut self,
        path: &RelPath,
        content: &Hash,
    ) -> Result<Option<Source>, EngineError> {
        if let Some(source) = self.holds(path, content)? {
            return Ok(Some(source));
        }
        for other in self.index.by_content(content)? {
            if let Some(source) = self.holds(&other, content)? {
                return Ok(Some(source));
            }
        }
        let is_whole =
            self.fetch.whole.contains(content) || self.fetch.unplaced.contains_key(content);
        Ok(is_whole.then_some((Place::Partial(*content), None)))
    }

    fn holds(&mut self, path: &RelPath, content: &Hash) -> Result<Option<Source>, EngineError> {
        let here = self.index.row(path)?.and_then(|row| row.here);
        let here =
            here.filter(|here| here.stat.kind == FileKind::File && here.content == Some(*content));
        Ok(here.map(|here| (Place::Tree(path.clone()), Some(here.stat))))
    }

    /// What was read goes out in messages of bounded size.
    pub(super) fn read_done(
        &mut self,
        id: PeerId,
        request: u32,
        answers: Vec<(PieceAnswer, Option<NotRead>)>,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.serve.reading -= 1;
        peer.serve.in_vain |= answers.iter().any(|(answer, _)| answer.data.is_none());
        let (mut part, mut bytes) = (Vec::new(), 0);
        let mut changed = Vec::new();
        let mut failed = Vec::new();
        for (answer, not_read) in answers {
            match not_read {
                // What is not as the index says has been changed: have a look at it.
                Some(NotRead::Changed(path)) => changed.push(path),
                Some(NotRead::Failed(path, why)) => failed.push((path, why)),
                None => {}
            }
            let len = answer.data.as_ref().map_or(0, |data| data.bytes.len());
            if bytes + len > MESSAGE_BYTES && !part.is_empty() {
                let answers = std::mem::take(&mut part);
                peer.queued += bytes;
                bytes = 0;
                let message = Message::Data { request, answers };
                self.effects.push(Effect::Send { peer: id, message });
            }
            bytes += len;
            part.push(answer);
        }
        if !part.is_empty() {
            peer.queued += bytes;
            let message = Message::Data { request, answers: part };
            self.effects.push(Effect::Send { peer: id, message });
        }
        self.hints(changed);
        for (path, why) in failed {
            // It is read again in a while; who asked in vain hears when it can be read. Many pieces of a file fail at once,
            // and what has another trouble keeps that.
            if self.reports.reason(path.as_str()).is_none() {
                self.skip(path.to_string(), Trouble::Read, why);
            }
        }
    }

    /// Contents are here that may not have been: who asked for some in vain hears of it, also if all that is to be said
    /// of records was said.
    pub(super) fn has_contents_again(&mut self) {
        for (id, peer) in &mut self.peers {
            if std::mem::take(&mut peer.serve.in_vain)
                && let Some(told) = &mut peer.told
            {
                told.settled = false;
                self.effects.push(Effect::Send { peer: *id, message: Message::Status(*told) });
            }
        }
    }

    fn serve_list(
        &mut self,
        id: PeerId,
        request: u32,
        content: Hash,
        wanted: &[u32],
    ) -> Result<(), EngineError> {
        let (mut ids, mut pages) = (Vec::new(), Vec::<(u32, Bytes)>::new());
        if let Some(list) = self.list_of(&content)? {
            if wanted.is_empty() {
                ids = list.page_ids().collect();
            }
            for &number in wanted {
                pages.extend(list.page(number as usize).map(|page| (number, page)));
            }
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.queued += ids.len() * 32 + pages.iter().map(|page| page.1.len()).sum::<usize>();
        }
        self.effects
            .push(Effect::Send { peer: id, message: Message::List { request, ids, pages } });
        Ok(())
    }
}
