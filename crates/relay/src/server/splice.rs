//! Two connections meet under an id, and bytes are copied between them, unread.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use axum::{Extension, extract::Request, extract::State, response::Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::oneshot,
    time::timeout,
};
use wire::relay::{Answer, MAX_FRAME, Meet, MeetingId, Refusal};

use super::{
    Shared,
    connection::{Caller, Connection},
    metrics::Kind,
    now,
    receive::upgrade,
};
use crate::{Client, RelayAddress, frames};

/// The protocol that the stream is upgraded to.
pub(crate) const PROTOCOL: &str = "kin-splice/1";
/// Bytes that are copied at a time, each way.
const PIECE: usize = 16 << 10;

type Stream = TokioIo<Upgraded>;

/// One end of a splice.
struct End {
    stream: Stream,
    /// Counted as long as the splice lasts.
    _connection: Arc<Connection>,
}

/// Ends that wait.
#[derive(Default)]
pub(super) struct Meetings(Mutex<HashMap<MeetingId, oneshot::Sender<End>>>);

impl Meetings {
    /// Somebody who waits there, or a way to wait.
    fn join(&self, meeting: MeetingId) -> Result<oneshot::Sender<End>, oneshot::Receiver<End>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One who has stopped waiting is nobody.
        if let Some(first) = waiting.remove(&meeting).filter(|first| !first.is_closed()) {
            return Ok(first);
        }
        let (sender, receiver) = oneshot::channel();
        waiting.insert(meeting, sender);
        Err(receiver)
    }

    /// Stops waiting.
    fn leave(&self, meeting: MeetingId) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(&meeting).is_some_and(oneshot::Sender::is_closed) {
            waiting.remove(&meeting);
        }
    }
}

pub(super) async fn begin(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    upgrade(request, PROTOCOL, move |stream| async move {
        let mut stopping = shared.stopping.subscribe();
        tokio::select! {
            // A connection that broke has nobody to be told.
            _ = meet(&shared, caller.connection, stream) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    })
}

async fn meet(shared: &Shared, connection: Arc<Connection>, mut stream: Stream) -> io::Result<()> {
    let limits = shared.gate.limits();
    let began = Instant::now();
    let first =
        timeout(limits.patience, frames::read_exactly_one(&mut stream, MAX_FRAME)).await??;
    let entered = Meet::decode(&first).map_err(|_| Refusal::Malformed).and_then(|meet| {
        connection.pass.lock().unwrap_or_else(PoisonError::into_inner).splice()?;
        Ok(meet.meeting)
    });
    let refuse = async |mut stream: Stream, refusal| {
        let answer = Answer::Refused(refusal);
        shared.metrics.request(Kind::Splice, &answer, began.elapsed());
        timeout(limits.patience, frames::write(&mut stream, &answer.encode())).await?
    };
    let meeting = match entered {
        Ok(meeting) => meeting,
        Err(refusal) => return refuse(stream, refusal).await,
    };
    let waiting = match shared.meetings.join(meeting) {
        Ok(first) => {
            // The one who came first goes on with both. If it has just left, this one comes again.
            let _ = first.send(End { stream, _connection: connection });
            return Ok(());
        }
        Err(waiting) => waiting,
    };
    match elsewhere(shared, meeting).await {
        Ok(None) => {}
        Ok(Some(other)) => {
            drop(waiting);
            shared.meetings.leave(meeting);
            return bridge(shared, meeting, stream, &other, began).await;
        }
        Err(refusal) => {
            drop(waiting);
            shared.meetings.leave(meeting);
            return refuse(stream, refusal).await;
        }
    }
    let mut waiting = waiting;
    let met = {
        // Nothing may be said before the other is there: this notices an end that has gone.
        let mut gone = [0];
        tokio::select! {
            met = timeout(limits.splice_wait, &mut waiting) => Some(met),
            _ = stream.read(&mut gone) => None,
        }
    };
    match met {
        Some(Ok(Ok(other))) => {
            let answer = Answer::Done;
            shared.metrics.request(Kind::Splice, &answer, began.elapsed());
            let (mut one, mut other) = (stream, other);
            let begin = async {
                frames::write(&mut one, &answer.encode()).await?;
                frames::write(&mut other.stream, &answer.encode()).await
            };
            timeout(limits.patience, begin).await??;
            copy(shared, one, other.stream, limits.splice_idle).await
        }
        Some(_) => {
            drop(waiting);
            shared.meetings.leave(meeting);
            refuse(stream, Refusal::Unavailable).await
        }
        None => {
            drop(waiting);
            shared.meetings.leave(meeting);
            Ok(())
        }
    }
}

/// The process at which the other end waits already, if it is another one.
async fn elsewhere(shared: &Shared, meeting: MeetingId) -> Result<Option<String>, Refusal> {
    let Some(place) = shared.reach.get() else { return Ok(None) };
    let now = now();
    let until = now.saturating_add(shared.gate.limits().splice_wait.as_secs());
    match shared.store.meet(meeting, place.to_string(), until, now) {
        Some(met) => met.await.map_err(|error| shared.refused(&error)),
        None => Ok(None),
    }
}

/// Joins this end to the one that waits at another process, as that one's client.
async fn bridge(
    shared: &Shared,
    meeting: MeetingId,
    mut stream: Stream,
    other: &str,
    began: Instant,
) -> io::Result<()> {
    let limits = shared.gate.limits();
    let there = async {
        let address: RelayAddress = other.parse().ok()?;
        Client::new(&address).ok()?.splice(meeting, limits.patience).await.ok()
    };
    let there = there.await;
    let answer = match there {
        Some(_) => Answer::Done,
        None => Answer::Refused(Refusal::Unavailable),
    };
    shared.metrics.request(Kind::Splice, &answer, began.elapsed());
    timeout(limits.patience, frames::write(&mut stream, &answer.encode())).await??;
    match there {
        Some(there) => copy(shared, stream, there, limits.splice_idle).await,
        None => Ok(()),
    }
}

/// Copies both ways until one side ends, or both are silent for too long.
async fn copy<A, B>(shared: &Shared, one: A, other: B, idle: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (mut from_one, mut to_one) = tokio::io::split(one);
    let (mut from_other, mut to_other) = tokio::io::split(other);
    let moved = std::sync::atomic::AtomicU64::new(0);
    let there = pump(&mut from_one, &mut to_other, &moved);
    let back = pump(&mut from_other, &mut to_one, &moved);
    let mut both = std::pin::pin!(async { tokio::try_join!(there, back) });
    let mut counted = 0;
    loop {
        let ended = timeout(idle, &mut both).await;
        let so_far = moved.load(Relaxed);
        shared.metrics.spliced_bytes.fetch_add(so_far - counted, Relaxed);
        match ended {
            Ok(ended) => return ended.map(drop),
            Err(_) if so_far == counted => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => counted = so_far,
        }
    }
}

async fn pump<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    from: &mut R,
    to: &mut W,
    moved: &std::sync::atomic::AtomicU64,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        to.write_all(bytes).await?;
        to.flush().await?;
        moved.fetch_add(read as u64, Relaxed);
    }
}
