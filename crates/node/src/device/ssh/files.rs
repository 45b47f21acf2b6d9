//! The thread that changes the user's SSH files for a device, one job after the other, so that what is taken
//! away later is taken away last.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
};

use ssh::{Here, SshError};

/// Whose SSH files a device changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum SshHome {
    /// Nobody's: the device leaves SSH alone.
    #[default]
    Nowhere,
    /// Those of the user that the process is of, by the uid.
    User,
    /// Those in a directory that stands for the user's home, for tests.
    At(PathBuf),
}

/// Something done to the files.
type Job = Box<dyn FnOnce(Result<Here, SshError>) + Send>;

/// To the thread.
pub(in crate::device) struct Files {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

impl Files {
    /// Starts it; `None` if the device leaves SSH alone, or there is no thread to be had.
    pub(in crate::device) fn start(home: &SshHome, state: &Path) -> Option<Self> {
        let instead = match home {
            SshHome::Nowhere => return None,
            SshHome::User => None,
            SshHome::At(dir) => Some(dir.clone()),
        };
        let state = state.to_owned();
        let (jobs, waiting) = mpsc::channel::<Job>();
        let work = move || {
            for job in waiting {
                // Opened anew each time: a person may change the settings meanwhile.
                job(Here::open(&state, instead.as_deref()));
            }
        };
        let thread = std::thread::Builder::new().name("kin-ssh".to_owned()).spawn(work);
        match thread {
            Ok(thread) => Some(Self { jobs, thread }),
            Err(error) => {
                tracing::warn!(%error, "SSH is left alone: no thread for it");
                None
            }
        }
    }

    /// Has something done when what was asked for before is done.
    pub(in crate::device) fn run(&self, job: impl FnOnce(Result<Here, SshError>) + Send + 'static) {
        // The thread ends only when this is dropped.
        let _ = self.jobs.send(Box::new(job));
    }

    /// Waits until everything is done.
    pub(in crate::device) fn finish(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}
