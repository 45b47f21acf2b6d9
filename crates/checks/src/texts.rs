//! Adverts on the network, and ignore files.

use folder::ignore::{Ignore, MAX_PATTERNS};
use wire::RelPath;

/// A TXT record, one `key=value` a line.
pub(crate) fn advert(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n');
    let pairs: Vec<(String, Option<Vec<u8>>)> = lines
        .map(|line| {
            let mut parts = line.splitn(2, |byte| *byte == b'=');
            let key = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
            (key, parts.next().map(<[u8]>::to_vec))
        })
        .collect();
    let size: usize =
        pairs.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len) + 2).sum();
    let Some(read) = link::reread_advert(&pairs) else { return };
    assert!(size <= 512, "a record over its limit was read");
    let name = &read.iter().find(|(key, _)| key == "n").expect("has a name").1;
    assert!((1..=64).contains(&name.len()) && !name.chars().any(char::is_control));
    let again: Vec<_> =
        read.iter().map(|(key, value)| (key.clone(), Some(value.clone().into_bytes()))).collect();
    assert_eq!(link::reread_advert(&again), Some(read), "one advert, two forms");
}

/// The text of an ignore file; patterns after a byte 0xff count as `--exclude`.
pub(crate) fn ignore(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0xff);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let excludes = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let excludes: Vec<String> = excludes.lines().map(str::to_owned).collect();
    let Ok((ignore, bad)) = Ignore::new(Some(&text), None, &excludes) else { return };
    assert!(bad.len() <= MAX_PATTERNS);
    assert!(bad.iter().all(|bad| bad.pattern.chars().count() <= 200 && bad.line > 0));
    // The patterns themselves are good names to ask about.
    let names = text.lines().chain(["a", "a/b", "x.log", ".kin/index.db", "日本/ü"]);
    for name in names.filter_map(|name| RelPath::parse(name).ok()).take(16) {
        if name.is_reserved() {
            assert!(ignore.is_ignored(&name, false) && ignore.is_ignored_itself(&name, true));
        }
        if ignore.is_ignored_itself(&name, true) {
            assert!(ignore.is_ignored(&name, true));
            if let Ok(inside) = name.join("inside") {
                assert!(ignore.is_ignored(&inside, false), "called back from an ignored directory");
            }
        }
        let above = name.parent().is_some_and(|above| ignore.is_ignored(&above, true));
        let itself = ignore.is_ignored_itself(&name, false);
        assert_eq!(ignore.is_ignored(&name, false), above || itself);
    }
}
