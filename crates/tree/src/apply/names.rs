//! Names that all devices must form alike: conflict copies and history entries. Pure.

use wire::{
    RelPath,
    path::{MAX_NAME, MAX_PATH},
};

/// What marks a conflict copy, before the two hashes.
const MARK: &str = ".conflict-";
/// Length of a mark with its hashes: `.conflict-` and twice eight digits joined by `-`.
const MARK_LEN: usize = MARK.len() + 17;

/// Splits a name into stem and extension (with its dot).
///
/// The extension is what follows the last dot, so `a.tar.gz` is `a.tar` and `.gz`: there is no list of
/// double extensions to agree on. A dot at the start is no extension (`.bashrc` is all stem), nor is
/// one at the end (`a.`). An extension over 32 bytes, or with a space, is taken for a part of the stem,
/// since a sentence with a dot in it is no file type.
fn split_name(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 => {
            let (stem, ext) = name.split_at(at);
            let odd = ext.len() < 2 || ext.len() > 33 || ext.contains(' ');
            if odd || stem.bytes().all(|b| b == b'.') { (name, "") } else { (stem, ext) }
        }
        _ => (name, ""),
    }
}

/// Cuts `text` to at most `len` bytes at a character boundary.
fn cut(text: &str, len: usize) -> &str {
    let mut end = len.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `stem` + `middle` + `ext` beside `path`, the stem cut so that the name and the path fit.
fn beside(path: &RelPath, stem: &str, middle: &str, ext: &str) -> RelPath {
    let dir = path.parent().unwrap_or_default();
    let before = if dir.is_root() { 0 } else { dir.len() + 1 };
    let room = MAX_NAME.min(MAX_PATH.saturating_sub(before));
    let fixed = middle.len() + ext.len();
    let named = if fixed <= room {
        dir.join(&format!("{}{middle}{ext}", cut(stem, room - fixed)))
    } else {
        // Only in a directory whose path is within a few bytes of the limit: without the extension,
        // and next to the directory if it must be.
        dir.join(cut(middle.trim_start_matches('.'), room.max(1)))
    };
    named.or_else(|_| RelPath::root().join(middle.trim_start_matches('.'))).unwrap_or_default()
}

/// Where the losing contents of a conflict at `path` go:
/// `stem.conflict-<8 hex of replica>-<8 hex of content>.ext` in the same directory.
///
/// `replica` is the replica that made the losing content and `content` the first eight bytes of its
/// hash ([`wire::Hash::head`]); the upper four bytes of each are shown. A copy of a copy replaces the mark
/// instead of adding another. The stem is cut at a character boundary to fit 255 bytes.
#[must_use]
pub fn conflict_name(path: &RelPath, replica: u64, content: u64) -> RelPath {
    let (stem, ext) = split_name(path.name());
    let (stem, ext) = unmark(path.name(), stem, ext);
    let middle = format!("{MARK}{:08x}-{:08x}", replica >> 32, content >> 32);
    beside(path, stem, &middle, ext)
}

/// Takes the mark of a conflict copy off a name that was split.
fn unmark<'a>(name: &'a str, stem: &'a str, ext: &'a str) -> (&'a str, &'a str) {
    // Without an extension the mark itself looks like one.
    if is_mark(ext) {
        return (stem, "");
    }
    if let Some(at) = name.rfind(MARK)
        && ext.is_empty()
        && is_mark(&name[at..])
    {
        return (&name[..at], "");
    }
    match stem.len().checked_sub(MARK_LEN) {
        Some(at) if at > 0 && stem.is_char_boundary(at) && is_mark(&stem[at..]) => {
            (&stem[..at], ext)
        }
        _ => (stem, ext),
    }
}

fn is_mark(text: &str) -> bool {
    let hex = |part: &str| {
        part.len() == 8 && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    text.strip_prefix(MARK)
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(replica, content)| hex(replica) && hex(content))
}

/// Where in `.kin/history` contents that sync replaced or deleted at `path` go: the mirrored tree,
/// `<dir>/<stem>~<UTC yyyymmddThhmmssmmmZ>-<8 hex><.ext>`.
///
/// `time` is in milliseconds since 1970 (the last that fits four digits of a year is the end of 9999)
/// and `content` the first eight bytes of the content's hash, of which the upper four are shown. The
/// stem is cut at a character boundary to fit 255 bytes.
#[must_use]
pub fn history_name(path: &RelPath, time: u64, content: u64) -> RelPath {
    let (stem, ext) = split_name(path.name());
    beside(path, stem, &format!("~{}-{:08x}", utc(time), content >> 32), ext)
}

/// Milliseconds since 1970 as `yyyymmddThhmmssmmmZ`.
fn utc(millis: u64) -> String {
    /// 9999-12-31T23:59:59.999Z: the year must keep four digits.
    const LAST: u64 = 253_402_300_799_999;
    const DAY: u64 = 86_400_000;
    let millis = millis.min(LAST);
    let (day, rest) = (millis / DAY, millis % DAY);
    // Counted from 1 March of year 0, so that the leap day is the last of its year and four centuries
    // (146,097 days) are one period.
    let day = day + 719_468;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).expect("a valid path")
    }

    const R: u64 = 0x1234_5678_9abc_def0;
    const C: u64 = 0x0000_00ff_ffff_ffff;

    #[test]
    fn conflict_names_keep_directory_and_extension() {
        let of = |text| conflict_name(&path(text), R, C).to_string();
        let mark = ".conflict-12345678-000000ff";
        assert_eq!(of("a/b.txt"), format!("a/b{mark}.txt"));
        assert_eq!(of("a.tar.gz"), format!("a.tar{mark}.gz"));
        assert_eq!(of("Makefile"), format!("Makefile{mark}"));
        assert_eq!(of(".bashrc"), format!(".bashrc{mark}"));
        assert_eq!(of(".config.toml"), format!(".config{mark}.toml"));
        assert_eq!(of("end."), format!("end.{mark}"));
        assert_eq!(of("...x"), format!("...x{mark}"));
        assert_eq!(of("Dr. No and friends"), format!("Dr. No and friends{mark}"));
    }

    #[test]
    fn a_copy_of_a_copy_replaces_the_mark() {
        for name in ["a/b.txt", "Makefile", ".bashrc", "a.tar.gz", "x.y/z", "end."] {
            let once = conflict_name(&path(name), 7 << 32, 9 << 32);
            assert_eq!(conflict_name(&once, R, C), conflict_name(&path(name), R, C), "{name}");
        }
        // Only exactly our mark is one.
        let near = "a.conflict-12345678-zzzzzzzz.txt";
        assert!(conflict_name(&path(near), R, C).as_str().contains("zzzzzzzz.conflict-"));
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let name = format!("{}.txt", "ä".repeat(125));
        let copy = conflict_name(&path(&name), R, C);
        assert!(copy.name().len() <= MAX_NAME && copy.ends_with(".conflict-12345678-000000ff.txt"));
        let old = history_name(&path(&"日".repeat(85)), 0, C);
        assert!(old.name().len() <= MAX_NAME && old.ends_with("~19700101T000000000Z-000000ff"));
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
            (253_402_300_799_999, "99991231T235959999Z"),
            (u64::MAX, "99991231T235959999Z"),
        ] {
            assert_eq!(utc(millis), text);
        }
    }

    proptest! {
        #[test]
        fn dates_sort_as_times_do(a in 0..253_402_300_799_999_u64, b in 0..253_402_300_799_999_u64) {
            prop_assert_eq!(a.cmp(&b), utc(a).cmp(&utc(b)));
        }

        #[test]
        fn every_path_has_valid_names(
            names in prop::collection::vec("[^/\0]{1,80}", 1..60), replica: u64, content: u64,
        ) {
            let Ok(path) = RelPath::parse(&names.join("/")) else { return Ok(()) };
            for name in [conflict_name(&path, replica, content), history_name(&path, 1, content)] {
                prop_assert!(RelPath::parse(&name).is_ok());
                prop_assert_ne!(&name, &path);
            }
            let copy = conflict_name(&path, replica, content);
            prop_assert_eq!(conflict_name(&copy, replica, content), copy.clone());
        }
    }
}
