//! Answers requests at the device's socket: HTTP/1.1 and JSON, one user's programs only (attack 39).
//! docs/api.md is its contract.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path as Named, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    body::{Body as HttpBody, Bytes, Frame},
    server::conn::http1,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
};
use tree::{Socket, StateLock};

use super::{ApiEvent, Failure, Request, Service, at::socket_path};

/// Largest body of a request in bytes.
pub const MAX_BODY: usize = 64 << 10;
/// Connections at a time; what comes beyond is answered 503.
pub const MAX_CONNECTIONS: usize = 64;
/// What a request's head and what its body may each take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What answers that are under way may take when the device stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The names by which requests may say whom they mean: a web page that reaches the socket by a name of its
/// own (DNS rebinding) says another.
const HOSTS: [&str; 2] = ["localhost", "kin"];

/// A device's socket.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
    listener: UnixListener,
}

impl Server {
    /// Listens at the state directory's socket ([`socket_path`]). Whoever holds the lock may: it replaces a
    /// socket that an ended process has left.
    ///
    /// # Errors
    /// If there is no place for a socket, or it cannot be made.
    pub fn bind(
        state: &std::path::Path,
        runtime: Option<&std::path::Path>,
        lock: &StateLock,
    ) -> Result<Self, Failure> {
        let path = socket_path(state, runtime)?;
        let fail = |error: &dyn std::fmt::Display| Failure::failed("socket", error);
        let (socket, listener) = Socket::listen(&path, lock).map_err(|error| fail(&error))?;
        let made = listener
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(listener))
            .map_err(|error| fail(&error))?;
        Ok(Self { socket, listener: made })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        self.socket.path()
    }

    /// Answers until `stop` is ready; then what is under way is given two seconds. The socket is gone when
    /// this ends or is dropped.
    pub async fn serve(self, service: Arc<dyn Service>, stop: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (stopping, told) = watch::channel(false);
        let mut connections = JoinSet::new();
        let router = router(service);
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut stop => break,
                Some(_) = connections.join_next() => continue,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: they come back as connections end.
                    tracing::warn!(%error, "no connection to the local socket can be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if !is_own(&stream) {
                tracing::warn!("another user's program at the local socket was sent away");
                continue;
            }
            match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    connections.spawn(connection(stream, router.clone(), told.clone(), place));
                }
                Err(_) => turn_away(&stream),
            }
        }
        let Self { socket, listener } = self;
        drop((listener, socket));
        // Nobody is told if no connection is left.
        let _ = stopping.send(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        // What is not said by then stays unsaid.
        let _ = tokio::time::timeout(LAST_WORDS, ended).await;
    }
}

/// True for a process of this user's, or of root, who could do anything here anyway.
pub(super) fn is_own(stream: &UnixStream) -> bool {
    let own = tree::own_user();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Says that there are too many connections, as far as that can be said without waiting.
fn turn_away(stream: &UnixStream) {
    let failure = Failure::failed("busy", "too many programs talk to this device at once")
        .hint("end some of them, or try again");
    let body = serde_json::to_string(&failure).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // Whoever cannot take a few hundred bytes at once hears nothing.
    let _ = stream.try_write(answer.as_bytes());
}

async fn connection(
    stream: UnixStream,
    router: Router,
    mut told: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = pin!(serving);
    let stopping = async {
        // The sender is gone only when the whole server is.
        let _ = told.wait_for(|stopping| *stopping).await;
    };
    tokio::select! {
        // How a program leaves is its affair.
        _ = serving.as_mut() => return,
        () = stopping => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}

fn router(service: Arc<dyn Service>) -> Router {
    Router::new()
        .route("/v1/{name}", get(look).post(ask))
        .fallback(async || failed(StatusCode::NOT_FOUND, &unknown("there is nothing")))
        .method_not_allowed_fallback(async || wrong_method())
        .layer(middleware::from_fn(guard))
        .with_state(service)
}

/// Refuses what comes from a web page: it has an origin, or means another host.
async fn guard(request: axum::extract::Request, next: Next) -> Response {
    match refusal(request.headers()) {
        None => next.run(request).await,
        Some(why) => failed(StatusCode::FORBIDDEN, &Failure::failed("forbidden", why)),
    }
}

fn refusal(headers: &HeaderMap) -> Option<&'static str> {
    if headers.contains_key(header::ORIGIN) {
        return Some("requests of web pages (with an Origin) are not answered");
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let meant = hosts.next().is_some_and(|host| HOSTS.iter().any(|it| host == it));
    if !meant || hosts.next().is_some() {
        return Some("the header Host must be localhost or kin");
    }
    None
}

async fn look(State(service): State<Arc<dyn Service>>, Named(name): Named<String>) -> Response {
    match Request::from_parts(&name, Map::new()) {
        Ok(request) if request.is_look() => answer(&*service, request).await,
        Err(failure) if failure.kind == "unknown_request" => {
            failed(StatusCode::NOT_FOUND, &failure)
        }
        Ok(_) | Err(_) => wrong_method(),
    }
}

async fn ask(
    State(service): State<Arc<dyn Service>>,
    Named(name): Named<String>,
    body: Body,
) -> Response {
    let collecting = Limited::new(body, MAX_BODY).collect();
    let body = match tokio::time::timeout(PATIENCE, collecting).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let failure = Failure::usage("too_large", "a request has at most 64 KiB");
            return failed(StatusCode::PAYLOAD_TOO_LARGE, &failure);
        }
        Ok(Err(_)) | Err(_) => {
            let failure = Failure::usage("bad_request", "the request did not come whole");
            return failed(StatusCode::BAD_REQUEST, &failure);
        }
    };
    let request = fields(&body).and_then(|fields| Request::from_parts(&name, fields));
    match request {
        Ok(request) => answer(&*service, request).await,
        Err(failure) if failure.kind == "unknown_request" => {
            failed(StatusCode::NOT_FOUND, &failure)
        }
        Err(failure) => failed(StatusCode::BAD_REQUEST, &failure),
    }
}

/// The fields of a request; a body that is empty has none.
fn fields(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|error| {
        Failure::usage("bad_request", format!("the body is not a JSON object: {error}"))
    })
}

async fn answer(service: &dyn Service, request: Request) -> Response {
    if request.is_stream() {
        return match service.stream(request).await {
            Ok(events) => respond(StatusCode::OK, "application/x-ndjson", Body::new(Lines(events))),
            Err(failure) => failed(status(&failure), &failure),
        };
    }
    match service.request(request).await {
        Ok(value) => json(StatusCode::OK, &value),
        Err(failure) => failed(status(&failure), &failure),
    }
}

fn unknown(what: &str) -> Failure {
    Failure::usage("unknown_request", format!("{what} by this name"))
        .hint("docs/api.md lists the requests")
}

fn wrong_method() -> Response {
    let failure = Failure::usage(
        "method",
        "use POST, or GET for status, devices, folders, groups, codes and relays",
    );
    failed(StatusCode::METHOD_NOT_ALLOWED, &failure)
}

/// What a failure of the device itself is in HTTP: its `exit` says it more exactly.
fn status(failure: &Failure) -> StatusCode {
    match failure.exit {
        2 => StatusCode::BAD_REQUEST,
        3 => StatusCode::CONFLICT,
        4 => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn failed(status: StatusCode, failure: &Failure) -> Response {
    json(status, failure)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut line) => {
            line.push(b'\n');
            respond(status, "application/json", Body::from(line))
        }
        // Nothing that is answered has keys that are no strings, or the like.
        Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, "application/json", Body::empty()),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Events as they come, one a line. Dropped, and the stream with it, when the connection ends.
struct Lines(mpsc::Receiver<ApiEvent>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|event| {
            let mut line = match serde_json::to_vec(&event?) {
                Ok(line) => line,
                Err(error) => return Some(Err(error.into())),
            };
            line.push(b'\n');
            Some(Ok(Frame::data(line.into())))
        })
    }
}
