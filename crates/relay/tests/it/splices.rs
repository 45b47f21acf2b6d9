//! Two ends that meet.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::relay::MeetingId;

use crate::common::fresh;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn two_ends_meet_and_talk() {
    let (_dir, relay) = fresh().await;
    let (one, other) = (relay.client(), relay.client());
    let meeting = MeetingId([3; 32]);
    let (one, other) = tokio::join!(one.splice(meeting, PATIENCE), other.splice(meeting, PATIENCE));
    let (mut one, mut other) = (one.unwrap(), other.unwrap());
    one.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    other.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
    let answer = vec![7; 300_000];
    let sent = answer.clone();
    let writing = tokio::spawn(async move {
        other.write_all(&sent).await.unwrap();
        other.shutdown().await.unwrap();
        other
    });
    let mut heard = Vec::new();
    one.read_to_end(&mut heard).await.unwrap();
    assert!(heard == answer);
    drop(writing.await.unwrap());
    relay.stop().await;
}
