//! Envelopes: deposited, received, acknowledged.

use relay::{ClientError, store::Quotas};
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
    drop(inbox);
    // An acknowledgement has no answer: until it has been taken in, they come again.
    while client.receive(&owner).await.unwrap().next().await.unwrap().number != numbers[2] {}
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
