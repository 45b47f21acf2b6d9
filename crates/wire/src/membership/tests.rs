use identity::{DeviceKey, Secret};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::membership::{MAX_OPERATION, SignedOperation, id_of};

fn key(seed: u8) -> DeviceKey {
    DeviceKey::from_seed(&Secret::new([seed; 32])).unwrap()
}

fn name() -> impl Strategy<Value = Name> {
    "[a-zé日 ]{1,16}".prop_map(|name| Name::new(&name).unwrap())
}

fn ids() -> impl Strategy<Value = Vec<[u8; 32]>> {
    proptest::collection::btree_set(any::<[u8; 32]>(), 1..5)
        .prop_map(|ids| ids.into_iter().collect())
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Admin), Just(Role::Writer), Just(Role::Reader), Just(Role::Keeper)]
}

fn action() -> impl Strategy<Value = Action> {
    let device = || any::<[u8; 32]>().prop_map(DeviceId);
    let inbox = || (1_u8..).prop_map(|byte| InboxId([byte; 32]));
    let folder = || any::<[u8; 32]>().prop_map(FolderId);
    let scope = prop_oneof![
        Just(Scope::All),
        Just(Scope::List(Vec::new())),
        ids().prop_map(|ids| Scope::List(ids.into_iter().map(FolderId).collect())),
    ];
    let ceremony = prop_oneof![
        Just(Ceremony::Lan),
        Just(Ceremony::Token),
        any::<[u8; 16]>().prop_map(|code| Ceremony::Code(CodeId(code))),
        Just(Ceremony::Rescue),
    ];
    let admit = (device(), inbox(), name(), role(), scope, ceremony).prop_map(
        |(device, inbox, name, role, folders, ceremony)| Action::Admit {
            device,
            inbox,
            name,
            role,
            folders,
            ceremony,
        },
    );
    prop_oneof![
        (any::<[u8; 32]>(), inbox(), name()).prop_map(|(nonce, inbox, name)| Action::Create {
            nonce,
            inbox,
            name
        }),
        admit,
        (device(), role()).prop_map(|(device, role)| Action::SetRole { device, role }),
        device().prop_map(|device| Action::Remove { device }),
        inbox().prop_map(|inbox| Action::Rotate { device: key(9).id(), inbox }),
        Just(Action::Leave),
        (folder(), name()).prop_map(|(folder, name)| Action::FolderAdded { folder, name }),
        folder().prop_map(|folder| Action::FolderRemoved { folder }),
        (any::<u64>(), any::<[u8; 32]>())
            .prop_map(|(number, commitment)| Action::KeyEpoch { number, commitment }),
        (device(), name()).prop_map(|(device, name)| Action::Rename { device, name }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    (action(), any::<[u8; 32]>(), 1_u32.., ids()).prop_map(|(action, group, sequence, parents)| {
        let creates = matches!(action, Action::Create { .. });
        Operation {
            group: (!creates).then_some(GroupId(group)),
            author: key(7).id(),
            sequence: if creates { 1 } else { sequence },
            parents: if creates {
                Vec::new()
            } else {
                parents.into_iter().map(OperationId).collect()
            },
            action,
        }
    })
}

fn signed(operation: &Operation) -> SignedOperation {
    match operation.action {
        Action::Rotate { .. } => operation.sign_rotation(&key(7), &key(9)).unwrap(),
        _ => operation.sign(&key(7)).unwrap(),
    }
}

fn leave() -> Operation {
    Operation {
        group: Some(GroupId([1; 32])),
        author: key(7).id(),
        sequence: 2,
        parents: vec![OperationId([2; 32])],
        action: Action::Leave,
    }
}

/// An envelope that is signed well over any body.
fn enveloped(body: &[u8]) -> Bytes {
    let body = Bytes::copy_from_slice(body);
    let signature = key(7).sign(&id_of(&body).0);
    envelope(body, &signature, None)
}

proptest! {
    #[test]
    fn operations_round_trip(operation in operation()) {
        let signed = signed(&operation);
        prop_assert_eq!(signed.operation(), &operation);
        prop_assert_eq!(SignedOperation::parse(signed.bytes().clone()), Ok(signed));
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(SignedOperation::parse(bytes.clone().into()).is_err());
        let _ = decode(bytes.clone().into());
        let _ = SignedOperation::parse(enveloped(&bytes));
    }

    #[test]
    fn a_damaged_operation_is_refused(operation in operation(), at: prop::sample::Index, bit in 0..8_u8) {
        let signed = signed(&operation);
        let mut bytes = signed.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(SignedOperation::parse(bytes.into()).is_err());
        prop_assert!(SignedOperation::parse(signed.bytes().slice(..at)).is_err());
    }

    #[test]
    fn a_damaged_body_never_panics(operation in operation(), at: prop::sample::Index, to: u8) {
        let mut body = encode(&operation).to_vec();
        let at = at.index(body.len());
        body[at] = to;
        let _ = SignedOperation::parse(enveloped(&body));
    }
}

#[test]
fn unknown_fields_survive_and_count_for_the_id() {
    let mut body = encode(&leave()).to_vec();
    // Field 40, two bytes.
    body.extend([0xc2, 0x02, 0x02, 0xaa, 0xbb]);
    let with = SignedOperation::parse(enveloped(&body)).unwrap();
    assert_eq!(with.operation(), &leave());
    assert_ne!(with.id(), signed(&leave()).id());
    assert!(with.bytes().windows(2).any(|pair| pair == [0xaa, 0xbb]));
}

#[test]
fn one_message_has_one_reading() {
    let body = encode(&leave()).to_vec();
    let problem = |body: &[u8]| match SignedOperation::parse(enveloped(body)) {
        Err(WireError::Field { problem, .. }) => problem,
        Err(WireError::Malformed(_)) => "malformed",
        other => panic!("{other:?}"),
    };
    // The sequence (field 3) again; a second action; an action of the future; a group.
    assert_eq!(problem(&[&body[..], &[0x18, 9]].concat()), "out of order, or one comes twice");
    assert_eq!(problem(&[&body[..], &[0x72, 0]].concat()), "not exactly one");
    let head = &body[..body.len() - 2];
    assert_eq!(problem(&[head, &[0xf2, 0x01, 0]].concat()), "unknown to this version");
    assert_eq!(problem(head), "not exactly one");
    assert_eq!(problem(&[&body[..], &[0xc3, 0x02]].concat()), "of a kind that is not used");
    // Two equal fields inside an action, and a number in more bytes than it needs.
    let twice = [0x5a, 68, 0x0a, 32];
    let inner = [&twice[..], &[5; 32], &[0x0a, 32], &[6; 32]].concat();
    assert_eq!(problem(&[head, &inner].concat()), "out of order, or one comes twice");
    assert_eq!(problem(&[&body[..], &[0xc0, 0x02, 0x81, 0x00]].concat()), "malformed");
}

#[test]
fn bounds_are_kept() {
    let refused = |operation: &Operation| operation.sign(&key(7)).unwrap_err().to_string();
    let many = |count: u8| (0..count).map(|n| [n; 32]);
    let parents = |count| many(count).map(OperationId).collect::<Vec<_>>();
    assert!(Operation { parents: parents(32), ..leave() }.sign(&key(7)).is_ok());
    assert!(refused(&Operation { parents: parents(33), ..leave() }).contains("parents"));
    let mut unsorted = parents(2);
    unsorted.reverse();
    assert!(refused(&Operation { parents: unsorted, ..leave() }).contains("parents"));
    assert!(refused(&Operation { parents: Vec::new(), ..leave() }).contains("parents"));
    assert!(refused(&Operation { sequence: 0, ..leave() }).contains("sequence"));
    assert!(refused(&Operation { group: None, ..leave() }).contains("group"));
    let admit = |folders: u8, inbox: u8| Operation {
        action: Action::Admit {
            device: key(8).id(),
            inbox: InboxId([inbox; 32]),
            name: Name::new(&"n".repeat(64)).unwrap(),
            role: Role::Reader,
            folders: Scope::List(many(folders).map(FolderId).collect()),
            ceremony: Ceremony::Code(CodeId([4; 16])),
        },
        parents: parents(32),
        ..leave()
    };
    let longest = admit(64, 1).sign(&key(7)).unwrap();
    assert!(longest.bytes().len() <= MAX_OPERATION, "{}", longest.bytes().len());
    assert!(refused(&admit(65, 1)).contains("folders"));
    assert!(refused(&admit(1, 0)).contains("inbox"), "all-zero key (dsync fault 2)");
    let create =
        Action::Create { nonce: [1; 32], inbox: InboxId([1; 32]), name: Name::new("a").unwrap() };
    assert!(refused(&Operation { action: create, ..leave() }).contains("group"));
    let long = [encode(&leave()).as_ref(), &[0xc2, 0x02, 0xff, 0x7f], &[0; 16383]].concat();
    assert!(matches!(SignedOperation::parse(enveloped(&long)), Err(WireError::TooLarge { .. })));
    // A code where none belongs, none where one does, a role and a ceremony of the future.
    let body = |change: fn(&mut PbAdmit)| {
        let mut pb = PbOperation::decode(encode(&admit(0, 1))).unwrap();
        if let Some(PbAction::Admit(admit)) = &mut pb.action {
            change(admit);
        }
        SignedOperation::parse(enveloped(&pb.encode_to_vec())).unwrap_err().to_string()
    };
    assert!(body(|admit| admit.ceremony = 1).contains("code"));
    assert!(body(|admit| admit.code = Bytes::new()).contains("code"));
    assert!(body(|admit| admit.ceremony = 9).contains("ceremony"));
    assert!(body(|admit| admit.role = 5).contains("role"));
    assert!(body(|admit| admit.name = "\u{1b}[2J".into()).contains("name"));
    assert!(
        body(|admit| {
            admit.all = true;
            admit.folders = Bytes::from(vec![1; 32]);
        })
        .contains("folders")
    );
}

#[test]
fn t13_a_rotation_is_signed_by_both_keys() {
    let rotation = Operation {
        action: Action::Rotate { device: key(9).id(), inbox: InboxId([3; 32]) },
        ..leave()
    };
    assert!(rotation.sign_rotation(&key(7), &key(9)).is_ok());
    let refused = |result: Result<SignedOperation, WireError>| result.unwrap_err().to_string();
    assert!(refused(rotation.sign(&key(7))).contains("missing"));
    assert!(refused(rotation.sign_rotation(&key(7), &key(8))).contains("not the new key's"));
    assert!(refused(rotation.sign_rotation(&key(8), &key(9))).contains("not the author's"));
    assert!(refused(leave().sign_rotation(&key(7), &key(9))).contains("only for a rotation"));
    // The new key signs something that is no author's signature of anything.
    let body = encode(&rotation);
    let as_author = key(9).sign(&id_of(&body).0);
    let both = envelope(body.clone(), &key(7).sign(&id_of(&body).0), Some(&as_author));
    assert!(refused(SignedOperation::parse(both)).contains("not the new key's"));
}
