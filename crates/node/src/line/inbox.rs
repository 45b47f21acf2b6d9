//! What came in on one link for the folder engine, and the reader that brings it.
//!
//! Payloads carry a share of the link's budget of bytes, which comes back when they have been dealt
//! with; without budget the reader stops, and TCP makes the peer wait (rule E22).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use link::{LinkError, LinkReader};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use wire::{
    frame::{Channel, MAX_FRAME},
    session::Message,
};

use super::{ConnId, Internal, LINGER, SILENCE};

/// Bytes of folder payloads that may wait on one link.
pub(crate) const BUDGET: usize = 16 * 1024 * 1024;
/// What an empty payload counts for, so that the number of payloads is bounded too.
const LEAST: usize = 256;

/// One payload of the folder channel. Dropping it gives its share of the budget back.
pub(crate) struct Incoming {
    /// At most [`MAX_FRAME`] bytes.
    pub(crate) payload: Bytes,
    /// Its share of the budget; keep it until the payload has been dealt with.
    pub(crate) permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({} bytes)", self.payload.len())
    }
}

/// The receiving end of a link's folder channel. Dropping it ends the link.
#[derive(Debug)]
pub(crate) struct FrameReceiver(mpsc::UnboundedReceiver<Incoming>);

impl FrameReceiver {
    /// The next payload, in order; `None` once the link is gone and everything was given out.
    pub(crate) async fn recv(&mut self) -> Option<Incoming> {
        self.0.recv().await
    }
}

/// Where the reader puts folder payloads.
pub(super) struct FolderIn {
    /// Unbounded in itself: the budget bounds it.
    queue: mpsc::UnboundedSender<Incoming>,
    budget: Arc<Semaphore>,
}

pub(super) fn folder() -> (FolderIn, FrameReceiver) {
    let (queue, receiver) = mpsc::unbounded_channel();
    (FolderIn { queue, budget: Arc::new(Semaphore::new(BUDGET)) }, FrameReceiver(receiver))
}

/// When the peer was last heard, in milliseconds since the pulse was made.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    heard: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), heard: AtomicU64::new(0) })
    }

    fn beat(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(millis, Ordering::Relaxed);
    }

    pub(super) fn silent_for(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(heard)
    }
}

/// The reading task of one link.
pub(super) struct Reader {
    pub(super) id: ConnId,
    pub(super) link: LinkReader,
    pub(super) pulse: Arc<Pulse>,
    pub(super) session: mpsc::Sender<Internal>,
    /// Says that the peer is accepted; its end says that the link is closing.
    pub(super) member: mpsc::UnboundedReceiver<FolderIn>,
}

/// Why a reader stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadEnd {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("it closed the link")]
    Closed,
    #[error("it fell silent")]
    Silent,
    #[error("it broke the protocol: {0}")]
    Protocol(#[from] wire::WireError),
    #[error("it sent folder data before it was accepted")]
    Early,
    /// This side closes the link, or nobody here wants its frames.
    #[error("the link was closed here")]
    Here,
}

impl Reader {
    /// Reads until the link ends, and tells the session why it did.
    pub(super) async fn run(mut self) {
        let end = self.read().await;
        if matches!(end, ReadEnd::Here) {
            // Closing a socket with unread bytes would reset it and could cost the peer our last
            // words; so what still comes is read and thrown away.
            let drain = async { while let Ok(Some(_)) = self.link.next().await {} };
            let _ = timeout(LINGER, drain).await;
        }
        let _ = self.session.send(Internal::ReadEnded { id: self.id, end }).await;
    }

    async fn read(&mut self) -> ReadEnd {
        let mut folder: Option<FolderIn> = None;
        let mut received = 0;
        loop {
            let frame = tokio::select! {
                // First, so that the limit is raised before a peer's first large frame is looked at.
                biased;
                member = self.member.recv() => match member {
                    Some(accepted) => {
                        folder = Some(accepted);
                        self.link.set_limit(MAX_FRAME);
                        continue;
                    }
                    None => return ReadEnd::Here,
                },
                frame = timeout(SILENCE, self.link.next()) => frame,
            };
            let (channel, payload) = match frame {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return ReadEnd::Closed,
                Ok(Err(error)) => return error.into(),
                // Part of a large frame came, over a slow line.
                Err(_) if self.link.received() > received => {
                    received = self.link.received();
                    continue;
                }
                Err(_) => return ReadEnd::Silent,
            };
            received = self.link.received();
            self.pulse.beat();
            match (channel, &folder) {
                (Channel::Session, _) => {
                    let message = match Message::decode(&payload) {
                        Ok(Message::Alive) => continue,
                        Ok(message) => message,
                        Err(error) => return error.into(),
                    };
                    // One at a time: what the session makes of it, acceptance above all, is known
                    // before the next frame is looked at.
                    let (done, handled) = oneshot::channel();
                    let heard = Internal::Heard { id: self.id, message, done };
                    if self.session.send(heard).await.is_err() {
                        return ReadEnd::Here;
                    }
                    let _ = handled.await;
                }
                (Channel::Folder, Some(folder)) => {
                    let cost = u32::try_from(payload.len().max(LEAST)).unwrap_or(u32::MAX);
                    let budget = Arc::clone(&folder.budget);
                    let permit = tokio::select! {
                        biased;
                        permit = budget.acquire_many_owned(cost) => permit,
                        // Members are accepted once: this can only be the end.
                        _ = self.member.recv() => return ReadEnd::Here,
                        () = folder.queue.closed() => return ReadEnd::Here,
                    };
                    let Ok(permit) = permit else { return ReadEnd::Here };
                    if folder.queue.send(Incoming { payload, permit }).is_err() {
                        return ReadEnd::Here;
                    }
                    // Waiting for budget is no silence of the peer's.
                    self.pulse.beat();
                }
                (Channel::Folder, None) => return ReadEnd::Early,
            }
        }
    }
}
