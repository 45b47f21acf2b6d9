//! What a device answers when it is asked by a command (crate `kin`) or over its socket.

use std::path::{Path, PathBuf};

use identity::DeviceId;
use serde::Serialize;
use serde_json::{Value, json};
use tree::{OpenError, Root, make_folder_dir};
use wire::{
    membership::{Action, FolderId, GroupId, Role},
    session::Name,
};

use super::{
    glance::quoted,
    groups::{GroupError, hex, role, role_name},
    hub::{Hub, random},
    links::Conn,
    store::StoredFolder,
};
use crate::{
    api::{
        DeviceLine, Failure, FolderLine, FolderMode, GroupLine, JoinLine, Request, StatusReply,
        Trouble,
    },
    start::StartError,
};

pub(super) fn answer(value: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::failed("internal", error))
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| Failure::usage("bad_name", error))
}

impl Hub {
    /// Carries out a request that has one answer.
    pub(super) fn request(&mut self, request: Request) -> Result<Value, Failure> {
        match request {
            Request::Status => answer(self.status()),
            Request::Devices { group } => {
                let group = group.map(|text| self.groups.find(&text)).transpose()?;
                answer(self.device_lines(group.as_ref()))
            }
            Request::Folders => answer(self.folder_lines()),
            Request::Groups => answer(self.group_lines()),
            Request::PairStatus => answer(self.join_lines()),
            Request::PairAbandon => {
                let lines = self.join_lines();
                let joins: Vec<DeviceId> = self.joins.iter().map(|join| join.device).collect();
                for device in &joins {
                    self.abandon_join(device);
                }
                answer(lines)
            }
            Request::Answer { id, yes } => Ok(json!({ "taken": self.questions.answer(id, yes) })),
            Request::Choose { number } => match &self.pairing {
                Some(window) if window.choose(number) => Ok(json!({})),
                _ => Err(Failure::usage("no_window", "no pairing waits for a choice")),
            },
            Request::RenameDevice { device, name } => self.rename_device(device.as_deref(), &name),
            Request::RemoveDevice { device, group } => {
                let group = self.group_or_used(group.as_deref())?;
                let device = self.groups.find_device(&group, &device)?;
                let line = self.device_line(&group, &device);
                self.write(group, Action::Remove { device })?;
                answer(line)
            }
            Request::SetRole { device, role: text, group } => {
                let group = self.group_or_used(group.as_deref())?;
                let device = self.groups.find_device(&group, &device)?;
                let role = role(&text)?;
                self.keep_an_admin(&group, &device, role)?;
                self.write(group, Action::SetRole { device, role })?;
                answer(self.device_line(&group, &device))
            }
            Request::CreateGroup { name } => {
                let group = self.make_group(Some(&name))?;
                self.use_group(&group)?;
                answer(self.group_line(&group))
            }
            Request::UseGroup { group } => {
                let group = self.groups.find(&group)?;
                self.use_group(&group)?;
                answer(self.group_line(&group))
            }
            Request::LeaveGroup { group, last_admin } => {
                self.leave_group(group.as_deref(), last_admin)
            }
            Request::RescueGroup { group, devices } => {
                self.rescue_group(group.as_deref(), &devices)
            }
            Request::Invitations => answer(self.invitation_lines()),
            Request::FollowGroup { device } => answer(self.follow_group(&device)?),
            Request::Share { dir, name, group, mode } => {
                self.share(dir, name.as_deref(), group.as_deref(), mode)
            }
            Request::Join { folder, dir, mode } => {
                let (group, folder) = self.find_folder(&folder)?;
                if let Some(stored) = self.folders.get(&folder) {
                    let message = format!("the folder is kept in {} already", stored.dir.display());
                    return Err(Failure::usage("joined", message).hint("kin folders"));
                }
                self.may_keep(&group, &folder)?;
                make_folder_dir(&dir).map_err(|error| {
                    Failure::failed("io", format!("{}: {error}", dir.display()))
                        .hint("give a directory that can be made, or make it first")
                })?;
                self.check_dir(&dir)?;
                let joined = random()?;
                self.keep(StoredFolder { group, folder, dir, mode, paused: false, joined })?;
                self.start_folder(folder);
                answer(self.line_of(&group, &folder))
            }
            Request::Pause { folder } => self.pause(&folder),
            Request::Resume { folder, accept_deletes } => self.resume(&folder, accept_deletes),
            Request::Forget { folder } => {
                let (group, folder) = self.find_folder(&folder)?;
                self.joined(&folder)?;
                let line = self.line_of(&group, &folder);
                drop(self.stop_folder(folder));
                self.store.remove_folder(group, folder).map_err(lost)?;
                self.folders.remove(&folder);
                answer(line)
            }
            Request::Unshare { folder } => {
                let (group, folder) = self.find_folder(&folder)?;
                let line = self.line_of(&group, &folder);
                self.write(group, Action::FolderRemoved { folder })?;
                answer(line)
            }
            Request::SetMode { folder, mode } => {
                let (group, folder) = self.find_folder(&folder)?;
                let stored = StoredFolder { mode, ..self.joined(&folder)? };
                self.keep(stored)?;
                drop(self.stop_folder(folder));
                self.start_folder(folder);
                answer(self.line_of(&group, &folder))
            }
            Request::Locate { folder } => {
                let (group, folder) = self.find_folder(&folder)?;
                self.joined(&folder)?;
                answer(self.line_of(&group, &folder))
            }
            Request::ShareCode(wish) => self.share_code(&wish),
            Request::Codes => self.code_lines(),
            Request::Relays => self.relay_lines(),
            Request::UseRelay { relay } => self.use_relay(&relay),
            Request::ForgetRelay { relay } => self.forget_relay(&relay),
            Request::RevokeCode { code } => self.revoke_code(&code),
            Request::ResumeCode { code } => self.resume_code(&code),
            Request::AnswerCode { code, device, yes } => self.answer_code(&code, &device, yes),
            Request::Down => {
                self.stopping.get_or_insert_default();
                Ok(json!({}))
            }
            _ => Err(Failure::usage("bad_request", "that request is answered by a stream")),
        }
    }

    // Groups

    fn label(&self, group: &GroupId) -> String {
        self.groups.get(group).map(|held| held.label.clone()).unwrap_or_default()
    }

    /// A new group with this device alone, called as it is, or after this device.
    pub(super) fn make_group(&mut self, label: Option<&str>) -> Result<GroupId, Failure> {
        let wish = label.unwrap_or(self.name.as_str()).to_owned();
        name(&wish)?;
        let nonce = random()?;
        let me = (self.inbox.id(), self.name.clone());
        let before = self.only_group();
        let group = self.groups.create(&mut self.store, &self.key, me, &wish, nonce)?;
        self.keep_using(before)?;
        Ok(group)
    }

    /// Writes an operation, and tells everybody.
    pub(super) fn write(&mut self, group: GroupId, action: Action) -> Result<(), Failure> {
        let written = self.at_once(|hub| {
            let signed = hub.groups.write(&mut hub.store, &hub.key, &group, action)?;
            hub.mail_operation(group, &signed);
            Ok(signed)
        });
        match written {
            Ok(signed) => self.spread(group, &[signed], None),
            Err(error) => {
                if let GroupError::Store(_) = &error {
                    // It may be on the disk all the same: another one under its number would be a fork of
                    // this device's own (rule T12). What is there, the next start reads.
                    self.fail(&error.to_string());
                }
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Nobody makes a group without an admin by accident.
    fn keep_an_admin(&self, group: &GroupId, device: &DeviceId, role: Role) -> Result<(), Failure> {
        let Some(held) = self.groups.get(group) else { return Ok(()) };
        let manifest = held.manifest();
        let others = manifest
            .members
            .iter()
            .any(|(other, member)| other != device && member.role == Role::Admin);
        if role != Role::Admin
            && manifest.is_admin(&self.me)
            && manifest.is_admin(device)
            && !others
        {
            return Err(Failure::usage(
                "last_admin",
                "that is the group's only admin: without one nobody could be admitted or removed",
            )
            .hint("make another device admin first: kin devices role NAME admin"));
        }
        Ok(())
    }

    fn leave_group(&mut self, group: Option<&str>, last_admin: bool) -> Result<Value, Failure> {
        let group = self.group_or_used(group)?;
        let Some(held) = self.groups.get(&group) else {
            return Err(Failure::usage("no_group", "there is no such group here"));
        };
        let manifest = held.manifest();
        let others = manifest.members.len() > 1;
        if others && !last_admin {
            self.keep_an_admin(&group, &self.me, Role::Reader)?;
        }
        if manifest.is_member(&self.me) {
            self.write(group, Action::Leave)?;
        }
        let kept: Vec<FolderId> = self
            .folders
            .stored()
            .iter()
            .filter(|stored| stored.group == group)
            .map(|stored| stored.folder)
            .collect();
        for folder in kept {
            drop(self.stop_folder(folder));
            self.folders.remove(&folder);
        }
        let line = self.group_line(&group);
        self.groups.remove(&self.store, &group)?;
        self.leave_ssh(manifest.members.keys().copied());
        self.look_for_members();
        answer(line)
    }

    fn rename_device(&mut self, device: Option<&str>, text: &str) -> Result<Value, Failure> {
        let new = name(text)?;
        let device = match device {
            None => self.me,
            Some(text) => self.groups.find_device(&self.used_group()?, text)?,
        };
        let groups: Vec<GroupId> = match device == self.me {
            true => self.groups.shared_with(&device),
            false => vec![self.used_group()?],
        };
        for group in &groups {
            self.write(*group, Action::Rename { device, name: new.clone() })?;
        }
        if device == self.me {
            self.store.set("name", new.as_str().as_bytes()).map_err(lost)?;
            self.name = new;
        }
        match device == self.me {
            true => answer(self.own_line()),
            false => answer(groups.first().and_then(|group| self.device_line(group, &device))),
        }
    }

    /// This device, in the first of its groups.
    pub(super) fn own_line(&self) -> DeviceLine {
        let groups = self.groups.shared_with(&self.me);
        let line = groups.first().and_then(|group| self.device_line(group, &self.me));
        line.unwrap_or_else(|| DeviceLine {
            device: self.me.to_string(),
            name: self.name.as_str().to_owned(),
            role: "none".to_owned(),
            group: String::new(),
            online: self.net.is_some(),
            last_seen: None,
            me: true,
        })
    }

    // Folders

    /// The directory must be there, be ours to write, hold or lie in no other folder, and hold none of this
    /// device's keys. It answers: [`super::dirs::prepare`] has seen to that.
    pub(super) fn check_dir(&self, dir: &Path) -> Result<(), Failure> {
        let refused = |error: OpenError| {
            let error = StartError::from(error);
            let hint = error.hint().unwrap_or_default();
            Failure::usage(error.kind(), error).hint(&hint)
        };
        // Two ways may lead to one directory.
        let dir = &tree::real_path(dir).unwrap_or_else(|_| dir.to_owned());
        if let Some(other) = self.overlapping(dir) {
            let message = format!(
                "{} and {} overlap: a folder inside a folder cannot be kept in step on its own",
                dir.display(),
                other.dir.display()
            );
            return Err(Failure::usage("nested", message).hint("give another directory"));
        }
        tree::refuse_keys(dir, self.state.path()).map_err(refused)?;
        Root::open(dir).map(drop).map_err(refused)
    }

    pub(super) fn keep(&mut self, folder: StoredFolder) -> Result<(), Failure> {
        self.store.put_folder(&folder).map_err(lost)?;
        self.folders.put(folder);
        Ok(())
    }

    /// What this device may not have it does not begin to keep.
    pub(super) fn may_keep(&self, group: &GroupId, folder: &FolderId) -> Result<(), Failure> {
        let Some(held) = self.groups.get(group) else { return Ok(()) };
        let (manifest, label) = (held.manifest(), &held.label);
        if !manifest.is_member(&self.me) {
            let message = format!("this device was removed from the group {label}");
            let hint = format!("kin leave {} forgets it; to come back, pair anew", quoted(label));
            return Err(Failure::usage("removed", message).hint(&hint));
        }
        if !manifest.may_store(&self.me, folder) {
            let message = format!("this device may not have that folder of the group {label}");
            return Err(Failure::usage("not_allowed", message).hint("ask an admin: kin devices"));
        }
        Ok(())
    }

    fn joined(&self, folder: &FolderId) -> Result<StoredFolder, Failure> {
        self.folders.get(folder).cloned().ok_or_else(|| {
            Failure::usage("not_joined", "this device does not keep that folder")
                .hint("kin join NAME DIR")
        })
    }

    fn share(
        &mut self,
        dir: PathBuf,
        wish: Option<&str>,
        group: Option<&str>,
        mode: FolderMode,
    ) -> Result<Value, Failure> {
        let called = match wish {
            Some(wish) => wish.to_owned(),
            None => dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let called = match (name(&called), wish) {
            (Err(failure), None) => {
                let message =
                    format!("{} gives no folder's name: {}", dir.display(), failure.message);
                return Err(Failure::usage("bad_name", message).hint("give it one: --name NAME"));
            }
            (called, _) => called?,
        };
        if let Some(stored) = self.folders.stored().iter().find(|stored| stored.dir == dir) {
            let (shown, label) = (self.name_of_folder(stored), self.label(&stored.group));
            let message = format!(
                "{} is kept in step already, as {shown} of the group {label}",
                dir.display()
            );
            return Err(Failure::usage("shared", message)
                .hint(&format!("on another device of the group: kin join {shown}")));
        }
        // A folder in no group gets one of its own (rule T14).
        let has_none = self.groups.iter().next().is_none();
        let group = match (group, has_none) {
            (None, true) => self.make_group(None)?,
            (group, _) => self.group_or_used(group)?,
        };
        if let Some(held) = self.groups.get(&group) {
            let manifest = held.manifest();
            if manifest.folders.values().any(|folder| folder.name == called) {
                let message = format!("the group has a folder {} already", called.as_str());
                return Err(Failure::usage("taken", message)
                    .hint("give another --name, or join that one: kin join NAME DIR"));
            }
        }
        self.check_dir(&dir)?;
        let folder = FolderId(random()?);
        self.write(group, Action::FolderAdded { folder, name: called.clone() })?;
        let joined = random()?;
        self.keep(StoredFolder { group, folder, dir, mode, paused: false, joined })?;
        self.start_folder(folder);
        answer(self.line_of(&group, &folder))
    }

    fn pause(&mut self, folder: &str) -> Result<Value, Failure> {
        let (group, folder) = self.find_folder(folder)?;
        let stored = self.joined(&folder)?;
        self.keep(StoredFolder { paused: true, ..stored })?;
        drop(self.stop_folder(folder));
        answer(self.line_of(&group, &folder))
    }

    fn resume(&mut self, folder: &str, accept_deletes: bool) -> Result<Value, Failure> {
        let (group, folder) = self.find_folder(folder)?;
        let stored = self.joined(&folder)?;
        self.keep(StoredFolder { paused: false, ..stored })?;
        if accept_deletes && let Some(host) = self.folders.host(&folder) {
            host.accept_deletes();
        }
        self.start_folder(folder);
        answer(self.line_of(&group, &folder))
    }

    // Lines

    fn status(&self) -> StatusReply {
        let mut errors = self.folder_troubles();
        errors.extend(self.invitation_troubles());
        errors.extend(self.code_troubles());
        errors.extend(self.relay_troubles());
        errors.extend(self.unread_settings.clone());
        for line in self.group_lines() {
            for warning in line.warnings {
                errors.push(Trouble {
                    kind: "group".to_owned(),
                    folder: None,
                    message: format!("group {}: {warning}", line.name),
                    hint: String::new(),
                });
            }
        }
        StatusReply {
            device: self.me.to_string(),
            name: self.name.as_str().to_owned(),
            running: self.net.is_some(),
            port: self.net.as_ref().map_or(0, |net| net.port),
            devices: self.device_lines(None),
            folders: self.folder_lines(),
            groups: self.group_lines(),
            joins: self.join_lines(),
            errors,
        }
    }

    fn device_lines(&self, of: Option<&GroupId>) -> Vec<DeviceLine> {
        let groups = self.groups.iter().filter(|(id, _)| of.is_none_or(|of| of == *id));
        let devices = groups.flat_map(|(id, held)| {
            let members: Vec<DeviceId> = held.manifest().members.keys().copied().collect();
            members.into_iter().filter_map(|device| self.device_line(id, &device))
        });
        devices.collect()
    }

    pub(super) fn device_line(&self, group: &GroupId, device: &DeviceId) -> Option<DeviceLine> {
        let held = self.groups.get(group)?;
        let manifest = held.manifest();
        let member = manifest.members.get(device)?;
        let linked = |conn: &Conn| conn.line.peer == *device && conn.shared.contains(group);
        let me = *device == self.me;
        Some(DeviceLine {
            device: device.to_string(),
            name: member.name.as_str().to_owned(),
            role: role_name(member.role).to_owned(),
            group: held.label.clone(),
            online: (me && self.net.is_some()) || self.conns.values().any(linked),
            last_seen: self.places.get(device).and_then(|place| place.last_seen),
            me,
        })
    }

    fn line_of(&self, group: &GroupId, folder: &FolderId) -> Option<FolderLine> {
        let id = hex(&folder.0);
        let label = self.label(group);
        let mut lines = self.folder_lines().into_iter();
        lines.find(|line| line.folder == id && line.group == label)
    }

    fn group_lines(&self) -> Vec<GroupLine> {
        self.groups.iter().filter_map(|(id, _)| self.group_line(id)).collect()
    }

    pub(super) fn group_line(&self, id: &GroupId) -> Option<GroupLine> {
        let held = self.groups.get(id)?;
        let manifest = held.manifest();
        let mut warnings = Vec::new();
        if !manifest.has_admin() {
            warnings
                .push("it has no admin left: kin group rescue makes a new one of it".to_owned());
        }
        for fork in &manifest.forks {
            let name = self.name_of(&fork.device);
            warnings.push(format!(
                "{name} wrote two things in one place: its key was copied, or it was restored from a backup"
            ));
        }
        let role = manifest.members.get(&self.me).map(|member| role_name(member.role));
        if role.is_none() {
            warnings.push("this device was removed from it: kin leave forgets it".to_owned());
        }
        Some(GroupLine {
            group: hex(&id.0),
            name: held.label.clone(),
            used: self.used_group().ok().as_ref() == Some(id),
            role: role.unwrap_or("removed").to_owned(),
            devices: manifest.members.len() as u64,
            folders: manifest.folders.len() as u64,
            warnings,
        })
    }

    fn join_lines(&self) -> Vec<JoinLine> {
        let lines = self.joins.iter().map(|join| JoinLine {
            device: join.device.to_string(),
            name: join.name.clone(),
            ceremony: join.kind.word().to_owned(),
            since: join.since,
        });
        lines.collect()
    }
}

pub(super) fn lost(error: super::store::StoreError) -> Failure {
    Failure::failed("state", error)
}
