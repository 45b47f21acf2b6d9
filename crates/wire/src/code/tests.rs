use identity::DeviceKey;
use proptest::prelude::*;

use super::*;
use crate::{
    envelope::SIZES,
    mail::MailAddress,
    membership::{FolderId, Role},
};

fn device(seed: u8) -> DeviceKey {
    DeviceKey::from_seed(&Secret::new([seed; 32])).unwrap()
}

fn invitation() -> Invitation {
    Invitation {
        issuer: device(1).id(),
        inbox: InboxId([2; 32]),
        issuer_name: Name::new("desk").unwrap(),
        group: GroupId([3; 32]),
        group_name: Name::new("home").unwrap(),
        folder: FolderId([4; 32]),
        folder_name: Name::new("Photos").unwrap(),
        role: Role::Reader,
        expires: 1_800_000_000,
        addresses: vec!["192.0.2.7:9001".parse().unwrap(), "[2001:db8::1]:9001".parse().unwrap()],
        mail: vec![MailAddress { relay: "kin:relay/x".into(), mailbox: [5; 32], token: None }],
    }
}

fn code(secret: u8) -> Code {
    Code::new(&Secret::new([secret; 16]), &device(1).id())
}

#[test]
fn t16_an_invitation_is_opened_by_its_code_alone() {
    let (told, code) = (invitation(), code(7));
    let sealed = told.seal(&code.keys(), &device(1), &[8; 24]).unwrap();
    assert!(SIZES.contains(&sealed.len()));
    assert_eq!(Invitation::open(&sealed, &code), Ok(told.clone()));
    assert!(Invitation::open(&sealed, &self::code(8)).is_err());
    for name in ["desk", "home", "Photos", "192.0.2.7"] {
        assert!(!sealed.windows(name.len()).any(|part| part == name.as_bytes()), "{name}");
    }
}

#[test]
fn attack_11_an_invitation_of_another_version_or_for_another_code_does_not_open() {
    let code = code(7);
    let sealed = invitation().seal(&code.keys(), &device(1), &[8; 24]).unwrap();
    for version in [0, 2, 255] {
        let mut other = sealed.to_vec();
        other[0] = version;
        assert!(Invitation::open(&other, &code).is_err(), "version {version}");
    }
    // What says for which code it is has been exchanged: the seal is over that, too.
    let keys = CodeKeys { lookup: self::code(8).keys().lookup, ..code.keys() };
    let crossed = invitation().seal(&keys, &device(1), &[8; 24]).unwrap();
    assert!(Invitation::open(&crossed, &code).is_err());
}

#[test]
fn t16_another_issuers_invitation_is_refused() {
    // Somebody who has the code cannot put himself in the issuer's place.
    let code = code(7);
    let false_one = Invitation { issuer: device(9).id(), ..invitation() };
    let sealed = false_one.seal(&code.keys(), &device(9), &[8; 24]).unwrap();
    let refused = Invitation::open(&sealed, &code).unwrap_err();
    assert!(refused.to_string().contains("not the device that the code names"), "{refused}");
    assert!(invitation().seal(&code.keys(), &device(9), &[8; 24]).is_err());
}

#[test]
fn t16_the_members_lane_is_told_to_nobody_by_a_code() {
    let mail = MailAddress { token: Some([6; 32]), ..invitation().mail[0].clone() };
    let told = Invitation { mail: vec![mail], ..invitation() };
    let sealed = told.seal(&code(7).keys(), &device(1), &[8; 24]).unwrap();
    assert_eq!(Invitation::open(&sealed, &code(7)).unwrap().mail[0].token, None);
}

#[test]
fn t16_all_that_follows_from_a_code_differs() {
    let [one, two] = [code(7).keys(), code(8).keys()];
    let all = [one.lookup.0, *one.seal.expose(), *one.proof.expose(), two.lookup.0];
    for (at, key) in all.iter().enumerate() {
        assert!(!all[..at].contains(key));
        assert_ne!(key[..16], one.id.0);
    }
    assert!(!format!("{:?}{:?}", code(7), one).contains(&format!("{:?}", one.seal.expose())));
}

#[test]
fn t17_a_hello_is_for_one_issuer_one_holder_and_one_link() {
    let keys = code(7).keys();
    let (issuer, joiner, inbox) = (DeviceId([1; 32]), DeviceId([2; 32]), InboxId([3; 32]));
    let said = Greeting { lookup: &keys.lookup, issuer: &issuer, joiner: &joiner, inbox: &inbox };
    let mac = said.mac(&keys.proof, Way::Link(&[4; 32]));
    assert!(said.proves(&keys.proof, Way::Link(&[4; 32]), &mac));
    assert!(!said.proves(&keys.proof, Way::Link(&[5; 32]), &mac), "attack 10: crossed links");
    assert!(!said.proves(&keys.proof, Way::Mail, &mac), "a link's hello is no letter");
    assert!(!said.proves(&code(8).keys().proof, Way::Link(&[4; 32]), &mac));
    let other = InboxId([9; 32]);
    assert!(!Greeting { inbox: &other, ..said }.proves(&keys.proof, Way::Link(&[4; 32]), &mac));
    let reflected = Greeting { issuer: &joiner, joiner: &issuer, ..said };
    assert!(!reflected.proves(&keys.proof, Way::Link(&[4; 32]), &mac), "attack 10: reflected");
}

#[test]
fn attack_14_a_code_of_another_format_is_a_typed_error() {
    let text = |version: u8| {
        let mut bytes = [version; CODE_LEN];
        bytes[1] = 9;
        code_to_text(&bytes).expose().clone()
    };
    assert_eq!(Code::parse(&text(0)).unwrap_err(), CodeError::Malformed);
    assert_eq!(Code::parse(&text(9)).unwrap_err(), CodeError::Newer(9));
    assert!(Code::parse(&text(1)).is_ok());
}

fn message() -> impl Strategy<Value = Message> {
    let id = any::<[u8; 32]>;
    let refusal = prop::sample::select(Refusal::ALL.to_vec());
    let wait = prop_oneof![Just(Wait::Asked), Just(Wait::Suspended)];
    prop_oneof![
        (id(), 1_u8.., "[a-zé日 ]{1,16}", id()).prop_map(|(lookup, inbox, name, mac)| {
            let name = Name::new(&name).unwrap();
            Message::Hello(Hello {
                lookup: LookupId(lookup),
                inbox: InboxId([inbox; 32]),
                name,
                mac,
            })
        }),
        (id(), id()).prop_map(|(lookup, group)| Message::Admitted {
            lookup: LookupId(lookup),
            group: GroupId(group)
        }),
        (id(), refusal)
            .prop_map(|(lookup, why)| Message::Refused { lookup: LookupId(lookup), why }),
        (id(), wait).prop_map(|(lookup, why)| Message::Waits { lookup: LookupId(lookup), why }),
    ]
}

proptest! {
    #[test]
    fn messages_round_trip(message in message()) {
        let body = message.encode();
        prop_assert_eq!(Message::decode(message.kind(), &body), Ok(message));
    }

    #[test]
    fn a_body_has_one_form(kind in 5_u32..11, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(kind, &body) {
            prop_assert_eq!(message.encode(), Bytes::from(body));
        }
    }

    #[test]
    fn a_changed_invitation_is_refused(at: prop::sample::Index, bit in 0..8_u8) {
        let mut sealed = invitation().seal(&code(7).keys(), &device(1), &[8; 24]).unwrap().to_vec();
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(Invitation::open(&sealed, &code(7)).is_err());
    }

    #[test]
    fn what_is_kept_of_a_join_round_trips(id: [u8; 16], lookup: [u8; 32], proof: [u8; 32]) {
        let mail = invitation().mail;
        let kept = SavedCodeJoin {
            id: CodeId(id),
            lookup: LookupId(lookup),
            proof: Secret::new(proof),
            inbox: InboxId([1; 32]),
            mail,
            group_name: Some(Name::new("home").unwrap()),
        };
        let read = SavedCodeJoin::decode(kept.encode().unwrap().expose()).unwrap();
        prop_assert_eq!((read.id, read.lookup, &read.mail), (kept.id, kept.lookup, &kept.mail));
        prop_assert_eq!(read.proof.expose(), &proof);
        prop_assert_eq!(read.group_name, kept.group_name);
    }
}
