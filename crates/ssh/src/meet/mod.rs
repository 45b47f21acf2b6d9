//! Two devices exchange SSH keys: `kin ssh listen`, `pair` and `sync`.
//!
//! Between Kinfold devices it is a link of its own with a short string that two people compare (rule T3);
//! nothing is installed before both have said yes. With [`Setup::connecto`], devices that run Connecto are
//! served, too, which proves nothing: then every question says so.
//!
//! A [`Meeting`] is one run. It prints nothing and asks nobody: what happens comes out as [`Event`]s, and
//! questions are answered through it. What each side says is in `wire::ssh`; docs/protocol.md, "Exchanging SSH keys",
//! describes it for others.

mod candidates;
mod ceremony;
mod desk;
mod find;
mod install;
mod line;
mod run;
mod visit;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use identity::{DeviceId, DeviceKey, InboxId};
use link::LinkError;
use tokio::sync::mpsc;
use wire::{session::Name, ssh::Purpose};

use crate::{Cidr, Home, OwnKey, Sshd};
pub(crate) use candidates::{BETTER, is_own, lasts};
pub(crate) use ceremony::look_at;
pub use find::{AddressError, Place};
pub(crate) use visit::{connect, speaks};

/// What adverts of an open `kin ssh` have in common. No session of `kin sync` can have it for a topic.
pub const SSH_TOPIC: &str = "\0kin ssh";

/// How long everything may take that comes before a question, waiting for a place to ask it included.
pub const BEFORE: Duration = Duration::from_secs(60);

/// Which of Connecto's protocols are spoken when this side begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connecto {
    /// JSON, and text if that is not understood.
    Any,
    /// JSON alone.
    Json,
    /// Text alone.
    Text,
}

/// What answers somewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Kinfold: verified by what two people compare.
    Kinfold,
    /// Connecto's JSON: verified by nothing.
    Connecto,
    /// Connecto's text: verified by nothing.
    ConnectoText,
}

impl Kind {
    /// The word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kinfold => "kinfold",
            Self::Connecto => "connecto",
            Self::ConnectoText => "connecto-text",
        }
    }

    /// The kind that this word is for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Kinfold, Self::Connecto, Self::ConnectoText]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// With whom this device pairs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Whoever is found; a person chooses among several.
    Any,
    /// The one of this name; if none is found soon, whoever answers at the place.
    Named(String, Option<(Place, Option<Kind>)>),
    /// Whoever answers there, of this kind if that is known.
    At(Place, Option<Kind>),
}

/// What a run is to do.
pub struct Setup {
    /// What this device is here for; not [`Purpose::Look`].
    pub purpose: Purpose,
    /// Its device key.
    pub device: Arc<DeviceKey>,
    /// Its inbox key.
    pub inbox: InboxId,
    /// What it calls itself.
    pub name: Name,
    /// Where to listen, unless it pairs.
    pub port: u16,
    /// With whom to pair, if it does.
    pub target: Target,
    /// The user's files.
    pub home: Arc<Home>,
    /// This machine's SSH server, as the other side will reach it.
    pub sshd: Sshd,
    /// The key that is to be let in there; there unless this device only listens.
    pub own: Option<OwnKey>,
    /// The key's comment, for Connecto.
    pub comment: String,
    /// Goes on after the first.
    pub continuous: bool,
    /// How long to wait; for ever if absent.
    pub timeout: Option<Duration>,
    /// How long somebody who came in may take until there is something to ask: [`BEFORE`], but in tests.
    pub before: Duration,
    /// Only from these networks may somebody connect; from everywhere if empty.
    pub allow_from: Vec<Cidr>,
    /// Until when the other side is let in, in seconds since 1970.
    pub expires: Option<i64>,
    /// From which networks the other side is let in.
    pub from: Vec<Cidr>,
    /// The only device that is accepted, and without a question (rule T6).
    pub expect: Option<DeviceId>,
    /// Speak with Connecto, too.
    pub connecto: Option<Connecto>,
}

/// A question of trust.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Its number.
    pub id: u32,
    /// The proven device; `None` if nothing is proven.
    pub device: Option<DeviceId>,
    /// What it calls itself (unescaped).
    pub name: String,
    /// Where it is.
    pub addr: SocketAddr,
    /// The key that is to be let in: the other side's here, or, if only this side logs in, this user's there.
    pub fingerprint: String,
    /// What both devices show; empty if nothing is compared.
    pub sas: String,
    /// What `ssh` will be given to get there, if this device is to log in.
    pub alias: Option<String>,
    /// Fingerprint of the host key that answers there now, where nothing else vouches for it.
    pub host_key: Option<String>,
    /// True if the other side is to log in here.
    pub lets_in: bool,
}

/// What was installed, in which direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// The proven device.
    pub device: Option<DeviceId>,
    /// What it calls itself (unescaped).
    pub name: String,
    /// Whom one logs in as: there, if this device logs in; else here.
    pub user: String,
    /// Where it is.
    pub addr: SocketAddr,
    /// Where the SSH server of that side listens.
    pub port: u16,
    /// The fingerprint of the key that was let in: the other side's here, else this user's there.
    pub fingerprint: String,
    /// `ssh ALIAS`, if this device logs in.
    pub alias: Option<String>,
    /// True if the other side may log in here.
    pub lets_in: bool,
    /// True if the other side's key was proven and compared.
    pub verified: bool,
}

/// Something happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// It listens, or begins to look for others.
    Listening {
        /// What it calls itself.
        name: String,
        /// Where; `None` if it only looks.
        port: Option<u16>,
        /// This device's addresses.
        addrs: Vec<SocketAddr>,
    },
    /// Somebody is there.
    Found {
        /// From 1.
        index: u32,
        /// What it calls itself (unescaped); may be empty.
        name: String,
        /// Where.
        addr: SocketAddr,
        /// What it speaks.
        kind: Kind,
    },
    /// There are several: one of so many is to be chosen.
    Choose(u32),
    /// Answer it.
    Confirm(Question),
    /// A question needs no answer any more.
    Withdrawn {
        /// Which.
        id: u32,
        /// Why.
        reason: String,
    },
    /// This side said yes; the other one is still asked.
    Waiting {
        /// What it calls itself (unescaped).
        name: String,
    },
    /// Keys are in place.
    Installed(Made),
    /// A remark (unescaped).
    Note(String),
    /// It is over. Nothing comes after it.
    Over(Outcome),
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done.
    Done,
    /// Somebody said no, or it cannot be between these two.
    Refused(String),
    /// Nobody came in time; what was tried last, if anything (unescaped).
    TimedOut(String),
    /// It did not work.
    Failed {
        /// A stable word for programs.
        kind: &'static str,
        /// What happened (unescaped).
        message: String,
        /// What to do.
        hint: String,
    },
    /// It was asked to stop.
    Stopped,
}

/// One run. Dropping it ends it.
pub struct Meeting {
    orders: mpsc::Sender<run::Order>,
}

impl Meeting {
    /// Begins. Events come by the receiver, the last of them is [`Event::Over`].
    ///
    /// # Errors
    /// If the port is taken, or TLS cannot be set up.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(setup: Setup) -> Result<(Self, mpsc::Receiver<Event>), LinkError> {
        let (orders, taken) = mpsc::channel(16);
        let (events, told) = mpsc::channel(64);
        let run = run::Run::prepare(setup, events).await?;
        tokio::spawn(run.go(taken));
        Ok((Self { orders }, told))
    }

    /// Answers a question. One that is over already changes nothing.
    pub async fn answer(&self, id: u32, yes: bool) {
        let _ = self.orders.send(run::Order::Answer { id, yes }).await;
    }

    /// Chooses one of those that were found.
    pub async fn choose(&self, index: u32) {
        let _ = self.orders.send(run::Order::Choose(index)).await;
    }

    /// Ends it, with [`Outcome::Stopped`].
    pub async fn stop(&self) {
        let _ = self.orders.send(run::Order::Stop).await;
    }
}
