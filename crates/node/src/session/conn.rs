//! One link as the session sees it.

use std::{
    ops::Deref,
    time::{Duration, Instant},
};

use identity::Sas;
use link::Link;
use pairing::{Lan, Passphrase, Verdicts};
use tokio::sync::mpsc;
use wire::session::{Hello, Vouch};

use super::STEP;
use crate::line::{ConnId, Internal, Line};

/// What one side wants before it accepts the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// Nothing: it knows the other, or is open.
    Nothing,
    /// Its person's yes.
    Person,
    /// Proof of the passphrase.
    Passphrase,
}

/// The ceremony of a link.
#[derive(Debug)]
pub(super) enum Ceremony {
    /// None yet, or none needed.
    None,
    Lan {
        machine: Lan,
        sas: Option<Sas>,
    },
    Passphrase(Box<Passphrase>),
}

/// One link.
#[derive(Debug)]
pub(super) struct Conn {
    line: Line,
    /// When it must have come further.
    pub(super) deadline: Option<Instant>,

    pub(super) said_hello: bool,
    pub(super) hello: Option<Hello>,
    /// What the other side brings along.
    pub(super) vouches: Vec<Vouch>,
    pub(super) vouches_done: bool,
    /// What this side said of the other, and the other of this one.
    pub(super) my_standing: Option<bool>,
    pub(super) their_standing: Option<bool>,
    /// What this side needs, fixed when both standings are known.
    pub(super) need: Option<Need>,
    pub(super) ceremony: Ceremony,
    /// The server waits for this side (as TLS client) to commit again, and will say when.
    pub(super) told_later: bool,
    /// This side (as TLS client) commits at this time.
    pub(super) commit_at: Option<Instant>,
    pub(super) verdicts: Verdicts,
    pub(super) member: bool,
}

impl Conn {
    /// Starts the two tasks of a new link.
    pub(super) fn start(id: ConnId, link: Link, session: &mpsc::Sender<Internal>) -> Self {
        Self {
            line: Line::start(id, link, session),
            deadline: Some(Instant::now() + STEP),
            said_hello: false,
            hello: None,
            vouches: Vec::new(),
            vouches_done: false,
            my_standing: None,
            their_standing: None,
            need: None,
            ceremony: Ceremony::None,
            told_later: false,
            commit_at: None,
            verdicts: Verdicts::default(),
            member: false,
        }
    }

    /// What the peer calls itself, or the head of its id before it has said so.
    pub(super) fn name(&self) -> String {
        self.hello.as_ref().map_or_else(|| self.peer.short(), |hello| hello.name.as_str().into())
    }

    pub(super) fn wait(&mut self, step: Option<Duration>) {
        self.deadline = step.map(|step| Instant::now() + step);
    }

    /// True if this run counts as a failed attempt, should it end now (rules T3 and T5).
    pub(super) fn exposed(&self) -> bool {
        match (&self.ceremony, self.need) {
            (Ceremony::Lan { machine, .. }, Some(Need::Person)) => machine.exposed(),
            (Ceremony::Passphrase(machine), Some(Need::Passphrase)) => machine.exposed(),
            _ => false,
        }
    }

    /// True if the other side may be about to test a guess at the passphrase.
    pub(super) fn guessing(&self) -> bool {
        matches!(
            (&self.ceremony, self.need),
            (Ceremony::Passphrase(machine), Some(Need::Passphrase)) if machine.under_way()
        )
    }
}

impl Deref for Conn {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.line
    }
}
