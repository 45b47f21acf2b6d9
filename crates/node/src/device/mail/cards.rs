//! Cards: where members' mailboxes are, in each one's own words, passed on among members.

use bytes::Bytes;
use identity::DeviceId;
use wire::{
    device::Message as Say,
    envelope::Recipient,
    mail::{Card, Message},
    membership::GroupId,
};

use crate::{
    device::hub::{Hub, wall},
    line::ConnId,
};

/// The setting that says when this device's card was made.
const MADE: &str = "card made";

impl Hub {
    /// This device's card, if it uses a relay.
    fn own_card(&self) -> Option<Card> {
        let made = self.store.setting(MADE).ok()?.and_then(|bytes| bytes.try_into().ok());
        let at = made.map_or(0, u64::from_be_bytes);
        Card::sign(&self.key, at, self.own_mail().into_iter().next()?).ok()
    }

    /// Its mailbox has changed: all members are told, on links and by mail.
    pub(in crate::device) fn new_card(&mut self) {
        let last = self.store.setting(MADE).ok().flatten().and_then(|bytes| bytes.try_into().ok());
        let now = u64::try_from(wall()).unwrap_or(0).saturating_mul(1000);
        let at = now.max(last.map_or(0, u64::from_be_bytes).saturating_add(1));
        if let Err(error) = self.store.set(MADE, &at.to_be_bytes()) {
            return self.fail(&error.to_string());
        }
        let Some(card) = self.own_card() else { return };
        let mut told = Vec::new();
        for conn in self.conns.values().filter(|conn| conn.is_accepted()) {
            conn.say(Say::Card(card.bytes().clone()));
            told.push(conn.line.peer);
        }
        let mut others: Vec<Recipient> = Vec::new();
        for (_, held) in self.groups.iter() {
            let manifest = held.manifest();
            let members = manifest.members.iter();
            others.extend(
                members.map(|(device, one)| Recipient { device: *device, inbox: one.inbox }),
            );
        }
        others.sort_unstable();
        others.dedup();
        let message = Message::Card(card.bytes().clone());
        for to in others {
            if to.device != self.me && !told.contains(&to.device) {
                self.mail_letter(&to, None, message.kind(), message.encode(), None);
            }
        }
    }

    /// Tells a member where it can leave letters, here and with others of the group.
    pub(in crate::device) fn say_cards(&mut self, id: ConnId, group: GroupId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Some(held) = self.groups.get(&group) else { return };
        let peer = conn.line.peer;
        if let Some(own) = self.own_card() {
            conn.say(Say::Card(own.bytes().clone()));
        }
        for device in held.manifest().members.keys() {
            if *device != peer
                && *device != self.me
                && let Ok(Some((_, _, Some(card)))) = self.store.mail_place(device)
            {
                conn.say(Say::Card(card));
            }
        }
    }

    /// A card came, on a link or by mail from a member. Its device signed it, whoever brought it.
    pub(in crate::device) fn heard_card(&mut self, from: Option<ConnId>, bytes: Bytes) {
        if from.is_some_and(|id| {
            !self.conns.get(&id).is_some_and(super::super::links::Conn::is_accepted)
        }) {
            return;
        }
        let Ok(card) = Card::parse(bytes) else { return };
        let groups = self.groups.shared_with(&card.device);
        if card.device == self.me || groups.is_empty() {
            return;
        }
        let at = i64::try_from(card.at).unwrap_or(i64::MAX);
        let known = match self.store.mail_place(&card.device) {
            Ok(known) => known,
            Err(error) => return self.fail(&error.to_string()),
        };
        if known.is_some_and(|(_, since, told)| told.is_some() && since >= at) {
            return;
        }
        let kept = self.store.put_mail_place(&card.device, &card.address, at, Some(card.bytes()));
        if let Err(error) = kept {
            return self.fail(&error.to_string());
        }
        let others: Vec<DeviceId> = groups
            .iter()
            .filter_map(|group| self.groups.get(group))
            .flat_map(|held| held.manifest().members.keys().copied().collect::<Vec<_>>())
            .collect();
        for (id, conn) in &self.conns {
            let peer = conn.line.peer;
            if Some(*id) != from
                && peer != card.device
                && conn.is_accepted()
                && others.contains(&peer)
            {
                conn.say(Say::Card(card.bytes().clone()));
            }
        }
        self.deliver(card.device);
        self.look_for_members();
    }
}
