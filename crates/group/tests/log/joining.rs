//! What a joiner accepts (T10).

use bytes::Bytes;
use group::log::{JoinError, LogError, PendingJoin, Why, join};
use wire::{
    WireError,
    membership::{Action, Ceremony, CodeId, GroupId, Role, Scope},
};

use crate::history::*;

fn pending(history: &History) -> PendingJoin {
    PendingJoin {
        device: id(5),
        inbox: inbox(5),
        group: Some(history.group()),
        ceremony: Ceremony::Lan,
        role: Role::Writer,
        folders: Scope::All,
    }
}

fn bytes(history: &History) -> Vec<Bytes> {
    history.operations.iter().map(|signed| signed.bytes().clone()).collect()
}

/// Device 1 admits device 5 on everything there is.
fn admitted() -> History {
    let mut history = History::of_admins(3);
    history.write(1, admit(5, Role::Writer));
    history
}

#[test]
fn t10_a_joiner_accepts_the_log_that_admits_it() {
    let history = admitted();
    let mut operations = bytes(&history);
    operations.reverse();
    let mut log = join(&operations, &id(1), &pending(&history)).unwrap();
    assert_eq!(log.manifest(), history.manifest());
    let unnamed = PendingJoin { group: None, ..pending(&history) };
    assert!(join(&operations, &id(1), &unnamed).is_ok());
}

#[test]
fn t10_the_end_of_the_log_is_signed_by_the_key_given_out_of_band() {
    let mut history = admitted();
    let refused = |history: &History, admitter| {
        join(&bytes(history), &id(admitter), &pending(history)).unwrap_err()
    };
    assert_eq!(refused(&history, 0), JoinError::ForeignHead(history.heads()[0]));
    assert_eq!(refused(&history, 9), JoinError::ForeignHead(history.heads()[0]));
    // Somebody else wrote on: the admitter writes on that, or brings the log without it.
    let foreign = history.write(2, add_folder(1));
    assert_eq!(refused(&history, 1), JoinError::ForeignHead(foreign));
    let mut without = bytes(&history);
    without.pop();
    assert!(join(&without, &id(1), &pending(&history)).is_ok());
    history.write(1, add_folder(2));
    assert!(join(&bytes(&history), &id(1), &pending(&history)).is_ok());
}

#[test]
fn t10_a_joiner_is_in_it_by_who_it_was_paired_with_and_as_agreed() {
    let history = admitted();
    let refused = |pending| join(&bytes(&history), &id(1), &pending).unwrap_err();
    let base = || pending(&history);
    assert_eq!(refused(PendingJoin { device: id(6), ..base() }), JoinError::NotAdmitted);
    let other_group = PendingJoin { group: Some(GroupId([1; 32])), ..base() };
    assert_eq!(refused(other_group), JoinError::OtherGroup);
    let code = Ceremony::Code(CodeId([1; 16]));
    for (pending, what) in [
        (PendingJoin { inbox: inbox(6), ..base() }, "the inbox key"),
        (PendingJoin { role: Role::Admin, ..base() }, "the role"),
        (PendingJoin { folders: Scope::List(vec![folder(1)]), ..base() }, "the list of folders"),
        (PendingJoin { ceremony: code, ..base() }, "the ceremony"),
    ] {
        assert_eq!(refused(pending), JoinError::OtherTerms(what));
    }
    // Admitted by one, brought by another.
    let mut history = admitted();
    history.write(2, add_folder(1));
    let brought = join(&bytes(&history), &id(2), &pending(&history));
    assert_eq!(brought.unwrap_err(), JoinError::OtherAdmitter(None));
    // Admitted by somebody who has no right to.
    let mut history = History::of_admins(3);
    history.write(0, admit(6, Role::Writer));
    let void = history.write(6, admit(5, Role::Writer));
    history.write(1, add_folder(1));
    let brought = join(&bytes(&history), &id(1), &pending(&history));
    assert_eq!(brought.unwrap_err(), JoinError::OtherAdmitter(Some(Why::NotAdmin)));
    assert!(is_void(&history.manifest(), void));
    // By somebody who is admin no more.
    let mut history = admitted();
    history.write(0, remove(1));
    history.write(1, add_folder(1));
    let brought = join(&bytes(&history), &id(1), &pending(&history));
    assert_eq!(brought.unwrap_err(), JoinError::NotAdmin);
}

#[test]
fn t10_a_log_that_is_not_whole_or_not_signed_is_refused() {
    let history = admitted();
    let whole = bytes(&history);
    let refused = |operations: &[Bytes]| join(operations, &id(1), &pending(&history)).unwrap_err();
    assert_eq!(refused(&[]), JoinError::Empty);
    for missing in 0..whole.len() - 1 {
        let mut holed = whole.clone();
        holed.remove(missing);
        let id = history.operations[missing].id();
        assert_eq!(refused(&holed), JoinError::Incomplete(vec![id]));
    }
    let mut damaged = whole[2].to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let mut with = whole.clone();
    with[2] = damaged.into();
    assert!(matches!(refused(&with), JoinError::Wire(_)));
    with[2] = Bytes::from(vec![0; 10_000]);
    assert!(matches!(refused(&with), JoinError::Wire(WireError::TooLarge { .. })));
    let stranger = history.made(9, &history.heads(), Action::Leave);
    let with = [&whole[..], &[stranger.bytes().clone()]].concat();
    assert_eq!(refused(&with), JoinError::Log(LogError::UnknownAuthor));
    let other = group::log::create(key(1), inbox(1), name(1), [5; 32]).unwrap();
    let other: Vec<Bytes> = other.operations().map(|signed| signed.bytes().clone()).collect();
    let with = [&whole[..], &other].concat();
    assert_eq!(refused(&with), JoinError::Log(LogError::OtherGroup));
    let many = vec![Bytes::new(); group::log::MAX_OPERATIONS + 1];
    assert_eq!(refused(&many), JoinError::TooLong);
}
