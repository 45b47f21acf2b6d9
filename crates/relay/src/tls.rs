//! TLS between a relay and its clients: version 1.3, nothing resumed, and the client stays unknown.
//!
//! A relay is known by a raw public key (RFC 7250) that stands in its address, or by a certificate. What
//! devices say to each other through it has its own TLS or its own seal: this layer hides from others on the
//! way who asks for what, and lets a client know that it talks to the relay that it chose.

use std::sync::Arc;

use identity::{DeviceKey, KeyError, Secret};
use rustls::{
    CertificateError, ClientConfig, ConnectionCommon, DigitallySignedStruct, Error,
    PeerIncompatible, RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms,
        aws_lc_rs::{self, cipher_suite, kx_group},
        verify_tls13_signature_with_raw_key,
    },
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
        pem::PemObject as _,
    },
    server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, ParsedCertificate},
    sign::{CertifiedKey, Signer, SigningKey},
};
use wire::relay::CHANNEL_LEN;

use crate::{RelayAddress, RelayKey};

/// How requests are made: many on one connection.
pub(crate) const HTTP2: &[u8] = b"h2";
/// How streams are begun, which need a connection each.
pub(crate) const HTTP1: &[u8] = b"http/1.1";
/// Label of the key material that owners sign (RFC 8446, section 7.5).
const EXPORTER: &[u8] = b"EXPORTER-kinfold-relay";

/// A SubjectPublicKeyInfo of Ed25519 up to the key's 32 bytes (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why TLS cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
    /// The certificate's file has none, or its key does not belong to it.
    #[error("the certificate or its key cannot be used: {0}")]
    Certificate(String),
    /// This system trusts nobody.
    #[error("no certificate authority is installed on this system")]
    NoRoots,
}

fn setup(error: &Error) -> TlsError {
    TlsError::Setup(error.to_string())
}

/// How a relay proves who it is.
#[derive(Clone)]
pub enum Identity {
    /// By a key of its own, which stands in its address.
    Key(Arc<DeviceKey>),
    /// By a certificate chain and its key, both in PEM.
    Certificate {
        /// The chain, the relay's own certificate first.
        chain: Vec<u8>,
        /// The key.
        key: Secret<Vec<u8>>,
    },
}

impl Identity {
    /// The key that belongs to 32 random bytes.
    ///
    /// # Errors
    /// If the cryptographic library refuses, which it has no reason to.
    pub fn from_seed(seed: &Secret<[u8; 32]>) -> Result<Self, KeyError> {
        Ok(Self::Key(Arc::new(DeviceKey::from_seed(seed)?)))
    }

    /// What stands in the address; `None` with a certificate.
    #[must_use]
    pub fn key(&self) -> Option<RelayKey> {
        match self {
            Self::Key(key) => Some(RelayKey(key.id().0)),
            Self::Certificate { .. } => None,
        }
    }
}

/// The configuration of a relay.
pub(crate) fn server(identity: &Identity) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| setup(&error))?
        .with_no_client_auth();
    let mut config = match identity {
        Identity::Key(key) => {
            let certified = CertifiedKey::new(
                vec![CertificateDer::from([&SPKI_HEAD[..], &key.id().0].concat())],
                Arc::new(RelaySigner(Arc::clone(key))),
            );
            let resolver = AlwaysResolvesServerRawPublicKeys::new(Arc::new(certified));
            builder.with_cert_resolver(Arc::new(resolver))
        }
        Identity::Certificate { chain, key } => {
            let unusable = |what: &dyn ToString| TlsError::Certificate(what.to_string());
            let chain = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| unusable(&error))?;
            let key =
                PrivateKeyDer::from_pem_slice(key.expose()).map_err(|error| unusable(&error))?;
            builder.with_single_cert(chain, key).map_err(|error| unusable(&error))?
        }
    };
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Whether the first certificate of a chain in PEM is for that host.
pub(crate) fn is_for(chain: &[u8], host: &str) -> Result<bool, TlsError> {
    let unusable = |what: &dyn ToString| TlsError::Certificate(what.to_string());
    let first = CertificateDer::from_pem_slice(chain).map_err(|error| unusable(&error))?;
    let parsed = ParsedCertificate::try_from(&first).map_err(|error| unusable(&error))?;
    let Ok(name) = ServerName::try_from(host) else { return Ok(false) };
    Ok(verify_server_name(&parsed, &name).is_ok())
}

/// What TLS says of the other end, in our words.
pub(crate) fn in_words(error: &Error) -> String {
    use CertificateError as Of;
    let said = match error {
        Error::InvalidCertificate(of) => match of {
            Of::ApplicationVerificationFailure | Of::BadSignature => "it has another key",
            Of::NotValidForName | Of::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            Of::UnknownIssuer => "nobody whom this system trusts has signed its certificate",
            Of::Expired | Of::ExpiredContext { .. } => "the time of its certificate is over",
            Of::NotValidYet | Of::NotValidYetContext { .. } => {
                "the time of its certificate has not begun: check this device's clock"
            }
            _ => "its certificate cannot be used",
        },
        Error::PeerIncompatible(_) | Error::AlertReceived(_) => "it wants another kind of TLS",
        _ => "it does not speak TLS as a relay does",
    };
    said.to_owned()
}

/// The configuration of a client of that relay, for one protocol. An authority (PEM) takes the place of those that
/// this system trusts, for a relay with a certificate.
pub(crate) fn client(
    address: &RelayAddress,
    authority: Option<&[u8]>,
    protocol: &[u8],
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| setup(&error))?;
    let mut config = match address.key() {
        Some(key) => {
            let verifier = Arc::new(Pinned { key, algorithms });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        None => {
            let mut roots = RootCertStore::empty();
            let certificates = match authority {
                Some(pem) => CertificateDer::pem_slice_iter(pem)
                    .collect::<Result<_, _>>()
                    .map_err(|error| TlsError::Certificate(error.to_string()))?,
                None => rustls_native_certs::load_native_certs().certs,
            };
            roots.add_parsable_certificates(certificates);
            if roots.is_empty() {
                return Err(TlsError::NoRoots);
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    // A relay with a key of its own needs no name, and nobody on the way needs to read one.
    config.enable_sni = address.key().is_none();
    config.enable_early_data = false;
    Ok(config)
}

/// What both ends of a connection draw from it and nobody else can: what owners sign.
pub(crate) fn channel<Data>(
    connection: &ConnectionCommon<Data>,
) -> Result<[u8; CHANNEL_LEN], Error> {
    connection.export_keying_material([0; CHANNEL_LEN], EXPORTER, None)
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

/// Lets TLS sign with the relay's key.
#[derive(Debug, Clone)]
struct RelaySigner(Arc<DeviceKey>);

impl SigningKey for RelaySigner {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as _)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from([&SPKI_HEAD[..], &self.0.id().0].concat()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for RelaySigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(message).to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Accepts the relay whose key stands in the address.
#[derive(Debug)]
struct Pinned {
    key: RelayKey,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = end_entity.as_ref().strip_prefix(&SPKI_HEAD);
        match key == Some(&self.key.0[..]) && intermediates.is_empty() {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // The key was compared above; rustls asks for that first, and it does no harm to be sure.
        if cert.as_ref().strip_prefix(&SPKI_HEAD) != Some(&self.key.0[..])
            || dss.scheme != SignatureScheme::ED25519
        {
            return Err(CertificateError::BadSignature.into());
        }
        let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
