//! What is asked of the rendezvous at the same time is asked of the database at once.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use wire::relay::LookupId;

use super::{
    Shared, StoreError,
    batches::{self, Work},
    failed, prepared, signed,
};

/// Questions to the database at once.
const AT_ONCE: usize = 4;
/// Most entries of one.
const BATCH: usize = 128;

/// One that waits.
pub(super) struct Get {
    pub(super) lookup: LookupId,
    pub(super) now: u64,
    pub(super) reply: oneshot::Sender<Result<Option<Bytes>, StoreError>>,
}

/// Reads until nobody can ask any more.
pub(super) async fn run(shared: Arc<Shared>, waiting: mpsc::Receiver<Get>) {
    let answer = |batch: Vec<Get>| -> Work {
        let shared = Arc::clone(&shared);
        Box::pin(async move {
            let read = read(&shared, &batch).await;
            for get in batch {
                let found = match &read {
                    Ok(found) => Ok(found.get(&get.lookup).cloned()),
                    Err(error) => Err(error.clone()),
                };
                // Whoever stopped waiting is not answered.
                let _ = get.reply.send(found);
            }
        })
    };
    batches::run(waiting, (AT_ONCE, BATCH), answer).await;
}

/// The entries of those that have one which has not expired.
async fn read(shared: &Shared, batch: &[Get]) -> Result<HashMap<LookupId, Bytes>, StoreError> {
    let client = shared.client().await?;
    let query = "SELECT lookup, entry FROM entries WHERE lookup = ANY ($1) AND expires > $2";
    let statement = prepared(&client, query).await?;
    let lookups: Vec<&[u8]> = batch.iter().map(|get| &get.lookup.0[..]).collect();
    // They came within moments of each other.
    let now = signed(batch.iter().map(|get| get.now).max().unwrap_or_default());
    let rows = client.query(&statement, &[&lookups, &now]).await.map_err(|error| failed(&error))?;
    let entry = |row: &tokio_postgres::Row| {
        let lookup = row.get::<_, &[u8]>(0).try_into().ok()?;
        Some((LookupId(lookup), Bytes::copy_from_slice(row.get(1))))
    };
    Ok(rows.iter().filter_map(entry).collect())
}
