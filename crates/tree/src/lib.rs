//! The only crate that touches user files.
//!
//! [`Disk`] is the door: one folder on one disk, each method about one system call. [`Root`] is the
//! real one, beneath a held directory handle; the simulator has a virtual one. [`apply`] adds the calls
//! up to operations that lose no edit (rule E13), written once over the trait. [`Watcher`] gives hints
//! that something changed.
//!
//! What to do to a folder is decided elsewhere (crate `folder`); when things are made durable, too.

pub mod apply;
#[doc(hidden)]
pub mod contract;
mod copy;
mod disk;
mod exact;
mod files;
mod lines;
mod log_file;
mod open;
mod root;
mod state;
mod state_lock;
mod sys;
mod user_dir;
mod watch;

pub use copy::{Copied, TempDir, copy_tree};
pub use disk::{DirEntry, Disk, FileKind, Listing, Place, ReadFile, Stat, WriteFile};
pub use exact::{Exact, Twin};
pub use files::{
    FileError, check_new_file, create_secret_file, install_file, read_bytes, read_config,
    read_inherited, read_secret_file, read_stream, remove_installed,
};
#[doc(hidden)]
pub use lines::Step;
pub use lines::{Edited, MAX_LINE_FILE};
pub use log_file::{LogFile, LogReader};
pub use open::{OpenError, RootGone, boot_id, file_identity, machine_id, real_path, refuse_keys};
pub use root::Root;
pub use state::{StateDir, StateError, make_folder_dir};
pub use state_lock::{Socket, StateLock, fits_socket, is_private_dir, own_user};
pub use user_dir::{UserDir, UserFileError};
pub use watch::{Hint, WatchError, Watcher};
