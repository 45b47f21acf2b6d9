//! The joining side: from a token to an admission, over restarts.

use std::net::SocketAddr;

use bytes::Bytes;
use identity::{Sas, Secret};
use wire::{
    Hash,
    envelope::{Letter, Recipient},
    membership::OperationId,
    pair::{Answer, Decline, Message, Pair, RequestId, SavedJoin, Terms, Token},
};

use super::{Card, Outgoing, Pairing, mirrored, sas};
use crate::Abort;

/// What to do next. In the order given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinStep {
    /// Make [`TokenJoin::save`] durable before anything that follows here: who is admitted must still know
    /// it after a crash (rule T8).
    Keep,
    /// Send this.
    Send(Outgoing),
    /// Show this string and what is granted, and ask the person.
    Show(Sas),
    /// The admission is written. Fetch the log and judge it (rule T10): nothing is trusted before.
    Admitted(Vec<OperationId>),
    /// Nothing comes of it; what was kept is to be deleted.
    Over(Over),
}

/// Why nothing comes of a join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// The other side declined.
    Declined(Decline),
    /// This side's person said no.
    Refused,
    /// The other side broke the ceremony.
    Broken(Abort),
}

/// A join by token that is under way.
pub struct TokenJoin {
    terms: Terms,
    digest: Hash,
    addresses: Vec<SocketAddr>,
    me: Recipient,
    /// Exactly as it was sent.
    pair: Bytes,
    id: RequestId,
    nonce: Secret<[u8; 32]>,
    challenge: Option<[u8; 32]>,
    answer: Answer,
    done: bool,
}

impl std::fmt::Debug for TokenJoin {
    /// Without the nonce: one that is known before its time undoes the commitment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, answer) = (&self.id, &self.answer);
        f.debug_struct("TokenJoin").field("id", id).field("answer", answer).finish_non_exhaustive()
    }
}

impl TokenJoin {
    /// Begins to join, with 32 fresh random bytes. Send [`TokenJoin::say`].
    ///
    /// # Errors
    /// If the token is this device's own.
    pub fn start(token: &Token, me: &Card, nonce: Secret<[u8; 32]>) -> Result<Self, Abort> {
        if mirrored(&token.terms, &me.recipient()) {
            return Err(Abort::Reflected);
        }
        let digest = token.terms.digest();
        let pairing = Pairing { terms: digest, joiner: me };
        let commitment = pairing.commitment(nonce.expose());
        let pair = Message::Pair(Pair {
            window: token.terms.window,
            inbox: me.inbox,
            name: me.name.clone(),
            commitment,
            mac: *pairing.mac(&token.secret, &commitment).as_bytes(),
        })
        .encode();
        Ok(Self {
            terms: token.terms.clone(),
            digest,
            addresses: token.addresses.clone(),
            me: me.recipient(),
            id: RequestId::of(&me.device, &pair),
            pair,
            nonce,
            challenge: None,
            answer: Answer::Open,
            done: false,
        })
    }

    /// Goes on with what was kept. `me` is this device as it is now.
    ///
    /// # Errors
    /// If what was kept is another device's, or does not fit together.
    pub fn restore(saved: SavedJoin, me: &Recipient) -> Result<Self, Abort> {
        let Ok(Message::Pair(pair)) = Message::decode(1, &saved.pair) else {
            return Err(Abort::Malformed);
        };
        if mirrored(&saved.terms, me) {
            return Err(Abort::Reflected);
        }
        let card = Card { device: me.device, inbox: pair.inbox, name: pair.name };
        let digest = saved.terms.digest();
        let committed = Pairing { terms: digest, joiner: &card }.commitment(saved.nonce.expose());
        if saved.me != *me || pair.inbox != me.inbox || committed != pair.commitment {
            return Err(Abort::Malformed);
        }
        Ok(Self {
            digest,
            id: RequestId::of(&me.device, &saved.pair),
            terms: saved.terms,
            addresses: saved.addresses,
            me: *me,
            pair: saved.pair,
            nonce: saved.nonce,
            challenge: saved.challenge,
            answer: if saved.agreed { Answer::Yes } else { Answer::Open },
            done: false,
        })
    }

    /// What to keep, so that [`TokenJoin::restore`] goes on from here.
    #[must_use]
    pub fn save(&self) -> SavedJoin {
        SavedJoin {
            terms: self.terms.clone(),
            addresses: self.addresses.clone(),
            me: self.me,
            pair: self.pair.clone(),
            nonce: self.nonce.clone(),
            challenge: self.challenge,
            agreed: self.agreed(),
        }
    }

    /// What the token said. Together with the ceremony "token" and this device's keys it is what the log
    /// must have (`group::log::PendingJoin`).
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Where the admitting device may be dialled.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// This device.
    #[must_use]
    pub fn me(&self) -> &Recipient {
        &self.me
    }

    /// The request's id, which is the same on both sides.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The string that both screens must show, once it is known.
    #[must_use]
    pub fn sas(&self) -> Option<Sas> {
        let challenge = self.challenge.as_ref()?;
        Some(sas(&self.digest, &self.id, challenge, self.nonce.expose()))
    }

    /// True once this side's person said yes: only then may a log be accepted.
    #[must_use]
    pub fn agreed(&self) -> bool {
        self.answer == Answer::Yes
    }

    /// True if nothing more can come of it, or nothing more is needed.
    #[must_use]
    pub fn done(&self) -> bool {
        self.done
    }

    /// What to say now, or to say again when it may have been lost.
    #[must_use]
    pub fn say(&self) -> Option<Outgoing> {
        if self.done {
            return None;
        }
        let message = match self.challenge {
            None => Message::decode(1, &self.pair).ok()?,
            Some(_) => Message::Ready {
                request: self.id,
                nonce: *self.nonce.expose(),
                answer: self.answer,
            },
        };
        Some(Outgoing { to: self.terms.admitter(), group: self.terms.group, message })
    }

    /// Takes a letter that [`Letter::open`] returned. What is not the token's device's, or of another
    /// request, leads to nothing.
    pub fn handle(&mut self, letter: &Letter) -> Vec<JoinStep> {
        if self.done || letter.author != self.terms.device || letter.group != Some(self.terms.group)
        {
            return Vec::new();
        }
        match Message::decode(letter.kind, &letter.body) {
            Ok(Message::Challenge { request, nonce }) if request == self.id => {
                self.challenge(nonce)
            }
            Ok(Message::Admitted { request, heads }) if request == self.id => {
                if !self.agreed() {
                    return self.over(Over::Broken(Abort::OutOfOrder));
                }
                self.done = true;
                vec![JoinStep::Admitted(heads)]
            }
            Ok(Message::Declined { request, why }) if request == self.id => {
                self.over(Over::Declined(why))
            }
            _ => Vec::new(),
        }
    }

    fn challenge(&mut self, nonce: [u8; 32]) -> Vec<JoinStep> {
        if nonce == *self.nonce.expose() {
            return self.over(Over::Broken(Abort::Reflected));
        }
        match self.challenge {
            Some(known) if known != nonce => self.over(Over::Broken(Abort::OutOfOrder)),
            Some(_) => self.say().map(JoinStep::Send).into_iter().collect(),
            None => {
                self.challenge = Some(nonce);
                let said = self.say().map(JoinStep::Send);
                let shown = self.sas().map(JoinStep::Show);
                [JoinStep::Keep].into_iter().chain(said).chain(shown).collect()
            }
        }
    }

    /// This side's person answers, after comparing the string and reading what is granted. Only the first
    /// answer counts, but a yes may be taken back until the admission is heard of.
    ///
    /// # Errors
    /// If there is no string to compare yet, or nothing more to answer.
    pub fn answer(&mut self, yes: bool) -> Result<Vec<JoinStep>, Abort> {
        if self.done || self.challenge.is_none() && yes {
            return Err(Abort::OutOfOrder);
        }
        if yes {
            self.answer = Answer::Yes;
            let said = self.say().map(JoinStep::Send);
            return Ok([JoinStep::Keep].into_iter().chain(said).collect());
        }
        self.answer = Answer::No;
        let known = self.challenge.is_some();
        let said = self.say().filter(|_| known).map(JoinStep::Send);
        Ok(said.into_iter().chain(self.over(Over::Refused)).collect())
    }

    fn over(&mut self, why: Over) -> Vec<JoinStep> {
        self.done = true;
        vec![JoinStep::Over(why)]
    }
}
