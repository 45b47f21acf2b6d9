//! What every store must do.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use relay::store::{
    KEEP_ENVELOPES, KEEP_MAILBOXES, LaneQuota, NewEntry, NewEnvelope, Quotas, Store, StoreError,
};
use wire::relay::{Item, Lane, LookupId, MailboxId, Owner, Refusal, TokenHash};

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
/// Opens the store, also once more after it was dropped.
type Open = dyn Fn(Quotas) -> Later<'static, Arc<dyn Store>>;

macro_rules! contract {
    ($($name:ident)*) => {
        pub(crate) const CONTRACT: &[(&str, for<'a> fn(&'a Open) -> Later<'a, ()>)] =
            &[$((stringify!($name), |open| Box::pin($name(open)))),*];
    };
}

contract! {
    an_entry_belongs_to_who_came_first_until_its_end
    attack_06_absent_expired_and_withdrawn_are_the_same
    t22_lanes_have_quotas_of_their_own_and_a_changed_token_closes_one
    envelopes_are_read_in_order_and_deleted_by_acknowledgement_alone
    what_is_there_is_there_after_the_store_was_opened_again
    what_has_had_its_time_is_swept
    quotas_of_the_whole_hold
    a_probe_needs_no_place_and_leaves_nothing
    deposits_at_once_are_all_kept_in_order_within_a_mailbox
}

const T0: u64 = 1_800_000_000;

fn entry(lookup: u8, owner: u8, until: u64, mark: u8) -> NewEntry {
    NewEntry {
        lookup: LookupId([lookup; 32]),
        owner: Owner([owner; 32]),
        until,
        entry: vec![mark; 1024].into(),
    }
}

fn mail(owner: u8, token: Option<u8>, mark: u8, size: usize) -> NewEnvelope {
    NewEnvelope {
        mailbox: mailbox(owner),
        token: token.map(|token| TokenHash([token; 32])),
        envelope: vec![mark; size].into(),
    }
}

fn mailbox(owner: u8) -> MailboxId {
    Owner([owner; 32]).mailbox()
}

fn refusal<T>(result: Result<T, StoreError>) -> Option<Refusal> {
    match result {
        Ok(_) => None,
        Err(StoreError::Refused(refusal)) => Some(refusal),
        Err(error) => panic!("{error}"),
    }
}

async fn all(store: &dyn Store, owner: u8) -> Vec<Item> {
    store.read(mailbox(owner), 0, 1000, usize::MAX).await.unwrap()
}

async fn settle(store: &dyn Store, owner: u8, token: u8) {
    store.settle(Owner([owner; 32]), TokenHash([token; 32]), T0).await.unwrap();
}

async fn an_entry_belongs_to_who_came_first_until_its_end(open: &Open) {
    let store = open(Quotas::default()).await;
    let lookup = LookupId([1; 32]);
    store.put(entry(1, 1, T0 + 10, 1), T0).await.unwrap();
    let taken = store.put(entry(1, 2, T0 + 10, 2), T0 + 1).await;
    assert_eq!(refusal(taken), Some(Refusal::Taken));
    assert_eq!(store.get(lookup, T0 + 9).await.unwrap(), Some(Bytes::from(vec![1; 1024])));
    store.put(entry(1, 1, T0 + 20, 3), T0 + 2).await.unwrap();
    assert_eq!(store.get(lookup, T0 + 19).await.unwrap(), Some(Bytes::from(vec![3; 1024])));
    assert_eq!(store.get(lookup, T0 + 20).await.unwrap(), None);
    // Its time is over: it belongs to nobody, swept or not.
    store.put(entry(1, 2, T0 + 30, 4), T0 + 20).await.unwrap();
    assert_eq!(store.get(lookup, T0 + 20).await.unwrap(), Some(Bytes::from(vec![4; 1024])));
    store.withdraw(lookup, Owner([1; 32])).await.unwrap();
    assert!(store.get(lookup, T0 + 20).await.unwrap().is_some(), "it is no longer theirs");
    store.withdraw(lookup, Owner([2; 32])).await.unwrap();
    assert_eq!(store.get(lookup, T0 + 20).await.unwrap(), None);
    store.put(entry(1, 1, T0 + 40, 5), T0 + 20).await.unwrap();
}

async fn attack_06_absent_expired_and_withdrawn_are_the_same(open: &Open) {
    let store = open(Quotas::default()).await;
    store.put(entry(1, 1, T0 + 10, 1), T0).await.unwrap();
    store.put(entry(2, 1, T0 + 100, 1), T0).await.unwrap();
    store.withdraw(LookupId([2; 32]), Owner([1; 32])).await.unwrap();
    for (lookup, what) in [(1, "expired"), (2, "withdrawn"), (3, "absent")] {
        assert_eq!(store.get(LookupId([lookup; 32]), T0 + 50).await.unwrap(), None, "{what}");
        // Whoever withdraws learns nothing, either.
        store.withdraw(LookupId([lookup; 32]), Owner([9; 32])).await.unwrap();
        store.put(entry(lookup, 7, T0 + 100, 1), T0 + 50).await.unwrap();
    }
}

async fn t22_lanes_have_quotas_of_their_own_and_a_changed_token_closes_one(open: &Open) {
    let lane = |envelopes| LaneQuota { envelopes, bytes: 8192 };
    let quotas = Quotas { members: lane(3), strangers: lane(2), ..Quotas::default() };
    let store = open(quotas).await;
    settle(&*store, 1, 5).await;
    // Strangers fill their lane, and no other.
    for mark in 1..=2 {
        store.deposit(mail(1, None, mark, 1024), T0).await.unwrap();
    }
    let full = store.deposit(mail(1, None, 3, 1024), T0).await;
    assert_eq!(refusal(full), Some(Refusal::Full));
    store.deposit(mail(1, Some(5), 4, 4096), T0).await.unwrap();
    store.deposit(mail(1, Some(5), 5, 4096), T0).await.unwrap();
    let full = store.deposit(mail(1, Some(5), 6, 1024), T0).await;
    assert_eq!(refusal(full), Some(Refusal::Full), "by bytes");
    // A removed member has the old token only.
    settle(&*store, 1, 6).await;
    let wrong = refusal(store.deposit(mail(1, Some(5), 7, 1024), T0).await);
    let nowhere = refusal(store.deposit(mail(9, Some(5), 7, 1024), T0).await);
    let nowhere_else = refusal(store.deposit(mail(9, None, 7, 1024), T0).await);
    assert_eq!(wrong, Some(Refusal::Unavailable));
    assert_eq!((nowhere, nowhere_else), (wrong, wrong), "nothing tells them apart");
    let items = all(&*store, 1).await;
    let lanes: Vec<Lane> = items.iter().map(|item| item.lane).collect();
    use Lane::{Members, Strangers};
    assert_eq!(lanes, [Strangers, Strangers, Members, Members], "what was there has stayed");
    // What is acknowledged makes room in its own lane.
    store.acknowledge(mailbox(1), vec![items[0].number, items[2].number]).await.unwrap();
    store.deposit(mail(1, None, 8, 1024), T0).await.unwrap();
    store.deposit(mail(1, Some(6), 9, 4096), T0).await.unwrap();
    assert_eq!(refusal(store.deposit(mail(1, None, 8, 1024), T0).await), Some(Refusal::Full));
}

async fn envelopes_are_read_in_order_and_deleted_by_acknowledgement_alone(open: &Open) {
    let store = open(Quotas::default()).await;
    settle(&*store, 1, 5).await;
    settle(&*store, 2, 5).await;
    for mark in 1..=5 {
        store.deposit(mail(1, Some(5), mark, 1024), T0).await.unwrap();
        store.deposit(mail(2, None, mark + 100, 1024), T0).await.unwrap();
    }
    let marks = |items: &[Item]| items.iter().map(|it| it.envelope[0]).collect::<Vec<_>>();
    let items = all(&*store, 1).await;
    assert_eq!(marks(&items), [1, 2, 3, 4, 5]);
    assert!(items.is_sorted_by(|a, b| a.number < b.number));
    assert_eq!(all(&*store, 1).await, items, "reading deletes nothing");
    let some = store.read(mailbox(1), items[1].number, 2, usize::MAX).await.unwrap();
    assert_eq!(marks(&some), [3, 4]);
    let some = store.read(mailbox(1), 0, 10, 2500).await.unwrap();
    assert_eq!(marks(&some), [1, 2], "as many bytes");
    let some = store.read(mailbox(1), 0, 10, 1).await.unwrap();
    assert_eq!(marks(&some), [1], "one always");
    let others = all(&*store, 2).await;
    // Another's numbers do nothing; neither do those that are gone.
    store.acknowledge(mailbox(1), vec![others[0].number, items[2].number]).await.unwrap();
    store.acknowledge(mailbox(1), vec![items[2].number, u64::MAX >> 1]).await.unwrap();
    assert_eq!(marks(&all(&*store, 1).await), [1, 2, 4, 5]);
    assert_eq!(all(&*store, 2).await, others);
    assert!(store.visit(mailbox(1), T0).await.unwrap());
    store.remove(mailbox(1)).await.unwrap();
    assert!(!store.visit(mailbox(1), T0).await.unwrap());
    assert_eq!(all(&*store, 1).await, []);
    assert_eq!(all(&*store, 2).await, others);
}

async fn what_is_there_is_there_after_the_store_was_opened_again(open: &Open) {
    let store = open(Quotas::default()).await;
    settle(&*store, 1, 5).await;
    store.put(entry(1, 1, T0 + 10, 1), T0).await.unwrap();
    for mark in 1..=3 {
        store.deposit(mail(1, Some(5), mark, 1024), T0).await.unwrap();
    }
    let before = all(&*store, 1).await;
    store.acknowledge(mailbox(1), vec![before[2].number]).await.unwrap();
    drop(store);
    let store = open(Quotas::default()).await;
    assert_eq!(all(&*store, 1).await, before[..2]);
    assert!(store.get(LookupId([1; 32]), T0).await.unwrap().is_some());
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.entries, counts.mailboxes, counts.envelopes), (1, 1, 2));
    // A number is never used twice: an old acknowledgement deletes nothing new.
    store.deposit(mail(1, Some(5), 4, 1024), T0).await.unwrap();
    assert!(all(&*store, 1).await[2].number > before[2].number);
}

async fn what_has_had_its_time_is_swept(open: &Open) {
    let store = open(Quotas::default()).await;
    settle(&*store, 1, 5).await;
    settle(&*store, 2, 5).await;
    store.put(entry(1, 1, T0 + 10, 1), T0).await.unwrap();
    store.deposit(mail(1, Some(5), 1, 1024), T0).await.unwrap();
    store.deposit(mail(1, None, 2, 1024), T0 + 100).await.unwrap();
    let nothing = store.sweep(T0 + 9).await.unwrap();
    assert_eq!((nothing.entries, nothing.envelopes, nothing.mailboxes), (0, 0, 0));
    let swept = store.sweep(T0 + KEEP_ENVELOPES).await.unwrap();
    assert_eq!((swept.entries, swept.envelopes, swept.mailboxes), (1, 1, 0));
    let left = all(&*store, 1).await;
    assert_eq!((left.len(), left[0].lane), (1, Lane::Strangers));
    // Who comes keeps the mailbox.
    assert!(store.visit(mailbox(1), T0 + KEEP_MAILBOXES - 1).await.unwrap());
    let swept = store.sweep(T0 + KEEP_MAILBOXES).await.unwrap();
    assert_eq!((swept.envelopes, swept.mailboxes), (1, 1));
    assert!(store.visit(mailbox(1), T0 + KEEP_MAILBOXES).await.unwrap());
    assert!(!store.visit(mailbox(2), T0 + KEEP_MAILBOXES).await.unwrap());
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.mailboxes, counts.envelopes, counts.bytes), (1, 0, 0));
}

async fn quotas_of_the_whole_hold(open: &Open) {
    let quotas = Quotas { entries: 1, mailboxes: 1, bytes: 1024, ..Quotas::default() };
    let store = open(quotas).await;
    settle(&*store, 1, 5).await;
    store.put(entry(1, 1, T0 + 10, 1), T0).await.unwrap();
    store.deposit(mail(1, None, 1, 1024), T0).await.unwrap();
    // A store that others use, too, counts when it sweeps.
    store.sweep(T0).await.unwrap();
    assert_eq!(refusal(store.put(entry(2, 1, T0 + 10, 1), T0).await), Some(Refusal::Full));
    let mailbox = store.settle(Owner([2; 32]), TokenHash([5; 32]), T0).await;
    assert_eq!(refusal(mailbox), Some(Refusal::Full));
    assert_eq!(refusal(store.deposit(mail(1, None, 1, 1024), T0).await), Some(Refusal::Full));
    // What is there can be changed all the same.
    settle(&*store, 1, 6).await;
}

async fn a_probe_needs_no_place_and_leaves_nothing(open: &Open) {
    let store = open(Quotas { entries: 1, ..Quotas::default() }).await;
    store.put(entry(1, 1, T0 + 10, 1), T0).await.unwrap();
    let before = store.counts().await.unwrap();
    store.probe().await.unwrap();
    store.probe().await.unwrap();
    assert_eq!(store.counts().await.unwrap(), before);
    assert_eq!(store.sweep(T0).await.unwrap().entries, 0, "it was taken back");
    assert!(store.get(LookupId([1; 32]), T0).await.unwrap().is_some());
}

async fn deposits_at_once_are_all_kept_in_order_within_a_mailbox(open: &Open) {
    const SENDERS: u8 = 20;
    const EACH: u8 = 20;
    let store = open(Quotas::default()).await;
    for owner in 1..=3 {
        settle(&*store, owner, 5).await;
    }
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let store = Arc::clone(&store);
        senders.spawn(async move {
            for number in 0..EACH {
                let mut new = mail(1 + sender % 3, Some(5), 0, 1024);
                new.envelope = [&[sender, number][..], &[0; 1022]].concat().into();
                store.deposit(new, T0).await.unwrap();
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
    }
    let mut seen = 0;
    for owner in 1..=3 {
        let mut next = [0; SENDERS as usize];
        for item in all(&*store, owner).await {
            let (sender, number) = (usize::from(item.envelope[0]), item.envelope[1]);
            assert_eq!(number, next[sender], "in the order in which they were sent");
            next[sender] += 1;
            seen += 1;
        }
    }
    assert_eq!(seen, u32::from(SENDERS) * u32::from(EACH));
}
