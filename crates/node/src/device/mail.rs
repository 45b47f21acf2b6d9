//! Letters to devices: over the link between the two if there is one, else by a relay.

use bytes::Bytes;
use identity::DeviceId;
use wire::{
    code::{LookupId, SavedCodeJoin},
    device::Message as Say,
    envelope::{Letter, Recipient},
    mail::MailAddress,
    membership::GroupId,
};

use super::{
    hub::{Hub, wall},
    store::StoredCode,
};
use crate::line::ConnId;

impl Hub {
    /// Signs, seals and sends a letter, over the link if there is one.
    pub(super) fn send_letter(
        &mut self,
        to: &Recipient,
        group: Option<GroupId>,
        kind: u32,
        body: Bytes,
    ) {
        if let Some(id) = self.link_to(&to.device) {
            self.send_by_link(id, to, group, kind, body);
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
        if let Some(bytes) = self.sealed(to, group, kind, body)
            && let Some(conn) = self.conns.get(&id)
        {
            conn.say(Say::Envelope(bytes));
        }
    }

    fn sealed(
        &mut self,
        to: &Recipient,
        group: Option<GroupId>,
        kind: u32,
        body: Bytes,
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
        let letter = Letter { author: self.me, group, kind, sequence, body };
        match letter.seal(&self.key, to) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::warn!(%error, "a letter was not sent");
                None
            }
        }
    }

    /// Where letters to this device may be left.
    pub(super) fn own_mail(&self) -> Vec<MailAddress> {
        Vec::new()
    }

    pub(super) fn mail_hello(&mut self, _issuer: &DeviceId, _saved: &SavedCodeJoin) {}

    pub(super) fn want_link(&mut self, _device: &DeviceId) {}

    pub(super) fn post_invitation(&mut self, _code: &StoredCode) {}

    pub(super) fn look_at_relays(
        &mut self,
        _lookup: LookupId,
        _relay: Option<String>,
        _stream: u64,
    ) -> usize {
        0
    }
}
