//! Operations that came before those they were written on, by who brought them: each has places of its own, so that
//! nobody can keep what others bring from waiting here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use identity::DeviceId;
use wire::membership::{OperationId, SignedOperation};

use super::{MAX_PENDING, MAX_PENDING_EACH, store::LogError};

#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    operations: BTreeMap<OperationId, SignedOperation>,
    /// By missing operation: who waits for it.
    waiters: BTreeMap<OperationId, BTreeSet<OperationId>>,
    /// Who brought which, the oldest first; `None` is the owner of the log. One waits for as long as anybody holds a place for it: who brings an
    /// operation of somebody else first, and then many more, cannot push it out.
    brought: BTreeMap<Option<DeviceId>, VecDeque<OperationId>>,
}

impl Waiting {
    pub(super) fn has(&self, id: &OperationId) -> bool {
        self.operations.contains_key(id)
    }

    pub(super) fn get(&self, id: &OperationId) -> Option<&SignedOperation> {
        self.operations.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SignedOperation> {
        self.operations.values()
    }

    /// The operations for which others wait and that do not wait themselves.
    pub(super) fn wanted(&self) -> Vec<OperationId> {
        self.waiters.keys().filter(|id| !self.has(id)).copied().collect()
    }

    /// Who brought which of those that wait.
    pub(super) fn brought(&self) -> impl Iterator<Item = (Option<DeviceId>, &SignedOperation)> {
        self.brought
            .iter()
            .flat_map(|(by, ids)| ids.iter().filter_map(|id| Some((*by, self.operations.get(id)?))))
    }

    /// Keeps one. Where its bringer has all its places taken, its oldest one goes; where all places are taken, the
    /// oldest one of whoever has most.
    pub(super) fn keep(
        &mut self,
        signed: SignedOperation,
        by: Option<DeviceId>,
        missing: &[OperationId],
    ) -> Result<(), LogError> {
        let id = signed.id();
        let held = self.brought.get(&by).map_or(0, VecDeque::len);
        if self.brought.get(&by).is_some_and(|ids| ids.contains(&id)) {
            return Ok(());
        }
        let all: usize = self.brought.values().map(VecDeque::len).sum();
        if by.is_some() && held >= MAX_PENDING_EACH {
            self.let_go(by);
        } else if all >= MAX_PENDING {
            let most = self.brought.iter().max_by_key(|(_, ids)| ids.len());
            match most.map(|(whose, ids)| (*whose, ids.len())) {
                Some((whose, count)) if count > held => self.let_go(whose),
                _ => return Err(LogError::TooManyPending),
            }
        }
        for missing in missing {
            self.waiters.entry(*missing).or_default().insert(id);
        }
        self.operations.insert(id, signed);
        self.brought.entry(by).or_default().push_back(id);
        Ok(())
    }

    /// Frees the oldest place of one who brought some.
    fn let_go(&mut self, whose: Option<DeviceId>) {
        let Some(ids) = self.brought.get_mut(&whose) else { return };
        let oldest = ids.pop_front();
        if ids.is_empty() {
            self.brought.remove(&whose);
        }
        if let Some(id) = oldest
            && !self.brought.values().any(|ids| ids.contains(&id))
        {
            self.remove(&id);
        }
    }

    /// Takes out those that waited for one.
    pub(super) fn waiters_of(&mut self, id: &OperationId) -> BTreeSet<OperationId> {
        self.waiters.remove(id).unwrap_or_default()
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, id: &OperationId) -> Option<SignedOperation> {
        let signed = self.operations.remove(id)?;
        for parent in &signed.operation().parents {
            if let Some(others) = self.waiters.get_mut(parent) {
                others.remove(id);
                if others.is_empty() {
                    self.waiters.remove(parent);
                }
            }
        }
        for ids in self.brought.values_mut() {
            ids.retain(|held| held != id);
        }
        self.brought.retain(|_, ids| !ids.is_empty());
        Some(signed)
    }
}
