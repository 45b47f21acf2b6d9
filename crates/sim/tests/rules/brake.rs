//! Rule E19: the brake on mass deletions.

use folder::{brake::Limit, engine::Event};
use sim::{disk::Fold, history::Edit, scenario::Scenario};

use crate::{SEEDS, assert_alike};

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Devices that brake as they do when nobody says otherwise, all with a hundred files in `d`.
fn with_files(seed: u64, devices: usize) -> Scenario {
    let mut scenario = Scenario::new(seed, devices);
    for device in 0..devices {
        scenario.brake(device, Limit::default());
        scenario.start(device);
    }
    for device in 1..devices {
        scenario.link(device - 1, device);
    }
    for number in 0..100 {
        scenario.write(0, &format!("d/{number}"), format!("contents {number}").as_bytes());
    }
    scenario.settle();
    // So that they are not short-lived.
    scenario.run(HOUR_MS);
    scenario
}

fn remove(scenario: &mut Scenario, device: usize, numbers: std::ops::Range<u32>) {
    for number in numbers {
        scenario.remove(device, &format!("d/{number}"));
    }
}

fn files(scenario: &Scenario, device: usize) -> usize {
    scenario.paths(device).iter().filter(|path| path.starts_with("d/")).count()
}

/// What was told of held deletions: how many, of how many, and how many were found on the device.
fn brakes(scenario: &Scenario, device: usize) -> Vec<(u64, u64, bool)> {
    let brake = |event: &Event| match event {
        Event::Brake { deletes, of, here, .. } => Some((*deletes, *of, *here)),
        _ => None,
    };
    scenario.events(device).iter().filter_map(|(_, event)| brake(event)).collect()
}

fn says_in_sync(scenario: &Scenario, device: usize) -> bool {
    scenario.events(device).iter().any(|(_, event)| matches!(event, Event::InSync { .. }))
}

#[test]
fn e19_a_mass_deletion_found_here_is_held_and_all_else_goes_on() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.forget();
        remove(&mut scenario, 0, 0..60);
        scenario.settle();
        assert_eq!(brakes(&scenario, 0), [(60, 100, true)]);
        assert_eq!(files(&scenario, 1), 100);
        assert!(!says_in_sync(&scenario, 0) && !says_in_sync(&scenario, 1));

        scenario.write(0, "new", b"from 0");
        scenario.write(1, "d/70", b"edit");
        scenario.remove(0, "d/80");
        scenario.settle();
        assert_eq!(scenario.text(1, "new").as_deref(), Some("from 0"));
        assert_eq!(scenario.text(0, "d/70").as_deref(), Some("edit"));
        assert_eq!(files(&scenario, 1), 100, "one more deletion is held too");
        assert!(!says_in_sync(&scenario, 0) && !says_in_sync(&scenario, 1));

        let question = scenario.braked(0).expect("is asked");
        scenario.agree(0, question);
        scenario.settle();
        // The other device asks its own person.
        assert_eq!(brakes(&scenario, 1), [(61, 101, false)]);
        assert_eq!(files(&scenario, 1), 100);
        let question = scenario.braked(1).expect("is asked");
        scenario.agree(1, question);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(files(&scenario, 1), 39);
        assert!(says_in_sync(&scenario, 0) && says_in_sync(&scenario, 1));
    }
}

#[test]
fn attack_31_an_announced_deletion_of_everything_deletes_nothing_unasked() {
    for seed in SEEDS {
        let mut scenario = Scenario::new(seed, 2);
        scenario.brake(1, Limit::default());
        for number in 0..100 {
            scenario.write(0, &format!("d/{number}"), format!("contents {number}").as_bytes());
        }
        scenario.start(0);
        scenario.start(1);
        scenario.link(0, 1);
        scenario.settle();
        scenario.forget();
        scenario.remove(0, "d");
        scenario.settle();
        assert_eq!(files(&scenario, 0), 0);
        assert_eq!(files(&scenario, 1), 100);
        assert_eq!(brakes(&scenario, 1), [(100, 100, false)]);
        let from = scenario.events(1).iter().find_map(|(_, event)| match event {
            Event::Brake { from, .. } => Some(from.clone()),
            _ => None,
        });
        assert_eq!(from.as_deref(), Some("device 0"));
        scenario.run(2 * DAY_MS);
        assert_eq!(files(&scenario, 1), 100, "time is no consent");
        assert!(!says_in_sync(&scenario, 0) && !says_in_sync(&scenario, 1));
        assert_eq!(brakes(&scenario, 1).len(), 1, "it is told once");
    }
}

#[test]
fn e19_an_emptied_folder_is_no_deletion_between_two_runs_either() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.stop(0);
        scenario.remove(0, "d");
        scenario.forget();
        scenario.start(0);
        scenario.settle();
        assert_eq!(brakes(&scenario, 0), [(100, 100, true)]);
        assert_eq!(files(&scenario, 1), 100);
        // It is held after another start, too.
        scenario.stop(0);
        scenario.start(0);
        scenario.settle();
        assert_eq!(brakes(&scenario, 0).len(), 2);
        assert_eq!(files(&scenario, 1), 100);
        scenario.stop(0);
        for device in [0, 1] {
            scenario.stop(device);
            scenario.accept_deletes(device, true);
        }
        scenario.forget();
        scenario.start(0);
        scenario.start(1);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(files(&scenario, 1), 0);
        assert_eq!((brakes(&scenario, 0), brakes(&scenario, 1)), (vec![], vec![]));
    }
}

#[test]
fn e19_what_is_held_below_a_directory_that_cannot_be_here_is_asked_about_after_a_restart_too() {
    for seed in SEEDS {
        let mut scenario = Scenario::folding(seed, &[Fold::None, Fold::Case]);
        scenario.stop(1);
        scenario.brake(1, Limit { files: 2, ..Limit::default() });
        scenario.start(1);
        for name in ["a/A", "a/b", "a/c"] {
            scenario.write(0, name, name.as_bytes());
        }
        scenario.settle();
        scenario.run(HOUR_MS);
        scenario.forget();
        scenario.remove(1, "a");
        scenario.settle();
        assert_eq!(brakes(&scenario, 1).len(), 1);
        // An edit elsewhere keeps the directory, whose name is taken here by now.
        scenario.write(0, "a/a/a", b"new");
        scenario.write(1, "A/b", b"another");
        scenario.settle();
        scenario.stop(1);
        scenario.forget();
        scenario.start(1);
        scenario.settle();
        assert_eq!(brakes(&scenario, 1).len(), 1, "it is asked again");
        assert!(!says_in_sync(&scenario, 1));
        assert_eq!(scenario.text(0, "a/A").as_deref(), Some("a/A"));
        let question = scenario.braked(1).expect("is asked");
        scenario.agree(1, question);
        scenario.settle();
        assert_eq!(scenario.paths(0), ["A", "A/b", "a", "a/a", "a/a/a"]);
    }
}

#[test]
fn e19_what_was_agreed_to_beforehand_ends_with_the_first_agreement() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.stop(0);
        scenario.accept_deletes(0, true);
        scenario.start(0);
        scenario.settle();
        scenario.forget();
        scenario.remove(1, "d");
        scenario.settle();
        let question = scenario.braked(1).expect("is asked");
        scenario.agree(1, question);
        scenario.settle();
        assert_eq!(brakes(&scenario, 0), [(100, 100, false)]);
        assert_eq!(files(&scenario, 0), 100);
    }
}

#[test]
fn e19_files_that_come_back_lift_the_brake() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.forget();
        // As if a disk were unmounted, and mounted again.
        scenario.rename(0, "d", ".kin-away");
        scenario.disk(0).rename(".kin-away", "elsewhere").expect("is there");
        scenario.settle();
        assert_eq!(brakes(&scenario, 0), [], "a rename is no deletion");

        scenario.rename(0, "elsewhere", "d");
        scenario.settle();
        let before: Vec<_> =
            (0..100).map(|number| scenario.text(0, &format!("d/{number}"))).collect();
        remove(&mut scenario, 0, 0..90);
        scenario.settle();
        assert_eq!(brakes(&scenario, 0).len(), 1);
        for (number, contents) in before.iter().enumerate().take(90) {
            let contents = contents.clone().expect("was there").into_bytes();
            scenario.edit(0, &Edit::Write(format!("d/{number}"), contents));
        }
        scenario.settle();
        assert_eq!(scenario.braked(0), None, "it was lifted by itself");
        assert_alike(&scenario, 2);
        assert_eq!(files(&scenario, 1), 100);
        assert!(says_in_sync(&scenario, 0) && says_in_sync(&scenario, 1));
    }
}

#[test]
fn e19_a_rename_of_everything_is_no_deletion() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 3);
        scenario.forget();
        scenario.rename(0, "d", "renamed/elsewhere");
        scenario.settle();
        for device in 0..3 {
            assert_eq!(brakes(&scenario, device), [], "device {device}");
        }
        assert_alike(&scenario, 3);
        assert!(scenario.paths(2).contains(&"renamed/elsewhere/99".to_owned()));
        assert_eq!(files(&scenario, 2), 0);
    }
}

#[test]
fn e19_a_rename_of_many_equal_files_is_no_deletion_but_their_removal_is() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        for number in 0..200 {
            scenario.write(0, &format!("equal/{number}"), b"");
        }
        scenario.settle();
        scenario.forget();
        scenario.rename(0, "equal", "a");
        scenario.settle();
        assert_eq!((brakes(&scenario, 0), brakes(&scenario, 1)), (vec![], vec![]));
        assert_alike(&scenario, 2);
        scenario.remove(0, "a");
        scenario.settle();
        assert_eq!(brakes(&scenario, 0), [(200, 300, true)]);
    }
}

#[test]
fn e19_a_few_files_or_a_small_share_go_without_a_question() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.forget();
        remove(&mut scenario, 0, 0..50);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(files(&scenario, 1), 50);

        let mut scenario = Scenario::new(seed, 2);
        for device in 0..2 {
            scenario.brake(device, Limit::default());
        }
        for number in 0..9 {
            scenario.write(0, &number.to_string(), number.to_string().as_bytes());
        }
        scenario.start(0);
        scenario.start(1);
        scenario.link(0, 1);
        scenario.settle();
        for number in 0..9 {
            scenario.remove(0, &number.to_string());
        }
        scenario.settle();
        assert_eq!(scenario.paths(1), [""; 0]);
    }
}

#[test]
fn e19_deletions_add_up_over_a_day_and_are_forgotten_after_it() {
    let mut scenario = with_files(1, 2);
    remove(&mut scenario, 0, 0..30);
    scenario.settle();
    // What was counted outlives a run.
    scenario.stop(0);
    scenario.start(0);
    scenario.run(DAY_MS / 2);
    remove(&mut scenario, 0, 30..45);
    scenario.settle();
    assert_eq!((files(&scenario, 1), brakes(&scenario, 0)), (55, vec![]));
    remove(&mut scenario, 0, 45..60);
    scenario.settle();
    assert_eq!((files(&scenario, 1), brakes(&scenario, 0)), (55, vec![(60, 100, true)]));
    let question = scenario.braked(0).expect("is asked");
    scenario.agree(0, question);
    scenario.settle();
    let question = scenario.braked(1).expect("is asked");
    scenario.agree(1, question);
    scenario.settle();
    assert_eq!(files(&scenario, 1), 40);
    // A new window has begun; a day later it has slid, also where these come a little late.
    remove(&mut scenario, 0, 60..80);
    scenario.run(DAY_MS + HOUR_MS);
    remove(&mut scenario, 0, 80..90);
    scenario.settle();
    assert_alike(&scenario, 2);
    assert_eq!((files(&scenario, 1), scenario.braked(0), scenario.braked(1)), (10, None, None));
}

#[test]
fn e19_an_edit_beats_a_deletion_that_is_held() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.remove(0, "d");
        scenario.settle();
        scenario.write(1, "d/7", b"edited meanwhile");
        scenario.settle();
        assert_eq!(scenario.text(0, "d/7").as_deref(), Some("edited meanwhile"));
        assert_eq!(files(&scenario, 0), 1, "all else is still gone");
        let question = scenario.braked(0).expect("is asked");
        scenario.agree(0, question);
        scenario.settle();
        let question = scenario.braked(1).expect("is asked");
        scenario.write(0, "d/8", b"again");
        scenario.write(1, "d/9", b"mine");
        scenario.settle();
        scenario.agree(1, question);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(files(&scenario, 1), 3);
        assert_eq!(scenario.text(1, "d/8").as_deref(), Some("again"));
        assert_eq!(scenario.text(0, "d/9").as_deref(), Some("mine"));
        assert_eq!(scenario.copies(0), [""; 0]);
    }
}

#[test]
fn e19_a_deletion_that_the_other_device_makes_too_needs_no_question() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.remove(0, "d");
        scenario.settle();
        assert!(scenario.braked(0).is_some());
        scenario.remove(1, "d");
        scenario.settle();
        let question = scenario.braked(1).expect("is asked");
        scenario.agree(1, question);
        scenario.settle();
        assert_eq!((scenario.braked(0), scenario.braked(1)), (None, None));
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), [""; 0]);
    }
}

#[test]
fn e19_consent_covers_what_was_shown_and_not_much_more() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.stop(0);
        scenario.brake(0, Limit { files: 9, percent: 20 });
        scenario.start(0);
        remove(&mut scenario, 0, 0..30);
        scenario.run(700);
        let question = scenario.braked(0).expect("is asked");
        remove(&mut scenario, 0, 30..80);
        // The answer is on its way before anybody has counted anew.
        scenario.run(300);
        assert_eq!(scenario.braked(0), Some(question));
        scenario.agree(0, question);
        scenario.settle();
        assert_eq!(files(&scenario, 1), 100);
        let again = scenario.braked(0).expect("is asked again");
        assert_ne!(question, again);
        scenario.agree(0, question);
        scenario.settle();
        assert_eq!(scenario.braked(0), Some(again), "an old answer is none");
        scenario.agree(0, again);
        scenario.settle();
        assert!(scenario.braked(1).is_some());
    }
}

#[test]
fn e19_a_directory_replaced_by_a_file_is_a_mass_deletion_too() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.remove(0, "d");
        scenario.write(0, "d", b"now a file");
        scenario.settle();
        assert_eq!(files(&scenario, 1), 100);
        let question = scenario.braked(0).expect("is asked");
        scenario.agree(0, question);
        scenario.settle();
        let question = scenario.braked(1).expect("is asked");
        scenario.agree(1, question);
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(1, "d").as_deref(), Some("now a file"));
        assert_eq!(scenario.lost(), [""; 0]);
    }
}

#[test]
fn e18_a_root_that_cannot_be_looked_at_for_a_while_is_not_gone() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        scenario.forget();
        remove(&mut scenario, 0, 0..1);
        // The root is looked at about 200 ms after the file went.
        scenario.run(150);
        scenario.disk(0).break_all(true);
        scenario.run(3_000);
        let gone = |(_, event): &(u64, Event)| matches!(event, Event::RootGone { .. });
        assert!(!scenario.events(0).iter().any(gone));
        scenario.disk(0).break_all(false);
        scenario.run(60_000);
        scenario.settle();
        assert_eq!((files(&scenario, 0), files(&scenario, 1)), (99, 99));
    }
}

#[test]
fn e19_files_that_come_and_go_all_day_are_no_mass_deletion() {
    for seed in SEEDS {
        let mut scenario = with_files(seed, 2);
        for number in 0..150 {
            scenario.write(0, "d/.draft.swp", format!("state {number}").as_bytes());
            scenario.run(1_000);
            scenario.remove(0, "d/.draft.swp");
            scenario.run(1_000);
        }
        scenario.settle();
        assert_eq!((brakes(&scenario, 0), brakes(&scenario, 1)), (vec![], vec![]));
        // What goes at once counts, however young it is.
        for number in 0..150 {
            scenario.write(0, &format!("d/new {number}"), format!("new {number}").as_bytes());
        }
        scenario.settle();
        for number in 0..150 {
            scenario.remove(0, &format!("d/new {number}"));
        }
        scenario.settle();
        assert_eq!(brakes(&scenario, 0), [(150, 250, true)]);
    }
}
