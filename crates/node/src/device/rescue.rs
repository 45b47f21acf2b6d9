//! A new group out of one in which nobody may admit any more (rule T11): made by one device, and gone along into by
//! the others that it picked, each by its own person's word.

use std::collections::BTreeMap;

use group::log;
use identity::DeviceId;
use serde_json::Value;
use wire::membership::{GroupId, Role, Scope};

use super::{
    groups::role_name,
    hub::{Hub, random, wall},
    requests::{answer, lost},
    store::{JoinKind, StoredFolder, StoredJoin},
};
use crate::api::{ApiEvent, Failure, InvitationLine, Trouble};

/// The groups that devices which are known here ask this one to go along into. They ask again on every link, so
/// these are in memory only.
pub(super) type Invitations = BTreeMap<DeviceId, GroupId>;

/// What this device is, or was, in a group that it had together with another device.
struct Common {
    group: GroupId,
    role: Role,
    folders: Scope,
}

impl Hub {
    pub(super) fn rescue_group(
        &mut self,
        group: Option<&str>,
        names: &[String],
    ) -> Result<Value, Failure> {
        let group = self.group_or_used(group)?;
        let Some(held) = self.groups.get(&group) else {
            return Err(Failure::usage("no_group", "there is no such group here"));
        };
        let old = held.manifest();
        let label = held.label.clone();
        let mut picked = Vec::new();
        for text in names {
            let known = old
                .members
                .iter()
                .map(|(id, member)| (id, member.role, member.name.as_str()))
                .chain(old.former.iter().map(|(id, f)| (id, f.was.role, f.was.name.as_str())));
            let found: Vec<(DeviceId, Role)> = known
                .filter(|(id, _, name)| {
                    *name == text || (text.len() >= 7 && id.to_string().starts_with(text.as_str()))
                })
                .map(|(id, role, _)| (*id, role))
                .collect();
            match found[..] {
                [one] => picked.push(one),
                _ => {
                    let message = format!("{text} names no single device of the group");
                    return Err(Failure::usage("no_device", message)
                        .hint("give the beginning of its id: kin devices"));
                }
            }
        }
        if names.is_empty() {
            picked = old.members.iter().map(|(id, member)| (*id, member.role)).collect();
        }
        let me = (self.inbox.id(), self.name.clone());
        let made = log::rescue(&self.key, me, random()?, &old, &picked)
            .map_err(|error| Failure::failed("group", error))?;
        let new = self.groups.add(&mut self.store, made, &label, None)?;
        // The same directories, in the new group's folders of the same ids.
        self.move_folders(&[group], new)?;
        self.use_group(&new)?;
        self.review(new);
        // Those that are linked hear of it now, others when they are.
        let links: Vec<_> = self.conns.iter().map(|(id, conn)| (*id, conn.line.peer)).collect();
        for (id, peer) in links {
            self.answer_join(id, peer);
        }
        answer(self.group_line(&new))
    }

    /// The directories of old groups' folders become those of the new one's of the same ids.
    fn move_folders(&mut self, old: &[GroupId], new: GroupId) -> Result<(), Failure> {
        let Some(held) = self.groups.get(&new) else { return Ok(()) };
        let manifest = held.manifest();
        let goes = |stored: &&StoredFolder| {
            old.contains(&stored.group) && manifest.folders.contains_key(&stored.folder)
        };
        let moved: Vec<StoredFolder> = self.folders.stored().iter().filter(goes).cloned().collect();
        for stored in moved {
            drop(self.stop_folder(stored.folder));
            self.store.remove_folder(stored.group, stored.folder).map_err(lost)?;
            self.keep(StoredFolder { group: new, joined: random()?, ..stored })?;
        }
        Ok(())
    }

    /// A device says that it has admitted this one, which has not asked for it. Of strangers that means nothing;
    /// whoever is known from a group may have made a new one of it.
    pub(super) fn invited(&mut self, device: DeviceId, group: GroupId) {
        if self.groups.get(&group).is_some() || self.common(&device).is_empty() {
            return;
        }
        if self.invitations.insert(device, group) != Some(group) {
            self.tell(ApiEvent::GroupChanged { group: String::new() });
        }
    }

    /// The groups in which both are known, by what this device is or was there.
    fn common(&self, device: &DeviceId) -> Vec<Common> {
        let both = |(id, group): (&GroupId, &super::groups::Group)| {
            let manifest = group.manifest();
            let known = |device: &DeviceId| {
                let member = manifest.members.get(device);
                member.or_else(|| manifest.former.get(device).map(|former| &former.was)).cloned()
            };
            known(device)?;
            let own = known(&self.me)?;
            Some(Common { group: *id, role: own.role, folders: own.folders })
        };
        self.groups.iter().filter_map(both).collect()
    }

    /// What is asked of this device's person.
    pub(super) fn invitation_lines(&self) -> Vec<InvitationLine> {
        let line = |device: &DeviceId| {
            let common = self.common(device);
            let role = common.first().map_or("", |common| role_name(common.role));
            let goes = |stored: &&StoredFolder| common.iter().any(|one| one.group == stored.group);
            let folders = self.folders.stored().iter().filter(goes);
            let named = folders.filter_map(|stored| self.groups.folder(&stored.folder));
            InvitationLine {
                device: device.to_string(),
                name: self.name_of(device),
                role: role.to_owned(),
                folders: named.map(|(_, name)| name.as_str().to_owned()).collect(),
            }
        };
        self.invitations.keys().map(line).collect()
    }

    /// The same among what is wrong: without an answer, folders may stand still.
    pub(super) fn invitation_troubles(&self) -> Vec<Trouble> {
        let trouble = |line: InvitationLine| Trouble {
            kind: "invited".to_owned(),
            folder: None,
            message: format!("{} asks this device to go along into a new group", line.name),
            hint: format!("if that is meant: kin group follow {}", line.name),
        };
        self.invitation_lines().into_iter().map(trouble).collect()
    }

    /// This device's person goes along.
    pub(super) fn follow_group(&mut self, text: &str) -> Result<InvitationLine, Failure> {
        let is_meant = |line: &InvitationLine| {
            line.name == text || (text.len() >= 7 && line.device.starts_with(text))
        };
        let lines = self.invitation_lines();
        let mut meant = lines.into_iter().filter(is_meant);
        let (Some(line), None) = (meant.next(), meant.next()) else {
            let message = format!("{text} names no single device that asks this one to go along");
            return Err(Failure::usage("no_device", message)
                .hint("it asks when it is linked: kin status shows who does"));
        };
        let device: DeviceId =
            line.device.parse().map_err(|error| Failure::failed("internal", error))?;
        let (Some(group), Some(common)) =
            (self.invitations.get(&device).copied(), self.common(&device).into_iter().next())
        else {
            return Err(Failure::failed("internal", "the invitation is gone"));
        };
        if self.joins.iter().any(|join| join.device == device && join.kind != JoinKind::Rescue) {
            let message = format!("this device waits to be admitted by {} already", line.name);
            return Err(Failure::failed("pairing", message)
                .hint("let it be done, or give it up: kin pair --abandon"));
        }
        let join = StoredJoin {
            device,
            name: line.name.clone(),
            kind: JoinKind::Rescue,
            group: Some(group),
            role: common.role,
            folders: common.folders,
            since: wall(),
            state: Vec::new(),
        };
        self.store.put_join(&join).map_err(lost)?;
        self.joins.retain(|other| other.device != device);
        self.joins.push(join);
        let links = self.conns.iter().filter(|(_, conn)| conn.line.peer == device);
        let links: Vec<_> = links.map(|(id, _)| *id).collect();
        for id in links {
            self.heard_admitted(id, group);
        }
        self.look_for_members();
        Ok(line)
    }

    /// The new group is here: the folders follow.
    pub(super) fn followed(&mut self, device: &DeviceId, new: GroupId) {
        self.invitations.remove(device);
        let old: Vec<GroupId> = self
            .common(device)
            .into_iter()
            .map(|common| common.group)
            .filter(|group| *group != new)
            .collect();
        let moved = self.move_folders(&old, new).and_then(|()| self.use_group(&new));
        if let Err(failure) = moved {
            self.complain(&failure.kind, &failure.message, &failure.hint);
        }
    }
}
