//! Bounds by an operation's own past.

use group::log::{Log, LogError, MAX_ADMISSIONS, MAX_FOLDERS, MAX_PAST, MAX_SEQUENCE};
use identity::{DeviceId, InboxId};
use wire::membership::{
    Action, Ceremony, FolderId, GroupId, Operation, OperationId, Role, Scope, SignedOperation,
};

use crate::history::*;

/// Operations one after another, made without looking at the log.
struct Chain {
    log: Log,
    last: OperationId,
    written: Vec<u32>,
}

impl Chain {
    fn begin() -> Self {
        let history = History::begin();
        Self { log: history.log(), last: history.create(), written: vec![1] }
    }

    fn next(&self, author: usize, action: Action) -> SignedOperation {
        let group: GroupId = self.log.group();
        let sequence = self.written.get(author).copied().unwrap_or(0) + 1;
        let parents = vec![self.last];
        let operation =
            Operation { group: Some(group), author: id(author), sequence, parents, action };
        operation.sign(key(author)).expect("within bounds")
    }

    fn write(&mut self, author: usize, action: Action) -> Result<(), LogError> {
        let signed = self.next(author, action);
        self.log.insert(signed.clone())?;
        self.last = signed.id();
        self.written.resize(self.written.len().max(author + 1), 0);
        self.written[author] += 1;
        Ok(())
    }
}

fn admit_number(number: usize) -> Action {
    let mut device = [0; 32];
    device[..8].copy_from_slice(&number.to_be_bytes());
    Action::Admit {
        device: DeviceId(device),
        inbox: InboxId([1; 32]),
        name: name(0),
        role: Role::Reader,
        folders: Scope::All,
        ceremony: Ceremony::Lan,
    }
}

fn folder_number(number: usize) -> Action {
    let mut folder = [0; 32];
    folder[..8].copy_from_slice(&number.to_be_bytes());
    Action::FolderAdded { folder: FolderId(folder), name: name(0) }
}

#[test]
fn t12_admissions_and_folders_are_bounded_by_an_operations_own_past() {
    let mut chain = Chain::begin();
    for number in 1..MAX_ADMISSIONS {
        chain.write(0, admit_number(number)).unwrap();
    }
    let over = |limit, what| LogError::Bound { what, limit };
    let refused = chain.write(0, admit_number(MAX_ADMISSIONS));
    assert_eq!(refused, Err(over(MAX_ADMISSIONS, "admissions")));
    for number in 0..MAX_FOLDERS {
        chain.write(0, folder_number(number)).unwrap();
    }
    let refused = chain.write(0, folder_number(MAX_FOLDERS));
    assert_eq!(refused, Err(over(MAX_FOLDERS, "folders added")));
    // Removals go on.
    let Action::Admit { device, .. } = admit_number(1) else { unreachable!("it admits") };
    chain.write(0, Action::Remove { device }).unwrap();
    assert_eq!(chain.log.manifest().members.len(), MAX_ADMISSIONS - 1);
}

#[test]
fn t12_operations_of_one_key_and_of_all_are_bounded_by_an_operations_own_past() {
    let mut chain = Chain::begin();
    for device in 1..5 {
        chain.write(0, admit(device, Role::Writer)).unwrap();
    }
    let over = |limit, what| LogError::Bound { what, limit };
    let mut refused = Vec::new();
    for author in 0..5 {
        let rename = Action::Rename { device: id(author), name: name(author) };
        loop {
            match chain.write(author, rename.clone()) {
                Ok(()) => {}
                Err(error) => break refused.push(error),
            }
        }
    }
    let of_one = over(MAX_SEQUENCE, "operations of one key");
    assert_eq!(refused[..3], [of_one.clone(), of_one.clone(), of_one]);
    let of_all = over(MAX_PAST, "operations");
    assert_eq!(refused[3..], [of_all.clone(), of_all]);
    assert_eq!(chain.log.len(), MAX_PAST);
    assert_eq!(chain.log.manifest().members.len(), 5);
}

#[test]
fn t12_a_number_is_the_one_after_the_authors_last() {
    let history = History::of_admins(2);
    let mut log = history.log();
    let draft = log.draft(id(0), add_folder(1)).unwrap();
    for found in [1, draft.sequence - 1, draft.sequence + 1, u32::MAX] {
        let signed = Operation { sequence: found, ..draft.clone() }.sign(key(0)).unwrap();
        let expected = draft.sequence;
        assert_eq!(log.insert(signed), Err(LogError::Sequence { expected, found }));
    }
}

#[test]
fn what_an_operation_speaks_of_is_in_its_past() {
    let mut history = History::of_admins(2);
    let create = history.create();
    let refused = |history: &mut History, action| history.try_on(0, &[create], action).unwrap_err();
    for action in
        [remove(1), set_role(1, Role::Reader), Action::Rename { device: id(1), name: name(2) }]
    {
        assert_eq!(refused(&mut history, action), LogError::UnknownDevice);
    }
    assert_eq!(
        history.try_on(1, &[create], Action::Leave).unwrap_err(),
        LogError::UnknownAuthor,
        "it was not a member there"
    );
}

#[test]
fn an_operation_names_heads_only() {
    let mut history = History::of_admins(3);
    let last = history.heads()[0];
    let mut operation = history.made(0, &[last], add_folder(1)).operation().clone();
    operation.parents = vec![history.create(), last];
    operation.parents.sort();
    let signed = operation.sign(key(0)).unwrap();
    assert_eq!(history.log().insert(signed), Err(LogError::NotHeads));
    assert!(history.try_on(0, &[last], add_folder(1)).is_ok());
}
