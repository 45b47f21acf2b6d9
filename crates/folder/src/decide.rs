//! Reconciling one path: what the tree should do about it, as a pure function of what is known, what is
//! here, and whether anything lives below.
//!
//! Nothing is looked up and nothing is done here. The engine carries the decision out and checks, at the
//! moment of the swap, that the disk still is what this function was told (rule E13).

use tree::FileKind;
use wire::{
    Hash,
    record::{Body, SignedRecord},
};

use crate::{index::Here, siblings::Siblings};

/// What to do about a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The tree shows what it should.
    Settled,
    /// The tree shows what it should; the index is to note that it does so for this reason.
    Adopt,
    /// Make a directory. `replacing`: a file or link is in its place, perhaps to be kept as a copy.
    MakeDir {
        /// Permission bits.
        mode: u32,
        /// True for one that exists only because something lives below it (rule E9).
        implied: bool,
        /// What is to become of a file or link that is there.
        keep: Keep,
    },
    /// Put the winner's file or link there, in place of the file or link that is there, if any.
    Place {
        /// What is to become of it.
        keep: Keep,
    },
    /// Same contents, other metadata.
    Meta,
    /// A directory that exists only because something lives below it gets these permission bits.
    ImpliedMode(u32),
    /// Move the file or link into history.
    Remove,
    /// Remove the directory, if it is empty.
    RemoveDir,
}

/// What becomes of a file or link that makes room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Its contents were seen by whoever replaced them: they go to history.
    History,
    /// It is an edit that lost: it becomes a conflict copy, named after this record.
    Copy(Box<SignedRecord>),
}

/// What the index says is at a path, in the words of a record.
#[must_use]
pub fn body_here(here: &Here) -> Body {
    match here.stat.kind {
        FileKind::Symlink => Body::Symlink { target: here.target.clone().unwrap_or_default() },
        FileKind::Dir => Body::Dir,
        FileKind::File | FileKind::Special | FileKind::MountPoint => {
            Body::File { size: here.stat.size, content: here.content.unwrap_or_default() }
        }
    }
}

/// Decides what to do about a path.
#[must_use]
pub fn decide(siblings: &Siblings, here: Option<&Here>, has_live_children: bool) -> Decision {
    let is_dir = here.is_some_and(|here| here.stat.kind == FileKind::Dir);
    let Some(winner) = siblings.winner() else {
        return match (has_live_children, here) {
            (true, None) => {
                Decision::MakeDir { mode: implied_mode(None), implied: true, keep: Keep::History }
            }
            (false, Some(here)) if is_dir && here.implied => Decision::RemoveDir,
            _ => Decision::Settled,
        };
    };
    if has_live_children && winner.record.body != Body::Dir {
        let mode = implied_mode(Some(winner));
        return match here {
            Some(here) if is_dir && here.stat.mode != mode => Decision::ImpliedMode(mode),
            Some(here) if is_dir && here.implied => Decision::Settled,
            Some(_) if is_dir => Decision::Adopt,
            _ => Decision::MakeDir { mode, implied: true, keep: keep(siblings, here, true) },
        };
    }
    let Some(here) = here else {
        return match &winner.record.body {
            Body::Tombstone { .. } => Decision::Settled,
            Body::Dir => {
                Decision::MakeDir { mode: winner.record.mode, implied: false, keep: Keep::History }
            }
            Body::File { .. } | Body::Symlink { .. } => Decision::Place { keep: Keep::History },
        };
    };
    let shown = here.shown == winner.hash.head() && !here.implied;
    match &winner.record.body {
        Body::Tombstone { .. } if is_dir => Decision::RemoveDir,
        Body::Tombstone { .. } => Decision::Remove,
        body if body_here(here).same_contents(body) => {
            let mtime_travels = *body != Body::Dir;
            if shown {
                Decision::Settled
            } else if (mtime_travels && here.stat.mtime != winner.record.mtime)
                || (here.stat.kind != FileKind::Symlink && here.stat.mode != winner.record.mode)
            {
                Decision::Meta
            } else {
                Decision::Adopt
            }
        }
        Body::Dir => Decision::MakeDir {
            mode: winner.record.mode,
            implied: false,
            keep: keep(siblings, Some(here), false),
        },
        Body::File { .. } | Body::Symlink { .. } if is_dir => Decision::RemoveDir,
        Body::File { .. } | Body::Symlink { .. } => {
            Decision::Place { keep: keep(siblings, Some(here), false) }
        }
    }
}

/// The mode of a directory that no record describes: that of the directory that was deleted there, or
/// one as open as the file that would be in its place, so that it is the same everywhere and opens
/// nothing that was closed.
pub(crate) fn implied_mode(winner: Option<&SignedRecord>) -> u32 {
    let Some(winner) = winner.map(|winner| &winner.record).filter(|record| record.mode != 0) else {
        return 0o755;
    };
    let was_dir = winner.body == Body::Tombstone { deleted: Hash::default() };
    if was_dir { winner.mode } else { winner.mode | (winner.mode & 0o444) >> 2 }
}

/// Only a device whose tree holds a losing edit makes its copy (rule E2).
fn keep(siblings: &Siblings, here: Option<&Here>, winner_makes_room: bool) -> Keep {
    let Some(body) = here.map(body_here) else { return Keep::History };
    let is_winner =
        |held: &SignedRecord| siblings.winner().is_some_and(|winner| winner.hash == held.hash);
    // Several records may say the same contents: one that nobody has seen is enough.
    let held = siblings.records().iter().find(|held| {
        held.record.body.same_contents(&body)
            && (siblings.is_conflict(held) || winner_makes_room && is_winner(held))
    });
    held.map_or(Keep::History, |held| Keep::Copy(Box::new(held.clone())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tree::Stat;
    use wire::{Hash, version::VersionVector};

    use super::*;
    use crate::siblings::tests::record;

    fn here(kind: FileKind) -> Here {
        let stat = Stat { kind, size: 0, mtime: 0, ctime: 0, inode: 1, mode: 0 };
        let base = VersionVector::new();
        Here {
            stat,
            content: None,
            target: None,
            base,
            shown: 0,
            content_dot: None,
            racy: false,
            implied: false,
        }
    }

    fn here_as(record: &SignedRecord) -> Option<Here> {
        let shown = record.hash.head();
        let record = &record.record;
        let mut here = match &record.body {
            Body::File { size, content } => {
                let mut here = here(FileKind::File);
                here.stat.size = *size;
                here.content = Some(*content);
                here
            }
            Body::Dir => here(FileKind::Dir),
            Body::Symlink { target } => {
                Here { target: Some(target.clone()), ..here(FileKind::Symlink) }
            }
            Body::Tombstone { .. } => return None,
        };
        here.stat.mtime = record.mtime;
        here.stat.mode = record.mode;
        here.base = record.version.clone();
        here.shown = shown;
        Some(here)
    }

    proptest! {
        #[test]
        fn reconcile_is_idempotent(records in proptest::collection::vec(record(), 1..6), held in record()) {
            let siblings = Siblings::of(records);
            let winner = siblings.winner().expect("not empty");
            // Whatever was here before, once the winner is shown nothing is left to do.
            let _ = decide(&siblings, here_as(&held).as_ref(), false);
            prop_assert_eq!(decide(&siblings, here_as(winner).as_ref(), false), Decision::Settled);
        }

        #[test]
        fn reconcile_does_not_depend_on_the_order_of_batches(
            mut records in proptest::collection::vec(record(), 1..6), held in record(), below in any::<bool>(),
        ) {
            let here = here_as(&held);
            let one = decide(&Siblings::of(records.clone()), here.as_ref(), below);
            records.reverse();
            prop_assert_eq!(decide(&Siblings::of(records), here.as_ref(), below), one);
        }

        #[test]
        fn an_edit_that_nobody_saw_is_kept(records in proptest::collection::vec(record(), 1..6), held in record()) {
            let mut all = records;
            all.push(held.clone());
            let siblings = Siblings::of(all);
            let Some(here) = here_as(&held) else { return Ok(()) };
            let decision = decide(&siblings, Some(&here), false);
            if siblings.records().contains(&held) && siblings.is_conflict(&held) {
                let kept = match &decision {
                    Decision::Place { keep } | Decision::MakeDir { keep, .. } => matches!(keep, Keep::Copy(_)),
                    _ => false,
                };
                prop_assert!(kept, "lost by {decision:?}");
            }
        }
    }

    #[test]
    fn e9_a_path_with_a_live_descendant_is_a_directory() {
        let made = decide(&Siblings::default(), None, true);
        assert_eq!(made, Decision::MakeDir { mode: 0o755, implied: true, keep: Keep::History });
        let implied = Here { implied: true, ..here(FileKind::Dir) };
        assert_eq!(decide(&Siblings::default(), Some(&implied), true), Decision::Settled);
        assert_eq!(decide(&Siblings::default(), Some(&implied), false), Decision::RemoveDir);
        let file = Here { content: Some(Hash([1; 32])), ..here(FileKind::File) };
        let dir = decide(&Siblings::default(), Some(&file), false);
        assert_eq!(dir, Decision::Settled, "what nobody knows of is left alone");
    }
}
