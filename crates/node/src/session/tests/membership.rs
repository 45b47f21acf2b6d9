//! Sessions as groups: rule T7.

use super::{Device, ask, confirm};

#[tokio::test]
async fn t7_a_member_admits_a_newcomer_to_the_others() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    confirm(&mut a, &mut b).await;
    // The newcomer meets a first; b and the newcomer come to know each other without a question.
    let mut c = Device::new("carl", ask(), &[&a]).await;
    let (at_a, about, _, _) = a.question().await;
    assert_eq!(about, c.id());
    let (at_c, _, _, along) = c.question().await;
    assert_eq!(along, [b.id()], "who comes along is listed");
    a.handle.answer(at_a, true);
    c.handle.answer(at_c, true);
    a.peer_up().await;
    c.peer_up().await;
    let mut members = b.handle.members();
    let c_id = c.id();
    members.wait_for(|members| members.contains_key(&c_id)).await.expect("b lives");
    assert!(c.handle.members().borrow().contains_key(&b.id()));
}

#[tokio::test]
async fn t7_three_devices_that_all_dial_each_other_need_two_confirmations() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    let mut c = Device::new("carl", ask(), &[&a, &b]).await;
    // Whoever is asked says yes; each device must end with two peers.
    let mut asked = 0;
    for device in [&mut a, &mut b, &mut c] {
        device.passed.clear();
    }
    let mut up = [0; 3];
    // Dropping one would end the link.
    let mut links = Vec::new();
    while up != [2; 3] {
        for (at, device) in [&mut a, &mut b, &mut c].into_iter().enumerate() {
            while let Ok(event) = device.events.try_recv() {
                match event {
                    super::SessionEvent::PeerUp(peer) => {
                        up[at] += 1;
                        links.push(peer);
                    }
                    super::SessionEvent::Event(crate::Event::Confirm { id, .. }) => {
                        asked += 1;
                        device.handle.answer(id, true);
                    }
                    super::SessionEvent::PeerDown { device } => panic!("{device:?} was lost"),
                    super::SessionEvent::Event(_) => {}
                }
            }
        }
        tokio::task::yield_now().await;
    }
    // Two confirmations with two sides each; a question that a vouch has overtaken may be answered
    // too late to count.
    assert!((4..=6).contains(&asked), "{asked} questions");
}

#[tokio::test]
async fn t7_a_vouch_withdraws_the_question_it_answers() {
    let mut a = Device::new("anna", ask(), &[]).await;
    let mut b = Device::new("bert", ask(), &[&a]).await;
    confirm(&mut a, &mut b).await;
    let mut c = Device::new("carl", ask(), &[&a, &b]).await;
    // c asks about one of them; both others are asked about c only if it is their turn with c.
    let (at_c, first, ..) = c.question().await;
    let (asked, other) = if first == a.id() { (&mut a, &mut b) } else { (&mut b, &mut a) };
    let (at_asked, about, ..) = asked.question().await;
    assert_eq!(about, c.id());
    c.handle.answer(at_c, true);
    asked.handle.answer(at_asked, true);
    asked.peer_up().await;
    assert_eq!(other.peer_up().await.device, c.id());
    c.peer_up().await;
    c.peer_up().await;
    assert_eq!((c.asked(), other.asked()), (1, 1), "beyond the first confirmation nobody is asked");
}
