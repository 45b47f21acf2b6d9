//! The threads that do the engine's jobs: a few that read and write at the same time, and one that
//! applies, so that two groups are never under way at once.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use folder::jobs::{self, Done, Job};
use tree::Disk;

/// Threads for all jobs but applying.
const WORKERS: usize = 3;

/// The threads. Dropping it lets them finish what they have and end.
#[derive(Debug)]
pub(super) struct Pool {
    work: Sender<Job>,
    apply: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts the threads; `done` is called on them with what came of each job.
    pub(super) fn start(
        disk: &Arc<dyn Disk>,
        done: impl Fn(Done) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (work, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut threads = Vec::new();
        for number in 0..WORKERS {
            let (waiting, disk, done) = (Arc::clone(&waiting), Arc::clone(disk), done.clone());
            let name = format!("kin-work-{number}");
            threads.push(thread::Builder::new().name(name).spawn(move || {
                while let Some(job) = next(&waiting) {
                    done(jobs::run(&*disk, job));
                }
            })?);
        }
        let (apply, applies) = mpsc::channel();
        let disk = Arc::clone(disk);
        let name = "kin-apply".to_owned();
        threads.push(thread::Builder::new().name(name).spawn(move || {
            while let Ok(job) = applies.recv() {
                done(jobs::run(&*disk, job));
            }
        })?);
        Ok(Self { work, apply, threads })
    }

    pub(super) fn run(&self, job: Job) {
        let to = match &job {
            Job::Apply { .. }
            | Job::LookAgain { .. }
            | Job::Recover { .. }
            | Job::TidyHistory { .. } => &self.apply,
            _ => &self.work,
        };
        // The threads live as long as the pool.
        let _ = to.send(job);
    }

    /// Waits for the threads to end; what they still had is done.
    pub(super) fn join(self) {
        let Self { work, apply, threads } = self;
        drop((work, apply));
        for thread in threads {
            // A thread that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

fn next(waiting: &Mutex<Receiver<Job>>) -> Option<Job> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
