//! Files that made room in the tree are looked at again (rule E13): an editor may have had them open, and
//! what it writes after the swap goes to an inode that has no name in the tree any more.

use std::collections::VecDeque;

use tree::{Place, Stat};
use wire::{Hash, RelPath};

use super::{Authority, Effect, Engine, Event};
use crate::{
    index::Index,
    jobs::{Job, LookAgain, Seen},
};

/// When, after the swap, in milliseconds. An editor that holds a file open for longer still has it in
/// history.
const AFTER_MS: [u64; 2] = [2_000, 60_000];
/// Files looked at in one job.
const AT_ONCE: usize = 256;
/// Most files remembered: beyond it those that have waited longest are looked at early.
const MAX_SWAPPED: usize = 65_536;

/// A file that made room.
#[derive(Debug)]
struct Swapped {
    due: u64,
    item: LookAgain,
    /// Name of the peer whose change took its place.
    from: String,
}

/// Files that made room, each queue in the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct Swaps {
    queues: [VecDeque<Swapped>; AFTER_MS.len()],
    /// Being looked at, and in which queue they were.
    looking: Option<(usize, Vec<Swapped>)>,
}

impl Swaps {
    pub(super) fn next_wake(&self) -> u64 {
        if self.looking.is_some() {
            return u64::MAX;
        }
        let next = self.queues.iter().filter_map(|queue| queue.front());
        next.map(|swapped| swapped.due).min().unwrap_or(u64::MAX)
    }

    fn is_full(&self) -> bool {
        self.queues.iter().map(VecDeque::len).sum::<usize>() > MAX_SWAPPED
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// Remembers that a file made room, and where it is now.
    pub(super) fn swapped_out(
        &mut self,
        path: &RelPath,
        place: Place,
        (stat, content): (Stat, Option<Hash>),
        from: String,
    ) {
        let item = LookAgain { path: path.clone(), place, stat, content };
        let due = self.now.ms + AFTER_MS[0];
        self.swaps.queues[0].push_back(Swapped { due, item, from });
    }

    /// Looks at what is due.
    pub(super) fn look_again_on(&mut self) {
        if self.swaps.looking.is_some() || self.stopping {
            return;
        }
        let (now, full) = (self.now.ms, self.swaps.is_full());
        for (number, queue) in self.swaps.queues.iter_mut().enumerate().rev() {
            let mut due = Vec::new();
            while due.len() < AT_ONCE
                && let Some(swapped) =
                    queue.pop_front_if(|next| next.due <= now || full && number > 0)
            {
                due.push(swapped);
            }
            if !due.is_empty() {
                let items = due.iter().map(|swapped| swapped.item.clone()).collect();
                self.swaps.looking = Some((number, due));
                let replica = self.replica.0;
                self.effects.push(Effect::Job(Job::LookAgain { items, replica }));
                return;
            }
        }
    }

    pub(super) fn looked_again(&mut self, seen: Vec<Seen>) {
        let Some((number, looked)) = self.swaps.looking.take() else { return };
        for (swapped, seen) in looked.into_iter().zip(seen) {
            match seen {
                Seen::Same => {
                    if let Some(after) = AFTER_MS.get(number + 1) {
                        let due = swapped.due + after - AFTER_MS[number];
                        self.swaps.queues[number + 1].push_back(Swapped { due, ..swapped });
                    }
                }
                Seen::Written(copy) => {
                    let Swapped { item, from, .. } = swapped;
                    let path = item.path;
                    self.effects.push(Effect::Event(Event::Conflict {
                        path,
                        copy: copy.clone(),
                        from,
                    }));
                    self.hints(vec![copy]);
                }
                Seen::Gone => {}
            }
        }
    }
}
