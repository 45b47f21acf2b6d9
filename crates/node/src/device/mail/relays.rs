//! The relays that this device uses: its mailbox at each, what comes from there, and the invitations that are
//! posted there.

use std::{
    collections::BTreeSet,
    str::FromStr as _,
    time::{Duration, Instant},
};

use identity::{DeviceId, Secret};
use pairing::code::TOLD_FOR;
use relay::{Client, ClientError, RelayAddress};
use serde_json::Value;
use tokio::{task::AbortHandle, time::sleep};
use wire::{
    code::{LookupId, SavedCodeJoin},
    mail::MailAddress,
    relay::{DepositToken, OwnerKey, Refusal},
};

use super::outbox::client;
use crate::{
    api::{Failure, RelayLine, Trouble},
    device::{
        hub::{Hub, HubHandle, random},
        store::{Post, StoredCode, StoredRelay},
    },
};

/// First and longest pause before a relay is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How often a join says hello by mail while nothing comes of it.
const REPEATED: Duration = Duration::from_secs(24 * 3600);
/// How long a relay must have been reached for the next attempt to be made at once.
const STEADY: Duration = Duration::from_secs(60);
/// The setting that holds who was told the members' token: ids in a row.
const TOLD: &str = "mail told";
/// Relays that a device uses at most.
const MAX_RELAYS: usize = 4;

/// A relay that this device uses.
pub(super) struct Relay {
    stored: StoredRelay,
    /// What goes there and what comes from there; ends with this device.
    task: Option<AbortHandle>,
    /// True while its mailbox is being received.
    up: bool,
    posting: bool,
    /// Why it did not take an invitation, the last time.
    untaken: Option<String>,
    /// Why it is not reached.
    trouble: Option<String>,
}

impl Relay {
    fn new(stored: StoredRelay) -> Self {
        Self { stored, task: None, up: false, posting: false, untaken: None, trouble: None }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn key(seed: &Secret<[u8; 32]>) -> Option<OwnerKey> {
    OwnerKey::from_seed(seed).ok()
}

impl Hub {
    /// Reads which relays there are.
    pub(in crate::device) fn load_relays(&mut self) {
        let stored = match self.store.relays() {
            Ok(stored) => stored,
            Err(error) => return self.fail(&error.to_string()),
        };
        self.mail.relays = stored.into_iter().map(Relay::new).collect();
    }

    /// Attends the relays, once this device can be reached at all.
    pub(in crate::device) fn start_mail(&mut self) {
        if self.net.is_none() {
            return;
        }
        let hub = self.handle.clone();
        for relay in &mut self.mail.relays {
            let idle = relay.task.as_ref().is_none_or(AbortHandle::is_finished);
            let (Some(owner), true) = (key(&relay.stored.owner), idle) else { continue };
            let token = DepositToken(relay.stored.token.clone());
            let address = relay.stored.address.clone();
            let task = tokio::spawn(attend(hub.clone(), address, owner, token));
            relay.task = Some(task.abort_handle());
        }
        self.deliver_all();
        self.look_for_members();
    }

    /// Uses what the config file names.
    pub(in crate::device) fn use_relays_of_settings(&mut self) {
        for text in self.settings.relays.clone() {
            if let Err(Failure { kind, message, hint, .. }) = self.use_relay(&text) {
                self.complain(&kind, &message, &hint);
            }
        }
    }

    /// Where letters to this device may be left, in the members' lane.
    pub(in crate::device) fn own_mail(&self) -> Vec<MailAddress> {
        let address = |relay: &Relay| {
            Some(MailAddress {
                relay: relay.stored.address.clone(),
                mailbox: key(&relay.stored.owner)?.owner().mailbox().0,
                token: Some(*relay.stored.token.expose()),
            })
        };
        self.mail.relays.iter().filter_map(address).collect()
    }

    // What a person asks

    /// Uses a relay from now on.
    pub(in crate::device) fn use_relay(&mut self, text: &str) -> Result<Value, Failure> {
        let address = RelayAddress::from_str(text).map_err(|error| {
            Failure::usage("relay", error)
                .hint("copy the whole address that kin relay prints there")
        })?;
        let address = address.to_string();
        if !self.mail.relays.iter().any(|relay| relay.stored.address == address) {
            if self.mail.relays.len() >= MAX_RELAYS {
                let message = format!("a device uses at most {MAX_RELAYS} relays");
                return Err(Failure::usage("too_many_relays", message)
                    .hint("give one up first: kin relay forget ADDRESS"));
            }
            let (owner, token) = (Secret::new(random()?), Secret::new(random()?));
            let stored = StoredRelay { address: address.clone(), owner, token };
            self.store.put_relay(&stored)?;
            self.mail.relays.push(Relay::new(stored));
            self.new_card();
            self.start_mail();
        }
        self.relay_lines_of(Some(&address))
    }

    /// Uses a relay no more.
    pub(in crate::device) fn forget_relay(&mut self, text: &str) -> Result<Value, Failure> {
        let address =
            RelayAddress::from_str(text).map_or_else(|_| text.to_owned(), |it| it.to_string());
        let meant = |relay: &Relay| {
            let known = &relay.stored.address;
            *known == address
                || known.strip_prefix("kin:relay/").is_some_and(|it| it.starts_with(text))
        };
        let Some(at) = self.mail.relays.iter().position(meant) else {
            return Err(Failure::usage("no_relay", "this device does not use that relay")
                .hint("kin relay list shows those that it uses"));
        };
        let line = self.relay_lines_of(Some(&self.mail.relays[at].stored.address.clone()))?;
        let relay = self.mail.relays.remove(at);
        self.store.remove_relay(&relay.stored.address)?;
        let (address, owner) = (relay.stored.address.clone(), key(&relay.stored.owner));
        drop(relay);
        tokio::spawn(async move {
            // What it does not hear, it forgets by itself in time.
            if let (Ok(client), Some(owner)) = (client(&address), owner) {
                let _: Result<(), ClientError> = client.remove(&owner).await;
            }
        });
        self.new_card();
        Ok(line)
    }

    /// Relays that are not reached, as far as that is known by now.
    pub(in crate::device) fn relay_troubles(&self) -> Vec<Trouble> {
        let down = self.mail.relays.iter().filter(|relay| !relay.up && self.net.is_some());
        let told = down.filter_map(|relay| {
            let why = relay.trouble.as_ref()?;
            let message = format!("the relay {} is not reached: {why}", relay.stored.address);
            let hint = "it is tried again; kin relay list shows it".to_owned();
            Some(Trouble { kind: "relay".to_owned(), folder: None, message, hint })
        });
        told.collect()
    }

    pub(in crate::device) fn relay_lines(&self) -> Result<Value, Failure> {
        self.relay_lines_of(None)
    }

    fn relay_lines_of(&self, only: Option<&str>) -> Result<Value, Failure> {
        let waiting = self.store.outbox_length()?;
        let line = |relay: &Relay| RelayLine {
            relay: relay.stored.address.clone(),
            connected: relay.up,
            trouble: relay.trouble.clone().unwrap_or_default(),
            waiting,
        };
        let relays = &self.mail.relays;
        let mut lines = relays
            .iter()
            .filter(|relay| only.is_none_or(|it| it == relay.stored.address))
            .map(line);
        let value = match only {
            Some(_) => serde_json::to_value(lines.next()),
            None => serde_json::to_value(lines.collect::<Vec<_>>()),
        };
        value.map_err(|error| Failure::failed("internal", error))
    }

    // A relay's ups and downs

    fn relay_up(&mut self, address: &str) {
        let Some(relay) = self.mail.relays.iter_mut().find(|one| one.stored.address == address)
        else {
            return;
        };
        (relay.up, relay.trouble) = (true, None);
        tracing::info!(address, "the relay is reached");
        self.post_invitations(address);
        self.repeat_hellos();
        self.deliver_all();
        self.meet_all();
    }

    /// Once a day, since a join may wait for long.
    fn repeat_hellos(&mut self) {
        let due = self.mail.hellos.is_none_or(|at| at.elapsed() >= REPEATED);
        if due && !self.joins.is_empty() {
            self.mail.hellos = Some(Instant::now());
            self.mail_hellos();
        }
    }

    fn relay_down(&mut self, address: &str, why: String) {
        if let Some(relay) = self.mail.relays.iter_mut().find(|one| one.stored.address == address) {
            if relay.up || relay.trouble.is_none() {
                tracing::info!(address, why, "the relay is not reached; what is local goes on");
            }
            (relay.up, relay.trouble) = (false, Some(why));
        }
    }

    /// Who belonged to a group when the members' token was told, and belongs to none any more, must not have
    /// the one that opens the lane (rule T22). Compared with what is stored, so that a crash forgets nothing.
    pub(in crate::device) fn review_mail(&mut self) {
        let members: BTreeSet<DeviceId> = self
            .groups
            .iter()
            .flat_map(|(_, group)| group.manifest().members.keys().copied().collect::<Vec<_>>())
            .collect();
        let told = match self.store.setting(TOLD) {
            Ok(told) => told.unwrap_or_default(),
            Err(error) => return self.fail(&error.to_string()),
        };
        let told: BTreeSet<DeviceId> =
            told.as_chunks::<32>().0.iter().map(|id| DeviceId(*id)).collect();
        if told == members {
            return;
        }
        if !told.is_subset(&members) {
            self.rotate_mail();
        }
        let bytes: Vec<u8> = members.iter().flat_map(|device| device.0).collect();
        if let Err(error) = self.store.set(TOLD, &bytes) {
            self.fail(&error.to_string());
        }
    }

    /// Somebody was put out: what opened the members' lane opens it no more (rule T22).
    fn rotate_mail(&mut self) {
        for at in 0..self.mail.relays.len() {
            let Ok(token) = random() else { return };
            let Some(relay) = self.mail.relays.get_mut(at) else { return };
            relay.stored.token = Secret::new(token);
            if let Some(task) = relay.task.take() {
                task.abort();
            }
            if let Err(error) = self.store.put_relay(&relay.stored.clone()) {
                return self.fail(&error.to_string());
            }
        }
        if !self.mail.relays.is_empty() {
            self.new_card();
            self.start_mail();
        }
    }

    // Invitations

    /// Posts the invitation of a code at every relay; durable, and tried until it is there.
    pub(in crate::device) fn post_invitation(&mut self, code: &StoredCode) {
        let relays: Vec<String> =
            self.mail.relays.iter().map(|relay| relay.stored.address.clone()).collect();
        for relay in relays {
            if let Some(post) = self.post_of(code)
                && let Err(error) = self.store.put_post(&relay, &post)
            {
                return self.fail(&error.to_string());
            }
            self.post_at(&relay);
        }
    }

    fn post_of(&self, code: &StoredCode) -> Option<Post> {
        let until = code.terms.expires.saturating_add(TOLD_FOR);
        Some(Post {
            lookup: code.terms.lookup,
            owner: code.owner.clone(),
            until: u64::try_from(until).unwrap_or(0),
            entry: self.invitation(code)?,
        })
    }

    /// Posts all invitations at a relay anew: addresses may be other ones by now, and the relay another one.
    fn post_invitations(&mut self, address: &str) {
        let now = self.code_time();
        let codes = match self.store.codes() {
            Ok(codes) => codes,
            Err(error) => return self.fail(&error.to_string()),
        };
        for code in codes.iter().filter(|code| now < code.terms.expires.saturating_add(TOLD_FOR)) {
            if let Some(post) = self.post_of(code)
                && let Err(error) = self.store.put_post(address, &post)
            {
                return self.fail(&error.to_string());
            }
        }
        self.post_at(address);
    }

    fn post_at(&mut self, address: &str) {
        let relay = self.mail.relays.iter_mut().find(|one| one.stored.address == address);
        let Some(relay) = relay.filter(|relay| relay.up && !relay.posting) else { return };
        relay.posting = true;
        tokio::spawn(post_all(self.handle.clone(), address.to_owned()));
    }

    /// Why no relay has a code's invitation; empty if it is not known yet. `None` if one has it, or there is none.
    pub(in crate::device) fn unposted(&self, lookup: &LookupId) -> Option<String> {
        let relays = &self.mail.relays;
        let waits =
            |relay: &&Relay| self.store.posts(&relay.stored.address, lookup).unwrap_or(false);
        if relays.is_empty() || !relays.iter().all(|relay| waits(&relay)) {
            return None;
        }
        if self.net.is_none() {
            return Some("this device does not run".to_owned());
        }
        let why =
            |relay: &Relay| if relay.up { relay.untaken.clone() } else { relay.trouble.clone() };
        Some(relays.iter().find_map(why).unwrap_or_default())
    }

    fn not_taken(&mut self, address: &str, why: String) {
        if let Some(relay) = self.mail.relays.iter_mut().find(|one| one.stored.address == address) {
            relay.untaken = Some(why);
        }
    }

    /// Invitations that are still to be posted.
    #[cfg(test)]
    pub(in crate::device) fn posts_waiting(&self) -> usize {
        let relays = self.mail.relays.iter();
        relays
            .filter(|one| self.store.next_post(&one.stored.address).is_ok_and(|it| it.is_some()))
            .count()
    }

    fn next_post(&mut self, address: &str) -> Option<Post> {
        let next = match self.store.next_post(address) {
            Ok(next) => next,
            Err(error) => {
                self.fail(&error.to_string());
                None
            }
        };
        if next.is_none() {
            self.posted_all(address);
        }
        next
    }

    fn posted_all(&mut self, address: &str) {
        if let Some(relay) = self.mail.relays.iter_mut().find(|one| one.stored.address == address) {
            relay.posting = false;
        }
    }

    fn posted(&mut self, address: &str, lookup: &LookupId) {
        if let Err(error) = self.store.posted(address, lookup) {
            self.fail(&error.to_string());
        }
        if let Some(relay) = self.mail.relays.iter_mut().find(|one| one.stored.address == address) {
            relay.untaken = None;
        }
    }

    // Looking for an invitation

    /// Looks for an invitation at the relays that this device uses, and at the one that its link names. How many.
    pub(in crate::device) fn look_at_relays(
        &mut self,
        lookup: LookupId,
        named: Option<String>,
        stream: u64,
    ) -> usize {
        let mut addresses: Vec<String> =
            self.mail.relays.iter().map(|relay| relay.stored.address.clone()).collect();
        let named = named.and_then(|text| RelayAddress::from_str(&text).ok());
        addresses.extend(named.map(|address| address.to_string()));
        addresses.sort_unstable();
        addresses.dedup();
        let clients: Vec<Client> =
            addresses.iter().filter_map(|address| client(address).ok()).collect();
        for client in &clients {
            tokio::spawn(look(self.handle.clone(), client.clone(), lookup, stream));
        }
        clients.len()
    }

    /// Leaves the hellos of joins by codes anew: what a relay says it has, it may have lost.
    pub(in crate::device) fn mail_hellos(&mut self) {
        let joins: Vec<_> =
            self.joins.iter().filter_map(|join| Some((join.device, join.code()?))).collect();
        for (issuer, saved) in joins {
            if self.link_to(&issuer).is_none() {
                self.mail_hello(&issuer, &saved);
            }
        }
    }

    /// Leaves the hello of a join by a code with its issuer. A device without a relay uses the issuer's from then
    /// on, so that it can be answered.
    pub(in crate::device) fn mail_hello(&mut self, issuer: &DeviceId, saved: &SavedCodeJoin) {
        let Some(place) = saved.mail.first() else { return };
        if self.mail.relays.is_empty()
            && let Err(failure) = self.use_relay(&place.relay)
        {
            return self.complain(&failure.kind, &failure.message, &failure.hint);
        }
        let join = self.joins.iter().find(|join| join.device == *issuer);
        let group = join.and_then(|join| join.group);
        let (inbox, name) = (self.inbox.id(), self.name.clone());
        let me = (&self.me, &inbox, &name);
        let said = pairing::code::hello(saved, issuer, me, wire::code::Way::Mail);
        let message = wire::code::Message::Hello(said);
        let to = wire::envelope::Recipient { device: *issuer, inbox: saved.inbox };
        self.mail_letter(&to, group, message.kind(), message.encode(), Some(place));
        self.remember_place(issuer, place);
    }
}

/// Keeps the mailbox and receives it, for as long as the device runs.
async fn attend(hub: HubHandle, address: String, owner: OwnerKey, token: DepositToken) {
    let mut pause = PAUSE.0;
    loop {
        let mut up = None;
        let error = match client(&address) {
            Ok(client) => receive(&hub, &client, &address, &owner, &token, &mut up).await,
            Err(error) => error,
        };
        let (told, why) = (address.clone(), error.to_string());
        if hub.with(move |hub| hub.relay_down(&told, why)).await.is_none() {
            return;
        }
        // One that answers and hangs up again and again costs no more than one that does not answer.
        let steady = up.is_some_and(|at: Instant| at.elapsed() >= STEADY);
        pause = if steady { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        sleep(pause).await;
    }
}

/// Receives until the connection ends; why it did.
async fn receive(
    hub: &HubHandle,
    client: &Client,
    address: &str,
    owner: &OwnerKey,
    token: &DepositToken,
    up: &mut Option<Instant>,
) -> ClientError {
    let received = async {
        client.settle(owner, token).await?;
        let mut inbox = client.receive(owner).await?;
        *up = Some(Instant::now());
        let told = address.to_owned();
        if hub.with(move |hub| hub.relay_up(&told)).await.is_none() {
            return Ok(());
        }
        loop {
            let item = inbox.next().await?;
            let (number, lane, envelope) = (item.number, item.lane, item.envelope);
            // Durable here, or of no use: only then is it deleted there.
            let handled = hub.with(move |hub| {
                hub.heard_mail(&envelope, lane);
                hub.stopping.is_none()
            });
            match handled.await {
                Some(true) => inbox.acknowledge(&[number]).await?,
                _ => return Ok(()),
            }
        }
    };
    match received.await {
        Ok(()) => ClientError::Refused(Refusal::Unavailable),
        Err::<(), ClientError>(error) => error,
    }
}

async fn post_all(hub: HubHandle, address: String) {
    let mut pause = PAUSE.0;
    loop {
        let at = address.clone();
        let Some(Some(post)) = hub.with(move |hub| hub.next_post(&at)).await else { return };
        let Some(owner) = key(&post.owner) else { return };
        let put =
            async { client(&address)?.put(&owner, post.lookup, post.until, post.entry).await };
        let (at, lookup) = (address.clone(), post.lookup);
        let told = match put.await {
            Ok(()) => hub.with(move |hub| hub.posted(&at, &lookup)).await,
            Err(error @ ClientError::Refused(Refusal::Taken)) => {
                // Nobody could know where it goes but by the code: somebody who has it was faster.
                hub.with(move |hub| {
                    let hint = "take the code back (kin codes revoke ID) and issue another one";
                    hub.complain(
                        "codes",
                        &format!("a code's invitation was not posted: {error}"),
                        hint,
                    );
                    hub.posted(&at, &lookup);
                })
                .await
            }
            Err(error) => {
                tracing::debug!(%error, "an invitation was not posted yet");
                let why = error.to_string();
                let told = hub.with(move |hub| hub.not_taken(&at, why)).await;
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
                told
            }
        };
        if told.is_none() {
            return;
        }
    }
}

/// Looks for an invitation at one relay until it answers.
async fn look(hub: HubHandle, client: Client, lookup: LookupId, stream: u64) {
    let mut pause = PAUSE.0;
    loop {
        match client.get(lookup).await {
            Ok(found) => {
                hub.with(move |hub| {
                    let opened = found.is_some_and(|sealed| hub.found_invitation(&sealed, None));
                    if !opened {
                        hub.relay_answered(stream, true);
                    }
                })
                .await;
                return;
            }
            Err(error) => tracing::debug!(%error, "a relay could not be asked for a code"),
        }
        let asks = hub.with(move |hub| hub.still_asks(stream)).await;
        if asks != Some(true) {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
