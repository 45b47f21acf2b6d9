//! Bytes to lines, of which none is longer than a bound.

use super::Broken;

/// Longest line in bytes, its end not counted: room for the largest key and what stands around it.
pub const MAX_LINE: usize = 16 * 1024;

/// What has come and is no whole line yet.
#[derive(Default, Debug)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Up to here there is no end of a line.
    seen: usize,
}

impl Lines {
    /// Takes bytes as they come. What is more than one line's length beyond the last line's end is
    /// refused by [`Lines::take`]; whoever reads takes lines out before more bytes are put in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line, without its end (`\n` or `\r\n`).
    ///
    /// # Errors
    /// If it is too long, or no UTF-8.
    pub fn take(&mut self) -> Result<Option<String>, Broken> {
        let rest = self.bytes.get(self.seen..).unwrap_or_default();
        let Some(at) = rest.iter().position(|byte| *byte == b'\n') else {
            self.seen = self.bytes.len();
            return if self.seen > MAX_LINE { Err(Broken::TooLong) } else { Ok(None) };
        };
        let end = self.seen + at;
        self.seen = 0;
        let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
        line.pop();
        if line.len() > MAX_LINE {
            return Err(Broken::TooLong);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map(Some).map_err(|_| Broken::NotText)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_come_out_whole_and_without_their_ends() {
        let mut lines = Lines::default();
        lines.push(b"HEL");
        assert_eq!(lines.take(), Ok(None));
        lines.push(b"LO 1\r\n\nBYE\nrest");
        let next = |lines: &mut Lines| lines.take().unwrap();
        assert_eq!(next(&mut lines).as_deref(), Some("HELLO 1"));
        assert_eq!(next(&mut lines).as_deref(), Some(""));
        assert_eq!(next(&mut lines).as_deref(), Some("BYE"));
        assert_eq!(next(&mut lines), None);
    }

    #[test]
    fn hole_4_a_line_without_end_is_refused_at_its_bound() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE]);
        assert_eq!(lines.take(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.take(), Err(Broken::TooLong));
        let mut lines = Lines::default();
        lines.push(&[&vec![b'x'; MAX_LINE + 1][..], b"\n"].concat());
        assert_eq!(lines.take(), Err(Broken::TooLong));
        let mut lines = Lines::default();
        lines.push(b"\xff\n");
        assert_eq!(lines.take(), Err(Broken::NotText));
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_does_not_matter(
            text in "[a-z{}\n\r]{0,200}",
            cuts in prop::collection::vec(0_usize..200, 0..8),
        ) {
            let whole = |pieces: Vec<&[u8]>| {
                let (mut lines, mut all) = (Lines::default(), Vec::new());
                for piece in pieces {
                    lines.push(piece);
                    while let Ok(Some(line)) = lines.take() {
                        all.push(line);
                    }
                }
                all
            };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(whole(pieces), whole(vec![text.as_bytes()]));
        }
    }
}
