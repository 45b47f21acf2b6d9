//! What came in on one link for folder engines, and the reader that brings it.
//!
//! Payloads carry a share of the link's budget of bytes, which comes back when they have been dealt
//! with; without budget the reader stops, and TCP makes the peer wait (rule E22).

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    ConnId, Internal, LINGER,
    source::{Frame, Source},
};
use bytes::Bytes;
use link::{LinkError, LinkReader};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

/// Bytes of folder payloads that may wait on one link.
pub(crate) const BUDGET: usize = 16 * 1024 * 1024;
/// What an empty payload counts for, so that the number of payloads is bounded too.
pub(super) const LEAST: usize = 256;

/// One payload of the folder channel. Dropping it gives its share of the budget back.
pub(crate) struct Incoming {
    /// At most [`wire::frame::MAX_FRAME`] bytes.
    pub(crate) payload: Bytes,
    /// Its share of the budget; keep it until the payload has been dealt with.
    pub(crate) permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({} bytes)", self.payload.len())
    }
}

/// The receiving end of a folder's channel. Dropping it ends a link that has nothing else.
#[derive(Debug)]
pub(crate) struct FrameReceiver(mpsc::UnboundedReceiver<Incoming>);

impl FrameReceiver {
    /// The next payload, in order; `None` once the channel is shut or the link gone, and everything was
    /// given out.
    pub(crate) async fn recv(&mut self) -> Option<Incoming> {
        self.0.recv().await
    }
}

/// What a reader is told.
pub(crate) enum Route {
    /// The peer is accepted: larger frames may come, and frames for folders.
    Accepted,
    /// Frames of this channel go here.
    Open(u8, FolderIn),
    /// Frames of this channel are for nobody any more.
    Shut(u8),
    /// Frames may come in another order from now on: a strand is being offered.
    Strands,
    /// A strand: frames come on it, too.
    Strand(LinkReader),
}

/// Where the reader puts a folder's payloads.
pub(crate) struct FolderIn {
    /// Unbounded in itself: the link's budget bounds it.
    queue: mpsc::UnboundedSender<Incoming>,
    /// True if the link is for nothing else.
    alone: bool,
}

/// A folder's channel. With `alone`, the link ends when nobody receives any more.
pub(crate) fn folder(alone: bool) -> (FolderIn, FrameReceiver) {
    let (queue, receiver) = mpsc::unbounded_channel();
    (FolderIn { queue, alone }, FrameReceiver(receiver))
}

/// When the peer was last heard, in milliseconds since the pulse was made.
#[derive(Debug)]
pub(crate) struct Pulse {
    start: Instant,
    heard: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), heard: AtomicU64::new(0) })
    }

    pub(super) fn beat(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn silent_for(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(heard)
    }
}

/// The reading task of one link.
pub(crate) struct Reader {
    pub(crate) id: ConnId,
    pub(super) source: Source,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) owner: mpsc::Sender<Internal>,
    /// Where frames go; its end says that the link is closing.
    pub(crate) routes: mpsc::UnboundedReceiver<Route>,
}

/// Why a reader stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadEnd {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("it closed the link")]
    Closed,
    #[error("it fell silent")]
    Silent,
    #[error("it broke the protocol: {0}")]
    Protocol(#[from] wire::WireError),
    #[error("it broke the protocol: its frames are in no order")]
    Disorder,
    #[error("it sent folder data before it was accepted")]
    Early,
    /// This side closes the link, or nobody here wants its frames.
    #[error("the link was closed here")]
    Here,
}

impl Reader {
    /// Reads until the link ends, and tells the session why it did.
    pub(crate) async fn run(mut self) {
        let end = self.read().await;
        if matches!(end, ReadEnd::Here) {
            // Closing a socket with unread bytes would reset it and could cost the peer our last
            // words; so what still comes is read and thrown away.
            let _ = timeout(LINGER, self.source.drain()).await;
        }
        let _ = self.owner.send(Internal::ReadEnded { id: self.id, end }).await;
    }

    async fn read(&mut self) -> ReadEnd {
        let budget = Arc::new(Semaphore::new(BUDGET));
        let mut table = Table::default();
        loop {
            let frame = tokio::select! {
                // First, so that the limit is raised before a peer's first large frame is looked at.
                biased;
                route = self.routes.recv() => match route {
                    Some(route) => {
                        table.take(route, &mut self.source, &self.pulse);
                        continue;
                    }
                    None => return ReadEnd::Here,
                },
                frame = self.source.next(&self.pulse) => frame,
            };
            match frame {
                Err(end) => return end,
                Ok(Frame::Alive) => {}
                Ok(Frame::Said(message)) => {
                    // One at a time: what the owner makes of it, acceptance above all, is known
                    // before the next frame is looked at.
                    let (done, handled) = oneshot::channel();
                    let heard = Internal::Heard { id: self.id, message, done };
                    if self.owner.send(heard).await.is_err() {
                        return ReadEnd::Here;
                    }
                    let _ = handled.await;
                }
                Ok(Frame::Folder(..)) if !table.accepted => return ReadEnd::Early,
                Ok(Frame::Folder(slot, payload)) => {
                    let cost = u32::try_from(payload.len().max(LEAST)).unwrap_or(u32::MAX);
                    let permit = tokio::select! {
                        biased;
                        permit = Arc::clone(&budget).acquire_many_owned(cost) => permit,
                        () = table.until_pointless(
                            &mut self.routes, &mut self.source, &self.pulse,
                        ) => return ReadEnd::Here,
                    };
                    let Ok(permit) = permit else { return ReadEnd::Here };
                    // What was sent before the other end knew that the folder was shut is for nobody.
                    if let Some(folder) = table.folders.get(&slot)
                        && folder.queue.send(Incoming { payload, permit }).is_err()
                        && folder.alone
                    {
                        return ReadEnd::Here;
                    }
                    // Waiting for budget is no silence of the peer's.
                    self.pulse.beat();
                }
            }
        }
    }
}

/// Where frames go now.
#[derive(Default)]
struct Table {
    accepted: bool,
    folders: HashMap<u8, FolderIn>,
}

impl Table {
    fn take(&mut self, route: Route, source: &mut Source, pulse: &Arc<Pulse>) {
        match route {
            Route::Accepted => {
                self.accepted = true;
                source.accept();
            }
            Route::Open(slot, folder) => {
                self.folders.insert(slot, folder);
            }
            Route::Shut(slot) => {
                self.folders.remove(&slot);
            }
            Route::Strands => source.widen(pulse),
            Route::Strand(strand) => source.join(strand, pulse),
        }
    }

    /// Follows routes until nobody wants anything of this link any more.
    async fn until_pointless(
        &mut self,
        routes: &mut mpsc::UnboundedReceiver<Route>,
        source: &mut Source,
        pulse: &Arc<Pulse>,
    ) {
        loop {
            let alone = self.folders.values().find(|folder| folder.alone);
            let closed = async {
                match alone {
                    Some(folder) => folder.queue.closed().await,
                    None => std::future::pending().await,
                }
            };
            let route = tokio::select! {
                route = routes.recv() => route,
                () = closed => return,
            };
            match route {
                Some(route) => self.take(route, source, pulse),
                None => return,
            }
        }
    }
}
