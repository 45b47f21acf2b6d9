//! The command as a process: what it prints and how it exits. Two hosts and more are in `tests/net`.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests look at the disk from outside"
)]

mod background;
mod bad_input;
mod code_race;
mod device;
mod devices;
mod folders;
mod help;
mod history;
mod identity;
mod join_code;
mod pair;
mod pair_talks;
mod relay;
mod runs;
mod ssh;
mod terminal;
mod torture;

use std::path::Path;

use snapbox::cmd::Command;
use tempfile::TempDir;

/// A home of its own: no config but the one a test writes, a folder to sync, a place for temporary files.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("there is room"));
        std::fs::create_dir(home.folder()).expect("there is room");
        std::fs::create_dir(home.path().join("tmp")).expect("there is room");
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn folder(&self) -> std::path::PathBuf {
        self.path().join("folder")
    }

    fn config(self, text: &str) -> Self {
        std::fs::write(self.path().join("kin.toml"), text).expect("there is room");
        self
    }

    /// `kin` in this home; relative paths start there.
    fn kin(&self) -> Command {
        Command::new(env!("CARGO_BIN_EXE_kin"))
            .with_assert(self.assert())
            .current_dir(self.path())
            .env_clear()
            .env("KIN_HOME", self.path())
            .env("KIN_SSH_HOME", self.path())
            .env("TMPDIR", self.path().join("tmp"))
    }

    /// Compares output in which this home's path shows as `[HOME]`.
    fn assert(&self) -> snapbox::Assert {
        let mut redactions = snapbox::Redactions::new();
        redactions.insert("[HOME]", self.path().to_owned()).expect("is a valid placeholder");
        redactions.insert("[VERSION]", env!("CARGO_PKG_VERSION")).expect("is a valid placeholder");
        snapbox::Assert::new().redact_with(redactions).action_env("SNAPSHOTS")
    }

    /// Everything in it, to see that nothing was created.
    fn inventory(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut dirs = vec![self.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            // What cannot be read cannot be filled either.
            for entry in std::fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.expect("is readable").path();
                found.push(path.to_string_lossy().into_owned());
                if path.is_dir() && !path.is_symlink() {
                    dirs.push(path);
                }
            }
        }
        found.sort();
        found
    }
}
