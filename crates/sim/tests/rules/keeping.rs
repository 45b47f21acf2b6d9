//! Rule E17: what of history goes and what never does, and applies that lack space. Bringing back, beside a
//! running engine.

use std::sync::Arc;

use folder::{
    engine::Event,
    history::{
        self, Why,
        restore::{Before, RestoreError, Restored, Wanted, restore},
    },
};
use sim::{disk::VirtualDisk, scenario::Scenario};
use wire::{Hash, RelPath};

use crate::{SEEDS, assert_alike, noise};

const HOUR_MS: u64 = 3_600_000;
/// The wall clock at the start of each seed: 2026-01-01, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_767_225_600_000;

fn path(text: &str) -> RelPath {
    if text.is_empty() { RelPath::root() } else { RelPath::parse(text).expect("a path") }
}

/// Lets hours pass, some at a time.
fn hours(scenario: &mut Scenario, hours: u64) {
    for _ in 0..hours {
        scenario.run(HOUR_MS);
    }
}

/// What device 1 has in history: why, and which path.
fn kept(scenario: &Scenario) -> Vec<(Why, String)> {
    let found = history::list(&*scenario.disk(1), &RelPath::root()).expect("list");
    assert_eq!((found.foreign, found.unreadable), (0, vec![]));
    found.entries.iter().map(|entry| (entry.name.why, entry.name.path.to_string())).collect()
}

fn was_told_of_space(scenario: &Scenario, path: &str) -> bool {
    scenario.events(1).iter().any(|(_, event)| {
        matches!(event, Event::Skipped { path: told, reason } if told == path && reason.contains("full"))
    })
}

/// Device 1 keeps two old versions of 300 KB, and has room for little more.
fn full(seed: u64, age: u64) -> Scenario {
    let mut scenario = Scenario::linked(seed, 2);
    scenario.write(0, "replaced", &noise(1, 300_000));
    scenario.write(0, "d/deleted", &noise(2, 300_000));
    scenario.settle();
    scenario.write(0, "replaced", b"small");
    scenario.remove(0, "d/deleted");
    scenario.settle();
    hours(&mut scenario, age);
    scenario.settle();
    let both = [(Why::Deleted, "d/deleted".to_owned()), (Why::Replaced, "replaced".to_owned())];
    let mut found = kept(&scenario);
    found.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(found, both);
    let disk = scenario.disk(1);
    disk.set_capacity(disk.used() + 50_000);
    scenario
}

#[test]
fn e17_an_apply_that_lacks_space_clears_old_versions_away_and_goes_on() {
    for seed in SEEDS {
        for size in [200_000, 3_000_000] {
            let mut scenario = full(seed, 26);
            let disk = scenario.disk(1);
            // The larger one has the space that both old versions take, and no more.
            disk.set_capacity(disk.used() + size - 600_000.min(size - 100_000));
            let new = noise(3, usize::try_from(size).expect("fits"));
            scenario.write(0, "new", &new);
            scenario.settle();
            scenario.run(10_000);
            scenario.settle();
            assert_alike(&scenario, 2);
            assert!(scenario.has(1, &new), "seed {seed}: it did not come");
            assert!(kept(&scenario).len() < 2, "seed {seed}: nothing made room");
            assert!(
                !was_told_of_space(&scenario, "new"),
                "seed {seed}: it was told, though it could be helped"
            );
        }
    }
}

#[test]
fn e17_where_nothing_may_go_the_apply_waits_with_an_error_until_there_is_room() {
    for seed in SEEDS {
        for size in [200_000, 3_000_000] {
            let mut scenario = full(seed, 22);
            let new = noise(3, size);
            let before = scenario.events(1).len();
            scenario.write(0, "new", &new);
            scenario.write(0, "tiny", b"fits");
            scenario.run(30_000);
            assert!(was_told_of_space(&scenario, "new"), "seed {seed}: nobody was told");
            // Nobody is told that all agree before being told what does not (rule E25).
            let events = &scenario.events(1)[before..];
            let agreed = events.iter().position(|(_, event)| matches!(event, Event::InSync { .. }));
            let told = events.iter().position(
                |(_, event)| matches!(event, Event::Skipped { path, .. } if path == "new"),
            );
            assert!(agreed.is_none_or(|agreed| told < Some(agreed)), "seed {seed}: {events:?}");
            assert_eq!(kept(&scenario).len(), 2, "seed {seed}: what is younger than a day went");
            assert_eq!(scenario.text(1, "tiny").as_deref(), Some("fits"), "the rest goes on");
            scenario.disk(1).set_capacity(1 << 40);
            scenario.run(400_000);
            scenario.settle();
            assert_alike(&scenario, 2);
            assert!(scenario.has(1, &new));
        }
    }
}

#[test]
fn e17_an_edit_that_lost_is_marked_and_never_goes() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"first");
        scenario.settle();
        // The names of both possible copies are taken, so that history has to hold the loser.
        for (device, text) in [(0, "edit of 0"), (1, "edit of 1")] {
            let replica = scenario.replica(device).expect("runs").0;
            let copy =
                tree::apply::conflict_name(&path("a"), replica, Hash::of(text.as_bytes()).head());
            scenario.write(0, copy.as_str(), b"in its way");
        }
        scenario.settle();
        scenario.cut(0, 1);
        scenario.write(0, "a", b"edit of 0");
        scenario.write(1, "a", b"edit of 1");
        scenario.run(1_000);
        scenario.link(0, 1);
        scenario.settle();
        assert_alike(&scenario, 2);
        let winner = scenario.text(0, "a").expect("is there");
        let (device, loser) =
            if winner == "edit of 0" { (1, "edit of 1") } else { (0, "edit of 0") };
        let disk = scenario.disk(device);
        let entries = || history::versions(&*disk, &path("a")).expect("list");
        let of = |why| entries().iter().filter(|entry| entry.name.why == why).count();
        assert_eq!(of(Why::Conflict), 1, "seed {seed}: {:?}", entries());
        // Old, and the disk full.
        hours(&mut scenario, 26);
        disk.set_capacity(disk.used());
        scenario.write(1 - device, "big", &noise(5, 100_000));
        scenario.run(60_000);
        assert_eq!(of(Why::Conflict), 1, "seed {seed}");
        assert_eq!(of(Why::Replaced), 0, "seed {seed}: what may go did not");
        assert!(scenario.has(device, loser.as_bytes()), "seed {seed}: an edit is lost");
    }
}

#[test]
fn e17_what_is_thirty_days_old_goes_and_leaves_no_directory() {
    let mut scenario = full(1, 26);
    scenario.disk(1).set_capacity(1 << 40);
    hours(&mut scenario, 28 * 24);
    assert_eq!(kept(&scenario).len(), 2, "too early");
    hours(&mut scenario, 24);
    assert_eq!(kept(&scenario), []);
    let listing = scenario.disk(1);
    let listing = tree::Disk::list_history(&*listing, &RelPath::root()).expect("is still there");
    assert_eq!(listing.entries, [], "an empty directory is left");
}

#[test]
fn e17_a_loss_of_power_while_clearing_away_loses_nothing_else() {
    for nth in 0..12 {
        let mut scenario = full(3, 26);
        let disk = scenario.disk(1);
        let died = Arc::clone(&disk);
        disk.before_change(nth, move || died.cut_power());
        scenario.write(0, "new", &noise(3, 200_000));
        scenario.run(30_000);
        scenario.start(1);
        scenario.settle();
        scenario.run(10_000);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.swap(1), []);
        assert!(scenario.has(1, &noise(3, 200_000)), "step {nth}");
    }
}

fn wanted<'a>(scenario: &Scenario, path: &'a RelPath) -> Wanted<'a> {
    Wanted { path, at: None, to: None, now: EPOCH_MS + scenario.now(), random: 7 }
}

/// Brings something back on device 1, as another process does: the engine is not told.
fn bring_back(scenario: &mut Scenario, what: &str) -> Result<Vec<Restored>, RestoreError> {
    let what = path(what);
    let wanted = wanted(scenario, &what);
    restore(&*scenario.disk(1), wanted).map(|outcome| {
        assert!(outcome.failed.is_empty() && outcome.occupied.is_empty(), "{outcome:?}");
        outcome.restored
    })
}

#[test]
fn what_is_brought_back_travels_as_a_new_change() {
    for seed in SEEDS {
        let mut scenario = full(seed, 1);
        scenario.disk(1).set_capacity(1 << 40);
        let before = scenario.tree(1)["replaced"].clone();
        let restored = bring_back(&mut scenario, "replaced").expect("is in history");
        let Before::Replaced(place) = &restored[0].before else { panic!("{restored:?}") };
        let now_kept = scenario.history(1).into_iter().find(|(at, _)| at.ends_with(place.as_str()));
        assert_eq!(now_kept.map(|(_, contents)| contents).as_deref(), Some(&b"small"[..]));
        let again = bring_back(&mut scenario, "replaced").expect("is in history");
        assert!(
            matches!(&again[0].before, Before::Replaced(_)),
            "the newest is what was just replaced"
        );
        assert_eq!(scenario.text(1, "replaced").as_deref(), Some("small"));
        assert!(matches!(before, sim::disk::Node::File { .. }));
        // The whole directory, which is gone.
        let restored = bring_back(&mut scenario, "d").expect("is in history");
        assert_eq!(restored[0].before, Before::Nothing);
        scenario.rescan(1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert!(
            scenario.paths(0).contains(&"d/deleted".to_owned()),
            "seed {seed}: it did not travel"
        );
        assert!(scenario.has(0, &noise(2, 300_000)));
        assert_eq!(scenario.copies(0), [] as [&str; 0], "it came as a conflict");
        // Deleted once more, it is deleted everywhere.
        scenario.remove(0, "d/deleted");
        scenario.settle();
        assert_alike(&scenario, 2);
        assert!(!scenario.paths(1).contains(&"d/deleted".to_owned()));
    }
}

#[test]
fn an_unsynced_edit_at_any_moment_of_bringing_back_survives() {
    type Meddle = fn(&VirtualDisk);
    let ways: [Meddle; 4] = [
        |disk| disk.write_file("replaced", b"an edit").expect("write"),
        |disk| disk.save_by_rename("replaced", b"an edit").expect("save"),
        |disk| disk.remove("replaced").expect("remove"),
        |disk| {
            disk.remove("replaced").expect("remove");
            disk.mkdir("replaced/inside").expect("mkdir");
        },
    ];
    for nth in 0..10 {
        for (way, meddle) in ways.into_iter().enumerate() {
            let mut scenario = full(5, 1);
            let disk = scenario.disk(1);
            disk.set_capacity(1 << 40);
            let user = Arc::clone(&disk);
            disk.before_change(nth, move || meddle(&user));
            let outcome = bring_back(&mut scenario, "replaced");
            if way < 2 {
                assert!(
                    scenario.has(1, b"an edit") || nth > 6,
                    "step {nth}, way {way}: it is lost"
                );
            }
            match outcome {
                Ok(_) => assert!(scenario.has(1, &noise(1, 300_000))),
                Err(RestoreError::TargetIsDir) => {
                    assert!(
                        disk.snapshot().contains_key("replaced/inside"),
                        "step {nth}, way {way}"
                    );
                }
                Err(error) => panic!("step {nth}, way {way}: {error}"),
            }
            assert_eq!(tree::Disk::own_files(&*disk).expect("list"), [], "step {nth}, way {way}");
        }
    }
}

#[test]
fn a_loss_of_power_at_any_moment_of_bringing_back_loses_nothing() {
    let mut steps = 0;
    for nth in 0..20 {
        let mut scenario = full(7, 1);
        let disk = scenario.disk(1);
        disk.set_capacity(1 << 40);
        scenario.stop(1);
        disk.write_file("replaced", b"never synced").expect("write");
        let died = Arc::clone(&disk);
        disk.before_change(nth, move || died.cut_power());
        let outcome = bring_back(&mut scenario, "replaced");
        let whole = [&b"never synced"[..], &noise(1, 300_000)];
        let shown = disk.contents("replaced").expect("never absent");
        assert!(whole.contains(&&shown[..]), "step {nth}: a mixture");
        assert!(scenario.has(1, b"never synced"), "step {nth}: an unsynced edit is lost");
        for (at, contents) in scenario.history(1) {
            let known = [&b"never synced"[..], &noise(1, 300_000), &noise(2, 300_000)];
            assert!(known.contains(&&contents[..]), "step {nth}: {at} is no whole version");
        }
        if outcome.is_ok() {
            break;
        }
        steps = nth;
        scenario.start(1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert!(scenario.has(1, b"never synced"), "step {nth}");
    }
    assert!(steps >= 5, "only {steps} steps");
}

#[test]
fn a_copy_that_a_crash_left_goes_after_a_week() {
    let mut scenario = full(9, 1);
    let disk = scenario.disk(1);
    disk.set_capacity(1 << 40);
    let died = Arc::clone(&disk);
    disk.before_change(2, move || died.cut_power());
    assert!(bring_back(&mut scenario, "replaced").is_err());
    disk.restore_power();
    let left = || tree::Disk::own_files(&*scenario.disk(1)).expect("list").len();
    assert_eq!(left(), 1);
    for (days, stay) in [(1, 1), (7, 0)] {
        hours(&mut scenario, days * 24);
        scenario.stop(1);
        scenario.start(1);
        scenario.settle();
        assert_eq!(tree::Disk::own_files(&*scenario.disk(1)).expect("list").len(), stay);
    }
}

/// A clock that is three years ahead for some minutes empties no history, however often kin is started meanwhile.
#[test]
fn e17_starts_under_a_wrong_clock_clear_nothing_away() {
    let mut scenario = Scenario::linked(1, 2);
    for number in 0..20 {
        scenario.write(0, &number.to_string(), b"before");
    }
    scenario.settle();
    for number in 0..20 {
        scenario.write(0, &number.to_string(), format!("after {number}").as_bytes());
    }
    scenario.settle();
    hours(&mut scenario, 30);
    assert_eq!(kept(&scenario).len(), 20);
    for off in [3 * 365 * 24, 0] {
        for _ in 0..30 {
            scenario.stop(1);
            scenario.set_clock(1, off * HOUR_MS.cast_signed());
            scenario.start(1);
            scenario.run(60_000);
        }
        assert_eq!(kept(&scenario).len(), 20, "{off} hours off");
    }
    // What is too old goes as it should, in a run or over many.
    hours(&mut scenario, 24 * 31);
    let left = kept(&scenario).len();
    assert!(left < 20, "{left}");
    for _ in 0..60 {
        scenario.stop(1);
        scenario.run(HOUR_MS);
        scenario.start(1);
        scenario.run(60_000);
    }
    assert_eq!(kept(&scenario), []);
}
