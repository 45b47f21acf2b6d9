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
use wire::{
    device::Purpose,
    envelope::Recipient,
    mail::Message,
    relay::{Lane, MeetingId},
};

use super::outbox::{client, leave};
use crate::device::hub::{Hub, random};

/// Head start of direct ways.
const HEAD_START: Duration = Duration::from_millis(1500);
/// First and longest pause between two tries to meet a device.
const PAUSE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(600));
/// How long the one who asked waits at the relay, and the one who was asked.
const WAITS: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// How long the one who was asked waits for a device that it does not know.
const WAITS_FOR_STRANGERS: Duration = Duration::from_secs(5);

/// Devices that belong to no group here and are met at once, for each lane that their letters come by.
const MAX_STRANGERS: usize = 4;
/// Others of them that wait until one of these is done.
const MAX_QUEUE: usize = 64;
/// How long they do: as long as they wait at the relay.
const QUEUES: Duration = WAITS.0;

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
    /// Of a device that belongs to no group here: by which lane it asked.
    strange: Option<Lane>,
}

/// A device that belongs to no group here, and waits until others like it have been met.
pub(super) struct Queued {
    device: DeviceId,
    meeting: MeetingId,
    relay: String,
    since: Instant,
}

impl Meeting {
    fn new(due: Instant) -> Self {
        Self { due, pause: PAUSE.0, waits: false, goes: false, next: None, strange: None }
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
        self.open_meetings().map(|(_, one)| one.due).min()
    }

    /// Those for which this device is to wait somewhere. Where a device that it does not know waits, it only goes.
    fn open_meetings(&self) -> impl Iterator<Item = (&DeviceId, &Meeting)> {
        self.mail.meetings.iter().filter(|(device, one)| {
            !one.waits && (one.strange.is_none() || !one.goes) && !self.has_link(device)
        })
    }

    /// Who is to be met, of those that this device wants links to.
    pub(in crate::device) fn want_links(&mut self, wanted: &BTreeSet<DeviceId>) {
        self.mail.meetings.retain(|device, one| wanted.contains(device) || one.goes);
        let due = Instant::now() + HEAD_START;
        for device in wanted {
            if let Some(one) = self.mail.meetings.get_mut(device) {
                one.strange = None;
            }
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
        let due = self.open_meetings().filter(|(_, one)| one.due <= now);
        let due: Vec<DeviceId> = due.map(|(device, _)| *device).collect();
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
                Ok(()) => through(&endpoint, &relay, (meeting, WAITS.0), true).await,
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
        self.is_to_be_met(device, (meeting, relay), None);
    }

    fn is_to_be_met(
        &mut self,
        device: &DeviceId,
        (meeting, relay): (MeetingId, &str),
        strange: Option<Lane>,
    ) {
        let due = Instant::now() + HEAD_START;
        let new = || Meeting { strange, ..Meeting::new(due) };
        let one = self.mail.meetings.entry(*device).or_insert_with(new);
        one.next = Some((meeting, relay.to_owned()));
        self.go_to_meet(device);
    }

    /// Meetings for which this device goes somewhere.
    #[cfg(test)]
    pub(in crate::device) fn meetings_under_way(&self) -> usize {
        self.mail.meetings.values().filter(|one| one.goes).count()
    }

    #[cfg(test)]
    pub(in crate::device) fn is_met(&self, device: &DeviceId) -> bool {
        self.mail.meetings.get(device).is_some_and(|one| one.goes)
    }

    fn is_strange(&self, device: &DeviceId) -> bool {
        self.groups.shared_with(device).is_empty()
            && !self.joins.iter().any(|join| join.device == *device)
    }

    /// The same of a device that this one does not know: few at once, and only where this device is reached anyway.
    /// Whoever was once told what opens the members' lane has places of its own, and of the others it is left to
    /// chance who is next: nobody can keep the one out whose admission was forgotten.
    pub(super) fn heard_strange_meet(
        &mut self,
        device: &DeviceId,
        (meeting, relay): (MeetingId, &str),
        lane: Lane,
    ) {
        if !self.own_mail().iter().any(|mail| mail.relay == relay) {
            return;
        }
        let known = self.mail.meetings.contains_key(device);
        let met = self.mail.meetings.values().filter(|one| one.strange == Some(lane)).count();
        if known || met < MAX_STRANGERS {
            self.is_to_be_met(device, (meeting, relay), Some(lane));
            return self.forget_strange(device);
        }
        if lane == Lane::Strangers {
            let queue = &mut self.mail.queue;
            queue.retain(|one| one.device != *device && one.since.elapsed() < QUEUES);
            if queue.len() >= MAX_QUEUE
                && let Some(at) = any_of(queue.len())
            {
                queue.swap_remove(at);
            }
            let (relay, since) = (relay.to_owned(), Instant::now());
            queue.push(Queued { device: *device, meeting, relay, since });
        }
    }

    /// A place is free for a device that this one does not know.
    fn next_strange(&mut self) {
        let met = self.mail.meetings.values().filter(|one| one.strange == Some(Lane::Strangers));
        if met.count() >= MAX_STRANGERS {
            return;
        }
        self.mail.queue.retain(|one| one.since.elapsed() < QUEUES);
        if let Some(at) = any_of(self.mail.queue.len()) {
            let Queued { device, meeting, relay, .. } = self.mail.queue.swap_remove(at);
            if self.is_strange(&device) {
                self.heard_strange_meet(&device, (meeting, &relay), Lane::Strangers);
            }
        }
    }

    /// Nothing is kept of a device that this one does not know, once nothing is under way.
    fn forget_strange(&mut self, device: &DeviceId) {
        let idle = self.mail.meetings.get(device).is_some_and(|one| !one.goes && !one.waits);
        if idle && self.is_strange(device) {
            self.mail.meetings.remove(device);
            self.next_strange();
        }
    }

    fn go_to_meet(&mut self, device: &DeviceId) {
        let linked = self.has_link(device);
        let Some(one) = self.mail.meetings.get_mut(device).filter(|one| !one.goes) else { return };
        // Of several places where it waited, only the last one can be the present one.
        let Some((meeting, relay)) = one.next.take().filter(|_| !linked) else { return };
        let Some(endpoint) = self.net.as_ref().map(|net| Arc::clone(&net.endpoint)) else { return };
        one.goes = true;
        let patience = if one.strange.is_some() { WAITS_FOR_STRANGERS } else { WAITS.1 };
        let (hub, device) = (self.handle.clone(), *device);
        tokio::spawn(async move {
            let link = through(&endpoint, &relay, (meeting, patience), false).await;
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

/// One of so many, by chance.
fn any_of(count: usize) -> Option<usize> {
    let chance = usize::from_le_bytes(random().ok()?);
    chance.checked_rem(count)
}

/// A link through a relay, as its TLS client or its server.
async fn through(
    endpoint: &Endpoint,
    relay: &str,
    (meeting, patience): (MeetingId, Duration),
    waits: bool,
) -> Option<Link> {
    let splice = client(relay).ok()?.splice(meeting, patience).await;
    let splice = splice.inspect_err(|error| tracing::debug!(%error, "nobody was met")).ok()?;
    let link = endpoint.through(Box::new(splice), waits).await;
    link.inspect_err(|error| tracing::debug!(%error, "no link came of a meeting")).ok()
}
