//! One connection: its handshake, then HTTP, all of it under deadlines.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};

use axum::{Router, body::Body};
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use wire::relay::CHANNEL_LEN;

use super::{Shared, api, limits::Pass};
use crate::{socket, tls};

/// Requests at once on one connection: each may hold the largest body until its time is over.
const STREAMS: u32 = 16;
/// Bytes of a request's head.
const HEAD: u32 = 4 << 10;
/// Bytes that may be on their way to us in one request: the largest request.
const WINDOW: u32 = 128 << 10;
/// Bytes that wait to be sent in one request.
const SEND: usize = 64 << 10;

/// What a request can know of its connection.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(super) channel: [u8; CHANNEL_LEN],
    pub(super) connection: Arc<Connection>,
}

/// What is kept of a connection while a request or a stream of it lasts.
pub(crate) struct Connection {
    pub(super) pass: std::sync::Mutex<Pass>,
    pub(super) source: super::limits::Source,
    requests: AtomicU32,
    running: AtomicUsize,
}

struct Running<'a>(&'a Connection);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

/// Lets a connection go on while it has something to do, and ends it when it has not, or when the relay stops.
macro_rules! watch_over {
    ($serving:ident, $connection:ident, $shared:ident, $idle:expr, $patience:expr) => {{
        let mut stopping = $shared.stopping.subscribe();
        let mut seen = 0;
        loop {
            tokio::select! {
                // However it ended, there is nobody to tell.
                _ = &mut $serving => return,
                _ = stopping.wait_for(|stopping| *stopping) => break,
                () = sleep($idle) => {
                    let requests = $connection.requests.load(Relaxed);
                    if requests == seen && $connection.running.load(Relaxed) == 0 {
                        break;
                    }
                    seen = requests;
                }
            }
        }
        $serving.as_mut().graceful_shutdown();
        let _ = timeout($patience, $serving).await;
    }};
}
/// Serves it until it ends.
pub(super) async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    pass: Pass,
    shared: Arc<Shared>,
) {
    let limits = *shared.gate.limits();
    let handshake = async {
        socket::tune(&stream).ok()?;
        let stream = acceptor.accept(stream).await.ok()?;
        let connection = stream.get_ref().1;
        let http2 = connection.alpn_protocol() == Some(tls::HTTP2);
        let channel = tls::channel(connection).ok()?;
        Some((stream, channel, http2))
    };
    let Ok(Some((stream, channel, http2))) = timeout(limits.patience, handshake).await else {
        shared.metrics.handshakes_failed.fetch_add(1, Relaxed);
        return;
    };
    let source = pass.source();
    let connection = Arc::new(Connection {
        pass: pass.into(),
        source,
        requests: AtomicU32::new(0),
        running: AtomicUsize::new(0),
    });
    let caller = Caller { channel, connection: Arc::clone(&connection) };
    let router = api::router(Arc::clone(&shared));
    let service = service_fn(move |request| answer(router.clone(), caller.clone(), request));
    let io = TokioIo::new(stream);
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 4)
            .max_send_buf_size(SEND)
            .keep_alive_interval(limits.idle)
            .keep_alive_timeout(limits.patience);
        let mut serving = pin!(builder.serve_connection(io, service));
        watch_over!(serving, connection, shared, limits.idle, limits.patience);
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.patience)
            .max_buf_size(16 << 10)
            .keep_alive(true);
        let mut serving = pin!(builder.serve_connection(io, service).with_upgrades());
        watch_over!(serving, connection, shared, limits.idle, limits.patience);
    }
}

async fn answer(
    router: Router,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<axum::response::Response, std::convert::Infallible> {
    let connection = Arc::clone(&caller.connection);
    connection.requests.fetch_add(1, Relaxed);
    connection.running.fetch_add(1, Relaxed);
    let _running = Running(&connection);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(caller);
    TowerToHyperService::new(router).call(request).await
}
