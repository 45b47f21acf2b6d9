//! Pairing by token (rule T4): the window of a device that shows one, joins of a device that was given one,
//! and the letters between them, over whatever link the two have. The hub owns all of it; what a person is
//! asked and answers goes by a task for each stream. docs/protocol.md, section 21.

mod joining;
mod window;

pub(super) use joining::MEMBER_THERE;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use identity::{DeviceId, InboxId};
use pairing::token::{Outgoing, TokenJoin};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use wire::{
    code,
    device::Purpose,
    envelope::{Letter, Recipient},
    pair::Token,
};

use super::{
    DEFAULT_PORT, Device, MEMBERS_TOPIC, Online,
    codes::Via,
    gone,
    hub::{Hub, HubHandle, random, wall},
    links::STEP,
    pairing::Cancel,
    questions::Questions,
};
use crate::{
    api::{ApiEvent, Failure, PairToken},
    line::ConnId,
};

/// Letters that somebody who is no member may send over one link; a ceremony has five.
pub(super) const MAX_LETTERS: usize = 64;

/// What is under way by token.
#[derive(Default)]
pub(super) struct Tokens {
    /// The window; once it is closed, what it answers those who asked in it.
    window: Option<window::Admitting>,
    /// This device's joins, by the device that is to admit it.
    joins: BTreeMap<DeviceId, TokenJoin>,
    /// The join that somebody looks at.
    asking: Option<joining::Asking>,
    /// Tells one stream from the next.
    streams: u64,
}

impl Tokens {
    /// The inbox key of a device that is to admit this one.
    pub(super) fn inbox_of(&self, device: &DeviceId) -> Option<InboxId> {
        self.joins.get(device).map(|join| join.terms().inbox)
    }
}

/// What a person looked at that was to be closed.
enum Cancelled {
    Nothing,
    Done,
    /// A window on the local network; it is over when nobody listens any more.
    Closing(Arc<Cancel>),
}

/// The device that a person expects.
pub(super) fn expected(text: Option<&str>) -> Result<Option<DeviceId>, Failure> {
    let read =
        |text: &str| text.parse().map_err(|error| Failure::usage("bad_device", format!("{error}")));
    text.map(read).transpose()
}

impl Device {
    /// Opens a window.
    pub(super) async fn pair_token(
        &self,
        options: PairToken,
    ) -> Result<mpsc::Receiver<ApiEvent>, Failure> {
        self.hub.with(|hub| hub.free_to_pair()).await.ok_or_else(gone)??;
        self.listen_if_offline(options.port).await?;
        self.hub.with(move |hub| hub.open_token_window(&options)).await.ok_or_else(gone)?
    }

    /// Joins by a token.
    pub(super) async fn pair_join(
        &self,
        text: &str,
        expect: Option<&str>,
    ) -> Result<mpsc::Receiver<ApiEvent>, Failure> {
        let token = Token::parse(text).map_err(|error| {
            Failure::usage("token", error).hint(
                "copy the whole token or link that kin pair --token shows on the other device",
            )
        })?;
        let expect = expected(expect)?;
        let (token, checked) = self
            .hub
            .with(move |hub| {
                let checked = hub.check_join(&token, expect);
                (token, checked)
            })
            .await
            .ok_or_else(gone)?;
        checked?;
        self.listen_if_offline(None).await?;
        let begun = self.hub.with(move |hub| hub.begin_join(&token, expect));
        begun.await.ok_or_else(gone)?
    }

    /// Closes what a person looks at, and answers when nothing can come of it any more. What was admitted by then is.
    pub(super) async fn cancel_pairing(&self) -> Result<Value, Failure> {
        let cancelled = self.hub.with(|hub| hub.cancel_pairing("it was cancelled"));
        let cancelled = cancelled.await.ok_or_else(gone)?;
        if let Cancelled::Closing(window) = &cancelled {
            // It admits nobody from now on, also while somebody does not read what it tells.
            let _ = timeout(STEP, window.closed()).await;
        }
        Ok(json!({ "closed": !matches!(cancelled, Cancelled::Nothing) }))
    }

    /// A device that does not run in the background is reachable for as long as its pairing takes.
    pub(super) async fn listen_if_offline(&self, port: Option<u16>) -> Result<(), Failure> {
        if self.hub.with(|hub| hub.net.is_some()).await.ok_or_else(gone)? {
            return Ok(());
        }
        let (port_is_required, port) = (port.is_some(), port.unwrap_or(DEFAULT_PORT));
        let online = Online { port, port_is_required, discovery: false };
        self.listen(online, MEMBERS_TOPIC).await.map(drop)
    }
}

impl Hub {
    /// One pairing at a time: a person answers for one.
    pub(super) fn free_to_pair(&self) -> Result<(), Failure> {
        let tokens = &self.tokens;
        let window = tokens.window.as_ref().is_some_and(window::Admitting::is_live);
        if self.pairing.is_some() || window || tokens.asking.is_some() {
            return Err(Failure::failed("pairing", "another pairing is under way")
                .hint("finish it, or close it with kin pair --cancel"));
        }
        Ok(())
    }

    /// Closes what a person looks at.
    fn cancel_pairing(&mut self, reason: &str) -> Cancelled {
        if let Some(window) = &self.pairing {
            return Cancelled::Closing(window.cancel(reason));
        }
        match self.close_token_window(reason) || self.cancel_join(reason) {
            true => Cancelled::Done,
            false => Cancelled::Nothing,
        }
    }

    /// The link over which letters to a device go.
    pub(super) fn link_to(&self, device: &DeviceId) -> Option<ConnId> {
        let usable = |conn: &super::links::Conn| {
            conn.line.peer == *device
                && conn.port.is_some()
                && conn.purpose != Some(Purpose::Pair)
                && !conn.line.out.is_closed()
        };
        self.conns.iter().rev().find(|(_, conn)| usable(conn)).map(|(id, _)| *id)
    }

    /// Signs, seals and sends a message. Where it cannot be sent it is lost; what matters is said again.
    fn post(&mut self, outgoing: &Outgoing) {
        let Outgoing { to, group, message } = outgoing;
        self.send_letter(to, Some(*group), message.kind(), message.encode());
    }

    /// Opens a letter to this device, or to the key that it had when the letter was written (rule T13).
    pub(super) fn open_letter(
        &self,
        bytes: &[u8],
        peer: Option<DeviceId>,
    ) -> Result<Letter, wire::WireError> {
        let to = wire::envelope::recipient(bytes)?;
        let old = self.old_inboxes.iter().find(|old| old.key.id() == to);
        let (device, key) = old.map_or((self.me, &*self.inbox), |old| (old.device, &old.key));
        Letter::open(bytes, &Recipient { device, inbox: key.id() }, key, peer)
    }

    /// A sealed envelope came. What is wrong with it or has no place here is passed over without a sign: the
    /// link ends in its time, as any other that comes to nothing (rule T4).
    pub(super) fn heard_envelope(&mut self, id: ConnId, bytes: &Bytes) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let peer = conn.line.peer;
        if !conn.may_ask() {
            return self.cut(id, "it sent too many letters");
        }
        let joins = self.joins.iter().any(|join| join.device == peer);
        if self.tokens.window.is_none() && !joins && !self.has_codes() {
            return;
        }
        // Written by the device at the other end, or by nobody that counts (attacks.md 13).
        let letter = match self.open_letter(bytes, Some(peer)) {
            Ok(letter) => letter,
            Err(error) => return tracing::debug!(?peer, %error, "a letter was passed over"),
        };
        match self.store.heard_letter(&peer) {
            Ok(last) if letter.sequence > last => {}
            Ok(_) => return tracing::debug!(?peer, "a letter came late or twice (rule T21)"),
            Err(error) => return self.fail(&error.to_string()),
        }
        // Strangers who come no further leave no trace in the store.
        let taken = match code::Message::has_kind(letter.kind) {
            true => self.code_letter(&letter, Via::Link(id)),
            false => self.window_heard(&letter) || self.join_heard(&letter),
        };
        if taken && let Err(error) = self.store.took_letter(&peer, letter.sequence) {
            self.fail(&error.to_string());
        }
    }

    /// A member of a group and this device hold each other: somebody may have waited for it.
    pub(super) fn tokens_shared(
        &mut self,
        device: &DeviceId,
        group: &wire::membership::GroupId,
        label: &str,
    ) {
        let name = self.name_of(device);
        if let Some(window) = &self.tokens.window {
            window.shared(device, group, label);
        }
        if let Some(asking) = &self.tokens.asking {
            asking.shared(device, group, label, &name);
        }
    }

    fn fresh_nonce(&mut self) -> Option<[u8; 32]> {
        match random() {
            Ok(bytes) => Some(bytes),
            Err(failure) => {
                self.complain("io", &failure.message, "");
                None
            }
        }
    }
}

/// Rule T9: asked for each direction once a device was confirmed, and no is the default. `None` if nobody
/// answers any more.
pub(super) async fn ask_about_ssh(
    questions: &Questions,
    events: &mpsc::Sender<ApiEvent>,
    device: DeviceId,
    name: &str,
) -> Option<[bool; 2]> {
    let mut answers = [false; 2];
    for (answer, direction) in answers.iter_mut().zip(["in", "out"]) {
        let asked = questions.ask();
        let event = ApiEvent::Ask {
            id: asked.id,
            about: "ssh".to_owned(),
            direction: direction.to_owned(),
            device: device.to_string(),
            name: name.to_owned(),
        };
        events.send(event).await.ok()?;
        *answer = tokio::select! {
            yes = asked.answer => yes.unwrap_or(false),
            () = events.closed() => return None,
        };
    }
    Some(answers)
}

/// Kept for `kin ssh`.
fn keep_ssh(hub: &HubHandle, device: DeviceId, [into_here, from_here]: [bool; 2]) {
    hub.send(move |hub| {
        if let Err(error) = hub.store.put_ssh_consent(&device, into_here, from_here, wall()) {
            hub.complain("state", &error.to_string(), "");
        }
        hub.begin_ssh(&device);
    });
}

/// Before it is said that two devices are paired: what was agreed on about SSH is installed, if anything was.
async fn settle_ssh(
    hub: &HubHandle,
    events: &mpsc::Sender<ApiEvent>,
    device: DeviceId,
    answers: Option<[bool; 2]>,
) {
    if answers.is_some_and(|answers| answers.contains(&true)) {
        for event in super::ssh::settle(hub, device).await {
            // Whoever asked may have gone.
            let _ = events.send(event).await;
        }
    }
}
