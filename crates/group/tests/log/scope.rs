//! Scope (T14), whose records count (T15), folders, key epochs, codes (T18).

use std::collections::BTreeSet;

use group::log::LogError;
use wire::membership::{Action, Ceremony, CodeId, Role, Scope};

use crate::history::*;

#[test]
fn t14_an_admission_is_for_its_folders_only() {
    let mut history = History::of_admins(2);
    history.write(0, add_folder(1));
    history.write(0, add_folder(2));
    history.write(0, admit_to(5, Role::Writer, Scope::List(vec![folder(1)])));
    let manifest = history.manifest();
    assert!(manifest.may_write(&id(5), &folder(1)) && !manifest.may_read(&id(5), &folder(2)));
    // A folder that comes later is in the scope of those admitted to all.
    history.write(1, add_folder(3));
    let manifest = history.manifest();
    assert!(manifest.may_write(&id(1), &folder(3)) && !manifest.may_write(&id(5), &folder(3)));
    // The scope survives a rotation and a change of role.
    history.write(5, rotate(15));
    history.write(0, set_role(15, Role::Reader));
    let manifest = history.manifest();
    assert!(manifest.may_read(&id(15), &folder(1)) && !manifest.may_write(&id(15), &folder(1)));
    assert!(!manifest.may_read(&id(15), &folder(2)));
}

#[test]
fn t14_of_two_admissions_at_once_what_both_allow_holds() {
    let mut history = History::of_admins(3);
    history.write(0, add_folder(1));
    history.write(0, add_folder(2));
    let before = history.heads();
    history.on(1, &before, admit_to(5, Role::Writer, Scope::List(vec![folder(1), folder(2)])));
    history.on(2, &before, admit_to(5, Role::Reader, Scope::List(vec![folder(2)])));
    let manifest = history.manifest();
    assert_eq!(manifest.members[&id(5)].folders, Scope::List(vec![folder(2)]));
    assert_eq!(manifest.members[&id(5)].role, Role::Reader);
    // Put out and let in again, it has what it is let in to.
    history.write(0, remove(5));
    history.write(0, admit_to(5, Role::Writer, Scope::All));
    let manifest = history.manifest();
    assert_eq!(manifest.members[&id(5)].folders, Scope::All);
    assert!(manifest.may_write(&id(5), &folder(1)));
}

#[test]
fn t15_a_record_counts_if_its_signer_may_write() {
    let mut history = History::begin();
    history.write(0, add_folder(1));
    let roles = [(1, Role::Admin), (2, Role::Writer), (3, Role::Reader), (4, Role::Keeper)];
    for (device, role) in roles {
        history.write(0, admit(device, role));
    }
    let manifest = history.manifest();
    let may = |device| {
        let (device, folder) = (id(device), folder(1));
        (
            manifest.may_write(&device, &folder),
            manifest.may_read(&device, &folder),
            manifest.may_store(&device, &folder),
        )
    };
    assert_eq!(may(1), (true, true, true));
    assert_eq!(may(2), (true, true, true));
    assert_eq!(may(3), (false, true, true));
    assert_eq!(may(4), (false, false, true));
    assert_eq!(may(9), (false, false, false), "a stranger");
    assert!(!manifest.may_write(&id(1), &folder(2)), "a folder of no group");
    history.write(0, remove(2));
    history.write(1, rotate(11));
    let manifest = history.manifest();
    assert!(!manifest.may_write(&id(2), &folder(1)) && !manifest.may_write(&id(1), &folder(1)));
    assert!(manifest.may_write(&id(11), &folder(1)));
}

#[test]
fn a_folder_that_is_removed_stays_away_from_those_who_did_not_know() {
    let mut history = History::of_admins(3);
    history.write(0, add_folder(1));
    let before = history.heads();
    history.on(1, &before, Action::FolderRemoved { folder: folder(1) });
    history.on(2, &before, add_folder(1));
    assert!(history.manifest().folders.is_empty());
    history.write(2, add_folder(1));
    assert_eq!(history.manifest().folders.len(), 1);
}

#[test]
fn a_key_epoch_is_due_after_a_removal_and_follows_the_last() {
    let mut history = History::of_admins(3);
    assert!(!history.manifest().epoch.is_due);
    history.write(0, remove(2));
    assert!(history.manifest().epoch.is_due);
    let epoch =
        |number: u64| Action::KeyEpoch { number, commitment: [number.to_le_bytes()[0]; 32] };
    let refused = history.try_write(0, epoch(u64::MAX)).unwrap_err();
    assert_eq!(refused, LogError::Epoch { expected: 1, found: u64::MAX });
    let before = history.heads();
    history.on(0, &before, epoch(1));
    history.on(1, &before, epoch(1));
    let manifest = history.manifest();
    assert_eq!((manifest.epoch.number, manifest.epoch.is_due), (1, false));
    assert_eq!(history.log().next_epoch(), 2);
    history.write(1, epoch(2));
    assert_eq!(history.manifest().epoch.commitment, [2; 32]);
}

#[test]
fn t18_uses_of_a_code_are_counted_in_any_copy_of_the_log() {
    let mut history = History::of_admins(3);
    let code = CodeId([7; 16]);
    let by_code = |device| match admit(device, Role::Reader) {
        Action::Admit { device, inbox, name, role, folders, .. } => {
            let ceremony = Ceremony::Code(code);
            Action::Admit { device, inbox, name, role, folders, ceremony }
        }
        _ => unreachable!("it admits"),
    };
    let before = history.heads();
    history.on(1, &before, by_code(5));
    history.on(1, &before, by_code(6));
    history.on(0, &before, remove(1));
    assert_eq!(members(&history.manifest()), [0, 2]);
    let spent = history.log().admitted_by(&code);
    assert_eq!(spent, BTreeSet::from([id(5), id(6)]), "void admissions were uses too");
    assert!(history.log().admitted_by(&CodeId([8; 16])).is_empty());
}

#[test]
fn t14_a_contested_operation_brings_no_folder_back_and_widens_no_scope() {
    // 1 removes a folder, narrows 5's scope and begins an epoch; then 1 and 2 remove each other, and 2
    // dates that back to before all this.
    let mut history = History::of_admins(3);
    history.write(0, add_folder(1));
    history.write(0, add_folder(2));
    history.write(0, admit(5, Role::Reader));
    let before = history.heads();
    history.write(1, Action::FolderRemoved { folder: folder(1) });
    history.write(1, admit_to(5, Role::Reader, Scope::List(vec![folder(1)])));
    history.write(1, Action::KeyEpoch { number: 1, commitment: [1; 32] });
    history.write(1, remove(2));
    history.on(2, &before, remove(1));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 5]);
    assert!(!manifest.folders.contains_key(&folder(1)));
    assert!(!manifest.may_read(&id(5), &folder(2)));
    assert_eq!((manifest.epoch.number, manifest.epoch.is_due), (0, true));
    assert_eq!(history.log().next_epoch(), 2);
}
