//! Pairings on the local network that are left in the middle (rule T8).

use tokio::sync::mpsc;

use super::{
    tests::{Lab, answer, next},
    *,
};
use crate::api::JoinLine;

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
    // Both people leave, one of them without an answer.
    drop(streams);
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
    tests::pair(&labs[0], &labs[1], crate::api::Which::Auto).await;
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
