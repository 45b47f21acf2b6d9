use proptest::{collection::vec, prelude::*};

use super::*;

fn key(seed: u8) -> DeviceKey {
    DeviceKey::from_seed(&Secret::new([seed; 32])).unwrap()
}

fn inbox(seed: u8) -> InboxKey {
    InboxKey::from_seed(Secret::new([seed.wrapping_add(100); 32])).unwrap()
}

fn recipient_of(seed: u8) -> Recipient {
    Recipient { device: key(seed).id(), inbox: inbox(seed).id() }
}

fn letter(body: &[u8]) -> Letter {
    Letter {
        reply: None,
        author: key(1).id(),
        group: Some(GroupId([9; 32])),
        kind: 3,
        sequence: 7,
        body: Bytes::copy_from_slice(body),
    }
}

fn open(envelope: &[u8]) -> Result<Letter, WireError> {
    Letter::open(envelope, &recipient_of(2), &inbox(2), None)
}

/// An envelope around any contents of a size there is.
fn around(contents: &[u8]) -> Vec<u8> {
    let mut envelope = [&[VERSION][..], &inbox(2).id().0].concat();
    let sealed = seal(&inbox(2).id(), INFO, &envelope, contents).unwrap();
    envelope.extend_from_slice(&sealed.encapsulated);
    envelope.extend_from_slice(&sealed.ciphertext);
    envelope
}

fn padded(letter: &[u8]) -> Vec<u8> {
    let mut contents = u32::try_from(letter.len()).unwrap().to_be_bytes().to_vec();
    contents.extend_from_slice(letter);
    contents.resize(SIZES[0] - OVERHEAD + LENGTH_LEN, 0);
    contents
}

proptest! {
    #[test]
    fn letters_round_trip_and_have_few_sizes(
        body in vec(any::<u8>(), 0..5000),
        kind: u32,
        sequence in 1..u64::MAX,
        group in proptest::option::of((1_u8..).prop_map(|byte| GroupId([byte; 32]))),
    ) {
        let letter = Letter { kind, sequence, group, ..letter(&body) };
        let envelope = letter.seal(&key(1), &recipient_of(2)).unwrap();
        let size = SIZES.into_iter().find(|size| *size >= body.len() + OVERHEAD + 155).unwrap();
        prop_assert!(envelope.len() <= size && SIZES.contains(&envelope.len()));
        prop_assert_eq!(recipient(&envelope), Ok(inbox(2).id()));
        prop_assert_eq!(open(&envelope), Ok(letter));
    }

    #[test]
    fn attack_37_one_changed_byte_is_noticed(at: prop::sample::Index, bit in 0..8_u8) {
        let sealed = letter(b"kin").seal(&key(1), &recipient_of(2)).unwrap();
        let mut changed = sealed.to_vec();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        prop_assert!(open(&changed).is_err());
    }

    #[test]
    fn any_bytes_are_refused(bytes in vec(any::<u8>(), 0..1100), inside: bool) {
        prop_assert!(open(&bytes).is_err());
        let _ = decode(&bytes);
        if inside && bytes.len() <= SIZES[0] - OVERHEAD {
            prop_assert!(open(&around(&padded(&bytes))).is_err());
        }
    }
}

#[test]
fn t21_the_signature_covers_everything_that_the_letter_is_about() {
    let (to, mine) = (recipient_of(2), letter(b"body"));
    let signed = mine.digest(&to).unwrap();
    let others = [
        Letter { author: key(3).id(), ..mine.clone() },
        Letter { group: None, ..mine.clone() },
        Letter { group: Some(GroupId([8; 32])), ..mine.clone() },
        Letter { kind: 4, ..mine.clone() },
        Letter { sequence: 8, ..mine.clone() },
        letter(b"bodies"),
    ];
    for other in &others {
        assert_ne!(other.digest(&to).unwrap(), signed, "{other:?}");
        // Its author's signature under another letter.
        let signature = key(1).sign(&signed.0);
        assert!(open(&around(&padded(&other.encode(&signature, b"")))).is_err(), "{other:?}");
    }
    for to in [Recipient { device: key(3).id(), ..to }, Recipient { inbox: inbox(3).id(), ..to }] {
        assert_ne!(mine.digest(&to).unwrap(), signed);
        // Taken out of its envelope and sealed anew to somebody else.
        let signature = key(1).sign(&mine.digest(&to).unwrap().0);
        let refused = open(&around(&padded(&mine.encode(&signature, b""))));
        let why = "not the author's, or not for this device";
        assert_eq!(refused, Err(WireError::field("signature", why)));
    }
    let signature = key(1).sign(&signed.0);
    assert_eq!(open(&around(&padded(&mine.encode(&signature, b"")))), Ok(mine));
}

#[test]
fn attack_13_a_letter_is_by_the_device_at_the_other_end() {
    let envelope = letter(b"").seal(&key(1), &recipient_of(2)).unwrap();
    let over = |link| Letter::open(&envelope, &recipient_of(2), &inbox(2), Some(link));
    assert!(over(key(1).id()).is_ok());
    let why = "not the device at the other end";
    assert_eq!(over(key(3).id()), Err(WireError::field("author", why)));
    assert!(letter(b"").seal(&key(3), &recipient_of(2)).is_err(), "nor is one written");
}

#[test]
fn an_envelope_for_another_inbox_is_not_opened() {
    let envelope = letter(b"").seal(&key(1), &recipient_of(3)).unwrap();
    assert_eq!(open(&envelope), Err(WireError::field("inbox", "not this device's")));
}

#[test]
fn attack_14_versions_sizes_and_second_forms_are_refused() {
    let envelope = letter(b"").seal(&key(1), &recipient_of(2)).unwrap();
    let with = |version: u8| [&[version], &envelope[1..]].concat();
    assert_eq!(open(&with(2)), Err(WireError::field("version", "of a newer kin")));
    assert_eq!(open(&with(0)), Err(WireError::field("version", "none")));
    let cut = WireError::field("envelope", "none of the sizes there are");
    assert_eq!(open(&envelope[..1000]), Err(cut.clone()));
    assert_eq!(open(&[&envelope[..], &[0]].concat()), Err(cut));

    let mine = letter(b"body");
    let good = mine.encode(&key(1).sign(&mine.digest(&recipient_of(2)).unwrap().0), b"");
    assert!(open(&around(&padded(&good))).is_ok());
    // An unknown field, a field twice, padding that says something, a length that lies.
    let field = [&good[..], &[0x40, 1]].concat();
    let twice = [&[0x18, 3], &good[..]].concat();
    for bytes in [field, twice] {
        let refused = open(&around(&padded(&bytes)));
        assert_eq!(refused, Err(WireError::field("letter", "not in its one form")));
    }
    let mut noisy = padded(&good);
    *noisy.last_mut().unwrap() = 1;
    assert_eq!(open(&around(&noisy)), Err(WireError::field("padding", "not zero")));
    let mut long = padded(&good);
    long[0] = 0xff;
    assert_eq!(open(&around(&long)), Err(WireError::field("envelope", "cut short")));
}

#[test]
fn attack_27_the_longest_body_fits_and_a_longer_one_is_refused() {
    let longest = Letter { kind: u32::MAX, sequence: u64::MAX, ..letter(&vec![1; MAX_BODY]) };
    let envelope = longest.seal(&key(1), &recipient_of(2)).unwrap();
    assert_eq!(envelope.len(), SIZES[3]);
    assert_eq!(open(&envelope), Ok(longest));
    let longer = letter(&vec![1; MAX_BODY + 1]).seal(&key(1), &recipient_of(2));
    assert_eq!(longer, Err(WireError::field("body", "too long")));
}

#[test]
fn t21_where_answers_go_is_signed_too() {
    let (to, inbox) = (recipient_of(2), inbox(2));
    let place = |mailbox| MailAddress { relay: "kin:relay/x".into(), mailbox, token: None };
    let mine = Letter { reply: Some(place([1; 32])), ..letter(b"body") };
    let sealed = mine.seal(&key(1), &to).unwrap();
    assert_eq!(Letter::open(&sealed, &to, &inbox, None), Ok(mine.clone()));
    let other = Letter { reply: Some(place([2; 32])), ..mine.clone() };
    let none = Letter { reply: None, ..mine.clone() };
    assert_ne!(mine.digest(&to).unwrap(), other.digest(&to).unwrap());
    assert_ne!(mine.digest(&to).unwrap(), none.digest(&to).unwrap());
}
