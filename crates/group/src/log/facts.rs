//! What can be said of the operations without judging any: who wrote them, whom they speak of, and
//! which keys rotations tie together.

use std::collections::{BTreeMap, HashMap};

use identity::DeviceId;
use wire::membership::{Action, FolderId, Role, SignedOperation};

use super::past::Past;

/// An operation with all its ancestors.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) signed: SignedOperation,
    pub(super) past: Past,
    /// The author's number among the keys.
    pub(super) author: usize,
    /// The number of the key that it speaks of, if it speaks of one.
    pub(super) target: Option<usize>,
}

impl Node {
    pub(super) fn action(&self) -> &Action {
        &self.signed.operation().action
    }

    pub(super) fn sequence(&self) -> u32 {
        self.signed.operation().sequence
    }

    pub(super) fn is_rotation(&self) -> bool {
        matches!(self.action(), Action::Rotate { .. })
    }

    /// The role that it gives to its target: a *statement*.
    pub(super) fn role(&self) -> Option<Role> {
        match self.action() {
            Action::Create { .. } => Some(Role::Admin),
            Action::Admit { role, .. } | Action::SetRole { role, .. } => Some(*role),
            _ => None,
        }
    }

    /// True if it takes something, rights from a device or a folder from the group, whatever else it does.
    pub(super) fn takes(&self) -> bool {
        match self.action() {
            Action::Remove { .. }
            | Action::Leave
            | Action::Rotate { .. }
            | Action::FolderRemoved { .. } => true,
            Action::Admit { role, .. } | Action::SetRole { role, .. } => *role != Role::Admin,
            _ => false,
        }
    }
}

/// A device key that some operation speaks of.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) id: DeviceId,
    /// The family it belongs to.
    pub(super) family: usize,
    /// What makes this key a member's: create, admit, the rotation to it.
    pub(super) grants: Vec<usize>,
    /// What it wrote.
    pub(super) wrote: Vec<usize>,
    /// What ends its membership: removals of it, its own leaves and rotations.
    pub(super) ends: Vec<usize>,
    /// Create, admit, set-role: each with a role.
    pub(super) statements: Vec<usize>,
    /// Renames.
    pub(super) renames: Vec<usize>,
}

/// Keys with rotations between them, of which some may be void: those that are not make chains.
#[derive(Clone, Default, Debug)]
pub(super) struct Family {
    pub(super) keys: Vec<usize>,
    pub(super) rotations: Vec<usize>,
}

/// Everything, by number.
#[derive(Clone, Default, Debug)]
pub(super) struct Facts {
    pub(super) nodes: Vec<Node>,
    pub(super) keys: Vec<Key>,
    pub(super) families: Vec<Family>,
    pub(super) by_key: HashMap<DeviceId, usize>,
    pub(super) folders: BTreeMap<FolderId, Vec<usize>>,
    pub(super) epochs: Vec<usize>,
    /// All grants.
    pub(super) grants: Past,
    /// All operations that add folders.
    pub(super) additions: Past,
}

impl Facts {
    /// True if an operation in `past` grants something to that key.
    pub(super) fn is_known(&self, id: &DeviceId, past: &Past) -> bool {
        self.by_key
            .get(id)
            .is_some_and(|key| self.keys[*key].grants.iter().rev().any(|grant| past.has(*grant)))
    }

    /// The highest sequence number of that key's operations in `past`; 0 if there is none.
    pub(super) fn last_sequence(&self, id: &DeviceId, past: &Past) -> u32 {
        let Some(key) = self.by_key.get(id) else { return 0 };
        let wrote = self.keys[*key].wrote.iter().filter(|at| past.has(**at));
        wrote.map(|at| self.nodes[*at].sequence()).max().unwrap_or(0)
    }

    /// Takes an operation in. Its past is known already.
    pub(super) fn add(&mut self, signed: SignedOperation, past: Past) -> usize {
        let at = self.nodes.len();
        let operation = signed.operation();
        let author = self.key(operation.author);
        self.keys[author].wrote.push(at);
        let target = match &operation.action {
            Action::Create { .. } | Action::Leave => Some(author),
            Action::Admit { device, .. }
            | Action::SetRole { device, .. }
            | Action::Remove { device }
            | Action::Rotate { device, .. }
            | Action::Rename { device, .. } => Some(self.key(*device)),
            Action::FolderAdded { folder, .. } => {
                self.folders.entry(*folder).or_default().push(at);
                self.additions.insert(at);
                None
            }
            Action::FolderRemoved { folder } => {
                self.folders.entry(*folder).or_default().push(at);
                None
            }
            Action::KeyEpoch { .. } => {
                self.epochs.push(at);
                None
            }
        };
        let node = Node { signed, past, author, target };
        if let Some(target) = target {
            if matches!(
                node.action(),
                Action::Create { .. } | Action::Admit { .. } | Action::Rotate { .. }
            ) {
                self.keys[target].grants.push(at);
                self.grants.insert(at);
            }
            if node.is_rotation() {
                self.join_families(author, target);
                self.families[self.keys[author].family].rotations.push(at);
            }
            if node.role().is_some() {
                self.keys[target].statements.push(at);
            }
            match node.action() {
                Action::Remove { .. } => self.keys[target].ends.push(at),
                Action::Leave | Action::Rotate { .. } => self.keys[author].ends.push(at),
                Action::Rename { .. } => self.keys[target].renames.push(at),
                _ => {}
            }
        }
        self.nodes.push(node);
        at
    }

    fn key(&mut self, id: DeviceId) -> usize {
        if let Some(key) = self.by_key.get(&id) {
            return *key;
        }
        let key = self.keys.len();
        let family = self.families.len();
        self.by_key.insert(id, key);
        self.keys.push(Key {
            id,
            family,
            grants: Vec::new(),
            wrote: Vec::new(),
            ends: Vec::new(),
            statements: Vec::new(),
            renames: Vec::new(),
        });
        self.families.push(Family { keys: vec![key], rotations: Vec::new() });
        key
    }

    fn join_families(&mut self, one: usize, other: usize) {
        let (into, from) = (self.keys[one].family, self.keys[other].family);
        if into == from {
            return;
        }
        let from = std::mem::take(&mut self.families[from]);
        for key in &from.keys {
            self.keys[*key].family = into;
        }
        self.families[into].keys.extend(from.keys);
        self.families[into].rotations.extend(from.rotations);
    }
}
