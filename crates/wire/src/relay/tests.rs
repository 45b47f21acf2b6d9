use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> OwnerKey {
    OwnerKey::from_seed(&Secret::new([seed; 32])).unwrap()
}

fn envelope(size: usize) -> Bytes {
    let mut envelope = vec![7; size];
    envelope[0] = envelope::VERSION;
    envelope.into()
}

#[test]
fn a_signature_holds_for_one_connection_owner_and_purpose() {
    let (channel, mine) = ([1; 32], key(7));
    let lookup = LookupId([3; 32]);
    let signed = Signed::Put { lookup, until: 5, entry: b"x" };
    let signature = signed.sign(&channel, &mine);
    assert!(signed.verify(&channel, mine.owner(), &signature));
    assert!(!signed.verify(&[2; 32], mine.owner(), &signature), "another connection");
    assert!(!signed.verify(&channel, key(8).owner(), &signature), "another owner");
    let others = [
        Signed::Put { lookup, until: 6, entry: b"x" },
        Signed::Put { lookup, until: 5, entry: b"y" },
        Signed::Put { lookup: LookupId([4; 32]), until: 5, entry: b"x" },
        Signed::Withdraw(lookup),
        Signed::Settle(TokenHash([3; 32])),
        Signed::Receive,
        Signed::Remove,
    ];
    for other in others {
        assert!(!other.verify(&channel, mine.owner(), &signature), "{other:?}");
    }
}

#[test]
fn requests_come_back_as_they_were() {
    let owner = key(7).owner();
    let signature = Signature([9; 64]);
    let lookup = LookupId([1; 32]);
    let put = Put { lookup, owner, until: 99, entry: vec![1; 4096].into(), signature };
    assert_eq!(Put::decode(&put.encode().into()), Ok(put));
    let get = Get { lookup };
    assert_eq!(Get::decode(&get.encode().into()), Ok(get));
    let withdraw = Withdraw { lookup, owner, signature };
    assert_eq!(Withdraw::decode(&withdraw.encode().into()), Ok(withdraw));
    let settle = Settle { owner, token: TokenHash([2; 32]), signature };
    assert_eq!(Settle::decode(&settle.encode().into()), Ok(settle));
    let remove = Remove { owner, signature };
    assert_eq!(Remove::decode(&remove.encode().into()), Ok(remove));
    let receive = Receive { owner, signature };
    assert_eq!(Receive::decode(&receive.encode().into()), Ok(receive));
    let meet = Meet { meeting: MeetingId([3; 32]) };
    assert_eq!(Meet::decode(&meet.encode().into()), Ok(meet));
    for token in [None, Some(DepositToken(Secret::new([4; 32])))] {
        let envelope = envelope(65536);
        let deposit = Deposit { mailbox: owner.mailbox(), token, envelope };
        let bytes: Bytes = deposit.encode().into();
        assert!(bytes.len() <= MAX_REQUEST, "{}", bytes.len());
        let again = Deposit::decode(&bytes).unwrap();
        assert_eq!(again.encode(), bytes);
        assert_eq!(again.token.is_some(), deposit.token.is_some());
    }
    for lane in [Lane::Members, Lane::Strangers] {
        let item = Item { number: u64::MAX, lane, envelope: envelope(65536) };
        let bytes: Bytes = item.encode().into();
        assert!(bytes.len() <= MAX_ANSWER, "{}", bytes.len());
        assert_eq!(Item::decode(&bytes), Ok(item));
    }
    let ack = Ack { numbers: (u64::MAX - 255..=u64::MAX).collect() };
    let bytes: Bytes = ack.encode().into();
    assert!(bytes.len() <= MAX_FRAME, "{}", bytes.len());
    assert_eq!(Ack::decode(&bytes), Ok(ack));
}

#[test]
fn answers_come_back_as_they_were() {
    let refusals = [
        Refusal::TooLarge,
        Refusal::Malformed,
        Refusal::Taken,
        Refusal::Denied,
        Refusal::Full,
        Refusal::Limited { after: 7 },
        Refusal::Unavailable,
    ];
    let plain = [Answer::Done, Answer::Absent, Answer::Entry(vec![5; 16384].into())];
    for answer in plain.into_iter().chain(refusals.map(Answer::Refused)) {
        assert_eq!(Answer::decode(&answer.encode().into()), Ok(answer));
    }
    let permanent = refusals.map(|it| it.is_permanent());
    assert_eq!(permanent, [true, true, true, true, false, false, false]);
}

#[test]
fn attack_27_what_is_no_size_of_ours_or_not_in_one_form_is_refused() {
    let owner = key(7).owner();
    let put = Put {
        lookup: LookupId([1; 32]),
        owner,
        until: 1,
        entry: vec![0; 1025].into(),
        signature: Signature([0; 64]),
    };
    assert!(Put::decode(&put.encode().into()).is_err(), "entry of another size");
    let deposit = Deposit { mailbox: owner.mailbox(), token: None, envelope: vec![2; 1024].into() };
    assert!(Deposit::decode(&deposit.encode().into()).is_err(), "envelope of another version");
    let twice = [Get { lookup: LookupId([1; 32]) }.encode(), vec![0x18, 5]].concat();
    assert!(Get::decode(&twice.into()).is_err(), "a field of another request");
    assert!(Get::decode(&vec![0; MAX_FRAME + 1].into()).is_err());
    for numbers in [vec![], vec![2, 1], vec![1, 1], (1..=257).collect()] {
        assert!(Ack::decode(&Ack { numbers }.encode().into()).is_err());
    }
    let item = Item { number: 0, lane: Lane::Members, envelope: envelope(1024) };
    assert!(Item::decode(&item.encode().into()).is_err());
}

proptest! {
    #[test]
    fn whatever_comes_is_refused_or_has_one_form(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        if let Ok(it) = Get::decode(&bytes) { prop_assert_eq!(&it.encode()[..], &bytes[..]); }
        if let Ok(it) = Ack::decode(&bytes) { prop_assert_eq!(&it.encode()[..], &bytes[..]); }
        if let Ok(it) = Answer::decode(&bytes) { prop_assert_eq!(&it.encode()[..], &bytes[..]); }
        prop_assert!(Put::decode(&bytes).is_err() && Deposit::decode(&bytes).is_err());
    }
}
