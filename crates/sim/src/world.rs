//! The world of one seed: devices with a virtual disk and an engine each, links with delays, one clock,
//! and a queue of what happens when. Everything is decided by the seed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet},
    sync::Arc,
};

use folder::{
    Engine, Now, PeerId,
    engine::{Effect, Event, Input, Options},
    ignore::Ignore,
    index::{MemIndex, MemStore},
    jobs::{self, Done, Job},
};
use identity::DeviceId;
use wire::{RelPath, sync::Message};

use crate::{authority::SimAuthority, disk::VirtualDisk, history::Edit, rng::Rng};

type SimEngine = Engine<MemIndex, SimAuthority>;

/// One device.
pub(crate) struct Device {
    pub(crate) disk: Arc<VirtualDisk>,
    pub(crate) store: MemStore,
    pub(crate) engine: Option<SimEngine>,
    /// What the next run's index must be bound to (rule E1).
    pub(crate) binding: Vec<u8>,
    /// What this device does not look at (rule E11).
    pub(crate) ignore: Ignore,
    /// What the engine told the person, with the time.
    pub(crate) events: Vec<(u64, Event)>,
    /// Numbers runs, so that what was meant for an earlier one is dropped.
    pub(crate) run: u32,
    watched: HashSet<RelPath>,
    /// The latest wake-up that is in the queue already.
    wake: u64,
    pub(crate) in_sync: bool,
    pub(crate) conflicts: u32,
}

/// A link between two devices: the number each side knows it by.
#[derive(Clone, Copy, Debug)]
struct Link {
    ends: [(usize, PeerId); 2],
}

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

#[derive(Debug)]
enum What {
    Deliver { from: usize, to: usize, run: u32, peer: PeerId, bytes: bytes::Bytes },
    Do { device: usize, run: u32, job: Job },
    Done { device: usize, run: u32, done: Done },
    Hints { device: usize, run: u32, paths: Vec<RelPath> },
    Wake { device: usize, run: u32 },
    Edit { device: usize, edit: Edit },
    Connect { a: usize, b: usize },
    Disconnect { a: usize, b: usize },
    Stop { device: usize },
    Start { device: usize },
}

/// Everything of one seed.
pub(crate) struct World {
    pub(crate) devices: Vec<Device>,
    rng: Rng,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    pending: BTreeMap<u64, What>,
    sequence: u64,
    links: BTreeMap<(usize, usize), Link>,
    /// When the last message on each direction arrives: links keep order.
    arrival: BTreeMap<(usize, usize), u64>,
    next_peer: u32,
    /// Bytes on their way in each direction.
    queued: BTreeMap<(usize, usize), usize>,
    /// Directions in which nothing arrives: the receiver does not read.
    pub(crate) stalled: BTreeSet<(usize, usize)>,
    held_back: Vec<What>,
    /// Every message sent, with the time, if they are to be looked at.
    pub(crate) sent: Option<Vec<Sent>>,
    trace: blake3::Hasher,
    pub(crate) verbose: bool,
    /// Every content a user wrote, and whether somebody who saw it replaced or deleted it.
    pub(crate) written: BTreeMap<Vec<u8>, bool>,
    pub(crate) wanted_links: BTreeSet<(usize, usize)>,
}

/// The wall clock at the start of each seed: 2026-01-01, in nanoseconds since 1970.
const EPOCH: i64 = 1_767_225_600_000_000_000;

/// A sender with more than this on its way, in bytes, is told when some of it arrived.
const TELL_QUEUED: usize = 1 << 20;

impl World {
    pub(crate) fn new(seed: u64, devices: usize, verbose: bool) -> Self {
        let mut world = Self {
            devices: Vec::new(),
            rng: Rng::new(seed ^ 0x6b69_6e66_6f6c_6421),
            now: 0,
            queue: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            links: BTreeMap::new(),
            arrival: BTreeMap::new(),
            next_peer: 0,
            queued: BTreeMap::new(),
            stalled: BTreeSet::new(),
            held_back: Vec::new(),
            sent: None,
            trace: blake3::Hasher::new(),
            verbose,
            written: BTreeMap::new(),
            wanted_links: BTreeSet::new(),
        };
        for number in 0..devices {
            world.devices.push(Device {
                disk: Arc::new(VirtualDisk::new()),
                store: MemStore::new(),
                engine: None,
                binding: number.to_le_bytes().to_vec(),
                ignore: Ignore::none(),
                events: Vec::new(),
                run: 0,
                watched: HashSet::new(),
                wake: u64::MAX,
                in_sync: false,
                conflicts: 0,
            });
        }
        world
    }

    fn note(&mut self, line: &str) {
        self.trace.update(&self.now.to_le_bytes());
        self.trace.update(line.as_bytes());
        if self.verbose {
            anstream_print(&format!("{:>8} {line}", self.now));
        }
    }

    pub(crate) fn trace_hash(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    fn at(&mut self, time: u64, what: What) {
        self.sequence += 1;
        self.queue.push(Reverse((time, self.sequence)));
        self.pending.insert(self.sequence, what);
    }

    pub(crate) fn plan_edit(&mut self, time: u64, device: usize, edit: Edit) {
        self.at(time, What::Edit { device, edit });
    }

    pub(crate) fn plan_start(&mut self, time: u64, device: usize) {
        self.at(time, What::Start { device });
    }

    pub(crate) fn plan_stop(&mut self, time: u64, device: usize) {
        self.at(time, What::Stop { device });
    }

    pub(crate) fn plan_connect(&mut self, time: u64, a: usize, b: usize) {
        self.at(time, What::Connect { a, b });
    }

    pub(crate) fn plan_disconnect(&mut self, time: u64, a: usize, b: usize) {
        self.at(time, What::Disconnect { a, b });
    }

    /// Lets everything happen up to a time. False if the queue ran empty before.
    pub(crate) fn run_until(&mut self, end: u64) -> Result<(), String> {
        let mut steps = 0u64;
        while let Some(&Reverse((time, sequence))) = self.queue.peek() {
            if time > end {
                break;
            }
            self.queue.pop();
            let Some(what) = self.pending.remove(&sequence) else { continue };
            self.now = self.now.max(time);
            self.step(what)?;
            steps += 1;
            if steps > 2_000_000 {
                return Err("two million steps without coming to an end".to_owned());
            }
        }
        self.now = end;
        Ok(())
    }

    fn clock(&self) -> Now {
        Now { ms: self.now, wall: EPOCH + i64::try_from(self.now).unwrap_or(0) * 1_000_000 }
    }

    fn step(&mut self, what: What) -> Result<(), String> {
        let millis = self.clock().wall / 1_000_000;
        for device in &self.devices {
            device.disk.set_now(millis);
        }
        match what {
            What::Deliver { from, to, run, peer, bytes } => {
                if self.stalled.contains(&(from, to)) {
                    self.held_back.push(What::Deliver { from, to, run, peer, bytes });
                    return Ok(());
                }
                self.drained(from, to, bytes.len())?;
                let message = Message::decode(bytes).map_err(|error| error.to_string())?;
                self.input(to, run, Input::Message { peer, message })
            }
            What::Do { device, run, job } => {
                if self.devices[device].run != run {
                    return Ok(());
                }
                let disk = Arc::clone(&self.devices[device].disk);
                let done = jobs::run(&*disk, job);
                if disk.has_no_power() {
                    return self.crash(device);
                }
                let delay = self.rng.below(3);
                self.at(self.now + delay, What::Done { device, run, done });
                Ok(())
            }
            What::Done { device, run, done } => self.input(device, run, Input::Done(done)),
            What::Hints { device, run, paths } => self.input(device, run, Input::Hints(paths)),
            What::Wake { device, run } => {
                self.devices[device].wake = u64::MAX;
                self.input(device, run, Input::Tick)
            }
            What::Edit { device, edit } => {
                self.edit(device, &edit);
                Ok(())
            }
            What::Connect { a, b } => {
                self.wanted_links.insert((a, b));
                self.connect(a, b)
            }
            What::Disconnect { a, b } => {
                self.wanted_links.remove(&(a, b));
                self.disconnect(a, b)
            }
            What::Stop { device } => self.stop(device),
            What::Start { device } => self.start(device),
        }
    }

    pub(crate) fn edit(&mut self, number: usize, edit: &Edit) -> bool {
        let device = &self.devices[number];
        let outcome = edit.carry_out(&device.disk, &mut self.written);
        let line = format!(
            "{number} edits: {edit}: {}",
            if outcome.is_some() { "done" } else { "cannot" }
        );
        self.note(&line);
        let Some(paths) = outcome else { return false };
        // Events come only from directories that are watched, as from inotify.
        let device = &self.devices[number];
        let run = device.run;
        let seen = paths
            .into_iter()
            .filter(|path| path.parent().is_some_and(|dir| device.watched.contains(&dir)));
        let paths: Vec<_> = seen.collect();
        if device.engine.is_some() && !paths.is_empty() {
            let delay = self.rng.below(4);
            self.at(self.now + delay, What::Hints { device: number, run, paths });
        }
        true
    }

    pub(crate) fn start(&mut self, number: usize) -> Result<(), String> {
        if self.devices[number].engine.is_some() {
            return Ok(());
        }
        self.note(&format!("{number} starts"));
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.rng.next().to_le_bytes());
        let mut id = [0; 32];
        id[0] = u8::try_from(number).unwrap_or(u8::MAX);
        let options = Options {
            ignore: self.devices[number].ignore.clone(),
            max_transfers: 2,
            seed,
            binding: self.devices[number].binding.clone(),
        };
        let index = MemIndex::open(&self.devices[number].store);
        let engine = Engine::open(index, SimAuthority(DeviceId(id)), options)
            .map_err(|error| error.to_string())?;
        let device = &mut self.devices[number];
        device.run += 1;
        device.engine = Some(engine);
        device.wake = u64::MAX;
        device.watched.clear();
        let run = device.run;
        self.input(number, run, Input::Start)?;
        for (a, b) in self.wanted_links.clone() {
            if a == number || b == number {
                self.connect(a, b)?;
            }
        }
        Ok(())
    }

    pub(crate) fn stop(&mut self, number: usize) -> Result<(), String> {
        if self.devices[number].engine.is_none() {
            return Ok(());
        }
        self.note(&format!("{number} stops"));
        let linked: Vec<_> =
            self.links.keys().copied().filter(|(a, b)| *a == number || *b == number).collect();
        for (a, b) in linked {
            self.disconnect(a, b)?;
        }
        let device = &mut self.devices[number];
        if let Some(mut engine) = device.engine.take() {
            engine.commit().map_err(|error| error.to_string())?;
        }
        device.run += 1;
        device.in_sync = false;
        Ok(())
    }

    /// The machine loses its power: nothing is finished or committed.
    pub(crate) fn crash(&mut self, number: usize) -> Result<(), String> {
        self.note(&format!("{number} crashes"));
        self.devices[number].engine = None;
        self.devices[number].run += 1;
        self.devices[number].in_sync = false;
        let linked: Vec<_> =
            self.links.keys().copied().filter(|(a, b)| *a == number || *b == number).collect();
        for (a, b) in linked {
            self.disconnect(a, b)?;
        }
        Ok(())
    }

    /// Something arrived, so that more may be sent.
    fn drained(&mut self, from: usize, to: usize, bytes: usize) -> Result<(), String> {
        let queued = self.queued.entry((from, to)).or_default();
        let before = *queued;
        *queued = queued.saturating_sub(bytes);
        if before < TELL_QUEUED {
            return Ok(());
        }
        let run = self.devices[from].run;
        self.input(from, run, Input::Tick)
    }

    /// What the receiver did not read arrives now.
    pub(crate) fn read_again(&mut self, from: usize, to: usize) {
        self.stalled.remove(&(from, to));
        let (now, later) = std::mem::take(&mut self.held_back).into_iter().partition(
            |what| matches!(what, What::Deliver { from: f, to: t, .. } if (*f, *t) == (from, to)),
        );
        self.held_back = later;
        let now: Vec<_> = now;
        for what in now {
            self.at(self.now, what);
        }
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) -> Result<(), String> {
        let up = |number: usize| self.devices[number].engine.is_some();
        if a == b || self.links.contains_key(&(a, b)) || !up(a) || !up(b) {
            return Ok(());
        }
        self.note(&format!("{a} and {b} are linked"));
        let ends = [a, b].map(|number| {
            self.next_peer += 1;
            (number, PeerId(self.next_peer))
        });
        self.links.insert((a, b), Link { ends });
        for ((number, peer), other) in ends.into_iter().zip([b, a]) {
            let run = self.devices[number].run;
            self.input(number, run, Input::PeerUp { peer, name: format!("device {other}") })?;
        }
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, a: usize, b: usize) -> Result<(), String> {
        let Some(link) = self.links.remove(&(a, b)) else { return Ok(()) };
        self.note(&format!("{a} and {b} are cut"));
        for (number, peer) in link.ends {
            let run = self.devices[number].run;
            self.queued.retain(|(from, _), _| *from != number);
            self.input(number, run, Input::PeerDown { peer })?;
        }
        Ok(())
    }

    pub(crate) fn input(&mut self, number: usize, run: u32, input: Input) -> Result<(), String> {
        let clock = self.clock();
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
        let effects = engine.handle(clock, input).map_err(|error| error.to_string())?;
        let wake = engine.next_wake();
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
            Effect::Send { peer, message } => {
                let Some((to, to_peer)) = self.other_end(number, peer) else { return Ok(()) };
                if self.verbose {
                    self.note(&format!("{number} -> {to}: {}", describe(&message)));
                }
                let slow = self.rng.one_in(8);
                let delay = 1 + self.rng.below(if slow { 40 } else { 4 });
                let at = self.arrival.entry((number, to)).or_default();
                *at = (self.now + delay).max(*at);
                let (at, run) = (*at, self.devices[to].run);
                let bytes = message.encode();
                self.trace.update(&bytes);
                *self.queued.entry((number, to)).or_default() += bytes.len();
                if let Some(sent) = &mut self.sent {
                    sent.push(Sent { time: self.now, from: number, to, message });
                }
                self.at(at, What::Deliver { from: number, to, run, peer: to_peer, bytes });
            }
            Effect::Disconnect { reason, .. } => {
                return Err(format!("device {number} ended a link: {reason}"));
            }
            Effect::Job(job) => {
                let delay = self.rng.below(4);
                self.at(self.now + delay, What::Do { device: number, run, job });
            }
            Effect::Watch(dir) => {
                self.devices[number].watched.insert(dir);
            }
            Effect::Event(event) => {
                self.note(&format!("{number}: {event:?}"));
                self.devices[number].events.push((self.now, event.clone()));
                match event {
                    Event::InSync { .. } => self.devices[number].in_sync = true,
                    Event::Conflict { .. } => self.devices[number].conflicts += 1,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn other_end(&self, number: usize, peer: PeerId) -> Option<(usize, PeerId)> {
        self.links.values().find_map(|link| {
            let [one, two] = link.ends;
            match (number, peer) {
                end if end == one => Some(two),
                end if end == two => Some(one),
                _ => None,
            }
        })
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

    /// True if every device is settled, and all that are linked hold equal records.
    pub(crate) fn has_converged(&mut self) -> bool {
        let mut roots = Vec::new();
        for device in &mut self.devices {
            let Some(engine) = &mut device.engine else { return false };
            if !engine.is_settled() {
                return false;
            }
            roots.push(folder::index::Index::fingerprint(engine.index(), 0, 0));
        }
        roots.windows(2).all(|pair| pair[0] == pair[1])
    }
}

fn describe(message: &Message) -> String {
    let mut text = format!("{message:?}");
    let mut cut = text.len().min(180);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    text.truncate(cut);
    text
}

#[allow(clippy::print_stdout, reason = "a history is what was asked for")]
fn anstream_print(line: &str) {
    println!("{line}");
}
