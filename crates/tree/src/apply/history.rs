//! Names of history entries: what a name in `.kin/history` says, and back. Pure.
//!
//! Everything that is known of an entry is in its name, so that history can be listed, brought back and
//! cleared without an index, by anybody.

use wire::RelPath;

use super::names::{beside, split_name};

/// 9999-12-31T23:59:59.999Z in milliseconds since 1970: the year must keep four digits.
const LAST: u64 = 253_402_300_799_999;
const DAY: u64 = 86_400_000;
/// Days from 1 March of year 0 to 1970.
const DAYS_TO_1970: u64 = 719_468;
/// Length of a time, `yyyymmddThhmmssmmmZ`.
const TIME_LEN: usize = 19;

/// Why something is in history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Why {
    /// Other contents, made by somebody who had seen these, took its place.
    Replaced,
    /// It was deleted by somebody who had seen it.
    Deleted,
    /// An edit that lost and whose conflict copy could not be made, or was made and is gone: nobody who
    /// replaced it had seen it.
    Conflict,
    /// Found in `.kin/swap` after an interrupted run; nobody knows whether it is anywhere else.
    Recovered,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Replaced, Self::Deleted, Self::Conflict, Self::Recovered];

    /// The word for it, in names and for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
            Self::Conflict => "conflict",
            Self::Recovered => "recovered",
        }
    }

    /// True for what somebody replaced or deleted after having seen it: it may go when it is old. The
    /// rest may be the only copy of somebody's work (rule E17).
    #[must_use]
    pub fn is_superseded(self) -> bool {
        matches!(self, Self::Replaced | Self::Deleted)
    }
}

/// What the name of a history entry says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HistoryName {
    /// The path it had. The last name may be cut, if it was longer than what fits beside the rest.
    pub path: RelPath,
    /// When it went to history, in milliseconds since 1970, at most the end of the year 9999.
    pub time: u64,
    /// The first four bytes of its content hash; of something unknown, any number.
    pub content: u32,
    /// Why.
    pub why: Why,
    /// The upper four bytes of the id of the replica whose change put it there, if that is known.
    pub by: Option<u32>,
}

impl HistoryName {
    /// The name for contents whose hash begins with `content` ([`wire::Hash::head`]).
    #[must_use]
    pub fn new(path: &RelPath, time: u64, content: u64, why: Why) -> Self {
        let content = u32::try_from(content >> 32).unwrap_or(0);
        Self { path: path.clone(), time: time.min(LAST), content, why, by: None }
    }

    /// The same, put there by a change of this replica.
    #[must_use]
    pub fn by(self, replica: u64) -> Self {
        Self { by: u32::try_from(replica >> 32).ok(), ..self }
    }

    /// Where in `.kin/history` it is: the mirrored tree,
    /// `<dir>/<stem>~<UTC yyyymmddThhmmssmmmZ>-<8 hex>-<why>[-<8 hex of replica>]<.ext>`. The stem is cut at
    /// a character boundary to fit 255 bytes.
    #[must_use]
    pub fn place(&self) -> RelPath {
        let (stem, ext) = split_name(self.path.name());
        let by = self.by.map(|by| format!("-{by:08x}")).unwrap_or_default();
        let middle = format!("~{}-{:08x}-{}{by}", utc(self.time), self.content, self.why.word());
        beside(&self.path, stem, &middle, ext)
    }

    /// Reads a name back; `None` if it is not one that [`HistoryName::place`] makes.
    #[must_use]
    pub fn parse(place: &RelPath) -> Option<Self> {
        let name = place.name();
        // An extension may hold a `~` of its own, but is too short to hold a mark.
        let (stem, (time, content, why, by, ext)) = name
            .rmatch_indices('~')
            .find_map(|(at, _)| Some((&name[..at], parse_mark(&name[at + 1..])?)))?;
        let is_ext = ext.is_empty()
            || ext.len() >= 2
                && ext.len() <= 33
                && ext.starts_with('.')
                && !ext[1..].contains('.')
                && !ext.contains(' ');
        if stem.is_empty() || !is_ext {
            return None;
        }
        let path = place.parent()?.join(&format!("{stem}{ext}")).ok()?;
        Some(Self { path, time, content, why, by })
    }

    /// As [`HistoryName::parse`], with the whole path, if `place` is the name of an entry of `path`: also
    /// where the name had to be cut.
    #[must_use]
    pub fn parse_of(place: &RelPath, path: &RelPath) -> Option<Self> {
        let named = Self { path: path.clone(), ..Self::parse(place)? };
        (named.place() == *place).then_some(named)
    }
}

/// Takes `<time>-<8 hex>-<why>[-<8 hex>]` off the start of what follows a `~`.
fn parse_mark(text: &str) -> Option<(u64, u32, Why, Option<u32>, &str)> {
    let (time, rest) = text.split_at_checked(TIME_LEN)?;
    let time = parse_utc(time)?;
    let (content, rest) = parse_hex(rest)?;
    let rest = rest.strip_prefix('-')?;
    let (why, ext) =
        Why::ALL.into_iter().find_map(|why| Some((why, rest.strip_prefix(why.word())?)))?;
    let (by, ext) = match parse_hex(ext) {
        Some((by, ext)) => (Some(by), ext),
        None => (None, ext),
    };
    Some((time, content, why, by, ext))
}

/// Takes `-<8 hex>` off the start.
fn parse_hex(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.strip_prefix('-')?.split_at_checked(8)?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let number = digits.bytes().all(hex).then(|| u32::from_str_radix(digits, 16).ok())??;
    Some((number, rest))
}

/// Milliseconds since 1970 as `yyyymmddThhmmssmmmZ`.
fn utc(millis: u64) -> String {
    let millis = millis.min(LAST);
    let (day, rest) = (millis / DAY, millis % DAY);
    // Counted from 1 March of year 0, so that the leap day is the last of its year and four centuries
    // (146,097 days) are one period.
    let day = day + DAYS_TO_1970;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March: each five have 153 days.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}{milli:03}Z")
}

/// [`utc`] back; `None` for what it does not make.
fn parse_utc(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second, milli) =
        (number(9..11)?, number(11..13)?, number(13..15)?, number(15..18)?);
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let year = year - u64::from(month <= 2).min(year);
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(DAYS_TO_1970)?;
    let millis = days * DAY + ((hour * 60 + minute) * 60 + second) * 1000 + milli;
    // What is out of range (the 31st of February, hour 24) does not come out as it went in.
    (utc(millis) == text).then_some(millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::path::MAX_NAME;

    use super::*;

    /// Bytes that a name grows by: `~`, a time, eight digits, `recovered` and eight digits, joined by `-`.
    const LONGEST_MARK: usize = 1 + TIME_LEN + 1 + 8 + 1 + 9 + 1 + 8;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).expect("a valid path")
    }

    fn name(of: &str) -> HistoryName {
        HistoryName::new(&path(of), 1_709_164_800_123, 0x0000_00ff_ffff_ffff, Why::Deleted)
    }

    #[test]
    fn a_name_says_when_what_and_why() {
        let mark = "~20240229T000000123Z-000000ff-deleted";
        for (of, place) in [
            ("a/b.txt", format!("a/b{mark}.txt")),
            ("Makefile", format!("Makefile{mark}")),
            (".bashrc", format!(".bashrc{mark}")),
            ("a.tar.gz", format!("a.tar{mark}.gz")),
            ("old.txt~", format!("old{mark}.txt~")),
            ("Dr. No and friends", format!("Dr. No and friends{mark}")),
            ("end.", format!("end.{mark}")),
        ] {
            assert_eq!(name(of).place().as_str(), place);
            assert_eq!(HistoryName::parse(&path(&place)), Some(name(of)));
            let by = name(of).by(0x1234_5678_9abc_def0);
            assert_eq!(by.place().as_str(), place.replace("-deleted", "-deleted-12345678"));
            assert_eq!(HistoryName::parse(&by.place()), Some(by));
        }
    }

    #[test]
    fn an_entry_that_went_to_history_again_is_told_by_its_last_mark() {
        let once = name("a.txt").place();
        let twice = HistoryName::new(&once, 0, 0, Why::Replaced);
        assert_eq!(HistoryName::parse(&twice.place()), Some(twice));
    }

    #[test]
    fn what_is_not_ours_has_no_meaning() {
        for other in [
            "a",
            "a~",
            "a~20240229T000000123Z-000000ff",
            "a~20240229T000000123Z-000000FF-deleted",
            "a~20240229T000000123Z-000000ff-lost",
            "a~20230229T000000123Z-000000ff-deleted",
            "a~20240229T240000123Z-000000ff-deleted",
            "a~20240229T000000123Z-000000ff-deleted.txt.1",
            "a~20240229T000000123Z-000000ff-deleted.a b",
            "a~20240229T000000123Z-000000ff-deleted.",
            "a~20240229T000000123Z-000000ff-deletedx",
            "a~20240229T000000123Z-000000ff-deleted-1234567",
            "a~20240229T000000123Z-000000ff-deleted-123456789",
            "a~20240229T000000123Z-000000ff-deleted-1234567X.txt",
            "~20240229T000000123Z-000000ff-deleted",
            "a~2024ä229T00000123Z-000000ff-deleted",
        ] {
            assert_eq!(HistoryName::parse(&path(other)), None, "{other}");
        }
        assert_eq!(HistoryName::parse(&RelPath::root()), None);
    }

    #[test]
    fn long_names_are_cut_at_a_character_and_still_found() {
        let long = path(&format!("d/{}.txt", "日".repeat(83)));
        let entry = HistoryName { path: long.clone(), ..name("a") };
        assert!(entry.place().name().len() <= MAX_NAME);
        let read = HistoryName::parse(&entry.place()).expect("is one of ours");
        assert_ne!(read.path, long);
        assert_eq!(HistoryName::parse_of(&entry.place(), &long), Some(entry.clone()));
        assert_eq!(HistoryName::parse_of(&entry.place(), &path("d/other.txt")), None);
    }

    #[test]
    fn dates_are_right_at_the_edges() {
        for (millis, text) in [
            (0, "19700101T000000000Z"),
            (951_782_399_999, "20000228T235959999Z"),
            (951_782_400_000, "20000229T000000000Z"),
            (951_868_800_000, "20000301T000000000Z"),
            (1_709_164_800_123, "20240229T000000123Z"),
            (1_767_225_599_000, "20251231T235959000Z"),
            (4_107_542_400_000, "21000301T000000000Z"),
            (LAST, "99991231T235959999Z"),
        ] {
            assert_eq!(utc(millis), text);
            assert_eq!(parse_utc(text), Some(millis));
        }
        assert_eq!(utc(u64::MAX), "99991231T235959999Z");
        for bad in ["19691231T235959999Z", "00000101T000000000Z", "20240001T000000000Z", ""] {
            assert_eq!(parse_utc(bad), None, "{bad}");
        }
    }

    fn any_path() -> impl Strategy<Value = RelPath> {
        let name = prop_oneof!["[a-c.~ ]{1,8}", "[^/\0]{1,80}", "[a-z.~ -]{200,255}"];
        prop::collection::vec(name, 1..5)
            .prop_filter_map("not a path", |names| RelPath::parse(&names.join("/")).ok())
    }

    proptest! {
        #[test]
        fn dates_sort_as_times_do_and_come_back(a in 0..=LAST, b in 0..=LAST) {
            prop_assert_eq!(a.cmp(&b), utc(a).cmp(&utc(b)));
            prop_assert_eq!(parse_utc(&utc(a)), Some(a));
        }

        #[test]
        fn every_name_comes_back(path in any_path(), time in 0..=LAST, content: u64, why in 0..4_usize, by: Option<u32>) {
            let entry = HistoryName { by, ..HistoryName::new(&path, time, content, Why::ALL[why]) };
            let place = entry.place();
            prop_assert!(RelPath::parse(&place).is_ok());
            prop_assert_ne!(&place, &path);
            let read = HistoryName::parse(&place).expect("is read back");
            prop_assert_eq!((read.time, read.content, read.why), (entry.time, entry.content, entry.why));
            prop_assert_eq!(read.by, entry.by);
            if path.name().len() + LONGEST_MARK <= MAX_NAME {
                prop_assert_eq!(&read, &entry);
            }
            prop_assert_eq!(HistoryName::parse_of(&place, &path), Some(entry));
        }

        #[test]
        fn no_name_panics(name in "[^/\0]{1,90}") {
            if let Ok(path) = RelPath::parse(&name) {
                let _ = HistoryName::parse(&path);
            }
        }
    }
}
