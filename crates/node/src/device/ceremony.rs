//! One ceremony of a pairing on the local network (rule T3), from both offers to both yeses and what follows.

use std::{net::SocketAddr, pin::pin, time::Instant};

use identity::DeviceId;

use pairing::{Lan, LanStep, Party, Transcript};
use tokio::{sync::oneshot, time::sleep_until};
use wire::{
    device::{DEVICE_VERSION, Into, Message as Say, Offer, Purpose},
    membership::{Action, Ceremony, GroupId, Role, Scope},
    session::{Message, Mode},
};

use super::{
    hub::{random, wall},
    pairing::{Broken, CeremonyLine, Standing, Task},
    questions::Asked,
    store::{JoinKind, StoredJoin},
    token::MEMBER_THERE,
};
use crate::api::{ApiEvent, Failure, Which};

/// Said to the other side.
const WINDOW_CLOSED: &str = "its pairing window was closed";

impl Task {
    pub(super) async fn ceremony(
        &mut self,
        line: CeremonyLine,
        end: Instant,
        meant: bool,
    ) -> Result<ApiEvent, Broken> {
        let peer = line.peer;
        let mut exposed = false;
        let result = self.try_ceremony(line, end, &mut exposed).await;
        let result = match result {
            // Whatever it was that came of it.
            Err(Broken::Lost(_) | Broken::Refused(_) | Broken::Never(_))
                if self.is_cancelled()() =>
            {
                Err(Broken::Cancelled(self.cancelled().await))
            }
            // Before there was anything to compare, it is one candidate less: whoever is on the network can
            // say no.
            Err(Broken::Refused(words)) if !exposed => {
                Err(Broken::Lost(format!("it said no before anything was compared: {words}")))
            }
            // Whoever is there can also make an offer that leads nowhere.
            Err(Broken::Never(words)) if !exposed && !meant && !self.knows(peer).await => {
                Err(Broken::Lost(words))
            }
            other => other,
        };
        let failed = matches!(result, Err(Broken::Lost(_) | Broken::Refused(_)));
        if exposed && failed {
            self.attempts.fail();
        }
        result
    }

    /// True if the other side is a device of this one's groups.
    async fn knows(&self, peer: DeviceId) -> bool {
        let shares = self.setup.hub.with(move |hub| !hub.groups.shared_with(&peer).is_empty());
        shares.await == Some(true)
    }

    async fn try_ceremony(
        &mut self,
        mut line: CeremonyLine,
        end: Instant,
        exposed: &mut bool,
    ) -> Result<ApiEvent, Broken> {
        if self.setup.expect.is_some_and(|expected| expected != line.peer) {
            // Before it learns anything, and costs an attempt.
            line.refuse("another device is expected here");
            return Err(Broken::Never(format!("{} is not the device that is expected", line.peer)));
        }
        let mine = Offer {
            name: self.setup.name.clone(),
            inbox: self.setup.inbox,
            into: match self.setup.options.into {
                Which::Auto => Into::Auto,
                Which::Mine => Into::Mine,
                Which::Theirs => Into::Yours,
            },
            group: self.setup.group.as_ref().map(|(group, ..)| *group),
            members: self.setup.group.as_ref().map_or(0, |(.., members)| *members),
        };
        line.say(&Message::Device(Say::Offer(mine.clone())));
        let Message::Device(Say::Offer(theirs)) = self.next(&mut line).await? else {
            return Err(Broken::Lost("it broke the ceremony".to_owned()));
        };
        let peer = line.peer;
        let i_admit = match whose(&mine, &theirs, self.setup.me < peer) {
            Ok(mine) => mine,
            Err(words) => {
                line.refuse(&words);
                return Err(Broken::Never(words));
            }
        };
        if i_admit && self.stands(peer, &theirs).await? == Standing::Otherwise {
            line.refuse(MEMBER_THERE);
            return Err(Broken::Never(format!(
                "{} is a member of the group already, though let in otherwise: to let it in anew, put it out first (kin devices remove)",
                theirs.name.as_str()
            )));
        }
        if !i_admit {
            let free = self.setup.hub.with(move |hub| hub.begin_lan_join(&peer)).await;
            if free == Some(false) {
                line.refuse("it waits for a token's answer");
                return Err(Broken::Never(
                    "a join by a token with that device is under way: kin pair --abandon gives it up"
                        .to_owned(),
                ));
            }
        }
        let sas = self.compare(&mut line, &mine, &theirs, exposed).await?;
        let name = theirs.name.as_str().to_owned();
        let label = match (&self.setup.group, i_admit) {
            (Some((_, label, _)), true) => label.clone(),
            (None, true) => self.setup.name.as_str().to_owned(),
            (_, false) => name.clone(),
        };
        let grants = match i_admit {
            true => format!(
                "{name} joins your group {label} as an admin: it may read and change every folder of the group, and admit and remove devices"
            ),
            false => format!(
                "this device joins the group of {name} ({}) as an admin: its admins may remove this device, and every member sees its name",
                match theirs.members {
                    0 | 1 => "one device".to_owned(),
                    more => format!("{more} devices"),
                }
            ),
        };
        let consent = self.consent(&mut line, &name, sas, grants, end).await;
        if !i_admit && matches!(consent, Err(Broken::Declined)) {
            // A no is one to a yes of before, too.
            self.setup.hub.send(move |hub| hub.forget_lan_join(&peer));
        }
        consent?;
        if !i_admit {
            // Before the other side can know of the yes (rule T8).
            let join = StoredJoin {
                device: peer,
                name: name.clone(),
                kind: JoinKind::Lan,
                // That of the offer which entered the string; a group that is still to be made has no id.
                group: theirs.group,
                role: Role::Admin,
                folders: Scope::All,
                since: wall(),
                state: Vec::new(),
            };
            let at = match (line.dialled, line.port) {
                // It listens nowhere.
                (false, 0) => SocketAddr::new(line.addr.ip(), 0),
                _ => line.place(),
            };
            let cancelled = self.is_cancelled();
            let kept = self.setup.hub.with(move |hub| match cancelled() {
                true => Ok(false),
                false => hub.put_join(join, at).map(|()| true),
            });
            match kept.await {
                Some(Ok(true)) => {}
                Some(Ok(false)) | None => {
                    line.refuse(WINDOW_CLOSED);
                    return Err(Broken::Lost("the window is closed".to_owned()));
                }
                Some(Err(failure)) => {
                    line.refuse("it could not store its part");
                    return Err(Broken::Never(failure.message));
                }
            }
        }
        line.say(&Message::Accepted);
        let (done, shared) = oneshot::channel();
        let ssh = match self.ask_and_finish(line, &theirs, i_admit, done, end).await {
            Ok(ssh) => ssh,
            Err(broken) => {
                // A link that was lost may have carried the other side's yes (rule T8); a no is a no.
                if matches!(broken, Broken::Refused(_)) && !i_admit {
                    self.setup.hub.send(move |hub| hub.forget_join(&peer));
                }
                return Err(match broken {
                    Broken::Cancelled(reason) if !i_admit => Broken::Cancelled(format!(
                        "{reason}; the yes that was said here counts until the two meet again: kin pair --abandon gives it up"
                    )),
                    broken => broken,
                });
            }
        };
        if let Some(ssh) = ssh {
            self.keep_ssh(peer, ssh);
        }
        *exposed = false;
        // The other side's person may still be asked; if the link is lost, the hub says so.
        let shared = tokio::select! {
            biased;
            group = shared => group.ok(),
            _ = self.cancelled() => None,
            () = sleep_until(end.into()) => None,
            () = self.events.closed() => None,
        };
        if shared.is_some() && ssh.is_some_and(|ssh| ssh.contains(&true)) {
            for event in super::ssh::settle(&self.setup.hub, peer).await {
                self.tell(event).await;
            }
        }
        match shared {
            Some(group) => Ok(ApiEvent::Paired {
                device: peer.to_string(),
                name,
                group,
                role: "admin".to_owned(),
            }),
            // Both have said yes, and both keep it: it is finished when they meet again (rule T8).
            None => Ok(ApiEvent::Pending { device: peer.to_string(), reason: String::new() }),
        }
    }

    /// The next message that needs no person, unless the window is closed before.
    async fn next(&self, line: &mut CeremonyLine) -> Result<Message, Broken> {
        let reason = tokio::select! {
            biased;
            reason = self.cancelled() => reason,
            message = line.next() => return message,
        };
        line.refuse(WINDOW_CLOSED);
        Err(Broken::Cancelled(reason))
    }

    /// Commitment, nonce, reveal; then the string.
    async fn compare(
        &self,
        line: &mut CeremonyLine,
        mine: &Offer,
        theirs: &Offer,
        exposed: &mut bool,
    ) -> Result<String, Broken> {
        let party = |device, offer: &Offer| Party {
            device,
            inbox: offer.inbox,
            name: offer.name.clone(),
            version: DEVICE_VERSION,
            mode: Mode::Ask,
        };
        let (me, peer) = (party(self.setup.me, mine), party(line.peer, theirs));
        let exporter = line.exporter;
        let broken = |error: &dyn std::fmt::Display| Broken::Lost(error.to_string());
        let mut machine = if line.dialled {
            let topic = Offer::digest(mine, theirs);
            Lan::client(&Transcript { client: me, server: peer, topic, exporter })
        } else {
            let topic = Offer::digest(theirs, mine);
            Lan::server(&Transcript { client: peer, server: me, topic, exporter })
        }
        .map_err(|error| broken(&error))?;
        if line.dialled {
            let nonce = random().map_err(|error| broken(&error))?;
            let commit = machine.commit(nonce).map_err(|error| broken(&error))?;
            line.say(&commit);
        }
        loop {
            let message = self.next(line).await;
            let fresh = random().map_err(|error| broken(&error))?;
            let step = message.and_then(|message| {
                machine.handle(&message, fresh).map_err(|error| broken(&error))
            });
            *exposed = machine.exposed();
            match step? {
                LanStep::Send(message) => line.say(&message),
                LanStep::SendAndShow(message, sas) => {
                    line.say(&message);
                    return Ok(sas.to_string());
                }
                LanStep::Show(sas) => return Ok(sas.to_string()),
                LanStep::Wait => return Err(Broken::Lost("it is busy".to_owned())),
            }
        }
    }

    /// Asks this side's person; a link that ends meanwhile takes the question back.
    async fn consent(
        &self,
        line: &mut CeremonyLine,
        name: &str,
        sas: String,
        grants: String,
        end: Instant,
    ) -> Result<(), Broken> {
        if self.setup.expect == Some(line.peer) {
            return Ok(());
        }
        let asked = self.setup.questions.ask();
        self.tell(ApiEvent::Confirm {
            id: asked.id,
            device: line.peer.to_string(),
            name: name.to_owned(),
            sas,
            grants,
        })
        .await;
        if self.answer(line, asked, end).await? {
            return Ok(());
        }
        line.refuse("its person said no");
        Err(Broken::Declined)
    }

    /// The answer to a question about the other side, unless that side says no meanwhile or is gone.
    async fn answer(
        &self,
        line: &mut CeremonyLine,
        asked: Asked,
        end: Instant,
    ) -> Result<bool, Broken> {
        let Asked { id, mut answer } = asked;
        let withdrawn = loop {
            tokio::select! {
                biased;
                reason = self.cancelled() => {
                    line.refuse(WINDOW_CLOSED);
                    self.withdraw(id, "the window is closed").await;
                    return Err(Broken::Cancelled(reason));
                }
                yes = &mut answer => match yes {
                    Ok(yes) => return Ok(yes),
                    Err(_) => break "it was taken back",
                },
                message = line.heard.recv() => match message {
                    // The other side's yes may come first.
                    Some(Message::Accepted) if !line.accepted => line.accepted = true,
                    Some(Message::Refused { words, .. }) => {
                        self.withdraw(id, "the other side said no").await;
                        return Err(Broken::Refused(words));
                    }
                    _ => {
                        self.withdraw(id, "the link was lost").await;
                        return Err(Broken::Lost("the link was lost".to_owned()));
                    }
                },
                () = sleep_until(end.into()) => break "nobody answered in time",
                () = self.events.closed() => break "nobody waits any more",
            }
        };
        line.refuse("its person did not answer");
        self.withdraw(id, withdrawn).await;
        Err(Broken::Lost(withdrawn.to_owned()))
    }

    async fn withdraw(&self, id: u32, reason: &str) {
        self.setup.questions.withdraw(id);
        self.tell(ApiEvent::Withdrawn { id, reason: reason.to_owned() }).await;
    }

    /// What was said about SSH counts for a pairing that came about, and for no other.
    fn keep_ssh(&self, peer: DeviceId, [into_here, from_here]: [bool; 2]) {
        self.setup.hub.send(move |hub| {
            if let Err(error) = hub.store.put_ssh_consent(&peer, into_here, from_here, wall()) {
                hub.complain("state", &error.to_string(), "");
            }
            hub.begin_ssh(&peer);
        });
    }

    /// After this side's yes: what is still to be asked, and beside it the other side's yes, upon which the two hold
    /// each other at once. Whoever leaves while SSH is asked about leaves nothing half done (rule T8).
    async fn ask_and_finish(
        &self,
        line: CeremonyLine,
        theirs: &Offer,
        i_admit: bool,
        done: oneshot::Sender<String>,
        end: Instant,
    ) -> Result<Option<[bool; 2]>, Broken> {
        let peer = line.peer;
        let mut finish = pin!(self.finish(line, theirs, i_admit, done, end));
        let mut ssh = pin!(self.ask_about_ssh(peer, theirs.name.as_str(), end));
        let (mut finished, mut said) = (false, None);
        loop {
            tokio::select! {
                result = &mut finish, if !finished => match result {
                    Ok(()) => finished = true,
                    Err(broken) => {
                        for id in self.setup.questions.withdraw_all() {
                            self.withdraw(id, broken.words()).await;
                        }
                        return Err(broken);
                    }
                },
                answers = &mut ssh, if said.is_none() => {
                    said = Some(answers);
                    if !finished {
                        let name = theirs.name.as_str().to_owned();
                        self.tell(ApiEvent::Waiting { name }).await;
                    }
                }
            }
            if let (true, Some(answers)) = (finished, said) {
                return Ok(answers);
            }
        }
    }

    /// Rule T9: `None` if nobody has answered.
    async fn ask_about_ssh(&self, peer: DeviceId, name: &str, end: Instant) -> Option<[bool; 2]> {
        if self.setup.expect.is_some() {
            return Some([false; 2]);
        }
        let (questions, events) = (&self.setup.questions, &self.events);
        tokio::select! {
            answers = super::token::ask_about_ssh(questions, events, peer, name) => return answers,
            _ = self.cancelled() => {}
            () = sleep_until(end.into()) => {}
        }
        for id in questions.withdraw_all() {
            self.withdraw(id, "nobody answered in time").await;
        }
        None
    }

    /// The other side's yes, and the admission.
    async fn finish(
        &self,
        mut line: CeremonyLine,
        theirs: &Offer,
        i_admit: bool,
        done: oneshot::Sender<String>,
        end: Instant,
    ) -> Result<(), Broken> {
        if !line.accepted {
            let heard = tokio::select! {
                biased;
                reason = self.cancelled() => {
                    // The yes of who joins is no no by that: it counts until the two meet again (rule T8).
                    if i_admit {
                        line.refuse(WINDOW_CLOSED);
                    }
                    return Err(Broken::Cancelled(reason));
                }
                heard = self.hear(&mut line, end) => heard,
            };
            match heard {
                Some(Message::Accepted) => {}
                Some(Message::Refused { words, .. }) => return Err(Broken::Refused(words)),
                _ => return Err(Broken::Lost("it did not answer".to_owned())),
            }
        }
        match i_admit {
            true => self.admit(line, theirs, done).await,
            false => self.be_admitted(line, done, end).await,
        }
    }

    /// What the other side says next, if it says anything while somebody waits here.
    async fn hear(&self, line: &mut CeremonyLine, end: Instant) -> Option<Message> {
        tokio::select! {
            message = line.heard.recv() => message,
            _ = self.cancelled() => None,
            () = sleep_until(end.into()) => None,
            () = self.events.closed() => None,
        }
    }

    /// What this side would write of the other one, and in which group.
    fn admission(&self, device: DeviceId, theirs: &Offer) -> (Option<GroupId>, Action) {
        let action = Action::Admit {
            device,
            inbox: theirs.inbox,
            name: theirs.name.clone(),
            role: Role::Admin,
            folders: Scope::All,
            ceremony: Ceremony::Lan,
        };
        (self.setup.group.as_ref().map(|(group, ..)| *group), action)
    }

    /// What the other side is to the group that this one would let it in to.
    async fn stands(&self, device: DeviceId, theirs: &Offer) -> Result<Standing, Broken> {
        let (group, action) = self.admission(device, theirs);
        let stands = self.setup.hub.with(move |hub| hub.stands(group.as_ref(), &action));
        stands.await.ok_or_else(|| Broken::Lost("this device stops".to_owned()))
    }

    /// Writes the admission and says so.
    async fn admit(
        &self,
        line: CeremonyLine,
        theirs: &Offer,
        done: oneshot::Sender<String>,
    ) -> Result<(), Broken> {
        let (group, action) = self.admission(line.peer, theirs);
        let cancelled = self.is_cancelled();
        let admitted = self.setup.hub.with(move |hub| {
            if cancelled() {
                line.refuse(WINDOW_CLOSED);
                return Ok(false);
            }
            // A link that is gone the joiner may have begun anew, and been told that it was not admitted.
            if !hub.conns.contains_key(&line.id) {
                return Ok(false);
            }
            let group = match group {
                // Its person does not know of it, or wants it anew: the word was lost, or it left unheard.
                Some(group) if hub.stands(Some(&group), &action) == Standing::AsAgreed => group,
                _ => hub.admit(group, action).inspect_err(|failure| {
                    // What could not be stored may be on the disk all the same.
                    if failure.kind != "state" {
                        line.refuse("it could not write the admission");
                    }
                })?,
            };
            hub.await_shared(line.peer, done);
            line.say(&Message::Device(Say::Admitted { group }));
            hub.take_back(line, Purpose::Member);
            Ok::<_, Failure>(true)
        });
        match admitted.await {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(Broken::Lost("the link was lost".to_owned())),
            Some(Err(failure)) => Err(Broken::Never(failure.message)),
            None => Err(Broken::Lost("this device stops".to_owned())),
        }
    }

    /// Waits until the other side has written the admission.
    async fn be_admitted(
        &self,
        mut line: CeremonyLine,
        done: oneshot::Sender<String>,
        end: Instant,
    ) -> Result<(), Broken> {
        let group = match self.hear(&mut line, end).await {
            Some(Message::Device(Say::Admitted { group })) => group,
            Some(Message::Refused { words, .. }) => return Err(Broken::Refused(words)),
            Some(_) => return Err(Broken::Lost("it broke the ceremony".to_owned())),
            // Perhaps it has, and the word was lost: the join stays (rule T8).
            None => return Ok(()),
        };
        self.setup.hub.send(move |hub| {
            hub.await_shared(line.peer, done);
            let id = line.id;
            hub.join_admitted(id, line, group);
        });
        Ok(())
    }
}

/// Whose group it is: true for this side's. A function of both offers that comes to the same on both sides.
fn whose(mine: &Offer, theirs: &Offer, i_am_lower: bool) -> Result<bool, String> {
    if mine.group.is_some() && mine.group == theirs.group {
        return Err("both devices belong to that group already".to_owned());
    }
    let says_mine = mine.into == Into::Mine || theirs.into == Into::Yours;
    let says_theirs = mine.into == Into::Yours || theirs.into == Into::Mine;
    match (says_mine, says_theirs) {
        (true, true) => {
            Err("one side wants its own group and so does the other: give --into on one of them".to_owned())
        }
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        (false, false) => match (mine.members, theirs.members) {
            (2.., 2..) => Err(
                "both devices belong to a group of several devices: say whose it is to be, with kin pair --into mine or --into theirs"
                    .to_owned(),
            ),
            (2.., _) => Ok(true),
            (_, 2..) => Ok(false),
            (1, 0) => Ok(true),
            (0, 1) => Ok(false),
            _ => Ok(i_am_lower),
        },
    }
}
