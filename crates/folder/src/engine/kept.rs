//! Contents that no connected peer has may be in this device's own history (rule E15): what was void, say, and
//! counts again.

use wire::Hash;

use super::{
    Authority, Effect, Engine, EngineError,
    fetch::{Fetch, WantState},
    local::is_small,
};
use crate::{
    content::ChunkList,
    index::Index,
    jobs::{CopyItem, Failure, Job},
};

/// Contents looked for in one go.
const MAX_SEARCHED: usize = 4_096;

impl Fetch {
    /// Has history looked through for a content, once; false if that was done.
    pub(super) fn is_to_be_searched(&mut self, content: Hash) -> bool {
        let Some(want) = self.wants.get_mut(&content) else { return false };
        if std::mem::replace(&mut want.searched, true) {
            return false;
        }
        self.to_search.insert(content);
        true
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// Looks through history, if there is anything to look for.
    pub(super) fn search_on(&mut self) {
        if self.fetch.searching || self.fetch.to_search.is_empty() {
            return;
        }
        let mut wanted = Vec::new();
        while let Some(content) = self.fetch.to_search.pop_first() {
            // It may have come meanwhile, or be asked for again.
            let Some(want) = self.fetch.wants.get_mut(&content) else { continue };
            want.searched = want.state == WantState::Waiting;
            wanted.extend(want.searched.then_some((content, want.size)));
            if wanted.len() >= MAX_SEARCHED {
                break;
            }
        }
        if !wanted.is_empty() {
            self.fetch.searching = true;
            self.effects.push(Effect::Job(Job::FindKept { wanted }));
        }
    }

    /// Something went to history: it may be what is waited for.
    pub(super) fn history_has_news(&mut self) {
        if self.fetch.lacking() == 0 {
            return;
        }
        let waiting = self.fetch.wants.iter_mut();
        let waiting = waiting.filter(|(_, want)| want.state == WantState::Waiting);
        self.fetch.to_search.extend(waiting.map(|(content, _)| *content));
    }

    pub(super) fn found_kept(&mut self, found: Vec<(Hash, Option<tree::Place>)>) {
        self.fetch.searching = false;
        for (content, source) in found {
            let Some(want) = self.fetch.wants.get_mut(&content) else { continue };
            if want.state != WantState::Waiting {
                want.searched = false;
                continue;
            }
            let size = want.size;
            let Some(source) = source else {
                self.no_source(content);
                continue;
            };
            self.fetch.set_state(&content, WantState::UnderWay);
            if is_small(size) {
                self.fetch.copies.push_back(CopyItem { source, content, size });
            } else {
                self.effects.push(Effect::Job(Job::TakeKept { content, size, source }));
            }
        }
    }

    pub(super) fn took_kept(
        &mut self,
        content: Hash,
        list: Result<Option<ChunkList>, Failure>,
    ) -> Result<(), EngineError> {
        match list {
            Ok(Some(list)) => self.large_arrived(content, &list),
            Ok(None) => {
                self.fetch.enqueue(content);
                Ok(())
            }
            Err(failure) => {
                self.fail(content, &failure);
                Ok(())
            }
        }
    }
}
