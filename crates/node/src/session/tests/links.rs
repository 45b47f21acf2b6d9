//! Links come and go: rule T1, restarts, stops, ports.

use std::net::TcpListener;

use super::{Device, SessionEvent, ask, config, confirm};
use crate::{Admission, Event};

#[tokio::test]
async fn t1_of_two_links_dialled_at_once_one_stays_and_one_question_is_asked() {
    for _ in 0..5 {
        // Each knows the other's port before it starts.
        let [one, other] = [free_port(), free_port()];
        let with = |port, peer| {
            let mut config = config("twin", ask(), &[]);
            config.port = port;
            config.port_is_required = true;
            config.peers = vec![format!("127.0.0.1:{peer}")];
            config
        };
        let (mut a, mut b) =
            tokio::join!(Device::start(with(one, other)), Device::start(with(other, one)));
        let (_at_a, _at_b) = confirm(&mut a, &mut b).await;
        assert_eq!((a.asked(), b.asked()), (1, 1));
        for device in [&mut a, &mut b] {
            let lost = |event: &SessionEvent| matches!(event, SessionEvent::PeerDown { .. });
            while let Ok(event) = device.events.try_recv() {
                device.passed.push(event);
            }
            assert!(!device.passed.iter().any(lost), "{:?}", device.passed);
        }
    }
}

#[tokio::test]
async fn a_device_that_dials_itself_says_nothing() {
    let port = free_port();
    let mut own = config("anna", Admission::Open, &[]);
    own.port = port;
    own.peers = vec![format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let mut a = Device::start(own).await;
    let mut b = Device::new("bert", Admission::Open, &[&a]).await;
    let peer = a.peer_up().await;
    assert_eq!(peer.device, b.id());
    b.peer_up().await;
    let own = |event: &SessionEvent| matches!(event, SessionEvent::Event(Event::PeerFound { name, .. }) if name == "anna");
    assert!(!a.passed.iter().any(own));
}

#[tokio::test]
async fn a_restarted_peer_is_a_new_device_and_a_new_question() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let (_link, _) = confirm(&mut a, &mut b).await;
    let old = b.id();
    b.handle.stop().await;
    let (device, reason) = a.peer_down().await;
    assert_eq!((device, reason.as_str()), (old, "it stopped"));
    let mut b = Device::new("bert", ask(), &[&a]).await;
    assert_ne!(b.id(), old);
    confirm(&mut a, &mut b).await;
}

#[tokio::test]
async fn dsync_11_a_peer_that_dies_without_a_word_is_noticed_and_found_again() {
    let port = free_port();
    let fixed = || {
        let mut config = config("bert", Admission::Open, &[]);
        config.port = port;
        config.port_is_required = true;
        config
    };
    let mut b = Device::start(fixed()).await;
    let mut a = Device::new("anna", Admission::Open, &[&b]).await;
    let _link = a.peer_up().await;
    let old = b.id();
    // Its link breaks as it does when a process is killed.
    let link = b.peer_up().await;
    link.out.kill();
    drop((link, b));
    assert_eq!(a.peer_down().await.0, old);
    let mut b = loop {
        match super::start(fixed()).await {
            Ok((handle, events)) => break Device::of(handle, events).await,
            // The old session's socket closes a moment later.
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(a.peer_up().await.device, b.id());
    b.peer_up().await;
}

#[tokio::test]
async fn a_broken_link_between_members_comes_back_without_a_question() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let (at_a, _at_b) = confirm(&mut a, &mut b).await;
    at_a.out.kill();
    a.peer_down().await;
    b.peer_down().await;
    assert_eq!(a.peer_up().await.device, b.id());
    assert_eq!(b.peer_up().await.device, a.id());
    assert_eq!((a.asked(), b.asked()), (1, 1));
}

#[tokio::test]
async fn a_taken_port_is_an_error_if_asked_for_and_a_notice_otherwise() {
    let taken = TcpListener::bind("[::]:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let mut required = config("anna", Admission::Open, &[]);
    required.port = port;
    required.port_is_required = true;
    let error = super::start(required).await.expect_err("the port is taken").to_string();
    assert!(error.contains(&port.to_string()), "{error}");
    let mut preferred = config("anna", Admission::Open, &[]);
    preferred.port = port;
    let a = Device::start(preferred).await;
    let taken = |event: &SessionEvent| {
        matches!(event, SessionEvent::Event(Event::Listening { port_was_taken: true, .. }))
    };
    assert!(a.passed.iter().any(taken) && a.port != port);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_told_once() {
    let mut lost = config("anna", Admission::Open, &[]);
    lost.peers = vec!["no-such-host.invalid:9000".into()];
    let mut a = Device::start(lost).await;
    let message = a
        .told(|event| match event {
            Event::Error { kind: "address", message, .. } => Some(message.clone()),
            _ => None,
        })
        .await;
    assert!(message.contains("no-such-host.invalid:9000"), "{message}");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|tcp| tcp.local_addr()).expect("a port").port()
}
