//! Devices that share only a relay, in one process.
#![allow(clippy::disallowed_methods, reason = "the tests play the people who own the files")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use ::relay::{
    Identity, Limits as RelayLimits, RelayAddress, Server, Settings as RelaySettings,
    hostile::{Hostile, Mischief},
    store::{Quotas, Sqlite},
};
use identity::{DeviceId, Secret};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use wire::relay::{Lane, Refusal};

use super::{
    ssh_tests::{allow, lab, ssh_file},
    tests::{Lab, PATIENCE, answer, next},
    *,
};
use crate::api::{
    CodeLine, DeviceLine, FolderMode, GroupLine, IssuedCode, JoinCode, PairToken, RelayLine,
    ShareCode, StatusReply,
};

/// A relay that runs on a directory; it may be stopped and started again at the same place.
pub(super) struct Relay {
    dir: TempDir,
    pub(super) address: RelayAddress,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    pub(super) hostile: Hostile,
}

impl Relay {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (port, running, hostile) = run(dir.path(), 0);
        let key = Identity::from_seed(&Secret::new([42; 32])).unwrap().key();
        let address = RelayAddress::new("127.0.0.1", port, key).unwrap();
        Self { dir, address, running: Some(running), hostile }
    }

    pub(super) async fn stop(&mut self) {
        let (stop, ended) = self.running.take().unwrap();
        stop.send(()).unwrap();
        ended.await.unwrap();
    }

    pub(super) fn restart(&mut self) {
        let (_, running, hostile) = run(self.dir.path(), self.address.port());
        (self.running, self.hostile) = (Some(running), hostile);
    }

    /// Everything that the relay has kept, as it is on its disk.
    pub(super) fn kept(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            all.extend(fs::read(entry.unwrap().path()).unwrap_or_default());
        }
        all
    }
}

fn run(dir: &Path, port: u16) -> (u16, (oneshot::Sender<()>, JoinHandle<()>), Hostile) {
    let identity = Identity::from_seed(&Secret::new([42; 32])).unwrap();
    let store = Arc::new(Sqlite::open(&dir.join("relay.db"), Quotas::default()).unwrap());
    let hostile = Hostile::new(store);
    let settings = RelaySettings {
        listen: (Ipv4Addr::LOCALHOST, port).into(),
        metrics: None,
        limits: RelayLimits::default(),
    };
    let server = Server::bind(&settings, &identity, Arc::new(hostile.clone())).unwrap();
    let port = server.port().unwrap();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    (port, (stop, ended), hostile)
}

/// A device that nobody can dial, as behind a NAT: what it says of its places leads nowhere.
pub(super) async fn behind_nat(name: &'static str, relay: Option<&Relay>) -> Lab {
    let lab = Lab::new(name).await;
    hide(&lab).await;
    if let Some(relay) = relay {
        uses(&lab, relay).await;
    }
    lab
}

/// Takes the device's port away from the others.
pub(super) async fn hide(lab: &Lab) {
    lab.device.hub.with(|hub| hub.dials_nobody = true).await.unwrap();
}

async fn uses(lab: &Lab, relay: &Relay) {
    let address = relay.address.to_string();
    let _: RelayLine = lab.ask(Request::UseRelay { relay: address }).await;
    reached(lab).await;
}

async fn reached(lab: &Lab) {
    lab.until("the relay is reached", || async {
        let relays: Vec<RelayLine> = lab.ask(Request::Relays).await;
        relays.iter().all(|relay| relay.connected)
    })
    .await;
}

pub(super) async fn outbox_is_empty(lab: &Lab) {
    lab.until("nothing waits", || async {
        let relays: Vec<RelayLine> = lab.ask(Request::Relays).await;
        relays.iter().all(|relay| relay.waiting == 0)
    })
    .await;
}

pub(super) async fn issue(lab: &Lab, uses: u32) -> IssuedCode {
    let dir = lab.dir("Geheimnisse");
    fs::write(dir.join("tagebuch"), "the contents are nobody's business").unwrap();
    let wish = ShareCode {
        folder: "Geheimnisse".into(),
        dir: Some(dir),
        uses: Some(uses),
        ..ShareCode::default()
    };
    let code: IssuedCode = lab.ask(Request::ShareCode(wish)).await;
    // Posted, so that whoever looks finds it.
    lab.until("it is posted", || async {
        lab.device.hub.with(|hub| hub.posts_waiting()).await == Some(0)
    })
    .await;
    code
}

/// Joins by the link, which names the relay.
pub(super) async fn begin(lab: &Lab, code: &IssuedCode) -> mpsc::Receiver<ApiEvent> {
    let wish = JoinCode {
        code: code.link.clone(),
        dir: lab.top.path().join("joined"),
        under: false,
        mode: FolderMode::Both,
        at: None,
        timeout: None,
        expect_device: None,
        discovery: false,
    };
    lab.device.stream(Request::JoinCode(wish)).await.unwrap()
}

pub(super) async fn consent(lab: &Lab, events: &mut mpsc::Receiver<ApiEvent>) {
    let offer = next(events, |event| matches!(event, ApiEvent::Offer { .. })).await;
    let ApiEvent::Offer { id, from, .. } = offer else { panic!() };
    assert_eq!(from, "desk");
    answer(lab, id, true).await;
}

pub(super) async fn end(events: &mut mpsc::Receiver<ApiEvent>) -> ApiEvent {
    let ends = |event: &ApiEvent| {
        matches!(event, ApiEvent::Joined { .. } | ApiEvent::Refused { .. } | ApiEvent::Error { .. })
    };
    next(events, ends).await
}

#[tokio::test(flavor = "multi_thread")]
async fn t22_a_code_is_joined_by_devices_that_share_only_a_relay() {
    let relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let phone = behind_nat("phone", None).await;
    let code = issue(&desk, 2).await;
    assert!(code.link.ends_with(&format!("?relay={}", relay.address)), "{}", code.link);
    let mut events = begin(&phone, &code).await;
    consent(&phone, &mut events).await;
    let joined = end(&mut events).await;
    assert!(matches!(joined, ApiEvent::Joined { .. }), "{joined:?}");
    // The folder comes through the splice, both ends of which are theirs.
    phone
        .file(&phone.top.path().join("joined/tagebuch"), "the contents are nobody's business")
        .await;
    let carried = desk.device.hub.with(|hub| hub.conns.values().all(|conn| conn.line.is_carried()));
    assert_eq!(carried.await, Some(true));
    // A guest writes nothing; what the issuer writes goes on coming.
    fs::write(desk.dir("Geheimnisse").join("tagebuch"), "another day").unwrap();
    phone.file(&phone.top.path().join("joined/tagebuch"), "another day").await;
    // Attack 37: all that the relay has kept says nothing.
    let kept = relay.kept();
    let ids: Vec<DeviceLine> = desk.devices().await;
    let secrets = ["Geheimnisse", "tagebuch", "nobody's business", "another day", "desk", "phone"];
    for secret in
        secrets.into_iter().map(str::to_owned).chain(ids.into_iter().map(|one| one.device))
    {
        let found = kept.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} is in the relay's files");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t18_a_join_by_relay_waits_for_an_issuer_that_is_away_and_for_the_relay() {
    let mut relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let phone = behind_nat("phone", None).await;
    let code = issue(&desk, 1).await;
    desk.device.stop().await;
    let mut events = begin(&phone, &code).await;
    consent(&phone, &mut events).await;
    let waits =
        |event: &ApiEvent| matches!(event, ApiEvent::Pending { reason, .. } if reason == "offline");
    next(&mut events, waits).await;
    outbox_is_empty(&phone).await;
    // The relay goes and comes, and the joiner too, before the issuer is back.
    relay.stop().await;
    let phone = phone.restart().await;
    hide(&phone).await;
    relay.restart();
    reached(&phone).await;
    let desk = desk.restart().await;
    hide(&desk).await;
    phone
        .file(&phone.top.path().join("joined/tagebuch"), "the contents are nobody's business")
        .await;
    let codes: Vec<CodeLine> = desk.ask(Request::Codes).await;
    assert_eq!((codes[0].uses_left, &*codes[0].used_by[0]), (0, "phone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_no_relay_takes_says_why_until_one_has_it() {
    let mut relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let full = Mischief { refuse: Some(Refusal::Full), ..Mischief::default() };
    relay.hostile.set(full);
    let dir = desk.dir("Fotos");
    let wish = ShareCode { folder: "Fotos".into(), dir: Some(dir), ..ShareCode::default() };
    let first: IssuedCode = desk.ask(Request::ShareCode(wish.clone())).await;
    assert_eq!(first.unposted.as_deref(), Some(""), "it is not known yet");
    let said = async || {
        let codes: Vec<CodeLine> = desk.ask(Request::Codes).await;
        codes.into_iter().map(|line| line.unposted).collect::<Vec<_>>()
    };
    let full = |why: &Option<String>| why.as_ref().is_some_and(|why| why.contains("full"));
    desk.until("it is said why", || async { said().await.iter().any(full) }).await;
    let status: StatusReply = desk.ask(Request::Status).await;
    let trouble = status.errors.iter().find(|one| one.kind == "code_unposted").unwrap();
    assert!(trouble.message.contains(&first.id[..8]), "{trouble:?}");
    relay.hostile.set(Mischief::default());
    desk.until("it is there", || async { said().await == [None] }).await;
    let status: StatusReply = desk.ask(Request::Status).await;
    assert!(status.errors.iter().all(|one| one.kind != "code_unposted"));
    // The relay is down, and the second code is at none.
    relay.stop().await;
    desk.until("that is seen", || async {
        let relays: Vec<RelayLine> = desk.ask(Request::Relays).await;
        !relays[0].connected
    })
    .await;
    let second: IssuedCode = desk.ask(Request::ShareCode(wish)).await;
    assert!(second.unposted.is_some_and(|why| !why.is_empty() && !why.contains("http")));
    relay.restart();
    desk.until("both are there", || async { said().await == [None, None] }).await;
}

/// Both pair by a token, without SSH; what each showed.
async fn pair_by_token(desk: &Lab, phone: &Lab) -> Vec<String> {
    let mut window = desk.device.stream(Request::PairToken(PairToken::default())).await.unwrap();
    let ApiEvent::Token { token, .. } = window.recv().await.unwrap() else { panic!() };
    let request = Request::PairJoin { token, expect_device: None };
    let mut join = phone.device.stream(request).await.unwrap();
    let both = async {
        let (mut strings, mut ended) = (Vec::new(), 0);
        while ended < 2 {
            let (lab, event) = tokio::select! {
                Some(event) = window.recv() => (desk, event),
                Some(event) = join.recv() => (phone, event),
            };
            match event {
                ApiEvent::Request { id, sas, .. } | ApiEvent::Confirm { id, sas, .. } => {
                    strings.push(sas);
                    answer(lab, id, true).await;
                }
                ApiEvent::Ask { id, .. } => answer(lab, id, false).await,
                ApiEvent::Paired { .. } => ended += 1,
                ApiEvent::Refused { reason } => panic!("{}: {reason}", lab.name),
                _ => {}
            }
        }
        strings
    };
    timeout(PATIENCE, both).await.expect("they pair")
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_a_token_pairs_devices_that_share_only_a_relay() {
    let relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let phone = behind_nat("phone", None).await;
    let strings = pair_by_token(&desk, &phone).await;
    assert_eq!(strings.len(), 2);
    assert_eq!(strings[0], strings[1], "both show the same");
    assert_eq!(phone.names().await, ["desk", "phone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t21_a_removal_reaches_by_mail_who_was_away_and_replays_do_nothing() {
    let relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let (phone, third) = (behind_nat("phone", None).await, behind_nat("third", None).await);
    let code = issue(&desk, 2).await;
    for lab in [&phone, &third] {
        let mut events = begin(lab, &code).await;
        consent(lab, &mut events).await;
        assert!(matches!(end(&mut events).await, ApiEvent::Joined { .. }));
    }
    phone.until("it knows both others", || async { phone.names().await.len() == 3 }).await;
    let before = desk.device.hub.with(|hub| hub.own_mail()[0].token).await.unwrap();
    phone.device.stop().await;
    desk.until("it is gone", || async {
        desk.devices().await.iter().all(|one| one.name != "phone" || !one.online)
    })
    .await;
    let group = Some("Geheimnisse".to_owned());
    let _: serde_json::Value =
        desk.ask(Request::RemoveDevice { device: "third".into(), group }).await;
    let me = desk.device.hub.with(|hub| hub.me).await.unwrap();
    let after = desk.device.hub.with(|hub| hub.own_mail()[0].token).await.unwrap();
    assert_ne!(before, after, "rule T22: what opened the members' lane opens it no more");
    outbox_is_empty(&desk).await;
    desk.device.stop().await;
    // Nobody is there but the relay.
    let phone = phone.restart().await;
    hide(&phone).await;
    phone
        .until("it knows that third is out", || async { phone.names().await == ["desk", "phone"] })
        .await;
    third
        .until("it is cut off", || async {
            third.devices().await.iter().all(|one| one.me || !one.online)
        })
        .await;
    let told = third
        .device
        .hub
        .with(move |hub| hub.store.mail_place(&me).unwrap().and_then(|(address, ..)| address.token))
        .await
        .unwrap();
    assert_ne!(
        told, after,
        "rule T22: the new one was not told to it on the link that it still had"
    );
    let groups: Vec<GroupLine> = phone.ask(Request::Groups).await;
    assert_eq!(groups[0].devices, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_37_mail_that_is_changed_replayed_or_for_others_does_nothing() {
    let relay = Relay::start().await;
    let (desk, phone) = (behind_nat("desk", Some(&relay)).await, behind_nat("phone", None).await);
    let code = issue(&desk, 3).await;
    phone.device.stop().await;
    let phone = phone.restart().await;
    hide(&phone).await;
    // What the phone would leave, in the hands of the relay.
    let (parsed, _) = wire::code::Code::parse(&code.code).unwrap();
    let own: DeviceId = desk.devices().await[0].device.parse().unwrap();
    let inbox = desk.device.hub.with(|hub| hub.inbox.id()).await.unwrap();
    let key = identity::DeviceKey::from_seed(&Secret::new([5; 32])).unwrap();
    let mut letter = code_tests::letter_of(&parsed, &own, &key, inbox);
    // A hello names its own inbox key; here it is a good one of nobody's.
    letter.sequence = 7;
    let to = wire::envelope::Recipient { device: own, inbox };
    let sealed = letter.seal(&key, &to).unwrap();
    let handed = desk.device.hub.with(move |hub| {
        for at in [0, 1, 33, 65, 500, 1023] {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            hub.heard_mail(&changed.into(), Lane::Strangers);
        }
        hub.heard_mail(&sealed.slice(..512), Lane::Strangers);
        let none = hub.store.heard_mail(&key.id()).unwrap();
        hub.heard_mail(&sealed, Lane::Strangers);
        let one = hub.store.heard_mail(&key.id()).unwrap();
        // Again and again: it is handled once.
        for _ in 0..10 {
            hub.heard_mail(&sealed, Lane::Strangers);
        }
        (none, one)
    });
    assert_eq!(handed.await.unwrap(), (0, 7));
    let codes: Vec<CodeLine> = desk.ask(Request::Codes).await;
    assert_eq!(codes[0].uses_left, 2);
    // What is for somebody else opens nowhere.
    let other = wire::envelope::Recipient {
        device: phone.device.hub.with(|hub| hub.me).await.unwrap(),
        inbox,
    };
    let mixed = Arc::new(identity::DeviceKey::from_seed(&Secret::new([6; 32])).unwrap());
    let letter = code_tests::letter_of(&parsed, &own, &mixed, inbox);
    let sealed = letter.seal(&mixed, &other).unwrap();
    desk.device.hub.with(move |hub| hub.heard_mail(&sealed, Lane::Strangers)).await.unwrap();
    let codes: Vec<CodeLine> = desk.ask(Request::Codes).await;
    assert_eq!(codes[0].uses_left, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_37_nothing_worse_than_delay_comes_of_a_hostile_relay() {
    let relay = Relay::start().await;
    let desk = behind_nat("desk", Some(&relay)).await;
    let phone = behind_nat("phone", None).await;
    let code = issue(&desk, 1).await;
    let mut events = begin(&phone, &code).await;
    // While its person reads, the relay begins.
    let offer = next(&mut events, |event| matches!(event, ApiEvent::Offer { .. })).await;
    let harm = [
        Mischief { replay: true, reorder: true, ..Mischief::default() },
        Mischief { truncate: true, ..Mischief::default() },
        Mischief { corrupt: true, ..Mischief::default() },
        Mischief { swap: Some(wire::relay::MailboxId([9; 32])), ..Mischief::default() },
    ];
    let ApiEvent::Offer { id, .. } = offer else { panic!() };
    relay.hostile.set(harm[2]);
    answer(&phone, id, true).await;
    // A yes that a stop overtakes was never said.
    phone
        .until("its join is kept", || async {
            phone.device.hub.with(|hub| !hub.joins.is_empty()).await.unwrap()
        })
        .await;
    outbox_is_empty(&phone).await;
    for mischief in harm {
        relay.hostile.set(mischief);
        // What was changed on the way was not taken for anything.
        assert!(phone.names().await.len() != 1);
        let codes: Vec<CodeLine> = desk.ask(Request::Codes).await;
        assert!(codes[0].used_by.iter().all(|name| name == "phone"));
    }
    // It behaves again: what was lost is said again when the join is taken up anew.
    relay.hostile.set(Mischief { replay: true, ..Mischief::default() });
    let phone = phone.restart().await;
    hide(&phone).await;
    phone.device.hub.with(hub::Hub::mail_hellos).await.unwrap();
    phone
        .file(&phone.top.path().join("joined/tagebuch"), "the contents are nobody's business")
        .await;
    let codes: Vec<CodeLine> = desk.ask(Request::Codes).await;
    assert_eq!((codes[0].uses_left, codes[0].used_by.len()), (0, 1), "handled once");
    // It was given no name, content or path, in all that it ever saw.
    for seen in relay.hostile.everything() {
        for secret in ["Geheimnisse", "tagebuch", "nobody's business", "desk", "phone"] {
            assert!(!seen.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t23_over_a_relay_alone_nobody_is_reached_and_by_it_where_the_device_was_last() {
    let relay = Relay::start().await;
    let (desk, phone) = (lab("desk").await, lab("phone").await);
    for one in [&desk, &phone] {
        hide(one).await;
    }
    uses(&desk, &relay).await;
    pair_by_token(&desk, &phone).await;
    phone
        .until("it is linked, by the relay", || async {
            phone.devices().await.iter().any(|one| !one.me && one.online)
        })
        .await;
    let id: DeviceId = phone
        .devices()
        .await
        .iter()
        .find(|one| one.name == "desk")
        .unwrap()
        .device
        .parse()
        .unwrap();
    let place = |addresses: Vec<SocketAddr>| {
        phone.device.hub.with(move |hub| {
            hub.places.entry(id).or_default().addresses = addresses;
        })
    };
    // Nobody knows where its server is.
    place(Vec::new()).await.unwrap();
    allow(&desk, "phone", Some(true), None).await;
    let reply = allow(&phone, "desk", None, Some(true)).await;
    assert!(reply.linked && reply.alias.is_none(), "{reply:?}");
    assert_eq!(ssh_file(&phone, "kinfold_config"), "");
    place(vec!["10.9.8.7:22701".parse().unwrap()]).await.unwrap();
    let reply = allow(&phone, "desk", None, Some(true)).await;
    assert_eq!(reply.alias.as_deref(), Some("desk"), "{reply:?}");
    assert!(ssh_file(&phone, "kinfold_config").contains("HostName 10.9.8.7\n"));
}
