//! What an operator reads: metrics and health, on a listener of their own, in plain HTTP.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, http::header, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{Shared, metrics::Now};

/// Readers at once.
const READERS: usize = 16;
/// What one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers until it is dropped.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(READERS));
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health_page))
        .with_state(shared);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            // However it ended, there is nobody to tell.
            let _ =
                timeout(PATIENCE, builder.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

async fn metrics(
    State(shared): State<Arc<Shared>>,
) -> ([(header::HeaderName, &'static str); 1], String) {
    let now = Now {
        open: shared.gate.connections(),
        receiving: shared.hub.len(),
        splice_ends: shared.gate.splices(),
        up: shared.is_healthy().await,
        counts: shared.store.counts().await.ok(),
    };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.page(&now))
}

async fn health_page(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    health(&shared).await
}

/// Whether the store answers, and takes what is put.
pub(super) async fn health(shared: &Shared) -> (StatusCode, &'static str) {
    match timeout(PATIENCE, shared.is_healthy()).await {
        Ok(true) => (StatusCode::OK, "ok\n"),
        Ok(false) | Err(_) => {
            let said = "the store does not answer or cannot be written: the log says why\n";
            (StatusCode::SERVICE_UNAVAILABLE, said)
        }
    }
}
