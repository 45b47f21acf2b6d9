//! What the other end of a link brings of logs before it may write in them, bounded: claims of who is no member, and the
//! log of a group that this device is about to join.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::membership::{GroupId, SignedOperation};

/// Operations that somebody who is no member yet may bring: it knows the way to its own admission.
pub(super) const MAX_BROUGHT: usize = 4_096;

/// How often what somebody who is no member brings for one group is judged on one link: once, and again if others have
/// changed the log meanwhile.
const MAX_JUDGED: u32 = 4;

/// Operations that came over a link for groups to which its other end does not belong, until it has sent all: judged
/// together then, so that whoever is no member can fill nobody's log. To judge them costs work, and so is done a few times.
#[derive(Default)]
pub(super) struct Claims {
    operations: BTreeMap<GroupId, Vec<SignedOperation>>,
    judged: BTreeMap<GroupId, u32>,
}

impl Claims {
    /// False if they are too many. To be a member of another group changes nothing.
    pub(super) fn add(&mut self, group: GroupId, operations: Vec<SignedOperation>) -> bool {
        let held: usize = self.operations.values().map(Vec::len).sum();
        if held + operations.len() > MAX_BROUGHT {
            return false;
        }
        self.operations.entry(group).or_default().extend(operations);
        true
    }

    /// What is to be judged, which may be nothing; `None` if that was done too often.
    pub(super) fn take(&mut self, group: &GroupId) -> Option<Vec<SignedOperation>> {
        let Some(claimed) = self.operations.remove(group) else { return Some(Vec::new()) };
        let judged = self.judged.entry(*group).or_default();
        *judged += 1;
        (*judged <= MAX_JUDGED).then_some(claimed)
    }

    /// True if more than once something was brought for a group.
    pub(super) fn again(&self, group: &GroupId) -> bool {
        self.judged.get(group).is_some_and(|judged| *judged > 1)
    }
}

/// Bytes of a log that this device is about to join.
const MAX_LOG_BYTES: usize = 32 << 20;

/// The log of a group that this device is about to join, as far as it has come.
#[derive(Default)]
pub(super) struct Brought {
    pub(super) operations: Vec<Bytes>,
    bytes: usize,
    pub(super) is_too_long: bool,
}

impl Brought {
    pub(super) fn add(&mut self, operations: Vec<Bytes>) {
        self.bytes = operations.iter().fold(self.bytes, |sum, one| sum.saturating_add(one.len()));
        let count = self.operations.len() + operations.len();
        self.is_too_long |= self.bytes > MAX_LOG_BYTES || count > group::log::MAX_OPERATIONS;
        match self.is_too_long {
            true => self.operations = Vec::new(),
            false => self.operations.extend(operations),
        }
    }
}

#[cfg(test)]
mod tests {
    use identity::{DeviceKey, InboxKey, Secret};
    use wire::session::Name;

    use super::*;

    /// A log's first operation.
    fn one() -> Vec<SignedOperation> {
        let key = DeviceKey::from_seed(&Secret::new([1; 32])).unwrap();
        let inbox = InboxKey::from_seed(Secret::new([2; 32])).unwrap();
        let name = Name::new("a").unwrap();
        let log = group::log::create(&key, inbox.id(), name, [3; 32]).unwrap();
        log.operations().cloned().collect()
    }

    #[test]
    fn attack_38_what_a_stranger_to_a_group_claims_is_bounded_on_any_link() {
        let one = one();
        let mut claims = Claims::default();
        for number in 0..MAX_BROUGHT {
            let group = GroupId([u8::try_from(number % 2).unwrap(); 32]);
            assert!(claims.add(group, one.clone()), "{number}");
        }
        assert!(!claims.add(GroupId([7; 32]), one.clone()));
        assert_eq!(claims.take(&GroupId([0; 32])).unwrap().len(), MAX_BROUGHT / 2);
        assert!(claims.add(GroupId([7; 32]), one));
    }

    #[test]
    fn attack_38_what_a_stranger_to_a_group_claims_is_judged_a_few_times() {
        let one = one();
        let (mut claims, group) = (Claims::default(), GroupId([1; 32]));
        for number in 0..MAX_JUDGED {
            assert_eq!(claims.again(&group), number > 1);
            assert!(claims.add(group, one.clone()));
            assert_eq!(claims.take(&group).map(|claimed| claimed.len()), Some(1));
            assert_eq!(claims.take(&group).map(|claimed| claimed.len()), Some(0), "costs nothing");
        }
        assert!(claims.add(group, one.clone()));
        assert_eq!(claims.take(&group), None);
        // Of another group it may be a member.
        assert!(claims.add(GroupId([2; 32]), one));
        assert!(claims.take(&GroupId([2; 32])).is_some());
    }

    #[test]
    fn attack_38_a_log_that_is_brought_to_a_joiner_is_bounded() {
        let mut brought = Brought::default();
        let one = Bytes::from(vec![0; wire::membership::MAX_OPERATION]);
        for _ in 0..MAX_LOG_BYTES / one.len() {
            brought.add(vec![one.clone()]);
        }
        assert!(!brought.is_too_long && !brought.operations.is_empty());
        brought.add(vec![one.clone()]);
        assert!(brought.is_too_long && brought.operations.is_empty());
        brought.add(vec![Bytes::new()]);
        assert!(brought.operations.is_empty(), "nothing more is kept");
        let mut brought = Brought::default();
        brought.add(vec![Bytes::new(); group::log::MAX_OPERATIONS]);
        assert!(!brought.is_too_long);
        brought.add(vec![Bytes::new()]);
        assert!(brought.is_too_long);
    }
}
