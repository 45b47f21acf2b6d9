//! A new key for a device (rule T13).
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the user, and look at the disk from outside"
)]

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use super::{
    store::rotation::Turn,
    tests::{Lab, go_online, next, pair},
    *,
};
use crate::{
    api::{CodeLine, DeviceLine, PairLan, ShareCode, Which},
    host::FolderEngine,
};

/// Two devices in one group with a folder that both have.
async fn couple() -> (Lab, PathBuf, Lab, PathBuf) {
    let (laptop, nas) = (Lab::new("laptop").await, Lab::new("nas").await);
    pair(&laptop, &nas, Which::Auto).await;
    let source = laptop.share("Documents").await;
    fs::write(source.join("letter"), "dear").unwrap();
    nas.knows_folder("Documents").await;
    let target = nas.join("Documents").await;
    nas.file(&target.join("letter"), "dear").await;
    (laptop, source, nas, target)
}

/// What a folder's engine says, once it runs.
async fn engine<T: Send + 'static>(
    lab: &Lab,
    question: impl Fn(&mut FolderEngine) -> Option<T> + Send + Sync + 'static,
) -> T {
    let (question, answer) = (Arc::new(question), Arc::new(Mutex::new(None)));
    lab.until("the engine says so", || async {
        let host = lab.device.hub.with(|hub| {
            let (_, folder) = hub.find_folder("Documents").unwrap();
            hub.folders.host(&folder).cloned()
        });
        let Some(host) = host.await.unwrap() else { return false };
        let question = Arc::clone(&question);
        let said = host.ask(move |engine| question(engine)).await.ok().flatten();
        let said_so = said.is_some();
        *answer.lock().unwrap() = said;
        said_so
    })
    .await;
    answer.lock().unwrap().take().unwrap()
}

/// The link says whose word it is about what is known (rule E4); with another key it is another replica's.
#[tokio::test(flavor = "multi_thread")]
async fn e4_what_is_known_goes_by_the_key_of_the_link() {
    let (laptop, source, nas, target) = couple().await;
    let replica = engine(&laptop, |engine| {
        Some(engine.replica()).filter(|replica| engine.knows_up_to(*replica) > 0)
    })
    .await;
    // It hears at once, and not within the hour, what was said last.
    let nas = nas.restart().await;
    engine(&nas, move |engine| (engine.knows_up_to(replica) > 0).then_some(())).await;
    let line: DeviceLine = laptop.ask(Request::RotateKey).await;
    nas.until("the new key is known and linked", || async {
        nas.devices().await.iter().any(|one| one.device == line.device && one.online)
    })
    .await;
    fs::write(source.join("letter"), "dearest").unwrap();
    nas.file(&target.join("letter"), "dearest").await;
    assert_ne!(engine(&laptop, |engine| Some(engine.replica())).await, replica);
}

async fn id_of(lab: &Lab, name: &str) -> String {
    let devices = lab.devices().await;
    let mut named = devices.iter().filter(|device| device.name == name);
    let (one, None) = (named.next().unwrap(), named.next()) else {
        panic!("{name} is there twice: {devices:?}")
    };
    one.device.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_links_and_records_follow_to_the_new_key() {
    let (laptop, source, nas, target) = couple().await;
    let old = id_of(&nas, "laptop").await;
    let line: DeviceLine = laptop.ask(Request::RotateKey).await;
    assert!(line.me && line.device != old && line.role == "admin", "{line:?}");
    nas.until("the new key is known and linked", || async {
        let devices = nas.devices().await;
        devices.len() == 2 && devices.iter().any(|one| one.device == line.device && one.online)
    })
    .await;
    fs::write(source.join("letter"), "dearest").unwrap();
    nas.file(&target.join("letter"), "dearest").await;
    fs::write(target.join("answer"), "yes").unwrap();
    laptop.file(&source.join("answer"), "yes").await;

    // What the old key wrote is vouched for by others now, and so reaches a device that never knew it.
    let last = source.join("last");
    fs::write(&last, "of this key").unwrap();
    nas.file(&target.join("last"), "of this key").await;
    let again: DeviceLine = laptop.ask(Request::RotateKey).await;
    nas.until("the third key is known", || async {
        nas.devices().await.iter().any(|one| one.device == again.device && one.online)
    })
    .await;
    laptop.device.stop().await;
    let phone = Lab::new("phone").await;
    pair(&nas, &phone, Which::Theirs).await;
    phone.knows_folder("Documents").await;
    let copy = phone.join("Documents").await;
    phone.file(&copy.join("last"), "of this key").await;
    phone.file(&copy.join("letter"), "dearest").await;
    // It is the same device after a restart.
    let laptop = laptop.restart().await;
    assert_eq!(id_of(&laptop, "laptop").await, again.device);
    nas.until("the laptop is back", || async {
        nas.devices().await.iter().any(|one| one.device == again.device && one.online)
    })
    .await;
    fs::write(&last, "of the third key").unwrap();
    phone.file(&copy.join("last"), "of the third key").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_who_was_away_hears_of_the_new_key_from_whoever_answers() {
    let (laptop, source, nas, target) = couple().await;
    let old = nas
        .device
        .hub
        .with(|hub| {
            let old = hub.groups.iter().next().unwrap().1.manifest();
            let old = *old.members.keys().find(|device| **device != hub.me).unwrap();
            hub.store.put_ssh_consent(&old, true, false, 7).unwrap();
            old
        })
        .await
        .unwrap();
    nas.device.stop().await;
    // Twice, while it is away.
    let _: DeviceLine = laptop.ask(Request::RotateKey).await;
    let line: DeviceLine = laptop.ask(Request::RotateKey).await;
    fs::write(source.join("letter"), "dearest").unwrap();
    // The nas listens elsewhere now: nobody but itself can dial.
    let state = nas.top.path().join("state");
    let (device, _) = open(&state, Settings::new("nas")).unwrap();
    let port = go_online(&device).await;
    let nas = Lab { device, port, ..nas };
    nas.file(&target.join("letter"), "dearest").await;
    assert_eq!(id_of(&nas, "laptop").await, line.device);
    let new = line.device.parse().unwrap();
    let consents = nas.device.hub.with(move |hub| {
        (hub.store.ssh_consent(&old).unwrap(), hub.store.ssh_consent(&new).unwrap())
    });
    let (before, after) = consents.await.unwrap();
    assert!(before.is_none() && after.is_some_and(|consent| consent.into_here));
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_a_crash_leaves_the_old_key_or_a_rotation_that_the_next_start_finishes() {
    let (laptop, source, nas, target) = couple().await;
    let old = id_of(&laptop, "laptop").await;
    let home = laptop.top.path().join("state");
    // Before the log has it: nothing has happened.
    laptop.device.stop().await;
    let state = StateDir::open(&home).unwrap();
    let thrown_away = Home::next(&state).unwrap().device();
    let laptop = laptop.restart().await;
    assert_eq!(id_of(&laptop, "laptop").await, old);
    assert!(!home.join("device.key.next").exists());
    // After: it is done.
    laptop.device.stop().await;
    let next = Home::next(&state).unwrap();
    assert_ne!(next.device(), thrown_away);
    let new = next.device().to_string();
    let turn = Turn { to: next.device(), until: i64::MAX };
    let mut store = Store::open(&home.join(DATABASE)).unwrap();
    let mut groups = groups::Groups::load(&mut store).unwrap();
    let (key, _) = Home::open(&home).unwrap().into_keys();
    let (new_key, inbox) = next.into_keys();
    let group = *groups.iter().next().unwrap().0;
    let signed = groups.draft_rotation(&group, &key, (&new_key, inbox.id())).unwrap();
    store.begin_turn(&turn, &[(group, signed)]).unwrap();
    drop(store);
    let laptop = laptop.restart().await;
    assert_eq!(id_of(&laptop, "laptop").await, new);
    nas.until("the new key is linked", || async {
        nas.devices().await.iter().any(|one| one.device == new && one.online)
    })
    .await;
    fs::write(source.join("letter"), "dearest").unwrap();
    nas.file(&target.join("letter"), "dearest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_a_rotation_waits_for_pairings_to_end() {
    let (a, b) = (Lab::new("a").await, Lab::new("b").await);
    let nowhere = PairLan { host: Some("127.0.0.1:9".to_owned()), ..PairLan::default() };
    let mut events = a.device.stream(Request::Pair(nowhere)).await.unwrap();
    assert_eq!(a.fails(Request::RotateKey).await.kind, "pairing");
    let _: serde_json::Value = a.ask(Request::PairCancel).await;
    next(&mut events, |event| matches!(event, ApiEvent::Refused { .. })).await;
    // A device without a group has a key, too.
    let first: DeviceLine = b.ask(Request::RotateKey).await;
    let second: DeviceLine = b.ask(Request::RotateKey).await;
    assert_ne!(first.device, second.device);
    pair(&a, &b, Which::Auto).await;
    assert_eq!(id_of(&a, "b").await, second.device);
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_open_codes_end_with_the_key_that_they_name() {
    let lab = Lab::new("laptop").await;
    lab.share("Documents").await;
    let wish = ShareCode { folder: "Documents".to_owned(), ..ShareCode::default() };
    let _: serde_json::Value = lab.ask(Request::ShareCode(wish)).await;
    let _: DeviceLine = lab.ask(Request::RotateKey).await;
    let codes: Vec<CodeLine> = lab.ask(Request::Codes).await;
    assert_eq!(codes[0].state, "revoked");
}
