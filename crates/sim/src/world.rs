//! The world of one seed: devices with a virtual disk and an engine each, links with delays, one clock,
//! and a queue of what happens when. Everything is decided by the seed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use folder::{
    Engine, PeerId,
    engine::{AppliedKind, Effect, Event, Input},
    index::MemIndex,
    jobs::{self, Done, Job},
};
use wire::{Hash, RelPath, sync::Message};

use crate::{
    authority::SimAuthority,
    disk::{Fold, VirtualDisk},
    fault::{Fault, Faults},
    history::{Edit, Written},
    mutant::{MutantDisk, Mutation, SimIndex},
    plan::Action,
    rng::Rng,
    trace::Trace,
    world::queue::Queue,
};

mod act;
mod device;
mod members;
mod net;
mod options;
mod queue;
mod time;

pub(crate) use device::Device;

type SimEngine = Engine<SimIndex, SimAuthority>;

/// What a user did in the middle of a job.
#[derive(Debug)]
struct Meddled {
    /// In words.
    line: String,
    /// The paths that a watcher would name.
    paths: Vec<RelPath>,
    /// What is gone by it.
    removed: Option<String>,
    /// Contents that an apply had taken out of its place by then.
    out: Vec<Arc<Vec<u8>>>,
}

/// A link between two devices: the number each side knows it by.
#[derive(Clone, Copy, Debug)]
struct Link {
    ends: [(usize, PeerId); 2],
}

/// An end of a link that was cut, and whose device did not notice yet: the device, its run, and its number
/// for the link.
type LateEnd = (usize, u32, PeerId);

/// A message that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When, in milliseconds.
    pub time: u64,
    /// By which device.
    pub from: usize,
    /// To which.
    pub to: usize,
    /// What.
    pub message: Message,
}

/// A message under way.
#[derive(Debug)]
enum Parcel {
    Bytes(bytes::Bytes),
    Message(Box<Message>),
}

#[derive(Debug)]
enum What {
    Deliver { from: usize, to: usize, run: u32, peer: PeerId, parcel: Parcel, len: usize },
    Do { device: usize, run: u32, job: Job },
    Done { device: usize, run: u32, done: Done },
    Agree { device: usize, run: u32, id: u32 },
    Hints { device: usize, run: u32, paths: Vec<RelPath> },
    Wake { device: usize, run: u32 },
    Act(Action),
    Down { device: usize, run: u32, peer: PeerId },
}

/// Everything of one seed.
pub(crate) struct World {
    pub(crate) devices: Vec<Device>,
    rng: Rng,
    pub(crate) now: u64,
    /// Much time that has passed besides, in milliseconds.
    passed: u64,
    /// What was deleted again (rule E4), where, and on which device.
    pub(crate) deleted_again: Vec<(Hash, String, usize)>,
    /// What is to happen, by its time and the order in which that was decided.
    queue: Queue,
    links: BTreeMap<(usize, usize), Link>,
    /// When the last message on each direction arrives: links keep order.
    arrival: BTreeMap<(usize, usize), u64>,
    next_peer: u32,
    /// Bytes on their way in each direction.
    queued: BTreeMap<(usize, usize), usize>,
    /// Directions in which nothing arrives: the receiver does not read.
    pub(crate) stalled: BTreeSet<(usize, usize)>,
    held_back: Vec<What>,
    /// How much longer messages of two devices take, at most, in milliseconds.
    slow: BTreeMap<(usize, usize), u64>,
    /// Ends of links that were cut and did not notice yet, by pair; and when what was under way to them stops.
    late: BTreeMap<(usize, usize), Vec<LateEnd>>,
    cut_at: BTreeMap<PeerId, u64>,
    /// What was pushed last in each direction.
    pushed: BTreeMap<(usize, usize), Message>,
    faults: Faults,
    mutation: Option<Mutation>,
    /// Messages sent so far.
    pub(crate) messages: u64,
    /// Every message sent, with the time, if they are to be looked at.
    pub(crate) sent: Option<Vec<Sent>>,
    trace: Trace,
    /// Messages are given to their receivers as they were sent, without being decoded.
    pub(crate) undecoded: bool,
    pub(crate) verbose: bool,
    /// Every question about deletions is soon answered yes.
    pub(crate) agreeable: bool,
    /// Every content a user wrote, and whether somebody who saw it replaced or deleted it.
    written: Arc<Mutex<Written>>,
    /// Contents that only a machine that was set back showed under the name they had by then; and those whose
    /// place was removed while an apply that was cut short had taken them out.
    pub(crate) names_set_back: HashSet<Vec<u8>>,
    /// Contents that only a machine that was set back showed, and others were bringing; and where it showed them.
    pub(crate) downloads_set_back: HashMap<Vec<u8>, String>,
    /// Paths that a user removed or renamed, on any device.
    pub(crate) asked: BTreeSet<String>,
    /// Paths that an engine removed from a tree.
    pub(crate) removed: BTreeSet<String>,
    /// Paths whose contents an engine has said nobody has.
    pub(crate) skipped: BTreeSet<String>,
    /// What cannot be on a device beside what is there, as its engine says now.
    pub(crate) twins: BTreeSet<(usize, String)>,
    /// What a device says it cannot have for what it lies in.
    pub(crate) below_twins: BTreeSet<(usize, String)>,
    pub(crate) wanted_links: BTreeSet<(usize, usize)>,
    members: members::Members,
}

/// A sender with more than this on its way, in bytes, is told when some of it arrived.
const TELL_QUEUED: usize = 1 << 20;

impl World {
    pub(crate) fn new(seed: u64, devices: usize, verbose: bool) -> Self {
        Self::with_faults(seed, &vec![Fold::None; devices], Faults::NONE, None, verbose)
    }

    pub(crate) fn with_faults(
        seed: u64,
        folds: &[Fold],
        faults: Faults,
        mutation: Option<Mutation>,
        verbose: bool,
    ) -> Self {
        let mut world = Self {
            devices: Vec::new(),
            rng: Rng::new(seed ^ 0x6b69_6e66_6f6c_6421),
            now: 0,
            passed: 0,
            deleted_again: Vec::new(),
            queue: Queue::default(),
            links: BTreeMap::new(),
            arrival: BTreeMap::new(),
            next_peer: 0,
            queued: BTreeMap::new(),
            stalled: BTreeSet::new(),
            held_back: Vec::new(),
            slow: BTreeMap::new(),
            late: BTreeMap::new(),
            cut_at: BTreeMap::new(),
            pushed: BTreeMap::new(),
            faults,
            mutation,
            messages: 0,
            sent: None,
            trace: Trace::new(),
            undecoded: false,
            verbose,
            written: Arc::default(),
            names_set_back: HashSet::new(),
            downloads_set_back: HashMap::new(),
            asked: BTreeSet::new(),
            removed: BTreeSet::new(),
            skipped: BTreeSet::new(),
            twins: BTreeSet::new(),
            below_twins: BTreeSet::new(),
            agreeable: false,
            wanted_links: BTreeSet::new(),
            members: members::Members::default(),
        };
        for (number, fold) in folds.iter().enumerate() {
            let disk = Arc::new(VirtualDisk::folding(*fold));
            if faults.has(Fault::Power) {
                disk.forget_unsynced();
            }
            world.devices.push(Device::new(number, disk));
        }
        world
    }

    fn note(&mut self, line: fmt::Arguments<'_>) {
        self.trace.number(self.now);
        // The trace takes whatever is written to it.
        let _ = self.trace.write_fmt(line);
        if self.verbose {
            self.tell(line);
        }
    }

    /// For whoever watches; no part of the trace, which is the same whether anybody does.
    fn tell(&self, line: fmt::Arguments<'_>) {
        anstream_print(&format!("{:>8} {line}", self.now));
    }

    pub(crate) fn trace_hash(&self) -> [u64; 2] {
        self.trace.hash()
    }

    fn at(&mut self, time: u64, what: What) {
        self.queue.add(time, what);
    }

    /// Contents that users wrote.
    pub(crate) fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plan(&mut self, time: u64, action: Action) {
        self.at(time, What::Act(action));
    }

    /// Lets everything happen up to a time.
    pub(crate) fn run_until(&mut self, end: u64) -> Result<(), String> {
        let mut steps = 0u64;
        while let Some((time, what)) = self.queue.next_until(end) {
            self.now = self.now.max(time);
            self.step(what)?;
            steps += 1;
            if steps > 500_000 {
                return Err("no end: half a million steps without coming to rest".to_owned());
            }
        }
        self.now = end;
        Ok(())
    }

    fn step(&mut self, what: What) -> Result<(), String> {
        match what {
            What::Deliver { from, to, run, peer, parcel, len } => {
                if self.cut_at.get(&peer).is_some_and(|at| *at < self.now) {
                    return Ok(());
                }
                if self.stalled.contains(&(from, to)) {
                    self.held_back.push(What::Deliver { from, to, run, peer, parcel, len });
                    return Ok(());
                }
                self.drained(from, to, len)?;
                let message = match parcel {
                    Parcel::Bytes(bytes) => Message::decode(bytes).map_err(|it| it.to_string())?,
                    Parcel::Message(message) => *message,
                };
                self.input(to, run, Input::Message { peer, message })
            }
            What::Do { device, run, job } => {
                if self.devices[device].run != run {
                    return Ok(());
                }
                self.set_clock(device);
                let disk = Arc::clone(&self.devices[device].disk);
                let done = match self.mutation {
                    None => jobs::run(&*disk, job),
                    Some(mutation) => jobs::run(&MutantDisk::new(&*disk, mutation), job),
                };
                self.notice_meddling(device);
                if disk.has_no_power() {
                    return self.die(device);
                }
                let delay = self.rng.below(3);
                self.at(self.now + delay, What::Done { device, run, done });
                Ok(())
            }
            What::Done { device, run, done } => self.input(device, run, Input::Done(done)),
            What::Agree { device, run, id } => self.agree(device, run, id),
            What::Hints { device, run, paths } => self.input(device, run, Input::Hints(paths)),
            What::Wake { device, run } => {
                self.devices[device].wake = u64::MAX;
                self.input(device, run, Input::Tick)
            }
            What::Act(action) => self.act(action),
            What::Down { device, run, peer } => self.input(device, run, Input::PeerDown { peer }),
        }
    }

    pub(crate) fn edit(&mut self, number: usize, edit: &Edit) -> bool {
        self.set_clock(number);
        let device = &self.devices[number];
        let outcome = edit.carry_out(&device.disk, &mut self.written());
        let line = format!(
            "{number} edits: {edit}: {}",
            if outcome.is_some() { "done" } else { "cannot" }
        );
        self.note(format_args!("{line}"));
        let Some(paths) = outcome else { return false };
        if edit.removes().is_some() && self.devices[number].engine.is_none() {
            // What an apply that was cut short had taken out cannot go back where it was: history will do.
            let out = taken_out(&self.devices[number].disk);
            self.names_set_back.extend(out.iter().map(|bytes| bytes.to_vec()));
        }
        self.asked.extend(edit.removes().map(str::to_owned));
        self.notice(number, paths);
        true
    }

    /// A watcher sees that something happened at some paths.
    fn notice(&mut self, number: usize, paths: Vec<RelPath>) {
        // Events come only from directories that are watched, as from inotify.
        let device = &self.devices[number];
        let run = device.run;
        let seen = paths
            .into_iter()
            .filter(|path| path.parent().is_some_and(|dir| device.watched.contains(&dir)));
        let paths: Vec<_> = seen.collect();
        if device.engine.is_some() && !paths.is_empty() && !device.deaf {
            let delay = self.rng.below(4);
            self.at(self.now + delay, What::Hints { device: number, run, paths });
        }
    }

    pub(crate) fn start(&mut self, number: usize) -> Result<(), String> {
        if self.devices[number].engine.is_some() {
            return Ok(());
        }
        if !self.may_run(number) {
            return self.members_meet();
        }
        self.note(format_args!("{number} starts"));
        self.twins.retain(|(device, _)| *device != number);
        self.below_twins.retain(|(device, _)| *device != number);
        let options = self.options(number);
        self.devices[number].disk.restore_power();
        let index = SimIndex::new(MemIndex::open(&self.devices[number].store), self.mutation);
        let manifest = self.devices[number].manifest.clone();
        let authority = SimAuthority { device: self.takes_key(number), manifest };
        let engine = Engine::open(index, authority, options)
            .map_err(|error| format!("the engine failed: {error}"))?;
        let device = &mut self.devices[number];
        device.run += 1;
        device.engine = Some(engine);
        device.wake = u64::MAX;
        device.watched.clear();
        device.braked = None;
        let run = device.run;
        self.input(number, run, Input::Start)?;
        self.members_meet()?;
        for (a, b) in self.wanted_links.clone() {
            if a == number || b == number {
                self.connect(a, b)?;
            }
        }
        Ok(())
    }

    /// A person answers yes to the question about deletions with this number.
    pub(crate) fn agree(&mut self, number: usize, run: u32, id: u32) -> Result<(), String> {
        self.devices[number].braked.take_if(|open| *open == id);
        self.input(number, run, Input::AcceptDeletes { id })
    }

    pub(crate) fn stop(&mut self, number: usize) -> Result<(), String> {
        self.members.process_ends(number);
        if self.devices[number].engine.is_none() {
            return Ok(());
        }
        self.note(format_args!("{number} stops"));
        let linked: Vec<_> =
            self.links.keys().copied().filter(|(a, b)| *a == number || *b == number).collect();
        for (a, b) in linked {
            self.disconnect(a, b)?;
        }
        let device = &mut self.devices[number];
        if let Some(mut engine) = device.engine.take() {
            engine.stop();
            engine.tree_is_durable();
            engine.commit().map_err(|error| format!("the engine failed: {error}"))?;
        }
        device.run += 1;
        device.in_sync = false;
        Ok(())
    }

    pub(crate) fn input(&mut self, number: usize, run: u32, input: Input) -> Result<(), String> {
        let clock = self.clock(number);
        let device = &mut self.devices[number];
        if device.run != run {
            return Ok(());
        }
        let Some(engine) = &mut device.engine else { return Ok(()) };
        for link in self.links.values() {
            let [one, two] = link.ends;
            for ((me, peer), (other, _)) in [(one, two), (two, one)] {
                if me == number {
                    let queued = self.queued.get(&(me, other)).copied().unwrap_or(0);
                    engine.set_queued(peer, queued);
                }
            }
        }
        let effects = engine
            .handle(clock, input)
            .map_err(|error| format!("the engine failed: device {number}: {error}"))?;
        // It does not know how little of the time has been played.
        let wake = engine.next_wake();
        let wake = if wake == u64::MAX { wake } else { wake.saturating_sub(self.passed) };
        if wake < device.wake {
            device.wake = wake;
            self.at(wake.max(self.now), What::Wake { device: number, run });
        }
        for effect in effects {
            self.effect(number, run, effect)?;
        }
        Ok(())
    }

    fn effect(&mut self, number: usize, run: u32, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Send { peer, message } => self.send(number, peer, message)?,
            Effect::Disconnect { reason, .. } => {
                return Err(format!("ended a link: device {number}: {reason}"));
            }
            Effect::Job(job) => {
                let delay = self.rng.below(4);
                self.at(self.now + delay, What::Do { device: number, run, job });
            }
            Effect::Watch(dir) => {
                self.devices[number].watched.insert(dir);
            }
            Effect::Event(event) => {
                self.note(format_args!("{number}: {event:?}"));
                self.devices[number].events.push((self.now, event.clone()));
                match event {
                    Event::InSync { .. } => self.devices[number].in_sync = true,
                    Event::Conflict { .. } => self.devices[number].conflicts += 1,
                    Event::Skipped { path, reason } if reason.contains("no connected device") => {
                        self.twins.remove(&(number, path.clone()));
                        self.below_twins.remove(&(number, path.clone()));
                        self.skipped.insert(path);
                    }
                    Event::Skipped { path, reason } if reason.contains("takes its name for") => {
                        self.below_twins.remove(&(number, path.clone()));
                        self.twins.insert((number, path));
                    }
                    Event::Skipped { path, reason } if reason.contains("which it lies in") => {
                        self.twins.remove(&(number, path.clone()));
                        self.below_twins.insert((number, path));
                    }
                    Event::Skipped { path, .. } | Event::Mended { path } => {
                        self.twins.remove(&(number, path.clone()));
                        self.below_twins.remove(&(number, path));
                    }
                    Event::Applied { path, kind: AppliedKind::Deleted, .. } => {
                        self.removed.insert(path.to_string());
                    }
                    Event::Brake { id, .. } => {
                        self.devices[number].braked = Some(id);
                        if self.agreeable {
                            let delay = self.rng.below(2_000);
                            self.at(self.now + delay, What::Agree { device: number, run, id });
                        }
                    }
                    Event::DeletedAgain { path, content, .. } => {
                        self.deleted_again.push((content, path.to_string(), number));
                    }
                    Event::BrakeReleased { .. } => self.devices[number].braked = None,
                    Event::RootGone { reason } => return Err(reason),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// True if every running device is settled, and those that are linked hold equal records.
    pub(crate) fn is_settled(&mut self) -> bool {
        let mut roots = BTreeMap::new();
        for (number, device) in self.devices.iter_mut().enumerate() {
            let Some(engine) = &mut device.engine else { continue };
            if !engine.is_settled() {
                return false;
            }
            roots.insert(number, folder::index::Index::fingerprint(engine.index(), 0, 0));
        }
        self.links.keys().all(|(a, b)| roots.get(a) == roots.get(b))
    }

    /// True if every running device is settled, and all hold equal records.
    pub(crate) fn has_converged(&mut self) -> bool {
        let mut roots = Vec::new();
        for device in &mut self.devices {
            let Some(engine) = &mut device.engine else { continue };
            if !engine.is_settled() || device.braked.is_some() {
                return false;
            }
            roots.push(folder::index::Index::fingerprint(engine.index(), 0, 0));
        }
        roots.windows(2).all(|pair| pair[0] == pair[1])
    }
}

#[allow(clippy::print_stdout, reason = "a history is what was asked for")]
fn anstream_print(line: &str) {
    println!("{line}");
}

/// Contents that an apply has taken out of the tree, and has not put away yet, or has made ready.
fn taken_out(disk: &VirtualDisk) -> Vec<Arc<Vec<u8>>> {
    let all = disk.all_contents().into_iter();
    all.filter(|(path, _)| path.starts_with(".kin/swap/")).map(|(_, bytes)| bytes).collect()
}
