//! What an operator is told of a store that cannot be written.

use std::{sync::Arc, time::Duration};

use relay::{
    ClientError,
    hostile::{Hostile, Mischief},
    store::{Quotas, Sqlite},
};
use tokio::time::{sleep, timeout};
use wire::relay::{LookupId, Refusal};

use crate::{
    common::{Running, key, settings, start_on},
    rendezvous::soon,
};

async fn is_healthy(relay: &Running) -> bool {
    let page = relay.page("/health").await;
    let healthy = page.starts_with("HTTP/1.1 200 ");
    assert!(healthy || page.starts_with("HTTP/1.1 503 "), "{page}");
    healthy
}

async fn until(relay: &Running, healthy: bool) {
    let turned = async {
        while is_healthy(relay).await != healthy {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), turned).await.expect("it is said in time");
    assert_eq!(relay.metric("kin_relay_up").await, u64::from(healthy));
}

#[tokio::test]
async fn a_relay_that_cannot_write_is_not_healthy_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&dir.path().join("relay.db"), Quotas::default()).unwrap();
    let store = Hostile::new(Arc::new(sqlite));
    let relay = start_on(Arc::new(store.clone()), &settings());
    let put = async || {
        let entry = vec![7; 1024].into();
        relay.client().put(&key(1), LookupId([1; 32]), soon(), entry).await
    };
    put().await.unwrap();
    assert!(is_healthy(&relay).await);
    store.set(Mischief { fail: true, ..Mischief::default() });
    let error = put().await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(Refusal::Unavailable)), "{error}");
    until(&relay, false).await;
    // There is room again, and nobody asks for anything.
    store.set(Mischief::default());
    until(&relay, true).await;
    put().await.unwrap();
    relay.stop().await;
}

#[tokio::test]
async fn that_nothing_can_be_written_is_seen_before_somebody_tries() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&dir.path().join("relay.db"), Quotas::default()).unwrap();
    let store = Hostile::new(Arc::new(sqlite));
    store.set(Mischief { fail: true, ..Mischief::default() });
    let relay = start_on(Arc::new(store), &settings());
    until(&relay, false).await;
    relay.stop().await;
}
