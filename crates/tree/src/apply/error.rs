//! Why an operation on the tree was not done.

use std::io;

use rustix::io::Errno;
use wire::RelPath;

use crate::{Place, Twin};

/// Why an operation on the tree was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// Somebody edited, replaced or removed it: what is there now is an edit, to be scanned.
    #[error("{path:?} was changed meanwhile")]
    Changed {
        /// Which path.
        path: RelPath,
        /// Where contents lie that could not be put back because their name was taken: a conflict copy,
        /// or history if the index knows them (rule E14).
        kept_at: Option<Place>,
    },
    /// Something is there already.
    #[error("something else is at {path:?}")]
    Occupied {
        /// Which path.
        path: RelPath,
    },
    /// The disk takes its name for that of something that is there.
    #[error("this disk takes the name of {path:?} for that of {twin:?}")]
    Twin {
        /// Which path.
        path: RelPath,
        /// The name, in the same directory, of what is there.
        twin: String,
    },
    /// A parent, or what was to be moved in, is missing or no directory.
    #[error("{path:?} has lost its directory")]
    Vanished {
        /// Which path.
        path: RelPath,
    },
    /// The disk or the quota is full.
    #[error("no space left for {path:?}")]
    NoSpace {
        /// Which path.
        path: RelPath,
    },
    /// The file system is mounted read-only.
    #[error("the file system of {path:?} is read-only")]
    ReadOnly {
        /// Which path.
        path: RelPath,
    },
    /// This process or the system has too many files open (EMFILE, ENFILE): try again later.
    #[error("too many open files at {path:?}")]
    TooManyOpen {
        /// Which path.
        path: RelPath,
    },
    /// Anything else.
    #[error("cannot {operation} {path:?}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Which path.
        path: RelPath,
        /// What the system said.
        source: io::Error,
    },
}

impl ApplyError {
    pub(super) fn changed(path: &RelPath) -> Self {
        Self::Changed { path: path.clone(), kept_at: None }
    }

    /// Sorts what a disk said of `path`.
    #[must_use]
    pub fn io(operation: &'static str, path: &RelPath, source: io::Error) -> Self {
        let path = path.clone();
        if let Some(twin) = source.get_ref().and_then(|inner| inner.downcast_ref::<Twin>()) {
            return Self::Twin { path, twin: twin.name.clone() };
        }
        match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Occupied { path },
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Vanished { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ => match Errno::from_io_error(&source) {
                Some(Errno::MFILE | Errno::NFILE) => Self::TooManyOpen { path },
                _ => Self::Io { operation, path, source },
            },
        }
    }

    /// The path it is about.
    #[must_use]
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Changed { path, .. }
            | Self::Occupied { path }
            | Self::Twin { path, .. }
            | Self::Vanished { path }
            | Self::NoSpace { path }
            | Self::ReadOnly { path }
            | Self::TooManyOpen { path }
            | Self::Io { path, .. } => path,
        }
    }
}
