//! Attack 30 and rule E6 in groups: a writer that means harm claims to have seen what others have not said yet, or
//! speaks under their replica ids. Whose id it is takes another, and what it wrote stands beside the claim.

use sim::scenario::Scenario;
use wire::{
    Hash, RelPath,
    record::{Body, Record, SignedRecord},
    version::{Dot, MAX_COUNTER, ReplicaId, VersionVector},
};

use crate::SEEDS;

/// Who means harm has replica 66. It says that `a` has some contents, or is gone, having seen these changes.
fn claim(contents: Option<&[u8]>, by: Dot, seen: &[(ReplicaId, u64)]) -> SignedRecord {
    let mut version = VersionVector::new();
    version.add(by);
    for &(replica, counter) in seen {
        version.add(Dot { replica, counter });
    }
    let body = match contents {
        Some(contents) => Body::File { size: contents.len() as u64, content: Hash::of(contents) },
        None => Body::Tombstone { deleted: Hash::default() },
    };
    Record {
        path: RelPath::parse("a").expect("a path"),
        body,
        mode: 0o644,
        mtime: i64::MAX,
        version,
        dot: by,
        content_dot: by,
        superseded: Vec::new(),
        found: false,
    }
    .seal()
}

/// All contents, conflict copies included, of a device's tree.
fn texts(scenario: &Scenario, device: usize) -> Vec<String> {
    let paths = scenario.paths(device);
    paths.iter().filter_map(|path| scenario.text(device, path)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claim {
    /// A deletion that has seen all that anybody will ever write.
    SeenAll,
    /// A deletion under the id of the one who edits, a few counters ahead.
    AsAnother,
    /// The same counter that the edit will have.
    TheNext,
}

const CLAIMS: [Claim; 3] = [Claim::SeenAll, Claim::AsAnother, Claim::TheNext];

fn forged(scenario: &Scenario, which: Claim, victim: usize) -> SignedRecord {
    let theirs = Dot { replica: ReplicaId(66), counter: 1 };
    let ours = scenario.replica(victim).expect("runs");
    let all: Vec<_> =
        (0..2).filter_map(|device| Some((scenario.replica(device)?, MAX_COUNTER))).collect();
    match which {
        Claim::SeenAll => claim(None, theirs, &all),
        Claim::AsAnother => claim(None, Dot { replica: ours, counter: 40 }, &[]),
        Claim::TheNext => claim(None, Dot { replica: ours, counter: 2 }, &[]),
    }
}

/// The edit is made where the claim is not known yet; the claim is everywhere else.
#[test]
fn attack_30_an_edit_outlives_a_claim_to_have_seen_it_beforehand() {
    for seed in SEEDS {
        for which in CLAIMS {
            let mut scenario = Scenario::group(seed, 3, &[0, 1, 2]);
            scenario.write(0, "a", b"first");
            scenario.settle();
            let forged = forged(&scenario, which, 0);
            scenario.cut(0, 1);
            scenario.forge(2, 1, vec![forged]);
            scenario.run(5_000);
            scenario.write(0, "a", b"edited");
            scenario.run(5_000);
            scenario.link(0, 1);
            scenario.settle();
            for device in 0..3 {
                let texts = texts(&scenario, device);
                assert!(texts.contains(&"edited".into()), "{which:?} seed {seed}: {texts:?}");
                assert_eq!(scenario.tree(device), scenario.tree(0), "{which:?} seed {seed}");
            }
        }
    }
}

/// The claim comes to one device, the edit of another overtakes it or comes after it, in all orders.
#[test]
fn attack_30_edits_after_a_claim_count_everywhere() {
    for seed in SEEDS {
        for which in CLAIMS {
            for wait in [0, 2, 5, 20, 5_000] {
                let mut scenario = Scenario::group(seed, 3, &[0, 1, 2]);
                scenario.link(0, 2);
                scenario.write(0, "a", b"first");
                scenario.settle();
                let forged = forged(&scenario, which, 0);
                let first = forged.record.version.clone();
                scenario.forge(2, 1, vec![forged]);
                scenario.run(wait);
                for edit in [&b"edited"[..], b"edited again"] {
                    scenario.write(0, "a", edit);
                    scenario.settle();
                }
                for device in 0..3 {
                    let texts = texts(&scenario, device);
                    let is_there = texts.contains(&"edited again".into());
                    assert!(is_there, "{which:?} seed {seed} after {wait}: {device} {texts:?}");
                    assert_eq!(scenario.tree(device), scenario.tree(0), "{which:?} seed {seed}");
                }
                // Whose counters were claimed does not go on with them.
                let replica = scenario.replica(0).expect("runs");
                assert!(first.counter(replica) == 0, "{which:?} seed {seed} after {wait}");
            }
        }
    }
}

/// Whose counters are claimed is away for good: nothing that it gave to others is lost by it.
#[test]
fn attack_30_what_a_claim_replaces_stays_in_history() {
    for which in CLAIMS {
        let mut scenario = Scenario::group(3, 3, &[0, 1, 2]);
        scenario.write(0, "a", b"first");
        scenario.settle();
        let forged = forged(&scenario, which, 0);
        scenario.stop(0);
        scenario.forge(2, 1, vec![forged]);
        scenario.settle();
        for device in 1..3 {
            assert!(scenario.has(device, b"first"), "{which:?}: {device}");
        }
    }
}
