//! Endpoints whose configuration was bent: what TLS itself lets pass.

use identity::Secret;
use tokio::net::TcpListener;

use super::*;

fn key(seed: u8) -> Arc<DeviceKey> {
    Arc::new(DeviceKey::from_seed(&Secret::new([seed; 32])).unwrap())
}

/// An endpoint that offers no protocol by ALPN, in either role.
fn without_alpn(seed: u8) -> Endpoint {
    let (mut client, mut server) = tls::configs(&key(seed), Protocol::Devices).unwrap();
    client.alpn_protocols.clear();
    server.alpn_protocols.clear();
    let keyed = Keyed {
        own: key(seed).id(),
        connector: Arc::new(client).into(),
        acceptor: Arc::new(server).into(),
    };
    Endpoint { keyed: RwLock::new(keyed), limits: Limits::default(), protocol: Protocol::Devices }
}

/// What both ends make of it when the first dials the second.
async fn meet(
    dialling: &Endpoint,
    answering: &Endpoint,
) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = async {
        let (stream, from) = listener.accept().await.unwrap();
        answering.answer(stream, from).await
    };
    tokio::join!(dialling.dial(addr), answer)
}

#[tokio::test]
async fn an_end_without_alpn_is_refused_by_the_other() {
    let normal = |seed| Endpoint::new(&key(seed), Limits::default()).unwrap();
    let (_, answered) = meet(&without_alpn(1), &normal(2)).await;
    assert!(matches!(answered, Err(LinkError::NotKinfold(_))));
    let (dialled, _) = meet(&normal(1), &without_alpn(2)).await;
    assert!(matches!(dialled, Err(LinkError::NotKinfold(_))));
    let (dialled, answered) = meet(&normal(1), &normal(2)).await;
    assert!(dialled.is_ok() && answered.is_ok());
}

#[tokio::test]
async fn with_another_key_it_is_another_device_in_both_roles() {
    let (changed, other) = (
        Endpoint::new(&key(1), Limits::default()).unwrap(),
        Endpoint::new(&key(2), Limits::default()).unwrap(),
    );
    changed.rekey(&key(3)).unwrap();
    assert_eq!(changed.device(), key(3).id());
    let (dialled, answered) = meet(&changed, &other).await;
    assert_eq!((dialled.unwrap().peer(), answered.unwrap().peer()), (key(2).id(), key(3).id()));
    let (dialled, answered) = meet(&other, &changed).await;
    assert_eq!((dialled.unwrap().peer(), answered.unwrap().peer()), (key(3).id(), key(2).id()));
    // It knows itself by the new key.
    let (dialled, _) = meet(&Endpoint::new(&key(3), Limits::default()).unwrap(), &changed).await;
    assert!(matches!(dialled, Err(LinkError::Own)));
}

#[tokio::test]
async fn a_link_for_ssh_keys_is_none_for_folders() {
    let speaking =
        |protocol, seed| Endpoint::speaking(protocol, &key(seed), Limits::default()).unwrap();
    for (one, other) in [(Protocol::Ssh, Protocol::Devices), (Protocol::Devices, Protocol::Ssh)] {
        let (dialled, answered) = meet(&speaking(one, 1), &speaking(other, 2)).await;
        assert!(matches!(dialled, Err(LinkError::NotKinfold(_))), "{dialled:?}");
        assert!(matches!(answered, Err(LinkError::NotKinfold(_))), "{answered:?}");
    }
    let (dialled, answered) = meet(&speaking(Protocol::Ssh, 1), &speaking(Protocol::Ssh, 2)).await;
    assert!(dialled.is_ok() && answered.is_ok());
}
