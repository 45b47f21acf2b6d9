//! Devices of one process, linked over loopback.
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the user, and look at the disk from outside"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::api::{DeviceLine, FolderLine, FolderState, GroupLine, Which};

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A device with its state and its directories.
pub(super) struct Lab {
    pub(super) top: TempDir,
    pub(super) name: &'static str,
    pub(super) device: Device,
    pub(super) port: u16,
}

impl Lab {
    pub(super) async fn new(name: &'static str) -> Self {
        Self::at(tempfile::tempdir().unwrap(), name).await
    }

    /// In a directory that may hold a home already, whose SSH files are then the user's.
    pub(super) async fn at(top: TempDir, name: &'static str) -> Self {
        let (device, _) = open(&top.path().join("state"), settings(&top, name)).unwrap();
        let port = go_online(&device).await;
        Self { top, name, device, port }
    }

    /// Stops the device and starts it again on its state.
    pub(super) async fn restart(mut self) -> Self {
        self.device.stop().await;
        let state = self.top.path().join("state");
        (self.device, _) = open(&state, settings(&self.top, self.name)).unwrap();
        let online = Online { port: self.port, port_is_required: true, discovery: false };
        self.port = self.device.go_online(online).await.unwrap();
        self
    }

    /// Stops the device, and has it do something while it reaches nobody.
    pub(super) async fn alone(&mut self, request: Request) {
        self.device.stop().await;
        (self.device, _) =
            open(&self.top.path().join("state"), settings(&self.top, self.name)).unwrap();
        let _: serde_json::Value = self.ask(request).await;
    }

    pub(super) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.top.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub(super) async fn ask<T: serde::de::DeserializeOwned>(&self, request: Request) -> T {
        let value = self.device.request(request).await.unwrap();
        serde_json::from_value(value).unwrap()
    }

    pub(super) async fn fails(&self, request: Request) -> Failure {
        self.device.request(request).await.unwrap_err()
    }

    pub(super) async fn devices(&self) -> Vec<DeviceLine> {
        self.ask(Request::Devices { group: None }).await
    }

    pub(super) async fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.devices().await.into_iter().map(|one| one.name).collect();
        names.sort();
        names
    }

    /// Waits until something holds, looking again at each event.
    pub(super) async fn until<F: Future<Output = bool>>(
        &self,
        what: &str,
        mut holds: impl FnMut() -> F,
    ) {
        let mut events = self.device.stream(Request::Events).await.unwrap();
        let waiting = async {
            while !holds().await {
                // An event may come before what it tells of can be seen.
                let _ = timeout(Duration::from_millis(200), events.recv()).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            let status: serde_json::Value = self.ask(Request::Status).await;
            panic!("{}: {what} did not come about: {status:#}", self.name);
        }
    }

    pub(super) async fn share(&self, name: &str) -> PathBuf {
        let dir = self.dir(name);
        let (name, group) = (Some(name.to_owned()), None);
        let mode = crate::api::FolderMode::Both;
        let _: serde_json::Value =
            self.ask(Request::Share { dir: dir.clone(), name, group, mode }).await;
        dir
    }

    pub(super) async fn join(&self, name: &str) -> PathBuf {
        let dir = self.dir(name);
        let folder = name.to_owned();
        let mode = crate::api::FolderMode::Both;
        let _: serde_json::Value = self.ask(Request::Join { folder, dir: dir.clone(), mode }).await;
        dir
    }

    pub(super) async fn knows_folder(&self, name: &str) {
        self.until("the folder is known", || async {
            let folders: Vec<FolderLine> = self.ask(Request::Folders).await;
            folders.iter().any(|folder| folder.name == name)
        })
        .await;
    }

    pub(super) async fn file(&self, path: &Path, contents: &str) {
        self.until(&format!("{} says {contents:?}", path.display()), || async {
            fs::read_to_string(path).is_ok_and(|found| found == contents)
        })
        .await;
    }
}

fn settings(top: &TempDir, name: &str) -> Settings {
    let home = top.path().join("home");
    let ssh = if home.exists() { SshHome::At(home) } else { SshHome::Nowhere };
    Settings { ssh, ..Settings::new(name) }
}

/// On a port that is free still when the device has been away: those that the system gives out belong to somebody's
/// outgoing connection the moment after.
pub(super) async fn go_online(device: &Device) -> u16 {
    loop {
        let port = 10_000 + u16::from_le_bytes(random().unwrap()) % 20_000;
        let online = Online { port, port_is_required: true, discovery: false };
        match device.go_online(online).await {
            Err(failure) if failure.kind == "port_in_use" => {}
            other => return other.unwrap(),
        }
    }
}

/// The next event that is one of these; all others are passed over.
pub(super) async fn next(
    events: &mut mpsc::Receiver<ApiEvent>,
    wanted: impl Fn(&ApiEvent) -> bool,
) -> ApiEvent {
    let found = async {
        loop {
            let event = events.recv().await.expect("the stream goes on");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, found).await.expect("it comes")
}

fn is_question(event: &ApiEvent) -> bool {
    matches!(
        event,
        ApiEvent::Confirm { .. }
            | ApiEvent::Ask { .. }
            | ApiEvent::Paired { .. }
            | ApiEvent::Refused { .. }
            | ApiEvent::Timeout
            | ApiEvent::Pending { .. }
    )
}

pub(super) async fn answer(lab: &Lab, id: u32, yes: bool) {
    lab.device.request(Request::Answer { id, yes }).await.unwrap();
}

/// Both ends of a pairing by address, answered yes; the strings that were shown.
pub(super) async fn pair(a: &Lab, b: &Lab, into: Which) -> (String, String) {
    pair_with(a, b, into, [&[false; 2], &[false; 2]]).await
}

/// The same, with what either person says of SSH: may the other log in here, shall this device there.
pub(super) async fn pair_with(
    a: &Lab,
    b: &Lab,
    into: Which,
    ssh: [&[bool; 2]; 2],
) -> (String, String) {
    let options = |host: Option<String>, into| PairLan { host, into, ..PairLan::default() };
    let nowhere = Some("127.0.0.1:9".to_owned());
    let mut at_a = a.device.stream(Request::Pair(options(nowhere, Which::Auto))).await.unwrap();
    let host = Some(format!("127.0.0.1:{}", a.port));
    let mut at_b = b.device.stream(Request::Pair(options(host, into))).await.unwrap();
    let mut strings = Vec::new();
    let mut open = [true, true];
    while open != [false, false] {
        for (number, (lab, events)) in [(a, &mut at_a), (b, &mut at_b)].into_iter().enumerate() {
            if !open[number] {
                continue;
            }
            match next(events, is_question).await {
                ApiEvent::Confirm { id, sas, .. } => {
                    strings.push(sas);
                    answer(lab, id, true).await;
                }
                ApiEvent::Ask { id, direction, .. } => {
                    answer(lab, id, ssh[number][usize::from(direction == "out")]).await;
                }
                ApiEvent::Paired { .. } => open[number] = false,
                other => panic!("{}: {other:?}", lab.name),
            }
        }
    }
    (strings.remove(0), strings.remove(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn t3_two_devices_pair_share_and_stay_in_step() {
    let (laptop, nas) = (Lab::new("laptop").await, Lab::new("nas").await);
    let (here, there) = pair(&laptop, &nas, Which::Auto).await;
    assert_eq!(here, there, "both show the same");
    assert_eq!(laptop.names().await, ["laptop", "nas"]);
    assert_eq!(nas.names().await, ["laptop", "nas"]);

    let source = laptop.share("Documents").await;
    fs::write(source.join("letter"), "dear").unwrap();
    nas.knows_folder("Documents").await;
    let target = nas.join("Documents").await;
    nas.file(&target.join("letter"), "dear").await;
    fs::write(target.join("answer"), "no").unwrap();
    laptop.file(&source.join("answer"), "no").await;

    // Both restart; edits made meanwhile arrive.
    let nas = nas.restart().await;
    fs::write(source.join("letter"), "dearest").unwrap();
    nas.file(&target.join("letter"), "dearest").await;
    let laptop = laptop.restart().await;
    fs::write(target.join("answer"), "yes").unwrap();
    laptop.file(&source.join("answer"), "yes").await;
    laptop
        .until("the folder is idle", || async {
            let folders: Vec<FolderLine> = laptop.ask(Request::Folders).await;
            folders[0].state == FolderState::Idle && folders[0].files == 2
        })
        .await;
    laptop.device.stop().await;
    nas.device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_21_a_removed_device_is_cut_off_everywhere() {
    let (laptop, nas, phone) =
        (Lab::new("laptop").await, Lab::new("nas").await, Lab::new("phone").await);
    pair(&laptop, &nas, Which::Auto).await;
    pair(&laptop, &phone, Which::Theirs).await;
    nas.until("phone is known", || async { nas.names().await == ["laptop", "nas", "phone"] }).await;
    let source = laptop.share("Photos").await;
    phone.knows_folder("Photos").await;
    let target = phone.join("Photos").await;
    fs::write(source.join("one"), "1").unwrap();
    phone.file(&target.join("one"), "1").await;

    let gone = Request::RemoveDevice { device: "phone".to_owned(), group: None };
    let _: serde_json::Value = laptop.ask(gone).await;
    nas.until("phone is gone", || async { nas.names().await == ["laptop", "nas"] }).await;
    phone
        .until("phone knows that it was removed", || async {
            let groups: Vec<GroupLine> = phone.ask(Request::Groups).await;
            groups.iter().all(|group| group.role == "removed")
        })
        .await;
    fs::write(source.join("two"), "2").unwrap();
    phone
        .until("its folder stopped", || async {
            let folders: Vec<FolderLine> = phone.ask(Request::Folders).await;
            folders[0].state == FolderState::Stopped
        })
        .await;
    // It dials again after a restart, and is let in nowhere.
    let phone = phone.restart().await;
    let status: serde_json::Value = laptop.ask(Request::Status).await;
    assert!(!target.join("two").exists(), "{status:#}");
    let devices = phone.devices().await;
    assert!(devices.iter().all(|device| device.me || !device.online), "{devices:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_neither_holds_the_devices_keys_nor_overlaps_another_by_a_link() {
    let lab = Lab::new("laptop").await;
    let share = |dir: PathBuf| Request::Share {
        dir,
        name: Some("Home".to_owned()),
        group: None,
        mode: crate::api::FolderMode::Both,
    };
    for dir in [lab.top.path().to_owned(), lab.top.path().join("state")] {
        assert_eq!(lab.fails(share(dir.clone())).await.kind, "holds_keys");
        assert!(!dir.join(".kin").exists());
    }
    lab.share("outer").await;
    fs::create_dir(lab.dir("outer").join("inner")).unwrap();
    std::os::unix::fs::symlink("outer", lab.top.path().join("link")).unwrap();
    for dir in ["link", "link/inner"] {
        assert_eq!(lab.fails(share(lab.top.path().join(dir))).await.kind, "nested", "{dir}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_a_no_on_one_side_leaves_nothing_on_either() {
    let (a, b) = (Lab::new("a").await, Lab::new("b").await);
    let nowhere = PairLan { host: Some("127.0.0.1:9".to_owned()), ..PairLan::default() };
    let mut at_a = a.device.stream(Request::Pair(nowhere)).await.unwrap();
    let host = Some(format!("127.0.0.1:{}", a.port));
    let mut at_b =
        b.device.stream(Request::Pair(PairLan { host, ..PairLan::default() })).await.unwrap();
    let ApiEvent::Confirm { id, .. } = next(&mut at_a, is_question).await else { panic!() };
    let ApiEvent::Confirm { id: other, .. } = next(&mut at_b, is_question).await else { panic!() };
    answer(&b, other, true).await;
    answer(&a, id, false).await;
    let refused = |event: &ApiEvent| matches!(event, ApiEvent::Refused { .. });
    next(&mut at_a, refused).await;
    next(&mut at_b, refused).await;
    for lab in [&a, &b] {
        lab.until("nothing is left", || async {
            let joins: Vec<serde_json::Value> = lab.ask(Request::PairStatus).await;
            lab.devices().await.is_empty() && joins.is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t9_one_side_may_think_longer_about_ssh_than_the_other() {
    for slow in [0, 1] {
        let labs = [Lab::new("a").await, Lab::new("b").await];
        let host =
            |port: u16| PairLan { host: Some(format!("127.0.0.1:{port}")), ..PairLan::default() };
        let mut streams = [
            labs[0].device.stream(Request::Pair(host(9))).await.unwrap(),
            labs[1].device.stream(Request::Pair(host(labs[0].port))).await.unwrap(),
        ];
        for (lab, events) in labs.iter().zip(&mut streams) {
            let ApiEvent::Confirm { id, .. } = next(events, is_question).await else { panic!() };
            answer(lab, id, true).await;
        }
        for side in [1 - slow, slow] {
            for _ in 0..2 {
                let event = next(&mut streams[side], is_question).await;
                let ApiEvent::Ask { id, .. } = event else { panic!("{slow} {side}: {event:?}") };
                answer(&labs[side], id, false).await;
            }
        }
        for events in &mut streams {
            let end = next(events, is_question).await;
            assert!(matches!(end, ApiEvent::Paired { .. }), "{slow}: {end:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_says_first_what_it_would_do_and_old_deletions_stay_with_their_folder() {
    let (a, b) = (Lab::new("a").await, Lab::new("b").await);
    pair(&a, &b, Which::Theirs).await;
    let source = a.share("Documents").await;
    fs::write(source.join("kept"), "1").unwrap();
    fs::write(source.join("gone"), "2").unwrap();
    b.knows_folder("Documents").await;
    // A directory that is still to be made, and one that holds something.
    let plan = async |dir: PathBuf| -> crate::api::Plan {
        b.ask(Request::JoinPlan { folder: "Documents".to_owned(), dir }).await
    };
    let missing = b.top.path().join("Documents");
    let adds = crate::api::Plan { adds: 2, known: true, ..crate::api::Plan::default() };
    assert_eq!(plan(missing.clone()).await, adds);
    assert!(!missing.exists(), "looking makes nothing");
    let other = b.dir("other");
    fs::write(other.join("kept"), "1").unwrap();
    fs::write(other.join("gone"), "not 2").unwrap();
    fs::write(other.join("own"), "3").unwrap();
    let mixed =
        crate::api::Plan { conflicts: 1, sends: 1, known: true, ..crate::api::Plan::default() };
    assert_eq!(plan(other.clone()).await, mixed);
    assert_eq!(fs::read_to_string(other.join("gone")).unwrap(), "not 2");
    assert!(!source.join("own").exists(), "looking sends nothing");
    let left = fs::read_dir(other.join(".kin")).map(|left| left.flatten().collect::<Vec<_>>());
    assert!(left.is_err(), "looking leaves nothing: {left:?}");

    let target = b.join("Documents").await;
    b.file(&target.join("gone"), "2").await;
    fs::remove_file(source.join("gone")).unwrap();
    b.until("the deletion is there", || async { !target.join("gone").exists() }).await;
    // The same directory, shared anew: what was deleted in the old folder says nothing about the new one.
    let unshare = Request::Unshare { folder: "Documents".to_owned() };
    let _: serde_json::Value = a.ask(unshare).await;
    // By the name under which it is listed now.
    let forget = Request::Forget { folder: "Documents".to_owned() };
    let _: serde_json::Value = a.ask(forget).await;
    let share = Request::Share {
        dir: source.clone(),
        name: Some("Anew".to_owned()),
        group: None,
        mode: crate::api::FolderMode::Both,
    };
    let mut shared = a.device.request(share.clone()).await;
    while shared.as_ref().is_err_and(|failure| failure.kind == "in_use") {
        // The old one still finishes.
        tokio::task::yield_now().await;
        shared = a.device.request(share.clone()).await;
    }
    shared.unwrap();
    b.knows_folder("Anew").await;
    let anew = b.dir("Anew");
    fs::write(anew.join("gone"), "2").unwrap();
    b.join("Anew").await;
    a.file(&source.join("gone"), "2").await;
    b.file(&anew.join("kept"), "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_21_a_folder_is_not_reached_by_way_of_another_group() {
    let (laptop, phone) = (Lab::new("laptop").await, Lab::new("phone").await);
    pair(&laptop, &phone, Which::Theirs).await;
    let old: Vec<GroupLine> = laptop.ask(Request::Groups).await;
    let source = laptop.share("Photos").await;
    phone.knows_folder("Photos").await;
    let target = phone.join("Photos").await;
    fs::write(source.join("one"), "1").unwrap();
    phone.file(&target.join("one"), "1").await;
    // A new group with the same folder, without the phone, which still is in the old one.
    let rescue = Request::RescueGroup { group: None, devices: vec!["laptop".to_owned()] };
    let _: GroupLine = laptop.ask(rescue).await;
    laptop
        .until("the folder runs in the new group", || async {
            let folders: Vec<FolderLine> = laptop.ask(Request::Folders).await;
            folders.iter().any(|one| one.dir.is_some() && one.state == FolderState::Idle)
        })
        .await;
    fs::write(source.join("secret"), "2").unwrap();
    // The link still serves the old group.
    let other = laptop.dir("Other");
    let share = Request::Share {
        dir: other.clone(),
        name: Some("Other".to_owned()),
        group: Some(old[0].name.clone()),
        mode: crate::api::FolderMode::Both,
    };
    let _: FolderLine = laptop.ask(share).await;
    fs::write(other.join("three"), "3").unwrap();
    phone.knows_folder("Other").await;
    let there = phone.join("Other").await;
    phone.file(&there.join("three"), "3").await;
    assert!(!target.join("secret").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_without_a_window_leads_nowhere() {
    let (a, b) = (Lab::new("a").await, Lab::new("b").await);
    let host = Some(format!("127.0.0.1:{}", a.port));
    let options = PairLan { host, timeout: Some(2), ..PairLan::default() };
    let mut events = b.device.stream(Request::Pair(options)).await.unwrap();
    let end = next(&mut events, is_question).await;
    assert_eq!(end, ApiEvent::Timeout);
    assert!(a.devices().await.is_empty() && b.devices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_a_group_without_an_admin_by_accident() {
    let (a, b) = (Lab::new("a").await, Lab::new("b").await);
    pair(&a, &b, Which::Theirs).await;
    let demote = |device: &str| Request::SetRole {
        device: device.to_owned(),
        role: "reader".to_owned(),
        group: None,
    };
    let _: serde_json::Value = a.ask(demote("b")).await;
    assert_eq!(a.fails(demote("a")).await.kind, "last_admin");
    let leave = Request::LeaveGroup { group: None, last_admin: false };
    assert_eq!(a.fails(leave).await.kind, "last_admin");
    b.until("b is a reader", || async {
        b.devices().await.iter().any(|device| device.me && device.role == "reader")
    })
    .await;
    assert_eq!(b.fails(demote("a")).await.kind, "not_admin");
}

#[test]
fn a_host_without_a_port_is_dialled_at_the_usual_one() {
    for (given, meant) in [
        ("nas", "nas:9001"),
        ("nas:7", "nas:7"),
        ("10.0.0.7", "10.0.0.7:9001"),
        ("10.0.0.7:7", "10.0.0.7:7"),
        ("fe80::1", "[fe80::1]:9001"),
        ("[fe80::1]", "[fe80::1]:9001"),
        ("[fe80::1]:7", "[fe80::1]:7"),
    ] {
        assert_eq!(with_port(given), meant, "{given}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_second_process_on_the_same_state_is_told_so() {
    let lab = Lab::new("a").await;
    let second = open(&lab.top.path().join("state"), Settings::new("a")).unwrap_err();
    assert_eq!(second.kind, "in_use");
    assert!(second.message.contains(&std::process::id().to_string()), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_lost_or_emptied_is_not_taken_for_a_new_devices() {
    let lab = Lab::new("desk").await;
    lab.share("Documents").await;
    lab.device.stop().await;
    let dir = lab.top.path().join("state");
    let gone = |left: Option<&str>| {
        for end in ["", "-wal", "-shm"] {
            // The last two are there only while it runs.
            let _ = fs::remove_file(dir.join(format!("state.db{end}")));
        }
        if let Some(left) = left {
            state_file(&dir, "state.db", left);
        }
        open(&dir, settings(&lab.top, "desk")).unwrap_err()
    };
    for left in [None, Some("")] {
        let failed = gone(left);
        assert_eq!((&*failed.kind, failed.exit), ("state", 1), "{failed}");
        assert!(failed.message.contains("state.db"), "{failed}");
        assert!(failed.hint.contains("from a backup"), "{}", failed.hint);
    }
    // A person says that it is meant.
    fs::remove_file(dir.join("state.db")).unwrap();
    fs::remove_file(dir.join("state.used")).unwrap();
    open(&dir, settings(&lab.top, "desk")).unwrap().0.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_in_no_group_may_begin_anew() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("state");
    open(&dir, settings(&top, "desk")).unwrap().0.stop().await;
    state_file(&dir, "state.db", "");
    open(&dir, settings(&top, "desk")).unwrap().0.stop().await;
    fs::remove_file(dir.join("state.db")).unwrap();
    open(&dir, settings(&top, "desk")).unwrap().0.stop().await;
}

fn state_file(dir: &Path, name: &str, text: &str) {
    StateDir::open(dir).unwrap().replace(name, text.as_bytes()).unwrap();
}
