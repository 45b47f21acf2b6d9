//! What is said of folders, and what is asked of them, between devices of one process.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests play the user, and look at the disk from outside"
)]

use std::{fs, path::Path};

use super::{
    tests::{Lab, go_online, pair},
    *,
};
use crate::api::{
    FolderLine, FolderMode, FolderState, GroupLine, LocalLine, ShareCode, StatusReply, Which,
    WhyReply,
};

async fn reader() -> (Lab, Lab) {
    let (laptop, phone) = (Lab::new("laptop").await, Lab::new("phone").await);
    pair(&laptop, &phone, Which::Theirs).await;
    let (device, role) = ("phone".to_owned(), "reader".to_owned());
    let _: serde_json::Value = laptop.ask(Request::SetRole { device, role, group: None }).await;
    let is_reader = || async {
        phone.devices().await.iter().any(|device| device.me && device.role == "reader")
    };
    phone.until("it is a reader", is_reader).await;
    (laptop, phone)
}

async fn kinds(lab: &Lab) -> Vec<String> {
    let status: StatusReply = lab.ask(Request::Status).await;
    status.errors.into_iter().map(|error| error.kind).collect()
}

async fn line(lab: &Lab) -> FolderLine {
    let mut folders: Vec<FolderLine> = lab.ask(Request::Folders).await;
    folders.remove(0)
}

async fn local_only(lab: &Lab, count: usize) {
    lab.until(&format!("{count} changes are shown"), || async {
        kinds(lab).await.iter().filter(|kind| *kind == "local_only").count() == count
    })
    .await;
}

/// Rule T15: what only this device has is shown as long as that is so, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn t15_changes_of_a_reader_are_shown_over_restarts_and_until_they_are_none() {
    let (laptop, phone) = reader().await;
    let source = laptop.share("Documents").await;
    fs::write(source.join("letter"), "dear").unwrap();
    phone.knows_folder("Documents").await;
    let target = phone.join("Documents").await;
    phone.file(&target.join("letter"), "dear").await;
    fs::write(target.join("letter"), "scribbled on").unwrap();
    fs::write(target.join("added"), "here alone").unwrap();
    local_only(&phone, 2).await;
    let phone = phone.restart().await;
    local_only(&phone, 2).await;
    // One is taken back.
    let folder = "Documents".to_owned();
    let paths = vec!["letter".to_owned()];
    let before: Vec<LocalLine> = phone.ask(Request::Revert { folder, paths }).await;
    assert_eq!(before.len(), 2);
    local_only(&phone, 1).await;
    phone.file(&target.join("letter"), "dear").await;
    // The other one is what the others have, too, once it is shared.
    let (device, role) = ("phone".to_owned(), "writer".to_owned());
    let _: serde_json::Value = laptop.ask(Request::SetRole { device, role, group: None }).await;
    local_only(&phone, 0).await;
    laptop.file(&source.join("added"), "here alone").await;
}

/// Rule E19: what was agreed to is not asked about any more.
#[tokio::test(flavor = "multi_thread")]
async fn e19_deletions_that_were_agreed_to_are_held_no_more() {
    let lab = Lab::new("laptop").await;
    let dir = lab.dir("Photos");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 86_400);
    for number in 0..40 {
        let file = fs::File::create(dir.join(number.to_string())).unwrap();
        std::io::Write::write_all(&mut &file, format!("{number}").as_bytes()).unwrap();
        file.set_modified(old).unwrap();
    }
    lab.share("Photos").await;
    lab.until("it is known", || async { line(&lab).await.files == 40 }).await;
    lab.device.stop().await;
    for number in 0..40 {
        fs::remove_file(dir.join(number.to_string())).unwrap();
    }
    let lab = lab.restart().await;
    lab.until("they are held", || async { kinds(&lab).await.contains(&"brake".to_owned()) }).await;
    let resume = Request::Resume { folder: "Photos".into(), accept_deletes: true };
    let _: serde_json::Value = lab.ask(resume).await;
    lab.until("they are not", || async { kinds(&lab).await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_does_not_run_says_why() {
    let lab = Lab::new("laptop").await;
    lab.share("Photos").await;
    let why = || Request::Why { folder: "Photos".into(), path: "a".into() };
    lab.until("it runs", || async { lab.device.request(why()).await.is_ok() }).await;
    // Another mode: it begins anew, which is not that the device does not run.
    let mode = Request::SetMode { folder: "Photos".into(), mode: FolderMode::Send };
    let set: FolderLine = lab.ask(mode).await;
    assert_eq!((set.state, set.reason), (FolderState::Scanning, None));
    let _: serde_json::Value = lab.ask(Request::Pause { folder: "Photos".into() }).await;
    let paused = lab.fails(why()).await;
    assert_eq!(paused.message, "Photos is paused");
    let word = lab.dir("Photos").display().to_string();
    assert!(paused.hint.contains(&format!("kin folders resume {word}")), "{paused}");
    let Lab { top, device, .. } = lab;
    device.stop().await;
    let (device, _) = open(&top.path().join("state"), Settings::new("laptop")).unwrap();
    let _ =
        device.request(Request::Resume { folder: "Photos".into(), accept_deletes: false }).await;
    let failed = device.request(why()).await.unwrap_err();
    assert!(failed.message.contains("the device does not run"), "{failed}");
    assert!(failed.hint.contains("kin up"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_folder_that_only_sends_overrides_the_others() {
    let lab = Lab::new("laptop").await;
    lab.share("Photos").await;
    let failed = lab.fails(Request::Override { folder: "Photos".into(), paths: vec![] }).await;
    assert_eq!((failed.kind.as_str(), failed.exit), ("mode", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_its_group_took_back_keeps_its_name() {
    let lab = Lab::new("laptop").await;
    let dir = lab.dir("pictures");
    let name = Some("Photos".to_owned());
    let share = Request::Share { dir, name, group: None, mode: FolderMode::Both };
    let _: serde_json::Value = lab.ask(share).await;
    let _: serde_json::Value = lab.ask(Request::Unshare { folder: "Photos".into() }).await;
    let gone = line(&lab).await;
    assert_eq!(gone.name, "Photos");
    // By its directory: another group may have a folder of that name, too.
    let word = lab.dir("pictures").display().to_string();
    let hint = format!("kin folders forget {word}");
    assert!(gone.reason.is_some_and(|reason| reason.ends_with(&hint)));
    let _: serde_json::Value = lab.ask(Request::Forget { folder: word }).await;
    assert!(lab.ask::<Vec<FolderLine>>(Request::Folders).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_joins_nothing() {
    let (laptop, phone) = (Lab::new("laptop").await, Lab::new("phone").await);
    pair(&laptop, &phone, Which::Theirs).await;
    laptop.share("Documents").await;
    phone.knows_folder("Documents").await;
    let remove = Request::RemoveDevice { device: "phone".into(), group: None };
    let _: serde_json::Value = laptop.ask(remove).await;
    let is_out = || async {
        phone.ask::<Vec<GroupLine>>(Request::Groups).await.iter().any(|one| one.role == "removed")
    };
    phone.until("it knows", is_out).await;
    let dir = phone.top.path().join("docs");
    let join =
        Request::Join { folder: "Documents".into(), dir: dir.clone(), mode: FolderMode::Both };
    let failed = phone.fails(join).await;
    assert_eq!((failed.kind.as_str(), failed.exit), ("removed", 2), "{failed}");
    assert!(!dir.exists(), "nothing was made");
}

async fn used(lab: &Lab) -> Vec<String> {
    let groups: Vec<GroupLine> = lab.ask(Request::Groups).await;
    groups.into_iter().filter(|group| group.used).map(|group| group.name).collect()
}

async fn issue(lab: &Lab, dir: &Path) -> crate::api::IssuedCode {
    let (folder, dir) = (dir.to_string_lossy().into_owned(), Some(dir.to_owned()));
    lab.ask(Request::ShareCode(ShareCode { folder, dir, ..ShareCode::default() })).await
}

/// Rule T14: a code makes a group of its own, and commands go on meaning the one that they meant.
#[tokio::test(flavor = "multi_thread")]
async fn t14_a_group_that_comes_with_a_code_is_not_the_one_in_use() {
    let lab = Lab::new("laptop").await;
    lab.share("Documents").await;
    assert_eq!(used(&lab).await, ["laptop"]);
    let code = issue(&lab, &lab.dir("Photos")).await;
    assert_eq!((used(&lab).await, &*code.group), (vec!["laptop".to_owned()], "Photos"));
    lab.share("Music").await;
    let folders: Vec<FolderLine> = lab.ask(Request::Folders).await;
    assert!(folders.iter().any(|folder| folder.name == "Music" && folder.group == "laptop"));
}

/// What is ignored the index does not know: the disk says whether it is here.
#[tokio::test(flavor = "multi_thread")]
async fn why_says_what_is_on_the_disk() {
    let lab = Lab::new("laptop").await;
    let dir = lab.share("Photos").await;
    fs::write(dir.join(".kinignore"), "*.tmp\n").unwrap();
    fs::write(dir.join("a.tmp"), "ignored").unwrap();
    let why = |path: &str| Request::Why { folder: "Photos".into(), path: path.into() };
    let is_ignored = |path: &'static str| {
        let lab = &lab;
        async move {
            let told: Result<serde_json::Value, _> = lab.device.request(why(path)).await;
            told.is_ok_and(|told| told["rule"] == "E11")
        }
    };
    lab.until("it is ignored", || is_ignored("a.tmp")).await;
    let told: WhyReply = lab.ask(why("a.tmp")).await;
    assert!(told.here, "{told:?}");
    let told: WhyReply = lab.ask(why("b.tmp")).await;
    assert!(!told.here, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_shared_or_gives_no_name_is_told_so() {
    let lab = Lab::new("laptop").await;
    let dir = lab.share("Photos").await;
    let share = |dir| Request::Share { dir, name: None, group: None, mode: FolderMode::Both };
    let failed = lab.fails(share(dir)).await;
    assert_eq!((failed.kind.as_str(), failed.exit), ("shared", 2), "{failed}");
    assert!(failed.message.contains("as Photos of the group laptop"), "{failed}");
    for dir in ["/".into(), lab.dir("a\nb")] {
        let failed = lab.fails(share(dir)).await;
        assert!(failed.hint.contains("--name"), "{failed} {}", failed.hint);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_read_are_part_of_the_status() {
    let lab = Lab::new("laptop").await;
    lab.device.note_settings(Some(&Failure::failed("config", "kin.toml: no table")));
    lab.until("it is told", || async { kinds(&lab).await == ["settings"] }).await;
    lab.device.note_settings(None);
    lab.until("it is well", || async { kinds(&lab).await.is_empty() }).await;
}

/// Keys that come to lie in a folder that is in use stop it, as they keep it from being shared.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_into_which_the_devices_keys_were_moved_is_stopped_and_not_synced() {
    let lab = Lab::new("laptop").await;
    let dir = lab.share("Documents").await;
    lab.device.stop().await;
    let state = dir.join("state");
    fs::rename(lab.top.path().join("state"), &state).unwrap();
    let (device, _) = open(&state, Settings::new("laptop")).unwrap();
    let port = go_online(&device).await;
    let lab = Lab { device, port, ..lab };
    lab.until("the folder is stopped, and why is said", || async {
        let folders: Vec<FolderLine> = lab.ask(Request::Folders).await;
        let reason = folders[0].reason.clone().unwrap_or_default();
        folders[0].state == FolderState::Stopped && reason.contains("this device's own keys")
    })
    .await;
    lab.device.stop().await;
}

/// What a person shares without naming a group goes to the one that they chose, never to whoever let this device in last.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_joined_is_not_the_one_in_use_where_none_of_several_was() {
    let lab = Lab::new("laptop").await;
    let joined = async |name: &'static str| {
        lab.device.hub.with(move |hub| hub.use_if_better(hub.groups.find(name).unwrap())).await;
        let groups: Vec<GroupLine> = lab.ask(Request::Groups).await;
        groups.into_iter().find(|group| group.used).map(|group| group.name)
    };
    for name in ["home", "work", "guests", "old"] {
        let _: GroupLine = lab.ask(Request::CreateGroup { name: name.to_owned() }).await;
    }
    let leave = Request::LeaveGroup { group: Some("old".to_owned()), last_admin: true };
    let _: GroupLine = lab.ask(leave).await;
    assert_eq!(joined("guests").await, None);
    let dir = lab.dir("docs");
    let share = Request::Share { dir, name: None, group: None, mode: FolderMode::Both };
    assert_eq!(lab.fails(share).await.kind, "no_group");
    // One that was chosen stays so if anything is in it.
    let _: GroupLine = lab.ask(Request::UseGroup { group: "home".to_owned() }).await;
    lab.share("photos").await;
    assert_eq!(joined("guests").await.as_deref(), Some("home"));
    let _: GroupLine = lab.ask(Request::UseGroup { group: "work".to_owned() }).await;
    assert_eq!(joined("guests").await.as_deref(), Some("guests"));
}
