//! The requests: what is asked, by which path, and what is answered.
//!
//! Every answer to a request that was understood as one has status 200 and a body of the same kind; ids are in
//! bodies, never in paths, so that nothing on the way keeps them in a log.

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Router,
    body::{Body, HttpBody as _},
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;
use wire::relay::{
    Answer, Deposit, Get, MAX_REQUEST, MAX_STAY, Put, Refusal, Remove, Settle, Signed, Withdraw,
};

use super::{Shared, connection::Caller, limits::Cost, metrics::Kind, now, receive, splice};
use crate::store::{NewEntry, NewEnvelope};

/// All paths.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/rendezvous/put", post(put))
        .route("/v1/rendezvous/get", post(get_entry))
        .route("/v1/rendezvous/withdraw", post(withdraw))
        .route("/v1/mailbox/settle", post(settle))
        .route("/v1/mailbox/remove", post(remove))
        .route("/v1/mailbox/deposit", post(deposit))
        .route("/v1/mailbox/receive", get(receive::begin))
        .route("/v1/splice", get(splice::begin))
        .route("/v1/health", get(health))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

fn reply(answer: &Answer) -> Response {
    let mut response = Response::new(Body::from(answer.encode()));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Charges the source, reads the body, decides, counts and answers: whoever asks too often has nothing read and
/// nothing kept.
async fn respond<F, A>(
    shared: &Shared,
    (kind, caller, cost): (Kind, &Caller, Cost),
    request: Request,
    decide: F,
) -> Response
where
    F: FnOnce(Bytes) -> A,
    A: Future<Output = Result<Answer, Refusal>>,
{
    if let Err(refusal) = shared.gate.check(caller.connection.source, cost) {
        let answer = Answer::Refused(refusal);
        shared.metrics.request(kind, &answer, std::time::Duration::ZERO);
        return reply(&answer);
    }
    // No more than was paid for.
    let most = match cost {
        Cost::Deposit(bytes) => bytes.min(MAX_REQUEST),
        Cost::Get | Cost::Change => MAX_REQUEST,
    };
    let body = Limited::new(request.into_body(), most).collect();
    let body = match timeout(shared.gate.limits().patience, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::TooLarge),
        Ok(Err(_)) | Err(_) => Err(Refusal::Malformed),
    };
    let began = Instant::now();
    let answer = match body {
        Ok(body) => decide(body).await.unwrap_or_else(Answer::Refused),
        Err(refusal) => Answer::Refused(refusal),
    };
    shared.metrics.request(kind, &answer, began.elapsed());
    reply(&answer)
}

fn understood<T>(decoded: Result<T, wire::WireError>) -> Result<T, Refusal> {
    decoded.map_err(|error| match error {
        wire::WireError::TooLarge { .. } => Refusal::TooLarge,
        _ => Refusal::Malformed,
    })
}

async fn put(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    respond(&shared, (Kind::Put, &caller, Cost::Change), request, async |body| {
        let put = understood(Put::decode(&body))?;
        let signed = Signed::Put { lookup: put.lookup, until: put.until, entry: &put.entry };
        if !signed.verify(&caller.channel, put.owner, &put.signature) {
            return Err(Refusal::Denied);
        }
        let now = now();
        if put.until <= now || put.until > now.saturating_add(MAX_STAY) {
            return Err(Refusal::Malformed);
        }
        let Put { lookup, owner, until, entry, .. } = put;
        let put = shared.store.put(NewEntry { lookup, owner, until, entry }, now).await;
        put.map(|()| Answer::Done).map_err(|error| shared.refused(&error))
    })
    .await
}

async fn get_entry(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    respond(&shared, (Kind::Get, &caller, Cost::Get), request, async |body| {
        let get = understood(Get::decode(&body))?;
        let entry =
            shared.store.get(get.lookup, now()).await.map_err(|error| shared.refused(&error))?;
        Ok(entry.map_or(Answer::Absent, Answer::Entry))
    })
    .await
}

async fn withdraw(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    respond(&shared, (Kind::Withdraw, &caller, Cost::Change), request, async |body| {
        let Withdraw { lookup, owner, signature } = understood(Withdraw::decode(&body))?;
        if !Signed::Withdraw(lookup).verify(&caller.channel, owner, &signature) {
            return Err(Refusal::Denied);
        }
        let withdrawn = shared.store.withdraw(lookup, owner).await;
        withdrawn.map(|()| Answer::Done).map_err(|error| shared.refused(&error))
    })
    .await
}

async fn settle(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    respond(&shared, (Kind::Settle, &caller, Cost::Change), request, async |body| {
        let Settle { owner, token, signature } = understood(Settle::decode(&body))?;
        if !Signed::Settle(token).verify(&caller.channel, owner, &signature) {
            return Err(Refusal::Denied);
        }
        let settled = shared.store.settle(owner, token, now()).await;
        settled.map(|()| Answer::Done).map_err(|error| shared.refused(&error))
    })
    .await
}

async fn remove(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    respond(&shared, (Kind::Remove, &caller, Cost::Change), request, async |body| {
        let Remove { owner, signature } = understood(Remove::decode(&body))?;
        if !Signed::Remove.verify(&caller.channel, owner, &signature) {
            return Err(Refusal::Denied);
        }
        let removed = shared.store.remove(owner.mailbox()).await;
        removed.map(|()| Answer::Done).map_err(|error| shared.refused(&error))
    })
    .await
}

async fn deposit(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    // What is announced; who does not say how much it is pays for the most that it may be.
    let announced = request.body().size_hint().exact().unwrap_or(MAX_REQUEST as u64);
    let cost = Cost::Deposit(usize::try_from(announced).unwrap_or(usize::MAX).min(MAX_REQUEST));
    respond(&shared, (Kind::Deposit, &caller, cost), request, async |body| {
        let Deposit { mailbox, token, envelope } = understood(Deposit::decode(&body))?;
        // What waits in the store holds no part of the request besides.
        let envelope = Bytes::copy_from_slice(&envelope);
        let new = NewEnvelope { mailbox, token: token.map(|token| token.hash()), envelope };
        shared.store.deposit(new, now()).await.map_err(|error| shared.refused(&error))?;
        shared.arrived(mailbox);
        Ok(Answer::Done)
    })
    .await
}

async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    super::page::health(&shared).await
}
