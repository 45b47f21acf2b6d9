//! Finding each other by mDNS. Needs multicast on this machine; says so where there is none.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use super::{Device, SessionEvent, ask, config, confirm};
use crate::Event;

/// Sessions of a topic that no other test uses.
async fn found_by_mdns(name: &str) -> Option<Device> {
    let mut config = config(name, ask(), &[]);
    config.discovery = true;
    config.topic = format!("discovery test of process {}", std::process::id());
    let mut device = Device::start(config).await;
    let lacking = |event: &SessionEvent| {
        matches!(event, SessionEvent::Event(Event::Error { kind: "discovery", .. }))
    };
    while let Ok(event) = device.events.try_recv() {
        if lacking(&event) {
            eprintln!("SKIPPED: {event:?}");
            return None;
        }
        device.passed.push(event);
    }
    Some(device)
}

#[tokio::test]
async fn t1_two_devices_find_each_other_both_dial_and_one_question_is_asked() {
    let Some(mut a) = found_by_mdns("anna").await else { return };
    let Some(mut b) = found_by_mdns("bert").await else { return };
    let (_at_a, _at_b) = confirm(&mut a, &mut b).await;
    assert_eq!((a.asked(), b.asked()), (1, 1));
    let of_b = |event: &&SessionEvent| matches!(event, SessionEvent::Event(Event::PeerFound { name, .. }) if name == "bert");
    assert_eq!(a.passed.iter().filter(of_b).count(), 1, "{:?}", a.passed);
    tokio::join!(a.handle.stop(), b.handle.stop());
}
