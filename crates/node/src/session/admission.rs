//! From a new link to both verdicts: hello, vouches, standing, ceremony, question.

use std::time::{Duration, Instant};

use group::Topic;
use identity::{DeviceId, Secret};
use pairing::{Lan, LanStep, Outcome, Party, Passphrase, PassphraseStep, Transcript};
use wire::session::{
    Hello, MAX_MEMBERS, MAX_VOUCHES_SENT, Message, Mode, PROTOCOL_VERSION, Refusal, Vouch,
};

use super::{
    STEP,
    actor::{Actor, PATIENCE, refused},
    conn::{Ceremony, Conn, Need},
    random,
};
use crate::{
    Admission, Event, QuestionId,
    line::{ConnId, targets},
};

/// Vouches that a stranger may bring: what [`group::SessionGroup::introduction`] gives.
const MAX_BROUGHT: usize = 2 * MAX_MEMBERS;
/// Longest pause before committing again after the other side was busy: random below this, so that
/// three devices that are busy with each other do not stay so.
const COMMIT_PAUSE: u64 = 300;
const CLOSED: &str = "too many attempts failed here; a person must reopen it";

impl Actor {
    /// Says hello and shows what this device's membership rests on.
    pub(super) fn say_hello(&self, conn: &mut Conn) {
        conn.said_hello = true;
        conn.say(&Message::Hello(Hello {
            version: PROTOCOL_VERSION,
            name: self.parts.name.clone(),
            port: self.parts.port,
            topic: self.parts.topic.on_link(&conn.exporter),
            inbox: self.parts.inbox.id(),
            mode: self.mode,
        }));
        say_vouches(conn, &self.parts.group.introduction(), true);
    }

    /// A message came in.
    pub(super) fn heard(&mut self, id: ConnId, message: Message) {
        // The link may be closing, with messages still on their way.
        let Some(conn) = self.conns.get(&id) else { return };
        let orderly = match &message {
            Message::Refused { .. } | Message::Goodbye { .. } => true,
            Message::Hello(_) => conn.hello.is_none(),
            _ => conn.hello.is_some(),
        };
        if !orderly {
            return self.refuse(id, Refusal::Broken, "it began out of order");
        }
        match message {
            Message::Hello(hello) => self.hello(id, hello),
            Message::Vouches { vouches, last } => self.vouches(id, vouches, last),
            Message::Standing { known } => self.standing(id, known),
            Message::Accepted => self.accepted(id),
            Message::Refused { reason, words } => self.was_refused(id, reason, &words),
            Message::Goodbye { reason } => self.goodbye(id, reason),
            Message::Ready => self.ready(id),
            Message::Alive => {}
            Message::Device(_) => {
                self.refuse(id, Refusal::Broken, "it is no session of kin sync");
            }
            // Readers keep them to themselves.
            Message::Strand(_) | Message::Order(_) => {}
            message @ (Message::Commit(_)
            | Message::Nonce(_)
            | Message::Reveal(_)
            | Message::Later
            | Message::PakeA(_)
            | Message::PakeB(_)
            | Message::Confirm(_)) => self.ceremony(id, &message),
        }
    }

    fn hello(&mut self, id: ConnId, hello: Hello) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (peer, addr) = (conn.peer, conn.addr);
        let decided_there = !conn.said_hello;
        let same_topic = hello.topic == self.parts.topic.on_link(&conn.exporter);
        let version = hello.version;
        let name = hello.name.clone();
        conn.hello = Some(hello);
        conn.wait(Some(STEP));
        if version != PROTOCOL_VERSION {
            let why = format!("it speaks version {version} of the protocol, this is version 1");
            return self.refuse(id, Refusal::OtherVersion, &why);
        }
        if !same_topic {
            return self.refuse(id, Refusal::OtherTopic, "it runs with another --topic");
        }
        if decided_there {
            // The device with the lower id has chosen this link; all others go.
            let others = self.conns.iter().filter(|(other, c)| **other != id && c.peer == peer);
            let others: Vec<ConnId> = others.map(|(other, _)| *other).collect();
            for other in others {
                self.replaced(other);
            }
            if let Some(mut conn) = self.conns.remove(&id) {
                self.say_hello(&mut conn);
                self.conns.insert(id, conn);
            }
        }
        if !self.is_found(peer) {
            Self::remember(&mut self.found, peer);
            self.hint(Event::PeerFound { name: name.as_str().to_owned(), addr });
        }
    }

    fn vouches(&mut self, id: ConnId, vouches: Vec<Vouch>, last: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.member {
            return self.spread(&vouches);
        }
        if conn.vouches_done || conn.vouches.len() + vouches.len() > MAX_BROUGHT {
            return self.refuse(id, Refusal::Broken, "it brought too many vouches");
        }
        conn.vouches.extend(vouches);
        conn.vouches_done = last;
        if last {
            let brought = conn.vouches.clone();
            self.spread(&brought);
            self.take_stand(id);
        }
    }

    /// Says whether the other side is known here, and accepts it if nothing more is needed.
    fn take_stand(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let known = self.parts.group.accepts(&conn.peer) || self.confirmed.contains(&conn.peer);
        conn.my_standing = Some(known);
        conn.say(&Message::Standing { known });
        if !known && self.full() {
            return self.refuse(id, Refusal::Full, "the session has 64 members");
        }
        if !known && self.mode != Mode::Open && self.attempts.closed() {
            return self.refuse(id, Refusal::Closed, CLOSED);
        }
        if known || self.mode == Mode::Open {
            self.accept(id);
        }
        self.plan(id);
    }

    fn standing(&mut self, id: ConnId, known: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.their_standing.replace(known).is_some() {
            return self.refuse(id, Refusal::Broken, "it took a stand twice");
        }
        self.plan(id);
    }

    /// Both stands are known: which ceremony is it?
    fn plan(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.member) else { return };
        let (Some(mine), Some(theirs), Some(hello), None) =
            (conn.my_standing, conn.their_standing, &conn.hello, conn.need)
        else {
            return;
        };
        let need = |known: bool, mode: Mode| match mode {
            _ if known => Need::Nothing,
            Mode::Open => Need::Nothing,
            Mode::Ask => Need::Person,
            Mode::Passphrase => Need::Passphrase,
        };
        let (their_mode, their_need) = (hello.mode, need(theirs, hello.mode));
        let my_need = need(mine, self.mode);
        conn.need = Some(my_need);
        // Until both have accepted, somebody may have to think; the link's own sign of life goes on.
        let nobody = my_need == Need::Nothing && their_need == Need::Nothing;
        conn.wait(nobody.then_some(STEP));
        if my_need == Need::Passphrase || their_need == Need::Passphrase {
            if self.mode != Mode::Passphrase || their_mode != Mode::Passphrase {
                let why = if self.mode == Mode::Passphrase {
                    "this session wants a passphrase, and it gives none"
                } else {
                    "it wants a passphrase, and none was given here (--passphrase)"
                };
                return self.refuse(id, Refusal::PassphraseMismatch, why);
            }
            self.begin_passphrase(id);
        } else if my_need == Need::Person || their_need == Need::Person {
            self.begin_lan(id);
        }
    }

    // T3

    fn begin_lan(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(hello) = &conn.hello else { return };
        let me = Party {
            device: self.me,
            inbox: self.parts.inbox.id(),
            name: self.parts.name.clone(),
            version: PROTOCOL_VERSION,
            mode: self.mode,
        };
        let peer = Party {
            device: conn.peer,
            inbox: hello.inbox,
            name: hello.name.clone(),
            version: hello.version,
            mode: hello.mode,
        };
        let topic: [u8; 32] = Topic::on_link(&self.parts.topic, &conn.exporter);
        let exporter = conn.exporter;
        let machine = if conn.dialled {
            Lan::client(&Transcript { client: me, server: peer, topic, exporter })
        } else {
            Lan::server(&Transcript { client: peer, server: me, topic, exporter })
        };
        match machine {
            Ok(machine) => {
                conn.ceremony = Ceremony::Lan { machine, sas: None };
                if conn.dialled {
                    self.commit(id);
                }
            }
            Err(abort) => self.refuse(id, Refusal::Broken, &abort.to_string()),
        }
    }

    /// Commits as TLS client, or waits for its turn (rule T7: a device asks about one at a time).
    pub(super) fn commit(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.commit_at = None;
        let Ceremony::Lan { machine, .. } = &mut conn.ceremony else { return };
        if !machine.may_commit() {
            return;
        }
        if conn.need == Some(Need::Person) && conn.verdicts.mine().is_none() {
            if self.attempts.closed() {
                return self.refuse(id, Refusal::Closed, CLOSED);
            }
            if self.asking.is_some_and(|asking| asking != id) {
                if !self.waiting.contains(&id) {
                    self.waiting.push(id);
                }
                return;
            }
            self.asking = Some(id);
        }
        let committed = random().ok().and_then(|nonce| machine.commit(nonce).ok());
        match committed {
            Some(message) => {
                conn.say(&message);
                conn.wait(Some(STEP));
            }
            None => self.refuse(id, Refusal::Broken, "no random numbers"),
        }
    }

    /// The other side, the TLS server, can be committed to now.
    fn ready(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !matches!(&conn.ceremony, Ceremony::Lan { machine, .. } if machine.may_commit()) {
            return;
        }
        let pause = random::<8>().map_or(0, u64::from_le_bytes) % COMMIT_PAUSE;
        conn.commit_at = Some(Instant::now() + Duration::from_millis(pause));
    }

    fn ceremony(&mut self, id: ConnId, message: &Message) {
        let room = self.may_guess(id);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.member {
            // Both have accepted by vouches while the ceremony still ran.
            return;
        }
        let needs_person = conn.need == Some(Need::Person) && conn.verdicts.mine().is_none();
        match &mut conn.ceremony {
            // It waits for its turn; were each further try answered, the answers would pile up.
            Ceremony::Lan { .. } if conn.told_later => {
                self.refuse(id, Refusal::Broken, "it did not wait for its turn");
            }
            Ceremony::Lan { machine, sas } => {
                if needs_person && matches!(message, Message::Commit(_)) {
                    if self.attempts.closed() {
                        return self.refuse(id, Refusal::Closed, CLOSED);
                    }
                    if self.asking.is_some_and(|asking| asking != id) {
                        conn.say(&Message::Later);
                        conn.told_later = true;
                        if !self.waiting.contains(&id) {
                            self.waiting.push(id);
                        }
                        return;
                    }
                    self.asking = Some(id);
                }
                let Ok(fresh) = random() else {
                    return self.refuse(id, Refusal::Broken, "no random numbers");
                };
                match machine.handle(message, fresh) {
                    Ok(LanStep::Send(message)) => {
                        conn.say(&message);
                        conn.wait(Some(STEP));
                    }
                    Ok(LanStep::SendAndShow(message, shown)) => {
                        *sas = Some(shown);
                        conn.say(&message);
                        conn.wait(None);
                        self.show(id);
                    }
                    Ok(LanStep::Show(shown)) => {
                        *sas = Some(shown);
                        conn.wait(None);
                        self.show(id);
                    }
                    Ok(LanStep::Wait) => {
                        conn.wait(None);
                        self.free_turn(id);
                    }
                    Err(abort) => self.refuse(id, Refusal::Broken, &abort.to_string()),
                }
            }
            Ceremony::Passphrase(machine)
                if matches!(message, Message::PakeA(_)) && !machine.under_way() && !room =>
            {
                self.no_room(id);
            }
            Ceremony::Passphrase(machine) => match machine.handle(message) {
                Ok(PassphraseStep::Send(message)) => {
                    conn.say(&message);
                    conn.wait(Some(STEP));
                }
                Ok(PassphraseStep::SendAndAccept(message)) => {
                    conn.say(&message);
                    conn.wait(Some(STEP));
                    self.accept(id);
                }
                Ok(PassphraseStep::Accept) => {
                    conn.wait(Some(STEP));
                    self.accept(id);
                }
                Err(pairing::Abort::WrongPassphrase) => {
                    self.refuse(id, Refusal::WrongPassphrase, "its passphrase is another");
                }
                Err(abort) => self.refuse(id, Refusal::Broken, &abort.to_string()),
            },
            Ceremony::None => self.refuse(id, Refusal::Broken, "it began out of order"),
        }
    }

    /// The short string is known: asks the person, or only shows it where the other side asks.
    fn show(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Ceremony::Lan { sas: Some(sas), .. } = &conn.ceremony else { return };
        let (device, name, sas) = (conn.peer, conn.name(), sas.to_string());
        if conn.need != Some(Need::Person) || conn.verdicts.mine().is_some() {
            return self.tell(Event::Comparing { device, name, sas });
        }
        let question = self.parts.questions.next();
        self.question = Some(question);
        let along = self.parts.group.along(device, &conn.vouches).into_iter();
        let along = along.map(|(device, name)| (device, name.as_str().to_owned())).collect();
        self.tell(Event::Confirm { id: question, device, name, sas, along });
    }

    /// The person answers.
    pub(super) fn answer(&mut self, question: QuestionId, yes: bool) {
        let (Some(id), true) = (self.asking, self.question == Some(question)) else { return };
        self.question = None;
        let Some(peer) = self.conns.get(&id).map(|conn| conn.peer) else { return };
        if yes {
            Self::remember(&mut self.confirmed, peer);
            self.turn_ends = Some(Instant::now() + PATIENCE);
            self.accept(id);
        } else {
            Self::remember(&mut self.declined, peer);
            self.refuse(id, Refusal::Declined, "");
        }
    }

    pub(super) fn withdraw_question(&mut self, reason: &str) {
        if let Some(id) = self.question.take() {
            self.tell(Event::ConfirmWithdrawn { id, reason: reason.to_owned() });
        }
    }

    /// This link's ceremony needs this side's person no more: others may have their turn.
    pub(super) fn free_turn(&mut self, id: ConnId) {
        self.waiting.retain(|waiting| *waiting != id);
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.member
            && std::mem::take(&mut conn.told_later)
        {
            // The other side's person may still have to compare.
            conn.say(&Message::Ready);
        }
        if self.asking != Some(id) {
            return;
        }
        self.asking = None;
        self.turn_ends = None;
        for next in std::mem::take(&mut self.waiting) {
            let Some(conn) = self.conns.get_mut(&next) else { continue };
            if conn.told_later {
                conn.told_later = false;
                conn.say(&Message::Ready);
            } else {
                // Whoever finds the turn taken again waits again.
                self.commit(next);
            }
        }
    }

    // T5

    /// True unless this side risks its passphrase on as many links already as attempts are left: a
    /// guess is made before it is counted, so counting alone would not bound those made at once.
    fn may_guess(&self, id: ConnId) -> bool {
        let needed = self.conns.get(&id).is_some_and(|c| c.need == Some(Need::Passphrase));
        let guessing = self.conns.values().filter(|conn| conn.guessing()).count();
        !needed || u32::try_from(guessing).is_ok_and(|guessing| guessing < self.attempts.left())
    }

    /// Too many try the passphrase at once: the link ends before anything of it is shown, without a
    /// word, and the other side tries again by itself.
    fn no_room(&mut self, id: ConnId) {
        if self.attempts.closed() {
            self.refuse(id, Refusal::Closed, CLOSED);
        } else {
            self.ended(id, "too many try the passphrase at once");
        }
    }

    fn begin_passphrase(&mut self, id: ConnId) {
        let room = self.may_guess(id);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.dialled && !room {
            return self.no_room(id);
        }
        let Admission::Passphrase(passphrase) = &self.parts.admission else { return };
        let Ok(seed) = random().map(Secret::new) else {
            return self.refuse(id, Refusal::Broken, "no random numbers");
        };
        let started = if conn.dialled {
            Passphrase::client(passphrase, self.me, conn.peer, &conn.exporter, &seed)
                .map(|(machine, message)| (machine, Some(message)))
        } else {
            Passphrase::server(passphrase, conn.peer, self.me, &conn.exporter, &seed)
                .map(|machine| (machine, None))
        };
        match started {
            Ok((machine, message)) => {
                conn.ceremony = Ceremony::Passphrase(Box::new(machine));
                conn.wait(Some(STEP));
                if let Some(message) = message {
                    conn.say(&message);
                }
            }
            Err(abort) => self.refuse(id, Refusal::Broken, &abort.to_string()),
        }
    }

    // Verdicts

    /// This side accepts the other.
    pub(super) fn accept(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.verdicts.answer(true) {
            conn.say(&Message::Accepted);
        }
        self.outcome(id);
    }

    fn accepted(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.verdicts.heard(true);
        self.outcome(id);
    }

    fn outcome(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        if !conn.member && conn.verdicts.outcome() == Outcome::Agreed {
            self.join(id);
        }
    }

    /// This side refuses the other and says why; the person hears it too if there are words.
    pub(super) fn refuse(&mut self, id: ConnId, reason: Refusal, words: &str) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.verdicts.answer(false);
        let name = conn.name();
        let known = conn.hello.is_some();
        let (peer, member) = (conn.peer, conn.member);
        if member {
            conn.out.close(wire::session::Farewell::Protocol);
        } else {
            conn.out.close_with(Some(refused(reason)));
        }
        if known && !words.is_empty() && self.is_news(peer, reason) {
            self.hint(Event::Refused { name, reason: format!("refused here: {words}") });
        }
        self.parts.targets.refused(&peer, Instant::now());
        if settled(reason) {
            Self::remember(&mut self.refused_by, peer);
        }
        self.ended(id, words);
    }

    /// The other side refuses this one.
    fn was_refused(&mut self, id: ConnId, reason: Refusal, words: &str) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.verdicts.heard(false);
        let (peer, name) = (conn.peer, conn.name());
        conn.out.close_with(None);
        let why = match reason {
            Refusal::Declined => "its person said no",
            Refusal::OtherTopic => "it runs with another --topic",
            Refusal::OtherVersion => "it speaks another version of the protocol",
            Refusal::PassphraseMismatch if self.mode == Mode::Passphrase => {
                "it was started without a passphrase"
            }
            Refusal::PassphraseMismatch => "it wants a passphrase (--passphrase)",
            Refusal::WrongPassphrase => "the passphrases differ",
            Refusal::Closed => "too many attempts failed there; a person must reopen it",
            Refusal::Full => "its session is full",
            Refusal::Broken => "the ceremony was broken off",
        };
        let reason_words = match words {
            "" => format!("refused there: {why}"),
            words => format!("refused there: {why} ({words})"),
        };
        if self.is_news(peer, reason) {
            self.hint(Event::Refused { name, reason: reason_words });
        }
        if settled(reason) {
            Self::remember(&mut self.refused_by, peer);
        }
        self.parts.targets.refused(&peer, Instant::now());
        self.ended(id, why);
    }
}

/// True if trying again could only end the same way: it is left to the other side, or to a person.
fn settled(reason: Refusal) -> bool {
    !matches!(reason, Refusal::Closed | Refusal::Full | Refusal::Broken)
}

/// Sends vouches in messages that fit. `last` marks the end of an introduction, which is never empty.
pub(super) fn say_vouches(conn: &Conn, vouches: &[Vouch], last: bool) {
    let mut chunks = vouches.chunks(MAX_VOUCHES_SENT).peekable();
    if chunks.peek().is_none() && last {
        conn.say(&Message::Vouches { vouches: Vec::new(), last });
    }
    while let Some(chunk) = chunks.next() {
        let last = last && chunks.peek().is_none();
        conn.say(&Message::Vouches { vouches: chunk.to_vec(), last });
    }
}

/// Where a member listens: the address its link came from, with the port it named.
pub(super) fn place(conn: &Conn) -> Option<(targets::Key, Vec<std::net::SocketAddr>, DeviceId)> {
    let port = conn.hello.as_ref().map(|hello| hello.port).filter(|port| *port != 0)?;
    let mut addr = conn.addr;
    addr.set_port(port);
    Some((targets::Key::Member(conn.peer), vec![addr], conn.peer))
}
