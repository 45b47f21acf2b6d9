//! Devices that do not write, or do not take: what is changed only here is shown, never sent, and can be given
//! up (rules E7 and E25, and the last paragraph of the engine's rules).

use folder::engine::{Event, Input, LocalKind, Mode};
use sim::scenario::Scenario;
use wire::RelPath;

use crate::{SEEDS, assert_alike};

fn changes(of: &[(&str, LocalKind)]) -> Vec<(String, LocalKind)> {
    of.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect()
}

fn revert(scenario: &mut Scenario, device: usize, paths: &[&str]) {
    let paths = paths.iter().map(|path| RelPath::parse(path).expect("a path")).collect();
    scenario.tell(device, Input::Revert { paths });
    scenario.settle();
}

fn kept(scenario: &Scenario, device: usize, contents: &[u8]) -> bool {
    scenario.history(device).iter().any(|(_, kept)| kept == contents)
}

/// A writer and a reader, who has edited, added and deleted; or a device that only receives.
fn changed(seed: u64, reader: bool) -> Scenario {
    let mut scenario = if reader {
        Scenario::group(seed, 2, &[0])
    } else {
        let mut scenario = Scenario::new(seed, 2);
        scenario.mode(1, Mode::ReceiveOnly);
        scenario.start(0);
        scenario.start(1);
        scenario.link(0, 1);
        scenario
    };
    scenario.write(0, "edited", b"the writer's");
    scenario.write(0, "deleted", b"deleted there only");
    scenario.write(0, "d/left", b"left alone");
    scenario.settle();
    scenario.forget();
    scenario.write(1, "edited", b"the reader's");
    scenario.remove(1, "deleted");
    scenario.write(1, "added", b"added by the reader");
    scenario.write(1, "n/added", b"in a directory of its own");
    scenario.settle();
    scenario
}

#[test]
fn t15_what_a_reader_changes_stays_there_and_is_listed() {
    for (seed, reader) in SEEDS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut scenario = changed(seed, reader);
        assert_eq!(scenario.paths(0), ["d", "d/left", "deleted", "edited"]);
        assert_eq!(scenario.text(0, "edited").as_deref(), Some("the writer's"));
        let expected = changes(&[
            ("added", LocalKind::Added),
            ("deleted", LocalKind::Deleted),
            ("edited", LocalKind::Edited),
            ("n", LocalKind::Added),
            ("n/added", LocalKind::Added),
        ]);
        assert_eq!(scenario.local_changes(1), expected);
        let told = scenario.events(1).iter().filter_map(|(_, event)| match event {
            Event::LocalOnly(change) => Some((change.path.to_string(), change.kind)),
            _ => None,
        });
        let mut told: Vec<_> = told.collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(told, expected, "each is told of once");
        // No record of it ever left.
        for sent in scenario.sent().iter().filter(|sent| sent.from == 1) {
            let wire::sync::Message::Records { batches, .. } = &sent.message else { continue };
            assert!(batches.is_empty(), "{batches:?}");
        }
        // Everything else is in step, and still is after another start and a look at everything.
        scenario.stop(1);
        scenario.start(1);
        scenario.write(0, "new", b"goes on");
        scenario.settle();
        assert_eq!(scenario.text(1, "new").as_deref(), Some("goes on"));
        assert_eq!(scenario.local_changes(1), expected);
        assert_eq!(scenario.text(1, "edited").as_deref(), Some("the reader's"));
        let in_step = scenario.events(1).iter().rev().find_map(|(_, event)| match event {
            Event::InSync { skipped, apart, .. } => Some((*skipped, *apart)),
            _ => None,
        });
        assert_eq!(in_step, Some((0, 5)), "seed {seed}");
    }
}

#[test]
fn t15_a_reader_gives_its_changes_up() {
    for (seed, reader) in SEEDS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut scenario = changed(seed, reader);
        revert(&mut scenario, 1, &["edited", "n"]);
        assert_eq!(
            scenario.local_changes(1),
            changes(&[("added", LocalKind::Added), ("deleted", LocalKind::Deleted)])
        );
        assert_eq!(scenario.text(1, "edited").as_deref(), Some("the writer's"));
        revert(&mut scenario, 1, &[]);
        assert_alike(&scenario, 2);
        assert!(scenario.local_changes(1).is_empty());
        for bytes in [&b"the reader's"[..], b"added by the reader", b"in a directory of its own"] {
            assert!(kept(&scenario, 1, bytes), "seed {seed}");
        }
        // And nothing of it comes back.
        scenario.rescan(1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert!(scenario.local_changes(1).is_empty());
    }
}

#[test]
fn e19_what_a_reader_deletes_is_no_reason_to_ask() {
    let mut scenario = Scenario::group(1, 2, &[0]);
    for number in 0..40 {
        scenario.write(0, &format!("d/f{number}"), format!("{number}").as_bytes());
    }
    scenario.settle();
    scenario.stop(1);
    scenario.brake(1, folder::brake::Limit { files: 10, ..folder::brake::Limit::default() });
    scenario.start(1);
    scenario.settle();
    for number in 0..40 {
        scenario.remove(1, &format!("d/f{number}"));
    }
    scenario.settle();
    assert_eq!(scenario.braked(1), None);
    assert_eq!(scenario.local_changes(1).len(), 40);
    assert_eq!(scenario.paths(0).len(), 41);
    // Nor is it, to add as many and give that up.
    for number in 0..40 {
        scenario.write(1, &format!("n{number}"), format!("n{number}").as_bytes());
    }
    scenario.settle();
    revert(&mut scenario, 1, &[]);
    assert_alike(&scenario, 2);
    assert_eq!(scenario.braked(1), None);
}

#[test]
fn t15_changes_undone_by_hand_are_none() {
    for seed in SEEDS {
        let mut scenario = changed(seed, true);
        scenario.remove(1, "added");
        scenario.remove(1, "n/added");
        scenario.remove(1, "n");
        scenario.settle();
        assert_eq!(
            scenario.local_changes(1),
            changes(&[("deleted", LocalKind::Deleted), ("edited", LocalKind::Edited)])
        );
        scenario.write(1, "deleted", b"deleted there only");
        scenario.settle();
        let left: Vec<_> = scenario.local_changes(1).into_iter().map(|it| it.1).collect();
        assert!(!left.contains(&LocalKind::Deleted), "{left:?}");
    }
}

#[test]
fn a_readers_overwritten_edit_becomes_a_copy_that_is_not_sent() {
    for (seed, reader) in SEEDS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut scenario = changed(seed, reader);
        scenario.write(0, "edited", b"edited again by the writer");
        scenario.write(0, "added", b"the writer's own file of that name");
        scenario.write(0, "deleted", b"edited after that");
        scenario.settle();
        assert_eq!(scenario.text(1, "edited").as_deref(), Some("edited again by the writer"));
        let added = scenario.text(1, "added");
        assert_eq!(added.as_deref(), Some("the writer's own file of that name"));
        assert_eq!(scenario.text(1, "deleted").as_deref(), Some("edited after that"));
        assert!(scenario.copies(0).is_empty(), "they are not sent");
        let mut texts: Vec<_> =
            scenario.copies(1).iter().filter_map(|copy| scenario.text(1, copy)).collect();
        texts.sort();
        assert_eq!(texts, ["added by the reader", "the reader's"], "seed {seed}");
        let listed = scenario.local_changes(1);
        for copy in scenario.copies(1) {
            assert!(listed.contains(&(copy, LocalKind::Added)), "{listed:?}");
        }
        revert(&mut scenario, 1, &[]);
        assert_alike(&scenario, 2);
    }
}

#[test]
fn a_deletion_elsewhere_does_not_take_what_a_reader_has_edited() {
    for seed in SEEDS {
        let mut scenario = changed(seed, true);
        scenario.remove(0, "edited");
        scenario.remove(0, "deleted");
        scenario.chmod(1, "d/left", 0o600);
        scenario.settle();
        scenario.remove(0, "d/left");
        scenario.settle();
        assert_eq!(scenario.text(1, "edited").as_deref(), Some("the reader's"));
        // Other permissions alone are no reason to keep it.
        assert_eq!(scenario.text(1, "d/left"), None);
        let expected = ["added", "edited", "n", "n/added"].map(|path| (path, LocalKind::Added));
        assert_eq!(scenario.local_changes(1), changes(&expected), "seed {seed}");
        revert(&mut scenario, 1, &[]);
        assert_alike(&scenario, 2);
    }
}

#[test]
fn attack_33_a_reader_whose_index_is_wiped_loses_and_sends_nothing() {
    for seed in SEEDS {
        let mut scenario = changed(seed, true);
        scenario.stop(1);
        scenario.write(0, "d/left", b"edited meanwhile");
        scenario.write(0, "gone", b"x");
        scenario.settle();
        scenario.put_index(1, folder::index::MemStore::new());
        scenario.start(1);
        scenario.settle();
        assert_eq!(scenario.paths(0), ["d", "d/left", "deleted", "edited", "gone"]);
        assert_eq!(scenario.text(0, "edited").as_deref(), Some("the writer's"));
        assert_eq!(scenario.text(1, "d/left").as_deref(), Some("edited meanwhile"));
        assert!(scenario.lost().is_empty(), "seed {seed}: {:?}", scenario.lost());
        for bytes in [&b"the reader's"[..], b"added by the reader"] {
            assert!(scenario.has(1, bytes));
        }
        revert(&mut scenario, 1, &[]);
        assert_alike(&scenario, 2);
    }
}

/// Two devices of which the second only sends.
fn sending(seed: u64) -> Scenario {
    let mut scenario = Scenario::new(seed, 3);
    scenario.mode(1, Mode::SendOnly);
    (0..3).for_each(|device| scenario.start(device));
    scenario.link(0, 1);
    scenario.link(1, 2);
    scenario.write(1, "a", b"as it is to be");
    scenario.write(1, "d/b", b"also");
    scenario.settle();
    assert_alike(&scenario, 3);
    scenario
}

#[test]
fn what_others_change_is_passed_on_and_not_taken_by_a_device_that_only_sends() {
    for seed in SEEDS {
        let mut scenario = sending(seed);
        let before = scenario.tree(1);
        scenario.link(0, 2);
        scenario.write(0, "a", b"changed elsewhere");
        scenario.remove(0, "d/b");
        scenario.write(0, "e/new", b"made elsewhere");
        scenario.settle();
        assert_eq!(scenario.tree(1), before, "seed {seed}");
        assert_eq!(scenario.tree(0), scenario.tree(2));
        assert_eq!(scenario.held_back(1), ["a", "d/b", "e", "e/new"]);
        // The others are in step, and so are they with it.
        let in_step = |event: &Event| matches!(event, Event::InSync { .. });
        assert!(scenario.events(0).iter().any(|(_, event)| in_step(event)));
        let own = scenario.events(1).iter().rev().find_map(|(_, event)| match event {
            Event::InSync { apart, .. } => Some(*apart),
            _ => None,
        });
        assert_eq!(own, Some(4));
        scenario.stop(1);
        scenario.start(1);
        scenario.settle();
        assert_eq!(scenario.tree(1), before);
        scenario.tell(1, Input::Override { paths: Vec::new() });
        scenario.settle();
        assert_alike(&scenario, 3);
        assert_eq!(scenario.tree(1), before);
        assert!(scenario.held_back(1).is_empty());
        assert!(scenario.copies(0).is_empty());
    }
}

#[test]
fn a_device_that_only_sent_takes_what_it_held_back_once_it_may() {
    for seed in SEEDS {
        let mut scenario = sending(seed);
        scenario.write(0, "a", b"changed elsewhere");
        scenario.write(0, "e/new", b"made elsewhere");
        scenario.write(1, "d/b", b"and edited here");
        scenario.settle();
        assert_eq!(scenario.text(0, "d/b").as_deref(), Some("and edited here"));
        scenario.stop(1);
        scenario.mode(1, Mode::Both);
        scenario.start(1);
        scenario.settle();
        assert_alike(&scenario, 3);
        assert_eq!(scenario.text(1, "a").as_deref(), Some("changed elsewhere"));
    }
}

#[test]
fn a_device_that_only_received_shares_what_it_has_once_it_may() {
    for seed in SEEDS {
        let mut scenario = changed(seed, false);
        scenario.write(0, "edited", b"edited by both");
        scenario.stop(1);
        scenario.mode(1, Mode::Both);
        scenario.settle();
        scenario.start(1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(0, "added").as_deref(), Some("added by the reader"));
        assert_eq!(scenario.text(0, "deleted"), None);
        let texts: Vec<_> =
            scenario.paths(0).iter().filter_map(|path| scenario.text(0, path)).collect();
        for edit in ["edited by both", "the reader's"] {
            assert!(texts.iter().any(|text| text == edit), "seed {seed}: {edit} is not there");
        }
    }
}

/// A reader's folder is on another machine, without a directory that it had kept apart, and what comes in its place is
/// a file.
#[test]
fn e9_what_a_reader_does_not_have_any_more_leaves_no_directory_in_the_place_of_a_file() {
    for (seed, linked_at_once) in SEEDS.flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut scenario = Scenario::group(seed, 2, &[0]);
        scenario.cut(0, 1);
        scenario.write(1, "a/a/b", b"apart");
        scenario.settle();
        scenario.stop(1);
        scenario.move_machine(1);
        scenario.write(0, "a", b"a file");
        scenario.rename(1, "a", "other");
        scenario.settle();
        if linked_at_once {
            scenario.link(0, 1);
        }
        scenario.start(1);
        scenario.settle();
        scenario.link(0, 1);
        scenario.settle();
        assert_eq!(scenario.text(1, "a").as_deref(), Some("a file"), "seed {seed}");
        let apart: Vec<_> = scenario.local_changes(1).into_iter().map(|it| it.0).collect();
        assert_eq!(apart, ["other", "other/a", "other/a/b"], "seed {seed}");
    }
}
