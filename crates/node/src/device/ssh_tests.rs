//! SSH between devices of a group (rule T23).
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the user, and look at the disk from outside"
)]

use std::fs;

use super::{
    tests::{Lab, pair},
    *,
};
use crate::api::{DeviceLine, SshAllow, SshReply, Which};

/// A public key that stands for a server's.
const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";

/// A device whose user has a home, on a machine with an SSH server.
pub(super) async fn lab(name: &'static str) -> Lab {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir(top.path().join("home")).unwrap();
    fs::create_dir(top.path().join("sshd")).unwrap();
    fs::write(top.path().join("sshd/sshd_config"), "Port 2222\n").unwrap();
    fs::write(top.path().join("sshd/ssh_host_ed25519_key.pub"), HOST_KEY).unwrap();
    let state = StateDir::open(&top.path().join("state")).unwrap();
    let config = top.path().join("sshd/sshd_config");
    let set = format!("sshd_config = {config:?}\n");
    state.create("ssh.toml", set.as_bytes()).unwrap();
    Lab::at(top, name).await
}

/// Pairs, and waits until both are ready for the next thing.
async fn pair_with(a: &Lab, b: &Lab, into: Which, ssh: [&[bool; 2]; 2]) {
    tests::pair_with(a, b, into, ssh).await;
    for lab in [a, b] {
        lab.until("its window is closed", || async {
            lab.device.hub.with(|hub| hub.free_to_pair().is_ok()).await == Some(true)
        })
        .await;
    }
}

pub(super) fn ssh_file(lab: &Lab, name: &str) -> String {
    fs::read_to_string(lab.top.path().join("home/.ssh").join(name)).unwrap_or_default()
}

/// Lines of a file that are for some device.
fn count(lab: &Lab, name: &str) -> usize {
    ssh_file(lab, name).matches("kinfold:kd1").count()
}

fn says(lab: &Lab, alias: &str) -> bool {
    ssh_file(lab, "kinfold_config").contains(&format!("Host {alias}\n"))
}

pub(super) async fn allow(
    lab: &Lab,
    device: &str,
    into: Option<bool>,
    out: Option<bool>,
) -> SshReply {
    let device = device.to_owned();
    lab.ask(Request::SshAllow(SshAllow {
        device,
        into_here: into,
        from_here: out,
        ..Default::default()
    }))
    .await
}

async fn id_of(lab: &Lab, name: &str) -> String {
    let devices = lab.devices().await;
    devices.into_iter().find(|one| one.name == name).unwrap().device
}

#[tokio::test(flavor = "multi_thread")]
async fn t23_what_both_said_when_they_paired_is_installed_when_it_is_over() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    // The desk lets the laptop in, and does not want to go there itself.
    pair_with(&desk, &lap, Which::Auto, [&[true, false], &[false, true]]).await;
    assert_eq!((count(&desk, "authorized_keys"), count(&desk, "known_hosts")), (1, 0));
    assert_eq!((count(&lap, "authorized_keys"), count(&lap, "known_hosts")), (0, 1));
    assert!(says(&lap, "desk") && !says(&desk, "lap"));
    assert!(ssh_file(&lap, "kinfold_config").contains("Port 2222\n"));
    let key = ssh_file(&lap, "kinfold_ed25519.pub");
    let key = key.split(' ').nth(1).unwrap();
    assert!(ssh_file(&desk, "authorized_keys").contains(key));
    assert!(ssh_file(&desk, "kinfold_ed25519").is_empty(), "no key is made that nobody asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn t23_membership_alone_installs_nothing_and_one_side_alone_neither() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    pair(&desk, &lap, Which::Auto).await;
    let (desk, lap) = (desk.restart().await, lap.restart().await);
    desk.until("they are linked", || async {
        desk.devices().await.iter().any(|one| !one.me && one.online)
    })
    .await;
    let nothing = |lab: &Lab| !lab.top.path().join("home/.ssh").exists();
    assert!(nothing(&desk) && nothing(&lap));
    // One side's person wants to; the other's has said no.
    let reply = allow(&lap, "desk", None, Some(true)).await;
    assert!(reply.linked && reply.wanted && !reply.allowed && reply.alias.is_none(), "{reply:?}");
    assert!(nothing(&desk), "nobody agreed there");
    assert!(!says(&lap, "desk"));
    // And now it has.
    let reply = allow(&desk, "lap", Some(true), None).await;
    assert!(reply.allowed && reply.installed && !reply.wanted, "{reply:?}");
    lap.until("it is set up on the other side, too", || async { says(&lap, "desk") }).await;
    assert_eq!((count(&desk, "authorized_keys"), count(&lap, "authorized_keys")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn t23_what_a_person_takes_back_stays_away() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    pair_with(&desk, &lap, Which::Auto, [&[true, true], &[true, true]]).await;
    assert!(says(&desk, "lap") && says(&lap, "desk"));
    let device = id_of(&desk, "lap").await;
    let _: serde_json::Value = desk.ask(Request::SshForget { device }).await;
    assert_eq!((count(&desk, "authorized_keys"), count(&desk, "known_hosts")), (0, 0));
    assert!(!says(&desk, "lap"));
    // The next link does not bring it back.
    let (desk, lap) = (desk.restart().await, lap.restart().await);
    let reply = allow(&lap, "desk", None, Some(true)).await;
    desk.until("they are linked", || async {
        desk.devices().await.iter().any(|one| !one.me && one.online)
    })
    .await;
    assert!(reply.wanted);
    let reply = allow(&desk, "lap", None, None).await;
    assert!(!reply.allowed && !reply.wanted, "{reply:?}");
    assert_eq!(count(&desk, "authorized_keys"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_21_a_removed_device_loses_ssh_on_every_device_that_hears_of_it() {
    let (desk, lap, tv) = (lab("desk").await, lab("lap").await, lab("tv").await);
    let both = [true; 2];
    pair_with(&desk, &lap, Which::Mine, [&both, &both]).await;
    pair_with(&desk, &tv, Which::Theirs, [&both, &both]).await;
    lap.until("it knows all three", || async { lap.names().await.len() == 3 }).await;
    assert_eq!((count(&desk, "authorized_keys"), count(&tv, "authorized_keys")), (2, 1));
    // The laptop let it in by another way: kin ssh pair, say.
    let gone = id_of(&desk, "tv").await;
    let keys = lap.top.path().join("home/.ssh/authorized_keys");
    let more = format!("{}{HOST_KEY} kinfold:{gone} tv\n", ssh_file(&lap, "authorized_keys"));
    fs::write(&keys, more).unwrap();
    // Lines of others are there, too, and stay.
    let keys = desk.top.path().join("home/.ssh/authorized_keys");
    let foreign = "ssh-rsa AAAA mine";
    fs::write(&keys, format!("{}{foreign}", ssh_file(&desk, "authorized_keys"))).unwrap();
    let removed: DeviceLine =
        desk.ask(Request::RemoveDevice { device: "tv".into(), group: None }).await;
    let _: Vec<String> = desk.ask(Request::SshSessions { device: removed.device.clone() }).await;
    assert!(!ssh_file(&desk, "authorized_keys").contains(&removed.device));
    assert!(ssh_file(&desk, "authorized_keys").ends_with(foreign));
    assert_eq!((count(&desk, "authorized_keys"), count(&desk, "known_hosts")), (1, 1));
    for lab in [&lap, &desk] {
        lab.until("it is taken away", || async {
            !["authorized_keys", "known_hosts", "kinfold_config"]
                .iter()
                .any(|name| ssh_file(lab, name).contains(&removed.device))
        })
        .await;
    }
    // And the removed device, once it hears of it, lets the others in no more.
    tv.until("it is taken away there", || async { count(&tv, "authorized_keys") == 0 }).await;
    assert!(says(&desk, "lap") && says(&lap, "desk"), "the others are left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_21_a_removal_that_was_not_finished_is_finished_at_the_next_start() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    pair_with(&desk, &lap, Which::Mine, [&[true; 2], &[true; 2]]).await;
    let before = ssh_file(&desk, "authorized_keys");
    let device = id_of(&desk, "lap").await;
    // The file cannot be changed while the removal is heard of: its place is taken by a directory.
    let keys = desk.top.path().join("home/.ssh/authorized_keys");
    fs::remove_file(&keys).unwrap();
    fs::create_dir(&keys).unwrap();
    let _: DeviceLine = desk.ask(Request::RemoveDevice { device: "lap".into(), group: None }).await;
    let _: Vec<String> = desk.ask(Request::SshSessions { device }).await;
    fs::remove_dir(&keys).unwrap();
    fs::write(&keys, before).unwrap();
    let desk = desk.restart().await;
    desk.until("it is taken away", || async { count(&desk, "authorized_keys") == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t23_who_leaves_takes_its_leave_with_it() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    pair_with(&desk, &lap, Which::Mine, [&[true; 2], &[true; 2]]).await;
    let _: serde_json::Value =
        lap.ask(Request::LeaveGroup { group: None, last_admin: false }).await;
    for lab in [&desk, &lap] {
        lab.until("nothing is left of it", || async {
            count(lab, "authorized_keys") + count(lab, "known_hosts") + count(lab, "kinfold_config")
                == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t23_all_means_the_present_admins() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    pair(&desk, &lap, Which::Mine).await;
    let of = |lines: Vec<DeviceLine>| lines.into_iter().map(|one| one.name).collect::<Vec<_>>();
    let found: Vec<DeviceLine> = desk.ask(Request::SshCandidates { group: None }).await;
    assert_eq!(of(found), ["lap"]);
    let role = "reader".to_owned();
    let _: DeviceLine =
        desk.ask(Request::SetRole { device: "lap".into(), role, group: None }).await;
    let found: Vec<DeviceLine> = desk.ask(Request::SshCandidates { group: None }).await;
    assert_eq!(of(found), Vec::<String>::new());
    // By name it can be let in all the same, on terms.
    let bounded = SshAllow {
        device: "lap".into(),
        into_here: Some(true),
        expires: Some(4_000_000_000),
        networks: vec!["10.0.0.0/8".into()],
        ..SshAllow::default()
    };
    let _: SshReply = desk.ask(Request::SshAllow(bounded.clone())).await;
    allow(&lap, "desk", None, Some(true)).await;
    desk.until("it is let in", || async { count(&desk, "authorized_keys") == 1 }).await;
    let line = ssh_file(&desk, "authorized_keys");
    assert!(line.starts_with("from=\"10.0.0.0/8\",expiry-time=\"20961002070640Z\" ssh-"), "{line}");
    for bad in ["10.0.0.1/8", "x", "10.0.0.0/8\",command=\"sh"] {
        let networks = vec![bad.to_owned()];
        let failure = desk.fails(Request::SshAllow(SshAllow { networks, ..bounded.clone() })).await;
        assert_eq!(failure.kind, "subnet", "{bad}");
    }
    let over = SshAllow { expires: Some(1), networks: Vec::new(), ..bounded };
    let reply: SshReply = desk.ask(Request::SshAllow(over)).await;
    assert!(!reply.installed, "a leave whose end has come is none: {reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_ssh_follows_a_device_to_its_new_key() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    pair_with(&desk, &lap, Which::Mine, [&[true; 2], &[true; 2]]).await;
    let old = id_of(&desk, "lap").await;
    let line: DeviceLine = lap.ask(Request::RotateKey).await;
    assert_ne!(line.device, old);
    desk.until("its lines name the new id", || async {
        let keys = ssh_file(&desk, "authorized_keys");
        keys.contains(&line.device) && !keys.contains(&old)
    })
    .await;
    assert!(says(&desk, "lap") && !says(&desk, "lap-2"), "the name stays");
    assert_eq!((count(&desk, "authorized_keys"), count(&desk, "known_hosts")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn t23_what_a_person_has_narrowed_stays_so() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    pair_with(&desk, &lap, Which::Mine, [&[true; 2], &[true; 2]]).await;
    let keys = desk.top.path().join("home/.ssh/authorized_keys");
    let narrowed = format!("restrict,command=\"true\" {}", ssh_file(&desk, "authorized_keys"));
    fs::write(&keys, &narrowed).unwrap();
    let (desk, lap) = (desk.restart().await, lap.restart().await);
    desk.until("they are linked", || async {
        desk.devices().await.iter().any(|one| !one.me && one.online)
    })
    .await;
    // It says its key again, and hears where the server is again.
    let reply = allow(&lap, "desk", None, Some(true)).await;
    assert_eq!(reply.alias.as_deref(), Some("desk"), "{reply:?}");
    assert_eq!(ssh_file(&desk, "authorized_keys"), narrowed);
    // Other terms of its person's are a new line.
    let bounded = SshAllow {
        device: "lap".into(),
        into_here: Some(true),
        networks: vec!["10.0.0.0/8".into()],
        ..SshAllow::default()
    };
    let _: SshReply = desk.ask(Request::SshAllow(bounded)).await;
    desk.until("it is written", || async {
        ssh_file(&desk, "authorized_keys").starts_with("from=\"10.0.0.0/8\" ssh-")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t23_what_was_said_for_a_pairing_is_forgotten_with_it() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    pair_with(&desk, &lap, Which::Mine, [&[true; 2], &[true; 2]]).await;
    let together: DeviceId = id_of(&desk, "lap").await.parse().unwrap();
    let stranger = DeviceId([7; 32]);
    let said = desk
        .device
        .hub
        .with(move |hub| {
            let consent = hub.store.ssh_consent(&together).unwrap().unwrap();
            hub.store.put_ssh(&stranger, &consent, 1).unwrap();
            [stranger, together].map(|device| {
                hub.forget_join(&device);
                hub.store.ssh_consent(&device).unwrap().is_some()
            })
        })
        .await
        .unwrap();
    assert_eq!(said, [false, true], "what holds for a member stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_device_that_ends_is_not_kept() {
    let desk = lab("desk").await;
    let kept = desk
        .device
        .hub
        .with(|hub| {
            let set = |hub: &mut hub::Hub, key: &'static str| {
                let work = |hub: &mut hub::Hub| Ok(hub.store.set(key, b"yes")?);
                let done = hub.at_once(work).is_ok();
                (done, hub.store.setting(key).unwrap().is_some())
            };
            let goes_on = set(hub, "one");
            hub.stopping = Some(Vec::new());
            let ends = set(hub, "two");
            hub.stopping = None;
            (goes_on, ends)
        })
        .await
        .unwrap();
    assert_eq!(kept, ((true, true), (false, false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_rotated_meanwhile_is_told_anew() {
    let (desk, lap) = (lab("desk").await, lab("lap").await);
    pair(&desk, &lap, Which::Mine).await;
    let (desk, lap) = (desk.restart().await, lap.restart().await);
    desk.until("they are linked", || async {
        desk.devices().await.iter().any(|one| !one.me && one.online)
    })
    .await;
    // It has said its key; the other side's person lets it in much later.
    allow(&lap, "desk", None, Some(true)).await;
    let state = StateDir::open(&lap.top.path().join("state")).unwrap();
    let settings = String::from_utf8(state.read("ssh.toml").unwrap().unwrap()).unwrap();
    state.replace("ssh.toml", format!("key_kind = \"rsa\"\n{settings}").as_bytes()).unwrap();
    allow(&desk, "lap", Some(true), None).await;
    lap.until("it is reached", || async { says(&lap, "desk") }).await;
    assert!(ssh_file(&lap, "kinfold_config").contains("kinfold_rsa\""));
    assert!(ssh_file(&desk, "authorized_keys").starts_with("ssh-rsa "), "the key that it uses");
    // Once there is one that it is reached by, that one is said, whatever is made beside it.
    state.replace("ssh.toml", settings.as_bytes()).unwrap();
    let reply = allow(&lap, "desk", None, Some(true)).await;
    assert_eq!(reply.alias.as_deref(), Some("desk"));
    assert!(ssh_file(&lap, "kinfold_config").contains("kinfold_rsa\""));
    assert!(ssh_file(&desk, "authorized_keys").starts_with("ssh-rsa "));
}
