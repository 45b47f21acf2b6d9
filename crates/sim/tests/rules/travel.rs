//! Rules E15 and E21 to E25: what travels, when, and how much of it at once.

use folder::engine::{AppliedKind, Event};
use sim::{history::Edit, scenario::Scenario};
use wire::{record::Body, sync::Message};

use crate::{SEEDS, assert_alike, noise};

#[test]
fn e15_a_rename_costs_no_content() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "d/large", &noise(seed, 1_500_000));
        scenario.write(0, "d/small", &noise(seed + 100, 5_000));
        scenario.write(0, "alone", &noise(seed + 200, 40_000));
        scenario.settle();
        scenario.forget();
        scenario.rename(0, "d", "e");
        scenario.rename(1, "alone", "alone still");
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0), ["alone still", "e", "e/large", "e/small"]);
        assert_eq!(scenario.content_bytes(), 0);
    }
}

#[test]
fn e15_a_copy_costs_no_content() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", &noise(seed, 1_500_000));
        scenario.settle();
        scenario.forget();
        scenario.write(0, "b", &noise(seed, 1_500_000));
        scenario.settle();
        assert_alike(&scenario, 2);
        assert_eq!(scenario.content_bytes(), 0);
    }
}

fn bytes_of_pages(scenario: &Scenario) -> usize {
    let pages = scenario.sent().iter().filter_map(|sent| match &sent.message {
        Message::List { pages, .. } => {
            Some(pages.iter().map(|(_, page)| page.len()).sum::<usize>())
        }
        _ => None,
    });
    pages.sum()
}

#[test]
fn e21_an_edited_large_file_sends_what_changed() {
    let mut scenario = Scenario::linked(3, 2);
    let mut bytes = noise(1, 12 << 20);
    scenario.write(0, "a", &bytes);
    scenario.settle();
    scenario.forget();
    bytes[6 << 20] ^= 1;
    scenario.write(0, "a", &bytes);
    scenario.settle();
    assert_alike(&scenario, 2);
    let sent = scenario.content_bytes();
    // The chunk with the byte, and at most the two beside it.
    assert!((1..=3 << 20).contains(&sent), "{sent} bytes were sent");
}

#[test]
fn e21_only_lacking_pages_travel() {
    let mut scenario = Scenario::linked(4, 2);
    // Noise whose chunk list has several pages.
    let mut bytes = noise(6, 96 << 20);
    scenario.write(0, "a", &bytes);
    scenario.settle();
    let whole = bytes_of_pages(&scenario);
    scenario.forget();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    scenario.write(0, "a", &bytes);
    scenario.settle();
    assert_alike(&scenario, 2);
    let lacking = bytes_of_pages(&scenario);
    assert!(lacking > 0 && lacking * 2 < whole, "{lacking} of {whole} bytes of pages were sent");
}

#[test]
fn e22_a_peer_that_does_not_read_is_pushed_no_more_than_the_window() {
    let mut scenario = Scenario::linked(5, 2);
    scenario.forget();
    scenario.stop_reading(0, 1);
    for number in 0..2_000 {
        scenario.write(0, &format!("{number}"), &noise(number, 16_000));
    }
    scenario.run(20_000);
    let sent: usize = scenario
        .sent()
        .iter()
        .filter(|sent| sent.from == 0)
        .map(|sent| sent.message.encode().len())
        .sum();
    assert!(sent > 1 << 20, "nothing was pushed");
    assert!(sent < 12 << 20, "{sent} bytes were pushed to somebody who does not read");
    scenario.read_again(0, 1);
    scenario.settle();
    assert_alike(&scenario, 2);
    assert_eq!(scenario.paths(1).len(), 2_000);
}

/// When a record was first sent that says a path is deleted.
fn deletion_sent(scenario: &Scenario, path: &str) -> Option<u64> {
    scenario.sent().iter().find_map(|sent| {
        let Message::Records { batches, .. } = &sent.message else { return None };
        let mut records = batches.iter().flat_map(|batch| &batch.records);
        let says = records.any(|record| {
            record.record.path.as_str() == path
                && matches!(record.record.body, Body::Tombstone { .. })
        });
        says.then_some(sent.time)
    })
}

#[test]
fn e23_a_deletion_waits_for_the_path_to_come_back() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"x");
        scenario.settle();
        scenario.forget();
        let removed = scenario.now();
        scenario.remove(0, "a");
        scenario.settle();
        let sent = deletion_sent(&scenario, "a").expect("the deletion travels");
        assert!((200..400).contains(&(sent - removed)), "after {} ms", sent - removed);
        assert!(scenario.paths(1).is_empty());
    }
}

#[test]
fn e23_a_save_by_rename_is_one_change() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.write(0, "a", b"old");
        scenario.settle();
        scenario.forget();
        scenario.edit(0, &Edit::SaveByRename("a".to_owned(), b"new".to_vec()));
        scenario.settle();
        let applied: Vec<_> = scenario
            .events(1)
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Applied { path, kind, .. } => Some((path.as_str(), *kind)),
                _ => None,
            })
            .collect();
        assert_eq!(applied, [("a", AppliedKind::Updated)]);
        // As other editors save: the old file is moved away, and a new one written a little later.
        scenario.forget();
        scenario.rename(0, "a", "a.bak");
        scenario.run(100);
        scenario.write(0, "a", b"newer");
        scenario.settle();
        assert_eq!(deletion_sent(&scenario, "a"), None);
        assert_alike(&scenario, 2);
        assert_eq!(scenario.text(1, "a.bak").as_deref(), Some("new"));
        assert_eq!(scenario.text(1, "a").as_deref(), Some("newer"));
    }
}

#[test]
fn e23_an_edit_leaves_at_once() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.forget();
        let before = scenario.now();
        scenario.write(0, "a", b"x");
        scenario.settle();
        let sent =
            scenario.sent().iter().find(|sent| matches!(sent.message, Message::Records { .. }));
        let after = sent.expect("it is sent").time - before;
        // The quiet of 5 ms, and the virtual delays of events and jobs.
        assert!((5..40).contains(&after), "after {after} ms");
    }
}

fn says_in_sync(scenario: &Scenario) -> bool {
    (0..scenario.devices()).any(|device| {
        scenario.events(device).iter().any(|(_, event)| matches!(event, Event::InSync { .. }))
    })
}

#[test]
fn e25_in_sync_is_said_only_when_equal_and_applied() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.forget();
        scenario.write(0, "d/large", &noise(seed, 3_000_000));
        for number in 0..20 {
            scenario.write(0, &format!("d/{number}"), &noise(number, 20_000));
        }
        for _ in 0..5_000 {
            scenario.run(1);
            if says_in_sync(&scenario) {
                break;
            }
        }
        assert!(says_in_sync(&scenario));
        assert_alike(&scenario, 2);
        assert_eq!(scenario.paths(0).len(), 22);
        // Durably: what is committed is all there is.
        for device in 0..2 {
            scenario.crash(device);
            scenario.start(device);
        }
        scenario.forget();
        scenario.settle();
        assert_eq!(scenario.content_bytes(), 0);
        assert_alike(&scenario, 2);
    }
}

#[test]
fn e25_in_sync_is_not_said_while_a_peer_lags() {
    for seed in SEEDS {
        let mut scenario = Scenario::linked(seed, 2);
        scenario.forget();
        scenario.stop_reading(0, 1);
        scenario.write(0, "a", b"x");
        scenario.run(10_000);
        assert!(!says_in_sync(&scenario));
        scenario.read_again(0, 1);
        scenario.settle();
        assert!(says_in_sync(&scenario));
    }
}

#[test]
fn e25_in_sync_is_not_said_while_nobody_has_the_contents() {
    for seed in SEEDS {
        let mut scenario = Scenario::new(seed, 3);
        // The second device passes on what it knows, and does not have it.
        scenario.ignore(1, &["*.iso"]);
        for device in 0..3 {
            scenario.start(device);
        }
        scenario.write(0, "big.iso", b"image");
        scenario.link(0, 1);
        scenario.settle();
        scenario.cut(0, 1);
        scenario.forget();
        scenario.link(1, 2);
        scenario.settle();
        scenario.run(10_000);
        assert!(!says_in_sync(&scenario), "seed {seed}");
        let waits =
            |event: &Event| matches!(event, Event::Skipped { path, .. } if path == "big.iso");
        assert!(scenario.events(2).iter().any(|it| waits(&it.1)));
        scenario.link(0, 2);
        scenario.settle();
        assert!(says_in_sync(&scenario), "seed {seed}");
        assert_eq!(scenario.text(2, "big.iso").as_deref(), Some("image"));
    }
}
