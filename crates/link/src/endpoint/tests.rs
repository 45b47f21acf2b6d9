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
        strands: None,
        acceptor: Arc::new(server).into(),
    };
    Endpoint { keyed: RwLock::new(keyed), limits: Limits::default(), protocol: Protocol::Devices }
}

/// What both ends make of it when the first dials the second.
async fn meet(
    dialling: &Endpoint,
    answering: &Endpoint,
) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    answered(answering, async |addr| dialling.dial(addr).await).await
}

/// The same when it dials for a strand.
async fn join(
    dialling: &Endpoint,
    answering: &Endpoint,
) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    answered(answering, async |addr| dialling.dial_strand(addr).await).await
}

async fn answered(
    answering: &Endpoint,
    dial: impl AsyncFnOnce(SocketAddr) -> Result<Link, LinkError>,
) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = async {
        let (stream, from) = listener.accept().await.unwrap();
        answering.answer(stream, from).await
    };
    tokio::join!(dial(addr), answer)
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

#[tokio::test]
async fn e24_a_strand_is_told_from_a_link_at_both_ends() {
    let (one, other) = (
        Endpoint::new(&key(1), Limits::default()).unwrap(),
        Endpoint::new(&key(2), Limits::default()).unwrap(),
    );
    let (dialled, answered) = join(&one, &other).await;
    let (dialled, answered) = (dialled.unwrap(), answered.unwrap());
    assert!(dialled.is_strand() && answered.is_strand());
    assert_eq!((dialled.peer(), answered.peer()), (key(2).id(), key(1).id()));
    let (dialled, answered) = meet(&one, &other).await;
    let (dialled, answered) = (dialled.unwrap(), answered.unwrap());
    assert!(!dialled.is_strand() && !answered.is_strand());
    assert!(dialled.round_trip().is_some() && answered.round_trip().is_some());
}

#[tokio::test]
async fn e24_whoever_knows_no_strands_is_offered_none() {
    let ssh = |seed| Endpoint::speaking(Protocol::Ssh, &key(seed), Limits::default()).unwrap();
    let devices = Endpoint::new(&key(1), Limits::default()).unwrap();
    let (dialled, answered) = join(&devices, &ssh(2)).await;
    assert!(matches!(dialled, Err(LinkError::NotKinfold(_))), "{dialled:?}");
    assert!(matches!(answered, Err(LinkError::NotKinfold(_))), "{answered:?}");
    let dialled = ssh(2).dial_strand(([127, 0, 0, 1], 9).into()).await;
    assert!(matches!(dialled, Err(LinkError::NotKinfold(_))), "{dialled:?}");
}

#[tokio::test]
async fn e24_what_somebody_else_carries_is_never_a_strand() {
    let (mut client, server) = tls::configs(&key(1), Protocol::Devices).unwrap();
    client.alpn_protocols = vec![Protocol::Devices.strand_alpn().unwrap().to_vec()];
    let keyed = Keyed {
        own: key(1).id(),
        connector: Arc::new(client).into(),
        strands: None,
        acceptor: Arc::new(server).into(),
    };
    let bent = Endpoint {
        keyed: RwLock::new(keyed),
        limits: Limits::default(),
        protocol: Protocol::Devices,
    };
    let other = Endpoint::new(&key(2), Limits::default()).unwrap();
    let (left, right) = tokio::io::duplex(1 << 16);
    let (dialled, answered) =
        tokio::join!(bent.through(Box::new(left), true), other.through(Box::new(right), false));
    assert!(matches!(dialled, Err(LinkError::NotKinfold(_))), "{dialled:?}");
    assert!(matches!(answered, Err(LinkError::NotKinfold(_))), "{answered:?}");
}
