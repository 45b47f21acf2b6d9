//! A new group out of an old one (rule T11).
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the user, and look at the disk from outside"
)]

use std::fs;

use super::{
    tests::{Lab, pair},
    *,
};
use crate::api::{
    DeviceLine, FolderLine, FolderState, GroupLine, InvitationLine, StatusReply, Which,
};

async fn used(lab: &Lab) -> GroupLine {
    let groups: Vec<GroupLine> = lab.ask(Request::Groups).await;
    groups.into_iter().find(|group| group.used).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_devices_that_are_picked_go_along_with_their_folders_by_their_own_word() {
    let (laptop, nas, thief) =
        (Lab::new("laptop").await, Lab::new("nas").await, Lab::new("thief").await);
    pair(&laptop, &nas, Which::Auto).await;
    pair(&laptop, &thief, Which::Theirs).await;
    nas.until("the third is known", || async { nas.names().await.len() == 3 }).await;
    let source = laptop.share("Documents").await;
    fs::write(source.join("letter"), "dear").unwrap();
    nas.knows_folder("Documents").await;
    let target = nas.join("Documents").await;
    nas.file(&target.join("letter"), "dear").await;
    assert!(nas.ask::<Vec<InvitationLine>>(Request::Invitations).await.is_empty());

    let devices = vec!["laptop".to_owned(), "nas".to_owned()];
    let new: GroupLine = laptop.ask(Request::RescueGroup { group: None, devices }).await;
    // Nothing happens to the nas before its person agrees.
    nas.until("it is asked", || async {
        let status: StatusReply = nas.ask(Request::Status).await;
        status.errors.iter().any(|trouble| trouble.kind == "invited")
    })
    .await;
    let groups: Vec<GroupLine> = nas.ask(Request::Groups).await;
    assert_eq!(groups.len(), 1);
    let asked: Vec<InvitationLine> = nas.ask(Request::Invitations).await;
    assert_eq!((&*asked[0].name, &*asked[0].role), ("laptop", "admin"));
    assert_eq!(asked[0].folders, ["Documents"]);
    let stranger = Request::FollowGroup { device: "thief".to_owned() };
    assert_eq!(nas.fails(stranger).await.kind, "no_device");
    let follow = Request::FollowGroup { device: "laptop".to_owned() };
    let _: InvitationLine = nas.ask(follow).await;
    nas.until("it is in the new group", || async { used(&nas).await.group == new.group }).await;
    fs::write(source.join("letter"), "dearest").unwrap();
    nas.file(&target.join("letter"), "dearest").await;
    fs::write(target.join("answer"), "yes").unwrap();
    laptop.file(&source.join("answer"), "yes").await;
    // Who was not picked is asked nothing, and the asked one no longer.
    assert!(thief.ask::<Vec<InvitationLine>>(Request::Invitations).await.is_empty());
    assert!(nas.ask::<Vec<InvitationLine>>(Request::Invitations).await.is_empty());
    let nas = nas.restart().await;
    fs::write(source.join("letter"), "after a restart").unwrap();
    nas.file(&target.join("letter"), "after a restart").await;
}

/// Whoever comes to the third first must not win: one of the two may be a thief.
#[tokio::test(flavor = "multi_thread")]
async fn t11_two_who_remove_each_other_are_out_wherever_one_of_them_was_first() {
    let (mut laptop, nas, mut thief) =
        (Lab::new("laptop").await, Lab::new("nas").await, Lab::new("thief").await);
    let phone = Lab::new("phone").await;
    pair(&laptop, &nas, Which::Auto).await;
    pair(&nas, &phone, Which::Theirs).await;
    pair(&nas, &thief, Which::Theirs).await;
    laptop.until("all are known", || async { laptop.names().await.len() == 4 }).await;
    thief.until("all are known", || async { thief.names().await.len() == 4 }).await;
    let remove = |name: &str| Request::RemoveDevice { device: name.to_owned(), group: None };
    laptop.alone(remove("thief")).await;
    thief.alone(remove("laptop")).await;
    // Nor does it take with it whom this does not concern.
    thief.alone(remove("phone")).await;
    let laptop = laptop.restart().await;
    nas.until("one is out", || async { nas.names().await == ["laptop", "nas", "phone"] }).await;
    let thief = thief.restart().await;
    nas.until("both are out", || async { nas.names().await == ["nas", "phone"] }).await;
    for lab in [&laptop, &thief] {
        lab.until("it is out, and knows", || async {
            let groups: Vec<GroupLine> = lab.ask(Request::Groups).await;
            groups.iter().all(|group| group.role == "removed")
        })
        .await;
    }
}

/// The only one who could write has left: a reader's files are no less its own for that (rule E7).
#[tokio::test(flavor = "multi_thread")]
async fn t11_where_nobody_is_left_who_may_write_the_files_stay_and_go_along() {
    let (laptop, phone) = (Lab::new("laptop").await, Lab::new("phone").await);
    pair(&laptop, &phone, Which::Auto).await;
    let source = laptop.share("Documents").await;
    fs::write(source.join("letter"), "dear").unwrap();
    phone.knows_folder("Documents").await;
    let target = phone.join("Documents").await;
    phone.file(&target.join("letter"), "dear").await;
    let (device, role) = ("phone".to_owned(), "reader".to_owned());
    let _: DeviceLine = laptop.ask(Request::SetRole { device, role, group: None }).await;
    phone.until("it reads", || async { used(&phone).await.role == "reader" }).await;
    let _: GroupLine = laptop.ask(Request::LeaveGroup { group: None, last_admin: true }).await;
    phone.until("nobody is left", || async { !used(&phone).await.warnings.is_empty() }).await;
    let phone = phone.restart().await;
    let stays = async |of: &str| {
        phone
            .until("it is at rest", || async {
                let folders: Vec<FolderLine> = phone.ask(Request::Folders).await;
                folders.iter().any(|it| it.group == of && it.state == FolderState::Idle)
            })
            .await;
        let folders: Vec<FolderLine> = phone.ask(Request::Folders).await;
        assert_eq!(folders.iter().filter(|it| it.group == of).map(|it| it.files).sum::<u64>(), 1);
        assert_eq!(fs::read_to_string(target.join("letter")).unwrap(), "dear");
    };
    stays(&used(&phone).await.name).await;
    let new: GroupLine = phone.ask(Request::RescueGroup { group: None, devices: vec![] }).await;
    stays(&new.name).await;
    // It is in one group now, and not in both.
    assert_eq!(phone.ask::<Vec<FolderLine>>(Request::Folders).await.len(), 1);
    assert_eq!(used(&phone).await.role, "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_stranger_invites_nobody() {
    // A stranger has admitted this device to a group of its own, without having been asked.
    let (laptop, stranger) = (Lab::new("laptop").await, Lab::new("stranger").await);
    let id = |lab: &Lab| {
        let device = lab.device.clone();
        async move {
            device
                .hub
                .with(|hub| (hub.me, hub.inbox.id(), hub.net.as_ref().unwrap().port))
                .await
                .unwrap()
        }
    };
    let (device, inbox, port) = id(&laptop).await;
    let group = stranger
        .device
        .hub
        .with(move |hub| {
            let group = hub.make_group(None).unwrap();
            let admit = wire::membership::Action::Admit {
                device,
                inbox,
                name: Name::new("laptop").unwrap(),
                role: wire::membership::Role::Admin,
                folders: wire::membership::Scope::All,
                ceremony: wire::membership::Ceremony::Rescue,
            };
            hub.write(group, admit).unwrap();
            hub.saw(&device, Some(SocketAddr::from(([127, 0, 0, 1], port))));
            hub.look_for_members();
            group
        })
        .await
        .unwrap();
    laptop
        .until("the stranger was linked and said so", || async {
            let heard =
                laptop.device.hub.with(|hub| hub.conns.values().any(|conn| conn.port.is_some()));
            heard.await.unwrap()
        })
        .await;
    // What it says next is dealt with before this is.
    laptop
        .until("the stranger's link has ended", || async {
            laptop.device.hub.with(|hub| hub.conns.is_empty()).await.unwrap()
        })
        .await;
    assert!(laptop.ask::<Vec<InvitationLine>>(Request::Invitations).await.is_empty());
    assert!(laptop.ask::<Vec<GroupLine>>(Request::Groups).await.is_empty(), "{group:?}");
}
