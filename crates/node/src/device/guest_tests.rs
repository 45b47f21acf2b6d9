//! Guests that codes let in, and what may go wrong with their joins.
#![allow(clippy::disallowed_methods, reason = "the tests play the people who own the files")]

use std::fs;

use wire::code::Code;

use super::{
    code_tests::{Events, accepts_offer, begin, ending, issue},
    tests::{Lab, next},
    *,
};
use crate::api::{CodeLine, FolderLine, FolderMode, IssuedCode, JoinLine, ShareCode};

#[tokio::test(flavor = "multi_thread")]
async fn attack_38_a_guest_that_asks_for_codes_without_end_loses_its_link() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let code = issue(&desk, "Photos", ShareCode::default()).await;
    let (end, _) = ending(&phone, &mut begin(&phone, &desk, &code).await).await;
    assert!(matches!(end, ApiEvent::Joined { .. }), "{end:?}");
    let (parsed, _) = Code::parse(&code.code).unwrap();
    let lookup = parsed.keys().lookup;
    let mut told = desk.device.stream(Request::Events).await.unwrap();
    let issuer: DeviceId =
        desk.devices().await.into_iter().find(|one| one.me).unwrap().device.parse().unwrap();
    let asked = phone.device.hub.with(move |hub| {
        let conn = hub.link_to(&issuer).and_then(|id| hub.conns.get(&id)).unwrap();
        assert!(conn.is_accepted());
        for _ in 0..1000 {
            conn.say(wire::device::Message::Lookup { lookup });
        }
    });
    asked.await.unwrap();
    next(&mut told, |event| matches!(event, ApiEvent::DeviceOffline { .. })).await;
    // It may come back, and its folder goes on.
    next(&mut told, |event| matches!(event, ApiEvent::DeviceOnline { .. })).await;
    fs::write(desk.dir("Photos").join("second"), "too").unwrap();
    phone.file(&phone.top.path().join("joined/second"), "too").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_wanted_elsewhere_meanwhile_is_kept_there() {
    let lab = Lab::new("desk").await;
    let source = lab.share("Photos").await;
    let folders: Vec<FolderLine> = lab.ask(Request::Folders).await;
    let _: serde_json::Value = lab.ask(Request::Forget { folder: "Photos".to_owned() }).await;
    assert!(source.exists());
    let (first, second) = (lab.top.path().join("first"), lab.top.path().join("second"));
    let dirs = (first.clone(), second.clone());
    let begun = lab.device.hub.with(move |hub| {
        let group = hub.groups.iter().map(|(id, _)| *id).next().unwrap();
        let folder = *hub.groups.get(&group).unwrap().manifest().folders.keys().next().unwrap();
        let mode = FolderMode::Both;
        let want = |dir| store::WantedFolder { group, folder, dir, mode };
        hub.store.put_wanted(&want(dirs.0)).unwrap();
        hub.take_wanted_folders();
        // While the first directory is looked at.
        hub.store.put_wanted(&want(dirs.1)).unwrap();
    });
    begun.await.unwrap();
    lab.until("it is kept", || async {
        let folders: Vec<FolderLine> = lab.ask(Request::Folders).await;
        folders.iter().any(|one| one.dir.is_some())
    })
    .await;
    let kept: Vec<FolderLine> = lab.ask(Request::Folders).await;
    assert_eq!(kept[0].folder, folders[0].folder);
    assert_eq!(kept[0].dir.as_deref(), Some(&*second));
    assert!(!first.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_03_no_code_is_issued_that_would_outlast_its_end_for_a_clock_that_jumped() {
    let mut desk = Lab::new("desk").await;
    for (ahead, may) in [(1800, true), (3 * 86_400 + 1800, false)] {
        let jumped = desk.device.hub.with(move |hub| {
            hub.store.set("latest time", &(hub::wall() + ahead).to_be_bytes()).unwrap();
        });
        jumped.await.unwrap();
        desk = desk.restart().await;
        let dir = desk.dir("Photos");
        let wish =
            ShareCode { folder: "Photos".to_owned(), dir: Some(dir), ..ShareCode::default() };
        let issued = desk.device.request(Request::ShareCode(wish)).await;
        assert_eq!(issued.is_ok(), may, "{issued:?}");
        if let Err(failure) = issued {
            assert_eq!(failure.kind, "clock");
            assert!(failure.message.contains("is 3 days behind"), "{failure}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_its_issuer_has_forgotten_costs_no_other_one_that_waits() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let first = issue(&desk, "Photos", ShareCode { ask: true, ..ShareCode::default() }).await;
    let mut events = begin(&phone, &desk, &first).await;
    accepts_offer(&phone, &mut events).await;
    next(
        &mut events,
        |event| matches!(event, ApiEvent::Pending { reason, .. } if reason == "asked"),
    )
    .await;
    drop(events);
    // One that nobody knows any more; it is asked for where the two are linked, and on a link that begins.
    let issuer = desk.device.hub.with(|hub| hub.me).await.unwrap();
    let gone = Code::new(&identity::Secret::new(random().unwrap()), &issuer);
    let gone = IssuedCode { code: gone.to_text().expose().clone(), ..first.clone() };
    for anew in [false, true] {
        if anew {
            let cut = phone.device.hub.with(|hub| {
                for id in hub.conns.keys().copied().collect::<Vec<_>>() {
                    hub.cut(id, "a test");
                }
            });
            cut.await.unwrap();
        }
        let (end, _) = ending(&phone, &mut free(&phone, &desk, &gone).await).await;
        assert_eq!(end, ApiEvent::Refused { reason: "unknown".to_owned() });
        let waits: Vec<JoinLine> = phone.ask(Request::PairStatus).await;
        assert_eq!(waits.len(), 1, "the other one waits still");
    }
    let allow = Request::AnswerCode { code: first.id, device: "phone".into(), yes: true };
    let _: serde_json::Value = desk.ask(allow).await;
    phone.file(&phone.top.path().join("joined/first"), "of it").await;
}

/// Begins another join as soon as the one before has ended.
async fn free(lab: &Lab, issuer: &Lab, code: &IssuedCode) -> Events {
    loop {
        let busy = lab.device.hub.with(|hub| hub.asks_for_code()).await.unwrap();
        if !busy {
            return begin(lab, issuer, code).await;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t6_who_comes_to_a_pairing_window_takes_back_no_offer_of_a_code() {
    let (desk, phone, other) =
        (Lab::new("desk").await, Lab::new("phone").await, Lab::new("other").await);
    let code = issue(&desk, "Photos", ShareCode::default()).await;
    let mut events = begin(&phone, &desk, &code).await;
    let offer = next(&mut events, |event| matches!(event, ApiEvent::Offer { .. })).await;
    let ApiEvent::Offer { id, .. } = offer else { panic!() };
    // In another terminal.
    let host =
        |port: u16| PairLan { host: Some(format!("127.0.0.1:{port}")), ..PairLan::default() };
    let mut window = phone.device.stream(Request::Pair(host(9))).await.unwrap();
    let _comes = other.device.stream(Request::Pair(host(phone.port))).await.unwrap();
    next(&mut window, |event| matches!(event, ApiEvent::Confirm { .. })).await;
    let taken: serde_json::Value = phone.ask(Request::Answer { id, yes: true }).await;
    assert_eq!(taken["taken"], true);
    let (end, _) = ending(&phone, &mut events).await;
    assert!(matches!(end, ApiEvent::Joined { .. }), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_after_the_end_of_a_code_is_no_yes_and_says_so() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let code = issue(&desk, "Photos", ShareCode { ask: true, ..ShareCode::default() }).await;
    let mut events = begin(&phone, &desk, &code).await;
    accepts_offer(&phone, &mut events).await;
    let asked =
        |event: &ApiEvent| matches!(event, ApiEvent::Pending { reason, .. } if reason == "asked");
    next(&mut events, asked).await;
    let over = code.expires + 1;
    desk.device.hub.with(move |hub| hub.codes_know(over)).await.unwrap();
    let say = |yes| Request::AnswerCode { code: code.id.clone(), device: "phone".into(), yes };
    let failed = desk.fails(say(true)).await;
    assert_eq!((failed.kind.as_str(), failed.exit), ("refused", 3), "{failed}");
    assert!(failed.message.contains("time was over"), "{failed}");
    // The other one is told at once, too.
    let reason = "expired".to_owned();
    assert_eq!(ending(&phone, &mut events).await.0, ApiEvent::Refused { reason });
    let codes: Vec<CodeLine> = desk.ask(Request::Codes).await;
    assert_eq!((&*codes[0].state, codes[0].uses_left), ("expired", 1));
}
