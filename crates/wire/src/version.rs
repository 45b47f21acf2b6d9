//! Version vectors: what a change has seen, without clocks.

use std::cmp::Ordering;

/// Largest counter a vector entry may hold (rule E6).
pub const MAX_COUNTER: u64 = 1 << 48;
/// Most entries a vector may have (rule E6).
pub const MAX_ENTRIES: usize = 1024;

/// One index of one folder on one device (rule E1): random, made with the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaId(pub u64);

/// One change: the replica that made it and that replica's counter at the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dot {
    /// Who made the change.
    pub replica: ReplicaId,
    /// The replica's counter, from 1.
    pub counter: u64,
}

/// For each replica, the highest counter seen. Entries are sorted by replica and never zero, and never more
/// than [`MAX_ENTRIES`].
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct VersionVector(Vec<(ReplicaId, u64)>);

impl VersionVector {
    /// The vector of somebody who has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes entries that are strictly sorted by replica with counters from 1 to [`MAX_COUNTER`], at
    /// most [`MAX_ENTRIES`] of them.
    #[must_use]
    pub fn from_entries(entries: Vec<(ReplicaId, u64)>) -> Option<Self> {
        let sorted = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let bounded = entries.iter().all(|entry| (1..=MAX_COUNTER).contains(&entry.1));
        (sorted && bounded && entries.len() <= MAX_ENTRIES).then_some(Self(entries))
    }

    /// The entries, sorted by replica.
    #[must_use]
    pub fn entries(&self) -> &[(ReplicaId, u64)] {
        &self.0
    }

    /// The highest counter seen of `replica`; 0 if none.
    #[must_use]
    pub fn counter(&self, replica: ReplicaId) -> u64 {
        self.0.binary_search_by_key(&replica, |entry| entry.0).map_or(0, |at| self.0[at].1)
    }

    /// True if this vector has seen the change `dot`.
    #[must_use]
    pub fn has_seen(&self, dot: Dot) -> bool {
        self.counter(dot.replica) >= dot.counter
    }

    /// Adds a change to what has been seen. In a full vector another replica is forgotten for it, the one
    /// with the lowest counter: to have seen less makes changes concurrent, and loses none.
    pub fn add(&mut self, dot: Dot) {
        match self.0.binary_search_by_key(&dot.replica, |entry| entry.0) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(dot.counter),
            Err(_) if self.0.len() >= MAX_ENTRIES => {
                let lowest = self.0.iter().enumerate().min_by_key(|(_, entry)| entry.1);
                if let Some((lowest, _)) = lowest {
                    self.0.remove(lowest);
                }
                self.add(dot);
            }
            Err(at) => self.0.insert(at, (dot.replica, dot.counter)),
        }
    }

    /// Adds all that `other` has seen.
    pub fn join(&mut self, other: &Self) {
        for &(replica, counter) in &other.0 {
            self.add(Dot { replica, counter });
        }
    }

    /// Has seen no change of `replica` after `counter` any more.
    pub fn lower(&mut self, replica: ReplicaId, counter: u64) {
        if let Ok(at) = self.0.binary_search_by_key(&replica, |entry| entry.0) {
            if counter == 0 {
                self.0.remove(at);
            } else {
                self.0[at].1 = self.0[at].1.min(counter);
            }
        }
    }

    /// True if everything `other` has seen is seen here too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|&(replica, counter)| self.counter(replica) >= counter)
    }

    /// `Less` if the other has seen all of this and more, `None` if the two are concurrent.
    #[must_use]
    pub fn causal_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.covers(other), other.covers(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Greater),
            (false, true) => Some(Ordering::Less),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector() -> impl Strategy<Value = VersionVector> {
        proptest::collection::vec((0u64..6, 1u64..5), 0..6).prop_map(|dots| {
            let mut vector = VersionVector::new();
            for (replica, counter) in dots {
                vector.add(Dot { replica: ReplicaId(replica), counter });
            }
            vector
        })
    }

    proptest! {
        #[test]
        fn what_is_lowered_has_seen_the_rest(vector in vector(), replica in 0u64..6, counter in 0u64..5) {
            let mut lowered = vector.clone();
            lowered.lower(ReplicaId(replica), counter);
            prop_assert!(VersionVector::from_entries(lowered.entries().to_vec()).is_some());
            for it in (0..6).map(ReplicaId) {
                let most = if it.0 == replica { counter } else { u64::MAX };
                prop_assert_eq!(lowered.counter(it), vector.counter(it).min(most));
            }
        }

        #[test]
        fn join_is_the_least_upper_bound(a in vector(), b in vector(), c in vector()) {
            let mut ab = a.clone();
            ab.join(&b);
            let mut ba = b.clone();
            ba.join(&a);
            prop_assert_eq!(&ab, &ba);
            prop_assert!(ab.covers(&a) && ab.covers(&b));
            if c.covers(&a) && c.covers(&b) {
                prop_assert!(c.covers(&ab));
            }
            prop_assert!(VersionVector::from_entries(ab.entries().to_vec()).is_some());
        }

        #[test]
        fn causal_order_is_antisymmetric(a in vector(), b in vector()) {
            prop_assert_eq!(a.causal_cmp(&b), b.causal_cmp(&a).map(Ordering::reverse));
            prop_assert_eq!(a.causal_cmp(&b) == Some(Ordering::Equal), a == b);
        }
    }

    #[test]
    fn e6_bounds_of_vectors() {
        let entry = |replica, counter| (ReplicaId(replica), counter);
        assert!(VersionVector::from_entries(vec![entry(1, MAX_COUNTER)]).is_some());
        assert!(VersionVector::from_entries(vec![entry(1, MAX_COUNTER + 1)]).is_none());
        assert!(VersionVector::from_entries(vec![entry(1, 0)]).is_none());
        assert!(VersionVector::from_entries(vec![entry(2, 1), entry(1, 1)]).is_none());
        assert!(VersionVector::from_entries(vec![entry(1, 1), entry(1, 2)]).is_none());
        let many = (0..=1024).map(|replica| entry(replica, 1)).collect();
        assert!(VersionVector::from_entries(many).is_none());
    }

    /// A vector that another device filled up is no reason to make one that nobody takes.
    #[test]
    fn e6_a_full_vector_stays_in_bounds() {
        let full: Vec<_> = (0..1024).map(|replica| (ReplicaId(replica), 5 + replica % 3)).collect();
        let full = VersionVector::from_entries(full).expect("in bounds");
        let mut vector = full.clone();
        let dot = Dot { replica: ReplicaId(5000), counter: 1 };
        vector.add(dot);
        assert!(vector.has_seen(dot));
        assert_eq!(VersionVector::from_entries(vector.entries().to_vec()), Some(vector.clone()));
        vector.add(Dot { replica: ReplicaId(3), counter: 9 });
        assert_eq!(vector.counter(ReplicaId(3)), 9);
        vector.join(&full);
        assert_eq!(VersionVector::from_entries(vector.entries().to_vec()), Some(vector));
    }
}
