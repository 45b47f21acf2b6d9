//! Pairings on the local network that are left in the middle (rule T8).

use std::sync::Arc;

use identity::{DeviceKey, InboxKey, Secret};
use link::Endpoint;
use tokio::{sync::mpsc, time::timeout};
use wire::{
    device::{DEVICE_VERSION, Into, Message as Say, Offer, Purpose},
    frame::Channel,
    membership::{Action, Ceremony, Role, Scope},
    session::Message,
};

use super::{
    tests::{Lab, PATIENCE, answer, next},
    *,
};
use crate::api::{JoinLine, Which};

fn is_confirm(event: &ApiEvent) -> bool {
    matches!(event, ApiEvent::Confirm { .. })
}

fn is_ask(event: &ApiEvent) -> bool {
    matches!(event, ApiEvent::Ask { .. })
}

/// Two devices whose people compare now: their streams, the numbers of the questions, and which of the two joins.
async fn comparing(labs: &[Lab; 2]) -> ([mpsc::Receiver<ApiEvent>; 2], [u32; 2], usize) {
    let host =
        |port: u16| PairLan { host: Some(format!("127.0.0.1:{port}")), ..PairLan::default() };
    let mut streams = [
        labs[0].device.stream(Request::Pair(host(9))).await.unwrap(),
        labs[1].device.stream(Request::Pair(host(labs[0].port))).await.unwrap(),
    ];
    let (mut ids, mut joiner) = ([0; 2], 2);
    for (side, events) in streams.iter_mut().enumerate() {
        let ApiEvent::Confirm { id, grants, .. } = next(events, is_confirm).await else { panic!() };
        ids[side] = id;
        if grants.starts_with("this device joins") {
            joiner = side;
        }
    }
    (streams, ids, joiner)
}

async fn joins(lab: &Lab) -> Vec<JoinLine> {
    lab.ask(Request::PairStatus).await
}

async fn hold_each_other(labs: &[Lab; 2]) {
    for lab in labs {
        lab.until("both are one group", || async {
            lab.names().await == ["a", "b"] && joins(lab).await.is_empty()
        })
        .await;
    }
}

/// What remains to be asked then holds nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn t8_whoever_leaves_at_the_question_about_ssh_is_paired_all_the_same() {
    for joiner_leaves in [false, true] {
        let labs = [Lab::new("a").await, Lab::new("b").await];
        let (mut streams, ids, joiner) = comparing(&labs).await;
        for (lab, id) in labs.iter().zip(ids) {
            answer(lab, id, true).await;
        }
        for events in &mut streams {
            next(events, is_ask).await;
        }
        // Nobody has said anything about SSH.
        let admitter = &labs[1 - joiner];
        admitter.until("it has admitted", || async { admitter.names().await == ["a", "b"] }).await;
        let [first, second] = streams;
        let (stays, leaves) =
            if (joiner == 0) == joiner_leaves { (second, first) } else { (first, second) };
        drop(leaves);
        hold_each_other(&labs).await;
        drop(stays);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_who_waits_for_an_admission_that_never_comes_is_told_when_they_meet() {
    let labs = [Lab::new("a").await, Lab::new("b").await];
    let (mut streams, ids, joiner) = comparing(&labs).await;
    answer(&labs[joiner], ids[joiner], true).await;
    // The yes is on its way, and kept.
    next(&mut streams[joiner], is_ask).await;
    let mut told = labs[joiner].device.stream(Request::Events).await.unwrap();
    let said = joins(&labs[joiner]).await;
    assert_eq!(said.len(), 1);
    // Both people leave, one of them without an answer; the other one first, or it would hear that.
    let [first, second] = streams;
    let (stays, leaves) = if joiner == 0 { (second, first) } else { (first, second) };
    drop(leaves);
    let _: serde_json::Value = labs[joiner].ask(Request::PairCancel).await;
    drop(stays);
    let ended = next(&mut told, |event| matches!(event, ApiEvent::Error { .. })).await;
    let ApiEvent::Error { kind, message, hint } = ended else { panic!() };
    assert_eq!((&*kind, &*hint), ("join", "pair again: kin pair on both"));
    assert!(message.ends_with("has not let this device in: the pairing broke off"), "{message}");
    for lab in &labs {
        lab.until("nothing is left", || async {
            joins(lab).await.is_empty() && lab.devices().await.is_empty()
        })
        .await;
    }
    // Nothing of it is in the way of another one.
    tests::pair(&labs[0], &labs[1], Which::Auto).await;
    hold_each_other(&labs).await;
}

/// The admission may be durable while its word is lost, or not be written.
#[tokio::test(flavor = "multi_thread")]
async fn t8_whenever_both_leave_both_hold_each_other_or_neither_does() {
    let labs = [Lab::new("a").await, Lab::new("b").await];
    let (mut streams, ids, joiner) = comparing(&labs).await;
    answer(&labs[joiner], ids[joiner], true).await;
    next(&mut streams[joiner], is_ask).await;
    let admitter = 1 - joiner;
    answer(&labs[admitter], ids[admitter], true).await;
    drop(streams);
    let [a, b] = &labs;
    a.until("both or neither", || async {
        let waits = !joins(a).await.is_empty() || !joins(b).await.is_empty();
        let (here, there) = (a.names().await, b.names().await);
        !waits && here == there && (here.is_empty() || here == ["a", "b"])
    })
    .await;
}

/// Answers yes until both streams have ended well; no to SSH.
async fn agree(labs: &[Lab; 2], mut streams: [mpsc::Receiver<ApiEvent>; 2], ids: [u32; 2]) {
    for (lab, id) in labs.iter().zip(ids) {
        answer(lab, id, true).await;
    }
    let mut open = [true, true];
    while open != [false, false] {
        for side in 0..2 {
            if !open[side] {
                continue;
            }
            let step = |event: &ApiEvent| !matches!(event, ApiEvent::Waiting { .. });
            match next(&mut streams[side], step).await {
                ApiEvent::Ask { id, .. } => answer(&labs[side], id, false).await,
                ApiEvent::Paired { .. } => open[side] = false,
                other => panic!("{}: {other:?}", labs[side].name),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_whoever_left_unheard_pairs_again_with_the_device_that_still_holds_it() {
    let mut labs = [Lab::new("a").await, Lab::new("b").await];
    let (streams, ids, joiner) = comparing(&labs).await;
    agree(&labs, streams, ids).await;
    let admitter = 1 - joiner;
    labs[admitter].device.stop().await;
    let leave = Request::LeaveGroup { group: None, last_admin: false };
    let _: serde_json::Value = labs[joiner].ask(leave).await;
    let [a, b] = labs;
    labs = match admitter {
        0 => [a.restart().await, b],
        _ => [a, b.restart().await],
    };
    assert_eq!(labs[admitter].names().await, ["a", "b"], "it has heard of nothing");
    assert!(labs[joiner].devices().await.is_empty());
    let (streams, ids, again) = comparing(&labs).await;
    assert_eq!(again, joiner);
    agree(&labs, streams, ids).await;
    hold_each_other(&labs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_whoever_was_let_in_by_another_is_told_so_before_anything_is_compared() {
    let (a, b) = (Lab::new("a").await, Lab::new("b").await);
    tests::pair(&a, &b, Which::Theirs).await;
    let c = Lab::new("c").await;
    tests::pair(&b, &c, Which::Theirs).await;
    a.until("c is known", || async { a.names().await == ["a", "b", "c"] }).await;
    // Nobody hears that it leaves.
    a.device.stop().await;
    b.device.stop().await;
    let leave = Request::LeaveGroup { group: None, last_admin: false };
    let _: serde_json::Value = c.ask(leave).await;
    let a = a.restart().await;
    let host =
        |port: u16| PairLan { host: Some(format!("127.0.0.1:{port}")), ..PairLan::default() };
    let mut at_c = c.device.stream(Request::Pair(host(9))).await.unwrap();
    let mut at_a = a.device.stream(Request::Pair(host(c.port))).await.unwrap();
    let ends = |event: &ApiEvent| is_confirm(event) || matches!(event, ApiEvent::Refused { .. });
    let ApiEvent::Refused { reason } = next(&mut at_a, ends).await else { panic!() };
    assert!(reason.contains("a member of the group already"), "{reason}");
    let told = |event: &ApiEvent| {
        is_confirm(event) || matches!(event, ApiEvent::Error { kind, .. } if kind == "pairing")
    };
    let ApiEvent::Error { message, .. } = next(&mut at_c, told).await else { panic!() };
    assert!(message.contains("knows this one as a member already"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_a_window_that_is_closed_while_words_are_compared_lets_nobody_in() {
    for joiner_closes in [false, true] {
        let labs = [Lab::new("a").await, Lab::new("b").await];
        let (mut streams, ids, joiner) = comparing(&labs).await;
        let closes = if joiner_closes { joiner } else { 1 - joiner };
        // The other one has said yes, and that has come.
        answer(&labs[1 - closes], ids[1 - closes], true).await;
        next(&mut streams[1 - closes], is_ask).await;
        let cancelled: serde_json::Value = labs[closes].ask(Request::PairCancel).await;
        assert_eq!(cancelled["closed"], true);
        let late: serde_json::Value =
            labs[closes].ask(Request::Answer { id: ids[closes], yes: true }).await;
        assert_eq!(late["taken"], false, "there is no question any more");
        let ends = |event: &ApiEvent| matches!(event, ApiEvent::Refused { .. });
        let ApiEvent::Refused { reason } = next(&mut streams[closes], ends).await else { panic!() };
        assert_eq!(reason, "it was cancelled");
        let ApiEvent::Refused { reason } = next(&mut streams[1 - closes], ends).await else {
            panic!()
        };
        assert_eq!(reason, "its pairing window was closed");
        for lab in &labs {
            lab.until("nothing is left", || async {
                joins(lab).await.is_empty() && lab.devices().await.is_empty()
            })
            .await;
        }
        // And the next one may be opened at once.
        let again: serde_json::Value = labs[closes].ask(Request::PairCancel).await;
        assert_eq!(again["closed"], false);
        comparing(&labs).await;
    }
}

/// Somebody on the network who makes an offer; returns once the link has ended.
async fn intrude(lab: &Lab, offer: Option<Offer>) {
    let key = Arc::new(DeviceKey::from_seed(&Secret::new(random().unwrap())).unwrap());
    let endpoint = Endpoint::new(&key, Limits::default()).unwrap();
    let link = endpoint.dial(([127, 0, 0, 1], lab.port).into()).await.unwrap();
    let (mut reader, mut writer) = link.split();
    let hello = Say::Hello { version: DEVICE_VERSION, port: 0, purpose: Purpose::Pair };
    for said in std::iter::once(hello).chain(offer.map(Say::Offer)) {
        writer.send(Channel::Session, &Message::Device(said).encode()).await.unwrap();
    }
    writer.flush().await.unwrap();
    let heard = async { while let Ok(Some(_)) = reader.next().await {} };
    timeout(PATIENCE, heard).await.expect("it is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_12_a_stranger_that_comes_first_ends_no_window() {
    for expects in [false, true] {
        let (a, b) = (Lab::new("a").await, Lab::new("b").await);
        let me = b.device.hub.with(|hub| hub.me).await.unwrap();
        let nowhere = PairLan { host: Some("127.0.0.1:9".to_owned()), ..PairLan::default() };
        let options = match expects {
            true => PairLan { expect_device: Some(me.to_string()), ..nowhere },
            false => PairLan { into: Which::Mine, ..nowhere },
        };
        let mut at_a = a.device.stream(Request::Pair(options)).await.unwrap();
        let group = Some(wire::membership::GroupId([7; 32]));
        let inbox = InboxKey::from_seed(Secret::new(random().unwrap())).unwrap().id();
        let name = Name::new("stranger").unwrap();
        let offer = Offer { name, inbox, into: Into::Mine, group, members: 5 };
        for _ in 0..2 {
            intrude(&a, (!expects).then(|| offer.clone())).await;
        }
        let host = Some(format!("127.0.0.1:{}", a.port));
        let mut at_b =
            b.device.stream(Request::Pair(PairLan { host, ..PairLan::default() })).await.unwrap();
        next(&mut at_b, is_confirm).await;
        let mut told = 0;
        while let Ok(event) = at_a.try_recv() {
            assert!(!matches!(event, ApiEvent::Refused { .. }), "{event:?}");
            told += usize::from(matches!(event, ApiEvent::Error { kind, .. } if kind == "pairing"));
        }
        assert_eq!(told, 2, "two strangers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_38_a_log_that_is_refused_time_and_again_ends_the_join() {
    let (a, b) = (Lab::new("a").await, Lab::new("b").await);
    let issuer = a.device.hub.with(|hub| hub.me).await.unwrap();
    let own = b.device.hub.with(|hub| (hub.me, hub.inbox.id()));
    let (device, inbox) = own.await.unwrap();
    let admit = Action::Admit {
        device,
        inbox,
        name: Name::new("b").unwrap(),
        role: Role::Admin,
        folders: Scope::All,
        ceremony: Ceremony::Lan,
    };
    a.device.hub.with(|hub| hub.admit(None, admit)).await.unwrap().unwrap();
    // Its person was told otherwise.
    let join = store::StoredJoin {
        device: issuer,
        name: "a".to_owned(),
        kind: store::JoinKind::Lan,
        group: None,
        role: Role::Reader,
        folders: Scope::All,
        since: hub::wall(),
        state: Vec::new(),
    };
    let mut events = b.device.stream(Request::Events).await.unwrap();
    let at = ([127, 0, 0, 1], a.port).into();
    b.device.hub.with(move |hub| hub.put_join(join, at)).await.unwrap().unwrap();
    b.until("it is given up", || async {
        let now = |hub: &mut hub::Hub| {
            hub.look_for_members();
            hub.net.as_mut().unwrap().targets.all_now(std::time::Instant::now());
        };
        b.device.hub.with(now).await;
        joins(&b).await.is_empty()
    })
    .await;
    let mut refused = 0;
    while let Ok(event) = events.try_recv() {
        let is_it = |message: &str| message.ends_with("was told: the role differs");
        refused += usize::from(matches!(event, ApiEvent::Error { message, .. } if is_it(&message)));
    }
    assert_eq!(refused, 3);
    assert!(b.devices().await.is_empty());
}

/// The word of an admission was lost, and both pair again before they have met.
#[tokio::test(flavor = "multi_thread")]
async fn t8_a_join_that_waits_is_kept_until_the_next_yes_and_ends_with_a_no() {
    for yes in [false, true] {
        let labs = [Lab::new("a").await, Lab::new("b").await];
        let (streams, ids, joiner) = comparing(&labs).await;
        let admitter = 1 - joiner;
        let peer = labs[admitter].device.hub.with(|hub| hub.me).await.unwrap();
        let join = store::StoredJoin {
            device: peer,
            name: labs[admitter].name.to_owned(),
            kind: store::JoinKind::Lan,
            group: None,
            role: Role::Admin,
            folders: Scope::All,
            since: 7,
            state: Vec::new(),
        };
        drop(streams);
        for lab in &labs {
            let _: serde_json::Value = lab.ask(Request::PairCancel).await;
        }
        // As it was kept before, with the other one away.
        let nowhere = ([127, 0, 0, 1], 9).into();
        labs[joiner]
            .device
            .hub
            .with(move |hub| hub.put_join(join, nowhere))
            .await
            .unwrap()
            .unwrap();
        let (mut streams, ids_again, again) = comparing(&labs).await;
        assert_eq!(again, joiner);
        assert_ne!(ids, ids_again);
        let kept: Vec<i64> = joins(&labs[joiner]).await.iter().map(|join| join.since).collect();
        assert_eq!(kept, [7], "nobody has said anything");
        answer(&labs[joiner], ids_again[joiner], yes).await;
        if yes {
            next(&mut streams[joiner], is_ask).await;
            let kept: Vec<i64> = joins(&labs[joiner]).await.iter().map(|join| join.since).collect();
            assert!(kept.len() == 1 && kept[0] > 7, "{kept:?}");
        } else {
            next(&mut streams[joiner], |event| matches!(event, ApiEvent::Refused { .. })).await;
            labs[joiner]
                .until("nothing is left", || async { joins(&labs[joiner]).await.is_empty() })
                .await;
        }
    }
}
