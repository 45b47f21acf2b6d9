//! What waits to be written to one link.
//!
//! Sending never blocks: whoever produces frames looks at [`FrameSender::queued_bytes`] and is told
//! when the queue has run low (rule E22). Session messages overtake folder frames; a last message is
//! written after everything else, and then the link is closed.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use link::{LinkError, LinkWriter};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use wire::{
    frame::{Channel, HEADER_LEN, Payload},
    session::{Farewell, Message},
};

use super::ALIVE_AFTER;

/// Below this many queued bytes the producer is told to go on.
pub(crate) const LOW_WATER: u64 = 4 * 1024 * 1024;
/// Bytes taken out of the queue at once.
const BATCH: usize = 1024 * 1024;
/// Frames taken out of the queue at once.
const FRAMES: usize = 1024;
/// How long a closing link may take to write what is left.
const CLOSING: Duration = Duration::from_secs(3);

/// The sending end of a link. Clones send to the same link.
#[derive(Clone)]
pub(crate) struct FrameSender(Arc<Outbox>);

impl fmt::Debug for FrameSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameSender({} bytes queued)", self.queued_bytes())
    }
}

/// What is called when a queue has run low.
type LowWater = Box<dyn Fn() + Send + Sync>;

struct Outbox {
    queue: Mutex<Queue>,
    /// Bytes queued or being written, with their headers.
    queued: AtomicU64,
    state: watch::Sender<State>,
    /// For the writer: there is something to do.
    work: Notify,
    low: Mutex<Vec<LowWater>>,
}

#[derive(Default)]
struct Queue {
    session: VecDeque<Payload>,
    folder: VecDeque<(u8, Payload)>,
    last: Option<Message>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// Nothing is taken in any more.
    Closing,
    /// The link is gone; nothing is written any more.
    Dead,
}

enum Work {
    Frames(Vec<(Channel, Payload)>),
    Last(Option<Message>),
}

impl FrameSender {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Outbox {
            queue: Mutex::default(),
            queued: AtomicU64::new(0),
            state: watch::Sender::new(State::Open),
            work: Notify::new(),
            low: Mutex::default(),
        }))
    }

    /// Queues a payload of at most [`wire::frame::MAX_FRAME`] bytes. Never blocks. False if the link
    /// is closing or gone, and the payload with it.
    pub(crate) fn send(&self, channel: Channel, payload: impl Into<Payload>) -> bool {
        let payload = payload.into();
        let mut queue = self.0.lock();
        // Looked at under the lock, under which it also changes.
        if *self.0.state.borrow() != State::Open {
            return false;
        }
        self.0.queued.fetch_add(size(&payload), Ordering::AcqRel);
        match channel {
            Channel::Session => queue.session.push_back(payload),
            Channel::Folder(slot) => queue.folder.push_back((slot, payload)),
        }
        drop(queue);
        self.0.work.notify_one();
        true
    }

    pub(crate) fn say(&self, message: &Message) -> bool {
        self.send(Channel::Session, message.encode())
    }

    /// Forgets what is queued for a folder that this end has shut.
    pub(crate) fn forget(&self, slot: u8) {
        let mut queue = self.0.lock();
        let mut gone = 0;
        queue.folder.retain(|(other, payload)| {
            let stays = *other != slot;
            if !stays {
                gone += size(payload);
            }
            stays
        });
        drop(queue);
        self.wrote(gone);
    }

    /// True if nothing is taken in any more.
    pub(crate) fn is_closed(&self) -> bool {
        *self.0.state.borrow() != State::Open
    }

    /// Bytes that are queued or being written, headers included.
    #[must_use]
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.0.queued.load(Ordering::Acquire)
    }

    /// Has a function called whenever the queue falls below [`LOW_WATER`], and when the link ends. It
    /// must not block. All that are set are called.
    pub(crate) fn on_low_water(&self, call: impl Fn() + Send + Sync + 'static) {
        self.0.low.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(call));
    }

    /// Takes nothing in any more; what is queued is written (for at most three seconds), then a
    /// goodbye, then the link is closed.
    pub(crate) fn close(&self, reason: Farewell) {
        self.close_with(Some(Message::Goodbye { reason }));
    }

    pub(crate) fn close_with(&self, last: Option<Message>) {
        let mut queue = self.0.lock();
        let was_open = self.0.state.send_if_modified(|state| {
            let open = *state == State::Open;
            if open {
                *state = State::Closing;
            }
            open
        });
        if was_open {
            queue.last = last;
        }
        drop(queue);
        self.0.work.notify_one();
    }

    /// The link is gone: forgets what is queued and ends the writer.
    pub(crate) fn kill(&self) {
        let mut queue = self.0.lock();
        self.0.state.send_replace(State::Dead);
        *queue = Queue::default();
        self.0.queued.store(0, Ordering::Release);
        drop(queue);
        self.0.tell_low();
    }

    /// Writes what is queued until the link is closed or gone.
    pub(crate) async fn run(&self, writer: LinkWriter) -> Result<(), LinkError> {
        let mut state = self.0.state.subscribe();
        // A peer that does not read must not keep a closing or dead link alive.
        let ended = async {
            let _ = state.wait_for(|state| *state != State::Open).await;
            let _ = timeout(CLOSING, state.wait_for(|state| *state == State::Dead)).await;
        };
        let result = tokio::select! {
            biased;
            () = ended => Ok(()),
            result = self.write(writer) => result,
        };
        self.kill();
        result
    }

    async fn write(&self, mut writer: LinkWriter) -> Result<(), LinkError> {
        loop {
            let Ok(work) = timeout(ALIVE_AFTER, self.next()).await else {
                writer.send(Channel::Session, &Message::Alive.encode()).await?;
                writer.flush().await?;
                continue;
            };
            match work {
                Work::Frames(frames) => {
                    let mut done = 0;
                    for (channel, payload) in &frames {
                        writer.send_parts(*channel, payload.parts()).await?;
                        done += size(payload);
                    }
                    if self.0.lock().is_empty() {
                        writer.flush().await?;
                    }
                    self.wrote(done);
                }
                Work::Last(last) => {
                    if let Some(last) = last {
                        writer.send(Channel::Session, &last.encode()).await?;
                    }
                    writer.close().await;
                    return Ok(());
                }
            }
        }
    }

    fn wrote(&self, done: u64) {
        // Saturating: a link killed meanwhile has nothing queued any more.
        let less = |queued: u64| Some(queued.saturating_sub(done));
        let before = match self.0.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) {
            Ok(before) | Err(before) => before,
        };
        let after = before.saturating_sub(done);
        if before >= LOW_WATER && after < LOW_WATER {
            self.0.tell_low();
        }
    }

    async fn next(&self) -> Work {
        loop {
            {
                let mut queue = self.0.lock();
                if !queue.is_empty() {
                    return Work::Frames(queue.batch());
                }
                if *self.0.state.borrow() != State::Open {
                    return Work::Last(queue.last.take());
                }
            }
            // Keeps one permit, so nothing is lost between the look and the wait.
            self.0.work.notified().await;
        }
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_low(&self) {
        for call in self.low.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            call();
        }
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.session.is_empty() && self.folder.is_empty()
    }

    fn batch(&mut self) -> Vec<(Channel, Payload)> {
        let mut frames: Vec<_> =
            self.session.drain(..).map(|payload| (Channel::Session, payload)).collect();
        let mut bytes = 0;
        while bytes < BATCH && frames.len() < FRAMES {
            let Some((slot, payload)) = self.folder.pop_front() else { break };
            bytes += payload.size();
            frames.push((Channel::Folder(slot), payload));
        }
        frames
    }
}

fn size(payload: &Payload) -> u64 {
    (HEADER_LEN + payload.size()) as u64
}
