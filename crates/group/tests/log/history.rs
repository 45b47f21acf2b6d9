//! Histories as tests write them: devices by number, operations on any heads. Its idea of causes is its
//! own, so that it does not repeat a mistake of the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use group::log::{Log, LogError, Manifest};
use identity::{DeviceId, DeviceKey, InboxId, Secret};
use wire::{
    membership::{
        Action, Ceremony, FolderId, GroupId, Operation, OperationId, Role, Scope, SignedOperation,
    },
    session::Name,
};

static KEYS: LazyLock<Vec<DeviceKey>> = LazyLock::new(|| {
    (0..40)
        .map(|seed| DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key"))
        .collect()
});

pub(crate) fn key(device: usize) -> &'static DeviceKey {
    &KEYS[device]
}

pub(crate) fn id(device: usize) -> DeviceId {
    KEYS[device].id()
}

pub(crate) fn inbox(device: usize) -> InboxId {
    InboxId([u8::try_from(device).expect("few") + 1; 32])
}

pub(crate) fn name(device: usize) -> Name {
    Name::new(&format!("device {device}")).expect("short")
}

pub(crate) fn folder(number: u8) -> FolderId {
    FolderId([number; 32])
}

pub(crate) fn admit_to(device: usize, role: Role, folders: Scope) -> Action {
    let (inbox, name, ceremony) = (inbox(device), name(device), Ceremony::Lan);
    Action::Admit { device: id(device), inbox, name, role, folders, ceremony }
}

pub(crate) fn admit(device: usize, role: Role) -> Action {
    admit_to(device, role, Scope::All)
}

pub(crate) fn remove(device: usize) -> Action {
    Action::Remove { device: id(device) }
}

pub(crate) fn set_role(device: usize, role: Role) -> Action {
    Action::SetRole { device: id(device), role }
}

pub(crate) fn rotate(to: usize) -> Action {
    Action::Rotate { device: id(to), inbox: inbox(to) }
}

pub(crate) fn add_folder(number: u8) -> Action {
    let name = Name::new(&format!("folder {number}")).expect("short");
    Action::FolderAdded { folder: folder(number), name }
}

#[derive(Clone)]
pub(crate) struct History {
    pub(crate) operations: Vec<SignedOperation>,
    past: BTreeMap<OperationId, BTreeSet<OperationId>>,
    log: Log,
}

impl History {
    /// Device 0 begins a group.
    pub(crate) fn begin() -> Self {
        let action = Action::Create { nonce: [9; 32], inbox: inbox(0), name: name(0) };
        let create =
            Operation { group: None, author: id(0), sequence: 1, parents: Vec::new(), action };
        let signed = create.sign(key(0)).expect("within bounds");
        let mut log = Log::new(GroupId(signed.id().0));
        log.insert(signed.clone()).expect("the beginning");
        let past = BTreeMap::from([(signed.id(), BTreeSet::new())]);
        Self { operations: vec![signed], past, log }
    }

    /// Device 0 begins a group and admits devices 1 to `admins` − 1 as admins.
    pub(crate) fn of_admins(admins: usize) -> Self {
        let mut history = Self::begin();
        for device in 1..admins {
            history.write(0, admit(device, Role::Admin));
        }
        history
    }

    pub(crate) fn group(&self) -> GroupId {
        self.log.group()
    }

    pub(crate) fn create(&self) -> OperationId {
        self.operations[0].id()
    }

    pub(crate) fn heads(&self) -> Vec<OperationId> {
        self.log.heads()
    }

    pub(crate) fn past(&self, of: OperationId) -> &BTreeSet<OperationId> {
        &self.past[&of]
    }

    pub(crate) fn operation(&self, of: OperationId) -> &Operation {
        let found = self.operations.iter().find(|signed| signed.id() == of);
        found.expect("it was written").operation()
    }

    /// An operation on these operations, whether or not it is allowed.
    pub(crate) fn made(
        &self,
        author: usize,
        on: &[OperationId],
        action: Action,
    ) -> SignedOperation {
        let mut past: BTreeSet<OperationId> = on.iter().copied().collect();
        for parent in on {
            past.extend(&self.past[parent]);
        }
        let parents: BTreeSet<OperationId> = on
            .iter()
            .copied()
            .filter(|one| !on.iter().any(|other| self.past[other].contains(one)))
            .collect();
        let own = self.operations.iter().filter(|signed| {
            past.contains(&signed.id()) && signed.operation().author == id(author)
        });
        let sequence = own.map(|signed| signed.operation().sequence).max().unwrap_or(0) + 1;
        let to = match &action {
            Action::Rotate { device, .. } => KEYS.iter().find(|key| key.id() == *device),
            _ => None,
        };
        let operation = Operation {
            group: Some(self.group()),
            author: id(author),
            sequence,
            parents: parents.into_iter().collect(),
            action,
        };
        match to {
            Some(new) => operation.sign_rotation(key(author), new),
            None => operation.sign(key(author)),
        }
        .expect("within bounds")
    }

    /// Writes on these operations; a refusal leaves everything as it was.
    pub(crate) fn try_on(
        &mut self,
        author: usize,
        on: &[OperationId],
        action: Action,
    ) -> Result<OperationId, LogError> {
        let signed = self.made(author, on, action);
        let known = self.past.contains_key(&signed.id());
        self.log.insert(signed.clone())?;
        if !known {
            let mut past: BTreeSet<OperationId> = BTreeSet::new();
            for parent in &signed.operation().parents {
                past.insert(*parent);
                past.extend(&self.past[parent]);
            }
            self.past.insert(signed.id(), past);
            self.operations.push(signed.clone());
        }
        Ok(signed.id())
    }

    /// Writes on these operations.
    pub(crate) fn on(&mut self, author: usize, on: &[OperationId], action: Action) -> OperationId {
        self.try_on(author, on, action).expect("the log takes it")
    }

    /// Writes on everything there is.
    pub(crate) fn write(&mut self, author: usize, action: Action) -> OperationId {
        let heads = self.heads();
        self.on(author, &heads, action)
    }

    /// The manifest, from this log and from one that was made anew the other way round.
    pub(crate) fn manifest(&self) -> Manifest {
        let manifest = self.log.clone().manifest();
        let mut other = Log::new(self.group());
        for signed in self.operations.iter().rev() {
            other.insert(signed.clone()).expect("it was taken before");
        }
        assert_eq!(other.manifest(), manifest, "another order, another manifest");
        manifest
    }

    pub(crate) fn try_write(
        &mut self,
        author: usize,
        action: Action,
    ) -> Result<OperationId, LogError> {
        let heads = self.heads();
        self.try_on(author, &heads, action)
    }

    /// The ids of all operations, in the order of writing.
    pub(crate) fn create_and_all(&self) -> Vec<OperationId> {
        self.operations.iter().map(SignedOperation::id).collect()
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }
}

/// Which devices are members, by number.
pub(crate) fn members(manifest: &Manifest) -> Vec<usize> {
    (0..KEYS.len()).filter(|device| manifest.is_member(&id(*device))).collect()
}

pub(crate) fn is_void(manifest: &Manifest, operation: OperationId) -> bool {
    manifest.void.iter().any(|void| void.operation == operation)
}
