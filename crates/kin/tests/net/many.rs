//! Three and four hosts.

use lab::{Answers, SHORT, files, pump_until, trees};

use crate::common::{
    agree, agreeable, compare_and_accept, converge, everywhere, lan, stop_all, sync,
};

pub(crate) fn three_hosts_become_one_union() {
    let lan = lan(3);
    for (index, host) in lan.hosts().iter().enumerate() {
        files::small_files(host.shared().join(host.name()), 50, 3000, 10, index as u64);
        files::write(host.shared().join("common.txt"), "the same everywhere");
    }
    let mut kins: Vec<_> = lan.hosts().iter().map(|host| agreeable(sync(host))).collect();
    let mut kins: Vec<_> = kins.iter_mut().collect();
    agree(&mut kins, SHORT);
    converge(&lan, &mut kins, SHORT, 3 * (50 + 5 + 1) + 1);
    files::write(lan.host(2).shared().join("common.txt"), "changed");
    everywhere(&lan, &mut kins, "common.txt", "changed");
    stop_all(&mut kins);
}

/// Rule T7: one confirmation between the newcomer and any member; the others hear of it.
pub(crate) fn a_late_third_is_vouched_for_and_nobody_is_asked_twice() {
    let lan = lan(3);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let mut a = sync(lan.host(0)).start();
    let mut b = sync(lan.host(1)).start();
    let ids = [&mut a, &mut b].map(|kin| kin.expect("listening")["device"].clone());
    compare_and_accept(&mut a, &mut b);
    agree(&mut [&mut a, &mut b], SHORT);

    files::write(lan.host(2).shared().join("c.txt"), "c's");
    let mut c = sync(lan.host(2)).start();
    let newcomer = c.expect("listening")["device"].clone();
    let at_c = c.expect("confirm");
    let (met, other) = if at_c["device"] == ids[0] { (&mut a, &mut b) } else { (&mut b, &mut a) };
    let at_met = met.expect("confirm");
    assert_eq!(at_met["device"], newcomer);
    assert_eq!(at_met["sas"], at_c["sas"]);
    met.answer(&at_met, true);
    c.answer(&at_c, true);
    // The other member is never answered: a question it may have opened is withdrawn.
    other.expect_where("the newcomer is in", SHORT, |event| {
        event["event"] == "peer_connected" && event["device"] == newcomer
    });
    let mut kins = [&mut a, &mut b, &mut c];
    agree(&mut kins, SHORT);
    converge(&lan, &mut kins, SHORT, 2);
    assert_eq!(c.count("confirm"), 1, "the newcomer is asked once");
    stop_all(&mut [&mut a, &mut b, &mut c]);
}

pub(crate) fn four_hosts_edit_at_once_and_converge() {
    let lan = lan(4);
    files::write(lan.host(0).shared().join("shared.txt"), "start");
    let mut kins: Vec<_> = lan
        .hosts()
        .iter()
        .map(|host| sync(host).args(&["--open"]).start().answering(Answers::Yes))
        .collect();
    let mut kins: Vec<_> = kins.iter_mut().collect();
    agree(&mut kins, SHORT);
    everywhere(&lan, &mut kins, "shared.txt", "start");

    // All at once: each makes files of its own, and all edit the same one.
    for round in 0..3 {
        for host in lan.hosts() {
            let name = host.name();
            files::write(host.shared().join(format!("{name}/{round}.txt")), name);
            files::write(host.shared().join("shared.txt"), format!("{name} {round}"));
        }
    }
    pump_until(&mut kins, SHORT, "four equal trees with everybody's files", |_| {
        let first = trees::paths(&lan.host(0).shared());
        let own = first.iter().filter(|p| p.starts_with("host-") && p.ends_with(".txt")).count();
        own == 12
            && lan.hosts()[1..]
                .iter()
                .all(|host| trees::same(&lan.host(0).shared(), &host.shared()))
    });
    agree(&mut kins, SHORT);
    for host in &lan.hosts()[1..] {
        trees::assert_same(&lan.host(0).shared(), &host.shared());
    }
    // Each host's last word on the contested file is somewhere: in place or in a conflict copy,
    // unless a later edit was made on top of it.
    let texts: Vec<_> = trees::paths(&lan.host(0).shared())
        .iter()
        .filter(|path| path.starts_with("shared"))
        .filter_map(|path| files::read(lan.host(0).shared().join(path)))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    assert!(!texts.is_empty() && texts.iter().all(|t| t.ends_with(char::is_numeric)), "{texts:?}");
    stop_all(&mut kins);
}
