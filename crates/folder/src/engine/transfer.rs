//! Large contents on their way here: the chunk list by pages, then what the folder has already, then the
//! rest chunk by chunk, in a window (rules E20 and E21).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use wire::{
    Hash, RelPath,
    sync::{MAX_PAGES_ASKED, Message, Piece, PieceAnswer},
};

use super::{
    Authority, Effect, Engine, EngineError, PeerId,
    fetch::{Asked, WantState},
    group::Source,
};
use crate::{
    content::{Chunk, ChunkList},
    index::Index,
    jobs::{ChunkPlan, Failure, Job, WriteOutcome, WritePiece},
};

/// Bytes of one large content asked for and not yet written: several times what is under way on a line of 1 Gbit/s
/// and 50 ms, 6.25 MB, since requests, what routers hold and what is being written count, too.
const CHUNK_WINDOW: u64 = 32 << 20;
/// The same of all large contents together.
const ALL_WINDOW: u64 = 64 << 20;
/// Bytes asked for in one request for chunks.
const CHUNK_REQUEST: u64 = 1 << 20;
/// Lists kept of contents that are whole and have no place yet.
const MAX_UNPLACED: usize = 4096;
/// Wrong chunks from one peer before its file is taken for another one.
const MAX_BAD_CHUNKS: u32 = 16;

/// A large content on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Never used twice: what belongs to an earlier transfer of the same content is told by it.
    number: u32,
    pub(super) peer: Option<PeerId>,
    stage: Stage,
    bad_chunks: u32,
}

#[derive(Debug)]
enum Stage {
    Ids,
    Pages { ids: Vec<Hash>, pages: Vec<Option<Bytes>>, asked: bool },
    Assembling { list: Arc<ChunkList> },
    Chunks(Chunks),
}

#[derive(Debug)]
struct Chunks {
    list: Arc<ChunkList>,
    /// Chunks to ask for, each with all the places it goes to.
    missing: VecDeque<(Chunk, Vec<u64>)>,
    asked: u64,
    writing: u64,
}

impl Transfer {
    /// Bytes asked for and not yet written.
    fn in_flight(&self) -> u64 {
        match &self.stage {
            Stage::Chunks(chunks) => chunks.asked + chunks.writing,
            Stage::Ids | Stage::Pages { .. } | Stage::Assembling { .. } => 0,
        }
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    pub(super) fn begin_transfer(&mut self, content: Hash) {
        let Some(want) = self.fetch.wants.get(&content) else { return };
        if want.state != WantState::Queued {
            return;
        }
        let size = want.size;
        // Where the whole content is here already, its list is too.
        if let Ok(Some(list)) = self.list_of(&content)
            && list.size() == size
        {
            self.fetch.set_state(&content, WantState::UnderWay);
            let number = self.next_request();
            let transfer = Transfer { number, peer: None, stage: Stage::Ids, bad_chunks: 0 };
            self.fetch.transfers.insert(content, transfer);
            self.assemble(content, list);
            return;
        }
        let Some(want) = self.fetch.wants.get(&content) else { return };
        let Some(peer) = self.source_for(want) else { return self.no_source(content) };
        let Some((path, _)) = want.paths.first_key_value() else { return };
        let path = path.clone();
        self.fetch.set_state(&content, WantState::UnderWay);
        let number = self.next_request();
        let transfer = Transfer { number, peer: Some(peer), stage: Stage::Ids, bad_chunks: 0 };
        self.fetch.transfers.insert(content, transfer);
        let request = self.note_request(peer, Asked::Ids(content));
        let message = Message::GetList { request, path, content, pages: Vec::new() };
        self.effects.push(Effect::Send { peer, message });
    }

    /// A chunk list, or part of one.
    pub(super) fn list(
        &mut self,
        peer: PeerId,
        request: u32,
        ids: Vec<Hash>,
        got: Vec<(u32, Bytes)>,
    ) -> Result<(), String> {
        let Some(open) = self.take_request(peer, request)? else { return Ok(()) };
        let (Asked::Ids(content) | Asked::Pages(content)) = open.asked else {
            return Err("sent a list for data".to_owned());
        };
        if ids.is_empty() && got.is_empty() {
            self.try_another(content, (peer, open.news));
            return Ok(());
        }
        let size = self.fetch.wants.get(&content).map_or(0, |want| want.size);
        if !ids.is_empty() && ChunkList::verify_ids(size, &content, &ids).is_err() {
            // Wrong, or the record's size is: either way this peer cannot help.
            self.try_another(content, (peer, open.news));
            return Ok(());
        }
        let known = self.known_pages(content);
        let Some(transfer) = self.fetch.transfers.get_mut(&content) else { return Ok(()) };
        match &mut transfer.stage {
            Stage::Ids if !ids.is_empty() => {
                // Rule E21: only pages that are not here travel.
                let pages = ids.iter().map(|id| known.get(id).cloned()).collect();
                transfer.stage = Stage::Pages { ids, pages, asked: false };
            }
            Stage::Pages { ids, pages, asked } => {
                *asked = false;
                for (number, page) in got {
                    let number = number as usize;
                    let id = ids.get(number).ok_or("sent a page out of range")?;
                    ChunkList::verify_page(id, &page)
                        .map_err(|error| format!("sent a page that is wrong: {error}"))?;
                    pages[number] = Some(page);
                }
            }
            Stage::Ids | Stage::Assembling { .. } | Stage::Chunks(_) => {
                return Err("sent a list that was not asked for".to_owned());
            }
        }
        self.pages_on(content, peer)
    }

    /// Pages of the list of what is at the wanted paths now.
    pub(super) fn known_pages(&mut self, content: Hash) -> HashMap<Hash, Bytes> {
        let Some(want) = self.fetch.wants.get(&content) else { return HashMap::new() };
        let before: Vec<_> = want
            .paths
            .values()
            .filter_map(|pending| pending.here.as_ref().and_then(|here| here.content))
            .take(4)
            .collect();
        let mut pages = HashMap::new();
        for content in before {
            if let Ok(Some(list)) = self.index.chunks(&content) {
                for (number, id) in list.page_ids().enumerate() {
                    pages.extend(list.page(number).map(|page| (id, page)));
                }
            }
        }
        pages
    }

    /// Asks for the next pages, or goes on to the chunks when all are here.
    pub(super) fn pages_on(&mut self, content: Hash, peer: PeerId) -> Result<(), String> {
        let Some(want) = self.fetch.wants.get(&content) else { return Ok(()) };
        let Some(transfer) = self.fetch.transfers.get_mut(&content) else { return Ok(()) };
        let Stage::Pages { ids, pages, asked } = &mut transfer.stage else { return Ok(()) };
        let lacking = pages.iter().enumerate().filter(|(_, page)| page.is_none());
        let wanted: Vec<_> = lacking
            .filter_map(|(number, _)| u32::try_from(number).ok())
            .take(MAX_PAGES_ASKED)
            .collect();
        if wanted.is_empty() {
            let pages: Vec<_> = pages.iter().flatten().cloned().collect();
            let list = ChunkList::from_pages(want.size, &content, ids, &pages);
            match list {
                Ok(list) => self.assemble(content, list),
                // The record's size may be what is wrong: that is not this peer's fault.
                Err(error) => {
                    tracing::debug!(%error, "a chunk list does not fit its record");
                    let news = self.news_of(peer);
                    self.try_another(content, (peer, news));
                }
            }
            return Ok(());
        }
        if !*asked {
            *asked = true;
            let Some((path, _)) = want.paths.first_key_value() else { return Ok(()) };
            let path = path.clone();
            let request = self.note_request(peer, Asked::Pages(content));
            let message = Message::GetList { request, path, content, pages: wanted };
            self.effects.push(Effect::Send { peer, message });
        }
        Ok(())
    }

    /// The list is known: put together what is here before asking for the rest.
    pub(super) fn assemble(&mut self, content: Hash, list: ChunkList) {
        let list = Arc::new(list);
        let mut plan = Vec::with_capacity(list.chunks().len());
        for (offset, chunk) in list.iter() {
            plan.push(ChunkPlan { offset, chunk: *chunk, source: self.chunk_here(&chunk.hash) });
        }
        if let Some(transfer) = self.fetch.transfers.get_mut(&content) {
            transfer.stage = Stage::Assembling { list: Arc::clone(&list) };
            self.effects.push(Effect::Job(Job::Assemble {
                content,
                transfer: transfer.number,
                size: list.size(),
                plan,
            }));
        }
    }

    pub(super) fn chunk_here(&mut self, chunk: &Hash) -> Option<(RelPath, u64)> {
        let source = self.index.chunk_source(chunk).ok()??;
        let path = self.index.by_content(&source.content).ok()?.into_iter().next()?;
        Some((path, source.offset))
    }

    pub(super) fn assembled(
        &mut self,
        content: Hash,
        number: u32,
        result: Result<Vec<bool>, Failure>,
    ) -> Result<(), EngineError> {
        let transfer = self.fetch.transfers.get_mut(&content);
        let Some(transfer) = transfer.filter(|transfer| transfer.number == number) else {
            return Ok(());
        };
        let Stage::Assembling { list } = &transfer.stage else { return Ok(()) };
        let here = match result {
            Ok(here) => here,
            Err(failure) => {
                self.fail(content, &failure);
                return Ok(());
            }
        };
        let mut places: HashMap<Hash, usize> = HashMap::new();
        let mut missing: VecDeque<(Chunk, Vec<u64>)> = VecDeque::new();
        for ((offset, chunk), here) in list.iter().zip(here) {
            if here {
                self.fetch.progress.bytes_done += u64::from(chunk.len);
                continue;
            }
            // Equal chunks travel once.
            if let Some(at) = places.get(&chunk.hash) {
                missing[*at].1.push(offset);
            } else {
                places.insert(chunk.hash, missing.len());
                missing.push_back((*chunk, vec![offset]));
            }
        }
        let list = Arc::clone(list);
        transfer.stage = Stage::Chunks(Chunks { list, missing, asked: 0, writing: 0 });
        self.chunks_arrived(content)
    }

    pub(super) fn ask_for_chunks(&mut self, content: Hash) {
        loop {
            let Some(want) = self.fetch.wants.get(&content) else { return };
            let Some(transfer) = self.fetch.transfers.get(&content) else { return };
            let Stage::Chunks(chunks) = &transfer.stage else { return };
            if chunks.missing.is_empty()
                || chunks.asked + chunks.writing >= CHUNK_WINDOW
                || self.fetch.transfers.values().map(Transfer::in_flight).sum::<u64>() >= ALL_WINDOW
            {
                return;
            }
            let peer = match transfer.peer {
                Some(peer) => peer,
                None => match self.source_for(want) {
                    Some(peer) => peer,
                    None => return self.no_source(content),
                },
            };
            let Some((path, _)) = want.paths.first_key_value() else { return };
            let path = path.clone();
            let Some(transfer) = self.fetch.transfers.get_mut(&content) else { return };
            transfer.peer = Some(peer);
            let Stage::Chunks(chunks) = &mut transfer.stage else { return };
            let (mut pieces, mut asked, mut bytes) = (Vec::new(), Vec::new(), 0);
            while bytes < CHUNK_REQUEST
                && let Some((chunk, places)) = chunks.missing.pop_front()
            {
                bytes += u64::from(chunk.len);
                let offset = places.first().copied().unwrap_or(0);
                pieces.push(Piece { path: path.clone(), content, offset, len: chunk.len });
                asked.push(Some((chunk, places)));
            }
            chunks.asked += bytes;
            self.ask(peer, Asked::Chunks(content, asked), pieces);
        }
    }

    /// True if answers are still to come.
    pub(super) fn chunk_data(
        &mut self,
        from: (PeerId, u32),
        content: Hash,
        asked: &mut [Option<(Chunk, Vec<u64>)>],
        answers: Vec<PieceAnswer>,
    ) -> Result<bool, String> {
        let mut pieces = Vec::new();
        let mut gone = false;
        for answer in answers {
            let slot = asked.get_mut(answer.item as usize).ok_or("answered what was not asked")?;
            let (chunk, places) = slot.take().ok_or("answered twice")?;
            match answer.data {
                Some(data) if data.len == chunk.len => {
                    pieces.push(WritePiece { chunk, places, data });
                }
                Some(_) => return Err("sent a chunk of another length than asked for".to_owned()),
                None => gone = true,
            }
        }
        let open = asked.iter().any(Option::is_some);
        if gone {
            // The file has changed at its source, and a new record is on its way.
            self.try_another(content, from);
            return Ok(open);
        }
        let Some(transfer) = self.fetch.transfers.get_mut(&content) else { return Ok(open) };
        if let Stage::Chunks(chunks) = &mut transfer.stage
            && transfer.peer == Some(from.0)
            && !pieces.is_empty()
        {
            let bytes: u64 = pieces.iter().map(|piece| u64::from(piece.chunk.len)).sum();
            chunks.asked = chunks.asked.saturating_sub(bytes);
            chunks.writing += bytes;
            let transfer = transfer.number;
            self.effects.push(Effect::Job(Job::Write { content, transfer, pieces }));
        }
        Ok(open)
    }

    pub(super) fn written(
        &mut self,
        content: Hash,
        number: u32,
        outcome: WriteOutcome,
    ) -> Result<(), EngineError> {
        let transfer = self.fetch.transfers.get_mut(&content);
        let Some(transfer) = transfer.filter(|transfer| transfer.number == number) else {
            return Ok(());
        };
        let Stage::Chunks(chunks) = &mut transfer.stage else { return Ok(()) };
        chunks.writing = chunks.writing.saturating_sub(outcome.bytes);
        self.fetch.progress.bytes_done += outcome.written;
        for bad in outcome.wrong {
            transfer.bad_chunks += 1;
            chunks.missing.push_back(bad);
        }
        if let Some(failure) = outcome.error {
            self.fail(content, &failure);
            return Ok(());
        }
        if transfer.bad_chunks > MAX_BAD_CHUNKS
            && let Some(peer) = transfer.peer
        {
            let news = self.news_of(peer);
            self.try_another(content, (peer, news));
            return Ok(());
        }
        self.chunks_arrived(content)
    }

    /// Applies a large content once its last chunk is written.
    pub(super) fn chunks_arrived(&mut self, content: Hash) -> Result<(), EngineError> {
        let Some(transfer) = self.fetch.transfers.get(&content) else { return Ok(()) };
        let Stage::Chunks(chunks) = &transfer.stage else { return Ok(()) };
        if !chunks.missing.is_empty() || chunks.asked > 0 || chunks.writing > 0 {
            return Ok(());
        }
        let list = chunks.list.clone();
        self.large_arrived(content, &list)
    }

    /// The chunks of a large content that is here, in the tree or on its way there.
    pub(super) fn list_of(&mut self, content: &Hash) -> Result<Option<ChunkList>, EngineError> {
        let list = self.index.chunks(content)?;
        Ok(list.or_else(|| self.fetch.unplaced.get(content).cloned()))
    }

    /// A large content is whole in `.kin/partial`.
    pub(super) fn large_arrived(
        &mut self,
        content: Hash,
        list: &ChunkList,
    ) -> Result<(), EngineError> {
        self.index.put_chunks(&content, list)?;
        if self.fetch.unplaced.len() < MAX_UNPLACED {
            self.fetch.unplaced.insert(content, list.clone());
        }
        self.uncommitted = true;
        let Some(want) = self.fetch.drop_want(&content) else { return Ok(()) };
        self.fetch.progress.files_done += 1;
        let mut first = None;
        for (path, pending) in want.paths {
            if self.learn.is_queued(&path) {
                continue;
            }
            if let Some(first) = &first {
                // Copied from there once it is in the tree.
                self.learn.wait_for(first, path);
            } else {
                first = Some(path.clone());
                self.apply_place(path, pending, Source::Partial(content));
            }
        }
        Ok(())
    }
}
