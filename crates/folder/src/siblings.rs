//! What is known of one path: the set of its maximal concurrent records (rules E2, E3, E5).
//!
//! Merging is set union followed by [`reduce`], signed by nobody; the order in which records arrive
//! does not matter. Which of several records the tree shows is [`Siblings::winner`], a total order
//! that no clock enters.

use wire::{
    record::{Body, SignedRecord},
    version::VersionVector,
};

/// Most concurrent records kept for one path. More can only come from a hostile or broken device; the
/// lowest in the winner's order are dropped, the same everywhere.
pub const MAX_SIBLINGS: usize = 32;

/// The maximal concurrent records of one path, sorted by hash. May be empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Siblings(Vec<SignedRecord>);

impl Siblings {
    /// The state that a set of records, in any order and with any number of repetitions, adds up to.
    #[must_use]
    pub fn of(records: Vec<SignedRecord>) -> Self {
        Self(reduce(records))
    }

    /// Adds a record; false if it tells nothing new.
    pub fn learn(&mut self, record: SignedRecord) -> bool {
        if self.0.iter().any(|known| known.hash == record.hash) {
            return false;
        }
        let mut records = self.0.clone();
        records.push(record);
        let reduced = reduce(records);
        let news = reduced != self.0;
        self.0 = reduced;
        news
    }

    /// The records, sorted by hash.
    #[must_use]
    pub fn records(&self) -> &[SignedRecord] {
        &self.0
    }

    /// The record that the tree shows; `None` if nothing is known.
    #[must_use]
    pub fn winner(&self) -> Option<&SignedRecord> {
        let standing = self.0.iter().filter(|record| !self.is_outdated(record));
        standing.max_by_key(|record| rank(record)).or_else(|| self.0.iter().max_by_key(|r| rank(r)))
    }

    /// True if the tree should show something.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.winner().is_some_and(|winner| winner.record.body.is_live())
    }

    /// Everything that any of the records has seen.
    #[must_use]
    pub fn joined(&self) -> VersionVector {
        let mut joined = VersionVector::new();
        for known in &self.0 {
            joined.join(&known.record.version);
        }
        joined
    }

    /// Everything that any of the records has seen which say no contents.
    #[must_use]
    pub fn joined_but_contents(&self) -> VersionVector {
        let mut joined = VersionVector::new();
        for known in self.0.iter().filter(|known| !known.record.body.has_contents()) {
            joined.join(&known.record.version);
        }
        joined
    }

    /// True if `loser` is an edit that nobody has seen who wrote the winner, nor the other way round, so
    /// that its contents are kept in a conflict copy (rule E3).
    #[must_use]
    pub fn is_conflict(&self, loser: &SignedRecord) -> bool {
        self.winner().is_some_and(|winner| conflicting(winner, loser)) && !self.is_outdated(loser)
    }

    /// The record, if any, that says what a file or link with these contents is.
    #[must_use]
    pub fn with_contents(&self, body: &Body) -> Option<&SignedRecord> {
        let same = self.0.iter().filter(|known| known.record.body.same_contents(body));
        same.max_by_key(|record| rank(record))
    }

    /// A record whose contents another's author had seen and replaced: only its metadata is news, and
    /// that never beats a content change or a delete (rule E3).
    fn is_outdated(&self, record: &SignedRecord) -> bool {
        let this = &record.record;
        this.body.is_live()
            && self.0.iter().any(|other| {
                let other = &other.record;
                !this.body.same_contents(&other.body)
                    && other.version.has_seen(this.content_dot)
                    && !this.version.has_seen(other.content_dot)
            })
    }
}

fn conflicting(winner: &SignedRecord, loser: &SignedRecord) -> bool {
    let (winner, loser) = (&winner.record, &loser.record);
    loser.body.has_contents()
        && !loser.body.same_contents(&winner.body)
        // One replica that said two things with one counter has had two lives (rule E1): neither saw the other.
        && (winner.content_dot == loser.content_dot
            || !winner.version.has_seen(loser.content_dot)
                && !loser.version.has_seen(winner.content_dot))
}

/// The winner's order: a directory beats a file or link, which beat a deletion; then contents, replica
/// and counter decide. The hash makes the order total.
fn rank(record: &SignedRecord) -> (u8, [u8; 32], u64, u64, [u8; 32]) {
    let kind = match record.record.body {
        Body::Tombstone { .. } => 0,
        Body::File { .. } | Body::Symlink { .. } => 1,
        Body::Dir => 2,
    };
    let dot = record.record.dot;
    (kind, record.record.body.content().0, dot.replica.0, dot.counter, record.hash.0)
}

/// Keeps what no other record has seen, and drops what was found without any history and has contents that
/// are known: to be old (rule E5), or that somebody who knew the history has put there, perhaps again. Whoever
/// follows such a record drops it too, so that it does not matter which of them is met.
fn reduce(mut records: Vec<SignedRecord>) -> Vec<SignedRecord> {
    records.sort_unstable_by_key(|record| record.hash);
    records.dedup_by_key(|record| record.hash);
    if records.len() > 1 {
        let seen_by_another = |record: &SignedRecord| {
            let version = &record.record.version;
            records.iter().any(|other| {
                other.record.version != *version && other.record.version.covers(version)
            })
        };
        let maximal: Vec<_> =
            records.iter().filter(|record| !seen_by_another(record)).cloned().collect();
        let is_old = |record: &SignedRecord| {
            let content = record.record.body.content();
            record.record.found && record.record.body.is_live() && maximal.iter().any(|other| {
                let other = &other.record;
                !other.found
                    && (other.body.same_contents(&record.record.body)
                        || other.superseded.contains(&content.short())
                        || matches!(other.body, Body::Tombstone { deleted } if deleted == content))
            })
        };
        records = maximal.iter().filter(|record| !is_old(record)).cloned().collect();
    }
    if records.len() > MAX_SIBLINGS {
        records.sort_unstable_by_key(|record| std::cmp::Reverse(rank(record)));
        records.truncate(MAX_SIBLINGS);
        records.sort_unstable_by_key(|record| record.hash);
    }
    records
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use wire::{
        Hash, RelPath,
        record::Record,
        version::{Dot, ReplicaId},
    };

    use super::*;

    /// Records as honest and hostile devices might write them: small vectors that often meet.
    pub(crate) fn record() -> impl Strategy<Value = SignedRecord> {
        let body = prop_oneof![
            4 => (0u8..4).prop_map(|n| Body::File { size: 1, content: Hash([n; 32]) }),
            1 => Just(Body::Dir),
            1 => (0u8..3).prop_map(|n| Body::Symlink { target: n.to_string() }),
            2 => (0u8..4).prop_map(|n| Body::Tombstone { deleted: Hash([n; 32]) }),
        ];
        let version = proptest::collection::btree_map(0u64..4, 1u64..4, 1..4);
        let superseded = proptest::collection::vec((0u8..4).prop_map(|n| [n; 16]), 0..3);
        let pick = any::<prop::sample::Index>();
        (body, version, superseded, any::<bool>(), pick.clone(), pick, 0u32..2).prop_map(
            |(body, version, superseded, found, author, seen, mode)| {
                let entries: Vec<_> =
                    version.into_iter().map(|(id, counter)| (ReplicaId(id), counter)).collect();
                let (replica, counter) = entries[author.index(entries.len())];
                let content = entries[seen.index(entries.len())];
                Record {
                    path: RelPath::parse("p").expect("valid"),
                    body,
                    mode,
                    mtime: 0,
                    dot: Dot { replica, counter },
                    content_dot: Dot { replica: content.0, counter: content.1 },
                    version: VersionVector::from_entries(entries).expect("sorted"),
                    superseded,
                    found,
                }
                .seal()
            },
        )
    }

    fn file(content: u8, entries: &[(u64, u64)], content_dot: (u64, u64)) -> SignedRecord {
        body(Body::File { size: 1, content: Hash([content; 32]) }, entries, content_dot)
    }

    fn body(body: Body, entries: &[(u64, u64)], content_dot: (u64, u64)) -> SignedRecord {
        let entries: Vec<_> = entries.iter().map(|&(id, n)| (ReplicaId(id), n)).collect();
        let (replica, counter) = entries[entries.len() - 1];
        Record {
            path: RelPath::parse("p").expect("valid"),
            body,
            mode: 0o644,
            mtime: 0,
            dot: Dot { replica, counter },
            content_dot: Dot { replica: ReplicaId(content_dot.0), counter: content_dot.1 },
            version: VersionVector::from_entries(entries).expect("sorted"),
            superseded: Vec::new(),
            found: false,
        }
        .seal()
    }

    proptest! {
        #[test]
        fn e2_the_set_of_records_decides_not_their_order(
            records in proptest::collection::vec(record(), 1..7), seed in any::<u64>(),
        ) {
            let whole = Siblings::of(records.clone());
            let mut shuffled = records.clone();
            let len = shuffled.len();
            for n in 0..len {
                let other = usize::try_from(seed.rotate_left(u32::try_from(n * 7).unwrap()) % len as u64).unwrap();
                shuffled.swap(n, other);
            }
            shuffled.extend(records);
            prop_assert_eq!(&Siblings::of(shuffled), &whole);
            prop_assert_eq!(Siblings::of(whole.records().to_vec()), whole);
        }

        #[test]
        fn winner_is_a_total_order(a in record(), b in record(), c in record()) {
            let (ra, rb, rc) = (rank(&a), rank(&b), rank(&c));
            prop_assert_eq!(ra == rb, a.hash == b.hash);
            prop_assert_eq!(ra < rb, rb > ra);
            if ra <= rb && rb <= rc {
                prop_assert!(ra <= rc);
            }
        }

        #[test]
        fn there_is_a_winner_whatever_arrives(records in proptest::collection::vec(record(), 1..7)) {
            let siblings = Siblings::of(records);
            let winner = siblings.winner().expect("not empty");
            prop_assert!(siblings.records().contains(winner));
        }

        #[test]
        fn learning_what_is_known_changes_nothing(records in proptest::collection::vec(record(), 1..7)) {
            let mut siblings = Siblings::of(records);
            let before = siblings.clone();
            for record in before.records() {
                prop_assert!(!siblings.learn(record.clone()));
            }
            prop_assert_eq!(siblings, before);
        }
    }

    #[test]
    fn edit_beats_delete_but_metadata_does_not() {
        let delete = body(Body::Tombstone { deleted: Hash([1; 32]) }, &[(1, 1), (2, 1)], (2, 1));
        let edit = file(2, &[(1, 1), (3, 1)], (3, 1));
        assert_eq!(Siblings::of(vec![delete.clone(), edit.clone()]).winner(), Some(&edit));
        let touched = file(1, &[(1, 1), (3, 1)], (1, 1));
        assert_eq!(Siblings::of(vec![delete.clone(), touched]).winner(), Some(&delete));
    }

    #[test]
    fn e1_one_counter_for_two_contents_is_a_conflict() {
        let one = file(1, &[(1, 1)], (1, 1));
        let other = file(2, &[(1, 1)], (1, 1));
        let siblings = Siblings::of(vec![one.clone(), other.clone()]);
        assert_eq!(siblings.records().len(), 2);
        let winner = siblings.winner().cloned();
        let loser = if winner.as_ref() == Some(&one) { other } else { one };
        assert!(siblings.is_conflict(&loser), "neither life saw the other's");
    }

    #[test]
    fn e3_metadata_loses_to_contents_without_a_conflict() {
        let touched = file(9, &[(1, 1), (3, 1)], (1, 1));
        let edit = file(1, &[(1, 1), (2, 1)], (2, 1));
        let siblings = Siblings::of(vec![touched.clone(), edit.clone()]);
        assert_eq!(siblings.winner(), Some(&edit));
        assert!(!siblings.is_conflict(&touched));
    }

    #[test]
    fn e2_equal_contents_are_no_conflict_and_different_ones_are() {
        let (one, same, other) =
            (file(1, &[(1, 1)], (1, 1)), file(1, &[(2, 1)], (2, 1)), file(3, &[(3, 1)], (3, 1)));
        let siblings = Siblings::of(vec![one.clone(), same]);
        assert!(siblings.records().iter().all(|record| !siblings.is_conflict(record)));
        let siblings = Siblings::of(vec![one.clone(), other.clone()]);
        assert_eq!(siblings.winner(), Some(&other));
        assert!(siblings.is_conflict(&one));
    }

    #[test]
    fn e1_equal_vectors_with_different_content_are_concurrent() {
        let (one, other) = (file(1, &[(1, 1)], (1, 1)), file(2, &[(1, 1)], (1, 1)));
        assert_eq!(Siblings::of(vec![one, other]).records().len(), 2);
    }

    #[test]
    fn e5_a_found_file_with_old_contents_follows_the_newer_state() {
        let mut found = file(1, &[(5, 1)], (5, 1)).record;
        found.found = true;
        let found = found.seal();
        let delete = body(Body::Tombstone { deleted: Hash([1; 32]) }, &[(1, 1), (2, 1)], (2, 1));
        assert_eq!(Siblings::of(vec![found.clone(), delete.clone()]).records(), &[delete]);
        let mut newer = file(2, &[(1, 2)], (1, 2)).record;
        newer.superseded = vec![[1; 16]];
        let newer = newer.seal();
        assert_eq!(Siblings::of(vec![found.clone(), newer.clone()]).records(), &[newer]);
        let unrelated = file(3, &[(1, 2)], (1, 2));
        assert_eq!(Siblings::of(vec![found, unrelated]).records().len(), 2);
    }
}
