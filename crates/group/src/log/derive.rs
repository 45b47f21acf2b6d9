//! From judged operations to the manifest. Every choice is by causes, and where causes leave two, by
//! role, scope or operation id: never by the order of arrival.

use std::collections::BTreeMap;

use identity::{DeviceId, InboxId};
use wire::{
    membership::{Action, FolderId, OperationId, Role, Scope},
    session::Name,
};

use super::{
    facts::Key,
    judge::{Answer, Judge, Right, Verdict},
    manifest::{Epoch, Folder, Fork, Former, Gone, Manifest, Member, VoidOperation, Why},
    past::Past,
    store::Log,
};

impl Log {
    /// What the log comes to.
    #[must_use]
    pub fn manifest(&mut self) -> Manifest {
        let heads = self.heads();
        self.verdicts();
        let verdicts = self.verdicts().to_vec();
        let judge = Judge { facts: &self.facts, verdicts: &verdicts };
        let derive = Derive { judge };
        let mut members = BTreeMap::new();
        let mut former = BTreeMap::new();
        for (key, about) in self.facts.keys.iter().enumerate() {
            let is_member = judge.ask(None, Right::Key(key)) == Answer::Yes;
            let Some(member) = derive.member(key, is_member) else { continue };
            if is_member {
                members.insert(about.id, member);
            } else {
                former.insert(about.id, Former { was: member, why: derive.gone(key) });
            }
        }
        Manifest {
            group: self.group,
            heads,
            members,
            former,
            folders: derive.folders(),
            epoch: derive.epoch(),
            forks: derive.forks(),
            void: derive.void(),
            contested: derive.contested(),
        }
    }
}

struct Derive<'a> {
    judge: Judge<'a>,
}

impl Derive<'_> {
    fn id(&self, at: usize) -> OperationId {
        self.judge.facts.nodes[at].signed.id()
    }

    fn action(&self, at: usize) -> &Action {
        self.judge.facts.nodes[at].action()
    }

    fn author(&self, at: usize) -> DeviceId {
        self.judge.facts.nodes[at].signed.operation().author
    }

    fn is_before(&self, one: usize, other: usize) -> bool {
        self.judge.facts.nodes[other].past.has(one)
    }

    /// Those that count, or all if none does.
    fn valid(&self, all: &[usize]) -> Vec<usize> {
        let valid: Vec<usize> = all.iter().copied().filter(|at| self.judge.counts(*at)).collect();
        if valid.is_empty() { all.to_vec() } else { valid }
    }

    /// Of these, those that came before none of the others.
    fn latest(&self, of: &[usize]) -> Vec<usize> {
        let mut before = Past::default();
        of.iter().for_each(|at| before.join(&self.judge.facts.nodes[*at].past));
        of.iter().copied().filter(|at| !before.has(*at)).collect()
    }

    /// The latest of these; of several the one with the highest id.
    fn last(&self, of: &[usize]) -> Option<usize> {
        self.latest(of).into_iter().max_by_key(|at| self.id(*at))
    }

    /// What is known of a key that anything grants something to.
    fn member(&self, key: usize, is_member: bool) -> Option<Member> {
        let facts = self.judge.facts;
        let about = &facts.keys[key];
        let device: Vec<usize> = {
            let sure = self.judge.ties(key).into_iter().filter(|tie| !tie.doubt);
            sure.map(|tie| tie.key).collect()
        };
        let grant = self.last(&self.valid(&about.grants))?;
        let level = |role: &Role| self.judge.ask(None, Right::Level(key, *role)) == Answer::Yes;
        let of_device = |list: fn(&Key) -> &Vec<usize>| -> Vec<usize> {
            device.iter().flat_map(|key| list(&facts.keys[*key])).copied().collect()
        };
        let role = if is_member {
            [Role::Admin, Role::Writer, Role::Reader].into_iter().find(level)
        } else {
            let last = self.latest(&self.valid(&of_device(|key| &key.statements)));
            last.into_iter().filter_map(|at| facts.nodes[at].role()).min()
        };
        let grants = self.valid(&of_device(|key| &key.grants));
        let admissions: Vec<usize> =
            grants.iter().copied().filter(|at| self.name(*at).is_some()).collect();
        let mut names = admissions.clone();
        let renames = of_device(|key| &key.renames);
        names.extend(renames.into_iter().filter(|at| self.judge.counts(*at)));
        Some(Member {
            role: role.unwrap_or(Role::Keeper),
            inbox: self.inbox(grant)?,
            name: self.last(&names).and_then(|at| self.name(at)).or_else(|| self.fallback(key))?,
            folders: self.scope(&of_device(|key| &key.grants), &self.latest(&admissions)),
            grant: self.id(grant),
        })
    }

    /// A name for a key of which nothing that counts tells one.
    fn fallback(&self, key: usize) -> Option<Name> {
        let text: String = self.judge.facts.keys[key].id.0[..4]
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(u32::from(digit), 16))
            .collect();
        Name::new(&text).ok()
    }

    fn inbox(&self, at: usize) -> Option<InboxId> {
        match self.action(at) {
            Action::Create { inbox, .. }
            | Action::Admit { inbox, .. }
            | Action::Rotate { inbox, .. } => Some(*inbox),
            _ => None,
        }
    }

    fn name(&self, at: usize) -> Option<Name> {
        match self.action(at) {
            Action::Create { name, .. }
            | Action::Admit { name, .. }
            | Action::FolderAdded { name, .. }
            | Action::Rename { name, .. } => Some(name.clone()),
            _ => None,
        }
    }

    /// What the latest admissions are for: of two at once, what both allow. A contested one that came
    /// before none of them gives nothing, and what it leaves out is left out.
    fn scope(&self, grants: &[usize], latest: &[usize]) -> Scope {
        let contested = grants.iter().copied().filter(|at| {
            self.judge.verdict(*at) == Some(Verdict::Contested)
                && !latest.iter().any(|last| self.is_before(*at, *last))
        });
        let mut scope = Scope::All;
        for at in latest.iter().copied().chain(contested) {
            if let Action::Admit { folders: Scope::List(list), .. } = self.action(at) {
                scope = match scope {
                    Scope::All => Scope::List(list.clone()),
                    Scope::List(both) => {
                        Scope::List(both.into_iter().filter(|one| list.contains(one)).collect())
                    }
                };
            }
        }
        scope
    }

    /// Why a key is no member's.
    fn gone(&self, key: usize) -> Gone {
        let facts = self.judge.facts;
        let about = &facts.keys[key];
        let lowest = |of: &[usize]| of.iter().copied().min_by_key(|at| self.id(*at));
        let cuts = self.cuts(None, Right::Key(key));
        let that = |wanted: fn(&Action) -> bool| -> Vec<usize> {
            cuts.iter().copied().filter(|at| wanted(self.action(*at))).collect()
        };
        if let Some(at) = lowest(&that(|action| matches!(action, Action::Remove { .. }))) {
            return Gone::Removed { by: self.author(at), operation: self.id(at) };
        }
        let rotations: Vec<usize> = {
            let ties = self.judge.ties(key).into_iter();
            let ends = ties.flat_map(|tie| facts.keys[tie.key].ends.iter().copied());
            ends.filter(|at| facts.nodes[*at].is_rotation() && self.judge.bites(*at)).collect()
        };
        let at_once = |one: &usize, other: &usize| {
            self.author(*one) == self.author(*other)
                && one != other
                && !self.is_before(*one, *other)
                && !self.is_before(*other, *one)
        };
        if rotations.iter().any(|one| rotations.iter().any(|other| at_once(one, other))) {
            return Gone::RotatedTwice;
        }
        if let Some(at) = lowest(&that(|action| matches!(action, Action::Leave))) {
            return Gone::Left { operation: self.id(at) };
        }
        let own: Vec<usize> = rotations.into_iter().filter(|at| about.wrote.contains(at)).collect();
        if let Some(Action::Rotate { device, .. }) = lowest(&own).map(|at| self.action(at)) {
            return Gone::Rotated { to: *device };
        }
        let grant = lowest(&about.grants).map(|at| self.id(at));
        Gone::NeverAdmitted { operation: grant.unwrap_or(OperationId([0; 32])) }
    }

    /// What takes a right from what would give it.
    fn cuts(&self, at: Option<usize>, right: Right) -> Vec<usize> {
        let judge = &self.judge;
        let takings: Vec<usize> =
            judge.takings(right).into_iter().map(|taking| taking.at).collect();
        let grants = judge.grants(right).into_iter().map(|grant| grant.at);
        let mut cuts: Vec<usize> = grants
            .filter(|grant| judge.bites(*grant) && at.is_none_or(|at| self.is_before(*grant, at)))
            .flat_map(|grant| {
                let bites = |taking: &&usize| judge.bites(**taking);
                takings.iter().filter(bites).filter(move |t| !judge.spares(**t, at, grant)).copied()
            })
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    fn folders(&self) -> BTreeMap<FolderId, Folder> {
        let mut folders = BTreeMap::new();
        for (folder, all) in &self.judge.facts.folders {
            let (added, removed): (Vec<usize>, Vec<usize>) =
                all.iter().partition(|at| self.name(**at).is_some());
            let added = added.into_iter().filter(|at| self.judge.counts(*at));
            let removed: Vec<usize> =
                removed.into_iter().filter(|at| self.judge.bites(*at)).collect();
            // As with devices: a removal yields only to what was added in spite of it.
            let stays = |at: &usize| removed.iter().all(|gone| self.is_before(*gone, *at));
            let added: Vec<usize> = added.filter(stays).collect();
            if let Some(name) = self.last(&added).and_then(|at| self.name(at)) {
                folders.insert(*folder, Folder { name });
            }
        }
        folders
    }

    fn epoch(&self) -> Epoch {
        let mut highest: Option<(u64, OperationId, usize)> = None;
        let mut contested = 0;
        for at in self.judge.facts.epochs.iter().copied() {
            if let Action::KeyEpoch { number, .. } = self.action(at) {
                match self.judge.verdict(at) {
                    Some(Verdict::Counts) => {
                        highest = highest.max(Some((*number, self.id(at), at)));
                    }
                    Some(Verdict::Contested) => contested = contested.max(*number),
                    _ => {}
                }
            }
        }
        let began = highest.map(|(_, _, at)| at);
        let takes_reading = |at: usize| match self.action(at) {
            Action::Remove { .. } | Action::Leave | Action::Rotate { .. } => true,
            Action::SetRole { role, .. } => *role == Role::Keeper,
            _ => false,
        };
        let is_behind = contested > highest.map_or(0, |(number, _, _)| number);
        let is_due = is_behind
            || (0..self.judge.facts.nodes.len()).any(|at| {
                takes_reading(at)
                    && self.judge.bites(at)
                    && !began.is_some_and(|began| self.is_before(at, began))
            });
        let commitment = match began.map(|at| self.action(at)) {
            Some(Action::KeyEpoch { commitment, .. }) => *commitment,
            _ => [0; 32],
        };
        Epoch {
            number: highest.map_or(0, |(number, _, _)| number),
            operation: highest.map(|(_, id, _)| id),
            commitment,
            is_due,
        }
    }

    fn forks(&self) -> Vec<Fork> {
        let mut by_number: BTreeMap<(DeviceId, u32), Vec<OperationId>> = BTreeMap::new();
        for node in &self.judge.facts.nodes {
            let operation = node.signed.operation();
            let place = (operation.author, operation.sequence);
            by_number.entry(place).or_default().push(node.signed.id());
        }
        let forks = by_number.into_iter().filter(|(_, operations)| operations.len() > 1);
        forks
            .map(|((device, sequence), mut operations)| {
                operations.sort_unstable();
                Fork { device, sequence, operations }
            })
            .collect()
    }

    /// Contested operations that take something.
    fn contested(&self) -> Vec<OperationId> {
        let nodes = self.judge.facts.nodes.iter().enumerate();
        let contested = nodes.filter(|(at, node)| {
            node.takes() && self.judge.verdict(*at) == Some(Verdict::Contested)
        });
        let mut contested: Vec<OperationId> = contested.map(|(at, _)| self.id(at)).collect();
        contested.sort_unstable();
        contested
    }

    fn void(&self) -> Vec<VoidOperation> {
        let nodes = self.judge.facts.nodes.iter().enumerate();
        let does_nothing = |at: usize, takes: bool| match self.judge.verdict(at) {
            Some(Verdict::Void) => true,
            Some(Verdict::Contested) => !takes,
            _ => false,
        };
        let mut void: Vec<VoidOperation> = nodes
            .filter(|(at, node)| does_nothing(*at, node.takes()))
            .map(|(at, _)| VoidOperation {
                operation: self.id(at),
                author: self.author(at),
                why: self.why(at),
            })
            .collect();
        void.sort_unstable_by_key(|void| void.operation);
        void
    }

    fn why(&self, at: usize) -> Why {
        let needed = self.judge.needed(at);
        let lacking =
            needed.into_iter().find(|right| self.judge.ask(Some(at), *right) != Answer::Yes);
        let Some(right) = lacking else { return Why::NotAdmin };
        let cuts = self.cuts(Some(at), right);
        if let Some(cut) = cuts.into_iter().min_by_key(|cut| self.id(*cut)) {
            let id = self.id(cut);
            return match self.action(cut) {
                Action::Remove { .. } => Why::AuthorRemoved(id),
                Action::Leave => Why::AuthorLeft(id),
                Action::Rotate { .. } => Why::AuthorRotated(id),
                _ => Why::AuthorDemoted(id),
            };
        }
        // What a key gave itself is not what it rests on.
        let grants = self.judge.grants(right).into_iter().map(|grant| grant.at);
        let others = grants
            .filter(|grant| self.author(*grant) != self.author(at) && self.is_before(*grant, at));
        let lowest = others.map(|grant| self.id(grant)).min();
        lowest.map_or(Why::NotAdmin, Why::AuthorNotAdmitted)
    }
}
