//! The session group: a set of vouches and what follows from it for this device.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use identity::DeviceId;
use wire::session::{Ground, MAX_MEMBERS, MAX_VOUCHES, Name, Vouch};

use crate::{Topic, VouchExt as _};

/// The group as this device sees it.
#[derive(Clone, Debug)]
pub struct SessionGroup {
    topic: Topic,
    me: DeviceId,
    /// True if this device follows vouches of open sessions, being open itself.
    open: bool,
    /// By voucher and admitted device; each was checked.
    vouches: BTreeMap<(DeviceId, DeviceId), Vouch>,
    /// Everybody reachable from `me` with their names, without `me`.
    accepted: BTreeMap<DeviceId, Name>,
    /// Only in the copy that [`SessionGroup::along`] plays with: a device that counts as accepted.
    newcomer: Option<DeviceId>,
}

impl SessionGroup {
    /// The group of this device alone. `open` tells whether it admits whoever comes (`--open`), and so
    /// follows the vouches of others that do.
    #[must_use]
    pub fn new(topic: Topic, me: DeviceId, open: bool) -> Self {
        Self {
            topic,
            me,
            open,
            vouches: BTreeMap::new(),
            accepted: BTreeMap::new(),
            newcomer: None,
        }
    }

    /// Everybody accepted, without this device: at most [`MAX_MEMBERS`] − 1.
    #[must_use]
    pub fn accepted(&self) -> &BTreeMap<DeviceId, Name> {
        &self.accepted
    }

    /// True if this device accepts that one.
    #[must_use]
    pub fn accepts(&self, device: &DeviceId) -> bool {
        self.accepted.contains_key(device)
    }

    /// True if no further device fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.accepted.len() + 1 >= MAX_MEMBERS
    }

    /// All vouches held.
    #[must_use]
    pub fn vouches(&self) -> Vec<Vouch> {
        self.vouches.values().cloned().collect()
    }

    /// Takes in vouches: those that are valid, made by this device or by somebody it accepts (perhaps
    /// by the same vouches), and within bounds. Returns those that are new, to be passed on.
    pub fn add(&mut self, vouches: &[Vouch]) -> Vec<Vouch> {
        let mut new = Vec::new();
        let mut rest: Vec<&Vouch> = vouches
            .iter()
            .filter(|vouch| !self.vouches.contains_key(&(vouch.voucher, vouch.admitted)))
            .collect();
        // A vouch may make the author of another one accepted, so go on until nothing moves. A
        // signature is checked at most once, and only if its author counts.
        loop {
            let (ready, waiting): (Vec<&Vouch>, Vec<&Vouch>) =
                rest.into_iter().partition(|vouch| self.counts(&vouch.voucher));
            if ready.is_empty() {
                return new;
            }
            for vouch in ready {
                let key = (vouch.voucher, vouch.admitted);
                if self.vouches.len() < MAX_VOUCHES
                    && vouch.voucher != vouch.admitted
                    && !self.vouches.contains_key(&key)
                    && vouch.holds(&self.topic)
                {
                    self.vouches.insert(key, vouch.clone());
                    new.push(vouch.clone());
                }
            }
            self.resolve();
            rest = waiting;
        }
    }

    /// Who else would be accepted, were `newcomer` accepted and `theirs` the vouches it brings.
    #[must_use]
    pub fn along(&self, newcomer: DeviceId, theirs: &[Vouch]) -> Vec<(DeviceId, Name)> {
        let mut group = self.clone();
        group.newcomer = Some(newcomer);
        group.resolve();
        group.add(theirs);
        group
            .accepted
            .into_iter()
            .filter(|(device, _)| *device != newcomer && !self.accepts(device))
            .collect()
    }

    /// The vouches that show `me` and those it accepts to somebody who does not know them yet: one for
    /// each device that is reachable from here, and all that admit this device. At most
    /// 2 × [`MAX_MEMBERS`].
    #[must_use]
    pub fn introduction(&self) -> Vec<Vouch> {
        let mut shown: BTreeMap<(DeviceId, DeviceId), &Vouch> = BTreeMap::new();
        for vouch in self.tree() {
            shown.insert((vouch.voucher, vouch.admitted), vouch);
        }
        let admitting = self.vouches.iter().filter(|((_, admitted), _)| *admitted == self.me);
        for (key, vouch) in admitting.take(MAX_MEMBERS) {
            shown.insert(*key, vouch);
        }
        shown.into_values().cloned().collect()
    }

    fn counts(&self, voucher: &DeviceId) -> bool {
        *voucher == self.me || self.newcomer == Some(*voucher) || self.accepts(voucher)
    }

    fn resolve(&mut self) {
        let reached: BTreeMap<_, _> =
            self.tree().into_iter().map(|vouch| (vouch.admitted, vouch.name.clone())).collect();
        self.accepted = reached;
    }

    /// The vouches by which each reachable device is first reached: breadth first, ties by id.
    fn tree(&self) -> Vec<&Vouch> {
        let mut by_voucher: BTreeMap<DeviceId, Vec<&Vouch>> = BTreeMap::new();
        for vouch in self.vouches.values() {
            if vouch.voucher == self.me || self.open || vouch.ground != Ground::Open {
                by_voucher.entry(vouch.voucher).or_default().push(vouch);
            }
        }
        let mut queue: VecDeque<DeviceId> = [self.me].into_iter().chain(self.newcomer).collect();
        let mut seen: BTreeSet<DeviceId> = queue.iter().copied().collect();
        let mut tree = Vec::new();
        while let Some(voucher) = queue.pop_front() {
            for vouch in by_voucher.get(&voucher).into_iter().flatten() {
                if seen.len() < MAX_MEMBERS && seen.insert(vouch.admitted) {
                    queue.push_back(vouch.admitted);
                    tree.push(*vouch);
                }
            }
        }
        tree
    }
}
