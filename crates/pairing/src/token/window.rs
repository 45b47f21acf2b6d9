//! The admitting side: a window in which joiners are heard.

use identity::{DeviceId, Sas, Secret};
use wire::{
    Hash,
    envelope::Letter,
    membership::{MAX_PARENTS, OperationId},
    pair::{Answer, Decline, Message, Pair, RequestId, Terms, Token},
};

use super::{Card, MAX_REQUESTS, Outgoing, Pairing, mirrored, sas};

/// What to do next. In the order given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WindowStep {
    /// Send this.
    Send(Outgoing),
    /// Show this request to the person, with its string.
    Ask(Request),
    /// A request that was shown is no more.
    Gone {
        /// Which.
        request: Request,
        /// Why.
        why: Gone,
    },
    /// Both people said yes. Write the admission, make it durable, and then say [`TokenWindow::admitted`];
    /// or, if it cannot be written, [`TokenWindow::failed`].
    Admit(Request),
    /// The window is closed: nobody new is heard.
    Closed(Closed),
}

/// A joiner that waits for the person's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Which.
    pub id: RequestId,
    /// Who asks.
    pub card: Card,
    /// What both screens must show.
    pub sas: Sas,
}

/// Why a request that was shown is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// The joiner's person said no. If the device was admitted already, it was too late: its person wants
    /// it removed.
    TheySaidNo,
    /// The same device asked anew.
    AskedAgain,
    /// The joiner broke the ceremony.
    Broken,
    /// This window's person said no to it, or yes to another, or the window closed.
    Answered,
}

/// Why a window is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// A device was admitted.
    Admitted,
    /// Its person closed it.
    Person,
    /// Its time is over.
    Time,
    /// The device that was accepted withdrew or broke the ceremony.
    TheyLeft,
    /// The admission could not be written.
    Failed,
}

/// An answer that has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// The window is closed, or its person accepted a device already.
    #[error("the pairing window is closed")]
    Closed,
    /// No request with this id waits.
    #[error("no such request waits")]
    NoSuchRequest,
}

struct Entry {
    id: RequestId,
    card: Card,
    commitment: [u8; 32],
    /// This side's, made for this request alone.
    nonce: [u8; 32],
    /// Once the joiner's nonce is known.
    sas: Option<Sas>,
    answer: Answer,
    over: Option<Decline>,
}

impl Entry {
    fn request(&self) -> Option<Request> {
        let sas = self.sas.filter(|_| self.over.is_none())?;
        Some(Request { id: self.id, card: self.card.clone(), sas })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// This side's person said yes; the joiner's has not answered.
    Accepted(RequestId),
    /// Both said yes; the admission is being written.
    Admitting(RequestId),
    Admitted(RequestId, Vec<OperationId>),
    Closed,
}

/// A pairing window. It lives in memory only: a restart closes it.
pub struct TokenWindow {
    terms: Terms,
    digest: Hash,
    secret: Secret<[u8; 16]>,
    /// In milliseconds of the clock that `now` is read from.
    until: u64,
    state: State,
    /// All that ever asked, so that whatever comes twice is answered as before.
    entries: Vec<Entry>,
}

impl std::fmt::Debug for TokenWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let window = &self.terms.window;
        f.debug_struct("TokenWindow").field("id", window).field("state", &self.state).finish()
    }
}

impl TokenWindow {
    /// Opens the window of a token that this device shows, for `lasts` milliseconds. `now` is read from any
    /// clock that only goes forward.
    #[must_use]
    pub fn open(token: &Token, now: u64, lasts: u64) -> Self {
        Self {
            digest: token.terms.digest(),
            terms: token.terms.clone(),
            secret: token.secret.clone(),
            until: now.saturating_add(lasts),
            state: State::Open,
            entries: Vec::new(),
        }
    }

    /// What it grants, to whom it admits.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// True while new requests are heard.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// When [`TokenWindow::tick`] closes it, in milliseconds; none once that cannot happen any more.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        matches!(self.state, State::Open | State::Accepted(_)).then_some(self.until)
    }

    /// The requests that wait for this window's person.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        match self.state {
            State::Open => self.entries.iter().filter_map(Entry::request).collect(),
            _ => Vec::new(),
        }
    }

    /// True if a request of this device is not over: its link is worth keeping.
    #[must_use]
    pub fn hears(&self, device: &DeviceId) -> bool {
        matches!(self.state, State::Open | State::Accepted(_) | State::Admitting(_))
            && self.entries.iter().any(|entry| entry.card.device == *device && entry.over.is_none())
    }

    /// Takes a letter that [`Letter::open`] returned. `fresh` are 32 random bytes used nowhere else. What
    /// has no place here, or proves a wrong secret, leads to nothing at all: no answer, no count.
    pub fn handle(&mut self, letter: &Letter, fresh: [u8; 32], now: u64) -> Vec<WindowStep> {
        let mut steps = self.tick(now);
        if letter.group != Some(self.terms.group) {
            return steps;
        }
        match Message::decode(letter.kind, &letter.body) {
            Ok(Message::Pair(pair)) => {
                let id = RequestId::of(&letter.author, &letter.body);
                self.pair(letter.author, id, pair, fresh, &mut steps);
            }
            Ok(Message::Ready { request, nonce, answer }) => {
                self.ready(letter.author, request, nonce, answer, &mut steps);
            }
            _ => {}
        }
        steps
    }

    fn pair(
        &mut self,
        device: DeviceId,
        id: RequestId,
        pair: Pair,
        fresh: [u8; 32],
        steps: &mut Vec<WindowStep>,
    ) {
        if let Some(entry) = self.entries.iter().find(|entry| entry.id == id) {
            steps.extend(self.answer_again(entry));
            return;
        }
        let card = Card { device, inbox: pair.inbox, name: pair.name };
        let pairing = Pairing { terms: self.digest, joiner: &card };
        // Compared in constant time.
        let proven = pairing.mac(&self.secret, &pair.commitment) == pair.mac;
        let here = self.state == State::Open && pair.window == self.terms.window;
        if !proven || !here || mirrored(&self.terms, &card.recipient()) {
            return;
        }
        if self.entries.len() >= MAX_REQUESTS {
            let message = Message::Declined { request: id, why: Decline::Full };
            steps.push(self.send(&card, message));
            return;
        }
        // Another request of the same device counts as another: it learns another string.
        let mine = |entry: &&Entry| entry.card.device == device && entry.over.is_none();
        if let Some(old) = self.entries.iter().find(mine).map(|entry| entry.id) {
            self.end(old, Decline::Again, Gone::AskedAgain, steps);
        }
        steps.push(self.send(&card, Message::Challenge { request: id, nonce: fresh }));
        self.entries.push(Entry {
            id,
            card,
            commitment: pair.commitment,
            nonce: fresh,
            sas: None,
            answer: Answer::Open,
            over: None,
        });
    }

    fn ready(
        &mut self,
        device: DeviceId,
        id: RequestId,
        nonce: [u8; 32],
        answer: Answer,
        steps: &mut Vec<WindowStep>,
    ) {
        let known = |entry: &Entry| entry.id == id && entry.card.device == device;
        let Some(at) = self.entries.iter().position(known) else { return };
        let entry = &mut self.entries[at];
        if entry.over.is_some() {
            let entry = &self.entries[at];
            steps.extend(self.answer_again(entry));
            return;
        }
        let pairing = Pairing { terms: self.digest, joiner: &entry.card };
        if pairing.commitment(&nonce) != entry.commitment || nonce == entry.nonce {
            if !self.decided_on(id) {
                self.end(id, Decline::Broken, Gone::Broken, steps);
                self.left(id, steps);
            }
            return;
        }
        let shown = entry.sas.is_some();
        let sas = *entry.sas.get_or_insert_with(|| sas(&self.digest, &id, &entry.nonce, &nonce));
        let said = entry.answer;
        // A no is the last word, whatever comes late.
        entry.answer = said.max(answer);
        let answer = entry.answer;
        let request = Request { id, card: entry.card.clone(), sas };
        match (answer, &self.state) {
            (Answer::No, State::Admitting(_) | State::Admitted(..)) => {
                let gone = WindowStep::Gone { request, why: Gone::TheySaidNo };
                steps.extend((said != Answer::No).then_some(gone));
            }
            (Answer::No, _) => {
                entry.over = Some(Decline::Closed);
                if shown {
                    steps.push(WindowStep::Gone { request, why: Gone::TheySaidNo });
                }
                self.left(id, steps);
            }
            (Answer::Yes, State::Accepted(_)) => {
                self.state = State::Admitting(id);
                steps.push(WindowStep::Admit(request));
            }
            (_, State::Open) if !shown => steps.push(WindowStep::Ask(request)),
            (_, State::Admitted(..)) => {
                let entry = &self.entries[at];
                steps.extend(self.answer_again(entry));
            }
            _ => {}
        }
    }

    /// What a request was answered with last.
    fn answer_again(&self, entry: &Entry) -> Option<WindowStep> {
        let request = entry.id;
        let message = match (&self.state, entry.over) {
            (_, Some(why)) => Message::Declined { request, why },
            (State::Admitted(id, heads), None) if *id == request => {
                Message::Admitted { request, heads: heads.clone() }
            }
            (State::Closed, None) => return None,
            (_, None) => Message::Challenge { request, nonce: entry.nonce },
        };
        Some(self.send(&entry.card, message))
    }

    /// The person says yes to one request: no other one will be heard any more.
    ///
    /// # Errors
    /// If no such request waits, or the window is closed.
    pub fn accept(&mut self, id: RequestId, now: u64) -> Result<Vec<WindowStep>, WindowError> {
        if now >= self.until {
            // The next tick says the rest.
            return Err(WindowError::Closed);
        }
        let mut steps = Vec::new();
        let (entry, request) = self.waiting(id)?;
        let agreed = entry.answer == Answer::Yes;
        let others: Vec<RequestId> = self.live().filter(|other| *other != id).collect();
        for other in others {
            self.end(other, Decline::Other, Gone::Answered, &mut steps);
        }
        if agreed {
            self.state = State::Admitting(id);
            steps.push(WindowStep::Admit(request));
        } else {
            self.state = State::Accepted(id);
        }
        Ok(steps)
    }

    /// The person says no to one request, or it cannot be granted.
    ///
    /// # Errors
    /// If no such request waits, or the window is closed.
    pub fn decline(&mut self, id: RequestId, why: Decline) -> Result<Vec<WindowStep>, WindowError> {
        self.waiting(id)?;
        let mut steps = Vec::new();
        self.end(id, why, Gone::Answered, &mut steps);
        Ok(steps)
    }

    /// The admission that [`WindowStep::Admit`] asked for is written and durable; these are the log's heads
    /// with it.
    ///
    /// # Errors
    /// If none was asked for.
    pub fn admitted(
        &mut self,
        mut heads: Vec<OperationId>,
    ) -> Result<Vec<WindowStep>, WindowError> {
        let State::Admitting(id) = self.state else { return Err(WindowError::NoSuchRequest) };
        // They are a hint: as many as a message holds.
        heads.sort_unstable();
        heads.dedup();
        heads.truncate(MAX_PARENTS);
        self.state = State::Admitted(id, heads);
        let entry = self.entries.iter().find(|entry| entry.id == id);
        let mut steps: Vec<_> =
            entry.and_then(|entry| self.answer_again(entry)).into_iter().collect();
        steps.push(WindowStep::Closed(Closed::Admitted));
        Ok(steps)
    }

    /// The admission that [`WindowStep::Admit`] asked for was not written, and will not be.
    ///
    /// # Errors
    /// If none was asked for.
    pub fn failed(&mut self, why: Decline) -> Result<Vec<WindowStep>, WindowError> {
        let State::Admitting(id) = self.state else { return Err(WindowError::NoSuchRequest) };
        let mut steps = Vec::new();
        self.end(id, why, Gone::Answered, &mut steps);
        self.state = State::Closed;
        steps.push(WindowStep::Closed(Closed::Failed));
        Ok(steps)
    }

    /// The person closes the window. An admission that is being written is not stopped by it.
    pub fn cancel(&mut self) -> Vec<WindowStep> {
        self.close(Closed::Person)
    }

    /// Closes the window if its time is over.
    pub fn tick(&mut self, now: u64) -> Vec<WindowStep> {
        match self.deadline().is_some_and(|until| now >= until) {
            true => self.close(Closed::Time),
            false => Vec::new(),
        }
    }

    fn close(&mut self, why: Closed) -> Vec<WindowStep> {
        if !matches!(self.state, State::Open | State::Accepted(_)) {
            return Vec::new();
        }
        let mut steps = Vec::new();
        let live: Vec<RequestId> = self.live().collect();
        for id in live {
            self.end(id, Decline::Closed, Gone::Answered, &mut steps);
        }
        self.state = State::Closed;
        steps.push(WindowStep::Closed(why));
        steps
    }

    fn live(&self) -> impl Iterator<Item = RequestId> {
        self.entries.iter().filter(|entry| entry.over.is_none()).map(|entry| entry.id)
    }

    fn waiting(&self, id: RequestId) -> Result<(&Entry, Request), WindowError> {
        if self.state != State::Open {
            return Err(WindowError::Closed);
        }
        let entry = self.entries.iter().find(|entry| entry.id == id);
        let found = entry.and_then(|entry| Some((entry, entry.request()?)));
        found.ok_or(WindowError::NoSuchRequest)
    }

    fn decided_on(&self, id: RequestId) -> bool {
        matches!(&self.state, State::Admitting(it) | State::Admitted(it, _) if *it == id)
    }

    /// The device that was accepted is gone: a window is for one.
    fn left(&mut self, id: RequestId, steps: &mut Vec<WindowStep>) {
        if self.state == State::Accepted(id) {
            steps.extend(self.close(Closed::TheyLeft));
        }
    }

    fn end(&mut self, id: RequestId, why: Decline, gone: Gone, steps: &mut Vec<WindowStep>) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return };
        let request = entry.request();
        entry.over = Some(why);
        let card = entry.card.clone();
        steps.push(self.send(&card, Message::Declined { request: id, why }));
        steps.extend(request.map(|request| WindowStep::Gone { request, why: gone }));
    }

    fn send(&self, card: &Card, message: Message) -> WindowStep {
        let (to, group) = (card.recipient(), self.terms.group);
        WindowStep::Send(Outgoing { to, group, message })
    }
}
