//! One link between two Kinfold devices, from its first message to keys in place on both sides.

use std::sync::Arc;

use identity::DeviceId;
use link::Link;
use pairing::{Lan, LanStep, Party, Transcript, Verdicts};
use tokio::{
    sync::MutexGuard,
    time::{Instant, timeout, timeout_at},
};
use wire::{
    session::{Message as Step, Mode},
    ssh::{Hello, Message, Purpose, Refusal, SSH_VERSION},
};

use super::{
    Event, Made, Question,
    desk::{Asked, Desk, random},
    install::{self, Problem, There},
    line::{Broken, Line, STEP},
};
use crate::{Alias, PublicKey, Tag};

/// How a link ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// Keys are in place, and that was told.
    Done,
    /// Nothing was meant by it: a look, or a second link.
    Looked,
    /// It broke off, and may be tried again.
    Lost(String),
    /// The one that this person has chosen said no.
    Refused(String),
    /// This side's person said no.
    Declined,
    /// It cannot be between these two.
    Never(String),
    /// What was agreed to could not be installed here.
    Failed(Problem),
}

/// Plays a link to its end.
pub(super) async fn play(desk: Arc<Desk>, link: Link) -> Ended {
    let until = Instant::now() + desk.setup.before;
    let mut line = Line::new(link);
    let me = desk.endpoint.device();
    let mine = my_hello(&desk);
    // Rule T1: of two links between the same devices the lower id chooses, by speaking first.
    let first = me < line.peer;
    let mut held = None;
    if first {
        held = desk.hold(line.peer);
        if held.is_none() {
            return Ended::Looked;
        }
        if let Err(broken) = line.say(&Message::Hello(mine.clone())).await {
            return before(broken);
        }
    }
    let theirs = match line.soon().await {
        Ok(Message::Hello(hello)) => hello,
        // The other link is used, most likely.
        Ok(_) | Err(Broken::Lost(_)) if !first => return Ended::Looked,
        Ok(_) => return Ended::Lost("it broke the ceremony".to_owned()),
        Err(broken) => return before(broken),
    };
    if !first {
        held = desk.hold(line.peer);
        if held.is_none() {
            return Ended::Looked;
        }
        if let Err(broken) = line.say(&Message::Hello(mine.clone())).await {
            return before(broken);
        }
    }
    let _held = held;
    if theirs.purpose == Purpose::Look {
        line.close().await;
        return Ended::Looked;
    }
    if let Some(ended) = unfit(&desk, &mut line, &mine, &theirs).await {
        return ended;
    }
    let mut talk = Talk { desk: &desk, line, mine, theirs, until, exposed: false, agreed: false };
    let result = talk.run().await;
    if talk.exposed && !matches!(result, Ok(())) {
        desk.failed_attempt();
    }
    match result {
        Ok(()) => {
            talk.line.close().await;
            Ended::Done
        }
        Err(Stop::Broken(Broken::Refused(reason, words))) if talk.exposed || talk.agreed => {
            talk.turned_away(reason, words)
        }
        Err(Stop::Broken(broken)) => before(broken),
        Err(Stop::Say(reason, words, ended)) => {
            talk.line.refuse(reason, &words).await;
            ended
        }
    }
}

/// Only looks who is there; what that calls itself.
pub(crate) async fn look_at(link: Link, me: DeviceId, hello: &Message) -> Option<String> {
    let mut line = Line::new(link);
    let first = me < line.peer;
    if first {
        line.say(hello).await.ok()?;
    }
    let Ok(Message::Hello(theirs)) = line.soon().await else { return None };
    if !first {
        // So that the other side knows that nothing comes of it.
        let _ = line.say(hello).await;
    }
    line.close().await;
    Some(theirs.name.as_str().to_owned())
}

/// Before there was anything to compare, a refusal is one candidate less: whoever is on the network can say
/// no. Only who was named by a person ends the run by it.
fn before(broken: Broken) -> Ended {
    match broken {
        Broken::Lost(words) => Ended::Lost(words),
        Broken::Refused(Refusal::Broken, words) => {
            Ended::Lost(if words.is_empty() { "it refused".to_owned() } else { words })
        }
        Broken::Refused(_, words) if words.is_empty() => {
            Ended::Never("the other side refused".to_owned())
        }
        Broken::Refused(_, words) => Ended::Never(format!("the other side refused: {words}")),
    }
}

fn my_hello(desk: &Desk) -> Hello {
    let setup = &desk.setup;
    let key = setup.own.as_ref().filter(|_| setup.purpose.logs_in());
    Hello {
        version: SSH_VERSION,
        name: setup.name.clone(),
        purpose: setup.purpose,
        inbox: setup.inbox,
        key: key.map(|own| own.public.to_string()),
    }
}

/// What keeps these two from comparing at all.
async fn unfit(desk: &Desk, line: &mut Line, mine: &Hello, theirs: &Hello) -> Option<Ended> {
    let name = theirs.name.as_str();
    let (reason, to_them, here) = if theirs.version != SSH_VERSION {
        let said = format!("it speaks version {SSH_VERSION} of this protocol");
        (Refusal::OtherVersion, said, format!("{name} speaks version {} of it", theirs.version))
    } else if !mine.purpose.meets(theirs.purpose) {
        let (ours, other) = (command(mine.purpose), command(theirs.purpose));
        let fit = match mine.purpose {
            Purpose::Listen => "pair",
            Purpose::Pair => "listen",
            Purpose::Sync | Purpose::Look => "sync",
        };
        (
            Refusal::OtherPurpose,
            format!("it runs kin ssh {ours}"),
            format!(
                "{name} runs kin ssh {other}, and here runs kin ssh {ours}: kin ssh {fit} goes with that"
            ),
        )
    } else if desk.setup.expect.is_some_and(|expected| expected != line.peer) {
        let said = "another device is expected there".to_owned();
        (Refusal::Declined, said, format!("{name} ({}) is not the expected device", line.peer))
    } else if desk.closed() {
        let said = "too many attempts failed there".to_owned();
        (Refusal::Closed, said, "too many attempts failed".to_owned())
    } else {
        return None;
    };
    // It ends either way.
    let _ = line.say(&Message::Refused { reason, words: to_them }).await;
    Some(Ended::Never(here))
}

fn command(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Listen => "listen",
        Purpose::Pair => "pair",
        Purpose::Sync => "sync",
        Purpose::Look => "scan",
    }
}

/// Why it stopped.
enum Stop {
    /// The other side, or the link.
    Broken(Broken),
    /// This side; what to tell the other.
    Say(Refusal, String, Ended),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

fn lost(error: &dyn std::fmt::Display) -> Stop {
    Stop::Say(Refusal::Broken, error.to_string(), Ended::Lost(error.to_string()))
}

struct Talk<'a> {
    desk: &'a Arc<Desk>,
    line: Line,
    mine: Hello,
    theirs: Hello,
    /// Until when there must be something to ask.
    until: Instant,
    /// The string can be known.
    exposed: bool,
    /// This side's person said yes.
    agreed: bool,
}

impl Talk<'_> {
    async fn run(&mut self) -> Result<(), Stop> {
        let key = match &self.theirs.key {
            Some(text) => Some(PublicKey::parse(text).map_err(|error| lost(&error))?),
            None => None,
        };
        let tag = Tag::device(&self.line.peer);
        let alias = if self.mine.purpose.logs_in() {
            let alias = install::propose(self.desk, tag.clone(), self.theirs.name.as_str()).await;
            Some(alias.map_err(failed)?)
        } else {
            None
        };
        let desk = Arc::clone(self.desk);
        let compared = timeout_at(self.until, self.compare(&desk)).await;
        let (_slot, sas) =
            compared.map_err(|_| lost(&"it took too long before the question"))??;
        self.consent(&sas, key.as_ref(), alias.as_ref()).await?;
        self.exposed = false;
        self.exchange(tag, key, alias).await
    }

    /// The other side said no, or could not. That ends the run if this person said yes to it, or wants to get in
    /// there. Anybody could end a listener otherwise, by coming, and saying no.
    fn turned_away(&self, reason: Refusal, words: String) -> Ended {
        let words = if words.is_empty() { "the other side said no".to_owned() } else { words };
        let chosen = self.agreed || self.mine.purpose == Purpose::Pair;
        match reason {
            _ if !chosen => {
                Ended::Never(passed_by(self.theirs.name.as_str(), self.line.addr, &words))
            }
            Refusal::Failed => Ended::Failed(format!("on the other device: {words}").into()),
            _ => Ended::Refused(words),
        }
    }

    /// Commitment, nonce, reveal; then the string. Only one ceremony at a time comes so far.
    async fn compare<'d>(
        &mut self,
        desk: &'d Arc<Desk>,
    ) -> Result<(MutexGuard<'d, ()>, String), Stop> {
        let party = |device, hello: &Hello| Party {
            device,
            inbox: hello.inbox,
            name: hello.name.clone(),
            version: hello.version,
            mode: Mode::Ask,
        };
        let me = party(desk.endpoint.device(), &self.mine);
        let peer = party(self.line.peer, &self.theirs);
        let exporter = self.line.exporter;
        if self.line.dialled {
            let topic = Hello::topic(&self.mine, &self.theirs);
            let transcript = Transcript { client: me, server: peer, topic, exporter };
            self.as_client(desk, Lan::client(&transcript).map_err(|error| lost(&error))?).await
        } else {
            let topic = Hello::topic(&self.theirs, &self.mine);
            let transcript = Transcript { client: peer, server: me, topic, exporter };
            self.as_server(desk, Lan::server(&transcript).map_err(|error| lost(&error))?).await
        }
    }

    async fn as_client<'d>(
        &mut self,
        desk: &'d Arc<Desk>,
        mut machine: Lan,
    ) -> Result<(MutexGuard<'d, ()>, String), Stop> {
        loop {
            let slot = tokio::select! {
                slot = desk.slot.lock() => slot,
                message = self.line.next() => {
                    message?;
                    return Err(lost(&"it broke the ceremony"));
                }
            };
            let nonce = random().map_err(|error| lost(&error))?;
            let commit = machine.commit(nonce).map_err(|error| lost(&error))?;
            self.line.say(&out(&commit)?).await?;
            let message = self.line.soon().await?;
            let fresh = random().map_err(|error| lost(&error))?;
            let step = machine.handle(&into(&message)?, fresh);
            self.exposed = machine.exposed();
            match step.map_err(|error| lost(&error))? {
                LanStep::SendAndShow(reveal, sas) => {
                    self.line.say(&out(&reveal)?).await?;
                    return Ok((slot, sas.to_string()));
                }
                // It is busy: whoever waits here gets the place meanwhile.
                LanStep::Wait => {
                    drop(slot);
                    if self.line.next().await? != Message::Ready {
                        return Err(lost(&"it broke the ceremony"));
                    }
                }
                LanStep::Send(_) | LanStep::Show(_) => return Err(lost(&"it broke the ceremony")),
            }
        }
    }

    async fn as_server<'d>(
        &mut self,
        desk: &'d Arc<Desk>,
        mut machine: Lan,
    ) -> Result<(MutexGuard<'d, ()>, String), Stop> {
        loop {
            let message = self.line.next().await?;
            let Ok(slot) = desk.slot.try_lock() else {
                if !matches!(message, Message::Commit(_)) {
                    return Err(lost(&"it broke the ceremony"));
                }
                self.line.say(&Message::Later).await?;
                tokio::select! {
                    slot = desk.slot.lock() => drop(slot),
                    message = self.line.next() => {
                        message?;
                        return Err(lost(&"it broke the ceremony"));
                    }
                }
                self.line.say(&Message::Ready).await?;
                continue;
            };
            if desk.closed() {
                let words = "too many attempts failed there".to_owned();
                let ended = Ended::Never("too many attempts failed".to_owned());
                return Err(Stop::Say(Refusal::Closed, words, ended));
            }
            let fresh = random().map_err(|error| lost(&error))?;
            let step = machine.handle(&into(&message)?, fresh);
            self.exposed = machine.exposed();
            let LanStep::Send(nonce) = step.map_err(|error| lost(&error))? else {
                return Err(lost(&"it broke the ceremony"));
            };
            self.line.say(&out(&nonce)?).await?;
            let message = self.line.soon().await?;
            let step = machine.handle(&into(&message)?, [0; 32]);
            return match step.map_err(|error| lost(&error))? {
                LanStep::Show(sas) => Ok((slot, sas.to_string())),
                _ => Err(lost(&"it broke the ceremony")),
            };
        }
    }

    /// Both people are asked; nothing was installed yet.
    async fn consent(
        &mut self,
        sas: &str,
        key: Option<&PublicKey>,
        alias: Option<&Alias>,
    ) -> Result<(), Stop> {
        let mut verdicts = Verdicts::default();
        let name = self.theirs.name.as_str().to_owned();
        let own = self.desk.setup.own.as_ref().map(|own| own.public.fingerprint().to_owned());
        let fingerprint = key.map(|key| key.fingerprint().to_owned()).or(own);
        // With an expected device, others did not come so far (rule T6).
        let yes = self.desk.setup.expect.is_some() || {
            let asked = self
                .desk
                .ask(Question {
                    id: 0,
                    device: Some(self.line.peer),
                    name: name.clone(),
                    addr: self.line.addr,
                    fingerprint: fingerprint.unwrap_or_default(),
                    sas: sas.to_owned(),
                    alias: alias.map(ToString::to_string),
                    host_key: None,
                    lets_in: self.mine.purpose.lets_in(),
                })
                .await;
            self.answer(asked, &mut verdicts).await?
        };
        verdicts.answer(yes);
        self.agreed = yes;
        if !yes {
            let words = "its person said no".to_owned();
            return Err(Stop::Say(Refusal::Declined, words, Ended::Declined));
        }
        self.line.say(&Message::Accepted).await?;
        if verdicts.outcome() == pairing::Outcome::Agreed {
            return Ok(());
        }
        if self.desk.setup.expect.is_none() {
            self.desk.tell(Event::Waiting { name }).await;
        }
        match self.line.next().await? {
            Message::Accepted => Ok(()),
            _ => Err(lost(&"it broke the ceremony")),
        }
    }

    /// This side's answer, unless the other says no meanwhile or is gone.
    async fn answer(&mut self, mut asked: Asked, verdicts: &mut Verdicts) -> Result<bool, Stop> {
        loop {
            tokio::select! {
                yes = &mut asked.answer => return Ok(yes.unwrap_or(false)),
                message = self.line.next() => match message {
                    // The other side's yes may come first.
                    Ok(Message::Accepted) if verdicts.outcome() == pairing::Outcome::Pending => {
                        verdicts.heard(true);
                    }
                    Ok(_) => {
                        self.desk.withdraw(asked.id, "the other side broke the ceremony").await;
                        return Err(lost(&"it broke the ceremony"));
                    }
                    Err(broken) => {
                        let reason = match &broken {
                            Broken::Refused(..) => "the other side said no",
                            Broken::Lost(_) => "the other side is gone",
                        };
                        self.desk.withdraw(asked.id, reason).await;
                        return Err(broken.into());
                    }
                },
            }
        }
    }

    /// Both have said yes.
    async fn exchange(
        &mut self,
        tag: Tag,
        key: Option<PublicKey>,
        alias: Option<Alias>,
    ) -> Result<(), Stop> {
        let desk = Arc::clone(self.desk);
        let name = self.theirs.name.as_str().to_owned();
        let mut made = Made {
            device: Some(self.line.peer),
            name: name.clone(),
            user: desk.setup.home.user().to_string(),
            addr: self.line.addr,
            port: desk.setup.sshd.port,
            fingerprint: String::new(),
            alias: None,
            lets_in: false,
            verified: true,
        };
        if let Some(own) = &desk.setup.own {
            own.public.fingerprint().clone_into(&mut made.fingerprint);
        }
        if let Some(key) = key {
            key.fingerprint().clone_into(&mut made.fingerprint);
            install::allow(&desk, tag, &name, key).await.map_err(failed)?;
            made.lets_in = true;
            self.line.say(&Message::Reach(install::here(&desk))).await?;
        }
        if let Some(alias) = alias {
            let Message::Reach(reach) = self.line.soon().await? else {
                return Err(lost(&"it broke the ceremony"));
            };
            let (peer, addr) = (self.line.peer, self.line.addr);
            let there = There::read(&peer, &name, alias.clone(), addr, &reach).map_err(failed)?;
            (made.user, made.port) = (there.user.to_string(), there.port);
            install::reach(&desk, there).await.map_err(failed)?;
            made.alias = Some(alias.to_string());
            self.line.say(&Message::Done).await?;
        }
        if made.lets_in {
            // Its part is its own; that it is done there is good to know and changes nothing here.
            let told = timeout(STEP, self.line.next()).await;
            match told {
                Ok(Ok(Message::Done)) => {}
                Ok(Err(Broken::Refused(_, words))) => {
                    desk.tell(Event::Installed(made)).await;
                    let words = format!(
                        "{name} may log in here now, but could not install its part: {words}"
                    );
                    return Err(Stop::Say(
                        Refusal::Failed,
                        String::new(),
                        Ended::Failed(words.into()),
                    ));
                }
                _ => desk.note(format!("{name} did not say whether its part is done")).await,
            }
        }
        desk.tell(Event::Installed(made)).await;
        Ok(())
    }
}

/// What is told of somebody who came, and said no to what nobody here had agreed to.
pub(super) fn passed_by(name: &str, addr: std::net::SocketAddr, words: &str) -> String {
    format!("{name} ({}): {words}", addr.ip())
}

fn failed(problem: Problem) -> Stop {
    Stop::Say(Refusal::Failed, problem.message.clone(), Ended::Failed(problem))
}

/// The ceremony's messages are those of sessions; here they have numbers of their own.
fn out(step: &Step) -> Result<Message, Stop> {
    Ok(match step {
        Step::Commit(bytes) => Message::Commit(*bytes),
        Step::Nonce(bytes) => Message::Nonce(*bytes),
        Step::Reveal(bytes) => Message::Reveal(*bytes),
        _ => return Err(lost(&"the ceremony is broken here")),
    })
}

fn into(message: &Message) -> Result<Step, Stop> {
    Ok(match message {
        Message::Commit(bytes) => Step::Commit(*bytes),
        Message::Nonce(bytes) => Step::Nonce(*bytes),
        Message::Reveal(bytes) => Step::Reveal(*bytes),
        Message::Later => Step::Later,
        _ => return Err(lost(&"it broke the ceremony")),
    })
}
