//! A mailbox is received: its owner proves its key, then envelopes are pushed as they come and deleted as
//! they are acknowledged.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use axum::{
    Extension, body::Body, extract::Request, extract::State, http::StatusCode, response::Response,
};
use hyper::{header, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use wire::relay::{Ack, Answer, MAX_FRAME, MailboxId, Receive, Refusal, Signed};

use super::{Shared, connection::Caller, hub::Attending, metrics::Kind, now};
use crate::frames::{self, FrameReader};

/// The protocol that the stream is upgraded to.
pub(crate) const PROTOCOL: &str = "kin-receive/1";
/// Most envelopes that were sent and not acknowledged.
const WINDOW: usize = 256;
/// Most bytes of those, the last one not counted.
const WINDOW_BYTES: usize = 1 << 20;
/// Most envelopes, and bytes, that are read from the store at once.
const PIECE: (usize, usize) = (64, 256 << 10);

/// Answers a request to upgrade to `protocol`; `go_on` has the stream then.
pub(super) fn upgrade<F>(
    mut request: Request,
    protocol: &'static str,
    go_on: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let wanted = request.headers().get(header::UPGRADE);
    let mut response = Response::new(Body::empty());
    if wanted.is_none_or(|wanted| wanted != protocol) {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static(protocol));
        return response;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgrade.await {
            go_on(TokioIo::new(stream)).await;
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [(header::UPGRADE, protocol), (header::CONNECTION, "upgrade")] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
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
            _ = receive(&shared, &caller, stream) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    })
}

async fn receive(
    shared: &Arc<Shared>,
    caller: &Caller,
    mut stream: TokioIo<Upgraded>,
) -> io::Result<()> {
    let patience = shared.gate.limits().patience;
    let began = Instant::now();
    let first = timeout(patience, frames::read_exactly_one(&mut stream, MAX_FRAME)).await??;
    let opened = open(shared, caller, &first).await;
    let answer = match &opened {
        Ok(_) => Answer::Done,
        Err(refusal) => Answer::Refused(*refusal),
    };
    shared.metrics.request(Kind::Receive, &answer, began.elapsed());
    timeout(patience, frames::write(&mut stream, &answer.encode())).await??;
    let Ok(mailbox) = opened else { return Ok(()) };
    let attending = shared.hub.attend(mailbox);
    Delivery { shared, mailbox, attending, sent: BTreeMap::new(), sent_bytes: 0, last: 0 }
        .run(stream)
        .await
}

async fn open(
    shared: &Shared,
    caller: &Caller,
    frame: &bytes::Bytes,
) -> Result<MailboxId, Refusal> {
    let Receive { owner, signature } = Receive::decode(frame).map_err(|_| Refusal::Malformed)?;
    if !Signed::Receive.verify(&caller.channel, owner, &signature) {
        return Err(Refusal::Denied);
    }
    let mailbox = owner.mailbox();
    match shared.store.visit(mailbox, now()).await.map_err(|error| shared.refused(&error))? {
        true => Ok(mailbox),
        // Its owner makes it anew.
        false => Err(Refusal::Unavailable),
    }
}

struct Delivery<'a> {
    shared: &'a Arc<Shared>,
    mailbox: MailboxId,
    attending: Attending,
    /// Sizes of what was sent and is not acknowledged.
    sent: BTreeMap<u64, usize>,
    sent_bytes: usize,
    /// The highest number that was sent.
    last: u64,
}

impl Delivery<'_> {
    async fn run(mut self, mut stream: TokioIo<Upgraded>) -> io::Result<()> {
        let mut reader = FrameReader::default();
        // At the beginning there may be anything.
        let mut more = true;
        loop {
            while more && self.sent.len() < WINDOW && self.sent_bytes < WINDOW_BYTES {
                more = self.send(&mut stream).await?;
            }
            tokio::select! {
                frame = reader.next(&mut stream, MAX_FRAME) => match frame? {
                    Some(frame) => self.acknowledge(&frame).await?,
                    None => return Ok(()),
                },
                current = self.attending.news() => match current {
                    true => more = true,
                    false => return Ok(()),
                },
            }
        }
    }

    /// Sends the next envelopes; false if there are no more.
    async fn send(&mut self, stream: &mut TokioIo<Upgraded>) -> io::Result<bool> {
        let most = PIECE.0.min(WINDOW - self.sent.len());
        let items = self.shared.store.read(self.mailbox, self.last, most, PIECE.1).await.map_err(
            |error| {
                self.shared.refused(&error);
                io::Error::other("the store failed")
            },
        )?;
        if items.is_empty() {
            return Ok(false);
        }
        let patience = self.shared.gate.limits().patience;
        for item in items {
            timeout(patience, frames::write(stream, &item.encode())).await??;
            self.shared.metrics.delivered.fetch_add(1, Relaxed);
            self.last = self.last.max(item.number);
            self.sent_bytes += item.envelope.len();
            self.sent.insert(item.number, item.envelope.len());
        }
        Ok(true)
    }

    async fn acknowledge(&mut self, frame: &bytes::Bytes) -> io::Result<()> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
        let mut numbers = Ack::decode(frame).map_err(invalid)?.numbers;
        // What was not sent here cannot have been handled.
        numbers.retain(|number| match self.sent.remove(number) {
            Some(len) => {
                self.sent_bytes -= len;
                true
            }
            None => false,
        });
        if numbers.is_empty() {
            return Ok(());
        }
        let count = numbers.len() as u64;
        let deleted = self.shared.store.acknowledge(self.mailbox, numbers).await;
        deleted.map_err(|error| {
            self.shared.refused(&error);
            io::Error::other("the store failed")
        })?;
        self.shared.metrics.acknowledged.fetch_add(count, Relaxed);
        Ok(())
    }
}
