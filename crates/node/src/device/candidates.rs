//! Who may be the other side of a pairing on the local network, numbered for a person. One device is one candidate,
//! whether it is known by its advert, by a link, or by both; and its number never means another one. Adverts are
//! anybody's: what one says makes no two devices the same. A link proves who is there, and where.

use std::net::SocketAddr;

use identity::DeviceId;
use link::Found;

/// Candidates at a time (attacks.md 12).
const MAX_CANDIDATES: usize = 32;
/// How often candidates are told of in one window.
const MAX_TOLD: usize = 256;
/// Adverts of one name and place.
const MAX_ADVERTS: usize = 4;

/// One of them.
struct Candidate {
    number: usize,
    /// Empty if only a link showed it, and once its adverts were withdrawn. Several if one place had adverts of several
    /// runs: of one device, unless somebody lies.
    found: Vec<Found>,
    /// Known once a link showed it.
    device: Option<DeviceId>,
    dialled: bool,
    /// What a person is shown.
    name: String,
    addr: Option<SocketAddr>,
}

impl Candidate {
    /// True if a device that is at the other end of a link, and listens at an address, is this one.
    fn is(&self, device: DeviceId, at: SocketAddr) -> bool {
        match (self.device, &*self.found) {
            (Some(known), _) => known == device,
            (None, [one]) => one.claims_to_be(device),
            // Whose place it is, whoever is there shows.
            (None, several) => {
                several.iter().any(|one| one.claims_to_be(device) && one.addrs.contains(&at))
            }
        }
    }

    /// Its adverts were withdrawn, and no link showed it.
    fn is_gone(&self) -> bool {
        self.found.is_empty() && self.device.is_none()
    }

    fn has(&self, instance: &str) -> bool {
        self.found.iter().any(|known| known.instance == instance)
    }

    /// True if another advert is of nowhere else than this one's under the same name: of a device that starts again,
    /// perhaps. To dial either leads to the same.
    fn is_at_the_place_of(&self, advert: &Found) -> bool {
        let is_known =
            |addr: &SocketAddr| self.found.iter().any(|known| known.addrs.contains(addr));
        self.device.is_none()
            && self.name == advert.name
            && !advert.addrs.is_empty()
            && advert.addrs.iter().all(is_known)
    }

    fn take(&mut self, advert: Found) {
        self.name.clone_from(&advert.name);
        self.addr = advert.addrs.first().copied().or(self.addr);
        self.found.retain(|known| known.instance != advert.instance);
        if self.found.len() == MAX_ADVERTS {
            self.found.remove(0);
        }
        self.found.push(advert);
    }
}

/// What an advert brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// Nothing that a person needs to know.
    Nothing,
    /// A device that is known runs anew, or can be dialled only now.
    Anew,
    /// One that only a link had shown has a name now; by its number.
    Named(usize),
    /// Another candidate, of this number.
    New(usize),
}

/// All of them.
#[derive(Default)]
pub(super) struct Candidates {
    all: Vec<Candidate>,
    /// The last number.
    last: usize,
    /// How much was told of them: new ones, and other names.
    told: usize,
}

impl Candidates {
    fn present(&self) -> impl Iterator<Item = &Candidate> {
        self.all.iter().filter(|one| !one.is_gone())
    }

    fn get(&self, number: usize) -> Option<&Candidate> {
        self.present().find(|one| one.number == number)
    }

    /// How many a person may choose among.
    pub(super) fn count(&self) -> usize {
        self.present().count()
    }

    /// The number of the only one.
    pub(super) fn only(&self) -> Option<usize> {
        let mut present = self.present();
        let only = present.next()?;
        present.next().is_none().then_some(only.number)
    }

    /// Numbers, names and places of those who are there, as they are shown.
    pub(super) fn shown(&self) -> Vec<(usize, String, Option<SocketAddr>)> {
        self.present().map(|one| (one.number, one.name.clone(), one.addr)).collect()
    }

    /// An advert came, changed or went.
    pub(super) fn heard(&mut self, advert: Found) -> News {
        let at = self.all.iter().position(|one| one.has(&advert.instance));
        if advert.gone {
            if let Some(one) = at.and_then(|at| self.all.get_mut(at)) {
                one.found.retain(|known| known.instance != advert.instance);
            }
            return News::Nothing;
        }
        let is_its = |one: &Candidate| one.device.is_some_and(|device| advert.claims_to_be(device));
        let at = self.all.iter().position(is_its).or(at);
        if let Some(one) = at.and_then(|at| self.all.get_mut(at)) {
            if one.device.is_some() && !is_its(one) {
                // The other end of its link is another device.
                return News::Nothing;
            }
            let again = !one.has(&advert.instance);
            let is_named = one.name == advert.name;
            if !is_named && self.told >= MAX_TOLD {
                // It goes on under the name that was told.
                return News::Nothing;
            }
            self.told += usize::from(!is_named);
            if one.device.is_some() {
                one.found.clear();
            }
            one.take(advert);
            if again {
                one.dialled = false;
            }
            return match (is_named, again) {
                (false, _) => News::Named(one.number),
                (true, true) => News::Anew,
                (true, false) => News::Nothing,
            };
        }
        if let Some(one) = self.all.iter_mut().find(|one| one.is_at_the_place_of(&advert)) {
            one.take(advert);
            one.dialled = false;
            return News::Anew;
        }
        // One whose advert was withdrawn comes back as itself, where it was and nowhere else.
        let back = |one: &&mut Candidate| {
            one.is_gone()
                && one.name == advert.name
                && advert.addrs.iter().all(|addr| Some(*addr) == one.addr)
        };
        if let Some(one) = self.all.iter_mut().find(back) {
            one.take(advert);
            one.dialled = false;
            return News::Anew;
        }
        let (name, addr) = (advert.name.clone(), advert.addrs.first().copied());
        self.add(Candidate {
            number: 0,
            found: vec![advert],
            device: None,
            dialled: false,
            name,
            addr,
        })
    }

    /// A link showed a device on which both sides are ready, and where it listens.
    pub(super) fn linked(&mut self, device: DeviceId, at: SocketAddr) -> News {
        if let Some(one) = self.all.iter_mut().find(|one| one.is(device, at)) {
            one.device = Some(device);
            one.found.retain(|known| known.claims_to_be(device));
            return News::Nothing;
        }
        let (name, addr) = (device.short(), Some(at));
        let (found, device) = (Vec::new(), Some(device));
        self.add(Candidate { number: 0, found, device, dialled: true, name, addr })
    }

    fn add(&mut self, one: Candidate) -> News {
        if self.count() >= MAX_CANDIDATES || self.told >= MAX_TOLD {
            return News::Nothing;
        }
        if self.all.len() >= 2 * MAX_CANDIDATES {
            // Of those that are gone, the first to come.
            let gone = self.all.iter().position(Candidate::is_gone);
            gone.map(|at| self.all.remove(at));
        }
        self.told += 1;
        self.last += 1;
        self.all.push(Candidate { number: self.last, ..one });
        News::New(self.last)
    }

    /// Marks one as dialled, and says where it is; nothing if it is dialled already, or has no advert.
    pub(super) fn dial(&mut self, number: usize) -> Option<(String, Vec<SocketAddr>)> {
        let one = self.all.iter_mut().find(|one| one.number == number)?;
        let instance = one.found.last()?.instance.clone();
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for addr in one.found.iter().rev().flat_map(|found| &found.addrs) {
            if !addrs.contains(addr) {
                addrs.push(*addr);
            }
        }
        (!std::mem::replace(&mut one.dialled, true)).then_some((instance, addrs))
    }

    /// One may be dialled again.
    pub(super) fn dial_again(&mut self, number: usize) {
        self.all.iter_mut().filter(|one| one.number == number).for_each(|one| one.dialled = false);
    }

    /// All may be dialled again.
    pub(super) fn dial_anew(&mut self) {
        self.all.iter_mut().for_each(|one| one.dialled = false);
    }

    /// True if the one with a number is that device, which listens there.
    pub(super) fn is(&self, number: usize, device: DeviceId, at: SocketAddr) -> bool {
        self.get(number).is_some_and(|one| one.is(device, at))
    }

    /// True if there is one with that number.
    pub(super) fn is_there(&self, number: usize) -> bool {
        self.get(number).is_some()
    }

    /// What one is called, as it was shown last.
    pub(super) fn name(&self, number: usize) -> Option<&str> {
        self.all.iter().find(|one| one.number == number).map(|one| &*one.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(byte: u8) -> DeviceId {
        DeviceId([byte; 32])
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// An advert of a device's run, at a port.
    fn advert(byte: u8, run: u8, port: u16) -> Found {
        Found::told(device(byte), &format!("name{byte}"), at(port), [run; 16])
    }

    /// An advert of one device under the name of another.
    fn posing(byte: u8, as_one: u8, port: u16) -> Found {
        Found::told(device(byte), &format!("name{as_one}"), at(port), [9; 16])
    }

    fn gone(mut advert: Found) -> Found {
        advert.gone = true;
        advert.addrs.clear();
        advert
    }

    #[test]
    fn one_device_is_one_candidate_however_it_becomes_known() {
        // By a link first, by which no advert is known yet.
        let mut candidates = Candidates::default();
        assert_eq!(candidates.linked(device(1), at(9)), News::New(1));
        assert_eq!(candidates.heard(advert(1, 1, 9)), News::Named(1));
        assert_eq!(candidates.name(1), Some("name1"));
        assert_eq!((candidates.count(), candidates.only()), (1, Some(1)));
        // By its advert first; it may dial from anywhere.
        let mut candidates = Candidates::default();
        assert_eq!(candidates.heard(advert(1, 1, 9)), News::New(1));
        assert_eq!(candidates.linked(device(1), at(10)), News::Nothing);
        assert_eq!(candidates.heard(advert(1, 1, 9)), News::Nothing);
        assert_eq!(candidates.count(), 1);
        assert!(candidates.is(1, device(1), at(9)) && !candidates.is(1, device(2), at(9)));
    }

    #[test]
    fn a_device_that_starts_again_takes_its_own_place_and_is_dialled_again() {
        let mut candidates = Candidates::default();
        candidates.heard(advert(1, 1, 9));
        assert!(candidates.dial(1).is_some() && candidates.dial(1).is_none());
        // Killed, so that the advert was not withdrawn; nobody was linked.
        assert_eq!(candidates.heard(advert(1, 2, 9)), News::Anew);
        assert_eq!((candidates.count(), candidates.only()), (1, Some(1)));
        assert!(candidates.dial(1).is_some());
        assert_eq!(candidates.linked(device(1), at(9)), News::Nothing);
        // The same of one that a link showed, at whatever port.
        assert_eq!(candidates.heard(advert(1, 3, 10)), News::Anew);
        assert_eq!(candidates.count(), 1);
        assert_eq!(candidates.dial(1).unwrap().1, [at(10)]);
        // Another device at another place is another one.
        assert_eq!(candidates.heard(advert(2, 1, 11)), News::New(2));
        assert_eq!((candidates.count(), candidates.only()), (2, None));
    }

    #[test]
    fn attack_12_who_poses_as_another_at_its_place_is_a_candidate_of_its_own() {
        for poser_first in [false, true] {
            let mut candidates = Candidates::default();
            let mut adverts = [advert(1, 1, 9), posing(2, 1, 9)];
            if poser_first {
                adverts.reverse();
            }
            let [first, second] = adverts;
            assert_eq!(candidates.heard(first), News::New(1));
            // To dial leads to the same place; nobody has to choose for that.
            assert_eq!(candidates.heard(second), News::Anew);
            assert_eq!(candidates.only(), Some(1));
            // But who dials from elsewhere is not the one that was shown.
            assert_eq!(candidates.linked(device(2), at(10)), News::New(2));
            assert_eq!((candidates.count(), candidates.only()), (2, None));
            assert_eq!(candidates.linked(device(1), at(9)), News::Nothing);
            assert!(candidates.is(1, device(1), at(9)) && !candidates.is(1, device(2), at(9)));
        }
        // With a place of its own added, it leads elsewhere, and is another one at once.
        let mut candidates = Candidates::default();
        candidates.heard(advert(1, 1, 9));
        let mut wider = posing(2, 1, 9);
        wider.addrs.insert(0, at(10));
        assert_eq!(candidates.heard(wider), News::New(2));
        assert_eq!(candidates.dial(1).unwrap().1, [at(9)]);
        // Nor does it take the place of one that a link showed.
        let mut candidates = Candidates::default();
        candidates.heard(advert(1, 1, 9));
        candidates.linked(device(1), at(9));
        assert_eq!(candidates.heard(posing(2, 1, 9)), News::New(2));
        assert_eq!(candidates.linked(device(2), at(9)), News::Nothing);
        assert!(candidates.is(2, device(2), at(9)) && candidates.is(1, device(1), at(9)));
    }

    #[test]
    fn a_number_means_no_other_device_after_one_went() {
        let mut candidates = Candidates::default();
        candidates.heard(advert(1, 1, 9));
        candidates.heard(advert(2, 1, 10));
        assert_eq!(candidates.heard(gone(advert(1, 1, 9))), News::Nothing);
        assert_eq!((candidates.count(), candidates.only()), (1, Some(2)));
        assert!(candidates.is(2, device(2), at(10)) && candidates.dial(1).is_none());
        assert!(!candidates.is_there(1) && candidates.name(1) == Some("name1"));
        assert_eq!(candidates.heard(advert(1, 1, 9)), News::Anew);
        assert_eq!(candidates.count(), 2);
        assert!(candidates.dial(1).is_some());
        // Nor when there are very many, of which some went.
        for port in 100..100 + u16::try_from(MAX_CANDIDATES).unwrap() {
            candidates.heard(advert(u8::try_from(port).unwrap(), 1, port));
        }
        assert_eq!(candidates.count(), MAX_CANDIDATES);
        candidates.heard(gone(advert(2, 1, 10)));
        assert_eq!(candidates.heard(advert(3, 1, 11)), News::New(MAX_CANDIDATES + 1));
        assert!(!candidates.is_there(2));
    }

    #[test]
    fn attack_12_a_crowd_of_adverts_is_bounded() {
        let mut candidates = Candidates::default();
        for round in 0..10 {
            for port in 1..200 {
                let byte = u8::try_from(port).unwrap();
                let advert = advert(byte, round, 1000 * u16::from(round) + port);
                candidates.heard(advert.clone());
                assert!(candidates.count() <= MAX_CANDIDATES);
                candidates.heard(gone(advert));
            }
        }
        assert!(candidates.told <= MAX_TOLD && candidates.all.len() <= 2 * MAX_CANDIDATES);
        // Nor are other names told without end.
        let mut candidates = Candidates::default();
        let mut advert_of = advert(1, 1, 9);
        let told = (0..10 * MAX_TOLD).filter(|number| {
            advert_of.name = format!("name{number}");
            candidates.heard(advert_of.clone()) != News::Nothing
        });
        assert_eq!(told.count(), MAX_TOLD);
        let mut candidates = Candidates::default();
        for run in 0..100 {
            candidates.heard(advert(1, run, 9));
        }
        assert_eq!((candidates.count(), candidates.all[0].found.len()), (1, MAX_ADVERTS));
    }
}
