//! The session group by rule T7: vouching, merging, bounds, hostile vouches.

use std::{collections::BTreeMap, sync::LazyLock};

use group::{SessionGroup, Topic, VouchExt as _};
use identity::{DeviceId, DeviceKey, Secret};
use proptest::{collection::vec, prelude::*};
use wire::session::{Ground, MAX_MEMBERS, MAX_VOUCHES, Name, Vouch};

static KEYS: LazyLock<Vec<DeviceKey>> = LazyLock::new(|| {
    (0..80)
        .map(|seed| DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key"))
        .collect()
});

fn id(device: usize) -> DeviceId {
    KEYS[device].id()
}

fn name(device: usize) -> Name {
    Name::new(&format!("device {device}")).expect("short")
}

fn vouch_as(voucher: usize, admitted: usize, ground: Ground) -> Vouch {
    Vouch::sign(&KEYS[voucher], &Topic::new("t"), id(admitted), name(admitted), ground)
}

fn vouch(voucher: usize, admitted: usize) -> Vouch {
    vouch_as(voucher, admitted, Ground::Person)
}

fn group_of(device: usize) -> SessionGroup {
    SessionGroup::new(Topic::new("t"), id(device), false)
}

fn devices(group: &SessionGroup) -> Vec<DeviceId> {
    group.accepted().keys().copied().collect()
}

fn sorted(devices: &[usize]) -> Vec<DeviceId> {
    let mut ids: Vec<_> = devices.iter().map(|device| id(*device)).collect();
    ids.sort();
    ids
}

#[test]
fn t7_a_members_vouch_admits_a_newcomer() {
    let mut group = group_of(0);
    assert_eq!(group.add(&[vouch(1, 2)]), [], "1 is nobody yet");
    assert_eq!(group.add(&[vouch(0, 1)]).len(), 1);
    assert!(group.accepts(&id(1)) && !group.accepts(&id(2)), "what was refused is not remembered");
    assert_eq!(group.add(&[vouch(1, 2), vouch(0, 1)]), [vouch(1, 2)], "only the new is passed on");
    assert_eq!(devices(&group), sorted(&[1, 2]));
    assert_eq!(group.accepted()[&id(2)], name(2));
}

#[test]
fn t7_one_confirmation_merges_two_sessions_and_lists_who_comes_along() {
    // Sessions {0, 1} and {2, 3, 4}; 0 confirms 3.
    let mut left = group_of(0);
    left.add(&[vouch(0, 1), vouch(1, 0)]);
    let mut right = group_of(3);
    right.add(&[vouch(3, 2), vouch(2, 4), vouch(2, 3), vouch(4, 2)]);
    let along: Vec<_> =
        left.along(id(3), &right.introduction()).into_iter().map(|(device, _)| device).collect();
    assert_eq!(along, sorted(&[2, 4]));
    assert!(devices(&left) == sorted(&[1]), "asking admits nobody");

    left.add(&[vouch(0, 3)]);
    left.add(&right.vouches());
    assert_eq!(devices(&left), sorted(&[1, 2, 3, 4]));
    right.add(&[vouch(3, 0)]);
    right.add(&left.vouches());
    assert_eq!(devices(&right), sorted(&[0, 1, 2, 4]));
    // And 1, who confirmed nobody but 0, hears of it.
    let mut one = group_of(1);
    one.add(&[vouch(1, 0)]);
    one.add(&left.vouches());
    assert_eq!(devices(&one), sorted(&[0, 2, 3, 4]));
}

#[test]
fn t7_an_introduction_is_enough_for_whoever_knows_the_vouchers() {
    let mut newcomer = group_of(2);
    newcomer.add(&[vouch(2, 1), vouch(1, 2), vouch(1, 5)]);
    let mut group = group_of(0);
    group.add(&[vouch(0, 1)]);
    group.add(&newcomer.introduction());
    assert!(group.accepts(&id(2)));
}

#[test]
fn t7_open_answers_for_its_own_side_only() {
    let vouches = [vouch(0, 1), vouch_as(1, 2, Ground::Open)];
    let mut asking = group_of(0);
    asking.add(&vouches);
    assert_eq!(devices(&asking), sorted(&[1]));
    let mut open = SessionGroup::new(Topic::new("t"), id(0), true);
    open.add(&vouches);
    assert_eq!(devices(&open), sorted(&[1, 2]));
    assert_eq!(asking.along(id(1), &vouches), []);
}

#[test]
fn hostile_vouches_change_nothing() {
    let mut group = group_of(0);
    group.add(&[vouch(0, 1)]);
    let forged = Vouch { voucher: id(0), ..vouch(5, 6) };
    let renamed = Vouch { name: name(9), ..vouch(1, 6) };
    let widened = Vouch { ground: Ground::Person, ..vouch_as(1, 6, Ground::Open) };
    let retargeted = Vouch { admitted: id(7), ..vouch(1, 6) };
    let elsewhere = Vouch::sign(&KEYS[1], &Topic::new("other"), id(6), name(6), Ground::Person);
    let to_itself = vouch(1, 1);
    let of_a_stranger = vouch(5, 6);
    let all = [forged, renamed, widened, retargeted, elsewhere, to_itself, of_a_stranger];
    assert_eq!(group.add(&all), []);
    assert_eq!(devices(&group), sorted(&[1]));
    assert_eq!(group.vouches().len(), 1);
}

#[test]
fn members_and_vouches_are_bounded() {
    let mut group = group_of(0);
    let star: Vec<_> = (1..80).map(|device| vouch(0, device)).collect();
    group.add(&star);
    assert!(group.is_full());
    assert_eq!(group.accepted().len(), MAX_MEMBERS - 1);
    let mesh: Vec<_> = (1..40)
        .flat_map(|voucher| (1..40).map(move |admitted| (voucher, admitted)))
        .filter(|(voucher, admitted)| voucher != admitted)
        .map(|(voucher, admitted)| vouch(voucher, admitted))
        .collect();
    assert!(mesh.len() > MAX_VOUCHES);
    group.add(&mesh);
    assert_eq!(group.vouches().len(), MAX_VOUCHES);
    assert!(group.introduction().len() <= 2 * MAX_MEMBERS);
}

/// The rule, written down as simply as possible: who is reachable over pairs.
fn model(from: usize, pairs: &[(usize, usize)]) -> Vec<DeviceId> {
    let mut reached = BTreeMap::from([(from, ())]);
    for _ in 0..pairs.len() {
        for (voucher, admitted) in pairs {
            if reached.contains_key(voucher) {
                reached.insert(*admitted, ());
            }
        }
    }
    reached.remove(&from);
    sorted(&reached.into_keys().collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn acceptance_is_a_function_of_the_set(
        pairs in vec((0..8_usize, 0..8_usize), 0..20),
        order in vec(any::<prop::sample::Index>(), 20),
        cut in any::<prop::sample::Index>(),
    ) {
        let pairs: Vec<_> = pairs.into_iter().filter(|(a, b)| a != b).collect();
        let vouches: Vec<_> = pairs.iter().map(|(a, b)| vouch(*a, *b)).collect();
        let mut whole = group_of(0);
        whole.add(&vouches);
        prop_assert_eq!(devices(&whole), model(0, &pairs));

        let mut shuffled = vouches;
        for (at, with) in order.iter().enumerate() {
            if at < shuffled.len() {
                let with = with.index(shuffled.len());
                shuffled.swap(at, with);
            }
        }
        let mut other = group_of(0);
        other.add(&shuffled);
        prop_assert_eq!(devices(&other), devices(&whole));

        // In pieces, and each piece again and again until nothing moves.
        let (left, right) = shuffled.split_at(cut.index(shuffled.len() + 1));
        let mut pieces = group_of(0);
        for _ in 0..8 {
            pieces.add(left);
            pieces.add(right);
        }
        prop_assert_eq!(devices(&pieces), devices(&whole));
    }

    #[test]
    fn no_set_of_vouches_by_strangers_admits_anybody(
        pairs in vec((3..8_usize, 0..8_usize), 0..20),
    ) {
        let mut group = group_of(0);
        group.add(&[vouch(0, 1), vouch(1, 2)]);
        let before = devices(&group);
        let vouches: Vec<_> = pairs.iter().map(|(a, b)| vouch(*a, *b)).collect();
        prop_assert_eq!(group.add(&vouches), []);
        prop_assert_eq!(devices(&group), before);
    }
}
