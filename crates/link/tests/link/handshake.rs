//! What two ends of a link agree on, and who is refused.

use link::{Limits, LinkError};

use crate::common::{accept, dial, endpoint, key, listener, pair};

#[tokio::test]
async fn the_key_exchange_is_hybrid_and_each_end_knows_the_other() {
    let (dialled, accepted) = pair().await;
    assert_eq!(dialled.key_exchange(), "X25519MLKEM768");
    assert_eq!(accepted.key_exchange(), "X25519MLKEM768");
    assert_eq!((dialled.peer(), accepted.peer()), (key(2).id(), key(1).id()));
    assert_eq!((dialled.dialled(), accepted.dialled()), (true, false));
    assert!(accepted.addr().is_ipv4(), "an IPv4 address is shown as one: {}", accepted.addr());
}

#[tokio::test]
async fn the_exporter_is_equal_at_both_ends_and_new_for_each_link() {
    let (mut listener, addr) = listener(Limits::default()).await;
    let first = dial(1, addr).await.unwrap().exporter();
    assert_eq!(first, accept(&mut listener).await.exporter());
    let second = dial(1, addr).await.unwrap().exporter();
    assert_eq!(second, accept(&mut listener).await.exporter());
    assert_ne!(first, second);
    assert_ne!(first, [0; 32]);
}

#[tokio::test]
async fn a_link_over_ipv6_works_where_there_is_ipv6() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: no IPv6 here");
        return;
    }
    let (mut listener, addr) = listener(Limits::default()).await;
    let link = dial(1, ([0, 0, 0, 0, 0, 0, 0, 1], addr.port()).into()).await.unwrap();
    assert_eq!(link.peer(), key(2).id());
    assert!(accept(&mut listener).await.addr().is_ipv6());
}

#[tokio::test]
async fn dialling_oneself_is_noticed() {
    let (_listener, addr) = listener(Limits::default()).await;
    assert!(matches!(dial(2, addr).await, Err(LinkError::Own)));
}

/// On this one thread nothing else has run between the two: the port must be free when closing returns, not later.
#[tokio::test]
async fn a_closed_port_can_be_listened_on_at_once() {
    let (listener, addr) = listener(Limits::default()).await;
    listener.close().await;
    let again = link::Listener::bind(endpoint(3, Limits::default()), addr.port()).await;
    assert_eq!(again.map(|again| again.port()).unwrap(), addr.port());
}

#[tokio::test]
async fn nobody_there_is_refused_and_a_taken_port_is_named() {
    let (listener, addr) = listener(Limits::default()).await;
    let taken = link::Listener::bind(endpoint(3, Limits::default()), addr.port()).await;
    match taken.map(|_| ()) {
        Err(LinkError::PortInUse(port)) => assert_eq!(port, addr.port()),
        other => panic!("{other:?}"),
    }
    drop(listener);
    // The socket closes when the listener's task has ended.
    loop {
        match dial(1, addr).await {
            Err(LinkError::Refused(_)) => break,
            Ok(_) | Err(LinkError::Cut) => tokio::task::yield_now().await,
            Err(other) => panic!("{other:?}"),
        }
    }
}
