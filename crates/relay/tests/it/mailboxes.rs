//! Envelopes: deposited, received, acknowledged.

use relay::{ClientError, Limits, Settings, store::Quotas};
use wire::relay::{Lane, Refusal};

use crate::common::{envelope, fresh, key, settings, start, token};

#[tokio::test]
async fn envelopes_come_in_order_and_stay_until_they_are_acknowledged() {
    let (dir, relay) = fresh().await;
    let (client, owner) = (relay.client(), key(1));
    let mailbox = owner.owner().mailbox();
    client.settle(&owner, &token(5)).await.unwrap();
    for mark in 1..=3 {
        client.deposit(mailbox, Some(&token(5)), envelope(mark, 1024)).await.unwrap();
    }
    let mut inbox = client.receive(&owner).await.unwrap();
    let mut numbers = Vec::new();
    for mark in 1..=3 {
        let item = inbox.next().await.unwrap();
        assert_eq!((item.envelope, item.lane), (envelope(mark, 1024), Lane::Members));
        numbers.push(item.number);
    }
    // What comes while somebody receives is pushed.
    client.deposit(mailbox, None, envelope(4, 4096)).await.unwrap();
    let pushed = inbox.next().await.unwrap();
    assert_eq!((pushed.envelope, pushed.lane), (envelope(4, 4096), Lane::Strangers));
    inbox.acknowledge(&numbers[..2]).await.unwrap();
    // An acknowledgement has no answer; the relay counts it when it has been taken in.
    while relay.metric("kin_relay_acknowledged_total").await != 2 {
        tokio::task::yield_now().await;
    }
    relay.stop().await;
    let relay = start(dir.path(), settings(), Quotas::default()).await;
    let mut inbox = relay.client().receive(&owner).await.unwrap();
    assert_eq!(inbox.next().await.unwrap().number, numbers[2], "it was not acknowledged");
    assert_eq!(inbox.next().await.unwrap().number, pushed.number);
    relay.stop().await;
}

#[tokio::test]
async fn t22_a_token_that_was_changed_opens_the_lane_no_more() {
    let (_dir, relay) = fresh().await;
    let (client, owner) = (relay.client(), key(1));
    let mailbox = owner.owner().mailbox();
    client.settle(&owner, &token(5)).await.unwrap();
    client.settle(&owner, &token(6)).await.unwrap();
    let unavailable = |error: ClientError| {
        assert!(matches!(error, ClientError::Refused(Refusal::Unavailable)), "{error}");
        assert!(!error.is_permanent());
    };
    let old = client.deposit(mailbox, Some(&token(5)), envelope(1, 1024)).await;
    unavailable(old.unwrap_err());
    client.deposit(mailbox, Some(&token(6)), envelope(1, 1024)).await.unwrap();
    let nobody = key(9).owner().mailbox();
    unavailable(client.deposit(nobody, None, envelope(1, 1024)).await.unwrap_err());
    relay.stop().await;
}

#[tokio::test]
async fn who_receives_last_receives() {
    let (_dir, relay) = fresh().await;
    let (client, owner) = (relay.client(), key(1));
    client.settle(&owner, &token(5)).await.unwrap();
    let mut first = client.receive(&owner).await.unwrap();
    let mut second = client.receive(&owner).await.unwrap();
    assert!(first.next().await.is_err(), "it is told by the end of its connection");
    client.deposit(owner.owner().mailbox(), None, envelope(1, 1024)).await.unwrap();
    assert_eq!(second.next().await.unwrap().envelope, envelope(1, 1024));
    relay.stop().await;
}

#[tokio::test]
async fn only_its_owner_receives_a_mailbox_and_a_window_bounds_what_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { deposits: relay::Rate::new(1 << 20, 1 << 20), ..Limits::default() };
    let relay = start(dir.path(), Settings { limits, ..settings() }, Quotas::default()).await;
    let (client, owner) = (relay.client(), key(1));
    client.settle(&owner, &token(5)).await.unwrap();
    let other = client.receive(&key(2)).await.unwrap_err();
    assert!(matches!(other, ClientError::Refused(Refusal::Unavailable)), "{other}");
    let connection = client.connect().await.unwrap();
    let mailbox = owner.owner().mailbox();
    for number in 0..300_u16 {
        let [_, mark] = number.to_be_bytes();
        let envelope = envelope(mark, 1024);
        let token = Some(token(5));
        connection.deposit(&wire::relay::Deposit { mailbox, token, envelope }).await.unwrap();
    }
    let mut inbox = client.receive(&owner).await.unwrap();
    let mut numbers = Vec::new();
    for _ in 0..256 {
        numbers.push(inbox.next().await.unwrap().number);
    }
    // The others come when some of these are done with, and not before: 256 are on their way at most.
    assert_eq!(relay.metric("kin_relay_delivered_total").await, 256);
    inbox.acknowledge(&numbers).await.unwrap();
    for _ in 256..300 {
        inbox.next().await.unwrap();
    }
    relay.stop().await;
}
