//! Who may be the other side of a pairing on the local network, numbered for a person. One device is one candidate,
//! whether it is known by its advert, by a link, or by both; and its number means no other one later.

use std::net::SocketAddr;

use identity::DeviceId;
use link::Found;

/// Candidates that are told of (attacks.md 12).
const MAX_CANDIDATES: usize = 32;

/// One of them.
pub(super) struct Candidate {
    /// `None` if only a link showed it, and once its advert was withdrawn.
    found: Option<Found>,
    /// Known once a link showed it.
    device: Option<DeviceId>,
    dialled: bool,
    /// Its advert was withdrawn, and no link showed it.
    gone: bool,
}

impl Candidate {
    fn is(&self, device: &DeviceId) -> bool {
        self.device == Some(*device)
            || self.found.as_ref().is_some_and(|found| found.claims_to_be(*device))
    }

    /// True if an advert is of the same device: the same advert, one of a device that a link showed, or one of
    /// another run at the same place under the same name.
    fn is_of(&self, advert: &Found) -> bool {
        let place = |known: &Found| {
            known.instance == advert.instance
                || known.name == advert.name
                    && known.addrs.iter().any(|addr| advert.addrs.contains(addr))
        };
        self.device.is_some_and(|device| advert.claims_to_be(device))
            || self.found.as_ref().is_some_and(place)
    }
}

/// What an advert brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// Nothing that a person needs to know.
    Nothing,
    /// A device that is known runs anew, or can be dialled only now.
    Anew,
    /// Another candidate, of this number.
    New(usize),
}

/// All of them; a number is a place here, from 1.
#[derive(Default)]
pub(super) struct Candidates(Vec<Candidate>);

impl Candidates {
    /// How many a person may choose among.
    pub(super) fn count(&self) -> usize {
        self.0.iter().filter(|one| !one.gone).count()
    }

    /// The place of the only one.
    pub(super) fn only(&self) -> Option<usize> {
        let mut places = self.0.iter().enumerate().filter(|(_, one)| !one.gone);
        let (at, _) = places.next()?;
        places.next().is_none().then_some(at)
    }

    /// An advert came, changed or went.
    pub(super) fn heard(&mut self, advert: Found, waiting: Option<DeviceId>) -> News {
        if advert.gone {
            let same = |one: &&mut Candidate| {
                one.found.as_ref().is_some_and(|known| known.instance == advert.instance)
            };
            if let Some(one) = self.0.iter_mut().find(same) {
                one.gone = one.device.is_none();
                if !one.gone {
                    one.found = None;
                }
            }
            return News::Nothing;
        }
        if let Some(one) = self.0.iter_mut().find(|one| one.is_of(&advert)) {
            let again = one.found.as_ref().is_none_or(|known| known.instance != advert.instance);
            let anew = again || std::mem::take(&mut one.gone);
            if again {
                one.dialled = false;
            }
            one.gone = false;
            one.found = Some(advert);
            return if anew { News::Anew } else { News::Nothing };
        }
        self.add(Candidate { found: Some(advert), device: waiting, dialled: false, gone: false })
    }

    /// A link showed a device on which both sides are ready.
    pub(super) fn linked(&mut self, device: DeviceId) -> News {
        if let Some(one) = self.0.iter_mut().find(|one| one.is(&device)) {
            one.device = Some(device);
            one.gone = false;
            return News::Nothing;
        }
        self.add(Candidate { found: None, device: Some(device), dialled: true, gone: false })
    }

    /// One that is gone gives its place only if there is no other left.
    fn add(&mut self, one: Candidate) -> News {
        if self.0.len() < MAX_CANDIDATES {
            self.0.push(one);
            return News::New(self.0.len());
        }
        match self.0.iter_mut().enumerate().find(|(_, known)| known.gone) {
            Some((at, known)) => {
                *known = one;
                News::New(at + 1)
            }
            None => News::Nothing,
        }
    }

    /// Marks one as dialled, and says where it is; nothing if it is dialled already, or has no advert.
    pub(super) fn dial(&mut self, at: usize) -> Option<(String, Vec<SocketAddr>)> {
        let one = self.0.get_mut(at)?;
        let found = one.found.as_ref().filter(|_| !one.gone)?;
        let place = (found.instance.clone(), found.addrs.clone());
        (!std::mem::replace(&mut one.dialled, true)).then_some(place)
    }

    /// All may be dialled again.
    pub(super) fn dial_anew(&mut self) {
        self.0.iter_mut().for_each(|one| one.dialled = false);
    }

    /// True if the one at a place is that device, or says so.
    pub(super) fn is_at(&self, at: usize, device: &DeviceId) -> bool {
        self.0.get(at).is_some_and(|one| one.is(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(byte: u8) -> DeviceId {
        DeviceId([byte; 32])
    }

    /// An advert of a device's run, at a port.
    fn advert(byte: u8, run: u8, port: u16) -> Found {
        let addr = SocketAddr::from(([192, 0, 2, 1], port));
        Found::told(device(byte), &format!("name{byte}"), addr, [run; 16])
    }

    #[test]
    fn one_device_is_one_candidate_however_it_becomes_known() {
        // By a link first, by which no advert is known yet.
        let mut candidates = Candidates::default();
        assert_eq!(candidates.linked(device(1)), News::New(1));
        assert_eq!(candidates.heard(advert(1, 1, 9), None), News::Anew);
        assert_eq!((candidates.count(), candidates.only()), (1, Some(0)));
        // By its advert first.
        let mut candidates = Candidates::default();
        assert_eq!(candidates.heard(advert(1, 1, 9), None), News::New(1));
        assert_eq!(candidates.linked(device(1)), News::Nothing);
        assert_eq!(candidates.heard(advert(1, 1, 9), None), News::Nothing);
        assert_eq!(candidates.count(), 1);
        assert!(candidates.is_at(0, &device(1)) && !candidates.is_at(0, &device(2)));
    }

    #[test]
    fn a_device_that_starts_again_takes_its_own_place_and_is_dialled_again() {
        let mut candidates = Candidates::default();
        candidates.heard(advert(1, 1, 9), None);
        assert!(candidates.dial(0).is_some() && candidates.dial(0).is_none());
        // Killed, so that the advert was not withdrawn; nobody was linked.
        assert_eq!(candidates.heard(advert(1, 2, 9), None), News::Anew);
        assert_eq!((candidates.count(), candidates.only()), (1, Some(0)));
        assert!(candidates.dial(0).is_some());
        // The same of one that a link showed, at whatever port.
        candidates.linked(device(1));
        assert_eq!(candidates.heard(advert(1, 3, 10), None), News::Anew);
        assert_eq!(candidates.count(), 1);
        // Another device at another place is another one.
        assert_eq!(candidates.heard(advert(2, 1, 11), None), News::New(2));
        assert_eq!((candidates.count(), candidates.only()), (2, None));
    }

    #[test]
    fn a_number_means_no_other_device_after_one_went() {
        let mut candidates = Candidates::default();
        candidates.heard(advert(1, 1, 9), None);
        candidates.heard(advert(2, 1, 10), None);
        let mut gone = advert(1, 1, 9);
        gone.gone = true;
        assert_eq!(candidates.heard(gone, None), News::Nothing);
        assert_eq!((candidates.count(), candidates.only()), (1, Some(1)));
        assert!(candidates.is_at(1, &device(2)) && candidates.dial(0).is_none());
        assert_eq!(candidates.heard(advert(1, 1, 9), None), News::Anew);
        assert_eq!(candidates.count(), 2);
    }

    #[test]
    fn attack_12_a_crowd_of_adverts_is_bounded() {
        let mut candidates = Candidates::default();
        for port in 1..100 {
            candidates.heard(advert(1, 1, port), None);
            candidates.heard(advert(u8::try_from(port).unwrap(), 2, port), None);
        }
        assert!(candidates.count() <= MAX_CANDIDATES);
    }
}
