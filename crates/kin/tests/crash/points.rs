//! Kill -9 before every call that changes something, and again before every call of the recovery.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    kinds::Kind,
    pair::{Between, Pair, Running},
    power::Ground,
    tracer::{Call, Then},
};

/// 1: every call. 2: after each kill in a thread that changes the tree, every call of the next run. 3: the same
/// after every kill, which takes days.
const DEPTH: &str = "KIN_CRASH_DEPTH";
/// A kind's part of the time that `.ci/run` takes.
const SHARE: Duration = Duration::from_secs(4);

/// How many calls in a row are tried exhaustively; 0 for a selection.
pub(crate) fn depth() -> u32 {
    std::env::var(DEPTH).ok().and_then(|depth| depth.parse().ok()).unwrap_or(0)
}

/// Folders in which many tries follow each other, each in a directory of its own.
pub(crate) struct Tries {
    kind: Kind,
    // Gone before the ground it is on.
    pair: Pair,
    ground: Ground,
    next: u64,
}

/// One try: the edits are made, a device runs in `a`.
pub(crate) struct Try<'a> {
    ground: &'a Ground,
    pub(crate) a: Running,
    pub(crate) between: Between,
    name: String,
    /// Nothing was changed in `b`: what was changed in `a` is to stand.
    by_one: bool,
}

impl Tries {
    pub(crate) fn new(kind: Kind, ground: Ground) -> Self {
        let pair = Self::prepare(&kind, &ground, 0);
        Self { kind, pair, ground, next: 0 }
    }

    fn place(number: u64) -> PathBuf {
        PathBuf::from(format!("t{number}"))
    }

    fn prepare(kind: &Kind, ground: &Ground, first: u64) -> Pair {
        let pair = Pair::new(ground);
        for number in first..first + kind.batch {
            (kind.before)(&pair.a.join(Self::place(number)), number);
        }
        let a = pair.start_a();
        pair.agree(&a);
        pair.assert_equal();
        pair
    }

    /// Makes the edits of the next try.
    pub(crate) fn begin(&mut self) -> (&Pair, Try<'_>) {
        let number = self.next;
        if number > 0 && number.is_multiple_of(self.kind.batch) {
            self.pair = Self::prepare(&self.kind, &self.ground, number);
        }
        self.next += 1;
        let place = Self::place(number);
        (self.kind.change)(&self.pair.a.join(&place), number);
        (self.kind.meanwhile)(&self.pair.b.join(&place), number);
        self.ground.settle();
        let between = Between::of(&self.pair);
        let a = self.pair.start_a();
        let by_one = self.kind.by_one;
        let ground = &self.ground;
        (
            &self.pair,
            Try { ground, by_one, a, between, name: format!("{}, try {number}", self.kind.name) },
        )
    }
}

impl Try<'_> {
    /// Runs a device in `b` that is killed at the `at`th call that counts, from 1. Returns
    /// that call; `None` if there were fewer.
    #[track_caller]
    fn kill_at(&self, pair: &Pair, at: u64, counts: Counts, earlier: &str) -> Option<Call> {
        let mut calls = 0;
        let mut killed = None;
        let ended = pair.traced_b(&self.a, |call| {
            calls += u64::from(counts(call));
            if !counts(call) || calls != at {
                return Then::Go;
            }
            killed = Some(call.clone());
            self.ground.cut();
            Then::Kill
        });
        let call = killed.as_ref().map_or_else(|| "none".to_owned(), Call::to_string);
        let story = format!("{}{earlier}, killed at call {at}: {call}", self.name);
        if killed.is_none() {
            assert_eq!(ended.code, Some(0), "{story}: {}", ended.said);
        } else {
            self.ground.restore();
        }
        self.check(pair, &story);
        killed
    }

    #[track_caller]
    pub(crate) fn check(&self, pair: &Pair, story: &str) {
        if let Err(what) = self.between.check(pair) {
            panic!("{story}: {what}");
        }
    }

    /// Nothing hinders any more: the devices agree, and nothing is lost.
    #[track_caller]
    pub(crate) fn converge(&self, pair: &Pair, story: &str) {
        let agreed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pair.agree(&self.a);
            pair.assert_equal();
        }));
        assert!(agreed.is_ok(), "{}, {story}: they do not agree afterwards, see above", self.name);
        if self.by_one
            && let Err(what) = self.between.check_outcome(pair)
        {
            panic!("{}, {story}: {what}", self.name);
        }
        self.check(pair, story);
    }
}

/// What was done to one kind of change.
#[derive(Default)]
struct Sum {
    first: u64,
    second: u64,
    longer: u64,
    /// How often the device was killed at which call, and in which thread.
    calls: BTreeMap<(String, &'static str), u64>,
}

/// Says which calls are counted.
type Counts = fn(&Call) -> bool;

fn changes(call: &Call) -> bool {
    call.changes
}

fn changes_the_tree(call: &Call) -> bool {
    call.changes && (call.thread.starts_with("kin-apply") || call.thread.starts_with("kin-work"))
}

/// Kills at every call for a kind of change, or at as many as there is time for.
pub(crate) fn everywhere(kind: Kind, ground: Ground) {
    let all = depth() > 0;
    let begun = Instant::now();
    let mut tries = Tries::new(kind, ground);
    let mut sum = Sum::default();
    let points = count(&mut tries);
    let mut order: Vec<u64> = (1..=points + 2).collect();
    if !all {
        shuffle(&mut order, kind.name);
    }
    for first in order.into_iter().filter(|_| depth() < 2) {
        if !all && begun.elapsed() > SHARE {
            break;
        }
        let (pair, one) = tries.begin();
        if let Some(call) = one.kill_at(pair, first, changes, "") {
            sum.first += 1;
            *sum.calls.entry((call.thread, call.name)).or_default() += 1;
        }
        one.converge(pair, &format!("killed at call {first}"));
    }
    if depth() > 1 {
        seconds(&mut tries, &mut sum);
    }
    longer(&mut tries, points, &mut sum);
    println!(
        "{}: {points} calls change something; killed at {} of them, {} times again in the recovery, {} times \
         three to six times; {:?}",
        kind.name,
        sum.first,
        sum.second,
        sum.longer,
        begun.elapsed()
    );
    for ((thread, call), count) in sum.calls {
        println!("    {thread} {call}: {count}");
    }
}

/// How many calls change something if nobody is killed.
fn count(tries: &mut Tries) -> u64 {
    let (pair, one) = tries.begin();
    let mut points = 0;
    let ended = pair.traced_b(&one.a, |call| {
        points += u64::from(call.changes);
        Then::Go
    });
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    one.converge(pair, "not killed");
    points
}

/// Killed at every call, or every one in the threads that change the tree, and at every call of the next run.
fn seconds(tries: &mut Tries, sum: &mut Sum) {
    let counts = if depth() < 3 { changes_the_tree } else { changes };
    for first in 1.. {
        for second in 1.. {
            let (pair, one) = tries.begin();
            if one.kill_at(pair, first, counts, "").is_none() {
                return;
            }
            let killed = one.kill_at(pair, second, changes, &format!(", killed at call {first}"));
            one.converge(pair, &format!("killed at calls {first} and {second}"));
            if killed.is_none() {
                break;
            }
            sum.second += 1;
        }
    }
}

/// Killed three to six times in a row.
fn longer(tries: &mut Tries, points: u64, sum: &mut Sum) {
    let mut noise = lab::files::Noise::new(points);
    let mut random = |below: u64| {
        let mut bytes = [0; 8];
        noise.fill(&mut bytes);
        u64::from_le_bytes(bytes) % below
    };
    for _ in 0..if depth() == 1 { 60 } else { 1 } {
        let (pair, one) = tries.begin();
        let mut story = String::new();
        for _ in 0..3 + random(4) {
            let at = 1 + random(points);
            if one.kill_at(pair, at, changes, &story).is_none() {
                break;
            }
            story += &format!(", killed at call {at}");
        }
        one.converge(pair, &story);
        sum.longer += 1;
    }
}

/// Brings numbers into an order in which the first are spread over all, the same for the same name.
pub(crate) fn shuffle(order: &mut [u64], name: &str) {
    order.sort_by_key(|number| wire::Hash::of(format!("{name} {number}").as_bytes()));
}
