//! Faults on a real disk, under real processes: kill -9 before every call that changes something, calls that
//! fail, and power that is lost under a mounted file system.
//!
//! The program under test is the one that ships; [`tracer`] stops it from outside. Like `tests/net`, this
//! binary has its own `main`, so that what a machine cannot do counts as skipped. `KIN_CRASH_DEPTH=1` tries
//! every call instead of a selection, 2 and 3 also second kills in the recovery; `KIN_CRASH_DIR` names another
//! disk to do it on.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "the tests play the person who owns the files, and talk to whoever runs them"
)]

mod failing;
mod kinds;
mod pair;
mod points;
mod power;
mod readonly;
mod tracer;

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode, Stdio},
};

use kinds::Kind;
use libtest_mimic::{Arguments, Trial};
use power::{Ground, Image};

/// What is killed at every call.
const KILLED: [Kind; 14] = [
    kinds::CREATE,
    kinds::REPLACE,
    kinds::DELETE,
    kinds::RENAME,
    kinds::MAKE_DIRS,
    kinds::REMOVE_DIRS,
    kinds::CONFLICT,
    kinds::METADATA,
    kinds::SYMLINK,
    kinds::LARGE_NEW,
    kinds::LARGE_EDIT,
    kinds::FILE_TO_DIR,
    kinds::FILE_TO_LINK,
    kinds::MANY,
];

/// Set in a process whose mounts are its own.
const INSIDE: &str = "KIN_CRASH_INSIDE";
/// The test that always runs.
const SAID: &str = "what_is_skipped_here_is_said";
/// File systems that can lose their power, and in what.
const POWERLESS: [(&str, &[Kind]); 3] = [
    ("ext4", &KILLED),
    ("xfs", &[kinds::REPLACE, kinds::MAKE_DIRS, kinds::CONFLICT, kinds::LARGE_EDIT, kinds::MANY]),
    ("btrfs", &[kinds::REPLACE, kinds::MAKE_DIRS, kinds::CONFLICT, kinds::LARGE_EDIT, kinds::MANY]),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if std::env::var_os(INSIDE).is_none() {
        with_own_mounts();
    }
    // A runner that asks for one test by its whole name has read the list before.
    let asks_for_one = arguments.exact && !arguments.list;
    let is_known = asks_for_one && arguments.filter.as_ref().is_some_and(|name| name != SAID);
    let traceable = if is_known { Ok(()) } else { tracer::probe() };
    let mut skipped = Vec::new();
    let mut trials = Vec::new();
    let mut add = |name: String, missing: &Result<(), String>, test: Box<dyn FnOnce() + Send>| {
        if let Err(missing) = missing {
            skipped.push(format!("SKIPPED, {name}: {missing}"));
        }
        let run = move || {
            test();
            Ok(())
        };
        trials.push(Trial::test(name, run).with_ignored_flag(missing.is_err()));
    };
    for kind in KILLED {
        let test = move || points::everywhere(kind, Ground::Disk);
        add(format!("killed_at_every_call::{}", kind.name), &traceable, Box::new(test));
        let test = move || failing::everywhere(kind, Ground::Disk);
        add(format!("every_call_fails_once::{}", kind.name), &traceable, Box::new(test));
    }
    let name = "a_read_of_the_index_that_fails_ends_no_run".to_owned();
    add(name, &traceable, Box::new(failing::a_read_of_the_index_that_fails_ends_no_run));
    for (file_system, kinds) in POWERLESS {
        let possible = || power::probe(file_system, &pair::disk());
        let possible = traceable.clone().and_then(|()| if is_known { Ok(()) } else { possible() });
        for kind in kinds.iter().copied() {
            let test = move || {
                let image = Image::new(file_system, &pair::disk()).expect("the probe could");
                points::everywhere(kind, Ground::Image(image));
            };
            let name = format!("power_is_lost_at_every_call::{file_system}::{}", kind.name);
            add(name, &possible, Box::new(test));
        }
        if file_system == "ext4" {
            let test = move || {
                let image = Image::new(file_system, &pair::disk()).expect("the probe could");
                readonly::attack_35_a_disk_that_becomes_read_only(image);
            };
            let name = "attack_35_a_disk_that_becomes_read_only".to_owned();
            add(name, &possible, Box::new(test));
        }
    }
    let say = move || {
        if skipped.is_empty() {
            println!("this machine can do all of it");
        }
        for skipped in skipped {
            println!("{skipped}");
        }
        Ok(())
    };
    trials.push(Trial::test(SAID, say));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Replaces this process by itself with mounts of its own, which go when it goes. Where that is not permitted,
/// mounting is not either, and the probes say so.
fn with_own_mounts() {
    let Ok(me) = std::env::current_exe() else { return };
    let possible = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(me).args(std::env::args_os().skip(1));
    let error = command.env(INSIDE, "1").exec();
    println!("unshare, which the probe could start: {error}");
}
