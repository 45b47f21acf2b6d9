//! Who is dialled in a pairing on the local network, and whose link waits until a person has chosen.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use link::{Found, Link};
use tokio::sync::mpsc;
use wire::device::Purpose;

use super::{
    candidates::News,
    pairing::{CeremonyLine, STEP, Task},
};
use crate::{
    api::ApiEvent,
    line::{dialling, targets::Key},
};

/// How long the link that the lower device id dials is waited for (rule T1).
const PREFERENCE: Duration = Duration::from_millis(700);
/// Pause before an address given by hand is dialled again.
const REDIAL: Duration = Duration::from_millis(500);
/// Links that may wait for their turn.
pub(super) const MAX_WAITING: usize = 8;

/// What came of dialling.
pub(super) struct Dialled {
    /// The candidate; `None` for a place given by hand.
    number: Option<usize>,
    link: Option<Link>,
}

impl Task {
    /// An advert came. True if somebody may be there to be dialled.
    pub(super) async fn found(&mut self, found: Found) -> bool {
        if found.claims_to_be(self.setup.me) {
            return false;
        }
        let (name, addr) = (found.name.clone(), found.addrs.first().copied());
        let news = self.candidates.heard(found);
        if let News::New(number) | News::Named(number) = news {
            self.tell_candidate(number, name, addr).await;
        }
        if self.chosen.is_some_and(|(number, _)| !self.candidates.is_there(number)) {
            self.offer_again("has gone").await;
        }
        news != News::Nothing
    }

    async fn tell_candidate(&self, number: usize, name: String, addr: Option<SocketAddr>) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let addr = addr.map(|addr| addr.to_string()).unwrap_or_default();
        self.tell(ApiEvent::Candidate { number, name, addr }).await;
    }

    pub(super) async fn choose(&mut self, number: u32, dialled: &mpsc::Sender<Dialled>) {
        let number = number as usize;
        self.chosen = Some((number, Instant::now() + STEP));
        if !self.candidates.is_there(number) {
            return self.offer_again("has gone").await;
        }
        let is_it = |line: &CeremonyLine| self.candidates.is(number, line.peer, line.place());
        let ready = self.waiting.values_mut().find(|(line, _)| is_it(line));
        if let Some((_, at)) = ready {
            *at = Instant::now();
        } else {
            self.candidates.dial_again(number);
            self.dial(number, dialled);
        }
    }

    /// The one that a person chose is not to be had: they may choose again.
    pub(super) async fn offer_again(&mut self, why: &str) {
        let Some((number, _)) = self.chosen.take() else { return };
        self.candidates.dial_again(number);
        let message = match self.candidates.name(number) {
            Some(name) => format!("{number} ({name}) {why}"),
            None => format!("{number} is none of those that were found"),
        };
        self.offer(message, "run kin pair there, and choose again").await;
    }

    /// Says what was wrong with a choice, and what there is to choose among.
    pub(super) async fn offer(&self, message: String, hint: &str) {
        for (number, name, addr) in self.candidates.shown() {
            self.tell_candidate(number, name, addr).await;
        }
        let (kind, hint) = ("candidate".to_owned(), hint.to_owned());
        self.tell(ApiEvent::Error { kind, message, hint }).await;
    }

    pub(super) fn dial(&mut self, number: usize, dialled: &mpsc::Sender<Dialled>) {
        let Some((instance, addrs)) = self.candidates.dial(number) else { return };
        let endpoint = Arc::clone(&self.setup.endpoint);
        let (key, dialled) = (Key::Advert(instance), dialled.clone());
        tokio::spawn(async move {
            let link = dialling::dial(&endpoint, &key, addrs).await.ok();
            let _ = dialled.send(Dialled { number: Some(number), link }).await;
        });
    }

    /// Dials a place given by hand until somebody answers there and nobody wants it any more.
    pub(super) fn redial(&self, host: String, dialled: mpsc::Sender<Dialled>) {
        let endpoint = Arc::clone(&self.setup.endpoint);
        let events = self.events.clone();
        tokio::spawn(async move {
            let key = Key::Manual(host.clone());
            let mut told = false;
            while !dialled.is_closed() {
                match dialling::dial(&endpoint, &key, Vec::new()).await {
                    Ok(link) => {
                        let _ = dialled.send(Dialled { number: None, link: Some(link) }).await;
                        // What comes of it is heard soon; if nothing does, it is tried again.
                        tokio::time::sleep(STEP).await;
                    }
                    Err(error) if !std::mem::replace(&mut told, true) => {
                        let message = format!("{host} is not reached: {error}");
                        let hint = "it is tried again: run kin pair there, which says its port";
                        let (kind, hint) = ("unreachable".to_owned(), hint.to_owned());
                        let _ = events.send(ApiEvent::Error { kind, message, hint }).await;
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(REDIAL).await;
            }
        });
    }

    pub(super) async fn linked(&mut self, Dialled { number, link }: Dialled) {
        let chosen = self.chosen.map(|(number, _)| number).filter(|chosen| Some(*chosen) == number);
        let Some(link) = link else {
            self.candidates.dial_anew();
            if chosen.is_some() {
                self.offer_again("is not reached").await;
            }
            return;
        };
        // Another one that answers there is not the one that was meant, and waits to be chosen itself.
        let (peer, addr) = (link.peer(), link.addr());
        if number.is_none_or(|number| self.candidates.is(number, peer, addr)) {
            self.reached.insert(peer);
        } else if chosen.is_some() {
            self.offer_again("is not at its address: another device answers there").await;
        }
        // The hub says hello; if the other end pairs too, the link comes back as one for a ceremony.
        self.setup.hub.send(move |hub| hub.linked(link, Some(Purpose::Pair)));
    }

    /// A link on which both sides are ready.
    pub(super) async fn came(&mut self, line: CeremonyLine) {
        let peer = line.peer;
        if self.setup.options.host.is_none()
            && let News::New(number) = self.candidates.linked(peer, line.place())
        {
            self.tell_candidate(number, peer.short(), Some(line.place())).await;
        }
        let preferred = line.dialled == (self.setup.me < peer);
        // With several candidates, a person chooses.
        let is_chosen =
            self.chosen.is_some_and(|(number, _)| self.candidates.is(number, peer, line.place()));
        let is_meant = is_chosen || line.dialled && self.reached.contains(&peer);
        let several = self.candidates.count() > 1 && !is_meant;
        let at = match (several, preferred) {
            (true, _) => Instant::now() + Duration::from_secs(24 * 3600),
            (false, true) => Instant::now(),
            (false, false) => Instant::now() + PREFERENCE,
        };
        let better =
            self.waiting.get(&peer).is_none_or(|(other, _)| preferred || other.out.is_closed());
        if better && self.waiting.len() < MAX_WAITING {
            self.waiting.insert(peer, (line, at));
        }
    }

    /// A link whose ceremony may begin.
    pub(super) fn due(&mut self) -> Option<CeremonyLine> {
        self.waiting.retain(|_, (line, _)| !line.out.is_closed());
        let now = Instant::now();
        let due = self.waiting.iter().find(|(_, (_, at))| *at <= now).map(|(peer, _)| *peer)?;
        self.waiting.remove(&due).map(|(line, _)| line)
    }
}
