//! What a device is told of a connection that ends: in words for people.

use relay::{Client, ClientError, Identity, RelayAddress};
use tokio::{io::copy_bidirectional, net::TcpListener, task::JoinHandle};
use wire::relay::LookupId;

use crate::common::{Running, fresh, key, token};

/// Passes on what one connection after the other says, until it is ended.
async fn between(relay: &Running) -> (RelayAddress, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = RelayAddress::new("127.0.0.1", port, relay.address.key()).unwrap();
    let to = relay.address.port();
    let task = tokio::spawn(async move {
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            let mut to = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            // However it ends, the next one comes.
            let _ = copy_bidirectional(&mut from, &mut to).await;
        }
    });
    (address, task)
}

fn is_plain(error: &ClientError) {
    let said = error.to_string();
    let foreign = ["http", "close_notify", "tls handshake", "certificate: "];
    assert!(!foreign.iter().any(|word| said.contains(word)), "{said}");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_told_in_plain_words() {
    let (_dir, relay) = fresh().await;
    let (address, task) = between(&relay).await;
    let client = Client::new(&address).unwrap();
    client.settle(&key(1), &token(5)).await.unwrap();
    let mut inbox = client.receive(&key(1)).await.unwrap();
    task.abort();
    let cut = inbox.next().await.unwrap_err();
    assert_eq!(cut.to_string(), "the relay broke off: it ended the connection");
    relay.stop().await;
}

#[tokio::test]
async fn what_is_no_relay_or_another_one_is_told_in_plain_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let seed = identity::Secret::new([42; 32]);
    let of = Identity::from_seed(&seed).unwrap().key();
    let address = RelayAddress::new("127.0.0.1", port, of).unwrap();
    let error = Client::new(&address).unwrap().get(LookupId([1; 32])).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    is_plain(&error);
    silent.abort();

    let (_dir, relay) = fresh().await;
    let other = Identity::from_seed(&identity::Secret::new([43; 32])).unwrap().key();
    let address = RelayAddress::new("127.0.0.1", relay.address.port(), other).unwrap();
    let error = Client::new(&address).unwrap().get(LookupId([1; 32])).await.unwrap_err();
    assert!(error.to_string().ends_with("it has another key"), "{error}");
    is_plain(&error);
    relay.stop().await;
}
