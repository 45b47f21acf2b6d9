//! What is asked at the same time goes to the database at once: while some of it is under way, the rest comes together.

use std::{pin::Pin, sync::Arc};

use tokio::sync::{Semaphore, mpsc};

/// The work of one batch.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes what waits in batches of at most `most` and has up to `at_once` of them worked on, until nobody can ask any
/// more.
pub(super) async fn run<T>(
    mut waiting: mpsc::Receiver<T>,
    (at_once, most): (usize, usize),
    work: impl Fn(Vec<T>) -> Work,
) {
    let places = Arc::new(Semaphore::new(at_once));
    loop {
        // The place first: what comes meanwhile comes along.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let mut batch = Vec::new();
        if waiting.recv_many(&mut batch, most).await == 0 {
            return;
        }
        let work = work(batch);
        tokio::spawn(async move {
            work.await;
            drop(place);
        });
    }
}
