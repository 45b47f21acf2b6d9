//! What of history may go: a pure function of what there is, the limits and the clock (rule E17).

use super::Entry;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// What is younger never goes (rule E17), in milliseconds.
const NEVER_BEFORE_MS: u64 = DAY_MS;
/// 2025-01-01 in milliseconds since 1970: no clock that shows less is right.
const FIRST_PLAUSIBLE_MS: u64 = 1_735_689_600_000;
/// Of what may go for its age, at most one in so many goes at once: a clock that is wrong for an hour or
/// two does not empty the history.
const AT_ONCE: usize = 8;

/// How much history is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// For how many days; 0: whatever the age.
    pub days: u32,
    /// Percent of the file system's size that history may have, 1 to 100.
    pub share: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { days: 30, share: 10 }
    }
}

/// When the choice is made, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The time by the wall clock, in milliseconds since 1970.
    pub now: u64,
    /// True if the wall clock was set since the last look: then nothing goes for its age.
    pub clock_was_set: bool,
    /// Size of the file system, in bytes.
    pub total_space: u64,
    /// Bytes to be made free whatever the limits say, because an apply lacks them.
    pub lacking: u64,
}

/// What is to be done, by places in the slice that was given.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Chosen {
    /// To be removed, the oldest first.
    pub remove: Vec<usize>,
    /// Named by a clock that cannot have been right: to be named anew, by the present time, so that its age
    /// counts from now.
    pub redate: Vec<usize>,
}

/// Chooses.
///
/// Only what is superseded ever goes, and nothing that is younger than a day, by the time in its name and
/// the present clock: so nothing goes while the clock is behind. For its age, at most an eighth of what
/// may go does so in one look. For the share, and for space that an apply lacks, the oldest go until it is
/// enough.
#[must_use]
pub fn choose(entries: &[Entry], limits: Limits, moment: Moment) -> Chosen {
    let mut chosen = Chosen::default();
    if moment.now < FIRST_PLAUSIBLE_MS {
        return chosen;
    }
    let mut may_go = Vec::new();
    let mut bytes = 0_u64;
    for (at, entry) in entries.iter().enumerate() {
        bytes = bytes.saturating_add(entry.stat.size);
        if !entry.name.why.is_superseded() {
            continue;
        }
        if entry.name.time < FIRST_PLAUSIBLE_MS {
            chosen.redate.push(at);
        } else if moment.now.saturating_sub(entry.name.time) >= NEVER_BEFORE_MS {
            may_go.push(at);
        }
    }
    let of = |at: usize| entries.get(at);
    may_go.sort_by_key(|at| of(*at).map(|entry| (entry.name.time, &entry.place)));
    let size = |at: usize| of(at).map_or(0, |entry| entry.stat.size);
    let is_old = |at: usize| {
        let keep = u64::from(limits.days) * DAY_MS;
        let age = of(at).map_or(0, |entry| moment.now.saturating_sub(entry.name.time));
        limits.days > 0 && !moment.clock_was_set && age > keep
    };
    let most_for_age = may_go.len().div_ceil(AT_ONCE);
    let cap = u128::from(moment.total_space) * u128::from(limits.share) / 100;
    let mut freed = 0_u64;
    for (number, at) in may_go.into_iter().enumerate() {
        let over = u128::from(bytes - freed) > cap || freed < moment.lacking;
        let too_old = is_old(at) && number < most_for_age;
        if !over && !too_old {
            break;
        }
        freed += size(at);
        chosen.remove.push(at);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tree::{
        FileKind, Stat,
        apply::{HistoryName, Why},
    };
    use wire::RelPath;

    use super::*;

    /// 2026-06-01.
    const NOW: u64 = 1_780_272_000_000;
    const GIB: u64 = 1 << 30;

    fn entry(number: usize, time: u64, size: u64, why: Why) -> Entry {
        let path = RelPath::parse(&format!("f{number}")).expect("a path");
        let name = HistoryName::new(&path, time, 0, why);
        let stat = Stat { kind: FileKind::File, size, mtime: 0, ctime: 0, inode: 1, mode: 0o644 };
        Entry { place: name.place(), name, stat }
    }

    fn days_ago(days: u64) -> u64 {
        NOW - days * DAY_MS
    }

    fn moment() -> Moment {
        Moment { now: NOW, clock_was_set: false, total_space: 100 * GIB, lacking: 0 }
    }

    fn replaced(times: &[u64]) -> Vec<Entry> {
        let new = |(number, time): (usize, &u64)| entry(number, *time, 1000, Why::Replaced);
        times.iter().enumerate().map(new).collect()
    }

    #[test]
    fn e17_what_is_over_thirty_days_old_goes_the_oldest_first_and_not_all_at_once() {
        let times: Vec<u64> = (0..80).map(days_ago).rev().collect();
        let entries = replaced(&times);
        let chosen = choose(&entries, Limits::default(), moment());
        // 79 of them are a day old or more; an eighth of those.
        assert_eq!(chosen.remove, (0..10).collect::<Vec<_>>());
        let young = replaced(&times[50..]);
        assert_eq!(choose(&young, Limits::default(), moment()), Chosen::default());
        let forever = Limits { days: 0, ..Limits::default() };
        assert_eq!(choose(&entries, forever, moment()), Chosen::default());
    }

    #[test]
    fn e17_over_the_share_the_oldest_go_until_it_fits() {
        let mut entries = replaced(&(0..10).map(|n| days_ago(20 - n)).collect::<Vec<_>>());
        for entry in &mut entries {
            entry.stat.size = 2 * GIB;
        }
        // 20 GiB in a cap of 10.
        assert_eq!(choose(&entries, Limits::default(), moment()).remove, [0, 1, 2, 3, 4]);
        let all = Limits { share: 100, ..Limits::default() };
        assert_eq!(choose(&entries, all, moment()), Chosen::default());
    }

    #[test]
    fn e17_what_lost_and_what_is_young_never_goes() {
        let mut entries = vec![
            entry(0, days_ago(9000), GIB, Why::Conflict),
            entry(1, days_ago(400), GIB, Why::Conflict),
            entry(2, days_ago(400), GIB, Why::Recovered),
            entry(3, NOW - DAY_MS + 1, GIB, Why::Deleted),
            entry(4, NOW + 1, GIB, Why::Replaced),
        ];
        let greedy = Limits { days: 1, share: 1 };
        let full = Moment { lacking: u64::MAX, total_space: 10, ..moment() };
        assert_eq!(choose(&entries, greedy, full), Chosen::default());
        entries.push(entry(5, NOW - DAY_MS, GIB, Why::Deleted));
        assert_eq!(choose(&entries, greedy, full).remove, [5]);
    }

    #[test]
    fn e17_where_space_lacks_the_oldest_go_until_there_is_enough() {
        let entries = replaced(&[days_ago(3), days_ago(5), days_ago(4), days_ago(0)]);
        let lacking = |bytes| {
            choose(&entries, Limits::default(), Moment { lacking: bytes, ..moment() }).remove
        };
        assert_eq!(lacking(0), [0; 0]);
        assert_eq!(lacking(1), [1]);
        assert_eq!(lacking(1001), [1, 2]);
        assert_eq!(lacking(u64::MAX), [1, 2, 0]);
    }

    #[test]
    fn e17_a_clock_that_jumps_does_not_empty_the_history() {
        let times: Vec<u64> = (0..64).map(|n| days_ago(1) - n * HOUR_MS).collect();
        let entries = replaced(&times);
        let at = |now, clock_was_set| {
            choose(&entries, Limits::default(), Moment { now, clock_was_set, ..moment() })
        };
        for hours in [0, 48] {
            assert_eq!(at(NOW + hours * HOUR_MS, false), Chosen::default());
            assert_eq!(at(NOW - hours * HOUR_MS, false), Chosen::default());
        }
        assert_eq!(at(0, false), Chosen::default());
        let year_2100 = 4_102_444_800_000;
        assert_eq!(at(year_2100, true), Chosen::default());
        assert_eq!(at(year_2100, false).remove.len(), 8, "the oldest eighth, not all");
    }

    #[test]
    fn what_a_wrong_clock_named_counts_from_now() {
        let entries = [
            entry(0, 5 * DAY_MS, 1, Why::Replaced),
            entry(1, 5 * DAY_MS, 1, Why::Conflict),
            entry(2, days_ago(3), 1, Why::Replaced),
        ];
        let full = Moment { lacking: u64::MAX, ..moment() };
        let chosen = choose(&entries, Limits::default(), full);
        assert_eq!((chosen.redate, chosen.remove), (vec![0], vec![2]));
    }

    prop_compose! {
        fn any_entries()(
            raw in prop::collection::vec((0..4_usize, 0..200_u64, 0..3 * GIB, any::<bool>()), 0..60)
        ) -> Vec<Entry> {
            let new = |(number, (why, age, size, odd)): (usize, (usize, u64, u64, bool))| {
                let time = if odd { age * DAY_MS } else { NOW + 5 * DAY_MS - age * 6 * HOUR_MS };
                entry(number, time, size, Why::ALL[why])
            };
            raw.into_iter().enumerate().map(new).collect()
        }
    }

    proptest! {
        #[test]
        fn e17_whatever_the_limits_and_the_clock(
            entries in any_entries(), days in 0..50_u32, share in 1..=100_u8, set: bool,
            now in prop_oneof![Just(NOW), Just(0), Just(4_102_444_800_000), 0..2 * NOW],
            lacking in prop_oneof![Just(0), 0..10 * GIB], total in prop_oneof![Just(GIB), Just(1000 * GIB)],
        ) {
            let moment = Moment { now, clock_was_set: set, total_space: total, lacking };
            let chosen = choose(&entries, Limits { days, share }, moment);
            let may_go = |entry: &Entry| {
                entry.name.why.is_superseded()
                    && entry.name.time >= FIRST_PLAUSIBLE_MS
                    && entry.name.time.saturating_add(DAY_MS) <= now
            };
            let candidates = entries.iter().filter(|entry| may_go(entry)).count();
            let mut last = 0;
            for at in &chosen.remove {
                prop_assert!(may_go(&entries[*at]), "{:?}", entries[*at]);
                prop_assert!(entries[*at].name.time >= last, "not the oldest first");
                last = entries[*at].name.time;
            }
            // Nothing older stays than what goes.
            let stays = |at: &usize| !chosen.remove.contains(at) && may_go(&entries[*at]);
            for at in (0..entries.len()).filter(stays) {
                prop_assert!(entries[at].name.time >= last);
            }
            let total_bytes: u64 = entries.iter().map(|entry| entry.stat.size).sum();
            if lacking == 0 && total_bytes <= total / 100 * u64::from(share) {
                prop_assert!(chosen.remove.len() <= candidates.div_ceil(AT_ONCE));
                if set || days == 0 {
                    prop_assert!(chosen.remove.is_empty());
                }
            }
        }
    }
}
