//! A scenario: a few devices whose users do just what a test says, over the real engine. For tests that
//! are named by a rule; histories made up from seeds are in [`crate::history`].
//!
//! Every method that lets time pass panics if an engine fails or ends a link, and [`Scenario::settle`] if
//! devices do not come to rest: a scenario is part of a test.

use std::sync::Arc;

use folder::{
    brake::Limit,
    engine::{Authority as _, ConflictCopy, Explanation, Input, LocalKind, Mode, Plan, UndoPlan},
    ignore::Ignore,
    index::{Index as _, MemStore},
};
use wire::{
    RelPath,
    heard::{Heard, Statement, digest as heard_digest},
    record::{SignedRecord, batch_digest, merkle_root},
    sync::{Batch, Message},
    version::{MAX_COUNTER, ReplicaId, VersionVector},
};

mod look;

pub use crate::world::Sent;
use crate::{
    authority::{SimAuthority, device_id},
    disk::{Fold, VirtualDisk},
    fault::Faults,
    history::Edit,
    world::World,
};

/// How long devices may take to come to rest, in virtual milliseconds.
const PATIENCE_MS: u64 = 120_000;
/// Time for an edit to be noticed, and for nothing more to come, in virtual milliseconds.
const NOTICE_MS: u64 = 600;

/// A few devices, numbered from 0, and what happens to them.
pub struct Scenario {
    world: World,
}

#[track_caller]
fn well<T>(outcome: Result<T, String>) -> T {
    outcome.unwrap_or_else(|reason| panic!("{reason}"))
}

impl Scenario {
    /// Devices that are neither started nor linked. The seed decides delays and random ids.
    #[must_use]
    pub fn new(seed: u64, devices: usize) -> Self {
        let mut world = World::new(seed, devices, is_verbose());
        world.sent = Some(Vec::new());
        Self { world }
    }

    /// Devices that are started, and each linked with the next.
    #[must_use]
    pub fn linked(seed: u64, devices: usize) -> Self {
        let mut scenario = Self::new(seed, devices);
        scenario.start_linked();
        scenario
    }

    /// As [`Self::linked`], on disks that take these names for the same.
    #[must_use]
    pub fn folding(seed: u64, folds: &[Fold]) -> Self {
        let mut world = World::with_faults(seed, folds, Faults::NONE, None, is_verbose());
        world.sent = Some(Vec::new());
        let mut scenario = Self { world };
        scenario.start_linked();
        scenario
    }

    fn start_linked(&mut self) {
        (0..self.devices()).for_each(|device| self.start(device));
        (1..self.devices()).for_each(|device| self.link(device - 1, device));
        self.settle();
    }

    /// As [`Self::linked`], in a group that lasts: the devices with these numbers may write.
    #[must_use]
    pub fn group(seed: u64, devices: usize, writers: &[usize]) -> Self {
        let mut scenario = Self::new(seed, devices);
        for device in 0..devices {
            scenario.hears(device, writers);
            scenario.start(device);
        }
        for device in 1..devices {
            scenario.link(device - 1, device);
        }
        scenario.settle();
        scenario
    }

    /// A device hears that those with these numbers may write now, and nobody else.
    pub fn hears(&mut self, device: usize, writers: &[usize]) {
        let writers = writers.iter().map(|number| device_id(*number)).collect();
        self.world.devices[device].manifest.set(writers);
        let run = self.world.devices[device].run;
        well(self.world.input(device, run, Input::MembersChanged));
    }

    /// Every device hears so.
    pub fn all_hear(&mut self, writers: &[usize]) {
        (0..self.devices()).for_each(|device| self.hears(device, writers));
    }

    /// Every device hears that one is no member any more.
    pub fn all_hear_of_removal(&mut self, of: usize) {
        for device in 0..self.devices() {
            self.world.devices[device].manifest.remove(device_id(of));
            let run = self.world.devices[device].run;
            well(self.world.input(device, run, Input::MembersChanged));
        }
    }

    /// Every device hears that one is a member again, and reads.
    pub fn all_hear_of_admission(&mut self, of: usize) {
        for device in 0..self.devices() {
            self.world.devices[device].manifest.admit(&device_id(of));
            let run = self.world.devices[device].run;
            well(self.world.input(device, run, Input::MembersChanged));
        }
    }

    /// Has a device say to another that it knows all of some replicas, has known it for long, and that all others
    /// have: somebody at it means harm.
    pub fn claim_to_know(&mut self, from: usize, to: usize, replicas: &[ReplicaId]) {
        let authority = SimAuthority {
            device: device_id(from),
            manifest: self.world.devices[from].manifest.clone(),
        };
        let mut all: Vec<_> = replicas.iter().map(|replica| (*replica, MAX_COUNTER)).collect();
        all.sort_unstable();
        let all = VersionVector::from_entries(all).unwrap_or_default();
        let statement = Statement {
            replica: self.replica(from).map_or(0, |replica| replica.0),
            number: u64::MAX / 2 + self.world.now,
            known: all.clone(),
            aged: all.clone(),
            horizon: all,
        };
        let (author, bytes) = (authority.device(), statement.encode());
        let signature = authority.sign(&heard_digest(&authority.scope(), &author, &bytes));
        let heard = Heard { author, signature, statement, bytes };
        well(self.world.say(from, to, Message::Heard(vec![heard])));
    }

    /// Has a device send another what its engine never said: somebody at it means harm. Records are under its
    /// signature.
    pub fn forge(&mut self, from: usize, to: usize, records: Vec<SignedRecord>) {
        let authority = SimAuthority {
            device: device_id(from),
            manifest: self.world.devices[from].manifest.clone(),
        };
        let leaves: Vec<_> = records.iter().map(|record| record.hash).collect();
        let root = merkle_root(&leaves);
        let author = authority.device();
        let digest = batch_digest(&authority.scope(), &author, leaves.len(), &root);
        let signature = authority.sign(&digest);
        let batches = vec![Batch { author, signature, records, proof: None }];
        let message = Message::Records { request: 0, mark: 1, batches, inline: Vec::new() };
        well(self.world.say(from, to, message));
    }

    /// Which way changes go on a device, from its next start on.
    pub fn mode(&mut self, device: usize, mode: Mode) {
        self.world.devices[device].mode = mode;
    }

    /// A person gives something to a device's engine.
    pub fn tell(&mut self, device: usize, input: Input) {
        let run = self.world.devices[device].run;
        well(self.world.input(device, run, input));
    }

    /// What a running device has changed and does not share.
    pub fn local_changes(&mut self, device: usize) -> Vec<(String, LocalKind)> {
        let Some(engine) = &mut self.world.devices[device].engine else { return Vec::new() };
        let changes = engine.local_changes().unwrap_or_default();
        changes.into_iter().map(|change| (change.path.to_string(), change.kind)).collect()
    }

    /// What others have changed and a running device does not take.
    #[must_use]
    pub fn held_back(&self, device: usize) -> Vec<String> {
        let engine = self.world.devices[device].engine.as_ref();
        let held = engine.into_iter().flat_map(folder::Engine::held_back);
        held.map(ToString::to_string).collect()
    }

    /// Why a path is as it is on a running device.
    pub fn why(&mut self, device: usize, path: &str) -> Option<Explanation> {
        let engine = self.world.devices[device].engine.as_mut()?;
        engine.why(&RelPath::parse(path).ok()?).ok()
    }

    /// What taking part would do on a running device that only looks.
    pub fn plan(&mut self, device: usize) -> Option<Plan> {
        self.world.devices[device].engine.as_mut()?.plan().ok()
    }

    /// Which of the versions in a running device's history another's changes since a time (by the wall clock,
    /// in milliseconds since 1970) have put there and can be brought back.
    pub fn undo(&mut self, device: usize, by: usize, since: u64) -> UndoPlan {
        let mut replicas = self.replicas_known(device, by);
        replicas.extend(self.replica(by));
        let disk = self.disk(device);
        let history = folder::history::list(&*disk, &RelPath::root()).unwrap_or_default();
        let engine = self.world.devices[device].engine.as_mut();
        let plan = engine.map(|engine| engine.undo(&history.entries, &replicas, since));
        plan.and_then(Result::ok).unwrap_or_default()
    }

    /// The replicas that a running device knows to be another's, or to have been.
    #[must_use]
    pub fn replicas_known(&self, device: usize, of: usize) -> Vec<ReplicaId> {
        let engine = self.world.devices[device].engine.as_ref();
        engine.map(|engine| engine.replicas_of(&[device_id(of)])).unwrap_or_default()
    }

    /// The conflict copies in a running device's tree, each with the path that it is of.
    pub fn conflicts(&mut self, device: usize) -> Vec<ConflictCopy> {
        let engine = self.world.devices[device].engine.as_mut();
        engine.and_then(|engine| engine.conflicts().ok()).unwrap_or_default()
    }

    /// How many conflict copies a running device says that there are.
    #[must_use]
    pub fn conflict_count(&self, device: usize) -> u64 {
        let engine = self.world.devices[device].engine.as_ref();
        engine.map_or(0, folder::Engine::conflict_count)
    }

    /// The time by a device's wall clock, in milliseconds since 1970.
    #[must_use]
    pub fn wall(&self) -> u64 {
        self.world.wall_ms()
    }

    /// How many devices there are.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.world.devices.len()
    }

    /// Starts a device; links that were made before come up with it.
    pub fn start(&mut self, device: usize) {
        self.world.devices[device].disk.restore_power();
        well(self.world.start(device));
    }

    /// Stops a device in good order.
    pub fn stop(&mut self, device: usize) {
        well(self.world.stop(device));
    }

    /// Stops a device as a loss of power does: what its index holds uncommitted never was.
    pub fn crash(&mut self, device: usize) {
        well(self.world.die(device));
    }

    /// The next time that a device stops other than in good order, its disk loses what was not synced since now.
    pub fn loses_power(&mut self, device: usize) {
        self.world.devices[device].loses_power = true;
    }

    /// The machine of a device that does not run is started anew.
    pub fn restart_machine(&mut self, device: usize) {
        assert!(!self.is_running(device), "no program outlives its machine");
        self.world.devices[device].boot += 1;
    }

    /// True while a device runs.
    #[must_use]
    pub fn is_running(&self, device: usize) -> bool {
        self.world.devices[device].engine.is_some()
    }

    /// Links two devices, now or as soon as both run.
    pub fn link(&mut self, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        self.world.wanted_links.insert((a, b));
        well(self.world.connect(a, b));
    }

    /// Cuts the link between two devices.
    pub fn cut(&mut self, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        self.world.wanted_links.remove(&(a, b));
        well(self.world.disconnect(a, b));
    }

    /// Has `to` stop reading what `from` sends.
    pub fn stop_reading(&mut self, from: usize, to: usize) {
        self.world.stalled.insert((from, to));
    }

    /// Has `to` read again what `from` sends and has sent.
    pub fn read_again(&mut self, from: usize, to: usize) {
        self.world.read_again(from, to);
    }

    /// A user does something now; watchers notice soon.
    pub fn edit(&mut self, device: usize, edit: &Edit) {
        assert!(self.world.edit(device, edit), "cannot {edit}");
    }

    /// [`Edit::Write`].
    pub fn write(&mut self, device: usize, path: &str, contents: &[u8]) {
        self.edit(device, &Edit::Write(path.to_owned(), contents.to_vec()));
    }

    /// [`Edit::Remove`].
    pub fn remove(&mut self, device: usize, path: &str) {
        self.edit(device, &Edit::Remove(path.to_owned()));
    }

    /// [`Edit::Rename`].
    pub fn rename(&mut self, device: usize, from: &str, to: &str) {
        self.edit(device, &Edit::Rename(from.to_owned(), to.to_owned()));
    }

    /// [`Edit::Chmod`].
    pub fn chmod(&mut self, device: usize, path: &str, mode: u32) {
        self.edit(device, &Edit::Chmod(path.to_owned(), mode));
    }

    /// Events of a device's watcher were lost: it looks at everything again.
    pub fn rescan(&mut self, device: usize) {
        let run = self.world.devices[device].run;
        well(self.world.input(device, run, Input::Overflow));
    }

    /// Puts ignore patterns in force on a device, which looks at everything again.
    pub fn ignore(&mut self, device: usize, patterns: &[&str]) {
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        let ignore = match Ignore::new(None, None, &patterns) {
            Ok((ignore, bad)) if bad.is_empty() => ignore,
            other => panic!("not ignore patterns: {other:?}"),
        };
        self.world.devices[device].ignore = ignore.clone();
        if let Some(engine) = &mut self.world.devices[device].engine {
            engine.set_ignore(ignore);
            self.rescan(device);
        }
    }

    /// Sets how many deletions a device believes without a question, from its next start on.
    pub fn brake(&mut self, device: usize, limit: Limit) {
        self.world.devices[device].brake = limit;
    }

    /// Has a device agree beforehand to deletions, or not, from its next start on.
    pub fn accept_deletes(&mut self, device: usize, accept: bool) {
        self.world.devices[device].accept_deletes = accept;
    }

    /// The number of the question about deletions that is open on a device.
    #[must_use]
    pub fn braked(&self, device: usize) -> Option<u32> {
        self.world.devices[device].braked
    }

    /// A person says yes to the open question about deletions, or to the one with a number.
    pub fn agree(&mut self, device: usize, question: u32) {
        let run = self.world.devices[device].run;
        well(self.world.agree(device, run, question));
    }

    /// Sets how far a device's wall clock is off, in milliseconds.
    pub fn set_clock(&mut self, device: usize, off: i64) {
        self.world.devices[device].clock = off;
    }

    /// Lets milliseconds pass.
    pub fn run(&mut self, millis: u64) {
        let end = self.world.now + millis;
        well(self.world.run_until(end));
    }

    /// True if no message is under way.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.world.is_silent()
    }

    /// Much time passes at once: what is due meanwhile comes after it.
    pub fn skip(&mut self, millis: u64) {
        self.world.now += millis;
    }

    /// Puts all that a device has, which does not run, on another machine: the disk is the same, what its
    /// index is bound to is not (rule E1).
    pub fn move_machine(&mut self, device: usize) {
        assert!(!self.is_running(device), "a running device cannot be moved");
        self.world.devices[device].binding.push(1);
    }

    /// Lets time pass until nothing happens any more.
    #[track_caller]
    pub fn settle(&mut self) {
        let end = self.world.now + PATIENCE_MS;
        self.run(NOTICE_MS);
        loop {
            if self.world.is_settled() {
                self.run(NOTICE_MS);
                if self.world.is_settled() {
                    return;
                }
            }
            assert!(self.world.now < end, "not at rest after {PATIENCE_MS} ms{}", self.rows());
            self.run(100);
        }
    }

    /// What all indexes say is here, to look at when something went wrong.
    fn rows(&mut self) -> String {
        let mut text = String::new();
        for number in 0..self.devices() {
            let tree: Vec<_> = self
                .tree(number)
                .into_iter()
                .map(|(path, node)| format!("{path}: {node:?}"))
                .collect();
            text += &format!("\ndevice {number} has {tree:#?}\nand its index says");
            let Some(engine) = &mut self.world.devices[number].engine else { continue };
            for bucket in 0..wire::sync::BUCKETS {
                for (path, _) in engine.index().bucket(bucket).unwrap_or_default() {
                    let here = engine.index().row(&path).ok().flatten().and_then(|row| row.here);
                    let here = here.map(|here| format!("{:?} implied {}", here.stat, here.implied));
                    text += &format!("\n  {path}: {here:?}");
                }
            }
        }
        text
    }

    /// The time, in milliseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.world.now
    }

    /// A device's disk.
    #[must_use]
    pub fn disk(&self, device: usize) -> Arc<VirtualDisk> {
        Arc::clone(&self.world.devices[device].disk)
    }

    /// A user does something, if it can be done.
    pub fn try_edit(&mut self, device: usize, edit: &Edit) -> bool {
        self.world.edit(device, edit)
    }

    /// Forgets events and messages so far.
    pub fn forget(&mut self) {
        self.world.sent = Some(Vec::new());
        for device in &mut self.world.devices {
            device.events.clear();
        }
    }

    /// What is durable of a device's index.
    #[must_use]
    pub fn index(&self, device: usize) -> MemStore {
        self.world.devices[device].store.clone()
    }

    /// Gives a device that does not run another index: an empty, older or copied one.
    pub fn put_index(&mut self, device: usize, index: MemStore) {
        assert!(!self.is_running(device), "an index cannot be replaced under a running engine");
        self.world.devices[device].store = index;
    }

    /// From its next start on a device makes groups as large as real ones do.
    pub fn large_groups(&mut self, device: usize) {
        self.world.devices[device].small_groups = false;
    }

    /// Makes a device that does not run believe that it is another: its index is bound to the same
    /// machine (rule E1), as on a cloned virtual machine.
    pub fn pose_as(&mut self, device: usize, other: usize) {
        self.world.devices[device].binding = self.world.devices[other].binding.clone();
    }
}

fn is_verbose() -> bool {
    std::env::var_os("KIN_SIM_VERBOSE").is_some()
}
