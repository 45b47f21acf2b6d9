//! What a joiner accepts (rule T10): the whole log, resolved by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use identity::{DeviceId, InboxId};
use wire::{
    WireError,
    membership::{
        Action, Ceremony, GroupId, MAX_OPERATION, OperationId, Role, Scope, SignedOperation,
    },
};

use super::{
    MAX_OPERATIONS,
    manifest::Why,
    store::{Log, LogError},
};

/// What this device waits for since its person consented: the other half of a ceremony.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingJoin {
    /// This device.
    pub device: DeviceId,
    /// The inbox key it gave.
    pub inbox: InboxId,
    /// The group, if the ceremony named it.
    pub group: Option<GroupId>,
    /// By which ceremony, with the code where there is one.
    pub ceremony: Ceremony,
    /// The role that its person was told.
    pub role: Role,
    /// The folders that its person was told.
    pub folders: Scope,
}

/// Why a joiner does not accept a log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// There is nothing in it.
    #[error("the log is empty")]
    Empty,
    /// It is longer than any log.
    #[error("the log has over {MAX_OPERATIONS} operations")]
    TooLong,
    /// An operation is malformed or not signed.
    #[error("an operation of the log: {0}")]
    Wire(#[from] WireError),
    /// An operation has no place in the log.
    #[error("an operation of the log: {0}")]
    Log(#[from] LogError),
    /// It is another group's than the ceremony named.
    #[error("the log is that of another group")]
    OtherGroup,
    /// Operations that others were written on are not in it.
    #[error("the log is not whole: {} operations are missing", .0.len())]
    Incomplete(Vec<OperationId>),
    /// A head is not signed by the key that was given out of band.
    #[error("the log's end is not signed by the device that this one was paired with")]
    ForeignHead(OperationId),
    /// The device that was paired with is no admin of the group.
    #[error("the device that this one was paired with is no admin of the group")]
    NotAdmin,
    /// The log does not admit this device.
    #[error("the log does not admit this device")]
    NotAdmitted,
    /// This device's admission was not by the device that it was paired with, or does not count.
    #[error("this device was not admitted by the device that it was paired with")]
    OtherAdmitter(Option<Why>),
    /// It was admitted otherwise than agreed.
    #[error("this device was admitted otherwise than its person was told: {0} differs")]
    OtherTerms(&'static str),
}

/// Judges a log that was brought to a joiner, as the operations' bytes in any order. `admitter` is the
/// key that the joiner was given out of band. A log with further heads can be brought as well: without
/// what was not written before the admission, it ends with that.
///
/// # Errors
/// Says what is wrong. Nothing of a refused log is to be kept.
pub fn join(
    operations: &[Bytes],
    admitter: &DeviceId,
    pending: &PendingJoin,
) -> Result<Log, JoinError> {
    if operations.len() > MAX_OPERATIONS {
        return Err(JoinError::TooLong);
    }
    let mut parsed = Vec::with_capacity(operations.len());
    for bytes in operations {
        if bytes.len() > MAX_OPERATION {
            let (len, limit) = (bytes.len() as u64, MAX_OPERATION as u64);
            return Err(WireError::TooLarge { len, limit }.into());
        }
        parsed.push(SignedOperation::parse(bytes.clone())?);
    }
    let group = parsed.first().ok_or(JoinError::Empty)?.group();
    if pending.group.is_some_and(|named| named != group) {
        return Err(JoinError::OtherGroup);
    }
    let mut log = Log::new(group);
    for signed in in_order(parsed)? {
        log.insert(signed)?;
    }
    accept(&mut log, admitter, pending)?;
    Ok(log)
}

/// Each after those that it was written on, whatever the order in which they came: every operation is looked at once, and
/// once for each of its parents, since whoever brings them chooses the order.
fn in_order(operations: Vec<SignedOperation>) -> Result<Vec<SignedOperation>, JoinError> {
    let ids: BTreeSet<OperationId> = operations.iter().map(SignedOperation::id).collect();
    let parents = operations.iter().flat_map(|signed| &signed.operation().parents);
    let missing: BTreeSet<OperationId> =
        parents.filter(|parent| !ids.contains(parent)).copied().collect();
    if !missing.is_empty() {
        return Err(JoinError::Incomplete(missing.into_iter().collect()));
    }
    let mut waiters: BTreeMap<OperationId, Vec<usize>> = BTreeMap::new();
    let mut waiting: Vec<Option<(SignedOperation, usize)>> = Vec::new();
    let mut ready = VecDeque::new();
    for (at, signed) in operations.into_iter().enumerate() {
        let parents = &signed.operation().parents;
        let lacks = parents.len();
        for parent in parents {
            waiters.entry(*parent).or_default().push(at);
        }
        match lacks {
            0 => {
                ready.push_back(signed);
                waiting.push(None);
            }
            lacks => waiting.push(Some((signed, lacks))),
        }
    }
    let mut ordered = Vec::with_capacity(waiting.len());
    while let Some(signed) = ready.pop_front() {
        // One that came twice has nobody left who waits for it.
        for at in waiters.remove(&signed.id()).unwrap_or_default() {
            let Some(waiter) = waiting.get_mut(at) else { continue };
            if let Some((signed, lacks)) = waiter.take() {
                match lacks {
                    1 => ready.push_back(signed),
                    lacks => *waiter = Some((signed, lacks - 1)),
                }
            }
        }
        ordered.push(signed);
    }
    // An operation is named by its hash, so none rests on itself: all have come to their turn.
    Ok(ordered)
}

fn accept(log: &mut Log, admitter: &DeviceId, pending: &PendingJoin) -> Result<(), JoinError> {
    let manifest = log.manifest();
    let foreign = |id: &&OperationId| {
        let node = log.number(id).map(|at| &log.facts.nodes[at]);
        node.is_none_or(|node| node.signed.operation().author != *admitter)
    };
    if let Some(head) = manifest.heads.iter().find(foreign) {
        return Err(JoinError::ForeignHead(*head));
    }
    if !manifest.is_admin(admitter) {
        return Err(JoinError::NotAdmin);
    }
    let void = |id: &OperationId| {
        manifest.void.iter().find(|void| void.operation == *id).map(|void| void.why)
    };
    let mut admissions = log.facts.nodes.iter().filter(
        |node| matches!(node.action(), Action::Admit { device, .. } if *device == pending.device),
    );
    let Some(member) = manifest.members.get(&pending.device) else {
        return Err(match admissions.find_map(|node| void(&node.signed.id())) {
            Some(why) => JoinError::OtherAdmitter(Some(why)),
            None => JoinError::NotAdmitted,
        });
    };
    let grant = log.number(&member.grant).map(|at| log.facts.nodes[at].signed.operation());
    let Some(grant) = grant.filter(|grant| grant.author == *admitter) else {
        return Err(JoinError::OtherAdmitter(None));
    };
    let Action::Admit { ceremony, .. } = &grant.action else {
        return Err(JoinError::OtherAdmitter(None));
    };
    if *ceremony != pending.ceremony {
        return Err(JoinError::OtherTerms("the ceremony"));
    }
    if member.inbox != pending.inbox {
        return Err(JoinError::OtherTerms("the inbox key"));
    }
    if member.role != pending.role {
        return Err(JoinError::OtherTerms("the role"));
    }
    if member.folders != pending.folders {
        return Err(JoinError::OtherTerms("the list of folders"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use identity::{DeviceKey, Secret};
    use wire::{membership::Operation, session::Name};

    use super::*;

    #[test]
    fn attack_38_operations_in_the_worst_order_come_to_their_turn_one_by_one() {
        let key = DeviceKey::from_seed(&Secret::new([1; 32])).unwrap();
        let name = Name::new("a").unwrap();
        let group = super::super::write::create(&key, InboxId([2; 32]), name.clone(), [3; 32]);
        let first = group.unwrap().operations().next().unwrap().clone();
        let group = Some(GroupId(first.id().0));
        let mut chain = vec![first];
        for sequence in 2..2_000 {
            let parents = vec![chain[chain.len() - 1].id()];
            let action = Action::Rename { device: key.id(), name: name.clone() };
            let operation = Operation { group, author: key.id(), sequence, parents, action };
            chain.push(operation.sign(&key).unwrap());
        }
        let mut brought = chain.clone();
        brought.reverse();
        assert_eq!(in_order(brought.clone()).unwrap(), chain);
        // One that comes twice stays with the other.
        brought.push(chain[5].clone());
        assert_eq!(in_order(brought.clone()).unwrap().len(), chain.len() + 1);
        let gone = brought.remove(chain.len() - 8);
        brought.pop();
        assert_eq!(in_order(brought), Err(JoinError::Incomplete(vec![gone.id()])));
    }
}
