//! TLS to the database, as `sslmode` in its address says; the same words as libpq's.
//!
//! TLS 1.3. Only `verify-full` knows who the other end is: `require` keeps
//! listeners out and nobody in the middle, `prefer` (where nothing is said) not even listeners, if somebody in the
//! middle says that the database has no TLS.

use std::{future::Future, io, path::PathBuf, pin::Pin, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Config, Socket,
    config::{Host, SslMode},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::TlsConnector;

use super::{StoreError, failed};

/// Largest file of certificates in bytes.
const MAX_ROOTS: usize = 1 << 20;

/// How the database's address wants TLS to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mode {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyFull,
}

/// A database's address, taken apart: what the driver understands, and what is ours.
pub(super) struct Place {
    pub(super) config: Config,
    mode: Mode,
    roots: Option<PathBuf>,
}

fn refused(why: &str) -> StoreError {
    StoreError::Failed(why.to_owned())
}

impl Place {
    /// Reads `postgres://…?sslmode=…&sslrootcert=…`.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        let (head, query) = url.split_once('?').unwrap_or((url, ""));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", word)) => {
                    mode = Some(match word {
                        "disable" => Mode::Disable,
                        "prefer" => Mode::Prefer,
                        "require" => Mode::Require,
                        "verify-full" => Mode::VerifyFull,
                        _ => {
                            return Err(refused(
                                "sslmode is one of disable, prefer, require and verify-full",
                            ));
                        }
                    });
                }
                Some(("sslrootcert", path)) => {
                    let path = decoded(path).filter(|path| !path.is_empty());
                    let path = path.ok_or_else(|| refused("sslrootcert is no path of a file"))?;
                    roots = (path != "system").then(|| PathBuf::from(path));
                }
                _ => rest.push(pair),
            }
        }
        let mode = mode.unwrap_or_default();
        if roots.is_some() && mode != Mode::VerifyFull {
            return Err(refused("sslrootcert needs sslmode=verify-full: nothing else is verified"));
        }
        let url = match rest.is_empty() {
            true => head.to_owned(),
            false => format!("{head}?{}", rest.join("&")),
        };
        // What is wrong with it is said without it: it may hold a password.
        let mut config: Config = url.parse().map_err(|error| failed(&error))?;
        let sockets = !config.get_hosts().is_empty() && config.get_hosts().iter().all(is_socket);
        config.ssl_mode(match mode {
            // A Unix socket leads nowhere else.
            _ if sockets => SslMode::Disable,
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyFull => SslMode::Require,
        });
        Ok(Self { config, mode, roots })
    }

    /// What its operator should know of how the database is reached; `None` if there is nothing to fear.
    pub(super) fn caution(&self) -> Option<&'static str> {
        let here = |host: &Host| {
            is_socket(host)
                || matches!(host, Host::Tcp(host) if host == "localhost"
                    || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()))
        };
        if self.config.get_hosts().iter().all(here) {
            return None;
        }
        match self.mode {
            Mode::VerifyFull => None,
            Mode::Require => Some(
                "The connection to the database is encrypted, but who answers there is not verified: say sslmode=verify-full.",
            ),
            Mode::Prefer => Some(
                "The connection to the database is encrypted only if the other end offers it, and not verified: say sslmode=verify-full.",
            ),
            Mode::Disable => Some(
                "The connection to the database is not encrypted: use sslmode=verify-full, or a network of your own.",
            ),
        }
    }

    /// What makes TLS connections to it.
    pub(super) fn connector(&self) -> Result<Connector, StoreError> {
        // PostgreSQL offers P-256 alone, unless it is told otherwise (`ssl_ecdh_curve`): all groups are taken.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| failed(&error))?;
        let mut config = match self.mode {
            Mode::VerifyFull => {
                builder.with_root_certificates(self.trusted()?).with_no_client_auth()
            }
            Mode::Disable | Mode::Prefer | Mode::Require => {
                let anybody = Arc::new(Anybody(schemes));
                builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Connector(TlsConnector::from(Arc::new(config))))
    }

    fn trusted(&self) -> Result<RootCertStore, StoreError> {
        let certificates = match &self.roots {
            None => rustls_native_certs::load_native_certs().certs,
            Some(path) => {
                let pem = tree::read_config(path, MAX_ROOTS).map_err(|error| failed(&error))?;
                CertificateDer::pem_slice_iter(pem.as_bytes())
                    .collect::<Result<_, _>>()
                    .map_err(|error| refused(&format!("{}: {error}", path.display())))?
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates);
        match (roots.is_empty(), &self.roots) {
            (false, _) => Ok(roots),
            (true, Some(path)) => {
                Err(refused(&format!("{}: there is no certificate in it", path.display())))
            }
            (true, None) => Err(refused(
                "this system trusts no certificate authority: name the database's with sslrootcert=FILE",
            )),
        }
    }
}

fn is_socket(host: &Host) -> bool {
    !matches!(host, Host::Tcp(_))
}

/// What `%XX` stands for; `None` where it stands for nothing.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = digit(rest.next())? * 16 + digit(rest.next())?;
                u8::try_from(value).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Accepts whoever answers: what `require` and `prefer` mean.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// Makes TLS of a connection to the database.
#[derive(Clone)]
pub(super) struct Connector(TlsConnector);

/// To one of its hosts.
pub(super) struct ToHost {
    connector: TlsConnector,
    host: String,
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = ToHost;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<ToHost> {
        Ok(ToHost { connector: self.0.clone(), host: host.to_owned() })
    }
}

impl TlsConnect<Socket> for ToHost {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
            self.connector.connect(name, socket).await.map(|stream| Stream(Box::new(stream)))
        })
    }
}

/// The encrypted connection.
pub(super) struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caution(url: &str) -> Option<&'static str> {
        Place::parse(url).unwrap_or_else(|error| panic!("{url}: {error}")).caution()
    }

    #[test]
    fn what_is_not_verified_is_said() {
        for url in [
            "postgres://kin@%2Frun%2Fpg/relay?sslmode=disable",
            "postgres://kin@localhost/relay",
            "postgres://kin@127.0.0.1/relay?sslmode=prefer",
            "postgres://kin@db.example.org/relay?sslmode=verify-full",
            "postgres://kin@db.example.org/relay?sslmode=verify-full&sslrootcert=system",
        ] {
            assert_eq!(caution(url), None, "{url}");
        }
        let said = |mode: &str| {
            caution(&format!("postgres://kin@db.example.org/relay?connect_timeout=5{mode}"))
                .expect("there is something to fear")
        };
        assert!(said("").contains("only if the other end offers it"));
        assert!(said("&sslmode=prefer").contains("only if the other end offers it"));
        assert!(said("&sslmode=require").contains("not verified"));
        assert!(said("&sslmode=disable").contains("not encrypted"));
    }

    #[test]
    fn modes_that_are_none_are_refused_and_no_weaker_one_is_taken() {
        for query in ["sslmode=verify-ca", "sslmode=", "sslmode=Require", "sslmode=allow"] {
            let url = format!("postgres://kin:hunter2@db.example.org/relay?{query}");
            let error = Place::parse(&url).err().expect("refused").to_string();
            assert!(error.contains("verify-full") && !error.contains("hunter2"), "{error}");
        }
        for query in
            ["sslmode=require&sslrootcert=/x", "sslrootcert=/x", "sslmode=verify-full&sslrootcert="]
        {
            let url = format!("postgres://kin@db.example.org/relay?{query}");
            assert!(Place::parse(&url).is_err(), "{query}");
        }
        let url = "postgres://kin@db.example.org/relay?sslmode=verify-full&sslrootcert=%2Fno%2Fca";
        let place = Place::parse(url).unwrap();
        assert_eq!(place.roots, Some("/no/ca".into()));
        assert!(place.connector().is_err(), "a file that is not there");
        assert_eq!(decoded("a%2"), None);
        assert_eq!(decoded("a%zz"), None);
    }
}
