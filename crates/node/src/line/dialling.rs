//! Dialling one target: resolving its name, trying its addresses.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use link::{Endpoint, Link, LinkError};
use tokio::{net::lookup_host, sync::mpsc, task::JoinSet, time::timeout};

use super::{Internal, targets::Key};

/// Head start of one address before the next is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses tried of one target.
const MAX_ADDRESSES: usize = 16;
/// How long resolving a name may take.
const RESOLVING: Duration = Duration::from_secs(10);

/// Why a target could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Resolve(io::Error),
    #[error("the name leads to no address")]
    NoAddress,
    #[error("{0}")]
    Link(#[from] LinkError),
}

/// Dials in the background and tells the session what came of it.
pub(crate) fn spawn(
    endpoint: Arc<Endpoint>,
    key: Key,
    addrs: Vec<SocketAddr>,
    session: mpsc::Sender<Internal>,
) {
    tokio::spawn(async move {
        let result = dial(&endpoint, &key, addrs).await;
        let _ = session.send(Internal::Dialled { key, result: Box::new(result) }).await;
    });
}

/// Dials one target: the name of a manual one is resolved first.
pub(crate) async fn dial(
    endpoint: &Arc<Endpoint>,
    key: &Key,
    addrs: Vec<SocketAddr>,
) -> Result<Link, DialError> {
    match key {
        Key::Manual(place) => first(endpoint, resolve(place).await?).await,
        Key::Advert(_) | Key::Member(_) => first(endpoint, addrs).await,
    }
}

async fn resolve(place: &str) -> Result<Vec<SocketAddr>, DialError> {
    let late = |_| DialError::Resolve(io::ErrorKind::TimedOut.into());
    let addrs = timeout(RESOLVING, lookup_host(place)).await.map_err(late)?;
    Ok(addrs.map_err(DialError::Resolve)?.collect())
}

/// The first link that any of the addresses gives; the others are dropped.
async fn first(endpoint: &Arc<Endpoint>, addrs: Vec<SocketAddr>) -> Result<Link, DialError> {
    let mut rest = addrs.into_iter().take(MAX_ADDRESSES);
    let mut tries = JoinSet::new();
    let mut failure = DialError::NoAddress;
    loop {
        if let Some(addr) = rest.next() {
            let endpoint = Arc::clone(endpoint);
            tries.spawn(async move { endpoint.dial(addr).await });
        } else if tries.is_empty() {
            return Err(failure);
        }
        let ended = if rest.len() == 0 {
            tries.join_next().await
        } else {
            match timeout(STAGGER, tries.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(Ok(link))) => return Ok(link),
            // That it is this very device is worth more than that another address is deaf.
            Some(Ok(Err(LinkError::Own))) => return Err(LinkError::Own.into()),
            Some(Ok(Err(error))) => failure = error.into(),
            Some(Err(_)) | None => {}
        }
    }
}
