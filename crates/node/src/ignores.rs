//! A folder's ignore files: made on the first run, read at the start and whenever they are saved.

use std::io;

use folder::ignore::{DEFAULT_KINIGNORE, Ignore};
use tree::Root;
use wire::RelPath;

use crate::Event;

/// Names at the folder's root, ours first.
const FILES: [&str; 2] = [".kinignore", ".dsyncignore"];
/// Longest ignore file in bytes; what is over it is refused by [`Ignore::new`].
const LIMIT: usize = (64 << 10) + 1;

/// True for the files that [`load`] reads.
pub(crate) fn is_ignore_file(path: &RelPath) -> bool {
    FILES.contains(&path.as_str())
}

/// Makes `.kinignore` with the defaults if there is none, so that it is in force from the first run.
pub(crate) fn create(root: &Root) -> io::Result<()> {
    match root.create_root_file(FILES[0], DEFAULT_KINIGNORE.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Reads the patterns in force, and what a person should be told of them. `None` if they cannot be used
/// at all: to go on without them would send what somebody wanted to keep.
pub(crate) fn load(root: &Root, excludes: &[String]) -> (Option<Ignore>, Vec<Event>) {
    let mut texts = Vec::new();
    for name in FILES {
        match read(root, name) {
            Ok(text) => texts.push(text),
            Err(reason) => {
                return (None, vec![problem(format!("{name} cannot be read: {reason}"))]);
            }
        }
    }
    match Ignore::new(texts[0].as_deref(), texts[1].as_deref(), excludes) {
        Ok((ignore, bad)) => {
            let bad = bad.iter().map(|bad| problem(bad.to_string())).collect();
            (Some(ignore), bad)
        }
        Err(error) => (None, vec![problem(error.to_string())]),
    }
}

fn read(root: &Root, name: &str) -> Result<Option<String>, String> {
    let path = RelPath::parse(name).map_err(|error| error.to_string())?;
    let bytes = root.read_small(&path, LIMIT).map_err(|error| error.to_string())?;
    match bytes.map(String::from_utf8).transpose() {
        Ok(text) => Ok(text),
        Err(_) => Err("it is not valid UTF-8".to_owned()),
    }
}

fn problem(message: String) -> Event {
    let hint = "mend the pattern; the others are in force".to_owned();
    Event::Error { kind: "ignore", message, hint }
}
