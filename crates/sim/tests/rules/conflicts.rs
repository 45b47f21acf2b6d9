//! Rules E2, E3 and E9: edits that met, metadata, and paths that cannot coexist.

use std::sync::Arc;

use sim::{disk::Node, history::Edit, scenario::Scenario};

use crate::{SEEDS, assert_alike};

/// Two devices that both edited `a` while they were apart, and a third that is linked to the second.
fn met(seed: u64) -> Scenario {
    let mut scenario = Scenario::linked(seed, 3);
    scenario.write(0, "a", b"old");
    scenario.settle();
    scenario.cut(0, 1);
    scenario.write(0, "a", b"zero's");
    scenario.write(1, "a", b"one's");
    scenario.settle();
    scenario
}

#[test]
fn e2_only_the_holder_makes_the_copy() {
    for seed in SEEDS {
        let mut scenario = met(seed);
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 3);
        let copies = scenario.copies(0);
        assert_eq!(copies.len(), 1, "{copies:?}");
        let (winner, loser) = (scenario.text(0, "a"), scenario.text(0, &copies[0]));
        let mut both = [winner, loser];
        both.sort();
        assert_eq!(both, [Some("one's".to_owned()), Some("zero's".to_owned())]);
        // One record, by one device: nobody else wrote the same copy a second time.
        for device in 0..3 {
            assert_eq!(scenario.row(device, &copies[0]).known.len(), 1);
        }
    }
}

#[test]
fn e2_a_deleted_copy_is_not_made_again() {
    for seed in SEEDS {
        let mut scenario = met(seed);
        scenario.link(0, 1);
        scenario.settle();
        let copies = scenario.copies(2);
        scenario.remove(2, &copies[0]);
        scenario.settle();
        for device in 0..3 {
            scenario.stop(device);
            scenario.start(device);
        }
        scenario.settle();
        assert_alike(&scenario, 3);
        assert!(scenario.copies(0).is_empty());
    }
}

#[test]
fn e2_an_edit_before_the_copy_arrived_loses_nothing() {
    for seed in SEEDS {
        for delay in [0, 1, 2, 4, 8, 16] {
            let mut scenario = met(seed);
            scenario.link(0, 1);
            scenario.run(delay);
            // Whatever the second device shows now, its user edits it.
            scenario.edit(1, &Edit::Append("a".to_owned(), b" and more".to_vec()));
            scenario.settle();
            assert_alike(&scenario, 3);
            let shown: Vec<_> =
                scenario.paths(0).iter().filter_map(|path| scenario.text(0, path)).collect();
            for edit in ["zero's", "one's"] {
                assert!(
                    shown.iter().any(|text| text.starts_with(edit)),
                    "{edit} is not in {shown:?}"
                );
            }
        }
    }
}

#[test]
fn e2_equal_edits_are_no_conflict() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.cut(0, 1);
        scenario.write(0, "a", b"same");
        scenario.write(1, "a", b"same");
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), ["a"]);
        assert_eq!(scenario.content_bytes(), 0);
    }
}

#[test]
fn e3_metadata_never_beats_a_delete() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"x");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.chmod(0, "a", 0o600);
        scenario.remove(1, "a");
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        assert!(scenario.paths(0).is_empty() && scenario.paths(1).is_empty());
        assert!(scenario.has(0, b"x"), "it is in history");
    }
}

#[test]
fn e3_mode_and_mtime_travel_without_contents() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"x");
        scenario.settle();
        scenario.forget();
        scenario.chmod(0, "a", 0o755);
        scenario.settle();
        // Written again with the same bytes: only its mtime is new.
        scenario.write(1, "a", b"x");
        scenario.settle();
        assert_alike(&scenario, 2);
        assert!(matches!(scenario.tree(0)["a"], Node::File { mode: 0o755, .. }));
        assert!(scenario.history(0).is_empty() && scenario.history(1).is_empty());
        assert_eq!(scenario.content_bytes(), 0);
    }
}

#[test]
fn e3_metadata_that_met_an_edit_makes_no_copy() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"x");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.chmod(0, "a", 0o600);
        scenario.write(1, "a", b"edited");
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), ["a"]);
        assert_eq!(scenario.text(0, "a").as_deref(), Some("edited"));
    }
}

#[test]
fn e9_a_directory_beats_a_file() {
    for seed in SEEDS {
        let mut scenario = Scenario::new(seed, 2);
        scenario.write(0, "p", b"a file");
        scenario.edit(1, &Edit::MakeDir("p".to_owned()));
        scenario.start(0);
        scenario.start(1);
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert!(matches!(scenario.tree(0)["p"], Node::Dir { .. }));
        let copies = scenario.copies(0);
        assert_eq!(copies.len(), 1);
        assert_eq!(scenario.text(0, &copies[0]).as_deref(), Some("a file"));
    }
}

#[test]
fn e9_a_live_descendant_keeps_the_directory() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/a", b"a");
        scenario.write(0, "d/b", b"b");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.remove(0, "d");
        scenario.write(1, "d/a", b"edited");
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), ["d", "d/a"]);
        assert_eq!(scenario.text(0, "d/a").as_deref(), Some("edited"));
        // The directory is there for the file's sake only, and goes with it.
        scenario.remove(0, "d/a");
        scenario.settle();
        assert!(
            scenario.paths(0).is_empty() && scenario.paths(1).is_empty(),
            "{:?}",
            scenario.tree(0)
        );
    }
}

#[test]
fn e9_a_renamed_directory_against_an_edit_inside() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/edited", b"before");
        scenario.write(0, "d/left alone", b"rest");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.rename(0, "d", "e");
        scenario.write(1, "d/edited", b"after");
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(0, "d/edited").as_deref(), Some("after"));
        assert_eq!(scenario.text(0, "e/left alone").as_deref(), Some("rest"));
        assert_eq!(scenario.text(0, "d/left alone"), None);
    }
}

#[test]
fn e3_metadata_changed_on_both_sides_comes_to_agree_without_a_copy() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"x");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.chmod(0, "a", 0o600);
        scenario.chmod(1, "a", 0o755);
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), ["a"]);
        assert!(matches!(scenario.tree(0)["a"], Node::File { mode: 0o600 | 0o755, .. }));
    }
}

#[test]
fn e9_a_directory_beats_a_link() {
    for seed in SEEDS {
        let mut scenario = Scenario::new(seed, 2);
        scenario.edit(0, &Edit::Link("p".to_owned(), "somewhere".to_owned()));
        scenario.write(1, "p/a", b"a");
        scenario.start(0);
        scenario.start(1);
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(0, "p/a").as_deref(), Some("a"));
        let copies = scenario.copies(0);
        assert_eq!(copies.len(), 1);
        let link = Node::Symlink { target: "somewhere".to_owned() };
        assert_eq!(scenario.tree(1)[&copies[0]], link);
    }
}

#[test]
fn e9_a_directory_that_is_there_for_what_is_below_gets_no_record() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/a", b"a");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.remove(0, "d");
        scenario.write(1, "d/b", b"b");
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), ["d", "d/b"]);
        let known = [0, 1].map(|device| scenario.row(device, "d").known);
        // Neither a look at everything nor a new start is a reason to say that it was made.
        for device in 0..2 {
            scenario.rescan(device);
            scenario.settle();
            scenario.stop(device);
            scenario.start(device);
            scenario.settle();
        }
        assert_eq!([0, 1].map(|device| scenario.row(device, "d").known), known, "seed {seed}");
        scenario.remove(1, "d/b");
        scenario.settle();
        assert!(scenario.paths(0).is_empty() && scenario.paths(1).is_empty());
    }
}

#[test]
fn e9_a_deleted_directory_goes_once_what_stayed_in_it_has_gone() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.ignore(1, &["*.log"]);
        scenario.write(0, "d/a", b"a");
        scenario.settle();
        scenario.write(1, "d/run.log", b"stays here");
        scenario.settle();
        scenario.remove(0, "d");
        scenario.settle();
        assert_eq!(scenario.paths(1), ["d", "d/run.log"]);
        scenario.remove(1, "d/run.log");
        scenario.settle();
        assert!(scenario.paths(1).is_empty(), "seed {seed}: {:?}", scenario.paths(1));
        assert!(scenario.paths(0).is_empty(), "it was made again");
    }
}

/// Device 0 has "one" at a path and device 1 "another" at one; the users of these devices rename something before the
/// n-th change that comes of it. Both contents are in the tree. Returns what there is then.
fn renamed_meanwhile(
    (seed, nth): (u64, u64),
    (one, another): (&str, &str),
    users: &[usize],
    (from, to): (&'static str, &'static str),
) -> Vec<String> {
    let mut scenario = Scenario::new(seed, 2);
    scenario.write(0, one, b"one");
    scenario.write(1, another, b"another");
    scenario.start(0);
    scenario.start(1);
    scenario.settle();
    for device in users {
        let disk = scenario.disk(*device);
        let user = Arc::clone(&disk);
        disk.before_change(nth, move || drop(user.rename(from, to)));
    }
    scenario.link(0, 1);
    scenario.settle();
    (0..2).for_each(|device| scenario.rescan(device));
    scenario.settle();
    assert_alike(&scenario, 2);
    let paths = scenario.paths(0);
    let shown: Vec<_> = paths.iter().filter_map(|path| scenario.text(0, path)).collect();
    for text in ["one", "another"] {
        assert!(shown.iter().any(|it| it == text), "{seed}, {nth}: {paths:?}");
    }
    paths
}

#[test]
fn e2_a_copy_whose_directory_is_moved_away_meanwhile_is_in_the_tree() {
    // Found by `--faults all --from 56869`.
    let tries = SEEDS.flat_map(|seed| (0..8).map(move |nth| (seed, nth)));
    let meet = |at| renamed_meanwhile(at, ("b/c", "b/c"), &[0, 1], ("b", "d/c"));
    let met = tries.map(meet).filter(|paths| !paths.iter().any(|path| path == "b/c"));
    assert!(met.count() > 0, "nobody came in between");
}

#[test]
fn e13_an_edit_whose_directory_is_moved_away_while_it_makes_room_is_in_the_tree() {
    // Found by `--faults all --from 30084996`: it was in `.kin/swap`, until the next start.
    let tries = SEEDS.flat_map(|seed| (0..8).map(move |nth| (seed, nth)));
    let meet = |at| renamed_meanwhile(at, ("a/a/b", "a/a"), &[1], ("a", "d"));
    let met = tries.map(meet).filter(|paths| paths.iter().any(|path| path == "d"));
    assert!(met.count() > 0, "nobody came in between");
}
