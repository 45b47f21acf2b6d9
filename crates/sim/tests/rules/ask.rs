//! What a person asks of a folder: why a path is as it is, what a device's changes have replaced, which
//! conflicts are open; and what they do about it.

use folder::{
    brake::Limit,
    conflicts::{self, Keeping},
    engine::{Cause, Input, LocalKind, Mode},
    history::restore::restore_all,
};
use identity::DeviceId;
use sim::scenario::Scenario;
use wire::{RelPath, record::Body};

use crate::{SEEDS, assert_alike, noise};

fn cause(scenario: &mut Scenario, device: usize, path: &str) -> Cause {
    let why = scenario.why(device, path).expect("it runs");
    assert!(!why.cause.words().is_empty());
    assert!(why.cause.rule().len() >= 2);
    why.cause
}

#[test]
fn looking_says_what_a_join_would_do_and_changes_nothing() {
    let mut scenario = Scenario::group(4, 2, &[0, 1]);
    scenario.cut(0, 1);
    scenario.stop(1);
    scenario.write(0, "only there", b"1");
    scenario.write(0, "both alike", b"2");
    scenario.write(0, "both otherwise", b"3");
    scenario.write(0, "d/in a directory", b"4");
    scenario.write(1, "both alike", b"2");
    scenario.write(1, "both otherwise", b"not 3");
    scenario.write(1, "only here", b"5");
    scenario.mode(1, Mode::Look);
    scenario.start(1);
    scenario.run(3_000);
    scenario.link(0, 1);
    scenario.settle();
    let plan = scenario.plan(1).expect("it runs");
    assert_eq!((plan.adds, plan.conflicts, plan.deletes, plan.sends), (2, 1, 0, 1), "{plan:?}");
    assert!(scenario.text(0, "only here").is_none() && scenario.text(1, "only there").is_none());
    // Whoever agrees gets just that.
    scenario.stop(1);
    scenario.mode(1, Mode::Both);
    scenario.start(1);
    scenario.settle();
    assert_alike(&scenario, 2);
    assert!(scenario.text(0, "only here").is_some() && scenario.text(1, "only there").is_some());
}

#[test]
fn why_a_path_is_as_it_is_is_told() {
    let mut scenario = Scenario::group(1, 3, &[0, 1]);
    scenario.write(0, "a", b"of the first");
    scenario.write(0, "gone", b"x");
    scenario.settle();
    scenario.remove(1, "gone");
    scenario.write(2, "mine", b"a reader's");
    scenario.write(2, "a", b"a reader's edit");
    scenario.ignore(1, &["*.tmp"]);
    scenario.write(0, "x.tmp", b"ignored there");
    scenario.settle();
    assert_eq!(cause(&mut scenario, 1, "a"), Cause::InStep);
    assert_eq!(cause(&mut scenario, 2, "a"), Cause::Local(LocalKind::Edited));
    assert_eq!(cause(&mut scenario, 2, "mine"), Cause::Local(LocalKind::Added));
    assert_eq!(cause(&mut scenario, 0, "mine"), Cause::Unknown);
    assert_eq!(cause(&mut scenario, 2, "gone"), Cause::Deleted);
    assert_eq!(cause(&mut scenario, 1, "x.tmp"), Cause::Ignored);
    let why = scenario.why(2, "a").expect("it runs");
    let [version] = &why.versions[..] else { panic!("{why:?}") };
    let signer = |number: u8| {
        let mut id = [0; 32];
        id[0] = number;
        DeviceId(id)
    };
    assert!(version.signers.iter().all(|it| *it == signer(0) || *it == signer(1)), "{version:?}");
    assert!(!version.signers.is_empty() && !version.is_ours && why.is_here);
    assert_eq!(Some(version.dot.replica), scenario.replica(0));
    assert!(matches!(version.body, Body::File { size: 12, .. }), "{version:?}");
    let own = scenario.why(0, "a").expect("it runs");
    assert!(own.versions[0].is_ours && own.versions[0].signers.is_empty());
    // A change that is refused.
    scenario.cut(0, 1);
    scenario.hears(0, &[0]);
    scenario.write(1, "a", b"by one who may not");
    scenario.settle();
    scenario.link(0, 2);
    scenario.run(3_000);
    assert_eq!(cause(&mut scenario, 0, "a"), Cause::Refused(signer(1)));
}

#[test]
fn why_something_is_not_here_is_told() {
    let mut scenario = Scenario::new(2, 3);
    scenario.mode(1, Mode::SendOnly);
    scenario.brake(2, Limit { files: 3, ..Limit::default() });
    (0..3).for_each(|device| scenario.start(device));
    scenario.link(0, 1);
    scenario.link(0, 2);
    for number in 0..9 {
        scenario.write(0, &format!("f{number}"), format!("{number}").as_bytes());
    }
    scenario.settle();
    assert_eq!(cause(&mut scenario, 1, "f1"), Cause::NotTaken);
    for number in 0..9 {
        scenario.remove(0, &format!("f{number}"));
    }
    scenario.run(20_000);
    assert_eq!(cause(&mut scenario, 2, "f1"), Cause::Held);
    assert!(cause(&mut scenario, 2, "f1").remedy().is_some());
    let question = scenario.braked(2).expect("it asks");
    scenario.agree(2, question);
    scenario.settle();
    assert_eq!(cause(&mut scenario, 2, "f1"), Cause::Deleted);
    // Whose contents only somebody has who is away.
    scenario.write(0, "far", &noise(7, 3 << 20));
    scenario.run(30);
    scenario.stop(0);
    scenario.link(1, 2);
    scenario.run(5_000);
    assert_eq!(cause(&mut scenario, 2, "far"), Cause::Lacking);
}

#[test]
fn what_a_devices_changes_replaced_or_deleted_comes_back_as_new_changes() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 3);
        for path in ["replaced", "twice", "d/deleted", "others", "early", "mended"] {
            scenario.write(0, path, format!("{path} before").as_bytes());
        }
        scenario.settle();
        scenario.write(2, "early", b"changed early");
        scenario.settle();
        scenario.run(10_000);
        let since = scenario.wall();
        scenario.run(10_000);
        scenario.write(2, "replaced", b"spoilt");
        scenario.write(2, "twice", b"spoilt once");
        scenario.write(2, "mended", b"spoilt and mended");
        scenario.write(2, "made", b"made by the same");
        scenario.write(1, "others", b"changed by another");
        scenario.remove(2, "d/deleted");
        scenario.settle();
        scenario.write(2, "twice", b"spoilt twice");
        scenario.write(0, "mended", b"mended since");
        scenario.settle();
        let plan = scenario.undo(0, 2, since);
        let back: Vec<_> = plan.back.iter().map(|entry| entry.name.path.as_str()).collect();
        assert_eq!(back, ["d/deleted", "replaced", "twice"], "seed {seed}");
        let changed: Vec<_> = plan.changed_since.iter().map(ToString::to_string).collect();
        assert_eq!((changed, plan.unclear.len()), (vec!["mended".to_owned()], 0));
        let disk = scenario.disk(0);
        let done = restore_all(&*disk, &plan.back, scenario.wall(), seed).expect("it can be done");
        assert_eq!((done.restored.len(), done.failed.len()), (3, 0), "{:?}", done.failed);
        scenario.rescan(0);
        scenario.settle();
        assert_alike(&scenario, 3);
        for path in ["replaced", "twice", "d/deleted"] {
            assert_eq!(scenario.text(2, path), Some(format!("{path} before")), "seed {seed}");
        }
        for (path, text) in [
            ("mended", "mended since"),
            ("others", "changed by another"),
            ("early", "changed early"),
            ("made", "made by the same"),
        ] {
            assert_eq!(scenario.text(2, path).as_deref(), Some(text));
        }
        assert!(scenario.copies(0).is_empty());
        // What was spoilt can be had again as well.
        assert!(scenario.has(0, b"spoilt twice"));
        assert!(scenario.undo(0, 2, since).back.is_empty(), "it is undone");
    }
}

/// On every device, whoever made the copy, also after a restart; until it is settled.
#[test]
fn conflict_copies_are_counted_wherever_they_are() {
    let (mut scenario, copy, ..) = conflict(7);
    for restart in [false, true] {
        for device in 0..2 {
            if restart {
                scenario.stop(device);
                scenario.start(device);
                scenario.settle();
            }
            assert_eq!(scenario.conflict_count(device), 1, "{device}");
        }
    }
    scenario.remove(0, copy.as_str());
    scenario.settle();
    assert_eq!([0, 1].map(|device| scenario.conflict_count(device)), [0, 0]);
}

/// Which replica was whose is remembered, also of who is away, has another replica since, or was removed.
#[test]
fn what_an_absent_or_removed_device_changed_is_known_to_be_its() {
    for removed in [false, true] {
        let mut scenario = Scenario::group(3, 3, &[0, 1, 2]);
        scenario.write(0, "one", b"before");
        scenario.write(0, "two", b"before");
        scenario.settle();
        let since = scenario.wall();
        scenario.run(1_000);
        scenario.write(2, "one", b"spoilt");
        scenario.settle();
        scenario.stop(2);
        scenario.move_machine(2);
        scenario.start(2);
        scenario.settle();
        scenario.write(2, "two", b"spoilt");
        scenario.settle();
        scenario.stop(2);
        if removed {
            scenario.all_hear_of_removal(2);
            scenario.settle();
        }
        scenario.stop(0);
        scenario.start(0);
        scenario.settle();
        assert_eq!(scenario.replicas_known(0, 2).len(), 2);
        let plan = scenario.undo(0, 2, since);
        let back: Vec<_> = plan.back.iter().map(|entry| entry.name.path.as_str()).collect();
        assert_eq!(back, ["one", "two"], "{plan:?}");
    }
}

/// Two devices with a conflict at `a.txt`: both texts, and the copy.
fn conflict(seed: u64) -> (Scenario, RelPath, RelPath, [String; 2]) {
    let mut scenario = Scenario::linked(seed, 2);
    scenario.write(0, "d/a.txt", b"before");
    scenario.settle();
    scenario.cut(0, 1);
    scenario.write(0, "d/a.txt", b"one");
    scenario.write(1, "d/a.txt", b"other");
    scenario.settle();
    scenario.link(0, 1);
    scenario.settle();
    let found = scenario.conflicts(0);
    let [copy] = &found[..] else { panic!("{found:?}") };
    assert_eq!(copy.original.as_str(), "d/a.txt");
    assert_eq!(scenario.conflicts(1), found);
    let (copy, original) = (copy.copy.clone(), copy.original.clone());
    let texts = [original.as_str(), copy.as_str()].map(|path| scenario.text(0, path));
    (scenario, copy, original, texts.map(|text| text.expect("is there")))
}

#[test]
fn a_conflict_is_settled_by_what_a_person_keeps() {
    for (seed, keeping) in SEEDS.flat_map(|seed| {
        [Keeping::Original, Keeping::Copy, Keeping::Both].map(|keeping| (seed, keeping))
    }) {
        let (mut scenario, copy, original, [shown, lost]) = conflict(seed);
        let copies = vec![copy.clone()];
        assert_eq!(cause(&mut scenario, 0, &original), Cause::Conflict(copies));
        assert_eq!(scenario.why(0, &original).expect("it runs").versions.len(), 2);
        let disk = scenario.disk(0);
        let kept = conflicts::settle(&*disk, &copy, &original, keeping, scenario.wall());
        let kept = kept.expect("it can be done").map(|path| path.to_string());
        scenario.rescan(0);
        scenario.settle();
        assert_alike(&scenario, 2);
        let (paths, at) = match keeping {
            Keeping::Original => (vec!["d", "d/a.txt"], None),
            Keeping::Copy => (vec!["d", "d/a.txt"], Some("d/a.txt")),
            Keeping::Both => (vec!["d", "d/a-2.txt", "d/a.txt"], Some("d/a-2.txt")),
        };
        assert_eq!(scenario.paths(1), paths, "{keeping:?}, seed {seed}");
        assert_eq!(kept.as_deref(), at);
        let expected = if keeping == Keeping::Copy { &lost } else { &shown };
        assert_eq!(scenario.text(1, "d/a.txt").as_ref(), Some(expected));
        // Whichever was not kept is in history.
        assert!(scenario.has(0, lost.as_bytes()) && scenario.has(0, shown.as_bytes()));
        assert!(scenario.conflicts(1).is_empty());
        assert_eq!(cause(&mut scenario, 1, "d/a.txt"), Cause::InStep, "{keeping:?}, seed {seed}");
        // It does not come back.
        for device in 0..2 {
            scenario.stop(device);
            scenario.start(device);
            scenario.tell(device, Input::Overflow);
        }
        scenario.settle();
        assert_eq!(scenario.paths(0), paths);
    }
}
