//! A join by a code, from the person's yes to the folder, over restarts.

use std::{net::SocketAddr, path::PathBuf};

use identity::{DeviceId, InboxId};
use pairing::code::hello;
use tree::{Root, make_folder_dir};
use wire::{
    code::{Invitation, LookupId, Message, Refusal, SavedCodeJoin, Wait, Way},
    envelope::Recipient,
    membership::{Action, Ceremony, FolderId, GroupId, Scope},
};

use super::{
    Question, Via,
    search::{News, waits},
};
use crate::{
    api::{Failure, FolderMode},
    device::{
        dirs::prepare,
        groups::{Group, hex},
        hub::{Hub, random, wall},
        links::MAX_ADDRESSES,
        store::{JoinKind, StoredFolder, StoredJoin, WantedFolder},
    },
    line::ConnId,
};

impl StoredJoin {
    /// What is kept of a join by a code.
    pub(in crate::device) fn code(&self) -> Option<SavedCodeJoin> {
        let kept = (self.kind == JoinKind::Code).then(|| SavedCodeJoin::decode(&self.state))?;
        kept.ok()
    }

    /// By which ceremony the log must have admitted this device.
    pub(in crate::device) fn ceremony(&self) -> Option<Ceremony> {
        match self.kind {
            JoinKind::Lan => Some(Ceremony::Lan),
            JoinKind::Token => Some(Ceremony::Token),
            JoinKind::Code => self.code().map(|saved| Ceremony::Code(saved.id)),
            JoinKind::Rescue => Some(Ceremony::Rescue),
        }
    }
}

impl Hub {
    /// This device's person said yes to an offer.
    pub(super) fn begin_code_join(
        &mut self,
        stream: u64,
        invitation: &Invitation,
        dir: PathBuf,
        mode: FolderMode,
    ) -> Result<(), Failure> {
        let Some(asking) = self.codes.asking.as_mut().filter(|one| one.stream == stream) else {
            return Err(Failure::failed("stopped", "the join was given up meanwhile"));
        };
        let keys = asking.code.keys();
        let Invitation { issuer, group, folder, role, .. } = *invitation;
        asking.issuer = Some(issuer);
        if let Some(news) = self.in_the_way_of(invitation) {
            self.asking_of(&issuer, |asking| asking.tell(news));
            return Ok(());
        }
        if self.folders.get(&folder).is_none() {
            make_folder_dir(&dir).map_err(|error| {
                Failure::failed("io", format!("{}: {error}", dir.display()))
                    .hint("give a directory that can be made, or make it first")
            })?;
            self.check_dir(&dir)?;
        }
        let other = self.joins.iter().find(|join| join.device == issuer);
        if other.is_some_and(|join| join.kind != JoinKind::Code) {
            let message = "a pairing with that device was begun already, and is not done";
            return Err(Failure::usage("waits", message)
                .hint("kin pair --status shows it; kin pair --abandon gives it up"));
        }
        let state = |error| Failure::failed("state", error);
        self.store.put_wanted(&WantedFolder { group, folder, dir, mode }).map_err(state)?;
        if self.has_what_is_offered(invitation) {
            self.take_wanted_folders();
            return Ok(());
        }
        let place = self.places.entry(issuer).or_default();
        for addr in invitation.addresses.iter().rev() {
            place.addresses.retain(|known| known != addr);
            place.addresses.insert(0, *addr);
        }
        place.addresses.truncate(MAX_ADDRESSES);
        let saved = SavedCodeJoin {
            id: keys.id,
            lookup: keys.lookup,
            proof: keys.proof,
            inbox: invitation.inbox,
            mail: invitation.mail.clone(),
            group_name: Some(invitation.group_name.clone()),
        };
        let kept = saved.encode().map_err(|error| Failure::failed("internal", error))?;
        let join = StoredJoin {
            device: issuer,
            name: invitation.issuer_name.as_str().to_owned(),
            kind: JoinKind::Code,
            group: Some(group),
            role,
            folders: Scope::List(vec![folder]),
            since: wall(),
            state: kept.expose().clone(),
        };
        // An address of no port is none: the link's own is among the places already.
        self.at_once(|hub| {
            // With a relay it waits at the issuer's mailbox from now on.
            let kept = hub.put_join(join, SocketAddr::from(([0, 0, 0, 0], 0)));
            if let Err(failure) = kept {
                hub.fail(&failure.message);
            }
            hub.mail_hello(&issuer, &saved);
            Ok(())
        })
        .inspect_err(|error| self.fail(&error.to_string()))?;
        if self.link_to(&issuer).is_none()
            && let Some(asking) = &self.codes.asking
        {
            asking.tell(News::Waits("offline"));
        }
        self.look_for_members();
        self.say_code_hello(&issuer);
        Ok(())
    }

    /// Why nothing can come of an offer, as far as this device knows by itself.
    pub(super) fn in_the_way_of(&self, invitation: &Invitation) -> Option<News> {
        let Invitation { group, folder, .. } = invitation;
        if let Some(stored) = self.folders.get(folder)
            && self.has_what_is_offered(invitation)
        {
            let message = format!("the folder is kept in {} already", stored.dir.display());
            let failure = Failure::usage("joined", message);
            return Some(News::Failed(failure.hint("kin folders lists what is kept here")));
        }
        if self.is_folder_gone(group, folder) {
            return Some(News::Refused(Refusal::FolderGone));
        }
        let held = self.groups.get(group).filter(|held| !held.manifest().is_member(&self.me))?;
        let label = &held.label;
        let message = format!("this device was removed from the code's group, {label}");
        let hint = format!("forget what it was: kin leave {label}; then join again");
        Some(News::Failed(Failure::usage("removed", message).hint(&hint)))
    }

    /// True if the group gives this device already what the code would.
    fn has_what_is_offered(&self, invitation: &Invitation) -> bool {
        let Some(held) = self.groups.get(&invitation.group) else { return false };
        let manifest = held.manifest();
        let role = manifest.members.get(&self.me).map(|member| member.role);
        role.is_some_and(|role| role >= invitation.role)
            && manifest.may_store(&self.me, &invitation.folder)
    }

    /// Says hello with a code over the link to its issuer, if there is one and a join waits for it.
    pub(in crate::device) fn say_code_hello(&mut self, issuer: &DeviceId) {
        let Some(join) = self.joins.iter().find(|join| join.device == *issuer) else { return };
        let (Some(saved), group) = (join.code(), join.group) else { return };
        let Some(id) = self.link_to(issuer) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !conn.is_accepted() {
            // Its person may be asked. If nobody hears this, the other end cuts the link.
            conn.deadline = None;
        }
        conn.asked.ask(Question::Hello(saved.lookup));
        let exporter = conn.line.exporter;
        let (inbox, name) = (self.inbox.id(), self.name.clone());
        let said = hello(&saved, issuer, (&self.me, &inbox, &name), Way::Link(&exporter));
        let message = Message::Hello(said);
        let to = Recipient { device: *issuer, inbox: saved.inbox };
        self.send_by_link(id, &to, group, message.kind(), message.encode());
    }

    /// The issuer says that this device was admitted: its log decides (rule T10).
    pub(super) fn heard_code_admitted(
        &mut self,
        author: &DeviceId,
        lookup: &LookupId,
        group: GroupId,
        via: Via,
    ) -> bool {
        if !self.is_code_join(author, lookup) {
            return false;
        }
        match via {
            Via::Link(id) => self.heard_admitted(id, group),
            Via::Mail => match self.link_to(author) {
                Some(id) => self.heard_admitted(id, group),
                None => self.want_link(author),
            },
        }
        self.review_code_joins();
        true
    }

    pub(super) fn heard_refused(
        &mut self,
        author: &DeviceId,
        lookup: &LookupId,
        why: Refusal,
    ) -> bool {
        if !self.is_code_join(author, lookup) {
            return false;
        }
        let told = self.asking_of(author, |asking| asking.tell(News::Refused(why)));
        if !told {
            let name = self.joins.iter().find(|join| join.device == *author);
            let name = name.map(|join| join.name.clone()).unwrap_or_default();
            let message =
                format!("{name} lets this device in no more with the code: {}", why.word());
            self.complain("join", &message, "ask for another code: kin share --code there");
        }
        self.give_up_code(author, None);
        true
    }

    /// Forgets a join by a code and the folder that it was for; with what went wrong, for whoever looks at it.
    pub(in crate::device) fn give_up_code(&mut self, issuer: &DeviceId, wrong: Option<&str>) {
        let join = self.joins.iter().find(|join| join.device == *issuer).cloned();
        let Some(join) = join.filter(|join| join.kind == JoinKind::Code) else { return };
        if let Some(message) = wrong {
            let failure = Failure::failed("join", message);
            self.asking_of(issuer, |asking| asking.tell(News::Failed(failure)));
        }
        if let (Some(group), Scope::List(list)) = (join.group, &join.folders) {
            for folder in list {
                self.leave_no_trace(group, *folder);
                if let Err(error) = self.store.remove_wanted(group, *folder) {
                    return self.fail(&error.to_string());
                }
            }
        }
        self.drop_join(issuer, "the code was refused");
    }

    /// The directory that a folder was to have was looked at, which leaves a lock in it.
    fn leave_no_trace(&mut self, group: GroupId, folder: FolderId) {
        let wanted = self.store.wanted_folders().unwrap_or_default();
        let meant = wanted.iter().find(|one| one.group == group && one.folder == folder);
        if let Some(WantedFolder { dir, .. }) = meant
            && !self.folders.stored().iter().any(|stored| stored.dir == *dir)
        {
            // Only what is empty goes, nothing of a folder that is in use, and what stays harms nobody.
            self.codes.leavings.take(dir.clone(), |dir| drop(Root::leave_no_state(dir)));
        }
    }

    /// True if a group that this device knows had the folder, and has it no more.
    fn is_folder_gone(&self, group: &GroupId, folder: &FolderId) -> bool {
        self.groups.get(group).is_some_and(|held| {
            !held.manifest().folders.contains_key(folder)
                && held.log().operations().any(|one| {
                    matches!(&one.operation().action, Action::FolderRemoved { folder: gone } if gone == folder)
                })
        })
    }

    pub(super) fn heard_waits(&mut self, author: &DeviceId, lookup: &LookupId, why: Wait) -> bool {
        if !self.is_code_join(author, lookup) {
            return false;
        }
        self.asking_of(author, |asking| asking.tell(News::Waits(waits(why))));
        true
    }

    /// The inbox key of the issuer of a code that this device joins by.
    pub(in crate::device) fn code_inbox_of(&self, device: &DeviceId) -> Option<InboxId> {
        let join = self.joins.iter().find(|join| join.device == *device)?;
        join.code().map(|saved| saved.inbox)
    }

    fn is_code_join(&self, author: &DeviceId, lookup: &LookupId) -> bool {
        let join = self.joins.iter().find(|join| join.device == *author);
        join.and_then(StoredJoin::code).is_some_and(|saved| saved.lookup == *lookup)
    }

    fn asking_of(&self, issuer: &DeviceId, tell: impl FnOnce(&super::search::Asking)) -> bool {
        let asking = self.codes.asking.as_ref().filter(|one| one.issuer == Some(*issuer));
        asking.inspect(|asking| tell(asking)).is_some()
    }

    /// A member that a code gives more has it once the group's log says so; and folders that came by a code are
    /// kept in step from then on.
    pub(in crate::device) fn review_code_joins(&mut self) {
        let done = |join: &&StoredJoin| {
            let (JoinKind::Code, Some(group), Scope::List(list)) =
                (join.kind, join.group, &join.folders)
            else {
                return false;
            };
            let Some(held) = self.groups.get(&group) else { return false };
            let manifest = held.manifest();
            let role = manifest.members.get(&self.me).map(|member| member.role);
            role.is_some_and(|role| role >= join.role)
                && list.iter().all(|folder| manifest.may_store(&self.me, folder))
        };
        let done: Vec<DeviceId> = self.joins.iter().filter(done).map(|join| join.device).collect();
        for device in &done {
            self.forget_join(device);
        }
        // What a member waits for may be gone meanwhile: nobody would tell it.
        let gone = |join: &&StoredJoin| {
            let (JoinKind::Code, Some(group), Scope::List(list)) =
                (join.kind, join.group, &join.folders)
            else {
                return false;
            };
            let member = |held: &Group| held.manifest().is_member(&self.me);
            self.groups.get(&group).is_some_and(member)
                && list.iter().all(|folder| self.is_folder_gone(&group, folder))
        };
        let gone = self
            .joins
            .iter()
            .filter(gone)
            .filter_map(|join| Some((join.device, join.code()?.lookup)));
        for (issuer, lookup) in gone.collect::<Vec<_>>() {
            self.heard_refused(&issuer, &lookup, Refusal::FolderGone);
        }
        self.take_wanted_folders();
    }

    /// Keeps the folders in step that a code gave, in the directories that its person chose.
    pub(in crate::device) fn take_wanted_folders(&mut self) {
        let wanted = match self.store.wanted_folders() {
            Ok(wanted) => wanted,
            Err(error) => return self.fail(&error.to_string()),
        };
        for WantedFolder { group, folder, dir, mode } in wanted {
            let Some(held) = self.groups.get(&group) else { continue };
            let waits = self.joins.iter().any(|join| {
                let listed = matches!(&join.folders, Scope::List(list) if list.contains(&folder));
                join.kind == JoinKind::Code && join.group == Some(group) && listed
            });
            if waits || !held.manifest().may_store(&self.me, &folder) {
                continue;
            }
            if let Some(stored) = self.folders.get(&folder) {
                let dir = stored.dir.clone();
                self.wanted_is_kept(group, folder, Ok(dir));
            } else if self.codes.keeping.insert(folder) {
                let hub = self.handle.clone();
                tokio::spawn(async move {
                    let answers = prepare(&hub, &dir).await;
                    hub.send(move |hub| {
                        hub.codes.keeping.remove(&folder);
                        hub.keep_prepared((group, folder), dir, mode, answers);
                    });
                });
            }
        }
    }

    /// Whether the directory of a folder that a code gave answers is known.
    fn keep_prepared(
        &mut self,
        (group, folder): (GroupId, FolderId),
        dir: PathBuf,
        mode: FolderMode,
        answers: Result<(), Failure>,
    ) {
        // What was given up meanwhile is not begun.
        let wanted = self.store.wanted_folders().unwrap_or_default();
        let meant = wanted.iter().find(|one| (one.group, one.folder) == (group, folder));
        if meant.is_some_and(|one| one.dir != dir || one.mode != mode) {
            // It is wanted elsewhere since.
            return self.take_wanted_folders();
        }
        let held = self.groups.get(&group);
        if meant.is_none() || !held.is_some_and(|held| held.manifest().may_store(&self.me, &folder))
        {
            return;
        }
        let kept = match self.folders.get(&folder) {
            Some(stored) => Ok(stored.dir.clone()),
            None => answers.and_then(|()| self.keep_wanted(group, folder, dir, mode)),
        };
        self.wanted_is_kept(group, folder, kept);
    }

    fn wanted_is_kept(&mut self, group: GroupId, folder: FolderId, kept: Result<PathBuf, Failure>) {
        let issuer = self.issuer_of_asking();
        if let Err(error) = self.store.remove_wanted(group, folder) {
            return self.fail(&error.to_string());
        }
        match kept {
            Ok(dir) => {
                if let Some(issuer) = issuer {
                    let news = News::Joined(hex(&folder.0), dir);
                    self.asking_of(&issuer, |asking| asking.tell(news));
                }
            }
            Err(failure) => {
                let Failure { kind, message, hint, .. } = failure.clone();
                let told = issuer.is_some_and(|issuer| {
                    self.asking_of(&issuer, |asking| asking.tell(News::Failed(failure)))
                });
                if !told {
                    self.complain(&kind, &message, &hint);
                }
            }
        }
    }

    fn issuer_of_asking(&self) -> Option<DeviceId> {
        self.codes.asking.as_ref().and_then(|asking| asking.issuer)
    }

    fn keep_wanted(
        &mut self,
        group: GroupId,
        folder: FolderId,
        dir: PathBuf,
        mode: FolderMode,
    ) -> Result<PathBuf, Failure> {
        make_folder_dir(&dir).map_err(|error| {
            Failure::failed("io", format!("{}: {error}", dir.display()))
                .hint("the group is joined; kin join NAME DIR keeps the folder elsewhere")
        })?;
        self.check_dir(&dir)?;
        let joined = random()?;
        self.keep(StoredFolder { group, folder, dir: dir.clone(), mode, paused: false, joined })?;
        self.start_folder(folder);
        Ok(dir)
    }

    /// On a link that has come up: what is looked for, and what waits for it.
    pub(in crate::device) fn say_codes(&mut self, id: ConnId, peer: &DeviceId) {
        self.ask_invitation(id, peer);
        self.say_code_hello(peer);
    }
}
