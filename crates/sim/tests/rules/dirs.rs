//! Rules E9 and E10: directories that are there for the sake of what lies below, and their modes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use folder::brake::Limit;
use sim::{disk::Node, history::Edit, scenario::Scenario};

use crate::{SEEDS, assert_alike};

fn mode(scenario: &Scenario, device: usize, path: &str) -> Option<u32> {
    match scenario.tree(device).get(path) {
        Some(Node::Dir { mode }) => Some(*mode),
        _ => None,
    }
}

#[test]
fn e9_a_deleted_directory_that_stays_is_as_everywhere_once_it_has_a_reason() {
    // Found by `--faults all --from 2243` and 2977.
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.ignore(1, &["*.tmp"]);
        scenario.write(0, "d/e/a", b"a");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.write(1, "d/e/kept.tmp", b"not to travel, yet");
        scenario.chmod(1, "d", 0o700);
        scenario.remove(0, "d");
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        assert_eq!(scenario.paths(1), ["d", "d/e", "d/e/kept.tmp"]);
        assert_eq!(mode(&scenario, 1, "d"), Some(0o700), "who deleted it never saw that");
        scenario.ignore(1, &[]);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(0, "d/e/kept.tmp").as_deref(), Some("not to travel, yet"));
    }
}

#[test]
fn e9_what_comes_from_elsewhere_gives_a_deleted_directory_a_reason() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 3);
        scenario.ignore(1, &["*.tmp"]);
        scenario.write(0, "d/e/a", b"a");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.cut(1, 2);
        scenario.write(1, "d/e/kept.tmp", b"does not travel");
        scenario.chmod(1, "d", 0o700);
        scenario.write(2, "d/e/b", b"b");
        scenario.remove(0, "d");
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        scenario.link(1, 2);
        scenario.settle();
        for device in 0..3 {
            let modes = (mode(&scenario, device, "d"), mode(&scenario, device, "d/e"));
            assert_eq!(modes, (Some(0o755), Some(0o755)), "seed {seed}, device {device}");
            assert_eq!(scenario.text(device, "d/e/b").as_deref(), Some("b"));
        }
    }
}

#[test]
fn e10_a_mode_that_a_stop_cut_short_is_set_after_it() {
    // Found by `--faults all --from 7631`.
    let mut cut_short = 0;
    for seed in 0..16 {
        for nth in 0..3 {
            let mut scenario = Scenario::new(seed, 3);
            scenario.write(0, "d/a", b"a");
            scenario.chmod(0, "d", 0o700);
            scenario.write(1, "d/b", b"b");
            (0..3).for_each(|device| scenario.start(device));
            scenario.link(0, 2);
            scenario.settle();
            scenario.cut(0, 2);
            // Two directories that were found, and one is deleted: the other is there for what is below.
            scenario.remove(1, "d");
            scenario.settle();
            scenario.link(0, 1);
            scenario.settle();
            assert_eq!(mode(&scenario, 0, "d"), Some(0o755), "that of the one that was deleted");
            scenario.cut(0, 1);
            scenario.chmod(1, "d", 0o700);
            scenario.settle();
            // Who has heard of no deletion knows the other as well: perhaps it is shown again.
            scenario.link(1, 2);
            scenario.settle();
            let disk = scenario.disk(0);
            let died = Arc::clone(&disk);
            disk.before_change(nth, move || died.cut_power());
            scenario.link(0, 2);
            scenario.run(3_000);
            cut_short += u32::from(!scenario.is_running(0));
            scenario.start(0);
            scenario.settle();
            assert_eq!(mode(&scenario, 1, "d"), Some(0o700));
            assert_alike(&scenario, 3);
        }
    }
    assert!(cut_short > 10, "only {cut_short} applies were cut short");
}

#[test]
fn e3_a_mode_that_a_user_sets_in_the_middle_of_an_apply_is_a_change() {
    // Found by `--faults all --from 10254`.
    for (path, given) in [("d", 0o700), ("d/a", 0o600)] {
        let mut met = 0;
        for seed in SEEDS {
            for nth in 0..40 {
                let mut scenario = Scenario::linked(seed, 2);
                let disk = scenario.disk(1);
                let user = Arc::clone(&disk);
                let came = Arc::new(AtomicBool::new(false));
                let comes = Arc::clone(&came);
                disk.before_call(nth, move || {
                    comes.store(true, Ordering::Relaxed);
                    drop(user.chmod(path, given));
                });
                scenario.write(0, "d/a", b"a");
                scenario.settle();
                if !came.load(Ordering::Relaxed) {
                    break;
                }
                scenario.rescan(1);
                scenario.settle();
                assert_alike(&scenario, 2);
                met += u32::from(match scenario.tree(0).get(path) {
                    Some(Node::Dir { mode } | Node::File { mode, .. }) => *mode == given,
                    _ => false,
                });
            }
        }
        assert!(met > 0, "nobody came in between");
    }
}

#[test]
fn e3_a_mode_that_a_user_sets_while_another_is_applied_is_a_change() {
    for path in ["d", "d/a"] {
        let mut met = 0;
        for seed in SEEDS {
            for nth in 0..30 {
                let mut scenario = Scenario::linked(seed, 2);
                scenario.write(0, "d/a", b"a");
                scenario.settle();
                let disk = scenario.disk(1);
                let user = Arc::clone(&disk);
                let came = Arc::new(AtomicBool::new(false));
                let comes = Arc::clone(&came);
                disk.before_call(nth, move || {
                    comes.store(true, Ordering::Relaxed);
                    drop(user.chmod(path, 0o711));
                });
                scenario.chmod(0, path, 0o700);
                scenario.settle();
                if !came.load(Ordering::Relaxed) {
                    break;
                }
                scenario.rescan(1);
                scenario.settle();
                assert_alike(&scenario, 2);
                met += u32::from(match scenario.tree(0).get(path) {
                    Some(Node::Dir { mode } | Node::File { mode, .. }) => *mode == 0o711,
                    _ => false,
                });
            }
        }
        assert!(met > 0, "nobody came in between");
    }
}

#[test]
fn e9_a_directory_that_waits_to_go_does_not_beat_a_file_it_has_not_seen() {
    // Found by `--faults all --from 22659`: a directory that the brake kept, and whose mode a user changed.
    for seed in SEEDS {
        for name in ["a", "b", "c", "d"] {
            let mut scenario = Scenario::linked(seed, 3);
            scenario.stop(2);
            scenario.brake(2, Limit { files: 2, percent: 1 });
            scenario.start(2);
            scenario.write(0, "kept", b"kept");
            for file in 0..40 {
                scenario.write(0, &format!("{name}/{file}/x"), b"in the way");
            }
            scenario.settle();
            scenario.cut(1, 2);
            scenario.remove(0, name);
            scenario.write(0, name, b"the file");
            scenario.settle();
            scenario.link(1, 2);
            scenario.settle();
            scenario.try_edit(2, &Edit::Chmod(name.to_owned(), 0o700));
            scenario.settle();
            while let Some(question) = scenario.braked(2) {
                scenario.agree(2, question);
                scenario.settle();
            }
            assert_alike(&scenario, 3);
            let shown = scenario
                .paths(2)
                .into_iter()
                .any(|path| scenario.text(2, &path).as_deref() == Some("the file"));
            assert!(shown, "seed {seed}, {name}: {:?}", scenario.tree(2));
        }
    }
}
