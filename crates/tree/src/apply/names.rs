//! Names of conflict copies, which all devices must form alike. Pure.

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
pub(super) fn split_name(name: &str) -> (&str, &str) {
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
pub(super) fn beside(path: &RelPath, stem: &str, middle: &str, ext: &str) -> RelPath {
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

/// The path whose losing contents a conflict copy holds, by the copy's name; `None` for what is none. A name that
/// had to be cut does not say all of it.
#[must_use]
pub fn conflict_of(copy: &RelPath) -> Option<RelPath> {
    let name = copy.name();
    let (stem, ext) = split_name(name);
    let (stem, ext) = unmark(name, stem, ext);
    if stem.len() + ext.len() == name.len() {
        return None;
    }
    copy.parent()?.join(&format!("{stem}{ext}")).ok()
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
    fn a_copys_name_says_of_what() {
        for name in ["a/b.txt", "Makefile", ".bashrc", ".config.toml", "a.tar.gz", "x.y/z", "end."]
        {
            assert_eq!(conflict_of(&conflict_name(&path(name), R, C)), Some(path(name)), "{name}");
            assert_eq!(conflict_of(&path(name)), None, "{name}");
        }
        assert_eq!(conflict_of(&path("a.conflict-12345678-zzzzzzzz.txt")), None);
        assert_eq!(conflict_of(&RelPath::root()), None);
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
    }

    proptest! {
        #[test]
        fn every_path_has_valid_names(
            names in prop::collection::vec("[^/\0]{1,80}", 1..60), replica: u64, content: u64,
        ) {
            let Ok(path) = RelPath::parse(&names.join("/")) else { return Ok(()) };
            let copy = conflict_name(&path, replica, content);
            prop_assert!(RelPath::parse(&copy).is_ok());
            prop_assert_ne!(&copy, &path);
            prop_assert_eq!(conflict_name(&copy, replica, content), copy.clone());
        }
    }
}
