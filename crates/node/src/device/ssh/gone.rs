//! Taking SSH away from devices that do not belong any more (promise 5), and following those that have a new key.

use std::collections::BTreeMap;

use group::log::Gone;
use identity::DeviceId;
use ssh::Tag;

use super::super::{groups::present_key, hub::Hub};
use crate::api::ApiEvent;

/// What is to be done about a device that was a member.
enum Then {
    /// Everything that is installed for it goes.
    Forget,
    /// It has this id now.
    Follow(DeviceId),
}

impl Hub {
    /// True if a group has both the device and this one.
    fn is_together(&self, device: &DeviceId) -> bool {
        self.groups.iter().any(|(_, held)| {
            let manifest = held.manifest();
            manifest.is_member(device) && manifest.is_member(&self.me)
        })
    }

    /// Looks whether somebody is gone. Once it is taken away, what is installed for a device stays away until a
    /// person says otherwise, so a device that was put out and is let in by `kin ssh pair` is let in.
    pub(in crate::device) fn sweep_ssh(&mut self) {
        let mut gone: BTreeMap<DeviceId, Then> = BTreeMap::new();
        for (_, held) in self.groups.iter() {
            let manifest = held.manifest();
            for (device, former) in &manifest.former {
                let present = match &former.why {
                    Gone::Rotated { .. } => present_key(&manifest, device),
                    _ => None,
                };
                let then = match present {
                    Some(to) if self.is_together(&to) => Then::Follow(to),
                    _ => Then::Forget,
                };
                gone.insert(*device, then);
            }
            if !manifest.is_member(&self.me) && manifest.former.contains_key(&self.me) {
                // Those who put this device out may not come in here either.
                gone.extend(manifest.members.keys().map(|device| (*device, Then::Forget)));
            }
        }
        // A group that was left is not there to tell of its members.
        match self.store.ssh_devices() {
            Ok(said) => {
                let waits =
                    |device: &DeviceId| self.joins.iter().any(|join| join.device == *device);
                for device in said.into_iter().filter(|device| !waits(device)) {
                    gone.entry(device).or_insert(Then::Forget);
                }
            }
            Err(error) => self.complain("state", &error.to_string(), ""),
        }
        gone.remove(&self.me);
        for (device, then) in gone {
            if !self.is_together(&device) {
                self.end_ssh(device, then);
            }
        }
    }

    /// A group is about to be forgotten: who was together with this device only there is so no more.
    pub(in crate::device) fn leave_ssh(&mut self, devices: impl Iterator<Item = DeviceId>) {
        for device in devices {
            if device != self.me && !self.is_together(&device) {
                self.end_ssh(device, Then::Forget);
            }
        }
    }

    /// It belongs: what happened before counts no more.
    pub(in crate::device) fn welcome_ssh(&mut self, device: &DeviceId) {
        let known = self.store.is_ssh_gone(device);
        let kept = known
            .and_then(|gone| if gone { self.store.set_ssh_gone(device, false) } else { Ok(()) });
        if let Err(error) = kept {
            self.complain("state", &error.to_string(), "");
        }
    }

    fn end_ssh(&mut self, device: DeviceId, then: Then) {
        let Some(files) = &self.files else { return };
        let done = self.store.is_ssh_gone(&device).unwrap_or(false);
        if done && self.store.ssh_consent(&device).is_ok_and(|consent| consent.is_none()) {
            return;
        }
        let (hub, name) = (self.handle.clone(), self.name_of(&device));
        files.run(move |here| {
            let done = here.and_then(|here| match then {
                Then::Forget => {
                    let tag = Tag::device(&device);
                    let installed = here.home.installed()?;
                    let of_it = installed.into_iter().filter(|one| one.tag == tag);
                    let keys: Vec<_> =
                        of_it.flat_map(|one| one.access).filter_map(|one| one.key).collect();
                    let forgotten = here.home.forget(&tag)?;
                    let mut still = false;
                    for key in &keys {
                        still |= here.home.allows_by_others(key)?;
                    }
                    Ok((forgotten == tree::Edited::Changed, still))
                }
                Then::Follow(to) => here
                    .home
                    .retag(&Tag::device(&device), &Tag::device(&to))
                    .map(|_| (false, false)),
            });
            // Written down only when it is done: a crash before that does it again.
            hub.send(move |hub| match done {
                Ok((taken, still)) => {
                    if still {
                        let message = format!(
                            "{name} may log in here still: its key is also in a line of ~/.ssh/authorized_keys that kin did not write"
                        );
                        hub.complain("still_allowed", &message, "take that line away by hand");
                    }
                    let kept = hub.store.forget_ssh(&device);
                    let kept = kept.and_then(|()| hub.store.set_ssh_gone(&device, true));
                    if let Err(error) = kept {
                        hub.complain("state", &error.to_string(), "");
                    }
                    if taken {
                        hub.tell(ApiEvent::SshRemoved { device: device.to_string(), name });
                    }
                }
                Err(error) => {
                    let message = format!(
                        "{name} does not belong any more, and could not be kept out of SSH: {error}"
                    );
                    let hint = "take its lines away by hand: docs/ssh.md";
                    hub.complain(error.kind(), &message, hint);
                }
            });
        });
    }
}
