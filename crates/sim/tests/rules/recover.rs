//! Rule E14: what an interrupted run left in `.kin`.

use std::sync::Arc;

use folder::{
    content::ContentReader,
    jobs::{self, Done, Job},
};
use sim::{
    disk::{Fold, VirtualDisk},
    history::Edit,
    scenario::Scenario,
};
use tree::{
    Disk as _, Place,
    apply::{HistoryName, Why},
};
use wire::{Hash, RelPath};

use crate::{SEEDS, assert_alike, noise};

const DAY_MS: i64 = 24 * 3600 * 1000;

fn recover(disk: &VirtualDisk, now_ms: i64) {
    let job = Job::Recover { items: Vec::new(), now: now_ms * 1_000_000 };
    match jobs::run(disk, job) {
        Done::Recovered { skipped, emptied, .. } => {
            assert_eq!((skipped, emptied), (Vec::new(), Vec::new()));
        }
        other => panic!("{other:?}"),
    }
}

fn put(disk: &VirtualDisk, place: &Place, contents: &[u8]) {
    let file = disk.open_own(place).expect("open");
    file.write_at(contents, 0).expect("write");
}

#[test]
fn e14_what_nobody_knows_of_in_swap_goes_to_history() {
    let disk = VirtualDisk::new();
    put(&disk, &Place::Swap(5), b"whose is it?");
    put(&disk, &Place::Swap(6), b"and this?");
    recover(&disk, 1);
    let all = disk.all_contents();
    for contents in [b"whose is it?".as_slice(), b"and this?"] {
        let kept = all.iter().find(|(_, bytes)| ***bytes == *contents);
        let (path, _) = kept.expect("it is kept");
        assert!(path.starts_with(".kin/history/"), "{path}");
    }
    assert!(disk.own_files().expect("own files").is_empty());
}

#[test]
fn e14_a_download_is_kept_for_seven_days() {
    let disk = VirtualDisk::new();
    let place = Place::Partial(Hash([3; 32]));
    put(&disk, &place, b"half of it");
    recover(&disk, 6 * DAY_MS);
    assert!(disk.stat(&place).expect("stat").is_some());
    recover(&disk, 8 * DAY_MS);
    assert!(disk.stat(&place).expect("stat").is_none());
}

#[test]
fn e13_a_file_that_makes_room_for_a_directory_is_never_gone() {
    let mut met = 0;
    for seed in SEEDS {
        for nth in 0..12 {
            let mut scenario = Scenario::linked(seed, 2);
            scenario.write(1, "a", b"the old one");
            scenario.settle();
            let disk = scenario.disk(1);
            let user = Arc::clone(&disk);
            // Where a directory is about to be made, somebody puts a file.
            disk.before_change(nth, move || {
                if user.contents("a").is_none() {
                    drop(user.save_by_rename("a", b"a user's edit"));
                }
            });
            scenario.remove(0, "a");
            scenario.write(0, "a/below", b"below");
            scenario.settle();
            scenario.rescan(1);
            scenario.settle();
            assert_alike(&scenario, 2);
            let at = format!("seed {seed}, step {nth}");
            assert_eq!(scenario.text(0, "a/below").as_deref(), Some("below"), "{at}");
            assert!(scenario.has(1, b"the old one"), "{at}");
            assert_eq!(scenario.swap(1), [], "{at}");
            if scenario.has(1, b"a user's edit") {
                met += 1;
                let paths = scenario.paths(0);
                let shown = paths.iter().filter_map(|path| scenario.text(0, path));
                assert!(shown.into_iter().any(|text| text == "a user's edit"), "{at}: {paths:?}");
            }
        }
    }
    assert!(met > 0, "nobody came in between");
}

/// Device 0 writes a file; device 1 loses its power before its n-th change from now. Both are stopped then. True if device 1
/// died, and has the contents.
fn dies_with_the_only_copy(scenario: &mut Scenario, nth: u64, path: &str) -> bool {
    let disk = scenario.disk(1);
    let died = Arc::clone(&disk);
    disk.before_change(nth, move || died.cut_power());
    scenario.write(0, path, b"the only copy");
    scenario.run(3_000);
    let dies = !scenario.is_running(1) && scenario.has(1, b"the only copy");
    scenario.stop(0);
    dies
}

#[test]
fn e14_a_whole_file_that_cannot_be_put_in_place_is_given_to_others() {
    // Found by `--faults all --from 10014368`: who wrote it was set back, and who had it could not show it.
    let mut whole = 0;
    for seed in SEEDS {
        for nth in 0..8 {
            let mut scenario = Scenario::folding(seed, &[Fold::None, Fold::Case]);
            scenario.write(0, "d/a", b"its twin");
            scenario.settle();
            let backup = scenario.index(0).copy();
            if !dies_with_the_only_copy(&mut scenario, nth, "D/b") {
                continue;
            }
            whole += 1;
            scenario.put_index(0, backup);
            drop(scenario.disk(0).remove("D"));
            scenario.start(1);
            scenario.start(0);
            scenario.settle();
            let given = scenario.text(0, "D/b");
            assert_eq!(given.as_deref(), Some("the only copy"), "seed {seed}, step {nth}");
        }
    }
    assert!(whole > 0, "it was never ready");
}

#[test]
fn e14_a_whole_file_that_was_ready_is_kept() {
    // Found by `--faults all --from 12865`: who wrote it was set back before the device came up again.
    let mut whole = 0;
    for seed in SEEDS {
        for replaces in [false, true] {
            for nth in 0..8 {
                let mut scenario = Scenario::linked(seed, 2);
                if replaces {
                    scenario.write(0, "d/a", b"before");
                }
                scenario.settle();
                let backup = scenario.index(0).copy();
                if !dies_with_the_only_copy(&mut scenario, nth, "d/a") {
                    continue;
                }
                whole += 1;
                scenario.put_index(0, backup);
                if replaces {
                    drop(scenario.disk(0).write_file("d/a", b"before"));
                } else {
                    drop(scenario.disk(0).remove("d"));
                }
                scenario.start(1);
                scenario.start(0);
                scenario.settle();
                let at = format!("seed {seed}, step {nth}, replaces: {replaces}");
                assert_alike(&scenario, 2);
                assert_eq!(scenario.text(0, "d/a").as_deref(), Some("the only copy"), "{at}");
            }
        }
    }
    assert!(whole > 0, "it was never ready");
}

/// A device is killed before a change of its disk, starts again, and loses its power before a later one. True if
/// both came to pass.
fn stopped_twice(seed: u64, nth: u64, later: u64) -> bool {
    let mut scenario = Scenario::linked(seed, 2);
    scenario.write(0, "changed", b"the first");
    scenario.settle();
    scenario.cut(0, 1);
    scenario.write(0, "x/y", b"in a directory");
    scenario.write(1, "x", b"in the way of it");
    scenario.write(0, "changed", b"on one side");
    scenario.write(1, "changed", b"on the other side");
    scenario.edit(0, &Edit::Link("link".to_owned(), "somewhere".to_owned()));
    scenario.settle();
    let disk = scenario.disk(1);
    disk.forget_unsynced();
    let died = Arc::clone(&disk);
    disk.before_change(nth, move || died.cut_power());
    scenario.link(0, 1);
    scenario.run(3_000);
    if scenario.is_running(1) {
        return false;
    }
    scenario.loses_power(1);
    let died = Arc::clone(&disk);
    scenario.start(1);
    disk.before_change(later, move || died.cut_power());
    scenario.run(3_000);
    let twice = !scenario.is_running(1);
    if twice {
        scenario.start(1);
    }
    scenario.settle();
    assert_alike(&scenario, 2);
    let shown: Vec<_> =
        scenario.paths(1).iter().filter_map(|path| scenario.text(1, path)).collect();
    for text in ["in a directory", "in the way of it", "on one side", "on the other side"] {
        assert!(
            shown.iter().any(|it| it == text),
            "{seed}, {nth}, {later}: no {text} in {shown:?}"
        );
    }
    assert!(scenario.tree(0).contains_key("link"), "{seed}, {nth}, {later}");
    twice
}

#[test]
fn e12_what_a_recovery_finds_and_puts_back_outlives_a_loss_of_power() {
    // Found by `--faults all --from 38802` and `--from 38834`: the index said more than was durable.
    let mut twice = 0;
    for seed in 0..3 {
        for nth in 0..24 {
            for later in 0..24 {
                twice += usize::from(stopped_twice(seed, nth, later));
            }
        }
    }
    assert!(twice > 100, "only {twice} histories had both");
}

#[test]
fn e15_a_large_content_in_history_becomes_a_download_that_is_done() {
    let disk = VirtualDisk::new();
    let bytes = noise(9, 3 << 20);
    let place = Place::Partial(Hash([3; 32]));
    put(&disk, &place, &bytes);
    let stat = disk.stat(&place).expect("stat").expect("is there");
    let file = disk.open(&place).expect("open");
    let content = ContentReader::new().read(&*file, &stat).expect("read").content;
    let path = RelPath::parse("d/film").expect("a path");
    // The name of an edit that lost says nothing of its contents.
    for (number, why) in [(content.head(), Why::Deleted), (77 << 32, Why::Conflict)] {
        let name = HistoryName::new(&path, 5, number, why);
        let kept = Place::History(name.place());
        disk.rename_new(&place, &kept).expect("rename");
        let wanted = vec![(Hash([4; 32]), stat.size), (content, stat.size)];
        let Done::FoundKept { found } = jobs::run(&disk, Job::FindKept { wanted }) else {
            panic!("another job");
        };
        assert_eq!(found, [(Hash([4; 32]), None), (content, Some(kept.clone()))]);
        let job = Job::TakeKept { content, size: stat.size, source: kept.clone() };
        let Done::TookKept { list, .. } = jobs::run(&disk, job) else { panic!("another job") };
        let list = list.expect("the disk is sound").expect("it is there");
        assert_eq!(list.content(), content);
        let download = disk.stat(&Place::Partial(content)).expect("stat");
        assert_eq!(download.map(|it| it.size), Some(stat.size));
        let job = Job::TakeKept { content: Hash([4; 32]), size: stat.size, source: kept.clone() };
        let Done::TookKept { list, .. } = jobs::run(&disk, job) else { panic!("another job") };
        assert!(list.expect("the disk is sound").is_none(), "another content was taken for it");
        disk.rename_new(&kept, &place).expect("rename");
    }
}

#[test]
fn e12_ends_in_a_row_while_a_directory_takes_a_files_place_make_no_copy() {
    let mut died = [0; 3];
    let mut bad = Vec::new();
    let mut random = 7u64;
    let mut below = |end: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % end
    };
    for number in 0..400u64 {
        let seed = below(1000);
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(1, "f", b"the old one");
        scenario.settle();
        scenario.stop(1);
        scenario.remove(0, "f");
        scenario.write(0, "f/inside", b"inside");
        scenario.settle();
        let mut story = Vec::new();
        for times in &mut died {
            let nth = below(45);
            story.push(nth);
            scenario.start(1);
            if nth < 12 {
                let disk = scenario.disk(1);
                let dies = Arc::clone(&disk);
                disk.before_change(nth, move || dies.cut_power());
                scenario.run(3_000);
            } else {
                scenario.run(nth - 12);
                if scenario.is_running(1) {
                    scenario.crash(1);
                }
            }
            if scenario.is_running(1) {
                break;
            }
            *times += 1;
        }
        scenario.disk(1).restore_power();
        scenario.start(1);
        scenario.settle();
        assert_alike(&scenario, 2);
        if !scenario.copies(1).is_empty() {
            bad.push((number, seed, story));
        }
    }
    assert!(died.iter().all(|times| *times > 50), "{died:?}");
    // The history's number, its seed, and where each of the three ends came.
    assert!(bad.is_empty(), "{bad:?}");
}
