//! Roles, strong removal, mutual and cyclic removals (T11), forks (T12).

use group::log::{Gone, Why, WriteError, rescue};
use wire::membership::{Action, Role};

use crate::history::*;

#[test]
fn only_admins_decide_and_everybody_speaks_for_itself() {
    let mut history = History::begin();
    for (device, role) in [(1, Role::Writer), (2, Role::Reader), (3, Role::Keeper)] {
        history.write(0, admit(device, role));
    }
    for device in [1, 2, 3] {
        let own = history.write(device, Action::Rename { device: id(device), name: name(9) });
        let tries = [
            admit(5, Role::Reader),
            set_role(device, Role::Admin),
            remove(0),
            add_folder(1),
            Action::FolderRemoved { folder: folder(1) },
            Action::Rename { device: id(0), name: name(9) },
        ];
        for action in tries {
            assert_eq!(
                history.log().draft(id(device), action.clone()).unwrap_err(),
                WriteError::NotAdmin
            );
            let written = history.write(device, action);
            let manifest = history.manifest();
            let void = manifest.void.iter().find(|void| void.operation == written);
            assert_eq!(void.map(|void| void.why), Some(Why::NotAdmin));
        }
        let number = history.log().next_epoch();
        let epoch = history.write(device, Action::KeyEpoch { number, commitment: [1; 32] });
        let manifest = history.manifest();
        assert!(is_void(&manifest, epoch) && !is_void(&manifest, own));
        assert_eq!(manifest.members[&id(device)].name, name(9));
    }
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1, 2, 3]);
    assert!(manifest.folders.is_empty() && manifest.epoch.number == 0);
    history.write(3, Action::Leave);
    let manifest = history.manifest();
    assert!(matches!(manifest.former[&id(3)].why, Gone::Left { .. }));
    assert_eq!(manifest.former[&id(3)].was.role, Role::Keeper);
}

#[test]
fn t11_what_a_removed_admin_wrote_at_the_same_time_is_void_with_what_follows() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    let removal = history.on(1, &before, remove(2));
    let puppet = history.on(2, &before, admit(5, Role::Admin));
    let puppets_puppet = history.on(5, &[puppet], admit(6, Role::Admin));
    let promotion = history.on(5, &[puppets_puppet], set_role(6, Role::Writer));
    let unrelated = history.on(0, &[promotion], admit(7, Role::Reader));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1, 7], "whoever only saw it is not touched");
    let why = |operation| manifest.void.iter().find(|v| v.operation == operation).map(|v| v.why);
    assert_eq!(why(puppet), Some(Why::AuthorRemoved(removal)));
    assert_eq!(why(puppets_puppet), Some(Why::AuthorNotAdmitted(puppet)));
    assert_eq!(why(promotion), Some(Why::AuthorNotAdmitted(puppet)));
    assert_eq!(why(unrelated), None);
    assert!(matches!(&manifest.former[&id(2)].why, Gone::Removed { by, .. } if *by == id(1)));
    assert!(
        matches!(manifest.former[&id(5)].why, Gone::NeverAdmitted { operation } if operation == puppet)
    );
}

#[test]
fn t11_what_a_removed_admin_wrote_before_stays() {
    let mut history = History::of_admins(3);
    history.write(2, admit(5, Role::Writer));
    history.write(1, remove(2));
    assert_eq!(members(&history.manifest()), [0, 1, 5]);
}

#[test]
fn t11_mutual_removals_both_take_effect_and_nothing_is_granted() {
    let mut history = History::of_admins(4);
    let before = history.heads();
    let one = history.on(1, &before, remove(2));
    let other = history.on(2, &before, remove(1));
    let by_one = history.on(1, &[one], admit(5, Role::Admin));
    let by_other = history.on(2, &before, admit(6, Role::Admin));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 3]);
    let mut contested = vec![one, other];
    contested.sort();
    assert_eq!(manifest.contested, contested);
    assert!(is_void(&manifest, by_one) && is_void(&manifest, by_other));
    // Another admin may admit one again.
    history.write(3, admit(1, Role::Admin));
    assert_eq!(members(&history.manifest()), [0, 1, 3]);
}

#[test]
fn t11_cycles_of_any_length_take_effect() {
    for length in 2..6 {
        let mut history = History::of_admins(7);
        let before = history.heads();
        for device in 1..=length {
            history.on(device, &before, remove(device % length + 1));
        }
        let expected: Vec<usize> = [0].into_iter().chain(length + 1..7).collect();
        assert_eq!(members(&history.manifest()), expected);
    }
}

#[test]
fn t11_a_chain_is_no_cycle() {
    // 1 removes 2, 2 removes 3, 3 removes 4: the first counts, the second is void, the third counts.
    let mut history = History::of_admins(5);
    let before = history.heads();
    for device in 1..4 {
        history.on(device, &before, remove(device + 1));
    }
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1, 3]);
    assert!(manifest.contested.is_empty());
}

#[test]
fn t11_mutual_demotions_and_a_removal_against_a_demotion() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    history.on(1, &before, set_role(2, Role::Writer));
    history.on(2, &before, set_role(1, Role::Reader));
    let manifest = history.manifest();
    assert_eq!(manifest.members[&id(1)].role, Role::Reader);
    assert_eq!(manifest.members[&id(2)].role, Role::Writer);

    let mut history = History::of_admins(3);
    let before = history.heads();
    history.on(1, &before, remove(2));
    history.on(2, &before, set_role(1, Role::Reader));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1]);
    assert_eq!(manifest.members[&id(1)].role, Role::Reader);
}

#[test]
fn t11_a_demotion_voids_what_needed_the_role_and_nothing_else() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    let demotion = history.on(1, &before, set_role(2, Role::Writer));
    let admission = history.on(2, &before, admit(5, Role::Admin));
    let rename = history.on(2, &[admission], Action::Rename { device: id(2), name: name(9) });
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1, 2]);
    let void = manifest.void.iter().find(|void| void.operation == admission);
    assert_eq!(void.map(|void| void.why), Some(Why::AuthorDemoted(demotion)));
    assert!(!is_void(&manifest, rename));
    assert_eq!(manifest.members[&id(2)].name, name(9));
}

#[test]
fn of_two_roles_given_at_once_the_lower_holds() {
    let mut history = History::of_admins(3);
    history.write(0, admit(5, Role::Writer));
    let before = history.heads();
    history.on(1, &before, set_role(5, Role::Admin));
    history.on(2, &before, set_role(5, Role::Reader));
    assert_eq!(history.manifest().members[&id(5)].role, Role::Reader);
    history.write(0, set_role(5, Role::Admin));
    assert_eq!(history.manifest().members[&id(5)].role, Role::Admin);
}

#[test]
fn a_removal_beats_an_admission_that_did_not_know_it() {
    // p2p groups differ here: 1 removes 5; at once 2 removes and readmits it.
    let mut history = History::of_admins(3);
    history.write(0, admit(5, Role::Writer));
    let before = history.heads();
    history.on(1, &before, remove(5));
    let again = history.on(2, &before, remove(5));
    history.on(2, &[again], admit(5, Role::Writer));
    assert_eq!(members(&history.manifest()), [0, 1, 2]);
    history.write(2, admit(5, Role::Reader));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1, 2, 5]);
    assert_eq!(manifest.members[&id(5)].role, Role::Reader, "and with the new role only");
}

#[test]
fn t11_a_second_removal_holds_when_the_first_is_void() {
    // 2 removes 3; 0 removes 3 as well, knowing that; 1 removed 2 at the time of the first.
    let mut history = History::of_admins(4);
    let before = history.heads();
    let first = history.on(2, &before, remove(3));
    history.on(0, &[first], remove(3));
    history.on(1, &before, remove(2));
    let manifest = history.manifest();
    assert!(is_void(&manifest, first));
    assert_eq!(members(&manifest), [0, 1]);
}

#[test]
fn t11_rescue_begins_a_new_group_when_no_admin_is_left() {
    let mut history = History::of_admins(2);
    history.write(0, admit(5, Role::Writer));
    history.write(0, add_folder(1));
    let before = history.heads();
    history.on(0, &before, remove(1));
    history.on(1, &before, remove(0));
    let old = history.manifest();
    assert_eq!(members(&old), [5]);
    assert!(!old.has_admin());
    let picked = [(id(1), Role::Admin), (id(5), Role::Writer)];
    let mut log = rescue(key(0), (inbox(0), name(0)), [1; 32], &old, &picked).unwrap();
    let new = log.manifest();
    assert_ne!(new.group, old.group);
    assert_eq!(members(&new), [0, 1, 5]);
    assert_eq!(new.folders, old.folders);
    assert_eq!(new.members[&id(5)].inbox, old.members[&id(5)].inbox);
    assert!(new.is_admin(&id(0)) && new.is_admin(&id(1)) && !new.is_admin(&id(5)));
    let strangers = [(id(9), Role::Reader)];
    let refused = rescue(key(0), (inbox(0), name(0)), [2; 32], &old, &strangers);
    assert_eq!(refused.unwrap_err(), WriteError::NoSuchMember);
}

#[test]
fn t12_a_fork_is_judged_as_concurrent_and_told() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    let one = history.on(2, &before, admit(5, Role::Reader));
    let other = history.on(2, &before, admit(6, Role::Reader));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1, 2, 5, 6], "both count: nobody said otherwise");
    assert_eq!(manifest.forks.len(), 1);
    assert_eq!(manifest.forks[0].device, id(2));
    let mut both = vec![one, other];
    both.sort();
    assert_eq!(manifest.forks[0].operations, both);
    // A removal that saw one branch cuts the other.
    history.on(1, &[one], remove(2));
    assert_eq!(members(&history.manifest()), [0, 1, 5]);
}

#[test]
fn t12_a_copy_does_not_act_for_who_left() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    history.on(2, &before, Action::Leave);
    let copy = history.on(2, &before, admit(5, Role::Admin));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1]);
    assert!(is_void(&manifest, copy));
    assert_eq!(manifest.forks.len(), 1);
}
