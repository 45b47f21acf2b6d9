//! The contract of `Disk` over real disks; the simulator runs it over its own.

use tree::contract::{CASES, Subject};

use crate::user::User;

/// Runs a case; a failure is preceded by its name.
#[allow(clippy::print_stdout, reason = "the harness shows it for a failing test only")]
fn run(name: &str, case: fn(&dyn Subject), user: &User) {
    println!("case: {name}");
    case(user);
}

#[test]
fn a_real_disk_keeps_the_contract() {
    for (name, case) in CASES {
        run(name, *case, &User::new());
    }
}

#[test]
fn a_real_disk_without_newer_system_calls_keeps_the_contract() {
    for (name, case) in CASES {
        run(name, *case, &User::on_an_older_system());
    }
}
