//! Peers that do not play by the rules, made of bare links.

use std::sync::Arc;

use bytes::Bytes;
use group::{Topic, VouchExt as _};
use identity::{DeviceKey, InboxId, Secret};
use link::{Endpoint, Limits, Link, LinkReader, LinkWriter, Listener};
use pairing::{PASSPHRASE_ATTEMPTS, Passphrase};
use tokio::time::timeout;
use wire::{
    frame::Channel,
    session::{Ground, Hello, Message, Mode, Name, PROTOCOL_VERSION, Refusal, StrandTag, Vouch},
};

use super::{Device, LONG, ask, config, confirm, words};
use crate::{Admission, session::actor::MAX_STRANGERS_EACH};

/// The other end of a link, with nothing behind it.
struct Bare {
    key: Arc<DeviceKey>,
    exporter: [u8; 32],
    reader: LinkReader,
    writer: LinkWriter,
}

impl Bare {
    fn endpoint() -> (Arc<DeviceKey>, Endpoint) {
        let seed = Secret::new(super::super::random().expect("random numbers"));
        let key = Arc::new(DeviceKey::from_seed(&seed).expect("any seed is a key"));
        let endpoint = Endpoint::new(&key, Limits::default()).expect("TLS can be set up");
        (key, endpoint)
    }

    async fn dial(device: &Device) -> Self {
        let (key, endpoint) = Self::endpoint();
        Self::of(key, endpoint.dial(device.addr()).await.expect("a link"))
    }

    fn of(key: Arc<DeviceKey>, link: Link) -> Self {
        let exporter = link.exporter();
        let (reader, writer) = link.split();
        Self { key, exporter, reader, writer }
    }

    async fn say(&mut self, message: &Message) {
        self.raw(Channel::Session, &message.encode()).await;
    }

    async fn raw(&mut self, channel: Channel, payload: &[u8]) {
        // The other side may have hung up already.
        let _ = self.writer.send(channel, payload).await;
        let _ = self.writer.flush().await;
    }

    /// The next message; `None` once the link has ended.
    async fn hear(&mut self) -> Option<Message> {
        let frame = timeout(LONG, self.reader.next()).await.expect("an answer or an end");
        let (channel, payload) = frame.ok()??;
        assert_eq!(channel, Channel::Session);
        Some(Message::decode(&payload).expect("a message"))
    }

    async fn hear_until(&mut self, mut wanted: impl FnMut(&Message) -> bool) -> Message {
        loop {
            let message = self.hear().await.expect("the link lives");
            if wanted(&message) {
                return message;
            }
        }
    }

    /// The next message of the ceremony; `None` if the link ends before there is one.
    async fn ceremony(&mut self) -> Option<Message> {
        loop {
            match self.hear().await? {
                Message::Hello(_)
                | Message::Vouches { .. }
                | Message::Standing { .. }
                | Message::Alive => {}
                message => return Some(message),
            }
        }
    }

    /// Hears on until the link ends: the last thing that was said.
    async fn last(&mut self) -> Option<Message> {
        let mut last = None;
        while let Some(message) = self.hear().await {
            last = Some(message);
        }
        last
    }

    fn hello(&self, mode: Mode) -> Message {
        Message::Hello(Hello {
            version: PROTOCOL_VERSION,
            name: Name::new("mallory").expect("short"),
            port: 0,
            topic: Topic::new("").on_link(&self.exporter),
            inbox: InboxId([9; 32]),
            mode,
        })
    }

    /// Says hello in its turn and brings these vouches.
    async fn introduce(&mut self, device: &Device, mode: Mode, vouches: Vec<Vouch>) {
        if device.id() < self.key.id() {
            self.hear_until(|message| matches!(message, Message::Hello(_))).await;
        }
        let hello = self.hello(mode);
        self.say(&hello).await;
        self.say(&Message::Vouches { vouches, last: true }).await;
        self.say(&Message::Standing { known: false }).await;
    }
}

fn broken() -> Option<Message> {
    Some(Message::Refused { reason: Refusal::Broken, words: String::new() })
}

#[tokio::test]
async fn dsync_01_a_stranger_reaches_no_folder() {
    let device = Device::new("anna", ask(), &[]).await;
    let mut stranger = Bare::dial(&device).await;
    stranger.introduce(&device, Mode::Open, vec![]).await;
    stranger.say(&Message::Accepted).await;
    stranger.raw(Channel::Folder(0), b"anything").await;
    stranger.last().await;
    assert!(device.handle.members().borrow().is_empty());
}

#[tokio::test]
async fn one_sided_acceptance_is_none() {
    let mut device = Device::new("anna", ask(), &[]).await;
    let mut stranger = Bare::dial(&device).await;
    stranger.introduce(&device, Mode::Open, vec![]).await;
    stranger.say(&Message::Accepted).await;
    stranger.say(&Message::Accepted).await;
    // The stranger plays the ceremony, so the person is asked, and nothing has happened before.
    stranger.hear_until(|message| matches!(message, Message::Standing { known: false })).await;
    assert!(device.handle.members().borrow().is_empty());
    stranger.say(&Message::Commit([1; 32])).await;
    stranger.hear_until(|message| matches!(message, Message::Nonce(_))).await;
    // Attack 8: what was committed to is not what is revealed.
    stranger.say(&Message::Reveal([2; 32])).await;
    assert_eq!(stranger.last().await, broken());
    let reason = device.refused().await;
    assert!(reason.contains("changed what it had committed to"), "{reason}");
    assert_eq!(device.asked(), 0, "no string is shown for it");
}

#[tokio::test]
async fn attack_41_three_broken_ceremonies_close_admission() {
    let mut device = Device::new("anna", ask(), &[]).await;
    for _ in 0..3 {
        let mut stranger = Bare::dial(&device).await;
        stranger.introduce(&device, Mode::Open, vec![]).await;
        stranger.say(&Message::Commit([1; 32])).await;
        stranger.hear_until(|message| matches!(message, Message::Nonce(_))).await;
    }
    device.closed().await;
    let mut stranger = Bare::dial(&device).await;
    stranger.introduce(&device, Mode::Open, vec![]).await;
    let closed = Some(Message::Refused { reason: Refusal::Closed, words: String::new() });
    assert_eq!(stranger.last().await, closed);
}

#[tokio::test]
async fn messages_out_of_order_end_the_link() {
    let device = Device::new("anna", ask(), &[]).await;
    let wrong: [fn(&Bare) -> Vec<Message>; 6] = [
        |_| vec![Message::Accepted],
        |bare| vec![bare.hello(Mode::Ask), bare.hello(Mode::Ask)],
        |bare| vec![bare.hello(Mode::Ask), Message::Commit([1; 32])],
        |bare| vec![bare.hello(Mode::Ask), Message::Confirm([1; 32])],
        |bare| {
            let standing = Message::Standing { known: false };
            vec![bare.hello(Mode::Ask), standing.clone(), standing]
        },
        |bare| {
            let vouches = Message::Vouches { vouches: vec![], last: true };
            vec![bare.hello(Mode::Ask), vouches.clone(), vouches]
        },
    ];
    for (number, messages) in wrong.into_iter().enumerate() {
        let mut stranger = Bare::dial(&device).await;
        for message in messages(&stranger) {
            stranger.say(&message).await;
        }
        assert_eq!(stranger.last().await, broken(), "case {number}");
    }
}

#[tokio::test]
async fn malformed_and_oversized_frames_end_the_link() {
    let device = Device::new("anna", ask(), &[]).await;
    let frames: [(Channel, Vec<u8>); 3] = [
        (Channel::Session, vec![0xff; 40]),
        (Channel::Session, vec![0; wire::frame::MAX_STRANGER_FRAME + 1]),
        (Channel::Folder(0), vec![1]),
    ];
    for (channel, payload) in frames {
        let mut stranger = Bare::dial(&device).await;
        stranger.raw(channel, &payload).await;
        stranger.last().await;
    }
}

#[tokio::test]
async fn t7_vouches_that_a_stranger_made_up_change_nothing() {
    let device = Device::new("anna", ask(), &[]).await;
    let mut stranger = Bare::dial(&device).await;
    let other = DeviceKey::from_seed(&Secret::new([77; 32])).expect("any seed is a key");
    let name = Name::new("trusted").expect("short");
    let topic = Topic::new("");
    let by_other = Vouch::sign(&other, &topic, stranger.key.id(), name, Ground::Person);
    let forged = Vouch { voucher: device.id(), ..by_other.clone() };
    stranger.introduce(&device, Mode::Ask, vec![by_other, forged]).await;
    let standing = stranger.hear_until(|message| matches!(message, Message::Standing { .. })).await;
    assert_eq!(standing, Message::Standing { known: false });
    assert!(device.handle.members().borrow().is_empty());
}

#[tokio::test]
async fn too_many_vouches_end_the_link() {
    let device = Device::new("anna", ask(), &[]).await;
    let mut stranger = Bare::dial(&device).await;
    let name = Name::new("x").expect("short");
    let vouch = Vouch::sign(&stranger.key, &Topic::new(""), device.id(), name, Ground::Person);
    stranger.say(&stranger.hello(Mode::Ask)).await;
    for _ in 0..3 {
        let vouches = vec![vouch.clone(); 64];
        stranger.say(&Message::Vouches { vouches, last: false }).await;
    }
    assert_eq!(stranger.last().await, broken());
}

#[tokio::test]
async fn a_link_that_says_nothing_is_given_up() {
    let mut device = Device::new("anna", Admission::Open, &[]).await;
    let mut stranger = Bare::dial(&device).await;
    let mut member = Bare::dial(&device).await;
    member.introduce(&device, Mode::Open, vec![]).await;
    member.say(&Message::Accepted).await;
    let link = device.peer_up().await;
    assert!(link.out.send(Channel::Folder(0), Bytes::from_static(b"hello?")));
    // Neither says that it lives. Both are given up after ten seconds.
    let (lost, reason) = device.peer_down().await;
    assert_eq!(lost, member.key.id());
    assert!(reason.contains("silent"), "{reason}");
    stranger.last().await;
}

#[tokio::test]
async fn attack_38_one_source_does_not_take_all_places() {
    let device = Device::new("anna", ask(), &[]).await;
    let mut strangers = Vec::new();
    for _ in 0..MAX_STRANGERS_EACH {
        strangers.push(Bare::dial(&device).await);
    }
    let mut one_more = Bare::dial(&device).await;
    assert_eq!(one_more.last().await, None, "hung up on without a word");
}

#[tokio::test]
async fn t5_guesses_made_at_once_are_counted_before_they_are_answered() {
    let mut device = Device::new("anna", words("four words of wood"), &[]).await;
    let wrong = Secret::new("a guess".to_owned());
    let mut guessing = Vec::new();
    for _ in 0..PASSPHRASE_ATTEMPTS + 2 {
        let mut stranger = Bare::dial(&device).await;
        stranger.introduce(&device, Mode::Passphrase, vec![]).await;
        let seed = Secret::new([5; 32]);
        let (id, exporter) = (stranger.key.id(), stranger.exporter);
        let (_, hello) =
            Passphrase::client(&wrong, id, device.id(), &exporter, &seed).expect("two devices");
        stranger.say(&hello).await;
        if let Some(Message::PakeB(_)) = stranger.ceremony().await {
            guessing.push(stranger);
        }
    }
    assert_eq!(guessing.len(), PASSPHRASE_ATTEMPTS as usize);
    for mut stranger in guessing {
        stranger.say(&Message::Confirm([1; 32])).await;
        let wrong = Message::Refused { reason: Refusal::WrongPassphrase, words: String::new() };
        assert_eq!(stranger.last().await, Some(wrong));
    }
    device.closed().await;
}

#[tokio::test]
async fn t5_no_more_places_are_dialled_with_the_passphrase_than_may_guess_it() {
    let mut places = Vec::new();
    let mut dialling = config("anna", words("four words of wood"), &[]);
    for _ in 0..PASSPHRASE_ATTEMPTS + 2 {
        let (key, endpoint) = Bare::endpoint();
        let listener = Listener::bind(Arc::new(endpoint), 0).await.expect("a free port");
        dialling.peers.push(format!("127.0.0.1:{}", listener.port()));
        places.push((key, listener));
    }
    let device = Device::start(dialling).await;
    let mut guessing = Vec::new();
    for (key, listener) in &mut places {
        let link = timeout(LONG, listener.accept()).await.expect("is dialled").expect("a link");
        let mut stranger = Bare::of(Arc::clone(key), link);
        stranger.introduce(&device, Mode::Passphrase, vec![]).await;
        if let Some(Message::PakeA(_)) = stranger.ceremony().await {
            guessing.push(stranger);
        }
    }
    assert_eq!(guessing.len(), PASSPHRASE_ATTEMPTS as usize);
}

#[tokio::test]
async fn attack_38_a_stranger_that_was_told_to_wait_cannot_fill_memory_with_answers() {
    let device = Device::new("anna", ask(), &[]).await;
    let mut asked_about = Bare::dial(&device).await;
    asked_about.introduce(&device, Mode::Open, vec![]).await;
    asked_about.say(&Message::Commit([1; 32])).await;
    asked_about.hear_until(|message| matches!(message, Message::Nonce(_))).await;
    let mut stranger = Bare::dial(&device).await;
    stranger.introduce(&device, Mode::Open, vec![]).await;
    stranger.say(&Message::Commit([1; 32])).await;
    stranger.hear_until(|message| matches!(message, Message::Later)).await;
    // It was not told that it may.
    stranger.say(&Message::Commit([2; 32])).await;
    assert_eq!(stranger.ceremony().await, broken());
}

#[tokio::test]
async fn attack_38_a_stranger_that_needs_nobody_must_not_wait_forever() {
    let device = Device::new("anna", Admission::Open, &[]).await;
    let mut stranger = Bare::dial(&device).await;
    stranger.introduce(&device, Mode::Open, vec![]).await;
    stranger.hear_until(|message| matches!(message, Message::Accepted)).await;
    // It says that it lives, and nothing else.
    let alive = Message::Alive.encode();
    let (mut reader, mut writer) = (stranger.reader, stranger.writer);
    let lives = async {
        let mut seconds = tokio::time::interval(crate::line::ALIVE_AFTER);
        loop {
            seconds.tick().await;
            let _ = writer.send(Channel::Session, &alive).await;
            let _ = writer.flush().await;
        }
    };
    let ends = async { while let Ok(Some(_)) = reader.next().await {} };
    tokio::select! {
        () = lives => {}
        ended = timeout(LONG, ends) => ended.expect("the link ends"),
    }
}

#[tokio::test]
async fn t7_whoever_waits_for_its_turn_and_is_vouched_for_may_go_on() {
    let mut device = Device::new("anna", ask(), &[]).await;
    let mut member = Device::new("bert", ask(), &[&device]).await;
    let _links = confirm(&mut device, &mut member).await;
    let mut asked_about = Bare::dial(&device).await;
    asked_about.introduce(&device, Mode::Open, vec![]).await;
    asked_about.say(&Message::Commit([1; 32])).await;
    asked_about.hear_until(|message| matches!(message, Message::Nonce(_))).await;
    let mut waits = Bare::dial(&device).await;
    waits.introduce(&device, Mode::Ask, vec![]).await;
    waits.say(&Message::Commit([1; 32])).await;
    waits.hear_until(|message| matches!(message, Message::Later)).await;
    let name = Name::new("carl").expect("short");
    let key = member.handle.key();
    let vouch = Vouch::sign(key, &Topic::new(""), waits.key.id(), name, Ground::Person);
    let mut messenger = Bare::dial(&device).await;
    messenger.introduce(&device, Mode::Ask, vec![vouch]).await;
    // Its own person is still to be asked, for which the ceremony must go on.
    waits.hear_until(|message| matches!(message, Message::Accepted)).await;
    waits.hear_until(|message| matches!(message, Message::Ready)).await;
    waits.say(&Message::Commit([3; 32])).await;
    waits.hear_until(|message| matches!(message, Message::Nonce(_))).await;
}

#[tokio::test]
async fn attack_38_strands_of_strangers_and_of_links_that_are_not_accepted_are_closed_unread() {
    let device = Device::new("anna", ask(), &[]).await;
    let (key, endpoint) = Bare::endpoint();
    let strand = endpoint.dial_strand(device.addr()).await.expect("TLS");
    assert_eq!(Bare::of(Arc::clone(&key), strand).last().await, None);
    let link = Bare::of(Arc::clone(&key), endpoint.dial(device.addr()).await.expect("a link"));
    let strand = endpoint.dial_strand(device.addr()).await.expect("TLS");
    let tag = StrandTag::offer(&link.exporter, &strand.exporter());
    let mut strand = Bare::of(key, strand);
    strand.say(&Message::Strand(tag)).await;
    assert_eq!(strand.last().await, None);
}

#[tokio::test]
async fn e24_a_members_strand_is_taken_for_its_own_link_alone() {
    let mut device = Device::new("anna", Admission::Open, &[]).await;
    let (key, endpoint) = Bare::endpoint();
    let mut member =
        Bare::of(Arc::clone(&key), endpoint.dial(device.addr()).await.expect("a link"));
    member.introduce(&device, Mode::Open, vec![]).await;
    member.say(&Message::Accepted).await;
    let mut peer = device.peer_up().await;
    for wrong in [true, false] {
        let strand = endpoint.dial_strand(device.addr()).await.expect("TLS");
        let own = strand.exporter();
        let link = if wrong { [7; 32] } else { member.exporter };
        let mut strand = Bare::of(Arc::clone(&key), strand);
        strand.say(&Message::Strand(StrandTag::offer(&link, &own))).await;
        let answer = Message::Strand(StrandTag::answer(&link, &own));
        assert_eq!(strand.hear().await, (!wrong).then_some(answer));
        if wrong {
            continue;
        }
        // Hello, vouches, standing and the verdict had numbers 0 to 3.
        strand.say(&Message::Order(5)).await;
        strand.raw(Channel::Folder(0), b"second").await;
        member.raw(Channel::Folder(0), b"first").await;
        for expected in ["first", "second"] {
            let frame = timeout(LONG, peer.input.recv()).await.expect("in time");
            assert_eq!(frame.expect("the link lives").payload, expected);
        }
        drop(strand);
        let (lost, reason) = device.peer_down().await;
        assert_eq!((lost, reason.as_str()), (key.id(), "the link was cut"));
    }
}
