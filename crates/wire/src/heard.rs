//! What a member of a group says it has heard of in a folder (rule E4): a signed statement that other members
//! keep and pass on as it is. By it deletions that everybody has known for long are forgotten.

use bytes::Bytes;
use identity::DeviceId;
use prost::Message as _;

use crate::{
    Hash, WireError,
    record::BatchScope,
    version::{ReplicaId, VersionVector},
};

/// Longest statement in bytes: three full version vectors.
pub const MAX_STATEMENT: usize = 64 * 1024;

const CONTEXT: &str = "kinfold 2026-11 heard";

/// What a member says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Statement {
    /// Which replica of the folder it has.
    pub replica: u64,
    /// Counts its statements: the one with the highest number holds.
    pub number: u64,
    /// Of these replicas it knows everything up to these counters, or what came in its place.
    pub known: VersionVector,
    /// The same, as it was 400 days ago.
    pub aged: VersionVector,
    /// What it takes to be known to all members for 400 days: deletions up to there it has forgotten.
    pub horizon: VersionVector,
}

/// A [`Statement`] with the bytes that were signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Who says it.
    pub author: DeviceId,
    /// Ed25519 signature over [`digest`].
    pub signature: [u8; 64],
    /// What it says.
    pub statement: Statement,
    /// The bytes as its author wrote them.
    pub bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbStatement {
    #[prost(fixed64, tag = "1")]
    replica: u64,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(fixed64, repeated, tag = "3")]
    known: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    known_counters: Vec<u64>,
    #[prost(fixed64, repeated, tag = "5")]
    aged: Vec<u64>,
    #[prost(uint64, repeated, tag = "6")]
    aged_counters: Vec<u64>,
    #[prost(fixed64, repeated, tag = "7")]
    horizon: Vec<u64>,
    #[prost(uint64, repeated, tag = "8")]
    horizon_counters: Vec<u64>,
}

fn split(vector: &VersionVector) -> (Vec<u64>, Vec<u64>) {
    vector.entries().iter().map(|entry| (entry.0.0, entry.1)).unzip()
}

fn vector(
    replicas: Vec<u64>,
    counters: Vec<u64>,
    field: &'static str,
) -> Result<VersionVector, WireError> {
    if replicas.len() != counters.len() {
        return Err(WireError::field(field, "as many counters as replicas are needed"));
    }
    let entries = replicas.into_iter().map(ReplicaId).zip(counters).collect();
    VersionVector::from_entries(entries).ok_or(WireError::field(field, "unsorted or out of bounds"))
}

impl Statement {
    /// The bytes that are signed.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (known, known_counters) = split(&self.known);
        let (aged, aged_counters) = split(&self.aged);
        let (horizon, horizon_counters) = split(&self.horizon);
        let (replica, number) = (self.replica, self.number);
        let pb = PbStatement {
            replica,
            number,
            known,
            known_counters,
            aged,
            aged_counters,
            horizon,
            horizon_counters,
        };
        pb.encode_to_vec().into()
    }

    /// Reads and checks a statement.
    ///
    /// # Errors
    /// Says which field breaks which bound.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        if bytes.len() > MAX_STATEMENT {
            return Err(WireError::TooLarge {
                len: bytes.len() as u64,
                limit: MAX_STATEMENT as u64,
            });
        }
        let pb = PbStatement::decode(bytes.clone())?;
        Ok(Self {
            replica: pb.replica,
            number: pb.number,
            known: vector(pb.known, pb.known_counters, "known")?,
            aged: vector(pb.aged, pb.aged_counters, "aged")?,
            horizon: vector(pb.horizon, pb.horizon_counters, "horizon")?,
        })
    }
}

/// The 32 bytes that a statement's author signs.
#[must_use]
pub fn digest(scope: &BatchScope, author: &DeviceId, statement: &[u8]) -> Hash {
    Hash::derived(CONTEXT, &[&scope.group.0, &scope.folder.0, &author.0, statement])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::version::Dot;

    fn any_vector() -> impl Strategy<Value = VersionVector> {
        proptest::collection::btree_map(any::<u64>(), 1u64..1 << 48, 0..5).prop_map(|entries| {
            let entries = entries.into_iter().map(|(id, counter)| (ReplicaId(id), counter));
            VersionVector::from_entries(entries.collect()).expect("sorted")
        })
    }

    proptest! {
        #[test]
        fn statements_round_trip(
            replica in any::<u64>(), number in any::<u64>(),
            known in any_vector(), aged in any_vector(), horizon in any_vector(),
        ) {
            let statement = Statement { replica, number, known, aged, horizon };
            prop_assert_eq!(Statement::decode(&statement.encode()), Ok(statement));
        }

        #[test]
        fn any_bytes_are_a_statement_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Statement::decode(&bytes.into());
        }
    }

    #[test]
    fn three_full_vectors_fit_and_more_do_not() {
        let mut full = VersionVector::new();
        for replica in 0..1024 {
            full.add(Dot { replica: ReplicaId(replica), counter: 1 << 48 });
        }
        let (known, aged, horizon) = (full.clone(), full.clone(), full);
        let statement = Statement { replica: u64::MAX, number: u64::MAX, known, aged, horizon };
        assert_eq!(Statement::decode(&statement.encode()), Ok(statement));
        let long = Bytes::from(vec![0; MAX_STATEMENT + 1]);
        assert!(matches!(Statement::decode(&long), Err(WireError::TooLarge { .. })));
    }
}
