//! Signatures that list records, kept in groups that outlive a run (rules E6 and T15): who may write can
//! change, so a device remembers whose word each record has, and can pass that word on.

use bytes::Bytes;
use identity::DeviceId;
use wire::{Hash, record::merkle_path, sync::Proof};

use super::IndexError;

/// A signature over the Merkle root of some records' hashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    /// Who signed.
    pub author: DeviceId,
    /// The signature, as it came.
    pub signature: [u8; 64],
    /// What it lists.
    pub lists: Lists,
}

/// What a [`Seal`] lists, as far as that came here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lists {
    /// The hashes of all records of the batch, in order.
    Whole(Vec<Hash>),
    /// One record, with the way to the root.
    One(Proof),
}

/// A seal that lists a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The seal's number in this index.
    pub seal: u64,
    /// The record's place in the batch.
    pub place: u32,
    /// Who signed.
    pub author: DeviceId,
}

impl Seal {
    /// Shows that the record at a place belongs to the batch.
    #[must_use]
    pub fn proof(&self, place: u32) -> Proof {
        match &self.lists {
            Lists::One(proof) => proof.clone(),
            Lists::Whole(leaves) => Proof {
                index: place,
                count: u32::try_from(leaves.len()).unwrap_or(u32::MAX),
                path: merkle_path(leaves, place as usize),
            },
        }
    }

    /// What it lists, as the index keeps it: index and count for a single record, zeros for a whole batch,
    /// and then hashes.
    pub(super) fn pack(&self) -> Vec<u8> {
        let (index, count, hashes) = match &self.lists {
            Lists::Whole(leaves) => (0, 0, leaves),
            Lists::One(proof) => (proof.index, proof.count, &proof.path),
        };
        let mut bytes = [index.to_le_bytes(), count.to_le_bytes()].concat();
        bytes.extend(hashes.iter().flat_map(|hash| hash.0));
        bytes
    }

    /// Reads what [`Seal::pack`] wrote.
    pub(super) fn unpack(
        author: &[u8],
        signature: &[u8],
        lists: &Bytes,
    ) -> Result<Self, IndexError> {
        let damaged = || IndexError::Corrupt("a signature in it makes no sense".into());
        let number = |at: usize| {
            let bytes = lists.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let (index, count) = number(0).zip(number(4)).ok_or_else(damaged)?;
        let (hashes, rest) = lists.get(8..).unwrap_or_default().as_chunks::<32>();
        if !rest.is_empty() {
            return Err(damaged());
        }
        let hashes = hashes.iter().map(|hash| Hash(*hash)).collect();
        let lists = match count {
            0 => Lists::Whole(hashes),
            _ => Lists::One(Proof { index, count, path: hashes }),
        };
        Ok(Self {
            author: DeviceId(author.try_into().map_err(|_| damaged())?),
            signature: signature.try_into().map_err(|_| damaged())?,
            lists,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn hashes() -> impl Strategy<Value = Vec<Hash>> {
        vec(any::<[u8; 32]>().prop_map(Hash), 0..9)
    }

    proptest! {
        #[test]
        fn seals_round_trip(hashes in hashes(), one in any::<bool>(), index in any::<u32>(), byte in any::<u8>()) {
            let lists = if one {
                Lists::One(Proof { index, count: 7, path: hashes })
            } else {
                Lists::Whole(hashes)
            };
            let seal = Seal { author: DeviceId([byte; 32]), signature: [byte; 64], lists };
            let read = Seal::unpack(&seal.author.0, &seal.signature, &seal.pack().into());
            prop_assert_eq!(read.expect("just packed"), seal);
        }

        #[test]
        fn any_bytes_are_a_seal_or_refused(author in vec(any::<u8>(), 0..40), lists in vec(any::<u8>(), 0..200)) {
            let fits = author.len() == 32 && lists.len() >= 8 && lists.len() % 32 == 8;
            prop_assert_eq!(Seal::unpack(&author, &[0; 64], &lists.into()).is_ok(), fits);
        }
    }
}
