//! The test vectors of topics, vouches and the membership log in docs/protocol.md are what this code makes.

#[path = "../../wire/tests/document/mod.rs"]
mod document;

use std::collections::BTreeMap;

use document::{hex, printed};
use group::{Topic, VouchExt as _, log::Log};
use identity::{DeviceId, DeviceKey, InboxId, Secret};
use wire::{
    membership::{
        Action, Ceremony, CodeId, FolderId, GroupId, Operation, OperationId, Role, Scope,
        SignedOperation,
    },
    session::{Ground, Name, Vouch},
};

#[test]
fn t7_the_vectors_in_the_document_are_what_the_code_makes() {
    let key = DeviceKey::from_seed(&Secret::new([7; 32])).unwrap();
    let topic = Topic::new("photos");
    let name = Name::new("Küche").unwrap();
    let vouch = Vouch::sign(&key, &topic, DeviceId([0x21; 32]), name, Ground::Person);
    let made = BTreeMap::from([
        ("topic_on_link".to_owned(), hex(&topic.on_link(&[0x41; 32]))),
        ("vouch_signature".to_owned(), hex(&vouch.signature)),
    ]);
    assert_eq!(printed("vectors-group"), made);
}

fn key(number: u8) -> DeviceKey {
    DeviceKey::from_seed(&Secret::new([number; 32])).expect("any seed is a key")
}

fn admit(number: u8, role: Role, folders: Scope, ceremony: Ceremony) -> Action {
    Action::Admit {
        device: key(number).id(),
        inbox: InboxId([0x10 + number; 32]),
        name: Name::new(["A", "B", "C", "D"][usize::from(number) - 1]).expect("short"),
        role,
        folders,
        ceremony,
    }
}

#[test]
fn t11_the_membership_vectors_are_what_the_code_makes() {
    let nonce = [0x21; 32];
    let action =
        Action::Create { nonce, inbox: InboxId([0x11; 32]), name: Name::new("A").unwrap() };
    let create =
        Operation { group: None, author: key(1).id(), sequence: 1, parents: Vec::new(), action };
    let create = create.sign(&key(1)).unwrap();
    let group = GroupId(create.id().0);
    let write = |author: u8, sequence, on: &[&SignedOperation], action| {
        let mut parents: Vec<OperationId> = on.iter().map(|signed| signed.id()).collect();
        parents.sort();
        let group = Some(group);
        Operation { group, author: key(author).id(), sequence, parents, action }
    };
    let signed = |author, sequence, on: &SignedOperation, action| {
        write(author, sequence, &[on], action).sign(&key(author)).unwrap()
    };
    let admit_b = signed(1, 2, &create, admit(2, Role::Admin, Scope::All, Ceremony::Lan));
    let folders = Scope::List(vec![FolderId([0x31; 32]), FolderId([0x32; 32])]);
    let by_code = admit(3, Role::Reader, folders, Ceremony::Code(CodeId([0x41; 16])));
    let admit_c = signed(1, 3, &admit_b, by_code);
    let remove_b = signed(1, 4, &admit_c, Action::Remove { device: key(2).id() });
    let remove_a = signed(2, 1, &admit_c, Action::Remove { device: key(1).id() });
    let admit_d = admit(4, Role::Admin, Scope::All, Ceremony::Lan);
    let admit_d = signed(2, 1, &admit_c, admit_d);
    let action = Action::Rotate { device: key(5).id(), inbox: InboxId([0x15; 32]) };
    let rotate = write(3, 1, &[&remove_b, &remove_a, &admit_d], action)
        .sign_rotation(&key(3), &key(5))
        .unwrap();
    let all = [
        ("create", create),
        ("admit_b", admit_b),
        ("admit_c", admit_c),
        ("remove_b", remove_b),
        ("remove_a", remove_a),
        ("admit_d", admit_d),
        ("rotate", rotate),
    ];
    let mut log = Log::new(group);
    let mut made = BTreeMap::new();
    for (name, signed) in all {
        made.insert(format!("{name}_id"), hex(&signed.id().0));
        if ["create", "admit_c", "rotate"].contains(&name) {
            made.insert(name.to_owned(), hex(signed.bytes()));
        }
        log.insert(signed).unwrap();
    }
    let manifest = log.manifest();
    let members = manifest.members.iter().map(|(device, member)| {
        let role = match member.role {
            Role::Admin => 1,
            Role::Writer => 2,
            Role::Reader => 3,
            Role::Keeper => 4,
        };
        format!("{}:{role}", hex(&device.0))
    });
    made.insert("members".into(), members.collect::<Vec<_>>().join(" "));
    let ids = |ids: &[OperationId]| ids.iter().map(|id| hex(&id.0)).collect::<Vec<_>>().join(" ");
    made.insert("contested".into(), ids(&manifest.contested));
    let void: Vec<OperationId> = manifest.void.iter().map(|void| void.operation).collect();
    made.insert("void".into(), ids(&void));
    let lines: String = made.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    assert_eq!(printed("vectors-membership"), made, "the code makes\n{lines}");
}
