//! Whom to dial and when. Pure: the clock comes in as an argument.
//!
//! A target is a place where somebody may be: an address given by hand, an advert seen on the LAN, or
//! the last known place of a member. None of them says *who* is there; that is learned by dialling,
//! and remembered so that a device that is linked is not dialled again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use identity::DeviceId;

/// Pause before the second try, doubled after each failure up to [`SLOWEST`].
pub(crate) const QUICKEST: Duration = Duration::from_millis(200);
/// Longest pause between tries; nobody is ever given up.
pub(crate) const SLOWEST: Duration = Duration::from_secs(5);
/// Adverts beyond this many are not dialled (attacks.md 12).
const MAX_TARGETS: usize = 512;
/// Targets dialled at once.
const MAX_DIALLING: usize = 32;

/// What makes a target one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Key {
    /// `HOST:PORT` as given by hand.
    Manual(String),
    /// The instance name of an advert.
    Advert(String),
    /// Where a member was.
    Member(DeviceId),
}

#[derive(Debug)]
struct Target {
    /// Where; empty for a name that is still to be resolved.
    addrs: Vec<SocketAddr>,
    /// Who was there the last time.
    device: Option<DeviceId>,
    dialling: bool,
    due: Instant,
    pause: Duration,
}

/// All targets.
#[derive(Default, Debug)]
pub(crate) struct Targets {
    targets: BTreeMap<Key, Target>,
}

impl Targets {
    /// Adds a target, or gives it its present addresses: it is due at once.
    pub(crate) fn add(
        &mut self,
        key: Key,
        addrs: Vec<SocketAddr>,
        device: Option<DeviceId>,
        now: Instant,
    ) {
        if let Some(target) = self.targets.get_mut(&key) {
            if target.addrs != addrs {
                target.addrs = addrs;
                target.due = now;
                target.pause = QUICKEST;
            }
            target.device = device.or(target.device);
        } else if self.targets.len() < MAX_TARGETS {
            let target = Target { addrs, device, dialling: false, due: now, pause: QUICKEST };
            self.targets.insert(key, target);
        }
    }

    /// The target leads to this device.
    pub(crate) fn is(&mut self, key: &Key, device: DeviceId) {
        if let Some(target) = self.targets.get_mut(key) {
            target.device = Some(device);
        }
    }

    /// The target is no more: its advert was withdrawn, or the member said goodbye.
    pub(crate) fn remove(&mut self, key: &Key) {
        self.targets.remove(key);
    }

    /// Keeps only targets that lead to devices for which `wanted` is true, as far as that is known.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&DeviceId) -> bool) {
        self.targets.retain(|_, target| target.device.as_ref().is_none_or(&wanted));
    }

    /// Keeps only targets of which is known to whom they lead.
    pub(crate) fn retain_known(&mut self) {
        self.targets.retain(|_, target| target.device.is_some());
    }

    /// Takes out what is to be dialled now: targets that are due, except those that lead to a device
    /// that is linked.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        linked: impl Fn(&DeviceId) -> bool,
    ) -> Vec<(Key, Vec<SocketAddr>)> {
        let dialling = self.targets.values().filter(|target| target.dialling);
        // Two ways to one device are not tried at once.
        let mut devices: BTreeSet<DeviceId> =
            dialling.clone().filter_map(|target| target.device).collect();
        let mut room = MAX_DIALLING.saturating_sub(dialling.count());
        let mut due = Vec::new();
        for (key, target) in &mut self.targets {
            let idle = !target.dialling && !target.device.as_ref().is_some_and(&linked);
            let mut alone = || target.device.is_none_or(|device| devices.insert(device));
            if room > 0 && idle && target.due <= now && alone() {
                target.dialling = true;
                room -= 1;
                due.push((key.clone(), target.addrs.clone()));
            }
        }
        due
    }

    /// When something is due next that [`Targets::due`] would give out, as far as is known now.
    pub(crate) fn next(&self, linked: impl Fn(&DeviceId) -> bool) -> Option<Instant> {
        let dialling = self.targets.values().filter(|target| target.dialling);
        if dialling.clone().count() >= MAX_DIALLING {
            return None;
        }
        let devices: BTreeSet<DeviceId> = dialling.filter_map(|target| target.device).collect();
        self.targets
            .values()
            .filter(|target| !target.dialling)
            .filter(|target| target.device.is_none_or(|d| !linked(&d) && !devices.contains(&d)))
            .map(|target| target.due)
            .min()
    }

    /// Dialling led to a device.
    pub(crate) fn reached(&mut self, key: &Key, device: DeviceId, now: Instant) {
        let Some(target) = self.targets.get_mut(key) else { return };
        target.dialling = false;
        target.device = Some(device);
        // What comes of it decides; if the device is not linked then, this is the pause.
        target.due = now + target.pause;
        target.pause = (target.pause * 2).min(SLOWEST);
        if matches!(key, Key::Member(member) if *member != device) {
            // Its place belongs to somebody else now, so its run is over.
            self.targets.remove(key);
        }
    }

    /// Dialling led to nobody.
    pub(crate) fn failed(&mut self, key: &Key, now: Instant) {
        let Some(target) = self.targets.get_mut(key) else { return };
        target.dialling = false;
        target.due = now + target.pause;
        target.pause = (target.pause * 2).min(SLOWEST);
    }

    /// A link to this device was lost that had worked: try again quickly.
    pub(crate) fn lost(&mut self, device: &DeviceId, now: Instant) {
        for target in self.targets.values_mut().filter(|t| t.device.as_ref() == Some(device)) {
            target.due = now + QUICKEST;
            target.pause = QUICKEST;
        }
    }

    /// This device will not have us, or we not it: look there slowly, somebody else may come.
    pub(crate) fn refused(&mut self, device: &DeviceId, now: Instant) {
        for target in self.targets.values_mut().filter(|t| t.device.as_ref() == Some(device)) {
            target.due = now + SLOWEST;
            target.pause = SLOWEST;
        }
    }

    /// A person acted: everything is tried now.
    pub(crate) fn all_now(&mut self, now: Instant) {
        for target in self.targets.values_mut() {
            target.due = now;
            target.pause = QUICKEST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: fn() -> Vec<SocketAddr> = || vec![([10, 0, 0, 1], 9000).into()];

    fn keys(due: Vec<(Key, Vec<SocketAddr>)>) -> Vec<Key> {
        due.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn nobody_is_given_up_and_pauses_grow_to_five_seconds() {
        let start = Instant::now();
        let mut targets = Targets::default();
        let key = Key::Manual("there:9".into());
        targets.add(key.clone(), vec![], None, start);
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(keys(targets.due(now, |_| false)).len(), 1);
            assert_eq!(keys(targets.due(now, |_| false)), [], "it is being dialled");
            targets.failed(&key, now);
            let next = targets.next(|_| false).unwrap();
            pauses.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn a_linked_device_is_not_dialled_and_a_lost_one_at_once() {
        let now = Instant::now();
        let device = DeviceId([1; 32]);
        let mut targets = Targets::default();
        let key = Key::Advert("x".into());
        targets.add(key.clone(), HERE(), None, now);
        targets.due(now, |_| false);
        targets.reached(&key, device, now);
        let later = now + SLOWEST;
        assert_eq!(keys(targets.due(later, |linked| *linked == device)), []);
        assert_eq!(targets.next(|linked| *linked == device), None);
        targets.lost(&device, later);
        assert_eq!(targets.next(|_| false), Some(later + QUICKEST));
    }

    #[test]
    fn new_addresses_are_tried_at_once() {
        let now = Instant::now();
        let mut targets = Targets::default();
        let key = Key::Advert("x".into());
        targets.add(key.clone(), HERE(), None, now);
        targets.due(now, |_| false);
        targets.failed(&key, now);
        targets.add(key.clone(), HERE(), None, now);
        assert_eq!(keys(targets.due(now, |_| false)), [], "the same: no reason to hurry");
        targets.add(key.clone(), vec![([10, 0, 0, 2], 9000).into()], None, now);
        assert_eq!(keys(targets.due(now, |_| false)), [key]);
    }

    #[test]
    fn a_members_place_taken_by_another_is_forgotten() {
        let now = Instant::now();
        let mut targets = Targets::default();
        let key = Key::Member(DeviceId([1; 32]));
        targets.add(key.clone(), HERE(), Some(DeviceId([1; 32])), now);
        targets.due(now, |_| false);
        targets.reached(&key, DeviceId([2; 32]), now);
        assert_eq!(targets.next(|_| false), None);
    }

    #[test]
    fn attack_12_ten_thousand_adverts_are_bounded() {
        let now = Instant::now();
        let mut targets = Targets::default();
        for number in 0..10_000 {
            targets.add(Key::Advert(number.to_string()), HERE(), None, now);
        }
        assert_eq!(targets.targets.len(), MAX_TARGETS);
        assert_eq!(targets.due(now, |_| false).len(), MAX_DIALLING);
    }
}
