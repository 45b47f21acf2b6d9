//! Random histories by hostile authors, who write anything on any heads.

use std::collections::{BTreeMap, BTreeSet};

use group::log::{Log, Manifest};
use identity::DeviceId;
use proptest::{collection::vec, prelude::*, sample::Index};
use wire::membership::{Action, Operation, OperationId, Role, Scope, SignedOperation};

use crate::history::*;

/// Devices that take part.
const DEVICES: usize = 7;

type Step = (usize, Vec<Index>, usize, usize, Role);

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let role = prop_oneof![
        3 => Just(Role::Admin), 1 => Just(Role::Writer), 1 => Just(Role::Reader)
    ];
    let step = (0..DEVICES, vec(any::<Index>(), 1..3), 0..14_usize, 0..DEVICES, role);
    vec(step, 0..most)
}

fn action(kind: usize, device: usize, role: Role) -> Action {
    match kind {
        0..4 => remove(device),
        4 | 5 => admit(device, role),
        6 => admit_to(device, role, Scope::List(vec![folder(1)])),
        7 | 8 => set_role(device, role),
        9 => rotate(device),
        10 => Action::Leave,
        11 => add_folder(1),
        12 => Action::FolderRemoved { folder: folder(1) },
        _ => Action::Rename { device: id(device), name: name(device + 10) },
    }
}

/// Plays steps; what the log refuses is passed over. `authors` maps the numbers in the steps.
fn play(history: &mut History, steps: &[Step], authors: &[usize]) {
    for (author, on, kind, device, role) in steps {
        let Some(author) = authors.get(author % authors.len().max(1)) else { return };
        let all = history.create_and_all();
        let on: Vec<OperationId> = on.iter().map(|index| *index.get(&all)).collect();
        let _ = history.try_on(*author, &on, action(*kind, *device, *role));
    }
}

/// Four admins, and then anything.
fn history(steps: &[Step]) -> History {
    let mut history = History::of_admins(4);
    play(&mut history, steps, &(0..DEVICES).collect::<Vec<_>>());
    history
}

fn shuffled<T: Clone>(of: &[T], by: &[Index]) -> Vec<T> {
    let mut shuffled = of.to_vec();
    for (at, with) in by.iter().enumerate().take(of.len()) {
        shuffled.swap(at, with.index(of.len()));
    }
    shuffled
}

/// The rules of the module's documentation, written down as simply as possible.
struct Model<'a> {
    history: &'a History,
    ids: Vec<OperationId>,
    /// Sure judgements.
    sure: BTreeMap<OperationId, bool>,
}

#[derive(Clone, Copy)]
enum Need {
    Key(DeviceId),
    Admin(DeviceId),
}

impl<'a> Model<'a> {
    fn judged(history: &'a History) -> Self {
        let mut model = Self { history, ids: history.create_and_all(), sure: BTreeMap::new() };
        loop {
            let found: Vec<_> = (model.ids.iter())
                .filter(|id| !model.sure.contains_key(id))
                .filter_map(|id| Some((*id, model.judge(*id)?)))
                .collect();
            if found.is_empty() {
                return model;
            }
            model.sure.extend(found);
        }
    }

    fn operation(&self, id: OperationId) -> &Operation {
        self.history.operation(id)
    }

    fn before(&self, one: OperationId, other: OperationId) -> bool {
        self.history.past(other).contains(&one)
    }

    /// Both ends of a rotation.
    fn rotation(&self, id: OperationId) -> Option<(DeviceId, DeviceId)> {
        let operation = self.operation(id);
        match &operation.action {
            Action::Rotate { device, .. } => Some((operation.author, *device)),
            _ => None,
        }
    }

    /// The keys tied to one over rotations that count; with `open_too`, over those not void.
    fn ties(&self, key: DeviceId, open_too: bool) -> BTreeSet<DeviceId> {
        let mut ties = BTreeSet::from([key]);
        for _ in &self.ids {
            for (id, (old, new)) in self.ids.iter().filter_map(|id| Some((id, self.rotation(*id)?)))
            {
                let holds = match self.sure.get(id) {
                    Some(counts) => *counts,
                    None => open_too,
                };
                if holds && (ties.contains(&old) || ties.contains(&new)) {
                    ties.extend([old, new]);
                }
            }
        }
        ties
    }

    fn role(&self, id: OperationId) -> Option<(DeviceId, Role)> {
        let operation = self.operation(id);
        match &operation.action {
            Action::Create { .. } => Some((operation.author, Role::Admin)),
            Action::Admit { device, role, .. } | Action::SetRole { device, role } => {
                Some((*device, *role))
            }
            _ => None,
        }
    }

    fn granted(&self, id: OperationId, need: Need) -> Option<DeviceId> {
        let operation = self.operation(id);
        match (need, &operation.action) {
            (Need::Key(_), Action::Create { .. }) => Some(operation.author),
            (Need::Key(_), Action::Admit { device, .. } | Action::Rotate { device, .. }) => {
                Some(*device)
            }
            (Need::Key(_), _) => None,
            (Need::Admin(_), _) => {
                self.role(id).filter(|(_, role)| *role == Role::Admin).map(|(device, _)| device)
            }
        }
    }

    fn taken(&self, id: OperationId, need: Need) -> Option<DeviceId> {
        let operation = self.operation(id);
        match (need, &operation.action) {
            (_, Action::Remove { device }) => Some(*device),
            (_, Action::Leave) => Some(operation.author),
            (Need::Key(_), Action::Rotate { .. }) => Some(operation.author),
            (Need::Key(_), _) => None,
            (Need::Admin(_), _) => {
                self.role(id).filter(|(_, role)| *role != Role::Admin).map(|(device, _)| device)
            }
        }
    }

    /// Whether the author of `at`, or for `None` somebody in the end, has what it needs.
    fn has(&self, at: Option<OperationId>, need: Need) -> Option<bool> {
        let key = match need {
            Need::Key(key) | Need::Admin(key) => key,
        };
        let (sure, possible) = (self.ties(key, false), self.ties(key, true));
        let own = |device: &DeviceId| match need {
            Need::Key(_) => *device == key,
            Need::Admin(_) => possible.contains(device),
        };
        let mut any = false;
        for grant in &self.ids {
            let Some(device) = self.granted(*grant, need).filter(own) else { continue };
            if at.is_some_and(|at| !self.before(*grant, at)) || self.sure.get(grant) == Some(&false)
            {
                continue;
            }
            let mut doubt = self.sure.get(grant) != Some(&true) || !sure.contains(&device);
            let mut cut = false;
            for taking in &self.ids {
                let Some(device) = self.taken(*taking, need) else { continue };
                let spared = taking == grant
                    || Some(*taking) == at
                    || self.before(*taking, *grant)
                    || at.is_some_and(|at| self.before(at, *taking));
                if spared || !possible.contains(&device) {
                    continue;
                }
                match self.sure.get(taking) {
                    Some(false) => {}
                    Some(true) if sure.contains(&device) => cut = true,
                    _ => doubt = true,
                }
            }
            if !cut && !doubt {
                return Some(true);
            }
            any |= !cut;
        }
        if any { None } else { Some(false) }
    }

    fn judge(&self, id: OperationId) -> Option<bool> {
        let operation = self.operation(id);
        let author = operation.author;
        let own = match &operation.action {
            Action::Create { .. } => return Some(true),
            Action::Leave | Action::Rotate { .. } => true,
            Action::Rename { device, .. } => *device == author,
            _ => false,
        };
        let key = self.has(Some(id), Need::Key(author));
        let admin = if own { Some(true) } else { self.has(Some(id), Need::Admin(author)) };
        match (key, admin) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    /// True if it takes something.
    fn takes(&self, id: OperationId) -> bool {
        let nobody = Need::Admin(DeviceId([0; 32]));
        let of_folder = matches!(self.operation(id).action, Action::FolderRemoved { .. });
        self.taken(id, nobody).is_some() || self.rotation(id).is_some() || of_folder
    }
}

fn agrees_with_the_model(history: &History, manifest: &Manifest) {
    let model = Model::judged(history);
    for id in &model.ids {
        let (void, contested) = match model.sure.get(id) {
            Some(counts) => (!counts, false),
            None => (!model.takes(*id), model.takes(*id)),
        };
        assert_eq!(is_void(manifest, *id), void, "{:?}", history.operation(*id));
        assert_eq!(manifest.contested.contains(id), contested, "{:?}", history.operation(*id));
    }
    for device in (0..DEVICES).map(id) {
        let member = model.has(None, Need::Key(device)) == Some(true);
        assert_eq!(manifest.is_member(&device), member, "{device:?}");
        let admin = member && model.has(None, Need::Admin(device)) == Some(true);
        assert_eq!(manifest.is_admin(&device), admin, "{device:?}");
    }
}

/// What holds of every manifest, seen from the manifest alone.
fn invariants(history: &History, manifest: &Manifest) {
    let all = history.create_and_all();
    let counts = |id: &OperationId| !is_void(manifest, *id) && !manifest.contested.contains(id);
    let bites = |id: &OperationId| !is_void(manifest, *id);
    for (device, member) in &manifest.members {
        assert!(counts(&member.grant), "a member by nothing");
        assert!(!manifest.former.contains_key(device));
        // Whatever removes this key and takes effect was known to somebody else who admitted it since.
        for removal in all.iter().filter(|removal| bites(removal)) {
            if matches!(&history.operation(*removal).action, Action::Remove { device: d } if d == device)
            {
                let readmitted = all.iter().any(|grant| {
                    let operation = history.operation(*grant);
                    counts(grant)
                        && history.past(*grant).contains(removal)
                        && matches!(&operation.action,
                            Action::Admit { device: d, .. } | Action::Rotate { device: d, .. } if d == device)
                        && operation.author != *device
                });
                assert!(readmitted, "a removed device is back");
            }
        }
    }
    for void in &manifest.void {
        assert_eq!(history.operation(void.operation).author, void.author);
    }
    for fork in &manifest.forks {
        for (one, other) in fork.operations.iter().zip(&fork.operations[1..]) {
            assert!(!history.past(*one).contains(other) && !history.past(*other).contains(one));
            assert_eq!(history.operation(*one).author, fork.device);
        }
    }
}

fn inserted(log: &mut Log, operations: &[SignedOperation]) {
    for signed in operations {
        log.insert(signed.clone()).expect("it was taken before");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn t11_the_manifest_is_what_the_rules_say(steps in steps(22)) {
        let history = history(&steps);
        let manifest = history.manifest();
        agrees_with_the_model(&history, &manifest);
        invariants(&history, &manifest);
    }

    #[test]
    fn t12_every_order_of_arrival_gives_the_same_manifest(
        steps in steps(30),
        order in vec(any::<Index>(), 34),
        asked in vec(any::<bool>(), 34),
    ) {
        let history = history(&steps);
        let manifest = history.manifest();
        let mut log = Log::new(history.group());
        for (signed, ask) in shuffled(&history.operations, &order).into_iter().zip(asked) {
            log.insert(signed).expect("it was taken before");
            if ask {
                // In between, so that it judges one by one.
                let _ = log.manifest();
            }
        }
        prop_assert_eq!(log.manifest(), manifest);
    }

    #[test]
    fn t12_judging_one_by_one_is_judging_all(steps in steps(30)) {
        let history = history(&steps);
        let mut one_by_one = Log::new(history.group());
        for (count, signed) in history.operations.iter().enumerate() {
            one_by_one.insert(signed.clone()).expect("it was taken before");
            let mut at_once = Log::new(history.group());
            inserted(&mut at_once, &history.operations[..count]);
            // The last one together with something that makes all be judged anew.
            inserted(&mut at_once, &history.operations[count..=count]);
            at_once.judge_anew();
            prop_assert_eq!(one_by_one.manifest(), at_once.manifest());
        }
    }

    #[test]
    fn t12_partitions_that_meet_come_to_the_same(
        steps in steps(30),
        sides in vec(0..3_usize, 34),
    ) {
        let history = history(&steps);
        let mut logs = vec![Log::new(history.group()); 3];
        // Each side has what it heard of with all that came before it.
        for (signed, side) in history.operations.iter().zip(sides) {
            let mut past: Vec<OperationId> = history.past(signed.id()).iter().copied().collect();
            past.push(signed.id());
            let heard: Vec<SignedOperation> =
                history.operations.iter().filter(|s| past.contains(&s.id())).cloned().collect();
            inserted(&mut logs[side], &heard);
            let _ = logs[side].manifest();
        }
        for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1), (2, 1)] {
            let lacking: Vec<SignedOperation> =
                logs[from].lacking(&logs[to].heads()).into_iter().cloned().collect();
            inserted(&mut logs[to], &lacking);
        }
        let manifest = history.manifest();
        for mut log in logs {
            prop_assert_eq!(log.manifest(), manifest.clone());
        }
    }

    #[test]
    fn t11_those_who_are_out_let_nobody_in(first in steps(18), then in steps(12)) {
        let mut history = history(&first);
        let before = history.manifest();
        let out: Vec<usize> = (0..DEVICES).filter(|one| !before.is_member(&id(*one))).collect();
        play(&mut history, &then, &out);
        let after = history.manifest();
        for device in members(&after) {
            prop_assert!(before.is_member(&id(device)), "device {} got in", device);
        }
        for (device, member) in &after.members {
            let was = &before.members[device];
            prop_assert!(member.role <= was.role, "{:?} rose", device);
            let wider = member.folders != was.folders && member.folders == Scope::All;
            prop_assert!(!wider, "{:?} got folders", device);
            prop_assert_eq!(member.inbox, was.inbox);
        }
        prop_assert!(after.folders.keys().all(|folder| before.folders.contains_key(folder)));
    }

    #[test]
    fn t11_a_removal_on_everything_is_final_for_the_removed(
        first in steps(18), device in 0..4_usize, then in steps(12),
    ) {
        let mut history = history(&first);
        let before = history.manifest();
        let admin = (0..DEVICES).find(|one| *one != device && before.is_admin(&id(*one)));
        if let Some(admin) = admin.filter(|_| before.is_member(&id(device))) {
            history.write(admin, remove(device));
            prop_assert!(!history.manifest().is_member(&id(device)));
            play(&mut history, &then, &[device]);
            prop_assert!(!history.manifest().is_member(&id(device)));
        }
    }
}
