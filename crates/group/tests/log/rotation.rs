//! Rotation (T13).

use group::log::{Gone, LogError};
use wire::membership::{Action, Role};

use crate::history::*;

#[test]
fn t13_a_rotated_key_has_the_place_of_the_old_one() {
    let mut history = History::of_admins(3);
    let rotation = history.write(2, rotate(12));
    history.write(12, admit(5, Role::Reader));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1, 5, 12]);
    let member = &manifest.members[&id(12)];
    assert_eq!((member.role, member.inbox, &member.name), (Role::Admin, inbox(12), &name(2)));
    assert_eq!(member.grant, rotation);
    assert_eq!(manifest.former[&id(2)].why, Gone::Rotated { to: id(12) });
    assert!(manifest.epoch.is_due);
    // The old key writes nothing more, neither now nor dated back.
    let late = history.write(2, admit(6, Role::Reader));
    let dated_back = history.on(2, &[history.create_and_all()[2]], admit(7, Role::Reader));
    let manifest = history.manifest();
    assert!(is_void(&manifest, late) && is_void(&manifest, dated_back));
    assert_eq!(members(&manifest), [0, 1, 5, 12]);
}

#[test]
fn t13_removing_any_key_of_a_chain_removes_the_chain() {
    for named in [2, 12, 13] {
        let mut history = History::of_admins(3);
        history.write(2, rotate(12));
        let before = history.heads();
        history.write(12, rotate(13));
        let removal = history.write(1, remove(named));
        let manifest = history.manifest();
        assert_eq!(members(&manifest), [0, 1]);
        for key in [2, 12, 13] {
            let why = &manifest.former[&id(key)].why;
            assert_eq!(*why, Gone::Removed { by: id(1), operation: removal });
        }
        // By somebody who has not seen the second rotation, as well.
        if named != 13 {
            let mut history = History::of_admins(3);
            history.write(2, rotate(12));
            assert_eq!(history.heads(), before);
            history.on(12, &before, rotate(13));
            history.on(1, &before, remove(named));
            assert_eq!(members(&history.manifest()), [0, 1]);
        }
    }
}

#[test]
fn t13_two_rotations_of_one_key_at_once_remove_the_device() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    let one = history.on(2, &before, rotate(12));
    let other = history.on(2, &before, rotate(13));
    let by_one = history.on(12, &[one], admit(5, Role::Admin));
    let by_other = history.on(13, &[other], remove(0));
    let manifest = history.manifest();
    assert!(is_void(&manifest, by_one));
    assert!(!members(&manifest).iter().any(|device| [2, 5, 12, 13].contains(device)));
    for key in [2, 12, 13] {
        assert_eq!(manifest.former[&id(key)].why, Gone::RotatedTwice);
    }
    assert_eq!(manifest.forks.len(), 1);
    assert!(manifest.contested.contains(&by_other));
    // An admin who is left admits the device again, with the key that its owner holds.
    history.write(1, admit(12, Role::Writer));
    let manifest = history.manifest();
    assert_eq!(manifest.members[&id(12)].role, Role::Writer);
    assert!(!manifest.is_member(&id(13)));
}

#[test]
fn t13_rotation_is_no_escape_from_removal() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    history.on(1, &before, remove(2));
    let first = history.on(2, &before, rotate(12));
    let second = history.on(12, &[first], rotate(13));
    history.on(13, &[second], admit(5, Role::Admin));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1]);
    assert!(matches!(
        manifest.former[&id(13)].why,
        Gone::Removed { .. } | Gone::NeverAdmitted { .. }
    ));
}

#[test]
fn t13_a_demotion_goes_with_the_device() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    history.on(1, &before, set_role(2, Role::Reader));
    let rotation = history.on(2, &before, rotate(12));
    history.on(12, &[rotation], admit(5, Role::Admin));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1, 12]);
    assert_eq!(manifest.members[&id(12)].role, Role::Reader);
}

#[test]
fn t13_a_new_key_is_new_and_an_old_one_stays_old() {
    let mut history = History::of_admins(3);
    assert_eq!(history.try_write(2, rotate(1)).unwrap_err(), LogError::UsedKey);
    assert_eq!(history.try_write(2, rotate(2)).unwrap_err(), LogError::UsedKey);
    history.write(2, rotate(12));
    assert_eq!(history.try_write(0, admit(2, Role::Reader)).unwrap_err(), LogError::RetiredKey);
    history.write(0, Action::Remove { device: id(2) });
    history.write(0, admit(12, Role::Reader));
    assert_eq!(members(&history.manifest()), [0, 1, 12]);
}
