//! What a device that is no member may bring for a group's log.

use group::log::Gone;
use identity::DeviceId;
use wire::membership::{Action, GroupId, Operation, SignedOperation};

use super::Groups;

/// Most operations that are kept of somebody who was put out, for the removal of its remover.
const MAX_TURNED: usize = 256;

/// Removals of its remover, by one who was put out, of which each is tried: each costs as much as the whole log.
const MAX_TRIED: usize = 8;

impl Groups {
    /// What is to be kept of the operations that a device brought which is no member: all, if they make it one. If it was
    /// put out by one whom it put out at the same time, then both are out, whoever came here first (rule T11): that one
    /// removal, and what it was written on. It must do nothing else, so that a key that was put out long ago, and dates
    /// something back, takes no others with it, nor undoes what its remover has done since.
    pub(in crate::device) fn worth_keeping(
        &self,
        group: &GroupId,
        operations: Vec<SignedOperation>,
        of: &DeviceId,
    ) -> Vec<SignedOperation> {
        let Some(held) = self.groups.get(group).filter(|_| !operations.is_empty()) else {
            return Vec::new();
        };
        let with = |operations: &[SignedOperation]| {
            let mut trial = held.log().clone();
            for signed in operations {
                // What is refused counts for nothing.
                let _ = trial.insert(signed.clone());
            }
            trial
        };
        let mut all = with(&operations);
        if all.manifest().is_member(of) {
            return operations;
        }
        let manifest = held.manifest();
        let Some(Gone::Removed { by, operation }) = manifest.former.get(of).map(|it| &it.why)
        else {
            return Vec::new();
        };
        let mut left = manifest.members.clone();
        let Some(remover) = left.remove(by) else { return Vec::new() };
        // Who was admitted again since is a member for a reason that the removed one knows nothing of.
        let known = held.log().lacking_until(operation, &[]);
        if known.iter().all(|signed| signed.id() != remover.grant) {
            return Vec::new();
        }
        let turns = |signed: &&SignedOperation| {
            let Operation { author, action, .. } = signed.operation();
            author == of && *action == (Action::Remove { device: *by })
        };
        // Whoever writes more spoils its own chance alone.
        for signed in operations.iter().filter(turns).take(MAX_TRIED) {
            let needed = all.lacking_until(&signed.id(), &held.log().heads());
            let needed: Vec<SignedOperation> = needed.into_iter().cloned().collect();
            if needed.len() <= MAX_TURNED && with(&needed).manifest().members == left {
                return needed;
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use group::log::{self, Log};
    use identity::{DeviceKey, InboxId, Secret};
    use wire::{
        membership::{Ceremony, Role, Scope},
        session::Name,
    };

    use super::{super::Group, *};

    #[test]
    fn attack_38_of_what_a_removed_device_claims_little_is_tried() {
        let key = |byte| DeviceKey::from_seed(&Secret::new([byte; 32])).unwrap();
        let (one, two) = (key(1), key(2));
        let name = |text: &str| Name::new(text).unwrap();
        let mut log = log::create(&one, InboxId([2; 32]), name("desk"), [3; 32]).unwrap();
        let group = log.group();
        fn write(log: &mut Log, key: &DeviceKey, action: Action) -> SignedOperation {
            let signed = log.draft(key.id(), action).unwrap().sign(key).unwrap();
            log.insert(signed.clone()).unwrap();
            signed
        }
        let admit = |device, byte| Action::Admit {
            device,
            inbox: InboxId([byte; 32]),
            name: name("phone"),
            role: Role::Admin,
            folders: Scope::All,
            ceremony: Ceremony::Lan,
        };
        for (device, byte) in [(two.id(), 8), (key(3).id(), 9)] {
            write(&mut log, &one, admit(device, byte));
        }
        let before = log.clone();
        write(&mut log, &one, Action::Remove { device: two.id() });
        let groups = [(group, Group::new(log, "home".to_owned()))];
        let groups = Groups { groups: BTreeMap::from(groups) };
        let of = two.id();
        // The removal of its remover, as it could have written it at the same time.
        let good = write(&mut before.clone(), &two, Action::Remove { device: one.id() });
        let kept = |operations| groups.worth_keeping(&group, operations, &of);
        assert_eq!(kept(vec![good.clone()]), std::slice::from_ref(&good));
        // Others of it put out somebody else as well.
        let worthless = |number: u8| {
            let mut log = before.clone();
            let other = name(&format!("name{number}"));
            let mut written =
                vec![write(&mut log, &two, Action::Rename { device: of, name: other })];
            written.push(write(&mut log, &two, Action::Remove { device: key(3).id() }));
            written.push(write(&mut log, &two, Action::Remove { device: one.id() }));
            written
        };
        let few: Vec<SignedOperation> = (1..8).flat_map(worthless).chain([good.clone()]).collect();
        assert_eq!(kept(few), std::slice::from_ref(&good));
        let many: Vec<SignedOperation> = (1..9).flat_map(worthless).chain([good]).collect();
        assert!(kept(many).is_empty());
    }
}
