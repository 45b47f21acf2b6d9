//! Which of several groups commands mean when a person names none.

use wire::membership::GroupId;

use super::{hub::Hub, requests::lost};
use crate::api::Failure;

/// The setting that names the group commands mean.
const USED: &str = "used group";

impl Hub {
    /// The group that commands mean: the one that was chosen, or the only one.
    pub(super) fn used_group(&self) -> Result<GroupId, Failure> {
        if let Some(chosen) = self.chosen_group()? {
            return Ok(chosen);
        }
        let mut groups = self.groups.iter();
        match (groups.next(), groups.next()) {
            (Some((group, _)), None) => Ok(*group),
            (None, _) => Err(Failure::failed("no_group", "this device belongs to no group yet")
                .hint("pair it with another one: kin pair")),
            _ => Err(Failure::usage("no_group", "this device belongs to several groups")
                .hint("say which with --group, or once and for all with kin group use NAME")),
        }
    }

    fn chosen_group(&self) -> Result<Option<GroupId>, Failure> {
        let chosen = self.store.setting(USED).map_err(lost)?;
        let chosen = chosen.and_then(|bytes| Some(GroupId(bytes.try_into().ok()?)));
        Ok(chosen.filter(|group| self.groups.get(group).is_some()))
    }

    pub(super) fn group_or_used(&self, text: Option<&str>) -> Result<GroupId, Failure> {
        match text {
            Some(text) => self.groups.find(text),
            None => self.used_group(),
        }
    }

    pub(super) fn use_group(&self, group: &GroupId) -> Result<(), Failure> {
        self.store.set(USED, &group.0).map_err(lost)
    }

    /// The group that commands mean because there is no other, and nobody has chosen it.
    pub(super) fn only_group(&self) -> Option<GroupId> {
        let mut groups = self.groups.iter();
        match (groups.next(), groups.next(), self.chosen_group()) {
            (Some((group, _)), None, Ok(None)) => Some(*group),
            _ => None,
        }
    }

    /// A group has come beside what was the only one: commands mean what they meant before.
    pub(super) fn keep_using(&self, only: Option<GroupId>) -> Result<(), Failure> {
        only.map_or(Ok(()), |group| self.use_group(&group))
    }

    /// A group that was just joined is the one to use, unless the one before has others or folders in it.
    pub(super) fn use_if_better(&mut self, group: GroupId) {
        let chosen = self.chosen_group().ok().flatten();
        let mut others = self.groups.iter().map(|(id, _)| *id).filter(|id| *id != group);
        let before = match (chosen, others.next(), others.next()) {
            (Some(chosen), ..) => Some(chosen),
            // Of several none was meant: one more does not become it, or what a person then shares without naming a
            // group would go to whoever let this device in last.
            (None, _, Some(_)) => return,
            (None, only, None) => only,
        };
        let is_empty = |used: &GroupId| {
            self.groups.get(used).is_none_or(|held| {
                let manifest = held.manifest();
                manifest.members.len() <= 1 && manifest.folders.is_empty()
            })
        };
        let better = before.filter(|used| !is_empty(used)).unwrap_or(group);
        if let Err(failure) = self.use_group(&better) {
            self.complain("state", &failure.message, "");
        }
    }
}
