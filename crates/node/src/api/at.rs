//! Where a device's socket is.

use std::path::{Path, PathBuf};

use wire::Hash;

use super::Failure;

/// The socket in the state directory.
const SOCKET: &str = "api.sock";

/// Where the device of a state directory listens: `api.sock` in it. If that path is longer than systems
/// allow for a socket, a name that depends on it in `runtime`, the user's XDG_RUNTIME_DIR. Everybody who
/// asks gets the same answer, by whatever links they came.
///
/// # Errors
/// If the path is too long and `runtime` is not there or not this user's alone.
pub fn socket_path(state: &Path, runtime: Option<&Path>) -> Result<PathBuf, Failure> {
    let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
    let path = state.join(SOCKET);
    if tree::fits_socket(&path) {
        return Ok(path);
    }
    let hash = Hash::derived("kinfold 2026-11 api socket", &[state.as_os_str().as_encoded_bytes()]);
    let name: String = hash.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    runtime
        .filter(|dir| tree::is_private_dir(dir))
        .map(|dir| dir.join(format!("kin-{name}.sock")))
        .filter(|path| tree::fits_socket(path))
        .ok_or_else(|| {
            let message = format!("{}: this path is too long for a socket", path.display());
            Failure::failed("socket", message)
                .hint("set XDG_RUNTIME_DIR, as a login does, or KIN_HOME to a shorter path")
        })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the user")]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_path_that_is_too_long_goes_to_the_runtime_directory() {
        let runtime = tempdir().unwrap();
        fs::set_permissions(runtime.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let path = |state: &str| socket_path(Path::new(state), Some(runtime.path()));
        assert_eq!(path("/state/kin").unwrap(), Path::new("/state/kin/api.sock"));
        let (long, longer) = (format!("/{}", "x".repeat(120)), format!("/{}", "x".repeat(121)));
        let (first, second) = (path(&long).unwrap(), path(&longer).unwrap());
        assert!(first.starts_with(runtime.path()) && first != second, "{}", first.display());
        assert_eq!(first, path(&long).unwrap());
        for runtime in [None, Some(Path::new("/usr")), Some(Path::new("/nowhere"))] {
            let failure = socket_path(Path::new(&long), runtime).unwrap_err();
            assert!(failure.message.contains("too long") && !failure.hint.is_empty());
        }
    }
}
