//! The device that was given a token: from the token to the group, over restarts.

use std::{net::SocketAddr, time::Instant};

use identity::{DeviceId, Sas, Secret};
use pairing::{
    Side, grants,
    token::{Card, JoinStep, Over, TokenJoin},
};
use tokio::sync::mpsc;
use wire::{
    device::Purpose,
    envelope::{Letter, Recipient},
    membership::{GroupId, Role},
    pair::{Decline, SavedJoin, Terms, Token},
};

use crate::{
    api::{ApiEvent, Failure},
    device::{
        groups::role_name,
        hub::{Hub, HubHandle, random, wall},
        links::{MAX_ADDRESSES, STEP},
        questions::Questions,
        store::{JoinKind, StoredJoin},
    },
    line::{ConnId, targets::Key},
};

/// Who looks at a join.
pub(super) struct Asking {
    device: DeviceId,
    group: GroupId,
    stream: u64,
    news: mpsc::UnboundedSender<News>,
}

/// What the hub tells the stream's task.
enum News {
    Show(Sas),
    /// Both devices hold each other: the group and the other one's name.
    Shared(String, String),
    Over(String),
}

impl Asking {
    pub(super) fn shared(&self, device: &DeviceId, group: &GroupId, label: &str, name: &str) {
        if self.device == *device && self.group == *group {
            self.tell(News::Shared(label.to_owned(), name.to_owned()));
        }
    }

    fn tell(&self, news: News) {
        // The stream may be closed.
        let _ = self.news.send(news);
    }
}

/// Said to a device that is let in where it is a member already.
pub(in crate::device) const MEMBER_THERE: &str = "the other device knows this one as a member already; if the group is not here, have it removed there and pair again";

fn words(over: Over) -> String {
    match over {
        Over::Refused => "you said no".to_owned(),
        Over::Broken(abort) => abort.to_string(),
        Over::Declined(why) => match why {
            Decline::Person => "the other side said no",
            Decline::Other => "another device was let in with this token",
            Decline::Closed => "the other device has closed its pairing window",
            Decline::Full => "too many devices have asked with this token",
            Decline::Broken => "the other device says that this one broke the ceremony",
            Decline::Member => MEMBER_THERE,
            Decline::Again => "this device has asked anew",
        }
        .to_owned(),
    }
}

impl Hub {
    /// Refuses what cannot come to anything.
    pub(super) fn check_join(
        &self,
        token: &Token,
        expect: Option<DeviceId>,
    ) -> Result<(), Failure> {
        self.free_to_pair()?;
        let terms = &token.terms;
        if terms.device == self.me {
            return Err(Failure::usage("own_token", "this token is this device's own")
                .hint("give it to the other device: kin pair - there, then paste it"));
        }
        if expect.is_some_and(|expected| expected != terms.device) {
            let message = format!("the token is that of {}, which is not expected", terms.device);
            return Err(Failure::usage("other_device", message)
                .hint("compare with what kin id prints on the other device"));
        }
        if let Some(held) = self.groups.get(&terms.group) {
            let label = &held.label;
            return Err(match held.manifest().is_member(&self.me) {
                true => {
                    let message =
                        format!("this device belongs to the token's group already: {label}");
                    Failure::usage("member", message).hint("kin devices")
                }
                false => {
                    let message =
                        format!("this device was removed from the token's group, {label}");
                    let hint = format!("forget what it was: kin leave --group {label}; then pair");
                    Failure::usage("removed", message).hint(&hint)
                }
            });
        }
        let waits = self.joins.iter().find(|join| join.device == terms.device);
        if waits.is_some_and(|join| self.is_agreed(join)) {
            let message = "a join by that device was agreed on already, and goes on by itself";
            return Err(Failure::usage("waits", message)
                .hint("kin pair --status shows it; kin pair --abandon gives it up"));
        }
        let nowhere = token.addresses.is_empty() && token.mail.is_none();
        if nowhere && self.link_to(&terms.device).is_none() {
            return Err(Failure::usage(
                "no_address",
                "the token says of no place to reach its device",
            )
            .hint("connect the other device to a network, and have it show another token"));
        }
        Ok(())
    }

    pub(super) fn begin_join(
        &mut self,
        token: &Token,
        expect: Option<DeviceId>,
    ) -> Result<mpsc::Receiver<ApiEvent>, Failure> {
        self.check_join(token, expect)?;
        let card = Card { device: self.me, inbox: self.inbox.id(), name: self.name.clone() };
        let join = TokenJoin::start(token, &card, Secret::new(random()?))
            .map_err(|error| Failure::usage("own_token", error))?;
        let device = token.terms.device;
        if let Some(place) = &token.mail {
            // The admitter's answers need a place, too.
            if self.own_mail().is_empty() {
                self.use_relay(&place.relay)?;
            }
            self.remember_place(&device, place);
        }
        self.tokens.joins.insert(device, join);
        if let Err(error) = self.keep_join(&device) {
            self.tokens.joins.remove(&device);
            return Err(error);
        }
        let (events, told) = mpsc::channel(64);
        let (news, heard) = mpsc::unbounded_channel();
        self.tokens.streams += 1;
        let stream = self.tokens.streams;
        let terms = &token.terms;
        self.tokens.asking = Some(Asking { device, group: terms.group, stream, news });
        let said = grants(terms.role, &terms.folders, Side::Joining).join(" ");
        let task = Task {
            hub: self.handle.clone(),
            questions: self.questions.of_another(),
            events,
            stream,
            device,
            grants: said.trim_end_matches('.').to_owned(),
            role: terms.role,
            ask: expect.is_none(),
        };
        tokio::spawn(task.run(heard));
        self.look_for_members();
        self.say_join(&device);
        Ok(told)
    }

    /// Makes durable how far a join is (rule T8), and where its device is dialled.
    fn keep_join(&mut self, device: &DeviceId) -> Result<(), Failure> {
        let Some(join) = self.tokens.joins.get(device) else { return Ok(()) };
        let Terms { group, role, folders, .. } = join.terms().clone();
        let place = self.places.entry(*device).or_default();
        let own = self.net.as_ref().map(|net| link::own_addresses(net.port)).unwrap_or_default();
        for addr in join.addresses().iter().rev().filter(|addr| !own.contains(addr)) {
            place.addresses.retain(|known| known != addr);
            place.addresses.insert(0, *addr);
        }
        place.addresses.truncate(MAX_ADDRESSES);
        let stored = StoredJoin {
            device: *device,
            // A token says no name.
            name: device.short(),
            kind: JoinKind::Token,
            group: Some(group),
            role,
            folders,
            since: wall(),
            state: join.save().encode().expose().clone(),
        };
        self.put_join(stored, SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Somebody else is at an address of a token: it is of another network, or the other device has moved.
    /// Its other addresses come first from now on.
    pub(in crate::device) fn look_elsewhere(&mut self, device: &DeviceId, taken: SocketAddr) {
        if !self.joins.iter().any(|join| join.device == *device) {
            return;
        }
        let (Some(net), Some(place)) = (&mut self.net, self.places.get_mut(device)) else { return };
        if let Some(at) = place.addresses.iter().position(|addr| *addr == taken) {
            place.addresses[at..].rotate_left(1);
        }
        let (key, later) = (Key::Member(*device), Instant::now() + STEP);
        net.targets.add(key, place.addresses.clone(), Some(*device), later);
    }

    /// Goes on with joins after a start. Those whose person had not answered are over: nobody is there to
    /// compare the string.
    pub(in crate::device) fn restore_token_joins(&mut self) {
        let me = Recipient { device: self.me, inbox: self.inbox.id() };
        let kept: Vec<StoredJoin> =
            self.joins.iter().filter(|join| join.kind == JoinKind::Token).cloned().collect();
        for stored in kept {
            let join =
                SavedJoin::decode(&stored.state).map_err(|error| error.to_string()).and_then(
                    |saved| TokenJoin::restore(saved, &me).map_err(|error| error.to_string()),
                );
            match join {
                Ok(join) if join.agreed() && join.terms().device == stored.device => {
                    self.tokens.joins.insert(stored.device, join);
                }
                Ok(_) => self.forget_join(&stored.device),
                Err(error) => {
                    let message = format!("a join that waits cannot go on: {error}");
                    self.complain("join", &message, "pair again: kin pair --token there");
                    self.forget_join(&stored.device);
                }
            }
        }
    }

    /// True once a log may be accepted: this side's person has said yes.
    pub(in crate::device) fn is_agreed(&self, join: &StoredJoin) -> bool {
        join.kind != JoinKind::Token
            || self.tokens.joins.get(&join.device).is_some_and(TokenJoin::agreed)
    }

    /// The group has come, or nothing comes any more.
    pub(in crate::device) fn end_token_join(&mut self, device: &DeviceId) {
        self.tokens.joins.remove(device);
    }

    /// Says what a join is at, over a link that has come up.
    pub(in crate::device) fn say_join(&mut self, device: &DeviceId) {
        let Some(said) = self.tokens.joins.get(device).and_then(TokenJoin::say) else { return };
        if let Some(conn) = self.link_to(device).and_then(|id| self.conns.get_mut(&id))
            && conn.purpose == Some(Purpose::Join)
            && conn.line.dialled
        {
            // People think, here and there. If nobody hears this, the other end cuts the link.
            conn.deadline = None;
        }
        self.post(&said);
    }

    /// True if the letter comes from the device that is to admit this one.
    pub(in crate::device) fn join_heard(&mut self, letter: &Letter) -> bool {
        let Some(join) = self.tokens.joins.get_mut(&letter.author) else { return false };
        let steps = join.handle(letter);
        self.join_steps(&letter.author, steps);
        true
    }

    fn join_steps(&mut self, device: &DeviceId, steps: Vec<JoinStep>) {
        for step in steps {
            match step {
                JoinStep::Keep => {
                    if let Err(failure) = self.keep_join(device) {
                        // What follows must not be said.
                        return self.fail(&failure.message);
                    }
                }
                JoinStep::Send(outgoing) => self.post(&outgoing),
                JoinStep::Show(sas) => match &self.tokens.asking {
                    Some(asking) if asking.device == *device => asking.tell(News::Show(sas)),
                    // Nobody is there to compare it.
                    _ => self.answer_join_token(device, false),
                },
                JoinStep::Admitted(_) => {
                    let group = self.tokens.joins.get(device).map(|join| join.terms().group);
                    match (self.link_to(device), group) {
                        (Some(id), Some(group)) => self.heard_admitted(id, group),
                        _ => self.want_link(device),
                    }
                }
                JoinStep::Over(over) => self.drop_join(device, &words(over)),
            }
        }
    }

    /// Nothing comes of a join: what was kept is deleted.
    pub(in crate::device) fn drop_join(&mut self, device: &DeviceId, reason: &str) {
        self.forget_join(device);
        if let Some(asking) = &self.tokens.asking
            && asking.device == *device
        {
            asking.tell(News::Over(reason.to_owned()));
        }
        let ours: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| {
                let join = conn.purpose == Some(Purpose::Join) && conn.line.dialled;
                join && conn.line.peer == *device && !conn.is_accepted()
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ours {
            self.cut(id, "nothing comes of the join");
        }
        self.look_for_members();
    }

    /// This side's person answers.
    fn answer_join_token(&mut self, device: &DeviceId, yes: bool) {
        let Some(join) = self.tokens.joins.get_mut(device) else { return };
        match join.answer(yes) {
            Ok(steps) => self.join_steps(device, steps),
            Err(abort) => self.drop_join(device, &abort.to_string()),
        }
    }

    /// Gives a join up, and tells the other side if it is linked.
    pub(in crate::device) fn abandon_join(&mut self, device: &DeviceId) {
        self.answer_join_token(device, false);
        self.give_up_code(device, None);
        self.forget_join(device);
    }

    /// Ends the join that somebody looks at, unless its person has said yes. False if there is none.
    pub(super) fn cancel_join(&mut self, reason: &str) -> bool {
        let Some(asking) = &self.tokens.asking else { return false };
        let device = asking.device;
        if self.tokens.joins.get(&device).is_some_and(TokenJoin::agreed) {
            return false;
        }
        asking.tell(News::Over(reason.to_owned()));
        self.answer_join_token(&device, false);
        true
    }
}

/// Asks the person, and tells what happens.
struct Task {
    hub: HubHandle,
    questions: Questions,
    events: mpsc::Sender<ApiEvent>,
    stream: u64,
    device: DeviceId,
    grants: String,
    role: Role,
    ask: bool,
}

impl Task {
    async fn tell(&self, event: ApiEvent) {
        // Whoever asked may have gone; that is seen elsewhere.
        let _ = self.events.send(event).await;
    }

    async fn run(self, mut news: mpsc::UnboundedReceiver<News>) {
        let last = self.ceremony(&mut news).await;
        let (stream, device) = (self.stream, self.device);
        drop(news);
        self.hub
            .with(move |hub| {
                if hub.tokens.asking.as_ref().is_some_and(|asking| asking.stream == stream) {
                    // What was not agreed on ends with who looks at it.
                    if hub.tokens.joins.get(&device).is_some_and(|join| !join.agreed()) {
                        hub.answer_join_token(&device, false);
                    }
                    hub.tokens.asking = None;
                }
            })
            .await;
        if let Some(last) = last {
            self.tell(last).await;
        }
    }

    /// What the next news are; `None` if nobody looks any more.
    async fn next(&self, news: &mut mpsc::UnboundedReceiver<News>) -> Option<News> {
        let stops = || News::Over("this device stops".to_owned());
        tokio::select! {
            one = news.recv() => Some(one.unwrap_or_else(stops)),
            () = self.events.closed() => None,
        }
    }

    async fn ceremony(&self, news: &mut mpsc::UnboundedReceiver<News>) -> Option<ApiEvent> {
        let sas = loop {
            match self.next(news).await? {
                News::Show(sas) => break sas,
                News::Over(reason) => return Some(ApiEvent::Refused { reason }),
                News::Shared(..) => {}
            }
        };
        if self.ask && !self.confirm(sas, news).await? {
            return Some(ApiEvent::Refused { reason: "you said no".to_owned() });
        }
        let device = self.device;
        let said = self.hub.with(move |hub| hub.answer_join_token(&device, true));
        said.await?;
        let name = device.short();
        let mut ssh = None;
        if self.ask {
            ssh = super::ask_about_ssh(&self.questions, &self.events, device, &name).await;
            if let Some(answers) = ssh {
                super::keep_ssh(&self.hub, device, answers);
            }
        }
        // From here on it goes on without anybody who looks.
        if news.is_empty() {
            self.tell(ApiEvent::Pending { device: device.to_string(), reason: String::new() })
                .await;
        }
        loop {
            // The stream of a device that stops ends without another word: the join is not over.
            let one = tokio::select! {
                one = news.recv() => one?,
                () = self.events.closed() => return None,
            };
            match one {
                News::Over(reason) => return Some(ApiEvent::Refused { reason }),
                News::Shared(group, name) => {
                    super::settle_ssh(&self.hub, &self.events, device, ssh).await;
                    let (device, role) = (device.to_string(), role_name(self.role).to_owned());
                    return Some(ApiEvent::Paired { device, name, group, role });
                }
                News::Show(_) => {}
            }
        }
    }

    /// Asks whether the strings are the same; `None` if nobody looks any more. If the other side ends it
    /// meanwhile, what comes next says so.
    async fn confirm(&self, sas: Sas, news: &mut mpsc::UnboundedReceiver<News>) -> Option<bool> {
        let mut asked = self.questions.ask();
        self.tell(ApiEvent::Confirm {
            id: asked.id,
            device: self.device.to_string(),
            name: self.device.short(),
            sas: sas.to_string(),
            grants: self.grants.clone(),
        })
        .await;
        loop {
            tokio::select! {
                // One that was taken back has no answer.
                yes = &mut asked.answer => return yes.ok(),
                one = self.next(news) => match one {
                    Some(News::Over(reason)) => {
                        self.questions.withdraw(asked.id);
                        self.tell(ApiEvent::Withdrawn { id: asked.id, reason: reason.clone() }).await;
                        self.tell(ApiEvent::Refused { reason }).await;
                        return None;
                    }
                    None => {
                        self.questions.withdraw(asked.id);
                        return None;
                    }
                    Some(_) => {}
                },
            }
        }
    }
}
