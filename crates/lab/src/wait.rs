//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Deadline for what takes a moment on an idle machine; generous, since tests share two cores.
pub const SHORT: Duration = Duration::from_secs(40);
/// Deadline for moving a GiB or twenty thousand files on a busy machine.
pub const LONG: Duration = Duration::from_secs(150);

/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(10);

/// Returns once `condition` holds.
///
/// # Panics
/// If it does not within [`SHORT`]; the message names `what`.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(SHORT, what, condition);
}

/// Returns once `condition` holds.
///
/// # Panics
/// If it does not within `limit`; the message names `what`.
#[track_caller]
pub fn eventually_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tick();
    }
}

/// Lets others run for a moment between two looks at a condition.
pub(crate) fn tick() {
    std::thread::park_timeout(TICK);
}
