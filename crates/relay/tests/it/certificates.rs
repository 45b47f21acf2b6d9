//! A relay that is known by a certificate. Authority and key are for this test alone, and last a hundred years.

use std::sync::Arc;

use identity::Secret;
use relay::{
    Client, ClientError, Identity, RelayAddress, TlsError,
    store::{Quotas, Sqlite},
};
use wire::relay::LookupId;

use crate::common::{envelope, key, settings, start_as, token};

const AUTHORITY: &[u8] = include_bytes!("certificate/authority.pem");
const CHAIN: &[u8] = include_bytes!("certificate/chain.pem");
const KEY: &[u8] = include_bytes!("certificate/key.pem");

#[tokio::test]
async fn a_relay_is_known_by_a_certificate_for_its_name_of_a_trusted_authority() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&dir.path().join("relay.db"), Quotas::default()).unwrap();
    let identity = Identity::Certificate { chain: CHAIN.into(), key: Secret::new(KEY.into()) };
    let relay = start_as(&identity, "localhost", Arc::new(store), &settings());
    assert_eq!(relay.address.key(), None);
    let client = Client::with_authority(&relay.address, AUTHORITY).unwrap();
    let owner = key(1);
    client.settle(&owner, &token(5)).await.unwrap();
    client.deposit(owner.owner().mailbox(), None, envelope(1, 1024)).await.unwrap();
    let mut inbox = client.receive(&owner).await.unwrap();
    assert_eq!(inbox.next().await.unwrap().envelope, envelope(1, 1024));

    // The system does not trust it, another name is not its own, and neither is a key.
    let port = relay.address.port();
    let not_it = async |client: Client| {
        let error = client.get(LookupId([1; 32])).await.unwrap_err();
        assert!(matches!(error, ClientError::NotTheRelay { .. }), "{error}");
    };
    match Client::new(&relay.address) {
        Ok(client) => not_it(client).await,
        // A system on which no authorities are installed.
        Err(error) => assert!(matches!(error, ClientError::Tls(TlsError::NoRoots)), "{error}"),
    }
    let other = RelayAddress::new("127.0.0.1", port, None).unwrap();
    not_it(Client::with_authority(&other, AUTHORITY).unwrap()).await;
    let pinned = Identity::from_seed(&Secret::new([42; 32])).unwrap().key();
    let other = RelayAddress::new("localhost", port, pinned).unwrap();
    not_it(Client::with_authority(&other, AUTHORITY).unwrap()).await;
    relay.stop().await;
}

#[test]
fn what_is_no_certificate_or_not_its_key_is_said() {
    let address = RelayAddress::new("localhost", 1, None).unwrap();
    assert!(Client::with_authority(&address, b"nothing").is_err());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _within = runtime.enter();
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&dir.path().join("relay.db"), Quotas::default()).unwrap());
    for (chain, key) in [(AUTHORITY, KEY), (CHAIN, CHAIN), (KEY, KEY), (&[][..], KEY)] {
        let identity = Identity::Certificate { chain: chain.into(), key: Secret::new(key.into()) };
        let bound = relay::Server::bind(&settings(), &identity, store.clone());
        assert!(bound.is_err());
    }
}
