//! The n-th call on the folder fails, for every n: what goes wrong is said, nothing is lost, and once nothing
//! fails any more the devices agree.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use serde_json::Value;

use crate::{
    kinds::{self, Kind},
    points::{self, Tries, shuffle},
    power::Ground,
    tracer::{Call, Then},
};

/// A kind's part of the time that `.ci/run` takes.
const SHARE: Duration = Duration::from_secs(4);

/// An error, and the calls that can give it.
struct Failure {
    error: Errno,
    meets: fn(&Call) -> bool,
}

impl Failure {
    /// `KIN_CRASH_THREAD` leaves out the calls of other threads.
    fn meets(&self, call: &Call) -> bool {
        let only = std::env::var("KIN_CRASH_THREAD");
        (self.meets)(call) && only.map_or(true, |only| only == call.thread)
    }
}

const FAILURES: [Failure; 4] = [
    Failure { error: Errno::EIO, meets: |_| true },
    Failure { error: Errno::ENOSPC, meets: |call| call.changes },
    Failure { error: Errno::EMFILE, meets: |call| call.name.starts_with("open") },
    Failure { error: Errno::EROFS, meets: |call| call.changes && !call.name.contains("sync") },
];

/// How runs with a failure ended.
#[derive(Default, Debug)]
struct Sum {
    tries: u64,
    /// The device went on by itself and agreed in the same run.
    went_on: u64,
    /// Of these: it agreed but for what it reported as skipped.
    left_out: u64,
    /// It ended and said why, and the next run agreed.
    next_run: u64,
    /// It waited for something that does not come.
    stood_still: Vec<String>,
    /// It ended, and said nothing.
    unnamed: Vec<String>,
    /// It ended because its index failed it once, which is to be read or written again.
    gave_up: Vec<String>,
}

/// Fails every call of a kind of change once with every error, or as many as there is time for.
pub(crate) fn everywhere(kind: Kind, ground: Ground) {
    let all = points::depth() > 0;
    let begun = Instant::now();
    let mut tries = Tries::new(kind, ground);
    let mut order = Vec::new();
    for failure in &FAILURES {
        let calls = count(&mut tries, failure);
        order.extend((1..=calls).map(|number| (failure, number)));
    }
    if !all {
        let mut places: Vec<u64> = (0..order.len() as u64).collect();
        shuffle(&mut places, kind.name);
        let place = |number: u64| usize::try_from(number).unwrap_or_default();
        order = places.into_iter().map(|number| order[place(number)]).collect();
    }
    let mut sum = Sum::default();
    for (failure, number) in order {
        if !all && begun.elapsed() > SHARE {
            break;
        }
        fail(&mut tries, failure, number, &mut sum);
    }
    println!("{}: {sum:#?} {:?}", kind.name, begun.elapsed());
    let fine = sum.unnamed.is_empty() && sum.stood_still.is_empty() && sum.gave_up.is_empty();
    assert!(fine, "{}: see above", kind.name);
}

/// To SQLite a read that failed is damage; what is damaged is so at a second look, too.
pub(crate) fn a_read_of_the_index_that_fails_ends_no_run() {
    let mut tries = Tries::new(kinds::REPLACE, Ground::Disk);
    let reads = |call: &Call| {
        call.name == "pread64" && call.on == ".kin/index.db" && call.thread == "kin-engine"
    };
    let failure = Failure { error: Errno::EIO, meets: reads };
    let calls = count(&mut tries, &failure);
    let mut sum = Sum::default();
    for number in [1, calls / 2, calls] {
        fail(&mut tries, &failure, number.max(1), &mut sum);
    }
    assert!(sum.tries > 0 && sum.went_on == sum.tries, "{sum:#?}");
}

fn count(tries: &mut Tries, failure: &Failure) -> u64 {
    let (pair, one) = tries.begin();
    let mut calls = 0;
    let ended = pair.traced_b(&one.a, |call| {
        calls += u64::from(failure.meets(call));
        Then::Go
    });
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    calls
}

fn fail(tries: &mut Tries, failure: &Failure, number: u64, sum: &mut Sum) {
    let (pair, one) = tries.begin();
    let mut calls = 0;
    let mut failed = None;
    let ended = pair.traced_b(&one.a, |call| {
        calls += u64::from(failure.meets(call));
        if failed.is_some() || calls != number || !failure.meets(call) {
            return Then::Go;
        }
        failed = Some(call.clone());
        Then::Fail(failure.error as i32)
    });
    let Some(failed) = failed else { return };
    let story = format!("call {number}, {failed}, failed with {:?}", failure.error);
    one.check(pair, &story);
    // One call that failed is no reason to forget what is known.
    assert!(!pair.b.join(".kin/index.db.bad").exists(), "{story}: the index was set aside");
    sum.tries += 1;
    if ended.code == Some(0) {
        sum.went_on += 1;
        let equal = lab::trees::same(&pair.a, &pair.b);
        if !equal && let Some(trouble) = trouble(&ended.said) {
            // What is reported as skipped need not agree (rule E25).
            println!("    {story}: left out: {trouble}");
            sum.left_out += 1;
        } else if !equal {
            sum.unnamed.push(format!("{story}: said to agree, but trees differ: {}", ended.said));
        }
    } else {
        let trouble = trouble(&ended.said);
        let how =
            format!("{story}: exit {:?}: {}", ended.code, trouble.clone().unwrap_or_default());
        println!("    {how}");
        if ended.code == Some(4) {
            sum.stood_still.push(how);
        } else if trouble.is_none() {
            sum.unnamed.push(how);
        } else if failed.thread == "kin-engine" {
            sum.gave_up.push(how);
        } else {
            sum.next_run += 1;
        }
    }
    one.converge(pair, &story);
}

/// What was named as trouble: an error or a path that is left out, with its reason.
fn trouble(said: &str) -> Option<String> {
    let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let troubles = events.filter(|event| event["event"] == "error" || event["event"] == "skipped");
    // That nothing moves is not yet the reason.
    let troubles = troubles.filter(|event| event["kind"] != "timeout");
    let words = troubles.filter_map(|event| {
        let words = event["message"].as_str().or(event["reason"].as_str())?;
        (!words.is_empty()).then(|| words.to_owned())
    });
    let words: Vec<_> = words.collect();
    (!words.is_empty()).then(|| words.join(" | "))
}
