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

    /// True if a person has named the device at the other end: by its number, its place or its id.
    pub(super) fn is_meant(&self, line: &CeremonyLine) -> bool {
        let is_it = |number| self.candidates.is(number, line.peer, line.place());
        self.chosen.is_some_and(|(number, _)| is_it(number))
            || self.setup.options.host.is_some() && self.is_reached(line)
            || self.setup.expect == Some(line.peer)
    }

    /// True if it was dialled, and found at the place that was dialled for it.
    fn is_reached(&self, line: &CeremonyLine) -> bool {
        line.dialled && self.reached.contains(&line.peer)
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
        let is_meant = self.is_meant(&line) || self.is_reached(&line);
        let several = self.candidates.count() > 1 && !is_meant;
        let at = match (several, preferred) {
            (true, _) => Instant::now() + Duration::from_secs(24 * 3600),
            (false, true) => Instant::now(),
            (false, false) => Instant::now() + PREFERENCE,
        };
        let better =
            self.waiting.get(&peer).is_none_or(|(other, _)| preferred || other.out.is_closed());
        let has_place = self.waiting.contains_key(&peer) || self.make_place(is_meant);
        if better && has_place {
            self.waiting.insert(peer, (line, at));
        }
    }

    /// Whether another link may wait: who was named, or found where it was dialled, takes the place of one that was not.
    fn make_place(&mut self, is_meant: bool) -> bool {
        self.waiting.retain(|_, (line, _)| !line.out.is_closed());
        if self.waiting.len() < MAX_WAITING {
            return true;
        }
        let anybody = |line: &CeremonyLine| !self.is_meant(line) && !self.is_reached(line);
        let mut others = self.waiting.iter().filter(|(_, (line, _))| is_meant && anybody(line));
        let Some(peer) = others.next().map(|(peer, _)| *peer) else { return false };
        if let Some((line, _)) = self.waiting.remove(&peer) {
            line.refuse("too many devices want to pair");
        }
        true
    }

    /// A link whose ceremony may begin.
    pub(super) fn due(&mut self) -> Option<CeremonyLine> {
        self.waiting.retain(|_, (line, _)| !line.out.is_closed());
        let now = Instant::now();
        let due = self.waiting.iter().find(|(_, (_, at))| *at <= now).map(|(peer, _)| *peer)?;
        self.waiting.remove(&due).map(|(line, _)| line)
    }
}

#[cfg(test)]
mod tests {
    use identity::DeviceId;
    use tokio::sync::watch;

    use super::*;
    use crate::{
        api::PairLan,
        device::{pairing::Setup, tests::Lab},
        line::{ConnId, FrameSender},
    };

    async fn task(lab: &Lab) -> (Task, mpsc::Receiver<ApiEvent>) {
        let handle = lab.device.hub.clone();
        let setup = lab.device.hub.with(|hub| {
            let net = hub.net.as_ref().unwrap();
            Setup {
                hub: handle,
                endpoint: Arc::clone(&net.endpoint),
                port: net.port,
                me: hub.me,
                inbox: hub.inbox.id(),
                name: hub.name.clone(),
                questions: hub.questions.clone(),
                options: PairLan::default(),
                group: None,
                expect: None,
            }
        });
        Task::new(setup.await.unwrap(), watch::channel(None).1)
    }

    fn device(byte: u8) -> DeviceId {
        DeviceId([byte; 32])
    }

    fn at(byte: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], u16::from(byte)))
    }

    fn line(lab: &Lab, byte: u8) -> CeremonyLine {
        CeremonyLine {
            id: ConnId(u64::MAX),
            peer: device(byte),
            addr: at(byte),
            port: u16::from(byte),
            dialled: false,
            exporter: [0; 32],
            out: FrameSender::new(),
            heard: mpsc::channel(1).1,
            accepted: false,
            hub: lab.device.hub.clone(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn attack_12_a_crowd_that_waits_keeps_out_nobody_whom_a_person_chose() {
        let lab = Lab::new("a").await;
        let (mut task, _events) = task(&lab).await;
        let meant = u8::try_from(MAX_WAITING).unwrap() + 1;
        let other = Found::told(device(100), "other", at(100), [1; 16]);
        task.found(other).await;
        task.found(Found::told(device(meant), "meant", at(meant), [1; 16])).await;
        for byte in 1..meant {
            task.came(line(&lab, byte)).await;
        }
        task.came(line(&lab, meant)).await;
        assert_eq!(task.waiting.len(), MAX_WAITING);
        assert!(!task.waiting.contains_key(&device(meant)), "nobody chose it yet");
        let (dialled, _links) = mpsc::channel(4);
        task.choose(2, &dialled).await;
        task.came(line(&lab, meant)).await;
        assert_eq!(task.waiting.len(), MAX_WAITING, "in the place of another one");
        assert!(task.waiting.contains_key(&device(meant)));
        // Nobody else has a place; but who waits may come by a better link, however many wait.
        task.came(line(&lab, 200)).await;
        assert!(!task.waiting.contains_key(&device(200)));
        let me = task.setup.me;
        let waits = task.waiting.keys().copied().find(|peer| *peer < me).expect("a low id");
        let mut better = line(&lab, waits.0[0]);
        better.port = 7777;
        task.came(better).await;
        assert_eq!(task.waiting.get(&waits).map(|(line, _)| line.port), Some(7777));
        assert_eq!(task.waiting.len(), MAX_WAITING);
    }
}
