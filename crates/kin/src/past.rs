//! What `kin history` and `kin restore` share: opening a folder beside whoever syncs it, and paths in it.

use std::{
    io,
    path::{Path, PathBuf},
};

use node::api::{FolderLine, Request};
use tree::{OpenError, Root};
use wire::RelPath;

use crate::{
    device::{self, Device},
    error::CommandError,
};

/// The directory of a folder that a person named: a directory, or the name of a folder of this device's
/// groups. What is a directory is never taken for a name.
///
/// # Errors
/// If it is neither.
pub(crate) async fn locate(named: &Path) -> Result<PathBuf, CommandError> {
    let is_name = named.components().count() == 1 && !named.to_string_lossy().contains('/');
    match crate::start::check_dir(named) {
        Ok(()) => Ok(named.to_owned()),
        // To look for a name must not make a device.
        Err(error) if error.kind != "dir_missing" || !is_name || !device::exists() => Err(error),
        Err(error) => {
            let folder = named.to_string_lossy().into_owned();
            // Without a device, or if it knows of none, what was typed is a directory that is missing.
            let Ok(device) = Device::reach().await else { return Err(error) };
            match device.ask::<FolderLine>(Request::Locate { folder }).await {
                Ok(FolderLine { dir: Some(dir), .. }) => Ok(dir),
                Ok(FolderLine { name, .. }) => {
                    let message = format!("{name} was not joined on this device");
                    Err(CommandError::usage("not_joined", &message)
                        .hint("kin join keeps it in step here"))
                }
                Err(other) if other.kind == "no_folder" => {
                    let message = format!(
                        "{} does not exist, and no folder of this device is called so",
                        named.display()
                    );
                    Err(CommandError::usage("dir_missing", &message).hint("kin folders lists them"))
                }
                Err(other) => Err(other),
            }
        }
    }
}

/// Opens a folder that has been synced. Nothing is created and no lock is needed.
///
/// # Errors
/// If it is no directory, or was never synced.
pub(crate) fn open(dir: &Path) -> Result<Root, CommandError> {
    crate::start::check_dir(dir)?;
    Root::open_beside(dir).map_err(|error| {
        let message = error.to_string();
        let shown = dir.display();
        match error {
            OpenError::NoState(_) => CommandError::usage(
                "no_state",
                &format!("{shown} has no .kin: it was never synced"),
            )
            .hint("give the folder itself, as it was given to kin sync"),
            OpenError::Inside { outer } => {
                CommandError::usage("no_state", &format!("{shown}: {message}"))
                    .hint(&format!("give {} and the path in it", outer.display()))
            }
            OpenError::Denied(_) => CommandError::usage("permission", &message)
                .hint("only the owner of a folder can see its history"),
            _ => CommandError::failed("io", &message),
        }
    })
}

/// A path as a person writes it, relative to the folder; `.` is the folder itself.
///
/// # Errors
/// If it is absolute, leads out of the folder, or is kin's own.
pub(crate) fn path(what: &str, text: &str) -> Result<RelPath, CommandError> {
    let bad = |why: &str| {
        Err(CommandError::usage("path", &format!("{what}: \"{text}\" {why}"))
            .hint("write it relative to the folder, as kin history lists it"))
    };
    if text.starts_with('/') {
        return bad("is an absolute path");
    }
    let mut inner = text;
    while let Some(rest) = inner.strip_prefix("./") {
        inner = rest.trim_start_matches('/');
    }
    let inner = inner.trim_end_matches('/');
    if inner == "." || (inner.is_empty() && !text.is_empty()) {
        return Ok(RelPath::root());
    }
    if inner.split('/').any(|name| name == "..") {
        return bad("leads out of the folder");
    }
    match RelPath::parse(inner) {
        Ok(path) if path.is_reserved() => {
            let message = format!("{what}: \"{text}\" is kin's own, and never travels");
            Err(CommandError::usage("path", &message)
                .hint("each device has its own; name a path that is kept in step"))
        }
        Ok(path) => Ok(path),
        Err(error) => bad(&error.to_string()),
    }
}

/// What standard output's closing means: that nobody wants more.
///
/// # Errors
/// What else can go wrong with it.
pub(crate) fn written(result: io::Result<()>) -> Result<(), CommandError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| {
            CommandError::failed("output", &format!("cannot write to standard output: {error}"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn paths() {
        for (text, path) in [
            ("a", "a"),
            ("a/b.txt", "a/b.txt"),
            ("a/b/", "a/b"),
            ("./a", "a"),
            ("././/a", "a"),
            (".", ""),
            ("./", ""),
            ("a b\n", "a b\n"),
            ("...", "..."),
        ] {
            assert_eq!(super::path("PATH", text).expect("is right").as_str(), path, "{text}");
        }
        for bad in [
            "",
            "/a",
            "/",
            "..",
            "a/../b",
            "../a",
            "a/..",
            "a//b",
            "a/./b",
            ".kin",
            ".kin/lock",
            ".KIN/x",
            "x\0",
        ] {
            let error = super::path("PATH", bad).expect_err(bad);
            assert_eq!(
                (&*error.kind, error.exit.code(), error.hints.len()),
                ("path", 2, 1),
                "{bad}"
            );
        }
        assert!(super::path("PATH", &"x".repeat(300)).is_err());
    }

    proptest! {
        #[test]
        fn no_path_leads_out(text in "[./a ~\\\\]{0,12}") {
            if let Ok(path) = super::path("PATH", &text) {
                prop_assert!(!path.split('/').any(|name| name == ".." || name == "."));
                prop_assert!(!path.starts_with('/'));
            }
        }
    }
}
