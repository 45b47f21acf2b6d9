//! A new key for this device, vouched for by the old one in the log of each of its groups (rule T13), and
//! following the rotations of others.
//!
//! The new keys are in files of their own before the logs name them, and the logs name them before they take the
//! old keys' places: a crash leaves either no rotation, or one that the next start finishes.

use std::sync::Arc;

use group::log::Gone;
use serde_json::Value;
use tree::StateDir;
use wire::{
    membership::{GroupId, SignedOperation},
    session::Farewell,
};

use super::{
    Device, gone,
    groups::{GroupError, present_key},
    home_failure,
    hub::{Hub, wall},
    store::{Store, rotation::Turn},
};
use crate::{
    api::{DeviceLine, Failure},
    home::{self, Home},
    line::ConnId,
};

/// How long an old inbox key is kept, in seconds (rule T13).
const KEEP_INBOX: i64 = 31 * 24 * 3600;

/// Finishes, or throws away, what a crash interrupted.
pub(super) fn finish(state: &StateDir, store: &Store) -> Result<(), Failure> {
    let lost = |error: super::store::StoreError| Failure::failed("state", error);
    let done = match store.turn().map_err(lost)? {
        Some(turn) => Home::take_next(state, turn.until),
        None => Home::drop_next(state),
    };
    done.map_err(|error| home_failure(&error))?;
    store.end_turn().map_err(lost)
}

impl Device {
    /// Gives the device a new key.
    pub(super) async fn rotate(&self) -> Result<Value, Failure> {
        let turned = self.hub.with(Hub::rotate).await.ok_or_else(gone)?;
        let (line, advertised) = turned?;
        if let Some(port) = advertised {
            self.advertise(port, true).await?;
        }
        serde_json::to_value(line).map_err(|error| Failure::failed("internal", error))
    }
}

impl Hub {
    /// Writes the rotation in all groups, takes the new keys, and begins all links and folders anew. The answer
    /// says, too, at which port that is to be advertised.
    fn rotate(&mut self) -> Result<(DeviceLine, Option<u16>), Failure> {
        // What others were shown speaks of the old key; so do codes, which end with it.
        self.close_token_window("this device gets a new key");
        self.free_to_pair()?;
        if let Some(join) = self.joins.first() {
            let message = format!("this device still waits to be admitted by {}", join.name);
            return Err(Failure::failed("pairing", message)
                .hint("let it be done, or give it up: kin pair --abandon"));
        }
        let home_failed = |error: crate::HomeError| home_failure(&error);
        let next = Home::next(&self.state).map_err(home_failed)?;
        let turn = Turn { to: next.device(), until: wall().saturating_add(KEEP_INBOX) };
        let (key, inbox) = next.into_keys();
        let written = self.at_once(|hub| {
            let pair = (&key, inbox.id());
            let operations = hub.groups.rotate(&mut hub.store, &hub.key, pair, &turn)?;
            hub.store.revoke_codes()?;
            for (group, signed) in &operations {
                hub.mail_operation(*group, signed);
            }
            Ok(operations)
        });
        let operations = match written {
            Ok(operations) => operations,
            Err(error) => {
                if let GroupError::Store(_) = &error {
                    // As with every operation: it may be on the disk (rule T12).
                    self.fail(&error.to_string());
                }
                return Err(error.into());
            }
        };
        if let Err(error) = self.take_keys(&turn) {
            // The logs have it: the next start goes on.
            self.fail(&error.message);
            return Err(error);
        }
        (self.key, self.inbox) = (Arc::new(key), Arc::new(inbox));
        self.me = self.key.id();
        if let Some(net) = &self.net
            && let Err(error) = net.endpoint.rekey(&self.key)
        {
            self.fail(&error.to_string());
        }
        for (group, signed) in operations {
            self.spread(group, &[signed], None);
        }
        // They are the old key's.
        let links: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in links {
            self.close(id, Farewell::Stopping, "this device has a new key");
        }
        self.restart_folders();
        self.look_for_members();
        self.new_card();
        let advertised = self.net.as_ref().filter(|net| net.discovery);
        Ok((self.own_line(), advertised.map(|net| net.port)))
    }

    fn take_keys(&mut self, turn: &Turn) -> Result<(), Failure> {
        finish(&self.state, &self.store)?;
        debug_assert_eq!(self.store.turn().ok(), Some(None), "{turn:?} is done");
        self.destroy_old_inboxes()
    }

    /// Old inbox keys whose time is over go.
    fn destroy_old_inboxes(&mut self) -> Result<(), Failure> {
        self.old_inboxes =
            home::old_inboxes(&self.state, wall()).map_err(|error| home_failure(&error))?;
        Ok(())
    }

    /// Whether their time is over is looked at whenever something happens, and daily.
    pub(super) fn tick_old_inboxes(&mut self) {
        if self.old_inboxes.iter().any(|old| old.until <= wall())
            && let Err(failure) = self.destroy_old_inboxes()
        {
            self.complain("state", &failure.message, &failure.hint);
        }
    }

    /// What is known of a device goes with it to its new key: where it was, and what was agreed on about SSH.
    pub(super) fn follow_rotations(&mut self, group: GroupId) {
        let Some(held) = self.groups.get(&group) else { return };
        let manifest = held.manifest();
        for (old, former) in &manifest.former {
            let Gone::Rotated { .. } = &former.why else { continue };
            let Some(to) = present_key(&manifest, old) else { continue };
            if self.places.contains_key(&to) && !self.places.contains_key(old) {
                continue;
            }
            // What is known of the new one already counts more.
            let place = self.places.get(&to).or_else(|| self.places.get(old));
            let place = place.cloned().unwrap_or_default();
            let kept = self.store.put_place(&to, &place).and_then(|()| self.store.follow(old, &to));
            if let Err(error) = kept {
                self.complain("state", &error.to_string(), "check the disk");
            }
            self.places.remove(old);
            self.places.insert(to, place);
        }
    }
}

impl super::groups::Groups {
    /// Writes the rotation of this device's key in every group that it belongs to.
    fn rotate(
        &mut self,
        store: &mut Store,
        old: &identity::DeviceKey,
        (new, inbox): (&identity::DeviceKey, identity::InboxId),
        turn: &Turn,
    ) -> Result<Vec<(GroupId, SignedOperation)>, GroupError> {
        let mut operations = Vec::new();
        for group in self.shared_with(&old.id()) {
            operations.push((group, self.draft_rotation(&group, old, (new, inbox))?));
        }
        store.begin_turn(turn, &operations)?;
        for (group, signed) in &operations {
            self.insert(group, signed.clone())?;
        }
        Ok(operations)
    }
}
