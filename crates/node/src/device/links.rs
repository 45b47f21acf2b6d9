//! Links between devices: who dials whom, what is said first, and which link stays (rule T1). docs/protocol.md,
//! section 19.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use identity::DeviceId;
use link::{Found, Link, LinkError};
use tokio::sync::mpsc;
use wire::{
    device::{DEVICE_VERSION, Message as Say, Purpose, Tag},
    membership::{GroupId, OperationId},
    session::{Farewell, Message, Refusal},
};

use super::{
    bounds::{Allowance, Unread},
    brought::{Brought, Claims},
    codes::Asked,
    hub::{Hub, wall},
    pairing::CeremonyLine,
    slots::Slots,
    ssh::Talk,
    token::MAX_LETTERS,
};
use crate::{
    api::ApiEvent,
    line::{
        ConnId, Internal, Line,
        dialling::{self, DialError},
        source,
        targets::Key,
    },
};

/// How long a step may take that needs no person.
pub(super) const STEP: Duration = Duration::from_secs(10);
/// A link on which something was heard so long ago at most plainly lives: each end says so every two seconds.
const LIVES: Duration = Duration::from_secs(3);
/// Links at a time that lead to nobody who belongs to a group of ours.
const MAX_STRANGERS: usize = 64;
/// The same that came in from one source.
const MAX_STRANGERS_EACH: usize = 12;
/// Messages of a ceremony that may wait for it.
const CEREMONY_QUEUE: usize = 16;
/// Adverts remembered (attacks.md 12).
const MAX_ADVERTS: usize = 256;
/// Addresses remembered of a device.
pub(super) const MAX_ADDRESSES: usize = 8;

/// One link.
pub(super) struct Conn {
    pub(super) line: Line,
    /// What it is for; of a link that came in, known with the hello.
    pub(super) purpose: Option<Purpose>,
    /// The port on which the other end listens, once it has said hello.
    pub(super) port: Option<u16>,
    /// When it must have come further.
    pub(super) deadline: Option<Instant>,
    /// By group: how far both logs have become equal.
    pub(super) exchanges: BTreeMap<GroupId, Exchange>,
    /// Groups in which both ends hold each other for members.
    pub(super) shared: BTreeSet<GroupId>,
    /// Operations that came before that.
    pub(super) brought: usize,
    /// Those for groups to which the other end does not belong.
    pub(super) claims: Claims,
    /// The log of a group that this device is about to join.
    pub(super) joining: Brought,
    /// The group whose log was asked for to join it.
    pub(super) fetching: Option<GroupId>,
    /// Letters that came.
    pub(super) letters: usize,
    /// What it may ask as a member, and what it was answered.
    allowance: Allowance,
    unread: Unread,
    /// What the other end was asked about codes.
    pub(super) asked: Asked,
    /// Folders on this link.
    pub(super) slots: Slots,
    /// How far both ends are with SSH.
    pub(super) ssh: Talk,
    /// Where messages of a ceremony go.
    ceremony: Option<mpsc::Sender<Message>>,
}

/// How far an exchange of a group's log is.
#[derive(Default)]
pub(super) struct Exchange {
    pub(super) said_have: bool,
    /// The other end's heads, as it told them.
    pub(super) heads: Option<Vec<OperationId>>,
    pub(super) said_sent: Option<bool>,
    pub(super) heard_sent: Option<bool>,
    /// The other end was sent its admission and what that rests on, and no more yet.
    pub(super) until_admission: bool,
}

impl Conn {
    pub(super) fn say(&self, message: Say) {
        self.line.say(&Message::Device(message));
    }

    pub(super) fn tag(&self, group: &GroupId) -> Tag {
        Tag::new(group, &self.line.exporter)
    }

    /// Counts a question or letter. False if it is one too many: of those who are no members over the whole link, of
    /// members for the time.
    pub(super) fn may_ask(&mut self) -> bool {
        self.letters += 1;
        match self.is_accepted() {
            true => self.allowance.take(Instant::now()),
            false => self.letters <= MAX_LETTERS,
        }
    }

    /// Answers, unless too much waits for whoever does not read it.
    pub(super) fn answer(&mut self, message: Say, bytes: usize) -> bool {
        let may = self.unread.add(bytes, self.line.out.queued_bytes());
        if may {
            self.say(message);
        }
        may
    }

    /// True once both ends hold each other for members of some group.
    pub(super) fn is_accepted(&self) -> bool {
        !self.shared.is_empty()
    }
}

impl Hub {
    // Dialling

    pub(super) fn is_linked(&self) -> impl Fn(&DeviceId) -> bool + use<> {
        // A link through a relay is no reason not to look for a better one.
        let member = |conn: &&Conn| conn.purpose != Some(Purpose::Pair) && !conn.line.is_carried();
        let linked: BTreeSet<DeviceId> =
            self.conns.values().filter(member).map(|conn| conn.line.peer).collect();
        move |device| linked.contains(device)
    }

    pub(super) fn dial_due(&mut self) {
        #[cfg(test)]
        if self.dials_nobody {
            return;
        }
        let linked = self.is_linked();
        let Some(net) = &mut self.net else { return };
        for (key, addrs) in net.targets.due(Instant::now(), linked) {
            dialling::spawn(Arc::clone(&net.endpoint), key, addrs, self.internal.clone());
        }
    }

    /// Looks for everybody who belongs to a group, or who is to admit this device, where they were last.
    pub(super) fn look_for_members(&mut self) {
        let mut wanted: BTreeSet<DeviceId> = self.joins.iter().map(|join| join.device).collect();
        for (_, group) in self.groups.iter() {
            wanted.extend(group.manifest().members.keys());
        }
        wanted.remove(&self.me);
        self.want_links(&wanted);
        let Some(net) = &mut self.net else { return };
        net.targets.retain(|device| wanted.contains(device));
        for device in &wanted {
            if let Some(place) = self.places.get(device).filter(|place| !place.addresses.is_empty())
            {
                let addresses = place.addresses.clone();
                net.targets.add(Key::Member(*device), addresses, Some(*device), Instant::now());
            }
        }
        for (instance, advert) in &net.adverts {
            if let Some(device) = wanted.iter().find(|device| advert.claims_to_be(**device)) {
                let key = Key::Advert(instance.clone());
                net.targets.add(key, advert.addrs.clone(), Some(*device), Instant::now());
            }
        }
        self.dial_for_code();
    }

    /// An advert was seen, changed or withdrawn. It is a hint: trust does not change by it.
    pub(super) fn found(&mut self, found: Found) {
        let Some(net) = &mut self.net else { return };
        if found.gone {
            net.adverts.remove(&found.instance);
            net.targets.remove(&Key::Advert(found.instance));
            return;
        }
        if net.adverts.len() >= MAX_ADVERTS && !net.adverts.contains_key(&found.instance) {
            return;
        }
        net.adverts.insert(found.instance.clone(), found);
        self.look_for_members();
    }

    fn dialled(&mut self, key: &Key, result: Result<Link, DialError>) {
        let now = Instant::now();
        let Some(net) = &mut self.net else { return };
        match result {
            Ok(link) => {
                net.targets.reached(key, link.peer(), now);
                if let Key::Member(meant) = key
                    && *meant != link.peer()
                {
                    self.look_elsewhere(meant, link.addr());
                }
                // A device with a new key, of which nothing has been heard here yet, tells of it itself.
                let moved = matches!(key, Key::Member(meant) if *meant != link.peer());
                let joins = self.joins.iter().any(|join| join.device == link.peer());
                let purpose = match joins || self.looks_for(&link.peer()) {
                    true => Purpose::Join,
                    false => Purpose::Member,
                };
                self.tried_for_code(key, &link.peer());
                // Who answers may be somebody else; nothing is said to strangers.
                if purpose == Purpose::Join
                    || moved
                    || !self.groups.shared_with(&link.peer()).is_empty()
                {
                    self.linked(link, Some(purpose));
                }
            }
            Err(DialError::Link(LinkError::Own)) => net.targets.remove(key),
            Err(_) => net.targets.failed(key, now),
        }
    }

    // From a new link to its end

    /// A new link; with a purpose if this end dialled.
    pub(super) fn linked(&mut self, link: Link, purpose: Option<Purpose>) {
        if link.is_strand() {
            return self.take_strand(link);
        }
        if link.peer() == self.me || (purpose.is_none() && self.crowded(&link)) {
            return;
        }
        let id = self.fresh_id();
        let conn = Conn {
            line: Line::start(id, link, &self.internal),
            purpose,
            port: None,
            deadline: Some(Instant::now() + STEP),
            exchanges: BTreeMap::new(),
            shared: BTreeSet::new(),
            brought: 0,
            claims: Claims::default(),
            joining: Brought::default(),
            fetching: None,
            letters: 0,
            allowance: Allowance::new(Instant::now()),
            unread: Unread::default(),
            asked: Asked::default(),
            slots: Slots::default(),
            ssh: Talk::default(),
            ceremony: None,
        };
        if let Some(purpose) = purpose {
            conn.say(self.hello(purpose));
        }
        self.conns.insert(id, conn);
    }

    /// A further connection of a link (rule E24). Only of a device that shares a group it is listened to.
    fn take_strand(&self, strand: Link) {
        let peer = strand.peer();
        let of = |conn: &&Conn| {
            conn.is_accepted() && conn.line.peer == peer && conn.line.takes_strands()
        };
        if let Some(conn) = self.conns.values().find(of) {
            conn.line.take_strand(strand);
        }
    }

    fn hello(&self, purpose: Purpose) -> Say {
        let port = self.net.as_ref().map_or(0, |net| net.port);
        Say::Hello { version: DEVICE_VERSION, port, purpose }
    }

    fn crowded(&self, link: &Link) -> bool {
        // Its key is proven: no stranger takes the place of a member.
        let peer = link.peer();
        let known = !self.groups.shared_with(&peer).is_empty()
            || self.joins.iter().any(|join| join.device == peer);
        if known {
            return false;
        }
        let strangers = self.conns.values().filter(|conn| !conn.is_accepted());
        let from = source(link.addr());
        let near = |conn: &&Conn| !conn.line.dialled && source(conn.line.addr) == from;
        strangers.clone().count() >= MAX_STRANGERS
            || strangers.filter(near).count() >= MAX_STRANGERS_EACH
    }

    pub(super) fn handle(&mut self, internal: Internal) {
        match internal {
            Internal::Dialled { key, result } => self.dialled(&key, *result),
            Internal::Heard { id, message, done } => {
                self.heard(id, message);
                // The reader may be gone.
                let _ = done.send(());
            }
            Internal::ReadEnded { id, end } => {
                if let Some(conn) = self.conns.get(&id) {
                    conn.line.read_ended(&end);
                }
                self.ended(id, &end.to_string());
            }
            Internal::WriteEnded { id, reason } => self.ended(id, &reason),
        }
    }

    pub(super) fn heard(&mut self, id: ConnId, message: Message) {
        // The link may be closing, with messages still on their way.
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match message {
            Message::Device(Say::Hello { version, port, purpose }) => {
                self.heard_hello(id, version, port, purpose);
            }
            Message::Goodbye { .. } => {
                conn.line.out.close_with(None);
                self.ended(id, "it said goodbye");
            }
            _ if conn.port.is_none() => self.cut(id, "it began out of order"),
            message if conn.purpose == Some(Purpose::Pair) && conn.ceremony.is_some() => {
                let queue = conn.ceremony.as_ref();
                if queue.is_some_and(|queue| queue.try_send(message).is_err()) {
                    self.cut(id, "its ceremony is over");
                }
            }
            Message::Refused { .. } => {
                conn.line.out.close_with(None);
                self.ended(id, "it refused");
            }
            Message::Device(Say::Have { tag, heads }) => self.heard_have(id, &tag, heads),
            Message::Device(Say::Operations { tag, operations }) => {
                self.heard_operations(id, &tag, operations);
            }
            Message::Device(Say::Sent { tag, member }) => self.heard_sent(id, &tag, member),
            Message::Device(Say::Open { slot, tag, folder }) => {
                if let Some(group) = self.groups.tagged(&tag, &conn.line.exporter) {
                    self.heard_open(id, slot, group, folder);
                }
            }
            Message::Device(Say::Shut { slot }) => self.heard_shut(id, slot),
            Message::Device(Say::Admitted { group }) => self.heard_admitted(id, group),
            Message::Device(Say::NotAdmitted) => self.heard_not_admitted(id),
            Message::Device(Say::Envelope(bytes)) => self.heard_envelope(id, &bytes),
            Message::Device(Say::Lookup { lookup }) => self.heard_lookup(id, &lookup),
            Message::Device(Say::Invitation(sealed)) => self.heard_invitation(id, &sealed),
            Message::Device(Say::Card(card)) => self.heard_card(Some(id), card),
            Message::Device(Say::SshKey { turn, key }) => {
                self.heard_ssh_key(id, turn, key.as_deref());
            }
            Message::Device(Say::SshOpen { turn, server }) => {
                self.heard_ssh_open(id, turn, server);
            }
            _ => self.cut(id, "it sent what has no place here"),
        }
    }

    fn heard_hello(&mut self, id: ConnId, version: u32, port: u16, purpose: Purpose) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.port.replace(port).is_some() || conn.purpose.is_some_and(|mine| mine != purpose) {
            return self.cut(id, "it said hello twice, or for something else");
        }
        if version != DEVICE_VERSION {
            let words = format!("this device speaks version {DEVICE_VERSION} of the protocol");
            let reason = Refusal::OtherVersion;
            conn.line.out.close_with(Some(Message::Refused { reason, words }));
            return self.ended(id, "it speaks another version of the protocol");
        }
        let (peer, came_in) = (conn.line.peer, conn.purpose.is_none());
        conn.purpose = Some(purpose);
        match purpose {
            Purpose::Pair => self.begin_ceremony(id, came_in),
            Purpose::Member | Purpose::Join => {
                if !self.is_the_one(id) {
                    return;
                }
                if came_in {
                    let hello = self.hello(purpose);
                    if let Some(conn) = self.conns.get(&id) {
                        conn.say(hello);
                    }
                }
                self.answer_join(id, peer);
                for group in self.groups.shared_with(&peer) {
                    self.say_have(id, group);
                }
                self.say_join(&peer);
                self.say_codes(id, &peer);
            }
        }
    }

    /// Rule T1: of two links between the same devices a direct one stays, then the one dialled by the lower
    /// device id; of two that one end dialled, the later, since whoever dials again has lost the earlier, unless that
    /// plainly lives: then the one with the lower exporter, whatever the order in which an end hears of them.
    fn is_the_one(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(&id) else { return false };
        let peer = conn.line.peer;
        let rank = |conn: &Conn| (!conn.line.is_carried(), conn.line.dialled == (self.me < peer));
        let (new, exporter) = (rank(conn), conn.line.exporter);
        // Where both are alike, both ends must come to the same: they hear of them in different orders. A link that may
        // be dead gives way to the new one.
        let is_better = |other: &Conn| {
            rank(other) > new
                || rank(other) == new
                    && other.line.pulse.silent_for() < LIVES
                    && other.line.exporter < exporter
        };
        let is_other = |other: &Conn| {
            other.line.peer == peer && other.port.is_some() && other.purpose != Some(Purpose::Pair)
        };
        let others: Vec<(ConnId, bool)> = self
            .conns
            .iter()
            .filter(|(other, conn)| **other != id && is_other(conn))
            .map(|(other, conn)| (*other, is_better(conn)))
            .collect();
        let better = others.iter().any(|(_, better)| *better);
        for (other, _) in others.into_iter().filter(|_| !better) {
            self.close(other, Farewell::Duplicate, "another link to it took its place");
        }
        if better {
            self.close(id, Farewell::Duplicate, "another link to it stays");
        }
        !better
    }

    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        let late: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.cut(id, "it did not come far enough in time");
        }
        self.tick_token();
        self.tick_mail();
    }

    /// Ends a link without a word.
    pub(super) fn cut(&mut self, id: ConnId, reason: &str) {
        if let Some(conn) = self.conns.get(&id) {
            conn.line.out.close_with(None);
        }
        self.ended(id, reason);
    }

    pub(super) fn close(&mut self, id: ConnId, farewell: Farewell, reason: &str) {
        if let Some(conn) = self.conns.get(&id) {
            conn.line.out.close(farewell);
        }
        self.ended(id, reason);
    }

    /// A link is over, for whatever reason.
    pub(super) fn ended(&mut self, id: ConnId, reason: &str) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        let peer = conn.line.peer;
        tracing::debug!(?peer, reason, "a link ended");
        self.close_slots(&mut conn);
        self.ssh_settled(&peer);
        // Whoever waits for the two to hold each other hears that it takes longer.
        if !self.conns.values().any(|other| other.line.peer == peer) {
            self.awaited.retain(|(awaited, _)| *awaited != peer);
        }
        if !conn.is_accepted() {
            if let Some(net) = &mut self.net {
                net.targets.refused(&peer, Instant::now());
            }
            return;
        }
        if let Some(net) = &mut self.net {
            net.targets.lost(&peer, Instant::now());
        }
        self.meet_again(&peer);
        self.saw(&peer, None);
        let name = self.name_of(&peer);
        self.tell(ApiEvent::DeviceOffline { device: peer.to_string(), name });
    }

    /// Remembers when a device was there, and where.
    pub(super) fn saw(&mut self, device: &DeviceId, at: Option<SocketAddr>) {
        let place = self.places.entry(*device).or_default();
        place.last_seen = Some(wall());
        if let Some(at) = at {
            place.addresses.retain(|known| *known != at);
            place.addresses.insert(0, at);
            place.addresses.truncate(MAX_ADDRESSES);
        }
        if let Err(error) = self.store.put_place(device, place) {
            tracing::warn!(%error, "the place of a device was not kept");
        }
    }

    pub(super) fn name_of(&self, device: &DeviceId) -> String {
        let name = self.groups.name_of(device);
        name.map_or_else(|| device.short(), |name| name.as_str().to_owned())
    }

    // Ceremonies

    /// Both ends have said that a person runs `kin pair` there.
    fn begin_ceremony(&mut self, id: ConnId, came_in: bool) {
        let hello = self.hello(Purpose::Pair);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(window) = &self.pairing else {
            return self.cut(id, "nobody pairs here");
        };
        let (sender, heard) = mpsc::channel(CEREMONY_QUEUE);
        let line = CeremonyLine {
            id,
            peer: conn.line.peer,
            addr: conn.line.addr,
            port: conn.port.unwrap_or(0),
            dialled: conn.line.dialled,
            exporter: conn.line.exporter,
            out: conn.line.out.clone(),
            heard,
            accepted: false,
            hub: self.handle.clone(),
        };
        if !window.offer(line) {
            return self.cut(id, "another pairing is under way");
        }
        if came_in {
            conn.say(hello);
        }
        conn.ceremony = Some(sender);
        // A person thinks; the link's own sign of life goes on. The ceremony has its own limit.
        conn.deadline = None;
    }

    /// A ceremony has ended well: the link goes on as one between members, or towards it.
    pub(super) fn ceremony_ended(&mut self, id: ConnId, purpose: Purpose) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.purpose = Some(purpose);
        conn.ceremony = None;
        conn.deadline = Some(Instant::now() + STEP);
        let peer = conn.line.peer;
        if !self.is_the_one(id) {
            return;
        }
        for group in self.groups.shared_with(&peer) {
            self.say_have(id, group);
        }
    }
}
