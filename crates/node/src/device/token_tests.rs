//! Pairing by token, between devices of one process.
#![allow(clippy::disallowed_methods, reason = "the tests play the people who own the files")]

use std::{fs, sync::Arc, time::Duration};

use ::pairing::token::{Card, TokenJoin};
use identity::{DeviceKey, InboxKey, Secret};
use link::{Endpoint, LinkReader, LinkWriter};
use tokio::{sync::mpsc, time::timeout};
use wire::{
    device::{DEVICE_VERSION, Message as Say, Purpose},
    envelope::{Letter, Recipient},
    frame::Channel,
    pair::{self, Token},
    session::Message,
};

use super::{
    tests::{Lab, PATIENCE, answer, go_online, next},
    *,
};
use crate::api::{FolderLine, GroupLine, JoinLine, PairToken};

type Events = mpsc::Receiver<ApiEvent>;

/// Opens a window; its events and the token.
async fn show(lab: &Lab, options: PairToken) -> (Events, String) {
    let mut events = lab.device.stream(Request::PairToken(options)).await.unwrap();
    let ApiEvent::Token { token, link, .. } = events.recv().await.unwrap() else { panic!() };
    assert_eq!(link, format!("kin:pair/{token}"));
    (events, token)
}

async fn begin(lab: &Lab, token: &str) -> Events {
    let request = Request::PairJoin { token: token.to_owned(), expect_device: None };
    lab.device.stream(request).await.unwrap()
}

async fn refused(lab: &Lab, token: &str) -> String {
    let request = Request::PairJoin { token: token.to_owned(), expect_device: None };
    lab.device.stream(request).await.unwrap_err().kind
}

fn is_question(event: &ApiEvent) -> bool {
    matches!(event, ApiEvent::Request { .. } | ApiEvent::Confirm { .. })
}

/// The next question about another device: its number, its string and what is granted.
async fn asked(events: &mut Events) -> (u32, String, String) {
    match next(events, is_question).await {
        ApiEvent::Request { id, sas, grants, .. } | ApiEvent::Confirm { id, sas, grants, .. } => {
            (id, sas, grants)
        }
        _ => panic!(),
    }
}

/// What a join says next, sealed.
fn seal(join: &TokenJoin, key: &DeviceKey, number: u64) -> bytes::Bytes {
    join.say().unwrap().seal(key, number).unwrap()
}

/// Joins by a token as far as the question to the person there, and returns its number.
async fn asks_to_join(
    joiner: &mut Bare,
    join: &mut TokenJoin,
    token: &Token,
    events: &mut Events,
) -> u32 {
    joiner.say(Say::Envelope(seal(join, &joiner.key, 1))).await;
    let challenge = joiner.letter().await;
    join.handle(&Letter {
        reply: None,
        author: token.terms.device,
        group: Some(token.terms.group),
        kind: challenge.kind(),
        sequence: 1,
        body: challenge.encode(),
    });
    joiner.say(Say::Envelope(seal(join, &joiner.key, 2))).await;
    asked(events).await.0
}

/// How a stream ends; SSH is refused, and everything else that is asked is answered `yes`.
async fn ending(lab: &Lab, events: &mut Events, yes: bool) -> ApiEvent {
    let end = async {
        loop {
            match events.recv().await.expect("the stream ends with a word") {
                ApiEvent::Request { id, .. } | ApiEvent::Confirm { id, .. } => {
                    answer(lab, id, yes).await;
                }
                ApiEvent::Ask { id, .. } => answer(lab, id, false).await,
                end @ (ApiEvent::Paired { .. } | ApiEvent::Refused { .. } | ApiEvent::Timeout) => {
                    return end;
                }
                _ => {}
            }
        }
    };
    timeout(PATIENCE, end).await.unwrap_or_else(|_| panic!("{}: it does not end", lab.name))
}

/// Answers yes, and no to SSH, until the join waits durably.
async fn agree(lab: &Lab, events: &mut Events) {
    let (id, ..) = asked(events).await;
    answer(lab, id, true).await;
    let waits = |event: &ApiEvent| matches!(event, ApiEvent::Ask { .. } | ApiEvent::Pending { .. });
    while let ApiEvent::Ask { id, .. } = next(events, waits).await {
        answer(lab, id, false).await;
    }
}

async fn joins(lab: &Lab) -> Vec<JoinLine> {
    lab.ask(Request::PairStatus).await
}

async fn holds_nothing(lab: &Lab) {
    lab.until("nothing is left", || async {
        let groups: Vec<GroupLine> = lab.ask(Request::Groups).await;
        joins(lab).await.is_empty() && groups.is_empty()
    })
    .await;
}

/// One end of a link with nothing behind it.
struct Bare {
    key: Arc<DeviceKey>,
    inbox: InboxKey,
    reader: LinkReader,
    writer: LinkWriter,
}

impl Bare {
    async fn dial(lab: &Lab) -> Self {
        let key = Arc::new(DeviceKey::from_seed(&Secret::new(random().unwrap())).unwrap());
        let inbox = InboxKey::from_seed(Secret::new(random().unwrap())).unwrap();
        let endpoint = Endpoint::new(&key, Limits::default()).unwrap();
        let link = endpoint.dial(([127, 0, 0, 1], lab.port).into()).await.unwrap();
        let (reader, writer) = link.split();
        let mut bare = Self { key, inbox, reader, writer };
        let hello = Say::Hello { version: DEVICE_VERSION, port: 0, purpose: Purpose::Join };
        bare.say(hello).await;
        bare
    }

    async fn say(&mut self, message: Say) {
        let message = Message::Device(message).encode();
        self.writer.send(Channel::Session, &message).await.unwrap();
        self.writer.flush().await.unwrap();
    }

    fn join(&self, token: &Token) -> TokenJoin {
        let (device, inbox, name) = (self.key.id(), self.inbox.id(), Name::new("bare").unwrap());
        let nonce = Secret::new(random().unwrap());
        TokenJoin::start(token, &Card { device, inbox, name }, nonce).unwrap()
    }

    /// The envelope that asks with a token.
    fn request(&self, token: &Token) -> bytes::Bytes {
        self.join(token).say().unwrap().seal(&self.key, 1).unwrap()
    }

    async fn hear(&mut self) -> Option<Message> {
        let frame = timeout(PATIENCE, self.reader.next()).await.expect("an answer or an end");
        let (_, payload) = frame.ok()??;
        Some(Message::decode(&payload).unwrap())
    }

    /// What is said until the link ends, but for signs of life and goodbyes.
    async fn all(mut self) -> Vec<Message> {
        let mut heard = Vec::new();
        while let Some(message) = self.hear().await {
            if message != Message::Alive {
                heard.push(message);
            }
        }
        heard
    }

    async fn letter(&mut self) -> pair::Message {
        loop {
            if let Message::Device(Say::Envelope(bytes)) =
                self.hear().await.expect("the link lives")
            {
                let me = Recipient { device: self.key.id(), inbox: self.inbox.id() };
                let letter = Letter::open(&bytes, &me, &self.inbox, None).unwrap();
                return pair::Message::decode(letter.kind, &letter.body).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_a_token_lets_a_reader_in_to_what_it_lists() {
    let (laptop, phone) = (Lab::new("laptop").await, Lab::new("phone").await);
    let source = laptop.share("Photos").await;
    laptop.share("Letters").await;
    fs::write(source.join("one"), "1").unwrap();
    let options = PairToken {
        role: Some("reader".to_owned()),
        folders: Some(vec!["Photos".to_owned()]),
        ..PairToken::default()
    };
    let (mut here, token) = show(&laptop, options).await;
    let mut there = begin(&phone, &token).await;
    let (id, sas, grants) = asked(&mut here).await;
    let (other, shown, told) = asked(&mut there).await;
    assert_eq!(sas, shown, "both show the same");
    assert!(grants.contains("reader") && grants.contains("Photos"), "{grants}");
    assert!(told.contains("reader") && told.contains("one folder"), "{told}");
    answer(&laptop, id, true).await;
    answer(&phone, other, true).await;
    let (here, there) =
        tokio::join!(ending(&laptop, &mut here, true), ending(&phone, &mut there, true));
    for (end, with) in [(here, "phone"), (there, "laptop")] {
        let ApiEvent::Paired { name, role, .. } = end else { panic!("{end:?}") };
        assert_eq!((&*name, &*role), (with, "reader"));
    }
    assert!(joins(&phone).await.is_empty());
    let me = phone.devices().await.into_iter().find(|device| device.me).unwrap();
    assert_eq!((&*me.role, &*me.group), ("reader", "laptop"));
    let target = phone.join("Photos").await;
    phone.file(&target.join("one"), "1").await;
    let folders: Vec<FolderLine> = phone.ask(Request::Folders).await;
    let names: Vec<&str> = folders.iter().map(|folder| &*folder.name).collect();
    assert_eq!(names, ["Photos"], "the other one was not listed");
    // A window is for one: the token is worth nothing any more.
    assert_eq!(refused(&laptop, &token).await, "own_token");
    assert_eq!(refused(&phone, &token).await, "member");
    let phone = phone.restart().await;
    assert_eq!(phone.names().await, ["laptop", "phone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_a_wrong_secret_and_a_closed_window_are_answered_by_silence() {
    let laptop = Lab::new("laptop").await;
    let (mut events, text) = show(&laptop, PairToken::default()).await;
    let token = Token::parse(&text).unwrap();
    let wrong = Token { secret: Secret::new([7; 16]), ..token.clone() };
    let mut guesser = Bare::dial(&laptop).await;
    let request = guesser.request(&wrong);
    guesser.say(Say::Envelope(request)).await;
    // The right secret, but carried by somebody else: attacks.md 13.
    let (mut thief, mut honest) = (Bare::dial(&laptop).await, Bare::dial(&laptop).await);
    let request = honest.request(&token);
    thief.say(Say::Envelope(request.clone())).await;
    honest.say(Say::Envelope(request)).await;
    assert!(matches!(honest.letter().await, pair::Message::Challenge { .. }));
    let (during, stolen) = tokio::join!(guesser.all(), thief.all());
    // Only who spoke for itself is known to the window, and it was not shown before its string is.
    let cancelled: serde_json::Value = laptop.ask(Request::PairCancel).await;
    assert_eq!(cancelled["closed"], true);
    let first = next(&mut events, |_| true).await;
    assert!(matches!(first, ApiEvent::Refused { .. }), "{first:?}");
    let mut late = Bare::dial(&laptop).await;
    let request = late.request(&token);
    late.say(Say::Envelope(request)).await;
    let after = late.all().await;
    // Everybody is told alike that it is no member, before it has said anything; to what it says there is no answer.
    let alike = |port| {
        let purpose = Purpose::Join;
        let hello = Say::Hello { version: DEVICE_VERSION, port, purpose };
        [hello, Say::NotAdmitted].map(Message::Device)
    };
    for heard in [during, stolen, after] {
        assert_eq!(heard, alike(laptop.port), "silence");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_letters_of_another_author_admit_nobody() {
    let laptop = Lab::new("laptop").await;
    let (mut events, text) = show(&laptop, PairToken::default()).await;
    let token = Token::parse(&text).unwrap();
    // Somebody in the middle has a link of his own to the laptop, and carries what the joiner seals.
    let (mut joiner, mut middle) = (Bare::dial(&laptop).await, Bare::dial(&laptop).await);
    let mut join = joiner.join(&token);
    let id = asks_to_join(&mut joiner, &mut join, &token, &mut events).await;
    join.answer(true).unwrap();
    // The yes comes over the wrong link, and does not count: what the middle says for itself after it does.
    middle.say(Say::Envelope(seal(&join, &joiner.key, 3))).await;
    let request = middle.request(&token);
    middle.say(Say::Envelope(request)).await;
    assert!(matches!(middle.letter().await, pair::Message::Challenge { .. }));
    answer(&laptop, id, true).await;
    next(&mut events, |event| matches!(event, ApiEvent::Waiting { .. })).await;
    assert_eq!(laptop.names().await, ["laptop"]);
    // One that was heard before does not count again (rule T21).
    joiner.say(Say::Envelope(seal(&join, &joiner.key, 2))).await;
    joiner.say(Say::Envelope(seal(&join, &joiner.key, 3))).await;
    assert!(matches!(joiner.letter().await, pair::Message::Admitted { .. }));
    assert_eq!(laptop.names().await, ["bare", "laptop"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_of_several_who_ask_one_is_chosen_by_its_number() {
    let (laptop, phone, nas) =
        (Lab::new("laptop").await, Lab::new("phone").await, Lab::new("nas").await);
    let (mut here, token) = show(&laptop, PairToken::default()).await;
    let (mut at_phone, mut at_nas) = (begin(&phone, &token).await, begin(&nas, &token).await);
    agree(&phone, &mut at_phone).await;
    agree(&nas, &mut at_nas).await;
    let mut waiting = std::collections::BTreeMap::new();
    while waiting.len() < 2 {
        let ApiEvent::Request { id, name, .. } = next(&mut here, is_question).await else {
            panic!()
        };
        waiting.insert(name, id);
    }
    answer(&laptop, waiting["nas"], true).await;
    let withdrawn = next(&mut here, |event| matches!(event, ApiEvent::Withdrawn { .. })).await;
    let ApiEvent::Withdrawn { id, .. } = withdrawn else { panic!() };
    assert_eq!(id, waiting["phone"]);
    let late: serde_json::Value =
        laptop.ask(Request::Answer { id: waiting["phone"], yes: true }).await;
    assert_eq!(late["taken"], false);
    let (here, there, not) = tokio::join!(
        ending(&laptop, &mut here, false),
        ending(&nas, &mut at_nas, false),
        ending(&phone, &mut at_phone, false)
    );
    assert!(matches!(&here, ApiEvent::Paired { name, .. } if name == "nas"), "{here:?}");
    assert!(matches!(&there, ApiEvent::Paired { name, .. } if name == "laptop"), "{there:?}");
    let ApiEvent::Refused { reason } = not else { panic!("{not:?}") };
    assert!(reason.contains("another device"), "{reason}");
    holds_nothing(&phone).await;
    assert_eq!(laptop.names().await, ["laptop", "nas"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_a_window_closes_by_its_person_its_time_and_its_stream() {
    let (laptop, phone) = (Lab::new("laptop").await, Lab::new("phone").await);
    // By its person; and only one is open at a time.
    let (mut here, token) = show(&laptop, PairToken::default()).await;
    let again = laptop.device.stream(Request::PairToken(PairToken::default())).await.unwrap_err();
    assert_eq!(again.kind, "pairing");
    let lan = laptop.device.stream(Request::Pair(PairLan::default())).await.unwrap_err();
    assert_eq!(lan.kind, "pairing");
    let mut there = begin(&phone, &token).await;
    let (id, ..) = asked(&mut here).await;
    asked(&mut there).await;
    for closed in [true, false] {
        let answer: serde_json::Value = laptop.ask(Request::PairCancel).await;
        assert_eq!(answer["closed"], closed);
    }
    let taken: serde_json::Value = laptop.ask(Request::Answer { id, yes: true }).await;
    let end = ending(&laptop, &mut here, true).await;
    assert!(
        matches!(&end, ApiEvent::Refused { reason } if reason == "it was cancelled"),
        "{end:?}"
    );
    let end = next(&mut there, |event| matches!(event, ApiEvent::Refused { .. })).await;
    let ApiEvent::Refused { reason } = end else { panic!() };
    assert!(reason.contains("closed its pairing window"), "{reason}");
    assert_eq!(laptop.names().await, ["laptop"], "{taken}");
    holds_nothing(&phone).await;

    // By its time.
    let short = PairToken { window: Some(1), ..PairToken::default() };
    let (mut here, _) = show(&laptop, short).await;
    assert_eq!(ending(&laptop, &mut here, true).await, ApiEvent::Timeout);

    // By the end of the stream, on either side.
    let (mut here, token) = show(&laptop, PairToken::default()).await;
    let mut there = begin(&phone, &token).await;
    asked(&mut here).await;
    asked(&mut there).await;
    drop(there);
    let gone = next(&mut here, |event| matches!(event, ApiEvent::Withdrawn { .. })).await;
    assert!(matches!(gone, ApiEvent::Withdrawn { .. }));
    holds_nothing(&phone).await;
    let mut there = begin(&phone, &token).await;
    asked(&mut there).await;
    drop(here);
    next(&mut there, |event| matches!(event, ApiEvent::Refused { .. })).await;
    assert_eq!(laptop.names().await, ["laptop"]);
    holds_nothing(&phone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_a_joiner_that_restarts_after_its_yes_is_let_in() {
    let (laptop, phone) = (Lab::new("laptop").await, Lab::new("phone").await);
    let (mut here, token) = show(&laptop, PairToken::default()).await;
    let mut there = begin(&phone, &token).await;
    let (id, ..) = asked(&mut here).await;
    agree(&phone, &mut there).await;
    assert_eq!(refused(&phone, &token).await, "pairing");
    let phone = phone.restart().await;
    let waits = joins(&phone).await;
    assert_eq!(waits.len(), 1, "{waits:?}");
    assert_eq!(refused(&phone, &token).await, "waits");
    answer(&laptop, id, true).await;
    let end = ending(&laptop, &mut here, false).await;
    assert!(matches!(end, ApiEvent::Paired { .. }), "{end:?}");
    phone.until("it was let in", || async { phone.names().await == ["laptop", "phone"] }).await;
    assert!(joins(&phone).await.is_empty());
    // And one whose person had not answered holds nothing after a restart.
    let nas = Lab::new("nas").await;
    let (mut here, token) = show(&laptop, PairToken::default()).await;
    let mut there = begin(&nas, &token).await;
    asked(&mut here).await;
    asked(&mut there).await;
    let nas = nas.restart().await;
    holds_nothing(&nas).await;
    assert_eq!(laptop.names().await, ["laptop", "phone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_an_admission_is_found_though_others_have_written_since() {
    let (laptop, nas, phone) =
        (Lab::new("laptop").await, Lab::new("nas").await, Lab::new("phone").await);
    let (mut here, token) = show(&laptop, PairToken::default()).await;
    let mut there = begin(&nas, &token).await;
    tokio::join!(ending(&laptop, &mut here, true), ending(&nas, &mut there, true));
    let (mut here, token) = show(&laptop, PairToken::default()).await;
    let mut there = begin(&phone, &token).await;
    let (id, ..) = asked(&mut here).await;
    agree(&phone, &mut there).await;
    phone.device.stop().await;
    answer(&laptop, id, true).await;
    laptop
        .until("it is let in", || async { laptop.names().await == ["laptop", "nas", "phone"] })
        .await;
    // The log ends with what another admin wrote when the joiner comes back.
    nas.until("it heard", || async { nas.names().await.contains(&"phone".to_owned()) }).await;
    nas.share("Photos").await;
    laptop.knows_folder("Photos").await;
    let phone = phone.restart().await;
    phone.knows_folder("Photos").await;
    assert_eq!(phone.names().await, ["laptop", "nas", "phone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_an_admitter_that_crashes_has_no_window_and_the_joiner_trusts_nothing() {
    // A crash: its tasks end without a word.
    let machine = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut laptop = machine.spawn(Lab::new("laptop")).await.unwrap();
    let phone = Lab::new("phone").await;
    let (mut here, token) = show(&laptop, PairToken::default()).await;
    let mut there = begin(&phone, &token).await;
    asked(&mut here).await;
    agree(&phone, &mut there).await;
    tokio::task::spawn_blocking(move || machine.shutdown_timeout(Duration::from_secs(20)))
        .await
        .unwrap();
    (laptop.device, _) = open(&laptop.top.path().join("state"), Settings::new("laptop")).unwrap();
    laptop.port = go_online(&laptop.device).await;
    assert_eq!(laptop.names().await, ["laptop"]);
    assert_eq!(joins(&phone).await.len(), 1);
    assert!(phone.devices().await.is_empty(), "it trusts nothing");
    let cancelled: serde_json::Value = laptop.ask(Request::PairCancel).await;
    assert_eq!(cancelled["closed"], false);
    // Given up, and done again.
    let given_up: Vec<JoinLine> = phone.ask(Request::PairAbandon).await;
    assert_eq!(given_up.len(), 1);
    drop(there);
    holds_nothing(&phone).await;
    let (mut here, token) = show(&laptop, PairToken::default()).await;
    let begun = async {
        // The stream that was closed is over within a moment.
        loop {
            let request = Request::PairJoin { token: token.clone(), expect_device: None };
            match phone.device.stream(request).await {
                Ok(events) => return events,
                Err(failure) => assert_eq!(failure.kind, "pairing"),
            }
        }
    };
    let mut there = begun.await;
    let (here, there) =
        tokio::join!(ending(&laptop, &mut here, true), ending(&phone, &mut there, true));
    assert!(matches!(here, ApiEvent::Paired { .. }), "{here:?}");
    assert!(matches!(there, ApiEvent::Paired { .. }), "{there:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_window_can_grant_is_refused_before_it_opens() {
    let (laptop, phone) = (Lab::new("laptop").await, Lab::new("phone").await);
    laptop.share("Photos").await;
    let kind = async |options: PairToken| {
        let refused = laptop.device.stream(Request::PairToken(options)).await;
        refused.unwrap_err().kind
    };
    let options = PairToken::default;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(kind(PairToken { role: some("owner"), ..options() }).await, "bad_role");
    assert_eq!(kind(PairToken { group: some("none"), ..options() }).await, "no_group");
    assert_eq!(kind(PairToken { window: Some(0), ..options() }).await, "bad_window");
    let folders = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(kind(PairToken { folders: folders(&["no"]), ..options() }).await, "no_folder");
    let names = ["a", "b", "c", "d"];
    for name in names {
        laptop.share(name).await;
    }
    let five = folders(&["Photos", "a", "b", "c", "d"]);
    assert_eq!(kind(PairToken { folders: five, ..options() }).await, "too_many_folders");
    assert_eq!(refused(&phone, "kt1qqqq").await, "token");
    assert_eq!(refused(&phone, &laptop.devices().await[0].device).await, "token");
    holds_nothing(&phone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_an_admission_that_may_be_on_the_disk_is_not_denied() {
    let laptop = Lab::new("laptop").await;
    let (mut events, text) = show(&laptop, PairToken::default()).await;
    let token = Token::parse(&text).unwrap();
    let mut joiner = Bare::dial(&laptop).await;
    let mut join = joiner.join(&token);
    let id = asks_to_join(&mut joiner, &mut join, &token, &mut events).await;
    answer(&laptop, id, true).await;
    next(&mut events, |event| matches!(event, ApiEvent::Waiting { .. })).await;
    // The store has failed when the yes comes, and the device is about to end.
    join.answer(true).unwrap();
    let (yes, author) = (seal(&join, &joiner.key, 3), joiner.key.id());
    let heard = laptop.device.hub.with(move |hub| {
        let id = hub.link_to(&author).unwrap();
        hub.stopping.get_or_insert_default();
        hub.heard_envelope(id, &yes);
    });
    heard.await.unwrap();
    let end = ending(&laptop, &mut events, true).await;
    assert!(matches!(end, ApiEvent::Refused { .. }), "{end:?}");
    let me = Recipient { device: joiner.key.id(), inbox: joiner.inbox.id() };
    while let Some(message) = joiner.hear().await {
        if let Message::Device(Say::Envelope(bytes)) = message {
            let letter = Letter::open(&bytes, &me, &joiner.inbox, None).unwrap();
            let said = pair::Message::decode(letter.kind, &letter.body).unwrap();
            assert!(!matches!(said, pair::Message::Declined { .. }), "{said:?}");
        }
    }
}
