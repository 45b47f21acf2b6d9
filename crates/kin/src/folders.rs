//! What the commands about folders share: how a folder is named and shown.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use node::api::{FolderLine, FolderMode, FolderState};

use crate::{error::CommandError, escape::escape, output::table::table};

/// What a folder does on this device.
#[derive(Args, Debug)]
pub(crate) struct Mode {
    /// Changes made here stay here
    #[arg(long)]
    receive_only: bool,

    /// Changes made elsewhere are not applied here
    #[arg(long, conflicts_with = "receive_only")]
    send_only: bool,
}

impl Mode {
    pub(crate) fn mode(&self) -> FolderMode {
        match (self.receive_only, self.send_only) {
            (true, _) => FolderMode::Receive,
            (_, true) => FolderMode::Send,
            _ => FolderMode::Both,
        }
    }
}

/// A path as the device takes it, which may run in another directory.
///
/// # Errors
/// If it is empty, or the present directory is gone.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    std::path::absolute(path).map_err(|error| {
        CommandError::usage("path", &format!("{}: {error}", path.display()))
            .hint("give the directory's whole path")
    })
}

/// How a person means a folder: by name, id or directory. A directory is made absolute.
///
/// # Errors
/// As [`absolute`].
pub(crate) fn meant(text: &str) -> Result<String, CommandError> {
    if text.contains('/') || text == "." || text == ".." {
        let path = absolute(Path::new(text))?;
        return Ok(path.to_string_lossy().into_owned());
    }
    Ok(text.to_owned())
}

/// Where a folder is here, for a person.
pub(crate) fn place(folder: &FolderLine) -> String {
    folder.dir.as_ref().map_or_else(|| "-".to_owned(), |dir| escape(&dir.to_string_lossy()))
}

/// Folders for a person.
pub(crate) fn rows(folders: &[FolderLine]) -> Vec<String> {
    let row = |folder: &FolderLine| {
        vec![escape(&folder.name), doing(folder), amount(folder), place(folder)]
    };
    table(&folders.iter().map(row).collect::<Vec<_>>())
}

/// How it is doing.
fn doing(folder: &FolderLine) -> String {
    let state = match folder.state {
        FolderState::Idle => "in step",
        FolderState::Scanning => "scanning",
        FolderState::Syncing => "syncing",
        FolderState::Paused => "paused",
        FolderState::Stopped => "STOPPED",
        FolderState::NotJoined => "not joined",
    };
    let mode = match folder.mode {
        FolderMode::Both => "",
        FolderMode::Receive => ", receives only",
        FolderMode::Send => ", sends only",
    };
    let mode = if folder.state == FolderState::NotJoined { "" } else { mode };
    format!("{state}{mode}")
}

/// What is here and what is to come.
fn amount(folder: &FolderLine) -> String {
    // What does not run, or begins anew, has not been counted.
    let counted =
        folder.files > 0 || matches!(folder.state, FolderState::Idle | FolderState::Syncing);
    if folder.state == FolderState::NotJoined || !counted {
        return String::new();
    }
    let files = if folder.files == 1 { "file" } else { "files" };
    let mut text = format!("{} {files}, {}", HumanCount(folder.files), HumanBytes(folder.bytes));
    if folder.need_files > 0 {
        text += &format!(
            ", {} to come ({})",
            HumanCount(folder.need_files),
            HumanBytes(folder.need_bytes)
        );
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn folder(name: &str, state: FolderState) -> FolderLine {
        FolderLine {
            folder: "f1".into(),
            name: name.into(),
            dir: (state != FolderState::NotJoined).then(|| "/home/ann/docs\x1b".into()),
            group: "home".into(),
            state,
            reason: None,
            files: 1200,
            bytes: 3 << 30,
            need_files: 0,
            need_bytes: 0,
            conflicts: 0,
            role: "admin".into(),
            mode: FolderMode::Both,
        }
    }

    #[test]
    fn folders_are_shown_aligned_and_escaped() {
        let folders = [
            folder("Documents", FolderState::Idle),
            FolderLine {
                need_files: 2,
                need_bytes: 1 << 20,
                mode: FolderMode::Receive,
                ..folder("m\n", FolderState::Syncing)
            },
            folder("Photos", FolderState::NotJoined),
        ];
        assert_eq!(
            rows(&folders),
            [
                "Documents  in step                 1,200 files, 3.00 GiB                        /home/ann/docs\\u{1b}",
                "m\\n        syncing, receives only  1,200 files, 3.00 GiB, 2 to come (1.00 MiB)  /home/ann/docs\\u{1b}",
                "Photos     not joined                                                           -",
            ]
        );
    }

    #[test]
    fn a_directory_is_told_from_a_name() {
        assert_eq!(meant("Documents").unwrap(), "Documents");
        let here = std::env::current_dir().unwrap();
        for (text, path) in [(".", here.clone()), ("./a", here.join("a")), ("/a/b", "/a/b".into())]
        {
            assert_eq!(meant(text).unwrap(), path.to_string_lossy());
        }
        assert!(meant("a/").unwrap().starts_with('/'));
    }
}
