//! One folder of a running device: the thread that owns the engine, the threads that do its jobs, the
//! watcher, and the links of its peers.
//!
//! The engine's thread never waits for a link or a disk: what it sends is queued by the link, which is
//! bounded by the engine's windows, and what it wants done goes to the pool. What comes in is bounded at
//! its source: messages by each link's budget, results by the jobs under way, hints by the watcher.

mod authority;
mod channel;
mod place;
mod pool;
mod telling;
mod waiting;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use folder::{
    Engine, EngineError, Now, PeerId,
    engine::{Effect, Input, Options},
    ignore::Ignore,
    index::{Index as _, IndexError, SqliteIndex},
    jobs::Done,
};
use identity::DeviceId;
use tokio::sync::{mpsc as events, oneshot};
use tree::{Disk, Hint, Root, WatchError, Watcher};
use wire::{RelPath, session::Farewell, sync::Message};

use crate::{Event, QuestionId, event::QuestionIds, ignores, line::Incoming};
pub(crate) use authority::FolderAuthority;
pub(crate) use channel::{FolderLink, FolderSender};
use pool::Pool;
use waiting::{Recipe, Waiting};

/// Inputs dealt with between two looks at the clock.
const AT_ONCE: usize = 256;
/// Where changes cannot be watched, the folder is looked through this often.
const UNWATCHED_RESCAN: Duration = Duration::from_secs(10);

/// Paths that were changed here and are not shared, of which is told.
const MAX_LOCAL: usize = 1_000;

/// The engine of a folder.
pub(crate) type FolderEngine = Engine<SqliteIndex, FolderAuthority>;
/// Something that is asked of it on its thread.
type Question = Box<dyn FnOnce(&mut FolderEngine) + Send>;

/// What the engine's thread is told.
enum ToHost {
    PeerUp {
        peer: PeerId,
        name: String,
        device: Option<DeviceId>,
        out: FolderSender,
    },
    PeerDown {
        peer: PeerId,
    },
    Message {
        peer: PeerId,
        incoming: Incoming,
    },
    Done(Done),
    Answer {
        question: QuestionId,
        yes: bool,
    },
    AcceptDeletes,
    Input(Box<Input>),
    Ask(Question),
    /// The watcher has hints, or a link has room again.
    Wake,
    Stop(oneshot::Sender<()>),
}

/// The folder of a running device.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    to: Sender<ToHost>,
    glance: Arc<Mutex<Glance>>,
    root: Arc<Root>,
}

/// How a folder is doing, as of the last time that nothing waited to be dealt with.
#[derive(Clone, Default, Debug)]
pub(crate) struct Glance {
    /// Files, links and directories on this disk.
    pub(crate) files: u64,
    /// Their size in bytes.
    pub(crate) bytes: u64,
    /// Conflict copies among them.
    pub(crate) conflicts: u64,
    /// True if everything known is applied, and the disk has been looked at.
    pub(crate) settled: bool,
    /// The first of the paths that were changed here and are not shared.
    pub(crate) local: Arc<[RelPath]>,
    /// Which of the engine's sets of them that is.
    local_turn: Option<u64>,
}

impl Host {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the index fails or no thread can be started.
    pub(crate) fn start(
        root: Root,
        index: SqliteIndex,
        authority: FolderAuthority,
        options: Options,
        (excludes, questions): (Vec<String>, QuestionIds),
        events: events::Sender<Event>,
    ) -> Result<Self, EngineError> {
        let (to, from) = mpsc::channel();
        let root = Arc::new(root);
        let door = Arc::clone(&root);
        // Who agreed to deletions did so before the disk failed: what is missing then is asked about (rule E19).
        let again = Options { accept_deletes: false, ..options.clone() };
        let recipe = Recipe { authority: authority.clone(), options: again };
        let engine = Engine::open(index, authority, options)?;
        let glance = Arc::new(Mutex::new(Glance::default()));
        let mut running = Running {
            engine: Some(engine),
            recipe,
            waiting: Waiting::default(),
            glance: Arc::clone(&glance),
            root,
            excludes,
            questions,
            brake: None,
            events,
            from,
            to: to.clone(),
            links: HashMap::new(),
            pool: None,
            watcher: None,
            unwatched: None,
            place: place::Place::default(),
            jobs: 0,
            begun: Instant::now(),
            stopping: None,
            dead: false,
        };
        let spawned = thread::Builder::new().name("kin-engine".to_owned()).spawn(move || {
            let stopped = running.run();
            // Who asked for the end may open the folder again at once: it is let go first.
            drop(running);
            if let Some(stopped) = stopped {
                let _ = stopped.send(());
            }
        });
        if let Err(error) = spawned {
            return Err(IndexError::Disk(format!("no thread: {error}")).into());
        }
        Ok(Self { to, glance, root: door })
    }

    /// A member's link is up: its messages go to the engine from now on.
    pub(crate) fn peer_up(&self, peer: PeerId, link: FolderLink) {
        let FolderLink { name, device, out, mut input } = link;
        let wake = self.to.clone();
        out.on_low_water(move || {
            let _ = wake.send(ToHost::Wake);
        });
        let _ = self.to.send(ToHost::PeerUp { peer, name, device, out });
        let to = self.to.clone();
        tokio::spawn(async move {
            while let Some(incoming) = input.recv().await {
                if to.send(ToHost::Message { peer, incoming }).is_err() {
                    break;
                }
            }
        });
    }

    /// How the folder is doing.
    pub(crate) fn glance(&self) -> Glance {
        self.glance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Members or roles have changed; the authority answers by the new ones already.
    pub(crate) fn members_changed(&self) {
        self.tell(Input::MembersChanged);
    }

    /// Tells the engine what a person wants of it.
    pub(crate) fn tell(&self, input: Input) {
        let _ = self.to.send(ToHost::Input(Box::new(input)));
    }

    /// Asks the engine, between two of its steps.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut FolderEngine) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, answer) = oneshot::channel();
        let question: Question = Box::new(move |engine| {
            // Whoever asked may have gone.
            let _ = done.send(question(engine));
        });
        let _ = self.to.send(ToHost::Ask(question));
        answer
    }

    /// The folder's door to the disk.
    pub(crate) fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// Agrees to the deletions that are held, if some are.
    pub(crate) fn accept_deletes(&self) {
        let _ = self.to.send(ToHost::AcceptDeletes);
    }

    /// The link is gone.
    pub(crate) fn peer_down(&self, peer: PeerId) {
        let _ = self.to.send(ToHost::PeerDown { peer });
    }

    /// Answers a question about deletions.
    pub(crate) fn answer(&self, question: QuestionId, yes: bool) {
        let _ = self.to.send(ToHost::Answer { question, yes });
    }

    /// Finishes or rolls back what is under way and makes the index durable.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.to.send(ToHost::Stop(done)).is_ok() {
            let _ = stopped.await;
        }
    }
}

struct Running {
    /// `None` while its index cannot be written.
    engine: Option<FolderEngine>,
    /// What the next one is made of.
    recipe: Recipe,
    waiting: Waiting,
    glance: Arc<Mutex<Glance>>,
    root: Arc<Root>,
    excludes: Vec<String>,
    questions: QuestionIds,
    /// The open question about deletions, and the engine's number for it.
    brake: Option<(QuestionId, u32)>,
    events: events::Sender<Event>,
    from: Receiver<ToHost>,
    to: Sender<ToHost>,
    links: HashMap<PeerId, FolderSender>,
    pool: Option<Pool>,
    watcher: Option<Watcher>,
    /// When the folder is next looked through because it cannot be watched.
    unwatched: Option<Instant>,
    place: place::Place,
    jobs: usize,
    begun: Instant,
    stopping: Option<oneshot::Sender<()>>,
    /// The engine cannot go on; only stopping is left.
    dead: bool,
}

impl Running {
    /// Works until it is told to stop; returns whom to tell that it has.
    fn run(&mut self) -> Option<oneshot::Sender<()>> {
        if let Err(reason) = self.begin() {
            self.die("io", &reason, "check the folder and start again");
        }
        while !self.is_over() {
            let first = match self.from.recv_timeout(self.patience()) {
                Ok(told) => Some(told),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.turn(first);
        }
        self.end();
        self.stopping.take()
    }

    fn begin(&mut self) -> Result<(), String> {
        let to = self.to.clone();
        let disk: Arc<dyn Disk> = Arc::clone(&self.root) as Arc<dyn Disk>;
        let pool = Pool::start(&disk, move |done| {
            let _ = to.send(ToHost::Done(done));
        });
        self.pool = Some(pool.map_err(|error| format!("no thread can be started: {error}"))?);
        self.start();
        Ok(())
    }

    /// Begins with a look at everything.
    fn start(&mut self) {
        self.watcher = None;
        let to = self.to.clone();
        match Watcher::start(self.root.path(), move || {
            let _ = to.send(ToHost::Wake);
        }) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => self.not_watched(&error),
        }
        self.input(Input::Start);
    }

    /// Everything that waits, as far as is good for one turn.
    fn turn(&mut self, first: Option<ToHost>) {
        self.tell_queues();
        self.look_at_place(first.as_ref());
        match first {
            Some(told) => self.told(told),
            None => self.input(Input::Tick),
        }
        for _ in 0..AT_ONCE {
            let Ok(told) = self.from.try_recv() else { break };
            self.told(told);
        }
        if self.unwatched.is_some_and(|at| at <= Instant::now()) {
            self.unwatched = Some(Instant::now() + UNWATCHED_RESCAN);
            self.input(Input::Overflow);
        }
        self.try_again();
        let mut glance = self.glance.lock().unwrap_or_else(PoisonError::into_inner);
        glance.settled = false;
        let Some(engine) = &mut self.engine else {
            // The next engine counts anew.
            glance.local_turn = None;
            return;
        };
        let totals = engine.index().totals();
        let (files, settled) = (totals.files + totals.dirs, engine.is_settled());
        let conflicts = engine.conflict_count();
        (glance.files, glance.bytes) = (files, totals.bytes);
        (glance.conflicts, glance.settled) = (conflicts, settled);
        if glance.local_turn != Some(engine.local_turn()) {
            glance.local = engine.local_paths().take(MAX_LOCAL).cloned().collect();
            glance.local_turn = Some(engine.local_turn());
        }
        drop(glance);
        if settled {
            self.is_written();
        }
    }

    fn patience(&self) -> Duration {
        let now = self.now().ms;
        let Some(engine) = &self.engine else { return self.waiting.patience(self.jobs) };
        let until = Duration::from_millis(engine.next_wake().saturating_sub(now));
        let unwatched = self.unwatched.map(|at| at.saturating_duration_since(Instant::now()));
        // A turn now and then costs nothing and forgives a clock that stood still.
        until.min(unwatched.unwrap_or(Duration::MAX)).min(place::EVERY)
    }

    fn now(&self) -> Now {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { ms, wall: i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX) }
    }

    fn tell_queues(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        for (peer, link) in &self.links {
            let queued = usize::try_from(link.queued_bytes()).unwrap_or(usize::MAX);
            engine.set_queued(*peer, queued);
        }
    }

    fn told(&mut self, told: ToHost) {
        let Some(told) = self.hold_back(told) else { return };
        match told {
            ToHost::PeerUp { peer, name, device, out } => {
                self.links.insert(peer, out);
                self.input(Input::PeerUp { peer, name, device });
            }
            ToHost::PeerDown { peer } => {
                self.links.remove(&peer);
                self.input(Input::PeerDown { peer });
            }
            ToHost::Message { peer, incoming } => {
                let Incoming { payload, permit } = incoming;
                match Message::decode(payload) {
                    Ok(message) => self.input(Input::Message { peer, message }),
                    Err(error) => self.hang_up(peer, &error.to_string()),
                }
                drop(permit);
            }
            ToHost::Done(done) => {
                self.jobs -= 1;
                self.input(Input::Done(done));
            }
            ToHost::Answer { question, yes } => {
                // After a no they stay held, and files that come back or another start lift that.
                let asked = self.brake.take_if(|(open, _)| yes && *open == question);
                if let Some((_, id)) = asked {
                    self.input(Input::AcceptDeletes { id });
                }
            }
            ToHost::AcceptDeletes => {
                if let Some((question, id)) = self.brake.take() {
                    self.input(Input::AcceptDeletes { id });
                    let reason = "a person agreed".to_owned();
                    self.event(Event::ConfirmWithdrawn { id: question, reason });
                }
            }
            ToHost::Input(input) => self.input(*input),
            ToHost::Ask(question) => {
                if let Some(engine) = self.engine.as_mut().filter(|_| !self.dead) {
                    question(engine);
                }
            }
            ToHost::Wake => self.take_hints(),
            ToHost::Stop(done) => {
                if let Some(engine) = &mut self.engine {
                    engine.stop();
                }
                self.stopping = Some(done);
            }
        }
    }

    fn take_hints(&mut self) {
        let Some(watcher) = &self.watcher else { return self.input(Input::Tick) };
        let mut changed = Vec::new();
        let (mut overflow, mut gone, mut patterns) = (false, false, false);
        for hint in watcher.take() {
            match hint {
                Hint::Changed(path) if ignores::is_ignore_file(&path) => patterns = true,
                Hint::Changed(path) => changed.push(path),
                Hint::Overflow => overflow = true,
                Hint::RootGone => gone = true,
            }
        }
        if gone && self.is_gone() {
            return;
        }
        if patterns {
            self.reload_ignores();
        }
        if overflow {
            self.input(Input::Overflow);
        }
        self.input(Input::Hints(changed));
    }

    /// Rule E11: patterns are in force as soon as they are saved.
    fn reload_ignores(&mut self) {
        let (ignore, problems) = ignores::load(&self.root, &self.excludes);
        for problem in problems {
            self.event(problem);
        }
        if let Some(ignore) = ignore {
            self.set_ignore(ignore);
        }
    }

    fn set_ignore(&mut self, ignore: Ignore) {
        self.recipe.options.ignore = ignore.clone();
        if let Some(engine) = &mut self.engine {
            engine.set_ignore(ignore);
        }
        self.input(Input::Overflow);
    }

    fn input(&mut self, input: Input) {
        if self.dead {
            return;
        }
        let now = self.now();
        let Some(engine) = &mut self.engine else { return };
        match engine.handle(now, input) {
            Ok(effects) => {
                for effect in effects {
                    self.effect(effect);
                }
            }
            Err(error) => self.engine_failed(&error),
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send { peer, message } => {
                if let Some(link) = self.links.get(&peer) {
                    // A link that is gone says so by its end.
                    link.send(message.payload());
                }
            }
            Effect::Disconnect { peer, reason } => self.hang_up(peer, &reason),
            Effect::Job(job) => {
                if self.stopping.is_none()
                    && self.engine.is_some()
                    && let Some(pool) = &self.pool
                {
                    self.jobs += 1;
                    pool.run(job);
                }
            }
            Effect::Watch(dir) => self.watch(&dir),
            Effect::Event(event) => self.engine_event(event),
        }
    }

    fn watch(&mut self, dir: &RelPath) {
        let Some(watcher) = &self.watcher else { return };
        match watcher.watch_dir(dir) {
            Ok(()) => {}
            // It is gone again; its parent's listing says so. The folder itself has none.
            Err(WatchError::Vanished(_)) if !dir.is_root() => {}
            Err(WatchError::Vanished(_)) if self.is_gone() => {}
            Err(error) => self.not_watched(&error),
        }
    }

    fn not_watched(&mut self, error: &WatchError) {
        if self.unwatched.is_none() {
            self.unwatched = Some(Instant::now() + UNWATCHED_RESCAN);
            let message = format!("changes in part of the folder are noticed late: {error}");
            let hint = "it is looked through every 10 seconds instead".to_owned();
            self.event(Event::Error { kind: "watch", message, hint });
        }
    }

    /// Ends the link of a peer that broke the protocol.
    fn hang_up(&mut self, peer: PeerId, reason: &str) {
        if let Some(link) = self.links.remove(&peer) {
            link.close(Farewell::Protocol);
            let message = format!("a peer's link was ended: it {reason}");
            let hint = "check that both devices run the same version of kin".to_owned();
            self.event(Event::Error { kind: "protocol", message, hint });
            self.input(Input::PeerDown { peer });
        }
    }

    fn event(&self, event: Event) {
        // If nobody listens any more, the device is being stopped.
        let _ = self.events.blocking_send(event);
    }

    fn die(&mut self, kind: &'static str, message: &str, hint: &str) {
        self.dead = true;
        // Nobody is to wait for a device that answers nothing any more.
        for (_, link) in self.links.drain() {
            link.close(Farewell::Stopping);
        }
        let (message, hint) = (message.to_owned(), hint.to_owned());
        self.event(Event::Error { kind, message, hint });
    }

    /// Stopping waits for what is under way: a group that was begun is finished, nothing is begun. An engine
    /// that cannot go on stops by itself.
    fn is_over(&self) -> bool {
        (self.stopping.is_some() || self.dead) && self.jobs == 0
    }

    fn end(&mut self) {
        // What is on the disk is noted in the index.
        self.input(Input::Tick);
        // So that a loss of power from now on takes nothing that others were told of.
        let is_durable = !self.dead && !self.is_gone() && self.root.sync_all().is_ok();
        if let Some(engine) = self.engine.as_mut().filter(|_| !self.dead) {
            if is_durable {
                engine.tree_is_durable();
            }
            match engine.commit() {
                Ok(()) => self.input(Input::Tick),
                Err(error) => tracing::error!(%error, "the index could not be written at the end"),
            }
        }
        self.watcher = None;
        if let Some(pool) = self.pool.take() {
            pool.join();
        }
        if self.dead && self.stopping.is_none() {
            // Nobody is to wait for what cannot come any more.
            self.event(Event::Stopped);
        }
    }
}
