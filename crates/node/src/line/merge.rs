//! The frames of all connections of a line, in the order of their numbers (rule E24).
//!
//! Each connection has a task that reads ahead, as far as it has room; what it reads waits here until its
//! turn has come. On each connection numbers ascend, so the connection on which the next frame comes holds
//! nothing back, and is read: nobody waits for ever.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use link::{LinkError, LinkReader};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use wire::{
    frame::{Channel, MAX_FRAME},
    session::Message,
};

use super::{
    SILENCE,
    inbox::{LEAST, Pulse, ReadEnd},
    source::Frame,
};

/// Bytes of one connection that may be here before their turn, besides the frame that is being read.
pub(super) const AHEAD: usize = 4 * 1024 * 1024;
/// A connection is looked at this often for parts of a large frame, over a slow line.
const LOOK: Duration = Duration::from_secs(SILENCE.as_secs() / 2);
/// How long strands may go on when the link itself was closed.
const ENDING: Duration = Duration::from_secs(3);

/// A frame whose turn has not come. Dropping it makes room for others of its connection.
struct Held {
    number: u64,
    channel: Channel,
    payload: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What the task of a connection tells.
enum Fed {
    Frame(Held),
    /// The other end has closed the connection, or it broke.
    Ended(Result<(), ReadEnd>),
}

/// One connection.
#[derive(Default)]
struct Connection {
    held: VecDeque<Held>,
    ended: bool,
}

/// All connections of a line. The first is the link itself.
pub(super) struct Merge {
    /// Number of the frame whose turn it is.
    next: u64,
    connections: Vec<Connection>,
    /// Bounded by the room of each connection.
    fed: mpsc::UnboundedReceiver<(usize, Fed)>,
    feed: mpsc::UnboundedSender<(usize, Fed)>,
    /// Ends with this.
    feeders: JoinSet<()>,
    pulse: Arc<Pulse>,
    /// The link itself was closed: until when strands are waited for.
    ending: Option<Instant>,
}

impl Merge {
    pub(super) fn new(next: u64, pulse: Arc<Pulse>) -> Self {
        let (feed, fed) = mpsc::unbounded_channel();
        let feeders = JoinSet::new();
        Self { next, connections: Vec::new(), fed, feed, feeders, pulse, ending: None }
    }

    /// Adds a connection to an accepted peer, on which the frame with number `next` is due.
    pub(super) fn add(&mut self, mut link: LinkReader, next: u64) {
        link.set_limit(MAX_FRAME);
        let from = self.connections.len();
        self.connections.push(Connection::default());
        let (feed, pulse) = (self.feed.clone(), Arc::clone(&self.pulse));
        self.feeders.spawn(async move {
            let frames = |held| feed.send((from, Fed::Frame(held))).is_ok();
            let end = follow(&mut link, next, &pulse, frames).await;
            let _ = feed.send((from, Fed::Ended(end)));
        });
    }

    /// The next frame. Can be dropped without losing anything.
    pub(super) async fn next(&mut self) -> Result<Frame, ReadEnd> {
        let mut until = Instant::now() + SILENCE;
        loop {
            if let Some(frame) = self.due()? {
                return Ok(frame);
            }
            if self.connections.iter().all(|connection| connection.ended) {
                return Err(self.closed());
            }
            let wait = self.ending.unwrap_or(until).saturating_duration_since(Instant::now());
            match timeout(wait, self.fed.recv()).await {
                Ok(Some((from, fed))) => self.take(from, fed)?,
                Ok(None) => return Err(self.closed()),
                Err(_) if self.ending.is_some() => return Err(self.closed()),
                Err(_) => match SILENCE.checked_sub(self.pulse.silent_for()) {
                    None | Some(Duration::ZERO) => return Err(ReadEnd::Silent),
                    Some(rest) => until = Instant::now() + rest,
                },
            }
        }
    }

    /// The frame whose turn it is, if it is here.
    fn due(&mut self) -> Result<Option<Frame>, ReadEnd> {
        let mut found = None;
        for connection in &mut self.connections {
            match connection.held.front() {
                // It came on another connection, too.
                Some(held) if held.number < self.next => return Err(ReadEnd::Disorder),
                Some(held) if held.number == self.next && found.is_none() => {
                    found = connection.held.pop_front();
                }
                _ => {}
            }
        }
        let Some(held) = found else { return Ok(None) };
        self.next = held.number.checked_add(1).ok_or(ReadEnd::Disorder)?;
        Ok(Some(Frame::read(held.channel, held.payload)?))
    }

    fn take(&mut self, from: usize, fed: Fed) -> Result<(), ReadEnd> {
        let Some(connection) = self.connections.get_mut(from) else { return Ok(()) };
        match fed {
            Fed::Frame(held) if held.number < self.next => return Err(ReadEnd::Disorder),
            Fed::Frame(held) => connection.held.push_back(held),
            Fed::Ended(end) => {
                // Frames may be missing.
                end?;
                connection.ended = true;
                if from == 0 {
                    self.ending = Some(Instant::now() + ENDING);
                }
            }
        }
        Ok(())
    }

    /// Why nothing comes any more: all has come, or what was held back waits in vain.
    fn closed(&self) -> ReadEnd {
        match self.connections.iter().all(|connection| connection.held.is_empty()) {
            true => ReadEnd::Closed,
            false => LinkError::Cut.into(),
        }
    }

    /// Frames that wait for their turn.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.connections.iter().map(|connection| connection.held.len()).sum()
    }

    /// Reads until the other end closes, and throws away what comes.
    pub(super) async fn drain(&mut self) {
        let mut open = self.connections.iter().filter(|connection| !connection.ended).count();
        self.connections.iter_mut().for_each(|connection| connection.held.clear());
        while open > 0
            && let Some((_, fed)) = self.fed.recv().await
        {
            open -= usize::from(matches!(fed, Fed::Ended(_)));
        }
    }
}

/// Reads one connection until it ends; false from `frames` ends it, too.
async fn follow(
    link: &mut LinkReader,
    mut next: u64,
    pulse: &Pulse,
    frames: impl Fn(Held) -> bool,
) -> Result<(), ReadEnd> {
    let room = Arc::new(Semaphore::new(AHEAD));
    let mut received = link.received();
    let mut ordered = false;
    loop {
        let frame = match timeout(LOOK, link.next()).await {
            Ok(frame) => frame?,
            Err(_) => {
                if link.received() > received {
                    received = link.received();
                    pulse.beat();
                }
                continue;
            }
        };
        let (channel, payload) = match frame {
            Some(frame) => frame,
            None if ordered => return Err(ReadEnd::Disorder),
            None => return Ok(()),
        };
        received = link.received();
        pulse.beat();
        if channel == Channel::Session {
            // What it says is read again when its turn has come: until then it is as small as it came.
            match Message::decode(&payload)? {
                Message::Alive => continue,
                Message::Order(number) if !ordered && number > next => {
                    (next, ordered) = (number, true);
                    continue;
                }
                Message::Order(_) | Message::Strand(_) => return Err(ReadEnd::Disorder),
                _ => {}
            }
        }
        ordered = false;
        let number = next;
        next = number.checked_add(1).ok_or(ReadEnd::Disorder)?;
        let cost = u32::try_from(payload.len().max(LEAST)).unwrap_or(u32::MAX);
        // Fails for a closed semaphore only.
        let Ok(room) = Arc::clone(&room).acquire_many_owned(cost).await else { return Ok(()) };
        if !frames(Held { number, channel, payload, _room: room }) {
            return Ok(());
        }
    }
}
