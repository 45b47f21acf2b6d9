//! Who may be the other side: what adverts, places and answers say, and whom of them to dial when.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use link::{Found, PlainFound, own_addresses};
use tokio::time::Instant;
use wire::ssh::Purpose;

use super::{
    Connecto, Event, Kind, Place, Target,
    ceremony::Ended,
    run::{MAX_TASKS, Run, Task, talk},
};

/// How long more candidates are waited for once there is one.
pub(super) const SETTLE: Duration = Duration::from_millis(600);
/// How long an address is waited for that holds beyond one cable and one start: ssh is to be given it.
pub(crate) const BETTER: Duration = Duration::from_millis(250);
/// How long a place of Connecto's waits for an advert that says that kin runs there.
pub(super) const PROVEN_FIRST: Duration = Duration::from_millis(1200);
/// How long a device that syncs waits before it begins with a Connecto, which looks for it, too.
pub(super) const HEAD_START: Duration = Duration::from_secs(2);
/// Others that are told of and dialled (attacks.md 12).
pub(super) const MAX_FOUND: usize = 32;

/// Somebody who may be the other side.
pub(super) struct Candidate {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) kind: Kind,
    /// A link with it is tried or used.
    pub(super) busy: bool,
    /// It was told of.
    pub(super) told: bool,
    /// When it is dialled next, if it is.
    pub(super) at: Option<Instant>,
    pub(super) gone: bool,
}

/// A place of Connecto's that does not count yet.
pub(super) struct Held {
    pub(super) at: Instant,
    addr: SocketAddr,
    kind: Kind,
    name: String,
}

/// The key of the place that was given.
pub(super) const AIMED: &str = "";

impl Run {
    /// One place was given: it is dialled until somebody answers.
    pub(super) fn aim(&mut self, place: &Place, kind: Option<Kind>) {
        let kind = match (kind, self.desk.setup.connecto) {
            (Some(kind), _) => kind,
            (None, Some(Connecto::Text)) => Kind::ConnectoText,
            (None, Some(_)) => Kind::Connecto,
            (None, None) => Kind::Kinfold,
        };
        let name = place.to_string();
        // An advert of the same place says that Kinfold is there, which is better.
        let wait = if kind == Kind::Kinfold { Duration::ZERO } else { SETTLE };
        let at = Some(Instant::now() + wait);
        let one = Candidate {
            index: 1,
            name,
            addrs: Vec::new(),
            kind,
            busy: false,
            told: true,
            at,
            gone: false,
        };
        self.candidates.insert(AIMED.to_owned(), one);
    }

    pub(super) async fn found(&mut self, found: Found) {
        if found.gone {
            if let Some(one) = self.candidates.get_mut(&found.instance) {
                one.gone = true;
                one.at = None;
            }
            return;
        }
        if found.claims_to_be(self.desk.endpoint.device()) {
            return;
        }
        if let Some(known) = self.candidates.get_mut(&found.instance) {
            known.addrs = found.addrs;
            known.gone = false;
            let waits = known.at.is_some() && !known.told;
            if !known.told && known.addrs.iter().any(lasts) {
                self.tell_found(&found.instance).await;
                if waits && let Some(known) = self.candidates.get_mut(&found.instance) {
                    known.at = Some(Instant::now());
                }
            }
            return;
        }
        if let Some(aimed) = self.candidates.get_mut(AIMED) {
            // The place that was given is one of Kinfold.
            let place: Option<Place> = aimed.name.parse().ok();
            if found.addrs.iter().any(|addr| place == Some((*addr).into())) {
                aimed.kind = Kind::Kinfold;
            }
            return;
        }
        self.add(found.instance, found.name, found.addrs, Kind::Kinfold).await;
    }

    /// A service of Connecto's. Those of this program are found better otherwise.
    pub(super) fn advertised(&mut self, found: &PlainFound) {
        if !found.ours {
            self.hold(found.addr, Kind::Connecto, String::new());
        }
    }

    pub(super) fn hold(&mut self, addr: SocketAddr, kind: Kind, name: String) {
        let known = self.held.iter().any(|held| held.addr.ip() == addr.ip());
        if !known && self.held.len() < MAX_FOUND {
            self.held.push(Held { at: Instant::now() + PROVEN_FIRST, addr, kind, name });
        }
    }

    async fn connecto_at(&mut self, addr: SocketAddr, kind: Kind, name: String) {
        let known =
            self.candidates.values().any(|one| one.addrs.iter().any(|it| it.ip() == addr.ip()));
        let own = is_own(addr.ip(), &own_addresses(addr.port()));
        if !known && !own && self.desk.setup.purpose != Purpose::Listen {
            self.add(format!("connecto {addr}"), name, vec![addr], kind).await;
        }
    }

    async fn add(&mut self, key: String, name: String, addrs: Vec<SocketAddr>, kind: Kind) {
        if self.candidates.len() >= MAX_FOUND || self.desk.setup.purpose == Purpose::Listen {
            return;
        }
        if addrs.is_empty() {
            return;
        }
        if kind == Kind::Kinfold {
            // What is proven takes the place of what is not.
            self.candidates.retain(|_, one| {
                let same = |it: &SocketAddr| addrs.iter().any(|addr| addr.ip() == it.ip());
                one.kind == Kind::Kinfold || one.busy || !one.addrs.iter().any(same)
            });
        }
        let better = addrs.iter().any(lasts);
        let index = self.last_index + 1;
        let mut one = Candidate {
            index,
            name: name.clone(),
            addrs,
            kind,
            busy: false,
            told: false,
            at: None,
            gone: false,
        };
        let now = Instant::now();
        match &self.desk.setup.target {
            Target::Named(wanted, _) => {
                if !wanted.eq_ignore_ascii_case(&name) {
                    return;
                }
                self.settled.get_or_insert(now + SETTLE / 2);
            }
            _ if self.desk.setup.purpose == Purpose::Sync => {
                one.at = Some(match (kind, better) {
                    (Kind::Kinfold, true) => now,
                    (Kind::Kinfold, false) => now + BETTER,
                    _ => now + HEAD_START,
                });
            }
            Target::Any | Target::At(..) => {
                self.settled.get_or_insert(now + SETTLE);
            }
        }
        self.last_index = index;
        self.candidates.insert(key.clone(), one);
        if better {
            self.tell_found(&key).await;
        }
    }

    async fn tell_found(&mut self, key: &str) {
        let Some(one) = self.candidates.get_mut(key).filter(|one| !one.told) else { return };
        one.told = true;
        let Some(addr) = one.addrs.first().copied() else { return };
        let (index, name, kind) = (one.index, one.name.clone(), one.kind);
        self.desk.tell(Event::Found { index, name, addr, kind }).await;
    }

    pub(super) fn choose(&mut self, index: u32) {
        let now = Instant::now();
        if let Some(one) = self.candidates.values_mut().find(|one| one.index == index) {
            one.at = (!one.busy).then_some(now);
        }
    }

    pub(super) async fn due(&mut self) {
        let now = Instant::now();
        if self.otherwise.is_some_and(|at| at <= now) {
            self.otherwise = None;
            if let (Target::Named(_, Some((place, kind))), true) =
                (&self.desk.setup.target, self.candidates.is_empty())
            {
                let (place, kind) = (place.clone(), *kind);
                self.aim(&place, kind);
            }
        }
        let (due, held) = std::mem::take(&mut self.held).into_iter().partition(|it| it.at <= now);
        self.held = held;
        let due: Vec<Held> = due;
        for Held { addr, kind, name, .. } in due {
            self.connecto_at(addr, kind, name).await;
        }
        if self.settled.is_some_and(|at| at <= now) {
            self.settled = None;
            let keys: Vec<String> = self.candidates.keys().cloned().collect();
            for key in keys {
                self.tell_found(&key).await;
            }
            let several = self.candidates.len() > 1;
            if several {
                self.desk.tell(Event::Choose(self.last_index)).await;
            } else if let Some(one) = self.candidates.values_mut().next() {
                one.at = Some(now);
            }
        }
        let due: Vec<String> = self
            .candidates
            .iter()
            .filter(|(_, one)| !one.busy && one.at.is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.tell_found(&key).await;
            self.dial(key);
        }
    }

    fn dial(&mut self, key: String) {
        let busy = self.tasks.len() >= MAX_TASKS;
        let Some(one) = self.candidates.get_mut(&key) else { return };
        one.at = (busy && !one.gone).then(|| Instant::now() + SETTLE);
        if one.gone || busy {
            return;
        }
        one.busy = true;
        let (desk, addrs, kind) = (Arc::clone(&self.desk), one.addrs.clone(), one.kind);
        let place = (key == AIMED).then(|| one.name.clone());
        self.tasks.spawn(async move {
            let addrs = match place.and_then(|place| place.parse::<Place>().ok()) {
                None => Ok(addrs),
                Some(place) => place.resolve().await,
            };
            let ended = match addrs {
                Ok(addrs) => talk(desk, addrs, kind).await,
                Err(error) => Ended::Lost(error),
            };
            Task::Dialled(key, ended)
        });
    }
}

/// True for an address that ssh can be given for later.
pub(crate) fn lasts(addr: &SocketAddr) -> bool {
    !matches!(addr.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Addresses of this machine are not looked at.
pub(crate) fn is_own(ip: IpAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|addr| addr.ip() == ip) || ip == IpAddr::V4(Ipv4Addr::LOCALHOST)
}
