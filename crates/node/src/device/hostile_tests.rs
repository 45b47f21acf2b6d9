//! A relay that means harm, one that dies, and strangers who turn what others said against them: what devices make
//! of it.
#![allow(clippy::disallowed_methods, reason = "the tests play the people who own the files")]

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use ::relay::{RelayAddress, hostile::Mischief};
use identity::{DeviceKey, InboxKey, Secret};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use wire::{
    code::{Code, Message, Refusal},
    envelope::Letter,
    relay::{Lane, Refusal as RelayRefusal},
};

use super::{
    code_tests::letter_of,
    codes::Via,
    hub::random,
    mail_tests::{Relay, begin, behind_nat, consent, end, hide, issue, outbox_is_empty},
    tests::{Lab, PATIENCE, answer, next},
    *,
};
use crate::api::{CodeLine, FolderMode, IssuedCode, JoinCode, JoinLine};

const TEXT: &str = "the contents are nobody's business";

async fn codes(lab: &Lab) -> Vec<CodeLine> {
    lab.ask(Request::Codes).await
}

/// The number of the question that an offer is.
async fn offered(events: &mut mpsc::Receiver<ApiEvent>) -> u32 {
    let offer = next(events, |event| matches!(event, ApiEvent::Offer { .. })).await;
    let ApiEvent::Offer { id, .. } = offer else { panic!() };
    id
}

async fn is_joined(lab: &Lab, events: &mut mpsc::Receiver<ApiEvent>, what: &str) {
    let last = end(events).await;
    assert!(matches!(last, ApiEvent::Joined { .. }), "{what}: {last:?}");
    lab.file(&lab.top.path().join("joined/tagebuch"), TEXT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_37_a_relay_that_drops_or_refuses_delays_a_join_and_that_is_all() {
    let relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let harm = [
        ("drops", Mischief { drop_deposits: true, ..Mischief::default() }),
        ("lies", Mischief { lie_about_absence: true, ..Mischief::default() }),
        ("full", Mischief { refuse: Some(RelayRefusal::Full), ..Mischief::default() }),
        ("denies", Mischief { refuse: Some(RelayRefusal::Denied), ..Mischief::default() }),
        ("too large", Mischief { refuse: Some(RelayRefusal::TooLarge), ..Mischief::default() }),
    ];
    let code = issue(&desk, u32::try_from(harm.len()).unwrap()).await;
    for (number, (what, mischief)) in harm.into_iter().enumerate() {
        let phone = behind_nat("phone", None).await;
        let mut events = begin(&phone, &code).await;
        let id = offered(&mut events).await;
        relay.hostile.set(mischief);
        answer(&phone, id, true).await;
        let waits = |event: &ApiEvent| matches!(event, ApiEvent::Pending { reason, .. } if reason == "offline");
        next(&mut events, waits).await;
        assert_eq!(codes(&desk).await[0].used_by.len(), number, "{what}");
        // Nobody does anything but wait.
        relay.hostile.set(Mischief::default());
        is_joined(&phone, &mut events, what).await;
        assert_eq!(codes(&desk).await[0].used_by.len(), number + 1, "{what}");
    }
    assert_eq!(codes(&desk).await[0].uses_left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_37_a_relay_that_says_there_is_no_code_or_gives_an_old_one_costs_no_use() {
    let relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let code = issue(&desk, 1).await;
    let phone = behind_nat("phone", None).await;
    let wish = JoinCode {
        code: code.link.clone(),
        dir: phone.top.path().join("elsewhere"),
        under: false,
        mode: FolderMode::Both,
        at: None,
        timeout: Some(1),
        expect_device: None,
        discovery: false,
    };
    relay.hostile.set(Mischief { lie_about_absence: true, ..Mischief::default() });
    let mut events = phone.device.stream(Request::JoinCode(wish)).await.unwrap();
    assert_eq!(end(&mut events).await, ApiEvent::Refused { reason: "unknown".to_owned() });
    assert!(phone.ask::<Vec<JoinLine>>(Request::PairStatus).await.is_empty());
    assert_eq!(codes(&desk).await[0].uses_left, 1, "a relay's word is nobody's");
    // The issuer posts it anew with other addresses; the relay keeps to what it was given first.
    let desk = desk.restart().await;
    hide(&desk).await;
    desk.until("it is posted", || async {
        desk.device.hub.with(|hub| hub.posts_waiting()).await == Some(0)
    })
    .await;
    relay.hostile.set(Mischief { stale: true, ..Mischief::default() });
    let mut events = begin(&phone, &code).await;
    consent(&phone, &mut events).await;
    is_joined(&phone, &mut events, "stale").await;
    assert_eq!(codes(&desk).await[0].uses_left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn t18_a_relay_that_goes_away_between_offer_and_admission_costs_nothing() {
    let mut relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let code = issue(&desk, 1).await;
    let phone = behind_nat("phone", None).await;
    let mut events = begin(&phone, &code).await;
    let id = offered(&mut events).await;
    relay.stop().await;
    answer(&phone, id, true).await;
    let waits =
        |event: &ApiEvent| matches!(event, ApiEvent::Pending { reason, .. } if reason == "offline");
    next(&mut events, waits).await;
    relay.restart();
    is_joined(&phone, &mut events, "back").await;
    assert_eq!(codes(&desk).await[0].uses_left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn t21_letters_outlive_a_restart_without_a_relay_and_none_overtakes_another() {
    let mut relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let phone = behind_nat("phone", None).await;
    let code = issue(&desk, 1).await;
    let mut events = begin(&phone, &code).await;
    consent(&phone, &mut events).await;
    is_joined(&phone, &mut events, "at first").await;
    phone.device.stop().await;
    desk.until("the phone is away", || async {
        desk.devices().await.iter().all(|one| one.me || !one.online)
    })
    .await;
    relay.stop().await;
    // Each of these is told to the phone, by mail since it is away; and there is nobody to leave it with.
    for name in ["Musik", "Steuern", "Briefe"] {
        desk.share(name).await;
    }
    let state = desk.top.path().join("state/state.db");
    desk.device.stop().await;
    let written: Vec<Vec<u8>> = {
        let db = rusqlite::Connection::open(state).unwrap();
        let mut rows = db.prepare("SELECT envelope FROM outbox ORDER BY number").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert!(written.len() >= 3, "durable, one for each change");
    let desk = desk.restart().await;
    hide(&desk).await;
    relay.restart();
    outbox_is_empty(&desk).await;
    let given = relay.hostile.everything();
    let places: Vec<usize> = written
        .iter()
        .map(|letter| given.iter().position(|it| it[..] == letter[..]).expect("it was left"))
        .collect();
    assert!(places.is_sorted(), "in the order in which they were written: {places:?}");
    let phone = phone.restart().await;
    hide(&phone).await;
    phone
        .until("it knows of all three", || async {
            let groups: Vec<crate::api::GroupLine> = phone.ask(Request::Groups).await;
            groups[0].folders == 4
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t18_who_is_forgotten_after_a_restore_brings_its_use_back_by_relay_and_others_leave_nothing()
 {
    let relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let code = issue(&desk, 2).await;
    // Strangers who ask for a meeting: few at once, at this device's own relay only, and nothing is kept.
    let asks = |number: u8, elsewhere: bool, lane: Lane| {
        desk.device.hub.with(move |hub| {
            let relay = hub.own_mail()[0].relay.clone();
            let other = relay.replace("127.0.0.1", "127.0.0.2");
            let relay = if elsewhere { other } else { relay };
            let meeting = wire::relay::MeetingId([number; 32]);
            let message = wire::mail::Message::Meet { meeting, relay };
            let key = Arc::new(DeviceKey::from_seed(&Secret::new([number; 32])).unwrap());
            let (kind, body) = (message.kind(), message.encode());
            let author = key.id();
            let letter = Letter { author, group: None, kind, sequence: 1, body, reply: None };
            let to = wire::envelope::Recipient { device: hub.me, inbox: hub.inbox.id() };
            hub.heard_mail(&letter.seal(&key, &to).unwrap(), lane);
            assert_eq!(hub.store.heard_mail(&author).unwrap(), 0, "nothing is kept");
            (author, hub.meetings_under_way())
        })
    };
    for number in 0..6 {
        asks(number, false, Lane::Strangers).await.unwrap();
        asks(100 + number, true, Lane::Strangers).await.unwrap();
    }
    // Whoever keeps all these places busy keeps out neither who could be a member, nor for long who comes later.
    let (waits, under_way) = asks(200, false, Lane::Strangers).await.unwrap();
    assert_eq!(under_way, 4);
    let (_, under_way) = asks(201, false, Lane::Members).await.unwrap();
    assert_eq!(under_way, 5);
    desk.until("the one that waited is met", || async {
        desk.device.hub.with(move |hub| hub.is_met(&waits)).await.unwrap()
    })
    .await;
    desk.until("they are given up", || async {
        desk.device.hub.with(|hub| hub.meetings_under_way()).await == Some(0)
    })
    .await;
    // A device that this one let in, and does not know any more.
    let state = desk.top.path().join("state");
    desk.device.stop().await;
    let backup = desk.top.path().join("backup");
    code_tests::copy(&state, &backup);
    let desk = desk.restart().await;
    hide(&desk).await;
    let phone = behind_nat("phone", None).await;
    let mut events = begin(&phone, &code).await;
    consent(&phone, &mut events).await;
    is_joined(&phone, &mut events, "before").await;
    desk.device.stop().await;
    std::fs::remove_dir_all(&state).unwrap();
    code_tests::copy(&backup, &state);
    let desk = desk.restart().await;
    hide(&desk).await;
    desk.until("it is suspended", || async { codes(&desk).await[0].state == "suspended" }).await;
    let line = &codes(&desk).await[0];
    assert_eq!((line.uses_left, line.used_by.len()), (1, 1));
}

/// Stands between devices and a relay and keeps every byte that passes, both ways.
struct Tap {
    port: u16,
    passed: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    async fn before(relay: &Relay) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (passed, to) = (Arc::<Mutex<Vec<u8>>>::default(), relay.address.port());
        let kept = Arc::clone(&passed);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                    let kept = Arc::clone(&kept);
                    tokio::spawn(async move {
                        let mut piece = vec![0; 64 << 10];
                        while let Ok(read @ 1..) = from.read(&mut piece).await {
                            kept.lock().unwrap().extend_from_slice(&piece[..read]);
                            if to.write_all(&piece[..read]).await.is_err() {
                                return;
                            }
                        }
                        let _ = to.shutdown().await;
                    });
                }
            }
        });
        Self { port, passed }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_37_neither_the_traffic_of_a_relay_nor_its_store_says_who_or_what() {
    let mut relay = Relay::start().await;
    let tap = Tap::before(&relay).await;
    relay.address = RelayAddress::new("127.0.0.1", tap.port, relay.address.key()).unwrap();
    let desk = behind_nat("desk", Some(&relay)).await;
    let phone = behind_nat("phone", None).await;
    let code = issue(&desk, 1).await;
    let mut events = begin(&phone, &code).await;
    consent(&phone, &mut events).await;
    is_joined(&phone, &mut events, "tapped").await;
    // And some mail: who is away hears of a new folder.
    phone.device.stop().await;
    desk.share("Steuern").await;
    let mut secrets: Vec<Vec<u8>> =
        ["Geheimnisse", "tagebuch", TEXT, "Steuern", "desk", "phone", code.code.as_str()]
            .map(|it| it.as_bytes().to_vec())
            .into();
    secrets.extend(desk.devices().await.into_iter().map(|one| one.device.into_bytes()));
    // Ids as they are, too, of devices, groups, folders, and the keys to which letters are sealed.
    let raw = desk.device.hub.with(|hub| {
        let mut raw = Vec::new();
        for (id, group) in hub.groups.iter() {
            raw.push(id.0.to_vec());
            let manifest = group.manifest();
            raw.extend(manifest.folders.keys().map(|folder| folder.0.to_vec()));
            raw.extend(manifest.members.keys().map(|device| device.0.to_vec()));
        }
        raw
    });
    secrets.extend(raw.await.unwrap());
    assert!(secrets.len() >= 7 + 2 + 4, "devices, a group and a folder are among them");
    let passed = tap.passed.lock().unwrap().clone();
    assert!(passed.len() > 4096, "it all went through there");
    let kept = relay.kept();
    assert!(!relay.hostile.everything().is_empty());
    let given: Vec<u8> = relay.hostile.everything().into_iter().flatten().collect();
    for (place, bytes) in [("traffic", &passed), ("files", &kept), ("store", &given)] {
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|part| part == &secret[..]);
            assert!(!found, "{:?} is in the {place}", String::from_utf8_lossy(secret));
        }
    }
}

/// A hello with a good code, by somebody without a device around it.
async fn stranger(desk: &Lab, code: &IssuedCode) -> (Letter, DeviceKey) {
    let own: DeviceId = desk.devices().await[0].device.parse().unwrap();
    let (parsed, _) = Code::parse(&code.code).unwrap();
    let key = DeviceKey::from_seed(&Secret::new(random().unwrap())).unwrap();
    let inbox = InboxKey::from_seed(Secret::new(random().unwrap())).unwrap().id();
    (letter_of(&parsed, &own, &key, inbox), key)
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_10_hellos_that_are_replayed_crossed_or_reflected_open_nothing() {
    let relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let (first, second) = (issue(&desk, 3).await, issue(&desk, 3).await);
    let (letter, _) = stranger(&desk, &first).await;
    let (other, other_key) = stranger(&desk, &second).await;
    let me = desk.device.hub.with(|hub| hub.me).await.unwrap();
    // Another device says what it heard; one code's proof under another's lookup; the issuer's own words.
    let replayed = Letter { author: other_key.id(), ..letter.clone() };
    let hello = |letter: &Letter| match Message::decode(letter.kind, &letter.body) {
        Ok(Message::Hello(hello)) => hello,
        other => panic!("{other:?}"),
    };
    let mut crossed = hello(&other);
    crossed.lookup = hello(&letter).lookup;
    let crossed = Letter { body: Message::Hello(crossed).encode(), ..other.clone() };
    let reflected = Letter { author: me, ..letter.clone() };
    let heard = desk.device.hub.with(move |hub| {
        [replayed, crossed, reflected].map(|letter| hub.code_letter(&letter, Via::Mail))
    });
    assert_eq!(heard.await, Some([false; 3]));
    let left = async || codes(&desk).await.iter().map(|line| line.uses_left).collect::<Vec<_>>();
    assert_eq!(left().await, [3, 3]);
    assert_eq!(desk.devices().await.len(), 1);
    // A joiner hears of its join from the issuer alone, and takes no hello for a code that is not its own.
    let phone = behind_nat("phone", None).await;
    let mut events = begin(&phone, &first).await;
    let id = offered(&mut events).await;
    desk.device.stop().await;
    answer(&phone, id, true).await;
    let waits =
        |event: &ApiEvent| matches!(event, ApiEvent::Pending { reason, .. } if reason == "offline");
    next(&mut events, waits).await;
    let lookup = hello(&letter).lookup;
    let (back, stranger) = (letter.clone(), other_key.id());
    let heard = phone.device.hub.with(move |hub| {
        let said = [
            Message::Refused { lookup, why: Refusal::Revoked },
            Message::Admitted { lookup, group: wire::membership::GroupId([7; 32]) },
        ];
        let said = said.map(|message| {
            let (kind, body) = (message.kind(), message.encode());
            let letter = Letter { author: stranger, kind, body, ..back.clone() };
            hub.code_letter(&letter, Via::Mail)
        });
        (said, hub.code_letter(&back, Via::Mail))
    });
    assert_eq!(heard.await, Some(([false; 2], false)));
    assert_eq!(phone.ask::<Vec<JoinLine>>(Request::PairStatus).await.len(), 1, "it waits still");
    // The join that was meant goes on.
    let desk = desk.restart().await;
    hide(&desk).await;
    let joined = timeout(PATIENCE, is_joined(&phone, &mut events, "after all"));
    joined.await.expect("the issuer is back");
}
