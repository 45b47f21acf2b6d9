//! Sealed envelopes, pairing tokens, and the ceremony of those: whatever is made up, only the honest run
//! ends well.

use std::sync::LazyLock;

use identity::{DeviceKey, InboxKey, Secret, token_from_text, token_to_text};
use pairing::token::{Card, JoinStep, TokenJoin, TokenWindow, WindowStep};
use wire::{
    envelope::{Letter, Recipient, SIZES, recipient},
    membership::{GroupId, Role, Scope},
    pair::{
        Answer, MAX_TOKEN_ADDRESSES, Message, SavedJoin, Terms, Token, TokenError, WindowId,
        dialable,
    },
    session::Name,
};

static KEYS: LazyLock<Vec<(DeviceKey, InboxKey)>> = LazyLock::new(|| {
    let keys = |seed: u8| {
        let device = DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key");
        let inbox = InboxKey::from_seed(Secret::new([seed + 100; 32])).expect("any seed is a key");
        (device, inbox)
    };
    (0..3).map(keys).collect()
});

fn card(number: usize) -> Card {
    let (device, inbox) = &KEYS[number];
    let name = Name::new("device").expect("short");
    Card { device: device.id(), inbox: inbox.id(), name }
}

/// An envelope as it came, and, sealed by somebody who knows the key, a letter with any body.
pub(crate) fn envelope(data: &[u8]) {
    let me = card(1).recipient();
    let open = |bytes: &[u8]| Letter::open(bytes, &me, &KEYS[1].1, None);
    if let Ok(inbox) = recipient(data) {
        assert!(SIZES.contains(&data.len()) && inbox.0 == data[1..33]);
        // Sealed to nobody by nobody.
        assert!(open(data).is_err());
    }
    let Some((head, body)) = data.split_first_chunk::<6>() else { return };
    let letter = Letter {
        reply: None,
        author: KEYS[0].0.id(),
        group: (head[0] != 0).then_some(GroupId([head[0]; 32])),
        kind: u32::from(head[1]),
        sequence: u64::from(head[2]),
        body: body.to_vec().into(),
    };
    let sealed = letter.seal(&KEYS[0].0, &me);
    assert_eq!(sealed.is_ok(), letter.sequence > 0 && body.len() <= wire::envelope::MAX_BODY);
    let Ok(sealed) = sealed else { return };
    assert!(SIZES.contains(&sealed.len()));
    assert_eq!(open(&sealed).as_ref(), Ok(&letter));
    let elsewhere = Recipient { device: KEYS[2].0.id(), ..me };
    assert!(Letter::open(&sealed, &elsewhere, &KEYS[1].1, None).is_err(), "another device's");
    let mut changed = sealed.to_vec();
    let at = usize::from(u16::from_be_bytes([head[3], head[4]])) % changed.len();
    changed[at] ^= head[5].max(1);
    assert!(open(&changed).is_err(), "changed on the way");
    // Whatever the letter says, it is read in one way or refused.
    pair_message(letter.kind, body);
}

fn pair_message(kind: u32, body: &[u8]) -> Option<Message> {
    let message = Message::decode(kind, body).ok()?;
    assert_eq!((message.kind(), &message.encode()[..]), (kind, body), "one message, two forms");
    if let Message::Admitted { heads, .. } = &message {
        assert!((1..=32).contains(&heads.len()));
    }
    Some(message)
}

/// The text of a token, the bytes behind one, and what a joiner keeps.
pub(crate) fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(bytes) = token_from_text(&text) {
        let again = token_to_text(bytes.expose()).expect("short enough");
        assert!(text.trim().to_ascii_lowercase().ends_with(again.expose()), "one token, two texts");
    }
    if let Ok(token) = Token::parse(&text) {
        good(&token);
    }
    match Token::decode(data) {
        Ok(token) => {
            good(&token);
            assert_eq!(token.encode().expect("let in").expose(), data, "one token, two forms");
        }
        Err(TokenError::Newer(version)) => assert!(version > 1 && data[0] == version),
        Err(_) => {}
    }
    if let Ok(saved) = SavedJoin::decode(data) {
        assert_eq!(saved.encode().expose(), data, "one join, two forms");
        let me = saved.me;
        if let Ok(join) = TokenJoin::restore(saved, &me) {
            assert!(!join.agreed() || join.sas().is_some(), "a yes to no string");
        }
    }
}

fn good(token: &Token) {
    assert!(token.addresses.len() <= MAX_TOKEN_ADDRESSES);
    assert!(token.addresses.iter().all(dialable));
    let text = token.to_link().expect("what was let in fits");
    let again = Token::parse(text.expose()).expect("what was let in is let in again");
    assert_eq!((&again.terms, &again.addresses), (&token.terms, &token.addresses));
    assert!(!format!("{token:?}").contains(&format!("{:?}", token.secret.expose())));
}

fn shown() -> Token {
    let Card { device, inbox, .. } = card(0);
    let terms = Terms {
        device,
        inbox,
        window: WindowId([5; 8]),
        group: GroupId([6; 32]),
        role: Role::Admin,
        folders: Scope::All,
    };
    Token::new(terms, Secret::new([9; 16]), [])
}

/// One byte says which side is played against, the rest what the other one sends: a kind and some bytes,
/// or an honest message. The person here says yes to whatever can be said yes to, at once.
pub(crate) fn window(data: &[u8]) {
    let Some((side, rest)) = data.split_first() else { return };
    match side % 2 {
        0 => against_window(rest),
        _ => against_join(rest),
    }
}

fn letter(by: usize, kind: u32, body: Vec<u8>) -> Letter {
    let (author, group) = (KEYS[by].0.id(), Some(GroupId([6; 32])));
    Letter { author, group, kind, sequence: 1, body: body.into(), reply: None }
}

/// The letters that some bytes stand for: `honest` are a join's own, the others as they are.
fn letters<'a>(
    data: &'a [u8],
    by: usize,
    honest: impl Fn(u8) -> Message + 'a,
) -> impl Iterator<Item = Letter> + 'a {
    data.split(|byte| *byte == 0xff).take(64).filter_map(move |part| {
        let (&kind, body) = part.split_first()?;
        let message = match kind % 8 {
            6 | 7 => honest(*body.first()?),
            kind => {
                pair_message(u32::from(kind), body);
                return Some(letter(by, u32::from(kind), body.to_vec()));
            }
        };
        Some(letter(by, message.kind(), message.encode().to_vec()))
    })
}

fn against_window(data: &[u8]) {
    let mut window = TokenWindow::open(&shown(), 0, 1000);
    let join = TokenJoin::start(&shown(), &card(1), Secret::new([3; 32])).expect("another device");
    let (pair, id) = (join.say().expect("new").message, join.id());
    let said = move |byte: u8| match byte % 5 {
        0 => pair.clone(),
        1 => Message::Ready { request: id, nonce: [3; 32], answer: Answer::Yes },
        2 => Message::Ready { request: id, nonce: [byte; 32], answer: Answer::Yes },
        3 => Message::Ready { request: id, nonce: [3; 32], answer: Answer::No },
        _ => Message::Ready { request: id, nonce: [3; 32], answer: Answer::Open },
    };
    let (mut asked, mut yes, mut admitted) = (false, false, false);
    for letter in letters(data, 1, said) {
        yes |= matches!(
            pair_message(letter.kind, &letter.body),
            Some(Message::Ready { request, nonce, answer: Answer::Yes }) if request == id && nonce == [3; 32]
        );
        let mut steps = window.handle(&letter, [8; 32], 0);
        for request in window.requests() {
            assert_eq!(request.id, id, "a request without the secret");
            asked = true;
            steps.extend(window.accept(request.id, 0).expect("it waits"));
        }
        for step in steps {
            if let WindowStep::Admit(request) = step {
                assert!(asked && yes && !admitted && request.id == id);
                admitted = true;
            }
        }
    }
}

fn against_join(data: &[u8]) {
    let mut join =
        TokenJoin::start(&shown(), &card(1), Secret::new([3; 32])).expect("another device");
    let request = join.id();
    let said = move |byte: u8| Message::Challenge { request, nonce: [byte; 32] };
    let (mut string, mut over) = (None, false);
    for letter in letters(data, 0, said) {
        let steps = join.handle(&letter);
        assert!(!over || steps.is_empty(), "an ended join went on");
        for step in steps {
            match step {
                JoinStep::Show(sas) => {
                    assert_eq!(string.replace(sas), None, "two strings in one run");
                    join.answer(true).expect("a string is shown");
                }
                JoinStep::Admitted(_) => assert!(string.is_some() && join.agreed()),
                JoinStep::Over(_) => over = true,
                JoinStep::Keep | JoinStep::Send(_) => {}
            }
        }
        over |= join.done();
        assert_eq!(join.sas(), string);
    }
}
