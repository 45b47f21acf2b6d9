//! Two devices whose people mean each other.

use ssh::{
    PublicKey, Tag,
    meet::{Outcome, Place, Setup, Target},
};
use wire::ssh::Purpose;

use crate::common::{Device, HOST_KEY, Run, at};

#[tokio::test]
async fn hole_5_t9_the_one_that_pairs_may_log_in_to_the_one_that_listens_and_not_the_reverse() {
    let (desk, lap) = (Device::new(1), Device::new(2));
    let (mut listen, addr) = Run::listening(desk.setup(Purpose::Listen)).await;
    let pair = Setup { target: at(addr), ..lap.setup(Purpose::Pair) };
    let own = pair.own.clone().expect("it logs in").public;
    let mut pair = Run::start(pair).await;
    let (asked, other) = (listen.question().await, pair.question().await);
    assert_eq!(asked.sas, other.sas);
    assert_eq!((asked.device, other.device), (Some(lap.id()), Some(desk.id())));
    assert_eq!((asked.name.as_str(), other.name.as_str()), ("device-2", "device-1"));
    assert_eq!(
        (&asked.fingerprint[..], &other.fingerprint[..]),
        (own.fingerprint(), own.fingerprint())
    );
    assert_eq!((asked.lets_in, other.lets_in), (true, false));
    assert_eq!((asked.alias.as_deref(), other.alias.as_deref()), (None, Some("device-1")));
    // Nothing is there before both have said yes.
    assert!(desk.files().is_empty() && lap.files().is_empty());
    listen.meeting.answer(asked.id, true).await;
    while !matches!(listen.next().await, ssh::meet::Event::Waiting { .. }) {}
    assert!(desk.files().is_empty() && lap.files().is_empty());
    pair.meeting.answer(other.id, true).await;
    assert_eq!((listen.outcome().await, pair.outcome().await), (Outcome::Done, Outcome::Done));

    let at_desk = desk.home().installed().expect("can be read");
    assert_eq!(at_desk.len(), 1);
    assert_eq!((&at_desk[0].tag, at_desk[0].host.is_none()), (&Tag::device(&lap.id()), true));
    assert_eq!(at_desk[0].access[0].key, Some(own));
    let at_lap = lap.home().installed().expect("can be read");
    let host = at_lap[0].host.as_ref().expect("it is reached");
    assert_eq!((host.alias.as_str(), host.user.as_str(), host.port), ("device-1", "user1", 2222));
    assert_eq!(host.host_keys, [PublicKey::parse(HOST_KEY).expect("is one")]);
    assert!(at_lap[0].access.is_empty(), "one direction only");
}

#[tokio::test]
async fn hole_7_both_may_log_in_after_a_sync_and_another_one_changes_nothing() {
    let (desk, lap) = (Device::new(1), Device::new(2));
    let mut first = None;
    for _ in 0..2 {
        let (mut a, addr) = Run::listening(desk.setup(Purpose::Sync)).await;
        let mut b = Run::start(Setup { target: at(addr), ..lap.setup(Purpose::Sync) }).await;
        let (at_a, at_b) = (a.answer(true).await, b.answer(true).await);
        assert_eq!((at_a.sas, at_a.lets_in, at_b.lets_in), (at_b.sas, true, true));
        assert_eq!((a.outcome().await, b.outcome().await), (Outcome::Done, Outcome::Done));
        let files = (desk.files(), lap.files());
        assert_eq!(first.get_or_insert_with(|| files.clone()), &files);
        for device in [&desk, &lap] {
            let installed = device.home().installed().expect("can be read");
            assert!(installed.len() == 1 && installed[0].host.is_some());
            assert_eq!(installed[0].access.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_no_on_either_side_installs_nothing_on_both() {
    for no in [0, 1] {
        let (desk, lap) = (Device::new(1), Device::new(2));
        let (mut a, addr) = Run::listening(desk.setup(Purpose::Listen)).await;
        let mut b = Run::start(Setup { target: at(addr), ..lap.setup(Purpose::Pair) }).await;
        let (asked, other) = (a.question().await, b.question().await);
        a.meeting.answer(asked.id, no != 0).await;
        if no != 0 {
            b.meeting.answer(other.id, no != 1).await;
        }
        for outcome in [a.outcome().await, b.outcome().await] {
            assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
        assert!(desk.files().is_empty() && lap.files().is_empty());
    }
}

#[tokio::test]
async fn t6_an_expected_device_is_accepted_without_a_question_and_no_other_is() {
    let (desk, lap, other) = (Device::new(1), Device::new(2), Device::new(3));
    let setup = Setup { expect: Some(lap.id()), ..desk.setup(Purpose::Listen) };
    let (mut a, addr) = Run::listening(setup).await;
    let pair = |device: &Device, expect| Setup {
        target: at(addr),
        expect: Some(expect),
        ..device.setup(Purpose::Pair)
    };
    let mut wrong = Run::start(pair(&other, desk.id())).await;
    assert!(matches!(wrong.outcome().await, Outcome::Refused(_)));
    let mut wrong = Run::start(pair(&lap, other.id())).await;
    assert!(matches!(wrong.outcome().await, Outcome::Refused(_)));
    assert!(desk.files().is_empty() && lap.files().is_empty() && other.files().is_empty());
    let mut right = Run::start(pair(&lap, desk.id())).await;
    assert_eq!((a.outcome().await, right.outcome().await), (Outcome::Done, Outcome::Done));
    let asked =
        |run: &Run| run.seen.iter().any(|event| matches!(event, ssh::meet::Event::Confirm(_)));
    assert!(!asked(&a) && !asked(&right));
}

#[tokio::test]
async fn those_that_are_here_for_different_things_are_told_so() {
    let (desk, lap) = (Device::new(1), Device::new(2));
    let (mut a, addr) = Run::listening(desk.setup(Purpose::Sync)).await;
    let mut b = Run::start(Setup { target: at(addr), ..lap.setup(Purpose::Pair) }).await;
    let outcome = b.outcome().await;
    let said = |words: &str| words.contains("sync");
    assert!(matches!(&outcome, Outcome::Refused(words) if said(words)), "{outcome:?}");
    a.meeting.stop().await;
    assert_eq!(a.outcome().await, Outcome::Stopped);
}

#[tokio::test]
async fn attack_19_other_host_keys_than_those_that_are_pinned_stop_it() {
    let (desk, lap) = (Device::new(1), Device::new(2));
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";
    for (key, good) in [(HOST_KEY, true), (other, false)] {
        let mut setup = desk.setup(Purpose::Listen);
        setup.sshd.host_keys = vec![PublicKey::parse(key).expect("is one")];
        let (mut a, addr) = Run::listening(setup).await;
        let mut b = Run::start(Setup { target: at(addr), ..lap.setup(Purpose::Pair) }).await;
        let before = lap.files();
        a.answer(true).await;
        b.answer(true).await;
        let outcome = b.outcome().await;
        if good {
            assert_eq!(outcome, Outcome::Done);
            continue;
        }
        assert!(
            matches!(&outcome, Outcome::Failed { kind: "host_key_changed", .. }),
            "{outcome:?}"
        );
        assert_eq!(lap.files(), before, "the pinned keys stay");
    }
}

#[tokio::test]
async fn nobody_comes_from_elsewhere_than_said() {
    let (desk, lap) = (Device::new(1), Device::new(2));
    let allow_from = vec!["192.0.2.0/24".parse().expect("is one")];
    let setup = Setup { allow_from, ..desk.setup(Purpose::Listen) };
    let (a, addr) = Run::listening(setup).await;
    let timeout = Some(std::time::Duration::from_secs(1));
    let pair = Setup { target: at(addr), timeout, ..lap.setup(Purpose::Pair) };
    let mut b = Run::start(pair).await;
    assert!(matches!(b.outcome().await, Outcome::TimedOut(_)));
    assert!(!a.installed());
}

#[tokio::test]
async fn what_the_entry_is_limited_to_is_in_the_entry() {
    let (desk, lap) = (Device::new(1), Device::new(2));
    let from = vec!["127.0.0.0/8".parse().expect("is one")];
    let setup = Setup { expires: Some(1_795_168_800), from, ..desk.setup(Purpose::Listen) };
    let (mut a, addr) = Run::listening(setup).await;
    let mut b = Run::start(Setup { target: at(addr), ..lap.setup(Purpose::Pair) }).await;
    a.answer(true).await;
    b.answer(true).await;
    assert_eq!((a.outcome().await, b.outcome().await), (Outcome::Done, Outcome::Done));
    let files = desk.files();
    assert!(
        files[0].1.starts_with("from=\"127.0.0.0/8\",expiry-time=\"20261120100000Z\" "),
        "{files:?}"
    );
}

#[tokio::test]
async fn one_that_goes_on_serves_one_after_the_other() {
    let desk = Device::new(1);
    let setup = Setup { continuous: true, ..desk.setup(Purpose::Listen) };
    let (mut a, addr) = Run::listening(setup).await;
    for (seed, yes) in [(2, true), (3, false), (4, true)] {
        let lap = Device::new(seed);
        let mut b = Run::start(Setup { target: at(addr), ..lap.setup(Purpose::Pair) }).await;
        a.answer(yes).await;
        b.answer(true).await;
        assert_eq!(b.outcome().await == Outcome::Done, yes);
    }
    while a.seen.iter().filter(|it| matches!(it, ssh::meet::Event::Installed(_))).count() < 2 {
        a.next().await;
    }
    a.meeting.stop().await;
    assert_eq!(a.outcome().await, Outcome::Stopped);
    assert_eq!(desk.home().installed().expect("can be read").len(), 2);
}

#[tokio::test]
async fn an_address_that_leads_back_is_no_other_device() {
    let desk = Device::new(1);
    let (_a, addr) = Run::listening(desk.setup(Purpose::Listen)).await;
    let mut b = Run::start(Setup { target: at(addr), ..desk.setup(Purpose::Pair) }).await;
    assert!(matches!(b.outcome().await, Outcome::Refused(_)));
}

#[tokio::test]
async fn a_name_that_nobody_has_is_taken_for_a_hosts() {
    let (desk, lap) = (Device::new(1), Device::new(2));
    let (mut a, addr) = Run::listening(desk.setup(Purpose::Listen)).await;
    let target = Target::Named("no such device".into(), Some((Place::from(addr), None)));
    let mut b = Run::start(Setup { target, ..lap.setup(Purpose::Pair) }).await;
    a.answer(true).await;
    b.answer(true).await;
    assert_eq!((a.outcome().await, b.outcome().await), (Outcome::Done, Outcome::Done));
}
