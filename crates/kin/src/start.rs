//! The seam to crate `node`: starting a device, and saying why it did not start.

use std::{future::Future, io, path::Path};

use node::{Event, Handle, QuestionId, SyncConfig};
use tokio::sync::mpsc;

use crate::{
    error::{CommandError, Exit},
    session::Controls,
};

/// Starts a device.
///
/// # Errors
/// As crate `node` says, with the exit code that belongs to it.
pub(crate) async fn start(
    config: SyncConfig,
) -> Result<(Handle, mpsc::Receiver<Event>), CommandError> {
    node::start(config).await.map_err(|error| {
        let exit = exit(error.kind());
        let hint = error.hint().unwrap_or_default();
        CommandError::new(exit, error.kind(), &error.to_string()).hint(&hint)
    })
}

/// What is wrong with what was asked for exits 2; what is wrong with this machine exits 1.
fn exit(kind: &str) -> Exit {
    match kind {
        "not_a_directory" | "dir_missing" | "permission" | "port_in_use" | "bad_name"
        | "bad_topic" | "bad_exclude" | "changes_names" | "bad_address" | "holds_keys"
        | "virtual" => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// Looks at the folder before anything is asked or opened, so that a typing mistake costs no passphrase.
///
/// # Errors
/// If there is no such directory.
pub(crate) fn check_dir(dir: &Path) -> Result<(), CommandError> {
    let shown = dir.display();
    let bad =
        |kind, message: String, hint: &str| Err(CommandError::usage(kind, &message).hint(hint));
    match dir.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => bad(
            "not_a_directory",
            format!("{shown} is not a directory"),
            "give the directory that holds it",
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bad(
            "dir_missing",
            format!("{shown} does not exist"),
            "create it first, for example with mkdir -p",
        ),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => bad(
            "not_a_directory",
            format!("{shown} is not a directory"),
            "a file is in the way; check the spelling",
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bad(
            "permission",
            format!("{shown} cannot be opened: permission denied"),
            "ask its owner for access",
        ),
        Err(error) => bad("io", format!("{shown} cannot be opened: {error}"), "check the path"),
    }
}

impl Controls for Handle {
    fn answer(&self, id: QuestionId, yes: bool) {
        Self::answer(self, id, yes);
    }

    fn reopen(&self) {
        Self::reopen(self);
    }

    fn stop(&self) -> impl Future<Output = ()> {
        Self::stop(self)
    }
}
