//! An engine alone with a test that speaks for its only peer.

use std::sync::Arc;

use bytes::Bytes;
use folder::{
    Engine, Now, PeerId,
    brake::Limit,
    engine::{Authority, Effect, Event, Input, Mode, Options},
    history::Limits,
    ignore::Ignore,
    index::{Index as _, MemIndex, MemStore},
    jobs,
};
use identity::DeviceId;
use sim::disk::VirtualDisk;
use wire::{
    Hash, RelPath,
    record::{BatchScope, Body, Record, SignedRecord, batch_digest, merkle_root},
    sync::{Batch, Fingerprint, Message, Piece, PieceData},
    version::{Dot, ReplicaId, VersionVector},
};

pub(super) const US: DeviceId = DeviceId([1; 32]);
pub(super) const MEMBER: DeviceId = DeviceId([2; 32]);
pub(super) const STRANGER: DeviceId = DeviceId([3; 32]);
/// Writes, as [`MEMBER`] does.
pub(super) const OTHER: DeviceId = DeviceId([5; 32]);
pub(super) const PEER: PeerId = PeerId(1);
pub(super) const THEIR_REPLICA: ReplicaId = ReplicaId(77);

/// Reads, in a group.
pub(super) const READER: DeviceId = DeviceId([4; 32]);

/// Who may do what: of a session, or of a group in which a third device reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Members {
    Session,
    /// As seen by the device with this key.
    Group(DeviceId),
}

pub(super) fn signature(author: &DeviceId, digest: &Hash) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32]
        .copy_from_slice(&Hash::derived("a test's signature", &[&author.0, &digest.0]).0);
    signature
}

pub(super) fn scope() -> BatchScope {
    BatchScope { group: Hash([7; 32]), folder: Hash([8; 32]) }
}

impl Authority for Members {
    fn device(&self) -> DeviceId {
        match self {
            Self::Session => US,
            Self::Group(us) => *us,
        }
    }

    fn scope(&self) -> BatchScope {
        scope()
    }

    fn sign(&self, digest: &Hash) -> [u8; 64] {
        signature(&self.device(), digest)
    }

    fn verify(&self, author: &DeviceId, digest: &Hash, given: &[u8; 64]) -> bool {
        self.may_write(author) && signature(author, digest) == *given
    }

    fn may_write(&self, device: &DeviceId) -> bool {
        [self.device(), MEMBER, OTHER].contains(device)
    }

    fn is_member(&self, device: &DeviceId) -> bool {
        self.may_write(device) || *device == READER
    }

    fn has_signed(&self, author: &DeviceId, digest: &Hash, given: &[u8; 64]) -> bool {
        signature(author, digest) == *given
    }

    fn lasts(&self) -> bool {
        *self != Self::Session
    }
}

/// One engine over a virtual disk, whose only peer is the test.
pub(super) struct Lone {
    pub(super) engine: Engine<MemIndex, Members>,
    /// The link of now.
    pub(super) peer: PeerId,
    pub(super) disk: Arc<VirtualDisk>,
    pub(super) now: u64,
    /// Messages sent to the peer since they were last taken.
    pub(super) sent: Vec<Message>,
    pub(super) events: Vec<Event>,
    /// Why the link was ended, if it was.
    pub(super) ended: Option<String>,
    /// True while what an interrupted run left is still being looked through.
    pub(super) recovers: bool,
    /// The job that does so.
    recovery: Option<jobs::Job>,
    /// True while the engine is not told of what was applied.
    pub(super) is_slow: bool,
    /// That.
    applied: Vec<jobs::Done>,
}

impl Lone {
    /// A device that has looked at its disk and whose peer is linked, but has not spoken.
    pub(super) fn silent(prepare: impl FnOnce(&VirtualDisk)) -> Self {
        let mut lone = Self::starting(prepare);
        lone.link();
        lone
    }

    /// Has it look at its disk, and links the peer.
    pub(super) fn link(&mut self) {
        self.recover();
        self.pass(1_000);
        let (peer, name) = (self.peer, "mallory".to_owned());
        self.input(Input::PeerUp { peer, name, device: None });
    }

    /// In a group: the link that was is gone, and one to this device is up, which says hello with a replica.
    pub(super) fn link_with(&mut self, device: DeviceId, replica: ReplicaId) {
        self.recover();
        self.pass(1_000);
        self.input(Input::PeerDown { peer: self.peer });
        self.peer = PeerId(self.peer.0 + 1);
        (self.ended, self.sent) = (None, Vec::new());
        let (peer, name) = (self.peer, "mallory".to_owned());
        self.input(Input::PeerUp { peer, name, device: Some(device) });
        self.tell(Message::Hello { replica });
    }

    /// A device that has begun to look through what an interrupted run left.
    pub(super) fn starting(prepare: impl FnOnce(&VirtualDisk)) -> Self {
        Self::with_index(&MemStore::new(), prepare)
    }

    /// The same with an index.
    pub(super) fn with_index(index: &MemStore, prepare: impl FnOnce(&VirtualDisk)) -> Self {
        Self::among(Members::Session, index, prepare)
    }

    /// A device of a group, or of a session.
    pub(super) fn among(
        members: Members,
        index: &MemStore,
        prepare: impl FnOnce(&VirtualDisk),
    ) -> Self {
        let disk = Arc::new(VirtualDisk::new());
        prepare(&disk);
        let options = Options {
            ignore: Ignore::none(),
            max_transfers: 2,
            max_group: 2048,
            noted_at_once: 128,
            seed: [members.device().0[0] + 4; 32],
            binding: vec![1],
            boot: Vec::new(),
            brake: Limit::OFF,
            accept_deletes: false,
            history: Limits::default(),
            mode: Mode::Both,
            folds_names: false,
            forget_deletions: true,
        };
        let engine = Engine::open(MemIndex::open(index), members, options).expect("open");
        let mut lone = Self {
            engine,
            peer: PEER,
            disk,
            now: 1_000,
            sent: Vec::new(),
            events: Vec::new(),
            ended: None,
            recovers: true,
            recovery: None,
            is_slow: false,
            applied: Vec::new(),
        };
        lone.input(Input::Start);
        lone
    }

    /// Has it done with that.
    pub(super) fn recover(&mut self) {
        self.recovers = false;
        let done = self.recovery.take().map(|job| jobs::run(&*self.disk, job));
        done.into_iter().for_each(|done| self.input(Input::Done(done)));
    }

    /// Tells it of what was applied.
    pub(super) fn catch_up(&mut self) {
        self.is_slow = false;
        let applied = std::mem::take(&mut self.applied);
        applied.into_iter().for_each(|done| self.input(Input::Done(done)));
    }

    /// As [`Self::silent`], and the peer has said hello.
    pub(super) fn with(prepare: impl FnOnce(&VirtualDisk)) -> Self {
        let mut lone = Self::silent(prepare);
        lone.hello();
        lone
    }

    /// The peer says hello.
    pub(super) fn hello(&mut self) {
        self.tell(Message::Hello { replica: THEIR_REPLICA });
        let replica = self.engine.replica();
        self.tell(Message::Known { replica, counter: 0, hash: Hash::default() });
        self.sent.clear();
    }

    pub(super) fn input(&mut self, input: Input) {
        let now = Now { ms: self.now, wall: i64::try_from(self.now).expect("small") * 1_000_000 };
        self.disk.set_now(now.wall / 1_000_000);
        let effects = self.engine.handle(now, input).expect("the engine goes on");
        for effect in effects {
            match effect {
                Effect::Send { message, .. } => self.sent.push(message),
                Effect::Disconnect { reason, .. } => self.ended = Some(reason),
                Effect::Job(job @ jobs::Job::Recover { .. }) if self.recovers => {
                    self.recovery = Some(job);
                }
                Effect::Job(job) => {
                    let is_slow = self.is_slow && matches!(job, jobs::Job::Apply { .. });
                    let done = jobs::run(&*self.disk, job);
                    if is_slow {
                        self.applied.push(done);
                    } else {
                        self.input(Input::Done(done));
                    }
                }
                Effect::Event(event) => self.events.push(event),
                Effect::Watch(_) => {}
            }
        }
    }

    pub(super) fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        for _ in 0..10_000 {
            let wake = self.engine.next_wake();
            if wake > end {
                break;
            }
            self.now = self.now.max(wake);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    /// The peer says something that is well-formed.
    #[allow(clippy::needless_pass_by_value, reason = "reads better where it is called")]
    pub(super) fn tell(&mut self, message: Message) {
        let message = Message::decode(message.encode()).expect("well-formed");
        self.input(Input::Message { peer: self.peer, message });
        self.pass(50);
    }

    /// The peer pushes records, as a member.
    pub(super) fn push(&mut self, records: Vec<SignedRecord>) {
        let batch = signed(MEMBER, records);
        self.tell(Message::Records {
            request: 0,
            mark: 1,
            batches: vec![batch],
            inline: Vec::new(),
        });
    }

    pub(super) fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.sent)
    }

    /// The pieces asked for since the last time, with their request.
    pub(super) fn asked(&mut self) -> Vec<(u32, Vec<Piece>)> {
        let gets = self.take().into_iter().filter_map(|message| match message {
            Message::Get { request, pieces } => Some((request, pieces)),
            _ => None,
        });
        gets.collect()
    }

    pub(super) fn text(&self, path: &str) -> Option<Vec<u8>> {
        self.disk.contents(path).map(|contents| contents.to_vec())
    }

    #[track_caller]
    pub(super) fn assert_untouched(&mut self) {
        assert!(self.disk.snapshot().is_empty(), "{:?}", self.disk.snapshot());
        assert_eq!(self.engine.index().fingerprint(0, 0), Fingerprint::default());
    }
}

pub(super) fn path(path: &str) -> RelPath {
    RelPath::parse(path).expect("a path")
}

pub(super) fn record(at: &str, body: Body, counter: u64) -> SignedRecord {
    let dot = Dot { replica: THEIR_REPLICA, counter };
    let mut version = VersionVector::new();
    version.add(dot);
    Record {
        path: path(at),
        body,
        mode: 0o644,
        mtime: 5,
        version,
        dot,
        content_dot: dot,
        superseded: Vec::new(),
        found: false,
    }
    .seal()
}

pub(super) fn file(at: &str, contents: &[u8], counter: u64) -> SignedRecord {
    let body = Body::File { size: contents.len() as u64, content: Hash::of(contents) };
    record(at, body, counter)
}

pub(super) fn signed(author: DeviceId, records: Vec<SignedRecord>) -> Batch {
    let leaves: Vec<_> = records.iter().map(|record| record.hash).collect();
    let digest = batch_digest(&scope(), &author, leaves.len(), &merkle_root(&leaves));
    Batch { author, signature: signature(&author, &digest), records, proof: None }
}

pub(super) fn piece(bytes: &[u8]) -> Option<PieceData> {
    let len = u32::try_from(bytes.len()).expect("small");
    Some(PieceData { zstd: false, len, bytes: Bytes::copy_from_slice(bytes) })
}
