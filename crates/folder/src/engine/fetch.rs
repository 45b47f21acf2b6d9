//! Bringing contents here: from another place in the folder where they are here already (rule E15),
//! otherwise from a peer, many small files to a request and large ones chunk by chunk.
//!
//! Everything is asked for in windows, so that what is on its way is bounded whatever a peer does, and
//! everything is verified by hash before it goes anywhere. A download that breaks off stays in
//! `.kin/partial` and goes on where it stopped.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use tree::Place;
use wire::{
    Hash, RelPath,
    record::{Body, SignedRecord},
    sync::{MAX_PIECE, Message, Piece, PieceAnswer},
};

use super::{
    Authority, Effect, Engine, EngineError, PeerId, Progress, group::Source, local,
    report::Trouble, transfer::Transfer,
};
use crate::{
    compress,
    content::{Chunk, ChunkList},
    index::{Here, Index, Row},
    jobs::{CopyItem, Failure, Job},
};

/// Contents wanted at once; beyond it no further paths are decided.
const MAX_WANTED: usize = 6144;
/// Requests for small contents under way to one peer.
const SMALL_REQUESTS: usize = 6;
/// Small contents in one request.
const SMALL_ITEMS: usize = 256;
/// Bytes of small contents in one request, unless a single one has more.
const SMALL_BYTES: u64 = 1 << 20;
/// Why a path waits whose contents are asked for in vain.
const NO_SOURCE: &str = "no connected device has its contents now; it comes when one does";
/// Jobs of copying small contents within the folder at once.
const COPY_JOBS: usize = 2;

/// A path that waits for contents, with all that its apply needs.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) record: SignedRecord,
    pub(super) here: Option<Here>,
    pub(super) copy: Option<(RelPath, SignedRecord)>,
}

/// A content that is wanted.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) size: u64,
    pub(super) paths: BTreeMap<RelPath, Pending>,
    /// Peers that do not have it.
    pub(super) tried: Vec<PeerId>,
    pub(super) state: WantState,
    /// True once history was looked through for it.
    pub(super) searched: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WantState {
    Queued,
    UnderWay,
    /// No connected peer has it.
    Waiting,
}

#[derive(Debug)]
pub(super) enum Asked {
    Small(Vec<Hash>),
    Ids(Hash),
    Pages(Hash),
    Chunks(Hash, Vec<Option<(Chunk, Vec<u64>)>>),
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) peer: PeerId,
    /// How often the peer had told of news when it was asked.
    pub(super) news: u32,
    pub(super) asked: Asked,
}

/// What is being brought here.
#[derive(Debug, Default)]
pub(super) struct Fetch {
    pub(super) wants: BTreeMap<Hash, Want>,
    by_path: HashMap<RelPath, Hash>,
    /// How many of those paths lie in each directory.
    by_dir: HashMap<RelPath, usize>,
    small: VecDeque<Hash>,
    pub(super) large: VecDeque<Hash>,
    /// Small contents that an interrupted run left in `.kin/partial`.
    pub(super) whole: HashSet<Hash>,
    /// Large contents that are whole in `.kin/partial`, and not in place yet: what they lie in may lack for long. The
    /// index forgets the list of a content that nothing in the tree has.
    pub(super) unplaced: HashMap<Hash, ChunkList>,
    pub(super) copies: VecDeque<CopyItem>,
    copy_jobs: usize,
    pub(super) transfers: BTreeMap<Hash, Transfer>,
    requests: BTreeMap<u32, Request>,
    waiting: usize,
    /// Contents that history is to be looked through for, and whether that goes on.
    pub(super) to_search: BTreeSet<Hash>,
    pub(super) searching: bool,
    pub(super) progress: Progress,
}

impl Fetch {
    pub(super) fn is_quiet(&self) -> bool {
        self.wants.len() == self.waiting && self.to_search.is_empty() && !self.searching
    }

    /// True if a path that lies in this directory waits for contents.
    pub(super) fn wants_in(&self, dir: &RelPath) -> bool {
        self.by_dir.contains_key(dir)
    }

    fn note_path(&mut self, path: &RelPath, content: Hash) {
        if self.by_path.insert(path.clone(), content).is_none()
            && let Some(dir) = path.parent()
        {
            *self.by_dir.entry(dir).or_default() += 1;
        }
    }

    fn drop_path(&mut self, path: &RelPath) -> Option<Hash> {
        let content = self.by_path.remove(path)?;
        let dir = path.parent()?;
        if let Some(paths) = self.by_dir.get_mut(&dir) {
            *paths -= 1;
            if *paths == 0 {
                self.by_dir.remove(&dir);
            }
        }
        Some(content)
    }

    /// True if a path waits for contents.
    pub(super) fn wants_path(&self, path: &RelPath) -> bool {
        self.by_path.contains_key(path)
    }

    /// True if a path waits for contents that no connected peer has.
    pub(super) fn is_lacking(&self, path: &RelPath) -> bool {
        let want = self.by_path.get(path).and_then(|content| self.wants.get(content));
        want.is_some_and(|want| want.state == WantState::Waiting)
    }

    /// True if something that was asked of a peer has not been answered yet.
    pub(super) fn awaits(&self, peer: PeerId) -> bool {
        self.requests.values().any(|request| request.peer == peer)
    }

    /// Contents that no connected peer has.
    pub(super) fn lacking(&self) -> u64 {
        self.waiting as u64
    }

    pub(super) fn is_full(&self) -> bool {
        self.wants.len() - self.waiting >= MAX_WANTED
    }

    /// A path does not need what it waited for any more.
    pub(super) fn forget(&mut self, path: &RelPath) {
        let Some(content) = self.drop_path(path) else { return };
        let Some(want) = self.wants.get_mut(&content) else { return };
        want.paths.remove(path);
        if want.paths.is_empty() {
            self.drop_want(&content);
        }
    }

    pub(super) fn drop_want(&mut self, content: &Hash) -> Option<Want> {
        let want = self.wants.remove(content)?;
        self.waiting -= usize::from(want.state == WantState::Waiting);
        self.drop_transfer(content);
        for path in want.paths.keys() {
            self.drop_path(path);
        }
        Some(want)
    }

    /// Ends a transfer: answers to what it asked for are not waited for any more.
    pub(super) fn drop_transfer(&mut self, content: &Hash) {
        if self.transfers.remove(content).is_some() {
            self.requests.retain(|_, request| match &request.asked {
                Asked::Ids(of) | Asked::Pages(of) | Asked::Chunks(of, _) => of != content,
                Asked::Small(_) => true,
            });
        }
    }

    pub(super) fn set_state(&mut self, content: &Hash, state: WantState) {
        if let Some(want) = self.wants.get_mut(content) {
            // What waits for somebody who has it is no work to be done now.
            if want.state == WantState::Waiting && state != WantState::Waiting {
                self.progress.files_total += 1;
                self.progress.bytes_total += want.size;
            } else if want.state != WantState::Waiting && state == WantState::Waiting {
                self.progress.files_total = self.progress.files_total.saturating_sub(1);
                self.progress.bytes_total = self.progress.bytes_total.saturating_sub(want.size);
            }
            self.waiting -= usize::from(want.state == WantState::Waiting);
            self.waiting += usize::from(state == WantState::Waiting);
            want.state = state;
        }
    }

    pub(super) fn enqueue(&mut self, content: Hash) {
        self.set_state(&content, WantState::Queued);
        let Some(want) = self.wants.get(&content) else { return };
        if local::is_small(want.size) {
            self.small.push_back(content);
        } else {
            self.drop_transfer(&content);
            self.large.push_back(content);
        }
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// Puts a file or link in place as soon as its contents are at hand.
    pub(super) fn place(
        &mut self,
        path: &RelPath,
        row: &Row,
        winner: &SignedRecord,
        copy: Option<(RelPath, SignedRecord)>,
    ) -> Result<(), EngineError> {
        let pending = Pending { record: winner.clone(), here: row.here.clone(), copy };
        let (size, content) = match &winner.record.body {
            Body::Symlink { target } => {
                let source = Source::Link(target.clone());
                self.fetch.forget(path);
                self.apply_place(path.clone(), pending, source);
                return Ok(());
            }
            Body::File { size, content } => (*size, *content),
            Body::Dir | Body::Tombstone { .. } => return Ok(()),
        };
        let at_hand = if size == 0 {
            Some(local::empty_content().1)
        } else {
            self.learn.inline(&content).filter(|bytes| bytes.len() as u64 == size)
        };
        if let Some(bytes) = at_hand
            && Hash::of(&bytes) == content
        {
            self.fetch.forget(path);
            self.apply_place(path.clone(), pending, Source::Bytes(bytes));
            return Ok(());
        }
        if self.fetch.by_path.get(path).is_some_and(|wanted| *wanted != content) {
            self.fetch.forget(path);
        }
        self.fetch.note_path(path, content);
        if let Some(want) = self.fetch.wants.get_mut(&content) {
            want.paths.insert(path.clone(), pending);
            let is_told = want.state == WantState::Waiting && want.searched;
            if is_told && !self.fetch.searching && !self.fetch.to_search.contains(&content) {
                self.skip(path.to_string(), Trouble::Apply, NO_SOURCE);
            }
            return Ok(());
        }
        self.fetch.progress.files_total += 1;
        self.fetch.progress.bytes_total += size;
        let paths = BTreeMap::from([(path.clone(), pending)]);
        let want =
            Want { size, paths, tried: Vec::new(), state: WantState::Queued, searched: false };
        self.fetch.wants.insert(content, want);
        let here =
            if local::is_small(size) { self.index.by_content(&content)? } else { Vec::new() };
        let source = here.into_iter().find(|source| !self.group.is_busy(source)).map(Place::Tree);
        let left = self.fetch.whole.contains(&content).then_some(Place::Partial(content));
        if let Some(source) = source.or(left) {
            self.fetch.set_state(&content, WantState::UnderWay);
            self.fetch.copies.push_back(CopyItem { source, content, size });
        } else {
            self.fetch.enqueue(content);
        }
        Ok(())
    }

    /// Asks for what is wanted, as far as the windows allow.
    pub(super) fn fetch_on(&mut self) {
        self.search_on();
        while self.fetch.copy_jobs < COPY_JOBS && !self.fetch.copies.is_empty() {
            let most = self.fetch.copies.len().min(SMALL_ITEMS);
            let items = self.fetch.copies.drain(..most).collect();
            self.fetch.copy_jobs += 1;
            self.effects.push(Effect::Job(Job::CopySmall { items }));
        }
        if self.peers.values().all(|peer| peer.replica.is_none()) {
            // Nobody has said hello yet.
            return;
        }
        self.ask_for_small();
        while self.fetch.transfers.len() < self.options.max_transfers {
            let Some(content) = self.fetch.large.pop_front() else { break };
            self.begin_transfer(content);
        }
        let contents: Vec<_> = self.fetch.transfers.keys().copied().collect();
        for content in contents {
            self.ask_for_chunks(content);
        }
        // What just turned out to be nobody's is looked for at once, and reported if it is not found.
        self.search_on();
    }

    /// A peer to ask for a content: the one that told of it, else any that has not been tried.
    pub(super) fn source_for(&self, want: &Want) -> Option<PeerId> {
        let ready = |id: &PeerId| {
            !want.tried.contains(id)
                && self.peers.get(id).is_some_and(|peer| peer.replica.is_some())
        };
        let told = want.paths.keys().find_map(|path| self.learn.origin_of(path)).filter(ready);
        told.or_else(|| self.peers.keys().copied().find(ready))
    }

    fn ask_for_small(&mut self) {
        if self.group.is_full() {
            return;
        }
        let mut asked: BTreeMap<PeerId, (Vec<Hash>, Vec<Piece>, u64)> = BTreeMap::new();
        let mut under_way: BTreeMap<PeerId, usize> = BTreeMap::new();
        for request in self.fetch.requests.values() {
            let small = matches!(request.asked, Asked::Small(_));
            *under_way.entry(request.peer).or_default() += usize::from(small);
        }
        let has_room = |(id, peer): (&PeerId, &super::peer::Peer)| {
            peer.replica.is_some() && under_way.get(id).is_none_or(|open| *open < SMALL_REQUESTS)
        };
        if !self.peers.iter().any(has_room) {
            // What nobody has is noticed when somebody has answered.
            return;
        }
        let mut later = VecDeque::new();
        while let Some(content) = self.fetch.small.pop_front() {
            let Some(want) = self.fetch.wants.get(&content) else { continue };
            if want.state != WantState::Queued {
                continue;
            }
            let Some(peer) = self.source_for(want) else {
                self.no_source(content);
                continue;
            };
            if under_way.get(&peer).copied().unwrap_or(0) >= SMALL_REQUESTS {
                later.push_back(content);
                // All peers share the queue; a few look-aheads are enough to keep the others busy.
                if later.len() > 64 {
                    break;
                }
                continue;
            }
            let Some((path, _)) = want.paths.first_key_value() else { continue };
            let len = u32::try_from(want.size).unwrap_or(MAX_PIECE);
            let piece = Piece { path: path.clone(), content, offset: 0, len };
            let size = want.size;
            self.fetch.set_state(&content, WantState::UnderWay);
            let (contents, pieces, bytes) = asked.entry(peer).or_default();
            contents.push(content);
            pieces.push(piece);
            *bytes += size;
            if contents.len() >= SMALL_ITEMS || *bytes >= SMALL_BYTES {
                let (contents, pieces, _) = asked.remove(&peer).unwrap_or_default();
                *under_way.entry(peer).or_default() += 1;
                self.ask(peer, Asked::Small(contents), pieces);
            }
        }
        while let Some(content) = later.pop_back() {
            self.fetch.small.push_front(content);
        }
        for (peer, (contents, pieces, _)) in asked {
            self.ask(peer, Asked::Small(contents), pieces);
        }
    }

    pub(super) fn ask(&mut self, peer: PeerId, what: Asked, pieces: Vec<Piece>) {
        let request = self.note_request(peer, what);
        self.effects.push(Effect::Send { peer, message: Message::Get { request, pieces } });
    }

    pub(super) fn note_request(&mut self, peer: PeerId, asked: Asked) -> u32 {
        let request = self.next_request();
        let news = self.news_of(peer);
        self.fetch.requests.insert(request, Request { peer, news, asked });
        request
    }

    pub(super) fn take_request(
        &mut self,
        peer: PeerId,
        request: u32,
    ) -> Result<Option<Request>, String> {
        match self.fetch.requests.remove(&request) {
            // Asked before something changed; not wanted any more.
            None => Ok(None),
            Some(asked) if asked.peer == peer => Ok(Some(asked)),
            Some(asked) => {
                self.fetch.requests.insert(request, asked);
                Err("answered a request made to another device".to_owned())
            }
        }
    }

    /// Nobody who is connected has a content: it waits, visibly, unless it is in history.
    pub(super) fn no_source(&mut self, content: Hash) {
        self.fetch.set_state(&content, WantState::Waiting);
        self.fetch.drop_transfer(&content);
        if self.fetch.is_to_be_searched(content) {
            return;
        }
        let Some(want) = self.fetch.wants.get(&content) else { return };
        let paths: Vec<_> = want.paths.keys().map(ToString::to_string).collect();
        for path in paths {
            self.skip(path, Trouble::Apply, NO_SOURCE);
        }
    }

    /// A content is in the folder: what waited for somebody who has it need not wait any more (rule E15).
    pub(super) fn content_is_here(&mut self, content: &Hash) {
        if self.fetch.wants.get(content).is_some_and(|want| want.state == WantState::Waiting)
            && let Some(want) = self.fetch.drop_want(content)
        {
            for path in want.paths.into_keys() {
                self.learn.reconcile(path);
            }
        }
    }

    /// A peer is new or has news: what it did not have, it may have now.
    pub(super) fn peer_has_news(&mut self, peer: PeerId) {
        let mut again = Vec::new();
        for (content, want) in &mut self.fetch.wants {
            want.tried.retain(|tried| *tried != peer);
            if want.state == WantState::Waiting {
                again.push(*content);
            }
        }
        for content in again {
            self.fetch.enqueue(content);
        }
    }

    /// Asks again, of others, for what was under way to a peer that is gone.
    pub(super) fn fetch_peer_down(&mut self, peer: PeerId) {
        let requests = std::mem::take(&mut self.fetch.requests);
        let (gone, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            requests.into_iter().partition(|(_, request)| request.peer == peer);
        self.fetch.requests = kept;
        for request in gone.into_values() {
            if let Asked::Small(contents) = request.asked {
                for content in contents {
                    self.fetch.enqueue(content);
                }
            }
        }
        let transfers = self.fetch.transfers.iter();
        let broken: Vec<_> = transfers
            .filter(|(_, transfer)| transfer.peer == Some(peer))
            .map(|(content, _)| *content)
            .collect();
        for content in broken {
            self.fetch.enqueue(content);
        }
        self.fetch.large.make_contiguous().sort_unstable();
    }

    /// A small content is here: every path that waits for it can be applied.
    fn small_arrived(&mut self, content: Hash, bytes: &Bytes) {
        let Some(want) = self.fetch.drop_want(&content) else { return };
        self.fetch.progress.files_done += 1;
        self.fetch.progress.bytes_done += want.size;
        for (path, pending) in want.paths {
            if !self.learn.is_queued(&path) {
                self.apply_place(path, pending, Source::Bytes(bytes.clone()));
            }
        }
    }

    pub(super) fn copied_small(
        &mut self,
        items: Vec<(Hash, Option<Bytes>)>,
    ) -> Result<(), EngineError> {
        self.fetch.copy_jobs -= 1;
        for (content, bytes) in items {
            match bytes {
                Some(bytes) => self.small_arrived(content, &bytes),
                None => {
                    self.fetch.whole.remove(&content);
                    self.fetch.enqueue(content);
                }
            }
        }
        Ok(())
    }

    /// Pieces that were asked for, or the word that they are not to be had.
    pub(super) fn data(
        &mut self,
        peer: PeerId,
        request: u32,
        answers: Vec<PieceAnswer>,
    ) -> Result<(), String> {
        let Some(mut open) = self.take_request(peer, request)? else { return Ok(()) };
        let from = (peer, open.news);
        let more = match &mut open.asked {
            Asked::Small(contents) => self.small_data(from, contents, answers)?,
            Asked::Chunks(content, pieces) => self.chunk_data(from, *content, pieces, answers)?,
            Asked::Ids(_) | Asked::Pages(_) => return Err("sent data for a list".to_owned()),
        };
        if more {
            self.fetch.requests.insert(request, open);
        }
        Ok(())
    }

    /// True if answers are still to come.
    fn small_data(
        &mut self,
        from: (PeerId, u32),
        contents: &mut [Hash],
        answers: Vec<PieceAnswer>,
    ) -> Result<bool, String> {
        for answer in answers {
            let slot =
                contents.get_mut(answer.item as usize).ok_or("answered what was not asked")?;
            let content = std::mem::take(slot);
            if content == Hash::default() {
                return Err("answered twice".to_owned());
            }
            let Some(want) = self.fetch.wants.get(&content) else { continue };
            let bytes = match answer.data {
                Some(data) => Some(compress::open(data).map_err(|error| error.to_string())?),
                None => None,
            };
            match bytes {
                Some(bytes) if bytes.len() as u64 == want.size && Hash::of(&bytes) == content => {
                    self.small_arrived(content, &bytes);
                }
                // Changed at the source, and a new record is on its way; or not there.
                Some(_) | None => self.try_another(content, from),
            }
        }
        Ok(contents.iter().any(|content| *content != Hash::default()))
    }

    /// A peer does not have a content (any more), or did not when it was asked: another may, or it
    /// itself if it has told of news since.
    pub(super) fn try_another(&mut self, content: Hash, (peer, news): (PeerId, u32)) {
        let has_news = self.news_of(peer) != news;
        if let Some(want) = self.fetch.wants.get_mut(&content) {
            if !has_news {
                want.tried.push(peer);
            }
            self.fetch.enqueue(content);
        }
    }

    /// This device cannot take a content now: its disk is full, say.
    pub(super) fn fail(&mut self, content: Hash, failure: &Failure) {
        let Some(want) = self.fetch.drop_want(&content) else { return };
        for path in want.paths.into_keys() {
            self.learn.block(&path, self.now.ms);
            if failure.no_space {
                self.space_lacks(&path, want.size);
            } else {
                self.skip(path.to_string(), Trouble::Apply, failure.reason.as_str());
            }
        }
    }
}
