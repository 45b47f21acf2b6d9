//! What somebody with a stolen key would try. Devices 0 to 3 are admins; 9 is the thief's own.

use group::log::{Gone, Log, rescue};
use wire::membership::{Action, OperationId, Role};

use crate::history::*;

/// Device 0 (the founder) is stolen; 1 removes it. Returns the heads before that, and the removal.
fn founder_removed() -> (History, Vec<OperationId>, OperationId) {
    let mut history = History::of_admins(4);
    let before = history.heads();
    let removal = history.write(1, remove(0));
    (history, before, removal)
}

#[test]
fn attack_42_a_stolen_founders_key_does_not_win() {
    let (mut history, _, _) = founder_removed();
    let create = history.create();
    // Dated back to the very beginning, before anybody else was a member.
    let puppet = history.on(0, &[create], admit(9, Role::Admin));
    history.on(9, &[puppet], admit(10, Role::Admin));
    let manifest = history.manifest();
    assert!(!manifest.is_member(&id(0)) && !manifest.is_member(&id(9)));
    assert!(!manifest.is_member(&id(10)));
}

#[test]
fn attack_42_removing_ones_remover_after_the_fact_takes_it_along_and_nothing_more() {
    let (mut history, before, removal) = founder_removed();
    let back = history.on(0, &before, remove(1));
    history.on(0, &[back], admit(9, Role::Admin));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [2, 3]);
    let mut contested = vec![removal, back];
    contested.sort();
    assert_eq!(manifest.contested, contested);
}

#[test]
fn t11_two_stolen_devices_do_not_bring_each_other_back() {
    // 1 puts out 2, and then 3. Whoever has 3 removes 1, dated back to before both.
    let mut history = History::of_admins(4);
    let before = history.heads();
    history.write(1, remove(2));
    history.write(1, remove(3));
    history.on(3, &before, remove(1));
    assert_eq!(members(&history.manifest()), [0], "1 is lost, and neither 2 nor 3 is back");
    // Nor when the others had joined in the removals, so that each of them could be struck.
    let mut history = History::of_admins(5);
    let before = history.heads();
    for remover in [0, 1, 4] {
        history.on(remover, &before, remove(2));
        let heads = history.heads();
        history.on(remover, &heads, remove(3));
    }
    for struck in [0, 1, 4] {
        history.on(3, &before, remove(struck));
        history.on(2, &before, remove(struck));
    }
    let manifest = history.manifest();
    assert!(!manifest.is_member(&id(2)) && !manifest.is_member(&id(3)));
}

#[test]
fn t11_a_removed_key_strikes_through_those_who_admitted_its_remover() {
    // 0 admits 1, 1 admits 4, 4 removes 0. The thief removes 1, dated back to before it admitted 4, so
    // that 4 had no right. Both removals stand, and nobody is let in.
    let mut history = History::of_admins(3);
    let before = history.heads();
    history.write(1, admit(4, Role::Admin));
    history.write(4, remove(0));
    history.on(0, &before, remove(1));
    history.on(0, &before, admit(9, Role::Admin));
    assert_eq!(members(&history.manifest()), [2]);
}

#[test]
fn t11_a_puppets_removal_of_ones_remover_is_like_ones_own() {
    // 2 is stolen; 1 removes it. A puppet that 2 admitted at the time removes 1.
    let mut history = History::of_admins(4);
    let before = history.heads();
    history.on(1, &before, remove(2));
    let puppet = history.on(2, &before, admit(9, Role::Admin));
    let next = history.on(9, &[puppet], admit(10, Role::Admin));
    history.on(10, &[next], remove(1));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 3]);
}

#[test]
fn attack_42_dating_back_on_old_heads_undoes_nothing() {
    let (mut history, before, _) = founder_removed();
    let create = history.create();
    history.write(1, admit(5, Role::Reader));
    for on in [vec![create], before.clone()] {
        history.on(0, &on, admit(9, Role::Admin));
        history.on(0, &on, set_role(0, Role::Admin));
        history.on(0, &on, add_folder(9));
        history.on(0, &on, admit(0, Role::Admin));
    }
    history.on(0, &before, Action::Rename { device: id(2), name: name(9) });
    history.on(0, &before, rotate(9));
    history.on(0, &before, Action::Leave);
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [1, 2, 3, 5]);
    assert!(manifest.folders.is_empty() && manifest.contested.is_empty());
    assert_eq!(manifest.members[&id(2)].name, name(2));
    assert!(matches!(manifest.former[&id(0)].why, Gone::Removed { .. }));
}

#[test]
fn a_removal_by_an_admin_whom_nobody_took_the_right_from_holds_against_everything() {
    // 1 and 2 remove the stolen 0 at once. The thief strikes at 1, and with that is struck by 2 alone.
    let mut history = History::of_admins(4);
    let before = history.heads();
    history.on(1, &before, remove(0));
    history.on(2, &before, remove(0));
    let strike = history.on(0, &before, remove(1));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [1, 2, 3]);
    assert!(is_void(&manifest, strike) && manifest.contested.is_empty());
}

#[test]
fn nobody_promotes_itself() {
    let mut history = History::of_admins(2);
    history.write(0, admit(5, Role::Writer));
    let up = history.write(5, set_role(5, Role::Admin));
    let again = history.write(5, admit(5, Role::Admin));
    let puppet = history.write(5, admit(9, Role::Admin));
    let strike = history.write(5, remove(0));
    let manifest = history.manifest();
    assert_eq!(manifest.members[&id(5)].role, Role::Writer);
    assert!([up, again, puppet, strike].iter().all(|operation| is_void(&manifest, *operation)));
    assert_eq!(members(&manifest), [0, 1, 5]);
}

#[test]
fn t11_a_demoted_admin_does_not_get_its_role_back() {
    let mut history = History::of_admins(4);
    let before = history.heads();
    history.write(1, set_role(2, Role::Reader));
    history.on(2, &before, set_role(2, Role::Admin));
    history.on(2, &before, admit(2, Role::Admin));
    let puppet = history.on(2, &before, admit(9, Role::Admin));
    history.on(9, &[puppet], set_role(2, Role::Admin));
    // And when it strikes at its demoter.
    history.on(2, &before, remove(1));
    let manifest = history.manifest();
    assert_eq!(manifest.members[&id(2)].role, Role::Reader);
    assert_eq!(members(&manifest), [0, 2, 3]);
}

#[test]
fn t13_a_thief_who_rotates_first_is_removed_by_the_old_name() {
    let mut history = History::of_admins(4);
    let before = history.heads();
    let rotation = history.on(2, &before, rotate(9));
    history.on(9, &[rotation], admit(10, Role::Admin));
    // The person removes the device it knows, without having seen any of that.
    history.on(1, &before, remove(2));
    assert_eq!(members(&history.manifest()), [0, 1, 3]);
}

#[test]
fn t13_a_retired_key_in_a_thiefs_hand_lets_nobody_in() {
    let mut history = History::of_admins(4);
    let before = history.heads();
    history.write(2, rotate(12));
    history.write(12, admit(5, Role::Reader));
    let puppet = history.on(2, &before, admit(9, Role::Admin));
    assert_eq!(members(&history.manifest()), [0, 1, 3, 5, 12]);
    // A second rotation costs the device its place, and the thief has none either.
    let second = history.on(2, &before, rotate(9));
    history.on(9, &[second], admit(10, Role::Admin));
    let manifest = history.manifest();
    assert!(is_void(&manifest, puppet));
    assert!(!members(&manifest).iter().any(|device| [2, 9, 10, 12].contains(device)));
}

#[test]
fn t13_a_key_of_ones_own_does_not_tie_to_somebody_elses() {
    // A rotation needs the other key's signature, so nobody is drawn into a chain to be removed by it.
    let history = History::of_admins(2);
    let operation = history.made(0, &history.heads(), rotate(5)).operation().clone();
    let forged = operation.sign_rotation(key(0), key(9));
    assert!(forged.is_err());
}

#[test]
fn chains_of_puppets_fall_with_the_first() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    let mut last = history.on(2, &before, admit(9, Role::Admin));
    for puppet in 9..30 {
        last = history.on(puppet, &[last], admit(puppet + 1, Role::Admin));
        history.on(puppet + 1, &[last], add_folder(u8::try_from(puppet).unwrap()));
    }
    assert_eq!(members(&history.manifest()).len(), 3 + 22);
    history.on(1, &before, remove(2));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1]);
    assert!(manifest.folders.is_empty());
}

#[test]
fn puppets_that_removed_admins_had_a_hand_in_but_somebody_else_readmits_stay() {
    let mut history = History::of_admins(3);
    let before = history.heads();
    history.on(2, &before, admit(5, Role::Admin));
    history.on(1, &before, remove(2));
    assert_eq!(members(&history.manifest()), [0, 1]);
    history.write(0, admit(5, Role::Reader));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), [0, 1, 5]);
    assert_eq!(manifest.members[&id(5)].role, Role::Reader);
}

#[test]
fn a_flood_by_a_removed_device_is_not_in_the_past_of_what_others_write() {
    let (mut history, before, _) = founder_removed();
    for number in 0..60 {
        history.on(0, &before, Action::Rename { device: id(0), name: name(number) });
        let epoch = Action::KeyEpoch { number: 1, commitment: [u8::try_from(number).unwrap(); 32] };
        history.on(0, &before, epoch);
    }
    assert!(history.heads().len() > 100);
    let mut log: Log = history.log();
    let draft = log.draft(id(1), admit(5, Role::Reader)).unwrap();
    assert_eq!(draft.parents.len(), 1);
    log.insert(draft.sign(key(1)).unwrap()).unwrap();
    assert!(log.manifest().is_member(&id(5)));
    assert_eq!(log.manifest().forks.len(), 1, "and the person is told");
}

#[test]
fn an_operation_of_one_group_is_nothing_in_another() {
    let mut history = History::of_admins(2);
    let mut other = group::log::create(key(0), inbox(0), name(0), [5; 32]).unwrap();
    assert_ne!(other.group(), history.group());
    let removal = history.write(0, remove(1));
    let signed = history.operations.iter().find(|signed| signed.id() == removal).unwrap();
    assert_eq!(other.insert(signed.clone()), Err(group::log::LogError::OtherGroup));
    assert_eq!(other.len(), 1);
}

#[test]
fn t11_a_founder_can_end_its_group_and_still_lets_nobody_in() {
    // The worst that a removed founder's key can do: leave before it admitted anybody. Every right in
    // the group rests on what that takes back, the removal's too. All are out; rescue is left.
    let (mut history, _, removal) = founder_removed();
    let create = history.create();
    let leave = history.on(0, &[create], Action::Leave);
    history.on(0, &[create], admit(9, Role::Admin));
    let manifest = history.manifest();
    assert_eq!(members(&manifest), []);
    assert!(manifest.contested.contains(&leave) && manifest.contested.contains(&removal));
    let picked = [(id(2), Role::Admin), (id(3), Role::Admin)];
    let rescued = rescue(key(1), (inbox(1), name(1)), [1; 32], &manifest, &picked);
    assert_eq!(members(&rescued.unwrap().manifest()), [1, 2, 3]);
}

#[test]
fn t13_a_void_rotation_ties_nothing() {
    // 2 put out 3; then 1 put out 2 and 0. Whoever has 0 and 2 says that they are one device, dated back,
    // so that the removal of 0 would cut what 2 wrote, and 3 be back.
    let mut history = History::begin();
    let create = history.create();
    for device in [1, 2, 3] {
        history.write(0, admit(device, Role::Admin));
    }
    let before_two = history.create_and_all()[1];
    let before = history.heads();
    history.write(1, remove(0));
    history.on(2, &before, remove(3));
    history.write(1, remove(2));
    assert_eq!(members(&history.manifest()), [1]);
    for on in [create, before_two] {
        history.on(0, &[on], rotate(2));
        let manifest = history.manifest();
        assert!(!manifest.is_member(&id(3)) && !manifest.is_member(&id(2)));
    }
}
