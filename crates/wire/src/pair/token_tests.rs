use proptest::{collection::vec, prelude::*};

use super::*;
use crate::pair::{Message, Pair, SavedJoin};

fn address() -> impl Strategy<Value = SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(SocketAddr::from).prop_filter("of use", dialable)
}

fn terms() -> impl Strategy<Value = Terms> {
    let role =
        prop_oneof![Just(Role::Admin), Just(Role::Writer), Just(Role::Reader), Just(Role::Keeper)];
    let ids = proptest::collection::btree_set(any::<[u8; 32]>(), 0..=MAX_TOKEN_FOLDERS);
    let folders = prop_oneof![
        Just(Scope::All),
        ids.prop_map(|ids| Scope::List(ids.into_iter().map(FolderId).collect())),
    ];
    (any::<[u8; 32]>(), 1_u8.., any::<[u8; 8]>(), 1_u8.., role, folders).prop_map(
        |(device, inbox, window, group, role, folders)| Terms {
            device: DeviceId(device),
            inbox: InboxId([inbox; 32]),
            window: WindowId(window),
            group: GroupId([group; 32]),
            role,
            folders,
        },
    )
}

fn token() -> impl Strategy<Value = Token> {
    (terms(), any::<[u8; 16]>(), vec(address(), 0..=MAX_TOKEN_ADDRESSES))
        .prop_map(|(terms, secret, addresses)| Token::new(terms, Secret::new(secret), addresses))
}

fn example() -> Token {
    let terms = Terms {
        device: DeviceId([1; 32]),
        inbox: InboxId([2; 32]),
        window: WindowId([3; 8]),
        group: GroupId([4; 32]),
        role: Role::Admin,
        folders: Scope::All,
    };
    let addresses = ["192.168.1.20:22000".parse().unwrap(), "[2001:db8::1]:22000".parse().unwrap()];
    Token::new(terms, Secret::new([213; 16]), addresses)
}

fn same(a: &Token, b: &Token) -> bool {
    (&a.terms, a.secret.expose(), &a.addresses) == (&b.terms, b.secret.expose(), &b.addresses)
}

fn bytes() -> Vec<u8> {
    example().encode().unwrap().expose().clone()
}

proptest! {
    #[test]
    fn tokens_round_trip_in_both_forms(token in token()) {
        for text in [token.to_text().unwrap(), token.to_link().unwrap()] {
            prop_assert!(same(&Token::parse(text.expose()).unwrap(), &token));
            prop_assert!(same(&Token::parse(&text.expose().to_uppercase()).unwrap(), &token));
        }
    }

    #[test]
    fn any_bytes_are_read_in_one_way_or_refused(
        bytes in vec(any::<u8>(), 0..300),
        at: prop::sample::Index,
        to: u8,
    ) {
        if let Ok(token) = Token::decode(&bytes) {
            let again = token.encode().unwrap();
            prop_assert_eq!(again.expose(), &bytes);
        }
        let mut changed = self::bytes();
        let at = at.index(changed.len());
        changed[at] = to;
        if let Ok(token) = Token::decode(&changed) {
            let again = token.encode().unwrap();
            prop_assert_eq!(again.expose(), &changed);
        }
    }

    #[test]
    fn what_a_joiner_keeps_round_trips(
        token in token(),
        me: [u8; 32],
        nonce: [u8; 32],
        challenge: Option<[u8; 32]>,
        agreed: bool,
    ) {
        let me = Recipient { device: DeviceId(me), inbox: InboxId([7; 32]) };
        let pair = Message::Pair(Pair {
            window: token.terms.window,
            inbox: me.inbox,
            name: crate::session::Name::new("Küche").unwrap(),
            commitment: [1; 32],
            mac: [2; 32],
        });
        let agreed = agreed && challenge.is_some();
        let saved = SavedJoin {
            terms: token.terms,
            addresses: token.addresses,
            me,
            pair: pair.encode(),
            nonce: Secret::new(nonce),
            challenge,
            agreed,
        };
        let bytes = saved.encode();
        let read = SavedJoin::decode(bytes.expose()).unwrap();
        prop_assert_eq!(
            (&read.terms, &read.addresses, &read.me, &read.pair),
            (&saved.terms, &saved.addresses, &saved.me, &saved.pair)
        );
        prop_assert_eq!(
            (read.nonce.expose(), read.challenge, read.agreed),
            (&nonce, challenge, agreed)
        );
        prop_assert!(SavedJoin::decode(&bytes.expose()[..bytes.expose().len() - 1]).is_err());
        prop_assert!(SavedJoin::decode(&[bytes.expose(), &[0][..]].concat()).is_err());
    }
}

#[test]
fn attack_14_a_newer_version_or_anything_more_is_a_typed_error() {
    let good = bytes();
    assert!(Token::decode(&good).is_ok());
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Token::decode(&bytes).err()
    };
    let malformed = |field, problem| Some(TokenError::Malformed(WireError::field(field, problem)));
    assert_eq!(with(0, 2), Some(TokenError::Newer(2)));
    assert!(with(0, 2).unwrap().to_string().contains("newer kin (format 2); update kin"));
    assert_eq!(with(0, 0), malformed("version", "zero"));
    assert_eq!(with(105, 9), malformed("role", "unknown"));
    assert_eq!(with(106, 5), malformed("folders", "too many"));
    assert_eq!(with(123, 9), malformed("addresses", "too many"));
    assert_eq!(with(good.len() - 1, 2), malformed("relay", "unknown to this version"));
    assert_eq!(with(good.len() - 1, 1), malformed("relay", "cut short"));
    let longer = Token::decode(&[&good[..], &[0]].concat()).err();
    assert_eq!(longer, malformed("end", "something follows it"));
    for len in 0..good.len() {
        assert!(Token::decode(&good[..len]).is_err(), "{len} bytes of it");
    }
}

#[test]
fn attack_09_other_kinds_are_refused_by_name() {
    let refused = |text: &str| Token::parse(text).unwrap_err().to_string();
    assert!(refused(&DeviceId([7; 32]).to_string()).contains("this is a device id"));
    assert!(refused("kc1qqqq").contains("this is a sharing code"));
    assert!(refused("maple otter 42 17").contains("never typed"));
}

#[test]
fn attack_15_a_token_shows_its_secret_nowhere() {
    let shown = format!("{:?}", example());
    assert!(shown.contains("Secret(…)") && !shown.contains("213"), "{shown}");
    let error = Token::decode(&bytes()[..150]).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("213"));
}

#[test]
fn addresses_that_are_no_use_are_left_out_and_refused() {
    let useless = [
        "0.0.0.0:1",
        "255.255.255.255:1",
        "224.0.0.251:5353",
        "10.0.0.1:0",
        "[::]:1",
        "[fe80::1]:1",
        "[ff02::fb]:1",
        "[::ffff:10.0.0.1]:1",
    ];
    let useless = useless.map(|text| text.parse::<SocketAddr>().unwrap());
    let mine: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let Token { terms, secret, .. } = example();
    let mixed = useless.iter().copied().chain([mine]);
    assert_eq!(Token::new(terms.clone(), secret.clone(), mixed).addresses, [mine]);
    assert_eq!(Token::new(terms.clone(), secret.clone(), [mine; 20]).addresses.len(), 8);
    for address in useless {
        let token = Token {
            terms: terms.clone(),
            secret: secret.clone(),
            addresses: vec![address],
            mail: None,
        };
        assert!(token.to_text().is_err(), "{address}");
    }
}

#[test]
fn a_token_with_two_addresses_fits_a_small_qr_code() {
    // Version 10 at the lowest level of correction: 395 characters of upper case and digits.
    let link = example().to_link().unwrap();
    assert!(link.expose().len() <= 279, "{} characters: version 8", link.expose().len());
}

#[test]
fn a_mailbox_takes_the_room_of_addresses_and_never_the_members_lane() {
    let token = example();
    let mail = |relay: &str| MailAddress {
        relay: relay.to_owned(),
        mailbox: [7; 32],
        token: Some([8; 32]),
    };
    let with = token.clone().with_mail(Some(&mail("kin:relay/relay.example.org:443")));
    assert_eq!(with.addresses, token.addresses);
    let read = Token::decode(with.encode().unwrap().expose()).unwrap();
    assert_eq!(read.mail, Some(mail("kin:relay/relay.example.org:443").for_strangers()));
    // A long one leaves no room for all addresses, and is still there.
    let crowded = Token { addresses: vec![token.addresses[0]; 8], ..token.clone() };
    let long = format!("kin:relay/{}", "x".repeat(280));
    let with = crowded.with_mail(Some(&mail(&long)));
    assert!(with.mail.is_some() && with.to_text().is_ok());
}
