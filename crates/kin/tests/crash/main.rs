//! Faults on a real disk, under real processes: kill -9 before every call that changes something, calls that
//! fail, and power that is lost under a mounted file system.
//!
//! The program under test is the one that ships; [`tracer`] stops it from outside. Like `tests/net`, this
//! binary has its own `main`, so that what a machine cannot do counts as skipped. `KIN_CRASH_DEPTH=1` tries
//! everything instead of a selection, 2 also every second kill in the recovery; `KIN_CRASH_DIR` names another
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
mod tracer;

use std::process::ExitCode;

use kinds::Kind;
use libtest_mimic::{Arguments, Trial};

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

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let traceable = tracer::probe();
    let trial = |name: String, missing: bool, test: Box<dyn FnOnce() + Send>| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(missing)
    };
    let mut trials = Vec::new();
    for kind in KILLED {
        for (what, run) in [
            ("killed_at_every_call", points::everywhere as fn(Kind)),
            ("every_call_fails_once", failing::everywhere),
        ] {
            let name = format!("{what}::{}", kind.name);
            trials.push(trial(name, traceable.is_err(), Box::new(move || run(kind))));
        }
    }
    trials.push(trial(
        "what_is_skipped_here_is_said".to_owned(),
        false,
        Box::new(move || match traceable {
            Ok(()) => println!("this machine can kill a device at every call"),
            Err(missing) => println!("SKIPPED, all crash points: {missing}"),
        }),
    ));
    libtest_mimic::run(&arguments, trials).exit_code()
}
