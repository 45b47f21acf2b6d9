//! From both verdicts to the end of a link: joining, spreading vouches, leaving.

use std::{sync::Arc, time::Instant};

use group::VouchExt as _;
use wire::session::{Farewell, Ground, Mode, Vouch};

use super::{
    Members, PeerLink, SessionEvent,
    actor::Actor,
    admission::{place, say_vouches},
    conn::{Ceremony, Need},
};
use crate::{
    Event,
    line::{ConnId, Route, inbox, targets},
};

impl Actor {
    /// Both sides have accepted each other on this link (rule T8: nothing was trusted before).
    pub(super) fn join(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(hello) = &conn.hello else { return };
        let (folder, input) = inbox::folder(true);
        conn.member = true;
        conn.deadline = None;
        conn.commit_at = None;
        // Before anything is said from which the peer could know that it may send.
        let _ = conn.routes.send(Route::Accepted);
        let _ = conn.routes.send(Route::Open(0, folder));
        conn.open_strands(&self.parts.endpoint);
        let peer = PeerLink {
            device: conn.peer,
            name: hello.name.as_str().to_owned(),
            addr: conn.addr,
            key_exchange: conn.key_exchange.clone(),
            out: conn.out.clone(),
            input,
        };
        let name = hello.name.clone();
        let brought = std::mem::take(&mut conn.vouches);
        conn.ceremony = Ceremony::None;
        if let Some((key, addrs, device)) = place(conn) {
            self.parts.targets.add(key, addrs, Some(device), Instant::now());
        }
        self.refused_by.remove(&peer.device);
        // The newcomer needs everything; the others only what is new.
        say_vouches(conn, &self.parts.group.vouches(), false);
        let mut new = Vec::new();
        if !self.parts.group.accepts(&peer.device) {
            let ground = match self.mode {
                Mode::Ask => Ground::Person,
                Mode::Open => Ground::Open,
                Mode::Passphrase => Ground::Passphrase,
            };
            let (key, topic) = (&self.parts.key, &self.parts.topic);
            new.push(Vouch::sign(key, topic, peer.device, name, ground));
        }
        new.extend(brought);
        self.publish();
        self.tell(Event::PeerConnected {
            device: peer.device,
            name: peer.name.clone(),
            addr: peer.addr,
            key_exchange: peer.key_exchange.clone(),
        });
        self.emit(SessionEvent::PeerUp(peer));
        self.free_turn(id);
        self.spread(&new);
    }

    /// Takes in vouches and passes on those that are new. Whoever is accepted by them needs no
    /// question any more (rule T7).
    pub(super) fn spread(&mut self, vouches: &[Vouch]) {
        let new = self.parts.group.add(vouches);
        if new.is_empty() {
            return;
        }
        for conn in self.conns.values().filter(|conn| conn.member) {
            say_vouches(conn, &new, false);
        }
        self.publish();
        let admitted: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| {
                conn.my_standing.is_some()
                    && conn.verdicts.mine().is_none()
                    && self.parts.group.accepts(&conn.peer)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in admitted {
            if self.asking == Some(id) {
                self.withdraw_question("a member of the session vouches for it");
            }
            if let Some(conn) = self.conns.get_mut(&id) {
                // Nobody needs to be asked, so nothing is guessed at any more.
                conn.need = conn.need.map(|_| Need::Nothing);
            }
            self.accept(id);
            self.free_turn(id);
        }
    }

    /// Who belongs to the session now: whoever is vouched for, and whoever is linked as a member.
    fn publish(&self) {
        let mut members: Members = self.parts.group.accepted().clone();
        for conn in self.conns.values().filter(|conn| conn.member) {
            if let Some(hello) = &conn.hello {
                members.entry(conn.peer).or_insert_with(|| hello.name.clone());
            }
        }
        self.parts.members.send_replace(Arc::new(members));
    }

    /// The other side says goodbye.
    pub(super) fn goodbye(&mut self, id: ConnId, reason: Farewell) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let peer = conn.peer;
        conn.out.close_with(None);
        let words = match reason {
            Farewell::Stopping => {
                // Its identity ends with its run; whoever is at its place later is somebody else.
                self.parts.targets.remove(&targets::Key::Member(peer));
                "it stopped"
            }
            Farewell::Duplicate => "another link to it took the place of this one",
            Farewell::Protocol => "it found fault with what this device sent",
        };
        self.ended(id, words);
    }

    /// A link is over, for whatever reason.
    pub(super) fn ended(&mut self, id: ConnId, reason: &str) {
        let Some(conn) = self.conns.remove(&id) else { return };
        if conn.member {
            let (device, name) = (conn.peer, conn.name());
            drop(conn);
            self.publish();
            self.emit(SessionEvent::PeerDown { device });
            let reason = reason.to_owned();
            self.tell(Event::PeerDisconnected { device, name, reason });
            self.parts.targets.lost(&device, Instant::now());
            return;
        }
        let exposed = conn.exposed();
        drop(conn);
        if self.asking == Some(id) {
            self.withdraw_question(reason);
        }
        if exposed && self.attempts.fail() {
            let what = match self.mode {
                Mode::Passphrase => "ten attempts with a passphrase failed",
                Mode::Ask | Mode::Open => "three attempts to compare words failed",
            };
            let reason = format!("{what}; somebody may be guessing");
            self.tell(Event::AdmissionClosed { reason });
        }
        self.free_turn(id);
    }
}
