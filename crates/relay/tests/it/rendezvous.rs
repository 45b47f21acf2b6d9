//! Entries: put, found, withdrawn.

use std::time::SystemTime;

use bytes::Bytes;
use relay::ClientError;
use wire::relay::{LookupId, Refusal};

use crate::common::{fresh, key};

pub(crate) fn soon() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_secs() + 3600
}

#[tokio::test]
async fn an_entry_is_found_until_it_is_withdrawn_and_belongs_to_who_came_first() {
    let (_dir, relay) = fresh().await;
    let client = relay.client();
    let lookup = LookupId([1; 32]);
    let entry = Bytes::from(vec![7; 4096]);
    assert_eq!(client.get(lookup).await.unwrap(), None);
    client.put(&key(1), lookup, soon(), entry.clone()).await.unwrap();
    assert_eq!(client.get(lookup).await.unwrap(), Some(entry));
    let taken = client.put(&key(2), lookup, soon(), vec![8; 1024].into()).await.unwrap_err();
    assert!(matches!(taken, ClientError::Refused(Refusal::Taken)), "{taken}");
    client.withdraw(&key(2), lookup).await.unwrap();
    assert!(client.get(lookup).await.unwrap().is_some(), "withdrawn by somebody else");
    client.put(&key(1), lookup, soon(), vec![9; 1024].into()).await.unwrap();
    assert_eq!(client.get(lookup).await.unwrap(), Some(vec![9; 1024].into()), "replaced");
    client.withdraw(&key(1), lookup).await.unwrap();
    assert_eq!(client.get(lookup).await.unwrap(), None);
    relay.stop().await;
}
