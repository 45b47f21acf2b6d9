//! How membership logs come to be equal on both ends of a link before anything else happens, and how what is new
//! reaches everybody (rules T1 and T10). docs/protocol.md, section 19.

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;
use group::log::JoinError;
use identity::DeviceId;
use wire::{
    device::{MAX_HEADS, MAX_OPERATIONS_SENT, Message as Say, Purpose, Tag},
    frame::MAX_STRANGER_FRAME,
    membership::{GroupId, OperationId, SignedOperation},
    session::{Message, Refusal},
};

use super::{
    brought::{Brought, MAX_BROUGHT},
    hub::Hub,
    links::{Conn, STEP},
    store::{JoinKind, StoredJoin},
};
use crate::{
    api::ApiEvent,
    line::{ConnId, Route, targets::Key},
};

/// Logs of one device that may be refused before the join is given up.
const MAX_REFUSED_LOGS: u32 = 3;
/// Room for operations in one message.
const OPERATIONS_BYTES: usize = MAX_STRANGER_FRAME - 512;

impl Hub {
    /// Tells what this device holds of a group's log, once.
    pub(super) fn say_have(&mut self, id: ConnId, group: GroupId) {
        let Some(held) = self.groups.get(&group) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let tag = conn.tag(&group);
        let exchange = conn.exchanges.entry(group).or_default();
        if std::mem::replace(&mut exchange.said_have, true) {
            return;
        }
        let mut heads = held.log().heads();
        heads.truncate(MAX_HEADS);
        conn.say(Say::Have { tag, heads });
    }

    pub(super) fn heard_have(&mut self, id: ConnId, tag: &Tag, heads: Vec<OperationId>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        // A group that is not known here is none of ours.
        let Some(group) = self.groups.tagged(tag, &conn.line.exporter) else { return };
        let exchange = conn.exchanges.entry(group).or_default();
        if exchange.until_admission && !heads.is_empty() {
            // It has joined by that, and asks for the rest.
            (exchange.until_admission, exchange.said_sent) = (false, None);
        }
        exchange.heads = Some(heads);
        self.say_have(id, group);
        self.give(id, group);
    }

    /// Sends what the other end lacks of a log, as far as it may have it: all if it is a member, what came
    /// until it was put out if it was one, nothing else.
    fn give(&mut self, id: ConnId, group: GroupId) {
        let Some(held) = self.groups.get(&group) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let peer = conn.line.peer;
        let tag = conn.tag(&group);
        let manifest = held.manifest();
        let member = manifest.is_member(&peer);
        let Some(exchange) = conn.exchanges.get_mut(&group) else { return };
        let Some(heads) = &exchange.heads else { return };
        if exchange.said_sent == Some(member) {
            return;
        }
        let end = held.end_of(&peer);
        let admission = manifest.members.get(&peer).map(|member| member.grant);
        let lacking = match (member, end) {
            // Whoever joins trusts the device that admitted it, and so takes a log that ends with the
            // admission (rule T10): what others wrote since comes after that.
            (true, _) if heads.is_empty() => {
                exchange.until_admission = true;
                admission.map(|id| held.log().lacking_until(&id, heads)).unwrap_or_default()
            }
            (true, _) => held.log().lacking(heads),
            (false, Some(end)) => held.log().lacking_until(&end, heads),
            // It may bring what admits it.
            (false, None) if exchange.heard_sent.is_none() => return,
            (false, None) => Vec::new(),
        };
        exchange.said_sent = Some(member);
        let operations: Vec<Bytes> = lacking.iter().map(|signed| signed.bytes().clone()).collect();
        say_operations(conn, tag, operations);
        conn.say(Say::Sent { tag, member });
        self.evaluate(id, group);
    }

    pub(super) fn heard_operations(&mut self, id: ConnId, tag: &Tag, operations: Vec<Bytes>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let group = self.groups.tagged(tag, &conn.line.exporter);
        if !conn.is_accepted() {
            conn.brought += operations.len();
        }
        let Some(group) = group else {
            // The log of a group that this device is about to join.
            let expected = conn.fetching.is_some_and(|group| conn.tag(&group) == *tag);
            if expected && !conn.joining.is_too_long {
                conn.joining.add(operations);
                conn.deadline = Some(Instant::now() + STEP);
            }
            return;
        };
        if !conn.is_accepted() && conn.brought > MAX_BROUGHT {
            return self.cut(id, "it brought too many operations");
        }
        let mut parsed = Vec::with_capacity(operations.len());
        for bytes in operations {
            match SignedOperation::parse(bytes) {
                Ok(signed) => parsed.push(signed),
                Err(error) => return self.cut(id, &format!("it sent a bad operation: {error}")),
            }
        }
        let peer = conn.line.peer;
        let member = self.groups.get(&group).is_some_and(|held| held.manifest().is_member(&peer));
        if member {
            self.take_operations(id, group, parsed);
        } else if let Some(conn) = self.conns.get_mut(&id)
            && !conn.claims.add(group, parsed)
        {
            self.cut(id, "it brought too many operations");
        }
    }

    fn take_operations(&mut self, id: ConnId, group: GroupId, operations: Vec<SignedOperation>) {
        let Some(by) = self.conns.get(&id).map(|conn| conn.line.peer) else { return };
        match self.groups.take(&mut self.store, &group, &by, operations) {
            Ok((new, refused)) => {
                self.look_for_own(&new);
                if let Some(refused) = refused {
                    tracing::info!(%refused, "an operation of a membership log was refused");
                }
                if !new.is_empty() {
                    self.spread(group, &new, Some(id));
                }
                // What came may have made the other end a member.
                self.give(id, group);
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    pub(super) fn heard_sent(&mut self, id: ConnId, tag: &Tag, member: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(group) = self.groups.tagged(tag, &conn.line.exporter) else {
            return self.finish_join(id, tag, member);
        };
        conn.exchanges.entry(group).or_default().heard_sent = Some(member);
        let (peer, claims) = (conn.line.peer, conn.claims.take(&group));
        let Some(claims) = claims else { return self.cut(id, "it claimed too often") };
        let claimed = !claims.is_empty();
        let claims = self.groups.worth_keeping(&group, claims, &peer);
        let is_worthless = claimed && claims.is_empty();
        if !claims.is_empty() {
            self.take_operations(id, group, claims);
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !member && conn.shared.contains(&group) {
            self.unshare(id, group);
        }
        self.give(id, group);
        self.evaluate(id, group);
        if is_worthless {
            self.dismiss(id, &group);
        }
    }

    /// What the other end brought has let it in nowhere. It has been told why, as far as it may know; if it tries again, has
    /// nothing else to bring and nobody waits for it, nothing comes of the link. Whoever brings what it has once, as any
    /// device does that was put out, comes back no sooner for it.
    fn dismiss(&mut self, id: ConnId, group: &GroupId) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.claims.again(group)) else {
            return;
        };
        let peer = conn.line.peer;
        let brings =
            conn.exchanges.values().any(|one| one.heads.is_some() && one.heard_sent.is_none());
        let waits = conn.purpose != Some(Purpose::Member) || conn.letters > 0;
        let known = conn.is_accepted()
            || !self.groups.shared_with(&peer).is_empty()
            || self.joins.iter().any(|join| join.device == peer);
        if !brings && !waits && !known {
            // What was told goes out before it ends.
            self.cut(id, "what it brought makes it no member");
        }
    }

    /// Both ends have told what they hold: do they hold each other for members?
    fn evaluate(&mut self, id: ConnId, group: GroupId) {
        let Some(held) = self.groups.get(&group) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let peer = conn.line.peer;
        let manifest = held.manifest();
        let Some(exchange) = conn.exchanges.get(&group) else { return };
        let agreed = exchange.said_sent == Some(true)
            && exchange.heard_sent == Some(true)
            && manifest.is_member(&peer)
            && manifest.is_member(&self.me);
        if !agreed || !conn.shared.insert(group) {
            return;
        }
        // A device that comes back to a group which it still knows needs no more than the log says.
        let back = |join: &StoredJoin| {
            join.device == peer && join.group == Some(group) && join.kind != JoinKind::Code
        };
        if self.joins.iter().any(back) {
            self.forget_join(&peer);
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.shared.len() == 1 {
            conn.deadline = None;
            let _ = conn.line.routes.send(Route::Accepted);
            if let Some(net) = &self.net {
                conn.line.open_strands(&net.endpoint);
            }
            let port = conn.port.filter(|port| *port != 0);
            let dialled = conn.line.dialled;
            let addr = conn.line.addr;
            let at = match (dialled, port) {
                // Whoever carries it is not where the device is.
                _ if conn.line.is_carried() => None,
                (true, _) => Some(addr),
                (false, Some(port)) => Some(SocketAddr::new(addr.ip(), port)),
                (false, None) => None,
            };
            self.saw(&peer, at);
            if let (Some(net), Some(at)) = (&mut self.net, at) {
                net.targets.add(Key::Member(peer), vec![at], Some(peer), Instant::now());
            }
            let name = self.name_of(&peer);
            self.tell(ApiEvent::DeviceOnline { device: peer.to_string(), name });
        }
        self.say_cards(id, group);
        self.unsend_operations(&peer, &group);
        let first = self.conns.get(&id).is_some_and(|conn| conn.shared.len() == 1);
        if first {
            self.begin_ssh(&peer);
        }
        self.open_slots(id, group);
        self.shared_with_peer(peer, group);
    }

    /// One end does not hold the other for a member of a group any more.
    fn unshare(&mut self, id: ConnId, group: GroupId) {
        self.shut_slots(id, group);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.shared.remove(&group);
        let peer = conn.line.peer;
        if conn.shared.is_empty() {
            let words = "it does not belong to the group any more".to_owned();
            let reason = Refusal::Declined;
            conn.line.out.close_with(Some(Message::Refused { reason, words }));
            self.ended(id, "it does not belong to a group of ours any more");
            let name = self.name_of(&peer);
            self.tell(ApiEvent::DeviceOffline { device: peer.to_string(), name });
        }
    }

    /// Operations that are new here go to all who may have them; then everybody is looked at anew (rule T1: a
    /// removal closes open links).
    pub(super) fn spread(&mut self, group: GroupId, new: &[SignedOperation], from: Option<ConnId>) {
        let Some(held) = self.groups.get(&group) else { return };
        let manifest = held.manifest();
        for (id, conn) in &self.conns {
            let told = conn.exchanges.get(&group).is_some_and(|one| one.said_sent == Some(true));
            if !told || Some(*id) == from {
                continue;
            }
            let peer = conn.line.peer;
            let until = match (manifest.is_member(&peer), held.end_of(&peer)) {
                (true, _) => None,
                (false, Some(end)) => Some(held.log().lacking_until(&end, &[])),
                (false, None) => continue,
            };
            let may = |signed: &&SignedOperation| {
                until.as_ref().is_none_or(|until| until.iter().any(|may| may.id() == signed.id()))
            };
            let operations = new.iter().filter(may).map(|signed| signed.bytes().clone()).collect();
            say_operations(conn, conn.tag(&group), operations);
        }
        self.review(group);
    }

    /// Members, roles or folders of a group have changed.
    pub(super) fn review(&mut self, group: GroupId) {
        let Some(held) = self.groups.get(&group) else { return };
        let manifest = held.manifest();
        let label = held.label.clone();
        self.follow_rotations(group);
        self.sweep_ssh();
        let conns: Vec<(ConnId, DeviceId, bool)> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.port.is_some() && conn.purpose != Some(Purpose::Pair))
            .map(|(id, conn)| (*id, conn.line.peer, conn.shared.contains(&group)))
            .collect();
        for (id, peer, shared) in conns {
            let member = manifest.is_member(&peer) && manifest.is_member(&self.me);
            if shared && !member {
                if let Some(conn) = self.conns.get(&id) {
                    conn.say(Say::Sent { tag: conn.tag(&group), member: false });
                }
                self.unshare(id, group);
            } else if member && !shared {
                self.say_have(id, group);
                self.give(id, group);
            }
        }
        // Not before the links of those who are out have ended: they must not hear of the new token.
        self.review_mail();
        self.review_folders(group);
        self.review_code_joins();
        self.look_for_members();
        self.tell(ApiEvent::GroupChanged { group: label });
    }

    /// The store cannot be written: nothing that others are told may rest on it, so the device ends.
    pub(super) fn fail(&mut self, error: &str) {
        self.complain("state", error, "check the disk, then start again: kin up");
        self.stopping.get_or_insert_default();
    }

    // Joins (rule T8)

    /// Somebody waits to be admitted: it was, or it was not. Everybody is told that alike, whatever it waits by: in a
    /// pairing on the LAN it ends the wait (rule T8), and tells nothing of windows and codes (rule T4).
    pub(super) fn answer_join(&mut self, id: ConnId, peer: DeviceId) {
        let by_me = |group: &GroupId| {
            let held = self.groups.get(group)?;
            let manifest = held.manifest();
            let grant = manifest.members.get(&peer)?.grant;
            (held.log().get(&grant)?.operation().author == self.me).then_some(*group)
        };
        let admitted: Vec<GroupId> =
            self.groups.shared_with(&peer).iter().filter_map(by_me).collect();
        let Some(conn) = self.conns.get(&id) else { return };
        if admitted.is_empty()
            && conn.purpose == Some(Purpose::Join)
            && !conn.line.dialled
            && !self.pairs_with(&peer)
        {
            conn.say(Say::NotAdmitted);
        }
        for group in admitted {
            conn.say(Say::Admitted { group });
        }
    }

    /// True while a ceremony on the LAN with a device may come to something.
    fn pairs_with(&self, device: &DeviceId) -> bool {
        let pairs = |conn: &Conn| conn.line.peer == *device && conn.purpose == Some(Purpose::Pair);
        self.conns.values().any(pairs)
    }

    /// The device that this one waits for has not admitted it. What it would have done in a ceremony on the LAN it has
    /// done, or will never do (rule T8); to a token or code it may still say yes.
    pub(super) fn heard_not_admitted(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let peer = conn.line.peer;
        let asked = conn.purpose == Some(Purpose::Join) && conn.line.dialled;
        let join = self.joins.iter().find(|join| join.device == peer);
        let Some(join) = join.filter(|join| asked && join.kind == JoinKind::Lan) else { return };
        if self.pairs_with(&peer) {
            return;
        }
        let message = format!("{} has not let this device in: the pairing broke off", join.name);
        self.complain("join", &message, "pair again: kin pair on both");
        self.forget_join(&peer);
        self.cut(id, "it has not admitted this device");
        self.look_for_members();
    }

    /// The device that this one waits for says that it has admitted it: its log decides (rule T10).
    pub(super) fn heard_admitted(&mut self, id: ConnId, group: GroupId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let peer = conn.line.peer;
        let Some(join) = self.joins.iter().find(|join| join.device == peer).cloned() else {
            return self.invited(peer, group);
        };
        // Nothing is trusted before this side's person said yes; it may be said twice, by letter and on
        // the link.
        let other = join.group.is_some_and(|named| named != group);
        let again = conn.fetching == Some(group) || self.groups.get(&group).is_some();
        if other || again || !self.is_agreed(&join) {
            return;
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        // Only a log that is accepted is kept: until then another one may be named.
        conn.fetching = Some(group);
        conn.joining = Brought::default();
        conn.say(Say::Have { tag: conn.tag(&group), heads: Vec::new() });
    }

    pub(super) fn finish_join(&mut self, id: ConnId, tag: &Tag, member: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let peer = conn.line.peer;
        let Some(group) = conn.fetching.filter(|group| conn.tag(group) == *tag) else { return };
        let meant = |join: &&StoredJoin| {
            join.device == peer && join.group.is_none_or(|named| named == group)
        };
        let join = self.joins.iter().find(meant);
        let Some(join) = join.filter(|_| member).cloned() else { return };
        if !self.is_agreed(&join) {
            return;
        }
        let Some(ceremony) = join.ceremony() else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.fetching = None;
        let Brought { operations, is_too_long, .. } = std::mem::take(&mut conn.joining);
        let pending = group::log::PendingJoin {
            device: self.me,
            inbox: self.inbox.id(),
            group: Some(group),
            ceremony,
            role: join.role,
            folders: join.folders.clone(),
        };
        // Its person was told of no group there: then it is one that was made for the two.
        let made_for_us = join.group.is_some() || operations.len() == 2;
        let judged = match made_for_us {
            _ if is_too_long => Err(JoinError::TooLong),
            true => group::log::join(&operations, &peer, &pending),
            false => Err(JoinError::OtherTerms("the group")),
        };
        let mut log = match judged {
            Ok(log) => log,
            Err(error) => {
                let message = format!("{}'s group was not joined: {error}", join.name);
                self.complain("join", &message, "pair again: kin pair");
                let otherwise = matches!(error, JoinError::OtherGroup | JoinError::OtherTerms(_));
                let refused = self.refused_logs.entry(peer).or_default();
                *refused += 1;
                // Its person was told otherwise, and that does not change; nor does a log that is refused time and again.
                let is_over = join.kind == JoinKind::Token && otherwise;
                if is_over || *refused >= MAX_REFUSED_LOGS {
                    match join.kind {
                        JoinKind::Code => self.give_up_code(&peer, Some(&message)),
                        _ => self.drop_join(&peer, &message),
                    }
                }
                return self.cut(id, "its log is not what was agreed on");
            }
        };
        // A token says no name; the log does.
        let named = log.manifest().members.get(&peer).map(|member| member.name.as_str().to_owned());
        // Whoever came by a code was shown what the group is called.
        let offered = join.code().and_then(|saved| saved.group_name);
        let named = offered.map(|name| name.as_str().to_owned()).or(named);
        let called = named.filter(|_| join.kind != JoinKind::Lan).unwrap_or(join.name);
        let label = self.settings.label_for(&called);
        match self.groups.add(&mut self.store, log, &label, Some(&peer)) {
            Ok(group) => {
                self.joins.retain(|other| other.device != peer);
                self.refused_logs.remove(&peer);
                self.end_token_join(&peer);
                self.use_if_better(group);
                if join.kind == JoinKind::Rescue {
                    self.followed(&peer, group);
                }
                let held = self.groups.get(&group);
                let heads = held.map(|held| held.log().heads()).unwrap_or_default();
                if let Some(conn) = self.conns.get_mut(&id) {
                    let exchange = conn.exchanges.entry(group).or_default();
                    exchange.heard_sent = Some(true);
                    exchange.said_have = true;
                    exchange.said_sent = Some(true);
                    conn.say(Say::Sent { tag: *tag, member: true });
                    conn.say(Say::Have { tag: *tag, heads });
                }
                self.evaluate(id, group);
                self.review(group);
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }
}

fn say_operations(conn: &Conn, tag: Tag, operations: Vec<Bytes>) {
    let mut part = Vec::new();
    let mut bytes = 0;
    for operation in operations {
        let full = bytes + operation.len() > OPERATIONS_BYTES || part.len() >= MAX_OPERATIONS_SENT;
        if full && !part.is_empty() {
            conn.say(Say::Operations { tag, operations: std::mem::take(&mut part) });
            bytes = 0;
        }
        bytes += operation.len() + 8;
        part.push(operation);
    }
    if !part.is_empty() {
        conn.say(Say::Operations { tag, operations: part });
    }
}
