//! Who is admitted, and how: rules T3, T5, T6, T7.

use super::{Device, ask, config, confirm, words};
use crate::{Admission, Event, QuestionId};

#[tokio::test]
async fn t3_two_yeses_make_two_peers() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let (b_at_a, a_at_b) = confirm(&mut a, &mut b).await;
    assert_eq!((b_at_a.device, a_at_b.device), (b.id(), a.id()));
    assert_eq!((b_at_a.name.as_str(), a_at_b.name.as_str()), ("bert", "anna"));
    assert_eq!(b_at_a.key_exchange, "X25519MLKEM768");
    assert!(a.handle.members().borrow().contains_key(&b.id()));
}

#[tokio::test]
async fn t3_one_no_makes_none_and_is_told() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let (at_a, ..) = a.question().await;
    let (at_b, ..) = b.question().await;
    b.handle.answer(at_b, true);
    a.handle.answer(at_a, false);
    let reason = b.refused().await;
    assert!(reason.contains("said no"), "{reason}");
    assert!(b.handle.members().borrow().is_empty() && a.handle.members().borrow().is_empty());
}

#[tokio::test]
async fn t6_an_answer_to_another_question_is_none() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let (at_a, ..) = a.question().await;
    a.handle.answer(QuestionId(at_a.0 + 1), true);
    a.handle.answer(QuestionId(0), false);
    let (at_b, ..) = b.question().await;
    b.handle.answer(at_b, true);
    a.handle.answer(at_a, true);
    a.peer_up().await;
    b.peer_up().await;
}

#[tokio::test]
async fn a_question_about_a_device_that_leaves_is_withdrawn() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let (at_a, ..) = a.question().await;
    b.question().await;
    b.handle.stop().await;
    assert_eq!(a.withdrawn().await, at_a);
}

#[tokio::test]
async fn two_open_sessions_ask_nobody() {
    let mut a = Device::new("anna", Admission::Open, &[]).await;
    let mut b = Device::new("bert", Admission::Open, &[&a]).await;
    a.peer_up().await;
    b.peer_up().await;
    assert_eq!(a.asked() + b.asked(), 0);
}

#[tokio::test]
async fn t7_open_answers_for_its_own_side_only() {
    let mut a = Device::new("anna", Admission::Open, &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let (question, about, sas, _) = b.question().await;
    assert_eq!(about, a.id());
    let shown = a
        .told(|event| match event {
            Event::Comparing { sas, .. } => Some(sas.clone()),
            _ => None,
        })
        .await;
    assert_eq!(shown, sas, "there is something to compare with");
    assert!(a.handle.members().borrow().is_empty(), "not before the other side's yes");
    b.handle.answer(question, true);
    a.peer_up().await;
    b.peer_up().await;
}

#[tokio::test]
async fn t5_the_same_passphrase_admits_without_a_question() {
    let mut a = Device::new("anna", words("four words of wood"), &[]).await;
    let mut b = Device::new("bert", words("four words of wood"), &[&a]).await;
    a.peer_up().await;
    b.peer_up().await;
    assert_eq!(a.asked() + b.asked(), 0);
}

#[tokio::test]
async fn t5_a_wrong_passphrase_is_refused_clearly_on_both_sides() {
    let mut a = Device::new("anna", words("four words of wood"), &[]).await;
    let mut b = Device::new("bert", words("four words of wool"), &[&a]).await;
    let (at_a, at_b) = (a.refused().await, b.refused().await);
    assert!(at_a.contains("passphrase is another"), "{at_a}");
    assert!(at_b.contains("passphrases differ"), "{at_b}");
}

#[tokio::test]
async fn t5_a_missing_passphrase_is_refused_clearly_on_both_sides() {
    for other in [ask(), Admission::Open] {
        let mut a = Device::new("anna", words("four words of wood"), &[]).await;
        let mut b = Device::new("bert", other, &[&a]).await;
        let (at_a, at_b) = (a.refused().await, b.refused().await);
        assert!(at_a.contains("passphrase"), "{at_a}");
        assert!(at_b.contains("--passphrase"), "{at_b}");
    }
}

#[tokio::test]
async fn another_topic_is_refused_clearly_on_both_sides() {
    let mut a = Device::new("anna", Admission::Open, &[]).await;
    let mut other = config("bert", Admission::Open, &[&a]);
    other.topic = "elsewhere".into();
    let mut b = Device::start(other).await;
    let (at_a, at_b) = (a.refused().await, b.refused().await);
    assert!(at_a.contains("--topic") && at_b.contains("--topic"), "{at_a}; {at_b}");
}

#[tokio::test]
async fn t3_three_failed_ceremonies_close_admission_and_a_person_reopens_it() {
    let mut a = Device::new("anna", ask(), &[]).await;
    for _ in 0..3 {
        // The man in the middle looks at the string and hangs up (attacks.md 41).
        let mut m = Device::new("mallory", ask(), &[&a]).await;
        let (at_a, ..) = a.question().await;
        m.question().await;
        m.handle.stop().await;
        assert_eq!(a.withdrawn().await, at_a);
    }
    let reason = a.closed().await;
    assert!(reason.contains("three"), "{reason}");
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let reason = b.refused().await;
    assert!(reason.contains("reopen"), "{reason}");
    let asked = a.asked();
    a.handle.reopen();
    let (at_a, about, ..) = a.question().await;
    assert_eq!((about, a.asked()), (b.id(), asked + 1));
    let (at_b, ..) = b.question().await;
    a.handle.answer(at_a, true);
    b.handle.answer(at_b, true);
    a.peer_up().await;
    b.peer_up().await;
}

#[tokio::test]
async fn t5_ten_wrong_passphrases_close_admission() {
    let mut a = Device::new("anna", words("four words of wood"), &[]).await;
    for _ in 0..10 {
        let mut m = Device::new("mallory", words("a guess"), &[&a]).await;
        m.refused().await;
        m.handle.stop().await;
    }
    let reason = a.closed().await;
    assert!(reason.contains("ten"), "{reason}");
    let mut b = Device::new("bert", words("four words of wood"), &[&a]).await;
    let reason = b.refused().await;
    assert!(reason.contains("reopen"), "{reason}");
    a.handle.reopen();
    a.peer_up().await;
    b.peer_up().await;
}

#[tokio::test]
async fn t7_whoever_leaves_a_yes_unanswered_does_not_hold_up_the_others() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let (at_a, about, ..) = a.question().await;
    assert_eq!(about, b.id());
    b.question().await;
    // b's person has gone for a walk.
    a.handle.answer(at_a, true);
    let mut c = Device::new("carl", ask(), &[&a]).await;
    let (at_a, about, ..) = a.question().await;
    assert_eq!(about, c.id());
    let (at_c, ..) = c.question().await;
    a.handle.answer(at_a, true);
    c.handle.answer(at_c, true);
    a.peer_up().await;
    c.peer_up().await;
}
