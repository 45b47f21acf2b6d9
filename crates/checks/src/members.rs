//! The session group: whoever vouches for whom, in whatever order it is heard.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use group::{SessionGroup, Topic, VouchExt as _};
use identity::{DeviceId, DeviceKey, Secret};
use wire::session::{Ground, Message, Name, Vouch};

const DEVICES: u8 = 6;
/// Most vouches in one run: checking a signature takes its time.
const MOST: usize = 16;

static KEYS: LazyLock<Vec<DeviceKey>> = LazyLock::new(|| {
    let key = |seed| DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key");
    (1..=DEVICES).map(key).collect()
});

fn id(device: u8) -> DeviceId {
    KEYS[usize::from(device % DEVICES)].id()
}

/// A vouch, and whether it is what it seems. Three bytes: who, for whom, what is wrong with it.
fn vouch(&[voucher, admitted, how]: &[u8; 3]) -> (Vouch, bool) {
    let ground = [Ground::Person, Ground::Passphrase, Ground::Open][usize::from(how % 3)];
    let topic = Topic::new(if how & 0x40 == 0 { "t" } else { "other" });
    let signer = &KEYS[usize::from(voucher % DEVICES)];
    let name = Name::new("device").expect("short");
    let mut vouch = Vouch::sign(signer, &topic, id(admitted), name, ground);
    let mut holds = how & 0x40 == 0;
    if how & 0x80 != 0 {
        // Signed by one, said to be another's.
        vouch.voucher = id(voucher.wrapping_add(1));
        holds = false;
    }
    if how & 0x20 != 0 {
        vouch.signature[usize::from(how % 64)] ^= 1;
        holds = false;
    }
    (vouch, holds)
}

/// One byte for what kind of session this is, three for each vouch.
pub(crate) fn group(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let (me, open) = (id(0), kind % 2 == 1);
    let made: Vec<(Vouch, bool)> = rest.as_chunks::<3>().0.iter().take(MOST).map(vouch).collect();
    let mut vouches: Vec<Vouch> = made.iter().map(|(vouch, _)| vouch.clone()).collect();

    let mut group = SessionGroup::new(Topic::new("t"), me, open);
    let new = group.add(&vouches);
    assert!(new.iter().all(|vouch| made.contains(&(vouch.clone(), true))), "a forged vouch counts");
    let accepted: BTreeSet<DeviceId> = group.accepted().keys().copied().collect();
    assert!(!accepted.contains(&me));
    assert_eq!(accepted, reachable(me, open, &group.vouches()), "not what the vouches held say");
    assert_eq!(group.add(&vouches), [], "what is known is new");

    // Whoever is vouched for only by others' open sessions is nobody here.
    if !open {
        let by_person = |device: &DeviceId| {
            let mut vouches = made.iter().filter(|(vouch, _)| vouch.admitted == *device);
            vouches.any(|(vouch, holds)| {
                *holds && (vouch.voucher == me || vouch.ground != Ground::Open)
            })
        };
        assert!(accepted.iter().all(by_person));
    }

    let said = Message::Vouches { vouches: vouches.clone(), last: true };
    assert_eq!(Message::decode(&said.encode()), Ok(said), "vouches survive the wire");

    // One vouch of a device for another is held: so order may decide only between two of one pair.
    let pairs: BTreeSet<_> =
        made.iter().map(|(vouch, _)| (vouch.voucher, vouch.admitted)).collect();
    vouches.reverse();
    let mut other = SessionGroup::new(Topic::new("t"), me, open);
    other.add(&vouches);
    if pairs.len() == made.len() {
        assert_eq!(other.accepted(), group.accepted(), "the order decided");
    }
    // A stranger that is asked about brings nobody along who is known already.
    let along = group.along(id(5), &vouches);
    assert!(along.iter().all(|(device, _)| !group.accepts(device) && *device != id(5)));
}

fn reachable(me: DeviceId, open: bool, vouches: &[Vouch]) -> BTreeSet<DeviceId> {
    let mut edges: BTreeMap<DeviceId, Vec<DeviceId>> = BTreeMap::new();
    for vouch in vouches {
        if vouch.voucher == me || open || vouch.ground != Ground::Open {
            edges.entry(vouch.voucher).or_default().push(vouch.admitted);
        }
    }
    let (mut found, mut queue) = (BTreeSet::new(), vec![me]);
    while let Some(device) = queue.pop() {
        for next in edges.get(&device).into_iter().flatten() {
            if *next != me && found.insert(*next) {
                queue.push(*next);
            }
        }
    }
    found
}
