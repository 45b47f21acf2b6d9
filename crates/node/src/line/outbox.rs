//! What waits to be written to one link.
//!
//! Sending never blocks: whoever produces frames looks at [`FrameSender::queued_bytes`] and is told
//! when the queue has run low (rule E22). Session messages overtake folder frames; a last message is
//! written after everything else, and then the link is closed.
//!
//! Where the line has strands (rule E24), their writers take from the same queue as that of the link. Each frame
//! gets its number as it is taken, so that the other end sees them in the queue's order.

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
/// The same where several connections take from the queue.
const STRIPE: usize = 256 * 1024;
/// Bytes that must wait before strands take some: what is less goes over the link itself.
pub(super) const MUCH: u64 = STRIPE as u64;
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
    /// For the link's writer: there is something to do.
    work: Notify,
    /// For the strands' writers: much waits.
    much: Notify,
    /// For the link's writer: a strand's has ended.
    fewer: Notify,
    low: Mutex<Vec<LowWater>>,
}

#[derive(Default)]
struct Queue {
    session: VecDeque<Payload>,
    folder: VecDeque<(u8, Payload)>,
    last: Option<Message>,
    /// Bytes in it, with their headers.
    waiting: u64,
    /// Number of the frame that is taken next.
    next: u64,
    /// Strands whose writers take from it.
    strands: usize,
}

/// Frames with consecutive numbers.
struct Batch {
    first: u64,
    frames: Vec<(Channel, Payload)>,
    /// With headers.
    bytes: u64,
}

/// What writes to one connection.
struct Pen {
    writer: LinkWriter,
    /// The number that the other end gives to the next frame on this connection if it is told nothing else.
    next: u64,
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
    Frames(Batch),
    /// The last message, and its number.
    Last(Option<Message>, u64),
}

impl FrameSender {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Outbox {
            queue: Mutex::default(),
            queued: AtomicU64::new(0),
            state: watch::Sender::new(State::Open),
            work: Notify::new(),
            much: Notify::new(),
            fewer: Notify::new(),
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
        let size = size(&payload);
        self.0.queued.fetch_add(size, Ordering::AcqRel);
        queue.waiting += size;
        match channel {
            Channel::Session => queue.session.push_back(payload),
            Channel::Folder(slot) => queue.folder.push_back((slot, payload)),
        }
        let for_strands = queue.is_for_strands();
        drop(queue);
        self.0.work.notify_one();
        if for_strands {
            self.0.much.notify_one();
        }
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
        queue.waiting -= gone;
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
        *queue = Queue { next: queue.next, strands: queue.strands, ..Queue::default() };
        self.0.queued.store(0, Ordering::Release);
        drop(queue);
        self.0.tell_low();
    }

    /// Writes what is queued until the link is closed or gone.
    pub(crate) async fn run(&self, writer: LinkWriter) -> Result<(), LinkError> {
        let result = tokio::select! {
            biased;
            () = self.ended() => Ok(()),
            result = self.write(writer) => result,
        };
        self.kill();
        result
    }

    /// Writes to a strand, too, from now on. Closes it if the link is closing or gone.
    pub(crate) async fn attach(&self, writer: LinkWriter) {
        {
            let mut queue = self.0.lock();
            if *self.0.state.borrow() == State::Open {
                queue.strands += 1;
                drop(queue);
                tokio::spawn(self.clone().run_strand(writer));
                return;
            }
        }
        writer.close().await;
    }

    async fn run_strand(self, writer: LinkWriter) {
        let result = tokio::select! {
            biased;
            () = self.ended() => Ok(()),
            result = self.write_strand(writer) => result,
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a strand broke");
            // What was taken for it is missing for good.
            self.kill();
        }
        self.0.lock().strands -= 1;
        self.0.fewer.notify_one();
    }

    /// Ends when nothing must be written any more: a peer that does not read must not keep a closing or dead
    /// link alive.
    async fn ended(&self) {
        let mut state = self.0.state.subscribe();
        let _ = state.wait_for(|state| *state != State::Open).await;
        let _ = timeout(CLOSING, state.wait_for(|state| *state == State::Dead)).await;
    }

    async fn write(&self, writer: LinkWriter) -> Result<(), LinkError> {
        let mut pen = Pen { writer, next: 0 };
        loop {
            let Ok(work) = timeout(ALIVE_AFTER, self.next()).await else {
                // It has no number.
                pen.writer.send(Channel::Session, &Message::Alive.encode()).await?;
                pen.writer.flush().await?;
                continue;
            };
            match work {
                Work::Frames(batch) => {
                    pen.put(&batch).await?;
                    // With strands, others wait for these frames at the other end.
                    let is_last = {
                        let queue = self.0.lock();
                        queue.is_empty() || queue.strands > 0
                    };
                    if is_last {
                        pen.writer.flush().await?;
                    }
                    self.wrote(batch.bytes);
                }
                Work::Last(last, number) => {
                    while self.0.lock().strands > 0 {
                        // Keeps one permit, so nothing is lost between the look and the wait.
                        self.0.fewer.notified().await;
                    }
                    if let Some(last) = last {
                        pen.turn_to(number).await?;
                        pen.writer.send(Channel::Session, &last.encode()).await?;
                    }
                    pen.writer.close().await;
                    return Ok(());
                }
            }
        }
    }

    async fn write_strand(&self, writer: LinkWriter) -> Result<(), LinkError> {
        let mut pen = Pen { writer, next: 0 };
        while let Some(batch) = self.next_of_much().await {
            pen.put(&batch).await?;
            pen.writer.flush().await?;
            self.wrote(batch.bytes);
        }
        pen.writer.close().await;
        Ok(())
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
                    return Work::Last(queue.last.take(), queue.next);
                }
            }
            // Keeps one permit, so nothing is lost between the look and the wait.
            self.0.work.notified().await;
        }
    }

    /// What a strand is to write; `None` once the link is closing and not much is left.
    async fn next_of_much(&self) -> Option<Batch> {
        let mut state = self.0.state.subscribe();
        loop {
            {
                let mut queue = self.0.lock();
                if queue.is_for_strands() {
                    let batch = queue.batch();
                    // There may be more than one strand's share.
                    if queue.is_for_strands() {
                        self.0.much.notify_one();
                    }
                    return Some(batch);
                }
                if *self.0.state.borrow() != State::Open {
                    return None;
                }
            }
            tokio::select! {
                () = self.0.much.notified() => {}
                _ = state.wait_for(|state| *state != State::Open) => {}
            }
        }
    }
}

impl Pen {
    /// Writes the frames of a batch, and before them their number if it is not the one that is due.
    async fn put(&mut self, batch: &Batch) -> Result<(), LinkError> {
        self.turn_to(batch.first).await?;
        for (channel, payload) in &batch.frames {
            self.writer.send_parts(*channel, payload.parts()).await?;
        }
        self.next += batch.frames.len() as u64;
        Ok(())
    }

    async fn turn_to(&mut self, number: u64) -> Result<(), LinkError> {
        if self.next != number {
            self.writer.send(Channel::Session, &Message::Order(number).encode()).await?;
            self.next = number;
        }
        Ok(())
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

    fn is_for_strands(&self) -> bool {
        self.strands > 0 && self.waiting >= MUCH
    }

    /// Takes out what one connection writes next.
    fn batch(&mut self) -> Batch {
        let most = if self.strands == 0 { BATCH } else { STRIPE };
        let mut frames: Vec<_> =
            self.session.drain(..).map(|payload| (Channel::Session, payload)).collect();
        let mut bytes = 0;
        while bytes < most && frames.len() < FRAMES {
            let Some((slot, payload)) = self.folder.pop_front() else { break };
            bytes += payload.size();
            frames.push((Channel::Folder(slot), payload));
        }
        let bytes = frames.iter().map(|(_, payload)| size(payload)).sum();
        let first = self.next;
        self.next += frames.len() as u64;
        self.waiting -= bytes;
        Batch { first, frames, bytes }
    }
}

fn size(payload: &Payload) -> u64 {
    (HEADER_LEN + payload.size()) as u64
}
