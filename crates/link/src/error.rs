//! What can go wrong on a link or in discovery, in words a person can act on.

use std::{io, net::SocketAddr};

/// Why there is no link, or no more of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nothing came of it in the time allowed.
    #[error("no answer within {seconds} s")]
    Timeout {
        /// The time allowed, in seconds, rounded up.
        seconds: u64,
    },
    /// The connection could not be made: nobody listens there, no route, and the like.
    #[error("cannot connect: {0}")]
    Refused(#[source] io::Error),
    /// The other end does not speak this protocol: no TLS 1.3, no raw public keys, another ALPN.
    #[error("what answers there is not Kinfold, or of another version: {0}")]
    NotKinfold(String),
    /// The other end did not prove an Ed25519 key.
    #[error("the other end did not prove its device key: {0}")]
    BadKey(String),
    /// The other end proved our own device key: we dialled ourselves.
    #[error("that address leads back to this device")]
    Own,
    /// A frame is longer than the limit that is in force.
    #[error("a frame of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// Announced length, bytes.
        len: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// A frame's header makes no sense.
    #[error("malformed frame: {0}")]
    Malformed(#[source] wire::WireError),
    /// The link was cut: it ended without the goodbye of TLS, so something may be missing.
    #[error("the link was cut")]
    Cut,
    /// This side has closed the link, or an earlier write was broken off.
    #[error("the link is closed")]
    Closed,
    /// The other end broke TLS, or somebody in between changed bytes.
    #[error("the encrypted link is broken: {0}")]
    Tls(String),
    /// The port to listen on is taken.
    #[error("port {0} is in use")]
    PortInUse(u16),
    /// The system does not let this user listen on the port.
    #[error("no permission to listen on port {0}")]
    PermissionDenied(u16),
    /// Discovery could not start, or an advert cannot be made of what was given.
    #[error("discovery on the local network does not work: {0}")]
    Discovery(String),
    /// The key or the cryptographic library cannot be used for TLS.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
    /// The system reported something else.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl LinkError {
    /// From an error during the handshake.
    pub(crate) fn handshake(error: io::Error) -> Self {
        match tls_error(&error) {
            Some(tls) => match tls {
                rustls::Error::InvalidCertificate(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::PeerMisbehaved(
                    rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme
                    | rustls::PeerMisbehaved::SignedKxWithWrongAlgorithm,
                ) => Self::BadKey(tls.to_string()),
                other => Self::NotKinfold(other.to_string()),
            },
            None => Self::io(error),
        }
    }

    /// From an error on a link that stood.
    pub(crate) fn io(error: io::Error) -> Self {
        if let Some(tls) = tls_error(&error) {
            return Self::Tls(tls.to_string());
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut => Self::Cut,
            _ => Self::Io(error),
        }
    }

    /// From an error while binding a port.
    pub(crate) fn binding(error: io::Error, port: u16) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse(port),
            io::ErrorKind::PermissionDenied => Self::PermissionDenied(port),
            _ => Self::Io(error),
        }
    }

    /// From a frame's header.
    pub(crate) fn frame(error: wire::WireError) -> Self {
        match error {
            wire::WireError::TooLarge { len, limit } => Self::TooLarge { len, limit },
            other => Self::Malformed(other),
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

/// True if both are the same place.
pub(crate) fn same_place(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip().to_canonical() == other.ip().to_canonical() && one.port() == other.port()
}
