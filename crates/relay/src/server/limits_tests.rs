use super::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn attack_38_connections_are_counted_by_source_and_ipv6_by_its_network() {
    let limits = Limits { connections: 4, connections_per_source: 2, ..Limits::default() };
    let gate = Gate::new(limits);
    let first = gate.enter(addr("[2001:db8::1]:1")).unwrap();
    let _second = gate.enter(addr("[2001:db8::ffff:1]:1")).unwrap();
    let third = gate.enter(addr("[2001:db8::7]:1"));
    assert_eq!(third.err(), Some(Refusal::Limited { after: 60 }), "the same network");
    let _other = gate.enter(addr("[2001:db8:0:1::1]:1")).unwrap();
    let _v4 = gate.enter(addr("192.0.2.1:1")).unwrap();
    assert_eq!(gate.enter(addr("192.0.2.2:1")).err(), Some(Refusal::Full));
    drop(first);
    assert!(gate.enter(addr("[2001:db8::1]:1")).is_ok());
}

#[test]
fn attack_38_ends_of_splices_are_counted() {
    let gate = Gate::new(Limits { splices: 1, splices_per_source: 1, ..Limits::default() });
    let mut passes: Vec<_> =
        (1..=4).map(|it| gate.enter(addr(&format!("192.0.2.{}:1", it / 2))).unwrap()).collect();
    assert_eq!(passes[1].splice(), Ok(()));
    assert_eq!(passes[2].splice(), Err(Refusal::Limited { after: 60 }), "the same source");
    assert_eq!(passes[0].splice(), Ok(()));
    assert_eq!(passes[3].splice(), Err(Refusal::Full));
    passes.clear();
    assert!(gate.open().of.iter().all(HashMap::is_empty) && gate.open().splices == 0);
}

#[test]
fn attack_05_a_source_that_asks_too_often_waits_and_others_do_not() {
    let gate = Gate::new(Limits { gets: Rate::new(10, 1), ..Limits::default() });
    let (greedy, other) = (Source::of(addr("192.0.2.1:1")), Source::of(addr("192.0.2.2:1")));
    let answered = (0..1000).filter(|_| gate.check(greedy, Cost::Get).is_ok()).count();
    assert_eq!(answered, 10);
    let refused = gate.check(greedy, Cost::Get).unwrap_err();
    assert!(matches!(refused, Refusal::Limited { after: 50..=61 }), "{refused:?}");
    assert_eq!(gate.check(other, Cost::Get), Ok(()));
}

#[test]
fn attack_05_many_addresses_take_no_more_memory_and_shut_nobody_out() {
    let rates = Rates::new(Rate::new(3, 1), 1000);
    let known = Source::of(addr("192.0.2.1:1"));
    assert_eq!(rates.check(known, 1), Ok(()));
    for number in 0..10_000_u32 {
        // Each in a network of its own.
        let source = Source::of((IpAddr::from((number << 8).to_be_bytes()), 1).into());
        let _ = rates.check(source, 1);
    }
    assert!(rates.0.iter().all(|it| it.own.len() <= 1000 && it.shared.len() <= 1 << 12));
    assert_eq!(rates.check(known, 1), Ok(()), "who was there before");
}

#[test]
fn a_deposit_costs_its_bytes_and_one_over_the_burst_is_never_let_through() {
    let gate = Gate::new(Limits { deposits: Rate::new(8, 1), ..Limits::default() });
    let source = Source::of(addr("192.0.2.1:1"));
    assert_eq!(gate.check(source, Cost::Deposit(4 << 10)), Ok(()));
    assert_eq!(gate.check(source, Cost::Deposit(4 << 10)), Ok(()));
    assert!(matches!(gate.check(source, Cost::Deposit(1 << 10)), Err(Refusal::Limited { .. })));
    assert_eq!(gate.check(source, Cost::Deposit(16 << 10)), Err(Refusal::TooLarge));
}

#[test]
fn attack_05_the_addresses_of_one_network_do_not_add_up() {
    let gate = Gate::new(Limits { changes: Rate::new(10, 1), ..Limits::default() });
    let answered = |addresses: &mut dyn Iterator<Item = String>| {
        addresses
            .map(|it| Source::of(addr(&it)))
            .filter(|it| gate.check(*it, Cost::Change).is_ok())
            .count()
    };
    // 256 addresses of a /24 may do what 8 may; those of a /16 what 64 may. A busy machine takes a while, in which some
    // more are let through.
    let near = (0..1280).map(|it| format!("192.0.2.{}:1", it % 256));
    assert!((80..100).contains(&answered(&mut { near })));
    let wide = (0..5120).map(|it| format!("192.0.{}.{}:1", it / 20, it % 20));
    assert!((640 - 80..640).contains(&answered(&mut { wide })));
    let v6 = (0..1280).map(|it| format!("[2001:db8:1:{it:x}::1]:1"));
    assert!((80..100).contains(&answered(&mut { v6 })));
    let v6 = (0..2560).map(|it| format!("[2001:db8:{:x}::1]:1", it + 2));
    assert!((640 - 80..640).contains(&answered(&mut { v6 })));
    assert_eq!(answered(&mut std::iter::once("198.51.100.7:1".to_owned())), 1, "elsewhere");
}

#[test]
fn attack_38_one_network_has_a_part_of_all_connections_and_splices() {
    let limits = Limits { connections: 640, connections_per_source: 2, ..Limits::default() };
    let gate = Gate::new(Limits { splices: 80, splices_per_source: 1, ..limits });
    let mut open: Vec<Pass> =
        (0..256).filter_map(|it| gate.enter(addr(&format!("192.0.2.{it}:1"))).ok()).collect();
    assert_eq!(open.len(), 40, "a /24 has a sixteenth");
    let ends = open.iter_mut().filter_map(|pass| pass.splice().ok()).count();
    assert_eq!(ends, 10, "of splices, too");
    let wide = (0..2400)
        .filter_map(|it| gate.enter(addr(&format!("192.0.{}.{}:1", it / 10 + 3, it % 10))).ok());
    open.extend(wide);
    assert_eq!(open.len(), 160, "a /16 has a quarter");
    let _other = gate.enter(addr("198.51.100.7:1")).unwrap();
    open.clear();
    assert_eq!(gate.connections(), 1);
}
