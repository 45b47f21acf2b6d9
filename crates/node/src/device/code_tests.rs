//! Sharing codes, between devices of one process.
#![allow(clippy::disallowed_methods, reason = "the tests play the people who own the files")]

use std::{collections::BTreeSet, fs, path::Path};

use ::pairing::code::hello;
use identity::{DeviceKey, InboxKey, Secret};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use wire::{
    code::{Code, Message, SavedCodeJoin, Way},
    envelope::Letter,
};

use super::{
    codes::Via,
    tests::{Lab, PATIENCE, answer, next},
    *,
};
use crate::api::{
    CodeLine, FolderLine, FolderMode, GroupLine, IssuedCode, JoinCode, JoinLine, ShareCode,
    StatusReply,
};

pub(super) type Events = mpsc::Receiver<ApiEvent>;

/// Shares a directory with one file in it, by a code.
pub(super) async fn issue(lab: &Lab, name: &str, wish: ShareCode) -> IssuedCode {
    let dir = lab.dir(name);
    fs::write(dir.join("first"), "of it").unwrap();
    let wish = ShareCode { folder: name.to_owned(), dir: Some(dir), ..wish };
    lab.ask(Request::ShareCode(wish)).await
}

fn wish(at: &Lab, code: &IssuedCode, dir: &Path) -> JoinCode {
    JoinCode {
        code: code.code.clone(),
        dir: dir.to_owned(),
        under: false,
        mode: FolderMode::Both,
        at: Some(format!("127.0.0.1:{}", at.port)),
        timeout: None,
        expect_device: None,
        discovery: false,
    }
}

pub(super) async fn begin(lab: &Lab, issuer: &Lab, code: &IssuedCode) -> Events {
    let wish = wish(issuer, code, &lab.top.path().join("joined"));
    lab.device.stream(Request::JoinCode(wish)).await.unwrap()
}

/// Says yes to the offer of a join, and returns its number.
pub(super) async fn accepts_offer(lab: &Lab, events: &mut Events) -> u32 {
    let offer = next(events, |event| matches!(event, ApiEvent::Offer { .. })).await;
    let ApiEvent::Offer { id, .. } = offer else { panic!() };
    answer(lab, id, true).await;
    id
}

/// How a join ends; its offer is answered yes. What it waited for comes with it.
pub(super) async fn ending(lab: &Lab, events: &mut Events) -> (ApiEvent, Vec<String>) {
    let mut waited = Vec::new();
    let end = async {
        loop {
            match events.recv().await.expect("the stream ends with a word") {
                ApiEvent::Offer { id, .. } => answer(lab, id, true).await,
                ApiEvent::Pending { reason, .. } => waited.push(reason),
                end => return end,
            }
        }
    };
    let end = timeout(PATIENCE, end).await.unwrap_or_else(|_| panic!("{}: no end", lab.name));
    (end, waited)
}

fn refused(reason: &str) -> ApiEvent {
    ApiEvent::Refused { reason: reason.to_owned() }
}

async fn codes(lab: &Lab) -> Vec<CodeLine> {
    lab.ask(Request::Codes).await
}

/// Somebody with a code, without a device around it: its hello, as a relay would bring it.
fn letter(code: &Code, issuer: &DeviceId) -> Letter {
    let key = DeviceKey::from_seed(&Secret::new(random().unwrap())).unwrap();
    let inbox = InboxKey::from_seed(Secret::new(random().unwrap())).unwrap().id();
    letter_of(code, issuer, &key, inbox)
}

pub(super) fn letter_of(
    code: &Code,
    issuer: &DeviceId,
    key: &DeviceKey,
    inbox: identity::InboxId,
) -> Letter {
    let keys = code.keys();
    let saved = SavedCodeJoin {
        id: keys.id,
        lookup: keys.lookup,
        proof: keys.proof,
        inbox,
        mail: Vec::new(),
        group_name: None,
    };
    let name = Name::new("bare").unwrap();
    let said = hello(&saved, issuer, (&key.id(), &inbox, &name), Way::Mail);
    let message = Message::Hello(said);
    let (kind, body) = (message.kind(), message.encode());
    Letter { author: key.id(), group: None, kind, sequence: 1, body, reply: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_calls_the_group_as_it_was_offered() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let code = issue(&desk, "Photos", ShareCode::default()).await;
    let (end, _) = ending(&phone, &mut begin(&phone, &desk, &code).await).await;
    assert!(matches!(end, ApiEvent::Joined { .. }), "{end:?}");
    let groups: Vec<GroupLine> = phone.ask(Request::Groups).await;
    assert_eq!(groups.iter().map(|group| &*group.name).collect::<Vec<_>>(), ["Photos"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t14_a_code_brings_a_folder_to_a_guest_and_nothing_else() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let private = desk.share("Private").await;
    fs::write(private.join("diary"), "mine").unwrap();
    // In the group that has the other folder: the guest is let into one of two.
    let group: Vec<GroupLine> = desk.ask(Request::Groups).await;
    let group = Some(group[0].name.clone());
    let code = issue(&desk, "Photos", ShareCode { group, ..ShareCode::default() }).await;
    assert_eq!((&*code.event, &*code.role, code.uses), ("code", "reader", 1));
    assert_eq!(code.link, format!("kin:join/{}", code.code));
    let mut events = begin(&phone, &desk, &code).await;
    let ApiEvent::Offer { id, name, from, role, group, grants, device, .. } =
        next(&mut events, |event| matches!(event, ApiEvent::Offer { .. })).await
    else {
        panic!()
    };
    assert_eq!((&*name, &*from, &*role, &*group), ("Photos", "desk", "reader", "desk"));
    assert!(grants.contains("one folder") && grants.contains("sees theirs"), "{grants}");
    assert_eq!(device, desk.devices().await[0].device);
    assert!(phone.devices().await.is_empty(), "nothing before the yes");
    answer(&phone, id, true).await;
    let (end, _) = ending(&phone, &mut events).await;
    let ApiEvent::Joined { dir, role, .. } = end else { panic!("{end:?}") };
    assert_eq!(role, "reader");
    phone.file(&dir.join("first"), "of it").await;
    let known: Vec<FolderLine> = phone.ask(Request::Folders).await;
    let mine: Vec<_> = known.iter().map(|one| (&*one.name, &*one.role)).collect();
    assert_eq!(mine, [("Photos", "reader")]);
    let [line] = &codes(&desk).await[..] else { panic!() };
    assert_eq!((line.uses_left, &*line.state), (0, "used_up"));
    assert_eq!(line.used_by, ["phone"]);
    // Attack 1: the second one.
    let third = Lab::new("third").await;
    let (end, _) = ending(&third, &mut begin(&third, &desk, &code).await).await;
    assert_eq!(end, refused("used_up"));
    assert!(third.ask::<Vec<JoinLine>>(Request::PairStatus).await.is_empty());
    let [line] = &codes(&desk).await[..] else { panic!() };
    assert_eq!((&*line.refused[0].name, &*line.refused[0].reason), ("third", "used_up"));
}

#[tokio::test(flavor = "multi_thread")]
async fn t14_a_directory_in_no_group_gets_one_of_its_own() {
    let desk = Lab::new("desk").await;
    desk.share("Private").await;
    let code = issue(&desk, "Photos", ShareCode::default()).await;
    assert_eq!(code.group, "Photos");
    let again = issue(&desk, "Photos", ShareCode { uses: Some(3), ..ShareCode::default() }).await;
    assert_eq!((again.folder, again.group), (code.folder, code.group), "it is shared once");
    let groups: Vec<GroupLine> = desk.ask(Request::Groups).await;
    assert_eq!(groups.iter().map(|group| group.folders).collect::<Vec<_>>(), [1, 1]);
    let admin =
        ShareCode { role: Some("admin".into()), folder: "Photos".into(), ..ShareCode::default() };
    assert_eq!(desk.fails(Request::ShareCode(admin)).await.kind, "bad_role");
}

#[tokio::test(flavor = "multi_thread")]
async fn t18_a_join_waits_over_restarts_on_both_sides() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let code = issue(&desk, "Photos", ShareCode::default()).await;
    let mut events = begin(&phone, &desk, &code).await;
    let offer = next(&mut events, |event| matches!(event, ApiEvent::Offer { .. })).await;
    let ApiEvent::Offer { id, .. } = offer else { panic!() };
    // The issuer goes away before the answer.
    desk.device.stop().await;
    phone
        .until("the link is gone", || async {
            let linked = phone.device.hub.with(|hub| !hub.conns.is_empty()).await;
            linked == Some(false)
        })
        .await;
    answer(&phone, id, true).await;
    let waits =
        |event: &ApiEvent| matches!(event, ApiEvent::Pending { reason, .. } if reason == "offline");
    next(&mut events, waits).await;
    let phone = phone.restart().await;
    let joins: Vec<JoinLine> = phone.ask(Request::PairStatus).await;
    assert_eq!((&*joins[0].name, &*joins[0].ceremony), ("desk", "code"));
    let desk = desk.restart().await;
    phone.file(&phone.top.path().join("joined/first"), "of it").await;
    assert!(phone.ask::<Vec<JoinLine>>(Request::PairStatus).await.is_empty());
    assert_eq!(codes(&desk).await[0].uses_left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_04_each_refusal_is_said_in_its_own_word() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let five = || ShareCode { uses: Some(5), ..ShareCode::default() };
    // Taken back between the offer and the yes (attack 4): no residue.
    let code = issue(&desk, "Photos", five()).await;
    let mut events = begin(&phone, &desk, &code).await;
    let offer = next(&mut events, |event| matches!(event, ApiEvent::Offer { .. })).await;
    let ApiEvent::Offer { id, .. } = offer else { panic!() };
    let revoke = Request::RevokeCode { code: code.id.clone() };
    let line: CodeLine = desk.ask(revoke).await;
    assert_eq!(line.state, "revoked");
    answer(&phone, id, true).await;
    assert_eq!(ending(&phone, &mut events).await.0, refused("revoked"));
    assert!(phone.devices().await.is_empty());
    assert!(phone.ask::<Vec<JoinLine>>(Request::PairStatus).await.is_empty());
    assert_eq!(codes(&desk).await[0].uses_left, 5);
    // One that was never issued.
    let own = desk.devices().await[0].device.parse().unwrap();
    let forged = Code::new(&Secret::new([7; 16]), &own);
    let forged = IssuedCode { code: forged.to_text().expose().clone(), ..code.clone() };
    let (end, _) = ending(&phone, &mut begin(&phone, &desk, &forged).await).await;
    assert_eq!(end, refused("unknown"));
    // Its folder is gone.
    let code = issue(&desk, "Photos", five()).await;
    let _: serde_json::Value = desk.ask(Request::Unshare { folder: "Photos".into() }).await;
    let (end, _) = ending(&phone, &mut begin(&phone, &desk, &code).await).await;
    assert_eq!(end, refused("folder_gone"));
}

/// The member's own group goes on being the one that commands mean, and a folder that is gone is said to be, since its
/// log knows; nothing of kin's is left in the directory that was meant.
#[tokio::test(flavor = "multi_thread")]
async fn t14_a_member_is_told_that_a_codes_folder_is_gone() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    phone.share("Own").await;
    let five = || ShareCode { uses: Some(5), ..ShareCode::default() };
    let code = issue(&desk, "Photos", five()).await;
    let (end, _) = ending(&phone, &mut begin(&phone, &desk, &code).await).await;
    assert!(matches!(end, ApiEvent::Joined { .. }), "{end:?}");
    let groups: Vec<GroupLine> = phone.ask(Request::Groups).await;
    let used: Vec<&str> =
        groups.iter().filter(|group| group.used).map(|group| &*group.name).collect();
    assert_eq!(used, ["phone"]);
    let again = begin(&phone, &desk, &code).await;
    let (end, _) = ending(&phone, &mut { again }).await;
    assert!(matches!(&end, ApiEvent::Error { kind, .. } if kind == "joined"), "{end:?}");
    // Forgotten here, and then taken from the group.
    let _: serde_json::Value = phone.ask(Request::Forget { folder: "Photos".into() }).await;
    let _: serde_json::Value = desk.ask(Request::Unshare { folder: "Photos".into() }).await;
    phone
        .until("it knows", || async {
            let folders: Vec<FolderLine> = phone.ask(Request::Folders).await;
            folders.iter().all(|folder| folder.name == "Own")
        })
        .await;
    let (end, _) = ending(&phone, &mut begin(&phone, &desk, &code).await).await;
    assert_eq!(end, refused("folder_gone"));
    assert!(phone.ask::<Vec<JoinLine>>(Request::PairStatus).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_code_leaves_nothing_in_the_directory() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let code = issue(&desk, "Photos", ShareCode::default()).await;
    let dir = phone.dir("joined");
    let mut events = begin(&phone, &desk, &code).await;
    let offer = next(&mut events, |event| matches!(event, ApiEvent::Offer { .. })).await;
    let ApiEvent::Offer { id, .. } = offer else { panic!() };
    let _: serde_json::Value = desk.ask(Request::RevokeCode { code: code.id.clone() }).await;
    answer(&phone, id, true).await;
    assert_eq!(ending(&phone, &mut events).await.0, refused("revoked"));
    phone.until("nothing is left", || async { fs::read_dir(&dir).unwrap().count() == 0 }).await;
}

/// Who was told no does not wait, and a later yes reaches nobody.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_device_that_waits_is_answered_and_the_status_names_it() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let code = issue(&desk, "Photos", ShareCode { ask: true, ..ShareCode::default() }).await;
    let mut events = begin(&phone, &desk, &code).await;
    accepts_offer(&phone, &mut events).await;
    desk.until("it asks", || async { codes(&desk).await[0].waiting.len() == 1 }).await;
    let status: StatusReply = desk.ask(Request::Status).await;
    assert_eq!(status.errors[0].kind, "code_waits");
    assert!(status.errors[0].message.contains("phone asks to be let in to Photos"));
    let say = |yes| Request::AnswerCode { code: code.id.clone(), device: "phone".into(), yes };
    let _: serde_json::Value = desk.ask(say(false)).await;
    assert_eq!(ending(&phone, &mut events).await.0, refused("declined"));
    let failed = desk.fails(say(true)).await;
    assert_eq!((failed.kind.as_str(), failed.exit), ("no_device", 2), "{failed}");
    assert_eq!(codes(&desk).await[0].uses_left, 1, "no use is spent");
    assert_eq!(desk.devices().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_03_a_code_that_has_ended_stays_ended_when_the_clock_is_set_back() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let code = issue(&desk, "Music", ShareCode::default()).await;
    // The clock stood a second after the code's end once; now it stands where it does.
    let over = code.expires + 1;
    let late = desk.device.hub.with(move |hub| {
        hub.store.set("latest time", &over.to_be_bytes()).unwrap();
    });
    late.await.unwrap();
    let desk = desk.restart().await;
    let (end, _) = ending(&phone, &mut begin(&phone, &desk, &code).await).await;
    assert_eq!(end, refused("expired"));
    let [line] = &codes(&desk).await[..] else { panic!() };
    assert_eq!((&*line.state, line.uses_left), ("expired", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_02_a_use_and_the_admission_are_both_there_or_neither_is() {
    let mut desk = Lab::new("desk").await;
    let code = issue(&desk, "Photos", ShareCode::default()).await;
    let (parsed, _) = Code::parse(&code.code).unwrap();
    let own: DeviceId = desk.devices().await[0].device.parse().unwrap();
    let letter = letter(&parsed, &own);
    // The disk refuses the second of the two, each in its turn: the device ends, as at a crash there.
    for table in ["code_uses", "operations"] {
        let path = desk.top.path().join("state/state.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(&format!(
            "CREATE TRIGGER no BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
        ))
        .unwrap();
        let said = letter.clone();
        let mut events = desk.device.stream(Request::Events).await.unwrap();
        let _ = desk.device.hub.with(move |hub| hub.code_letter(&said, Via::Mail)).await;
        // Until it has let its state go.
        while timeout(PATIENCE, events.recv()).await.expect("it ends").is_some() {}
        db.execute_batch("DROP TRIGGER no").unwrap();
        drop(db);
        desk = desk.restart().await;
        assert_eq!(desk.devices().await.len(), 1, "{table}: nobody is in");
        assert_eq!(codes(&desk).await[0].uses_left, 1, "{table}: no use is spent");
    }
    // Without a fault both are there, and stay.
    let said = letter.clone();
    let taken = desk.device.hub.with(move |hub| hub.code_letter(&said, Via::Mail)).await;
    assert_eq!(taken, Some(true));
    let desk = desk.restart().await;
    assert_eq!((desk.devices().await.len(), codes(&desk).await[0].uses_left), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn t19_an_issuer_that_is_no_admin_any_more_lets_nobody_in() {
    let (desk, phone, third) =
        (Lab::new("desk").await, Lab::new("phone").await, Lab::new("third").await);
    let writer = ShareCode { uses: Some(5), role: Some("writer".into()), ..ShareCode::default() };
    let code = issue(&desk, "Photos", writer).await;
    ending(&phone, &mut begin(&phone, &desk, &code).await).await;
    // The guest becomes admin, and takes the right from the issuer.
    let group = Some("Photos".to_owned());
    let _: serde_json::Value =
        desk.ask(Request::SetRole { device: "phone".into(), role: "admin".into(), group }).await;
    phone
        .until("it is an admin", || async {
            phone.devices().await.iter().any(|one| one.me && one.role == "admin")
        })
        .await;
    let _: serde_json::Value = phone
        .ask(Request::SetRole { device: "desk".into(), role: "writer".into(), group: None })
        .await;
    desk.until("the right is gone", || async { codes(&desk).await[0].state == "revoked" }).await;
    let (end, _) = ending(&third, &mut begin(&third, &desk, &code).await).await;
    assert_eq!(end, refused("revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_use_of_a_code_that_asks_waits_for_a_yes() {
    let (desk, phone, third) =
        (Lab::new("desk").await, Lab::new("phone").await, Lab::new("third").await);
    let wish = ShareCode { uses: Some(2), ask: true, ..ShareCode::default() };
    let code = issue(&desk, "Photos", wish).await;
    for (lab, yes) in [(&phone, true), (&third, false)] {
        let mut events = begin(lab, &desk, &code).await;
        let offer = next(&mut events, |event| matches!(event, ApiEvent::Offer { .. })).await;
        let ApiEvent::Offer { id, .. } = offer else { panic!() };
        answer(lab, id, true).await;
        let asked = |event: &ApiEvent| matches!(event, ApiEvent::Pending { reason, .. } if reason == "asked");
        next(&mut events, asked).await;
        let [line] = &codes(&desk).await[..] else { panic!() };
        assert_eq!(line.waiting[0].name, lab.name);
        assert!(lab.devices().await.is_empty());
        let (code, device) = (code.id.clone(), lab.name.to_owned());
        let _: CodeLine = desk.ask(Request::AnswerCode { code, device, yes }).await;
        let (end, _) = ending(lab, &mut events).await;
        assert_eq!(matches!(end, ApiEvent::Joined { .. }), yes, "{end:?}");
        if !yes {
            assert_eq!(end, refused("declined"));
        }
    }
    let [line] = &codes(&desk).await[..] else { panic!() };
    assert_eq!((line.uses_left, line.waiting.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_code_gives_a_member_more_and_its_own_issuer_nothing() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let first = issue(&desk, "Photos", ShareCode::default()).await;
    ending(&phone, &mut begin(&phone, &desk, &first).await).await;
    // The same folder, to write to.
    let more = ShareCode { role: Some("writer".into()), ..ShareCode::default() };
    let second = issue(&desk, "Photos", more).await;
    let (end, _) = ending(&phone, &mut begin(&phone, &desk, &second).await).await;
    let ApiEvent::Joined { dir, .. } = end else { panic!("{end:?}") };
    assert_eq!(phone.devices().await.iter().find(|one| one.me).unwrap().role, "writer");
    fs::write(dir.join("second"), "from the phone").unwrap();
    desk.file(&desk.dir("Photos").join("second"), "from the phone").await;
    // Another folder of the same group: its reader's role there does not lower the other; and since a writer would
    // write there, too, which the code does not say, a person is asked.
    let group = Some("Photos".to_owned());
    let third = issue(&desk, "Music", ShareCode { group, ..ShareCode::default() }).await;
    let other = JoinCode { dir: phone.top.path().join("music"), ..wish(&desk, &third, &dir) };
    let mut events = phone.device.stream(Request::JoinCode(other)).await.unwrap();
    accepts_offer(&phone, &mut events).await;
    let asked =
        |event: &ApiEvent| matches!(event, ApiEvent::Pending { reason, .. } if reason == "asked");
    next(&mut events, asked).await;
    let allow = Request::AnswerCode { code: third.id.clone(), device: "phone".into(), yes: true };
    let _: CodeLine = desk.ask(allow).await;
    let (end, _) = ending(&phone, &mut events).await;
    assert!(matches!(end, ApiEvent::Joined { .. }), "{end:?}");
    phone.file(&phone.top.path().join("music/first"), "of it").await;
    assert_eq!(phone.devices().await.iter().find(|one| one.me).unwrap().role, "writer");
    // What it has already costs nothing.
    let fourth = issue(&desk, "Music", ShareCode::default()).await;
    let mut events = begin(&phone, &desk, &fourth).await;
    let (end, _) = ending(&phone, &mut events).await;
    assert!(matches!(&end, ApiEvent::Error { kind, .. } if kind == "joined"), "{end:?}");
    let left: Vec<u32> = codes(&desk).await.iter().map(|line| line.uses_left).collect();
    assert_eq!(left, [0, 0, 0, 1]);
    let own = wish(&desk, &fourth, &dir);
    assert_eq!(desk.device.stream(Request::JoinCode(own)).await.unwrap_err().kind, "own_code");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_group_put_out_does_not_come_back_by_the_code_it_used() {
    let (desk, phone) = (Lab::new("desk").await, Lab::new("phone").await);
    let code = issue(&desk, "Photos", ShareCode { uses: Some(9), ..ShareCode::default() }).await;
    ending(&phone, &mut begin(&phone, &desk, &code).await).await;
    let group = Some("Photos".to_owned());
    let _: serde_json::Value =
        desk.ask(Request::RemoveDevice { device: "phone".into(), group }).await;
    phone
        .until("it knows", || async {
            let groups: Vec<GroupLine> = phone.ask(Request::Groups).await;
            groups.iter().all(|group| group.role == "removed")
        })
        .await;
    let _: serde_json::Value =
        phone.ask(Request::LeaveGroup { group: None, last_admin: false }).await;
    // The first directory is still being let go.
    let again = |code: &IssuedCode| {
        let wish = wish(&desk, code, &phone.top.path().join("again"));
        phone.device.stream(Request::JoinCode(wish))
    };
    let (end, _) = ending(&phone, &mut again(&code).await.unwrap()).await;
    assert_eq!(end, refused("revoked"));
    // A new code is a new word.
    let code = issue(&desk, "Photos", ShareCode::default()).await;
    let (end, _) = ending(&phone, &mut again(&code).await.unwrap()).await;
    assert!(matches!(end, ApiEvent::Joined { .. }), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_01_of_200_devices_that_race_exactly_three_are_admitted() {
    let desk = Lab::new("desk").await;
    let code = issue(&desk, "Photos", ShareCode { uses: Some(3), ..ShareCode::default() }).await;
    let (parsed, _) = Code::parse(&code.code).unwrap();
    let own: DeviceId = desk.devices().await[0].device.parse().unwrap();
    let letters: Vec<Letter> = (0..200).map(|_| letter(&parsed, &own)).collect();
    let mut desk = desk;
    // Each comes twice, in two waves, and the issuer is started anew between them.
    for wave in 0..2 {
        let mut race = JoinSet::new();
        for letter in letters.clone() {
            let hub = desk.device.hub.clone();
            race.spawn(
                async move { hub.with(move |hub| hub.code_letter(&letter, Via::Mail)).await },
            );
        }
        while let Some(handled) = race.join_next().await {
            assert!(handled.unwrap().is_some(), "wave {wave}: the device goes on");
        }
        desk = desk.restart().await;
    }
    let [line] = &codes(&desk).await[..] else { panic!() };
    assert_eq!((line.uses_left, line.used_by.len()), (0, 3));
    let members: BTreeSet<String> =
        desk.devices().await.into_iter().filter(|one| !one.me).map(|one| one.device).collect();
    assert_eq!(members.len(), 3, "each is a full member");
    assert!(line.refused.len() <= 32, "what is told is bounded");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_05_wrong_codes_leave_no_trace_and_others_go_on() {
    let desk = Lab::new("desk").await;
    let code = issue(&desk, "Photos", ShareCode::default()).await;
    let own: DeviceId = desk.devices().await[0].device.parse().unwrap();
    let (right, _) = Code::parse(&code.code).unwrap();
    let key = DeviceKey::from_seed(&Secret::new(random().unwrap())).unwrap();
    let inbox = InboxKey::from_seed(Secret::new(random().unwrap())).unwrap().id();
    let known = letter_of(&right, &own, &key, inbox);
    let taken = desk.device.hub.with(move |hub| {
        let mut taken = 0;
        for number in 0..10_000_u32 {
            let mut secret = [0; 16];
            secret[..4].copy_from_slice(&number.to_be_bytes());
            let wrong = Code::new(&Secret::new(secret), &own);
            let wrong = letter_of(&wrong, &own, &key, inbox);
            taken += u32::from(hub.code_letter(&wrong, Via::Mail));
        }
        // The right lookup and a wrong proof: somebody saw the one at a relay.
        let mut guessed = known.clone();
        let Ok(Message::Hello(mut said)) = Message::decode(guessed.kind, &guessed.body) else {
            panic!()
        };
        said.mac = [9; 32];
        guessed.body = Message::Hello(said).encode();
        taken += u32::from(hub.code_letter(&guessed, Via::Mail));
        (taken, hub.code_letter(&known, Via::Mail))
    });
    assert_eq!(taken.await.unwrap(), (0, true));
    let [line] = &codes(&desk).await[..] else { panic!() };
    assert_eq!((line.uses_left, line.refused.len(), line.waiting.len()), (0, 0, 0));
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &to.join(entry.file_name())),
            kind if kind.is_file() => {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_restored_state_suspends_codes_until_a_person_says_so() {
    let (mut desk, phone, third) =
        (Lab::new("desk").await, Lab::new("phone").await, Lab::new("third").await);
    let code = issue(&desk, "Photos", ShareCode { uses: Some(2), ..ShareCode::default() }).await;
    desk.device.stop().await;
    let (state, backup) = (desk.top.path().join("state"), desk.top.path().join("backup"));
    copy(&state, &backup);
    desk = desk.restart().await;
    ending(&phone, &mut begin(&phone, &desk, &code).await).await;
    assert_eq!(codes(&desk).await[0].uses_left, 1);
    desk.device.stop().await;
    fs::remove_dir_all(&state).unwrap();
    copy(&backup, &state);
    desk = desk.restart().await;
    // It has forgotten the use; the one who has it brings it back.
    desk.until("it is suspended", || async { codes(&desk).await[0].state == "suspended" }).await;
    assert_eq!(codes(&desk).await[0].uses_left, 1, "rule T18: the log counts, too");
    let mut events = begin(&third, &desk, &code).await;
    accepts_offer(&third, &mut events).await;
    let waits = |event: &ApiEvent| matches!(event, ApiEvent::Pending { reason, .. } if reason == "suspended");
    next(&mut events, waits).await;
    let _: CodeLine = desk.ask(Request::ResumeCode { code: code.id.clone() }).await;
    let (end, _) = ending(&third, &mut events).await;
    assert!(matches!(end, ApiEvent::Joined { .. }), "{end:?}");
    assert_eq!(codes(&desk).await[0].state, "used_up");
}
