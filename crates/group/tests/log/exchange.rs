//! Operations in any order, what the other side lacks, waiting ones, drafts.

use group::log::{Log, LogError, MAX_PENDING, MAX_PENDING_EACH, WriteError};
use wire::membership::{Action, OperationId, Role};

use crate::history::*;

#[test]
fn operations_wait_for_those_they_were_written_on() {
    let history = History::of_admins(4);
    let mut log = Log::new(history.group());
    let mut reversed = history.operations.clone();
    reversed.reverse();
    let first = reversed.pop().unwrap();
    for signed in &reversed {
        let taken = log.insert(signed.clone()).unwrap();
        assert!(taken.taken.is_empty() && taken.missing == signed.operation().parents);
        // Again: it waits already.
        assert!(log.insert(signed.clone()).unwrap().taken.is_empty());
    }
    assert!(log.is_empty() && log.wanted() == [first.id()]);
    let taken = log.insert(first.clone()).unwrap();
    assert_eq!(taken.taken, history.create_and_all());
    assert!(log.wanted().is_empty() && log.heads() == history.heads());
    assert!(log.insert(first).unwrap().taken.is_empty(), "known");
    assert_eq!(log.manifest(), history.manifest());
    let bytes = |log: &Log| log.operations().map(|s| s.bytes().clone()).collect::<Vec<_>>();
    assert_eq!(bytes(&log), bytes(&history.log()), "as they were signed");
}

#[test]
fn each_side_learns_what_it_lacks_by_heads() {
    let mut history = History::of_admins(3);
    let mut left = history.log();
    let before = history.heads();
    let one = history.on(1, &before, admit(5, Role::Reader));
    let two = history.on(1, &[one], admit(6, Role::Reader));
    let other = history.on(2, &before, admit(7, Role::Reader));
    let right = history.log();
    let lacking = |of: &Log, heads: &[OperationId]| -> Vec<OperationId> {
        of.lacking(heads).iter().map(|signed| signed.id()).collect()
    };
    assert_eq!(lacking(&right, &left.heads()), [one, two, other]);
    assert_eq!(lacking(&right, &[one]), [two, other]);
    assert_eq!(lacking(&right, &right.heads()), []);
    assert_eq!(right.unknown(&left.heads()), []);
    assert_eq!(left.unknown(&right.heads()), right.heads());
    assert_eq!(lacking(&left, &right.heads()).len(), left.len(), "it knows none of these heads");
    for signed in right.lacking(&left.heads()) {
        assert_eq!(left.insert(signed.clone()).unwrap().taken, [signed.id()]);
    }
    assert_eq!(left.manifest(), history.manifest());
}

#[test]
fn waiting_operations_are_bounded_and_can_be_forgotten() {
    let history = History::of_admins(2);
    let mut log = Log::new(history.group());
    let nowhere = |number: usize| {
        let mut operation = history.made(0, &history.heads(), Action::Leave).operation().clone();
        let mut parent = [0; 32];
        parent[..8].copy_from_slice(&number.to_be_bytes());
        operation.parents = vec![OperationId(parent)];
        operation.sign(key(0)).unwrap()
    };
    for number in 0..MAX_PENDING {
        log.insert(nowhere(number)).unwrap();
    }
    assert_eq!(log.insert(nowhere(MAX_PENDING)), Err(LogError::TooManyPending));
    assert_eq!(log.wanted().len(), MAX_PENDING);
    // What comes in order is taken in all the same.
    for signed in &history.operations {
        assert_eq!(log.insert(signed.clone()).unwrap().taken, [signed.id()]);
    }
    log.forget_pending();
    assert!(log.wanted().is_empty());
    log.insert(nowhere(MAX_PENDING)).unwrap();
}

#[test]
fn attack_38_nobody_keeps_what_others_bring_from_waiting() {
    let mut history = History::of_admins(2);
    let before = history.log();
    let missing = history.write(0, add_folder(1));
    let late = history.write(0, remove(1));
    let late = history.operations.iter().find(|it| it.id() == late).unwrap().clone();
    let nowhere = |number: usize| {
        let mut operation = history.made(1, &history.heads(), Action::Leave).operation().clone();
        let mut parent = [7; 32];
        parent[..8].copy_from_slice(&number.to_be_bytes());
        operation.parents = vec![OperationId(parent)];
        operation.sign(key(1)).unwrap()
    };
    // One brings as many as it can, before and after, and also what is another's, to push it out again.
    let mut log = before.clone();
    let flood = |log: &mut Log, numbers: std::ops::Range<usize>, by: usize| {
        for number in numbers {
            let _ = log.insert_from(nowhere(number), Some(id(by)));
        }
    };
    flood(&mut log, 0..2 * MAX_PENDING, 1);
    assert_eq!(log.pending().count(), MAX_PENDING_EACH);
    log.insert_from(late.clone(), Some(id(1))).unwrap();
    log.insert_from(late.clone(), Some(id(0))).unwrap();
    flood(&mut log, 0..2 * MAX_PENDING, 1);
    assert!(log.pending().any(|signed| signed.id() == late.id()), "its bringer's place is its own");
    // Many together fill all places. Whoever has fewer than they have gets one all the same.
    for by in 10..40 {
        flood(&mut log, by * 10_000..by * 10_000 + 100, by);
    }
    assert_eq!(log.brought().count(), MAX_PENDING);
    assert!(log.pending().any(|signed| signed.id() == late.id()));
    let other = nowhere(9_999_999);
    log.insert_from(other.clone(), Some(id(5))).unwrap();
    assert!(log.pending().any(|signed| signed.id() == other.id()));
    assert_eq!(log.brought().count(), MAX_PENDING);
    let first = history.operations.iter().find(|it| it.id() == missing).unwrap().clone();
    assert_eq!(log.insert(first).unwrap().taken, [missing, late.id()]);
}

#[test]
fn what_waits_for_a_refused_operation_is_refused_with_it() {
    let mut history = History::of_admins(2);
    let heads = history.heads();
    let bad = history.made(9, &heads, admit(10, Role::Admin));
    let mut on_bad = history.made(0, &heads, remove(1)).operation().clone();
    on_bad.parents = vec![bad.id()];
    let on_bad = on_bad.sign(key(0)).unwrap();
    let mut log = history.log();
    log.insert(on_bad.clone()).unwrap();
    assert_eq!(log.insert(bad.clone()), Err(LogError::UnknownAuthor));
    assert!(log.wanted().is_empty(), "nobody waits any more");
    // The same when the refused one had to wait itself.
    let missing = history.write(0, add_folder(1));
    let mut late = bad.operation().clone();
    late.parents = vec![missing];
    let late = late.sign(key(9)).unwrap();
    let mut on_late = on_bad.operation().clone();
    on_late.parents = vec![late.id()];
    let on_late = on_late.sign(key(0)).unwrap();
    log.insert(on_late.clone()).unwrap();
    log.insert(late.clone()).unwrap();
    let came = history.operations.last().unwrap().clone();
    let taken = log.insert(came).unwrap();
    assert_eq!(taken.taken, [missing]);
    let refused = [(late.id(), LogError::UnknownAuthor), (on_late.id(), LogError::OnRefused)];
    assert_eq!(taken.refused, refused);
    assert!(log.wanted().is_empty());
}

#[test]
fn a_draft_is_refused_where_it_would_do_nothing() {
    let mut history = History::of_admins(2);
    history.write(0, admit(5, Role::Writer));
    history.write(0, add_folder(1));
    let mut log = history.log();
    let mut refused = |author, action| log.draft(id(author), action).unwrap_err();
    assert_eq!(refused(9, add_folder(2)), WriteError::NotMember);
    assert_eq!(refused(5, add_folder(2)), WriteError::NotAdmin);
    assert_eq!(refused(0, admit(5, Role::Admin)), WriteError::AlreadyMember);
    assert_eq!(refused(0, remove(0)), WriteError::Itself);
    assert_eq!(refused(0, remove(9)), WriteError::NoSuchMember);
    assert_eq!(refused(0, set_role(9, Role::Admin)), WriteError::NoSuchMember);
    assert_eq!(refused(0, add_folder(1)), WriteError::Folder);
    assert_eq!(refused(0, Action::FolderRemoved { folder: folder(2) }), WriteError::Folder);
    assert_eq!(refused(5, rotate(0)), WriteError::Log(LogError::UsedKey));
    let create = Action::Create { nonce: [1; 32], inbox: inbox(0), name: name(0) };
    assert_eq!(refused(0, create), WriteError::Create);
    for action in [rotate(15), Action::Leave] {
        let draft = log.draft(id(5), action).unwrap();
        assert_eq!((draft.parents, draft.sequence), (history.heads(), 1));
    }
}

#[test]
fn t12_a_draft_never_forks_its_author() {
    // More heads than can be named, and the author's last operation is under the last of them.
    let mut history = History::of_admins(3);
    let before = history.heads();
    for number in 0..40 {
        history.on(1, &before, add_folder(number));
    }
    history.on(0, &before, add_folder(100));
    let mut log = history.log();
    for number in 101..104 {
        let draft = log.draft(id(0), add_folder(number)).unwrap();
        log.insert(draft.sign(key(0)).unwrap()).unwrap();
    }
    let manifest = log.manifest();
    assert!(!manifest.forks.iter().any(|fork| fork.device == id(0)));
    assert_eq!(manifest.folders.len(), 44);
    assert_eq!(manifest.heads.len(), 1, "in the end all are named");
}
