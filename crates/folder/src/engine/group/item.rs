//! One change on its way to the disk.

use wire::{RelPath, record::SignedRecord};

use crate::{
    engine::AppliedKind,
    index::{Here, Intent},
    jobs::{Change, Expected, StagedFrom, What},
};

/// A change on its way to the disk, and what the index is to say once it is there.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) change: Change,
    pub(super) intent: Option<Intent>,
    pub(super) then: Then,
}

#[derive(Clone, Debug)]
pub(super) enum Then {
    Placed { record: SignedRecord, kind: AppliedKind, copy: Option<(RelPath, SignedRecord)> },
    Dir { record: Option<SignedRecord>, copy: Option<(RelPath, SignedRecord)> },
    Meta { record: Option<SignedRecord> },
    Removed,
    DirRemoved,
}

impl Then {
    /// Where what makes room goes under another name.
    pub(super) fn copy(&self) -> Option<&RelPath> {
        match self {
            Self::Placed { copy, .. } | Self::Dir { copy, .. } => copy.as_ref().map(|(at, _)| at),
            Self::Meta { .. } | Self::Removed | Self::DirRemoved => None,
        }
    }
}

/// Bytes of contents that a change keeps in memory.
pub(super) fn held_by(change: &Change) -> usize {
    match &change.what {
        What::Place { from: StagedFrom::Bytes(bytes), .. } => bytes.len(),
        _ => 0,
    }
}

/// What the disk must still hold for an apply to go ahead (rule E13).
pub(super) fn expected(here: &Here) -> Expected {
    Expected { stat: here.stat, content: here.content.filter(|_| here.racy) }
}
