//! The folders that this device keeps in step: which there are, which run, and how they are doing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use folder::{PeerId, engine::Mode};
use tokio::sync::mpsc;
use wire::{
    Hash,
    membership::{FolderId, GroupId},
    record::BatchScope,
};

use super::{groups::hex, hub::Hub, store::StoredFolder};
use crate::{
    Event, StartError,
    api::{ApiEvent, FolderLine, FolderMode, FolderState, Trouble},
    host::{FolderAuthority, Host},
    start::{self, Wishes},
};

/// Events of a folder that may wait for the hub.
const EVENTS: usize = 1024;
/// Paths that are not in step, of which the reasons are kept.
const MAX_SKIPPED: usize = 1_000;

/// A folder that is to run, or runs.
pub(super) struct Run {
    /// `None` while it is being opened, and after it failed.
    pub(super) host: Option<Host>,
    /// Numbers the peers of its engine.
    pub(super) next_peer: PeerId,
    /// Links that it uses.
    pub(super) peers: usize,
    /// Opening it, and every event of one opening, bears this number: what comes from an earlier one is late.
    opening: u64,
    /// Why it does not run.
    failed: Option<(String, String)>,
    agreed: bool,
    need: (u64, u64),
    conflicts: u64,
    skipped: VecDeque<(String, String)>,
    brake: Option<(u64, u64, String)>,
    /// Changed here and not shared, since this device does not write to the folder.
    local_only: BTreeSet<String>,
}

impl Run {
    fn new(opening: u64) -> Self {
        Self {
            host: None,
            next_peer: PeerId(1),
            peers: 0,
            opening,
            failed: None,
            agreed: false,
            need: (0, 0),
            conflicts: 0,
            skipped: VecDeque::new(),
            brake: None,
            local_only: BTreeSet::new(),
        }
    }
}

/// All of them.
pub(super) struct Folders {
    stored: Vec<StoredFolder>,
    runs: BTreeMap<FolderId, Run>,
    /// Those that finish what is under way.
    stopping: BTreeSet<FolderId>,
    openings: u64,
}

impl Folders {
    pub(super) fn new(stored: Vec<StoredFolder>) -> Self {
        Self { stored, runs: BTreeMap::new(), stopping: BTreeSet::new(), openings: 0 }
    }

    pub(super) fn stored(&self) -> &[StoredFolder] {
        &self.stored
    }

    pub(super) fn get(&self, folder: &FolderId) -> Option<&StoredFolder> {
        self.stored.iter().find(|stored| stored.folder == *folder)
    }

    pub(super) fn put(&mut self, folder: StoredFolder) {
        self.stored.retain(|stored| stored.folder != folder.folder);
        self.stored.push(folder);
    }

    pub(super) fn remove(&mut self, folder: &FolderId) {
        self.stored.retain(|stored| stored.folder != *folder);
    }

    /// Folders of a group that run.
    pub(super) fn running(&self, group: &GroupId) -> Vec<FolderId> {
        let of_group = self.stored.iter().filter(|stored| stored.group == *group);
        of_group.map(|stored| stored.folder).filter(|folder| self.is_running(folder)).collect()
    }

    pub(super) fn is_running(&self, folder: &FolderId) -> bool {
        self.runs.get(folder).is_some_and(|run| run.host.is_some())
    }

    pub(super) fn run_mut(&mut self, folder: &FolderId) -> Option<&mut Run> {
        self.runs.get_mut(folder)
    }

    pub(super) fn host(&self, folder: &FolderId) -> Option<&Host> {
        self.runs.get(folder).and_then(|run| run.host.as_ref())
    }

    /// A link does not carry the folder any more.
    pub(super) fn peer_down(&mut self, folder: &FolderId, peer: Option<PeerId>) {
        if let (Some(run), Some(peer)) = (self.runs.get_mut(folder), peer) {
            run.peers = run.peers.saturating_sub(1);
            if let Some(host) = &run.host {
                host.peer_down(peer);
            }
        }
    }

    /// Takes out all that run, to be stopped.
    pub(super) fn hosts(&mut self) -> Vec<Host> {
        std::mem::take(&mut self.runs).into_values().filter_map(|run| run.host).collect()
    }
}

impl Hub {
    /// Starts every folder that is to run.
    pub(super) fn start_folders(&mut self) {
        let due: Vec<FolderId> = self
            .folders
            .stored
            .iter()
            .filter(|stored| !stored.paused)
            .map(|stored| stored.folder)
            .collect();
        for folder in due {
            self.start_folder(folder);
        }
    }

    /// Starts a folder, unless it runs, is paused, or the device serves only its own commands.
    pub(super) fn start_folder(&mut self, folder: FolderId) {
        let Some(stored) = self.folders.get(&folder).cloned() else { return };
        let Some(group) = self.groups.get(&stored.group) else { return };
        let manifest = group.watch();
        let running = self.folders.runs.get(&folder).is_some_and(|run| run.failed.is_none());
        let stopping = self.folders.stopping.contains(&folder);
        if self.net.is_none() || self.stopping.is_some() || stored.paused || running || stopping {
            return;
        }
        if !manifest.borrow().may_read(&self.me, &folder) {
            return;
        }
        self.folders.openings += 1;
        let opening = self.folders.openings;
        self.folders.runs.insert(folder, Run::new(opening));
        let authority = FolderAuthority {
            key: Arc::clone(&self.key),
            writers: Box::new(move |device| manifest.borrow().may_write(device, &folder)),
            scope: BatchScope { group: Hash(stored.group.0), folder: Hash(folder.0) },
            lasts: true,
        };
        let (questions, wishes) = (
            self.questions.ids().clone(),
            Wishes { mode: engine_mode(stored.mode), ..self.settings.wishes },
        );
        let (events, told) = mpsc::channel(EVENTS);
        let handle = self.handle.clone();
        tokio::spawn(async move {
            let pump = tokio::spawn(pump(told, handle.clone(), folder, opening));
            let opened = tokio::task::spawn_blocking(move || {
                start::open(stored.dir, Vec::new(), authority, questions, &wishes, &events)
            });
            let opened = opened.await.ok();
            let opened = handle.with(move |hub| hub.folder_opened(folder, opening, opened)).await;
            if opened.is_none() {
                pump.abort();
            }
        });
    }

    fn folder_opened(
        &mut self,
        folder: FolderId,
        opening: u64,
        opened: Option<Result<Host, StartError>>,
    ) {
        let present = self.folders.runs.get_mut(&folder).filter(|run| run.opening == opening);
        let Some(run) = present else {
            // It was paused or forgotten meanwhile.
            if let Some(Ok(host)) = opened {
                self.folders.stopping.insert(folder);
                let handle = self.handle.clone();
                tokio::spawn(async move {
                    host.stop().await;
                    handle.send(move |hub| {
                        hub.folders.stopping.remove(&folder);
                        hub.start_folder(folder);
                    });
                });
            }
            return;
        };
        match opened {
            Some(Ok(host)) => {
                run.host = Some(host);
                if let Some(stored) = self.folders.get(&folder) {
                    self.open_everywhere(stored.group, folder);
                }
            }
            Some(Err(error)) => {
                run.failed = Some((error.to_string(), error.hint().unwrap_or_default()));
            }
            None => run.failed = Some(("it could not be opened".to_owned(), String::new())),
        }
        self.tell(ApiEvent::FolderChanged { folder: hex(&folder.0) });
    }

    /// Stops a folder; what is under way is finished. If it is to run all the same, it starts anew then.
    pub(super) fn stop_folder(&mut self, folder: FolderId) {
        self.shut_everywhere(folder);
        if let Some(host) = self.folders.runs.remove(&folder).and_then(|run| run.host) {
            self.folders.stopping.insert(folder);
            let handle = self.handle.clone();
            tokio::spawn(async move {
                host.stop().await;
                // Only now is its directory free again.
                handle.send(move |hub| {
                    hub.folders.stopping.remove(&folder);
                    hub.start_folder(folder);
                });
            });
        }
        self.tell(ApiEvent::FolderChanged { folder: hex(&folder.0) });
    }

    /// Members, roles or folders of a group have changed: what may not run here any more stops.
    pub(super) fn review_folders(&mut self, group: GroupId) {
        let Some(held) = self.groups.get(&group) else { return };
        let manifest = held.manifest();
        let of_group: Vec<FolderId> = self
            .folders
            .stored
            .iter()
            .filter(|stored| stored.group == group)
            .map(|stored| stored.folder)
            .collect();
        for folder in of_group {
            if manifest.may_read(&self.me, &folder) {
                self.start_folder(folder);
                if let Some(host) = self.folders.host(&folder) {
                    host.members_changed();
                }
            } else if self.folders.runs.contains_key(&folder) {
                self.stop_folder(folder);
            }
        }
        self.review_slots(group);
    }

    /// Something that a folder tells.
    fn folder_event(&mut self, folder: FolderId, opening: u64, event: Event) {
        let id = hex(&folder.0);
        let Some(run) = self.folders.runs.get_mut(&folder).filter(|run| run.opening == opening)
        else {
            return;
        };
        let told = match event {
            Event::Progress { files_done, files_total, bytes_done, bytes_total } => {
                run.agreed = false;
                run.need = (
                    files_total.saturating_sub(files_done),
                    bytes_total.saturating_sub(bytes_done),
                );
                None
            }
            Event::InSync { .. } => {
                run.agreed = true;
                run.need = (0, 0);
                run.brake = None;
                Some(ApiEvent::InSync { folder: id })
            }
            Event::Conflict { .. } => {
                run.conflicts += 1;
                Some(ApiEvent::FolderChanged { folder: id })
            }
            Event::Skipped { path, reason } => {
                run.skipped.retain(|(known, _)| *known != path);
                run.skipped.push_back((path, reason));
                if run.skipped.len() > MAX_SKIPPED {
                    run.skipped.pop_front();
                }
                Some(ApiEvent::FolderChanged { folder: id })
            }
            Event::Mended { path } => {
                run.skipped.retain(|(known, _)| *known != path);
                Some(ApiEvent::FolderChanged { folder: id })
            }
            Event::LocalOnly { path } => {
                if run.local_only.len() < MAX_SKIPPED {
                    run.local_only.insert(path.to_string());
                }
                Some(ApiEvent::FolderChanged { folder: id })
            }
            Event::Brake { deletes, of, from, .. } => {
                run.brake = Some((deletes, of, from.clone()));
                Some(ApiEvent::Brake { folder: id, deletes, of, from })
            }
            Event::ConfirmWithdrawn { .. } => {
                run.brake = None;
                Some(ApiEvent::FolderChanged { folder: id })
            }
            Event::Error { kind, message, hint } => {
                run.skipped.retain(|(known, _)| *known != message);
                if kind == "io" || kind == "index" {
                    run.failed = Some((message.clone(), hint.clone()));
                }
                Some(ApiEvent::Error { kind: kind.to_owned(), message, hint })
            }
            Event::Stopped => {
                // It cannot go on, and said why.
                run.host = None;
                run.failed.get_or_insert_with(|| ("it stopped".to_owned(), String::new()));
                self.shut_everywhere(folder);
                Some(ApiEvent::FolderChanged { folder: id })
            }
            _ => None,
        };
        if let Some(told) = told {
            self.tell(told);
        }
    }

    /// Every folder that a group of ours has, or that is kept here.
    pub(super) fn folder_lines(&self) -> Vec<FolderLine> {
        let mut lines = Vec::new();
        for (group, held) in self.groups.iter() {
            let manifest = held.manifest();
            let role = manifest.members.get(&self.me).map(|member| member.role);
            let role = role.map_or("none", super::groups::role_name);
            for (folder, about) in &manifest.folders {
                if manifest.may_store(&self.me, folder) || self.folders.get(folder).is_some() {
                    let name = about.name.as_str();
                    lines.push(self.folder_line(group, folder, name, &held.label, role));
                }
            }
            let gone = self.folders.stored.iter().filter(|stored| {
                stored.group == *group && !manifest.folders.contains_key(&stored.folder)
            });
            for stored in gone {
                let name = stored.dir.file_name().unwrap_or_default().to_string_lossy();
                lines.push(self.folder_line(group, &stored.folder, &name, &held.label, role));
            }
        }
        lines
    }

    fn folder_line(
        &self,
        group: &GroupId,
        folder: &FolderId,
        name: &str,
        label: &str,
        role: &str,
    ) -> FolderLine {
        let stored = self.folders.get(folder);
        let run = self.folders.runs.get(folder);
        let glance = run.and_then(|run| run.host.as_ref()).map(Host::glance).unwrap_or_default();
        let manifest = self.groups.get(group).map(super::groups::Group::manifest);
        let (state, reason) = match (stored, run) {
            (None, _) => (FolderState::NotJoined, None),
            (Some(stored), _) if stored.paused => (FolderState::Paused, None),
            (Some(_), _)
                if manifest.as_ref().is_some_and(|all| !all.folders.contains_key(folder)) =>
            {
                (FolderState::Stopped, Some("the group has taken it back".to_owned()))
            }
            (Some(_), _) if manifest.is_some_and(|all| !all.may_read(&self.me, folder)) => {
                let reason = "this device may not have it any more".to_owned();
                (FolderState::Stopped, Some(reason))
            }
            (Some(_), None) => {
                (FolderState::Stopped, Some("the device does not run: kin up".to_owned()))
            }
            (Some(_), Some(Run { failed: Some((reason, _)), .. })) => {
                (FolderState::Stopped, Some(reason.clone()))
            }
            (Some(_), Some(run)) => match &run.brake {
                Some((deletes, of, _)) => (
                    FolderState::Syncing,
                    Some(format!("{deletes} deletions of {of} files wait for a yes")),
                ),
                None if run.agreed && run.peers > 0 => (FolderState::Idle, None),
                None if run.host.is_none() || (!glance.settled && run.need.0 == 0) => {
                    (FolderState::Scanning, None)
                }
                None if run.peers == 0 && glance.settled => (FolderState::Idle, None),
                None => (FolderState::Syncing, None),
            },
        };
        FolderLine {
            folder: hex(&folder.0),
            name: name.to_owned(),
            dir: stored.map(|stored| stored.dir.clone()),
            group: label.to_owned(),
            state,
            reason,
            files: glance.files,
            bytes: glance.bytes,
            need_files: run.map_or(0, |run| run.need.0),
            need_bytes: run.map_or(0, |run| run.need.1),
            conflicts: run.map_or(0, |run| run.conflicts),
            role: role.to_owned(),
            mode: stored.map(|stored| stored.mode).unwrap_or_default(),
        }
    }

    /// What is wrong with folders.
    pub(super) fn folder_troubles(&self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        for stored in &self.folders.stored {
            let Some(run) = self.folders.runs.get(&stored.folder) else { continue };
            let named = self.groups.folder(&stored.folder);
            let folder = named.map(|(_, name)| name.as_str().to_owned());
            let mut add = |kind: &str, message: String, hint: String| {
                troubles.push(Trouble {
                    kind: kind.to_owned(),
                    folder: folder.clone(),
                    message,
                    hint,
                });
            };
            if let Some((message, hint)) = &run.failed {
                add("stopped", message.clone(), hint.clone());
            }
            if let Some((deletes, of, from)) = &run.brake {
                let by = if from.is_empty() { String::new() } else { format!(" by {from}") };
                add(
                    "brake",
                    format!("{deletes} of {of} files were deleted{by}; these deletions are held"),
                    "if they are meant: kin folders resume --accept-deletes".to_owned(),
                );
            }
            for path in &run.local_only {
                add(
                    "local_only",
                    format!(
                        "{path}: changed on this device only, which does not write to the folder"
                    ),
                    "kin folders revert puts back what the others have".to_owned(),
                );
            }
            for (path, reason) in &run.skipped {
                add("skipped", format!("{path}: {reason}"), String::new());
            }
        }
        troubles
    }

    /// A folder by what a person typed: its name, the beginning of its id, or its directory.
    pub(super) fn find_folder(
        &self,
        text: &str,
    ) -> Result<(GroupId, FolderId), crate::api::Failure> {
        let dir = PathBuf::from(text);
        if let Some(stored) = self.folders.stored.iter().find(|stored| stored.dir == dir) {
            return Ok((stored.group, stored.folder));
        }
        let mut found = Vec::new();
        for (group, held) in self.groups.iter() {
            for (folder, about) in &held.manifest().folders {
                let begins = text.len() >= 4 && hex(&folder.0).starts_with(text);
                if about.name.as_str() == text || begins {
                    found.push((*group, *folder));
                }
            }
        }
        // Of several with one name, the group in use decides, then what is kept here.
        if found.len() > 1 {
            let used = self.used_group().ok();
            if found.iter().any(|(group, _)| Some(*group) == used) {
                found.retain(|(group, _)| Some(*group) == used);
            }
            if found.iter().any(|(_, folder)| self.folders.get(folder).is_some()) {
                found.retain(|(_, folder)| self.folders.get(folder).is_some());
            }
        }
        use crate::api::Failure;
        match found[..] {
            [one] => Ok(one),
            [] => Err(Failure::usage(
                "no_folder",
                format!("no group of this device has a folder {text}"),
            )
            .hint("kin folders lists them; kin share DIR adds one")),
            _ => Err(Failure::usage("ambiguous", format!("several folders are called {text}"))
                .hint("give the beginning of its id: kin folders --json")),
        }
    }
}

fn engine_mode(mode: FolderMode) -> Mode {
    match mode {
        FolderMode::Both => Mode::Both,
        FolderMode::Receive => Mode::ReceiveOnly,
        FolderMode::Send => Mode::SendOnly,
    }
}

/// Hands a folder's events to the hub.
async fn pump(
    mut told: mpsc::Receiver<Event>,
    hub: super::hub::HubHandle,
    folder: FolderId,
    opening: u64,
) {
    while let Some(event) = told.recv().await {
        // Of these there may be very many, and nobody asks for them.
        if matches!(event, Event::Applied { .. }) {
            continue;
        }
        if hub.with(move |hub| hub.folder_event(folder, opening, event)).await.is_none() {
            return;
        }
    }
}
