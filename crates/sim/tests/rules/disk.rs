//! Rules E10 and E12 to E16: applying beside a user who edits at the worst moment, and after a loss of
//! power.

use std::{collections::BTreeSet, sync::Arc};

use folder::engine::Event;
use sim::{
    disk::{Node, VirtualDisk},
    fault::Faults,
    history::{self, Edit},
    scenario::Scenario,
};
use tree::FileKind;

use crate::{SEEDS, assert_alike};

#[test]
fn e10_an_unwritable_directory_is_opened_for_the_apply_and_restored() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/changed", b"1");
        scenario.write(0, "d/deleted", b"x");
        scenario.settle();
        scenario.chmod(0, "d", 0o555);
        scenario.settle();
        assert_eq!(scenario.tree(1)["d"], Node::Dir { mode: 0o555 });
        scenario.write(0, "d/changed", b"2");
        scenario.write(0, "d/new", b"new");
        scenario.remove(0, "d/deleted");
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(1), ["d", "d/changed", "d/new"]);
        assert_eq!(scenario.tree(1)["d"], Node::Dir { mode: 0o555 });
    }
}

#[test]
fn e10_a_mount_point_is_not_entered_and_nothing_is_deleted_elsewhere() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/a", b"1");
        scenario.write(0, "b", b"b");
        scenario.settle();
        scenario.stop(0);
        let disk = scenario.disk(0);
        disk.remove("d").expect("remove");
        disk.special("d", FileKind::MountPoint).expect("mount");
        scenario.start(0);
        scenario.settle();
        let told = |event: &Event| matches!(event, Event::Skipped { path, .. } if path == "d");
        assert!(scenario.events(0).iter().any(|(_, event)| told(event)));
        assert_eq!(scenario.text(1, "d/a").as_deref(), Some("1"), "it is deleted elsewhere");
        scenario.write(1, "d/a", b"2");
        scenario.write(1, "b", b"still in step");
        scenario.settle();
        assert_eq!(scenario.paths(0), ["b", "d"]);
        assert_eq!(scenario.tree(0)["d"], Node::MountPoint);
        assert_eq!(scenario.text(0, "b").as_deref(), Some("still in step"));
        assert_eq!(scenario.text(1, "d/a").as_deref(), Some("2"));
    }
}

/// Contents of all files in a device's tree.
fn shown(scenario: &Scenario, device: usize) -> Vec<String> {
    let paths = scenario.paths(device);
    paths.iter().filter_map(|path| scenario.text(device, path)).collect()
}

#[test]
fn e13_what_an_editor_writes_to_a_file_it_held_open_becomes_a_copy() {
    let changes: [fn(&mut Scenario); 3] = [
        |scenario| scenario.write(0, "d/a", b"theirs"),
        |scenario| scenario.remove(0, "d"),
        |scenario| {
            scenario.remove(0, "d/a");
            scenario.write(0, "d/a/below", b"makes it a directory");
        },
    ];
    for seed in SEEDS {
        for (kind, change) in changes.into_iter().enumerate() {
            for later in [0, 1_000, 30_000] {
                let mut scenario = Scenario::linked(seed, 2);
                scenario.write(0, "d/a", b"the old one");
                scenario.write(0, "b", b"stays");
                scenario.settle();
                let held = scenario.disk(1).hold("d/a").expect("a file");
                change(&mut scenario);
                scenario.settle();
                scenario.run(later);
                held.write(b"saved late");
                scenario.run(70_000);
                scenario.settle();
                let at = format!("seed {seed}, change {kind}, after {later} ms");
                assert_alike(&scenario, 2);
                for device in 0..2 {
                    let shown = shown(&scenario, device);
                    assert!(shown.iter().any(|text| text == "saved late"), "{at}: {shown:?}");
                }
                assert_eq!(scenario.copies(0).len(), 1, "{at}");
                let told = |event: &Event| matches!(event, Event::Conflict { .. });
                assert!(scenario.events(1).iter().any(|it| told(&it.1)), "{at}");
                // What it goes on to write is seen where the file is now.
                held.write(b"and saved again");
                scenario.rescan(1);
                scenario.settle();
                let copy = &scenario.copies(0)[0];
                assert_eq!(scenario.text(0, copy).as_deref(), Some("and saved again"), "{at}");
            }
        }
    }
}

#[test]
fn e13_what_was_not_written_to_again_makes_no_copy() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"the old one");
        scenario.write(0, "b", b"deleted");
        scenario.settle();
        let held = scenario.disk(1).hold("a").expect("a file");
        scenario.write(0, "a", b"theirs");
        scenario.remove(0, "b");
        scenario.settle();
        // The same bytes again are no edit.
        held.write(b"the old one");
        scenario.run(200_000);
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), ["a"]);
        assert_eq!(scenario.history(1).len(), 2);
    }
}

/// What a user does to `a` while an apply is under way.
type Meddle = fn(&VirtualDisk);

/// Plays an update of `a` from device 0 to device 1, with an edit of `a` on device 1 just before the
/// `nth` change that the engine makes to the disk.
fn edited_during_apply(seed: u64, nth: u64, meddle: Meddle) -> Scenario {
    let mut scenario = Scenario::linked(seed, 2);
    scenario.write(0, "a", b"the old one");
    scenario.settle();
    let disk = scenario.disk(1);
    disk.before_change(nth, {
        let disk = Arc::clone(&disk);
        move || meddle(&disk)
    });
    scenario.write(0, "a", b"the new one");
    scenario.settle();
    // Nobody told the engine of the edit: if not before, it is found by the next look at everything.
    scenario.rescan(1);
    scenario.settle();
    scenario
}

/// The steps of an apply of one file, and some more.
const STEPS: std::ops::Range<u64> = 0..10;

#[test]
fn e13_an_edit_at_any_moment_of_an_apply_survives() {
    let ways: [Meddle; 3] = [
        |disk| disk.write_file("a", b"a user's edit").expect("write"),
        |disk| disk.save_by_rename("a", b"a user's edit").expect("save"),
        // As long as the old one, so that only its mtime and ctime tell.
        |disk| disk.write_file("a", b"same length").expect("write"),
    ];
    let mut met = 0;
    for seed in SEEDS {
        for nth in STEPS {
            for (way, meddle) in ways.into_iter().enumerate() {
                let scenario = edited_during_apply(seed, nth, meddle);
                assert_alike(&scenario, 2);
                let shown: Vec<_> =
                    scenario.paths(0).iter().filter_map(|path| scenario.text(0, path)).collect();
                let edit = if way == 2 { "same length" } else { "a user's edit" };
                let edited = scenario.has(1, edit.as_bytes());
                met += u32::from(edited);
                if edited {
                    assert!(
                        shown.iter().any(|text| text == edit),
                        "seed {seed}, step {nth}, way {way}: the edit is not in {shown:?}"
                    );
                }
                assert!(scenario.has(0, b"the new one"));
            }
        }
    }
    assert!(met > 50, "the edits came too late to meet an apply");
}

#[test]
fn e13_a_deletion_at_any_moment_of_an_apply_loses_nothing() {
    for seed in SEEDS {
        for nth in STEPS {
            let meddle: Meddle = |disk| disk.remove("a").expect("remove");
            let scenario = edited_during_apply(seed, nth, meddle);
            assert_alike(&scenario, 2);
            assert!(scenario.has(0, b"the new one"), "seed {seed}, step {nth}");
        }
    }
}

#[test]
fn e14_a_loss_of_power_at_any_moment_of_an_apply_loses_nothing() {
    for seed in SEEDS {
        let mut steps = 0;
        for nth in 0..60 {
            let mut scenario = Scenario::linked(seed, 2);
            scenario.write(0, "changed", b"changed: old");
            scenario.write(0, "deleted", b"deleted");
            scenario.write(0, "dir/renamed", b"renamed");
            scenario.edit(0, &Edit::Link("link".to_owned(), "there".to_owned()));
            scenario.settle();
            scenario.cut(0, 1);
            scenario.write(0, "changed", b"changed: new");
            scenario.remove(0, "deleted");
            scenario.rename(0, "dir", "other dir");
            scenario.write(0, "new dir/created", b"created");
            scenario.chmod(0, "changed", 0o755);
            scenario.edit(0, &Edit::Link("link".to_owned(), "elsewhere".to_owned()));
            scenario.settle();
            let wanted = scenario.tree(0);
            let disk = scenario.disk(1);
            let died = Arc::clone(&disk);
            disk.before_change(nth, move || died.cut_power());
            scenario.link(0, 1);
            scenario.run(3_000);
            if scenario.is_running(1) {
                break;
            }
            steps = nth;
            scenario.start(1);
            scenario.settle();
            assert_eq!(scenario.tree(1), wanted, "seed {seed}, step {nth}");
            assert_eq!(scenario.tree(0), wanted, "seed {seed}, step {nth}");
            for content in ["changed: old", "deleted"] {
                assert!(scenario.has(1, content.as_bytes()), "seed {seed}, step {nth}: {content}");
            }
            assert_eq!(scenario.swap(1), [], "seed {seed}, step {nth}");
        }
        assert!(steps > 10, "the apply had only {steps} steps");
    }
}

#[test]
fn e14_an_edit_before_a_loss_of_power_is_kept() {
    for seed in SEEDS {
        for nth in 0..8 {
            for later in 0..4 {
                let mut scenario = Scenario::linked(seed, 2);
                scenario.write(0, "a", b"the old one");
                scenario.settle();
                let disk = scenario.disk(1);
                let user = Arc::clone(&disk);
                disk.before_change(nth, move || {
                    user.save_by_rename("a", b"a user's edit").expect("save");
                    let died = Arc::clone(&user);
                    user.before_change(later, move || died.cut_power());
                });
                scenario.write(0, "a", b"the new one");
                scenario.run(3_000);
                if scenario.is_running(1) {
                    continue;
                }
                scenario.start(1);
                scenario.settle();
                assert_alike(&scenario, 2);
                let shown: Vec<_> =
                    scenario.paths(0).iter().filter_map(|path| scenario.text(0, path)).collect();
                for content in ["a user's edit", "the new one"] {
                    assert!(
                        shown.iter().any(|text| text == content),
                        "seed {seed}, {nth}, {later}: {content} is not in {shown:?}"
                    );
                }
                assert_eq!(scenario.swap(1), []);
            }
        }
    }
}

/// Cuts the power of device 1 before the `nth` change of applying what `change` does on device 0 to the
/// file `a`, lets `meddle` happen there while it is off, and starts it again. `None` if the apply was over
/// before.
fn meddled_while_off(
    seed: u64,
    nth: u64,
    change: &dyn Fn(&mut Scenario),
    meddle: Meddle,
) -> Option<Scenario> {
    let mut scenario = Scenario::linked(seed, 2);
    scenario.write(1, "a", b"the old one");
    scenario.settle();
    // An edit that lost: only device 1 has it.
    scenario.cut(0, 1);
    scenario.write(1, "a", b"an edit");
    change(&mut scenario);
    scenario.settle();
    let disk = scenario.disk(1);
    let died = Arc::clone(&disk);
    disk.before_change(nth, move || died.cut_power());
    scenario.link(0, 1);
    scenario.run(3_000);
    if scenario.is_running(1) {
        return None;
    }
    meddle(&disk);
    scenario.start(1);
    scenario.settle();
    Some(scenario)
}

#[test]
fn e12_what_is_deleted_or_changed_between_a_loss_of_power_and_the_next_start_is_said() {
    let changes: [&dyn Fn(&mut Scenario); 4] = [
        &|scenario| scenario.write(0, "a", b"another edit"),
        &|scenario| scenario.write(0, "a", b"yet another edit, which may win"),
        &|scenario| scenario.chmod(0, "a", 0o600),
        &|scenario| {
            scenario.remove(0, "a");
            scenario.write(0, "a/below", b"makes it a directory");
        },
    ];
    let meddles: [Meddle; 4] = [
        |disk| drop(disk.remove("a")),
        |disk| drop(disk.remove("a").and_then(|()| disk.write_file("a/b", b"mine"))),
        |disk| drop(disk.write_file("a", b"edited while it was off")),
        |disk| drop(disk.chmod("a", 0o700)),
    ];
    let mut cut_short = 0;
    for seed in SEEDS {
        for (kind, change) in changes.into_iter().enumerate() {
            for (way, meddle) in meddles.into_iter().enumerate() {
                for nth in 0..16 {
                    let Some(mut scenario) = meddled_while_off(seed, nth, change, meddle) else {
                        break;
                    };
                    cut_short += 1;
                    let at = format!("seed {seed}, change {kind}, way {way}, step {nth}");
                    assert_eq!(scenario.tree(0), scenario.tree(1), "{at}");
                    assert_eq!(scenario.swap(1), [], "{at}");
                    let waits = |event: &Event| matches!(event, Event::Skipped { .. });
                    for device in 0..2 {
                        let waiting = scenario.events(device).iter().find(|it| waits(&it.1));
                        assert!(waiting.is_none(), "{at}: {waiting:?}");
                    }
                    // Whatever wins from now on, its contents are to be had.
                    scenario.write(0, "a.new", b"the end");
                    scenario.settle();
                    assert_eq!(scenario.tree(0), scenario.tree(1), "{at}");
                }
            }
        }
    }
    assert!(cut_short > 200, "only {cut_short} applies were cut short");
}

/// Seeds that once went wrong, each for another reason.
#[test]
fn e12_losses_of_power_that_once_went_wrong() {
    for seed in [275, 525, 2035, 2501, 3336, 3639, 3880, 4482, 7222, 7160, 7430, 7507] {
        assert_eq!(losses_of_power(seed).1, None, "seed {seed}");
    }
}

/// What cannot be here for the name of its directory says so, also while it is tried again.
#[test]
fn e10_what_lies_below_a_name_that_cannot_be_here_says_so_all_the_time() {
    let outcome = history::play(&sim::plan(30_023_294, Faults::all()), None, false);
    assert_eq!(outcome.failure, None);
}

/// A large download that was whole, and lacked its directory, was given to nobody until the next start, when who had
/// written it was set back.
#[test]
fn e14_what_is_whole_and_has_no_place_is_given_to_others() {
    let outcome = history::play(&sim::plan(50_007_017, Faults::all()), None, false);
    assert_eq!(outcome.failure, None);
}

/// What an index says was cut short on another machine was not cut short here: a directory of which nothing is known is
/// as its user made it.
#[test]
fn e5_a_copied_index_opens_no_directory() {
    let outcome = history::play(&sim::plan(30_189_776, Faults::all()), None, false);
    assert_eq!(outcome.failure, None);
}

/// What a directory's mode was changed on top of could not be read: the record claimed contents that it had not
/// seen, and the engine could not read it again.
#[test]
fn e3_a_change_claims_no_contents_that_it_has_not_seen() {
    let plan = sim::plan(13_774, Faults::all());
    assert_eq!(history::play(&plan, None, false).failure, None);
}

#[test]
fn e16_what_a_user_puts_into_a_directory_just_made_is_noticed() {
    for seed in SEEDS {
        for delay in 0..6 {
            let mut scenario = Scenario::linked(seed, 2);
            scenario.write(0, "d/e/theirs", b"theirs");
            while !scenario.tree(1).contains_key("d/e") {
                scenario.run(1);
            }
            scenario.run(delay);
            scenario.write(1, "d/e/mine", b"mine");
            scenario.write(1, "d/f/mine", b"mine too");
            scenario.settle();
            assert_alike(&scenario, 2);
            assert_eq!(scenario.text(0, "d/e/mine").as_deref(), Some("mine"));
            assert_eq!(scenario.text(0, "d/f/mine").as_deref(), Some("mine too"));
            assert_eq!(scenario.text(1, "d/e/theirs").as_deref(), Some("theirs"));
        }
    }
}

/// Numbers decided by a seed.
struct Dice(blake3::OutputReader);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        usize::try_from(u32::from_le_bytes(bytes)).expect("fits") % end
    }
}

/// A number out of the environment, for runs over more seeds than CI has time for.
fn number_of(variable: &str, otherwise: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Plays many edits on two or three devices that lose their power now and then, and says how often they
/// did, and what is wrong in the end, if anything.
fn losses_of_power(seed: u64) -> (u32, Option<String>) {
    let mut losses = 0;
    let mut dice = Dice(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof());
    let mut scenario = Scenario::linked(seed, 2 + dice.below(2));
    let devices = scenario.devices();
    for number in 0..40 {
        let device = dice.below(devices);
        let names = ["a", "b", "c", "d", "a/b", "a/c", "b/a", "b/a/c"];
        let path = names[dice.below(names.len())].to_owned();
        let bytes = format!("content {number}").into_bytes();
        let edit = match dice.below(12) {
            0..=4 => Edit::Write(path, bytes),
            5 | 6 => Edit::SaveByRename(path, bytes),
            7 | 8 => Edit::Remove(path),
            9 => Edit::Rename(path, names[dice.below(names.len())].to_owned()),
            10 => Edit::MakeDir(path),
            _ => Edit::Chmod(path, [0o700, 0o755][dice.below(2)]),
        };
        scenario.try_edit(device, &edit);
        if dice.below(4) == 0 {
            scenario.run(dice.below(300) as u64);
        }
        let device = dice.below(devices);
        if !scenario.is_running(device) {
            losses += 1;
            scenario.start(device);
        } else if dice.below(6) == 0 {
            let disk = scenario.disk(device);
            let dies = Arc::clone(&disk);
            disk.before_change(dice.below(20) as u64, move || dies.cut_power());
        }
    }
    for device in 0..devices {
        scenario.run(500);
        scenario.disk(device).restore_power();
        scenario.start(device);
    }
    scenario.settle();
    let lost = scenario.lost();
    if !lost.is_empty() {
        return (losses, Some(format!("lost {lost:?}")));
    }
    for device in 1..devices {
        let (one, other) = (scenario.tree(0), scenario.tree(device));
        let paths: BTreeSet<_> = one.keys().chain(other.keys()).collect();
        if let Some(path) = paths.into_iter().find(|path| one.get(*path) != other.get(*path)) {
            let (one, other) = (one.get(path), other.get(path));
            let wrong = format!("{path}: {one:?} on device 0, {other:?} on device {device}");
            return (losses, Some(wrong));
        }
    }
    (losses, None)
}

#[test]
fn e12_losses_of_power_among_many_edits_lose_nothing() {
    let (mut losses, first) = (0, number_of("KIN_SIM_FROM", 0));
    let mut wrong = Vec::new();
    for seed in first..first + number_of("KIN_SIM_SEEDS", 300) {
        let (some, failure) = losses_of_power(seed);
        losses += some;
        wrong.extend(failure.map(|failure| format!("seed {seed}: {failure}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(losses > 20 || first > 0, "only {losses} losses of power");
}
