//! Tells a service manager how the device is doing (sd_notify(3)): a word to the socket that it named.

use std::{env, os::unix::net::UnixDatagram};

/// Says it, if there is somebody to tell.
pub(crate) fn service_manager(word: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    let told = UnixDatagram::unbound().and_then(|socket| send(&socket, &name, word));
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager cannot be told {word}");
    }
}

#[cfg(target_os = "linux")]
fn send(socket: &UnixDatagram, name: &std::ffi::OsStr, word: &str) -> std::io::Result<usize> {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::{ffi::OsStrExt as _, net::SocketAddr},
    };
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => {
            let address = SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(word.as_bytes(), &address)
        }
        None => socket.send_to(word.as_bytes(), name),
    }
}

#[cfg(not(target_os = "linux"))]
fn send(socket: &UnixDatagram, name: &std::ffi::OsStr, word: &str) -> std::io::Result<usize> {
    socket.send_to(word.as_bytes(), name)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_word_reaches_the_socket_that_was_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        send(&socket, path.as_os_str(), "READY=1").unwrap();
        let mut buffer = [0; 16];
        let read = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"READY=1");
        assert!(send(&socket, OsStr::new("/nowhere"), "READY=1").is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_without_a_file_is_reached_too() {
        use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
        let name = format!("kin-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        send(&socket, OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        let mut buffer = [0; 16];
        let read = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"STOPPING=1");
    }
}
