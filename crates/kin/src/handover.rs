//! Takes a secret from this process's arguments, where others on this machine can read them (rule T20), by
//! running the same program again without it: the secret goes along in a pipe.

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::Command,
};

use rustix::{
    fd::AsRawFd as _,
    io::{FdFlags, fcntl_setfd},
};

use crate::error::CommandError;

/// What is said of a token among the arguments.
pub(crate) const EXPOSED: &str = "the token was an argument: others on this machine may have seen it, and your \
     shell may keep it in its history. Paste it after kin pair -, or use --from-file.";

/// What is said of a sharing code among the arguments.
pub(crate) const EXPOSED_CODE: &str = "the code was an argument: others on this machine may have seen it, and your \
     shell may keep it in its history. Paste it after kin join -, or use --from-file.";

/// What stands in the place of a secret among the arguments, before the number of the pipe. No address and no
/// token begins so.
pub(crate) const HANDED: &str = "@";
/// Longest secret in bytes: what goes into any pipe at once.
const MAX: usize = 4096;

/// Starts the program anew, in this very process, with `secret` taken from its arguments. Returns only if
/// that cannot be done.
pub(crate) fn hand_over(secret: &str) {
    let Ok(program) = env::current_exe() else { return };
    if secret.len() > MAX {
        return;
    }
    let Ok((read, mut write)) = io::pipe() else { return };
    if write.write_all(secret.as_bytes()).is_err() {
        return;
    }
    drop(write);
    // Only the reading end outlives the change.
    if fcntl_setfd(&read, FdFlags::empty()).is_err() {
        return;
    }
    let place = OsString::from(format!("{HANDED}{}", read.as_raw_fd()));
    let args = env::args_os().skip(1);
    let args = args.map(|arg| if arg == *secret { place.clone() } else { arg });
    // An error means that it goes on as it is, with a warning.
    let _ = Command::new(program).args(args).exec();
}

/// The secret that was handed over.
///
/// # Errors
/// If there is none.
pub(crate) fn receive(fd: u32) -> Result<String, CommandError> {
    tree::read_inherited(fd, MAX).map_err(|error| {
        CommandError::usage("token", &format!("{HANDED}{fd}: nothing was handed over: {error}"))
            .hint("this is kin's own way to pass a secret on; use - or --from-file")
    })
}
