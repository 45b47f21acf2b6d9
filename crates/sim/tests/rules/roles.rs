//! Rules T15, E6 and E7: whose word makes a record count, and what becomes of it when somebody loses the
//! right to give it.

mod wild;

use folder::engine::{Event, LocalKind};
use sim::scenario::Scenario;
use wire::sync::Message;

use crate::{SEEDS, assert_alike};

fn refused(scenario: &Scenario, device: usize) -> Vec<String> {
    let events = scenario.events(device).iter();
    let paths = events.filter_map(|(_, event)| match event {
        Event::Refused { path, .. } => Some(path.to_string()),
        _ => None,
    });
    paths.collect()
}

/// True if the contents are in a device's history.
fn kept(scenario: &Scenario, device: usize, contents: &[u8]) -> bool {
    scenario.history(device).iter().any(|(_, kept)| kept == contents)
}

#[test]
fn t15_what_writers_say_reaches_everybody_through_readers() {
    for seed in SEEDS {
        // Between two writers, and between a writer and a reader, there are only readers.
        let mut scenario = Scenario::group(seed, 5, &[0, 3]);
        scenario.write(0, "a", b"from the first writer");
        scenario.write(0, "d/b", b"also");
        scenario.write(3, "c", b"from the second");
        scenario.settle();
        assert_alike(&scenario, 5);
        scenario.write(3, "a", b"edited by the second");
        scenario.remove(0, "d/b");
        scenario.settle();
        assert_alike(&scenario, 5);
        assert_eq!(scenario.text(4, "a").as_deref(), Some("edited by the second"));
        assert_eq!(scenario.paths(4), ["a", "c", "d"]);
        assert!((0..5).all(|device| refused(&scenario, device).is_empty()));
        assert!((0..5).all(|device| scenario.local_changes(device).is_empty()));
    }
}

/// The last one who could write has left, or two who could have put each other out.
#[test]
fn e7_where_nobody_is_left_who_may_write_nothing_goes() {
    for seed in SEEDS {
        let mut scenario = Scenario::group(seed, 4, &[0, 1]);
        scenario.write(0, "a", b"from one");
        scenario.write(1, "d/b", b"from the other");
        scenario.settle();
        let before = scenario.tree(2);
        scenario.all_hear(&[]);
        scenario.stop(0);
        scenario.settle();
        scenario.crash(3);
        scenario.start(3);
        scenario.settle();
        for device in 1..4 {
            assert_eq!(scenario.tree(device), before, "seed {seed}, {device}");
            assert!(scenario.history(device).is_empty());
        }
        // Whoever may write next has adopted it, and what was changed meanwhile is its own.
        scenario.write(2, "c", b"meanwhile");
        scenario.settle();
        scenario.all_hear(&[2]);
        scenario.settle();
        for device in 1..4 {
            assert_eq!(scenario.paths(device), ["a", "c", "d", "d/b"], "seed {seed}, {device}");
        }
    }
}

#[test]
fn t15_a_reader_passes_on_many_records() {
    let mut scenario = Scenario::group(1, 3, &[0]);
    scenario.cut(1, 2);
    for number in 0..700 {
        scenario.write(0, &format!("f{number}"), format!("{number}").as_bytes());
    }
    scenario.settle();
    // Of most batches, some records are replaced by now.
    for number in (0..100).step_by(9) {
        scenario.write(0, &format!("f{number}"), b"edited");
    }
    scenario.settle();
    scenario.write(0, "alone", b"in a batch of its own");
    scenario.settle();
    scenario.forget();
    scenario.link(1, 2);
    scenario.settle();
    assert_alike(&scenario, 3);
    assert_eq!(scenario.paths(2).len(), 701);
    let batches = scenario.sent().iter().filter(|sent| (sent.from, sent.to) == (1, 2));
    let batches = batches.filter_map(|sent| match &sent.message {
        Message::Records { batches, .. } => Some(batches),
        _ => None,
    });
    let (mut whole, mut single) = (0, 0);
    for batch in batches.flatten() {
        assert_eq!(batch.author.0[0], 0, "a reader signs nothing");
        *(if batch.proof.is_some() { &mut single } else { &mut whole }) += 1;
    }
    assert!(whole > 0 && single > 0, "{whole} batches and {single} single records");
}

#[test]
fn attack_32_what_a_reader_says_is_refused_also_when_another_passes_it_on() {
    for seed in SEEDS {
        let mut scenario = Scenario::group(seed, 3, &[0, 1, 2]);
        scenario.write(0, "a", b"good");
        scenario.settle();
        // Devices 0 and 1 do not know yet that 2 may only read; then 1 hears and 0 does not.
        scenario.cut(0, 1);
        scenario.hears(0, &[0, 1]);
        scenario.write(2, "a", b"from somebody who may only read");
        scenario.write(2, "b", b"new from somebody who may only read");
        scenario.remove(2, "a");
        scenario.settle();
        // 1 is a reader too, for 0, and hands on what 2 said.
        scenario.hears(1, &[0, 2]);
        scenario.hears(0, &[0]);
        scenario.hears(2, &[0, 2]);
        scenario.forget();
        scenario.link(0, 1);
        scenario.run(5_000);
        assert_eq!(scenario.text(0, "a").as_deref(), Some("good"), "seed {seed}");
        assert_eq!(scenario.paths(0), ["a"]);
        let mut told = refused(&scenario, 0);
        told.sort();
        assert_eq!(told, ["a", "b"], "each is told of once");
        // Again and again: no more is said of it.
        scenario.cut(0, 1);
        scenario.link(0, 1);
        scenario.run(5_000);
        assert_eq!(refused(&scenario, 0).len(), 2);
        // The others hear, and all agree.
        scenario.all_hear(&[0]);
        scenario.settle();
        assert_eq!(scenario.text(0, "a").as_deref(), Some("good"));
        assert_eq!(scenario.text(1, "a").as_deref(), Some("good"), "seed {seed}");
        assert_eq!(scenario.paths(1), ["a"]);
        assert!(kept(&scenario, 1, b"new from somebody who may only read"));
        // On its own device nothing that it did is lost: it is only not shared.
        assert_eq!(
            scenario.local_changes(2),
            [("a".to_owned(), LocalKind::Deleted), ("b".to_owned(), LocalKind::Added)]
        );
    }
}

#[test]
fn e7_what_no_writer_has_adopted_goes_and_what_was_there_before_comes_back() {
    for seed in SEEDS {
        // 0 writes, 1 reads, 2 writes and then loses the right. 2 meets only 1.
        let mut scenario = Scenario::group(seed, 3, &[0, 2]);
        scenario.write(0, "edited", b"before");
        scenario.write(0, "deleted", b"stays");
        scenario.write(0, "d/inside", b"inside");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.write(2, "edited", b"void edit");
        scenario.remove(2, "deleted");
        scenario.write(2, "new", b"void file");
        scenario.write(2, "e/f/new", b"void file in void directories");
        scenario.write(2, "d/more", b"void file in a directory that counts");
        scenario.settle();
        assert_eq!(scenario.text(1, "edited").as_deref(), Some("void edit"));
        scenario.all_hear(&[0]);
        scenario.run(4_000);
        scenario.link(0, 1);
        scenario.settle();
        assert_eq!(scenario.tree(0), scenario.tree(1), "seed {seed}");
        assert_eq!(scenario.paths(1), ["d", "d/inside", "deleted", "edited"]);
        assert_eq!(scenario.text(1, "edited").as_deref(), Some("before"));
        assert_eq!(scenario.text(1, "deleted").as_deref(), Some("stays"));
        for void in [&b"void edit"[..], b"void file", b"void file in void directories"] {
            assert!(kept(&scenario, 1, void), "seed {seed}: {}", String::from_utf8_lossy(void));
        }
        assert!(scenario.lost().is_empty());
    }
}

#[test]
fn e7_what_a_writer_has_accepted_it_adopts() {
    for seed in SEEDS {
        // All that 2 says reaches 0, who writes, through 1, who reads.
        let mut scenario = Scenario::group(seed, 4, &[0, 2]);
        scenario.write(0, "a", b"before");
        scenario.settle();
        scenario.write(2, "a", b"accepted edit");
        scenario.write(2, "d/b", b"accepted file");
        scenario.settle();
        let before: Vec<_> = ["a", "d", "d/b"].map(|path| scenario.row(0, path).known).into();
        scenario.forget();
        // They hear of it one by one, in an order that differs between seeds.
        for turn in 0..4 {
            let device = usize::try_from((seed + turn * (1 + 2 * (seed % 2))) % 4).unwrap_or(0);
            scenario.hears(device, &[0]);
            scenario.run(seed * 37);
        }
        scenario.settle();
        assert_alike(&scenario, 4);
        let after: Vec<_> = ["a", "d", "d/b"].map(|path| scenario.row(0, path).known).into();
        assert_eq!(before, after, "versions do not change by adoption");
        assert_eq!(scenario.text(3, "a").as_deref(), Some("accepted edit"), "seed {seed}");
        assert!(scenario.local_changes(2).is_empty(), "{:?}", scenario.local_changes(2));
        // Nothing went away in between, on any device.
        for device in 0..4 {
            let changed = scenario
                .events(device)
                .iter()
                .filter(|(_, event)| matches!(event, Event::Applied { .. }));
            assert_eq!(changed.count(), 0, "seed {seed}: device {device}");
        }
    }
}

#[test]
fn e7_all_orders_of_hearing_end_alike() {
    for seed in 0..24 {
        // A ring, so that words come by two ways.
        let mut scenario = Scenario::group(seed, 4, &[0, 1, 2]);
        scenario.link(0, 3);
        scenario.write(0, "a", b"first");
        scenario.write(1, "b", b"first");
        scenario.settle();
        let others = [(0, 1), (1, 2), (2, 3), (0, 3)];
        let cut = others[usize::try_from(seed).unwrap_or(0) % 4];
        scenario.cut(cut.0, cut.1);
        scenario.write(2, "a", b"second");
        scenario.remove(2, "b");
        scenario.write(2, "c", b"of the one who goes");
        scenario.run(seed * 11 % 90);
        let mut order = [0, 1, 2, 3];
        order.rotate_left(usize::try_from(seed / 4).unwrap_or(0) % 4);
        if seed % 3 == 0 {
            order.reverse();
        }
        for device in order {
            scenario.hears(device, &[0, 1]);
            scenario.run(seed * 53 % 400);
            if seed % 5 == 0 {
                scenario.crash(device);
                scenario.start(device);
            }
        }
        scenario.link(cut.0, cut.1);
        scenario.settle();
        for device in [1, 3] {
            assert_eq!(scenario.tree(0), scenario.tree(device), "seed {seed}: {device}");
        }
        // The one who may not write any more differs only by what is listed.
        let apart: Vec<_> = scenario.local_changes(2).into_iter().map(|it| it.0).collect();
        let strip = |device: usize| {
            let mut tree = scenario.tree(device);
            apart.iter().for_each(|path| drop(tree.remove(path)));
            tree
        };
        assert_eq!(strip(0), strip(2), "seed {seed}");
        assert!(scenario.lost().is_empty(), "seed {seed}: {:?}", scenario.lost());
    }
}

#[test]
fn t15_who_may_write_again_counts_again() {
    for seed in SEEDS {
        let mut scenario = Scenario::group(seed, 3, &[0, 2]);
        scenario.write(0, "a", b"before");
        scenario.settle();
        scenario.all_hear(&[0]);
        scenario.write(2, "a", b"edited by a reader");
        scenario.write(2, "b", b"made by a reader");
        scenario.settle();
        assert_eq!(scenario.text(1, "a").as_deref(), Some("before"));
        assert_eq!(scenario.paths(0), ["a"]);
        scenario.all_hear(&[0, 2]);
        scenario.settle();
        assert_alike(&scenario, 3);
        assert_eq!(scenario.text(0, "a").as_deref(), Some("edited by a reader"));
        assert_eq!(scenario.text(0, "b").as_deref(), Some("made by a reader"));
        assert!(scenario.local_changes(2).is_empty());
    }
}

#[test]
fn t15_a_device_that_was_away_while_it_lost_the_right_finds_out_at_its_start() {
    for seed in SEEDS {
        let mut scenario = Scenario::group(seed, 3, &[0, 2]);
        scenario.write(0, "a", b"before");
        scenario.settle();
        scenario.cut(1, 2);
        scenario.write(2, "a", b"said to nobody");
        scenario.settle();
        scenario.stop(2);
        scenario.all_hear(&[0]);
        scenario.start(2);
        scenario.settle();
        // What it had replaced, it does not know any more until it meets somebody.
        assert_eq!(scenario.local_changes(2), [("a".to_owned(), LocalKind::Added)]);
        scenario.forget();
        scenario.link(1, 2);
        scenario.settle();
        assert_eq!(scenario.text(0, "a").as_deref(), Some("before"));
        assert_eq!(scenario.text(2, "a").as_deref(), Some("said to nobody"));
        assert_eq!(scenario.local_changes(2), [("a".to_owned(), LocalKind::Edited)]);
        assert!(refused(&scenario, 1).is_empty(), "it did not even try");
    }
}

#[test]
fn e6_signatures_go_with_the_last_record_that_needs_them() {
    let mut scenario = Scenario::group(1, 2, &[0]);
    for turn in 0..30 {
        for path in ["a", "b", "d/c"] {
            scenario.write(0, path, format!("{path} {turn}").as_bytes());
            scenario.run(3);
            // Twice in one batch, at times.
            scenario.write(0, path, format!("{path} {turn} again").as_bytes());
        }
        scenario.run(turn * 7 % 40);
    }
    scenario.settle();
    let index = folder::index::MemIndex::open(&scenario.index(1));
    assert!(index.seals() <= 4, "{} signatures for four records", index.seals());
    assert!(index.seals() > 0);
}

#[test]
fn e7_a_stop_before_what_is_void_goes_does_not_keep_it() {
    for (seed, crash) in SEEDS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut scenario = Scenario::group(seed, 3, &[0, 2]);
        scenario.write(0, "edited", b"before");
        scenario.settle();
        scenario.cut(0, 1);
        scenario.write(2, "d/new", b"void file");
        scenario.write(2, "edited", b"void edit");
        scenario.settle();
        scenario.cut(1, 2);
        scenario.all_hear(&[0]);
        // Some of it is durable by now, and nothing is gone.
        scenario.run(2_500);
        assert_eq!(scenario.paths(1), ["d", "d/new", "edited"]);
        if crash {
            scenario.crash(1);
        } else {
            scenario.stop(1);
        }
        scenario.start(1);
        scenario.link(0, 1);
        scenario.settle();
        scenario.run(4_000);
        scenario.settle();
        assert_eq!(scenario.tree(0), scenario.tree(1), "seed {seed}");
        assert!(kept(&scenario, 1, b"void file"), "seed {seed}");
    }
}

#[test]
fn e7_many_void_files_are_not_deleted_without_a_question() {
    let mut scenario = Scenario::group(1, 3, &[0, 2]);
    scenario.stop(1);
    scenario.brake(1, folder::brake::Limit { files: 10, ..folder::brake::Limit::default() });
    scenario.start(1);
    scenario.settle();
    scenario.cut(0, 1);
    for number in 0..40 {
        scenario.write(2, &format!("f{number}"), format!("{number}").as_bytes());
    }
    scenario.settle();
    scenario.all_hear(&[0]);
    scenario.run(10_000);
    assert_eq!(scenario.paths(1).len(), 40);
    let question = scenario.braked(1).expect("it asks");
    scenario.agree(1, question);
    scenario.settle();
    assert!(scenario.paths(1).is_empty());
    assert_eq!(scenario.history(1).len(), 40);
}
