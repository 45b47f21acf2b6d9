//! Questions about a folder's contents, which its engine answers on its own thread, and what follows of them.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use folder::{
    engine::{Explanation, Input, LocalKind, Version},
    history::{list, restore::restore_all},
};
use identity::DeviceId;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tree::{Disk as _, Place, Root, TempDir};
use wire::{
    RelPath,
    membership::{FolderId, GroupId},
    record::Body,
};

use super::{
    Device,
    glance::word_for,
    gone,
    hub::{Hub, HubHandle, random},
};
use crate::{
    api::{
        ConflictLine, Failure, FolderMode, LocalLine, Plan, Request, UndoReply, VersionLine,
        WhyReply,
    },
    host::{FolderEngine, Host},
};

/// How long an engine that is busy with the disk may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a plan waits for somebody who has the folder.
const LINKED: Duration = Duration::from_secs(3);
/// How long it waits until everything is compared.
const COMPARED: Duration = Duration::from_secs(120);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

type Reply = Result<Value, Failure>;

fn answer(value: impl Serialize) -> Reply {
    serde_json::to_value(value).map_err(|error| Failure::failed("internal", error))
}

fn path(text: &str) -> Result<RelPath, Failure> {
    RelPath::parse(text).map_err(|error| {
        Failure::usage("path", format!("{text}: {error}")).hint("write it relative to the folder")
    })
}

fn paths(texts: &[String]) -> Result<Vec<RelPath>, Failure> {
    texts.iter().map(|text| path(text)).collect()
}

fn broken(error: impl ToString) -> Failure {
    Failure::failed("index", error)
}

/// True for requests that a folder's engine answers.
pub(super) fn is_for_engine(request: &Request) -> bool {
    matches!(
        request,
        Request::Why { .. }
            | Request::Conflicts { .. }
            | Request::LocalChanges { .. }
            | Request::Revert { .. }
            | Request::Override { .. }
            | Request::Undo { .. }
            | Request::JoinPlan { .. }
    )
}

impl Device {
    /// Carries out such a request.
    pub(super) async fn ask_engine(&self, request: Request) -> Reply {
        let hub = &self.hub;
        match request {
            Request::Why { folder, path: text } => {
                let at = path(&text)?;
                let place = Place::Tree(at.clone());
                let (root, why) = ask_with(hub, folder, move |engine| engine.why(&at)).await?;
                let mut why = why.map_err(broken)?;
                // What is ignored or held back the index does not know as it is now.
                let seen = tokio::task::spawn_blocking(move || root.stat(&place)).await;
                if let Ok(Ok(seen)) = seen {
                    why.is_here = seen.is_some();
                }
                let told = hub.with(move |hub| hub.explained(&why)).await.ok_or_else(gone)?;
                answer(told)
            }
            Request::Conflicts { folder } => {
                let copies = ask(hub, folder, FolderEngine::conflicts).await?.map_err(broken)?;
                let line = |one: folder::engine::ConflictCopy| ConflictLine {
                    copy: one.copy.as_str().to_owned(),
                    path: one.original.as_str().to_owned(),
                };
                answer(copies.into_iter().map(line).collect::<Vec<_>>())
            }
            Request::LocalChanges { folder } => answer(local_changes(hub, folder).await?),
            Request::Revert { folder, paths: texts } => {
                let paths = paths(&texts)?;
                let before = local_changes(hub, folder.clone()).await?;
                tell(hub, folder, Input::Revert { paths }).await?;
                answer(before)
            }
            Request::Override { folder, paths: texts } => {
                let paths = paths(&texts)?;
                let named = folder.clone();
                hub.with(move |hub| hub.only_sends(&named)).await.ok_or_else(gone)??;
                tell(hub, folder, Input::Override { paths }).await?;
                answer(serde_json::json!({}))
            }
            Request::Undo { folder, from, since } => self.undo(folder, from, since).await,
            Request::JoinPlan { folder, dir } => answer(self.plan(folder, dir).await?),
            _ => Err(Failure::failed("internal", "that is no question for a folder")),
        }
    }

    async fn undo(&self, folder: String, from: String, since: u64) -> Reply {
        let found = self
            .hub
            .with(move |hub| {
                let (group, folder) = hub.find_folder(&folder)?;
                let device = hub.groups.find_author(&group, &from)?;
                let keys = hub.groups.keys_of(&group, &device);
                let host = hub.running_host(&folder)?;
                let name = hub.name_of(&device);
                Ok::<_, Failure>((
                    host,
                    hub.peer_on(&device, &folder),
                    keys,
                    device == hub.me,
                    name,
                ))
            })
            .await
            .ok_or_else(gone)??;
        let (host, peer, keys, own, name) = found;
        let replicas = host.ask(move |engine| {
            let mut replicas = engine.replicas_of(&keys);
            replicas.extend(own.then(|| engine.replica()));
            replicas.extend(peer.and_then(|peer| engine.peer_replica(peer)));
            replicas
        });
        let by = within(replicas).await?;
        if by.is_empty() {
            let message = format!("nothing that {name} changed in this folder is known to be its");
            return Err(Failure::failed("unknown_author", message)
                .hint("it has taken part in this folder with nobody that this device has met"));
        }
        let disk = Arc::clone(host.root());
        let history = tokio::task::spawn_blocking(move || list(&*disk, &RelPath::root())).await;
        let history = history
            .map_err(|error| Failure::failed("internal", error))?
            .map_err(|error| Failure::failed("io", format!("the history: {error}")))?;
        let plan = host.ask(move |engine| engine.undo(&history.entries, &by, since));
        let plan = within(plan).await?.map_err(broken)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let number = u64::from_le_bytes(random()?);
        let disk = Arc::clone(host.root());
        let back = plan.back.clone();
        let done = tokio::task::spawn_blocking(move || restore_all(&*disk, &back, now, number));
        let done = done
            .await
            .map_err(|error| Failure::failed("internal", error))?
            .map_err(|error| Failure::failed("io", error))?;
        let text = |path: &RelPath| path.as_str().to_owned();
        let unclear =
            plan.unclear.iter().map(|path| format!("{path}: it is not clear what it was"));
        answer(UndoReply {
            restored: done.restored.iter().map(|one| text(&one.path)).collect(),
            changed_since: plan.changed_since.iter().map(text).collect(),
            failed: done
                .failed
                .iter()
                .map(|(path, error)| format!("{path}: {error}"))
                .chain(unclear)
                .collect(),
        })
    }

    /// What a join would do: the folder is looked at as if it were joined, without giving or taking anything.
    async fn plan(&self, text: String, dir: PathBuf) -> Result<Plan, Failure> {
        let hub = self.hub.clone();
        // Whoever asked may go: what was begun is ended all the same.
        let looked = tokio::spawn(async move {
            let begun = hub.with(move |hub| {
                let (group, folder) = hub.find_folder(&text)?;
                Ok::<_, Failure>((folder, hub.look(group, folder, &dir)?))
            });
            let (folder, looks) = begun.await.ok_or_else(gone)??;
            if !looks {
                return Ok(Plan::default());
            }
            let plan = compare(&hub, folder).await;
            let ended = hub.with(move |hub| hub.end_look(folder)).await.ok_or_else(gone)?;
            if let Some(ended) = ended {
                // Its directory is free again then.
                let _ = ended.await;
            }
            plan
        });
        looked.await.map_err(|error| Failure::failed("internal", error))?
    }
}

async fn compare(hub: &HubHandle, folder: FolderId) -> Result<Plan, Failure> {
    let begun = Instant::now();
    loop {
        let seen = hub.with(move |hub| hub.glance_at(&folder)).await.ok_or_else(gone)?;
        let (host, linked, agreed) = seen?;
        let late = begun.elapsed() > if linked { COMPARED } else { LINKED };
        if let (Some(host), true) = (&host, agreed) {
            let plan = within(host.ask(FolderEngine::plan)).await?.map_err(broken)?;
            let folder::engine::Plan { adds, conflicts, deletes, sends } = plan;
            return Ok(Plan { adds, conflicts, deletes, sends, known: true });
        }
        if late {
            return Ok(Plan::default());
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn within<T>(answer: tokio::sync::oneshot::Receiver<T>) -> Result<T, Failure> {
    match timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Failure::failed("stopped", "the folder has stopped").hint("kin status")),
        Err(_) => Err(Failure { exit: 4, ..Failure::failed("timeout", "the folder is busy") }),
    }
}

async fn ask<T: Send + 'static>(
    hub: &HubHandle,
    folder: String,
    question: impl FnOnce(&mut FolderEngine) -> T + Send + 'static,
) -> Result<T, Failure> {
    Ok(ask_with(hub, folder, question).await?.1)
}

/// The answer, with the folder's door to the disk.
async fn ask_with<T: Send + 'static>(
    hub: &HubHandle,
    folder: String,
    question: impl FnOnce(&mut FolderEngine) -> T + Send + 'static,
) -> Result<(Arc<Root>, T), Failure> {
    let host = hub.with(move |hub| {
        let (_, folder) = hub.find_folder(&folder)?;
        hub.running_host(&folder)
    });
    let host = host.await.ok_or_else(gone)??;
    let answer = within(host.ask(question)).await?;
    Ok((Arc::clone(host.root()), answer))
}

async fn tell(hub: &HubHandle, folder: String, input: Input) -> Result<(), Failure> {
    let host = hub.with(move |hub| {
        let (_, folder) = hub.find_folder(&folder)?;
        hub.running_host(&folder)
    });
    host.await.ok_or_else(gone)??.tell(input);
    Ok(())
}

async fn local_changes(hub: &HubHandle, folder: String) -> Result<Vec<LocalLine>, Failure> {
    let changes = ask(hub, folder, FolderEngine::local_changes).await?.map_err(broken)?;
    let line = |change: folder::engine::LocalChange| LocalLine {
        path: change.path.as_str().to_owned(),
        kind: match change.kind {
            LocalKind::Added => "added",
            LocalKind::Edited => "edited",
            LocalKind::Deleted => "deleted",
        }
        .to_owned(),
    };
    Ok(changes.into_iter().map(line).collect())
}

impl Hub {
    fn running_host(&self, folder: &FolderId) -> Result<Host, Failure> {
        if let Some(host) = self.folders.host(folder) {
            return Ok(host.clone());
        }
        let why =
            |message: String, hint: &str| Err(Failure::failed("not_running", message).hint(hint));
        let Some(stored) = self.folders.get(folder) else {
            return why("this device does not keep that folder".to_owned(), "kin join NAME DIR");
        };
        if self.net.is_none() {
            let message = "the device does not run, and this is asked of a folder that runs";
            return why(message.to_owned(), "start it: kin up");
        }
        let name = self.name_of_folder(stored);
        if stored.paused {
            let hint = format!("go on with it: kin folders resume {}", word_for(stored));
            return why(format!("{name} is paused"), &hint);
        }
        match self.folders.run(folder).and_then(|run| run.failed.clone()) {
            Some((message, hint)) => why(format!("{name} is stopped: {message}"), &hint),
            None => why(
                format!("{name} is not open yet"),
                "try again in a moment; kin folders shows it",
            ),
        }
    }

    /// Where a folder takes what the others change, there is nothing that could count in its place.
    fn only_sends(&self, text: &str) -> Result<(), Failure> {
        let (_, folder) = self.find_folder(text)?;
        match self.folders.get(&folder).map(|stored| stored.mode) {
            Some(FolderMode::Both | FolderMode::Receive) => {
                let message = format!("{text} does not only send here: nothing is held back");
                Err(Failure::usage("mode", message)
                    .hint("kin history and kin restore bring back what others replaced"))
            }
            _ => Ok(()),
        }
    }

    fn explained(&self, why: &Explanation) -> WhyReply {
        let line = |version: &Version| {
            let (kind, size) = match &version.body {
                Body::File { size, .. } => ("file", *size),
                Body::Symlink { .. } => ("link", 0),
                Body::Dir => ("directory", 0),
                Body::Tombstone { .. } => ("deleted", 0),
            };
            let mut devices: Vec<String> =
                version.signers.iter().map(|device| self.name_of(device)).collect();
            if version.is_ours || devices.is_empty() {
                devices.insert(0, self.name.as_str().to_owned());
            }
            devices.dedup();
            VersionLine {
                kind: kind.to_owned(),
                size,
                mtime: version.mtime,
                devices,
                conflict: version.is_conflict,
            }
        };
        WhyReply {
            path: why.path.as_str().to_owned(),
            here: why.is_here,
            decision: why.cause.words(),
            rule: why.cause.rule().to_owned(),
            remedy: why.cause.remedy().unwrap_or_default().to_owned(),
            versions: why.versions.iter().map(line).collect(),
        }
    }

    /// Begins to look at a folder as if it were kept in a directory. False if this device is not linked with
    /// anybody.
    fn look(
        &mut self,
        group: GroupId,
        folder: FolderId,
        dir: &std::path::Path,
    ) -> Result<bool, Failure> {
        if self.folders.get(&folder).is_some() {
            return Err(
                Failure::usage("joined", "the folder is kept here already").hint("kin folders")
            );
        }
        if self.net.is_none() {
            return Ok(false);
        }
        if self.folders.is_busy(&folder) {
            return Err(Failure::failed("busy", "the folder is being looked at already")
                .hint("try again in a moment"));
        }
        // A directory that is still to be made is an empty one, so another empty one shows the same.
        let instead = match self.check_dir(dir) {
            Ok(()) => None,
            Err(failure) if failure.kind == "dir_missing" => {
                let made = TempDir::create("kin-plan");
                Some(made.map_err(|error| Failure::failed("io", format!("{error}")))?)
            }
            Err(failure) => return Err(failure),
        };
        let dir = instead.as_ref().map_or(dir, TempDir::path).to_owned();
        self.start_look(group, folder, &dir, instead)?;
        Ok(true)
    }

    fn peer_on(&self, device: &DeviceId, folder: &FolderId) -> Option<folder::PeerId> {
        self.conns
            .values()
            .filter(|conn| conn.line.peer == *device)
            .find_map(|conn| conn.slots.peer(folder))
    }
}
