//! What not to look at: `.kinignore` and `.dsyncignore` at a folder's root, and `--exclude` (rule E11).
//!
//! The syntax is that of gitignore, in all three. Later patterns win over earlier ones, in the order
//! `.kinignore`, `.dsyncignore`, `--exclude`. Ignore files speak for one device and never travel. This
//! module reads no files; it takes their text.

use std::fmt;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use wire::RelPath;

/// Name of the folder's own ignore file, at its root.
pub const KINIGNORE: &str = ".kinignore";
/// Name of the ignore file that dsync reads; honoured as well.
pub const DSYNCIGNORE: &str = ".dsyncignore";
/// Longest ignore file in bytes (64 KiB).
pub const MAX_FILE: usize = 64 << 10;
/// Most patterns in all.
pub const MAX_PATTERNS: usize = 4096;

/// The `.kinignore` that a new folder gets: litter only. Version control, dependencies and build output
/// are somebody's work until that person says otherwise.
pub const DEFAULT_KINIGNORE: &str = "\
# What stays on this device. One pattern a line, as in .gitignore:
#
#   *.log         every name that ends in .log, in any directory
#   /notes.txt    only the one beside this file
#   build/        directories called build, and all that is in them
#   docs/*.pdf    in the directory docs beside this file, not below it
#   docs/**/*.pdf in docs and below
#   !keep.log     not ignored after all; the last pattern that fits decides
#
# A pattern never deletes anything: what is ignored here stays here, and what others have stays there.
# This file does not travel.

# Litter of file managers
.DS_Store
.AppleDouble
._*
.Spotlight-V100
.Trashes
.fseventsd
Thumbs.db
ehthumbs.db
desktop.ini
$RECYCLE.BIN/
.Trash-*
.directory

# Litter of network and user-space file systems
.nfs*
.fuse_hidden*

# Litter of editors and office programs
*~
.*.sw[a-p]
.swp
4913
.#*
\\#*#
.~lock.*#
~$*
";

/// Where a pattern was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// `.kinignore`.
    Kinignore,
    /// `.dsyncignore`.
    Dsyncignore,
    /// `--exclude`, or `exclude` in the configuration file.
    Exclude,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kinignore => KINIGNORE,
            Self::Dsyncignore => DSYNCIGNORE,
            Self::Exclude => "--exclude",
        })
    }
}

/// A pattern that cannot be understood. It is left out, the others are in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{from}, line {line}: {pattern:?} is no pattern: {problem}")]
pub struct BadPattern {
    /// Where it was written.
    pub from: Source,
    /// The line, or the number of the `--exclude`, from 1.
    pub line: usize,
    /// The pattern, cut to 200 characters.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Why no patterns can be in force. To go on without them would send what somebody wanted to keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreError {
    /// A file is over [`MAX_FILE`].
    #[error("{0} is longer than 64 KiB")]
    TooLong(Source),
    /// There are over [`MAX_PATTERNS`] patterns.
    #[error("{0} brings the ignore patterns to more than 4096")]
    TooMany(Source),
    /// The patterns are each sound and cannot be used together.
    #[error("the ignore patterns cannot be used: {0}")]
    Unusable(String),
}

/// The patterns in force in a folder.
#[derive(Clone, Debug)]
pub struct Ignore {
    patterns: Gitignore,
}

impl Ignore {
    /// Ignores nothing but what never travels ([`RelPath::is_reserved`]).
    #[must_use]
    pub fn none() -> Self {
        Self { patterns: Gitignore::empty() }
    }

    /// Takes the texts of the files that are there, and the patterns given. Patterns that cannot be
    /// understood are returned beside those in force.
    ///
    /// # Errors
    /// If there is too much of them.
    pub fn new(
        kinignore: Option<&str>,
        dsyncignore: Option<&str>,
        excludes: &[String],
    ) -> Result<(Self, Vec<BadPattern>), IgnoreError> {
        let mut builder = GitignoreBuilder::new("");
        let (mut bad, mut count) = (Vec::new(), 0);
        let files = [(Source::Kinignore, kinignore), (Source::Dsyncignore, dsyncignore)];
        for (source, text) in files {
            let text = text.unwrap_or_default();
            if text.len() > MAX_FILE {
                return Err(IgnoreError::TooLong(source));
            }
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            add(&mut builder, source, text.lines(), &mut count, &mut bad)?;
        }
        let lines = excludes.iter().map(String::as_str);
        add(&mut builder, Source::Exclude, lines, &mut count, &mut bad)?;
        let patterns = builder.build().map_err(|error| IgnoreError::Unusable(error.to_string()))?;
        Ok((Self { patterns }, bad))
    }

    /// True if a path, or a directory that holds it, is ignored. What is inside an ignored directory
    /// cannot be called back by a pattern with `!`, as in git.
    #[must_use]
    pub fn is_ignored(&self, path: &RelPath, is_dir: bool) -> bool {
        if path.is_reserved() {
            return true;
        }
        let text = path.as_str();
        text.match_indices('/').any(|(at, _)| self.matches(&text[..at], true))
            || self.matches(text, is_dir)
    }

    /// As [`Ignore::is_ignored`] for somebody who came down to `path` through directories that are not
    /// ignored, and need not ask for those again.
    #[must_use]
    pub fn is_ignored_itself(&self, path: &RelPath, is_dir: bool) -> bool {
        path.is_reserved() || self.matches(path.as_str(), is_dir)
    }

    fn matches(&self, path: &str, is_dir: bool) -> bool {
        // Some patterns match the empty path; the folder itself is not theirs to ignore.
        !path.is_empty() && self.patterns.matched(path, is_dir).is_ignore()
    }
}

fn add<'a>(
    builder: &mut GitignoreBuilder,
    source: Source,
    lines: impl Iterator<Item = &'a str>,
    count: &mut usize,
    bad: &mut Vec<BadPattern>,
) -> Result<(), IgnoreError> {
    for (number, line) in lines.enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        *count += 1;
        if *count > MAX_PATTERNS {
            return Err(IgnoreError::TooMany(source));
        }
        if line.len() > MAX_FILE {
            return Err(IgnoreError::TooLong(source));
        }
        if let Err(error) = builder.add_line(None, line) {
            let problem = match error {
                ignore::Error::Glob { err, .. } => err,
                other => other.to_string(),
            };
            let pattern = line.chars().take(200).collect();
            bad.push(BadPattern { from: source, line: number + 1, pattern, problem });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).expect("valid")
    }

    fn with(kinignore: &str) -> Ignore {
        let (ignore, bad) = Ignore::new(Some(kinignore), None, &[]).expect("in bounds");
        assert_eq!(bad, []);
        ignore
    }

    #[test]
    fn e11_defaults_are_litter_only() {
        let ignore = with(DEFAULT_KINIGNORE);
        for litter in [
            ".DS_Store",
            "a/b/Thumbs.db",
            "desktop.ini",
            "text.txt~",
            "a/.text.swp",
            ".text.swo",
            ".swp",
            "4913",
            "a/.#lock",
            "#autosave#",
            ".~lock.report.odt#",
            "~$report.docx",
            ".Trash-1000/files/x",
            ".nfs0000a1",
            "a/.fuse_hidden00001",
            "._photo.jpg",
        ] {
            assert!(ignore.is_ignored(&path(litter), false), "{litter} is litter");
        }
        for work in [
            ".git/config",
            ".gitignore",
            "node_modules/x/index.js",
            "target/debug/x",
            "build/x",
            "dist/x",
            "a.o",
            ".env",
            ".cache/x",
            "__pycache__/x.pyc",
            ".idea/x",
            ".vscode/settings.json",
            "x.log",
            "x.bak",
            "x.tmp",
            "x.part",
            "~user",
            "#title",
            "a#b",
            "49130",
            "x.swf",
            ".directory.d/x",
        ] {
            assert!(!ignore.is_ignored(&path(work), false), "{work} is somebody's work");
        }
    }

    #[test]
    fn e11_the_defaults_teach_what_is_true() {
        let ignore = with("*.log\n/notes.txt\nbuild/\ndocs/*.pdf\nbooks/**/*.pdf\n!keep.log\n");
        for (text, ignored) in [
            ("x.log", true),
            ("a/x.log", true),
            ("a/keep.log", false),
            ("notes.txt", true),
            ("a/notes.txt", false),
            ("docs/x.pdf", true),
            ("docs/a/x.pdf", false),
            ("books/x.pdf", true),
            ("books/a/b/x.pdf", true),
        ] {
            assert_eq!(ignore.is_ignored(&path(text), false), ignored, "{text}");
        }
    }

    /// Fault 15 of dsync: `build/` never matched.
    #[test]
    fn dsync_15_a_pattern_for_directories_matches_directories() {
        let ignore = with("build/\n");
        assert!(ignore.is_ignored(&path("build"), true));
        assert!(ignore.is_ignored(&path("a/build"), true));
        assert!(ignore.is_ignored(&path("build/a/b.txt"), false));
        assert!(!ignore.is_ignored(&path("build"), false), "a file of that name");
        assert!(ignore.is_ignored_itself(&path("build"), true));
        assert!(!ignore.is_ignored_itself(&path("build/a"), false));
    }

    #[test]
    fn e11_a_dsyncignore_is_honoured() {
        let text = "# dsync\r\nnode_modules/**\r\n*.tmp\r\n\r\n**/cache/\r\n";
        let (ignore, bad) = Ignore::new(None, Some(text), &[]).expect("in bounds");
        assert_eq!(bad, []);
        assert!(ignore.is_ignored(&path("node_modules/x/y.js"), false));
        assert!(ignore.is_ignored(&path("a/x.tmp"), false));
        assert!(ignore.is_ignored(&path("a/cache/x"), false));
        assert!(!ignore.is_ignored(&path("a/x.txt"), false));
    }

    /// Found by fuzzing.
    #[test]
    fn the_folder_itself_is_never_ignored() {
        for pattern in ["/", "*", "**", "/*", "**/", "*/", "/.*.*", "/**", "/**/", "{,x}", "[!a]*"]
        {
            let Ok((ignore, _)) = Ignore::new(Some(pattern), None, &[]) else { continue };
            assert!(!ignore.is_ignored(&RelPath::root(), true), "{pattern}");
            assert!(!ignore.is_ignored_itself(&RelPath::root(), true), "{pattern}");
        }
    }

    #[test]
    fn later_sources_win_and_ignored_directories_stay_closed() {
        let excludes = ["!keep.tmp".to_owned(), "*.mp4".to_owned(), "!out/keep".to_owned()];
        let (ignore, _) = Ignore::new(Some("*.tmp\nout/\n"), None, &excludes).expect("in bounds");
        assert!(!ignore.is_ignored(&path("keep.tmp"), false));
        assert!(ignore.is_ignored(&path("a/film.mp4"), false));
        assert!(ignore.is_ignored(&path("out/keep"), false));
    }

    #[test]
    fn e11_what_never_travels_cannot_be_called_back() {
        let ignore = with("!.kin\n!.kin/index.db\n!.kinignore\n");
        for own in [".kin", ".kin/index.db", ".kinignore", ".dsyncignore"] {
            assert!(ignore.is_ignored(&path(own), false), "{own}");
            assert!(Ignore::none().is_ignored_itself(&path(own), false), "{own}");
        }
        assert!(!Ignore::none().is_ignored(&path("a/.kinignore"), false));
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_stay_in_force() {
        let text = "\u{feff}*.log\n\n# fine\na{b\n*.tmp\n";
        let (ignore, bad) = Ignore::new(Some(text), None, &["x{".to_owned()]).expect("in bounds");
        assert!(ignore.is_ignored(&path("x.log"), false));
        assert!(ignore.is_ignored(&path("x.tmp"), false));
        let found: Vec<_> = bad.iter().map(|bad| (bad.from, bad.line, &*bad.pattern)).collect();
        assert_eq!(found, [(Source::Kinignore, 4, "a{b"), (Source::Exclude, 1, "x{")]);
        let shown = bad[0].to_string();
        assert!(shown.starts_with(".kinignore, line 4: \"a{b\" is no pattern: "), "{shown}");
    }

    #[test]
    fn too_much_is_refused_and_nothing_is_half_in_force() {
        let long = "x".repeat(MAX_FILE + 1);
        let error = Ignore::new(None, Some(&long), &[]).expect_err("too long");
        assert_eq!(error, IgnoreError::TooLong(Source::Dsyncignore));
        let many = "x\n".repeat(MAX_PATTERNS);
        assert!(Ignore::new(Some(&many), None, &[]).is_ok());
        let error = Ignore::new(Some(&many), None, &["y".to_owned()]).expect_err("too many");
        assert_eq!(error, IgnoreError::TooMany(Source::Exclude));
    }

    #[test]
    fn odd_patterns_and_names_are_taken_for_what_they_are() {
        let ignore = with("\\#x\n\\!y\ntrailing \nspace\\ \n日本*\n[ab].txt\n[open\n");
        for (text, ignored) in [
            ("#x", true),
            ("!y", true),
            ("trailing", true),
            ("space ", true),
            ("space", false),
            ("日本語", true),
            ("a.txt", true),
            ("c.txt", false),
            ("[open", true),
            ("A.txt", false),
        ] {
            assert_eq!(ignore.is_ignored(&path(text), false), ignored, "{text:?}");
        }
    }
}
