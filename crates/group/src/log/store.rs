//! Taking operations in: in any order, within bounds, each checked against its own past only.

use std::collections::{BTreeSet, HashMap};

use identity::DeviceId;
use wire::membership::{Action, CodeId, GroupId, Operation, OperationId, SignedOperation};

use super::{
    MAX_ADMISSIONS, MAX_FOLDERS, MAX_OPERATIONS, MAX_PAST, MAX_PENDING, MAX_SEQUENCE,
    facts::Facts,
    judge::{Answer, Judge, Verdict},
    past::Past,
    settle,
    waiting::Waiting,
};

/// Why an operation was not taken in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// It belongs to another group.
    #[error("the operation belongs to another group")]
    OtherGroup,
    /// A head it names is an ancestor of another one.
    #[error("the operation names heads of which one came before the other")]
    NotHeads,
    /// Its number is not the one after its author's last.
    #[error("the operation is number {found} of its author, and should be {expected}")]
    Sequence {
        /// One more than the highest in its past.
        expected: u32,
        /// What it says.
        found: u32,
    },
    /// Nobody in its past admitted its author.
    #[error("nobody admitted the operation's author before it was written")]
    UnknownAuthor,
    /// Nobody in its past admitted the device it speaks of.
    #[error("nobody admitted the device that the operation speaks of before it was written")]
    UnknownDevice,
    /// It rotates to a key that its past knows.
    #[error("the new key is known to the group already")]
    UsedKey,
    /// It admits a key that was rotated away.
    #[error("the key was given up for a new one and cannot be admitted again")]
    RetiredKey,
    /// Its key epoch is not the one after the last.
    #[error("the operation begins key epoch {found}, and should begin {expected}")]
    Epoch {
        /// One more than the highest in its past.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// Its own past is over a bound.
    #[error("over the limit of {limit} {what} in an operation's past")]
    Bound {
        /// Of what there are too many.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// An operation it was written on was refused.
    #[error("an operation that this one was written on was refused")]
    OnRefused,
    /// This log holds all it can; a new group can be made from it (`rescue`).
    #[error("the log is full: it holds {MAX_OPERATIONS} operations")]
    Full,
    /// Too many operations wait for others.
    #[error("{MAX_PENDING} operations wait for others that did not come")]
    TooManyPending,
}

/// What became of an operation, and of others that had waited for it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Taken {
    /// Taken in, in this order; empty if it was known, or waits.
    pub taken: Vec<OperationId>,
    /// Others, which waited for this one, and are refused now.
    pub refused: Vec<(OperationId, LogError)>,
    /// The operations that this one waits for.
    pub missing: Vec<OperationId>,
}

/// A group's membership log.
#[derive(Clone, Debug)]
pub struct Log {
    pub(super) group: GroupId,
    pub(super) facts: Facts,
    by_id: HashMap<OperationId, usize>,
    heads: BTreeSet<OperationId>,
    waiting: Waiting,
    /// Judgements of all operations; `None` if they must be made anew.
    verdicts: Option<Vec<Option<Verdict>>>,
}

impl Log {
    /// The empty log of a group.
    #[must_use]
    pub fn new(group: GroupId) -> Self {
        Self {
            group,
            facts: Facts::default(),
            by_id: HashMap::new(),
            heads: BTreeSet::new(),
            waiting: Waiting::default(),
            verdicts: Some(Vec::new()),
        }
    }

    /// The group it belongs to.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// How many operations it holds, without those that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.nodes.len()
    }

    /// True if it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.nodes.is_empty()
    }

    /// The operations on which no other was written, ascending.
    #[must_use]
    pub fn heads(&self) -> Vec<OperationId> {
        self.heads.iter().copied().collect()
    }

    /// True if the operation was taken in.
    #[must_use]
    pub fn contains(&self, id: &OperationId) -> bool {
        self.by_id.contains_key(id)
    }

    /// All operations, each after those it was written on.
    pub fn operations(&self) -> impl Iterator<Item = &SignedOperation> {
        self.facts.nodes.iter().map(|node| &node.signed)
    }

    /// The operations that somebody lacks whose heads are these, each after those it was written on.
    /// Heads that are not known here are passed over; see [`Log::unknown`].
    #[must_use]
    pub fn lacking(&self, heads: &[OperationId]) -> Vec<&SignedOperation> {
        let mut held = Past::default();
        for at in heads.iter().filter_map(|head| self.by_id.get(head)) {
            held.join(&self.facts.nodes[*at].past);
            held.insert(*at);
        }
        let nodes = self.facts.nodes.iter().enumerate();
        nodes.filter(|(at, _)| !held.has(*at)).map(|(_, node)| &node.signed).collect()
    }

    /// As [`Log::lacking`], but no more than one operation and those it was written on, and what these were
    /// written on: what whoever was removed by it may know.
    #[must_use]
    pub fn lacking_until(
        &self,
        last: &OperationId,
        heads: &[OperationId],
    ) -> Vec<&SignedOperation> {
        let Some(last) = self.by_id.get(last) else { return Vec::new() };
        let past = &self.facts.nodes[*last].past;
        let entitled: BTreeSet<OperationId> = self
            .facts
            .nodes
            .iter()
            .enumerate()
            .filter(|(at, _)| at == last || past.has(*at))
            .map(|(_, node)| node.signed.id())
            .collect();
        let mut lacking = self.lacking(heads);
        lacking.retain(|signed| entitled.contains(&signed.id()));
        lacking
    }

    /// An operation that was taken in.
    #[must_use]
    pub fn get(&self, id: &OperationId) -> Option<&SignedOperation> {
        self.by_id.get(id).map(|at| &self.facts.nodes[*at].signed)
    }

    /// Which of these operations are not here.
    #[must_use]
    pub fn unknown(&self, ids: &[OperationId]) -> Vec<OperationId> {
        ids.iter().filter(|id| !self.contains(id)).copied().collect()
    }

    /// The operations for which others wait: what to ask for.
    #[must_use]
    pub fn wanted(&self) -> Vec<OperationId> {
        self.waiting.wanted()
    }

    /// The operations that wait for others, ascending by id.
    pub fn pending(&self) -> impl Iterator<Item = &SignedOperation> {
        self.waiting.iter()
    }

    /// The same with who brought them; one that several brought is there several times.
    pub fn brought(&self) -> impl Iterator<Item = (Option<DeviceId>, &SignedOperation)> {
        self.waiting.brought()
    }

    /// Forgets the operations that wait for others.
    pub fn forget_pending(&mut self) {
        self.waiting = Waiting::default();
    }

    /// The devices admitted by a sharing code, by any operation here, void ones too (rule T18).
    #[must_use]
    pub fn admitted_by(&self, code: &CodeId) -> BTreeSet<DeviceId> {
        use wire::membership::Ceremony;
        let of = |node: &super::facts::Node| match node.action() {
            Action::Admit { device, ceremony: Ceremony::Code(spent), .. } if spent == code => {
                Some(*device)
            }
            _ => None,
        };
        self.facts.nodes.iter().filter_map(of).collect()
    }

    /// Takes an operation in that this device has itself; see [`Log::insert_from`].
    ///
    /// # Errors
    /// As there.
    pub fn insert(&mut self, signed: SignedOperation) -> Result<Taken, LogError> {
        self.insert_from(signed, None)
    }

    /// Takes an operation in, or keeps it until those it was written on have come. Each device that
    /// brings some has [`MAX_PENDING_EACH`] places for those that wait.
    ///
    /// # Errors
    /// Says which rule it breaks. Whether an operation *may* be in the log depends on its own past
    /// alone, but for the two limits on what a log can hold.
    pub fn insert_from(
        &mut self,
        signed: SignedOperation,
        by: Option<DeviceId>,
    ) -> Result<Taken, LogError> {
        let mut taken = Taken::default();
        if signed.group() != self.group {
            return Err(LogError::OtherGroup);
        }
        if self.contains(&signed.id()) {
            return Ok(taken);
        }
        taken.missing = self.unknown(&signed.operation().parents);
        if !taken.missing.is_empty() {
            self.waiting.keep(signed, by, &taken.missing)?;
            return Ok(taken);
        }
        let id = signed.id();
        if let Err(error) = self.take(signed) {
            if !matches!(error, LogError::Full) {
                taken.refused.push((id, error.clone()));
                self.refuse_waiting(&mut taken);
            }
            return Err(error);
        }
        taken.taken.push(id);
        self.release(&mut taken);
        Ok(taken)
    }

    /// Takes in what waited for the last of `taken`, and what waited for that.
    fn release(&mut self, taken: &mut Taken) {
        let mut done = 0;
        while let Some(id) = taken.taken.get(done).copied() {
            done += 1;
            for waiter in self.waiting.waiters_of(&id) {
                let Some(signed) = self.waiting.get(&waiter) else { continue };
                if !self.unknown(&signed.operation().parents).is_empty() {
                    continue;
                }
                let Some(signed) = self.waiting.remove(&waiter) else { continue };
                match self.take(signed) {
                    Ok(()) => taken.taken.push(waiter),
                    Err(error) => {
                        taken.refused.push((waiter, error));
                        self.refuse_waiting(taken);
                    }
                }
            }
        }
    }

    /// Refuses what waited for the last of `refused`, and what waited for that.
    fn refuse_waiting(&mut self, taken: &mut Taken) {
        let mut next = taken.refused.len() - 1;
        while let Some((id, _)) = taken.refused.get(next).cloned() {
            next += 1;
            for waiter in self.waiting.waiters_of(&id) {
                if self.waiting.remove(&waiter).is_some() {
                    taken.refused.push((waiter, LogError::OnRefused));
                }
            }
        }
    }

    fn take(&mut self, signed: SignedOperation) -> Result<(), LogError> {
        if self.facts.nodes.len() >= MAX_OPERATIONS {
            return Err(LogError::Full);
        }
        let past = self.check(signed.operation())?;
        let id = signed.id();
        for parent in &signed.operation().parents {
            self.heads.remove(parent);
        }
        self.heads.insert(id);
        let newcomer = self.ties_known_keys(signed.operation());
        let at = self.facts.add(signed, past);
        self.by_id.insert(id, at);
        self.judge_last(at, newcomer);
        Ok(())
    }

    /// Whether an operation may be in the log at all: a function of its own past. Returns that past.
    pub(super) fn check(&self, operation: &Operation) -> Result<Past, LogError> {
        let mut past = Past::default();
        let parents: Vec<usize> =
            operation.parents.iter().filter_map(|id| self.by_id.get(id).copied()).collect();
        for parent in &parents {
            past.join(&self.facts.nodes[*parent].past);
        }
        if parents.iter().any(|parent| past.has(*parent)) {
            return Err(LogError::NotHeads);
        }
        parents.iter().for_each(|parent| past.insert(*parent));
        let bound = |len: usize, limit: usize, what: &'static str| match len {
            len if len < limit => Ok(()),
            _ => Err(LogError::Bound { what, limit }),
        };
        bound(past.len(), MAX_PAST, "operations")?;
        if !matches!(operation.action, Action::Create { .. })
            && !self.facts.is_known(&operation.author, &past)
        {
            return Err(LogError::UnknownAuthor);
        }
        let last = self.facts.last_sequence(&operation.author, &past);
        if operation.sequence != last + 1 {
            return Err(LogError::Sequence { expected: last + 1, found: operation.sequence });
        }
        bound(last as usize, MAX_SEQUENCE, "operations of one key")?;
        match &operation.action {
            Action::Admit { device, .. } => {
                bound(past.count(&self.facts.grants), MAX_ADMISSIONS, "admissions")?;
                if self.is_retired(device, &past) {
                    return Err(LogError::RetiredKey);
                }
            }
            Action::Rotate { device, .. } => {
                bound(past.count(&self.facts.grants), MAX_ADMISSIONS, "admissions")?;
                if *device == operation.author || self.facts.is_known(device, &past) {
                    return Err(LogError::UsedKey);
                }
            }
            Action::SetRole { device, .. }
            | Action::Remove { device }
            | Action::Rename { device, .. } => {
                if !self.facts.is_known(device, &past) {
                    return Err(LogError::UnknownDevice);
                }
            }
            Action::FolderAdded { .. } => {
                bound(past.count(&self.facts.additions), MAX_FOLDERS, "folders added")?;
            }
            Action::KeyEpoch { number, .. } => {
                let expected = self.last_epoch(&past).saturating_add(1);
                if *number != expected {
                    return Err(LogError::Epoch { expected, found: *number });
                }
            }
            Action::Create { .. } | Action::Leave | Action::FolderRemoved { .. } => {}
        }
        Ok(past)
    }

    /// The highest key epoch that an operation in `past` begins, void ones too; 0 if there is none.
    pub(super) fn last_epoch(&self, past: &Past) -> u64 {
        let number = |at: &usize| match self.facts.nodes[*at].action() {
            Action::KeyEpoch { number, .. } if past.has(*at) => *number,
            _ => 0,
        };
        self.facts.epochs.iter().map(number).max().unwrap_or(0)
    }

    fn is_retired(&self, device: &DeviceId, past: &Past) -> bool {
        self.facts.by_key.get(device).is_some_and(|key| {
            let mut wrote = self.facts.keys[*key].wrote.iter();
            wrote.any(|at| past.has(*at) && self.facts.nodes[*at].is_rotation())
        })
    }

    /// True for a rotation that makes one device out of two that were known.
    fn ties_known_keys(&self, operation: &Operation) -> bool {
        match &operation.action {
            Action::Rotate { device, .. } => self.facts.by_key.contains_key(device),
            _ => false,
        }
    }

    /// Judges the newest operation. It is in nobody's past, so it changes the judgement of others only
    /// by what it takes from an author whose operations it has not seen; then all are judged anew, when
    /// somebody asks.
    fn judge_last(&mut self, at: usize, ties: bool) {
        let Some(mut verdicts) = self.verdicts.take() else { return };
        let node = &self.facts.nodes[at];
        let hits = node.takes()
            && node.target.is_some_and(|target| {
                let family = &self.facts.families[self.facts.keys[target].family];
                let mut wrote = family.keys.iter().flat_map(|key| &self.facts.keys[*key].wrote);
                wrote.any(|other| *other != at && !node.past.has(*other))
            });
        if hits || ties {
            return;
        }
        verdicts.push(None);
        let verdict = match (Judge { facts: &self.facts, verdicts: &verdicts }).judge(at) {
            Answer::Yes => Verdict::Counts,
            Answer::No => Verdict::Void,
            Answer::Open => Verdict::Contested,
        };
        verdicts[at] = Some(verdict);
        self.verdicts = Some(verdicts);
    }

    /// The judgements of all operations.
    pub(super) fn verdicts(&mut self) -> &[Option<Verdict>] {
        self.verdicts.get_or_insert_with(|| settle::settle(&self.facts))
    }

    /// The sequence number that an operation must have, by the parents that it names; 0 if one is not
    /// here.
    #[must_use]
    pub fn sequence(&self, operation: &Operation) -> u32 {
        let mut past = Past::default();
        for parent in &operation.parents {
            let Some(at) = self.number(parent) else { return 0 };
            past.join(&self.facts.nodes[at].past);
            past.insert(at);
        }
        self.facts.last_sequence(&operation.author, &past) + 1
    }

    /// Forgets what was judged, so that all is judged anew: the manifest must not change by it.
    pub fn judge_anew(&mut self) {
        self.verdicts = None;
    }

    pub(super) fn number(&self, id: &OperationId) -> Option<usize> {
        self.by_id.get(id).copied()
    }
}
