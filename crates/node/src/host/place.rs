//! Whether the folder is where it was (rule E18). Nothing tells that a directory above it was moved, or its file system
//! unmounted or mounted over, while what was opened at the start goes on to be there.

use std::time::{Duration, Instant};

use folder::{engine::Effect, jobs::Job};
use tree::RootGone;
use wire::RelPath;

use super::{Running, ToHost};

/// Its place is looked at this often.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// Not while so much is under way already: a disk that does not answer is asked no more.
const MAX_JOBS: usize = 8;

/// When its place was looked at last.
#[derive(Debug, Default)]
pub(super) struct Place(Option<Instant>);

impl Running {
    /// Looks at the folder's place now and then, and when somebody comes who may bring changes.
    pub(super) fn look_at_place(&mut self, told: Option<&ToHost>) {
        let is_due = self.place.0.is_none_or(|at| at.elapsed() >= EVERY);
        if (is_due || matches!(told, Some(ToHost::PeerUp { .. }))) && self.jobs < MAX_JOBS {
            self.place.0 = Some(Instant::now());
            let paths = vec![RelPath::root()];
            self.effect(Effect::Job(Job::Stat { paths, since: 0 }));
        }
    }

    /// True if the folder is not where it was any more; then nothing goes on (rule E18).
    pub(super) fn is_gone(&mut self) -> bool {
        match self.root.still_there() {
            // What cannot be told now is asked again before anything counts as deleted (rule E19).
            Ok(()) | Err(RootGone::Unknown { .. }) => false,
            Err(error) => {
                self.root_is_gone(&error.to_string());
                true
            }
        }
    }

    /// Rule E18: what is not there is no deletion.
    pub(super) fn root_is_gone(&mut self, reason: &str) {
        let hint = "put the folder back where it was and start again";
        self.die("io", &format!("{}: {reason}", self.root.path().display()), hint);
    }
}
