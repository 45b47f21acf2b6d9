//! What the tests share: starting `kin` on a host, and waiting until hosts agree.

use std::{path::Path, time::Duration};

use lab::{Answers, Host, Kin, KinCommand, Lan, pump_until, trees};
use serde_json::Value;

/// The command under test.
pub(crate) const KIN: &str = env!("CARGO_BIN_EXE_kin");

/// The port that is tried first where none is asked for.
pub(crate) const PORT: u16 = 9000;

/// `count` hosts, their files beside the build's (a real disk, not a small /tmp).
pub(crate) fn lan(count: u8) -> Lan {
    Lan::new(disk(), count)
}

/// Where test files go.
pub(crate) fn disk() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// `kin sync ~/Shared --json --name host-x` with discovery, asking.
pub(crate) fn sync(host: &Host) -> KinCommand {
    KinCommand::sync(Path::new(KIN), host)
}

/// As [`sync`], open to all and without discovery.
pub(crate) fn open(host: &Host) -> KinCommand {
    sync(host).args(&["--open", "--no-discovery"])
}

/// As [`open`], dialling another host.
pub(crate) fn open_to(host: &Host, other: &Host) -> KinCommand {
    open(host).args(&["--peer", &address(other)])
}

/// Where a host listens.
pub(crate) fn address(host: &Host) -> String {
    format!("{}:{PORT}", host.v4())
}

/// Starts one that listens, and returns when it does.
pub(crate) fn listening(command: KinCommand) -> Kin {
    let mut kin = command.start();
    kin.expect("listening");
    kin
}

/// Hosts 0 and 1 with a standing open session, in sync.
pub(crate) fn open_pair(lan: &Lan) -> (Kin, Kin) {
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], lab::SHORT);
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    (a, b)
}

/// Waits until the latest word of each is that it agrees with all the others.
#[track_caller]
pub(crate) fn agree(kins: &mut [&mut Kin], limit: Duration) {
    let others = kins.len() as u64 - 1;
    pump_until(kins, limit, "all agree", |kins| kins.iter_mut().all(|k| k.agrees_with(others)));
}

/// Waits until the folders of all hosts are equal, byte for byte, and hold `paths` in number.
#[track_caller]
pub(crate) fn converge(lan: &Lan, kins: &mut [&mut Kin], limit: Duration, paths: usize) {
    let folders: Vec<_> = lan.hosts().iter().take(kins.len()).map(Host::shared).collect();
    let deadline = std::time::Instant::now() + limit;
    loop {
        for kin in kins.iter_mut() {
            kin.pump(Duration::from_millis(10));
        }
        let first = trees::listing(&folders[0]);
        let alike = first.len() == paths
            && folders[1..].iter().all(|f| trees::listing(f) == first)
            && folders[1..].iter().all(|f| trees::same(&folders[0], f));
        if alike {
            return;
        }
        if std::time::Instant::now() >= deadline {
            for folder in &folders[1..] {
                trees::assert_same(&folders[0], folder);
            }
            panic!("equal, but {} paths instead of {paths}: {:?}", first.len(), first.keys());
        }
    }
}

/// Waits until `path` of every host holds `text`.
#[track_caller]
pub(crate) fn everywhere(lan: &Lan, kins: &mut [&mut Kin], path: &str, text: &str) {
    pump_until(kins, lab::SHORT, &format!("{path} holds {text:?} everywhere"), |_| {
        lan.hosts().iter().all(|h| lab::files::holds(h.shared().join(path), text))
    });
}

/// Waits until `path` is gone from every host.
#[track_caller]
pub(crate) fn nowhere(lan: &Lan, kins: &mut [&mut Kin], path: &str) {
    pump_until(kins, lab::SHORT, &format!("{path} is gone everywhere"), |_| {
        lan.hosts().iter().all(|h| h.shared().join(path).symlink_metadata().is_err())
    });
}

/// Two devices that ask: both are shown the same words, and both say yes.
#[track_caller]
pub(crate) fn compare_and_accept(a: &mut Kin, b: &mut Kin) {
    let (at_a, at_b) = (a.expect("confirm"), b.expect("confirm"));
    assert!(at_a["sas"].as_str().is_some_and(|sas| !sas.is_empty()), "no SAS in {at_a}");
    assert_eq!(at_a["sas"], at_b["sas"], "both sides show the same words");
    assert_ne!(at_a["device"], at_b["device"], "each is asked about the other");
    a.answer(&at_a, true);
    b.answer(&at_b, true);
}

/// True for an event that says that somebody was refused.
pub(crate) fn is_refusal(event: &Value) -> bool {
    event["event"] == "error" && event["kind"] == "refused"
}

/// Stops all of them by Ctrl-C and expects a clean end of each.
#[track_caller]
pub(crate) fn stop_all(kins: &mut [&mut Kin]) {
    for kin in kins.iter_mut() {
        kin.stop();
    }
}

/// Everyone says yes to every question.
pub(crate) fn agreeable(command: KinCommand) -> Kin {
    command.start().answering(Answers::Yes)
}
