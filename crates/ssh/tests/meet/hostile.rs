//! Strangers at the port of `kin ssh listen`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use identity::{DeviceId, InboxId};
use link::{Endpoint, Limits, Link, LinkReader, LinkWriter, Protocol};
use pairing::{Lan, LanStep, Party, Transcript};
use ssh::meet::{Event, Outcome, Setup};
use tokio::time::timeout;
use wire::{
    frame::Channel,
    session::{Message as Step, Mode, Name},
    ssh::{Hello, Message, Purpose, Refusal, SSH_VERSION},
};

use crate::common::{Device, LONG, Run, at, key};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";

/// Somebody who speaks the protocol and breaks it where a test says so.
struct Stranger {
    id: DeviceId,
    peer: DeviceId,
    exporter: [u8; 32],
    reader: LinkReader,
    writer: LinkWriter,
}

impl Stranger {
    async fn at(addr: SocketAddr, seed: u8) -> Self {
        let endpoint = Endpoint::speaking(Protocol::Ssh, &key(seed), Limits::default());
        let link: Link =
            Arc::new(endpoint.expect("TLS")).dial(addr).await.expect("somebody listens");
        let (peer, exporter) = (link.peer(), link.exporter());
        let (reader, writer) = link.split();
        Self { id: key(seed).id(), peer, exporter, reader, writer }
    }

    async fn say(&mut self, message: &Message) {
        self.bytes(&message.encode()).await;
    }

    async fn bytes(&mut self, bytes: &Bytes) {
        // Whoever hung up hears nothing.
        let _ = self.writer.send(Channel::Session, bytes).await;
        let _ = self.writer.flush().await;
    }

    async fn hear(&mut self) -> Option<Message> {
        let heard = timeout(LONG, self.reader.next()).await.expect("in time").ok()??;
        Some(Message::decode(&heard.1).expect("ours are good"))
    }

    fn hello(&self) -> Hello {
        Hello {
            version: SSH_VERSION,
            name: Name::new("lap").expect("is one"),
            purpose: Purpose::Pair,
            inbox: InboxId([9; 32]),
            key: Some(KEY.to_owned()),
        }
    }

    /// Both hellos, whoever speaks first.
    async fn greet(&mut self, hello: &Hello) -> Hello {
        if self.id < self.peer {
            self.say(&Message::Hello(hello.clone())).await;
        }
        let Some(Message::Hello(theirs)) = self.hear().await else { panic!("no hello") };
        if self.id > self.peer {
            self.say(&Message::Hello(hello.clone())).await;
        }
        theirs
    }

    fn machine(&self, mine: &Hello, theirs: &Hello) -> Lan {
        let party = |device, hello: &Hello| Party {
            device,
            inbox: hello.inbox,
            name: hello.name.clone(),
            version: hello.version,
            mode: Mode::Ask,
        };
        let transcript = Transcript {
            client: party(self.id, mine),
            server: party(self.peer, theirs),
            topic: Hello::topic(mine, theirs),
            exporter: self.exporter,
        };
        Lan::client(&transcript).expect("two devices")
    }

    /// As far as the string, as an honest device does.
    async fn compare(&mut self) -> String {
        let mine = self.hello();
        let theirs = self.greet(&mine).await;
        let mut machine = self.machine(&mine, &theirs);
        let Ok(Step::Commit(commit)) = machine.commit([5; 32]) else { panic!("it may") };
        self.say(&Message::Commit(commit)).await;
        let Some(Message::Nonce(nonce)) = self.hear().await else { panic!("no nonce") };
        let Ok(LanStep::SendAndShow(Step::Reveal(reveal), sas)) =
            machine.handle(&Step::Nonce(nonce), [6; 32])
        else {
            panic!("no string");
        };
        self.say(&Message::Reveal(reveal)).await;
        sas.to_string()
    }
}

async fn listening() -> (Device, Run, SocketAddr) {
    let desk = Device::new(1);
    let (run, addr) = Run::listening(desk.setup(Purpose::Listen)).await;
    (desk, run, addr)
}

#[tokio::test]
async fn attack_41_three_who_learn_the_string_and_hang_up_close_it() {
    let (desk, mut run, addr) = listening().await;
    for seed in [2, 3, 4] {
        let mut stranger = Stranger::at(addr, seed).await;
        let sas = stranger.compare().await;
        assert_eq!(run.question().await.sas, sas);
        drop(stranger);
        run.withdrawn().await;
    }
    let outcome = run.outcome().await;
    assert!(
        matches!(&outcome, Outcome::Refused(words) if words.contains("three attempts")),
        "{outcome:?}"
    );
    assert!(desk.files().is_empty());
}

#[tokio::test]
async fn attack_08_a_changed_commitment_and_a_late_one_end_it() {
    let (desk, mut run, addr) = listening().await;
    let mut stranger = Stranger::at(addr, 2).await;
    let mine = stranger.hello();
    stranger.greet(&mine).await;
    stranger.say(&Message::Commit([7; 32])).await;
    let Some(Message::Nonce(_)) = stranger.hear().await else { panic!("no nonce") };
    stranger.say(&Message::Reveal([7; 32])).await;
    assert!(matches!(stranger.hear().await, Some(Message::Refused { .. }) | None));
    // Without any, there is nothing to reveal.
    let mut stranger = Stranger::at(addr, 3).await;
    let mine = stranger.hello();
    stranger.greet(&mine).await;
    stranger.say(&Message::Reveal([7; 32])).await;
    assert!(matches!(stranger.hear().await, Some(Message::Refused { .. }) | None));
    run.meeting.stop().await;
    assert_eq!(run.outcome().await, Outcome::Stopped);
    assert!(desk.files().is_empty() && !run.seen.iter().any(|it| matches!(it, Event::Confirm(_))));
}

#[tokio::test]
async fn attack_11_what_is_said_twice_in_different_words_shows_other_strings() {
    // Somebody in between who changes a key in the hello on the way would have to keep two links; here one
    // side reckons with what it did not say.
    let (desk, mut run, addr) = listening().await;
    let mut stranger = Stranger::at(addr, 2).await;
    let mine = stranger.hello();
    let theirs = stranger.greet(&mine).await;
    let other = Hello { name: Name::new("lop").expect("is one"), ..mine };
    let mut machine = stranger.machine(&other, &theirs);
    let Ok(Step::Commit(commit)) = machine.commit([5; 32]) else { panic!("it may") };
    stranger.say(&Message::Commit(commit)).await;
    let Some(Message::Nonce(_)) = stranger.hear().await else { panic!("no nonce") };
    stranger.say(&Message::Reveal([5; 32])).await;
    assert!(matches!(stranger.hear().await, Some(Message::Refused { .. }) | None));
    run.meeting.stop().await;
    run.outcome().await;
    assert!(desk.files().is_empty());
}

#[tokio::test]
async fn attack_10_a_yes_before_the_string_and_keys_before_the_yes_are_nothing() {
    for early in [
        Message::Accepted,
        Message::Done,
        Message::Ready,
        Message::Nonce([1; 32]),
        Message::Reach(wire::ssh::Reach { user: "root".into(), port: 22, host_keys: vec![] }),
    ] {
        let (desk, mut run, addr) = listening().await;
        let mut stranger = Stranger::at(addr, 2).await;
        let mine = stranger.hello();
        stranger.greet(&mine).await;
        stranger.say(&early).await;
        assert!(matches!(stranger.hear().await, Some(Message::Refused { .. }) | None), "{early:?}");
        // After the string, what is no answer takes the question back.
        let mut stranger = Stranger::at(addr, 3).await;
        stranger.compare().await;
        run.question().await;
        stranger.say(&Message::Done).await;
        run.withdrawn().await;
        run.meeting.stop().await;
        run.outcome().await;
        assert!(desk.files().is_empty() && !run.installed());
    }
}

#[tokio::test]
async fn attack_16_a_hello_with_more_than_a_key_is_refused_before_anything_is_asked() {
    for bad in [
        format!("command=\"id\" {KEY}"),
        format!("{KEY} {KEY}"),
        "ssh-dss AAAA".to_owned(),
        "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
        format!("{KEY}A"),
    ] {
        let (desk, mut run, addr) = listening().await;
        let mut stranger = Stranger::at(addr, 2).await;
        let hello = Hello { key: Some(bad.clone()), ..stranger.hello() };
        stranger.greet(&hello).await;
        assert!(matches!(stranger.hear().await, Some(Message::Refused { .. }) | None), "{bad}");
        run.meeting.stop().await;
        run.outcome().await;
        assert!(desk.files().is_empty());
    }
}

#[tokio::test]
async fn one_is_asked_about_at_a_time_and_the_next_has_its_turn() {
    let (_desk, mut run, addr) = listening().await;
    let mut first = Stranger::at(addr, 2).await;
    let sas = first.compare().await;
    assert_eq!(run.question().await.sas, sas);
    let mut second = Stranger::at(addr, 3).await;
    let mine = second.hello();
    second.greet(&mine).await;
    second.say(&Message::Commit([1; 32])).await;
    assert_eq!(second.hear().await, Some(Message::Later));
    first.say(&Message::Refused { reason: Refusal::Broken, words: String::new() }).await;
    assert_eq!(second.hear().await, Some(Message::Ready));
}

#[tokio::test]
async fn a_look_is_answered_and_forgotten() {
    let (_desk, mut run, addr) = listening().await;
    let mut stranger = Stranger::at(addr, 2).await;
    let look = Hello { purpose: Purpose::Look, key: None, ..stranger.hello() };
    let theirs = stranger.greet(&look).await;
    assert_eq!((theirs.name.as_str(), theirs.purpose), ("device-1", Purpose::Listen));
    assert_eq!(stranger.hear().await, None);
    let mut other = Stranger::at(addr, 3).await;
    other.compare().await;
    run.question().await;
}

#[tokio::test]
async fn attack_38_a_visitor_who_says_no_ends_no_listener() {
    let (desk, mut run, addr) = listening().await;
    for (seed, reason) in [(2, Refusal::Declined), (3, Refusal::Failed)] {
        let mut stranger = Stranger::at(addr, seed).await;
        stranger.compare().await;
        run.question().await;
        stranger.say(&Message::Refused { reason, words: format!("no {seed}") }).await;
        run.withdrawn().await;
        let said = |event: &Event| matches!(event, Event::Note(note) if note.contains("goes on"));
        while !said(&run.next().await) {}
    }
    let lap = Device::new(4);
    let mut pair = Run::start(Setup { target: at(addr), ..lap.setup(Purpose::Pair) }).await;
    run.answer(true).await;
    pair.answer(true).await;
    assert_eq!((run.outcome().await, pair.outcome().await), (Outcome::Done, Outcome::Done));
    assert_eq!(desk.home().installed().expect("can be read").len(), 1);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a person made it")]
async fn what_cannot_be_installed_on_the_other_device_ends_it_with_the_reason() {
    let (desk, mut run, addr) = listening().await;
    // A directory in the place of the file.
    let odd = desk.dir.path().join(".ssh/authorized_keys");
    std::fs::create_dir_all(&odd).expect("there is room");
    let lap = Device::new(4);
    let mut pair = Run::start(Setup { target: at(addr), ..lap.setup(Purpose::Pair) }).await;
    run.answer(true).await;
    pair.answer(true).await;
    for outcome in [run.outcome().await, pair.outcome().await] {
        let said = |message: &str| message.contains("authorized_keys");
        assert!(
            matches!(&outcome, Outcome::Failed { message, .. } if said(message)),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn attack_38_who_takes_too_long_before_the_question_loses_the_place() {
    let desk = Device::new(1);
    let before = Duration::from_secs(1);
    let setup = Setup { before, ..desk.setup(Purpose::Listen) };
    let (mut run, addr) = Run::listening(setup).await;
    let mut stranger = Stranger::at(addr, 2).await;
    let mine = stranger.hello();
    stranger.greet(&mine).await;
    assert!(matches!(stranger.hear().await, Some(Message::Refused { .. }) | None));
    // Whoever waits for a place, too.
    let mut first = Stranger::at(addr, 3).await;
    first.compare().await;
    run.question().await;
    let mut second = Stranger::at(addr, 4).await;
    let mine = second.hello();
    second.greet(&mine).await;
    second.say(&Message::Commit([1; 32])).await;
    assert_eq!(second.hear().await, Some(Message::Later));
    assert!(matches!(second.hear().await, Some(Message::Refused { .. }) | None));
    run.meeting.stop().await;
    run.outcome().await;
}

#[tokio::test]
async fn attack_38_one_source_has_so_many_places_and_no_more() {
    let (_desk, mut run, addr) = listening().await;
    let mut held = Vec::new();
    for seed in 2..10 {
        let mut stranger = Stranger::at(addr, seed).await;
        let mine = stranger.hello();
        stranger.greet(&mine).await;
        held.push(stranger);
    }
    let mut more = Stranger::at(addr, 10).await;
    let hello = Message::Hello(more.hello());
    more.say(&hello).await;
    assert_eq!(more.hear().await, None);
    // A place that is left is another one's.
    drop(held.pop());
    let lap = Device::new(20);
    let mut pair = Run::start(Setup { target: at(addr), ..lap.setup(Purpose::Pair) }).await;
    run.answer(true).await;
    pair.answer(true).await;
    assert_eq!((run.outcome().await, pair.outcome().await), (Outcome::Done, Outcome::Done));
}
