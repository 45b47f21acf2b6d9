//! Those who ask for nothing that there is, or take their time.

use std::{sync::Arc, time::Duration};

use identity::Secret;
use relay::{Client, ClientError, Identity, Limits, RelayAddress, Settings, store::Quotas};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};
use wire::relay::{LookupId, MeetingId, Refusal};

use crate::common::{envelope, fresh, key, settings, start, token};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn attack_38_who_says_nothing_is_hung_up_on() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { patience: Duration::from_millis(100), ..Limits::default() };
    let relay = start(dir.path(), Settings { limits, ..settings() }, Quotas::default()).await;
    let mut silent = relay.dial().await;
    let mut slow = relay.dial().await;
    // The beginning of a TLS record, and no more.
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    for stream in [&mut silent, &mut slow] {
        let mut said = Vec::new();
        // The end, in one way or another.
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut said)).await;
        let _ = ended.expect("it is hung up on");
        assert!(said.len() < 64, "nothing but an alert");
    }
    assert_eq!(relay.metric("kin_relay_connections").await, 0);
    relay.stop().await;
}

#[tokio::test]
async fn attack_38_half_a_splice_ends_and_a_third_end_is_a_first_one() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { splice_wait: Duration::from_millis(100), ..Limits::default() };
    let relay = start(dir.path(), Settings { limits, ..settings() }, Quotas::default()).await;
    let client = relay.client();
    let alone = client.splice(MeetingId([1; 32]), LONG).await.unwrap_err();
    assert!(matches!(alone, ClientError::Refused(Refusal::Unavailable)), "{alone}");
    let (one, other) = tokio::join!(
        client.splice(MeetingId([2; 32]), LONG),
        client.splice(MeetingId([2; 32]), LONG)
    );
    let third = client.splice(MeetingId([2; 32]), LONG).await.unwrap_err();
    assert!(matches!(third, ClientError::Refused(Refusal::Unavailable)), "{third}");
    drop((one.unwrap(), other.unwrap()));
    while relay.metric("kin_relay_splice_ends").await != 0 {
        tokio::task::yield_now().await;
    }
    relay.stop().await;
}

#[tokio::test]
async fn attack_38_a_splice_on_which_nothing_is_said_ends() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { splice_idle: Duration::from_millis(100), ..Limits::default() };
    let relay = start(dir.path(), Settings { limits, ..settings() }, Quotas::default()).await;
    let client = relay.client();
    let meeting = MeetingId([1; 32]);
    let (one, other) = tokio::join!(client.splice(meeting, LONG), client.splice(meeting, LONG));
    let (mut one, _other) = (one.unwrap(), other.unwrap());
    let mut said = Vec::new();
    let ended = tokio::time::timeout(LONG, one.read_to_end(&mut said)).await;
    let _ = ended.expect("it has ended");
    assert!(said.is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn another_key_is_not_the_relay() {
    let (_dir, relay) = fresh().await;
    let other = Identity::from_seed(&Secret::new([43; 32])).unwrap();
    let address = RelayAddress::new("127.0.0.1", relay.address.port(), other.key()).unwrap();
    let error = Client::new(&address).unwrap().get(LookupId([1; 32])).await.unwrap_err();
    assert!(matches!(error, ClientError::NotTheRelay { .. }), "{error}");
    relay.stop().await;
    let error = Client::new(&address).unwrap().get(LookupId([1; 32])).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn attack_05_wrong_lookups_from_one_source_are_limited_and_the_store_is_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { gets: relay::Rate::new(20, 1), ..Limits::default() };
    let relay = start(dir.path(), Settings { limits, ..settings() }, Quotas::default()).await;
    let connection = Arc::new(relay.client().connect().await.unwrap());
    let mut asking = JoinSet::new();
    for number in 0..1000_u16 {
        let connection = Arc::clone(&connection);
        asking.spawn(async move {
            let mut lookup = [0; 32];
            lookup[..2].copy_from_slice(&number.to_be_bytes());
            match connection.get(LookupId(lookup)).await {
                Ok(None) => true,
                Err(ClientError::Refused(Refusal::Limited { .. })) => false,
                other => panic!("{other:?}"),
            }
        });
    }
    let answered = asking.join_all().await.into_iter().filter(|it| *it).count();
    assert!((20..25).contains(&answered), "{answered}");
    relay.stop().await;
}

#[tokio::test]
async fn what_the_relay_keeps_names_nobody() {
    let (dir, relay) = fresh().await;
    let (client, owner) = (relay.client(), key(1));
    client.settle(&owner, &token(5)).await.unwrap();
    let mailbox = owner.owner().mailbox();
    client.deposit(mailbox, Some(&token(5)), envelope(1, 1024)).await.unwrap();
    relay.stop().await;
    for file in ["relay.db", "relay.db-wal"] {
        let Some(bytes) = lab::files::read(dir.path().join(file)) else { continue };
        let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        assert!(!holds(b"127.0.0.1"), "{file}: an address");
        assert!(!holds(&[5; 32]), "{file}: the token itself");
        assert!(!holds(&owner.owner().0), "{file}: the owner's key");
    }
}
