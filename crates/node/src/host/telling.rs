//! What the engine tells, in this crate's words.

use folder::engine;

use super::Running;
use crate::Event;

impl Running {
    pub(super) fn engine_event(&mut self, event: engine::Event) {
        let event = match event {
            engine::Event::Applied { path, kind, from } => Event::Applied { path, kind, from },
            engine::Event::Conflict { path, copy, from } => Event::Conflict { path, copy, from },
            engine::Event::Skipped { path, reason } => Event::Skipped { path, reason },
            engine::Event::Progress(progress) => Event::Progress {
                files_done: progress.files_done,
                files_total: progress.files_total,
                bytes_done: progress.bytes_done,
                bytes_total: progress.bytes_total,
            },
            engine::Event::Brake { id: number, deletes, of, held, from, here } => {
                let id = self.questions.next();
                self.brake = Some((id, number));
                Event::Brake { id, deletes, of, held, from, here }
            }
            engine::Event::BrakeReleased { id: number, reason } => {
                let asked = self.brake.take_if(|(_, open)| *open == number);
                let Some((id, _)) = asked else { return };
                Event::ConfirmWithdrawn { id, reason }
            }
            engine::Event::RootGone { reason } => return self.root_is_gone(&reason),
            engine::Event::Mended { path } => Event::Mended { path },
            // A session's members all write: neither happens there.
            engine::Event::LocalOnly(change) => Event::LocalOnly { path: change.path },
            engine::Event::Refused { path, from, author } => {
                let author = author.short();
                let message = format!(
                    "{path}: a change was not taken from {from}: it is signed by {author}, which may not write here"
                );
                let hint = "kin devices shows who may; its contents are kept where they were made";
                Event::Error { kind: "role", message, hint: hint.to_owned() }
            }
            engine::Event::DeletedAgain { path, from, .. } => {
                tracing::info!(%path, from, "deleted again: it comes from before its deletion was forgotten");
                return;
            }
            engine::Event::InSync { files, bytes, peers, skipped, lost, .. } => {
                let (not_applied, not_applied_elsewhere) = lost;
                Event::InSync { files, bytes, peers, skipped, not_applied, not_applied_elsewhere }
            }
            engine::Event::NewReplica { reason } => {
                let message = format!("{reason}: it counts as another device from now on");
                let hint =
                    "nothing is lost; what was edited on both is in conflict copies".to_owned();
                Event::Error { kind: "state_copied", message, hint }
            }
        };
        self.event(event);
    }
}
