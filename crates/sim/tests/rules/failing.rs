//! One call on the disk fails, the first one, the second one, and so on until a run has no more of them: on the
//! device that brings a change, and on the one that has made it.
//!
//! All calls are tried; with `KIN_SIM_ENDS=all` in eight histories of each kind, whose delays differ.
#![allow(clippy::print_stdout, reason = "says how much was tried")]

use sim::disk::Failing;

use crate::{
    SEEDS,
    kinds::{self, Kind},
};

/// Until a device has looked at everything again, in virtual milliseconds.
const NEXT_LOOK: u64 = 11 * 60 * 1000;

/// Plays one history; returns how many calls the failure could have met.
fn play(kind: &Kind, seed: u64, failing: Failing, on: usize, number: u64) -> u64 {
    let story = format!("seed {seed}: {failing} at call {number} of device {on}");
    let (mut scenario, wanted) = kind.begin(seed);
    let disk = scenario.disk(on);
    disk.fail_one(failing, number);
    scenario.link(0, 1);
    scenario.settle();
    let concerned = disk.concerned();
    if scenario.tree(0) != scenario.tree(1) {
        // A directory that could not be read is read again with the next look at everything.
        scenario.run(NEXT_LOOK);
        scenario.settle();
    }
    kind.judge(&scenario, &wanted, &story);
    for (_, text) in kind.meanwhile {
        // The disk may have failed while it was put away.
        let kept = (0..2).any(|device| scenario.has(device, text.as_bytes()));
        assert!(kept, "{}, {story}: no {text}", kind.name);
    }
    concerned
}

#[track_caller]
fn everywhere(failing: Failing) {
    let all = std::env::var("KIN_SIM_ENDS").is_ok_and(|wanted| wanted == "all");
    let mut failed = 0;
    for seed in if all { SEEDS } else { 3..4 } {
        for kind in &kinds::ALL {
            for on in [1, 0] {
                let calls = play(kind, seed, failing, on, u64::MAX);
                for number in 0..calls {
                    let concerned = play(kind, seed, failing, on, number);
                    assert!(concerned > number, "{}: {number} of {calls}", kind.name);
                    failed += 1;
                }
            }
        }
    }
    println!("{failing}: {failed} calls");
    assert!(failed > 25, "only {failed} calls failed");
}

#[test]
fn a_call_that_fails_with_eio_costs_nothing_but_time() {
    everywhere(Failing::Broken);
}

#[test]
fn a_call_that_fails_with_enospc_costs_nothing_but_time() {
    everywhere(Failing::Full);
}

#[test]
fn a_call_that_fails_with_emfile_costs_nothing_but_time() {
    everywhere(Failing::NoHandles);
}

#[test]
fn a_call_that_fails_with_erofs_costs_nothing_but_time() {
    everywhere(Failing::ReadOnly);
}
