//! Two devices on one machine.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use identity::{DeviceKey, Secret};
use link::{Endpoint, Limits, Link, LinkError, Listener};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn key(seed: u8) -> Arc<DeviceKey> {
    Arc::new(DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key"))
}

pub(crate) fn endpoint(seed: u8, limits: Limits) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(&key(seed), limits).expect("TLS can be set up"))
}

/// A listener with key 2, and its address on IPv4 loopback.
pub(crate) async fn listener(limits: Limits) -> (Listener, SocketAddr) {
    let listener = Listener::bind(endpoint(2, limits), 0).await.expect("a free port");
    let addr = ([127, 0, 0, 1], listener.port()).into();
    (listener, addr)
}

pub(crate) async fn dial(seed: u8, addr: SocketAddr) -> Result<Link, LinkError> {
    endpoint(seed, Limits::default()).dial(addr).await
}

pub(crate) async fn accept(listener: &mut Listener) -> Link {
    timeout(LONG, listener.accept()).await.expect("a link in time").expect("the listener lives")
}

/// A link from key 1 to key 2, both ends.
pub(crate) async fn pair() -> (Link, Link) {
    let (mut listener, addr) = listener(Limits::default()).await;
    let dialled = dial(1, addr).await.expect("a link");
    (dialled, accept(&mut listener).await)
}
