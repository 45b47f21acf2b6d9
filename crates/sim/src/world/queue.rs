//! What is to happen, in order.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::What;

/// What is to happen, by its time and the order in which that was decided. What happens is large, so that only
/// its place is moved about.
#[derive(Default, Debug)]
pub(super) struct Queue {
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slots: Vec<Option<What>>,
    free: Vec<usize>,
    sequence: u64,
}

impl Queue {
    pub(super) fn add(&mut self, time: u64, what: What) {
        self.sequence += 1;
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(what),
            None => self.slots.push(Some(what)),
        }
        self.order.push(Reverse((time, self.sequence, slot)));
    }

    /// Takes out the next, unless it is later than that.
    pub(super) fn next_until(&mut self, end: u64) -> Option<(u64, What)> {
        let Reverse((time, _, _)) = self.order.peek()?;
        if *time > end {
            return None;
        }
        let Reverse((time, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        Some((time, self.slots.get_mut(slot)?.take()?))
    }
}
