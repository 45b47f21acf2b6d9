//! The token ceremony by rule T4 and the attacks on it (attacks.md 9, 10, 13, 14, 15).

use std::sync::LazyLock;

use identity::{DeviceKey, InboxId, InboxKey, Sas, Secret};
use pairing::{
    Abort,
    token::{
        Card, Closed, Gone, JoinStep, MAX_REQUESTS, Outgoing, Over, Request, TokenJoin,
        TokenWindow, WINDOW_MS, WindowError, WindowStep,
    },
};
use wire::{
    envelope::Letter,
    membership::{GroupId, OperationId, Role, Scope},
    pair::{Answer, Decline, Message, RequestId, SavedJoin, Terms, Token, WindowId},
    session::Name,
};

#[path = "token/interleavings.rs"]
mod interleavings;

/// The admitting device's number.
const ADMITTER: u8 = 0;
const NONCE: [u8; 32] = [77; 32];

static KEYS: LazyLock<Vec<DeviceKey>> = LazyLock::new(|| {
    let key = |seed| DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key");
    (0..=20).map(key).collect()
});

fn inbox(number: u8) -> InboxKey {
    InboxKey::from_seed(Secret::new([number + 100; 32])).expect("any seed is a key")
}

fn card(number: u8) -> Card {
    Card {
        device: KEYS[usize::from(number)].id(),
        inbox: inbox(number).id(),
        name: Name::new(&format!("device {number}")).expect("short"),
    }
}

fn token_of(admitter: u8, secret: u8) -> Token {
    let Card { device, inbox, .. } = card(admitter);
    let terms = Terms {
        device,
        inbox,
        window: WindowId([5; 8]),
        group: GroupId([6; 32]),
        role: Role::Admin,
        folders: Scope::All,
    };
    Token::new(terms, Secret::new([secret; 16]), [])
}

fn token() -> Token {
    token_of(ADMITTER, 9)
}

fn window() -> TokenWindow {
    TokenWindow::open(&token(), 1000, WINDOW_MS)
}

fn join(number: u8, nonce: u8) -> TokenJoin {
    TokenJoin::start(&token(), &card(number), Secret::new([nonce; 32])).expect("another device")
}

/// The letter that comes of what a device sends: signed, sealed, and opened by whom it is for.
fn letter(by: u8, outgoing: &Outgoing) -> Letter {
    let envelope = outgoing.seal(&KEYS[usize::from(by)], 1).expect("well formed");
    let to = (0..=20).find(|number| card(*number).device == outgoing.to.device).expect("known");
    let opened = Letter::open(&envelope, &outgoing.to, &inbox(to), None);
    opened.expect("for this one")
}

/// A letter as if it had been sealed and opened.
fn plain(by: u8, message: &Message) -> Letter {
    Letter {
        reply: None,
        author: card(by).device,
        group: Some(token().terms.group),
        kind: message.kind(),
        sequence: 1,
        body: message.encode(),
    }
}

fn said(join: &TokenJoin) -> Message {
    join.say().expect("under way").message
}

fn sent(steps: &[WindowStep]) -> Vec<Message> {
    let message = |step: &WindowStep| match step {
        WindowStep::Send(outgoing) => Some(outgoing.message.clone()),
        _ => None,
    };
    steps.iter().filter_map(message).collect()
}

fn asked(steps: &[WindowStep]) -> Option<Request> {
    steps.iter().find_map(|step| match step {
        WindowStep::Ask(request) => Some(request.clone()),
        _ => None,
    })
}

fn sas_of(steps: &[JoinStep]) -> Option<Sas> {
    steps.iter().find_map(|step| match step {
        JoinStep::Show(sas) => Some(*sas),
        _ => None,
    })
}

/// The window hears what the join has to say, and the join every answer.
fn talk(window: &mut TokenWindow, join: &mut TokenJoin, by: u8, nonce: u8) -> Vec<WindowStep> {
    let mut all = Vec::new();
    let Some(outgoing) = join.say() else { return all };
    let mut queue = vec![outgoing];
    while let Some(outgoing) = queue.pop() {
        let steps = window.handle(&letter(by, &outgoing), [nonce; 32], 1000);
        for message in sent(&steps) {
            let answers = join.handle(&plain(ADMITTER, &message));
            queue.extend(answers.into_iter().filter_map(|step| match step {
                JoinStep::Send(outgoing) => Some(outgoing),
                _ => None,
            }));
        }
        all.extend(steps);
    }
    all
}

#[test]
fn t4_both_show_the_same_string_and_both_people_decide() {
    let (mut window, mut join) = (window(), join(1, 21));
    let request = asked(&talk(&mut window, &mut join, 1, 77)).expect("a request");
    assert_eq!((request.id, &request.card), (join.id(), &card(1)));
    assert_eq!(Some(request.sas), join.sas());
    assert_eq!(window.requests(), std::slice::from_ref(&request));

    assert_eq!(window.accept(request.id, 1000), Ok(vec![]), "the other person has not answered");
    assert!(!window.is_open());
    let steps = join.answer(true).expect("a string is shown");
    assert_eq!(steps[0], JoinStep::Keep, "durable before it is sent");
    let JoinStep::Send(yes) = &steps[1] else { panic!("{steps:?}") };
    let steps = window.handle(&letter(1, yes), NONCE, 1000);
    assert_eq!(steps, [WindowStep::Admit(request.clone())]);

    let heads = vec![OperationId([3; 32])];
    let steps = window.admitted(heads.clone()).expect("asked for");
    assert_eq!(steps.last(), Some(&WindowStep::Closed(Closed::Admitted)));
    let WindowStep::Send(outgoing) = &steps[0] else { panic!("{steps:?}") };
    let told = join.handle(&letter(ADMITTER, outgoing));
    assert_eq!(told, [JoinStep::Admitted(heads)]);
    assert!(join.done() && join.agreed());
    // What is said twice is answered as before, by whoever may still have to hear it.
    assert_eq!(sent(&window.handle(&letter(1, yes), NONCE, 1000)), sent(&steps));
}

#[test]
fn t4_the_order_of_the_two_yeses_makes_no_difference() {
    let (mut window, mut join) = (window(), join(1, 21));
    let request = asked(&talk(&mut window, &mut join, 1, 77)).expect("a request");
    join.answer(true).expect("a string is shown");
    assert_eq!(talk(&mut window, &mut join, 1, 77), []);
    assert_eq!(window.accept(request.id, 1000), Ok(vec![WindowStep::Admit(request)]));
}

#[test]
fn t4_a_wrong_secret_gets_no_answer_and_takes_no_place() {
    let mut window = window();
    let wrong = token_of(ADMITTER, 10);
    for number in 1..=20 {
        let join = TokenJoin::start(&wrong, &card(number), Secret::new([1; 32])).expect("another");
        assert_eq!(window.handle(&plain(number, &said(&join)), NONCE, 1000), []);
    }
    assert!(asked(&talk(&mut window, &mut join(1, 21), 1, 77)).is_some());
}

#[test]
fn t4_a_token_with_other_terms_is_a_wrong_one() {
    let mut other = token();
    other.terms.role = Role::Reader;
    let join = TokenJoin::start(&other, &card(1), Secret::new([1; 32])).expect("another device");
    assert_eq!(window().handle(&plain(1, &said(&join)), NONCE, 1000), []);
}

#[test]
fn t4_no_more_than_eight_requests_and_a_repeated_one_is_the_same() {
    let mut window = window();
    for number in 1..=8 {
        let pair = plain(number, &said(&join(number, number)));
        let first = sent(&window.handle(&pair, [number; 32], 1000));
        assert!(matches!(first[..], [Message::Challenge { .. }]), "{first:?}");
        assert_eq!(sent(&window.handle(&pair, [99; 32], 1000)), first, "the same nonce");
    }
    assert_eq!(MAX_REQUESTS, 8);
    let ninth = join(9, 9);
    let full = Message::Declined { request: ninth.id(), why: Decline::Full };
    assert_eq!(sent(&window.handle(&plain(9, &said(&ninth)), NONCE, 1000)), [full]);
    // Nor does a device get a second string for nothing.
    let again = join(1, 200);
    let full = Message::Declined { request: again.id(), why: Decline::Full };
    assert_eq!(sent(&window.handle(&plain(1, &said(&again)), NONCE, 1000)), [full]);
}

#[test]
fn t4_a_device_that_asks_anew_loses_its_first_request() {
    let mut window = window();
    let mut first = join(1, 21);
    let old = asked(&talk(&mut window, &mut first, 1, 77)).expect("a request");
    let steps = talk(&mut window, &mut join(1, 22), 1, 78);
    let gone = WindowStep::Gone { request: old.clone(), why: Gone::AskedAgain };
    assert!(steps.contains(&gone), "{steps:?}");
    let new = asked(&steps).expect("another request");
    assert_eq!(window.requests(), std::slice::from_ref(&new));
    assert_ne!(new.sas, old.sas);
    assert_eq!(window.accept(old.id, 1000), Err(WindowError::NoSuchRequest));
}

#[test]
fn t4_accepting_one_declines_the_others() {
    let mut window = window();
    let [mut one, mut two, three] = [join(1, 21), join(2, 22), join(3, 23)];
    let wanted = asked(&talk(&mut window, &mut one, 1, 77)).expect("a request");
    let other = asked(&talk(&mut window, &mut two, 2, 78)).expect("a request");
    window.handle(&plain(3, &said(&three)), [79; 32], 1000);
    let steps = window.accept(wanted.id, 1000).expect("it waits");
    let declined = |request| Message::Declined { request, why: Decline::Other };
    assert_eq!(sent(&steps), [declined(two.id()), declined(three.id())]);
    assert_eq!(steps[1], WindowStep::Gone { request: other.clone(), why: Gone::Answered });
    assert_eq!(window.accept(other.id, 1000), Err(WindowError::Closed));
    // One that comes late is not heard, one that was heard is answered as before.
    assert_eq!(window.handle(&plain(4, &said(&join(4, 4))), NONCE, 1000), []);
    let again = window.handle(&plain(3, &said(&three)), NONCE, 1000);
    assert_eq!(sent(&again), [declined(three.id())]);
    let over = two.handle(&plain(ADMITTER, &declined(two.id())));
    assert_eq!(over, [JoinStep::Over(Over::Declined(Decline::Other))]);
}

#[test]
fn t4_a_window_ends_by_time_and_by_its_person_and_is_silent_then() {
    let mut by_time = window();
    assert_eq!(by_time.deadline(), Some(1000 + WINDOW_MS));
    assert_eq!(by_time.tick(999 + WINDOW_MS), []);
    let mut first = join(1, 21);
    let request = asked(&talk(&mut by_time, &mut first, 1, 77)).expect("a request");
    // The person who answers too late is told so.
    assert_eq!(by_time.accept(request.id, 1000 + WINDOW_MS), Err(WindowError::Closed));
    let late = plain(2, &said(&join(2, 2)));
    let steps = by_time.handle(&late, NONCE, 1000 + WINDOW_MS);
    let declined = Message::Declined { request: request.id, why: Decline::Closed };
    assert_eq!(sent(&steps), [declined], "nothing to the one who comes late");
    assert_eq!(steps.last(), Some(&WindowStep::Closed(Closed::Time)));
    assert_eq!(by_time.handle(&late, NONCE, 1000 + WINDOW_MS), []);

    let mut by_person = window();
    talk(&mut by_person, &mut join(1, 21), 1, 77);
    let steps = by_person.cancel();
    assert_eq!(steps.last(), Some(&WindowStep::Closed(Closed::Person)));
    assert!(matches!(sent(&steps)[..], [Message::Declined { why: Decline::Closed, .. }]));
    assert_eq!(by_person.handle(&plain(2, &said(&join(2, 2))), NONCE, 1000), []);
    assert_eq!((by_person.cancel(), by_person.deadline()), (vec![], None));
}

#[test]
fn t4_a_window_of_before_a_restart_is_gone() {
    let (mut before, mut join) = (window(), join(1, 21));
    talk(&mut before, &mut join, 1, 77);
    join.answer(true).expect("a string is shown");
    // A new one has other numbers, and the old token is a wrong one for it.
    let Token { mut terms, addresses, mail, .. } = token();
    terms.window = WindowId([8; 8]);
    let new = Token { terms, secret: Secret::new([3; 16]), addresses, mail };
    let mut after = TokenWindow::open(&new, 0, WINDOW_MS);
    assert_eq!(talk(&mut after, &mut join, 1, 77), []);
    assert_eq!(after.requests(), []);
}

#[test]
fn t8_a_no_is_the_last_word_and_what_was_admitted_before_it_is_told() {
    let (mut window, mut join) = (window(), join(1, 21));
    let request = asked(&talk(&mut window, &mut join, 1, 77)).expect("a request");
    let yes = join.answer(true).expect("a string is shown");
    let JoinStep::Send(yes) = &yes[1] else { panic!("{yes:?}") };
    let steps = join.answer(false).expect("it may be taken back");
    let [JoinStep::Send(no), JoinStep::Over(Over::Refused)] = &steps[..] else {
        panic!("{steps:?}")
    };
    assert!(!join.agreed() && join.done(), "no log is accepted any more");
    // The no overtakes the yes.
    window.accept(request.id, 1000).expect("it waits");
    let steps = window.handle(&letter(1, no), NONCE, 1000);
    let gone = WindowStep::Gone { request: request.clone(), why: Gone::TheySaidNo };
    assert_eq!(steps[0], gone);
    assert_eq!(steps.last(), Some(&WindowStep::Closed(Closed::TheyLeft)));
    let late = window.handle(&letter(1, yes), NONCE, 1000);
    assert!(!late.iter().any(|step| matches!(step, WindowStep::Admit(_))), "{late:?}");

    // A no that comes after the admission was written.
    let mut window = self::window();
    let mut other = self::join(1, 21);
    talk(&mut window, &mut other, 1, 77);
    window.handle(&letter(1, yes), NONCE, 1000);
    window.accept(request.id, 1000).expect("it waits");
    window.admitted(vec![OperationId([3; 32])]).expect("asked for");
    assert_eq!(window.handle(&letter(1, no), NONCE, 1000), [gone]);
    assert_eq!(window.handle(&letter(1, no), NONCE, 1000), [], "told once");
}

#[test]
fn t8_an_admission_that_was_not_agreed_to_is_worth_nothing() {
    let (mut window, mut join) = (window(), join(1, 21));
    talk(&mut window, &mut join, 1, 77);
    let admitted = Message::Admitted { request: join.id(), heads: vec![OperationId([3; 32])] };
    let over = JoinStep::Over(Over::Broken(Abort::OutOfOrder));
    assert_eq!(join.handle(&plain(ADMITTER, &admitted)), [over]);
    assert!(join.done() && !join.agreed());
}

#[test]
fn t8_a_join_goes_on_after_a_restart_at_every_stage() {
    let restarted = |join: &TokenJoin| {
        let saved = SavedJoin::decode(join.save().encode().expose()).expect("what was saved");
        TokenJoin::restore(saved, &card(1).recipient()).expect("this device's")
    };
    let mut window = window();
    let mut join = restarted(&join(1, 21));
    let request = asked(&talk(&mut window, &mut join, 1, 77)).expect("a request");
    let mut join = restarted(&join);
    assert_eq!(join.sas(), Some(request.sas), "the string is shown again");
    assert!(!join.agreed());
    join.answer(true).expect("a string is shown");
    let mut join = restarted(&join);
    assert!(join.agreed());
    window.accept(request.id, 1000).expect("it waits");
    let steps = talk(&mut window, &mut join, 1, 77);
    assert_eq!(steps, [WindowStep::Admit(request)]);

    let foreign = join.save();
    let refused = TokenJoin::restore(foreign, &card(2).recipient());
    assert_eq!(refused.err(), Some(Abort::Malformed), "another device's");
    let mut changed = join.save();
    changed.nonce = Secret::new([1; 32]);
    let refused = TokenJoin::restore(changed, &card(1).recipient());
    assert_eq!(refused.err(), Some(Abort::Malformed));
}

#[test]
fn attack_08_whoever_gives_the_joiner_a_token_of_his_own_has_one_guess() {
    // M (3) holds the right token. It gave the joiner (1) one of its own, and asks the admitter itself.
    let mut window = window();
    let mut at_joiner =
        TokenJoin::start(&token_of(3, 4), &card(1), Secret::new([21; 32])).expect("another");
    let mut asks = join(3, 31);
    let at_admitter = asked(&talk(&mut window, &mut asks, 3, 77)).expect("a request").sas;
    // M knows the string that the admitter shows. Whatever nonce it sends now, it has not seen the
    // joiner's; and the joiner takes one nonce only.
    let pair = said(&at_joiner);
    let Message::Pair(pair) = &pair else { panic!("{pair:?}") };
    assert_ne!(pair.commitment, [21; 32]);
    let challenge = |nonce| Message::Challenge { request: at_joiner.id(), nonce: [nonce; 32] };
    let [first, second] = [challenge(1), challenge(2)];
    let shown = sas_of(&at_joiner.handle(&plain(3, &first))).expect("a string");
    assert_ne!(shown, at_admitter);
    let over = JoinStep::Over(Over::Broken(Abort::OutOfOrder));
    assert_eq!(at_joiner.handle(&plain(3, &second)), [over]);
}

#[test]
fn attack_08_a_nonce_that_was_not_committed_to_ends_the_request() {
    let (mut window, mut join) = (window(), join(1, 21));
    let pair = plain(1, &said(&join));
    let challenge = sent(&window.handle(&pair, NONCE, 1000));
    join.handle(&plain(ADMITTER, &challenge[0]));
    let ready = |nonce| Message::Ready { request: join.id(), nonce, answer: Answer::Yes };
    let broken = Message::Declined { request: join.id(), why: Decline::Broken };
    let steps = window.handle(&plain(1, &ready([99; 32])), NONCE, 1000);
    assert_eq!(sent(&steps), std::slice::from_ref(&broken));
    let steps = window.handle(&plain(1, &ready([21; 32])), NONCE, 1000);
    assert_eq!((sent(&steps), asked(&steps)), (vec![broken], None));
}

#[test]
fn attack_10_reflection_self_pairing_and_crossed_windows_come_to_nothing() {
    let own = TokenJoin::start(&token(), &card(ADMITTER), Secret::new([1; 32]));
    assert_eq!(own.err(), Some(Abort::Reflected));
    let same_inbox = Card { inbox: card(ADMITTER).inbox, ..card(1) };
    let mirrored = TokenJoin::start(&token(), &same_inbox, Secret::new([1; 32]));
    assert_eq!(mirrored.err(), Some(Abort::Reflected));
    let as_inbox = Card { inbox: InboxId(card(ADMITTER).device.0), ..card(1) };
    let mirrored = TokenJoin::start(&token(), &as_inbox, Secret::new([1; 32]));
    assert_eq!(mirrored.err(), Some(Abort::Reflected));

    // Its own words, and its own nonce, come back.
    let (mut window, mut join) = (window(), join(1, 21));
    let pair = said(&join);
    assert_eq!(join.handle(&plain(ADMITTER, &pair)), []);
    let nonce = Message::Challenge { request: join.id(), nonce: [21; 32] };
    let over = JoinStep::Over(Over::Broken(Abort::Reflected));
    assert_eq!(self::join(1, 21).handle(&plain(ADMITTER, &nonce)), [over]);
    // The admitter's nonce comes back to it.
    let same = self::join(2, 55);
    window.handle(&plain(2, &said(&same)), [55; 32], 1000);
    let ready = Message::Ready { request: same.id(), nonce: [55; 32], answer: Answer::Yes };
    assert_eq!(asked(&window.handle(&plain(2, &ready), NONCE, 1000)), None);
    // What the window said is no news to it.
    let challenge = sent(&window.handle(&plain(1, &pair), NONCE, 1000));
    assert_eq!(window.handle(&plain(1, &challenge[0]), NONCE, 1000), []);

    // Another window of the same device, with the same secret.
    let mut other = token();
    other.terms.window = WindowId([8; 8]);
    let mut other = TokenWindow::open(&other, 1000, WINDOW_MS);
    assert_eq!(other.handle(&plain(1, &pair), NONCE, 1000), []);
    // Answers of another run, or about another group.
    let stray = Message::Challenge { request: RequestId([1; 32]), nonce: NONCE };
    assert_eq!(join.handle(&plain(ADMITTER, &stray)), []);
    let elsewhere = Letter { group: None, ..plain(ADMITTER, &challenge[0]) };
    assert_eq!(join.handle(&elsewhere), []);
    assert!(sas_of(&join.handle(&plain(ADMITTER, &challenge[0]))).is_some(), "it goes on");
}

#[test]
fn attack_13_a_letter_counts_for_the_device_that_signed_it() {
    let (mut window, mut join) = (window(), join(1, 21));
    // A Pair that another device passes off as its own proves nothing.
    assert_eq!(window.handle(&plain(2, &said(&join)), NONCE, 1000), []);
    let challenge = sent(&window.handle(&plain(1, &said(&join)), NONCE, 1000));
    assert_eq!(join.handle(&plain(2, &challenge[0])), [], "not the token's device");
    join.handle(&plain(ADMITTER, &challenge[0]));
    assert_eq!(window.handle(&plain(2, &said(&join)), NONCE, 1000), [], "not its request");
    assert!(asked(&window.handle(&plain(1, &said(&join)), NONCE, 1000)).is_some());
}

#[test]
fn attack_14_having_the_token_alone_admits_nobody() {
    let (mut window, mut join) = (window(), join(1, 21));
    let mut steps = talk(&mut window, &mut join, 1, 77);
    join.answer(true).expect("a string is shown");
    for _ in 0..20 {
        steps.extend(talk(&mut window, &mut join, 1, 77));
    }
    assert!(!steps.iter().any(|step| matches!(step, WindowStep::Admit(_))), "{steps:?}");
    assert!(window.admitted(vec![OperationId([1; 32])]).is_err());
}

#[test]
fn attack_15_nothing_shows_the_secret_or_a_nonce() {
    let secret = token_of(ADMITTER, 213);
    let window = TokenWindow::open(&secret, 0, WINDOW_MS);
    let mut join = TokenJoin::start(&secret, &card(1), Secret::new([231; 32])).expect("another");
    let shown = format!("{window:?} {join:?} {:?}", join.save());
    assert!(!shown.contains("213, 213") && !shown.contains("231, 231"), "{shown}");
    // Nor is the secret in anything that is sent or kept.
    let mut bytes = join.save().encode().expose().clone();
    bytes.extend_from_slice(&said(&join).encode());
    assert!(!bytes.windows(8).any(|some| some == [213; 8]));
    join.answer(false).expect("at any time");
}

#[test]
fn a_device_that_cannot_be_admitted_is_told_why() {
    let (mut window, mut join) = (window(), join(1, 21));
    let request = asked(&talk(&mut window, &mut join, 1, 77)).expect("a request");
    let steps = window.decline(request.id, Decline::Member).expect("it waits");
    let told = join.handle(&plain(ADMITTER, &sent(&steps)[0]));
    assert_eq!(told, [JoinStep::Over(Over::Declined(Decline::Member))]);
    assert!(window.is_open(), "a no to one is no end");

    let mut second = self::join(2, 22);
    let request = asked(&talk(&mut window, &mut second, 2, 78)).expect("a request");
    second.answer(true).expect("a string is shown");
    talk(&mut window, &mut second, 2, 78);
    window.accept(request.id, 1000).expect("it waits");
    let steps = window.failed(Decline::Closed).expect("being written");
    assert_eq!(steps.last(), Some(&WindowStep::Closed(Closed::Failed)));
    assert_eq!(sent(&steps).len(), 1);
}
