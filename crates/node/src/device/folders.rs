//! The folders that this device keeps in step: which there are, which run, and how they are doing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use folder::{PeerId, engine::Mode};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tree::TempDir;
use wire::{
    Hash,
    membership::{FolderId, GroupId},
    path::STATE_DIR,
    record::BatchScope,
};

use super::{
    groups::hex,
    hub::{Hub, random},
    store::StoredFolder,
};
use crate::{
    Event, StartError,
    api::{ApiEvent, Failure, FolderMode},
    host::{FolderAuthority, Host},
    start,
};

/// Events of a folder that may wait for the hub.
const EVENTS: usize = 1024;
/// Paths that are not in step, of which the reasons are kept.
const MAX_SKIPPED: usize = 1_000;
/// A folder whose disk failed when it was to start is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// A folder that is to run, or runs.
pub(super) struct Run {
    /// `None` while it is being opened, and after it failed.
    pub(super) host: Option<Host>,
    /// Whose folder it is: a link of another group does not lead to it.
    pub(super) group: GroupId,
    /// Only looked at, for a plan.
    look: bool,
    /// Numbers the peers of its engine.
    pub(super) next_peer: PeerId,
    /// Links that it uses.
    pub(super) peers: usize,
    /// Opening it, and every event of one opening, bears this number: what comes from an earlier one is late.
    opening: u64,
    /// Why it does not run.
    pub(super) failed: Option<(String, String)>,
    /// What it complained of last: the reason if it stops.
    complaint: Option<(String, String)>,
    pub(super) agreed: bool,
    pub(super) need: (u64, u64),
    pub(super) skipped: VecDeque<(String, String)>,
    pub(super) brake: Option<(u64, u64, String)>,
    /// The empty directory that is looked at in place of one that is still to be made; it goes when the folder
    /// has stopped.
    instead: Option<TempDir>,
    /// The index of a look, which goes with it.
    leavings: Option<PathBuf>,
}

impl Run {
    fn new(group: GroupId, opening: u64) -> Self {
        Self {
            host: None,
            group,
            look: false,
            complaint: None,
            next_peer: PeerId(1),
            peers: 0,
            opening,
            failed: None,
            agreed: false,
            need: (0, 0),
            skipped: VecDeque::new(),
            brake: None,
            instead: None,
            leavings: None,
        }
    }
}

/// All of them.
pub(super) struct Folders {
    stored: Vec<StoredFolder>,
    /// Where their directories lead, through all links: `None` while one is looked at.
    places: BTreeMap<PathBuf, Option<PathBuf>>,
    runs: BTreeMap<FolderId, Run>,
    /// Those that finish what is under way.
    stopping: BTreeSet<FolderId>,
    openings: u64,
    /// The tasks that open folders, and stop one again that nobody wants any more.
    opening: JoinSet<()>,
}

impl Folders {
    pub(super) fn new(stored: Vec<StoredFolder>) -> Self {
        let (runs, stopping) = (BTreeMap::new(), BTreeSet::new());
        let places = BTreeMap::new();
        Self { stored, places, runs, stopping, openings: 0, opening: JoinSet::new() }
    }

    /// Where a folder's directory leads, if it was looked at.
    pub(super) fn real(&self, dir: &Path) -> Option<&PathBuf> {
        self.places.get(dir)?.as_ref()
    }

    /// The directories that were not looked at; from now on they are.
    pub(super) fn begin_looks(&mut self) -> Vec<PathBuf> {
        let dirs = self.stored.iter().map(|stored| &stored.dir);
        let new: Vec<_> = dirs.filter(|dir| !self.places.contains_key(*dir)).cloned().collect();
        self.places.extend(new.iter().map(|dir| (dir.clone(), None)));
        new
    }

    /// It was looked at.
    pub(super) fn leads_to(&mut self, dir: PathBuf, real: PathBuf) {
        if self.stored.iter().any(|stored| stored.dir == dir) {
            self.places.insert(dir, Some(real));
        }
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
        self.places.retain(|dir, _| self.stored.iter().any(|stored| stored.dir == *dir));
    }

    /// Folders of a group that run.
    pub(super) fn running(&self, group: &GroupId) -> Vec<FolderId> {
        let of_group = self.stored.iter().filter(|stored| stored.group == *group);
        let folders = of_group.map(|stored| stored.folder);
        folders.filter(|folder| self.is_running(group, folder)).collect()
    }

    /// True if this group's folder of that id runs: another group may name the same id.
    pub(super) fn is_running(&self, group: &GroupId, folder: &FolderId) -> bool {
        let run = self.runs.get(folder);
        run.is_some_and(|run| run.host.is_some() && run.group == *group)
    }

    /// True if the folder runs, is being opened or finishes, for whatever purpose.
    pub(super) fn is_busy(&self, folder: &FolderId) -> bool {
        self.runs.contains_key(folder) || self.stopping.contains(folder)
    }

    pub(super) fn run(&self, folder: &FolderId) -> Option<&Run> {
        self.runs.get(folder)
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

    /// Takes out all that run, to be stopped, and what still opens some, to be waited for.
    pub(super) fn take_all(&mut self) -> (Vec<Host>, JoinSet<()>) {
        let runs = std::mem::take(&mut self.runs).into_values();
        (runs.filter_map(|run| run.host).collect(), std::mem::take(&mut self.opening))
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

    /// Takes other settings. What an engine was told it goes by until it ends, so folders begin anew.
    pub(super) fn apply_settings(&mut self, settings: super::Settings) {
        let settings = super::Settings { name: self.settings.name.clone(), ..settings };
        self.settings.relays.clone_from(&settings.relays);
        self.use_relays_of_settings();
        if settings == self.settings {
            return;
        }
        self.settings = settings;
        self.restart_folders();
    }

    /// Stops what runs; it starts again by itself.
    pub(super) fn restart_folders(&mut self) {
        let stored: Vec<FolderId> = self.folders.stored.iter().map(|one| one.folder).collect();
        for folder in stored {
            if self.folders.is_busy(&folder) {
                drop(self.stop_folder(folder));
            }
        }
    }

    /// Starts a folder, unless it runs, is paused, or the device serves only its own commands.
    pub(super) fn start_folder(&mut self, folder: FolderId) {
        let Some(stored) = self.folders.get(&folder).cloned() else { return };
        let Some(group) = self.groups.get(&stored.group) else { return };
        let manifest = group.watch();
        if self.folders.runs.get(&folder).is_some_and(|run| run.look) {
            // It starts in earnest when that is over.
            drop(self.stop_folder(folder));
            return;
        }
        let run = self.folders.runs.get(&folder);
        let running = run.is_some_and(|run| run.host.is_some() || run.failed.is_none());
        let stopping = self.folders.stopping.contains(&folder);
        if self.net.is_none() || self.stopping.is_some() || stored.paused || running || stopping {
            return;
        }
        if !manifest.borrow().may_read(&self.me, &folder) {
            return;
        }
        self.run_folder(&stored, engine_mode(stored.mode));
    }

    /// Looks at a folder as if it were kept here, without giving or taking anything.
    pub(super) fn start_look(
        &mut self,
        group: GroupId,
        folder: FolderId,
        dir: &Path,
        instead: Option<TempDir>,
    ) -> Result<(), Failure> {
        let mode = FolderMode::Both;
        let joined = random()?;
        let dir = dir.to_owned();
        let stored = StoredFolder { group, folder, dir, mode, paused: false, joined };
        self.run_folder(&stored, Mode::Look);
        if let Some(run) = self.folders.runs.get_mut(&folder) {
            run.look = true;
            run.leavings = Some(stored.dir.join(STATE_DIR).join(stored.index()));
            run.instead = instead;
        }
        Ok(())
    }

    /// Ends such a look. The answer comes when its directory is free again.
    pub(super) fn end_look(&mut self, folder: FolderId) -> Option<oneshot::Receiver<()>> {
        let looks = self.folders.runs.get(&folder).is_some_and(|run| run.look);
        looks.then(|| self.stop_folder(folder))
    }

    /// A folder's host while it runs, whether somebody who has it is linked, and whether all was compared.
    pub(super) fn glance_at(
        &self,
        folder: &FolderId,
    ) -> Result<(Option<Host>, bool, bool), Failure> {
        let Some(run) = self.folders.runs.get(folder) else { return Ok((None, false, false)) };
        if let Some((message, hint)) = &run.failed {
            return Err(Failure::failed("folder", message).hint(hint));
        }
        let agreed = run.agreed && run.peers > 0;
        Ok((run.host.clone(), run.peers > 0, agreed))
    }

    fn run_folder(&mut self, stored: &StoredFolder, mode: Mode) {
        let Some(group) = self.groups.get(&stored.group) else { return };
        let (manifest, of_members, of_any) = (group.watch(), group.watch(), group.watch());
        let (folder, dir) = (stored.folder, stored.dir.clone());
        let of_group = stored.group;
        self.folders.openings += 1;
        let opening = self.folders.openings;
        self.folders.runs.insert(folder, Run::new(of_group, opening));
        let authority = FolderAuthority {
            key: Arc::clone(&self.key),
            writers: Arc::new(move |device| manifest.borrow().may_write(device, &folder)),
            anybody: Arc::new(move || {
                let manifest = of_any.borrow();
                manifest.members.keys().any(|device| manifest.may_write(device, &folder))
            }),
            members: Arc::new(move |device| of_members.borrow().may_store(device, &folder)),
            scope: BatchScope { group: Hash(stored.group.0), folder: Hash(folder.0) },
            lasts: true,
            index: stored.index(),
        };
        let (questions, wishes) = (self.questions.ids().clone(), self.settings.wishes(mode));
        let (events, told) = mpsc::channel(EVENTS);
        let keys = self.state.path().to_owned();
        let handle = self.handle.clone();
        // Those that are done need no more of it.
        while self.folders.opening.try_join_next().is_some() {}
        self.folders.opening.spawn(async move {
            let pump = tokio::spawn(pump(told, handle.clone(), folder, opening));
            let place = dir.clone();
            let opened = tokio::task::spawn_blocking(move || {
                let real = tree::real_path(&dir).unwrap_or_else(|_| dir.clone());
                let keys = Some(&*keys);
                (real, start::open((dir, keys), Vec::new(), authority, questions, &wishes, &events))
            });
            let (real, opened) = opened.await.ok().unzip();
            if let Some(real) = real {
                handle.send(move |hub| hub.folders.leads_to(place, real));
            }
            let host = opened.as_ref().and_then(|opened| opened.as_ref().ok()).cloned();
            let taken = handle
                .with(move |hub| hub.folder_opened((of_group, folder), opening, opened))
                .await;
            if taken.is_none() {
                // The device ended meanwhile; its folder must be free again when it has.
                if let Some(host) = host {
                    host.stop().await;
                }
                pump.abort();
            }
        });
    }

    fn folder_opened(
        &mut self,
        (group, folder): (GroupId, FolderId),
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
                run.failed = None;
                // What changed while it was being opened has told nobody.
                host.members_changed();
                run.host = Some(host);
                self.open_everywhere(group, folder);
            }
            Some(Err(error)) => {
                let passes = error.passes_after().filter(|_| !run.look);
                let hint = match passes {
                    Some(remedy) => format!("{remedy}, and it goes on by itself"),
                    None => error.hint().unwrap_or_default(),
                };
                run.failed = Some((error.to_string(), hint));
                if passes.is_some() {
                    let handle = self.handle.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(TRY_AGAIN).await;
                        handle.send(move |hub| {
                            let run = hub.folders.runs.get(&folder);
                            if run.is_some_and(|run| run.opening == opening) {
                                hub.start_folder(folder);
                            }
                        });
                    });
                }
            }
            None => run.failed = Some(("it could not be opened".to_owned(), String::new())),
        }
        self.tell(ApiEvent::FolderChanged { folder: hex(&folder.0) });
    }

    /// Stops a folder; what is under way is finished. If it is to run all the same, it starts anew then.
    pub(super) fn stop_folder(&mut self, folder: FolderId) -> oneshot::Receiver<()> {
        self.shut_everywhere(folder);
        let (done, stopped) = oneshot::channel();
        let run = self.folders.runs.remove(&folder);
        if let Some(Run { host: Some(host), instead, leavings, .. }) = run {
            self.folders.stopping.insert(folder);
            let handle = self.handle.clone();
            tokio::spawn(async move {
                host.stop().await;
                // It holds the lock.
                drop(host);
                if let Some(index) = leavings {
                    for end in ["", "-wal", "-shm"] {
                        let mut path = index.clone().into_os_string();
                        path.push(end);
                        // What stays is read by nobody.
                        let _ = tree::remove_installed(Path::new(&path));
                    }
                    if let Some(dir) = index.parent().and_then(Path::parent) {
                        let _ = tree::Root::leave_no_state(dir);
                    }
                }
                drop(instead);
                let _ = done.send(());
                // Only now is its directory free again.
                handle.send(move |hub| {
                    hub.folders.stopping.remove(&folder);
                    hub.start_folder(folder);
                });
            });
        }
        self.tell(ApiEvent::FolderChanged { folder: hex(&folder.0) });
        stopped
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
                drop(self.stop_folder(folder));
            }
        }
        self.review_slots(group);
    }

    /// Something that a folder tells.
    fn folder_event(&mut self, folder: FolderId, opening: u64, event: Event) {
        let (id, mut restored) = (hex(&folder.0), false);
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
            Event::Conflict { .. } | Event::LocalOnly { .. } => {
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
                if kind == "state_copied" {
                    restored = true;
                }
                if kind == "io" || kind == "index" {
                    run.complaint = Some((message.clone(), hint.clone()));
                }
                Some(ApiEvent::Error { kind: kind.to_owned(), message, hint })
            }
            Event::Stopped => {
                // It cannot go on, and said why.
                run.host = None;
                let why = run.complaint.take();
                run.failed = Some(why.unwrap_or_else(|| ("it stopped".to_owned(), String::new())));
                self.shut_everywhere(folder);
                Some(ApiEvent::FolderChanged { folder: id })
            }
            _ => None,
        };
        if let Some(told) = told {
            self.tell(told);
        }
        if restored {
            self.suspend_codes("a folder's state was copied or restored");
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
