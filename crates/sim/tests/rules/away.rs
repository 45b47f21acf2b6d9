//! Attack 33 and rule E4 in a group: a device that comes back after a year, or from a backup, or as a copy, or
//! with its index wiped, brings back nothing that was deleted, and nothing of anybody is lost.

use folder::{engine::LocalKind, index::MemStore};
use sim::scenario::Scenario;

use crate::SEEDS;

const YEAR_MS: u64 = 400 * 24 * 60 * 60 * 1000;

/// How the third device comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Back {
    Away,
    /// With the index of the beginning, and the files that it had then.
    Restored,
    /// On another machine, with a copy of everything.
    Copied,
    Wiped,
}

/// What the third device may do when it is away, and when it comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Writer,
    Reader,
    Demoted,
}

/// Three devices of a group, of which the third has been away.
fn came_back(seed: u64, back: Back, role: Role) -> Scenario {
    let writers: &[usize] = if role == Role::Reader { &[0, 1] } else { &[0, 1, 2] };
    let mut scenario = Scenario::group(seed, 3, writers);
    for (path, text) in [("gone", "deleted meanwhile"), ("d/gone", "with its directory")] {
        scenario.write(0, path, text.as_bytes());
    }
    scenario.write(0, "changed", b"old");
    scenario.write(0, "edited", b"before");
    scenario.write(1, "kept", b"kept");
    scenario.settle();
    let backup = scenario.index(2).copy();
    if back == Back::Restored {
        scenario.write(0, "later", b"after the backup");
        scenario.write(2, "own", b"its own, after the backup");
        scenario.settle();
    }
    scenario.stop(2);
    scenario.remove(0, "gone");
    scenario.remove(0, "d/gone");
    scenario.remove(0, "d");
    scenario.write(1, "changed", b"new");
    scenario.write(1, "made", b"made meanwhile");
    scenario.settle();
    scenario.skip(YEAR_MS);
    scenario.settle();
    match back {
        Back::Away => {}
        Back::Restored => {
            scenario.put_index(2, backup);
            scenario.try_edit(2, &sim::history::Edit::Remove("later".to_owned()));
        }
        Back::Copied => scenario.move_machine(2),
        Back::Wiped => scenario.put_index(2, MemStore::new()),
    }
    scenario.write(2, "edited", b"edited far away");
    let writers: &[usize] = if role == Role::Writer { &[0, 1, 2] } else { &[0, 1] };
    scenario.all_hear(writers);
    scenario.start(2);
    scenario.settle();
    scenario
}

#[test]
fn attack_33_what_comes_back_brings_nothing_back_and_loses_nothing() {
    for back in [Back::Away, Back::Restored, Back::Copied, Back::Wiped] {
        for role in [Role::Writer, Role::Reader, Role::Demoted] {
            for seed in SEEDS {
                let mut scenario = came_back(seed, back, role);
                let case = format!("{back:?} {role:?} seed {seed}");
                for device in 0..3 {
                    let paths = scenario.paths(device);
                    for gone in ["gone", "d", "d/gone"] {
                        assert!(
                            !paths.iter().any(|path| path == gone),
                            "{case}: {device} {paths:?}"
                        );
                    }
                    assert_eq!(scenario.text(device, "changed").as_deref(), Some("new"), "{case}");
                    assert_eq!(scenario.text(device, "made").as_deref(), Some("made meanwhile"));
                    assert_eq!(scenario.text(device, "kept").as_deref(), Some("kept"), "{case}");
                }
                assert!(scenario.lost().is_empty(), "{case}: {:?}", scenario.lost());
                assert_eq!(scenario.tree(0), scenario.tree(1), "{case}");
                let texts = |device: usize| {
                    let paths = scenario.paths(device);
                    let texts = paths.iter().filter_map(|path| scenario.text(device, path));
                    texts.collect::<Vec<_>>()
                };
                let far = "edited far away".to_owned();
                assert!(texts(2).contains(&far), "{case}: {:?}", texts(2));
                assert_eq!(texts(0).contains(&far), role == Role::Writer, "{case}");
                if role == Role::Writer {
                    assert_eq!(scenario.tree(0), scenario.tree(2), "{case}");
                    continue;
                }
                let apart = scenario.local_changes(2);
                assert!(!apart.is_empty(), "{case}");
                let expected = [LocalKind::Edited, LocalKind::Added];
                assert!(apart.iter().all(|it| expected.contains(&it.1)), "{case}: {apart:?}");
                scenario.tell(2, folder::engine::Input::Revert { paths: Vec::new() });
                scenario.settle();
                assert_eq!(scenario.tree(0), scenario.tree(2), "{case}");
                assert!(scenario.has(2, b"edited far away"), "{case}");
            }
        }
    }
}

#[test]
fn e4_a_tombstone_outlives_a_year_in_which_a_member_was_away() {
    let mut scenario = came_back(3, Back::Away, Role::Writer);
    for device in 0..3 {
        assert_eq!(scenario.row(device, "gone").known.len(), 1);
    }
    // Who was let in just now hears of it too, so that the next old copy finds nobody who does not know.
    scenario.stop(0);
    scenario.put_index(0, MemStore::new());
    scenario.start(0);
    scenario.settle();
    assert_eq!(scenario.row(0, "gone").known.len(), 1);
}
