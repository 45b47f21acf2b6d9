//! What becomes of hellos with sharing codes, whatever comes in whatever order.

use identity::{DeviceId, InboxId, Secret};
use pairing::code::{EXPIRES, Present, Standing, Terms, Verdict, hello, issue, judge};
use proptest::{collection::vec, prelude::*};
use wire::{
    code::{Code, Refusal, SavedCodeJoin, Wait, Way},
    membership::{FolderId, GroupId, Role, Scope},
    session::Name,
};

const NOW: i64 = 1_800_000_000;
const ISSUER: DeviceId = DeviceId([1; 32]);
const FOLDER: FolderId = FolderId([4; 32]);

fn terms() -> Terms {
    let code = Code::new(&Secret::new([7; 16]), &ISSUER);
    issue(&code, GroupId([3; 32]), FOLDER, NOW)
}

fn present(spent: &[DeviceId]) -> Present<'_> {
    let standing = Standing::Stranger;
    let (is_admin, has_folder, was_put_out) = (true, true, false);
    Present { now: NOW, is_admin, has_folder, spent, standing, was_put_out, consent: None }
}

fn device(number: u8) -> DeviceId {
    DeviceId([number; 32])
}

fn only() -> Scope {
    Scope::List(vec![FOLDER])
}

#[test]
fn t9_a_code_of_which_nothing_is_said_is_for_one_reader_and_a_day() {
    let terms = terms();
    assert_eq!((terms.role, terms.uses, terms.ask), (Role::Reader, 1, false));
    assert_eq!(terms.expires, NOW + EXPIRES);
    assert_eq!(EXPIRES, 24 * 3600);
}

#[test]
fn t14_a_code_admits_to_its_folder_alone() {
    let admitted = judge(&terms(), &device(5), &present(&[]));
    assert_eq!(admitted, Verdict::Admit(Role::Reader, only()));
}

#[test]
fn each_refusal_has_its_own_word() {
    let refused = |terms: &Terms, present: &Present<'_>| match judge(terms, &device(5), present) {
        Verdict::Refuse(why) => why.word(),
        other => panic!("{other:?}"),
    };
    let (good, nobody) = (terms(), [device(9)]);
    assert_eq!(refused(&good, &present(&nobody)), "used_up");
    let late = Present { now: good.expires, ..present(&[]) };
    assert_eq!(refused(&good, &late), "expired");
    let folderless = Present { has_folder: false, ..present(&[]) };
    assert_eq!(refused(&good, &folderless), "folder_gone");
    let demoted = Present { is_admin: false, ..present(&[]) };
    assert_eq!(refused(&good, &demoted), "revoked");
    assert_eq!(refused(&Terms { revoked: true, ..terms() }, &present(&[])), "revoked");
    let said_no = Present { consent: Some(false), ..present(&[]) };
    assert_eq!(refused(&Terms { ask: true, ..terms() }, &said_no), "declined");
    assert_eq!(Refusal::Unknown.word(), "unknown");
}

#[test]
fn t18_who_was_admitted_by_it_hears_the_same_again_even_after_its_end() {
    let member = Standing::Member(Role::Reader, only());
    let spent = [device(5)];
    let present = Present { standing: member, now: NOW * 2, ..present(&spent) };
    let terms = Terms { revoked: true, ..terms() };
    assert_eq!(judge(&terms, &device(5), &present), Verdict::Again);
}

#[test]
fn whom_the_group_has_put_out_does_not_come_back_by_the_code() {
    let spent = [device(5)];
    for (spent, standing) in [(&spent[..], Standing::Stranger), (&[][..], Standing::PutOut)] {
        let present = Present { standing, ..present(spent) };
        let terms = Terms { uses: 9, ..terms() };
        let refused = Verdict::Refuse(Refusal::Revoked);
        assert_eq!(judge(&terms, &device(5), &present), refused);
    }
}

#[test]
fn t18_whom_the_group_put_out_and_let_in_again_gets_nothing_more_by_an_older_code() {
    let writer = Terms { role: Role::Writer, ..terms() };
    let with = |role, was_put_out| {
        let standing = Standing::Member(role, only());
        let consent = Some(true);
        judge(&writer, &device(5), &Present { standing, was_put_out, consent, ..present(&[]) })
    };
    assert_eq!(with(Role::Reader, false), Verdict::Admit(Role::Writer, only()));
    assert_eq!(with(Role::Reader, true), Verdict::Refuse(Refusal::Revoked));
    assert_eq!(with(Role::Writer, true), Verdict::Again, "it has what the code gives");
}

#[test]
fn a_second_code_gives_a_member_more_and_never_less() {
    let writer = Terms { role: Role::Writer, ..terms() };
    let with = |role, folders| {
        let standing = Standing::Member(role, folders);
        judge(&writer, &device(5), &Present { standing, ..present(&[]) })
    };
    assert_eq!(with(Role::Reader, only()), Verdict::Admit(Role::Writer, only()));
    assert_eq!(with(Role::Admin, Scope::All), Verdict::Again);
    let other = Scope::List(vec![FolderId([2; 32])]);
    let both = Scope::List(vec![FolderId([2; 32]), FOLDER]);
    assert_eq!(with(Role::Admin, other), Verdict::Admit(Role::Admin, both));
}

#[test]
fn t14_what_would_give_a_member_more_than_the_code_says_waits_for_a_person() {
    let other = || Scope::List(vec![FolderId([2; 32])]);
    let both = Scope::List(vec![FolderId([2; 32]), FOLDER]);
    let with = |code, role, folders, consent| {
        let standing = Standing::Member(role, folders);
        let terms = Terms { role: code, ..terms() };
        judge(&terms, &device(5), &Present { standing, consent, ..present(&[]) })
    };
    let waits = Verdict::Wait(Wait::Asked);
    // A role is for all folders that a device may have.
    assert_eq!(with(Role::Reader, Role::Writer, other(), None), waits, "it would write here, too");
    assert_eq!(with(Role::Writer, Role::Reader, other(), None), waits, "it would write there, too");
    assert_eq!(with(Role::Writer, Role::Reader, Scope::All, None), waits);
    let asked = with(Role::Writer, Role::Reader, other(), Some(true));
    assert_eq!(asked, Verdict::Admit(Role::Writer, both.clone()));
    let declined = with(Role::Writer, Role::Reader, other(), Some(false));
    assert_eq!(declined, Verdict::Refuse(Refusal::Declined));
    assert_eq!(with(Role::Reader, Role::Reader, other(), None), Verdict::Admit(Role::Reader, both));
}

#[test]
fn t18_a_state_that_looks_restored_and_a_question_make_it_wait() {
    let asks = Terms { ask: true, ..terms() };
    assert_eq!(judge(&asks, &device(5), &present(&[])), Verdict::Wait(Wait::Asked));
    let yes = Present { consent: Some(true), ..present(&[]) };
    assert!(matches!(judge(&asks, &device(5), &yes), Verdict::Admit(..)));
    let held = Terms { suspended: true, ..asks };
    assert_eq!(judge(&held, &device(5), &yes), Verdict::Wait(Wait::Suspended));
}

#[test]
fn t17_only_a_proven_hello_for_this_issuer_on_this_link_counts() {
    let code = Code::new(&Secret::new([7; 16]), &ISSUER);
    let keys = code.keys();
    let saved = |proof: [u8; 32]| SavedCodeJoin {
        id: keys.id,
        lookup: keys.lookup,
        proof: Secret::new(proof),
        inbox: InboxId([2; 32]),
        mail: Vec::new(),
        group_name: None,
    };
    let (joiner, inbox, name) = (device(5), InboxId([6; 32]), Name::new("phone").unwrap());
    let way = Way::Link(&[8; 32]);
    let said = hello(&saved(*keys.proof.expose()), &ISSUER, (&joiner, &inbox, &name), way);
    assert!(terms().is_proven(&ISSUER, &joiner, &said, way));
    assert!(!terms().is_proven(&ISSUER, &joiner, &said, Way::Link(&[9; 32])));
    assert!(!terms().is_proven(&ISSUER, &device(6), &said, way), "attack 13: another device's");
    assert!(!terms().is_proven(&device(2), &joiner, &said, way), "another issuer's");
    let guessed = hello(&saved([0; 32]), &ISSUER, (&joiner, &inbox, &name), way);
    assert!(!terms().is_proven(&ISSUER, &joiner, &guessed, way));
}

#[test]
fn attack_11_a_hello_is_for_one_way_and_what_binds_it_cannot_be_left_out() {
    let keys = Code::new(&Secret::new([7; 16]), &ISSUER).keys();
    let saved = SavedCodeJoin {
        id: keys.id,
        lookup: keys.lookup,
        proof: keys.proof,
        inbox: InboxId([2; 32]),
        mail: Vec::new(),
        group_name: None,
    };
    let (joiner, inbox, name) = (device(5), InboxId([6; 32]), Name::new("phone").unwrap());
    let by = |way| hello(&saved, &ISSUER, (&joiner, &inbox, &name), way);
    let link = Way::Link(&[8; 32]);
    // On a link the link's exporter belongs to it; by mail there is none.
    assert!(!terms().is_proven(&ISSUER, &joiner, &by(Way::Mail), link));
    assert!(!terms().is_proven(&ISSUER, &joiner, &by(link), Way::Mail));
    assert!(terms().is_proven(&ISSUER, &joiner, &by(Way::Mail), Way::Mail));
    // Another inbox key, to which the answer would be sealed.
    let other = wire::code::Hello { inbox: InboxId([9; 32]), ..by(link) };
    assert!(!terms().is_proven(&ISSUER, &joiner, &other, link));
}

proptest! {
    /// Whatever devices come, however often and in whatever order: as many as the code is for are admitted.
    #[test]
    fn t18_uses_are_exact(comers in vec(2_u8..40, 1..120), uses in 1_u32..6) {
        let terms = Terms { uses, ..terms() };
        let mut spent: Vec<DeviceId> = Vec::new();
        for number in &comers {
            let joiner = device(*number);
            let standing = match spent.contains(&joiner) {
                true => Standing::Member(Role::Reader, only()),
                false => Standing::Stranger,
            };
            let before = spent.clone();
            match judge(&terms, &joiner, &Present { standing, ..present(&before) }) {
                Verdict::Admit(..) => {
                    prop_assert!(!spent.contains(&joiner));
                    spent.push(joiner);
                }
                Verdict::Again => prop_assert!(spent.contains(&joiner)),
                Verdict::Refuse(why) => {
                    prop_assert_eq!(why, Refusal::UsedUp);
                    prop_assert_eq!(spent.len(), uses as usize);
                }
                Verdict::Wait(_) => prop_assert!(false),
            }
        }
        let mut all = comers.clone();
        all.sort_unstable();
        all.dedup();
        prop_assert_eq!(spent.len(), all.len().min(uses as usize));
    }

    /// Time only ever takes away, and a clock that goes back gives nothing back: the caller hands in the
    /// latest time it ever knew.
    #[test]
    fn t19_after_its_end_nobody_new_is_admitted(late in 0_i64..1_000_000_000) {
        let terms = terms();
        let present = Present { now: terms.expires + late, ..present(&[]) };
        prop_assert_eq!(judge(&terms, &device(5), &present), Verdict::Refuse(Refusal::Expired));
    }
}
