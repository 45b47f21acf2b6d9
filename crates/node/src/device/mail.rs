//! Letters to devices: over the link between the two if there is one, else by a relay. What goes by a relay is
//! durable first, and goes in its order; what comes by one is from whoever signed it, and from nobody else.
//! docs/protocol.md, section 24.

mod cards;
mod meet;
mod outbox;
mod relays;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use bytes::Bytes;
use identity::DeviceId;
use wire::{
    code,
    device::Message as Say,
    envelope::{Letter, Recipient},
    mail::{MailAddress, Message},
    membership::{GroupId, SignedOperation},
    relay::Lane,
};

use super::{
    codes::Via,
    hub::{Hub, wall},
    store::{self, StoreError},
};
use crate::line::ConnId;

/// Strangers of whom is remembered where an answer goes; only while this process runs.
const MAX_REPLIES: usize = 256;

/// What is under way by relays.
#[derive(Default)]
pub(super) struct Mail {
    relays: Vec<relays::Relay>,
    /// Devices whose letters are being left.
    sending: BTreeSet<DeviceId>,
    /// Where answers go to those who are no members.
    replies: BTreeMap<DeviceId, MailAddress>,
    meetings: BTreeMap<DeviceId, meet::Meeting>,
    /// Devices that belong to no group here, and wait until others like them have been met.
    queue: Vec<meet::Queued>,
    /// When joins have said hello last.
    hellos: Option<Instant>,
}

impl Hub {
    // Out

    /// Signs, seals and sends a letter: over the link if there is one, else by a relay, if one leads to the device.
    pub(super) fn send_letter(
        &mut self,
        to: &Recipient,
        group: Option<GroupId>,
        kind: u32,
        body: Bytes,
    ) {
        match self.link_to(&to.device) {
            Some(id) => self.send_by_link(id, to, group, kind, body),
            None => self.mail_letter(to, group, kind, body, None),
        }
    }

    pub(super) fn send_by_link(
        &mut self,
        id: ConnId,
        to: &Recipient,
        group: Option<GroupId>,
        kind: u32,
        body: Bytes,
    ) {
        if let Some(bytes) = self.sealed(to, group, kind, body, None)
            && let Some(conn) = self.conns.get_mut(&id)
        {
            let size = bytes.len();
            if !conn.answer(Say::Envelope(bytes), size) {
                self.cut(id, "it does not read its letters");
            }
        }
    }

    /// Puts a letter into the outbox, and begins to deliver. Without a place where letters to the device may be
    /// left it is lost; `place` is one that only the letter's occasion tells.
    pub(super) fn mail_letter(
        &mut self,
        to: &Recipient,
        group: Option<GroupId>,
        kind: u32,
        body: Bytes,
        place: Option<&MailAddress>,
    ) {
        let known = self.mail_place(&to.device);
        let Some(place) = known.as_ref().or(place) else { return };
        if !self.may_mail(&to.device) {
            return tracing::debug!(device = ?to.device, "too many letters to strangers wait");
        }
        let reply = self.reply_for(&to.device);
        let Some(envelope) = self.sealed(to, group, kind, body, reply) else { return };
        let letter = store::Outgoing {
            device: &to.device,
            group,
            kind,
            address: Some(place),
            envelope: &envelope,
            made: wall(),
        };
        match self.store.enqueue(&letter) {
            Ok(true) => self.deliver(to.device),
            Ok(false) => {
                let name = self.name_of(&to.device);
                let message = format!("too many letters wait for {name}");
                self.complain("mail", &message, "it is told all when it comes back on a link");
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Answers to those who are no members wait for a few of them only: anybody can ask under a new name.
    fn may_mail(&self, device: &DeviceId) -> bool {
        let known = !self.groups.shared_with(device).is_empty()
            || self.joins.iter().any(|join| join.device == *device);
        known || self.store.waiting_for().is_ok_and(|waiting| waiting.len() < MAX_REPLIES)
    }

    /// Where a device's letters may be left.
    fn mail_place(&self, device: &DeviceId) -> Option<MailAddress> {
        let stored = self.store.mail_place(device).ok().flatten();
        stored.map(|(address, ..)| address).or_else(|| self.mail.replies.get(device).cloned())
    }

    /// Where a device leaves its answers: members are told what opens their lane (rule T22).
    fn reply_for(&self, device: &DeviceId) -> Option<MailAddress> {
        let own = self.own_mail().into_iter().next()?;
        let member = !self.groups.shared_with(device).is_empty();
        Some(if member { own } else { own.for_strangers() })
    }

    fn sealed(
        &mut self,
        to: &Recipient,
        group: Option<GroupId>,
        kind: u32,
        body: Bytes,
        reply: Option<MailAddress>,
    ) -> Option<Bytes> {
        // A device whose numbers were lost goes on above them by its clock.
        let floor = u64::try_from(wall()).unwrap_or(0).saturating_mul(1000);
        let sequence = match self.store.next_letter(&to.device, floor) {
            Ok(sequence) => sequence,
            Err(error) => {
                self.fail(&error.to_string());
                return None;
            }
        };
        let letter = Letter { author: self.me, group, kind, sequence, body, reply };
        match letter.seal(&self.key, to) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::warn!(%error, "a letter was not sent");
                None
            }
        }
    }

    /// Does something that changes the store and mails others of it, at once or not at all.
    pub(super) fn at_once<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, super::groups::GroupError>,
    ) -> Result<T, super::groups::GroupError> {
        self.store.begin()?;
        let done = work(self);
        // What was not kept must not be told.
        let keep = done.is_ok() && self.stopping.is_none();
        self.store.end(keep)?;
        match (done, keep) {
            (Ok(_), false) => Err(super::groups::GroupError::Stopping),
            (done, _) => done,
        }
    }

    /// Members that are not linked are told of an operation of this device's by mail; in the transaction that
    /// keeps it.
    pub(super) fn mail_operation(&mut self, group: GroupId, signed: &SignedOperation) {
        let Some(held) = self.groups.get(&group) else { return };
        let manifest = held.manifest();
        let others = manifest.members.iter().filter(|(device, _)| **device != self.me);
        let others: Vec<Recipient> = others
            .map(|(device, member)| Recipient { device: *device, inbox: member.inbox })
            .filter(|to| !self.is_told(&to.device, &group))
            .collect();
        let message = Message::Operations(vec![signed.bytes().clone()]);
        for to in others {
            self.mail_letter(&to, Some(group), message.kind(), message.encode(), None);
        }
    }

    /// True if a device hears of changes of the group on a link.
    fn is_told(&self, device: &DeviceId, group: &GroupId) -> bool {
        self.conns.values().any(|conn| conn.line.peer == *device && conn.shared.contains(group))
    }

    /// A link on which logs have become equal says more than letters that still wait.
    pub(super) fn unsend_operations(&mut self, device: &DeviceId, group: &GroupId) {
        let kind = Message::Operations(Vec::new()).kind();
        if let Err(error) = self.store.unsend(device, group, kind) {
            self.fail(&error.to_string());
        }
    }

    // In

    /// An envelope came by a relay, by one of the lanes of the mailbox. What is wrong with it or has no place here is passed over.
    pub(super) fn heard_mail(&mut self, bytes: &Bytes, lane: Lane) {
        let letter = match self.open_letter(bytes, None) {
            Ok(letter) if letter.author != self.me => letter,
            Ok(_) => return,
            Err(error) => return tracing::debug!(%error, "mail was passed over"),
        };
        let author = letter.author;
        let last = match self.store.heard_mail(&author) {
            Ok(last) => last,
            Err(error) => return self.fail(&error.to_string()),
        };
        // What is in operations and cards says by itself whether it is new: being overtaken must not lose a
        // removal. A meeting goes past the outbox, so its number says nothing of others.
        let message = Message::decode(letter.kind, &letter.body);
        let by_itself = matches!(message, Ok(Message::Operations(_) | Message::Card(_)));
        let passes = matches!(message, Ok(Message::Meet { .. }));
        if letter.sequence <= last && !by_itself {
            return tracing::debug!(?author, "mail came late or twice (rule T21)");
        }
        if let Some(reply) = &letter.reply {
            if self.mail.replies.len() >= MAX_REPLIES && !self.mail.replies.contains_key(&author) {
                self.mail.replies.pop_first();
            }
            self.mail.replies.insert(author, reply.clone());
        }
        let taken = if code::Message::has_kind(letter.kind) {
            self.code_letter(&letter, Via::Mail)
        } else if Message::has_kind(letter.kind) {
            self.member_letter(&letter, lane)
        } else {
            self.window_heard(&letter) || self.join_heard(&letter)
        };
        if !taken {
            return;
        }
        // Strangers who come no further leave no trace in the store.
        if !passes
            && letter.sequence > last
            && let Err(error) = self.store.took_mail(&author, letter.sequence)
        {
            return self.fail(&error.to_string());
        }
        if let Some(reply) = letter.reply {
            self.remember_place(&author, &reply);
        }
    }

    /// Keeps where a device's letters may be left.
    pub(super) fn remember_place(&mut self, device: &DeviceId, address: &MailAddress) {
        let known = match self.store.mail_place(device) {
            Ok(known) => known,
            Err(error) => return self.fail(&error.to_string()),
        };
        let (mut at, mut card) = (0, None);
        if let Some((present, since, told)) = known {
            let poorer = address.token.is_none() && present.mailbox == address.mailbox;
            // A card says since when it holds; a letter may have waited for long.
            if present == *address || poorer || told.is_some() {
                return;
            }
            (at, card) = (since, told);
        }
        if let Err(error) = self.store.put_mail_place(device, address, at, card.as_ref()) {
            return self.fail(&error.to_string());
        }
        self.look_for_members();
    }

    /// A member writes. False if the author is none.
    fn member_letter(&mut self, letter: &Letter, lane: Lane) -> bool {
        let author = letter.author;
        let joins = self.joins.iter().any(|join| join.device == author);
        let member = !self.groups.shared_with(&author).is_empty();
        let Ok(message) = Message::decode(letter.kind, &letter.body) else { return false };
        match message {
            // It may be about to admit this device, or have done so.
            Message::Meet { meeting, relay } if member || joins => {
                self.heard_meet(&author, meeting, &relay);
            }
            // This device may have been restored from a time before it let the author in (rule T18): on a link its
            // log says so. Whoever says so in vain leaves nothing behind.
            Message::Meet { meeting, relay } => {
                self.heard_strange_meet(&author, (meeting, &relay), lane);
                return false;
            }
            Message::Operations(operations) if member => {
                let Some(group) = letter.group else { return false };
                if !self.groups.shared_with(&author).contains(&group) {
                    return false;
                }
                self.mailed_operations(&author, group, operations);
            }
            Message::Card(bytes) if member => self.heard_card(None, bytes),
            _ => return false,
        }
        true
    }

    fn mailed_operations(&mut self, by: &DeviceId, group: GroupId, operations: Vec<Bytes>) {
        let parsed: Result<Vec<SignedOperation>, _> =
            operations.into_iter().map(SignedOperation::parse).collect();
        let Ok(parsed) = parsed else { return };
        match self.groups.take(&mut self.store, &group, by, parsed) {
            Ok((new, _)) if !new.is_empty() => {
                self.look_for_own(&new);
                self.spread(group, &new, None);
            }
            Ok(_) => {}
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// When something by a relay is due.
    pub(super) fn mail_time(&self) -> Option<Instant> {
        self.meeting_time()
    }
}

impl From<StoreError> for crate::api::Failure {
    fn from(error: StoreError) -> Self {
        Self::failed("state", error)
    }
}
