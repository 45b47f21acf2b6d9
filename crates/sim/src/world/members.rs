//! Who is a member of the group, as each device has heard. What an admin changes reaches whoever is linked, and
//! others when they are; two that are to be linked first make equal what they have heard. Who is put out hears of
//! that alone, and its folder stops.

use std::collections::{BTreeMap, BTreeSet};

use folder::engine::Input;
use identity::DeviceId;

use super::World;
use crate::{
    authority::{device_id, device_with_key},
    mutant::Mutation,
    plan::Role,
};

/// Changes by their number, and of whom.
pub(super) type Changes = BTreeMap<usize, (usize, Change)>;

/// What changes; of two of a kind about the same device the later one counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Role(Role),
    /// A new key, which has the change's number.
    Key,
}

/// The group's members.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// At first; empty in a session.
    first: Vec<Role>,
    next: usize,
    /// What each device has heard.
    heard: Vec<Changes>,
    /// Devices that run, but not their folder: they are no members, as far as they know.
    outside: BTreeSet<usize>,
    /// The key with which each device's folder runs.
    runs_with: Vec<usize>,
}

/// The number of the key that a device has.
fn key(heard: &Changes, of: usize) -> usize {
    keys(heard, of).last().copied().unwrap_or(0)
}

/// The numbers of all keys that it had.
fn keys(heard: &Changes, of: usize) -> Vec<usize> {
    let later = heard.iter().filter(|(_, change)| **change == (of, Change::Key));
    std::iter::once(0).chain(later.map(|(number, _)| *number)).collect()
}

impl Members {
    fn role(&self, heard: &Changes, of: usize) -> Role {
        let roles = heard.values().rev().filter_map(|(device, change)| match change {
            Change::Role(role) if *device == of => Some(*role),
            _ => None,
        });
        roles.into_iter().next().unwrap_or(self.first[of])
    }

    /// The id that a device has now, as it proves on links.
    pub(super) fn id(&self, device: usize) -> DeviceId {
        self.runs_with.get(device).map_or(device_id(device), |key| device_with_key(device, *key))
    }

    fn is_in(&self, device: usize, of: usize) -> bool {
        self.role(&self.heard[device], of) != Role::Out
    }

    /// What a device has heard, to be kept with a backup of its machine.
    pub(super) fn heard_by(&self, device: usize) -> Changes {
        self.heard.get(device).cloned().unwrap_or_default()
    }

    /// The device's process ends.
    pub(super) fn process_ends(&mut self, device: usize) {
        self.outside.remove(&device);
    }

    /// Makes equal what two have heard.
    fn exchange(&mut self, a: usize, b: usize) {
        let mut all = self.heard[a].clone();
        all.extend(self.heard[b].iter().map(|(number, change)| (*number, *change)));
        for device in [a, b] {
            if self.role(&all, device) == Role::Out {
                let is_its = |change: &Change| matches!(change, Change::Role(_));
                let mut own =
                    all.iter().filter(|(_, (of, change))| *of == device && is_its(change));
                let last = own.next_back().map(|(number, change)| (*number, *change));
                self.heard[device].extend(last);
            } else {
                self.heard[device].clone_from(&all);
            }
        }
    }
}

impl World {
    /// The devices are a group, and what they are in it.
    pub(crate) fn make_group(&mut self, roles: &[Role]) {
        self.members.first = roles.to_vec();
        self.members.heard = vec![Changes::new(); roles.len()];
        self.members.runs_with = vec![0; roles.len()];
        (0..roles.len()).for_each(|device| self.note_roles(device));
    }

    fn is_group(&self) -> bool {
        !self.members.first.is_empty()
    }

    /// The devices that are members by all that was ever changed.
    pub(crate) fn is_member(&self, device: usize) -> bool {
        !self.is_group() || self.members.is_in(device, device)
    }

    /// A machine was set back, and with it what it had heard.
    pub(super) fn set_back_members(&mut self, device: usize, heard: Changes) {
        if self.is_group() {
            self.members.heard[device] = heard;
            self.note_roles(device);
        }
    }

    /// The engine's view of what a device has heard.
    fn note_roles(&mut self, device: usize) {
        let all = 0..self.members.first.len();
        let heard = &self.members.heard[device];
        let (mut writers, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for of in all {
            let present = key(heard, of);
            let old = keys(heard, of).into_iter().filter(|key| *key != present);
            gone.extend(old.map(|key| device_with_key(of, key)));
            match self.members.role(heard, of) {
                Role::Writer => writers.insert(device_with_key(of, present)),
                Role::Out => gone.insert(device_with_key(of, present)),
                Role::Reader => false,
            };
        }
        self.devices[device].manifest.become_these(writers, gone);
    }

    /// A device's folder begins: with the key that it has.
    pub(super) fn takes_key(&mut self, device: usize) -> DeviceId {
        if self.is_group() {
            self.members.runs_with[device] = key(&self.members.heard[device], device);
        }
        self.members.id(device)
    }

    /// True if a device's folder may run. If not, its process runs without it.
    pub(super) fn may_run(&mut self, device: usize) -> bool {
        if self.is_member(device) {
            return true;
        }
        self.members.outside.insert(device);
        false
    }

    /// True if two devices take each other for members, after they have made equal what they heard.
    pub(super) fn may_link(&self, a: usize, b: usize) -> bool {
        let knows = |one: usize, other: usize| {
            let known = key(&self.members.heard[one], other);
            self.members.is_in(one, other) && known == self.members.runs_with[other]
        };
        !self.is_group() || knows(a, b) && knows(b, a)
    }

    fn has_process(&self, device: usize) -> bool {
        self.devices[device].engine.is_some() || self.members.outside.contains(&device)
    }

    /// An admin makes somebody something else.
    pub(super) fn change_member(&mut self, by: usize, of: usize, role: Role) -> Result<(), String> {
        if !self.is_group() || !self.has_process(by) {
            return Ok(());
        }
        self.note(format_args!("{by} makes {of} {role}"));
        self.members.next += 1;
        let number = self.members.next;
        let before = self.members.heard.clone();
        self.members.heard[by].insert(number, (of, Change::Role(role)));
        self.members_spread(&before)
    }

    /// A device takes a new key. All its links are the old one's.
    pub(super) fn rotate(&mut self, device: usize) -> Result<(), String> {
        if !self.is_group() || !self.is_member(device) || self.devices[device].engine.is_none() {
            return Ok(());
        }
        self.note(format_args!("{device} takes a new key"));
        self.stop(device)?;
        self.members.next += 1;
        self.members.heard[device].insert(self.members.next, (device, Change::Key));
        self.note_roles(device);
        self.start(device)
    }

    /// What was heard reaches everybody that is to be linked.
    pub(super) fn members_meet(&mut self) -> Result<(), String> {
        if !self.is_group() {
            return Ok(());
        }
        let before = self.members.heard.clone();
        self.members_spread(&before)
    }

    fn members_spread(&mut self, before: &[Changes]) -> Result<(), String> {
        loop {
            let last = self.members.heard.clone();
            for (a, b) in self.wanted_links.clone() {
                if self.has_process(a) && self.has_process(b) {
                    self.members.exchange(a, b);
                }
            }
            if self.members.heard == last {
                break;
            }
        }
        for (device, before) in before.iter().enumerate() {
            if self.members.heard[device] != *before {
                self.heard_of_members(device)?;
            }
        }
        for (a, b) in self.wanted_links.clone() {
            self.connect(a, b)?;
        }
        Ok(())
    }

    /// A device goes by what it has heard.
    fn heard_of_members(&mut self, device: usize) -> Result<(), String> {
        self.note_roles(device);
        let linked: Vec<_> = self.links.keys().copied().collect();
        for (a, b) in linked.into_iter().filter(|(a, b)| *a == device || *b == device) {
            if !self.may_link(a, b) {
                self.disconnect(a, b)?;
            }
        }
        if !self.is_member(device) {
            if self.devices[device].engine.is_some() {
                self.stop(device)?;
                self.members.outside.insert(device);
            }
            return Ok(());
        }
        if self.members.outside.remove(&device) {
            return self.start(device);
        }
        let present = key(&self.members.heard[device], device);
        if self.devices[device].engine.is_some() && self.members.runs_with[device] != present {
            // The machine was set back, and has its key from before.
            self.stop(device)?;
            return self.start(device);
        }
        if self.mutation == Some(Mutation::MembersUnheard) {
            return Ok(());
        }
        let run = self.devices[device].run;
        self.input(device, run, Input::MembersChanged)
    }

    /// Everybody hears of everything. The links that members then have: all of them.
    pub(crate) fn all_hear(&mut self) -> Result<Vec<(usize, usize)>, String> {
        let mut all = Changes::new();
        self.members.heard.iter().for_each(|heard| all.extend(heard.iter()));
        let devices = self.members.first.len();
        if (1..devices).all(|of| self.members.role(&all, of) == Role::Out) {
            // A single device is in step with nobody: all are let in again.
            for of in 1..devices {
                self.members.next += 1;
                all.insert(self.members.next, (of, Change::Role(Role::Reader)));
            }
        }
        for device in 0..devices {
            self.members.heard[device].clone_from(&all);
            self.heard_of_members(device)?;
        }
        let members: Vec<_> = (0..devices).filter(|device| self.is_member(*device)).collect();
        let pairs = members.iter().flat_map(|b| members.iter().map(move |a| (*a, *b)));
        Ok(pairs.filter(|(a, b)| a < b).collect())
    }

    /// All members write, or those that do not give up what they changed.
    pub(crate) fn nobody_is_apart(&mut self, all_write: bool) -> Result<(), String> {
        for device in 0..self.members.first.len() {
            if !self.is_member(device) {
                continue;
            }
            if all_write {
                for of in 0..self.members.first.len() {
                    if self.members.is_in(device, of) {
                        let number = self.members.next + 1 + of;
                        self.members.heard[device].insert(number, (of, Change::Role(Role::Writer)));
                    }
                }
                self.heard_of_members(device)?;
            } else {
                let run = self.devices[device].run;
                self.input(device, run, Input::Revert { paths: Vec::new() })?;
            }
        }
        Ok(())
    }
}
