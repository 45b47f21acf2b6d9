//! Makes text from outside safe to print: names, paths and reasons that another device chose.
//!
//! Not for JSON: there the encoder escapes, and the value stays what it was.

use std::fmt::Write as _;

/// `text` with everything escaped that could move the cursor, colour the screen, reorder or hide what
/// is read, or start a new line: control characters (C0, DEL, C1), line and paragraph separators,
/// bidirectional controls, invisible characters, tags. A backslash is doubled, so that no two texts
/// look alike after escaping.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => safe.push_str("\\\\"),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            _ if is_unsafe(c) => {
                // Writing to a string cannot fail.
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            _ => safe.push(c),
        }
    }
    safe
}

/// As [`escape`], but a backslash stays single: the text is a sentence around names, not a name.
pub(crate) fn escape_line(text: &str) -> String {
    text.split('\\').map(escape).collect::<Vec<_>>().join("\\")
}

/// True for a character that must never reach a terminal as it is.
///
/// The two joiners U+200C and U+200D and the variation selectors are not among them: scripts and emoji
/// need them.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shows_what_it_hides() {
        assert_eq!(escape("\x1b[31mred\x07"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(escape("a\nb\tc\\n"), "a\\nb\\tc\\\\n");
        assert_eq!(escape("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(escape("\u{9b}2J"), "\\u{9b}2J");
        assert_eq!(escape("\u{3164}"), "\\u{3164}", "a name that is not there");
        for blank in ['\u{34f}', '\u{115f}', '\u{1160}', '\u{17b4}', '\u{2800}', '\u{ffa0}'] {
            assert!(is_unsafe(blank), "{blank:?}");
        }
        assert_eq!(escape("日本語 – ä – 👩\u{200d}💻"), "日本語 – ä – 👩\u{200d}💻");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(is_unsafe));
        }

        #[test]
        fn no_two_texts_look_alike(texts in prop::collection::vec("[\\\\nu{}1b\n\u{1b}\u{202e}]{0,6}", 0..64)) {
            let mut seen = HashMap::new();
            for text in texts {
                if let Some(other) = seen.insert(escape(&text), text.clone()) {
                    prop_assert_eq!(other, text);
                }
            }
        }

        #[test]
        fn ordinary_text_is_untouched(text in "[a-zA-Z0-9 äß日本語._/-]{0,40}") {
            prop_assert_eq!(escape(&text), text);
        }
    }
}
