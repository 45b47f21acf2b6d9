//! What a client makes of a relay that means harm: it is told a lie, and gives nothing up.

use std::sync::Arc;

use relay::{
    ClientError,
    hostile::{Hostile, Mischief},
    store::{Quotas, Sqlite},
};
use wire::relay::{LookupId, Refusal};

use crate::{
    common::{envelope, key, settings, start_on, token},
    rendezvous::soon,
};

#[tokio::test]
async fn attack_37_no_word_of_a_relay_makes_a_client_give_something_up() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&dir.path().join("relay.db"), Quotas::default()).unwrap();
    let hostile = Hostile::new(Arc::new(sqlite));
    let relay = start_on(Arc::new(hostile.clone()), &settings());
    let (client, owner) = (relay.client(), key(1));
    let mailbox = owner.owner().mailbox();
    client.settle(&owner, &token(5)).await.unwrap();
    let refusals = [
        Refusal::TooLarge,
        Refusal::Malformed,
        Refusal::Full,
        Refusal::Limited { after: 9 },
        Refusal::Unavailable,
    ];
    for refusal in refusals {
        hostile.set(Mischief { refuse: Some(refusal), ..Mischief::default() });
        let error = client.deposit(mailbox, None, envelope(1, 1024)).await.unwrap_err();
        assert!(!error.is_permanent(), "{refusal:?}: {error}");
    }
    hostile.set(Mischief { lie_about_absence: true, ..Mischief::default() });
    let error = client.deposit(mailbox, None, envelope(1, 1024)).await.unwrap_err();
    assert!(!error.is_permanent(), "{error}");
    hostile.set(Mischief::default());
    client.deposit(mailbox, None, envelope(1, 1024)).await.unwrap();
    client.deposit(mailbox, None, envelope(2, 1024)).await.unwrap();
    // What is cut is no envelope: the connection ends, nothing is acknowledged, and it comes whole later.
    hostile.set(Mischief { truncate: true, ..Mischief::default() });
    let mut inbox = client.receive(&owner).await.unwrap();
    let error = inbox.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken(_)), "{error}");
    hostile.set(Mischief { reorder: true, ..Mischief::default() });
    let mut inbox = client.receive(&owner).await.unwrap();
    assert_eq!(
        inbox.next().await.unwrap().envelope,
        envelope(2, 1024),
        "letters say what is first"
    );
    hostile.set(Mischief::default());
    let mut inbox = client.receive(&owner).await.unwrap();
    assert_eq!(inbox.next().await.unwrap().envelope, envelope(1, 1024));
    let lookup = LookupId([1; 32]);
    client.put(&owner, lookup, soon(), vec![7; 1024].into()).await.unwrap();
    hostile.set(Mischief { lie_about_absence: true, ..Mischief::default() });
    assert_eq!(client.get(lookup).await.unwrap(), None);
    relay.stop().await;
}
