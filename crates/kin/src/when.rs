//! Times that a person types and reads: the local time with its offset, or so long ago.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::error::CommandError;

/// How times are shown to a person; [`parse`] takes it back.
const SHOWN: &str = "%Y-%m-%d %H:%M:%S %:z";

/// Milliseconds since 1970 for a person, in a time zone.
pub(crate) fn show(millis: u64, zone: &TimeZone) -> String {
    timestamp(millis).to_zoned(zone.clone()).strftime(SHOWN).to_string()
}

/// Seconds since 1970 for a person, in this machine's time zone.
pub(crate) fn show_seconds(seconds: i64) -> String {
    let millis = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
    show(millis, &TimeZone::system())
}

/// Milliseconds since 1970 for a program: RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(millis: u64) -> String {
    timestamp(millis).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn timestamp(millis: u64) -> Timestamp {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    // Names in history reach a day further than jiff does, to the end of the year 9999.
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
}

/// The present time in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    millis(Timestamp::now())
}

fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

/// A time as a person writes it, in milliseconds since 1970: RFC 3339, `YYYY-MM-DD[ HH:MM[:SS]]` in the
/// local zone, what `kin history` shows, or `90s`, `30m`, `2h`, `3d`, `1w` ago.
///
/// # Errors
/// If it is none of these.
pub(crate) fn parse(
    what: &str,
    text: &str,
    now: u64,
    zone: &TimeZone,
) -> Result<u64, CommandError> {
    let trimmed = text.trim();
    let found = ago(trimmed, now).or_else(|| absolute(trimmed)).or_else(|| local(trimmed, zone));
    found.ok_or_else(|| {
        CommandError::usage("time", &format!("{what}: \"{text}\" is not a time")).hint(
            "write for example 2h, 3d, '2026-11-20 18:30' or 2026-11-20T18:30:00Z, or copy one from kin history",
        )
    })
}

/// `2h`, with or without `ago`.
fn ago(text: &str, now: u64) -> Option<u64> {
    let text = text.strip_suffix("ago").map_or(text, str::trim_end);
    Some(now.saturating_sub(seconds(text)?.checked_mul(1000)?))
}

/// A span of time in seconds: `90s`, `5m`, `2h`, `1d`, `1w`.
///
/// # Errors
/// If it is none.
pub(crate) fn span(what: &str, text: &str) -> Result<u64, CommandError> {
    seconds(text.trim()).ok_or_else(|| {
        CommandError::usage("time", &format!("{what}: \"{text}\" is not a span of time"))
            .hint("write for example 90s, 5m or 2h")
    })
}

fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 =
        Some(digits).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let unit = match text.get(digits.len()..)? {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    count.checked_mul(unit)
}

/// A time with its offset. Between time and offset there may be a space, as in what is shown.
fn absolute(text: &str) -> Option<u64> {
    let joined = match text.rsplit_once(' ') {
        Some((time, offset)) if offset.starts_with(['+', '-']) => format!("{time}{offset}"),
        _ => text.to_owned(),
    };
    joined.parse::<Timestamp>().ok().map(millis)
}

/// A date, or a date and a time, in the local zone.
fn local(text: &str, zone: &TimeZone) -> Option<u64> {
    let is_plain = text.len() >= 10
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b' ' | b'T' | b'.'));
    let time: DateTime = text.parse().ok().filter(|_| is_plain)?;
    // Of a time that is skipped or comes twice as clocks are set, jiff takes what calendars do.
    Some(millis(time.to_zoned(zone.clone()).ok()?.timestamp()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-20T10:00:00Z.
    const NOW: u64 = 1_795_168_800_000;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone")
    }

    fn read(text: &str) -> Option<u64> {
        parse("--at", text, NOW, &berlin()).ok()
    }

    #[test]
    fn spans() {
        assert_eq!(span("x", "90s").ok(), Some(90));
        assert_eq!((span("x", " 5m").ok(), span("x", "24h").ok()), (Some(300), Some(86_400)));
        for bad in
            ["", "5", "m", "-5m", "5 m", "5y", "99999999999999999999s", "9999999999999999999w"]
        {
            assert!(span("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_the_ways_to_write_a_time() {
        for (text, millis) in [
            ("2026-11-20T10:00:00Z", NOW),
            ("2026-11-20T11:00:00+01:00", NOW),
            ("2026-11-20 11:00:00 +01:00", NOW),
            ("2026-11-20 11:00:00+01:00", NOW),
            ("2026-11-20T10:00:00.123Z", NOW + 123),
            ("2026-11-20 11:00", NOW),
            ("2026-11-20 11:00:00", NOW),
            ("2026-11-20T11:00", NOW),
            (" 2026-11-20 11:00 ", NOW),
            ("2026-11-20", NOW - 11 * 3_600_000),
            // Summer time.
            ("2026-07-01 12:00", 1_782_900_000_000),
            ("0s", NOW),
            ("90s", NOW - 90_000),
            ("30m", NOW - 1_800_000),
            ("2h", NOW - 7_200_000),
            ("2h ago", NOW - 7_200_000),
            ("3d", NOW - 3 * 86_400_000),
            ("1w", NOW - 7 * 86_400_000),
            ("99999d", 0),
        ] {
            assert_eq!(read(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_a_hint() {
        for text in [
            "",
            " ",
            "yesterday",
            "h",
            "2",
            "2x",
            "-2h",
            "+2h",
            "2.5h",
            "18446744073709551615d",
            "2026-13-01",
            "2026-02-30",
            "2026-11-20 25:00",
            "10:00",
            "11/20/2026",
            "2026",
            "ago",
            "2 h ago x",
            "2026-11-20 11:00[Europe/Berlin]",
        ] {
            let error = parse("--at", text, NOW, &berlin()).expect_err(text);
            assert_eq!((&*error.kind, error.exit.code(), error.hints.len()), ("time", 2, 1));
            assert!(error.message.starts_with("--at: "), "{}", error.message);
        }
    }

    #[test]
    fn times_are_shown_with_their_offset() {
        assert_eq!(show(NOW, &berlin()), "2026-11-20 11:00:00 +01:00");
        assert_eq!(rfc3339(NOW + 7), "2026-11-20T10:00:00.007Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(253_402_214_400_000), "9999-12-30T22:00:00.999Z", "as far as it goes");
        assert!(!show(u64::MAX, &berlin()).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(seconds in 0..200_000_000_000_u64) {
            let shown = show(seconds * 1000, &berlin());
            prop_assert_eq!(read(&shown), Some(seconds * 1000), "{}", shown);
            prop_assert_eq!(read(&rfc3339(seconds * 1000 + 7)), Some(seconds * 1000 + 7));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), odd in "[0-9TZ:+. hdwago-]{0,24}") {
            let _ = (read(&text), read(&odd));
        }
    }
}
