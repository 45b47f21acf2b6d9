//! A pairing link as a QR code: on the terminal, or as an image in a file.
//!
//! The link bears a secret, so the image is a file of this user's alone, and nothing is written over.

use std::{io, path::Path};

use qrcode::{Color, EcLevel, QrCode};

use crate::error::CommandError;

/// Modules of white around the code that readers count on (ISO/IEC 18004, 7.3.7).
const QUIET: usize = 4;
/// Pixels of an image for each module.
const SCALE: usize = 8;
/// Black on white whatever the terminal's own colours are, of the fixed part of the 256 colours.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// A QR code.
pub(crate) struct Qr {
    /// Dark or not, row by row, quiet zone included.
    dark: Vec<bool>,
    side: usize,
}

impl Qr {
    /// The code of a link. It is made of upper case, which takes less room and is the same link.
    pub(crate) fn new(link: &str) -> Result<Self, CommandError> {
        // A screen loses no modules, so the least correction gives the largest ones.
        let code = QrCode::with_error_correction_level(link.to_ascii_uppercase(), EcLevel::L)
            .map_err(|_| CommandError::failed("qr", "the link is too long for a QR code"))?;
        let inner = code.width();
        let side = inner + 2 * QUIET;
        let at = |place: usize| place.checked_sub(QUIET).filter(|place| *place < inner);
        let dark = (0..side * side)
            .map(|module| match (at(module % side), at(module / side)) {
                (Some(x), Some(y)) => code[(x, y)] == Color::Dark,
                _ => false,
            })
            .collect();
        Ok(Self { dark, side })
    }

    /// How many columns of the terminal it takes.
    pub(crate) fn columns(&self) -> usize {
        self.side
    }

    /// Its lines, two rows of modules each. Without colours it is drawn in the terminal's own, as it must
    /// be for light letters on a dark ground; most readers take the reverse as well.
    pub(crate) fn lines(&self, colours: bool) -> Vec<String> {
        let rows = self.dark.chunks(self.side);
        let rows: Vec<&[bool]> = rows.collect();
        let line = |pair: &[&[bool]]| {
            let below = |x: usize| pair.get(1).is_some_and(|row| row[x]);
            let drawn = |dark: bool| dark == colours;
            let blocks = pair[0].iter().enumerate().map(|(x, above)| {
                match (drawn(*above), drawn(below(x))) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                }
            });
            let blocks: String = blocks.collect();
            if colours { format!("{BLACK_ON_WHITE}{blocks}{RESET}") } else { blocks }
        };
        rows.chunks(2).map(line).collect()
    }

    /// A PNG image, black on white.
    fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let side = self.side * SCALE;
        let pixels = u32::try_from(side).unwrap_or(u32::MAX);
        let mut image = Vec::new();
        let mut encoder = png::Encoder::new(&mut image, pixels, pixels);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        // A module is one byte wide: eight pixels of one bit.
        let row = |row: &[bool]| -> Vec<u8> {
            row.iter().map(|dark| if *dark { 0 } else { 0xff }).collect()
        };
        let rows = self.dark.chunks(self.side).map(row);
        let data: Vec<u8> = rows.flat_map(|row| row.repeat(SCALE)).collect();
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&data)?;
        writer.finish()?;
        Ok(image)
    }

    /// Writes the image to a new file (0600).
    pub(crate) fn write_png(&self, path: &Path) -> Result<(), CommandError> {
        let image = self.png().map_err(io::Error::other);
        let written = image.and_then(|image| tree::create_secret_file(path, &image));
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => CommandError::failed("io", &not_written(path, &error)),
        })
    }
}

/// Whether an image can be written there: said before there is a secret that it would show.
///
/// # Errors
/// If something is there already, or nothing can be made there.
pub(crate) fn check_file(path: &Path) -> Result<(), CommandError> {
    tree::check_new_file(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => CommandError::usage("io", &not_written(path, &error))
            .hint("give --qr-file a file in a directory that is there, and yours to write"),
    })
}

fn exists(path: &Path) -> CommandError {
    let message = format!("{} exists already, and is not written over", path.display());
    CommandError::usage("file_exists", &message).hint("give --qr-file another name")
}

fn not_written(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// As long as a token with two addresses.
    fn link() -> String {
        format!("kin:pair/kt1{}", "qpzry9x8gf2tvdw0s3jn54khce6mua7l".repeat(8))
    }

    /// What a reader sees in an image of that many pixels a side.
    fn read(side: usize, dark: impl Fn(usize, usize) -> bool) -> String {
        let shade = |x, y| if dark(x, y) { 0 } else { 255 };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side, side, shade);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "one code");
        grids[0].decode().expect("readable").1
    }

    #[test]
    fn what_the_terminal_shows_is_read_back_on_either_ground() {
        let qr = Qr::new(&link()).unwrap();
        assert!(qr.columns() <= 80, "{} columns", qr.columns());
        for colours in [true, false] {
            let lines = qr.lines(colours);
            assert_eq!(lines.len(), qr.columns().div_ceil(2));
            let lines: Vec<Vec<char>> = lines
                .iter()
                .map(|line| line.replace(BLACK_ON_WHITE, "").replace(RESET, "").chars().collect())
                .collect();
            let dark = |x: usize, y: usize| {
                let block = lines[y / 2][x];
                let drawn =
                    block == '█' || block == if y.is_multiple_of(2) { '▀' } else { '▄' };
                drawn == colours
            };
            let side = qr.columns();
            for at in 0..side {
                for edge in (0..QUIET).chain(side - QUIET..side) {
                    assert!(!dark(at, edge) && !dark(edge, at), "the quiet zone at {at}, {edge}");
                }
            }
            let large = |x: usize, y: usize| dark(x / 4, y / 4);
            assert_eq!(read(side * 4, large), link().to_uppercase());
        }
        assert!(qr.lines(true).iter().all(|line| line.ends_with(RESET)));
        assert!(qr.lines(false).iter().all(|line| !line.contains('\x1b')));
    }

    #[test]
    fn attack_15_the_image_is_a_new_file_of_this_user_alone_and_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.png");
        let qr = Qr::new(&link()).unwrap();
        qr.write_png(&path).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own directory")]
        let (mode, image) =
            (std::fs::metadata(&path).unwrap().permissions().mode(), std::fs::read(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);

        let mut reader = png::Decoder::new(io::Cursor::new(&image)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let side = usize::try_from(info.width).unwrap();
        assert_eq!(side, qr.columns() * SCALE);
        let dark = |x: usize, y: usize| pixels[y * info.line_size + x / 8] & (0x80 >> (x % 8)) == 0;
        assert_eq!(read(side, dark), link().to_uppercase());

        let again = qr.write_png(&path).unwrap_err();
        assert_eq!(again.kind, "file_exists");
        let link_to = dir.path().join("link.png");
        std::os::unix::fs::symlink(dir.path().join("elsewhere.png"), &link_to).unwrap();
        assert_eq!(qr.write_png(&link_to).unwrap_err().kind, "file_exists");
        let nowhere = qr.write_png(&dir.path().join("none/x.png")).unwrap_err();
        assert_eq!(nowhere.kind, "io");
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert_eq!(Qr::new(&"x".repeat(50_000)).err().map(|error| error.kind), Some("qr".into()));
    }
}
