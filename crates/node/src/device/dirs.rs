//! Directories that a person names are looked at away from the hub's task first: where a mount's server is gone, a system
//! call answers to nobody, and the device must not wait with it.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{
    gone,
    hub::{Hub, HubHandle},
    store::StoredFolder,
};
use crate::api::{Failure, Request};

/// How long a file system may take to say where a path leads.
const PATIENCE: Duration = Duration::from_secs(10);
/// Looks under way at what people name. One that is never answered keeps its thread.
static LOOKS: Semaphore = Semaphore::const_new(16);

/// Nobody has said where a path leads.
#[derive(PartialEq, Eq, Debug)]
struct Silent;

/// The directory that a request is about.
pub(super) fn named(request: &Request) -> Option<&Path> {
    match request {
        Request::Share { dir, .. } | Request::Join { dir, .. } | Request::JoinPlan { dir, .. } => {
            Some(dir)
        }
        Request::ShareCode(wish) => wish.dir.as_deref(),
        _ => None,
    }
}

/// Before the hub looks at a directory: it answers, and of all folders it is known where they are, but for those that do
/// not answer.
pub(super) async fn prepare(hub: &HubHandle, dir: &Path) -> Result<(), Failure> {
    let looks = hub.with(Hub::look_at_unknown).await.ok_or_else(gone)?;
    let here = leads(&LOOKS, dir.to_owned(), tree::real_path, PATIENCE).await;
    // Beside each other, so that one which does not answer costs the others no time.
    let _ = timeout(PATIENCE, looks.join_all()).await;
    here.map(drop).map_err(|Silent| {
        let message = format!("{}: its file system does not answer", dir.display());
        Failure::failed("io", message).hint("mend or unmount it, or give another directory")
    })
}

/// Where a path leads; where it leads nowhere, the path itself.
async fn leads(
    looks: &'static Semaphore,
    path: PathBuf,
    look: impl FnOnce(&Path) -> io::Result<PathBuf> + Send + 'static,
    patience: Duration,
) -> Result<PathBuf, Silent> {
    let looked = async {
        let permit = looks.acquire().await.map_err(|_| Silent)?;
        let looked = tokio::task::spawn_blocking(move || {
            let real = look(&path).unwrap_or(path);
            drop(permit);
            real
        });
        looked.await.map_err(|_| Silent)
    };
    timeout(patience, looked).await.unwrap_or(Err(Silent))
}

/// What is taken out of directories, where nobody waits for it: one that does not answer keeps its thread, and nobody
/// else.
#[derive(Default)]
pub(super) struct Leavings(JoinSet<()>);

impl Leavings {
    pub(super) fn take(&mut self, dir: PathBuf, take: impl FnOnce(&Path) + Send + 'static) {
        // Those that are done.
        while self.0.try_join_next().is_some() {}
        let looks = &LOOKS;
        self.0.spawn(async move {
            let Ok(permit) = looks.acquire().await else { return };
            let taken = tokio::task::spawn_blocking(move || {
                take(&dir);
                drop(permit);
            });
            // What went wrong harms nobody.
            let _ = taken.await;
        });
    }

    /// Waits until all is done.
    pub(super) async fn all(&mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

impl Hub {
    /// Looks at the directories of folders that were not looked at since the device began, each once: one that does not
    /// answer is not asked again.
    fn look_at_unknown(&mut self) -> JoinSet<()> {
        let mut looks = JoinSet::new();
        for dir in self.folders.begin_looks() {
            let (hub, (done, seen)) = (self.handle.clone(), oneshot::channel());
            // It goes on where nobody waits any more.
            tokio::task::spawn_blocking(move || {
                let real = tree::real_path(&dir).unwrap_or_else(|_| dir.clone());
                hub.send(move |hub| {
                    hub.folders.leads_to(dir, real);
                    let _ = done.send(());
                });
            });
            looks.spawn(async move {
                let _ = seen.await;
            });
        }
        looks
    }

    /// A folder that holds a directory, or lies in it.
    pub(super) fn overlapping(&self, dir: &Path) -> Option<&StoredFolder> {
        self.folders.stored().iter().find(|stored| {
            // Where one leads that does not answer, nobody can say.
            let stored = self.folders.real(&stored.dir).unwrap_or(&stored.dir);
            stored.starts_with(dir) || dir.starts_with(stored)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    static FEW: Semaphore = Semaphore::const_new(1);

    #[tokio::test]
    async fn what_is_taken_out_of_a_directory_that_does_not_answer_keeps_nobody_waiting() {
        let (answer, silent) = mpsc::channel::<()>();
        let (taken, takes) = mpsc::channel();
        let mut leavings = Leavings::default();
        leavings.take(PathBuf::from("/silent"), move |_| {
            let _ = silent.recv();
        });
        // Which this one comes after.
        leavings.take(PathBuf::from("/a"), move |dir| taken.send(dir.to_owned()).unwrap());
        let all = leavings.all();
        tokio::pin!(all);
        let first = tokio::task::spawn_blocking(move || takes.recv().unwrap());
        let first = tokio::select! {
            () = &mut all => panic!("one does not answer"),
            first = first => first.unwrap(),
        };
        assert_eq!(first, PathBuf::from("/a"));
        answer.send(()).unwrap();
        all.await;
    }

    #[tokio::test]
    async fn a_file_system_that_does_not_answer_is_waited_for_no_longer_than_is_said() {
        let dir = || PathBuf::from("/a");
        let (answer, silent) = mpsc::channel::<PathBuf>();
        let hangs = move |_: &Path| silent.recv().map_err(io::Error::other);
        let long = PATIENCE;
        assert_eq!(leads(&FEW, dir(), hangs, Duration::from_millis(1)).await, Err(Silent));
        // Nor does one after the other take all threads.
        let answers = |_: &Path| Ok(PathBuf::from("/b"));
        let short = Duration::from_millis(1);
        assert_eq!(leads(&FEW, dir(), answers, short).await, Err(Silent));
        answer.send(PathBuf::from("/late")).unwrap();
        assert_eq!(leads(&FEW, dir(), answers, long).await, Ok(PathBuf::from("/b")));
        let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
        assert_eq!(leads(&FEW, dir(), nothing, long).await, Ok(dir()));
    }
}
