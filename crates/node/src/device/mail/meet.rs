//! Links through a relay: one device tells the other by mail where it waits, and their TLS runs through the
//! splice end to end. It is what is left when nothing leads there directly, and it is given up for a link that
//! does (rule T1).

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use identity::DeviceId;
use link::{Endpoint, Link};
use wire::{device::Purpose, envelope::Recipient, mail::Message, relay::MeetingId};

use super::outbox::{client, leave};
use crate::device::hub::{Hub, random};

/// Head start of direct ways.
const HEAD_START: Duration = Duration::from_millis(1500);
/// First and longest pause between two tries to meet a device.
const PAUSE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(600));
/// How long the one who asked waits at the relay, and the one who was asked.
const WAITS: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Devices that belong to no group here and are met at once.
const MAX_STRANGERS: usize = 4;

/// A device that is to be met.
pub(super) struct Meeting {
    due: Instant,
    pause: Duration,
    /// This device waits at a relay for it.
    waits: bool,
    /// This device goes where the other one waits.
    goes: bool,
    /// Where it waits, if it has said so again meanwhile.
    next: Option<(MeetingId, String)>,
}

impl Meeting {
    fn new(due: Instant) -> Self {
        Self { due, pause: PAUSE.0, waits: false, goes: false, next: None }
    }
}

impl Hub {
    fn has_link(&self, device: &DeviceId) -> bool {
        self.conns.values().any(|conn| {
            conn.line.peer == *device
                && conn.purpose != Some(Purpose::Pair)
                && !conn.line.out.is_closed()
        })
    }

    /// When the next device is to be met.
    pub(super) fn meeting_time(&self) -> Option<Instant> {
        self.net.as_ref()?;
        let open = self.mail.meetings.iter();
        let open = open.filter(|(device, one)| !one.waits && !self.has_link(device));
        open.map(|(_, one)| one.due).min()
    }

    /// Who is to be met, of those that this device wants links to.
    pub(in crate::device) fn want_links(&mut self, wanted: &BTreeSet<DeviceId>) {
        self.mail.meetings.retain(|device, one| wanted.contains(device) || one.goes);
        let due = Instant::now() + HEAD_START;
        for device in wanted {
            if !self.mail.meetings.contains_key(device) && self.mail_place(device).is_some() {
                self.mail.meetings.insert(*device, Meeting::new(due));
            }
        }
    }

    /// A link to a device is wanted now.
    pub(in crate::device) fn want_link(&mut self, device: &DeviceId) {
        if self.mail_place(device).is_some() {
            let now = Instant::now();
            let meeting = self.mail.meetings.entry(*device).or_insert_with(|| Meeting::new(now));
            (meeting.due, meeting.pause) = (now, PAUSE.0);
        }
    }

    /// A link that worked is lost: it is looked for again, directly first.
    pub(in crate::device) fn meet_again(&mut self, device: &DeviceId) {
        if let Some(meeting) = self.mail.meetings.get_mut(device) {
            (meeting.due, meeting.pause) = (Instant::now() + HEAD_START, PAUSE.0);
        }
    }

    /// A relay answers again: everybody is to be met.
    pub(super) fn meet_all(&mut self) {
        let due = Instant::now() + HEAD_START;
        for meeting in self.mail.meetings.values_mut() {
            (meeting.due, meeting.pause) = (due, PAUSE.0);
        }
        self.look_for_members();
    }

    pub(in crate::device) fn tick_mail(&mut self) {
        let now = Instant::now();
        let due: Vec<DeviceId> = self
            .mail
            .meetings
            .iter()
            .filter(|(device, one)| one.due <= now && !one.waits && !self.has_link(device))
            .map(|(device, _)| *device)
            .collect();
        for device in due {
            self.meet(device);
        }
    }

    /// Tells a device where this one waits for it, and waits there.
    fn meet(&mut self, device: DeviceId) {
        let (Some(place), Some(to)) = (self.mail_place(&device), self.recipient(&device)) else {
            self.mail.meetings.remove(&device);
            return;
        };
        let Ok(id) = random() else { return };
        let (meeting, relay) = (MeetingId(id), place.relay.clone());
        let message = Message::Meet { meeting, relay: relay.clone() };
        let reply = self.reply_for(&device);
        let Some(envelope) = self.sealed(&to, None, message.kind(), message.encode(), reply) else {
            return;
        };
        let Some(endpoint) = self.net.as_ref().map(|net| Arc::clone(&net.endpoint)) else { return };
        if let Some(meeting) = self.mail.meetings.get_mut(&device) {
            meeting.waits = true;
            meeting.due = Instant::now() + meeting.pause;
            meeting.pause = (meeting.pause * 2).min(PAUSE.1);
        }
        let hub = self.handle.clone();
        tokio::spawn(async move {
            let link = match leave(&place, envelope).await {
                Ok(()) => through(&endpoint, &relay, meeting, true).await,
                Err(error) => {
                    tracing::debug!(%error, "a device was not told where it is waited for");
                    None
                }
            };
            hub.with(move |hub| hub.met(&device, link, true)).await;
        });
    }

    /// To whom a letter to a device goes that this one may want a link to.
    fn recipient(&self, device: &DeviceId) -> Option<Recipient> {
        let member = self.groups.shared_with(device).into_iter().find_map(|group| {
            let manifest = self.groups.get(&group)?.manifest();
            manifest.members.get(device).map(|member| member.inbox)
        });
        let joined = || self.tokens.inbox_of(device).or_else(|| self.code_inbox_of(device));
        member.or_else(joined).map(|inbox| Recipient { device: *device, inbox })
    }

    /// Another device waits at a relay.
    pub(super) fn heard_meet(&mut self, device: &DeviceId, meeting: MeetingId, relay: &str) {
        let now = Instant::now();
        let one =
            self.mail.meetings.entry(*device).or_insert_with(|| Meeting::new(now + HEAD_START));
        one.next = Some((meeting, relay.to_owned()));
        self.go_to_meet(device);
    }

    /// Meetings for which this device goes somewhere.
    #[cfg(test)]
    pub(in crate::device) fn meetings_under_way(&self) -> usize {
        self.mail.meetings.values().filter(|one| one.goes).count()
    }

    fn is_strange(&self, device: &DeviceId) -> bool {
        self.groups.shared_with(device).is_empty()
            && !self.joins.iter().any(|join| join.device == *device)
    }

    /// The same of a device that this one does not know: few at once, and only where this device is reached anyway.
    pub(super) fn heard_strange_meet(
        &mut self,
        device: &DeviceId,
        meeting: MeetingId,
        relay: &str,
    ) {
        let known = self.mail.meetings.contains_key(device);
        let strangers = self.mail.meetings.keys().filter(|it| self.is_strange(it)).count();
        let own = self.own_mail().iter().any(|mail| mail.relay == relay);
        if own && (known || strangers < MAX_STRANGERS) {
            self.heard_meet(device, meeting, relay);
            self.forget_strange(device);
        }
    }

    /// Nothing is kept of a device that this one does not know, once nothing is under way.
    fn forget_strange(&mut self, device: &DeviceId) {
        let idle = self.mail.meetings.get(device).is_some_and(|one| !one.goes && !one.waits);
        if idle && self.is_strange(device) {
            self.mail.meetings.remove(device);
        }
    }

    fn go_to_meet(&mut self, device: &DeviceId) {
        let linked = self.has_link(device);
        let Some(one) = self.mail.meetings.get_mut(device).filter(|one| !one.goes) else { return };
        // Of several places where it waited, only the last one can be the present one.
        let Some((meeting, relay)) = one.next.take().filter(|_| !linked) else { return };
        let Some(endpoint) = self.net.as_ref().map(|net| Arc::clone(&net.endpoint)) else { return };
        one.goes = true;
        let (hub, device) = (self.handle.clone(), *device);
        tokio::spawn(async move {
            let link = through(&endpoint, &relay, meeting, false).await;
            hub.with(move |hub| hub.met(&device, link, false)).await;
        });
    }

    fn met(&mut self, device: &DeviceId, link: Option<Link>, waited: bool) {
        if let Some(one) = self.mail.meetings.get_mut(device) {
            match waited {
                true => one.waits = false,
                false => one.goes = false,
            }
        }
        match link {
            // Who is there has proven its key: it is the one that was meant, or nobody.
            Some(link) if link.peer() == *device => {
                let joins = self.joins.iter().any(|join| join.device == *device);
                let purpose = if joins { Purpose::Join } else { Purpose::Member };
                self.linked(link, waited.then_some(purpose));
            }
            _ => {}
        }
        self.go_to_meet(device);
        self.forget_strange(device);
    }
}

/// A link through a relay, as its TLS client or its server.
async fn through(
    endpoint: &Endpoint,
    relay: &str,
    meeting: MeetingId,
    waits: bool,
) -> Option<Link> {
    let patience = if waits { WAITS.0 } else { WAITS.1 };
    let splice = client(relay).ok()?.splice(meeting, patience).await;
    let splice = splice.inspect_err(|error| tracing::debug!(%error, "nobody was met")).ok()?;
    let link = endpoint.through(Box::new(splice), waits).await;
    link.inspect_err(|error| tracing::debug!(%error, "no link came of a meeting")).ok()
}
