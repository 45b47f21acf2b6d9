use proptest::{collection::vec, prelude::*};

use super::*;

fn message() -> impl Strategy<Value = Message> {
    let request = || any::<[u8; 32]>().prop_map(RequestId);
    let pair = (any::<[u8; 8]>(), 1_u8.., "[a-zé日 ]{1,16}", any::<[u8; 32]>(), any::<[u8; 32]>());
    let heads = proptest::collection::btree_set(any::<[u8; 32]>(), 1..=MAX_PARENTS);
    let answer = prop_oneof![Just(Answer::Open), Just(Answer::Yes), Just(Answer::No)];
    let why = prop_oneof![
        Just(Decline::Person),
        Just(Decline::Other),
        Just(Decline::Closed),
        Just(Decline::Full),
        Just(Decline::Broken),
        Just(Decline::Member),
        Just(Decline::Again),
    ];
    prop_oneof![
        pair.prop_map(|(window, inbox, name, commitment, mac)| Message::Pair(Pair {
            window: WindowId(window),
            inbox: InboxId([inbox; 32]),
            name: Name::new(&name).unwrap(),
            commitment,
            mac,
        })),
        (request(), any::<[u8; 32]>())
            .prop_map(|(request, nonce)| Message::Challenge { request, nonce }),
        (request(), any::<[u8; 32]>(), answer)
            .prop_map(|(request, nonce, answer)| Message::Ready { request, nonce, answer }),
        (request(), heads).prop_map(|(request, heads)| Message::Admitted {
            request,
            heads: heads.into_iter().map(OperationId).collect(),
        }),
        (request(), why).prop_map(|(request, why)| Message::Declined { request, why }),
    ]
}

proptest! {
    #[test]
    fn messages_round_trip_as_their_kind_only(message in message(), other in 0..8_u32) {
        let body = message.encode();
        prop_assert_eq!(Message::decode(message.kind(), &body), Ok(message.clone()));
        if other != message.kind() {
            prop_assert!(Message::decode(other, &body).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_in_one_way_or_refused(kind in 0..8_u32, body in vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::decode(kind, &body) {
            prop_assert_eq!((message.kind(), message.encode()), (kind, body.into()));
        }
    }

    #[test]
    fn attack_11_a_field_more_or_less_is_refused(message in message(), field in 6_u8..15) {
        let body = message.encode();
        let longer = [&body[..], &[field << 3, 1]].concat();
        prop_assert!(Message::decode(message.kind(), &longer).is_err());
        prop_assert!(Message::decode(message.kind(), &body[..body.len() - 1]).is_err());
        prop_assert!(Message::decode(message.kind(), &[&body[..], &body].concat()).is_err());
    }
}

#[test]
fn attack_27_lists_and_names_are_bounded() {
    let request = RequestId([1; 32]);
    let heads = |count: u8| (0..count).map(|head| OperationId([head; 32])).collect();
    let refused = |count| {
        let body = Message::Admitted { request, heads: heads(count) }.encode();
        Message::decode(4, &body).err()
    };
    let bad = |problem| Some(WireError::field("heads", problem));
    assert_eq!(refused(32), None);
    assert_eq!([refused(33), refused(0)], [(); 2].map(|()| bad("none, too many, or not whole")));
    let twice = vec![OperationId([1; 32]); 2];
    let body = Message::Admitted { request, heads: twice }.encode();
    assert_eq!(Message::decode(4, &body).err(), bad("unsorted, or one comes twice"));
    assert!(Message::decode(6, &body).is_err(), "a kind that is not known");
}
